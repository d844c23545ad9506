//! The files: what they must say is worked out anew at each look, and written where they differ.

use std::{fs, io, os::unix::fs::MetadataExt as _, path::PathBuf};

use api::RevocationBundle;
use pki::krl::{Krl, KrlError};
use thiserror::Error;

use super::{super::state::BUNDLE, Shared};
use crate::{
    install::install,
    state::{StateDirectory, StateError},
};

/// What is on the disk already.
#[derive(Debug, Default)]
pub(super) struct Written {
    /// The version of the bundle that is stored.
    bundle: Option<u64>,
}

/// The files are not as they should be.
#[derive(Debug, Error)]
enum FilesError {
    #[error("a KRL cannot be made")]
    Krl(#[from] KrlError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
}

/// What must be on the disk.
struct Wanted {
    state: StateDirectory,
    /// To be stored first: a file must never say more than the state, since an agent that starts
    /// again writes what its state says.
    bundle: Option<RevocationBundle>,
    /// `TrustedUserCAKeys`; `None` while no authority is known: then the file is left alone.
    user_ca: Option<Vec<u8>>,
    revoked_keys: Vec<u8>,
}

impl Shared {
    /// Makes the files say what is known; gives whether they do.
    pub(super) async fn put_right(&self) -> bool {
        let mut written = self.files.lock().await;
        let right = self.write(&mut written).await;
        drop(written);
        self.outcome("keeping sshd's files", right).is_some()
    }

    async fn write(&self, written: &mut Written) -> Result<(), FilesError> {
        let (version, wanted) = self.wanted(written.bundle)?;
        let files = self.config.files.clone();
        let work = move || {
            if let Some(bundle) = &wanted.bundle {
                wanted.state.store(BUNDLE, bundle)?;
            }
            let no_check = |_: &[u8]| Ok(());
            if let Some(text) = &wanted.user_ca {
                ensure(&files.user_ca, text, no_check)?;
            }
            let readable = |bytes: &[u8]| Krl::parse(bytes).map(drop).map_err(|it| it.to_string());
            ensure(&files.revoked_keys, &wanted.revoked_keys, readable)
        };
        // What syncs a disk may take its time; logins are answered meanwhile.
        match tokio::task::spawn_blocking(work).await {
            Ok(done) => done?,
            Err(error) => {
                return Err(failed(&self.config.files.revoked_keys, io::Error::other(error)));
            }
        }
        written.bundle = version;
        Ok(())
    }

    fn wanted(&self, stored: Option<u64>) -> Result<(Option<u64>, Wanted), FilesError> {
        let known = self.known();
        let version = known.revocations.version();
        let user_ca = known.trust.file();
        let wanted = Wanted {
            state: self.state.clone(),
            bundle: known.revocations.bundle().filter(|_| version != stored).cloned(),
            user_ca: Some(user_ca).filter(|it| !it.is_empty()),
            revoked_keys: known.revocations.file(known.trust.keys(), self.now())?,
        };
        Ok((version, wanted))
    }
}

/// Writes a file unless it is there, whole, and writable by nobody else.
fn ensure(
    path: &PathBuf,
    contents: &[u8],
    check: impl FnOnce(&[u8]) -> Result<(), String>,
) -> Result<(), FilesError> {
    let metadata = fs::symlink_metadata(path);
    let ours = metadata.is_ok_and(|it| it.is_file() && it.mode() & 0o7777 == MODE);
    if ours && fs::read(path).is_ok_and(|found| found == contents) {
        return Ok(());
    }
    install(path, contents, MODE, check).map_err(|source| failed(path, source))
}

fn failed(path: &std::path::Path, source: io::Error) -> FilesError {
    FilesError::Write { path: path.to_owned(), source }
}

/// sshd reads them as root; that anyone may, helps whoever looks for a mistake.
const MODE: u32 = 0o644;
