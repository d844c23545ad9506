//! `/v1`: from a request on the wire to an answer, without anything in between that decides.

use std::sync::Arc;

use api::{
    BATCH_LEN, BODY_LEN, IDEMPOTENCY_KEY, Issued, ListQuery, NDJSON, Operation, Problem,
    ProblemKind, Signed,
};
use axum::{
    Router,
    extract::{FromRequestParts, Path, RawQuery, Request, State, rejection::PathRejection},
    middleware,
    response::Response,
    routing::{MethodRouter, get, post},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header, request::Parts};
use pki::{
    names::NameError,
    seal::{Kind, Summary},
    ssh, x509,
};
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::{
    Service, access,
    answer::{self, Failure},
    batch,
    body::{Incoming, json},
    bots,
    caller::{AnyCaller, Peer, priority},
    cards,
    connection::BODY_PATIENCE,
    hosts, metrics, problem, revocations,
};
use crate::{
    ledger::{Idempotency, Released},
    policy::{Caller, Request as Parsed},
    signing::Priority,
};

/// The most certificates that one page may have.
const PAGE: u32 = 1_000;

pub(super) const JSON: &str = "application/json";

/// What there is below `/v1`. Each request has its [`Peer`] as an extension.
pub(super) fn router(service: Arc<Service>) -> Router {
    Router::new()
        .route("/v1/authorities", get(authorities))
        .route("/v1/batch", post(batch))
        .route("/v1/certificates", get(certificates))
        .route("/v1/certificates/{issuer}/{serial}", get(certificate))
        .route("/v1/consume", post(hosts::consume))
        .route("/v1/directory/accounts/{upn}", get(account))
        .route("/v1/effects/{change}", get(revocations::effect))
        .route("/v1/hosts", get(hosts::list).post(hosts::add))
        .route("/v1/hosts/{name}/remove", post(hosts::remove))
        .route("/v1/issue/smartcard", operation(Operation::Smartcard))
        .route("/v1/issue/ssh-host", operation(Operation::SshHost))
        .route("/v1/issue/ssh-user", operation(Operation::SshUser))
        .route("/v1/issue/x509", operation(Operation::X509))
        .route("/v1/logins", post(hosts::logins))
        .route("/v1/revocations", get(revocations::bundle))
        .route("/v1/revocations/acknowledge", post(revocations::acknowledge))
        .route("/v1/sign", operation(Operation::Sign))
        .merge(access::router())
        .merge(bots::router())
        .merge(cards::router())
        .fallback(async |uri: Uri, mut body: Incoming| {
            body.drain().await;
            answer::not_found(uri).await
        })
        .method_not_allowed_fallback(async |mut body: Incoming| {
            body.drain().await;
            answer::method_not_allowed().await
        })
        .layer(middleware::from_fn(answer::watch))
        .with_state(service)
}

async fn authorities(State(service): State<Arc<Service>>, _: Caller) -> Response {
    answer::json(StatusCode::OK, &service.authorities)
}

async fn account(
    State(service): State<Arc<Service>>,
    caller: Caller,
    upn: Result<Path<String>, PathRejection>,
) -> Result<Response, Failure> {
    let Path(upn) = upn.map_err(answer::bad_path)?;
    let upn = upn.parse().map_err(|error: NameError| {
        Problem::new(ProblemKind::BadRequest, error.to_string())
            .with_hint("name the account as account@domain")
    })?;
    Ok(answer::json(StatusCode::OK, &service.authority.account(&caller, &upn).await?))
}

async fn batch(State(service): State<Arc<Service>>, request: Request) -> Result<Response, Failure> {
    let check = |headers: &HeaderMap| media_type(headers, NDJSON);
    let (caller, (), body) = admit(&service, request, check).await?;
    Ok(answer::streamed(NDJSON, batch::results(service, caller, body, BATCH_LEN)))
}

