//! `restore-drill`: the copy of a key in the backup token of the site signs in its stead, under the
//! public key that the certificates have. It is read back, and attempted to be misused as before.
//!
//! In a rehearsal, the copy of a key that an earlier ceremony made is not there: a key of the same kind,
//! label and CKA_ID is made in the backup token, drilled, and destroyed.

use std::collections::BTreeMap;

use pki::{
    token::{
        KeyRef, KeyStore as _,
        pkcs11::{ATTEMPTS, Attempt, Session, TokenIdentity},
    },
    x509::lint::Finding,
};

use super::{
    Concluded, Kind,
    back_up_key::{Copied, named},
    generate_key::{self, fit},
};
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
pub struct RestoreDrill {
    /// The plan's name of the key.
    pub key: Name,
    /// The token that has the copy, as an earlier ceremony says; none, if this one makes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<TokenIdentity>,
}

/// The step of a plan file.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    key: Name,
}

/// Let the copy of this key sign.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct Intended {
    /// The plan's name of the key.
    pub name: Name,
    /// The key.
    pub key: KeyRef,
}

/// The copy signed a challenge, which the key's public half verifies.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct Drilled {
    /// The plan's name of the key.
    pub name: Name,
    /// In the backup token.
    pub copy: Copied,
}

impl super::Entry for Entry {
    fn resolve(&self, file: &PlanFile) -> Result<Step, Finding> {
        let key = self.key.clone();
        let Some(earlier) = &generate_key::declared(file, &key)?.existing else {
            return Ok(Step::RestoreDrill(RestoreDrill { key, token: None }));
        };
        let verified = earlier.read(&file.directory)?;
        let token = verified.progress.made.copy(&earlier.name).cloned();
        let token = token.ok_or_else(|| Finding {
            rule: "drill-of-a-copy",
            what: format!("the earlier ceremony made no copy of the key {key} in another token"),
        })?;
        Ok(Step::RestoreDrill(RestoreDrill { key, token: Some(token) }))
    }
}

impl Kind for RestoreDrill {
    fn effect(&self) -> String {
        format!("let the copy of the key {} in the backup token sign in its stead", self.key)
    }

    fn details(&self) -> Option<String> {
        self.token.as_ref().map(|token| format!("backup token {token}"))
    }

    fn sheet(&self) -> Sheet {
        Sheet {
            explanation: "The backup token is connected. Its key is found by CKA_ID, label and public key, \
                          read back, and signs a challenge, which the public key in the certificates \
                          verifies. What nobody may do with it is attempted once more.",
            blanks: vec![
                "serial number of the backup token, and the bag that it came from".to_owned(),
                "bag that it goes into".to_owned(),
            ],
            minutes: 6,
            ..Sheet::default()
        }
    }

    fn lint<'a>(&'a self, model: &mut Model<'a>) {
        let copied = model.copied.contains(&self.key) || self.token.is_some();
        let there = model.keys.contains_key(&self.key);
        model.require(there && copied, "drill-of-a-copy", || {
            format!("the key {} is not there, or no step made a copy of it", self.key)
        });
    }

    fn perform(&self, performance: &mut Performance<'_>) -> Result<(), Failure> {
        let key = performance.progress.made.key(&self.key)?.clone();
        let stands_in = self.stands_in(&performance.progress);
        if performance.progress.in_doubt().is_none() {
            performance.intend(Intent::DrillRestore(self.intended(&key)))?;
        } else {
            performance.decide(Decision::Repeat)?;
            if stands_in {
                performance.backup_session()?.discard(&key.label, &key.id)?;
            }
        }
        let token = performance.backup_token()?;
        if self.planned(&performance.progress).is_some_and(|planned| *planned != token) {
            return Err(Failure::OtherBackup(token));
        }
        let mut backup = performance.backup_session()?;
        let copy = if stands_in {
            let KeyRef { label, id, public_key } = &key;
            let made = backup.generate(public_key.algorithm(), label, id)?;
            let copy = drill(&mut backup, &made.key, token)?;
            backup.destroy(&made.key)?;
            copy
        } else {
            drill(&mut backup, &key, token)?
        };
        let said =
            format!("it signed, and {} attempts to misuse it were refused", copy.attempts.len());
        let drilled = Drilled { name: self.key.clone(), copy };
        performance.conclude(Outcome::RestoreDrilled(drilled))?;
        performance.console.add(&said)
    }

    fn intend(&self, intent: &Intent, progress: &Progress) -> Result<(), ProgressError> {
        let planned = Intent::DrillRestore(self.intended(progress.made.key(&self.key)?));
        progress.require(*intent == planned, "the intent to let the copy of the planned key sign")
    }

    fn conclude(
        &self,
        _: &Intent,
        outcome: &Outcome,
        progress: &mut Progress,
    ) -> Result<Concluded, ProgressError> {
        let Outcome::RestoreDrilled(Drilled { name, copy }) = outcome else {
            return Err(progress.unexpected("the copy that signed"));
        };
        progress.require(*name == self.key, "the copy of the planned key")?;
        let another = progress.made.token.as_ref() != Some(&copy.token);
        let same = self.planned(progress).is_none_or(|planned| *planned == copy.token);
        progress.require(another && same, "the token that has the copy")?;
        progress.require(fit(&copy.attributes), "a copy that signs, and never leaves its token")?;
        let refused = |what: &&str| copy.attempts.get(*what).is_some_and(|code| !code.is_empty());
        progress.require(
            ATTEMPTS.iter().all(refused),
            "a copy that was attempted to be misused, in vain",
        )?;
        if !self.stands_in(progress) {
            progress.made.add_copy(name.clone(), copy.token.clone());
        }
        Ok(Concluded::Done)
    }

    fn after_interruption(&self) -> &'static str {
        "it lets the copy sign again"
    }
}

impl RestoreDrill {
    fn intended(&self, key: &KeyRef) -> Intended {
        Intended { name: self.key.clone(), key: key.clone() }
    }

    /// Whether another key is drilled, because an earlier ceremony's copy is not there in a rehearsal.
    fn stands_in(&self, progress: &Progress) -> bool {
        self.token.is_some() && progress.opened.is_rehearsal()
    }

    /// The token that must have the copy.
    fn planned<'a>(&'a self, progress: &'a Progress) -> Option<&'a TokenIdentity> {
        match &self.token {
            Some(_) if progress.opened.is_rehearsal() => None,
            Some(token) => Some(token),
            None => progress.made.copy(&self.key),
        }
    }
}

/// Reads a key of this token back, lets it sign, and attempts what leaves it as it is: it may be the
/// last one.
fn drill(session: &mut Session, key: &KeyRef, token: TokenIdentity) -> Result<Copied, Failure> {
    let attributes = named(session.prove_copy(key)?.attributes);
    let mut attempts = BTreeMap::new();
    for Attempt { what, refused } in session.attempt_misuse(key, false)? {
        let Some(code) = refused else {
            return Err(Failure::CopyMisused { label: key.label.clone(), what });
        };
        attempts.insert(what.to_owned(), code);
    }
    Ok(Copied { token, attributes, attempts })
}
