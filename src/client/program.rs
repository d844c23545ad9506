//! Programs that are run to their end, with a limit to what they may take.

use std::{io, pin::pin, process::Stdio, time::Duration};

use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::Command,
};
use zeroize::Zeroizing;

/// A program did not do what it was run for.
#[derive(Debug, Error)]
pub(crate) enum ProgramError {
    /// It failed.
    #[error("{program}: {status}{said}")]
    Failed {
        /// Its name.
        program: String,
        /// How it ended.
        status: std::process::ExitStatus,
        /// What it complained of, behind a colon.
        said: String,
    },
    /// It took too long, and was ended.
    #[error("{program} was not done after {} s", patience.as_secs())]
    Slow {
        /// Its name.
        program: String,
        /// How long it was waited for.
        patience: Duration,
    },
    /// It cannot be started.
    #[error("cannot run {program}")]
    Start {
        /// Its name.
        program: String,
        /// Why.
        source: io::Error,
    },
}

/// Runs a program and its arguments, and gives what it printed.
pub(crate) async fn run(
    words: &[String],
    patience: Duration,
) -> Result<Zeroizing<Vec<u8>>, ProgramError> {
    let Some((program, arguments)) = words.split_first() else { return Ok(Zeroizing::default()) };
    let start = |source| ProgramError::Start { program: program.clone(), source };
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.kill_on_drop(true).spawn().map_err(start)?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let mut outputs = pin!(async { tokio::join!(read(stdout), read(stderr)) });
    let ended = async {
        tokio::select! {
            status = child.wait() => (status, None),
            outputs = &mut outputs => (child.wait().await, Some(outputs)),
        }
    };
    let ended = tokio::time::timeout(patience, ended).await;
    let slow = |_| ProgramError::Slow { program: program.clone(), patience };
    let (status, read) = ended.map_err(slow)?;
    let status = status.map_err(start)?;
    // What it has left running may keep its outputs open for ever.
    let (printed, said) = match read {
        Some(read) => read,
        None => tokio::time::timeout(AFTERMATH, outputs).await.unwrap_or_default(),
    };
    if status.success() {
        return Ok(printed);
    }
    let said = String::from_utf8_lossy(&said).trim_end().to_owned();
    let said = if said.is_empty() { said } else { format!(": {said}") };
    Err(ProgramError::Failed { program: program.clone(), status, said })
}

/// No more than a reader wants to see, though the program may print more.
async fn read(pipe: Option<impl AsyncRead + Unpin>) -> Zeroizing<Vec<u8>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(LONGEST));
    if let Some(mut pipe) = pipe {
        // What was read before a fault is as good.
        let _ = (&mut pipe).take(LONGEST as u64).read_to_end(&mut bytes).await;
        let _ = tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await;
    }
    bytes
}

/// How long outputs are read when the program is over.
const AFTERMATH: Duration = Duration::from_secs(1);
const LONGEST: usize = 64 * 1024;
