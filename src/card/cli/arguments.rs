//! The command line as clap reads it: every value is parsed here, once.

pub(super) mod batch;
pub(super) mod doctor;
pub(super) mod enrolment;
pub(super) mod session;
pub(super) mod upkeep;

use std::path::PathBuf;

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
    Inspect(upkeep::Inspect),
    Init(upkeep::Init),
    Enroll(enrolment::Enroll),
    Renew(enrolment::Renew),
    Batch(batch::Batch),
    Request(enrolment::Request),
    Install(enrolment::Install),
    Session(session::InSession),
    Unblock(upkeep::Unblock),
    Wipe(upkeep::Wipe),
    Doctor(doctor::Doctor),
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

/// Which card, and what is shown to it.
#[derive(Args, Debug)]
pub(super) struct Access {
    #[command(flatten)]
    pub(super) card: Choice,
    #[command(flatten)]
    pub(super) shown: Shown,
}

/// What is shown to the card.
#[derive(Args, Debug)]
pub(super) struct Shown {
    /// A file with the PIN of the card, mode 0600 [default: it is asked for]; it is tried once
    #[arg(long, value_name = "FILE")]
    pub(super) pin_file: Option<PathBuf>,
    /// A file with the management key in hexadecimal, mode 0600 [default: the card keeps it]
    #[arg(long, value_name = "FILE")]
    pub(super) management_key_file: Option<PathBuf>,
}

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  the card or the appliance refused, the card was pulled, or a batch is not done
  2  the command line or a local file is wrong
  3  there is no such card, or it or the appliance cannot be reached";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }
}
