//! What of a certificate decides about a Windows logon: of any CA's, well made or not. It is read
//! here; what it is worth is for others to say.

use der::{Decode, Encode, asn1::ObjectIdentifier};
use jiff::Timestamp;
use sha1::{Digest, Sha1};
use x509_cert::{
    TbsCertificate,
    ext::pkix::{
        AuthorityKeyIdentifier, BasicConstraints, CrlDistributionPoints, ExtendedKeyUsage,
        KeyUsage, SubjectAltName, SubjectKeyIdentifier,
        name::{DistributionPointName, GeneralName},
    },
};

use super::{algorithm, certificate::CertificateError, oid, time};
use crate::keys::{KeyError, PublicKey};

/// What a certificate says. Nothing of it is verified but by [`is_issued_by`](Self::is_issued_by).
#[derive(Clone, Debug)]
pub struct LogonCertificate {
    der: Vec<u8>,
    signed: Signed,
    /// The octets of the serial number, big-endian, without leading zeros.
    pub serial: Vec<u8>,
    /// The issuer's name, DER.
    pub issuer: Vec<u8>,
    /// The subject's name, DER.
    pub subject: Vec<u8>,
    /// The issuer's name (RFC 4514).
    pub issuer_text: String,
    /// The subject's name (RFC 4514).
    pub subject_text: String,
    /// The issuer's relative names in the order of the DER, the root's first.
    issuer_parts: Vec<String>,
    /// The certified key, or why it is none that is certified here.
    pub key: Result<PublicKey, KeyError>,
    /// The first second of its validity.
    pub not_before: Timestamp,
    /// The last second of its validity.
    pub not_after: Timestamp,
    /// The user principal names, as they stand there.
    pub upns: Vec<String>,
    /// Whether it has a Kerberos principal's name (RFC 4556), which a KDC takes as well as a UPN.
    pub kerberos_name: bool,
    /// The SID, if there is an extension for it that can be read.
    pub sid: Option<String>,
    /// Whether there is an extension for a SID, and nothing in it that is one.
    pub sid_malformed: bool,
    /// What it may be used for, in dotted numbers; `None` when it does not say.
    pub purposes: Option<Vec<String>>,
    /// Whether its key usage allows signatures; `None` when it does not say.
    pub digital_signature: Option<bool>,
    /// Where its revocation list is.
    pub crl_urls: Vec<String>,
    /// The identifier of its key.
    pub subject_key_identifier: Option<Vec<u8>>,
    /// The identifier of its issuer's key.
    pub authority_key_identifier: Option<Vec<u8>>,
    /// Whether it is a CA's.
    pub authority: bool,
    /// Extensions that must be understood and are not known, in dotted numbers.
    pub unknown_critical: Vec<String>,
}

/// A text that was signed, and how.
#[derive(Clone, Debug)]
pub(super) struct Signed {
    text: Vec<u8>,
    algorithm: Vec<u8>,
    value: Vec<u8>,
}

impl Signed {
    pub(super) fn new(text: Vec<u8>, algorithm: Vec<u8>, value: &[u8]) -> Self {
        Self { text, algorithm, value: value.to_vec() }
    }

    /// Whether a key signed it, by an algorithm that is still good.
    pub(super) fn by(&self, key: &PublicKey) -> bool {
        let signature = algorithm::decode_signature(key.algorithm(), &self.value);
        algorithm::scheme(&self.algorithm)
            .filter(|scheme| scheme.fits(key.algorithm()))
            .zip(signature)
            .is_some_and(|(scheme, signature)| key.verify(scheme, &self.text, &signature).is_ok())
    }
}

impl LogonCertificate {
    /// Reads DER.
    ///
    /// # Errors
    ///
    /// Too long, not DER, or an extension that is not of its syntax.
    pub fn from_der(der: &[u8]) -> Result<Self, CertificateError> {
        if der.len() > super::Certificate::MAX_LEN {
            return Err(CertificateError::Malformed(format!("it has {} bytes", der.len())));
        }
        let certificate = x509_cert::Certificate::from_der(der)?;
        let tbs = certificate.tbs_certificate();
        let names = tbs.get_extension::<SubjectAltName>()?.map(|(_, names)| names.0);
        let names = names.unwrap_or_default();
        let sid = security_identifier(tbs);
        Ok(Self {
            der: der.to_vec(),
            signed: Signed::new(
                tbs.to_der()?,
                certificate.signature_algorithm().to_der()?,
                certificate.signature().as_bytes().unwrap_or_default(),
            ),
            serial: without_zeros(tbs.serial_number().as_bytes()),
            issuer: tbs.issuer().to_der()?,
            subject: tbs.subject().to_der()?,
            issuer_text: tbs.issuer().to_string(),
            subject_text: tbs.subject().to_string(),
            issuer_parts: tbs.issuer().iter_rdn().map(ToString::to_string).collect(),
            key: PublicKey::from_spki_der(&tbs.subject_public_key_info().to_der()?),
            not_before: time::clamped(&tbs.validity().not_before),
            not_after: time::clamped(&tbs.validity().not_after),
            upns: names.iter().filter_map(upn).collect(),
            kerberos_name: names.iter().any(is_kerberos_name),
            sid_malformed: sid == Some(None),
            sid: sid.flatten(),
            purposes: tbs
                .get_extension::<ExtendedKeyUsage>()?
                .map(|(_, usage)| usage.0.iter().map(ToString::to_string).collect()),
            digital_signature: tbs
                .get_extension::<KeyUsage>()?
                .map(|(_, usage)| usage.digital_signature()),
            crl_urls: crl_urls(tbs)?,
            subject_key_identifier: tbs
                .get_extension::<SubjectKeyIdentifier>()?
                .map(|(_, it)| it.0.as_bytes().to_vec()),
            authority_key_identifier: tbs
                .get_extension::<AuthorityKeyIdentifier>()?
                .and_then(|(_, it)| Some(it.key_identifier?.as_bytes().to_vec())),
            authority: tbs.get_extension::<BasicConstraints>()?.is_some_and(|(_, it)| it.ca),
            unknown_critical: unknown_critical(tbs),
        })
    }

