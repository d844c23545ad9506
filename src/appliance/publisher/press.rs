//! Makes what is published, for ever.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use api::{RevocationBundle, RevocationReason};
use base64::{Engine, engine::general_purpose::STANDARD};
use futures_util::future::try_join_all;
use jiff::Timestamp;
use pki::{
    clock::Clock,
    keys::PublicKey,
    krl::{Krl, KrlError},
    revocation::{RevocationError, Statement},
    seal::{Prepared, Sealed},
    serial::Serial,
    x509::{crl, lint},
};
use sha2::{Digest, Sha256};
use thiserror::Error;
use tokio::{sync::watch, task::spawn_blocking, time::timeout};

use super::{Artefact, Published, Publisher, Revoked, Signers};
use crate::{
    authority::{IssueError, sign_and_seal},
    config,
    ledger::{Ledger, LedgerError, Publication},
    signing::{Priority, Signing, SigningError},
};

/// The task that publishes.
pub struct Press {
    signers: Arc<Signers>,
    lifetimes: config::Revocation,
    ledger: Ledger,
    signing: Signing,
    clock: Arc<dyn Clock>,
    /// The last change, as soon as it is durable.
    changes: watch::Receiver<u64>,
    revoked: Revoked,
    pending: Pending,
    /// The last version that was begun, whether it was published or not.
    version: u64,
    last: Option<Published>,
}

/// What was read of the ledger and is not published yet.
#[derive(Debug, Default)]
struct Pending {
    /// The last change that was read.
    change: u64,
    /// The issuers of whose certificates some were taken back.
    issuers: BTreeSet<String>,
    /// When the oldest of these changes was made.
    oldest: Option<Timestamp>,
}

