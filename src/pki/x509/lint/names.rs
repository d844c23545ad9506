//! The names in a certificate: the subject's attributes and the alternative names.

use std::{collections::BTreeSet, fmt, net::IpAddr};

use der::{
    Tag, Tagged,
    asn1::{Any, Ia5StringRef, PrintableStringRef},
};
use x509_cert::{
    attr::AttributeTypeAndValue,
    ext::pkix::name::{GeneralName, OtherName},
    name::Name,
};

use super::{Report, extensions::Extensions, reading::Reading};
use crate::{
    names::{DnsName, Realm, SpiffeId, Upn},
    x509::{Profile, extension, oid},
};

/// An alternative name that a profile may carry.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum AlternativeName {
    Dns(DnsName),
    Ip(IpAddr),
    /// The ticket-granting service of a realm.
    Krbtgt(Realm),
    Uri(SpiffeId),
    Upn(Upn),
}

impl fmt::Display for AlternativeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => write!(f, "DNS:{name}"),
            Self::Ip(address) => write!(f, "IP:{address}"),
            Self::Krbtgt(realm) => write!(f, "KRB5:krbtgt/{realm}@{realm}"),
            Self::Uri(id) => write!(f, "URI:{id}"),
            Self::Upn(upn) => write!(f, "UPN:{upn}"),
        }
    }
}

/// Reads the alternative names; reports those of no known kind, malformed and repeated ones.
pub(super) fn alternative_names(
    extensions: &Extensions,
    report: &mut Report,
) -> Vec<AlternativeName> {
    let Some(found) = &extensions.subject_alternative_name else { return Vec::new() };
    let mut names = Vec::with_capacity(found.value.0.len());
    for name in &found.value.0 {
        match alternative_name(name) {
            Ok(name) => names.push(name),
            Err((rule, what)) => report.add(rule, what),
        }
    }
    report.require(
        !found.value.0.is_empty(),
        "alternative-name-present",
        "the subject alternative name extension is empty",
    );
    report.require(
        names.iter().collect::<BTreeSet<_>>().len() == names.len(),
        "alternative-name-unique",
        "an alternative name occurs twice",
    );
    names
}

/// The names as the ledger keeps them: the alternative names in their order, then the SID.
pub(super) fn texts(names: &[AlternativeName], extensions: &Extensions) -> Vec<String> {
    let sid = extensions.security_identifier.iter().map(|found| format!("SID:{}", found.value));
    names.iter().map(ToString::to_string).chain(sid).collect()
}

/// Whether the alternative names and the SID are those that a profile asks for.
pub(super) fn are_those_of(profile: &Profile, reading: &Reading) -> bool {
    let dns = |names: &BTreeSet<DnsName>| -> Vec<_> {
        names.iter().cloned().map(AlternativeName::Dns).collect()
    };
    let (asked, sid) = match profile {
        Profile::Issuing { .. } | Profile::OcspSigner | Profile::Root { .. } => (Vec::new(), None),
        Profile::Kdc { dns_names, realm } => {
            let realm = realm.iter().cloned().map(AlternativeName::Krbtgt);
            (dns(dns_names).into_iter().chain(realm).collect(), None)
        }
        Profile::SmartcardLogon { upn, sid, .. } => {
            (vec![AlternativeName::Upn(upn.clone())], Some(sid))
        }
        Profile::TlsClient { spiffe_id, dns_names } => {
            let id = vec![AlternativeName::Uri(spiffe_id.clone())];
            (id.into_iter().chain(dns(dns_names)).collect(), None)
        }
        Profile::TlsServer { dns_names, addresses, spiffe_id } => {
            let addresses = addresses.iter().copied().map(AlternativeName::Ip);
            let id = spiffe_id.iter().cloned().map(AlternativeName::Uri);
            (dns(dns_names).into_iter().chain(addresses).chain(id).collect(), None)
        }
    };
    let found = reading.extensions.security_identifier.as_ref().map(|found| &found.value);
    asked == reading.names && sid == found
}

/// Checks each attribute of a subject (RFC 5280 section 4.1.2.4, upper bounds of appendix A.1).
pub(super) fn subject(name: &Name, report: &mut Report) {
    for attribute in name.iter() {
        if let Err((rule, what)) = subject_attribute(attribute) {
            report.add(rule, format!("subject attribute {}: {what}", attribute.oid));
        }
    }
}

