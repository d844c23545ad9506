//! Lints: read the to-be-signed bytes as a stranger would, and say what breaks a rule.
//!
//! The kind of the certificate is read from the bytes as well, so that bytes that come back from
//! storage meet the same rules as bytes that were just built.

mod crl;
mod extensions;
mod names;
mod profiles;
mod reading;
mod rules;

use std::fmt;

pub(super) use crl::check as check_crl;
pub(super) use reading::sixteen_octets;

use self::reading::Reading;
use super::{Issuer, Template};
use crate::seal::Summary;

/// The rules that a text breaks; never empty.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Findings(pub Vec<Finding>);

/// One broken rule.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Finding {
    /// The rule's stable name, for example `smartcard-logon-upn-exactly-one`.
    pub rule: &'static str,
    /// What broke it.
    pub what: String,
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, finding) in self.0.iter().enumerate() {
            let separator = if i == 0 { "" } else { "; " };
            write!(f, "{separator}{}: {}", finding.rule, finding.what)?;
        }
        Ok(())
    }
}

impl std::error::Error for Findings {}

impl Findings {
    pub(super) fn of(rule: &'static str, what: String) -> Self {
        Self(vec![Finding { rule, what }])
    }
}

/// Lints the bytes, and says what they say. With a template, also that they say what it asked for.
///
/// # Errors
///
/// Every rule that they break.
pub(super) fn check(
    bytes: &[u8],
    issuer: &Issuer,
    template: Option<&Template>,
) -> Result<Summary, Findings> {
    let mut report = Report::default();
    let tbs = reading::tbs_certificate(bytes)?;
    rules::frame(&tbs, issuer, &mut report);
    let Some(reading) = Reading::of(tbs, &mut report) else {
        return Err(report.into_findings());
    };
    rules::all(&reading, issuer, &mut report);
    profiles::check(&reading, issuer, &mut report);
    if let Some(template) = template {
        rules::template_kept(&reading, template, &mut report);
    }
    if report.0.is_empty() { Ok(reading.into_summary()) } else { Err(report.into_findings()) }
}

/// The rules broken so far.
#[derive(Default)]
struct Report(Vec<Finding>);

impl Report {
    fn add(&mut self, rule: &'static str, what: impl Into<String>) {
        self.0.push(Finding { rule, what: what.into() });
    }

    fn require(&mut self, holds: bool, rule: &'static str, what: &str) {
        if !holds {
            self.add(rule, what);
        }
    }

    fn into_findings(self) -> Findings {
        Findings(self.0)
    }
}
