//! Keys that are made on the caller's machine, and the proof that the caller has them.

use aws_lc_rs::{
    encoding::{AsBigEndian, AsDer, PublicKeyX509Der},
    error::Unspecified,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair},
};
use der::{
    Decode, DecodePem, Encode,
    asn1::{Any, BitString, ObjectIdentifier},
    pem::{self, LineEnding},
};
use pki::keys::PublicKey;
use ssh_key::{
    private::{Ed25519Keypair, Ed25519PrivateKey, KeypairData, PrivateKey},
    public::Ed25519PublicKey,
};
use thiserror::Error;
use x509_cert::{
    name::Name,
    request::{CertReq, CertReqInfo, Version},
    spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned},
};
use zeroize::Zeroizing;

/// A P-256 key for X.509, made here.
#[derive(Debug)]
pub struct LocalKey(EcdsaKeyPair);

/// An Ed25519 key for SSH, made here.
#[derive(Debug)]
pub struct LocalSshKey(PrivateKey);

/// A key cannot be made or encoded.
#[derive(Debug, Error)]
pub enum LocalKeyError {
    /// The cryptographic library failed, for want of random bytes most likely.
    #[error("cannot make a key: the cryptographic library failed")]
    Generate,
    /// The text is no such key.
    #[error("this is no P-256 key in PKCS#8")]
    NoKey,
    /// The text is no RSA key.
    #[error("this is no RSA key of 2048 bits or more in PKCS#8")]
    NoRsaKey,
    /// A DER structure was refused.
    #[error("cannot encode the key or its request")]
    Encode(#[from] der::Error),
    /// An OpenSSH structure was refused.
    #[error("cannot encode the SSH key")]
    Ssh(#[from] ssh_key::Error),
}

impl LocalKey {
    /// Makes a new key.
    ///
    /// # Errors
    ///
    /// [`LocalKeyError::Generate`].
    pub fn generate() -> Result<Self, LocalKeyError> {
        Ok(Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING)?))
    }

    /// Takes up a key again that [`private_pem`](Self::private_pem) gave.
    ///
    /// # Errors
    ///
    /// [`LocalKeyError::NoKey`].
    pub fn from_private_pem(text: &str) -> Result<Self, LocalKeyError> {
        let (_, der) = pem::decode_vec(text.as_bytes()).map_err(|_| LocalKeyError::NoKey)?;
        let der = Zeroizing::new(der);
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &der);
        pair.map(Self).map_err(|_| LocalKeyError::NoKey)
    }

    /// The private key as PEM `PRIVATE KEY` (PKCS#8, RFC 5958), not encrypted.
    ///
    /// # Errors
    ///
    /// [`LocalKeyError::Encode`].
    pub fn private_pem(&self) -> Result<Zeroizing<String>, LocalKeyError> {
        let text = pem::encode_string("PRIVATE KEY", LineEnding::LF, &self.private_der()?)
            .map_err(der::Error::from)?;
        Ok(Zeroizing::new(text))
    }

    /// The private key as DER (PKCS#8, RFC 5958), not encrypted.
    ///
    /// # Errors
    ///
    /// [`LocalKeyError::Generate`].
    pub fn private_der(&self) -> Result<Zeroizing<Vec<u8>>, LocalKeyError> {
        Ok(Zeroizing::new(self.0.to_pkcs8v1()?.as_ref().to_vec()))
    }

    /// Signs by ECDSA with SHA-256; in DER (RFC 3279 section 2.2.3).
    ///
    /// # Errors
    ///
    /// [`LocalKeyError::Generate`].
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, LocalKeyError> {
        Ok(self.0.sign(&SystemRandom::new(), message)?.as_ref().to_vec())
    }

    /// The public half.
    ///
    /// # Errors
    ///
    /// [`LocalKeyError::NoKey`].
    pub fn public_key(&self) -> Result<PublicKey, LocalKeyError> {
        let spki: PublicKeyX509Der = self.0.public_key().as_der()?;
        PublicKey::from_spki_der(spki.as_ref()).map_err(|_| LocalKeyError::NoKey)
    }

    /// Whether this PEM `CERTIFICATE` is for this key.
    pub fn is_certified_by(&self, certificate: &str) -> bool {
        let certificate = x509_cert::Certificate::from_pem(certificate);
        let point = self.0.public_key().as_ref();
        certificate.is_ok_and(|it| {
            it.tbs_certificate().subject_public_key_info().subject_public_key.raw_bytes() == point
        })
    }

    /// A certificate signing request as PEM (PKCS#10, RFC 2986): the key, no name, no attribute.
    /// The names of a certificate are the appliance's to decide.
    ///
    /// # Errors
    ///
    /// [`LocalKeyError::Encode`].
    pub fn signing_request(&self) -> Result<String, LocalKeyError> {
        let spki: PublicKeyX509Der = self.0.public_key().as_der()?;
        signing_request(spki.as_ref(), ECDSA_WITH_SHA256, None, |message| self.sign(message))
    }
}

