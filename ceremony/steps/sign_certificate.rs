//! `sign-certificate`: a CA's certificate is signed by a key in the token.

use jiff::Timestamp;
use pki::{
    keys::Signature,
    names::DistinguishedName,
    seal::Prepared,
    serial::X509Serial,
    token::{Input, Purpose, Token as _},
    x509::{Publication, lint::Finding},
};
use serde::{Deserialize, Deserializer, de::Error as _};

use super::{Concluded, Kind};
use crate::{
    dry_run::DryRun,
    failure::Failure,
    name::Name,
    plan::{Step, file::PlanFile, lint::Model},
    progress::{Progress, ProgressError},
    run::{Performance, random_serial},
    script::Sheet,
    second_opinion::{Expected, LINTERS},
    transcript::{Decision, Intent, Outcome},
};

/// A CA certificate to be signed.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// What the plan calls it; the name of the CA in the hand-off.
    pub name: Name,
    /// The key that it certifies.
    pub key: Name,
    /// What kind of CA it is for.
    pub kind: AuthorityKind,
    /// The subject's distinguished name.
    pub subject: DistinguishedName,
    /// First second of validity.
    pub not_before: Timestamp,
    /// Last second of validity.
    pub not_after: Timestamp,
    /// Where this CA publishes; goes into the certificates that it signs here.
    pub publication: Publication,
}

/// The CAs that a ceremony certifies. Certificates of others come from the appliance.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum AuthorityKind {
    /// Signed by another CA.
    Issuing {
        /// The certificate whose key signs.
        signer: Name,
        /// How many CAs may stand below it.
        path_length: u8,
    },
    /// Signed by itself.
    Root {
        /// How many CAs may stand below it; `None` for any number.
        path_length: Option<u8>,
    },
}

/// `[certificates.NAME]` of a plan file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CertificateEntry {
    key: Name,
    /// A text and no enum, so that the profiles of leaves get an answer of their own.
    profile: String,
    signer: Option<Name>,
    path_length: Option<u8>,
    subject: DistinguishedName,
    #[serde(deserialize_with = "timestamp")]
    not_before: Timestamp,
    #[serde(deserialize_with = "timestamp")]
    not_after: Timestamp,
    #[serde(default)]
    publication: Publication,
}

/// The step of a plan file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    certificate: Name,
}

/// Sign a certificate.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct Intended {
    /// The plan's name of the certificate.
    pub name: Name,
    /// Its serial number.
    #[serde(with = "hex::serde")]
    pub serial: [u8; 16],
    /// The to-be-signed bytes (DER).
    #[serde(with = "hex::serde")]
    pub to_be_signed: Vec<u8>,
}

/// A certificate was signed, and its signature verified.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct Signed {
    /// The plan's name of the certificate.
    pub name: Name,
    /// The signature as the token made it.
    #[serde(with = "hex::serde")]
    pub signature: Vec<u8>,
    /// The certificate (DER).
    #[serde(with = "hex::serde")]
    pub certificate: Vec<u8>,
}

impl super::Entry for Entry {
    fn resolve(&self, file: &PlanFile) -> Result<Step, Finding> {
        let name = &self.certificate;
        let entry = file.certificates.get(name).ok_or_else(|| Finding {
            rule: "certificate-unknown",
            what: format!(
                "a step names the certificate {name}, which [certificates] does not have"
            ),
        })?;
        Ok(Step::SignCertificate(Certificate {
            name: name.clone(),
            key: entry.key.clone(),
            kind: entry.kind(name)?,
            subject: entry.subject.clone(),
            not_before: entry.not_before,
            not_after: entry.not_after,
            publication: entry.publication.clone(),
        }))
    }

    fn makes(&self) -> Option<(&'static str, &Name)> {
        Some(("certificate", &self.certificate))
    }
}

impl CertificateEntry {
    fn kind(&self, name: &Name) -> Result<AuthorityKind, Finding> {
        match (self.profile.as_str(), &self.signer, self.path_length) {
            ("root", None, path_length) => Ok(AuthorityKind::Root { path_length }),
            ("root", Some(_), _) => Err(Finding {
                rule: "root-signs-itself",
                what: format!("the root certificate {name} names a signer"),
            }),
            ("issuing", Some(signer), Some(path_length)) => {
                Ok(AuthorityKind::Issuing { signer: signer.clone(), path_length })
            }
            ("issuing", ..) => Err(Finding {
                rule: "issuing-needs-signer-and-path-length",
                what: format!("the issuing certificate {name} lacks signer or path_length"),
            }),
            (profile, ..) => Err(Finding {
                rule: "profile-is-a-cas",
                what: format!(
                    "certificate {name} has the profile {profile:?}; a ceremony certifies CAs \
                     (root, issuing), everything else comes from the appliance"
                ),
            }),
        }
    }
}

