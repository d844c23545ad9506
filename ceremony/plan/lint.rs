//! Lints: the whole plan is simulated before anything touches the token.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use pki::{token::Purpose, x509::Publication, x509::lint::Finding};

use super::{AuthorityKind, Certificate, Key, Script, Step};
use crate::{
    name::Name,
    people::{Person, Quorum},
};

/// The rules that a script breaks; empty if it may be performed.
pub fn lint(script: &Script) -> Vec<Finding> {
    let mut model = Model::new(script);
    model.check_people();
    script.steps.iter().for_each(|step| model.apply(step));
    model.require(model.handed_off, "hand-off-last", || "the plan ends without a hand-off".into());
    model.findings
}

/// What would be there after the steps so far.
struct Model<'a> {
    script: &'a Script,
    keys: BTreeMap<&'a Name, &'a Key>,
    certificates: BTreeMap<&'a Name, &'a Certificate>,
    /// Certificates that signed others.
    signers: BTreeSet<&'a Name>,
    started: bool,
    signed_off: bool,
    handed_off: bool,
    findings: Vec<Finding>,
}

impl<'a> Model<'a> {
    fn new(script: &'a Script) -> Self {
        Self {
            script,
            keys: BTreeMap::new(),
            certificates: BTreeMap::new(),
            signers: BTreeSet::new(),
            started: false,
            signed_off: false,
            handed_off: false,
            findings: Vec::new(),
        }
    }

    /// Checks what must hold before the step, then assumes what holds after it.
    fn apply(&mut self, step: &'a Step) {
        self.require(!self.handed_off, "hand-off-last", || format!("after the hand-off: {step}"));
        // What everybody signed is all that was done.
        self.require(
            !self.signed_off || *step == Step::HandOff,
            "sign-off-before-hand-off",
            || format!("after the signing off: {step}"),
        );
        match step {
            Step::GenerateKey(key) => self.generate_key(key),
            Step::HandOff => self.hand_off(),
            Step::SignCertificate(certificate) => self.sign_certificate(certificate),
            Step::SignOff => {
                let people = !self.script.people.is_empty();
                self.require(people, "sign-off-needs-people", || {
                    "the plan names nobody who could sign off".into()
                });
                self.signed_off = true;
            }
            Step::TokenInit => self.require(!self.started, "token-init-first", || {
                "the token is initialized after another step; all keys in it would die".into()
            }),
        }
        self.started = true;
    }

    /// Distinct persons of declared roles, enough of them for everything that takes some.
    fn check_people(&mut self) {
        let people = &self.script.people;
        for (name, person) in &people.persons {
            self.require(people.roles.contains_key(&person.role), "role-declared", || {
                format!("{name} has the role {}, which no [[role]] declares", person.role)
            });
            let twin = |(other, it): (&Name, &Person)| other < name && it.key == person.key;
            self.require(!people.persons.iter().any(twin), "one-key-per-person", || {
                format!("{name} has the key of somebody else")
            });
        }
        let all = people.persons.keys().cloned().collect();
        let Quorum { approve, confirm } = &people.quorum;
        for (what, wanted) in
            [("a ceremony", &people.roles), ("approval", approve), ("confirmation", confirm)]
        {
            let missing = people.missing(wanted, &all);
            self.require(missing.is_empty(), "enough-people", || {
                format!("{what} takes {}", missing.join(", "))
            });
        }
        // Whoever is to confirm must be there.
        for (role, count) in confirm {
            let least = people.roles.get(role).copied().unwrap_or_default();
            self.require(least >= *count, "confirmed-by-who-is-present", || {
                format!("{count} {role} confirm each step, and only {least} must be present")
            });
        }
    }

    fn generate_key(&mut self, key: &'a Key) {
        let twice = self.keys.values().any(|other| other.label == key.label);
        self.require(!twice, "one-key-per-label", || {
            format!("a second key gets the label {}", key.label)
        });
        self.keys.insert(&key.name, key);
    }

    fn sign_certificate(&mut self, certificate: &'a Certificate) {
        let name = &certificate.name;
        self.require(!self.certificates.contains_key(name), "sign-once", || {
            format!("certificate {name} is signed twice")
        });
        self.check_key(certificate);
        self.check_validity(certificate);
        self.check_subject(certificate);
        if let AuthorityKind::Issuing { signer, path_length } = &certificate.kind {
            self.check_signer(certificate, signer, *path_length);
        }
        self.certificates.insert(name, certificate);
    }

    fn check_key(&mut self, certificate: &Certificate) {
        let (name, key) = (&certificate.name, &certificate.key);
        let Some(made) = self.keys.get(key).copied() else {
            return self.find(
                "key-before-certificate",
                format!("certificate {name} is signed before its key {key} is made"),
            );
        };
        self.require(
            made.label.purpose() == Purpose::Issuing,
            "certificate-of-issuing-key",
            || {
                format!(
                    "certificate {name} is for the key {}, which is not for issuing",
                    made.label
                )
            },
        );
    }

