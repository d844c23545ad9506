//! Who is at the other end of a connection, as the kernel says.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use aws_lc_rs::digest::{Context, SHA256};
use tokio::net::UnixStream;

use crate::process::{Handle, Process};

/// A process that has connected. It is held, so that its id is not another's meanwhile.
#[derive(Debug)]
pub(super) struct Peer {
    /// The effective user when it connected.
    pub(super) uid: u32,
    /// The effective group when it connected.
    pub(super) gid: u32,
    process: Process,
    handle: Handle,
}

impl Peer {
    /// Asks the kernel (SO_PEERCRED, unix(7)).
    ///
    /// # Errors
    ///
    /// The process has ended, or is in another namespace of process ids.
    pub(super) fn of(stream: &UnixStream) -> io::Result<Self> {
        let gone = || io::Error::new(io::ErrorKind::NotFound, "there is no such process");
        let credentials = stream.peer_cred()?;
        // 0 stands for a process that has no id here.
        let id = credentials.pid().filter(|id| *id > 0).ok_or_else(gone)?;
        let process = Process::of(id).ok_or_else(gone)?;
        let handle = process.hold()?.ok_or_else(gone)?;
        Ok(Self { uid: credentials.uid(), gid: credentials.gid(), process, handle })
    }

    /// Waits until the process is over.
    pub(super) async fn ended(&self) {
        self.handle.ended().await;
    }

    /// The file of its program.
    ///
    /// # Errors
    ///
    /// The agent may not see it (it takes the same user, or CAP_SYS_PTRACE: proc(5)), or the
    /// process has ended.
    pub(super) fn executable(&self) -> io::Result<PathBuf> {
        let path = fs::read_link(self.link())?;
        self.still_there(path)
    }

    /// SHA-256 of its program, also if the file was replaced since it began.
    ///
    /// # Errors
    ///
    /// As [`executable`](Self::executable); or it is larger than [`LARGEST`].
    pub(super) fn digest(&self) -> io::Result<[u8; 32]> {
        let file = fs::File::open(self.link())?;
        if file.metadata()?.len() > LARGEST {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "more than a gibibyte"));
        }
        let mut context = Writer(Context::new(&SHA256));
        io::copy(&mut io::Read::take(file, LARGEST), &mut context)?;
        let digest = context.0.finish();
        let digest = digest.as_ref().try_into().map_err(io::Error::other)?;
        self.still_there(digest)
    }

    /// What was read is of this process only if it has not ended before.
    fn still_there<T>(&self, read: T) -> io::Result<T> {
        match self.process.lives() {
            true => Ok(read),
            false => Err(io::Error::new(io::ErrorKind::NotFound, "the process has ended")),
        }
    }

    fn link(&self) -> PathBuf {
        Path::new("/proc").join(self.process.id.to_string()).join("exe")
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} of user {} and group {}", self.process.id, self.uid, self.gid)
    }
}

struct Writer(Context);

impl io::Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

const LARGEST: u64 = 1 << 30;
