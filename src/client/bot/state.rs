//! What the agent must not lose: a directory of its own, mode 0700.
//!
//! | file | what it is |
//! |---|---|
//! | `identity.json` | the bot's own certificates and keys, by generations; replaced whole |
//! | `settled.json` | which bundles had their hook and their probe |
//! | `status.json` | how the agent stands, for `chancery bot status` |
//! | `lock` | held by the agent that runs |
//!
//! A key is in `identity.json` before the appliance is asked to certify it, and stays until
//! another is confirmed: after any end of the agent, the same question can be asked again.

use std::{fmt, path::Path};

use api::{BotIdentity, BotStatus};
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use super::{config::Config, status::Status};
use crate::{
    life::{Life, chance},
    local_key::{LocalKey, LocalKeyError},
    state::{StateDirectory, StateError},
};

/// The bot's own certificates, by generations.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Identities {
    /// The one that the appliance has seen in use.
    #[serde(default)]
    pub(super) confirmed: Option<Held>,
    /// A newer one, which was not used yet so far as is known.
    #[serde(default)]
    pub(super) fresh: Option<Held>,
    /// What the appliance was asked for, or is about to be.
    #[serde(default)]
    pub(super) asked: Option<Asked>,
    /// SHA-256 of the join token that was used up, hexadecimal.
    #[serde(default)]
    pub(super) used_token: Option<String>,
}

/// A certificate that is held, with its key.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Held {
    /// The instance of the bot.
    pub(super) instance: String,
    /// From 1.
    pub(super) generation: u64,
    /// Whether the instance may renew; else the bot joins anew.
    pub(super) renewable: bool,
    /// Its first moment.
    pub(super) not_before: Timestamp,
    /// Its last.
    pub(super) not_after: Timestamp,
    /// When there is to be another.
    pub(super) due: Timestamp,
    /// PEM, its own certificate first, then the chain.
    pub(super) certificates: String,
    /// PEM of the private key.
    pub(super) key: PrivatePem,
}

/// A key that is to be certified.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    /// The instance that renews; absent to join as a new one.
    #[serde(default)]
    pub(super) instance: Option<String>,
    /// PEM `CERTIFICATE REQUEST`, to be sent again as it is.
    pub(super) csr: String,
    /// PEM of the private key.
    pub(super) key: PrivatePem,
}

/// PEM of a private key: it cannot be printed, and its memory is cleared.
#[derive(Clone)]
pub(super) struct PrivatePem(Zeroizing<String>);

impl Identities {
    /// Reads them; there are none at first.
    pub(super) fn read(state: &StateDirectory) -> Result<Self, StateError> {
        Ok(state.read_if_present(IDENTITY)?.unwrap_or_default())
    }

    /// The newest certificate.
    pub(super) fn newest(&self) -> Option<&Held> {
        self.fresh.as_ref().or(self.confirmed.as_ref())
    }

    /// The key to ask with, for `instance` or for a new one: the one that was asked with before,
    /// if it was for the same. It is durable when this returns.
    pub(super) fn ask(
        &mut self,
        state: &StateDirectory,
        instance: Option<&str>,
    ) -> Result<Asked, AskError> {
        if let Some(asked) = self.asked.as_ref().filter(|it| it.instance.as_deref() == instance) {
            return Ok(asked.clone());
        }
        let key = LocalKey::generate()?;
        let asked = Asked {
            instance: instance.map(str::to_owned),
            csr: key.signing_request()?,
            key: PrivatePem::new(key.private_pem()?),
        };
        self.change(state, |it| it.asked = Some(asked.clone()))?;
        Ok(asked)
    }

    /// Keeps the appliance's answer; what was confirmed stays until the new one is.
    pub(super) fn keep(
        &mut self,
        state: &StateDirectory,
        held: Held,
        used_token: Option<String>,
    ) -> Result<(), StateError> {
        self.change(state, |it| {
            it.asked = None;
            it.fresh = Some(held);
            it.used_token = used_token.or(it.used_token.take());
        })
    }

    /// The appliance has answered to the newest certificate.
    pub(super) fn confirm(
        &mut self,
        state: &StateDirectory,
        status: &BotStatus,
    ) -> Result<(), StateError> {
        if self.fresh.is_none() {
            return Ok(());
        }
        self.change(state, |it| {
            it.confirmed = it.fresh.take();
            if let Some(held) = &mut it.confirmed {
                (held.generation, held.renewable) = (status.generation, status.renewable);
            }
        })
    }

    /// What is not on the disk did not happen.
    fn change(
        &mut self,
        state: &StateDirectory,
        change: impl FnOnce(&mut Self),
    ) -> Result<(), StateError> {
        let mut changed = self.clone();
        change(&mut changed);
        state.store(IDENTITY, &changed)?;
        *self = changed;
        Ok(())
    }
}

/// There is no key to ask with.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    #[error(transparent)]
    Key(#[from] LocalKeyError),
    #[error(transparent)]
    State(#[from] StateError),
}

impl Held {
    /// An answer to what was asked, received `now`.
    pub(super) fn new(it: BotIdentity, asked: &Asked, now: Timestamp) -> Result<Self, String> {
        let key = LocalKey::from_private_pem(asked.key.expose());
        if !key.is_ok_and(|key| key.is_certified_by(&it.certificate)) {
            return Err("the certificate is for another key".to_owned());
        }
        if asked.instance.as_ref().is_some_and(|instance| *instance != it.instance) {
            return Err(format!("it is for the instance {}", it.instance));
        }
        let life = Life::of_certificate(&it.certificate)?;
        let mut certificates = String::new();
        for pem in std::iter::once(&it.certificate).chain(&it.chain) {
            certificates.push_str(pem.trim_end());
            certificates.push('\n');
        }
        // A certificate may begin some time before it is given.
        let left = Life { not_before: life.not_before.max(now), ..life };
        Ok(Self {
            instance: it.instance,
            generation: it.generation,
            renewable: it.renewable,
            not_before: life.not_before,
            not_after: life.not_after,
            due: left.middle(chance()),
            certificates,
            key: asked.key.clone(),
        })
    }
}

impl PrivatePem {
    /// Takes the text over.
    pub(super) fn new(pem: Zeroizing<String>) -> Self {
        Self(pem)
    }

    /// Shows the key to the one call that needs it.
    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PrivatePem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivatePem(…)")
    }
}

impl Serialize for PrivatePem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for PrivatePem {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Zeroizing::new(text)))
    }
}

/// How the agent of a configuration stood when that last changed, and whether it runs now; `None`
/// if none has run yet.
///
/// # Errors
///
/// The directory cannot be read.
pub fn stored_status(config: &Config) -> Result<Option<(Status, bool)>, StateError> {
    let state = StateDirectory::new(config.state_directory());
    let Some(status) = state.read_if_present(STATUS)? else { return Ok(None) };
    match state.lock() {
        Ok(_) => Ok(Some((status, false))),
        Err(StateError::Busy(_)) => Ok(Some((status, true))),
        Err(error) => Err(error),
    }
}

/// The agent's directory, made if it is not there.
pub(super) fn open(path: &Path) -> Result<StateDirectory, StateError> {
    let state = StateDirectory::new(path);
    state.create()?;
    Ok(state)
}

/// See the table above.
pub(super) const IDENTITY: &str = "identity.json";
/// See the table above.
pub(super) const SETTLED: &str = "settled.json";
/// See the table above.
pub(super) const STATUS: &str = "status.json";
