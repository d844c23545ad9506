//! The names that Windows gave to keys: Yubico's minidriver keeps them on the card.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use serde::Serialize;

use crate::{
    Malformed, Slot,
    tlv::{element, only},
};

/// The object MSCMAP (Yubico's `ykpiv.h`): records of 107 bytes.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct ContainerMap {
    /// In their order.
    pub containers: Vec<Container>,
}

/// A key as Windows knows it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Container {
    /// The name.
    pub name: String,
    /// The number of the slot, in hexadecimal.
    pub slot: String,
    /// The length of the key.
    pub key_bits: u16,
    /// Whether it is the one that is taken when none is named.
    pub default: bool,
    /// SHA-1 of the certificate for it, in hexadecimal.
    pub certificate: String,
}

impl ContainerMap {
    /// Reads the object's value.
    ///
    /// # Errors
    ///
    /// It is not whole records.
    pub fn read(value: &[u8]) -> Result<Self, Malformed> {
        let (records, rest) = only(value, RECORDS)?.as_chunks::<RECORD_LENGTH>();
        if !rest.is_empty() {
            return Err(Malformed::new(format!(
                "{} bytes are left over after {} records of {RECORD_LENGTH}",
                rest.len(),
                records.len()
            )));
        }
        Ok(Self { containers: records.iter().map(Container::read).collect() })
    }

    /// The object's value with another certificate for the key in a slot: that of its record alone
    /// is replaced.
    pub(crate) fn with_certificate(
        value: &[u8],
        slot: Slot,
        certificate: &[u8],
    ) -> Result<Vec<u8>, Malformed> {
        Self::read(value)?;
        let mut records = only(value, RECORDS)?.to_vec();
        let (whole, _) = records.as_chunks_mut::<RECORD_LENGTH>();
        let record = whole
            .iter_mut()
            .find(|record| record[SLOT_AT] == slot.number())
            .ok_or_else(|| Malformed::new("it has no record of the slot"))?;
        let fingerprint = digest(&SHA1_FOR_LEGACY_USE_ONLY, certificate);
        record[FINGERPRINT_AT..].copy_from_slice(fingerprint.as_ref());
        Ok(element(RECORDS, &records))
    }

    /// The object's value without the records of a slot; nothing at all when none is left.
    pub(crate) fn without_slot(value: &[u8], slot: Slot) -> Result<Vec<u8>, Malformed> {
        Self::read(value)?;
        let (whole, _) = only(value, RECORDS)?.as_chunks::<RECORD_LENGTH>();
        let left: Vec<_> = whole.iter().filter(|it| it[SLOT_AT] != slot.number()).collect();
        let records: Vec<u8> = left.into_iter().flatten().copied().collect();
        Ok(if records.is_empty() { Vec::new() } else { element(RECORDS, &records) })
    }
}

impl Container {
    fn read(record: &[u8; RECORD_LENGTH]) -> Self {
        let (name, rest) = record.split_at(NAME_LENGTH);
        let units = name.chunks_exact(2).map(|unit| u16::from_le_bytes([unit[0], unit[1]]));
        let units: Vec<u16> = units.take_while(|unit| *unit != 0).collect();
        Self {
            name: String::from_utf16_lossy(&units),
            slot: hex::encode(&rest[..1]),
            // After the slot, whether it is for exchange or signature.
            key_bits: u16::from_le_bytes([rest[2], rest[3]]),
            default: rest[4] & DEFAULT != 0,
            certificate: hex::encode(&rest[7..]),
        }
    }
}

const RECORDS: u8 = 0x81;
const RECORD_LENGTH: usize = 107;
const NAME_LENGTH: usize = 80;
const SLOT_AT: usize = 80;
const FINGERPRINT_AT: usize = 87;
const DEFAULT: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_and_half_ones_are_not() {
        let mut record = vec![0; 80];
        record[..6].copy_from_slice(b"k\0e\0y\0");
        record.extend([0x9a, 1, 0x00, 0x08, 3, 0, 0]);
        record.extend([0xab; 20]);
        let map = ContainerMap::read(&element(0x81, &record)).unwrap();
        let expected = Container {
            name: "key".to_owned(),
            slot: "9a".to_owned(),
            key_bits: 2048,
            default: true,
            certificate: "ab".repeat(20),
        };
        assert_eq!(map.containers, [expected]);
        let (value, slot) = (element(0x81, &record), Slot::Authentication);
        let mended = ContainerMap::with_certificate(&value, slot, b"abc").unwrap();
        let mended = ContainerMap::read(&mended).unwrap().containers.remove(0);
        // FIPS 180, the first example.
        assert_eq!(mended.certificate, "a9993e364706816aba3e25717850c26c9cd0d89d");
        assert!(ContainerMap::with_certificate(&value, Slot::Signature, b"abc").is_err());
        assert_eq!(ContainerMap::without_slot(&value, Slot::Signature).unwrap(), value);
        assert!(ContainerMap::without_slot(&value, slot).unwrap().is_empty());
        assert!(ContainerMap::read(&element(0x81, &record[..100])).is_err());
        assert!(ContainerMap::read(&[]).is_err());
    }
}
