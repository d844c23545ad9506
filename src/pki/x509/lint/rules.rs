//! The rules: first those of every certificate, then those of each profile.

use const_oid::ObjectIdentifier;
use der::Encode;
use jiff::Timestamp;
use x509_cert::{
    TbsCertificate,
    certificate::Version,
    ext::pkix::{
        KeyUsages,
        crl::dp::DistributionPoint,
        name::{DistributionPointName, GeneralName},
    },
};

use super::{Report, extensions::Extensions, names::AlternativeName};
use crate::{
    keys::{KeyAlgorithm, PublicKey, SignatureScheme},
    names::HttpUrl,
    seal::{Kind, Summary},
    serial::Serial,
    x509::{Issuer, Standing, Template, algorithm, oid, profile, time},
};

/// What was read of a certificate whose kind is known.
pub(super) struct Certificate<'a> {
    pub(super) kind: Kind,
    pub(super) tbs: &'a TbsCertificate,
    pub(super) extensions: &'a Extensions,
    pub(super) names: &'a [AlternativeName],
    pub(super) subject_key: Option<&'a PublicKey>,
}

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

/// First and last second; a certificate never outlives its issuer.
pub(super) fn validity(
    tbs: &TbsCertificate,
    issuer: &Issuer,
    report: &mut Report,
) -> Option<(Timestamp, Timestamp)> {
    let validity = tbs.validity();
    let times = time::decode(&validity.not_before).zip(time::decode(&validity.not_after));
    let Some((not_before, not_after)) = times else {
        report.add("validity-representable", "it ends beyond the year 9999");
        return None;
    };
    if not_before > not_after {
        report.add(
            "validity-order",
            format!("it ends ({not_after}) before it begins ({not_before})"),
        );
    }
    if not_after > issuer.not_after() {
        let end = issuer.not_after();
        report.add("validity-within-issuer", format!("it ends {not_after}, its issuer {end}"));
    }
    Some((not_before, not_after))
}

/// The rules of the certificate's kind.
pub(super) fn profile(certificate: &Certificate<'_>, issuer: &Issuer, report: &mut Report) {
    extensions_allowed(certificate, report);
    criticality(certificate, report);
    usages(certificate, report);
    key_identifiers(certificate, issuer, report);
    publication(certificate.extensions, report);
    policies(certificate, report);
    subject_key(certificate, issuer, report);
    match certificate.kind {
        Kind::Issuing | Kind::Root => authority(certificate, issuer, report),
        Kind::Kdc => kdc(certificate, report),
        Kind::SmartcardLogon => smartcard_logon(certificate, report),
        Kind::TlsClient => tls_client(certificate, report),
        Kind::TlsServer => tls_server(certificate, report),
        Kind::SshHost | Kind::SshUser => {
            report.add("profile-known", "an SSH certificate is no X.509 certificate");
        }
    }
    let root = certificate.kind == Kind::Root;
    report.require(
        root == matches!(issuer.standing, Standing::Aspirant),
        "root-signs-itself-once",
        "a CA without certificate signs its own root certificate and nothing else, \
         and a CA with one signs no other certificate of its own name",
    );
    if windows(certificate.kind) {
        windows_logon(certificate, issuer, report);
    }
}

/// That the bytes say what was asked for.
pub(super) fn template_kept(
    summary: &Summary,
    key: &PublicKey,
    template: &Template,
    report: &mut Report,
) {
    let kept = summary.kind == template.profile.kind()
        && summary.serial == Serial::X509(template.serial)
        && *key == template.public_key
        && summary.not_before.as_second() == template.not_before.as_second()
        && summary.not_after.as_second() == template.not_after.as_second();
    report.require(kept, "template-kept", "the bytes say something else than the template");
}

/// Whether a value's encoding is exactly these bytes.
fn same(value: &impl Encode, bytes: &[u8]) -> bool {
    value.to_der().is_ok_and(|encoded| encoded == bytes)
}

/// Whether Windows takes such certificates for logon.
fn windows(kind: Kind) -> bool {
    matches!(kind, Kind::Kdc | Kind::SmartcardLogon)
}

fn is_authority(kind: Kind) -> bool {
    matches!(kind, Kind::Issuing | Kind::Root)
}

