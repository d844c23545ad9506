//! Profiles: which appliance a caller uses, and as whom. A strict TOML file:
//!
//! ```toml
//! default = "office"
//!
//! [profiles.office]
//! server = "https://pki.example:8443"
//! ca = "office/root.pem"
//! certificate = "office/alice.pem"
//! key = "office/alice.key"
//! session_role = "admin"      # optional: the role of sessions that `chancery ssh` asks for
//! card_role = "logon"         # optional: the role of certificates that `chancery-card` asks for
//! ```
//!
//! Paths are relative to the file. A flag always wins over the file.

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use reqwest::Url;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::files::{self, FileError};

/// The configuration file.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct ProfileFile {
    /// The profile that is used when none is named.
    #[serde(default)]
    pub default: Option<String>,
    /// The profiles by name.
    #[serde(default)]
    pub profiles: BTreeMap<String, Profile>,
    /// Where it was read from; empty if it was not.
    #[serde(skip)]
    path: PathBuf,
}

/// One profile.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// The appliance.
    pub server: ServerUrl,
    /// PEM of the root that the appliance's certificate leads to.
    pub ca: PathBuf,
    /// PEM of the caller's certificate, then of its chain.
    pub certificate: PathBuf,
    /// PEM of the caller's private key.
    pub key: PathBuf,
    /// The role of the sessions that `chancery ssh` asks for unless told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_role: Option<String>,
    /// The role of the smart-card certificates that `chancery-card` asks for unless told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub card_role: Option<String>,
}

/// What flags say; each wins over the profile.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "the fields are those of Profile")]
pub struct Overrides {
    pub server: Option<ServerUrl>,
    pub ca: Option<PathBuf>,
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
    /// How long an operation may be tried.
    pub deadline: Option<Duration>,
}

/// Everything that a connection needs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Settings {
    /// The appliance.
    pub server: ServerUrl,
    /// PEM of the root that the appliance's certificate leads to.
    pub ca: PathBuf,
    /// PEM of the caller's certificate, then of its chain.
    pub certificate: PathBuf,
    /// PEM of the caller's private key.
    pub key: PathBuf,
    /// How long an operation that the appliance cannot serve at once is tried again.
    pub deadline: Duration,
}

/// The URL of an appliance: `https://host[:port]`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServerUrl(Url);

/// A profile cannot be used.
#[derive(Debug, Error)]
pub enum ProfileError {
    /// It is there already.
    #[error("{} has a profile {name:?} already", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
        /// The profile.
        name: String,
    },
    /// The file says something else.
    #[error("{}: {what}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Where and what.
        what: String,
    },
    /// Neither a flag nor a profile says it.
    #[error("no profile is set, and --{flag} is not given")]
    Missing {
        /// The flag.
        flag: &'static str,
        /// The names of the profiles that there are.
        known: Vec<String>,
    },
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is no such profile.
    #[error("there is no profile {name:?} in {}", path.display())]
    Unknown {
        /// The file.
        path: PathBuf,
        /// What was asked for.
        name: String,
        /// The names that there are.
        known: Vec<String>,
    },
    /// The file cannot be written.
    #[error(transparent)]
    Write(#[from] FileError),
}

impl ProfileFile {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// It cannot be read, has an unknown field, or a default that it does not have.
    pub fn read(path: &Path) -> Result<Self, ProfileError> {
        let text = fs::read_to_string(path)
            .map_err(|source| ProfileError::Read { path: path.to_owned(), source })?;
        Self::parse(&text, path)
    }

    /// Reads a file that need not be there: without it there are no profiles.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read), but for a file that is not there.
    pub fn read_if_present(path: &Path) -> Result<Self, ProfileError> {
        match Self::read(path) {
            Err(ProfileError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Ok(Self { path: path.to_owned(), ..Self::default() })
            }
            other => other,
        }
    }

    /// What a connection is made with: flags, then the named profile, or the default one, or the
    /// only one.
    ///
    /// # Errors
    ///
    /// [`ProfileError::Unknown`], or [`ProfileError::Missing`] when something is said nowhere.
    pub fn resolve(
        &self,
        name: Option<&str>,
        overrides: Overrides,
    ) -> Result<Settings, ProfileError> {
        let profile = self.select(name)?;
        let missing = |flag| ProfileError::Missing { flag, known: self.names() };
        Ok(Settings {
            server: overrides
                .server
                .or_else(|| profile.map(|it| it.server.clone()))
                .ok_or_else(|| missing("server"))?,
            ca: overrides
                .ca
                .or_else(|| profile.map(|it| it.ca.clone()))
                .ok_or_else(|| missing("ca"))?,
            certificate: overrides
                .certificate
                .or_else(|| profile.map(|it| it.certificate.clone()))
                .ok_or_else(|| missing("cert"))?,
            key: overrides
                .key
                .or_else(|| profile.map(|it| it.key.clone()))
                .ok_or_else(|| missing("cert-key"))?,
            deadline: overrides.deadline.unwrap_or(DEADLINE),
        })
    }

