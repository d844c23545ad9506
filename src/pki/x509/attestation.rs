//! Attestations of PIV cards: a card's own word that it made a key itself, in two certificates.
//!
//! The *statement* certifies the key, by the card's attestation key; the *intermediate* certifies the
//! attestation key, by the card's maker. The format is Yubico's ("PIV attestation": extensions
//! 1.3.6.1.4.1.41482.3.3, .7, .8 and .9). A card refuses to attest a key that was imported.

mod anchors;
mod card;
mod link;
#[cfg(test)]
mod tests;

use const_oid::ObjectIdentifier;
use der::{Decode, asn1::UintRef};
use jiff::Timestamp;
use thiserror::Error;

pub use anchors::{AnchorError, Anchors};
pub use card::{BadWord, Firmware, FormFactor, PinPolicy, Slot, TouchPolicy};

use super::oid;
use crate::keys::{KeyError, PublicKey, weak::WeakKey};
use link::Link;

/// What a card says of a key that it made, after all of it was verified.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Attestation {
    /// The key.
    pub public_key: PublicKey,
    /// The card's serial number; unique among the cards of its maker.
    pub serial: u32,
    /// The card's firmware.
    pub firmware: Firmware,
    /// What the card looks like, if it says so.
    pub form_factor: Option<FormFactor>,
    /// Where the key is.
    pub slot: Slot,
    /// When the PIN is asked for.
    pub pin_policy: PinPolicy,
    /// When the card must be touched.
    pub touch_policy: TouchPolicy,
    /// SHA-256 of the attestation key's SubjectPublicKeyInfo, hexadecimal. A maker may give one key to
    /// many cards: the serial number tells them apart.
    pub attestation_key: String,
    /// Word for word, for whoever verifies it again later: the statement (DER).
    pub statement: Vec<u8>,
    /// The intermediate (DER).
    pub intermediate: Vec<u8>,
}

/// An attestation that was read, and of which nothing is verified.
#[derive(Clone, Debug)]
pub struct Claim {
    statement: Link,
    intermediate: Link,
    attestation: Attestation,
}

/// An attestation is refused: by which rule.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum AttestationError {
    /// It names a maker, and is not by it.
    #[error("the card's attestation certificate is not signed by {issuer:?}, which it names")]
    Counterfeit {
        /// Whom it names.
        issuer: String,
    },
    /// A certificate of the path has expired.
    #[error("the certificate of {subject:?} has expired")]
    Expired {
        /// Whose.
        subject: String,
    },
    /// An extension is missing, there twice, or not what it should be.
    #[error("the card's statement: extension {extension}: {what}")]
    Extension {
        /// Its object identifier.
        extension: ObjectIdentifier,
        /// What is wrong with it.
        what: String,
    },
    /// The card's attestation key has not signed the statement.
    #[error("the card's statement is not signed by its attestation key")]
    Forged,
    /// A certificate cannot be read.
    #[error("the card's {which} cannot be read: {what}")]
    Malformed {
        /// Which.
        which: &'static str,
        /// Why.
        what: String,
    },
    /// The attestation key may sign no certificates.
    #[error("the card's attestation certificate is no CA's")]
    NotAuthority,
    /// A certificate of the path is not valid yet.
    #[error("the certificate of {subject:?} is not valid yet")]
    NotYetValid {
        /// Whose.
        subject: String,
    },
    /// It is of another key than the one to be certified.
    #[error("the card's statement is of another key than the certificate signing request")]
    OtherKey,
    /// Its maker may certify no CAs.
    #[error("{issuer:?} may certify no attestation keys: its path length is 0")]
    PathLength {
        /// Who.
        issuer: String,
    },
    /// It does not say which slot the key is in.
    #[error("the card's statement is of no slot: its subject is {subject:?}")]
    Slot {
        /// What it says.
        subject: String,
    },
    /// It leads to nobody who is trusted.
    #[error("the card's attestation certificate is by {issuer:?}, which is no maker of cards here")]
    UnknownMaker {
        /// Who has signed it.
        issuer: String,
    },
    /// Others could find the attestation key.
    #[error("the card's attestation key: {0}")]
    Weak(#[from] WeakKey),
}

impl AttestationError {
    /// The stable word for programs and the audit log.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Counterfeit { .. } => "attestation-counterfeit",
            Self::Expired { .. } => "attestation-expired",
            Self::Extension { .. } | Self::Malformed { .. } => "attestation-malformed",
            Self::Forged => "attestation-forged",
            Self::NotAuthority => "attestation-not-authority",
            Self::NotYetValid { .. } => "attestation-not-yet-valid",
            Self::OtherKey => "attestation-other-key",
            Self::PathLength { .. } => "attestation-path-length",
            Self::Slot { .. } => "attestation-slot",
            Self::UnknownMaker { .. } => "attestation-unknown-maker",
            Self::Weak(_) => "attestation-weak-key",
        }
    }
}

impl Claim {
    /// The longest PEM of either certificate that is looked at.
    pub const MAX_LEN: usize = 2 * Link::MAX_LEN;

    /// Reads the two certificates, as PEM (`CERTIFICATE`).
    ///
    /// # Errors
    ///
    /// One is not such a PEM text, or as [`from_der`](Self::from_der).
    pub fn from_pem(statement: &str, intermediate: &str) -> Result<Self, AttestationError> {
        let der = |which, text: &str| {
            let malformed = |what| AttestationError::Malformed { which, what };
            if text.len() > Self::MAX_LEN {
                return Err(malformed(link::too_long(text.len())));
            }
            super::from_pem(text, &["CERTIFICATE"]).map_err(malformed)
        };
        Self::from_der(&der(STATEMENT, statement)?, &der(INTERMEDIATE, intermediate)?)
    }

