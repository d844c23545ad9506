//! What hosts are told of revocations: a KRL, and a signed statement beside it.
//!
//! The statement is a text of six lines, and the signature is over exactly these bytes:
//!
//! ```text
//! chancery-revocations-v1
//! version 812
//! issued 2026-11-22T03:00:00Z
//! not-after 2026-11-22T03:15:00Z
//! krl-sha256 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
//! krl-length 26431
//! ```
//!
//! Its first line keeps it apart from all else that the publication key signs. The signature is
//! written as X.509 writes it, so that `openssl dgst -verify` checks it.

use std::{fmt, str::FromStr};

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::{
    keys::PublicKey,
    krl::{Krl, KrlError},
    seal::{Envelope, Prepared, Sealed},
    token::PublicationKey,
    x509::algorithm,
};

/// What is stated of a KRL. Times are in whole seconds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Statement {
    version: u64,
    issued: Timestamp,
    not_after: Timestamp,
    krl_sha256: [u8; 32],
    krl_length: usize,
}

/// A statement with its signature and the KRL that it is about, nothing of it verified.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Bundle {
    /// The text of the statement.
    pub statement: String,
    /// The signature over the text, as X.509 writes it: ECDSA as DER.
    pub signature: Vec<u8>,
    /// The KRL's bytes.
    pub krl: Vec<u8>,
}

/// A bundle that was verified.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Verified {
    /// What is stated.
    pub statement: Statement,
    /// The KRL, as it was read from the bundle's bytes.
    pub krl: Krl,
}

/// Why a bundle is not to be installed, or a statement not to be signed.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum RevocationError {
    /// The KRL is not the one that was stated.
    #[error("the KRL is not the one that the statement is about")]
    AnotherKrl,
    /// The KRL cannot be read, or is no KRL of ours.
    #[error("the KRL cannot be used")]
    Krl(#[from] KrlError),
    /// The text is not a statement to the byte.
    #[error("the statement cannot be read: {0}")]
    Malformed(&'static str),
    /// A newer one was seen already.
    #[error("version {found} is older than version {wanted}, which was seen before")]
    Old {
        /// What the statement says.
        found: u64,
        /// At least this was wanted.
        wanted: u64,
    },
    /// The signature does not verify under the publication key.
    #[error("the signature is not that of the publication key")]
    Signature,
}

impl Statement {
    /// The statement about a KRL: good from `issued` to `not_after`, whose fractions of a second
    /// are cut off. The version is the KRL's own.
    ///
    /// # Errors
    ///
    /// The bytes are not a KRL of ours, or it would never be good.
    pub fn of(
        krl: &[u8],
        issued: Timestamp,
        not_after: Timestamp,
    ) -> Result<Self, RevocationError> {
        let version = Krl::parse(krl)?.version();
        let (issued, not_after) = (whole_seconds(issued), whole_seconds(not_after));
        if issued > not_after {
            return Err(RevocationError::Malformed("it ends before it begins"));
        }
        let (krl_sha256, krl_length) = (Sha256::digest(krl).into(), krl.len());
        Ok(Self { version, issued, not_after, krl_sha256, krl_length })
    }

    /// The text to be signed.
    pub fn prepare(self, key: &PublicationKey) -> Prepared<Self> {
        let scheme = key.key().public_key.default_scheme();
        let text = self.to_string().into_bytes();
        Prepared::new(key.clone(), scheme, text, Envelope::Detached, self)
    }

    /// The version of statement and KRL; each is greater than the one before.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The first second of its time.
    pub fn issued(&self) -> Timestamp {
        self.issued
    }

    /// The last second of its time.
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// Whether its time is over: there should be a newer one, and what it does not say may have
    /// been revoked since.
    pub fn is_stale(&self, now: Timestamp) -> bool {
        // The last second of its time is whole.
        now.as_second() > self.not_after.as_second()
    }

    /// SHA-256 of the KRL's bytes.
    pub fn krl_sha256(&self) -> &[u8; 32] {
        &self.krl_sha256
    }

    /// The length of the KRL in bytes.
    pub fn krl_length(&self) -> usize {
        self.krl_length
    }

    /// Whether these bytes are the KRL that is stated.
    pub fn is_about(&self, krl: &[u8]) -> bool {
        krl.len() == self.krl_length && Sha256::digest(krl).as_slice() == self.krl_sha256
    }
}

impl fmt::Display for Statement {
    /// The text that is signed, to the byte.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { version, issued, not_after, krl_sha256, krl_length } = self;
        writeln!(f, "{CONTEXT}\nversion {version}\nissued {issued}\nnot-after {not_after}")?;
        writeln!(f, "krl-sha256 {}\nkrl-length {krl_length}", hex::encode(krl_sha256))
    }
}

