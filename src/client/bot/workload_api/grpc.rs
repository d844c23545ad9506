//! As much of gRPC over HTTP/2 as it takes to answer one message with a stream of messages
//! (grpc/doc/PROTOCOL-HTTP2.md).

use std::{convert::Infallible, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header::CONTENT_TYPE};
use http_body_util::{BodyExt, Empty, Limited, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Body, Frame};
use tokio::time::timeout;

/// The body of an answer.
pub(super) type Answer = UnsyncBoxBody<Bytes, Infallible>;

/// How a call ended that did not end well.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Status {
    code: Code,
    message: String,
}

/// The codes that are used here (grpc/doc/statuscodes.md).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Code {
    DeadlineExceeded = 4,
    Internal = 13,
    InvalidArgument = 3,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    Unavailable = 14,
    Unimplemented = 12,
}

impl Status {
    pub(super) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// The answer to a call of which nothing was answered yet ("Trailers-Only").
    pub(super) fn into_answer(self) -> Response<Answer> {
        let mut answer = Response::new(Empty::new().boxed_unsync());
        *answer.headers_mut() = self.trailers();
        answer.headers_mut().insert(CONTENT_TYPE, GRPC);
        answer
    }

    fn trailers(&self) -> HeaderMap {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from(self.code as u16));
        // What is not plain text is left out, where the protocol would have it percent-encoded:
        // the messages here are ours, and only a path in them is the peer's.
        let plain = |c: &char| matches!(c, ' '..='~') && *c != '%';
        let message: String = self.message.chars().filter(plain).collect();
        if let Ok(message) = HeaderValue::try_from(message) {
            trailers.insert("grpc-message", message);
        }
        trailers
    }
}

/// Whether a request is a call.
pub(super) fn is_call(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    kind.is_some_and(|kind| {
        kind.strip_prefix(b"application/grpc")
            .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
    })
}

/// The answer to what is no call: that of HTTP.
pub(super) fn no_call() -> Response<Answer> {
    let mut answer = Response::new(Empty::new().boxed_unsync());
    *answer.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    answer
}

/// The one message of a request, which is small and there soon.
pub(super) async fn one_message<B>(body: B) -> Result<Bytes, Status>
where
    B: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>>,
{
    let all = timeout(PATIENCE, Limited::new(body, LONGEST_REQUEST).collect()).await;
    let late = |_| Status::new(Code::DeadlineExceeded, "the request did not come to an end");
    let broken = |_| Status::new(Code::ResourceExhausted, "the request is too long, or cut off");
    let mut all = all.map_err(late)?.map_err(broken)?.to_bytes();
    let malformed = Status::new(Code::Internal, "the request is not one message");
    let Some((&[compressed, ref length @ ..], message)) = all.split_first_chunk::<PREFIX>() else {
        return Err(malformed);
    };
    if compressed != 0 {
        return Err(Status::new(Code::Unimplemented, "compressed messages are not taken"));
    }
    if u32::from_be_bytes(*length) as usize != message.len() {
        return Err(malformed);
    }
    Ok(all.split_off(PREFIX))
}

/// Messages as they come. The stream ends with a status that is not good; it never ends well.
pub(super) fn stream(
    messages: impl Stream<Item = Result<Bytes, Status>> + Send + 'static,
) -> Response<Answer> {
    let frames = messages.flat_map(|item| {
        let frames = match item {
            Ok(message) => [Some(Frame::data(prefix(&message))), Some(Frame::data(message))],
            Err(status) => [Some(Frame::trailers(status.trailers())), None],
        };
        futures_util::stream::iter(frames.into_iter().flatten().map(Ok))
    });
    let mut answer = Response::new(BodyExt::boxed_unsync(StreamBody::new(frames)));
    answer.headers_mut().insert(CONTENT_TYPE, GRPC);
    answer
}

/// Not compressed, and how long.
fn prefix(message: &[u8]) -> Bytes {
    let mut prefix = BytesMut::with_capacity(PREFIX);
    prefix.put_u8(0);
    prefix.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    prefix.freeze()
}

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
/// One byte, and a length of four.
const PREFIX: usize = 5;
/// The requests have no fields; somebody's later version may.
const LONGEST_REQUEST: usize = 4 * 1_024;
const PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use http_body_util::Full;

    use super::*;

    #[tokio::test]
    async fn a_request_is_one_message_that_is_not_compressed() {
        let read = async |bytes: &[u8]| {
            one_message(Full::new(Bytes::copy_from_slice(bytes))).await.map_err(|it| it.code)
        };
        assert_eq!(read(&[0; 5]).await.unwrap(), Bytes::new());
        assert_eq!(read(&[0, 0, 0, 0, 2, 8, 1]).await.unwrap(), [8, 1][..]);
        for (bytes, code) in [
            (vec![], Code::Internal),
            (vec![0; 4], Code::Internal),
            (vec![0; 6], Code::Internal),
            (vec![0, 0, 0, 0, 1], Code::Internal),
            (vec![0, 0xff, 0xff, 0xff, 0xff, 1], Code::Internal),
            (vec![1, 0, 0, 0, 0], Code::Unimplemented),
            (vec![0; LONGEST_REQUEST + 1], Code::ResourceExhausted),
        ] {
            assert_eq!(read(&bytes).await, Err(code), "{bytes:?}");
        }
    }

    #[tokio::test]
    async fn a_stream_ends_with_its_status() {
        let status = Status::new(Code::PermissionDenied, "the bot is locked\r\n100 %ä");
        let items = [Ok(Bytes::from_static(b"abc")), Err(status)];
        let answer = stream(futures_util::stream::iter(items));
        assert_eq!(answer.headers()[CONTENT_TYPE], "application/grpc");
        let all = answer.into_body().collect().await.unwrap();
        let trailers = all.trailers().unwrap().clone();
        assert_eq!(trailers["grpc-status"], "7");
        assert_eq!(trailers["grpc-message"], "the bot is locked100 ");
        assert_eq!(all.to_bytes(), b"\0\0\0\0\x03abc"[..]);
    }

    #[test]
    fn a_call_says_that_it_is_one() {
        let is = |kind: &str| {
            let value = HeaderValue::from_str(kind).unwrap();
            is_call(&HeaderMap::from_iter([(CONTENT_TYPE, value)]))
        };
        assert!(is("application/grpc") && is("application/grpc+proto"));
        assert!(!is("application/grpc-web") && !is("application/json"));
        assert!(!is_call(&HeaderMap::new()));
    }
}
