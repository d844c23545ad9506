//! Takes a key and its certificate off a card.

use serde::Serialize;
use thiserror::Error;

use crate::{CardError, ContainerMap, Credentials, HolderId, KeyKind, ObjectId, PivCard, Slot};

/// What became of a slot.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub struct Wiped {
    /// Whether there was a certificate.
    pub certificate: bool,
    /// What became of the key.
    pub key: KeyFate,
}

/// What became of a key.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyFate {
    /// It is gone, and the slot is empty.
    Deleted,
    /// There was none.
    None,
    /// It is gone: another one, which nobody certified, is in its place, since cards before firmware
    /// 5.7 delete no keys.
    Replaced,
}

/// A slot is not wiped.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WipeError {
    /// The card did not do what it was asked.
    #[error(transparent)]
    Card(#[from] CardError),
    /// The key of attestations cannot be had again.
    #[error("slot {0} has the key of the card's attestations, which nobody can give it again")]
    Attestation(Slot),
    /// Windows would find what is gone by what it wrote down on the card.
    #[error("the card has a container map that cannot be read: {0}")]
    ContainerMap(String),
    /// The card still has afterwards what was taken off.
    #[error("the card still has the {0} that was taken off")]
    StillThere(&'static str),
}

/// Takes key and certificate off, and has Windows look at the card anew. Doing the same again
/// finishes what was interrupted.
///
/// # Errors
///
/// [`WipeError`].
pub fn wipe(
    card: &mut PivCard<'_>,
    slot: Slot,
    credentials: &Credentials,
) -> Result<Wiped, WipeError> {
    // 1. What can be wrong is found before anything is changed.
    if slot == Slot::Attestation {
        return Err(WipeError::Attestation(slot));
    }
    let map = card
        .object(ObjectId::CONTAINER_MAP)?
        .map(|value| ContainerMap::without_slot(&value, slot))
        .transpose()
        .map_err(|error| WipeError::ContainerMap(error.to_string()))?;
    let certificate = card.object(slot.certificate())?.is_some();
    let key = card.key_metadata(slot)?.is_some();
    credentials.show(card)?;
    // 2. The key first: a certificate without its key is of no use to anybody.
    let key = match key {
        false => KeyFate::None,
        true if card.can_delete_keys() => {
            card.delete_key(slot)?;
            KeyFate::Deleted
        }
        true => {
            card.generate(slot, KeyKind::EcP256)?;
            KeyFate::Replaced
        }
    };
    card.write_object(slot.certificate(), &[])?;
    // 3. What Windows knows the card by: last, so that it reads what is whole.
    if let Some(map) = map {
        card.write_object(ObjectId::CONTAINER_MAP, &map)?;
    }
    card.write_object(ObjectId::HOLDER_ID, &HolderId::generate()?)?;
    // 4. The card is asked, not the memory of what was sent.
    if card.object(slot.certificate())?.is_some() {
        return Err(WipeError::StillThere("certificate"));
    }
    if key == KeyFate::Deleted && card.key_metadata(slot)?.is_some() {
        return Err(WipeError::StillThere("key"));
    }
    Ok(Wiped { certificate, key })
}
