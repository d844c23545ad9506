//! The agent at work: one task for the bot's own certificate, one for each output, all of them
//! around what is known.

mod outputs;

use std::{
    collections::BTreeMap,
    fs::File,
    future::Future,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use api::{Authorities, BotRole};
use jiff::{SignedDuration, Timestamp};
use pki::clock::Clock;
use thiserror::Error;
use tokio::{net::TcpListener, sync::Notify};

use super::{
    config::Config,
    health,
    identity::{self, IdentityError, ProofError},
    schedule::{Attempts, LOCKED_LOOK, Refusal, Standing, Step, next},
    state::{self, Held, Identities, SETTLED, STATUS},
    status::{Counts, IdentityStatus, Status},
};
use crate::{
    Client,
    error::chain,
    life::chance,
    state::{StateDirectory, StateError},
};
use outputs::Output;

/// The agent of a bot.
pub struct Agent {
    shared: Arc<Shared>,
    health: Option<std::net::TcpListener>,
    /// Held as long as the agent runs: there is one.
    _lock: File,
}

/// The agent cannot run.
#[derive(Debug, Error)]
pub enum AgentError {
    /// It cannot say how it is.
    #[error("cannot listen on {address}")]
    Health {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// An output cannot be put where it is to be.
    #[error("output {name:?}: {what}")]
    Output {
        /// Its name.
        name: String,
        /// Why.
        what: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// Its state cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
}

/// Not all was done that was to be done once.
#[derive(Debug, Error)]
#[error("{what}")]
pub struct OnceError {
    what: String,
    hint: Option<String>,
}

impl AgentError {
    /// What to do about it, if there is something.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Health { .. } => Some("choose another address for `health`".to_owned()),
            Self::Output { hint, .. } => hint.clone(),
            Self::State(error) => error.hint(),
        }
    }
}

impl OnceError {
    /// What to do about it, if there is something.
    pub fn hint(&self) -> Option<String> {
        self.hint.clone()
    }
}

/// What the tasks share.
struct Shared {
    config: Config,
    state: StateDirectory,
    clock: Arc<dyn Clock>,
    outputs: Vec<Output>,
    known: Mutex<Known>,
    /// Something changed that others wait for.
    changed: Notify,
}

/// What is known, seen and changed by all tasks as one.
struct Known {
    identities: Identities,
    standing: Standing,
    /// Why nothing is served, if that is so.
    withdrawn: Option<String>,
    attempts: Attempts,
    asked_at: Option<Timestamp>,
    /// Shows the certificate that was confirmed.
    client: Option<Client>,
    authorities: Option<Arc<Authorities>>,
    roles: Vec<BotRole>,
    /// Of which closing of a role was warned.
    warned: BTreeMap<String, Timestamp>,
    problem: Option<Problem>,
    counts: Counts,
    outputs: Vec<outputs::Known>,
    /// Which bundles had their hook and their probe, by output.
    settled: BTreeMap<String, String>,
    noted: Option<Status>,
}

/// What is tried in vain.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Problem {
    what: String,
    hint: Option<String>,
}

impl Agent {
    /// Takes up the state where it was left, and puts right what a kill left over.
    ///
    /// # Errors
    ///
    /// Another agent runs, or a file or directory cannot be used.
    pub fn new(config: Config, clock: Arc<dyn Clock>) -> Result<Self, AgentError> {
        let state = state::open(&config.state_directory)?;
        let lock = state.lock()?;
        let identities = Identities::read(&state)?;
        let settled: BTreeMap<_, _> = state.read_if_present(SETTLED)?.unwrap_or_default();
        let mut outputs = Vec::new();
        let mut known_outputs = Vec::new();
        for settings in &config.outputs {
            let (output, known) = Output::open(settings, &settled)?;
            outputs.push(output);
            known_outputs.push(known);
        }
        let health = config.health.map(listen).transpose()?;
        let known = Known {
            identities,
            standing: Standing::default(),
            withdrawn: None,
            attempts: Attempts::default(),
            asked_at: None,
            client: None,
            authorities: None,
            roles: Vec::new(),
            warned: BTreeMap::new(),
            problem: None,
            counts: Counts::default(),
            outputs: known_outputs,
            settled,
            noted: None,
        };
        let known = Mutex::new(known);
        let changed = Notify::new();
        let shared = Arc::new(Shared { config, state, clock, outputs, known, changed });
        Ok(Self { shared, health, _lock: lock })
    }

