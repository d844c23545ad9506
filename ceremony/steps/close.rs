//! `close`: the end of a ceremony that hands nothing off to the appliance. The transcript is closed.

use pki::x509::lint::Finding;

use super::Kind;
use crate::{
    failure::Failure,
    plan::{Step, file::PlanFile, lint::Model},
    run::Performance,
    script::Sheet,
};

/// The step. Its record is `closed`, and [`Progress`](crate::progress::Progress) takes it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Close;

/// The step of a plan file.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {}

impl super::Entry for Entry {
    fn resolve(&self, _: &PlanFile) -> Result<Step, Finding> {
        Ok(Step::Close)
    }
}

impl Kind for Close {
    fn effect(&self) -> String {
        "close the transcript".to_owned()
    }

    fn sheet(&self) -> Sheet {
        Sheet {
            explanation: "A fresh session finds every key again. The transcript is closed; there is \
                          nothing that the appliance reads.",
            minutes: 3,
            confirmed: false,
            ..Sheet::default()
        }
    }

    fn closes(&self) -> bool {
        true
    }

    fn lint<'a>(&'a self, model: &mut Model<'a>) {
        model.close();
        let made = model.keys.keys().any(|name| !model.used.contains(name));
        let idle = !made && model.script.ssh.is_empty();
        model.require(idle, "hand-off-of-what-is-made", || {
            "keys are made and the plan ends without a hand-off: the appliance would not know them"
                .into()
        });
    }

    fn perform(&self, performance: &mut Performance<'_>) -> Result<(), Failure> {
        performance.close()
    }
}
