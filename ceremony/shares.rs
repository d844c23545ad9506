//! Split knowledge: a secret that nobody has, and some of several custodians together give.
//!
//! ```text
//! 32 random bytes ──split──► n shares, one on paper for each custodian ──any k typed──► the same 32 bytes
//!        │                                                                                   │
//!        └──► commitment, in the transcript ◄──────────────── compared ──────────────────────┘
//! ```
//!
//! Shamir's scheme over GF(256), by `vsss-rs`. It alone cannot tell a wrong share from a right one, so
//! that everything that can be wrong has a check of its own: a line ([`text`]), a share, the set that
//! it is of, and the secret that shares give. [`ShareSet`] says all that may be known of a set; what
//! must not be known is in types that cannot be printed.

pub mod entropy;
pub mod page;
pub mod pin;
pub mod text;

#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, fmt, str::FromStr};

use pki::secret::Secret;
use thiserror::Error;
use vsss_rs::Gf256;
use zeroize::Zeroizing;

use crate::{digest::Digest, name::Name};
use entropy::Entropy;
use pin::PinForm;

/// The most shares that a set can have.
pub const MOST: u8 = 15;

/// What may be known of a set of shares: the transcript has it.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct ShareSet {
    /// What the set is, and how many of its shares it takes.
    pub terms: Terms,
    /// Who gets which share, from the first to the last.
    pub holders: Vec<Name>,
    /// `SHA-256("share-set\0" || terms || secret)`; the id in the terms is random, and so its salt.
    pub commitment: Digest,
    /// A digest of each share, in the same order.
    pub checks: Vec<Digest>,
}

/// What a set of shares is: each of its shares says so, too.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct Terms {
    /// The set's name.
    pub set: SetId,
    /// What the secret is for.
    pub purpose: Purpose,
    /// How many shares it takes.
    pub threshold: u8,
    /// How many shares there are.
    pub count: u8,
}

/// The name of a set of shares: 6 random bytes, as 12 hexadecimal digits.
#[derive(
    Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, serde::Deserialize, serde::Serialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct SetId([u8; 6]);

/// What a secret is for, and what is made of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// The PIN of a token's security officer.
    SoPin(PinForm),
    /// The PIN of a token's user.
    UserPin(PinForm),
    /// The key that backups of keys are wrapped under: all 32 bytes.
    WrappingKey,
}

/// A set that a ceremony handed out.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HandedOut {
    /// The set.
    pub set: ShareSet,
    /// How far its custodians are.
    pub state: State,
}

/// How far the custodians of a set are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum State {
    /// They have their shares.
    Given,
    /// They had them while the ceremony was interrupted, and have not read them back: nobody knows
    /// who saw them.
    Doubtful,
    /// Each has read theirs back.
    Verified,
}

/// 32 random bytes that are to be split, or that shares gave.
pub struct Whole(Zeroizing<[u8; 32]>);

/// A custodian's share.
#[derive(Clone)]
pub struct Share {
    /// What it is a share of.
    pub terms: Terms,
    /// Which one it is, from 1.
    pub index: u8,
    value: Zeroizing<[u8; 32]>,
    /// How the commitment begins: what the paper alone says of the secret.
    commitment: [u8; 4],
}

impl ShareSet {
    /// Splits a secret among these holders; any `threshold` of them give it.
    ///
    /// # Errors
    ///
    /// The numbers are none that can be: 2 to 15 holders, as many different ones, and a threshold
    /// from 2 to their number.
    pub fn split(
        secret: &Whole,
        purpose: Purpose,
        threshold: u8,
        holders: &[Name],
        entropy: &mut Entropy,
    ) -> Result<(Self, Vec<Share>), ShareError> {
        check_numbers(threshold, holders)?;
        let count = u8::try_from(holders.len()).map_err(|_| ShareError::Numbers)?;
        let set = SetId(entropy.bytes());
        let terms = Terms { set, purpose, threshold, count };
        let commitment = terms.commitment(secret);
        let [a, b, c, d, ..] = *commitment.as_bytes();
        let points = Gf256::split_bytes(threshold.into(), count.into(), &secret.0[..], entropy)
            .map_err(ShareError::Scheme)?;
        let mut shares = Vec::with_capacity(points.len());
        for point in points.into_iter().map(Zeroizing::new) {
            let (index, bytes) = point.split_first().ok_or(ShareError::Numbers)?;
            let mut value = Zeroizing::new([0; 32]);
            value.copy_from_slice(bytes);
            shares.push(Share { terms, index: *index, value, commitment: [a, b, c, d] });
        }
        let checks = shares.iter().map(Share::check).collect();
        Ok((Self { terms, holders: holders.to_vec(), commitment, checks }, shares))
    }

