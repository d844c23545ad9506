//! `chancery-card list`.

use card::{CardError, Presence, ReaderName, Readers};
use client::output::Output;
use serde::Serialize;

use super::failure::Failure;

/// A reader and what is in it.
#[derive(Serialize)]
struct Row {
    reader: String,
    card: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    serial: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
}

pub(super) fn run(readers: &Readers, output: &mut Output) -> Result<(), Failure> {
    let names = readers.list()?;
    if names.is_empty() {
        return Err(Failure::NoReader);
    }
    let rows: Vec<Row> =
        names.iter().map(|name| look_into(readers, name)).collect::<Result<_, _>>()?;
    if output.is_json() {
        for row in &rows {
            output.line(row)?;
        }
        return Ok(());
    }
    let cells: Vec<_> = rows
        .into_iter()
        .map(|row| {
            let serial = row.serial.map(|it| it.to_string()).unwrap_or_default();
            [row.reader, row.card.to_owned(), serial, row.version.unwrap_or_default()]
        })
        .collect();
    output.table(Some(["READER", "CARD", "SERIAL", "FIRMWARE"]), &cells)?;
    Ok(())
}

fn look_into(readers: &Readers, name: &ReaderName) -> Result<Row, CardError> {
    let row = |card| Row { reader: name.to_string(), card, serial: None, version: None };
    match readers.presence(name) {
        Ok(Presence::Empty) => return Ok(row("none")),
        Ok(Presence::Mute) => return Ok(row("does not answer")),
        Ok(Presence::Present) => {}
        Err(CardError::NoSuchReader(_)) => return Ok(row("the reader is gone")),
        Err(error) => return Err(error),
    }
    let mut connection = match readers.connect(name) {
        // It was pulled since.
        Err(CardError::NoCard(_) | CardError::NoSuchReader(_)) => return Ok(row("none")),
        Err(CardError::Mute(_)) => return Ok(row("does not answer")),
        Err(CardError::InUse(_)) => return Ok(row("in use by another program")),
        connection => connection?,
    };
    match connection.piv() {
        Ok(card) => Ok(Row {
            serial: card.serial(),
            version: card.version().map(|version| version.to_string()),
            ..row(if card.version().is_some() { "YubiKey" } else { "PIV, not a YubiKey" })
        }),
        Err(CardError::NotPiv) => Ok(row("not PIV")),
        Err(CardError::Gone { .. } | CardError::NoCard(_)) => Ok(row("none")),
        Err(error) => Err(error),
    }
}
