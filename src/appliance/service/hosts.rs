//! Hosts: which there are, and what they report.

use std::sync::Arc;

use api::{
    Because, ConsumeRequest, HostRequest, Hosts, JoinToken, LoginReport, Problem, ProblemKind,
};
use axum::{
    extract::{Path, Request, State, rejection::PathRejection},
    response::Response,
};
use http::StatusCode;
use pki::names::DnsName;

use super::{
    Service,
    access::read,
    answer::{self, Failure},
    caller::host_name,
    secret::JoinSecret,
};
use crate::{
    ledger::{
        Event,
        hosts::{NewHost, Use},
    },
    policy::Caller,
};

/// The most logins of one report.
const LOGINS: usize = 1_000;

/// The longest name of a connection, and of an account.
const WORD: usize = 256;

/// `POST /v1/hosts`
pub(super) async fn add(
    State(service): State<Arc<Service>>,
    request: Request,
) -> Result<Response, Failure> {
    let (caller, wanted) = read::<HostRequest>(&service, request).await?;
    service.authority.only_operators(&caller, "host", "add").await?;
    let JoinSecret { secret, hash, expires_at } = JoinSecret::new(wanted.ttl, &*service.clock)?;
    let host = NewHost {
        name: wanted.name.clone(),
        mode: wanted.mode,
        secret: hash,
        expires_at,
        by: caller.id.to_string(),
    };
    service.ledger.add_host(host).await?;
    Ok(answer::json(StatusCode::CREATED, &JoinToken { name: wanted.name, secret, expires_at }))
}

/// `GET /v1/hosts`
pub(super) async fn list(
    State(service): State<Arc<Service>>,
    caller: Caller,
) -> Result<Response, Failure> {
    service.authority.only_operators(&caller, "host", "list").await?;
    let (mut hosts, version) = (service.ledger.hosts().await?, service.publisher.version());
    for host in &mut hosts {
        // That a host waits is not written down each time.
        host.last_seen = host.last_seen.max(service.fleet.last_seen(&host.name));
    }
    Ok(answer::json(StatusCode::OK, &Hosts { hosts, version }))
}

/// `POST /v1/hosts/{name}/remove`
pub(super) async fn remove(
    State(service): State<Arc<Service>>,
    name: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Failure> {
    let (caller, because) = read::<Because>(&service, request).await?;
    service.authority.only_operators(&caller, "host", "remove").await?;
    let Path(name) = name.map_err(answer::bad_path)?;
    let name: DnsName = name.parse().map_err(|error| bad(format!("{error}")))?;
    let absent = || Problem::new(ProblemKind::NotFound, format!("there is no host {name}"));
    let reason =
        service.authority.reason(&caller, "host remove", name.as_str(), because.reason).await?;
    let (id, by, now) = (service.host_id(&name)?, caller.id.as_str(), service.clock.now());
    let removed = service.ledger.remove_host(&name, &id, by, &reason, now).await?;
    let removed = removed.ok_or_else(absent)?;
    service.fleet.removed(&name);
    Ok(answer::json(StatusCode::OK, &removed))
}

/// `POST /v1/logins`
pub(super) async fn logins(
    State(service): State<Arc<Service>>,
    request: Request,
) -> Result<Response, Failure> {
    let (caller, report) = read::<LoginReport>(&service, request).await?;
    let host = host_name(&caller)?;
    if report.logins.len() > LOGINS {
        return Err(bad(format!("at most {LOGINS} logins at once")).into());
    }
    for login in &report.logins {
        check_word("connection", &login.connection)?;
        check_word("user", &login.user)?;
    }
    service.fleet.seen(&host, service.clock.now())?;
    service.ledger.logins(&host, report.logins).await?;
    Ok(answer::nothing())
}

/// `POST /v1/consume`
pub(super) async fn consume(
    State(service): State<Arc<Service>>,
    request: Request,
) -> Result<Response, Failure> {
    let (caller, wanted) = read::<ConsumeRequest>(&service, request).await?;
    let host = host_name(&caller)?;
    check_word("connection", &wanted.connection)?;
    service.fleet.seen(&host, service.clock.now())?;
    let what = format!("certificate {} of {:?}", wanted.serial, wanted.issuer);
    let (reason, detail) = match service.ledger.consume(&host, wanted, service.clock.now()).await? {
        Use::Granted => return Ok(answer::nothing()),
        Use::NotValid => ("not-valid", format!("{what} is revoked, over, or unknown")),
        Use::UsedUp => ("used-up", format!("{what} was used before")),
    };
    Err(deny(&service, &caller, "consume", reason, &detail).await.into())
}

async fn deny(
    service: &Service,
    caller: &Caller,
    operation: &str,
    reason: &str,
    detail: &str,
) -> Problem {
    let event = Event::Denied {
        caller: caller.id.to_string(),
        operation: operation.to_owned(),
        reason: reason.to_owned(),
        detail: detail.to_owned(),
    };
    match service.ledger.record(event).await {
        Ok(()) => Problem::new(ProblemKind::Denied, detail).with_reason(reason),
        Err(error) => error.into(),
    }
}

fn check_word(field: &str, text: &str) -> Result<(), Problem> {
    let plain = text.chars().all(|c| !c.is_control());
    if plain && (1..=WORD).contains(&text.chars().count()) {
        return Ok(());
    }
    Err(bad(format!("{field} has 1 to {WORD} characters, and no control characters")))
}

fn bad(detail: String) -> Problem {
    Problem::new(ProblemKind::BadRequest, detail)
}
