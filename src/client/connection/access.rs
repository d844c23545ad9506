//! Sessions, locks and revocations.

use std::time::Duration;

use api::{
    AccountReport, Because, Effect, EffectQuery, LockEffect, LockPreview, LockRequest, Locked,
    Locks, RevokeRequest, Revoked, Session, SessionEnded, SessionQuery, SessionRequest, Sessions,
    UnlockRequest,
};
use pki::names::Upn;
use reqwest::Method;
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::Instant;

use super::{Client, append_query};
use crate::Error;

impl Client {
    /// `GET /v1/directory/accounts/{upn}`.
    ///
    /// # Errors
    ///
    /// As all: [`Error`].
    pub async fn account(&self, upn: &Upn) -> Result<AccountReport, Error> {
        self.get(&["directory", "accounts", upn.as_str()]).await
    }

    /// `POST /v1/sessions`.
    ///
    /// # Errors
    ///
    /// As all: [`Error`].
    pub async fn request_session(&self, request: &SessionRequest) -> Result<Session, Error> {
        self.post(&["sessions"], request).await
    }

    /// `GET /v1/sessions`.
    ///
    /// # Errors
    ///
    /// As all: [`Error`].
    pub async fn sessions(&self, query: &SessionQuery) -> Result<Sessions, Error> {
        self.query(&["sessions"], query).await
    }

    /// `GET /v1/sessions/{id}`.
    ///
    /// # Errors
    ///
    /// As all: [`Error`].
    pub async fn session(&self, id: &str) -> Result<Session, Error> {
        self.get(&["sessions", id]).await
    }

    /// `POST /v1/sessions/{id}/approve`.
    ///
    /// # Errors
    ///
    /// As all: [`Error`].
    pub async fn approve_session(&self, id: &str, because: &Because) -> Result<Session, Error> {
        self.post(&["sessions", id, "approve"], because).await
    }

    /// `POST /v1/sessions/{id}/deny`.
    ///
    /// # Errors
    ///
    /// As all: [`Error`].
    pub async fn deny_session(&self, id: &str, because: &Because) -> Result<Session, Error> {
        self.post(&["sessions", id, "deny"], because).await
    }

    /// `POST /v1/sessions/{id}/heartbeat`: it is still needed.
    ///
    /// # Errors
    ///
    /// As all: [`Error`].
    pub async fn session_heartbeat(&self, id: &str) -> Result<Session, Error> {
        self.post(&["sessions", id, "heartbeat"], &serde_json::json!({})).await
    }

    /// `POST /v1/sessions/{id}/end`.
    ///
    /// # Errors
    ///
    /// As all: [`Error`].
    pub async fn end_session(&self, id: &str, because: &Because) -> Result<SessionEnded, Error> {
        self.post(&["sessions", id, "end"], because).await
    }

    /// `POST /v1/locks/preview`.
    ///
    /// # Errors
    ///
    /// As all: [`Error`].
    pub async fn preview_lock(&self, preview: &LockPreview) -> Result<LockEffect, Error> {
        self.post(&["locks", "preview"], preview).await
    }

    /// `POST /v1/locks`: from the answer on, nothing is signed for the target.
    ///
    /// # Errors
    ///
    /// As all: [`Error`].
    pub async fn lock(&self, request: &LockRequest) -> Result<Locked, Error> {
        self.post(&["locks"], request).await
    }

    /// `GET /v1/locks`.
    ///
    /// # Errors
    ///
    /// As all: [`Error`].
    pub async fn locks(&self) -> Result<Locks, Error> {
        self.get(&["locks"]).await
    }

    /// `POST /v1/locks/remove`: gives the locks that were removed.
    ///
    /// # Errors
    ///
    /// As all: [`Error`].
    pub async fn unlock(&self, request: &UnlockRequest) -> Result<Locks, Error> {
        self.post(&["locks", "remove"], request).await
    }

    /// `POST /v1/revoke`.
    ///
    /// # Errors
    ///
    /// As all: [`Error`].
    pub async fn revoke(&self, request: &RevokeRequest) -> Result<Revoked, Error> {
        self.post(&["revoke"], request).await
    }

    /// `GET /v1/effects/{change}`: the effect when it is complete, or as it is after `patience`
    /// (whole seconds).
    ///
    /// # Errors
    ///
    /// As all: [`Error`].
    pub async fn effect(&self, change: u64, patience: Duration) -> Result<Effect, Error> {
        let until = Instant::now() + patience;
        loop {
            let left = until.saturating_duration_since(Instant::now()).min(LONGEST_WAIT);
            let wait = u32::try_from(left.as_millis().div_ceil(1_000)).unwrap_or(u32::MAX);
            let query = EffectQuery { wait: Some(wait) };
            let effect: Effect = self.query(&["effects", &change.to_string()], &query).await?;
            if is_complete(&effect) || Instant::now() >= until {
                return Ok(effect);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    pub(super) async fn query<A: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &impl Serialize,
    ) -> Result<A, Error> {
        let mut request = self.request(Method::GET, path, None)?;
        append_query(request.url_mut(), query)?;
        self.answer(self.send(request).await?).await
    }
}

/// Whether a change is published and in force on all hosts.
fn is_complete(effect: &Effect) -> bool {
    effect.version.is_some() && effect.hosts.iter().all(|host| host.applied_after.is_some())
}

/// The longest that one request waits: an answer has to begin before the connection's time limit.
const LONGEST_WAIT: Duration = Duration::from_secs(20);
/// Between two questions, should an answer come before its time.
const PAUSE: Duration = Duration::from_millis(100);
