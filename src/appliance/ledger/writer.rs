//! The one writer: takes a job and then all that wait, writes them in one transaction, answers all.

use std::{
    io, mem,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use pki::clock::Clock;
use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::{oneshot, watch};

use super::{
    LedgerError,
    audit::{Body, Head},
    changes,
    checkpoint::Due,
    database::VERSION,
    directory::{AuditDirectory, Lines},
    locks,
};
use crate::policy::{BotDenial, Denial, Locks, Subject};

/// A handle on the writer's thread; the thread ends with it.
pub(super) struct Writer {
    /// `None` only while it is dropped.
    jobs: Option<SyncSender<Box<dyn Job>>>,
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread shows of itself.
pub(super) struct State {
    healthy: AtomicBool,
    transactions: AtomicU64,
    /// The locks, as the last transaction left them.
    locks: ArcSwap<Locks>,
    /// The last change that took something back.
    change: watch::Sender<u64>,
}

/// Why a job was not done.
#[derive(Debug)]
pub(super) enum Failure {
    /// This job alone; it wrote nothing.
    Refused(LedgerError),
    /// Nothing can be written: all jobs of the transaction fail.
    Storage(rusqlite::Error),
}

impl From<Denial> for Failure {
    fn from(denial: Denial) -> Self {
        Self::Refused(LedgerError::Denied(denial))
    }
}

impl From<BotDenial> for Failure {
    fn from(denial: BotDenial) -> Self {
        Denial::from(denial).into()
    }
}

impl From<LedgerError> for Failure {
    fn from(error: LedgerError) -> Self {
        Self::Refused(error)
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        let constraint =
            error.sqlite_error_code() == Some(rusqlite::ErrorCode::ConstraintViolation);
        if constraint || matches!(error, rusqlite::Error::FromSqlConversionFailure(..)) {
            return Self::Refused(LedgerError::Refused(error.to_string()));
        }
        Self::Storage(error)
    }
}

impl Writer {
    pub(super) fn start(
        connection: Connection,
        directory: AuditDirectory,
        clock: Arc<dyn Clock>,
        due: Arc<Due>,
    ) -> io::Result<Self> {
        let (jobs, receiver) = sync_channel(QUEUE);
        let invalid = io::Error::other;
        let locks = Arc::new(locks::read(&connection, clock.now()).map_err(invalid)?);
        let change = changes::last_change(&connection).map_err(invalid)?;
        let state = Arc::new(State {
            healthy: AtomicBool::new(true),
            transactions: AtomicU64::new(0),
            locks: ArcSwap::new(Arc::clone(&locks)),
            change: watch::Sender::new(change),
        });
        let worker = Worker { connection, directory, clock, due, locks, state: Arc::clone(&state) };
        let thread = thread::Builder::new()
            .name("ledger".to_owned())
            .spawn(move || worker.run(&receiver))?;
        Ok(Self { jobs: Some(jobs), state, thread: Some(thread) })
    }

    /// Has the work done in a transaction that it may share with others. What it wrote is durable
    /// when this returns, and its audit entries are in the audit directory.
    ///
    /// Work that returns [`Failure::Refused`] must not have written anything.
    pub(super) async fn submit<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Batch<'_>) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, LedgerError> {
        let (answer, receiver) = oneshot::channel();
        let job = Box::new(Pending { progress: Progress::Waiting(work), answer });
        self.send(job)?;
        receiver.await.unwrap_or_else(|_| Err(gone()))
    }

    /// Whether the last transaction and its audit lines could be written.
    pub(super) fn healthy(&self) -> bool {
        let running = self.thread.as_ref().is_some_and(|thread| !thread.is_finished());
        running && self.state.healthy.load(Ordering::Acquire)
    }

    /// How many transactions were committed.
    pub(super) fn transactions(&self) -> u64 {
        self.state.transactions.load(Ordering::Relaxed)
    }

    /// The locks.
    pub(super) fn locks(&self) -> Arc<Locks> {
        self.state.locks.load_full()
    }

    /// The last change that took something back, and each later one when it is durable.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.state.change.subscribe()
    }

    fn send(&self, job: Box<dyn Job>) -> Result<(), LedgerError> {
        let jobs = self.jobs.as_ref().ok_or_else(gone)?;
        jobs.try_send(job).map_err(|error| match error {
            TrySendError::Disconnected(_) => gone(),
            TrySendError::Full(_) => {
                LedgerError::Unavailable(format!("{QUEUE} writes wait already"))
            }
        })
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The transaction that jobs share, and the audit entries that they add.
pub(super) struct Batch<'a> {
    /// To read and write with.
    pub(super) sql: &'a Transaction<'a>,
    /// The locks; what is put here counts when the transaction is committed.
    pub(super) locks: Arc<Locks>,
    /// The last change of this transaction.
    pub(super) changed: Option<i64>,
    head: Head,
    lines: Lines,
}

impl<'a> Batch<'a> {
    fn new(sql: &'a Transaction<'a>, locks: Arc<Locks>, time: Timestamp) -> rusqlite::Result<Self> {
        let head = read_head(sql)?;
        let lines = Lines { first: head.seq + 1, time, ..Lines::default() };
        Ok(Self { sql, locks, changed: None, head, lines })
    }

    /// Refuses what a lock hits. Another transaction cannot set one before this one is over.
    pub(super) fn unless_locked(&self, subject: &Subject, now: Timestamp) -> Result<(), Failure> {
        match self.locks.hit(subject, now) {
            Some(lock) => Err(Denial::Locked { target: lock.target.clone() }.into()),
            None => Ok(()),
        }
    }

    /// Adds an entry to the audit log.
    pub(super) fn audit(&mut self, body: &Body) -> rusqlite::Result<()> {
        let entry = body.entry(self.head.seq + 1, self.lines.time);
        self.head = self.head.then(entry.as_bytes());
        self.sql
            .prepare_cached("INSERT INTO audit (seq, time, entry, hash) VALUES (?1, ?2, ?3, ?4)")?
            .execute((
                self.head.seq,
                self.lines.time.as_millisecond(),
                entry.as_bytes(),
                self.head.hash,
            ))?;
        self.lines.count += 1;
        self.lines.text.extend_from_slice(entry.as_bytes());
        self.lines.text.push(b'\n');
        Ok(())
    }
}

/// The end of the chain. Another process may have added to it since the last transaction.
fn read_head(sql: &Connection) -> rusqlite::Result<Head> {
    let mut statement =
        sql.prepare_cached("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1")?;
    let mut rows = statement.query(())?;
    match rows.next()? {
        Some(row) => Ok(Head { seq: row.get(0)?, hash: row.get(1)? }),
        None => Ok(Head::default()),
    }
}

struct Worker {
    connection: Connection,
    directory: AuditDirectory,
    clock: Arc<dyn Clock>,
    due: Arc<Due>,
    locks: Arc<Locks>,
    state: Arc<State>,
}

impl Worker {
    fn run(mut self, jobs: &Receiver<Box<dyn Job>>) {
        let mut last = 0;
        while let Some(mut batch) = self.next_batch(jobs, last) {
            last = batch.len();
            let written = self.write(&mut batch);
            self.show(&written);
            for job in batch {
                job.answer(written.clone());
            }
        }
    }

    fn show(&self, written: &Result<(), LedgerError>) {
        let was_healthy = self.state.healthy.swap(written.is_ok(), Ordering::AcqRel);
        match written {
            Err(error) if was_healthy => tracing::error!(%error, "nothing is signed until it can"),
            Ok(()) if !was_healthy => tracing::info!("the ledger can be written again"),
            Ok(()) | Err(_) => {}
        }
    }

    /// The next job and all that wait. After a crowd, `last` strong, its next jobs are about to come:
    /// they are given a moment, since a commit of its own for the first costs all of them more. An
    /// empty batch, to try again, while nothing can be written. `None` at the end.
    fn next_batch(&self, jobs: &Receiver<Box<dyn Job>>, last: usize) -> Option<Vec<Box<dyn Job>>> {
        let first = if self.is_healthy() {
            Some(jobs.recv().ok()?)
        } else {
            match jobs.recv_timeout(RETRY) {
                Ok(job) => Some(job),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        };
        let mut batch: Vec<_> = first.into_iter().chain(jobs.try_iter()).take(BATCH).collect();
        if last >= CROWD && batch.len() < last / 2 {
            thread::sleep(GATHER);
            batch.extend(jobs.try_iter().take(BATCH - batch.len()));
        }
        Some(batch)
    }

    fn write(&mut self, batch: &mut [Box<dyn Job>]) -> Result<(), LedgerError> {
        let unavailable =
            |error: &dyn std::error::Error| LedgerError::Unavailable(error.to_string());
        if !self.is_healthy() {
            self.directory.catch_up(&self.connection).map_err(|error| unavailable(&error))?;
        }
        let lines = self.transact(batch).map_err(|error| unavailable(&error))?;
        self.directory.append(&self.connection, &lines).map_err(|error| unavailable(&error))
    }

    fn transact(&mut self, jobs: &mut [Box<dyn Job>]) -> rusqlite::Result<Lines> {
        self.due.finish(&self.connection)?;
        // Immediate: the head that is read must still be the head when this is committed.
        let sql = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut batch = Batch::new(&sql, Arc::clone(&self.locks), self.clock.now())?;
        for job in jobs.iter_mut() {
            job.apply(&mut batch)?;
        }
        let Batch { lines, locks, changed, .. } = batch;
        if jobs.is_empty() {
            // A write that changes nothing: shows whether the disk takes any.
            sql.pragma_update(None, "user_version", VERSION)?;
        }
        sql.commit()?;
        self.due.wrote();
        if !Arc::ptr_eq(&self.locks, &locks) {
            self.state.locks.store(Arc::clone(&locks));
            self.locks = locks;
        }
        if let Some(change) = changed {
            self.state.change.send_replace(change.cast_unsigned());
        }
        metrics::histogram!("chancery_ledger_transaction_jobs").record(jobs.len() as f64);
        self.state.transactions.fetch_add(1, Ordering::Relaxed);
        Ok(lines)
    }

    fn is_healthy(&self) -> bool {
        self.state.healthy.load(Ordering::Acquire)
    }
}

/// One piece of work, whatever it returns.
trait Job: Send {
    /// Does the work; fails when the transaction cannot go on.
    fn apply(&mut self, batch: &mut Batch<'_>) -> rusqlite::Result<()>;

    /// Tells who waits, after the commit.
    fn answer(self: Box<Self>, written: Result<(), LedgerError>);
}

struct Pending<W, T> {
    progress: Progress<W, T>,
    answer: oneshot::Sender<Result<T, LedgerError>>,
}

enum Progress<W, T> {
    Waiting(W),
    Done(Result<T, LedgerError>),
    Lost,
}

impl<W, T> Job for Pending<W, T>
where
    W: FnOnce(&mut Batch<'_>) -> Result<T, Failure> + Send,
    T: Send,
{
    fn apply(&mut self, batch: &mut Batch<'_>) -> rusqlite::Result<()> {
        if let Progress::Waiting(work) = mem::replace(&mut self.progress, Progress::Lost) {
            self.progress = match work(batch) {
                Ok(done) => Progress::Done(Ok(done)),
                Err(Failure::Refused(error)) => Progress::Done(Err(error)),
                Err(Failure::Storage(error)) => return Err(error),
            };
        }
        Ok(())
    }

    fn answer(self: Box<Self>, written: Result<(), LedgerError>) {
        let outcome = match self.progress {
            Progress::Done(outcome) => outcome,
            Progress::Waiting(_) | Progress::Lost => Err(gone()),
        };
        // Nobody waits any more when the request was given up; what was written stands.
        let _ = self.answer.send(written.and(outcome));
    }
}

fn gone() -> LedgerError {
    LedgerError::Unavailable("its writer has ended".to_owned())
}

/// The most jobs of one transaction.
const BATCH: usize = 256;

/// So many jobs in one transaction are a crowd.
const CROWD: usize = 8;

/// How long a crowd is waited for: about as long as a commit takes.
const GATHER: Duration = Duration::from_micros(200);

/// The most jobs that wait; more are refused.
const QUEUE: usize = 8 * 1024;

/// How soon the writer tries again by itself when nothing could be written.
const RETRY: Duration = Duration::from_millis(500);
