//! What a YubiKey tells of its PINs and keys (GET METADATA, since firmware 5.3).

use pki::{
    keys::{KeyAlgorithm, KeyError, PublicKey},
    x509::attestation::{PinPolicy, TouchPolicy},
};
use serde::Serialize;

use crate::{
    Malformed, ManagementKeyAlgorithm,
    tlv::{Elements, only},
};

/// Of the PIN or the PUK.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub struct PinMetadata {
    /// Whether it is the one that YubiKeys come with.
    pub default: bool,
    /// How often it may be wrong, in all.
    pub tries: u8,
    /// How often it may still be wrong.
    pub left: u8,
}

/// Of the management key.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub struct ManagementKeyMetadata {
    /// Its algorithm.
    pub algorithm: ManagementKeyAlgorithm,
    /// Whether it is the one that YubiKeys come with.
    pub default: bool,
}

/// Of a key in a slot.
#[derive(Clone, Debug)]
pub struct KeyMetadata {
    /// When the PIN is asked for.
    pub pin_policy: PinPolicy,
    /// When the card must be touched.
    pub touch_policy: TouchPolicy,
    /// Whether the card made the key itself.
    pub generated: bool,
    /// The public key, or why it cannot be certified here.
    pub public_key: Result<PublicKey, KeyError>,
}

impl PinMetadata {
    pub(crate) fn read(answer: &[u8]) -> Result<Self, Malformed> {
        let elements = Elements::read(answer)?;
        let [tries, left] = elements.need_array(TRIES)?;
        Ok(Self { default: is_default(&elements)?, tries, left })
    }
}

impl ManagementKeyMetadata {
    pub(crate) fn read(answer: &[u8]) -> Result<Self, Malformed> {
        let elements = Elements::read(answer)?;
        let [number] = elements.need_array(ALGORITHM)?;
        let algorithm = ManagementKeyAlgorithm::from_number(number)
            .ok_or_else(|| Malformed::new(format!("unknown management key {number:02x}")))?;
        Ok(Self { algorithm, default: is_default(&elements)? })
    }
}

impl KeyMetadata {
    pub(crate) fn read(answer: &[u8]) -> Result<Self, Malformed> {
        let elements = Elements::read(answer)?;
        let [algorithm] = elements.need_array(ALGORITHM)?;
        let [pin, touch] = elements.need_array(POLICIES)?;
        let [origin] = elements.need_array(ORIGIN)?;
        Ok(Self {
            pin_policy: PinPolicy::from_byte(pin)
                .ok_or_else(|| Malformed::new(format!("unknown PIN policy {pin}")))?,
            touch_policy: TouchPolicy::from_byte(touch)
                .ok_or_else(|| Malformed::new(format!("unknown touch policy {touch}")))?,
            generated: origin == GENERATED,
            public_key: read_public_key(algorithm, elements.need(PUBLIC_KEY)?)?,
        })
    }
}

/// The numbers of a public key, as GENERATE and GET METADATA have them.
pub(crate) fn read_public_key(
    algorithm: u8,
    numbers: &[u8],
) -> Result<Result<PublicKey, KeyError>, Malformed> {
    let point = || only(numbers, POINT);
    Ok(match algorithm {
        0x11 => PublicKey::from_point(KeyAlgorithm::EcP256, point()?),
        0x14 => PublicKey::from_point(KeyAlgorithm::EcP384, point()?),
        0xe0 => PublicKey::from_point(KeyAlgorithm::Ed25519, point()?),
        0x05..=0x07 | 0x16 => {
            let elements = Elements::read(numbers)?;
            PublicKey::from_rsa(elements.need(MODULUS)?, elements.need(EXPONENT)?)
        }
        other => Err(KeyError::Unsupported(format!("a key of algorithm {other:02x}"))),
    })
}

fn is_default(elements: &Elements) -> Result<bool, Malformed> {
    Ok(elements.need_array(DEFAULT)? != [0])
}

const ALGORITHM: u8 = 0x01;
const POLICIES: u8 = 0x02;
const ORIGIN: u8 = 0x03;
const PUBLIC_KEY: u8 = 0x04;
const DEFAULT: u8 = 0x05;
const TRIES: u8 = 0x06;
const GENERATED: u8 = 1;
const MODULUS: u8 = 0x81;
const EXPONENT: u8 = 0x82;
const POINT: u8 = 0x86;
