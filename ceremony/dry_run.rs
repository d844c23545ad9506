//! The dry run: every step of a plan on throwaway software keys, before any token is touched.
//!
//! It finds what lints of the plan alone cannot: a to-be-signed text that breaks a rule of its
//! profile (BR 4.3.1.2 asks to lint what a throwaway key signed).

use pki::token::{KeyId, KeyStore as _, software::SoftwareToken};

use crate::{
    failure::Failure,
    made::Made,
    plan::{Certificate, Key, Plan},
    stand_in,
};

/// A plan under way on throwaway keys.
pub(crate) struct DryRun<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) token: SoftwareToken,
    pub(crate) made: Made,
}

impl DryRun<'_> {
    /// Makes a key pair.
    pub(crate) fn generate(&mut self, key: &Key, id: &KeyId) -> Result<(), Failure> {
        let generated = self.token.generate(key.algorithm, &key.label, id)?;
        self.made.add_key(key.name.clone(), generated.key);
        Ok(())
    }

    /// Makes what stands in for a certificate of another ceremony or another machine.
    pub(crate) fn stand_in(&mut self, certificate: &Certificate) -> Result<(), Failure> {
        let der = stand_in::certificate(&self.made, self.plan, certificate, &mut self.token)?;
        if stand_in::take(&mut self.made, self.plan, certificate, &der)? {
            Ok(())
        } else {
            Err(Failure::StandIn(certificate.name.clone()))
        }
    }
}

/// Carries out the plan on keys that are thrown away.
///
/// # Errors
///
/// A step would fail.
pub fn dry_run(plan: &Plan) -> Result<(), Failure> {
    let mut dry = DryRun { plan, token: SoftwareToken::default(), made: Made::new(true) };
    plan.steps().try_for_each(|(_, step)| step.kind().dry_run(&mut dry))
}
