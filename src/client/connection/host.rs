//! What hosts ask for themselves, and what operators do about hosts.

use std::{path::Path, time::Duration};

use api::{
    Acknowledgement, Because, BundleQuery, ConsumeRequest, Host, HostRequest, Hosts, JoinRequest,
    JoinToken, Joined, LoginReport, RevocationBundle,
};
use pki::names::DnsName;
use reqwest::{Method, StatusCode};
use serde::Serialize;

use super::{Client, JSON, encode};
use crate::{Error, error::Peer, identity, profile::ServerUrl};

impl Client {
    /// A client without a certificate, which can do nothing but [`join`](Self::join).
    ///
    /// # Errors
    ///
    /// [`Error::Identity`]: the CA file is missing or unusable.
    pub fn stranger(server: &ServerUrl, ca: &Path, deadline: Duration) -> Result<Self, Error> {
        let peer = |not_after| Peer {
            server: server.to_string(),
            ca: ca.to_owned(),
            certificate: "(none)".into(),
            not_after,
        };
        Self::with(identity::load_stranger(ca)?, peer, server.url(), deadline)
    }

    /// `POST /v1/join`: uses a join token up.
    ///
    /// # Errors
    ///
    /// As all: [`Error`].
    pub async fn join(&self, request: &JoinRequest) -> Result<Joined, Error> {
        self.post(&["join"], request).await
    }

    /// `GET /v1/revocations`: waits for a later bundle; `None` when there is none by then. `wait`
    /// may be 20 seconds at most: a longer silence counts as a broken connection here.
    ///
    /// # Errors
    ///
    /// As all: [`Error`].
    pub async fn revocations(&self, query: BundleQuery) -> Result<Option<RevocationBundle>, Error> {
        let mut request = self.request(Method::GET, &["revocations"], None)?;
        {
            let mut pairs = request.url_mut().query_pairs_mut();
            query.after.map(|after| pairs.append_pair("after", &after.to_string()).finish());
        }
        if let Some(wait) = query.wait {
            request.url_mut().query_pairs_mut().append_pair("wait", &wait.to_string());
        }
        let response = self.send(request).await?;
        if response.status() == StatusCode::NO_CONTENT {
            return Ok(None);
        }
        self.answer(response).await.map(Some)
    }

    /// `POST /v1/revocations/acknowledge`.
    ///
    /// # Errors
    ///
    /// As all: [`Error`].
    pub async fn acknowledge(&self, it: &Acknowledgement) -> Result<(), Error> {
        self.tell(&["revocations", "acknowledge"], it).await
    }

    /// `POST /v1/logins`.
    ///
    /// # Errors
    ///
    /// As all: [`Error`].
    pub async fn report_logins(&self, report: &LoginReport) -> Result<(), Error> {
        self.tell(&["logins"], report).await
    }

    /// `POST /v1/consume`.
    ///
    /// # Errors
    ///
    /// As all: [`Error`]; a problem with the reason `used-up` when it was used elsewhere.
    pub async fn consume(&self, request: &ConsumeRequest) -> Result<(), Error> {
        self.tell(&["consume"], request).await
    }

    /// `POST /v1/hosts`.
    ///
    /// # Errors
    ///
    /// As all: [`Error`].
    pub async fn add_host(&self, request: &HostRequest) -> Result<JoinToken, Error> {
        self.post(&["hosts"], request).await
    }

    /// `GET /v1/hosts`.
    ///
    /// # Errors
    ///
    /// As all: [`Error`].
    pub async fn hosts(&self) -> Result<Hosts, Error> {
        self.get(&["hosts"]).await
    }

    /// `POST /v1/hosts/{name}/remove`.
    ///
    /// # Errors
    ///
    /// As all: [`Error`].
    pub async fn remove_host(&self, name: &DnsName, because: &Because) -> Result<Host, Error> {
        self.post(&["hosts", name.as_str(), "remove"], because).await
    }

    /// Sends what has no answer but that it was taken.
    async fn tell(&self, path: &[&str], what: &impl Serialize) -> Result<(), Error> {
        let request = self.request(Method::POST, path, Some((JSON, encode(what)?)))?;
        self.deliver(request).await.map(drop)
    }
}
