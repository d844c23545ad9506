//! `pin-split` and `share-rotate`: a secret is split among custodians. What they get is read back by
//! `shares-verify`, and a PIN is the token's from `pin-rotate` on.

use std::collections::BTreeSet;

use pki::x509::lint::Finding;

use super::{Concluded, Kind};
use crate::{
    custody::{Gathered, Use},
    failure::Failure,
    name::Name,
    plan::{
        Step,
        file::PlanFile,
        lint::{Model, ShareModel},
    },
    progress::{Progress, ProgressError},
    run::Performance,
    script::Sheet,
    shares::{
        Purpose, ShareSet, Whole,
        entropy::Entropy,
        page::Occasion,
        pin::{Alphabet, PinForm},
    },
    transcript::{Decision, Intent, Outcome},
    words::spoken,
};

/// A set of shares to be handed out.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct Split {
    /// What the plan calls the set.
    pub set: Name,
    /// What the secret is for.
    pub purpose: Purpose,
    /// How many shares give it.
    pub threshold: u8,
    /// Who gets one.
    pub holders: Vec<Name>,
    /// Where the secret comes from.
    pub secret: Source,
}

/// Where a secret comes from that is split.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// It is made.
    New,
    /// The custodians of an earlier set give it: the same secret gets other shares.
    Shares,
}

/// The step of a plan file.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    set: Name,
    who: Use,
    threshold: u8,
    holders: Vec<Name>,
    alphabet: Option<Alphabet>,
    length: Option<u8>,
}

/// `share-rotate` in a plan file: the same fields.
#[derive(serde::Deserialize)]
#[serde(transparent)]
pub(crate) struct RotateEntry(Entry);

/// Split a secret among custodians.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct Intended {
    /// The plan's name of the set.
    pub name: Name,
}

/// The shares were given to their holders. Those of a set of the same name that was given out before
/// are void.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct Given {
    /// The plan's name of the set.
    pub name: Name,
    /// All that may be known of it.
    pub set: ShareSet,
}

impl super::Entry for Entry {
    fn resolve(&self, _: &PlanFile) -> Result<Step, Finding> {
        self.split(Source::New)
    }
}

impl super::Entry for RotateEntry {
    fn resolve(&self, _: &PlanFile) -> Result<Step, Finding> {
        self.0.split(Source::Shares)
    }
}

impl Entry {
    fn split(&self, secret: Source) -> Result<Step, Finding> {
        let form = PinForm {
            alphabet: self.alphabet.unwrap_or(Alphabet::LettersAndDigits),
            length: self.length.unwrap_or(24),
        };
        let purpose = match self.who {
            Use::So => Purpose::SoPin(form),
            Use::User => Purpose::UserPin(form),
            Use::WrappingKey if self.alphabet.is_some() || self.length.is_some() => {
                return Err(Finding {
                    rule: "share-numbers",
                    what: format!(
                        "{} is of a key, which has neither alphabet nor length",
                        self.set
                    ),
                });
            }
            Use::WrappingKey => Purpose::WrappingKey,
        };
        let (set, threshold, holders) = (self.set.clone(), self.threshold, self.holders.clone());
        Ok(Step::SplitShares(Split { set, purpose, threshold, holders, secret }))
    }
}

impl Kind for Split {
    fn effect(&self) -> String {
        let (set, purpose, threshold, count) =
            (&self.set, self.purpose, self.threshold, self.holders.len());
        match self.secret {
            Source::New => {
                format!("make {purpose} anew and split it as {set}: {threshold} of {count} give it")
            }
            Source::Shares => {
                format!("split {purpose} once more, as {set}: {threshold} of {count} give it")
            }
        }
    }

    fn details(&self) -> Option<String> {
        let holders: Vec<&str> = self.holders.iter().map(Name::as_str).collect();
        Some(format!("a share each for {}", holders.join(", ")))
    }

    fn sheet(&self) -> Sheet {
        let (holders, pages) = (&self.holders, "page printed, received and sealed by");
        Sheet {
            explanation: "Nobody sees the whole secret. Each page is for its holder alone: whoever prints \
                          looks away, and the printer keeps nothing.",
            blanks: holders.iter().map(|holder| format!("{pages} {holder}, seal")).collect(),
            minutes: 15,
            ..Sheet::default()
        }
    }

