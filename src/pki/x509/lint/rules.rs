//! The rules that every certificate keeps, whatever its profile.

use const_oid::ObjectIdentifier;
use der::Encode;
use x509_cert::{
    TbsCertificate,
    certificate::Version,
    ext::pkix::{
        KeyUsages,
        crl::dp::DistributionPoint,
        name::{DistributionPointName, GeneralName},
    },
};

use super::{Report, extensions::Extensions, names, reading::Reading};
use crate::{
    names::{HttpUrl, Oid},
    seal::Kind,
    x509::{Issuer, Standing, Template, algorithm, oid, profile},
};

/// The fields that frame every certificate (RFC 5280 section 4.1.2).
pub(super) fn frame(tbs: &TbsCertificate, issuer: &Issuer, report: &mut Report) {
    report.require(tbs.version() == Version::V3, "version-3", "it is not of version 3");
    report.require(
        tbs.issuer_unique_id().is_none() && tbs.subject_unique_id().is_none(),
        "unique-identifiers-absent",
        "it has a unique identifier",
    );
    report.require(
        same(tbs.issuer(), &issuer.name),
        "issuer-name-is-issuers-subject",
        "its issuer is not, byte for byte, the subject of the issuer's certificate",
    );
    report.require(
        same(tbs.signature(), algorithm::identifier(issuer.scheme)),
        "signature-algorithm-is-issuers",
        "it names another signature algorithm than the issuer signs with",
    );
    report.require(
        issuer.scheme.fits(issuer.key.key().public_key.algorithm()),
        "signature-algorithm-fits-key",
        "the issuer's key cannot sign with the issuer's signature scheme",
    );
}

/// The rest of what every certificate keeps; how, depends on its kind.
pub(super) fn all(reading: &Reading, issuer: &Issuer, report: &mut Report) {
    names::subject(reading.tbs.subject(), report);
    validity(reading, issuer, report);
    extensions_allowed(reading, report);
    criticality(reading, report);
    usages(reading, report);
    key_identifiers(reading, issuer, report);
    publication(&reading.extensions, report);
    policies(reading, report);
    subject_key(reading, issuer, report);
    poison(reading, issuer, report);
}

/// What is signed in a rehearsal is for nobody to use, and nothing else is made so.
fn poison(reading: &Reading, issuer: &Issuer, report: &mut Report) {
    report.require(
        reading.extensions.poison.is_some() == issuer.rehearses,
        "poison-in-rehearsals-only",
        "a certificate of a rehearsal has the poison extension, and no other has",
    );
}

/// That the bytes say what was asked for.
pub(super) fn template_kept(reading: &Reading, template: &Template, report: &mut Report) {
    let policies = reading.extensions.certificate_policies.as_ref();
    let policies = policies.map(|found| found.value.0.as_slice()).unwrap_or_default();
    let policies = policies.iter().map(|policy| policy.policy_identifier.to_string());
    let kept = reading.kind == template.profile.kind()
        && reading.serial == template.serial
        && reading.not_before.as_second() == template.not_before.as_second()
        && reading.not_after.as_second() == template.not_after.as_second()
        && reading.subject_key == template.public_key
        && names::are_those_of(&template.profile, reading)
        && policies.eq(template.policies.iter().map(Oid::to_string));
    report.require(kept, "template-kept", "the bytes say something else than the template");
}

/// A certificate never outlives its issuer.
fn validity(reading: &Reading, issuer: &Issuer, report: &mut Report) {
    let Reading { not_before, not_after, .. } = reading;
    if not_before > not_after {
        let what = format!("it ends ({not_after}) before it begins ({not_before})");
        report.add("validity-order", what);
    }
    if *not_after > issuer.not_after() {
        let end = issuer.not_after();
        report.add("validity-within-issuer", format!("it ends {not_after}, its issuer {end}"));
    }
}

/// Whether a value's encoding is exactly these bytes.
pub(super) fn same(value: &impl Encode, bytes: &[u8]) -> bool {
    value.to_der().is_ok_and(|encoded| encoded == bytes)
}

fn is_authority(kind: Kind) -> bool {
    matches!(kind, Kind::Issuing | Kind::Root)
}

