//! Certificate signing requests that the real `openssl` makes.

use std::{fs, path::Path, process::Command};

use crate::{
    keys::{KeyAlgorithm, KeyError},
    x509::csr::{Csr, CsrError},
};

#[test]
fn requests_of_openssl_are_accepted_for_every_kind_of_key() {
    for (key, signing, algorithm) in [
        (&EC256[..], &["-sha256"][..], KeyAlgorithm::EcP256),
        (&EC384, &["-sha384"], KeyAlgorithm::EcP384),
        (&EC384, &["-sha256"], KeyAlgorithm::EcP384),
        (&["-algorithm", "ed25519"], &[], KeyAlgorithm::Ed25519),
        (&RSA, &["-sha256"], KeyAlgorithm::Rsa2048),
        (&RSA, &["-sha512"], KeyAlgorithm::Rsa2048),
        (&RSA, &PSS, KeyAlgorithm::Rsa2048),
    ] {
        let csr = Csr::from_pem(&request(key, signing)).unwrap();
        assert_eq!(csr.public_key.algorithm(), algorithm);
        assert_eq!(csr.dns_names, super::set(&["*.example.test", "www.example.test"]));
        assert_eq!(csr.addresses, super::set(&["192.0.2.7", "2001:db8::7"]));
    }
}

#[test]
fn requests_that_are_signed_in_another_way_are_told_what_to_use() {
    for (key, signing, name) in [
        (&EC256[..], &["-sha512"][..], "ecdsa-with-SHA512 over a"),
        (&EC256, &["-sha384"], "ecdsa-with-SHA384 over a"),
        (&EC384, &["-sha512"], "ecdsa-with-SHA512 over a"),
        (&RSA, &["-sha1"], "sha1WithRSAEncryption over a"),
        (
            &RSA,
            &["-sha256", "-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:0"],
            "PSS",
        ),
    ] {
        let error = Csr::from_pem(&request(key, signing)).unwrap_err();
        assert!(matches!(error, CsrError::SignatureAlgorithm(_)), "{error}");
        assert!(error.to_string().contains(name), "{error}");
    }
    let p521 = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"];
    let error = Csr::from_pem(&request(&p521, &[])).unwrap_err();
    assert!(matches!(error, CsrError::Key(KeyError::Unsupported(_))), "{error}");
}

#[test]
fn a_request_that_was_changed_proves_nothing() {
    let der = der(&request(&EC256, &["-sha256"]));
    let name = der.windows(5).position(|window| window == b"alice").unwrap();
    let mut changed = der.clone();
    changed[name] = b'A';
    assert_eq!(Csr::from_der(&changed).unwrap_err(), CsrError::ProofOfPossession);
    let mut signature = der.clone();
    *signature.last_mut().unwrap() ^= 1;
    assert_eq!(Csr::from_der(&signature).unwrap_err(), CsrError::ProofOfPossession);
    assert!(Csr::from_der(&der).is_ok());
}

#[test]
fn what_is_no_request_is_refused() {
    let der = der(&request(&EC256, &["-sha256"]));
    let long = vec![0x30; Csr::MAX_LEN + 1];
    for malformed in [&[][..], &der[..der.len() - 1], &[der.as_slice(), &[0]].concat(), &long] {
        let error = Csr::from_der(malformed).unwrap_err();
        assert!(matches!(error, CsrError::Malformed(_)), "{error}");
    }
    let certificate = crate::x509::to_pem(&der);
    let error = Csr::from_pem(&certificate).unwrap_err().to_string();
    assert!(error.contains("it is a PEM CERTIFICATE"), "{error}");
    assert!(Csr::from_pem(&"A".repeat(10 * Csr::MAX_LEN)).is_err());
    assert!(Csr::from_pem("").is_err());
}

/// GnuTLS writes a description before the PEM; Java wraps lines at 76.
#[test]
fn a_request_of_certtool_is_accepted_as_it_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let certtool = |arguments: &[&str]| {
        let mut command = Command::new("certtool");
        let output =
            command.args(arguments).current_dir(&directory).output().expect("certtool runs");
        assert!(output.status.success(), "certtool {arguments:?}: {output:?}");
    };
    fs::write(directory.path().join("template"), "cn = \"x\"\ndns_name = \"a.example.test\"\n")
        .unwrap();
    certtool(&["--generate-privkey", "--key-type=ecdsa", "--curve=secp256r1", "--outfile=key"]);
    let request =
        ["--generate-request", "--load-privkey=key", "--template=template", "--outfile=csr"];
    certtool(&request);
    let text = fs::read_to_string(directory.path().join("csr")).unwrap();
    assert!(!text.starts_with("-----BEGIN"), "{text}");
    let csr = Csr::from_pem(&format!("{text}\n\n")).unwrap();
    assert_eq!(csr.dns_names, super::set(&["a.example.test"]));

    let base64 = <base64ct::Base64 as base64ct::Encoding>::encode_string(&der(&text));
    let lines: Vec<_> = base64.as_bytes().chunks(76).map(String::from_utf8_lossy).collect();
    let label = "CERTIFICATE REQUEST-----";
    let java = format!("-----BEGIN NEW {label}\r\n{}\r\n-----END NEW {label}", lines.join("\r\n"));
    assert_eq!(Csr::from_pem(&java).unwrap().public_key, csr.public_key);
}

pub(super) const EC256: [&str; 4] = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];
const EC384: [&str; 4] = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"];
const RSA: [&str; 4] = ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"];
const PSS: [&str; 5] =
    ["-sha256", "-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:digest"];

/// The PEM of a request by `openssl req`.
pub(super) fn request(key: &[&str], signing: &[&str]) -> String {
    let directory = tempfile::tempdir().unwrap();
    openssl(directory.path(), &[&["genpkey", "-out", "key.pem"], key].concat());
    let names = "subjectAltName=DNS:www.example.test,DNS:*.Example.test,IP:192.0.2.7,\
                 IP:2001:db8::7,email:alice@example.test";
    let request =
        ["req", "-new", "-key", "key.pem", "-subj", "/CN=alice", "-addext", names, "-out", "csr"];
    openssl(directory.path(), &[&request, signing].concat());
    fs::read_to_string(directory.path().join("csr")).unwrap()
}

pub(super) fn der(pem: &str) -> Vec<u8> {
    crate::x509::from_pem(pem, &["CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST"]).unwrap()
}

fn openssl(directory: &Path, arguments: &[&str]) {
    let output = Command::new("openssl")
        .args(arguments)
        .current_dir(directory)
        .output()
        .expect("openssl runs");
    assert!(output.status.success(), "openssl {arguments:?}: {output:?}");
}
