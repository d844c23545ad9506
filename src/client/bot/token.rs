//! The bot's own keys in a PKCS#11 token.
//!
//! Each token that is used has a thread: PKCS#11 blocks, and a session is one thread's. It is handed
//! jobs, one after the other; a session that has died is opened anew once.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, LazyLock, Mutex, PoisonError, mpsc},
    thread,
    time::Duration,
};

use pki::{
    keys::{KeyAlgorithm, PublicKey, Signature},
    secret::Secret,
    token::{
        Input, KeyId, KeyLabel, KeyRef, KeyStore as _, Purpose, Token as _, TokenError,
        pkcs11::{Module, Session, TokenIdentity},
    },
};
use serde::Deserialize;
use tokio::sync::oneshot;

use crate::{config_file::absolute, ssh_agent::LoginKey};

/// Where a key is, as the configuration file says it.
///
/// ```toml
/// module = "/usr/lib/softhsm/libsofthsm2.so"
/// token = { label = "bots" }                  # serial, manufacturer and model, if need be
/// pin_file = "/etc/chancery/bots.pin"
/// name = "ci"                                 # of the key, in its label
/// ```
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "RawKeySettings")]
pub struct KeySettings {
    module: PathBuf,
    token: TokenIdentity,
    pin_file: PathBuf,
    /// The label of the key that proves.
    pub(super) join: KeyLabel,
    /// The labels of the keys that log in, in turn: the next is made before the last one goes.
    pub(super) login: [KeyLabel; 2],
}

impl KeySettings {
    /// The files that it takes.
    pub(super) fn paths(&self) -> Vec<&PathBuf> {
        vec![&self.module, &self.pin_file]
    }
}

/// As the file has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawKeySettings {
    module: PathBuf,
    token: TokenIdentity,
    pin_file: PathBuf,
    name: String,
}

impl TryFrom<RawKeySettings> for KeySettings {
    type Error = String;

    fn try_from(raw: RawKeySettings) -> Result<Self, String> {
        let RawKeySettings { module, token, pin_file, name } = raw;
        absolute([&module, &pin_file])?;
        let label = |purpose, suffix| {
            let all = format!("{name}{suffix}");
            KeyLabel::new(purpose, &all).map_err(|_| {
                format!("{name:?} cannot be the name of a key: it has 1 to 30 of a-z, 0-9 and -")
            })
        };
        let login = [label(Purpose::Login, "-1")?, label(Purpose::Login, "-2")?];
        Ok(Self { join: label(Purpose::Join, "")?, login, module, token, pin_file })
    }
}

/// A token that is used. The login is made when the first job comes.
pub(super) struct Token {
    jobs: Option<mpsc::Sender<Job>>,
    /// Closed when the thread has ended.
    ended: Mutex<mpsc::Receiver<()>>,
}

type Job = Box<dyn FnOnce(&mut Worker) + Send>;

impl Token {
    /// A thread for this token.
    pub(super) fn new(settings: &KeySettings) -> std::io::Result<Arc<Self>> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let (alive, ended) = mpsc::channel();
        let settings = settings.clone();
        thread::Builder::new().name("token".to_owned()).spawn(move || {
            let _alive = alive;
            let mut worker = Worker { settings, session: None, refused: None };
            queue.into_iter().for_each(|job| job(&mut worker));
        })?;
        Ok(Arc::new(Self { jobs: Some(jobs), ended: Mutex::new(ended) }))
    }

    /// Does something in a session. It may be done twice, if the session was found to be dead.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        mut act: impl FnMut(&mut Session) -> Result<T, TokenError> + Send + 'static,
    ) -> Result<T, TokenError> {
        let (answer, answered) = oneshot::channel();
        self.send(move |worker| {
            // Who asked may have gone.
            let _ = answer.send(worker.run(&mut act));
        });
        answered.await.unwrap_or_else(|_| {
            Err(TokenError::NoToken("the thread of the token has ended".to_owned()))
        })
    }

    fn send(&self, job: impl FnOnce(&mut Worker) + Send + 'static) {
        // If the thread has panicked, the job is dropped, and who waits for it learns that.
        let _ = self.jobs.as_ref().map(|jobs| jobs.send(Box::new(job)));
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

impl Drop for Token {
    /// Waits for what is still to be destroyed, but not for ever: a module may hang.
    fn drop(&mut self) {
        drop(self.jobs.take());
        let ended = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner);
        let _ = ended.recv_timeout(FAREWELL);
    }
}

struct Worker {
    settings: KeySettings,
    session: Option<Session>,
    /// The PIN was refused: it is not tried again.
    refused: Option<TokenError>,
}

