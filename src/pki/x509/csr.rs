//! Certificate signing requests (PKCS#10, RFC 2986): the proof that the requester has the key.

use std::{collections::BTreeSet, net::IpAddr};

use thiserror::Error;

use crate::{
    keys::{KeyError, PublicKey},
    names::DnsName,
};

/// A request whose signature was verified: its key is the requester's.
#[derive(Clone, Debug)]
pub struct Csr {
    /// The key, checked as offered keys are.
    pub public_key: PublicKey,
    /// The DNS names that it asks for; they mean nothing unless the role says so.
    pub dns_names: BTreeSet<DnsName>,
    /// The addresses that it asks for; likewise.
    pub addresses: BTreeSet<IpAddr>,
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
        let _ = pem;
        todo!()
    }

    /// Reads DER, verifies the proof of possession over the received bytes, checks the key.
    ///
    /// # Errors
    ///
    /// Too long, not DER, a key that is not certified, or a signature that does not verify.
    pub fn from_der(der: &[u8]) -> Result<Self, CsrError> {
        let _ = der;
        todo!()
    }
}

/// A request is refused.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum CsrError {
    /// The key may not be certified.
    #[error("{0}")]
    Key(#[from] KeyError),
    /// It is not a certificate signing request.
    #[error("the certificate signing request cannot be read: {0}")]
    Malformed(String),
    /// The requester did not prove to have the key.
    #[error("the signature of the certificate signing request does not verify under its own key")]
    ProofOfPossession,
}
