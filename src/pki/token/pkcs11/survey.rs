//! What a token tells of itself, of its mechanisms and of our keys. Nothing is judged here.

use cryptoki::{
    context::Pkcs11,
    mechanism::{MechanismInfo, MechanismType},
    slot::{Limit, Slot},
};
use serde::{Deserialize, Serialize};

use super::{
    Module, Session, TokenIdentity,
    failure::token_error,
    flags, identity,
    mechanism::WANTED,
    object::{all_flags, read_flags, read_generator},
};
use crate::token::{Input, KeyRef, TokenError};

/// What a module and its token tell before anybody logs in.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct TokenSurvey {
    /// CK_INFO.libraryDescription.
    pub library: String,
    /// CK_INFO.libraryVersion, `MAJOR.MINOR`.
    pub library_version: String,
    /// CK_INFO.manufacturerID.
    pub library_manufacturer: String,
    /// CK_INFO.cryptokiVersion: the version of PKCS#11 that the module speaks, `MAJOR.MINOR`.
    pub pkcs11_version: String,
    /// Label, serial, manufacturer and model; all are given.
    pub identity: TokenIdentity,
    /// CK_TOKEN_INFO.hardwareVersion, `MAJOR.MINOR`.
    pub hardware_version: String,
    /// CK_TOKEN_INFO.firmwareVersion, `MAJOR.MINOR`.
    pub firmware_version: String,
    /// The flags that are set, of those that speak of PINs and login, by their PKCS#11 names. Read
    /// before the login.
    pub flags: Vec<String>,
    /// CK_TOKEN_INFO.ulMinPinLen and ulMaxPinLen, in bytes.
    pub pin_length: (usize, usize),
    /// CK_TOKEN_INFO.ulMaxSessionCount.
    pub session_limit: SessionLimit,
    /// What C_GetMechanismList and C_GetMechanismInfo tell, in the token's order.
    pub mechanisms: Vec<MechanismSurvey>,
}

/// How many sessions a token says that one program may have.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionLimit {
    /// So many.
    AtMost(u64),
    /// CK_EFFECTIVELY_INFINITE.
    Unlimited,
    /// CK_UNAVAILABLE_INFORMATION.
    Untold,
}

/// A mechanism of a token.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct MechanismSurvey {
    /// The CKM_ name; `unknown` with its number, if it has none in PKCS#11 3.2.
    pub name: String,
    /// The smallest key, in the unit of the mechanism: bits for RSA and EC keys.
    pub min_key_size: u64,
    /// The largest key, in the same unit.
    pub max_key_size: u64,
    /// What it is for: `sign`, `verify`, `generate_key_pair`, … by the flags of CK_MECHANISM_INFO.
    pub can: Vec<String>,
    /// Chancery signs with it or generates keys by it.
    pub used: bool,
}

/// A private key of a token, whether it is fit to sign with or not.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct KeySurvey {
    /// Boolean attributes by their PKCS#11 names; `None` for those that the token does not tell.
    pub attributes: Vec<(String, Option<bool>)>,
    /// CKA_KEY_GEN_MECHANISM by name, if the token tells it.
    pub generated_by: Option<String>,
    /// The mechanism by which Chancery signs with it unless told otherwise; `None` when the token
    /// has none that fits.
    pub mechanism: Option<String>,
}

impl KeySurvey {
    /// What the token says of an attribute.
    pub fn attribute(&self, name: &str) -> Option<bool> {
        self.attributes.iter().find(|(known, _)| known == name).and_then(|(_, value)| *value)
    }
}

