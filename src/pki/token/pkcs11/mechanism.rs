//! Mechanisms: chosen from what the token says that it can do.

use std::borrow::Cow;

use cryptoki::{
    context::Pkcs11,
    mechanism::{
        Mechanism, MechanismType,
        eddsa::{EddsaParams, EddsaSignatureScheme},
        rsa::{PkcsMgfType, PkcsPssParams},
    },
    slot::Slot,
    types::Ulong,
};

use super::failure::token_error;
use crate::{
    keys::{KeyAlgorithm, SignatureScheme},
    token::{Input, TokenError},
};

/// The mechanisms of one token that serve us.
#[derive(Clone)]
pub(super) struct Mechanisms {
    sign: Vec<MechanismType>,
    generate: Vec<MechanismType>,
}

impl Mechanisms {
    /// Asks the token once, through C_GetMechanismList and C_GetMechanismInfo.
    pub(super) fn read(pkcs11: &Pkcs11, slot: Slot) -> Result<Self, TokenError> {
        let offered = pkcs11.get_mechanism_list(slot).map_err(token_error)?;
        let mut mechanisms = Self { sign: Vec::new(), generate: Vec::new() };
        for kind in WANTED.iter().copied().filter(|kind| offered.contains(kind)) {
            let info = pkcs11.get_mechanism_info(slot, kind).map_err(token_error)?;
            if info.sign() {
                mechanisms.sign.push(kind);
            }
            if info.generate_key_pair() {
                mechanisms.generate.push(kind);
            }
        }
        Ok(mechanisms)
    }

    /// The mechanism for a signature, and the bytes that it takes.
    ///
    /// ECDSA is hashed here wherever the token signs digests: fewer bytes go to the token, and
    /// hashing here is never slower. RSA goes through the combined mechanism where there is one,
    /// as tokens in FIPS mode sign no padding of others.
    pub(super) fn signing<'a>(
        &self,
        scheme: SignatureScheme,
        input: Input<'a>,
    ) -> Result<(Mechanism<'static>, Cow<'a, [u8]>), TokenError> {
        let combined = match input {
            Input::Message(message) => combined(scheme).map(|mechanism| (mechanism, message)),
            Input::Digest(_) => None,
        };
        let combined = combined.filter(|(mechanism, _)| self.signs(mechanism));
        let raw = raw(scheme).filter(|mechanism| self.signs(mechanism));
        match (combined, raw) {
            (Some((mechanism, message)), raw) if raw.is_none() || !is_ecdsa(scheme) => {
                Ok((mechanism, Cow::Borrowed(message)))
            }
            (_, Some(mechanism)) => Ok((mechanism, raw_input(scheme, input))),
            _ => Err(TokenError::MechanismMissing { what: format!("signatures {scheme}") }),
        }
    }

    /// The mechanism that generates such keys.
    pub(super) fn generation(
        &self,
        algorithm: KeyAlgorithm,
    ) -> Result<Mechanism<'static>, TokenError> {
        let mechanism = match algorithm {
            KeyAlgorithm::EcP256 | KeyAlgorithm::EcP384 => Mechanism::EccKeyPairGen,
            KeyAlgorithm::Ed25519 => Mechanism::EccEdwardsKeyPairGen,
            KeyAlgorithm::Rsa2048 | KeyAlgorithm::Rsa3072 | KeyAlgorithm::Rsa4096 => {
                Mechanism::RsaPkcsKeyPairGen
            }
        };
        if !self.generate.contains(&mechanism.mechanism_type()) {
            return Err(TokenError::MechanismMissing { what: format!("keys of {algorithm}") });
        }
        Ok(mechanism)
    }

    fn signs(&self, mechanism: &Mechanism<'_>) -> bool {
        self.sign.contains(&mechanism.mechanism_type())
    }
}

/// The mechanism that hashes and signs.
fn combined(scheme: SignatureScheme) -> Option<Mechanism<'static>> {
    match scheme {
        SignatureScheme::EcdsaP256Sha256 => Some(Mechanism::EcdsaSha256),
        SignatureScheme::EcdsaP384Sha384 => Some(Mechanism::EcdsaSha384),
        SignatureScheme::Ed25519 => None,
        SignatureScheme::RsaPkcs1Sha256 => Some(Mechanism::Sha256RsaPkcs),
        SignatureScheme::RsaPkcs1Sha384 => Some(Mechanism::Sha384RsaPkcs),
        SignatureScheme::RsaPkcs1Sha512 => Some(Mechanism::Sha512RsaPkcs),
        SignatureScheme::RsaPssSha256 => pss(scheme).map(Mechanism::Sha256RsaPkcsPss),
        SignatureScheme::RsaPssSha384 => pss(scheme).map(Mechanism::Sha384RsaPkcsPss),
        SignatureScheme::RsaPssSha512 => pss(scheme).map(Mechanism::Sha512RsaPkcsPss),
    }
}

/// The mechanism that takes a digest; for Ed25519, which has none, the one that takes a message.
fn raw(scheme: SignatureScheme) -> Option<Mechanism<'static>> {
    match scheme {
        SignatureScheme::EcdsaP256Sha256 | SignatureScheme::EcdsaP384Sha384 => {
            Some(Mechanism::Ecdsa)
        }
        // Without parameters: plain Ed25519 (PKCS#11 3.0 section 2.3.14).
        SignatureScheme::Ed25519 => {
            Some(Mechanism::Eddsa(EddsaParams::new(EddsaSignatureScheme::Pure)))
        }
        SignatureScheme::RsaPkcs1Sha256
        | SignatureScheme::RsaPkcs1Sha384
        | SignatureScheme::RsaPkcs1Sha512 => Some(Mechanism::RsaPkcs),
        SignatureScheme::RsaPssSha256
        | SignatureScheme::RsaPssSha384
        | SignatureScheme::RsaPssSha512 => pss(scheme).map(Mechanism::RsaPkcsPss),
    }
}

