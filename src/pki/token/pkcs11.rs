//! PKCS#11 tokens: this file and those below it are the only ones that know `cryptoki`.
//!
//! One process loads one module. A [`Module`] may be cloned and shared; each thread opens a
//! [`Session`] of its own.

mod backup;
mod failure;
mod lone_sign;
mod mechanism;
mod misuse;
mod object;
mod profile;
mod remains;
mod session;
mod survey;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Pkcs11},
    error::{Error, RvError},
    session::{SessionState, UserType},
    slot::{Slot, TokenInfo as RawTokenInfo},
    types::AuthPin,
};

use crate::{secret::Secret, token::TokenError};
use failure::token_error;
use mechanism::Mechanisms;

pub use backup::Opening;
pub use misuse::{ATTEMPTS, Attempt, CHANGES};
pub use profile::{AttributeProfile, KeyProfile, Said, ScratchPins, TokenProfile, Trial};
pub use remains::{ObjectFound, Remains};
pub use session::{LoginGuard, Session};
pub use survey::{KeySurvey, MechanismSurvey, SessionLimit, TokenSurvey};

/// A loaded PKCS#11 module: one per process. Cheap to clone; C_Finalize is called when the last
/// clone and the last session are gone.
#[derive(Clone)]
pub struct Module(Arc<Inner>);

struct Inner {
    pkcs11: Pkcs11,
    path: PathBuf,
    /// Tokens whose PIN was refused, with the code: never tried again in this process. The lock
    /// also makes logins take turns, so that two threads cannot both try a wrong PIN.
    refused: Mutex<BTreeMap<String, String>>,
}

/// Whose PIN of a token it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PinOwner {
    /// The security officer's.
    SecurityOfficer,
    /// The user's.
    User,
}

/// What identifies a token; slot numbers do not.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct TokenIdentity {
    /// CK_TOKEN_INFO.label, without its padding.
    pub label: String,
    /// CK_TOKEN_INFO.serialNumber.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// CK_TOKEN_INFO.manufacturerID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manufacturer: Option<String>,
    /// CK_TOKEN_INFO.model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
}

/// What a token and its module say of themselves, for the record.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TokenInfo {
    /// Label, serial, manufacturer and model; all are given.
    pub identity: TokenIdentity,
    /// CK_TOKEN_INFO.hardwareVersion, `MAJOR.MINOR`.
    pub hardware_version: String,
    /// CK_TOKEN_INFO.firmwareVersion, `MAJOR.MINOR`.
    pub firmware_version: String,
    /// CK_INFO.libraryDescription and libraryVersion of the module.
    pub library: String,
    /// The flags that are set, of those that speak of PINs and login, by their PKCS#11 names.
    pub flags: Vec<&'static str>,
}

