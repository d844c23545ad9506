//! Signed tokens (RFC 7515) and the keys of their issuers (RFC 7517).

use jsonwebtoken::{
    Algorithm, DecodingKey, Validation,
    errors::{Error, ErrorKind},
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse},
};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{Refusal, claims::Claims};

/// A token that says how it is signed; nothing of it is verified.
pub(super) struct Token<'a> {
    text: &'a str,
    algorithm: Algorithm,
    key_id: Option<String>,
}

/// The keys of an issuer that sign tokens.
#[derive(Clone, Debug)]
pub(super) struct KeySet(Vec<Key>);

#[derive(Clone, Debug)]
struct Key {
    id: Option<String>,
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

impl<'a> Token<'a> {
    pub(super) fn parse(text: &'a str) -> Result<Self, Refusal> {
        if text.len() > MAX_LEN {
            return Err(malformed(format!("it has {} octets; {MAX_LEN} are allowed", text.len())));
        }
        let header = jsonwebtoken::decode_header(text).map_err(|error| match error.kind() {
            // The library names all algorithms that it knows, and not the one that it does not.
            ErrorKind::Json(_) => malformed(format!(
                "its header is not that of a token which is signed with {}",
                algorithm_names()
            )),
            _ => unreadable(&error),
        })?;
        if !ALGORITHMS.contains(&header.alg) {
            return Err(Refusal::Algorithm { found: format!("{:?}", header.alg) });
        }
        // RFC 7515 section 4.1.11: who does not understand what is critical refuses.
        if let Some(critical) = header.crit {
            return Err(malformed(format!("its header calls {critical:?} critical")));
        }
        Ok(Self { text, algorithm: header.alg, key_id: header.kid })
    }

    /// What it says, whoever says it.
    pub(super) fn unverified_claims(&self) -> Result<Claims, Refusal> {
        jsonwebtoken::dangerous::insecure_decode_claims(self.text)
            .map_err(|error| unreadable(&error))
    }

    /// SHA-256 of what is signed. The signature is not part of it: of an ECDSA signature anybody can
    /// make a second one.
    pub(super) fn hash(&self) -> [u8; 32] {
        let signed = self.text.rsplit_once('.').map_or(self.text, |(signed, _)| signed);
        Sha256::digest(signed.as_bytes()).into()
    }
}

impl KeySet {
    /// Reads a key set. Keys that sign no tokens are left out; it is an error if none remains.
    pub(super) fn parse(value: &Value) -> Result<Self, String> {
        let keys = value.get("keys").and_then(Value::as_array);
        let keys = keys.ok_or("it is no key set: there is no array \"keys\" (RFC 7517)")?;
        if keys.len() > MOST_KEYS {
            return Err(format!("it has {} keys; {MOST_KEYS} are allowed", keys.len()));
        }
        let keys: Vec<Key> = keys.iter().filter_map(Key::parse).collect();
        match keys.is_empty() {
            true => Err(format!("it has no key that signs with {}", algorithm_names())),
            false => Ok(Self(keys)),
        }
    }

    /// The claims of a token that one of the keys has signed.
    ///
    /// # Errors
    ///
    /// [`Refusal::Key`] if it is signed by none of the keys' names, which may be too old.
    pub(super) fn verify(&self, token: &Token<'_>) -> Result<Claims, Refusal> {
        let mut refusal =
            Refusal::Key(token.key_id.as_ref().map_or_else(String::new, |id| format!("{id:?}")));
        for key in self.0.iter().filter(|key| key.fits(token)) {
            match jsonwebtoken::decode(token.text, &key.key, &validation(token.algorithm)) {
                Ok(data) => return Ok(data.claims),
                Err(error) if *error.kind() == ErrorKind::InvalidSignature => {
                    refusal = Refusal::Signature("the issuer's key");
                }
                Err(error) => return Err(unreadable(&error)),
            }
        }
        Err(refusal)
    }
}

impl Key {
    fn parse(value: &Value) -> Option<Self> {
        let jwk: Jwk = serde_json::from_value(value.clone()).ok()?;
        if !matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature)) {
            return None;
        }
        let mut algorithms = match &jwk.algorithm {
            AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
                vec![Algorithm::ES256]
            }
            AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P384 => {
                vec![Algorithm::ES384]
            }
            AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
                vec![Algorithm::EdDSA]
            }
            AlgorithmParameters::RSA(_) => RSA.to_vec(),
            _ => return None,
        };
        if let Some(only) = jwk.common.key_algorithm {
            algorithms.retain(|algorithm| Algorithm::try_from(only).as_ref() == Ok(algorithm));
        }
        let key = DecodingKey::from_jwk(&jwk).ok()?;
        (!algorithms.is_empty()).then_some(Self { id: jwk.common.key_id, algorithms, key })
    }

    /// A token without the name of its key may be of any.
    fn fits(&self, token: &Token<'_>) -> bool {
        let named = token.key_id.is_none() || token.key_id == self.id;
        named && self.algorithms.contains(&token.algorithm)
    }
}

/// The signature alone: what is said and when is checked here, by the clock that is given.
fn validation(algorithm: Algorithm) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.required_spec_claims.clear();
    validation.validate_aud = false;
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation
}

/// For messages.
pub(super) fn algorithm_names() -> String {
    ALGORITHMS.map(|algorithm| format!("{algorithm:?}")).join(", ")
}

fn unreadable(error: &Error) -> Refusal {
    malformed(error.to_string())
}

fn malformed(why: String) -> Refusal {
    Refusal::Malformed { what: "token", why }
}

/// What a token may be signed with: never with nothing, and never with a secret that others share
/// (RFC 8725 sections 3.1 and 3.2).
const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::EdDSA,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
];

const RSA: [Algorithm; 6] = [
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
];

/// Octets of a token.
const MAX_LEN: usize = 16 * 1024;

/// Keys of a set.
const MOST_KEYS: usize = 100;
