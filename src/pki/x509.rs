//! X.509 certificates (RFC 5280): profiles, linting, certificate signing requests.

pub mod csr;
pub mod lint;
pub mod profile;

use jiff::Timestamp;
use thiserror::Error;

pub use profile::Profile;

use crate::{
    keys::{PublicKey, Signature, SignatureScheme},
    names::{DistinguishedName, HttpUrl, Oid},
    seal::Prepared,
    serial::X509Serial,
    token::IssuingKey,
};

/// A CA that signs X.509 certificates.
#[derive(Clone, Debug)]
pub struct Issuer {}

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
    /// The certificate is malformed, no CA's, or of another key.
    pub fn new(
        certificate_der: Vec<u8>,
        key: IssuingKey,
        publication: Publication,
    ) -> Result<Self, IssuerError> {
        let _ = (certificate_der, key, publication);
        todo!()
    }

    /// A root that is about to sign itself: the issuer of its own certificate.
    pub fn self_signed(subject: DistinguishedName, key: IssuingKey) -> Self {
        let _ = (subject, key);
        todo!()
    }

    /// Signs RSA with PSS instead of PKCS#1 v1.5 (never for the Windows profiles).
    #[must_use]
    pub fn with_scheme(self, scheme: SignatureScheme) -> Self {
        let _ = scheme;
        todo!()
    }

    /// The CA's key.
    pub fn key(&self) -> &IssuingKey {
        todo!()
    }

    /// The CA's certificate, DER.
    pub fn certificate_der(&self) -> &[u8] {
        todo!()
    }

    /// Last second of the CA's own validity; leaves never outlive it.
    pub fn not_after(&self) -> Timestamp {
        todo!()
    }

    /// Builds the to-be-signed bytes and lints them.
    ///
    /// # Errors
    ///
    /// The template breaks a rule of its profile; nothing may be signed.
    pub fn prepare(&self, template: Template) -> Result<Prepared, lint::Findings> {
        let _ = template;
        todo!()
    }

    /// Takes up to-be-signed bytes again that [`prepare`](Self::prepare) made and that were stored
    /// as an intent; lints them again.
    ///
    /// # Errors
    ///
    /// They are not of this CA, or break a rule.
    pub fn resume(&self, bytes: Vec<u8>) -> Result<Prepared, lint::Findings> {
        let _ = bytes;
        todo!()
    }
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
    /// It certifies another key than the one in the token.
    #[error("the issuer's certificate is for another key than {label}")]
    OtherKey {
        /// The key in the token.
        label: String,
    },
}

/// PEM (`CERTIFICATE`) of a DER certificate.
pub fn to_pem(certificate_der: &[u8]) -> String {
    let _ = certificate_der;
    todo!()
}

pub(crate) fn assemble(bytes: &[u8], scheme: SignatureScheme, signature: &Signature) -> Vec<u8> {
    let _ = (bytes, scheme, signature);
    todo!()
}
