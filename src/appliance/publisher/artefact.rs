use std::collections::BTreeMap;

use bytes::Bytes;
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::{Revoked, renewal};

/// Everything that is published, of one moment.
#[derive(Clone, Debug)]
pub struct Published {
    /// The version of bundle and KRL.
    pub version: u64,
    /// The last change that it tells.
    pub change: u64,
    /// The bundle for hosts: KRL and signed statement, as JSON.
    pub bundle: Artefact,
    /// The KRL alone.
    pub krl: Artefact,
    /// The CRLs in DER, by issuer.
    pub crls: BTreeMap<String, Artefact>,
    /// What is revoked, for OCSP.
    pub revoked: Revoked,
}

/// A file that was signed, or that a signature is about.
#[derive(Clone, Debug)]
pub struct Artefact {
    /// Its bytes.
    pub bytes: Bytes,
    /// SHA-256 of them.
    pub sha256: [u8; 32],
    /// The first second of its time.
    pub issued: Timestamp,
    /// The last second of its time.
    pub not_after: Timestamp,
}

impl Published {
    /// What expires, by its name.
    pub fn artefacts(&self) -> impl Iterator<Item = (String, &Artefact)> {
        let crls = self.crls.iter().map(|(issuer, crl)| (format!("the CRL of {issuer}"), crl));
        [("the revocation bundle".to_owned(), &self.bundle)].into_iter().chain(crls)
    }
}

impl Artefact {
    pub(super) fn new(bytes: impl Into<Bytes>, issued: Timestamp, not_after: Timestamp) -> Self {
        let bytes = bytes.into();
        Self { sha256: Sha256::digest(&bytes).into(), bytes, issued, not_after }
    }

    /// When it is to be signed anew.
    pub(super) fn renewal(&self) -> Timestamp {
        renewal(self.issued, self.not_after)
    }

    pub(super) fn is_past_half(&self, now: Timestamp) -> bool {
        let half = self.issued.duration_until(self.not_after) / 2;
        self.issued.saturating_add(half).is_ok_and(|half| half < now)
    }
}
