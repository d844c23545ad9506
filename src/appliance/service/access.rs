//! `/v1/sessions`, `/v1/locks` and `/v1/revoke`: who gets access, and who loses it.

use std::sync::Arc;

use api::{
    BODY_LEN, Because, LockPreview, LockRequest, Problem, ProblemKind, RevokeRequest, SessionQuery,
    SessionRequest, UnlockRequest,
};
use axum::{
    Router,
    extract::{FromRequestParts, Path, RawQuery, Request, State, rejection::PathRejection},
    response::Response,
    routing::{get, post},
};
use http::{HeaderMap, StatusCode};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    Service,
    answer::{self, Failure},
    api::{JSON, admit, media_type},
    body::json,
};
use crate::{authority::IssueError, policy::Caller};

/// Sessions, locks and revocations.
pub(super) fn router() -> Router<Arc<Service>> {
    Router::new()
        .route("/v1/locks", get(locks).post(lock))
        .route("/v1/locks/preview", post(preview))
        .route("/v1/locks/remove", post(unlock))
        .route("/v1/revoke", post(revoke))
        .route("/v1/sessions", get(sessions).post(request))
        .route("/v1/sessions/{id}", get(session))
        .route("/v1/sessions/{id}/approve", post(approve))
        .route("/v1/sessions/{id}/deny", post(deny))
        .route("/v1/sessions/{id}/end", post(end))
        .route("/v1/sessions/{id}/heartbeat", post(heartbeat))
}

type Answer = Result<Response, Failure>;
type Id = Result<Path<String>, PathRejection>;

async fn request(State(service): State<Arc<Service>>, request: Request) -> Answer {
    let (caller, request) = read::<SessionRequest>(&service, request).await?;
    ok(service.authority.request_session(&caller, request).await)
}

async fn sessions(
    State(service): State<Arc<Service>>,
    caller: Caller,
    RawQuery(query): RawQuery,
) -> Answer {
    let query: SessionQuery = serde_urlencoded::from_str(query.as_deref().unwrap_or_default())
        .map_err(|error| {
            Problem::new(ProblemKind::BadRequest, format!("the query cannot be read: {error}"))
        })?;
    ok(service.authority.sessions(&caller, query).await)
}

async fn session(State(service): State<Arc<Service>>, caller: Caller, id: Id) -> Answer {
    let Path(id) = id.map_err(answer::bad_path)?;
    ok(service.authority.session(&caller, &id).await)
}

async fn approve(State(service): State<Arc<Service>>, id: Id, request: Request) -> Answer {
    decide(&service, id, request, true).await
}

async fn deny(State(service): State<Arc<Service>>, id: Id, request: Request) -> Answer {
    decide(&service, id, request, false).await
}

async fn decide(service: &Arc<Service>, id: Id, request: Request, approved: bool) -> Answer {
    let (caller, because) = read::<Because>(service, request).await?;
    let Path(id) = id.map_err(answer::bad_path)?;
    ok(service.authority.decide_session(&caller, &id, approved, because).await)
}

async fn end(State(service): State<Arc<Service>>, id: Id, request: Request) -> Answer {
    let (caller, because) = read::<Because>(&service, request).await?;
    let Path(id) = id.map_err(answer::bad_path)?;
    ok(service.authority.end_session(&caller, &id, because).await)
}

async fn heartbeat(State(service): State<Arc<Service>>, caller: Caller, id: Id) -> Answer {
    let Path(id) = id.map_err(answer::bad_path)?;
    ok(service.authority.beat(&caller, &id).await)
}

async fn lock(State(service): State<Arc<Service>>, request: Request) -> Answer {
    let (caller, request) = read::<LockRequest>(&service, request).await?;
    ok(service.authority.lock(&caller, request).await)
}

async fn preview(State(service): State<Arc<Service>>, request: Request) -> Answer {
    let (caller, request) = read::<LockPreview>(&service, request).await?;
    ok(service.authority.preview_lock(&caller, request).await)
}

async fn unlock(State(service): State<Arc<Service>>, request: Request) -> Answer {
    let (caller, request) = read::<UnlockRequest>(&service, request).await?;
    ok(service.authority.unlock(&caller, request).await)
}

async fn locks(State(service): State<Arc<Service>>, caller: Caller) -> Answer {
    ok(service.authority.list_locks(&caller).await)
}

async fn revoke(State(service): State<Arc<Service>>, request: Request) -> Answer {
    let (caller, request) = read::<RevokeRequest>(&service, request).await?;
    let what = format!("authority {:?} has no serial number {:?}", request.issuer, request.serial);
    match service.authority.revoke(&caller, request).await? {
        Some(revoked) => Ok(answer::json(StatusCode::OK, &revoked)),
        None => Err(Problem::new(ProblemKind::NotFound, what).into()),
    }
}

/// Who asks, and the body of the request.
pub(super) async fn read<T: DeserializeOwned>(
    service: &Arc<Service>,
    request: Request,
) -> Result<(Caller, T), Failure> {
    read_as(service, request).await
}

/// As [`read`], for those who are to be known in another way.
pub(super) async fn read_as<C, T>(
    service: &Arc<Service>,
    request: Request,
) -> Result<(C, T), Failure>
where
    C: FromRequestParts<Arc<Service>, Rejection = Failure>,
    T: DeserializeOwned,
{
    let check = |headers: &HeaderMap| media_type(headers, JSON);
    let (caller, (), body) = admit(service, request, check).await?;
    Ok((caller, json(&body.whole(BODY_LEN).await?)?))
}

fn ok(outcome: Result<impl Serialize, IssueError>) -> Answer {
    Ok(answer::json(StatusCode::OK, &outcome?))
}
