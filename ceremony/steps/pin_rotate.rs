//! `pin-rotate`: a PIN of the token becomes the one that a verified set of shares gives.

use pki::{token::pkcs11::PinOwner, x509::lint::Finding};

use super::{Concluded, Kind};
use crate::{
    failure::Failure,
    name::Name,
    plan::{Step, file::PlanFile, lint::Model},
    progress::{Progress, ProgressError},
    run::{Performance, PinInForce},
    script::Sheet,
    shares::{Purpose, SetId, ShareSet, State},
    transcript::{Decision, Intent, Outcome},
};

/// The step.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct PinRotate {
    /// The plan's name of the set.
    pub set: Name,
}

/// Make the PIN of these shares the token's.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct Intended {
    /// The set.
    pub set: SetId,
    /// Whose PIN it is.
    pub owner: PinOwner,
}

/// The token took the PIN of these shares, and let its owner log in with it.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct Rotated {
    /// The set.
    pub set: SetId,
    /// Whose PIN it is.
    pub owner: PinOwner,
}

impl super::Entry for PinRotate {
    fn resolve(&self, _: &PlanFile) -> Result<Step, Finding> {
        Ok(Step::PinRotate(self.clone()))
    }
}

impl Kind for PinRotate {
    fn effect(&self) -> String {
        format!("make the PIN that {} gives the token's", self.set)
    }

    fn sheet(&self) -> Sheet {
        Sheet {
            explanation: "The token takes the PIN that the shares give, and lets its owner log in with it. \
                          From here on, the former PIN is of no use.",
            minutes: 2,
            ..Sheet::default()
        }
    }

    fn lint<'a>(&'a self, model: &mut Model<'a>) {
        let set = &self.set;
        let what = match model.shares.get_mut(set) {
            Some(shares) if shares.purpose == Purpose::WrappingKey => "is no PIN's",
            Some(shares) if !shares.verified => "was not read back by its custodians",
            Some(shares) if shares.in_force => "gives the token's PIN already",
            Some(shares) => {
                shares.in_force = true;
                return;
            }
            None => "was not split before",
        };
        model.find("shares-verified-first", format!("the PIN of {set} is to be set: {set} {what}"));
    }

    fn perform(&self, performance: &mut Performance<'_>) -> Result<(), Failure> {
        let set = self.verified_set(&performance.progress)?.clone();
        let owner = owner(&performance.progress, &set)?;
        let intended = Intended { set: set.terms.set, owner };
        let mut in_force = PinInForce::Former;
        if performance.progress.in_doubt().is_some() {
            in_force = performance.pin_in_force;
            performance.decide(match in_force {
                PinInForce::Former => Decision::PinIsFormer,
                PinInForce::New => Decision::PinIsNew,
            })?;
        } else {
            performance.intend(Intent::RotatePin(intended.clone()))?;
        }
        performance.change_pin(owner, &set, in_force)?;
        let Intended { set, owner } = intended;
        performance.conclude(Outcome::PinRotated(Rotated { set, owner }))
    }

    fn intend(&self, intent: &Intent, progress: &Progress) -> Result<(), ProgressError> {
        let set = self.verified_set(progress)?;
        let planned = Intended { set: set.terms.set, owner: owner(progress, set)? };
        progress.require(*intent == Intent::RotatePin(planned), "the intent to set the planned PIN")
    }

    fn decide(&self, decision: &Decision, _: &Progress) -> bool {
        matches!(decision, Decision::PinIsFormer | Decision::PinIsNew)
    }

    fn conclude(
        &self,
        intent: &Intent,
        outcome: &Outcome,
        progress: &mut Progress,
    ) -> Result<Concluded, ProgressError> {
        let (Intent::RotatePin(intended), Outcome::PinRotated(rotated)) = (intent, outcome) else {
            return Err(progress.unexpected("the PIN that was set"));
        };
        let same = intended.set == rotated.set && intended.owner == rotated.owner;
        progress.require(same, "the PIN that was to be set")?;
        progress.made.put_in_force(&self.set);
        Ok(Concluded::Done)
    }

    fn after_interruption(&self) -> &'static str {
        "it tries the new PIN once; if that is refused, and people say so, the former one"
    }
}

impl PinRotate {
    fn verified_set<'a>(&self, progress: &'a Progress) -> Result<&'a ShareSet, ProgressError> {
        let set = progress.made.set(&self.set).filter(|it| it.state == State::Verified);
        set.map(|it| &it.set).ok_or_else(|| progress.unexpected("shares that were read back"))
    }
}

fn owner(progress: &Progress, set: &ShareSet) -> Result<PinOwner, ProgressError> {
    match set.terms.purpose {
        Purpose::SoPin(_) => Ok(PinOwner::SecurityOfficer),
        Purpose::UserPin(_) => Ok(PinOwner::User),
        Purpose::WrappingKey => Err(progress.unexpected("shares of a PIN")),
    }
}
