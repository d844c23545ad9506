//! `[token]` and `[[replica]]`: how tokens are reached, and what their modules may do.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use pki::token::pkcs11::TokenIdentity;
use serde::{Deserialize, Serialize};

use super::{ConfigError, Source};

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

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TokenTable {
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

impl Source {
    /// The token of the ceremony; the flags win.
    pub(super) fn ceremony_token(
        &self,
        table: TokenTable,
        label: Option<String>,
        flags: (Option<PathBuf>, Option<PathBuf>),
        credentials: Option<&Path>,
    ) -> Result<Token, ConfigError> {
        let table = TokenTable { label: label.or(table.label), ..table };
        if table.serial.is_some() {
            let what = "the hand-off says which token this is; only replicas have one here";
            return Err(self.error(&["token", "serial"], what));
        }
        if table.label.is_none() {
            return Err(self.missing(&["token", "label"], Some("--token-label")));
        }
        self.token("token", table, flags, credentials)
    }

    /// Another that holds the same keys.
    pub(super) fn replica(
        &self,
        table: TokenTable,
        credentials: Option<&Path>,
    ) -> Result<Token, ConfigError> {
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
        path.into_os_string().into_string().map_err(|path| {
            let what = format!("{} is not UTF-8", path.to_string_lossy());
            self.error(&["token", "environment"], what)
        })
    }
}
