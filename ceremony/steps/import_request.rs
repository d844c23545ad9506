//! `import-request`: a certificate request of another machine, bound by its hash when the plan is
//! made. Its signature proves that whoever asks has the key.

use pki::x509::{csr::Csr, lint::Finding};

use super::{Concluded, Kind};
use crate::{
    dry_run::DryRun,
    failure::Failure,
    name::Name,
    plan::{Step, file::PlanFile, lint::Model},
    progress::{Progress, ProgressError},
    run::Performance,
    script::Sheet,
    transcript::{Decision, Intent, Outcome},
};

/// A request of another machine.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct ForeignRequest {
    /// What the plan calls the request, and the key in it.
    pub name: Name,
    /// The request (PEM).
    pub request: String,
}

/// The step of a plan file.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    request: Name,
}

/// Take this request in.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct Intended {
    /// The plan's name of the request.
    pub name: Name,
}

/// The request was read, and its signature verified.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct Imported {
    /// The plan's name of the request.
    pub name: Name,
    /// SHA-256 of the SubjectPublicKeyInfo, hexadecimal.
    pub public_key_sha256: String,
}

impl super::Entry for Entry {
    fn resolve(&self, file: &PlanFile) -> Result<Step, Finding> {
        let name = &self.request;
        let input = file.requests.get(name).ok_or_else(|| Finding {
            rule: "request-unknown",
            what: format!("a step names the request {name}, which [requests] does not have"),
        })?;
        let request = input.read(&file.directory)?;
        Ok(Step::ImportRequest(ForeignRequest { name: name.clone(), request }))
    }

    fn makes(&self) -> Option<(&'static str, &Name)> {
        Some(("request", &self.request))
    }
}

impl Kind for ForeignRequest {
    fn effect(&self) -> String {
        format!("take in the request {}, and verify that whoever asks has the key", self.name)
    }

    fn details(&self) -> Option<String> {
        let Csr { subject, public_key, .. } = Csr::from_pem(&self.request).ok()?;
        Some(format!("{subject}\npublic key SHA-256 {}", public_key.fingerprint()))
    }

    fn sheet(&self) -> Sheet {
        Sheet {
            explanation: "The request is part of the plan. Its signature is verified: whoever asks has \
                          the key. Compare the key's SHA-256 with what the other machine printed.",
            blanks: vec!["first 16 digits of the key's SHA-256".to_owned()],
            minutes: 5,
            ..Sheet::default()
        }
    }

    fn lint<'a>(&'a self, model: &mut Model<'a>) {
        match Csr::from_pem(&self.request) {
            Ok(request) => model.foreign.extend([(&self.name, request.subject)]),
            Err(error) => model.find("request-proof", format!("request {}: {error}", self.name)),
        }
    }

    fn dry_run(&self, dry: &mut DryRun<'_>) -> Result<(), Failure> {
        let request = Csr::from_pem(&self.request).map_err(crate::made::MadeError::from)?;
        dry.made.add_foreign(self.name.clone(), request.public_key);
        Ok(())
    }

    fn perform(&self, performance: &mut Performance<'_>) -> Result<(), Failure> {
        let name = self.name.clone();
        if performance.progress.in_doubt().is_some() {
            performance.decide(Decision::Repeat)?;
        } else {
            performance.intend(Intent::ImportRequest(Intended { name: name.clone() }))?;
        }
        let request = Csr::from_pem(&self.request).map_err(crate::made::MadeError::from)?;
        let public_key_sha256 = request.public_key.fingerprint();
        performance.conclude(Outcome::RequestImported(Imported { name, public_key_sha256 }))
    }

    fn intend(&self, intent: &Intent, progress: &Progress) -> Result<(), ProgressError> {
        let holds = *intent == Intent::ImportRequest(Intended { name: self.name.clone() });
        progress.require(holds, "the intent to take the planned request in")
    }

    fn conclude(
        &self,
        _: &Intent,
        outcome: &Outcome,
        progress: &mut Progress,
    ) -> Result<Concluded, ProgressError> {
        let Outcome::RequestImported(Imported { name, public_key_sha256 }) = outcome else {
            return Err(progress.unexpected("the request that was taken in"));
        };
        let Csr { public_key, .. } = Csr::from_pem(&self.request)
            .map_err(|_| progress.unexpected("a request whose signature verifies"))?;
        let same = *name == self.name && *public_key_sha256 == public_key.fingerprint();
        progress.require(same, "the key of the planned request")?;
        progress.made.add_foreign(name.clone(), public_key);
        Ok(Concluded::Done)
    }

    fn after_interruption(&self) -> &'static str {
        "it reads the request again"
    }
}
