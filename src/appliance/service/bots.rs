//! Bots: what operators say of them, and what their instances ask for themselves.

use std::sync::Arc;

use api::{
    Because, Bot, BotIdentity, BotName, BotRenewRequest, BotSpec, BotStatus, BotToken,
    BotTokenRequest, Bots, JoinMethod, Problem, ProblemKind,
};
use axum::{
    Router,
    extract::{FromRequestParts, Path, Request, State, rejection::PathRejection},
    response::Response,
    routing::{get, post},
};
use http::{StatusCode, request::Parts};
use pki::x509::{self, csr::Csr};

use super::{
    Service,
    access::{read, read_as},
    answer::{self, Failure},
    api::peer,
    metrics,
    secret::JoinSecret,
};
use crate::{
    authority::bots::OwnCertificate,
    join,
    ledger::bots::{InstanceStanding, NewToken, Shown},
    policy::{BadRequest, Caller, Instance},
};

/// What operators do about bots, and what instances of bots ask for themselves.
pub(super) fn router() -> Router<Arc<Service>> {
    Router::new()
        .route("/v1/bot", get(status))
        .route("/v1/bot/renew", post(renew))
        .route("/v1/bots", get(list).post(apply))
        .route("/v1/bots/{name}", get(show))
        .route("/v1/bots/{name}/remove", post(remove))
        .route("/v1/bots/{name}/token", post(token))
}

type Name = Result<Path<String>, PathRejection>;

async fn apply(State(service): State<Arc<Service>>, request: Request) -> Result<Response, Failure> {
    let (caller, spec) = read::<BotSpec>(&service, request).await?;
    service.authority.only_operators(&caller, "bot apply", spec.name.as_str()).await?;
    check(&service, &spec)?;
    let applied = service.ledger.apply_bot(spec, caller.id.as_str(), service.clock.now()).await?;
    Ok(answer::json(StatusCode::OK, &applied))
}

async fn list(State(service): State<Arc<Service>>, caller: Caller) -> Result<Response, Failure> {
    service.authority.only_operators(&caller, "bot", "list").await?;
    let bots = service.ledger.bots(None, service.clock.now()).await?;
    Ok(answer::json(StatusCode::OK, &Bots { bots }))
}

async fn show(
    State(service): State<Arc<Service>>,
    caller: Caller,
    name: Name,
) -> Result<Response, Failure> {
    let name = parse(name)?;
    service.authority.only_operators(&caller, "bot show", name.as_str()).await?;
    Ok(answer::json(StatusCode::OK, &find(&service, &name).await?))
}

async fn token(
    State(service): State<Arc<Service>>,
    name: Name,
    request: Request,
) -> Result<Response, Failure> {
    let (caller, wanted) = read::<BotTokenRequest>(&service, request).await?;
    let name = parse(name)?;
    service.authority.only_operators(&caller, "bot token", name.as_str()).await?;
    let bot = find(&service, &name).await?;
    if !matches!(bot.spec.join, JoinMethod::Token {}) {
        return Err(bad(format!("bot {name} does not join by a token"))
            .with_hint("change how it joins: chancery bot apply")
            .into());
    }
    let JoinSecret { secret, hash, expires_at } = JoinSecret::new(wanted.ttl, &*service.clock)?;
    let new = NewToken { bot: name.clone(), secret: hash, expires_at, by: caller.id.to_string() };
    service.ledger.make_bot_token(new).await?.ok_or_else(|| absent(&name))?;
    Ok(answer::json(StatusCode::CREATED, &BotToken { name, secret, expires_at }))
}

async fn remove(
    State(service): State<Arc<Service>>,
    name: Name,
    request: Request,
) -> Result<Response, Failure> {
    let (caller, because) = read::<Because>(&service, request).await?;
    let name = parse(name)?;
    let removed = service.authority.remove_bot(&caller, &name, because).await?;
    Ok(answer::json(StatusCode::OK, &removed.ok_or_else(|| absent(&name))?))
}

async fn status(State(service): State<Arc<Service>>, asking: Asking) -> Response {
    let Asking { caller, instance, standing } = asking;
    answer::json(
        StatusCode::OK,
        &BotStatus {
            name: instance.bot,
            instance: instance.id,
            generation: standing.confirmed,
            renewable: standing.renewable,
            roles: service.authority.bot_roles(&caller, &standing.spec),
        },
    )
}

