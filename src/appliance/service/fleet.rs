use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use api::{Host, Problem, ProblemKind};
use jiff::Timestamp;
use pki::names::DnsName;
use tokio::sync::watch;

/// The hosts that have joined, as they are known now: what a poll needs without a look into the
/// ledger.
#[derive(Debug)]
pub(super) struct Fleet {
    hosts: Mutex<BTreeMap<DnsName, Seen>>,
    /// Counts what hosts have acknowledged, to wake whoever waits for it.
    applied: watch::Sender<u64>,
}

/// How a host is.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// The version that it has in force.
    version: Option<u64>,
    last_seen: Option<Timestamp>,
}

impl Fleet {
    /// Those of the ledger that have joined.
    pub(super) fn new(hosts: Vec<Host>) -> Self {
        let joined = hosts.into_iter().filter(|host| host.joined_at.is_some());
        let seen =
            |host: Host| (host.name, Seen { version: host.version, last_seen: host.last_seen });
        Self { hosts: Mutex::new(joined.map(seen).collect()), applied: watch::Sender::new(0) }
    }

    /// A host has joined, for the first time or again: then it has nothing in force.
    pub(super) fn joined(&self, host: DnsName, now: Timestamp) {
        self.lock().insert(host, Seen { version: None, last_seen: Some(now) });
    }

    /// A host is none of ours any more.
    pub(super) fn removed(&self, host: &DnsName) {
        self.lock().remove(host);
        self.applied.send_modify(|count| *count += 1);
    }

    /// A host was heard of.
    ///
    /// # Errors
    ///
    /// It has not joined.
    pub(super) fn seen(&self, host: &DnsName, now: Timestamp) -> Result<(), Problem> {
        let mut hosts = self.lock();
        let seen = hosts.get_mut(host).ok_or_else(|| not_joined(host))?;
        seen.last_seen = Some(now);
        Ok(())
    }

    /// The version that a host has in force.
    ///
    /// # Errors
    ///
    /// It has not joined.
    pub(super) fn version(&self, host: &DnsName) -> Result<Option<u64>, Problem> {
        self.lock().get(host).map(|seen| seen.version).ok_or_else(|| not_joined(host))
    }

    /// When a host was last heard of.
    pub(super) fn last_seen(&self, host: &DnsName) -> Option<Timestamp> {
        self.lock().get(host)?.last_seen
    }

    /// A host has this version in force, and that is recorded.
    pub(super) fn applied(&self, host: &DnsName, version: u64, now: Timestamp) {
        if let Some(seen) = self.lock().get_mut(host) {
            *seen = Seen { version: Some(version), last_seen: Some(now) };
        }
        self.applied.send_modify(|count| *count += 1);
    }

    /// Waits until all hosts have this version, or a later one.
    pub(super) async fn wait_for(&self, version: u64) {
        let mut applied = self.applied.subscribe();
        while !self.has(version) && applied.changed().await.is_ok() {}
    }

    fn has(&self, version: u64) -> bool {
        let hosts = self.lock();
        hosts.values().all(|seen| seen.version.is_some_and(|it| it >= version))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<DnsName, Seen>> {
        // Nothing that holds the lock can leave it half changed.
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn not_joined(host: &DnsName) -> Problem {
    Problem::new(ProblemKind::Denied, format!("host {host} has not joined, or was removed"))
        .with_reason("not-joined")
        .with_hint("let an operator make a join token: chancery host add NAME")
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn all_hosts_are_waited_for_until_they_have_it_or_are_gone() {
        let fleet = Fleet::new(Vec::new());
        let now = Timestamp::UNIX_EPOCH;
        let name = |name: &str| name.parse::<DnsName>().unwrap();
        assert!(fleet.wait_for(7).now_or_never().is_some(), "there are none");
        for host in ["a.example.test", "b.example.test", "c.example.test"] {
            fleet.joined(name(host), now);
        }
        let mut waiting = Box::pin(fleet.wait_for(7));
        assert!(waiting.as_mut().now_or_never().is_none());
        fleet.applied(&name("a.example.test"), 8, now);
        fleet.applied(&name("b.example.test"), 6, now);
        fleet.removed(&name("c.example.test"));
        assert!(waiting.as_mut().now_or_never().is_none(), "one has an older version");
        fleet.applied(&name("b.example.test"), 7, now);
        waiting.await;
        fleet.joined(name("b.example.test"), now);
        assert!(fleet.wait_for(7).now_or_never().is_none(), "it came anew, and has nothing");
        assert_eq!(fleet.version(&name("c.example.test")).unwrap_err().status, 403);
    }
}
