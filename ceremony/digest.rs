//! SHA-256 values, each under a text that says what was hashed.

use std::{fmt, io, str::FromStr};

use sha2::{Digest as _, Sha256};
use thiserror::Error;

/// A SHA-256 value; 64 hexadecimal digits as text.
#[derive(
    Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, serde::Deserialize, serde::Serialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

impl Digest {
    /// `SHA-256(domain || 0 || parts…)`: hashes of different things can never be exchanged.
    ///
    /// Parts of variable length need their length before them, or to be last.
    pub fn of(domain: &str, parts: &[&[u8]]) -> Self {
        let mut hash = Sha256::new_with_prefix(domain);
        hash.update([0]);
        parts.iter().for_each(|part| hash.update(part));
        Self(hash.finalize().into())
    }

    /// Plain SHA-256 of a file's content, as `sha256sum` prints it.
    pub fn of_file(content: &[u8]) -> Self {
        Self(Sha256::digest(content).into())
    }

    /// The same of what is read.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub fn of_reader(mut reader: impl io::Read) -> io::Result<Self> {
        let (mut hash, mut part) = (Sha256::new(), [0; 1 << 16]);
        loop {
            match reader.read(&mut part)? {
                0 => return Ok(Self(hash.finalize().into())),
                length => hash.update(&part[..length]),
            }
        }
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// The text is no SHA-256 value.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("a SHA-256 value has 64 hexadecimal digits")]
pub struct NotADigest;

impl TryFrom<String> for Digest {
    type Error = NotADigest;

    fn try_from(text: String) -> Result<Self, NotADigest> {
        text.parse()
    }
}

impl FromStr for Digest {
    type Err = NotADigest;

    fn from_str(text: &str) -> Result<Self, NotADigest> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| NotADigest)?;
        Ok(Self(bytes))
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}