async fn renew(State(service): State<Arc<Service>>, request: Request) -> Result<Response, Failure> {
    let (Showing(shown), wanted) = read_as::<_, BotRenewRequest>(&service, request).await?;
    let csr = Csr::from_pem(&wanted.csr).map_err(BadRequest::Csr)?;
    let own = service.authority.renew_bot(&shown, csr).await?;
    metrics::bot_renewed();
    Ok(answer::json(StatusCode::CREATED, &identity(&service, own)))
}

/// An instance whose certificate is the one in use.
struct Asking {
    caller: Caller,
    instance: Instance,
    standing: InstanceStanding,
}

impl FromRequestParts<Arc<Service>> for Asking {
    type Rejection = Failure;

    async fn from_request_parts(head: &mut Parts, service: &Arc<Service>) -> Result<Self, Failure> {
        let peer = peer(head, service)?;
        let told = async {
            let shown = peer.shown(service)?;
            let standing = peer.standing(service).await?;
            let (caller, instance) = (Caller::new(shown.caller.clone()), shown.instance.clone());
            Ok::<_, Problem>(Self { caller, instance, standing })
        };
        match told.await {
            Ok(asking) => Ok(asking),
            Err(problem) => Err(service.refuse(peer, problem).await.into()),
        }
    }
}

/// An instance, whatever its certificate is worth: only a renewal tells a copy.
struct Showing(Shown);

impl FromRequestParts<Arc<Service>> for Showing {
    type Rejection = Failure;

    async fn from_request_parts(head: &mut Parts, service: &Arc<Service>) -> Result<Self, Failure> {
        let peer = peer(head, service)?;
        match peer.shown(service) {
            Ok(shown) => Ok(Self(shown.clone())),
            Err(problem) => Err(service.refuse(peer, problem).await.into()),
        }
    }
}

/// An instance's own certificate, as it hears of it.
pub(super) fn identity(service: &Service, own: OwnCertificate) -> BotIdentity {
    let OwnCertificate { released, instance, generation, renewable } = own;
    metrics::issued(released.summary().kind);
    BotIdentity {
        name: instance.bot,
        instance: instance.id,
        generation,
        certificate: x509::to_pem(released.bytes()),
        chain: service.chains.get(released.issuer()).cloned().unwrap_or_default(),
        not_after: released.summary().not_after,
        renewable,
    }
}

/// Refuses what no bot can be.
fn check(service: &Service, spec: &BotSpec) -> Result<(), Problem> {
    service.authority.check_bot_roles(spec).map_err(|denial| {
        bad(denial.to_string()).with_reason(denial.reason()).with_hint(
            "name roles of the appliance's rules whose `callers` have the bot: \
             spiffe://TRUST-DOMAIN/bot/NAME, or …/bot/*",
        )
    })?;
    if spec.roles.is_empty() {
        return Err(bad("`roles` is empty, so that the bot may do nothing".to_owned()));
    }
    join::check(&spec.join).map_err(|error| bad(error.to_string()))?;
    if !(1..=INSTANCES).contains(&spec.max_instances) {
        return Err(bad(format!("max_instances is 1 to {INSTANCES}")));
    }
    let ttl_fits = |ttl: Option<u32>| ttl.is_none_or(|ttl| (1..=TTL).contains(&ttl));
    if !ttl_fits(spec.identity_ttl) || !ttl_fits(spec.max_ttl) {
        return Err(bad(format!("identity_ttl and max_ttl are 1 to {TTL} seconds")));
    }
    Ok(())
}

async fn find(service: &Service, name: &BotName) -> Result<Bot, Problem> {
    let found = service.ledger.bots(Some(name.clone()), service.clock.now()).await?.pop();
    found.ok_or_else(|| absent(name))
}

fn parse(name: Name) -> Result<BotName, Failure> {
    let Path(name) = name.map_err(answer::bad_path)?;
    Ok(name.parse::<BotName>().map_err(|error| bad(error.to_string()))?)
}

fn absent(name: &BotName) -> Problem {
    Problem::new(ProblemKind::NotFound, format!("there is no bot {name}"))
        .with_reason("no-such-bot")
        .with_hint("chancery bot list shows which there are")
}

fn bad(detail: String) -> Problem {
    Problem::new(ProblemKind::BadRequest, detail)
}

/// The most instances that a bot may have at the same time.
const INSTANCES: u32 = 100_000;

/// The longest validity that a bot may have said: a week.
const TTL: u32 = 7 * 24 * 60 * 60;
