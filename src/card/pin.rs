//! The PIN and the PUK.

use std::fmt;

use pki::secret::Secret;
use thiserror::Error;
use zeroize::Zeroizing;

/// What the holder shows to use the keys. It cannot be printed.
#[derive(Clone)]
pub struct Pin(Padded);

/// What unblocks the PIN. It cannot be printed.
#[derive(Clone)]
pub struct Puk(Padded);

/// Eight bytes, filled up with FF (SP 800-73-4 part 2 section 2.4.3).
type Padded = Zeroizing<[u8; 8]>;

/// A PIN or PUK cannot be one.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum PinError {
    /// Too short, too long, or of characters that not every keypad has.
    #[error("it must be 6 to 8 letters, digits or signs of ASCII")]
    Form,
}

impl Pin {
    /// Takes a PIN.
    ///
    /// # Errors
    ///
    /// [`PinError::Form`].
    pub fn new(secret: &Secret) -> Result<Self, PinError> {
        padded(secret).map(Self)
    }

    /// The PIN that YubiKeys come with.
    pub fn factory_default() -> Self {
        Self(Zeroizing::new(*b"123456\xff\xff"))
    }

    /// Whether it is the PIN that YubiKeys come with.
    pub fn is_default(&self) -> bool {
        self.0 == Self::factory_default().0
    }

    pub(crate) fn bytes(&self) -> &[u8; 8] {
        &self.0
    }
}

impl Puk {
    /// Takes a PUK.
    ///
    /// # Errors
    ///
    /// [`PinError::Form`].
    pub fn new(secret: &Secret) -> Result<Self, PinError> {
        padded(secret).map(Self)
    }

    /// The PUK that YubiKeys come with.
    pub fn factory_default() -> Self {
        Self(Zeroizing::new(*b"12345678"))
    }

    /// Whether it is the PUK that YubiKeys come with.
    pub fn is_default(&self) -> bool {
        self.0 == Self::factory_default().0
    }

    pub(crate) fn bytes(&self) -> &[u8; 8] {
        &self.0
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pin(…)")
    }
}

impl fmt::Debug for Puk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Puk(…)")
    }
}

fn padded(secret: &Secret) -> Result<Padded, PinError> {
    let text = secret.expose().as_bytes();
    if !(6..=8).contains(&text.len()) || !text.iter().all(u8::is_ascii_graphic) {
        return Err(PinError::Form);
    }
    let mut padded = Zeroizing::new([PADDING; 8]);
    padded[..text.len()].copy_from_slice(text);
    Ok(padded)
}

const PADDING: u8 = 0xff;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_has_six_to_eight_characters_and_is_not_printed() {
        let pin = |text: &str| Pin::new(&Secret::new(text.to_owned()));
        assert_eq!(pin("654321").unwrap().bytes(), b"654321\xff\xff");
        assert_eq!(format!("{:?}", pin("12345678").unwrap()), "Pin(…)");
        assert!(pin("123456").unwrap().is_default());
        for text in ["", "12345", "123456789", "12 4567", "12345ü"] {
            assert_eq!(pin(text).unwrap_err(), PinError::Form, "{text}");
        }
    }
}
