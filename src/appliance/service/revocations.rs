//! What was taken back, on its way to hosts, and what became of it.

use std::{sync::Arc, time::Duration};

use api::{Acknowledgement, BundleQuery, Effect, EffectQuery, Problem, ProblemKind};
use axum::{
    Extension,
    extract::{Path, RawQuery, Request, State, rejection::PathRejection},
    response::Response,
};
use http::StatusCode;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout_at};

use super::{
    Service,
    access::read,
    answer::{self, Failure},
    caller::{AnyCaller, host_name},
    slots::InFlight,
};
use crate::{ledger::hosts::Applied, policy::Caller, publisher::News};

/// The longest that anybody waits for anything.
const LONGEST_WAIT: u32 = 60;

/// How long a bundle is waited for, unless it is said.
const WAIT: u32 = 30;

/// The most connections that one acknowledgement names.
const CUT: usize = 1_000;

/// `GET /v1/revocations`
pub(super) async fn bundle(
    State(service): State<Arc<Service>>,
    AnyCaller(caller): AnyCaller,
    Extension(in_flight): Extension<Arc<InFlight>>,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let query: BundleQuery = parse(query.as_deref())?;
    let until = deadline(query.wait.unwrap_or(WAIT))?;
    match host_name(&caller) {
        Ok(host) => service.fleet.seen(&host, service.clock.now())?,
        Err(_) => service.authority.only_operators(&caller, "revocations", "read").await?,
    }
    let mut watch = service.publisher.watch();
    let known = query.after;
    // Whoever waits gives way to who works, and asks again.
    in_flight.waits();
    let news = watch.wait_for(|published| known.is_none_or(|known| published.version > known));
    let found = tokio::select! {
        found = timeout_at(until, news) => found.ok().and_then(Result::ok).map(|it| it.clone()),
        () = service.stopping() => None,
    };
    in_flight.works();
    Ok(match found {
        Some(published) => {
            let bytes = published.bundle.bytes.clone();
            answer::whole(StatusCode::OK, "application/json", bytes)
        }
        None => answer::nothing(),
    })
}

/// `POST /v1/revocations/acknowledge`
pub(super) async fn acknowledge(
    State(service): State<Arc<Service>>,
    request: Request,
) -> Result<Response, Failure> {
    let (caller, told) = read::<Acknowledgement>(&service, request).await?;
    let host = host_name(&caller)?;
    let Acknowledgement { version, cut } = told;
    if version > service.publisher.version() {
        return Err(bad(format!("there is no version {version} yet")).into());
    }
    if cut.len() > CUT {
        return Err(bad(format!("at most {CUT} connections at once")).into());
    }
    let at = service.clock.now();
    let before = service.fleet.version(&host)?;
    // The first version of a host is news, whatever it says.
    let news = before.map_or(News::Unknown, |it| service.publisher.news(it, version));
    let after = match news {
        News::Since(oldest) => Some(milliseconds(oldest, at)),
        News::None | News::Unknown => None,
    };
    let is_news = news != News::None || !cut.is_empty();
    service
        .ledger
        .applied(Applied { host: host.clone(), version, at, after, is_news, cut })
        .await?;
    if let Some(after) = after {
        let seconds = Duration::from_millis(after).as_secs_f64();
        metrics::histogram!("chancery_applied_seconds").record(seconds);
    }
    service.fleet.applied(&host, version, at);
    Ok(answer::nothing())
}

/// `GET /v1/effects/{change}`
pub(super) async fn effect(
    State(service): State<Arc<Service>>,
    AnyCaller(caller): AnyCaller,
    Extension(in_flight): Extension<Arc<InFlight>>,
    change: Result<Path<u64>, PathRejection>,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let Path(change) = change.map_err(answer::bad_path)?;
    let query: EffectQuery = parse(query.as_deref())?;
    let until = deadline(query.wait.unwrap_or(0))?;
    not_for_hosts(&caller)?;
    let absent = || Problem::new(ProblemKind::NotFound, format!("there is no change {change}"));
    let made_at = service.ledger.time_of_change(change).await?.ok_or_else(absent)?;
    in_flight.waits();
    tokio::select! {
        // What is not in force everywhere by then is told as it is.
        _ = timeout_at(until, in_force(&service, change)) => {}
        () = service.stopping() => {}
    }
    in_flight.works();
    let publication = service.ledger.publication_of(change).await?;
    let version = publication.map(|publication| publication.version);
    let published_at = publication.and_then(|publication| publication.published_at);
    let hosts = service.ledger.effect_on_hosts(version, made_at).await?;
    Ok(answer::json(
        StatusCode::OK,
        &Effect {
            change,
            made_at,
            version,
            published_after: published_at.map(|at| milliseconds(made_at, at)),
            hosts,
        },
    ))
}

/// Waits until a change is published, and until all hosts have it.
async fn in_force(service: &Service, change: u64) -> Result<(), Problem> {
    let mut watch = service.publisher.watch();
    // Without a publisher nothing is published any more: the deadline ends that.
    let _ = watch.wait_for(|published| published.change >= change).await;
    if let Some(publication) = service.ledger.publication_of(change).await? {
        service.fleet.wait_for(publication.version).await;
    }
    Ok(())
}

/// Where a change is in force is for those who make changes to know: it names hosts.
fn not_for_hosts(caller: &Caller) -> Result<(), Problem> {
    match host_name(caller) {
        Err(_) => Ok(()),
        Ok(host) => {
            let detail = format!("hosts may not see what others have in force, and {host} is one");
            Err(Problem::new(ProblemKind::Denied, detail).with_reason("not-for-hosts"))
        }
    }
}

/// Milliseconds from one time to a later one; 0 where clocks say otherwise.
fn milliseconds(from: Timestamp, to: Timestamp) -> u64 {
    u64::try_from(to.as_millisecond() - from.as_millisecond()).unwrap_or_default()
}

fn deadline(seconds: u32) -> Result<Instant, Problem> {
    if seconds > LONGEST_WAIT {
        return Err(bad(format!("wait is 0 to {LONGEST_WAIT} seconds")));
    }
    Ok(Instant::now() + Duration::from_secs(seconds.into()))
}

fn parse<T: DeserializeOwned>(query: Option<&str>) -> Result<T, Problem> {
    serde_urlencoded::from_str(query.unwrap_or_default())
        .map_err(|error| bad(format!("the query cannot be read: {error}")))
}

fn bad(detail: String) -> Problem {
    Problem::new(ProblemKind::BadRequest, detail)
}
