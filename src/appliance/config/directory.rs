//! `[directory]`: where the directory is, and what accounts look like in it.

use std::{
    fmt,
    net::IpAddr,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use pki::names::DnsName;
use serde::Deserialize;

use super::{ConfigError, Source};
use crate::directory::{AnySid, SidPattern};

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

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DirectoryTable {
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

impl Source {
    /// The directory, if it can be asked safely.
    pub(super) fn directory(
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
