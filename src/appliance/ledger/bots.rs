//! Bots: what operators said of them, and the lineages of their instances.
//!
//! An instance has one confirmed certificate of its own and at most one pending, of the next
//! generation: `lineage` has the rules of that. `standing` says how what an instance shows stands.

mod lineage;
mod standing;

use api::{
    Bot, BotApplied, BotInstanceState, BotName, BotSpec, JoinMethod, LockTarget, RevocationReason,
};
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row};
use serde::Serialize;

pub(super) use self::lineage::{Look, check_caller, look};
pub use self::{
    lineage::{Adopted, Adoption, Joining, Lineage, Proof, Shown},
    standing::{Held, InstanceStanding},
};
use super::{
    Ledger, LedgerError,
    acts::{json, not_json, optional, parsed, time},
    audit::Body,
    changes, locks, sessions,
    writer::{Batch, Failure},
};
use crate::policy::Lock;

/// A secret with which a bot may join once.
#[derive(Clone, Debug)]
pub struct NewToken {
    /// The bot.
    pub bot: BotName,
    /// SHA-256 of the secret.
    pub secret: [u8; 32],
    /// When the secret is good no more.
    pub expires_at: Timestamp,
    /// Who made it (SPIFFE id).
    pub by: String,
}

impl Ledger {
    /// Adds a bot, or makes it what the specification says.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub async fn apply_bot(
        &self,
        spec: BotSpec,
        by: &str,
        now: Timestamp,
    ) -> Result<BotApplied, LedgerError> {
        let text = json(&spec)?;
        let added = body(&Act::BotAdded { bot: &spec.name, spec: &spec, by })?;
        let changed = body(&Act::BotChanged { bot: &spec.name, spec: &spec, by })?;
        let by = by.to_owned();
        let work = move |batch: &mut Batch<'_>| {
            let before = find(batch.sql, &spec.name)?;
            let is_changed = before.as_ref().is_none_or(|before| before.spec != spec);
            if is_changed {
                batch.audit(if before.is_some() { &changed } else { &added })?;
                store(batch, &text, Joins::after(&spec, before.as_ref()), (&spec.name, &by, now))?;
            }
            Ok(BotApplied { bot: required(batch.sql, &spec.name, now)?, changed: is_changed })
        };
        self.0.writer.submit(work).await
    }

    /// Makes a token for a bot; the one before is good no more. Nothing if there is no such bot.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub async fn make_bot_token(&self, new: NewToken) -> Result<Option<()>, LedgerError> {
        let body =
            body(&Act::BotTokenMade { bot: &new.bot, by: &new.by, expires_at: new.expires_at })?;
        let work = move |batch: &mut Batch<'_>| {
            let made = batch
                .sql
                .prepare_cached(
                    "UPDATE bots SET secret = ?2, secret_expires_at = ?3, secret_key = NULL
                     WHERE name = ?1",
                )?
                .execute((new.bot.as_str(), new.secret, new.expires_at.as_millisecond()))?;
            if made == 0 {
                return Ok(None);
            }
            batch.audit(&body)?;
            Ok(Some(()))
        };
        self.0.writer.submit(work).await
    }

    /// Forgets a bot and its instances, revokes all certificates that they asked for or that name
    /// them as their holders, and ends their sessions; gives it as it was, or nothing if there is
    /// none.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub async fn remove_bot(
        &self,
        bot: &BotName,
        by: &str,
        reason: &str,
        now: Timestamp,
    ) -> Result<Option<Bot>, LedgerError> {
        let its = Lock {
            id: 0,
            target: LockTarget::Bot(bot.to_string()),
            issued_before: None,
            expires_at: None,
        };
        let (bot, by, reason) = (bot.clone(), by.to_owned(), reason.to_owned());
        let seen = self.read({
            let its = its.clone();
            move |sql| locks::look(sql, &its, now)
        });
        let seen = seen.await?;
        let work = move |batch: &mut Batch<'_>| {
            let Some(mut found) = list(batch.sql, Some(&bot), now)?.pop() else { return Ok(None) };
            let hit = seen.and_since(batch.sql, &its, now)?;
            let change = changes::change(batch, &format!("remove bot {bot}"), now)?;
            let code = RevocationReason::CessationOfOperation;
            let mut revoked = changes::revoke(batch, change, code, hit)?;
            for (session, _) in sessions::hit(batch.sql, &its)? {
                revoked += sessions::end_by(batch, &session, change, (&by, &reason), now)?;
            }
            batch
                .sql
                .prepare_cached("DELETE FROM bots WHERE name = ?1")?
                .execute([bot.as_str()])?;
            batch.audit(&body(&Act::BotRemoved {
                bot: &bot,
                by: &by,
                reason: &reason,
                revoked,
            })?)?;
            for instance in &mut found.instances {
                instance.state = BotInstanceState::Replaced;
            }
            Ok(Some(found))
        };
        self.0.writer.submit(work).await
    }

    /// All bots, by name, or one.
    ///
    /// # Errors
    ///
    /// The ledger cannot be read.
    pub async fn bots(
        &self,
        only: Option<BotName>,
        now: Timestamp,
    ) -> Result<Vec<Bot>, LedgerError> {
        self.read(move |sql| list(sql, only.as_ref(), now)).await
    }

    /// What a bot is to be.
    ///
    /// # Errors
    ///
    /// The ledger cannot be read.
    pub async fn bot_spec(&self, bot: &BotName) -> Result<Option<BotSpec>, LedgerError> {
        let bot = bot.clone();
        self.read(move |sql| Ok(find(sql, &bot)?.map(|found| found.spec))).await
    }
}

