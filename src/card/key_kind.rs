//! The kinds of keys that are made on cards: those that Windows logs on with.

use std::{fmt, str::FromStr};

use aws_lc_rs::digest::{SHA256, SHA384, digest};
use pki::keys::KeyAlgorithm;
use thiserror::Error;

/// A kind of key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum KeyKind {
    /// ECDSA on P-256.
    EcP256,
    /// ECDSA on P-384.
    EcP384,
    /// RSA of 2048 bits: the one that every domain controller takes.
    Rsa2048,
}

impl KeyKind {
    /// The kind of this algorithm, if it is one of them.
    pub fn of(algorithm: KeyAlgorithm) -> Option<Self> {
        [Self::EcP256, Self::EcP384, Self::Rsa2048]
            .into_iter()
            .find(|kind| kind.algorithm() == algorithm)
    }

    /// Its algorithm.
    pub fn algorithm(self) -> KeyAlgorithm {
        match self {
            Self::EcP256 => KeyAlgorithm::EcP256,
            Self::EcP384 => KeyAlgorithm::EcP384,
            Self::Rsa2048 => KeyAlgorithm::Rsa2048,
        }
    }

    /// What commands call it (SP 800-78-5 table 6-2).
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::EcP256 => 0x11,
            Self::EcP384 => 0x14,
            Self::Rsa2048 => 0x07,
        }
    }

    /// What the card makes a signature of, by the key's default scheme.
    pub(crate) fn digest(self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::EcP256 => digest(&SHA256, message).as_ref().to_vec(),
            Self::EcP384 => digest(&SHA384, message).as_ref().to_vec(),
            Self::Rsa2048 => {
                // RFC 8017 section 9.2: EMSA-PKCS1-v1_5.
                let end = [&[0], DIGEST_INFO_SHA256, digest(&SHA256, message).as_ref()].concat();
                let padding = vec![0xff; RSA_2048_LENGTH - end.len() - 2];
                [vec![0, 1], padding, end].concat()
            }
        }
    }
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.algorithm().fmt(f)
    }
}

impl FromStr for KeyKind {
    type Err = ParseKeyKindError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::EcP256, Self::EcP384, Self::Rsa2048]
            .into_iter()
            .find(|kind| kind.to_string() == text)
            .ok_or_else(|| ParseKeyKindError(text.to_owned()))
    }
}

/// There is no such kind of key.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("{0:?} is no kind of key: write rsa2048, p256 or p384")]
pub struct ParseKeyKindError(String);

const RSA_2048_LENGTH: usize = 256;
/// RFC 8017 section 9.2, note 1.
const DIGEST_INFO_SHA256: &[u8] =
    b"\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20";
