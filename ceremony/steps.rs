//! The kinds of steps, each in a file of its own: how a plan writes it, what people are told, what
//! must hold before it and what holds after it, how it is done, and which records are its own.
//!
//! A new kind is a file here, and a line in each of: [`Step`], its `Step::kind`, the entries of a
//! plan file, [`Intent`] and [`Outcome`].

pub mod back_up_key;
pub mod check_environment;
pub mod close;
pub mod destroy_key;
pub mod export;
pub mod generate_key;
pub mod hand_off;
pub mod human;
pub mod import_certificate;
pub mod import_request;
pub mod pin_rotate;
pub mod request_certificate;
pub mod restore_drill;
pub mod shares_verify;
pub mod sign_certificate;
pub mod sign_crl;
pub mod sign_off;
pub mod split_shares;
pub mod take_break;
pub mod token_init;
pub mod use_certificate;
pub mod use_key;

use pki::{
    token::pkcs11::{Session, TokenIdentity},
    x509::lint::Finding,
};

use crate::{
    dry_run::DryRun,
    failure::Failure,
    name::Name,
    plan::{Certificate, Plan, Step, file::PlanFile, lint::Model},
    progress::{Progress, ProgressError},
    run::Performance,
    script::Sheet,
    transcript::{Decision, Intent, Outcome},
};

/// What a step of one kind is, from the plan to the replay of the transcript. What a kind does not
/// say is the least: nothing to tell, nothing to make, and no record that is admissible.
pub(crate) trait Kind {
    /// What the step changes, as a sentence without its full stop.
    fn effect(&self) -> String;

    /// What a person should know before the step besides its effect.
    fn details(&self) -> Option<String> {
        None
    }

    /// What the printed script says of the step besides.
    fn sheet(&self) -> Sheet {
        Sheet::default()
    }

    /// Checks what must hold before the step, then assumes what holds after it.
    fn lint<'a>(&'a self, model: &mut Model<'a>);

    /// The certificate that is there after the step, if one is.
    fn certificate(&self) -> Option<&Certificate> {
        None
    }

    /// Whether the step closes the transcript.
    fn closes(&self) -> bool {
        false
    }

    /// Whether the token must be open before the step.
    fn needs_token(&self) -> bool {
        true
    }

    /// Whether nobody else can do it: it is not performed unattended.
    fn needs_people(&self) -> bool {
        false
    }

    /// Whether everybody goes, and nobody is logged in until they are back.
    fn is_break(&self) -> bool {
        false
    }

    /// Makes on throwaway keys what the step makes.
    fn dry_run(&self, dry: &mut DryRun<'_>) -> Result<(), Failure> {
        let _ = dry;
        Ok(())
    }

    /// Checks before the first step that the token has room for what the step makes, and has what
    /// it uses; a rehearsal's has only what is made in it.
    fn check_token(
        &self,
        plan: &Plan,
        rehearsed: bool,
        session: &mut Session,
    ) -> Result<(), Failure> {
        let _ = (plan, rehearsed, session);
        Ok(())
    }

    /// Does it: intent, act, check, outcome; or goes on where it was interrupted.
    fn perform(&self, performance: &mut Performance<'_>) -> Result<(), Failure>;

    /// Whether this is the intent of the step.
    fn intend(&self, intent: &Intent, progress: &Progress) -> Result<(), ProgressError> {
        let _ = intent;
        Err(progress.unexpected("the intent to do the planned step"))
    }

    /// Whether this may be done after an interruption between intent and outcome.
    fn decide(&self, decision: &Decision, progress: &Progress) -> bool {
        let _ = progress;
        *decision == Decision::Repeat
    }

    /// Whether this is the outcome of what was intended; takes up what was made.
    fn conclude(
        &self,
        intent: &Intent,
        outcome: &Outcome,
        progress: &mut Progress,
    ) -> Result<Concluded, ProgressError> {
        let _ = (intent, outcome);
        Err(progress.unexpected("the outcome of the planned step"))
    }

    /// What `resume` does about an interruption between intent and outcome, for `status` to say.
    fn after_interruption(&self) -> &'static str {
        "it looks into the token before it does more"
    }
}

/// What follows an outcome.
pub(crate) enum Concluded {
    /// The next step.
    Done,
    /// This token was made, and must be opened before the step is done.
    TokenMade(TokenIdentity),
    /// Another outcome of the same step.
    UnderWay,
}

/// A step as people write it: names that refer to tables of the plan file.
pub(crate) trait Entry {
    /// The step, with all that it needs.
    fn resolve(&self, file: &PlanFile) -> Result<Step, Finding>;

    /// What it makes of what the plan declares: the word for it, and its name.
    fn makes(&self) -> Option<(&'static str, &Name)> {
        None
    }
}
