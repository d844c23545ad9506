//! Certificate signing requests (PKCS#10, RFC 2986): the proof that the requester has the key.

mod wishes;

use std::{collections::BTreeSet, net::IpAddr};

use der::{
    Decode, Encode,
    asn1::{AnyRef, BitStringRef},
    pem::{self, LineEnding},
};
use thiserror::Error;
use x509_cert::{
    ext::{Extension, pkix::name::GeneralName},
    request::CertReqInfo,
    spki::AlgorithmIdentifierRef,
};

pub use wishes::{Excess, Wishes};

use super::{EMPTY_NAME, algorithm, extension, oid};
use crate::{
    keys::{BadSignature, KeyAlgorithm, KeyError, PublicKey, Signature, SignatureScheme},
    names::{DistinguishedName, DnsName},
};

/// A request whose signature was verified: its key is the requester's.
#[derive(Clone, Debug)]
pub struct Csr {
    /// The key, checked as offered keys are.
    pub public_key: PublicKey,
    /// The subject that it asks for (RFC 4514); likewise means nothing by itself.
    pub subject: String,
    /// The DNS names that it asks for; they mean nothing unless the role says so.
    pub dns_names: BTreeSet<DnsName>,
    /// The addresses that it asks for; likewise.
    pub addresses: BTreeSet<IpAddr>,
    /// All that it asks for.
    pub wishes: Wishes,
}

impl Csr {
    /// The longest request that is looked at, in bytes of DER.
    pub const MAX_LEN: usize = 16 * 1024;

    /// Reads PEM (`CERTIFICATE REQUEST`).
    ///
    /// # Errors
    ///
    /// As [`from_der`](Self::from_der).
    pub fn from_pem(pem: &str) -> Result<Self, CsrError> {
        // Base64 takes 4 characters for 3 bytes; the rest is for line ends and the two labels.
        if pem.len() > 2 * Self::MAX_LEN {
            return Err(too_long(pem.len()));
        }
        let der = super::from_pem(pem, &PEM_LABELS).map_err(CsrError::Malformed)?;
        Self::from_der(&der)
    }

    /// Reads DER, verifies the proof of possession over the received bytes, checks the key.
    ///
    /// # Errors
    ///
    /// Too long, not DER, a key that is not certified, or a signature that does not verify.
    pub fn from_der(der: &[u8]) -> Result<Self, CsrError> {
        if der.len() > Self::MAX_LEN {
            return Err(too_long(der.len()));
        }
        let request = Request::from_der(der)?;
        // An element decodes only from the one DER header of its length, so that this is the
        // received text, whatever it holds.
        let signed = request.info.to_der()?;
        let info = CertReqInfo::from_der(&signed)?;
        if info.to_der()? != signed {
            return Err(CsrError::Malformed("it is BER, not DER".to_owned()));
        }
        let public_key = PublicKey::from_spki_der(&info.public_key.to_der()?)?;
        request.verify(&public_key, &signed)?;
        public_key.check_offered()?;
        let wishes = Wishes::new(requested_extensions(&info)?);
        let (dns_names, addresses) = wanted_names(&wishes)?;
        Ok(Self { public_key, subject: info.subject.to_string(), dns_names, addresses, wishes })
    }
}

/// A request for a key, to be signed by it wherever it is: no attribute, and no name but a CA's,
/// since the names of other certificates are the appliance's to decide.
#[derive(Debug)]
pub struct PreparedRequest {
    key: PublicKey,
    bytes: Vec<u8>,
}

impl PreparedRequest {
    /// Prepares the request for a key.
    pub fn new(key: PublicKey) -> Self {
        // RFC 2986 section 4.1: version 0, the empty name, the key, the empty set of attributes.
        let info = [VERSION_0, EMPTY_NAME, key.spki_der(), NO_ATTRIBUTES].concat();
        Self { key, bytes: algorithm::tlv(algorithm::SEQUENCE, &info) }
    }

    /// Prepares the request of a CA for its own certificate, with the name that it is to have.
    ///
    /// # Errors
    ///
    /// The name cannot be encoded.
    pub fn named(key: PublicKey, subject: &DistinguishedName) -> Result<Self, CsrError> {
        let name = extension::distinguished_name(subject)?;
        let info = [VERSION_0, &name, key.spki_der(), NO_ATTRIBUTES].concat();
        Ok(Self { key, bytes: algorithm::tlv(algorithm::SEQUENCE, &info) })
    }

    /// What is to be signed.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How it is to be signed.
    pub fn scheme(&self) -> SignatureScheme {
        self.key.default_scheme()
    }

    /// The request as PEM.
    ///
    /// # Errors
    ///
    /// The signature is not by the key.
    pub fn seal(self, signature: &Signature) -> Result<String, BadSignature> {
        let scheme = self.scheme();
        self.key.verify(scheme, &self.bytes, signature)?;
        let der = super::assemble(&self.bytes, scheme, signature);
        // The encoder fails only on labels of its own kind and on lengths beyond the address space.
        Ok(pem::encode_string(PEM_LABELS[0], LineEnding::LF, &der).unwrap_or_default())
    }
}

