//! Locks in the ledger.

use std::{collections::BTreeSet, sync::Arc};

use api::{LockEffect, LockRequest, LockTarget, Locked, RevocationReason, UnlockRequest};
use jiff::{SignedDuration, Timestamp};
use rusqlite::{Connection, named_params};

use super::{
    acts::{body, optional, parsed, time},
    audit::Act,
    bots, cards, changes, hosts, sessions,
    writer::{Batch, Failure},
};
use crate::policy::{Lock, Locks, Subject};

/// What a lock hits among the certificates that there were when it was looked.
#[derive(Debug, Default)]
pub(super) struct Seen {
    hit: Vec<i64>,
    /// The last intent that was looked at.
    last: i64,
}

impl Seen {
    /// What the lock hits now. Only what came after the look is still to be looked at.
    pub(super) fn and_since(
        self,
        sql: &Connection,
        lock: &Lock,
        now: Timestamp,
    ) -> rusqlite::Result<impl Iterator<Item = i64>> {
        Ok(self.hit.into_iter().chain(certificates(sql, lock, self.last, now)?))
    }
}

/// Looks at all that there is, while others write.
pub(super) fn look(sql: &Connection, lock: &Lock, now: Timestamp) -> rusqlite::Result<Seen> {
    let last = sql.query_row("SELECT coalesce(max(id), 0) FROM intents", (), |row| row.get(0))?;
    Ok(Seen { hit: certificates(sql, lock, 0, now)?, last })
}

/// Sets a lock, revokes what was issued to its target, and ends its sessions. Only what came after
/// `seen` is still to be looked at, while all others wait.
pub(super) fn add(
    request: LockRequest,
    seen: Seen,
    by: &str,
    now: Timestamp,
) -> impl FnOnce(&mut Batch<'_>) -> Result<Locked, Failure> + use<> {
    let by = by.to_owned();
    move |batch: &mut Batch<'_>| set(batch, request, seen, &by, now)
}

/// As [`add`], within other work.
pub(super) fn set(
    batch: &mut Batch<'_>,
    request: LockRequest,
    seen: Seen,
    by: &str,
    now: Timestamp,
) -> Result<Locked, Failure> {
    let LockRequest { target, issued_before, reason, ttl } = request;
    let expires_at =
        ttl.and_then(|ttl| now.checked_add(SignedDuration::from_secs(i64::from(ttl))).ok());
    let id = insert(batch, (&target, issued_before, &reason, by, now, expires_at))?;
    let lock = Lock { id: id.cast_unsigned(), target: target.clone(), issued_before, expires_at };
    let change = changes::change(batch, &format!("lock {target}"), now)?;
    let hit = seen.and_since(batch.sql, &lock, now)?;
    let code = RevocationReason::PrivilegeWithdrawn;
    let mut revoked = changes::revoke(batch, change, code, hit)?;
    let ended = sessions::hit(batch.sql, &lock)?;
    for (session, _) in &ended {
        revoked += sessions::end_by_lock(batch, session, change, now)?;
    }
    let sessions = ended.len() as u64;
    batch.audit(&body(&Act::Locked {
        lock: lock.id,
        target: &target,
        issued_before,
        expires_at,
        reason: &reason,
        by,
        revoked,
        sessions,
    })?)?;
    let mut locks = Locks::clone(&batch.locks);
    locks.0.push(lock);
    batch.locks = Arc::new(locks);
    let lock = api::Lock {
        id: id.cast_unsigned(),
        target,
        issued_before,
        reason,
        locked_by: by.to_owned(),
        locked_at: now,
        expires_at,
    };
    let logon_certificates = changes::logon_certificates(batch.sql, change)?;
    let change = change.cast_unsigned();
    Ok(Locked { lock, revoked, logon_certificates, sessions, change })
}

/// Removes all locks on a target; returns them.
pub(super) fn remove(
    request: UnlockRequest,
    by: &str,
    now: Timestamp,
) -> impl FnOnce(&mut Batch<'_>) -> Result<Vec<api::Lock>, Failure> + use<> {
    let by = by.to_owned();
    move |batch: &mut Batch<'_>| {
        let UnlockRequest { target, reason } = request;
        let mut removed = in_force(batch.sql, now)?;
        removed.retain(|lock| lock.target == target);
        for lock in &removed {
            batch
                .sql
                .prepare_cached("UPDATE locks SET removed_at = ?2 WHERE id = ?1")?
                .execute((lock.id, now.as_millisecond()))?;
            let (target, reason, by) = (&target, reason.as_str(), by.as_str());
            batch.audit(&body(&Act::Unlocked { lock: lock.id, target, reason, by })?)?;
        }
        if !removed.is_empty() {
            bots::rearm(batch, &target)?;
        }
        let mut locks = Locks::clone(&batch.locks);
        locks.0.retain(|lock| lock.target != target);
        batch.locks = Arc::new(locks);
        Ok(removed)
    }
}

