//! The transcript: JSON Lines, each record bound to all before it.
//!
//! ```text
//! h_0 = SHA-256("chancery-ceremony-start-v1\0" || plan hash || site hash || tool and version)
//! h_n = SHA-256("chancery-ceremony-rec-v1\0" || h_{n-1} || u64be(len) || line n without its line end)
//! ```
//!
//! Record n carries h_{n-1} as `prev`. The last line states the head alone, so that a flipped bit in
//! the last record is found even by whoever has nothing but the file. Against a rewritten file only
//! a head kept elsewhere helps: the hand-off has it, and people write it down.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use pki::{
    keys::KeyAlgorithm,
    token::{
        KeyId, KeyLabel, KeyRef,
        pkcs11::{TokenIdentity, TokenInfo},
    },
};
use thiserror::Error;

use crate::{
    digest::Digest,
    name::Name,
    plan::{Key, Script},
};

/// The program and its version, as transcripts name it.
pub const TOOL: &str = concat!("chancery-ceremony ", env!("CARGO_PKG_VERSION"));

/// One line of a transcript.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
pub struct Record {
    /// The record's number, from 1.
    pub seq: u64,
    /// The head of the chain before this record.
    pub prev: Digest,
    /// When it was written, UTC.
    pub time: Timestamp,
    /// The number of the plan's step that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<u32>,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// What happened. None of it is secret: no type in here can hold a PIN.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(tag = "event", content = "data", rename_all = "kebab-case")]
pub enum Event {
    /// The plan was carried out to its end, and a fresh session found every key again; nothing
    /// follows.
    Closed {},
    /// What is about to be done. On disk before it is done.
    Intent(Intent),
    /// The ceremony began.
    Opened(Box<Opened>),
    /// What was done, after it was checked.
    Outcome(Outcome),
    /// The ceremony ended early.
    Stopped {
        /// Why.
        reason: String,
    },
    /// A session was opened on the token.
    Token(TokenFound),
}

/// What a ceremony starts from.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct Opened {
    /// The program and its version.
    pub tool: String,
    /// Who confirms the steps.
    pub attendance: Attendance,
    /// The hash of the plan.
    pub plan_hash: Digest,
    /// The hash of the site file.
    pub site_hash: Digest,
    /// The PKCS#11 module.
    pub module: ModuleFile,
    /// The plan.
    pub plan: Script,
}

/// Who confirms the steps.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Attendance {
    /// A person types two words before each step.
    Attended,
    /// Nobody: for tests and demonstrations.
    Unattended,
}

/// The PKCS#11 module's file.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct ModuleFile {
    /// Where it was loaded from.
    pub path: PathBuf,
    /// SHA-256 of its content.
    pub sha256: Digest,
}

/// What the token and its module say of themselves.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct TokenFound {
    /// Label, serial, manufacturer and model.
    pub identity: TokenIdentity,
    /// CK_TOKEN_INFO.hardwareVersion.
    pub hardware_version: String,
    /// CK_TOKEN_INFO.firmwareVersion.
    pub firmware_version: String,
    /// The module's description and version.
    pub library: String,
    /// The flags that are set, of those that speak of PINs and login.
    pub flags: Vec<String>,
}

impl From<TokenInfo> for TokenFound {
    fn from(info: TokenInfo) -> Self {
        Self {
            identity: info.identity,
            hardware_version: info.hardware_version,
            firmware_version: info.firmware_version,
            library: info.library,
            flags: info.flags.into_iter().map(str::to_owned).collect(),
        }
    }
}

/// What is about to be done.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum Intent {
    /// Make a key pair.
    GenerateKey {
        /// The plan's name of the key.
        name: Name,
        /// Its kind and size.
        algorithm: KeyAlgorithm,
        /// CKA_LABEL.
        label: KeyLabel,
        /// CKA_ID.
        id: KeyId,
    },
    /// Initialize the token.
    InitializeToken {
        /// Its label to be.
        label: String,
    },
    /// Sign a certificate.
    SignCertificate {
        /// The plan's name of the certificate.
        name: Name,
        /// Its serial number.
        #[serde(with = "hex::serde")]
        serial: [u8; 16],
        /// The to-be-signed bytes (DER).
        #[serde(with = "hex::serde")]
        to_be_signed: Vec<u8>,
    },
}

impl Intent {
    /// The intent to make a planned key under this CKA_ID.
    pub fn generate(key: &Key, id: KeyId) -> Self {
        let Key { name, algorithm, label } = key.clone();
        Self::GenerateKey { name, algorithm, label, id }
    }
}

