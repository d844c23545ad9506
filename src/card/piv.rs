//! The PIV application of a card.

mod upkeep;

use std::fmt;

use aws_lc_rs::constant_time;
use pki::{
    keys::{PublicKey, Signature},
    x509::decode_signature,
};
use zeroize::Zeroizing;

use crate::{
    CardError, KeyKind, KeyMetadata, Malformed, ManagementKey, ManagementKeyMetadata, ObjectId,
    Pin, PinMetadata, Puk, Slot, Status,
    apdu::Command,
    connection::Transaction,
    management_key::random,
    metadata::read_public_key,
    tlv::{element, only},
};

/// A card whose PIV application is selected, and which nobody else uses meanwhile.
pub struct PivCard<'a> {
    transaction: Transaction<'a>,
    version: Option<Version>,
    serial: Option<u32>,
}

/// The firmware of a YubiKey.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Version(pub [u8; 3]);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, patch] = self.0;
        write!(f, "{major}.{minor}.{patch}")
    }
}

impl<'a> PivCard<'a> {
    pub(crate) fn select(transaction: Transaction<'a>) -> Result<Self, CardError> {
        let mut card = Self { transaction, version: None, serial: None };
        let select = Command::new(SELECT, [0x04, 0x00], APPLICATION);
        match card.send("selecting the PIV application", &select)? {
            (_, Status::SUCCESS) => {}
            _ => return Err(CardError::NotPiv),
        }
        // Cards of other makers do not know these commands.
        let answer = card.ask("reading the firmware's version", &yubico(GET_VERSION, 0))?;
        card.version = answer.and_then(|it| Some(Version(it.as_slice().try_into().ok()?)));
        // Before firmware 5 the number is in another application.
        if card.version.is_some_and(|version| version >= Version([5, 0, 0])) {
            let answer = card.ask("reading the serial number", &yubico(GET_SERIAL, 0))?;
            card.serial =
                answer.and_then(|it| Some(u32::from_be_bytes(it.as_slice().try_into().ok()?)));
        }
        Ok(card)
    }

    /// The firmware; `None` of a card that is no YubiKey.
    pub fn version(&self) -> Option<Version> {
        self.version
    }

    /// The serial number, which is printed on a YubiKey; `None` of another card.
    pub fn serial(&self) -> Option<u32> {
        self.serial
    }

    /// How often the PIN may still be wrong. It is not tried.
    ///
    /// # Errors
    ///
    /// The card is gone or refuses.
    pub fn pin_tries_left(&self) -> Result<u8, CardError> {
        let doing = "asking for the tries of the PIN";
        let (_, status) = self.send(doing, &tries_of_pin())?;
        status.tries_left().ok_or(CardError::Refused { doing, status })
    }

    /// What the card tells of its PIN.
    ///
    /// # Errors
    ///
    /// [`CardError::NotSupported`] before firmware 5.3, or the card is gone.
    pub fn pin_metadata(&self) -> Result<PinMetadata, CardError> {
        self.metadata("reading about the PIN", PIN, PinMetadata::read)
    }

    /// What the card tells of its PUK.
    ///
    /// # Errors
    ///
    /// As [`pin_metadata`](Self::pin_metadata).
    pub fn puk_metadata(&self) -> Result<PinMetadata, CardError> {
        self.metadata("reading about the PUK", PUK, PinMetadata::read)
    }

    /// What the card tells of its management key.
    ///
    /// # Errors
    ///
    /// As [`pin_metadata`](Self::pin_metadata).
    pub fn management_key_metadata(&self) -> Result<ManagementKeyMetadata, CardError> {
        self.metadata("reading about the management key", MANAGEMENT_KEY, |answer| {
            ManagementKeyMetadata::read(answer)
        })
    }

    /// What the card tells of the key in a slot; `None` when there is none.
    ///
    /// # Errors
    ///
    /// As [`pin_metadata`](Self::pin_metadata).
    pub fn key_metadata(&self, slot: Slot) -> Result<Option<KeyMetadata>, CardError> {
        match self.metadata("reading about a key", slot.number(), KeyMetadata::read) {
            Err(CardError::Refused { status: Status::NO_SUCH_KEY, .. }) => Ok(None),
            metadata => metadata.map(Some),
        }
    }