fn extensions_allowed(reading: &Reading, report: &mut Report) {
    let Reading { kind, extensions, .. } = reading;
    let authority = is_authority(*kind);
    let smartcard = *kind == Kind::SmartcardLogon;
    let ocsp_signer = *kind == Kind::OcspSigner;
    let named = !authority && !ocsp_signer;
    let svid = reading.is_svid();
    for (present, allowed, name) in [
        (extensions.basic_constraints.is_some(), authority || svid, "basic constraints"),
        (extensions.extended_key_usage.is_some(), !authority, "extended key usage"),
        (extensions.ocsp_no_check.is_some(), ocsp_signer, "OCSP no check"),
        (extensions.subject_alternative_name.is_some(), named, "subject alternative name"),
        (extensions.security_identifier.is_some(), smartcard, "SID"),
        (extensions.certificate_template.is_some(), smartcard, "certificate template"),
    ] {
        if present && !allowed {
            let what = format!("a certificate of this kind has no {name} extension");
            report.add("extension-allowed", what);
        }
    }
    // That it is no CA's is known by the kind.
    let length = extensions.basic_constraints.as_ref().map(|e| e.value.path_len_constraint);
    report.require(
        authority || !svid || length == Some(None),
        "svid-basic-constraints",
        "a certificate with a SPIFFE id says that it is no CA's (X509-SVID section 4.1), and no more",
    );
}

/// Basic constraints and key usage are critical, alternative names if the subject is empty, and
/// nothing else (RFC 5280 section 4.2.1; MS-WCCE 2.2.2.7.7.4 for the SID).
fn criticality(reading: &Reading, report: &mut Report) {
    let Extensions {
        authority_info_access,
        authority_key_identifier,
        basic_constraints,
        certificate_policies,
        certificate_template,
        crl_distribution_points,
        extended_key_usage,
        key_usage,
        ocsp_no_check,
        poison,
        security_identifier,
        subject_alternative_name,
        subject_key_identifier,
    } = &reading.extensions;
    let subject_is_empty = reading.tbs.subject().is_empty();
    for (critical, wanted, name) in [
        (authority_info_access.as_ref().map(|e| e.critical), false, "authority information access"),
        (authority_key_identifier.as_ref().map(|e| e.critical), false, "authority key identifier"),
        (basic_constraints.as_ref().map(|e| e.critical), true, "basic constraints"),
        (certificate_policies.as_ref().map(|e| e.critical), false, "certificate policies"),
        (certificate_template.as_ref().map(|e| e.critical), false, "certificate template"),
        (crl_distribution_points.as_ref().map(|e| e.critical), false, "CRL distribution points"),
        (extended_key_usage.as_ref().map(|e| e.critical), false, "extended key usage"),
        (key_usage.as_ref().map(|e| e.critical), true, "key usage"),
        (ocsp_no_check.as_ref().map(|e| e.critical), false, "OCSP no check"),
        (poison.as_ref().map(|e| e.critical), true, "poison"),
        (security_identifier.as_ref().map(|e| e.critical), false, "SID"),
        (
            subject_alternative_name.as_ref().map(|e| e.critical),
            subject_is_empty,
            "subject alternative name",
        ),
        (subject_key_identifier.as_ref().map(|e| e.critical), false, "subject key identifier"),
    ] {
        if critical.is_some_and(|critical| critical != wanted) {
            let must = if wanted { "must be" } else { "must not be" };
            report.add("extension-criticality", format!("the {name} extension {must} critical"));
        }
    }
}

fn usages(reading: &Reading, report: &mut Report) {
    let wanted = if is_authority(reading.kind) {
        KeyUsages::KeyCertSign | KeyUsages::CRLSign
    } else {
        KeyUsages::DigitalSignature.into()
    };
    report.require(
        reading.extensions.key_usage.as_ref().is_some_and(|found| found.value.0 == wanted),
        "key-usage-exact",
        "a CA has keyCertSign and cRLSign, an end entity digitalSignature, and nothing else",
    );
    let found = reading.extensions.extended_key_usage.as_ref();
    let found = found.map(|found| found.value.0.as_slice()).unwrap_or_default();
    report.require(
        is_same_set(found, profile::extended_key_usage(reading.kind)),
        "extended-key-usage-exact",
        "the extended key usages are not those of the profile",
    );
}

