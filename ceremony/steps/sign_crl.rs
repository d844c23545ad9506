//! `sign-crl`: the revocation list of a CA that is offline: which of the certificates that it signed
//! are no longer to be taken.

use jiff::Timestamp;
use pki::{
    keys::Signature,
    seal::Prepared,
    serial::{Serial, X509Serial},
    token::{Input, KeyRef, Token as _},
    x509::{
        Issuer,
        crl::{self, Reason, Revoked, Summary, Template},
        lint::Finding,
    },
};
use serde::Deserialize;

use super::{Concluded, Kind, sign_certificate::timestamp};
use crate::{
    dry_run::DryRun,
    failure::Failure,
    made::{Made, MadeError, foreign},
    name::Name,
    plan::{Plan, Step, file::PlanFile, input::InputFile, lint::Model},
    progress::{Progress, ProgressError},
    run::Performance,
    script::Sheet,
    transcript::{Decision, Intent, Outcome},
};

/// A list to be signed.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct Crl {
    /// What the plan calls it.
    pub name: Name,
    /// The certificate of the CA whose list it is.
    pub signer: Name,
    /// Grows with each list of the CA.
    pub number: u64,
    /// By when there will be another one.
    pub next_update: Timestamp,
    /// What is revoked.
    pub revoked: Vec<RevokedEntry>,
    /// The list before it (PEM); none before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<String>,
}

/// A certificate that is not to be taken any more.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct RevokedEntry {
    /// Its serial number: 32 hexadecimal digits.
    pub serial: String,
    /// Since when.
    pub at: Timestamp,
    /// Why.
    pub reason: Reason,
}

/// `[crls.NAME]` of a plan file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CrlEntry {
    signer: Name,
    number: u64,
    #[serde(default, deserialize_with = "timestamp")]
    next_update: Option<Timestamp>,
    #[serde(default)]
    revoked: Vec<WrittenRevoked>,
    previous: Option<InputFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenRevoked {
    serial: String,
    #[serde(default, deserialize_with = "timestamp")]
    at: Option<Timestamp>,
    reason: Reason,
}

/// The step of a plan file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    crl: Name,
}

/// Sign a list.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct Intended {
    /// The plan's name of the list.
    pub name: Name,
    /// When it is made.
    pub this_update: Timestamp,
    /// The to-be-signed bytes (DER).
    #[serde(with = "hex::serde")]
    pub to_be_signed: Vec<u8>,
}

/// A list was signed, and its signature verified.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct Signed {
    /// The plan's name of the list.
    pub name: Name,
    /// The signature as the token made it.
    #[serde(with = "hex::serde")]
    pub signature: Vec<u8>,
    /// The list (DER).
    #[serde(with = "hex::serde")]
    pub crl: Vec<u8>,
}

impl super::Entry for Entry {
    fn resolve(&self, file: &PlanFile) -> Result<Step, Finding> {
        let name = &self.crl;
        let entry = file.crls.get(name).ok_or_else(|| Finding {
            rule: "crl-unknown",
            what: format!("a step names the list {name}, which [crls] does not have"),
        })?;
        let lacks = |what: &str| Finding {
            rule: "crl-whole",
            what: format!("the list {name} lacks {what}"),
        };
        // DER as it is published, or PEM.
        let previous = entry.previous.as_ref().map(|input| {
            let content = input.bytes(&file.directory)?;
            Ok(String::from_utf8(content).unwrap_or_else(|der| crl::to_pem(der.as_bytes())))
        });
        let revoked = entry.revoked.iter().map(|entry| {
            let WrittenRevoked { serial, at, reason } = entry;
            let at = at.ok_or_else(|| lacks("the time of a revocation"))?;
            Ok(RevokedEntry { serial: serial.clone(), at, reason: *reason })
        });
        Ok(Step::SignCrl(Crl {
            name: name.clone(),
            signer: entry.signer.clone(),
            number: entry.number,
            next_update: entry.next_update.ok_or_else(|| lacks("next_update"))?,
            revoked: revoked.collect::<Result<_, Finding>>()?,
            previous: previous.transpose()?,
        }))
    }

    fn makes(&self) -> Option<(&'static str, &Name)> {
        Some(("list", &self.crl))
    }
}

impl Kind for Crl {
    fn effect(&self) -> String {
        let Self { name, signer, number, .. } = self;
        format!("sign the revocation list {name}, number {number}, with {signer}")
    }

