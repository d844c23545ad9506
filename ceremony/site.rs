//! The site: where a ceremony takes place. Paths, the token, and where its PINs are; one file for
//! each place, so that the plan of a rehearsal and of the real thing are the same bytes.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

use pki::{secret::Secret, token::pkcs11::TokenIdentity};
use thiserror::Error;

use crate::{digest::Digest, transcript::ModuleFile};

/// A site file, its paths resolved.
#[derive(Clone, Debug)]
pub struct Site {
    /// Which token: everything that is named must be so.
    pub token: TokenIdentity,
    /// The hash of the file.
    pub hash: Digest,
    /// Why keys are taken from a token that lets their attributes be changed, if they are.
    pub changeable_keys: Option<String>,
    /// Why keys are taken from a token in software, if they are.
    pub software_token: Option<String>,
    module: PathBuf,
    /// Where the pages of shares go; they are shown on the terminal where there is no such place.
    pub share_pages: Option<PathBuf>,
    module_sha256: Option<Digest>,
    backup: Option<Backup>,
    scratch: Option<Scratch>,
    pin: PinSource,
    so_pin: Option<PinSource>,
    environment: BTreeMap<String, String>,
}

/// The token that copies of keys go into; behind the same module.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backup {
    /// Which token.
    pub token: TokenIdentity,
    pin_file: PathBuf,
}

impl Backup {
    /// Its user's PIN.
    ///
    /// # Errors
    ///
    /// Its file cannot be read, or others can read it.
    pub fn pin(&self) -> Result<Secret, SiteError> {
        secret(&self.pin_file)
    }
}

/// The PINs of a token that has nothing to lose; behind the same module. Which it is, is said when it
/// is probed.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scratch {
    pin_file: PathBuf,
    so_pin_file: Option<PathBuf>,
}

impl Scratch {
    /// Its user's PIN.
    ///
    /// # Errors
    ///
    /// Its file cannot be read, or others can read it.
    pub fn pin(&self) -> Result<Secret, SiteError> {
        secret(&self.pin_file)
    }

    /// Its security officer's PIN, if there is a file with it.
    ///
    /// # Errors
    ///
    /// As [`pin`](Self::pin).
    pub fn so_pin(&self) -> Result<Option<Secret>, SiteError> {
        self.so_pin_file.as_deref().map(secret).transpose()
    }
}

/// Where a PIN comes from.
#[derive(Clone, Debug)]
enum PinSource {
    /// The first line of a file.
    File(PathBuf),
    /// Custodians type their shares.
    Shares,
}

/// A word of a site file that may be a PIN by mistake.
#[derive(serde::Deserialize)]
#[serde(from = "String")]
struct Word(Secret);

impl From<String> for Word {
    fn from(text: String) -> Self {
        Self(Secret::new(text))
    }
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct SiteFile {
    module: PathBuf,
    module_sha256: Option<Digest>,
    pin_file: Option<PathBuf>,
    /// `"shares"`; a text, so that no message shows a PIN that somebody put there.
    pin: Option<Word>,
    so_pin_file: Option<PathBuf>,
    so_pin: Option<Word>,
    share_pages: Option<PathBuf>,
    backup: Option<Backup>,
    scratch: Option<Scratch>,
    changeable_keys: Option<String>,
    software_token: Option<String>,
    token: TokenIdentity,
    #[serde(default)]
    environment: BTreeMap<String, String>,
}

impl Site {
    /// Reads a site file (TOML). Relative paths in it are relative to it.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or is no site.
    pub fn read(path: &Path) -> Result<Self, SiteError> {
        let text = fs::read_to_string(path).map_err(|source| SiteError::read(path, source))?;
        Self::parse(&text, path.parent().unwrap_or(Path::new("")))
    }

    /// Reads the text of a site file that is in `directory`.
    ///
    /// # Errors
    ///
    /// It is no site.
    pub fn parse(text: &str, directory: &Path) -> Result<Self, SiteError> {
        let file: SiteFile = toml::from_str(text)?;
        // A name without a directory would be looked for along the loader's path.
        if !file.module.is_absolute() {
            return Err(SiteError::RelativeModule(file.module));
        }
        if let Some(name) = file.environment.keys().find(|name| !is_variable(name)) {
            return Err(SiteError::Variable(name.clone()));
        }
        Ok(Self {
            token: file.token,
            hash: Digest::of("chancery-ceremony-site-v1", &[text.as_bytes()]),
            changeable_keys: file.changeable_keys,
            software_token: file.software_token,
            module: file.module,
            module_sha256: file.module_sha256,
            backup: file
                .backup
                .map(|backup| Backup { pin_file: directory.join(backup.pin_file), ..backup }),
            scratch: file.scratch.map(|scratch| Scratch {
                pin_file: directory.join(scratch.pin_file),
                so_pin_file: scratch.so_pin_file.map(|path| directory.join(path)),
            }),
            share_pages: file.share_pages.map(|path| directory.join(path)),
            pin: PinSource::of("pin", file.pin_file, file.pin, directory)?
                .ok_or(SiteError::NoPin("pin"))?,
            so_pin: PinSource::of("so_pin", file.so_pin_file, file.so_pin, directory)?,
            environment: file.environment,
        })
    }

    /// The variables of `[environment]` that the process does not have yet. A module reads them
    /// when it is loaded, so that they must be there from the start of the process.
    pub fn missing_environment(
        &self,
        current: impl Fn(&str) -> Option<OsString>,
    ) -> BTreeMap<&str, &str> {
        let variables = self.environment.iter().map(|(name, value)| (&**name, &**value));
        variables.filter(|(name, value)| current(name).is_none_or(|it| it != *value)).collect()
    }

