//! `environment-check`: the machine is looked at once more, while the ceremony goes on: after something
//! was connected to it, or before the key is used.

use pki::x509::lint::Finding;

use super::{Concluded, Kind};
use crate::{
    environment::Environment,
    failure::Failure,
    plan::{Step, file::PlanFile, lint::Model},
    progress::{Progress, ProgressError},
    run::Performance,
    script::Sheet,
    transcript::{Decision, Intent, Outcome},
};

/// The step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CheckEnvironment;

/// The step of a plan file.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {}

/// Look at the machine.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct Intended {}

/// The machine as it was found: as the plan lets it pass.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(transparent)]
pub struct Checked(pub Environment);

impl super::Entry for Entry {
    fn resolve(&self, _: &PlanFile) -> Result<Step, Finding> {
        Ok(Step::CheckEnvironment)
    }
}

impl Kind for CheckEnvironment {
    fn effect(&self) -> String {
        "look at the machine once more".to_owned()
    }

    fn sheet(&self) -> Sheet {
        Sheet {
            explanation: "As before the first step: network, radio, swap, variables, time zone, room. What \
                          the plan refuses stops the ceremony; whatever else is found is recorded.",
            minutes: 3,
            ..Sheet::default()
        }
    }

    fn lint<'a>(&'a self, _: &mut Model<'a>) {}

    fn needs_token(&self) -> bool {
        false
    }

    fn perform(&self, performance: &mut Performance<'_>) -> Result<(), Failure> {
        let found = performance.environment()?;
        performance.console.add(&found.to_string())?;
        if performance.progress.in_doubt().is_some() {
            performance.decide(Decision::Repeat)?;
        } else {
            performance.intend(Intent::CheckEnvironment(Intended {}))?;
        }
        let refused = performance.progress.refused(&found);
        if !refused.is_empty() {
            return Err(Failure::Environment(refused));
        }
        performance.conclude(Outcome::EnvironmentChecked(Checked(found)))
    }

    fn intend(&self, intent: &Intent, progress: &Progress) -> Result<(), ProgressError> {
        let holds = *intent == Intent::CheckEnvironment(Intended {});
        progress.require(holds, "the intent to look at the machine")
    }

    fn conclude(
        &self,
        _: &Intent,
        outcome: &Outcome,
        progress: &mut Progress,
    ) -> Result<Concluded, ProgressError> {
        let Outcome::EnvironmentChecked(Checked(found)) = outcome else {
            return Err(progress.unexpected("the machine as it was found"));
        };
        let passes = progress.refused(found).is_empty();
        progress.require(passes, "a machine as the plan demands it")?;
        Ok(Concluded::Done)
    }

    fn after_interruption(&self) -> &'static str {
        "it looks at the machine again"
    }
}
