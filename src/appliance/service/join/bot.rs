use std::sync::Arc;

use api::{BotJoinRequest, BotSpec, JoinMethod, JoinProof, Problem, ProblemKind};
use axum::{
    extract::{Request, State},
    response::Response,
};
use http::StatusCode;
use pki::x509::csr::Csr;

use super::{
    super::{
        Service,
        answer::{self, Failure},
        body::Incoming,
        bots,
        caller::Stranger,
        connection::BODY_PATIENCE,
        metrics, problem,
        secret::JoinSecret,
    },
    admit, read, record,
};
use crate::{
    authority::bots::{OwnCertificate, ProvenBot},
    ledger::bots::Proof,
    policy::{BadRequest, BotDenial, Denial},
};

/// `POST /v1/join/challenge`
pub(super) async fn challenge(
    State(service): State<Arc<Service>>,
    request: Request,
) -> Result<Response, Failure> {
    let (head, body) = request.into_parts();
    Incoming::new(body, BODY_PATIENCE).drain().await;
    admit(&service, &head.extensions)?;
    let challenge = service.proofs.challenge(service.clock.now()).map_err(|_| {
        tracing::error!("the system gave no random numbers");
        problem::internal()
    })?;
    Ok(answer::json(StatusCode::CREATED, &challenge))
}

/// `POST /v1/join/bot`
pub(super) async fn join(
    State(service): State<Arc<Service>>,
    request: Request,
) -> Result<Response, Failure> {
    let (stranger, request) = read::<BotJoinRequest>(&service, request).await?;
    let (name, method) = (request.name.clone(), method(&request.proof));
    match perform(&service, stranger, request).await {
        Ok(own) => {
            metrics::bot_joined(method);
            Ok(answer::json(StatusCode::CREATED, &bots::identity(&service, own)))
        }
        Err(problem) if problem.kind == ProblemKind::Denied => {
            let operation = format!("join as bot {name}");
            Err(record(&service, stranger, &operation, problem).await.into())
        }
        Err(problem) => Err(problem.into()),
    }
}

/// First that the key is the requester's, then that the requester is the bot; only then is anything
/// touched that could be used up.
async fn perform(
    service: &Service,
    stranger: Stranger,
    request: BotJoinRequest,
) -> Result<OwnCertificate, Problem> {
    let csr = Csr::from_pem(&request.csr).map_err(BadRequest::Csr)?;
    let unknown = || Denial::from(BotDenial::NoSuchBot { bot: request.name.to_string() });
    let spec = service.ledger.bot_spec(&request.name).await?.ok_or_else(unknown)?;
    let (proof, words) = verify(service, &spec, &request).await?;
    let proven = ProvenBot { spec, proof, words, from: stranger.address.ip() };
    Ok(service.authority.join_bot(proven, csr).await?)
}

/// What a proof uses up, and the proof in words. Whether a join token is good, the ledger knows.
async fn verify(
    service: &Service,
    spec: &BotSpec,
    request: &BotJoinRequest,
) -> Result<(Proof, String), Problem> {
    if let (JoinMethod::Token {}, JoinProof::Token { secret }) = (&spec.join, &request.proof) {
        let secret = JoinSecret::hash(secret);
        return Ok((Proof::Token { secret }, "a join token".to_owned()));
    }
    let proven = service.proofs.verify(&spec.join, request, service.clock.now()).await?;
    let proof = match (&spec.join, proven.once) {
        (JoinMethod::BoundKey { .. }, _) => Proof::BoundKey,
        (_, Some(once)) => Proof::Oidc { token: once.hash, expires_at: once.until },
        (_, None) => Proof::X509,
    };
    Ok((proof, proven.who))
}

/// How a proof is called on the wire.
fn method(proof: &JoinProof) -> &'static str {
    match proof {
        JoinProof::BoundKey { .. } => "bound-key",
        JoinProof::Oidc { .. } => "oidc",
        JoinProof::Token { .. } => "token",
        JoinProof::X509 { .. } => "x509",
    }
}
