//! What is shown to a card before it is changed.

use std::fmt;

use zeroize::Zeroizing;

use crate::{CardError, ManagementKey, Pin, PivCard, kept_key};

/// The holder's PIN, and the management key, wherever it is. Neither can be printed.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// It is tried once, and not at all when one try is left.
    pub pin: Pin,
    /// Who may write to the card.
    pub management_key: ManagementAccess,
}

/// Where the management key is.
#[derive(Clone)]
pub enum ManagementAccess {
    /// With whoever brings it: its bytes.
    Brought(Zeroizing<Vec<u8>>),
    /// On the card, behind its PIN.
    Kept,
}

impl Credentials {
    /// Shows the PIN, then the management key.
    ///
    /// # Errors
    ///
    /// As [`PivCard::verify_pin`] and [`ManagementAccess::show`].
    pub fn show(&self, card: &mut PivCard<'_>) -> Result<(), CardError> {
        card.verify_pin(&self.pin)?;
        self.management_key.show(card)
    }
}

impl ManagementAccess {
    /// Shows the management key. Where the card keeps it, the PIN must have been shown.
    ///
    /// # Errors
    ///
    /// [`CardError::UnknownManagementKey`], [`CardError::WrongManagementKey`], or the card is gone.
    pub fn show(&self, card: &mut PivCard<'_>) -> Result<(), CardError> {
        match self {
            Self::Brought(bytes) => {
                let algorithm = card.management_key_metadata()?.algorithm;
                let key = ManagementKey::new(algorithm, bytes);
                card.authenticate(&key.ok_or(CardError::WrongManagementKey)?)
            }
            Self::Kept => kept_key::show(card),
        }
    }
}

impl fmt::Debug for ManagementAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Brought(_) => "Brought(…)",
            Self::Kept => "Kept",
        })
    }
}
