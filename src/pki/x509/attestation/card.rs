//! What cards say of themselves, in the words of configuration files and answers.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;

/// A word that is none of those that cards use.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("{word:?} is no {what}; write {form}")]
pub struct BadWord {
    word: String,
    what: &'static str,
    form: &'static str,
}

/// The version of a card's firmware, as `5.7.1`.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Firmware([u8; 3]);

impl Firmware {
    /// Major, minor, patch.
    pub fn from_bytes(bytes: [u8; 3]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for Firmware {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, patch] = self.0;
        write!(f, "{major}.{minor}.{patch}")
    }
}

impl FromStr for Firmware {
    type Err = BadWord;

    fn from_str(text: &str) -> Result<Self, BadWord> {
        let bad = || BadWord { word: text.to_owned(), what: "firmware", form: "it as 5.7.1" };
        let mut bytes = [0; 3];
        let mut numbers = text.split('.');
        for byte in &mut bytes {
            let number = numbers.next().and_then(|number| number.parse().ok());
            *byte = number.ok_or_else(bad)?;
        }
        match numbers.next() {
            // No sign, no zeros before a number: what is read is written the same.
            None if Self(bytes).to_string() == text => Ok(Self(bytes)),
            _ => Err(bad()),
        }
    }
}

/// A slot of a PIV card that has a key to be certified, as `9a` (SP 800-73-4 part 1, table 4b).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Slot(u8);

impl Slot {
    /// 9A, which Windows logs on with.
    pub const AUTHENTICATION: Self = Self(0x9a);
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}", self.0)
    }
}

impl FromStr for Slot {
    type Err = BadWord;

    fn from_str(text: &str) -> Result<Self, BadWord> {
        let form = "9a, 9c, 9d, 9e, or 82 to 95";
        let bad = || BadWord { word: text.to_owned(), what: "slot", form };
        let slot = u8::from_str_radix(text, 16).map(Self).map_err(|_| bad())?;
        let is_one = matches!(slot.0, 0x9a | 0x9c | 0x9d | 0x9e | 0x82..=0x95);
        if is_one && slot.to_string() == text { Ok(slot) } else { Err(bad()) }
    }
}

/// What a card looks like.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct FormFactor(u8);

impl FormFactor {
    /// Yubico's number for it; the highest bit says that the card is certified by FIPS 140.
    pub fn from_byte(byte: u8) -> Self {
        Self(byte)
    }
}

impl fmt::Display for FormFactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 & 0x7f {
            1 => f.write_str("USB-A keychain")?,
            2 => f.write_str("USB-A nano")?,
            3 => f.write_str("USB-C keychain")?,
            4 => f.write_str("USB-C nano")?,
            5 => f.write_str("USB-C and Lightning")?,
            6 => f.write_str("USB-A with fingerprint")?,
            7 => f.write_str("USB-C with fingerprint")?,
            other => write!(f, "unknown ({other})")?,
        }
        if self.0 & 0x80 == 0 { Ok(()) } else { f.write_str(", FIPS") }
    }
}

/// When a card asks for the PIN.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PinPolicy {
    /// Before each use.
    Always,
    /// Before each use, unless a fingerprint does.
    MatchAlways,
    /// Once, unless a fingerprint does.
    MatchOnce,
    /// Never.
    Never,
    /// Once, until the card is taken out.
    Once,
}

impl PinPolicy {
    /// Yubico's number for it.
    pub fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Never,
            2 => Self::Once,
            3 => Self::Always,
            4 => Self::MatchOnce,
            5 => Self::MatchAlways,
            _ => return None,
        })
    }
}

impl fmt::Display for PinPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// When a card must be touched.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TouchPolicy {
    /// Before each use.
    Always,
    /// Not again within 15 seconds.
    Cached,
    /// Never.
    Never,
}

impl TouchPolicy {
    /// Yubico's number for it.
    pub fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Never,
            2 => Self::Always,
            3 => Self::Cached,
            _ => return None,
        })
    }
}

impl fmt::Display for TouchPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

macro_rules! as_text {
    ($type:ty) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    };
}

as_text!(Firmware);
as_text!(Slot);
