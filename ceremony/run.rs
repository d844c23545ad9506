//! The performance: confirm, write the intent, act, check, write the outcome; step by step.

use std::path::PathBuf;

use jiff::Timestamp;
use pki::{
    clock::Clock,
    keys::Signature,
    serial::X509Serial,
    token::{
        Input, KeyStore as _, Token as _, TokenError,
        pkcs11::{Module, Session, TokenIdentity},
    },
};
use rand::{TryRngCore as _, rngs::OsRng};

use crate::{
    console::Console,
    digest::Digest,
    failure::Failure,
    handoff::Bundle,
    made::Made,
    plan::{Certificate, Key, Plan, Step},
    rehearsal::rehearse,
    site::Site,
    transcript::{
        Attendance, Event, Intent, Opened, Outcome, TOOL, TokenFound, Writer, directory_of,
    },
};

/// What is to be performed, and where its outputs go.
#[derive(Debug)]
pub struct Job {
    /// What is made.
    pub plan: Plan,
    /// On which token.
    pub site: Site,
    /// The transcript's file; must not exist.
    pub transcript: PathBuf,
    /// The hand-off's directory; must not exist.
    pub handoff: PathBuf,
    /// Who confirms the steps.
    pub attendance: Attendance,
}

/// Performs a plan, and gives the head of its transcript.
///
/// # Errors
///
/// A check before the first step fails: nothing was changed. Or a step fails: the transcript says
/// which, and what was done before it.
pub fn run(job: &Job, clock: &dyn Clock, console: &mut Console) -> Result<Digest, Failure> {
    // 1. Everything that can fail without the token.
    check_outputs(job)?;
    check_validity(&job.plan, clock.now())?;
    rehearse(&job.plan)?;
    let opened = opened(job)?;

    // 2. Everything that can fail without changing the token.
    let module = Module::load(&opened.module.path)?;
    let session = open_if_there(job, &module)?;

    // 3. From here on, everything is recorded.
    let transcript = Writer::create(&job.transcript, opened, clock.now())?;
    let performance = Performance {
        job,
        clock,
        console,
        module,
        session: None,
        made: Made::default(),
        transcript,
    };
    performance.perform(session)
}

