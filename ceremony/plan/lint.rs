//! Lints: the whole plan is simulated before anything touches the token.

use std::collections::{BTreeMap, BTreeSet};

use pki::x509::lint::Finding;

use super::{Certificate, Key, Script, Step};
use crate::{
    name::Name,
    people::{Person, Quorum},
    shares::Purpose,
};

/// The rules that a script breaks; empty if it may be performed.
pub fn lint(script: &Script) -> Vec<Finding> {
    let mut model = Model::new(script);
    model.check_people();
    script.steps.iter().for_each(|step| model.apply(step));
    model.require(model.handed_off, "hand-off-last", || "the plan ends without a hand-off".into());
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
    pub(crate) keys: BTreeMap<&'a Name, &'a Key>,
    pub(crate) certificates: BTreeMap<&'a Name, &'a Certificate>,
    /// Certificates that signed others.
    pub(crate) signers: BTreeSet<&'a Name>,
    /// Sets of shares that were handed out.
    pub(crate) shares: BTreeMap<&'a Name, ShareModel>,
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
            shares: BTreeMap::new(),
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
            !self.signed_off || matches!(step, Step::Close | Step::HandOff),
            "sign-off-before-hand-off",
            || format!("after the signing off: {step}"),
        );
        self.check_shares(step);
        step.kind().lint(self);
        self.started = true;
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
