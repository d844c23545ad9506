//! The signing queue, and for each token the supervisor of its worker.

mod pace;
pub(crate) mod process;
mod queue;
mod recall;
mod state;
mod supervisor;
#[cfg(test)]
mod tests;

use std::{path::Path, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures_util::future::join_all;
use metrics::counter;
use pki::{
    keys::SignatureScheme,
    token::{KeyRef, RawKey, SigningKey, TokenError, pkcs11::TokenIdentity},
};
use thiserror::Error;
use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::{Instant, sleep, timeout_at},
};

use crate::{
    config,
    launcher::Launcher,
    worker::wire::{Input, Settings, Work},
};
pub use queue::{Made, Priority};
pub use recall::Recall;
pub use state::{Change, State};

use process::{Launch, StartError};
use queue::{Job, Place, Queue};
use state::Event;
use supervisor::Supervisor;

/// A handle on the signing queue; cheap to clone. The workers end with the last one.
#[derive(Clone)]
pub struct Signing(Arc<Inner>);

struct Inner {
    queue: Arc<Queue>,
    keys: Vec<KeyRef>,
    /// One for each token.
    shown: Vec<Arc<Shown>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.queue.close();
    }
}

/// What a supervisor shows, and what it is told.
struct Shown {
    /// The token's label, and a replica's serial number.
    name: String,
    state: ArcSwap<State>,
    distrusted: Notify,
    changes: mpsc::Sender<Change>,
}

/// How a signature was not made.
#[derive(Clone, Debug, Error)]
pub enum SigningError {
    /// More is asked for than the token can sign in time.
    #[error("the token is busy; it is free again in about {:.0} s", retry_after.as_secs_f64().ceil())]
    Busy {
        /// By then, as the token's measured rate has it, half of what waits is signed.
        retry_after: Duration,
    },
    /// It was taken back before it was made.
    #[error("it was taken back before it was signed")]
    Recalled,
    /// The token worker is not there; it is being started again.
    #[error("the token is not reachable: {0}")]
    Down(String),
    /// The token refuses for good: PIN, missing key or mechanism.
    #[error(transparent)]
    Token(#[from] TokenError),
}

impl Shown {
    fn new(settings: &Settings, changes: mpsc::Sender<Change>) -> Self {
        let label = &settings.identity.label;
        let name = match &settings.replica {
            None => label.clone(),
            Some(serial) => format!("{label}/{serial}"),
        };
        State::Starting.measure(&name);
        let state = ArcSwap::from_pointee(State::Starting);
        Self { name, state, distrusted: Notify::new(), changes }
    }

    /// Shows what follows from an event. That the kind of state changes is said once: in the log,
    /// in the metrics, and to whoever takes the changes. Only one task may call this.
    fn happened(&self, event: Event) {
        let before = self.state.load_full();
        let after = before.after(event);
        self.state.store(Arc::new(after.clone()));
        if after.name() != before.name() {
            let token = self.name.clone();
            self.change(Change { token, before: State::clone(&before), after });
        }
    }

    fn change(&self, change: Change) {
        let Change { token, before, after } = &change;
        after.measure(token);
        let (before, state) = (before.name(), after.name());
        let detail = after.detail().unwrap_or_default();
        match after {
            State::Starting | State::Up => tracing::info!(token, before, "the token is {state}"),
            State::Degraded(_) | State::Recovering(_) => {
                tracing::warn!(token, before, detail, "the token is {state}");
            }
            State::Down(_) | State::PinBlocked(_) => {
                tracing::error!(token, before, detail, "the token is {state}");
            }
        }
        if let Err(error) = self.changes.try_send(change) {
            tracing::error!(%error, state, "a change of the token cannot be recorded");
        }
    }
}

impl Signing {
    /// Has a worker started for each token by the launcher in its place, log in and find every key;
    /// returns when one can sign. Logins are remembered in the state directory. Each change of a
    /// token's state is sent to `changes`, also when the start fails.
    ///
    /// A replica that cannot be used does not keep the others from serving: it is tried again and
    /// again, unless its PIN is refused.
    ///
    /// # Errors
    ///
    /// Of the first token, when none can be used: its worker cannot be started, the PIN is refused
    /// or was refused before, or a key is missing or unfit.
    pub async fn start(
        launchers: Vec<Launcher>,
        tokens: impl IntoIterator<Item = (&config::Token, TokenIdentity)>,
        state_directory: &Path,
        keys: &[KeyRef],
        changes: mpsc::Sender<Change>,
    ) -> Result<Self, SigningError> {
        let launch = |(launcher, (token, identity))| {
            let settings = Settings::new(token, state_directory, identity, keys.to_vec());
            Launch::this_program(launcher, settings)
        };
        Self::start_with(launchers.into_iter().zip(tokens).map(launch).collect(), changes).await
    }

