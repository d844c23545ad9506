//! What the agent has for other programs: made, put in place, told of, and taken away.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use api::{Authorities, BotRole};
use aws_lc_rs::digest::{SHA256, digest};
use jiff::{SignedDuration, Timestamp};
use thiserror::Error;

use super::{AgentError, Problem, Shared, retry_after};
use crate::{
    bot::{
        bundle::{Bundle, Life},
        config,
        hook::{self, HookError},
        output::{FileKind, Kind, ListenError, MakeError, Making, Socket, SocketKind},
        place::{Place, PlaceError, Record},
        schedule::{OutputState, OutputStep, Refusal, next_for_output},
        state::SETTLED,
        status::{Counts, OutputStatus, critical},
    },
    error::chain,
    life::chance,
    program::ProgramError,
    state::StateError,
};

/// An output, and where it goes.
#[derive(Debug)]
pub(super) enum Output {
    /// Files in a directory.
    Files { kind: Box<FileKind>, settings: Box<config::Place>, place: Place },
    /// A socket; there is none until the agent runs.
    Socket { kind: SocketKind, socket: Mutex<Option<Arc<Socket>>> },
}

/// What is known of an output.
#[derive(Debug, Default)]
pub(super) struct Known {
    state: OutputState,
    /// When its role closes, so far as is known.
    closes_at: Option<Timestamp>,
    /// What a bundle would be made from now, digested; `None` until the authorities are known.
    made_from: Option<String>,
    problem: Option<Problem>,
    counts: Counts,
}

