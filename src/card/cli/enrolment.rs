//! `chancery-card request` and `chancery-card install`.

use std::fs;

use card::{
    Slot,
    enrolment::{install, request},
};
use client::{files::write_public, output::Output};
use pki::x509::{Certificate, to_pem};
use serde::Serialize;

use super::{
    arguments::enrolment::{Install, Request},
    failure::Failure,
    secrets::credentials,
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
    let (chosen, credentials) = credentials(&it.access)?;
    let place = &it.place;
    let requested =
        chosen.with(|card| Ok(request(card, place.slot, place.wanted(), &credentials)?))?;
    if let Some(path) = &it.attestation {
        write_public(path, requested.attestation.map(|der| to_pem(&der)).concat().as_bytes())?;
    }
    write_public(&it.out, requested.request.as_bytes())?;
    let report = Requested {
        serial: chosen.serial(),
        slot: place.slot,
        key: place.key.to_string(),
        made: requested.made,
        request: it.out.display().to_string(),
    };
    output.show(&report, |it| {
        let made = if it.made { "made" } else { "made before" };
        vec![
            ("card", chosen.name()),
            ("slot", it.slot.to_string()),
            ("key", format!("{}, {made}", it.key)),
            ("request", it.request.clone()),
        ]
    })?;
    Ok(())
}

pub(super) fn put_certificate(it: &Install, output: &mut Output) -> Result<(), Failure> {
    let path = &it.certificate;
    let text =
        fs::read_to_string(path).map_err(|source| Failure::Read { path: path.clone(), source })?;
    let certificate = Certificate::from_pem(&text)
        .map_err(|source| Failure::Certificate { path: path.clone(), source })?;
    let (chosen, credentials) = credentials(&it.access)?;
    chosen.with(|card| Ok(install(card, it.slot, &certificate, &credentials)?))?;
    let report = Installed {
        serial: chosen.serial(),
        slot: it.slot,
        subject: certificate.subject().to_owned(),
    };
    output.show(&report, |it| {
        vec![
            ("card", chosen.name()),
            ("slot", it.slot.to_string()),
            ("certificate", format!("{:?}, written and read back", it.subject)),
        ]
    })?;
    Ok(())
}
