//! Keys and certificates.

use std::path::PathBuf;

use card::{KeyKind, Slot};
use clap::Args;

use super::{Choice, Shown};

/// Have the card make a key, and write a request for its certificate
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  chancery-card request --slot 9a --pin-file alice.pin --out alice.csr
  chancery request smartcard --role card --csr alice.csr --upn alice@corp.example
  chancery-card install --slot 9a --pin-file alice.pin --certificate alice.pem

A key that the card made before and that has no certificate yet is taken again, so that a card that
was pulled is finished by the same command.")]
pub(in super::super) struct Request {
    #[command(flatten)]
    pub(in super::super) card: Choice,
    /// Where the key is to be: 9a for logging on to Windows
    #[arg(long)]
    pub(in super::super) slot: Slot,
    /// rsa2048, which every domain controller takes, p256 or p384
    #[arg(long, value_name = "KIND", default_value_t = KeyKind::Rsa2048)]
    pub(in super::super) key: KeyKind,
    #[command(flatten)]
    pub(in super::super) shown: Shown,
    /// Where the request goes (PEM)
    #[arg(long, value_name = "FILE")]
    pub(in super::super) out: PathBuf,
    /// Where the card's certificates go that it made the key itself (PEM)
    #[arg(long, value_name = "FILE")]
    pub(in super::super) attestation: Option<PathBuf>,
    /// Make a new key even if the slot is in use: the key in it is lost
    #[arg(long)]
    pub(in super::super) replace: bool,
}

/// Put the certificate for a slot's key on the card
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  chancery-card install --slot 9a --pin-file alice.pin --certificate alice.pem

The card gets a new identity (CHUID) each time, since Windows remembers what it read of the old one.")]
pub(in super::super) struct Install {
    #[command(flatten)]
    pub(in super::super) card: Choice,
    /// Where its key is
    #[arg(long)]
    pub(in super::super) slot: Slot,
    /// The certificate (PEM)
    #[arg(long, value_name = "FILE")]
    pub(in super::super) certificate: PathBuf,
    #[command(flatten)]
    pub(in super::super) shown: Shown,
}