    /// Reads one PEM `CERTIFICATE`.
    ///
    /// # Errors
    ///
    /// Not such a PEM text, or as [`from_der`](Self::from_der).
    pub fn from_pem(text: &str) -> Result<Self, CertificateError> {
        let der = super::from_pem(text, &["CERTIFICATE"]).map_err(CertificateError::Malformed)?;
        Self::from_der(&der)
    }

    /// The DER that it was read from.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Whether it is issued by the subject of this certificate: by name, and by signature.
    pub fn is_issued_by(&self, issuer: &Self) -> bool {
        self.issuer == issuer.subject && issuer.key.as_ref().is_ok_and(|key| self.signed.by(key))
    }

    /// SHA-1 of the whole certificate: its thumbprint, as Windows calls it.
    pub fn thumbprint(&self) -> [u8; 20] {
        Sha1::digest(&self.der).into()
    }

    /// What `altSecurityIdentities` of an account may say to name this certificate strongly
    /// (MS-PKCA 3.1.5.2.1.5): by issuer and serial number, by its key's identifier, and by itself.
    ///
    /// The issuer stands in the order of the DER, the reverse of RFC 4514, and the serial number
    /// byte by byte from its end. A name that needs an escape has no form that all agree on.
    pub fn strong_mappings(&self) -> Vec<String> {
        let issuer = self.issuer_parts.join(",");
        let reversed: Vec<u8> = self.serial.iter().rev().copied().collect();
        let by_issuer = (!issuer.contains(['\\', '#', '"', '+', '<', '>']))
            .then(|| format!("X509:<I>{issuer}<SR>{}", hex::encode(reversed)));
        let by_key = self
            .subject_key_identifier
            .as_ref()
            .map(|identifier| format!("X509:<SKI>{}", hex::encode(identifier)));
        let by_itself = format!("X509:<SHA1-PUKEY>{}", hex::encode(self.thumbprint()));
        [by_key, by_issuer, Some(by_itself)].into_iter().flatten().collect()
    }
}

/// RFC 5280 section 4.1.2.2: a leading zero only says that the number is positive.
pub(super) fn without_zeros(number: &[u8]) -> Vec<u8> {
    number.iter().copied().skip_while(|byte| *byte == 0).collect()
}

fn upn(name: &GeneralName) -> Option<String> {
    match name {
        GeneralName::OtherName(name) if name.type_id == oid::USER_PRINCIPAL_NAME => {
            Some(String::from_utf8_lossy(name.value.value()).into_owned())
        }
        _ => None,
    }
}

fn is_kerberos_name(name: &GeneralName) -> bool {
    matches!(name, GeneralName::OtherName(name) if name.type_id == oid::KRB5_PRINCIPAL_NAME)
}

/// `None` without the extension; `Some(None)` when there is no SID in it.
fn security_identifier(tbs: &TbsCertificate) -> Option<Option<String>> {
    let mut extensions = tbs.extensions().into_iter().flatten();
    let found = extensions.find(|extension| extension.extn_id == oid::NTDS_CA_SECURITY)?;
    let names = Vec::<GeneralName>::from_der(found.extn_value.as_bytes()).unwrap_or_default();
    Some(names.iter().find_map(|name| match name {
        GeneralName::OtherName(name) if name.type_id == oid::NTDS_OBJECT_SID => {
            let text = std::str::from_utf8(name.value.value()).ok()?;
            text.starts_with("S-1-").then(|| text.to_owned())
        }
        _ => None,
    }))
}

fn crl_urls(tbs: &TbsCertificate) -> der::Result<Vec<String>> {
    let points = tbs.get_extension::<CrlDistributionPoints>()?.map(|(_, points)| points.0);
    let mut urls = Vec::new();
    for point in points.unwrap_or_default() {
        let Some(DistributionPointName::FullName(names)) = point.distribution_point else {
            continue;
        };
        for name in names {
            if let GeneralName::UniformResourceIdentifier(uri) = name {
                urls.push(uri.as_str().to_owned());
            }
        }
    }
    Ok(urls)
}

fn unknown_critical(tbs: &TbsCertificate) -> Vec<String> {
    let critical = tbs.extensions().into_iter().flatten().filter(|extension| extension.critical);
    let unknown = critical.filter(|extension| !KNOWN.contains(&extension.extn_id));
    unknown.map(|extension| extension.extn_id.to_string()).collect()
}

/// What OpenSSL and Windows understand of extensions that a certificate for people may have.
const KNOWN: [ObjectIdentifier; 7] = [
    oid::BASIC_CONSTRAINTS,
    oid::CERTIFICATE_POLICIES,
    oid::CRL_DISTRIBUTION_POINTS,
    oid::EXTENDED_KEY_USAGE,
    oid::KEY_USAGE,
    oid::SUBJECT_ALTERNATIVE_NAME,
    oid::SUBJECT_KEY_IDENTIFIER,
];

#[cfg(test)]
mod tests;
