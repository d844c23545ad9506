//! `chancery card`: the registry of cards, as operators see it.

use std::process::ExitCode;

use api::{Because, Card, CardAttestation, CardCertificate, CardChanged, CardQuery, CardState};
use client::Client;

use super::{
    arguments::card::{CardCommand, List, Show, Taken},
    effect,
    failure::Failure,
    output::{Output, time},
};

pub(super) async fn run(
    client: &Client,
    command: CardCommand,
    output: &mut Output,
) -> Result<ExitCode, Failure> {
    match command {
        CardCommand::List(it) => list(client, it, output).await?,
        CardCommand::Release(it) => {
            let (because, taken) = because(it.taken);
            let changed = client.release_card(taken.serial, &because).await?;
            return show_change(client, &changed, &taken, output).await;
        }
        CardCommand::Remove(it) => {
            let (because, taken) = because(it.taken);
            let changed = client.remove_card(taken.serial, &because).await?;
            return show_change(client, &changed, &taken, output).await;
        }
        CardCommand::Show(it) => show(client, &it, output).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(client: &Client, it: List, output: &mut Output) -> Result<(), Failure> {
    let mut heads = Some(["SERIAL", "STATE", "HOLDER", "CERTIFICATES", "FIRMWARE", "REGISTERED"]);
    let mut after = None;
    loop {
        let query =
            CardQuery { holder: it.holder.clone(), state: it.state, after, limit: Some(PAGE) };
        let page = client.cards(&query).await?;
        if output.is_json() {
            page.cards.iter().try_for_each(|card| output.line(card))?;
        } else {
            let rows: Vec<_> = page.cards.iter().map(row).collect();
            output.table(heads.take(), &rows)?;
        }
        after = page.next;
        if after.is_none() {
            return Ok(());
        }
    }
}

async fn show(client: &Client, it: &Show, output: &mut Output) -> Result<(), Failure> {
    let record = client.card(it.serial).await?;
    if it.attestation {
        let last = record.issued.first().and_then(|last| last.attestation.as_ref());
        let CardAttestation { statement, intermediate } =
            last.ok_or_else(|| no_attestation(it.serial))?;
        return Ok(output.text(&format!("{statement}{intermediate}"))?);
    }
    if output.is_json() {
        return Ok(output.line(&record)?);
    }
    output.rows(&rows(&record.card))?;
    let certificates: Vec<_> = record.issued.iter().map(certificate).collect();
    let heads = ["ISSUER", "SERIAL", "SLOT", "PIN", "TOUCH", "VALID UNTIL"];
    if !certificates.is_empty() {
        output.text("\n")?;
        output.table(Some(heads), &certificates)?;
    }
    Ok(())
}

async fn show_change(
    client: &Client,
    changed: &CardChanged,
    taken: &Taken,
    output: &mut Output,
) -> Result<ExitCode, Failure> {
    output.show(changed, |changed| {
        vec![
            ("card", changed.card.serial.to_string()),
            ("state", word(changed.card.state).to_owned()),
            ("was held by", changed.card.holder.to_string()),
            ("revoked", effect::certificates(changed.revoked)),
        ]
    })?;
    let code = effect::show(client, changed.change, taken.effect.wait, output).await?;
    // A card has certificates for logon, and no others.
    effect::warn_of_tickets(changed.revoked, output)?;
    Ok(code)
}

fn no_attestation(card: u32) -> Failure {
    Failure::Usage {
        what: format!("no attestation is kept of the last certificate for the card {card}"),
        hint: Some("--json has those that are kept, of what was issued since they are".to_owned()),
    }
}

fn because(mut taken: Taken) -> (Because, Taken) {
    (Because { reason: std::mem::take(&mut taken.reason) }, taken)
}

fn row(card: &Card) -> [String; 6] {
    [
        card.serial.to_string(),
        word(card.state).to_owned(),
        card.holder.to_string(),
        card.certificates.to_string(),
        card.firmware.to_string(),
        time(card.registered_at),
    ]
}

fn rows(card: &Card) -> Vec<(&'static str, String)> {
    let mut rows = vec![
        ("card", card.serial.to_string()),
        ("state", word(card.state).to_owned()),
        (
            if card.state == CardState::Held { "holder" } else { "was held by" },
            card.holder.to_string(),
        ),
        ("firmware", card.firmware.to_string()),
        ("form", card.form_factor.clone().unwrap_or_default()),
        ("registered", time(card.registered_at)),
        ("registered by", card.registered_by.clone()),
    ];
    if let Some(taken) = &card.taken {
        rows.extend([
            ("taken", time(taken.at)),
            ("taken by", taken.by.clone()),
            ("reason", taken.reason.clone()),
        ]);
    }
    rows
}

fn certificate(it: &CardCertificate) -> [String; 6] {
    [
        it.issuer.clone(),
        it.serial.clone(),
        it.key.slot.to_string(),
        it.key.pin_policy.to_string(),
        it.key.touch_policy.to_string(),
        match it.revoked_at {
            Some(_) => "revoked".to_owned(),
            None => time(it.not_after),
        },
    ]
}

fn word(state: CardState) -> &'static str {
    match state {
        CardState::Held => "held",
        CardState::Released => "released",
        CardState::Removed => "removed",
    }
}

/// The longest page that the appliance gives.
const PAGE: u32 = 1_000;
