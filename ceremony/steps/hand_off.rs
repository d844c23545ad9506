//! `hand-off`: every key is looked for once more, the transcript is closed, and what the appliance
//! reads is written.

use std::collections::BTreeMap;

use pki::{
    token::Purpose,
    x509::{Publication, lint::Finding},
};

use super::{Kind, generate_key::Key};
use crate::{
    failure::Failure,
    name::Name,
    plan::{Step, file::PlanFile, lint::Model},
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

    fn lint<'a>(&'a self, model: &mut Model<'a>) {
        let signed = model.signed_off || model.script.people.is_empty();
        model.require(signed, "sign-off-before-hand-off", || {
            "people take part, and nobody signs what was done".into()
        });
        check_publication_key(model);
        check_uses(model);
        check_publications(model);
        model.handed_off = true;
    }

    fn perform(&self, performance: &mut Performance<'_>) -> Result<(), Failure> {
        performance.close()
    }
}

fn check_publication_key(model: &mut Model<'_>) {
    let publication = |key: &&&Key| key.label.purpose() == Purpose::Publication;
    let count = model.keys.values().filter(publication).count();
    model.require(count == 1, "one-publication-key", || {
        format!("the hand-off needs one key labelled publication/…, the plan makes {count}")
    });
}

/// Each issuing key is one CA: a signature of an SSH CA and of an X.509 CA must never be
/// exchangeable, nor a host's and a user's.
fn check_uses(model: &mut Model<'_>) {
    let mut uses: BTreeMap<&Name, Vec<String>> = BTreeMap::new();
    for certificate in model.certificates.values() {
        uses.entry(&certificate.key).or_default().push(format!("certificate {}", certificate.name));
    }
    for (name, authority) in &model.script.ssh {
        uses.entry(&authority.key).or_default().push(format!("SSH CA {name}"));
        check_ssh_key(model, name, &authority.key);
    }
    for key in model.keys.values().copied().collect::<Vec<_>>() {
        let uses = uses.get(&key.name).map_or(&[][..], Vec::as_slice);
        model.require(uses.len() < 2, "one-use-per-key", || {
            format!("key {} is used for {}", key.name, uses.join(" and "))
        });
        let idle = uses.is_empty() && key.label.purpose() == Purpose::Issuing;
        model.require(!idle, "issuing-key-has-a-use", || {
            format!("key {} is for issuing, and has neither certificate nor SSH CA", key.name)
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

fn check_publications(model: &mut Model<'_>) {
    for certificate in model.certificates.values().copied().collect::<Vec<_>>() {
        let heard = model.signers.contains(&certificate.name)
            || certificate.publication == Publication::default();
        model.require(heard, "publication-of-a-signer", || {
            format!(
                "{} signs nothing here, so its publication goes nowhere; an online CA's belongs \
                 into the appliance's configuration",
                certificate.name
            )
        });
    }
}
