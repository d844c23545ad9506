//! Public keys, signature schemes and signatures; checks of keys that requesters offer.

mod numbers;
pub mod weak;

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use aws_lc_rs::{
    digest::{self, Digest},
    error::Unspecified,
    signature::{self, ParsedPublicKey, UnparsedPublicKey, VerificationAlgorithm},
};
use base64ct::{Base64, Encoding};
use der::{Decode, pem};
use spki::SubjectPublicKeyInfoRef;
use ssh_key::public::{EcdsaPublicKey, KeyData};
use thiserror::Error;

use numbers::Numbers;

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

/// A public key whose numbers were checked to be a key at all: a point on P-256 or P-384, a
/// canonical Ed25519 key of no small order, an RSA modulus of 2048, 3072 or 4096 bits.
///
/// Serialized as PEM (`PUBLIC KEY`). Cheap to clone.
#[derive(Clone)]
pub struct PublicKey(Arc<Inner>);

struct Inner {
    algorithm: KeyAlgorithm,
    numbers: Numbers,
    spki_der: Vec<u8>,
    /// Where the bits of subjectPublicKey begin; they go to the end.
    bits_at: usize,
    /// The key as the verifier wants it, of the first scheme that was verified: an issuer's key
    /// has one scheme and verifies thousands of signatures, a requester's key often none.
    verifier: OnceLock<(SignatureScheme, ParsedPublicKey)>,
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
    #[error(transparent)]
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
    pub fn from_spki_der(der: &[u8]) -> Result<Self, KeyError> {
        let spki = SubjectPublicKeyInfoRef::from_der(der)
            .map_err(|error| malformed("not a DER SubjectPublicKeyInfo", error))?;
        let bits = spki.subject_public_key.as_bytes().ok_or_else(|| {
            KeyError::Malformed("the bits of the key are not whole bytes".to_owned())
        })?;
        let key = Self::from_numbers(Numbers::from_spki(&spki.algorithm, bits)?)?;
        // Two encodings of one key would be two keys to whoever compares bytes or fingerprints.
        if key.spki_der() != der {
            return Err(KeyError::Malformed(
                "the SubjectPublicKeyInfo is not in its canonical form (RFC 3279, RFC 5480, RFC 8410)"
                    .to_owned(),
            ));
        }
        Ok(key)
    }

