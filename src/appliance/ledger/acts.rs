//! What the ledger writes down, as work for the writer: each act with its audit entry.

use std::{fmt, sync::Arc};

use jiff::Timestamp;
use pki::{
    keys::Signature,
    seal::{Kind, Summary},
    serial::Serial,
};
use rusqlite::{
    OptionalExtension, Row,
    types::{Type, ValueRef},
};
use serde::{
    Serialize,
    de::{
        DeserializeOwned,
        value::{Error as WordError, StrDeserializer},
    },
};

use super::{
    Idempotency, LedgerError, NewIntent, RawDigest, accounts,
    audit::{Act, Body, sha256},
    bots::{self, Look},
    cards, changes, sessions,
    writer::{Batch, Failure},
};
use crate::policy::{Denial, Subject};

/// A text to be signed.
#[derive(Clone, Debug)]
pub(super) struct Text {
    pub(super) bytes: Vec<u8>,
    pub(super) summary: Summary,
}

/// An intent in the ledger.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) id: i64,
    pub(super) issuer: String,
    pub(super) summary: Summary,
}

/// What became of a begin.
#[derive(Debug)]
pub(super) enum Found<Unfinished, Done> {
    New(i64),
    Unfinished(Unfinished),
    Done(Done),
}

/// Writes an intent down, unless the same operation was begun before.
pub(super) fn begin(
    new: NewIntent,
    subject: Arc<Subject>,
    text: Text,
) -> Result<impl FnOnce(&mut Batch<'_>) -> Begin, LedgerError> {
    let body = body(&Act::Intent {
        issuer: &new.issuer,
        certificate: (&text.summary).into(),
        caller: &new.caller,
        role: &new.role,
        card: new.card.as_ref().map(|card| cards::key(&card.attestation)),
        account: new.account.as_ref(),
        on_behalf_of: new.on_behalf_of.as_deref(),
        text_sha256: sha256(&text.bytes),
    })?;
    let names = json(&text.summary.names)?;
    Ok(move |batch: &mut Batch<'_>| {
        batch.unless_locked(&subject, new.now)?;
        bots::check_caller(batch, &new.caller)?;
        if let Some(idempotency) = &new.idempotency
            && let Some(earlier) = earlier(batch, &new.caller, idempotency)?
        {
            let Earlier::Intent(id) = earlier else {
                return Err(conflict(idempotency).into());
            };
            if changes::is_revoked(batch.sql, id)? {
                return Err(Denial::TakenBack.into());
            }
            return Ok(begun_before(batch, id)?);
        }
        let key = text.summary.key_fingerprint.as_str();
        if let Some(session) = &new.session {
            sessions::check_intent(batch, &session.id, key, new.now)?;
        }
        match &new.card {
            Some(card) => cards::check(batch, card)?,
            None => cards::check_unattested(batch, &text.summary, &subject, new.now)?,
        }
        let look = |lineage| bots::look(batch, lineage, (&new.issuer, key), new.now);
        let step = match new.lineage.as_ref().map(look).transpose()? {
            Some(Look::Again(id)) => return Ok(begun_before(batch, id)?),
            Some(Look::New(step)) => Some(step),
            None => None,
        };
        let id = insert_intent(batch, &new, &text, &names)?;
        if let Some(idempotency) = &new.idempotency {
            name_operation(batch, &new.caller, idempotency, Earlier::Intent(id))?;
        }
        batch.audit(&body)?;
        if let Some(account) = &new.account {
            accounts::insert(batch.sql, id, account)?;
        }
        if let Some(card) = &new.card {
            cards::take_up(batch, id, card, &new.caller, new.now)?;
        }
        if let Some((step, lineage)) = step.zip(new.lineage.as_ref()) {
            step.take(batch, id, lineage, (key, new.now))?;
        }
        Ok(Found::New(id))
    })
}

/// The to-be-signed bytes of an unfinished intent, or the certificate of a finished one.
type FoundText = Found<(Stored, Vec<u8>), (Stored, Vec<u8>)>;