/// What is recorded of bots.
#[expect(clippy::enum_variant_names, reason = "as the audit log has them, beside all others")]
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Act<'a> {
    /// An operator has added a bot.
    BotAdded { bot: &'a BotName, spec: &'a BotSpec, by: &'a str },
    /// The ledger did not know a certificate that the appliance had signed: it was restored from an
    /// older copy, and takes the certificate up again.
    BotAdopted {
        bot: &'a BotName,
        instance: &'a str,
        generation: u64,
        serial: &'a str,
        from: &'a str,
    },
    /// An operator has made a bot something else.
    BotChanged { bot: &'a BotName, spec: &'a BotSpec, by: &'a str },
    /// Two have the identity of an instance; its lock is the next entry.
    BotCloned { bot: &'a BotName, instance: &'a str, seen: &'a str },
    /// A certificate of an instance was used first.
    BotConfirmed {
        bot: &'a BotName,
        instance: &'a str,
        generation: u64,
        serial: &'a str,
        from: &'a str,
    },
    /// There is a new instance, once its certificate is confirmed.
    BotJoined {
        bot: &'a BotName,
        instance: &'a str,
        proof: &'a str,
        key_fingerprint: &'a str,
        from: &'a str,
    },
    /// The removal of a lock lets a bot join by its key once more.
    BotRecoveryGiven { bot: &'a BotName, recoveries_left: u64 },
    /// An operator has removed a bot.
    BotRemoved { bot: &'a BotName, by: &'a str, reason: &'a str, revoked: u64 },
    /// An instance asked for its next certificate.
    BotRenewed {
        bot: &'a BotName,
        instance: &'a str,
        generation: u64,
        key_fingerprint: &'a str,
        from: &'a str,
    },
    /// Another instance took the place of one.
    BotReplaced { bot: &'a BotName, instance: &'a str, other: &'a str, revoked: u64 },
    /// An operator has made a secret to join with.
    BotTokenMade { bot: &'a BotName, by: &'a str, expires_at: Timestamp },
}

fn body(act: &Act<'_>) -> Result<Body, LedgerError> {
    Body::of(act).map_err(not_json)
}

/// After a lock was removed: who was locked by mistake joins by its key once more than it may.
pub(super) fn rearm(batch: &mut Batch<'_>, target: &LockTarget) -> Result<(), Failure> {
    let (LockTarget::Bot(name) | LockTarget::BotInstance(name, _)) = target else { return Ok(()) };
    let Some(name) = name.parse().ok() else { return Ok(()) };
    let Some(found) = find(batch.sql, &name)? else { return Ok(()) };
    if !matches!(found.spec.join, JoinMethod::BoundKey { .. }) {
        return Ok(());
    }
    let recoveries_left = found.joins.recoveries_left + 1;
    set_joins(batch, &name, Joins { recoveries_left, ..found.joins })?;
    Ok(batch.audit(&body(&Act::BotRecoveryGiven { bot: &name, recoveries_left })?)?)
}

/// A bot but for its instances.
struct Stored {
    spec: BotSpec,
    joins: Joins,
    token: Option<Token>,
}

/// How often a bot may still join by its key.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(in crate::ledger) struct Joins {
    free: u64,
    recoveries_left: u64,
}

/// The last join token of a bot.
struct Token {
    secret: [u8; 32],
    expires_at: Timestamp,
    /// The key that has used it.
    key: Option<String>,
}

impl Joins {
    /// What is left when a bot is made what the specification says: another key or another number
    /// begins anew, and more instances may join once for each.
    fn after(spec: &BotSpec, before: Option<&Stored>) -> Self {
        let JoinMethod::BoundKey { recoveries, .. } = spec.join else { return Self::default() };
        let (free, recoveries_left) = (u64::from(spec.max_instances), u64::from(recoveries));
        let Some(before) = before else { return Self { free, recoveries_left } };
        let JoinMethod::BoundKey { public_key, recoveries: given } = &before.spec.join else {
            return Self { free, recoveries_left };
        };
        match &spec.join {
            JoinMethod::BoundKey { public_key: now, .. } if now != public_key => {
                Self { free, recoveries_left }
            }
            _ => {
                let more = spec.max_instances.saturating_sub(before.spec.max_instances);
                let left = before.joins.recoveries_left;
                let left = if recoveries == *given { left } else { recoveries_left };
                Self { free: before.joins.free + u64::from(more), recoveries_left: left }
            }
        }
    }

    /// What is left after one more, if it may be.
    fn less_one(self) -> Option<Self> {
        if let Some(free) = self.free.checked_sub(1) {
            return Some(Self { free, ..self });
        }
        let recoveries_left = self.recoveries_left.checked_sub(1)?;
        Some(Self { recoveries_left, ..self })
    }
}

fn find(sql: &Connection, name: &BotName) -> rusqlite::Result<Option<Stored>> {
    sql.prepare_cached(
        "SELECT spec, free_joins, recoveries_left, secret, secret_expires_at, secret_key
         FROM bots WHERE name = ?1",
    )?
    .query_row([name.as_str()], |row| {
        Ok(Stored {
            spec: spec(row, 0)?,
            joins: Joins { free: row.get(1)?, recoveries_left: row.get(2)? },
            token: optional(row, 3, |row, at| {
                Ok(Token {
                    secret: row.get(at)?,
                    expires_at: time(row, at + 1)?,
                    key: row.get(at + 2)?,
                })
            })?,
        })
    })
    .optional()
}

fn spec(row: &Row<'_>, at: usize) -> rusqlite::Result<BotSpec> {
    parsed(row, at, |text| serde_json::from_str(text))
}

fn store(
    batch: &Batch<'_>,
    spec: &str,
    joins: Joins,
    (name, by, now): (&BotName, &str, Timestamp),
) -> rusqlite::Result<()> {
    batch
        .sql
        .prepare_cached(
            "INSERT INTO bots (name, spec, added_at, added_by, free_joins, recoveries_left)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (name) DO UPDATE
             SET spec = ?2, free_joins = ?5, recoveries_left = ?6",
        )?
        .execute((
            name.as_str(),
            spec,
            now.as_millisecond(),
            by,
            joins.free,
            joins.recoveries_left,
        ))?;
    Ok(())
}

fn set_joins(batch: &Batch<'_>, name: &BotName, joins: Joins) -> rusqlite::Result<()> {
    batch
        .sql
        .prepare_cached("UPDATE bots SET free_joins = ?2, recoveries_left = ?3 WHERE name = ?1")?
        .execute((name.as_str(), joins.free, joins.recoveries_left))?;
    Ok(())
}

fn required(sql: &Connection, name: &BotName, now: Timestamp) -> rusqlite::Result<Bot> {
    list(sql, Some(name), now)?.pop().ok_or(rusqlite::Error::QueryReturnedNoRows)
}

/// Bots with their instances, the latest of these first.
fn list(sql: &Connection, only: Option<&BotName>, now: Timestamp) -> rusqlite::Result<Vec<Bot>> {
    let mut statement = sql.prepare_cached(
        "SELECT spec, bots.added_at, added_by, recoveries_left,
                bot_instances.id, joined_at, bot_instances.seen_at, renewable, replaced_at,
                generation, not_after, state = 'confirmed', revocations.intent IS NOT NULL
         FROM bots
              LEFT JOIN bot_instances ON bot = bots.name
              LEFT JOIN bot_certificates
                   ON instance = bot_instances.id AND state IN ('confirmed', 'pending')
              LEFT JOIN intents ON intents.id = bot_certificates.intent
              LEFT JOIN revocations ON revocations.intent = intents.id
         WHERE ?1 IS NULL OR bots.name = ?1
         ORDER BY bots.name, joined_at DESC, bot_instances.id, state = 'confirmed'",
    )?;
    let mut rows = statement.query([only.map(BotName::as_str)])?;
    let mut bots: Vec<Bot> = Vec::new();
    while let Some(row) = rows.next()? {
        let spec = spec(row, 0)?;
        if bots.last().is_none_or(|last| last.spec.name != spec.name) {
            let bound = matches!(spec.join, JoinMethod::BoundKey { .. });
            bots.push(Bot {
                spec,
                added_at: time(row, 1)?,
                added_by: row.get(2)?,
                recoveries_left: row.get(3).map(|left| bound.then_some(left))?,
                instances: Vec::new(),
            });
        }
        let (Some(instance), Some(bot)) =
            (optional(row, 4, |row, _| instance(row, now))?, bots.last_mut())
        else {
            continue;
        };
        // The confirmed certificate comes after the pending one, and says how it stands.
        match bot.instances.last_mut().filter(|last| last.id == instance.id) {
            Some(last) => {
                let generation = last.generation.max(instance.generation);
                *last = api::BotInstance { generation, ..instance };
            }
            None => bot.instances.push(instance),
        }
    }
    Ok(bots)
}

fn instance(row: &Row<'_>, now: Timestamp) -> rusqlite::Result<api::BotInstance> {
    let (not_after, replaced_at) = (time(row, 10)?, optional(row, 8, time)?);
    let state = match (replaced_at, row.get(12)?) {
        (Some(_), _) => BotInstanceState::Replaced,
        (None, true) => BotInstanceState::Locked,
        (None, false) if not_after < now => BotInstanceState::Expired,
        (None, false) => BotInstanceState::Live,
    };
    Ok(api::BotInstance {
        id: row.get(4)?,
        state,
        generation: row.get(9)?,
        joined_at: time(row, 5)?,
        last_seen: optional(row, 6, time)?,
        not_after,
        renewable: row.get(7)?,
    })
}
