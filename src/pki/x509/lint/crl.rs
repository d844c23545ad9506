//! The rules of certificate revocation lists.

use const_oid::ObjectIdentifier;
use der::{Decode, Encode};
use x509_cert::{
    certificate::Version,
    crl::{RevokedCert, TbsCertList},
    ext::{
        Extension,
        pkix::{AuthorityKeyIdentifier, CrlNumber, CrlReason},
    },
};

use super::{Findings, Report, rules::same};
use crate::{
    serial::X509Serial,
    x509::{Issuer, Standing, algorithm, crl, oid, time},
};

/// Lints the bytes of a list, and says what they say.
///
/// # Errors
///
/// Every rule that they break.
pub(in crate::x509) fn check(
    bytes: &[u8],
    issuer: &Issuer,
    template: &crl::Template,
) -> Result<crl::Summary, Findings> {
    let mut report = Report::default();
    let list = read(bytes)?;
    frame(&list, issuer, &mut report);
    let entries = list.revoked_certificates.as_deref().unwrap_or_default();
    report.require(
        list.revoked_certificates.is_none() || !entries.is_empty(),
        "crl-entries-absent-if-none",
        "a list of nothing has no list of entries",
    );
    let read: Option<Vec<_>> =
        entries.iter().map(|entry| self::entry(entry, &mut report)).collect();
    let number = extensions(&list, issuer, &mut report);
    let summary =
        times(&list, &mut report).zip(number).map(|((this_update, next_update), number)| {
            crl::Summary { number, this_update, next_update, revoked: entries.len() }
        });
    match (summary, read) {
        (Some(summary), Some(entries)) if report.0.is_empty() => {
            kept(&summary, &entries, template, &mut report);
            if report.0.is_empty() { Ok(summary) } else { Err(report.into_findings()) }
        }
        _ => Err(report.into_findings()),
    }
}

/// The decoder takes some BER; only what it encodes again to the same bytes is DER.
fn read(bytes: &[u8]) -> Result<TbsCertList, Findings> {
    let not_der = |what: String| Findings::of("der-strict", what);
    let list = TbsCertList::from_der(bytes).map_err(|error| not_der(error.to_string()))?;
    let again = list.to_der().map_err(|error| not_der(error.to_string()))?;
    if again == bytes { Ok(list) } else { Err(not_der("it is BER, not DER".to_owned())) }
}

/// RFC 5280 section 5.1.2.
fn frame(list: &TbsCertList, issuer: &Issuer, report: &mut Report) {
    report.require(list.version == Version::V2, "crl-version-2", "it is not of version 2");
    report.require(
        matches!(issuer.standing, Standing::Certified { signs_crls: true, .. }),
        "crl-signer",
        "the issuer's certificate does not say cRLSign",
    );
    report.require(
        same(&list.issuer, &issuer.name),
        "issuer-name-is-issuers-subject",
        "its issuer is not, byte for byte, the subject of the issuer's certificate",
    );
    report.require(
        same(&list.signature, algorithm::identifier(issuer.scheme)),
        "signature-algorithm-is-issuers",
        "it names another signature algorithm than the issuer signs with",
    );
    report.require(
        issuer.scheme.fits(issuer.key.key().public_key.algorithm()),
        "signature-algorithm-fits-key",
        "the issuer's key cannot sign with the issuer's signature scheme",
    );
    let entries = list.revoked_certificates.as_deref().unwrap_or_default();
    report.require(
        entries.is_sorted_by(|a, b| a.serial_number.as_bytes() < b.serial_number.as_bytes()),
        "crl-entries-ordered",
        "the serial numbers are not in ascending order, or one stands twice",
    );
    let late = |entry: &RevokedCert| {
        entry.revocation_date.to_unix_duration() > list.this_update.to_unix_duration()
    };
    report.require(
        !entries.iter().any(late),
        "crl-entry-before-list",
        "a certificate was revoked after the list was made",
    );
}

/// When it was made and until when it is good: Windows and MIT refuse a list without the latter.
fn times(list: &TbsCertList, report: &mut Report) -> Option<(jiff::Timestamp, jiff::Timestamp)> {
    let next_update = list.next_update.as_ref().and_then(time::decode);
    let times = time::decode(&list.this_update).zip(next_update);
    report.require(
        times.is_some_and(|(this_update, next_update)| this_update < next_update),
        "crl-times-ordered",
        "there is no next update, or it is not after this one",
    );
    times
}

