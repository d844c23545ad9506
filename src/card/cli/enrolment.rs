//! `chancery-card request` and `chancery-card install`.

use std::fs;

use card::{
    Pin, Readers, Slot,
    enrolment::{install, request},
};
use client::{files::write_public, output::Output};
use pki::x509::{Certificate, to_pem};
use serde::Serialize;

use super::{
    arguments::{Install, Request},
    choice::choose,
    failure::Failure,
    secrets::{secret, tell_tries},
};

/// What was asked for.
#[derive(Serialize)]
struct Requested {
    serial: Option<u32>,
    slot: Slot,
    key: String,
    made: bool,
    request: String,
}

/// What was put on the card.
#[derive(Serialize)]
struct Installed {
    serial: Option<u32>,
    slot: Slot,
    subject: String,
}

pub(super) fn make_request(it: &Request, output: &mut Output) -> Result<(), Failure> {
    let pin = secret("PIN", &it.pin_file, Pin::new)?;
    let readers = Readers::open()?;
    let reader = choose(&readers, &it.card)?;
    let mut connection = readers.connect(&reader)?;
    let mut card = connection.piv()?;
    tell_tries(&reader, &card)?;
    let requested = request(&mut card, it.slot, it.key, &pin, it.replace)?;
    if let Some(path) = &it.attestation {
        write_public(path, requested.attestation.map(|der| to_pem(&der)).concat().as_bytes())?;
    }
    write_public(&it.out, requested.request.as_bytes())?;
    let report = Requested {
        serial: card.serial(),
        slot: it.slot,
        key: it.key.to_string(),
        made: requested.made,
        request: it.out.display().to_string(),
    };
    output.show(&report, |it| {
        let made = if it.made { "made" } else { "made before" };
        vec![
            ("card", name(it.serial)),
            ("slot", it.slot.to_string()),
            ("key", format!("{}, {made}", it.key)),
            ("request", it.request.clone()),
        ]
    })?;
    Ok(())
}

pub(super) fn put_certificate(it: &Install, output: &mut Output) -> Result<(), Failure> {
    let pin = secret("PIN", &it.pin_file, Pin::new)?;
    let path = &it.certificate;
    let text =
        fs::read_to_string(path).map_err(|source| Failure::Read { path: path.clone(), source })?;
    let certificate = Certificate::from_pem(&text)
        .map_err(|source| Failure::Certificate { path: path.clone(), source })?;
    let readers = Readers::open()?;
    let reader = choose(&readers, &it.card)?;
    let mut connection = readers.connect(&reader)?;
    let mut card = connection.piv()?;
    tell_tries(&reader, &card)?;
    install(&mut card, it.slot, &certificate, &pin)?;
    let report = Installed {
        serial: card.serial(),
        slot: it.slot,
        subject: certificate.subject().to_owned(),
    };
    output.show(&report, |it| {
        vec![
            ("card", name(it.serial)),
            ("slot", it.slot.to_string()),
            ("certificate", format!("{:?}, written and read back", it.subject)),
        ]
    })?;
    Ok(())
}

fn name(serial: Option<u32>) -> String {
    serial.map(|serial| format!("YubiKey {serial}")).unwrap_or_default()
}
