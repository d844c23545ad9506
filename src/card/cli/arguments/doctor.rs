//! The doctor.

use std::path::PathBuf;

use clap::Args;
use client::flags::ConnectionFlags;
use pki::names::Sid;

use super::Choice;

/// Say whether a certificate would log on to Windows, and why not
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  chancery-card doctor 9a
  chancery-card doctor alice.pem --chain issuing.pem --root root.pem --ntauth ntauth.ldf
  chancery-card doctor alice@corp.example --json

What it looks at: validity, key, extensions, key usage, extended key usage, account, SID, chain, \
revocation list (which is fetched from where the certificate says), NTAuth. The profile's CA is taken \
for the root, and the appliance asked for its CAs, unless --offline.

NTAuth is exported on a machine of the domain, in one of two ways:
  ldifde -f ntauth.ldf -d \"CN=NTAuthCertificates,CN=Public Key Services,CN=Services,\
CN=Configuration,DC=corp,DC=example\"
  certutil -split -store -enterprise NTAuth          (writes Blob….crt files)

The exit code is 0 if all that was looked at is as it must be, else 1.")]
pub(in super::super) struct Doctor {
    /// A file (PEM or DER), a slot of a card (9a), or an account (its certificate that the appliance
    /// issued last)
    #[arg(value_name = "FILE|SLOT|UPN")]
    pub(in super::super) what: String,
    #[command(flatten)]
    pub(in super::super) card: Choice,
    /// A CA between the certificate and its root; may be repeated
    #[arg(long, value_name = "FILE")]
    pub(in super::super) chain: Vec<PathBuf>,
    /// A root that is trusted; may be repeated [default: the CA of the profile]
    #[arg(long, value_name = "FILE")]
    pub(in super::super) root: Vec<PathBuf>,
    /// NTAuthCertificates as exported; may be repeated
    #[arg(long, value_name = "FILE")]
    pub(in super::super) ntauth: Vec<PathBuf>,
    /// The SID that the directory has for the account
    #[arg(long)]
    pub(in super::super) sid: Option<Sid>,
    /// Fetch the revocation list here, instead of where the certificate says that it is
    #[arg(long, value_name = "URL")]
    pub(in super::super) crl: Option<String>,
    /// Ask nobody: neither the appliance nor for the revocation list
    #[arg(long)]
    pub(in super::super) offline: bool,
    #[command(flatten)]
    pub(in super::super) connection: ConnectionFlags,
}
