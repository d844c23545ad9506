//! The performance: confirm, write the intent, act, check, write the outcome; step by step.

mod backup;
pub(crate) mod pins;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use jiff::{Timestamp, civil, tz::TimeZone};
use pki::{
    clock::Clock,
    serial::X509Serial,
    token::{
        Token as _, TokenError,
        pkcs11::{Module, Session, TokenIdentity},
    },
};
use rand::{TryRngCore as _, rngs::OsRng};

pub use pins::PinInForce;

use crate::{
    console::Console,
    digest::Digest,
    dry_run::dry_run,
    environment::Environment,
    failure::Failure,
    handoff::Bundle,
    journal::{Found, Journals, PowerLoss, directory_of, sync_directory_of},
    machine,
    name::Name,
    people::{PeopleError, Statement},
    plan::{Certificate, Plan, Step},
    progress::{Ending, Progress, agree},
    qr,
    second_opinion::LINTERS,
    secrets::check_said,
    shares::{SetId, Whole},
    site::Site,
    stand_in,
    token_profile::KnownToken,
    transcript::{
        Attendance, Decision, Event, Intent, Opened, Outcome, Resumed, TOOL, is_software,
    },
    verify::Verified,
    words::spoken,
};

/// Where a ceremony takes place, and where its outputs go.
#[derive(Debug)]
pub struct Place {
    /// On which token.
    pub site: Site,
    /// The journals' files, one on each medium.
    pub journals: Vec<PathBuf>,
    /// The names of the variables in this process's environment.
    pub variables: BTreeSet<String>,
    /// The hand-off's directory, if the plan hands something off.
    pub handoff: Option<PathBuf>,
    /// The directory in which requests go out and certificates come back.
    pub exchange: Option<PathBuf>,
    /// What is known of this kind of token.
    pub profile: Option<KnownToken>,
    /// Where a rehearsal loses its power.
    pub power_loss: Option<PowerLoss>,
}

impl Place {
    /// The machine as it is now.
    fn environment(&self) -> Result<Environment, Failure> {
        Environment::look(&self.journals, &self.variables, &self.site.variables())
            .map_err(Failure::Machine)
    }
}

/// What a ceremony begins with, besides its plan.
#[derive(Clone, Debug)]
pub struct Beginning {
    /// Who confirms the steps.
    pub attendance: Attendance,
    /// In a rehearsal: certificates are not marked.
    pub faithful: bool,
    /// The rehearsal of the plan.
    pub rehearsal: Option<Verified>,
    /// The approvals of the plan: signatures, as `ssh-keygen -Y sign` makes them.
    pub approvals: Vec<String>,
}

/// How a ceremony goes on that was interrupted.
#[derive(Clone, Debug)]
pub struct Resumption {
    /// What interrupted it, as people say.
    pub reason: String,
    /// What they chose for a key pair that may have been made before the interruption.
    pub found_key: Option<FoundKey>,
    /// Which PIN they say is the token's, if it was being changed.
    pub pin: PinInForce,
}

/// What is done with a whole key pair whose making was interrupted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FoundKey {
    /// It is checked as a new one, and taken.
    Adopt,
    /// It is destroyed, and another one is made.
    Destroy,
}

