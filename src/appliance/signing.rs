//! The signing queue and the supervisor of the token worker.

mod process;
mod state;
mod supervisor;
#[cfg(test)]
mod tests;

use std::{num::NonZero, path::Path, sync::Arc, thread, time::Duration};

use arc_swap::ArcSwap;
use bytes::Bytes;
use metrics::counter;
use pki::{
    keys::{Signature, SignatureScheme},
    token::{IssuingKey, KeyRef, RawKey, TokenError, pkcs11::TokenIdentity},
};
use thiserror::Error;
use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::{Instant, timeout_at},
};

use crate::{
    config,
    worker::{
        login::LoginFile,
        wire::{Input, Settings, Work},
    },
};
use process::{Launch, START, StartError};
use state::Event;
pub use state::{Change, State};
use supervisor::{Job, Supervisor};

/// A handle on the signing queue; cheap to clone. The worker ends with the last one.
#[derive(Clone)]
pub struct Signing(Arc<Inner>);

struct Inner {
    jobs: mpsc::Sender<Job>,
    keys: Vec<KeyRef>,
    shown: Arc<Shown>,
}

/// What the supervisor shows, and what it is told.
struct Shown {
    state: ArcSwap<State>,
    distrusted: Notify,
    changes: mpsc::Sender<Change>,
}

/// How a signature was not made.
#[derive(Clone, Debug, Error)]
pub enum SigningError {
    /// The queue is full, or the deadline passed before the token could sign.
    #[error("the token is busy")]
    Busy,
    /// The token worker is not there; it is being started again.
    #[error("the token is not reachable: {0}")]
    Down(String),
    /// The token refuses for good: PIN, missing key or mechanism.
    #[error(transparent)]
    Token(#[from] TokenError),
}

impl Shown {
    /// Shows what follows from an event. That the kind of state changes is said once: in the log,
    /// in the metrics, and to whoever takes the changes. Only one task may call this.
    fn happened(&self, event: Event) {
        let before = self.state.load_full();
        let after = before.after(event);
        self.state.store(Arc::new(after.clone()));
        if after.name() != before.name() {
            self.change(Change { before: State::clone(&before), after });
        }
    }

    fn change(&self, change: Change) {
        let Change { before, after } = &change;
        after.measure();
        let (before, state) = (before.name(), after.name());
        let detail = after.detail().unwrap_or_default();
        match after {
            State::Starting | State::Up => tracing::info!(before, "the token is {state}"),
            State::Degraded(_) | State::Recovering(_) => {
                tracing::warn!(before, detail, "the token is {state}");
            }
            State::Down(_) | State::PinBlocked(_) => {
                tracing::error!(before, detail, "the token is {state}");
            }
        }
        if let Err(error) = self.changes.try_send(change) {
            tracing::error!(%error, state, "a change of the token cannot be recorded");
        }
    }
}

impl Signing {
    /// Starts the worker, logs in and finds every key; returns when it can sign. Logins are
    /// remembered in the state directory. Each change of the token's state is sent to `changes`,
    /// also when the start fails.
    ///
    /// # Errors
    ///
    /// The worker cannot be started, the PIN is refused or was refused before, or a key is missing
    /// or unfit.
    pub async fn start(
        settings: &config::Token,
        state_directory: &Path,
        identity: &TokenIdentity,
        keys: Vec<KeyRef>,
        changes: mpsc::Sender<Change>,
    ) -> Result<Self, SigningError> {
        let processors = || thread::available_parallelism().map_or(1, NonZero::get);
        let sessions = settings.sessions.map_or_else(processors, usize::from);
        let launch = Launch::this_program(Settings {
            module: settings.module.clone(),
            identity: identity.clone(),
            pin_file: settings.pin_file.clone(),
            pin_accepted: false,
            state_directory: state_directory.to_owned(),
            sessions: u8::try_from(sessions).unwrap_or(u8::MAX),
            keys,
            environment: settings.environment.clone(),
            sandbox: settings.sandbox.clone(),
        });
        Self::start_with(launch, changes).await
    }

