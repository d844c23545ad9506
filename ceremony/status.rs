//! What is said of a ceremony, and to it, while no step is under way.

use std::{collections::BTreeSet, fmt, path::PathBuf};

use pki::clock::Clock;
use serde_json::{Value, json};

use crate::{
    failure::Failure,
    journal::Journals,
    name::Name,
    progress::{Ending, Progress},
    secrets::check_said,
    transcript::Event,
};

/// Where a ceremony stands, by its journals alone.
#[derive(Clone, Debug)]
pub struct Status {
    progress: Progress,
    records: u64,
    /// The last thing that was said before the program ended, if it was.
    stopped: Option<String>,
}

/// Adds an exception, or the end, to a ceremony that is not under way.
///
/// # Errors
///
/// The journals cannot be written or gone on with, or the ceremony has ended.
pub fn add(
    journals: &[PathBuf],
    who: BTreeSet<Name>,
    event: Event,
    clock: &dyn Clock,
) -> Result<(), Failure> {
    check_said(&event)?;
    let (mut journals, found) = Journals::reopen(journals, None)?;
    let mut progress = Progress::replay(&found.chain.records)?;
    let now = progress.moment(clock.now());
    let record = journals.compose(now, progress.place(&event), who, event);
    progress.push(&record)?;
    journals.append(&record)?;
    if progress.ending().is_some() {
        journals.close()?;
    }
    Ok(())
}

impl Status {
    /// Reads journals, and changes none of them.
    ///
    /// # Errors
    ///
    /// None is there, or they are not as they were written.
    pub fn read(journals: &[PathBuf]) -> Result<Self, Failure> {
        let chain = Journals::look(journals)?.chain;
        let stopped = match chain.records.last().map(|record| &record.event) {
            Some(Event::Aborted { reason } | Event::Stopped { reason }) => Some(reason.clone()),
            _ => None,
        };
        let progress = Progress::replay(&chain.records)?;
        Ok(Self { progress, records: chain.records.len() as u64, stopped })
    }

    /// The same for programs.
    pub fn to_json(&self) -> Value {
        let plan = &self.progress.plan;
        json!({
            "id": plan.script().id,
            "plan_hash": plan.hash(),
            "records": self.records,
            "steps": plan.script().steps.len(),
            "next_step": self.progress.step().map(|_| self.progress.number()),
            "in_doubt": self.progress.intended().is_some(),
            "ended": self.progress.ending().map(|ending| match ending {
                Ending::Aborted => "aborted",
                Ending::Closed => "closed",
            }),
            "said": self.stopped,
            "interruptions": self.progress.interruptions,
            "exceptions": self.progress.exceptions,
        })
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (progress, plan) = (&self.progress, &self.progress.plan);
        writeln!(f, "ceremony {}, plan {}", plan.script().id, plan.hash())?;
        writeln!(f, "{} records, {} interruptions", self.records, progress.interruptions)?;
        for (number, step) in plan.steps() {
            let state = match number.cmp(&progress.number()) {
                std::cmp::Ordering::Less => "done",
                std::cmp::Ordering::Equal if progress.intended().is_some() => "doubt",
                std::cmp::Ordering::Equal => "next",
                std::cmp::Ordering::Greater => "",
            };
            writeln!(f, "{state:>5} {number:>3}  {step}")?;
        }
        for text in &progress.exceptions {
            writeln!(f, "exception: {text}")?;
        }
        if let Some(said) = &self.stopped {
            writeln!(f, "it was stopped: {said}")?;
        }
        f.write_str(match (progress.ending(), progress.intended()) {
            (Some(Ending::Aborted), _) => "given up: nothing can follow",
            (Some(Ending::Closed), _) => {
                "all steps are done; if there is no hand-off, `chancery-ceremony resume` writes it"
            }
            (None, Some(_)) => {
                let step = progress.step().map(|step| step.kind().after_interruption());
                let what = step.unwrap_or_default();
                return write!(f, "go on with `chancery-ceremony resume`: {what}");
            }
            (None, None) => "go on with `chancery-ceremony resume`",
        })
    }
}
