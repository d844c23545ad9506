//! The makers of cards whose attestations are believed.

use std::{
    fs,
    path::{Path, PathBuf},
};

use pki::x509::attestation::{AnchorError, Anchors};
use thiserror::Error;

use crate::{config, join::certificates};

/// The certificates of the makers cannot be used.
#[derive(Debug, Error)]
#[error("attestation.anchors: {}: {what}", path.display())]
pub struct MakersError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong.
    pub what: String,
}

/// Reads the makers' certificates; nobody is trusted where none are named. They are read once, at the
/// start.
///
/// # Errors
///
/// A file cannot be read, or has a certificate that leads to no root in any of them.
pub fn read(attestation: Option<&config::Attestation>) -> Result<Anchors, MakersError> {
    let mut read = Vec::new();
    let paths = attestation.map(|it| it.anchors.as_slice()).unwrap_or_default();
    for path in paths {
        let error = |what| MakersError { path: path.clone(), what };
        let text = fs::read_to_string(path).map_err(|it| error(format!("cannot read it: {it}")))?;
        let certificates = certificates(&text).map_err(error)?;
        read.extend(certificates.into_iter().enumerate().map(|(at, der)| (path, at + 1, der)));
    }
    Anchors::new(read.iter().map(|(_, _, der)| der.as_ref())).map_err(|error| {
        let at = match &error {
            AnchorError::Malformed { number, .. }
            | AnchorError::NotAuthority { number, .. }
            | AnchorError::Stray { number, .. } => number - 1,
        };
        let (path, number) = match read.get(at) {
            Some((path, number, _)) => (path.as_path(), *number),
            None => (Path::new(""), at),
        };
        MakersError { path: path.to_owned(), what: format!("certificate {number}: {error}") }
    })
}
