//! Revocation lists before the real `openssl` and `certtool`, and before their own lint.

use std::{fs, path::Path, process::Command};

use der::{Decode, Encode};
use proptest::{collection::vec, prelude::*};
use tempfile::TempDir;
use x509_cert::{
    certificate::Version,
    crl::{CertificateList, TbsCertList},
    ext::{Extension, pkix::CrlReason},
};

use super::*;
use crate::x509::{
    crl::{Reason, Revoked, Summary, Template as List},
    extension, lint, time,
};

#[test]
fn openssl_and_gnutls_verify_the_list_and_refuse_who_is_on_it() {
    use KeyAlgorithm::{EcP256, EcP384, Ed25519, Rsa2048};

    for (algorithm, scheme) in [
        (Rsa2048, Rsa2048.default_scheme()),
        (Rsa2048, SignatureScheme::RsaPssSha256),
        (EcP256, EcP256.default_scheme()),
        (EcP384, EcP384.default_scheme()),
        (Ed25519, Ed25519.default_scheme()),
    ] {
        let mut world = World::new(Hierarchy::with_scheme(algorithm, scheme, EcP256));
        let leaf = world.hierarchy.issue(tls_client());
        world.write("leaf.pem", leaf.bytes());
        let serial = X509Serial::from_random([0x5a; 16]);

        for revoked in [vec![], vec![revoked([7; 16])], vec![revoked([7; 16]), revoked([0x5a; 16])]]
        {
            let listed = revoked.iter().any(|revoked| revoked.serial == serial);
            world.publish(revoked);
            let said = world.openssl(&["verify", "-x509_strict", "-crl_check"]);
            assert_eq!(said.is_ok(), !listed, "{scheme}: {said:?}");
            if let Err(said) = said {
                assert!(said.contains("certificate revoked"), "{scheme}: {said}");
            }
            world.openssl(&["crl", "-in", "crl.pem", "-noout", "-CAfile", "issuing.pem"]).unwrap();
            world.gnutls();
        }
    }
}

#[test]
fn a_list_is_known_again_by_whoever_signed_it() {
    let mut hierarchy = Hierarchy::new(KeyAlgorithm::EcP256, KeyAlgorithm::EcP256);
    let template = List {
        number: 7,
        this_update: NOW(),
        next_update: NOW() + SignedDuration::from_hours(1),
        revoked: vec![
            revoked([7; 16]),
            Revoked { reason: Reason::CaCompromise, ..revoked([8; 16]) },
            Revoked { reason: Reason::Unspecified, ..revoked([9; 16]) },
        ],
    };
    let prepared = hierarchy.issuing.prepare_crl(&template).unwrap();
    let message = Input::Message(prepared.bytes());
    let signer = prepared.key().key().clone();
    let signature = hierarchy.token.sign(&signer, prepared.scheme(), message).unwrap();
    let list = prepared.seal(signature).unwrap();
    assert_eq!(hierarchy.issuing.recognise_crl(list.bytes()), Some(template));
    assert_eq!(hierarchy.root.recognise_crl(list.bytes()), None);
    for at in 0..list.bytes().len() {
        let mut flipped = list.bytes().to_vec();
        flipped[at] ^= 1;
        assert_eq!(hierarchy.issuing.recognise_crl(&flipped), None, "byte {at}");
    }
    assert_eq!(hierarchy.issuing.recognise_crl(&list.bytes()[1..]), None);
}

