//! What is published of what was taken back: one KRL for all SSH CAs in a signed bundle, a CRL for
//! each X.509 issuer, and what OCSP answers are made of.
//!
//! One task ([`Press`]) makes all of it. It takes all changes that wait, has everything signed side
//! by side, and swaps it in as a whole, so that nobody ever sees a KRL of one moment and a CRL of
//! another. What is the same for all who ask is made once and shared.

mod artefact;
mod history;
mod offline;
mod press;
mod revoked;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use pki::{keys::PublicKey, token::PublicationKey, x509};
use tokio::sync::watch;

use self::history::History;
pub(crate) use self::press::reason;
pub use self::{
    artefact::{Artefact, Published},
    history::News,
    offline::{OfflineCrlError, OfflineCrls},
    press::{Press, PublishError},
    revoked::{Entry, Revoked},
};
use crate::{config, ledger::Ledger, signing::Signing};

/// What is in force now, and whoever waits for the next.
pub struct Publisher {
    current: watch::Sender<Arc<Published>>,
    history: Mutex<History>,
    /// What others signed.
    offline: Mutex<Arc<OfflineCrls>>,
}

/// What lists and bundles are made for and signed with.
pub struct Signers {
    /// The key of what is not a certificate.
    pub publication: PublicationKey,
    /// All SSH CAs.
    pub ssh: Vec<(String, PublicKey)>,
    /// The X.509 CAs that sign here.
    pub x509: Vec<(String, x509::Issuer)>,
}

impl Publisher {
    /// Publishes for the first time: before any certificate is issued, its issuer's list is there.
    /// What comes later is the work of the [`Press`].
    ///
    /// # Errors
    ///
    /// The ledger cannot be used, or the token does not sign.
    pub async fn start(
        signers: Signers,
        lifetimes: config::Revocation,
        ledger: Ledger,
        signing: Signing,
        clock: Arc<dyn pki::clock::Clock>,
    ) -> Result<(Arc<Self>, Press), PublishError> {
        let mut press = Press::new(signers, lifetimes, ledger, signing, clock).await?;
        let (first, oldest) = press.publish().await?;
        let publisher = Arc::new(Self {
            history: Mutex::new(History::new(first.version)),
            current: watch::Sender::new(Arc::new(first)),
            offline: Mutex::default(),
        });
        publisher.lock().add(publisher.version(), oldest);
        Ok((publisher, press))
    }

    /// Swaps in what was published, wakes all who wait for it.
    fn publish(&self, published: Published, oldest: Option<Timestamp>) {
        // Whoever is woken may ask how long it took.
        self.lock().add(published.version, oldest);
        self.current.send_replace(Arc::new(published));
    }

    /// What is in force.
    pub fn current(&self) -> Arc<Published> {
        self.current.borrow().clone()
    }

    /// What is in force, and everything that follows.
    pub fn watch(&self) -> watch::Receiver<Arc<Published>> {
        self.current.subscribe()
    }

    /// The lists of CAs that are offline.
    pub fn offline(&self) -> Arc<OfflineCrls> {
        Arc::clone(&self.offline.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Gives out other lists of CAs that are offline.
    pub fn set_offline(&self, lists: OfflineCrls) {
        *self.offline.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(lists);
    }

    /// The version in force.
    pub fn version(&self) -> u64 {
        self.current.borrow().version
    }

    /// What is new in a version for those who had the one `before`.
    pub fn news(&self, before: u64, version: u64) -> News {
        self.lock().news(before, version)
    }

    /// Whether all that is published is good, and what is not as it should be.
    pub fn health(&self, now: Timestamp) -> (bool, Vec<String>) {
        let current = self.current();
        let mut good = true;
        let mut remarks = Vec::new();
        for (name, artefact) in current.artefacts() {
            if artefact.not_after < now {
                good = false;
                remarks.push(format!("{name} has expired: it could not be signed anew"));
            } else if artefact.is_past_half(now) {
                remarks.push(format!("{name} is past half of its life: it cannot be signed anew"));
            }
        }
        // Nobody here can sign those anew: it goes on serving.
        remarks.extend(self.offline().remarks(now).map(|(_, remark)| remark));
        (good, remarks)
    }

    fn lock(&self) -> MutexGuard<'_, History> {
        // Nothing that holds the lock can leave it half changed.
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When something of this life is signed anew: before its half, so that what is past it is a sign
/// of trouble.
fn renewal(issued: Timestamp, not_after: Timestamp) -> Timestamp {
    let life: SignedDuration = issued.duration_until(not_after);
    issued.saturating_add(life / 5 * 2).unwrap_or(Timestamp::MAX)
}
