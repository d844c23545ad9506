use std::{
    cell::Cell,
    mem,
    sync::Arc,
    time::{Duration, Instant},
};

use pki::{
    clock::SystemClock,
    keys::Signature,
    secret::Secret,
    token::{
        Input, KeyRef, Token, TokenError,
        pkcs11::{LoginGuard, Module, Session},
    },
};

use super::wire::{self, Job, Settings};

/// One session, for one thread; opened anew when it is lost.
pub(super) struct Signer {
    settings: Arc<Settings>,
    module: Module,
    session: Option<Session>,
    /// The session was opened anew since somebody asked.
    reopened: bool,
    /// When it was last opened or used.
    used: Instant,
}

impl Signer {
    /// Loads the module, opens as many sessions as the token has for us, up to the settings', and
    /// finds every key in each.
    pub(super) fn open_all(settings: Arc<Settings>) -> Result<Vec<Self>, TokenError> {
        let module = Module::load(&settings.module)?;
        let mut signers: Vec<Self> = Vec::new();
        for _ in 0..settings.sessions.max(1) {
            match open(&settings, &module, &settings.keys) {
                Err(TokenError::NoSession { .. }) if !signers.is_empty() => break,
                session => signers.push(Self {
                    settings: Arc::clone(&settings),
                    module: module.clone(),
                    session: Some(session?),
                    reopened: false,
                    used: Instant::now(),
                }),
            }
        }
        Ok(signers)
    }

    /// Signs, at a second try in a new session: that mends a lost one, and a token that failed for
    /// once. A token that is gone fails again at once, and only a new process finds it.
    pub(super) fn sign(&mut self, job: &Job) -> Result<Signature, TokenError> {
        match self.try_sign(job) {
            Err(TokenError::Context { .. } | TokenError::Session { .. }) => {
                // Closed before another is opened: the token may have only one.
                self.session = None;
                self.try_sign(job)
            }
            outcome => outcome,
        }
    }

    /// Whether the session was lost and opened anew since this was last asked.
    pub(super) fn was_reopened(&mut self) -> bool {
        mem::take(&mut self.reopened)
    }

    /// Keeps the session alive if nobody has used it for so long; opens it anew, before somebody
    /// needs it, if it is dead.
    pub(super) fn keep_alive(&mut self, idle: Duration) -> Result<(), TokenError> {
        if self.used.elapsed() < idle {
            return Ok(());
        }
        self.used = Instant::now();
        let alive = match (&mut self.session, self.settings.keys.first()) {
            (Some(session), Some(key)) => session.keep_alive(key).is_ok(),
            (Some(_), None) => true,
            (None, _) => false,
        };
        if !alive {
            self.session = None;
            self.session = Some(self.reopen()?);
        }
        Ok(())
    }

    fn try_sign(&mut self, job: &Job) -> Result<Signature, TokenError> {
        let settings = Arc::clone(&self.settings);
        let key = settings.keys.get(usize::from(job.work.key)).ok_or_else(|| {
            let code = format!("it was started without key {}", job.work.key);
            TokenError::Refused { call: "the token worker".into(), code }
        })?;
        let input = match &job.work.input {
            wire::Input::Digest(bytes) => Input::Digest(bytes),
            wire::Input::Message(bytes) => Input::Message(bytes),
        };
        let session = match self.session.take() {
            Some(session) => session,
            None => self.reopen()?,
        };
        self.used = Instant::now();
        self.session.insert(session).sign(key, job.work.scheme, input)
    }

    fn reopen(&mut self) -> Result<Session, TokenError> {
        let session = open(&self.settings, &self.module, &self.settings.keys)?;
        self.reopened = true;
        Ok(session)
    }
}

/// Opens a session and finds these keys in it.
pub(super) fn open(
    settings: &Settings,
    module: &Module,
    keys: &[KeyRef],
) -> Result<Session, TokenError> {
    let logins = settings.logins();
    let guard = |log_in: &dyn Fn() -> Result<(), TokenError>| {
        logins.guard(&settings.identity, settings.pin_accepted, &SystemClock, log_in)
    };
    let mut session = module.open_guarded(&settings.identity, &pin(settings)?, guard)?;
    find(&mut session, settings, keys)?;
    Ok(session)
}

/// Finds these keys in a session. The PIN stays in our memory only if one of them wants it for each
/// signature.
pub(super) fn find(
    session: &mut Session,
    settings: &Settings,
    keys: &[KeyRef],
) -> Result<(), TokenError> {
    keys.iter().try_for_each(|key| session.find(key))?;
    if session.wants_pin() {
        session.keep_pin(pin(settings)?, guard_each_login(settings))?;
    }
    Ok(())
}

/// The PIN is read for each session and forgotten.
fn pin(settings: &Settings) -> Result<Secret, TokenError> {
    Secret::from_file(&settings.pin_file).map_err(|error| {
        let path = settings.pin_file.display();
        TokenError::NoToken(format!("the PIN file {path} cannot be read: {error}"))
    })
}

/// Around the logins that a key wants for its signatures: the first is as any other, and after it
/// the PIN is known to be right, so that only a refusal is written down.
fn guard_each_login(settings: &Settings) -> Box<LoginGuard> {
    let logins = settings.logins();
    let (identity, pin_accepted) = (settings.identity.clone(), settings.pin_accepted);
    let accepted = Cell::new(false);
    Box::new(move |log_in| {
        if accepted.get() {
            return logins.guard_known(&identity, &SystemClock, log_in);
        }
        logins.guard(&identity, pin_accepted, &SystemClock, log_in)?;
        accepted.set(true);
        Ok(())
    })
}
