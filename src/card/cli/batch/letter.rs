//! The letter to a person, with the PIN of the card: a page that is printed as it is. It is also what
//! an interrupted run knows the PIN from.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use client::files::{FileError, make_durable, replace_private};
use jiff::{Timestamp, tz::TimeZone};
use pki::secret::Secret;
use zeroize::Zeroizing;

use super::{error::BatchError, people::Person};
use crate::cli::failure::Failure;

/// Where the letters are, and whom they name for questions.
pub(super) struct Letters {
    directory: PathBuf,
    help_desk: String,
}

impl Letters {
    /// Makes the directory if it is not there, for its owner alone.
    pub(super) fn open(directory: &Path, help_desk: &str) -> Result<Self, Failure> {
        make_directory(directory)?;
        Ok(Self { directory: directory.to_owned(), help_desk: help_desk.to_owned() })
    }

    /// The letter that goes with a card.
    pub(super) fn path(&self, serial: u32) -> PathBuf {
        self.directory.join(format!("{serial}.html"))
    }

    /// The PIN of the letter that goes with a card, if there is one.
    pub(super) fn pin(&self, serial: u32) -> Result<Option<Secret>, Failure> {
        let path = self.path(serial);
        let text = match fs::read_to_string(&path) {
            Ok(text) => Zeroizing::new(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(Failure::Read { path, source }),
        };
        let pin = text
            .split_once(&format!("<output data-serial=\"{serial}\" data-pin=\""))
            .and_then(|(_, rest)| rest.split_once('"'))
            .map(|(pin, _)| Secret::new(pin.to_owned()));
        pin.map(Some).ok_or_else(|| BatchError::Letter { path, serial }.into())
    }

    /// Writes the letter, so that it is there after a power cut, before the card has the PIN.
    pub(super) fn write(
        &self,
        person: &Person,
        serial: u32,
        pin: &Secret,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let path = self.path(serial);
        replace_private(&path, page(person, serial, pin, &self.help_desk, now).as_bytes())?;
        Ok(make_durable(&path)?)
    }
}

/// A directory for its owner alone, which may be there already.
pub(super) fn make_directory(path: &Path) -> Result<(), Failure> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    let made = builder.create(path);
    made.map_err(|source| FileError::Write { path: path.to_owned(), source }.into())
}

fn page(
    person: &Person,
    serial: u32,
    pin: &Secret,
    help_desk: &str,
    now: Timestamp,
) -> Zeroizing<String> {
    // Room for all from the start: a text that grows would leave the PIN behind.
    let mut page = Zeroizing::new(String::with_capacity(4 * TEMPLATE.len()));
    let mut rest = TEMPLATE;
    while let Some((before, after)) = rest.split_once('{') {
        page.push_str(before);
        let (value, more) = match after.split_once('}') {
            Some(("date", more)) => {
                (now.to_zoned(TimeZone::system()).strftime("%-d %B %Y").to_string(), more)
            }
            Some(("help", more)) => (escaped(help_desk), more),
            Some(("name", more)) => (escaped(&person.name), more),
            Some(("serial", more)) => (serial.to_string(), more),
            Some(("upn", more)) => (escaped(person.upn.as_str()), more),
            Some(("pin", more)) => {
                page.push_str(pin.expose());
                (String::new(), more)
            }
            // A brace of the style sheet.
            _ => ("{".to_owned(), after),
        };
        page.push_str(&value);
        rest = more;
    }
    page.push_str(rest);
    page
}

/// Text as HTML has it, in an attribute, too.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

const TEMPLATE: &str = include_str!("letter.html");

#[cfg(test)]
mod tests {
    use card::Slot;

    use super::*;

    #[test]
    fn a_letter_has_what_it_needs_and_its_pin_is_found_again() {
        let directory = tempfile::tempdir().unwrap();
        let letters = Letters::open(&directory.path().join("new/letters"), "Desk <4711>").unwrap();
        let person = Person {
            upn: "alice@corp.example".parse().unwrap(),
            name: "Alice {pin} <script>".to_owned(),
            slot: Slot::Authentication,
            serial: None,
        };
        let pin = Secret::new("83621947".to_owned());
        assert!(letters.pin(12_345_678).unwrap().is_none());
        letters.write(&person, 12_345_678, &pin, Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(letters.pin(12_345_678).unwrap().unwrap().expose(), "83621947");
        let text = fs::read_to_string(letters.path(12_345_678)).unwrap();
        for part in ["Alice {pin} &lt;script&gt;", "Desk &lt;4711&gt;", "alice@corp.example"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert_eq!(text.matches("83621947").count(), 2, "{text}");
        assert!(text.contains("@page { size: A4"), "{text}");
        assert!(!text.contains("http://") && !text.contains("https://"), "{text}");
        // Of another card, or of nobody: no PIN is made of it.
        fs::rename(letters.path(12_345_678), letters.path(1)).unwrap();
        assert!(letters.pin(1).is_err());
    }
}