    /// Reads a PEM `PUBLIC KEY`.
    ///
    /// # Errors
    ///
    /// As [`from_spki_der`](Self::from_spki_der).
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let (label, der) = pem::decode_vec(text.as_bytes())
            .map_err(|error| malformed("not PEM of a public key", error))?;
        if label != PEM_LABEL {
            return Err(KeyError::Malformed(format!("PEM of a {label}, not of a {PEM_LABEL}")));
        }
        Self::from_spki_der(&der)
    }

    /// Reads an OpenSSH public key line (`ssh-ed25519 AAAA… comment`). Certificates are refused
    /// with a message of their own.
    ///
    /// # Errors
    ///
    /// As [`from_spki_der`](Self::from_spki_der).
    pub fn from_openssh(line: &str) -> Result<Self, KeyError> {
        // Of a file of several keys, only the first would be certified, and nobody would notice.
        if line.trim_end().contains(['\n', '\r']) {
            return Err(KeyError::Malformed(
                "several lines; give one OpenSSH public key".to_owned(),
            ));
        }
        let algorithm = line.split_ascii_whitespace().next().unwrap_or_default();
        refuse_openssh_algorithm(algorithm)?;
        let key = ssh_key::PublicKey::from_openssh(line)
            .map_err(|error| malformed("not an OpenSSH public key line", error))?;
        Self::from_ssh_key_data(key.key_data())
    }

    /// Takes a key that `ssh-key` read.
    pub(crate) fn from_ssh_key_data(key: &KeyData) -> Result<Self, KeyError> {
        refuse_openssh_algorithm(key.algorithm().as_str())?;
        let numbers = match key {
            KeyData::Ecdsa(EcdsaPublicKey::NistP256(point)) => Numbers::p256(point.as_bytes())?,
            KeyData::Ecdsa(EcdsaPublicKey::NistP384(point)) => Numbers::p384(point.as_bytes())?,
            KeyData::Ed25519(key) => Numbers::ed25519(&key.0)?,
            KeyData::Rsa(key) => Numbers::rsa(
                key.n().as_positive_bytes().unwrap_or_default(),
                key.e().as_positive_bytes().unwrap_or_default(),
            )?,
            other => return Err(unsupported_openssh(other.algorithm().as_str())),
        };
        Self::from_numbers(numbers)
    }

    /// Takes the numbers of an RSA key, big endian; leading zeros are dropped.
    ///
    /// # Errors
    ///
    /// Of a size that is not used here.
    pub fn from_rsa(modulus: &[u8], exponent: &[u8]) -> Result<Self, KeyError> {
        Self::from_numbers(Numbers::rsa(without_zeros(modulus), without_zeros(exponent))?)
    }

    /// Takes an uncompressed point, or the 32 bytes of an Ed25519 key.
    ///
    /// # Errors
    ///
    /// Not a point of its curve.
    pub fn from_point(algorithm: KeyAlgorithm, point: &[u8]) -> Result<Self, KeyError> {
        Self::from_numbers(match algorithm {
            KeyAlgorithm::EcP256 => Numbers::p256(point)?,
            KeyAlgorithm::EcP384 => Numbers::p384(point)?,
            KeyAlgorithm::Ed25519 => Numbers::ed25519(point)?,
            KeyAlgorithm::Rsa2048 | KeyAlgorithm::Rsa3072 | KeyAlgorithm::Rsa4096 => {
                return Err(KeyError::Malformed("an RSA key is no point".to_owned()));
            }
        })
    }

    fn from_numbers(numbers: Numbers) -> Result<Self, KeyError> {
        let algorithm = numbers.algorithm();
        let (spki_der, bits_at) =
            numbers.to_spki().map_err(|error| malformed("the key cannot be encoded", error))?;
        let verifier = OnceLock::new();
        if numbers.is_point() {
            let scheme = algorithm.default_scheme();
            let parsed = ParsedPublicKey::new(scheme.verification(), &spki_der[bits_at..])
                .map_err(|_| KeyError::Malformed(format!("the point is not on {algorithm}")))?;
            let _ = verifier.set((scheme, parsed));
        }
        Ok(Self(Arc::new(Inner { algorithm, numbers, spki_der, bits_at, verifier })))
    }

    /// Checks what a requester offers: RSA exponent 65537 or above and odd, no ROCA fingerprint,
    /// no close primes, no small factors.
    ///
    /// # Errors
    ///
    /// [`KeyError::Weak`].
    pub fn check_offered(&self) -> Result<(), KeyError> {
        match &self.0.numbers {
            Numbers::Rsa { modulus, exponent, .. } => Ok(weak::check_rsa(modulus, exponent)?),
            Numbers::Ed25519(_) | Numbers::P256(_) | Numbers::P384(_) => Ok(()),
        }
    }

    /// The kind and size of the key.
    pub fn algorithm(&self) -> KeyAlgorithm {
        self.0.algorithm
    }

    /// The DER SubjectPublicKeyInfo.
    pub fn spki_der(&self) -> &[u8] {
        &self.0.spki_der
    }

    /// The bits of subjectPublicKey: a curve point, the 32 bytes of an Ed25519 key, or a DER
    /// RSAPublicKey.
    pub(crate) fn bits(&self) -> &[u8] {
        &self.0.spki_der[self.0.bits_at..]
    }

    /// PEM (`PUBLIC KEY`), with a line end.
    pub fn to_pem(&self) -> String {
        let base64 = Base64::encode_string(self.spki_der());
        let mut pem = format!("-----BEGIN {PEM_LABEL}-----\n");
        for (index, character) in base64.chars().enumerate() {
            // RFC 7468 section 2: lines of 64 characters.
            if index > 0 && index % 64 == 0 {
                pem.push('\n');
            }
            pem.push(character);
        }
        pem.push_str(&format!("\n-----END {PEM_LABEL}-----\n"));
        pem
    }

    /// The OpenSSH public key line, without comment.
    pub fn to_openssh(&self) -> String {
        let blob = Base64::encode_string(&self.openssh_blob());
        format!("{} {blob}", self.0.numbers.openssh_name())
    }

    /// The SSH wire form of the key (RFC 4253 section 6.6): what OpenSSH writes in base64.
    pub fn openssh_blob(&self) -> Vec<u8> {
        self.0.numbers.to_openssh_blob()
    }

    /// SHA-256 of the SubjectPublicKeyInfo, in hexadecimal.
    pub fn fingerprint(&self) -> String {
        hex::encode(digest::digest(&digest::SHA256, self.spki_der()))
    }

    /// SHA-1 of the subjectPublicKey bits: the key identifier of RFC 5280 section 4.2.1.2 (1).
    pub fn key_identifier(&self) -> [u8; 20] {
        use sha1::Digest as _;

        sha1::Sha1::digest(self.bits()).into()
    }

    /// The scheme that this key signs with unless told otherwise: PKCS#1 v1.5 with SHA-256 for
    /// RSA, the hash of the curve's size for ECDSA.
    pub fn default_scheme(&self) -> SignatureScheme {
        self.0.algorithm.default_scheme()
    }

    /// Verifies a signature over a message.
    ///
    /// # Errors
    ///
    /// It does not verify, or the scheme is not one of this kind of key.
    pub fn verify(
        &self,
        scheme: SignatureScheme,
        message: &[u8],
        signature: &Signature,
    ) -> Result<(), BadSignature> {
        self.verify_with(scheme, |key| key.verify_sig(message, &signature.0))
    }

    /// Verifies a signature over a digest made with the scheme's hash.
    ///
    /// # Errors
    ///
    /// As [`verify`](Self::verify); Ed25519 has no digests.
    pub fn verify_digest(
        &self,
        scheme: SignatureScheme,
        digest: &[u8],
        signature: &Signature,
    ) -> Result<(), BadSignature> {
        let hash = scheme.hash().ok_or(BadSignature)?;
        let digest = Digest::import_less_safe(digest, hash).map_err(|_| BadSignature)?;
        self.verify_with(scheme, |key| key.verify_digest_sig(&digest, &signature.0))
    }

    /// Verifies a DER ECDSA signature with SHA-256 under a P-384 key: what `openssl req` makes
    /// unless it is told otherwise. Requesters sign so; nothing here does.
    pub(crate) fn verify_p384_sha256(
        &self,
        message: &[u8],
        signature_der: &[u8],
    ) -> Result<(), BadSignature> {
        if self.algorithm() != KeyAlgorithm::EcP384 {
            return Err(BadSignature);
        }
        UnparsedPublicKey::new(&signature::ECDSA_P384_SHA256_ASN1, self.bits())
            .verify(message, signature_der)
            .map_err(|_| BadSignature)
    }

    fn verify_with(
        &self,
        scheme: SignatureScheme,
        check: impl FnOnce(&ParsedPublicKey) -> Result<(), Unspecified>,
    ) -> Result<(), BadSignature> {
        if !scheme.fits(self.algorithm()) {
            return Err(BadSignature);
        }
        match self.0.verifier.get() {
            Some((cached, key)) if *cached == scheme => check(key).map_err(|_| BadSignature),
            _ => {
                let key = ParsedPublicKey::new(scheme.verification(), self.bits())
                    .map_err(|_| BadSignature)?;
                check(&key).map_err(|_| BadSignature)?;
                let _ = self.0.verifier.set((scheme, key));
                Ok(())
            }
        }
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
    pub fn fits(self, algorithm: KeyAlgorithm) -> bool {
        match algorithm {
            KeyAlgorithm::EcP256 => self == Self::EcdsaP256Sha256,
            KeyAlgorithm::EcP384 => self == Self::EcdsaP384Sha384,
            KeyAlgorithm::Ed25519 => self == Self::Ed25519,
            KeyAlgorithm::Rsa2048 | KeyAlgorithm::Rsa3072 | KeyAlgorithm::Rsa4096 => {
                self.is_rsa_pkcs1() || self.is_rsa_pss()
            }
        }
    }

    /// The length of the hash in bytes; `None` for Ed25519.
    pub fn digest_len(self) -> Option<usize> {
        self.hash().map(digest::Algorithm::output_len)
    }

    /// The hash of a message; `None` for Ed25519.
    pub fn digest(self, message: &[u8]) -> Option<Vec<u8>> {
        self.hash().map(|hash| digest::digest(hash, message).as_ref().to_vec())
    }

    /// RSASSA-PKCS1-v1_5, with any hash.
    pub fn is_rsa_pkcs1(self) -> bool {
        matches!(self, Self::RsaPkcs1Sha256 | Self::RsaPkcs1Sha384 | Self::RsaPkcs1Sha512)
    }

    /// RSASSA-PSS, with any hash.
    pub fn is_rsa_pss(self) -> bool {
        matches!(self, Self::RsaPssSha256 | Self::RsaPssSha384 | Self::RsaPssSha512)
    }

    fn hash(self) -> Option<&'static digest::Algorithm> {
        match self {
            Self::Ed25519 => None,
            Self::EcdsaP256Sha256 | Self::RsaPkcs1Sha256 | Self::RsaPssSha256 => {
                Some(&digest::SHA256)
            }
            Self::EcdsaP384Sha384 | Self::RsaPkcs1Sha384 | Self::RsaPssSha384 => {
                Some(&digest::SHA384)
            }
            Self::RsaPkcs1Sha512 | Self::RsaPssSha512 => Some(&digest::SHA512),
        }
    }

    fn verification(self) -> &'static dyn VerificationAlgorithm {
        match self {
            Self::EcdsaP256Sha256 => &signature::ECDSA_P256_SHA256_FIXED,
            Self::EcdsaP384Sha384 => &signature::ECDSA_P384_SHA384_FIXED,
            Self::Ed25519 => &signature::ED25519,
            Self::RsaPkcs1Sha256 => &signature::RSA_PKCS1_2048_8192_SHA256,
            Self::RsaPkcs1Sha384 => &signature::RSA_PKCS1_2048_8192_SHA384,
            Self::RsaPkcs1Sha512 => &signature::RSA_PKCS1_2048_8192_SHA512,
            Self::RsaPssSha256 => &signature::RSA_PSS_2048_8192_SHA256,
            Self::RsaPssSha384 => &signature::RSA_PSS_2048_8192_SHA384,
            Self::RsaPssSha512 => &signature::RSA_PSS_2048_8192_SHA512,
        }
    }
}