    /// The value of an object; `None` when there is none, or an empty one.
    ///
    /// # Errors
    ///
    /// [`CardError::Answer`] when the object is malformed; the PIN was not shown, where it is
    /// needed; or the card is gone.
    pub fn object(&self, id: ObjectId) -> Result<Option<Zeroizing<Vec<u8>>>, CardError> {
        let doing = "reading an object";
        let name = element(0x5c, &id.bytes());
        let (answer, status) = self.send(doing, &Command::new(GET_DATA, [0x3f, 0xff], name))?;
        match status {
            Status::SUCCESS => {}
            Status::NOT_FOUND => return Ok(None),
            status => return Err(CardError::Refused { doing, status }),
        }
        let value = only(&answer, OBJECT).map_err(|source| CardError::Answer { doing, source })?;
        Ok((!value.is_empty()).then(|| Zeroizing::new(value.to_vec())))
    }

    /// Writes an object; an empty value removes it. The management key must have been shown.
    ///
    /// # Errors
    ///
    /// The card is full, is gone or refuses.
    pub fn write_object(&mut self, id: ObjectId, value: &[u8]) -> Result<(), CardError> {
        let data = Zeroizing::new([element(0x5c, &id.bytes()), element(OBJECT, value)].concat());
        let command = Command::new(PUT_DATA, [0x3f, 0xff], data.as_slice());
        self.order("writing an object", &command)
    }

    /// Shows the PIN. It is tried once, and not at all when one try is left.
    ///
    /// # Errors
    ///
    /// [`CardError::WrongPin`], [`CardError::LastTry`], [`CardError::PinLocked`], or the card is
    /// gone.
    pub fn verify_pin(&mut self, pin: &Pin) -> Result<(), CardError> {
        let (_, status) = self.send("asking for the tries of the PIN", &tries_of_pin())?;
        match status.tries_left() {
            Some(0) => return Err(CardError::PinLocked),
            Some(1) => return Err(CardError::LastTry("PIN")),
            _ => {}
        }
        let command = Command::new(VERIFY, [0, PIN], *pin.bytes());
        self.show("verifying the PIN", &command, Secret::Pin)
    }

    /// Sets another PIN. The old one is tried once.
    ///
    /// # Errors
    ///
    /// As [`verify_pin`](Self::verify_pin), and if the card wants another form of PIN.
    pub fn change_pin(&mut self, old: &Pin, new: &Pin) -> Result<(), CardError> {
        let data = Zeroizing::new([*old.bytes(), *new.bytes()].concat());
        let command = Command::new(CHANGE_REFERENCE_DATA, [0, PIN], data.as_slice());
        self.show("changing the PIN", &command, Secret::Pin)
    }

    /// Sets another PUK. The old one is tried once.
    ///
    /// # Errors
    ///
    /// [`CardError::WrongPuk`], [`CardError::PukLocked`], or the card is gone.
    pub fn change_puk(&mut self, old: &Puk, new: &Puk) -> Result<(), CardError> {
        let data = Zeroizing::new([*old.bytes(), *new.bytes()].concat());
        let command = Command::new(CHANGE_REFERENCE_DATA, [0, PUK], data.as_slice());
        self.show("changing the PUK", &command, Secret::Puk)
    }