    fn details(&self) -> Option<String> {
        let mut details = format!("the next one by {}", self.next_update);
        if self.revoked.is_empty() {
            details += "\nnothing is revoked";
        }
        for RevokedEntry { serial, at, reason } in &self.revoked {
            details += &format!("\nrevoked {serial} at {at}: {}", word(*reason));
        }
        Some(details)
    }

    fn sheet(&self) -> Sheet {
        Sheet {
            explanation: "The list is built and linted, and on both media before the token signs it. The \
                          signature is verified before the list is recorded.",
            minutes: 4,
            ..Sheet::default()
        }
    }

    fn lint<'a>(&'a self, model: &mut Model<'a>) {
        let Self { name, signer, number, .. } = self;
        let first = model.crls.insert(name);
        model.require(first, "sign-once", || format!("the list {name} is signed twice"));
        let Some(certificate) = model.certificates.get(signer).copied() else {
            return model.find(
                "signer-before-crl",
                format!("the list {name} is signed before its signer {signer} is there"),
            );
        };
        model.signers.insert(signer);
        let there = model.keys.contains_key(&certificate.key);
        model.require(there, "signing-key-in-token", || {
            format!(
                "the list {name} is signed with the key {}, which is not in the token",
                certificate.key
            )
        });
        let within = self.next_update <= certificate.not_after;
        model.require(within, "crl-next-update", || {
            format!("the list {name} promises another one when {signer} is not valid any more")
        });
        let serials = self.revoked.iter().all(|entry| entry.serial().is_some());
        model.require(serials, "crl-serials", || {
            format!("the list {name} has what is no serial number: 32 hexadecimal digits of a certificate")
        });
        model.require(*number > 0, "crl-number-grows", || {
            format!("the list {name} has the number 0; the first is 1")
        });
        self.check_previous(model);
    }

    fn dry_run(&self, dry: &mut DryRun<'_>) -> Result<(), Failure> {
        // A second before it promises another one: the dry run has no clock.
        let this_update = Timestamp::from_second(self.next_update.as_second() - 1);
        let prepared =
            self.prepare(&dry.made, dry.plan, this_update.unwrap_or(self.next_update))?;
        let input = Input::Message(prepared.bytes());
        let signature = dry.token.sign(prepared.key().key(), prepared.scheme(), input)?;
        let crl = prepared.seal(signature).map_err(|_| Failure::CrlSignature)?.bytes().to_vec();
        dry.made.crls.insert(self.name.clone(), crl);
        Ok(())
    }

    fn perform(&self, performance: &mut Performance<'_>) -> Result<(), Failure> {
        let name = self.name.clone();
        // What was intended once is what is signed.
        let this_update = match performance.progress.intended() {
            Some(Intent::SignCrl(intended)) => intended.this_update,
            _ => whole_second(performance.clock.now()),
        };
        let Progress { made, plan, .. } = &performance.progress;
        let prepared = self.prepare(made, plan, this_update)?;
        if performance.progress.in_doubt().is_some() {
            performance.decide(Decision::SignAgain)?;
        } else {
            let (name, to_be_signed) = (name.clone(), prepared.bytes().to_vec());
            performance.intend(Intent::SignCrl(Intended { name, this_update, to_be_signed }))?;
        }
        let input = Input::Message(prepared.bytes());
        let session = performance.session()?;
        let Signature(signature) = session.sign(prepared.key().key(), prepared.scheme(), input)?;
        let sealed =
            prepared.seal(Signature(signature.clone())).map_err(|_| Failure::CrlSignature)?;
        let crl = sealed.bytes().to_vec();
        performance.conclude(Outcome::CrlSigned(Signed { name, signature, crl }))
    }

    fn intend(&self, intent: &Intent, progress: &Progress) -> Result<(), ProgressError> {
        let (prepared, intended) = self.prepared(intent, progress)?;
        let same = intended.name == self.name
            && intended.this_update == whole_second(intended.this_update)
            && prepared.bytes() == intended.to_be_signed;
        progress.require(same, "the list as the plan gives it")
    }

    fn decide(&self, decision: &Decision, _: &Progress) -> bool {
        *decision == Decision::SignAgain
    }

    fn conclude(
        &self,
        intent: &Intent,
        outcome: &Outcome,
        progress: &mut Progress,
    ) -> Result<Concluded, ProgressError> {
        let Outcome::CrlSigned(Signed { name, signature, crl }) = outcome else {
            return Err(progress.unexpected("the list that was signed"));
        };
        let (prepared, _) = self.prepared(intent, progress)?;
        let sealed = prepared
            .seal(Signature(signature.clone()))
            .map_err(|_| progress.unexpected("a signature that verifies"))?;
        let same = *name == self.name && sealed.bytes() == crl;
        progress.require(same, "the list that was sealed")?;
        progress.made.crls.insert(name.clone(), crl.clone());
        Ok(Concluded::Done)
    }

    fn after_interruption(&self) -> &'static str {
        "it signs the same text again"
    }
}

