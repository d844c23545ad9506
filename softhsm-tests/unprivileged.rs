//! Peers that refuse to run as root: they run as `nobody`, in a directory that is theirs.

use std::{
    fs,
    os::unix::{
        fs::{PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::Command,
};

use rustix::process::geteuid;
use tempfile::TempDir;

use crate::failure::{Doing, Failure};

/// A private directory of a peer; it goes when this value is dropped.
#[derive(Debug)]
pub(crate) struct Home(TempDir);

impl Home {
    pub(crate) fn new(prefix: &str) -> Result<Self, Failure> {
        let directory = TempDir::with_prefix(prefix).doing("make a temporary directory")?;
        give(directory.path())?;
        Ok(Self(directory))
    }

    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.path().join(name)
    }

    /// Puts what it reads into the directory, private to the peer: keys are refused otherwise.
    pub(crate) fn put(&self, name: &str, contents: &[u8]) -> Result<PathBuf, Failure> {
        let path = self.path(name);
        fs::write(&path, contents).doing(format_args!("write {}", path.display()))?;
        let mode = fs::Permissions::from_mode(0o600);
        fs::set_permissions(&path, mode).doing(format_args!("protect {}", path.display()))?;
        give(&path)?;
        Ok(path)
    }

    /// The program, to be run in the directory by whoever owns it.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.0.path()).env("HOME", self.0.path());
        if geteuid().is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }
}

fn give(path: &Path) -> Result<(), Failure> {
    if !geteuid().is_root() {
        return Ok(());
    }
    chown(path, Some(NOBODY), Some(NOBODY)).doing(format_args!("give {} away", path.display()))
}

/// Debian's `nobody` and `nogroup`.
const NOBODY: u32 = 65_534;
