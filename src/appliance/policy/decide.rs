use jiff::Timestamp;
use thiserror::Error;

use super::{Caller, Certify, Grant, Rules};

/// Why policy refuses.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum Denial {
    /// There is no such role, or it is not for this caller; which of the two is not told.
    #[error("no role {role:?} for {caller}")]
    NoSuchRole {
        /// The role asked for.
        role: String,
        /// Who asked.
        caller: String,
    },
}

impl Denial {
    /// The stable word for programs and the audit log.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoSuchRole { .. } => "no-such-role",
        }
    }
}

/// Decides; pure and total.
///
/// # Errors
///
/// The one reason for which it is refused.
pub fn decide(
    caller: &Caller,
    request: Certify,
    _rules: &Rules,
    _now: Timestamp,
) -> Result<Grant, Denial> {
    Err(Denial::NoSuchRole { role: request.role, caller: caller.id.to_string() })
}