impl FromStr for Statement {
    type Err = RevocationError;

    /// Reads the one text that each statement has.
    fn from_str(text: &str) -> Result<Self, RevocationError> {
        let malformed = RevocationError::Malformed;
        let mut lines = text.lines();
        if lines.next() != Some(CONTEXT) {
            return Err(malformed("it does not begin with chancery-revocations-v1"));
        }
        let mut field = |name| {
            let line = lines.next().and_then(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.ok_or(malformed("a line is missing, or of another name"))
        };
        let number = malformed("a number is none");
        let time = malformed("a time is none");
        let mut krl_sha256 = [0; 32];
        let statement = Self {
            version: field("version")?.parse().map_err(|_| number.clone())?,
            issued: field("issued")?.parse().map_err(|_| time.clone())?,
            not_after: field("not-after")?.parse().map_err(|_| time)?,
            krl_sha256: {
                hex::decode_to_slice(field("krl-sha256")?, &mut krl_sha256)
                    .map_err(|_| malformed("the hash is none"))?;
                krl_sha256
            },
            krl_length: field("krl-length")?.parse().map_err(|_| number)?,
        };
        // Numbers with a sign, times with a fraction, lines too many: another text, the same words.
        if statement.to_string() != text || statement.issued > statement.not_after {
            return Err(malformed("it is not in the one form that a statement has"));
        }
        Ok(statement)
    }
}

impl Bundle {
    /// What is sent to hosts: the sealed statement with its KRL.
    ///
    /// # Errors
    ///
    /// The statement is about another KRL.
    pub fn new(sealed: &Sealed<Statement>, krl: Vec<u8>) -> Result<Self, RevocationError> {
        if !sealed.summary().is_about(&krl) {
            return Err(RevocationError::AnotherKrl);
        }
        let statement = sealed.summary().to_string();
        Ok(Self { statement, signature: sealed.bytes().to_vec(), krl })
    }

    /// Verifies all that makes the KRL one to install: the signature first, then the version
    /// (at least `at_least`), hash and length, and that the KRL can be read and is of the stated
    /// version.
    ///
    /// Its time is another question ([`Statement::is_stale`]): even a late list knows more than an
    /// older one.
    ///
    /// # Errors
    ///
    /// The first of these that does not hold.
    pub fn verify(
        &self,
        publication_key: &PublicKey,
        at_least: u64,
    ) -> Result<Verified, RevocationError> {
        let scheme = publication_key.default_scheme();
        algorithm::decode_signature(publication_key.algorithm(), &self.signature)
            .and_then(|it| publication_key.verify(scheme, self.statement.as_bytes(), &it).ok())
            .ok_or(RevocationError::Signature)?;
        let statement: Statement = self.statement.parse()?;
        let version = statement.version;
        if version < at_least {
            return Err(RevocationError::Old { found: version, wanted: at_least });
        }
        if !statement.is_about(&self.krl) {
            return Err(RevocationError::AnotherKrl);
        }
        let krl = Krl::parse(&self.krl)?;
        if krl.version() != version {
            return Err(RevocationError::AnotherKrl);
        }
        Ok(Verified { statement, krl })
    }
}

/// Timestamps lie between the years -9999 and 9999, and so do their whole seconds.
fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// The first line of every statement: no other text that the publication key signs begins so.
const CONTEXT: &str = "chancery-revocations-v1";

#[cfg(test)]
mod tests;
