//! `chancery directory …`.

use clap::{Args, Subcommand};
use pki::names::Upn;

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum DirectoryCommand {
    Check(Check),
}

/// Check an account: what the directory says of it, what the rules pin, who may have its card
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  chancery directory check alice@corp.example

Exit code 1: no role gives a card of the account, or directory and rules disagree about its SID. \
Operators may check all accounts, others those that a role of theirs gives cards of.")]
pub(in crate::cli) struct Check {
    /// The user principal name
    pub(in crate::cli) upn: Upn,
}