/// The authority key identifier and the number, neither critical, and nothing else: an issuing
/// distribution point is critical, and Samba refuses each critical extension. Gives the number.
fn extensions(list: &TbsCertList, issuer: &Issuer, report: &mut Report) -> Option<u64> {
    let found = list.crl_extensions.as_deref().unwrap_or_default();
    report.require(
        found.len() == 2 && found.iter().all(|extension| !extension.critical),
        "crl-extensions-exact",
        "it has other extensions than an authority key identifier and a number, or critical ones",
    );
    let holds = value::<AuthorityKeyIdentifier>(found, oid::AUTHORITY_KEY_IDENTIFIER)
        .zip(key_identifier(issuer))
        .is_some_and(|(found, identifier)| {
            found.key_identifier.as_ref().is_some_and(|found| found.as_bytes() == identifier)
                && found.authority_cert_issuer.is_none()
                && found.authority_cert_serial_number.is_none()
        });
    report.require(
        holds,
        "authority-key-identifier-is-issuers",
        "the authority key identifier is not that of the issuer's certificate, and nothing else",
    );
    let number = value::<CrlNumber>(found, oid::CRL_NUMBER).and_then(|number| {
        let bytes = number.0.as_bytes();
        let mut octets = [0; 8];
        octets.get_mut(8_usize.checked_sub(bytes.len())?..)?.copy_from_slice(bytes);
        Some(u64::from_be_bytes(octets))
    });
    report.require(number.is_some(), "crl-number", "its number is missing or malformed");
    number
}

fn key_identifier(issuer: &Issuer) -> Option<&[u8]> {
    match &issuer.standing {
        Standing::Aspirant => None,
        Standing::Certified { key_identifier, .. } => Some(key_identifier),
    }
}

/// The value of an extension, if its encoding is strict.
fn value<T>(extensions: &[Extension], id: ObjectIdentifier) -> Option<T>
where
    T: for<'a> Decode<'a> + Encode,
{
    let found = extensions.iter().find(|extension| extension.extn_id == id)?;
    let bytes = found.extn_value.as_bytes();
    T::from_der(bytes).ok().filter(|value: &T| same(value, bytes))
}

/// The serial number, the time, and the reason code if there is one.
type Entry = (X509Serial, jiff::Timestamp, Option<CrlReason>);

fn entry(entry: &RevokedCert, report: &mut Report) -> Option<Entry> {
    let serial = super::reading::sixteen_octets(entry.serial_number.as_bytes());
    report.require(
        serial.is_some(),
        "serial-sixteen-octets",
        "a serial number is positive and has 16 octets, the first from 40 to 7f",
    );
    let extensions = entry.crl_entry_extensions.as_deref();
    let reason = extensions.and_then(|found| value::<CrlReason>(found, oid::CRL_REASON));
    let exact = match extensions {
        None => true,
        // RFC 5280 section 5.3.1: a reason that is not said is absent.
        Some([only]) => !only.critical && reason.is_some_and(|it| it != CrlReason::Unspecified),
        Some(_) => false,
    };
    report.require(
        exact,
        "crl-entry-extensions-exact",
        "an entry has other extensions than a reason code that is not critical",
    );
    let at = time::decode(&entry.revocation_date);
    report.require(at.is_some(), "validity-representable", "a time is beyond the year 9999");
    Some((serial?, at?, reason))
}

/// That the bytes say what was asked for.
fn kept(summary: &crl::Summary, entries: &[Entry], template: &crl::Template, report: &mut Report) {
    let wanted = template.entries();
    let same_entries = entries.len() == wanted.len()
        && entries.iter().zip(&wanted).all(|((serial, at, reason), wanted)| {
            *serial == wanted.serial
                && at.as_second() == wanted.at.as_second()
                && *reason == wanted.reason.code()
        });
    report.require(
        same_entries
            && summary.number == template.number
            && summary.this_update.as_second() == template.this_update.as_second()
            && summary.next_update.as_second() == template.next_update.as_second(),
        "template-kept",
        "the bytes say something else than the template",
    );
}
