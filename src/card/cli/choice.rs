//! Which card is meant. Nothing is guessed among several.

use card::{CardError, Presence, ReaderName, Readers};

use super::{arguments::Choice, failure::Failure};

/// The reader with the card that is meant.
pub(super) fn choose(readers: &Readers, choice: &Choice) -> Result<ReaderName, Failure> {
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