impl Module {
    /// Loads and initializes the module at an absolute path.
    ///
    /// # Errors
    ///
    /// The path is relative, or the file is no PKCS#11 module, or C_Initialize fails.
    pub fn load(path: &Path) -> Result<Self, TokenError> {
        // A bare name would be looked for in the places of the dynamic linker.
        if !path.is_absolute() {
            let path = path.display();
            return Err(TokenError::NoToken(format!("the module's path {path} is not absolute")));
        }
        let pkcs11 = Pkcs11::new(path).map_err(|error| {
            TokenError::NoToken(format!("{} is no PKCS#11 module: {error}", path.display()))
        })?;
        // The module must lock by itself: several threads use it, with a session each.
        pkcs11
            .initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK))
            .map_err(token_error)?;
        Ok(Self(Arc::new(Inner { pkcs11, path: path.to_owned(), refused: Mutex::default() })))
    }

    /// Who made the module, and what they call it.
    ///
    /// # Errors
    ///
    /// The module does not tell.
    pub fn maker(&self) -> Result<String, TokenError> {
        let library = self.0.pkcs11.get_library_info().map_err(token_error)?;
        let (maker, name) = (library.manufacturer_id(), library.library_description());
        Ok(format!("{} ({})", name.trim(), maker.trim()))
    }

    /// The full identity of the one token that has everything that `wanted` names.
    ///
    /// # Errors
    ///
    /// None has, or more than one.
    pub fn identify(&self, wanted: &TokenIdentity) -> Result<TokenIdentity, TokenError> {
        let (_, info) = self.the_one(wanted)?;
        Ok(identity(&info))
    }

    /// The full identity of the one token that has this serial number.
    ///
    /// # Errors
    ///
    /// None has, or more than one.
    pub fn with_serial(&self, serial: &str) -> Result<TokenIdentity, TokenError> {
        let tokens = self.tokens()?;
        let mut found = tokens.iter().filter(|(_, info)| info.serial_number() == serial);
        match (found.next(), found.next()) {
            (Some((_, info)), None) => Ok(identity(info)),
            (first, _) => {
                let many = if first.is_some() { "more than one token has" } else { "no token has" };
                Err(TokenError::NoToken(format!("{many} the serial number {serial:?}")))
            }
        }
    }

    /// What that token says of itself.
    ///
    /// # Errors
    ///
    /// As [`identify`](Self::identify).
    pub fn info(&self, wanted: &TokenIdentity) -> Result<TokenInfo, TokenError> {
        let (_, info) = self.the_one(wanted)?;
        let library = self.0.pkcs11.get_library_info().map_err(token_error)?;
        Ok(TokenInfo {
            identity: identity(&info),
            hardware_version: info.hardware_version().to_string(),
            firmware_version: info.firmware_version().to_string(),
            library: format!("{} {}", library.library_description(), library.library_version()),
            flags: flags(&info),
        })
    }

    /// Opens a session on that token. The first session of a process logs in, once.
    ///
    /// The session reads only; what [`KeyStore`](crate::token::KeyStore) changes is changed in a
    /// session of its own.
    ///
    /// # Errors
    ///
    /// As [`identify`](Self::identify); [`TokenError::Pin`] when the login is refused or the
    /// token's flags say that one more wrong try would lock it.
    pub fn open(&self, wanted: &TokenIdentity, pin: &Secret) -> Result<Session, TokenError> {
        self.open_guarded(wanted, pin, |log_in| log_in())
    }

    /// As [`open`](Self::open), with something done around the login, if there is to be one: the
    /// guard is handed C_Login, and calls it once or refuses.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open), and the guard's.
    pub fn open_guarded(
        &self,
        wanted: &TokenIdentity,
        pin: &Secret,
        guard: impl FnOnce(&dyn Fn() -> Result<(), TokenError>) -> Result<(), TokenError>,
    ) -> Result<Session, TokenError> {
        let (slot, _) = self.the_one(wanted)?;
        let session = self.0.pkcs11.open_ro_session(slot).map_err(token_error)?;
        self.log_in_once(slot, &session, pin, guard)?;
        let mechanisms = Mechanisms::read(&self.0.pkcs11, slot)?;
        Ok(Session::new(session, self.clone(), slot, mechanisms))
    }

    /// Initializes an uninitialized token: sets label, SO PIN and user PIN.
    ///
    /// # Errors
    ///
    /// There is no free slot, a token with this label is there already, or a PIN is too short or
    /// too long.
    pub fn initialize(
        &self,
        label: &str,
        so_pin: &Secret,
        user_pin: &Secret,
    ) -> Result<TokenIdentity, TokenError> {
        // CK_TOKEN_INFO.label has 32 bytes; cryptoki would cut a longer one.
        if label.is_empty() || label.len() > 32 {
            return Err(TokenError::NoToken("a token's label has 1 to 32 bytes".to_owned()));
        }
        let pkcs11 = &self.0.pkcs11;
        let slot = self.free_slot(label)?;
        let info = pkcs11.get_token_info(slot).map_err(token_error)?;
        // Found out after C_InitToken, it would leave a token that nobody can use.
        check_pin_length(&info, user_pin)?;
        pkcs11.init_token(slot, &auth_pin(so_pin), label).map_err(token_error)?;
        // SoftHSM gives the new token another slot.
        let wanted = TokenIdentity {
            label: label.to_owned(),
            serial: None,
            manufacturer: None,
            model: None,
        };
        self.finish_initialization(&wanted, so_pin, user_pin)
    }

    /// Sets the user PIN as security officer: the second half of [`initialize`](Self::initialize),
    /// and the end of one that was interrupted.
    ///
    /// # Errors
    ///
    /// There is no such token, or the SO PIN is not its own.
    pub fn finish_initialization(
        &self,
        wanted: &TokenIdentity,
        so_pin: &Secret,
        user_pin: &Secret,
    ) -> Result<TokenIdentity, TokenError> {
        let (slot, info) = self.the_one(wanted)?;
        let session = self.0.pkcs11.open_rw_session(slot).map_err(token_error)?;
        session.login(UserType::So, Some(&auth_pin(so_pin))).map_err(token_error)?;
        session.init_pin(&auth_pin(user_pin)).map_err(token_error)?;
        session.logout().map_err(token_error)?;
        Ok(identity(&info))
    }

    /// Replaces a PIN by another one. No session of this process may be open on the token: the
    /// logins of user and security officer exclude each other, and so would the PIN of the user be
    /// changed by whoever is logged in.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open); or the new PIN is too short or too long, and nothing was changed.
    pub fn change_pin(
        &self,
        wanted: &TokenIdentity,
        owner: PinOwner,
        old: &Secret,
        new: &Secret,
    ) -> Result<(), TokenError> {
        check_pin_length(&self.the_one(wanted)?.1, new)?;
        let session = self.logged_in(wanted, owner, old)?;
        session.set_pin(&auth_pin(old), &auth_pin(new)).map_err(token_error)?;
        session.logout().map_err(token_error)
    }

    /// Logs in with a PIN, and out again: whether it is the token's. No session of this process may
    /// be open on the token.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn try_pin(
        &self,
        wanted: &TokenIdentity,
        owner: PinOwner,
        pin: &Secret,
    ) -> Result<(), TokenError> {
        self.logged_in(wanted, owner, pin)?.logout().map_err(token_error)
    }

    /// Checks that this process is not logged in to the token: it is not when its last session is
    /// closed (PKCS#11 section 5.6.2).
    ///
    /// # Errors
    ///
    /// It is, or there is no such token.
    pub fn check_logged_out(&self, wanted: &TokenIdentity) -> Result<(), TokenError> {
        let (slot, _) = self.the_one(wanted)?;
        let session = self.0.pkcs11.open_ro_session(slot).map_err(token_error)?;
        match session.get_session_info().map_err(token_error)?.session_state() {
            SessionState::RoPublic | SessionState::RwPublic => Ok(()),
            _ => Err(TokenError::Refused {
                call: "C_CloseSession".into(),
                code: "the token is still logged in".to_owned(),
            }),
        }
    }

    /// A session of its own that this login was made for.
    fn logged_in(
        &self,
        wanted: &TokenIdentity,
        owner: PinOwner,
        pin: &Secret,
    ) -> Result<cryptoki::session::Session, TokenError> {
        let (slot, _) = self.the_one(wanted)?;
        let session = self.0.pkcs11.open_rw_session(slot).map_err(token_error)?;
        let user = match owner {
            PinOwner::SecurityOfficer => UserType::So,
            PinOwner::User => UserType::User,
        };
        let refused = self.0.refused.lock().unwrap_or_else(PoisonError::into_inner);
        self.log_in(refused, slot, &session, user, pin, |log_in| log_in())?;
        Ok(session)
    }

    fn the_one(&self, wanted: &TokenIdentity) -> Result<(Slot, RawTokenInfo), TokenError> {
        let tokens = self.tokens()?;
        let mut fitting = tokens.iter().filter(|(_, info)| matches(wanted, &identity(info)));
        match (fitting.next(), fitting.next()) {
            (Some((slot, info)), None) => Ok((*slot, info.clone())),
            (None, _) => Err(no_token("no token is", wanted, &tokens)),
            (Some(_), Some(_)) => Err(no_token("more than one token is", wanted, &tokens)),
        }
    }

    /// The initialized tokens. A slot that cannot tell of its token has none for us.
    fn tokens(&self) -> Result<Vec<(Slot, RawTokenInfo)>, TokenError> {
        let slots = self.0.pkcs11.get_slots_with_token().map_err(token_error)?;
        let mut tokens = Vec::new();
        for slot in slots {
            match self.0.pkcs11.get_token_info(slot) {
                Ok(info) if info.token_initialized() => tokens.push((slot, info)),
                Ok(_) | Err(Error::Pkcs11(RvError::TokenNotRecognized, _)) => {}
                Err(Error::Pkcs11(RvError::TokenNotPresent, _)) => {}
                Err(error) => return Err(token_error(error)),
            }
        }
        Ok(tokens)
    }

    fn free_slot(&self, label: &str) -> Result<Slot, TokenError> {
        if self.tokens()?.iter().any(|(_, info)| info.label() == label) {
            return Err(TokenError::NoToken(format!(
                "a token labelled {label} is there already; nothing was initialized"
            )));
        }
        let pkcs11 = &self.0.pkcs11;
        for slot in pkcs11.get_slots_with_token().map_err(token_error)? {
            if !pkcs11.get_token_info(slot).map_err(token_error)?.token_initialized() {
                return Ok(slot);
            }
        }
        Err(TokenError::NoToken("no slot has an uninitialized token".to_owned()))
    }

    /// Logs in unless this process is logged in: PKCS#11 shares the login among all sessions of a
    /// process on one token (section 5.6.8).
    fn log_in_once(
        &self,
        slot: Slot,
        session: &cryptoki::session::Session,
        pin: &Secret,
        guard: impl FnOnce(&dyn Fn() -> Result<(), TokenError>) -> Result<(), TokenError>,
    ) -> Result<(), TokenError> {
        let refused = self.0.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let state = session.get_session_info().map_err(token_error)?.session_state();
        if matches!(state, SessionState::RoUser | SessionState::RwUser) {
            return Ok(());
        }
        self.log_in(refused, slot, session, UserType::User, pin, guard)
    }

    /// The login that a key with CKA_ALWAYS_AUTHENTICATE wants for each of its signatures.
    fn log_in_again(
        &self,
        slot: Slot,
        session: &cryptoki::session::Session,
        pin: &Secret,
        guard: &LoginGuard,
    ) -> Result<(), TokenError> {
        let refused = self.0.refused.lock().unwrap_or_else(PoisonError::into_inner);
        self.log_in(refused, slot, session, UserType::ContextSpecific, pin, guard)
    }

    fn log_in(
        &self,
        mut refused: MutexGuard<'_, BTreeMap<String, String>>,
        slot: Slot,
        session: &cryptoki::session::Session,
        user: UserType,
        pin: &Secret,
        guard: impl FnOnce(&dyn Fn() -> Result<(), TokenError>) -> Result<(), TokenError>,
    ) -> Result<(), TokenError> {
        // Read at the last moment: the flags count the tries of everyone.
        let info = self.0.pkcs11.get_token_info(slot).map_err(token_error)?;
        let whose = if matches!(user, UserType::So) { " SO" } else { "" };
        let token = format!("{} {}{whose}", info.label(), info.serial_number());
        if let Some(code) = refused.get(&token) {
            return Err(TokenError::Pin { code: code.clone() });
        }
        refuse_by_flags(&info, user)?;
        let by_pin_pad = info.protected_authentication_path();
        let pin = if by_pin_pad { None } else { Some(auth_pin(pin)) };
        let log_in = || match session.login(user, pin.as_ref()) {
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(()),
            Err(error) => Err(token_error(error)),
        };
        let outcome = guard(&log_in);
        if let Err(TokenError::Pin { code }) = &outcome {
            refused.insert(token, code.clone());
        }
        outcome
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Nobody is left who could be told of a failure.
        let _ = self.pkcs11.clone().finalize();
    }
}

