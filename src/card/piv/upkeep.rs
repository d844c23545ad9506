//! What an administrator does to a card: unblocking its PIN, taking keys away, resetting it.

use aws_lc_rs::rand;
use zeroize::Zeroizing;

use super::{CHANGE_REFERENCE_DATA, PIN, PUK, PivCard, Secret, VERIFY, Version, yubico};
use crate::{CardError, Pin, Puk, Slot, apdu::Command};

impl PivCard<'_> {
    /// Sets another PIN by the PUK, which is tried once. A PIN that was locked can be used again.
    ///
    /// # Errors
    ///
    /// [`CardError::WrongPuk`], [`CardError::PukLocked`], the card wants another form of PIN, or it
    /// is gone.
    pub fn unblock(&mut self, puk: &Puk, new: &Pin) -> Result<(), CardError> {
        let data = Zeroizing::new([*puk.bytes(), *new.bytes()].concat());
        let command = Command::new(RESET_RETRY_COUNTER, [0, PIN], data.as_slice());
        self.show("unblocking the PIN", &command, Secret::Puk)
    }

    /// Whether the card can delete a key; an older one can only put another in its place.
    pub fn can_delete_keys(&self) -> bool {
        self.version().is_some_and(|version| version >= Version([5, 7, 0]))
    }

    /// Deletes the key in a slot; its certificate stays. The management key must have been shown.
    ///
    /// # Errors
    ///
    /// There is no key, the card cannot do it, is gone or refuses.
    pub fn delete_key(&mut self, slot: Slot) -> Result<(), CardError> {
        let command = Command::new(MOVE_KEY, [NOWHERE, slot.number()], []);
        self.order("deleting a key", &command)
    }

    /// Makes the application as it comes from the factory: all keys, certificates and secrets are
    /// lost. The card does so only when PIN and PUK are locked, so that they are locked first.
    ///
    /// # Errors
    ///
    /// The card is no YubiKey, is gone or refuses.
    pub fn reset(&mut self) -> Result<(), CardError> {
        let doing = "resetting the card";
        if self.version().is_none() {
            return Err(CardError::NotSupported { doing, since: "4" });
        }
        self.lock("locking the PIN", |guess| Command::new(VERIFY, [0, PIN], guess))?;
        self.lock("locking the PUK", |guess| {
            Command::new(CHANGE_REFERENCE_DATA, [0, PUK], [guess, guess].concat())
        })?;
        self.order(doing, &yubico(RESET, 0))
    }

    /// Tries what chance gives until there is no try left.
    fn lock(
        &mut self,
        doing: &'static str,
        attempt: impl Fn([u8; 8]) -> Command,
    ) -> Result<(), CardError> {
        let mut status = None;
        // Of 255 tries, the most that a card has; a guess that happens to be right sets them back.
        for _ in 0..1_000 {
            let mut guess = [0; 8];
            rand::fill(&mut guess).map_err(|_| CardError::Random)?;
            let digits = guess.map(|byte| b'0' + byte % 10);
            let (_, answered) = self.send(doing, &attempt(digits))?;
            if answered.tries_left() == Some(0) {
                return Ok(());
            }
            status = Some(answered);
        }
        Err(CardError::Refused { doing, status: status.unwrap_or(crate::Status::SUCCESS) })
    }
}

/// SP 800-73-4 part 2 section 3.2.3.
const RESET_RETRY_COUNTER: u8 = 0x2c;

// Yubico's.
const MOVE_KEY: u8 = 0xf6;
const RESET: u8 = 0xfb;
/// Where a key is moved to that is to be deleted.
const NOWHERE: u8 = 0xff;
