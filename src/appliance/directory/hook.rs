use std::time::Duration;

use pki::names::Upn;
use tokio::time::sleep;

use super::{Act, Applied, Directory, DirectoryError};
use crate::describe;

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

/// Does jobs one after the other, in the order in which they are given: what a session gave is
/// never given after it was taken. What may pass (the directory is down, its password refused)
/// holds up all; what concerns one job (no such account) ends that job alone.
#[derive(Debug)]
pub struct Hook {
    directory: Directory,
    /// What is in the way, as it was logged last.
    trouble: Option<String>,
}

impl Hook {
    /// The hook of a directory.
    pub fn new(directory: Directory) -> Self {
        Self { directory, trouble: None }
    }

    /// Tries until it is done or cannot be done.
    pub async fn carry_out(&mut self, job: &Job) -> Outcome {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.directory.apply(&job.upn, &job.act).await {
                Ok(applied) => {
                    self.trouble = None;
                    return match applied {
                        Applied::Already => Outcome::Already,
                        Applied::Changed => Outcome::Done,
                    };
                }
                Err(error) if error.may_pass() => self.tell(&error),
                Err(error) => return Outcome::Failed(describe(&error)),
            }
            sleep(pause).await;
            pause = (2 * pause).min(LONGEST_PAUSE);
        }
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

/// How long the hook waits after a failure; twice as long after each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// How long it waits at most: so much later than necessary is a session's account disabled.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
