//! The arguments of `chancery kdc` and `chancery windows`.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand, builder::NonEmptyStringValueParser};
use client::duration::duration;
use pki::names::{DnsName, HttpUrl};

use super::Validity;

/// A certificate for a domain controller or another KDC
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  chancery kdc --role domain-controller --dns dc1.corp.example --dns corp.example \\
      --new-key dc1.key --pfx dc1.pfx --pfx-password-file dc1.password
  chancery kdc --role domain-controller --dns dc1.corp.example --dns corp.example \\
      --csr dc1.req --no-chain --out dc1.cer
  chancery kdc … --new-key dc1.key --pfx dc1.pfx --pfx-password-file dc1.password --renew-if 14d

With --renew-if, as a scheduled task runs it each day, the key FILE is taken again if it is there, \
and the certificate is asked for only if it is due: it has less left, it is for another key or other \
names, or a file is missing. Move the key away for a new one. With --json, `renewed` says which.

The names must be what the role allows; the realm of its Kerberos name stands in the role.")]
pub(in crate::cli) struct Kdc {
    /// The role that grants it; one with [role.kdc]
    #[arg(long)]
    pub(in crate::cli) role: String,
    /// The controller's name, and that of its domain; may be repeated
    #[arg(long = "dns", value_name = "NAME", required = true)]
    pub(in crate::cli) dns_names: Vec<DnsName>,
    #[command(flatten)]
    pub(in crate::cli) source: KdcKey,
    #[command(flatten)]
    pub(in crate::cli) validity: Validity,
    /// Where the certificate goes [default: as the key or CSR, but .pem]
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) out: Option<PathBuf>,
    /// Leave the CAs out of that file, as `certreq -accept` wants it
    #[arg(long)]
    pub(in crate::cli) no_chain: bool,
    /// Put key, certificate and CAs into this file, too, for Windows (PKCS#12)
    #[arg(long, value_name = "FILE", requires = "pfx_password_file", conflicts_with = "csr")]
    pub(in crate::cli) pfx: Option<PathBuf>,
    /// The password of that file: the first line of this one
    #[arg(long, value_name = "FILE", requires = "pfx")]
    pub(in crate::cli) pfx_password_file: Option<PathBuf>,
    /// Do nothing while the certificate has more than this left
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(in crate::cli) renew_if: Option<Duration>,
}

#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub(in crate::cli) struct KdcKey {
    /// A certificate signing request, PEM; the controller made it itself
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) csr: Option<PathBuf>,
    /// Make a new RSA key of 2048 bits (its owner's alone, never overwritten)
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) new_key: Option<PathBuf>,
}

/// What Windows needs to know of the appliance.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum WindowsCommand {
    Bootstrap(Bootstrap),
}

/// Print the PowerShell script that makes a domain trust an authority for smart-card logon
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  chancery windows bootstrap --authority issuing --out bootstrap.ps1
  chancery windows bootstrap --authority issuing --what-if --out look.ps1

As an administrator of the enterprise, on a domain controller:
  powershell -ExecutionPolicy Bypass -File bootstrap.ps1 -WhatIf     (says what it would do)
  powershell -ExecutionPolicy Bypass -File bootstrap.ps1

The script publishes the root and the authority in Active Directory, puts the authority into NTAuth, \
makes a group policy, and checks that the CRL can be read. It changes only what is not so yet, and \
may be run again.")]
pub(in crate::cli) struct Bootstrap {
    /// The X.509 authority that issues the certificates of cards and controllers
    #[arg(long, value_name = "NAME")]
    pub(in crate::cli) authority: String,
    /// What the group policy is called
    #[arg(
        long,
        value_name = "NAME",
        default_value = "Chancery smart-card logon",
        value_parser = NonEmptyStringValueParser::new(),
    )]
    pub(in crate::cli) gpo: String,
    /// Let certificates with elliptic curves log on, too: Windows shows only RSA otherwise
    #[arg(long)]
    pub(in crate::cli) ecc: bool,
    /// Lock the screen when the card is taken out
    #[arg(long)]
    pub(in crate::cli) lock_on_removal: bool,
    /// Where the CRL is [default: as certificates of the authority say]
    #[arg(long, value_name = "URL")]
    pub(in crate::cli) crl_url: Option<HttpUrl>,
    /// Print a script that changes nothing, and says what it would do
    #[arg(long)]
    pub(in crate::cli) what_if: bool,
    /// Where the script goes [default: the output]
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) out: Option<PathBuf>,
}