impl fmt::Display for SignatureScheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EcdsaP256Sha256 => "ecdsa-p256-sha256",
            Self::EcdsaP384Sha384 => "ecdsa-p384-sha384",
            Self::Ed25519 => "ed25519",
            Self::RsaPkcs1Sha256 => "rsa-pkcs1-sha256",
            Self::RsaPkcs1Sha384 => "rsa-pkcs1-sha384",
            Self::RsaPkcs1Sha512 => "rsa-pkcs1-sha512",
            Self::RsaPssSha256 => "rsa-pss-sha256",
            Self::RsaPssSha384 => "rsa-pss-sha384",
            Self::RsaPssSha512 => "rsa-pss-sha512",
        })
    }
}

impl KeyAlgorithm {
    /// The scheme that such keys sign with unless told otherwise: PKCS#1 v1.5 with SHA-256 for
    /// RSA, the hash of the curve's size for ECDSA.
    pub fn default_scheme(self) -> SignatureScheme {
        match self {
            Self::EcP256 => SignatureScheme::EcdsaP256Sha256,
            Self::EcP384 => SignatureScheme::EcdsaP384Sha384,
            Self::Ed25519 => SignatureScheme::Ed25519,
            Self::Rsa2048 | Self::Rsa3072 | Self::Rsa4096 => SignatureScheme::RsaPkcs1Sha256,
        }
    }
}

