//! `chancery bot …`.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    str::FromStr,
};

use api::{BotName, JoinMethod};
use clap::{Args, Subcommand};
use pki::names::SourceAddress;

use super::{lock, seconds};
use crate::cli::failure::Failure;

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum BotCommand {
    Add(Box<Add>),
    Apply(Apply),
    #[cfg(target_os = "linux")]
    Key(Key),
    #[cfg(target_os = "linux")]
    KubernetesCredential(KubernetesCredential),
    /// List bots: which roles they may use, how they join, how many instances live
    List,
    Show(Show),
    Token(Token),
    Unlock(Unlock),
    Remove(Remove),
    #[cfg(target_os = "linux")]
    Install(Install),
    #[cfg(target_os = "linux")]
    Run(Run),
    /// Show how the agent of this machine's bot stands; exit code 1 if it does not run, or is not
    /// ready
    #[cfg(target_os = "linux")]
    Status,
}

/// Run the agent: joins once, renews for ever, keeps the outputs fresh
#[cfg(target_os = "linux")]
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  chancery bot run --config /etc/chancery/bot.toml
  chancery bot run --once                   (from a timer: renews what is due, and ends)

--config names the agent's configuration [default: /etc/chancery/bot.toml]; it says all that there \
is to say, and no flag of a connection counts beside it.")]
pub(in crate::cli) struct Run {
    /// Do what is due now, and end; exit code 2 if something was not done
    #[arg(long)]
    pub(in crate::cli) once: bool,
}

/// Print the public half of the key that a bot joins with, or make that key
#[cfg(target_os = "linux")]
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  chancery bot key --out /etc/chancery/backup.key > backup.pem
  chancery bot key --make --config /etc/chancery/bot.toml > backup.pem
  chancery bot add backup --role database --bound-key backup.pem

Without --out, the agent's configuration says where the key is: in a file or in a PKCS#11 token. A \
key that is there is never overwritten.")]
pub(in crate::cli) struct Key {
    /// Make it in this file (mode 0600)
    #[arg(long, value_name = "FILE", conflicts_with = "make")]
    pub(in crate::cli) out: Option<PathBuf>,
    /// Make it where the configuration says
    #[arg(long)]
    pub(in crate::cli) make: bool,
}

/// Print what is in a kubernetes output, as kubectl takes it from a credential plugin
#[cfg(target_os = "linux")]
#[derive(Args, Debug)]
#[command(after_help = "\
The kubeconfig of the output names this command, and clients of Kubernetes run it. It asks nobody: \
it reads the bundle that `chancery bot run` keeps fresh.")]
pub(in crate::cli) struct KubernetesCredential {
    /// The bundle: DIRECTORY/current of the output
    #[arg(long, value_name = "DIRECTORY")]
    pub(in crate::cli) directory: PathBuf,
}

/// Add a bot; if it joins by a token, make one
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  chancery bot add ci --role deploy --role packages
  chancery bot add backup --role database --bound-key backup.pem --recoveries 3
  chancery bot add release --role publish --oidc https://token.actions.githubusercontent.com \\
      --audience chancery --claim 'repository=example/release' --claim 'ref=refs/tags/*'
  chancery bot add edge --role telemetry --x509-ca factory.pem --x509-identity 'dns:*.edge.example'

A bot may use a role if the rules give it to spiffe://<trust domain>/bot/NAME, and it is named \
here. The token goes into a file; it is good once.")]
pub(in crate::cli) struct Add {
    /// Its name
    pub(in crate::cli) name: BotName,
    /// A role that it may use; may be repeated
    #[arg(long = "role", value_name = "ROLE", required = true)]
    pub(in crate::cli) roles: Vec<String>,
    #[command(flatten)]
    pub(in crate::cli) method: Method,
    #[command(flatten)]
    pub(in crate::cli) limits: Limits,
    #[command(flatten)]
    pub(in crate::cli) token: TokenArguments,
}

