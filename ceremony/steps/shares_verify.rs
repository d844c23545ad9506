//! `shares-verify`: every custodian types back what they got, and every choice of enough shares is
//! combined.

use pki::x509::lint::Finding;

use super::{
    Concluded, Kind,
    split_shares::{Source, Split},
};
use crate::{
    failure::Failure,
    name::Name,
    plan::{Step, file::PlanFile, lint::Model},
    progress::{Progress, ProgressError},
    run::Performance,
    script::Sheet,
    shares::{HandedOut, SetId, State},
    transcript::{Decision, Intent, Outcome},
};

/// The step.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct SharesVerify {
    /// The plan's name of the set.
    pub set: Name,
}

/// Let every share be read back.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct Intended {
    /// The plan's name of the set.
    pub name: Name,
}

/// Every share was read back by its holder, and every choice of enough of them gave the secret.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct Verified {
    /// The set.
    pub set: SetId,
    /// How many shares were read back.
    pub shares: u8,
    /// How many choices of them were combined.
    pub combined: u32,
}

impl super::Entry for SharesVerify {
    fn resolve(&self, _: &PlanFile) -> Result<Step, Finding> {
        Ok(Step::SharesVerify(self.clone()))
    }
}

impl Kind for SharesVerify {
    fn effect(&self) -> String {
        format!("let every custodian of {} read their share back", self.set)
    }

    fn sheet(&self) -> Sheet {
        Sheet {
            explanation: "Each custodian types the five lines of their page; they are not shown. Every \
                          choice of enough shares is combined and compared. Afterwards the pages' files are \
                          overwritten and removed.",
            minutes: 15,
            ..Sheet::default()
        }
    }

    fn lint<'a>(&'a self, model: &mut Model<'a>) {
        let set = &self.set;
        match model.shares.get_mut(set) {
            Some(shares) if !shares.verified => shares.verified = true,
            Some(_) => model.find("verify-what-was-split", format!("{set} is verified twice")),
            None => model.find("verify-what-was-split", format!("{set} was not split before")),
        }
    }

    fn perform(&self, performance: &mut Performance<'_>) -> Result<(), Failure> {
        if performance.progress.in_doubt().is_some() {
            performance.decide(Decision::SplitAnew)?;
        } else {
            performance.intend(Intent::VerifyShares(Intended { name: self.set.clone() }))?;
        }
        // What people had in their hands while nobody watched is no secret any more.
        if self.handed_out(&performance.progress)?.state == State::Doubtful {
            performance.console.add("the ceremony was interrupted since the shares were given")?;
            performance.console.add("they are void: destroy them, whoever has them")?;
            let split = self.split(&performance.progress)?.clone();
            split.hand_out(performance)?;
        }
        let set = self.handed_out(&performance.progress)?.set.clone();
        let shares = performance.custody().read_back(&set)?;
        let combined = set.check_all(&shares)?;
        performance.keep(set.combine(&shares)?, set.terms.set);
        performance.custody().take_away(&set)?;
        let said = format!("{combined} choices of {} shares gave the secret", set.terms.threshold);
        performance.console.add(&said)?;
        let verified = Verified { set: set.terms.set, shares: set.terms.count, combined };
        performance.conclude(Outcome::SharesVerified(verified))
    }

    fn intend(&self, intent: &Intent, progress: &Progress) -> Result<(), ProgressError> {
        let planned = Intent::VerifyShares(Intended { name: self.set.clone() });
        progress.require(*intent == planned, "the intent to verify the planned shares")
    }

    fn decide(&self, decision: &Decision, _: &Progress) -> bool {
        *decision == Decision::SplitAnew
    }

    fn conclude(
        &self,
        _: &Intent,
        outcome: &Outcome,
        progress: &mut Progress,
    ) -> Result<Concluded, ProgressError> {
        let HandedOut { set, state } = self.handed_out(progress)?.clone();
        if state == State::Doubtful {
            self.split(progress)?.clone().given(outcome, progress)?;
            return Ok(Concluded::UnderWay);
        }
        let Outcome::SharesVerified(verified) = outcome else {
            return Err(progress.unexpected("the shares that were read back"));
        };
        let terms = set.terms;
        let all = verified.set == terms.set
            && verified.shares == terms.count
            && verified.combined == choices(terms.count, terms.threshold);
        progress.require(all, "every share of the set, and every choice of them")?;
        progress.made.verified(&self.set);
        // The secret is the token's PIN already: from now on, these shares give it.
        if self.split(progress)?.secret == Source::Shares {
            progress.made.put_in_force(&self.set);
        }
        Ok(Concluded::Done)
    }

    fn after_interruption(&self) -> &'static str {
        "it splits anew; the shares that were given out are void, and must be destroyed"
    }
}

impl SharesVerify {
    fn handed_out<'a>(&self, progress: &'a Progress) -> Result<&'a HandedOut, ProgressError> {
        progress.made.set(&self.set).ok_or_else(|| progress.unexpected("shares that were given"))
    }

    /// The step that handed the shares out.
    fn split<'a>(&self, progress: &'a Progress) -> Result<&'a Split, ProgressError> {
        let mut steps = progress.plan.script().steps.iter();
        let split = steps.find_map(|step| match step {
            Step::SplitShares(split) if split.set == self.set => Some(split),
            _ => None,
        });
        split.ok_or_else(|| progress.unexpected("shares that were given"))
    }
}

/// How many choices of `threshold` out of `count` there are.
fn choices(count: u8, threshold: u8) -> u32 {
    (0..u32::from(threshold)).fold(1, |product, at| product * (u32::from(count) - at) / (at + 1))
}

#[cfg(test)]
mod tests {
    use super::choices;

    #[test]
    fn choices_are_counted() {
        for (count, threshold, wanted) in [(3, 2, 3), (5, 3, 10), (15, 7, 6435), (4, 4, 1)] {
            assert_eq!(choices(count, threshold), wanted);
        }
    }
}
