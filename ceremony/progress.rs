//! Where a ceremony stands: the rules of what may follow what.
//!
//! Every record goes through here twice: before it is written, so that nothing is recorded that is
//! not admissible; and whenever a transcript is read, whoever wrote it. So a ceremony that goes on
//! after an interruption knows what was done from its journal alone.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use pki::{
    seal::Prepared,
    serial::X509Serial,
    token::pkcs11::{PinOwner, TokenIdentity},
};
use thiserror::Error;

use crate::{
    custody::Use,
    digest::Digest,
    environment::{Check, Environment},
    made::{Made, MadeError},
    name::Name,
    people::{PeopleError, Statement},
    plan::{Certificate, Plan, PlanError, Step},
    secrets::is_secret_shaped,
    stand_in,
    steps::Concluded,
    transcript::{Attendance, Decision, Event, Intent, Opened, Outcome, Record, TokenFound},
};

/// A ceremony after the records so far.
#[derive(Clone, Debug)]
pub struct Progress {
    /// What is planned.
    pub plan: Plan,
    /// What it started from.
    pub opened: Opened,
    /// What was made.
    pub made: Made,
    /// What happened that the plan does not have.
    pub exceptions: Vec<String>,
    /// How often it was interrupted and went on.
    pub interruptions: u32,
    /// How many steps are done.
    done: usize,
    within: Within,
    /// The steps may go on: the program has not said that it ends.
    running: bool,
    /// A session was opened since the beginning, or since the last interruption.
    session: bool,
    /// The step was confirmed.
    confirmed: bool,
    /// The machine was looked at since the beginning, or since the last interruption.
    environment: bool,
    /// Who was there when the roll was called last.
    present: BTreeSet<Name>,
    /// How many compared the machine's clock since the beginning, or since the last interruption;
    /// and who of the people.
    compared: (usize, BTreeSet<Name>),
    /// Who of them signed off.
    signed_off: BTreeSet<Name>,
    /// The break that is not over yet.
    pause: Option<Pause>,
    ending: Option<Ending>,
    line: u64,
    /// When the last record was written.
    time: Timestamp,
}

/// How far the step is.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Within {
    /// Nothing was done.
    Before,
    /// It is about to be done, or was done, or was begun.
    Intended(Intent),
    /// As before, and the ceremony was interrupted since: a decision must come first.
    InDoubt(Intent),
    /// The token was made, and is not open yet.
    TokenMade(TokenIdentity),
}

/// A break.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Pause {
    /// Who was there before it.
    pub left: BTreeSet<Name>,
    began: Timestamp,
    /// When the machine was looked at, after it.
    back: Option<Timestamp>,
}

impl Pause {
    /// How long it was, in whole seconds; none before somebody is back.
    pub fn seconds(&self) -> Option<u64> {
        let back = self.back?.duration_since(self.began);
        u64::try_from(back.as_secs()).ok()
    }
}

/// How a ceremony ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ending {
    /// It was given up.
    Aborted,
    /// As planned.
    Closed,
}

impl Progress {
    /// The ceremony that begins with this record.
    ///
    /// # Errors
    ///
    /// It is no opening, or its plan is not one that can be performed.
    pub fn begin(first: &Record) -> Result<Self, ProgressError> {
        let Event::Opened(opened) = &first.event else {
            return Err(ProgressError::Unexpected { line: 1, wanted: "the opening" });
        };
        let plan = Plan::new(opened.plan.clone())?;
        if plan.hash() != opened.plan_hash {
            return Err(ProgressError::OtherPlan { found: plan.hash(), wanted: opened.plan_hash });
        }
        check_people(&plan, opened)?;
        Ok(Self {
            plan,
            opened: (**opened).clone(),
            made: Made::new(opened.poisons()),
            exceptions: Vec::new(),
            interruptions: 0,
            done: 0,
            within: Within::Before,
            running: true,
            session: false,
            confirmed: false,
            environment: false,
            present: BTreeSet::new(),
            compared: (0, BTreeSet::new()),
            signed_off: BTreeSet::new(),
            pause: None,
            ending: None,
            line: 1,
            time: first.time,
        })
    }

    /// The ceremony after all these records.
    ///
    /// # Errors
    ///
    /// A record is not admissible where it stands.
    pub fn replay(records: &[Record]) -> Result<Self, ProgressError> {
        let (first, others) = records
            .split_first()
            .ok_or(ProgressError::Unexpected { line: 1, wanted: "the opening" })?;
        let mut progress = Self::begin(first)?;
        others.iter().try_for_each(|record| progress.push(record))?;
        Ok(progress)
    }

