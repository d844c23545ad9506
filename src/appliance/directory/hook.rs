use std::{sync::Arc, time::Duration};

use pki::{clock::Clock, names::Upn};
use tokio::time::sleep;

use super::{Act, Applied, Directory, DirectoryError};
use crate::{describe, ledger::Ledger};

/// An act that waits to be done. It stays in the ledger until its outcome is written down.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Job {
    /// What tells it from others; later ones have greater ids.
    pub id: i64,
    /// The session that it is for.
    pub session: String,
    /// To which account.
    pub upn: Upn,
    /// What is to be done.
    pub act: Act,
}

/// How a job ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// It was so before.
    Already,
    /// It is done.
    Done,
    /// It cannot be done, for this reason; it is not tried again.
    Failed(String),
}

impl Outcome {
    /// The word for it in the ledger, the audit log and the metrics.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Already => "already",
            Self::Done => "done",
            Self::Failed(_) => "failed",
        }
    }
}

/// Does jobs one after the other, in the order in which they are given: what a session gave is
/// never given after it was taken. What may pass (the directory is down, its password refused)
/// holds up all; what concerns one job (no such account) ends that job alone.
#[derive(Debug)]
pub struct Hook {
    directory: Directory,
    /// What is in the way, as it was logged last.
    trouble: Option<String>,
    /// How long to wait after the next failure.
    pause: Duration,
}

impl Hook {
    /// The hook of a directory.
    pub fn new(directory: Directory) -> Self {
        Self { directory, trouble: None, pause: FIRST_PAUSE }
    }

    /// Does what waits in the ledger, until it is aborted.
    pub async fn run(mut self, ledger: Ledger, clock: Arc<dyn Clock>) {
        loop {
            match ledger.next_directory_job().await {
                // Looked for anew after each failure: what its session's end has overtaken is not
                // done any more.
                Ok(Some(job)) => {
                    if let Some(outcome) = self.attempt(&job).await {
                        record(&ledger, job, outcome, &*clock).await;
                    }
                }
                Ok(None) => sleep(LOOK).await,
                Err(error) => {
                    tracing::error!(%error, "what is to be done in the directory cannot be read");
                    sleep(LOOK).await;
                }
            }
        }
    }

    /// Tries a job once; after a failure that may pass, waits, and gives no outcome.
    pub async fn attempt(&mut self, job: &Job) -> Option<Outcome> {
        let outcome = match self.directory.apply(&job.upn, &job.act).await {
            Ok(Applied::Already) => Outcome::Already,
            Ok(Applied::Changed) => Outcome::Done,
            Err(error) if error.may_pass() => {
                metrics::gauge!("chancery_directory_up").set(0);
                self.tell(&error);
                sleep(self.pause).await;
                self.pause = (2 * self.pause).min(LONGEST_PAUSE);
                return None;
            }
            Err(error) => Outcome::Failed(describe(&error)),
        };
        metrics::gauge!("chancery_directory_up").set(1);
        (self.trouble, self.pause) = (None, FIRST_PAUSE);
        Some(outcome)
    }

    /// Says once what is in the way.
    fn tell(&mut self, error: &DirectoryError) {
        // What was said at a refusal of the password is said without the answer from then on.
        let trouble = error.to_string();
        if self.trouble.as_ref() != Some(&trouble) {
            tracing::error!(error = describe(error), "the directory hook has to wait");
            self.trouble = Some(trouble);
        }
    }
}

/// Writes down what became of a job. It would be done again, which does no harm, if the process
/// ended before.
async fn record(ledger: &Ledger, job: Job, outcome: Outcome, clock: &dyn Clock) {
    metrics::counter!("chancery_directory_acts_total", "outcome" => outcome.word()).increment(1);
    if let Outcome::Failed(why) = &outcome {
        let Job { session, upn, .. } = &job;
        tracing::error!(session, %upn, why, "something cannot be done in the directory");
    }
    while let Err(error) =
        ledger.directory_job_done(job.clone(), outcome.clone(), clock.now()).await
    {
        tracing::error!(%error, "what was done in the directory cannot be recorded");
        sleep(LOOK).await;
    }
}

/// How often the ledger is asked for something to do.
const LOOK: Duration = Duration::from_millis(250);

/// How long the hook waits after a failure; twice as long after each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// How long it waits at most: so much later than necessary is a session's account disabled.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