/// Performs a plan, and gives the head of its transcript.
///
/// # Errors
///
/// A check before the first step fails: nothing was changed. Or a step fails: the journals say
/// which, and what was done before it, and [`resume`] goes on.
pub fn run(
    plan: &Plan,
    beginning: &Beginning,
    place: &Place,
    clock: &dyn Clock,
    console: &mut Console,
) -> Result<Digest, Failure> {
    // 1. Everything that can fail without the token.
    check_rehearsed(beginning.attendance, place)?;
    check_outputs(plan, place, beginning.attendance, console)?;
    check_exchange(plan, place)?;
    check_validity(plan, clock.now())?;
    dry_run(plan)?;
    if let Some(known) = &place.profile {
        known.check_plan(plan, place.site.changeable_keys.is_some())?;
    }
    let opened = opened(plan, beginning, place)?;
    check_machine(plan, beginning.attendance, place)?;

    // 2. Everything that can fail without changing the token.
    let module = Module::load(&opened.module.path)?;
    check_maker(&opened, &module.maker()?)?;
    let (attendance, profile) = (beginning.attendance, place.profile.as_ref());
    let session = open_if_there(plan, &place.site, &module, attendance, profile, console)?;

    // 3. From here on, everything is recorded.
    let (journals, first) =
        Journals::create(&place.journals, opened, clock.now(), place.power_loss)?;
    let progress = Progress::begin(&first)?;
    Performance {
        place,
        clock,
        console,
        module,
        session,
        found_key: None,
        pin_in_force: PinInForce::default(),
        kept: Vec::new(),
        progress,
        journals,
    }
    .perform()
}

/// Goes on with a ceremony that was interrupted, and gives the head of its transcript.
///
/// # Errors
///
/// As [`run`]; or the journals, the site or the program are not those that it began with.
pub fn resume(
    place: &Place,
    resumption: Resumption,
    clock: &dyn Clock,
    console: &mut Console,
) -> Result<Digest, Failure> {
    let (journals, found) = Journals::reopen(&place.journals, place.power_loss)?;
    let progress = Progress::replay(&found.chain.records)?;
    let plan = &progress.plan;
    console.say(&format!("ceremony {}, plan {}", plan.script().id, plan.hash()))?;
    match progress.ending() {
        Some(Ending::Aborted) => return Err(Failure::Aborted),
        Some(Ending::Closed) => return finish(&progress, journals, &found, place),
        None => {}
    }
    check_rehearsed(progress.opened.attendance, place)?;
    check_handoff(plan, place)?;
    check_same(&progress.opened, &place.site)?;
    check_machine(plan, progress.opened.attendance, place)?;
    check_exchange(&progress.plan, place)?;
    let module = Module::load(&progress.opened.module.path)?;

    let Resumption { reason, found_key, pin: pin_in_force } = resumption;
    let boot = machine::boot().map_err(Failure::Machine)?;
    let resumed = Event::Resumed(Resumed { reason, boot, journals: found.journals });
    check_said(&resumed)?;
    let session = None;
    let kept = Vec::new();
    let mut performance = Performance {
        place,
        clock,
        console,
        module,
        session,
        found_key,
        pin_in_force,
        kept,
        progress,
        journals,
    };
    performance.record(resumed)?;
    performance.perform()
}

/// Ends a ceremony whose last record was written, and perhaps more.
fn finish(
    progress: &Progress,
    journals: Journals,
    found: &Found,
    place: &Place,
) -> Result<Digest, Failure> {
    check_handoff(&progress.plan, place)?;
    let head = if found.chain.ended { found.chain.head } else { journals.close()? };
    let Some(handoff) = &place.handoff else { return Ok(head) };
    let bundle = Bundle::new(&progress.plan, &progress.made, head)?;
    if handoff.symlink_metadata().is_ok() {
        bundle.check(handoff)?
    } else {
        bundle.write(handoff)?
    }
    Ok(head)
}

/// Only a rehearsal loses its power on purpose.
fn check_rehearsed(attendance: Attendance, place: &Place) -> Result<(), Failure> {
    match place.power_loss {
        Some(_) if attendance != Attendance::Rehearsed => Err(Failure::NotARehearsal),
        _ => Ok(()),
    }
}

/// There is a place for what is handed off, and only for that.
fn check_handoff(plan: &Plan, place: &Place) -> Result<(), Failure> {
    match (plan.hands_off(), &place.handoff) {
        (true, None) => Err(Failure::HandOffNowhere),
        (false, Some(_)) => Err(Failure::NothingToHandOff),
        _ => Ok(()),
    }
}

