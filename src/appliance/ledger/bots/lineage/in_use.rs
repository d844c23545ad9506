//! A certificate of an instance's own is in use: it was shown, or the ledger had lost it.

use jiff::Timestamp;

use super::{
    super::{
        super::{
            NewIntent,
            acts::{self, Text},
            writer::{Batch, Failure},
        },
        Act, body,
        standing::InstanceStanding,
    },
    Adopted, Adoption, Shown,
    instances::{insert_instance, make_room},
};
use crate::policy::{Grant, Instance};

pub(super) fn confirm(
    batch: &mut Batch<'_>,
    shown: &Shown,
    issuer: &str,
    found: &InstanceStanding,
    now: Timestamp,
) -> Result<(), Failure> {
    let Shown { instance, serial, from, .. } = shown;
    supersede(batch, &instance.id)?;
    batch
        .sql
        .prepare_cached(
            "UPDATE bot_certificates SET state = 'confirmed', seen_at = ?3, seen_from = ?4
             WHERE intent = (SELECT id FROM intents WHERE issuer = ?1 AND serial = ?2)",
        )?
        .execute((issuer, serial, now.as_millisecond(), from.to_string()))?;
    batch.audit(&body(&Act::BotConfirmed {
        bot: &instance.bot,
        instance: &instance.id,
        generation: found.generation,
        serial,
        from: &from.to_string(),
    })?)?;
    seen(batch, instance, now)?;
    if found.generation == 1 {
        make_room(batch, instance, &found.spec, now)?;
    }
    Ok(())
}

pub(super) fn adopt(
    batch: &mut Batch<'_>,
    adoption: &Adoption,
    found: &InstanceStanding,
    names: &str,
    now: Timestamp,
) -> Result<Adopted, Failure> {
    let Adoption { shown, issuer, text, summary, own } = adoption;
    let Shown { instance, certificate, serial, from, .. } = shown;
    let (newest, generation): (Option<i64>, u64) = batch
        .sql
        .prepare_cached(
            "SELECT max(CASE state WHEN 'confirmed' THEN not_before END),
                    coalesce(max(generation), 0) + 1
             FROM bot_certificates JOIN intents ON intents.id = intent WHERE instance = ?1",
        )?
        .query_row([&instance.id], |row| Ok((row.get(0)?, row.get(1)?)))?;
    if newest.is_some_and(|newest| summary.not_before.as_millisecond() < newest) {
        return Ok(Adopted::Older);
    }
    let is_new = generation == 1;
    if is_new {
        let words = "a certificate of which the ledger did not know";
        insert_instance(batch, instance, &found.spec, (&summary.key_fingerprint, words), now)?;
    }
    let intent = NewIntent {
        issuer: issuer.clone(),
        caller: own.clone(),
        role: Grant::BOT_ROLE.to_owned(),
        session: None,
        idempotency: None,
        on_behalf_of: None,
        account: None,
        lineage: None,
        card: None,
        now,
    };
    let text = Text { bytes: text.clone(), summary: summary.clone() };
    let id = acts::insert_intent(batch, &intent, &text, names)?;
    acts::insert_certificate(batch, id, certificate, now)?;
    supersede(batch, &instance.id)?;
    batch
        .sql
        .prepare_cached(
            "UPDATE bot_certificates SET state = 'superseded'
             WHERE instance = ?1 AND state = 'pending'",
        )?
        .execute([&instance.id])?;
    batch
        .sql
        .prepare_cached(
            "INSERT INTO bot_certificates (intent, instance, generation, state, seen_at, seen_from)
             VALUES (?1, ?2, ?3, 'confirmed', ?4, ?5)",
        )?
        .execute((id, &instance.id, generation, now.as_millisecond(), from.to_string()))?;
    batch.audit(&body(&Act::BotAdopted {
        bot: &instance.bot,
        instance: &instance.id,
        generation,
        serial,
        from: &from.to_string(),
    })?)?;
    seen(batch, instance, now)?;
    if is_new {
        make_room(batch, instance, &found.spec, now)?;
    }
    Ok(Adopted::Taken)
}

/// What was in use is not, since a later one is.
fn supersede(batch: &Batch<'_>, instance: &str) -> rusqlite::Result<()> {
    batch
        .sql
        .prepare_cached(
            "UPDATE bot_certificates SET state = 'superseded'
             WHERE instance = ?1 AND state = 'confirmed'",
        )?
        .execute([instance])?;
    Ok(())
}

/// An instance was heard of by a certificate that it never used before. What has expired is nothing
/// that it could show.
fn seen(batch: &Batch<'_>, instance: &Instance, now: Timestamp) -> rusqlite::Result<()> {
    batch
        .sql
        .prepare_cached("UPDATE bot_instances SET seen_at = ?2 WHERE id = ?1")?
        .execute((&instance.id, now.as_millisecond()))?;
    batch
        .sql
        .prepare_cached(
            "DELETE FROM bot_certificates
             WHERE instance = ?1 AND state IN ('superseded', 'discarded')
               AND intent IN (SELECT id FROM intents
                              WHERE id = bot_certificates.intent AND not_after < ?2)",
        )?
        .execute((&instance.id, now.as_millisecond()))?;
    Ok(())
}
