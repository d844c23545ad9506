//! Smart cards: which have attested a key, and whose they are.

use jiff::Timestamp;
use pki::{
    names::Upn,
    x509::attestation::{Firmware, PinPolicy, Slot, TouchPolicy},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::CardAttestation;

/// What a card has said of the key of a certificate, and was verified.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct CardKey {
    /// The card's serial number.
    pub card: u32,
    /// Where the key is, as `9a`.
    #[schema(value_type = String)]
    pub slot: Slot,
    /// The card's firmware, as `5.7.1`.
    #[schema(value_type = String)]
    pub firmware: Firmware,
    /// When the card asks for the PIN.
    #[schema(value_type = String)]
    pub pin_policy: PinPolicy,
    /// When the card must be touched.
    #[schema(value_type = String)]
    pub touch_policy: TouchPolicy,
    /// What the card looks like, if it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub form_factor: Option<String>,
    /// SHA-256 of the SubjectPublicKeyInfo of the key that signed for it, hexadecimal.
    pub attestation_key: String,
}

/// How a card stands.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CardState {
    /// It is its holder's, and nobody else's.
    Held,
    /// It is nobody's: it is the next one's who has a certificate for it.
    Released,
    /// It is lost, or is not to be used any more: it gets no certificate.
    Removed,
}

/// A card that has attested a key.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct Card {
    /// Its serial number.
    pub serial: u32,
    /// How it stands.
    pub state: CardState,
    /// Whose it is, or was last.
    #[schema(value_type = String)]
    pub holder: Upn,
    /// Its firmware, as `5.7.1`.
    #[schema(value_type = String)]
    pub firmware: Firmware,
    /// What it looks like, if it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub form_factor: Option<String>,
    /// Since when it is, or was, the holder's.
    #[schema(value_type = String)]
    pub registered_at: Timestamp,
    /// Who asked for the holder's first certificate (SPIFFE id).
    pub registered_by: String,
    /// How many certificates there are for it that are valid and not revoked.
    pub certificates: u64,
    /// Who released or removed it, when, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken: Option<CardTaken>,
}

/// A card was taken from its holder.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct CardTaken {
    /// By whom (SPIFFE id).
    pub by: String,
    /// When.
    #[schema(value_type = String)]
    pub at: Timestamp,
    /// Why.
    pub reason: String,
}

/// Cards, by serial number.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct Cards {
    /// The cards.
    pub cards: Vec<Card>,
    /// `after` of the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u32>,
}

/// Which cards to list: those for which all that is given holds.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CardQuery {
    /// Of this account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub holder: Option<Upn>,
    /// That stand so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<CardState>,
    /// Only after this serial number: `next` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u32>,
    /// At most so many; 100 unless told, 1,000 at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// A card, and what was issued for it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct CardRecord {
    /// The card.
    pub card: Card,
    /// The last hundred certificates for it, the latest first.
    pub issued: Vec<CardCertificate>,
}

/// A certificate for a card's key.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct CardCertificate {
    /// The authority that signed it.
    pub issuer: String,
    /// Its serial number.
    pub serial: String,
    /// Its subject's distinguished name.
    pub subject: String,
    /// The key.
    pub key: CardKey,
    /// What the card has said of it, word for word; absent of what was issued before it was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attestation: Option<CardAttestation>,
    /// Last second of validity.
    #[schema(value_type = String)]
    pub not_after: Timestamp,
    /// When it was taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub revoked_at: Option<Timestamp>,
}

/// A card was released or removed, and its certificates are revoked.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct CardChanged {
    /// The card, as it stands now.
    pub card: Card,
    /// How many certificates were revoked.
    pub revoked: u64,
    /// The change whose effect can be asked for.
    pub change: u64,
}