impl std::fmt::Display for TokenIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "label {:?}", self.label)?;
        for (name, value) in
            [("serial", &self.serial), ("manufacturer", &self.manufacturer), ("model", &self.model)]
        {
            if let Some(value) = value {
                write!(f, ", {name} {value:?}")?;
            }
        }
        Ok(())
    }
}

fn check_pin_length(info: &RawTokenInfo, pin: &Secret) -> Result<(), TokenError> {
    let (least, most) = (info.min_pin_length(), info.max_pin_length());
    // CK_EFFECTIVELY_INFINITE is 0 (Kryoptic gives it).
    let (most, range) = match most {
        0 => (usize::MAX, format!("{least} bytes or more")),
        most => (most, format!("{least} to {most} bytes")),
    };
    if (least..=most).contains(&pin.expose().len()) {
        return Ok(());
    }
    Err(TokenError::Pin { code: format!("not set: a user PIN has {range}") })
}

/// The last try before a lock-out is a person's to make.
fn refuse_by_flags(info: &RawTokenInfo, user: UserType) -> Result<(), TokenError> {
    let flag = match user {
        UserType::So if info.so_pin_locked() => "CKF_SO_PIN_LOCKED",
        UserType::So if info.so_pin_final_try() => "CKF_SO_PIN_FINAL_TRY",
        UserType::So => return Ok(()),
        _ if info.user_pin_locked() => "CKF_USER_PIN_LOCKED",
        _ if info.user_pin_final_try() => "CKF_USER_PIN_FINAL_TRY",
        _ => return Ok(()),
    };
    Err(TokenError::Pin { code: format!("not tried: {flag} is set") })
}

