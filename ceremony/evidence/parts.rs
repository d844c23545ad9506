//! The files of a bundle that are made from the transcript alone.

use serde_json::{Value, json};

use super::{ABOUT, About, EvidenceError, Files, VERIFIER, readme::readme};
use crate::{
    clauses::clauses,
    people::{NAMESPACE, Statement},
    qr,
    steps::{
        back_up_key::BackedUp, generate_key::Generated, import_certificate::Imported,
        sign_certificate::Signed, split_shares::Given, use_certificate::Used,
    },
    transcript::{Event, Intent, Outcome, Record, chain},
    verify::Verified,
};

/// All of them.
pub(super) fn made(verified: &Verified, about: &About) -> Result<Files, EvidenceError> {
    let mut parts = Parts(Files::new());
    parts.json(ABOUT, &json!(about));
    parts.put("plan.json", verified.progress.plan.canonical());
    parts.text("heads.txt", &heads(verified));
    parts.text("head.svg", &qr::to_svg(verified.head));
    parts.json("exceptions.json", &exceptions(verified));
    parts.json("clauses.json", &json!(clauses(verified)));
    parts.people(verified);
    verified.transcript.iter().for_each(|record| parts.made_in(record));
    parts.hand_off(verified)?;
    parts.put(VERIFIER, include_bytes!("../verify.py"));
    let explained = readme(verified, &parts.0);
    parts.text("README.txt", &explained);
    Ok(parts.0)
}

struct Parts(Files);

impl Parts {
    fn put(&mut self, name: &str, content: &[u8]) {
        self.0.insert(name.to_owned(), content.to_vec());
    }

    fn text(&mut self, name: &str, text: &str) {
        self.put(name, text.as_bytes());
    }

    fn json(&mut self, name: &str, value: &Value) {
        self.text(name, &format!("{value:#}\n"));
    }

    /// Who may sign, what was signed, and the signatures: for `ssh-keygen -Y verify`.
    fn people(&mut self, verified: &Verified) {
        let progress = &verified.progress;
        let people = &progress.plan.script().people;
        if people.is_empty() {
            return;
        }
        let signer = |(name, person): (_, &crate::people::Person)| {
            format!("{name} namespaces=\"{NAMESPACE}\" {}\n", String::from(person.key.clone()))
        };
        let signers: String = people.persons.iter().map(signer).collect();
        self.text("people/allowed_signers", &signers);
        let plan = progress.plan.hash();
        self.text("people/approval.txt", &Statement::Approval { plan }.to_string());
        for (name, signature) in &progress.opened.approvals {
            self.text(&format!("people/{name}.approval"), signature);
        }
        for record in &verified.transcript {
            let Event::SignedOff { signature } = &record.event else { continue };
            for name in &record.who {
                let statement = Statement::SignOff { plan, head: record.prev };
                self.text(&format!("people/{name}.sign-off.txt"), &statement.to_string());
                self.text(&format!("people/{name}.sign-off"), signature);
            }
        }
    }

    /// What a record says was made, in the forms that other programs read.
    fn made_in(&mut self, record: &Record) {
        match &record.event {
            Event::Intent(Intent::SignCertificate(intended)) => {
                let name = format!("certificates/{}.tbs.der", intended.name);
                self.put(&name, &intended.to_be_signed);
            }
            Event::Intent(Intent::SignCrl(intended)) => {
                self.put(&format!("crls/{}.tbs.der", intended.name), &intended.to_be_signed);
            }
            Event::Outcome(Outcome::CertificateRequested(requested)) => {
                self.text(&format!("requests/{}.csr", requested.name), &requested.request);
            }
            Event::Outcome(Outcome::CrlSigned(signed)) => {
                self.put(&format!("crls/{}.crl", signed.name), &signed.crl);
            }
            Event::Outcome(Outcome::KeyFound(found)) => {
                self.text(&format!("keys/{}.pem", found.name), &found.key.public_key.to_pem());
            }
            Event::Outcome(
                Outcome::CertificateImported(Imported { name, certificate })
                | Outcome::CertificateSigned(Signed { name, certificate, .. })
                | Outcome::CertificateUsed(Used { name, certificate }),
            ) => {
                self.put(&format!("certificates/{name}.der"), certificate);
                self.text(&format!("certificates/{name}.pem"), &pki::x509::to_pem(certificate));
            }
            Event::Outcome(
                Outcome::KeyBackedUp(BackedUp { made: Generated { name, key, .. }, .. })
                | Outcome::KeyGenerated(Generated { name, key, .. }),
            ) => {
                self.text(&format!("keys/{name}.pem"), &key.public_key.to_pem());
            }
            Event::Outcome(Outcome::SharesGiven(Given { name, set })) => {
                self.json(&format!("shares/{name}.json"), &json!(set));
            }
            _ => {}
        }
    }

    /// What the appliance reads.
    fn hand_off(&mut self, verified: &Verified) -> Result<(), EvidenceError> {
        if !verified.progress.plan.hands_off() {
            return Ok(());
        }
        for (name, content) in verified.bundle()?.contents()? {
            self.put(&format!("handoff/{name}"), &content);
        }
        Ok(())
    }
}

/// The hash of the plan, and the head after each record, as people may have seen them on a screen.
fn heads(verified: &Verified) -> String {
    let opened = &verified.progress.opened;
    let mut text = format!("plan {}\nsite {}\n", opened.plan_hash, opened.site_hash);
    let start = chain::start(opened.plan_hash, opened.site_hash, &opened.tool);
    let following = verified.transcript.iter().skip(1).map(|record| record.prev);
    text += &format!("start {start}\n");
    for (head, number) in following.chain([verified.head]).zip(1..) {
        text += &format!("{number} {head}\n");
    }
    text
}

/// Whatever the plan does not have: the records that say so.
fn exceptions(verified: &Verified) -> Value {
    let exceptional = |record: &&Record| {
        matches!(
            record.event,
            Event::Decided(_) | Event::Exception { .. } | Event::Resumed(_) | Event::Stopped { .. }
        )
    };
    verified.transcript.iter().filter(exceptional).map(|record| json!(record)).collect()
}
