//! The Unix sockets that the agent serves.

use std::{
    fs, io,
    os::unix::{
        fs::{FileTypeExt as _, PermissionsExt as _},
        net,
    },
    path::{Path, PathBuf},
};

use tokio::net::UnixListener;

use super::output::ListenError;

/// A socket in the file system; its name goes when this is dropped.
#[derive(Debug)]
pub(super) struct SocketFile(PathBuf);

impl SocketFile {
    /// Listens. A socket on which nobody listens any more is replaced; nothing else is.
    pub(super) fn listen(path: &Path, mode: u32) -> Result<(Self, UnixListener), ListenError> {
        let failed = |source| ListenError { path: path.to_owned(), source };
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).map_err(failed)?;
        }
        remove_dead(path).map_err(failed)?;
        let listener = UnixListener::bind(path).map_err(failed)?;
        let file = Self(path.to_owned());
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(failed)?;
        Ok((file, listener))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // If it is gone already, somebody else has made way for the next.
        let _ = fs::remove_file(&self.0);
    }
}

fn remove_dead(path: &Path) -> io::Result<()> {
    let there = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !there.file_type().is_socket() {
        let what = "there is something that is not a socket";
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, what));
    }
    match net::UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) => Err(error),
        Ok(_) => Err(io::Error::new(io::ErrorKind::AddrInUse, "another program listens there")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_a_dead_socket_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run/agent");
        let first = SocketFile::listen(&path, 0o600).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let taken = SocketFile::listen(&path, 0o600).unwrap_err();
        assert_eq!(taken.source.kind(), io::ErrorKind::AddrInUse);
        drop(first);
        assert!(!path.exists());

        drop(net::UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "a killed agent leaves its socket");
        drop(SocketFile::listen(&path, 0o666).unwrap());

        fs::write(&path, "precious").unwrap();
        let other = SocketFile::listen(&path, 0o600).unwrap_err();
        assert_eq!(other.source.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }
}
