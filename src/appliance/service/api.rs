//! `/v1`: from a request on the wire to an answer, without anything in between that decides.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Instant};

use api::{
    BATCH_LEN, BODY_LEN, CertificatePage, CertificateRecord, IDEMPOTENCY_KEY, Issued, ListQuery,
    NDJSON, Operation, Problem, ProblemKind, Signed,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header, request::Parts};
use hyper::body::Body as HttpBody;
use pki::{
    seal::{Kind, Summary},
    ssh, x509,
};
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::{
    Service,
    answer::{self, Body},
    batch,
    body::{Incoming, json},
    caller::{Peer, is_operator},
    connection::BODY_PATIENCE,
    metrics, problem,
    slots::InFlight,
};
use crate::{
    ledger::{Idempotency, Released},
    policy::{Caller, Request as Parsed},
};

/// The most certificates that one page may have.
const PAGE: u32 = 1_000;

const JSON: &str = "application/json";

/// Answers one request; `in_flight` ends with the answer's body.
pub(super) async fn answer<B>(
    service: &Arc<Service>,
    peer: &Peer,
    in_flight: InFlight,
    request: Request<B>,
) -> Response<Body>
where
    B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
{
    let started = Instant::now();
    let (head, body) = request.into_parts();
    let path = head.uri.path();
    let (name, response) = match Endpoint::find(path) {
        Some(endpoint) if head.method.as_str() == endpoint.method() => {
            let name = endpoint.name();
            let answering = endpoint.answer(service, peer, in_flight, &head, body);
            // A panic ends this request and nothing else.
            let answered = AssertUnwindSafe(answering).catch_unwind().await;
            let answered = answered.unwrap_or_else(|_| Err(problem::internal()));
            (name, answered.unwrap_or_else(|problem| answer::problem(&problem)))
        }
        found => {
            Incoming::new(body, BODY_PATIENCE).drain().await;
            match found {
                Some(endpoint) => (endpoint.name(), answer::method_not_allowed(endpoint.method())),
                None => ("unknown", answer::not_found(path)),
            }
        }
    };
    metrics::answered(name, response.status(), started.elapsed());
    response
}

/// What there is below `/v1`.
enum Endpoint<'a> {
    Authorities,
    Batch,
    Certificate {
        issuer: &'a str,
        serial: &'a str,
    },
    Certificates,
    /// One operation, and how its body is read.
    Operation {
        name: &'static str,
        read: Read,
    },
}

type Read = fn(&[u8]) -> Result<Operation, Problem>;

impl<'a> Endpoint<'a> {
    fn find(path: &'a str) -> Option<Self> {
        Some(match path.strip_prefix("/v1/")? {
            "authorities" => Self::Authorities,
            "batch" => Self::Batch,
            "certificates" => Self::Certificates,
            "issue/smartcard" => Self::Operation {
                name: "issue/smartcard",
                read: |text| read(text, Operation::Smartcard),
            },
            "issue/ssh-host" => Self::Operation {
                name: "issue/ssh-host",
                read: |text| read(text, Operation::SshHost),
            },
            "issue/ssh-user" => Self::Operation {
                name: "issue/ssh-user",
                read: |text| read(text, Operation::SshUser),
            },
            "issue/x509" => {
                Self::Operation { name: "issue/x509", read: |text| read(text, Operation::X509) }
            }
            "sign" => Self::Operation { name: "sign", read: |text| read(text, Operation::Sign) },
            path => {
                let (issuer, serial) = path.strip_prefix("certificates/")?.split_once('/')?;
                Self::Certificate { issuer, serial }
            }
        })
    }

