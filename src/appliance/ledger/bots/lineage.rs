//! Two-phase renewal (docs/decisions/0013): a certificate is pending until it is used, and only what
//! asks again after that is a copy.

mod begin;
mod in_use;
mod instances;

use std::{net::IpAddr, sync::Arc};

use api::{BotSpec, LockRequest, Locked};
use jiff::Timestamp;
use pki::{names::SpiffeId, seal::Summary};
use rusqlite::{Connection, OptionalExtension};

use super::{
    super::{
        Ledger, LedgerError,
        acts::json,
        locks,
        writer::{Batch, Failure},
    },
    Act, body,
    standing::{Held, InstanceStanding, standing},
};
use crate::policy::{BotDenial, Instance, Lock};

pub(in crate::ledger) use begin::{Look, check_caller, look};
use in_use::{adopt, confirm};

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
