//! Shares on paper: a page for each, and sheets to be written on by hand. Each page is a file of its own
//! that needs nothing else, for whatever prints HTML.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use zeroize::Zeroizing;

use super::{
    SetId, Share, ShareError, ShareSet,
    text::{LINES, Line, parse_line},
};
use crate::name::Name;

/// What a page says besides the share.
#[derive(Clone, Debug)]
pub struct Occasion {
    /// The ceremony.
    pub ceremony: Name,
    /// The plan's hash in words.
    pub words: String,
    /// The token whose secret it is.
    pub token: String,
    /// When it was printed.
    pub time: Timestamp,
}

/// Writes a page for each share into a directory that only its owner can read; none, if one cannot be
/// written.
///
/// # Errors
///
/// A page is there already, or cannot be written.
pub fn print(
    directory: &Path,
    set: &ShareSet,
    shares: &[Share],
    occasion: &Occasion,
) -> io::Result<Vec<PathBuf>> {
    let mut pages = Vec::new();
    for share in shares {
        let path = path(directory, set, share.index);
        let page = page(set, share, occasion);
        let written = new_file(&path).and_then(|mut file| {
            pages.push(path);
            file.write_all(page.as_bytes()).and_then(|()| file.sync_all())
        });
        if let Err(error) = written {
            remove(directory, set)?;
            return Err(error);
        }
    }
    Ok(pages)
}

/// Overwrites and removes the pages of a set, as far as they are there.
///
/// # Errors
///
/// One cannot be removed.
pub fn remove(directory: &Path, set: &ShareSet) -> io::Result<()> {
    for index in 1..=set.terms.count {
        shred(&path(directory, set, index))?;
    }
    Ok(())
}

/// As [`remove`], the pages of all sets but these.
///
/// # Errors
///
/// One cannot be removed.
pub fn remove_all_but(directory: &Path, held: &BTreeSet<SetId>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        let set = name.to_str().and_then(|name| name.strip_prefix("share-")?.split_once('-'));
        let set: Option<SetId> = set.and_then(|(set, _)| set.parse().ok());
        if set.is_some_and(|set| !held.contains(&set)) {
            shred(&directory.join(name))?;
        }
    }
    Ok(())
}

/// Reads the lines of a share from its page: what a custodian does, in a rehearsal.
///
/// # Errors
///
/// The page is not there, or its lines are not those of a share.
pub fn read(directory: &Path, set: &ShareSet, index: u8) -> io::Result<Share> {
    let wrong = |error: ShareError| io::Error::new(io::ErrorKind::InvalidData, error);
    let page = Zeroizing::new(fs::read_to_string(path(directory, set, index))?);
    let mut lines: [Line; LINES as usize] = std::array::from_fn(|_| Line::default());
    let printed = page.split(BEFORE_LINE).skip(1);
    for ((number, line), printed) in (1..).zip(&mut lines).zip(printed) {
        let text = printed.split(AFTER_LINE).next().unwrap_or_default();
        *line = parse_line(number, text).map_err(wrong)?;
    }
    Share::from_lines(&lines).map_err(wrong)
}

/// Where the page of a share is.
pub fn path(directory: &Path, set: &ShareSet, index: u8) -> PathBuf {
    let holder = set.holder(index).map_or("", Name::as_str);
    directory.join(format!("share-{}-{index}-{holder}.html", set.terms.set))
}

/// Sheets for shares that are written by hand.
pub fn blank(count: u8) -> String {
    let mut sheets = String::new();
    for _ in 0..count {
        sheets.push_str("<section>\n<h1>Share ____ of ____</h1>\n<table class=\"facts\">\n");
        for what in FACTS {
            sheets.push_str(&format!("<tr><th>{what}</th><td class=\"blank\"></td></tr>\n"));
        }
        sheets.push_str("</table>\n<table class=\"share\">\n");
        let boxes = "<td class=\"box\"></td>";
        let group = format!("{}<td class=\"gap\"></td>", boxes.repeat(4));
        for number in 1..=LINES {
            let (groups, check) = (group.repeat(4), boxes.repeat(2));
            sheets.push_str(&format!("<tr><th>{number}</th>{groups}{check}</tr>\n"));
        }
        sheets.push_str(&format!("</table>\n{CARE}</section>\n"));
    }
    document("Sheets for shares", &sheets)
}