    /// Whether this could be the set that it says: as many holders and digests as shares.
    pub fn is_sound(&self) -> bool {
        check_numbers(self.terms.threshold, &self.holders).is_ok()
            && self.holders.len() == usize::from(self.terms.count)
            && self.checks.len() == self.holders.len()
            && self.terms.purpose.is_sound()
    }

    /// Who has this share.
    pub fn holder(&self, index: u8) -> Option<&Name> {
        usize::from(index).checked_sub(1).and_then(|at| self.holders.get(at))
    }

    /// Checks that a share is one of this set, as it was made.
    ///
    /// # Errors
    ///
    /// It is of another set, or was changed.
    pub fn check(&self, share: &Share) -> Result<(), ShareError> {
        share.is_of(self.terms)?;
        let made = usize::from(share.index).checked_sub(1).and_then(|at| self.checks.get(at));
        if made == Some(&share.check()) { Ok(()) } else { Err(ShareError::Corrupted(share.index)) }
    }

    /// The secret that these shares give, compared with the commitment.
    ///
    /// # Errors
    ///
    /// A share is not as it was made, or there twice; or they are too few.
    pub fn combine(&self, shares: &[Share]) -> Result<Whole, ShareError> {
        shares.iter().try_for_each(|share| self.check(share))?;
        let secret = combine(shares)?;
        if self.terms.commitment(&secret) == self.commitment {
            Ok(secret)
        } else {
            Err(ShareError::Combination)
        }
    }

    /// Combines every choice of `threshold` shares, and gives how many there are: each must give the
    /// secret. All shares must be there.
    ///
    /// # Errors
    ///
    /// As [`combine`](Self::combine); a share is missing.
    pub fn check_all(&self, shares: &[Share]) -> Result<u32, ShareError> {
        let there: BTreeSet<u8> = shares.iter().map(|share| share.index).collect();
        if let Some(index) = (1..=self.terms.count).find(|index| !there.contains(index)) {
            return Err(ShareError::Missing(index));
        }
        let mut combined = 0;
        // Fifteen holders at most: as many sets of holders as a number of 16 bits has values.
        for chosen in 0_u32..1 << shares.len() {
            if chosen.count_ones() != u32::from(self.terms.threshold) {
                continue;
            }
            let chosen = shares.iter().enumerate().filter(|(at, _)| chosen >> at & 1 == 1);
            let chosen: Vec<Share> = chosen.map(|(_, share)| share.clone()).collect();
            self.combine(&chosen)?;
            combined += 1;
        }
        Ok(combined)
    }
}

/// The secret that these shares give, by what is on paper alone.
///
/// # Errors
///
/// They are of several sets, one is there twice, they are too few, or they do not give the secret.
pub fn combine(shares: &[Share]) -> Result<Whole, ShareError> {
    let first = shares.first().ok_or(ShareError::TooFew { there: 0, wanted: 2 })?;
    let mut seen = BTreeSet::new();
    for share in shares {
        share.is_of(first.terms)?;
        if !seen.insert(share.index) {
            return Err(ShareError::Twice(share.index));
        }
    }
    let (there, wanted) = (shares.len(), first.terms.threshold);
    if there < usize::from(wanted) {
        return Err(ShareError::TooFew { there, wanted });
    }
    let points: Zeroizing<Vec<Vec<u8>>> = Zeroizing::new(shares.iter().map(Share::point).collect());
    let bytes = Gf256::combine_bytes(&*points).map_err(ShareError::Scheme)?;
    let bytes = Zeroizing::new(bytes);
    let mut secret = Whole(Zeroizing::new([0; 32]));
    secret.0.copy_from_slice(&bytes);
    let commitment = first.terms.commitment(&secret);
    if shares.iter().all(|share| commitment.as_bytes().starts_with(&share.commitment)) {
        Ok(secret)
    } else {
        Err(ShareError::Combination)
    }
}

impl Terms {
    fn commitment(&self, secret: &Whole) -> Digest {
        Digest::of("share-set", &[&self.header(0), &secret.0[..]])
    }

    /// The terms and an index as the ten bytes that a share begins with.
    fn header(&self, index: u8) -> [u8; 10] {
        let (purpose, form) = match self.purpose {
            Purpose::SoPin(form) => (1, Some(form)),
            Purpose::UserPin(form) => (2, Some(form)),
            Purpose::WrappingKey => (3, None),
        };
        let (alphabet, length) = form.map_or((0, 0), PinForm::code);
        let [a, b, c, d, e, f] = self.set.0;
        let numbers = [VERSION << 4 | self.threshold, self.count << 4 | index];
        [numbers[0], numbers[1], purpose << 4 | alphabet, length, a, b, c, d, e, f]
    }

