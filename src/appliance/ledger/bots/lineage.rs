//! Two-phase renewal (docs/decisions/0013): a certificate is pending until it is used, and only what
//! asks again after that is a copy.

use std::{net::IpAddr, sync::Arc};

use api::{BotSpec, JoinMethod, LockRequest, Locked, RevocationReason};
use jiff::Timestamp;
use pki::{names::SpiffeId, seal::Summary};
use rusqlite::{Connection, OptionalExtension, named_params};

use super::{
    super::{
        Ledger, LedgerError, NewIntent,
        acts::{self, Text, json},
        changes, locks,
        writer::{Batch, Failure},
    },
    Act, Joins, body, find, set_joins,
    standing::{Held, InstanceStanding, standing},
};
use crate::policy::{BotDenial, Grant, Instance, Lock};

/// What an instance's own certificate continues.
#[derive(Clone, Debug)]
pub enum Lineage {
    /// Nothing: it is the first of a new instance.
    Join(Box<Joining>),
    /// The certificate that is shown.
    Renewal(Shown),
}

/// Somebody has proven to be a bot.
#[derive(Clone, Debug)]
pub struct Joining {
    /// The bot, as it was when the proof was verified.
    pub spec: BotSpec,
    /// The instance that it is to be.
    pub instance: Instance,
    /// The proof, as far as it is used up.
    pub proof: Proof,
    /// The proof in words.
    pub words: String,
    /// From where.
    pub from: IpAddr,
}

/// What a proof uses up.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Proof {
    /// A signature by the bound key: one of the joins that the bot has left.
    BoundKey,
    /// A token of another issuer.
    Oidc {
        /// SHA-256 of the token.
        token: [u8; 32],
        /// When it is good no more.
        expires_at: Timestamp,
    },
    /// A join token.
    Token {
        /// SHA-256 of its secret.
        secret: [u8; 32],
    },
    /// Nothing: a signature by the key of another CA's certificate.
    X509,
}

/// What an instance shows of itself: its certificate is valid, and TLS has proven its key.
#[derive(Clone, Debug)]
pub struct Shown {
    /// Its SPIFFE id.
    pub caller: SpiffeId,
    /// The instance.
    pub instance: Instance,
    /// The certificate (DER).
    pub certificate: Arc<[u8]>,
    /// Its serial number, as the ledger has it.
    pub serial: String,
    /// The fingerprint of its key.
    pub key: String,
    /// From where it is shown.
    pub from: IpAddr,
}

/// An instance shows a certificate that the ledger does not know.
#[derive(Debug)]
pub struct Adoption {
    /// Who shows it, and from where.
    pub shown: Shown,
    /// The authority that has signed it.
    pub issuer: String,
    /// The bytes that were signed.
    pub text: Vec<u8>,
    /// What they say.
    pub summary: Summary,
    /// The appliance itself (SPIFFE id).
    pub own: String,
}

/// What became of an adoption.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Adopted {
    /// A later one is in use.
    Older,
    /// It is the one in use.
    Taken,
}

