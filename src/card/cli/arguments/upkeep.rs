//! What is on a card, its secrets, and taking things off it.

use std::path::PathBuf;

use card::Slot;
use clap::Args;

use super::{Access, Choice};

/// Show what is on a card; no secret is needed, and nothing is changed
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  chancery-card inspect
  chancery-card inspect --serial 12345678 --json")]
pub(in super::super) struct Inspect {
    #[command(flatten)]
    pub(in super::super) card: Choice,
}

/// Take a YubiKey away from the secrets that every YubiKey comes with
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  chancery-card init --from-defaults
  chancery-card init --from-defaults --pin-file alice.pin --puk-file alice.puk
  chancery-card init --from-defaults --pin-file alice.pin --escrow 12345678.key.cms \\
      --escrow-puk 12345678.puk.cms --escrow-to admin1.pem --escrow-to admin2.pem

Sets the PIN and the PUK, a management key by chance that the card keeps behind its PIN (as ykman
does), and gives the card the two objects without which Windows does not know it (CHUID and CCC).
A card that was pulled meanwhile is finished by the same command: what is done is not done again.
A PIN is tried once.

With --escrow, the card keeps its management key no longer when all is done: it is in the file, which
any one of the administrators decrypts. On Linux, and in PowerShell with the key in the user's store:
  openssl cms -decrypt -inform PEM -in 12345678.key.cms -recip admin1.pem -inkey admin1.key -out key
  Unprotect-CmsMessage -Path 12345678.key.cms | Set-Content key
Then --management-key-file takes it, and --puk-file what is in the other. It is on the disk before the
card has the secret. Only certificates for encryption with RSA keys are taken, and only as long as
they are valid.")]
pub(in super::super) struct Init {
    #[command(flatten)]
    pub(in super::super) card: Choice,
    /// A file with the PIN that the card is to have: 6 to 8 characters, mode 0600 [default: it is
    /// asked for]
    #[arg(long, value_name = "FILE")]
    pub(in super::super) pin_file: Option<PathBuf>,
    /// A file with the PUK that the card is to have: 6 to 8 characters, mode 0600 [default: it is
    /// asked for]
    #[arg(long, value_name = "FILE", conflicts_with = "escrow_puk")]
    pub(in super::super) puk_file: Option<PathBuf>,
    /// Where the management key goes, encrypted: then the card does not keep it
    #[arg(long, value_name = "FILE", requires = "escrow_to")]
    pub(in super::super) escrow: Option<PathBuf>,
    /// Where a PUK goes that is made by chance, encrypted
    #[arg(long, value_name = "FILE", requires = "escrow")]
    pub(in super::super) escrow_puk: Option<PathBuf>,
    /// Certificates of those who can decrypt it, each alone; may be repeated
    #[arg(long, value_name = "CERTIFICATE", requires = "escrow")]
    pub(in super::super) escrow_to: Vec<PathBuf>,
    /// Show the card the factory's secrets, where it still has them, to replace them
    #[arg(long)]
    pub(in super::super) from_defaults: bool,
}

/// Set another PIN by the PUK, whether the old one is locked or forgotten
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  chancery-card unblock
  chancery-card unblock --serial 12345678 --puk-file alice.puk --pin-file alice.pin

The PUK is tried once. Keys and certificates stay.")]
pub(in super::super) struct Unblock {
    #[command(flatten)]
    pub(in super::super) card: Choice,
    /// A file with the PUK of the card, mode 0600 [default: it is asked for]
    #[arg(long, value_name = "FILE")]
    pub(in super::super) puk_file: Option<PathBuf>,
    /// A file with the PIN that the card is to have, mode 0600 [default: it is asked for]
    #[arg(long, value_name = "FILE")]
    pub(in super::super) pin_file: Option<PathBuf>,
    /// Show the PUK even if one try is left: a wrong one locks it, and nothing unlocks it
    #[arg(long)]
    pub(in super::super) last_try: bool,
}

/// Take a key and its certificate off the card, or everything
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  chancery-card wipe --slot 9a
  chancery-card wipe --everything --confirm 12345678

Of a slot, the certificate is removed and the key deleted; a card of firmware before 5.7 puts a new \
key in its place instead, which nobody certified. With --everything, PIN and PUK are locked and the \
card is reset: it is as it came from the factory, and needs `chancery-card init` again. No \
certificate is revoked by that: `chancery revoke` does so.")]
pub(in super::super) struct Wipe {
    #[command(flatten)]
    pub(in super::super) access: Access,
    #[command(flatten)]
    pub(in super::super) what: What,
    /// The serial number of the card, to show that it is this one [default: it is asked for]
    #[arg(long, value_name = "SERIAL")]
    pub(in super::super) confirm: Option<String>,
}

/// How much goes.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub(in super::super) struct What {
    /// The key in this slot and its certificate
    #[arg(long)]
    pub(in super::super) slot: Option<Slot>,
    /// All keys, certificates and secrets
    #[arg(long, conflicts_with_all = ["pin_file", "management_key_file"])]
    pub(in super::super) everything: bool,
}
