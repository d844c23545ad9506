//! How a story fails: one sentence, what the peer said, what to do.

use std::fmt;

/// What a test or a step of the demo returns.
pub type Story = Result<(), Failure>;

/// Why a story could not go on.
pub struct Failure {
    what: String,
    said: Option<String>,
    hint: Option<String>,
}

impl Failure {
    /// A failure described by one sentence without a full stop.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), said: None, hint: None }
    }

    /// Adds what the peer said: its output or its log.
    pub fn said(mut self, said: impl Into<String>) -> Self {
        self.said = Some(said.into());
        self
    }

    /// Adds what to do about it.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if let Some(said) = self.said.as_deref().map(str::trim_end).filter(|said| !said.is_empty())
        {
            for line in said.lines() {
                write!(f, "\n    {line}")?;
            }
        }
        match &self.hint {
            Some(hint) => write!(f, "\n\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

/// The test runner prints a failed test's error by `Debug`: let a person read it.
impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Failure {}

/// Says what was being done when something else's error came up.
pub trait Doing<T> {
    /// Turns the error into a [`Failure`]: "cannot `what`", and the error with its causes.
    ///
    /// # Errors
    ///
    /// The error that was there.
    fn doing(self, what: impl fmt::Display) -> Result<T, Failure>;
}

impl<T, E: std::error::Error> Doing<T> for Result<T, E> {
    fn doing(self, what: impl fmt::Display) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(format!("cannot {what}")).said(causes(&error)))
    }
}

/// The error and what caused it, a line each.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!("\nbecause: {error}"));
        cause = error.source();
    }
    text
}
