//! What commands have in common that run an agent until they are told to stop.

use std::{
    error::Error as StdError,
    io::{self, IsTerminal as _},
};

use tokio::signal::unix::{SignalKind, signal};

use super::failure::Failure;

/// Lets the agent's log go to the standard error.
pub(super) fn start_log() {
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        // A log that cannot be written, on a full disk perhaps, is no reason to stop.
        .log_internal_errors(false)
        .init();
}

/// Ends at SIGTERM or SIGINT.
pub(super) fn stop() -> Result<impl Future<Output = ()>, Failure> {
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// An error of this machine, with what to do about it.
pub(super) fn failure(error: &dyn StdError, hint: Option<String>) -> Failure {
    Failure::Usage { what: client::chain(error), hint }
}