    /// Takes one more record.
    ///
    /// # Errors
    ///
    /// It is not admissible here.
    pub fn push(&mut self, record: &Record) -> Result<(), ProgressError> {
        self.line += 1;
        self.require(self.ending.is_none(), "the end")?;
        self.pass(record.time)?;
        let step = self.step().cloned();
        self.require(record.step == self.place(&record.event), "a record of the plan's next step")?;
        self.check_who(record)?;
        let secret = record.event.said().is_some_and(is_secret_shaped);
        self.require(!secret, "a text without a key or a password in it")?;
        match (&record.event, step) {
            (Event::Aborted { .. }, _) => self.ending = Some(Ending::Aborted),
            (Event::Exception { text }, _) => self.exceptions.push(text.clone()),
            (Event::Resumed(_), _) => self.resume(),
            _ if !self.running => return Err(self.unexpected("the resumption")),
            (Event::Stopped { .. }, _) => self.running = false,
            (Event::Environment(found), _) => self.look_at_machine(found)?,
            _ if self.wants_environment() => {
                return Err(self.unexpected("the check of the machine"));
            }
            (Event::Present {}, _) => self.call_roll(&record.who)?,
            _ if self.wants_roll_call() => return Err(self.unexpected("the roll call")),
            (Event::Clock { reads }, _) => self.compare_clock(record, *reads)?,
            _ if self.wants_clock() => return Err(self.unexpected("the comparison of the clock")),
            (Event::SignedOff { signature }, Some(Step::SignOff)) => {
                self.sign_off(record, signature)?;
            }
            (Event::Token(found), _) => self.open(found)?,
            (Event::Confirmed {}, _) => self.confirm(&record.who)?,
            (Event::Closed {}, Some(step)) if step.kind().closes() => self.close()?,
            (Event::Intent(intent), Some(step)) => self.intend(intent, &step)?,
            (Event::Decided(decision), _) => self.decide(decision)?,
            (Event::Outcome(outcome), Some(step)) => self.conclude(outcome, &step)?,
            _ => return Err(self.unexpected("a record of the plan's next step")),
        }
        Ok(())
    }

    /// The step that is next or under way; `None` when all are done.
    pub fn step(&self) -> Option<&Step> {
        self.plan.script().steps.get(self.done)
    }

    /// Its number, from 1.
    pub fn number(&self) -> u32 {
        u32::try_from(self.done + 1).unwrap_or(u32::MAX)
    }

    /// How the ceremony ended, if it did.
    pub fn ending(&self) -> Option<Ending> {
        self.ending
    }

    /// What was intended before an interruption, and has no outcome: nobody knows whether it was
    /// done.
    pub fn in_doubt(&self) -> Option<&Intent> {
        match &self.within {
            Within::InDoubt(intent) => Some(intent),
            _ => None,
        }
    }

    /// What is intended and has no outcome yet.
    pub fn intended(&self) -> Option<&Intent> {
        match &self.within {
            Within::Intended(intent) | Within::InDoubt(intent) => Some(intent),
            Within::Before | Within::TokenMade(_) => None,
        }
    }

    /// Whether a session must be opened on the token before anything else.
    pub fn wants_session(&self) -> bool {
        let no_token_yet = matches!(self.step(), Some(Step::TokenInit))
            && !matches!(self.within, Within::TokenMade(_));
        let needed = self.step().is_some_and(|step| step.kind().needs_token());
        !self.session && needed && !no_token_yet
    }

    /// Whether the machine must be looked at before anything else.
    pub fn wants_environment(&self) -> bool {
        !self.environment
    }

    /// Whether the roll must be called before anything else.
    pub fn wants_roll_call(&self) -> bool {
        let people = &self.plan.script().people;
        self.opened.attendance == Attendance::Attended
            && !people.is_empty()
            && self.present.is_empty()
    }

    /// Whether somebody must compare the machine's clock with another one before anything else:
    /// two of the people, if there are two.
    pub fn wants_clock(&self) -> bool {
        let attended = self.opened.attendance == Attendance::Attended;
        attended && self.compared.0 < self.present.len().clamp(1, 2)
    }

    /// The break that is not over yet.
    pub fn pause(&self) -> Option<&Pause> {
        self.pause.as_ref()
    }

    /// Who was there when the roll was called last.
    pub fn present(&self) -> &BTreeSet<Name> {
        &self.present
    }

    /// Who of them is to sign off next; `None` when all have.
    pub fn next_to_sign_off(&self) -> Option<&Name> {
        self.present.difference(&self.signed_off).next()
    }