    /// Works until `stop` is there. `ready` is called when each output was tried for the first
    /// time.
    ///
    /// # Errors
    ///
    /// A socket cannot be listened on.
    ///
    /// # Panics
    ///
    /// Never by itself; it must run in a Tokio runtime with I/O and time.
    pub async fn run(
        self,
        ready: impl FnOnce(),
        stop: impl Future<Output = ()>,
    ) -> Result<(), AgentError> {
        let shared = &self.shared;
        for output in &shared.outputs {
            output.listen()?;
        }
        let tasks = (0..shared.outputs.len()).map(|index| shared.keep_output(index));
        let outputs = futures_util::future::join_all(tasks);
        tokio::select! {
            () = stop => {}
            () = shared.answer(self.health) => {}
            () = shared.keep_identity() => {}
            _ = outputs => {}
            () = async {
                shared.tried().await;
                ready();
                std::future::pending().await
            } => {}
        }
        tracing::info!("the agent ends");
        Ok(())
    }

    /// Does what there is to do now, and ends. Sockets are not served.
    ///
    /// # Errors
    ///
    /// Something was not done; all else was.
    pub async fn once(self) -> Result<Status, OnceError> {
        let shared = &self.shared;
        while shared.identity_step().await {}
        for index in 0..shared.outputs.len() {
            if !shared.outputs[index].is_socket() {
                while shared.output_step(index).await {}
            }
        }
        let known = shared.known();
        let status = known.status(shared);
        let problems = known.outputs.iter().zip(&shared.config.outputs);
        let problems = problems.filter_map(|(it, output)| Some((&output.name, it.problem()?)));
        let first = known.problem.as_ref().map(|it| (it.what.clone(), it.hint.clone()));
        let mut problems = first.into_iter().chain(
            problems.map(|(name, it)| (format!("output {name:?}: {}", it.what), it.hint.clone())),
        );
        match problems.next() {
            Some((what, hint)) => Err(OnceError { what, hint }),
            None => Ok(status),
        }
    }
}