/// A request is refused.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum CsrError {
    /// The key may not be certified.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// It is not a certificate signing request.
    #[error("the certificate signing request cannot be read: {0}")]
    Malformed(String),
    /// The requester did not prove to have the key.
    #[error("the signature of the certificate signing request does not verify under its own key")]
    ProofOfPossession,
    /// It is signed in a way that is not verified here.
    #[error(
        "the certificate signing request is signed with {0}; sign it with SHA-256 (RSA, RSA-PSS \
         with a salt of the hash's length, P-256, P-384), SHA-384 (P-384), or Ed25519"
    )]
    SignatureAlgorithm(String),
}

impl From<der::Error> for CsrError {
    fn from(error: der::Error) -> Self {
        Self::Malformed(error.to_string())
    }
}

/// RFC 2986 section 4.2, of received parts.
#[derive(der::Sequence)]
struct Request<'a> {
    info: AnyRef<'a>,
    algorithm: AlgorithmIdentifierRef<'a>,
    signature: BitStringRef<'a>,
}

impl Request<'_> {
    fn verify(&self, key: &PublicKey, signed: &[u8]) -> Result<(), CsrError> {
        let value = self.signature.as_bytes().ok_or(CsrError::ProofOfPossession)?;
        let verified = if key.algorithm() == KeyAlgorithm::EcP384
            && self.algorithm.to_der()? == algorithm::ECDSA_SHA256
        {
            key.verify_p384_sha256(signed, value)
        } else {
            let scheme = self.scheme(key)?;
            algorithm::decode_signature(key.algorithm(), value)
                .ok_or(BadSignature)
                .and_then(|signature| key.verify(scheme, signed, &signature))
        };
        verified.map_err(|BadSignature| CsrError::ProofOfPossession)
    }

    /// The scheme of the signature, if it is one for this key.
    fn scheme(&self, key: &PublicKey) -> Result<SignatureScheme, CsrError> {
        let name = || {
            let oid = self.algorithm.oid;
            match SIGNATURE_NAMES.iter().find(|(known, _)| *known == oid.to_string()) {
                Some((_, name)) => format!("{name} over a {} key", key.algorithm()),
                None => format!("algorithm {oid} over a {} key", key.algorithm()),
            }
        };
        algorithm::scheme(&self.algorithm.to_der()?)
            .filter(|scheme| scheme.fits(key.algorithm()))
            .ok_or_else(|| CsrError::SignatureAlgorithm(name()))
    }
}

/// `NEW` is how Microsoft's certreq and old browsers begin (RFC 7468 section 7).
const VERSION_0: &[u8] = &[0x02, 0x01, 0x00];
const NO_ATTRIBUTES: &[u8] = &[0xa0, 0x00];
const PEM_LABELS: [&str; 2] = ["CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST"];

/// Names for the message only: what can be verified is the business of [`algorithm::scheme`].
const SIGNATURE_NAMES: [(&str, &str); 10] = [
    ("1.2.840.10045.4.1", "ecdsa-with-SHA1"),
    ("1.2.840.10045.4.3.2", "ecdsa-with-SHA256"),
    ("1.2.840.10045.4.3.3", "ecdsa-with-SHA384"),
    ("1.2.840.10045.4.3.4", "ecdsa-with-SHA512"),
    ("1.2.840.113549.1.1.4", "md5WithRSAEncryption"),
    ("1.2.840.113549.1.1.5", "sha1WithRSAEncryption"),
    ("1.2.840.113549.1.1.10", "RSASSA-PSS with these parameters"),
    ("1.2.840.113549.1.1.11", "sha256WithRSAEncryption"),
    ("1.3.101.112", "Ed25519"),
    ("1.3.101.113", "Ed448"),
];

fn too_long(len: usize) -> CsrError {
    CsrError::Malformed(format!("it has {len} bytes; {} of DER are allowed", Csr::MAX_LEN))
}

/// The DNS names and addresses of the requested extensions; other names are not for requesters to
/// ask for, and are left aside.
fn wanted_names(wishes: &Wishes) -> Result<(BTreeSet<DnsName>, BTreeSet<IpAddr>), CsrError> {
    let (mut dns_names, mut addresses) = (BTreeSet::new(), BTreeSet::new());
    for name in wishes.alternative_names()? {
        match name {
            GeneralName::DnsName(name) => {
                let name: Result<DnsName, _> = name.as_str().to_ascii_lowercase().parse();
                dns_names.insert(name.map_err(|error| CsrError::Malformed(error.to_string()))?);
            }
            GeneralName::IpAddress(octets) => {
                let address = extension::address(octets.as_bytes()).ok_or_else(|| {
                    CsrError::Malformed("an address has 4 or 16 octets".to_owned())
                })?;
                addresses.insert(address);
            }
            _ => {}
        }
    }
    Ok((dns_names, addresses))
}

fn requested_extensions(info: &CertReqInfo) -> Result<Vec<Extension>, CsrError> {
    let mut extensions = Vec::new();
    for attribute in info.attributes.iter() {
        if ![oid::EXTENSION_REQUEST, oid::MICROSOFT_EXTENSION_REQUEST].contains(&attribute.oid) {
            continue;
        }
        for value in attribute.values.iter() {
            extensions.extend(value.decode_as::<Vec<Extension>>()?);
        }
    }
    Ok(extensions)
}
