//! `generate-key`: a key pair is made in the token, read back, proved, and attempted to be misused.

use std::collections::BTreeMap;

use pki::{
    keys::KeyAlgorithm,
    token::{
        self, KeyId, KeyLabel, KeyRef, KeyStore as _,
        pkcs11::{ATTEMPTS, Attempt, CHANGES, Remains, Session},
    },
    x509::lint::Finding,
};

use super::{Concluded, Kind};
use crate::{
    dry_run::DryRun,
    failure::Failure,
    name::Name,
    plan::{Plan, Step, file::PlanFile, input::Earlier, lint::Model},
    progress::{Progress, ProgressError},
    run::{FoundKey, Performance},
    script::Sheet,
    transcript::{Decision, Intent, Outcome},
};

/// A key pair to be made.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// What the plan calls it.
    pub name: Name,
    /// Its kind and size.
    pub algorithm: KeyAlgorithm,
    /// CKA_LABEL: purpose and name.
    pub label: KeyLabel,
}

/// `[keys.NAME]` of a plan file.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeyEntry {
    algorithm: Option<KeyAlgorithm>,
    label: Option<KeyLabel>,
    /// The ceremony that made it.
    pub(crate) existing: Option<Earlier>,
}

/// The step of a plan file.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    key: Name,
}

/// Make this key pair.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct Intended {
    /// The plan's name of the key.
    pub name: Name,
    /// Its kind and size.
    pub algorithm: KeyAlgorithm,
    /// CKA_LABEL.
    pub label: KeyLabel,
    /// CKA_ID.
    pub id: KeyId,
}

/// A key pair was made, read back, and proved to sign.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct Generated {
    /// The plan's name of the key.
    pub name: Name,
    /// The key in the token.
    pub key: KeyRef,
    /// The private key's attributes as read back, by their PKCS#11 names.
    pub attributes: BTreeMap<String, bool>,
    /// The attempts to misuse it, and how the token refused each.
    pub attempts: BTreeMap<String, String>,
}

impl super::Entry for Entry {
    fn resolve(&self, file: &PlanFile) -> Result<Step, Finding> {
        let name = &self.key;
        let entry = declared(file, name)?;
        match (entry.algorithm, &entry.label, &entry.existing) {
            (Some(algorithm), Some(label), None) => {
                let (name, label) = (name.clone(), label.clone());
                Ok(Step::GenerateKey(Key { name, algorithm, label }))
            }
            _ => Err(Finding {
                rule: "key-to-be-made",
                what: format!("the key {name} is generated: it has algorithm and label alone"),
            }),
        }
    }

    fn makes(&self) -> Option<(&'static str, &Name)> {
        Some(("key", &self.key))
    }
}

/// The key's entry in the plan file.
pub(crate) fn declared<'a>(file: &'a PlanFile, name: &Name) -> Result<&'a KeyEntry, Finding> {
    file.keys.get(name).ok_or_else(|| Finding {
        rule: "key-unknown",
        what: format!("a step names the key {name}, which [keys] does not have"),
    })
}

impl Kind for Key {
    fn effect(&self) -> String {
        format!("generate the {} key {} in the token", self.algorithm, self.label)
    }

    fn sheet(&self) -> Sheet {
        Sheet {
            explanation: "The token makes the pair. Its attributes are read back, it signs a challenge, and \
                          what nobody may do with it is attempted: each attempt must be refused.",
            blanks: vec!["public key SHA-256, first 16 digits".to_owned()],
            minutes: 4,
            ..Sheet::default()
        }
    }