    /// For the metrics.
    fn name(&self) -> &'static str {
        match self {
            Self::Authorities => "authorities",
            Self::Batch => "batch",
            Self::Certificate { .. } => "certificate",
            Self::Certificates => "certificates",
            Self::Operation { name, .. } => name,
        }
    }

    fn method(&self) -> &'static str {
        match self {
            Self::Authorities | Self::Certificate { .. } | Self::Certificates => "GET",
            Self::Batch | Self::Operation { .. } => "POST",
        }
    }

    async fn answer<B>(
        self,
        service: &Arc<Service>,
        peer: &Peer,
        in_flight: InFlight,
        head: &Parts,
        body: B,
    ) -> Result<Response<Body>, Problem>
    where
        B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
    {
        let mut body = Incoming::new(body, BODY_PATIENCE);
        match self.check(service, peer, head).await {
            Ok((caller, key)) => self.perform(service, caller, key, in_flight, head, body).await,
            Err(problem) => {
                body.drain().await;
                Err(problem)
            }
        }
    }

    /// What can be told without the body: who asks, and that the headers fit.
    async fn check<'p>(
        &self,
        service: &Service,
        peer: &'p Peer,
        head: &Parts,
    ) -> Result<(&'p Caller, Option<String>), Problem> {
        let caller = match peer.caller(&*service.clock) {
            Ok(caller) => caller,
            Err(problem) => return Err(service.refuse(peer, problem).await),
        };
        match self {
            Self::Authorities | Self::Certificate { .. } | Self::Certificates => Ok((caller, None)),
            Self::Batch => {
                media_type(&head.headers, NDJSON)?;
                Ok((caller, None))
            }
            Self::Operation { .. } => {
                media_type(&head.headers, JSON)?;
                Ok((caller, idempotency_key(&head.headers)?))
            }
        }
    }

    async fn perform<B>(
        self,
        service: &Arc<Service>,
        caller: &Caller,
        key: Option<String>,
        in_flight: InFlight,
        head: &Parts,
        body: Incoming<B>,
    ) -> Result<Response<Body>, Problem>
    where
        B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
    {
        match self {
            Self::Authorities => Ok(answer::json(StatusCode::OK, &service.authorities)),
            Self::Batch => {
                let results =
                    batch::results(service.clone(), caller.clone(), body, BATCH_LEN, in_flight);
                Ok(answer::streamed(NDJSON, results))
            }
            Self::Certificate { issuer, serial } => {
                let record = certificate(service, caller, issuer, serial).await?;
                Ok(answer::json(StatusCode::OK, &record))
            }
            Self::Certificates => {
                let page = certificates(service, caller, head.uri.query()).await?;
                Ok(answer::json(StatusCode::OK, &page))
            }
            Self::Operation { read, .. } => {
                let operation = read(&body.whole(BODY_LEN).await?)?;
                Ok(match perform(service, caller, operation, key).await? {
                    Done::Issued(issued) => answer::json(StatusCode::CREATED, &issued),
                    Done::Signed(signed) => answer::json(StatusCode::OK, &signed),
                })
            }
        }
    }
}

/// What an operation gave.
pub(super) enum Done {
    Issued(Issued),
    Signed(Signed),
}

/// Performs one operation, alone or of a batch.
pub(super) async fn perform(
    service: &Service,
    caller: &Caller,
    operation: Operation,
    key: Option<String>,
) -> Result<Done, Problem> {
    let idempotency = key.map(|key| idempotency(key, &operation)).transpose()?;
    match Parsed::try_from(operation)? {
        Parsed::Certify(request) => {
            let released = service.authority.issue(caller, request, idempotency).await?;
            metrics::issued(released.summary().kind);
            Ok(Done::Issued(issued(service, &released)))
        }
        Parsed::Sign(request) => {
            let (key, scheme) = (request.key.clone(), request.scheme);
            let released = service.authority.sign(caller, request, idempotency).await?;
            metrics::signed();
            let public_key = service.authority.raw_public_key(&key);
            Ok(Done::Signed(Signed {
                public_key: public_key.map(|key| key.to_pem()).unwrap_or_default(),
                signature: STANDARD.encode(x509::encode_signature(scheme, released.signature())),
                key,
                scheme,
            }))
        }
    }
}