    /// Whether the step under way was confirmed.
    pub fn is_confirmed(&self) -> bool {
        self.confirmed
    }

    /// The to-be-signed text of a certificate with this serial number, as the plan gives it.
    ///
    /// # Errors
    ///
    /// A key or the signer's certificate is missing, or the text breaks a rule of its profile.
    pub fn prepare(
        &self,
        certificate: &Certificate,
        serial: X509Serial,
    ) -> Result<Prepared, MadeError> {
        self.made.prepare(certificate, self.plan.signer(certificate), serial)
    }

    /// The step that a record of this event names.
    pub fn place(&self, event: &Event) -> Option<u32> {
        match event {
            Event::Closed {}
            | Event::Confirmed {}
            | Event::Decided(_)
            | Event::Intent(_)
            | Event::Outcome(_)
            | Event::SignedOff { .. } => Some(self.number()),
            Event::Token(_) if matches!(self.within, Within::TokenMade(_)) => Some(self.number()),
            Event::Aborted { .. }
            | Event::Clock { .. }
            | Event::Environment(_)
            | Event::Exception { .. }
            | Event::Opened(_)
            | Event::Present {}
            | Event::Resumed(_)
            | Event::Stopped { .. }
            | Event::Token(_) => None,
        }
    }

    /// The time of the next record by a clock that says `now`. One that was set back by less than
    /// a moment stands still; where it was set back by more, nothing can be recorded.
    pub fn moment(&self, now: Timestamp) -> Timestamp {
        if now < self.time && self.time.duration_since(now) <= MOMENT { self.time } else { now }
    }

    /// Time never goes back.
    fn pass(&mut self, time: Timestamp) -> Result<(), ProgressError> {
        if time < self.time {
            let (line, before) = (self.line, self.time);
            return Err(ProgressError::TimeGoesBack { line, time, before });
        }
        self.time = time;
        Ok(())
    }

    fn resume(&mut self) {
        // Who goes on after a break interrupts nothing.
        if self.pause.is_none() {
            if let Within::Intended(intent) = &self.within {
                self.within = Within::InDoubt(intent.clone());
            }
            self.interruptions += 1;
        }
        self.made.doubt_shares();
        (self.running, self.confirmed) = (true, false);
        self.go();
    }

    /// Nobody is there any more, and nobody is logged in.
    fn go(&mut self) {
        (self.session, self.environment) = (false, false);
        self.present.clear();
        self.compared = (0, BTreeSet::new());
    }

    /// Only people of the plan do something, and only what people do.
    fn check_who(&self, record: &Record) -> Result<(), ProgressError> {
        let people = &self.plan.script().people;
        let known = record.who.iter().all(|name| people.persons.contains_key(name));
        self.require(known, "a record by people of the plan")?;
        let theirs = match record.event {
            Event::Aborted { .. }
            | Event::Clock { .. }
            | Event::Confirmed {}
            | Event::Exception { .. }
            | Event::Present {}
            | Event::SignedOff { .. } => true,
            _ => record.who.is_empty(),
        };
        self.require(theirs, "a record by people of the plan")
    }

    /// A rehearsal takes place on any machine; whatever else on one that the plan lets pass.
    fn look_at_machine(&mut self, found: &Environment) -> Result<(), ProgressError> {
        self.require(self.wants_environment(), "a check that was asked for")?;
        self.require(self.refused(found).is_empty(), "a machine as the plan demands it")?;
        self.environment = true;
        if let Some(pause) = &mut self.pause {
            pause.back = Some(self.time);
        }
        Ok(())
    }

    /// What of a machine does not let the ceremony go on.
    pub(crate) fn refused(&self, found: &Environment) -> BTreeMap<Check, String> {
        match self.opened.attendance {
            Attendance::Rehearsed => BTreeMap::new(),
            Attendance::Attended | Attendance::Unattended => {
                found.refused(&self.plan.script().machine)
            }
        }
    }

    fn call_roll(&mut self, present: &BTreeSet<Name>) -> Result<(), ProgressError> {
        self.require(self.wants_roll_call(), "a roll call that was asked for")?;
        let people = &self.plan.script().people;
        let enough = people.missing(&people.roles, present).is_empty();
        self.require(enough && !present.is_empty(), "the presence of enough people")?;
        self.present.clone_from(present);
        Ok(())
    }

    fn compare_clock(&mut self, record: &Record, reads: Timestamp) -> Result<(), ProgressError> {
        self.require(self.wants_clock(), "a comparison that was asked for")?;
        let (count, who) = &self.compared;
        let several = !self.plan.script().people.is_empty();
        let theirs = record.who.len() == usize::from(several)
            && record.who.is_subset(&self.present)
            && record.who.is_disjoint(who);
        self.require(theirs, "a comparison by another person who is present")?;
        self.require(agree(record.time, reads), "a clock that another one agrees with")?;
        self.compared = (count + 1, who.union(&record.who).cloned().collect());
        Ok(())
    }

