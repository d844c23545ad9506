//! SSH certificates (OpenSSH PROTOCOL.certkeys).

use std::collections::BTreeSet;

use jiff::Timestamp;
use thiserror::Error;

use crate::{
    keys::{PublicKey, Signature, SignatureScheme},
    names::{Principal, SourceAddress},
    seal::Prepared,
    serial::SshSerial,
    token::IssuingKey,
};

/// A CA that signs SSH certificates of one kind.
#[derive(Clone, Debug)]
pub struct Issuer {
    key: IssuingKey,
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
    /// Who may log in as, or what the host is called: never empty.
    pub principals: BTreeSet<Principal>,
    /// First second of validity.
    pub valid_after: Timestamp,
    /// First second after validity.
    pub valid_before: Timestamp,
    /// Options that sshd must know or refuse; of user certificates only.
    pub critical_options: CriticalOptions,
    /// Permissions; of user certificates only.
    pub extensions: BTreeSet<Extension>,
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

impl Issuer {
    /// An SSH CA.
    pub fn new(key: IssuingKey, usage: Usage) -> Self {
        let _ = (key, usage);
        todo!()
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
        let _ = (template, nonce);
        todo!()
    }

    /// Takes up to-be-signed bytes again that [`prepare`](Self::prepare) made and that were stored
    /// as an intent; lints them again.
    ///
    /// # Errors
    ///
    /// They are not of this CA, or break a rule.
    pub fn resume(&self, bytes: Vec<u8>) -> Result<Prepared, Refused> {
        let _ = bytes;
        todo!()
    }
}

/// A certificate may not be signed.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("{rule}: {what}")]
pub struct Refused {
    /// The rule's stable name.
    pub rule: &'static str,
    /// What broke it.
    pub what: String,
}

/// The OpenSSH line of a certificate's wire form: `ssh-ed25519-cert-v01@openssh.com AAAA… comment`.
pub fn to_openssh(certificate: &[u8], comment: &str) -> String {
    let _ = (certificate, comment);
    todo!()
}

pub(crate) fn assemble(bytes: &[u8], scheme: SignatureScheme, signature: &Signature) -> Vec<u8> {
    let _ = (bytes, scheme, signature);
    todo!()
}
