use std::path::Path;

use thiserror::Error;

/// All roles and accounts: one consistent set.
#[derive(Clone, Debug, Default)]
pub struct Rules {}

/// A role.
#[derive(Clone, Debug)]
pub struct Role {}

/// The rules cannot be used; the ones before stay.
#[derive(Debug, Error)]
pub enum RulesError {
    /// A file or the directory cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// Which.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// A file breaks the rules of rules.
    #[error("{path}: {what}")]
    Invalid {
        /// Which.
        path: String,
        /// What is wrong.
        what: String,
    },
}

impl Rules {
    /// Reads every `*.toml` of a directory, strictly.
    ///
    /// # Errors
    ///
    /// Any file is unreadable or invalid; then none counts.
    pub fn read(_directory: &Path) -> Result<Self, RulesError> {
        todo!()
    }

    /// SHA-256 over the files' names and contents, hexadecimal.
    pub fn digest(&self) -> &str {
        todo!()
    }
}
