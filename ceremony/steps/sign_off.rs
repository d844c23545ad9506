//! `sign-off`: everybody who is present signs what was recorded.

use std::{collections::BTreeSet, path::Path};

use pki::x509::lint::Finding;

use super::Kind;
use crate::{
    failure::Failure,
    people::Statement,
    plan::{Step, file::PlanFile, lint::Model},
    run::Performance,
    script::Sheet,
    transcript::Event,
};

/// The step. Its records are `signed-off`, and [`Progress`](crate::progress::Progress) takes them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SignOff;

/// The step of a plan file.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {}

impl super::Entry for Entry {
    fn resolve(&self, _: &PlanFile) -> Result<Step, Finding> {
        Ok(Step::SignOff)
    }
}

impl Kind for SignOff {
    fn effect(&self) -> String {
        "let everybody who is present sign what was recorded".to_owned()
    }

    fn sheet(&self) -> Sheet {
        Sheet {
            explanation: "Each person who is present names their SSH key, and signs the head of the \
                          transcript. Read the exceptions aloud first.",
            minutes: 10,
            confirmed: false,
            ..Sheet::default()
        }
    }

    fn lint<'a>(&'a self, model: &mut Model<'a>) {
        let people = !model.script.people.is_empty();
        model.require(people, "sign-off-needs-people", || {
            "the plan names nobody who could sign off".into()
        });
        model.signed_off = true;
    }

    /// Each signs all that was recorded, the signatures before theirs included.
    fn perform(&self, performance: &mut Performance<'_>) -> Result<(), Failure> {
        while let Some(name) = performance.progress.next_to_sign_off().cloned() {
            let plan = performance.progress.plan.hash();
            let statement = Statement::SignOff { plan, head: performance.journals.head() };
            let people = performance.progress.plan.script().people.clone();
            performance.console.add(&statement.to_string())?;
            let mut refused = None;
            let question = format!("{name}, the path of your SSH key");
            let signed = performance.console.ask(&question, |typed| {
                match people.sign(&name, statement, Path::new(typed)) {
                    Ok(signature) => Some(signature),
                    Err(error) => {
                        refused = Some(error);
                        None
                    }
                }
            });
            let signature = match (signed, refused) {
                (Ok(signature), _) => signature,
                (Err(_), Some(error)) => return Err(error.into()),
                (Err(error), None) => return Err(error),
            };
            performance.record_by(BTreeSet::from([name]), Event::SignedOff { signature })?;
        }
        Ok(())
    }
}
