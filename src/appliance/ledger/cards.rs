//! The registry of cards: each has one holder, from its first certificate until it is released.

use api::{
    Card, CardAttestation, CardCertificate, CardChanged, CardKey, CardQuery, CardRecord, CardState,
    CardTaken, Cards, RevocationReason,
};
use jiff::Timestamp;
use pki::{
    seal::{Kind, Summary},
    x509::{self, attestation::Attestation},
};
use rusqlite::{Connection, OptionalExtension, Row, ToSql, named_params};
use serde::Serialize;

use super::{
    Ledger, LedgerError,
    acts::{not_json, optional, parsed, time, variant, word},
    audit::Body,
    changes,
    writer::{Batch, Failure},
};
use crate::policy::{CardDenial, CardHolder, Denial, Subject};

/// How a card is taken from its holder.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Taking {
    /// It may become another's.
    Release,
    /// It gets no certificate any more.
    Remove,
}

impl Taking {
    fn state(self) -> CardState {
        match self {
            Self::Release => CardState::Released,
            Self::Remove => CardState::Removed,
        }
    }

    /// What is said of its certificates.
    fn code(self) -> RevocationReason {
        match self {
            Self::Release => RevocationReason::CessationOfOperation,
            Self::Remove => RevocationReason::KeyCompromise,
        }
    }
}

/// A card was taken from its holder.
#[derive(Clone, Debug)]
pub struct TakenCard {
    /// What to tell.
    pub changed: CardChanged,
    /// What was revoked: issuer and serial number.
    pub revoked: Vec<(String, String)>,
}

impl Ledger {
    /// A page of cards, by serial number.
    ///
    /// # Errors
    ///
    /// The ledger cannot be read.
    pub async fn cards(&self, query: CardQuery, now: Timestamp) -> Result<Cards, LedgerError> {
        self.read(move |sql| list(sql, &query, now)).await
    }

    /// A card, and the last certificates for it.
    ///
    /// # Errors
    ///
    /// The ledger cannot be read.
    pub async fn card(
        &self,
        serial: u32,
        now: Timestamp,
    ) -> Result<Option<CardRecord>, LedgerError> {
        self.read(move |sql| {
            let Some(card) = find(sql, serial, now)? else { return Ok(None) };
            Ok(Some(CardRecord { card, issued: issued(sql, serial)? }))
        })
        .await
    }

    /// Takes a card from its holder, and revokes all certificates for it in the same transaction.
    /// Nothing if there is no such card.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub async fn take_card(
        &self,
        serial: u32,
        taking: Taking,
        by: &str,
        reason: &str,
        now: Timestamp,
    ) -> Result<Option<TakenCard>, LedgerError> {
        let (by, reason) = (by.to_owned(), reason.to_owned());
        let work = move |batch: &mut Batch<'_>| {
            let Some(before) = find(batch.sql, serial, now)? else { return Ok(None) };
            let (state, code) = (taking.state(), taking.code());
            let word = word(state);
            let change = changes::change(batch, &format!("card {serial} {word}"), now)?;
            let live = live(batch.sql, serial, now)?;
            let revoked = changes::revoke(batch, change, code, live.iter().map(|(id, ..)| *id))?;
            batch
                .sql
                .prepare_cached(
                    "UPDATE cards SET state = ?2, taken_at = ?3, taken_by = ?4, taken_reason = ?5
                     WHERE serial = ?1",
                )?
                .execute((serial, &word, now.as_millisecond(), &by, &reason))?;
            batch.audit(&body(&Act::CardTaken {
                card: serial,
                state,
                holder: before.holder.as_str(),
                reason: &reason,
                by: &by,
                revoked,
            })?)?;
            let taken = Some(CardTaken { by, at: now, reason });
            let card = Card { state, taken, certificates: 0, ..before };
            let changed = CardChanged { card, revoked, change: change.cast_unsigned() };
            let revoked = live.into_iter().map(|(_, issuer, serial)| (issuer, serial)).collect();
            Ok(Some(TakenCard { changed, revoked }))
        };
        self.0.writer.submit(work).await
    }
}

