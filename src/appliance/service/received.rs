use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::body::HttpBody;
use bytes::Bytes;
use hyper::body::{Frame, Incoming, SizeHint};

use super::slots::InFlight;

/// A request's body as it comes: while it is waited for, its connection may be put out. Without
/// that, a few clients could hold all places with bodies that never end.
#[derive(Debug)]
pub(super) struct Received {
    body: Incoming,
    in_flight: Arc<InFlight>,
}

impl Received {
    pub(super) fn new(body: Incoming, in_flight: Arc<InFlight>) -> Self {
        Self { body, in_flight }
    }
}

impl HttpBody for Received {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if frame.is_pending() {
            self.in_flight.waits()
        } else {
            self.in_flight.works()
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
