//! What roles demand of cards, by what the cards say of themselves.

use std::{borrow::Cow, collections::BTreeSet};

use jiff::Timestamp;
use pki::{
    keys::PublicKey,
    x509::{
        attestation::{
            Anchors, Attestation, AttestationError, Claim, Firmware, PinPolicy, Slot, TouchPolicy,
        },
        csr::Excess,
    },
};
use serde::Deserialize;
use thiserror::Error;

use super::{Role, rules::SmartcardRule};

/// Whether the cards of a role must attest their keys.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum Demand {
    /// They need not; an attestation that is sent must be good all the same.
    Optional,
    /// They must.
    #[default]
    Required,
}

/// Why a card is refused.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[expect(missing_docs, reason = "each variant's message says what it is and names its fields")]
pub enum CardDenial {
    #[error(transparent)]
    Attestation(#[from] AttestationError),
    #[error("the card {serial} was removed from the registry: it may be in strange hands")]
    Blocked { serial: u32 },
    #[error("the certificate signing request is for more than a logon: {0}")]
    Excess(Excess),
    #[error("role {role:?} wants firmware {least} or later, and the card has {firmware}")]
    FirmwareTooOld { role: String, firmware: Firmware, least: Firmware },
    #[error("the card {serial} is somebody else's")]
    Held { serial: u32 },
    #[error(
        "role {role:?} is for cards that attest their keys, and the request has no attestation"
    )]
    NeedsAttestation { role: String },
    #[error("no maker of cards is trusted here, so that no attestation can be verified")]
    NoMakers,
    #[error("role {role:?} does not allow keys for which the PIN is asked: {policy}")]
    PinPolicy { role: String, policy: PinPolicy },
    #[error("role {role:?} does not allow keys in slot {slot}")]
    Slot { role: String, slot: Slot },
    #[error("role {role:?} does not allow keys for which the card is touched: {policy}")]
    TouchPolicy { role: String, policy: TouchPolicy },
}

impl CardDenial {
    /// The stable word for programs and the audit log.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Attestation(error) => error.reason(),
            Self::Blocked { .. } => "card-blocked",
            Self::Excess(excess) => excess.reason(),
            Self::FirmwareTooOld { .. } => "firmware-too-old",
            Self::Held { .. } => "card-held",
            Self::NeedsAttestation { .. } => "attestation-needed",
            Self::NoMakers => "no-card-makers",
            Self::PinPolicy { .. } => "pin-policy-not-allowed",
            Self::Slot { .. } => "slot-not-allowed",
            Self::TouchPolicy { .. } => "touch-policy-not-allowed",
        }
    }

    /// What the one who asked can do about it.
    pub fn hint(&self) -> Cow<'static, str> {
        match self {
            Self::Attestation(error) => hint(error).into(),
            Self::Blocked { serial } => format!(
                "if it was found and wiped, an operator takes it up again: chancery card release \
                 {serial}"
            )
            .into(),
            Self::Excess(_) => {
                "ask for the key alone, as chancery-card request does: the names are the appliance's \
                 to decide"
                    .into()
            }
            Self::FirmwareTooOld { .. } => "take a newer card: firmware cannot be replaced".into(),
            Self::Held { serial } => format!(
                "once it was wiped, an operator takes it from its holder: chancery card release \
                 {serial}"
            )
            .into(),
            Self::NeedsAttestation { .. } => {
                "have the card attest its key: chancery-card request --attestation FILE, then \
                 chancery request smartcard --attestation FILE"
                    .into()
            }
            Self::NoMakers => {
                "leave the attestation out, or have an operator name the makers in [attestation]"
                    .into()
            }
            Self::PinPolicy { .. } | Self::Slot { .. } | Self::TouchPolicy { .. } => {
                "make another key on the card as the role wants it, or ask an operator to widen the \
                 role"
                    .into()
            }
        }
    }
}

/// What can be done about an attestation that is refused.
pub(super) fn hint(error: &AttestationError) -> &'static str {
    use AttestationError as Error;
    match error {
        Error::Counterfeit { .. }
        | Error::Forged
        | Error::NotAuthority
        | Error::PathLength { .. }
        | Error::UnknownMaker { .. } => {
            "take a card of a maker that is trusted here, with the attestation key that it came with"
        }
        Error::Expired { .. } | Error::NotYetValid { .. } => {
            "an operator compares the makers' certificates in [attestation] with those that they \
             publish"
        }
        Error::Extension { .. } | Error::Malformed { .. } | Error::Slot { .. } => {
            "send what the card says, as it is: chancery-card request --attestation FILE"
        }
        Error::OtherKey => {
            "have request and attestation made together: chancery-card request --attestation FILE"
        }
        Error::Weak(_) => "take another card: this one can be copied",
    }
}

/// Decides on the card of a request: what it says is verified, and is what the role wants. Nothing
/// where nothing is said and nothing is wanted.
pub(super) fn decide_card(
    role: &Role,
    rule: &SmartcardRule,
    claim: Option<Claim>,
    key: &PublicKey,
    makers: &Anchors,
    now: Timestamp,
) -> Result<Option<Attestation>, CardDenial> {
    let role = || role.name.clone();
    let Some(claim) = claim else {
        return match rule.attestation {
            Demand::Optional => Ok(None),
            Demand::Required => Err(CardDenial::NeedsAttestation { role: role() }),
        };
    };
    if makers.is_empty() {
        return Err(CardDenial::NoMakers);
    }
    let card = claim.verify(makers, key, now)?;
    if !rule.slots.contains(&card.slot) {
        return Err(CardDenial::Slot { role: role(), slot: card.slot });
    }
    if !rule.pin_policies.contains(&card.pin_policy) {
        return Err(CardDenial::PinPolicy { role: role(), policy: card.pin_policy });
    }
    if !rule.touch_policies.contains(&card.touch_policy) {
        return Err(CardDenial::TouchPolicy { role: role(), policy: card.touch_policy });
    }
    match rule.min_firmware {
        Some(least) if card.firmware < least => {
            Err(CardDenial::FirmwareTooOld { role: role(), firmware: card.firmware, least })
        }
        _ => Ok(Some(card)),
    }
}

impl SmartcardRule {
    /// Cards that nobody could make are a mistake of the writer.
    pub(super) fn check_cards(&self) -> Result<(), String> {
        let empty = [
            ("slots", self.slots.is_empty()),
            ("pin_policies", self.pin_policies.is_empty()),
            ("touch_policies", self.touch_policies.is_empty()),
        ];
        match empty.into_iter().find(|(_, empty)| *empty) {
            Some((key, _)) => Err(format!("`{key}` is empty, so that no card would do")),
            None => Ok(()),
        }
    }
}

/// Windows logs on with the key in 9A.
pub(super) fn usual_slots() -> BTreeSet<Slot> {
    [Slot::AUTHENTICATION].into()
}

/// Nobody who finds a card is to log on with it.
pub(super) fn usual_pin_policies() -> BTreeSet<PinPolicy> {
    [PinPolicy::Always, PinPolicy::Once].into()
}

pub(super) fn all_touch_policies() -> BTreeSet<TouchPolicy> {
    [TouchPolicy::Always, TouchPolicy::Cached, TouchPolicy::Never].into()
}

#[cfg(test)]
mod tests;