    fn check_validity(&mut self, certificate: &Certificate) {
        let Certificate { name, not_before, not_after, .. } = certificate;
        self.require(not_before < not_after, "validity-order", || {
            format!("certificate {name} ends before it begins")
        });
        // RFC 5280 section 4.1.2.5: no fractional seconds.
        let whole = |time: &Timestamp| time.subsec_nanosecond() == 0;
        self.require(whole(not_before) && whole(not_after), "validity-in-seconds", || {
            format!("the validity of certificate {name} has fractions of seconds")
        });
    }

    /// One name, one key: relying parties build paths by name (RFC 5280 section 6.1).
    fn check_subject(&mut self, certificate: &Certificate) {
        let same = |other: &&&Certificate| other.subject == certificate.subject;
        let other = self.certificates.values().find(same).map(|other| other.name.clone());
        if let Some(other) = other {
            let what =
                format!("certificates {other} and {} have the same subject", certificate.name);
            self.find("one-subject-per-ca", what);
        }
    }

    fn check_signer(&mut self, certificate: &Certificate, signer: &'a Name, path_length: u8) {
        let name = &certificate.name;
        let Some(above) = self.certificates.get(signer).copied() else {
            return self.find(
                "signer-before-certificate",
                format!("certificate {name} is signed before its signer {signer} is"),
            );
        };
        self.signers.insert(signer);
        let nested =
            above.not_before <= certificate.not_before && certificate.not_after <= above.not_after;
        self.require(nested, "validity-nesting", || {
            format!("certificate {name} is valid when its signer {signer} is not")
        });
        // RFC 5280 section 4.2.1.9: the CAs that may follow below the signer.
        let fits = above.kind.path_length().is_none_or(|room| path_length < room);
        self.require(fits, "path-length", || {
            format!(
                "certificate {name} allows {path_length} CAs below it, more than {signer} leaves"
            )
        });
    }

    fn hand_off(&mut self) {
        let signed = self.signed_off || self.script.people.is_empty();
        self.require(signed, "sign-off-before-hand-off", || {
            "people take part, and nobody signs what was done".into()
        });
        self.check_publication_key();
        self.check_uses();
        self.check_publications();
        self.handed_off = true;
    }

    fn check_publication_key(&mut self) {
        let publication = |key: &&&Key| key.label.purpose() == Purpose::Publication;
        let count = self.keys.values().filter(publication).count();
        self.require(count == 1, "one-publication-key", || {
            format!("the hand-off needs one key labelled publication/…, the plan makes {count}")
        });
    }

    /// Each issuing key is one CA: a signature of an SSH CA and of an X.509 CA must never be
    /// exchangeable, nor a host's and a user's.
    fn check_uses(&mut self) {
        let mut uses: BTreeMap<&Name, Vec<String>> = BTreeMap::new();
        for certificate in self.certificates.values() {
            uses.entry(&certificate.key)
                .or_default()
                .push(format!("certificate {}", certificate.name));
        }
        for (name, authority) in &self.script.ssh {
            uses.entry(&authority.key).or_default().push(format!("SSH CA {name}"));
            self.check_ssh_key(name, &authority.key);
        }
        for key in self.keys.values().copied().collect::<Vec<_>>() {
            let uses = uses.get(&key.name).map_or(&[][..], Vec::as_slice);
            self.require(uses.len() < 2, "one-use-per-key", || {
                format!("key {} is used for {}", key.name, uses.join(" and "))
            });
            let idle = uses.is_empty() && key.label.purpose() == Purpose::Issuing;
            self.require(!idle, "issuing-key-has-a-use", || {
                format!("key {} is for issuing, and has neither certificate nor SSH CA", key.name)
            });
        }
    }

    fn check_ssh_key(&mut self, name: &Name, key: &Name) {
        let Some(made) = self.keys.get(key).copied() else {
            return self
                .find("ssh-ca-key", format!("no step makes the key {key} of SSH CA {name}"));
        };
        self.require(made.label.purpose() == Purpose::Issuing, "ssh-ca-key", || {
            format!("SSH CA {name} has the key {}, which is not for issuing", made.label)
        });
    }

    fn check_publications(&mut self) {
        for certificate in self.certificates.values().copied().collect::<Vec<_>>() {
            let heard = self.signers.contains(&certificate.name)
                || certificate.publication == Publication::default();
            self.require(heard, "publication-of-a-signer", || {
                format!(
                    "{} signs nothing here, so its publication goes nowhere; an online CA's \
                     belongs into the appliance's configuration",
                    certificate.name
                )
            });
        }
    }

    fn require(&mut self, holds: bool, rule: &'static str, what: impl FnOnce() -> String) {
        if !holds {
            self.find(rule, what());
        }
    }

    fn find(&mut self, rule: &'static str, what: String) {
        self.findings.push(Finding { rule, what });
    }
}

impl AuthorityKind {
    fn path_length(&self) -> Option<u8> {
        match self {
            Self::Issuing { path_length, .. } => Some(*path_length),
            Self::Root { path_length } => *path_length,
        }
    }
}
