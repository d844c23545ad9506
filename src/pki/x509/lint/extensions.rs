//! The extensions of a certificate, each read strictly and at most once.

use der::{Decode, Encode, asn1::Null};
use x509_cert::{
    TbsCertificate,
    ext::{
        Extension,
        pkix::{
            AuthorityInfoAccessSyntax, AuthorityKeyIdentifier, BasicConstraints,
            CertificatePolicies, CrlDistributionPoints, ExtendedKeyUsage, KeyUsage, SubjectAltName,
            SubjectKeyIdentifier, name::GeneralName,
        },
    },
};

use super::Report;
use crate::{
    names::Sid,
    x509::{extension, oid},
};

/// What was found of each extension that a profile knows.
#[derive(Default)]
pub(super) struct Extensions {
    pub(super) authority_info_access: Option<Found<AuthorityInfoAccessSyntax>>,
    pub(super) authority_key_identifier: Option<Found<AuthorityKeyIdentifier>>,
    pub(super) basic_constraints: Option<Found<BasicConstraints>>,
    pub(super) certificate_policies: Option<Found<CertificatePolicies>>,
    pub(super) certificate_template: Option<Found<extension::CertificateTemplate>>,
    pub(super) crl_distribution_points: Option<Found<CrlDistributionPoints>>,
    pub(super) extended_key_usage: Option<Found<ExtendedKeyUsage>>,
    pub(super) key_usage: Option<Found<KeyUsage>>,
    pub(super) ocsp_no_check: Option<Found<Null>>,
    pub(super) poison: Option<Found<Null>>,
    pub(super) security_identifier: Option<Found<Sid>>,
    pub(super) subject_alternative_name: Option<Found<SubjectAltName>>,
    pub(super) subject_key_identifier: Option<Found<SubjectKeyIdentifier>>,
}

/// An extension with its criticality.
pub(super) struct Found<T> {
    pub(super) critical: bool,
    pub(super) value: T,
}

impl Extensions {
    /// Reads them all; reports unknown, repeated and malformed ones, which then count as absent.
    pub(super) fn read(tbs: &TbsCertificate, report: &mut Report) -> Self {
        let mut all = Self::default();
        for extension in tbs.extensions().into_iter().flatten() {
            all.read_one(extension, report);
        }
        all
    }

    fn read_one(&mut self, extension: &Extension, report: &mut Report) {
        match extension.extn_id {
            oid::AUTHORITY_INFO_ACCESS => fill(&mut self.authority_info_access, extension, report),
            oid::AUTHORITY_KEY_IDENTIFIER => {
                fill(&mut self.authority_key_identifier, extension, report);
            }
            oid::BASIC_CONSTRAINTS => fill(&mut self.basic_constraints, extension, report),
            oid::CERTIFICATE_POLICIES => fill(&mut self.certificate_policies, extension, report),
            oid::CERTIFICATE_TEMPLATE => fill(&mut self.certificate_template, extension, report),
            oid::CRL_DISTRIBUTION_POINTS => {
                fill(&mut self.crl_distribution_points, extension, report);
            }
            oid::EXTENDED_KEY_USAGE => fill(&mut self.extended_key_usage, extension, report),
            oid::KEY_USAGE => fill(&mut self.key_usage, extension, report),
            oid::NTDS_CA_SECURITY => self.fill_security_identifier(extension, report),
            oid::OCSP_NO_CHECK => fill(&mut self.ocsp_no_check, extension, report),
            oid::POISON => fill(&mut self.poison, extension, report),
            oid::SUBJECT_ALTERNATIVE_NAME => {
                fill(&mut self.subject_alternative_name, extension, report);
            }
            oid::SUBJECT_KEY_IDENTIFIER => {
                fill(&mut self.subject_key_identifier, extension, report);
            }
            unknown => report.add("extension-known", format!("extension {unknown}")),
        }
    }

    fn fill_security_identifier(&mut self, extension: &Extension, report: &mut Report) {
        match security_identifier(extension) {
            Some(sid) => put(&mut self.security_identifier, extension, sid, report),
            None => report.add(
                "sid-extension-encoding",
                "the SID extension is not the OtherName of an OCTET STRING that holds a SID as text",
            ),
        }
    }
}

/// Reads an extension's value; only one that encodes again to the same bytes is DER.
fn fill<T>(slot: &mut Option<Found<T>>, extension: &Extension, report: &mut Report)
where
    T: for<'a> Decode<'a> + Encode,
{
    let bytes = extension.extn_value.as_bytes();
    let value = T::from_der(bytes).ok();
    match value.filter(|value| value.to_der().is_ok_and(|again| again == bytes)) {
        Some(value) => put(slot, extension, value, report),
        None => report.add(
            "extension-der-strict",
            format!("extension {} is not the DER of its syntax", extension.extn_id),
        ),
    }
}

fn put<T>(slot: &mut Option<Found<T>>, extension: &Extension, value: T, report: &mut Report) {
    let previous = slot.replace(Found { critical: extension.critical, value });
    if previous.is_some() {
        report.add("extension-unique", format!("extension {} occurs twice", extension.extn_id));
    }
}

/// The SID, if the value is to the byte what is built of that SID.
fn security_identifier(extension: &Extension) -> Option<Sid> {
    let names = Vec::<GeneralName>::from_der(extension.extn_value.as_bytes()).ok()?;
    let [GeneralName::OtherName(name)] = names.as_slice() else { return None };
    let sid: Sid = std::str::from_utf8(name.value.value()).ok()?.parse().ok()?;
    let built = extension::security_identifier(&sid).ok()?;
    (built.extn_value == extension.extn_value).then_some(sid)
}
