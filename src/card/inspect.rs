//! What is on a card, as far as it can be read without any secret.

use jiff::Timestamp;
use pki::{
    keys::KeyError,
    x509::{
        attestation::{PinPolicy, TouchPolicy},
        certificate::{Certificate, CertificateError},
    },
};
use serde::Serialize;

use crate::{
    Capabilities, CardError, CertificateObject, ContainerMap, HolderId, KeyMetadata, Malformed,
    ManagementKeyMetadata, ObjectId, PinMetadata, PivCard, Slot,
};

/// Everything that can be read.
#[derive(Clone, Debug, Serialize)]
pub struct Inspection {
    /// The firmware of a YubiKey.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Its serial number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serial: Option<u32>,
    /// How often the PIN may still be wrong.
    pub pin_tries_left: u8,
    /// What a YubiKey tells of the PIN, the PUK and the management key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secrets: Option<Secrets>,
    /// Who holds the card.
    pub holder: Content<HolderId>,
    /// What the card can.
    pub capabilities: Content<Capabilities>,
    /// What Windows calls the keys.
    pub container_map: Content<ContainerMap>,
    /// The slots in which there is something.
    pub slots: Vec<SlotInspection>,
}

/// What a YubiKey tells of its secrets.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Secrets {
    /// Of the PIN.
    pub pin: PinMetadata,
    /// Of the PUK.
    pub puk: PinMetadata,
    /// Of the management key.
    pub management_key: ManagementKeyMetadata,
}

/// What is in an object.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Content<T> {
    /// Nothing: there is no such object.
    Absent,
    /// What cannot be read, and why.
    Malformed(String),
    /// This.
    Present(T),
}

/// A key and a certificate.
#[derive(Clone, Debug, Serialize)]
pub struct SlotInspection {
    /// Which slot.
    pub slot: Slot,
    /// The key, if the card tells of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<KeyInspection>,
    /// The certificate.
    pub certificate: Content<CertificateInspection>,
}

/// A key.
#[derive(Clone, Debug, Serialize)]
pub struct KeyInspection {
    /// Its algorithm, or why it cannot be certified.
    pub algorithm: String,
    /// SHA-256 of its SubjectPublicKeyInfo, of a key that can be certified.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// Whether the card made it itself.
    pub generated: bool,
    /// When the PIN is asked for.
    pub pin_policy: PinPolicy,
    /// When the card must be touched.
    pub touch_policy: TouchPolicy,
}

/// A certificate.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CertificateInspection {
    /// It is compressed by gzip, of so many bytes. Not every program reads it.
    Compressed(usize),
    /// Its key cannot be certified here.
    Unsupported(String),
    /// What it says.
    #[serde(untagged)]
    Plain {
        /// Whose it is.
        subject: String,
        /// Who issued it.
        issuer: String,
        /// Its serial number, in hexadecimal.
        serial: String,
        /// From when on it is valid.
        not_before: Timestamp,
        /// Until when it is valid.
        not_after: Timestamp,
        /// Whether it is for the key in its slot, if the card tells of that.
        #[serde(skip_serializing_if = "Option::is_none")]
        matches_key: Option<bool>,
    },
}

/// Reads everything. Objects that are malformed are told of, and do not stop it.
///
/// # Errors
///
/// The card is gone, or refuses what every card answers.
pub fn inspect(card: &PivCard<'_>) -> Result<Inspection, CardError> {
    let mut slots = Vec::new();
    for slot in Slot::all() {
        slots.extend(inspect_slot(card, slot)?);
    }
    Ok(Inspection {
        version: card.version().map(|version| version.to_string()),
        serial: card.serial(),
        pin_tries_left: card.pin_tries_left()?,
        secrets: secrets(card)?,
        holder: content(card, ObjectId::HOLDER_ID, HolderId::read)?,
        capabilities: content(card, ObjectId::CAPABILITIES, Capabilities::read)?,
        container_map: content(card, ObjectId::CONTAINER_MAP, ContainerMap::read)?,
        slots,
    })
}

fn secrets(card: &PivCard<'_>) -> Result<Option<Secrets>, CardError> {
    Ok(Some(Secrets {
        pin: match told(card.pin_metadata())? {
            Some(pin) => pin,
            None => return Ok(None),
        },
        puk: card.puk_metadata()?,
        management_key: card.management_key_metadata()?,
    }))
}

/// Nothing of a card that does not tell.
fn told<T>(metadata: Result<T, CardError>) -> Result<Option<T>, CardError> {
    match metadata {
        Err(CardError::NotSupported { .. }) => Ok(None),
        metadata => metadata.map(Some),
    }
}

fn content<T>(
    card: &PivCard<'_>,
    id: ObjectId,
    read: impl FnOnce(&[u8]) -> Result<T, Malformed>,
) -> Result<Content<T>, CardError> {
    let value = match card.object(id) {
        Err(CardError::Answer { source, .. }) => return Ok(Content::Malformed(source.to_string())),
        value => value?,
    };
    Ok(match value.map(|value| read(&value)) {
        None => Content::Absent,
        Some(Ok(content)) => Content::Present(content),
        Some(Err(malformed)) => Content::Malformed(malformed.to_string()),
    })
}

/// `None` of a slot in which there is nothing.
fn inspect_slot(card: &PivCard<'_>, slot: Slot) -> Result<Option<SlotInspection>, CardError> {
    let key = told(card.key_metadata(slot))?.flatten();
    let public_key = key.as_ref().and_then(|key| key.public_key.as_ref().ok());
    let certificate = content(card, slot.certificate(), |value| {
        Ok(match CertificateObject::read(value)? {
            CertificateObject::Compressed(length) => CertificateInspection::Compressed(length),
            CertificateObject::Plain(der) => match Certificate::from_der(&der) {
                Ok(certificate) => {
                    plain(&certificate, public_key.map(|key| key == certificate.public_key()))
                }
                Err(CertificateError::Key(error)) => {
                    CertificateInspection::Unsupported(error.to_string())
                }
                Err(error) => return Err(Malformed::new(error.to_string())),
            },
        })
    })?;
    if key.is_none() && certificate == Content::Absent {
        return Ok(None);
    }
    Ok(Some(SlotInspection { slot, key: key.as_ref().map(KeyInspection::of), certificate }))
}

fn plain(certificate: &Certificate, matches_key: Option<bool>) -> CertificateInspection {
    CertificateInspection::Plain {
        subject: certificate.subject().to_owned(),
        issuer: certificate.issuer().to_owned(),
        serial: hex::encode(certificate.serial()),
        not_before: certificate.not_before(),
        not_after: certificate.not_after(),
        matches_key,
    }
}

impl KeyInspection {
    fn of(key: &KeyMetadata) -> Self {
        Self {
            algorithm: match &key.public_key {
                Ok(public_key) => public_key.algorithm().to_string(),
                Err(KeyError::Unsupported(what)) => what.clone(),
                Err(error) => error.to_string(),
            },
            fingerprint: key.public_key.as_ref().ok().map(|key| key.fingerprint()),
            generated: key.generated,
            pin_policy: key.pin_policy,
            touch_policy: key.touch_policy,
        }
    }
}
