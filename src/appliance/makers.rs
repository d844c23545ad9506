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

#[cfg(test)]
mod tests {
    use super::*;

    const MAKER: &str = include_str!("policy/attestation/maker.pem");
    const CARD: &str = include_str!("policy/attestation/card.pem");
    const STATEMENT: &str = include_str!("policy/attestation/statement.pem");

    #[test]
    fn files_of_several_certificates_are_read_and_what_is_wrong_is_named_with_its_place() {
        assert!(read(None).unwrap().is_empty());
        assert!(!read_files(&[MAKER]).unwrap().is_empty());
        assert!(!read_files(&[CARD, &format!("above it:\n{MAKER}")]).unwrap().is_empty());
        for (files, file, what) in [
            (&[MAKER, ""][..], "1.pem", "there is no PEM CERTIFICATE"),
            (&[CARD], "0.pem", "certificate 1: \"CN=Card attestation\" leads to no root"),
            (
                &[MAKER, &[MAKER, STATEMENT].concat()],
                "1.pem",
                "certificate 2: \"CN=YubiKey PIV Attestation 9a\" is no CA",
            ),
        ] {
            let error = read_files(files).unwrap_err();
            assert!(error.path.ends_with(file) && error.what.contains(what), "{error}");
        }
        let nowhere = config::Attestation { anchors: vec!["nowhere/makers.pem".into()] };
        assert!(read(Some(&nowhere)).unwrap_err().what.starts_with("cannot read it"));
    }

    fn read_files(files: &[&str]) -> Result<Anchors, MakersError> {
        let directory = tempfile::tempdir().unwrap();
        let path = |at| directory.path().join(format!("{at}.pem"));
        for (at, text) in files.iter().enumerate() {
            fs::write(path(at), text).unwrap();
        }
        let anchors = (0..files.len()).map(path).collect();
        read(Some(&config::Attestation { anchors }))
    }
}
