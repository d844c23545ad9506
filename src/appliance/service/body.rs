use std::{convert::Infallible, time::Duration};

use api::{Problem, ProblemKind};
use axum::{
    body::{Body, HttpBody},
    extract::{FromRequest, Request},
};
use bytes::{Buf, Bytes, BytesMut};
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::connection::BODY_PATIENCE;

/// How much of a body that is too large is read and thrown away, so that a client that sends
/// first and reads afterwards gets its answer and not a reset connection.
const DRAIN_LEN: usize = 64 * 1024 * 1024;

/// A request's body, whose client may keep the appliance waiting only so long, in all.
#[derive(Debug)]
pub(super) struct Incoming {
    body: Body,
    patience: Duration,
}

impl<S: Sync> FromRequest<S> for Incoming {
    type Rejection = Infallible;

    async fn from_request(request: Request, _: &S) -> Result<Self, Infallible> {
        Ok(Self::new(request.into_body(), BODY_PATIENCE))
    }
}

impl Incoming {
    pub(super) fn new(body: Body, patience: Duration) -> Self {
        Self { body, patience }
    }

    /// The next piece; none at the end.
    pub(super) async fn piece(&mut self) -> Result<Option<Bytes>, Problem> {
        loop {
            if self.body.is_end_stream() {
                return Ok(None);
            }
            let asked = Instant::now();
            let frame = tokio::time::timeout(self.patience, self.body.frame()).await;
            self.patience = self.patience.saturating_sub(asked.elapsed());
            let frame = match frame {
                Ok(None) => return Ok(None),
                Ok(Some(Ok(frame))) => frame,
                Ok(Some(Err(_))) => {
                    return Err(Problem::new(ProblemKind::BadRequest, "the body broke off"));
                }
                Err(_) => {
                    return Err(Problem::new(
                        ProblemKind::Timeout,
                        "the body did not come in time",
                    ));
                }
            };
            // What is no data is a trailer, and no request has one.
            if let Ok(data) = frame.into_data()
                && data.has_remaining()
            {
                return Ok(Some(data));
            }
        }
    }

    /// The whole body, of at most `limit` bytes.
    pub(super) async fn whole(mut self, limit: usize) -> Result<Bytes, Problem> {
        let announced = usize::try_from(self.body.size_hint().lower()).unwrap_or(usize::MAX);
        if announced > limit {
            return Err(self.too_large(limit).await);
        }
        // Most bodies come as one piece, which is not copied.
        let Some(first) = self.piece().await? else { return Ok(Bytes::new()) };
        if first.len() <= limit && self.body.is_end_stream() {
            return Ok(first);
        }
        let mut body = BytesMut::with_capacity(announced.max(first.len()));
        body.extend_from_slice(&first);
        while body.len() <= limit
            && let Some(piece) = self.piece().await?
        {
            body.extend_from_slice(&piece);
        }
        if body.len() > limit {
            return Err(self.too_large(limit).await);
        }
        Ok(body.freeze())
    }

    /// Reads what is left and throws it away.
    pub(super) async fn drain(&mut self) {
        let mut left = DRAIN_LEN;
        while left > 0
            && let Ok(Some(piece)) = self.piece().await
        {
            left = left.saturating_sub(piece.len());
        }
    }

    async fn too_large(&mut self, limit: usize) -> Problem {
        self.drain().await;
        too_large(limit)
    }
}

/// Reads JSON; unknown fields, repeated fields and text after the end are errors.
pub(super) fn json<T: DeserializeOwned>(text: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(text).map_err(|error| {
        Problem::new(ProblemKind::BadRequest, format!("the body cannot be read: {error}"))
            .with_hint("GET /openapi.json on the public listener describes every request")
    })
}

/// The body, or a line of it, is longer than `limit` bytes.
pub(super) fn too_large(limit: usize) -> Problem {
    Problem::new(ProblemKind::TooLarge, format!("at most {limit} bytes are read"))
        .with_hint("send less at once")
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt, stream};

    use super::*;

    #[tokio::test]
    async fn a_body_is_read_up_to_its_limit() {
        assert_eq!(read(&["ab", "cd", "e"], 5).await.unwrap(), "abcde");
        assert_eq!(read(&["abcde"], 5).await.unwrap(), "abcde");
        assert_eq!(read(&[], 5).await.unwrap(), "");
        for pieces in [&["abcdef"][..], &["abc", "def"], &["a", "b", "c", "d", "e", "f"]] {
            assert_eq!(read(pieces, 5).await.unwrap_err().kind, ProblemKind::TooLarge);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_may_keep_the_appliance_waiting_only_so_long_in_all() {
        let drops = stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            Some((Ok::<_, Infallible>("x"), ()))
        });
        let incoming = Incoming::new(Body::from_stream(drops), Duration::from_millis(50));
        assert_eq!(incoming.whole(1 << 20).await.unwrap_err().kind, ProblemKind::Timeout);
    }

    #[test]
    fn json_names_the_field_that_there_is_not() {
        let text = br#"{"role":"r","key":"k","scheme":"ecdsa-p256-sha256","digest":"","x":1}"#;
        let problem = json::<api::SignRequest>(text).unwrap_err();
        assert_eq!(problem.kind, ProblemKind::BadRequest);
        assert!(problem.detail.contains("unknown field `x`"), "{}", problem.detail);
    }

    async fn read(pieces: &'static [&str], limit: usize) -> Result<Bytes, Problem> {
        let body = Body::from_stream(stream::iter(pieces).map(|piece| Ok::<_, Infallible>(*piece)));
        Incoming::new(body, Duration::from_secs(5)).whole(limit).await
    }
}