/// A request (PKCS#10, RFC 2986) for the key of this SubjectPublicKeyInfo, as PEM.
pub(crate) fn signing_request(
    spki: &[u8],
    algorithm: ObjectIdentifier,
    parameters: Option<Any>,
    sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, LocalKeyError>,
) -> Result<String, LocalKeyError> {
    let info = CertReqInfo {
        version: Version::V1,
        subject: Name::default(),
        public_key: SubjectPublicKeyInfoOwned::from_der(spki)?,
        attributes: Default::default(),
    };
    let signature = sign(&info.to_der()?)?;
    let request = CertReq {
        info,
        algorithm: AlgorithmIdentifierOwned { oid: algorithm, parameters },
        signature: BitString::from_bytes(&signature)?,
    };
    let text = pem::encode_string("CERTIFICATE REQUEST", LineEnding::LF, &request.to_der()?)
        .map_err(der::Error::from)?;
    Ok(text)
}

impl LocalSshKey {
    /// Makes a new key.
    ///
    /// # Errors
    ///
    /// [`LocalKeyError::Generate`] or [`LocalKeyError::Ssh`].
    pub fn generate(comment: &str) -> Result<Self, LocalKeyError> {
        let pair = Ed25519KeyPair::generate()?;
        let public = Ed25519PublicKey::try_from(pair.public_key().as_ref())?;
        let seed = Zeroizing::new(
            <[u8; 32]>::try_from(pair.seed()?.as_be_bytes()?.as_ref())
                .map_err(|_| LocalKeyError::Generate)?,
        );
        let private = Ed25519PrivateKey::from_bytes(&seed);
        let pair = KeypairData::Ed25519(Ed25519Keypair { public, private });
        Ok(Self(PrivateKey::new(pair, comment)?))
    }

    /// The private key as OpenSSH writes it, not encrypted.
    ///
    /// # Errors
    ///
    /// [`LocalKeyError::Ssh`].
    pub fn private_text(&self) -> Result<Zeroizing<String>, LocalKeyError> {
        Ok(self.0.to_openssh(LineEnding::LF)?)
    }

    /// Whether this line of a `-cert.pub` file is for this key.
    pub fn is_certified_by(&self, line: &str) -> bool {
        let certificate = ssh_key::Certificate::from_openssh(line.trim_end());
        certificate.is_ok_and(|it| it.public_key() == self.0.public_key().key_data())
    }

    /// The public key line, with the comment and without line end.
    ///
    /// # Errors
    ///
    /// [`LocalKeyError::Ssh`].
    pub fn public_line(&self) -> Result<String, LocalKeyError> {
        Ok(self.0.public_key().to_openssh()?)
    }
}

impl From<Unspecified> for LocalKeyError {
    fn from(_: Unspecified) -> Self {
        Self::Generate
    }
}

/// ecdsa-with-SHA256 (RFC 5758 section 3.2); it has no parameters.
const ECDSA_WITH_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
