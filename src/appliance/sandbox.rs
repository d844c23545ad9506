//! Takes from a process, for good, what it does not need: files, calls of the system, sockets.
//!
//! What is refused gives an error to whoever asks for it, and ends nobody: a module that can do
//! without goes on.

mod calls;
mod files;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// What a process may still do.
#[derive(Clone, Debug, Default)]
pub(crate) struct Permits {
    /// Files, and directories with all below them, that may be read.
    pub(crate) readable: Vec<PathBuf>,
    /// Those that may be read, written, made and removed, and devices.
    pub(crate) writable: Vec<PathBuf>,
    /// Programs and the directories of programs that may be executed, and read.
    pub(crate) executable: Vec<PathBuf>,
    /// UNIX sockets may be made: for daemons of this machine.
    pub(crate) unix_sockets: bool,
    /// Sockets of networks may be made.
    pub(crate) network: bool,
    /// Processes outside may be sent signals, and abstract UNIX sockets be spoken to.
    pub(crate) neighbours: bool,
}

/// What holds from now on, and what does not, for the log.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Report {
    /// What is enforced.
    pub(crate) enforced: Vec<String>,
    /// What should be and is not, each with its reason.
    pub(crate) missing: Vec<String>,
    /// Files or calls are not confined at all.
    pub(crate) open: bool,
}

/// The system knows sandboxes, and refuses this one.
#[derive(Debug, Error)]
pub(crate) enum SandboxError {
    /// Landlock.
    #[error("files cannot be confined")]
    Files(#[from] landlock::RulesetError),
    /// Seccomp.
    #[error("calls of the system cannot be confined")]
    Calls(#[from] seccompiler::Error),
}

/// Confines this thread and all threads and processes that it starts from now on; others of the
/// same process stay as they are. Paths that are not there stay refused when they come.
///
/// # Errors
///
/// The system refuses; what it does not know is no error, and is in the report.
pub(crate) fn confine(permits: &Permits) -> Result<Report, SandboxError> {
    let mut report = Report::default();
    // A program with the set-user-ID bit would leave the sandbox.
    match rustix::thread::set_no_new_privs(true) {
        Ok(()) => report.enforced.push("no new privileges".to_owned()),
        Err(error) => report.missing.push(format!("no new privileges ({error})")),
    }
    files::confine(permits, &mut report)?;
    calls::confine(permits, &mut report)?;
    Ok(report)
}
