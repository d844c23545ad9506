//! What was taken back: changes, each with the certificates that it revoked.

use api::{RevocationReason, RevokeRequest, Revoked};
use jiff::Timestamp;
use pki::{
    seal::{Kind, Summary},
    serial::Serial,
};
use rusqlite::{Connection, OptionalExtension, Params, Row, named_params};

use super::{
    LedgerError,
    acts::{SUMMARY_COLUMNS, body, parsed, summary, time, variant, word},
    audit::Act,
    writer::{Batch, Failure},
};
use crate::policy::Subject;

/// A certificate that was taken back.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Revocation {
    /// The change that did it.
    pub change: u64,
    /// When.
    pub at: Timestamp,
    /// Why, as CRLs and OCSP answers say it.
    pub code: RevocationReason,
    /// The authority that signed it, or was to sign it.
    pub issuer: String,
    /// Of which kind it is.
    pub kind: Kind,
    /// Its serial number.
    pub serial: Serial,
    /// The last second of its validity.
    pub not_after: Timestamp,
}

/// A version of what is published.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Publication {
    /// Its number; grows.
    pub version: u64,
    /// The last change that it tells.
    pub change: u64,
    /// When it was there for all.
    pub published_at: Option<Timestamp>,
}

/// A new change; what is revoked names it.
pub(super) fn change(batch: &mut Batch<'_>, what: &str, now: Timestamp) -> rusqlite::Result<i64> {
    let id = batch
        .sql
        .prepare_cached("INSERT INTO changes (at, what) VALUES (?1, ?2)")?
        .insert((now.as_millisecond(), what))?;
    batch.changed = Some(id);
    Ok(id)
}

/// Revokes intents that were not revoked before; returns how many.
pub(super) fn revoke(
    batch: &Batch<'_>,
    change: i64,
    code: RevocationReason,
    intents: impl IntoIterator<Item = i64>,
) -> rusqlite::Result<u64> {
    let mut insert = batch.sql.prepare_cached(
        "INSERT OR IGNORE INTO revocations (intent, change, code) VALUES (?1, ?2, ?3)",
    )?;
    let code = word(code);
    let mut revoked = 0;
    for intent in intents {
        revoked += insert.execute((intent, change, &code))? as u64;
    }
    Ok(revoked)
}

/// How many of the certificates that a change revoked are for smart-card logon.
pub(super) fn logon_certificates(sql: &Connection, change: i64) -> rusqlite::Result<u64> {
    sql.prepare_cached(
        "SELECT count(*) FROM revocations JOIN intents ON intents.id = intent
         WHERE change = ?1 AND kind = ?2",
    )?
    .query_row((change, word(Kind::SmartcardLogon)), |row| row.get(0))
}

/// The intents of a session that are not over and not revoked.
pub(super) fn of_session(
    sql: &Connection,
    session: &str,
    now: Timestamp,
) -> rusqlite::Result<Vec<i64>> {
    let condition = "session = :session";
    let rows = live(
        sql,
        condition,
        false,
        named_params! { ":now": now.as_millisecond(), ":after": 0, ":session": session },
    )?;
    Ok(rows.into_iter().map(|(id, _)| id).collect())
}

/// Intents after `:after` for which a condition holds and that are not over at `:now` and not
/// revoked, as locks see them; `only_new` if most came before.
pub(super) fn live(
    sql: &Connection,
    condition: &str,
    only_new: bool,
    parameters: impl Params,
) -> rusqlite::Result<Vec<(i64, Subject)>> {
    let plus = if only_new { "+" } else { "" };
    // The plus keeps SQLite from the index by end: what came last is at the end of the table.
    let select = format!(
        "SELECT intents.id, issuer, caller, intents.role, created_at, session, sessions.targets,
                (SELECT card FROM card_keys WHERE card_keys.intent = intents.id),
                {SUMMARY_COLUMNS}
         FROM intents LEFT JOIN sessions ON sessions.id = session
         WHERE {plus}not_after >= :now AND intents.id > :after AND ({condition})
           AND NOT EXISTS (SELECT 1 FROM revocations WHERE intent = intents.id)"
    );
    let mut statement = sql.prepare_cached(&select)?;
    let rows = statement.query_map(parameters, |row| Ok((row.get(0)?, subject(row)?)))?;
    rows.collect()
}

fn subject(row: &Row<'_>) -> rusqlite::Result<Subject> {
    let Summary { kind, serial, names, key_fingerprint, .. } = summary(row, 8)?;
    let targets: Option<String> = row.get(6)?;
    let targets = match targets {
        Some(_) => parsed(row, 6, |targets| serde_json::from_str(targets))?,
        None => Vec::new(),
    };
    Ok(Subject {
        issuer: row.get(1)?,
        caller: row.get(2)?,
        role: row.get(3)?,
        kind: Some(kind),
        serial: serial.to_string(),
        key: key_fingerprint,
        names,
        card: row.get(7)?,
        session: row.get(5)?,
        targets,
        issued_at: time(row, 4)?,
    })
}

/// Whether an intent was taken back.
pub(super) fn is_revoked(sql: &Connection, intent: i64) -> rusqlite::Result<bool> {
    sql.prepare_cached("SELECT 1 FROM revocations WHERE intent = ?1")?.exists([intent])
}

