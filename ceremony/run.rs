//! The performance: confirm, write the intent, act, check, write the outcome; step by step.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use pki::{
    clock::Clock,
    keys::Signature,
    serial::X509Serial,
    token::{
        Generated, Input, KeyRef, KeyStore as _, Token as _, TokenError,
        pkcs11::{Attempt, Module, Remains, Session, TokenIdentity},
    },
};
use rand::{TryRngCore as _, rngs::OsRng};

use crate::{
    console::Console,
    digest::Digest,
    dry_run::dry_run,
    failure::Failure,
    handoff::Bundle,
    journal::{Found, Journals, PowerLoss, directory_of},
    machine,
    name::Name,
    people::{PeopleError, Statement},
    plan::{Certificate, Key, Plan, Step},
    progress::{Ending, Progress},
    site::Site,
    transcript::{Attendance, Decision, Event, Intent, Opened, Outcome, Resumed, TOOL, TokenFound},
    verify::Verified,
};

/// Where a ceremony takes place, and where its outputs go.
#[derive(Debug)]
pub struct Place {
    /// On which token.
    pub site: Site,
    /// The journals' files, one on each medium.
    pub journals: Vec<PathBuf>,
    /// The hand-off's directory.
    pub handoff: PathBuf,
    /// Where a rehearsal loses its power.
    pub power_loss: Option<PowerLoss>,
}

/// What a ceremony begins with, besides its plan.
#[derive(Clone, Debug)]
pub struct Beginning {
    /// Who confirms the steps.
    pub attendance: Attendance,
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
    check_outputs(place, beginning.attendance, console)?;
    check_validity(plan, clock.now())?;
    dry_run(plan)?;
    let opened = opened(plan, beginning, place)?;

    // 2. Everything that can fail without changing the token.
    let module = Module::load(&opened.module.path)?;
    let session = open_if_there(plan, &place.site, &module)?;

    // 3. From here on, everything is recorded.
    let (journals, first) =
        Journals::create(&place.journals, opened, clock.now(), place.power_loss)?;
    let progress = Progress::begin(&first)?;
    let found_key = None;
    Performance { place, clock, console, module, session, found_key, progress, journals }.perform()
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
        Some(Ending::Closed) => return finish(&progress, journals, &found, &place.handoff),
        None => {}
    }
    check_rehearsed(progress.opened.attendance, place)?;
    check_same(&progress.opened, &place.site)?;
    let module = Module::load(&progress.opened.module.path)?;

    let Resumption { reason, found_key } = resumption;
    let boot = machine::boot().map_err(Failure::Machine)?;
    let resumed = Event::Resumed(Resumed { reason, boot, journals: found.journals });
    let session = None;
    let mut performance =
        Performance { place, clock, console, module, session, found_key, progress, journals };
    performance.record(resumed)?;
    performance.perform()
}

