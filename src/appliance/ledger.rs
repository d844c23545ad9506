//! The ledger: what was intended, what was issued, and who asked; the audit log in the same
//! transactions.
//!
//! All writes go through one thread, which commits whatever waits in one transaction and appends
//! its audit entries to the audit directory before it answers.

mod acts;
pub mod audit;
mod checkpoint;
mod database;
mod directory;
mod read;
#[cfg(test)]
mod tests;
mod writer;

use std::{
    collections::HashMap,
    fs,
    ops::Range,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use jiff::Timestamp;
use pki::{
    clock::Clock,
    keys::{Signature, SignatureScheme},
    seal::{Prepared, Sealed, Summary},
    serial::SshSerial,
};
use rusqlite::Connection;
use thiserror::Error;

use acts::{Found, Stored, Text};
use audit::Body;
use checkpoint::{Checkpointer, Due};
use directory::AuditDirectory;
use writer::Writer;

/// A handle on the ledger; cheap to clone.
#[derive(Clone)]
pub struct Ledger(Arc<Inner>);

struct Inner {
    writer: Writer,
    _checkpointer: Checkpointer,
    reader: Mutex<Connection>,
    /// What is left of the block that each SSH authority has reserved.
    ssh_serials: tokio::sync::Mutex<HashMap<String, Range<u64>>>,
}

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
pub struct Intent {
    ledger: Ledger,
    stored: Stored,
}

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
pub struct RawIntent {
    ledger: Ledger,
    id: i64,
    key: String,
    digest: Vec<u8>,
}

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
    /// The token is up, degraded, down, or otherwise than before.
    TokenState {
        /// Which: its label, and a replica's serial number.
        token: String,
        /// How it was.
        before: &'static str,
        /// How it is.
        state: &'static str,
        /// Why.
        #[serde(skip_serializing_if = "Option::is_none")]
        detail: Option<String>,
    },
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
    /// The record contradicts what is there: a serial number that was used before, or a
    /// certificate that is not the intent's. A fault of the appliance; nothing was written.
    #[error("the ledger refuses the record: {0}")]
    Refused(String),
    /// Something cannot be written: nothing is signed until it can.
    #[error("the ledger cannot be written: {0}")]
    Unavailable(String),
}