    /// Shows the management key, and lets the card prove that it knows it too (SP 800-73-4 part 2,
    /// appendix A.1).
    ///
    /// # Errors
    ///
    /// [`CardError::WrongManagementKey`], or the card is gone.
    pub fn authenticate(&mut self, key: &ManagementKey) -> Result<(), CardError> {
        let doing = "showing the management key";
        let step = |template: Vec<u8>| {
            let parameters = [key.algorithm().number(), MANAGEMENT_KEY];
            Command::new(GENERAL_AUTHENTICATE, parameters, element(TEMPLATE, &template))
        };
        // 1. The card proves nothing yet: it sends a witness that only the key decrypts.
        let answer = self.demand(doing, &step(element(WITNESS, &[])))?;
        let witness = from_template(&answer, WITNESS)
            .map_err(|source| CardError::Answer { doing, source })?;
        let witness = key.decrypt(witness).ok_or(CardError::WrongManagementKey)?;
        // 2. The witness shows that we have the key, a challenge asks the same of the card.
        let challenge = random(key.algorithm().block_length())?;
        let both = [element(WITNESS, &witness), element(CHALLENGE, &challenge)].concat();
        let (answer, status) = self.send(doing, &step(both))?;
        if status != Status::SUCCESS {
            return Err(CardError::WrongManagementKey);
        }
        let response = from_template(&answer, RESPONSE)
            .map_err(|source| CardError::Answer { doing, source })?;
        let expected = key.encrypt(&challenge).ok_or(CardError::WrongManagementKey)?;
        constant_time::verify_slices_are_equal(response, &expected)
            .map_err(|_| CardError::WrongManagementKey)
    }

    /// Sets another management key. The old one must have been shown.
    ///
    /// # Errors
    ///
    /// The card does not know the algorithm, is gone or refuses.
    pub fn set_management_key(&mut self, key: &ManagementKey) -> Result<(), CardError> {
        let length = u8::try_from(key.bytes().len()).unwrap_or(u8::MAX);
        let head = [key.algorithm().number(), MANAGEMENT_KEY, length];
        let data = Zeroizing::new([&head, key.bytes()].concat());
        // FF and FF: without touch.
        let command = Command::new(SET_MANAGEMENT_KEY, [0xff, 0xff], data.as_slice());
        self.order("setting the management key", &command)
    }

    /// Makes a key in a slot, with the policies that are the slot's own; a key that was there is
    /// gone. The management key must have been shown.
    ///
    /// # Errors
    ///
    /// The card does not make such keys, is gone or refuses.
    pub fn generate(&mut self, slot: Slot, kind: KeyKind) -> Result<PublicKey, CardError> {
        let doing = "making a key";
        let template = element(0xac, &element(0x80, &[kind.number()]));
        let command = Command::new(GENERATE, [0, slot.number()], template);
        let answer = self.demand(doing, &command)?;
        let numbers = answer.strip_prefix(&[0x7f]).unwrap_or_default();
        only(numbers, 0x49)
            .and_then(|numbers| read_public_key(kind.number(), numbers))
            .and_then(|key| key.map_err(|error| Malformed::new(error.to_string())))
            .map_err(|source| CardError::Answer { doing, source })
    }

    /// The card's certificate (DER) that it made the key in a slot itself, under the certificate in
    /// [`Slot::Attestation`].
    ///
    /// # Errors
    ///
    /// The key was imported, there is none, or the card is gone.
    pub fn attest(&self, slot: Slot) -> Result<Vec<u8>, CardError> {
        let doing = "attesting a key";
        let command = Command::new(ATTEST, [slot.number(), 0], []);
        Ok(self.demand(doing, &command)?.to_vec())
    }

    /// Signs a message by the key in a slot. The PIN must have been shown.
    ///
    /// # Errors
    ///
    /// The key is of another kind, the PIN was not shown, or the card is gone.
    pub fn sign(
        &mut self,
        slot: Slot,
        kind: KeyKind,
        message: &[u8],
    ) -> Result<Signature, CardError> {
        let doing = "signing";
        let request = [element(RESPONSE, &[]), element(CHALLENGE, &kind.digest(message))].concat();
        let parameters = [kind.number(), slot.number()];
        let command = Command::new(GENERAL_AUTHENTICATE, parameters, element(TEMPLATE, &request));
        let answer = self.demand(doing, &command)?;
        from_template(&answer, RESPONSE)
            .and_then(|signature| {
                decode_signature(kind.algorithm(), signature)
                    .ok_or_else(|| Malformed::new("the signature is not DER"))
            })
            .map_err(|source| CardError::Answer { doing, source })
    }

