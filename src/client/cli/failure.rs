//! What a person and a program are told when a command does not succeed.

use std::{io, path::PathBuf, process::ExitCode};

#[cfg(not(target_os = "linux"))]
use clap::error::{ContextKind, ContextValue};
use client::{
    files::FileError, flags::FlagsError, local_key::LocalKeyError, profile::ProfileError,
};
use thiserror::Error;

use super::output::{Output, complain};

/// A command did not succeed.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    #[cfg(unix)]
    #[error(transparent)]
    Certificate(#[from] client::ssh_agent::CertificateError),
    #[error(transparent)]
    Client(#[from] client::Error),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Key(#[from] LocalKeyError),
    #[error("cannot write the output")]
    Output(#[from] io::Error),
    #[error(transparent)]
    Profile(#[from] ProfileError),
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[cfg(unix)]
    #[error("cannot {what}")]
    System { what: String, source: io::Error },
    #[error("{what}")]
    Usage { what: String, hint: Option<String> },
}

impl From<FlagsError> for Failure {
    fn from(error: FlagsError) -> Self {
        match error {
            FlagsError::Client(error) => Self::Client(error),
            FlagsError::Profile(error) => Self::Profile(error),
        }
    }
}

impl Failure {
    /// Prints `error:` and `hint:`; with `--json`, a problem of the appliance goes to the output
    /// as it came.
    pub(crate) fn report(self, output: &mut Output) -> ExitCode {
        // The reader of a pipe may leave when it has seen enough.
        if matches!(&self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe) {
            return ExitCode::SUCCESS;
        }
        if let Self::Client(client::Error::Problem(problem)) = &self {
            // An output that is closed does not change what is said below.
            let _ = output.json_only(problem);
        }
        complain(&self.text(), self.hint().as_deref());
        ExitCode::from(self.exit_code())
    }

    fn text(&self) -> String {
        if let Self::Client(client::Error::Problem(problem)) = self {
            let reason = problem.reason.as_ref().map(|it| format!(" ({it})")).unwrap_or_default();
            return format!("{}: {}{reason}", problem.title, problem.detail);
        }
        client::chain(self)
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Client(error) => error.hint(),
            Self::File(FileError::Exists(_)) => {
                Some("choose another file, or move the old key away".to_owned())
            }
            Self::File(FileError::Write { .. }) | Self::Key(_) | Self::Output(_) => None,
            Self::Profile(error) => error.hint(),
            Self::Read { .. } => None,
            #[cfg(unix)]
            Self::Certificate(_) | Self::System { .. } => None,
            Self::Usage { hint, .. } => hint.clone(),
        }
    }

    fn exit_code(&self) -> u8 {
        use client::Error as E;

        match self {
            Self::Client(E::Problem(_)) => REFUSED,
            Self::Client(E::Identity(_) | E::Encode(_) | E::Random) => USAGE,
            Self::Client(
                E::Answer { .. }
                | E::Connect { .. }
                | E::Interrupted { .. }
                | E::Timeout { .. }
                | E::Tls { .. },
            ) => UNREACHABLE,
            Self::File(_)
            | Self::Key(_)
            | Self::Output(_)
            | Self::Profile(_)
            | Self::Read { .. }
            | Self::Usage { .. } => USAGE,
            #[cfg(unix)]
            Self::Certificate(_) => UNREACHABLE,
            #[cfg(unix)]
            Self::System { .. } => USAGE,
        }
    }
}

/// Prints what clap has to say: help to the output, or a usage error.
pub(super) fn usage(error: &clap::Error) -> ExitCode {
    #[cfg(not(target_os = "linux"))]
    if let Some(ContextValue::String(command)) = error.get(ContextKind::InvalidSubcommand)
        && ELSEWHERE.contains(&command.as_str())
    {
        complain(
            &format!("there is no command {command:?} on this system"),
            Some("it works on Linux, where the agents of bots and hosts are, and ssh with them"),
        );
        return ExitCode::from(USAGE);
    }
    // There is nobody left to tell if that fails.
    let _ = error.print();
    ExitCode::from(if error.use_stderr() { USAGE } else { 0 })
}

/// The commands that need what Linux alone has: sockets of Unix, /proc, descriptors of processes.
#[cfg(not(target_os = "linux"))]
const ELSEWHERE: [&str; 10] = [
    "doctor",
    "exec",
    "install",
    "join",
    "key",
    "kubernetes-credential",
    "principals",
    "run",
    "ssh",
    "status",
];

/// The appliance refused, or could not serve.
pub(super) const REFUSED: u8 = 1;
/// The command line, a profile or a local file is wrong.
const USAGE: u8 = 2;
/// The appliance cannot be reached, or the two sides do not accept each other.
const UNREACHABLE: u8 = 3;
