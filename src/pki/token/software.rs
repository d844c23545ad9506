//! Software keys: a stand-in for a token in tests, never in production.

use aws_lc_rs::{
    digest::{self, Digest},
    encoding::AsDer,
    error::Unspecified,
    rand::SystemRandom,
    rsa::KeySize,
    signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaEncoding, RsaKeyPair},
};

use crate::{
    keys::{KeyAlgorithm, PublicKey, Signature, SignatureScheme},
    token::{Generated, Input, KeyId, KeyLabel, KeyRef, KeyStore, Token, TokenError},
};

/// Keys in memory, under the same rules as those of a PKCS#11 token.
#[derive(Default)]
pub struct SoftwareToken {
    entries: Vec<Entry>,
}

struct Entry {
    key: KeyRef,
    private: PrivateKey,
}

enum PrivateKey {
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Rsa(RsaKeyPair),
}

impl Token for SoftwareToken {
    fn find(&mut self, key: &KeyRef) -> Result<(), TokenError> {
        self.entry(key).map(|_| ())
    }

    fn sign(
        &mut self,
        key: &KeyRef,
        scheme: SignatureScheme,
        input: Input<'_>,
    ) -> Result<Signature, TokenError> {
        input.check(scheme)?;
        let entry = self.entry(key)?;
        if !scheme.fits(entry.key.public_key.algorithm()) {
            return Err(no_mechanism(&format!("{scheme} under a key of another kind")));
        }
        entry.private.sign(scheme, input).map_err(|_| no_mechanism(&scheme.to_string()))
    }
}

impl KeyStore for SoftwareToken {
    fn vacant(&mut self, label: &KeyLabel, id: &KeyId) -> Result<(), TokenError> {
        if self.entries.iter().any(|entry| entry.key.label == *label || entry.key.id == *id) {
            return Err(TokenError::KeyExists { label: label.clone() });
        }
        Ok(())
    }

    fn generate(
        &mut self,
        algorithm: KeyAlgorithm,
        label: &KeyLabel,
        id: &KeyId,
    ) -> Result<Generated, TokenError> {
        self.vacant(label, id)?;
        let (private, public_key) =
            generate(algorithm).map_err(|_| no_mechanism(&format!("keys of {algorithm}")))?;
        let key = KeyRef { label: label.clone(), id: id.clone(), public_key };
        self.entries.push(Entry { key: key.clone(), private });
        Ok(Generated { key, attributes: Vec::new() })
    }

    fn destroy(&mut self, key: &KeyRef) -> Result<(), TokenError> {
        self.find(key)?;
        self.entries.retain(|entry| entry.key != *key);
        Ok(())
    }
}

impl SoftwareToken {
    /// A token with the one Ed25519 key of this seed, which anybody who knows the seed has, too: it
    /// stands in for the key of another machine in a rehearsal.
    ///
    /// # Errors
    ///
    /// The seed is of no key.
    pub fn stand_in(
        label: &KeyLabel,
        id: &KeyId,
        seed: &[u8; 32],
    ) -> Result<(Self, KeyRef), TokenError> {
        let made = Ed25519KeyPair::from_seed_unchecked(seed).ok().and_then(|pair| {
            let public_key = public_key(pair.public_key()).ok()?;
            Some((PrivateKey::Ed25519(pair), public_key))
        });
        let (private, public_key) = made.ok_or_else(|| no_mechanism("keys of this seed"))?;
        let key = KeyRef { label: label.clone(), id: id.clone(), public_key };
        let entries = vec![Entry { key: key.clone(), private }];
        Ok((Self { entries }, key))
    }

    fn entry(&self, key: &KeyRef) -> Result<&Entry, TokenError> {
        self.entries.iter().find(|entry| entry.key == *key).ok_or_else(|| TokenError::KeyMissing {
            label: key.label.clone(),
            what: "no key has this label, CKA_ID and public key".to_owned(),
        })
    }
}