    async fn start_with(
        launches: Vec<Launch>,
        changes: mpsc::Sender<Change>,
    ) -> Result<Self, SigningError> {
        let keys = launches.first().map(|launch| launch.settings.keys.clone()).unwrap_or_default();
        let queue = Arc::new(Queue::new(launches.len()));
        let starts = launches.into_iter().enumerate().map(|(token, launch)| {
            let shown = Arc::new(Shown::new(&launch.settings, changes.clone()));
            Supervisor::start(launch, token, Arc::clone(&queue), shown)
        });
        let starts = join_all(starts).await;
        let none_signs = starts.iter().all(|(_, started)| started.is_err());
        let mut shown = Vec::new();
        for (supervisor, started) in starts {
            match started {
                Err(error) if none_signs => return Err(error.into()),
                started => {
                    shown.push(supervisor.shown());
                    tokio::spawn(supervisor.run(started));
                }
            }
        }
        Ok(Self(Arc::new(Inner { queue, keys, shown })))
    }

    /// Lets a client have one text signed within its patience. Before this, nothing is to be
    /// written down for it: what is refused here has cost nothing.
    ///
    /// Bulk waits for its admission, up to a minute; everything else is told at once.
    ///
    /// # Errors
    ///
    /// [`SigningError::Busy`] or [`SigningError::Token`].
    pub async fn admit(
        &self,
        client: &str,
        priority: Priority,
        patience: Duration,
    ) -> Result<Admission, SigningError> {
        let asked = Instant::now();
        loop {
            match self.0.queue.admit(client, priority, patience) {
                Err(SigningError::Busy { .. })
                    if priority == Priority::Bulk && asked.elapsed() < BULK_PATIENCE =>
                {
                    sleep(BULK_POLL).await;
                }
                Err(refused) => return Err(refused),
                Ok(place) => {
                    let deadline = Instant::now() + patience;
                    let (recall, signing) = (Arc::default(), self.clone());
                    return Ok(Admission { deadline, place, recall, signing });
                }
            }
        }
    }

    /// Whether any token signs.
    pub fn signs(&self) -> bool {
        self.0.shown.iter().any(|shown| shown.state.load().signs())
    }

    /// How each token is now, by its name: the label, and a replica's serial number.
    pub fn states(&self) -> impl Iterator<Item = (&str, Arc<State>)> {
        self.0.shown.iter().map(|shown| (shown.name.as_str(), shown.state.load_full()))
    }

    /// How many signatures were admitted and are not made yet.
    pub fn admitted(&self) -> usize {
        self.0.queue.places()
    }

    fn number_of(&self, key: &KeyRef) -> Result<u16, TokenError> {
        let place = self.0.keys.iter().position(|known| known == key);
        place.and_then(|place| u16::try_from(place).ok()).ok_or_else(|| TokenError::KeyMissing {
            label: key.label.clone(),
            what: "the worker was started without it".to_owned(),
        })
    }
}

/// The right to have one text signed within a time, also again when a signature is wrong.
pub struct Admission {
    deadline: Instant,
    place: Place,
    recall: Arc<Recall>,
    signing: Signing,
}

impl Admission {
    /// What takes the signature back while it is not made.
    pub fn recall(&self) -> Arc<Recall> {
        Arc::clone(&self.recall)
    }

    /// Signs a prepared text with a CA's key or the publication key.
    ///
    /// # Errors
    ///
    /// See [`SigningError`].
    pub async fn sign(
        &self,
        key: &SigningKey,
        scheme: SignatureScheme,
        message: &[u8],
    ) -> Result<Made, SigningError> {
        self.submit(key.key(), scheme, Input::Message(Bytes::copy_from_slice(message))).await
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
    ) -> Result<Made, SigningError> {
        self.submit(key.key(), scheme, Input::Digest(Bytes::copy_from_slice(digest))).await
    }

    /// Ends this token's worker and starts another: it made a signature that does not verify.
    pub fn distrust(&self, token: usize) {
        counter!("chancery_wrong_signatures_total").increment(1);
        if let Some(shown) = self.signing.0.shown.get(token) {
            shown.distrusted.notify_one();
        }
    }

    async fn submit(
        &self,
        key: &KeyRef,
        scheme: SignatureScheme,
        input: Input,
    ) -> Result<Made, SigningError> {
        let work = Work { key: self.signing.number_of(key)?, scheme, input };
        let (answer, receiver) = oneshot::channel();
        let (deadline, recall) = (self.deadline, self.recall());
        recall.give_back();
        self.place.wait(Job { work, deadline, attempts: 0, recall, answer });
        tokio::select! {
            biased;
            outcome = timeout_at(self.deadline, receiver) => match outcome {
                Ok(Ok(outcome)) => outcome,
                Ok(Err(_)) if self.recall.is_recalled() => Err(SigningError::Recalled),
                Ok(Err(_)) | Err(_) => Err(self.late()),
            },
            () = self.recall().withdrawn() => Err(SigningError::Recalled),
        }
    }

    /// Why it was not signed in time.
    fn late(&self) -> SigningError {
        if self.signing.signs() {
            return SigningError::Busy { retry_after: self.place.retry_after() };
        }
        let states: Vec<_> = self.signing.states().map(|(_, state)| state).collect();
        let detail = states.iter().find_map(|state| state.detail());
        SigningError::Down(detail.unwrap_or("its worker is being started").to_owned())
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

/// How long the items of a batch wait for admission.
const BULK_PATIENCE: Duration = Duration::from_secs(60);

/// How often they look whether there is room.
const BULK_POLL: Duration = Duration::from_millis(100);