type Begin = Result<FoundText, Failure>;

/// What became of a commit.
pub(super) enum Committed {
    /// This is the intent's certificate.
    Certificate(Vec<u8>),
    /// It was taken back meanwhile: there is none.
    Withheld,
}

/// Records a certificate, unless the intent has one or was taken back. Returns the one that counts.
pub(super) fn commit(
    intent: &Stored,
    certificate: Vec<u8>,
    now: Timestamp,
) -> Result<impl FnOnce(&mut Batch<'_>) -> Result<Committed, Failure> + use<>, LedgerError> {
    let id = intent.id;
    let withheld =
        body(&Act::Withheld { issuer: &intent.issuer, serial: intent.summary.serial.to_string() })?;
    let body = body(&Act::Issued {
        issuer: &intent.issuer,
        serial: intent.summary.serial.to_string(),
        certificate_sha256: sha256(&certificate),
    })?;
    Ok(move |batch: &mut Batch<'_>| {
        if changes::is_revoked(batch.sql, id)? {
            batch.audit(&withheld)?;
            return Ok(Committed::Withheld);
        }
        let first = batch
            .sql
            .prepare_cached("SELECT certificate FROM certificates WHERE intent = ?1")?
            .query_row([id], |row| row.get(0))
            .optional()?;
        if let Some(first) = first {
            return Ok(Committed::Certificate(first));
        }
        insert_certificate(batch, id, &certificate, now)?;
        batch.audit(&body)?;
        Ok(Committed::Certificate(certificate))
    })
}

/// As [`begin`], for a digest.
pub(super) fn begin_raw(
    new: NewIntent,
    subject: Arc<Subject>,
    digest: RawDigest,
) -> Result<impl FnOnce(&mut Batch<'_>) -> BeginRaw, LedgerError> {
    let body = body(&Act::RawIntent {
        key: &new.issuer,
        scheme: digest.scheme.to_string(),
        digest: hex::encode(&digest.digest),
        caller: &new.caller,
        role: &new.role,
    })?;
    Ok(move |batch: &mut Batch<'_>| {
        batch.unless_locked(&subject, new.now)?;
        bots::check_caller(batch, &new.caller)?;
        if let Some(idempotency) = &new.idempotency
            && let Some(earlier) = earlier(batch, &new.caller, idempotency)?
        {
            let Earlier::Digest(id) = earlier else {
                return Err(conflict(idempotency).into());
            };
            return Ok(match signature(batch, id)? {
                Some(signature) => Found::Done(signature),
                None => Found::Unfinished(id),
            });
        }
        let id = insert_digest(batch, &new, &digest)?;
        if let Some(idempotency) = &new.idempotency {
            name_operation(batch, &new.caller, idempotency, Earlier::Digest(id))?;
        }
        batch.audit(&body)?;
        Ok(Found::New(id))
    })
}

type BeginRaw = Result<Found<i64, Signature>, Failure>;

/// As [`commit`], for the signature over a digest.
pub(super) fn commit_raw(
    id: i64,
    key: &str,
    digest: &[u8],
    made: Signature,
    now: Timestamp,
) -> Result<impl FnOnce(&mut Batch<'_>) -> Result<Signature, Failure> + use<>, LedgerError> {
    let body = body(&Act::RawSigned {
        key,
        digest: hex::encode(digest),
        signature_sha256: sha256(&made.0),
    })?;
    Ok(move |batch: &mut Batch<'_>| {
        if let Some(first) = signature(batch, id)? {
            return Ok(first);
        }
        batch
            .sql
            .prepare_cached(
                "INSERT INTO signatures (digest, released_at, signature) VALUES (?1, ?2, ?3)",
            )?
            .execute((id, now.as_millisecond(), &made.0))?;
        batch.audit(&body)?;
        Ok(made)
    })
}