impl PrivateKey {
    fn sign(&self, scheme: SignatureScheme, input: Input<'_>) -> Result<Signature, Unspecified> {
        let bytes = match (self, input) {
            (Self::Ecdsa(pair), Input::Message(message)) => {
                pair.sign(&SystemRandom::new(), message)?.as_ref().to_vec()
            }
            (Self::Ecdsa(pair), Input::Digest(digest)) => {
                pair.sign_digest(&import(scheme, digest)?)?.as_ref().to_vec()
            }
            (Self::Ed25519(pair), Input::Message(message)) => pair.sign(message).as_ref().to_vec(),
            (Self::Ed25519(_), Input::Digest(_)) => return Err(Unspecified),
            (Self::Rsa(pair), Input::Message(message)) => {
                let mut bytes = vec![0; pair.public_modulus_len()];
                pair.sign(rsa_encoding(scheme)?, &SystemRandom::new(), message, &mut bytes)?;
                bytes
            }
            (Self::Rsa(pair), Input::Digest(digest)) => {
                let mut bytes = vec![0; pair.public_modulus_len()];
                pair.sign_digest(rsa_encoding(scheme)?, &import(scheme, digest)?, &mut bytes)?;
                bytes
            }
        };
        Ok(Signature(bytes))
    }
}

fn generate(algorithm: KeyAlgorithm) -> Result<(PrivateKey, PublicKey), Unspecified> {
    match algorithm {
        KeyAlgorithm::EcP256 => generate_ecdsa(&signature::ECDSA_P256_SHA256_FIXED_SIGNING),
        KeyAlgorithm::EcP384 => generate_ecdsa(&signature::ECDSA_P384_SHA384_FIXED_SIGNING),
        KeyAlgorithm::Ed25519 => {
            let pair = Ed25519KeyPair::generate()?;
            let public_key = public_key(pair.public_key())?;
            Ok((PrivateKey::Ed25519(pair), public_key))
        }
        KeyAlgorithm::Rsa2048 => generate_rsa(KeySize::Rsa2048),
        KeyAlgorithm::Rsa3072 => generate_rsa(KeySize::Rsa3072),
        KeyAlgorithm::Rsa4096 => generate_rsa(KeySize::Rsa4096),
    }
}

fn generate_ecdsa(
    algorithm: &'static signature::EcdsaSigningAlgorithm,
) -> Result<(PrivateKey, PublicKey), Unspecified> {
    let pair = EcdsaKeyPair::generate(algorithm)?;
    let public_key = public_key(pair.public_key())?;
    Ok((PrivateKey::Ecdsa(pair), public_key))
}

fn generate_rsa(size: KeySize) -> Result<(PrivateKey, PublicKey), Unspecified> {
    let pair = RsaKeyPair::generate(size)?;
    let public_key = public_key(pair.public_key())?;
    Ok((PrivateKey::Rsa(pair), public_key))
}

fn public_key<'a>(
    key: &impl AsDer<aws_lc_rs::encoding::PublicKeyX509Der<'a>>,
) -> Result<PublicKey, Unspecified> {
    PublicKey::from_spki_der(key.as_der()?.as_ref()).map_err(|_| Unspecified)
}

fn import(scheme: SignatureScheme, bytes: &[u8]) -> Result<Digest, Unspecified> {
    let hash = match scheme.digest_len() {
        Some(32) => &digest::SHA256,
        Some(48) => &digest::SHA384,
        Some(64) => &digest::SHA512,
        _ => return Err(Unspecified),
    };
    Digest::import_less_safe(bytes, hash)
}

