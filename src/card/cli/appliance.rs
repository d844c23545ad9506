//! `chancery-card enroll` and `chancery-card renew`: a key on the card, and its certificate from the
//! appliance.

use card::{
    CertificateObject, Credentials, Slot,
    enrolment::{Content, Wanted, install, request},
};
use client::{
    Client,
    flags::ConnectionFlags,
    output::{Output, time},
};
use jiff::Timestamp;
use pki::{
    clock::{Clock, SystemClock},
    names::Upn,
    x509::{Certificate, logon::LogonCertificate},
};
use serde::Serialize;

use super::{
    arguments::enrolment::{Enroll, Grant, Renew},
    choice::Chosen,
    failure::Failure,
    order::{Order, Terms},
    secrets::credentials,
    terminal::tell,
};

/// What is on the card now.
#[derive(Serialize)]
pub(super) struct Report {
    serial: Option<u32>,
    slot: Slot,
    key: String,
    upn: Upn,
    issuer: String,
    certificate: String,
    not_after: Timestamp,
    /// What the account may say to name the certificate strongly.
    alt_security_identities: Vec<String>,
}

pub(super) async fn enroll(it: &Enroll, output: &mut Output) -> Result<(), Failure> {
    // Whatever can be wrong without the card is found before it is touched.
    let client = it.connection.client()?;
    let terms = terms(&it.connection, &it.grant, it.session.clone(), it.upn.clone())?;
    let (chosen, credentials) = credentials(&it.access)?;
    let (slot, wanted) = (it.place.slot, it.place.wanted());
    let report = certify(&client, &chosen, &credentials, slot, wanted, terms).await?;
    show(&report, &chosen, output)
}

pub(super) async fn renew(it: &Renew, output: &mut Output) -> Result<(), Failure> {
    let client = it.connection.client()?;
    let (chosen, credentials) = credentials(&it.access)?;
    let upn = upn_on(&chosen, it.slot)?;
    let terms = terms(&it.connection, &it.grant, it.session.clone(), upn)?;
    let wanted = it.new_key.map_or(Wanted::Same, Wanted::New);
    let report = certify(&client, &chosen, &credentials, it.slot, wanted, terms).await?;
    show(&report, &chosen, output)
}

/// The whole way of a certificate to the card. The card is held at its two ends, not while the
/// appliance is asked.
pub(super) async fn certify(
    client: &Client,
    chosen: &Chosen,
    credentials: &Credentials,
    slot: Slot,
    wanted: Wanted,
    terms: Terms,
) -> Result<Report, Failure> {
    let upn = terms.upn.clone();
    // 1. The key, and the request for it; or those of the time when it was interrupted.
    let mut order = match go_on(chosen, slot, wanted, &terms)? {
        Some(order) => {
            tell(format!("{chosen}: going on with what was begun for {upn}"));
            order
        }
        None => {
            tell(format!("{chosen}: the card makes its request"));
            let requested = chosen.with(|card| Ok(request(card, slot, wanted, credentials)?))?;
            Order::place(chosen, slot, terms, &requested)?
        }
    };
    // 2. The certificate.
    tell(format!("asking the appliance for the certificate of {upn}"));
    let issued = order.fulfil(client).await?;
    let certificate = match read(&issued.certificate, &upn) {
        Ok(certificate) => certificate,
        Err(failure) => {
            order.forget()?;
            return Err(failure);
        }
    };
    // 3. Onto the card, and read back from it.
    tell(format!("{chosen}: writing the certificate"));
    chosen.with(|card| Ok(install(card, slot, &certificate, credentials)?))?;
    order.forget()?;
    let logon = logon(certificate.der())?;
    Ok(Report {
        serial: chosen.serial(),
        slot,
        key: certificate.public_key().algorithm().to_string(),
        upn,
        issuer: issued.issuer,
        certificate: issued.serial,
        not_after: issued.not_after,
        alt_security_identities: logon.strong_mappings(),
    })
}

/// The order that was interrupted, if the key that it is for is still in the slot, and as wanted.
fn go_on(
    chosen: &Chosen,
    slot: Slot,
    wanted: Wanted,
    terms: &Terms,
) -> Result<Option<Order>, Failure> {
    let Some(order) = Order::pending(chosen, slot, terms, SystemClock.now())? else {
        return Ok(None);
    };
    let Some(key) = order.key() else { return Ok(None) };
    if let Wanted::Free(kind) | Wanted::New(kind) = wanted
        && key.algorithm() != kind.algorithm()
    {
        return Ok(None);
    }
    let is_there = chosen.with(|card| Ok(Content::of(card, slot)?.has(&key)))?;
    Ok(is_there.then_some(order))
}

/// The certificate of the appliance, which must be for this account and no other.
fn read(pem: &str, upn: &Upn) -> Result<Certificate, Failure> {
    let bad = |what: String| Failure::BadAnswer { what };
    let certificate = Certificate::from_pem(pem).map_err(|error| bad(error.to_string()))?;
    let named = logon(certificate.der())?.upns;
    if !matches!(named.as_slice(), [only] if *only == upn.to_string()) {
        return Err(bad(format!("for {named:?}, not for {upn}")));
    }
    // An object of a card has no room for more.
    let length = CertificateObject::write(certificate.der()).len();
    if length > LONGEST_OBJECT {
        return Err(bad(format!("too long for a card: {length} bytes")));
    }
    Ok(certificate)
}

fn logon(der: &[u8]) -> Result<LogonCertificate, Failure> {
    LogonCertificate::from_der(der).map_err(|error| Failure::BadAnswer { what: error.to_string() })
}

/// Whose certificate is on the card.
fn upn_on(chosen: &Chosen, slot: Slot) -> Result<Upn, Failure> {
    let content = chosen.with(|card| Ok(Content::of(card, slot)?))?;
    let certificate = content.certificate.as_deref().map(LogonCertificate::from_der);
    match certificate {
        Some(Ok(LogonCertificate { upns, .. })) if upns.len() == 1 => {
            upns[0].parse().map_err(|_| Failure::NoUpn { slot })
        }
        _ => Err(Failure::NoUpn { slot }),
    }
}

pub(super) fn terms(
    connection: &ConnectionFlags,
    grant: &Grant,
    session: Option<String>,
    upn: Upn,
) -> Result<Terms, Failure> {
    let role = match &grant.role {
        Some(role) => role.clone(),
        None => {
            let file = connection.profile_file()?;
            let role = file.card_role(connection.profile.as_deref())?;
            role.ok_or(Failure::NoRole)?.to_owned()
        }
    };
    Ok(Terms { upn, role, ttl: grant.ttl, session, attested: !grant.no_attestation })
}

pub(super) fn show(report: &Report, chosen: &Chosen, output: &mut Output) -> Result<(), Failure> {
    output.show(report, |it| {
        let mut rows = vec![
            ("card", chosen.name()),
            ("slot", format!("{}: {}", it.slot, it.key)),
            ("account", it.upn.to_string()),
            ("certificate", format!("{} by {}, written and read back", it.certificate, it.issuer)),
            ("valid until", time(it.not_after)),
        ];
        rows.extend(it.alt_security_identities.iter().map(|it| ("strong mapping", it.clone())));
        rows
    })?;
    Ok(())
}

/// Of a YubiKey, with the tags of the certificate.
const LONGEST_OBJECT: usize = 3_063;
