//! The rules of each profile.

use jiff::SignedDuration;

use super::{Report, names::AlternativeName, reading::Reading};
use crate::{
    keys::KeyAlgorithm,
    seal::Kind,
    x509::{Issuer, Standing},
};

/// What holds for certificates of this kind, besides what holds for all.
pub(super) fn check(reading: &Reading, issuer: &Issuer, report: &mut Report) {
    match reading.kind {
        Kind::Issuing | Kind::Root => authority(reading, issuer, report),
        Kind::Kdc => kdc(reading, report),
        Kind::OcspSigner => ocsp_signer(reading, report),
        Kind::SmartcardLogon => smartcard_logon(reading, report),
        Kind::TlsClient => tls_client(reading, report),
        Kind::TlsServer => tls_server(reading, report),
        Kind::SshHost | Kind::SshUser => {
            report.add("profile-known", "an SSH certificate is no X.509 certificate");
        }
    }
    if matches!(reading.kind, Kind::Kdc | Kind::SmartcardLogon) {
        windows_logon(reading, issuer, report);
    }
    report.require(
        (reading.kind == Kind::Root) == matches!(issuer.standing, Standing::Aspirant),
        "root-signs-itself-once",
        "a CA without certificate signs its own root certificate and nothing else, \
         and a CA with one signs no other certificate of its own name",
    );
}

fn authority(reading: &Reading, issuer: &Issuer, report: &mut Report) {
    subject_present(reading, report);
    let found = reading.extensions.basic_constraints.as_ref();
    let own = found.and_then(|found| found.value.path_len_constraint);
    let Standing::Certified { path_len: Some(bound), .. } = issuer.standing else { return };
    report.require(
        own.is_some_and(|own| own < bound),
        "path-length-within-issuer",
        "it allows as many CAs below it as its issuer, or more",
    );
}

fn subject_present(reading: &Reading, report: &mut Report) {
    report.require(
        !reading.tbs.subject().is_empty(),
        "subject-present",
        "a certificate of this kind has a subject",
    );
}

fn kdc(reading: &Reading, report: &mut Report) {
    let names = &reading.names;
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

/// Nobody asks whether it is revoked, so that its life is what bounds the loss of its key.
fn ocsp_signer(reading: &Reading, report: &mut Report) {
    subject_present(reading, report);
    report.require(
        reading.extensions.ocsp_no_check.is_some(),
        "ocsp-signer-no-check",
        "an OCSP signer has id-pkix-ocsp-nocheck (RFC 6960 section 4.2.2.2.1)",
    );
    report.require(
        reading.not_after.duration_since(reading.not_before) <= OCSP_SIGNER_LIFE,
        "ocsp-signer-short-life",
        "an OCSP signer lives at most 31 days",
    );
}

fn smartcard_logon(reading: &Reading, report: &mut Report) {
    subject_present(reading, report);
    let upns = reading.names.iter().filter(|name| matches!(name, AlternativeName::Upn(_)));
    report.require(
        upns.count() == 1,
        "smartcard-logon-upn-exactly-one",
        "a smart card has exactly one UPN: KDCs take any of several, or refuse them",
    );
    report.require(
        reading.names.len() <= 1,
        "smartcard-logon-upn-only",
        "a smart card has no alternative name but its UPN: KDCs take any that matches",
    );
    report.require(
        reading.extensions.security_identifier.is_some(),
        "smartcard-logon-sid",
        "the SID extension is missing or malformed (strong mapping, KB5014754)",
    );
}

fn tls_client(reading: &Reading, report: &mut Report) {
    let (ids, rest): (Vec<_>, Vec<_>) =
        reading.names.iter().partition(|name| matches!(name, AlternativeName::Uri(_)));
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

fn tls_server(reading: &Reading, report: &mut Report) {
    let names = &reading.names;
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
fn windows_logon(reading: &Reading, issuer: &Issuer, report: &mut Report) {
    report.require(
        reading.extensions.crl_distribution_points.is_some(),
        "windows-crl-distribution-point",
        "Windows needs a CRL distribution point; set the issuer's crl_url",
    );
    report.require(
        reading.subject_key.algorithm() != KeyAlgorithm::Ed25519,
        "windows-key-algorithm",
        "no KDC takes Ed25519; use RSA of 2048 bits or more, P-256 or P-384",
    );
    report.require(
        issuer.scheme.is_rsa_pkcs1(),
        "windows-signature-rsa-pkcs1",
        "every KDC takes RSA with PKCS#1 v1.5, and some nothing else; issue from an RSA CA",
    );
}

const OCSP_SIGNER_LIFE: SignedDuration = SignedDuration::from_hours(31 * 24);
