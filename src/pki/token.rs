//! Tokens: where private keys live and signatures are made.
//!
//! Two implementations stand behind each trait: PKCS#11 ([`pkcs11`]) and software keys
//! ([`software`]) for tests.

pub mod pkcs11;
pub mod software;

use std::{borrow::Cow, fmt, str::FromStr};

use thiserror::Error;

use crate::keys::{KeyAlgorithm, PublicKey, Signature, SignatureScheme};

/// A session on a token: finds public keys and signs.
///
/// A session is used by one thread at a time (PKCS#11 section 6.7.6), hence `&mut self`.
pub trait Token {
    /// Checks that the private key of `key` is here, alone, for `key.label`'s purpose, and fit to
    /// sign with: found through its public key and CKA_ID, never by label alone.
    ///
    /// # Errors
    ///
    /// [`TokenError::KeyMissing`], [`TokenError::KeyAmbiguous`], [`TokenError::KeyUnfit`], or the
    /// token's own failure.
    fn find(&mut self, key: &KeyRef) -> Result<(), TokenError>;

    /// Signs with the private key of `key`.
    ///
    /// # Errors
    ///
    /// As [`find`](Self::find), [`TokenError::MechanismMissing`] when the token cannot make such a
    /// signature, and [`TokenError::InputLength`] for a digest whose length is not the scheme's.
    fn sign(
        &mut self,
        key: &KeyRef,
        scheme: SignatureScheme,
        input: Input<'_>,
    ) -> Result<Signature, TokenError>;
}

/// A token in which keys can be made and destroyed: only the ceremony takes one, and the agent of a
/// bot for the bot's own.
pub trait KeyStore: Token {
    /// Checks that no object has this label or this CKA_ID, so that a key of these can be made.
    ///
    /// # Errors
    ///
    /// [`TokenError::KeyExists`], or the token's own failure.
    fn vacant(&mut self, label: &KeyLabel, id: &KeyId) -> Result<(), TokenError>;

    /// Makes a key pair: sensitive, never extractable, for signing only; reads the attributes back
    /// and checks them.
    ///
    /// # Errors
    ///
    /// [`TokenError::KeyExists`] when any object has this label or this CKA_ID.
    fn generate(
        &mut self,
        algorithm: KeyAlgorithm,
        label: &KeyLabel,
        id: &KeyId,
    ) -> Result<Generated, TokenError>;

    /// Destroys both halves of a key pair.
    ///
    /// # Errors
    ///
    /// As [`Token::find`].
    fn destroy(&mut self, key: &KeyRef) -> Result<(), TokenError>;
}

/// What [`KeyStore::generate`] made and read back.
#[derive(Clone, Debug)]
pub struct Generated {
    /// The key, as it is to be found from now on.
    pub key: KeyRef,
    /// The attributes read back from the private key, by their PKCS#11 names (`CKA_SENSITIVE`,
    /// `CKA_NEVER_EXTRACTABLE`, …), in the order in which they were checked.
    pub attributes: Vec<(&'static str, bool)>,
}

/// What is to be signed.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// The digest of a message, already made with the scheme's hash. Ed25519 takes none.
    Digest(&'a [u8]),
    /// A whole message; hashed by the token, or in software where it lacks the mechanism.
    Message(&'a [u8]),
}

impl Input<'_> {
    /// Checks a digest's length: tokens sign any (SoftHSM takes 48 bytes under P-256).
    pub(crate) fn check(self, scheme: SignatureScheme) -> Result<(), TokenError> {
        match (self, scheme.digest_len()) {
            (Self::Digest(_), None) => {
                Err(TokenError::MechanismMissing { what: format!("a digest under {scheme}") })
            }
            (Self::Digest(digest), Some(wanted)) if digest.len() != wanted => {
                Err(TokenError::InputLength { scheme, wanted, got: digest.len() })
            }
            _ => Ok(()),
        }
    }
}

/// Names one key pair in a token.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct KeyRef {
    /// CKA_LABEL: purpose and name.
    pub label: KeyLabel,
    /// CKA_ID.
    pub id: KeyId,
    /// The pinned public key.
    pub public_key: PublicKey,
}

/// CKA_ID: 1 to 20 bytes, hexadecimal as text.
#[derive(
    Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, serde::Deserialize, serde::Serialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct KeyId(Vec<u8>);

impl KeyId {
    /// A key id of these bytes.
    ///
    /// # Errors
    ///
    /// There are none, or more than 20.
    pub fn new(bytes: &[u8]) -> Result<Self, ParseKeyNameError> {
        if bytes.is_empty() || bytes.len() > 20 {
            return Err(ParseKeyNameError::Id);
        }
        Ok(Self(bytes.to_vec()))
    }