impl Module {
    /// What the module and the one token that has everything that `wanted` names tell of
    /// themselves. Nobody needs to be logged in.
    ///
    /// # Errors
    ///
    /// As [`identify`](Self::identify).
    pub fn survey(&self, wanted: &TokenIdentity) -> Result<TokenSurvey, TokenError> {
        let (slot, info) = self.the_one(wanted)?;
        let pkcs11 = &self.0.pkcs11;
        let library = pkcs11.get_library_info().map_err(token_error)?;
        Ok(TokenSurvey {
            library: library.library_description().to_owned(),
            library_version: library.library_version().to_string(),
            library_manufacturer: library.manufacturer_id().to_owned(),
            pkcs11_version: library.cryptoki_version().to_string(),
            identity: identity(&info),
            hardware_version: info.hardware_version().to_string(),
            firmware_version: info.firmware_version().to_string(),
            flags: flags(&info).into_iter().map(str::to_owned).collect(),
            pin_length: (info.min_pin_length(), info.max_pin_length()),
            session_limit: match info.max_session_count() {
                Limit::Max(count) => SessionLimit::AtMost(count),
                Limit::Infinite => SessionLimit::Unlimited,
                Limit::Unavailable => SessionLimit::Untold,
            },
            mechanisms: mechanisms(pkcs11, slot)?,
        })
    }
}

impl Session {
    /// What the token tells of a private key, fit or not; it is found as
    /// [`Token::find`](crate::token::Token::find) finds it.
    ///
    /// # Errors
    ///
    /// The key is missing, or another object could be taken for it, or the public key is not the
    /// pinned one, or the token fails.
    pub fn survey(&self, key: &KeyRef) -> Result<KeySurvey, TokenError> {
        let private = self.pair(key)?.private;
        let told = read_flags(&self.session, private)?;
        let value = |name| told.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        let scheme = key.public_key.default_scheme();
        let mechanism = self.mechanisms.signing(scheme, Input::Message(&[])).ok();
        // CK_UNAVAILABLE_INFORMATION, of a key that was imported, is no mechanism to cryptoki.
        let generator = read_generator(&self.session, private).unwrap_or_default();
        Ok(KeySurvey {
            attributes: all_flags().map(|name| (name.to_owned(), value(name))).collect(),
            generated_by: generator.map(|made| made.to_string()),
            mechanism: mechanism.map(|(mechanism, _)| mechanism.mechanism_type().to_string()),
        })
    }

    /// How many more sessions can be open beside this one, up to `most`, and why there are not so
    /// many. They are closed again.
    pub fn spare(&self, most: usize) -> (usize, Option<TokenError>) {
        let mut open = Vec::new();
        while open.len() < most {
            match self.module.0.pkcs11.open_ro_session(self.slot) {
                Ok(session) => open.push(session),
                Err(error) => return (open.len(), Some(token_error(error))),
            }
        }
        (open.len(), None)
    }
}

fn mechanisms(pkcs11: &Pkcs11, slot: Slot) -> Result<Vec<MechanismSurvey>, TokenError> {
    let offered = pkcs11.get_mechanism_list(slot).map_err(token_error)?;
    let told = offered.into_iter().map(|kind| {
        let info = pkcs11.get_mechanism_info(slot, kind).map_err(token_error)?;
        Ok(mechanism(kind, &info))
    });
    told.collect()
}

fn mechanism(kind: MechanismType, info: &MechanismInfo) -> MechanismSurvey {
    let can = [
        (info.encrypt(), "encrypt"),
        (info.decrypt(), "decrypt"),
        (info.digest(), "digest"),
        (info.sign(), "sign"),
        (info.sign_recover(), "sign_recover"),
        (info.verify(), "verify"),
        (info.verify_recover(), "verify_recover"),
        (info.generate(), "generate"),
        (info.generate_key_pair(), "generate_key_pair"),
        (info.wrap(), "wrap"),
        (info.unwrap(), "unwrap"),
        (info.derive(), "derive"),
    ];
    let can = can.into_iter().filter(|(set, _)| *set).map(|(_, name)| name.to_owned()).collect();
    MechanismSurvey {
        name: kind.to_string(),
        min_key_size: u64::try_from(info.min_key_size()).unwrap_or(u64::MAX),
        max_key_size: u64::try_from(info.max_key_size()).unwrap_or(u64::MAX),
        can,
        used: WANTED.contains(&kind),
    }
}
