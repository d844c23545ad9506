//! The configuration file `chanceryd.toml`: strict, with all paths relative to the file.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use pki::{names::DnsName, x509::Publication};
use serde::Deserialize;

/// `chanceryd.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The SPIFFE trust domain of callers.
    pub trust_domain: DnsName,
    /// The ceremony's hand-off directory.
    pub handoff: PathBuf,
    /// The directory of role and account files (`*.toml`).
    pub rules: PathBuf,
    /// Where the ledger is; one appliance each.
    pub state_directory: PathBuf,
    /// Where the audit log is written as JSON Lines.
    pub audit_directory: PathBuf,
    /// The two listeners.
    pub listen: Listen,
    /// The token.
    pub token: Token,
    /// The appliance's own TLS certificate and its clients' CAs.
    pub tls: Tls,
    /// Where relying parties find CRL, issuer and OCSP, by X.509 authority.
    #[serde(default)]
    pub publication: BTreeMap<String, Publication>,
}

/// The two listeners.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    /// mTLS, for `/v1`.
    pub api: SocketAddr,
    /// Plain HTTP, for what is public and signed.
    pub public: SocketAddr,
}

/// How to reach the token. Which token it must be, the hand-off says.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// The PKCS#11 module.
    pub module: PathBuf,
    /// CK_TOKEN_INFO.label; must be the hand-off's.
    pub label: String,
    /// The file whose first line is the user PIN.
    pub pin_file: PathBuf,
    /// How many sessions sign at once; absent means one for each processor.
    #[serde(default)]
    pub sessions: Option<u8>,
    /// Environment variables of the token worker, for modules that read some. It has no others.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
}

/// The appliance's own TLS certificate and its clients' CAs.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The X.509 authority that certifies the appliance itself, and operators.
    pub issuer: String,
    /// The names that clients reach it by.
    pub dns_names: std::collections::BTreeSet<DnsName>,
    /// The addresses that clients reach it by.
    #[serde(default)]
    pub addresses: std::collections::BTreeSet<std::net::IpAddr>,
    /// X.509 authorities of the hand-off whose client certificates are accepted.
    pub client_authorities: Vec<String>,
}