impl Worker {
    fn run<T>(
        &mut self,
        act: &mut impl FnMut(&mut Session) -> Result<T, TokenError>,
    ) -> Result<T, TokenError> {
        match self.run_once(act) {
            // It was idle for too long, or the token was away for a while.
            Err(TokenError::Context { .. } | TokenError::Session { .. }) => self.run_once(act),
            other => other,
        }
    }

    fn run_once<T>(
        &mut self,
        act: &mut impl FnMut(&mut Session) -> Result<T, TokenError>,
    ) -> Result<T, TokenError> {
        let outcome = self.session().and_then(act);
        match &outcome {
            Err(TokenError::Context { .. }) => {
                self.session = None;
                forget(&self.settings.module);
            }
            Err(TokenError::Session { .. }) => self.session = None,
            Err(error @ TokenError::Pin { .. }) => self.refused = Some(error.clone()),
            _ => {}
        }
        outcome
    }

    fn session(&mut self) -> Result<&mut Session, TokenError> {
        if let Some(refused) = &self.refused {
            return Err(refused.clone());
        }
        let session = match self.session.take() {
            Some(session) => session,
            None => open(&self.settings)?,
        };
        Ok(self.session.insert(session))
    }
}

fn open(settings: &KeySettings) -> Result<Session, TokenError> {
    let pin = Secret::from_file(&settings.pin_file).map_err(|error| {
        let path = settings.pin_file.display();
        TokenError::NoToken(format!("cannot read the PIN from {path}: {error}"))
    })?;
    module(&settings.module)?.open(&settings.token, &pin)
}

/// A process initializes a module once, however many tokens of it are used; it stays loaded, and
/// knows which PINs it was refused.
fn module(path: &Path) -> Result<Module, TokenError> {
    let mut modules = MODULES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(module) = modules.get(path) {
        return Ok(module.clone());
    }
    let module = Module::load(path)?;
    modules.insert(path.to_owned(), module.clone());
    Ok(module)
}

/// Lets it be loaded anew, once all who have sessions of it have found that out.
fn forget(path: &Path) {
    MODULES.lock().unwrap_or_else(PoisonError::into_inner).remove(path);
}

static MODULES: LazyLock<Mutex<BTreeMap<PathBuf, Module>>> = LazyLock::new(Mutex::default);

/// A key in a token that is destroyed when this is dropped, after what it was asked to sign.
#[derive(Debug)]
pub(super) struct TokenKey {
    token: Arc<Token>,
    key: KeyRef,
}

impl TokenKey {
    /// Makes a key pair with this label. What is left of keys with the labels `stale`, as by a
    /// process that was killed, goes.
    pub(super) async fn generate(
        token: &Arc<Token>,
        label: KeyLabel,
        stale: Vec<KeyLabel>,
    ) -> Result<Self, TokenError> {
        let key = generate(token, label, stale).await?;
        Ok(Self { key, token: Arc::clone(token) })
    }
}

impl LoginKey for TokenKey {
    fn public_key(&self) -> &PublicKey {
        &self.key.public_key
    }

    async fn sign(&self, data: &[u8]) -> Result<Signature, TokenError> {
        sign(&self.token, self.key.clone(), data.to_vec()).await
    }
}

impl Drop for TokenKey {
    fn drop(&mut self) {
        let key = self.key.clone();
        self.token.send(move |worker| {
            let destroyed = worker.run(&mut |session: &mut Session| session.destroy(&key));
            if let Err(error) = destroyed {
                // Its label is cleared before the next key of that label is made.
                tracing::warn!(key = %key.label, %error, "a key in the token outlives its use");
            }
        });
    }
}

/// Makes a key pair with this label, after what is left of those with the labels `stale` is gone.
pub(super) async fn generate(
    token: &Token,
    label: KeyLabel,
    stale: Vec<KeyLabel>,
) -> Result<KeyRef, TokenError> {
    let mut id = [0; 8];
    aws_lc_rs::rand::fill(&mut id)
        .map_err(|_| TokenError::NoToken("the system gives no random bytes".to_owned()))?;
    let made = token.run(move |session| {
        for stale in &stale {
            session.clear(stale)?;
        }
        // P-256 is what every token, every sshd and the appliance know.
        session.generate(KeyAlgorithm::EcP256, &label, &KeyId::from(id))
    });
    Ok(made.await?.key)
}

/// Signs by the key's default scheme.
pub(super) async fn sign(
    token: &Token,
    key: KeyRef,
    data: Vec<u8>,
) -> Result<Signature, TokenError> {
    let scheme = key.public_key.default_scheme();
    token.run(move |session| session.sign(&key, scheme, Input::Message(&data))).await
}

const FAREWELL: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
