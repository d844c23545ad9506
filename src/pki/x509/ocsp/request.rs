//! Requests, read strictly and within bounds: anybody may send one.

use base64ct::{Base64, Encoding as _};
use const_oid::ObjectIdentifier;
use der::{
    Decode, Encode, Sequence,
    asn1::{AnyRef, IntRef, OctetStringRef},
};
use spki::AlgorithmIdentifierRef;
use thiserror::Error;
use x509_cert::ext::Extension;

use super::super::{lint, oid};
use crate::serial::X509Serial;

/// What a relying party asks.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Request {
    certificates: Vec<CertificateId>,
    nonce: Option<Vec<u8>>,
}

/// How a request names a certificate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CertificateId {
    /// As it stood in the request: a response repeats it.
    der: Vec<u8>,
    /// By one of the hash algorithms that are known here.
    hashes_are_known: bool,
    issuer_name_hash: Vec<u8>,
    issuer_key_hash: Vec<u8>,
    /// `None` for one that is never issued here.
    serial: Option<X509Serial>,
}

/// A request cannot be read: the answer is [`Refusal::MalformedRequest`](super::Refusal).
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum RequestError {
    /// It is not base64 in the path of a URL (RFC 6960 appendix A.1).
    #[error("the path of an OCSP request is not base64")]
    Base64,
    /// An extension is critical and not known.
    #[error("an OCSP request has a critical extension that is not known")]
    Critical,
    /// It is not DER of a request of version 1.
    #[error("an OCSP request is malformed: {0}")]
    Malformed(String),
    /// Its nonce has none, or more than 128 bytes, or there are several (RFC 9654 section 2.1).
    #[error("an OCSP request's nonce has 1 to {most} bytes", most = Request::MAX_NONCE_LEN)]
    Nonce,
    /// It is longer than what is read here.
    #[error(
        "an OCSP request has at most {length} bytes and asks for 1 to {most} certificates",
        length = Request::MAX_LEN,
        most = Request::MAX_CERTIFICATES
    )]
    TooLong,
}

impl Request {
    /// The longest request that is read, in bytes of DER.
    pub const MAX_LEN: usize = 4096;

    /// At most so many certificates are asked for in one request.
    pub const MAX_CERTIFICATES: usize = 16;

    /// The longest nonce (RFC 9654 section 2.1).
    pub const MAX_NONCE_LEN: usize = 128;

    /// Reads the body of a POST.
    ///
    /// # Errors
    ///
    /// It is malformed or too long, or has a critical extension that is not known.
    pub fn from_der(der: &[u8]) -> Result<Self, RequestError> {
        if der.len() > Self::MAX_LEN {
            return Err(RequestError::TooLong);
        }
        // A signature of the requester is allowed, and says nothing here.
        let OcspRequest { tbs_request: request, .. } = OcspRequest::from_der(der)?;
        if request.version != VERSION_1 {
            return Err(RequestError::Malformed("it is not of version 1".to_owned()));
        }
        if !(1..=Self::MAX_CERTIFICATES).contains(&request.request_list.len()) {
            return Err(RequestError::TooLong);
        }
        let certificates = request.request_list.iter().map(CertificateId::read);
        let certificates = certificates.collect::<Result<_, _>>()?;
        let nonce = nonce(request.request_extensions.as_deref().unwrap_or_default())?;
        Ok(Self { certificates, nonce })
    }

    /// Reads what follows the responder's URL and a slash in a GET (RFC 6960 appendix A.1): base64,
    /// with or without its percent-encoding.
    ///
    /// # Errors
    ///
    /// As [`from_der`](Self::from_der), or it is not base64.
    pub fn from_path(path: &str) -> Result<Self, RequestError> {
        // Base64 needs four characters for three bytes, percent-encoding three for one.
        if path.len() > 4 * Self::MAX_LEN {
            return Err(RequestError::TooLong);
        }
        let text = percent_decoded(path).ok_or(RequestError::Base64)?;
        Self::from_der(&Base64::decode_vec(&text).map_err(|_| RequestError::Base64)?)
    }

    /// The certificates that it asks for.
    pub fn certificates(&self) -> &[CertificateId] {
        &self.certificates
    }

    /// The serial numbers that it asks for, of those that may have been issued.
    pub fn serials(&self) -> impl Iterator<Item = X509Serial> {
        self.certificates.iter().filter_map(|id| id.serial)
    }

