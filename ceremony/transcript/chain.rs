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
        for (line, number) in content[..whole].split_inclusive(|byte| *byte == b'\n').zip(1..) {
            let line = &line[..line.len() - 1];
            if ended {
                return Err(ChainError::AfterTheEnd { line: number });
            }
            match (head, parse::<Trailer>(line, number)) {
                (Some(head), Ok(trailer)) if trailer.head == head => ended = true,
                (_, Ok(_)) => return Err(ChainError::Broken { line: number }),
                (_, Err(_)) => {
                    let record = linked(line, number, head)?;
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

/// A record that follows from the head before it.
fn linked(line: &[u8], number: u64, head: Option<Digest>) -> Result<Record, ChainError> {
    let record: Record = parse(line, number)?;
    let expected = head.map_or_else(|| begun(&record), Ok)?;
    if record.prev == expected && record.seq == number {
        Ok(record)
    } else {
        Err(ChainError::Broken { line: number })
    }
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
    /// A record does not follow from those before it.
    #[error("line {line}: the hash chain is broken here or in the line before")]
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
    /// The line could be written otherwise: it has more or less than a record has.
    #[error("line {line}: this is not how a record is written")]
    OtherText {
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
