//! The ledger: what was intended, what was issued, and who asked; the audit log in the same
//! transactions.
//!
//! All writes go through one thread, which commits whatever waits in one transaction and appends
//! its audit entries to the audit directory before it answers. All reads go through another.

mod accounts;
mod acts;
pub mod audit;
pub mod bots;
pub mod cards;
mod changes;
mod checkpoint;
mod database;
mod directory;
mod directory_acts;
pub mod hosts;
mod locks;
mod read;
mod reader;
mod sessions;
#[cfg(test)]
mod tests;
mod writer;

use std::{collections::HashMap, fs, ops::Range, path::Path, sync::Arc};

use api::LogonAccount;
use jiff::Timestamp;
use pki::{
    clock::Clock,
    keys::{Signature, SignatureScheme},
    seal::{Prepared, Sealed, Summary},
    serial::SshSerial,
};
use rusqlite::Connection;
use thiserror::Error;
use tokio::sync::watch;

pub use self::{
    changes::{Publication, Revocation},
    sessions::{NewDecision, NewSession},
};
use crate::{
    directory::{Job, Outcome},
    policy::{CardHolder, Denial, Lock, Locks, OpenSession, Subject},
};

use acts::{Committed, Found, Stored, Text};
use audit::Body;
use bots::Lineage;
use checkpoint::{Checkpointer, Due};
use directory::AuditDirectory;
use reader::Reader;
use writer::Writer;

/// A handle on the ledger; cheap to clone.
#[derive(Clone)]
pub struct Ledger(Arc<Inner>);

struct Inner {
    writer: Writer,
    _checkpointer: Checkpointer,
    reader: Reader,
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
    /// The session that it is for.
    pub session: Option<OpenSession>,
    /// The client's name for the operation, with the hash of the whole request.
    pub idempotency: Option<Idempotency>,
    /// Whose card it is (UPN), if somebody else asks for it.
    pub on_behalf_of: Option<String>,
    /// What it continues, if it is for an own certificate of a bot's instance.
    pub lineage: Option<Lineage>,
    /// The card that has attested the key, and whose it is to be.
    pub card: Option<CardHolder>,
    /// The account that is to log on with it.
    pub account: Option<LogonAccount>,
    /// When.
    pub now: Timestamp,
}

