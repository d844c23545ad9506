//! A key pair that the bot holds, in a file or in a token of its own.

use pki::keys::PublicKey;

use super::{BadMethod, Proven, Refusal, Signed};

/// The key that a bot is bound to.
pub(super) struct BoundKey(PublicKey);

impl BoundKey {
    pub(super) fn parse(pem: &str) -> Result<Self, BadMethod> {
        let bad = |error| BadMethod::new("public_key", format!("{error}"));
        let key = PublicKey::from_pem(pem).map_err(bad)?;
        key.check_offered().map_err(bad)?;
        Ok(Self(key))
    }

    pub(super) fn verify(&self, signed: &Signed<'_>) -> Result<Proven, Refusal> {
        signed.verify(&self.0, "the bound key")?;
        let who = format!("the bound {} key {}", self.0.algorithm(), self.0.fingerprint());
        Ok(Proven { who, once: None })
    }
}
