//! Extensions and names, encoded. What of a certificate only Microsoft or Kerberos define is here.

use std::net::IpAddr;

use const_oid::ObjectIdentifier;
use der::{
    Encode, Sequence, Tag,
    asn1::{Any, AnyRef, Ia5String, Null, OctetString},
    flagset::FlagSet,
};
use x509_cert::{
    attr::AttributeTypeAndValue,
    ext::{
        Extension,
        pkix::{
            AccessDescription, AuthorityKeyIdentifier, BasicConstraints, CrlNumber, CrlReason,
            KeyUsage, KeyUsages,
            certpolicy::PolicyInformation,
            crl::dp::DistributionPoint,
            name::{DistributionPointName, GeneralName, OtherName},
        },
    },
    name::{Name, RdnSequence, RelativeDistinguishedName},
};

use super::{Publication, oid, profile};
use crate::names::{DistinguishedName, DnsName, Oid, Realm, Sid, SpiffeId, Upn};

/// Says CA:TRUE and how many CAs may stand below; critical (RFC 5280 section 4.2.1.9).
pub(super) fn ca_constraints(path_len: Option<u8>) -> der::Result<Extension> {
    let constraints = BasicConstraints { ca: true, path_len_constraint: path_len };
    extension(oid::BASIC_CONSTRAINTS, true, &constraints)
}

/// Says that it is no CA's: what X509-SVID section 4.1 asks of a leaf.
pub(super) fn leaf_constraints() -> der::Result<Extension> {
    let constraints = BasicConstraints { ca: false, path_len_constraint: None };
    extension(oid::BASIC_CONSTRAINTS, true, &constraints)
}

/// Critical, as RFC 5280 section 4.2.1.3 says it should be.
pub(super) fn key_usage(usages: impl Into<FlagSet<KeyUsages>>) -> der::Result<Extension> {
    extension(oid::KEY_USAGE, true, &KeyUsage(usages.into()))
}

pub(super) fn extended_key_usage(purposes: &[ObjectIdentifier]) -> der::Result<Extension> {
    extension(oid::EXTENDED_KEY_USAGE, false, &purposes.to_vec())
}

pub(super) fn subject_alternative_name(
    critical: bool,
    names: &Vec<GeneralName>,
) -> der::Result<Extension> {
    extension(oid::SUBJECT_ALTERNATIVE_NAME, critical, names)
}

pub(super) fn subject_key_identifier(identifier: &[u8]) -> der::Result<Extension> {
    extension(oid::SUBJECT_KEY_IDENTIFIER, false, &OctetString::new(identifier)?)
}

/// The key identifier alone: issuer and serial would bind the certificate to one certificate of
/// the issuer instead of its key.
pub(super) fn authority_key_identifier(identifier: &[u8]) -> der::Result<Extension> {
    let identifier = AuthorityKeyIdentifier {
        key_identifier: Some(OctetString::new(identifier)?),
        ..AuthorityKeyIdentifier::default()
    };
    extension(oid::AUTHORITY_KEY_IDENTIFIER, false, &identifier)
}

/// id-pkix-ocsp-nocheck (RFC 6960 section 4.2.2.2.1).
pub(super) fn ocsp_no_check() -> der::Result<Extension> {
    extension(oid::OCSP_NO_CHECK, false, &Null)
}

/// Makes a certificate one that nobody can use.
pub(super) fn poison() -> der::Result<Extension> {
    extension(oid::POISON, true, &Null)
}

/// Of an OCSP response (RFC 9654 section 2.1).
pub(super) fn ocsp_nonce(nonce: &[u8]) -> der::Result<Extension> {
    extension(oid::OCSP_NONCE, false, &OctetString::new(nonce)?)
}

/// Policies without qualifiers (RFC 5280 section 4.2.1.4 recommends none).
pub(super) fn certificate_policies(policies: &[Oid]) -> der::Result<Extension> {
    let policies = policies
        .iter()
        .map(|policy| {
            let policy_identifier = ObjectIdentifier::new(policy.as_str())?;
            Ok(PolicyInformation { policy_identifier, policy_qualifiers: None })
        })
        .collect::<der::Result<Vec<_>>>()?;
    extension(oid::CERTIFICATE_POLICIES, false, &policies)
}

