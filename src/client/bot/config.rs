//! The agent's configuration file, `/etc/chancery/bot.toml`:
//!
//! ```toml
//! server = "https://pki.example:8443"
//! ca = "/etc/chancery/root.pem"       # the root that the appliance's certificate leads to
//! name = "deploy"                     # the bot, as `chancery bot add` named it
//! state_directory = "/var/lib/chancery-bot"
//! health = "127.0.0.1:9380"           # optional: /livez, /readyz, /metrics
//!
//! [join]
//! method = "token"
//! token_file = "/etc/chancery/deploy.token"
//!
//! [[output]]
//! name = "web"
//! kind = "tls"                        # says which other settings there are
//! role = "web-client"
//! ttl = "1h"                          # absent: as the role says
//! directory = "/var/lib/web/tls"      # consumers open DIRECTORY/current/FILE
//! owner = "web"                       # absent: whoever runs the agent
//! group = "web"
//! readers = ["user:backup"]           # beside owner and group, by ACL
//! hook = { systemd = "web.service" }  # or { command = […] }, or { signal = "HUP", pid_file = … }
//! probe = { command = ["/usr/local/bin/check-web"], seconds = 10 }
//! ```

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use api::BotName;
use serde::{Deserialize, de::DeserializeOwned};

use super::{bound_key::BoundKey, output::Kind};
use crate::{
    config_file::{self, ConfigError, absolute, from_toml},
    duration::seconds,
    profile::ServerUrl,
};

/// What the agent is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// The appliance.
    pub(super) server: ServerUrl,
    /// PEM of the root that the appliance's certificate leads to.
    pub(super) ca: PathBuf,
    /// The bot.
    pub(super) name: BotName,
    /// Where the agent keeps what it must not lose; private to it.
    pub(super) state_directory: PathBuf,
    /// How it proves who it is.
    pub(super) join: Join,
    /// Where it says how it is, by HTTP: on the loopback interface.
    pub(super) health: Option<SocketAddr>,
    /// What it has for other programs.
    pub(super) outputs: Vec<Output>,
}

/// How the agent proves who it is when it joins.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(tag = "method", rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum Join {
    /// By a signature with a key that it holds.
    BoundKey(BoundKey),
    /// By a token of an OpenID Connect issuer.
    Oidc(OidcSource),
    /// By a secret that is good once.
    Token {
        /// What `chancery bot token` wrote.
        token_file: PathBuf,
    },
    /// By a certificate of another CA.
    X509 {
        /// PEM: the certificate first, then those between it and its CA.
        certificate: PathBuf,
        /// PEM of its private key.
        key: PathBuf,
    },
}

/// Where a token of an OpenID Connect issuer comes from, each time anew.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "RawOidc")]
pub(super) enum OidcSource {
    /// What a program prints.
    Command(Vec<String>),
    /// A file that something else keeps fresh.
    File(PathBuf),
}

/// Something that the agent has for other programs.
#[derive(Clone, Debug)]
pub(super) struct Output {
    /// Its name: in the log, in `/readyz/NAME`, in metrics.
    pub(super) name: String,
    /// The role that grants it.
    pub(super) role: String,
    /// Seconds of validity; `None` means as the role says.
    pub(super) ttl: Option<u32>,
    /// What it is.
    pub(super) kind: Kind,
    /// All that its certificate depends on, as text: what was made by another text is made anew.
    pub(super) fingerprint: String,
}

/// Where the files of an output go, and what is done after that.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub(super) struct Place {
    /// The directory, which must be there.
    pub(super) directory: PathBuf,
    /// Who owns the files: a name of `/etc/passwd` or a number. Absent means the agent's own.
    #[serde(default)]
    pub(super) owner: Option<String>,
    /// The group that may read what is secret: a name of `/etc/group` or a number.
    #[serde(default)]
    pub(super) group: Option<String>,
    /// Who else may read what is secret.
    #[serde(default)]
    pub(super) readers: BTreeSet<Reader>,
    /// What is done when a new bundle is in place.
    #[serde(default)]
    pub(super) hook: Option<Hook>,
    /// What tells whether the new bundle works.
    #[serde(default)]
    pub(super) probe: Option<Probe>,
}

/// Somebody who may read, by an access control list.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd)]
#[serde(try_from = "String")]
pub(super) enum Reader {
    /// A group, by name or number.
    Group(String),
    /// A user, by name or number.
    User(String),
}

