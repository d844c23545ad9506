//! The fields of what is signed, to tell where two texts differ.

use const_oid::ObjectIdentifier;
use der::{Decode, Encode};
use x509_cert::{TbsCertificate, crl::TbsCertList, ext::Extension, request::CertReqInfo};

use super::oid;

/// A field of a to-be-signed certificate, revocation list or request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Field {
    /// What RFC 5280 or RFC 2986 calls it; the number of an extension that they do not know.
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
    add_extensions(&mut fields, tbs.extensions().into_iter().flatten())?;
    Ok(fields)
}

/// The fields of a TBSCertList (RFC 5280 section 5.1.2), in their order.
///
/// # Errors
///
/// It is none.
pub fn fields_of_list(to_be_signed: &[u8]) -> der::Result<Vec<Field>> {
    let tbs: TbsCertList = TbsCertList::from_der(to_be_signed)?;
    let mut fields = vec![
        field("signature", &tbs.signature)?,
        field("issuer", &tbs.issuer)?,
        field("thisUpdate", &tbs.this_update)?,
    ];
    if let Some(next_update) = &tbs.next_update {
        fields.push(field("nextUpdate", next_update)?);
    }
    for revoked in tbs.revoked_certificates.iter().flatten() {
        let serial = hex::encode(revoked.serial_number.as_bytes());
        fields.push(field(&format!("revoked {serial}, revocationDate"), &revoked.revocation_date)?);
        for extension in revoked.crl_entry_extensions.iter().flatten() {
            let number = extension.extn_id;
            fields.push(field(&format!("revoked {serial}, {number}"), extension)?);
        }
    }
    add_extensions(&mut fields, tbs.crl_extensions.iter().flatten())?;
    Ok(fields)
}

/// The fields of a CertificationRequestInfo (RFC 2986 section 4.1), in their order.
///
/// # Errors
///
/// It is none.
pub fn fields_of_request(to_be_signed: &[u8]) -> der::Result<Vec<Field>> {
    let info = CertReqInfo::from_der(to_be_signed)?;
    Ok(vec![
        field("version", &info.version)?,
        field("subject", &info.subject)?,
        field("subjectPublicKeyInfo", &info.public_key)?,
        field("attributes", &info.attributes)?,
    ])
}

fn add_extensions<'a>(
    fields: &mut Vec<Field>,
    extensions: impl Iterator<Item = &'a Extension>,
) -> der::Result<()> {
    for extension in extensions {
        let known = NAMES.iter().find(|(known, _)| *known == extension.extn_id);
        let number = extension.extn_id.to_string();
        fields.push(field(known.map_or(&number, |(_, name)| name), extension)?);
    }
    Ok(())
}

fn field(name: &str, value: &impl Encode) -> der::Result<Field> {
    Ok(Field { name: name.to_owned(), der: value.to_der()? })
}

const NAMES: [(ObjectIdentifier, &str); 10] = [
    (oid::AUTHORITY_INFO_ACCESS, "authorityInfoAccess"),
    (oid::AUTHORITY_KEY_IDENTIFIER, "authorityKeyIdentifier"),
    (oid::BASIC_CONSTRAINTS, "basicConstraints"),
    (oid::CERTIFICATE_POLICIES, "certificatePolicies"),
    (oid::CRL_DISTRIBUTION_POINTS, "cRLDistributionPoints"),
    (oid::CRL_NUMBER, "cRLNumber"),
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
