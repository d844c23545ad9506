//! Names of entries: where an account is, and in which unit (RFC 4514, read the way LDAP compares).

use std::{fmt, str::FromStr};

use serde::Deserialize;

/// The distinguished name of an entry, compared without regard to case and to how it is escaped.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct EntryName {
    text: String,
    /// Attribute and value of each part, in lower case and without escapes, the entry's own first.
    parts: Vec<(String, String)>,
}

impl EntryName {
    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The DNS domain that its last parts name (RFC 2247), if they do.
    pub fn domain(&self) -> Option<String> {
        let last = self.parts.iter().rev().take_while(|(kind, _)| kind == "dc");
        let mut labels: Vec<_> = last.map(|(_, label)| label.as_str()).collect();
        labels.reverse();
        (!labels.is_empty()).then(|| labels.join("."))
    }

    /// Whether it is somewhere below this entry: not the entry itself.
    pub fn is_below(&self, unit: &Self) -> bool {
        self.parts.len() > unit.parts.len() && self.parts.ends_with(&unit.parts)
    }
}

impl PartialEq for EntryName {
    fn eq(&self, other: &Self) -> bool {
        self.parts == other.parts
    }
}

impl Eq for EntryName {}

impl fmt::Display for EntryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for EntryName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |what| format!("{text:?} is no name of an entry: {what}");
        let mut parts = Vec::new();
        let mut rest = Some(text);
        while let Some(part) = rest {
            let (kind, value) = part
                .split_once('=')
                .ok_or_else(|| wrong("it has the form OU=Sales,DC=corp,DC=example"))?;
            let kind = kind.trim_matches(' ');
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
            if kind.is_empty() || !kind.chars().all(plain) {
                return Err(wrong("an attribute has letters, digits, - and ."));
            }
            let (value, following) = value_and_rest(value).map_err(wrong)?;
            parts.push((kind.to_ascii_lowercase(), value.to_lowercase()));
            rest = following;
        }
        Ok(Self { text: text.to_owned(), parts })
    }
}

impl TryFrom<String> for EntryName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// The value that a text begins with, without its escapes, and what follows its comma.
fn value_and_rest(text: &str) -> Result<(String, Option<&str>), &'static str> {
    let text = text.trim_start_matches(' ');
    if text.starts_with('#') {
        return Err("a value in hexadecimal is not read");
    }
    let mut value = Vec::new();
    // Spaces before the comma do not count, unless they are escaped.
    let mut kept = 0;
    let mut bytes = text.bytes().enumerate();
    let mut rest = None;
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b',' => {
                rest = text.get(at + 1..);
                break;
            }
            b'\\' => {
                let (_, first) = bytes.next().ok_or("it ends with a backslash")?;
                value.push(if b" \"#+,;<=>\\".contains(&first) {
                    first
                } else {
                    let second = bytes.next().map(|(_, byte)| byte);
                    hexadecimal(first, second).ok_or("after a backslash stands what is none")?
                });
                kept = value.len();
            }
            b'"' | b'+' | b';' | b'<' | b'>' | 0 => {
                return Err("\" + ; < > in a value are written with a backslash before them");
            }
            b' ' => value.push(byte),
            _ => {
                value.push(byte);
                kept = value.len();
            }
        }
    }
    value.truncate(kept);
    let value = String::from_utf8(value).map_err(|_| "a value is not UTF-8")?;
    if value.is_empty() {
        return Err("a value is empty");
    }
    Ok((value, rest))
}

fn hexadecimal(first: u8, second: Option<u8>) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|it| u8::try_from(it).ok());
    Some(16 * digit(first)? + digit(second?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> EntryName {
        text.parse().unwrap()
    }

    #[test]
    fn an_entry_is_below_a_unit_by_whole_parts() {
        let unit = "OU=Sales,DC=corp,DC=example";
        for (entry, wanted) in [
            ("CN=alice,OU=Sales,DC=corp,DC=example", true),
            ("cn=alice,ou=SALES,dc=Corp,dc=example", true),
            ("CN=alice, OU = Sales , DC=corp,DC=example", true),
            ("CN=alice,OU=\\53ales,DC=corp,DC=example", true),
            ("CN=alice,OU=Graz,OU=Sales,DC=corp,DC=example", true),
            ("CN=Smith\\, Jim,OU=Sales,DC=corp,DC=example", true),
            (unit, false),
            ("CN=alice,OU=Sales,DC=other,DC=example", false),
            ("CN=alice,OU=Presales,DC=corp,DC=example", false),
            ("CN=alice,OU=Sales,DC=corp,DC=example,DC=org", false),
            ("CN=alice\\,OU=Sales,DC=corp,DC=example", false),
            ("CN=alice\\2COU=Sales,DC=corp,DC=example", false),
            ("CN=alice,CN=Sales,DC=corp,DC=example", false),
            ("DC=corp,DC=example", false),
        ] {
            assert_eq!(name(entry).is_below(&name(unit)), wanted, "{entry}");
        }
    }

    #[test]
    fn the_same_entry_is_written_in_many_ways() {
        let same = ["CN=Müller \\+ Co\\ ,DC=example", "cn=MÜLLER \\2b co\\20,dc=Example"];
        assert_eq!(name(same[0]), name(same[1]));
        assert_ne!(name("CN=a,DC=example"), name("CN=a\\ ,DC=example"));
        assert_ne!(name("CN=a,DC=example"), name("CN=a"));
        assert_eq!(name("CN=a,DC=b,OU=c,DC=corp,DC=Example").domain().unwrap(), "corp.example");
        assert_eq!(name("CN=a,O=b").domain(), None);
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for text in [
            "",
            "alice",
            "CN=",
            "=a",
            "CN=a,",
            ",CN=a",
            "CN=a,,DC=b",
            "CN=a+OU=b",
            "CN=#0401",
            "CN=\"a\"",
            "CN=a\\",
            "CN=a\\4",
            "CN=a\\zz",
            "CN=\\ff",
            "C N=a",
            "CN=a;DC=b",
            "CN=a\0",
        ] {
            assert!(text.parse::<EntryName>().is_err(), "{text:?}");
        }
    }
}
