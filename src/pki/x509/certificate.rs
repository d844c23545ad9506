//! Reads certificates that exist: those of callers, of a hand-off, of this crate.

use std::fmt;

use der::{Any, Decode, Encode, Tag, Tagged};
use jiff::Timestamp;
use thiserror::Error;
use x509_cert::ext::pkix::{SubjectAltName, name::GeneralName};

use super::{algorithm, extension, oid, time};
use crate::{
    keys::{KeyError, PublicKey},
    names::{DistinguishedName, SpiffeId},
};

/// What a certificate says. Nothing of it is verified: neither its signature nor its path.
#[derive(Clone, Eq, PartialEq)]
pub struct Certificate {
    der: Vec<u8>,
    public_key: PublicKey,
    serial: Vec<u8>,
    subject: String,
    /// The same, DER.
    subject_der: Vec<u8>,
    issuer: String,
    not_before: Timestamp,
    not_after: Timestamp,
    common_names: Vec<String>,
    dns_names: Vec<String>,
    uris: Vec<String>,
}

/// A certificate cannot be read.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum CertificateError {
    /// It is not DER of a certificate, or not PEM of one.
    #[error("the certificate cannot be read: {0}")]
    Malformed(String),
    /// Its key is of a kind that is not used here.
    #[error("the certificate's key: {0}")]
    Key(#[source] KeyError),
}

impl Certificate {
    /// The longest certificate that is looked at, in bytes of DER.
    pub const MAX_LEN: usize = 64 * 1024;

    /// Reads DER; bytes after the certificate are refused.
    ///
    /// # Errors
    ///
    /// Too long, not DER, or a key that cannot be used here.
    pub fn from_der(der: &[u8]) -> Result<Self, CertificateError> {
        if der.len() > Self::MAX_LEN {
            return Err(too_long(der.len()));
        }
        let certificate = x509_cert::Certificate::from_der(der)?;
        let tbs = certificate.tbs_certificate();
        let spki_der = tbs.subject_public_key_info().to_der()?;
        let (dns_names, uris) = alternative_names(tbs)?;
        Ok(Self {
            der: der.to_vec(),
            public_key: PublicKey::from_spki_der(&spki_der).map_err(CertificateError::Key)?,
            serial: tbs.serial_number().as_bytes().to_vec(),
            subject: tbs.subject().to_string(),
            subject_der: tbs.subject().to_der()?,
            issuer: tbs.issuer().to_string(),
            not_before: time::clamped(&tbs.validity().not_before),
            not_after: time::clamped(&tbs.validity().not_after),
            common_names: common_names(tbs),
            dns_names,
            uris,
        })
    }

    /// Reads one PEM `CERTIFICATE`.
    ///
    /// # Errors
    ///
    /// Not such a PEM text, or as [`from_der`](Self::from_der).
    pub fn from_pem(text: &str) -> Result<Self, CertificateError> {
        if text.len() > 2 * Self::MAX_LEN {
            return Err(too_long(text.len()));
        }
        let der = super::from_pem(text, &["CERTIFICATE"]).map_err(CertificateError::Malformed)?;
        Self::from_der(&der)
    }

    /// The DER that it was read from.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The certified key.
    pub fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// The octets of the serial number's DER integer, big-endian.
    pub fn serial(&self) -> &[u8] {
        &self.serial
    }

    /// The subject's distinguished name (RFC 4514); may be empty.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// Whether its subject is, byte for byte, this name as this crate writes it.
    pub fn is_named(&self, name: &DistinguishedName) -> bool {
        extension::distinguished_name(name).is_ok_and(|der| der == self.subject_der)
    }

    /// How many CAs may stand below it; `None` for any number.
    ///
    /// # Errors
    ///
    /// It is no CA's; says why.
    pub fn ca_path_length(&self) -> Result<Option<u8>, String> {
        let certificate = super::read_strictly(&self.der).map_err(|error| error.to_string())?;
        let constraints = super::ca_constraints(certificate.tbs_certificate());
        Ok(constraints.map_err(|error| error.to_string())?.0)
    }

    /// Whether its issuer has the name of its subject.
    pub fn is_self_issued(&self) -> bool {
        self.subject == self.issuer
    }

