//! The management key where Yubico's programs keep it too: on the card, behind its PIN.

use zeroize::Zeroizing;

use crate::{
    CardError, Malformed, ManagementKey, ObjectId, PivCard,
    tlv::{Elements, element, only, take},
};

/// Shows the card the key that it keeps itself. The PIN must have been shown.
pub(crate) fn show(card: &mut PivCard<'_>) -> Result<(), CardError> {
    let key = read(card)?.ok_or(CardError::UnknownManagementKey)?;
    card.authenticate(&key)
}

/// The key that the card keeps itself, if it does. The PIN must have been shown.
pub(crate) fn read(card: &PivCard<'_>) -> Result<Option<ManagementKey>, CardError> {
    let doing = "reading the management key that is kept on the card";
    let algorithm = card.management_key_metadata()?.algorithm;
    let Some(object) = card.object(ObjectId::PRINTED)? else { return Ok(None) };
    let key = only(&object, PROTECTED)
        .and_then(Elements::read)
        .and_then(|elements| elements.need(KEY))
        .map_err(|source| CardError::Answer { doing, source })?;
    // A key of another length was never put in force.
    Ok(ManagementKey::new(algorithm, key))
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

/// Has the card keep its key no longer. The key must have been shown.
pub(crate) fn remove(card: &mut PivCard<'_>) -> Result<(), CardError> {
    // The key goes last: as long as it is there, a card that was pulled can be gone on with.
    if let Some(object) = card.object(ObjectId::ADMINISTRATION)? {
        let doing = "reading how the card is administered";
        let without = unprotected(&object).map_err(|source| CardError::Answer { doing, source })?;
        card.write_object(ObjectId::ADMINISTRATION, &without)?;
    }
    card.write_object(ObjectId::PRINTED, &[])
}

/// Yubico's administrative data without the flag that says that the key is kept; empty, if nothing
/// else is said.
fn unprotected(object: &[u8]) -> Result<Vec<u8>, Malformed> {
    let mut rest = only(object, ADMINISTRATION)?;
    let mut data = Vec::new();
    while !rest.is_empty() {
        let (tag, value, more) = take(rest)?;
        match (tag, value) {
            (FLAGS, [flags]) if flags & !KEY_IS_PROTECTED == 0 => {}
            (FLAGS, [flags]) => data.extend(element(FLAGS, &[flags & !KEY_IS_PROTECTED])),
            _ => data.extend(element(tag, value)),
        }
        rest = more;
    }
    Ok(if data.is_empty() { data } else { element(ADMINISTRATION, &data) })
}

/// In the printed information (5FC109).
const PROTECTED: u8 = 0x88;
const KEY: u8 = 0x89;
/// In Yubico's administrative data (5FFF00).
const ADMINISTRATION: u8 = 0x80;
const FLAGS: u8 = 0x81;
const KEY_IS_PROTECTED: u8 = 0x02;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_else_the_card_says_of_its_administration_stays() {
        let only_flag = element(ADMINISTRATION, &[FLAGS, 1, KEY_IS_PROTECTED]);
        assert_eq!(unprotected(&only_flag).unwrap(), b"");
        // The PUK is blocked, and there is a time of the last change.
        let more = [0x80, 9, FLAGS, 1, 0x03, 0x83, 4, 1, 2, 3, 4];
        let left = [0x80, 9, FLAGS, 1, 0x01, 0x83, 4, 1, 2, 3, 4];
        assert_eq!(unprotected(&more).unwrap(), left);
        assert!(unprotected(&more[..10]).is_err());
    }
}
