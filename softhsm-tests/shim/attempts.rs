//! What a module has no business to do, done: where it runs decides what comes of it.

use std::{
    fs::File,
    io,
    net::TcpStream,
    os::unix::net::UnixStream,
    path::Path,
    process::{Command, Stdio},
    ptr,
};

use rustix::process::{Pid, test_kill_process};

use crate::plan::{Attempt, DONE};

/// What becomes of an attempt: [`DONE`], or the number of the system's error.
pub(crate) fn outcome(attempt: &Attempt) -> String {
    match make(attempt) {
        Ok(()) => DONE.to_owned(),
        Err(error) => error.raw_os_error().map_or("no-number".to_owned(), |code| code.to_string()),
    }
}

fn make(attempt: &Attempt) -> io::Result<()> {
    match attempt {
        Attempt::Append(path) => File::options().append(true).create(true).open(path).map(drop),
        Attempt::Connect(address) => TcpStream::connect(address).map(drop),
        Attempt::ConnectUnix(path) => UnixStream::connect(path).map(drop),
        Attempt::Execute(program) => execute(program),
        Attempt::Read(path) => File::open(path).map(drop),
        Attempt::Signal(process) => {
            let process = Pid::from_raw(*process).ok_or(io::ErrorKind::InvalidInput)?;
            Ok(test_kill_process(process)?)
        }
        Attempt::Trace(process) => trace(*process),
        Attempt::Unshare => unshare(),
    }
}

fn execute(program: &Path) -> io::Result<()> {
    let quiet = || Stdio::null();
    Command::new(program).stdin(quiet()).stdout(quiet()).stderr(quiet()).status().map(drop)
}

fn trace(process: i32) -> io::Result<()> {
    let nothing = ptr::null_mut::<libc::c_void>();
    // SAFETY: the request takes no pointer. It stops nobody, and ends with this process.
    match unsafe { libc::ptrace(libc::PTRACE_SEIZE, process, nothing, nothing) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn unshare() -> io::Result<()> {
    // SAFETY: it takes no pointer, and nothing here knows the machine's name.
    match unsafe { libc::unshare(libc::CLONE_NEWUTS) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
