//! The text of a configuration file, and what can be wrong with it.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use serde::de::DeserializeOwned;
use thiserror::Error;

/// Something is wrong with the configuration: in which file, where, what, and what to do.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub struct ConfigError {
    /// The file.
    pub path: PathBuf,
    /// The line, from 1, where it is known.
    pub line: Option<usize>,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}", self.what)
    }
}

/// The text of a configuration file, which knows where its keys stand.
#[derive(Debug)]
pub struct Source {
    path: PathBuf,
    text: String,
}

impl Source {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(path).map_err(|error| ConfigError {
            path: path.to_owned(),
            line: None,
            what: format!("cannot read it: {error}"),
            hint: None,
        })?;
        Ok(Self { path: path.to_owned(), text })
    }

    /// An error about one key; `keys` is its path of tables, from the outermost.
    pub fn error(&self, keys: &[&str], what: impl Into<String>) -> ConfigError {
        ConfigError {
            path: self.path.clone(),
            line: self.line_of_key(keys),
            what: format!("{}: {}", keys.join("."), what.into()),
            hint: None,
        }
    }

    /// The file as it stands.
    pub(super) fn parse<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        toml::from_str(&self.text).map_err(|error| self.syntax(&error))
    }

    fn syntax(&self, error: &toml::de::Error) -> ConfigError {
        ConfigError {
            path: self.path.clone(),
            line: error.span().map(|span| self.line_at(span.start)),
            what: error.message().to_owned(),
            hint: None,
        }
    }

    /// An error about a key that is not there, nor the flag that could stand in for it.
    pub(super) fn missing(&self, keys: &[&str], flag: Option<&str>) -> ConfigError {
        let key = keys.join(".");
        let hint = match flag {
            Some(flag) => format!("set {key} in the file, or give {flag}"),
            None => format!("set {key} in the file"),
        };
        ConfigError { hint: Some(hint), ..self.error(keys, "it is not set") }
    }

    fn line_of_key(&self, keys: &[&str]) -> Option<usize> {
        let document = toml::de::DeTable::parse(&self.text).ok()?;
        let mut table = document.get_ref();
        let (last, tables) = keys.split_last()?;
        for key in tables {
            table = table.get(*key)?.get_ref().as_table()?;
        }
        let (key, _) = table.get_key_value(*last)?;
        Some(self.line_at(key.span().start))
    }

    fn line_at(&self, offset: usize) -> usize {
        1 + self.text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
    }

    /// A path of the file, made absolute.
    pub(super) fn path(&self, relative: &Path) -> Result<PathBuf, ConfigError> {
        let directory = self.path.parent().unwrap_or(Path::new(""));
        self.absolute(&directory.join(relative))
    }

    /// A path of a flag, made absolute.
    fn absolute(&self, path: &Path) -> Result<PathBuf, ConfigError> {
        std::path::absolute(path).map_err(|error| ConfigError {
            path: self.path.clone(),
            line: None,
            what: format!("{}: {error}", path.display()),
            hint: None,
        })
    }

    /// The path that a flag gives, or else the file.
    pub(super) fn pick(
        &self,
        flag: (&str, Option<PathBuf>),
        key: (&[&str], Option<PathBuf>),
    ) -> Result<PathBuf, ConfigError> {
        match (flag.1, key.1) {
            (Some(path), _) => self.absolute(&path),
            (None, Some(path)) => self.path(&path),
            (None, None) => Err(self.missing(key.0, Some(flag.0))),
        }
    }

    /// The file of a secret that a credential of systemd holds; `what` is its word in the keys.
    pub(super) fn credential(
        &self,
        place: &str,
        what: &str,
        file: Option<&PathBuf>,
        name: &str,
        credentials: Option<&Path>,
    ) -> Result<PathBuf, ConfigError> {
        let key = format!("{what}_credential");
        let key: &[&str] = &[place, &key];
        if file.is_some() {
            let what = format!("{place}.{what}_file is set too; one of them is enough");
            return Err(self.error(key, what));
        }
        if name.is_empty() || name.contains('/') {
            return Err(self.error(key, "it is the name of a credential, not a path"));
        }
        let directory = credentials.ok_or_else(|| ConfigError {
            hint: Some(format!(
                "start it as a systemd service with LoadCredential={name}:/path/to/{what}, or \
                 name a file"
            )),
            ..self.error(key, "systemd gave no credentials (CREDENTIALS_DIRECTORY is not set)")
        })?;
        Ok(directory.join(name))
    }
}