impl Ledger {
    /// Opens or makes the ledger; repairs the audit directory from it.
    ///
    /// # Errors
    ///
    /// A file cannot be opened, or is of a later version, or the audit files say something else
    /// than the ledger.
    pub fn open(
        state_directory: &Path,
        audit_directory: &Path,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, LedgerError> {
        fs::create_dir_all(state_directory).map_err(|error| {
            LedgerError::Unavailable(format!("{}: {error}", state_directory.display()))
        })?;
        let path = state_directory.join(FILE_NAME);
        let _turn = database::turn_to_open(&path).map_err(unavailable)?;
        let connection = database::open_for_writing(&path).map_err(unavailable)?;
        let reader = database::open_for_reading(&path).map_err(unavailable)?;
        let directory = AuditDirectory::open(audit_directory, &connection).map_err(unavailable)?;
        let due = Arc::new(Due::default());
        let copying = database::open_for_checkpoints(&path).map_err(unavailable)?;
        let checkpointer = Checkpointer::start(copying, Arc::clone(&due)).map_err(unavailable)?;
        let writer = Writer::start(connection, directory, clock, due).map_err(unavailable)?;
        Ok(Self(Arc::new(Inner {
            writer,
            _checkpointer: checkpointer,
            reader: Mutex::new(reader),
            ssh_serials: tokio::sync::Mutex::default(),
        })))
    }

    /// The next serial number of an SSH authority; reserved in blocks, never used twice.
    ///
    /// # Errors
    ///
    /// The reservation cannot be written.
    pub async fn ssh_serial(&self, issuer: &str) -> Result<SshSerial, LedgerError> {
        let mut reserved = self.0.ssh_serials.lock().await;
        loop {
            if let Some(serial) = reserved.get_mut(issuer).and_then(Iterator::next) {
                // Blocks begin at 1; a 0 would be passed over.
                if let Some(serial) = SshSerial::new(serial) {
                    return Ok(serial);
                }
            }
            let work = acts::reserve_ssh_serials(issuer, SERIAL_BLOCK);
            let first = self.0.writer.submit(work).await?;
            reserved.insert(issuer.to_owned(), first..first + SERIAL_BLOCK);
        }
    }

    /// Writes down what is to be signed. Durable when this returns.
    ///
    /// # Errors
    ///
    /// It cannot be written, or the idempotency key belongs to another request.
    pub async fn begin(
        &self,
        intent: NewIntent,
        prepared: &Prepared,
    ) -> Result<Begun, LedgerError> {
        let text = Text { bytes: prepared.bytes().to_vec(), summary: prepared.summary().clone() };
        self.begin_text(intent, text).await
    }

    async fn begin_text(&self, intent: NewIntent, text: Text) -> Result<Begun, LedgerError> {
        let issuer = intent.issuer.clone();
        let summary = text.summary.clone();
        let found = self.0.writer.submit(acts::begin(intent, text)?).await?;
        Ok(match found {
            Found::New(id) => Begun::New(self.intent(Stored { id, issuer, summary })),
            Found::Unfinished((stored, text)) => Begun::Unfinished(self.intent(stored), text),
            Found::Done((stored, certificate)) => Begun::Done(Released::new(stored, certificate)),
        })
    }

    fn intent(&self, stored: Stored) -> Intent {
        Intent { ledger: self.clone(), stored }
    }

    /// As [`begin`](Self::begin), for a digest.
    ///
    /// # Errors
    ///
    /// As [`begin`](Self::begin).
    pub async fn begin_raw(
        &self,
        intent: NewIntent,
        digest: RawDigest,
    ) -> Result<BegunRaw, LedgerError> {
        let (key, bytes) = (intent.issuer.clone(), digest.digest.clone());
        let found = self.0.writer.submit(acts::begin_raw(intent, digest)?).await?;
        Ok(match found {
            Found::New(id) | Found::Unfinished(id) => {
                BegunRaw::New(RawIntent { ledger: self.clone(), id, key, digest: bytes })
            }
            Found::Done(signature) => BegunRaw::Done(ReleasedSignature { signature }),
        })
    }

    /// Writes an audit record. Durable when this returns.
    ///
    /// # Errors
    ///
    /// It cannot be written: the act that it records must not happen.
    pub async fn record(&self, event: Event) -> Result<(), LedgerError> {
        let body = Body::event(&event).map_err(acts::not_json)?;
        self.0.writer.submit(move |batch| Ok(batch.audit(&body)?)).await
    }

    /// A page of issued certificates, in the order of their release.
    ///
    /// # Errors
    ///
    /// The ledger cannot be read.
    pub async fn certificates(
        &self,
        query: api::ListQuery,
    ) -> Result<api::CertificatePage, LedgerError> {
        self.read(move |sql| read::certificates(sql, &query)).await
    }

    /// One issued certificate.
    ///
    /// # Errors
    ///
    /// The ledger cannot be read.
    pub async fn certificate(
        &self,
        issuer: &str,
        serial: &str,
    ) -> Result<Option<api::CertificateRecord>, LedgerError> {
        let (issuer, serial) = (issuer.to_owned(), serial.to_owned());
        self.read(move |sql| read::certificate(sql, &issuer, &serial)).await
    }

    async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, LedgerError> {
        let inner = Arc::clone(&self.0);
        let read = move || query(&inner.reader.lock().unwrap_or_else(PoisonError::into_inner));
        let read = tokio::task::spawn_blocking(read).await.map_err(unavailable)?;
        read.map_err(unavailable)
    }

    /// Whether the ledger and the audit directory could be written last; tried again twice a
    /// second while they cannot.
    pub fn healthy(&self) -> bool {
        self.0.writer.healthy()
    }

    /// How many transactions were committed since the start; each holds all that waited.
    pub fn transactions(&self) -> u64 {
        self.0.writer.transactions()
    }
}

impl Intent {
    /// The authority that is to sign.
    pub fn issuer(&self) -> &str {
        &self.stored.issuer
    }

    /// What the certificate is to say.
    pub fn summary(&self) -> &Summary {
        &self.stored.summary
    }

    /// Records the certificate. Durable when this returns.
    ///
    /// If the same intent was committed meanwhile, the first certificate is returned.
    ///
    /// # Errors
    ///
    /// It cannot be written, or is not this intent's: the certificate must not leave.
    pub async fn commit(self, sealed: Sealed, now: Timestamp) -> Result<Released, LedgerError> {
        let (given, wanted) = (sealed.summary(), &self.stored.summary);
        if (given.kind, given.serial) != (wanted.kind, wanted.serial) {
            return Err(LedgerError::Refused(format!(
                "certificate {} belongs to another intent than {}",
                given.serial, wanted.serial
            )));
        }
        self.commit_bytes(sealed.bytes().to_vec(), now).await
    }

    async fn commit_bytes(self, bytes: Vec<u8>, now: Timestamp) -> Result<Released, LedgerError> {
        let work = acts::commit(&self.stored, bytes, now)?;
        let bytes = self.ledger.0.writer.submit(work).await?;
        Ok(Released::new(self.stored, bytes))
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
        signature: Signature,
        now: Timestamp,
    ) -> Result<ReleasedSignature, LedgerError> {
        let work = acts::commit_raw(self.id, &self.key, &self.digest, signature, now)?;
        let signature = self.ledger.0.writer.submit(work).await?;
        Ok(ReleasedSignature { signature })
    }
}

impl Released {
    fn new(stored: Stored, certificate: Vec<u8>) -> Self {
        Self { issuer: stored.issuer, bytes: certificate.into(), summary: stored.summary }
    }
}

fn unavailable(error: impl std::fmt::Display) -> LedgerError {
    LedgerError::Unavailable(error.to_string())
}

const FILE_NAME: &str = "ledger.sqlite";

/// How many SSH serial numbers one write reserves, while all who need one wait; what is left of them
/// at the end is a gap.
const SERIAL_BLOCK: u64 = 10_000;