impl fmt::Display for KeyAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EcP256 => "p256",
            Self::EcP384 => "p384",
            Self::Ed25519 => "ed25519",
            Self::Rsa2048 => "rsa2048",
            Self::Rsa3072 => "rsa3072",
            Self::Rsa4096 => "rsa4096",
        })
    }
}

/// A certificate is never a key (CVE-2025-49825); a security key's signature covers more than the
/// message, so that what is signed with one cannot be verified here.
fn refuse_openssh_algorithm(name: &str) -> Result<(), KeyError> {
    if name.contains("-cert-v0") {
        return Err(KeyError::Malformed(format!(
            "this is an SSH certificate ({name}), not a public key; give the file without -cert"
        )));
    }
    match name.starts_with("sk-") || name == "ssh-dss" {
        true => Err(unsupported_openssh(name)),
        false => Ok(()),
    }
}

fn without_zeros(number: &[u8]) -> &[u8] {
    let start = number.iter().take_while(|byte| **byte == 0).count();
    &number[start..]
}

fn unsupported_openssh(name: &str) -> KeyError {
    KeyError::Unsupported(format!("an OpenSSH key of type {name}"))
}

fn malformed(what: &str, error: impl fmt::Display) -> KeyError {
    KeyError::Malformed(format!("{what}: {error}"))
}

const PEM_LABEL: &str = "PUBLIC KEY";