impl Kind for Certificate {
    fn effect(&self) -> String {
        let name = &self.name;
        match &self.kind {
            AuthorityKind::Issuing { signer, .. } => {
                format!("sign the issuing certificate {name} with {signer}")
            }
            AuthorityKind::Root { .. } => format!("sign the root certificate {name} with itself"),
        }
    }

    fn details(&self) -> Option<String> {
        let Self { subject, not_before, not_after, .. } = self;
        Some(format!("{subject}\nvalid from {not_before} to {not_after}"))
    }

    fn sheet(&self) -> Sheet {
        Sheet {
            explanation: "The text is built and linted, and on both media before the token signs it. The \
                          signature is verified before the certificate is recorded.",
            blanks: vec!["serial number".to_owned()],
            minutes: 4,
            ..Sheet::default()
        }
    }

    fn lint<'a>(&'a self, model: &mut Model<'a>) {
        let name = &self.name;
        model.require(!model.certificates.contains_key(name), "sign-once", || {
            format!("certificate {name} is signed twice")
        });
        self.check_key(model);
        self.check_validity(model);
        self.check_subject(model);
        if let AuthorityKind::Issuing { signer, path_length } = &self.kind {
            self.check_signer(model, signer, *path_length);
        }
        model.certificates.insert(name, self);
    }

    fn dry_run(&self, dry: &mut DryRun<'_>) -> Result<(), Failure> {
        let serial = X509Serial::from_random([0; 16]);
        let prepared = dry.made.prepare(self, dry.plan.signer(self), serial)?;
        let input = Input::Message(prepared.bytes());
        let signature = dry.token.sign(prepared.key().key(), prepared.scheme(), input)?;
        let sealed = prepared.seal(signature)?.bytes().to_vec();
        Ok(dry.made.add_certificate(self, sealed)?)
    }

    fn perform(&self, performance: &mut Performance<'_>) -> Result<(), Failure> {
        let name = self.name.clone();
        // What was intended once is what is signed: a second text would be a second certificate.
        let serial = match performance.progress.intended() {
            Some(Intent::SignCertificate(Intended { serial, .. })) => {
                X509Serial::from_random(*serial)
            }
            _ => random_serial()?,
        };
        let prepared = performance.progress.prepare(self, serial)?;
        let to_be_signed = prepared.bytes().to_vec();
        let key = performance.progress.made.key(&self.key)?.clone();
        let expected = Expected { planned: self, key: &key, serial };
        expected.check_text(&to_be_signed)?;
        performance.console.add(&format!("no finding by {}", LINTERS.join(" and ")))?;
        if performance.progress.in_doubt().is_some() {
            performance.decide(Decision::SignAgain)?;
        } else {
            let (serial, to_be_signed) = (*serial.as_bytes(), prepared.bytes().to_vec());
            let intended = Intended { name: name.clone(), serial, to_be_signed };
            performance.intend(Intent::SignCertificate(intended))?;
        }
        let input = Input::Message(prepared.bytes());
        let session = performance.session()?;
        let Signature(signature) = session.sign(prepared.key().key(), prepared.scheme(), input)?;
        let certificate = prepared.seal(Signature(signature.clone()))?.bytes().to_vec();
        expected.check_certificate(&certificate, &to_be_signed)?;
        performance.conclude(Outcome::CertificateSigned(Signed {
            name,
            signature,
            certificate,
        }))?;
        performance.console.add(&format!("serial {serial}"))
    }

    fn intend(&self, intent: &Intent, progress: &Progress) -> Result<(), ProgressError> {
        let wanted = "the certificate as the plan gives it";
        let (prepared, intended) = self.prepared(intent, progress)?;
        let same = intended.name == self.name && prepared.bytes() == intended.to_be_signed;
        progress.require(same, wanted)
    }

    fn decide(&self, decision: &Decision) -> bool {
        *decision == Decision::SignAgain
    }

    fn conclude(
        &self,
        intent: &Intent,
        outcome: &Outcome,
        progress: &mut Progress,
    ) -> Result<Concluded, ProgressError> {
        let Outcome::CertificateSigned(Signed { name, signature, certificate }) = outcome else {
            return Err(progress.unexpected("the certificate that was signed"));
        };
        let (prepared, _) = self.prepared(intent, progress)?;
        let sealed = prepared
            .seal(Signature(signature.clone()))
            .map_err(|_| progress.unexpected("a signature that verifies"))?;
        let same = *name == self.name && sealed.bytes() == certificate;
        progress.require(same, "the certificate that was sealed")?;
        progress.made.add_certificate(self, certificate.clone())?;
        Ok(Concluded::Done)
    }

    fn after_interruption(&self) -> &'static str {
        "it signs the same text again"
    }
}