/// A broken rule, and what broke it.
type Broken = (&'static str, String);

fn alternative_name(name: &GeneralName) -> Result<AlternativeName, Broken> {
    match name {
        GeneralName::DnsName(name) => match name.as_str().parse() {
            Ok(name) => Ok(AlternativeName::Dns(name)),
            Err(error) => Err(("alternative-name-dns", error.to_string())),
        },
        GeneralName::IpAddress(octets) => extension::address(octets.as_bytes())
            .map(AlternativeName::Ip)
            .ok_or_else(|| ("alternative-name-ip", "an address has 4 or 16 octets".to_owned())),
        GeneralName::OtherName(name) if name.type_id == oid::USER_PRINCIPAL_NAME => {
            user_principal_name(&name.value)
        }
        GeneralName::OtherName(name) if name.type_id == oid::KRB5_PRINCIPAL_NAME => krbtgt(name),
        GeneralName::OtherName(name) => {
            Err(("alternative-name-known", format!("an otherName of type {}", name.type_id)))
        }
        GeneralName::UniformResourceIdentifier(uri) => match uri.as_str().parse() {
            Ok(id) => Ok(AlternativeName::Uri(id)),
            Err(error) => Err(("alternative-name-spiffe", error.to_string())),
        },
        other => Err(("alternative-name-known", format!("a name with tag {}", other.tag()))),
    }
}

fn user_principal_name(value: &Any) -> Result<AlternativeName, Broken> {
    if value.tag() != Tag::Utf8String {
        let what = format!("the UPN is a {}, not a UTF8String", value.tag());
        return Err(("upn-utf8-string", what));
    }
    let text = std::str::from_utf8(value.value())
        .map_err(|_| ("upn-utf8-string", "the UPN is not UTF-8".to_owned()))?;
    text.parse()
        .map(AlternativeName::Upn)
        .map_err(|error: crate::names::NameError| ("upn-well-formed", error.to_string()))
}

/// A KRB5PrincipalName counts only if it is to the byte what is built of its realm: a KDC takes any
/// name of this type, so that no other than the ticket-granting service's may ever be signed.
fn krbtgt(name: &OtherName) -> Result<AlternativeName, Broken> {
    let read = || -> Option<Realm> {
        let principal = name.value.decode_as::<extension::Krb5PrincipalName<'_>>().ok()?;
        let realm: Realm = std::str::from_utf8(principal.realm.value()).ok()?.parse().ok()?;
        let built = extension::ticket_granting_service(&realm).ok()?;
        (built == GeneralName::OtherName(name.clone())).then_some(realm)
    };
    read().map(AlternativeName::Krbtgt).ok_or_else(|| {
        ("krb5-principal-is-krbtgt", "a KRB5PrincipalName is not krbtgt/REALM@REALM".to_owned())
    })
}

fn subject_attribute(attribute: &AttributeTypeAndValue) -> Result<(), Broken> {
    let lengths = match attribute.oid {
        oid::COMMON_NAME | oid::ORGANIZATION | oid::ORGANIZATIONAL_UNIT | oid::SERIAL_NUMBER => {
            1..=64
        }
        oid::COUNTRY => 2..=2,
        oid::DOMAIN_COMPONENT => 1..=63,
        oid::LOCALITY | oid::STATE => 1..=128,
        _ => return Err(("subject-attribute-known", "it is not one that is certified".to_owned())),
    };
    let text = attribute_text(attribute)
        .ok_or_else(|| ("subject-attribute-string", "it has the wrong string type".to_owned()))?;
    if text.chars().any(char::is_control) {
        return Err(("subject-attribute-printable", format!("control character in {text:?}")));
    }
    let length = text.chars().count();
    if !lengths.contains(&length) {
        let what = format!(
            "it has {length} characters; {} to {} are allowed",
            lengths.start(),
            lengths.end(),
        );
        return Err(("subject-attribute-length", what));
    }
    Ok(())
}

/// The text, if it has the string type of the attribute (RFC 5280 appendix A.1).
fn attribute_text(attribute: &AttributeTypeAndValue) -> Option<&str> {
    let value = &attribute.value;
    match (attribute.oid, value.tag()) {
        (oid::COUNTRY | oid::SERIAL_NUMBER, Tag::PrintableString) => printable(value),
        (oid::COUNTRY | oid::SERIAL_NUMBER, _) => None,
        (oid::DOMAIN_COMPONENT, Tag::Ia5String) => {
            Ia5StringRef::try_from(value).ok()?;
            std::str::from_utf8(value.value()).ok()
        }
        (oid::DOMAIN_COMPONENT, _) => None,
        (_, Tag::PrintableString) => printable(value),
        (_, Tag::Utf8String) => std::str::from_utf8(value.value()).ok(),
        _ => None,
    }
}

fn printable(value: &Any) -> Option<&str> {
    PrintableStringRef::try_from(value).ok()?;
    std::str::from_utf8(value.value()).ok()
}