    fn lint<'a>(&'a self, model: &mut Model<'a>) {
        model.add_key(&self.name, &self.label, self.algorithm);
    }

    fn dry_run(&self, dry: &mut DryRun<'_>) -> Result<(), Failure> {
        dry.generate(self, &dry.plan.key_id(&self.name))
    }

    fn check_token(&self, plan: &Plan, _: bool, session: &mut Session) -> Result<(), Failure> {
        Ok(session.vacant(&self.label, &plan.key_id(&self.name))?)
    }

    fn perform(&self, performance: &mut Performance<'_>) -> Result<(), Failure> {
        let id = performance.progress.plan.key_id(&self.name);
        let mut generated = None;
        if performance.progress.in_doubt().is_some() {
            generated = self.settle(&id, performance)?;
        } else {
            performance.intend(Intent::GenerateKey(self.intended(&performance.progress.plan)))?;
        }
        let token::Generated { key, attributes } = match generated {
            Some(adopted) => adopted,
            None => self.generate(&id, performance)?,
        };
        let fingerprint = key.public_key.fingerprint();
        let attributes = attributes.iter();
        let attributes = attributes.map(|(name, value)| ((*name).to_owned(), *value)).collect();
        let attempts = misuse(performance, &key)?;
        let name = self.name.clone();
        let made = Generated { name, key, attributes, attempts };
        performance.conclude(Outcome::KeyGenerated(made))?;
        performance.console.add(&format!("public key SHA-256 {fingerprint}"))
    }

    fn intend(&self, intent: &Intent, progress: &Progress) -> Result<(), ProgressError> {
        let planned = Intent::GenerateKey(self.intended(&progress.plan));
        progress.require(*intent == planned, "the intent to make the planned key")
    }

    fn decide(&self, decision: &Decision, _: &Progress) -> bool {
        let needless = Decision::DestroyAndRepeat { found: Remains::Nothing };
        match decision {
            Decision::AdoptKey | Decision::Repeat => true,
            Decision::DestroyAndRepeat { .. } => *decision != needless,
            _ => false,
        }
    }

    fn conclude(
        &self,
        _: &Intent,
        outcome: &Outcome,
        progress: &mut Progress,
    ) -> Result<Concluded, ProgressError> {
        let Outcome::KeyGenerated(Generated { name, key, attributes, attempts }) = outcome else {
            return Err(progress.unexpected("the key that was made"));
        };
        let same = *name == self.name
            && key.id == progress.plan.key_id(name)
            && key.label == self.label
            && key.public_key.algorithm() == self.algorithm;
        progress.require(same, "the planned key")?;
        progress.require(fit(attributes), "a key that signs, and never leaves its token")?;
        let refused = tried_in_vain(attempts, progress);
        progress.require(refused, "a key that was attempted to be misused, in vain")?;
        let new = progress.made.keys().all(|other| other.public_key != key.public_key);
        progress.require(new, "another key than the others")?;
        progress.made.add_key(name.clone(), key.clone());
        Ok(Concluded::Done)
    }
}

impl Key {
    pub(super) fn intended(&self, plan: &Plan) -> Intended {
        let Self { name, algorithm, label } = self.clone();
        Intended { id: plan.key_id(&name), name, algorithm, label }
    }

    /// Makes the key pair under this CKA_ID.
    pub(crate) fn generate(
        &self,
        id: &KeyId,
        performance: &mut Performance<'_>,
    ) -> Result<token::Generated, Failure> {
        let (session, console) = performance.session_and_console()?;
        Ok(console.wait(|| session.generate(self.algorithm, &self.label, id))?)
    }

    /// Finds out what an interrupted generation left, and clears it away unless it is to be taken.
    pub(crate) fn settle(
        &self,
        id: &KeyId,
        performance: &mut Performance<'_>,
    ) -> Result<Option<token::Generated>, Failure> {
        let found = performance.session()?.remains(&self.label, id)?;
        let decision = match (found, performance.found_key) {
            (Remains::Nothing, _) => Decision::Repeat,
            (Remains::Orphan, _) | (Remains::Pair, Some(FoundKey::Destroy)) => {
                Decision::DestroyAndRepeat { found }
            }
            (Remains::Pair, Some(FoundKey::Adopt)) => Decision::AdoptKey,
            (Remains::Pair, None) => return Err(Failure::KeyFound(self.label.clone())),
        };
        let decision = performance.decide(decision)?;
        let session = performance.session()?;
        match decision {
            Decision::AdoptKey => Ok(Some(session.adopt(self.algorithm, &self.label, id)?)),
            Decision::DestroyAndRepeat { .. } => {
                session.discard(&self.label, id)?;
                Ok(None)
            }
            _ => Ok(None),
        }
    }
}

/// Attempts what nobody may do with a key. One that lets it be done is destroyed at once.
pub(super) fn misuse(
    performance: &mut Performance<'_>,
    key: &KeyRef,
) -> Result<BTreeMap<String, String>, Failure> {
    let changes = performance.place.site.changeable_keys.is_none();
    let session = performance.session()?;
    let mut attempts = BTreeMap::new();
    for Attempt { what, refused } in session.attempt_misuse(key, changes)? {
        let Some(code) = refused else {
            let left = session.discard(&key.label, &key.id).err();
            return Err(Failure::Misused { label: key.label.clone(), what, left });
        };
        attempts.insert(what.to_owned(), code);
    }
    performance.console.add(&format!("{} attempts to misuse it were refused", attempts.len()))?;
    Ok(attempts)
}

/// Whether these are the attributes of a key that signs, and never leaves its token.
pub(super) fn fit(attributes: &BTreeMap<String, bool>) -> bool {
    ATTRIBUTES.iter().all(|(name, value)| attributes.get(*name) == Some(value))
}

/// Whether all that is to be attempted was, and refused.
pub(super) fn tried_in_vain(attempts: &BTreeMap<String, String>, progress: &Progress) -> bool {
    let changes = if progress.opened.changeable_keys.is_none() { &CHANGES[..] } else { &[] };
    let mut wanted = ATTEMPTS.iter().chain(changes);
    wanted.all(|what| attempts.get(*what).is_some_and(|code| !code.is_empty()))
}

/// What every token says of a private key that is fit for a CA (PKCS#11 v3.1 section 4.9).
const ATTRIBUTES: [(&str, bool); 3] =
    [("CKA_EXTRACTABLE", false), ("CKA_SENSITIVE", true), ("CKA_SIGN", true)];
