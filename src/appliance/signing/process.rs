//! The token worker as a process: how it is started, spoken to and ended.

use std::{
    fs, io,
    os::unix::{fs::MetadataExt, process::ExitStatusExt},
    path::{Path, PathBuf},
    process::ExitStatus,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use pki::token::TokenError;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::timeout,
};

use crate::{
    launcher::{Launcher, Plan, Started},
    sandbox::Report,
    worker::{
        self,
        wire::{self, Answer, Job, Settings},
    },
};

/// How to start a worker.
pub(crate) struct Launch {
    launcher: Launcher,
    program: PathBuf,
    arguments: Vec<String>,
    pub(super) settings: Settings,
    /// The launcher knows all of this.
    appointed: bool,
    /// The PIN file that the token has accepted.
    accepted: Option<FileStamp>,
    /// The sandbox that the log was told of.
    told: Report,
}

/// Tells whether a file is still the one that it was, without a look into it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct FileStamp {
    device: u64,
    inode: u64,
    /// Seconds and nanoseconds. No program can set it back.
    changed: (i64, i64),
}

impl FileStamp {
    fn of(path: &Path) -> Option<Self> {
        let file = fs::metadata(path).ok()?;
        let changed = (file.ctime(), file.ctime_nsec());
        Some(Self { device: file.dev(), inode: file.ino(), changed })
    }
}

/// Why a worker could not be started.
#[derive(Debug)]
pub(super) enum StartError {
    /// It did not start, or ended, or said nothing.
    Process(String),
    /// The token refuses.
    Token(TokenError),
}

impl Launch {
    /// Workers are this program again, whatever its file is called by now.
    pub(crate) fn this_program(launcher: Launcher, settings: Settings) -> Self {
        let arguments = vec![worker::SUBCOMMAND.to_owned()];
        Self::new(launcher, "/proc/self/exe".into(), arguments, settings)
    }

    pub(super) fn new(
        launcher: Launcher,
        program: PathBuf,
        arguments: Vec<String>,
        settings: Settings,
    ) -> Self {
        Self {
            launcher,
            program,
            arguments,
            settings,
            appointed: false,
            accepted: None,
            told: Report::default(),
        }
    }

    /// Starts a worker, and waits at most so long until it is logged in and has found every key.
    pub(super) async fn start(&mut self, patience: Duration) -> Result<WorkerProcess, StartError> {
        // Taken before the worker reads it: if it is replaced meanwhile, it is another one.
        let pin_file = FileStamp::of(&self.settings.pin_file);
        let pin_accepted = pin_file.is_some() && pin_file == self.accepted;
        let mut worker = self
            .spawn(pin_accepted)
            .map_err(|error| StartError::Process(format!("cannot start it: {error}")))?;
        let started = match timeout(patience, worker.greeting()).await {
            Ok(started) => started,
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "it did not log in in time")),
        };
        match started {
            Ok(Ok(ready)) => {
                worker.sessions = usize::from(ready.sessions);
                self.accepted = pin_file;
                self.tell(ready.sandbox);
                Ok(worker)
            }
            Ok(Err(error)) => {
                worker.kill().await;
                Err(StartError::Token(error))
            }
            Err(error) => {
                let ended = worker.kill().await;
                Err(StartError::Process(format!("{error} ({ended})")))
            }
        }
    }

    /// Tells the log of the sandbox, once as long as it is the same.
    fn tell(&mut self, sandbox: Report) {
        if self.told == sandbox {
            return;
        }
        let (token, enforced) = (&self.settings.identity.label, sandbox.enforced.join("; "));
        tracing::info!(token, enforced, "the token worker is confined");
        for missing in &sandbox.missing {
            tracing::warn!(token, missing, "the sandbox of the token worker has a gap");
        }
        self.told = sandbox;
    }

    /// Starts a worker that is asked to probe the token.
    pub(crate) fn start_probe(&mut self) -> io::Result<WorkerProcess> {
        self.spawn(false)
    }

    fn spawn(&mut self, pin_accepted: bool) -> io::Result<WorkerProcess> {
        self.settings.logins().make_directory()?;
        if !self.appointed {
            self.launcher.appoint(&Plan {
                program: self.program.clone(),
                arguments: self.arguments.clone(),
                settings: self.settings.clone(),
            })?;
            self.appointed = true;
        }
        let Started { socket, control } = self.launcher.worker(pin_accepted)?;
        socket.set_nonblocking(true)?;
        control.set_nonblocking(true)?;
        let (input, output) = UnixStream::from_std(socket)?.into_split();
        let control = UnixStream::from_std(control)?;
        Ok(WorkerProcess { control, sessions: 0, output, input, buffer: BytesMut::new() })
    }
}

/// A worker that runs, and the sockets to it and to its launcher.
pub(crate) struct WorkerProcess {
    control: UnixStream,
    /// How many sign at once; known when it has started.
    sessions: usize,
    output: OwnedWriteHalf,
    input: OwnedReadHalf,
    buffer: BytesMut,
}

impl WorkerProcess {
    /// What it says when it has read its settings.
    async fn greeting(&mut self) -> io::Result<wire::Started> {
        wire::decode(&self.frame().await?)
    }

    /// How many jobs it signs at once.
    pub(super) fn sessions(&self) -> usize {
        self.sessions
    }

    /// Sends jobs; fails when the worker does not take them.
    pub(super) async fn send(&mut self, jobs: &[Job]) -> io::Result<()> {
        let frame = wire::encode(&jobs)?;
        timeout(TAKE, self.output.write_all(&frame)).await?
    }

    /// The next answers. Can be dropped while it waits without losing any.
    pub(super) async fn answers(&mut self) -> io::Result<Vec<Answer>> {
        wire::decode(&self.frame().await?)
    }

    /// Closes the socket; the worker closes its sessions and ends.
    pub(super) async fn close(mut self) {
        drop((self.input, self.output));
        if ended(&mut self.control).await.is_err() {
            let _ = end(&mut self.control).await;
        }
    }

    /// Ends the worker at once; says how it ended.
    pub(crate) async fn kill(&mut self) -> String {
        match end(&mut self.control).await {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        }
    }

    /// The next frame.
    pub(crate) async fn frame(&mut self) -> io::Result<Bytes> {
        loop {
            if let Some((head, rest)) = self.buffer.split_first_chunk() {
                let length = wire::frame_len(*head)?;
                if rest.len() >= length {
                    let mut frame = self.buffer.split_to(HEAD + length);
                    return Ok(frame.split_off(HEAD).freeze());
                }
            }
            if self.input.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it ended"));
            }
        }
    }
}

/// Has the launcher end its worker.
async fn end(control: &mut UnixStream) -> io::Result<ExitStatus> {
    // It may have ended by itself: then nobody reads, and its status is there.
    let _ = control.write_u8(0).await;
    ended(control).await
}

/// How a worker has ended, when it has.
async fn ended(control: &mut UnixStream) -> io::Result<ExitStatus> {
    match timeout(CLOSE, control.read_i32()).await {
        Ok(status) => Ok(ExitStatus::from_raw(status?)),
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "it does not end")),
    }
}

/// The length of a frame's head.
const HEAD: usize = 4;

/// For a token in a network: loading, login and finding keys.
pub(crate) const START: Duration = Duration::from_secs(30);

/// The worker reads at once whatever its sessions do.
const TAKE: Duration = Duration::from_secs(5);

/// More than a worker waits for its sessions.
const CLOSE: Duration = Duration::from_secs(3);
