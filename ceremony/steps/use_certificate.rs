//! `use-certificate`: the certificate of a CA that is there already, of an earlier ceremony or of
//! somebody else's, bound by its hash when the plan is made.
//!
//! In a rehearsal, a certificate for a key of the rehearsal stands in for it.

use pki::{
    token::Purpose,
    x509::{Certificate as Existing, lint::Finding},
};

use super::{
    Concluded, Kind,
    sign_certificate::{self, CertificateEntry},
};
use crate::{
    dry_run::DryRun,
    failure::Failure,
    name::Name,
    plan::{AuthorityKind, Certificate, Step, file::PlanFile, lint::Model},
    progress::{Progress, ProgressError},
    run::Performance,
    script::Sheet,
    transcript::{Decision, Intent, Outcome},
};

/// A certificate that is there already.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct ExistingCertificate {
    /// What it says. Its key is one of the plan's, or one of another machine: then it is called as
    /// the certificate is.
    pub certificate: Certificate,
    /// The certificate (DER).
    #[serde(with = "hex::serde")]
    pub der: Vec<u8>,
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

/// The certificate was taken in.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct Used {
    /// The plan's name of the certificate.
    pub name: Name,
    /// The certificate (DER); in a rehearsal, the one that stands in for it.
    #[serde(with = "hex::serde")]
    pub certificate: Vec<u8>,
}

impl super::Entry for Entry {
    fn resolve(&self, file: &PlanFile) -> Result<Step, Finding> {
        let name = &self.certificate;
        let entry = sign_certificate::declared(file, name)?;
        let unreadable = |what: String| Finding {
            rule: "existing-certificate",
            what: format!("certificate {name}: {what}"),
        };
        let der = match (&entry.existing, &entry.file) {
            (Some(earlier), None) => {
                let verified = earlier.read(&file.directory)?;
                let made = verified.progress.made.certificate(&earlier.name);
                made.map_err(|error| unreadable(error.to_string()))?.to_vec()
            }
            (None, Some(input)) => {
                let text = input.read(&file.directory)?;
                let found = Existing::from_pem(&text);
                found.map_err(|error| unreadable(error.to_string()))?.der().to_vec()
            }
            _ => {
                let what = "takes either `existing` or `file`, and no profile".to_owned();
                return Err(unreadable(what));
            }
        };
        let certificate = entry.read(name, &der).map_err(unreadable)?;
        Ok(Step::UseCertificate(ExistingCertificate { certificate, der }))
    }

    fn makes(&self) -> Option<(&'static str, &Name)> {
        Some(("certificate", &self.certificate))
    }
}

impl CertificateEntry {
    /// What a certificate says that is there already.
    fn read(&self, name: &Name, der: &[u8]) -> Result<Certificate, String> {
        let found = Existing::from_der(der).map_err(|error| error.to_string())?;
        let subject = found.subject().parse().map_err(|error| format!("its subject: {error}"))?;
        let path_length = found.ca_path_length()?;
        let kind = match (&self.signer, found.is_self_issued()) {
            (None, true) => AuthorityKind::Root { path_length },
            (Some(signer), false) => AuthorityKind::Issuing {
                signer: signer.clone(),
                path_length: path_length.ok_or("it is no root, and has no path length")?,
            },
            (Some(_), true) => return Err("it is a root, and names a signer".to_owned()),
            (None, false) => return Err("it is no root, and names no signer".to_owned()),
        };
        Ok(Certificate {
            name: name.clone(),
            key: self.key.clone().unwrap_or_else(|| name.clone()),
            kind,
            subject,
            not_before: found.not_before(),
            not_after: found.not_after(),
            publication: self.publication.clone(),
            smart_cards: self.smart_cards,
        })
    }
}

impl Kind for ExistingCertificate {
    fn effect(&self) -> String {
        format!("take in the certificate {} that is there already", self.certificate.name)
    }

    fn details(&self) -> Option<String> {
        self.certificate.details()
    }

    fn certificate(&self) -> Option<&Certificate> {
        Some(&self.certificate)
    }

    /// What it says is what the plan says of it; and who holds its key has signed it, or another CA
    /// that is here.
    fn sheet(&self) -> Sheet {
        Sheet {
            explanation: "The certificate is part of the plan, bound by its hash.",
            minutes: 2,
            ..Sheet::default()
        }
    }

