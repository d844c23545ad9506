//! Keeps sessions alive that are not used, for tokens that forget them then.

use std::{
    io::{self, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
    sync::{
        Arc, Mutex,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

use super::{SUBCOMMAND, signer::Signer};

/// The thread that keeps sessions alive; it ends when this is dropped.
pub(super) struct Keeper {
    _serving: mpsc::Sender<()>,
}

impl Keeper {
    /// Lets no session be idle for longer than `period`. What cannot be kept alive or opened anew
    /// ends the worker, by its socket: the appliance starts another before somebody needs it.
    /// `running` is dropped when the thread has ended.
    ///
    /// # Errors
    ///
    /// The system has no more threads or files.
    pub(super) fn start(
        signers: Vec<Arc<Mutex<Signer>>>,
        period: Duration,
        socket: &UnixStream,
        running: mpsc::Sender<()>,
    ) -> io::Result<Self> {
        let (serving, served) = mpsc::channel();
        let (beats, beating) = mpsc::channel();
        let idle = period / 2;
        let (own, watched) = (socket.try_clone()?, socket.try_clone()?);
        thread::Builder::new().name("keeper".to_owned()).spawn(move || {
            keep(&signers, idle, &served, &beats, &own);
            drop(running);
        })?;
        let watch = move || watch(&beating, idle + PATIENCE, &watched);
        thread::Builder::new().name("keeper's watch".to_owned()).spawn(watch)?;
        Ok(Self { _serving: serving })
    }
}

fn keep(
    signers: &[Arc<Mutex<Signer>>],
    idle: Duration,
    served: &mpsc::Receiver<()>,
    beats: &mpsc::Sender<()>,
    socket: &UnixStream,
) {
    while served.recv_timeout(idle) == Err(RecvTimeoutError::Timeout) {
        // A session that signs at this moment is not idle.
        for mut signer in signers.iter().filter_map(|signer| signer.try_lock().ok()) {
            if let Err(error) = signer.keep_alive(idle) {
                return end(socket, &format!("an idle session was lost: {error}"));
            }
        }
        // Who listens ends after this thread.
        let _ = beats.send(());
    }
}

/// A call over a dead connection may hang for many minutes.
fn watch(beats: &mpsc::Receiver<()>, patience: Duration, socket: &UnixStream) {
    loop {
        match beats.recv_timeout(patience) {
            Ok(()) => {}
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {
                return end(socket, "a call that keeps a session alive hangs");
            }
        }
    }
}

fn end(socket: &UnixStream, why: &str) {
    let _ = writeln!(io::stderr(), "chanceryd {SUBCOMMAND}: {why}");
    let _ = socket.shutdown(Shutdown::Both);
}

/// How long sessions may take to be kept alive or opened anew.
const PATIENCE: Duration = Duration::from_secs(10);