impl Certificate {
    /// The text that the plan gives for what was intended.
    fn prepared<'a>(
        &self,
        intent: &'a Intent,
        progress: &Progress,
    ) -> Result<(Prepared, &'a Intended), ProgressError> {
        let Intent::SignCertificate(intended) = intent else {
            return Err(progress.unexpected("the intent to sign the planned certificate"));
        };
        let serial = X509Serial::from_random(intended.serial);
        Ok((progress.prepare(self, serial)?, intended))
    }

    fn check_key(&self, model: &mut Model<'_>) {
        let (name, key) = (&self.name, &self.key);
        let Some(made) = model.keys.get(key).copied() else {
            return model.find(
                "key-before-certificate",
                format!("certificate {name} is signed before its key {key} is made"),
            );
        };
        let issuing = made.label.purpose() == Purpose::Issuing;
        model.require(issuing, "certificate-of-issuing-key", || {
            format!("certificate {name} is for the key {}, which is not for issuing", made.label)
        });
    }

    fn check_validity(&self, model: &mut Model<'_>) {
        let Self { name, not_before, not_after, .. } = self;
        model.require(not_before < not_after, "validity-order", || {
            format!("certificate {name} ends before it begins")
        });
        // RFC 5280 section 4.1.2.5: no fractional seconds.
        let whole = |time: &Timestamp| time.subsec_nanosecond() == 0;
        model.require(whole(not_before) && whole(not_after), "validity-in-seconds", || {
            format!("the validity of certificate {name} has fractions of seconds")
        });
    }

    /// One name, one key: relying parties build paths by name (RFC 5280 section 6.1).
    fn check_subject(&self, model: &mut Model<'_>) {
        let same = |other: &&&Self| other.subject == self.subject;
        let other = model.certificates.values().find(same).map(|other| other.name.clone());
        if let Some(other) = other {
            let what = format!("certificates {other} and {} have the same subject", self.name);
            model.find("one-subject-per-ca", what);
        }
    }

    fn check_signer<'a>(&'a self, model: &mut Model<'a>, signer: &'a Name, path_length: u8) {
        let name = &self.name;
        let Some(above) = model.certificates.get(signer).copied() else {
            return model.find(
                "signer-before-certificate",
                format!("certificate {name} is signed before its signer {signer} is"),
            );
        };
        model.signers.insert(signer);
        let nested = above.not_before <= self.not_before && self.not_after <= above.not_after;
        model.require(nested, "validity-nesting", || {
            format!("certificate {name} is valid when its signer {signer} is not")
        });
        // RFC 5280 section 4.2.1.9: the CAs that may follow below the signer.
        let fits = above.kind.path_length().is_none_or(|room| path_length < room);
        model.require(fits, "path-length", || {
            format!(
                "certificate {name} allows {path_length} CAs below it, more than {signer} leaves"
            )
        });
    }
}

impl AuthorityKind {
    pub(crate) fn path_length(&self) -> Option<u8> {
        match self {
            Self::Issuing { path_length, .. } => Some(*path_length),
            Self::Root { path_length } => *path_length,
        }
    }
}

/// TOML has dates of its own; only those with an offset are a point in time.
fn timestamp<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
    let date = toml::value::Datetime::deserialize(deserializer)?;
    date.to_string().parse().map_err(|_| {
        D::Error::custom(format!("{date} is not a point in time; write 2026-01-01T00:00:00Z"))
    })
}
