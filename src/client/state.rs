//! What a program that stays must not lose: a directory of its own, mode 0700.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};
use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;

use zeroize::Zeroizing;

use crate::install::{install, replace};

/// The directory.
#[derive(Clone, Debug)]
pub(crate) struct StateDirectory(PathBuf);

/// A directory of state cannot be used.
#[derive(Debug, Error)]
pub enum StateError {
    /// Another agent runs.
    #[error("another agent uses {}", .0.display())]
    Busy(PathBuf),
    /// A file says something else.
    #[error("{}: {what}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The directory is open to others.
    #[error("{} is open to others (mode {mode:04o})", path.display())]
    Open {
        /// The directory.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl StateError {
    /// What to do about it, if there is something.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Busy(_) => Some("stop it first, as with `systemctl stop`".to_owned()),
            Self::Open { path, .. } => Some(format!("chmod 700 {}", path.display())),
            Self::Invalid { .. } | Self::Read { .. } | Self::Write { .. } => None,
        }
    }
}

impl StateDirectory {
    pub(crate) fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// Makes the directory, unless it is there; private either way.
    pub(crate) fn create(&self) -> Result<(), StateError> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.0);
        made.map_err(|source| StateError::Write { path: self.0.clone(), source })?;
        self.refuse_open_mode()
    }

    /// Takes the lock that only one agent can have. It is held until the file is dropped.
    pub(crate) fn lock(&self) -> Result<File, StateError> {
        let path = self.path("lock");
        let failed = |source| StateError::Write { path: path.clone(), source };
        let mut options = File::options();
        let file = options.create(true).truncate(false).write(true).mode(0o600).open(&path);
        let file = file.map_err(failed)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(StateError::Busy(self.0.clone())),
            Err(error) => Err(failed(error.into())),
        }
    }

    /// Reads a file of JSON; `None` when it is not there.
    pub(crate) fn read_if_present<T: DeserializeOwned>(
        &self,
        name: &str,
    ) -> Result<Option<T>, StateError> {
        let path = self.path(name);
        match fs::read(&path) {
            Ok(bytes) => match serde_json::from_slice(&Zeroizing::new(bytes)) {
                Ok(value) => Ok(Some(value)),
                Err(error) => Err(StateError::Invalid { path, what: error.to_string() }),
            },
            Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(StateError::Read { path, source }),
        }
    }

    /// Writes JSON so that it survives a power cut.
    pub(crate) fn store(&self, name: &str, value: &impl Serialize) -> Result<(), StateError> {
        self.store_text(name, encode(value)?.as_slice())
    }

    /// As [`store`](Self::store), for text.
    pub(crate) fn store_text(&self, name: &str, text: &[u8]) -> Result<(), StateError> {
        let path = self.path(name);
        install(&path, text, 0o600, |_| Ok(())).map_err(|source| StateError::Write { path, source })
    }

    /// Writes JSON so that it survives this process; a power cut ends what it is about, too.
    pub(crate) fn note(&self, name: &str, value: &impl Serialize) -> Result<(), StateError> {
        let path = self.path(name);
        replace(&path, &encode(value)?, 0o600).map_err(|source| StateError::Write { path, source })
    }

    /// Removes a file that is there.
    pub(crate) fn remove(&self, name: &str) -> Result<(), StateError> {
        let path = self.path(name);
        fs::remove_file(&path).map_err(|source| StateError::Write { path, source })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Refuses a directory that others than its owner can look into.
    pub(crate) fn refuse_open_mode(&self) -> Result<(), StateError> {
        let path = self.0.clone();
        match fs::metadata(&path) {
            Ok(metadata) if metadata.permissions().mode() & 0o077 != 0 => {
                Err(StateError::Open { path, mode: metadata.permissions().mode() & 0o7777 })
            }
            Ok(_) => Ok(()),
            Err(source) => Err(StateError::Read { path, source }),
        }
    }
}

/// What is kept may be secret.
fn encode(value: &impl Serialize) -> Result<Zeroizing<Vec<u8>>, StateError> {
    serde_json::to_vec(value)
        .map(Zeroizing::new)
        .map_err(|error| StateError::Invalid { path: PathBuf::new(), what: error.to_string() })
}