fn is_same_set(found: &[ObjectIdentifier], wanted: &[ObjectIdentifier]) -> bool {
    found.len() == wanted.len() && wanted.iter().all(|usage| found.contains(usage))
}

/// RFC 5280 sections 4.2.1.1 and 4.2.1.2.
fn key_identifiers(reading: &Reading, issuer: &Issuer, report: &mut Report) {
    let own = reading.extensions.subject_key_identifier.as_ref();
    report.require(
        own.is_some_and(|found| found.value.0.as_bytes() == reading.subject_key.key_identifier()),
        "subject-key-identifier-of-key",
        "the subject key identifier is missing or not the SHA-1 of the key",
    );
    let found = reading.extensions.authority_key_identifier.as_ref();
    let holds = match (&issuer.standing, found) {
        (Standing::Aspirant, found) => found.is_none(),
        (Standing::Certified { .. }, None) => false,
        (Standing::Certified { key_identifier, .. }, Some(found)) => {
            found.value.key_identifier.as_ref().is_some_and(|id| id.as_bytes() == key_identifier)
                && found.value.authority_cert_issuer.is_none()
                && found.value.authority_cert_serial_number.is_none()
        }
    };
    report.require(
        holds,
        "authority-key-identifier-is-issuers",
        "the authority key identifier is not that of the issuer's certificate, and nothing else",
    );
}

/// Only HTTP: LDAP and file locations mean something else to every reader.
fn publication(extensions: &Extensions, report: &mut Report) {
    if let Some(found) = &extensions.crl_distribution_points {
        report.require(
            matches!(found.value.0.as_slice(), [point] if is_http_point(point)),
            "crl-distribution-point-http",
            "there is not exactly one CRL distribution point with one HTTP URL",
        );
    }
    if let Some(found) = &extensions.authority_info_access {
        let known = |method| [oid::CA_ISSUERS, oid::OCSP].contains(&method);
        report.require(
            !found.value.0.is_empty()
                && found
                    .value
                    .0
                    .iter()
                    .all(|access| known(access.access_method) && is_http(&access.access_location)),
            "authority-information-access-http",
            "authority information access is not OCSP and caIssuers with HTTP URLs",
        );
    }
}

fn is_http_point(point: &DistributionPoint) -> bool {
    let Some(DistributionPointName::FullName(names)) = &point.distribution_point else {
        return false;
    };
    point.reasons.is_none()
        && point.crl_issuer.is_none()
        && matches!(names.as_slice(), [name] if is_http(name))
}

fn is_http(name: &GeneralName) -> bool {
    matches!(name, GeneralName::UniformResourceIdentifier(uri)
        if uri.as_str().parse::<HttpUrl>().is_ok())
}

/// RFC 5280 section 4.2.1.4.
fn policies(reading: &Reading, report: &mut Report) {
    let Some(found) = &reading.extensions.certificate_policies else { return };
    let policies = &found.value.0;
    report.require(
        !policies.is_empty() && policies.iter().all(|policy| policy.policy_qualifiers.is_none()),
        "certificate-policies-plain",
        "there are no policies, or some with qualifiers",
    );
    let repeated = |i: usize| {
        policies[..i]
            .iter()
            .any(|earlier| earlier.policy_identifier == policies[i].policy_identifier)
    };
    report.require(
        !(0..policies.len()).any(repeated),
        "certificate-policies-unique",
        "a policy occurs twice",
    );
    let any = policies.iter().any(|policy| policy.policy_identifier == oid::ANY_POLICY);
    report.require(
        !any || is_authority(reading.kind),
        "certificate-policies-not-any",
        "an end entity has no anyPolicy",
    );
}

fn subject_key(reading: &Reading, issuer: &Issuer, report: &mut Report) {
    let is_issuers = reading.subject_key == issuer.key.key().public_key;
    if reading.kind == Kind::Root {
        report.require(is_issuers, "root-certifies-own-key", "a root certifies another key");
    } else {
        report.require(!is_issuers, "subject-key-not-issuers", "the key is the issuer's own");
    }
}
