//! Certificate signing requests that the real `openssl` makes.

use std::{fs, path::Path, process::Command};

use crate::{
    keys::{KeyAlgorithm, KeyError},
    x509::{
        algorithm::tlv,
        csr::{Csr, CsrError},
    },
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

/// Nothing of it would be granted; but who asks for another's name learns that it is no oversight.
#[test]
fn a_request_for_a_logon_asks_for_nothing_but_what_such_a_certificate_has() {
    let (upn, sid) = ("alice@corp.example", "S-1-5-21-1-2-3-1104");
    let name = |upn: &str| format!("subjectAltName=otherName:1.3.6.1.4.1.311.20.2.3;UTF8:{upn}");
    let sid_of = |sid: &str| {
        let inner = tlv(0x04, sid.as_bytes());
        let oid = [&[0x06, 0x0a][..], &SID_TYPE].concat();
        let value = tlv(0x30, &tlv(0xa0, &[oid, tlv(0xa0, &inner)].concat()));
        format!("1.3.6.1.4.1.311.25.2=DER:{}", hex::encode(value))
    };
    let two = format!("{},{}", name(upn), &name(upn)["subjectAltName=".len()..]);
    let mail = format!("{},email:alice@corp.example", name(upn));
    for (asked, expected) in [
        (vec![], Ok(())),
        (vec![name(upn), sid_of(sid)], Ok(())),
        (vec![name("alice@CORP.example")], Ok(())),
        (vec!["keyUsage=digitalSignature".to_owned()], Ok(())),
        (vec!["extendedKeyUsage=clientAuth,1.3.6.1.4.1.311.20.2.2".to_owned()], Ok(())),
        (vec!["basicConstraints=CA:FALSE".to_owned()], Ok(())),
        (vec!["1.3.6.1.4.1.311.20.2=DER:1e0200410042".to_owned()], Ok(())),
        (vec![name("bob@corp.example")], Err("csr-upn")),
        (vec![name("Alice@corp.example")], Err("csr-upn")),
        (vec![name("nobody")], Err("csr-upn")),
        (vec![name(upn).replace("UTF8:", "IA5:")], Err("csr-upn")),
        (vec![two], Err("csr-name")),
        (vec![mail], Err("csr-name")),
        (vec!["subjectAltName=DNS:dc1.corp.example".to_owned()], Err("csr-name")),
        (vec!["subjectAltName=otherName:1.3.6.1.5.2.2;UTF8:bob".to_owned()], Err("csr-name")),
        (vec![sid_of("S-1-5-21-1-2-3-500")], Err("csr-sid")),
        (vec![sid_of("S-1-5-21-1-2-3-1105")], Err("csr-sid")),
        (vec!["1.3.6.1.4.1.311.25.2=DER:0500".to_owned()], Err("csr-sid")),
        (vec!["extendedKeyUsage=1.3.6.1.5.2.3.5".to_owned()], Err("csr-key-purpose")),
        (vec!["extendedKeyUsage=anyExtendedKeyUsage".to_owned()], Err("csr-key-purpose")),
        (vec!["extendedKeyUsage=serverAuth".to_owned()], Err("csr-key-purpose")),
        (vec!["basicConstraints=CA:TRUE".to_owned()], Err("csr-authority")),
        (vec!["keyUsage=keyCertSign".to_owned()], Err("csr-authority")),
        (vec!["keyUsage=cRLSign".to_owned()], Err("csr-authority")),
        (vec!["2.5.29.37=DER:0500".to_owned()], Err("csr-malformed-extension")),
        (vec!["certificatePolicies=1.2.3.4".to_owned()], Err("csr-extension")),
        (vec!["1.3.6.1.4.1.311.21.10=DER:3000".to_owned()], Err("csr-extension")),
    ] {
        let arguments: Vec<_> = asked.iter().flat_map(|it| ["-addext", it.as_str()]).collect();
        let csr = Csr::from_pem(&request_with(&EC256, &arguments)).unwrap();
        let checked = csr.wishes.check_logon(&upn.parse().unwrap(), &sid.parse().unwrap());
        assert_eq!(checked.map_err(|excess| excess.reason()), expected, "{asked:?}");
    }
}

pub(super) const EC256: [&str; 4] = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];
const EC384: [&str; 4] = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"];
const RSA: [&str; 4] = ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"];
const PSS: [&str; 5] =
    ["-sha256", "-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:digest"];

/// szOID_NTDS_OBJECTSID.
const SID_TYPE: [u8; 10] = [0x2b, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x19, 0x02, 0x01];

/// The PEM of a request by `openssl req`.
pub(super) fn request(key: &[&str], signing: &[&str]) -> String {
    let names = "subjectAltName=DNS:www.example.test,DNS:*.Example.test,IP:192.0.2.7,\
                 IP:2001:db8::7,email:alice@example.test";
    request_with(key, &[&["-addext", names], signing].concat())
}

/// As `openssl req` makes it with these arguments.
fn request_with(key: &[&str], arguments: &[&str]) -> String {
    let directory = tempfile::tempdir().unwrap();
    openssl(directory.path(), &[&["genpkey", "-out", "key.pem"], key].concat());
    let request = ["req", "-new", "-key", "key.pem", "-subj", "/CN=alice", "-out", "csr"];
    openssl(directory.path(), &[&request, arguments].concat());
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
