use std::sync::Arc;

use pki::{
    keys::Signature,
    secret::Secret,
    token::{
        Input, Token, TokenError,
        pkcs11::{Module, Session},
    },
};

use super::wire::{self, Job, Settings};

/// One session, for one thread; opened anew when it is lost.
pub(super) struct Signer {
    settings: Arc<Settings>,
    module: Module,
    session: Session,
}

impl Signer {
    /// Loads the module, opens every session, and finds every key in each.
    pub(super) fn open_all(settings: Arc<Settings>) -> Result<Vec<Self>, TokenError> {
        let module = Module::load(&settings.module)?;
        (0..settings.sessions.max(1))
            .map(|_| {
                let session = open(&settings, &module)?;
                Ok(Self { settings: Arc::clone(&settings), module: module.clone(), session })
            })
            .collect()
    }

    pub(super) fn sign(&mut self, job: &Job) -> Result<Signature, TokenError> {
        match self.try_sign(job) {
            Err(TokenError::Session { .. }) => {
                self.session = open(&self.settings, &self.module)?;
                self.try_sign(job)
            }
            outcome => outcome,
        }
    }

    fn try_sign(&mut self, job: &Job) -> Result<Signature, TokenError> {
        let key = self.settings.keys.get(usize::from(job.work.key)).ok_or_else(|| {
            let code = format!("it was started without key {}", job.work.key);
            TokenError::Refused { call: "the token worker".into(), code }
        })?;
        let input = match &job.work.input {
            wire::Input::Digest(bytes) => Input::Digest(bytes),
            wire::Input::Message(bytes) => Input::Message(bytes),
        };
        self.session.sign(key, job.work.scheme, input)
    }
}

/// The PIN is read for each session and forgotten: it stays in no memory of ours.
fn open(settings: &Settings, module: &Module) -> Result<Session, TokenError> {
    let pin = Secret::from_file(&settings.pin_file).map_err(|error| {
        let path = settings.pin_file.display();
        TokenError::NoToken(format!("the PIN file {path} cannot be read: {error}"))
    })?;
    let mut session = module.open(&settings.identity, &pin)?;
    settings.keys.iter().try_for_each(|key| session.find(key))?;
    Ok(session)
}