    fn lint<'a>(&'a self, model: &mut Model<'a>) {
        let Self { certificate, der } = self;
        let name = &certificate.name;
        match Existing::from_der(der) {
            Ok(found) => {
                let length = found.ca_path_length();
                let same = found.is_named(&certificate.subject)
                    && found.not_before() == certificate.not_before
                    && found.not_after() == certificate.not_after
                    && length == Ok(certificate.kind.path_length());
                model.require(same && !Existing::is_poisoned(der), "existing-certificate", || {
                    format!("certificate {name} is no CA's that the plan can take over to the byte")
                });
                self.check_key(model, &found);
                self.check_signer(model, &found);
            }
            Err(error) => model.find("existing-certificate", format!("{name}: {error}")),
        }
        model.add_certificate(certificate);
        model.existing.insert(name, der);
    }

    fn dry_run(&self, dry: &mut DryRun<'_>) -> Result<(), Failure> {
        dry.stand_in(&self.certificate)
    }

    fn perform(&self, performance: &mut Performance<'_>) -> Result<(), Failure> {
        let name = self.certificate.name.clone();
        if performance.progress.in_doubt().is_some() {
            performance.decide(Decision::Repeat)?;
        } else {
            performance.intend(Intent::UseCertificate(Intended { name: name.clone() }))?;
        }
        let certificate = if performance.progress.opened.is_rehearsal() {
            performance.stand_in(&self.certificate)?
        } else {
            self.der.clone()
        };
        performance.conclude(Outcome::CertificateUsed(Used { name, certificate }))
    }

    fn intend(&self, intent: &Intent, progress: &Progress) -> Result<(), ProgressError> {
        let planned = Intended { name: self.certificate.name.clone() };
        let holds = *intent == Intent::UseCertificate(planned);
        progress.require(holds, "the intent to take the planned certificate in")
    }

    fn conclude(
        &self,
        _: &Intent,
        outcome: &Outcome,
        progress: &mut Progress,
    ) -> Result<Concluded, ProgressError> {
        let Outcome::CertificateUsed(Used { name, certificate }) = outcome else {
            return Err(progress.unexpected("the certificate that was taken in"));
        };
        progress.require(*name == self.certificate.name, "the planned certificate")?;
        if progress.opened.is_rehearsal() {
            return progress.take_stand_in(&self.certificate, certificate);
        }
        progress.require(*certificate == self.der, "the planned certificate")?;
        if progress.made.public_key(&self.certificate.key).is_err() {
            let found = Existing::from_der(certificate)
                .map_err(|_| progress.unexpected("a certificate that can be read"))?;
            let key = found.public_key().clone();
            progress.made.add_foreign(self.certificate.key.clone(), key);
        }
        progress.made.add_certificate(&self.certificate, certificate.clone())?;
        Ok(Concluded::Done)
    }

    fn after_interruption(&self) -> &'static str {
        "it takes the certificate in"
    }
}

impl ExistingCertificate {
    fn check_key<'a>(&'a self, model: &mut Model<'a>, found: &Existing) {
        let (name, key) = (&self.certificate.name, &self.certificate.key);
        let planned = model.script.steps.iter().find_map(|step| match step {
            Step::UseKey(existing) if existing.name == *key => Some(existing),
            _ => None,
        });
        match planned {
            Some(existing) if model.keys.contains_key(key) => {
                let same = existing.key.public_key == *found.public_key()
                    && existing.key.label.purpose() == Purpose::Issuing;
                model.require(same, "existing-certificate-of-key", || {
                    format!("certificate {name} is not for the key {key}")
                });
            }
            None if key == name => model.foreign.extend([(key, found.subject().to_owned())]),
            _ => model.find(
                "key-before-certificate",
                format!("certificate {name} is taken in before its key {key} is found"),
            ),
        }
    }

    fn check_signer(&self, model: &mut Model<'_>, found: &Existing) {
        let name = &self.certificate.name;
        let signer = match &self.certificate.kind {
            AuthorityKind::Root { .. } => Ok(found.clone()),
            AuthorityKind::Issuing { signer, .. } | AuthorityKind::Cross { signer, .. } => {
                match model.existing.get(signer) {
                    Some(der) => Existing::from_der(der).map_err(|error| error.to_string()),
                    None => Err(format!("its signer {signer} was not taken in before")),
                }
            }
        };
        let signed = signer.and_then(|signer| found.check_signed_by(&signer));
        if let Err(what) = signed {
            model.find("existing-certificate-signed", format!("certificate {name}: {what}"));
        }
    }
}
