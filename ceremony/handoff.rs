//! The hand-off: made from a finished transcript alone, so that it can be made and checked again.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use pki::{
    handoff::{Ceremony, Handoff, HandoffError, SshAuthority, X509Authority},
    token::Purpose,
    x509,
};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use thiserror::Error;

use crate::{
    digest::Digest,
    journal::sync_directory_of,
    made::{Made, MadeError},
    plan::{AuthorityKind, Certificate, Plan},
};

/// A hand-off and the files that it names.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Bundle {
    /// What `handoff.toml` says.
    pub handoff: Handoff,
    /// Certificates (`NAME.pem`) and SSH CA keys (`NAME.pub`), by file name.
    pub files: BTreeMap<String, String>,
}

impl Bundle {
    /// Collects what a ceremony made.
    ///
    /// # Errors
    ///
    /// Something that the plan makes was not made.
    pub fn new(plan: &Plan, made: &Made, head: Digest) -> Result<Self, HandoffFailure> {
        let missing = |what| HandoffFailure::Incomplete(what);
        let handoff = Handoff {
            ceremony: Ceremony {
                id: plan.script().id.to_string(),
                plan: plan.hash().to_string(),
                transcript: head.to_string(),
            },
            token: made.token.clone().ok_or(missing("token"))?,
            x509: x509_authorities(plan, made)?,
            ssh: ssh_authorities(plan, made)?,
            publication: keys_for(Purpose::Publication, plan, made)?
                .pop_first()
                .ok_or(missing("publication key"))?
                .1,
            raw: keys_for(Purpose::Raw, plan, made)?,
        };
        Ok(Self { files: files(plan, made)?, handoff })
    }

    /// Writes the directory: whole, or not at all.
    ///
    /// # Errors
    ///
    /// It exists, or cannot be written.
    pub fn write(&self, directory: &Path) -> Result<(), HandoffFailure> {
        let staging = staging(directory);
        let at = |source| HandoffFailure::Write { path: staging.clone(), source };
        match fs::remove_dir_all(&staging) {
            // What an interrupted ceremony left.
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(error)),
            _ => fs::create_dir(&staging).map_err(at)?,
        }
        let written = self.write_files(&staging).and_then(|()| publish(&staging, directory));
        if written.is_err() {
            // Nothing in it is worth keeping: the transcript has it all.
            let _ = fs::remove_dir_all(&staging);
        }
        written
    }

    /// The files of the directory.
    ///
    /// # Errors
    ///
    /// `handoff.toml` has no text.
    pub fn texts(&self) -> Result<BTreeMap<String, String>, HandoffFailure> {
        let text = toml::to_string_pretty(&self.handoff)
            .map_err(|_| HandoffFailure::Incomplete("handoff.toml"))?;
        let own = [(Handoff::FILE.to_owned(), text)];
        Ok(self.files.clone().into_iter().chain(own).collect())
    }

    fn write_files(&self, staging: &Path) -> Result<(), HandoffFailure> {
        let at = |source| HandoffFailure::Write { path: staging.to_owned(), source };
        for (name, content) in &self.files {
            let mut file = File::create_new(staging.join(name)).map_err(at)?;
            file.write_all(content.as_bytes()).and_then(|()| file.sync_all()).map_err(at)?;
        }
        self.handoff.write(staging)?;
        File::open(staging).and_then(|directory| directory.sync_all()).map_err(at)
    }

    /// Compares a directory with what it must be.
    ///
    /// # Errors
    ///
    /// A file is missing, differs, or should not be there.
    pub fn check(&self, directory: &Path) -> Result<(), HandoffFailure> {
        let differs = |what: String| HandoffFailure::Differs { path: directory.to_owned(), what };
        if Handoff::read(directory)? != self.handoff {
            return Err(differs("handoff.toml says something else than the transcript".into()));
        }
        for (name, content) in &self.files {
            let found = fs::read(directory.join(name));
            if found.ok().as_deref() != Some(content.as_bytes()) {
                return Err(differs(format!("{name} is missing or has another content")));
            }
        }
        let at = |source| HandoffFailure::Write { path: directory.to_owned(), source };
        for entry in fs::read_dir(directory).map_err(at)? {
            let name = entry.map_err(at)?.file_name();
            let known = |name: &str| name == "handoff.toml" || self.files.contains_key(name);
            if !name.to_str().is_some_and(known) {
                return Err(differs(format!("{} does not belong there", name.display())));
            }
        }
        Ok(())
    }
}

