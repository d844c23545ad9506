//! The plan as people write it: TOML, with names that refer to each other.

use std::collections::{BTreeMap, BTreeSet};

use pki::x509::lint::Finding;
use serde::Deserialize;

use super::{Schema, Script, SshAuthority, Step};
use crate::{
    environment::Demands,
    name::Name,
    people::{People, Person, Quorum},
    steps::{
        Entry, back_up_key, close, destroy_key,
        generate_key::{self, KeyEntry},
        hand_off, pin_rotate, shares_verify,
        sign_certificate::{self, CertificateEntry},
        sign_off, split_shares, token_init,
    },
};

/// A plan file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PlanFile {
    schema: Schema,
    id: Name,
    #[serde(default)]
    pub(crate) keys: BTreeMap<Name, KeyEntry>,
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
    Close(close::Entry),
    GenerateKey(generate_key::Entry),
    GenerateWithBackup(back_up_key::Entry),
    HandOff(hand_off::Entry),
    KeyDestroy(destroy_key::DestroyKey),
    PinRotate(pin_rotate::PinRotate),
    PinSplit(split_shares::Entry),
    ShareRotate(split_shares::RotateEntry),
    SharesVerify(shares_verify::SharesVerify),
    SignCertificate(sign_certificate::Entry),
    SignOff(sign_off::Entry),
    TokenInit(token_init::Entry),
}

impl StepEntry {
    fn entry(&self) -> &dyn Entry {
        match self {
            Self::Close(entry) => entry,
            Self::GenerateKey(entry) => entry,
            Self::GenerateWithBackup(entry) => entry,
            Self::HandOff(entry) => entry,
            Self::KeyDestroy(entry) => entry,
            Self::PinRotate(entry) => entry,
            Self::PinSplit(entry) => entry,
            Self::ShareRotate(entry) => entry,
            Self::SharesVerify(entry) => entry,
            Self::SignCertificate(entry) => entry,
            Self::SignOff(entry) => entry,
            Self::TokenInit(entry) => entry,
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

    /// What is declared and never made was probably meant to be.
    fn unused(&self) -> Vec<Finding> {
        let used: BTreeSet<_> = self.steps.iter().filter_map(|it| it.entry().makes()).collect();
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
