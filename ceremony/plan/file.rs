//! The plan as people write it: TOML, with names that refer to each other.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use pki::{
    keys::KeyAlgorithm,
    names::DistinguishedName,
    token::KeyLabel,
    x509::{Publication, lint::Finding},
};
use serde::{Deserialize, Deserializer, de::Error as _};

use super::{AuthorityKind, Certificate, Key, Schema, Script, SshAuthority, Step};
use crate::{
    name::Name,
    people::{People, Person, Quorum},
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PlanFile {
    schema: Schema,
    id: Name,
    keys: BTreeMap<Name, KeyEntry>,
    #[serde(default)]
    certificates: BTreeMap<Name, CertificateEntry>,
    #[serde(default)]
    ssh: BTreeMap<Name, SshAuthority>,
    #[serde(default)]
    role: Vec<RoleEntry>,
    #[serde(default)]
    persons: BTreeMap<Name, Person>,
    #[serde(default)]
    quorum: Quorum,
    steps: Vec<StepEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyEntry {
    algorithm: KeyAlgorithm,
    label: KeyLabel,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CertificateEntry {
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RoleEntry {
    name: Name,
    min: u32,
}

/// Struct variants even where they are empty: serde lets unknown fields pass in unit variants.
#[derive(Deserialize)]
#[serde(tag = "do", deny_unknown_fields, rename_all = "kebab-case")]
enum StepEntry {
    GenerateKey { key: Name },
    HandOff {},
    SignCertificate { certificate: Name },
    SignOff {},
    TokenInit {},
}

impl PlanFile {
    /// Replaces names by what they stand for. Steps of unknown names are left out and found.
    pub(super) fn resolve(self) -> (Script, Vec<Finding>) {
        let resolved: Vec<_> = self.steps.iter().map(|entry| self.step(entry)).collect();
        let mut findings = self.unused();
        let mut steps = Vec::with_capacity(resolved.len());
        for step in resolved {
            match step {
                Ok(step) => steps.push(step),
                Err(finding) => findings.push(finding),
            }
        }
        let mut roles = BTreeMap::new();
        for RoleEntry { name, min } in self.role {
            if roles.insert(name.clone(), min).is_some() {
                let what = format!("the role {name} is there twice");
                findings.push(Finding { rule: "role-once", what });
            }
        }
        let people = People { roles, persons: self.persons, quorum: self.quorum };
        (Script { schema: self.schema, id: self.id, steps, ssh: self.ssh, people }, findings)
    }

    fn step(&self, entry: &StepEntry) -> Result<Step, Finding> {
        match entry {
            StepEntry::GenerateKey { key } => self.key(key).map(Step::GenerateKey),
            StepEntry::HandOff {} => Ok(Step::HandOff),
            StepEntry::SignCertificate { certificate } => {
                self.certificate(certificate).map(Step::SignCertificate)
            }
            StepEntry::SignOff {} => Ok(Step::SignOff),
            StepEntry::TokenInit {} => Ok(Step::TokenInit),
        }
    }

    fn key(&self, name: &Name) -> Result<Key, Finding> {
        let entry = self.keys.get(name).ok_or_else(|| Finding {
            rule: "key-unknown",
            what: format!("a step names the key {name}, which [keys] does not have"),
        })?;
        Ok(Key { name: name.clone(), algorithm: entry.algorithm, label: entry.label.clone() })
    }

    fn certificate(&self, name: &Name) -> Result<Certificate, Finding> {
        let entry = self.certificates.get(name).ok_or_else(|| Finding {
            rule: "certificate-unknown",
            what: format!(
                "a step names the certificate {name}, which [certificates] does not have"
            ),
        })?;
        Ok(Certificate {
            name: name.clone(),
            key: entry.key.clone(),
            kind: entry.kind(name)?,
            subject: entry.subject.clone(),
            not_before: entry.not_before,
            not_after: entry.not_after,
            publication: entry.publication.clone(),
        })
    }

    /// What is declared and never made was probably meant to be.
    fn unused(&self) -> Vec<Finding> {
        let used: BTreeSet<_> = self.steps.iter().filter_map(StepEntry::named).collect();
        let keys = self.keys.keys().map(|name| ("key", name));
        let certificates = self.certificates.keys().map(|name| ("certificate", name));
        keys.chain(certificates)
            .filter(|declared| !used.contains(declared))
            .map(|(what, name)| Finding {
                rule: "declared-and-not-made",
                what: format!("no step makes the {what} {name}"),
            })
            .collect()
    }
}

impl StepEntry {
    fn named(&self) -> Option<(&'static str, &Name)> {
        match self {
            Self::GenerateKey { key } => Some(("key", key)),
            Self::SignCertificate { certificate } => Some(("certificate", certificate)),
            Self::HandOff {} | Self::SignOff {} | Self::TokenInit {} => None,
        }
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

/// TOML has dates of its own; only those with an offset are a point in time.
fn timestamp<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
    let date = toml::value::Datetime::deserialize(deserializer)?;
    date.to_string().parse().map_err(|_| {
        D::Error::custom(format!("{date} is not a point in time; write 2026-01-01T00:00:00Z"))
    })
}