    /// The bytes of CKA_ID.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}

impl From<[u8; 8]> for KeyId {
    fn from(bytes: [u8; 8]) -> Self {
        Self(bytes.to_vec())
    }
}

impl TryFrom<String> for KeyId {
    type Error = ParseKeyNameError;

    fn try_from(text: String) -> Result<Self, ParseKeyNameError> {
        let bytes = hex::decode(&text).map_err(|_| ParseKeyNameError::Id)?;
        Self::new(&bytes)
    }
}

impl From<KeyId> for String {
    fn from(id: KeyId) -> Self {
        id.to_string()
    }
}

/// What a key may sign. It is the first part of the key's label in the token, so that a key made
/// for one purpose cannot be configured for another.
#[derive(
    Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, serde::Deserialize, serde::Serialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// Certificates and revocation lists of a CA.
    Issuing,
    /// The proof by which a bot joins.
    Join,
    /// SSH user authentication of a bot. Such a key is made and destroyed as its certificates come
    /// and go.
    Login,
    /// What is not a certificate: log checkpoints, KRL bundles.
    Publication,
    /// Digests that a client hands over.
    Raw,
}

impl Purpose {
    /// The word that labels begin with.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Issuing => "issuing",
            Self::Join => "join",
            Self::Login => "login",
            Self::Publication => "publication",
            Self::Raw => "raw",
        }
    }
}

/// CKA_LABEL: `PURPOSE/NAME`, for example `issuing/ssh-user`.
///
/// A name is 1 to 32 characters of `a-z`, `0-9` and `-`.
#[derive(
    Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, serde::Deserialize, serde::Serialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct KeyLabel {
    purpose: Purpose,
    name: String,
}

impl KeyLabel {
    /// The label of a key called `name`.
    ///
    /// # Errors
    ///
    /// The name is empty, longer than 32 characters, or has others than `a-z`, `0-9` and `-`.
    pub fn new(purpose: Purpose, name: &str) -> Result<Self, ParseKeyNameError> {
        let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
        if name.is_empty() || name.len() > 32 || !name.bytes().all(plain) {
            return Err(ParseKeyNameError::Label);
        }
        Ok(Self { purpose, name: name.to_owned() })
    }

    /// What the key may sign.
    pub fn purpose(&self) -> Purpose {
        self.purpose
    }

    /// The name after the purpose.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for KeyLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.purpose.as_str(), self.name)
    }
}

impl FromStr for KeyLabel {
    type Err = ParseKeyNameError;

    fn from_str(text: &str) -> Result<Self, ParseKeyNameError> {
        let (purpose, name) = text.split_once('/').ok_or(ParseKeyNameError::Label)?;
        let known =
            [Purpose::Issuing, Purpose::Join, Purpose::Login, Purpose::Publication, Purpose::Raw];
        let purpose = known.into_iter().find(|known| known.as_str() == purpose);
        let purpose = purpose.ok_or(ParseKeyNameError::Label)?;
        Self::new(purpose, name)
    }
}

impl TryFrom<String> for KeyLabel {
    type Error = ParseKeyNameError;

    fn try_from(text: String) -> Result<Self, ParseKeyNameError> {
        text.parse()
    }
}

impl From<KeyLabel> for String {
    fn from(label: KeyLabel) -> Self {
        label.to_string()
    }
}

/// A text names no key.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum ParseKeyNameError {
    /// Not a CKA_ID.
    #[error("a key id is 1 to 20 bytes, as hexadecimal digits")]
    Id,
    /// Not a label of ours.
    #[error(
        "a key label is PURPOSE/NAME: PURPOSE is issuing, join, login, publication or raw, NAME has \
         1 to 32 of a-z, 0-9, -"
    )]
    Label,
}