    /// What the response repeats, so that no older one can be given for it.
    pub fn nonce(&self) -> Option<&[u8]> {
        self.nonce.as_deref()
    }
}

impl CertificateId {
    fn read(request: &OneRequest<'_>) -> Result<Self, RequestError> {
        check_critical(request.single_request_extensions.as_deref().unwrap_or_default(), &[])?;
        let der = request.req_cert.to_der()?;
        let id = CertId::from_der(&der)?;
        let parameters = id.hash_algorithm.parameters;
        Ok(Self {
            hashes_are_known: HASHES.contains(&id.hash_algorithm.oid)
                && parameters.is_none_or(|parameters| parameters == AnyRef::NULL),
            issuer_name_hash: id.issuer_name_hash.as_bytes().to_vec(),
            issuer_key_hash: id.issuer_key_hash.as_bytes().to_vec(),
            serial: lint::sixteen_octets(id.serial_number.as_bytes()),
            der,
        })
    }

    /// The serial number; `None` for one that is never issued here.
    pub fn serial(&self) -> Option<X509Serial> {
        self.serial
    }

    /// As it stood in the request, DER.
    pub(super) fn der(&self) -> &[u8] {
        &self.der
    }

    /// The lengths tell hashes of different algorithms apart.
    pub(super) fn is_of(&self, name_hash: &[u8], key_hash: &[u8]) -> bool {
        self.hashes_are_known
            && self.issuer_name_hash == name_hash
            && self.issuer_key_hash == key_hash
    }
}

impl From<der::Error> for RequestError {
    fn from(error: der::Error) -> Self {
        Self::Malformed(error.to_string())
    }
}

/// RFC 6960 section 4.1.1.
#[derive(Sequence)]
struct OcspRequest<'a> {
    tbs_request: TbsRequest<'a>,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    optional_signature: Option<AnyRef<'a>>,
}

#[derive(Sequence)]
struct TbsRequest<'a> {
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", default = "version_1")]
    version: u8,
    #[asn1(context_specific = "1", tag_mode = "EXPLICIT", optional = "true")]
    requestor_name: Option<AnyRef<'a>>,
    request_list: Vec<OneRequest<'a>>,
    #[asn1(context_specific = "2", tag_mode = "EXPLICIT", optional = "true")]
    request_extensions: Option<Vec<Extension>>,
}

#[derive(Sequence)]
struct OneRequest<'a> {
    req_cert: AnyRef<'a>,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    single_request_extensions: Option<Vec<Extension>>,
}

#[derive(Sequence)]
struct CertId<'a> {
    hash_algorithm: AlgorithmIdentifierRef<'a>,
    issuer_name_hash: &'a OctetStringRef,
    issuer_key_hash: &'a OctetStringRef,
    serial_number: IntRef<'a>,
}

fn version_1() -> u8 {
    VERSION_1
}

fn nonce(extensions: &[Extension]) -> Result<Option<Vec<u8>>, RequestError> {
    check_critical(extensions, &[oid::OCSP_NONCE])?;
    let mut nonces = extensions.iter().filter(|extension| extension.extn_id == oid::OCSP_NONCE);
    let Some(extension) = nonces.next() else { return Ok(None) };
    let nonce = <&OctetStringRef>::from_der(extension.extn_value.as_bytes())?.as_bytes();
    if nonces.next().is_some() || !(1..=Request::MAX_NONCE_LEN).contains(&nonce.len()) {
        return Err(RequestError::Nonce);
    }
    Ok(Some(nonce.to_vec()))
}

/// RFC 6960 section 4.4: what is not known may be passed over only if it is not critical.
fn check_critical(
    extensions: &[Extension],
    known: &[ObjectIdentifier],
) -> Result<(), RequestError> {
    let passed_over =
        |extension: &Extension| !extension.critical || known.contains(&extension.extn_id);
    extensions.iter().all(passed_over).then_some(()).ok_or(RequestError::Critical)
}

/// RFC 3986 section 2.1, for ASCII only.
fn percent_decoded(path: &str) -> Option<String> {
    let mut decoded = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((plain, escaped)) = rest.split_once('%') {
        decoded.push_str(plain);
        let byte = u8::from_str_radix(escaped.get(..2)?, 16).ok().filter(u8::is_ascii)?;
        decoded.push(byte.into());
        rest = &escaped[2..];
    }
    decoded.push_str(rest);
    Some(decoded)
}

const VERSION_1: u8 = 0;
const HASHES: [ObjectIdentifier; 2] = [oid::SHA1, oid::SHA256];