fn rsa_encoding(scheme: SignatureScheme) -> Result<&'static dyn RsaEncoding, Unspecified> {
    match scheme {
        SignatureScheme::RsaPkcs1Sha256 => Ok(&signature::RSA_PKCS1_SHA256),
        SignatureScheme::RsaPkcs1Sha384 => Ok(&signature::RSA_PKCS1_SHA384),
        SignatureScheme::RsaPkcs1Sha512 => Ok(&signature::RSA_PKCS1_SHA512),
        SignatureScheme::RsaPssSha256 => Ok(&signature::RSA_PSS_SHA256),
        SignatureScheme::RsaPssSha384 => Ok(&signature::RSA_PSS_SHA384),
        SignatureScheme::RsaPssSha512 => Ok(&signature::RSA_PSS_SHA512),
        SignatureScheme::EcdsaP256Sha256
        | SignatureScheme::EcdsaP384Sha384
        | SignatureScheme::Ed25519 => Err(Unspecified),
    }
}

fn no_mechanism(what: &str) -> TokenError {
    TokenError::MechanismMissing { what: what.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::Purpose;

    #[test]
    fn every_algorithm_signs_messages_and_digests() {
        let mut token = SoftwareToken::default();
        let algorithms = [
            (KeyAlgorithm::EcP256, SignatureScheme::EcdsaP256Sha256),
            (KeyAlgorithm::EcP384, SignatureScheme::EcdsaP384Sha384),
            (KeyAlgorithm::Ed25519, SignatureScheme::Ed25519),
            (KeyAlgorithm::Rsa2048, SignatureScheme::RsaPkcs1Sha512),
            (KeyAlgorithm::Rsa3072, SignatureScheme::RsaPssSha256),
        ];
        for (index, (algorithm, scheme)) in algorithms.into_iter().enumerate() {
            let key = generate_in(&mut token, algorithm, index as u8);
            let signed = token.sign(&key, scheme, Input::Message(b"text")).unwrap();
            assert_eq!(key.public_key.verify(scheme, b"text", &signed), Ok(()), "{scheme}");
            if let Some(digest) = scheme.digest(b"text") {
                let signed = token.sign(&key, scheme, Input::Digest(&digest)).unwrap();
                assert_eq!(key.public_key.verify(scheme, b"text", &signed), Ok(()), "{scheme}");
            }
        }
    }

    #[test]
    fn a_label_or_an_id_serves_one_key() {
        let mut token = SoftwareToken::default();
        let key = generate_in(&mut token, KeyAlgorithm::EcP256, 1);
        let (label, id) =
            (KeyLabel::new(Purpose::Raw, "other").unwrap(), KeyId::new(&[2]).unwrap());
        for (label, id) in [(&key.label, &id), (&label, &key.id)] {
            let again = token.generate(KeyAlgorithm::EcP256, label, id);
            assert!(matches!(again, Err(TokenError::KeyExists { .. })));
        }
        token.destroy(&key).unwrap();
        assert!(matches!(token.find(&key), Err(TokenError::KeyMissing { .. })));
    }

    #[test]
    fn digests_of_another_length_and_schemes_of_another_key_are_refused() {
        let mut token = SoftwareToken::default();
        let key = generate_in(&mut token, KeyAlgorithm::EcP256, 1);
        let long = token.sign(&key, SignatureScheme::EcdsaP256Sha256, Input::Digest(&[0; 48]));
        assert!(matches!(long, Err(TokenError::InputLength { wanted: 32, got: 48, .. })));
        let other = token.sign(&key, SignatureScheme::Ed25519, Input::Message(b"text"));
        assert!(matches!(other, Err(TokenError::MechanismMissing { .. })));
        let digest = token.sign(&key, SignatureScheme::Ed25519, Input::Digest(&[0; 32]));
        assert!(matches!(digest, Err(TokenError::MechanismMissing { .. })));
    }

    fn generate_in(token: &mut SoftwareToken, algorithm: KeyAlgorithm, id: u8) -> KeyRef {
        let label = KeyLabel::new(Purpose::Raw, &format!("key-{id}")).unwrap();
        token.generate(algorithm, &label, &KeyId::new(&[id]).unwrap()).unwrap().key
    }
}
