//! Texts that only the holders of some keys can read: EnvelopedData of CMS (RFC 5652 section 6), as
//! `openssl cms -decrypt` and PowerShell's `Unprotect-CmsMessage` open it.
//!
//! The text is encrypted by AES-256 in CBC mode, its key for each recipient by RSA-OAEP with SHA-256
//! (RFC 3560): the strongest that both programs take. Neither takes a mode that would show changes,
//! so that what is decrypted is what was written only where nobody else could write the file.

use aws_lc_rs::{
    cipher::{AES_256, DecryptionContext, PaddedBlockEncryptingKey, UnboundCipherKey},
    error::Unspecified,
    rand,
    rsa::{OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, PublicEncryptingKey},
};
use der::{
    Encode,
    pem::{self, LineEnding},
};
use jiff::Timestamp;
use thiserror::Error;
use x509_cert::ext::pkix::{BasicConstraints, KeyUsage};
use zeroize::Zeroizing;

use super::{
    algorithm::{SEQUENCE, tlv},
    read_strictly, time,
};
use crate::keys::{KeyAlgorithm, KeyError, PublicKey};

/// Somebody who can read what is encrypted for him: the holder of the key of a certificate.
#[derive(Clone, Debug)]
pub struct Recipient {
    subject: String,
    /// Issuer and serial number, by which programs find the key (DER).
    identifier: Vec<u8>,
    /// SubjectPublicKeyInfo (DER).
    key: Vec<u8>,
}

/// Nothing is encrypted for a certificate.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum RecipientError {
    /// It is a CA's, whose key decrypts nothing.
    #[error("{0} is a CA's")]
    Authority(String),
    /// Its key is of a kind that is not used here.
    #[error("its key: {0}")]
    Key(#[source] KeyError),
    /// It is no certificate.
    #[error("the certificate cannot be read: {0}")]
    Malformed(String),
    /// It says what its key is for, and encryption is not there.
    #[error("the key of {0} is not for encryption: its key usage has no keyEncipherment")]
    NotForEncryption(String),
    /// Only RSA keys take keys to them.
    #[error("{subject} has a key of {algorithm}: only RSA keys decrypt")]
    NotRsa {
        /// Whose it is.
        subject: String,
        /// What it has.
        algorithm: KeyAlgorithm,
    },
    /// Its time is over, or has not come.
    #[error("{subject} is valid from {not_before} until {not_after}, and not now")]
    NotValidNow {
        /// Whose it is.
        subject: String,
        /// The first second.
        not_before: Timestamp,
        /// The last second.
        not_after: Timestamp,
    },
}

/// A text was not encrypted.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("the text cannot be encrypted")]
pub struct EncryptError;

impl Recipient {
    /// Takes a certificate (DER) for whose key texts are to be encrypted. Who issued it is not looked
    /// at: whoever names it trusts it.
    ///
    /// # Errors
    ///
    /// [`RecipientError`].
    pub fn from_der(der: &[u8], now: Timestamp) -> Result<Self, RecipientError> {
        let malformed = |error: der::Error| RecipientError::Malformed(error.to_string());
        let certificate =
            read_strictly(der).map_err(|error| RecipientError::Malformed(error.to_string()))?;
        let tbs = certificate.tbs_certificate();
        let subject = tbs.subject().to_string();
        let validity = tbs.validity();
        let (not_before, not_after) =
            (time::clamped(&validity.not_before), time::clamped(&validity.not_after));
        if now < not_before || now > not_after {
            return Err(RecipientError::NotValidNow { subject, not_before, not_after });
        }
        let constraints = tbs.get_extension::<BasicConstraints>().map_err(malformed)?;
        if constraints.is_some_and(|(_, constraints)| constraints.ca) {
            return Err(RecipientError::Authority(subject));
        }
        let usage = tbs.get_extension::<KeyUsage>().map_err(malformed)?;
        if usage.is_some_and(|(_, usage)| !usage.key_encipherment()) {
            return Err(RecipientError::NotForEncryption(subject));
        }
        let key = tbs.subject_public_key_info().to_der().map_err(malformed)?;
        let algorithm = PublicKey::from_spki_der(&key).map_err(RecipientError::Key)?.algorithm();
        match algorithm {
            KeyAlgorithm::Rsa2048 | KeyAlgorithm::Rsa3072 | KeyAlgorithm::Rsa4096 => {}
            _ => return Err(RecipientError::NotRsa { subject, algorithm }),
        }
        let issuer = tbs.issuer().to_der().map_err(malformed)?;
        let serial = tbs.serial_number().to_der().map_err(malformed)?;
        Ok(Self { subject, identifier: tlv(SEQUENCE, &[issuer, serial].concat()), key })
    }

