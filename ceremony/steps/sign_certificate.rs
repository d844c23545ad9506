//! `sign-certificate`: a CA's certificate is signed by a key in the token.

use jiff::Timestamp;
use pki::{
    keys::{KeyAlgorithm, Signature},
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
    plan::{
        Step,
        file::PlanFile,
        input::{Earlier, InputFile},
        lint::Model,
    },
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
    /// Whether it signs what people log on to Windows with, or domain controllers.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub smart_cards: bool,
}

/// The CAs that a ceremony certifies. Certificates of others come from the appliance.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum AuthorityKind {
    /// Of a CA that has a certificate already, with the same subject and key, signed by another.
    Cross {
        /// The certificate that it has.
        of: Name,
        /// The certificate whose key signs.
        signer: Name,
        /// How many CAs may stand below it.
        path_length: u8,
    },
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
    pub(crate) key: Option<Name>,
    /// The ceremony that signed it.
    pub(crate) existing: Option<Earlier>,
    /// The certificate that is there already.
    pub(crate) file: Option<InputFile>,
    /// A text and no enum, so that the profiles of leaves get an answer of their own.
    profile: Option<String>,
    /// The certificate that a cross-certificate is beside.
    of: Option<Name>,
    pub(crate) signer: Option<Name>,
    path_length: Option<u8>,
    subject: Option<DistinguishedName>,
    #[serde(default, deserialize_with = "timestamp")]
    not_before: Option<Timestamp>,
    #[serde(default, deserialize_with = "timestamp")]
    not_after: Option<Timestamp>,
    #[serde(default)]
    pub(crate) publication: Publication,
    #[serde(default)]
    pub(crate) smart_cards: bool,
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
        let entry = declared(file, &self.certificate)?;
        Ok(Step::SignCertificate(entry.resolve(file, &self.certificate)?))
    }

    fn makes(&self) -> Option<(&'static str, &Name)> {
        Some(("certificate", &self.certificate))
    }
}

/// The certificate's entry in the plan file.
pub(crate) fn declared<'a>(
    file: &'a PlanFile,
    name: &Name,
) -> Result<&'a CertificateEntry, Finding> {
    file.certificates.get(name).ok_or_else(|| Finding {
        rule: "certificate-unknown",
        what: format!("a step names the certificate {name}, which [certificates] does not have"),
    })
}

impl CertificateEntry {
    /// Whether it is one beside another; of these, there is none.
    pub(crate) fn is_cross(&self) -> bool {
        self.of.is_some()
    }

    /// The certificate that is to be signed, here or elsewhere.
    pub(crate) fn resolve(&self, file: &PlanFile, name: &Name) -> Result<Certificate, Finding> {
        let kind = self.kind(name)?;
        let lacks = |what: &str| Finding {
            rule: "certificate-whole",
            what: format!("certificate {name} lacks {what}"),
        };
        if self.existing.is_some() || self.file.is_some() {
            return Err(Finding {
                rule: "certificate-to-be-signed",
                what: format!("certificate {name} is there already: use-certificate takes it in"),
            });
        }
        let (key, subject) = match &kind {
            AuthorityKind::Cross { of, .. } => {
                if self.key.is_some() || self.subject.is_some() {
                    return Err(Finding {
                        rule: "cross-certificate-of",
                        what: format!(
                            "certificate {name} has key and subject of {of}, not its own"
                        ),
                    });
                }
                file.key_and_subject(of)?
            }
            AuthorityKind::Issuing { .. } | AuthorityKind::Root { .. } => (
                self.key.clone().ok_or_else(|| lacks("key"))?,
                self.subject.clone().ok_or_else(|| lacks("subject"))?,
            ),
        };
        Ok(Certificate {
            name: name.clone(),
            key,
            kind,
            subject,
            not_before: self.not_before.ok_or_else(|| lacks("not_before"))?,
            not_after: self.not_after.ok_or_else(|| lacks("not_after"))?,
            publication: self.publication.clone(),
            smart_cards: self.smart_cards,
        })
    }

    fn kind(&self, name: &Name) -> Result<AuthorityKind, Finding> {
        let profile = self.profile.as_deref().unwrap_or_default();
        match (profile, &self.signer, self.path_length, &self.of) {
            ("root", None, path_length, None) => Ok(AuthorityKind::Root { path_length }),
            ("root", ..) => Err(Finding {
                rule: "root-signs-itself",
                what: format!("the root certificate {name} names a signer, or another certificate"),
            }),
            ("issuing", Some(signer), Some(path_length), None) => {
                Ok(AuthorityKind::Issuing { signer: signer.clone(), path_length })
            }
            ("issuing", ..) => Err(Finding {
                rule: "issuing-needs-signer-and-path-length",
                what: format!(
                    "the issuing certificate {name} lacks signer or path_length, or has `of`"
                ),
            }),
            ("cross", Some(signer), Some(path_length), Some(of)) => {
                let (of, signer) = (of.clone(), signer.clone());
                Ok(AuthorityKind::Cross { of, signer, path_length })
            }
            ("cross", ..) => Err(Finding {
                rule: "cross-needs-of-signer-and-path-length",
                what: format!("the cross-certificate {name} lacks of, signer or path_length"),
            }),
            _ => Err(Finding {
                rule: "profile-is-a-cas",
                what: format!(
                    "certificate {name} has the profile {profile:?}; a ceremony certifies CAs \
                     (root, issuing, cross), everything else comes from the appliance"
                ),
            }),
        }
    }
}

