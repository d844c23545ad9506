//! What bots ask for themselves, and what operators do about bots.

use api::{
    Because, Bot, BotApplied, BotIdentity, BotJoinRequest, BotName, BotRenewRequest, BotSpec,
    BotStatus, BotToken, BotTokenRequest, Bots, Challenge,
};

use super::Client;
use crate::Error;

impl Client {
    /// `POST /v1/bots`: adds a bot, or makes it what the specification says.
    ///
    /// # Errors
    ///
    /// As all: [`Error`].
    pub async fn apply_bot(&self, spec: &BotSpec) -> Result<BotApplied, Error> {
        self.post(&["bots"], spec).await
    }

    /// `GET /v1/bots`.
    ///
    /// # Errors
    ///
    /// As all: [`Error`].
    pub async fn bots(&self) -> Result<Bots, Error> {
        self.get(&["bots"]).await
    }

    /// `GET /v1/bots/{name}`.
    ///
    /// # Errors
    ///
    /// As all: [`Error`].
    pub async fn bot(&self, name: &BotName) -> Result<Bot, Error> {
        self.get(&["bots", name.as_str()]).await
    }

    /// `POST /v1/bots/{name}/token`: a secret to join with.
    ///
    /// # Errors
    ///
    /// As all: [`Error`].
    pub async fn bot_token(
        &self,
        name: &BotName,
        request: &BotTokenRequest,
    ) -> Result<BotToken, Error> {
        self.post(&["bots", name.as_str(), "token"], request).await
    }

    /// `POST /v1/bots/{name}/remove`.
    ///
    /// # Errors
    ///
    /// As all: [`Error`].
    pub async fn remove_bot(&self, name: &BotName, because: &Because) -> Result<Bot, Error> {
        self.post(&["bots", name.as_str(), "remove"], because).await
    }

    /// `POST /v1/join/challenge`, by a stranger.
    ///
    /// # Errors
    ///
    /// As all: [`Error`].
    pub async fn join_challenge(&self) -> Result<Challenge, Error> {
        self.post(&["join", "challenge"], &serde_json::json!({})).await
    }

    /// `POST /v1/join/bot`, by a stranger.
    ///
    /// # Errors
    ///
    /// As all: [`Error`].
    pub async fn join_as_bot(&self, request: &BotJoinRequest) -> Result<BotIdentity, Error> {
        self.post(&["join", "bot"], request).await
    }

    /// `POST /v1/bot/renew`, by an instance.
    ///
    /// # Errors
    ///
    /// As all: [`Error`].
    pub async fn renew_bot(&self, request: &BotRenewRequest) -> Result<BotIdentity, Error> {
        self.post(&["bot", "renew"], request).await
    }

    /// `GET /v1/bot`, by an instance: confirms the certificate that it asks with.
    ///
    /// # Errors
    ///
    /// As all: [`Error`].
    pub async fn bot_status(&self) -> Result<BotStatus, Error> {
        self.get(&["bot"]).await
    }
}
