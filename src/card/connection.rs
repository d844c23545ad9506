//! Readers and cards as the system knows them: the one file that knows PC/SC.

use std::{ffi::CString, fmt, time::Duration};

use pcsc::{Context, Error, Protocols, ReaderState, Scope, ShareMode, State};
use zeroize::Zeroizing;

use crate::{
    CardError, Malformed, PivCard,
    apdu::{Command, Status},
};

/// The system's smart card service.
pub struct Readers(Context);

/// What a reader is called by the system.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct ReaderName(CString);

/// Whether a card is in a reader.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Presence {
    /// None is.
    Empty,
    /// One is, and does not answer.
    Mute,
    /// One is.
    Present,
}

/// What was seen in a reader.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Look {
    /// The reader.
    pub reader: ReaderName,
    /// Whether a card is in it.
    pub presence: Presence,
    /// How often a card was put in or taken out, by which one that came back is known.
    pub count: u32,
}

/// A card in a reader. It is reset when this value is dropped, so that nobody else profits from a
/// PIN that was shown.
pub struct Connection {
    card: pcsc::Card,
    reader: ReaderName,
}

/// A card that no other program may use meanwhile.
///
/// Windows resets a card that is held and left alone for five seconds: whoever has to ask a person
/// asks before.
pub(crate) struct Transaction<'a>(pcsc::Transaction<'a>);

impl Readers {
    /// Finds the service.
    ///
    /// # Errors
    ///
    /// It does not run.
    pub fn open() -> Result<Self, CardError> {
        match Context::establish(Scope::User) {
            Ok(context) => Ok(Self(context)),
            Err(Error::NoService | Error::ServiceStopped) => Err(CardError::NoService),
            Err(source) => Err(CardError::Service { doing: "looking for readers", source }),
        }
    }

    /// The readers that there are now.
    ///
    /// # Errors
    ///
    /// The service fails.
    pub fn list(&self) -> Result<Vec<ReaderName>, CardError> {
        match self.0.list_readers_owned() {
            Ok(names) => Ok(names.into_iter().map(ReaderName).collect()),
            Err(Error::NoReadersAvailable) => Ok(Vec::new()),
            Err(source) => Err(CardError::Service { doing: "listing the readers", source }),
        }
    }

    /// Whether a card is in a reader.
    ///
    /// # Errors
    ///
    /// The reader is gone, or the service fails.
    pub fn presence(&self, reader: &ReaderName) -> Result<Presence, CardError> {
        Ok(self.look_into(reader)?.presence)
    }

    /// What is in each of the readers now.
    ///
    /// # Errors
    ///
    /// The service fails.
    pub fn look(&self) -> Result<Vec<Look>, CardError> {
        let mut looks = Vec::new();
        for reader in self.list()? {
            match self.look_into(&reader) {
                Ok(look) => looks.push(look),
                // It went since.
                Err(CardError::NoSuchReader(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(looks)
    }

    fn look_into(&self, reader: &ReaderName) -> Result<Look, CardError> {
        let mut states = [ReaderState::new(reader.0.clone(), State::UNAWARE)];
        self.0
            .get_status_change(Some(Duration::ZERO), &mut states)
            .map_err(|error| reader.failure("looking into the reader", error))?;
        let state = states[0].event_state();
        let presence = if state.contains(State::MUTE) {
            Presence::Mute
        } else if state.contains(State::PRESENT) {
            Presence::Present
        } else {
            Presence::Empty
        };
        Ok(Look { reader: reader.clone(), presence, count: states[0].event_count() })
    }

    /// Connects to the card in a reader.
    ///
    /// # Errors
    ///
    /// [`CardError::NoCard`], [`CardError::Mute`], [`CardError::InUse`],
    /// [`CardError::NoSuchReader`], or the service fails.
    pub fn connect(&self, reader: &ReaderName) -> Result<Connection, CardError> {
        let card = self
            .0
            .connect(&reader.0, ShareMode::Shared, Protocols::ANY)
            .map_err(|error| reader.failure("connecting to the card", error))?;
        Ok(Connection { card, reader: reader.clone() })
    }
}

impl ReaderName {
    /// What the service says, of this reader.
    fn failure(&self, doing: &'static str, error: Error) -> CardError {
        match error {
            Error::NoSmartcard | Error::RemovedCard => CardError::NoCard(self.clone()),
            // The protocol is unknown as long as a card that was just put in is being started.
            Error::ProtoMismatch
            | Error::UnresponsiveCard
            | Error::UnpoweredCard
            | Error::UnsupportedCard => CardError::Mute(self.clone()),
            Error::SharingViolation => CardError::InUse(self.clone()),
            Error::UnknownReader | Error::ReaderUnavailable => {
                CardError::NoSuchReader(self.to_string())
            }
            Error::NoService | Error::ServiceStopped => CardError::NoService,
            source => CardError::Service { doing, source },
        }
    }
}

impl fmt::Display for ReaderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_string_lossy())
    }
}

impl Connection {
    /// Keeps other programs off the card and selects its PIV application.
    ///
    /// # Errors
    ///
    /// [`CardError::NotPiv`], or the card is gone.
    pub fn piv(&mut self) -> Result<PivCard<'_>, CardError> {
        let reader = self.reader.clone();
        let transaction = self
            .card
            .transaction()
            .map_err(|error| reader.failure("waiting for other programs", error))?;
        PivCard::select(Transaction(transaction))
    }
}

impl Transaction<'_> {
    /// Sends a command, in parts if it is long, and gathers the answer, in parts if it is.
    pub(crate) fn transmit(
        &self,
        doing: &'static str,
        command: &Command,
    ) -> Result<(Zeroizing<Vec<u8>>, Status), CardError> {
        let mut answer = Zeroizing::new(Vec::new());
        let mut status = Status::SUCCESS;
        for part in command.parts() {
            if status != Status::SUCCESS {
                break;
            }
            status = self.exchange(doing, &part, &mut answer)?;
        }
        while let Some(length) = status.more() {
            if answer.len() > LONGEST_ANSWER {
                let source = Malformed::new("it does not end");
                return Err(CardError::Answer { doing, source });
            }
            status = self.exchange(doing, &Command::get_response(length), &mut answer)?;
        }
        Ok((answer, status))
    }

    fn exchange(
        &self,
        doing: &'static str,
        apdu: &[u8],
        answer: &mut Vec<u8>,
    ) -> Result<Status, CardError> {
        let mut buffer = Zeroizing::new([0; LONGEST_PART]);
        let part = self.0.transmit(apdu, buffer.as_mut()).map_err(|error| gone(doing, error))?;
        let (data, status) = part.split_last_chunk().ok_or_else(|| CardError::Answer {
            doing,
            source: Malformed::new("it has no status"),
        })?;
        answer.extend_from_slice(data);
        Ok(Status(u16::from_be_bytes(*status)))
    }
}

/// What became of a card that was there.
fn gone(doing: &'static str, error: Error) -> CardError {
    match error {
        Error::CommError
        | Error::InvalidHandle
        | Error::NoSmartcard
        | Error::NotTransacted
        | Error::ReaderUnavailable
        | Error::RemovedCard
        | Error::ResetCard
        | Error::UnpoweredCard
        | Error::UnresponsiveCard => CardError::Gone { doing },
        Error::NoService | Error::ServiceStopped => CardError::NoService,
        source => CardError::Service { doing, source },
    }
}

/// 256 bytes and the status.
const LONGEST_PART: usize = 258;
/// No object of a YubiKey is as long.
const LONGEST_ANSWER: usize = 16 * 1024;
