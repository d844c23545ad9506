//! `chancery ssh`.

use std::{ffi::OsString, time::Duration};

use clap::Args;
use pki::names::DnsName;

use super::{duration, seconds};

/// Log in with a session of its own, which ends when ssh does
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  chancery ssh --reason 'ticket 4711' db1.example
  chancery ssh --role patching --reason CVE-2026-0001 --ttl 15m root@web1.example apt-get upgrade
  chancery ssh --reason 'ticket 4711' -p 2222 -L 5432:localhost:5432 alice@db1.example

Our own options come first, then ssh's, as ssh(1) has them. The key exists in the memory of this \
process only, ssh reaches it through an agent of its own, and no other key is offered. When ssh \
ends, or this process does, however it ends, the session is ended and its certificate revoked. \
The exit code is that of ssh.")]
pub(crate) struct Ssh {
    /// The session role [default: `session_role` of the profile]
    #[arg(long)]
    pub(crate) role: Option<String>,
    /// Which of the session's roles certifies the key [default: the first that does]
    #[arg(long, value_name = "ROLE")]
    pub(crate) certificate_role: Option<String>,
    /// The host as sessions name it; may be repeated [default: what ssh makes of the destination]
    #[arg(long = "target", value_name = "HOST")]
    pub(crate) targets: Vec<DnsName>,
    /// Ask for no host, for a role that has none
    #[arg(long, conflicts_with = "targets")]
    pub(crate) no_target: bool,
    /// What it is for: for those who approve it, and for the audit log [default: the command line]
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    /// The longest that the session lasts, as 15m, 8h or 1h30m [default: as the role says]
    #[arg(long, value_name = "DURATION", value_parser = seconds)]
    pub(crate) ttl: Option<u32>,
    /// How long to wait for approvals [default: as long as the session waits itself]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) wait: Option<Duration>,
    /// Options of ssh, the destination, and a command for it
    #[arg(
        value_name = "SSH-ARGUMENT",
        required = true,
        num_args = 1..,
        trailing_var_arg = true,
        allow_hyphen_values = true,
    )]
    pub(crate) ssh: Vec<OsString>,
}
