//! The hash chain over the exact bytes of each line.

use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;

use super::{Event, Record, Trailer};
use crate::digest::Digest;

/// The lines of a transcript that is whole, or that was interrupted.
#[derive(Clone, Debug)]
pub struct Chain {
    /// Every whole record.
    pub records: Vec<Record>,
    /// The head after them.
    pub head: Digest,
    /// The last line is there and states the head.
    pub ended: bool,
    /// How many bytes the whole lines have.
    pub whole: usize,
}

impl Chain {
    /// Follows the chain. A last line without its line end is left out: that is how a power loss
    /// leaves a file.
    ///
    /// # Errors
    ///
    /// There is no whole record, or a line does not follow from those before it.
    pub fn read(content: &[u8]) -> Result<Self, ChainError> {
        let whole = content.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let mut records: Vec<Record> = Vec::new();
        let mut head = None;
        let mut ended = false;
        let lines = content[..whole].split_inclusive(|byte| *byte == b'\n');
        let lines: Vec<&[u8]> = lines.map(|line| &line[..line.len() - 1]).collect();
        for (line, number) in lines.iter().zip(1..) {
            if ended {
                return Err(ChainError::AfterTheEnd { line: number });
            }
            match (head, parse::<Trailer>(line, number)) {
                (Some(head), Ok(trailer)) if trailer.head == head => ended = true,
                (_, Ok(_)) => return Err(ChainError::OtherEnd { line: number }),
                (_, Err(_)) => {
                    let following = lines.get(records.len() + 1).copied();
                    let record = linked(line, number, head, following)?;
                    head = Some(next(record.prev, line));
                    records.push(record);
                }
            }
        }
        let head = head.ok_or(ChainError::Empty)?;
        Ok(Self { records, head, ended, whole })
    }
}

/// The chain's start.
pub fn start(plan_hash: Digest, site_hash: Digest, tool: &str) -> Digest {
    Digest::of(
        "chancery-ceremony-start-v1",
        &[plan_hash.as_bytes(), site_hash.as_bytes(), tool.as_bytes()],
    )
}

/// The chain's next head.
pub fn next(head: Digest, line: &[u8]) -> Digest {
    let length = (line.len() as u64).to_be_bytes();
    Digest::of("chancery-ceremony-rec-v1", &[head.as_bytes(), &length, line])
}

/// The one text of a line; reading refuses any other.
///
/// # Errors
///
/// It has no text in JSON.
pub fn to_line<T: Serialize>(value: &T) -> serde_json::Result<String> {
    serde_json::to_string(value)
}

/// A record that follows from the head before it. Where it does not, the line after it tells which
/// one was changed: a line that the next one goes on from is as it was written.
fn linked(
    line: &[u8],
    number: u64,
    head: Option<Digest>,
    following: Option<&[u8]>,
) -> Result<Record, ChainError> {
    let record: Record = parse(line, number)?;
    let expected = head.map_or_else(|| begun(&record), Ok)?;
    if record.seq != number {
        return Err(ChainError::Sequence { line: number });
    }
    if record.prev == expected {
        return Ok(record);
    }
    let own = next(record.prev, line);
    let goes_on = following.and_then(previous).is_some_and(|previous| previous == own);
    let line = if goes_on && head.is_some() { number - 1 } else { number };
    Err(ChainError::Broken { line })
}

/// The head that a line follows from, or states.
fn previous(line: &[u8]) -> Option<Digest> {
    let record = parse::<Record>(line, 0).map(|record| record.prev);
    record.or_else(|_| parse::<Trailer>(line, 0).map(|trailer| trailer.head)).ok()
}

fn begun(first: &Record) -> Result<Digest, ChainError> {
    match &first.event {
        Event::Opened(opened) => Ok(start(opened.plan_hash, opened.site_hash, &opened.tool)),
        _ => Err(ChainError::NoOpening),
    }
}

/// Reads a line, which must be the one text of what it says.
fn parse<T: Serialize + DeserializeOwned>(line: &[u8], number: u64) -> Result<T, ChainError> {
    let value: T = serde_json::from_slice(line)
        .map_err(|source| ChainError::Syntax { line: number, source })?;
    match to_line(&value) {
        Ok(text) if text.as_bytes() == line => Ok(value),
        _ => Err(ChainError::OtherText { line: number }),
    }
}

/// A file is no transcript, or not the one that was written.
#[derive(Debug, Error)]
pub enum ChainError {
    /// There is a line after the one that states the head.
    #[error("line {line} follows the end of the transcript")]
    AfterTheEnd {
        /// Which line, from 1.
        line: u64,
    },
    /// A record is not the one that the chain was made with.
    #[error("line {line} was changed: the hash chain does not go on from it")]
    Broken {
        /// Which line, from 1.
        line: u64,
    },
    /// No record is whole.
    #[error("there is no whole record")]
    Empty,
    /// The first record does not say what the ceremony started from.
    #[error("line 1 is not the opening")]
    NoOpening,
    /// The last line states another head.
    #[error("line {line} does not state the head of the chain: it or the line before was changed")]
    OtherEnd {
        /// Which line, from 1.
        line: u64,
    },
    /// The line could be written otherwise: it has more or less than a record has.
    #[error("line {line}: this is not how a record is written")]
    OtherText {
        /// Which line, from 1.
        line: u64,
    },
    /// A record is not where its number says.
    #[error("line {line} has another number: a record was left out, added, or moved")]
    Sequence {
        /// Which line, from 1.
        line: u64,
    },
    /// A line is no record.
    #[error("line {line} is no record")]
    Syntax {
        /// Which line, from 1.
        line: u64,
        /// Why.
        source: serde_json::Error,
    },
}
