//! Each thing that a certificate says is compared: what differs is found.

use std::path::Path;

use pki::token::{Input, KeyStore as _, Token as _, software::SoftwareToken};

use super::*;
use crate::{made::Made, plan::Plan};

/// A to-be-signed text of the root, its certificate, and what they must say.
fn made() -> (Certificate, PublicKey, X509Serial, Vec<u8>, Vec<u8>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("plans/root-and-issuing.toml");
    let plan = Plan::read(&path).unwrap();
    let planned = plan.certificates().next().unwrap().clone();
    let key = plan.keys().find(|key| key.name == planned.key).unwrap();
    let mut token = SoftwareToken::default();
    let key = token.generate(key.algorithm, &key.label, &plan.key_id(&key.name)).unwrap().key;
    let mut made = Made::default();
    made.add_key(planned.key.clone(), key.clone());
    let serial = X509Serial::from_random([7; 16]);
    let prepared = made.prepare(&planned, None, serial).unwrap();
    let text = prepared.bytes().to_vec();
    let signature =
        token.sign(prepared.key().key(), prepared.scheme(), Input::Message(&text)).unwrap();
    let certificate = prepared.seal(signature).unwrap().bytes().to_vec();
    (planned, key.public_key, serial, text, certificate)
}

#[test]
fn what_the_plan_says_is_read_again() {
    let (planned, key, serial, text, certificate) = made();
    let expected = Expected { planned: &planned, key: &key, serial };
    expected.check_text(&text).unwrap();
    expected.check_certificate(&certificate, &text).unwrap();
}

#[test]
fn whatever_differs_is_found() {
    let (planned, key, serial, text, certificate) = made();
    let says = |planned: &Certificate, serial, found: &str| {
        let error = Expected { planned, key: &key, serial }.check_text(&text).unwrap_err();
        assert!(error.to_string().contains(found), "{found}: {error}");
    };
    says(&planned, X509Serial::from_random([8; 16]), "another serial number");
    let mut other = planned.clone();
    other.not_after = "2044-01-01T00:00:00Z".parse().unwrap();
    says(&other, serial, "another validity");
    let mut other = planned.clone();
    other.subject = "CN=Somebody Else".parse().unwrap();
    says(&other, serial, "another subject");
    let mut other = planned.clone();
    other.kind = crate::steps::sign_certificate::AuthorityKind::Root { path_length: Some(4) };
    says(&other, serial, "other basic constraints");

    let (_, another_key, ..) = made();
    let expected = Expected { planned: &planned, key: &another_key, serial };
    assert!(expected.check_text(&text).unwrap_err().to_string().contains("another key"));
    let expected = Expected { planned: &planned, key: &key, serial };
    let error = expected.check_certificate(&certificate, &text[1..]).unwrap_err();
    assert!(error.to_string().contains("another text"), "{error}");
    let longer = [&text[..], &[0]].concat();
    assert!(expected.check_text(&longer).unwrap_err().to_string().contains("belong to nothing"));
}

#[test]
fn the_parser_is_the_one_that_transcripts_name() {
    let lock = include_str!("../../Cargo.lock");
    let (name, version) = LINTERS[1].split_once(' ').unwrap();
    assert!(lock.contains(&format!("name = \"{name}\"\nversion = \"{version}\"")), "{name}");
}
