//! Outputs: what a bot has for other programs, each with its own role, key and place.

pub(super) mod agent;
pub(super) mod database;
pub(in crate::bot) mod kubernetes;
pub(super) mod material;
pub(super) mod spiffe;
pub(super) mod ssh;
pub(super) mod tls;

use std::{
    io,
    path::{Path, PathBuf},
};

use api::{Authorities, BotName};
use pki::token::TokenError;
use serde::de::DeserializeOwned;
use thiserror::Error;

use self::agent::AgentSocket;
use super::{
    bundle::{Bundle, Life},
    config::{self, Place},
    workload_api::{self, WorkloadApi},
};
use crate::{Client, local_key::LocalKeyError};

/// What an output is, with the settings of its kind.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// Files that go into a directory.
    Files {
        /// What they are.
        kind: Box<FileKind>,
        /// Where they go.
        place: Box<Place>,
    },
    /// A socket that other programs ask.
    Socket(SocketKind),
}

/// Outputs that make files. A kind is a variant here, a word in [`Kind::read`], and an arm in
/// [`make`](Self::make).
#[derive(Clone, Debug)]
pub(super) enum FileKind {
    Database(database::Settings),
    Kubernetes(kubernetes::Settings),
    Spiffe(spiffe::Settings),
    Ssh(ssh::Settings),
    Tls(tls::Settings),
}

/// Outputs that listen on a socket. A kind is a variant here, a word in [`Kind::read`], an arm in
/// [`listen`](Self::listen), and a variant of [`Socket`].
#[derive(Clone, Debug)]
pub(super) enum SocketKind {
    Agent(agent::Settings),
    WorkloadApi(workload_api::Settings),
}

/// A socket that is served until this value is dropped.
#[derive(Debug)]
pub(super) enum Socket {
    Agent(AgentSocket),
    WorkloadApi(WorkloadApi),
}

impl Kind {
    /// Reads the settings of a kind, by the kind's word in the configuration file.
    pub(super) fn read(word: &str, table: toml::Table) -> Result<Self, String> {
        match word {
            "database" => files(table, FileKind::Database),
            "kubernetes" => files(table, FileKind::Kubernetes),
            "spiffe" => files(table, FileKind::Spiffe),
            "ssh" => files(table, FileKind::Ssh),
            "tls" => files(table, FileKind::Tls),
            "agent" => socket(table, SocketKind::Agent),
            "workload-api" => socket(table, SocketKind::WorkloadApi),
            _ => Err(format!("kind = {word:?} is none of those that there are")),
        }
    }

    /// Where its files go, if it has files.
    pub(super) fn place(&self) -> Option<&Place> {
        match self {
            Self::Files { place, .. } => Some(place.as_ref()),
            Self::Socket(_) => None,
        }
    }

    /// Whether its key is in a PKCS#11 token.
    pub(super) fn uses_token(&self) -> bool {
        matches!(self, Self::Socket(SocketKind::Agent(settings)) if settings.key.is_some())
    }

    /// The socket, if it is one.
    pub(super) fn socket(&self) -> Option<&Path> {
        match self {
            Self::Files { .. } => None,
            Self::Socket(kind) => Some(kind.path()),
        }
    }
}

impl FileKind {
    /// Makes a key, has it certified, and gives the files.
    pub(super) async fn make(&self, making: &Making<'_>) -> Result<Bundle, MakeError> {
        match self {
            Self::Database(settings) => database::make(settings, making).await,
            Self::Kubernetes(settings) => kubernetes::make(settings, making).await,
            Self::Spiffe(settings) => spiffe::make(settings, making).await,
            Self::Ssh(settings) => ssh::make(settings, making).await,
            Self::Tls(settings) => tls::make(settings, making).await,
        }
    }
}

impl SocketKind {
    /// The socket.
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Agent(settings) => &settings.socket,
            Self::WorkloadApi(settings) => &settings.socket,
        }
    }

    /// Listens. There is nothing to have until the first renewal.
    pub(super) fn listen(&self) -> Result<Socket, ListenError> {
        match self {
            Self::Agent(settings) => AgentSocket::listen(settings).map(Socket::Agent),
            Self::WorkloadApi(settings) => WorkloadApi::listen(settings).map(Socket::WorkloadApi),
        }
    }
}

impl Socket {
    /// Makes a key, has it certified, and serves it in the place of the old one.
    pub(super) async fn renew(&self, making: &Making<'_>) -> Result<Life, MakeError> {
        match self {
            Self::Agent(it) => it.renew(making).await,
            Self::WorkloadApi(it) => it.renew(making).await,
        }
    }

    /// Serves nothing more, until the next renewal.
    pub(super) fn withdraw(&self) {
        match self {
            Self::Agent(it) => it.withdraw(),
            Self::WorkloadApi(it) => it.withdraw(),
        }
    }
}

fn files<S: DeserializeOwned>(
    mut table: toml::Table,
    kind: impl FnOnce(S) -> FileKind,
) -> Result<Kind, String> {
    let place = Box::new(Place::take(&mut table)?);
    Ok(Kind::Files { kind: Box::new(kind(config::read(table)?)), place })
}

fn socket<S: DeserializeOwned>(
    table: toml::Table,
    kind: impl FnOnce(S) -> SocketKind,
) -> Result<Kind, String> {
    Ok(Kind::Socket(kind(config::read(table)?)))
}

/// A socket cannot be listened on.
#[derive(Debug, Error)]
#[error("cannot listen on {}", path.display())]
pub(super) struct ListenError {
    /// The socket.
    pub(super) path: PathBuf,
    /// Why.
    pub(super) source: io::Error,
}

/// Nothing was made; what was there before still is.
#[derive(Debug, Error)]
pub(super) enum MakeError {
    /// The appliance refused, or cannot be reached.
    #[error(transparent)]
    Client(#[from] crate::Error),
    /// A key cannot be made, or is not the certificate's.
    #[error(transparent)]
    Key(#[from] LocalKeyError),
    /// The settings ask for what cannot be had: what, and what to write instead.
    #[error("{0}")]
    Settings(String),
    /// The token that the key is to be in, or its PIN.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The appliance's answer cannot be used: what is wrong with it.
    #[error("the appliance's answer cannot be used: {0}")]
    Unusable(String),
}

/// What an output is made with: a new key each time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Making<'a> {
    /// Asks as the bot's instance.
    pub(super) client: &'a Client,
    /// The bot.
    pub(super) bot: &'a BotName,
    /// The role that grants it.
    pub(super) role: &'a str,
    /// Seconds of validity; `None` means as the role says.
    pub(super) ttl: Option<u32>,
    /// The authorities, as the appliance named them last.
    pub(super) authorities: &'a Authorities,
    /// Where the files of the bundle will be found, for those that name each other.
    pub(super) place: &'a Path,
}

#[cfg(test)]
mod tests;
