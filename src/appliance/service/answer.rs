use std::{convert::Infallible, panic::AssertUnwindSafe, time::Instant};

use api::{PROBLEM_JSON, Problem, ProblemKind};
use axum::{
    body::Body,
    extract::{MatchedPath, Request, rejection::PathRejection},
    middleware::Next,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::{FutureExt, Stream, StreamExt};
use http::{HeaderValue, StatusCode, Uri, header};
use serde::Serialize;

use super::{metrics, problem};

/// A problem as an answer (RFC 9457 section 3).
#[derive(Debug)]
pub(super) struct Failure(Problem);

impl<E: Into<Problem>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let Self(problem) = self;
        let status =
            StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = json(status, &problem);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if let Some(seconds) = problem.retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

/// What every answer goes through, whatever it was asked for: a panic ends its request and nothing
/// else, nobody keeps what is not said to be kept, and the metrics tell of it.
pub(super) async fn watch(route: Option<MatchedPath>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let answered = AssertUnwindSafe(next.run(request)).catch_unwind().await;
    let mut response =
        answered.unwrap_or_else(|_| Failure::from(problem::internal()).into_response());
    let no_store = HeaderValue::from_static("no-store");
    response.headers_mut().entry(header::CACHE_CONTROL).or_insert(no_store);
    let endpoint = route.as_ref().map_or("unknown", MatchedPath::as_str);
    metrics::answered(endpoint, response.status(), started.elapsed());
    response
}

/// There is nothing at this path.
pub(super) async fn not_found(uri: Uri) -> Failure {
    let detail = format!("there is nothing at {:?}", uri.path());
    let hint = "GET /openapi.json on the public listener lists what there is";
    Problem::new(ProblemKind::NotFound, detail).with_hint(hint).into()
}

/// There is something at this path, but for another method; the router says for which.
pub(super) async fn method_not_allowed() -> Failure {
    Problem::new(ProblemKind::MethodNotAllowed, "this method does nothing here")
        .with_hint("use a method that the header Allow names")
        .into()
}

/// What stands in the path cannot be read.
pub(super) fn bad_path(rejection: PathRejection) -> Failure {
    let detail = format!("the path cannot be read: {}", rejection.body_text());
    Problem::new(ProblemKind::BadRequest, detail).into()
}

/// An answer in JSON.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(text) => whole(status, "application/json", text),
        Err(error) => {
            tracing::error!(%error, "an answer cannot be written as JSON");
            whole(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", "the appliance failed\n")
        }
    }
}

/// An answer that is there as a whole.
pub(super) fn whole(
    status: StatusCode,
    media_type: &'static str,
    body: impl Into<Body>,
) -> Response {
    (status, [(header::CONTENT_TYPE, media_type)], body.into()).into_response()
}

/// It was done, and there is nothing to say.
pub(super) fn nothing() -> Response {
    StatusCode::NO_CONTENT.into_response()
}

/// An answer that comes piece by piece.
pub(super) fn streamed(
    media_type: &'static str,
    pieces: impl Stream<Item = Bytes> + Send + 'static,
) -> Response {
    let pieces = pieces.map(Ok::<_, Infallible>);
    whole(StatusCode::OK, media_type, Body::from_stream(pieces))
}

#[cfg(test)]
mod tests {
    use axum::{Router, middleware, routing::get};
    use hyper::service::Service;
    use hyper_util::service::TowerToHyperService;

    use super::*;

    #[tokio::test]
    async fn a_panic_ends_its_request_and_nothing_else() {
        let router = Router::new()
            .route("/bad", get(async || -> StatusCode { panic!("a handler is broken") }))
            .route("/good", get(async || StatusCode::OK))
            .layer(middleware::from_fn(watch));
        let router = TowerToHyperService::new(router);
        for (path, status) in [("/bad", 500), ("/good", 200), ("/bad", 500)] {
            let request = Request::get(path).body(Body::empty()).unwrap();
            let response = router.call(request).await.unwrap();
            assert_eq!(response.status().as_u16(), status, "{path}");
            assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store", "{path}");
        }
    }
}