fn page(set: &ShareSet, share: &Share, occasion: &Occasion) -> Zeroizing<String> {
    let (terms, holder) = (share.terms, set.holder(share.index).map_or("", Name::as_str));
    let Occasion { ceremony, words, token, time } = occasion;
    let said = [
        holder.to_owned(),
        terms.set.to_string(),
        terms.purpose.to_string(),
        format!("any {} of {} shares together", terms.threshold, terms.count),
        token.clone(),
        ceremony.to_string(),
        words.clone(),
        time.strftime("%Y-%m-%d").to_string(),
    ];
    let facts: String = FACTS
        .iter()
        .zip(said)
        .map(|(what, said)| format!("<tr><th>{what}</th><td>{}</td></tr>\n", escaped(&said)))
        .collect();
    // The one copy of the share: it is as long as it will ever be.
    let mut lines = Zeroizing::new(String::with_capacity(500));
    for (number, line) in (1..).zip(share.to_lines()) {
        lines.push_str("<tr><th>");
        lines.push(char::from(b'0' + number));
        lines.push_str(BEFORE_LINE);
        lines.push_str(&line);
        lines.push_str(AFTER_LINE);
    }
    let (index, count) = (share.index, terms.count);
    let body = Zeroizing::new(format!(
        "<section>\n<h1>Share {index} of {count}</h1>\n<table class=\"facts\">\n{facts}</table>\n\
         <table class=\"share\">\n{}</table>\n{CARE}</section>\n",
        &*lines
    ));
    Zeroizing::new(document(&format!("Share {index} of set {}", terms.set), &body))
}

fn document(title: &str, body: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>{title}</title>\n\
         <style>{STYLE}</style>\n</head>\n<body>\n{body}</body>\n</html>\n"
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Overwrites a file and removes it, if it is there.
fn shred(path: &Path) -> io::Result<()> {
    let overwritten = match OpenOptions::new().write(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => Err(error),
        Ok(mut file) => {
            let length = file.metadata()?.len();
            io::copy(&mut io::Read::take(io::repeat(0), length), &mut file)
                .and_then(|_| file.sync_all())
        }
    };
    fs::remove_file(path)?;
    overwritten
}

fn new_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

const FACTS: [&str; 8] =
    ["Holder", "Set", "What it is for", "It takes", "Token", "Ceremony", "Plan, in words", "Date"];

const BEFORE_LINE: &str = "</th><td class=\"line\">";
const AFTER_LINE: &str = "</td></tr>\n";

const CARE: &str = "<ol>\n\
    <li>Type these lines back when you are asked to; the ceremony goes on only if they are right.</li>\n\
    <li>Put this page into your envelope, close it with your seal, and write the seal's number into the script.</li>\n\
    <li>Keep it where nobody else comes, apart from all other shares. Make no copy and no photograph.</li>\n\
    <li>Whoever asks you for it, ask for the plan of a ceremony. You type it yourself; nobody types it for you.</li>\n\
    </ol>\n\
    <p class=\"sign\">Received, read back and sealed</p>\n\
    <table class=\"sign\"><tr><td>Seal</td><td>Date</td><td>Signature</td></tr></table>\n";

const STYLE: &str = "\
@page { size: A4; margin: 20mm }\n\
body { font: 11pt/1.4 sans-serif; color: #000; background: #fff; margin: 0 }\n\
section { break-after: page; max-width: 170mm; margin: 0 auto }\n\
section:last-child { break-after: auto }\n\
h1 { font-size: 20pt; margin: 0 0 6mm }\n\
table { border-collapse: collapse; break-inside: avoid }\n\
table.facts { width: 100% }\n\
table.facts th { text-align: left; font-weight: normal; color: #444; width: 38mm; vertical-align: top }\n\
table.facts td, table.facts th { padding: 1mm 0; border-bottom: 0.2mm solid #bbb }\n\
td.blank { height: 8mm }\n\
table.share { margin: 8mm 0; border: 0.4mm solid #000; width: 100% }\n\
table.share th { font-weight: normal; color: #444; padding: 2mm 4mm; width: 8mm; text-align: right }\n\
table.share tr:nth-child(even) { background: #f2f2f2; print-color-adjust: exact }\n\
td.line { font: 17pt/1.5 monospace; white-space: pre; padding: 2mm 0 }\n\
td.box { border: 0.2mm solid #000; width: 6.5mm; height: 9mm; background: #fff }\n\
td.gap { width: 3mm }\n\
ol { padding-left: 5mm } li { margin: 1mm 0 }\n\
p.sign { margin: 8mm 0 1mm }\n\
table.sign { width: 100% } table.sign td { height: 16mm; vertical-align: top; color: #444; border: 0.2mm solid #000; padding: 1mm 2mm }\n";
