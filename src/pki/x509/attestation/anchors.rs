//! Whose cards are trusted: the certificates of their makers.

use jiff::Timestamp;
use thiserror::Error;

use super::{
    AttestationError,
    link::{Dates, Link, PathLen},
};
use crate::keys::PublicKey;

/// The makers of cards: roots that sign themselves, and the CAs below them.
#[derive(Clone, Debug, Default)]
pub struct Anchors {
    authorities: Vec<Authority>,
}

/// A CA that certifies attestation keys, or other such CAs.
#[derive(Clone, Debug)]
struct Authority {
    name: Vec<u8>,
    public_key: PublicKey,
    /// How many CAs may follow below it, by its own word and those above it.
    path_len: PathLen,
    /// Its own, and those above it.
    dates: Vec<Dates>,
}

/// A certificate cannot be a maker's.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum AnchorError {
    /// It cannot be read.
    #[error("it cannot be read: {what}")]
    Malformed {
        /// Which of them, from 1.
        number: usize,
        /// Why.
        what: String,
    },
    /// It is no CA's.
    #[error("{subject:?} is no CA")]
    NotAuthority {
        /// Which of them, from 1.
        number: usize,
        /// Whose it is.
        subject: String,
    },
    /// None of the others has signed it, nor has it itself.
    #[error("{subject:?} leads to no root: the certificate of {issuer:?} is missing")]
    Stray {
        /// Which of them, from 1.
        number: usize,
        /// Whose it is.
        subject: String,
        /// Who should have signed it.
        issuer: String,
    },
}

impl Anchors {
    /// Takes DER certificates in any order: each must lead to one among them that signs itself.
    ///
    /// # Errors
    ///
    /// The first that does not, is no CA's, or cannot be read.
    pub fn new<'a>(certificates: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, AnchorError> {
        let mut waiting = Vec::new();
        for (number, der) in (1..).zip(certificates) {
            let link = Link::read(der).map_err(|what| AnchorError::Malformed { number, what })?;
            if link.authority.is_none() {
                let subject = link.subject_text;
                return Err(AnchorError::NotAuthority { number, subject });
            }
            waiting.push((number, link));
        }
        let mut anchors = Self::default();
        loop {
            let before = waiting.len();
            waiting.retain(|(_, link)| !anchors.take(link));
            match waiting.first() {
                None => return Ok(anchors),
                Some((number, stray)) if waiting.len() == before => {
                    return Err(AnchorError::Stray {
                        number: *number,
                        subject: stray.subject_text.clone(),
                        issuer: stray.issuer_text.clone(),
                    });
                }
                Some(_) => {}
            }
        }
    }

    /// Whether there is nobody.
    pub fn is_empty(&self) -> bool {
        self.authorities.is_empty()
    }

    /// A maker has signed the certificate of this attestation key, and may have; it and all above it
    /// are valid now.
    pub(super) fn check_card(&self, card: &Link, now: Timestamp) -> Result<(), AttestationError> {
        let issuer = || card.issuer_text.clone();
        let mut refusal = AttestationError::UnknownMaker { issuer: issuer() };
        for maker in self.authorities.iter().filter(|maker| maker.name == card.issuer) {
            if !card.is_signed_by(&maker.public_key) {
                refusal = AttestationError::Counterfeit { issuer: issuer() };
                continue;
            }
            if maker.path_len == Some(0) {
                refusal = AttestationError::PathLength { issuer: issuer() };
                continue;
            }
            match maker.dates.iter().try_for_each(|dates| dates.check(now)) {
                Ok(()) => return Ok(()),
                // Another certificate of the same maker may be valid still.
                Err(error) => refusal = error,
            }
        }
        Err(refusal)
    }

    /// Adds a CA if it signs itself, or one that is there has signed it.
    fn take(&mut self, link: &Link) -> bool {
        let Some(path_len) = link.authority else { return false };
        let above = if link.subject == link.issuer {
            link.is_signed_by(&link.public_key).then_some((None, Vec::new()))
        } else {
            let signs = |it: &&Authority| {
                it.name == link.issuer
                    && it.path_len != Some(0)
                    && link.is_signed_by(&it.public_key)
            };
            let found = self.authorities.iter().find(signs);
            found.map(|it| (it.path_len.map(|len| len - 1), it.dates.clone()))
        };
        let Some((room, mut dates)) = above else { return false };
        dates.push(link.dates.clone());
        self.authorities.push(Authority {
            name: link.subject.clone(),
            public_key: link.public_key.clone(),
            path_len: path_len.into_iter().chain(room).min(),
            dates,
        });
        true
    }
}
