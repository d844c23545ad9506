//! `export`: the last step of a ceremony on a machine of its own, whose keys no appliance uses: an
//! offline root's. Certificates, revocation lists and requests are written for others.

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
pub(crate) struct Export;

/// The step of a plan file.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {}

impl super::Entry for Entry {
    fn resolve(&self, _: &PlanFile) -> Result<Step, Finding> {
        Ok(Step::Export)
    }
}

impl Kind for Export {
    fn effect(&self) -> String {
        "close the transcript and write certificates, lists and requests for others".to_owned()
    }

    fn closes(&self) -> bool {
        true
    }

    fn sheet(&self) -> Sheet {
        Sheet {
            explanation: "A fresh session finds every key again. The transcript is closed, and what \
                          others need is written from it.",
            minutes: 3,
            confirmed: false,
            ..Sheet::default()
        }
    }

    fn lint<'a>(&'a self, model: &mut Model<'a>) {
        model.close();
        let signed = !model.crls.is_empty()
            || !model.requests.is_empty()
            || model.certificates.keys().any(|name| !model.existing.contains_key(*name));
        model.require(signed, "export-of-something", || {
            "nothing was signed that could be written for others".into()
        });
        let ssh = model.script.ssh.is_empty();
        model.require(ssh, "ssh-is-handed-off", || {
            "an SSH CA is used by an appliance: end the plan with a hand-off".into()
        });
    }

    fn perform(&self, performance: &mut Performance<'_>) -> Result<(), Failure> {
        performance.close()
    }
}
