//! Attempts to do with a key what nobody may do with it. Attributes say what a token promises; only
//! an attempt says what it does.

use aws_lc_rs::{
    error::Unspecified,
    rsa::{Pkcs1PublicEncryptingKey, PublicEncryptingKey},
};
use cryptoki::{
    error::{Error, Result, RvError},
    mechanism::{
        Mechanism,
        elliptic_curve::{EcKdf, Ecdh1DeriveParams},
    },
    object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle},
    types::Ulong,
};

use super::{
    Session,
    failure::{code_name, token_error},
};
use crate::{
    keys::KeyAlgorithm,
    token::{KeyRef, TokenError},
};

/// What became of an attempt to misuse a key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Attempt {
    /// What was attempted.
    pub what: &'static str,
    /// How the token refused; `None` when it did not.
    pub refused: Option<String>,
}

/// The attempts on every key, by name, that leave the key as it is whatever comes of them.
pub const ATTEMPTS: [&str; 4] = [COPY, READ, USE, WRAP];

/// The attempts to change the key: where they succeed, it is another key, and must be destroyed.
pub const CHANGES: [&str; 2] = [EXTRACTABLE, NOT_SENSITIVE];

const COPY: &str = "copy it as an extractable key";
const EXTRACTABLE: &str = "make it extractable";
const NOT_SENSITIVE: &str = "make it not sensitive";
const READ: &str = "read its private value";
const USE: &str = "use it for another purpose than to sign";
const WRAP: &str = "wrap it under another key";

impl Session {
    /// Makes the attempts [`ATTEMPTS`] on a key, and, with `changes`, those of [`CHANGES`].
    ///
    /// # Errors
    ///
    /// The key is not there, or the token is gone: then nothing was refused.
    pub fn attempt_misuse(
        &mut self,
        key: &KeyRef,
        changes: bool,
    ) -> std::result::Result<Vec<Attempt>, TokenError> {
        let private = self.pair(key)?.private;
        let writer = self.writer()?;
        let mut attempts = vec![
            attempt(COPY, copy(&writer, private))?,
            attempt(READ, read(&writer, private))?,
            attempt(USE, misuse(&writer, private, key)?)?,
            attempt(WRAP, wrap(&writer, private))?,
        ];
        if changes {
            let extractable = [Attribute::Extractable(true)];
            attempts.push(attempt(EXTRACTABLE, writer.update_attributes(private, &extractable))?);
            let not_sensitive = [Attribute::Sensitive(false)];
            attempts
                .push(attempt(NOT_SENSITIVE, writer.update_attributes(private, &not_sensitive))?);
        }
        Ok(attempts)
    }
}

fn copy(writer: &cryptoki::session::Session, private: ObjectHandle) -> Result<()> {
    let template = [Attribute::Extractable(true), Attribute::Token(false)];
    let copy = writer.copy_object(private, &template)?;
    // It goes with the session at the latest.
    let _ = writer.destroy_object(copy);
    Ok(())
}

/// cryptoki leaves out what the token does not tell.
fn read(writer: &cryptoki::session::Session, private: ObjectHandle) -> Result<()> {
    let secrets = [
        AttributeType::Value,
        AttributeType::PrivateExponent,
        AttributeType::Prime1,
        AttributeType::Prime2,
    ];
    let told = writer.get_attributes(private, &secrets)?;
    if told.is_empty() { Err(Error::NotSupported) } else { Ok(()) }
}

/// A key that decrypts or agrees on secrets for whoever asks.
fn misuse(
    writer: &cryptoki::session::Session,
    private: ObjectHandle,
    key: &KeyRef,
) -> std::result::Result<Result<()>, TokenError> {
    match key.public_key.algorithm() {
        KeyAlgorithm::Rsa2048 | KeyAlgorithm::Rsa3072 | KeyAlgorithm::Rsa4096 => {
            // A text that only this key decrypts: tpm2-pkcs11 begins with any key, and the TPM refuses.
            let encrypted = encrypt(key)?;
            Ok(writer.decrypt(&Mechanism::RsaPkcs, private, &encrypted).map(drop))
        }
        KeyAlgorithm::EcP256 | KeyAlgorithm::EcP384 | KeyAlgorithm::Ed25519 => {
            let parameters = Ecdh1DeriveParams::new(EcKdf::null(), key.public_key.bits());
            let template = [
                Attribute::Class(ObjectClass::SECRET_KEY),
                Attribute::KeyType(KeyType::GENERIC_SECRET),
                Attribute::Sensitive(false),
                Attribute::Extractable(true),
                Attribute::Token(false),
                Attribute::ValueLen(Ulong::new(32)),
            ];
            let mechanism = Mechanism::Ecdh1Derive(parameters);
            let derived = writer.derive_key(&mechanism, private, &template);
            Ok(derived.map(|derived| drop(writer.destroy_object(derived))))
        }
    }
}

/// A text under the public half of an RSA key (RFC 8017 section 7.2).
fn encrypt(key: &KeyRef) -> std::result::Result<Vec<u8>, TokenError> {
    let encrypt = || {
        let public_key = PublicEncryptingKey::from_der(key.public_key.spki_der())?;
        let public_key = Pkcs1PublicEncryptingKey::new(public_key)?;
        let mut encrypted = vec![0; public_key.ciphertext_size()];
        public_key.encrypt(b"nobody decrypts this", &mut encrypted)?;
        Ok::<_, Unspecified>(encrypted)
    };
    encrypt().map_err(|_| TokenError::Refused {
        call: "the encryption of a text".into(),
        code: "a failure".to_owned(),
    })
}

/// Under a key that is made for it and goes with the session, by every mechanism that tokens wrap
/// with. That one mechanism is missing tells less than how another refused.
fn wrap(writer: &cryptoki::session::Session, private: ObjectHandle) -> Result<()> {
    let template = [
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::AES),
        Attribute::ValueLen(Ulong::new(32)),
        Attribute::Token(false),
        Attribute::Wrap(true),
    ];
    let under = writer.generate_key(&Mechanism::AesKeyGen, &template)?;
    let missing = |error: &Error| matches!(error, Error::Pkcs11(RvError::MechanismInvalid, _));
    let mut refused = None;
    for mechanism in
        [Mechanism::AesCbcPad([0; 16]), Mechanism::AesKeyWrap, Mechanism::AesKeyWrapPad]
    {
        match writer.wrap_key(&mechanism, under, private) {
            Ok(_) => return Ok(()),
            Err(error) if refused.as_ref().is_none_or(missing) => refused = Some(error),
            Err(_) => {}
        }
    }
    let _ = writer.destroy_object(under);
    refused.map_or(Ok(()), Err)
}

/// A token that is gone refuses nothing.
fn attempt(what: &'static str, outcome: Result<()>) -> std::result::Result<Attempt, TokenError> {
    let refused = match outcome {
        Ok(()) => None,
        Err(
            error @ Error::Pkcs11(
                RvError::DeviceError
                | RvError::DeviceRemoved
                | RvError::SessionClosed
                | RvError::SessionHandleInvalid
                | RvError::TokenNotPresent
                | RvError::UserNotLoggedIn,
                _,
            ),
        ) => return Err(token_error(error)),
        Err(Error::Pkcs11(value, _)) => Some(code_name(value)),
        Err(Error::NotSupported) => Some("not told".to_owned()),
        Err(other) => Some(other.to_string()),
    };
    Ok(Attempt { what, refused })
}
