//! The people of a batch, out of a file of comma-separated values (RFC 4180, with semicolons, too, as
//! some countries' spreadsheets write them).

use std::{collections::BTreeMap, fs, path::Path};

use card::Slot;
use pki::names::Upn;

use super::error::BatchError;
use crate::cli::failure::Failure;

/// Somebody who gets a card.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Person {
    pub(super) upn: Upn,
    /// What the letter calls the person; the account's name where nothing is said.
    pub(super) name: String,
    pub(super) slot: Slot,
    /// The card that the person is to have, if it is said.
    pub(super) serial: Option<u32>,
}

/// What is wrong, and where.
#[derive(Debug, Eq, PartialEq)]
struct Wrong {
    line: usize,
    column: Option<String>,
    what: String,
}

/// Reads all of a file.
pub(super) fn read(path: &Path, slot: Slot) -> Result<Vec<Person>, Failure> {
    let bytes = fs::read(path).map_err(|source| Failure::Read { path: path.to_owned(), source })?;
    parse(&bytes, slot).map_err(|Wrong { line, column, what }| {
        let column = column.map(|it| format!(", column {it:?}")).unwrap_or_default();
        BatchError::People { path: path.to_owned(), at: format!("line {line}{column}"), what }
            .into()
    })
}

fn parse(bytes: &[u8], slot: Slot) -> Result<Vec<Person>, Wrong> {
    let text = text_of(bytes)?;
    let mut rows = rows(text)?.into_iter();
    let (_, heads) = rows.next().unwrap_or_default();
    let heads: Vec<_> = heads.iter().map(|it| it.trim().to_lowercase()).collect();
    check_heads(&heads)?;
    let mut people: Vec<Person> = Vec::new();
    let (mut upns, mut serials) = (BTreeMap::new(), BTreeMap::new());
    for (line, fields) in rows {
        let wrong = |column: &str, what: String| {
            let column = (!column.is_empty()).then(|| column.to_owned());
            Wrong { line, column, what }
        };
        if fields.len() != heads.len() {
            let (found, wanted) = (fields.len(), heads.len());
            return Err(wrong("", format!("it has {found} columns, and the first line {wanted}")));
        }
        let field = |name: &str| {
            let at = heads.iter().position(|head| head == name)?;
            Some(fields[at].trim()).filter(|text| !text.is_empty())
        };
        let upn = field("upn").ok_or_else(|| wrong("upn", "it is empty".to_owned()))?;
        let upn: Upn = upn.parse().map_err(|error| wrong("upn", format!("{upn:?}: {error}")))?;
        if let Some(before) = upns.insert(upn.clone(), line) {
            return Err(wrong("upn", format!("{upn} is in line {before}, too")));
        }
        let slot = match field("slot").map(str::parse) {
            None => slot,
            Some(Ok(Slot::Attestation)) => {
                return Err(wrong("slot", "the key in f9 is the card's own".to_owned()));
            }
            Some(slot) => {
                slot.map_err(|error: card::ParseSlotError| wrong("slot", error.to_string()))?
            }
        };
        let serial = field("serial").map(|text| {
            text.parse().map_err(|_| wrong("serial", format!("{text:?} is no serial number")))
        });
        let serial = serial.transpose()?;
        if let Some(before) = serial.and_then(|serial| serials.insert(serial, line)) {
            return Err(wrong("serial", format!("the card is in line {before}, too")));
        }
        let account = || upn.as_str().split('@').next().unwrap_or_default();
        let name = field("name").unwrap_or_else(account).to_owned();
        if name.chars().any(char::is_control) {
            return Err(wrong("name", "it has a control character".to_owned()));
        }
        people.push(Person { upn, name, slot, serial });
    }
    if people.is_empty() {
        return Err(Wrong { line: 2, column: None, what: "nobody is in it".to_owned() });
    }
    Ok(people)
}

/// UTF-8, with or without the mark that Windows puts before it.
fn text_of(bytes: &[u8]) -> Result<&str, Wrong> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    std::str::from_utf8(bytes).map_err(|error| {
        let before = &bytes[..error.valid_up_to()];
        let line = 1 + before.iter().filter(|&&byte| byte == b'\n').count();
        let what = "it is not UTF-8: save it as \"CSV UTF-8\"".to_owned();
        Wrong { line, column: None, what }
    })
}

fn check_heads(heads: &[String]) -> Result<(), Wrong> {
    let wrong = |what: String| Wrong { line: 1, column: None, what };
    for (at, head) in heads.iter().enumerate() {
        if !COLUMNS.contains(&head.as_str()) {
            let known = COLUMNS.join(", ");
            return Err(wrong(format!("there is no column {head:?}: the columns are {known}")));
        }
        if heads[..at].contains(head) {
            return Err(wrong(format!("the column {head:?} is there twice")));
        }
    }
    match heads.iter().any(|head| head == "upn") {
        true => Ok(()),
        false => Err(wrong("the column \"upn\" is missing".to_owned())),
    }
}

