//! The ledger: what was intended, what was issued, and who asked; the audit log in the same
//! transactions.

use std::{path::Path, sync::Arc};

use jiff::Timestamp;
use pki::{
    clock::Clock,
    keys::{Signature, SignatureScheme},
    seal::{Prepared, Sealed, Summary},
    serial::SshSerial,
};
use thiserror::Error;

/// A handle on the ledger; cheap to clone.
#[derive(Clone)]
pub struct Ledger {}

/// What is to be signed, before any signature exists.
#[derive(Clone, Debug)]
pub struct NewIntent {
    /// The authority (X.509, SSH) or raw key, by its name.
    pub issuer: String,
    /// Who asked (SPIFFE id).
    pub caller: String,
    /// The role that granted it.
    pub role: String,
    /// The client's name for the operation, with the hash of the whole request.
    pub idempotency: Option<Idempotency>,
    /// When.
    pub now: Timestamp,
}

/// An idempotency key and the request that it belongs to. Unique per caller.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Idempotency {
    /// The client's key: 1 to 128 printable ASCII characters.
    pub key: String,
    /// SHA-256 of the request.
    pub request: [u8; 32],
}

/// What [`Ledger::begin`] found.
pub enum Begun {
    /// A new intent: sign what was prepared.
    New(Intent),
    /// The same request was begun before and never finished: sign *these* bytes, not new ones.
    Unfinished(Intent, Vec<u8>),
    /// The same request was finished before.
    Done(Released),
}

/// An intent that is durable. Used up by [`commit`](Self::commit).
pub struct Intent {}

/// A certificate whose record is durable: the only thing that may become an answer.
#[derive(Clone, Debug)]
pub struct Released {
    issuer: String,
    bytes: Arc<[u8]>,
    summary: Summary,
}

impl Released {
    /// The authority that signed it.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// DER, or the SSH wire form.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What it says.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }
}

/// A digest to be signed with a raw key.
#[derive(Clone, Debug)]
pub struct RawDigest {
    /// With which scheme.
    pub scheme: SignatureScheme,
    /// The digest.
    pub digest: Vec<u8>,
}

/// What [`Ledger::begin_raw`] found.
pub enum BegunRaw {
    /// A new or unfinished intent: sign the digest.
    New(RawIntent),
    /// The same request was finished before.
    Done(ReleasedSignature),
}

/// An intent to sign a digest that is durable. Used up by [`commit`](Self::commit).
pub struct RawIntent {}

/// A signature over a digest whose record is durable.
#[derive(Clone, Debug)]
pub struct ReleasedSignature {
    signature: Signature,
}

impl ReleasedSignature {
    /// The signature.
    pub fn signature(&self) -> &Signature {
        &self.signature
    }
}

/// What is audited besides intents and releases.
#[derive(Clone, Debug, serde::Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// Policy refused.
    Denied {
        /// Who asked.
        caller: String,
        /// What was asked, in short: operation and role.
        operation: String,
        /// The denial's stable name.
        reason: String,
        /// The denial in words.
        detail: String,
    },
    /// A to-be-signed text broke a rule.
    LintRefused {
        /// Who asked.
        caller: String,
        /// The role that had granted it.
        role: String,
        /// The findings.
        findings: String,
    },
    /// Roles and accounts were read anew.
    RulesLoaded {
        /// SHA-256 over the files, hexadecimal.
        digest: String,
    },
    /// The appliance started.
    Started {
        /// Its version.
        version: String,
    },
    /// The appliance ended in order.
    Stopped {},
}

/// How the ledger failed.
#[derive(Clone, Debug, Error)]
pub enum LedgerError {
    /// The idempotency key belongs to another request of this caller.
    #[error("idempotency key {key:?} was used before with another request")]
    IdempotencyConflict {
        /// The key.
        key: String,
    },
    /// Something cannot be written: nothing is signed until it can.
    #[error("the ledger cannot be written: {0}")]
    Unavailable(String),
}

impl Ledger {
    /// Opens or makes the ledger; repairs the audit directory from it.
    ///
    /// # Errors
    ///
    /// A file cannot be opened, or is of a later version.
    pub fn open(
        _state_directory: &Path,
        _audit_directory: &Path,
        _clock: Arc<dyn Clock>,
    ) -> Result<Self, LedgerError> {
        todo!()
    }

    /// The next serial number of an SSH authority; reserved in blocks, never used twice.
    ///
    /// # Errors
    ///
    /// The reservation cannot be written.
    pub async fn ssh_serial(&self, _issuer: &str) -> Result<SshSerial, LedgerError> {
        todo!()
    }

    /// Writes down what is to be signed. Durable when this returns.
    ///
    /// # Errors
    ///
    /// It cannot be written, or the idempotency key belongs to another request.
    pub async fn begin(
        &self,
        _intent: NewIntent,
        _prepared: &Prepared,
    ) -> Result<Begun, LedgerError> {
        todo!()
    }

    /// As [`begin`](Self::begin), for a digest.
    ///
    /// # Errors
    ///
    /// As [`begin`](Self::begin).
    pub async fn begin_raw(
        &self,
        _intent: NewIntent,
        _digest: RawDigest,
    ) -> Result<BegunRaw, LedgerError> {
        todo!()
    }

    /// Writes an audit record. Durable when this returns.
    ///
    /// # Errors
    ///
    /// It cannot be written: the act that it records must not happen.
    pub async fn record(&self, _event: Event) -> Result<(), LedgerError> {
        todo!()
    }

    /// A page of issued certificates, in the order of their release.
    ///
    /// # Errors
    ///
    /// The ledger cannot be read.
    pub async fn certificates(
        &self,
        _query: api::ListQuery,
    ) -> Result<api::CertificatePage, LedgerError> {
        todo!()
    }

    /// One issued certificate.
    ///
    /// # Errors
    ///
    /// The ledger cannot be read.
    pub async fn certificate(
        &self,
        _issuer: &str,
        _serial: &str,
    ) -> Result<Option<api::CertificateRecord>, LedgerError> {
        todo!()
    }

    /// Whether the ledger and the audit directory can be written now.
    pub fn healthy(&self) -> bool {
        todo!()
    }
}

impl Intent {
    /// Records the certificate. Durable when this returns.
    ///
    /// If the same intent was committed meanwhile, the first certificate is returned.
    ///
    /// # Errors
    ///
    /// It cannot be written: the certificate must not leave.
    pub async fn commit(self, _sealed: Sealed, _now: Timestamp) -> Result<Released, LedgerError> {
        todo!()
    }
}

impl RawIntent {
    /// As [`Intent::commit`].
    ///
    /// # Errors
    ///
    /// As [`Intent::commit`].
    pub async fn commit(
        self,
        _signature: Signature,
        _now: Timestamp,
    ) -> Result<ReleasedSignature, LedgerError> {
        todo!()
    }
}