    /// The role of sessions that the profile names, chosen as by [`resolve`](Self::resolve).
    ///
    /// # Errors
    ///
    /// [`ProfileError::Unknown`].
    pub fn session_role(&self, name: Option<&str>) -> Result<Option<&str>, ProfileError> {
        Ok(self.select(name)?.and_then(|profile| profile.session_role.as_deref()))
    }

    /// The role of smart-card certificates that the profile names, chosen as by
    /// [`resolve`](Self::resolve).
    ///
    /// # Errors
    ///
    /// [`ProfileError::Unknown`].
    pub fn card_role(&self, name: Option<&str>) -> Result<Option<&str>, ProfileError> {
        Ok(self.select(name)?.and_then(|profile| profile.card_role.as_deref()))
    }

    /// Adds a profile to the end of the file and leaves the rest of it as it is. The first profile
    /// of a new file is its default.
    ///
    /// # Errors
    ///
    /// [`ProfileError::Exists`], or the file cannot be read or written.
    pub fn add(path: &Path, name: &str, profile: &Profile) -> Result<(), ProfileError> {
        let present = Self::read_if_present(path)?;
        if present.profiles.contains_key(name) {
            return Err(ProfileError::Exists { path: path.to_owned(), name: name.to_owned() });
        }
        let written = |source| FileError::Write { path: path.to_owned(), source };
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).map_err(written)?;
        }
        let mut text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(_) => format!("default = {}\n", toml::Value::from(name)),
        };
        text.push_str(&section(path, name, profile)?);
        // What cannot be read again must not be written.
        Self::parse(&text, path)?;
        Ok(files::write_public(path, text.as_bytes())?)
    }

    fn parse(text: &str, path: &Path) -> Result<Self, ProfileError> {
        let invalid = |what| ProfileError::Invalid { path: path.to_owned(), what };
        let mut file: Self = toml::from_str(text)
            .map_err(|error| invalid(error.to_string().trim_end().to_owned()))?;
        if let Some(name) = file.default.as_ref().filter(|name| !file.profiles.contains_key(*name))
        {
            return Err(invalid(format!("default = {name:?}, but there is no such profile")));
        }
        let directory = path.parent().unwrap_or(Path::new(""));
        for profile in file.profiles.values_mut() {
            for it in [&mut profile.ca, &mut profile.certificate, &mut profile.key] {
                *it = directory.join(&*it);
            }
        }
        file.path = path.to_owned();
        Ok(file)
    }

    fn select(&self, name: Option<&str>) -> Result<Option<&Profile>, ProfileError> {
        let Some(name) = name.or(self.default.as_deref()) else {
            let mut profiles = self.profiles.values();
            return Ok(profiles.next().filter(|_| profiles.next().is_none()));
        };
        match self.profiles.get(name) {
            Some(profile) => Ok(Some(profile)),
            None => Err(ProfileError::Unknown {
                path: self.path.clone(),
                name: name.to_owned(),
                known: self.names(),
            }),
        }
    }

    fn names(&self) -> Vec<String> {
        self.profiles.keys().cloned().collect()
    }
}

impl ProfileError {
    /// What to do about it, if there is something.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Exists { .. } => Some("edit the file, or choose another name".to_owned()),
            Self::Invalid { .. } | Self::Read { .. } | Self::Write(_) => None,
            Self::Missing { known, .. } | Self::Unknown { known, .. } if known.is_empty() => Some(
                "write a profile with `chancery profile add NAME --server URL --ca FILE \
                 --cert FILE --cert-key FILE`"
                    .to_owned(),
            ),
            Self::Missing { known, .. } | Self::Unknown { known, .. } => {
                Some(format!("the profiles are: {}; choose one with --profile", known.join(", ")))
            }
        }
    }
}

impl ServerUrl {
    pub(crate) fn url(&self) -> Url {
        self.0.clone()
    }
}

impl FromStr for ServerUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let url = Url::parse(text).map_err(|error| format!("{text:?} is not a URL: {error}"))?;
        let bare = url.username().is_empty()
            && url.password().is_none()
            && url.path() == "/"
            && url.query().is_none()
            && url.fragment().is_none();
        if url.scheme() != "https" || url.host().is_none() || !bare {
            return Err(format!("{text:?} is not of the form https://host[:port]"));
        }
        Ok(Self(url))
    }
}