    /// The names of the variables of `[environment]`.
    pub fn variables(&self) -> BTreeSet<String> {
        self.environment.keys().cloned().collect()
    }

    /// The module's file, hashed; checked against `module_sha256` if the site has it.
    ///
    /// # Errors
    ///
    /// It cannot be read, or is another file than the one expected.
    pub fn module(&self) -> Result<ModuleFile, SiteError> {
        let content =
            fs::read(&self.module).map_err(|source| SiteError::read(&self.module, source))?;
        let sha256 = Digest::of_file(&content);
        match self.module_sha256 {
            Some(expected) if expected != sha256 => {
                Err(SiteError::OtherModule { path: self.module.clone(), sha256 })
            }
            _ => Ok(ModuleFile { path: self.module.clone(), sha256 }),
        }
    }

    /// The user's PIN, where it is in a file; none where custodians have it.
    ///
    /// # Errors
    ///
    /// Its file cannot be read, or others can read it.
    pub fn pin(&self) -> Result<Option<Secret>, SiteError> {
        self.pin.read()
    }

    /// The security officer's PIN, where it is in a file; none where custodians have it.
    ///
    /// # Errors
    ///
    /// The site says nothing of it, its file cannot be read, or others can read it.
    pub fn so_pin(&self) -> Result<Option<Secret>, SiteError> {
        self.so_pin.as_ref().ok_or(SiteError::NoPin("so_pin"))?.read()
    }

    /// The backup token.
    ///
    /// # Errors
    ///
    /// The site names none.
    pub fn backup(&self) -> Result<&Backup, SiteError> {
        self.backup.as_ref().ok_or(SiteError::NoBackup)
    }

    /// The PINs of a token that has nothing to lose.
    ///
    /// # Errors
    ///
    /// The site says nothing of one.
    pub fn scratch(&self) -> Result<&Scratch, SiteError> {
        self.scratch.as_ref().ok_or(SiteError::NoScratch)
    }

    /// The tokens that have something to lose.
    pub fn kept_tokens(&self) -> impl Iterator<Item = &TokenIdentity> {
        [&self.token].into_iter().chain(self.backup.iter().map(|backup| &backup.token))
    }

    /// The PINs of a token that is yet to be made, the security officer's first. Nobody can have
    /// shares of them.
    ///
    /// # Errors
    ///
    /// As [`so_pin`](Self::so_pin) and [`pin`](Self::pin); custodians have one.
    pub fn first_pins(&self) -> Result<(Secret, Secret), SiteError> {
        let so_pin = self.so_pin()?.ok_or(SiteError::FirstPin("so_pin"))?;
        Ok((so_pin, self.pin()?.ok_or(SiteError::FirstPin("pin"))?))
    }
}

impl PinSource {
    fn of(
        name: &'static str,
        file: Option<PathBuf>,
        custody: Option<Word>,
        directory: &Path,
    ) -> Result<Option<Self>, SiteError> {
        match (file, custody) {
            (None, None) => Ok(None),
            (_, Some(word)) if word.0.expose() != "shares" => Err(SiteError::PinInSite(name)),
            (None, Some(_)) => Ok(Some(Self::Shares)),
            (Some(path), None) => Ok(Some(Self::File(directory.join(path)))),
            (Some(_), Some(_)) => Err(SiteError::TwoPins(name)),
        }
    }

    fn read(&self) -> Result<Option<Secret>, SiteError> {
        match self {
            Self::File(path) => secret(path).map(Some),
            Self::Shares => Ok(None),
        }
    }
}

fn secret(path: &Path) -> Result<Secret, SiteError> {
    Secret::from_file(path).map_err(|source| SiteError::Pin { path: path.to_owned(), source })
}

fn is_variable(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_')
}

/// A site cannot be used.
#[derive(Debug, Error)]
pub enum SiteError {
    /// A token is to be made, and its first PIN would be nowhere.
    #[error("the token is yet to be made, and nobody can have shares of its first {0}")]
    FirstPin(&'static str),
    /// The plan makes copies of keys, and the site has no token for them.
    #[error("the plan makes copies of keys, and the site names no backup token")]
    NoBackup,
    /// A token is to be probed, and the site has no PINs for one.
    #[error("the site names no PIN files of a token that has nothing to lose")]
    NoScratch,
    /// A PIN is wanted that the site says nothing of.
    #[error("the site names no {0}_file, nor custodians who have it ({0} = \"shares\")")]
    NoPin(&'static str),
    /// The module's file is not the expected one.
    #[error("the module {} has another content than module_sha256 says: {sha256}", path.display())]
    OtherModule {
        /// Which.
        path: PathBuf,
        /// What its content hashes to.
        sha256: Digest,
    },
    /// A PIN cannot be read.
    #[error("cannot read the PIN file {}", path.display())]
    Pin {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The module's path is relative.
    #[error("the module {} is not an absolute path", .0.display())]
    RelativeModule(PathBuf),
    /// The file is no site.
    #[error("the site file cannot be understood")]
    Syntax(#[from] toml::de::Error),
    /// A PIN is in the site.
    #[error("{0} of the site is \"shares\" or not there; a PIN belongs into {0}_file")]
    PinInSite(&'static str),
    /// A PIN comes from two places.
    #[error("the site has both {0} and {0}_file")]
    TwoPins(&'static str),
    /// Not the name of an environment variable.
    #[error("{0:?} in [environment] is not the name of a variable")]
    Variable(String),
}

impl SiteError {
    fn read(path: &Path, source: io::Error) -> Self {
        Self::Read { path: path.to_owned(), source }
    }
}
