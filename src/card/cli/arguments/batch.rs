//! Many cards.

use std::path::PathBuf;

use card::{KeyKind, Slot};
use clap::Args;
use client::flags::ConnectionFlags;
use pki::names::Upn;

use super::enrolment::Grant;

/// Make cards for many people, one after another
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  chancery-card batch people.csv --letters letters --escrow escrow --escrow-to admin.pem

people.csv has a line for each person below a line that names the columns (comma or semicolon, UTF-8):
  upn      the account that is to log on, as account@domain; needed
  name     what the letter calls the person
  slot     where the key is to be
  serial   the serial number of the card that the person is to have
All of it is read before any card is touched.

Each card comes from the factory. When one is inserted, it gets a PIN, a PUK and a management key by \
chance, a key and its certificate; then the next person's is asked for. The PIN is in a letter, a page \
to be printed, which is written before the card has the PIN; PUK and management key are in files that \
the administrators decrypt (`chancery-card init --help` says how), and the card keeps neither.

What became of each person is in the file of results, which has no secret. A card that was pulled is \
finished when it is inserted again, now or when the same command is run again; so is all that was \
left. What is wrong with one person or card stops no other. Ctrl-C stops when the card that is being \
made is done.")]
pub(in super::super) struct Batch {
    /// Who gets a card
    #[arg(value_name = "PEOPLE.CSV")]
    pub(in super::super) people: PathBuf,
    /// The directory of the letters with the PINs; it is made if it is not there
    #[arg(long, value_name = "DIRECTORY")]
    pub(in super::super) letters: PathBuf,
    /// The directory of management keys and PUKs, encrypted; it is made if it is not there
    #[arg(long, value_name = "DIRECTORY", requires = "escrow_to")]
    pub(in super::super) escrow: PathBuf,
    /// Certificates of those who can decrypt them, each alone; may be repeated
    #[arg(long, value_name = "CERTIFICATE", required = true)]
    pub(in super::super) escrow_to: Vec<PathBuf>,
    /// What became of each person, a line of JSON for each step [default: PEOPLE.results.ndjson]
    #[arg(long, value_name = "FILE")]
    pub(in super::super) results: Option<PathBuf>,
    /// Cards in the reader with this in its name, and in no other [default: in any]
    #[arg(long, value_name = "NAME")]
    pub(in super::super) reader: Option<String>,
    /// Where the keys are to be, if the file does not say: 9a for logging on to Windows
    #[arg(long, default_value_t = Slot::Authentication)]
    pub(in super::super) slot: Slot,
    /// rsa2048, which every domain controller takes, p256 or p384
    #[arg(long, value_name = "KIND", default_value_t = KeyKind::Rsa2048)]
    pub(in super::super) key: KeyKind,
    /// Give this person another card than the one that was begun; may be repeated
    #[arg(long, value_name = "UPN")]
    pub(in super::super) new_card: Vec<Upn>,
    /// Whom the letters name for questions, as "Service desk, extension 4711"
    #[arg(long, value_name = "TEXT", default_value = "your service desk")]
    pub(in super::super) help_desk: String,
    #[command(flatten)]
    pub(in super::super) grant: Grant,
    #[command(flatten)]
    pub(in super::super) connection: ConnectionFlags,
}