    fn metadata<T>(
        &self,
        doing: &'static str,
        of: u8,
        read: impl FnOnce(&[u8]) -> Result<T, Malformed>,
    ) -> Result<T, CardError> {
        if self.version.is_none_or(|version| version < Version([5, 3, 0])) {
            return Err(CardError::NotSupported { doing, since: "5.3" });
        }
        let answer = self.demand(doing, &yubico(GET_METADATA, of))?;
        read(&answer).map_err(|source| CardError::Answer { doing, source })
    }

    /// A command with a PIN or PUK in it.
    fn show(
        &mut self,
        doing: &'static str,
        command: &Command,
        secret: Secret,
    ) -> Result<(), CardError> {
        let (_, status) = self.send(doing, command)?;
        match (status, status.tries_left(), secret) {
            (Status::SUCCESS, ..) => Ok(()),
            (_, Some(0), Secret::Pin) => Err(CardError::PinLocked),
            (_, Some(0), Secret::Puk) => Err(CardError::PukLocked),
            (_, Some(left), Secret::Pin) => Err(CardError::WrongPin { left }),
            (_, Some(left), Secret::Puk) => Err(CardError::WrongPuk { left }),
            (status, None, _) => Err(CardError::Refused { doing, status }),
        }
    }

    /// A command that answers nothing.
    fn order(&mut self, doing: &'static str, command: &Command) -> Result<(), CardError> {
        self.demand(doing, command).map(drop)
    }

    /// A command that must succeed.
    fn demand(
        &self,
        doing: &'static str,
        command: &Command,
    ) -> Result<Zeroizing<Vec<u8>>, CardError> {
        match self.send(doing, command)? {
            (answer, Status::SUCCESS) => Ok(answer),
            (_, status) => Err(CardError::Refused { doing, status }),
        }
    }

    /// A command that may be unknown to the card.
    fn ask(
        &self,
        doing: &'static str,
        command: &Command,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, CardError> {
        let (answer, status) = self.send(doing, command)?;
        Ok((status == Status::SUCCESS).then_some(answer))
    }

    fn send(
        &self,
        doing: &'static str,
        command: &Command,
    ) -> Result<(Zeroizing<Vec<u8>>, Status), CardError> {
        self.transaction.transmit(doing, command)
    }
}

/// Which secret a command shows.
#[derive(Clone, Copy)]
enum Secret {
    Pin,
    Puk,
}

/// SP 800-73-4 part 2 section 3.2.1: without data it is a question.
fn tries_of_pin() -> Command {
    Command::new(VERIFY, [0, PIN], [])
}

/// A command of Yubico's that asks for something.
fn yubico(instruction: u8, p2: u8) -> Command {
    Command::new(instruction, [0, p2], [])
}

/// One element of a dynamic authentication template (SP 800-73-4 part 2, table 7).
fn from_template(answer: &[u8], tag: u8) -> Result<&[u8], Malformed> {
    only(only(answer, TEMPLATE)?, tag)
}

const APPLICATION: [u8; 5] = [0xa0, 0x00, 0x00, 0x03, 0x08];

// SP 800-73-4 part 2.
const VERIFY: u8 = 0x20;
const CHANGE_REFERENCE_DATA: u8 = 0x24;
const GENERATE: u8 = 0x47;
const GENERAL_AUTHENTICATE: u8 = 0x87;
const SELECT: u8 = 0xa4;
const GET_DATA: u8 = 0xcb;
const PUT_DATA: u8 = 0xdb;

// Yubico's.
const ATTEST: u8 = 0xf9;
const GET_METADATA: u8 = 0xf7;
const GET_SERIAL: u8 = 0xf8;
const GET_VERSION: u8 = 0xfd;
const SET_MANAGEMENT_KEY: u8 = 0xff;

const PIN: u8 = 0x80;
const PUK: u8 = 0x81;
const MANAGEMENT_KEY: u8 = 0x9b;
const OBJECT: u8 = 0x53;
const TEMPLATE: u8 = 0x7c;
const WITNESS: u8 = 0x80;
const CHALLENGE: u8 = 0x81;
const RESPONSE: u8 = 0x82;
