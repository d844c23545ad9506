//! Files that appear whole or not at all.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use tempfile::{Builder, NamedTempFile};
use thiserror::Error;

/// A file was not written; what was there before is still there.
#[derive(Debug, Error)]
pub enum FileError {
    /// A private key is never replaced.
    #[error("{} is there already, and a key is never overwritten", .0.display())]
    Exists(PathBuf),
    /// The operating system refused.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Writes what anyone may read (mode 0644, less the umask), replacing a file that is there.
///
/// # Errors
///
/// [`FileError::Write`].
pub fn write_public(path: &Path, contents: &[u8]) -> Result<(), FileError> {
    let file = temporary(path, 0o644, contents).map_err(|source| failed(path, source))?;
    file.persist(path).map_err(|error| failed(path, error.error))?;
    Ok(())
}

/// Writes a private key (mode 0600).
///
/// # Errors
///
/// [`FileError::Exists`] when anything is there already, else [`FileError::Write`].
pub fn write_private(path: &Path, contents: &[u8]) -> Result<(), FileError> {
    let file = temporary(path, 0o600, contents).map_err(|source| failed(path, source))?;
    match file.persist_noclobber(path) {
        Ok(_) => Ok(()),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
            Err(FileError::Exists(path.to_owned()))
        }
        Err(error) => Err(failed(path, error.error)),
    }
}

/// Writes a secret (mode 0600), replacing a file that is there.
///
/// # Errors
///
/// [`FileError::Write`].
pub fn replace_private(path: &Path, contents: &[u8]) -> Result<(), FileError> {
    let file = temporary(path, 0o600, contents).map_err(|source| failed(path, source))?;
    file.persist(path).map_err(|error| failed(path, error.error))?;
    Ok(())
}

/// Has a file that one of these functions wrote be there after a power cut, too: its content is on the
/// disk, and now its name is.
///
/// # Errors
///
/// [`FileError::Write`].
pub fn make_durable(path: &Path) -> Result<(), FileError> {
    // Windows opens no directories as files; NTFS has names in its journal.
    #[cfg(unix)]
    std::fs::File::open(directory_of(path))
        .and_then(|directory| directory.sync_all())
        .map_err(|source| failed(path, source))?;
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}

/// Says before the work what [`write_private`] would say after it.
///
/// # Errors
///
/// [`FileError::Exists`].
pub fn refuse_existing(path: &Path) -> Result<(), FileError> {
    match path.symlink_metadata() {
        Ok(_) => Err(FileError::Exists(path.to_owned())),
        Err(_) => Ok(()),
    }
}

/// A file beside the one to be, so that renaming it stays within one file system.
fn temporary(path: &Path, mode: u32, contents: &[u8]) -> io::Result<NamedTempFile> {
    let directory = directory_of(path);
    if !directory.is_dir() {
        let what = format!("there is no directory {}", directory.display());
        return Err(io::Error::new(io::ErrorKind::NotFound, what));
    }
    let mut builder = Builder::new();
    builder.prefix(".chancery-");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(mode));
    // Of the temporary file's own name, which the error would show, nobody knows.
    let mut file = builder.tempfile_in(directory).map_err(|error| io::Error::from(error.kind()))?;
    // While there is nothing in it yet.
    #[cfg(windows)]
    if mode & 0o077 == 0 {
        close(file.path())?;
    }
    file.write_all(contents)?;
    file.as_file().sync_all()?;
    Ok(file)
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Leaves a file to its owner and to the system: what mode 0600 is elsewhere. Windows' own tool does
/// it; the standard library has no access control lists.
#[cfg(windows)]
fn close(path: &Path) -> io::Result<()> {
    use std::process::{Command, Stdio};

    let system = std::env::var_os("SystemRoot")
        .ok_or_else(|| io::Error::other("the variable SystemRoot is not set"))?;
    // OWNER RIGHTS and SYSTEM, whatever they are called in the language of this Windows.
    let status = Command::new(Path::new(&system).join("System32").join("icacls.exe"))
        .arg(path)
        .args(["/inheritance:r", "/grant:r", "*S-1-3-4:F", "*S-1-5-18:F", "/q"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    match status.success() {
        true => Ok(()),
        false => Err(io::Error::other("icacls cannot leave the file to its owner alone")),
    }
}

fn failed(path: &Path, source: io::Error) -> FileError {
    FileError::Write { path: path.to_owned(), source }
}
