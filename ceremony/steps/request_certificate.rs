//! `request-certificate`: a request (PKCS#10) is made for a key in the token, and written out for the
//! CA on another machine.

use pki::{
    keys::Signature,
    names::DistinguishedName,
    token::{Input, Token as _},
    x509::{csr::PreparedRequest, lint::Finding},
};

use super::{Concluded, Kind, sign_certificate};
use crate::{
    dry_run::DryRun,
    failure::Failure,
    made::{Made, MadeError},
    name::Name,
    plan::{Step, file::PlanFile, lint::Model},
    progress::{Progress, ProgressError},
    run::Performance,
    script::Sheet,
    transcript::{Decision, Intent, Outcome},
};

/// A request to be made.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct OwnRequest {
    /// The plan's name of the certificate that is asked for, and of the request.
    pub name: Name,
    /// The key that is to be certified.
    pub key: Name,
    /// The subject's distinguished name.
    pub subject: DistinguishedName,
}

/// The step of a plan file.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    certificate: Name,
}

/// Sign a request.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct Intended {
    /// The plan's name of the certificate that is asked for.
    pub name: Name,
    /// The to-be-signed bytes (DER).
    #[serde(with = "hex::serde")]
    pub to_be_signed: Vec<u8>,
}

/// A request was signed, and its signature verified.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct Requested {
    /// The plan's name of the certificate that is asked for.
    pub name: Name,
    /// The signature as the token made it.
    #[serde(with = "hex::serde")]
    pub signature: Vec<u8>,
    /// The request (PEM).
    pub request: String,
}

impl super::Entry for Entry {
    fn resolve(&self, file: &PlanFile) -> Result<Step, Finding> {
        let entry = sign_certificate::declared(file, &self.certificate)?;
        let certificate = entry.resolve(file, &self.certificate)?;
        let sign_certificate::Certificate { name, key, subject, .. } = certificate;
        Ok(Step::RequestCertificate(OwnRequest { name, key, subject }))
    }
}

impl Kind for OwnRequest {
    fn effect(&self) -> String {
        format!("sign a request for the certificate {} with its key, and write it out", self.name)
    }

    fn details(&self) -> Option<String> {
        Some(self.subject.to_string())
    }

    fn sheet(&self) -> Sheet {
        Sheet {
            explanation: "The key signs a request, which is written into the exchange directory. Its \
                          SHA-256 goes into the plan of the other machine.",
            blanks: vec!["first 16 digits of its SHA-256".to_owned()],
            minutes: 5,
            ..Sheet::default()
        }
    }

    fn lint<'a>(&'a self, model: &mut Model<'a>) {
        model.require(model.keys.contains_key(&self.key), "signing-key-in-token", || {
            format!(
                "the request {} is signed with the key {}, which is not there",
                self.name, self.key
            )
        });
        model.requests.insert(&self.name, self);
    }

    fn dry_run(&self, dry: &mut DryRun<'_>) -> Result<(), Failure> {
        let prepared = self.prepare(&dry.made)?;
        let key = dry.made.key(&self.key)?.clone();
        let input = Input::Message(prepared.bytes());
        let signature = dry.token.sign(&key, prepared.scheme(), input)?;
        let request = prepared.seal(&signature).map_err(|_| Failure::RequestSignature)?;
        dry.made.requests.insert(self.name.clone(), request);
        Ok(())
    }

    fn perform(&self, performance: &mut Performance<'_>) -> Result<(), Failure> {
        let name = self.name.clone();
        let prepared = self.prepare(&performance.progress.made)?;
        if performance.progress.in_doubt().is_some() {
            performance.decide(Decision::SignAgain)?;
        } else {
            let to_be_signed = prepared.bytes().to_vec();
            let intended = Intended { name: name.clone(), to_be_signed };
            performance.intend(Intent::RequestCertificate(intended))?;
        }
        let key = performance.progress.made.key(&self.key)?.clone();
        let input = Input::Message(prepared.bytes());
        let signature = performance.session()?.sign(&key, prepared.scheme(), input)?;
        let request = prepared.seal(&signature).map_err(|_| Failure::RequestSignature)?;
        let Signature(signature) = signature;
        let requested = Requested { name, signature, request };
        performance.conclude(Outcome::CertificateRequested(requested))?;
        performance.write_requests()
    }

    fn intend(&self, intent: &Intent, progress: &Progress) -> Result<(), ProgressError> {
        let to_be_signed = self.prepare(&progress.made)?.bytes().to_vec();
        let planned = Intended { name: self.name.clone(), to_be_signed };
        let holds = *intent == Intent::RequestCertificate(planned);
        progress.require(holds, "the request as the plan gives it")
    }

    fn decide(&self, decision: &Decision, _: &Progress) -> bool {
        *decision == Decision::SignAgain
    }

    fn conclude(
        &self,
        _: &Intent,
        outcome: &Outcome,
        progress: &mut Progress,
    ) -> Result<Concluded, ProgressError> {
        let Outcome::CertificateRequested(Requested { name, signature, request }) = outcome else {
            return Err(progress.unexpected("the request that was signed"));
        };
        let sealed = self
            .prepare(&progress.made)?
            .seal(&Signature(signature.clone()))
            .map_err(|_| progress.unexpected("a signature that verifies"))?;
        progress
            .require(*name == self.name && sealed == *request, "the request that was sealed")?;
        progress.made.requests.insert(name.clone(), sealed);
        Ok(Concluded::Done)
    }

    fn after_interruption(&self) -> &'static str {
        "it signs the same text again"
    }
}

impl OwnRequest {
    fn prepare(&self, made: &Made) -> Result<PreparedRequest, MadeError> {
        let key = made.key(&self.key)?.public_key.clone();
        Ok(PreparedRequest::named(key, &self.subject)?)
    }
}
