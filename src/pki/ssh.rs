//! SSH certificates (OpenSSH PROTOCOL.certkeys).

pub mod certificate;
mod lint;
mod sshsig;
pub(crate) mod wire;

use std::{collections::BTreeSet, fmt::Write as _};

use base64ct::{Base64, Encoding as _};
use jiff::Timestamp;
use thiserror::Error;

pub use certificate::Certificate;
pub use lint::MOST_TARGETS;
pub(crate) use lint::{printable, public_key as read_key};
pub use sshsig::{TextSignature, TextSignatureError};

use crate::{
    keys::{KeyAlgorithm, PublicKey, Signature, SignatureScheme},
    names::{DnsName, HostPattern, Principal, SourceAddress},
    seal::{Envelope, Kind, Prepared, Summary},
    serial::SshSerial,
    ssh::wire::Writer,
    token::IssuingKey,
};

/// A CA that signs SSH certificates of one kind.
#[derive(Clone, Debug)]
pub struct Issuer {
    key: IssuingKey,
    /// The CA's public key in its wire form: the `signature key` of every certificate.
    key_blob: Vec<u8>,
    scheme: SignatureScheme,
    usage: Usage,
}

/// What a CA's certificates are for; hosts and users have a CA each.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Usage {
    /// Host certificates (SSH_CERT_TYPE_HOST).
    Host,
    /// User certificates (SSH_CERT_TYPE_USER).
    User,
}

/// An SSH certificate to be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Template {
    /// Unique per CA.
    pub serial: SshSerial,
    /// The key to be certified.
    pub public_key: PublicKey,
    /// What sshd logs and a KRL can revoke: printable, at most 256 bytes.
    pub key_id: String,
    /// Who may log in as, or what the host is called: 1 to 256.
    pub principals: BTreeSet<Principal>,
    /// First second of validity; a fraction of a second is cut off.
    pub valid_after: Timestamp,
    /// First second after validity: a certificate is valid while `valid_after <= now <
    /// valid_before` (PROTOCOL.certkeys). A fraction of a second is cut off.
    pub valid_before: Timestamp,
    /// Options that sshd must know or refuse; of user certificates only.
    pub critical_options: CriticalOptions,
    /// Permissions; of user certificates only.
    pub extensions: BTreeSet<Extension>,
    /// What the agents of hosts hold a certificate to; of user certificates only.
    pub restrictions: Restrictions,
}

/// Extensions of our own, in user certificates. sshd ignores them (and logs that it does): the
/// agent of the host enforces them when sshd asks it for the principals.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Restrictions {
    /// `one-use@chancery`: the first login uses the certificate up.
    pub one_use: bool,
    /// `targets@chancery`: the hosts that let it in, none with a wildcard; empty means that
    /// each does. At most 64.
    pub targets: BTreeSet<DnsName>,
}

/// Critical options (PROTOCOL.certkeys, "Critical options").
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct CriticalOptions {
    /// The one command that may run.
    pub force_command: Option<String>,
    /// From where the certificate may be used; empty means from anywhere.
    pub source_addresses: BTreeSet<SourceAddress>,
}

/// Extensions of user certificates (PROTOCOL.certkeys, "Extensions").
#[derive(
    Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, serde::Deserialize, serde::Serialize,
)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the names are those of PROTOCOL.certkeys")]
pub enum Extension {
    #[serde(rename = "permit-X11-forwarding")]
    PermitX11Forwarding,
    PermitAgentForwarding,
    PermitPortForwarding,
    PermitPty,
    PermitUserRc,
}

impl Extension {
    /// Its name in certificates.
    pub fn name(self) -> &'static str {
        match self {
            Self::PermitX11Forwarding => "permit-X11-forwarding",
            Self::PermitAgentForwarding => "permit-agent-forwarding",
            Self::PermitPortForwarding => "permit-port-forwarding",
            Self::PermitPty => "permit-pty",
            Self::PermitUserRc => "permit-user-rc",
        }
    }
}

impl Issuer {
    /// An SSH CA. An RSA key signs `rsa-sha2-512` (RFC 8332), as ssh-keygen does; never `ssh-rsa`,
    /// which is SHA-1.
    pub fn new(key: IssuingKey, usage: Usage) -> Self {
        let public_key = &key.key().public_key;
        let scheme = match public_key.algorithm() {
            KeyAlgorithm::Rsa2048 | KeyAlgorithm::Rsa3072 | KeyAlgorithm::Rsa4096 => {
                SignatureScheme::RsaPkcs1Sha512
            }
            KeyAlgorithm::EcP256 | KeyAlgorithm::EcP384 | KeyAlgorithm::Ed25519 => {
                public_key.default_scheme()
            }
        };
        let key_blob = public_key.openssh_blob();
        Self { key, key_blob, scheme, usage }
    }

    /// The CA's key.
    pub fn key(&self) -> &IssuingKey {
        &self.key
    }

