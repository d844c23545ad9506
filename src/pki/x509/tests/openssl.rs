//! Certificates before the real `openssl`.

use std::{fs, path::Path, process::Command};

use super::*;

#[test]
fn openssl_verifies_every_profile_below_cas_of_every_kind() {
    use KeyAlgorithm::{EcP256, EcP384, Ed25519, Rsa2048};
    use SignatureScheme::{RsaPkcs1Sha512, RsaPssSha256, RsaPssSha384};

    for (algorithm, scheme) in [
        (Rsa2048, Rsa2048.default_scheme()),
        (Rsa2048, RsaPkcs1Sha512),
        (Rsa2048, RsaPssSha256),
        (Rsa2048, RsaPssSha384),
        (EcP256, EcP256.default_scheme()),
        (EcP384, EcP384.default_scheme()),
        (Ed25519, Ed25519.default_scheme()),
    ] {
        let mut hierarchy = Hierarchy::with_scheme(algorithm, scheme, EcP256);
        for profile in leaves() {
            let windows = matches!(profile.kind(), Kind::Kdc | Kind::SmartcardLogon);
            if windows && !scheme.is_rsa_pkcs1() {
                let refused = hierarchy.issuing.prepare(hierarchy.template(profile)).unwrap_err();
                assert_eq!(refused.0[0].rule, "windows-signature-rsa-pkcs1");
                continue;
            }
            let kind = profile.kind();
            let leaf = hierarchy.issue(profile);
            verify(&hierarchy, leaf.bytes(), purpose(kind));
        }
    }
}

#[test]
fn openssl_shows_what_a_smart_card_certificate_must_say() {
    let mut hierarchy = Hierarchy::new(KeyAlgorithm::Rsa2048, KeyAlgorithm::Rsa2048);
    let leaf = hierarchy.issue(smartcard_logon());
    let text = show(leaf.bytes());
    for line in [
        "Subject: CN = alice@win.example.test",
        "Signature Algorithm: sha256WithRSAEncryption",
        "Serial Number:\n            5a:5a:5a:5a:5a:5a:5a:5a:5a:5a:5a:5a:5a:5a:5a:5a\n",
        "Not Before: Jun  1 12:00:00 2026 GMT",
        "Not After : Jun  2 12:00:00 2026 GMT",
        "X509v3 Key Usage: critical\n                Digital Signature\n",
        "Microsoft Smartcard Login, TLS Web Client Authentication\n",
        "X509v3 Subject Alternative Name: \n                othername: UPN::alice@win.example.test\n",
        "1.3.6.1.4.1.311.25.2: \n",
        "S-1-5-21-1-2-3-1104",
        "1.3.6.1.4.1.311.21.7: \n",
        "Full Name:\n                  URI:http://pki.example.test/issuing.crl\n",
        "OCSP - URI:http://pki.example.test/ocsp\n",
        "CA Issuers - URI:http://pki.example.test/issuing.cer\n",
        "X509v3 Subject Key Identifier: \n",
        "X509v3 Authority Key Identifier: \n",
    ] {
        assert!(text.contains(line), "{line:?} is not in\n{text}");
    }
    assert!(!text.contains("X509v3 Basic Constraints"), "{text}");
}

/// A common name has at most 64 characters (RFC 5280 appendix A.1, ub-common-name).
#[test]
fn a_upn_that_is_too_long_for_a_common_name_is_named_by_account_and_domain() {
    let mut hierarchy = Hierarchy::new(KeyAlgorithm::Rsa2048, KeyAlgorithm::Rsa2048);
    let account = "a".repeat(60);
    let profile = Profile::SmartcardLogon {
        upn: parse(&format!("{account}@Win.example.test")),
        sid: parse("S-1-5-21-1-2-3-1104"),
        template: None,
    };
    let leaf = hierarchy.issue(profile);
    assert_eq!(leaf.summary().subject, format!("CN={account},DC=win,DC=example,DC=test"));
    let subject = format!("Subject: DC = test, DC = example, DC = win, CN = {account}\n");
    assert!(show(leaf.bytes()).contains(&subject));
}

#[test]
fn openssl_shows_what_a_kdc_certificate_must_say() {
    let mut hierarchy = Hierarchy::new(KeyAlgorithm::Rsa2048, KeyAlgorithm::Rsa2048);
    let leaf = hierarchy.issue(kdc());
    let text = show(leaf.bytes());
    for line in [
        "Signing KDC Response, TLS Web Server Authentication, TLS Web Client Authentication, \
         Microsoft Smartcard Login\n",
        "X509v3 Subject Alternative Name: critical\n                \
         DNS:dc1.win.example.test, DNS:win.example.test, othername: ",
        "Subject: \n",
    ] {
        assert!(text.contains(line), "{line:?} is not in\n{text}");
    }
}

