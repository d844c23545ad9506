//! A certificate of an instance's own is begun: what is looked at before, and what is written down with
//! its intent.

use api::RevocationReason;
use jiff::Timestamp;
use rusqlite::OptionalExtension;

use super::{
    super::{
        super::{
            LedgerError, changes,
            writer::{Batch, Failure},
        },
        Act, Joins, body, find, set_joins,
        standing::Held,
    },
    Joining, Lineage, Proof, Shown,
    instances::{insert_certificate, insert_instance},
    knows_key, required,
};
use crate::policy::{BotDenial, Instance};

/// Refuses what asks as an instance that is gone: it may have gone since it was looked at.
pub(in crate::ledger) fn check_caller(batch: &Batch<'_>, caller: &str) -> Result<(), Failure> {
    let Some(instance) = Instance::recorded(caller) else { return Ok(()) };
    let replaced = batch
        .sql
        .prepare_cached(
            "SELECT replaced_at IS NOT NULL FROM bot_instances WHERE id = ?1 AND bot = ?2",
        )?
        .query_row((&instance.id, instance.bot.as_str()), |row| row.get::<_, bool>(0))
        .optional()?;
    match (replaced, caller.parse()) {
        (Some(false), _) => Ok(()),
        (Some(true), Ok(caller)) => Err(BotDenial::Replaced { caller }.into()),
        _ => Err(BotDenial::NoSuchInstance { bot: instance.bot }.into()),
    }
}

/// What is to be done for a certificate of an instance's own.
pub(in crate::ledger) enum Look {
    /// It was begun before, by this intent.
    Again(i64),
    /// It is a new one.
    New(Step),
}

/// What is written down with a new intent.
pub(in crate::ledger) enum Step {
    Join { joins: Option<Joins> },
    Renew { generation: u64, discards: Option<i64> },
}

/// Looks whether a certificate may be given for this key, and writes nothing.
pub(in crate::ledger) fn look(
    batch: &Batch<'_>,
    lineage: &Lineage,
    (issuer, key): (&str, &str),
    now: Timestamp,
) -> Result<Look, Failure> {
    match lineage {
        Lineage::Join(joining) => look_at_join(batch, joining, key, now),
        Lineage::Renewal(shown) => look_at_renewal(batch, shown, (issuer, key), now),
    }
}

fn look_at_join(
    batch: &Batch<'_>,
    joining: &Joining,
    key: &str,
    now: Timestamp,
) -> Result<Look, Failure> {
    let bot = joining.spec.name.clone();
    let stored =
        find(batch.sql, &bot)?.ok_or_else(|| BotDenial::NoSuchBot { bot: bot.to_string() })?;
    if stored.spec != joining.spec {
        return Err(BotDenial::Changed { bot }.into());
    }
    let again = batch
        .sql
        .prepare_cached(
            "SELECT intents.id FROM bot_instances
                  JOIN bot_certificates ON instance = bot_instances.id
                  JOIN intents ON intents.id = intent
             WHERE bot = ?1 AND key = ?2 AND replaced_at IS NULL
               AND generation = 1 AND state = 'pending' AND not_after >= ?3
               AND NOT EXISTS (SELECT 1 FROM revocations WHERE revocations.intent = intents.id)",
        )?
        .query_row((bot.as_str(), key, now.as_millisecond()), |row| row.get(0))
        .optional()?;
    let found = |joins| Ok(again.map_or(Look::New(Step::Join { joins }), Look::Again));
    match joining.proof {
        Proof::BoundKey if again.is_some() => found(None),
        Proof::BoundKey => match stored.joins.less_one() {
            Some(joins) => found(Some(joins)),
            None => Err(BotDenial::NoRecoveryLeft { bot }.into()),
        },
        Proof::Oidc { token, .. } => {
            let used = batch
                .sql
                .prepare_cached("SELECT key FROM bot_proofs WHERE token = ?1")?
                .query_row([token], |row| row.get::<_, String>(0))
                .optional()?;
            match used {
                None => found(None),
                Some(used) if used == key && again.is_some() => found(None),
                Some(_) => Err(BotDenial::ProofUsed { bot }.into()),
            }
        }
        Proof::Token { secret } => match stored.token {
            Some(token) if token.secret == secret => match token.key {
                Some(used) if used == key && again.is_some() => found(None),
                Some(_) => Err(BotDenial::TokenUsed { bot }.into()),
                None if token.expires_at < now => Err(BotDenial::TokenExpired { bot }.into()),
                // Whatever this key had before, it now has a token of its own.
                None => Ok(Look::New(Step::Join { joins: None })),
            },
            _ => Err(BotDenial::NoSuchToken { bot }.into()),
        },
        Proof::X509 => found(None),
    }
}

