//! Lints: the whole plan is simulated before anything touches the token.

use std::collections::{BTreeMap, BTreeSet};

use pki::{
    keys::KeyAlgorithm,
    token::KeyLabel,
    x509::{Publication, lint::Finding},
};

use super::{Certificate, Script, Step};
use crate::{
    name::Name,
    people::{Person, Quorum},
    shares::Purpose,
    steps::request_certificate::OwnRequest,
};

/// The rules that a script breaks; empty if it may be performed.
pub fn lint(script: &Script) -> Vec<Finding> {
    let mut model = Model::new(script);
    model.check_people();
    script.steps.iter().for_each(|step| model.apply(step));
    model.require(model.closed, "hand-off-last", || {
        "the plan ends without a hand-off or an export".into()
    });
    model.require(!model.logged_in, "ends-logged-out", || {
        "the plan ends with a session on the token that nothing closes".into()
    });
    model.findings
}

/// A set of shares after the steps so far.
pub(crate) struct ShareModel {
    pub(crate) purpose: Purpose,
    /// The custodians read their shares back.
    pub(crate) verified: bool,
    /// It gives the token's PIN, or no PIN.
    pub(crate) in_force: bool,
}

/// What would be there after the steps so far.
pub(crate) struct Model<'a> {
    pub(crate) script: &'a Script,
    /// The keys in the token.
    pub(crate) keys: BTreeMap<&'a Name, ModelKey<'a>>,
    /// The keys of other machines, each with the subject that was asked for with it.
    pub(crate) foreign: BTreeMap<&'a Name, String>,
    pub(crate) certificates: BTreeMap<&'a Name, &'a Certificate>,
    /// The certificates (DER) that were there before.
    pub(crate) existing: BTreeMap<&'a Name, &'a [u8]>,
    /// The requests that were made here.
    pub(crate) requests: BTreeMap<&'a Name, &'a OwnRequest>,
    /// The revocation lists that were signed.
    pub(crate) crls: BTreeSet<&'a Name>,
    /// Certificates whose keys signed.
    pub(crate) signers: BTreeSet<&'a Name>,
    /// Sets of shares that were handed out.
    pub(crate) shares: BTreeMap<&'a Name, ShareModel>,
    /// Keys that an earlier ceremony made.
    pub(crate) used: BTreeSet<&'a Name>,
    /// Keys of which a step made a copy in another token.
    pub(crate) copied: BTreeSet<&'a Name>,
    /// How many steps were done.
    pub(crate) done: usize,
    /// The step before was a break.
    pub(crate) on_break: bool,
    /// The token was needed.
    pub(crate) started: bool,
    /// The token was initialized by this plan.
    pub(crate) token_is_new: bool,
    /// A session is open on the token.
    pub(crate) logged_in: bool,
    pub(crate) signed_off: bool,
    /// The transcript was closed.
    pub(crate) closed: bool,
    findings: Vec<Finding>,
}

/// A key in the token.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ModelKey<'a> {
    pub(crate) label: &'a KeyLabel,
    pub(crate) algorithm: KeyAlgorithm,
}

impl<'a> Model<'a> {
    fn new(script: &'a Script) -> Self {
        Self {
            script,
            keys: BTreeMap::new(),
            foreign: BTreeMap::new(),
            certificates: BTreeMap::new(),
            existing: BTreeMap::new(),
            requests: BTreeMap::new(),
            crls: BTreeSet::new(),
            signers: BTreeSet::new(),
            shares: BTreeMap::new(),
            used: BTreeSet::new(),
            copied: BTreeSet::new(),
            done: 0,
            on_break: false,
            started: false,
            token_is_new: false,
            logged_in: false,
            signed_off: false,
            closed: false,
            findings: Vec::new(),
        }
    }

    /// Checks what must hold before the step, then assumes what holds after it.
    fn apply(&mut self, step: &'a Step) {
        self.require(!self.closed, "hand-off-last", || format!("after the end: {step}"));
        // What everybody signed is all that was done.
        self.require(!self.signed_off || step.kind().closes(), "sign-off-before-hand-off", || {
            format!("after the signing off: {step}")
        });
        self.check_shares(step);
        step.kind().lint(self);
        let kind = step.kind();
        self.done += 1;
        self.on_break = kind.is_break();
        self.started |= kind.needs_token();
        // The token is opened before whatever comes after its making; a break closes it.
        self.logged_in =
            !kind.closes() && !kind.is_break() && (self.logged_in || kind.needs_token());
    }

    /// A key is in the token from now on.
    pub(crate) fn add_key(&mut self, name: &'a Name, label: &'a KeyLabel, algorithm: KeyAlgorithm) {
        let twice = self.keys.values().any(|other| other.label == label);
        self.require(!twice, "one-key-per-label", || {
            format!("a second key gets the label {label}")
        });
        let known = self.keys.contains_key(name) || self.foreign.contains_key(name);
        self.require(!known, "key-once", || format!("the key {name} is there already"));
        self.keys.insert(name, ModelKey { label, algorithm });
    }

    /// A certificate is there from now on.
    pub(crate) fn add_certificate(&mut self, certificate: &'a Certificate) {
        let name = &certificate.name;
        self.require(!self.certificates.contains_key(name), "sign-once", || {
            format!("certificate {name} is signed twice")
        });
        self.certificates.insert(name, certificate);
    }

    /// The end: all that was signed goes out.
    pub(crate) fn close(&mut self) {
        let signed = self.signed_off || self.script.people.is_empty();
        self.require(signed, "sign-off-before-hand-off", || {
            "people take part, and nobody signs what was done".into()
        });
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
        // Whatever breaks a rule must not leave.
        if !self.findings.is_empty() {
            let what = "what was made before breaks rules, and would go out".to_owned();
            self.find("export-after-lints", what);
        }
        self.closed = true;
    }

    /// Nothing is done while it is not certain that the custodians can give what they were given, and
    /// nothing under a PIN that somebody else has as well.
    fn check_shares(&mut self, step: &Step) {
        if matches!(step, Step::SplitShares(_) | Step::SharesVerify(_)) {
            return;
        }
        let unverified = self.shares.iter().find(|(_, it)| !it.verified).map(|(set, _)| *set);
        self.require(unverified.is_none(), "shares-verified-first", || {
            let set = unverified.map_or("", Name::as_str);
            format!("the shares of {set} are not read back yet: {step}")
        });
        let idle = self.shares.iter().find(|(_, it)| !it.in_force).map(|(set, _)| *set);
        let idle = idle.filter(|_| !matches!(step, Step::PinRotate(_)));
        self.require(idle.is_none(), "pin-in-force-first", || {
            let set = idle.map_or("", Name::as_str);
            format!("the PIN that {set} gives is not the token's yet: {step}")
        });
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

    /// Finds a rule broken unless this holds.
    pub(crate) fn require(
        &mut self,
        holds: bool,
        rule: &'static str,
        what: impl FnOnce() -> String,
    ) {
        if !holds {
            self.find(rule, what());
        }
    }

    /// Finds a rule broken.
    pub(crate) fn find(&mut self, rule: &'static str, what: String) {
        self.findings.push(Finding { rule, what });
    }
}
