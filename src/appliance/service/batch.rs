use std::{sync::Arc, time::Duration};

use api::{BATCH_ITEMS, BODY_LEN, BatchItem, BatchOutcome, BatchResult, Problem, ProblemKind};
use bytes::{Bytes, BytesMut};
use futures_util::{FutureExt, Stream, StreamExt, stream};

use super::{
    Service,
    api::{Done, perform},
    body::{Incoming, json, too_large},
    metrics, problem,
};
use crate::{policy::Caller, signing::Priority};

/// How many items of one batch are worked on at once. More would not make the ledger's
/// transactions and the token's queue any fuller.
const WINDOW: usize = 128;

/// How many items of all batches are worked on at once, so that single requests always find room
/// in the signing queue.
pub(super) const ALL_WINDOWS: usize = 1_024;

/// About as long as the line of an SSH certificate.
const USUAL_LINE: usize = 1_536;

/// How long a batch may wait, in all, because its client asks too often. One that is alone fits in
/// at the rate that clients have unless it is set.
const PATIENCE: Duration = Duration::from_secs(10);

/// The lines of a batch's answer, in the order of its items; several lines at once when several
/// are ready. A client that does not read holds its own batch up and no other.
pub(super) fn results(
    service: Arc<Service>,
    caller: Caller,
    body: Incoming,
    limit: usize,
) -> impl Stream<Item = Bytes> + Send + 'static {
    let context = Arc::new((service, caller));
    let paced = (Lines::new(body, limit), PATIENCE, context.clone());
    stream::unfold(paced, async |(mut lines, mut patience, context)| {
        let line = pace(lines.next().await?, &mut patience, &context.0, &context.1).await;
        Some((line, (lines, patience, context)))
    })
    .map(move |line| {
        let context = context.clone();
        async move { result(&context.0, &context.1, line).await }
    })
    .buffered(WINDOW)
    .ready_chunks(WINDOW)
    .map(|results| text(&results))
}

/// One line of a batch: its number, and what stands there or why it was not read.
type Line = (usize, Result<Bytes, Problem>);

/// Lets an item wait until its client may ask for it; the first one, the request itself stands for.
async fn pace(
    (index, line): Line,
    patience: &mut Duration,
    service: &Service,
    caller: &Caller,
) -> Line {
    if index == 0 || line.is_err() {
        return (index, line);
    }
    let paced = service.limits.pace(caller, patience).await;
    (index, paced.and(line))
}

async fn result(service: &Service, caller: &Caller, (index, line): Line) -> BatchResult {
    // A panic ends this item and no other.
    let done = std::panic::AssertUnwindSafe(item(service, caller, line)).catch_unwind().await;
    let (status, outcome) = match done.unwrap_or_else(|_| Err(problem::internal())) {
        Ok(Done::Issued(issued)) => (201, BatchOutcome::Issued(issued)),
        Ok(Done::Signed(signed)) => (200, BatchOutcome::Signed(signed)),
        Err(problem) => (problem.status, BatchOutcome::Problem(problem)),
    };
    metrics::batch_item(status);
    BatchResult { index, status, outcome }
}

fn text(results: &[BatchResult]) -> Bytes {
    let mut text = Vec::with_capacity(results.len() * USUAL_LINE);
    for result in results {
        if let Err(error) = serde_json::to_writer(&mut text, result) {
            tracing::error!(%error, "a result cannot be written as JSON");
        }
        text.push(b'\n');
    }
    text.into()
}

async fn item(
    service: &Service,
    caller: &Caller,
    line: Result<Bytes, Problem>,
) -> Result<Done, Problem> {
    let item: BatchItem = json(&line?)?;
    let Ok(_permit) = service.batch_windows.acquire().await else {
        return Err(problem::internal());
    };
    perform(service, caller, item.request, item.idempotency_key, Priority::Bulk).await
}

/// The lines of a body, as they come.
struct Lines {
    body: Incoming,
    /// What was read and not yet given out.
    buffer: BytesMut,
    /// Where in the buffer no line end was found yet.
    scanned: usize,
    /// How many bytes were read.
    read: usize,
    /// How many may be read.
    limit: usize,
    index: usize,
    state: State,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum State {
    /// Lines come.
    Open,
    /// The line that comes is too long; its rest is thrown away.
    Overlong,
    /// The batch is too large; its rest is thrown away.
    Refused,
    /// The body has ended, or broken off.
    Ended,
}

impl Lines {
    fn new(body: Incoming, limit: usize) -> Self {
        Self {
            body,
            buffer: BytesMut::new(),
            scanned: 0,
            read: 0,
            limit,
            index: 0,
            state: State::Open,
        }
    }

    async fn next(&mut self) -> Option<Line> {
        loop {
            if self.state == State::Refused {
                self.body.drain().await;
                self.state = State::Ended;
            }
            if let Some(line) = self.buffered_line() {
                return Some(line);
            }
            if self.state == State::Ended {
                return None;
            }
            match self.body.piece().await {
                Ok(Some(piece)) => {
                    self.read += piece.len();
                    if self.read > self.limit {
                        return Some(self.refuse(too_large(self.limit)));
                    }
                    self.take(&piece);
                }
                Ok(None) => self.end(),
                Err(problem) => {
                    let line = self.refuse(problem);
                    self.state = State::Ended;
                    return Some(line);
                }
            }
        }
    }

