//! The command line of `chancery card`.

use api::CardState;
use clap::{Args, Subcommand};
use pki::names::Upn;

use super::{session::EffectArguments, word};

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum CardCommand {
    List(List),
    Show(Show),
    Release(Release),
    Remove(Remove),
}

/// Show which cards have attested a key, and whose they are
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  chancery card list
  chancery card list --holder alice@corp.example
  chancery card list --state removed --json")]
pub(in crate::cli) struct List {
    /// Only those of this account
    #[arg(long, value_name = "UPN")]
    pub(in crate::cli) holder: Option<Upn>,
    /// Only those that are held, released or removed
    #[arg(long, value_parser = word::<CardState>)]
    pub(in crate::cli) state: Option<CardState>,
}

/// Show one card, and the certificates for it
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  chancery card show 12345678
  chancery card show 12345678 --attestation > attested.pem
  openssl verify -CAfile makers.pem -untrusted attested.pem attested.pem

With --json, each certificate has the attestation that it was accepted for.")]
pub(in crate::cli) struct Show {
    /// Its serial number
    pub(in crate::cli) serial: u32,
    /// Print what the card has said of the key of its last certificate, as it came (PEM): the
    /// certificate of the key, then that of the attestation key
    #[arg(long)]
    pub(in crate::cli) attestation: bool,
}

/// Take a card from its holder, so that it may become somebody else's; its certificates are revoked
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  chancery card release 12345678 --reason 'alice has a new one' --wait

Wipe the card before somebody else gets it. A card that was removed and found again is taken up by \
this, too.")]
pub(in crate::cli) struct Release {
    #[command(flatten)]
    pub(in crate::cli) taken: Taken,
}

/// Take a card away for good: it is lost. Its certificates are revoked, and it gets no others
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  chancery card remove 12345678 --reason 'left in a train' --wait

Kerberos tickets that were had with it live on: docs/sessions.md says what to do about those.")]
pub(in crate::cli) struct Remove {
    #[command(flatten)]
    pub(in crate::cli) taken: Taken,
}

#[derive(Args, Debug)]
pub(in crate::cli) struct Taken {
    /// Its serial number
    pub(in crate::cli) serial: u32,
    /// Why: for the audit log
    #[arg(long, value_name = "TEXT")]
    pub(in crate::cli) reason: String,
    #[command(flatten)]
    pub(in crate::cli) effect: EffectArguments,
}
