//! A key and its certificate into a slot, in two halves: a request for a key that the card made,
//! and the certificate that was issued for it. Each may be done again after the card was pulled.

use pki::{
    keys::{KeyError, PublicKey},
    x509::{Certificate, certificate::CertificateError, csr::PreparedRequest},
};
use thiserror::Error;

use crate::{
    Capabilities, CardError, CertificateObject, ContainerMap, Credentials, HolderId, KeyKind,
    Malformed, ObjectId, PivCard, Slot,
};

/// A request for the key in a slot.
#[derive(Debug)]
pub struct Requested {
    /// Whether the key is new. One that the card had made before, and that has no certificate yet,
    /// is taken again.
    pub made: bool,
    /// Its kind.
    pub kind: KeyKind,
    /// The certificate signing request (PEM).
    pub request: String,
    /// The card's certificate that it made the key itself, then the one that it is under (DER).
    pub attestation: [Vec<u8>; 2],
}

/// No key, or no certificate, is put on the card.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EnrolmentError {
    /// The card did not do what it was asked.
    #[error(transparent)]
    Card(#[from] CardError),
    /// There is a certificate, or a key that is not as wanted.
    #[error("slot {slot} is in use: it has {what}")]
    InUse {
        /// The slot.
        slot: Slot,
        /// What is in it.
        what: &'static str,
    },
    /// The card signed or attested something else.
    #[error("the card's {0} is not of the key that it made")]
    OtherKey(&'static str),
    /// There is no key to be certified again.
    #[error("there is no key in slot {0}")]
    NoKey(Slot),
    /// The key was imported, or is of a kind that is not certified.
    #[error("the key in slot {0} is not one that the card made for logging on")]
    NotMadeHere(Slot),
    /// There is no key for the certificate.
    #[error("the certificate is not for the key in slot {0}")]
    NotForThisKey(Slot),
    /// The card's attestation cannot be read.
    #[error("the card's attestation is no certificate of a key")]
    Attestation(#[source] CertificateError),
    /// Windows would not find the key by what it wrote down on the card.
    #[error("the card has a container map that does not fit slot {slot}: {why}")]
    ContainerMap {
        /// The slot.
        slot: Slot,
        /// What is wrong with it.
        why: String,
    },
    /// The card does not have what was written.
    #[error("the card does not have the certificate that was written to it")]
    NotWritten,
}

/// Which key a request is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Wanted {
    /// A new one in a free slot, or the one that is there and that nobody certified yet.
    Free(KeyKind),
    /// A new one, whatever is in the slot: what is there is lost.
    New(KeyKind),
    /// The one that is there, and that the card made.
    Same,
}

/// Has the card make a key, unless it did before, and sign a request for it.
///
/// # Errors
///
/// [`EnrolmentError`].
pub fn request(
    card: &mut PivCard<'_>,
    slot: Slot,
    wanted: Wanted,
    credentials: &Credentials,
) -> Result<Requested, EnrolmentError> {
    let (kind, before) = match wanted {
        Wanted::Free(kind) => (kind, key_to_go_on_with(card, slot, kind)?),
        Wanted::New(kind) => (kind, None),
        Wanted::Same => {
            let (key, kind) = made_key(card, slot)?;
            (kind, Some(key))
        }
    };
    let made = before.is_none();
    card.verify_pin(&credentials.pin)?;
    let key = match before {
        Some(key) => key,
        None => {
            credentials.management_key.show(card)?;
            card.generate(slot, kind)?
        }
    };
    let attestation = attestation(card, slot, &key)?;
    let prepared = PreparedRequest::new(key);
    // Of 9C, the PIN must have been shown right before.
    card.verify_pin(&credentials.pin)?;
    let signature = card.sign(slot, kind, prepared.bytes())?;
    let request = prepared.seal(&signature).map_err(|_| EnrolmentError::OtherKey("signature"))?;
    Ok(Requested { made, kind, request, attestation })
}

/// Writes the certificate for the key in a slot, and has Windows look at the card anew.
///
/// # Errors
///
/// [`EnrolmentError`].
pub fn install(
    card: &mut PivCard<'_>,
    slot: Slot,
    certificate: &Certificate,
    credentials: &Credentials,
) -> Result<(), EnrolmentError> {
    // 1. All that can be wrong is found before anything is written.
    let key = card.key_metadata(slot)?.and_then(|key| key.public_key.ok());
    if key.as_ref() != Some(certificate.public_key()) {
        return Err(EnrolmentError::NotForThisKey(slot));
    }
    let certificate = certificate.der();
    let map = mended_map(card, slot, certificate)?;
    credentials.show(card)?;
    // 2. The certificate, and a look at what the card has of it.
    card.write_object(slot.certificate(), &CertificateObject::write(certificate))?;
    if read_certificate(card, slot)?.as_deref() != Some(certificate) {
        return Err(EnrolmentError::NotWritten);
    }
    // 3. What Windows knows the card by: last, so that it reads what is whole.
    if let Some(map) = map {
        card.write_object(ObjectId::CONTAINER_MAP, &map)?;
    }
    if card.object(ObjectId::CAPABILITIES)?.is_none() {
        card.write_object(ObjectId::CAPABILITIES, &Capabilities::generate()?)?;
    }
    card.write_object(ObjectId::HOLDER_ID, &HolderId::generate()?)?;
    Ok(())
}

/// What is in a slot.
#[derive(Clone, Debug)]
pub struct Content {
    /// The public key that the card tells of, and whether the card made it.
    pub key: Option<(Result<PublicKey, KeyError>, bool)>,
    /// The certificate (DER), as far as it can be read.
    pub certificate: Option<Vec<u8>>,
    /// Whether there is an object for a certificate, readable or not.
    occupied: bool,
}

impl Content {
    /// Looks into a slot; no secret is needed.
    ///
    /// # Errors
    ///
    /// The card is gone, or tells nothing of its keys.
    pub fn of(card: &PivCard<'_>, slot: Slot) -> Result<Self, CardError> {
        let occupied = card.object(slot.certificate())?.is_some();
        let certificate = match read_certificate(card, slot) {
            Err(CardError::Answer { .. }) => None,
            certificate => certificate?,
        };
        let key = card.key_metadata(slot)?.map(|key| (key.public_key, key.generated));
        Ok(Self { key, certificate, occupied })
    }

    /// Whether this is the key.
    pub fn has(&self, key: &PublicKey) -> bool {
        matches!(&self.key, Some((Ok(found), _)) if found == key)
    }

    /// Whether the certificate is of another key than the one that is there: what is left when the
    /// card was pulled between a new key and its certificate.
    fn is_half(&self) -> bool {
        let certificate = self.certificate.as_deref().map(Certificate::from_der);
        match (&self.key, certificate) {
            (Some((Ok(key), true)), Some(Ok(certificate))) => certificate.public_key() != key,
            _ => false,
        }
    }
}

/// The key of an enrolment that was interrupted.
fn key_to_go_on_with(
    card: &PivCard<'_>,
    slot: Slot,
    kind: KeyKind,
) -> Result<Option<PublicKey>, EnrolmentError> {
    let content = Content::of(card, slot)?;
    if content.occupied && !content.is_half() {
        return Err(EnrolmentError::InUse { slot, what: "a certificate" });
    }
    match content.key {
        None => Ok(None),
        Some((_, false)) => Err(EnrolmentError::InUse { slot, what: "an imported key" }),
        Some((Ok(key), true)) if key.algorithm() == kind.algorithm() => Ok(Some(key)),
        Some(_) => Err(EnrolmentError::InUse { slot, what: "a key of another kind" }),
    }
}

/// The key that the card made and can make a request for.
fn made_key(card: &PivCard<'_>, slot: Slot) -> Result<(PublicKey, KeyKind), EnrolmentError> {
    match Content::of(card, slot)?.key {
        None => Err(EnrolmentError::NoKey(slot)),
        Some((Ok(key), true)) => {
            let kind = KeyKind::of(key.algorithm());
            kind.map(|kind| (key, kind)).ok_or(EnrolmentError::NotMadeHere(slot))
        }
        Some(_) => Err(EnrolmentError::NotMadeHere(slot)),
    }
}

fn attestation(
    card: &PivCard<'_>,
    slot: Slot,
    key: &PublicKey,
) -> Result<[Vec<u8>; 2], EnrolmentError> {
    let doing = "reading the certificate of the attestation key";
    let attested = card.attest(slot)?;
    let read = Certificate::from_der(&attested).map_err(EnrolmentError::Attestation)?;
    if read.public_key() != key {
        return Err(EnrolmentError::OtherKey("attestation"));
    }
    let missing = || CardError::Answer { doing, source: Malformed::new("there is none") };
    Ok([attested, read_certificate(card, Slot::Attestation)?.ok_or_else(missing)?])
}

/// The certificate of a slot (DER), if it is there and not compressed; of any PIV card.
///
/// # Errors
///
/// The object is malformed, or the card is gone.
pub fn read_certificate(card: &PivCard<'_>, slot: Slot) -> Result<Option<Vec<u8>>, CardError> {
    let doing = "reading a certificate";
    let Some(value) = card.object(slot.certificate())? else { return Ok(None) };
    match CertificateObject::read(&value).map_err(|source| CardError::Answer { doing, source })? {
        CertificateObject::Plain(der) => Ok(Some(der)),
        CertificateObject::Compressed(_) => Ok(None),
    }
}

/// The container map with the new certificate in it, if the card has one.
fn mended_map(
    card: &PivCard<'_>,
    slot: Slot,
    certificate: &[u8],
) -> Result<Option<Vec<u8>>, EnrolmentError> {
    let Some(value) = card.object(ObjectId::CONTAINER_MAP)? else { return Ok(None) };
    ContainerMap::with_certificate(&value, slot, certificate)
        .map(Some)
        .map_err(|error| EnrolmentError::ContainerMap { slot, why: error.to_string() })
}
