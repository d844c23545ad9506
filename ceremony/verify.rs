//! Verification of a transcript, without token and network.
//!
//! The chain says that the file is the one that was written. The replay says that it is a ceremony:
//! the plan in it passes the lints, every step has its intent and its outcome in the plan's order,
//! every to-be-signed text is the one that the plan gives, every signature verifies, and whatever
//! was interrupted was decided on before it went on; and that as many people as the plan wants
//! approved it, were present, confirmed each step, and signed the whole.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use thiserror::Error;

use crate::{
    digest::Digest,
    handoff::{Bundle, HandoffFailure},
    name::Name,
    plan::Plan,
    progress::{Ending, Progress, ProgressError},
    transcript::{
        Event, Record,
        chain::{Chain, ChainError},
    },
    words::{are_of, spoken},
};

/// A transcript in which nothing is wrong.
#[derive(Clone, Debug)]
pub struct Verified {
    /// What was planned, made, and happened besides.
    pub progress: Progress,
    /// The head of the chain.
    pub head: Digest,
    /// How many records there are.
    pub records: u64,
    /// The records themselves.
    pub transcript: Vec<Record>,
}

impl Verified {
    /// Reads and verifies a transcript.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or something in it is wrong; the first wrong line is named.
    pub fn read(path: &Path) -> Result<Self, VerifyError> {
        let content =
            fs::read(path).map_err(|source| VerifyError::Read { path: path.to_owned(), source })?;
        Self::from_bytes(&content)
    }

    /// Verifies the content of a transcript.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read), but for reading.
    pub fn from_bytes(content: &[u8]) -> Result<Self, VerifyError> {
        let chain = Chain::read(content)?;
        if chain.whole < content.len() {
            let line = content[..chain.whole].iter().filter(|byte| **byte == b'\n').count() + 1;
            return Err(VerifyError::Torn { line });
        }
        let progress = Progress::replay(&chain.records)?;
        if !chain.ended || progress.ending() != Some(Ending::Closed) {
            return Err(unfinished(&chain.records));
        }
        let records = chain.records.len() as u64;
        Ok(Self { progress, head: chain.head, records, transcript: chain.records })
    }

    /// Checks that it is the transcript of this plan.
    ///
    /// # Errors
    ///
    /// It is another plan's.
    pub fn check_plan(&self, plan: &Plan) -> Result<(), VerifyError> {
        let (found, wanted) = (self.progress.plan.hash(), plan.hash());
        if found == wanted { Ok(()) } else { Err(VerifyError::OtherPlan { found, wanted }) }
    }

    /// Checks that this rehearsal is the one that came before the ceremony.
    ///
    /// # Errors
    ///
    /// It is another.
    pub fn check_rehearsal(&self, rehearsal: &Self) -> Result<(), VerifyError> {
        if self.progress.opened.rehearsal == Some(rehearsal.head) {
            Ok(())
        } else {
            Err(VerifyError::OtherRehearsal { found: rehearsal.head })
        }
    }

    /// Checks the head against the one that was written down.
    ///
    /// # Errors
    ///
    /// It is another: the file was written anew, or the wrong one was written down.
    pub fn check_head(&self, wanted: Digest) -> Result<(), VerifyError> {
        if self.head == wanted {
            Ok(())
        } else {
            Err(VerifyError::OtherHead { found: self.head, wanted })
        }
    }

    /// Checks the words of the head that were written down: ten, or all.
    ///
    /// # Errors
    ///
    /// They are others.
    pub fn check_words(&self, wanted: &str) -> Result<(), VerifyError> {
        if are_of(self.head, wanted) {
            Ok(())
        } else {
            Err(VerifyError::OtherWords { found: spoken(self.head), wanted: wanted.to_owned() })
        }
    }

    /// Checks the words of the plan that were approved: ten, or all.
    ///
    /// # Errors
    ///
    /// They are another plan's.
    pub fn check_plan_words(&self, wanted: &str) -> Result<(), VerifyError> {
        let plan = self.progress.plan.hash();
        if are_of(plan, wanted) {
            Ok(())
        } else {
            Err(VerifyError::OtherPlanWords { found: spoken(plan), wanted: wanted.to_owned() })
        }
    }

    /// The hand-off that this transcript gives.
    ///
    /// # Errors
    ///
    /// Something that the plan makes was not made.
    pub fn bundle(&self) -> Result<Bundle, HandoffFailure> {
        Bundle::new(&self.progress.plan, &self.progress.made, self.head)
    }

    /// Checks that a directory is the hand-off of this transcript, byte for byte.
    ///
    /// # Errors
    ///
    /// It cannot be read, or differs.
    pub fn check_handoff(&self, directory: &Path) -> Result<(), VerifyError> {
        Ok(self.bundle()?.check(directory)?)
    }
}

/// A ceremony whose records do not lead to its end.
fn unfinished(records: &[Record]) -> VerifyError {
    let reason = match records.last().map(|record| &record.event) {
        Some(Event::Aborted { reason }) => format!("it was given up: {reason}"),
        Some(Event::Stopped { reason }) => format!("it was stopped: {reason}"),
        _ => "it was interrupted".to_owned(),
    };
    VerifyError::Unfinished { records: records.len() as u64, reason }
}

/// A transcript or a hand-off is not what it should be.
#[derive(Debug, Error)]
pub enum VerifyError {
    /// The file is not the one that was written.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// There are keys to compare with, and nobody whose they could be.
    #[error("nobody did anything in this ceremony by name: there is nobody to vouch for")]
    NobodyToTrust,
    /// The hand-off is not the transcript's.
    #[error(transparent)]
    Handoff(#[from] HandoffFailure),
    /// The head is not the one that was written down.
    #[error("the transcript's head is {found}, not {wanted}")]
    OtherHead {
        /// The transcript's.
        found: Digest,
        /// The one that it should be.
        wanted: Digest,
    },
    /// The words are another plan's.
    #[error("the words of the transcript's plan are {found:?}, not {wanted:?}")]
    OtherPlanWords {
        /// The transcript's.
        found: String,
        /// The ones that they should be.
        wanted: String,
    },
    /// The transcript is of another plan.
    #[error("the transcript's plan has the hash {found}, not {wanted}")]
    OtherPlan {
        /// The transcript's.
        found: Digest,
        /// The one that it should be.
        wanted: Digest,
    },
    /// The rehearsal is not the one that the transcript names.
    #[error("the transcript does not name the rehearsal with the head {found}")]
    OtherRehearsal {
        /// The head of the rehearsal.
        found: Digest,
    },
    /// The words are not those that were written down.
    #[error("the words of the transcript's head are {found:?}, not {wanted:?}")]
    OtherWords {
        /// The transcript's.
        found: String,
        /// The ones that they should be.
        wanted: String,
    },
    /// The records are not those of a ceremony.
    #[error(transparent)]
    Progress(#[from] ProgressError),
    /// The file cannot be read.
    #[error("cannot read the transcript {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The last line is not whole.
    #[error("line {line} is not whole: the ceremony was interrupted while it was written")]
    Torn {
        /// Which line, from 1.
        line: usize,
    },
    /// Somebody acted with a key of which nobody says that it is theirs.
    #[error("the key of {0} in the plan is not one of those that are trusted")]
    Untrusted(Name),
    /// The ceremony did not come to its end.
    #[error("the ceremony did not come to its end, after {records} whole records: {reason}")]
    Unfinished {
        /// How many records there are.
        records: u64,
        /// Why.
        reason: String,
    },
}
