//! Secrets of a card that its administrators keep: each in a file that only they can decrypt, which
//! is on the disk before the card has the secret.
//!
//! The first line of such a file says in plain text what is in it, so that no card's secret takes the
//! place of another card's. What is decrypted begins with the secret, alone in its line, as
//! `--management-key-file` and `--puk-file` read it.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use client::files::{FileError, make_durable, write_public};
use jiff::Timestamp;
use pki::{
    secret::Secret,
    x509::cms::{EncryptError, Recipient, encrypt},
};
use thiserror::Error;
use zeroize::Zeroizing;

/// A file for one secret of one card, and who can read it.
#[derive(Clone, Debug)]
pub struct Escrow {
    path: PathBuf,
    recipients: Vec<Recipient>,
    /// When it is written.
    now: Timestamp,
}

/// What is in such a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Content {
    ManagementKey,
    Puk,
}

/// A secret is not kept for the administrators; the card does not have it either.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EscrowError {
    /// It cannot be encrypted.
    #[error(transparent)]
    Encrypt(#[from] EncryptError),
    /// Another file is there.
    #[error("{} is there already, and is not {wanted}", path.display())]
    Other {
        /// The file.
        path: PathBuf,
        /// What it would be.
        wanted: String,
    },
    /// What is there cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It cannot be written, or not so that it stays.
    #[error(transparent)]
    Write(#[from] FileError),
}

impl Escrow {
    /// Of a file that need not be there yet.
    pub fn new(path: PathBuf, recipients: Vec<Recipient>, now: Timestamp) -> Self {
        Self { path, recipients, now }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the file is there, and whole.
    ///
    /// # Errors
    ///
    /// [`EscrowError::Other`]: it is there, and is something else.
    pub(crate) fn has(&self, content: Content, serial: u32) -> Result<bool, EscrowError> {
        let title = title(content, serial);
        let text = match fs::read(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(source) => return Err(EscrowError::Read { path: self.path.clone(), source }),
        };
        let text = String::from_utf8_lossy(&text);
        let is_whole = text.trim_end().ends_with("-----END CMS-----");
        if text.lines().next() != Some(title.as_str()) || !is_whole {
            return Err(EscrowError::Other { path: self.path.clone(), wanted: title });
        }
        Ok(true)
    }

    /// Writes a secret, so that it is still there after a power cut. One that was there of the same
    /// card gives way: whoever calls this knows that the card does not have it.
    ///
    /// # Errors
    ///
    /// [`EscrowError`]; what was there before is still there.
    pub(crate) fn put(
        &self,
        content: Content,
        serial: u32,
        secret: &Secret,
    ) -> Result<(), EscrowError> {
        self.has(content, serial)?;
        let title = title(content, serial);
        // Room for all from the start: a text that grows would leave the secret behind.
        let mut text = Zeroizing::new(String::with_capacity(256));
        for part in [secret.expose(), "\n", &title, ", of ", &self.now.to_string(), "\n"] {
            text.push_str(part);
        }
        let encrypted = encrypt(text.as_bytes(), &self.recipients)?;
        write_public(&self.path, format!("{title}\n{encrypted}").as_bytes())?;
        Ok(make_durable(&self.path)?)
    }
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ManagementKey => "management key",
            Self::Puk => "PUK",
        })
    }
}

fn title(content: Content, serial: u32) -> String {
    format!("the {content} of YubiKey {serial}")
}