impl Shared {
    fn known(&self) -> MutexGuard<'_, Known> {
        // What a task left that panicked is whole: each change is one assignment.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Waits until something may have to be done. The clock is looked at each second, so that a
    /// machine that slept, or whose clock was set, is not waited for.
    async fn look(&self) {
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = self.changed.notified() => {}
        }
    }

    /// Waits until the first try of all outputs is over, or of the bot's own certificate, if it
    /// failed.
    async fn tried(&self) {
        loop {
            {
                let known = self.known();
                let refused = known.problem.is_some() || known.withdrawn.is_some();
                if refused || known.outputs.iter().all(|it| it.was_tried()) {
                    return;
                }
            }
            self.look().await;
        }
    }

    async fn answer(self: &Arc<Self>, listener: Option<std::net::TcpListener>) {
        let listener = listener.map(TcpListener::from_std);
        match listener {
            Some(Ok(listener)) => {
                if let Ok(address) = listener.local_addr() {
                    tracing::info!("health is told on {address}");
                }
                let shared = self.clone();
                let look = move || (shared.known().status(&shared), shared.now());
                health::serve(listener, look).await;
            }
            Some(Err(error)) => {
                tracing::error!("health: {error}");
                std::future::pending().await
            }
            None => std::future::pending().await,
        }
    }

    async fn keep_identity(&self) {
        loop {
            while self.identity_step().await {}
            self.look().await;
        }
    }

    /// Does what is next for the bot's own certificate; says whether something may follow at once.
    async fn identity_step(&self) -> bool {
        let (step, identities) = {
            let known = self.known();
            let Known { identities, standing, attempts, asked_at, .. } = &*known;
            match next(identities, standing, attempts, *asked_at, self.now()) {
                Step::Wait => return false,
                step => (step, identities.clone()),
            }
        };
        let done = match step {
            Step::Ask => self.ask(identities).await,
            Step::Join => self.join(identities).await,
            Step::Renew => self.renew(identities).await,
            Step::Wait => return false,
        };
        let well = match done {
            Ok(()) => {
                self.known().attempts.succeeded();
                true
            }
            Err(error) => {
                self.identity_refused(&error);
                false
            }
        };
        self.note();
        self.changed.notify_waiters();
        well
    }

    async fn join(&self, mut identities: Identities) -> Result<(), IdentityError> {
        let now = self.now();
        let joined = identity::join(&self.config, &self.state, &mut identities, now).await;
        self.keep_identities(identities);
        joined?;
        let mut known = self.known();
        // What was said of the instance before is not said of this one.
        known.standing = Standing::Good;
        known.counts.renewals += 1;
        if let Some(held) = known.identities.newest() {
            let Held { instance, not_after, .. } = held;
            tracing::info!(instance, %not_after, "joined");
        }
        Ok(())
    }

    async fn renew(&self, mut identities: Identities) -> Result<(), IdentityError> {
        let now = self.now();
        let renewed = identity::renew(&self.config, &self.state, &mut identities, now).await;
        self.keep_identities(identities);
        renewed?;
        let mut known = self.known();
        known.counts.renewals += 1;
        if let Some(held) = known.identities.newest() {
            let Held { generation, not_after, .. } = held;
            tracing::info!(generation, %not_after, "the bot's own certificate was renewed");
        }
        Ok(())
    }

    /// Confirms the newest certificate, and learns of locks, schedules and authorities.
    async fn ask(&self, mut identities: Identities) -> Result<(), IdentityError> {
        let asked = identity::ask(&self.config, &self.state, &mut identities).await;
        self.keep_identities(identities);
        let Some((client, status)) = asked? else { return Ok(()) };
        let authorities = Arc::new(client.authorities().await?);
        let now = self.now();
        let mut known = self.known();
        known.client = Some(client);
        known.asked_at = Some(now);
        for (output, settings) in known.outputs.iter_mut().zip(&self.config.outputs) {
            let role = status.roles.iter().find(|it| it.role == settings.role);
            output.heard(settings, role, &authorities, now);
        }
        known.authorities = Some(authorities);
        known.roles = status.roles;
        known.warn_of_closing(now);
        if known.standing != Standing::Good {
            tracing::info!("the appliance serves the bot again");
        }
        (known.standing, known.withdrawn) = (Standing::Good, None);
        if known.problem.take().is_some() {
            tracing::info!("the bot's own certificate: well again");
        }
        Ok(())
    }

    /// There is one who changes them: the task of the bot's own certificate.
    fn keep_identities(&self, identities: Identities) {
        self.known().identities = identities;
    }

    fn identity_refused(&self, error: &IdentityError) {
        let (refusal, told) = match error {
            IdentityError::Client(error) => (Refusal::of(error), retry_after(error)),
            _ => (Refusal::Later, None),
        };
        let now = self.now();
        {
            let mut known = self.known();
            known.counts.failures += 1;
            let problem = Problem { what: chain(error), hint: error.hint() };
            if known.problem.as_ref() != Some(&problem) {
                tracing::error!("{}", problem.said("the bot's own certificate"));
                known.problem = Some(problem);
            }
            if let IdentityError::Client(crate::Error::Problem(problem)) = error
                && problem.reason.as_deref() == Some("instance-key-used")
            {
                // A state directory that went back: the next try is with another key.
                known.identities.asked = None;
            }
            let needs_operator = matches!(error, IdentityError::Proof(ProofError::Used { .. }));
            if needs_operator || refusal == Refusal::Locked {
                let moved = SignedDuration::from_millis(i64::from(chance()) * 40);
                known.attempts.wait(now, LOCKED_LOOK + moved);
            } else {
                known.attempts.failed(now, chance(), told);
            }
        }
        self.refused(refusal, &chain(error));
    }

    /// What a refusal says about the bot as a whole, whoever was refused.
    fn refused(&self, refusal: Refusal, why: &str) {
        let standing = match refusal {
            Refusal::Locked => Standing::Locked,
            Refusal::Out { taken_back } => Standing::Out { taken_back },
            Refusal::Closed | Refusal::Later | Refusal::Superseded => return,
        };
        let serves = standing.serves();
        {
            let mut known = self.known();
            // Who joins anew is told nothing new by the certificate that is given up; but a lock
            // counts more than that.
            known.standing = standing;
            if !serves {
                known.withdrawn = Some(why.to_owned());
            }
        }
        if !serves {
            self.withdraw();
        }
        self.changed.notify_waiters();
    }

    /// Writes down how the agent stands, if that changed.
    fn note(&self) {
        let mut known = self.known();
        let status = known.status(self);
        if known.noted.as_ref() == Some(&status) {
            return;
        }
        if let Err(error) = self.state.note(STATUS, &status) {
            tracing::warn!("{}", chain(&error));
        }
        known.noted = Some(status);
    }
}