fn look_at_renewal(
    batch: &Batch<'_>,
    shown: &Shown,
    (issuer, key): (&str, &str),
    now: Timestamp,
) -> Result<Look, Failure> {
    let Shown { caller, instance, .. } = shown;
    let found = required(batch.sql, shown, issuer)?;
    if found.held != Held::Confirmed {
        return Err(found.held.denial(caller, instance).into());
    }
    if !found.renewable {
        return Err(BotDenial::NotRenewable { bot: instance.bot.clone() }.into());
    }
    let pending: Option<(i64, String, bool)> = batch
        .sql
        .prepare_cached(
            "SELECT intents.id, key_fingerprint,
                    not_after >= ?2
                    AND NOT EXISTS (SELECT 1 FROM revocations WHERE revocations.intent = intents.id)
             FROM bot_certificates JOIN intents ON intents.id = intent
             WHERE instance = ?1 AND state = 'pending'",
        )?
        .query_row((&instance.id, now.as_millisecond()), |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .optional()?;
    if let Some((id, of_key, true)) = &pending
        && of_key == key
    {
        return Ok(Look::Again(*id));
    }
    let discards = pending.map(|(id, ..)| id);
    if knows_key(batch.sql, instance, key, discards)? {
        return Err(BotDenial::KeyUsed { caller: caller.clone() }.into());
    }
    Ok(Look::New(Step::Renew { generation: found.confirmed + 1, discards }))
}

impl Step {
    /// Writes down what the intent's certificate is.
    pub(in crate::ledger) fn take(
        self,
        batch: &mut Batch<'_>,
        intent: i64,
        lineage: &Lineage,
        (key, now): (&str, Timestamp),
    ) -> Result<(), Failure> {
        match (self, lineage) {
            (Self::Join { joins }, Lineage::Join(joining)) => {
                join(batch, intent, joining, joins, (key, now))
            }
            (Self::Renew { generation, discards }, Lineage::Renewal(shown)) => {
                renew(batch, (intent, generation), shown, discards, (key, now))
            }
            (Self::Join { .. } | Self::Renew { .. }, _) => {
                Err(LedgerError::Refused("a step of another lineage".to_owned()).into())
            }
        }
    }
}

fn join(
    batch: &mut Batch<'_>,
    intent: i64,
    joining: &Joining,
    joins: Option<Joins>,
    (key, now): (&str, Timestamp),
) -> Result<(), Failure> {
    let Joining { spec, instance, proof, words, from } = joining;
    if let Some(joins) = joins {
        set_joins(batch, &spec.name, joins)?;
    }
    match proof {
        Proof::Token { .. } => {
            batch
                .sql
                .prepare_cached("UPDATE bots SET secret_key = ?2 WHERE name = ?1")?
                .execute((spec.name.as_str(), key))?;
        }
        Proof::Oidc { token, expires_at } => {
            batch
                .sql
                .prepare_cached("DELETE FROM bot_proofs WHERE expires_at < ?1")?
                .execute([now.as_millisecond()])?;
            batch
                .sql
                .prepare_cached(
                    "INSERT INTO bot_proofs (token, key, expires_at) VALUES (?1, ?2, ?3)",
                )?
                .execute((token, key, expires_at.as_millisecond()))?;
        }
        Proof::BoundKey | Proof::X509 => {}
    }
    insert_instance(batch, instance, spec, (key, words), now)?;
    insert_certificate(batch, intent, instance, 1)?;
    Ok(batch.audit(&body(&Act::BotJoined {
        bot: &spec.name,
        instance: &instance.id,
        proof: words,
        key_fingerprint: key,
        from: &from.to_string(),
    })?)?)
}

fn renew(
    batch: &mut Batch<'_>,
    (intent, generation): (i64, u64),
    shown: &Shown,
    discards: Option<i64>,
    (key, now): (&str, Timestamp),
) -> Result<(), Failure> {
    let Shown { instance, from, .. } = shown;
    if let Some(discarded) = discards {
        // It was never used, or it would be confirmed.
        let what = format!("discard a certificate of bot {}/{}", instance.bot, instance.id);
        let change = changes::change(batch, &what, now)?;
        changes::revoke(batch, change, RevocationReason::Superseded, [discarded])?;
        batch
            .sql
            .prepare_cached("UPDATE bot_certificates SET state = 'discarded' WHERE intent = ?1")?
            .execute([discarded])?;
    }
    insert_certificate(batch, intent, instance, generation)?;
    Ok(batch.audit(&body(&Act::BotRenewed {
        bot: &instance.bot,
        instance: &instance.id,
        generation,
        key_fingerprint: key,
        from: &from.to_string(),
    })?)?)
}
