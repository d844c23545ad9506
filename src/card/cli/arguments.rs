//! The command line as clap reads it: every value is parsed here, once.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// PIV cards: what is on them, and making them ready
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
