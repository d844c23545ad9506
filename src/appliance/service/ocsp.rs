//! Answers whether a certificate is good (RFC 6960), to anybody.
//!
//! What is revoked is in memory, what was issued is in the ledger, and the signature is the
//! publication key's: it comes last in the token's queue, so that no flood of questions keeps a
//! certificate from being issued, let alone taken back. An answer says nothing that the ledger does
//! not say already; no record is made of it.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use axum::{
    extract::{Extension, Path, Request, State, rejection::PathRejection},
    response::Response,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use jiff::{SignedDuration, Timestamp};
use metrics::counter;
use pki::{
    serial::{Serial, X509Serial},
    token::PublicationKey,
    x509::{
        self,
        ocsp::{self, Refusal, Responder, ResponseError, Status},
    },
};
use sha2::{Digest, Sha256};
use tokio::time::timeout;

use super::{
    Service,
    answer::{self, Failure},
    api::media_type,
    body::Incoming,
    caller::Stranger,
    connection::BODY_PATIENCE,
    public::Public,
};
use crate::{
    authority::{Authority, IssueError, sign_and_seal},
    publisher::{Published, reason},
    signing::Priority,
};

/// What signs answers, and the answers that may be given again.
pub(super) struct Ocsp {
    key: PublicationKey,
    /// By X.509 issuer.
    signers: BTreeMap<String, Signer>,
    answers: Mutex<Answers>,
}

/// The delegated signer of one issuer.
struct Signer {
    issuer: x509::Issuer,
    /// None while it could not be certified.
    current: ArcSwapOption<Current>,
}

struct Current {
    responder: Responder,
    /// When its certificate is to be renewed.
    renewal: Timestamp,
}

/// Answers without a nonce, by the hash of issuer and request.
#[derive(Default)]
struct Answers {
    /// The change that they know of.
    change: u64,
    kept: HashMap<[u8; 32], (Bytes, Timestamp)>,
}

impl Ocsp {
    /// A signer for each issuer; those that cannot be certified yet answer later.
    pub(super) async fn new(
        key: PublicationKey,
        issuers: Vec<(String, x509::Issuer)>,
        authority: &Authority,
        now: Timestamp,
    ) -> Self {
        let signer = |issuer| Signer { issuer, current: ArcSwapOption::empty() };
        let signers = issuers.into_iter().map(|(name, issuer)| (name, signer(issuer)));
        let ocsp = Self { key, signers: signers.collect(), answers: Mutex::default() };
        ocsp.renew(authority, now).await;
        ocsp
    }

    /// Renews each signer's certificate at half of its life, for ever.
    pub(super) async fn keep_fresh(&self, service: &Service) {
        loop {
            tokio::time::sleep(LOOK).await;
            self.renew(&service.authority, service.clock.now()).await;
        }
    }

    async fn renew(&self, authority: &Authority, now: Timestamp) {
        for (name, signer) in &self.signers {
            let current = signer.current.load();
            if current.as_ref().is_some_and(|current| now < current.renewal) {
                continue;
            }
            match self.certify(authority, name, signer).await {
                Ok(current) => signer.current.store(Some(Arc::new(current))),
                Err(error) => {
                    let error = crate::describe(&*error);
                    tracing::error!(issuer = name, error, "no OCSP signer; trying again");
                }
            }
        }
    }

    async fn certify(
        &self,
        authority: &Authority,
        name: &str,
        signer: &Signer,
    ) -> Result<Current, Box<dyn std::error::Error + Send + Sync>> {
        let public_key = self.key.key().public_key.clone();
        let released = authority.ocsp_certificate(name, public_key).await?;
        let summary = released.summary();
        let life = summary.not_before.duration_until(summary.not_after);
        let renewal = summary.not_before.saturating_add(life / 2)?;
        let certificate = released.bytes().to_vec();
        let responder = Responder::new(self.key.clone(), certificate, &signer.issuer)?;
        Ok(Current { responder, renewal })
    }

    fn kept(&self, question: &[u8; 32], published: &Published, now: Timestamp) -> Option<Bytes> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let (bytes, until) = answers.kept.get(question)?;
        (answers.change == published.change && now < *until).then(|| bytes.clone())
    }

    fn keep(&self, question: [u8; 32], bytes: Bytes, published: &Published, now: Timestamp) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if answers.change != published.change || answers.kept.len() >= KEPT {
            *answers = Answers { change: published.change, kept: HashMap::new() };
        }
        let until = now.saturating_add(KEPT_FOR).unwrap_or(now);
        answers.kept.insert(question, (bytes, until));
    }
}

