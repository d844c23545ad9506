//! The hand-off: what a ceremony made, as the appliance reads it.
//!
//! A directory with `handoff.toml` and the certificates that it names. Everything is public; the
//! file pins the token's identity, and each key by CKA_ID and public key.

use std::{collections::BTreeMap, path::Path};

use thiserror::Error;

use crate::{
    ssh::Usage,
    token::{KeyRef, pkcs11::TokenIdentity},
};

/// `handoff.toml`.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct Handoff {
    /// The ceremony's id and the head of its transcript (hexadecimal SHA-256).
    pub ceremony: Ceremony,
    /// The token that holds the keys.
    pub token: TokenIdentity,
    /// X.509 CAs by name.
    #[serde(default)]
    pub x509: BTreeMap<String, X509Authority>,
    /// SSH CAs by name.
    #[serde(default)]
    pub ssh: BTreeMap<String, SshAuthority>,
    /// The publication key.
    pub publication: KeyRef,
    /// Keys for raw digests, by name.
    #[serde(default)]
    pub raw: BTreeMap<String, KeyRef>,
}

/// Which ceremony made the keys.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct Ceremony {
    /// The plan's id.
    pub id: String,
    /// SHA-256 of the plan, hexadecimal.
    pub plan: String,
    /// The head of the transcript's hash chain, hexadecimal.
    pub transcript: String,
}

/// An X.509 CA.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct X509Authority {
    /// Its certificates as PEM files below the directory: its own first, then up to the root.
    pub chain: Vec<String>,
    /// Its key.
    pub key: KeyRef,
    /// Whether the appliance signs with it. A root that is in the same token is `false`.
    pub online: bool,
}

/// An SSH CA.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct SshAuthority {
    /// What its certificates are for.
    pub usage: Usage,
    /// Its key.
    pub key: KeyRef,
}

/// A hand-off cannot be used.
#[derive(Debug, Error)]
pub enum HandoffError {
    /// A file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// Which.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// A file says something else than a hand-off.
    #[error("{path}: {what}")]
    Invalid {
        /// Which.
        path: String,
        /// What is wrong.
        what: String,
    },
}

impl Handoff {
    /// Reads and checks a hand-off directory.
    ///
    /// # Errors
    ///
    /// A file is missing, malformed, or names something outside the directory.
    pub fn read(_directory: &Path) -> Result<Self, HandoffError> {
        todo!()
    }
}
