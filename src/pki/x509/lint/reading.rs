//! A certificate as it was read, before any rule of a profile is asked.

use der::{Decode, Encode};
use jiff::Timestamp;
use x509_cert::TbsCertificate;

use super::{
    Findings, Report,
    extensions::Extensions,
    names::{self, AlternativeName},
};
use crate::{
    keys::PublicKey,
    seal::{Kind, Summary},
    serial::{Serial, X509Serial},
    x509::{oid, time},
};

/// What the bytes say.
pub(super) struct Reading {
    pub(super) tbs: TbsCertificate,
    pub(super) extensions: Extensions,
    pub(super) names: Vec<AlternativeName>,
    pub(super) kind: Kind,
    pub(super) serial: X509Serial,
    pub(super) subject_key: PublicKey,
    pub(super) not_before: Timestamp,
    pub(super) not_after: Timestamp,
}

impl Reading {
    /// Reads all parts; `None`, with the reasons in the report, if one of those that every
    /// certificate has cannot be read.
    pub(super) fn of(tbs: TbsCertificate, report: &mut Report) -> Option<Self> {
        let extensions = Extensions::read(&tbs, report);
        let names = names::alternative_names(&extensions, report);
        let kind = kind(&tbs, &extensions, report);
        let serial = serial(&tbs, report);
        let subject_key = subject_key(&tbs, report);
        let (not_before, not_after) = validity(&tbs, report)?;
        Some(Self {
            kind: kind?,
            serial: serial?,
            subject_key: subject_key?,
            tbs,
            extensions,
            names,
            not_before,
            not_after,
        })
    }

    /// Whether it has a SPIFFE id.
    pub(super) fn is_svid(&self) -> bool {
        self.names.iter().any(|name| matches!(name, AlternativeName::Uri(_)))
    }

    pub(super) fn into_summary(self) -> Summary {
        Summary {
            kind: self.kind,
            serial: Serial::X509(self.serial),
            subject: self.tbs.subject().to_string(),
            names: names::texts(&self.names, &self.extensions),
            key_fingerprint: self.subject_key.fingerprint(),
            not_before: self.not_before,
            not_after: self.not_after,
        }
    }
}

/// The decoder takes some BER; only what it encodes again to the same bytes is DER.
pub(super) fn tbs_certificate(bytes: &[u8]) -> Result<TbsCertificate, Findings> {
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
        (oid::OCSP_SIGNING, Kind::OcspSigner),
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

/// The certified key, checked to be one.
fn subject_key(tbs: &TbsCertificate, report: &mut Report) -> Option<PublicKey> {
    let key = match tbs.subject_public_key_info().to_der() {
        Ok(spki_der) => PublicKey::from_spki_der(&spki_der).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    key.map_err(|why| report.add("subject-key-readable", why)).ok()
}

/// The serial number of these octets, if it is of the form that is issued here.
pub(in crate::x509) fn sixteen_octets(octets: &[u8]) -> Option<X509Serial> {
    <[u8; 16]>::try_from(octets)
        .ok()
        .filter(|octets| X509Serial::from_random(*octets).as_bytes() == octets)
        .map(X509Serial::from_random)
}

fn serial(tbs: &TbsCertificate, report: &mut Report) -> Option<X509Serial> {
    let serial = sixteen_octets(tbs.serial_number().as_bytes());
    report.require(
        serial.is_some(),
        "serial-sixteen-octets",
        "a serial number is positive and has 16 octets, the first from 40 to 7f",
    );
    serial
}

/// First and last second.
fn validity(tbs: &TbsCertificate, report: &mut Report) -> Option<(Timestamp, Timestamp)> {
    let validity = tbs.validity();
    let times = time::decode(&validity.not_before).zip(time::decode(&validity.not_after));
    report.require(times.is_some(), "validity-representable", "it ends beyond the year 9999");
    times
}
