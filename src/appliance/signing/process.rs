//! The token worker as a process: how it is started, spoken to and ended.

use std::{
    fs, io,
    os::{
        fd::OwnedFd,
        unix::{fs::MetadataExt, net},
    },
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use pki::token::{KeyRef, TokenError};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    process::{Child, Command},
    time::timeout,
};

use crate::{
    sandbox::Report,
    worker::{
        self,
        login::LoginFile,
        wire::{self, Answer, Job, Settings, Started},
    },
};

/// How to start a worker.
pub(crate) struct Launch {
    program: PathBuf,
    arguments: Vec<String>,
    pub(super) settings: Settings,
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
    /// Starts this program again, whatever its file is called by now.
    pub(crate) fn this_program(settings: Settings) -> Self {
        let arguments = vec![worker::SUBCOMMAND.to_owned()];
        Self::new("/proc/self/exe".into(), arguments, settings)
    }

    pub(super) fn new(program: PathBuf, arguments: Vec<String>, settings: Settings) -> Self {
        Self { program, arguments, settings, accepted: None, told: Report::default() }
    }

    pub(super) fn keys(&self) -> &[KeyRef] {
        &self.settings.keys
    }

    /// Starts a worker, and waits at most so long until it is logged in and has found every key.
    pub(super) async fn start(&mut self, patience: Duration) -> Result<WorkerProcess, StartError> {
        // Taken before the worker reads it: if it is replaced meanwhile, it is another one.
        let pin_file = FileStamp::of(&self.settings.pin_file);
        self.settings.pin_accepted = pin_file.is_some() && pin_file == self.accepted;
        let mut worker = self
            .spawn()
            .map_err(|error| StartError::Process(format!("cannot start it: {error}")))?;
        let started = match timeout(patience, worker.greet(&self.settings)).await {
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
        let enforced = sandbox.enforced.join("; ");
        tracing::info!(enforced, "the token worker is confined");
        for missing in &sandbox.missing {
            tracing::warn!(missing, "the sandbox of the token worker has a gap");
        }
        self.told = sandbox;
    }

    /// Starts a worker that is asked to probe the token, and gives it its settings.
    pub(crate) async fn start_probe(&self) -> io::Result<WorkerProcess> {
        let mut worker = self.spawn()?;
        worker.give(&self.settings).await?;
        Ok(worker)
    }

    fn spawn(&self) -> io::Result<WorkerProcess> {
        LoginFile::of(&self.settings.state_directory).make_directory()?;
        let (ours, theirs) = net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        // No parent-death signal: it would follow the thread that starts the worker, and a worker
        // whose socket is closed ends by itself, with its sessions closed.
        let child = Command::new(&self.program)
            .args(&self.arguments)
            .env_clear()
            .envs(&self.settings.environment)
            .current_dir("/")
            // Ctrl-C is for the appliance, which still needs signatures while it ends in order.
            .process_group(0)
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .spawn()?;
        let (input, output) = UnixStream::from_std(ours)?.into_split();
        Ok(WorkerProcess { child, sessions: 0, output, input, buffer: BytesMut::new() })
    }
}

/// A worker that runs, and the socket to it.
pub(crate) struct WorkerProcess {
    child: Child,
    /// How many sign at once; known when it has started.
    sessions: usize,
    output: OwnedWriteHalf,
    input: OwnedReadHalf,
    buffer: BytesMut,
}

impl WorkerProcess {
    async fn greet(&mut self, settings: &Settings) -> io::Result<Started> {
        self.give(settings).await?;
        wire::decode(&self.frame().await?)
    }

    async fn give(&mut self, settings: &Settings) -> io::Result<()> {
        let settings = wire::frame(&serde_json::to_vec(settings)?)?;
        self.output.write_all(&settings).await
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
        if timeout(CLOSE, self.child.wait()).await.is_err() {
            let _ = self.child.kill().await;
        }
    }

    /// Ends the worker at once; says how it ended.
    pub(crate) async fn kill(&mut self) -> String {
        let _ = self.child.start_kill();
        match timeout(CLOSE, self.child.wait()).await {
            Ok(Ok(status)) => status.to_string(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it cannot be killed".to_owned(),
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

/// The length of a frame's head.
const HEAD: usize = 4;

/// For a token in a network: loading, login and finding keys.
pub(crate) const START: Duration = Duration::from_secs(30);

/// The worker reads at once whatever its sessions do.
const TAKE: Duration = Duration::from_secs(5);

/// More than a worker waits for its sessions.
const CLOSE: Duration = Duration::from_secs(3);
