//! X.509 (RFC 5280): certificates by profiles, their linting, signing requests, revocation lists.

pub(crate) mod algorithm;
pub mod attestation;
mod build;
pub mod certificate;
pub mod cms;
pub mod crl;
pub mod csr;
mod extension;
pub mod fields;
pub mod lint;
pub mod list;
pub mod logon;
pub mod ocsp;
mod oid;
pub mod profile;
mod time;

use base64ct::{Base64, Encoding};
use der::{
    Decode, Encode,
    pem::{self, LineEnding},
};
use jiff::Timestamp;
use thiserror::Error;
use x509_cert::ext::{
    Extension,
    pkix::{BasicConstraints, KeyUsage, SubjectKeyIdentifier},
};

pub use algorithm::{decode_signature, encode_signature};
pub use certificate::Certificate;
pub use profile::Profile;

use crate::{
    keys::{PublicKey, Signature, SignatureScheme},
    names::{DistinguishedName, HttpUrl, Oid},
    seal::{Envelope, Prepared, Sealed},
    serial::X509Serial,
    token::IssuingKey,
};

/// A CA that signs X.509 certificates.
///
/// Its certificate is parsed once; what goes into every certificate stands here encoded.
#[derive(Clone, Debug)]
pub struct Issuer {
    key: IssuingKey,
    scheme: SignatureScheme,
    standing: Standing,
    /// The subject of its certificate, DER: the issuer of all that it signs.
    name: Vec<u8>,
    /// Authority key identifier, CRL distribution points, authority information access.
    extensions: Vec<Extension>,
    /// What it signs is for nobody to use.
    rehearses: bool,
}

/// Whether there is a certificate of the issuer yet.
#[derive(Clone, Debug)]
enum Standing {
    /// A root that is about to sign itself, and may sign nothing else.
    Aspirant,
    /// A CA with its certificate.
    Certified {
        certificate_der: Vec<u8>,
        key_identifier: Vec<u8>,
        not_after: Timestamp,
        path_len: Option<u8>,
        /// Whether its key usage says cRLSign.
        signs_crls: bool,
    },
}

/// Where relying parties find what an issuer publishes.
#[derive(Clone, Debug, Default, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct Publication {
    /// CRL distribution point (RFC 5280 section 4.2.1.13). The smart-card and KDC profiles demand it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crl_url: Option<HttpUrl>,
    /// Where the issuer's certificate is (id-ad-caIssuers).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer_url: Option<HttpUrl>,
    /// The OCSP responder (id-ad-ocsp).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ocsp_url: Option<HttpUrl>,
}

/// An X.509 certificate to be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Template {
    /// Unique per issuer.
    pub serial: X509Serial,
    /// The subject's name; empty is allowed where the profile carries SANs.
    pub subject: Option<DistinguishedName>,
    /// The key to be certified.
    pub public_key: PublicKey,
    /// First second of validity.
    pub not_before: Timestamp,
    /// Last second of validity.
    pub not_after: Timestamp,
    /// What the certificate is for, with the names that it is for.
    pub profile: Profile,
    /// Certificate policies (RFC 5280 section 4.2.1.4).
    pub policies: Vec<Oid>,
}

impl Issuer {
    /// A CA by its certificate (DER) and its key in the token.
    ///
    /// # Errors
    ///
    /// The certificate is malformed, no CA's, of another key, or of a rehearsal.
    pub fn new(
        certificate_der: Vec<u8>,
        key: IssuingKey,
        publication: Publication,
    ) -> Result<Self, IssuerError> {
        if Certificate::is_poisoned(&certificate_der) {
            return Err(IssuerError::Rehearsed);
        }
        Self::certified(certificate_der, key, publication)
    }

    /// As [`new`](Self::new), for a rehearsal: the certificate may be one that was made in it, and
    /// what this issuer signs is marked with a critical extension that nobody takes.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new), but for rehearsed certificates.
    pub fn rehearsed(
        certificate_der: Vec<u8>,
        key: IssuingKey,
        publication: Publication,
    ) -> Result<Self, IssuerError> {
        Ok(Self::certified(certificate_der, key, publication)?.rehearsing())
    }

