//! The organisation's directory (LDAP): what it knows of accounts, and what sessions do there.
//!
//! [`Accounts`] asks it which SID goes with a user principal name, and where the account is.
//!
//! The [`Hook`] is the second lever beside revocation. A Kerberos ticket that was had with a smart card
//! outlives the card's certificate; an account that is disabled, or out of its group, gets no new
//! one. Every act can be done again: what is already so is success.

mod accounts;
mod connection;
mod entry_name;
mod hook;
mod sid;

pub use accounts::{Accounts, Answer, Found, FoundAccount};
pub use entry_name::EntryName;
pub use hook::{Hook, Job, Outcome};
pub use sid::{AnySid, SidPattern};

use std::{future::Future, path::PathBuf, sync::Arc, time::Duration};

use ldap3::LdapResult;
use pki::{names::Upn, secret::Secret};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::sync::Mutex;

use crate::config;
use connection::Connection;

/// Something to be done to an account.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "act", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Act {
    /// Makes it a member.
    AddToGroup {
        /// The group's distinguished name.
        group: String,
    },
    /// Lets nobody log on with it.
    DisableAccount,
    /// Lets its owner log on with it.
    EnableAccount,
    /// Makes it no member any more.
    RemoveFromGroup {
        /// The group's distinguished name.
        group: String,
    },
}

/// What an act has changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Applied {
    /// It was so before.
    Already,
    /// It is so now.
    Changed,
}

/// The directory of the organisation; cheap to clone. Connections are opened when there is something
/// to be asked or done.
#[derive(Clone, Debug)]
pub struct Directory(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    settings: config::Directory,
    /// The password that the directory has refused. It is not shown again: accounts lock. One
    /// connection logs in at a time, so that no two find out at once.
    refused: Mutex<Option<Secret>>,
}

/// Something could not be done in the directory.
#[derive(Debug, Error)]
pub enum DirectoryError {
    /// Two accounts have the name.
    #[error("more than one account of the directory is called {0}")]
    Ambiguous(Upn),
    /// The CA certificates cannot be read.
    #[error("directory.ca_file: {path}: {what}")]
    CaFile {
        /// The file.
        path: PathBuf,
        /// Why.
        what: String,
    },
    /// No account has the name.
    #[error("no account of the directory is called {0}")]
    NoAccount(Upn),
    /// The password was refused, now or before.
    #[error(
        "the directory refuses the password of {bind_dn}; it is not shown again until {path} has \
         another one"
    )]
    Password {
        /// As whom.
        bind_dn: String,
        /// The file that it came from.
        path: PathBuf,
        /// What the directory said, if it was asked just now.
        #[source]
        answer: Option<Box<LdapResult>>,
    },
    /// The password cannot be read.
    #[error("directory.password_file: {path}: {what}")]
    PasswordFile {
        /// The file.
        path: PathBuf,
        /// Why.
        what: String,
    },
    /// The directory does not do it.
    #[error("the directory refuses {what}")]
    Refused {
        /// What was asked of it.
        what: String,
        /// What it said.
        #[source]
        answer: Box<LdapResult>,
    },
    /// There is no answer, or none that can be read.
    #[error("the directory cannot be asked at {url}: {what}")]
    Unreachable {
        /// Where it should be.
        url: String,
        /// Why.
        what: String,
    },
}

/// How a directory fails, as clients hear it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Trouble {
    /// It does not do what is asked of it, or not for the appliance.
    Refuses,
    /// There is no answer.
    Unreachable,
}

impl Trouble {
    /// The stable word for programs.
    pub fn word(self) -> &'static str {
        match self {
            Self::Refuses => "directory-refuses",
            Self::Unreachable => "directory-unreachable",
        }
    }
}

impl DirectoryError {
    /// How it failed.
    pub fn trouble(&self) -> Trouble {
        match self {
            Self::Unreachable { .. } => Trouble::Unreachable,
            _ => Trouble::Refuses,
        }
    }

