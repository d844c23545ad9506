//! `key-destroy`: a key pair is destroyed, and another session finds nothing of it any more.

use pki::{
    token::{KeyRef, KeyStore as _, Token as _, TokenError, pkcs11::ObjectFound},
    x509::lint::Finding,
};

use super::{Concluded, Kind};
use crate::{
    failure::Failure,
    name::Name,
    plan::{Step, file::PlanFile, lint::Model},
    progress::{Progress, ProgressError},
    run::Performance,
    script::Sheet,
    transcript::{Decision, Intent, Outcome},
};

/// The step.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct DestroyKey {
    /// The plan's name of the key.
    pub key: Name,
}

/// Destroy this key pair.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct Intended {
    /// The plan's name of the key.
    pub name: Name,
    /// The key.
    pub key: KeyRef,
}

/// The key pair was destroyed, and nothing has its label or its CKA_ID any more.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct Destroyed {
    /// The plan's name of the key.
    pub name: Name,
    /// The key.
    pub key: KeyRef,
    /// Everything that a fresh session found in the token afterwards.
    pub left: Vec<ObjectFound>,
}

impl super::Entry for DestroyKey {
    fn resolve(&self, _: &PlanFile) -> Result<Step, Finding> {
        Ok(Step::DestroyKey(self.clone()))
    }
}

impl Kind for DestroyKey {
    fn effect(&self) -> String {
        format!("destroy the key {} in the token; it cannot be had back", self.key)
    }

    fn sheet(&self) -> Sheet {
        Sheet {
            explanation: "Both halves are destroyed, and a fresh session looks for them in vain. A copy in \
                          another token is destroyed there, by a ceremony of its own; what wraps or \
                          restores a copy (files, shares, backup cards) is destroyed before everybody's eyes.",
            blanks: vec!["copies elsewhere, and how each was destroyed".to_owned()],
            ..Sheet::default()
        }
    }

    fn lint<'a>(&'a self, model: &mut Model<'a>) {
        let there = model.keys.remove(&self.key).is_some();
        model.require(there, "destroy-what-is-there", || {
            format!("the key {} is to be destroyed, and is not in the token", self.key)
        });
    }

    fn perform(&self, performance: &mut Performance<'_>) -> Result<(), Failure> {
        let key = performance.progress.made.key(&self.key)?.clone();
        if performance.progress.in_doubt().is_some() {
            performance.decide(Decision::Repeat)?;
            // What is left, be it one half or nothing.
            performance.session()?.discard(&key.label, &key.id)?;
        } else {
            performance.session()?.find(&key)?;
            performance
                .console
                .add(&format!("public key SHA-256 {}", key.public_key.fingerprint()))?;
            performance.intend(Intent::DestroyKey(self.intended(&key)))?;
            performance.session()?.destroy(&key)?;
        }
        let mut fresh = performance.fresh_session()?;
        fresh.vacant(&key.label, &key.id).map_err(|error| match error {
            TokenError::KeyExists { label } => Failure::NotDestroyed(label),
            error => error.into(),
        })?;
        let left = fresh.inventory()?;
        let said = format!("a fresh session finds nothing of it, and {} other objects", left.len());
        let name = self.key.clone();
        performance.conclude(Outcome::KeyDestroyed(Destroyed { name, key, left }))?;
        performance.console.add(&said)
    }

    fn intend(&self, intent: &Intent, progress: &Progress) -> Result<(), ProgressError> {
        let planned = Intent::DestroyKey(self.intended(progress.made.key(&self.key)?));
        progress.require(*intent == planned, "the intent to destroy the planned key")
    }

    fn conclude(
        &self,
        _: &Intent,
        outcome: &Outcome,
        progress: &mut Progress,
    ) -> Result<Concluded, ProgressError> {
        let Outcome::KeyDestroyed(Destroyed { name, key, left }) = outcome else {
            return Err(progress.unexpected("the key that was destroyed"));
        };
        let same = *name == self.key && key == progress.made.key(name)?;
        progress.require(same, "the key that was to be destroyed")?;
        let (label, id) = (key.label.to_string(), key.id.to_string());
        let gone = !left.iter().any(|object| object.label == label || object.id == id);
        progress.require(gone, "a token that has nothing of the key")?;
        progress.made.remove_key(name);
        Ok(Concluded::Done)
    }

    fn after_interruption(&self) -> &'static str {
        "it destroys what is left of the key"
    }
}

impl DestroyKey {
    fn intended(&self, key: &KeyRef) -> Intended {
        Intended { name: self.key.clone(), key: key.clone() }
    }
}
