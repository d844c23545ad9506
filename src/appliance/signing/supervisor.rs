//! The task that feeds the worker, and starts another when it is dead, hung or lying.

use std::{collections::BTreeMap, io, sync::Arc, time::Duration};

use futures_util::FutureExt;
use pki::{keys::Signature, token::TokenError};
use tokio::time::{Instant, sleep, sleep_until};

use super::{
    Shown, SigningError,
    pace::Pace,
    process::{Launch, START, StartError, WorkerProcess},
    queue::{Job, Made, Queue, Room, Taken},
    state::{Event, Sessions},
};
use crate::worker::wire::{self, Answer};

/// Feeds one token's worker from the queue.
pub(super) struct Supervisor {
    launch: Launch,
    /// Which token it is, by its place in the configuration.
    token: usize,
    queue: Arc<Queue>,
    /// How long the first worker took to start.
    usual_start: Duration,
    /// When the last trouble is forgotten, if there was any.
    calm: Option<Instant>,
    shown: Arc<Shown>,
}

/// Why a worker serves no longer.
enum End {
    /// Nobody is left who could ask.
    Closed,
    /// It said that its token fails, or lied; another mends it.
    Failed(String),
    /// It is dead or hung; another mends it.
    Lost(String),
    /// Only a person can mend it.
    Fatal(TokenError),
}

impl Supervisor {
    /// Starts the first worker, unless the token's PIN was refused before.
    pub(super) async fn start(
        mut launch: Launch,
        token: usize,
        queue: Arc<Queue>,
        shown: Arc<Shown>,
    ) -> (Self, Result<WorkerProcess, StartError>) {
        let started = Instant::now();
        let worker = match launch.settings.logins().check() {
            Ok(()) => launch.start(START).await,
            Err(refused) => Err(StartError::Token(refused)),
        };
        let usual_start = started.elapsed();
        let supervisor = Self { launch, token, queue, usual_start, calm: None, shown };
        supervisor.shown.happened(match &worker {
            Ok(worker) => Event::Started(supervisor.sessions(worker)),
            Err(error) => error.event(),
        });
        (supervisor, worker)
    }

    pub(super) fn shown(&self) -> Arc<Shown> {
        Arc::clone(&self.shown)
    }

    /// Serves until nobody can ask any more, or the token's PIN is refused.
    pub(super) async fn run(mut self, first: Result<WorkerProcess, StartError>) {
        let mut back_off = BackOff::default();
        let mut next = match first {
            Ok(worker) => Some(worker),
            Err(StartError::Token(error @ TokenError::Pin { .. })) => return self.refuse(&error),
            Err(_) => None,
        };
        loop {
            let mut worker = match next.take() {
                Some(worker) => worker,
                None => match self.start_again(&mut back_off).await {
                    Ok(Some(worker)) => {
                        // What was said of the one before is not held against this one.
                        let _ = self.shown.distrusted.notified().now_or_never();
                        self.calm = Some(Instant::now() + TROUBLED);
                        self.shown.happened(Event::Started(self.sessions(&worker)));
                        worker
                    }
                    Ok(None) => return,
                    Err(error) => return self.refuse(&error),
                },
            };
            back_off.started();
            let reason = match self.serve(&mut worker).await {
                End::Closed => return worker.close().await,
                End::Fatal(error) => {
                    worker.kill().await;
                    return self.refuse(&error);
                }
                End::Failed(reason) | End::Lost(reason) => {
                    format!("{reason} ({})", worker.kill().await)
                }
            };
            self.shown.happened(Event::Lost(reason));
        }
    }

    /// Starts workers until one serves. `None` when nobody is left who could ask.
    ///
    /// A refused PIN is the end. All else is tried again: the PIN was accepted before, so that
    /// another login takes nothing from the token's count of tries.
    async fn start_again(
        &mut self,
        back_off: &mut BackOff,
    ) -> Result<Option<WorkerProcess>, TokenError> {
        while !self.queue.is_closed() {
            sleep(back_off.next()).await;
            // Much longer than the first one means that the token hangs.
            let patience = (self.usual_start * 4).clamp(HANG, START);
            let reason = match self.launch.start(patience).await {
                Ok(worker) => return Ok(Some(worker)),
                Err(StartError::Token(error @ TokenError::Pin { .. })) => return Err(error),
                Err(StartError::Token(error)) => error.to_string(),
                Err(StartError::Process(reason)) => reason,
            };
            tracing::debug!(reason, "the token worker cannot be started");
            self.shown.happened(Event::Failed(reason));
        }
        Ok(None)
    }

