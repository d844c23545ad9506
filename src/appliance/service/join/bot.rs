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
        bots, metrics,
        secret::JoinSecret,
    },
    read, record,
};
use crate::{
    authority::bots::{OwnCertificate, ProvenBot},
    ledger::bots::Proof,
    policy::{BadRequest, BotDenial, Denial},
};

use super::super::caller::Stranger;

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
    let proof = verify(&spec, &request)?;
    let words = method(&request.proof).to_owned();
    let proven = ProvenBot { spec, proof, words, from: stranger.address.ip() };
    Ok(service.authority.join_bot(proven, csr).await?)
}

fn verify(spec: &BotSpec, request: &BotJoinRequest) -> Result<Proof, Denial> {
    match (&spec.join, &request.proof) {
        (JoinMethod::Token {}, JoinProof::Token { secret }) => {
            Ok(Proof::Token { secret: JoinSecret::hash(secret) })
        }
        (_, proof) => {
            Err(BotDenial::WrongMethod { bot: spec.name.clone(), method: method(proof) }.into())
        }
    }
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
