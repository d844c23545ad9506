//! The configuration file `chanceryd.toml`: strict, and what it leaves out a flag must give.
//!
//! Paths in the file are relative to the file, paths in flags to the working directory. A value
//! of `token.environment` that begins with `./` or `../` is such a path too; all others are handed
//! on as they are.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs, iter,
    net::{IpAddr, SocketAddr},
    num::NonZero,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use jiff::SignedDuration;
use pki::{names::DnsName, token::pkcs11::TokenIdentity, x509::Publication};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    directory::{AnySid, SidPattern},
    policy::SpiffePattern,
};

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

/// How to reach a token.
#[derive(Clone, Debug)]
pub struct Token {
    /// The PKCS#11 module.
    pub module: PathBuf,
    /// CK_TOKEN_INFO.label; that of the ceremony's token must be the hand-off's.
    pub label: String,
    /// CK_TOKEN_INFO.serialNumber of a replica. Which token the ceremony's is, the hand-off says.
    pub serial: Option<String>,
    /// The file whose first line is the user PIN.
    pub pin_file: PathBuf,
    /// How many sessions sign at once, 1 to 64; absent means one for each processor.
    pub sessions: Option<u8>,
    /// After how many seconds an idle session makes a call that keeps it alive, 1 to 3600; absent
    /// means never.
    pub keep_alive_seconds: Option<u16>,
    /// Environment variables of the token worker, for modules that read some. It has no others.
    pub environment: BTreeMap<String, String>,
    /// What the module may do in the token worker.
    pub sandbox: Sandbox,
}

impl Token {
    /// What tells a replica from all other tokens.
    pub fn identity(&self) -> TokenIdentity {
        let (label, serial) = (self.label.clone(), self.serial.clone());
        TokenIdentity { label, serial, manufacturer: None, model: None }
    }
}

/// What a PKCS#11 module may do, beyond reading itself, the system's libraries, the PIN file and
/// the files that `token.environment` names. The default is nothing.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sandbox {
    /// Whether it must be there.
    pub enforcement: Enforcement,
    /// Files and directories that the module reads.
    pub readable: Vec<PathBuf>,
    /// Files, directories and devices that the module reads, writes, makes and removes.
    pub writable: Vec<PathBuf>,
    /// The token is in a network.
    pub network: bool,
    /// The module speaks to a daemon of this machine.
    pub unix_sockets: bool,
    /// The module starts programs.
    pub may_execute: bool,
}

/// What to do where the system has no sandboxes.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Enforcement {
    /// Load the module all the same, and say it in the log.
    BestEffort,
    /// Load no module.
    #[default]
    Required,
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

/// The organisation's directory (LDAP), which knows accounts, and in which sessions enable them and
/// fill groups.
#[derive(Clone, Debug)]
pub struct Directory {
    /// Where it is.
    pub url: DirectoryUrl,
    /// Whether `ldap://` goes on with TLS (StartTLS, RFC 4511, section 4.14).
    pub start_tls: bool,
    /// The CA certificates of the directory, for TLS.
    pub ca_file: Option<PathBuf>,
    /// As whom to log in.
    pub bind_dn: String,
    /// The file whose first line is the password.
    pub password_file: PathBuf,
    /// Below which entry the accounts are.
    pub base_dn: String,
    /// The attribute with the user principal name.
    pub account_attribute: String,
    /// How an account is disabled.
    pub disabled: Disabled,
    /// The attribute of a group with its members' distinguished names.
    pub member_attribute: String,
    /// How long one act may take, 1 to 60 s.
    pub timeout: Duration,
    /// The attribute with the SID, in binary.
    pub sid_attribute: String,
    /// How long it may take to look an account up, 1 to 8 s: somebody waits for it.
    pub look_up_timeout: Duration,
    /// How old the answer may be that is taken for an account, 0 to 600 s.
    pub cache: Duration,
    /// Groups whose members get no card, unless a role names the group.
    pub protected_groups: Vec<SidPattern>,
}

