//! Challenges without memory: an expiry and a nonce under a MAC that only this process can make.

use api::Challenge;
use aws_lc_rs::{error::Unspecified, hmac, rand, rand::SystemRandom};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::{SignedDuration, Timestamp};

use super::Refusal;

/// Makes challenges and knows its own.
pub(super) struct Challenges(hmac::Key);

impl Challenges {
    pub(super) fn new() -> Result<Self, Unspecified> {
        hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).map(Self)
    }

    /// A challenge that is good for [`LIFETIME`]. It may come back more than once meanwhile: what
    /// is signed names the key that is to be certified, so that a repetition is of use to its
    /// holder alone.
    pub(super) fn issue(&self, now: Timestamp) -> Result<Challenge, Unspecified> {
        let milliseconds = now.as_millisecond() + LIFETIME.as_millis() as i64;
        let expires_at = Timestamp::from_millisecond(milliseconds).map_err(|_| Unspecified)?;
        let mut bytes = [0; LEN];
        bytes[..EXPIRY].copy_from_slice(&milliseconds.to_be_bytes());
        rand::fill(&mut bytes[EXPIRY..SIGNED])?;
        let (signed, tag) = bytes.split_at_mut(SIGNED);
        tag.copy_from_slice(hmac::sign(&self.0, signed).as_ref());
        Ok(Challenge { challenge: URL_SAFE_NO_PAD.encode(bytes), expires_at })
    }

    pub(super) fn verify(&self, challenge: &str, now: Timestamp) -> Result<(), Refusal> {
        let bytes: [u8; LEN] = URL_SAFE_NO_PAD
            .decode(challenge)
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or(Refusal::Challenge("this is no challenge"))?;
        let (signed, tag) = bytes.split_at(SIGNED);
        hmac::verify(&self.0, signed, tag).map_err(|_| {
            Refusal::Challenge("the challenge is not one that this appliance made since it started")
        })?;
        let mut expiry = [0; EXPIRY];
        expiry.copy_from_slice(&signed[..EXPIRY]);
        if now.as_millisecond() >= i64::from_be_bytes(expiry) {
            return Err(Refusal::Challenge("the challenge has expired"));
        }
        Ok(())
    }
}

/// How long a challenge is good.
const LIFETIME: SignedDuration = SignedDuration::from_secs(60);

/// Octets of the expiry, of expiry and nonce, and of all with the tag.
const EXPIRY: usize = 8;
const SIGNED: usize = EXPIRY + 16;
const LEN: usize = SIGNED + 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_is_good_for_a_minute_at_its_own_appliance_and_only_as_it_is() {
        let challenges = Challenges::new().unwrap();
        let now: Timestamp = "2026-06-01T12:00:00Z".parse().unwrap();
        let given = challenges.issue(now).unwrap();
        assert_eq!(given.expires_at, now + LIFETIME);
        assert_ne!(challenges.issue(now).unwrap().challenge, given.challenge);
        let almost = given.expires_at - SignedDuration::from_millis(1);
        for at in [now, almost] {
            assert_eq!(challenges.verify(&given.challenge, at), Ok(()));
        }
        let expired = challenges.verify(&given.challenge, given.expires_at);
        assert_eq!(expired, Err(Refusal::Challenge("the challenge has expired")));
        assert!(Challenges::new().unwrap().verify(&given.challenge, now).is_err());
        let bytes = URL_SAFE_NO_PAD.decode(&given.challenge).unwrap();
        for index in 0..bytes.len() {
            let mut other = bytes.clone();
            other[index] ^= 1;
            let other = URL_SAFE_NO_PAD.encode(other);
            assert!(challenges.verify(&other, now).is_err(), "octet {index}");
        }
        for bad in ["", "a", &given.challenge[1..], &format!("{}=", given.challenge)] {
            assert!(challenges.verify(bad, now).is_err(), "{bad:?}");
        }
    }
}
