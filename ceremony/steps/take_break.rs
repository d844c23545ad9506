//! `break`: a pause. Nobody is logged in while it lasts, and the machine may be switched off. Afterwards
//! everything is as at the beginning: the machine is looked at, the roll is called, the clocks are
//! compared, and the token is opened again for the next step.

use std::collections::BTreeSet;

use pki::x509::lint::Finding;

use super::{Concluded, Kind};
use crate::{
    failure::Failure,
    name::Name,
    pattern::is_readable,
    plan::{Step, file::PlanFile, lint::Model},
    progress::{Progress, ProgressError},
    run::Performance,
    script::Sheet,
    secrets::is_secret_shaped,
    transcript::{Attendance, Intent, Outcome},
};

/// The step.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct TakeBreak {
    /// What the break is for.
    pub reason: String,
}

/// Everybody goes.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct Intended {
    /// What for.
    pub reason: String,
}

/// The break is over.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct Over {
    /// How many whole seconds passed from the beginning of the break until the machine was looked at.
    pub seconds: u64,
    /// Who was there before it.
    pub left: BTreeSet<Name>,
    /// Who is there after it.
    pub back: BTreeSet<Name>,
}

impl super::Entry for TakeBreak {
    fn resolve(&self, _: &PlanFile) -> Result<Step, Finding> {
        let reason = self.reason.split_whitespace().collect::<Vec<_>>().join(" ");
        Ok(Step::Break(Self { reason }))
    }
}

impl Kind for TakeBreak {
    fn effect(&self) -> String {
        format!("take a break, with nobody logged in: {}", self.reason)
    }

    fn sheet(&self) -> Sheet {
        Sheet {
            explanation: "The program logs out of the token, and shows where the ceremony stands. The machine \
                          may be switched off; `chancery-ceremony resume` goes on then. Afterwards the roll is \
                          called and the clocks are compared as at the beginning.",
            blanks: vec![
                "began, UTC".to_owned(),
                "seals of room, machine and token".to_owned(),
                "seals unbroken, over, UTC".to_owned(),
            ],
            minutes: 30,
            ..Sheet::default()
        }
    }

    fn lint<'a>(&'a self, model: &mut Model<'a>) {
        let said = is_readable(&self.reason) && !is_secret_shaped(&self.reason);
        model.require(said, "break-says-why", || {
            "a break says in one to 240 letters what it is for, and no secret".into()
        });
        let between = model.done > 0 && !model.on_break;
        model.require(between, "break-between-steps", || {
            format!("nothing is done before the break, or it is the second in a row: {self}")
        });
    }

    fn needs_token(&self) -> bool {
        false
    }

    fn needs_people(&self) -> bool {
        true
    }

    fn is_break(&self) -> bool {
        true
    }

    fn perform(&self, performance: &mut Performance<'_>) -> Result<(), Failure> {
        if performance.progress.pause().is_none() {
            performance.intend(Intent::TakeBreak(self.intended()))?;
            performance.leave()?;
            if performance.progress.opened.attendance == Attendance::Attended {
                self.wait(performance)?;
            }
        }
        performance.get_ready()?;
        let over = self.over(&performance.progress)?;
        performance.console.add(&over.to_string())?;
        performance.conclude(Outcome::BreakOver(over))
    }

    fn intend(&self, intent: &Intent, progress: &Progress) -> Result<(), ProgressError> {
        let holds = *intent == Intent::TakeBreak(self.intended());
        progress.require(holds, "the intent to take the planned break")
    }

    fn conclude(
        &self,
        _: &Intent,
        outcome: &Outcome,
        progress: &mut Progress,
    ) -> Result<Concluded, ProgressError> {
        let over = Outcome::BreakOver(self.over(progress)?);
        progress.require(*outcome == over, "the end of the break, as the records before it say")?;
        Ok(Concluded::Done)
    }

    fn after_interruption(&self) -> &'static str {
        "the break is over then: the roll is called, and the clocks are compared"
    }
}

impl TakeBreak {
    fn intended(&self) -> Intended {
        Intended { reason: self.reason.clone() }
    }

    /// The end of the break, as the records say.
    fn over(&self, progress: &Progress) -> Result<Over, ProgressError> {
        let missing = || progress.unexpected("a break, and the machine looked at after it");
        let pause = progress.pause().ok_or_else(missing)?;
        let seconds = pause.seconds().ok_or_else(missing)?;
        Ok(Over { seconds, left: pause.left.clone(), back: progress.present().clone() })
    }

    /// Until somebody says that all are back, or that the machine goes off.
    fn wait(&self, performance: &mut Performance<'_>) -> Result<(), Failure> {
        let question = "when all are back, type: continue; to switch the machine off, type: off";
        let off = performance.console.ask(question, |typed| match typed {
            "continue" => Some(false),
            "off" => Some(true),
            _ => None,
        })?;
        if off { Err(Failure::OnBreak(self.reason.clone())) } else { Ok(()) }
    }
}

impl std::fmt::Display for TakeBreak {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.reason)
    }
}

/// In words, one line each.
impl std::fmt::Display for Over {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (minutes, seconds) = (self.seconds / 60, self.seconds % 60);
        write!(f, "the break was {minutes} min {seconds:02} s long")?;
        for (what, who) in [("before it", &self.left), ("after it", &self.back)] {
            if !who.is_empty() {
                let names: Vec<&str> = who.iter().map(Name::as_str).collect();
                write!(f, "\nthere {what}: {}", names.join(", "))?;
            }
        }
        Ok(())
    }
}
