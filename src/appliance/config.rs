//! The configuration file `chanceryd.toml`: strict, and what it leaves out a flag must give.
//!
//! Paths in the file are relative to the file, paths in flags to the working directory. A value
//! of `token.environment` that begins with `./` or `../` is such a path too; all others are handed
//! on as they are.

mod directory;
mod source;
#[cfg(test)]
mod tests;
mod token;

use std::{
    collections::{BTreeMap, BTreeSet},
    iter,
    net::{IpAddr, SocketAddr},
    num::NonZero,
    path::{Path, PathBuf},
};

use jiff::SignedDuration;
use pki::{names::DnsName, x509::Publication};
use serde::Deserialize;

use self::{directory::DirectoryTable, token::TokenTable};
pub use self::{
    directory::{Directory, DirectoryUrl, Disabled},
    source::{ConfigError, Source},
    token::{Enforcement, Sandbox, Token},
};
use crate::policy::SpiffePattern;

/// What `chanceryd.toml` and the flags say.
#[derive(Clone, Debug)]
pub struct Config {
    /// The SPIFFE trust domain of callers.
    pub trust_domain: DnsName,
    /// Whose cards are trusted; nobody's without it.
    pub attestation: Option<Attestation>,
    /// The organisation's directory, for accounts and the hook of sessions.
    pub directory: Option<Directory>,
    /// The ceremony's hand-off directory.
    pub handoff: PathBuf,
    /// The directory with newer revocation lists of CAs that are offline (`NAME.crl`).
    pub offline_crls: Option<PathBuf>,
    /// The directory of role and account files (`*.toml`).
    pub rules: PathBuf,
    /// Where the ledger is; one appliance each.
    pub state_directory: PathBuf,
    /// Where the audit log is written as JSON Lines.
    pub audit_directory: PathBuf,
    /// The two listeners.
    pub listen: Listen,
    /// How often each client may ask.
    pub limits: Limits,
    /// The token of the ceremony.
    pub token: Token,
    /// Others that hold the same keys, under the same CKA_IDs: they share its load and stand in
    /// for it.
    pub replicas: Vec<Token>,
    /// The appliance's own TLS certificate and its clients' CAs.
    pub tls: Tls,
    /// Where relying parties find CRL, issuer and OCSP, by X.509 authority.
    pub publication: BTreeMap<String, Publication>,
    /// How long what is published of revocations is good.
    pub revocation: Revocation,
}

/// How long what is published of revocations is good; it is signed anew before half of it.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Revocation {
    /// Of the bundle for hosts, 10 seconds to 24 hours: so long a host goes on without news.
    pub bundle_lifetime: SignedDuration,
    /// Of CRLs, 10 seconds to 7 days.
    pub crl_lifetime: SignedDuration,
}

impl Default for Revocation {
    fn default() -> Self {
        Self {
            bundle_lifetime: SignedDuration::from_mins(15),
            crl_lifetime: SignedDuration::from_hours(1),
        }
    }
}

/// The two listeners.
#[derive(Clone, Copy, Debug)]
pub struct Listen {
    /// mTLS, for `/v1`.
    pub api: SocketAddr,
    /// Plain HTTP, for what is public and signed.
    pub public: SocketAddr,
}

/// How often each client may ask. Each request and each item of a batch counts.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// So many a second in the long run.
    pub rate: NonZero<u32>,
    /// So many at once after a pause.
    pub burst: NonZero<u32>,
    /// Strangers of one address, who may only join and show no certificate: so many a second, and ten
    /// times as many at once; all of them together, ten times of both.
    pub strangers: NonZero<u32>,
    /// Other limits for some clients; the first that matches counts.
    pub clients: Vec<ClientLimits>,
}

impl Default for Limits {
    fn default() -> Self {
        const {
            Self {
                rate: NonZero::new(200).unwrap(),
                burst: NonZero::new(1000).unwrap(),
                strangers: NonZero::new(10).unwrap(),
                clients: Vec::new(),
            }
        }
    }
}

/// How often each of some clients may ask.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientLimits {
    /// Whom it concerns.
    pub id: SpiffePattern,
    /// So many a second in the long run.
    pub rate: NonZero<u32>,
    /// So many at once after a pause.
    pub burst: NonZero<u32>,
}

/// Whose cards are trusted when they attest their keys.
#[derive(Clone, Debug)]
pub struct Attestation {
    /// PEM files with the certificates of the makers' CAs: roots, and all between them and the cards.
    pub anchors: Vec<PathBuf>,
}

/// The appliance's own TLS certificate and its clients' CAs.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The X.509 authority that certifies the appliance itself, and operators.
    pub issuer: String,
    /// The names that clients reach it by.
    #[serde(default)]
    pub dns_names: BTreeSet<DnsName>,
    /// The addresses that clients reach it by.
    #[serde(default)]
    pub addresses: BTreeSet<IpAddr>,
    /// X.509 authorities of the hand-off whose client certificates are accepted.
    pub client_authorities: Vec<String>,
}

/// Settings given as flags: they win over the file.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Overrides {
    /// PKCS#11 module (token.module).
    #[arg(long, value_name = "FILE")]
    pub module: Option<PathBuf>,
    /// Label of the token (token.label).
    #[arg(long, value_name = "LABEL")]
    pub token_label: Option<String>,
    /// File whose first line is the user PIN (token.pin_file).
    #[arg(long, value_name = "FILE")]
    pub pin_file: Option<PathBuf>,
    /// Where the ledger is (state_directory).
    #[arg(long, value_name = "DIRECTORY")]
    pub state_directory: Option<PathBuf>,
    /// Where the audit log is written (audit_directory).
    #[arg(long, value_name = "DIRECTORY")]
    pub audit_directory: Option<PathBuf>,
    /// Address and port of the mTLS listener (listen.api).
    #[arg(long, value_name = "ADDRESS")]
    pub listen_api: Option<SocketAddr>,
    /// Address and port of the public listener (listen.public).
    #[arg(long, value_name = "ADDRESS")]
    pub listen_public: Option<SocketAddr>,
}