impl Kind for Certificate {
    fn effect(&self) -> String {
        let name = &self.name;
        match &self.kind {
            AuthorityKind::Cross { of, signer, .. } => {
                format!("sign the cross-certificate {name} of {of} with {signer}")
            }
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

    fn certificate(&self) -> Option<&Certificate> {
        Some(self)
    }

    fn lint<'a>(&'a self, model: &mut Model<'a>) {
        self.check(model);
        self.check_signing_key(model);
        model.add_certificate(self);
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
        let key = performance.progress.made.public_key(&self.key)?.clone();
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

    fn decide(&self, decision: &Decision, _: &Progress) -> bool {
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

    /// What must hold before the certificate is signed, here or elsewhere.
    pub(crate) fn check<'a>(&'a self, model: &mut Model<'a>) {
        self.check_key(model);
        self.check_validity(model);
        self.check_subject(model);
        self.check_smart_cards(model);
        match &self.kind {
            AuthorityKind::Cross { of, signer, path_length } => {
                self.check_cross(model, of);
                self.check_signer(model, signer, *path_length);
            }
            AuthorityKind::Issuing { signer, path_length } => {
                self.check_signer(model, signer, *path_length);
            }
            AuthorityKind::Root { .. } => {}
        }
    }

    /// The name of the certificate whose key signs; its own for a root.
    pub(crate) fn signer(&self) -> &Name {
        match &self.kind {
            AuthorityKind::Cross { signer, .. } | AuthorityKind::Issuing { signer, .. } => signer,
            AuthorityKind::Root { .. } => &self.name,
        }
    }

    fn check_key(&self, model: &mut Model<'_>) {
        let (name, key) = (&self.name, &self.key);
        if let Some(subject) = model.foreign.get(key) {
            // RFC 2986 section 3: the subject of the request is whom the certificate is for.
            let same = subject.is_empty() || *subject == self.subject.as_str();
            return model.require(same, "subject-of-request", || {
                format!("certificate {name} has another subject than what {key} asks for")
            });
        }
        let Some(made) = model.keys.get(key) else {
            return model.find(
                "key-before-certificate",
                format!("certificate {name} is signed before its key {key} is there"),
            );
        };
        let (issuing, label) = (made.label.purpose() == Purpose::Issuing, made.label);
        model.require(issuing, "certificate-of-issuing-key", || {
            format!("certificate {name} is for the key {label}, which is not for issuing")
        });
    }

    /// What signs must be in the token.
    fn check_signing_key(&self, model: &mut Model<'_>) {
        let signer = self.signer();
        let key = model.certificates.get(signer).map_or(&self.key, |signer| &signer.key);
        model.require(model.keys.contains_key(key), "signing-key-in-token", || {
            format!(
                "certificate {} is signed with the key {key}, which is not in the token",
                self.name
            )
        });
    }

    /// A cross-certificate is of the same CA: its name and its key.
    fn check_cross(&self, model: &mut Model<'_>, of: &Name) {
        let other = model.certificates.get(of).copied();
        let same = other.is_some_and(|other| {
            other.key == self.key
                && other.subject == self.subject
                && !matches!(other.kind, AuthorityKind::Cross { .. })
        });
        model.require(same, "cross-certificate-of", || {
            format!("certificate {} is not of the CA of {of}, or that is not there yet", self.name)
        });
    }

    /// KDCs take RSA with PKCS#1 v1.5, some nothing else, and look for a CRL of each CA.
    fn check_smart_cards(&self, model: &mut Model<'_>) {
        if !self.smart_cards {
            return;
        }
        let name = &self.name;
        let rsa = |key: &Name, model: &Model<'_>| {
            model.keys.get(key).is_none_or(|key| is_rsa(key.algorithm))
        };
        let signer = model.certificates.get(self.signer()).copied();
        let all_rsa = rsa(&self.key, model) && signer.is_none_or(|it| rsa(&it.key, model));
        model.require(all_rsa, "smart-cards-rsa", || {
            format!("{name} is for smart cards: it and its signer have RSA keys")
        });
        let heard = signer.is_none_or(|it| it.publication.crl_url.is_some());
        model.require(heard, "smart-cards-publication", || {
            format!("{name} is for smart cards: its signer has a crl_url in its publication")
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
        if matches!(self.kind, AuthorityKind::Cross { .. }) {
            return;
        }
        let same = |other: &&&Self| {
            other.subject == self.subject && !matches!(other.kind, AuthorityKind::Cross { .. })
        };
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
    /// How many CAs may stand below it; `None` for any number.
    pub fn path_length(&self) -> Option<u8> {
        match self {
            Self::Cross { path_length, .. } | Self::Issuing { path_length, .. } => {
                Some(*path_length)
            }
            Self::Root { path_length } => *path_length,
        }
    }
}

/// TOML has dates of its own; only those with an offset are a point in time.
pub(crate) fn timestamp<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Timestamp>, D::Error> {
    let date = toml::value::Datetime::deserialize(deserializer)?;
    date.to_string().parse().map(Some).map_err(|_| {
        D::Error::custom(format!("{date} is not a point in time; write 2026-01-01T00:00:00Z"))
    })
}

fn is_rsa(algorithm: KeyAlgorithm) -> bool {
    use KeyAlgorithm::{EcP256, EcP384, Ed25519, Rsa2048, Rsa3072, Rsa4096};
    match algorithm {
        Rsa2048 | Rsa3072 | Rsa4096 => true,
        EcP256 | EcP384 | Ed25519 => false,
    }
}