/// Reserves serial numbers; returns the first.
pub(super) fn reserve_ssh_serials(
    issuer: &str,
    count: u64,
) -> impl FnOnce(&mut Batch<'_>) -> Result<u64, Failure> + use<> {
    let issuer = issuer.to_owned();
    move |batch: &mut Batch<'_>| {
        let next: u64 = batch
            .sql
            .prepare_cached(
                "INSERT INTO ssh_serials (issuer, next) VALUES (?1, 1 + ?2)
                 ON CONFLICT (issuer) DO UPDATE SET next = next + ?2
                 RETURNING next",
            )?
            .query_row((issuer, count), |row| row.get(0))?;
        Ok(next - count)
    }
}

/// What an audit entry says, but for its number and time.
pub(super) fn body(act: &Act<'_>) -> Result<Body, LedgerError> {
    Body::act(act).map_err(not_json)
}

pub(super) fn not_json(error: serde_json::Error) -> LedgerError {
    LedgerError::Refused(error.to_string())
}

/// The columns of `intents` that [`summary`] reads, in its order.
pub(super) const SUMMARY_COLUMNS: &str =
    "kind, serial, subject, names, key_fingerprint, not_before, not_after";

/// Reads a summary from [`SUMMARY_COLUMNS`] that begin at column `at`.
pub(super) fn summary(row: &Row<'_>, at: usize) -> rusqlite::Result<Summary> {
    Ok(Summary {
        kind: variant(row, at)?,
        serial: parsed(row, at + 1, str::parse::<Serial>)?,
        subject: row.get(at + 2)?,
        names: parsed(row, at + 3, |names| serde_json::from_str(names))?,
        key_fingerprint: row.get(at + 4)?,
        not_before: time(row, at + 5)?,
        not_after: time(row, at + 6)?,
    })
}

/// Reads a time.
pub(super) fn time(row: &Row<'_>, at: usize) -> rusqlite::Result<Timestamp> {
    Timestamp::from_millisecond(row.get(at)?).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(at, Type::Integer, Box::new(error))
    })
}

/// The name of a kind, as configuration files have it.
pub(super) fn kind_name(kind: Kind) -> String {
    word(kind)
}

/// The word that a unit variant is on the wire and in files.
pub(super) fn word(variant: impl Serialize) -> String {
    struct Word<T>(T);

    impl<T: Serialize> fmt::Display for Word<T> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            self.0.serialize(f)
        }
    }

    Word(variant).to_string()
}

/// A list as a column has it.
pub(super) fn json(list: &impl Serialize) -> Result<String, LedgerError> {
    serde_json::to_string(list).map_err(not_json)
}

/// Reads what [`word`] wrote.
pub(super) fn variant<T: DeserializeOwned>(row: &Row<'_>, at: usize) -> rusqlite::Result<T> {
    parsed(row, at, |word| T::deserialize(StrDeserializer::<WordError>::new(word)))
}

/// Reads a column that may have nothing.
pub(super) fn optional<T>(
    row: &Row<'_>,
    at: usize,
    read: impl FnOnce(&Row<'_>, usize) -> rusqlite::Result<T>,
) -> rusqlite::Result<Option<T>> {
    match row.get_ref(at)? {
        ValueRef::Null => Ok(None),
        _ => read(row, at).map(Some),
    }
}

pub(super) fn parsed<T, E: std::error::Error + Send + Sync + 'static>(
    row: &Row<'_>,
    at: usize,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> rusqlite::Result<T> {
    let text: String = row.get(at)?;
    parse(&text)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(at, Type::Text, Box::new(error)))
}

/// What an idempotency key stands for.
enum Earlier {
    Digest(i64),
    Intent(i64),
}