/// The locks in force, the latest first.
pub(super) fn in_force(sql: &Connection, now: Timestamp) -> rusqlite::Result<Vec<api::Lock>> {
    let mut statement = sql.prepare_cached(
        "SELECT id, target, issued_before, reason, locked_by, locked_at, expires_at FROM locks
         WHERE removed_at IS NULL AND (expires_at IS NULL OR expires_at > ?1) ORDER BY id DESC",
    )?;
    let rows = statement.query_map([now.as_millisecond()], |row| {
        Ok(api::Lock {
            id: row.get(0)?,
            target: parsed(row, 1, str::parse::<LockTarget>)?,
            issued_before: optional(row, 2, time)?,
            reason: row.get(3)?,
            locked_by: row.get(4)?,
            locked_at: time(row, 5)?,
            expires_at: optional(row, 6, time)?,
        })
    })?;
    rows.collect()
}

/// The locks in force, as policy reads them, in their order.
pub(super) fn read(sql: &Connection, now: Timestamp) -> rusqlite::Result<Locks> {
    let lock = |lock: api::Lock| {
        let api::Lock { id, target, issued_before, expires_at, .. } = lock;
        Lock { id, target, issued_before, expires_at }
    };
    Ok(Locks(in_force(sql, now)?.into_iter().rev().map(lock).collect()))
}

/// What a lock would hit.
pub(super) fn preview(
    sql: &Connection,
    lock: &Lock,
    now: Timestamp,
) -> rusqlite::Result<LockEffect> {
    let certificates = certificates(sql, lock, 0, now)?;
    let sessions = sessions::hit(sql, lock)?;
    let targets = sessions.iter().flat_map(|(_, subject)| &subject.targets);
    let mut hosts: BTreeSet<String> = targets.map(ToString::to_string).collect();
    for &intent in &certificates {
        hosts.extend(hosts::with_connections_of(sql, intent)?);
    }
    Ok(LockEffect {
        certificates: certificates.len() as u64,
        sessions: sessions.len() as u64,
        hosts: hosts.len() as u64,
    })
}

/// The intents after one that a lock hits, which are not over and not revoked. What the database can
/// find by a column is found there; the lock itself has the last word.
pub(super) fn certificates(
    sql: &Connection,
    lock: &Lock,
    after: i64,
    now: Timestamp,
) -> rusqlite::Result<Vec<i64>> {
    const NAMED: &str =
        "instr(caller, :value) OR instr(names, :value) OR instr(sessions.targets, :value)";
    let card = match lock.target {
        LockTarget::Card(serial) => serial.to_string(),
        _ => String::new(),
    };
    let (condition, value) = match &lock.target {
        LockTarget::All => (":value = ''", ""),
        LockTarget::Bot(name) | LockTarget::User(name) => (NAMED, name.as_str()),
        LockTarget::BotInstance(_, instance) => (NAMED, instance.as_str()),
        LockTarget::Card(_) => (cards::OF_CARD, card.as_str()),
        LockTarget::Host(name) => (NAMED, name.as_str()),
        LockTarget::Issuer(name) => ("issuer = :value", name.as_str()),
        LockTarget::Key(fingerprint) => ("key_fingerprint = :value", fingerprint.as_str()),
        LockTarget::Role(name) => ("intents.role = :value", name.as_str()),
        LockTarget::Serial(_, serial) => ("serial = :value", serial.as_str()),
        LockTarget::Spiffe(id) => (NAMED, id.as_str()),
    };
    let parameters =
        named_params! { ":now": now.as_millisecond(), ":after": after, ":value": value };
    let found = changes::live(sql, condition, after > 0, parameters)?;
    let hit = |(_, subject): &(i64, Subject)| match lock.target {
        // It was found to be the card's, also where it was certified without the card's word.
        LockTarget::Card(serial) => lock.hits(&Subject { card: Some(serial), ..subject.clone() }),
        _ => lock.hits(subject),
    };
    Ok(found.into_iter().filter(hit).map(|(id, _)| id).collect())
}

type NewLock<'a> =
    (&'a LockTarget, Option<Timestamp>, &'a str, &'a str, Timestamp, Option<Timestamp>);

fn insert(batch: &Batch<'_>, lock: NewLock<'_>) -> rusqlite::Result<i64> {
    let (target, issued_before, reason, by, now, expires_at) = lock;
    batch
        .sql
        .prepare_cached(
            "INSERT INTO locks (target, issued_before, reason, locked_by, locked_at, expires_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .insert((
            target.to_string(),
            issued_before.map(Timestamp::as_millisecond),
            reason,
            by,
            now.as_millisecond(),
            expires_at.map(Timestamp::as_millisecond),
        ))
}