/// Refuses a card that is another's, or that was removed.
pub(super) fn check(batch: &Batch<'_>, card: &CardHolder) -> Result<(), Failure> {
    let serial = card.attestation.serial;
    let refuse = |denial| Err(Denial::from(denial).into());
    match holder(batch.sql, serial)? {
        Some((CardState::Removed, _)) => refuse(CardDenial::Blocked { serial }),
        Some((CardState::Held, sid)) if sid != card.sid.as_str() => {
            refuse(CardDenial::Held { serial })
        }
        Some((CardState::Held | CardState::Released, _)) | None => Ok(()),
    }
}

/// Refuses a logon by a key that a card has attested before, where the card gets nothing: that it
/// says nothing this time does not make it another's.
pub(super) fn check_unattested(
    batch: &Batch<'_>,
    summary: &Summary,
    subject: &Subject,
    now: Timestamp,
) -> Result<(), Failure> {
    if summary.kind != Kind::SmartcardLogon {
        return Ok(());
    }
    let attested_by = batch
        .sql
        .prepare_cached(
            "SELECT card, state FROM intents JOIN card_keys ON intent = intents.id
                    JOIN cards ON cards.serial = card
             WHERE key_fingerprint = ?1 AND kind = 'smartcard_logon'
             ORDER BY intents.id DESC LIMIT 1",
        )?
        .query_row([&summary.key_fingerprint], |row| Ok((row.get(0)?, variant(row, 1)?)))
        .optional()?;
    let Some((serial, state)) = attested_by else { return Ok(()) };
    batch.unless_locked(&Subject { card: Some(serial), ..subject.clone() }, now)?;
    match state {
        CardState::Removed => Err(Denial::from(CardDenial::Blocked { serial }).into()),
        CardState::Held | CardState::Released => Ok(()),
    }
}

/// Writes down what the card has said of the intent's key. A card that was nobody's is the holder's
/// from now on.
pub(super) fn take_up(
    batch: &mut Batch<'_>,
    intent: i64,
    card: &CardHolder,
    by: &str,
    now: Timestamp,
) -> Result<(), Failure> {
    let CardHolder { attestation, upn, sid } = card;
    let Attestation { serial, firmware, .. } = attestation;
    let (firmware, form_factor) = (firmware.to_string(), form_factor(attestation));
    let is_held = matches!(holder(batch.sql, *serial)?, Some((CardState::Held, _)));
    if is_held {
        batch
            .sql
            .prepare_cached(
                "UPDATE cards SET holder = ?2, firmware = ?3, form_factor = ?4 WHERE serial = ?1",
            )?
            .execute((serial, upn.as_str(), &firmware, &form_factor))?;
    } else {
        batch
            .sql
            .prepare_cached(
                "INSERT INTO cards (serial, state, sid, holder, firmware, form_factor,
                                    registered_at, registered_by)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
                 ON CONFLICT (serial) DO UPDATE
                 SET state = ?2, sid = ?3, holder = ?4, firmware = ?5, form_factor = ?6,
                     registered_at = ?7, registered_by = ?8,
                     taken_at = NULL, taken_by = NULL, taken_reason = NULL",
            )?
            .execute((
                serial,
                word(CardState::Held),
                sid.as_str(),
                upn.as_str(),
                &firmware,
                &form_factor,
                now.as_millisecond(),
                by,
            ))?;
        batch.audit(&body(&Act::CardRegistered {
            card: *serial,
            holder: upn.as_str(),
            sid: sid.as_str(),
            firmware: &firmware,
            by,
        })?)?;
    }
    batch
        .sql
        .prepare_cached(
            "INSERT INTO card_keys (intent, card, slot, firmware, pin_policy, touch_policy,
                                    form_factor, attestation_key, statement, intermediate)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?
        .execute((
            intent,
            serial,
            attestation.slot.to_string(),
            &firmware,
            word(attestation.pin_policy),
            word(attestation.touch_policy),
            &form_factor,
            &attestation.attestation_key,
            &attestation.statement,
            &attestation.intermediate,
        ))?;
    Ok(())
}