/// Where a directory is: `ldaps://HOST`, or `ldap://HOST`, each with a port if it is another than
/// 636 or 389.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "String")]
pub struct DirectoryUrl {
    host: String,
    port: Option<u16>,
    ldaps: bool,
}

impl DirectoryUrl {
    /// Whether TLS comes before LDAP.
    pub fn is_ldaps(&self) -> bool {
        self.ldaps
    }

    fn is_loopback(&self) -> bool {
        let address = self.host.parse::<IpAddr>();
        self.host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    }
}

impl fmt::Display for DirectoryUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.ldaps { "ldaps" } else { "ldap" };
        write!(f, "{scheme}://{}", self.host)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl FromStr for DirectoryUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || format!("{text:?} is no directory; write ldaps://HOST or ldaps://HOST:PORT");
        let (scheme, rest) = text.split_once("://").ok_or_else(form)?;
        let ldaps = match scheme {
            "ldap" => false,
            "ldaps" => true,
            _ => return Err(form()),
        };
        let (host, port) = match rest.split_once(':') {
            Some((host, port)) => (host, Some(port.parse().map_err(|_| form())?)),
            None => (rest, None),
        };
        if host.parse::<IpAddr>().is_err() && host.parse::<DnsName>().is_err() {
            return Err(form());
        }
        Ok(Self { host: host.to_owned(), port, ldaps })
    }
}

impl TryFrom<String> for DirectoryUrl {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// How a directory says that an account is disabled.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(untagged, deny_unknown_fields)]
pub enum Disabled {
    /// By bits of a number: `userAccountControl`, 2, in Active Directory and Samba.
    Flag {
        /// The attribute.
        attribute: String,
        /// The bits.
        flag: u32,
    },
    /// By a value: `nsAccountLock`, `TRUE`, in FreeIPA and 389 Directory Server.
    Value {
        /// The attribute.
        attribute: String,
        /// The value of a disabled account.
        value: String,
    },
}

impl Disabled {
    /// The attribute.
    pub fn attribute(&self) -> &str {
        match self {
            Self::Flag { attribute, .. } | Self::Value { attribute, .. } => attribute,
        }
    }
}

impl Default for Disabled {
    /// ADS_UF_ACCOUNTDISABLE (MS-ADTS, section 2.2.16).
    fn default() -> Self {
        Self::Flag { attribute: "userAccountControl".to_owned(), flag: 2 }
    }
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

/// Something is wrong with the configuration: in which file, where, what, and what to do.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub struct ConfigError {
    /// The file.
    pub path: PathBuf,
    /// The line, from 1, where it is known.
    pub line: Option<usize>,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}", self.what)
    }
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
        let file: File = toml::from_str(&source.text).map_err(|error| source.syntax(&error))?;
        source.resolve(file, overrides, credentials)
    }
}

/// The text of a configuration file, which knows where its keys stand.
#[derive(Debug)]
pub struct Source {
    path: PathBuf,
    text: String,
}

