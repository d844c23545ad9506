//! Cards as they are put into readers and taken out.

use std::collections::BTreeMap;

use card::{CardError, Look, Presence, ReaderName, Readers};

use super::error::BatchError;
use crate::cli::failure::Failure;

/// The readers, and what of them was seen already.
pub(super) struct Desk {
    readers: Option<Readers>,
    /// A part of the name of the only reader that counts, in small letters.
    only: Option<String>,
    /// The insertions that were looked at.
    seen: BTreeMap<ReaderName, u32>,
}

impl Desk {
    /// Of several cards that are there already, none is guessed to be the first.
    pub(super) fn open(only: Option<&str>) -> Result<Self, Failure> {
        let only = only.map(str::to_lowercase);
        let mut desk = Self { readers: None, only, seen: BTreeMap::new() };
        let filled: Vec<_> = desk.filled()?.into_iter().map(|look| look.reader).collect();
        match filled.len() {
            0 | 1 => Ok(desk),
            _ => Err(BatchError::SeveralCards(filled).into()),
        }
    }

    /// A reader into which a card was put that was not looked at yet.
    pub(super) fn inserted(&mut self) -> Result<Option<ReaderName>, Failure> {
        let filled = self.filled()?;
        // A reader that goes with its card begins to count anew.
        self.seen.retain(|reader, _| filled.iter().any(|look| look.reader == *reader));
        let new = filled.into_iter().find(|look| self.seen.get(&look.reader) != Some(&look.count));
        Ok(new.map(|look| {
            self.seen.insert(look.reader.clone(), look.count);
            look.reader
        }))
    }

    fn filled(&mut self) -> Result<Vec<Look>, Failure> {
        let looks = match self.look() {
            // Windows ends the service with the last reader, which may be the card itself.
            Err(CardError::NoService) if cfg!(windows) => {
                self.readers = None;
                return Ok(Vec::new());
            }
            looks => looks?,
        };
        let counts = |reader: &ReaderName| {
            let name = reader.to_string().to_lowercase();
            self.only.as_ref().is_none_or(|only| name.contains(only))
        };
        let filled = looks.into_iter().filter(|look| look.presence != Presence::Empty);
        Ok(filled.filter(|look| counts(&look.reader)).collect())
    }

    fn look(&mut self) -> Result<Vec<Look>, CardError> {
        if self.readers.is_none() {
            self.readers = Some(Readers::open()?);
        }
        self.readers.as_ref().map_or(Ok(Vec::new()), Readers::look)
    }
}
