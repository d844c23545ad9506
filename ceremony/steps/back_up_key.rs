//! `generate-with-backup`: a key pair is made in the token, and a copy of it in the backup token of the
//! site, in one step; then neither lets it out. Both sign a challenge under the one public key: that is
//! the drill of restoring it.

use std::collections::BTreeMap;

use pki::{
    token::{
        KeyRef, KeyStore as _,
        pkcs11::{Remains, Session, TokenIdentity},
    },
    x509::lint::Finding,
};

use super::{
    Concluded, Kind,
    generate_key::{self, Generated, Key, fit, tried_in_vain},
};
use crate::{
    dry_run::DryRun,
    failure::Failure,
    plan::{Plan, Step, file::PlanFile, lint::Model},
    progress::{Progress, ProgressError},
    run::Performance,
    script::Sheet,
    transcript::{Decision, Intent, Outcome},
};

/// The step.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct BackUpKey {
    /// The key.
    pub key: Key,
}

/// The step of a plan file.
#[derive(serde::Deserialize)]
#[serde(transparent)]
pub(crate) struct Entry(generate_key::Entry);

/// The key pair is in both tokens, extractable from neither.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct BackedUp {
    /// In the token.
    pub made: Generated,
    /// In the backup token.
    pub copy: Copied,
}

/// A copy of a key, read back and proved to sign.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct Copied {
    /// The token that it is in.
    pub token: TokenIdentity,
    /// The private key's attributes as read back.
    pub attributes: BTreeMap<String, bool>,
    /// The attempts to misuse it, and how the token refused each.
    pub attempts: BTreeMap<String, String>,
}

impl super::Entry for Entry {
    fn resolve(&self, file: &PlanFile) -> Result<Step, Finding> {
        match self.0.resolve(file)? {
            Step::GenerateKey(key) => Ok(Step::BackUpKey(BackUpKey { key })),
            step => Ok(step),
        }
    }

    fn makes(&self) -> Option<(&'static str, &crate::name::Name)> {
        self.0.makes()
    }
}

impl Kind for BackUpKey {
    fn effect(&self) -> String {
        let Key { algorithm, label, .. } = &self.key;
        format!("generate the {algorithm} key {label} in the token, and a copy in the backup token")
    }

    fn sheet(&self) -> Sheet {
        Sheet {
            explanation: "Both tokens are connected. The key is extractable for as long as it takes to wrap \
                          it once, under a transport key that only this process and the tokens have; then \
                          neither token lets it out. Both sign a challenge.",
            blanks: vec!["serial number of the backup token, and where it is kept".to_owned()],
            minutes: 6,
            ..Sheet::default()
        }
    }

    fn lint<'a>(&'a self, model: &mut Model<'a>) {
        self.key.lint(model);
        model.copied.insert(&self.key.name);
    }

    fn dry_run(&self, dry: &mut DryRun<'_>) -> Result<(), Failure> {
        self.key.dry_run(dry)
    }

    fn perform(&self, performance: &mut Performance<'_>) -> Result<(), Failure> {
        let id = performance.progress.plan.key_id(&self.key.name);
        let label = &self.key.label;
        if performance.progress.in_doubt().is_some() {
            let here = performance.session()?.remains(label, &id)?;
            let there = performance.backup_session()?.remains(label, &id)?;
            let found = if here == Remains::Nothing { there } else { here };
            performance.decide(match found {
                Remains::Nothing => Decision::Repeat,
                found => Decision::DestroyAndRepeat { found },
            })?;
            // A key of which nobody knows whether it was sealed is no key.
            performance.session()?.discard(label, &id)?;
            performance.backup_session()?.discard(label, &id)?;
        } else {
            performance.backup_session()?.vacant(label, &id)?;
            let intended = self.key.intended(&performance.progress.plan);
            performance.intend(Intent::BackUpKey(intended))?;
        }
        let key = performance.generate_with_copy(&self.key, &id)?;
        let made = performance.session()?.prove_copy(&key)?;
        let attempts = generate_key::misuse(performance, &key)?;
        let name = self.key.name.clone();
        let attributes = named(made.attributes);
        let made = Generated { name, key: key.clone(), attributes, attempts };
        let copy = self.prove_copy(performance, &key)?;
        let backed_up = BackedUp { made, copy };
        performance.conclude(Outcome::KeyBackedUp(backed_up))?;
        let fingerprint = key.public_key.fingerprint();
        performance.console.add(&format!("in both tokens, public key SHA-256 {fingerprint}"))
    }

    fn check_token(
        &self,
        plan: &Plan,
        rehearsed: bool,
        session: &mut Session,
    ) -> Result<(), Failure> {
        self.key.check_token(plan, rehearsed, session)
    }

    fn intend(&self, intent: &Intent, progress: &Progress) -> Result<(), ProgressError> {
        let planned = Intent::BackUpKey(self.key.intended(&progress.plan));
        progress.require(*intent == planned, "the intent to make the planned key and its copy")
    }

    fn decide(&self, decision: &Decision, progress: &Progress) -> bool {
        *decision != Decision::AdoptKey && self.key.decide(decision, progress)
    }

    fn conclude(
        &self,
        _: &Intent,
        outcome: &Outcome,
        progress: &mut Progress,
    ) -> Result<Concluded, ProgressError> {
        let Outcome::KeyBackedUp(BackedUp { made, copy }) = outcome else {
            return Err(progress.unexpected("the key and its copy"));
        };
        let another = progress.made.token.as_ref() != Some(&copy.token);
        progress.require(another, "a copy in another token")?;
        progress.require(fit(&copy.attributes), "a copy that signs, and never leaves its token")?;
        progress.require(
            tried_in_vain(&copy.attempts, progress),
            "a copy that was attempted to be misused, in vain",
        )?;
        progress.made.add_copy(self.key.name.clone(), copy.token.clone());
        let generated = Outcome::KeyGenerated(made.clone());
        self.key.conclude(
            &Intent::BackUpKey(self.key.intended(&progress.plan)),
            &generated,
            progress,
        )
    }

    fn after_interruption(&self) -> &'static str {
        "it destroys what both tokens have of the key, and makes it again"
    }
}

impl BackUpKey {
    fn prove_copy(
        &self,
        performance: &mut Performance<'_>,
        key: &KeyRef,
    ) -> Result<Copied, Failure> {
        let changes = performance.place.site.changeable_keys.is_none();
        let mut session = performance.backup_session()?;
        let copy = session.prove_copy(key)?;
        let mut attempts = BTreeMap::new();
        for attempt in session.attempt_misuse(key, changes)? {
            let Some(code) = attempt.refused else {
                let left = session.discard(&key.label, &key.id).err();
                return Err(Failure::Misused {
                    label: key.label.clone(),
                    what: attempt.what,
                    left,
                });
            };
            attempts.insert(attempt.what.to_owned(), code);
        }
        Ok(Copied {
            token: performance.backup_token()?,
            attributes: named(copy.attributes),
            attempts,
        })
    }
}

pub(super) fn named(attributes: Vec<(&'static str, bool)>) -> BTreeMap<String, bool> {
    attributes.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}