/// Of a revocation list (RFC 5280 section 5.2.3).
pub(super) fn crl_number(number: u64) -> der::Result<Extension> {
    extension(oid::CRL_NUMBER, false, &CrlNumber::try_from(number)?)
}

/// Of an entry of a revocation list (RFC 5280 section 5.3.1).
pub(super) fn crl_reason(reason: CrlReason) -> der::Result<Extension> {
    extension(oid::CRL_REASON, false, &reason)
}

/// Where the issuer's CRL, certificate and OCSP responder are.
pub(super) fn publication(publication: &Publication) -> der::Result<Vec<Extension>> {
    let mut extensions = Vec::new();
    if let Some(url) = &publication.crl_url {
        let point = DistributionPoint {
            distribution_point: Some(DistributionPointName::FullName(vec![uri(url.as_str())?])),
            reasons: None,
            crl_issuer: None,
        };
        extensions.push(extension(oid::CRL_DISTRIBUTION_POINTS, false, &vec![point])?);
    }
    let access = [(oid::OCSP, &publication.ocsp_url), (oid::CA_ISSUERS, &publication.issuer_url)]
        .into_iter()
        .filter_map(|(access_method, url)| Some((access_method, url.as_ref()?)))
        .map(|(access_method, url)| {
            Ok(AccessDescription { access_method, access_location: uri(url.as_str())? })
        })
        .collect::<der::Result<Vec<_>>>()?;
    if !access.is_empty() {
        extensions.push(extension(oid::AUTHORITY_INFO_ACCESS, false, &access)?);
    }
    Ok(extensions)
}

/// szOID_NTDS_CA_SECURITY_EXT (MS-WCCE 2.2.2.7.7.4). MS-WCCE prints less than real CAs emit: the
/// OtherName is tagged [0], its value [0] EXPLICIT, an OCTET STRING of the SID's text. Never
/// critical: OpenSSL would refuse the certificate.
pub(super) fn security_identifier(sid: &Sid) -> der::Result<Extension> {
    let name =
        other_name(oid::NTDS_OBJECT_SID, Any::new(Tag::OctetString, sid.as_str().as_bytes())?);
    extension(oid::NTDS_CA_SECURITY, false, &vec![name])
}

/// MS-WCCE 2.2.2.7.7.2.
pub(super) fn certificate_template(
    template: &profile::CertificateTemplate,
) -> der::Result<Extension> {
    let template = CertificateTemplate {
        id: ObjectIdentifier::new(template.oid.as_str())?,
        major: template.major,
        minor: template.minor,
    };
    extension(oid::CERTIFICATE_TEMPLATE, false, &template)
}

pub(super) fn dns_name(name: &DnsName) -> der::Result<GeneralName> {
    Ok(GeneralName::DnsName(Ia5String::new(name.as_str())?))
}

pub(super) fn ip_address(address: IpAddr) -> der::Result<GeneralName> {
    let octets = match address {
        IpAddr::V4(address) => OctetString::new(address.octets())?,
        IpAddr::V6(address) => OctetString::new(address.octets())?,
    };
    Ok(GeneralName::IpAddress(octets))
}

/// The address of an iPAddress; `None` unless it has 4 or 16 octets.
pub(super) fn address(octets: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(octets).ok().map(IpAddr::from);
    v4.or_else(|| <[u8; 16]>::try_from(octets).ok().map(IpAddr::from))
}

pub(super) fn spiffe_id(id: &SpiffeId) -> der::Result<GeneralName> {
    uri(id.as_str())
}

/// The UPN as UTF8String: Windows knows no other string type here.
pub(super) fn user_principal_name(upn: &Upn) -> der::Result<GeneralName> {
    let value = Any::new(Tag::Utf8String, upn.as_str().as_bytes())?;
    Ok(other_name(oid::USER_PRINCIPAL_NAME, value))
}

