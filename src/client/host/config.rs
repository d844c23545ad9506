//! The agent's configuration file, `/etc/chancery/host.toml`:
//!
//! ```toml
//! command_user = "nobody"             # AuthorizedPrincipalsCommandUser of sshd_config
//! client_role = "host-client"         # renews the agent's own TLS certificate
//!
//! [files]
//! user_ca = "/etc/ssh/chancery_user_ca"             # TrustedUserCAKeys
//! revoked_keys = "/etc/ssh/chancery_revoked_keys"   # RevokedKeys
//!
//! [host_certificate]
//! role = "host"
//! keys = ["/etc/ssh/ssh_host_ed25519_key"]          # certificates go beside: …_key-cert.pub
//! reload = ["systemctl", "reload", "ssh"]           # or: pid_file = "/run/sshd.pid"
//!
//! [accounts]                                        # beside each account's own name
//! deploy = ["ci", "release"]
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use pki::names::Principal;
use serde::Deserialize;

use crate::config_file::{self, ConfigError, absolute, from_toml};

/// What the agent is told.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the agent keeps what it must not lose; private to it.
    #[serde(default = "default_state_directory")]
    pub state_directory: PathBuf,
    /// The socket on which it answers `chancery host principals` and `status`.
    #[serde(default = "default_socket")]
    pub socket: PathBuf,
    /// The account that runs `chancery host principals`: a name of `/etc/passwd`, or a number.
    pub command_user: String,
    /// The role that renews the agent's TLS client certificate.
    pub client_role: String,
    /// The files that sshd reads.
    pub files: Files,
    /// The host's own SSH certificate; without it, the host has none of the appliance.
    #[serde(default)]
    pub host_certificate: Option<HostCertificate>,
    /// Principals that may log in to an account, beside the one of the account's own name.
    #[serde(default)]
    pub accounts: BTreeMap<String, BTreeSet<Principal>>,
}

/// Files that sshd reads and the agent keeps.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Files {
    /// `TrustedUserCAKeys`.
    pub user_ca: PathBuf,
    /// `RevokedKeys`: the KRL.
    pub revoked_keys: PathBuf,
}

/// How the host's own certificate is renewed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "RawHostCertificate")]
pub struct HostCertificate {
    /// The role that grants it.
    pub role: String,
    /// Host keys as `HostKey` names them; their certificates lie beside as `KEY-cert.pub`.
    pub keys: Vec<PathBuf>,
    /// What the host is called; empty means by the name with which it joined.
    pub principals: BTreeSet<Principal>,
    /// How sshd learns of it.
    pub reload: Reload,
}

/// How sshd is made to read its files again.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Reload {
    /// A program and its arguments.
    Command(Vec<String>),
    /// SIGHUP to the sshd of this `PidFile`.
    PidFile(PathBuf),
}

impl Config {
    /// Where the file is unless told otherwise.
    pub const FILE: &str = "/etc/chancery/host.toml";

    /// Reads a file.
    ///
    /// # Errors
    ///
    /// It cannot be read, has an unknown field, or a path that is not absolute.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        config_file::read(path, "docs/hosts.md", Self::parse)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let config: Self = from_toml(text)?;
        absolute(config.paths())?;
        Ok(config)
    }

    fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        let keys = self.host_certificate.iter().flat_map(|it| &it.keys);
        let files =
            [&self.state_directory, &self.socket, &self.files.user_ca, &self.files.revoked_keys];
        files.into_iter().chain(keys)
    }
}

/// As the file has it: exactly one of two ways to reload.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawHostCertificate {
    role: String,
    keys: Vec<PathBuf>,
    #[serde(default)]
    principals: BTreeSet<Principal>,
    reload: Option<Vec<String>>,
    pid_file: Option<PathBuf>,
}

impl TryFrom<RawHostCertificate> for HostCertificate {
    type Error = &'static str;

    fn try_from(raw: RawHostCertificate) -> Result<Self, &'static str> {
        let reload = match (raw.reload, raw.pid_file) {
            (Some(command), None) if !command.is_empty() => Reload::Command(command),
            (None, Some(path)) if path.is_absolute() => Reload::PidFile(path),
            _ => {
                return Err("give either reload = [\"PROGRAM\", …] or pid_file = \"/PATH\"");
            }
        };
        if raw.keys.is_empty() {
            return Err("keys is empty");
        }
        Ok(Self { role: raw.role, keys: raw.keys, principals: raw.principals, reload })
    }
}

fn default_state_directory() -> PathBuf {
    PathBuf::from(STATE_DIRECTORY)
}

fn default_socket() -> PathBuf {
    PathBuf::from(SOCKET)
}

/// Where the agent keeps its state unless told otherwise.
pub const STATE_DIRECTORY: &str = "/var/lib/chancery-host";

/// Where the agent listens unless told otherwise.
pub const SOCKET: &str = "/run/chancery-host/agent.sock";

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
        command_user = "nobody"
        client_role = "host-client"
        [files]
        user_ca = "/etc/ssh/chancery_user_ca"
        revoked_keys = "/etc/ssh/chancery_revoked_keys"
        [host_certificate]
        role = "host"
        keys = ["/etc/ssh/ssh_host_ed25519_key"]
        pid_file = "/run/sshd.pid"
        [accounts]
        deploy = ["ci"]
    "#;

    #[test]
    fn the_file_says_what_it_must_and_nothing_else() {
        let config = Config::parse(FILE).unwrap();
        assert_eq!(config.socket, Path::new(SOCKET));
        assert_eq!(
            config.host_certificate.unwrap().reload,
            Reload::PidFile("/run/sshd.pid".into())
        );
        for (from, to, says) in [
            ("command_user", "comand_user", "unknown field"),
            ("\"/etc/ssh/chancery_user_ca\"", "\"user_ca\"", "not the absolute path"),
            ("pid_file", "pidfile", "unknown field"),
            ("pid_file = \"/run/sshd.pid\"", "", "give either"),
            ("pid_file = \"/run", "reload = [\"x\"]\npid_file = \"/run", "give either"),
            ("[\"/etc/ssh/ssh_host_ed25519_key\"]", "[]", "keys is empty"),
            ("[\"ci\"]", "[\"a,b\"]", "principal"),
        ] {
            let error = Config::parse(&FILE.replace(from, to)).unwrap_err();
            assert!(error.contains(says), "{to}: {error}");
        }
    }
}
