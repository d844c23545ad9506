//! Distinguished names and object identifiers.

use std::str::FromStr;

use const_oid::ObjectIdentifier;
use unicode_normalization::is_nfc;
use x509_cert::name::Name;

/// A subset of RFC 4514 that is read one way only: known attributes, one in each part, no values
/// in hexadecimal, and of the escapes only a backslash before a special character.
pub(super) fn distinguished_name(text: &str) -> Result<(), &'static str> {
    if !is_nfc(text) {
        return Err("it must be in Unicode normalization form C");
    }
    if text.chars().any(char::is_control) {
        return Err("it must not have control characters");
    }
    let mut rest = Some(text);
    while let Some(text) = rest {
        let Some((kind, text)) = text.split_once('=') else {
            return Err("it has the form CN=Example Root,O=Example,C=DE");
        };
        let (value, following) = split_value(text)?;
        check_value(kind, &value)?;
        rest = following;
    }
    Name::from_str(text).map(drop).map_err(|_| "it cannot be encoded in DER")
}

/// The first value without its escapes, and what follows its comma.
fn split_value(text: &str) -> Result<(String, Option<&str>), &'static str> {
    if text.starts_with([' ', '#']) {
        return Err("a value that begins with a space or # is written with a backslash before it");
    }
    let mut value = String::new();
    let mut chars = text.char_indices();
    let mut end = None;
    while let Some((at, c)) = chars.next() {
        match c {
            ',' => {
                end = Some(at);
                break;
            }
            '\\' => match chars.next() {
                Some((_, escaped)) if " \"#+,;<=>".contains(escaped) => value.push(escaped),
                _ => return Err("after a backslash stands one of space \" # + , ; < = >"),
            },
            // RFC 4514 lets = stand alone; it is refused because CN=a/O=b (the form that openssl
            // prints) would become one value.
            '"' | '+' | ';' | '<' | '=' | '>' => {
                return Err("\" + ; < = > in a value are written with a backslash before them");
            }
            _ => value.push(c),
        }
    }
    let written = &text[..end.unwrap_or(text.len())];
    if written.ends_with(' ') && !written.ends_with("\\ ") {
        return Err("a value that ends with a space is written with a backslash before it");
    }
    Ok((value, end.map(|at| &text[at + 1..])))
}

/// The upper bounds and the string types of RFC 5280 appendix A.1.
fn check_value(kind: &str, value: &str) -> Result<(), &'static str> {
    let length = value.chars().count();
    let right = match kind {
        "CN" | "O" | "OU" => (1..=64).contains(&length),
        "L" | "ST" => (1..=128).contains(&length),
        "C" => length == 2 && value.bytes().all(|c| c.is_ascii_uppercase()),
        "DC" => {
            (1..=63).contains(&length)
                && value.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-')
        }
        "serialNumber" => {
            (1..=64).contains(&length)
                && value.bytes().all(|c| c.is_ascii_alphanumeric() || b" '()+,-./:=?".contains(&c))
        }
        _ => return Err("its attributes are CN, O, OU, C, ST, L, DC and serialNumber"),
    };
    if right {
        Ok(())
    } else {
        Err("CN, O, OU and serialNumber have 1 to 64 characters, L and ST 1 to 128, C two capital \
             letters, DC one DNS label; serialNumber has only those of a PrintableString")
    }
}

pub(super) fn oid(text: &str) -> Result<(), &'static str> {
    const FORM: &str = "it has the form 1.3.6.1.4.1.99999.1";

    let parsed = ObjectIdentifier::new(text).map_err(|_| FORM)?;
    // Leading zeros would make two texts of one identifier.
    if parsed.to_string() == text { Ok(()) } else { Err(FORM) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::{DistinguishedName, Oid, tests::check};

    #[test]
    fn distinguished_names() {
        let longest = format!("CN={}", "ä".repeat(64));
        check::<DistinguishedName>(
            &[
                "CN=Example Root,O=Example,C=DE",
                "DC=example,DC=com",
                "CN=a",
                "serialNumber=42 A",
                "CN=Smith\\, Jim,O=A \\+ B \\\"C\\\"",
                "CN=\\#1\\ ",
                "CN=a\\=b",
                "L=Köln,ST=NRW",
                &longest,
            ],
            &[
                "",
                "CN",
                "CN=",
                "=a",
                "cn=a",
                "CN=a,",
                ",CN=a",
                "CN=a,,O=b",
                "CN=a, O=b",
                "CN= a",
                "CN=a ",
                "CN=a+O=b",
                "CN=a;O=b",
                "CN=#0401",
                "CN=a\\00",
                "CN=a\\41",
                "CN=a\\\\",
                "CN=a\\",
                "CN=\"a\"",
                "CN=a\0",
                "CN=a\nb",
                "C=de",
                "C=DEU",
                "DC=a.b",
                "E=a@b",
                "UID=a",
                "2.5.4.3=a",
                "serialNumber=a_b",
                "CN=u\u{308}",
                "CN=a/O=b/C=DE",
                "CN=a=b",
                "C=DE; O=b",
                &format!("{longest}a"),
            ],
        );
    }

    /// RFC 4514 text has the most specific part first, DER the root.
    #[test]
    fn the_last_part_of_the_text_is_the_first_in_der() {
        let name = Name::from_str("CN=a,C=DE").unwrap();
        let first = name.iter().next().unwrap().to_string();
        assert_eq!(first, "C=DE");
    }

    #[test]
    fn object_identifiers() {
        check::<Oid>(
            &["1.3.6.1.4.1.311.20.2.2", "2.5.29.17", "0.9.2342"],
            &[
                "",
                "1",
                "1.",
                ".1",
                "1..2",
                "3.1",
                "1.40",
                "1.3.06",
                "a.b",
                "1.3 ",
                "1.3.4294967296",
            ],
        );
    }
}
