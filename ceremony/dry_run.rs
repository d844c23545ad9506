//! The dry run: every step of a plan on throwaway software keys, before any token is touched.
//!
//! It finds what lints of the plan alone cannot: a to-be-signed text that breaks a rule of its
//! profile (BR 4.3.1.2 asks to lint what a throwaway key signed).

use pki::token::software::SoftwareToken;

use crate::{failure::Failure, made::Made, plan::Plan};

/// A plan under way on throwaway keys.
pub(crate) struct DryRun<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) token: SoftwareToken,
    pub(crate) made: Made,
}

/// Carries out the plan on keys that are thrown away.
///
/// # Errors
///
/// A step would fail.
pub fn dry_run(plan: &Plan) -> Result<(), Failure> {
    let mut dry = DryRun { plan, token: SoftwareToken::default(), made: Made::default() };
    plan.steps().try_for_each(|(_, step)| step.kind().dry_run(&mut dry))
}
