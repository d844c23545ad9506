//! Which card is meant. Nothing is guessed among several.

use std::fmt;

use card::{CardError, PivCard, Presence, ReaderName, Readers};

use super::{arguments::Choice, failure::Failure};

/// The card that is meant. It is held for one act at a time, since nobody may hold a card while a
/// person or another machine is asked, and known again by its serial number.
pub(super) struct Chosen {
    readers: Readers,
    reader: ReaderName,
    serial: Option<u32>,
}

impl Chosen {
    /// Finds the card.
    pub(super) fn find(choice: &Choice) -> Result<Self, Failure> {
        let readers = Readers::open()?;
        let reader = choose(&readers, choice)?;
        Self::new(readers, reader)
    }

    /// The card in a reader.
    pub(super) fn in_reader(reader: &ReaderName) -> Result<Self, Failure> {
        Self::new(Readers::open()?, reader.clone())
    }

    fn new(readers: Readers, reader: ReaderName) -> Result<Self, Failure> {
        let serial = readers.connect(&reader)?.piv()?.serial();
        Ok(Self { readers, reader, serial })
    }

    /// Does something with the card, and with no other that may be in its place by now.
    pub(super) fn with<T>(
        &self,
        act: impl FnOnce(&mut PivCard<'_>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut connection = self.readers.connect(&self.reader)?;
        let mut card = connection.piv()?;
        if card.serial() != self.serial {
            return Err(Failure::OtherCard { reader: self.reader.clone() });
        }
        act(&mut card)
    }

    /// Its serial number, of a YubiKey.
    pub(super) fn serial(&self) -> Option<u32> {
        self.serial
    }

    /// What reports call it.
    pub(super) fn name(&self) -> String {
        self.serial.map_or_else(String::new, |serial| format!("YubiKey {serial}"))
    }
}

impl fmt::Display for Chosen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reader.fmt(f)
    }
}

/// The reader with the card that is meant.
fn choose(readers: &Readers, choice: &Choice) -> Result<ReaderName, Failure> {
    let all = readers.list()?;
    if all.is_empty() {
        return Err(Failure::NoReader);
    }
    let wanted = choice.reader.as_ref().map(|name| name.to_lowercase());
    let named = |reader: &ReaderName| {
        let name = reader.to_string().to_lowercase();
        wanted.as_ref().is_none_or(|wanted| name.contains(wanted))
    };
    let named: Vec<_> = all.into_iter().filter(named).collect();
    if let (Some(wanted), []) = (&choice.reader, named.as_slice()) {
        return Err(CardError::NoSuchReader(wanted.clone()).into());
    }
    let mut filled = Vec::new();
    for reader in &named {
        if readers.presence(reader)? != Presence::Empty {
            filled.push(reader.clone());
        }
    }
    match (choice.serial, filled.len()) {
        (None, 0) => Err(Failure::NoCard { readers: named }),
        (None, 1) => Ok(filled.swap_remove(0)),
        (None, _) => Err(Failure::SeveralCards { readers: filled }),
        (Some(serial), _) => with_serial(readers, filled, serial),
    }
}

/// A card of another maker, or in use by another program, is not the one.
fn with_serial(
    readers: &Readers,
    filled: Vec<ReaderName>,
    serial: u32,
) -> Result<ReaderName, Failure> {
    filled
        .into_iter()
        .find(|reader| {
            let serial_of = || readers.connect(reader)?.piv().map(|card| card.serial());
            serial_of().is_ok_and(|found| found == Some(serial))
        })
        .ok_or(Failure::NoSuchCard { serial })
}
