//! `import-certificate`: the certificate that another machine signed for a key in the token comes
//! back, and is checked against the key, the request and the plan.
//!
//! In a rehearsal, the key that stands in for the other machine's signs one.

use std::fs;

use pki::x509::{Certificate as Returned, lint::Finding};

use super::{Concluded, Kind, sign_certificate};
use crate::{
    dry_run::DryRun,
    failure::Failure,
    made::Made,
    name::Name,
    plan::{AuthorityKind, Certificate, Plan, Step, file::PlanFile, lint::Model},
    progress::{Progress, ProgressError},
    run::Performance,
    script::Sheet,
    transcript::{Decision, Intent, Outcome},
};

/// A certificate that another machine signs.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct ReturningCertificate {
    /// What it must say.
    pub certificate: Certificate,
}

/// The step of a plan file.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    certificate: Name,
}

/// Take this certificate in.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct Intended {
    /// The plan's name of the certificate.
    pub name: Name,
}

/// The certificate came back, and is the one that was asked for.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct Imported {
    /// The plan's name of the certificate.
    pub name: Name,
    /// The certificate (DER).
    #[serde(with = "hex::serde")]
    pub certificate: Vec<u8>,
}

impl super::Entry for Entry {
    fn resolve(&self, file: &PlanFile) -> Result<Step, Finding> {
        let entry = sign_certificate::declared(file, &self.certificate)?;
        let certificate = entry.resolve(file, &self.certificate)?;
        Ok(Step::ImportCertificate(ReturningCertificate { certificate }))
    }

    fn makes(&self) -> Option<(&'static str, &Name)> {
        Some(("certificate", &self.certificate))
    }
}

impl Kind for ReturningCertificate {
    fn effect(&self) -> String {
        format!("take in the certificate {} that another machine signed", self.certificate.name)
    }

    fn details(&self) -> Option<String> {
        self.certificate.details()
    }

    fn certificate(&self) -> Option<&Certificate> {
        Some(&self.certificate)
    }

    fn sheet(&self) -> Sheet {
        Sheet {
            explanation: "The certificate that came back is read from the exchange directory. Key, \
                          subject and validity must be the plan's, and its issuer must have signed it.",
            blanks: vec!["serial number".to_owned()],
            minutes: 10,
            ..Sheet::default()
        }
    }

    fn lint<'a>(&'a self, model: &mut Model<'a>) {
        let certificate = &self.certificate;
        let name = &certificate.name;
        let asked = model.requests.get(name).is_some_and(|request| {
            request.key == certificate.key && request.subject == certificate.subject
        });
        model.require(asked, "request-before-certificate", || {
            format!("certificate {name} comes back, and was never asked for")
        });
        certificate.check(model);
        let foreign = match &certificate.kind {
            AuthorityKind::Issuing { signer, .. } => model.existing.contains_key(signer),
            AuthorityKind::Cross { .. } | AuthorityKind::Root { .. } => false,
        };
        model.require(foreign, "import-of-another-machines", || {
            format!("certificate {name} comes from another machine: its signer is taken in before")
        });
        model.add_certificate(certificate);
    }

    fn dry_run(&self, dry: &mut DryRun<'_>) -> Result<(), Failure> {
        dry.stand_in(&self.certificate)
    }

    fn perform(&self, performance: &mut Performance<'_>) -> Result<(), Failure> {
        let name = self.certificate.name.clone();
        let rehearsed = performance.progress.opened.is_rehearsal();
        // Before anybody confirms anything: it may not be there yet.
        let returned = if rehearsed { None } else { Some(self.read(performance)?) };
        if performance.progress.in_doubt().is_some() {
            performance.decide(Decision::Repeat)?;
        } else {
            performance.intend(Intent::ImportCertificate(Intended { name: name.clone() }))?;
        }
        let certificate = match returned {
            Some(returned) => returned,
            None => performance.stand_in(&self.certificate)?,
        };
        performance.conclude(Outcome::CertificateImported(Imported { name, certificate }))
    }

    fn intend(&self, intent: &Intent, progress: &Progress) -> Result<(), ProgressError> {
        let planned = Intended { name: self.certificate.name.clone() };
        let holds = *intent == Intent::ImportCertificate(planned);
        progress.require(holds, "the intent to take the planned certificate in")
    }

    fn conclude(
        &self,
        _: &Intent,
        outcome: &Outcome,
        progress: &mut Progress,
    ) -> Result<Concluded, ProgressError> {
        let Outcome::CertificateImported(Imported { name, certificate }) = outcome else {
            return Err(progress.unexpected("the certificate that came back"));
        };
        progress.require(*name == self.certificate.name, "the planned certificate")?;
        if progress.opened.is_rehearsal() {
            return progress.take_stand_in(&self.certificate, certificate);
        }
        let asked = self.check(&progress.plan, &progress.made, certificate).is_ok();
        progress.require(asked, "the certificate that was asked for")?;
        progress.made.add_certificate(&self.certificate, certificate.clone())?;
        Ok(Concluded::Done)
    }

    fn after_interruption(&self) -> &'static str {
        "it reads the certificate again"
    }
}

impl ReturningCertificate {
    fn read(&self, performance: &Performance<'_>) -> Result<Vec<u8>, Failure> {
        let path = performance.exchange()?.join(format!("{}.pem", self.certificate.name));
        let text = fs::read_to_string(&path)
            .map_err(|source| Failure::NotReturned { path: path.clone(), source })?;
        let progress = &performance.progress;
        let checked = Returned::from_pem(&text).map_err(|error| error.to_string());
        let checked = checked.and_then(|returned| {
            self.check(&progress.plan, &progress.made, returned.der())?;
            Ok(returned.der().to_vec())
        });
        checked.map_err(|what| Failure::Returned { path, what })
    }

    /// Whether this is the certificate that was asked for; says what is wrong.
    fn check(&self, plan: &Plan, made: &Made, der: &[u8]) -> Result<(), String> {
        let Certificate { key, kind, subject, not_before, not_after, .. } = &self.certificate;
        let returned = Returned::from_der(der).map_err(|error| error.to_string())?;
        let key = made.public_key(key).map_err(|error| error.to_string())?;
        let signer = plan.signer(&self.certificate).ok_or("the plan names no signer of it")?;
        let signer = made.certificate(&signer.name).map_err(|error| error.to_string())?;
        let signer = Returned::from_der(signer).map_err(|error| error.to_string())?;
        for (holds, what) in [
            (returned.public_key() == key, "it is for another key"),
            (returned.is_named(subject), "it has another subject"),
            (returned.not_before() == *not_before, "it begins at another time"),
            (returned.not_after() == *not_after, "it ends at another time"),
            (returned.ca_path_length()? == kind.path_length(), "it has another path length"),
            (!Returned::is_poisoned(der), "it was made in a rehearsal"),
        ] {
            if !holds {
                return Err(what.to_owned());
            }
        }
        returned.check_signed_by(&signer)
    }
}
