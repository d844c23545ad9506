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
    files::{self, FileError},
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
pub enum BoundKey {
    /// P-256 in PKCS#8.
    File(PathBuf),
    /// In a token, never extractable.
    Token(Box<KeySettings>),
}

/// The key cannot be used.
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
    /// The new key cannot be written.
    #[error(transparent)]
    Write(#[from] FileError),
    /// No thread could be started for the token.
    #[error("cannot use the token")]
    Thread(#[source] io::Error),
    /// The token or its key cannot be used.
    #[error(transparent)]
    Token(#[from] TokenError),
}

impl BoundKeyError {
    /// What to do about it, if there is something.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::File(error @ IdentityError::OpenKey { .. }) => error.hint(),
            Self::File(_) | Self::Token(TokenError::KeyMissing { .. }) => {
                Some("`chancery bot key --make` makes it there".to_owned())
            }
            _ => None,
        }
    }
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

    /// Makes the key, where there is none yet; gives its public half.
    ///
    /// # Errors
    ///
    /// There is something already, or the place cannot be used.
    pub async fn make(&self) -> Result<PublicKey, BoundKeyError> {
        match self {
            Self::File(path) => {
                let key = LocalKey::generate().map_err(|error| no_key(path, error))?;
                let text = key.private_pem().map_err(|error| no_key(path, error))?;
                files::write_private(path, text.as_bytes())?;
            }
            Self::Token(settings) => {
                let token = Token::new(settings).map_err(BoundKeyError::Thread)?;
                token::generate(&token, settings.join.clone(), vec![]).await?;
            }
        }
        self.public_key().await
    }

    /// What an operator adds the bot with.
    ///
    /// # Errors
    ///
    /// There is no such key, or the place cannot be used.
    pub async fn public_key(&self) -> Result<PublicKey, BoundKeyError> {
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
    key: Option<Box<KeySettings>>,
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

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::PermissionsExt as _, process::Command};

    use super::*;

    #[tokio::test]
    async fn a_key_in_a_file_proves_what_openssl_verifies() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let key = BoundKey::File(at("key"));
        let public_key = key.make().await.unwrap();
        assert_eq!(fs::metadata(at("key")).unwrap().permissions().mode() & 0o777, 0o600);
        let again = key.make().await;
        assert!(matches!(again, Err(BoundKeyError::Write(FileError::Exists(_)))), "{again:?}");

        let name: BotName = "ci".parse().unwrap();
        let proof = key.prove(&name, "challenge", "csr").await.unwrap();
        let JoinProof::BoundKey { signature, scheme, .. } = proof else { panic!() };
        assert_eq!(scheme, SignatureScheme::EcdsaP256Sha256);
        fs::write(at("key.pem"), public_key.to_pem()).unwrap();
        fs::write(at("signature"), STANDARD.decode(signature).unwrap()).unwrap();
        fs::write(at("statement"), "chancery bot join 1\nci\nchallenge\ncsr").unwrap();
        let verified = Command::new("openssl")
            .current_dir(directory.path())
            .args(["dgst", "-sha256", "-verify", "key.pem", "-signature", "signature", "statement"])
            .output()
            .unwrap();
        assert!(verified.status.success(), "{verified:?}");

        fs::set_permissions(at("key"), fs::Permissions::from_mode(0o644)).unwrap();
        let open = key.prove(&name, "challenge", "csr").await;
        let open = open.err().unwrap();
        assert!(matches!(open, BoundKeyError::File(IdentityError::OpenKey { .. })), "{open}");
    }
}
