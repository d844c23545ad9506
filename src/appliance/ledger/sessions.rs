//! Sessions in the ledger.

use api::{
    Decision, EndCause, RevocationReason, Session, SessionEnded, SessionQuery, SessionState,
};
use jiff::{SignedDuration, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row, ToSql, named_params};

use super::{
    LedgerError,
    acts::{body, json, optional, parsed, time, variant, word},
    audit::Act,
    changes, directory_acts,
    writer::{Batch, Failure},
};
use crate::policy::{Denial, Lock, OpenSession, SessionGrant, Subject};

/// A session that was granted, and its certificate roles.
#[derive(Clone, Debug)]
pub struct NewSession {
    /// Its id.
    pub id: String,
    /// What was granted.
    pub grant: SessionGrant,
    /// The roles whose certificates it gives.
    pub certificate_roles: Vec<String>,
    /// When its role's working hours end, in which it opens if it needs no approval.
    pub closes_at: Option<Timestamp>,
    /// When.
    pub now: Timestamp,
}

/// What an approver says.
#[derive(Clone, Debug)]
pub struct NewDecision {
    /// Of which session.
    pub session: String,
    /// Who (SPIFFE id).
    pub approver: String,
    /// Approved, or denied.
    pub approved: bool,
    /// Why.
    pub reason: String,
    /// When the role's working hours end, in which it opens if this is the last approval.
    pub closes_at: Option<Timestamp>,
    /// When.
    pub now: Timestamp,
}

/// Writes down a session that was asked for; it is open if it needs no approval.
pub(super) fn request(
    new: NewSession,
) -> Result<impl FnOnce(&mut Batch<'_>) -> Result<Session, Failure>, LedgerError> {
    let NewSession { id, grant, certificate_roles, closes_at, now } = new;
    let requester = grant.requester.to_string();
    let body = body(&Act::SessionRequested {
        session: &id,
        role: &grant.role,
        requester: &requester,
        reason: &grant.reason,
        targets: &grant.targets,
        ttl: grant.length.as_secs(),
        approvals: grant.approvals,
    })?;
    let (targets, addresses) = (json(&grant.targets)?, json(&grant.source_addresses)?);
    let roles = json(&certificate_roles)?;
    let given = grant.directory.as_ref().map(json).transpose()?;
    Ok(move |batch: &mut Batch<'_>| {
        let subject = Subject {
            caller: requester.clone(),
            role: grant.role.clone(),
            targets: grant.targets.iter().cloned().collect(),
            session: Some(id.clone()),
            issued_at: now,
            ..Subject::default()
        };
        batch.unless_locked(&subject, now)?;
        batch
            .sql
            .prepare_cached(
                "INSERT INTO sessions (id, state, role, requester, reason, targets,
                    source_addresses, force_command, one_use, certificate_roles, length,
                    approvals, heartbeat, requested_at, waits_until)
                 VALUES (?1, 'waiting', ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
            )?
            .execute((
                &id,
                &grant.role,
                &requester,
                &grant.reason,
                &targets,
                &addresses,
                &grant.force_command,
                grant.one_use,
                &roles,
                grant.length.as_secs(),
                grant.approvals,
                grant.heartbeat.map(|within| within.as_secs()),
                now.as_millisecond(),
                plus(now, grant.waiting).as_millisecond(),
            ))?;
        batch.audit(&body)?;
        if let Some(given) = &given {
            directory_acts::grant(batch, &id, given)?;
        }
        if grant.approvals == 0 {
            open(batch, &id, closes_at, now)?;
        }
        Ok(required(batch.sql, &id)?)
    })
}

/// Writes down what an approver says; the last approval that is needed opens the session.
pub(super) fn decide(
    new: NewDecision,
) -> Result<impl FnOnce(&mut Batch<'_>) -> Result<Session, Failure>, LedgerError> {
    let NewDecision { session: id, approver, approved, reason, closes_at, now } = new;
    let body = body(&Act::SessionDecided {
        session: &id,
        approver: &approver,
        approved,
        reason: &reason,
    })?;
    Ok(move |batch: &mut Batch<'_>| {
        let session = required(batch.sql, &id)?;
        if session.state != SessionState::Waiting || session.waits_until <= now {
            return Err(Denial::SessionNotWaiting { session: id }.into());
        }
        if session.decisions.iter().any(|decision| decision.approver == approver) {
            return Err(Denial::DecidedBefore { session: id }.into());
        }
        batch
            .sql
            .prepare_cached(
                "INSERT INTO decisions (session, approver, approved, reason, at)
                 VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute((&id, &approver, approved, &reason, now.as_millisecond()))?;
        batch.audit(&body)?;
        let approvals = session.decisions.len() + 1;
        if !approved {
            close(batch, &id, SessionState::Denied, None, now)?;
        } else if approvals >= usize::from(session.approvals_needed) {
            open(batch, &id, closes_at, now)?;
        }
        Ok(required(batch.sql, &id)?)
    })
}