/// What was done.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum Outcome {
    /// A certificate was signed, and its signature verified.
    CertificateSigned {
        /// The plan's name of the certificate.
        name: Name,
        /// The signature as the token made it.
        #[serde(with = "hex::serde")]
        signature: Vec<u8>,
        /// The certificate (DER).
        #[serde(with = "hex::serde")]
        certificate: Vec<u8>,
    },
    /// A key pair was made, read back, and proved to sign.
    KeyGenerated {
        /// The plan's name of the key.
        name: Name,
        /// The key in the token.
        key: KeyRef,
        /// The private key's attributes as read back, by their PKCS#11 names.
        attributes: BTreeMap<String, bool>,
    },
    /// The token was initialized.
    TokenInitialized(TokenIdentity),
}

/// The last line of a closed transcript.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct Trailer {
    /// The head of the chain.
    pub head: Digest,
}

/// A transcript that is being written.
#[derive(Debug)]
pub struct Writer {
    file: File,
    path: PathBuf,
    head: Digest,
    seq: u64,
}

/// The chain's start.
pub fn start(plan_hash: Digest, site_hash: Digest, tool: &str) -> Digest {
    Digest::of(
        "chancery-ceremony-start-v1",
        &[plan_hash.as_bytes(), site_hash.as_bytes(), tool.as_bytes()],
    )
}

/// The chain's next head.
pub fn next(head: Digest, line: &[u8]) -> Digest {
    let length = (line.len() as u64).to_be_bytes();
    Digest::of("chancery-ceremony-rec-v1", &[head.as_bytes(), &length, line])
}

impl Writer {
    /// Creates the file and writes the first record.
    ///
    /// # Errors
    ///
    /// The file exists, or cannot be written.
    pub fn create(path: &Path, opened: Opened, now: Timestamp) -> Result<Self, TranscriptError> {
        let at = |source| TranscriptError { path: path.to_owned(), source };
        let head = start(opened.plan_hash, opened.site_hash, &opened.tool);
        let file = OpenOptions::new().append(true).create_new(true).open(path).map_err(at)?;
        sync_directory_of(path).map_err(at)?;
        let mut writer = Self { file, path: path.to_owned(), head, seq: 0 };
        writer.append(now, None, Event::Opened(Box::new(opened)))?;
        Ok(writer)
    }

    /// Writes a record; it is on disk when this returns.
    ///
    /// # Errors
    ///
    /// The file cannot be written: what the record announces must not be done.
    pub fn append(
        &mut self,
        time: Timestamp,
        step: Option<u32>,
        event: Event,
    ) -> Result<(), TranscriptError> {
        let seq = self.seq + 1;
        let line = to_line(&Record { seq, prev: self.head, time, step, event });
        let line = line.map_err(|source| self.error(source))?;
        self.write_line(&line)?;
        self.head = next(self.head, line.as_bytes());
        self.seq = seq;
        Ok(())
    }

    /// Writes the last line and gives the head.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn close(mut self) -> Result<Digest, TranscriptError> {
        let line = to_line(&Trailer { head: self.head }).map_err(|source| self.error(source))?;
        self.write_line(&line)?;
        Ok(self.head)
    }

    fn write_line(&mut self, line: &str) -> Result<(), TranscriptError> {
        let mut bytes = line.as_bytes().to_vec();
        bytes.push(b'\n');
        let written = self.file.write_all(&bytes).and_then(|()| self.file.sync_all());
        written.map_err(|source| self.error(source))
    }

    fn error(&self, source: io::Error) -> TranscriptError {
        TranscriptError { path: self.path.clone(), source }
    }
}

/// The directory that a path names an entry of.
pub(crate) fn directory_of(path: &Path) -> &Path {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

/// Makes a new or renamed entry of a directory survive a power loss.
pub(crate) fn sync_directory_of(path: &Path) -> io::Result<()> {
    File::open(directory_of(path))?.sync_all()
}

/// The one text of a record; `verify` refuses any other.
pub(crate) fn to_line<T: serde::Serialize>(value: &T) -> io::Result<String> {
    serde_json::to_string(value).map_err(io::Error::from)
}

/// The transcript cannot be written.
#[derive(Debug, Error)]
#[error("cannot write the transcript {}", path.display())]
pub struct TranscriptError {
    path: PathBuf,
    source: io::Error,
}
