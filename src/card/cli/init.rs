//! `chancery-card init`.

use card::{
    Pin, Puk,
    init::{Done, Wanted, init},
};
use client::output::Output;
use serde::Serialize;

use super::{
    arguments::upkeep::Init,
    choice::Chosen,
    failure::Failure,
    secrets::{from_file, tell_tries, typed, typed_new},
};

/// Which card, and what was done.
#[derive(Serialize)]
struct Report {
    serial: Option<u32>,
    done: Done,
}

pub(super) fn run(it: &Init, output: &mut Output) -> Result<(), Failure> {
    // Whatever can be wrong without the card is found before it is touched.
    let pin = it.pin_file.as_deref().map(|path| from_file("PIN", path, Pin::new)).transpose()?;
    let puk = it.puk_file.as_deref().map(|path| from_file("PUK", path, Puk::new)).transpose()?;
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
        // One that was set before is left as it is, and need not be known.
        puk: match puk {
            None if puk_is_default => Some(typed_new("PUK", "--puk-file", Puk::new)?),
            puk => puk,
        },
        from_defaults: it.from_defaults,
    };
    let done = chosen.with(|card| Ok(init(card, &wanted)?))?;
    let report = Report { serial: chosen.serial(), done };
    output.show(&report, |it| rows(it, chosen.name()))?;
    Ok(())
}

fn rows(it: &Report, card: String) -> Vec<(&'static str, String)> {
    let set = |now| if now { "set" } else { "was set before" }.to_owned();
    let made = |now| if now { "written" } else { "was there before" }.to_owned();
    vec![
        ("card", card),
        ("PIN", set(it.done.pin)),
        ("PUK", set(it.done.puk)),
        (
            "management key",
            format!("{}, kept by the card behind its PIN", set(it.done.management_key)),
        ),
        ("CHUID", made(it.done.holder)),
        ("CCC", made(it.done.capabilities)),
    ]
}
