//! The launcher: the process that starts token workers, so that the one that serves need not be
//! able to.
//!
//! `chanceryd` starts it first, and is told once what a worker is started with, before any request
//! is served. From then on a byte asks for a worker. Whoever takes the serving process over can
//! have workers started and ended, and choose neither their program nor their module nor a file.

use std::{
    io::{self, IoSlice, IoSliceMut, Write},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{
            net,
            process::{CommandExt, ExitStatusExt},
        },
    },
    path::{Path, PathBuf},
    process::{self, ExitCode, Stdio},
    time::Duration,
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, Interest},
    net::UnixStream,
    process::{Child, Command},
    runtime,
    task::JoinSet,
    time::timeout,
};

use crate::worker::{
    self,
    wire::{self, Settings},
};

/// The hidden subcommand that [`main`] is to be called for. It takes no arguments.
pub const SUBCOMMAND: &str = "token-launcher";

/// The way to the launcher; it ends when this is dropped, and all its workers before.
#[derive(Debug)]
pub struct Launcher {
    socket: net::UnixStream,
}

/// How workers are started. The first frame to the launcher, in JSON.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Plan {
    /// An absolute path.
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<String>,
    pub(crate) settings: Settings,
}

/// A worker that was started, and has its settings.
#[derive(Debug)]
pub(crate) struct Started {
    /// The socket to the worker.
    pub(crate) socket: net::UnixStream,
    /// A byte to it ends the worker at once. When the worker has ended, its wait status comes back
    /// (four bytes, big endian).
    pub(crate) control: net::UnixStream,
}

impl Launcher {
    /// Starts this program again as the launcher.
    ///
    /// # Errors
    ///
    /// The system refuses.
    pub fn this_program() -> io::Result<Self> {
        Self::start(Path::new("/proc/self/exe"), &[SUBCOMMAND])
    }

    /// Starts a program that calls [`main`] as the launcher.
    pub(crate) fn start(program: &Path, arguments: &[&str]) -> io::Result<Self> {
        let (socket, theirs) = net::UnixStream::pair()?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        // Nobody waits for it: it ends after the process that started it.
        let _: process::Child = process::Command::new(program)
            .args(arguments)
            .env_clear()
            .current_dir("/")
            // Ctrl-C is for the appliance, which still needs signatures while it ends in order.
            .process_group(0)
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .spawn()?;
        Ok(Self { socket })
    }

    /// Says how workers are started; to be said once.
    ///
    /// # Errors
    ///
    /// The launcher has ended.
    pub(crate) fn appoint(&mut self, plan: &Plan) -> io::Result<()> {
        self.socket.write_all(&wire::frame(&serde_json::to_vec(plan)?)?).map_err(gone)
    }

    /// Has a worker started. Takes milliseconds: the worker need not have read its settings.
    ///
    /// # Errors
    ///
    /// The worker cannot be started, or the launcher has ended.
    pub(crate) fn worker(&mut self, pin_accepted: bool) -> io::Result<Started> {
        self.socket.write_all(&[u8::from(pin_accepted)]).map_err(gone)?;
        let (mut code, mut descriptors) = ([0; 4], Vec::new());
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let into = &mut [IoSliceMut::new(&mut code)];
        let received = recvmsg(&self.socket, into, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
        if received.bytes < code.len() {
            return Err(gone(io::ErrorKind::UnexpectedEof.into()));
        }
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                descriptors.extend(rights.map(net::UnixStream::from));
            }
        }
        match (i32::from_be_bytes(code), descriptors.pop(), descriptors.pop()) {
            (0, Some(control), Some(socket)) => Ok(Started { socket, control }),
            (code, ..) => Err(io::Error::from_raw_os_error(code)),
        }
    }
}

/// The part that serves is confined, and can start no other one.
fn gone(error: io::Error) -> io::Error {
    let what = format!("the launcher of token workers has ended ({error}); restart chanceryd");
    io::Error::new(error.kind(), what)
}

/// Starts workers until the socket at standard input is closed, and waits for their end.
pub fn main() -> ExitCode {
    worker::end(SUBCOMMAND, run())
}

fn run() -> io::Result<()> {
    worker::leave_no_dumps()?;
    rustix::thread::set_no_new_privs(true)?;
    let mut socket = worker::take_socket()?;
    let Some(frame) = wire::read(&mut socket)? else { return Ok(()) };
    let plan: Plan = serde_json::from_slice(&frame)?;
    socket.set_nonblocking(true)?;
    runtime::Builder::new_current_thread().enable_all().build()?.block_on(serve(socket, plan))
}

async fn serve(socket: net::UnixStream, mut plan: Plan) -> io::Result<()> {
    let mut socket = UnixStream::from_std(socket)?;
    let mut workers = JoinSet::new();
    while let Ok(accepted) = socket.read_u8().await {
        plan.settings.pin_accepted = accepted != 0;
        match launch(&plan).await {
            Ok((child, started, control)) => {
                workers.spawn(mind(child, control));
                answer(&socket, 0, &[started.socket.as_fd(), started.control.as_fd()]).await?;
            }
            Err(error) => {
                let code = error.raw_os_error().unwrap_or(rustix::io::Errno::IO.raw_os_error());
                answer(&socket, code, &[]).await?;
            }
        }
        while workers.try_join_next().is_some() {}
    }
    while workers.join_next().await.is_some() {}
    Ok(())
}

/// Starts a worker and gives it its settings; gives the other ends, and our end of the control.
async fn launch(plan: &Plan) -> io::Result<(Child, Started, UnixStream)> {
    let (ours, theirs) = net::UnixStream::pair()?;
    let (control, theirs_of_control) = net::UnixStream::pair()?;
    control.set_nonblocking(true)?;
    ours.set_nonblocking(true)?;
    let child = Command::new(&plan.program)
        .args(&plan.arguments)
        .env_clear()
        .envs(&plan.settings.environment)
        .current_dir("/")
        .process_group(0)
        .stdin(OwnedFd::from(theirs))
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let settings = wire::frame(&serde_json::to_vec(&plan.settings)?)?;
    let mut socket = UnixStream::from_std(ours)?;
    timeout(TAKE, socket.write_all(&settings)).await??;
    let started = Started { socket: socket.into_std()?, control: theirs_of_control };
    Ok((child, started, UnixStream::from_std(control)?))
}

/// Ends a worker when it is told to, and tells how the worker has ended.
async fn mind(mut child: Child, mut control: UnixStream) -> io::Result<()> {
    let status = tokio::select! {
        status = child.wait() => status?,
        told = control.read_u8() => {
            if told.is_err() {
                // Whoever served is gone, and the socket of the worker with it: it ends by itself
                // and closes its sessions, unless it hangs.
                let _ = timeout(FAREWELL, child.wait()).await;
            }
            child.start_kill()?;
            child.wait().await?
        }
    };
    control.write_all(&status.into_raw().to_be_bytes()).await
}

async fn answer(socket: &UnixStream, code: i32, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let send = || {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
        }
        let code = code.to_be_bytes();
        Ok(sendmsg(socket, &[IoSlice::new(&code)], &mut ancillary, SendFlags::NOSIGNAL)?)
    };
    socket.async_io(Interest::WRITABLE, send).await.map(drop)
}

/// How long the launcher may take for a worker. More than the worker for its settings, so that it
/// is the launcher who says that a worker hangs.
const PATIENCE: Duration = Duration::from_secs(15);

/// Starting a process takes milliseconds; on a machine that swaps, seconds.
const TAKE: Duration = Duration::from_secs(5);

/// How long a worker may take to close its sessions.
const FAREWELL: Duration = Duration::from_secs(3);
