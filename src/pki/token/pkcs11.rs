//! PKCS#11 tokens: the only file that knows `cryptoki`.

use std::path::Path;

use crate::{
    keys::{KeyAlgorithm, Signature, SignatureScheme},
    secret::Secret,
    token::{Generated, Input, KeyId, KeyLabel, KeyRef, KeyStore, Token, TokenError},
};

/// A loaded PKCS#11 module: one per process.
pub struct Module {}

/// What identifies a token; slot numbers do not.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct TokenIdentity {
    /// CK_TOKEN_INFO.label, without its padding.
    pub label: String,
    /// CK_TOKEN_INFO.serialNumber.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// CK_TOKEN_INFO.manufacturerID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manufacturer: Option<String>,
    /// CK_TOKEN_INFO.model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
}

impl Module {
    /// Loads and initializes the module at an absolute path.
    ///
    /// # Errors
    ///
    /// The path is relative, or the file is no PKCS#11 module, or C_Initialize fails.
    pub fn load(_path: &Path) -> Result<Self, TokenError> {
        todo!()
    }

    /// The full identity of the one token that has everything that `wanted` names.
    ///
    /// # Errors
    ///
    /// None has, or more than one.
    pub fn identify(&self, _wanted: &TokenIdentity) -> Result<TokenIdentity, TokenError> {
        todo!()
    }

    /// Opens a session on that token. The first session of a process logs in, once.
    ///
    /// # Errors
    ///
    /// As [`identify`](Self::identify); [`TokenError::Pin`] when the login is refused or the
    /// token's flags say that one more wrong try would lock it.
    pub fn open(&self, _wanted: &TokenIdentity, _pin: &Secret) -> Result<Session, TokenError> {
        todo!()
    }

    /// Initializes an uninitialized token: sets label, SO PIN and user PIN.
    ///
    /// # Errors
    ///
    /// There is no free slot, or a token with this label is there already.
    pub fn initialize(
        &self,
        _label: &str,
        _so_pin: &Secret,
        _user_pin: &Secret,
    ) -> Result<TokenIdentity, TokenError> {
        todo!()
    }
}

/// A logged-in session on one token, for one thread.
pub struct Session {}

impl Token for Session {
    fn find(&mut self, _key: &KeyRef) -> Result<(), TokenError> {
        todo!()
    }

    fn sign(
        &mut self,
        _key: &KeyRef,
        _scheme: SignatureScheme,
        _input: Input<'_>,
    ) -> Result<Signature, TokenError> {
        todo!()
    }
}

impl KeyStore for Session {
    fn vacant(&mut self, _label: &KeyLabel, _id: &KeyId) -> Result<(), TokenError> {
        todo!()
    }

    fn generate(
        &mut self,
        _algorithm: KeyAlgorithm,
        _label: &KeyLabel,
        _id: &KeyId,
    ) -> Result<Generated, TokenError> {
        todo!()
    }

    fn destroy(&mut self, _key: &KeyRef) -> Result<(), TokenError> {
        todo!()
    }
}