/// How the users of a bundle learn that there is a new one.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "RawHook")]
pub(super) enum Hook {
    /// A program and its arguments.
    Command(Vec<String>),
    /// A signal to the process of a file.
    Signal {
        /// Which.
        signal: HookSignal,
        /// Where its number stands.
        pid_file: PathBuf,
    },
    /// `systemctl reload UNIT`.
    Systemd(String),
}

/// A signal that programs take for "read your files again".
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum HookSignal {
    /// SIGHUP.
    Hup,
    /// SIGUSR1.
    Usr1,
    /// SIGUSR2.
    Usr2,
}

/// A program that says by its exit code whether the bundle in place works.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "RawProbe")]
pub(super) struct Probe {
    /// The program and its arguments.
    pub(super) command: Vec<String>,
    /// How long it may take.
    pub(super) patience: Duration,
}

impl Config {
    /// Where the file is unless told otherwise.
    pub const FILE: &str = "/etc/chancery/bot.toml";

    /// Reads a file.
    ///
    /// # Errors
    ///
    /// It cannot be read, has an unknown field, or a path that is not absolute.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        config_file::read(path, "docs/bots.md", Self::parse)
    }

    /// The bot.
    pub fn name(&self) -> &BotName {
        &self.name
    }

    /// The key that it joins with, if it joins by one.
    pub fn bound_key(&self) -> Option<&BoundKey> {
        match &self.join {
            Join::BoundKey(key) => Some(key),
            _ => None,
        }
    }

    /// Where the agent keeps its state.
    pub fn state_directory(&self) -> &Path {
        &self.state_directory
    }

    /// The directories in which the agent puts files for others.
    pub fn directories(&self) -> impl Iterator<Item = &Path> {
        self.outputs.iter().filter_map(|output| output.kind.place()).map(|it| &*it.directory)
    }

    /// The sockets on which the agent serves others.
    pub fn sockets(&self) -> impl Iterator<Item = &Path> {
        self.outputs.iter().filter_map(|output| output.kind.socket())
    }

    /// Whether a key of the bot is in a PKCS#11 token.
    pub fn uses_token(&self) -> bool {
        let joins = matches!(self.join, Join::BoundKey(BoundKey::Token(_)));
        joins || self.outputs.iter().any(|output| output.kind.uses_token())
    }

    /// To whom the files of outputs are to belong, where somebody is named.
    pub fn owners(&self) -> impl Iterator<Item = &str> {
        let places = self.outputs.iter().filter_map(|output| output.kind.place());
        places.filter_map(|place| place.owner.as_deref())
    }

    fn parse(text: &str) -> Result<Self, String> {
        let raw: RawConfig = from_toml(text)?;
        let outputs =
            raw.output.into_iter().map(Output::try_from).collect::<Result<Vec<_>, _>>()?;
        let config = Self {
            server: raw.server,
            ca: raw.ca,
            name: raw.name,
            state_directory: raw.state_directory,
            join: raw.join,
            health: raw.health,
            outputs,
        };
        config.refuse_contradictions()?;
        Ok(config)
    }

    fn refuse_contradictions(&self) -> Result<(), String> {
        if let Some(address) = self.health.filter(|it| !it.ip().is_loopback()) {
            return Err(format!("health = \"{address}\" is not on the loopback interface"));
        }
        let mut paths = vec![&self.ca, &self.state_directory];
        paths.extend(self.join.paths());
        absolute(paths)?;
        let mut names = BTreeSet::new();
        let mut directories = BTreeSet::new();
        for output in &self.outputs {
            if !names.insert(&output.name) {
                return Err(format!("two outputs are called {:?}", output.name));
            }
            if let Some(place) = output.kind.place()
                && !directories.insert(&place.directory)
            {
                let directory = place.directory.display();
                return Err(format!("two outputs have the directory {directory}"));
            }
        }
        Ok(())
    }
}

impl Join {
    fn paths(&self) -> Vec<&PathBuf> {
        match self {
            Self::BoundKey(key) => key.paths(),
            Self::Oidc(OidcSource::Command(_)) => vec![],
            Self::Oidc(OidcSource::File(path)) => vec![path],
            Self::Token { token_file } => vec![token_file],
            Self::X509 { certificate, key } => vec![certificate, key],
        }
    }
}

impl TryFrom<toml::Table> for Output {
    type Error = String;