impl NewIntent {
    /// What a lock may hit: the certificate that the summary is of, or a signature over a digest.
    pub fn subject(&self, summary: Option<&Summary>) -> Subject {
        let session = self.session.as_ref();
        Subject {
            caller: self.caller.clone(),
            role: self.role.clone(),
            issuer: self.issuer.clone(),
            kind: summary.map(|summary| summary.kind),
            serial: summary.map(|summary| summary.serial.to_string()).unwrap_or_default(),
            key: summary.map(|summary| summary.key_fingerprint.clone()).unwrap_or_default(),
            names: summary.map(|summary| summary.names.clone()).unwrap_or_default(),
            card: self.card.as_ref().map(|card| card.attestation.serial),
            session: session.map(|session| session.id.clone()),
            targets: session.iter().flat_map(|it| it.targets.iter().cloned()).collect(),
            issued_at: self.now,
        }
    }
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
    /// A revocation list of a CA that is offline is given out from now on.
    OfflineCrlLoaded {
        /// Its name.
        name: String,
        /// Its number.
        number: u64,
        /// SHA-256 of it, hexadecimal.
        sha256: String,
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
    /// How things stand when it is written refuses it: a lock, or the end of a session.
    #[error(transparent)]
    Denied(Denial),
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
        let directory = AuditDirectory::open(audit_directory, &connection).map_err(unavailable)?;
        let due = Arc::new(Due::default());
        let copying = database::open_for_checkpoints(&path).map_err(unavailable)?;
        let checkpointer = Checkpointer::start(copying, Arc::clone(&due)).map_err(unavailable)?;
        let writer = Writer::start(connection, directory, clock, due).map_err(unavailable)?;
        let reading = database::open_for_reading(&path).map_err(unavailable)?;
        let reader = Reader::start(reading).map_err(unavailable)?;
        Ok(Self(Arc::new(Inner {
            writer,
            _checkpointer: checkpointer,
            reader,
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

    /// Writes down what is to be signed, unless a lock hits the subject or its session is over.
    /// Durable when this returns.
    ///
    /// # Errors
    ///
    /// How things stand refuses it, it cannot be written, or the idempotency key belongs to another request.
    pub async fn begin(
        &self,
        intent: NewIntent,
        subject: Arc<Subject>,
        prepared: &Prepared,
    ) -> Result<Begun, LedgerError> {
        let text = Text { bytes: prepared.bytes().to_vec(), summary: prepared.summary().clone() };
        self.begin_text(intent, subject, text).await
    }

    async fn begin_text(
        &self,
        intent: NewIntent,
        subject: Arc<Subject>,
        text: Text,
    ) -> Result<Begun, LedgerError> {
        let issuer = intent.issuer.clone();
        let summary = text.summary.clone();
        let found = self.0.writer.submit(acts::begin(intent, subject, text)?).await?;
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
        subject: Arc<Subject>,
        digest: RawDigest,
    ) -> Result<BegunRaw, LedgerError> {
        let (key, bytes) = (intent.issuer.clone(), digest.digest.clone());
        let found = self.0.writer.submit(acts::begin_raw(intent, subject, digest)?).await?;
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

    /// Writes down a session that was granted; it is open if it needs no approval.
    ///
    /// # Errors
    ///
    /// It cannot be written, or a lock refuses it.
    pub async fn request_session(&self, new: NewSession) -> Result<api::Session, LedgerError> {
        self.0.writer.submit(sessions::request(new)?).await
    }

    /// Writes down what an approver says; the last approval that is needed opens the session.
    ///
    /// # Errors
    ///
    /// It cannot be written, the session does not wait, or the approver has decided before.
    pub async fn decide_session(&self, new: NewDecision) -> Result<api::Session, LedgerError> {
        self.0.writer.submit(sessions::decide(new)?).await
    }

    /// Notes that a session is still needed.
    ///
    /// # Errors
    ///
    /// It cannot be written, or the session is not open.
    pub async fn beat(&self, session: &str, now: Timestamp) -> Result<api::Session, LedgerError> {
        self.0.writer.submit(sessions::beat(session.to_owned(), now)).await
    }

    /// Ends a session that waits or is open, and revokes its certificates.
    ///
    /// # Errors
    ///
    /// It cannot be written, or the session is over.
    pub async fn end_session(
        &self,
        session: &str,
        by: &str,
        reason: &str,
        now: Timestamp,
    ) -> Result<api::SessionEnded, LedgerError> {
        self.0.writer.submit(sessions::end(session.to_owned(), by, reason, now)).await
    }

    /// Ends sessions whose time is over or whose heartbeat is missing, and lets expire what waited
    /// too long. Returns what was open.
    ///
    /// # Errors
    ///
    /// It cannot be written or read.
    pub async fn end_due_sessions(&self, now: Timestamp) -> Result<Vec<String>, LedgerError> {
        match self.read(move |sql| sessions::is_anything_due(sql, now)).await? {
            true => self.0.writer.submit(sessions::end_due(now)).await,
            false => Ok(Vec::new()),
        }
    }

    /// A session.
    ///
    /// # Errors
    ///
    /// The ledger cannot be read.
    pub async fn session(&self, id: &str) -> Result<Option<api::Session>, LedgerError> {
        let id = id.to_owned();
        self.read(move |sql| sessions::find(sql, &id)).await
    }

    /// A session as far as certificates for it are concerned.
    ///
    /// # Errors
    ///
    /// The ledger cannot be read.
    pub async fn standing_session(&self, id: &str) -> Result<Option<OpenSession>, LedgerError> {
        let id = id.to_owned();
        self.read(move |sql| sessions::standing(sql, &id)).await
    }

    /// Sessions, the latest first.
    ///
    /// # Errors
    ///
    /// The ledger cannot be read.
    pub async fn sessions(&self, query: api::SessionQuery) -> Result<api::Sessions, LedgerError> {
        let sessions = self.read(move |sql| sessions::list(sql, &query)).await?;
        Ok(api::Sessions { sessions })
    }

    /// Sets a lock, revokes what was issued to its target and ends its sessions. When this returns,
    /// nothing more is begun for the target; what was begun before is withheld.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub async fn lock(
        &self,
        request: api::LockRequest,
        by: &str,
        now: Timestamp,
    ) -> Result<api::Locked, LedgerError> {
        let lock = Lock {
            id: 0,
            target: request.target.clone(),
            issued_before: request.issued_before,
            expires_at: None,
        };
        let seen = self.read(move |sql| locks::look(sql, &lock, now)).await?;
        self.0.writer.submit(locks::add(request, seen, by, now)).await
    }

    /// Removes all locks on a target; returns them.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub async fn unlock(
        &self,
        request: api::UnlockRequest,
        by: &str,
        now: Timestamp,
    ) -> Result<api::Locks, LedgerError> {
        let locks = self.0.writer.submit(locks::remove(request, by, now)).await?;
        Ok(api::Locks { locks })
    }

    /// What a lock would hit.
    ///
    /// # Errors
    ///
    /// The ledger cannot be read.
    pub async fn preview(
        &self,
        request: api::LockPreview,
        now: Timestamp,
    ) -> Result<api::LockEffect, LedgerError> {
        let api::LockPreview { target, issued_before } = request;
        let lock = Lock { id: 0, target, issued_before, expires_at: None };
        self.read(move |sql| locks::preview(sql, &lock, now)).await
    }

    /// The locks in force, the latest first.
    ///
    /// # Errors
    ///
    /// The ledger cannot be read.
    pub async fn locks(&self, now: Timestamp) -> Result<api::Locks, LedgerError> {
        let locks = self.read(move |sql| locks::in_force(sql, now)).await?;
        Ok(api::Locks { locks })
    }

    /// The locks, for decisions.
    pub fn standing_locks(&self) -> Arc<Locks> {
        self.0.writer.locks()
    }

    /// Revokes one certificate, given out or not; `None` if nothing of this serial was begun.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub async fn revoke(
        &self,
        request: api::RevokeRequest,
        by: &str,
        now: Timestamp,
    ) -> Result<Option<api::Revoked>, LedgerError> {
        self.0.writer.submit(changes::revoke_one(request, by, now)?).await
    }

    /// The last change that took something back, and each later one as soon as it is durable.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.writer.changes()
    }

    /// What was revoked by changes after this one, in their order; expired certificates too.
    ///
    /// # Errors
    ///
    /// The ledger cannot be read.
    pub async fn revocations_after(&self, change: u64) -> Result<Vec<Revocation>, LedgerError> {
        self.read(move |sql| changes::revocations_after(sql, change)).await
    }

    /// Whether one of these authorities has revoked a certificate of this serial number.
    ///
    /// # Errors
    ///
    /// The ledger cannot be read.
    pub async fn is_revoked(
        &self,
        issuers: &Arc<[String]>,
        serial: &str,
    ) -> Result<bool, LedgerError> {
        let (issuers, serial) = (Arc::clone(issuers), serial.to_owned());
        self.read(move |sql| changes::is_certificate_revoked(sql, &issuers, &serial)).await
    }

    /// When a change was made.
    ///
    /// # Errors
    ///
    /// The ledger cannot be read.
    pub async fn time_of_change(&self, change: u64) -> Result<Option<Timestamp>, LedgerError> {
        self.read(move |sql| changes::time_of_change(sql, change)).await
    }

    /// The last version that was begun; 0 for none.
    ///
    /// # Errors
    ///
    /// The ledger cannot be read.
    pub async fn last_version(&self) -> Result<u64, LedgerError> {
        self.read(changes::last_version).await
    }

    /// The first version that was published and tells a change.
    ///
    /// # Errors
    ///
    /// The ledger cannot be read.
    pub async fn publication_of(&self, change: u64) -> Result<Option<Publication>, LedgerError> {
        self.read(move |sql| changes::publication_of(sql, change)).await
    }

    /// Writes down what is to be signed and published: each text by its name and SHA-256.
    ///
    /// # Errors
    ///
    /// It cannot be written, or the version was begun before.
    pub async fn begin_publication(
        &self,
        publication: Publication,
        texts: &[(String, String)],
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        self.0.writer.submit(changes::begin_publication(publication, texts, now)?).await
    }

    /// Writes down that it was signed, each file by its name and SHA-256. Only then it may be
    /// published.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub async fn commit_publication(
        &self,
        version: u64,
        artefacts: &[(String, String)],
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        self.0.writer.submit(changes::commit_publication(version, artefacts, now)?).await
    }

    /// The first act that waits to be done in the organisation's directory.
    ///
    /// # Errors
    ///
    /// The ledger cannot be read.
    pub async fn next_directory_job(&self) -> Result<Option<Job>, LedgerError> {
        self.read(directory_acts::next).await
    }

    /// Writes down what became of an act.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub async fn directory_job_done(
        &self,
        job: Job,
        outcome: Outcome,
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        self.0.writer.submit(directory_acts::done(job, outcome, now)?).await
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

    /// Whether a certificate of this serial number was ever to be signed, and may therefore exist.
    ///
    /// # Errors
    ///
    /// The ledger cannot be read.
    pub async fn was_begun(&self, issuer: &str, serial: &str) -> Result<bool, LedgerError> {
        let (issuer, serial) = (issuer.to_owned(), serial.to_owned());
        self.read(move |sql| read::was_begun(sql, &issuer, &serial)).await
    }

    async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, LedgerError> {
        self.0.reader.ask(query).await
    }

    /// Whether the ledger is read, and the ledger and the audit directory could be written last;
    /// tried again twice a second while they cannot.
    pub fn healthy(&self) -> bool {
        self.0.writer.healthy() && self.0.reader.healthy()
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
        match self.ledger.0.writer.submit(work).await? {
            Committed::Certificate(bytes) => Ok(Released::new(self.stored, bytes)),
            Committed::Withheld => Err(LedgerError::Denied(Denial::TakenBack)),
        }
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
