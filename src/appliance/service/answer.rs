use std::convert::Infallible;

use api::{PROBLEM_JSON, Problem, ProblemKind};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, Either, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use serde::Serialize;

/// The body of an answer: whole, or as it comes to be.
pub(super) type Body = Either<Full<Bytes>, UnsyncBoxBody<Bytes, Infallible>>;

/// An answer in JSON.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    match serde_json::to_vec(value) {
        Ok(text) => whole(status, "application/json", text),
        Err(error) => {
            tracing::error!(%error, "an answer cannot be written as JSON");
            whole(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", "the appliance failed\n")
        }
    }
}

/// A problem as an answer (RFC 9457 section 3).
pub(super) fn problem(problem: &Problem) -> Response<Body> {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = json(status, problem);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
    if let Some(seconds) = problem.retry_after {
        headers.insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

/// There is nothing at this path.
pub(super) fn not_found(path: &str) -> Response<Body> {
    let detail = format!("there is nothing at {path:?}");
    let hint = "GET /openapi.json on the public listener lists what there is";
    problem(&Problem::new(ProblemKind::NotFound, detail).with_hint(hint))
}

/// There is something at this path, but for another method.
pub(super) fn method_not_allowed(allowed: &'static str) -> Response<Body> {
    let refusal = Problem::new(ProblemKind::MethodNotAllowed, "this method does nothing here")
        .with_hint(format!("use {allowed}"));
    let mut response = problem(&refusal);
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    response
}

/// An answer that is there as a whole.
pub(super) fn whole(
    status: StatusCode,
    media_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Body> {
    with(status, media_type, Either::Left(Full::new(body.into())))
}

/// An answer that comes piece by piece.
pub(super) fn streamed(
    media_type: &'static str,
    pieces: impl Stream<Item = Bytes> + Send + 'static,
) -> Response<Body> {
    let frames = pieces.map(|piece| Ok(Frame::data(piece)));
    with(StatusCode::OK, media_type, Either::Right(StreamBody::new(frames).boxed_unsync()))
}

fn with(status: StatusCode, media_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}
