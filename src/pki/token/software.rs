//! Software keys: a stand-in for a token in tests, never in production.

use crate::{
    keys::{KeyAlgorithm, Signature, SignatureScheme},
    token::{Generated, Input, KeyId, KeyLabel, KeyRef, KeyStore, Token, TokenError},
};

/// Keys in memory.
#[derive(Default)]
pub struct SoftwareToken {}

impl Token for SoftwareToken {
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

impl KeyStore for SoftwareToken {
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