impl TryFrom<String> for ServerUrl {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<ServerUrl> for String {
    fn from(url: ServerUrl) -> Self {
        url.to_string()
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

fn section(path: &Path, name: &str, profile: &Profile) -> Result<String, ProfileError> {
    let profiles = BTreeMap::from([(name, profile)]);
    let body = toml::to_string(&BTreeMap::from([("profiles", profiles)])).map_err(|error| {
        ProfileError::Invalid { path: path.to_owned(), what: error.to_string() }
    })?;
    Ok(format!("\n{body}"))
}

const DEADLINE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
        default = "office"
        [profiles.office]
        server = "https://pki.example:8443"
        ca = "office/root.pem"
        certificate = "/abs/alice.pem"
        key = "office/alice.key"
        [profiles.lab]
        server = "https://[::1]:9443"
        ca = "ca"
        certificate = "c"
        key = "k"
    "#;

    fn file(text: &str) -> Result<ProfileFile, ProfileError> {
        ProfileFile::parse(text, Path::new("/etc/chancery/config.toml"))
    }

    #[test]
    fn the_file_counts_where_no_flag_is_given() {
        let settings = file(FILE).unwrap().resolve(None, Overrides::default()).unwrap();
        assert_eq!(settings.server.to_string(), "https://pki.example:8443");
        assert_eq!(settings.ca, Path::new("/etc/chancery/office/root.pem"));
        assert_eq!(settings.certificate, Path::new("/abs/alice.pem"));
    }

    #[test]
    fn a_flag_wins_over_the_named_profile_and_leaves_the_rest() {
        let overrides = Overrides { ca: Some("here.pem".into()), ..Overrides::default() };
        let settings = file(FILE).unwrap().resolve(Some("lab"), overrides).unwrap();
        assert_eq!(settings.ca, Path::new("here.pem"));
        assert_eq!(settings.server.to_string(), "https://[::1]:9443");
        assert_eq!(settings.key, Path::new("/etc/chancery/k"));
    }

    #[test]
    fn without_a_default_only_a_single_profile_is_taken() {
        let two = file(&FILE.replace("default = \"office\"", "")).unwrap();
        let error = two.resolve(None, Overrides::default()).unwrap_err();
        assert!(matches!(&error, ProfileError::Missing { flag: "server", .. }), "{error}");
        assert!(error.hint().unwrap().contains("lab, office"));

        let (_, lab) = FILE.split_once("key = \"office/alice.key\"").unwrap();
        let one = file(lab).unwrap().resolve(None, Overrides::default()).unwrap();
        assert_eq!(one.server.to_string(), "https://[::1]:9443");
    }

    #[test]
    fn the_file_is_strict() {
        for (from, to, says) in [
            ("default = \"office\"", "default = \"home\"", "no such profile"),
            ("default =", "defualt =", "unknown field `defualt`"),
            ("ca = \"ca\"", "ca = \"ca\"\nttl = \"1h\"", "unknown field `ttl`"),
            ("https://[::1]:9443", "http://[::1]:9443", "https://host[:port]"),
            ("https://[::1]:9443", "https://me@host", "https://host[:port]"),
            ("https://[::1]:9443", "https://host/v1", "https://host[:port]"),
        ] {
            let error = file(&FILE.replace(from, to)).unwrap_err().to_string();
            assert!(error.contains(says), "{to}: {error}");
        }
        let unknown = file(FILE).unwrap().resolve(Some("home"), Overrides::default());
        assert!(matches!(unknown, Err(ProfileError::Unknown { .. })));
    }

    #[test]
    fn an_added_profile_leaves_the_file_as_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("chancery/config.toml");
        let profile = file(FILE).unwrap().profiles["lab"].clone();
        ProfileFile::add(&path, "first", &profile).unwrap();
        fs::write(&path, format!("# kept\n{}", fs::read_to_string(&path).unwrap())).unwrap();
        ProfileFile::add(&path, "a \"name\"", &profile).unwrap();

        assert!(fs::read_to_string(&path).unwrap().starts_with("# kept\n"));
        let read = ProfileFile::read(&path).unwrap();
        assert_eq!(read.default.as_deref(), Some("first"));
        assert_eq!(read.profiles["a \"name\""], profile);
        let again = ProfileFile::add(&path, "first", &profile);
        assert!(matches!(again, Err(ProfileError::Exists { .. })));
    }
}
