//! What a plan takes in: files and transcripts, each bound by a hash in the plan file. Their content
//! becomes part of the plan, so that neither a performance nor a verification needs the files.

use std::{
    fs,
    path::{Path, PathBuf},
};

use pki::x509::lint::Finding;
use serde::Deserialize;

use crate::{
    digest::Digest,
    name::Name,
    transcript::Attendance,
    verify::{Verified, VerifyError},
};

/// A file, relative to the plan's, and SHA-256 of its content.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct InputFile {
    file: PathBuf,
    sha256: Digest,
}

/// An earlier ceremony by its transcript, and the head of it as it was written down.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Earlier {
    transcript: PathBuf,
    head: Digest,
    /// What that ceremony's plan calls the key or certificate.
    pub(crate) name: Name,
}

impl InputFile {
    /// The text, if it is the one that the plan names.
    pub(crate) fn read(&self, directory: &Path) -> Result<String, Finding> {
        String::from_utf8(self.bytes(directory)?).map_err(|_| {
            let what = format!("{} is no text; write it as PEM", self.file.display());
            finding("input-readable", what)
        })
    }

    /// The content, if it is the one that the plan names.
    pub(crate) fn bytes(&self, directory: &Path) -> Result<Vec<u8>, Finding> {
        let path = directory.join(&self.file);
        let content = fs::read(&path).map_err(|error| {
            finding("input-readable", format!("{} cannot be read: {error}", path.display()))
        })?;
        let found = Digest::of_file(&content);
        if found != self.sha256 {
            return Err(finding(
                "input-hash",
                format!("{} has the SHA-256 {found}, not {}", path.display(), self.sha256),
            ));
        }
        Ok(content)
    }
}

impl Earlier {
    /// The transcript, verified; of a ceremony, and with the head that the plan names.
    pub(crate) fn read(&self, directory: &Path) -> Result<Verified, Finding> {
        let path = directory.join(&self.transcript);
        let refused = |error: String| {
            finding("earlier-ceremony", format!("the transcript {}: {error}", path.display()))
        };
        let verified = Verified::read(&path).map_err(|error| {
            refused(match error {
                VerifyError::Read { source, .. } => format!("it cannot be read: {source}"),
                error => error.to_string(),
            })
        })?;
        verified.check_head(self.head).map_err(|error| refused(error.to_string()))?;
        if verified.progress.opened.attendance == Attendance::Rehearsed {
            return Err(refused("it is of a rehearsal, whose keys are gone".to_owned()));
        }
        Ok(verified)
    }
}

fn finding(rule: &'static str, what: String) -> Finding {
    Finding { rule, what }
}