    /// Marks what this issuer signs with a critical extension that nobody takes.
    #[must_use]
    pub fn rehearsing(self) -> Self {
        Self { rehearses: true, ..self }
    }

    fn certified(
        certificate_der: Vec<u8>,
        key: IssuingKey,
        publication: Publication,
    ) -> Result<Self, IssuerError> {
        let certificate = read_strictly(&certificate_der)?;
        let tbs = certificate.tbs_certificate();
        if tbs.subject_public_key_info().to_der()? != key.key().public_key.spki_der() {
            return Err(IssuerError::OtherKey { label: key.key().label.to_string() });
        }
        let (path_len, signs_crls) = ca_constraints(tbs)?;
        if tbs.subject().is_empty() {
            return Err(IssuerError::NotCa("its subject is empty".to_owned()));
        }
        let key_identifier = ca_key_identifier(tbs)?;
        let mut extensions = vec![extension::authority_key_identifier(&key_identifier)?];
        extensions.extend(extension::publication(&publication)?);
        Ok(Self {
            scheme: key.key().public_key.default_scheme(),
            key,
            name: tbs.subject().to_der()?,
            extensions,
            rehearses: false,
            standing: Standing::Certified {
                not_after: time::clamped(&tbs.validity().not_after),
                key_identifier,
                path_len,
                signs_crls,
                certificate_der,
            },
        })
    }

    /// A root that is about to sign itself: the issuer of its own certificate, and of nothing
    /// else. For what stands below it, take [`new`](Self::new) with the sealed certificate.
    pub fn self_signed(subject: DistinguishedName, key: IssuingKey) -> Self {
        Self {
            scheme: key.key().public_key.default_scheme(),
            key,
            // A name that has no encoding is left empty, and the lint refuses an empty name.
            name: extension::distinguished_name(&subject).unwrap_or_else(|_| EMPTY_NAME.to_vec()),
            extensions: Vec::new(),
            rehearses: false,
            standing: Standing::Aspirant,
        }
    }

    /// Signs with another scheme than the key's default: RSA with PSS instead of PKCS#1 v1.5
    /// (never for the Windows profiles), or with a longer hash. The lint refuses a scheme that
    /// does not fit the key.
    #[must_use]
    pub fn with_scheme(self, scheme: SignatureScheme) -> Self {
        Self { scheme, ..self }
    }

    /// How many CAs may stand below it; `None` for any number.
    pub fn path_length(&self) -> Option<u8> {
        match self.standing {
            Standing::Aspirant => None,
            Standing::Certified { path_len, .. } => path_len,
        }
    }

    /// The CA's key.
    pub fn key(&self) -> &IssuingKey {
        &self.key
    }

    /// The CA's certificate, DER; empty for a root that has not signed itself yet.
    pub fn certificate_der(&self) -> &[u8] {
        match &self.standing {
            Standing::Aspirant => &[],
            Standing::Certified { certificate_der, .. } => certificate_der,
        }
    }

    /// Last second of the CA's own validity; what it signs never outlives it. A root that has not
    /// signed itself yet has no bound.
    pub fn not_after(&self) -> Timestamp {
        match self.standing {
            Standing::Aspirant => Timestamp::MAX,
            Standing::Certified { not_after, .. } => not_after,
        }
    }

    /// Builds the to-be-signed bytes and lints them.
    ///
    /// # Errors
    ///
    /// The template breaks a rule of its profile; nothing may be signed.
    pub fn prepare(&self, template: Template) -> Result<Prepared, lint::Findings> {
        let bytes = build::to_be_signed(self, &template)
            .map_err(|error| lint::Findings::of("template-encodable", error.to_string()))?;
        let summary = lint::check(&bytes, self, Some(&template))?;
        Ok(self.prepared(bytes, summary))
    }