fn earlier(
    batch: &Batch<'_>,
    caller: &str,
    idempotency: &Idempotency,
) -> Result<Option<Earlier>, Failure> {
    let found = batch
        .sql
        .prepare_cached(
            "SELECT request, intent, digest FROM operations WHERE caller = ?1 AND key = ?2",
        )?
        .query_row((caller, &idempotency.key), |row| {
            Ok((row.get::<_, Vec<u8>>(0)?, row.get(1)?, row.get(2)?))
        })
        .optional()?;
    match found {
        None => Ok(None),
        Some((request, Some(id), None)) if request == idempotency.request => {
            Ok(Some(Earlier::Intent(id)))
        }
        Some((request, None, Some(id))) if request == idempotency.request => {
            Ok(Some(Earlier::Digest(id)))
        }
        Some(_) => Err(conflict(idempotency).into()),
    }
}

fn conflict(idempotency: &Idempotency) -> LedgerError {
    LedgerError::IdempotencyConflict { key: idempotency.key.clone() }
}

fn name_operation(
    batch: &Batch<'_>,
    caller: &str,
    idempotency: &Idempotency,
    stands_for: Earlier,
) -> rusqlite::Result<()> {
    let (intent, digest) = match stands_for {
        Earlier::Digest(id) => (None, Some(id)),
        Earlier::Intent(id) => (Some(id), None),
    };
    batch
        .sql
        .prepare_cached(
            "INSERT INTO operations (caller, key, request, intent, digest)
             VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute((caller, &idempotency.key, idempotency.request, intent, digest))?;
    Ok(())
}

fn begun_before(batch: &Batch<'_>, id: i64) -> rusqlite::Result<FoundText> {
    batch
        .sql
        .prepare_cached(
            "SELECT issuer, text, certificate,
                    kind, serial, subject, names, key_fingerprint, not_before, not_after
             FROM intents LEFT JOIN certificates ON intent = intents.id
             WHERE intents.id = ?1",
        )?
        .query_row([id], |row| {
            let stored = Stored { id, issuer: row.get(0)?, summary: summary(row, 3)? };
            Ok(match row.get(2)? {
                Some(certificate) => Found::Done((stored, certificate)),
                None => Found::Unfinished((stored, row.get(1)?)),
            })
        })
}

/// Records a certificate as it leaves.
pub(super) fn insert_certificate(
    batch: &Batch<'_>,
    intent: i64,
    certificate: &[u8],
    now: Timestamp,
) -> rusqlite::Result<()> {
    batch
        .sql
        .prepare_cached(
            "INSERT INTO certificates (intent, released_at, certificate) VALUES (?1, ?2, ?3)",
        )?
        .execute((intent, now.as_millisecond(), certificate))?;
    Ok(())
}

/// Records what is to be signed.
pub(super) fn insert_intent(
    batch: &Batch<'_>,
    new: &NewIntent,
    text: &Text,
    names: &str,
) -> rusqlite::Result<i64> {
    let summary = &text.summary;
    batch
        .sql
        .prepare_cached(
            "INSERT INTO intents (issuer, kind, serial, subject, names, key_fingerprint,
                                  not_before, not_after, caller, role, created_at, text,
                                  session)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
        )?
        .insert((
            &new.issuer,
            kind_name(summary.kind),
            summary.serial.to_string(),
            &summary.subject,
            names,
            &summary.key_fingerprint,
            summary.not_before.as_millisecond(),
            summary.not_after.as_millisecond(),
            &new.caller,
            &new.role,
            new.now.as_millisecond(),
            &text.bytes,
            new.session.as_ref().map(|session| &session.id),
        ))
}

fn insert_digest(batch: &Batch<'_>, new: &NewIntent, digest: &RawDigest) -> rusqlite::Result<i64> {
    batch
        .sql
        .prepare_cached(
            "INSERT INTO digests (issuer, scheme, digest, caller, role, created_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .insert((
            &new.issuer,
            digest.scheme.to_string(),
            &digest.digest,
            &new.caller,
            &new.role,
            new.now.as_millisecond(),
        ))
}

fn signature(batch: &Batch<'_>, digest: i64) -> rusqlite::Result<Option<Signature>> {
    batch
        .sql
        .prepare_cached("SELECT signature FROM signatures WHERE digest = ?1")?
        .query_row([digest], |row| row.get(0).map(Signature))
        .optional()
}