fn check_outputs(
    plan: &Plan,
    place: &Place,
    attendance: Attendance,
    console: &mut Console,
) -> Result<(), Failure> {
    check_handoff(plan, place)?;
    let journals = place.journals.iter().map(|path| ("journal", path));
    let handoff = place.handoff.iter().map(|path| ("hand-off", path));
    for (what, path) in journals.chain(handoff) {
        // A dangling link is something, too.
        if path.symlink_metadata().is_ok() {
            return Err(Failure::OutputExists { what, path: path.clone() });
        }
        if !directory_of(path).is_dir() {
            return Err(Failure::NoDirectory { what, path: path.clone() });
        }
    }
    let different: BTreeSet<&PathBuf> = place.journals.iter().collect();
    if different.len() < place.journals.len()
        || (attendance == Attendance::Attended && different.len() < 2)
    {
        return Err(Failure::OneJournal);
    }
    let device = |path: &PathBuf| fs::metadata(directory_of(path)).map(|it| it.dev()).ok();
    let media: BTreeSet<Option<u64>> = place.journals.iter().map(device).collect();
    if attendance == Attendance::Attended && media.len() < place.journals.len() {
        console.say("both journals are on one medium: if it fails, they fail together")?;
    }
    Ok(())
}

/// Where the plan speaks with other machines, there is a directory for it.
fn check_exchange(plan: &Plan, place: &Place) -> Result<(), Failure> {
    match &place.exchange {
        None if plan.exchanges() => Err(Failure::NoExchange),
        Some(path) if !path.is_dir() => {
            Err(Failure::NoDirectory { what: "exchange", path: path.clone() })
        }
        _ => Ok(()),
    }
}

fn check_validity(plan: &Plan, now: Timestamp) -> Result<(), Failure> {
    let dead = |it: &&Certificate| now < it.not_before || it.not_after < now;
    match plan.certificates().find(dead) {
        Some(certificate) => Err(Failure::OutOfValidity(certificate.name.clone())),
        None => Ok(()),
    }
}

fn opened(plan: &Plan, beginning: &Beginning, place: &Place) -> Result<Opened, Failure> {
    let tool_sha256 = machine::program().map_err(Failure::Machine)?;
    let attendance = beginning.attendance;
    let people = !plan.script().people.is_empty() || plan.needs_people();
    if attendance == Attendance::Unattended && people {
        return Err(Failure::PeopleNeeded);
    }
    let (mut rehearsal, mut approvals) = (None, BTreeMap::new());
    if attendance == Attendance::Attended {
        rehearsal = Some(rehearsed(plan, beginning.rehearsal.as_ref(), tool_sha256)?);
        approvals = approved(plan, &beginning.approvals)?;
    }
    Ok(Opened {
        tool: TOOL.to_owned(),
        tool_sha256,
        boot: machine::boot().map_err(Failure::Machine)?,
        attendance,
        faithful: beginning.faithful,
        rehearsal,
        approvals,
        plan_hash: plan.hash(),
        site_hash: place.site.hash,
        changeable_keys: place.site.changeable_keys.clone(),
        software_token: place.site.software_token.clone(),
        token_profile: place.profile.as_ref().map(|known| known.hash),
        linters: LINTERS.map(str::to_owned).to_vec(),
        module: place.site.module()?,
        plan: plan.script().clone(),
    })
}

/// The head of the rehearsal, which must be of this plan and by this program.
fn rehearsed(
    plan: &Plan,
    rehearsal: Option<&Verified>,
    program: Digest,
) -> Result<Digest, Failure> {
    let rehearsal = rehearsal.ok_or(Failure::NoRehearsal("there is none"))?;
    let opened = &rehearsal.progress.opened;
    match () {
        () if opened.attendance != Attendance::Rehearsed => {
            Err(Failure::NoRehearsal("it was no rehearsal"))
        }
        () if opened.plan_hash != plan.hash() => Err(Failure::NoRehearsal("it was another plan's")),
        () if opened.tool_sha256 != program => {
            Err(Failure::NoRehearsal("it was another program's"))
        }
        () => Ok(rehearsal.head),
    }
}