    async fn start_with(
        mut launch: Launch,
        changes: mpsc::Sender<Change>,
    ) -> Result<Self, SigningError> {
        LoginFile::of(&launch.settings.state_directory).check()?;
        let state = ArcSwap::from_pointee(State::Starting);
        State::Starting.measure();
        let shown = Arc::new(Shown { state, distrusted: Notify::new(), changes });
        let started = Instant::now();
        let worker = launch.start(START).await.map_err(|error| {
            shown.happened(error.event());
            SigningError::from(error)
        })?;
        let (jobs, receiver) = mpsc::channel(QUEUE);
        let keys = launch.keys().to_vec();
        let supervisor = Supervisor::new(launch, started.elapsed(), receiver, Arc::clone(&shown));
        tokio::spawn(supervisor.run(worker));
        Ok(Self(Arc::new(Inner { jobs, keys, shown })))
    }

    /// Signs a prepared text with a CA's key.
    ///
    /// # Errors
    ///
    /// See [`SigningError`].
    pub async fn sign(
        &self,
        key: &IssuingKey,
        scheme: SignatureScheme,
        message: &[u8],
        deadline: Duration,
    ) -> Result<Signature, SigningError> {
        let message = Input::Message(Bytes::copy_from_slice(message));
        self.submit(key.key(), scheme, message, deadline).await
    }

    /// Signs a digest with a raw key.
    ///
    /// # Errors
    ///
    /// See [`SigningError`].
    pub async fn sign_digest(
        &self,
        key: &RawKey,
        scheme: SignatureScheme,
        digest: &[u8],
        deadline: Duration,
    ) -> Result<Signature, SigningError> {
        let digest = Input::Digest(Bytes::copy_from_slice(digest));
        self.submit(key.key(), scheme, digest, deadline).await
    }

    /// Ends the worker and starts another: it made a signature that does not verify.
    pub fn distrust(&self) {
        counter!("chancery_wrong_signatures_total").increment(1);
        self.0.shown.distrusted.notify_one();
    }

    /// How the token is now.
    pub fn state(&self) -> Arc<State> {
        self.0.shown.state.load_full()
    }

    /// How many jobs wait to be sent to the worker.
    pub fn waiting(&self) -> usize {
        self.0.jobs.max_capacity() - self.0.jobs.capacity()
    }

    async fn submit(
        &self,
        key: &KeyRef,
        scheme: SignatureScheme,
        input: Input,
        deadline: Duration,
    ) -> Result<Signature, SigningError> {
        let work = Work { key: self.place_of(key)?, scheme, input };
        let deadline = Instant::now() + deadline;
        let (answer, receiver) = oneshot::channel();
        let job = Job { work, deadline, attempts: 0, answer };
        self.0.jobs.try_send(job).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => self.late(),
            mpsc::error::TrySendError::Closed(_) => {
                SigningError::Down("its supervisor has ended".to_owned())
            }
        })?;
        match timeout_at(deadline, receiver).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) | Err(_) => Err(self.late()),
        }
    }

    fn place_of(&self, key: &KeyRef) -> Result<u16, TokenError> {
        let place = self.0.keys.iter().position(|known| known == key);
        place.and_then(|place| u16::try_from(place).ok()).ok_or_else(|| TokenError::KeyMissing {
            label: key.label.clone(),
            what: "the worker was started without it".to_owned(),
        })
    }

    /// Why a job was not done in time.
    fn late(&self) -> SigningError {
        let state = self.state();
        if state.signs() {
            return SigningError::Busy;
        }
        let detail = state.detail().unwrap_or("its worker is being started");
        SigningError::Down(detail.to_owned())
    }
}

impl StartError {
    fn event(&self) -> Event {
        match self {
            Self::Process(reason) => Event::Failed(reason.clone()),
            Self::Token(error @ TokenError::Pin { .. }) => Event::Refused(error.to_string()),
            Self::Token(error) => Event::Failed(error.to_string()),
        }
    }
}

impl From<StartError> for SigningError {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Process(reason) => Self::Down(reason),
            StartError::Token(error) => Self::Token(error),
        }
    }
}

/// The most jobs that wait; more are refused.
const QUEUE: usize = 4096;