/// The rows that are not empty, each with the number of its first line.
fn rows(text: &str) -> Result<Vec<(usize, Vec<String>)>, Wrong> {
    let head = text.lines().next().unwrap_or_default();
    let separator = if head.contains(';') && !head.contains(',') { ';' } else { ',' };
    let mut rows = Vec::new();
    let (mut line, mut rest) = (1, text);
    while !rest.is_empty() {
        let begun = line;
        let mut fields = Vec::new();
        loop {
            let (field, more) = field(rest, separator).map_err(|what| Wrong {
                line,
                column: Some((fields.len() + 1).to_string()),
                what: what.to_owned(),
            })?;
            line += rest[..rest.len() - more.len()].matches('\n').count();
            fields.push(field);
            match more.strip_prefix(separator) {
                Some(more) => rest = more,
                None => {
                    rest = more.strip_prefix("\r\n").or(more.strip_prefix('\n')).unwrap_or(more);
                    line += 1;
                    break;
                }
            }
        }
        if fields.iter().any(|field| !field.trim().is_empty()) {
            rows.push((begun, fields));
        }
    }
    Ok(rows)
}

/// One field, and what follows it: a separator, the end of a line, or nothing.
fn field(text: &str, separator: char) -> Result<(String, &str), &'static str> {
    let ends = |text: &str| {
        text.is_empty() || text.starts_with([separator, '\n']) || text.starts_with("\r\n")
    };
    let Some(mut rest) = text.strip_prefix('"') else {
        let end = text.find([separator, '\n']).unwrap_or(text.len());
        // The end of a line is the two of Windows, or the last one alone.
        let end = if text[end..].starts_with('\n') && text[..end].ends_with('\r') {
            end - 1
        } else {
            end
        };
        let field = &text[..end];
        return match field.contains(['"', '\r']) {
            true => Err("a quotation mark or an end of line within a field that is not quoted"),
            false => Ok((field.to_owned(), &text[end..])),
        };
    };
    let mut field = String::new();
    loop {
        let at = rest.find('"').ok_or("the quotation mark is never closed")?;
        field.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        match rest.strip_prefix('"') {
            Some(more) => {
                field.push('"');
                rest = more;
            }
            None if ends(rest) => return Ok((field, rest)),
            None => return Err("something follows the closing quotation mark"),
        }
    }
}

const COLUMNS: [&str; 4] = ["upn", "name", "slot", "serial"];

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<Person>, (usize, Option<String>, String)> {
        parse(text.as_bytes(), Slot::Authentication).map_err(|it| (it.line, it.column, it.what))
    }

    #[test]
    fn people_are_read_as_spreadsheets_write_them() {
        let alice = Person {
            upn: "alice@corp.example".parse().unwrap(),
            name: "Alice \"Al\", of Sales".to_owned(),
            slot: Slot::KeyManagement,
            serial: Some(12_345_678),
        };
        let bob = Person {
            upn: "bob@corp.example".parse().unwrap(),
            name: "bob".to_owned(),
            slot: Slot::Authentication,
            serial: None,
        };
        for text in [
            "upn,name,slot,serial\nalice@corp.example,\"Alice \"\"Al\"\", of Sales\",9d,12345678\n\
             bob@corp.example,,,\n",
            "\u{feff}UPN;Serial;Name;Slot\r\n\r\nalice@corp.example;12345678;\
             \"Alice \"\"Al\"\", of Sales\";9D\r\n;;;\r\nbob@corp.example;;;",
        ] {
            assert_eq!(read(text).unwrap(), [alice.clone(), bob.clone()], "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line_and_its_column() {
        let a = "alice@corp.example";
        for (text, line, column, what) in [
            (String::new(), 1, None, "is missing"),
            ("name\nAlice\n".to_owned(), 1, None, "\"upn\" is missing"),
            ("upn,mail\n".to_owned(), 1, None, "no column \"mail\""),
            ("upn,upn\n".to_owned(), 1, None, "twice"),
            ("upn\n\n".to_owned(), 2, None, "nobody"),
            (format!("upn\n{a},x\n"), 2, None, "2 columns"),
            ("upn,name\n,Alice\n".to_owned(), 2, Some("upn"), "empty"),
            (format!("upn\n{a}\n\nalice\n"), 4, Some("upn"), "\"alice\""),
            (format!("upn\n{a}\n{a}\n"), 3, Some("upn"), "line 2"),
            (format!("upn,slot\n{a},9b\n"), 2, Some("slot"), "no slot"),
            (format!("upn,slot\n{a},f9\n"), 2, Some("slot"), "own"),
            (format!("upn,serial\n{a},12 34\n"), 2, Some("serial"), "no serial number"),
            (format!("upn,serial\n{a},7\nb@c.d,7\n"), 3, Some("serial"), "line 2"),
            (format!("upn,name\n{a},\"x\ny\"\n"), 2, Some("name"), "control"),
            (format!("upn,name\n{a},\"x\n"), 2, Some("2"), "never closed"),
            (format!("upn,name\n{a},\"x\"y\n"), 2, Some("2"), "follows"),
            (format!("upn,name\n{a},x\"y\"\n"), 2, Some("2"), "quotation mark"),
        ] {
            let (found_line, found_column, found) = read(&text).unwrap_err();
            assert_eq!((found_line, found_column.as_deref()), (line, column), "{text:?}: {found}");
            assert!(found.contains(what), "{text:?}: {found}");
        }
        let latin = parse(b"upn,name\na@b.c,M\xfcller\n", Slot::Authentication).unwrap_err();
        assert_eq!((latin.line, latin.what.contains("UTF-8")), (2, true));
    }
}
