//! Files that other programs read: whole on the disk before they have their name.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

/// Puts `contents` in the place of a file: written beside it, synced, read back and checked, then
/// renamed, the directory synced. Whatever happens, the name leads to the old contents or the new.
///
/// # Errors
///
/// The operating system refuses, or `check` does not know again what was written; the old file is
/// as it was.
pub(crate) fn install(
    path: &Path,
    contents: &[u8],
    mode: u32,
    check: impl FnOnce(&[u8]) -> Result<(), String>,
) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let beside = beside(path);
    write_checked(&beside, contents, mode, check)
        .and_then(|()| std::fs::rename(&beside, path))
        .inspect_err(|_| drop(std::fs::remove_file(&beside)))?;
    File::open(directory)?.sync_all()
}

/// As [`install`], for a file that only has to outlive this process, not a power cut.
pub(crate) fn replace(path: &Path, contents: &[u8], mode: u32) -> io::Result<()> {
    let beside = beside(path);
    let written = create(&beside, mode).and_then(|mut file| file.write_all(contents));
    written
        .and_then(|()| std::fs::rename(&beside, path))
        .inspect_err(|_| drop(std::fs::remove_file(&beside)))
}

fn write_checked(
    path: &Path,
    contents: &[u8],
    mode: u32,
    check: impl FnOnce(&[u8]) -> Result<(), String>,
) -> io::Result<()> {
    let mut file = create(path, mode)?;
    file.write_all(contents)?;
    file.sync_all()?;
    let mut written = Vec::with_capacity(contents.len());
    file.rewind()?;
    file.read_to_end(&mut written)?;
    if written != contents {
        return Err(io::Error::other("what was written reads otherwise"));
    }
    check(&written).map_err(io::Error::other)
}

/// The name is always the same, so that an agent that was killed leaves one such file at most, and
/// the next one overwrites it. There is one agent at a time: it holds the lock of its state.
fn create(path: &Path, mode: u32) -> io::Result<File> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(mode).open(path)?;
    // The umask must not keep a file from sshd's commands, nor its mode depend on it.
    rustix::fs::fchmod(&file, rustix::fs::Mode::from_raw_mode(mode))?;
    Ok(file)
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".chancery-new");
    name.into()
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    #[test]
    fn a_file_that_does_not_pass_its_check_leaves_the_old_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("krl");
        install(&path, b"old", 0o644, |_| Ok(())).unwrap();
        fs::write(directory.path().join("krl.chancery-new"), "of one that was killed").unwrap();
        let error = install(&path, b"new", 0o644, |_| Err("no".to_owned())).unwrap_err();
        assert_eq!(error.to_string(), "no");
        assert_eq!(fs::read(&path).unwrap(), b"old");
        install(&path, b"new", 0o644, |_| Ok(())).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o644);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing is left over");
    }
}
