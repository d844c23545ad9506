//! The connection to the appliance: one method for each endpoint of [`api`].

mod access;
mod bot;
mod card;
mod host;

use std::{collections::VecDeque, time::Duration};

use api::{
    Authorities, BATCH_ITEMS, BatchItem, BatchResult, CertificatePage, CertificateRecord,
    IDEMPOTENCY_KEY, Issued, ListQuery, NDJSON, Problem, ProblemKind, SignRequest, Signed,
    SmartcardRequest, SshHostRequest, SshUserRequest, X509Request,
};
use jiff::Timestamp;
use pki::clock::{Clock, SystemClock};
use reqwest::{
    Method, Request, Response, Url,
    header::{CONTENT_TYPE, HeaderValue},
    redirect,
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::Instant;

use crate::{
    Error,
    error::{Peer, classify},
    identity::{self, Identity, IdentityError},
    profile::Settings,
};

/// A typed client of the appliance over mutual TLS.
///
/// Every operation that signs carries a random idempotency key of its own, so that an answer that
/// got lost, a 429 or a 503 can be asked for again without a second certificate; that is done until the
/// deadline of [`Settings`]. Dropping a future gives the operation up.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    peer: Peer,
    base: Url,
    deadline: Duration,
}

impl Client {
    /// Reads the identity and the CA of the settings. Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// [`Error::Identity`]: a file is missing or unusable.
    pub fn new(settings: &Settings) -> Result<Self, Error> {
        Self::as_caller(identity::load(settings)?, settings)
    }

    /// As [`new`](Self::new), with certificates and key in PEM that are in memory; the settings
    /// say where they came from.
    ///
    /// # Errors
    ///
    /// [`Error::Identity`]: they cannot be used.
    #[cfg(target_os = "linux")]
    pub(crate) fn holding(
        certificates: &str,
        key: &str,
        settings: &Settings,
    ) -> Result<Self, Error> {
        Self::as_caller(identity::load_held(certificates, key, settings)?, settings)
    }

    fn as_caller(identity: Identity, settings: &Settings) -> Result<Self, Error> {
        let peer = |not_after| Peer {
            server: settings.server.to_string(),
            ca: settings.ca.clone(),
            certificate: settings.certificate.clone(),
            not_after,
        };
        Self::with(identity, peer, settings.server.url(), settings.deadline)
    }

