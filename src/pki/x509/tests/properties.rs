//! Whatever comes: valid templates are clean, and nothing that is read makes it panic.

use proptest::{
    collection::{btree_set, vec},
    option,
    prelude::*,
    sample::Index,
};

use super::*;
use crate::{
    names::{DnsName, Realm, Sid, SpiffeId, Upn},
    x509::csr::Csr,
};

#[test]
fn valid_templates_pass_their_lints_and_are_read_back() {
    let hierarchy = Hierarchy::new(KeyAlgorithm::Rsa2048, KeyAlgorithm::EcP256);
    proptest!(|(profile in profiles(), serial: [u8; 16], begin in 0_i64..1_000_000, length in 0_i64..1_000_000)| {
        let not_before = NOW() + SignedDuration::from_millis(begin * 997);
        let template = Template {
            serial: X509Serial::from_random(serial),
            not_before,
            not_after: not_before + SignedDuration::from_secs(length),
            ..hierarchy.template(profile)
        };
        let kind = template.profile.kind();
        let prepared = hierarchy.issuing.prepare(template).unwrap();
        let resumed = hierarchy.issuing.resume(prepared.bytes().to_vec()).unwrap();
        prop_assert_eq!(prepared.summary().kind, kind);
        prop_assert_eq!(resumed.summary(), prepared.summary());
    });
}

/// A changed text is refused, or is another text that keeps every rule of the same profile (a
/// letter of a URL, a serial number).
#[test]
fn mutated_bytes_never_become_another_kind_of_certificate() {
    let hierarchy = Hierarchy::new(KeyAlgorithm::Rsa2048, KeyAlgorithm::EcP256);
    let texts: Vec<_> = leaves()
        .into_iter()
        .map(|profile| hierarchy.issuing.prepare(hierarchy.template(profile)).unwrap())
        .collect();
    proptest!(ProptestConfig::with_cases(2000), |(text in 0..texts.len(), at: Index, byte: u8, how in 0..3)| {
        let mutated = mutate(texts[text].bytes(), at, byte, how);
        prop_assume!(mutated != texts[text].bytes());
        if let Ok(resumed) = hierarchy.issuing.resume(mutated) {
            prop_assert_eq!(resumed.summary().kind, texts[text].summary().kind);
        }
    });
}

#[test]
fn requests_never_panic() {
    let pem = super::requests::request(&super::requests::EC256, &["-sha256"]);
    let der = super::requests::der(&pem);
    proptest!(ProptestConfig::with_cases(2000), |(at: Index, byte: u8, how in 0..4, noise in vec(any::<u8>(), 0..200))| {
        let mutated = if how == 3 { noise } else { mutate(&der, at, byte, how) };
        prop_assume!(mutated != der);
        prop_assert!(Csr::from_der(&mutated).is_err());
    });
    proptest!(|(at: Index, byte in 0_u8..128, how in 0..3, noise in "\\PC{0,80}")| {
        let mutated = String::from_utf8(mutate(pem.as_bytes(), at, byte, how)).unwrap();
        let _ = Csr::from_pem(&mutated);
        prop_assert!(Csr::from_pem(&noise).is_err());
        let framed = format!("-----BEGIN CERTIFICATE REQUEST-----{noise}-----END CERTIFICATE REQUEST-----");
        prop_assert!(Csr::from_pem(&framed).is_err());
        let lines = framed.replace(&noise, &format!("\n{noise}\n"));
        prop_assert!(Csr::from_pem(&lines).is_err());
    });
}

/// Changes a byte, takes one away, or cuts the rest off.
fn mutate(bytes: &[u8], at: Index, byte: u8, how: i32) -> Vec<u8> {
    let mut mutated = bytes.to_vec();
    let at = at.index(mutated.len());
    match how {
        0 => mutated[at] = byte,
        1 => drop(mutated.remove(at)),
        _ => mutated.truncate(at),
    }
    mutated
}

fn profiles() -> impl Strategy<Value = Profile> {
    let dns = || {
        btree_set(
            parsed::<DnsName>("[a-z]([a-z0-9-]{0,8}[a-z0-9])?(\\.[a-z][a-z0-9]{0,9}){1,3}"),
            1..4,
        )
    };
    let id = || {
        parsed::<SpiffeId>("spiffe://[a-z]{1,10}\\.test/(user|bot|host)/[a-zA-Z0-9._-]{0,20}[a-z]")
    };
    let sid =
        parsed::<Sid>("S-1-5-21-[1-9][0-9]{0,8}-[1-9][0-9]{0,8}-[1-9][0-9]{0,8}-[1-9][0-9]{3,8}");
    let template = (0_u32.., 0_u32..).prop_map(|(major, minor)| CertificateTemplate {
        oid: parse("1.3.6.1.4.1.311.21.8.1.2.3"),
        major,
        minor,
    });
    prop_oneof![
        (dns(), option::of(parsed::<Realm>("[A-Z]{1,9}(\\.[A-Z]{2,9}){1,2}")))
            .prop_map(|(dns_names, realm)| Profile::Kdc { dns_names, realm }),
        (
            parsed::<Upn>("[a-zäöü]{1,60}@[a-z]{1,20}(\\.[a-z]{2,20}){0,4}"),
            sid,
            option::of(template)
        )
            .prop_map(|(upn, sid, template)| Profile::SmartcardLogon {
                upn,
                sid,
                template
            }),
        (id(), dns())
            .prop_map(|(spiffe_id, dns_names)| Profile::TlsClient { spiffe_id, dns_names }),
        (dns(), btree_set(any::<std::net::IpAddr>(), 0..4), option::of(id())).prop_map(
            |(dns_names, addresses, spiffe_id)| Profile::TlsServer {
                dns_names,
                addresses,
                spiffe_id
            }
        ),
    ]
}

fn parsed<T: FromStr<Err: Debug> + Debug>(pattern: &'static str) -> impl Strategy<Value = T> {
    pattern.prop_map(|text: String| parse(&text))
}