    /// Takes up to-be-signed bytes again that [`prepare`](Self::prepare) made and that were stored
    /// as an intent; lints them again.
    ///
    /// # Errors
    ///
    /// They are not of this CA, or break a rule.
    pub fn resume(&self, bytes: Vec<u8>) -> Result<Prepared, lint::Findings> {
        let summary = lint::check(&bytes, self, None)?;
        Ok(self.prepared(bytes, summary))
    }

    /// Takes up a certificate (DER) that this CA has signed; lints and verifies it as a new one.
    /// Nothing for any other.
    pub fn recognise(&self, certificate_der: &[u8]) -> Option<Recognised> {
        let certificate = read_strictly(certificate_der).ok()?;
        let key = &self.key.key().public_key;
        let value = certificate.signature().as_bytes()?;
        let signature = algorithm::decode_signature(key.algorithm(), value)?;
        let text = certificate.tbs_certificate().to_der().ok()?;
        let sealed = self.resume(text.clone()).ok()?.seal(signature).ok()?;
        // Another scheme or another writing of the signature would be another certificate.
        (sealed.bytes() == certificate_der).then_some(Recognised { text, sealed })
    }

    fn prepared(&self, bytes: Vec<u8>, summary: crate::seal::Summary) -> Prepared {
        Prepared::new(self.key.clone(), self.scheme, bytes, Envelope::Asn1, summary)
    }
}

/// A certificate that its CA knows again.
#[derive(Clone, Debug)]
pub struct Recognised {
    /// The bytes that were signed.
    pub text: Vec<u8>,
    /// The whole.
    pub sealed: Sealed,
}

/// A certificate cannot be an issuer's.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum IssuerError {
    /// It is not DER of a certificate.
    #[error("the issuer's certificate cannot be read: {0}")]
    Malformed(String),
    /// It does not say CA:TRUE and keyCertSign.
    #[error("the issuer's certificate is not a CA's: {0}")]
    NotCa(String),
    /// It was made in a rehearsal, and is for nobody to use.
    #[error("the issuer's certificate was made in a rehearsal of a key ceremony")]
    Rehearsed,
    /// It certifies another key than the one in the token.
    #[error("the issuer's certificate is for another key than {label}")]
    OtherKey {
        /// The key in the token.
        label: String,
    },
}

impl From<der::Error> for IssuerError {
    fn from(error: der::Error) -> Self {
        Self::Malformed(error.to_string())
    }
}

/// PEM (`CERTIFICATE`) of a DER certificate.
pub fn to_pem(certificate_der: &[u8]) -> String {
    // The encoder fails only on labels of its own kind and on lengths beyond the address space.
    pem::encode_string("CERTIFICATE", LineEnding::LF, certificate_der).unwrap_or_default()
}

/// The certificates of a file (DER), in their order: PEM, one after another; DER, one; or LDIF, the
/// values of `cACertificate`, as a directory exports NTAuthCertificates.
///
/// # Errors
///
/// There is none in it, or something that cannot be read.
pub fn read_certificates(bytes: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    if bytes.first() == Some(&algorithm::SEQUENCE) {
        return Ok(vec![bytes.to_vec()]);
    }
    let text = std::str::from_utf8(bytes).map_err(|_| "it is neither text nor DER".to_owned())?;
    let found = if text.contains(PEM_BEGIN) { from_pem_bundle(text)? } else { from_ldif(text)? };
    if found.is_empty() { Err("there is no certificate in it".to_owned()) } else { Ok(found) }
}

fn from_pem_bundle(text: &str) -> Result<Vec<Vec<u8>>, String> {
    let mut found = Vec::new();
    for part in text.split(PEM_BEGIN).skip(1) {
        let end = part.find(PEM_END).ok_or("a certificate has no end")? + PEM_END.len();
        found.push(from_pem(&format!("{PEM_BEGIN}{}", &part[..end]), &["CERTIFICATE"])?);
    }
    Ok(found)
}