macro_rules! key_of_purpose {
    ($(#[$doc:meta])* $name:ident, $purpose:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Eq, PartialEq)]
        pub struct $name(KeyRef);

        impl $name {
            /// Takes a key whose label says this purpose.
            ///
            /// # Errors
            ///
            /// The label says another purpose.
            pub fn new(key: KeyRef) -> Result<Self, WrongPurpose> {
                if key.label.purpose() == Purpose::$purpose {
                    Ok(Self(key))
                } else {
                    Err(WrongPurpose { label: key.label, wanted: Purpose::$purpose })
                }
            }

            /// The key in the token.
            pub fn key(&self) -> &KeyRef {
                &self.0
            }
        }
    };
}

key_of_purpose!(
    /// A CA's key: signs only what this crate prepared and linted.
    IssuingKey, Issuing
);
key_of_purpose!(
    /// The key for what is not a certificate: log checkpoints, KRL bundles, OCSP responses. What it
    /// signs begins differently for each kind, so that none is ever taken for another: a statement
    /// of revocations with `chancery-revocations-v1` and a line end, an OCSP response with the DER
    /// tag `30`.
    PublicationKey, Publication
);
key_of_purpose!(
    /// A key for digests that a client hands over. A raw signature under a CA's key would be a
    /// forged certificate, so that no other key can become one.
    RawKey, Raw
);

/// A key that signs only what this crate prepared: no raw one ever becomes such.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SigningKey {
    /// A CA's.
    Issuing(IssuingKey),
    /// The one for what is not a certificate.
    Publication(PublicationKey),
}

impl SigningKey {
    /// The key in the token.
    pub fn key(&self) -> &KeyRef {
        match self {
            Self::Issuing(key) => key.key(),
            Self::Publication(key) => key.key(),
        }
    }
}

impl From<IssuingKey> for SigningKey {
    fn from(key: IssuingKey) -> Self {
        Self::Issuing(key)
    }
}

impl From<PublicationKey> for SigningKey {
    fn from(key: PublicationKey) -> Self {
        Self::Publication(key)
    }
}

/// A key was made for another purpose than it is to be used for.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("key {label} is not for {} use", wanted.as_str())]
pub struct WrongPurpose {
    /// The key's label.
    pub label: KeyLabel,
    /// What it was to be used for.
    pub wanted: Purpose,
}

/// How a token failed, told apart by what mends it. Serialized where a token is in another process.
#[derive(Clone, Debug, Error, serde::Deserialize, serde::Serialize)]
pub enum TokenError {
    /// The PKCS#11 context is dead (token removed, module failed): a new process mends it.
    #[error("{call} failed with {code}: the token or its module must be opened anew")]
    Context {
        /// The PKCS#11 function.
        call: Cow<'static, str>,
        /// The CKR_ name.
        code: String,
    },
    /// The digest has not the length of the scheme's hash.
    #[error("a digest for {scheme} has {wanted} bytes, not {got}")]
    InputLength {
        /// The scheme asked for.
        scheme: SignatureScheme,
        /// The length that it takes.
        wanted: usize,
        /// The length given.
        got: usize,
    },
    /// More than one object answers to the label or the id.
    #[error("key {label}: {what}; exactly one key pair may have this label and this CKA_ID")]
    KeyAmbiguous {
        /// The key looked for.
        label: KeyLabel,
        /// What was found.
        what: String,
    },
    /// A key with this label or id is there already; nothing was made.
    #[error(
        "a key with label {label} or its CKA_ID is in the token already; nothing was overwritten"
    )]
    KeyExists {
        /// The label asked for.
        label: KeyLabel,
    },
    /// No such key.
    #[error("key {label} is not in the token: {what}")]
    KeyMissing {
        /// The key looked for.
        label: KeyLabel,
        /// Which half is missing.
        what: String,
    },
    /// The key is there, but its attributes are not those of a signing key.
    #[error("key {label} must not be used: {what}")]
    KeyUnfit {
        /// The key looked at.
        label: KeyLabel,
        /// Which attribute is wrong.
        what: String,
    },
    /// The token cannot do this.
    #[error("the token has no mechanism for {what}")]
    MechanismMissing {
        /// The scheme or key type asked for.
        what: String,
    },
    /// All sessions of the token are taken: fewer, or a later try, mend it.
    #[error("{call} failed with CKR_SESSION_COUNT: all sessions of the token are taken")]
    NoSession {
        /// The PKCS#11 function.
        call: Cow<'static, str>,
    },
    /// The module cannot be loaded, or no token or more than one has the label and serial.
    #[error("{0}")]
    NoToken(String),
    /// The login was refused, or its flags forbid to try. Never tried again by itself.
    #[error("the token refused the PIN ({code}); it will not be tried again until a person acts")]
    Pin {
        /// The CKR_ name, or the flag that forbade the try.
        code: String,
    },
    /// The token answered, and said no: only a person can mend it.
    #[error("{call} was refused with {code}; trying again will not help")]
    Refused {
        /// The PKCS#11 function.
        call: Cow<'static, str>,
        /// The CKR_ name.
        code: String,
    },
    /// The session is gone: a new session mends it.
    #[error("{call} failed with {code}: the session must be opened anew")]
    Session {
        /// The PKCS#11 function.
        call: Cow<'static, str>,
        /// The CKR_ name.
        code: String,
    },
}
