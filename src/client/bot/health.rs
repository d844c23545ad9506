//! `/livez`, `/readyz`, `/readyz/OUTPUT` and `/metrics`, on the loopback interface.

use std::{convert::Infallible, sync::Arc, time::Duration};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::CONTENT_TYPE,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use jiff::Timestamp;
use tokio::{net::TcpListener, sync::Semaphore};

use super::status::Status;

/// Answers until it is dropped. `look` says how things stand, and what time it is.
pub(super) async fn serve<F>(listener: TcpListener, look: F)
where
    F: Fn() -> (Status, Timestamp) + Clone + Send + Sync + 'static,
{
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            // No descriptors are left: some will be again.
            tokio::time::sleep(Duration::from_secs(1)).await;
            continue;
        };
        let look = look.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let (status, now) = look();
                let answer = answer(request.method(), request.uri().path(), &status, now);
                async move { Ok::<_, Infallible>(answer) }
            });
            let mut server = http1::Builder::new();
            server.timer(TokioTimer::new()).header_read_timeout(PATIENCE).max_buf_size(BUFFER);
            let connection = server.serve_connection(TokioIo::new(stream), service);
            // A connection that breaks, or that says nothing for long, is the other side's matter.
            let _ = tokio::time::timeout(LONGEST, connection).await;
            drop(place);
        });
    }
}

fn answer(method: &Method, path: &str, status: &Status, now: Timestamp) -> Response<Full<Bytes>> {
    if method != Method::GET {
        return text(StatusCode::METHOD_NOT_ALLOWED, "ask with GET".to_owned());
    }
    match path {
        "/livez" => text(StatusCode::OK, "alive".to_owned()),
        "/metrics" => text(StatusCode::OK, status.metrics(now)),
        "/readyz" => ready(status.unready(now)),
        path => match path.strip_prefix("/readyz/") {
            Some(name) => match status.output_unready(name, now) {
                Some(unready) => ready(unready),
                None => text(StatusCode::NOT_FOUND, format!("there is no output {name:?}")),
            },
            None => text(StatusCode::NOT_FOUND, "there is no such page".to_owned()),
        },
    }
}

fn ready(unready: Option<String>) -> Response<Full<Bytes>> {
    match unready {
        None => text(StatusCode::OK, "ready".to_owned()),
        Some(why) => text(StatusCode::SERVICE_UNAVAILABLE, why),
    }
}

fn text(status: StatusCode, mut text: String) -> Response<Full<Bytes>> {
    if !text.ends_with('\n') {
        text.push('\n');
    }
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    let kind = hyper::header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// How many may ask at the same time.
const CONNECTIONS: usize = 16;
/// How long a request may take to come.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a connection may stay.
const LONGEST: Duration = Duration::from_secs(60);
/// A request is short.
const BUFFER: usize = 8 * 1024;
