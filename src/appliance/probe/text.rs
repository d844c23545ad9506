//! The report for a terminal of 80 columns.

use std::fmt::{self, Write};

use pki::token::pkcs11::{KeySurvey, MechanismSurvey, SessionLimit};

use super::report::{Finding, Key, Level, Login, Rate, Recommendation, Report, Severity};

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut page = Page::default();
        page.module_and_token(self);
        page.mechanisms(&self.token.mechanisms);
        page.keys(&self.keys);
        page.sessions(self);
        page.rates(&self.rates);
        page.findings(&self.findings);
        if let Some(recommendation) = &self.recommendation {
            page.recommendation(recommendation);
        }
        f.write_str(&page.text)
    }
}

#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn module_and_token(&mut self, report: &Report) {
        let token = &report.token;
        self.head("Module");
        self.field("file", &report.module.display().to_string());
        self.field("library", &format!("{} {}", token.library, token.library_version));
        self.field("made by", &token.library_manufacturer);
        self.field("PKCS#11", &token.pkcs11_version);
        self.field("sandbox", &report.sandbox.enforced.join("; "));
        self.head("Token");
        let identity = &token.identity;
        self.field("label", &identity.label);
        self.field("serial", identity.serial.as_deref().unwrap_or_default());
        self.field("made by", identity.manufacturer.as_deref().unwrap_or_default());
        self.field("model", identity.model.as_deref().unwrap_or_default());
        self.field("hardware", &token.hardware_version);
        self.field("firmware", &token.firmware_version);
        self.field("flags", &token.flags.join(" "));
        let (least, most) = token.pin_length;
        let login = match &report.login {
            Login::Accepted => "accepted".to_owned(),
            Login::Refused { code } => format!("refused: {code}"),
        };
        self.field("PIN", &login);
        // CK_EFFECTIVELY_INFINITE is 0 (Kryoptic gives it).
        let length = match most {
            0 => format!("{least} bytes long or longer"),
            _ => format!("{least} to {most} bytes long"),
        };
        self.field("", &length);
    }

    fn mechanisms(&mut self, mechanisms: &[MechanismSurvey]) {
        self.head("Mechanisms that Chancery uses");
        for mechanism in mechanisms.iter().filter(|mechanism| mechanism.used) {
            let MechanismSurvey { name, min_key_size, max_key_size, can, .. } = mechanism;
            let size = format!("{min_key_size} to {max_key_size}");
            let ours = |what: &&String| ["generate_key_pair", "sign"].contains(&what.as_str());
            let can: Vec<_> = can.iter().filter(ours).map(String::as_str).collect();
            self.line(&format!("{name:<27} {size:<14} {}", can.join(" ")));
        }
        let others: Vec<_> = mechanisms.iter().filter(|other| !other.used).collect();
        if !others.is_empty() {
            self.line(&format!("and {} others, which --json tells", others.len()));
        }
    }

    fn keys(&mut self, keys: &[Key]) {
        if keys.is_empty() {
            return;
        }
        self.head("Keys of the hand-off");
        for key in keys {
            let offline = if key.online { "" } else { ", offline" };
            self.line(&format!("{} ({}{offline}), CKA_ID {}", key.label, key.algorithm, key.id));
            if let Some(told) = &key.told {
                let none = "no mechanism that the token has";
                self.deep("signs by", told.mechanism.as_deref().unwrap_or(none));
                self.deep("made by", told.generated_by.as_deref().unwrap_or("not told"));
            }
            self.deep("not found", key.failure.as_deref().unwrap_or_default());
        }
        self.head("Attributes of their private halves");
        let mut kinds: Vec<(&KeySurvey, Vec<String>)> = Vec::new();
        for (told, label) in keys.iter().filter_map(|key| Some((key.told.as_ref()?, &key.label))) {
            match kinds.iter_mut().find(|(known, _)| known.attributes == told.attributes) {
                Some((_, labels)) => labels.push(label.to_string()),
                None => kinds.push((told, vec![label.to_string()])),
            }
        }
        for (told, labels) in kinds {
            self.field("of", &labels.join(" "));
            self.attributes(told);
        }
    }

    fn attributes(&mut self, told: &KeySurvey) {
        for (name, wanted) in [("yes", Some(true)), ("no", Some(false)), ("not told", None)] {
            let attributes: Vec<_> = told
                .attributes
                .iter()
                .filter(|(_, value)| *value == wanted)
                .map(|(name, _)| name.trim_start_matches("CKA_"))
                .collect();
            if !attributes.is_empty() {
                self.deep(name, &attributes.join(" "));
            }
        }
    }

    fn sessions(&mut self, report: &Report) {
        let Some(sessions) = &report.sessions else { return };
        self.head("Sessions");
        let told = match report.token.session_limit {
            SessionLimit::AtMost(count) => count.to_string(),
            SessionLimit::Unlimited => "no limit".to_owned(),
            SessionLimit::Untold => "not told".to_owned(),
        };
        self.field("token says", &told);
        self.field("opened", &sessions.opened.to_string());
        if let Some(failure) = &sessions.failure {
            self.field("then", failure);
        }
    }

    fn rates(&mut self, rates: &[Rate]) {
        if rates.is_empty() {
            return;
        }
        self.head("Signatures a second");
        let all = rates.iter().flat_map(|rate| &rate.levels);
        let best = all.map(|level| level.per_second).fold(f64::MIN_POSITIVE, f64::max);
        for rate in rates {
            self.line(&format!("{}, by {}", rate.scheme, rate.key));
            rate.levels.iter().for_each(|level| self.level(level, best));
            if let Some(failure) = &rate.failure {
                self.deep("failed", failure);
            }
        }
    }

    fn level(&mut self, level: &Level, best: f64) {
        let Level { sessions, per_second, median_ms, .. } = level;
        // At most 24 columns: what the cast cuts off is part of one.
        let bar = "#".repeat((per_second / best * 24.0).ceil() as usize);
        self.line(&format!(
            "  {sessions:>2} at once  {per_second:>8.1}/s  median {median_ms:>7.2} ms  {bar}"
        ));
    }

    fn findings(&mut self, findings: &[Finding]) {
        self.head("Findings");
        if findings.is_empty() {
            self.line("none: all is as it should be");
        }
        for Finding { severity, about, what, hint } in findings {
            let severity = match severity {
                Severity::Error => "ERROR",
                Severity::Warning => "warning",
                Severity::Note => "note",
            };
            self.field(severity, &format!("{about}: {what}"));
            self.field("", hint);
        }
    }

    fn recommendation(&mut self, recommendation: &Recommendation) {
        self.head("Recommendation for chanceryd.toml");
        for line in recommendation.toml.lines() {
            self.line(line);
        }
        self.text.push('\n');
        for reason in &recommendation.reasons {
            self.wrapped(2, 0, "", reason);
        }
    }

    fn head(&mut self, title: &str) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        self.text.push_str(title);
        self.text.push('\n');
    }

    fn line(&mut self, text: &str) {
        self.text.push_str("  ");
        self.text.push_str(&printable(text));
        self.text.push('\n');
    }

    fn field(&mut self, name: &str, value: &str) {
        self.wrapped(2, NAME, name, value);
    }

    fn deep(&mut self, name: &str, value: &str) {
        self.wrapped(4, NAME, name, value);
    }

    /// A name in a column of so many characters, and a value that is broken between words.
    fn wrapped(&mut self, indent: usize, width: usize, name: &str, value: &str) {
        let margin = indent + width;
        let mut name = name;
        let mut line = String::new();
        let value = printable(value);
        let mut words = value.split_whitespace().peekable();
        while let Some(word) = words.next() {
            line.push_str(word);
            let fits = |next: &&str| margin + line.chars().count() + 1 + next.len() <= COLUMNS;
            if words.peek().is_some_and(fits) {
                line.push(' ');
                continue;
            }
            // Writing to a String does not fail.
            let _ = writeln!(self.text, "{:indent$}{name:<width$}{line}", "");
            (name, line) = ("", String::new());
        }
    }
}

/// What a token says of itself may be anything: some pad with NUL instead of blanks, and nothing
/// of it shall steer the terminal.
fn printable(text: &str) -> String {
    let text = text.trim_end_matches('\0').chars();
    let escaped =
        text.map(|c| if c.is_control() { c.escape_default().to_string() } else { c.into() });
    escaped.collect()
}

/// The width of names.
const NAME: usize = 12;

const COLUMNS: usize = 80;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_token_says_does_not_steer_the_terminal_or_leave_its_column() {
        let mut page = Page::default();
        page.field("model", "SW   TPM\0\0\0");
        page.field("label", &format!("\u{1b}[2J{}", " word".repeat(40)));
        page.line("issuing/\u{7}");
        assert!(page.text.starts_with("  model       SW TPM\n"), "{}", page.text);
        assert!(page.text.contains("\\u{1b}[2J word"), "{}", page.text);
        assert!(page.text.chars().all(|c| c == '\n' || !c.is_control()), "{}", page.text);
        assert!(page.text.lines().all(|line| line.len() <= COLUMNS), "{}", page.text);
    }
}