    fn sign_off(&mut self, record: &Record, signature: &str) -> Result<(), ProgressError> {
        self.require(!self.wants_session(), "the opened token")?;
        let statement = Statement::SignOff { plan: self.plan.hash(), head: record.prev };
        let people = &self.plan.script().people;
        let name = people.signer(statement, signature)?.clone();
        let theirs = record.who.iter().eq([&name]) && self.present.contains(&name);
        self.require(theirs, "the signature of somebody who is present")?;
        let first = self.signed_off.insert(name);
        self.require(first, "the signature of another person")?;
        if self.next_to_sign_off().is_none() {
            self.advance();
        }
        Ok(())
    }

    fn open(&mut self, found: &TokenFound) -> Result<(), ProgressError> {
        self.require(self.wants_session(), "a record of the plan's next step")?;
        let protected = self.opened.attendance == Attendance::Rehearsed
            || self.opened.software_token.is_some()
            || !found.is_software();
        self.require(protected, "a token that protects its keys")?;
        let known = match &self.within {
            Within::TokenMade(made) => Some(made),
            _ => self.made.token.as_ref(),
        };
        let same = known.is_none_or(|known| *known == found.identity);
        self.require(same, "the token of this ceremony")?;
        self.require(self.is_given_by_whom_it_may(found), "a PIN by the custodians who have it")?;
        self.session = true;
        self.made.token = Some(found.identity.clone());
        if matches!(self.within, Within::TokenMade(_)) {
            self.advance();
        }
        Ok(())
    }

    /// Whether the user's PIN came from where it must: from enough shares of the set in force; or, if
    /// its change is in doubt, of the set that was to take its place. What was in force before this
    /// ceremony, no record says.
    fn is_given_by_whom_it_may(&self, found: &TokenFound) -> bool {
        let in_force = self.made.set_in_force(Use::User);
        let Some(given) = &found.given_by else { return in_force.is_none() };
        let changing = match self.in_doubt() {
            Some(Intent::RotatePin(change)) if change.owner == PinOwner::User => Some(change.set),
            _ => None,
        };
        let mut sets = self.made.sets().map(|(_, it)| &it.set);
        match sets.find(|set| set.terms.set == given.set) {
            Some(set) => {
                let may = in_force == Some(set) || changing == Some(given.set);
                may && given.is_enough(set.terms.threshold, set.terms.count)
            }
            None => in_force.is_none() && given.shares.len() >= 2,
        }
    }

    fn confirm(&mut self, who: &BTreeSet<Name>) -> Result<(), ProgressError> {
        let people = &self.plan.script().people;
        let enough = people.missing(&people.quorum.confirm, who).is_empty();
        let there = who.is_subset(&self.present) && who.is_empty() == people.is_empty();
        self.require(enough && there, "a confirmation by enough people")?;
        let attended = self.opened.attendance == Attendance::Attended;
        self.require(attended && !self.confirmed, "a confirmation that was asked for")?;
        self.require(!self.wants_session(), "the opened token")?;
        self.confirmed = true;
        Ok(())
    }

    fn require_confirmed(&self) -> Result<(), ProgressError> {
        let unasked = self.opened.attendance != Attendance::Attended;
        self.require(unasked || self.confirmed, "the confirmation of the step")
    }

    fn intend(&mut self, intent: &Intent, step: &Step) -> Result<(), ProgressError> {
        self.require(self.within == Within::Before, "the outcome of what was intended")?;
        self.require(!self.wants_session(), "the opened token")?;
        self.require_confirmed()?;
        step.kind().intend(intent, self)?;
        self.within = Within::Intended(intent.clone());
        if step.kind().is_break() {
            let left = self.present.clone();
            self.pause = Some(Pause { left, began: self.time, back: None });
            self.go();
        }
        Ok(())
    }

    fn decide(&mut self, decision: &Decision) -> Result<(), ProgressError> {
        let Within::InDoubt(intent) = &self.within else {
            return Err(self.unexpected("a record without an interruption before it"));
        };
        let intent = intent.clone();
        let fits = self.step().is_some_and(|step| step.kind().decide(decision, self));
        self.require(fits, "a decision of what was interrupted")?;
        self.require(!self.wants_session(), "the opened token")?;
        self.require_confirmed()?;
        self.within = Within::Intended(intent);
        Ok(())
    }

