//! What is to be done in the organisation's directory: written down with the opening or the end of
//! a session, so that no crash forgets it.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension};

use super::{
    LedgerError,
    acts::{body, json, parsed},
    audit,
    writer::{Batch, Failure},
};
use crate::{
    directory::{Act, Job, Outcome},
    policy::DirectoryGrant,
};

/// Writes down what a session gives once it is open.
pub(super) fn grant(batch: &Batch<'_>, session: &str, grant: &str) -> rusqlite::Result<()> {
    batch
        .sql
        .prepare_cached("INSERT INTO directory_grants (session, what) VALUES (?1, ?2)")?
        .execute((session, grant))?;
    Ok(())
}

/// A session is open: gives what it grants.
pub(super) fn give(batch: &Batch<'_>, session: &str, now: Timestamp) -> Result<(), Failure> {
    match granted(batch.sql, session)? {
        Some(grant) => order(batch, session, &grant, grant.on_open(), now),
        None => Ok(()),
    }
}

/// An open session is over: takes back what it gave, unless another open session gives it too.
pub(super) fn take_back(batch: &Batch<'_>, session: &str, now: Timestamp) -> Result<(), Failure> {
    let Some(grant) = granted(batch.sql, session)? else { return Ok(()) };
    batch
        .sql
        .prepare_cached(
            "UPDATE directory_acts SET outcome = 'overtaken' WHERE session = ?1 AND outcome IS NULL",
        )?
        .execute([session])?;
    let others = others(batch.sql, session)?;
    let left = others.iter().fold(grant, |grant, other| grant.without(other));
    order(batch, session, &left, left.on_end(), now)
}

/// The first act that waits.
pub(super) fn next(sql: &Connection) -> rusqlite::Result<Option<Job>> {
    sql.prepare_cached(
        "SELECT id, session, upn, act FROM directory_acts WHERE outcome IS NULL
         ORDER BY id LIMIT 1",
    )?
    .query_row((), |row| {
        Ok(Job {
            id: row.get(0)?,
            session: row.get(1)?,
            upn: parsed(row, 2, str::parse)?,
            act: parsed(row, 3, |act| serde_json::from_str(act))?,
        })
    })
    .optional()
}

/// Writes down what became of an act.
pub(super) fn done(
    job: Job,
    outcome: Outcome,
    now: Timestamp,
) -> Result<impl FnOnce(&mut Batch<'_>) -> Result<(), Failure>, LedgerError> {
    let word = outcome.word();
    let failure = match &outcome {
        Outcome::Already | Outcome::Done => None,
        Outcome::Failed(why) => Some(why.as_str()),
    };
    let body = body(&audit::Act::Directory {
        session: &job.session,
        upn: job.upn.as_str(),
        act: &job.act,
        outcome: word,
        failure,
    })?;
    Ok(move |batch: &mut Batch<'_>| {
        batch
            .sql
            .prepare_cached("UPDATE directory_acts SET outcome = ?2, done_at = ?3 WHERE id = ?1")?
            .execute((job.id, word, now.as_millisecond()))?;
        batch.audit(&body)?;
        Ok(())
    })
}

fn order(
    batch: &Batch<'_>,
    session: &str,
    grant: &DirectoryGrant,
    acts: Vec<Act>,
    now: Timestamp,
) -> Result<(), Failure> {
    let mut insert = batch.sql.prepare_cached(
        "INSERT INTO directory_acts (session, upn, act, created_at) VALUES (?1, ?2, ?3, ?4)",
    )?;
    for act in acts {
        insert.execute((session, grant.upn.as_str(), json(&act)?, now.as_millisecond()))?;
    }
    Ok(())
}

fn granted(sql: &Connection, session: &str) -> rusqlite::Result<Option<DirectoryGrant>> {
    sql.prepare_cached("SELECT what FROM directory_grants WHERE session = ?1")?
        .query_row([session], |row| parsed(row, 0, |what| serde_json::from_str(what)))
        .optional()
}

/// What the other open sessions give.
fn others(sql: &Connection, session: &str) -> rusqlite::Result<Vec<DirectoryGrant>> {
    sql.prepare_cached(
        "SELECT what FROM directory_grants JOIN sessions ON id = session
         WHERE state = 'open' AND session <> ?1",
    )?
    .query_map([session], |row| parsed(row, 0, |what| serde_json::from_str(what)))?
    .collect()
}