    /// Reads the two certificates, as DER.
    ///
    /// # Errors
    ///
    /// One is too long, not DER of a certificate, or has a critical extension that is not known
    /// here; or the statement does not say all that it should.
    pub fn from_der(statement: &[u8], intermediate: &[u8]) -> Result<Self, AttestationError> {
        let read = |which, der| {
            Link::read(der).map_err(|what| AttestationError::Malformed { which, what })
        };
        let (said, by) = (statement.to_vec(), intermediate.to_vec());
        let statement = read(STATEMENT, statement)?;
        let intermediate = read(INTERMEDIATE, intermediate)?;
        let (pin_policy, touch_policy) = policies(&statement)?;
        let attestation = Attestation {
            public_key: statement.public_key.clone(),
            serial: serial(&statement)?,
            firmware: Firmware::from_bytes(octets(&statement, FIRMWARE)?),
            form_factor: match statement.extension(FORM_FACTOR) {
                Some(_) => Some(FormFactor::from_byte(octets::<1>(&statement, FORM_FACTOR)?[0])),
                None => None,
            },
            slot: slot(&statement.subject_text)?,
            pin_policy,
            touch_policy,
            attestation_key: intermediate.public_key.fingerprint(),
            statement: said,
            intermediate: by,
        };
        Ok(Self { statement, intermediate, attestation })
    }

    /// Verifies that a card of a trusted maker says this of this key now. The certificates of cards
    /// and of their makers have dates as all others, and they count.
    ///
    /// # Errors
    ///
    /// The first rule that is broken.
    pub fn verify(
        self,
        anchors: &Anchors,
        key: &PublicKey,
        now: Timestamp,
    ) -> Result<Attestation, AttestationError> {
        anchors.check_card(&self.intermediate, now)?;
        self.intermediate.public_key.check_offered().map_err(weak)?;
        if self.intermediate.authority.is_none() {
            return Err(AttestationError::NotAuthority);
        }
        let names_it = self.statement.issuer == self.intermediate.subject;
        if !names_it || !self.statement.is_signed_by(&self.intermediate.public_key) {
            return Err(AttestationError::Forged);
        }
        self.intermediate.dates.check(now)?;
        self.statement.dates.check(now)?;
        if self.attestation.public_key != *key {
            return Err(AttestationError::OtherKey);
        }
        Ok(self.attestation)
    }
}

fn weak(error: KeyError) -> AttestationError {
    match error {
        KeyError::Weak(weak) => weak.into(),
        other => AttestationError::Malformed { which: INTERMEDIATE, what: other.to_string() },
    }
}

/// The whole content of an extension, which Yubico writes without an encoding of its own.
fn octets<const N: usize>(
    statement: &Link,
    extension: ObjectIdentifier,
) -> Result<[u8; N], AttestationError> {
    let wrong = |what: String| AttestationError::Extension { extension, what };
    let value = statement.extension(extension).ok_or_else(|| wrong("it is missing".to_owned()))?;
    value.try_into().map_err(|_| wrong(format!("it has {} bytes, not {N}", value.len())))
}

fn policies(statement: &Link) -> Result<(PinPolicy, TouchPolicy), AttestationError> {
    let wrong = |what: String| AttestationError::Extension { extension: POLICIES, what };
    let [pin, touch] = octets(statement, POLICIES)?;
    let pin_policy =
        PinPolicy::from_byte(pin).ok_or_else(|| wrong(format!("unknown PIN policy {pin}")))?;
    let touch_policy = TouchPolicy::from_byte(touch)
        .ok_or_else(|| wrong(format!("unknown touch policy {touch}")))?;
    Ok((pin_policy, touch_policy))
}

fn serial(statement: &Link) -> Result<u32, AttestationError> {
    let wrong = |what: String| AttestationError::Extension { extension: SERIAL, what };
    let value = statement.extension(SERIAL).ok_or_else(|| wrong("it is missing".to_owned()))?;
    let number = UintRef::from_der(value).map_err(|error| wrong(error.to_string()))?;
    let bytes = number.as_bytes();
    let mut padded = [0; 4];
    let room = 4_usize.checked_sub(bytes.len()).and_then(|start| padded.get_mut(start..));
    let room = room.ok_or_else(|| wrong("it is more than 32 bits".to_owned()))?;
    room.copy_from_slice(bytes);
    Ok(u32::from_be_bytes(padded))
}

/// Of `CN=YubiKey PIV Attestation 9a`, the slot.
fn slot(subject: &str) -> Result<Slot, AttestationError> {
    let named = subject.strip_prefix("CN=YubiKey PIV Attestation ");
    named
        .and_then(|slot| slot.parse().ok())
        .ok_or_else(|| AttestationError::Slot { subject: subject.to_owned() })
}

const STATEMENT: &str = "statement";
const INTERMEDIATE: &str = "attestation certificate";

const FIRMWARE: ObjectIdentifier = oid::YUBICO_FIRMWARE;
const SERIAL: ObjectIdentifier = oid::YUBICO_SERIAL;
const POLICIES: ObjectIdentifier = oid::YUBICO_POLICIES;
const FORM_FACTOR: ObjectIdentifier = oid::YUBICO_FORM_FACTOR;
