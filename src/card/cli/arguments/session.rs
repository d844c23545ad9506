//! A certificate for the length of a session.

use std::time::Duration;

use card::{KeyKind, Slot};
use clap::Args;
use client::{
    duration::{duration, seconds},
    flags::ConnectionFlags,
};
use pki::names::{DnsName, Upn};

use super::{Access, enrolment::Grant};

/// Have a certificate on the card for the length of a session, and take it off at its end
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  chancery-card session --slot 9a --upn alice-admin@corp.example --role card-admin \\
      --session-role domain-admin --reason 'ticket 4711'

Asks for the session and waits until it is approved; then the card makes a key and gets its \
certificate. When the session ends, however it does, or when this program is asked to stop (Ctrl-C), \
key and certificate are taken off the card and the session is ended, which revokes the certificate. \
A Kerberos ticket that was had with it lives on until its own end.")]
pub(in super::super) struct InSession {
    #[command(flatten)]
    pub(in super::super) access: Access,
    /// A slot without a certificate: 9a for logging on to Windows
    #[arg(long)]
    pub(in super::super) slot: Slot,
    /// The account that is to log on, as account@domain
    #[arg(long)]
    pub(in super::super) upn: Upn,
    /// The role of the session [default: session_role of the profile]
    #[arg(long, value_name = "ROLE")]
    pub(in super::super) session_role: Option<String>,
    /// What it is for: for those who approve it, and for the audit log
    #[arg(long, value_name = "TEXT")]
    pub(in super::super) reason: String,
    /// A host that the session is for; may be repeated
    #[arg(long = "target", value_name = "HOST")]
    pub(in super::super) targets: Vec<DnsName>,
    /// The length of the session, as 15m or 8h [default: as the role says]
    #[arg(long, value_name = "DURATION", value_parser = seconds)]
    pub(in super::super) length: Option<u32>,
    /// Wait for approvals at most so long [default: as long as the session waits itself]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(in super::super) wait: Option<Duration>,
    /// rsa2048, which every domain controller takes, p256 or p384
    #[arg(long, value_name = "KIND", default_value_t = KeyKind::Rsa2048)]
    pub(in super::super) key: KeyKind,
    #[command(flatten)]
    pub(in super::super) grant: Grant,
    #[command(flatten)]
    pub(in super::super) connection: ConnectionFlags,
}
