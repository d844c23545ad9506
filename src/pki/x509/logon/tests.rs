//! Certificates by OpenSSL.

use base64ct::{Base64, Encoding};

use super::*;
use crate::x509::read_certificates;

const EXAMPLE: &str = include_str!("tests/example.pem");
const ISSUING: &str = include_str!("tests/issuing.pem");
const ODD: &str = include_str!("tests/odd.pem");
const SPAT: &str = include_str!("tests/spat.pem");

#[test]
fn a_certificate_is_read_as_openssl_wrote_it() {
    let read = LogonCertificate::from_pem(EXAMPLE).unwrap();
    assert_eq!(read.upns, ["alice@corp.example"]);
    assert_eq!((read.sid.as_deref(), read.sid_malformed), (Some("S-1-5-21-1-2-3-1104"), false));
    let purposes = ["1.3.6.1.5.5.7.3.2", "1.3.6.1.4.1.311.20.2.2"].map(str::to_owned);
    assert_eq!(read.purposes, Some(purposes.to_vec()));
    assert_eq!((read.digital_signature, read.authority), (Some(true), false));
    assert_eq!(read.crl_urls, ["http://pki.corp.example/issuing.crl"]);
    assert!(!read.kerberos_name && read.unknown_critical.is_empty());
    let issuer = LogonCertificate::from_pem(ISSUING).unwrap();
    assert!(read.is_issued_by(&issuer) && !issuer.is_issued_by(&read) && issuer.authority);
    assert_eq!(read.authority_key_identifier, issuer.subject_key_identifier);
    // What carries the name of the issuer is not issued by it unless it is signed by it.
    let mut other = issuer.clone();
    other.key = read.key.clone();
    assert!(!read.is_issued_by(&other));
}

/// The forms that Samba 4.25 was seen to take, and Microsoft's example for the serial number.
#[test]
fn strong_mappings_have_the_issuer_in_its_order_and_the_serial_number_reversed() {
    let of = |pem| LogonCertificate::from_pem(pem).unwrap().strong_mappings();
    assert_eq!(
        of(EXAMPLE),
        [
            "X509:<SKI>7347df36af009d3ed1ff198571693eae8db4d9a0",
            "X509:<I>O=Example,CN=Test Issuing CA<SR>3210",
            "X509:<SHA1-PUKEY>abf5094323353308060642b1456d08ed946444d4",
        ]
    );
    assert!(of(SPAT).contains(
        &"X509:<I>DC=local,DC=dod,CN=SpatDoD Root CA<SR>32000000000003bde810".to_owned()
    ));
    // A name with an escape is written in no form that all agree on.
    assert!(of(ODD).iter().all(|it| !it.contains("<I>")), "{:?}", of(ODD));
}

#[test]
fn files_have_one_certificate_or_several_in_three_forms() {
    let der = |pem| LogonCertificate::from_pem(pem).unwrap().der().to_vec();
    let (example, issuing) = (der(EXAMPLE), der(ISSUING));
    let bundle = format!("# both\n{EXAMPLE}\nand\n{ISSUING}");
    assert_eq!(read_certificates(bundle.as_bytes()).unwrap(), [example.clone(), issuing.clone()]);
    assert_eq!(read_certificates(&example).unwrap(), std::slice::from_ref(&example));

    // As ldifde folds it, after 76 characters.
    let fold = |der: &[u8]| {
        let text = Base64::encode_string(der);
        let lines: Vec<_> = text.as_bytes().chunks(76).map(String::from_utf8_lossy).collect();
        lines.join("\r\n ")
    };
    let ldif = format!(
        "dn: CN=NTAuthCertificates,CN=Public Key Services\r\nchangetype: add\r\n\
         cACertificate:: {}\r\ncACertificate:: {}\r\nname: NTAuthCertificates\r\n",
        fold(&example),
        fold(&issuing)
    );
    assert_eq!(read_certificates(ldif.as_bytes()).unwrap(), [example, issuing]);
    for nothing in ["", "dn: CN=NTAuthCertificates\n", "cACertificate:: !", EXAMPLE_CUT] {
        assert!(read_certificates(nothing.as_bytes()).is_err(), "{nothing:?}");
    }
}

const EXAMPLE_CUT: &str = "-----BEGIN CERTIFICATE-----\nMIIB\n";