    fn refuse(&self, error: &TokenError) {
        let token = &self.shown.name;
        tracing::error!(%error, token, "the token is not used again until the appliance is restarted");
        self.shown.happened(Event::Refused(error.to_string()));
        self.queue.leave(self.token, error);
    }

    async fn serve(&mut self, worker: &mut WorkerProcess) -> End {
        let mut flight = Flight::new(worker.sessions(), self.token);
        let end = loop {
            tokio::select! {
                answers = worker.answers() => match answers {
                    Ok(answers) => {
                        self.look_for_trouble(&answers);
                        if let Err(end) = flight.land(answers) { break end }
                        self.queue.set_rate(self.token, flight.pace.rate());
                    }
                    Err(error) => break lost(&error),
                },
                taken = self.queue.take(flight.room()), if flight.has_room() => {
                    let jobs = match taken {
                        Taken::Jobs(jobs) => jobs,
                        Taken::Suspect(job) => {
                            flight.alone = true;
                            vec![job]
                        }
                        Taken::Closed if flight.jobs.is_empty() => break End::Closed,
                        Taken::Closed => {
                            flight.closing = true;
                            continue;
                        }
                    };
                    if let Err(error) = worker.send(&flight.board(jobs)).await {
                        break lost(&error);
                    }
                }
                () = self.shown.distrusted.notified() => {
                    break End::Failed("it made a signature that does not verify".to_owned());
                }
                () = sleep_until(self.calm.unwrap_or(flight.progress)), if self.calm.is_some() => {
                    self.calm = None;
                    self.shown.happened(Event::Calm(self.sessions(worker)));
                }
                () = sleep_until(flight.progress + HANG), if !flight.jobs.is_empty() => {
                    break End::Lost(format!("a signature took more than {} s", HANG.as_secs()));
                }
            }
            if flight.closing && flight.jobs.is_empty() {
                break End::Closed;
            }
        };
        self.give_back(flight, &end);
        end
    }

    /// What the worker had goes back to the queue. When it died or hung, one of those jobs may be
    /// why; when there was one alone, it is.
    fn give_back(&self, flight: Flight, end: &End) {
        let alone = flight.jobs.len() == 1;
        let jobs = flight.jobs.into_values();
        match end {
            End::Lost(reason) if alone => {
                self.queue.give_back(jobs.filter_map(|job| try_again(job, reason)), true);
            }
            End::Lost(_) => self.queue.give_back(jobs, true),
            End::Closed | End::Failed(_) | End::Fatal(_) => self.queue.give_back(jobs, false),
        }
    }

    fn look_for_trouble(&mut self, answers: &[Answer]) {
        if answers.iter().any(|answer| answer.reopened) {
            self.calm = Some(Instant::now() + TROUBLED);
            self.shown.happened(Event::Reopened);
        }
    }

    fn sessions(&self, worker: &WorkerProcess) -> Sessions {
        let wanted = usize::from(self.launch.settings.sessions);
        Sessions { open: worker.sessions(), wanted }
    }
}

impl StartError {
    fn event(&self) -> Event {
        match self {
            Self::Process(reason) => Event::Failed(reason.clone()),
            Self::Token(error @ TokenError::Pin { .. }) => Event::Refused(error.to_string()),
            Self::Token(error) => Event::Failed(error.to_string()),
        }
    }
}

/// The jobs that the worker has, by the number that they were sent with.
struct Flight {
    token: usize,
    jobs: BTreeMap<u32, Job>,
    pace: Pace,
    /// The one job there may be why the worker before died.
    alone: bool,
    /// No more are to come.
    closing: bool,
    next: u32,
    /// Since when the oldest job is the oldest. Jobs are signed in their order, so that it is being
    /// signed; that others are answered says nothing of it, as each session can hang alone.
    progress: Instant,
}

impl Flight {
    fn new(sessions: usize, token: usize) -> Self {
        let now = Instant::now();
        Self {
            token,
            jobs: BTreeMap::new(),
            pace: Pace::new(sessions, now),
            alone: false,
            closing: false,
            next: 0,
            progress: now,
        }
    }

