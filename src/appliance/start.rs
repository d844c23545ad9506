//! Stands up what signs: hand-off, rules, ledger, token, authority.

use std::{iter, sync::Arc};

use pki::{
    clock::Clock,
    handoff::{Handoff, HandoffError},
    token::KeyRef,
};
use thiserror::Error;
use tokio::sync::mpsc;

use crate::{
    authority::{Authority, AuthorityError},
    config::Config,
    launcher::Launcher,
    ledger::{Event, Ledger, LedgerError},
    makers::{self, MakersError},
    policy::{Rules, RulesError},
    publisher::{OfflineCrlError, OfflineCrls},
    signing::{Change, Signing, SigningError},
};

/// What is there once the appliance can sign.
pub struct Started {
    /// Issues what the rules grant.
    pub authority: Authority,
    /// The one clock.
    pub clock: Arc<dyn Clock>,
    /// The ledger of the state directory.
    pub ledger: Ledger,
    /// The revocation lists of CAs that are offline.
    pub offline_crls: OfflineCrls,
    /// SHA-256 over the rules, hexadecimal.
    pub rules_digest: String,
    /// The token's queue.
    pub signing: Signing,
}

/// The appliance cannot start.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "each variant's message says what it is")]
pub enum StartError {
    #[error("the authorities cannot be stood up")]
    Authority(#[from] AuthorityError),
    #[error("the hand-off of the ceremony cannot be used")]
    Handoff(#[from] HandoffError),
    #[error("the makers of cards cannot be read")]
    Makers(#[from] MakersError),
    #[error("the ledger cannot be opened")]
    Ledger(#[from] LedgerError),
    #[error("the revocation list of an offline CA cannot be given out")]
    OfflineCrl(#[from] OfflineCrlError),
    #[error("the rules cannot be used")]
    Rules(#[from] RulesError),
    #[error("the token cannot be used")]
    Signing(#[from] SigningError),
    #[error("token.label is {configured:?}, but the ceremony's token is {pinned:?}")]
    TokenLabel { configured: String, pinned: String },
}

impl Started {
    /// Stands everything up; the token comes last, so that a mistake in a file costs no login.
    ///
    /// # Errors
    ///
    /// See [`StartError`].
    pub async fn new(
        config: &Config,
        launchers: Vec<Launcher>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StartError> {
        let handoff = Handoff::read(&config.handoff)?;
        if handoff.token.label != config.token.label {
            let (configured, pinned) = (config.token.label.clone(), handoff.token.label);
            return Err(StartError::TokenLabel { configured, pinned });
        }
        let offline_crls = OfflineCrls::read(config, &handoff)?;
        let makers = makers::read(config.attestation.as_ref())?;
        let rules = Rules::read(&config.rules)?.bind(&handoff)?.trust(Arc::new(makers))?;
        rules.check_directory(config.directory.as_ref())?;
        let rules_digest = rules.digest().to_owned();
        let ledger = Ledger::open(&config.state_directory, &config.audit_directory, clock.clone())?;
        let (changes, receiver) = mpsc::channel(CHANGES);
        let recorder = tokio::spawn(record_changes(ledger.clone(), receiver));
        let first = (&config.token, handoff.token.clone());
        let replicas = config.replicas.iter().map(|token| (token, token.identity()));
        let tokens = iter::once(first).chain(replicas);
        let (directory, keys) = (&config.state_directory, keys(&handoff));
        let started = Signing::start(launchers, tokens, directory, &keys, changes).await;
        let signing = match started {
            Ok(signing) => signing,
            Err(error) => {
                // The process ends soon: what the token did is to be in the audit log before.
                if let Err(error) = recorder.await {
                    tracing::error!(%error, "changes of the token are not recorded");
                }
                return Err(error.into());
            }
        };
        let authority =
            Authority::new(config, handoff, rules, ledger.clone(), signing.clone(), clock.clone())?;
        Ok(Self { authority, clock, ledger, offline_crls, rules_digest, signing })
    }
}

/// Writes down each change of the token. It has happened already: if it cannot be written, the
/// log says so, and nothing is signed, since intents cannot be written either.
async fn record_changes(ledger: Ledger, mut changes: mpsc::Receiver<Change>) {
    while let Some(Change { token, before, after }) = changes.recv().await {
        let event = Event::TokenState {
            token,
            before: before.name(),
            state: after.name(),
            detail: after.detail().map(str::to_owned),
        };
        if let Err(error) = ledger.record(event).await {
            tracing::error!(%error, state = after.name(), "a change of the token is not recorded");
        }
    }
}

/// The keys that the appliance signs with: a root in the same token is none of them.
fn keys(handoff: &Handoff) -> Vec<KeyRef> {
    let online = handoff.x509.values().filter(|authority| authority.online);
    let x509 = online.map(|authority| &authority.key);
    let ssh = handoff.ssh.values().map(|authority| &authority.key);
    let others = handoff.raw.values().chain(std::iter::once(&handoff.publication));
    x509.chain(ssh).chain(others).cloned().collect()
}

/// So many changes of the token may wait for the ledger.
const CHANGES: usize = 256;
