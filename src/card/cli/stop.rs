//! Being asked to stop: Ctrl-C, the end of the terminal, the system's shutting down.

use std::io;

#[cfg(unix)]
use tokio::signal::unix::{Signal, SignalKind, signal};
#[cfg(windows)]
use tokio::signal::windows::{
    CtrlBreak, CtrlC, CtrlClose, CtrlShutdown, ctrl_break, ctrl_c, ctrl_close, ctrl_shutdown,
};

/// The signals that ask to stop. From the moment it listens, none of them ends the program by
/// itself.
pub(super) struct Stop {
    #[cfg(unix)]
    signals: [Signal; 3],
    #[cfg(windows)]
    signals: (CtrlBreak, CtrlC, CtrlClose, CtrlShutdown),
}

#[cfg(unix)]
impl Stop {
    pub(super) fn listen() -> io::Result<Self> {
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let [interrupt, terminate, hangup] = kinds.map(signal);
        Ok(Self { signals: [interrupt?, terminate?, hangup?] })
    }

    /// Comes back when one came.
    pub(super) async fn wanted(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.signals;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

#[cfg(windows)]
impl Stop {
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self { signals: (ctrl_break()?, ctrl_c()?, ctrl_close()?, ctrl_shutdown()?) })
    }

    /// Comes back when one came.
    pub(super) async fn wanted(&mut self) {
        let (interrupt, key, close, shutdown) = &mut self.signals;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = key.recv() => {}
            _ = close.recv() => {}
            _ = shutdown.recv() => {}
        }
    }
}