impl Source {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(path).map_err(|error| ConfigError {
            path: path.to_owned(),
            line: None,
            what: format!("cannot read it: {error}"),
            hint: None,
        })?;
        Ok(Self { path: path.to_owned(), text })
    }

    /// An error about one key; `keys` is its path of tables, from the outermost.
    pub fn error(&self, keys: &[&str], what: impl Into<String>) -> ConfigError {
        ConfigError {
            path: self.path.clone(),
            line: self.line_of_key(keys),
            what: format!("{}: {}", keys.join("."), what.into()),
            hint: None,
        }
    }

    fn syntax(&self, error: &toml::de::Error) -> ConfigError {
        ConfigError {
            path: self.path.clone(),
            line: error.span().map(|span| self.line_at(span.start)),
            what: error.message().to_owned(),
            hint: None,
        }
    }

    fn missing(&self, keys: &[&str], flag: Option<&str>) -> ConfigError {
        let key = keys.join(".");
        let hint = match flag {
            Some(flag) => format!("set {key} in the file, or give {flag}"),
            None => format!("set {key} in the file"),
        };
        ConfigError { hint: Some(hint), ..self.error(keys, "it is not set") }
    }

    fn line_of_key(&self, keys: &[&str]) -> Option<usize> {
        let document = toml::de::DeTable::parse(&self.text).ok()?;
        let mut table = document.get_ref();
        let (last, tables) = keys.split_last()?;
        for key in tables {
            table = table.get(*key)?.get_ref().as_table()?;
        }
        let (key, _) = table.get_key_value(*last)?;
        Some(self.line_at(key.span().start))
    }

    fn line_at(&self, offset: usize) -> usize {
        1 + self.text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
    }

    /// A path of the file, made absolute.
    fn path(&self, relative: &Path) -> Result<PathBuf, ConfigError> {
        let directory = self.path.parent().unwrap_or(Path::new(""));
        self.absolute(&directory.join(relative))
    }

    /// A path of a flag, made absolute.
    fn absolute(&self, path: &Path) -> Result<PathBuf, ConfigError> {
        std::path::absolute(path).map_err(|error| ConfigError {
            path: self.path.clone(),
            line: None,
            what: format!("{}: {error}", path.display()),
            hint: None,
        })
    }

    /// The path that a flag gives, or else the file.
    fn pick(
        &self,
        flag: (&str, Option<PathBuf>),
        key: (&[&str], Option<PathBuf>),
    ) -> Result<PathBuf, ConfigError> {
        match (flag.1, key.1) {
            (Some(path), _) => self.absolute(&path),
            (None, Some(path)) => self.path(&path),
            (None, None) => Err(self.missing(key.0, Some(flag.0))),
        }
    }

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
                TokenTable { label: flags.token_label.or(file.token.label.clone()), ..file.token },
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

    fn ceremony_token(
        &self,
        table: TokenTable,
        flags: (Option<PathBuf>, Option<PathBuf>),
        credentials: Option<&Path>,
    ) -> Result<Token, ConfigError> {
        if table.serial.is_some() {
            let what = "the hand-off says which token this is; only replicas have one here";
            return Err(self.error(&["token", "serial"], what));
        }
        if table.label.is_none() {
            return Err(self.missing(&["token", "label"], Some("--token-label")));
        }
        self.token("token", table, flags, credentials)
    }

    fn replica(&self, table: TokenTable, credentials: Option<&Path>) -> Result<Token, ConfigError> {
        let serial = table.serial.as_deref();
        let serial = serial.ok_or_else(|| self.missing(&["replica", "serial"], None))?;
        // It becomes the name of a directory.
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if serial.is_empty() || serial.starts_with('.') || !serial.chars().all(plain) {
            let what = format!("{serial:?} is no serial number");
            return Err(self.error(&["replica", "serial"], what));
        }
        self.token("replica", table, (None, None), credentials)
    }

    fn token(
        &self,
        place: &str,
        table: TokenTable,
        (module, pin_file): (Option<PathBuf>, Option<PathBuf>),
        credentials: Option<&Path>,
    ) -> Result<Token, ConfigError> {
        Ok(Token {
            pin_file: self.pin_file(place, pin_file, &table, credentials)?,
            module: self.pick(("--module", module), (&[place, "module"], table.module))?,
            label: table.label.ok_or_else(|| self.missing(&[place, "label"], None))?,
            serial: table.serial,
            sessions: self.sessions(place, table.sessions)?,
            keep_alive_seconds: self.keep_alive(place, table.keep_alive_seconds)?,
            environment: self.environment(table.environment)?,
            sandbox: self.sandbox(table.sandbox)?,
        })
    }

    fn pin_file(
        &self,
        place: &str,
        flag: Option<PathBuf>,
        token: &TokenTable,
        credentials: Option<&Path>,
    ) -> Result<PathBuf, ConfigError> {
        match (flag, &token.pin_credential) {
            (None, Some(name)) => {
                self.credential(place, "pin", token.pin_file.as_ref(), name, credentials)
            }
            (flag, _) => {
                let file = (&[place, "pin_file"][..], token.pin_file.clone());
                self.pick(("--pin-file", flag), file)
            }
        }
    }

    /// The file of a secret that a credential of systemd holds; `what` is its word in the keys.
    fn credential(
        &self,
        place: &str,
        what: &str,
        file: Option<&PathBuf>,
        name: &str,
        credentials: Option<&Path>,
    ) -> Result<PathBuf, ConfigError> {
        let key = format!("{what}_credential");
        let key: &[&str] = &[place, &key];
        if file.is_some() {
            let what = format!("{place}.{what}_file is set too; one of them is enough");
            return Err(self.error(key, what));
        }
        if name.is_empty() || name.contains('/') {
            return Err(self.error(key, "it is the name of a credential, not a path"));
        }
        let directory = credentials.ok_or_else(|| ConfigError {
            hint: Some(format!(
                "start it as a systemd service with LoadCredential={name}:/path/to/{what}, or \
                 name a file"
            )),
            ..self.error(key, "systemd gave no credentials (CREDENTIALS_DIRECTORY is not set)")
        })?;
        Ok(directory.join(name))
    }

    fn sessions(&self, place: &str, sessions: Option<u8>) -> Result<Option<u8>, ConfigError> {
        match sessions {
            Some(count) if !(1..=64).contains(&count) => {
                Err(self.error(&[place, "sessions"], format!("it is 1 to 64, not {count}")))
            }
            sessions => Ok(sessions),
        }
    }

    fn keep_alive(&self, place: &str, seconds: Option<u16>) -> Result<Option<u16>, ConfigError> {
        match seconds {
            Some(count) if !(1..=3600).contains(&count) => {
                let what = format!("it is 1 to 3600, not {count}; leave it out for never");
                Err(self.error(&[place, "keep_alive_seconds"], what))
            }
            seconds => Ok(seconds),
        }
    }

    fn environment(
        &self,
        environment: BTreeMap<String, String>,
    ) -> Result<BTreeMap<String, String>, ConfigError> {
        environment.into_iter().map(|(name, value)| Ok((name, self.value(value)?))).collect()
    }

    fn sandbox(&self, sandbox: Sandbox) -> Result<Sandbox, ConfigError> {
        let absolute = |paths: Vec<PathBuf>| -> Result<_, _> {
            paths.iter().map(|path| self.path(path)).collect()
        };
        Ok(Sandbox {
            readable: absolute(sandbox.readable)?,
            writable: absolute(sandbox.writable)?,
            ..sandbox
        })
    }

    fn value(&self, value: String) -> Result<String, ConfigError> {
        if !value.starts_with("./") && !value.starts_with("../") {
            return Ok(value);
        }
        let path = self.path(Path::new(&value))?;
        path.into_os_string().into_string().map_err(|path| ConfigError {
            path: self.path.clone(),
            line: None,
            what: format!("token.environment: {} is not UTF-8", path.to_string_lossy()),
            hint: None,
        })
    }

    fn directory(
        &self,
        table: DirectoryTable,
        credentials: Option<&Path>,
    ) -> Result<Directory, ConfigError> {
        let error = |key: &str, what: &str| Err(self.error(&["directory", key], what));
        let tls = table.url.ldaps || table.start_tls;
        if table.url.ldaps && table.start_tls {
            return error(
                "start_tls",
                "ldaps:// has TLS from its beginning; leave one of them out",
            );
        }
        if !tls && !table.url.is_loopback() {
            return error(
                "url",
                "the password would cross the network in clear; write ldaps://, or set start_tls",
            );
        }
        if tls != table.ca_file.is_some() {
            let what = if tls { "it is not set" } else { "it is for TLS, and there is none" };
            return error("ca_file", what);
        }
        if table.bind_dn.is_empty() {
            return error("bind_dn", "it is empty: anonymous callers can change nothing");
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
        for (key, attribute) in [
            ("account_attribute", table.account_attribute.as_str()),
            ("disabled", table.disabled.attribute()),
            ("member_attribute", &table.member_attribute),
            ("sid_attribute", &table.sid_attribute),
        ] {
            if attribute.is_empty() || !attribute.chars().all(plain) {
                return error(key, "an attribute's name has letters, digits, - and .");
            }
        }
        if table.disabled
            == (Disabled::Flag { attribute: table.disabled.attribute().to_owned(), flag: 0 })
        {
            return error("disabled", "a flag of 0 disables nothing");
        }
        if !(1..=60).contains(&table.timeout_seconds) {
            return error("timeout_seconds", "it is 1 to 60");
        }
        if !(1..=8).contains(&table.look_up_timeout_seconds) {
            return error("look_up_timeout_seconds", "it is 1 to 8");
        }
        if table.cache_seconds > 600 {
            return error("cache_seconds", "it is 0 to 600");
        }
        Ok(Directory {
            url: table.url,
            start_tls: table.start_tls,
            ca_file: table.ca_file.map(|path| self.path(&path)).transpose()?,
            bind_dn: table.bind_dn,
            password_file: match (table.password_file, table.password_credential) {
                (file, Some(name)) => {
                    self.credential("directory", "password", file.as_ref(), &name, credentials)?
                }
                (Some(file), None) => self.path(&file)?,
                (None, None) => return error("password_file", "it is not set"),
            },
            base_dn: table.base_dn,
            account_attribute: table.account_attribute,
            disabled: table.disabled,
            member_attribute: table.member_attribute,
            timeout: Duration::from_secs(u64::from(table.timeout_seconds)),
            sid_attribute: table.sid_attribute,
            look_up_timeout: Duration::from_secs(u64::from(table.look_up_timeout_seconds)),
            cache: Duration::from_secs(u64::from(table.cache_seconds)),
            protected_groups: table.protected_groups,
        })
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

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenTable {
    module: Option<PathBuf>,
    label: Option<String>,
    serial: Option<String>,
    pin_file: Option<PathBuf>,
    pin_credential: Option<String>,
    sessions: Option<u8>,
    keep_alive_seconds: Option<u16>,
    #[serde(default)]
    environment: BTreeMap<String, String>,
    #[serde(default)]
    sandbox: Sandbox,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DirectoryTable {
    url: DirectoryUrl,
    #[serde(default)]
    start_tls: bool,
    ca_file: Option<PathBuf>,
    bind_dn: String,
    password_file: Option<PathBuf>,
    password_credential: Option<String>,
    base_dn: String,
    #[serde(default = "user_principal_name")]
    account_attribute: String,
    #[serde(default)]
    disabled: Disabled,
    #[serde(default = "member")]
    member_attribute: String,
    #[serde(default = "ten")]
    timeout_seconds: u16,
    #[serde(default = "object_sid")]
    sid_attribute: String,
    #[serde(default = "three")]
    look_up_timeout_seconds: u16,
    #[serde(default = "thirty")]
    cache_seconds: u16,
    #[serde(default = "well_known_protected_groups")]
    protected_groups: Vec<SidPattern>,
}

/// The groups of Active Directory whose members rule a domain or its controllers (those that
/// AdminSDHolder protects, and Key Admins).
fn well_known_protected_groups() -> Vec<SidPattern> {
    // Domain Admins, Domain Controllers, Cert Publishers, Schema Admins, Enterprise Admins, Group
    // Policy Creator Owners, Read-only Domain Controllers, Key Admins, Enterprise Key Admins.
    let of_domains = [512, 516, 517, 518, 519, 520, 521, 526, 527];
    // Administrators, Account, Server, Print and Backup Operators, Replicator.
    let built_in =
        [544, 548, 549, 550, 551, 552].map(|rid| SidPattern::Exact(AnySid::built_in(rid)));
    of_domains.map(SidPattern::InAnyDomain).into_iter().chain(built_in).collect()
}

fn object_sid() -> String {
    "objectSid".to_owned()
}

fn three() -> u16 {
    3
}

fn thirty() -> u16 {
    30
}

fn user_principal_name() -> String {
    "userPrincipalName".to_owned()
}

fn member() -> String {
    "member".to_owned()
}

fn ten() -> u16 {
    10
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"trust_domain = "example.org"
handoff = "handoff"
rules = "rules"
state_directory = "state"
audit_directory = "audit"

[listen]
api = "127.0.0.1:8443"
public = "127.0.0.1:8080"

[token]
module = "/usr/lib/softhsm/libsofthsm2.so"
label = "chancery"
pin_file = "pin"
environment = { SOFTHSM2_CONF = "./softhsm2.conf", PLAIN = "as it is" }

[token.sandbox]
readable = ["/opt/vendor"]
writable = ["tokens"]

[tls]
issuer = "tls"
dns_names = ["chancery.example.org"]
client_authorities = ["tls"]
"#;

    #[test]
    fn every_configuration_that_is_shipped_can_be_read() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../hsm-config");
        let mut read = 0;
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path().join("chanceryd.toml");
            let credentials = Some(Path::new("/run/credentials/chanceryd.service"));
            let config = Config::read(&path, Overrides::default(), credentials).unwrap();
            assert!(config.token.module.is_absolute(), "{}", path.display());
            read += 1;
        }
        assert!(read >= 10, "only {read} in {}", folder.display());
    }

    #[test]
    fn paths_are_relative_to_the_file() {
        let config = read(FILE, Overrides::default(), None).unwrap();
        let directory = config.handoff.parent().unwrap();
        assert!(directory.is_absolute());
        assert_eq!(config.token.pin_file, directory.join("pin"));
        assert_eq!(config.token.module, Path::new("/usr/lib/softhsm/libsofthsm2.so"));
        let softhsm = directory.join("softhsm2.conf");
        assert_eq!(Path::new(&config.token.environment["SOFTHSM2_CONF"]), softhsm);
        assert_eq!(config.token.environment["PLAIN"], "as it is");
        let sandbox = config.token.sandbox;
        assert_eq!(sandbox.readable, [Path::new("/opt/vendor")]);
        assert_eq!(sandbox.writable, [directory.join("tokens")]);
        assert_eq!(sandbox.enforcement, Enforcement::Required);
        assert!(!sandbox.network && !sandbox.unix_sockets && !sandbox.may_execute);
    }

    #[test]
    fn flags_win_over_the_file_and_stand_in_for_it() {
        let without = FILE.replace("api = \"127.0.0.1:8443\"\n", "").replace("label =", "#");
        let flags = Overrides {
            module: Some("/other.so".into()),
            token_label: Some("other".into()),
            pin_file: Some("/run/pin".into()),
            state_directory: Some("/state".into()),
            audit_directory: Some("/audit".into()),
            listen_api: Some("127.0.0.1:1".parse().unwrap()),
            listen_public: Some("127.0.0.1:2".parse().unwrap()),
        };
        let config = read(&without, flags, None).unwrap();
        assert_eq!(config.token.module, Path::new("/other.so"));
        assert_eq!(config.token.label, "other");
        assert_eq!(config.token.pin_file, Path::new("/run/pin"));
        assert_eq!(config.state_directory, Path::new("/state"));
        assert_eq!(config.audit_directory, Path::new("/audit"));
        assert_eq!((config.listen.api.port(), config.listen.public.port()), (1, 2));
    }

    #[test]
    fn a_pin_comes_as_a_credential_of_systemd() {
        let file = FILE.replace("pin_file = \"pin\"", "pin_credential = \"token-pin\"");
        let given = Some(Path::new("/run/credentials/chanceryd.service"));
        let config = read(&file, Overrides::default(), given).unwrap();
        let wanted = Path::new("/run/credentials/chanceryd.service/token-pin");
        assert_eq!(config.token.pin_file, wanted);
    }

    #[test]
    fn an_error_names_file_line_key_and_what_to_do() {
        let cases = [
            ("rules = \"rules\"\n", "rolls = \"rules\"\n", Some(3), "unknown field `rolls`"),
            ("rules = \"rules\"\n", "", Some(1), "missing field `rules`"),
            ("example.org\"\nh", "-\"\nh", Some(1), "DNS name \"-\""),
            ("127.0.0.1:8443", "localhost", Some(8), "invalid socket address"),
            ("[token]", "[limits]\nrate = 0\n[token]", Some(12), "expected a nonzero u32"),
            (
                "[tls]",
                "[revocation]\ncrl_lifetime = \"169h\"\n[tls]",
                Some(22),
                "to 168h, not 169h",
            ),
            ("label = \"chancery\"\n", "", None, "token.label: it is not set"),
            ("pin_file = \"pin\"\n", "sessions = 0\npin_file = \"pin\"\n", Some(14), "1 to 64"),
            ("pin_file", "keep_alive_seconds = 0\npin_file", Some(14), "1 to 3600"),
            ("pin_file", "pin_credential", Some(14), "systemd gave no credentials"),
            ("pin_file", "pin_credential = \"a\"\npin_file", Some(14), "one of them is enough"),
            ("dns_names = [\"chancery.example.org\"]", "", None, "tls.dns_names: it is not set"),
            ("authorities = [\"tls\"]", "authorities = []", Some(24), "nobody could connect"),
            ("[tls]", "[attestation]\nanchors = []\n[tls]", Some(22), "no card could be trusted"),
            ("[tls]", "[attestation]\nroots = []\n[tls]", Some(22), "unknown field `roots`"),
        ];
        for (from, to, line, what) in cases {
            assert!(FILE.contains(from), "{from}");
            let error = read(&FILE.replacen(from, to, 1), Overrides::default(), None).unwrap_err();
            assert_eq!(error.line, line, "{error}");
            assert!(error.what.contains(what), "{error}");
            let place = line.map_or("chanceryd.toml: ".into(), |n| format!("chanceryd.toml:{n}: "));
            assert!(error.to_string().contains(&place), "{error}");
        }
        for (directory, what) in [
            ("url = \"ldap://dc1.corp.example\"", "directory.url: the password would cross"),
            ("url = \"ldaps://dc1.corp.example\"", "directory.ca_file: it is not set"),
            ("url = \"ldaps://dc1.corp.example/DC=corp\"", "is no directory"),
            ("url = \"https://dc1.corp.example\"", "is no directory"),
            ("url = \"ldap://127.0.0.1\"\nca_file = \"ca\"", "it is for TLS"),
            ("url = \"ldaps://dc1\"\nstart_tls = true\nca_file = \"ca\"", "leave one of them out"),
            ("url = \"ldap://[::1]\"", "is no directory"),
            ("url = \"ldap://localhost\"\ntimeout_seconds = 0", "it is 1 to 60"),
            ("url = \"ldap://localhost\"\nlook_up_timeout_seconds = 9", "it is 1 to 8"),
            ("url = \"ldap://localhost\"\ncache_seconds = 601", "it is 0 to 600"),
            ("url = \"ldap://localhost\"\nprotected_groups = [\"512\"]", "is no SID"),
            ("url = \"ldap://localhost\"\nsid_attribute = \"\"", "an attribute's name"),
            ("url = \"ldap://localhost\"\nmember_attribute = \"a)(b\"", "an attribute's name"),
            ("url = \"ldap://localhost\"\ndisabled = { attribute = \"a\", flag = 0 }", "nothing"),
            ("url = \"ldap://localhost\"\ndisabled = { attribute = \"a\" }", "did not match"),
        ] {
            let rest = "bind_dn = \"CN=a\"\nbase_dn = \"DC=b\"\npassword_file = \"c\"";
            let text = format!("{FILE}\n[directory]\n{directory}\n{rest}\n");
            let error = read(&text, Overrides::default(), None).unwrap_err();
            assert!(error.what.contains(what), "{directory}: {error}");
        }
        let unset = read(&FILE.replace("label =", "#"), Overrides::default(), None).unwrap_err();
        let hint = unset.hint.unwrap();
        assert_eq!(hint, "set token.label in the file, or give --token-label");
    }

    fn read(
        text: &str,
        overrides: Overrides,
        credentials: Option<&Path>,
    ) -> Result<Config, ConfigError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("chanceryd.toml");
        fs::write(&path, text).unwrap();
        Config::read(&path, overrides, credentials)
    }
}
