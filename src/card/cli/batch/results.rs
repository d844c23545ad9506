//! What became of each person: a line of JSON for each step, on the disk before the next step.
//! Nothing in it is secret.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions, TryLockError},
    io::{Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use client::files::{FileError, make_durable};
use jiff::Timestamp;
use pki::names::Upn;
use serde::{Deserialize, Serialize};

use super::error::BatchError;
use crate::cli::failure::Failure;

/// A step.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Record {
    pub(super) at: Timestamp,
    pub(super) upn: Upn,
    /// The card.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) serial: Option<u32>,
    #[serde(flatten)]
    pub(super) state: State,
}

/// How it stands with a person.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub(super) enum State {
    /// The card may have anything of what it is to have.
    Begun,
    /// The card is ready.
    Done {
        /// Where the key is.
        slot: String,
        /// The serial number of the certificate.
        certificate: String,
        not_after: Timestamp,
    },
    /// It went wrong.
    Failed { why: String },
    /// The person is to have another card.
    GivenUp,
}

/// The file, which is this program's as long as it runs.
pub(super) struct Results {
    path: PathBuf,
    file: File,
    latest: BTreeMap<Upn, Record>,
}

impl Results {
    /// Opens the file, or makes it.
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        let read = |source| Failure::Read { path: path.to_owned(), source };
        let mut options = OpenOptions::new();
        let mut file =
            options.read(true).write(true).create(true).truncate(false).open(path).map_err(read)?;
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => BatchError::InUse(path.to_owned()).into(),
            TryLockError::Error(source) => read(source),
        })?;
        make_durable(path)?;
        let mut text = Vec::new();
        file.read_to_end(&mut text).map_err(read)?;
        // A line that was being written when the machine went down was never acted upon.
        let whole = text.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        text.truncate(whole);
        file.set_len(whole as u64).map_err(read)?;
        file.seek(SeekFrom::End(0)).map_err(read)?;
        let mut latest = BTreeMap::new();
        for (number, line) in (1..).zip(text.split_inclusive(|&byte| byte == b'\n')) {
            let record: Record = serde_json::from_slice(line).map_err(|source| {
                BatchError::Results { path: path.to_owned(), line: number, source }
            })?;
            latest.insert(record.upn.clone(), record);
        }
        Ok(Self { path: path.to_owned(), file, latest })
    }

    /// Writes a step down.
    pub(super) fn append(&mut self, record: Record) -> Result<(), Failure> {
        let mut line = serde_json::to_vec(&record).map_err(client::Error::Encode)?;
        line.push(b'\n');
        let written = self.file.write_all(&line).and_then(|()| self.file.sync_data());
        written.map_err(|source| FileError::Write { path: self.path.clone(), source })?;
        self.latest.insert(record.upn.clone(), record);
        Ok(())
    }

    /// The last step of a person.
    pub(super) fn of(&self, upn: &Upn) -> Option<&Record> {
        self.latest.get(upn)
    }

    /// The card that a person has, or is to have since it was begun.
    pub(super) fn card_of(&self, upn: &Upn) -> Option<u32> {
        let record = self.of(upn)?;
        record.serial.filter(|_| record.state != State::GivenUp)
    }

    /// Whether a person's card is ready.
    pub(super) fn is_done(&self, upn: &Upn) -> bool {
        self.of(upn).is_some_and(|record| matches!(record.state, State::Done { .. }))
    }

    /// Who was given a card, in this batch or an earlier one of this file.
    pub(super) fn owner(&self, serial: u32) -> Option<&Upn> {
        self.latest
            .values()
            .find(|it| it.serial == Some(serial) && matches!(it.state, State::Done { .. }))
            .map(|it| &it.upn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(upn: &str, state: State) -> Record {
        let at = Timestamp::from_second(1_800_000_000).unwrap();
        Record { at, upn: upn.parse().unwrap(), serial: Some(7), state }
    }

    #[test]
    fn what_was_written_is_read_and_a_torn_line_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("results");
        let alice = record("alice@corp.example", State::Begun);
        Results::open(&path).unwrap().append(alice.clone()).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for torn in [&b""[..], b"{\"at\"", b"{}", b"\xff"] {
            std::fs::write(&path, [&whole, torn].concat()).unwrap();
            let mut results = Results::open(&path).unwrap();
            assert_eq!(results.of(&alice.upn), Some(&alice));
            results.append(record("bob@corp.example", State::GivenUp)).unwrap();
            drop(results);
            let results = Results::open(&path).unwrap();
            let bob = "bob@corp.example".parse().unwrap();
            assert_eq!((results.card_of(&alice.upn), results.card_of(&bob)), (Some(7), None));
        }
        std::fs::write(&path, [b"{}\n", whole.as_slice()].concat()).unwrap();
        assert!(Results::open(&path).is_err());
    }

    #[test]
    fn two_programs_do_not_write_one_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("results");
        let first = Results::open(&path).unwrap();
        assert!(Results::open(&path).is_err());
        drop(first);
        assert!(Results::open(&path).is_ok());
    }
}
