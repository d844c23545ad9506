//! Lints: the whole plan is simulated before anything touches the token.

use std::collections::{BTreeMap, BTreeSet};

use pki::x509::lint::Finding;

use super::{Certificate, Key, Script, Step};
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
pub(crate) struct Model<'a> {
    pub(crate) script: &'a Script,
    pub(crate) keys: BTreeMap<&'a Name, &'a Key>,
    pub(crate) certificates: BTreeMap<&'a Name, &'a Certificate>,
    /// Certificates that signed others.
    pub(crate) signers: BTreeSet<&'a Name>,
    /// A step was done.
    pub(crate) started: bool,
    pub(crate) signed_off: bool,
    pub(crate) handed_off: bool,
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
        step.kind().lint(self);
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
