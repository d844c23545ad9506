//! `chancery-card init`.

use std::path::PathBuf;

use card::{
    Escrow, Pin, Puk,
    init::{Done, Wanted, WantedPuk, init, release},
};
use client::output::Output;
use pki::clock::{Clock, SystemClock};
use serde::Serialize;

use super::{
    arguments::upkeep::Init,
    choice::Chosen,
    escrow::recipients,
    failure::Failure,
    secrets::{from_file, tell_tries, typed, typed_new},
};

/// Which card, and what was done.
#[derive(Serialize)]
struct Report {
    serial: Option<u32>,
    done: Done,
    /// Where the management key is, if the card does not keep it.
    #[serde(skip_serializing_if = "Option::is_none")]
    escrow: Option<PathBuf>,
    /// Where the PUK is, if it was made by chance.
    #[serde(skip_serializing_if = "Option::is_none")]
    escrow_puk: Option<PathBuf>,
}

pub(super) fn run(it: &Init, output: &mut Output) -> Result<(), Failure> {
    // Whatever can be wrong without the card is found before it is touched.
    let pin = it.pin_file.as_deref().map(|path| from_file("PIN", path, Pin::new)).transpose()?;
    let puk = it.puk_file.as_deref().map(|path| from_file("PUK", path, Puk::new)).transpose()?;
    let recipients = recipients(&it.escrow_to)?;
    let escrow = |path: &PathBuf| Escrow::new(path.clone(), recipients.clone(), SystemClock.now());
    let chosen = Chosen::find(&it.card)?;
    tell_tries(&chosen)?;
    let (pin_is_default, puk_is_default) =
        chosen.with(|card| Ok((card.pin_metadata()?.default, card.puk_metadata()?.default)))?;
    let wanted = Wanted {
        pin: match pin {
            Some(pin) => pin,
            None if pin_is_default => typed_new("PIN", "--pin-file", Pin::new)?,
            None => typed("PIN", "--pin-file", Pin::new)?,
        },
        puk: match (puk, &it.escrow_puk) {
            (Some(puk), _) => WantedPuk::Given(puk),
            (None, Some(path)) => WantedPuk::Escrowed(escrow(path)),
            (None, None) if puk_is_default => {
                WantedPuk::Given(typed_new("PUK", "--puk-file", Puk::new)?)
            }
            // One that was set before is left as it is, and need not be known.
            (None, None) => WantedPuk::Left,
        },
        management_key: it.escrow.as_ref().map(escrow),
        from_defaults: it.from_defaults,
    };
    let done = chosen.with(|card| {
        let done = init(card, &wanted)?;
        if let Some(escrow) = &wanted.management_key {
            release(card, escrow)?;
        }
        Ok(done)
    })?;
    let (escrow, escrow_puk) = (it.escrow.clone(), it.escrow_puk.clone());
    let report = Report { serial: chosen.serial(), done, escrow, escrow_puk };
    output.show(&report, |it| rows(it, chosen.name()))?;
    Ok(())
}

fn rows(it: &Report, card: String) -> Vec<(&'static str, String)> {
    let set = |now| if now { "set" } else { "was set before" }.to_owned();
    let made = |now| if now { "written" } else { "was there before" }.to_owned();
    let place = |path: &PathBuf| format!(", in {}", path.display());
    let of_puk = it.escrow_puk.as_ref().map(place).unwrap_or_default();
    let of_key = it.escrow.as_ref().map(place);
    let of_key = of_key.unwrap_or_else(|| ", kept by the card behind its PIN".to_owned());
    vec![
        ("card", card),
        ("PIN", set(it.done.pin)),
        ("PUK", set(it.done.puk) + &of_puk),
        ("management key", set(it.done.management_key) + &of_key),
        ("CHUID", made(it.done.holder)),
        ("CCC", made(it.done.capabilities)),
    ]
}