/// How it joins: by a token, unless told otherwise.
#[derive(Args, Debug)]
#[command(next_help_heading = "How it joins [default: by a token that is made now]")]
pub(in crate::cli) struct Method {
    /// By a key that it holds: PEM of its public key
    #[arg(long, value_name = "FILE", group = "method")]
    bound_key: Option<PathBuf>,
    /// How often it may join again with that key after the first time [default: 0]
    #[arg(long, value_name = "NUMBER", requires = "bound_key")]
    recoveries: Option<u32>,
    /// By tokens of this OpenID Connect issuer
    #[arg(long, value_name = "URL", group = "method", requires = "audience", requires = "claims")]
    oidc: Option<String>,
    /// What the token's `aud` must name
    #[arg(long, value_name = "TEXT", requires = "oidc")]
    audience: Option<String>,
    /// A claim that must be there, `*` for any part without a `/`; may be repeated
    #[arg(long = "claim", id = "claims", value_name = "NAME=VALUE", requires = "oidc",
        value_parser = claim)]
    claims: Vec<(String, String)>,
    /// The issuer's keys as a JWK Set, for one that the appliance does not reach
    #[arg(long, value_name = "FILE", requires = "oidc")]
    jwks: Option<PathBuf>,
    /// PEM of the CA of the issuer's web server, if it is not one of the system's
    #[arg(long, value_name = "FILE", requires = "oidc")]
    oidc_ca: Option<PathBuf>,
    /// By a certificate of another CA: PEM of its CA certificates
    #[arg(long, value_name = "FILE", group = "method", requires = "x509_identity")]
    x509_ca: Option<PathBuf>,
    /// What that certificate must name: uri:…, dns:… or cn:…, with `*`
    #[arg(long, value_name = "PATTERN", requires = "x509_ca")]
    x509_identity: Option<String>,
}

/// What it may have at most.
#[derive(Args, Debug)]
#[command(next_help_heading = "Limits")]
pub(in crate::cli) struct Limits {
    /// How many instances may live at the same time
    #[arg(long, value_name = "NUMBER", default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..))]
    pub(in crate::cli) max_instances: u32,
    /// How long its own certificate is valid [default: 1h]
    #[arg(long, value_name = "DURATION", value_parser = seconds)]
    pub(in crate::cli) identity_ttl: Option<u32>,
    /// How long what it is given is valid at most [default: as the roles say]
    #[arg(long, value_name = "DURATION", value_parser = seconds)]
    pub(in crate::cli) max_ttl: Option<u32>,
    /// From where it may ask; may be repeated [default: anywhere]
    #[arg(long = "source-address", value_name = "CIDR")]
    pub(in crate::cli) source_addresses: Vec<SourceAddress>,
}

/// The token that is made, and where it goes.
#[derive(Args, Debug)]
#[command(next_help_heading = "Its token")]
pub(in crate::cli) struct TokenArguments {
    /// How long the token may be used, as 15m or 1h [default: 30m]
    #[arg(long = "token-ttl", value_name = "DURATION", value_parser = seconds)]
    pub(in crate::cli) ttl: Option<u32>,
    /// Where the token goes (mode 0600), or - for the output [default: NAME.token]
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) out: Option<PathBuf>,
}

