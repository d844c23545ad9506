//! Joining: a token is used up, and the host has an identity.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use api::{HostMode, JoinRequest, JoinToken};
use jiff::Timestamp;
use pki::{keys::PublicKey, names::DnsName};
use thiserror::Error;

use super::state::{CA, IDENTITY, JOINED, JOINING, Membership, MembershipError};
use crate::{
    Client,
    local_key::{LocalKey, LocalKeyError},
    profile::ServerUrl,
    state::{StateDirectory, StateError},
};

/// What a host joins with.
#[derive(Clone, Debug)]
pub struct Joining {
    /// The appliance.
    pub server: ServerUrl,
    /// PEM of the root that the appliance's certificate leads to.
    pub ca: PathBuf,
    /// What `chancery host add` wrote.
    pub token_file: PathBuf,
    /// Where the agent will keep its state.
    pub state_directory: PathBuf,
    /// How long to go on trying while the appliance is busy.
    pub deadline: Duration,
}

/// A host that has joined.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Member {
    /// Its name.
    pub name: DnsName,
    /// What it does without news.
    pub mode: HostMode,
}

/// A host did not join.
#[derive(Debug, Error)]
pub enum JoinError {
    /// The appliance refused, or cannot be reached.
    #[error(transparent)]
    Client(#[from] crate::Error),
    /// The token's time is over.
    #[error("the join token for {name} expired at {expires_at}", name = .name.as_str())]
    Expired {
        /// For which host.
        name: DnsName,
        /// When.
        expires_at: Timestamp,
    },
    /// The key for TLS cannot be made.
    #[error(transparent)]
    Key(#[from] LocalKeyError),
    /// The host has joined before.
    #[error(transparent)]
    Member(#[from] MembershipError),
    /// The state cannot be written.
    #[error(transparent)]
    State(#[from] StateError),
    /// The token file cannot be used.
    #[error("{} is no join token", path.display())]
    Token {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The answer of the appliance cannot be used.
    #[error("the appliance's answer cannot be used: {0}")]
    Unusable(String),
}

impl JoinError {
    /// What to do about it, if there is something.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Client(error) => error.hint(),
            Self::Expired { name, .. } => Some(format!(
                "an operator makes a new one with `chancery host add {}`",
                name.as_str()
            )),
            Self::Key(_) | Self::Unusable(_) => None,
            Self::Member(error) => error.hint(),
            Self::State(error) => error.hint(),
            Self::Token { .. } => {
                Some("--token-file is what `chancery host add NAME` wrote".to_owned())
            }
        }
    }
}

/// Makes a TLS key here, has it certified for the token, and keeps both.
///
/// # Errors
///
/// [`JoinError`]; without success nothing is left that stands in the way of another try.
pub async fn join(joining: &Joining, now: Timestamp) -> Result<Member, JoinError> {
    let token = read_token(&joining.token_file)?;
    let state = StateDirectory::new(&joining.state_directory);
    state.create()?;
    let _lock = state.lock()?;
    Membership::refuse(&state)?;
    if now > token.expires_at {
        return Err(JoinError::Expired { name: token.name, expires_at: token.expires_at });
    }
    let ca = fs::read(&joining.ca)
        .map_err(|source| StateError::Read { path: joining.ca.clone(), source })?;
    let client = Client::stranger(&joining.server, &joining.ca, joining.deadline)?;
    let key = joining_key(&state)?;
    // The token is used up by what follows: what can fail for want of space must fail before.
    state.store_text(CA, &ca)?;
    let request = JoinRequest { secret: token.secret, csr: key.signing_request()? };
    let joined = client.join(&request).await?;
    if joined.name != token.name {
        return Err(JoinError::Unusable(format!("it is for {}", joined.name.as_str())));
    }
    PublicKey::from_pem(&joined.publication_key)
        .map_err(|error| JoinError::Unusable(format!("the publication key: {error}")))?;
    state.store_text(IDENTITY, &identity(&key, &joined.certificate, &joined.chain)?)?;
    let membership = Membership {
        name: joined.name,
        server: joining.server.clone(),
        mode: joined.mode,
        publication_key: joined.publication_key,
    };
    state.store(JOINED, &membership)?;
    state.remove(JOINING)?;
    Ok(Member { name: membership.name, mode: membership.mode })
}

/// The key to join with. It is kept until the host has joined: if the appliance's answer is lost, the
/// same key may ask again with the same token.
fn joining_key(state: &StateDirectory) -> Result<LocalKey, JoinError> {
    let path = state.path(JOINING);
    if let Ok(text) = fs::read_to_string(&path) {
        return Ok(LocalKey::from_private_pem(&zeroize::Zeroizing::new(text))?);
    }
    let key = LocalKey::generate()?;
    state.store_text(JOINING, key.private_pem()?.as_bytes())?;
    Ok(key)
}

/// Key, certificate and chain in one file, so that they change together.
pub(super) fn identity(
    key: &LocalKey,
    certificate: &str,
    chain: &[String],
) -> Result<zeroize::Zeroizing<Vec<u8>>, LocalKeyError> {
    let mut text = zeroize::Zeroizing::new(Vec::with_capacity(8 * 1024));
    text.extend_from_slice(key.private_pem()?.trim_end().as_bytes());
    text.push(b'\n');
    for pem in std::iter::once(certificate).chain(chain.iter().map(String::as_str)) {
        text.extend_from_slice(pem.trim_end().as_bytes());
        text.push(b'\n');
    }
    Ok(text)
}

fn read_token(path: &Path) -> Result<JoinToken, JoinError> {
    let read = fs::read(path).and_then(|text| Ok(serde_json::from_slice(&text)?));
    read.map_err(|source| JoinError::Token { path: path.to_owned(), source })
}