    fn from_header(header: [u8; 10]) -> Option<(Self, u8)> {
        let [first, second, what, length, a, b, c, d, e, f] = header;
        let form = PinForm::from_code(what & 15, length);
        let purpose = match (what >> 4, form, what & 15, length) {
            (1, Some(form), ..) => Purpose::SoPin(form),
            (2, Some(form), ..) => Purpose::UserPin(form),
            (3, None, 0, 0) => Purpose::WrappingKey,
            _ => return None,
        };
        let (threshold, count, index) = (first & 15, second >> 4, second & 15);
        let sound = first >> 4 == VERSION
            && (2..=count).contains(&threshold)
            && (1..=count).contains(&index);
        let set = SetId([a, b, c, d, e, f]);
        sound.then_some((Self { set, purpose, threshold, count }, index))
    }
}

impl Share {
    fn point(&self) -> Vec<u8> {
        [&[self.index], &self.value[..]].concat()
    }

    fn check(&self) -> Digest {
        Digest::of("chancery-ceremony-share-v1", &[&self.terms.header(self.index), &*self.value])
    }

    pub(crate) fn is_of(&self, wanted: Terms) -> Result<(), ShareError> {
        if self.terms == wanted {
            Ok(())
        } else {
            let (found, wanted) = (self.terms.set, wanted.set);
            Err(ShareError::AnotherSet { index: self.index, found, wanted })
        }
    }
}

impl Purpose {
    /// Whether a PIN of this form can be made.
    pub fn is_sound(self) -> bool {
        match self {
            Self::SoPin(form) | Self::UserPin(form) => form.is_sound(),
            Self::WrappingKey => true,
        }
    }

    /// The PIN that a secret gives; none if it is for a key.
    pub fn pin(self, secret: &Whole) -> Option<Secret> {
        match self {
            Self::SoPin(form) | Self::UserPin(form) => Some(form.encode(&secret.0)),
            Self::WrappingKey => None,
        }
    }
}

impl Whole {
    /// A new secret.
    pub fn random(entropy: &mut Entropy) -> Self {
        Self(Zeroizing::new(entropy.bytes()))
    }

    /// Shows the secret to the one call that needs it.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

fn check_numbers(threshold: u8, holders: &[Name]) -> Result<(), ShareError> {
    let different: BTreeSet<&Name> = holders.iter().collect();
    let count = holders.len();
    let sound = different.len() == count
        && (2..=usize::from(MOST)).contains(&count)
        && (2..=count).contains(&usize::from(threshold));
    if sound { Ok(()) } else { Err(ShareError::Numbers) }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SoPin(form) => write!(f, "the SO PIN ({form})"),
            Self::UserPin(form) => write!(f, "the user PIN ({form})"),
            Self::WrappingKey => f.write_str("the key that backups are wrapped under"),
        }
    }
}

impl fmt::Display for Terms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { set, purpose, threshold, count } = self;
        write!(f, "set {set}: {purpose}, {threshold} of {count}")
    }
}

impl fmt::Display for SetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl FromStr for SetId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut bytes = [0; 6];
        hex::decode_to_slice(text, &mut bytes)
            .map_err(|_| "a set of shares is named by 12 hexadecimal digits".to_owned())?;
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for SetId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<SetId> for String {
    fn from(set: SetId) -> Self {
        set.to_string()
    }
}

impl fmt::Debug for Whole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Whole(…)")
    }
}

impl fmt::Debug for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Share({} of set {}, …)", self.index, self.terms.set)
    }
}

/// The version of the form of a share.
const VERSION: u8 = 1;

/// Shares are not what they should be.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum ShareError {
    /// It is a share, but not of this set.
    #[error("share {index} is of the set {found}, not of {wanted}")]
    AnotherSet {
        /// Which share.
        index: u8,
        /// The set that it is of.
        found: SetId,
        /// The set that it should be of.
        wanted: SetId,
    },
    /// All shares are as they say, and do not give the secret.
    #[error("the shares do not give the secret that was split")]
    Combination,
    /// It is not the share that was given out.
    #[error("share {0} is not the one that was given out")]
    Corrupted(u8),
    /// A line was not typed as it is printed.
    #[error("line {0} is not as it is printed")]
    Line(u8),
    /// One that is to be there.
    #[error("share {0} is missing")]
    Missing(u8),
    /// No such set can be.
    #[error("a set has 2 to 15 different holders, and 2 of them or more give the secret")]
    Numbers,
    /// It is a share of a secret for something else.
    #[error("share {0} is of a secret for another use")]
    OtherUse(u8),
    /// The secret-sharing scheme refused.
    #[error("the shares cannot be combined: {0}")]
    Scheme(vsss_rs::Error),
    /// They do not give the secret.
    #[error("only {there} of the {wanted} shares that it takes are there")]
    TooFew {
        /// How many there are.
        there: usize,
        /// How many it takes.
        wanted: u8,
    },
    /// The same share again.
    #[error("share {0} is there twice")]
    Twice(u8),
    /// Each line is right by itself, and they are of different shares, or of none.
    #[error("the lines are not those of one share")]
    Whole,
}