#[test]
fn openssl_shows_what_a_list_must_say() {
    let mut world = World::new(Hierarchy::new(KeyAlgorithm::Rsa2048, KeyAlgorithm::EcP256));
    let entries = REASONS.into_iter().zip(1..=6).map(|(reason, n)| Revoked {
        serial: X509Serial::from_random([n; 16]),
        at: at("2026-06-01T11:00:00Z"),
        reason,
    });
    world.publish(entries.rev().collect());
    let said = world.openssl(&["crl", "-in", "crl.pem", "-noout", "-text"]).unwrap();
    for line in [
        "Version 2 (0x1)",
        "Signature Algorithm: sha256WithRSAEncryption",
        "Issuer: C = DE, O = Example, CN = Test Issuing CA",
        "Last Update: Jun  1 12:00:00 2026 GMT",
        "Next Update: Jun  1 13:00:00 2026 GMT",
        "X509v3 Authority Key Identifier: \n",
        "X509v3 CRL Number: \n                18446744073709551615\n",
        "Serial Number: 41010101010101010101010101010101\n        \
         Revocation Date: Jun  1 11:00:00 2026 GMT\n        CRL entry extensions:\n            \
         X509v3 CRL Reason Code: \n                Affiliation Changed\n",
        "Cessation Of Operation\n",
        "Key Compromise\n",
        "Privilege Withdrawn\n",
        "Superseded\n",
    ] {
        assert!(said.contains(line), "{line:?} is not in\n{said}");
    }
    assert!(!said.contains("critical") && !said.contains("Unspecified"), "{said}");
    assert_eq!(said.matches("Reason Code").count(), 5, "{said}");
    assert_eq!(said.matches("Serial Number:").count(), 6, "{said}");

    world.publish(Vec::new());
    let said = world.openssl(&["crl", "-in", "crl.pem", "-noout", "-text"]).unwrap();
    assert!(said.contains("No Revoked Certificates."), "{said}");
}

