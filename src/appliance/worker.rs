//! The token worker: the one process that loads a PKCS#11 module.
//!
//! The [launcher](crate::launcher) starts `chanceryd` again for it, with a socket as standard
//! input. Settings come in first; the worker confines itself, reads the PIN file, logs in, finds
//! every key and says so. Then batches of jobs come in, and batches of signatures or typed errors
//! go out, until the socket is closed.

mod keeper;
pub mod login;
mod probe;
mod queue;
mod sandbox;
mod signer;
pub(crate) mod wire;

use std::{
    fs::File,
    io::{self, Write},
    os::{fd::AsFd, unix::net::UnixStream},
    panic::{AssertUnwindSafe, catch_unwind},
    process::{self, ExitCode},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use pki::token::TokenError;
use rustix::process::{DumpableBehavior, Resource, Rlimit};

use keeper::Keeper;
use queue::Queue;
use signer::Signer;
use wire::{Answer, Job, Ready, Settings};

/// The hidden subcommand that [`main`] is to be called for. It takes no arguments.
pub const SUBCOMMAND: &str = "token-worker";

/// Serves until the socket at standard input is closed.
pub fn main() -> ExitCode {
    end(SUBCOMMAND, run())
}

/// The end of a hidden subcommand, whose standard error is all that it can say why it failed with.
pub(crate) fn end(subcommand: &str, outcome: io::Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "chanceryd {subcommand}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> io::Result<()> {
    leave_no_dumps()?;
    let mut socket = take_socket()?;
    let Some(frame) = wire::read(&mut socket)? else { return Ok(()) };
    let settings: Settings = serde_json::from_slice(&frame)?;
    if let Some(asked) = &settings.probe {
        return probe::tell(&mut socket, &settings, asked);
    }
    let keep_alive = settings.keep_alive_seconds.map(|count| Duration::from_secs(count.into()));
    match start(settings) {
        Ok((ready, signers)) => {
            wire::write(&mut socket, &wire::Started::Ok(ready))?;
            serve(socket, signers, keep_alive)
        }
        Err(error) => {
            let message = error.to_string();
            wire::write(&mut socket, &wire::Started::Err(error))?;
            Err(io::Error::other(message))
        }
    }
}

fn start(settings: Settings) -> Result<(Ready, Vec<Signer>), TokenError> {
    let sandbox = sandbox::enter(&settings)?;
    let signers = Signer::open_all(Arc::new(settings))?;
    let sessions = u8::try_from(signers.len()).unwrap_or(u8::MAX);
    Ok((Ready { sessions, sandbox }, signers))
}

/// Keeps this process's memory to itself: no core dumps, and no reading by another process of the
/// same user.
///
/// # Errors
///
/// The system refuses.
pub fn leave_no_dumps() -> io::Result<()> {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    rustix::process::setrlimit(Resource::Core, none)?;
    Ok(rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// Takes the socket away from standard input: a helper that the module starts would inherit it,
/// and hold it open when this process is dead.
pub(crate) fn take_socket() -> io::Result<UnixStream> {
    let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    socket.peer_addr().map_err(|_| {
        io::Error::other("standard input is no socket; `chanceryd serve` starts the worker itself")
    })?;
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    Ok(socket)
}

fn serve(
    mut socket: UnixStream,
    signers: Vec<Signer>,
    keep_alive: Option<Duration>,
) -> io::Result<()> {
    let queue = Arc::new(Queue::new(signers.len()));
    let output = Arc::new(Mutex::new(socket.try_clone()?));
    let (running, ended) = mpsc::channel::<()>();
    let signers: Vec<_> = signers.into_iter().map(|signer| Arc::new(Mutex::new(signer))).collect();
    let keeper = keep_alive
        .map(|period| Keeper::start(signers.clone(), period, &socket, running.clone()))
        .transpose()?;
    for signer in signers {
        let (queue, output, running) = (Arc::clone(&queue), Arc::clone(&output), running.clone());
        thread::Builder::new().name("session".to_owned()).spawn(move || {
            let serve = AssertUnwindSafe(|| serve_session(&signer, &queue, &output));
            if catch_unwind(serve).is_err() {
                // Its jobs would never be answered.
                process::abort();
            }
            drop(running);
        })?;
    }
    drop(running);
    let outcome = read_jobs(&mut socket, &queue);
    drop(keeper);
    queue.close();
    // Sessions are closed in order, since a token has few; one that hangs is left behind.
    if ended.recv_timeout(CLOSING) == Err(RecvTimeoutError::Timeout) {
        process::abort();
    }
    outcome
}

fn read_jobs(socket: &mut UnixStream, queue: &Queue) -> io::Result<()> {
    while let Some(frame) = wire::read(socket)? {
        queue.add(wire::decode(&frame)?);
    }
    Ok(())
}

fn serve_session(signer: &Mutex<Signer>, queue: &Queue, output: &Mutex<UnixStream>) {
    while let Some(job) = queue.take() {
        let mut signer = signer.lock().unwrap_or_else(PoisonError::into_inner);
        let answers = answer_together(&mut signer, queue, job);
        drop(signer);
        let mut output = output.lock().unwrap_or_else(PoisonError::into_inner);
        if wire::write(&mut *output, &answers).is_err() {
            // The other end is gone; the main thread sees it, too.
            return;
        }
    }
}

/// A job, and those that wait behind it as far as nobody notices that they are waited for: a fast
/// token's signatures share a write, a slow token's go out one by one.
fn answer_together(signer: &mut Signer, queue: &Queue, first: Job) -> Vec<Answer> {
    let started = Instant::now();
    let mut answers = vec![answer(signer, first)];
    while answers.len() < ANSWERED_TOGETHER && started.elapsed() < TOGETHER {
        let Some(job) = queue.try_take() else { break };
        answers.push(answer(signer, job));
    }
    answers
}

fn answer(signer: &mut Signer, job: Job) -> Answer {
    let outcome = signer.sign(&job).map(|signature| signature.0.into());
    Answer { id: job.id, outcome, reopened: signer.was_reopened() }
}

/// The most signatures that share one write.
const ANSWERED_TOGETHER: usize = 16;

/// How long the first of them may wait for the last one's start.
const TOGETHER: Duration = Duration::from_micros(500);

/// How long sessions may take to close.
const CLOSING: Duration = Duration::from_secs(2);
