//! What a token really does, found out by doing it: on a token that has nothing to lose.
//!
//! Tokens tell of their mechanisms, but not of what they make of a template, which attributes they let
//! be changed, and which of those that they keep they also enforce. Here each is tried once. Nothing is
//! judged here.

mod attributes;
mod keys;
mod pins;
mod trials;

use std::{collections::BTreeMap, fmt};

use cryptoki::{
    error::Error,
    object::{Attribute, ObjectClass, ObjectHandle},
    session::Session as RawSession,
    slot::Slot,
};
use serde::{Deserialize, Serialize};

use super::{
    Module, ObjectFound, Session, TokenIdentity, TokenSurvey,
    failure::{code_name, token_error},
    identity,
    mechanism::Mechanisms,
    object::label_attribute,
};
use crate::{
    keys::KeyAlgorithm,
    secret::Secret,
    token::{KeyId, KeyLabel, ParseKeyNameError, Purpose, TokenError},
};

pub use attributes::AttributeProfile;
pub use keys::KeyProfile;
pub use trials::Trial;

/// What a token did.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TokenProfile {
    /// What it says of itself, before anybody logged in.
    pub token: TokenSurvey,
    /// Each kind of key that Chancery makes.
    pub keys: BTreeMap<KeyAlgorithm, KeyProfile>,
    /// What becomes of each attribute of a private key, in a template and afterwards.
    pub attributes: BTreeMap<String, AttributeProfile>,
    /// What else was tried; trials that need a PIN that nobody gave are not there.
    pub trials: BTreeMap<Trial, Said>,
    /// The flags that speak of PINs, after a wrong PIN and after the right one that followed.
    pub flags_after_wrong_pin: (Vec<String>, Vec<String>),
    /// How many sessions could be open at once; 64 are tried.
    pub sessions: usize,
}

/// What came of a trial.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Said {
    /// The token did it.
    Done,
    /// The token said that it did it, and did not.
    Ignored,
    /// The token refused it, by this return value.
    Refused(String),
    /// It was not tried, because of this.
    Untried(String),
}

/// The PINs of a token that has nothing to lose.
#[derive(Clone, Copy)]
pub struct ScratchPins<'a> {
    /// The user's.
    pub user: &'a Secret,
    /// The security officer's, if what that one may do is tried, too.
    pub officer: Option<&'a Secret>,
}

impl Module {
    /// What a token has that a probe would not put there. What an interrupted probe left is destroyed.
    ///
    /// # Errors
    ///
    /// There is no such token, or it cannot be opened.
    pub fn clear_scratch(
        &self,
        wanted: &TokenIdentity,
        pin: &Secret,
    ) -> Result<Vec<ObjectFound>, TokenError> {
        let session = self.open(wanted, pin)?;
        let writer = session.writer()?;
        let (label, _) = names()?;
        let made = [Attribute::Token(true), label_attribute(&label)];
        for object in writer.find_objects(&made).map_err(token_error)? {
            writer.destroy_object(object).map_err(token_error)?;
        }
        session.inventory()
    }

    /// Destroys every key in the token that a profile was made of, and gives their number: to be asked of
    /// a module that was loaded since, which sees what the other one forgot.
    ///
    /// # Errors
    ///
    /// There is no such token, or it cannot be opened.
    pub fn clear_profiled(
        &self,
        wanted: &TokenIdentity,
        pin: &Secret,
    ) -> Result<usize, TokenError> {
        let writer = self.open(wanted, pin)?.writer()?;
        let mut count = 0;
        for class in CLASSES {
            for object in writer.find_objects(&[Attribute::Class(class)]).map_err(token_error)? {
                writer.destroy_object(object).map_err(token_error)?;
                count += 1;
            }
        }
        Ok(count)
    }