    fn with(
        identity: Identity,
        peer: impl FnOnce(Timestamp) -> Peer,
        base: Url,
        deadline: Duration,
    ) -> Result<Self, Error> {
        let peer = peer(identity.not_after);
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(identity.tls)
            .http1_only()
            .https_only(true)
            // An appliance is reached directly, and never sends its callers elsewhere.
            .no_proxy()
            .redirect(redirect::Policy::none())
            .referer(false)
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .user_agent(concat!("chancery/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| Error::Identity(IdentityError::Tls(error.to_string())))?;
        Ok(Self { http, peer, base, deadline })
    }

    /// `POST /v1/issue/ssh-user`.
    ///
    /// # Errors
    ///
    /// As all: [`Error`].
    pub async fn issue_ssh_user(&self, request: &SshUserRequest) -> Result<Issued, Error> {
        self.post(&["issue", "ssh-user"], request).await
    }

    /// `POST /v1/issue/ssh-host`.
    ///
    /// # Errors
    ///
    /// As all: [`Error`].
    pub async fn issue_ssh_host(&self, request: &SshHostRequest) -> Result<Issued, Error> {
        self.post(&["issue", "ssh-host"], request).await
    }

    /// `POST /v1/issue/x509`.
    ///
    /// # Errors
    ///
    /// As all: [`Error`].
    pub async fn issue_x509(&self, request: &X509Request) -> Result<Issued, Error> {
        self.post(&["issue", "x509"], request).await
    }

    /// `POST /v1/issue/smartcard`.
    ///
    /// # Errors
    ///
    /// As all: [`Error`].
    pub async fn issue_smartcard(&self, request: &SmartcardRequest) -> Result<Issued, Error> {
        self.post(&["issue", "smartcard"], request).await
    }

    /// As [`issue_smartcard`](Self::issue_smartcard), by an idempotency key that the caller keeps:
    /// the same request with the same key gives the same certificate, whenever it is asked for.
    ///
    /// # Errors
    ///
    /// As all: [`Error`].
    pub async fn issue_smartcard_once(
        &self,
        request: &SmartcardRequest,
        idempotency_key: &str,
    ) -> Result<Issued, Error> {
        let body = encode(request)?;
        let request = self.request(Method::POST, &["issue", "smartcard"], Some((JSON, body)))?;
        self.answer(self.deliver_as(request, idempotency_key).await?).await
    }

    /// `POST /v1/sign`.
    ///
    /// # Errors
    ///
    /// As all: [`Error`].
    pub async fn sign(&self, request: &SignRequest) -> Result<Signed, Error> {
        self.post(&["sign"], request).await
    }

    /// `POST /v1/batch`: at most [`BATCH_ITEMS`] items and [`api::BATCH_LEN`] bytes, else the
    /// appliance refuses. The answers come while the appliance still works on the rest. Items
    /// without an idempotency key get one.
    ///
    /// # Errors
    ///
    /// As all: [`Error`]; what becomes of each item is in its [`BatchResult`].
    pub async fn batch(&self, items: Vec<BatchItem>) -> Result<BatchAnswers, Error> {
        let expected = items.len();
        let mut body = Vec::with_capacity(expected.min(BATCH_ITEMS) * 512);
        for mut item in items {
            if item.idempotency_key.is_none() {
                item.idempotency_key = Some(random_key()?);
            }
            body.extend(encode(&item)?);
            body.push(b'\n');
        }
        let request = self.request(Method::POST, &["batch"], Some((NDJSON, body)))?;
        let response = self.deliver(request).await?;
        let peer = self.peer.clone();
        Ok(BatchAnswers { response, peer, received: Vec::new(), ready: VecDeque::new(), expected })
    }

    /// `GET /v1/certificates`: one page.
    ///
    /// # Errors
    ///
    /// As all: [`Error`].
    pub async fn certificates(&self, query: &ListQuery) -> Result<CertificatePage, Error> {
        let mut request = self.request(Method::GET, &["certificates"], None)?;
        append_query(request.url_mut(), query)?;
        self.answer(self.send(request).await?).await
    }

    /// `GET /v1/certificates/{issuer}/{serial}`.
    ///
    /// # Errors
    ///
    /// As all: [`Error`].
    pub async fn certificate(
        &self,
        issuer: &str,
        serial: &str,
    ) -> Result<CertificateRecord, Error> {
        let request = self.request(Method::GET, &["certificates", issuer, serial], None)?;
        self.answer(self.send(request).await?).await
    }

    /// `GET /v1/authorities`.
    ///
    /// # Errors
    ///
    /// As all: [`Error`].
    pub async fn authorities(&self) -> Result<Authorities, Error> {
        self.get(&["authorities"]).await
    }

    async fn get<A: DeserializeOwned>(&self, path: &[&str]) -> Result<A, Error> {
        let request = self.request(Method::GET, path, None)?;
        self.answer(self.send(request).await?).await
    }

    async fn post<A: DeserializeOwned>(
        &self,
        path: &[&str],
        operation: &impl Serialize,
    ) -> Result<A, Error> {
        let body = encode(operation)?;
        let request = self.request(Method::POST, path, Some((JSON, body)))?;
        self.answer(self.deliver(request).await?).await
    }

    /// Sends an operation until it has an answer or the deadline is over. It carries an
    /// idempotency key, so that sending it twice does no more than sending it once.
    async fn deliver(&self, request: Request) -> Result<Response, Error> {
        self.deliver_as(request, &random_key()?).await
    }

    async fn deliver_as(&self, mut request: Request, key: &str) -> Result<Response, Error> {
        let key = HeaderValue::from_str(key).map_err(|error| self.unclear(error))?;
        request.headers_mut().insert(IDEMPOTENCY_KEY, key);
        let deadline = Instant::now() + self.deadline;
        let mut in_doubt = false;
        loop {
            let again = request.try_clone();
            let error = match self.send(request).await {
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            in_doubt |= matches!(error, Error::Interrupted { .. });
            let (Some(next), Some(pause)) = (again, pause_before_retry(&error, in_doubt)) else {
                return Err(error);
            };
            if Instant::now() + pause > deadline {
                return Err(error);
            }
            tokio::time::sleep(pause).await;
            request = next;
        }
    }

    /// Sends once; an answer that is no success is an error.
    async fn send(&self, request: Request) -> Result<Response, Error> {
        let response = self.http.execute(request).await.map_err(|error| self.failed(&error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let body = response.bytes().await.map_err(|error| self.failed(&error))?;
        match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) => Err(Error::Problem(Box::new(problem))),
            Err(_) => Err(self.unclear(format_args!("HTTP status {status} without a problem"))),
        }
    }

    async fn answer<A: DeserializeOwned>(&self, response: Response) -> Result<A, Error> {
        let body = response.bytes().await.map_err(|error| self.failed(&error))?;
        serde_json::from_slice(&body).map_err(|error| self.unclear(error))
    }

    fn request(
        &self,
        method: Method,
        path: &[&str],
        body: Option<(&'static str, Vec<u8>)>,
    ) -> Result<Request, Error> {
        let mut url = self.base.clone();
        url.path_segments_mut()
            .map_err(|()| self.unclear("the server's URL has no path"))?
            .push("v1")
            .extend(path);
        let mut request = Request::new(method, url);
        if let Some((media_type, body)) = body {
            request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
            *request.body_mut() = Some(body.into());
        }
        Ok(request)
    }

    fn failed(&self, error: &reqwest::Error) -> Error {
        classify(error, &self.peer, SystemClock.now())
    }

    fn unclear(&self, what: impl std::fmt::Display) -> Error {
        Error::Answer { server: self.peer.server.clone(), what: what.to_string() }
    }
}

/// The answers of a batch, in the order of its items.
#[derive(Debug)]
pub struct BatchAnswers {
    response: Response,
    peer: Peer,
    /// Bytes of a line whose end has not come yet.
    received: Vec<u8>,
    ready: VecDeque<BatchResult>,
    /// How many answers are still to come.
    expected: usize,
}

impl BatchAnswers {
    /// The next answer; `None` when every item has had its own.
    ///
    /// # Errors
    ///
    /// [`Error::Interrupted`] when the connection ended before that. Items with idempotency keys
    /// of the caller's own may be sent again.
    pub async fn next(&mut self) -> Result<Option<BatchResult>, Error> {
        while self.ready.is_empty() && self.expected > 0 {
            let chunk = self.response.chunk().await;
            match chunk.map_err(|error| classify(&error, &self.peer, SystemClock.now()))? {
                Some(bytes) => self.take(&bytes)?,
                None => return Err(Error::Interrupted { server: self.peer.server.clone() }),
            }
        }
        let next = self.ready.pop_front();
        self.expected = self.expected.saturating_sub(usize::from(next.is_some()));
        Ok(next)
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), Error> {
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            self.received.extend_from_slice(piece);
            if self.received.ends_with(b"\n") {
                let result = serde_json::from_slice(&self.received).map_err(|error| {
                    Error::Answer { server: self.peer.server.clone(), what: error.to_string() }
                })?;
                self.ready.push_back(result);
                self.received.clear();
            }
        }
        Ok(())
    }
}

/// How long to wait before the same operation is worth sending again; `None` when it is not.
/// `in_doubt`: it was sent, and nobody knows what became of it; the appliance may be restarting.
fn pause_before_retry(error: &Error, in_doubt: bool) -> Option<Duration> {
    let seconds = match error {
        Error::Problem(problem) if is_for_now(problem.kind) => problem.retry_after.unwrap_or(1),
        Error::Interrupted { .. } => 1,
        Error::Connect { .. } if in_doubt => 1,
        _ => return None,
    };
    // Clients that were turned away together shall not come back together.
    let mut byte = [0];
    aws_lc_rs::rand::fill(&mut byte).ok()?;
    Some(Duration::from_secs(seconds.into()) + Duration::from_millis(u64::from(byte[0])))
}

/// Whether the same request may be granted a little later.
fn is_for_now(kind: ProblemKind) -> bool {
    matches!(kind, ProblemKind::TooManyRequests | ProblemKind::Unavailable)
}

/// An idempotency key: 128 random bits, unique among all that this caller ever sends.
///
/// # Errors
///
/// [`Error::Random`].
pub fn random_key() -> Result<String, Error> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| Error::Random)?;
    Ok(hex::encode(bytes))
}

fn encode(value: &impl Serialize) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(value).map_err(Error::Encode)
}

fn append_query(url: &mut Url, query: &impl Serialize) -> Result<(), Error> {
    let value = serde_json::to_value(query).map_err(Error::Encode)?;
    for (name, value) in value.as_object().into_iter().flatten() {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        url.query_pairs_mut().append_pair(name, &text);
    }
    Ok(())
}

const JSON: &str = "application/json";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest silence of a server that is at work on a request.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Shorter than the server's, so that no request is sent into a connection that it is closing.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_operation_in_doubt_waits_for_an_appliance_that_is_away() {
        let away = Error::Connect { server: String::new(), what: String::new() };
        assert_eq!(pause_before_retry(&away, false), None);
        let pause = pause_before_retry(&away, true).unwrap();
        assert!((1_000..1_256).contains(&pause.as_millis()), "{pause:?}");

        let denied = Error::Problem(Box::new(Problem::new(ProblemKind::Denied, "no")));
        assert_eq!(pause_before_retry(&denied, true), None);
    }
}