    /// The next line of what was read already.
    fn buffered_line(&mut self) -> Option<Line> {
        let found = self.buffer.get(self.scanned..)?.iter().position(|byte| *byte == b'\n');
        let Some(offset) = found else {
            self.scanned = self.buffer.len();
            return None;
        };
        let line = self.buffer.split_to(self.scanned + offset + 1).freeze();
        self.scanned = 0;
        if self.index == BATCH_ITEMS {
            return Some(self.refuse(too_many()));
        }
        let overlong = self.state == State::Overlong || line.len() > BODY_LEN;
        if self.state == State::Overlong {
            self.state = State::Open;
        }
        Some(self.number(if overlong { Err(too_large(BODY_LEN)) } else { Ok(line) }))
    }

    fn take(&mut self, piece: &[u8]) {
        self.buffer.extend_from_slice(piece);
        if self.buffer.len() > BODY_LEN && !self.buffer[self.scanned..].contains(&b'\n') {
            self.buffer.clear();
            self.scanned = 0;
            self.state = State::Overlong;
        }
    }

    /// The body is over: its last line need not have an end, and is then given one.
    fn end(&mut self) {
        if self.buffer.is_empty() && self.state == State::Open {
            self.state = State::Ended;
        } else {
            self.buffer.extend_from_slice(b"\n");
        }
    }

    /// This line and all after it are not read.
    fn refuse(&mut self, problem: Problem) -> Line {
        self.buffer.clear();
        self.scanned = 0;
        self.state = State::Refused;
        self.number(Err(problem))
    }

    fn number(&mut self, line: Result<Bytes, Problem>) -> Line {
        let index = self.index;
        self.index += 1;
        (index, line)
    }
}

fn too_many() -> Problem {
    let detail = format!(
        "a batch has at most {BATCH_ITEMS} items; this one and those after it were not read"
    );
    Problem::new(ProblemKind::TooLarge, detail).with_hint("send the rest as another batch")
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use axum::body::Body;

    use super::*;

    #[tokio::test]
    async fn lines_are_found_whatever_the_pieces() {
        let whole = ["a\nbc\n\nd"];
        let split = ["a", "\nb", "c\n\n", "", "d"];
        for pieces in [&whole[..], &split] {
            assert_eq!(lines(pieces, 100).await, ["a\n", "bc\n", "\n", "d\n"]);
        }
        assert_eq!(lines(&["a\n"], 100).await, ["a\n"]);
        assert_eq!(lines(&[], 100).await, [""; 0]);
    }

    #[tokio::test]
    async fn a_line_that_is_too_long_spoils_no_other() {
        let long = "x".repeat(BODY_LEN);
        let part = "x".repeat(BODY_LEN / 3);
        let tail = ["a\n", &long, "\nb\n"].concat();
        let pieces = ["a\n", &part, &part, &part, &part, "\nb\n"];
        let problem = format!("at most {BODY_LEN} bytes are read");
        assert_eq!(lines(&[&tail], 1 << 20).await, ["a\n", &problem, "b\n"]);
        assert_eq!(lines(&pieces, 1 << 20).await, ["a\n", &problem, "b\n"]);
        assert_eq!(lines(&["a\n", &long, "x"], 1 << 20).await, ["a\n", &problem]);
    }

    #[tokio::test]
    async fn a_batch_has_so_many_items_and_bytes_and_no_more() {
        let most = "x\n".repeat(BATCH_ITEMS);
        let found = lines(&[&most], 1 << 20).await;
        assert_eq!((found.len(), found[BATCH_ITEMS - 1].as_str()), (BATCH_ITEMS, "x\n"));
        let found = lines(&[&most, "x\nx\nx\n"], 1 << 20).await;
        assert_eq!(found.len(), BATCH_ITEMS + 1);
        assert!(found[BATCH_ITEMS].contains("those after it were not read"));
        let found = lines(&["a\n", "b\n", "c\n"], 4).await;
        assert_eq!(found, ["a\n", "b\n", "at most 4 bytes are read"]);
    }

    async fn lines(pieces: &[&str], limit: usize) -> Vec<String> {
        let pieces: Vec<_> =
            pieces.iter().map(|piece| Ok::<_, Infallible>((*piece).to_owned())).collect();
        let body = Body::from_stream(stream::iter(pieces));
        let body = Incoming::new(body, Duration::from_secs(5));
        let mut lines = Lines::new(body, limit);
        let mut found = Vec::new();
        while let Some((index, line)) = lines.next().await {
            assert_eq!(index, found.len());
            found.push(match line {
                Ok(line) => String::from_utf8(line.to_vec()).unwrap(),
                Err(problem) => problem.detail,
            });
        }
        found
    }
}
