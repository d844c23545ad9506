//! A key pair in two tokens: made in one, copied into the other in the same minute, and from then on
//! extractable from neither.
//!
//! ```text
//! source                                         backup
//! SO    transport key, CKA_TRUSTED
//! user  key pair, CKA_EXTRACTABLE, CKA_WRAP_WITH_TRUSTED
//!       wrapped under the transport key ────────► unwrapped, not extractable
//!       CKA_EXTRACTABLE=F, for ever                its public half, written
//!       transport key gone                         transport key gone
//! ```
//!
//! The transport key is 32 random bytes that live in this process and, as session objects, in both
//! tokens. It is the security officer's to say that a key is trusted (PKCS#11 v3.1 section 4.9), so
//! that nobody who is logged in as the user wraps the new key under a key of their own.

use cryptoki::{
    mechanism::Mechanism,
    object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle},
    session::Session as RawSession,
    types::Ulong,
};

use super::{
    Module, PinOwner, Session, TokenIdentity,
    failure::token_error,
    mechanism::Mechanisms,
    object::{
        id_attribute, key_type, label_attribute, private_template, public_template, read_flags,
        read_public_key,
    },
};
use crate::{
    keys::KeyAlgorithm,
    secret::Secret,
    token::{Generated, KeyId, KeyLabel, KeyRef, TokenError},
};

/// A token, and the PINs that open it.
pub struct Opening<'a> {
    /// Which.
    pub token: &'a TokenIdentity,
    /// The security officer's PIN, where it is the source.
    pub so_pin: Option<&'a Secret>,
    /// The user's PIN.
    pub pin: &'a Secret,
}

impl Module {
    /// Makes a key pair in one token and a copy of it in another. No session of this process may be
    /// open on either. What was made and is not whole is destroyed by [`Session::discard`].
    ///
    /// # Errors
    ///
    /// A token has no mechanism for it, or lets its keys be wrapped by anybody, or fails.
    pub fn generate_with_copy(
        &self,
        source: &Opening<'_>,
        backup: &Opening<'_>,
        transport: &[u8; 32],
        algorithm: KeyAlgorithm,
        (label, id): (&KeyLabel, &KeyId),
    ) -> Result<KeyRef, TokenError> {
        // 1. The transport key, trusted: only the security officer can say so.
        let so_pin = source.so_pin.ok_or_else(|| TokenError::Pin { code: "not given".into() })?;
        let officer = self.logged_in(source.token, PinOwner::SecurityOfficer, so_pin)?;
        let mut template = transport_template(transport);
        template.extend([Attribute::Wrap(true), Attribute::Trusted(true)]);
        let wrapping =
            officer.create_object(&template).map_err(|error| match token_error(error) {
                TokenError::Refused { code, .. } => TokenError::MechanismMissing {
                    what: format!("a key that its security officer trusts (CKA_TRUSTED: {code})"),
                },
                error => error,
            })?;
        officer.logout().map_err(token_error)?;

        // 2. The key pair: to be wrapped under that, and under nothing else.
        let user = self.logged_in(source.token, PinOwner::User, source.pin)?;
        let (slot, _) = self.the_one(source.token)?;
        let mechanism = Mechanisms::read(&self.0.pkcs11, slot)?.generation(algorithm)?;
        let mut private = private_template(algorithm, label, id, false);
        private.retain(|attribute| !matches!(attribute, Attribute::Extractable(_)));
        private.extend(WITHHELD.iter().cloned());
        private.extend([Attribute::Extractable(true), Attribute::WrapWithTrusted(true)]);
        let public = public_template(algorithm, label, id, true);
        let (public, private) =
            user.generate_key_pair(&mechanism, &public, &private).map_err(token_error)?;
        refuse_wrapping(&user, private, label)?;
        let wrapped = user.wrap_key(&Mechanism::AesKeyWrapPad, wrapping, private);
        let wrapped = wrapped.map_err(token_error)?;

        // 3. The copy.
        let public_key = read_public_key(&user, public)?
            .map_err(|error| unfit(label, format!("its public key: {error}")))?;
        let key = KeyRef { label: label.clone(), id: id.clone(), public_key };
        let told = user.get_attributes(public, &PUBLIC_KEY).map_err(token_error)?;
        self.unwrap_copy(backup, transport, &key, &wrapped, told)?;

        // 4. From here on, neither token lets it out.
        seal(&user, private)?;
        officer.destroy_object(wrapping).map_err(token_error)?;
        user.logout().map_err(token_error)?;
        Ok(key)
    }