/// Notes that a session is still needed.
pub(super) fn beat(
    id: String,
    now: Timestamp,
) -> impl FnOnce(&mut Batch<'_>) -> Result<Session, Failure> {
    move |batch: &mut Batch<'_>| {
        let beaten = batch
            .sql
            .prepare_cached(
                "UPDATE sessions SET beaten_at = ?2 WHERE id = ?1 AND state = 'open' AND ends_at > ?2",
            )?
            .execute((&id, now.as_millisecond()))?;
        if beaten == 0 {
            return Err(Denial::SessionNotOpen { session: id }.into());
        }
        Ok(required(batch.sql, &id)?)
    }
}

/// Ends a session that waits or is open, and revokes its certificates.
pub(super) fn end(
    id: String,
    by: &str,
    reason: &str,
    now: Timestamp,
) -> impl FnOnce(&mut Batch<'_>) -> Result<SessionEnded, Failure> + use<> {
    let (by, reason) = (by.to_owned(), reason.to_owned());
    move |batch: &mut Batch<'_>| {
        let session = required(batch.sql, &id)?;
        if !matches!(session.state, SessionState::Open | SessionState::Waiting) {
            return Err(Denial::SessionNotOpen { session: id }.into());
        }
        let change = changes::change(batch, &format!("end {id}"), now)?;
        let end = End { cause: EndCause::Request, by: Some(&by), reason: Some(&reason) };
        let revoked = end_session(batch, &id, change, &end, now)?;
        let session = required(batch.sql, &id)?;
        let logon_certificates = changes::logon_certificates(batch.sql, change)?;
        let change = change.cast_unsigned();
        Ok(SessionEnded { session, revoked, logon_certificates, change })
    }
}

/// Ends what is due: sessions whose time is over or whose heartbeat is missing, and lets expire what
/// waited too long. Returns the ids of what was open.
pub(super) fn end_due(
    now: Timestamp,
) -> impl FnOnce(&mut Batch<'_>) -> Result<Vec<String>, Failure> {
    move |batch: &mut Batch<'_>| {
        let (due, expired) = (due(batch.sql, now)?, expired(batch.sql, now)?);
        for id in &expired {
            close(batch, id, SessionState::Expired, None, now)?;
            batch.audit(&body(&Act::SessionExpired { session: id })?)?;
        }
        if !due.is_empty() {
            let change = changes::change(batch, "sessions are over", now)?;
            for (id, cause) in &due {
                let end = End { cause: *cause, by: None, reason: None };
                end_session(batch, id, change, &end, now)?;
            }
        }
        Ok(due.into_iter().map(|(id, _)| id).collect())
    }
}

/// Whether [`end_due`] would find anything.
pub(super) fn is_anything_due(sql: &Connection, now: Timestamp) -> rusqlite::Result<bool> {
    Ok(!due(sql, now)?.is_empty() || !expired(sql, now)?.is_empty())
}

/// Ends a session because of a lock; returns how many certificates were revoked.
pub(super) fn end_by_lock(
    batch: &mut Batch<'_>,
    id: &str,
    change: i64,
    now: Timestamp,
) -> Result<u64, Failure> {
    end_session(batch, id, change, &End { cause: EndCause::Lock, by: None, reason: None }, now)
}

/// Ends a session because an operator took away what it rests on; returns how many certificates were
/// revoked.
pub(super) fn end_by(
    batch: &mut Batch<'_>,
    id: &str,
    change: i64,
    (by, reason): (&str, &str),
    now: Timestamp,
) -> Result<u64, Failure> {
    let end = End { cause: EndCause::Request, by: Some(by), reason: Some(reason) };
    end_session(batch, id, change, &end, now)
}

