//! A key that exists in this process's memory only, for SSH.

use aws_lc_rs::{
    encoding::{AsDer, PublicKeyX509Der},
    signature::{Ed25519KeyPair, KeyPair},
};
use pki::{
    keys::{PublicKey, Signature},
    token::TokenError,
};

use crate::{local_key::LocalKeyError, ssh_agent::LoginKey};

/// An Ed25519 key for one session, or for one certificate. There is no way to write it down; its
/// memory is cleared when it is dropped (`OPENSSL_free` of AWS-LC does that to all it frees).
#[derive(Debug)]
pub struct SessionKey {
    pair: Ed25519KeyPair,
    public_key: PublicKey,
}

impl SessionKey {
    /// Makes a new key.
    ///
    /// # Errors
    ///
    /// [`LocalKeyError::Generate`].
    pub fn generate() -> Result<Self, LocalKeyError> {
        let pair = Ed25519KeyPair::generate()?;
        let spki: PublicKeyX509Der<'_> = pair.public_key().as_der()?;
        let public_key =
            PublicKey::from_spki_der(spki.as_ref()).map_err(|_| LocalKeyError::Generate)?;
        Ok(Self { pair, public_key })
    }

    /// The public key line, without comment and line end.
    pub fn public_line(&self) -> String {
        self.public_key.to_openssh()
    }
}

impl LoginKey for SessionKey {
    fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    async fn sign(&self, data: &[u8]) -> Result<Signature, TokenError> {
        Ok(Signature(self.pair.sign(data).as_ref().to_vec()))
    }
}
