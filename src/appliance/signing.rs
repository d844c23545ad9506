//! The signing queue and the supervisor of the token worker.

use std::{sync::Arc, time::Duration};

use pki::{
    keys::{Signature, SignatureScheme},
    token::{IssuingKey, KeyRef, RawKey, TokenError, pkcs11::TokenIdentity},
};
use thiserror::Error;

use crate::config;

/// A handle on the signing queue; cheap to clone.
#[derive(Clone)]
pub struct Signing {}

/// How a signature was not made.
#[derive(Clone, Debug, Error)]
pub enum SigningError {
    /// The queue is full, or the deadline passed before the token could sign.
    #[error("the token is busy")]
    Busy,
    /// The token worker is not there; it is being started again.
    #[error("the token is not reachable: {0}")]
    Down(String),
    /// The token refuses for good: PIN, missing key or mechanism.
    #[error(transparent)]
    Token(#[from] TokenError),
}

/// How the token is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum State {
    /// The worker is being started for the first time, or anew.
    Starting,
    /// It signs.
    Up,
    /// It does not, and this is why.
    Down(String),
}

impl Signing {
    /// Starts the worker, logs in and finds every key; returns when it can sign.
    ///
    /// # Errors
    ///
    /// The worker cannot be started, the PIN is refused, or a key is missing or unfit.
    pub async fn start(
        _settings: &config::Token,
        _identity: &TokenIdentity,
        _keys: Vec<KeyRef>,
    ) -> Result<Self, SigningError> {
        todo!()
    }

    /// Signs a prepared text with a CA's key.
    ///
    /// # Errors
    ///
    /// See [`SigningError`].
    pub async fn sign(
        &self,
        _key: &IssuingKey,
        _scheme: SignatureScheme,
        _message: &[u8],
        _deadline: Duration,
    ) -> Result<Signature, SigningError> {
        todo!()
    }

    /// Signs a digest with a raw key.
    ///
    /// # Errors
    ///
    /// See [`SigningError`].
    pub async fn sign_digest(
        &self,
        _key: &RawKey,
        _scheme: SignatureScheme,
        _digest: &[u8],
        _deadline: Duration,
    ) -> Result<Signature, SigningError> {
        todo!()
    }

    /// How the token is now.
    pub fn state(&self) -> Arc<State> {
        todo!()
    }
}
