//! Templates to to-be-signed bytes. Nothing here decides: what it builds is read back and linted.

use der::{
    Decode, Encode, Sequence,
    asn1::{AnyRef, UintRef},
};
use x509_cert::{
    certificate::Version,
    ext::{
        Extension,
        pkix::{KeyUsages, name::GeneralName},
    },
    time::Validity,
};

use super::{EMPTY_NAME, Issuer, Profile, Template, algorithm, extension, profile, time};

/// The DER TBSCertificate (RFC 5280 section 4.1.2) of a template.
///
/// # Errors
///
/// A value has no DER form.
pub(super) fn to_be_signed(issuer: &Issuer, template: &Template) -> der::Result<Vec<u8>> {
    let subject = subject(issuer, template)?;
    TbsCertificate {
        version: Version::V3,
        serial_number: UintRef::new(template.serial.as_bytes())?,
        signature: AnyRef::from_der(algorithm::identifier(issuer.scheme))?,
        issuer: AnyRef::from_der(&issuer.name)?,
        validity: Validity::new(
            time::encode(template.not_before)?,
            time::encode(template.not_after)?,
        ),
        extensions: extensions(issuer, template, subject == EMPTY_NAME)?,
        subject: AnyRef::from_der(&subject)?,
        subject_public_key_info: AnyRef::from_der(template.public_key.spki_der())?,
    }
    .to_der()
}

/// RFC 5280 section 4.1.2, of the parts that are encoded already.
#[derive(Sequence)]
struct TbsCertificate<'a> {
    #[asn1(context_specific = "0", default = "Default::default")]
    version: Version,
    serial_number: UintRef<'a>,
    signature: AnyRef<'a>,
    issuer: AnyRef<'a>,
    validity: Validity,
    subject: AnyRef<'a>,
    subject_public_key_info: AnyRef<'a>,
    #[asn1(context_specific = "3", tag_mode = "EXPLICIT")]
    extensions: Vec<Extension>,
}

/// The subject as asked for. A root's is its own name; a smart card's says its UPN, because Windows
/// finds cached logons by subject and issuer.
fn subject(issuer: &Issuer, template: &Template) -> der::Result<Vec<u8>> {
    match (&template.subject, &template.profile) {
        (Some(name), _) => extension::distinguished_name(name),
        (None, Profile::Root { .. }) => Ok(issuer.name.clone()),
        (None, Profile::SmartcardLogon { upn, .. }) => extension::subject_of_upn(upn),
        (None, _) => Ok(EMPTY_NAME.to_vec()),
    }
}

fn extensions(
    issuer: &Issuer,
    template: &Template,
    subject_is_empty: bool,
) -> der::Result<Vec<Extension>> {
    let mut extensions = Vec::with_capacity(10);
    match &template.profile {
        Profile::Issuing { path_len } => authority(Some(*path_len), &mut extensions)?,
        Profile::Root { path_len } => authority(*path_len, &mut extensions)?,
        leaf => end_entity(leaf, subject_is_empty, &mut extensions)?,
    }
    let key_identifier = template.public_key.key_identifier();
    extensions.push(extension::subject_key_identifier(&key_identifier)?);
    extensions.extend_from_slice(&issuer.extensions);
    if issuer.rehearses {
        extensions.push(extension::poison()?);
    }
    if !template.policies.is_empty() {
        extensions.push(extension::certificate_policies(&template.policies)?);
    }
    Ok(extensions)
}

fn authority(path_len: Option<u8>, extensions: &mut Vec<Extension>) -> der::Result<()> {
    extensions.push(extension::ca_constraints(path_len)?);
    extensions.push(extension::key_usage(KeyUsages::KeyCertSign | KeyUsages::CRLSign)?);
    Ok(())
}

fn end_entity(
    profile: &Profile,
    subject_is_empty: bool,
    extensions: &mut Vec<Extension>,
) -> der::Result<()> {
    if is_svid(profile) {
        extensions.push(extension::leaf_constraints()?);
    }
    extensions.push(extension::key_usage(KeyUsages::DigitalSignature)?);
    extensions.push(extension::extended_key_usage(profile::extended_key_usage(profile.kind()))?);
    let names = alternative_names(profile)?;
    if !names.is_empty() {
        extensions.push(extension::subject_alternative_name(subject_is_empty, &names)?);
    }
    if matches!(profile, Profile::OcspSigner) {
        extensions.push(extension::ocsp_no_check()?);
    }
    if let Profile::SmartcardLogon { sid, template, .. } = profile {
        extensions.push(extension::security_identifier(sid)?);
        if let Some(template) = template {
            extensions.push(extension::certificate_template(template)?);
        }
    }
    Ok(())
}

/// Whether there is a SPIFFE id in it.
fn is_svid(profile: &Profile) -> bool {
    matches!(profile, Profile::TlsClient { .. } | Profile::TlsServer { spiffe_id: Some(_), .. })
}

fn alternative_names(profile: &Profile) -> der::Result<Vec<GeneralName>> {
    match profile {
        Profile::Issuing { .. } | Profile::OcspSigner | Profile::Root { .. } => Ok(Vec::new()),
        Profile::Kdc { dns_names, realm } => dns_names
            .iter()
            .map(extension::dns_name)
            .chain(realm.iter().map(extension::ticket_granting_service))
            .collect(),
        Profile::SmartcardLogon { upn, .. } => Ok(vec![extension::user_principal_name(upn)?]),
        Profile::TlsClient { spiffe_id, dns_names } => [extension::spiffe_id(spiffe_id)]
            .into_iter()
            .chain(dns_names.iter().map(extension::dns_name))
            .collect(),
        Profile::TlsServer { dns_names, addresses, spiffe_id } => dns_names
            .iter()
            .map(extension::dns_name)
            .chain(addresses.iter().copied().map(extension::ip_address))
            .chain(spiffe_id.iter().map(extension::spiffe_id))
            .collect(),
    }
}