/// The approvals by person; each person counts once.
fn approved(plan: &Plan, armored: &[String]) -> Result<BTreeMap<Name, String>, Failure> {
    let people = &plan.script().people;
    let mut approvals = BTreeMap::new();
    for signature in armored {
        let name = people.signer(Statement::Approval { plan: plan.hash() }, signature)?;
        if approvals.insert(name.clone(), signature.clone()).is_some() {
            return Err(PeopleError::Twice(name.clone()).into());
        }
    }
    people.check_approvals(plan.hash(), &approvals)?;
    Ok(approvals)
}

/// What a ceremony began with, it goes on with.
fn check_same(opened: &Opened, site: &Site) -> Result<(), Failure> {
    let program = machine::program().map_err(Failure::Machine)?;
    if opened.tool != TOOL || opened.tool_sha256 != program {
        return Err(Failure::Changed("program"));
    }
    if opened.site_hash != site.hash {
        return Err(Failure::Changed("site file"));
    }
    if opened.module != site.module()? {
        return Err(Failure::Changed("PKCS#11 module"));
    }
    Ok(())
}

/// Looks at the machine, and begins nothing on one that the plan does not let pass.
fn check_machine(plan: &Plan, attendance: Attendance, place: &Place) -> Result<(), Failure> {
    let refused = place.environment()?.refused(&plan.script().machine);
    if refused.is_empty() || attendance == Attendance::Rehearsed {
        return Ok(());
    }
    Err(Failure::Environment(refused))
}

/// A token in software is for rehearsals, and for who says why.
fn check_maker(opened: &Opened, maker: &str) -> Result<(), Failure> {
    let meant = opened.attendance == Attendance::Rehearsed || opened.software_token.is_some();
    if is_software(maker) && !meant {
        return Err(Failure::SoftwareToken(maker.to_owned()));
    }
    Ok(())
}

/// Opens the token that the keys go into, and checks that there is room for each; or, if the plan
/// is to initialize it, that it is not there.
fn open_if_there(
    plan: &Plan,
    site: &Site,
    module: &Module,
    attendance: Attendance,
    profile: Option<&KnownToken>,
    console: &mut Console,
) -> Result<Option<pins::OpenToken>, Failure> {
    if plan.initializes_token() {
        site.first_pins()?;
        return match module.identify(&labelled(&site.token.label)) {
            Ok(found) => Err(Failure::TokenExists(found.label)),
            Err(TokenError::NoToken(_)) => Ok(None),
            Err(error) => Err(error.into()),
        };
    }
    let mut custody = pins::custody(site, attendance, console);
    let mut opened = pins::open(module, site, None, None, &mut custody)?;
    if let Some(known) = profile {
        known.check(&opened.found)?;
    }
    let rehearsed = attendance == Attendance::Rehearsed;
    for (_, step) in plan.steps() {
        step.kind().check_token(plan, rehearsed, &mut opened.session)?;
    }
    Ok(Some(opened))
}

/// A token of which only the label is known.
pub(crate) fn labelled(label: &str) -> TokenIdentity {
    TokenIdentity { label: label.to_owned(), serial: None, manufacturer: None, model: None }
}

/// A ceremony under way.
pub(crate) struct Performance<'a> {
    pub(crate) place: &'a Place,
    pub(crate) clock: &'a dyn Clock,
    pub(crate) console: &'a mut Console,
    pub(crate) module: Module,
    session: Option<pins::OpenToken>,
    /// What people chose for a key pair that an interruption left.
    pub(crate) found_key: Option<FoundKey>,
    /// What they say of the PIN whose change was interrupted.
    pub(crate) pin_in_force: PinInForce,
    /// Secrets that custodians gave in this process.
    kept: Vec<(SetId, Whole)>,
    pub(crate) progress: Progress,
    pub(crate) journals: Journals,
}

