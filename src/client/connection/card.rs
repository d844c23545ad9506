//! The registry of cards.

use api::{Because, CardChanged, CardQuery, CardRecord, Cards};

use super::Client;
use crate::Error;

impl Client {
    /// `GET /v1/cards`.
    ///
    /// # Errors
    ///
    /// As all: [`Error`].
    pub async fn cards(&self, query: &CardQuery) -> Result<Cards, Error> {
        self.query(&["cards"], query).await
    }

    /// `GET /v1/cards/{serial}`.
    ///
    /// # Errors
    ///
    /// As all: [`Error`].
    pub async fn card(&self, serial: u32) -> Result<CardRecord, Error> {
        self.get(&["cards", &serial.to_string()]).await
    }

    /// `POST /v1/cards/{serial}/release`.
    ///
    /// # Errors
    ///
    /// As all: [`Error`].
    pub async fn release_card(&self, serial: u32, because: &Because) -> Result<CardChanged, Error> {
        self.post(&["cards", &serial.to_string(), "release"], because).await
    }

    /// `POST /v1/cards/{serial}/remove`.
    ///
    /// # Errors
    ///
    /// As all: [`Error`].
    pub async fn remove_card(&self, serial: u32, because: &Because) -> Result<CardChanged, Error> {
        self.post(&["cards", &serial.to_string(), "remove"], because).await
    }
}
