//! What strangers may ask for: to join as a host, with the secret that an operator made for it, or as
//! a bot.

mod bot;

use std::sync::Arc;

use api::{BODY_LEN, JoinRequest, Joined, Problem, ProblemKind};
use axum::{
    Router,
    extract::{Request, State},
    middleware,
    response::Response,
    routing::post,
};
use http::{Extensions, StatusCode, Uri};
use pki::x509::{self, csr::Csr};
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::{
    Service, answer,
    answer::Failure,
    api::{JSON, media_type},
    body::{Incoming, json},
    caller::Stranger,
    connection::BODY_PATIENCE,
    metrics, problem,
    secret::JoinSecret,
};
use crate::{
    ledger::{Event, Idempotency, hosts::Token},
    policy::BadRequest,
};

/// All that there is for those who have shown no certificate. Each request has its [`Stranger`] as
/// an extension.
pub(super) fn router(service: Arc<Service>) -> Router {
    Router::new()
        .route("/v1/join", post(join))
        .route("/v1/join/bot", post(bot::join))
        .route("/v1/join/challenge", post(bot::challenge))
        .fallback(turn_away)
        .method_not_allowed_fallback(turn_away)
        .layer(middleware::from_fn(answer::watch))
        .with_state(service)
}

async fn join(State(service): State<Arc<Service>>, request: Request) -> Result<Response, Failure> {
    let (stranger, request) = read::<JoinRequest>(&service, request).await?;
    let joined = perform(&service, stranger, request).await?;
    Ok(answer::json(StatusCode::CREATED, &joined))
}

/// Who asks, and the body of the request.
async fn read<T: DeserializeOwned>(
    service: &Service,
    request: Request,
) -> Result<(Stranger, T), Failure> {
    let (head, body) = request.into_parts();
    let mut body = Incoming::new(body, BODY_PATIENCE);
    let stranger = match admit(service, &head.extensions) {
        Ok(stranger) => media_type(&head.headers, JSON).map(|()| stranger),
        Err(problem) => Err(problem),
    };
    match stranger {
        Ok(stranger) => Ok((stranger, json(&body.whole(BODY_LEN).await?)?)),
        Err(problem) => {
            body.drain().await;
            Err(problem.into())
        }
    }
}

/// Whoever asks for anything else is told how to be somebody. It is not recorded: it costs nothing
/// to ask, and a record would cost space for ever.
async fn turn_away(
    State(service): State<Arc<Service>>,
    uri: Uri,
    request: Request,
) -> Result<Response, Failure> {
    let (head, body) = request.into_parts();
    Incoming::new(body, BODY_PATIENCE).drain().await;
    admit(&service, &head.extensions)?;
    let detail = format!("{:?} is for callers with a client certificate", uri.path());
    Err(Problem::new(ProblemKind::Denied, detail)
        .with_reason("no-certificate")
        .with_hint("connect with a client certificate for spiffe://TRUST-DOMAIN/user/NAME or alike")
        .into())
}

fn admit(service: &Service, extensions: &Extensions) -> Result<Stranger, Problem> {
    let stranger = extensions.get::<Stranger>().copied().ok_or_else(problem::internal)?;
    service.limits.admit_stranger(stranger.address.ip())?;
    Ok(stranger)
}

/// The proof of possession comes before the secret: only who has the key uses a token up for it. The
/// same key may ask again with the same secret, and gets the same certificate, so that a lost answer
/// locks no host out.
async fn perform(
    service: &Service,
    stranger: Stranger,
    request: JoinRequest,
) -> Result<Joined, Failure> {
    let csr = Csr::from_pem(&request.csr).map_err(BadRequest::Csr)?;
    let secret = JoinSecret::hash(&request.secret);
    let now = service.clock.now();
    let fingerprint = csr.public_key.fingerprint();
    let used = service.ledger.use_join_token(secret, fingerprint.clone(), now).await?;
    let (name, mode) = match used {
        Token::Good { name, mode } => (name, mode),
        bad => return Err(refused(service, stranger, &bad).await.into()),
    };
    let id = service.host_id(&name)?;
    let idempotency = Idempotency {
        key: format!("join {}", hex::encode(secret)),
        request: Sha256::digest(fingerprint.as_bytes()).into(),
    };
    let released = service.authority.host_certificate(id, csr, idempotency).await?;
    let summary = released.summary();
    service.ledger.host_joined(&name, summary.serial.to_string(), now).await?;
    service.fleet.joined(name.clone(), now);
    metrics::issued(summary.kind);
    Ok(Joined {
        name,
        mode,
        certificate: x509::to_pem(released.bytes()),
        chain: service.chains.get(released.issuer()).cloned().unwrap_or_default(),
        publication_key: service.authority.handoff().publication.public_key.to_pem(),
    })
}

async fn refused(service: &Service, stranger: Stranger, token: &Token) -> Problem {
    let (reason, detail) = match token {
        Token::Expired => ("join-token-expired", "the join token has expired"),
        Token::Used => ("join-token-used", "the join token was used with another key"),
        Token::Good { .. } | Token::Unknown => {
            ("no-such-join-token", "there is no such join token")
        }
    };
    let problem = Problem::new(ProblemKind::Denied, detail)
        .with_reason(reason)
        .with_hint("ask an operator for a new one: chancery host add NAME");
    record(service, stranger, "join", problem).await
}

/// Records that a stranger was refused. If it cannot be recorded, that is the answer.
async fn record(
    service: &Service,
    stranger: Stranger,
    operation: &str,
    problem: Problem,
) -> Problem {
    let event = Event::Denied {
        caller: stranger.name(),
        operation: operation.to_owned(),
        reason: problem.reason.clone().unwrap_or_default(),
        detail: problem.detail.clone(),
    };
    match service.ledger.record(event).await {
        Ok(()) => problem,
        Err(error) => error.into(),
    }
}