/// Why nothing was published; it is tried again.
#[derive(Debug, Error)]
pub enum PublishError {
    /// A revocation list cannot be made.
    #[error("the CRL of {issuer} cannot be made")]
    Crl {
        /// Whose.
        issuer: String,
        /// Why.
        source: lint::Findings,
    },
    /// The bundle cannot be written.
    #[error("the bundle cannot be written as JSON")]
    Json(#[from] serde_json::Error),
    /// The KRL cannot be made.
    #[error("the KRL cannot be made")]
    Krl(#[from] KrlError),
    /// The ledger cannot be read or written.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The statement cannot be made.
    #[error("the revocation statement cannot be made")]
    Statement(#[from] RevocationError),
    /// The signer refuses, or its signatures are wrong.
    #[error("it was not signed")]
    Signing(#[from] IssueError),
    /// The task that builds lists has ended.
    #[error("the lists were not built")]
    Task(#[from] tokio::task::JoinError),
}

impl From<SigningError> for PublishError {
    fn from(error: SigningError) -> Self {
        Self::Signing(error.into())
    }
}

/// What is to be signed for one version.
struct Draft {
    krl: Vec<u8>,
    statement: Prepared<Statement>,
    crls: Vec<(String, Prepared<crl::Summary>)>,
}

impl Press {
    pub(super) async fn new(
        signers: Signers,
        lifetimes: config::Revocation,
        ledger: Ledger,
        signing: Signing,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, PublishError> {
        let version = ledger.last_version().await?;
        Ok(Self {
            signers: Arc::new(signers),
            lifetimes,
            changes: ledger.changes(),
            ledger,
            signing,
            clock,
            revoked: Revoked::default(),
            pending: Pending::default(),
            version,
            last: None,
        })
    }

    /// Publishes whatever changes, and what is about to grow old, for ever. What fails is tried
    /// again: [`Publisher::health`] tells when that lasts.
    pub async fn run(mut self, publisher: Arc<Publisher>) {
        let mut pause = FIRST_PAUSE;
        loop {
            if !self.is_due() {
                self.wait().await;
                continue;
            }
            match self.publish().await {
                Ok((published, oldest)) => {
                    publisher.publish(published, oldest);
                    pause = FIRST_PAUSE;
                }
                Err(error) => {
                    let error = crate::describe(&error);
                    tracing::error!(error, "nothing was published; trying again");
                    metrics::counter!("chancery_publications_failed_total").increment(1);
                    tokio::time::sleep(pause).await;
                    pause = (2 * pause).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// Whether there is news, or something grows old.
    fn is_due(&self) -> bool {
        let unread = *self.changes.borrow() > self.pending.change;
        let unpublished = self.last.as_ref().is_none_or(|last| last.change < self.pending.change);
        unread || unpublished || self.renewal() <= self.clock.now()
    }

    fn renewal(&self) -> Timestamp {
        let artefacts = self.last.iter().flat_map(Published::artefacts);
        artefacts.map(|(_, artefact)| artefact.renewal()).min().unwrap_or(Timestamp::MIN)
    }

    /// Until there is news, or something grows old. The clock is looked at again and again: it may
    /// be set.
    async fn wait(&mut self) {
        let left = self.clock.now().duration_until(self.renewal());
        let left = Duration::try_from(left).unwrap_or_default();
        // Without a sender there is no ledger either: nothing changes any more.
        if let Ok(Err(_)) = timeout(LOOK.min(left), self.changes.changed()).await {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Makes one version of all that waits; with the time of the oldest change that is new in it.
    /// What fails leaves everything as it was, but for the number of the version.
    pub(super) async fn publish(&mut self) -> Result<(Published, Option<Timestamp>), PublishError> {
        // 1 Take all that waits.
        self.read_news().await?;
        let now = self.clock.now();
        self.revoked.prune(now);

        // 2 Draft it, and write down what is to be signed.
        self.version += 1;
        let draft = self.draft(now).await?;
        let publication =
            Publication { version: self.version, change: self.pending.change, published_at: None };
        self.ledger.begin_publication(publication, &draft.texts(), now).await?;

        // 3 Have everything signed, side by side.
        let crls = draft.crls.into_iter().map(async |(issuer, crl)| {
            let sealed = sign(&self.signing, crl).await?;
            Ok::<_, PublishError>((issuer, sealed))
        });
        let (statement, crls) =
            tokio::try_join!(sign(&self.signing, draft.statement), try_join_all(crls))?;

        // 4 Write down that it was, and give it out.
        let published = self.assemble(statement, draft.krl, crls)?;
        let artefacts = published.hashes();
        let done = self.clock.now();
        self.ledger.commit_publication(self.version, &artefacts, done).await?;
        self.pending.issuers.clear();
        let oldest = self.pending.oldest.take();
        measure(&published, oldest.map(|oldest| oldest.duration_until(done)));
        self.last = Some(published.clone());
        Ok((published, oldest))
    }

    async fn read_news(&mut self) -> Result<(), LedgerError> {
        let last = *self.changes.borrow_and_update();
        let news = self.ledger.revocations_after(self.pending.change).await?;
        let now = self.clock.now();
        for revocation in &news {
            if self.revoked.add(revocation, now) {
                self.pending.issuers.insert(revocation.issuer.clone());
                let oldest = self.pending.oldest.map_or(revocation.at, |it| it.min(revocation.at));
                self.pending.oldest = Some(oldest);
            }
        }
        // A change may have come between the two, and a transaction is seen as a whole.
        let read = news.last().map_or(0, |revocation| revocation.change);
        self.pending.change = last.max(read);
        Ok(())
    }

    /// Builds lists and statement. Long lists take a while: not on a thread that serves others.
    async fn draft(&self, now: Timestamp) -> Result<Draft, PublishError> {
        let (signers, revoked) = (Arc::clone(&self.signers), self.revoked.clone());
        let (version, lifetimes) = (self.version, self.lifetimes);
        let wanted = |issuer: &String| {
            let crl = self.last.as_ref().and_then(|last| last.crls.get(issuer));
            self.pending.issuers.contains(issuer) || crl.is_none_or(|it| it.renewal() <= now)
        };
        let issuers = self.signers.x509.iter().map(|(name, _)| name).filter(|it| wanted(it));
        let issuers: BTreeSet<String> = issuers.cloned().collect();
        let build = move || {
            let krl = krl(version, now, &signers.ssh, &revoked)?;
            let statement = Statement::of(&krl, now, now + lifetimes.bundle_lifetime)?;
            let issuers = signers.x509.iter().filter(|(name, _)| issuers.contains(name));
            let crls = issuers.map(|(name, issuer)| {
                let crl = crl(version, now, lifetimes, &revoked, name);
                let prepared = issuer.prepare_crl(&crl);
                let error = |source| PublishError::Crl { issuer: name.clone(), source };
                Ok::<_, PublishError>((name.clone(), prepared.map_err(error)?))
            });
            Ok(Draft {
                crls: crls.collect::<Result<_, _>>()?,
                statement: statement.prepare(&signers.publication),
                krl,
            })
        };
        spawn_blocking(build).await?
    }

    fn assemble(
        &self,
        statement: Sealed<Statement>,
        krl: Vec<u8>,
        crls: Vec<(String, Sealed<crl::Summary>)>,
    ) -> Result<Published, PublishError> {
        let (issued, not_after) = (statement.summary().issued(), statement.summary().not_after());
        let bundle = RevocationBundle {
            statement: statement.summary().to_string(),
            signature: STANDARD.encode(statement.bytes()),
            krl: STANDARD.encode(&krl),
        };
        let mut all = self.last.as_ref().map(|last| last.crls.clone()).unwrap_or_default();
        all.extend(crls.into_iter().map(|(issuer, crl)| {
            let (this_update, next_update) = (crl.summary().this_update, crl.summary().next_update);
            (issuer, Artefact::new(crl.bytes().to_vec(), this_update, next_update))
        }));
        Ok(Published {
            version: self.version,
            change: self.pending.change,
            bundle: Artefact::new(serde_json::to_vec(&bundle)?, issued, not_after),
            krl: Artefact::new(krl, issued, not_after),
            crls: all,
            revoked: self.revoked.clone(),
        })
    }
}

impl Draft {
    /// The name and the SHA-256 of each text that is to be signed.
    fn texts(&self) -> Vec<(String, String)> {
        let hash = |bytes: &[u8]| hex::encode(Sha256::digest(bytes));
        let crls = self.crls.iter().map(|(issuer, crl)| (crl_name(issuer), hash(crl.bytes())));
        [("revocations".to_owned(), hash(self.statement.bytes()))].into_iter().chain(crls).collect()
    }
}

impl Published {
    /// The name and the SHA-256 of each file.
    fn hashes(&self) -> Vec<(String, String)> {
        let crls = self.crls.iter().map(|(issuer, crl)| (crl_name(issuer), crl));
        let others = [("revocations".to_owned(), &self.bundle), ("krl".to_owned(), &self.krl)];
        let all = others.into_iter().chain(crls);
        all.map(|(name, artefact)| (name, hex::encode(artefact.sha256))).collect()
    }
}

fn crl_name(issuer: &str) -> String {
    format!("crl/{issuer}")
}

async fn sign<S>(signing: &Signing, prepared: Prepared<S>) -> Result<Sealed<S>, PublishError> {
    let admission = signing.admit(CLIENT, Priority::TakingBack, PATIENCE).await?;
    Ok(sign_and_seal(&admission, prepared).await?)
}

/// One list for all SSH CAs: sshd reads one file.
fn krl(
    version: u64,
    now: Timestamp,
    authorities: &[(String, PublicKey)],
    revoked: &Revoked,
) -> Result<Vec<u8>, KrlError> {
    let mut krl = Krl::new(version, now);
    for (name, key) in authorities {
        let serials = revoked.of(name).filter_map(|(serial, _)| match serial {
            Serial::Ssh(serial) => Some(*serial),
            Serial::X509(_) => None,
        });
        krl.authority(key).revoke_serials(serials);
    }
    krl.encode()
}

fn crl(
    number: u64,
    now: Timestamp,
    lifetimes: config::Revocation,
    revoked: &Revoked,
    issuer: &str,
) -> crl::Template {
    let revoked = revoked.of(issuer).filter_map(|(serial, entry)| match serial {
        Serial::Ssh(_) => None,
        Serial::X509(serial) => {
            Some(crl::Revoked { serial: *serial, at: entry.at, reason: reason(entry.code) })
        }
    });
    crl::Template {
        number,
        this_update: now,
        next_update: now + lifetimes.crl_lifetime,
        revoked: revoked.collect(),
    }
}

/// The API's words for what the formats say.
pub(crate) fn reason(code: RevocationReason) -> crl::Reason {
    match code {
        RevocationReason::AffiliationChanged => crl::Reason::AffiliationChanged,
        RevocationReason::CessationOfOperation => crl::Reason::CessationOfOperation,
        RevocationReason::KeyCompromise => crl::Reason::KeyCompromise,
        RevocationReason::PrivilegeWithdrawn => crl::Reason::PrivilegeWithdrawn,
        RevocationReason::Superseded => crl::Reason::Superseded,
        RevocationReason::Unspecified => crl::Reason::Unspecified,
    }
}

fn measure(published: &Published, took: Option<jiff::SignedDuration>) {
    if let Some(took) = took {
        metrics::histogram!("chancery_publication_seconds").record(took.as_secs_f64().max(0.0));
    }
    #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53")]
    let gauge = |name: &'static str, value: u64| metrics::gauge!(name).set(value as f64);
    gauge("chancery_publication_version", published.version);
    gauge("chancery_revoked_certificates", published.revoked.len() as u64);
    gauge("chancery_krl_bytes", published.krl.bytes.len() as u64);
    for (issuer, crl) in &published.crls {
        let labels = [("issuer", issuer.clone())];
        #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53")]
        metrics::gauge!("chancery_crl_bytes", &labels).set(crl.bytes.len() as f64);
    }
    let first = published.artefacts().map(|(_, artefact)| artefact.not_after.as_second()).min();
    #[expect(clippy::cast_precision_loss, reason = "exact for the next 285 million years")]
    metrics::gauge!("chancery_publication_not_after").set(first.unwrap_or_default() as f64);
}

/// Who signs, in the token's queue.
const CLIENT: &str = "publisher";

/// How long one signature is waited for, before everything is tried again.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often the clock is looked at.
const LOOK: Duration = Duration::from_secs(30);

const FIRST_PAUSE: Duration = Duration::from_millis(50);

const LONGEST_PAUSE: Duration = Duration::from_secs(2);
