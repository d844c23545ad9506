//! `use-key`: a key that an earlier ceremony made is found in the token, and proves to sign.
//!
//! In a rehearsal, a key of the same kind, label and CKA_ID is made, which stands in for it.

use pki::{
    token::{KeyId, KeyLabel, KeyRef, Token as _, pkcs11::Session},
    x509::lint::Finding,
};

use super::{Concluded, Kind, generate_key};
use crate::{
    digest::Digest,
    dry_run::DryRun,
    failure::Failure,
    name::Name,
    plan::{Key, Plan, Step, file::PlanFile, lint::Model},
    progress::{Progress, ProgressError},
    run::Performance,
    script::Sheet,
    transcript::{Decision, Intent, Outcome},
};

/// A key that an earlier ceremony made.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct ExistingKey {
    /// What the plan calls it.
    pub name: Name,
    /// Label, CKA_ID and public key, as the transcript of that ceremony has them.
    pub key: KeyRef,
    /// The head of that transcript.
    pub transcript: Digest,
}

/// The step of a plan file.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    key: Name,
}

/// Find this key in the token.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct Intended {
    /// The plan's name of the key.
    pub name: Name,
    /// CKA_LABEL.
    pub label: KeyLabel,
    /// CKA_ID.
    pub id: KeyId,
}

/// The key was found, alone and fit, and signed a challenge.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct Found {
    /// The plan's name of the key.
    pub name: Name,
    /// The key; in a rehearsal, the one that stands in for it.
    pub key: KeyRef,
}

impl super::Entry for Entry {
    fn resolve(&self, file: &PlanFile) -> Result<Step, Finding> {
        let name = &self.key;
        let entry = generate_key::declared(file, name)?;
        let earlier = entry.existing.as_ref().ok_or_else(|| Finding {
            rule: "key-existing",
            what: format!("the key {name} has no `existing`: it is to be generated"),
        })?;
        let verified = earlier.read(&file.directory)?;
        let made = verified.progress.made.key(&earlier.name);
        let key = made.map_err(|error| Finding {
            rule: "earlier-ceremony",
            what: format!("{error} in the ceremony of the transcript of key {name}"),
        })?;
        let (name, key) = (name.clone(), key.clone());
        Ok(Step::UseKey(ExistingKey { name, key, transcript: verified.head }))
    }

    fn makes(&self) -> Option<(&'static str, &Name)> {
        Some(("key", &self.key))
    }
}

impl Kind for ExistingKey {
    fn effect(&self) -> String {
        format!("find the {} key {} in the token", self.key.public_key.algorithm(), self.key.label)
    }

    fn details(&self) -> Option<String> {
        let Self { key, transcript, .. } = self;
        Some(format!(
            "CKA_ID {}, public key SHA-256 {}\nof the ceremony with the head {transcript}",
            key.id,
            key.public_key.fingerprint()
        ))
    }

    fn sheet(&self) -> Sheet {
        Sheet {
            explanation: "The key is looked for by CKA_ID, label and public key, and signs a random \
                          challenge.",
            minutes: 2,
            ..Sheet::default()
        }
    }

    fn lint<'a>(&'a self, model: &mut Model<'a>) {
        model.require(!model.token_is_new, "existing-key-in-old-token", || {
            format!("the key {} cannot be in a token that this plan initializes", self.name)
        });
        model.used.insert(&self.name);
        model.add_key(&self.name, &self.key.label, self.key.public_key.algorithm());
    }

    fn dry_run(&self, dry: &mut DryRun<'_>) -> Result<(), Failure> {
        dry.generate(&self.stand_in(), &self.key.id)
    }

    fn check_token(&self, _: &Plan, rehearsed: bool, session: &mut Session) -> Result<(), Failure> {
        if rehearsed { Ok(()) } else { Ok(session.find(&self.key)?) }
    }

    fn perform(&self, performance: &mut Performance<'_>) -> Result<(), Failure> {
        let rehearsed = performance.progress.opened.is_rehearsal();
        let (stand_in, id) = (self.stand_in(), &self.key.id);
        let mut adopted = None;
        if performance.progress.in_doubt().is_none() {
            performance.intend(Intent::UseKey(self.intended()))?;
        } else if rehearsed {
            adopted = stand_in.settle(id, performance)?;
        } else {
            performance.decide(Decision::Repeat)?;
        }
        let key = match adopted {
            Some(adopted) => adopted.key,
            None if rehearsed => stand_in.generate(id, performance)?.key,
            None => {
                let session = performance.session()?;
                session.find(&self.key)?;
                session.prove_possession(&self.key)?;
                self.key.clone()
            }
        };
        performance.conclude(Outcome::KeyFound(Found { name: self.name.clone(), key }))?;
        performance.console.add("it is there, alone, and signed a challenge")
    }

    fn intend(&self, intent: &Intent, progress: &Progress) -> Result<(), ProgressError> {
        let holds = *intent == Intent::UseKey(self.intended());
        progress.require(holds, "the intent to find the planned key")
    }

    fn decide(&self, decision: &Decision, progress: &Progress) -> bool {
        if progress.opened.is_rehearsal() {
            self.stand_in().decide(decision, progress)
        } else {
            *decision == Decision::Repeat
        }
    }

    fn conclude(
        &self,
        _: &Intent,
        outcome: &Outcome,
        progress: &mut Progress,
    ) -> Result<Concluded, ProgressError> {
        let Outcome::KeyFound(Found { name, key }) = outcome else {
            return Err(progress.unexpected("the key that was found"));
        };
        let same = if progress.opened.is_rehearsal() {
            key.label == self.key.label
                && key.id == self.key.id
                && key.public_key.algorithm() == self.key.public_key.algorithm()
        } else {
            *key == self.key
        };
        progress.require(same && *name == self.name, "the key of the earlier ceremony")?;
        progress.made.add_key(name.clone(), key.clone());
        Ok(Concluded::Done)
    }
}

impl ExistingKey {
    fn intended(&self) -> Intended {
        let KeyRef { label, id, .. } = self.key.clone();
        Intended { name: self.name.clone(), label, id }
    }

    fn stand_in(&self) -> Key {
        let algorithm = self.key.public_key.algorithm();
        Key { name: self.name.clone(), algorithm, label: self.key.label.clone() }
    }
}
