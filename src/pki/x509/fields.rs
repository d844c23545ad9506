//! The fields of what is signed, to tell where two texts differ.

use const_oid::ObjectIdentifier;
use der::{Decode, Encode};
use x509_cert::TbsCertificate;

use super::oid;

/// A field of a to-be-signed certificate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Field {
    /// What RFC 5280 calls it; the number of an extension that it does not know.
    pub name: String,
    /// Its DER.
    pub der: Vec<u8>,
}

/// The fields of a TBSCertificate (RFC 5280 section 4.1.2), in their order.
///
/// # Errors
///
/// It is none.
pub fn fields(to_be_signed: &[u8]) -> der::Result<Vec<Field>> {
    let tbs = TbsCertificate::from_der(to_be_signed)?;
    let mut fields = vec![
        field("serialNumber", tbs.serial_number())?,
        field("signature", tbs.signature())?,
        field("issuer", tbs.issuer())?,
        field("validity", tbs.validity())?,
        field("subject", tbs.subject())?,
        field("subjectPublicKeyInfo", tbs.subject_public_key_info())?,
    ];
    for extension in tbs.extensions().into_iter().flatten() {
        let known = NAMES.iter().find(|(known, _)| *known == extension.extn_id);
        let number = extension.extn_id.to_string();
        fields.push(field(known.map_or(&number, |(_, name)| name), extension)?);
    }
    Ok(fields)
}

fn field(name: &str, value: &impl Encode) -> der::Result<Field> {
    Ok(Field { name: name.to_owned(), der: value.to_der()? })
}

const NAMES: [(ObjectIdentifier, &str); 9] = [
    (oid::AUTHORITY_INFO_ACCESS, "authorityInfoAccess"),
    (oid::AUTHORITY_KEY_IDENTIFIER, "authorityKeyIdentifier"),
    (oid::BASIC_CONSTRAINTS, "basicConstraints"),
    (oid::CERTIFICATE_POLICIES, "certificatePolicies"),
    (oid::CRL_DISTRIBUTION_POINTS, "cRLDistributionPoints"),
    (oid::EXTENDED_KEY_USAGE, "extKeyUsage"),
    (oid::KEY_USAGE, "keyUsage"),
    (oid::SUBJECT_ALTERNATIVE_NAME, "subjectAltName"),
    (oid::SUBJECT_KEY_IDENTIFIER, "subjectKeyIdentifier"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        keys::KeyAlgorithm,
        serial::X509Serial,
        token::{IssuingKey, KeyId, KeyStore as _, software::SoftwareToken},
        x509::{Issuer, Profile, Template},
    };

    #[test]
    fn each_field_has_its_name_and_its_encoding() {
        let (label, id) = ("issuing/root".parse().unwrap(), KeyId::new(&[1]).unwrap());
        let key = SoftwareToken::default().generate(KeyAlgorithm::EcP256, &label, &id).unwrap().key;
        let serial = X509Serial::from_random([7; 16]);
        let template = Template {
            serial,
            subject: Some("CN=Root".parse().unwrap()),
            public_key: key.public_key.clone(),
            not_before: "2026-01-01T00:00:00Z".parse().unwrap(),
            not_after: "2030-01-01T00:00:00Z".parse().unwrap(),
            profile: Profile::Root { path_len: None },
            policies: Vec::new(),
        };
        let spki = key.public_key.spki_der().to_vec();
        let issuer = Issuer::self_signed("CN=Root".parse().unwrap(), IssuingKey::new(key).unwrap());
        let prepared = issuer.prepare(template).unwrap();
        let fields = fields(prepared.bytes()).unwrap();
        let names: Vec<&str> = fields.iter().map(|field| field.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "serialNumber",
                "signature",
                "issuer",
                "validity",
                "subject",
                "subjectPublicKeyInfo",
                "basicConstraints",
                "keyUsage",
                "subjectKeyIdentifier",
            ]
        );
        assert_eq!(fields[0].der, [&[2, 16][..], serial.as_bytes()].concat());
        assert_eq!(fields[5].der, spki);
        assert!(super::fields(&prepared.bytes()[1..]).is_err());
    }
}