/// Where the files are gathered before they get their name.
fn staging(directory: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(directory.file_name().unwrap_or_default());
    name.push(".new");
    directory.with_file_name(name)
}

/// Gives the directory its name, which nothing may have yet.
fn publish(staging: &Path, directory: &Path) -> Result<(), HandoffFailure> {
    match renameat_with(CWD, staging, CWD, directory, RenameFlags::NOREPLACE) {
        Ok(()) => sync_directory_of(directory)
            .map_err(|source| HandoffFailure::Write { path: directory.to_owned(), source }),
        Err(rustix::io::Errno::EXIST) => Err(HandoffFailure::Exists { path: directory.to_owned() }),
        Err(error) => {
            Err(HandoffFailure::Write { path: directory.to_owned(), source: error.into() })
        }
    }
}

fn x509_authorities(
    plan: &Plan,
    made: &Made,
) -> Result<BTreeMap<String, X509Authority>, MadeError> {
    plan.certificates()
        .map(|certificate| {
            let authority = X509Authority {
                chain: chain(plan, certificate),
                key: made.key(&certificate.key)?.clone(),
                online: matches!(certificate.kind, AuthorityKind::Issuing { .. }),
            };
            Ok((certificate.name.to_string(), authority))
        })
        .collect()
}

/// The files of the certificate itself, then of those above it, up to the root.
fn chain(plan: &Plan, certificate: &Certificate) -> Vec<String> {
    let up = std::iter::successors(Some(certificate), |below| plan.signer(below));
    up.map(|certificate| format!("{}.pem", certificate.name)).collect()
}

fn ssh_authorities(plan: &Plan, made: &Made) -> Result<BTreeMap<String, SshAuthority>, MadeError> {
    let ssh = plan.script().ssh.iter();
    ssh.map(|(name, authority)| {
        let key = made.key(&authority.key)?.clone();
        Ok((name.to_string(), SshAuthority { usage: authority.usage, key }))
    })
    .collect()
}

fn keys_for(
    purpose: Purpose,
    plan: &Plan,
    made: &Made,
) -> Result<BTreeMap<String, pki::token::KeyRef>, MadeError> {
    let keys = plan.keys().filter(|key| key.label.purpose() == purpose);
    keys.map(|key| Ok((key.label.name().to_owned(), made.key(&key.name)?.clone()))).collect()
}

fn files(plan: &Plan, made: &Made) -> Result<BTreeMap<String, String>, MadeError> {
    let certificates = plan.certificates().map(|certificate| {
        let pem = x509::to_pem(made.certificate(&certificate.name)?);
        Ok((format!("{}.pem", certificate.name), pem))
    });
    let ssh = plan.script().ssh.iter().map(|(name, authority)| {
        let line = made.key(&authority.key)?.public_key.to_openssh();
        Ok((format!("{name}.pub"), format!("{line} {name}\n")))
    });
    certificates.chain(ssh).collect()
}

/// A hand-off cannot be written, or is not the transcript's.
#[derive(Debug, Error)]
pub enum HandoffFailure {
    /// The directory says something else than the transcript.
    #[error("the hand-off {} is not the transcript's: {what}", path.display())]
    Differs {
        /// Which directory.
        path: PathBuf,
        /// What differs.
        what: String,
    },
    /// The directory is there already.
    #[error("the hand-off {} exists already; nothing was changed", path.display())]
    Exists {
        /// Which.
        path: PathBuf,
    },
    /// The appliance would refuse it.
    #[error(transparent)]
    Handoff(#[from] HandoffError),
    /// The plan did not make everything that a hand-off needs.
    #[error("the ceremony made no {0}")]
    Incomplete(&'static str),
    /// A key or certificate was not made.
    #[error(transparent)]
    Made(#[from] MadeError),
    /// A file cannot be written or listed.
    #[error("cannot write or list the hand-off {}", path.display())]
    Write {
        /// Which directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}
