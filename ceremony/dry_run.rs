//! The dry run: every step of a plan on throwaway software keys, before any token is touched.
//!
//! It finds what lints of the plan alone cannot: a to-be-signed text that breaks a rule of its
//! profile (BR 4.3.1.2 asks to lint what a throwaway key signed).

use pki::{
    serial::X509Serial,
    token::{Input, KeyStore as _, Token as _, software::SoftwareToken},
};

use crate::{
    failure::Failure,
    made::Made,
    plan::{Plan, Step},
};

/// Carries out the plan on keys that are thrown away.
///
/// # Errors
///
/// A step would fail.
pub fn dry_run(plan: &Plan) -> Result<(), Failure> {
    let mut token = SoftwareToken::default();
    let mut made = Made::default();
    for (_, step) in plan.steps() {
        match step {
            Step::GenerateKey(key) => {
                let generated =
                    token.generate(key.algorithm, &key.label, &plan.key_id(&key.name))?;
                made.add_key(key.name.clone(), generated.key);
            }
            Step::SignCertificate(certificate) => {
                let signer = plan.signer(certificate);
                let prepared =
                    made.prepare(certificate, signer, X509Serial::from_random([0; 16]))?;
                let signature = token.sign(
                    prepared.key().key(),
                    prepared.scheme(),
                    Input::Message(prepared.bytes()),
                )?;
                made.add_certificate(certificate, prepared.seal(signature)?.bytes().to_vec())?;
            }
            Step::HandOff | Step::SignOff | Step::TokenInit => {}
        }
    }
    Ok(())
}
