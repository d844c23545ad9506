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

use std::{io, path::PathBuf, time::Duration};

use api::HostMode;
use pki::names::DnsName;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    profile::{ServerUrl, Settings},
    state::{StateDirectory, StateError},
};

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

/// Whose state it is does not suit.
#[derive(Debug, Error)]
pub enum MembershipError {
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
    /// The directory cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
}

impl MembershipError {
    /// What to do about it, if there is something.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Joined { directory, .. } => Some(format!(
                "to join anew, stop the agent, move {} away, and get a new token with `chancery \
                 host add`",
                directory.display()
            )),
            Self::NotJoined(_) => Some("run `chancery host join` first".to_owned()),
            Self::State(error) => error.hint(),
        }
    }
}

impl Membership {
    /// Whose state it is.
    pub(super) fn read(state: &StateDirectory) -> Result<Self, MembershipError> {
        let path = state.path(JOINED);
        match state.refuse_open_mode() {
            Err(StateError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Err(MembershipError::NotJoined(path));
            }
            other => other?,
        }
        state.read_if_present(JOINED)?.ok_or(MembershipError::NotJoined(path))
    }

    /// Refuses a host that has joined already.
    pub(super) fn refuse(state: &StateDirectory) -> Result<(), MembershipError> {
        match state.read_if_present::<Self>(JOINED)? {
            Some(Self { name, server, .. }) => {
                let (server, directory) = (server.to_string(), state.path(""));
                Err(MembershipError::Joined { name, server, directory })
            }
            None => Ok(()),
        }
    }

    /// What the agent's connections are made with.
    pub(super) fn settings(&self, state: &StateDirectory) -> Settings {
        Settings {
            server: self.server.clone(),
            ca: state.path(CA),
            certificate: state.path(IDENTITY),
            key: state.path(IDENTITY),
            deadline: DEADLINE,
        }
    }
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