#[test]
fn a_root_and_an_issuing_ca_say_how_far_they_reach() {
    let hierarchy = Hierarchy::new(KeyAlgorithm::EcP256, KeyAlgorithm::EcP256);
    let root = show(hierarchy.root.certificate_der());
    assert!(
        root.contains("X509v3 Basic Constraints: critical\n                CA:TRUE\n"),
        "{root}"
    );
    assert!(!root.contains("Authority Key Identifier"), "{root}");
    let issuing = show(hierarchy.issuing.certificate_der());
    for line in [
        "Subject: C = DE, O = Example, CN = Test Issuing CA",
        "Issuer: C = DE, O = Example, CN = Test Root",
        "X509v3 Basic Constraints: critical\n                CA:TRUE, pathlen:0\n",
        "X509v3 Key Usage: critical\n                Certificate Sign, CRL Sign\n",
        "URI:http://pki.example.test/root.crl\n",
    ] {
        assert!(issuing.contains(line), "{line:?} is not in\n{issuing}");
    }
    assert_eq!(hierarchy.issuing.not_after(), at("2036-01-01T00:00:00Z"));
}

#[test]
fn policies_and_the_turn_of_the_year_2050_are_written_as_rfc_5280_says() {
    let mut hierarchy = Hierarchy::new(KeyAlgorithm::EcP256, KeyAlgorithm::EcP256);
    let key = issuing_key(&mut hierarchy.token, KeyAlgorithm::EcP256, "long");
    let long = Issuer::self_signed(parse("CN=Long"), key);
    let template = Template {
        not_after: at("2050-01-01T00:00:00Z"),
        policies: vec![parse("1.3.6.1.4.1.99999.1")],
        ..root_template(&long)
    };
    let root = seal(&mut hierarchy.token, long.prepare(template).unwrap());
    let text = show(root.bytes());
    assert!(text.contains("Policy: 1.3.6.1.4.1.99999.1\n"), "{text}");
    let generalized = b"\x17\x0d260601120000Z\x18\x0f20500101000000Z";
    assert!(root.bytes().windows(generalized.len()).any(|window| window == generalized));
    assert_eq!(root.summary().not_after, at("2050-01-01T00:00:00Z"));
}

#[test]
fn a_certificate_says_again_what_its_template_said() {
    let mut hierarchy = Hierarchy::new(KeyAlgorithm::EcP256, KeyAlgorithm::EcP256);
    let leaf = hierarchy.issue(tls_client());
    let names = ["URI:spiffe://example.test/bot/deploy", "DNS:deploy.example.test"];
    assert_eq!(leaf.summary().names, names);
    assert_eq!(leaf.summary().subject, "");
    assert_eq!(leaf.summary().kind, Kind::TlsClient);
    assert_eq!(leaf.summary().key_fingerprint, hierarchy.subject_key.fingerprint());

    let read = Certificate::from_pem(&crate::x509::to_pem(leaf.bytes())).unwrap();
    assert_eq!(read.spiffe_id(), Some(parse("spiffe://example.test/bot/deploy")));
    assert_eq!(read.public_key(), &hierarchy.subject_key);
    assert_eq!(read.serial(), [0x5a; 16]);
    assert_eq!(read.issuer(), "CN=Test Issuing CA,O=Example,C=DE");
    assert_eq!((read.not_before(), read.not_after()), (NOW(), at("2026-06-02T12:00:00Z")));
    let with_trailing_byte = [leaf.bytes(), &[0]].concat();
    assert!(Certificate::from_der(&with_trailing_byte).is_err());
}

/// `openssl verify` with the strict checks of RFC 5280, at a moment of the leaf's validity.
fn verify(hierarchy: &Hierarchy, leaf: &[u8], purpose: &[&str]) {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str, certificate: &[u8]| {
        let path = directory.path().join(name);
        fs::write(&path, crate::x509::to_pem(certificate)).unwrap();
        path
    };
    let output = Command::new("openssl")
        .args(["verify", "-x509_strict", "-check_ss_sig", "-attime"])
        .arg(NOW().as_second().to_string())
        .args(purpose)
        .arg("-CAfile")
        .arg(path("root.pem", hierarchy.root.certificate_der()))
        .arg("-untrusted")
        .arg(path("issuing.pem", hierarchy.issuing.certificate_der()))
        .arg(path("leaf.pem", leaf))
        .output()
        .expect("openssl runs");
    assert!(output.status.success(), "{purpose:?}: {output:?}\n{}", show(leaf));
}

fn purpose(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Kdc | Kind::TlsServer => &["-purpose", "sslserver"],
        Kind::SmartcardLogon | Kind::TlsClient => &["-purpose", "sslclient"],
        _ => &[],
    }
}

/// `openssl x509 -text`.
fn show(certificate: &[u8]) -> String {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("certificate.der");
    fs::write(&path, certificate).unwrap();
    run(directory.path(), &["x509", "-inform", "DER", "-in", "certificate.der", "-noout", "-text"])
}

fn run(directory: &Path, arguments: &[&str]) -> String {
    let output = Command::new("openssl")
        .args(arguments)
        .current_dir(directory)
        .output()
        .expect("openssl runs");
    assert!(output.status.success(), "openssl {arguments:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