/// Sessions that wait or are open and that a lock hits.
pub(super) fn hit(sql: &Connection, lock: &Lock) -> rusqlite::Result<Vec<(String, Subject)>> {
    let mut statement = sql.prepare_cached(
        "SELECT id, requester, role, targets, requested_at FROM sessions
         WHERE state IN ('open', 'waiting')",
    )?;
    let rows = statement.query_map((), |row| {
        let id: String = row.get(0)?;
        let subject = Subject {
            caller: row.get(1)?,
            role: row.get(2)?,
            targets: parsed(row, 3, |targets| serde_json::from_str(targets))?,
            session: Some(id.clone()),
            issued_at: time(row, 4)?,
            ..Subject::default()
        };
        Ok((id, subject))
    })?;
    let all: Vec<(String, Subject)> = rows.collect::<Result<_, _>>()?;
    Ok(all.into_iter().filter(|(_, subject)| lock.hits(subject)).collect())
}

/// Refuses a certificate for a session that is not open, or for a key that it was given one for.
pub(super) fn check_intent(
    batch: &Batch<'_>,
    session: &str,
    key: &str,
    now: Timestamp,
) -> Result<(), Failure> {
    let open = batch
        .sql
        .prepare_cached("SELECT 1 FROM sessions WHERE id = ?1 AND state = 'open' AND ends_at > ?2")?
        .exists((session, now.as_millisecond()))?;
    if !open {
        return Err(Denial::SessionNotOpen { session: session.to_owned() }.into());
    }
    let used = batch
        .sql
        .prepare_cached("SELECT 1 FROM intents WHERE session = ?1 AND key_fingerprint = ?2")?
        .exists((session, key))?;
    match used {
        true => Err(Denial::SessionKeyUsed { session: session.to_owned() }.into()),
        false => Ok(()),
    }
}

/// A session.
pub(super) fn find(sql: &Connection, id: &str) -> rusqlite::Result<Option<Session>> {
    let select = format!("SELECT {COLUMNS} FROM sessions WHERE id = ?1");
    let found = sql.prepare_cached(&select)?.query_row([id], session).optional()?;
    found.map(|found| with_decisions(sql, found)).transpose()
}

/// Sessions, the latest first.
pub(super) fn list(sql: &Connection, query: &SessionQuery) -> rusqlite::Result<Vec<Session>> {
    let mut statement = sql.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM sessions
         WHERE (:state IS NULL OR state = :state) AND (:role IS NULL OR role = :role)
           AND (:requester IS NULL OR requester = :requester)
         ORDER BY requested_at DESC, id LIMIT :limit"
    ))?;
    let parameters: &[(&str, &dyn ToSql)] = named_params! {
        ":state": query.state.map(word),
        ":role": query.role,
        ":requester": query.requester,
        ":limit": query.limit.unwrap_or(100).clamp(1, 1_000),
    };
    let rows = statement.query_map(parameters, session)?;
    rows.map(|found| with_decisions(sql, found?)).collect()
}

/// A session as far as certificates for it are concerned.
pub(super) fn standing(sql: &Connection, id: &str) -> rusqlite::Result<Option<OpenSession>> {
    Ok(find(sql, id)?.map(|session| OpenSession {
        id: session.id,
        role: session.role,
        requester: session.requester,
        ends_at: session.ends_at.filter(|_| session.state == SessionState::Open),
        targets: session.targets,
        source_addresses: session.source_addresses,
        force_command: session.force_command,
        one_use: session.one_use,
    }))
}

/// What ends a session.
struct End<'a> {
    cause: EndCause,
    by: Option<&'a str>,
    reason: Option<&'a str>,
}

fn end_session(
    batch: &mut Batch<'_>,
    id: &str,
    change: i64,
    end: &End<'_>,
    now: Timestamp,
) -> Result<u64, Failure> {
    let intents = changes::of_session(batch.sql, id, now)?;
    let code = match end.cause {
        EndCause::Lock => RevocationReason::PrivilegeWithdrawn,
        EndCause::Heartbeat | EndCause::Request | EndCause::Time => {
            RevocationReason::CessationOfOperation
        }
    };
    let revoked = changes::revoke(batch, change, code, intents)?;
    if is_open(batch.sql, id)? {
        directory_acts::take_back(batch, id, now)?;
    }
    close(batch, id, SessionState::Ended, Some(end.cause), now)?;
    batch.audit(&body(&Act::SessionEnded {
        session: id,
        cause: &word(end.cause),
        by: end.by,
        reason: end.reason,
        revoked,
    })?)?;
    Ok(revoked)
}