    fn unwrap_copy(
        &self,
        backup: &Opening<'_>,
        transport: &[u8; 32],
        key: &KeyRef,
        wrapped: &[u8],
        public: Vec<Attribute>,
    ) -> Result<(), TokenError> {
        let user = self.logged_in(backup.token, PinOwner::User, backup.pin)?;
        let mut template = transport_template(transport);
        template.extend([Attribute::Unwrap(true), Attribute::Wrap(false)]);
        let unwrapping = user.create_object(&template).map_err(token_error)?;
        let kind = key_type(key.public_key.algorithm());
        let mut template = vec![
            Attribute::Class(ObjectClass::PRIVATE_KEY),
            Attribute::KeyType(kind),
            Attribute::Token(true),
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::Sign(true),
            label_attribute(&key.label),
            id_attribute(&key.id),
        ];
        template.extend(WITHHELD.iter().cloned());
        let private = user
            .unwrap_key(&Mechanism::AesKeyWrapPad, unwrapping, wrapped, &template)
            .map_err(token_error)?;
        seal(&user, private)?;
        let mut template = vec![
            Attribute::Class(ObjectClass::PUBLIC_KEY),
            Attribute::KeyType(kind),
            Attribute::Token(true),
            Attribute::Modifiable(false),
            Attribute::Wrap(false),
            label_attribute(&key.label),
            id_attribute(&key.id),
        ];
        template.extend(public);
        user.create_object(&template).map_err(token_error)?;
        user.destroy_object(unwrapping).map_err(token_error)?;
        user.logout().map_err(token_error)
    }
}

impl Session {
    /// Reads one of the two key pairs back, and lets it sign a fresh challenge under the public key
    /// that both have.
    ///
    /// # Errors
    ///
    /// It is not there, alone and fit, or does not sign.
    pub fn prove_copy(&mut self, key: &KeyRef) -> Result<Generated, TokenError> {
        let attributes = read_flags(&self.session, self.pair(key)?.private)?;
        for name in ["CKA_DECRYPT", "CKA_DERIVE", "CKA_SIGN_RECOVER", "CKA_UNWRAP"] {
            if attributes.contains(&(name, true)) {
                return Err(unfit(&key.label, format!("{name} is true")));
            }
        }
        for name in ["CKA_PRIVATE", "CKA_TOKEN"] {
            if !attributes.contains(&(name, true)) {
                return Err(unfit(&key.label, format!("{name} is not true")));
            }
        }
        self.prove_possession(key)?;
        Ok(Generated { key: key.clone(), attributes })
    }
}

/// Sets what can be set once only: CKA_EXTRACTABLE to false, then, by a copy, CKA_MODIFIABLE (section
/// 4.4: only C_CopyObject changes that).
fn seal(user: &RawSession, private: ObjectHandle) -> Result<(), TokenError> {
    let told = user.get_attributes(private, &[AttributeType::Extractable]).map_err(token_error)?;
    if told != [Attribute::Extractable(false)] {
        user.update_attributes(private, &[Attribute::Extractable(false)]).map_err(token_error)?;
    }
    user.copy_object(private, &[Attribute::Modifiable(false)]).map_err(token_error)?;
    user.destroy_object(private).map_err(token_error)
}

/// A key that the user makes must not wrap it: otherwise nothing of this is worth anything.
fn refuse_wrapping(
    user: &RawSession,
    private: ObjectHandle,
    label: &KeyLabel,
) -> Result<(), TokenError> {
    let template = [
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::AES),
        Attribute::ValueLen(Ulong::new(32)),
        Attribute::Token(false),
        Attribute::Wrap(true),
    ];
    let own = user.generate_key(&Mechanism::AesKeyGen, &template).map_err(token_error)?;
    let wrapped = user.wrap_key(&Mechanism::AesKeyWrapPad, own, private);
    user.destroy_object(own).map_err(token_error)?;
    match wrapped {
        Ok(_) => Err(unfit(label, "the token wraps it under a key that nobody trusts".to_owned())),
        Err(_) => Ok(()),
    }
}

/// A session object that nobody reads: it goes with the session at the latest.
fn transport_template(transport: &[u8; 32]) -> Vec<Attribute> {
    vec![
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::AES),
        Attribute::Value(transport.to_vec()),
        Attribute::Token(false),
        // The security officer sees no private objects.
        Attribute::Private(false),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Encrypt(false),
        Attribute::Decrypt(false),
    ]
}

fn unfit(label: &KeyLabel, what: String) -> TokenError {
    TokenError::KeyUnfit { label: label.clone(), what }
}

/// What a key that signs does not do.
const WITHHELD: [Attribute; 4] = [
    Attribute::Decrypt(false),
    Attribute::Derive(false),
    Attribute::SignRecover(false),
    Attribute::Unwrap(false),
];

/// What a public key consists of; a token leaves out what the kind does not have.
const PUBLIC_KEY: [AttributeType; 4] = [
    AttributeType::EcParams,
    AttributeType::EcPoint,
    AttributeType::Modulus,
    AttributeType::PublicExponent,
];
