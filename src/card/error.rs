//! Why a card does not do what it is asked.

use thiserror::Error;

use crate::{Malformed, Status, connection::ReaderName};

/// Something with a reader or a card went wrong.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CardError {
    /// The system's random numbers fail.
    #[error("no random numbers can be had from the system")]
    Random,
    /// The system's service for smart cards does not run.
    #[error("the system's smart card service does not run")]
    NoService,
    /// The reader is not there, or is gone.
    #[error("there is no reader {0:?}")]
    NoSuchReader(String),
    /// The reader is empty.
    #[error("there is no card in {0}")]
    NoCard(ReaderName),
    /// The card is in, and does not answer: the wrong way round, or broken.
    #[error("the card in {0} does not answer")]
    Mute(ReaderName),
    /// Another program has the card for itself.
    #[error("another program uses the card in {0}")]
    InUse(ReaderName),
    /// The card was pulled, or reset by another program.
    #[error("the card was pulled (or reset by another program) while {doing}")]
    Gone {
        /// What it was to do.
        doing: &'static str,
    },
    /// The service for smart cards failed otherwise.
    #[error("{doing}: the smart card service failed")]
    Service {
        /// What it was to do.
        doing: &'static str,
        /// What it says.
        source: pcsc::Error,
    },
    /// The card has no PIV application.
    #[error("the card has no PIV application")]
    NotPiv,
    /// The card is a PIV card of another maker, or its firmware is older than the command.
    #[error("the card cannot do that: {doing} takes a YubiKey of firmware {since} or later")]
    NotSupported {
        /// What it was to do.
        doing: &'static str,
        /// Since when there is the command.
        since: &'static str,
    },
    /// The PIN was wrong.
    #[error("the PIN is wrong: {left} left", left = tries(*left))]
    WrongPin {
        /// How often it may be wrong until it is locked.
        left: u8,
    },
    /// The PIN is locked.
    #[error("the PIN is locked: it was wrong too often")]
    PinLocked,
    /// One try is left: it is not risked.
    #[error("one try is left for the {0}: a wrong one would lock it")]
    LastTry(&'static str),
    /// The PUK was wrong.
    #[error("the PUK is wrong: {left} left", left = tries(*left))]
    WrongPuk {
        /// How often it may be wrong until it is locked.
        left: u8,
    },
    /// The PUK is locked.
    #[error("the PUK is locked: it was wrong too often")]
    PukLocked,
    /// The management key is neither the factory's nor on the card.
    #[error("the management key is not the factory's, and it is not kept on the card")]
    UnknownManagementKey,
    /// The card does not have this management key.
    #[error("the management key is not the card's")]
    WrongManagementKey,
    /// The card refused.
    #[error("{doing}: the card refused ({status})")]
    Refused {
        /// What it was to do.
        doing: &'static str,
        /// How it answered.
        status: Status,
    },
    /// The card answered what makes no sense.
    #[error("{doing}: the card's answer cannot be read")]
    Answer {
        /// What it was to do.
        doing: &'static str,
        /// What is wrong with it.
        source: Malformed,
    },
}

/// `1 try`, `3 tries`.
pub(crate) fn tries(count: u8) -> String {
    format!("{count} {}", if count == 1 { "try" } else { "tries" })
}