/// Ends a ceremony whose last record was written, and perhaps more.
fn finish(
    progress: &Progress,
    journals: Journals,
    found: &Found,
    handoff: &Path,
) -> Result<Digest, Failure> {
    let head = if found.chain.ended { found.chain.head } else { journals.close()? };
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

fn check_outputs(
    place: &Place,
    attendance: Attendance,
    console: &mut Console,
) -> Result<(), Failure> {
    let journals = place.journals.iter().map(|path| ("journal", path));
    for (what, path) in journals.chain([("hand-off", &place.handoff)]) {
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
    if attendance == Attendance::Unattended && !plan.script().people.is_empty() {
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
        rehearsal,
        approvals,
        plan_hash: plan.hash(),
        site_hash: place.site.hash,
        changeable_keys: place.site.changeable_keys.clone(),
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

/// Opens the token that the keys go into, and checks that there is room for each; or, if the plan
/// is to initialize it, that it is not there.
fn open_if_there(
    plan: &Plan,
    site: &Site,
    module: &Module,
) -> Result<Option<(TokenFound, Session)>, Failure> {
    if plan.initializes_token() {
        site.so_pin()?;
        site.pin()?;
        return match module.identify(&labelled(&site.token.label)) {
            Ok(found) => Err(Failure::TokenExists(found.label)),
            Err(TokenError::NoToken(_)) => Ok(None),
            Err(error) => Err(error.into()),
        };
    }
    let (found, mut session) = open(module, site, None)?;
    for key in plan.keys() {
        session.vacant(&key.label, &plan.key_id(&key.name))?;
    }
    Ok(Some((found, session)))
}

/// Opens a session on the token, which must be this one if one is known.
fn open(
    module: &Module,
    site: &Site,
    known: Option<&TokenIdentity>,
) -> Result<(TokenFound, Session), Failure> {
    // Before the login: its flags say how many wrong tries of the PIN there were.
    let found = TokenFound::from(module.info(&site.token)?);
    if known.is_some_and(|known| *known != found.identity) {
        return Err(Failure::Changed("token"));
    }
    let session = module.open(&found.identity, &site.pin()?)?;
    Ok((found, session))
}

fn labelled(label: &str) -> TokenIdentity {
    TokenIdentity { label: label.to_owned(), serial: None, manufacturer: None, model: None }
}

/// A ceremony under way.
struct Performance<'a> {
    place: &'a Place,
    clock: &'a dyn Clock,
    console: &'a mut Console,
    module: Module,
    /// The session, and what the token said before it was opened.
    session: Option<(TokenFound, Session)>,
    found_key: Option<FoundKey>,
    progress: Progress,
    journals: Journals,
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
        Bundle::new(&self.progress.plan, &self.progress.made, head)?.write(&self.place.handoff)?;
        Ok(head)
    }

    fn steps(&mut self) -> Result<(), Failure> {
        let count = self.progress.plan.script().steps.len();
        if self.progress.wants_roll_call() {
            self.call_roll()?;
        }
        if self.progress.wants_session() {
            self.open_token()?;
        }
        while let Some(step) = self.progress.step().cloned() {
            self.console.say(&format!("{:>3}/{count}  {step}", self.progress.number()))?;
            if let Some(details) = step.details() {
                self.console.add(&details)?;
            }
            match &step {
                Step::GenerateKey(key) => self.generate_key(&step, key)?,
                Step::HandOff => self.close()?,
                Step::SignCertificate(certificate) => self.sign(&step, certificate)?,
                Step::SignOff => self.sign_off()?,
                Step::TokenInit => self.initialize_token(&step)?,
            }
        }
        Ok(())
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

    /// Everybody who is present signs all that was recorded, the signatures before theirs included.
    fn sign_off(&mut self) -> Result<(), Failure> {
        while let Some(name) = self.progress.next_to_sign_off().cloned() {
            let plan = self.progress.plan.hash();
            let statement = Statement::SignOff { plan, head: self.journals.head() };
            let people = self.progress.plan.script().people.clone();
            self.console.add(&statement.to_string())?;
            let mut refused = None;
            let signed =
                self.console.ask(
                    &format!("{name}, the path of your SSH key"),
                    |typed| match people.sign(&name, statement, Path::new(typed)) {
                        Ok(signature) => Some(signature),
                        Err(error) => {
                            refused = Some(error);
                            None
                        }
                    },
                );
            let signature = match (signed, refused) {
                (Ok(signature), _) => signature,
                (Err(_), Some(error)) => return Err(error.into()),
                (Err(error), None) => return Err(error),
            };
            self.record_by(BTreeSet::from([name]), Event::SignedOff { signature })?;
        }
        Ok(())
    }

    fn initialize_token(&mut self, step: &Step) -> Result<(), Failure> {
        let label = self.place.site.token.label.clone();
        let (so_pin, pin) = (self.place.site.so_pin()?, self.place.site.pin()?);
        let decision = if self.progress.in_doubt().is_none() {
            self.intend(step, Intent::InitializeToken { label: label.clone() })?;
            Decision::Repeat
        } else {
            let decision = match self.module.identify(&labelled(&label)) {
                Ok(_) => Decision::FinishToken,
                Err(TokenError::NoToken(_)) => Decision::Repeat,
                Err(error) => return Err(error.into()),
            };
            self.decide(decision)?
        };
        let made = match decision {
            Decision::FinishToken => {
                self.module.finish_initialization(&labelled(&label), &so_pin, &pin)?
            }
            _ => self.module.initialize(&label, &so_pin, &pin)?,
        };
        self.record(Event::Outcome(Outcome::TokenInitialized(made)))?;
        self.open_token()
    }

    fn generate_key(&mut self, step: &Step, key: &Key) -> Result<(), Failure> {
        let id = self.progress.plan.key_id(&key.name);
        let mut generated = None;
        if self.progress.in_doubt().is_some() {
            generated = self.settle_key(key)?;
        } else {
            self.intend(step, Intent::generate(key, id.clone()))?;
        }
        let Generated { key: made, attributes } = match generated {
            Some(adopted) => adopted,
            None => {
                let session = session(&mut self.session)?;
                self.console.wait(|| session.generate(key.algorithm, &key.label, &id))?
            }
        };
        let fingerprint = made.public_key.fingerprint();
        let attributes = attributes.iter();
        let attributes = attributes.map(|(name, value)| ((*name).to_owned(), *value)).collect();
        let attempts = self.misuse(&made)?;
        let name = key.name.clone();
        let outcome = Outcome::KeyGenerated { name, key: made, attributes, attempts };
        self.record(Event::Outcome(outcome))?;
        self.console.add(&format!("public key SHA-256 {fingerprint}"))
    }

    /// Attempts what nobody may do with a key. One that lets it be done is destroyed at once.
    fn misuse(&mut self, key: &KeyRef) -> Result<BTreeMap<String, String>, Failure> {
        let changes = self.place.site.changeable_keys.is_none();
        let session = session(&mut self.session)?;
        let mut attempts = BTreeMap::new();
        for Attempt { what, refused } in session.attempt_misuse(key, changes)? {
            let Some(code) = refused else {
                let left = session.discard(&key.label, &key.id).err();
                return Err(Failure::Misused { label: key.label.clone(), what, left });
            };
            attempts.insert(what.to_owned(), code);
        }
        self.console.add(&format!("{} attempts to misuse it were refused", attempts.len()))?;
        Ok(attempts)
    }

    /// Finds out what an interrupted generation left, and clears it away unless it is to be taken.
    fn settle_key(&mut self, key: &Key) -> Result<Option<Generated>, Failure> {
        let id = self.progress.plan.key_id(&key.name);
        let found = session(&mut self.session)?.remains(&key.label, &id)?;
        let decision = match (found, self.found_key) {
            (Remains::Nothing, _) => Decision::Repeat,
            (Remains::Orphan, _) | (Remains::Pair, Some(FoundKey::Destroy)) => {
                Decision::DestroyAndRepeat { found }
            }
            (Remains::Pair, Some(FoundKey::Adopt)) => Decision::AdoptKey,
            (Remains::Pair, None) => return Err(Failure::KeyFound(key.label.clone())),
        };
        let decision = self.decide(decision)?;
        let session = session(&mut self.session)?;
        match decision {
            Decision::AdoptKey => Ok(Some(session.adopt(key.algorithm, &key.label, &id)?)),
            Decision::DestroyAndRepeat { .. } => {
                session.discard(&key.label, &id)?;
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    fn sign(&mut self, step: &Step, certificate: &Certificate) -> Result<(), Failure> {
        let name = certificate.name.clone();
        // What was intended once is what is signed: a second text would be a second certificate.
        let serial = match self.progress.intended() {
            Some(Intent::SignCertificate { serial, .. }) => X509Serial::from_random(*serial),
            _ => random_serial()?,
        };
        let prepared = self.progress.prepare(certificate, serial)?;
        if self.progress.in_doubt().is_some() {
            self.decide(Decision::SignAgain)?;
        } else {
            let (serial, to_be_signed) = (*serial.as_bytes(), prepared.bytes().to_vec());
            let name = name.clone();
            self.intend(step, Intent::SignCertificate { name, serial, to_be_signed })?;
        }
        let input = Input::Message(prepared.bytes());
        let signature =
            session(&mut self.session)?.sign(prepared.key().key(), prepared.scheme(), input)?;
        let octets = signature.0.clone();
        let sealed = prepared.seal(Signature(octets.clone()))?.bytes().to_vec();
        let outcome = Outcome::CertificateSigned { name, signature: octets, certificate: sealed };
        self.record(Event::Outcome(outcome))?;
        self.console.add(&format!("serial {serial}"))
    }

    /// A token may show a session what it never wrote down: each key must be there for another.
    fn close(&mut self) -> Result<(), Failure> {
        let (_, mut fresh) =
            open(&self.module, &self.place.site, self.progress.made.token.as_ref())?;
        for key in self.progress.plan.keys() {
            fresh.find(self.progress.made.key(&key.name)?)?;
        }
        self.record(Event::Closed {})
    }

    fn open_token(&mut self) -> Result<(), Failure> {
        let new = matches!(self.progress.step(), Some(Step::TokenInit));
        let (found, session) = match self.session.take() {
            Some(open) => open,
            None => open(&self.module, &self.place.site, self.progress.made.token.as_ref())?,
        };
        if new && !session.inventory()?.is_empty() {
            return Err(Failure::TokenNotEmpty(found.identity.label));
        }
        self.record(Event::Token(found.clone()))?;
        self.session = Some((found, session));
        Ok(())
    }

    fn intend(&mut self, step: &Step, intent: Intent) -> Result<(), Failure> {
        self.confirm(&step.to_string())?;
        self.record(Event::Intent(intent))
    }

    fn decide(&mut self, decision: Decision) -> Result<Decision, Failure> {
        self.console.add(&format!("interrupted; {decision}"))?;
        self.confirm(&decision.to_string())?;
        self.record(Event::Decided(decision.clone()))?;
        Ok(decision)
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

    fn record(&mut self, event: Event) -> Result<(), Failure> {
        self.record_by(BTreeSet::new(), event)
    }

    /// Writes a record, if it may follow those before it.
    fn record_by(&mut self, who: BTreeSet<Name>, event: Event) -> Result<(), Failure> {
        let step = self.progress.place(&event);
        let record = self.journals.compose(self.clock.now(), step, who, event);
        self.progress.push(&record)?;
        Ok(self.journals.append(&record)?)
    }
}

/// The session; the lints put the token's initialization before everything that needs one.
fn session(session: &mut Option<(TokenFound, Session)>) -> Result<&mut Session, Failure> {
    let missing = || TokenError::NoToken("no session was opened on the token".to_owned());
    Ok(session.as_mut().map(|(_, session)| session).ok_or_else(missing)?)
}

fn random_serial() -> Result<X509Serial, Failure> {
    let mut octets = [0; 16];
    OsRng.try_fill_bytes(&mut octets).map_err(Failure::Random)?;
    Ok(X509Serial::from_random(octets))
}
