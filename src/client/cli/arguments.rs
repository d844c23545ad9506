//! The command line as clap reads it: every value is parsed here, once.

pub(super) mod bot;
pub(super) mod card;
pub(super) mod directory;
pub(super) mod host;
pub(super) mod lock;
pub(super) mod session;
#[cfg(unix)]
pub(super) mod ssh;
pub(super) mod windows;

use std::{net::IpAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand};
use client::duration::{duration, seconds};
use pki::{
    keys::SignatureScheme,
    names::{DnsName, HostPattern, Principal, SourceAddress, SpiffeId, Upn},
    seal::Kind,
};
use serde::de::DeserializeOwned;

pub(super) use client::flags::ConnectionFlags as Global;

/// Certificates and signatures from a Chancery appliance.
#[derive(Debug, Parser)]
#[command(
    name = "chancery",
    version,
    max_term_width = 100,
    disable_help_subcommand = true,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = EXIT_CODES,
)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) global: Global,
    /// Print the appliance's answers as JSON, one in a line
    #[arg(long, global = true)]
    pub(super) json: bool,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Ask for a certificate
    #[command(subcommand)]
    Request(Request),
    Sign(Sign),
    Batch(Batch),
    Ca(Ca),
    List(List),
    Show(Show),
    /// Ask for access for a purpose and a time, approve it, end it
    #[command(subcommand)]
    Session(session::SessionCommand),
    #[cfg(unix)]
    #[command(name = "ssh")]
    SessionSsh(ssh::Ssh),
    /// Keep somebody or something from getting certificates, and take back what they have
    #[command(subcommand)]
    Lock(lock::LockCommand),
    Revoke(lock::Revoke),
    Csr(Csr),
    Kdc(windows::Kdc),
    /// What Windows needs to know of the appliance
    #[command(subcommand)]
    Windows(windows::WindowsCommand),
    /// Bots: services that join once and renew by themselves
    #[command(subcommand)]
    Bot(bot::BotCommand),
    /// Smart cards that have attested a key: whose they are, and taking them away
    #[command(subcommand)]
    Card(card::CardCommand),
    /// The organisation's directory, which knows the accounts of smart cards
    #[command(subcommand)]
    Directory(directory::DirectoryCommand),
    /// Hosts: let them join; on them, the agent for sshd
    #[command(subcommand)]
    Host(host::HostCommand),
    /// Write and show profiles
    #[command(subcommand)]
    Profile(ProfileCommand),
}

#[derive(Debug, Subcommand)]
pub(super) enum Request {
    Ssh(Ssh),
    SshHost(SshHost),
    X509(X509),
    Smartcard(Smartcard),
}

/// An SSH user certificate
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  chancery request ssh --role developer --key ~/.ssh/id_ed25519.pub
  chancery request ssh --role deploy --key ./deploy --generate --principal deploy --ttl 1h

The certificate goes beside the key, as id_ed25519-cert.pub, where ssh finds it by itself.")]
pub(super) struct Ssh {
    /// The role that grants it
    #[arg(long)]
    pub(super) role: String,
    /// Your SSH public key; with the name of the private key, FILE.pub is read
    #[arg(long, value_name = "FILE")]
    pub(super) key: PathBuf,
    /// Make a new Ed25519 key first, as FILE (mode 0600, never overwritten) and FILE.pub
    #[arg(long)]
    pub(super) generate: bool,
    /// A login name; may be repeated [default: all that the role gives you]
    #[arg(long = "principal", value_name = "NAME")]
    pub(super) principals: Vec<Principal>,
    #[command(flatten)]
    pub(super) validity: Validity,
    /// Use it only from this address or network; may be repeated
    #[arg(long = "source-address", value_name = "CIDR")]
    pub(super) source_addresses: Vec<SourceAddress>,
    /// Use it only to run this command
    #[arg(long, value_name = "COMMAND")]
    pub(super) force_command: Option<String>,
    /// Where the certificate goes, or - for the output [default: KEY-cert.pub]
    #[arg(long, value_name = "FILE")]
    pub(super) out: Option<PathBuf>,
}

/// An SSH host certificate
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  chancery request ssh-host --role hosts --key /etc/ssh/ssh_host_ed25519_key.pub \\
      --principal web1.example --principal 192.0.2.7

Then name it in sshd_config: HostCertificate /etc/ssh/ssh_host_ed25519_key-cert.pub")]
pub(super) struct SshHost {
    /// The role that grants it
    #[arg(long)]
    pub(super) role: String,
    /// The host's public key; with the name of the private key, FILE.pub is read
    #[arg(long, value_name = "FILE")]
    pub(super) key: PathBuf,
    /// A name or address of the host, as its users type it; may be repeated
    #[arg(long = "principal", value_name = "NAME", required = true)]
    pub(super) principals: Vec<Principal>,
    #[command(flatten)]
    pub(super) validity: Validity,
    /// Where the certificate goes, or - for the output [default: KEY-cert.pub]
    #[arg(long, value_name = "FILE")]
    pub(super) out: Option<PathBuf>,
}