    /// Settings of all outputs, of those that go into a directory, and of the kind stand side by
    /// side in the file. Each reader takes its own and refuses what it does not know.
    fn try_from(mut table: toml::Table) -> Result<Self, String> {
        let mut printed = table.clone();
        AFTERWARDS.iter().for_each(|key| drop(printed.remove(*key)));
        let common: RawOutput =
            take(&mut table, COMMON).map_err(|what| format!("output: {what}"))?;
        let named = |what: String| format!("output {:?}: {what}", common.name);
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if common.name.is_empty() || common.name.len() > 63 || !common.name.chars().all(good) {
            return Err(named("a name is 1 to 63 of A-Z, a-z, 0-9, - and _".to_owned()));
        }
        let ttl = common.ttl.as_deref().map(seconds).transpose();
        let ttl = ttl.map_err(|what| named(format!("ttl: {what}")))?;
        let kind = Kind::read(&common.kind, table).map_err(named)?;
        if let Some(place) = kind.place() {
            place.check().map_err(named)?;
        }
        let fingerprint = printed.to_string();
        Ok(Self { name: common.name, role: common.role, ttl, kind, fingerprint })
    }
}

impl Place {
    /// Takes what is about the place out of an output's settings.
    pub(super) fn take(table: &mut toml::Table) -> Result<Self, String> {
        take(table, PLACE)
    }

    fn check(&self) -> Result<(), String> {
        absolute([&self.directory])?;
        match &self.hook {
            Some(Hook::Signal { pid_file, .. }) => absolute([pid_file]),
            _ => Ok(()),
        }
    }
}

impl TryFrom<String> for Reader {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("user", name)) if !name.is_empty() => Ok(Self::User(name.to_owned())),
            Some(("group", name)) if !name.is_empty() => Ok(Self::Group(name.to_owned())),
            _ => Err(format!("{text:?} is neither user:NAME nor group:NAME")),
        }
    }
}

/// As the file has it: exactly one of two sources.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawOidc {
    token_file: Option<PathBuf>,
    command: Option<Vec<String>>,
}

impl TryFrom<RawOidc> for OidcSource {
    type Error = &'static str;

    fn try_from(raw: RawOidc) -> Result<Self, &'static str> {
        match (raw.token_file, raw.command) {
            (Some(path), None) => Ok(Self::File(path)),
            (None, Some(command)) if !command.is_empty() => Ok(Self::Command(command)),
            _ => Err("give either token_file = \"/PATH\" or command = [\"PROGRAM\", …]"),
        }
    }
}

/// As the file has it: exactly one of three ways.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawHook {
    command: Option<Vec<String>>,
    signal: Option<HookSignal>,
    pid_file: Option<PathBuf>,
    systemd: Option<String>,
}

impl TryFrom<RawHook> for Hook {
    type Error = &'static str;

