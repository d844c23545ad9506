//! The online certificate status protocol (RFC 6960, RFC 9654): requests are read, responses
//! prepared.
//!
//! A response is signed by a delegated signer (RFC 6960 section 4.2.2.2): the publication key, with a
//! short-lived certificate of each issuer ([`Profile::OcspSigner`](super::Profile::OcspSigner)).
//! What it signs begins with the DER tag `30`, and so is never taken for another text.

mod request;
mod response;

use std::collections::BTreeMap;

use der::Encode;
use jiff::Timestamp;
use sha2::Digest as _;
use thiserror::Error;

pub use request::{CertificateId, Request, RequestError};
pub(crate) use response::assemble;

use super::{Issuer, algorithm, crl::Reason, lint};
use crate::{
    keys::{PublicKey, SignatureScheme},
    seal::{Envelope, Kind, Prepared},
    serial::X509Serial,
    token::PublicationKey,
};

/// Answers for one issuer.
#[derive(Clone, Debug)]
pub struct Responder {
    key: PublicationKey,
    scheme: SignatureScheme,
    /// Of the delegated signer, DER: goes with each response.
    certificate_der: Vec<u8>,
    not_before: Timestamp,
    not_after: Timestamp,
    issuer: IssuerHashes,
}

/// What a certificate's status is. One that was never issued has none.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Status {
    /// It was issued and not revoked.
    Good,
    /// It was issued, and revoked since.
    Revoked {
        /// Since when.
        at: Timestamp,
        /// Why.
        reason: Reason,
    },
}

/// What a response says of itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Summary {
    /// When it was made, in whole seconds.
    pub this_update: Timestamp,
    /// The last second for which it may be kept.
    pub next_update: Timestamp,
    /// Whether it repeats a nonce: such a response is for one request, and never kept.
    pub has_nonce: bool,
}

/// A response that is not signed, since it says nothing of a certificate (RFC 6960 section 4.2.1).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// The request cannot be read.
    MalformedRequest,
    /// The responder fails.
    InternalError,
    /// The responder cannot answer now.
    TryLater,
    /// The request is for another issuer's certificates.
    Unauthorized,
}

/// A certificate and its key make no responder.
#[derive(Clone, Debug, Error, Eq, PartialEq)]
pub enum ResponderError {
    /// It cannot be read, or its signature is not the issuer's.
    #[error("the OCSP signer's certificate is not one of the issuer's: {0}")]
    Certificate(String),
    /// It breaks a rule of its profile.
    #[error("the OCSP signer's certificate breaks a rule")]
    Lint(#[source] lint::Findings),
    /// It is for another use, or for another key.
    #[error("the certificate is not for OCSP signing with key {label}")]
    Misfit {
        /// The publication key.
        label: String,
    },
}

/// No response can be prepared.
#[derive(Clone, Debug, Error, Eq, PartialEq)]
pub enum ResponseError {
    /// The request asks for another issuer's certificates: [`Refusal::Unauthorized`].
    #[error("the request is for another issuer's certificates")]
    AnotherIssuer,
    /// A time cannot be written, or none of them would be good.
    #[error("the response cannot be written: {0}")]
    Malformed(String),
    /// The signer's certificate is not valid at this time.
    #[error("the OCSP signer's certificate is valid from {not_before} to {not_after}, not now")]
    SignerNotValid {
        /// First second.
        not_before: Timestamp,
        /// Last second.
        not_after: Timestamp,
    },
}

impl Responder {
    /// The responder of an issuer, by the signer's certificate (DER) and the publication key.
    ///
    /// # Errors
    ///
    /// The certificate is not one of this issuer's by the profile of OCSP signers, or is for
    /// another key.
    pub fn new(
        key: PublicationKey,
        certificate_der: Vec<u8>,
        issuer: &Issuer,
    ) -> Result<Self, ResponderError> {
        let public_key = &key.key().public_key;
        let signed = verified_tbs(&certificate_der, issuer)?;
        let summary = lint::check(&signed, issuer, None).map_err(ResponderError::Lint)?;
        let is_its = summary.key_fingerprint == public_key.fingerprint();
        if summary.kind != Kind::OcspSigner || !is_its {
            return Err(ResponderError::Misfit { label: key.key().label.to_string() });
        }
        Ok(Self {
            scheme: public_key.default_scheme(),
            certificate_der,
            not_before: summary.not_before,
            not_after: summary.not_after,
            issuer: IssuerHashes::new(&issuer.name, &issuer.key.key().public_key),
            key,
        })
    }