/// Whether a certificate of one of these authorities was taken back.
pub(super) fn is_certificate_revoked(
    sql: &Connection,
    issuers: &[String],
    serial: &str,
) -> rusqlite::Result<bool> {
    let mut statement = sql.prepare_cached(
        "SELECT 1 FROM intents JOIN revocations ON intent = intents.id
         WHERE issuer = ?1 AND serial = ?2",
    )?;
    for issuer in issuers {
        if statement.exists((issuer, serial))? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Revokes one certificate, whether it was given out or not.
pub(super) fn revoke_one(
    request: RevokeRequest,
    by: &str,
    now: Timestamp,
) -> Result<impl FnOnce(&mut Batch<'_>) -> Result<Option<Revoked>, Failure> + use<>, LedgerError> {
    let RevokeRequest { issuer, serial, code, reason } = request;
    let body = body(&Act::Revoked {
        issuer: &issuer,
        serial: &serial,
        code: &word(code),
        reason: &reason,
        by,
    })?;
    Ok(move |batch: &mut Batch<'_>| {
        let found = batch
            .sql
            .prepare_cached("SELECT id FROM intents WHERE issuer = ?1 AND serial = ?2")?
            .query_row((&issuer, &serial), |row| row.get::<_, i64>(0))
            .optional()?;
        let Some(intent) = found else { return Ok(None) };
        let earlier = batch
            .sql
            .prepare_cached("SELECT change FROM revocations WHERE intent = ?1")?
            .query_row([intent], |row| row.get::<_, u64>(0))
            .optional()?;
        if let Some(change) = earlier {
            return Ok(Some(Revoked { revoked: 0, logon_certificates: 0, change }));
        }
        let change = change(batch, &format!("revoke {issuer}/{serial}"), now)?;
        let revoked = revoke(batch, change, code, [intent])?;
        batch.audit(&body)?;
        let logon_certificates = logon_certificates(batch.sql, change)?;
        Ok(Some(Revoked { revoked, logon_certificates, change: change.cast_unsigned() }))
    })
}

/// What was revoked by changes after this one, in their order.
pub(super) fn revocations_after(
    sql: &Connection,
    change: u64,
) -> rusqlite::Result<Vec<Revocation>> {
    let mut statement = sql.prepare_cached(
        "SELECT change, at, code, issuer, kind, serial, not_after
         FROM revocations JOIN changes ON changes.id = change JOIN intents ON intents.id = intent
         WHERE change > ?1 ORDER BY change",
    )?;
    let rows = statement.query_map([change], |row| {
        Ok(Revocation {
            change: row.get(0)?,
            at: time(row, 1)?,
            code: variant(row, 2)?,
            issuer: row.get(3)?,
            kind: variant(row, 4)?,
            serial: parsed(row, 5, str::parse)?,
            not_after: time(row, 6)?,
        })
    })?;
    rows.collect()
}

/// The last change; 0 for none.
pub(super) fn last_change(sql: &Connection) -> rusqlite::Result<u64> {
    sql.query_row("SELECT coalesce(max(id), 0) FROM changes", (), |row| row.get(0))
}

/// When a change was made.
pub(super) fn time_of_change(sql: &Connection, change: u64) -> rusqlite::Result<Option<Timestamp>> {
    sql.prepare_cached("SELECT at FROM changes WHERE id = ?1")?
        .query_row([change], |row| time(row, 0))
        .optional()
}

/// The last version that was begun; 0 for none.
pub(super) fn last_version(sql: &Connection) -> rusqlite::Result<u64> {
    sql.query_row("SELECT coalesce(max(version), 0) FROM publications", (), |row| row.get(0))
}

/// The first version that was published and tells a change.
pub(super) fn publication_of(
    sql: &Connection,
    change: u64,
) -> rusqlite::Result<Option<Publication>> {
    sql.prepare_cached(
        "SELECT version, change, published_at FROM publications
         WHERE change >= ?1 AND published_at IS NOT NULL ORDER BY version LIMIT 1",
    )?
    .query_row([change], |row| {
        Ok(Publication {
            version: row.get(0)?,
            change: row.get(1)?,
            published_at: Some(time(row, 2)?),
        })
    })
    .optional()
}

/// Writes down what is to be signed and published: each text by its name and SHA-256.
pub(super) fn begin_publication(
    publication: Publication,
    texts: &[(String, String)],
    now: Timestamp,
) -> Result<impl FnOnce(&mut Batch<'_>) -> Result<(), Failure> + use<>, LedgerError> {
    let Publication { version, change, .. } = publication;
    let body = body(&Act::PublicationIntent { version, change, texts })?;
    Ok(move |batch: &mut Batch<'_>| {
        batch
            .sql
            .prepare_cached(
                "INSERT INTO publications (version, change, begun_at) VALUES (?1, ?2, ?3)",
            )?
            .execute((version, change, now.as_millisecond()))?;
        batch.audit(&body)?;
        Ok(())
    })
}

/// Writes down that it was signed, and may be published.
pub(super) fn commit_publication(
    version: u64,
    artefacts: &[(String, String)],
    now: Timestamp,
) -> Result<impl FnOnce(&mut Batch<'_>) -> Result<(), Failure> + use<>, LedgerError> {
    let body = body(&Act::Published { version, artefacts })?;
    Ok(move |batch: &mut Batch<'_>| {
        batch
            .sql
            .prepare_cached("UPDATE publications SET published_at = ?2 WHERE version = ?1")?
            .execute((version, now.as_millisecond()))?;
        batch.audit(&body)?;
        Ok(())
    })
}