/// `POST /ocsp/{issuer}`
pub(super) async fn post(
    State(public): State<Arc<Public>>,
    Extension(stranger): Extension<Stranger>,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Failure> {
    let Path(issuer) = path.map_err(answer::bad_path)?;
    let (head, body) = request.into_parts();
    let mut body = Incoming::new(body, BODY_PATIENCE);
    if let Err(problem) = ocsp_only(&head.headers) {
        body.drain().await;
        return Err(problem.into());
    }
    let der = body.whole(ocsp::Request::MAX_LEN).await?;
    let question = Question {
        issuer: &issuer,
        hash: hash(&issuer, &der),
        address: stranger.address.ip(),
        request: ocsp::Request::from_der(&der),
    };
    Ok(respond(&public.service, question).await)
}

/// `GET /ocsp/{issuer}/{request}`
pub(super) async fn get(
    State(public): State<Arc<Public>>,
    Extension(stranger): Extension<Stranger>,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Result<Response, Failure> {
    let Path((issuer, request)) = path.map_err(answer::bad_path)?;
    let question = Question {
        issuer: &issuer,
        hash: hash(&issuer, request.as_bytes()),
        address: stranger.address.ip(),
        request: ocsp::Request::from_path(&request),
    };
    Ok(respond(&public.service, question).await)
}

/// What is asked, and from where.
struct Question<'a> {
    issuer: &'a str,
    /// The same for the same bytes.
    hash: [u8; 32],
    address: IpAddr,
    request: Result<ocsp::Request, ocsp::RequestError>,
}

fn ocsp_only(headers: &HeaderMap) -> Result<(), api::Problem> {
    media_type(headers, "application/ocsp-request")
}

async fn respond(service: &Service, question: Question<'_>) -> Response {
    let (outcome, bytes) = match &question.request {
        Err(error) => {
            tracing::debug!(%error, address = %question.address, "an OCSP request cannot be read");
            refusal(Refusal::MalformedRequest)
        }
        Ok(request) => match answer(service, &question, request).await {
            Ok(bytes) => ("answered", bytes),
            Err(refused) => refusal(refused),
        },
    };
    counter!("chancery_ocsp_total", "outcome" => outcome).increment(1);
    let mut response = answer::whole(StatusCode::OK, "application/ocsp-response", bytes);
    let no_cache = HeaderValue::from_static("no-cache");
    response.headers_mut().insert(header::CACHE_CONTROL, no_cache);
    response
}

fn refusal(refusal: Refusal) -> (&'static str, Bytes) {
    let outcome = match refusal {
        Refusal::MalformedRequest => "malformed",
        Refusal::InternalError => "failed",
        Refusal::TryLater => "later",
        Refusal::Unauthorized => "another_issuer",
    };
    (outcome, Bytes::copy_from_slice(&refusal.to_der()))
}

async fn answer(
    service: &Service,
    question: &Question<'_>,
    request: &ocsp::Request,
) -> Result<Bytes, Refusal> {
    let issuer = question.issuer;
    let signer = service.ocsp.signers.get(issuer).ok_or(Refusal::Unauthorized)?;
    let (published, now) = (service.publisher.current(), service.clock.now());
    if let Some(bytes) = service.ocsp.kept(&question.hash, &published, now) {
        return Ok(bytes);
    }
    service.limits.admit_ocsp(question.address).map_err(|_| Refusal::TryLater)?;
    let current = signer.current.load_full().ok_or(Refusal::TryLater)?;
    let statuses = statuses(service, &published, issuer, request).await?;
    let next_update = now.saturating_add(GOOD_FOR).unwrap_or(now);
    let prepared = current.responder.prepare(request, &statuses, now, next_update);
    let prepared = prepared.map_err(|error| match error {
        ResponseError::AnotherIssuer => Refusal::Unauthorized,
        ResponseError::Malformed(_) | ResponseError::SignerNotValid { .. } => {
            tracing::error!(%error, issuer, "no OCSP answer");
            Refusal::InternalError
        }
    })?;
    let admission = service.signing.admit(CLIENT, Priority::Bulk, PATIENCE);
    // Bulk waits for its admission; nobody waits that long for this.
    let admission = timeout(PATIENCE, admission).await.map_err(|_| Refusal::TryLater)?;
    let admission = admission.map_err(|_| Refusal::TryLater)?;
    let sealed = sign_and_seal(&admission, prepared).await.map_err(|error| match error {
        IssueError::Signing(_) => Refusal::TryLater,
        error => {
            tracing::error!(%error, issuer, "no OCSP answer");
            Refusal::InternalError
        }
    })?;
    let bytes = Bytes::copy_from_slice(sealed.bytes());
    if request.nonce().is_none() {
        service.ocsp.keep(question.hash, bytes.clone(), &published, now);
    }
    Ok(bytes)
}

/// The statuses of those that were issued; others have none, and are unknown.
async fn statuses(
    service: &Service,
    published: &Published,
    issuer: &str,
    request: &ocsp::Request,
) -> Result<BTreeMap<X509Serial, Status>, Refusal> {
    let mut statuses = BTreeMap::new();
    for serial in request.serials() {
        let revoked = published.revoked.find(issuer, &Serial::X509(serial));
        if let Some(entry) = revoked {
            let status = Status::Revoked { at: entry.at, reason: reason(entry.code) };
            statuses.insert(serial, status);
            continue;
        }
        let found = service.ledger.was_begun(issuer, &serial.to_string()).await;
        let found = found.map_err(|error| {
            tracing::error!(%error, "the ledger cannot be read for an OCSP answer");
            Refusal::TryLater
        })?;
        if found {
            statuses.insert(serial, Status::Good);
        }
    }
    Ok(statuses)
}

fn hash(issuer: &str, question: &[u8]) -> [u8; 32] {
    // No name of an issuer has a line end.
    Sha256::new().chain_update(issuer).chain_update("\n").chain_update(question).finalize().into()
}

/// Who signs, in the token's queue: all who ask are one client.
const CLIENT: &str = "ocsp";

/// How long a signature is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// For how long an answer may be kept by those who asked.
const GOOD_FOR: SignedDuration = SignedDuration::from_mins(5);

/// How long an answer is given again, unless something is taken back before.
const KEPT_FOR: SignedDuration = SignedDuration::from_mins(1);

/// How many answers are kept: about 2 kB each.
const KEPT: usize = 4_096;

/// How often the ages of the signers' certificates are looked at.
const LOOK: Duration = Duration::from_secs(30);
