//! Object identifiers of the certificates that this crate makes.

use const_oid::ObjectIdentifier;

/// id-ce-keyUsage and its neighbours (RFC 5280 section 4.2.1).
pub(super) const AUTHORITY_INFO_ACCESS: ObjectIdentifier = oid("1.3.6.1.5.5.7.1.1");
pub(super) const AUTHORITY_KEY_IDENTIFIER: ObjectIdentifier = oid("2.5.29.35");
pub(super) const BASIC_CONSTRAINTS: ObjectIdentifier = oid("2.5.29.19");
pub(super) const CERTIFICATE_POLICIES: ObjectIdentifier = oid("2.5.29.32");
pub(super) const CRL_DISTRIBUTION_POINTS: ObjectIdentifier = oid("2.5.29.31");
/// Of revocation lists and their entries (RFC 5280 sections 5.2.3 and 5.3.1).
pub(super) const CRL_NUMBER: ObjectIdentifier = oid("2.5.29.20");
pub(super) const CRL_REASON: ObjectIdentifier = oid("2.5.29.21");
pub(super) const EXTENDED_KEY_USAGE: ObjectIdentifier = oid("2.5.29.37");
pub(super) const KEY_USAGE: ObjectIdentifier = oid("2.5.29.15");
pub(super) const SUBJECT_ALTERNATIVE_NAME: ObjectIdentifier = oid("2.5.29.17");
pub(super) const SUBJECT_KEY_IDENTIFIER: ObjectIdentifier = oid("2.5.29.14");

/// anyPolicy (RFC 5280 section 4.2.1.4).
pub(super) const ANY_POLICY: ObjectIdentifier = oid("2.5.29.32.0");

/// szOID_NTDS_CA_SECURITY_EXT and szOID_NTDS_OBJECTSID (MS-WCCE 2.2.2.7.7.4).
pub(super) const NTDS_CA_SECURITY: ObjectIdentifier = oid("1.3.6.1.4.1.311.25.2");
pub(super) const NTDS_OBJECT_SID: ObjectIdentifier = oid("1.3.6.1.4.1.311.25.2.1");
/// szOID_ENROLL_CERTTYPE_EXTENSION (MS-WCCE 2.2.2.7.7.1).
pub(super) const CERTIFICATE_TEMPLATE_NAME: ObjectIdentifier = oid("1.3.6.1.4.1.311.20.2");
/// szOID_CERTIFICATE_TEMPLATE (MS-WCCE 2.2.2.7.7.2).
pub(super) const CERTIFICATE_TEMPLATE: ObjectIdentifier = oid("1.3.6.1.4.1.311.21.7");

/// szOID_NT_PRINCIPAL_NAME, the type of a UPN.
pub(super) const USER_PRINCIPAL_NAME: ObjectIdentifier = oid("1.3.6.1.4.1.311.20.2.3");
/// id-pkinit-san, the type of a KRB5PrincipalName (RFC 4556 section 3.2.2).
pub(super) const KRB5_PRINCIPAL_NAME: ObjectIdentifier = oid("1.3.6.1.5.2.2");

/// id-kp-clientAuth, id-kp-serverAuth (RFC 5280 section 4.2.1.12).
pub(super) const CLIENT_AUTH: ObjectIdentifier = oid("1.3.6.1.5.5.7.3.2");
pub(super) const SERVER_AUTH: ObjectIdentifier = oid("1.3.6.1.5.5.7.3.1");
/// szOID_KP_SMARTCARD_LOGON.
pub(super) const SMARTCARD_LOGON: ObjectIdentifier = oid("1.3.6.1.4.1.311.20.2.2");
/// id-kp-OCSPSigning, and what goes with it (RFC 6960 sections 4.2.2.2, 4.4.1).
pub(super) const OCSP_SIGNING: ObjectIdentifier = oid("1.3.6.1.5.5.7.3.9");
pub(super) const OCSP_NO_CHECK: ObjectIdentifier = oid("1.3.6.1.5.5.7.48.1.5");
pub(super) const OCSP_NONCE: ObjectIdentifier = oid("1.3.6.1.5.5.7.48.1.2");
/// The hashes by which OCSP requests name an issuer.
pub(super) const SHA1: ObjectIdentifier = oid("1.3.14.3.2.26");
pub(super) const SHA256: ObjectIdentifier = oid("2.16.840.1.101.3.4.2.1");
/// id-pkinit-KPKdc (RFC 4556 section 3.2.4).
pub(super) const PKINIT_KDC: ObjectIdentifier = oid("1.3.6.1.5.2.3.5");

/// id-ad-caIssuers, id-ad-ocsp (RFC 5280 section 4.2.2.1).
pub(super) const CA_ISSUERS: ObjectIdentifier = oid("1.3.6.1.5.5.7.48.2");
pub(super) const OCSP: ObjectIdentifier = oid("1.3.6.1.5.5.7.48.1");

/// The extension that no relying party takes: critical, and meant by nobody (RFC 6962 section 3.1,
/// where a certificate that must never be used carries it, too). Tools know it by its name.
pub(super) const POISON: ObjectIdentifier = oid("1.3.6.1.4.1.11129.2.4.3");

/// Attributes of distinguished names (RFC 4519 section 2, RFC 4524).
pub(super) const COMMON_NAME: ObjectIdentifier = oid("2.5.4.3");
pub(super) const SERIAL_NUMBER: ObjectIdentifier = oid("2.5.4.5");
pub(super) const COUNTRY: ObjectIdentifier = oid("2.5.4.6");
pub(super) const LOCALITY: ObjectIdentifier = oid("2.5.4.7");
pub(super) const STATE: ObjectIdentifier = oid("2.5.4.8");
pub(super) const ORGANIZATION: ObjectIdentifier = oid("2.5.4.10");
pub(super) const ORGANIZATIONAL_UNIT: ObjectIdentifier = oid("2.5.4.11");
pub(super) const DOMAIN_COMPONENT: ObjectIdentifier = oid("0.9.2342.19200300.100.1.25");

/// extensionRequest (RFC 2985 section 5.4.2), and Microsoft's szOID_CERT_EXTENSIONS for the same.
pub(super) const EXTENSION_REQUEST: ObjectIdentifier = oid("1.2.840.113549.1.9.14");
pub(super) const MICROSOFT_EXTENSION_REQUEST: ObjectIdentifier = oid("1.3.6.1.4.1.311.2.1.14");

/// Of YubiKeys' attestations (Yubico, "PIV attestation"): three bytes of a version, the serial number
/// as an INTEGER, PIN and touch policy, what the card looks like.
pub(super) const YUBICO_FIRMWARE: ObjectIdentifier = oid("1.3.6.1.4.1.41482.3.3");
pub(super) const YUBICO_SERIAL: ObjectIdentifier = oid("1.3.6.1.4.1.41482.3.7");
pub(super) const YUBICO_POLICIES: ObjectIdentifier = oid("1.3.6.1.4.1.41482.3.8");
pub(super) const YUBICO_FORM_FACTOR: ObjectIdentifier = oid("1.3.6.1.4.1.41482.3.9");

const fn oid(dotted: &str) -> ObjectIdentifier {
    ObjectIdentifier::new_unwrap(dotted)
}
