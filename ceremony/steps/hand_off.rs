//! `hand-off`: every key is looked for once more, the transcript is closed, and what the appliance
//! reads is written.

use std::collections::BTreeMap;

use pki::{token::Purpose, x509::lint::Finding};

use super::Kind;
use crate::{
    failure::Failure,
    name::Name,
    plan::{
        AuthorityKind, Step,
        file::PlanFile,
        lint::{Model, ModelKey},
    },
    run::Performance,
    script::Sheet,
};

/// The step. Its record is `closed`, and [`Progress`](crate::progress::Progress) takes it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HandOff;

/// The step of a plan file.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {}

impl super::Entry for Entry {
    fn resolve(&self, _: &PlanFile) -> Result<Step, Finding> {
        Ok(Step::HandOff)
    }
}

impl Kind for HandOff {
    fn effect(&self) -> String {
        "close the transcript and write the hand-off".to_owned()
    }

    fn sheet(&self) -> Sheet {
        Sheet {
            explanation: "A fresh session finds every key again. The transcript is closed, and what the \
                          appliance reads is written from it.",
            minutes: 3,
            confirmed: false,
            ..Sheet::default()
        }
    }

    fn closes(&self) -> bool {
        true
    }

    fn lint<'a>(&'a self, model: &mut Model<'a>) {
        model.close();
        check_publication_key(model);
        check_uses(model);
    }

    fn perform(&self, performance: &mut Performance<'_>) -> Result<(), Failure> {
        performance.close()
    }
}

fn check_publication_key(model: &mut Model<'_>) {
    let publication = |key: &&ModelKey<'_>| key.label.purpose() == Purpose::Publication;
    let count = model.keys.values().filter(publication).count();
    model.require(count == 1, "one-publication-key", || {
        format!("the hand-off needs one key labelled publication/…, the plan has {count}")
    });
}

/// Each issuing key is one CA: a signature of an SSH CA and of an X.509 CA must never be
/// exchangeable, nor a host's and a user's. A cross-certificate is of a CA that is counted already.
fn check_uses(model: &mut Model<'_>) {
    let mut uses: BTreeMap<&Name, Vec<String>> = BTreeMap::new();
    for certificate in model.certificates.values() {
        if !matches!(certificate.kind, AuthorityKind::Cross { .. }) {
            let used = uses.entry(&certificate.key).or_default();
            used.push(format!("certificate {}", certificate.name));
        }
    }
    for (name, authority) in &model.script.ssh {
        uses.entry(&authority.key).or_default().push(format!("SSH CA {name}"));
        check_ssh_key(model, name, &authority.key);
    }
    for (key, ModelKey { label, .. }) in model.keys.clone() {
        let uses = uses.get(key).map_or(&[][..], Vec::as_slice);
        model.require(uses.len() < 2, "one-use-per-key", || {
            format!("key {key} is used for {}", uses.join(" and "))
        });
        let idle = uses.is_empty() && label.purpose() == Purpose::Issuing;
        model.require(!idle, "issuing-key-has-a-use", || {
            format!("key {key} is for issuing, and has neither certificate nor SSH CA")
        });
    }
}

fn check_ssh_key(model: &mut Model<'_>, name: &Name, key: &Name) {
    let Some(made) = model.keys.get(key).copied() else {
        return model.find("ssh-ca-key", format!("no step makes the key {key} of SSH CA {name}"));
    };
    model.require(made.label.purpose() == Purpose::Issuing, "ssh-ca-key", || {
        format!("SSH CA {name} has the key {}, which is not for issuing", made.label)
    });
}
