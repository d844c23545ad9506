//! RSA keys that are made on the caller's machine: what every domain controller takes.

use std::{fs, path::Path};

use aws_lc_rs::{
    encoding::{AsDer, PublicKeyX509Der},
    rand::SystemRandom,
    rsa::{KeyPair, KeySize},
    signature::{KeyPair as _, RSA_PKCS1_SHA256},
};
use der::{
    asn1::Null,
    oid::ObjectIdentifier,
    pem::{self, LineEnding},
};
use pki::{keys::PublicKey, x509::certificate::Certificate};
use zeroize::Zeroizing;

use crate::{
    identity::{IdentityError, invalid, refuse_open_mode, unreadable},
    local_key::{LocalKeyError, signing_request},
};

/// An RSA key of 2048 bits for X.509, made here.
#[derive(Debug)]
pub struct LocalRsaKey(KeyPair);

impl LocalRsaKey {
    /// Makes a new key.
    ///
    /// # Errors
    ///
    /// [`LocalKeyError::Generate`].
    pub fn generate() -> Result<Self, LocalKeyError> {
        Ok(Self(KeyPair::generate(KeySize::Rsa2048)?))
    }

    /// Takes up a key again that lies in a file.
    ///
    /// # Errors
    ///
    /// It cannot be read, is open to everyone on the machine, or is no RSA key.
    pub fn from_file(path: &Path) -> Result<Self, IdentityError> {
        refuse_open_mode(path)?;
        let text = fs::read_to_string(path).map_err(|source| unreadable(path, source))?;
        Self::from_private_pem(&Zeroizing::new(text)).map_err(|error| invalid(path, error))
    }

    /// Takes up a key again that [`private_pem`](Self::private_pem) gave, or another of RSA.
    ///
    /// # Errors
    ///
    /// [`LocalKeyError::NoRsaKey`].
    pub fn from_private_pem(text: &str) -> Result<Self, LocalKeyError> {
        let (label, der) = pem::decode_vec(text.as_bytes()).map_err(|_| LocalKeyError::NoRsaKey)?;
        let der = Zeroizing::new(der);
        match label {
            LABEL => KeyPair::from_pkcs8(&der).map(Self).map_err(|_| LocalKeyError::NoRsaKey),
            _ => Err(LocalKeyError::NoRsaKey),
        }
    }

    /// The private key as PEM `PRIVATE KEY` (PKCS#8, RFC 5958), not encrypted.
    ///
    /// # Errors
    ///
    /// [`LocalKeyError::Encode`].
    pub fn private_pem(&self) -> Result<Zeroizing<String>, LocalKeyError> {
        let text = pem::encode_string(LABEL, LineEnding::LF, &self.private_der()?)
            .map_err(der::Error::from)?;
        Ok(Zeroizing::new(text))
    }

    /// The private key as DER (PKCS#8, RFC 5958), not encrypted.
    ///
    /// # Errors
    ///
    /// [`LocalKeyError::Generate`].
    pub fn private_der(&self) -> Result<Zeroizing<Vec<u8>>, LocalKeyError> {
        Ok(Zeroizing::new(self.0.as_der()?.as_ref().to_vec()))
    }

    /// Whether a certificate is for this key.
    pub fn is_certified_by(&self, certificate: &Certificate) -> bool {
        self.public_key().is_ok_and(|own| own == *certificate.public_key())
    }

    /// A certificate signing request as PEM (PKCS#10, RFC 2986): the key, no name, no attribute.
    ///
    /// # Errors
    ///
    /// [`LocalKeyError::Encode`].
    pub fn signing_request(&self) -> Result<String, LocalKeyError> {
        let spki: PublicKeyX509Der = self.0.public_key().as_der()?;
        signing_request(spki.as_ref(), SHA256_WITH_RSA, Some(Null.into()), |message| {
            let mut signature = vec![0; self.0.public_modulus_len()];
            self.0.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature)?;
            Ok(signature)
        })
    }

    fn public_key(&self) -> Result<PublicKey, LocalKeyError> {
        let spki: PublicKeyX509Der = self.0.public_key().as_der()?;
        PublicKey::from_spki_der(spki.as_ref()).map_err(|_| LocalKeyError::NoRsaKey)
    }
}

/// PKCS#8 (RFC 7468 section 10).
const LABEL: &str = "PRIVATE KEY";

/// sha256WithRSAEncryption (RFC 4055 section 5); its parameters are NULL.
const SHA256_WITH_RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.11");