    /// What its certificates are for.
    pub fn usage(&self) -> Usage {
        self.usage
    }

    /// Builds the to-be-signed bytes and lints them. `nonce` is 32 random bytes.
    ///
    /// # Errors
    ///
    /// The template breaks a rule, named by the error; nothing may be signed.
    pub fn prepare(&self, template: Template, nonce: [u8; 32]) -> Result<Prepared, Refused> {
        let bytes = self.write(&template, &nonce)?;
        let content = lint::read(&bytes, self.usage, &self.key_blob)?;
        let summary = content.summary(&template.public_key);
        Ok(self.prepared(bytes, summary))
    }

    /// Takes up to-be-signed bytes again that [`prepare`](Self::prepare) made and that were stored
    /// as an intent; lints them again.
    ///
    /// # Errors
    ///
    /// They are not of this CA, or break a rule.
    pub fn resume(&self, bytes: Vec<u8>) -> Result<Prepared, Refused> {
        let content = lint::read(&bytes, self.usage, &self.key_blob)?;
        let summary = content.summary(&content.public_key()?);
        Ok(self.prepared(bytes, summary))
    }

    fn prepared(&self, bytes: Vec<u8>, summary: Summary) -> Prepared {
        Prepared::new(self.key.clone(), self.scheme, bytes, Envelope::Ssh, summary)
    }

    /// The fields of PROTOCOL.certkeys, "New public key formats", up to and with `signature key`.
    fn write(&self, template: &Template, nonce: &[u8; 32]) -> Result<Vec<u8>, Refused> {
        let subject_blob = template.public_key.openssh_blob();
        let (name, fields) = wire::split_key(&subject_blob)
            .ok_or_else(|| Refused::new("key-form", "the key has no SSH form"))?;
        let mut writer = Writer::with_capacity(512 + subject_blob.len() + self.key_blob.len());
        writer.string_of(|writer| {
            writer.raw(name);
            writer.raw(CERTIFICATE_SUFFIX.as_bytes());
        });
        writer.string(nonce);
        writer.raw(fields);
        writer.u64(template.serial.get());
        writer.u32(self.usage.certificate_type());
        writer.string(template.key_id.as_bytes());
        writer.string_of(|writer| {
            for principal in &template.principals {
                writer.string(principal.as_str().as_bytes());
            }
        });
        writer.u64(seconds(template.valid_after)?);
        writer.u64(seconds(template.valid_before)?);
        writer.string_of(|writer| template.critical_options.write(writer));
        writer.string_of(|writer| template.write_extensions(writer));
        writer.string(b""); // reserved
        writer.string(&self.key_blob);
        Ok(writer.into_bytes())
    }
}

impl Template {
    /// Each extension once, in the order of their names: `one-use@`, `permit-…`, `targets@`.
    fn write_extensions(&self, writer: &mut Writer) {
        if self.restrictions.one_use {
            writer.string(ONE_USE.as_bytes());
            writer.string(b"");
        }
        for extension in &self.extensions {
            writer.string(extension.name().as_bytes());
            writer.string(b"");
        }
        if !self.restrictions.targets.is_empty() {
            let names: Vec<_> = self.restrictions.targets.iter().map(DnsName::as_str).collect();
            writer.string(TARGETS.as_bytes());
            // As ssh-keygen's `-O extension:name=contents` has it: a string in a string.
            writer.string_of(|writer| writer.string(names.join(",").as_bytes()));
        }
    }
}

impl CriticalOptions {
    /// Each option once, in the order of their names; the data of each is a string in a string.
    fn write(&self, writer: &mut Writer) {
        if let Some(command) = &self.force_command {
            writer.string(FORCE_COMMAND.as_bytes());
            writer.string_of(|writer| writer.string(command.as_bytes()));
        }
        if !self.source_addresses.is_empty() {
            writer.string(SOURCE_ADDRESS.as_bytes());
            writer.string_of(|writer| writer.string_of(|writer| self.write_addresses(writer)));
        }
    }

    fn write_addresses(&self, writer: &mut Writer) {
        for (index, address) in self.source_addresses.iter().enumerate() {
            if index > 0 {
                writer.raw(b",");
            }
            writer.raw(address.as_str().as_bytes());
        }
    }
}

impl Usage {
    /// SSH_CERT_TYPE_USER or SSH_CERT_TYPE_HOST.
    fn certificate_type(self) -> u32 {
        match self {
            Self::User => 1,
            Self::Host => 2,
        }
    }

    fn kind(self) -> Kind {
        match self {
            Self::Host => Kind::SshHost,
            Self::User => Kind::SshUser,
        }
    }
}

fn seconds(time: Timestamp) -> Result<u64, Refused> {
    u64::try_from(time.as_second())
        .map_err(|_| Refused::new("validity-order", format!("{time} is before 1970")))
}

