//! The task that feeds the worker, and starts another when it is dead, hung or lying.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    sync::Arc,
    time::Duration,
};

use futures_util::FutureExt;
use pki::{keys::Signature, token::TokenError};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep, sleep_until},
};

use super::{
    Shown, SigningError,
    process::{Launch, START, StartError, WorkerProcess},
    state::{Event, Sessions},
};
use crate::worker::wire::{self, Answer, Work};

/// A signature that somebody waits for.
pub(super) struct Job {
    pub(super) work: Work,
    pub(super) deadline: Instant,
    /// How often a worker died or hung while it had this job alone.
    pub(super) attempts: u8,
    pub(super) answer: oneshot::Sender<Result<Signature, SigningError>>,
}

impl Job {
    fn is_wanted(&self) -> bool {
        !self.answer.is_closed() && Instant::now() < self.deadline
    }

    fn settle(self, outcome: Result<Signature, SigningError>) {
        // Nobody waits any more when the deadline has just passed.
        let _ = self.answer.send(outcome);
    }
}

pub(super) struct Supervisor {
    launch: Launch,
    jobs: mpsc::Receiver<Job>,
    /// Jobs that a lost worker had.
    again: VecDeque<Job>,
    /// The last worker died or hung, and one of those jobs may be why.
    careful: bool,
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
    pub(super) fn new(
        launch: Launch,
        usual_start: Duration,
        jobs: mpsc::Receiver<Job>,
        shown: Arc<Shown>,
    ) -> Self {
        Self {
            launch,
            jobs,
            again: VecDeque::new(),
            careful: false,
            usual_start,
            calm: None,
            shown,
        }
    }

    pub(super) async fn run(mut self, mut worker: WorkerProcess) {
        let mut back_off = BackOff::default();
        loop {
            self.shown.happened(Event::Started(self.sessions(&worker)));
            back_off.started();
            let reason = match self.serve(&mut worker).await {
                End::Closed => return worker.close().await,
                End::Fatal(error) => {
                    worker.kill().await;
                    return self.refuse_all(error).await;
                }
                End::Failed(reason) | End::Lost(reason) => {
                    format!("{reason} ({})", worker.kill().await)
                }
            };
            self.shown.happened(Event::Lost(reason));
            worker = match self.start_again(&mut back_off).await {
                Ok(Some(worker)) => {
                    // What was said of the one before is not held against this one.
                    let _ = self.shown.distrusted.notified().now_or_never();
                    self.calm = Some(Instant::now() + TROUBLED);
                    worker
                }
                Ok(None) => return,
                Err(error) => return self.refuse_all(error).await,
            };
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
        while !self.jobs.is_closed() {
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

    async fn refuse_all(mut self, error: TokenError) {
        tracing::error!(%error, "the token is not used again until the appliance is restarted");
        self.shown.happened(Event::Refused(error.to_string()));
        for job in self.again.drain(..) {
            job.settle(Err(error.clone().into()));
        }
        while let Some(job) = self.jobs.recv().await {
            job.settle(Err(error.clone().into()));
        }
    }

    async fn serve(&mut self, worker: &mut WorkerProcess) -> End {
        let mut flight = Flight::new(worker.sessions() * IN_FLIGHT, self.careful);
        let end = loop {
            flight.careful &= !(self.again.is_empty() && flight.jobs.is_empty());
            tokio::select! {
                answers = worker.answers() => match answers {
                    Ok(answers) => {
                        self.look_for_trouble(&answers);
                        if let Err(end) = flight.land(answers) { break end }
                    }
                    Err(error) => break lost(&error),
                },
                job = next(&mut self.again, &mut self.jobs), if flight.has_room() => match job {
                    Some(job) => if let Err(error) = self.send(job, &mut flight, worker).await {
                        break lost(&error);
                    },
                    None if flight.jobs.is_empty() => break End::Closed,
                    None => flight.limit = 0,
                },
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
            if flight.limit == 0 && flight.jobs.is_empty() {
                break End::Closed;
            }
        };
        let alone = flight.jobs.len() == 1;
        let jobs = flight.jobs.into_values();
        match &end {
            End::Lost(reason) if alone => {
                self.again.extend(jobs.filter_map(|job| try_again(job, reason)));
            }
            End::Closed | End::Failed(_) | End::Fatal(_) | End::Lost(_) => self.again.extend(jobs),
        }
        self.careful = flight.careful || matches!(end, End::Lost(_));
        end
    }

    /// Sends a job and all that wait, as far as there is room.
    async fn send(
        &mut self,
        first: Job,
        flight: &mut Flight,
        worker: &mut WorkerProcess,
    ) -> io::Result<()> {
        let mut batch = Vec::new();
        let mut job = Some(first);
        while let Some(taken) = job {
            // Expired jobs never touch the token.
            if taken.is_wanted() {
                batch.push(flight.board(taken));
            }
            job = if flight.has_room() {
                self.again.pop_front().or_else(|| self.jobs.try_recv().ok())
            } else {
                None
            };
        }
        if batch.is_empty() { Ok(()) } else { worker.send(&batch).await }
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

/// The jobs that the worker has, by the number that they were sent with.
struct Flight {
    jobs: BTreeMap<u32, Job>,
    limit: usize,
    /// One job at a time, until it is known which of them a worker does not survive.
    careful: bool,
    next: u32,
    /// Since when the oldest job is the oldest. Jobs are signed in their order, so that it is being
    /// signed; that others are answered says nothing of it, as each session can hang alone.
    progress: Instant,
}

impl Flight {
    fn new(limit: usize, careful: bool) -> Self {
        Self { jobs: BTreeMap::new(), limit, careful, next: 0, progress: Instant::now() }
    }

    fn has_room(&self) -> bool {
        let limit = if self.careful { self.limit.min(1) } else { self.limit };
        self.jobs.len() < limit
    }

    fn board(&mut self, job: Job) -> wire::Job {
        if self.jobs.is_empty() {
            self.progress = Instant::now();
        }
        let id = self.next;
        self.next = self.next.wrapping_add(1);
        let work = job.work.clone();
        self.jobs.insert(id, job);
        wire::Job { id, work }
    }

    fn land(&mut self, answers: Vec<Answer>) -> Result<(), End> {
        let oldest = self.oldest();
        let landed = self.settle(answers);
        if self.oldest() != oldest {
            self.progress = Instant::now();
        }
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
                Ok(bytes) => job.settle(Ok(Signature(bytes.into()))),
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

/// The next job; those of a lost worker first. Can be dropped while it waits without losing any.
async fn next(again: &mut VecDeque<Job>, jobs: &mut mpsc::Receiver<Job>) -> Option<Job> {
    match again.pop_front() {
        Some(job) => Some(job),
        None => jobs.recv().await,
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

/// For each session: one that is signed, and others so that it never waits for the next.
const IN_FLIGHT: usize = 16;

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