impl Performance<'_> {
    fn perform(mut self) -> Result<Digest, Failure> {
        if let Err(failure) = self.steps() {
            // The journals may be what failed; the failure itself is what the person must see.
            let reason = failure.message();
            let _ = self.record(Event::Stopped { reason });
            return Err(failure);
        }
        let head = self.journals.close()?;
        if let Some(handoff) = &self.place.handoff {
            Bundle::new(&self.progress.plan, &self.progress.made, head)?.write(handoff)?;
        }
        Ok(head)
    }

    fn steps(&mut self) -> Result<(), Failure> {
        let count = self.progress.plan.script().steps.len();
        self.get_ready()?;
        // What was recorded and not written before an interruption.
        self.write_requests()?;
        while let Some(step) = self.progress.step().cloned() {
            self.get_ready()?;
            self.console.say(&format!("{:>3}/{count}  {step}", self.progress.number()))?;
            if let Some(details) = step.details() {
                self.console.add(&details)?;
            }
            step.kind().perform(self)?;
            self.show_head()?;
        }
        Ok(())
    }

    /// Does what must be done before a step: at the beginning, after an interruption, and after a break.
    pub(crate) fn get_ready(&mut self) -> Result<(), Failure> {
        if self.progress.wants_environment() {
            self.look_at_machine()?;
        }
        if self.progress.wants_roll_call() {
            self.call_roll()?;
        }
        while self.progress.wants_clock() {
            self.compare_clock()?;
        }
        if self.progress.wants_session() {
            self.open_token()?;
        }
        Ok(())
    }

    /// Logs out, and forgets what custodians gave; says where the ceremony stands.
    pub(crate) fn leave(&mut self) -> Result<(), Failure> {
        self.kept.clear();
        let token = self.session.take().map(|open| open.found.identity.clone());
        if let Some(token) = token {
            self.module.check_logged_out(&token)?;
        }
        let done = self.progress.number() - 1;
        let plan = &self.progress.plan;
        let next = plan.steps().find(|(number, _)| *number > done + 1);
        let next = next.map(|(number, step)| format!("; next is {number}: {step}"));
        let said = format!("{done} steps are done{}", next.unwrap_or_default());
        self.console.add(&said)?;
        self.console.add("nobody is logged in to the token; the machine may be switched off")?;
        self.show_head()
    }

    /// Binds the film to the record: for whoever writes it down, and for the camera.
    fn show_head(&mut self) -> Result<(), Failure> {
        if self.progress.opened.attendance != Attendance::Attended {
            return Ok(());
        }
        let head = self.journals.head();
        self.console.add(&format!("head {head}\n     {}", spoken(head)))?;
        self.console.add(&qr::to_terminal(head))
    }

    /// The machine as it is now.
    pub(crate) fn environment(&self) -> Result<Environment, Failure> {
        self.place.environment()
    }

    fn look_at_machine(&mut self) -> Result<(), Failure> {
        let environment = self.environment()?;
        self.console.say("     the machine")?;
        self.console.add(&environment.to_string())?;
        self.record(Event::Environment(environment))
    }

    /// The directory in which requests go out and certificates come back.
    pub(crate) fn exchange(&self) -> Result<&Path, Failure> {
        self.place.exchange.as_deref().ok_or(Failure::NoExchange)
    }

    /// Writes the requests that were signed so far, each once.
    pub(crate) fn write_requests(&mut self) -> Result<(), Failure> {
        for (name, request) in self.progress.made.requests.clone() {
            let path = self.exchange()?.join(format!("{name}.csr"));
            match fs::read_to_string(&path) {
                Ok(written) if written == request => continue,
                Ok(_) => return Err(Failure::OutputExists { what: "request", path }),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(Failure::Read { path, source }),
            }
            write_whole(&path, request.as_bytes())?;
            let sha256 = Digest::of_file(request.as_bytes());
            self.console.add(&format!("request {}\nSHA-256 {sha256}", path.display()))?;
        }
        Ok(())
    }

    /// Makes what stands in, in a rehearsal, for a certificate of another machine.
    pub(crate) fn stand_in(&mut self, certificate: &Certificate) -> Result<Vec<u8>, Failure> {
        let open = self.session.as_mut().ok_or_else(no_session)?;
        let Progress { made, plan, .. } = &self.progress;
        stand_in::certificate(made, plan, certificate, &mut open.session)
    }

    fn call_roll(&mut self) -> Result<(), Failure> {
        let people = self.progress.plan.script().people.clone();
        for (name, person) in &people.persons {
            self.console.say(&format!("     {name}, {}", person.role))?;
        }
        let present = self.console.ask("who is present? names, with spaces between", |typed| {
            let names: Option<BTreeSet<Name>> =
                typed.split(' ').map(|name| name.parse().ok()).collect();
            let known = |name: &Name| people.persons.contains_key(name);
            names.filter(|names| {
                names.iter().all(known) && people.missing(&people.roles, names).is_empty()
            })
        })?;
        self.record_by(present, Event::Present {})
    }

    /// Somebody reads another clock than this machine's, to the minute.
    fn compare_clock(&mut self) -> Result<(), Failure> {
        let several = !self.progress.plan.script().people.is_empty();
        let present = self.progress.present().clone();
        let machine = self.progress.moment(self.clock.now());
        self.console.say(&format!("     this machine's clock says {machine:.0}"))?;
        let form = if several { "your name, date and time" } else { "date and time" };
        let question = format!("what does another clock say? {form}, UTC, as {EXAMPLE}");
        let mut off = None;
        let read = self.console.ask(&question, |typed| {
            let (who, time) = match typed.split_once(' ').filter(|_| several) {
                Some((name, time)) => (BTreeSet::from([name.parse().ok()?]), time),
                None => (BTreeSet::new(), typed),
            };
            let reads: civil::DateTime = time.parse().ok()?;
            let reads = reads.to_zoned(TimeZone::UTC).ok()?.timestamp();
            if !who.is_subset(&present) {
                return None;
            }
            off = (!agree(machine, reads)).then_some(Failure::ClockOff { reads, machine });
            off.is_none().then_some((who, reads))
        });
        let (who, reads) = match (read, off) {
            (Ok(read), _) => read,
            (Err(_), Some(off)) => return Err(off),
            (Err(error), None) => return Err(error),
        };
        self.record_by(who, Event::Clock { reads })
    }

    /// Opens the token, and records what it says of itself.
    pub(crate) fn open_token(&mut self) -> Result<(), Failure> {
        let new = matches!(self.progress.step(), Some(Step::TokenInit));
        let opened = match self.session.take() {
            Some(open) => open,
            None => self.open_known()?,
        };
        if let Some(known) = &self.place.profile {
            known.check(&opened.found)?;
        }
        if new && !opened.session.inventory()?.is_empty() {
            return Err(Failure::TokenNotEmpty(opened.found.identity.label));
        }
        self.record(Event::Token(opened.found.clone()))?;
        self.session = Some(opened);
        Ok(())
    }

    /// Another session than the one that changed the token.
    pub(crate) fn fresh_session(&self) -> Result<Session, Failure> {
        let opened = self.session.as_ref().ok_or_else(no_session)?;
        Ok(self.module.open(&opened.found.identity, &opened.pin)?)
    }

    /// Closes the transcript. A token may show a session what it never wrote down: each key must be
    /// there for another.
    pub(crate) fn close(&mut self) -> Result<(), Failure> {
        let mut fresh = self.fresh_session()?;
        for key in self.progress.made.keys() {
            fresh.find(key)?;
        }
        self.record(Event::Closed {})
    }

    /// Lets the step be confirmed, and records what is about to be done.
    pub(crate) fn intend(&mut self, intent: Intent) -> Result<(), Failure> {
        let effect = self.progress.step().map(Step::to_string).unwrap_or_default();
        self.confirm(&effect)?;
        self.record(Event::Intent(intent))
    }

    /// Records what was done.
    pub(crate) fn conclude(&mut self, outcome: Outcome) -> Result<(), Failure> {
        self.record(Event::Outcome(outcome))
    }

    /// Lets what is done about an interruption be confirmed, and records it.
    pub(crate) fn decide(&mut self, decision: Decision) -> Result<Decision, Failure> {
        self.console.add(&format!("interrupted; {decision}"))?;
        self.confirm(&decision.to_string())?;
        self.record(Event::Decided(decision.clone()))?;
        Ok(decision)
    }

    /// The session; the lints put the token's initialization before everything that needs one.
    pub(crate) fn session(&mut self) -> Result<&mut Session, Failure> {
        Ok(self.session_and_console()?.0)
    }

    /// The session, and the console for what takes its time.
    pub(crate) fn session_and_console(&mut self) -> Result<(&mut Session, &mut Console), Failure> {
        let opened = self.session.as_mut().ok_or_else(no_session)?;
        Ok((&mut opened.session, self.console))
    }

    fn confirm(&mut self, effect: &str) -> Result<(), Failure> {
        let attended = self.progress.opened.attendance == Attendance::Attended;
        if !attended || self.progress.is_confirmed() {
            return Ok(());
        }
        let (plan, number) = (&self.progress.plan, self.progress.number());
        let people = &plan.script().people;
        if people.is_empty() {
            self.console.confirm(&plan.confirmation(number, effect, None))?;
            return self.record(Event::Confirmed {});
        }
        let present = self.progress.present().iter();
        let words = present
            .map(|name| (name.clone(), plan.confirmation(number, effect, Some(name))))
            .collect();
        let enough = |who: &BTreeSet<Name>| people.missing(&people.quorum.confirm, who).is_empty();
        let who = self.console.confirm_by(&words, enough)?;
        self.record_by(who, Event::Confirmed {})
    }

    /// Writes a record of nobody's.
    pub(crate) fn record(&mut self, event: Event) -> Result<(), Failure> {
        self.record_by(BTreeSet::new(), event)
    }

    /// Writes a record, if it may follow those before it.
    pub(crate) fn record_by(&mut self, who: BTreeSet<Name>, event: Event) -> Result<(), Failure> {
        let step = self.progress.place(&event);
        let now = self.progress.moment(self.clock.now());
        let record = self.journals.compose(now, step, who, event);
        self.progress.push(&record)?;
        Ok(self.journals.append(&record)?)
    }
}

fn no_session() -> TokenError {
    TokenError::NoToken("no session was opened on the token".to_owned())
}

const EXAMPLE: &str = "2026-10-01 08:30";

/// Writes a file: whole, or not at all.
fn write_whole(path: &Path, content: &[u8]) -> Result<(), Failure> {
    let at = |source| Failure::Write { path: path.to_owned(), source };
    let new = path.with_extension("new");
    fs::write(&new, content).map_err(at)?;
    fs::File::open(&new).and_then(|file| file.sync_all()).map_err(at)?;
    fs::rename(&new, path).and_then(|()| sync_directory_of(path)).map_err(at)
}

/// A serial number that nobody can foresee.
pub(crate) fn random_serial() -> Result<X509Serial, Failure> {
    let mut octets = [0; 16];
    OsRng.try_fill_bytes(&mut octets).map_err(Failure::Random)?;
    Ok(X509Serial::from_random(octets))
}