fn check_outputs(job: &Job) -> Result<(), Failure> {
    for (what, path) in [("transcript", &job.transcript), ("hand-off", &job.handoff)] {
        // A dangling link is something, too.
        if path.symlink_metadata().is_ok() {
            return Err(Failure::OutputExists { what, path: path.clone() });
        }
        if !directory_of(path).is_dir() {
            return Err(Failure::NoDirectory { what, path: path.clone() });
        }
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

fn opened(job: &Job) -> Result<Opened, Failure> {
    Ok(Opened {
        tool: TOOL.to_owned(),
        attendance: job.attendance,
        plan_hash: job.plan.hash(),
        site_hash: job.site.hash,
        module: job.site.module()?,
        plan: job.plan.script().clone(),
    })
}

/// Opens the token that the keys go into, and checks that there is room for each; or, if the plan
/// is to initialize it, that it is not there.
fn open_if_there(job: &Job, module: &Module) -> Result<Option<(TokenFound, Session)>, Failure> {
    if job.plan.initializes_token() {
        refuse_token(module, &job.site)?;
        return Ok(None);
    }
    let (found, mut session) = open(module, &job.site)?;
    for key in job.plan.keys() {
        session.vacant(&key.label, &job.plan.key_id(&key.name))?;
    }
    Ok(Some((found, session)))
}

fn refuse_token(module: &Module, site: &Site) -> Result<(), Failure> {
    site.so_pin()?;
    site.pin()?;
    let label = site.token.label.clone();
    let wanted =
        TokenIdentity { label: label.clone(), serial: None, manufacturer: None, model: None };
    match module.identify(&wanted) {
        Ok(_) => Err(Failure::TokenExists(label)),
        Err(TokenError::NoToken(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn open(module: &Module, site: &Site) -> Result<(TokenFound, Session), Failure> {
    // Before the login: its flags say how many wrong tries of the PIN there were.
    let found = TokenFound::from(module.info(&site.token)?);
    let session = module.open(&found.identity, &site.pin()?)?;
    Ok((found, session))
}

/// A ceremony under way.
struct Performance<'a> {
    job: &'a Job,
    clock: &'a dyn Clock,
    console: &'a mut Console,
    module: Module,
    session: Option<Session>,
    made: Made,
    transcript: Writer,
}

impl Performance<'_> {
    fn perform(mut self, session: Option<(TokenFound, Session)>) -> Result<Digest, Failure> {
        if let Err(failure) = self.steps(session) {
            // The transcript may be what failed; the failure itself is what the person must see.
            let reason = failure.message();
            let _ = self.transcript.append(self.clock.now(), None, Event::Stopped { reason });
            return Err(failure);
        }
        let head = self.transcript.close()?;
        Bundle::new(&self.job.plan, &self.made, head)?.write(&self.job.handoff)?;
        Ok(head)
    }

    fn steps(&mut self, session: Option<(TokenFound, Session)>) -> Result<(), Failure> {
        if let Some((found, session)) = session {
            self.use_session(None, found, session)?;
        }
        let plan = &self.job.plan;
        let count = plan.script().steps.len();
        for (number, step) in plan.steps() {
            self.console.say(&format!("{number:>3}/{count}  {step}"))?;
            if let Some(details) = step.details() {
                self.console.add(&details)?;
            }
            if self.job.attendance == Attendance::Attended && *step != Step::HandOff {
                self.console.confirm(&plan.confirmation(number, step))?;
            }
            match step {
                Step::GenerateKey(key) => self.generate_key(number, key)?,
                Step::HandOff => self.close(number)?,
                Step::SignCertificate(certificate) => self.sign(number, certificate)?,
                Step::TokenInit => self.initialize_token(number)?,
            }
        }
        Ok(())
    }

    fn initialize_token(&mut self, number: u32) -> Result<(), Failure> {
        let site = &self.job.site;
        let label = site.token.label.clone();
        let (so_pin, pin) = (site.so_pin()?, site.pin()?);
        self.intend(number, Intent::InitializeToken { label: label.clone() })?;
        let made = self.module.initialize(&label, &so_pin, &pin)?;
        self.conclude(number, Outcome::TokenInitialized(made.clone()))?;
        let (found, session) = open(&self.module, site)?;
        self.use_session(Some(number), found, session)
    }

    fn generate_key(&mut self, number: u32, key: &Key) -> Result<(), Failure> {
        let id = self.job.plan.key_id(&key.name);
        self.intend(number, Intent::generate(key, id.clone()))?;
        let session = session(&mut self.session)?;
        let generated = self.console.wait(|| session.generate(key.algorithm, &key.label, &id))?;
        let name = key.name.clone();
        let attributes = generated.attributes.iter();
        let attributes = attributes.map(|(name, value)| ((*name).to_owned(), *value)).collect();
        let key = generated.key;
        let fingerprint = key.public_key.fingerprint();
        self.made.add_key(name.clone(), key.clone());
        self.conclude(number, Outcome::KeyGenerated { name, key, attributes })?;
        self.console.add(&format!("public key SHA-256 {fingerprint}"))
    }

    fn sign(&mut self, number: u32, certificate: &Certificate) -> Result<(), Failure> {
        let name = certificate.name.clone();
        let serial = random_serial()?;
        let signer = self.job.plan.signer(certificate);
        let prepared = self.made.prepare(certificate, signer, serial)?;
        let intent = Intent::SignCertificate {
            name: name.clone(),
            serial: *serial.as_bytes(),
            to_be_signed: prepared.bytes().to_vec(),
        };
        self.intend(number, intent)?;
        let input = Input::Message(prepared.bytes());
        let signature =
            session(&mut self.session)?.sign(prepared.key().key(), prepared.scheme(), input)?;
        let octets = signature.0.clone();
        let sealed = prepared.seal(Signature(octets.clone()))?.bytes().to_vec();
        self.made.add_certificate(certificate, sealed.clone())?;
        self.conclude(
            number,
            Outcome::CertificateSigned { name, signature: octets, certificate: sealed },
        )?;
        self.console.add(&format!("serial {serial}"))
    }

    /// A token may show a session what it never wrote down: each key must be there for another.
    fn close(&mut self, number: u32) -> Result<(), Failure> {
        let (_, mut fresh) = open(&self.module, &self.job.site)?;
        for key in self.job.plan.keys() {
            fresh.find(self.made.key(&key.name)?)?;
        }
        self.record(Some(number), Event::Closed {})
    }

    fn use_session(
        &mut self,
        step: Option<u32>,
        found: TokenFound,
        session: Session,
    ) -> Result<(), Failure> {
        self.made.token = Some(found.identity.clone());
        self.record(step, Event::Token(found))?;
        self.session = Some(session);
        Ok(())
    }

    fn intend(&mut self, number: u32, intent: Intent) -> Result<(), Failure> {
        self.record(Some(number), Event::Intent(intent))
    }

    fn conclude(&mut self, number: u32, outcome: Outcome) -> Result<(), Failure> {
        self.record(Some(number), Event::Outcome(outcome))
    }

    fn record(&mut self, step: Option<u32>, event: Event) -> Result<(), Failure> {
        Ok(self.transcript.append(self.clock.now(), step, event)?)
    }
}

/// The session; the lints put the token's initialization before everything that needs one.
fn session(session: &mut Option<Session>) -> Result<&mut Session, Failure> {
    let missing = || TokenError::NoToken("no session was opened on the token".to_owned());
    Ok(session.as_mut().ok_or_else(missing)?)
}

fn random_serial() -> Result<X509Serial, Failure> {
    let mut octets = [0; 16];
    OsRng.try_fill_bytes(&mut octets).map_err(Failure::Random)?;
    Ok(X509Serial::from_random(octets))
}
