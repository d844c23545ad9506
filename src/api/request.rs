use std::{collections::BTreeSet, net::IpAddr};

use pki::{
    keys::SignatureScheme,
    names::{DnsName, Principal, SourceAddress, SpiffeId, Upn},
    seal::Kind,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Asks for an SSH user certificate.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SshUserRequest {
    /// The role that grants it.
    pub role: String,
    /// The OpenSSH public key line to be certified; the comment is dropped.
    pub public_key: String,
    /// Login names; empty or absent means all that the role gives to this caller.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    #[schema(value_type = BTreeSet<String>)]
    pub principals: BTreeSet<Principal>,
    /// Length of validity in seconds; absent means the role's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<u32>,
    /// The open session that it is for; needed for roles that are given in sessions only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// Narrows from where the certificate may be used.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    #[schema(value_type = BTreeSet<String>)]
    pub source_addresses: BTreeSet<SourceAddress>,
    /// Narrows it to one command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub force_command: Option<String>,
}

/// Asks for an SSH host certificate.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SshHostRequest {
    /// The role that grants it.
    pub role: String,
    /// The OpenSSH public key line of the host key.
    pub public_key: String,
    /// The host's names and addresses, as its users type them.
    #[schema(value_type = BTreeSet<String>)]
    pub principals: BTreeSet<Principal>,
    /// Length of validity in seconds; absent means the role's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<u32>,
    /// The open session that it is for; needed for roles that are given in sessions only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
}

/// Asks for an X.509 certificate; the role says of which profile.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct X509Request {
    /// The role that grants it.
    pub role: String,
    /// PEM `CERTIFICATE REQUEST`. It gives the key, and nothing else unless the role says so.
    pub csr: String,
    /// DNS names (tls_server, kdc).
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    #[schema(value_type = BTreeSet<String>)]
    pub dns_names: BTreeSet<DnsName>,
    /// Addresses (tls_server).
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    #[schema(value_type = BTreeSet<String>)]
    pub addresses: BTreeSet<IpAddr>,
    /// SPIFFE id (tls_client, tls_server); absent means the caller's own, for tls_client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub spiffe_id: Option<SpiffeId>,
    /// Length of validity in seconds; absent means the role's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<u32>,
    /// The open session that it is for; needed for roles that are given in sessions only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
}

/// Asks for a smart-card logon certificate. The SID comes from the appliance's directory.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SmartcardRequest {
    /// The role that grants it.
    pub role: String,
    /// PEM `CERTIFICATE REQUEST`, signed by the card's key. It gives the key and nothing else.
    pub csr: String,
    /// The account that is to log on.
    #[schema(value_type = String)]
    pub upn: Upn,
    /// Length of validity in seconds; absent means the role's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<u32>,
    /// The open session that it is for; needed for roles that are given in sessions only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// What the card says of its key; needed unless the role does without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attestation: Option<CardAttestation>,
}

/// A card's own word that it made a key itself, in two certificates of at most
/// [`ATTESTATION_LEN`](crate::ATTESTATION_LEN) characters each.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CardAttestation {
    /// PEM `CERTIFICATE` of the key, by the card's attestation key (YubiKey: ATTEST of the slot).
    pub statement: String,
    /// PEM `CERTIFICATE` of the card's attestation key, by its maker (YubiKey: slot F9).
    pub intermediate: String,
}

/// Asks for a signature over a digest, with a key that is no CA's.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SignRequest {
    /// The role that grants it.
    pub role: String,
    /// The name of the raw key.
    pub key: String,
    /// The signature algorithm with its hash.
    #[schema(value_type = String)]
    pub scheme: SignatureScheme,
    /// The digest, hexadecimal, as long as the scheme's hash.
    pub digest: String,
}

/// Any operation, told apart by `operation`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(tag = "operation", rename_all = "snake_case")]
#[expect(missing_docs, reason = "each variant is its request")]
pub enum Operation {
    Sign(SignRequest),
    Smartcard(SmartcardRequest),
    SshHost(SshHostRequest),
    SshUser(SshUserRequest),
    X509(X509Request),
}

/// One line of a batch.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchItem {
    /// As the header of the same name, for this item.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// What is asked for.
    pub request: Operation,
}

/// Which certificates to list: those for which all that is given holds.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ListQuery {
    /// Of this kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub kind: Option<Kind>,
    /// Issued by this authority.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// Issued to this caller (SPIFFE id).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller: Option<String>,
    /// Only after this cursor: `next` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    /// At most so many; 100 unless told, 1,000 at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}
