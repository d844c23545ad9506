//! Profiles: what a certificate of each kind looks like.

use std::{collections::BTreeSet, net::IpAddr};

use const_oid::ObjectIdentifier;

use super::oid;
use crate::{
    names::{DnsName, Oid, Realm, Sid, SpiffeId, Upn},
    seal::Kind,
};

/// What a certificate is for, with the names that it is for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Profile {
    /// A subordinate CA: keyCertSign and cRLSign.
    Issuing {
        /// How many CAs may stand below it.
        path_len: u8,
    },
    /// A domain controller: id-pkinit-KPKdc, serverAuth, clientAuth, smart-card logon.
    Kdc {
        /// The controller's host name and the domain's DNS name.
        dns_names: BTreeSet<DnsName>,
        /// Adds the KRB5PrincipalName `krbtgt/REALM@REALM` for clients that are not Windows.
        realm: Option<Realm>,
    },
    /// The signer of an issuer's OCSP responses (RFC 6960 section 4.2.2.2): OCSPSigning and
    /// id-pkix-ocsp-nocheck, so that it cannot be revoked, and lives at most 31 days.
    OcspSigner,
    /// A self-signed CA.
    Root {
        /// How many CAs may stand below it.
        path_len: Option<u8>,
    },
    /// A Windows smart-card logon: clientAuth and smart-card logon, UPN, SID extension.
    SmartcardLogon {
        /// The one user principal name.
        upn: Upn,
        /// The account's SID, for strong mapping (szOID_NTDS_CA_SECURITY_EXT).
        sid: Sid,
        /// Certificate template (MS-WCCE 2.2.2.7.7.2), the same at each renewal.
        template: Option<CertificateTemplate>,
    },
    /// A TLS client.
    TlsClient {
        /// Who it is.
        spiffe_id: SpiffeId,
        /// Further names, for peers that know no SPIFFE id.
        dns_names: BTreeSet<DnsName>,
    },
    /// A TLS server.
    TlsServer {
        /// Its DNS names.
        dns_names: BTreeSet<DnsName>,
        /// Its addresses.
        addresses: BTreeSet<IpAddr>,
        /// Its SPIFFE id.
        spiffe_id: Option<SpiffeId>,
    },
}

/// The certificate template extension 1.3.6.1.4.1.311.21.7.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateTemplate {
    /// The template's OID.
    pub oid: Oid,
    /// Its major version.
    pub major: u32,
    /// Its minor version.
    pub minor: u32,
}

impl Profile {
    /// The kind of the certificates.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Issuing { .. } => Kind::Issuing,
            Self::Kdc { .. } => Kind::Kdc,
            Self::OcspSigner => Kind::OcspSigner,
            Self::Root { .. } => Kind::Root,
            Self::SmartcardLogon { .. } => Kind::SmartcardLogon,
            Self::TlsClient { .. } => Kind::TlsClient,
            Self::TlsServer { .. } => Kind::TlsServer,
        }
    }
}

/// What the key of an end entity may be used for: these, and no other. CAs have none.
pub(super) fn extended_key_usage(kind: Kind) -> &'static [ObjectIdentifier] {
    match kind {
        Kind::Issuing | Kind::Root | Kind::SshHost | Kind::SshUser => &[],
        Kind::Kdc => &[oid::PKINIT_KDC, oid::SERVER_AUTH, oid::CLIENT_AUTH, oid::SMARTCARD_LOGON],
        Kind::OcspSigner => &[oid::OCSP_SIGNING],
        Kind::SmartcardLogon => &[oid::SMARTCARD_LOGON, oid::CLIENT_AUTH],
        Kind::TlsClient => &[oid::CLIENT_AUTH],
        Kind::TlsServer => &[oid::SERVER_AUTH],
    }
}
