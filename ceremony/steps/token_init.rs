//! `token-init`: an uninitialized token gets its label, its SO PIN and its user PIN.

use pki::{
    token::{TokenError, pkcs11::TokenIdentity},
    x509::lint::Finding,
};

use super::{Concluded, Kind};
use crate::{
    failure::Failure,
    plan::{Step, file::PlanFile, lint::Model},
    progress::{Progress, ProgressError},
    run::{Performance, labelled},
    script::Sheet,
    transcript::{Decision, Intent, Outcome},
};

/// The step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TokenInit;

/// The step of a plan file.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {}

/// Initialize the token.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct Intended {
    /// Its label to be.
    pub label: String,
}

impl super::Entry for Entry {
    fn resolve(&self, _: &PlanFile) -> Result<Step, Finding> {
        Ok(Step::TokenInit)
    }
}

impl Kind for TokenInit {
    fn effect(&self) -> String {
        "initialize the token: label, SO PIN, user PIN".to_owned()
    }

    fn sheet(&self) -> Sheet {
        Sheet {
            explanation: "Only a token that has no label yet is taken. Let the module see only one such token.",
            blanks: vec!["serial number of the token".to_owned()],
            ..Sheet::default()
        }
    }

    fn lint<'a>(&'a self, model: &mut Model<'a>) {
        model.require(!model.started, "token-init-first", || {
            "the token is initialized after another step; all keys in it would die".into()
        });
        model.token_is_new = true;
    }

    fn perform(&self, performance: &mut Performance<'_>) -> Result<(), Failure> {
        let site = &performance.place.site;
        let label = site.token.label.clone();
        let (so_pin, pin) = site.first_pins()?;
        let decision = if performance.progress.in_doubt().is_none() {
            performance.intend(Intent::InitializeToken(Intended { label: label.clone() }))?;
            Decision::Repeat
        } else {
            let decision = match performance.module.identify(&labelled(&label)) {
                Ok(_) => Decision::FinishToken,
                Err(TokenError::NoToken(_)) => Decision::Repeat,
                Err(error) => return Err(error.into()),
            };
            performance.decide(decision)?
        };
        let module = &performance.module;
        let made = match decision {
            Decision::FinishToken => {
                module.finish_initialization(&labelled(&label), &so_pin, &pin)?
            }
            _ => module.initialize(&label, &so_pin, &pin)?,
        };
        performance.conclude(Outcome::TokenInitialized(made))?;
        performance.open_token()
    }

    fn intend(&self, intent: &Intent, progress: &Progress) -> Result<(), ProgressError> {
        let holds = matches!(intent, Intent::InitializeToken(_));
        progress.require(holds, "the intent to initialize the token")
    }

    fn decide(&self, decision: &Decision, _: &Progress) -> bool {
        matches!(decision, Decision::FinishToken | Decision::Repeat)
    }

    fn conclude(
        &self,
        intent: &Intent,
        outcome: &Outcome,
        progress: &mut Progress,
    ) -> Result<Concluded, ProgressError> {
        let (Intent::InitializeToken(Intended { label }), Outcome::TokenInitialized(made)) =
            (intent, outcome)
        else {
            return Err(progress.unexpected("the initialized token"));
        };
        progress.require(made.label == *label, "the token that was initialized")?;
        Ok(Concluded::TokenMade(TokenIdentity::clone(made)))
    }
}