/// An output was not renewed, or its users did not take it.
#[derive(Debug, Error)]
enum OutputError {
    #[error("the hook failed")]
    Hook(#[source] HookError),
    #[error(transparent)]
    Make(#[from] MakeError),
    #[error(transparent)]
    Place(#[from] PlaceError),
    #[error("the new bundle does not work, and the one before is in its place again")]
    PutBack(#[source] ProgramError),
    #[error("the bundle does not work, and there is none to go back to")]
    Probe(#[source] ProgramError),
    #[error(transparent)]
    State(#[from] StateError),
}

impl OutputError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Make(MakeError::Client(error)) => error.hint(),
            Self::Place(error) => error.hint(),
            Self::State(error) => error.hint(),
            Self::Hook(_) | Self::Make(_) | Self::Probe(_) | Self::PutBack(_) => None,
        }
    }
}

impl Output {
    /// Takes hold of its directory; gives what is in it.
    pub(super) fn open(
        settings: &config::Output,
        settled: &BTreeMap<String, String>,
    ) -> Result<(Self, Known), AgentError> {
        let (kind, place_settings) = match &settings.kind {
            Kind::Files { kind, place } => (kind, place),
            Kind::Socket(kind) => {
                let socket = Self::Socket { kind: kind.clone(), socket: Mutex::default() };
                return Ok((socket, Known::default()));
            }
        };
        let failed = |error: PlaceError| AgentError::Output {
            name: settings.name.clone(),
            what: chain(&error),
            hint: error.hint(),
        };
        let place = Place::open(place_settings).map_err(failed)?;
        let mut known = Known::default();
        known.state.bundle = place.current().map_err(failed)?;
        known.state.settled = match &known.state.bundle {
            Some(bundle) => settled.get(&settings.name) == Some(&bundle.id),
            None => false,
        };
        let (kind, settings) = (kind.clone(), place_settings.clone());
        Ok((Self::Files { kind, settings, place }, known))
    }

    /// Listens, if it is a socket.
    pub(super) fn listen(&self) -> Result<(), AgentError> {
        if let Self::Socket { kind, socket } = self {
            let listening = kind.listen().map_err(|error: ListenError| AgentError::Output {
                name: error.path.display().to_string(),
                what: chain(&error),
                hint: None,
            })?;
            *lock(socket) = Some(Arc::new(listening));
        }
        Ok(())
    }

    pub(super) fn is_socket(&self) -> bool {
        matches!(self, Self::Socket { .. })
    }

    fn withdraw(&self) -> Result<(), PlaceError> {
        match self {
            Self::Files { place, .. } => place.withdraw(),
            Self::Socket { socket, .. } => {
                lock(socket).iter().for_each(|it| it.withdraw());
                Ok(())
            }
        }
    }
}

impl Known {
    pub(super) fn problem(&self) -> Option<&Problem> {
        self.problem.as_ref()
    }

    /// Whether there is something, or it was tried in vain.
    pub(super) fn was_tried(&self) -> bool {
        let there = self.state.bundle.is_some() && self.state.settled;
        there || self.problem.is_some() || self.state.opens_at.is_some()
    }

    /// The appliance said how the output's role stands.
    pub(super) fn heard(
        &mut self,
        settings: &config::Output,
        role: Option<&BotRole>,
        authorities: &Authorities,
        now: Timestamp,
    ) {
        self.made_from = made_from(settings, authorities);
        self.closes_at = role.and_then(|it| it.closes_at);
        let opens_at = role.filter(|it| !it.open).and_then(|it| it.opens_at);
        // Those who wait for the same opening shall not come together.
        let moved = SignedDuration::from_millis(i64::from(chance()) * 40);
        self.state.opens_at = match (self.state.opens_at, opens_at) {
            (Some(before), Some(at)) if before >= at && before > now => Some(before),
            (_, at) => at.and_then(|at| at.checked_add(moved).ok()),
        };
    }

    pub(super) fn status(&self, output: &config::Output) -> OutputStatus {
        let OutputState { bundle, settled, attempts, opens_at } = &self.state;
        let due = bundle.as_ref().map(|it| it.due);
        OutputStatus {
            role: output.role.clone(),
            not_after: bundle.as_ref().map(|it| it.not_after),
            critical_at: bundle.as_ref().map(|it| critical(it.not_before, it.not_after)),
            next_attempt: [due, attempts.again_at(), *opens_at].into_iter().flatten().max(),
            opens_at: *opens_at,
            problem: self.problem.as_ref().map(|it| it.what.clone()),
            settled: *settled,
            counts: self.counts,
        }
    }
}

impl Shared {
    pub(super) async fn keep_output(&self, index: usize) {
        loop {
            while self.output_step(index).await {}
            self.look().await;
        }
    }

    /// Does what is next for an output; says whether something may follow at once.
    pub(super) async fn output_step(&self, index: usize) -> bool {
        let (step, work) = {
            let known = self.known();
            let serving = known.serving(self.now());
            let Known { state, made_from, .. } = &known.outputs[index];
            let held = serving.map(|(held, _)| held);
            let step = next_for_output(state, held, made_from.as_deref(), self.now());
            let work = serving.filter(|_| step == OutputStep::Make).and_then(|(held, client)| {
                Some(Work {
                    instance: held.instance.clone(),
                    client: client.clone(),
                    authorities: known.authorities.clone()?,
                    made_from: made_from.clone()?,
                })
            });
            (step, work)
        };
        let done = match (step, work) {
            (OutputStep::Make, Some(work)) => self.renew_output(index, &work).await,
            (OutputStep::Settle, _) => self.settle(index).await,
            (OutputStep::Make, None) | (OutputStep::Wait, _) => return false,
        };
        let again = match done {
            Ok(again) => again,
            Err(error) => self.output_refused(index, &error).await,
        };
        self.note();
        again
    }

    async fn renew_output(&self, index: usize, work: &Work) -> Result<bool, OutputError> {
        let (settings, output) = (&self.config.outputs[index], &self.outputs[index]);
        let nowhere = Path::new("");
        let making = |place| Making {
            client: &work.client,
            bot: &self.config.name,
            role: &settings.role,
            ttl: settings.ttl,
            authorities: &work.authorities,
            place,
        };
        let record = match output {
            Output::Files { kind, place, .. } => {
                place.check()?;
                let current = place.path().join("current");
                let bundle: Bundle = kind.make(&making(&current)).await?;
                if !self.still_serves(work) {
                    return Ok(true);
                }
                let record = self.record(index, work, bundle.life)?;
                place.put(&bundle, &record)?;
                record
            }
            Output::Socket { socket, .. } => {
                let Some(socket) = lock(socket).clone() else { return Ok(false) };
                let life = socket.renew(&making(nowhere)).await?;
                if !self.still_serves(work) {
                    socket.withdraw();
                    return Ok(true);
                }
                self.record(index, work, life)?
            }
        };
        let not_after = record.not_after;
        tracing::info!(output = settings.name, %not_after, "renewed");
        let mut known = self.known();
        let known = &mut known.outputs[index];
        (known.state.bundle, known.state.opens_at) = (Some(record), None);
        known.state.settled = false;
        known.counts.renewals += 1;
        Ok(true)
    }

    /// Whether nothing was heard in the meantime that forbids what was asked for.
    fn still_serves(&self, work: &Work) -> bool {
        let known = self.known();
        let serving = known.serving(self.now());
        // A renewal of the bot's own certificate leaves its instance as it is.
        known.standing.serves() && serving.is_none_or(|(held, _)| held.instance == work.instance)
    }

    fn record(&self, index: usize, work: &Work, life: Life) -> Result<Record, OutputError> {
        let now = self.now();
        let closes_at = self.known().outputs[index].closes_at.filter(|at| *at > now);
        // Another certificate would end at the same time.
        let clipped = closes_at.is_some_and(|at| at.duration_since(life.not_after) <= MARGIN);
        let left = Life { not_before: life.not_before.max(now), ..life };
        let mut id = [0; 16];
        aws_lc_rs::rand::fill(&mut id).map_err(|_| MakeError::Client(crate::Error::Random))?;
        Ok(Record {
            id: hex::encode(id),
            instance: work.instance.clone(),
            made_from: work.made_from.clone(),
            not_before: life.not_before,
            not_after: life.not_after,
            due: if clipped { life.not_after } else { left.middle(chance()) },
        })
    }

    /// Tells the users of a bundle, asks whether it works, and goes back if not.
    async fn settle(&self, index: usize) -> Result<bool, OutputError> {
        let name = &self.config.outputs[index].name;
        let id = self.known().outputs[index].state.bundle.as_ref().map(|it| it.id.clone());
        if let Output::Files { settings, place, .. } = &self.outputs[index] {
            if let Some(hook) = &settings.hook {
                hook::run(hook).await.map_err(OutputError::Hook)?;
            }
            let probed = match &settings.probe {
                Some(probe) => hook::probe(probe).await,
                None => Ok(()),
            };
            if let Err(error) = probed {
                return Err(self.put_back(index, settings, place, error).await);
            }
            if let Some(id) = &id {
                self.note_settled(name, id)?;
            }
        }
        let mut known = self.known();
        let known = &mut known.outputs[index];
        // It may have been withdrawn in the meantime.
        if known.state.bundle.as_ref().map(|it| &it.id) == id.as_ref() {
            known.state.settled = true;
            known.state.attempts.succeeded();
            if known.problem.take().is_some() {
                tracing::info!(output = name, "well again");
            }
        }
        Ok(true)
    }

    async fn put_back(
        &self,
        index: usize,
        settings: &config::Place,
        place: &Place,
        why: ProgramError,
    ) -> OutputError {
        let record = match place.put_back(self.now()) {
            Ok(Some(record)) => record,
            Ok(None) => return OutputError::Probe(why),
            Err(error) => return error.into(),
        };
        {
            let mut known = self.known();
            let state = &mut known.outputs[index].state;
            (state.bundle, state.settled) = (Some(record.clone()), true);
        }
        // Its users have the new one already.
        let told = match &settings.hook {
            Some(hook) => hook::run(hook).await.map_err(OutputError::Hook),
            None => Ok(()),
        };
        let name = &self.config.outputs[index].name;
        let noted = told.and_then(|()| self.note_settled(name, &record.id));
        noted.err().unwrap_or(OutputError::PutBack(why))
    }

    fn note_settled(&self, name: &str, id: &str) -> Result<(), OutputError> {
        let mut known = self.known();
        known.settled.insert(name.to_owned(), id.to_owned());
        Ok(self.state.store(SETTLED, &known.settled)?)
    }

    /// Says whether something may follow at once.
    async fn output_refused(&self, index: usize, error: &OutputError) -> bool {
        let (refusal, told) = match error {
            OutputError::Make(MakeError::Client(error)) => (Refusal::of(error), retry_after(error)),
            _ => (Refusal::Later, None),
        };
        let now = self.now();
        let name = &self.config.outputs[index].name;
        {
            let mut known = self.known();
            let output = &mut known.outputs[index];
            output.counts.failures += 1;
            let problem = Problem { what: chain(error), hint: error.hint() };
            if output.problem.as_ref() != Some(&problem) {
                tracing::error!("{}", problem.said(&format!("output {name:?}")));
                output.problem = Some(problem);
            }
            output.state.attempts.failed(now, chance(), told);
            if matches!(refusal, Refusal::Closed | Refusal::Superseded) {
                // When it opens, or which certificate is the newest, is asked at once.
                known.asked_at = None;
            }
        }
        self.refused(refusal, &chain(error));
        self.changed.notify_waiters();
        false
    }

    /// Takes away what all outputs have.
    pub(super) fn withdraw(&self) {
        for (index, output) in self.outputs.iter().enumerate() {
            let name = &self.config.outputs[index].name;
            let withdrawn = output.withdraw();
            let mut known = self.known();
            let state = &mut known.outputs[index].state;
            match withdrawn {
                Ok(()) if state.bundle.is_some() => tracing::warn!(output = name, "withdrawn"),
                Ok(()) => {}
                Err(error) => tracing::error!(output = name, "{}", chain(&error)),
            }
            (state.bundle, state.settled) = (None, false);
        }
    }
}

/// What an output is renewed with.
struct Work {
    instance: String,
    client: crate::Client,
    authorities: Arc<Authorities>,
    made_from: String,
}

/// What a bundle depends on beside the instance, digested.
fn made_from(settings: &config::Output, authorities: &Authorities) -> Option<String> {
    let mut text = serde_json::to_vec(authorities).ok()?;
    text.extend_from_slice(settings.fingerprint.as_bytes());
    Some(hex::encode(digest(&SHA256, &text)))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Certificates have whole seconds.
const MARGIN: SignedDuration = SignedDuration::from_secs(2);