/// `krbtgt/REALM@REALM` (RFC 4556 section 3.2.2).
pub(super) fn ticket_granting_service(realm: &Realm) -> der::Result<GeneralName> {
    let text = |text: &'_ str| Any::new(Tag::GeneralString, text.as_bytes());
    let (realm, service) = (text(realm.as_str())?, text("krbtgt")?);
    let value = Any::encode_from(&Krb5PrincipalName {
        realm: realm.to_ref(),
        principal_name: PrincipalName {
            name_type: NT_SRV_INST,
            name_string: vec![service.to_ref(), realm.to_ref()],
        },
    })?;
    Ok(other_name(oid::KRB5_PRINCIPAL_NAME, value))
}

/// The DER of a distinguished name; RFC 4514 text stands in the reverse order of the DER.
pub(super) fn distinguished_name(name: &DistinguishedName) -> der::Result<Vec<u8>> {
    name.as_str().parse::<Name>()?.to_der()
}

/// The DER of the subject of an account: `CN=alice@example.test`, or, where that is longer than a
/// common name may be (64 characters), `CN=alice,DC=example,DC=test`. Either names one account.
pub(super) fn subject_of_upn(upn: &Upn) -> der::Result<Vec<u8>> {
    let mut name = RdnSequence::default();
    if upn.as_str().chars().count() <= 64 {
        name.push(relative_name(oid::COMMON_NAME, Tag::Utf8String, upn.as_str())?);
        return name.to_der();
    }
    for label in upn.domain().rsplit('.') {
        name.push(relative_name(oid::DOMAIN_COMPONENT, Tag::Ia5String, label)?);
    }
    name.push(relative_name(oid::COMMON_NAME, Tag::Utf8String, upn.account())?);
    name.to_der()
}

/// The certificate template extension's syntax.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Sequence)]
pub(super) struct CertificateTemplate {
    id: ObjectIdentifier,
    major: u32,
    minor: u32,
}

/// RFC 4556 section 3.2.2; the strings are GeneralStrings (RFC 4120 section 5.2.1).
#[derive(Clone, Debug, Eq, PartialEq, Sequence)]
pub(super) struct Krb5PrincipalName<'a> {
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT")]
    pub(super) realm: AnyRef<'a>,
    #[asn1(context_specific = "1", tag_mode = "EXPLICIT")]
    principal_name: PrincipalName<'a>,
}

/// RFC 4120 section 5.2.2.
#[derive(Clone, Debug, Eq, PartialEq, Sequence)]
struct PrincipalName<'a> {
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT")]
    name_type: u8,
    #[asn1(context_specific = "1", tag_mode = "EXPLICIT")]
    name_string: Vec<AnyRef<'a>>,
}

/// A service and its instance (RFC 4120 section 6.2).
const NT_SRV_INST: u8 = 2;

fn other_name(type_id: ObjectIdentifier, value: Any) -> GeneralName {
    GeneralName::OtherName(OtherName { type_id, value })
}

fn relative_name(
    oid: ObjectIdentifier,
    tag: Tag,
    text: &str,
) -> der::Result<RelativeDistinguishedName> {
    let mut relative = RelativeDistinguishedName::default();
    relative.insert(AttributeTypeAndValue { oid, value: Any::new(tag, text.as_bytes())? })?;
    Ok(relative)
}

fn uri(text: &str) -> der::Result<GeneralName> {
    Ok(GeneralName::UniformResourceIdentifier(Ia5String::new(text)?))
}

fn extension(
    extn_id: ObjectIdentifier,
    critical: bool,
    value: &impl Encode,
) -> der::Result<Extension> {
    Ok(Extension { extn_id, critical, extn_value: OctetString::new(value.to_der()?)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sid_extension_is_that_of_real_windows_cas_to_the_byte() {
        let extension = security_identifier(&"S-1-5-21-1-2-3-1104".parse().unwrap()).unwrap();
        assert_eq!(
            hex::encode_upper(extension.extn_value.as_bytes()),
            "3025A023060A2B060104018237190201A0150413532D312D352D32312D312D322D332D31313034",
        );
        assert!(!extension.critical);
    }

    #[test]
    fn the_upn_is_a_utf8_string_in_two_context_tags() {
        let name = user_principal_name(&"alice@example.test".parse().unwrap()).unwrap();
        let mut expected = hex::decode("a022060a2b060104018237140203a0140c12").unwrap();
        expected.extend_from_slice(b"alice@example.test");
        assert_eq!(name.to_der().unwrap(), expected);
    }
}
