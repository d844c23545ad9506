//! A YubiKey that is a program: the PIV application of SP 800-73-4 with Yubico's extensions, as
//! firmware 5.4 and 5.7 answer, and cards that are none. It is put into a reader of
//! [`Readers`](crate::readers::Readers), does what a [`Fault`] tells it, and writes down every
//! command.
//!
//! Its own keys and its PIN are no secret: it is a test tool.

mod applet;
mod attestation;
mod command;
mod key;
mod management_key;
mod reference;
mod tlv;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::failure::Failure;

use applet::Applet;
use command::{Command, Framing};

pub use command::Status;

/// The PIN and the PUK that a card comes with, and its management key.
pub const DEFAULT_PIN: &str = "123456";
/// See [`DEFAULT_PIN`].
pub const DEFAULT_PUK: &str = "12345678";
/// See [`DEFAULT_PIN`]: 24 bytes, of 3DES up to firmware 5.6 and of AES-192 from 5.7 on.
pub const DEFAULT_MANAGEMENT_KEY: &str = "010203040506070801020304050607080102030405060708";

/// What the program plays.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// No smart card of PIV: it knows no application.
    Foreign,
    /// A PIV card of another maker: the standard's commands and no others.
    Piv,
    /// A YubiKey of firmware 5.4.3, whose management key is 3DES at first.
    YubiKey54,
    /// A YubiKey of firmware 5.7.1, whose management key is AES-192 at first.
    YubiKey57,
}

/// What goes wrong. Commands are counted from 1 on, since the fault was set.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// The card is pulled when this command comes: it is not carried out.
    PulledBefore(usize),
    /// The card is pulled when this command was carried out: its answer is lost.
    PulledAfter(usize),
    /// Each command with this instruction is answered with this status, and not carried out.
    Refuses(u8, Status),
}

/// One command and what became of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Exchange {
    /// CLA of the command; bit 0x10 says that more of it follows.
    pub class: u8,
    /// INS of the command.
    pub instruction: u8,
    /// P1 and P2.
    pub parameters: [u8; 2],
    /// The data that came with it.
    pub data: Vec<u8>,
    /// The answer's status; `None` when it was lost with the card.
    pub status: Option<Status>,
}

/// A card, wherever it is: clones are the same card.
#[derive(Clone, Debug)]
pub struct VirtualCard(Arc<Mutex<Card>>);

#[derive(Debug)]
struct Card {
    kind: Kind,
    applet: Applet,
    framing: Framing,
    fault: Option<Fault>,
    seen: usize,
    transcript: Vec<Exchange>,
}

impl VirtualCard {
    /// A card as it comes from the factory, but with an attestation CA of its own.
    ///
    /// # Errors
    ///
    /// No key can be made.
    pub fn new(kind: Kind, serial: u32) -> Result<Self, Failure> {
        let applet = Applet::new(kind, serial)?;
        let (framing, transcript) = (Framing::default(), Vec::new());
        let card = Card { kind, applet, framing, fault: None, seen: 0, transcript };
        Ok(Self(Arc::new(Mutex::new(card))))
    }

    /// Whether it is this card, and not one like it.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Behaves like this from the next command on.
    pub fn fail(&self, fault: Option<Fault>) {
        let mut card = self.card();
        (card.fault, card.seen) = (fault, 0);
    }

    /// All commands since the last call.
    pub fn take_transcript(&self) -> Vec<Exchange> {
        std::mem::take(&mut self.card().transcript)
    }

    /// The object of this number, with its tag 53 and length, if there is one.
    pub fn object(&self, id: u32) -> Option<Vec<u8>> {
        self.card().applet.object(id)
    }

    /// Puts an object on the card as it is, well formed or not; `None` removes it.
    pub fn set_object(&self, id: u32, answer: Option<&[u8]>) {
        self.card().applet.set_object(id, answer);
    }

    /// How often a wrong PIN may be tried from now on.
    pub fn set_pin_tries_left(&self, left: u8) {
        self.card().applet.set_pin_tries_left(left);
    }

    /// The tries left of the PIN and of the PUK.
    pub fn tries_left(&self) -> (u8, u8) {
        self.card().applet.tries_left()
    }

    /// The root of its attestations (DER).
    pub fn attestation_root(&self) -> Vec<u8> {
        self.card().applet.attestation_root()
    }

    /// The answer to reset, which says what the card is.
    pub(crate) fn answer_to_reset(&self) -> &'static [u8] {
        match self.card().kind {
            Kind::Foreign | Kind::Piv => PLAIN_ATR,
            Kind::YubiKey54 | Kind::YubiKey57 => YUBIKEY_ATR,
        }
    }

    /// Forgets what was verified and selected, as a card does without power.
    pub(crate) fn reset(&self) {
        let mut card = self.card();
        card.applet.power();
        card.framing = Framing::default();
    }

    /// Carries a command out; `None` when the card was pulled.
    pub(crate) fn transmit(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        self.card().transmit(bytes)
    }

    fn card(&self) -> MutexGuard<'_, Card> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Card {
    fn transmit(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        let Some(command) = Command::parse(bytes) else {
            return Some(Status::WRONG_LENGTH.answer(&[]));
        };
        self.seen += 1;
        let answer = match self.fault {
            Some(Fault::PulledBefore(n)) if n == self.seen => None,
            Some(Fault::PulledAfter(n)) if n == self.seen => {
                self.carry_out(&command);
                None
            }
            Some(Fault::Refuses(instruction, status)) if instruction == command.instruction => {
                Some(status.answer(&[]))
            }
            _ => Some(self.carry_out(&command)),
        };
        self.transcript.push(Exchange {
            class: command.class,
            instruction: command.instruction,
            parameters: command.parameters,
            data: command.data.to_vec(),
            status: answer.as_deref().and_then(Status::of),
        });
        answer
    }

    fn carry_out(&mut self, command: &Command) -> Vec<u8> {
        let applet = &mut self.applet;
        self.framing.transmit(command, |instruction, parameters, data| {
            applet.perform(instruction, parameters, data)
        })
    }
}

/// T=1, and the historical bytes by which OpenSC knows a YubiKey 5.
const YUBIKEY_ATR: &[u8] =
    b"\x3b\xfd\x13\x00\x00\x81\x31\xfe\x15\x80\x73\xc0\x21\xc0\x57YubiKey\x40";

/// T=1, and nothing else.
const PLAIN_ATR: &[u8] = b"\x3b\x80\x80\x01\x01";