    /// Tries on this token whatever a ceremony may need of it, and leaves it empty: all its keys are
    /// destroyed, whoever made them. With `initialize`, it is initialized first. `tell` hears what is
    /// tried next. Gives the profile, and what identifies the token now: to initialize it may change that.
    ///
    /// # Errors
    ///
    /// A PIN is refused, or the token is gone.
    pub fn profile(
        &self,
        wanted: &TokenIdentity,
        pins: ScratchPins<'_>,
        initialize: bool,
        tell: &mut dyn FnMut(&str),
    ) -> Result<(TokenProfile, TokenIdentity), TokenError> {
        let token = self.survey(wanted)?;
        let (slot, _) = self.the_one(wanted)?;
        let mut trials = BTreeMap::new();
        if let (true, Some(officer)) = (initialize, pins.officer) {
            tell("initializing it");
            trials.extend(self.initialize_again(
                slot,
                &token.identity.label,
                officer,
                pins.user,
            )?);
        }
        let mut session = self.scratch_session(slot, pins.user)?;
        tidy(&session.writer()?)?;
        let mut keys = BTreeMap::new();
        for algorithm in ALGORITHMS {
            tell(&format!("making keys of {algorithm}"));
            keys.insert(algorithm, keys::profile(&mut session, algorithm)?);
        }
        let made = keys.iter().find(|(_, key)| key.made == Said::Done).map(|(kind, _)| *kind);
        let mut attributes = BTreeMap::new();
        if let Some(algorithm) = made {
            tell("changing attributes");
            attributes = attributes::profile(&session, algorithm)?;
            tell("trying what is enforced");
            trials.extend(trials::of_user(&mut session, algorithm)?);
        }
        tell("opening sessions");
        let sessions = session.spare(MOST_SESSIONS - 1).0 + 1;
        drop(session);
        if let (Some(officer), Some(algorithm)) = (pins.officer, made) {
            tell("trying what the security officer may do");
            trials.extend(self.trials_of_officer(slot, officer, pins.user, algorithm)?);
        }
        tell("trying PINs");
        trials.extend(self.trials_of_pins(slot, token.pin_length, pins.user)?);
        let (wrong, flags_after_wrong_pin) = self.trial_of_wrong_pin(slot, pins.user)?;
        trials.insert(Trial::WrongPin, wrong);
        let now = identity(&self.0.pkcs11.get_token_info(slot).map_err(token_error)?);
        let profile =
            TokenProfile { token, keys, attributes, trials, flags_after_wrong_pin, sessions };
        Ok((profile, now))
    }

    /// A session of the user, on whatever token is in this slot.
    fn scratch_session(&self, slot: Slot, pin: &Secret) -> Result<Session, TokenError> {
        let session = self.0.pkcs11.open_ro_session(slot).map_err(token_error)?;
        self.log_in_once(slot, &session, pin, |log_in| log_in())?;
        let mechanisms = Mechanisms::read(&self.0.pkcs11, slot)?;
        Ok(Session::new(session, self.clone(), slot, mechanisms))
    }
}

impl Said {
    /// What a call's outcome says.
    fn of<T>(outcome: Result<T, Error>) -> Self {
        match outcome {
            Ok(_) => Self::Done,
            Err(error) => Self::refused(&error),
        }
    }

    fn refused(error: &Error) -> Self {
        Self::Refused(match error {
            Error::Pkcs11(value, _) => code_name(*value),
            other => other.to_string(),
        })
    }

    /// What was not tried, because what comes before it was refused.
    fn untried(error: &Error) -> Self {
        match Self::refused(error) {
            Self::Refused(code) => Self::Untried(code),
            other => other,
        }
    }
}

/// As a table shows it.
impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("yes"),
            Self::Ignored => f.write_str("says yes, and does not"),
            Self::Refused(code) => write!(f, "no: {code}"),
            Self::Untried(code) => write!(f, "not tried: {code}"),
        }
    }
}

/// The label of all that a probe makes.
fn label() -> Result<KeyLabel, ParseKeyNameError> {
    KeyLabel::new(Purpose::Raw, "probe")
}

/// The names of a probe's key.
fn names() -> Result<(KeyLabel, KeyId), TokenError> {
    let named = || Ok::<_, ParseKeyNameError>((label()?, KeyId::new(b"probe")?));
    named()
        .map_err(|error| TokenError::Refused { call: "the probe".into(), code: error.to_string() })
}

/// Destroys every key, also what has lost its label; but what goes with its session.
fn tidy(writer: &RawSession) -> Result<(), TokenError> {
    for object in kept(writer).map_err(token_error)? {
        writer.destroy_object(object).map_err(token_error)?;
    }
    Ok(())
}

/// The keys that are in the token for good.
fn kept(session: &RawSession) -> Result<Vec<ObjectHandle>, Error> {
    let mut found = Vec::new();
    for class in CLASSES {
        found.extend(session.find_objects(&[Attribute::Class(class), Attribute::Token(true)])?);
    }
    Ok(found)
}

/// Whether an object has just this attribute.
fn has(session: &RawSession, object: ObjectHandle, attribute: &Attribute) -> Result<bool, Error> {
    let told = session.get_attributes(object, &[attribute.attribute_type()])?;
    Ok(told == std::slice::from_ref(attribute))
}

/// The kinds of keys, those that are soon made first.
const ALGORITHMS: [KeyAlgorithm; 6] = [
    KeyAlgorithm::EcP256,
    KeyAlgorithm::EcP384,
    KeyAlgorithm::Ed25519,
    KeyAlgorithm::Rsa2048,
    KeyAlgorithm::Rsa3072,
    KeyAlgorithm::Rsa4096,
];

/// The classes of keys.
const CLASSES: [ObjectClass; 3] =
    [ObjectClass::PRIVATE_KEY, ObjectClass::PUBLIC_KEY, ObjectClass::SECRET_KEY];

const MOST_SESSIONS: usize = 64;