#[test]
fn templates_of_lists_that_break_a_rule_are_not_prepared() {
    let hierarchy = Hierarchy::new(KeyAlgorithm::Rsa2048, KeyAlgorithm::EcP256);
    type Case = (&'static str, fn(&mut List));
    let cases: [Case; 4] = [
        ("crl-times-ordered", |list| list.next_update = list.this_update),
        ("crl-entries-ordered", |list| list.revoked.push(list.revoked[0])),
        ("template-encodable", |list| list.revoked[0].at = at("1969-12-31T23:59:59Z")),
        ("template-encodable", |list| list.this_update = at("1969-12-31T23:59:59Z")),
    ];
    for (rule, breaks) in cases {
        let mut list = list(vec![revoked([7; 16])]);
        breaks(&mut list);
        let refused = hierarchy.issuing.prepare_crl(&list).unwrap_err();
        assert!(refused.0.iter().any(|finding| finding.rule == rule), "{rule}: {refused}");
    }
    let aspirant = Issuer::self_signed(parse("CN=None"), hierarchy.root.key().clone());
    let refused = aspirant.prepare_crl(&list(Vec::new())).unwrap_err();
    assert!(refused.0.iter().any(|finding| finding.rule == "crl-signer"), "{refused}");
    let misfit = hierarchy.issuing.with_scheme(SignatureScheme::Ed25519);
    let refused = misfit.prepare_crl(&list(Vec::new())).unwrap_err();
    assert_eq!(refused.0[0].rule, "signature-algorithm-fits-key");
}

#[test]
fn every_broken_rule_of_a_list_is_named() {
    let hierarchy = Hierarchy::new(KeyAlgorithm::Rsa2048, KeyAlgorithm::EcP256);
    let template = list(vec![revoked([7; 16]), revoked([8; 16])]);
    let prepared = hierarchy.issuing.prepare_crl(&template).unwrap();
    type Case = (&'static str, fn(&mut TbsCertList));
    let cases: [Case; 20] = [
        ("crl-version-2", |list| list.version = Version::V1),
        ("issuer-name-is-issuers-subject", |list| list.issuer = parse("CN=Other")),
        ("signature-algorithm-is-issuers", |list| list.signature.parameters = None),
        ("crl-times-ordered", |list| list.next_update = None),
        ("crl-times-ordered", |list| list.next_update = Some(list.this_update)),
        ("crl-entries-ordered", |list| entries(list).reverse()),
        ("crl-entries-ordered", |list| entries(list)[1] = entries(list)[0].clone()),
        ("crl-entries-absent-if-none", |list| entries(list).clear()),
        ("crl-entry-before-list", |list| {
            entries(list)[0].revocation_date = time::encode(at("2026-06-01T12:00:01Z")).unwrap();
        }),
        ("serial-sixteen-octets", |list| {
            entries(list)[0].serial_number = x509_cert::serial_number::SerialNumber::from(7_u8);
        }),
        ("crl-entry-extensions-exact", |list| reason(list).critical = true),
        ("crl-entry-extensions-exact", |list| {
            *reason(list) = extension::crl_reason(CrlReason::Unspecified).unwrap();
        }),
        ("crl-entry-extensions-exact", |list| *reason(list) = extension::crl_number(1).unwrap()),
        ("crl-entry-extensions-exact", |list| entries(list)[0].crl_entry_extensions = Some(vec![])),
        ("crl-extensions-exact", |list| extensions(list)[0].critical = true),
        ("crl-extensions-exact", |list| {
            let more = Extension { extn_id: oid("2.5.29.28"), ..extensions(list)[0].clone() };
            extensions(list).push(more);
        }),
        ("authority-key-identifier-is-issuers", |list| {
            extensions(list)[0] = extension::authority_key_identifier(&[7; 20]).unwrap();
        }),
        ("authority-key-identifier-is-issuers", |list| drop(extensions(list).remove(0))),
        ("crl-number", |list| drop(extensions(list).remove(1))),
        ("template-kept", |list| drop(entries(list).remove(1))),
    ];
    for (rule, breaks) in cases {
        let mut list = <TbsCertList>::from_der(prepared.bytes()).unwrap();
        breaks(&mut list);
        let bytes = list.to_der().unwrap();
        let refused = lint::check_crl(&bytes, &hierarchy.issuing, &template).expect_err(rule);
        assert!(refused.0.iter().any(|finding| finding.rule == rule), "{rule}: {refused}");
    }
}

/// The lint knows what was asked for, so that no changed text passes.
#[test]
fn a_list_with_any_one_bit_flipped_is_not_signed() {
    let hierarchy = Hierarchy::new(KeyAlgorithm::EcP256, KeyAlgorithm::EcP256);
    let template = list(vec![revoked([7; 16]), revoked([8; 16])]);
    let prepared = hierarchy.issuing.prepare_crl(&template).unwrap();
    for bit in 0..8 * prepared.bytes().len() {
        let mut flipped = prepared.bytes().to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let refused = lint::check_crl(&flipped, &hierarchy.issuing, &template).unwrap_err();
        assert!(!refused.0.is_empty(), "bit {bit}");
    }
}

#[test]
fn every_list_is_read_back_in_the_order_of_its_serial_numbers() {
    let hierarchy = Hierarchy::new(KeyAlgorithm::EcP256, KeyAlgorithm::EcP256);
    let entry =
        (any::<[u8; 16]>(), -1_000_000_000_i64..100, prop::sample::select(REASONS.to_vec()));
    proptest!(|(entries in vec(entry, 0..40), number: u64)| {
        let entries: Vec<_> = entries
            .into_iter()
            .map(|(random, after, reason)| Revoked {
                serial: X509Serial::from_random(random),
                at: NOW() + SignedDuration::from_secs(after),
                reason,
            })
            .collect();
        let template = List { number, ..list(entries.clone()) };
        let prepared = hierarchy.issuing.prepare_crl(&template).unwrap();
        let expected = Summary {
            number,
            this_update: NOW(),
            next_update: NOW() + SignedDuration::from_hours(1),
            revoked: entries.len(),
        };
        prop_assert_eq!(*prepared.summary(), expected);
        let read = <TbsCertList>::from_der(prepared.bytes()).unwrap();
        let read: Vec<_> = read.revoked_certificates.unwrap_or_default();
        let mut serials: Vec<_> = entries.iter().map(|entry| *entry.serial.as_bytes()).collect();
        serials.sort_unstable();
        let found: Vec<_> = read.iter().map(|entry| entry.serial_number.as_bytes()).collect();
        prop_assert_eq!(found, serials);
    });
}

/// Files of an issuing CA, and programs that read them at a moment when its certificates are good.
struct World {
    directory: TempDir,
    hierarchy: Hierarchy,
}

impl World {
    fn new(hierarchy: Hierarchy) -> Self {
        let world = Self { directory: tempfile::tempdir().unwrap(), hierarchy };
        world.write("root.pem", world.hierarchy.root.certificate_der());
        world.write("issuing.pem", world.hierarchy.issuing.certificate_der());
        world
    }

    fn write(&self, name: &str, certificate: &[u8]) {
        fs::write(self.path().join(name), crate::x509::to_pem(certificate)).unwrap();
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Signs a list of these and writes it as `crl.pem`.
    fn publish(&mut self, revoked: Vec<Revoked>) {
        let list = List { number: u64::MAX, ..list(revoked) };
        let prepared = self.hierarchy.issuing.prepare_crl(&list).unwrap();
        let message = Input::Message(prepared.bytes());
        let key = prepared.key().key();
        let signature = self.hierarchy.token.sign(key, prepared.scheme(), message).unwrap();
        let sealed = prepared.seal(signature).unwrap();
        assert_eq!(
            <CertificateList>::from_der(sealed.bytes()).unwrap().to_der().unwrap(),
            sealed.bytes()
        );
        let pem = der::pem::encode_string("X509 CRL", der::pem::LineEnding::LF, sealed.bytes());
        fs::write(self.path().join("crl.pem"), pem.unwrap()).unwrap();
    }

    /// What openssl says; for `verify`, of `leaf.pem` by `crl.pem`.
    fn openssl(&self, arguments: &[&str]) -> Result<String, String> {
        let mut command = Command::new("openssl");
        command.args(arguments).current_dir(self.path());
        if arguments[0] == "verify" {
            command.arg("-attime").arg((NOW().as_second() + 60).to_string());
            command.args(["-CAfile", "root.pem", "-untrusted", "issuing.pem"]);
            command.args(["-CRLfile", "crl.pem", "leaf.pem"]);
        }
        let output = command.output().expect("openssl runs");
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        if output.status.success() { Ok(said) } else { Err(said) }
    }

    fn gnutls(&self) {
        let output = Command::new("faketime")
            .args(["2026-06-01 12:01:00", "certtool", "--verify-crl"])
            .args(["--load-ca-certificate", "issuing.pem", "--infile", "crl.pem"])
            .current_dir(self.path())
            .env("TZ", "UTC")
            .output()
            .expect("faketime and certtool of gnutls-bin are needed");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("Verified."), "{output:?}");
    }
}

/// Good for an hour.
fn list(revoked: Vec<Revoked>) -> List {
    let this_update = NOW() + SignedDuration::from_millis(1);
    let next_update = this_update + SignedDuration::from_hours(1);
    List { number: 7, this_update, next_update, revoked }
}

fn revoked(random: [u8; 16]) -> Revoked {
    let serial = X509Serial::from_random(random);
    Revoked { serial, at: at("2026-06-01T11:00:00Z"), reason: Reason::CessationOfOperation }
}

fn entries(list: &mut TbsCertList) -> &mut Vec<x509_cert::crl::RevokedCert> {
    list.revoked_certificates.as_mut().unwrap()
}

/// The reason of the first entry.
fn reason(list: &mut TbsCertList) -> &mut Extension {
    &mut entries(list)[0].crl_entry_extensions.as_mut().unwrap()[0]
}

fn extensions(list: &mut TbsCertList) -> &mut Vec<Extension> {
    list.crl_extensions.as_mut().unwrap()
}

fn oid(dotted: &str) -> const_oid::ObjectIdentifier {
    dotted.parse().unwrap()
}

const REASONS: [Reason; 6] = [
    Reason::AffiliationChanged,
    Reason::CessationOfOperation,
    Reason::KeyCompromise,
    Reason::PrivilegeWithdrawn,
    Reason::Superseded,
    Reason::Unspecified,
];