/// What the raw mechanism takes: CKM_RSA_PKCS pads, but adds no DigestInfo.
fn raw_input<'a>(scheme: SignatureScheme, input: Input<'a>) -> Cow<'a, [u8]> {
    let digest = match input {
        Input::Digest(digest) => Cow::Borrowed(digest),
        Input::Message(message) => {
            scheme.digest(message).map_or(Cow::Borrowed(message), Cow::Owned)
        }
    };
    match digest_info(scheme) {
        Some(prefix) => Cow::Owned([prefix, &digest].concat()),
        None => digest,
    }
}

/// The salt is as long as the hash (RFC 8017 section 9.1, note 4).
fn pss(scheme: SignatureScheme) -> Option<PkcsPssParams> {
    let (hash_alg, mgf, length) = match scheme {
        SignatureScheme::RsaPssSha256 => (MechanismType::SHA256, PkcsMgfType::MGF1_SHA256, 32),
        SignatureScheme::RsaPssSha384 => (MechanismType::SHA384, PkcsMgfType::MGF1_SHA384, 48),
        SignatureScheme::RsaPssSha512 => (MechanismType::SHA512, PkcsMgfType::MGF1_SHA512, 64),
        _ => return None,
    };
    Some(PkcsPssParams { hash_alg, mgf, s_len: Ulong::new(length) })
}

fn is_ecdsa(scheme: SignatureScheme) -> bool {
    matches!(scheme, SignatureScheme::EcdsaP256Sha256 | SignatureScheme::EcdsaP384Sha384)
}

/// The DER before the hash (RFC 8017 section 9.2, note 1).
fn digest_info(scheme: SignatureScheme) -> Option<&'static [u8]> {
    match scheme {
        SignatureScheme::RsaPkcs1Sha256 => Some(&[
            0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02,
            0x01, 0x05, 0x00, 0x04, 0x20,
        ]),
        SignatureScheme::RsaPkcs1Sha384 => Some(&[
            0x30, 0x41, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02,
            0x02, 0x05, 0x00, 0x04, 0x30,
        ]),
        SignatureScheme::RsaPkcs1Sha512 => Some(&[
            0x30, 0x51, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02,
            0x03, 0x05, 0x00, 0x04, 0x40,
        ]),
        _ => None,
    }
}

/// All that Chancery signs with and generates keys by.
pub(super) const WANTED: &[MechanismType] = &[
    MechanismType::ECC_KEY_PAIR_GEN,
    MechanismType::ECC_EDWARDS_KEY_PAIR_GEN,
    MechanismType::RSA_PKCS_KEY_PAIR_GEN,
    MechanismType::ECDSA,
    MechanismType::ECDSA_SHA256,
    MechanismType::ECDSA_SHA384,
    MechanismType::EDDSA,
    MechanismType::RSA_PKCS,
    MechanismType::SHA256_RSA_PKCS,
    MechanismType::SHA384_RSA_PKCS,
    MechanismType::SHA512_RSA_PKCS,
    MechanismType::RSA_PKCS_PSS,
    MechanismType::SHA256_RSA_PKCS_PSS,
    MechanismType::SHA384_RSA_PKCS_PSS,
    MechanismType::SHA512_RSA_PKCS_PSS,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mechanism_follows_what_the_token_has() {
        let raw = [MechanismType::ECDSA, MechanismType::RSA_PKCS];
        let combined = [MechanismType::ECDSA_SHA256, MechanismType::SHA256_RSA_PKCS];
        let both = [raw, combined].concat();
        let (ecdsa, rsa) = (SignatureScheme::EcdsaP256Sha256, SignatureScheme::RsaPkcs1Sha256);
        let (message, digest) = (Input::Message(b"text"), Input::Digest(&[7; 32]));
        for (offered, scheme, input, chosen, length) in [
            (&raw[..], ecdsa, message, Some(MechanismType::ECDSA), 32),
            (&combined, ecdsa, message, Some(MechanismType::ECDSA_SHA256), 4),
            (&both, ecdsa, message, Some(MechanismType::ECDSA), 32),
            (&combined, ecdsa, digest, None, 0),
            (&raw, rsa, message, Some(MechanismType::RSA_PKCS), 51),
            (&both, rsa, message, Some(MechanismType::SHA256_RSA_PKCS), 4),
            (&both, rsa, digest, Some(MechanismType::RSA_PKCS), 51),
            (&both, SignatureScheme::RsaPssSha256, message, None, 0),
        ] {
            let mechanisms = Mechanisms { sign: offered.to_vec(), generate: Vec::new() };
            match mechanisms.signing(scheme, input) {
                Ok((mechanism, bytes)) => {
                    assert_eq!(Some(mechanism.mechanism_type()), chosen);
                    assert_eq!(bytes.len(), length);
                }
                Err(error) => {
                    assert!(matches!(error, TokenError::MechanismMissing { .. }), "{error}");
                    assert_eq!(chosen, None, "{offered:?} {scheme}");
                }
            }
        }
    }
}