/// RFC 2849: a value in base64 follows two colons, and goes on in lines that begin with a space.
fn from_ldif(text: &str) -> Result<Vec<Vec<u8>>, String> {
    let unfolded = text.replace("\r\n", "\n").replace("\n ", "");
    let values = unfolded.lines().filter_map(|line| {
        let (name, value) = line.split_once("::")?;
        let name = name.split(';').next().unwrap_or_default();
        name.eq_ignore_ascii_case("cACertificate").then(|| value.trim())
    });
    let decode = |value| Base64::decode_vec(value).map_err(|error| format!("base64: {error}"));
    values.map(decode).collect()
}

/// The DER in a PEM text of one of these labels. Text before it (`openssl -text`, `certtool`), lines
/// of any one width and blank lines after it are taken (RFC 7468 section 2, "lax").
fn from_pem(text: &str, labels: &[&str]) -> Result<Vec<u8>, String> {
    let not_pem = |error: pem::Error| format!("not PEM: {error}");
    let mut decoder = pem::Decoder::new_detect_wrap(text.trim_end().as_bytes()).map_err(not_pem)?;
    if !labels.contains(&decoder.type_label()) {
        return Err(format!("it is a PEM {}, not a {}", decoder.type_label(), labels[0]));
    }
    let mut der = Vec::new();
    decoder.decode_to_end(&mut der).map_err(not_pem)?;
    Ok(der)
}

/// `SIGNED{…}` (RFC 5280 section 4.1): the bytes, the algorithm, the signature.
pub(crate) fn assemble(bytes: &[u8], scheme: SignatureScheme, signature: &Signature) -> Vec<u8> {
    let value = algorithm::encode_signature(scheme, signature);
    // No bits of the last octet are unused.
    let bit_string = algorithm::tlv(algorithm::BIT_STRING, &[&[0], value.as_slice()].concat());
    let content = [bytes, algorithm::identifier(scheme), &bit_string].concat();
    algorithm::tlv(algorithm::SEQUENCE, &content)
}

const PEM_BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const PEM_END: &str = "-----END CERTIFICATE-----";

/// An empty RDNSequence.
const EMPTY_NAME: &[u8] = &[0x30, 0x00];

/// Refuses all that is not DER, so that re-encoded parts are the received bytes: the issuer's name
/// must be byte for byte the subject of this certificate.
fn read_strictly(certificate_der: &[u8]) -> Result<x509_cert::Certificate, IssuerError> {
    let certificate = x509_cert::Certificate::from_der(certificate_der)?;
    if certificate.to_der()? != certificate_der {
        return Err(IssuerError::Malformed("it is BER, not DER".to_owned()));
    }
    Ok(certificate)
}

/// The path length constraint of a certificate that says CA:TRUE and keyCertSign, and whether it
/// says cRLSign as well.
fn ca_constraints(tbs: &x509_cert::TbsCertificate) -> Result<(Option<u8>, bool), IssuerError> {
    let constraints = tbs.get_extension::<BasicConstraints>()?;
    let Some((_, BasicConstraints { ca: true, path_len_constraint })) = constraints else {
        return Err(IssuerError::NotCa("its basic constraints do not say CA:TRUE".to_owned()));
    };
    match tbs.get_extension::<KeyUsage>()? {
        Some((_, usage)) if usage.key_cert_sign() => Ok((path_len_constraint, usage.crl_sign())),
        _ => Err(IssuerError::NotCa("its key usage does not say keyCertSign".to_owned())),
    }
}

fn ca_key_identifier(tbs: &x509_cert::TbsCertificate) -> Result<Vec<u8>, IssuerError> {
    match tbs.get_extension::<SubjectKeyIdentifier>()? {
        Some((_, identifier)) if !identifier.0.as_bytes().is_empty() => {
            Ok(identifier.0.as_bytes().to_vec())
        }
        _ => Err(IssuerError::NotCa(
            "it has no subject key identifier (RFC 5280 section 4.2.1.2)".to_owned(),
        )),
    }
}

#[cfg(test)]
mod tests;