    fn room(&self) -> Room {
        let jobs = self.pace.in_flight().saturating_sub(self.jobs.len());
        Room { jobs, empty: self.jobs.is_empty() }
    }

    fn has_room(&self) -> bool {
        !self.alone && !self.closing && self.pace.wants_more(self.jobs.len())
    }

    fn board(&mut self, jobs: Vec<Job>) -> Vec<wire::Job> {
        let now = Instant::now();
        self.pace.passed(self.jobs.len(), now);
        if self.jobs.is_empty() {
            self.progress = now;
        }
        let board = |job: Job| {
            let id = self.next;
            self.next = self.next.wrapping_add(1);
            let work = job.work.clone();
            self.jobs.insert(id, job);
            wire::Job { id, work }
        };
        jobs.into_iter().map(board).collect()
    }

    fn land(&mut self, answers: Vec<Answer>) -> Result<(), End> {
        let (now, oldest) = (Instant::now(), self.oldest());
        self.pace.passed(self.jobs.len(), now);
        self.pace.answered(answers.len());
        let landed = self.settle(answers);
        if self.oldest() != oldest {
            self.progress = now;
        }
        self.alone &= !self.jobs.is_empty();
        landed
    }

    fn oldest(&self) -> Option<u32> {
        self.jobs.first_key_value().map(|(id, _)| *id)
    }

    fn settle(&mut self, answers: Vec<Answer>) -> Result<(), End> {
        let mut end = Ok(());
        for Answer { id, outcome, .. } in answers {
            let Some(job) = self.jobs.remove(&id) else {
                return Err(End::Lost("it answered what it was not asked".to_owned()));
            };
            match outcome {
                Ok(bytes) => {
                    let signature = Signature(bytes.into());
                    job.settle(Ok(Made { signature, token: self.token }));
                }
                Err(error) => match error {
                    TokenError::Context { .. }
                    | TokenError::NoSession { .. }
                    | TokenError::NoToken(_)
                    | TokenError::Session { .. } => {
                        self.jobs.insert(id, job);
                        end = Err(End::Failed(error.to_string()));
                    }
                    TokenError::Pin { .. } => {
                        job.settle(Err(error.clone().into()));
                        end = Err(End::Fatal(error));
                    }
                    TokenError::InputLength { .. }
                    | TokenError::KeyAmbiguous { .. }
                    | TokenError::KeyExists { .. }
                    | TokenError::KeyMissing { .. }
                    | TokenError::KeyUnfit { .. }
                    | TokenError::MechanismMissing { .. }
                    | TokenError::Refused { .. } => job.settle(Err(error.into())),
                },
            }
        }
        end
    }
}

/// How long to wait before the next start: not at all once, then longer each time, until a worker
/// has served for a while.
#[derive(Default)]
struct BackOff {
    delay: Duration,
    up_since: Option<Instant>,
}

impl BackOff {
    fn started(&mut self) {
        self.up_since = Some(Instant::now());
    }

    fn next(&mut self) -> Duration {
        if self.up_since.take().is_some_and(|since| since.elapsed() >= STEADY) {
            self.delay = Duration::ZERO;
        }
        let delay = self.delay;
        self.delay = (delay * 2).clamp(FIRST_DELAY, LAST_DELAY);
        delay
    }
}

/// A job that was alone may itself be what kills workers.
fn try_again(mut job: Job, reason: &str) -> Option<Job> {
    job.attempts += 1;
    if job.attempts < ATTEMPTS {
        return Some(job);
    }
    job.settle(Err(SigningError::Down(reason.to_owned())));
    None
}

fn lost(error: &io::Error) -> End {
    End::Lost(error.to_string())
}

/// A job that so many workers did not survive is given up: after about three seconds when there is
/// no other, and later when there are, since each of them is tried in turn.
const ATTEMPTS: u8 = 8;

/// A worker whose oldest job is not answered for so long is hung; the slowest signature (RSA-4096 on
/// a small token) takes about a second, and few are answered together.
const HANG: Duration = Duration::from_secs(5);

/// How long a token that failed is said to be degraded.
const TROUBLED: Duration = Duration::from_secs(60);

/// A worker that served for so long was no failure.
const STEADY: Duration = Duration::from_secs(5);

const FIRST_DELAY: Duration = Duration::from_millis(100);

/// Half of the second within which a token that is back is to sign again.
const LAST_DELAY: Duration = Duration::from_millis(500);
