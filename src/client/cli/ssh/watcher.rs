//! The process that ends a session when the one that uses it is gone.

use std::{
    fs,
    io::{self, BufRead},
    path::{Path, PathBuf},
    process::{ExitCode, Stdio},
    time::Duration,
};

use api::{Because, ProblemKind, Session, SessionEnded, SessionState};
use client::{Client, Error, profile::Settings, session::is_passing};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::{Instant, sleep, timeout},
};

use super::system;
use crate::cli::{effect, failure::Failure, output::Output, session::why_not_open, terminal::tell};

/// The watcher, seen from the process that it watches. It acts when `pipe` closes, and only this
/// process has that end of it.
pub(super) struct Watcher {
    process: Child,
    pipe: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

/// What the watcher is told, in one line.
#[derive(Debug, Deserialize, Serialize)]
struct Guard {
    session: String,
    /// Seconds after which the session has ended by itself.
    ttl: u64,
    /// To be removed.
    directory: PathBuf,
}

/// What the watcher says, in one line each.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum Told {
    Ready,
    Ended(Box<SessionEnded>),
    /// It was over before; so is what it would have ended.
    Over(Box<Session>),
    Failed(String),
}

impl Watcher {
    /// Starts it, and waits until it can be relied on: it has read the client identity, and no
    /// signal of this terminal reaches it.
    pub(super) async fn start(settings: &Settings) -> Result<Self, Failure> {
        let program = std::env::current_exe().map_err(system("find the own program"))?;
        let mut command = Command::new(program);
        command
            .args(["--server", &settings.server.to_string()])
            .arg("--ca")
            .arg(&settings.ca)
            .arg("--cert")
            .arg(&settings.certificate)
            .arg("--cert-key")
            .arg(&settings.key)
            .args(["session", "watch"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut process = command.spawn().map_err(system("start the watcher"))?;
        let broken = || system("start the watcher")(io::ErrorKind::BrokenPipe.into());
        let pipe = Some(process.stdin.take().ok_or_else(broken)?);
        let answers = BufReader::new(process.stdout.take().ok_or_else(broken)?);
        let mut watcher = Self { process, pipe, answers };
        match watcher.hear().await {
            Some(Told::Ready) => Ok(watcher),
            _ => Err(broken()),
        }
    }

    /// From now on it ends this session, and removes this directory, when this process goes away.
    pub(super) async fn guard(
        &mut self,
        session: &Session,
        directory: &Path,
    ) -> Result<(), Failure> {
        let waiting = session.waits_until.duration_since(session.requested_at).unsigned_abs();
        let guard = Guard {
            session: session.id.clone(),
            ttl: waiting.as_secs() + u64::from(session.ttl),
            directory: directory.to_owned(),
        };
        let mut line = serde_json::to_vec(&guard).map_err(Error::Encode)?;
        line.push(b'\n');
        let Some(pipe) = &mut self.pipe else { return Ok(()) };
        pipe.write_all(&line).await.map_err(system("speak to the watcher"))
    }

    /// Lets it end the session now, and says what became of that. A watcher that was killed is
    /// stood in for.
    pub(super) async fn finish(mut self, client: &Client, session: &str) {
        drop(self.pipe.take());
        let told = match timeout(PATIENCE, self.hear()).await {
            Ok(Some(told)) => told,
            Ok(None) => {
                end(client, session).await.unwrap_or_else(|it| Told::Failed(it.to_string()))
            }
            Err(_) => {
                let id = self.process.id().map(|id| id.to_string()).unwrap_or_default();
                return tell(format!(
                    "session {session} is not ended yet, since the appliance is away; process \
                     {id} goes on trying"
                ));
            }
        };
        match told {
            Told::Ended(ended) => {
                let revoked = effect::certificates(ended.revoked);
                tell(format!("session {session} has ended; {revoked} revoked"));
            }
            // That it was denied or had expired was said.
            Told::Over(it) if it.state != SessionState::Ended => {}
            Told::Over(it) => tell(format!("session {session} was over: {}", why_not_open(&it))),
            Told::Failed(what) => tell(format!(
                "session {session} could not be ended: {what}; see `chancery session show`"
            )),
            Told::Ready => {}
        }
    }

    /// The next thing that it says; `None` when it is gone.
    async fn hear(&mut self) -> Option<Told> {
        let mut line = String::new();
        self.answers.read_line(&mut line).await.ok()?;
        serde_json::from_str(&line).ok()
    }
}

/// The watcher's own side: waits until its input ends, then ends what it was told to.
pub(in crate::cli) async fn watch(
    client: &Client,
    output: &mut Output,
) -> Result<ExitCode, Failure> {
    // Neither ^C nor the end of the terminal concern it.
    rustix::process::setsid().map_err(|error| system("leave the terminal")(error.into()))?;
    output.line(&Told::Ready)?;
    let mut guard = None;
    for line in io::stdin().lock().lines() {
        // A line that is cut off was never acted upon by who wrote it.
        let read = line.ok().and_then(|line| serde_json::from_str::<Guard>(&line).ok());
        guard = read.or(guard);
    }
    let Some(guard) = guard else { return Ok(ExitCode::SUCCESS) };
    let told = end_at_last(client, &guard).await;
    let told = told.unwrap_or_else(|error| Told::Failed(error.to_string()));
    // Mostly removed already; the socket in it leads nowhere.
    let _ = fs::remove_dir_all(&guard.directory);
    // Who would hear it may be gone: that is what a watcher is for.
    let _ = output.line(&told);
    Ok(ExitCode::SUCCESS)
}

/// Tries until the session has ended by itself.
async fn end_at_last(client: &Client, guard: &Guard) -> Result<Told, Error> {
    let until = Instant::now() + Duration::from_secs(guard.ttl);
    let mut pause = SHORTEST_PAUSE;
    loop {
        match end(client, &guard.session).await {
            Err(error) if is_passing(&error) && Instant::now() < until => sleep(pause).await,
            other => return other,
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn end(client: &Client, id: &str) -> Result<Told, Error> {
    let because = Because { reason: "chancery ssh has ended".to_owned() };
    match client.end_session(id, &because).await {
        Ok(ended) => Ok(Told::Ended(Box::new(ended))),
        // Its time, a lock or somebody else may have been quicker.
        Err(Error::Problem(problem)) if problem.kind == ProblemKind::Denied => {
            let session = client.session(id).await?;
            match session.state {
                SessionState::Open | SessionState::Waiting => Err(Error::Problem(problem)),
                _ => Ok(Told::Over(Box::new(session))),
            }
        }
        Err(error) => Err(error),
    }
}

/// How long the end of a session may take before the terminal is given back.
const PATIENCE: Duration = Duration::from_secs(10);
const SHORTEST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
