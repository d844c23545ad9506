//! `chancery-card init`.

use card::{
    Pin, Puk, Readers,
    init::{Done, Wanted, init},
};
use client::output::Output;
use serde::Serialize;

use super::{
    arguments::Init,
    choice::choose,
    failure::Failure,
    secrets::{secret, tell_tries},
};

/// Which card, and what was done.
#[derive(Serialize)]
struct Report {
    serial: Option<u32>,
    done: Done,
}

pub(super) fn run(it: &Init, output: &mut Output) -> Result<(), Failure> {
    // Whatever can be wrong without the card is found before it is touched.
    let wanted = Wanted {
        pin: secret("PIN", &it.pin_file, Pin::new)?,
        puk: secret("PUK", &it.puk_file, Puk::new)?,
        from_defaults: it.from_defaults,
    };
    let readers = Readers::open()?;
    let reader = choose(&readers, &it.card)?;
    let mut connection = readers.connect(&reader)?;
    let mut card = connection.piv()?;
    tell_tries(&reader, &card)?;
    let report = Report { serial: card.serial(), done: init(&mut card, &wanted)? };
    output.show(&report, rows)?;
    Ok(())
}

fn rows(it: &Report) -> Vec<(&'static str, String)> {
    let set = |now| if now { "set" } else { "was set before" }.to_owned();
    let made = |now| if now { "written" } else { "was there before" }.to_owned();
    vec![
        ("card", it.serial.map(|serial| format!("YubiKey {serial}")).unwrap_or_default()),
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
