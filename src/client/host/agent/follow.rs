//! Following the appliance: each new bundle is taken, put in force, and acknowledged.

use std::time::{Duration, Instant};

use api::{Acknowledgement, BundleQuery, CutConnection, RevocationBundle};

use super::Shared;
use crate::host::revocation::BundleError;

impl Shared {
    /// Waits for bundles and takes them, for ever.
    pub(super) async fn follow(&self) {
        // What was in force when the agent started, the appliance may not know yet.
        let mut owed = self.known().revocations.version().map(Owed::new);
        let mut pause = Pause::default();
        loop {
            if let Some(debt) = owed.take() {
                owed = self.acknowledge(debt).await;
            }
            let asked = Instant::now();
            let wait = if owed.is_some() { 1 } else { WAIT };
            let query = BundleQuery { after: self.known().revocations.version(), wait: Some(wait) };
            let heard = self.client().revocations(query).await;
            match self.outcome("asking for revocations", heard) {
                Some(Some(bundle)) => match self.take(bundle).await {
                    Some(now_owed) => {
                        let earlier = owed.take().map(|it| it.cut).unwrap_or_default();
                        owed = Some(Owed { cut: [earlier, now_owed.cut].concat(), ..now_owed });
                        pause = Pause::default();
                    }
                    None => pause.next().await,
                },
                // An appliance that does not wait shall not be asked without end.
                Some(None) if asked.elapsed() < Duration::from_millis(500) => pause.next().await,
                Some(None) => pause = Pause::default(),
                None => pause.next().await,
            }
        }
    }

    /// Puts a bundle in force: first for those who log in now, then for sshd and those who are in.
    async fn take(&self, bundle: RevocationBundle) -> Option<Owed> {
        let taken = self.take_up(bundle);
        let version = self.outcome("taking revocations", taken)?;
        let (_, cut) = tokio::join!(self.put_right(), self.cut_what_is_over());
        tracing::info!(version, cut = cut.len(), "revocations are in force");
        Some(Owed { version, cut })
    }

    fn take_up(&self, bundle: RevocationBundle) -> Result<u64, BundleError> {
        let now = self.now();
        let mut known = self.known();
        known.revocations.take(bundle)?;
        known.last_news = Some(now);
        Ok(known.revocations.version().unwrap_or_default())
    }

    /// Says that a version is in force, once it is in sshd's file, too; gives what is still owed.
    async fn acknowledge(&self, mut debt: Owed) -> Option<Owed> {
        if !self.put_right().await {
            return Some(debt);
        }
        loop {
            let rest = debt.cut.split_off(debt.cut.len().min(CUT_AT_ONCE));
            let it = Acknowledgement { version: debt.version, cut: debt.cut };
            let told = self.client().acknowledge(&it).await;
            let told = self.outcome("acknowledging revocations", told).is_some();
            match (told, rest.is_empty()) {
                (true, true) => return None,
                (true, false) => debt = Owed { cut: rest, ..debt },
                (false, _) => return Some(Owed { cut: [it.cut, rest].concat(), ..debt }),
            }
        }
    }
}

/// What the appliance is still to be told.
#[derive(Debug)]
struct Owed {
    version: u64,
    cut: Vec<CutConnection>,
}

impl Owed {
    fn new(version: u64) -> Self {
        Self { version, cut: Vec::new() }
    }
}

/// The pause before the next try: longer each time, and by chance, so that a thousand hosts do not
/// come back together.
#[derive(Debug)]
struct Pause(Duration);

impl Default for Pause {
    fn default() -> Self {
        Self(Duration::from_millis(100))
    }
}

impl Pause {
    async fn next(&mut self) {
        let mut chance = [128];
        // Without random bytes the middle is as good.
        let _ = aws_lc_rs::rand::fill(&mut chance);
        tokio::time::sleep(self.0.mul_f32(0.5 + f32::from(chance[0]) / 255.0)).await;
        self.0 = (self.0 * 2).min(LONGEST);
    }
}

/// Seconds to wait for news; [`Client::revocations`](crate::Client::revocations) takes no more.
const WAIT: u32 = 20;

/// As many as one acknowledgement may name.
const CUT_AT_ONCE: usize = 1_000;

const LONGEST: Duration = Duration::from_secs(5);
