//! Where a PIV card has its keys.

use std::{fmt, str::FromStr};

use serde::{Serialize, Serializer};
use thiserror::Error;

use crate::object::ObjectId;

/// A slot: a key, and a certificate for it (SP 800-73-4 part 1, table 4b).
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Slot {
    /// 9A, which Windows logs on with.
    Authentication,
    /// 9C: the PIN is asked for at each signature.
    Signature,
    /// 9D, for decryption.
    KeyManagement,
    /// 9E, which is used without PIN.
    CardAuthentication,
    /// 82 to 95: keys that were in 9D once.
    Retired(Retired),
    /// F9: Yubico's key for attestations.
    Attestation,
}

/// The number of a retired key, 82 to 95.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Retired(u8);

impl Slot {
    /// All of them, in the order in which people read them.
    pub fn all() -> impl Iterator<Item = Self> {
        [Self::Authentication, Self::Signature, Self::KeyManagement, Self::CardAuthentication]
            .into_iter()
            .chain((FIRST_RETIRED..=LAST_RETIRED).map(|number| Self::Retired(Retired(number))))
            .chain([Self::Attestation])
    }

    /// What commands call it.
    pub fn number(self) -> u8 {
        match self {
            Self::Authentication => 0x9a,
            Self::Signature => 0x9c,
            Self::KeyManagement => 0x9d,
            Self::CardAuthentication => 0x9e,
            Self::Retired(Retired(number)) => number,
            Self::Attestation => 0xf9,
        }
    }

    /// Where its certificate is.
    pub fn certificate(self) -> ObjectId {
        ObjectId(match self {
            Self::Authentication => 0x5f_c105,
            Self::Signature => 0x5f_c10a,
            Self::KeyManagement => 0x5f_c10b,
            Self::CardAuthentication => 0x5f_c101,
            Self::Retired(Retired(number)) => 0x5f_c10d + u32::from(number - FIRST_RETIRED),
            Self::Attestation => 0x5f_ff01,
        })
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}", self.number())
    }
}

impl FromStr for Slot {
    type Err = ParseSlotError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::all()
            .find(|slot| slot.to_string().eq_ignore_ascii_case(text))
            .ok_or_else(|| ParseSlotError(text.to_owned()))
    }
}

impl Serialize for Slot {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// There is no such slot.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("{0:?} is no slot: write 9a, 9c, 9d, 9e, 82 to 95, or f9")]
pub struct ParseSlotError(String);

const FIRST_RETIRED: u8 = 0x82;
const LAST_RETIRED: u8 = 0x95;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_certificates_of_the_slots_are_where_the_standard_has_them() {
        // SP 800-73-4 part 1, table 3.
        for (slot, object) in [("9a", 0x5f_c105), ("82", 0x5f_c10d), ("95", 0x5f_c120)] {
            assert_eq!(slot.parse::<Slot>().unwrap().certificate(), ObjectId(object));
        }
        assert_eq!("9A".parse::<Slot>().unwrap(), Slot::Authentication);
        for text in ["9b", "81", "96", "9", ""] {
            assert!(text.parse::<Slot>().is_err(), "{text}");
        }
        assert_eq!(Slot::all().count(), 25);
    }
}