/// The answer for a certificate whose record is durable.
fn issued(service: &Service, released: &Released) -> Issued {
    let summary = released.summary();
    Issued {
        kind: summary.kind,
        issuer: released.issuer().to_owned(),
        serial: summary.serial.to_string(),
        not_before: summary.not_before,
        not_after: summary.not_after,
        certificate: certificate_text(summary, released.bytes()),
        chain: service.chains.get(released.issuer()).cloned().unwrap_or_default(),
    }
}

fn certificate_text(summary: &Summary, bytes: &[u8]) -> String {
    match summary.kind {
        Kind::SshHost | Kind::SshUser => ssh::to_openssh(bytes, &summary.subject),
        Kind::Issuing
        | Kind::Kdc
        | Kind::Root
        | Kind::SmartcardLogon
        | Kind::TlsClient
        | Kind::TlsServer => x509::to_pem(bytes),
    }
}

async fn certificate(
    service: &Service,
    caller: &Caller,
    issuer: &str,
    serial: &str,
) -> Result<CertificateRecord, Problem> {
    let record = service.ledger.certificate(issuer, serial).await?;
    // That a certificate of somebody else exists is not told either.
    let may_see = |owner: &str| is_operator(caller) || caller.id.as_str() == owner;
    record.filter(|record| may_see(&record.caller)).ok_or_else(|| {
        let what = format!("no certificate of {issuer:?} has the serial number {serial:?}");
        Problem::new(ProblemKind::NotFound, what)
    })
}

async fn certificates(
    service: &Service,
    caller: &Caller,
    query: Option<&str>,
) -> Result<CertificatePage, Problem> {
    let mut query: ListQuery =
        serde_urlencoded::from_str(query.unwrap_or_default()).map_err(|error| {
            Problem::new(ProblemKind::BadRequest, format!("the query cannot be read: {error}"))
        })?;
    if query.limit.is_some_and(|limit| !(1..=PAGE).contains(&limit)) {
        return Err(Problem::new(ProblemKind::BadRequest, format!("limit is 1 to {PAGE}")));
    }
    if !is_operator(caller) {
        let own = caller.id.as_str();
        if let Some(other) = query.caller.filter(|wanted| wanted != own) {
            let detail = format!("only operators see what was issued to {other}");
            return Err(Problem::new(ProblemKind::Denied, detail).with_reason("not-an-operator"));
        }
        query.caller = Some(own.to_owned());
    }
    Ok(service.ledger.certificates(query).await?)
}

fn read<T: DeserializeOwned>(
    text: &[u8],
    operation: fn(T) -> Operation,
) -> Result<Operation, Problem> {
    Ok(operation(json(text)?))
}

/// The key with the hash of the whole request, in the one form that its type gives it.
fn idempotency(key: String, operation: &Operation) -> Result<Idempotency, Problem> {
    let text = serde_json::to_vec(operation).map_err(|error| {
        tracing::error!(%error, "a request cannot be written as JSON");
        problem::internal()
    })?;
    check_idempotency_key(&key)?;
    Ok(Idempotency { key, request: Sha256::digest(text).into() })
}

fn check_idempotency_key(key: &str) -> Result<(), Problem> {
    let printable = key.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    if printable && (1..=128).contains(&key.len()) {
        return Ok(());
    }
    let what = "an idempotency key has 1 to 128 printable ASCII characters";
    Err(Problem::new(ProblemKind::BadRequest, what))
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Problem::new(ProblemKind::BadRequest, "there are two idempotency keys"));
    }
    // What is no ASCII is refused with the other keys that cannot be.
    Ok(Some(String::from_utf8_lossy(value.as_bytes()).into_owned()))
}

/// Only this media type is taken; a charset may follow, but JSON is UTF-8 (RFC 8259 section 8.1).
fn media_type(headers: &HeaderMap, wanted: &str) -> Result<(), Problem> {
    let given = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let essence = given.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    if essence.eq_ignore_ascii_case(wanted.as_bytes()) {
        return Ok(());
    }
    let given = String::from_utf8_lossy(given);
    Err(Problem::new(
        ProblemKind::UnsupportedMediaType,
        format!("the body is {wanted} here, not {given:?}"),
    )
    .with_hint(format!("send Content-Type: {wanted}")))
}