    fn conclude(&mut self, outcome: &Outcome, step: &Step) -> Result<(), ProgressError> {
        let Within::Intended(intent) = self.within.clone() else {
            return Err(self.unexpected("an intent, or a decision, before an outcome"));
        };
        match step.kind().conclude(&intent, outcome, self)? {
            Concluded::Done => self.advance(),
            Concluded::TokenMade(made) => self.within = Within::TokenMade(made),
            Concluded::UnderWay => {}
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), ProgressError> {
        self.require(!self.wants_session(), "the opened token")?;
        self.advance();
        self.ending = Some(Ending::Closed);
        Ok(())
    }

    fn advance(&mut self) {
        self.done += 1;
        (self.within, self.confirmed, self.pause) = (Within::Before, false, None);
        // Nobody takes part in a rehearsal.
        let rehearsed = self.opened.attendance == Attendance::Rehearsed;
        if rehearsed && self.step() == Some(&Step::SignOff) {
            self.done += 1;
        }
    }

    /// Takes up the certificate that stands in for the planned one in a rehearsal.
    pub(crate) fn take_stand_in(
        &mut self,
        planned: &Certificate,
        der: &[u8],
    ) -> Result<Concluded, ProgressError> {
        let taken = stand_in::take(&mut self.made, &self.plan, planned, der)?;
        self.require(taken, "a certificate that stands in for the planned one")?;
        Ok(Concluded::Done)
    }

    /// Refuses the record unless this holds.
    pub(crate) fn require(&self, holds: bool, wanted: &'static str) -> Result<(), ProgressError> {
        if holds { Ok(()) } else { Err(self.unexpected(wanted)) }
    }

    /// The record under way is not this.
    pub(crate) fn unexpected(&self, wanted: &'static str) -> ProgressError {
        ProgressError::Unexpected { line: self.line, wanted }
    }
}

/// Who takes part has approved and rehearsed; and nobody is left out where there should be people.
fn check_people(plan: &Plan, opened: &Opened) -> Result<(), ProgressError> {
    let people = &plan.script().people;
    if opened.linters.len() < 2 || opened.linters.iter().any(String::is_empty) {
        let wanted = "an opening that names two lints or parsers";
        return Err(ProgressError::Unexpected { line: 1, wanted });
    }
    let holds = match opened.attendance {
        Attendance::Attended => opened.rehearsal.is_some(),
        Attendance::Rehearsed => opened.approvals.is_empty(),
        Attendance::Unattended => {
            people.is_empty() && opened.approvals.is_empty() && !plan.needs_people()
        }
    } && (!opened.faithful || opened.is_rehearsal());
    if !holds {
        let wanted = "an opening with the rehearsal and the people that it takes";
        return Err(ProgressError::Unexpected { line: 1, wanted });
    }
    if opened.attendance == Attendance::Attended {
        people.check_approvals(plan.hash(), &opened.approvals)?;
    }
    Ok(())
}

/// Whether two clocks, of which one may be read to the minute, say the same.
pub fn agree(machine: Timestamp, reads: Timestamp) -> bool {
    machine.duration_since(reads).abs() <= AGREEMENT
}

const AGREEMENT: SignedDuration = SignedDuration::from_mins(5);

/// How far a clock that is corrected while the ceremony goes on may be set back.
const MOMENT: SignedDuration = SignedDuration::from_secs(2);

/// A record is not admissible where it stands.
#[derive(Debug, Error)]
pub enum ProgressError {
    /// A key or certificate is not what the plan gives.
    #[error("the transcript contradicts itself")]
    Made(#[from] MadeError),
    /// The hash of the plan is not the plan's.
    #[error("the transcript's plan has the hash {found}, not {wanted}")]
    OtherPlan {
        /// The plan's.
        found: Digest,
        /// The one that the opening states.
        wanted: Digest,
    },
    /// Too few people, or a signature that is not theirs.
    #[error(transparent)]
    People(#[from] PeopleError),
    /// The plan in the transcript cannot be performed.
    #[error("the plan in the transcript is not one that can be performed")]
    Plan(#[from] PlanError),
    /// A record was written before the one before it.
    #[error("line {line} was written at {time}, and the line before it at {before}")]
    TimeGoesBack {
        /// Which line, from 1.
        line: u64,
        /// When it was written.
        time: Timestamp,
        /// When the line before it was.
        before: Timestamp,
    },
    /// A record is not one that can follow.
    #[error("line {line} is not {wanted}")]
    Unexpected {
        /// Which line, from 1.
        line: u64,
        /// What should be there.
        wanted: &'static str,
    },
}