impl Known {
    /// The certificate to ask with for outputs, and the client that shows it.
    fn serving(&self, now: Timestamp) -> Option<(&Held, &Client)> {
        let held = self.identities.confirmed.as_ref().filter(|it| now <= it.not_after)?;
        let client = self.client.as_ref()?;
        (self.standing == Standing::Good && self.identities.fresh.is_none())
            .then_some((held, client))
    }

    /// Says once that a role is about to close.
    fn warn_of_closing(&mut self, now: Timestamp) {
        for BotRole { role, closes_at, .. } in &self.roles {
            let Some(closes_at) = *closes_at else { continue };
            let soon = closes_at.duration_since(now) <= WARNING;
            if soon && self.warned.insert(role.clone(), closes_at) != Some(closes_at) {
                tracing::warn!(role, %closes_at, "the role closes soon");
            }
        }
    }

    fn status(&self, shared: &Shared) -> Status {
        let identity = self.identities.newest().map(|it| IdentityStatus {
            instance: it.instance.clone(),
            generation: it.generation,
            not_after: it.not_after,
            next_attempt: self.attempts.again_at().map_or(it.due, |at| at.max(it.due)),
        });
        let outputs = self.outputs.iter().zip(&shared.config.outputs);
        Status {
            name: shared.config.name.clone(),
            server: shared.config.server.to_string(),
            identity,
            withdrawn: self.withdrawn.clone(),
            problem: self.problem.as_ref().map(|it| it.what.clone()),
            counts: self.counts,
            outputs: outputs.map(|(it, output)| (output.name.clone(), it.status(output))).collect(),
        }
    }
}

impl Problem {
    /// In one line, for the log.
    fn said(&self, about: &str) -> String {
        let hint = self.hint.as_ref().map(|it| format!(" ({it})")).unwrap_or_default();
        format!("{about}: {}{hint}", self.what)
    }
}

/// After how many seconds the appliance wants to be asked again, if it said so.
fn retry_after(error: &crate::Error) -> Option<u32> {
    match error {
        crate::Error::Problem(problem) => problem.retry_after,
        _ => None,
    }
}

fn listen(address: SocketAddr) -> Result<std::net::TcpListener, AgentError> {
    let failed = |source| AgentError::Health { address, source };
    let listener = std::net::TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}

/// Between two looks at the clock.
const LOOK: Duration = Duration::from_secs(1);

/// How long before a role closes that is said.
const WARNING: SignedDuration = SignedDuration::from_mins(15);
