//! `chancery-card inspect`.

use card::{
    ContainerMap, PinMetadata,
    inspect::{CertificateInspection, Content, Inspection, KeyInspection, SlotInspection, inspect},
};
use client::output::{Output, time};
use pki::x509::attestation::{PinPolicy, TouchPolicy};

use super::{arguments::upkeep::Inspect, choice::Chosen, failure::Failure};

pub(super) fn run(it: &Inspect, output: &mut Output) -> Result<(), Failure> {
    let inspection = Chosen::find(&it.card)?.with(|card| Ok(inspect(card)?))?;
    output.show(&inspection, rows)?;
    Ok(())
}

fn rows(it: &Inspection) -> Vec<(&'static str, String)> {
    let name = match (&it.version, it.serial) {
        (Some(version), Some(serial)) => format!("YubiKey {serial}, firmware {version}"),
        (Some(version), None) => format!("YubiKey, firmware {version}"),
        (None, _) => "PIV, not a YubiKey".to_owned(),
    };
    let mut rows = vec![("card", name)];
    match &it.secrets {
        None => rows.push(("PIN", left(it.pin_tries_left))),
        Some(secrets) => {
            let key = secrets.management_key;
            rows.push(("PIN", pin(secrets.pin)));
            rows.push(("PUK", pin(secrets.puk)));
            rows.push(("management key", format!("{}{}", key.algorithm, default(key.default))));
        }
    }
    let holder = content(&it.holder, |it| format!("GUID {}, until {}", it.guid, it.expires));
    rows.push(("CHUID", holder));
    rows.push(("CCC", content(&it.capabilities, |it| it.card_id.clone())));
    if it.container_map != Content::Absent {
        rows.push(("container map", content(&it.container_map, containers)));
    }
    for slot in &it.slots {
        rows.extend(slot_rows(slot));
    }
    rows
}

fn pin(it: PinMetadata) -> String {
    format!("{} of {}{}", left(it.left), it.tries, default(it.default))
}

fn left(tries: u8) -> String {
    match tries {
        0 => "locked, no tries left".to_owned(),
        1 => "1 try left".to_owned(),
        tries => format!("{tries} tries left"),
    }
}

fn default(is_default: bool) -> &'static str {
    if is_default { ", THE FACTORY'S" } else { "" }
}

fn content<T>(content: &Content<T>, show: impl FnOnce(&T) -> String) -> String {
    match content {
        Content::Absent => "none".to_owned(),
        Content::Malformed(why) => why.clone(),
        Content::Present(content) => show(content),
    }
}

fn containers(map: &ContainerMap) -> String {
    let names = map.containers.iter().map(|it| format!("{:?} in {}", it.name, it.slot));
    names.collect::<Vec<_>>().join(", ")
}

fn slot_rows(it: &SlotInspection) -> Vec<(&'static str, String)> {
    let key = it.key.as_ref().map_or_else(|| "unknown key".to_owned(), key);
    let mut rows = vec![("slot", format!("{}: {key}", it.slot))];
    match &it.certificate {
        Content::Present(CertificateInspection::Plain {
            subject,
            issuer,
            serial,
            not_before,
            not_after,
            matches_key,
        }) => {
            let other = if *matches_key == Some(false) { ", NOT FOR THIS KEY" } else { "" };
            rows.push(("  certificate", format!("{subject} by {issuer}, number {serial}{other}")));
            rows.push(("  valid from", time(*not_before)));
            rows.push(("  valid until", time(*not_after)));
        }
        Content::Present(CertificateInspection::Compressed(length)) => {
            let text = format!("compressed ({length} bytes), which not every program reads");
            rows.push(("  certificate", text));
        }
        Content::Present(CertificateInspection::Unsupported(why)) => {
            rows.push(("  certificate", why.clone()));
        }
        Content::Absent => rows.push(("  certificate", "none".to_owned())),
        Content::Malformed(why) => rows.push(("  certificate", why.clone())),
    }
    rows
}

fn key(it: &KeyInspection) -> String {
    let origin = if it.generated { "made by the card" } else { "imported" };
    let pin = match it.pin_policy {
        PinPolicy::Always => "PIN each time",
        PinPolicy::MatchAlways => "PIN or fingerprint each time",
        PinPolicy::MatchOnce => "PIN or fingerprint once",
        PinPolicy::Never => "no PIN",
        PinPolicy::Once => "PIN once",
    };
    let touch = match it.touch_policy {
        TouchPolicy::Always => "touch each time",
        TouchPolicy::Cached => "touch, good for 15 seconds",
        TouchPolicy::Never => "no touch",
    };
    format!("{}, {origin}, {pin}, {touch}", it.algorithm)
}