fn extensions_allowed(certificate: &Certificate<'_>, report: &mut Report) {
    let Certificate { kind, extensions, .. } = certificate;
    let authority = is_authority(*kind);
    let smartcard = *kind == Kind::SmartcardLogon;
    for (present, allowed, name) in [
        (extensions.basic_constraints.is_some(), authority, "basic constraints"),
        (extensions.extended_key_usage.is_some(), !authority, "extended key usage"),
        (extensions.subject_alternative_name.is_some(), !authority, "subject alternative name"),
        (extensions.security_identifier.is_some(), smartcard, "SID"),
        (extensions.certificate_template.is_some(), smartcard, "certificate template"),
    ] {
        if present && !allowed {
            let what = format!("a certificate of this kind has no {name} extension");
            report.add("extension-allowed", what);
        }
    }
}

/// Basic constraints and key usage are critical, alternative names if the subject is empty, and
/// nothing else (RFC 5280 section 4.2.1; MS-WCCE 2.2.2.7.7.4 for the SID).
fn criticality(certificate: &Certificate<'_>, report: &mut Report) {
    let Extensions {
        authority_info_access,
        authority_key_identifier,
        basic_constraints,
        certificate_policies,
        certificate_template,
        crl_distribution_points,
        extended_key_usage,
        key_usage,
        security_identifier,
        subject_alternative_name,
        subject_key_identifier,
    } = certificate.extensions;
    let subject_is_empty = certificate.tbs.subject().is_empty();
    for (critical, wanted, name) in [
        (authority_info_access.as_ref().map(|e| e.critical), false, "authority information access"),
        (authority_key_identifier.as_ref().map(|e| e.critical), false, "authority key identifier"),
        (basic_constraints.as_ref().map(|e| e.critical), true, "basic constraints"),
        (certificate_policies.as_ref().map(|e| e.critical), false, "certificate policies"),
        (certificate_template.as_ref().map(|e| e.critical), false, "certificate template"),
        (crl_distribution_points.as_ref().map(|e| e.critical), false, "CRL distribution points"),
        (extended_key_usage.as_ref().map(|e| e.critical), false, "extended key usage"),
        (key_usage.as_ref().map(|e| e.critical), true, "key usage"),
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

fn usages(certificate: &Certificate<'_>, report: &mut Report) {
    let wanted = if is_authority(certificate.kind) {
        KeyUsages::KeyCertSign | KeyUsages::CRLSign
    } else {
        KeyUsages::DigitalSignature.into()
    };
    report.require(
        certificate.extensions.key_usage.as_ref().is_some_and(|found| found.value.0 == wanted),
        "key-usage-exact",
        "a CA has keyCertSign and cRLSign, an end entity digitalSignature, and nothing else",
    );
    let found = certificate.extensions.extended_key_usage.as_ref();
    let found = found.map(|found| found.value.0.as_slice()).unwrap_or_default();
    report.require(
        is_same_set(found, profile::extended_key_usage(certificate.kind)),
        "extended-key-usage-exact",
        "the extended key usages are not those of the profile",
    );
}

fn is_same_set(found: &[ObjectIdentifier], wanted: &[ObjectIdentifier]) -> bool {
    found.len() == wanted.len() && wanted.iter().all(|usage| found.contains(usage))
}

/// RFC 5280 sections 4.2.1.1 and 4.2.1.2.
fn key_identifiers(certificate: &Certificate<'_>, issuer: &Issuer, report: &mut Report) {
    let own = certificate.extensions.subject_key_identifier.as_ref();
    report.require(
        own.zip(certificate.subject_key)
            .is_some_and(|(found, key)| found.value.0.as_bytes() == key.key_identifier()),
        "subject-key-identifier-of-key",
        "the subject key identifier is missing or not the SHA-1 of the key",
    );
    let found = certificate.extensions.authority_key_identifier.as_ref();
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
fn policies(certificate: &Certificate<'_>, report: &mut Report) {
    let Some(found) = &certificate.extensions.certificate_policies else { return };
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
        !any || is_authority(certificate.kind),
        "certificate-policies-not-any",
        "an end entity has no anyPolicy",
    );
}

fn subject_key(certificate: &Certificate<'_>, issuer: &Issuer, report: &mut Report) {
    let Some(key) = certificate.subject_key else { return };
    let is_issuers = *key == issuer.key.key().public_key;
    if certificate.kind == Kind::Root {
        report.require(is_issuers, "root-certifies-own-key", "a root certifies another key");
    } else {
        report.require(!is_issuers, "subject-key-not-issuers", "the key is the issuer's own");
    }
}

fn authority(certificate: &Certificate<'_>, issuer: &Issuer, report: &mut Report) {
    subject_present(certificate, report);
    let found = certificate.extensions.basic_constraints.as_ref();
    let own = found.and_then(|found| found.value.path_len_constraint);
    let Standing::Certified { path_len: Some(bound), .. } = issuer.standing else { return };
    report.require(
        own.is_some_and(|own| own < bound),
        "path-length-within-issuer",
        "it allows as many CAs below it as its issuer, or more",
    );
}

fn subject_present(certificate: &Certificate<'_>, report: &mut Report) {
    report.require(
        !certificate.tbs.subject().is_empty(),
        "subject-present",
        "a certificate of this kind has a subject",
    );
}

fn kdc(certificate: &Certificate<'_>, report: &mut Report) {
    let names = certificate.names;
    let dns = names.iter().filter(|name| matches!(name, AlternativeName::Dns(_))).count();
    let realms = names.iter().filter(|name| matches!(name, AlternativeName::Krbtgt(_))).count();
    report.require(
        dns > 0,
        "kdc-dns-name",
        "the DNS names of the controller and the domain are missing (MS-PKCA 3.1.5.1)",
    );
    report.require(
        dns + realms == names.len() && realms <= 1,
        "kdc-names-only",
        "a KDC has DNS names and at most one KRB5PrincipalName",
    );
}

fn smartcard_logon(certificate: &Certificate<'_>, report: &mut Report) {
    subject_present(certificate, report);
    let upns = certificate.names.iter().filter(|name| matches!(name, AlternativeName::Upn(_)));
    report.require(
        upns.count() == 1,
        "smartcard-logon-upn-exactly-one",
        "a smart card has exactly one UPN: KDCs take any of several, or refuse them",
    );
    report.require(
        certificate.names.len() <= 1,
        "smartcard-logon-upn-only",
        "a smart card has no alternative name but its UPN: KDCs take any that matches",
    );
    report.require(
        certificate.extensions.security_identifier.is_some(),
        "smartcard-logon-sid",
        "the SID extension is missing or malformed (strong mapping, KB5014754)",
    );
}

fn tls_client(certificate: &Certificate<'_>, report: &mut Report) {
    let (ids, rest): (Vec<_>, Vec<_>) =
        certificate.names.iter().partition(|name| matches!(name, AlternativeName::Uri(_)));
    report.require(
        ids.len() == 1,
        "tls-client-spiffe-exactly-one",
        "a TLS client has exactly one SPIFFE id (X509-SVID section 2)",
    );
    report.require(
        rest.iter().all(|name| matches!(name, AlternativeName::Dns(_))),
        "tls-client-names-only",
        "a TLS client has a SPIFFE id and DNS names",
    );
}

fn tls_server(certificate: &Certificate<'_>, report: &mut Report) {
    let names = certificate.names;
    let ids = names.iter().filter(|name| matches!(name, AlternativeName::Uri(_))).count();
    report.require(!names.is_empty(), "tls-server-name", "a TLS server has at least one name");
    report.require(
        ids <= 1,
        "tls-server-spiffe-at-most-one",
        "a TLS server has at most one SPIFFE id (X509-SVID section 2)",
    );
    report.require(
        names.iter().all(|name| {
            use AlternativeName::{Dns, Ip, Uri};
            matches!(name, Dns(_) | Ip(_) | Uri(_))
        }),
        "tls-server-names-only",
        "a TLS server has DNS names, addresses and a SPIFFE id",
    );
}

/// What holds for both ends of a Windows logon, and what no KDC checks by itself.
fn windows_logon(certificate: &Certificate<'_>, issuer: &Issuer, report: &mut Report) {
    report.require(
        certificate.extensions.crl_distribution_points.is_some(),
        "windows-crl-distribution-point",
        "Windows needs a CRL distribution point; set the issuer's crl_url",
    );
    report.require(
        certificate.subject_key.is_none_or(|key| key.algorithm() != KeyAlgorithm::Ed25519),
        "windows-key-algorithm",
        "no KDC takes Ed25519; use RSA of 2048 bits or more, P-256 or P-384",
    );
    report.require(
        matches!(
            issuer.scheme,
            SignatureScheme::RsaPkcs1Sha256
                | SignatureScheme::RsaPkcs1Sha384
                | SignatureScheme::RsaPkcs1Sha512
        ),
        "windows-signature-rsa-pkcs1",
        "every KDC takes RSA with PKCS#1 v1.5, and some nothing else; issue from an RSA CA",
    );
}