/// What an intent's audit entry says of its key.
pub(super) fn key(attestation: &Attestation) -> CardKey {
    CardKey {
        card: attestation.serial,
        slot: attestation.slot,
        firmware: attestation.firmware,
        pin_policy: attestation.pin_policy,
        touch_policy: attestation.touch_policy,
        form_factor: form_factor(attestation),
        attestation_key: attestation.attestation_key.clone(),
    }
}

/// Whether an intent is for the card `:value`: the card has attested its key for it, or before.
pub(super) const OF_CARD: &str = "intents.id IN (SELECT intent FROM card_keys WHERE card = :value)
     OR kind = 'smartcard_logon' AND key_fingerprint IN
        (SELECT attested.key_fingerprint
         FROM card_keys JOIN intents AS attested ON attested.id = card_keys.intent
         WHERE card_keys.card = :value)";

/// The columns of `card_keys` that [`read_key`] reads, in its order.
pub(super) const KEY_COLUMNS: &str = "card_keys.card, card_keys.slot, card_keys.firmware, card_keys.pin_policy, \
     card_keys.touch_policy, card_keys.form_factor, card_keys.attestation_key";

/// Reads a key from [`KEY_COLUMNS`] that begin at column `at`.
pub(super) fn read_key(row: &Row<'_>, at: usize) -> rusqlite::Result<CardKey> {
    Ok(CardKey {
        card: row.get(at)?,
        slot: parsed(row, at + 1, str::parse)?,
        firmware: parsed(row, at + 2, str::parse)?,
        pin_policy: variant(row, at + 3)?,
        touch_policy: variant(row, at + 4)?,
        form_factor: row.get(at + 5)?,
        attestation_key: row.get(at + 6)?,
    })
}

/// What is recorded of cards.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Act<'a> {
    /// A card has a holder, with the intent whose entry follows or is before.
    CardRegistered { card: u32, holder: &'a str, sid: &'a str, firmware: &'a str, by: &'a str },
    /// An operator has taken a card from its holder; what was issued for it is revoked.
    CardTaken {
        card: u32,
        state: CardState,
        holder: &'a str,
        reason: &'a str,
        by: &'a str,
        revoked: u64,
    },
}

fn body(act: &Act<'_>) -> Result<Body, LedgerError> {
    Body::of(act).map_err(not_json)
}

fn form_factor(attestation: &Attestation) -> Option<String> {
    attestation.form_factor.map(|it| it.to_string())
}

/// How a card stands, and the SID of its holder or of the last one.
fn holder(sql: &Connection, serial: u32) -> rusqlite::Result<Option<(CardState, String)>> {
    sql.prepare_cached("SELECT state, sid FROM cards WHERE serial = ?1")?
        .query_row([serial], |row| Ok((variant(row, 0)?, row.get(1)?)))
        .optional()
}

