//! Patterns of what people read and write down: the number of a bag, a seal, a serial number.

use std::{fmt, str::FromStr};

use thiserror::Error;

/// The form of a short text: `A` stands for a capital letter, `9` for a digit, `*` for either, and
/// everything else for itself. As it is printed beside a line to write on, so it is checked.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern(String);

/// Not a pattern.
#[derive(Clone, Debug, Error, Eq, PartialEq)]
#[error("{0:?} is no pattern: 1 to 64 printable letters of ASCII, single spaces between them")]
pub struct ParsePatternError(String);

impl Pattern {
    /// Whether a text has this form.
    pub fn takes(&self, text: &str) -> bool {
        let fits = |(wanted, found): (char, char)| match wanted {
            'A' => found.is_ascii_uppercase(),
            '9' => found.is_ascii_digit(),
            '*' => found.is_ascii_uppercase() || found.is_ascii_digit(),
            itself => itself == found,
        };
        self.0.chars().count() == text.chars().count() && self.0.chars().zip(text.chars()).all(fits)
    }

    /// A text of this form.
    pub fn sample(&self) -> String {
        let sample = |letter| match letter {
            '9' | '*' => '0',
            other => other,
        };
        self.0.chars().map(sample).collect()
    }
}

/// Whether a text is one line that can be read aloud: not empty, not long, nothing invisible.
pub fn is_readable(text: &str) -> bool {
    let length = text.chars().count();
    (1..=240).contains(&length) && !text.chars().any(char::is_control) && is_tight(text)
}

/// Whether no space is at an end, or beside another.
fn is_tight(text: &str) -> bool {
    text.split(' ').all(|word| !word.is_empty())
}

impl FromStr for Pattern {
    type Err = ParsePatternError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let printable = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        if printable && text.len() <= 64 && is_tight(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(ParsePatternError(text.to_owned()))
        }
    }
}

impl TryFrom<String> for Pattern {
    type Error = ParsePatternError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        pattern.0
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_has_the_form_of_its_pattern_or_not() {
        for (pattern, takes, refuses) in [
            ("AA-999", "CH-042", "ch-042"),
            ("AA-999", "ZZ-000", "ZZ-00"),
            ("9999 ****", "2026 0A9Z", "2026 0a9Z"),
            ("bag 9", "bag 7", "Bag 7"),
            ("99", "42", "٤٢"),
        ] {
            let pattern: Pattern = pattern.parse().unwrap();
            assert!(pattern.takes(takes), "{pattern}: {takes}");
            assert!(!pattern.takes(refuses), "{pattern}: {refuses}");
            assert!(pattern.takes(&pattern.sample()), "{pattern}");
        }
        for text in ["", " A", "A  9", "Ä9", "A\n", &"A".repeat(65)] {
            assert!(text.parse::<Pattern>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn what_cannot_be_read_aloud_is_not_written_down() {
        assert!(is_readable("Siegel 12, Grüße"));
        for text in ["", "two\nlines", "a  b", " a", &"a".repeat(241), "esc\u{1b}[2J"] {
            assert!(!is_readable(text), "{text:?}");
        }
    }
}
