//! The bound key: what a bot proves by that it is the bot, each time it joins.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use api::{BotName, JoinProof, join_statement};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use pki::{
    keys::{PublicKey, SignatureScheme},
    token::TokenError,
    x509::encode_signature,
};
use serde::Deserialize;
use thiserror::Error;

use super::token::{self, KeySettings, Token};
use crate::{
    identity::{IdentityError, refuse_open_mode},
    local_key::{LocalKey, LocalKeyError},
};

/// `[join] method = "bound-key"`: the key is in a file, or in a PKCS#11 token.
///
/// ```toml
/// key_file = "/etc/chancery/ci.key"           # made by `chancery bot key --out`
/// ```
///
/// ```toml
/// [join.key]                                  # the key `join/ci` of the token
/// module = "/usr/lib/softhsm/libsofthsm2.so"
/// token = { label = "bots" }
/// pin_file = "/etc/chancery/bots.pin"
/// name = "ci"
/// ```
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "RawBoundKey")]
pub(super) enum BoundKey {
    /// P-256 in PKCS#8.
    File(PathBuf),
    /// In a token, never extractable.
    Token(KeySettings),
}

/// There is no proof.
#[derive(Debug, Error)]
pub enum BoundKeyError {
    /// The file cannot be used.
    #[error(transparent)]
    File(#[from] IdentityError),
    /// It holds no such key, or the key does not sign.
    #[error("{}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// Why.
        source: LocalKeyError,
    },
    /// No thread could be started for the token.
    #[error("cannot use the token")]
    Thread(#[source] io::Error),
    /// The token or its key cannot be used.
    #[error(transparent)]
    Token(#[from] TokenError),
}

impl BoundKey {
    /// Signs the statement of who joins, with which new key.
    pub(super) async fn prove(
        &self,
        name: &BotName,
        challenge: &str,
        csr: &str,
    ) -> Result<JoinProof, BoundKeyError> {
        let statement = join_statement(name, challenge, csr);
        let (scheme, signature) = match self {
            Self::File(path) => {
                let signature =
                    read(path)?.sign(&statement).map_err(|error| no_key(path, error))?;
                (SignatureScheme::EcdsaP256Sha256, signature)
            }
            Self::Token(settings) => {
                let label = settings.join.clone();
                let token = Token::new(settings).map_err(BoundKeyError::Thread)?;
                let key = token.run(move |session| session.look_up(&label)).await?;
                let scheme = key.public_key.default_scheme();
                let signature = token::sign(&token, key, statement).await?;
                (scheme, encode_signature(scheme, &signature))
            }
        };
        let signature = STANDARD.encode(signature);
        Ok(JoinProof::BoundKey { challenge: challenge.to_owned(), signature, scheme })
    }

    /// What an operator adds the bot with.
    pub(super) async fn public_key(&self) -> Result<PublicKey, BoundKeyError> {
        match self {
            Self::File(path) => read(path)?.public_key().map_err(|error| no_key(path, error)),
            Self::Token(settings) => {
                let label = settings.join.clone();
                let token = Token::new(settings).map_err(BoundKeyError::Thread)?;
                Ok(token.run(move |session| session.look_up(&label)).await?.public_key)
            }
        }
    }

    /// The files that it is made of.
    pub(super) fn paths(&self) -> Vec<&PathBuf> {
        match self {
            Self::File(path) => vec![path],
            Self::Token(settings) => settings.paths(),
        }
    }
}

fn read(path: &Path) -> Result<LocalKey, BoundKeyError> {
    refuse_open_mode(path)?;
    let unreadable = |source| IdentityError::Read { path: path.to_owned(), source };
    let text = zeroize::Zeroizing::new(fs::read_to_string(path).map_err(unreadable)?);
    LocalKey::from_private_pem(&text).map_err(|error| no_key(path, error))
}

fn no_key(path: &Path, source: LocalKeyError) -> BoundKeyError {
    BoundKeyError::Key { path: path.to_owned(), source }
}

/// As the file has it: exactly one of two places.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawBoundKey {
    key_file: Option<PathBuf>,
    key: Option<KeySettings>,
}

impl TryFrom<RawBoundKey> for BoundKey {
    type Error = &'static str;

    fn try_from(raw: RawBoundKey) -> Result<Self, &'static str> {
        match (raw.key_file, raw.key) {
            (Some(path), None) => Ok(Self::File(path)),
            (None, Some(settings)) => Ok(Self::Token(settings)),
            _ => Err("give either key_file = \"/PATH\", or a table [join.key] for one in a token"),
        }
    }
}
