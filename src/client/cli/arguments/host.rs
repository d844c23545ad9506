//! `chancery host …`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use pki::names::DnsName;

use super::seconds;

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum HostCommand {
    Add(Add),
    /// List hosts: which version of the revocations each has in force
    List,
    Remove(Remove),
    #[cfg(target_os = "linux")]
    Join(Join),
    #[cfg(target_os = "linux")]
    Run,
    #[cfg(target_os = "linux")]
    Principals(Principals),
    #[cfg(target_os = "linux")]
    Status(AgentStatus),
    #[cfg(target_os = "linux")]
    Doctor(Doctor),
}

/// Let a host join: makes the token that it joins with, once
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  chancery host add web1.example
  scp web1.example.token root.pem web1.example:
  ssh web1.example sudo chancery host join --server https://pki.example:8443 \\
      --ca root.pem --token-file web1.example.token

Without news of the appliance for longer than a list of revocations is good, a strict host lets \
nobody in by a certificate; a best-effort host goes on with the list that it has.")]
pub(in crate::cli) struct Add {
    /// Its name, as its users type it and as sessions name it
    pub(in crate::cli) name: DnsName,
    /// Without news, let nobody in (the default)
    #[arg(long, conflicts_with = "best_effort")]
    pub(in crate::cli) strict: bool,
    /// Without news, go on with what is known
    #[arg(long)]
    pub(in crate::cli) best_effort: bool,
    /// How long the token may be used, as 15m or 1h [default: 30m]
    #[arg(long, value_name = "DURATION", value_parser = seconds)]
    pub(in crate::cli) ttl: Option<u32>,
    /// Where the token goes (mode 0600), or - for the output [default: NAME.token]
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) out: Option<PathBuf>,
}

/// Remove a host: its certificates are revoked, it hears nothing more
#[derive(Args, Debug)]
pub(in crate::cli) struct Remove {
    /// Its name
    pub(in crate::cli) name: DnsName,
    /// Why, for the audit log
    #[arg(long)]
    pub(in crate::cli) reason: String,
}

/// Join, on the host itself: a token is used up for an identity; needs --server and --ca
#[cfg(target_os = "linux")]
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  chancery host join --server https://pki.example:8443 --ca root.pem \\
      --token-file web1.example.token

The key is made here and never leaves. Then write /etc/chancery/host.toml and start the agent: \
`chancery host run`.")]
pub(in crate::cli) struct Join {
    /// What `chancery host add` wrote
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) token_file: PathBuf,
    /// Where the agent keeps its state
    #[arg(long, value_name = "DIRECTORY", default_value = client::host::config::STATE_DIRECTORY)]
    pub(in crate::cli) state_directory: PathBuf,
}

/// Say who may log in: sshd runs this as AuthorizedPrincipalsCommand
#[cfg(target_os = "linux")]
#[derive(Args, Debug)]
#[command(after_help = "\
In sshd_config:
  AuthorizedPrincipalsCommand /usr/bin/chancery host principals --user %u --certificate %k
  AuthorizedPrincipalsCommandUser nobody

It asks the agent and prints the principals, or nothing: then sshd lets nobody in.")]
pub(in crate::cli) struct Principals {
    /// The account to log in to: %u
    #[arg(long)]
    pub(in crate::cli) user: String,
    /// The certificate: %k
    #[arg(long, value_name = "BASE64")]
    pub(in crate::cli) certificate: String,
    /// The agent's socket
    #[arg(long, value_name = "FILE", default_value = client::host::config::SOCKET)]
    pub(in crate::cli) socket: PathBuf,
}

/// Show how the agent of this host stands, and who is logged in by a certificate
#[cfg(target_os = "linux")]
#[derive(Args, Debug)]
pub(in crate::cli) struct AgentStatus {
    /// The agent's socket
    #[arg(long, value_name = "FILE", default_value = client::host::config::SOCKET)]
    pub(in crate::cli) socket: PathBuf,
}

/// Say what to change in sshd's configuration; exit code 1 if something must
#[cfg(target_os = "linux")]
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  chancery host doctor --user deploy

It asks sshd itself (`sshd -T`), so it must run as sshd does: as root. --config names the agent's \
configuration [default: /etc/chancery/host.toml].")]
pub(in crate::cli) struct Doctor {
    /// sshd's configuration
    #[arg(long, value_name = "FILE", default_value = "/etc/ssh/sshd_config")]
    pub(in crate::cli) sshd_config: PathBuf,
    /// sshd itself
    #[arg(long, value_name = "FILE", default_value = "/usr/sbin/sshd")]
    pub(in crate::cli) sshd: PathBuf,
    /// Look also at what Match blocks say for this account; may be repeated
    #[arg(long = "user", value_name = "ACCOUNT")]
    pub(in crate::cli) users: Vec<String>,
}
