//! Takes a YubiKey away from the secrets that every YubiKey comes with.
//!
//! Each step looks first whether it is done already, so that a card that was pulled is finished by
//! doing the same again.

use serde::Serialize;
use thiserror::Error;

use crate::{
    Capabilities, CardError, Escrow, EscrowError, HolderId, ManagementKey, ManagementKeyAlgorithm,
    ManagementKeyMetadata, ObjectId, Pin, PinError, PinMetadata, PivCard, Puk, Version, code,
    escrow::Content, kept_key,
};

/// The secrets that the card is to have.
#[derive(Debug)]
pub struct Wanted {
    /// The holder's PIN.
    pub pin: Pin,
    /// What unblocks it.
    pub puk: WantedPuk,
    /// Where the administrators find the management key; `None` if the card alone keeps it. The card
    /// keeps it also then, until [`release`].
    pub management_key: Option<Escrow>,
    /// Whether secrets that are still the factory's may be shown to the card to replace them.
    pub from_defaults: bool,
}

/// Where the PUK is from.
#[derive(Debug)]
pub enum WantedPuk {
    /// Chance makes it, and the administrators find it here.
    Escrowed(Escrow),
    /// Somebody chose it.
    Given(Puk),
    /// The card has one, of which nothing is said.
    Left,
}

/// What was done; the rest had been done before.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub struct Done {
    /// The PIN was set.
    pub pin: bool,
    /// The PUK was set.
    pub puk: bool,
    /// The management key was set.
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
    /// The administrators' copy cannot be made.
    #[error(transparent)]
    Escrow(#[from] EscrowError),
    /// The new PIN or PUK is the factory's.
    #[error("the new {0} is the one that every YubiKey comes with")]
    NewIsDefault(&'static str),
    /// The card still has a secret of the factory's, and nobody said that it may be used.
    #[error("the {0} is still the one that every YubiKey comes with")]
    StillDefault(&'static str),
    /// The card needs a PUK, and none was given.
    #[error("the PUK is still the one that every YubiKey comes with, and no new one is given")]
    NoPuk,
    /// The card has a PUK that the administrators do not find where they look for it.
    #[error("the PUK was set before, and is not in {0}")]
    PukElsewhere(String),
    /// Chance made what is no PUK.
    #[error("a PUK cannot be made")]
    Puk(#[from] PinError),
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
    if matches!(&wanted.puk, WantedPuk::Given(puk) if puk.is_default()) {
        return Err(InitError::NewIsDefault("PUK"));
    }
    let (pin, puk) = (card.pin_metadata()?, card.puk_metadata()?);
    let key = card.management_key_metadata()?;
    refuse_defaults(wanted.from_defaults, pin, puk, key)?;
    refuse_unknown_puk(card, puk, &wanted.puk)?;

    // The PIN comes first: it protects the management key from then on.
    let done = Done {
        pin: set_pin(card, wanted, pin)?,
        management_key: set_management_key(card, key, wanted.management_key.as_ref())?,
        puk: set_puk(card, &wanted.puk, puk)?,
        holder: write_if_absent(card, ObjectId::HOLDER_ID, HolderId::generate)?,
        capabilities: write_if_absent(card, ObjectId::CAPABILITIES, Capabilities::generate)?,
    };
    verify(card)?;
    Ok(done)
}

/// Has the card keep its management key no longer, so that the administrators have it alone. The card
/// is ready otherwise: nothing more can be written to it without them. The PIN must have been shown.
///
/// # Errors
///
/// [`InitError`]: doing the same again goes on from there.
pub fn release(card: &mut PivCard<'_>, escrow: &Escrow) -> Result<bool, InitError> {
    let Some(key) = kept_key::read(card)? else {
        return match escrow.has(Content::ManagementKey, serial(card)?)? {
            true => Ok(false),
            false => Err(CardError::UnknownManagementKey.into()),
        };
    };
    card.authenticate(&key)?;
    // Once more: whatever became of the file since, it has the key that is in force.
    escrow.put(Content::ManagementKey, serial(card)?, &key.to_hex())?;
    kept_key::remove(card)?;
    match kept_key::read(card)? {
        None => Ok(true),
        Some(_) => Err(InitError::NotInForce("the management key is still kept on it")),
    }
}

/// Before anything is changed.
fn refuse_unknown_puk(
    card: &PivCard<'_>,
    puk: PinMetadata,
    wanted: &WantedPuk,
) -> Result<(), InitError> {
    match wanted {
        WantedPuk::Left if puk.default => Err(InitError::NoPuk),
        WantedPuk::Escrowed(escrow) => {
            let is_there = escrow.has(Content::Puk, serial(card)?)?;
            match puk.default || is_there {
                true => Ok(()),
                false => Err(InitError::PukElsewhere(escrow.path().display().to_string())),
            }
        }
        WantedPuk::Given(_) | WantedPuk::Left => Ok(()),
    }
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

/// Afterwards the management key was shown, unless the administrators have it alone.
fn set_management_key(
    card: &mut PivCard<'_>,
    key: ManagementKeyMetadata,
    escrow: Option<&Escrow>,
) -> Result<bool, InitError> {
    if !key.default {
        return match (kept_key::show(card), escrow) {
            (Err(CardError::UnknownManagementKey), Some(escrow))
                if escrow.has(Content::ManagementKey, serial(card)?)? =>
            {
                Ok(false)
            }
            (shown, _) => shown.map(|()| false).map_err(InitError::from),
        };
    }
    if kept_key::place_is_taken(card)? {
        return Err(InitError::PlaceTaken(ObjectId::PRINTED));
    }
    let old = ManagementKey::factory_default(key.algorithm);
    card.authenticate(&old.ok_or(CardError::UnknownManagementKey)?)?;
    let new = ManagementKey::generate(best_algorithm(card))?;
    // Kept before it is in force: a card that is pulled in between has the old key, which is known.
    if let Some(escrow) = escrow {
        escrow.put(Content::ManagementKey, serial(card)?, &new.to_hex())?;
    }
    kept_key::write(card, &new)?;
    card.set_management_key(&new)?;
    card.authenticate(&new)?;
    Ok(true)
}

fn set_puk(
    card: &mut PivCard<'_>,
    wanted: &WantedPuk,
    puk: PinMetadata,
) -> Result<bool, InitError> {
    if puk.left == 0 {
        return Err(CardError::PukLocked.into());
    }
    // One that was set before is not tried: that would cost a try if it is another.
    if !puk.default {
        return Ok(false);
    }
    let new = match wanted {
        WantedPuk::Escrowed(escrow) => {
            let new = code()?;
            escrow.put(Content::Puk, serial(card)?, &new)?;
            Puk::new(&new)?
        }
        WantedPuk::Given(new) => new.clone(),
        WantedPuk::Left => return Err(InitError::NoPuk),
    };
    card.change_puk(&Puk::factory_default(), &new)?;
    Ok(true)
}

/// By which the administrators know which card a secret is of.
fn serial(card: &PivCard<'_>) -> Result<u32, CardError> {
    let doing = "reading the serial number";
    card.serial().ok_or(CardError::NotSupported { doing, since: "5.3" })
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
