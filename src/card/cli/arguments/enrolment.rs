//! Keys and certificates.

use std::path::PathBuf;

use card::{KeyKind, Slot, enrolment::Wanted};
use clap::Args;
use client::{duration::seconds, flags::ConnectionFlags};
use pki::names::Upn;

use super::Access;

/// Put a new key and its certificate from the appliance on the card, in one go
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  chancery-card enroll --slot 9a --upn alice@corp.example
  chancery-card enroll --slot 9a --upn alice@corp.example --role logon --pin-file alice.pin

The card makes the key, says so itself (attestation), and signs the request; the certificate of the \
appliance is written, read back, and Windows made to look at the card anew. What was interrupted is \
finished by the same command: a certificate that was issued meanwhile is not asked for twice.")]
pub(in super::super) struct Enroll {
    #[command(flatten)]
    pub(in super::super) access: Access,
    #[command(flatten)]
    pub(in super::super) place: KeyPlace,
    /// The account that is to log on, as account@domain
    #[arg(long)]
    pub(in super::super) upn: Upn,
    /// The open session that it is for, where the role is given in sessions only
    #[arg(long, value_name = "ID")]
    pub(in super::super) session: Option<String>,
    #[command(flatten)]
    pub(in super::super) grant: Grant,
    #[command(flatten)]
    pub(in super::super) connection: ConnectionFlags,
}

/// Get a new certificate for the account whose certificate is on the card
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  chancery-card renew --slot 9a
  chancery-card renew --slot 9a --new-key rsa2048

The key stays the same, unless --new-key asks for another: then the old one is lost at once.")]
pub(in super::super) struct Renew {
    #[command(flatten)]
    pub(in super::super) access: Access,
    /// Where key and certificate are
    #[arg(long)]
    pub(in super::super) slot: Slot,
    /// Make a new key first: rsa2048, p256 or p384
    #[arg(long, value_name = "KIND")]
    pub(in super::super) new_key: Option<KeyKind>,
    /// The open session that it is for, where the role is given in sessions only
    #[arg(long, value_name = "ID")]
    pub(in super::super) session: Option<String>,
    #[command(flatten)]
    pub(in super::super) grant: Grant,
    #[command(flatten)]
    pub(in super::super) connection: ConnectionFlags,
}

/// Where a key is to be made, and which.
#[derive(Args, Debug)]
pub(in super::super) struct KeyPlace {
    /// Where the key is to be: 9a for logging on to Windows
    #[arg(long)]
    pub(in super::super) slot: Slot,
    /// rsa2048, which every domain controller takes, p256 or p384
    #[arg(long, value_name = "KIND", default_value_t = KeyKind::Rsa2048)]
    pub(in super::super) key: KeyKind,
    /// Make a new key even if the slot is in use: the key in it is lost
    #[arg(long)]
    pub(in super::super) replace: bool,
}

impl KeyPlace {
    /// What is to become of a slot that is in use.
    pub(in super::super) fn wanted(&self) -> Wanted {
        if self.replace { Wanted::New(self.key) } else { Wanted::Free(self.key) }
    }
}

/// By what right a certificate is asked for.
#[derive(Args, Debug)]
pub(in super::super) struct Grant {
    /// The role that grants it [default: card_role of the profile]
    #[arg(long)]
    pub(in super::super) role: Option<String>,
    /// How long it is valid, as 15m, 8h or 90d [default: as the role says]
    #[arg(long, value_name = "DURATION", value_parser = seconds)]
    pub(in super::super) ttl: Option<u32>,
    /// Do not send the card's word that it made the key, where the role does without
    #[arg(long)]
    pub(in super::super) no_attestation: bool,
}

/// Have the card make a key, and write a request for its certificate into a file
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
    pub(in super::super) access: Access,
    #[command(flatten)]
    pub(in super::super) place: KeyPlace,
    /// Where the request goes (PEM)
    #[arg(long, value_name = "FILE")]
    pub(in super::super) out: PathBuf,
    /// Where the card's certificates go that it made the key itself (PEM)
    #[arg(long, value_name = "FILE")]
    pub(in super::super) attestation: Option<PathBuf>,
}

/// Put the certificate for a slot's key on the card out of a file
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  chancery-card install --slot 9a --pin-file alice.pin --certificate alice.pem

The card gets a new identity (CHUID) each time, since Windows remembers what it read of the old one.")]
pub(in super::super) struct Install {
    #[command(flatten)]
    pub(in super::super) access: Access,
    /// Where its key is
    #[arg(long)]
    pub(in super::super) slot: Slot,
    /// The certificate (PEM)
    #[arg(long, value_name = "FILE")]
    pub(in super::super) certificate: PathBuf,
}