/// The intents for a card that are not over and not revoked, with issuer and serial number.
fn live(
    sql: &Connection,
    card: u32,
    now: Timestamp,
) -> rusqlite::Result<Vec<(i64, String, String)>> {
    let parameters = named_params! { ":value": card, ":now": now.as_millisecond() };
    sql.prepare_cached(&format!(
        "SELECT id, issuer, serial FROM intents WHERE not_after >= :now AND ({OF_CARD})
           AND NOT EXISTS (SELECT 1 FROM revocations WHERE revocations.intent = id)
         ORDER BY id"
    ))?
    .query_map(parameters, |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
    .collect()
}

fn find(sql: &Connection, serial: u32, now: Timestamp) -> rusqlite::Result<Option<Card>> {
    let parameters = named_params! { ":serial": serial, ":now": now.as_millisecond() };
    sql.prepare_cached(&select("WHERE serial = :serial"))?.query_row(parameters, card).optional()
}

fn list(sql: &Connection, query: &CardQuery, now: Timestamp) -> rusqlite::Result<Cards> {
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT).clamp(1, MOST) as usize;
    let mut statement = sql.prepare_cached(&select(
        "WHERE serial > :after AND (:holder IS NULL OR holder = :holder COLLATE NOCASE)
           AND (:state IS NULL OR state = :state)
         ORDER BY serial LIMIT :limit",
    ))?;
    let parameters: &[(&str, &dyn ToSql)] = named_params! {
        ":now": now.as_millisecond(),
        ":after": query.after.map_or(-1, i64::from),
        ":holder": query.holder.as_ref().map(|holder| holder.as_str()),
        ":state": query.state.map(word),
        // One more than asked for shows whether there is a next page.
        ":limit": limit + 1,
    };
    let mut cards = statement.query_map(parameters, card)?.collect::<Result<Vec<_>, _>>()?;
    let more = cards.len() > limit;
    cards.truncate(limit);
    let next = cards.last().filter(|_| more).map(|last| last.serial);
    Ok(Cards { cards, next })
}

fn select(condition: &str) -> String {
    format!(
        "SELECT serial, state, holder, firmware, form_factor, registered_at, registered_by,
                taken_by, taken_at, taken_reason,
                (SELECT count(*) FROM card_keys JOIN intents ON intents.id = card_keys.intent
                 WHERE card_keys.card = cards.serial AND not_after >= :now AND NOT EXISTS
                       (SELECT 1 FROM revocations WHERE revocations.intent = intents.id))
         FROM cards {condition}"
    )
}

fn card(row: &Row<'_>) -> rusqlite::Result<Card> {
    let taken = |row: &Row<'_>, at| {
        Ok(CardTaken { by: row.get(at)?, at: time(row, at + 1)?, reason: row.get(at + 2)? })
    };
    Ok(Card {
        serial: row.get(0)?,
        state: variant(row, 1)?,
        holder: parsed(row, 2, str::parse)?,
        firmware: parsed(row, 3, str::parse)?,
        form_factor: row.get(4)?,
        registered_at: time(row, 5)?,
        registered_by: row.get(6)?,
        taken: optional(row, 7, taken)?,
        certificates: row.get(10)?,
    })
}

fn issued(sql: &Connection, serial: u32) -> rusqlite::Result<Vec<CardCertificate>> {
    let mut statement = sql.prepare_cached(&format!(
        "SELECT issuer, serial, subject, not_after, changes.at, statement, intermediate,
                {KEY_COLUMNS}
         FROM card_keys JOIN intents ON intents.id = card_keys.intent
              JOIN certificates ON certificates.intent = intents.id
              LEFT JOIN revocations ON revocations.intent = intents.id
              LEFT JOIN changes ON changes.id = change
         WHERE card = ?1 ORDER BY certificates.id DESC LIMIT {SHOWN}"
    ))?;
    let rows = statement.query_map([serial], |row| {
        Ok(CardCertificate {
            issuer: row.get(0)?,
            serial: row.get(1)?,
            subject: row.get(2)?,
            not_after: time(row, 3)?,
            revoked_at: optional(row, 4, time)?,
            attestation: optional(row, 5, attestation)?,
            key: read_key(row, 7)?,
        })
    })?;
    rows.collect()
}

fn attestation(row: &Row<'_>, at: usize) -> rusqlite::Result<CardAttestation> {
    let pem = |at| Ok::<_, rusqlite::Error>(x509::to_pem(&row.get::<_, Vec<u8>>(at)?));
    Ok(CardAttestation { statement: pem(at)?, intermediate: pem(at + 1)? })
}

const DEFAULT_LIMIT: u32 = 100;

const MOST: u32 = 1_000;

/// Certificates that are shown of a card.
const SHOWN: u32 = 100;
