//! The registry of cards, for operators.

use std::sync::Arc;

use api::{Because, CardQuery, Problem, ProblemKind};
use axum::{
    Router,
    extract::{Path, RawQuery, Request, State, rejection::PathRejection},
    response::Response,
    routing::{get, post},
};
use http::StatusCode;

use super::{
    Service,
    access::read,
    answer::{self, Failure},
};
use crate::{ledger::cards::Taking, policy::Caller};

/// Which cards there are, and taking them from their holders.
pub(super) fn router() -> Router<Arc<Service>> {
    Router::new()
        .route("/v1/cards", get(list))
        .route("/v1/cards/{serial}", get(show))
        .route("/v1/cards/{serial}/release", post(release))
        .route("/v1/cards/{serial}/remove", post(remove))
}

type Answer = Result<Response, Failure>;
type Serial = Result<Path<u32>, PathRejection>;

async fn list(
    State(service): State<Arc<Service>>,
    caller: Caller,
    RawQuery(query): RawQuery,
) -> Answer {
    service.authority.only_operators(&caller, "card", "list").await?;
    let query: CardQuery = serde_urlencoded::from_str(query.as_deref().unwrap_or_default())
        .map_err(|error| bad(format!("the query cannot be read: {error}")))?;
    if query.limit.is_some_and(|limit| !(1..=PAGE).contains(&limit)) {
        return Err(bad(format!("limit is 1 to {PAGE}")).into());
    }
    let cards = service.ledger.cards(query, service.clock.now()).await?;
    Ok(answer::json(StatusCode::OK, &cards))
}

async fn show(State(service): State<Arc<Service>>, caller: Caller, serial: Serial) -> Answer {
    let Path(serial) = serial.map_err(answer::bad_path)?;
    service.authority.only_operators(&caller, "card show", &serial.to_string()).await?;
    let card = service.ledger.card(serial, service.clock.now()).await?;
    Ok(answer::json(StatusCode::OK, &card.ok_or_else(|| absent(serial))?))
}

async fn release(State(service): State<Arc<Service>>, serial: Serial, request: Request) -> Answer {
    take(&service, serial, request, Taking::Release).await
}

async fn remove(State(service): State<Arc<Service>>, serial: Serial, request: Request) -> Answer {
    take(&service, serial, request, Taking::Remove).await
}

async fn take(service: &Arc<Service>, serial: Serial, request: Request, taking: Taking) -> Answer {
    let (caller, because) = read::<Because>(service, request).await?;
    let Path(serial) = serial.map_err(answer::bad_path)?;
    let taken = service.authority.take_card(&caller, serial, taking, because).await?;
    Ok(answer::json(StatusCode::OK, &taken.ok_or_else(|| absent(serial))?))
}

fn absent(serial: u32) -> Problem {
    Problem::new(ProblemKind::NotFound, format!("no card {serial} has attested a key"))
        .with_reason("no-such-card")
        .with_hint("chancery card list shows which there are")
}

fn bad(detail: String) -> Problem {
    Problem::new(ProblemKind::BadRequest, detail)
}

/// The most cards that one page may have.
const PAGE: u32 = 1_000;
