//! The instances of a bot: a new one is written down, and takes the place of others.

use api::{BotSpec, JoinMethod, RevocationReason};
use jiff::Timestamp;
use rusqlite::named_params;

use super::super::{
    super::{
        changes,
        writer::{Batch, Failure},
    },
    Act, body,
};
use crate::policy::Instance;

/// A new instance takes the place of others, those first that were longest not seen, if there are
/// more than may live. What was given to them ends by itself: it may be in the middle of its work.
pub(super) fn make_room(
    batch: &mut Batch<'_>,
    instance: &Instance,
    spec: &BotSpec,
    now: Timestamp,
) -> Result<(), Failure> {
    let count = |condition: &str| {
        let count = format!("SELECT count(*) FROM bot_instances WHERE bot = ?1 {condition}");
        batch
            .sql
            .prepare_cached(&count)?
            .query_row([spec.name.as_str()], |row| row.get::<_, u64>(0))
    };
    let most = u64::from(spec.max_instances);
    if count("AND replaced_at IS NULL")? <= most {
        return Ok(());
    }
    let too_many = count("")? > most + KEPT;
    let live: Vec<String> = batch
        .sql
        .prepare_cached(
            "SELECT bot_instances.id FROM bot_instances
                  JOIN bot_certificates ON instance = bot_instances.id AND state = 'confirmed'
                  JOIN intents ON intents.id = intent
             WHERE bot = :bot AND bot_instances.id <> :own AND replaced_at IS NULL
               AND not_after >= :now
               AND NOT EXISTS (SELECT 1 FROM revocations WHERE revocations.intent = intents.id)
             ORDER BY bot_instances.seen_at DESC",
        )?
        .query_map(
            named_params! {
                ":bot": spec.name.as_str(), ":own": &instance.id, ":now": now.as_millisecond(),
            },
            |row| row.get(0),
        )?
        .collect::<Result<_, _>>()?;
    let stay = usize::try_from(most.saturating_sub(1)).unwrap_or(usize::MAX);
    for other in live.iter().skip(stay) {
        replace(batch, instance, other, now)?;
    }
    if too_many {
        forget(batch, spec, now)?;
    }
    Ok(())
}

fn replace(
    batch: &mut Batch<'_>,
    by: &Instance,
    other: &str,
    now: Timestamp,
) -> Result<(), Failure> {
    let own: Vec<i64> = batch
        .sql
        .prepare_cached("SELECT intent FROM bot_certificates WHERE instance = ?1")?
        .query_map([other], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    let change = changes::change(batch, &format!("replace bot {}/{other}", by.bot), now)?;
    let revoked = changes::revoke(batch, change, RevocationReason::Superseded, own)?;
    batch
        .sql
        .prepare_cached("UPDATE bot_instances SET replaced_at = ?2 WHERE id = ?1")?
        .execute((other, now.as_millisecond()))?;
    Ok(batch.audit(&body(&Act::BotReplaced {
        bot: &by.bot,
        instance: other,
        other: &by.id,
        revoked,
    })?)?)
}

/// Forgets the instances of a bot that have nothing more to show, but for the last.
fn forget(batch: &Batch<'_>, spec: &BotSpec, now: Timestamp) -> rusqlite::Result<()> {
    batch
        .sql
        .prepare_cached(
            "DELETE FROM bot_instances WHERE id IN (
                 SELECT id FROM bot_instances AS own
                 WHERE bot = ?1 AND NOT EXISTS (
                     SELECT 1 FROM bot_certificates JOIN intents ON intents.id = intent
                     WHERE instance = own.id AND not_after >= ?2)
                 ORDER BY joined_at DESC LIMIT -1 OFFSET ?3)",
        )?
        .execute((spec.name.as_str(), now.as_millisecond(), KEPT))?;
    Ok(())
}

pub(super) fn insert_instance(
    batch: &Batch<'_>,
    instance: &Instance,
    spec: &BotSpec,
    (key, words): (&str, &str),
    now: Timestamp,
) -> rusqlite::Result<()> {
    let renewable = match spec.join {
        JoinMethod::BoundKey { .. } | JoinMethod::Token {} => true,
        JoinMethod::Oidc { .. } | JoinMethod::X509 { .. } => false,
    };
    batch
        .sql
        .prepare_cached(
            "INSERT INTO bot_instances (id, bot, key, proof, renewable, joined_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute((
            &instance.id,
            instance.bot.as_str(),
            key,
            words,
            renewable,
            now.as_millisecond(),
        ))?;
    Ok(())
}

pub(super) fn insert_certificate(
    batch: &Batch<'_>,
    intent: i64,
    instance: &Instance,
    generation: u64,
) -> rusqlite::Result<()> {
    batch
        .sql
        .prepare_cached(
            "INSERT INTO bot_certificates (intent, instance, generation, state)
             VALUES (?1, ?2, ?3, 'pending')",
        )?
        .execute((intent, &instance.id, generation))?;
    Ok(())
}

/// How many instances of a bot are remembered that have nothing to show any more.
const KEPT: u64 = 16;