async fn certificate(
    State(service): State<Arc<Service>>,
    caller: Caller,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Result<Response, Failure> {
    let Path((issuer, serial)) = path.map_err(answer::bad_path)?;
    let record = service.ledger.certificate(&issuer, &serial).await?;
    // That a certificate of somebody else exists is not told either.
    let may_see = |owner: &str| caller.is_operator() || caller.id.as_str() == owner;
    let record = record.filter(|record| may_see(&record.caller)).ok_or_else(|| {
        let what = format!("no certificate of {issuer:?} has the serial number {serial:?}");
        Problem::new(ProblemKind::NotFound, what)
    })?;
    Ok(answer::json(StatusCode::OK, &record))
}

async fn certificates(
    State(service): State<Arc<Service>>,
    caller: Caller,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let query = list_query(&caller, query.as_deref().unwrap_or_default())?;
    Ok(answer::json(StatusCode::OK, &service.ledger.certificates(query).await?))
}

/// What this caller may ask for: all but operators see their own only.
fn list_query(caller: &Caller, query: &str) -> Result<ListQuery, Problem> {
    let mut query: ListQuery = serde_urlencoded::from_str(query).map_err(|error| {
        Problem::new(ProblemKind::BadRequest, format!("the query cannot be read: {error}"))
    })?;
    if query.limit.is_some_and(|limit| !(1..=PAGE).contains(&limit)) {
        return Err(Problem::new(ProblemKind::BadRequest, format!("limit is 1 to {PAGE}")));
    }
    if !caller.is_operator() {
        let own = caller.id.as_str();
        if let Some(other) = query.caller.filter(|wanted| wanted != own) {
            let detail = format!("only operators see what was issued to {other}");
            return Err(Problem::new(ProblemKind::Denied, detail).with_reason("not-an-operator"));
        }
        query.caller = Some(own.to_owned());
    }
    Ok(query)
}

/// One operation, asked for with the one type of request that it has.
fn operation<T>(operation: fn(T) -> Operation) -> MethodRouter<Arc<Service>>
where
    T: DeserializeOwned + 'static,
{
    post(move |State(service): State<Arc<Service>>, request: Request| async move {
        let check = |headers: &HeaderMap| {
            media_type(headers, JSON)?;
            idempotency_key(headers)
        };
        let (caller, key, body) = admit(&service, request, check).await?;
        let operation = operation(json(&body.whole(BODY_LEN).await?)?);
        let priority = priority(&caller);
        Ok::<_, Failure>(match perform(&service, &caller, operation, key, priority).await? {
            Done::Issued(issued) => answer::json(StatusCode::CREATED, &issued),
            Done::Signed(signed) => answer::json(StatusCode::OK, &signed),
        })
    })
}

/// Lets a request's body be read: who asks is known, and the headers fit. The body of any other is
/// thrown away.
pub(super) async fn admit<C, T>(
    service: &Arc<Service>,
    request: Request,
    check: impl Fn(&HeaderMap) -> Result<T, Problem>,
) -> Result<(C, T, Incoming), Failure>
where
    C: FromRequestParts<Arc<Service>, Rejection = Failure>,
{
    let (mut head, body) = request.into_parts();
    let mut body = Incoming::new(body, BODY_PATIENCE);
    let told = async {
        let caller = C::from_request_parts(&mut head, service).await?;
        Ok::<_, Failure>((caller, check(&head.headers)?))
    };
    match told.await {
        Ok((caller, told)) => Ok((caller, told, body)),
        Err(failure) => {
            body.drain().await;
            Err(failure)
        }
    }
}

impl FromRequestParts<Arc<Service>> for Caller {
    type Rejection = Failure;

    async fn from_request_parts(head: &mut Parts, service: &Arc<Service>) -> Result<Self, Failure> {
        let peer = peer(head, service)?;
        match peer.caller(service).await {
            Ok(caller) => Ok(caller.clone()),
            Err(problem) => Err(service.refuse(peer, problem).await.into()),
        }
    }
}

impl FromRequestParts<Arc<Service>> for AnyCaller {
    type Rejection = Failure;

    async fn from_request_parts(head: &mut Parts, service: &Arc<Service>) -> Result<Self, Failure> {
        // What of a bot's certificates is good depends on which of them it has used.
        if head.extensions.get::<Arc<Peer>>().is_some_and(|peer| peer.is_bot()) {
            return Ok(Self(Caller::from_request_parts(head, service).await?));
        }
        let peer = peer(head, service)?;
        match peer.unexpired(&*service.clock) {
            Ok(caller) => Ok(Self(caller.clone())),
            Err(problem) => Err(service.refuse(peer, problem).await.into()),
        }
    }
}

/// Who is at the other end, and does not ask too often.
pub(super) fn peer<'a>(head: &'a Parts, service: &Service) -> Result<&'a Arc<Peer>, Problem> {
    // Each connection to this listener has one; without it, there is no caller.
    let peer = head.extensions.get::<Arc<Peer>>().ok_or_else(problem::internal)?;
    service.limits.admit(peer.principal(), peer.name())?;
    Ok(peer)
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
    priority: Priority,
) -> Result<Done, Problem> {
    let idempotency = key.map(|key| idempotency(key, &operation)).transpose()?;
    match Parsed::try_from(operation)? {
        Parsed::Certify(request) => {
            let released = service.authority.issue(caller, request, idempotency, priority).await?;
            metrics::issued(released.summary().kind);
            Ok(Done::Issued(issued(service, &released)))
        }
        Parsed::Sign(request) => {
            let (key, scheme) = (request.key.clone(), request.scheme);
            let released = service.authority.sign(caller, request, idempotency, priority).await?;
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
        | Kind::OcspSigner
        | Kind::Root
        | Kind::SmartcardLogon
        | Kind::TlsClient
        | Kind::TlsServer => x509::to_pem(bytes),
    }
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
pub(super) fn media_type(headers: &HeaderMap, wanted: &str) -> Result<(), Problem> {
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
