//! `chancery session`.

use std::time::Duration;

use api::{SessionRequest, SessionState};
use clap::{Args, Subcommand};
use pki::names::{DnsName, SourceAddress};

use super::{duration, seconds, word};

#[derive(Debug, Subcommand)]
pub(crate) enum SessionCommand {
    Request(Request),
    Approve(Decide),
    Deny(Decide),
    List(List),
    Show(Named),
    Heartbeat(Named),
    End(End),
    /// What `chancery ssh` leaves behind to end its session, whatever becomes of it
    #[cfg(unix)]
    #[command(hide = true)]
    Watch,
    #[cfg(unix)]
    #[command(hide = true)]
    Exec(Exec),
}

/// Ask for a session: access for a purpose and a time
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  chancery session request --role db-admin --target db1.example --reason 'ticket 4711' --wait
  chancery session request --role patching --target web1.example --target web2.example \\
      --reason 'CVE-2026-0001' --ttl 2h --one-use

Certificates for it are then asked for with `chancery request … --session ID`; `chancery ssh` does \
all of it in one. With --wait, the exit code is 0 only if the session is open.")]
pub(crate) struct Request {
    /// The session role that grants it
    #[arg(long)]
    role: String,
    /// A host that it is for; may be repeated
    #[arg(long = "target", value_name = "HOST")]
    targets: Vec<DnsName>,
    /// What it is for: for those who approve it, and for the audit log
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Its length, as 15m, 8h or 1h30m [default: as the role says]
    #[arg(long, value_name = "DURATION", value_parser = seconds)]
    ttl: Option<u32>,
    /// Use its SSH certificates only from this address or network; may be repeated
    #[arg(long = "source-address", value_name = "CIDR")]
    source_addresses: Vec<SourceAddress>,
    /// Use its SSH certificates only to run this command
    #[arg(long, value_name = "COMMAND")]
    force_command: Option<String>,
    /// Each of its SSH certificates lets in once only
    #[arg(long)]
    one_use: bool,
    /// Wait until it is approved; at most so long, or as long as it waits itself
    #[arg(long, value_name = "DURATION", value_parser = duration, num_args = 0..=1)]
    pub(crate) wait: Option<Option<Duration>>,
}

/// Say yes or no to a session that waits
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  chancery session list --state waiting
  chancery session show s-7k2m4q9x1c5v8b3n
  chancery session approve s-7k2m4q9x1c5v8b3n --reason 'ticket 4711, seen'

Nobody decides on a session of their own. One denial is enough.")]
pub(crate) struct Decide {
    /// The session
    pub(crate) id: String,
    /// Why: for whoever asked, and for the audit log
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
}

/// List sessions, the latest first
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  chancery session list --state waiting
  chancery session list --requester spiffe://example.org/user/alice --json | jq -r .id")]
pub(crate) struct List {
    /// In this state: waiting, open, denied, expired or ended
    #[arg(long, value_parser = word::<SessionState>)]
    pub(crate) state: Option<SessionState>,
    /// Of this role
    #[arg(long)]
    pub(crate) role: Option<String>,
    /// Asked for by this caller
    #[arg(long, value_name = "SPIFFE-ID")]
    pub(crate) requester: Option<String>,
    /// At most so many, 1000 at most [default: 100]
    #[arg(long, value_name = "NUMBER")]
    pub(crate) limit: Option<u32>,
}

/// One session
#[derive(Args, Debug)]
pub(crate) struct Named {
    /// The session
    pub(crate) id: String,
}

/// End a session: its certificates are revoked, its connections cut
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  chancery session end s-7k2m4q9x1c5v8b3n --reason done
  chancery session end s-7k2m4q9x1c5v8b3n --reason 'laptop lost' --wait 10s

From the answer on, nothing is signed for the session. With --wait, it is printed which host had it \
in force after how many milliseconds; the exit code is 1 if some have not by then.")]
pub(crate) struct End {
    /// The session
    pub(crate) id: String,
    /// Why: for the audit log
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
    #[command(flatten)]
    pub(crate) effect: EffectArguments,
}

/// What becomes ssh: it ends when the process does that started it
#[cfg(unix)]
#[derive(Args, Debug)]
pub(crate) struct Exec {
    /// That process
    #[arg(long)]
    pub(crate) parent: i32,
    /// ssh's arguments
    #[arg(last = true)]
    pub(crate) ssh: Vec<std::ffi::OsString>,
}

#[derive(Args, Debug)]
pub(crate) struct EffectArguments {
    /// Wait until it is published and all hosts have it in force, at most so long [of itself: 10s]
    #[arg(
        long,
        value_name = "DURATION",
        value_parser = duration,
        num_args = 0..=1,
        default_missing_value = "10s",
    )]
    pub(crate) wait: Option<Duration>,
}

impl From<Request> for SessionRequest {
    fn from(it: Request) -> Self {
        Self {
            role: it.role,
            reason: it.reason,
            targets: it.targets.into_iter().collect(),
            ttl: it.ttl,
            source_addresses: it.source_addresses.into_iter().collect(),
            force_command: it.force_command,
            one_use: it.one_use,
        }
    }
}
