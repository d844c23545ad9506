//! Secrets: out of files, or typed without echo. One is tried once for each time it is entered, and
//! how often it may still be wrong is said before.

use std::{
    io::{self, IsTerminal},
    path::Path,
};

use card::{CardError, Credentials, ManagementAccess, Pin, PinError, PivCard};
use pki::secret::Secret;
use zeroize::Zeroizing;

use super::{arguments::Access, choice::Chosen, failure::Failure, terminal::tell};

/// What the holder and the administrator show. Files are read before the card is touched; a PIN
/// that is to be typed is asked for when its tries were told.
pub(super) fn credentials(it: &Access) -> Result<(Chosen, Credentials), Failure> {
    let Access { card, shown: it } = it;
    let pin = it.pin_file.as_deref().map(|path| from_file("PIN", path, Pin::new)).transpose()?;
    let management_key = management_access(it.management_key_file.as_deref())?;
    let chosen = Chosen::find(card)?;
    tell_tries(&chosen)?;
    let pin = match pin {
        Some(pin) => pin,
        None => typed("PIN", "--pin-file", Pin::new)?,
    };
    Ok((chosen, Credentials { pin, management_key }))
}

/// Where the management key is: in a file, or on the card.
pub(super) fn management_access(file: Option<&Path>) -> Result<ManagementAccess, Failure> {
    let Some(path) = file else { return Ok(ManagementAccess::Kept) };
    let wrong = |source| Failure::Read { path: path.to_owned(), source };
    let text = Secret::from_file(path).map_err(wrong)?;
    let bytes = hex::decode(text.expose().trim()).map_err(|_| {
        wrong(io::Error::new(io::ErrorKind::InvalidData, "it is no key in hexadecimal"))
    })?;
    Ok(ManagementAccess::Brought(Zeroizing::new(bytes)))
}

/// A PIN or PUK out of a file.
pub(super) fn from_file<T>(
    what: &'static str,
    path: &Path,
    read: impl FnOnce(&Secret) -> Result<T, PinError>,
) -> Result<T, Failure> {
    let path = path.to_owned();
    match Secret::from_file(&path) {
        Ok(secret) => read(&secret).map_err(|source| Failure::Pin { what, path, source }),
        Err(source) => Err(Failure::Read { path, source }),
    }
}

/// A PIN or PUK that the card has, typed.
pub(super) fn typed<T>(
    what: &'static str,
    flag: &'static str,
    read: impl FnOnce(&Secret) -> Result<T, PinError>,
) -> Result<T, Failure> {
    let secret = ask(&format!("{what}: "), what, flag)?;
    read(&secret).map_err(|source| Failure::Typed { what, source })
}

/// A PIN or PUK that the card is to have, typed twice.
pub(super) fn typed_new<T>(
    what: &'static str,
    flag: &'static str,
    read: impl FnOnce(&Secret) -> Result<T, PinError>,
) -> Result<T, Failure> {
    let secret = ask(&format!("new {what}, 6 to 8 characters: "), what, flag)?;
    let wanted = read(&secret).map_err(|source| Failure::Typed { what, source })?;
    let again = ask(&format!("new {what}, once more: "), what, flag)?;
    if secret.expose() != again.expose() {
        return Err(Failure::Differ { what });
    }
    Ok(wanted)
}

/// Says how often the PIN may still be wrong.
///
/// # Errors
///
/// It may not be wrong once more: then it is not asked for. Neither is it for a card that can do
/// nothing with it, which is no YubiKey or too old.
pub(super) fn tell_tries(chosen: &Chosen) -> Result<(), Failure> {
    let left = chosen.with(|card| Ok(card.pin_metadata()?.left))?;
    tell(format!("{chosen}: the PIN may be wrong {}", times(left)));
    match left {
        0 => Err(CardError::PinLocked.into()),
        1 => Err(CardError::LastTry("PIN").into()),
        _ => Ok(()),
    }
}

/// Says how often the PUK may still be wrong.
///
/// # Errors
///
/// It is locked; or one try is left, and nobody said that it may be risked.
pub(super) fn tell_tries_of_puk(chosen: &Chosen, last_try: bool) -> Result<(), Failure> {
    let left = chosen.with(|card: &mut PivCard<'_>| Ok(card.puk_metadata()?.left))?;
    tell(format!("{chosen}: the PUK may be wrong {}", times(left)));
    match left {
        0 => Err(CardError::PukLocked.into()),
        1 if !last_try => Err(CardError::LastTry("PUK").into()),
        _ => Ok(()),
    }
}

fn ask(prompt: &str, what: &'static str, flag: &'static str) -> Result<Secret, Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::NobodyToAsk { what, flag });
    }
    let text = rpassword::prompt_password(prompt);
    text.map(Secret::new).map_err(|source| Failure::NotTyped { what, source })
}

fn times(left: u8) -> String {
    format!("{left} {}", if left == 1 { "time" } else { "times" })
}
