//! `chancery-card unblock` and `chancery-card wipe`.

use card::{
    Pin, Puk, Slot,
    wipe::{KeyFate, Wiped, wipe},
};
use client::output::Output;
use serde::Serialize;

use super::{
    arguments::upkeep::{Unblock, Wipe},
    choice::Chosen,
    failure::Failure,
    secrets::{credentials, from_file, tell_tries_of_puk, typed, typed_new},
    terminal,
};

/// A card that can be used again.
#[derive(Serialize)]
struct Unblocked {
    serial: Option<u32>,
    unblocked: bool,
}

/// What was taken off.
#[derive(Serialize)]
struct Report {
    serial: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    slot: Option<Slot>,
    #[serde(flatten)]
    wiped: Option<Wiped>,
    /// Whether the card is as it came from the factory.
    reset: bool,
}

pub(super) fn unblock(it: &Unblock, output: &mut Output) -> Result<(), Failure> {
    let puk = it.puk_file.as_deref().map(|path| from_file("PUK", path, Puk::new)).transpose()?;
    let new = it.pin_file.as_deref().map(|path| from_file("PIN", path, Pin::new)).transpose()?;
    let chosen = Chosen::find(&it.card)?;
    tell_tries_of_puk(&chosen, it.last_try)?;
    let puk = match puk {
        Some(puk) => puk,
        None => typed("PUK", "--puk-file", Puk::new)?,
    };
    let new = match new {
        Some(new) => new,
        None => typed_new("PIN", "--pin-file", Pin::new)?,
    };
    if new.is_default() {
        return Err(Failure::DefaultPin);
    }
    chosen.with(|card| Ok(card.unblock(&puk, &new)?))?;
    let report = Unblocked { serial: chosen.serial(), unblocked: true };
    output.show(&report, |_| {
        vec![("card", chosen.name()), ("PIN", "set; it can be used again".to_owned())]
    })?;
    Ok(())
}

pub(super) fn take_off(it: &Wipe, output: &mut Output) -> Result<(), Failure> {
    let (chosen, slot, wiped) = match it.what.slot {
        Some(slot) => {
            let (chosen, credentials) = credentials(&it.access)?;
            confirm(&chosen, it.confirm.as_deref(), &format!("the key in slot {slot}"))?;
            let wiped = chosen.with(|card| Ok(wipe(card, slot, &credentials)?))?;
            (chosen, Some(slot), Some(wiped))
        }
        None => {
            let chosen = Chosen::find(&it.access.card)?;
            confirm(&chosen, it.confirm.as_deref(), "all keys, certificates and secrets")?;
            chosen.with(|card| Ok(card.reset()?))?;
            (chosen, None, None)
        }
    };
    let report = Report { serial: chosen.serial(), slot, wiped, reset: slot.is_none() };
    output.show(&report, |it| {
        let mut rows = vec![("card", chosen.name())];
        match (it.slot, it.wiped) {
            (Some(slot), Some(wiped)) => rows.extend(rows_of(slot, wiped)),
            _ => rows.push(("state", "as it comes from the factory".to_owned())),
        }
        rows
    })?;
    Ok(())
}

/// What cannot be undone is done to the card whose number was written.
fn confirm(chosen: &Chosen, given: Option<&str>, what: &str) -> Result<(), Failure> {
    // Of a card without a number, its reader is what tells it from others.
    let wanted = chosen.serial().map_or_else(|| chosen.to_string(), |serial| serial.to_string());
    let typed = match given {
        Some(given) => Some(given.to_owned()),
        None => terminal::ask(&format!(
            "{what} will be lost for good. To go on, type {wanted}, which is what it is called:"
        ))?,
    };
    match typed {
        Some(typed) if typed == wanted => Ok(()),
        Some(_) => Err(Failure::NotConfirmed { wanted }),
        None => Err(Failure::Unconfirmed { wanted }),
    }
}

/// For people.
pub(super) fn rows_of(slot: Slot, wiped: Wiped) -> Vec<(&'static str, String)> {
    let key = match wiped.key {
        KeyFate::Deleted => "deleted",
        KeyFate::None => "none was there",
        KeyFate::Replaced => "gone; a new one that nobody certified is in its place",
    };
    let certificate = if wiped.certificate { "removed" } else { "none was there" };
    vec![
        ("slot", slot.to_string()),
        ("key", key.to_owned()),
        ("certificate", certificate.to_owned()),
    ]
}