fn open(
    batch: &mut Batch<'_>,
    id: &str,
    closes_at: Option<Timestamp>,
    now: Timestamp,
) -> Result<(), Failure> {
    let length = batch
        .sql
        .prepare_cached("SELECT length FROM sessions WHERE id = ?1")?
        .query_row([id], |row| row.get(0))?;
    let end = plus(now, SignedDuration::from_secs(length));
    let ends_at = closes_at.map_or(end, |closes_at| end.min(closes_at));
    batch
        .sql
        .prepare_cached(
            "UPDATE sessions SET state = 'open', opened_at = ?2, beaten_at = ?2, ends_at = ?3
             WHERE id = ?1",
        )?
        .execute((id, now.as_millisecond(), ends_at.as_millisecond()))?;
    batch.audit(&body(&Act::SessionOpened { session: id, ends_at })?)?;
    directory_acts::give(batch, id, now)
}

fn is_open(sql: &Connection, id: &str) -> rusqlite::Result<bool> {
    sql.prepare_cached("SELECT 1 FROM sessions WHERE id = ?1 AND state = 'open'")?.exists([id])
}

fn plus(time: Timestamp, step: SignedDuration) -> Timestamp {
    time.checked_add(step).unwrap_or(Timestamp::MAX)
}

fn close(
    batch: &Batch<'_>,
    id: &str,
    state: SessionState,
    cause: Option<EndCause>,
    now: Timestamp,
) -> rusqlite::Result<()> {
    batch
        .sql
        .prepare_cached(
            "UPDATE sessions SET state = ?2, end_cause = ?3, ended_at = ?4 WHERE id = ?1",
        )?
        .execute((id, word(state), cause.map(word), now.as_millisecond()))?;
    Ok(())
}

fn due(sql: &Connection, now: Timestamp) -> rusqlite::Result<Vec<(String, EndCause)>> {
    let mut statement = sql.prepare_cached(
        "SELECT id, ends_at <= ?1 FROM sessions WHERE state = 'open'
         AND (ends_at <= ?1 OR beaten_at + heartbeat * 1000 <= ?1)",
    )?;
    let rows = statement.query_map([now.as_millisecond()], |row| {
        let cause = if row.get(1)? { EndCause::Time } else { EndCause::Heartbeat };
        Ok((row.get(0)?, cause))
    })?;
    rows.collect()
}

fn expired(sql: &Connection, now: Timestamp) -> rusqlite::Result<Vec<String>> {
    sql.prepare_cached("SELECT id FROM sessions WHERE state = 'waiting' AND waits_until <= ?1")?
        .query_map([now.as_millisecond()], |row| row.get(0))?
        .collect()
}

fn required(sql: &Connection, id: &str) -> rusqlite::Result<Session> {
    find(sql, id)?.ok_or(rusqlite::Error::QueryReturnedNoRows)
}

/// The columns that [`session`] reads, in its order.
const COLUMNS: &str = "id, state, role, requester, reason, targets, source_addresses, \
    force_command, one_use, certificate_roles, length, approvals, requested_at, waits_until, \
    heartbeat, opened_at, ends_at, ended_at, end_cause";

fn session(row: &Row<'_>) -> rusqlite::Result<Session> {
    Ok(Session {
        id: row.get(0)?,
        state: variant(row, 1)?,
        role: row.get(2)?,
        requester: row.get(3)?,
        reason: row.get(4)?,
        targets: parsed(row, 5, |text| serde_json::from_str(text))?,
        source_addresses: parsed(row, 6, |text| serde_json::from_str(text))?,
        force_command: row.get(7)?,
        one_use: row.get(8)?,
        certificate_roles: parsed(row, 9, |text| serde_json::from_str(text))?,
        ttl: row.get(10)?,
        approvals_needed: row.get(11)?,
        decisions: Vec::new(),
        requested_at: time(row, 12)?,
        waits_until: time(row, 13)?,
        heartbeat: row.get(14)?,
        opened_at: optional(row, 15, time)?,
        ends_at: optional(row, 16, time)?,
        ended_at: optional(row, 17, time)?,
        end_cause: optional(row, 18, variant)?,
    })
}

fn with_decisions(sql: &Connection, mut session: Session) -> rusqlite::Result<Session> {
    let mut statement = sql.prepare_cached(
        "SELECT approver, approved, reason, at FROM decisions WHERE session = ?1 ORDER BY at",
    )?;
    let rows = statement.query_map([&session.id], |row| {
        Ok(Decision {
            approver: row.get(0)?,
            approved: row.get(1)?,
            reason: row.get(2)?,
            at: time(row, 3)?,
        })
    })?;
    session.decisions = rows.collect::<Result<_, _>>()?;
    Ok(session)
}