    /// The last second of the signer's certificate.
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// Builds the to-be-signed bytes of a response to a request: with the status of each
    /// certificate, or `unknown` for those without one, and with the request's nonce.
    ///
    /// `next_update` is by when there will be another answer; never after the end of the signer's
    /// certificate.
    ///
    /// # Errors
    ///
    /// The request is for another issuer's certificates, or the signer's certificate is not valid;
    /// nothing may be signed.
    pub fn prepare(
        &self,
        request: &Request,
        statuses: &BTreeMap<X509Serial, Status>,
        this_update: Timestamp,
        next_update: Timestamp,
    ) -> Result<Prepared<Summary>, ResponseError> {
        let Self { not_before, not_after, .. } = *self;
        if this_update < not_before || this_update.as_second() > not_after.as_second() {
            return Err(ResponseError::SignerNotValid { not_before, not_after });
        }
        if !request.certificates().iter().all(|id| self.issuer.issued(id)) {
            return Err(ResponseError::AnotherIssuer);
        }
        let next_update = next_update.min(not_after);
        let (bytes, summary) = response::Answers { request, statuses, this_update, next_update }
            .to_be_signed(&self.key.key().public_key)?;
        let envelope = Envelope::Ocsp { certificate_der: self.certificate_der.clone() };
        Ok(Prepared::new(self.key.clone(), self.scheme, bytes, envelope, summary))
    }
}

impl Refusal {
    /// The whole response.
    pub fn to_der(self) -> [u8; 5] {
        let status = match self {
            Self::MalformedRequest => 1,
            Self::InternalError => 2,
            Self::TryLater => 3,
            Self::Unauthorized => 6,
        };
        // SEQUENCE of one ENUMERATED.
        [0x30, 0x03, 0x0a, 0x01, status]
    }
}

/// The signed part of a certificate that the issuer has signed.
fn verified_tbs(certificate_der: &[u8], issuer: &Issuer) -> Result<Vec<u8>, ResponderError> {
    let wrong = |what: String| ResponderError::Certificate(what);
    let certificate =
        super::read_strictly(certificate_der).map_err(|error| wrong(error.to_string()))?;
    let verified = || {
        let identifier = certificate.signature_algorithm().to_der().ok()?;
        let scheme = algorithm::scheme(&identifier)?;
        let key = &issuer.key.key().public_key;
        let value = certificate.signature().as_bytes()?;
        let signature = algorithm::decode_signature(key.algorithm(), value)?;
        let signed = certificate.tbs_certificate().to_der().ok()?;
        key.verify(scheme, &signed, &signature).ok()?;
        Some(signed)
    };
    verified().ok_or_else(|| wrong("its signature does not verify".to_owned()))
}

/// The hashes of an issuer's name and key, by which requests name it (RFC 6960 section 4.1.1).
#[derive(Clone, Debug)]
struct IssuerHashes {
    sha1: Hashes,
    sha256: Hashes,
}

/// Of the name and of the key, by one algorithm.
type Hashes = (Vec<u8>, Vec<u8>);

impl IssuerHashes {
    fn new(name: &[u8], key: &PublicKey) -> Self {
        let sha1 = |bytes| sha1::Sha1::digest(bytes).to_vec();
        let sha256 = |bytes| sha2::Sha256::digest(bytes).to_vec();
        Self { sha1: (sha1(name), sha1(key.bits())), sha256: (sha256(name), sha256(key.bits())) }
    }

    fn issued(&self, id: &CertificateId) -> bool {
        [&self.sha1, &self.sha256].into_iter().any(|(name, key)| id.is_of(name, key))
    }
}
