//! Takes a YubiKey away from the secrets that every YubiKey comes with.
//!
//! Each step looks first whether it is done already, so that a card that was pulled is finished by
//! doing the same again.

use serde::Serialize;
use thiserror::Error;

use crate::{
    Capabilities, CardError, HolderId, ManagementKey, ManagementKeyAlgorithm,
    ManagementKeyMetadata, ObjectId, Pin, PinMetadata, PivCard, Puk, Version, kept_key,
};

/// The secrets that the card is to have.
#[derive(Debug)]
pub struct Wanted {
    /// The holder's PIN.
    pub pin: Pin,
    /// What unblocks it; needed for a card that still has the factory's.
    pub puk: Option<Puk>,
    /// Whether secrets that are still the factory's may be shown to the card to replace them.
    pub from_defaults: bool,
}

/// What was done; the rest had been done before.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub struct Done {
    /// The PIN was set.
    pub pin: bool,
    /// The PUK was set.
    pub puk: bool,
    /// The management key was set, and is kept on the card behind the PIN.
    pub management_key: bool,
    /// The card has an identity for Windows.
    pub holder: bool,
    /// The card says what it can.
    pub capabilities: bool,
}

/// A card is not made ready.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum InitError {
    /// The card did not do what it was asked.
    #[error(transparent)]
    Card(#[from] CardError),
    /// The new PIN or PUK is the factory's.
    #[error("the new {0} is the one that every YubiKey comes with")]
    NewIsDefault(&'static str),
    /// The card still has a secret of the factory's, and nobody said that it may be used.
    #[error("the {0} is still the one that every YubiKey comes with")]
    StillDefault(&'static str),
    /// The card needs a PUK, and none was given.
    #[error("the PUK is still the one that every YubiKey comes with, and no new one is given")]
    NoPuk,
    /// There is something else where the management key would be kept.
    #[error("the card has other data where its management key would be kept (object {0})")]
    PlaceTaken(ObjectId),
    /// The card does not have afterwards what was written.
    #[error("the card still has a factory secret after it was replaced: {0}")]
    NotInForce(&'static str),
}

/// Sets PIN, management key and PUK, and gives the card an identity where it has none.
///
/// # Errors
///
/// [`InitError`]: what was done before stays, and doing the same again goes on from there.
pub fn init(card: &mut PivCard<'_>, wanted: &Wanted) -> Result<Done, InitError> {
    if wanted.pin.is_default() {
        return Err(InitError::NewIsDefault("PIN"));
    }
    if wanted.puk.as_ref().is_some_and(Puk::is_default) {
        return Err(InitError::NewIsDefault("PUK"));
    }
    let (pin, puk) = (card.pin_metadata()?, card.puk_metadata()?);
    let key = card.management_key_metadata()?;
    refuse_defaults(wanted.from_defaults, pin, puk, key)?;
    if puk.default && wanted.puk.is_none() {
        return Err(InitError::NoPuk);
    }

    // The PIN comes first: it protects the management key from then on.
    let done = Done {
        pin: set_pin(card, wanted, pin)?,
        management_key: set_management_key(card, key)?,
        puk: set_puk(card, wanted, puk)?,
        holder: write_if_absent(card, ObjectId::HOLDER_ID, HolderId::generate)?,
        capabilities: write_if_absent(card, ObjectId::CAPABILITIES, Capabilities::generate)?,
    };
    verify(card)?;
    Ok(done)
}

/// Before anything is changed.
fn refuse_defaults(
    allowed: bool,
    pin: PinMetadata,
    puk: PinMetadata,
    key: ManagementKeyMetadata,
) -> Result<(), InitError> {
    let defaults = [("PIN", pin.default), ("PUK", puk.default), ("management key", key.default)];
    match defaults.into_iter().find(|(_, default)| *default) {
        Some((what, _)) if !allowed => Err(InitError::StillDefault(what)),
        _ => Ok(()),
    }
}

/// Afterwards the PIN was shown.
fn set_pin(card: &mut PivCard<'_>, wanted: &Wanted, pin: PinMetadata) -> Result<bool, InitError> {
    if pin.left == 0 {
        return Err(CardError::PinLocked.into());
    }
    if pin.default {
        card.change_pin(&Pin::factory_default(), &wanted.pin)?;
    }
    card.verify_pin(&wanted.pin)?;
    Ok(pin.default)
}

/// Afterwards the management key was shown.
fn set_management_key(
    card: &mut PivCard<'_>,
    key: ManagementKeyMetadata,
) -> Result<bool, InitError> {
    if !key.default {
        kept_key::show(card)?;
        return Ok(false);
    }
    if kept_key::place_is_taken(card)? {
        return Err(InitError::PlaceTaken(ObjectId::PRINTED));
    }
    let old = ManagementKey::factory_default(key.algorithm);
    card.authenticate(&old.ok_or(CardError::UnknownManagementKey)?)?;
    let new = ManagementKey::generate(best_algorithm(card))?;
    // Kept before it is in force: a card that is pulled in between has the old key, which is known.
    kept_key::write(card, &new)?;
    card.set_management_key(&new)?;
    card.authenticate(&new)?;
    Ok(true)
}

fn set_puk(card: &mut PivCard<'_>, wanted: &Wanted, puk: PinMetadata) -> Result<bool, InitError> {
    if puk.left == 0 {
        return Err(CardError::PukLocked.into());
    }
    // One that was set before is not tried: that would cost a try if it is another.
    if let (true, Some(new)) = (puk.default, &wanted.puk) {
        card.change_puk(&Puk::factory_default(), new)?;
    }
    Ok(puk.default)
}

fn write_if_absent(
    card: &mut PivCard<'_>,
    id: ObjectId,
    generate: impl FnOnce() -> Result<Vec<u8>, CardError>,
) -> Result<bool, CardError> {
    let absent = card.object(id)?.is_none();
    if absent {
        card.write_object(id, &generate()?)?;
    }
    Ok(absent)
}

/// Asks the card, not the memory of what was sent.
fn verify(card: &PivCard<'_>) -> Result<(), InitError> {
    let still = [
        ("PIN", card.pin_metadata()?.default),
        ("PUK", card.puk_metadata()?.default),
        ("management key", card.management_key_metadata()?.default),
    ];
    match still.into_iter().find(|(_, default)| *default) {
        Some((what, _)) => Err(InitError::NotInForce(what)),
        None => Ok(()),
    }
}

/// AES-256 where the firmware has it.
fn best_algorithm(card: &PivCard<'_>) -> ManagementKeyAlgorithm {
    if card.version().is_some_and(|version| version >= Version([5, 4, 2])) {
        ManagementKeyAlgorithm::Aes256
    } else {
        ManagementKeyAlgorithm::TripleDes
    }
}