impl Config {
    /// All tokens, the ceremony's first.
    pub fn tokens(&self) -> impl Iterator<Item = &Token> {
        iter::once(&self.token).chain(&self.replicas)
    }

    /// Reads the file, and lets the flags win. `credentials` is the directory in which systemd
    /// gives credentials (`$CREDENTIALS_DIRECTORY`).
    ///
    /// # Errors
    ///
    /// The file cannot be read, says something that there is not, or leaves something out.
    pub fn read(
        path: &Path,
        overrides: Overrides,
        credentials: Option<&Path>,
    ) -> Result<Self, ConfigError> {
        let source = Source::read(path)?;
        let file = source.parse()?;
        source.resolve(file, overrides, credentials)
    }
}

impl Source {
    fn resolve(
        &self,
        file: File,
        flags: Overrides,
        credentials: Option<&Path>,
    ) -> Result<Config, ConfigError> {
        let api = flags.listen_api.or(file.listen.api);
        let public = flags.listen_public.or(file.listen.public);
        Ok(Config {
            trust_domain: file.trust_domain,
            attestation: file.attestation.map(|table| self.attestation(table)).transpose()?,
            directory: file
                .directory
                .map(|table| self.directory(table, credentials))
                .transpose()?,
            handoff: self.path(&file.handoff)?,
            offline_crls: file.offline_crls.map(|path| self.path(&path)).transpose()?,
            rules: self.path(&file.rules)?,
            state_directory: self.pick(
                ("--state-directory", flags.state_directory),
                (&["state_directory"], file.state_directory),
            )?,
            audit_directory: self.pick(
                ("--audit-directory", flags.audit_directory),
                (&["audit_directory"], file.audit_directory),
            )?,
            listen: Listen {
                api: api.ok_or_else(|| self.missing(&["listen", "api"], Some("--listen-api")))?,
                public: public
                    .ok_or_else(|| self.missing(&["listen", "public"], Some("--listen-public")))?,
            },
            limits: file.limits,
            token: self.ceremony_token(
                file.token,
                flags.token_label,
                (flags.module, flags.pin_file),
                credentials,
            )?,
            replicas: file
                .replicas
                .into_iter()
                .map(|table| self.replica(table, credentials))
                .collect::<Result<_, _>>()?,
            tls: self.tls(file.tls)?,
            publication: file.publication,
            revocation: self.revocation(file.revocation)?,
        })
    }

    fn attestation(&self, table: AttestationTable) -> Result<Attestation, ConfigError> {
        if table.anchors.is_empty() {
            return Err(ConfigError {
                hint: Some("name PEM files with the certificates of the makers' CAs".to_owned()),
                ..self.error(&["attestation", "anchors"], "it is empty: no card could be trusted")
            });
        }
        let anchors = table.anchors.iter().map(|path| self.path(path)).collect::<Result<_, _>>()?;
        Ok(Attestation { anchors })
    }

    fn revocation(&self, revocation: Revocation) -> Result<Revocation, ConfigError> {
        let bounds = [
            ("bundle_lifetime", revocation.bundle_lifetime, SignedDuration::from_hours(24)),
            ("crl_lifetime", revocation.crl_lifetime, SignedDuration::from_hours(7 * 24)),
        ];
        for (key, lifetime, longest) in bounds {
            if !(SHORTEST_LIFETIME..=longest).contains(&lifetime) {
                let what = format!("it is {SHORTEST_LIFETIME:#} to {longest:#}, not {lifetime:#}");
                return Err(self.error(&["revocation", key], what));
            }
        }
        Ok(revocation)
    }

    fn tls(&self, tls: Tls) -> Result<Tls, ConfigError> {
        if tls.dns_names.is_empty() && tls.addresses.is_empty() {
            return Err(self.missing(&["tls", "dns_names"], None));
        }
        if tls.client_authorities.is_empty() {
            return Err(ConfigError {
                hint: Some("name the X.509 authorities whose clients may connect".to_owned()),
                ..self.error(&["tls", "client_authorities"], "it is empty: nobody could connect")
            });
        }
        Ok(tls)
    }
}

/// The file as it stands; what a flag may give is optional.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    trust_domain: DnsName,
    attestation: Option<AttestationTable>,
    directory: Option<DirectoryTable>,
    handoff: PathBuf,
    offline_crls: Option<PathBuf>,
    rules: PathBuf,
    state_directory: Option<PathBuf>,
    audit_directory: Option<PathBuf>,
    #[serde(default)]
    listen: ListenTable,
    #[serde(default)]
    limits: Limits,
    #[serde(default)]
    token: TokenTable,
    #[serde(default, rename = "replica")]
    replicas: Vec<TokenTable>,
    tls: Tls,
    #[serde(default)]
    publication: BTreeMap<String, Publication>,
    #[serde(default)]
    revocation: Revocation,
}

/// What is good for less could not be signed anew in time.
const SHORTEST_LIFETIME: SignedDuration = SignedDuration::from_secs(10);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AttestationTable {
    anchors: Vec<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ListenTable {
    api: Option<SocketAddr>,
    public: Option<SocketAddr>,
}