/// A certificate may not be signed.
///
/// The rules, by their stable names: `form`, `key-type`, `nonce-length`, `key-form`, `key-size`,
/// `serial-not-zero`, `certificate-type`, `key-id-printable`, `principals-count`,
/// `principals-valid`, `principals-order`, `validity-order`, `host-options`, `options-order`,
/// `critical-options-known`, `force-command-printable`, `source-address-valid`,
/// `extensions-known`, `targets-valid`, `reserved-empty`, `signature-key`, `key-of-ca`.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("{rule}: {what}")]
pub struct Refused {
    /// The rule's stable name.
    pub rule: &'static str,
    /// What broke it.
    pub what: String,
}

impl Refused {
    fn new(rule: &'static str, what: impl Into<String>) -> Self {
        Self { rule, what: what.into() }
    }
}

/// The OpenSSH line of a certificate's wire form: `ssh-ed25519-cert-v01@openssh.com AAAA… comment`,
/// without a line end. Control characters are left out of the comment.
pub fn to_openssh(certificate: &[u8], comment: &str) -> String {
    let name = wire::split_key(certificate).map_or(&b""[..], |(name, _)| name);
    line(&String::from_utf8_lossy(name), certificate, comment)
}

/// The line of a host CA for a `known_hosts` file (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT):
/// `@cert-authority *.example,web ssh-ed25519 AAAA… comment`, without a line end. Control
/// characters are left out of the comment.
pub fn known_hosts_line(
    first: &HostPattern,
    more: &[HostPattern],
    ca: &PublicKey,
    comment: &str,
) -> String {
    let mut line = format!("@cert-authority {first}");
    for pattern in more {
        let _ = write!(line, ",{pattern}");
    }
    with_comment(format!("{line} {}", ca.to_openssh()), comment)
}

fn line(name: &str, blob: &[u8], comment: &str) -> String {
    with_comment(format!("{name} {}", Base64::encode_string(blob)), comment)
}

/// A line end in the comment would begin a line of its own.
fn with_comment(mut line: String, comment: &str) -> String {
    if !comment.is_empty() {
        line.push(' ');
        line.extend(comment.chars().filter(|c| !c.is_control()));
    }
    line
}

/// Joins to-be-signed bytes and signature, which is a string.
pub(crate) fn assemble(bytes: &[u8], scheme: SignatureScheme, signature: &Signature) -> Vec<u8> {
    let mut writer = Writer::with_capacity(bytes.len() + signature.0.len() + 64);
    writer.raw(bytes);
    writer.string(&signature_blob(scheme, signature));
    writer.into_bytes()
}

/// A signature as SSH has it: `string name, string blob` (RFC 4253 section 6.6, RFC 5656 section
/// 3.1.2, RFC 8332 section 3, RFC 8709 section 6).
pub fn signature_blob(scheme: SignatureScheme, signature: &Signature) -> Vec<u8> {
    let mut writer = Writer::with_capacity(signature.0.len() + 64);
    writer.string(signature_name(scheme).as_bytes());
    if matches!(scheme, SignatureScheme::EcdsaP256Sha256 | SignatureScheme::EcdsaP384Sha384) {
        let (r, s) = signature.0.split_at(signature.0.len() / 2);
        writer.string_of(|writer| {
            writer.positive_mpint(r);
            writer.positive_mpint(s);
        });
    } else {
        writer.string(&signature.0);
    }
    writer.into_bytes()
}

/// An issuer signs with no scheme but those that its `new` chooses: PSS and RSA with SHA-384 have
/// no name in SSH, and get the name that no peer accepts.
fn signature_name(scheme: SignatureScheme) -> &'static str {
    match scheme {
        SignatureScheme::EcdsaP256Sha256 => "ecdsa-sha2-nistp256",
        SignatureScheme::EcdsaP384Sha384 => "ecdsa-sha2-nistp384",
        SignatureScheme::Ed25519 => "ssh-ed25519",
        SignatureScheme::RsaPkcs1Sha256 => "rsa-sha2-256",
        SignatureScheme::RsaPkcs1Sha512 => "rsa-sha2-512",
        SignatureScheme::RsaPkcs1Sha384
        | SignatureScheme::RsaPssSha256
        | SignatureScheme::RsaPssSha384
        | SignatureScheme::RsaPssSha512 => "none",
    }
}

/// Every extension, in the order of their names.
const EXTENSIONS: [Extension; 5] = [
    Extension::PermitX11Forwarding,
    Extension::PermitAgentForwarding,
    Extension::PermitPortForwarding,
    Extension::PermitPty,
    Extension::PermitUserRc,
];

const CERTIFICATE_SUFFIX: &str = "-cert-v01@openssh.com";
const FORCE_COMMAND: &str = "force-command";
const ONE_USE: &str = "one-use@chancery";
const SOURCE_ADDRESS: &str = "source-address";
const TARGETS: &str = "targets@chancery";

#[cfg(test)]
mod tests;