impl Crl {
    /// The text that the plan gives for what was intended.
    fn prepared<'a>(
        &self,
        intent: &'a Intent,
        progress: &Progress,
    ) -> Result<(Prepared<Summary>, &'a Intended), ProgressError> {
        let Intent::SignCrl(intended) = intent else {
            return Err(progress.unexpected("the intent to sign the planned list"));
        };
        let Progress { made, plan, .. } = progress;
        Ok((self.prepare(made, plan, intended.this_update)?, intended))
    }

    fn prepare(
        &self,
        made: &Made,
        plan: &Plan,
        this_update: Timestamp,
    ) -> Result<Prepared<Summary>, MadeError> {
        let missing = || MadeError::Missing { what: "certificate", name: self.signer.clone() };
        let signer = plan.certificate(&self.signer).ok_or_else(missing)?;
        let revoked = self.revoked.iter().filter_map(|entry| {
            let RevokedEntry { at, reason, .. } = entry;
            Some(Revoked { serial: entry.serial()?, at: *at, reason: *reason })
        });
        let template = Template {
            number: self.number,
            this_update,
            next_update: self.next_update,
            revoked: revoked.collect(),
        };
        let lint = |findings| MadeError::Lint { name: self.name.clone(), findings };
        made.authority(signer)?.prepare_crl(&template).map_err(lint)
    }

    /// Numbers grow, and what was revoked once stays so.
    fn check_previous(&self, model: &mut Model<'_>) {
        let Self { name, signer, number, .. } = self;
        let Some(previous) = &self.previous else {
            return model.require(*number == 1, "crl-number-grows", || {
                format!("the list {name} is not the first: say which was before it in `previous`")
            });
        };
        let issuer = model
            .existing
            .get(signer)
            .zip(model.certificates.get(signer))
            .and_then(|(der, certificate)| as_signer(der, &certificate.name));
        let before = crl::from_pem(previous)
            .ok()
            .zip(issuer)
            .and_then(|(der, issuer)| issuer.recognise_crl(&der));
        let Some(before) = before else {
            return model.find(
                "crl-previous",
                format!("what is before the list {name} is no list that {signer} signed"),
            );
        };
        model.require(before.number < *number, "crl-number-grows", || {
            format!("the list {name} has the number {number}, and {} was there", before.number)
        });
        let kept =
            |old: &Revoked| self.revoked.iter().any(|entry| entry.serial() == Some(old.serial));
        let lost = before.revoked.iter().find(|old| !kept(old));
        if let Some(Revoked { serial, .. }) = lost {
            let what = format!("the list {name} no longer has {serial}, which was revoked");
            model.find("crl-keeps-what-was-revoked", what);
        }
    }
}

impl RevokedEntry {
    fn serial(&self) -> Option<X509Serial> {
        match self.serial.parse() {
            Ok(Serial::X509(serial)) => Some(serial),
            _ => None,
        }
    }
}

/// A CA by its certificate alone, to recognise what it signed.
fn as_signer(der: &[u8], name: &Name) -> Option<Issuer> {
    let public_key = pki::x509::Certificate::from_der(der).ok()?.public_key().clone();
    let (label, id) = foreign(name).ok()?;
    let key = pki::token::IssuingKey::new(KeyRef { label, id, public_key }).ok()?;
    Issuer::new(der.to_vec(), key, pki::x509::Publication::default()).ok()
}

fn whole_second(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// As a plan writes it.
fn word(reason: Reason) -> &'static str {
    match reason {
        Reason::AffiliationChanged => "affiliation-changed",
        Reason::CaCompromise => "ca-compromise",
        Reason::CessationOfOperation => "cessation-of-operation",
        Reason::KeyCompromise => "key-compromise",
        Reason::PrivilegeWithdrawn => "privilege-withdrawn",
        Reason::Superseded => "superseded",
        Reason::Unspecified => "unspecified",
    }
}
