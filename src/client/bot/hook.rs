//! What is done when a bundle is in place: its users are told, and asked whether it works.

use std::{fs, io, os::unix::fs::MetadataExt as _, path::PathBuf, time::Duration};

use rustix::process::{Signal, geteuid};
use thiserror::Error;

use super::config::{Hook, HookSignal, Probe};
use crate::{
    process::Process,
    program::{self, ProgramError},
};

/// The users of a bundle were not told of it.
#[derive(Debug, Error)]
pub(super) enum HookError {
    #[error("{} is not the agent's or root's alone to write", .0.display())]
    Open(PathBuf),
    #[error("{} names no process that runs", .0.display())]
    NoProcess(PathBuf),
    #[error(transparent)]
    Program(#[from] ProgramError),
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
}

/// Tells the users of a bundle that there is a new one.
pub(super) async fn run(hook: &Hook) -> Result<(), HookError> {
    match hook {
        Hook::Command(words) => drop(program::run(words, PATIENCE).await?),
        Hook::Signal { signal, pid_file } => send(*signal, pid_file)?,
        Hook::Systemd(unit) => {
            let words = ["systemctl", "reload", "--", unit].map(str::to_owned);
            drop(program::run(&words, PATIENCE).await?);
        }
    }
    Ok(())
}

/// Asks whether the bundle in place works.
pub(super) async fn probe(probe: &Probe) -> Result<(), ProgramError> {
    program::run(&probe.command, probe.patience).await.map(drop)
}

/// Whoever writes the file says who gets the signal, with the agent's rights.
fn send(signal: HookSignal, path: &PathBuf) -> Result<(), HookError> {
    let unread = |source| HookError::Read { path: path.clone(), source };
    let status = fs::symlink_metadata(path).map_err(unread)?;
    let trusted = [0, geteuid().as_raw()].contains(&status.uid());
    if !status.is_file() || !trusted || status.mode() & 0o022 != 0 {
        return Err(HookError::Open(path.clone()));
    }
    let text = fs::read_to_string(path).map_err(unread)?;
    let process = text.trim().parse().ok().and_then(Process::of);
    let held = process.and_then(|it| it.hold().ok().flatten());
    let Some(handle) = held else { return Err(HookError::NoProcess(path.clone())) };
    handle.signal(match signal {
        HookSignal::Hup => Signal::HUP,
        HookSignal::Usr1 => Signal::USR1,
        HookSignal::Usr2 => Signal::USR2,
    });
    Ok(())
}

/// How long a hook may take.
const PATIENCE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use std::{os::unix::process::ExitStatusExt as _, process::Command};

    use super::*;

    #[tokio::test]
    async fn a_signal_goes_to_a_process_that_runs_and_by_a_file_that_nobody_else_writes() {
        let directory = tempfile::tempdir().unwrap();
        let pid_file = directory.path().join("pid");
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        fs::write(&pid_file, format!("{}\n", child.id())).unwrap();
        let hook = Hook::Signal { signal: HookSignal::Usr1, pid_file: pid_file.clone() };
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o666);
        fs::set_permissions(&pid_file, open).unwrap();
        assert!(matches!(run(&hook).await, Err(HookError::Open(_))));
        let closed = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        fs::set_permissions(&pid_file, closed).unwrap();
        run(&hook).await.unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(Signal::USR1.as_raw()));
        assert!(matches!(run(&hook).await, Err(HookError::NoProcess(_))));
    }

    #[tokio::test]
    async fn a_program_has_so_much_time_and_says_why_it_failed() {
        let sh = |script: &str| ["sh", "-c", script].map(str::to_owned).to_vec();
        run(&Hook::Command(sh("sleep 1000 & exit 0"))).await.unwrap();
        let failed = run(&Hook::Command(sh("echo no such host >&2; exit 3"))).await.unwrap_err();
        assert_eq!(failed.to_string(), "sh: exit status: 3: no such host");
        let slow = Probe { command: sh("sleep 1000"), patience: Duration::from_millis(50) };
        let slow = probe(&slow).await.unwrap_err();
        assert!(matches!(slow, ProgramError::Slow { .. }), "{slow}");
    }
}
