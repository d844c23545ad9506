//! The plan as people write it: TOML, with names that refer to each other.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use pki::{names::DistinguishedName, x509::lint::Finding};
use serde::Deserialize;

use super::{Schema, Script, SshAuthority, Step, input::InputFile};
use crate::{
    environment::Demands,
    name::Name,
    people::{People, Person, Quorum},
    steps::{
        Entry, back_up_key, check_environment, close, destroy_key, export,
        generate_key::{self, KeyEntry},
        hand_off, human, import_certificate, import_request, pin_rotate, request_certificate,
        restore_drill, shares_verify,
        sign_certificate::{self, Certificate, CertificateEntry},
        sign_crl::{self, CrlEntry},
        sign_off, split_shares, take_break, token_init, use_certificate, use_key,
    },
};

/// A plan file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PlanFile {
    /// The file's directory: what it names is found from there.
    #[serde(skip)]
    pub(crate) directory: PathBuf,
    schema: Schema,
    id: Name,
    #[serde(default)]
    pub(crate) keys: BTreeMap<Name, KeyEntry>,
    #[serde(default)]
    pub(crate) requests: BTreeMap<Name, InputFile>,
    #[serde(default)]
    pub(crate) crls: BTreeMap<Name, CrlEntry>,
    #[serde(default)]
    pub(crate) certificates: BTreeMap<Name, CertificateEntry>,
    #[serde(default)]
    ssh: BTreeMap<Name, SshAuthority>,
    #[serde(default)]
    role: Vec<RoleEntry>,
    #[serde(default)]
    persons: BTreeMap<Name, Person>,
    #[serde(default)]
    quorum: Quorum,
    #[serde(default)]
    machine: Demands,
    steps: Vec<StepEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RoleEntry {
    name: Name,
    min: u32,
}

/// `[[steps]]`, by what is to be done. Structs even where they are empty: serde lets unknown fields
/// pass in unit variants.
#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
enum StepEntry {
    Break(take_break::TakeBreak),
    Close(close::Entry),
    EnvironmentCheck(check_environment::Entry),
    GenerateKey(generate_key::Entry),
    GenerateWithBackup(back_up_key::Entry),
    HandOff(hand_off::Entry),
    Human(human::Entry),
    KeyDestroy(destroy_key::DestroyKey),
    PinRotate(pin_rotate::PinRotate),
    PinSplit(split_shares::Entry),
    ShareRotate(split_shares::RotateEntry),
    SharesVerify(shares_verify::SharesVerify),
    Export(export::Entry),
    ImportCertificate(import_certificate::Entry),
    ImportRequest(import_request::Entry),
    RequestCertificate(request_certificate::Entry),
    RestoreDrill(restore_drill::Entry),
    SignCertificate(sign_certificate::Entry),
    SignCrl(sign_crl::Entry),
    SignOff(sign_off::Entry),
    TokenInit(token_init::Entry),
    UseCertificate(use_certificate::Entry),
    UseKey(use_key::Entry),
}

impl StepEntry {
    fn entry(&self) -> &dyn Entry {
        match self {
            Self::Break(entry) => entry,
            Self::Close(entry) => entry,
            Self::EnvironmentCheck(entry) => entry,
            Self::GenerateKey(entry) => entry,
            Self::GenerateWithBackup(entry) => entry,
            Self::HandOff(entry) => entry,
            Self::Human(entry) => entry,
            Self::KeyDestroy(entry) => entry,
            Self::PinRotate(entry) => entry,
            Self::PinSplit(entry) => entry,
            Self::ShareRotate(entry) => entry,
            Self::SharesVerify(entry) => entry,
            Self::Export(entry) => entry,
            Self::ImportCertificate(entry) => entry,
            Self::ImportRequest(entry) => entry,
            Self::RequestCertificate(entry) => entry,
            Self::RestoreDrill(entry) => entry,
            Self::SignCertificate(entry) => entry,
            Self::SignCrl(entry) => entry,
            Self::SignOff(entry) => entry,
            Self::TokenInit(entry) => entry,
            Self::UseCertificate(entry) => entry,
            Self::UseKey(entry) => entry,
        }
    }
}

impl PlanFile {
    /// Replaces names by what they stand for. Steps of unknown names are left out and found.
    pub(super) fn resolve(self) -> (Script, Vec<Finding>) {
        let resolved: Vec<_> = self.steps.iter().map(|step| step.entry().resolve(&self)).collect();
        let mut findings = self.unused();
        let mut steps: Vec<Step> = Vec::with_capacity(resolved.len());
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
        let Self { schema, id, ssh, machine, .. } = self;
        (Script { schema, id, steps, ssh, people, machine }, findings)
    }

    /// Key and subject of the CA that a cross-certificate is of.
    pub(crate) fn key_and_subject(
        &self,
        name: &Name,
    ) -> Result<(Name, DistinguishedName), Finding> {
        let unknown = || Finding {
            rule: "cross-certificate-of",
            what: format!(
                "a cross-certificate is of {name}, which is a cross-certificate itself, or which no \
                 step makes or takes in"
            ),
        };
        if self.certificates.get(name).is_none_or(CertificateEntry::is_cross) {
            return Err(unknown());
        }
        let mut entries = self.steps.iter().map(StepEntry::entry);
        let entry = entries.find(|entry| entry.makes() == Some(("certificate", name)));
        let step = entry.ok_or_else(unknown)?.resolve(self)?;
        let Certificate { key, subject, .. } = step.kind().certificate().ok_or_else(unknown)?;
        Ok((key.clone(), subject.clone()))
    }

    /// What is declared and never made was probably meant to be.
    fn unused(&self) -> Vec<Finding> {
        let used: BTreeSet<_> = self.steps.iter().filter_map(|it| it.entry().makes()).collect();
        let keys = self.keys.keys().map(|name| ("key", name));
        let certificates = self.certificates.keys().map(|name| ("certificate", name));
        let requests = self.requests.keys().map(|name| ("request", name));
        let crls = self.crls.keys().map(|name| ("list", name));
        keys.chain(certificates)
            .chain(requests)
            .chain(crls)
            .filter(|declared| !used.contains(declared))
            .map(|(what, name)| Finding {
                rule: "declared-and-not-made",
                what: format!("no step makes the {what} {name}"),
            })
            .collect()
    }
}
