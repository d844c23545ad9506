//! PINs made of a secret: as long, and of the characters, as the token takes them.

use std::fmt;

use pki::secret::Secret;
use zeroize::Zeroizing;

use super::text::ALPHABET;

/// How a PIN looks.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct PinForm {
    /// Of which characters it is.
    pub alphabet: Alphabet,
    /// How many it has: 6 to 48.
    pub length: u8,
}

/// The characters of a PIN.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Alphabet {
    /// The ten digits: for PIN pads, and for tokens that take nothing else.
    Digits,
    /// The ten digits and 22 capital letters; those that look like digits are left out.
    LettersAndDigits,
}

impl PinForm {
    /// Whether it is a PIN that nobody guesses in a few tries, and that a secret is long enough for.
    pub fn is_sound(self) -> bool {
        (6..=48).contains(&self.length)
    }

    /// The PIN: the secret as a number, written in the alphabet, last character first. 48 characters
    /// leave 16 bits of the secret over, so that none is likelier than another.
    pub(super) fn encode(self, secret: &[u8; 32]) -> Secret {
        let alphabet = match self.alphabet {
            Alphabet::Digits => &ALPHABET[..10],
            Alphabet::LettersAndDigits => &ALPHABET[..],
        };
        let base = alphabet.len() as u32;
        let mut number = Zeroizing::new(*secret);
        // Written once: a text that grows leaves copies of itself behind.
        let mut pin = String::with_capacity(self.length.into());
        for _ in 0..self.length {
            let mut rest = 0;
            for byte in number.iter_mut() {
                let value = rest << 8 | u32::from(*byte);
                *byte = (value / base) as u8;
                rest = value % base;
            }
            pin.push(char::from(alphabet[rest as usize]));
        }
        Secret::new(pin)
    }

    /// The code of the alphabet, and the length, as a share has them.
    pub(super) fn code(self) -> (u8, u8) {
        let alphabet = match self.alphabet {
            Alphabet::Digits => 1,
            Alphabet::LettersAndDigits => 2,
        };
        (alphabet, self.length)
    }

    pub(super) fn from_code(alphabet: u8, length: u8) -> Option<Self> {
        let alphabet = match alphabet {
            1 => Alphabet::Digits,
            2 => Alphabet::LettersAndDigits,
            _ => return None,
        };
        Some(Self { alphabet, length }).filter(|form| form.is_sound())
    }
}

impl fmt::Display for PinForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.alphabet {
            Alphabet::Digits => "digits",
            Alphabet::LettersAndDigits => "letters and digits",
        };
        write!(f, "{} {what}", self.length)
    }
}