    /// The subject of the certificate (RFC 4514).
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// KeyTransRecipientInfo (RFC 5652 section 6.2.1).
    fn information(&self, content_key: &[u8]) -> Result<Vec<u8>, Unspecified> {
        let key = PublicEncryptingKey::from_der(&self.key).map_err(|_| Unspecified)?;
        let key = OaepPublicEncryptingKey::new(key)?;
        let mut room = vec![0; key.ciphertext_size()];
        let encrypted = key.encrypt(&OAEP_SHA256_MGF1SHA256, content_key, &mut room, None)?;
        let encrypted = tlv(OCTET_STRING, encrypted);
        Ok(tlv(SEQUENCE, &[VERSION_0, &self.identifier, OAEP_SHA256, &encrypted].concat()))
    }
}

/// A text that any one of the recipients can read alone, as PEM (`CMS`).
///
/// # Errors
///
/// There is no recipient, or the system has no random numbers.
pub fn encrypt(text: &[u8], recipients: &[Recipient]) -> Result<String, EncryptError> {
    let der = enveloped(text, recipients).map_err(|Unspecified| EncryptError)?;
    pem::encode_string("CMS", LineEnding::LF, &der).map_err(|_| EncryptError)
}

/// ContentInfo with EnvelopedData (RFC 5652 sections 3 and 6.1).
fn enveloped(text: &[u8], recipients: &[Recipient]) -> Result<Vec<u8>, Unspecified> {
    if recipients.is_empty() {
        return Err(Unspecified);
    }
    // 1. The text, by a key of its own.
    let mut key = Zeroizing::new([0; 32]);
    rand::fill(key.as_mut())?;
    let cipher = PaddedBlockEncryptingKey::cbc_pkcs7(UnboundCipherKey::new(&AES_256, &*key)?)?;
    // Room for the padding from the start: a vector that grows would leave the text behind.
    let mut content = Vec::with_capacity(text.len() + BLOCK_LENGTH);
    content.extend_from_slice(text);
    let DecryptionContext::Iv128(iv) = cipher.encrypt(&mut content)? else {
        return Err(Unspecified);
    };
    // 2. The key, for each recipient. The order of a SET OF is that of its octets (X.690 section 11.6).
    let informations = recipients.iter().map(|recipient| recipient.information(&*key));
    let mut informations = informations.collect::<Result<Vec<_>, _>>()?;
    informations.sort();
    // 3. All of it.
    let method = [AES_256_CBC, &tlv(OCTET_STRING, iv.as_ref())].concat();
    let encrypted = [ID_DATA, &tlv(SEQUENCE, &method), &tlv(CONTEXT_0, &content)].concat();
    let parts = [VERSION_0, &tlv(SET, &informations.concat()), &tlv(SEQUENCE, &encrypted)];
    let enveloped = tlv(CONTEXT_0 | CONSTRUCTED, &tlv(SEQUENCE, &parts.concat()));
    Ok(tlv(SEQUENCE, &[ID_ENVELOPED_DATA, &enveloped].concat()))
}

/// Of AES.
const BLOCK_LENGTH: usize = 16;

const OCTET_STRING: u8 = 0x04;
const SET: u8 = 0x31;
const CONTEXT_0: u8 = 0x80;
const CONSTRUCTED: u8 = 0x20;
/// Of EnvelopedData whose recipients are all named by issuer and serial number, and of those.
const VERSION_0: &[u8] = &[0x02, 0x01, 0x00];
/// 1.2.840.113549.1.7.1.
const ID_DATA: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01";
/// 1.2.840.113549.1.7.3.
const ID_ENVELOPED_DATA: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x03";
/// 2.16.840.1.101.3.4.1.42 (RFC 3565 section 4.1).
const AES_256_CBC: &[u8] = b"\x06\x09\x60\x86\x48\x01\x65\x03\x04\x01\x2a";
/// id-RSAES-OAEP with SHA-256, and MGF1 with SHA-256 (RFC 4055 section 4.1).
const OAEP_SHA256: &[u8] = b"\x30\x3c\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x07\x30\x2f\
    \xa0\x0f\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\
    \xa1\x1c\x30\x1a\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x08\
    \x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_could_read_is_not_written() {
        assert_eq!(encrypt(b"secret", &[]), Err(EncryptError));
    }

    #[test]
    fn what_is_no_certificate_is_nobody() {
        let now = Timestamp::UNIX_EPOCH;
        for nothing in [&b""[..], b"\x30\x00", &[0x30; 70_000]] {
            let told = Recipient::from_der(nothing, now).unwrap_err();
            assert!(matches!(told, RecipientError::Malformed(_)), "{told}");
        }
    }
}