/// Make bots what files say; what is so already stays as it is
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  chancery bot apply bots.toml --dry-run
  chancery bot apply bots/*.toml

A file has one bot, or several as [[bot]]; in TOML, or in JSON if its name ends so:
  [[bot]]
  name = \"ci\"
  roles = [\"deploy\"]
  [bot.join]
  method = \"token\"

Bots that no file names are left alone. docs/bots.md has all fields.")]
pub(in crate::cli) struct Apply {
    /// The files
    #[arg(value_name = "FILE", required = true)]
    pub(in crate::cli) files: Vec<PathBuf>,
    /// Say what would change, and change nothing
    #[arg(long)]
    pub(in crate::cli) dry_run: bool,
}

/// Show a bot and its instances
#[derive(Args, Debug)]
pub(in crate::cli) struct Show {
    /// Its name
    pub(in crate::cli) name: BotName,
}

/// Make a token for another instance, or for one that must join anew; one before is good no more
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  chancery bot token ci --token-ttl 10m --out - | ssh build2.example 'cat > /etc/chancery/ci.token'")]
pub(in crate::cli) struct Token {
    /// The bot
    pub(in crate::cli) name: BotName,
    #[command(flatten)]
    pub(in crate::cli) token: TokenArguments,
}

/// Remove the locks on a bot and its instances, or on one instance, and say how it goes on
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  chancery bot unlock ci --reason 'machine set up anew'
  chancery bot unlock ci/4f0c6e0b7a3d4c1f9e2b8d5a6c7f0e1d --reason 'it was us'

What was revoked stays revoked: the instance joins anew. For a bot that joins by a token, one is \
made.")]
pub(in crate::cli) struct Unlock {
    /// The bot, or one instance of it
    #[arg(value_name = "NAME[/INSTANCE]")]
    pub(in crate::cli) bot: BotOrInstance,
    /// Why: for the audit log
    #[arg(long, value_name = "TEXT")]
    pub(in crate::cli) reason: String,
    #[command(flatten)]
    pub(in crate::cli) token: TokenArguments,
}

/// Remove a bot: what it was given is revoked, its instances get nothing more
#[derive(Args, Debug)]
pub(in crate::cli) struct Remove {
    /// Its name
    pub(in crate::cli) name: BotName,
    /// Why, for the audit log
    #[arg(long, value_name = "TEXT")]
    pub(in crate::cli) reason: String,
}

/// Make a service of a bot's agent: a systemd unit, confined to what the configuration needs
#[cfg(target_os = "linux")]
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  chancery bot install                                (shows what it would do)
  chancery bot install --user ci --write
  chancery bot install --config /etc/chancery/backup.toml --name chancery-backup --write

--config names the agent's configuration [default: /etc/chancery/bot.toml]: what it has for \
output directories may be written, and nothing else. Say it again after changing that. Hooks and \
probes run inside the same confines.")]
pub(in crate::cli) struct Install {
    /// Write the unit; without this, only show it
    #[arg(long)]
    pub(in crate::cli) write: bool,
    /// The name of the unit, another one for each bot on a machine
    #[arg(long, value_name = "NAME", default_value = "chancery-bot", value_parser = unit_word)]
    pub(in crate::cli) name: String,
    /// The account that it runs as [default: root, with what writing for others takes]
    #[arg(long, value_name = "NAME", value_parser = unit_word)]
    pub(in crate::cli) user: Option<String>,
    /// The group that it runs as [default: that of the account]
    #[arg(long, value_name = "NAME", value_parser = unit_word)]
    pub(in crate::cli) group: Option<String>,
    /// Where units are
    #[arg(long, value_name = "DIRECTORY", default_value = "/etc/systemd/system")]
    pub(in crate::cli) directory: PathBuf,
}

/// A bot with all that it has, or one instance of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::cli) struct BotOrInstance {
    pub(in crate::cli) name: BotName,
    pub(in crate::cli) instance: Option<String>,
}

impl FromStr for BotOrInstance {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, instance) = match text.split_once('/') {
            Some((name, instance)) => (name, Some(instance)),
            None => (text, None),
        };
        let hexadecimal = |it: &str| it.len() == 32 && it.chars().all(|c| c.is_ascii_hexdigit());
        if !instance.is_none_or(hexadecimal) {
            return Err(
                "an instance has 32 hexadecimal digits; `chancery bot show` lists those of \
                        a bot"
                    .to_owned(),
            );
        }
        let name = name.parse::<BotName>().map_err(|error| error.to_string())?;
        Ok(Self { name, instance: instance.map(str::to_ascii_lowercase) })
    }
}

impl Method {
    /// What the flags say; files are read.
    pub(in crate::cli) fn read(self) -> Result<JoinMethod, Failure> {
        if let Some(path) = self.bound_key {
            let recoveries = self.recoveries.unwrap_or_default();
            return Ok(JoinMethod::BoundKey { public_key: public_key(&path)?, recoveries });
        }
        if let Some(issuer) = self.oidc {
            return Ok(JoinMethod::Oidc {
                issuer,
                audience: self.audience.unwrap_or_default(),
                claims: BTreeMap::from_iter(self.claims),
                jwks: self.jwks.as_deref().map(key_set).transpose()?,
                ca: self.oidc_ca.as_deref().map(text).transpose()?,
            });
        }
        if let Some(path) = self.x509_ca {
            let identity = self.x509_identity.unwrap_or_default();
            return Ok(JoinMethod::X509 { authorities: text(&path)?, identity });
        }
        Ok(JoinMethod::Token {})
    }
}

impl TokenArguments {
    /// The file for a bot's token; `-` is the output.
    pub(in crate::cli) fn path(&self, name: &BotName) -> PathBuf {
        self.out.clone().unwrap_or_else(|| PathBuf::from(format!("{name}.token")))
    }
}

/// PEM of the key that a file is about.
fn public_key(path: &Path) -> Result<String, Failure> {
    let key = lock::public_key(&text(path)?);
    key.map(|key| key.to_pem()).ok_or_else(|| Failure::Usage {
        what: format!("{} holds no public key", path.display()),
        hint: Some("`openssl pkey -in KEY -pubout -out FILE` gives the public key of one".into()),
    })
}

fn key_set(path: &Path) -> Result<serde_json::Value, Failure> {
    serde_json::from_str(&text(path)?).map_err(|error| Failure::Usage {
        what: format!("{} is no JWK Set: {error}", path.display()),
        hint: None,
    })
}

fn text(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|source| Failure::Read { path: path.to_owned(), source })
}

/// A name in a unit of systemd: of the unit, an account or a group.
#[cfg(target_os = "linux")]
fn unit_word(text: &str) -> Result<String, String> {
    let good = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if text.is_empty() || text.starts_with('-') || !text.chars().all(good) {
        return Err("only letters, digits, -, _ and . may stand in it".to_owned());
    }
    Ok(text.to_owned())
}

fn claim(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write it as NAME=VALUE".to_owned()),
    }
}
