//! Public keys, signature schemes and signatures; checks of keys that requesters offer.

pub mod weak;

use std::{fmt, sync::Arc};

use thiserror::Error;

/// The keys that Chancery makes, certifies and verifies with.
#[derive(
    Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, serde::Deserialize, serde::Serialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum KeyAlgorithm {
    /// ECDSA on P-256 (FIPS 186-5).
    #[serde(rename = "p256")]
    EcP256,
    /// ECDSA on P-384.
    #[serde(rename = "p384")]
    EcP384,
    /// Ed25519 (RFC 8032).
    Ed25519,
    /// RSA of 2048 bits.
    #[serde(rename = "rsa2048")]
    Rsa2048,
    /// RSA of 3072 bits.
    #[serde(rename = "rsa3072")]
    Rsa3072,
    /// RSA of 4096 bits.
    #[serde(rename = "rsa4096")]
    Rsa4096,
}

/// A signature algorithm with its hash.
#[derive(
    Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, serde::Deserialize, serde::Serialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum SignatureScheme {
    /// ECDSA on P-256 with SHA-256.
    EcdsaP256Sha256,
    /// ECDSA on P-384 with SHA-384.
    EcdsaP384Sha384,
    /// Ed25519: hashes by itself.
    Ed25519,
    /// RSASSA-PKCS1-v1_5 with SHA-256 (RFC 8017 section 8.2).
    RsaPkcs1Sha256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    RsaPkcs1Sha384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    RsaPkcs1Sha512,
    /// RSASSA-PSS with SHA-256, MGF1 of the same hash, salt as long as the hash (RFC 8017 section 8.1).
    RsaPssSha256,
    /// RSASSA-PSS with SHA-384.
    RsaPssSha384,
    /// RSASSA-PSS with SHA-512.
    RsaPssSha512,
}

/// A public key whose numbers were checked to be a key at all: a point on its curve, an RSA
/// modulus of 2048, 3072 or 4096 bits.
///
/// Serialized as PEM (`PUBLIC KEY`). Cheap to clone.
#[derive(Clone)]
pub struct PublicKey(Arc<Inner>);

struct Inner {
    algorithm: KeyAlgorithm,
    spki_der: Vec<u8>,
}

/// A signature as tokens make it: `r || s` for ECDSA, the bytes themselves for RSA and Ed25519.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Signature(pub Vec<u8>);

/// A key cannot be read, or must not be certified.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum KeyError {
    /// Not the encoding of a key.
    #[error("{0}")]
    Malformed(String),
    /// A key of a kind or size that is not certified.
    #[error("{0}; use P-256, P-384, Ed25519, or RSA of 2048, 3072 or 4096 bits")]
    Unsupported(String),
    /// A key that others could find the private half of.
    #[error("weak key: {0}")]
    Weak(#[from] weak::WeakKey),
}

/// A signature does not verify under the key.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("the signature does not verify under the public key")]
pub struct BadSignature;

impl PublicKey {
    /// Reads a DER SubjectPublicKeyInfo (RFC 5280 section 4.1.2.7).
    ///
    /// # Errors
    ///
    /// Not DER, of an unsupported kind or size, or no point of its curve.
    pub fn from_spki_der(_der: &[u8]) -> Result<Self, KeyError> {
        todo!()
    }

    /// Reads a PEM `PUBLIC KEY`.
    ///
    /// # Errors
    ///
    /// As [`from_spki_der`](Self::from_spki_der).
    pub fn from_pem(_pem: &str) -> Result<Self, KeyError> {
        todo!()
    }

    /// Reads an OpenSSH public key line (`ssh-ed25519 AAAA… comment`). Certificates are refused
    /// with a message of their own.
    ///
    /// # Errors
    ///
    /// As [`from_spki_der`](Self::from_spki_der).
    pub fn from_openssh(_line: &str) -> Result<Self, KeyError> {
        todo!()
    }

    /// Checks what a requester offers: RSA exponent 65537 or above and odd, no ROCA fingerprint,
    /// no close primes, no small factors.
    ///
    /// # Errors
    ///
    /// [`KeyError::Weak`].
    pub fn check_offered(&self) -> Result<(), KeyError> {
        todo!()
    }

    /// The kind and size of the key.
    pub fn algorithm(&self) -> KeyAlgorithm {
        self.0.algorithm
    }

    /// The DER SubjectPublicKeyInfo.
    pub fn spki_der(&self) -> &[u8] {
        &self.0.spki_der
    }

    /// PEM (`PUBLIC KEY`), with a line end.
    pub fn to_pem(&self) -> String {
        todo!()
    }

    /// The OpenSSH public key line, without comment.
    pub fn to_openssh(&self) -> String {
        todo!()
    }

    /// SHA-256 of the SubjectPublicKeyInfo, in hexadecimal.
    pub fn fingerprint(&self) -> String {
        todo!()
    }

    /// SHA-1 of the subjectPublicKey bits: the key identifier of RFC 5280 section 4.2.1.2 (1).
    pub fn key_identifier(&self) -> [u8; 20] {
        todo!()
    }

    /// The scheme that this key signs with unless told otherwise: PKCS#1 v1.5 with SHA-256 for
    /// RSA, the hash of the curve's size for ECDSA.
    pub fn default_scheme(&self) -> SignatureScheme {
        todo!()
    }

    /// Verifies a signature over a message.
    ///
    /// # Errors
    ///
    /// It does not verify, or the scheme is not one of this kind of key.
    pub fn verify(
        &self,
        _scheme: SignatureScheme,
        _message: &[u8],
        _signature: &Signature,
    ) -> Result<(), BadSignature> {
        todo!()
    }

    /// Verifies a signature over a digest made with the scheme's hash.
    ///
    /// # Errors
    ///
    /// As [`verify`](Self::verify); Ed25519 has no digests.
    pub fn verify_digest(
        &self,
        _scheme: SignatureScheme,
        _digest: &[u8],
        _signature: &Signature,
    ) -> Result<(), BadSignature> {
        todo!()
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.spki_der == other.0.spki_der
    }
}

impl Eq for PublicKey {}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({:?} {})", self.0.algorithm, self.fingerprint())
    }
}

impl serde::Serialize for PublicKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_pem())
    }
}

impl<'de> serde::Deserialize<'de> for PublicKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let pem = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        Self::from_pem(&pem).map_err(serde::de::Error::custom)
    }
}

impl SignatureScheme {
    /// Whether a key of this kind can make such signatures.
    pub fn fits(self, _algorithm: KeyAlgorithm) -> bool {
        todo!()
    }

    /// The length of the hash in bytes; `None` for Ed25519.
    pub fn digest_len(self) -> Option<usize> {
        todo!()
    }

    /// The hash of a message; `None` for Ed25519.
    pub fn digest(self, _message: &[u8]) -> Option<Vec<u8>> {
        todo!()
    }
}

impl fmt::Display for SignatureScheme {
    fn fmt(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result {
        todo!()
    }
}

impl fmt::Display for KeyAlgorithm {
    fn fmt(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result {
        todo!()
    }
}