    fn try_from(raw: RawHook) -> Result<Self, &'static str> {
        match (raw.command, raw.signal, raw.pid_file, raw.systemd) {
            (Some(command), None, None, None) if !command.is_empty() => Ok(Self::Command(command)),
            (None, Some(signal), Some(pid_file), None) => Ok(Self::Signal { signal, pid_file }),
            // A unit's name never begins so: it would be an option of systemctl.
            (None, None, None, Some(unit)) if !unit.is_empty() && !unit.starts_with('-') => {
                Ok(Self::Systemd(unit))
            }
            _ => Err("hook is one of { command = [\"PROGRAM\", …] }, { signal = \"HUP\", \
                      pid_file = \"/PATH\" } and { systemd = \"UNIT\" }"),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawProbe {
    command: Vec<String>,
    #[serde(default = "default_patience")]
    seconds: u16,
}

impl TryFrom<RawProbe> for Probe {
    type Error = &'static str;

    fn try_from(raw: RawProbe) -> Result<Self, &'static str> {
        if raw.command.is_empty() || raw.seconds == 0 {
            return Err("probe is { command = [\"PROGRAM\", …], seconds = 1 or more }");
        }
        Ok(Self { command: raw.command, patience: Duration::from_secs(raw.seconds.into()) })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConfig {
    server: ServerUrl,
    ca: PathBuf,
    name: BotName,
    #[serde(default = "default_state_directory")]
    state_directory: PathBuf,
    join: Join,
    health: Option<SocketAddr>,
    #[serde(default)]
    output: Vec<toml::Table>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawOutput {
    name: String,
    kind: String,
    role: String,
    ttl: Option<String>,
}

/// Takes these settings out of a table, and reads them.
fn take<T: DeserializeOwned>(table: &mut toml::Table, keys: &[&str]) -> Result<T, String> {
    let taken = keys.iter().filter_map(|key| table.remove_entry(*key));
    read(taken.collect())
}

/// Reads all settings of a table.
pub(super) fn read<T: DeserializeOwned>(table: toml::Table) -> Result<T, String> {
    table.try_into().map_err(|error: toml::de::Error| error.message().to_owned())
}

fn default_patience() -> u16 {
    10
}

fn default_state_directory() -> PathBuf {
    PathBuf::from(STATE_DIRECTORY)
}

/// What all outputs are told.
const COMMON: &[&str] = &["name", "kind", "role", "ttl"];

/// What outputs in a directory are told.
const PLACE: &[&str] = &["directory", "owner", "group", "readers", "hook", "probe"];

/// What may change without a new certificate.
const AFTERWARDS: &[&str] = &["hook", "probe"];

/// Where the agent keeps its state unless told otherwise.
pub const STATE_DIRECTORY: &str = "/var/lib/chancery-bot";

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
        server = "https://pki.example:8443"
        ca = "/etc/chancery/root.pem"
        name = "deploy"
        health = "127.0.0.1:9380"
        [join]
        method = "token"
        token_file = "/etc/chancery/deploy.token"
    "#;

    #[test]
    fn the_file_says_what_it_must_and_nothing_else() {
        let config = Config::parse(FILE).unwrap();
        assert_eq!(config.state_directory, Path::new(STATE_DIRECTORY));
        for (from, to, says) in [
            ("health =", "helth =", "unknown field"),
            ("\"/etc/chancery/root.pem\"", "\"root.pem\"", "not the absolute path"),
            ("\"/etc/chancery/deploy.token\"", "\"token\"", "not the absolute path"),
            ("127.0.0.1:9380", "192.0.2.7:9380", "loopback"),
            ("\"deploy\"", "\"Deploy\"", "no name of a bot"),
            ("\"token\"", "\"secret\"", "unknown variant"),
            ("\"token\"", "\"oidc\"\ncommand = [\"x\"]", "either token_file"),
            ("\"token\"", "\"token\"\nkey = \"/k\"", "unknown field"),
            ("\"token\"", "\"bound-key\"", "unknown field"),
            ("\"token\"\n", "\"bound-key\"\nkey_file = \"k\" #\n#", "not the absolute path"),
            ("\"token\"\n", "\"bound-key\"\n#", "either key_file"),
            ("token_file", "[[output]]\nkind = \"no\"\nrole = \"r\"\nname", "missing field"),
        ] {
            let error = Config::parse(&FILE.replace(from, to)).unwrap_err();
            assert!(error.contains(says), "{to}: {error}");
        }
    }

    #[test]
    fn an_output_says_where_its_files_go_and_what_then() {
        let place = |text: &str| {
            let mut table: toml::Table = text.parse().unwrap();
            let place = Place::take(&mut table)?;
            place.check()?;
            assert!(table.is_empty(), "{table}");
            Ok::<_, String>(place)
        };
        let full = place(
            "directory = \"/d\"\nreaders = [\"user:a\", \"group:7\"]\n\
             hook = { signal = \"HUP\", pid_file = \"/p\" }\nprobe = { command = [\"x\"] }",
        );
        let full = full.unwrap();
        let readers = [Reader::Group("7".to_owned()), Reader::User("a".to_owned())];
        assert_eq!(full.readers, readers.into());
        assert_eq!(full.probe.unwrap().patience, Duration::from_secs(10));
        for (text, says) in [
            ("directory = \"d\"", "not the absolute path"),
            ("directory = \"/d\"\nreaders = [\"a\"]", "user:NAME"),
            ("directory = \"/d\"\nhook = { systemd = \"-x\" }", "hook is one of"),
            (
                "directory = \"/d\"\nhook = { signal = \"KILL\", pid_file = \"/p\" }",
                "unknown variant",
            ),
            ("directory = \"/d\"\nhook = { command = [], systemd = \"a\" }", "hook is one of"),
            ("directory = \"/d\"\nprobe = { command = [] }", "probe is"),
        ] {
            let error = place(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
