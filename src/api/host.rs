//! Hosts: machines with an sshd and an agent of ours.

use jiff::Timestamp;
use pki::names::DnsName;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a host does when it has not heard of the appliance for longer than a bundle is valid.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum HostMode {
    /// It goes on with what it knew last.
    BestEffort,
    /// It lets nobody in by a certificate.
    #[default]
    Strict,
}

/// Lets a host join.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HostRequest {
    /// Its name, as its users type it and as sessions name it.
    #[schema(value_type = String)]
    pub name: DnsName,
    /// What it does without news.
    #[serde(default)]
    pub mode: HostMode,
    /// Seconds until the token expires; absent means half an hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<u32>,
}

/// What a host joins with, once.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct JoinToken {
    /// The host.
    #[schema(value_type = String)]
    pub name: DnsName,
    /// The secret, 43 characters of base64url. It is not kept: only its hash is.
    pub secret: String,
    /// When it expires.
    #[schema(value_type = String)]
    pub expires_at: Timestamp,
}

/// Joins: the only request that is taken without a client certificate.
#[derive(Clone, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JoinRequest {
    /// The secret of the token.
    pub secret: String,
    /// PEM `CERTIFICATE REQUEST` for the TLS client key. It gives the key and nothing else.
    pub csr: String,
}

/// A host has joined.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct Joined {
    /// The host.
    #[schema(value_type = String)]
    pub name: DnsName,
    /// What it does without news.
    pub mode: HostMode,
    /// PEM of its TLS client certificate, for `spiffe://<trust domain>/host/<name>`.
    pub certificate: String,
    /// PEM of the CA certificates, the issuer's first, without the root.
    pub chain: Vec<String>,
    /// PEM `PUBLIC KEY` of the key that signs revocation bundles.
    pub publication_key: String,
}

/// A host that has joined, or may.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct Host {
    /// Its name.
    #[schema(value_type = String)]
    pub name: DnsName,
    /// What it does without news.
    pub mode: HostMode,
    /// When it joined; absent until it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub joined_at: Option<Timestamp>,
    /// When it was last heard of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub last_seen: Option<Timestamp>,
    /// The version of the bundle that it has in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// How many are logged in there by certificates, as it said.
    pub connections: u64,
}

/// Hosts, by name.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct Hosts {
    /// The hosts.
    pub hosts: Vec<Host>,
    /// The version of the bundle in force.
    pub version: u64,
}

/// What a host tells of logins by certificates.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LoginReport {
    /// In the order in which they happened; 1,000 at most.
    pub logins: Vec<Login>,
}

/// Somebody came, or went.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// The host's name for the connection: unique for this host.
    pub connection: String,
    /// The authority that signed the certificate.
    pub issuer: String,
    /// Its serial number.
    pub serial: u64,
    /// The account on the host.
    pub user: String,
    /// When.
    #[schema(value_type = String)]
    pub at: Timestamp,
    /// Whether the connection ended.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ended: bool,
}

/// Uses up a one-use certificate. Granted once; then denied with reason `used-up`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConsumeRequest {
    /// The authority that signed it.
    pub issuer: String,
    /// Its serial number.
    pub serial: u64,
    /// The host's name for the connection, so that asking again is no second use.
    pub connection: String,
}