impl Ledger {
    /// Writes down that an instance's pending certificate is in use. Durable when this returns.
    ///
    /// # Errors
    ///
    /// It is not pending any more, or it cannot be written.
    pub async fn confirm(
        &self,
        shown: &Shown,
        issuer: &str,
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        let (shown, issuer) = (shown.clone(), issuer.to_owned());
        let work = move |batch: &mut Batch<'_>| {
            let found = required(batch.sql, &shown, &issuer)?;
            match found.held {
                Held::Confirmed => Ok(()),
                Held::Pending => confirm(batch, &shown, &issuer, &found, now),
                held => Err(held.denial(&shown.caller, &shown.instance).into()),
            }
        };
        self.0.writer.submit(work).await
    }

    /// Takes up a certificate that the appliance signed and the ledger has lost.
    ///
    /// # Errors
    ///
    /// There is no such bot, another instance has its place, or it cannot be written.
    pub async fn adopt(&self, adoption: Adoption, now: Timestamp) -> Result<Adopted, LedgerError> {
        let names = json(&adoption.summary.names)?;
        let work = move |batch: &mut Batch<'_>| {
            let Adoption { shown, issuer, .. } = &adoption;
            let found = required(batch.sql, shown, issuer)?;
            match found.held {
                Held::Confirmed | Held::Pending => Ok(Adopted::Taken),
                Held::Unknown => adopt(batch, &adoption, &found, &names, now),
                held => Err(held.denial(&shown.caller, &shown.instance).into()),
            }
        };
        self.0.writer.submit(work).await
    }

    /// Judges a renewal with a certificate of which there is a later one in use. With another key than
    /// was ever asked for, it is made by somebody who copied the identity: the instance is locked in
    /// the same transaction.
    ///
    /// # Errors
    ///
    /// It is an old request that comes late: [`BotDenial::Superseded`]. Or it cannot be written.
    pub async fn lock_clone(
        &self,
        shown: Shown,
        (issuer, key): (&str, &str),
        by: &str,
        now: Timestamp,
    ) -> Result<Locked, LedgerError> {
        let target = shown.instance.lock_target();
        let lock = Lock { id: 0, target: target.clone(), issued_before: None, expires_at: None };
        let seen = self.read(move |sql| locks::look(sql, &lock, now)).await?;
        let (issuer, key, by) = (issuer.to_owned(), key.to_owned(), by.to_owned());
        let work = move |batch: &mut Batch<'_>| {
            let found = required(batch.sql, &shown, &issuer)?;
            let superseded = || BotDenial::Superseded { caller: shown.caller.clone() };
            match found.held {
                Held::Discarded | Held::Superseded | Held::Unknown => {}
                Held::Confirmed | Held::Pending => return Err(superseded().into()),
                held => return Err(held.denial(&shown.caller, &shown.instance).into()),
            }
            if knows_key(batch.sql, &shown.instance, &key, None)? {
                return Err(superseded().into());
            }
            let seen_words = clone_words(batch.sql, &shown, &found, now)?;
            batch.audit(&body(&Act::BotCloned {
                bot: &shown.instance.bot,
                instance: &shown.instance.id,
                seen: &seen_words,
            })?)?;
            let request =
                LockRequest { target, issued_before: None, reason: seen_words, ttl: None };
            locks::set(batch, request, seen, &by, now)
        };
        self.0.writer.submit(work).await
    }

    /// The generation of an instance's own certificate, and whether the instance may renew.
    ///
    /// # Errors
    ///
    /// The ledger cannot be read, or it is no such certificate.
    pub async fn generation(&self, issuer: &str, serial: &str) -> Result<(u64, bool), LedgerError> {
        let key = (issuer.to_owned(), serial.to_owned());
        self.read(move |sql| {
            sql.prepare_cached(
                "SELECT generation, renewable
                 FROM intents JOIN bot_certificates ON intent = intents.id
                      JOIN bot_instances ON bot_instances.id = instance
                 WHERE issuer = ?1 AND serial = ?2",
            )?
            .query_row(key, |row| Ok((row.get(0)?, row.get(1)?)))
        })
        .await
    }
}

impl Held {
    /// Why what shows such a certificate is refused.
    pub fn denial(self, caller: &SpiffeId, instance: &Instance) -> BotDenial {
        let caller = caller.clone();
        match self {
            Self::Confirmed | Self::Pending | Self::Superseded => BotDenial::Superseded { caller },
            Self::Discarded | Self::Revoked => BotDenial::CertificateRevoked { caller },
            Self::Replaced => BotDenial::Replaced { caller },
            Self::Stray | Self::Unknown => BotDenial::NoSuchInstance { bot: instance.bot.clone() },
        }
    }
}

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

fn confirm(
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

fn adopt(
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

/// A new instance takes the place of others, those first that were longest not seen, if there are
/// more than may live. What was given to them ends by itself: it may be in the middle of its work.
fn make_room(
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

fn insert_instance(
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

fn insert_certificate(
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

fn required(sql: &Connection, shown: &Shown, issuer: &str) -> Result<InstanceStanding, Failure> {
    let found = standing(sql, &shown.instance, issuer, &shown.serial)?;
    let bot = shown.instance.bot.to_string();
    Ok(found.ok_or(BotDenial::NoSuchBot { bot })?)
}

/// Whether the instance was ever given a certificate for this key, but for one intent.
fn knows_key(
    sql: &Connection,
    instance: &Instance,
    key: &str,
    but: Option<i64>,
) -> rusqlite::Result<bool> {
    sql.prepare_cached(
        "SELECT 1 FROM bot_certificates JOIN intents ON intents.id = intent
         WHERE instance = ?1 AND key_fingerprint = ?2 AND intent IS NOT ?3",
    )?
    .exists((&instance.id, key, but))
}

/// What was seen of two who have one identity.
fn clone_words(
    sql: &Connection,
    shown: &Shown,
    found: &InstanceStanding,
    now: Timestamp,
) -> rusqlite::Result<String> {
    let in_use: Option<(Option<i64>, Option<String>)> = sql
        .prepare_cached(
            "SELECT seen_at, seen_from FROM bot_certificates
             WHERE instance = ?1 AND state = 'confirmed'",
        )?
        .query_row([&shown.instance.id], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let (at, from) = in_use.unwrap_or_default();
    let at = at.and_then(|at| Timestamp::from_millisecond(at).ok()).unwrap_or_default();
    let asked = match found.generation {
        0 => "an old generation".to_owned(),
        generation => format!("generation {generation}"),
    };
    Ok(format!(
        "two have this identity: {asked} asked to renew from {} at {now:.0}, while generation {} \
         is in use, first seen from {} at {at:.0}",
        shown.from,
        found.confirmed,
        from.unwrap_or_default(),
    ))
}

/// How many instances of a bot are remembered that have nothing to show any more.
const KEPT: u64 = 16;
