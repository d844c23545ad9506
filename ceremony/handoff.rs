//! The hand-off: made from a finished transcript alone, so that it can be made and checked again.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use pki::{
    handoff::{Ceremony, Handoff, HandoffError, OfflineCrl, SshAuthority, X509Authority},
    token::{KeyRef, Purpose},
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
    /// What `handoff.toml` says; nothing where an export ends the ceremony, as no appliance reads
    /// it.
    pub handoff: Option<Handoff>,
    /// By file name: certificates (`NAME.pem`), revocation lists (`NAME.crl`), requests
    /// (`NAME.csr`), SSH CA keys (`NAME.pub`); and `ceremony.toml` in an export.
    pub files: BTreeMap<String, Vec<u8>>,
    /// It was made in a rehearsal, and nobody else may use it.
    rehearsed: bool,
}

impl Bundle {
    /// Collects what a ceremony made.
    ///
    /// # Errors
    ///
    /// Something that the plan makes was not made.
    pub fn new(plan: &Plan, made: &Made, head: Digest) -> Result<Self, HandoffFailure> {
        let ceremony = Ceremony {
            id: plan.script().id.to_string(),
            plan: plan.hash().to_string(),
            transcript: head.to_string(),
        };
        let mut files = files(plan, made)?;
        let handoff = if plan.is_for_appliance() {
            Some(handoff(plan, made, ceremony)?)
        } else {
            let text = toml::to_string_pretty(&ceremony).map_err(HandoffFailure::Text)?;
            files.insert(EXPORT.to_owned(), text.into_bytes());
            None
        };
        Ok(Self { handoff, files, rehearsed: made.poisons })
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
    pub fn contents(&self) -> Result<BTreeMap<String, Vec<u8>>, HandoffFailure> {
        let mut files = self.files.clone();
        if let Some(handoff) = &self.handoff {
            let text = toml::to_string_pretty(handoff).map_err(HandoffFailure::Text)?;
            files.insert(Handoff::FILE.to_owned(), text.into_bytes());
        }
        Ok(files)
    }

    fn write_files(&self, staging: &Path) -> Result<(), HandoffFailure> {
        let at = |source| HandoffFailure::Write { path: staging.to_owned(), source };
        for (name, content) in &self.files {
            let mut file = File::create_new(staging.join(name)).map_err(at)?;
            file.write_all(content).and_then(|()| file.sync_all()).map_err(at)?;
        }
        if let Some(handoff) = &self.handoff {
            handoff.write(staging)?;
        }
        File::open(staging).and_then(|directory| directory.sync_all()).map_err(at)
    }

    /// Compares a directory with what it must be.
    ///
    /// # Errors
    ///
    /// A file is missing, differs, or should not be there.
    pub fn check(&self, directory: &Path) -> Result<(), HandoffFailure> {
        let differs = |what: String| HandoffFailure::Differs { path: directory.to_owned(), what };
        if let Some(handoff) = &self.handoff {
            let read = if self.rehearsed { Handoff::read_rehearsed } else { Handoff::read };
            if read(directory)? != *handoff {
                return Err(differs("handoff.toml says something else than the transcript".into()));
            }
        }
        for (name, content) in &self.files {
            let found = fs::read(directory.join(name));
            if found.ok().as_ref() != Some(content) {
                return Err(differs(format!("{name} is missing or has another content")));
            }
        }
        let at = |source| HandoffFailure::Write { path: directory.to_owned(), source };
        for entry in fs::read_dir(directory).map_err(at)? {
            let name = entry.map_err(at)?.file_name();
            let known = |name: &str| {
                (name == Handoff::FILE && self.handoff.is_some()) || self.files.contains_key(name)
            };
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

fn handoff(plan: &Plan, made: &Made, ceremony: Ceremony) -> Result<Handoff, HandoffFailure> {
    let missing = |what| HandoffFailure::Incomplete(what);
    let publication = keys_for(Purpose::Publication, made).pop_first();
    Ok(Handoff {
        ceremony,
        token: made.token.clone().ok_or(missing("token"))?,
        x509: x509_authorities(plan, made)?,
        ssh: ssh_authorities(plan, made)?,
        publication: publication.ok_or(missing("publication key"))?.1,
        raw: keys_for(Purpose::Raw, made),
        cross: plan
            .certificates()
            .filter(|it| is_cross(it))
            .map(|it| (it.name.to_string(), file(it)))
            .collect(),
        crls: plan
            .crls()
            .map(|crl| {
                let (file, issuer) = (format!("{}.crl", crl.name), format!("{}.pem", crl.signer));
                (crl.name.to_string(), OfflineCrl { file, issuer })
            })
            .collect(),
    })
}

/// The CAs whose keys are in the token.
fn x509_authorities(
    plan: &Plan,
    made: &Made,
) -> Result<BTreeMap<String, X509Authority>, MadeError> {
    plan.certificates()
        .filter(|certificate| made.key(&certificate.key).is_ok() && !is_cross(certificate))
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

fn is_cross(certificate: &Certificate) -> bool {
    matches!(certificate.kind, AuthorityKind::Cross { .. })
}

fn file(certificate: &Certificate) -> String {
    format!("{}.pem", certificate.name)
}

/// The files of the certificate itself, then of those above it, up to the root.
fn chain(plan: &Plan, certificate: &Certificate) -> Vec<String> {
    let up = std::iter::successors(Some(certificate), |below| plan.signer(below));
    up.map(file).collect()
}

fn ssh_authorities(plan: &Plan, made: &Made) -> Result<BTreeMap<String, SshAuthority>, MadeError> {
    let ssh = plan.script().ssh.iter();
    ssh.map(|(name, authority)| {
        let key = made.key(&authority.key)?.clone();
        Ok((name.to_string(), SshAuthority { usage: authority.usage, key }))
    })
    .collect()
}

fn keys_for(purpose: Purpose, made: &Made) -> BTreeMap<String, KeyRef> {
    let keys = made.keys().filter(|key| key.label.purpose() == purpose);
    keys.map(|key| (key.label.name().to_owned(), key.clone())).collect()
}

fn files(plan: &Plan, made: &Made) -> Result<BTreeMap<String, Vec<u8>>, MadeError> {
    let mut files = BTreeMap::new();
    for certificate in plan.certificates() {
        let pem = x509::to_pem(made.certificate(&certificate.name)?);
        files.insert(file(certificate), pem.into_bytes());
    }
    for (name, crl) in &made.crls {
        files.insert(format!("{name}.crl"), crl.clone());
    }
    for (name, request) in &made.requests {
        files.insert(format!("{name}.csr"), request.clone().into_bytes());
    }
    for (name, authority) in &plan.script().ssh {
        let line = made.key(&authority.key)?.public_key.to_openssh();
        files.insert(format!("{name}.pub"), format!("{line} {name}\n").into_bytes());
    }
    Ok(files)
}

/// The file of an export that says which ceremony it is of.
const EXPORT: &str = "ceremony.toml";

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
    /// What it says of its ceremony has no text.
    #[error("the hand-off cannot be written as TOML")]
    Text(#[source] toml::ser::Error),
    /// A file cannot be written or listed.
    #[error("cannot write or list the hand-off {}", path.display())]
    Write {
        /// Which directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}