    /// Whether the same may succeed later although nobody changes the act.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Ambiguous(_) | Self::NoAccount(_) => false,
            Self::Refused { answer, .. } => is_for_now(answer),
            Self::CaFile { .. }
            | Self::Password { .. }
            | Self::PasswordFile { .. }
            | Self::Unreachable { .. } => true,
        }
    }
}

/// What is wrong with the files that settings name, each with its key. The directory is not asked.
pub fn check(settings: &config::Directory) -> Vec<(&'static str, DirectoryError)> {
    let tls = settings.ca_file.as_ref().and_then(|_| connection::tls(settings).err());
    let password = password(settings).err();
    let tls = tls.map(|error| ("ca_file", error));
    tls.into_iter().chain(password.map(|error| ("password_file", error))).collect()
}

impl Directory {
    /// A directory to be asked as `settings` say.
    pub fn new(settings: config::Directory) -> Self {
        Self(Arc::new(Inner { settings, refused: Mutex::default() }))
    }

    /// Does one act to the account of this name, on a connection of its own.
    ///
    /// # Errors
    ///
    /// See [`DirectoryError`]. A password that was refused is not shown again; the file is read
    /// anew each time.
    pub async fn apply(&self, upn: &Upn, act: &Act) -> Result<Applied, DirectoryError> {
        let (directory, upn, act) = (self.clone(), upn.clone(), act.clone());
        let acting = async move { directory.connect().await?.apply(&upn, &act).await };
        self.within(self.0.settings.timeout, acting).await
    }

    /// What an account of this name is, asked for on a connection of its own.
    ///
    /// # Errors
    ///
    /// As [`apply`](Self::apply); that there is no such account, or more than one, is an answer.
    pub async fn look_up(&self, upn: &Upn) -> Result<Found, DirectoryError> {
        let (directory, upn) = (self.clone(), upn.clone());
        let looking = async move { accounts::look_up(&mut directory.connect().await?, &upn).await };
        self.within(self.0.settings.look_up_timeout, looking).await
    }

    async fn connect(&self) -> Result<Connection<'_>, DirectoryError> {
        let Inner { settings, refused } = &*self.0;
        let mut refused = refused.lock().await;
        let password = password(settings)?;
        if refused.as_ref().is_some_and(|refused| refused.expose() == password.expose()) {
            let config::Directory { bind_dn, password_file: path, .. } = settings;
            let (bind_dn, path) = (bind_dn.clone(), path.clone());
            return Err(DirectoryError::Password { bind_dn, path, answer: None });
        }
        let opened = Connection::open(settings, &password).await;
        if matches!(opened, Err(DirectoryError::Password { .. })) {
            *refused = Some(password);
        }
        opened
    }

    /// In a task of its own: the library panics at answers that are no LDAP. It ends in time also
    /// if nobody waits for it any more.
    async fn within<T: Send + 'static>(
        &self,
        limit: Duration,
        work: impl Future<Output = Result<T, DirectoryError>> + Send + 'static,
    ) -> Result<T, DirectoryError> {
        let unreachable = |what: String| {
            Err(DirectoryError::Unreachable { url: self.0.settings.url.to_string(), what })
        };
        match tokio::spawn(tokio::time::timeout(limit, work)).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => unreachable(format!("no answer within {limit:?}")),
            Err(_) => unreachable("what it answers cannot be read".to_owned()),
        }
    }
}

fn password(settings: &config::Directory) -> Result<Secret, DirectoryError> {
    let path = &settings.password_file;
    Secret::from_file(path).map_err(|error| DirectoryError::PasswordFile {
        path: path.clone(),
        what: error.to_string(),
    })
}

/// Whether the directory says that it cannot do it now: timeLimitExceeded, adminLimitExceeded,
/// busy, unavailable, other (RFC 4511, appendix A.1).
fn is_for_now(answer: &LdapResult) -> bool {
    matches!(answer.rc, 3 | 11 | 51 | 52 | 80)
}