/// An X.509 certificate, for a TLS server or client as the role says
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  chancery request x509 --role web --new-key web1.key --dns web1.example
  chancery request x509 --role service --csr billing.csr --ttl 8h
  chancery request x509 --role client --csr alice.csr      (renews the certificate alice.pem)

The certificate and its chain go into one file, as TLS servers want it: web1.pem.")]
pub(super) struct X509 {
    /// The role that grants it
    #[arg(long)]
    pub(super) role: String,
    #[command(flatten)]
    pub(super) source: KeySource,
    /// A DNS name; may be repeated
    #[arg(long = "dns", value_name = "NAME")]
    pub(super) dns_names: Vec<DnsName>,
    /// An IP address; may be repeated
    #[arg(long = "ip", value_name = "ADDRESS")]
    pub(super) addresses: Vec<IpAddr>,
    /// A SPIFFE id [default: your own, for a TLS client]
    #[arg(long, value_name = "ID")]
    pub(super) spiffe: Option<SpiffeId>,
    #[command(flatten)]
    pub(super) validity: Validity,
    /// Where the certificate goes, or - for the output [default: as the key or CSR, but .pem]
    #[arg(long, value_name = "FILE")]
    pub(super) out: Option<PathBuf>,
}

#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub(super) struct KeySource {
    /// A certificate signing request, PEM
    #[arg(long, value_name = "FILE")]
    pub(super) csr: Option<PathBuf>,
    /// Make a new P-256 key (mode 0600, never overwritten) and request its certificate
    #[arg(long, value_name = "FILE")]
    pub(super) new_key: Option<PathBuf>,
}

/// A Windows smart-card logon certificate
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  chancery request smartcard --role logon --csr card.csr --upn alice@corp.example \\
      --attestation card.attestation.pem

The account's SID comes from the appliance's own records, never from a request. The attestation is \
what `chancery-card request --attestation` wrote: the card's word that it made the key itself.")]
pub(super) struct Smartcard {
    /// The role that grants it
    #[arg(long)]
    pub(super) role: String,
    /// A certificate signing request made by the card, PEM
    #[arg(long, value_name = "FILE")]
    pub(super) csr: PathBuf,
    /// The account that is to log on, as account@domain
    #[arg(long)]
    pub(super) upn: Upn,
    /// What the card says of its key: PEM of its statement, then of its attestation certificate
    #[arg(long, value_name = "FILE")]
    pub(super) attestation: Option<PathBuf>,
    #[command(flatten)]
    pub(super) validity: Validity,
    /// Where the certificate goes, or - for the output [default: as the CSR, but .pem]
    #[arg(long, value_name = "FILE")]
    pub(super) out: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(super) struct Validity {
    /// How long it is valid, as 90s, 15m, 8h, 1h30m or 7d [default: as the role says]
    #[arg(long, value_name = "DURATION", value_parser = seconds)]
    pub(super) ttl: Option<u32>,
    /// The open session that it is for, where the role is given in sessions only
    #[arg(long, value_name = "ID")]
    pub(super) session: Option<String>,
}

/// Sign a file or a digest with a key that is no CA's
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  chancery sign --role release --key packages packages.tar
  openssl dgst -sha256 -verify packages.pub -signature packages.tar.sig packages.tar

  chancery sign --role release --key packages --digest \"$(sha256sum packages.tar | cut -d' ' -f1)\"

The file never leaves this machine, only its digest. The signature goes to FILE.sig (DER for \
ECDSA); that of a digest to the output, in base64.")]
pub(super) struct Sign {
    /// The role that grants it
    #[arg(long)]
    pub(super) role: String,
    /// The name of the key (`chancery ca` lists them)
    #[arg(long, value_name = "NAME")]
    pub(super) key: String,
    /// The algorithm, as ecdsa-p256-sha256 or rsa-pss-sha256 [default: the usual one of the key]
    #[arg(long, value_parser = word::<SignatureScheme>)]
    pub(super) scheme: Option<SignatureScheme>,
    #[command(flatten)]
    pub(super) subject: SignSubject,
    /// Where the signature goes, in binary [default: FILE.sig]
    #[arg(long, value_name = "FILE")]
    pub(super) out: Option<PathBuf>,
}

#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub(super) struct SignSubject {
    /// The file to sign; it is hashed here
    #[arg(value_name = "FILE")]
    pub(super) file: Option<PathBuf>,
    /// The digest to sign, in hexadecimal
    #[arg(long, value_name = "HEX")]
    pub(super) digest: Option<String>,
}

