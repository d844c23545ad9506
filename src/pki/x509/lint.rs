//! Lints: read the to-be-signed bytes as a stranger would, and say what breaks a rule.

use std::fmt;

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
