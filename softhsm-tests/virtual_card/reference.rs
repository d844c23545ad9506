//! The PIN and the PUK: eight bytes, filled up with FF, and their tries.

use super::{DEFAULT_PIN, DEFAULT_PUK, Status};

/// A PIN or PUK.
#[derive(Debug)]
pub(super) struct Reference {
    value: [u8; 8],
    tries: u8,
    pub(super) left: u8,
    is_default: bool,
}

impl Reference {
    pub(super) fn default_pin(tries: u8) -> Self {
        Self::default_of(DEFAULT_PIN, tries)
    }

    pub(super) fn default_puk(tries: u8) -> Self {
        Self::default_of(DEFAULT_PUK, tries)
    }

    fn default_of(text: &str, tries: u8) -> Self {
        let mut value = [PADDING; 8];
        value[..text.len()].copy_from_slice(text.as_bytes());
        Self { value, tries, left: tries, is_default: true }
    }

    pub(super) fn check(&mut self, value: &[u8]) -> Result<(), Status> {
        if self.left == 0 {
            return Err(Status::BLOCKED);
        }
        if value == self.value {
            self.left = self.tries;
            return Ok(());
        }
        self.left -= 1;
        Err(self.refusal())
    }

    /// Sets another value; all tries are there again.
    pub(super) fn set(&mut self, value: &[u8]) -> Result<(), Status> {
        let length = value.iter().position(|byte| *byte == PADDING).unwrap_or(value.len());
        if length < 6 || value.iter().skip(length).any(|byte| *byte != PADDING) {
            return Err(Status::NOT_ALLOWED);
        }
        self.value = value.try_into().map_err(|_| Status::WRONG_DATA)?;
        (self.left, self.is_default) = (self.tries, false);
        Ok(())
    }

    /// How the card says that it was not shown.
    pub(super) fn refusal(&self) -> Status {
        if self.left == 0 { Status::BLOCKED } else { Status::wrong_pin(self.left) }
    }

    /// As Yubico's GET METADATA tells of it: whether it is the default, tries in all and left.
    pub(super) fn metadata(&self) -> Vec<u8> {
        vec![1, 1, 0xff, 5, 1, self.is_default.into(), 6, 2, self.tries, self.left]
    }
}

const PADDING: u8 = 0xff;