/// Many operations at once: JSON lines in, JSON lines out, in order
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  chancery batch requests.ndjson > results.ndjson

A line asks for one certificate or signature, with the fields of a single request:
  {\"request\":{\"operation\":\"ssh_user\",\"role\":\"ci\",\"public_key\":\"ssh-ed25519 AAAA…\"}}
  {\"idempotency_key\":\"host-17\",\"request\":{\"operation\":\"ssh_host\",…}}
Operations are ssh_user, ssh_host, x509, smartcard and sign. A line with an idempotency key of \
yours may be sent again and gives the same certificate.

The answer to line N (from 0) has \"index\":N, a \"status\", and \"issued\", \"signed\" or \
\"problem\". The exit code is 1 if any line has a problem.")]
pub(super) struct Batch {
    /// The lines, or - for the input
    #[arg(value_name = "FILE")]
    pub(super) file: PathBuf,
}

/// Show the authorities and keys of the appliance
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  chancery ca
  chancery ca servers --pem > chain.pem
  chancery ca users --ssh > /etc/ssh/trusted_user_ca_keys
  chancery ca hosts --known-hosts '*.example' >> ~/.ssh/known_hosts")]
pub(super) struct Ca {
    /// One of them
    pub(super) name: Option<String>,
    /// Print its certificates, its own first and the root last, or its public key, as PEM
    #[arg(long, requires = "name", group = "form")]
    pub(super) pem: bool,
    /// Print its OpenSSH public key line, for TrustedUserCAKeys
    #[arg(long, requires = "name", group = "form")]
    pub(super) ssh: bool,
    /// Print its line for known_hosts, valid for these host names
    #[arg(long, value_name = "PATTERN", value_delimiter = ',', requires = "name", group = "form")]
    pub(super) known_hosts: Vec<HostPattern>,
}

/// List issued certificates, the oldest first
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  chancery list --kind ssh_user --limit 20
  chancery list --json | jq -r 'select(.role == \"ci\") | .serial'")]
pub(super) struct List {
    /// Of this kind, as ssh_user, ssh_host, tls_server, tls_client, smartcard_logon or kdc
    #[arg(long, value_parser = word::<Kind>)]
    pub(super) kind: Option<Kind>,
    /// Issued by this authority
    #[arg(long, value_name = "NAME")]
    pub(super) issuer: Option<String>,
    /// Issued to this caller
    #[arg(long, value_name = "SPIFFE-ID")]
    pub(super) caller: Option<String>,
    /// Only after this place in the ledger
    #[arg(long, value_name = "ID")]
    pub(super) after: Option<u64>,
    /// At most so many [default: all]
    #[arg(long, value_name = "NUMBER")]
    pub(super) limit: Option<u64>,
}

/// Show one issued certificate
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  chancery show users 1042
  chancery show servers 5f0c…e1 --certificate | openssl x509 -noout -text")]
pub(super) struct Show {
    /// The authority that signed it
    pub(super) issuer: String,
    /// Its serial: decimal for SSH, hexadecimal for X.509
    pub(super) serial: String,
    /// Print the certificate itself
    #[arg(long)]
    pub(super) certificate: bool,
}

/// Make a key and its certificate signing request, here and without the appliance
#[derive(Args, Debug)]
#[command(after_help = "\
Example, for the first operator of a new appliance:
  chancery csr --new-key alice.key
  chanceryd operator add alice --csr alice.csr --config FILE --out alice.pem     (on the appliance)

The request names nobody: what a certificate says is the appliance's to decide.")]
pub(super) struct Csr {
    /// The new P-256 key (mode 0600, never overwritten)
    #[arg(long, value_name = "FILE")]
    pub(super) new_key: PathBuf,
    /// Where the request goes, or - for the output [default: as the key, but .csr]
    #[arg(long, value_name = "FILE")]
    pub(super) out: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(super) enum ProfileCommand {
    /// Add a profile to the file of profiles; the first one becomes the default
    #[command(after_help = "\
Example:
  chancery profile add office --server https://pki.example:8443 --ca root.pem \\
      --cert alice.pem --cert-key alice.key")]
    Add {
        /// Its name
        name: String,
    },
    /// List the profiles
    List,
}

/// A word of the API, as its JSON has it.
fn word<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_value(text.into()).map_err(|error| error.to_string())
}

const EXIT_CODES: &str = "\
Start here:
  chancery csr --new-key alice.key          a key, and a request for an operator to grant
  chancery profile add office --server …    which appliance, and as whom
  chancery request ssh --help               each command has examples

Exit codes:
  0  done
  1  the appliance refused, or could not serve
  2  the command line, a profile or a local file is wrong
  3  the appliance cannot be reached, or TLS does not come about";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }
}
