//! Lints: read the to-be-signed bytes as a stranger would, and say what breaks a rule.
//!
//! The kind of the certificate is read from the bytes as well, so that bytes that come back from
//! storage meet the same rules as bytes that were just built.

mod extensions;
mod names;
mod rules;

use std::fmt;

use der::{Decode, Encode};
use x509_cert::TbsCertificate;

use self::extensions::Extensions;
use super::{Issuer, Template, oid};
use crate::{
    keys::PublicKey,
    seal::{Kind, Summary},
    serial::{Serial, X509Serial},
};

/// The rules that a text breaks; never empty.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Findings(pub Vec<Finding>);

/// One broken rule.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Finding {
    /// The rule's stable name, for example `smartcard-logon-upn-exactly-one`.
    pub rule: &'static str,
    /// What broke it.
    pub what: String,
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, finding) in self.0.iter().enumerate() {
            let separator = if i == 0 { "" } else { "; " };
            write!(f, "{separator}{}: {}", finding.rule, finding.what)?;
        }
        Ok(())
    }
}

impl std::error::Error for Findings {}

impl Findings {
    pub(super) fn of(rule: &'static str, what: String) -> Self {
        Self(vec![Finding { rule, what }])
    }
}

/// Lints the bytes, and says what they say. With a template, also that they say what it asked for.
///
/// # Errors
///
/// Every rule that they break.
pub(super) fn check(
    bytes: &[u8],
    issuer: &Issuer,
    template: Option<&Template>,
) -> Result<Summary, Findings> {
    let tbs = read(bytes)?;
    let mut report = Report::default();
    let extensions = Extensions::read(&tbs, &mut report);
    let names = names::alternative_names(&extensions, &mut report);
    let subject_key = subject_key(&tbs, template, &mut report);
    let serial = serial(&tbs, &mut report);
    let validity = rules::validity(&tbs, issuer, &mut report);
    let kind = kind(&tbs, &extensions, &mut report);
    names::subject(tbs.subject(), &mut report);
    rules::frame(&tbs, issuer, &mut report);
    if let Some(kind) = kind {
        let certificate = rules::Certificate {
            kind,
            tbs: &tbs,
            extensions: &extensions,
            names: &names,
            subject_key: subject_key.as_ref(),
        };
        rules::profile(&certificate, issuer, &mut report);
    }
    let (Some(kind), Some(key), Some(serial), Some(validity)) =
        (kind, subject_key, serial, validity)
    else {
        return Err(report.into_findings());
    };
    let summary = Summary {
        kind,
        serial: Serial::X509(serial),
        subject: tbs.subject().to_string(),
        names: names::texts(&names, &extensions),
        key_fingerprint: key.fingerprint(),
        not_before: validity.0,
        not_after: validity.1,
    };
    if let Some(template) = template {
        rules::template_kept(&summary, &key, template, &mut report);
    }
    if report.0.is_empty() { Ok(summary) } else { Err(report.into_findings()) }
}

/// The rules broken so far.
#[derive(Default)]
struct Report(Vec<Finding>);

impl Report {
    fn add(&mut self, rule: &'static str, what: impl Into<String>) {
        self.0.push(Finding { rule, what: what.into() });
    }

    fn require(&mut self, holds: bool, rule: &'static str, what: &str) {
        if !holds {
            self.add(rule, what);
        }
    }

    fn into_findings(self) -> Findings {
        Findings(self.0)
    }
}

/// The decoder takes some BER; only what it encodes again to the same bytes is DER.
fn read(bytes: &[u8]) -> Result<TbsCertificate, Findings> {
    let not_der = |what: String| Findings::of("der-strict", what);
    let tbs = TbsCertificate::from_der(bytes).map_err(|error| not_der(error.to_string()))?;
    let again = tbs.to_der().map_err(|error| not_der(error.to_string()))?;
    if again == bytes { Ok(tbs) } else { Err(not_der("it is BER, not DER".to_owned())) }
}

/// What the certificate would be taken for.
fn kind(tbs: &TbsCertificate, extensions: &Extensions, report: &mut Report) -> Option<Kind> {
    let is_ca = extensions.basic_constraints.as_ref().is_some_and(|found| found.value.ca);
    if is_ca {
        let own = tbs.issuer() == tbs.subject();
        return Some(if own { Kind::Root } else { Kind::Issuing });
    }
    let usages = extensions.extended_key_usage.as_ref().map(|found| found.value.0.as_slice());
    let kind = [
        (oid::PKINIT_KDC, Kind::Kdc),
        (oid::SMARTCARD_LOGON, Kind::SmartcardLogon),
        (oid::SERVER_AUTH, Kind::TlsServer),
        (oid::CLIENT_AUTH, Kind::TlsClient),
    ]
    .into_iter()
    .find(|(usage, _)| usages.unwrap_or_default().contains(usage))
    .map(|(_, kind)| kind);
    report.require(
        kind.is_some(),
        "profile-known",
        "neither CA:TRUE nor an extended key usage of a profile",
    );
    kind
}

/// The certified key; that of the template when the bytes are the same, because reading a key
/// checks that it is one, and that takes longer than all else here.
fn subject_key(
    tbs: &TbsCertificate,
    template: Option<&Template>,
    report: &mut Report,
) -> Option<PublicKey> {
    let read = tbs.subject_public_key_info().to_der().map_err(|error| error.to_string());
    let read = read.and_then(|spki_der| match template {
        Some(template) if template.public_key.spki_der() == spki_der => {
            Ok(template.public_key.clone())
        }
        _ => PublicKey::from_spki_der(&spki_der).map_err(|error| error.to_string()),
    });
    read.map_err(|why| report.add("subject-key-readable", why)).ok()
}

fn serial(tbs: &TbsCertificate, report: &mut Report) -> Option<X509Serial> {
    let serial = <[u8; 16]>::try_from(tbs.serial_number().as_bytes())
        .ok()
        .filter(|octets| X509Serial::from_random(*octets).as_bytes() == octets)
        .map(X509Serial::from_random);
    report.require(
        serial.is_some(),
        "serial-sixteen-octets",
        "a serial number is positive and has 16 octets, the first from 40 to 7f",
    );
    serial
}
