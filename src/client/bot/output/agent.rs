//! An ssh-agent socket: the key is in memory, or in a PKCS#11 token, and never in a file.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use api::SshUserRequest;
use pki::{
    keys::{PublicKey, Signature},
    names::Principal,
    token::{KeyLabel, TokenError},
};
use serde::Deserialize;
use tokio::{net::UnixListener, task::AbortHandle, time::sleep};

use super::{ListenError, MakeError, Making, material};
use crate::{
    accounts::User,
    bot::{
        bundle::Life,
        socket::SocketFile,
        token::{KeySettings, Token, TokenKey},
    },
    session_key::SessionKey,
    ssh_agent::{Agent, Identity, LoginKey},
};

/// `kind = "agent"`.
///
/// ```toml
/// socket = "/run/chancery-bot/agent.sock"     # for SSH_AUTH_SOCK and ssh's IdentityAgent
/// users = ["deploy"]                          # who may use it, besides whoever runs the agent
/// principals = ["deploy"]                     # absent: all that the role gives
/// [output.key]                                # absent: in memory
/// module = "/usr/lib/softhsm/libsofthsm2.so"
/// token = { label = "bots" }
/// pin_file = "/etc/chancery/bots.pin"
/// name = "ci"                                 # the keys login/ci-1 and login/ci-2 in turn
/// ```
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub(in crate::bot) struct Settings {
    /// The socket.
    pub(in crate::bot) socket: PathBuf,
    /// Who may use it, besides the agent's own user.
    #[serde(default)]
    users: BTreeSet<User>,
    /// What the certificate names; empty for all that the role gives.
    #[serde(default)]
    principals: BTreeSet<Principal>,
    /// In which token the key is; absent for the agent's memory.
    #[serde(default)]
    pub(in crate::bot) key: Option<Box<KeySettings>>,
}

/// The ssh-agent, served until this is dropped.
#[derive(Debug)]
pub(in crate::bot) struct AgentSocket {
    agent: Arc<Agent<Key>>,
    keys: Keys,
    principals: BTreeSet<Principal>,
    serving: AbortHandle,
    _file: SocketFile,
}

/// Where keys are made.
#[derive(Debug)]
enum Keys {
    Memory,
    Token {
        token: Arc<Token>,
        labels: [KeyLabel; 2],
        /// Which of them the key has that is shown, or was last.
        shown: Mutex<Option<usize>>,
    },
}

/// A key that logs in.
#[derive(Debug)]
enum Key {
    Memory(SessionKey),
    Token(TokenKey),
}

impl AgentSocket {
    /// Listens. There is no identity until the first renewal.
    pub(in crate::bot) fn listen(settings: &Settings) -> Result<Self, ListenError> {
        let keys = match &settings.key {
            None => Keys::Memory,
            Some(key) => Keys::Token {
                token: Token::new(key)
                    .map_err(|source| ListenError { path: settings.socket.clone(), source })?,
                labels: key.login.clone(),
                shown: Mutex::default(),
            },
        };
        // The kernel lets nobody else connect, or the agent answers nobody else.
        let mode = if settings.users.is_empty() { 0o600 } else { 0o666 };
        let (file, listener) = SocketFile::listen(&settings.socket, mode)?;
        let own = rustix::process::geteuid().as_raw();
        let users = settings.users.iter().map(|User(uid)| *uid).chain([own]);
        let agent = Arc::new(Agent::new(users.collect()));
        let serving = tokio::spawn(serve(Arc::clone(&agent), listener)).abort_handle();
        let principals = settings.principals.clone();
        Ok(Self { agent, keys, principals, serving, _file: file })
    }

    /// Makes a key, has it certified, and shows it instead of the one before.
    pub(in crate::bot) async fn renew(&self, making: &Making<'_>) -> Result<Life, MakeError> {
        let (key, turn) = self.keys.generate().await?;
        let request = SshUserRequest {
            role: making.role.to_owned(),
            public_key: key.public_key().to_openssh(),
            principals: self.principals.clone(),
            ttl: making.ttl,
            session: None,
            source_addresses: BTreeSet::new(),
            force_command: None,
        };
        let issued = making.client.issue_ssh_user(&request).await?;
        let identity = Identity::new(key, &issued.certificate, making.bot.as_str())
            .map_err(|error| MakeError::Unusable(error.to_string()))?;
        self.agent.show(identity);
        self.keys.turn(turn);
        Ok(material::life(&issued))
    }

    /// Lists and signs nothing, until the next renewal.
    pub(in crate::bot) fn withdraw(&self) {
        self.agent.withdraw();
    }
}

impl Drop for AgentSocket {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Keys {
    /// A new key, and whose turn it is with it.
    async fn generate(&self) -> Result<(Key, usize), MakeError> {
        match self {
            Self::Memory => Ok((Key::Memory(SessionKey::generate()?), 0)),
            Self::Token { token, labels, shown } => {
                // The key that is shown stays until the next one is; before the first, both are
                // what another process has left.
                let last = *shown.lock().unwrap_or_else(PoisonError::into_inner);
                let turn = last.map_or(0, |last| 1 - last);
                let stale = (0..labels.len()).filter(|it| Some(*it) != last);
                let stale = stale.map(|it| labels[it].clone()).collect();
                let key = TokenKey::generate(token, labels[turn].clone(), stale).await?;
                Ok((Key::Token(key), turn))
            }
        }
    }

    /// What was generated is shown.
    fn turn(&self, turn: usize) {
        if let Self::Token { shown, .. } = self {
            *shown.lock().unwrap_or_else(PoisonError::into_inner) = Some(turn);
        }
    }
}

impl LoginKey for Key {
    fn public_key(&self) -> &PublicKey {
        match self {
            Self::Memory(key) => key.public_key(),
            Self::Token(key) => key.public_key(),
        }
    }

    async fn sign(&self, data: &[u8]) -> Result<Signature, TokenError> {
        match self {
            Self::Memory(key) => key.sign(data).await,
            Self::Token(key) => key.sign(data).await,
        }
    }
}

async fn serve(agent: Arc<Agent<Key>>, listener: UnixListener) {
    while let Err(error) = Arc::clone(&agent).serve(&listener).await {
        // Too many open files, most likely: the connections that were open have ended now.
        tracing::error!(%error, "the ssh-agent takes no connection");
        sleep(PAUSE).await;
    }
}

const PAUSE: Duration = Duration::from_millis(200);
