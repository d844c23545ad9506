use api::BotSpec;
use rusqlite::{Connection, OptionalExtension, Row};
use serde::Deserialize;

use super::super::{
    Ledger, LedgerError,
    acts::{optional, variant},
};
use crate::policy::Instance;

/// How an instance stands, and the certificate of its own that it shows.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct InstanceStanding {
    /// The bot.
    pub spec: BotSpec,
    /// The certificate.
    pub held: Held,
    /// Its generation; 0 where it is none of the lineage.
    pub generation: u64,
    /// The generation that is confirmed; 0 before the first.
    pub confirmed: u64,
    /// Whether the instance may renew.
    pub renewable: bool,
}

/// How a certificate that is validly signed for an instance stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Held {
    /// It is the one in use.
    Confirmed,
    /// Another was given for it before it was used.
    Discarded,
    /// It was given, and is used now for the first time.
    Pending,
    /// Another instance has taken the place of this one.
    Replaced,
    /// It was taken back.
    Revoked,
    /// It is known, and none of the instance's own; or the instance is gone.
    Stray,
    /// A later one is in use.
    Superseded,
    /// The ledger has never heard of it: it was restored from an older copy.
    Unknown,
}

/// The states of rows, as the database has them.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    Confirmed,
    Discarded,
    Pending,
    Superseded,
}

impl Ledger {
    /// How an instance stands that shows a certificate of this serial number; nothing if there is no
    /// such bot.
    ///
    /// # Errors
    ///
    /// The ledger cannot be read.
    pub async fn instance_standing(
        &self,
        instance: &Instance,
        issuer: &str,
        serial: &str,
    ) -> Result<Option<InstanceStanding>, LedgerError> {
        let instance = instance.clone();
        let (issuer, serial) = (issuer.to_owned(), serial.to_owned());
        self.read(move |sql| standing(sql, &instance, &issuer, &serial)).await
    }
}

/// As [`Ledger::instance_standing`].
pub(super) fn standing(
    sql: &Connection,
    instance: &Instance,
    issuer: &str,
    serial: &str,
) -> rusqlite::Result<Option<InstanceStanding>> {
    let Some(bot) = super::find(sql, &instance.bot)? else { return Ok(None) };
    let (own, shown) = (Own::read(sql, instance)?, Shown::read(sql, issuer, serial)?);
    let held = match (&own, &shown) {
        (Some(own), _) if own.is_replaced => Held::Replaced,
        (_, None) if own.as_ref().is_some_and(|own| own.is_over) => Held::Revoked,
        (_, None) => Held::Unknown,
        (Some(own), Some(shown)) if shown.instance.as_ref() == Some(&instance.id) => {
            match shown.state {
                _ if own.is_over => Held::Revoked,
                Some(State::Discarded) => Held::Discarded,
                _ if shown.is_revoked => Held::Revoked,
                Some(State::Confirmed) => Held::Confirmed,
                Some(State::Pending) => Held::Pending,
                Some(State::Superseded) => Held::Superseded,
                None => Held::Stray,
            }
        }
        (_, Some(_)) => Held::Stray,
    };
    Ok(Some(InstanceStanding {
        spec: bot.spec,
        held,
        generation: shown.map_or(0, |shown| shown.generation),
        confirmed: own.as_ref().map_or(0, |own| own.confirmed),
        renewable: own.is_some_and(|own| own.is_renewable),
    }))
}

/// A row of instances.
struct Own {
    is_renewable: bool,
    is_replaced: bool,
    /// The confirmed generation; 0 before the first.
    confirmed: u64,
    /// Whether the confirmed certificate was taken back: then nothing of the instance is good.
    is_over: bool,
}

impl Own {
    fn read(sql: &Connection, instance: &Instance) -> rusqlite::Result<Option<Self>> {
        sql.prepare_cached(
            "SELECT renewable, replaced_at IS NOT NULL, coalesce(generation, 0),
                    revocations.intent IS NOT NULL
             FROM bot_instances
                  LEFT JOIN bot_certificates ON instance = id AND state = 'confirmed'
                  LEFT JOIN revocations ON revocations.intent = bot_certificates.intent
             WHERE id = ?1 AND bot = ?2",
        )?
        .query_row((&instance.id, instance.bot.as_str()), |row| {
            Ok(Self {
                is_renewable: row.get(0)?,
                is_replaced: row.get(1)?,
                confirmed: row.get(2)?,
                is_over: row.get(3)?,
            })
        })
        .optional()
    }
}

/// A certificate that the ledger knows, be it an instance's own or not.
struct Shown {
    instance: Option<String>,
    state: Option<State>,
    generation: u64,
    is_revoked: bool,
}

impl Shown {
    fn read(sql: &Connection, issuer: &str, serial: &str) -> rusqlite::Result<Option<Self>> {
        sql.prepare_cached(
            "SELECT instance, state, coalesce(generation, 0), revocations.intent IS NOT NULL
             FROM intents
                  LEFT JOIN bot_certificates ON bot_certificates.intent = intents.id
                  LEFT JOIN revocations ON revocations.intent = intents.id
             WHERE issuer = ?1 AND serial = ?2",
        )?
        .query_row((issuer, serial), |row: &Row<'_>| {
            Ok(Self {
                instance: row.get(0)?,
                state: optional(row, 1, variant)?,
                generation: row.get(2)?,
                is_revoked: row.get(3)?,
            })
        })
        .optional()
    }
}
