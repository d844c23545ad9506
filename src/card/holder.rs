//! The two objects that a card must have for Windows: who holds it, and what it can.

use serde::Serialize;

use crate::{
    CardError, Malformed,
    management_key::random,
    tlv::{Elements, element},
};

/// The Card Holder Unique Identifier (SP 800-73-4 part 1, table 9). Windows knows cards by its GUID
/// and remembers what it read, so that the GUID changes whenever a certificate does.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct HolderId {
    /// 32 hexadecimal digits.
    pub guid: String,
    /// Until when the card may be used, as YYYYMMDD.
    pub expires: String,
}

/// The Card Capability Container (SP 800-73-4 part 1, table 8).
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Capabilities {
    /// Application, type and number of the card, in hexadecimal.
    pub card_id: String,
}

impl HolderId {
    /// Reads the object's value.
    ///
    /// # Errors
    ///
    /// An element that must be there is not, or is of another length.
    pub fn read(value: &[u8]) -> Result<Self, Malformed> {
        let elements = Elements::read(value)?;
        let expires = elements.need_array::<8>(EXPIRES)?;
        if !expires.iter().all(u8::is_ascii_digit) {
            return Err(Malformed::new("the expiration date is not eight digits"));
        }
        Ok(Self {
            guid: hex::encode(elements.need_array::<16>(GUID)?),
            expires: String::from_utf8_lossy(&expires).into_owned(),
        })
    }

    /// A new one's value: for nobody of the federal government, with a GUID by chance.
    pub(crate) fn generate() -> Result<Vec<u8>, CardError> {
        let guid = random_guid()?;
        Ok([
            element(FASC_N, NOBODY),
            element(GUID, &guid),
            element(EXPIRES, NEVER),
            element(SIGNATURE, &[]),
            element(ERROR_DETECTION, &[]),
        ]
        .concat())
    }
}

impl Capabilities {
    /// Reads the object's value.
    ///
    /// # Errors
    ///
    /// It names no card.
    pub fn read(value: &[u8]) -> Result<Self, Malformed> {
        let card_id = Elements::read(value)?.need_array::<21>(CARD_ID)?;
        Ok(Self { card_id: hex::encode(card_id) })
    }

    /// A new one's value, with a card number by chance.
    pub(crate) fn generate() -> Result<Vec<u8>, CardError> {
        let number = random(14)?;
        let card_id = [GSC_RID, &[MANUFACTURER, JAVA_CARD], &number].concat();
        let mut value = element(CARD_ID, &card_id);
        // Versions of the containers and grammars, no applications, the PIV data model.
        value.extend([element(0xf1, &[0x21]), element(0xf2, &[0x21])].concat());
        value.extend([element(0xf3, &[]), element(0xf4, &[0]), element(0xf5, &[0x10])].concat());
        for empty in [0xf6, 0xf7, 0xfa, 0xfb, 0xfc, 0xfd, ERROR_DETECTION] {
            value.extend(element(empty, &[]));
        }
        Ok(value)
    }
}

/// RFC 9562 section 5.4, as SP 800-73-4 part 1 section 3.4.1 has it.
fn random_guid() -> Result<[u8; 16], CardError> {
    let mut guid = [0; 16];
    guid.copy_from_slice(&random(16)?);
    guid[6] = guid[6] & 0x0f | 0x40;
    guid[8] = guid[8] & 0x3f | 0x80;
    Ok(guid)
}

const FASC_N: u8 = 0x30;
const GUID: u8 = 0x34;
const EXPIRES: u8 = 0x35;
const SIGNATURE: u8 = 0x3e;
const ERROR_DETECTION: u8 = 0xfe;
const CARD_ID: u8 = 0xf0;
/// The number of nobody: agency 9999, system 9999, credential 999999 and so on, as the identities
/// outside of the federal government have it (SP 800-73-4 part 1, section 3.1.2).
const NOBODY: &[u8] =
    b"\xd4\xe7\x39\xda\x73\x9c\xed\x39\xce\x73\x9d\x83\x68\x58\x21\x08\x42\x10\x84\x21\xc8\x42\x10\xc3\xeb";
/// Certificates end, not cards.
const NEVER: &[u8] = b"20991231";
const GSC_RID: &[u8] = b"\xa0\x00\x00\x01\x16";
const MANUFACTURER: u8 = 0xff;
const JAVA_CARD: u8 = 0x02;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_is_read_and_never_twice_the_same() {
        let made = HolderId::generate().unwrap();
        assert_eq!(made.len(), 0x3b);
        let read = HolderId::read(&made).unwrap();
        assert_ne!(read, HolderId::read(&HolderId::generate().unwrap()).unwrap());
        assert_eq!(read.expires, "20991231");
        let made = Capabilities::generate().unwrap();
        assert_eq!(made.len(), 0x33);
        assert!(Capabilities::read(&made).unwrap().card_id.starts_with("a000000116ff02"));
    }

    #[test]
    fn what_is_cut_anywhere_is_malformed_and_nothing_worse() {
        let (holder, card) = (HolderId::generate().unwrap(), Capabilities::generate().unwrap());
        for length in 0..20 {
            assert!(HolderId::read(&holder[..length]).is_err());
            assert!(Capabilities::read(&card[..length]).is_err());
        }
    }
}