fn matches(wanted: &TokenIdentity, found: &TokenIdentity) -> bool {
    let same =
        |wanted: &Option<String>, found: &Option<String>| wanted.is_none() || wanted == found;
    wanted.label == found.label
        && same(&wanted.serial, &found.serial)
        && same(&wanted.manufacturer, &found.manufacturer)
        && same(&wanted.model, &found.model)
}

fn identity(info: &RawTokenInfo) -> TokenIdentity {
    TokenIdentity {
        label: info.label().to_owned(),
        serial: Some(info.serial_number().to_owned()),
        manufacturer: Some(info.manufacturer_id().to_owned()),
        model: Some(info.model().to_owned()),
    }
}

fn flags(info: &RawTokenInfo) -> Vec<&'static str> {
    [
        (info.login_required(), "CKF_LOGIN_REQUIRED"),
        (info.protected_authentication_path(), "CKF_PROTECTED_AUTHENTICATION_PATH"),
        (info.rng(), "CKF_RNG"),
        (info.so_pin_locked(), "CKF_SO_PIN_LOCKED"),
        (info.user_pin_count_low(), "CKF_USER_PIN_COUNT_LOW"),
        (info.user_pin_final_try(), "CKF_USER_PIN_FINAL_TRY"),
        (info.user_pin_initialized(), "CKF_USER_PIN_INITIALIZED"),
        (info.user_pin_locked(), "CKF_USER_PIN_LOCKED"),
        (info.user_pin_to_be_changed(), "CKF_USER_PIN_TO_BE_CHANGED"),
    ]
    .into_iter()
    .filter_map(|(set, name)| set.then_some(name))
    .collect()
}

fn no_token(what: &str, wanted: &TokenIdentity, tokens: &[(Slot, RawTokenInfo)]) -> TokenError {
    let found: Vec<String> =
        tokens.iter().map(|(_, info)| format!("({})", identity(info))).collect();
    let found = if found.is_empty() { "none".to_owned() } else { found.join(", ") };
    TokenError::NoToken(format!("{what} ({wanted}); the module has {found}"))
}

fn auth_pin(pin: &Secret) -> AuthPin {
    AuthPin::from(pin.expose())
}
