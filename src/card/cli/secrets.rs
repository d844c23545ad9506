//! Secrets out of files, and what is said before one is shown to a card.

use std::path::Path;

use card::{CardError, PinError, PivCard, ReaderName};
use pki::secret::Secret;

use super::failure::Failure;

/// A PIN or PUK.
pub(super) fn secret<T>(
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

/// How often the PIN may still be wrong.
#[expect(clippy::print_stderr, reason = "this is where the command line speaks of progress")]
pub(super) fn tell_tries(reader: &ReaderName, card: &PivCard<'_>) -> Result<(), CardError> {
    eprintln!("{reader}: the PIN may be wrong {} times", card.pin_tries_left()?);
    Ok(())
}
