//! The TOML files that tell agents what to do.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::de::DeserializeOwned;
use thiserror::Error;

/// The file cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// It says something else.
    #[error("{}: {what}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Where and what.
        what: String,
    },
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
        /// The page of the documentation that shows such a file.
        page: &'static str,
    },
}

impl ConfigError {
    /// What to do about it, if there is something.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Read { source, page, .. } if source.kind() == io::ErrorKind::NotFound => {
                Some(format!("{page} shows one; name it with --config FILE"))
            }
            Self::Read { .. } | Self::Invalid { .. } => None,
        }
    }
}

/// Reads a file, which `parse` makes something of; `page` of the documentation shows one.
pub(crate) fn read<T>(
    path: &Path,
    page: &'static str,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Result<T, ConfigError> {
    let text = fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
        page,
    })?;
    parse(&text).map_err(|what| ConfigError::Invalid { path: path.to_owned(), what })
}

/// What the text of a file says, or where it says something else.
pub(crate) fn from_toml<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())
}

/// Refuses a path that depends on where the agent was started.
pub(crate) fn absolute<'a>(paths: impl IntoIterator<Item = &'a PathBuf>) -> Result<(), String> {
    match paths.into_iter().find(|path| !path.is_absolute() || path.parent().is_none()) {
        Some(path) => Err(format!("{} is not the absolute path of a file", path.display())),
        None => Ok(()),
    }
}
