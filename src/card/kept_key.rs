//! The management key where Yubico's programs keep it too: on the card, behind its PIN.

use zeroize::Zeroizing;

use crate::{
    CardError, ManagementKey, ObjectId, PivCard,
    tlv::{Elements, element, only},
};

/// Shows the card the key that it keeps itself. The PIN must have been shown.
pub(crate) fn show(card: &mut PivCard<'_>) -> Result<(), CardError> {
    let doing = "reading the management key that is kept on the card";
    let algorithm = card.management_key_metadata()?.algorithm;
    let object = card.object(ObjectId::PRINTED)?.ok_or(CardError::UnknownManagementKey)?;
    let key = only(&object, PROTECTED)
        .and_then(Elements::read)
        .and_then(|elements| elements.need(KEY))
        .map_err(|source| CardError::Answer { doing, source })?;
    // A key of another length was never put in force.
    let key = ManagementKey::new(algorithm, key).ok_or(CardError::UnknownManagementKey)?;
    card.authenticate(&key)
}

/// Whether something else is where the key would be kept. The PIN must have been shown.
pub(crate) fn place_is_taken(card: &PivCard<'_>) -> Result<bool, CardError> {
    Ok(card.object(ObjectId::PRINTED)?.is_some_and(|object| only(&object, PROTECTED).is_err()))
}

/// As ykman keeps it, so that ykman finds it. The old key must have been shown.
pub(crate) fn write(card: &mut PivCard<'_>, key: &ManagementKey) -> Result<(), CardError> {
    let key = Zeroizing::new(element(KEY, key.bytes()));
    card.write_object(ObjectId::PRINTED, &Zeroizing::new(element(PROTECTED, &key)))?;
    let administration = element(ADMINISTRATION, &element(FLAGS, &[KEY_IS_PROTECTED]));
    card.write_object(ObjectId::ADMINISTRATION, &administration)
}

/// In the printed information (5FC109).
const PROTECTED: u8 = 0x88;
const KEY: u8 = 0x89;
/// In Yubico's administrative data (5FFF00).
const ADMINISTRATION: u8 = 0x80;
const FLAGS: u8 = 0x81;
const KEY_IS_PROTECTED: u8 = 0x02;
