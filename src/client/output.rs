//! Output of the command lines: aligned lines for people, JSON for programs.

use std::io::{self, StdoutLock, Write};

use jiff::{Timestamp, tz::TimeZone};
use pki::clock::{Clock, SystemClock};
use serde::Serialize;

/// The standard output, for one of the two audiences.
pub struct Output {
    json: bool,
    out: StdoutLock<'static>,
}

impl Output {
    /// Takes the standard output, for programs or for people.
    pub fn new(json: bool) -> Self {
        Self { json, out: io::stdout().lock() }
    }

    /// The value as one line of JSON, or what `rows` makes of it for people.
    pub fn show<T: Serialize>(
        &mut self,
        value: &T,
        rows: impl FnOnce(&T) -> Vec<(&'static str, String)>,
    ) -> io::Result<()> {
        if self.json { self.line(value) } else { self.rows(&rows(value)) }
    }

    /// The value as one line of JSON for programs; nothing for people.
    pub fn json_only(&mut self, value: &impl Serialize) -> io::Result<()> {
        if self.json { self.line(value) } else { Ok(()) }
    }

    /// The value as one line of JSON, or a line of text for people.
    pub fn show_line(&mut self, value: &impl Serialize, text: &str) -> io::Result<()> {
        if self.json { self.line(value) } else { self.text(&format!("{text}\n")) }
    }

    /// One line of JSON, for whomever.
    pub fn line(&mut self, value: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.out, value)?;
        self.out.write_all(b"\n")?;
        self.out.flush()
    }

    /// The text as it is.
    pub fn text(&mut self, text: &str) -> io::Result<()> {
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }

    /// Aligned names and values; an empty value is left out.
    pub fn rows(&mut self, rows: &[(&'static str, String)]) -> io::Result<()> {
        let rows = rows.iter().filter(|(_, value)| !value.is_empty());
        let width = rows.clone().map(|(name, _)| name.len()).max().unwrap_or_default();
        for (name, value) in rows {
            writeln!(self.out, "{name:width$}  {}", printable(value))?;
        }
        self.out.flush()
    }

    /// Aligned columns under their heads.
    pub fn table<const N: usize>(
        &mut self,
        heads: Option<[&str; N]>,
        rows: &[[String; N]],
    ) -> io::Result<()> {
        let heads = heads.map(|heads| heads.map(str::to_owned));
        let rows: Vec<_> =
            rows.iter().map(|row| row.each_ref().map(|cell| printable(cell))).collect();
        let lines = || heads.iter().chain(&rows);
        let mut widths = [0; N];
        for line in lines() {
            for (width, cell) in widths.iter_mut().zip(line) {
                *width = (*width).max(cell.chars().count());
            }
        }
        for line in lines() {
            let cells = widths.iter().zip(line).map(|(width, cell)| format!("{cell:width$}"));
            writeln!(self.out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
        }
        self.out.flush()
    }

    /// Whether it is for programs.
    pub fn is_json(&self) -> bool {
        self.json
    }
}

/// Says what went wrong, and what to do about it, on the standard error.
#[expect(clippy::print_stderr, reason = "this is where the command line speaks of errors")]
pub fn complain(text: &str, hint: Option<&str>) {
    eprintln!("error: {text}");
    if let Some(hint) = hint {
        eprintln!("\nhint: {hint}");
    }
}

/// What other people wrote (a reason, a command) steers no terminal, and stays in its line and in
/// its direction.
pub fn printable(text: &str) -> String {
    let steers = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let escaped =
        text.chars().map(|c| if steers(c) { c.escape_default().to_string() } else { c.into() });
    escaped.collect()
}

/// A time as people read it: `2026-11-21 22:30:00 CET (in 7h 59m)`.
pub fn time(then: Timestamp) -> String {
    let local = then.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S %Z");
    format!("{local} ({})", distance(SystemClock.now(), then))
}

fn distance(now: Timestamp, then: Timestamp) -> String {
    let seconds = then.as_second().saturating_sub(now.as_second());
    let mut rest = seconds.unsigned_abs();
    let mut parts = Vec::new();
    for (unit, length) in [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)] {
        if rest >= length && parts.len() < 2 {
            parts.push(format!("{}{unit}", rest / length));
        } else if !parts.is_empty() {
            break;
        }
        rest %= length;
    }
    match (seconds, parts.join(" ")) {
        (0, _) => "now".to_owned(),
        (1.., parts) => format!("in {parts}"),
        (_, parts) => format!("{parts} ago"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_others_wrote_steers_the_terminal() {
        let text = printable("tïcket\u{1b}[2J 4711\nopen \u{202e}desrever");
        assert_eq!(text, "tïcket\\u{1b}[2J 4711\\nopen \\u{202e}desrever");
    }

    #[test]
    fn distances_have_at_most_two_neighbouring_units() {
        for (seconds, text) in [
            (0, "now"),
            (59, "in 59s"),
            (3_600, "in 1h"),
            (3_605, "in 1h"),
            (28_799, "in 7h 59m"),
            (90_000, "in 1d 1h"),
            (-61, "1m 1s ago"),
        ] {
            let now = Timestamp::from_second(1_000_000).unwrap();
            let then = Timestamp::from_second(1_000_000 + seconds).unwrap();
            assert_eq!(distance(now, then), text);
        }
    }
}
