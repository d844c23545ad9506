//! PINs: how long they may be, and what a token says after a wrong one.

use std::collections::BTreeMap;

use cryptoki::{
    session::{Session as RawSession, UserType},
    slot::Slot,
    types::AuthPin,
};

use super::{
    super::{Module, auth_pin, failure::token_error, flags},
    Said, Trial,
};
use crate::{secret::Secret, token::TokenError};

/// The flags of a token, after one thing and after another.
type Flags = (Vec<String>, Vec<String>);

impl Module {
    /// Sets PINs of lengths at the ends of what the token says, and the former one again.
    pub(super) fn trials_of_pins(
        &self,
        slot: Slot,
        (least, most): (usize, usize),
        pin: &Secret,
    ) -> Result<BTreeMap<Trial, Said>, TokenError> {
        let session = self.0.pkcs11.open_rw_session(slot).map_err(token_error)?;
        session.login(UserType::User, Some(&auth_pin(pin))).map_err(token_error)?;
        // CK_EFFECTIVELY_INFINITE is 0.
        let longest = (1..=LONG).contains(&most).then_some(most);
        let lengths = [
            (Trial::ShortestPin, (least > 0).then_some(least)),
            (Trial::ShortPin, least.checked_sub(1).filter(|length| *length > 0)),
            (Trial::LongestPin, longest),
            (Trial::LongPin, longest.map(|longest| longest + 1)),
        ];
        let mut trials = BTreeMap::new();
        for (trial, length) in lengths {
            let said = match length {
                Some(length) => change(&session, pin, length)?,
                None => Said::Untried("no such length is told".to_owned()),
            };
            trials.insert(trial, said);
        }
        session.logout().map_err(token_error)?;
        Ok(trials)
    }

    /// Logs in with a wrong PIN, once, and then with the right one; tells what the flags say after each.
    pub(super) fn trial_of_wrong_pin(
        &self,
        slot: Slot,
        pin: &Secret,
    ) -> Result<(Said, Flags), TokenError> {
        let session = self.0.pkcs11.open_rw_session(slot).map_err(token_error)?;
        let told = || {
            let info = self.0.pkcs11.get_token_info(slot).map_err(token_error)?;
            let flags = flags(&info).into_iter().filter(|flag| flag.contains("_PIN_"));
            Ok::<_, TokenError>(flags.map(str::to_owned).collect::<Vec<_>>())
        };
        // As long as the right one, so that its length is not what is wrong.
        let mut wrong = pin.expose().to_owned();
        let last = if wrong.pop() == Some('0') { '1' } else { '0' };
        wrong.push(last);
        let said = Said::of(session.login(UserType::User, Some(&AuthPin::from(wrong))));
        if said == Said::Done {
            session.logout().map_err(token_error)?;
        }
        let after_wrong = told()?;
        session.login(UserType::User, Some(&auth_pin(pin))).map_err(token_error)?;
        let after_right = told()?;
        session.logout().map_err(token_error)?;
        Ok((said, (after_wrong, after_right)))
    }
}

/// Sets a PIN of this length, and the former one again.
fn change(session: &RawSession, pin: &Secret, length: usize) -> Result<Said, TokenError> {
    let other = AuthPin::from("7".repeat(length));
    match session.set_pin(&auth_pin(pin), &other) {
        Ok(()) => {
            session.set_pin(&other, &auth_pin(pin)).map_err(token_error)?;
            Ok(Said::Done)
        }
        Err(error) => Ok(Said::refused(&error)),
    }
}

/// Longer ones are told by no token, but for those that set no limit.
const LONG: usize = 1024;
