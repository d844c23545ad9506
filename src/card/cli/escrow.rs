//! Whom secrets of cards are encrypted for.

use std::{fs, io, path::PathBuf};

use pki::{
    clock::{Clock, SystemClock},
    x509::{cms::Recipient, read_certificates},
};

use super::failure::Failure;

/// All certificates of the files, PEM or DER, each of which must be good for it.
pub(super) fn recipients(files: &[PathBuf]) -> Result<Vec<Recipient>, Failure> {
    let now = SystemClock.now();
    let mut recipients = Vec::new();
    for path in files {
        let read = |source| Failure::Read { path: path.clone(), source };
        let bytes = fs::read(path).map_err(read)?;
        let certificates = read_certificates(&bytes)
            .map_err(|what| read(io::Error::new(io::ErrorKind::InvalidData, what)))?;
        for der in certificates {
            let recipient = Recipient::from_der(&der, now);
            let wrong = |source| Failure::Recipient { path: path.clone(), source };
            recipients.push(recipient.map_err(wrong)?);
        }
    }
    Ok(recipients)
}
