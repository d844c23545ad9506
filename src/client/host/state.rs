//! What the agent must not lose: a directory of its own, mode 0700.
//!
//! | file | what it is |
//! |---|---|
//! | `joined.json` | which host, of which appliance; it is the last file that joining writes |
//! | `ca.pem` | the CA that the appliance's certificate leads to |
//! | `identity.pem` | the agent's TLS key and certificate with its chain, one file so that they match |
//! | `bundle.json` | the last revocation bundle that was taken |
//! | `authorities.json` | the authorities, as the appliance named them last |
//! | `connections.json` | which sshd serves whom by which certificate |
//! | `joining.key` | the TLS key, from the first try to join until the host has |
//! | `lock` | held by the agent that runs |

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use api::HostMode;
use pki::names::DnsName;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use thiserror::Error;

use super::install::{install, replace};
use crate::profile::{ServerUrl, Settings};

/// The directory.
#[derive(Clone, Debug)]
pub(super) struct StateDirectory(PathBuf);

/// What a host is, from its joining on.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Membership {
    /// Its name, which session certificates must name.
    pub(super) name: DnsName,
    /// The appliance.
    pub(super) server: ServerUrl,
    /// What it does without news.
    pub(super) mode: HostMode,
    /// PEM of the key that signs revocation bundles.
    pub(super) publication_key: String,
}

/// The agent's state cannot be used.
#[derive(Debug, Error)]
pub enum StateError {
    /// Another agent runs.
    #[error("another agent uses {}", .0.display())]
    Busy(PathBuf),
    /// The host is a member already.
    #[error("this host has joined {server} as {name}", name = .name.as_str())]
    Joined {
        /// As whom.
        name: DnsName,
        /// Where.
        server: String,
        /// The directory that says so.
        directory: PathBuf,
    },
    /// The host has not joined.
    #[error("this host has not joined: there is no {}", .0.display())]
    NotJoined(PathBuf),
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
            Self::Busy(_) => Some("stop it first: `systemctl stop chancery-host`".to_owned()),
            Self::Joined { directory, .. } => Some(format!(
                "to join anew, stop the agent, move {} away, and get a new token with `chancery \
                 host add`",
                directory.display()
            )),
            Self::NotJoined(_) => Some("run `chancery host join` first".to_owned()),
            Self::Open { path, .. } => Some(format!("chmod 700 {}", path.display())),
            Self::Invalid { .. } | Self::Read { .. } | Self::Write { .. } => None,
        }
    }
}

impl StateDirectory {
    pub(super) fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// Makes the directory, unless it is there; private either way.
    pub(super) fn create(&self) -> Result<(), StateError> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.0);
        made.map_err(|source| StateError::Write { path: self.0.clone(), source })?;
        self.refuse_open_mode()
    }

    /// Takes the lock that only one agent can have. It is held until the file is dropped.
    pub(super) fn lock(&self) -> Result<File, StateError> {
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

    /// Refuses a host that has joined already.
    pub(super) fn refuse_joined(&self) -> Result<(), StateError> {
        match self.read_if_present::<Membership>(JOINED)? {
            Some(Membership { name, server, .. }) => {
                let (server, directory) = (server.to_string(), self.0.clone());
                Err(StateError::Joined { name, server, directory })
            }
            None => Ok(()),
        }
    }

    /// Whose state it is.
    pub(super) fn membership(&self) -> Result<Membership, StateError> {
        self.refuse_open_mode()?;
        let path = self.path(JOINED);
        self.read_if_present(JOINED)?.ok_or(StateError::NotJoined(path))
    }

    /// What the agent's connections are made with.
    pub(super) fn settings(&self, server: &ServerUrl) -> Settings {
        Settings {
            server: server.clone(),
            ca: self.path(CA),
            certificate: self.path(IDENTITY),
            key: self.path(IDENTITY),
            deadline: DEADLINE,
        }
    }

    /// Reads a file of JSON; `None` when it is not there.
    pub(super) fn read_if_present<T: DeserializeOwned>(
        &self,
        name: &str,
    ) -> Result<Option<T>, StateError> {
        let path = self.path(name);
        match fs::read(&path) {
            Ok(bytes) => match serde_json::from_slice(&bytes) {
                Ok(value) => Ok(Some(value)),
                Err(error) => Err(StateError::Invalid { path, what: error.to_string() }),
            },
            Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(StateError::Read { path, source }),
        }
    }

    /// Writes JSON so that it survives a power cut.
    pub(super) fn store(&self, name: &str, value: &impl Serialize) -> Result<(), StateError> {
        self.store_text(name, encode(value)?.as_slice())
    }

    /// As [`store`](Self::store), for text.
    pub(super) fn store_text(&self, name: &str, text: &[u8]) -> Result<(), StateError> {
        let path = self.path(name);
        install(&path, text, 0o600, |_| Ok(())).map_err(|source| StateError::Write { path, source })
    }

    /// Writes JSON so that it survives this process; a power cut ends what it is about, too.
    pub(super) fn note(&self, name: &str, value: &impl Serialize) -> Result<(), StateError> {
        let path = self.path(name);
        replace(&path, &encode(value)?, 0o600).map_err(|source| StateError::Write { path, source })
    }

    /// Removes a file that is there.
    pub(super) fn remove(&self, name: &str) -> Result<(), StateError> {
        let path = self.path(name);
        fs::remove_file(&path).map_err(|source| StateError::Write { path, source })
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn refuse_open_mode(&self) -> Result<(), StateError> {
        let path = self.0.clone();
        match fs::metadata(&path) {
            Ok(metadata) if metadata.permissions().mode() & 0o077 != 0 => {
                Err(StateError::Open { path, mode: metadata.permissions().mode() & 0o7777 })
            }
            Ok(_) => Ok(()),
            Err(source) if source.kind() == io::ErrorKind::NotFound => {
                Err(StateError::NotJoined(self.path(JOINED)))
            }
            Err(source) => Err(StateError::Read { path, source }),
        }
    }
}

fn encode(value: &impl Serialize) -> Result<Vec<u8>, StateError> {
    serde_json::to_vec(value)
        .map_err(|error| StateError::Invalid { path: PathBuf::new(), what: error.to_string() })
}

/// See the table above.
pub(super) const AUTHORITIES: &str = "authorities.json";
/// See the table above.
pub(super) const BUNDLE: &str = "bundle.json";
/// See the table above.
pub(super) const CA: &str = "ca.pem";
/// See the table above.
pub(super) const CONNECTIONS: &str = "connections.json";
/// See the table above.
pub(super) const IDENTITY: &str = "identity.pem";
/// See the table above.
pub(super) const JOINED: &str = "joined.json";
/// See the table above.
pub(super) const JOINING: &str = "joining.key";

/// How long a request of the agent may be tried again. Somebody may be waiting to log in.
const DEADLINE: Duration = Duration::from_secs(5);
