//! The keys of issuers as they publish them (OpenID Connect Discovery 1.0), kept for a while.

use std::{collections::HashMap, sync::Arc};

use arc_swap::ArcSwapOption;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Mutex;

use super::{
    Refusal,
    fetch::{FetchError, Roots, Url, get},
    jws::KeySet,
};

/// An issuer, and how to reach it.
#[derive(Clone, Eq, Hash, PartialEq)]
pub(super) struct Issuer {
    /// As its tokens name it.
    pub(super) name: String,
    /// The same, as a place.
    pub(super) url: Url,
    /// Who certifies its web server.
    pub(super) roots: Roots,
}

/// What is known of the issuers that operators have named. Whoever shows tokens of unknown keys makes
/// the appliance ask an issuer once a minute and no oftener, and holds up nobody whose key is known.
#[derive(Default)]
pub(super) struct Issuers(Mutex<HashMap<Issuer, Arc<Known>>>);

#[derive(Default)]
struct Known {
    fetched: ArcSwapOption<Fetched>,
    /// Held while the issuer is asked: who comes meanwhile waits for the same answer.
    asked_at: Mutex<Option<Timestamp>>,
}

struct Fetched {
    keys: Arc<KeySet>,
    at: Timestamp,
}

/// RFC 8414 section 2; all else that is in there means nothing here.
#[derive(Deserialize)]
struct Configuration {
    issuer: String,
    jwks_uri: String,
}

impl Issuers {
    /// The keys as they were a while ago, or newer.
    pub(super) async fn keys(
        &self,
        issuer: &Issuer,
        now: Timestamp,
    ) -> Result<Arc<KeySet>, Refusal> {
        self.at_least_of(issuer, now, FRESH).await
    }

    /// The keys as they are now, if they have not been asked for just before.
    pub(super) async fn newest_keys(
        &self,
        issuer: &Issuer,
        now: Timestamp,
    ) -> Result<Arc<KeySet>, Refusal> {
        self.at_least_of(issuer, now, SignedDuration::ZERO).await
    }

    async fn at_least_of(
        &self,
        issuer: &Issuer,
        now: Timestamp,
        age: SignedDuration,
    ) -> Result<Arc<KeySet>, Refusal> {
        let known = self.0.lock().await.entry(issuer.clone()).or_default().clone();
        if let Some(keys) = known.keys_within(age, now) {
            return Ok(keys);
        }
        let mut asked_at = known.asked_at.lock().await;
        if asked_at.is_none_or(|asked_at| !is_within(asked_at, PAUSE, now)) {
            *asked_at = Some(now);
            match fetch(issuer, now).await {
                Ok(keys) => {
                    let fetched = Fetched { keys: Arc::new(keys), at: now };
                    known.fetched.store(Some(Arc::new(fetched)));
                }
                Err(error) => {
                    let (issuer, error) = (&issuer.name, crate::describe(&error));
                    tracing::warn!(issuer, error, "the keys of an issuer cannot be fetched");
                }
            }
        }
        // What it published less than an hour ago it would hardly take back without a word.
        known.keys_within(STALE, now).ok_or_else(|| Refusal::Unreachable(issuer.name.clone()))
    }
}

impl Known {
    fn keys_within(&self, age: SignedDuration, now: Timestamp) -> Option<Arc<KeySet>> {
        let fetched = self.fetched.load();
        let fetched = fetched.as_ref().filter(|fetched| is_within(fetched.at, age, now))?;
        Some(fetched.keys.clone())
    }
}

/// Whether `then` is less than `age` ago; never if the clock was set back since.
fn is_within(then: Timestamp, age: SignedDuration, now: Timestamp) -> bool {
    let passed = then.duration_until(now);
    !passed.is_negative() && passed < age
}

async fn fetch(issuer: &Issuer, now: Timestamp) -> Result<KeySet, FetchError> {
    let document = get(&issuer.url.below(CONFIGURATION), &issuer.roots, now).await?;
    let configuration: Configuration = serde_json::from_slice(&document)
        .map_err(|error| FetchError::Content(format!("its configuration: {error}")))?;
    // Section 4.3: else one issuer could speak for another.
    if configuration.issuer != issuer.name {
        let other = configuration.issuer;
        return Err(FetchError::Content(format!("its configuration is that of {other:?}")));
    }
    let bad_uri = |what: String| FetchError::Content(format!("its jwks_uri: {what}"));
    let url = Url::parse(&configuration.jwks_uri).map_err(bad_uri)?;
    if !url.is_tls() && issuer.url.is_tls() {
        return Err(bad_uri(format!("{:?} is not https", configuration.jwks_uri)));
    }
    let document = get(&url, &issuer.roots, now).await?;
    let keys: Value = serde_json::from_slice(&document)
        .map_err(|error| FetchError::Content(format!("its keys: {error}")))?;
    KeySet::parse(&keys).map_err(|what| FetchError::Content(format!("its keys: {what}")))
}

/// Section 4.
const CONFIGURATION: &str = "/.well-known/openid-configuration";

/// Keys of this age are taken without asking. An issuer that takes a key back is heard so late.
const FRESH: SignedDuration = SignedDuration::from_mins(10);

/// Keys of this age are taken when the issuer does not answer.
const STALE: SignedDuration = SignedDuration::from_hours(1);

/// How often an issuer is asked at most, whether it answers or not.
const PAUSE: SignedDuration = SignedDuration::from_mins(1);

#[cfg(test)]
mod tests;