    fn lint<'a>(&'a self, model: &mut Model<'a>) {
        let set = &self.set;
        model.require(!model.shares.contains_key(set), "share-set-once", || {
            format!("the set of shares {set} is handed out twice")
        });
        let different: BTreeSet<&Name> = self.holders.iter().collect();
        let count = self.holders.len();
        let sound = different.len() == count
            && (2..=15).contains(&count)
            && (2..=count).contains(&usize::from(self.threshold))
            && self.purpose.is_sound();
        model.require(sound, "share-numbers", || {
            format!(
                "{set} takes 2 to 15 different holders, a threshold from 2 to their number, and a PIN \
                 of 6 to 48 characters"
            )
        });
        let people = &model.script.people;
        let stranger = self.holders.iter().find(|it| !people.persons.contains_key(*it));
        let stranger = stranger.filter(|_| !people.is_empty());
        model.require(stranger.is_none(), "holders-are-persons", || {
            let name = stranger.map_or("", Name::as_str);
            format!("{name} gets a share of {set}, and is none of [persons]")
        });
        // The PIN that is split once more is in force already.
        let in_force = self.secret == Source::Shares || self.purpose == Purpose::WrappingKey;
        let split = ShareModel { purpose: self.purpose, verified: false, in_force };
        model.shares.insert(set, split);
    }

    fn perform(&self, performance: &mut Performance<'_>) -> Result<(), Failure> {
        if performance.progress.in_doubt().is_some() {
            performance.decide(Decision::SplitAnew)?;
        } else {
            performance.custody().check()?;
            performance.intend(Intent::SplitShares(Intended { name: self.set.clone() }))?;
        }
        self.hand_out(performance)
    }

    fn intend(&self, intent: &Intent, progress: &Progress) -> Result<(), ProgressError> {
        let planned = Intent::SplitShares(Intended { name: self.set.clone() });
        progress.require(*intent == planned, "the intent to split the planned secret")
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
        self.given(outcome, progress)?;
        Ok(Concluded::Done)
    }

    fn after_interruption(&self) -> &'static str {
        "it splits anew; whatever was printed is void, and must be destroyed"
    }
}

impl Split {
    /// Splits and hands out.
    pub(super) fn hand_out(&self, performance: &mut Performance<'_>) -> Result<(), Failure> {
        let held = performance.progress.made.held_sets();
        performance.custody().take_away_all_but(&held)?;
        let of_token = performance.session()?.random(32)?;
        let mut entropy = Entropy::gather(&of_token).map_err(Failure::Random)?;
        let secret = match self.secret {
            Source::New => Whole::random(&mut entropy),
            Source::Shares => self.gathered(performance)?.secret,
        };
        let (set, shares) =
            ShareSet::split(&secret, self.purpose, self.threshold, &self.holders, &mut entropy)?;
        let script = performance.progress.plan.script();
        let token = performance.progress.made.token.as_ref();
        let occasion = Occasion {
            ceremony: script.id.clone(),
            words: spoken(performance.progress.plan.hash()),
            token: token.map(ToString::to_string).unwrap_or_default(),
            time: performance.clock.now(),
        };
        performance.custody().hand_out(&set, &shares, &occasion)?;
        performance.conclude(Outcome::SharesGiven(Given { name: self.set.clone(), set }))
    }

    /// The secret that is the token's already.
    fn gathered(&self, performance: &mut Performance<'_>) -> Result<Gathered, Failure> {
        let wanted = Use::of(self.purpose);
        let set = performance.progress.made.set_in_force(wanted).cloned();
        let gathered = performance.custody().gather(Some(wanted), set.as_slice())?;
        if gathered.terms.purpose == self.purpose {
            Ok(gathered)
        } else {
            Err(Failure::OtherForm(gathered.terms.purpose))
        }
    }

    /// Takes up the set that was handed out.
    pub(super) fn given(
        &self,
        outcome: &Outcome,
        progress: &mut Progress,
    ) -> Result<(), ProgressError> {
        let Outcome::SharesGiven(Given { name, set }) = outcome else {
            return Err(progress.unexpected("the shares that were handed out"));
        };
        let planned = *name == self.set
            && set.is_sound()
            && set.terms.purpose == self.purpose
            && set.terms.threshold == self.threshold
            && set.holders == self.holders;
        progress.require(planned, "the planned set of shares")?;
        let known = progress.made.sets().any(|(_, it)| it.set.terms.set == set.terms.set);
        progress.require(!known, "another set of shares than those before")?;
        progress.made.add_set(name.clone(), set.clone());
        Ok(())
    }
}
