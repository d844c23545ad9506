//! The command line as clap reads it: every value is parsed here, once.

use std::path::PathBuf;

use card::{KeyKind, Slot};
use clap::{Args, Parser, Subcommand};

/// PIV cards: what is on them, making them ready, keys and certificates
#[derive(Debug, Parser)]
#[command(
    name = "chancery-card",
    version,
    max_term_width = 100,
    disable_help_subcommand = true,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = EXIT_CODES,
)]
pub(super) struct Arguments {
    /// Print JSON, one object in a line
    #[arg(long, global = true)]
    pub(super) json: bool,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show the readers, and the cards in them
    List,
    Inspect(Inspect),
    Init(Init),
    Request(Request),
    Install(Install),
}

/// Show what is on a card; no secret is needed, and nothing is changed
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  chancery-card inspect
  chancery-card inspect --serial 12345678 --json")]
pub(super) struct Inspect {
    #[command(flatten)]
    pub(super) card: Choice,
}

/// Take a YubiKey away from the secrets that every YubiKey comes with
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  chancery-card init --from-defaults --pin-file alice.pin --puk-file alice.puk

Sets the PIN and the PUK, a management key by chance that the card keeps behind its PIN (as ykman
does), and gives the card the two objects without which Windows does not know it (CHUID and CCC).
A card that was pulled meanwhile is finished by the same command: what is done is not done again.
A PIN is tried once.")]
pub(super) struct Init {
    #[command(flatten)]
    pub(super) card: Choice,
    /// A file with the PIN that the card is to have: 6 to 8 characters, mode 0600
    #[arg(long, value_name = "FILE")]
    pub(super) pin_file: PathBuf,
    /// A file with the PUK that the card is to have: 6 to 8 characters, mode 0600
    #[arg(long, value_name = "FILE")]
    pub(super) puk_file: PathBuf,
    /// Show the card the factory's secrets, where it still has them, to replace them
    #[arg(long)]
    pub(super) from_defaults: bool,
}

/// Have the card make a key, and write a request for its certificate
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  chancery-card request --slot 9a --pin-file alice.pin --out alice.csr
  chancery request smartcard --role card --csr alice.csr --upn alice@corp.example
  chancery-card install --slot 9a --pin-file alice.pin --certificate alice.pem

A key that the card made before and that has no certificate yet is taken again, so that a card that
was pulled is finished by the same command.")]
pub(super) struct Request {
    #[command(flatten)]
    pub(super) card: Choice,
    /// Where the key is to be: 9a for logging on to Windows
    #[arg(long)]
    pub(super) slot: Slot,
    /// rsa2048, which every domain controller takes, p256 or p384
    #[arg(long, value_name = "KIND", default_value_t = KeyKind::Rsa2048)]
    pub(super) key: KeyKind,
    /// A file with the PIN of the card, mode 0600; it is tried once
    #[arg(long, value_name = "FILE")]
    pub(super) pin_file: PathBuf,
    /// Where the request goes (PEM)
    #[arg(long, value_name = "FILE")]
    pub(super) out: PathBuf,
    /// Where the card's certificates go that it made the key itself (PEM)
    #[arg(long, value_name = "FILE")]
    pub(super) attestation: Option<PathBuf>,
    /// Make a new key even if the slot is in use: the key in it is lost
    #[arg(long)]
    pub(super) replace: bool,
}

/// Put the certificate for a slot's key on the card
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  chancery-card install --slot 9a --pin-file alice.pin --certificate alice.pem

The card gets a new identity (CHUID) each time, since Windows remembers what it read of the old one.")]
pub(super) struct Install {
    #[command(flatten)]
    pub(super) card: Choice,
    /// Where its key is
    #[arg(long)]
    pub(super) slot: Slot,
    /// The certificate (PEM)
    #[arg(long, value_name = "FILE")]
    pub(super) certificate: PathBuf,
    /// A file with the PIN of the card, mode 0600; it is tried once
    #[arg(long, value_name = "FILE")]
    pub(super) pin_file: PathBuf,
}

/// Which card; needed when there are several.
#[derive(Args, Debug)]
pub(super) struct Choice {
    /// The YubiKey with this serial number [default: the only card]
    #[arg(long, value_name = "NUMBER")]
    pub(super) serial: Option<u32>,
    /// The card in the reader with this in its name [default: the only card]
    #[arg(long, value_name = "NAME", conflicts_with = "serial")]
    pub(super) reader: Option<String>,
}

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  the card refused, or was pulled
  2  the command line or a local file is wrong
  3  there is no such card, or it cannot be reached";