#[cfg(test)]
mod tests {
    use aws_lc_rs::{
        rand::SystemRandom,
        signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
    };

    use super::*;

    #[test]
    fn a_file_of_two_keys_is_not_a_key() {
        let line =
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAw2eHYcy2tPRMwp6zvxDluRP/ZOjWp2Wty72oOTLzMP";
        let two = PublicKey::from_openssh(&format!("{line} a\n{line} b\n"));
        assert!(two.unwrap_err().to_string().contains("several lines"));
    }

    #[test]
    fn openssh_certificates_and_security_keys_are_not_keys() {
        let certificate = PublicKey::from_openssh("ssh-ed25519-cert-v01@openssh.com AAAA me");
        assert!(
            matches!(certificate, Err(KeyError::Malformed(what)) if what.contains("certificate"))
        );

        let security_key = PublicKey::from_openssh("sk-ssh-ed25519@openssh.com AAAA me");
        assert!(matches!(security_key, Err(KeyError::Unsupported(_))));
    }

    #[test]
    fn a_point_off_its_curve_is_refused() {
        let mut der = p256().1.spki_der().to_vec();
        *der.last_mut().unwrap() ^= 1;
        assert!(matches!(PublicKey::from_spki_der(&der), Err(KeyError::Malformed(_))));
    }

    #[test]
    fn truncated_and_trailing_bytes_are_refused() {
        let der = p256().1.spki_der().to_vec();
        for length in 0..der.len() {
            assert!(PublicKey::from_spki_der(&der[..length]).is_err(), "{length} bytes");
        }
        assert!(PublicKey::from_spki_der(&[&der[..], &[0]].concat()).is_err());
    }

    #[test]
    fn ed25519_keys_of_small_order_or_not_canonical_are_refused() {
        let spki = |key: [u8; 32]| {
            let mut der = hex::decode("302a300506032b6570032100").unwrap();
            der.extend_from_slice(&key);
            PublicKey::from_spki_der(&der)
        };
        let mut identity = [0; 32];
        identity[0] = 1;
        let mut prime = [0xff; 32];
        (prime[0], prime[31]) = (0xed, 0x7f);
        for key in [[0; 32], identity, prime] {
            assert!(matches!(spki(key), Err(KeyError::Malformed(_))), "{key:?}");
        }
        // RFC 8032 section 7.1, test 1.
        let good = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
        assert!(spki(hex::decode(good).unwrap().try_into().unwrap()).is_ok());
    }

    #[test]
    fn messages_and_digests_verify_alike() {
        let (pair, key) = p256();
        let scheme = key.default_scheme();
        let signed = pair.sign(&SystemRandom::new(), b"text").unwrap();
        let signature = Signature(signed.as_ref().to_vec());
        let digest = scheme.digest(b"text").unwrap();
        assert_eq!(key.verify(scheme, b"text", &signature), Ok(()));
        assert_eq!(key.verify_digest(scheme, &digest, &signature), Ok(()));
        assert_eq!(key.verify(scheme, b"other", &signature), Err(BadSignature));
        assert_eq!(key.verify_digest(scheme, &digest[1..], &signature), Err(BadSignature));
        assert_eq!(key.verify(SignatureScheme::Ed25519, b"text", &signature), Err(BadSignature));
    }

    #[test]
    fn a_key_survives_each_of_its_encodings() {
        let key = p256().1;
        assert_eq!(PublicKey::from_pem(&key.to_pem()), Ok(key.clone()));
        assert_eq!(PublicKey::from_openssh(&key.to_openssh()), Ok(key));
    }

    #[test]
    fn names_are_those_of_the_configuration() {
        let written = toml::Value::try_from([KeyAlgorithm::EcP256, KeyAlgorithm::Rsa2048]).unwrap();
        assert_eq!(written.to_string(), r#"["p256", "rsa2048"]"#);
        for scheme in [SignatureScheme::EcdsaP256Sha256, SignatureScheme::RsaPkcs1Sha256] {
            let written = toml::Value::try_from(scheme).unwrap();
            assert_eq!(written.as_str(), Some(scheme.to_string().as_str()));
        }
    }

    fn p256() -> (EcdsaKeyPair, PublicKey) {
        use aws_lc_rs::encoding::AsDer;

        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let der = pair.public_key().as_der().unwrap();
        let key = PublicKey::from_spki_der(der.as_ref()).unwrap();
        (pair, key)
    }
}