    /// Checks that this certificate was issued by that one: its name, and the signature (RFC 5280
    /// section 6.1.3 (a) (1) and (4)). Neither validity nor constraints.
    ///
    /// # Errors
    ///
    /// It was not; says what is wrong.
    pub fn check_signed_by(&self, signer: &Self) -> Result<(), String> {
        let certificate =
            x509_cert::Certificate::from_der(&self.der).map_err(|error| error.to_string())?;
        let tbs = certificate.tbs_certificate();
        if tbs.issuer().to_der().ok().as_ref() != Some(&signer.subject_der) {
            return Err(format!("its issuer is {}, not {}", self.issuer, signer.subject));
        }
        let verified = || {
            let identifier = certificate.signature_algorithm().to_der().ok()?;
            let scheme = algorithm::scheme(&identifier)?;
            let key = &signer.public_key;
            let value = certificate.signature().as_bytes()?;
            let signature = algorithm::decode_signature(key.algorithm(), value)?;
            key.verify(scheme, &tbs.to_der().ok()?, &signature).ok()
        };
        verified().ok_or_else(|| "its signature does not verify under its issuer's key".to_owned())
    }

    /// Whether these bytes are a certificate that was made in a rehearsal.
    pub fn is_poisoned(der: &[u8]) -> bool {
        x509_cert::Certificate::from_der(der).is_ok_and(|certificate| {
            let extensions = certificate.tbs_certificate().extensions();
            extensions.into_iter().flatten().any(|it| it.extn_id == oid::POISON)
        })
    }

    /// The issuer's distinguished name (RFC 4514).
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The first second of its validity.
    pub fn not_before(&self) -> Timestamp {
        self.not_before
    }

    /// The last second of its validity; [`Timestamp::MAX`] for "no expiry".
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// The common names of its subject. Only certificates of other CAs need them.
    pub fn common_names(&self) -> &[String] {
        &self.common_names
    }

    /// The DNS names of its subject alternative names, as they stand there.
    pub fn dns_names(&self) -> &[String] {
        &self.dns_names
    }

    /// The URIs of its subject alternative names, as they stand there.
    pub fn uris(&self) -> &[String] {
        &self.uris
    }

    /// Its SPIFFE id: there is one only if it is the one URI (X509-SVID section 2).
    pub fn spiffe_id(&self) -> Option<SpiffeId> {
        match self.uris.as_slice() {
            [uri] => uri.parse().ok(),
            _ => None,
        }
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let serial = hex::encode(&self.serial);
        write!(f, "Certificate({serial} of {:?} by {:?})", self.subject, self.issuer)
    }
}

impl From<der::Error> for CertificateError {
    fn from(error: der::Error) -> Self {
        Self::Malformed(error.to_string())
    }
}

fn too_long(len: usize) -> CertificateError {
    let most = Certificate::MAX_LEN;
    CertificateError::Malformed(format!("it has {len} bytes; {most} of DER are allowed"))
}

/// The DNS names and URIs of the subject alternative names.
fn alternative_names(tbs: &x509_cert::TbsCertificate) -> der::Result<(Vec<String>, Vec<String>)> {
    let names = tbs.get_extension::<SubjectAltName>()?.map(|(_, names)| names.0);
    let (mut dns_names, mut uris) = (Vec::new(), Vec::new());
    for name in names.unwrap_or_default() {
        match name {
            GeneralName::DnsName(name) => dns_names.push(name.as_str().to_owned()),
            GeneralName::UniformResourceIdentifier(uri) => uris.push(uri.as_str().to_owned()),
            _ => {}
        }
    }
    Ok((dns_names, uris))
}

/// Values of string types that are not UTF-8 (BMPString and its like) are left out: nothing
/// matches what is not read.
fn common_names(tbs: &x509_cert::TbsCertificate) -> Vec<String> {
    let common = tbs.subject().iter().filter(|attribute| attribute.oid == oid::COMMON_NAME);
    common.filter_map(|attribute| text(&attribute.value)).collect()
}

fn text(value: &Any) -> Option<String> {
    match value.tag() {
        Tag::PrintableString | Tag::Utf8String | Tag::Ia5String => {
            std::str::from_utf8(value.value()).ok().map(str::to_owned)
        }
        _ => None,
    }
}
