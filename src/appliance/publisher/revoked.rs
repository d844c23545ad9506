use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use api::RevocationReason;
use jiff::{SignedDuration, Timestamp};
use pki::serial::Serial;

use crate::ledger::Revocation;

/// What is revoked and not over, by issuer. Cheap to clone: issuers that do not change are shared.
#[derive(Clone, Debug, Default)]
pub struct Revoked(BTreeMap<String, Arc<HashMap<Serial, Entry>>>);

/// A certificate that is revoked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Entry {
    /// When it was revoked.
    pub at: Timestamp,
    /// Why.
    pub code: RevocationReason,
    /// The last second of its validity.
    pub not_after: Timestamp,
}

impl Revoked {
    /// Adds one; says whether it is worth telling anybody: a certificate that was over before is
    /// not.
    pub(super) fn add(&mut self, revocation: &Revocation, now: Timestamp) -> bool {
        let &Revocation { at, code, serial, not_after, .. } = revocation;
        if not_after < at || is_forgotten(not_after, now) {
            return false;
        }
        let issuer = self.0.entry(revocation.issuer.clone()).or_default();
        Arc::make_mut(issuer).insert(serial, Entry { at, code, not_after });
        true
    }

    /// Forgets what has been over for a while.
    pub(super) fn prune(&mut self, now: Timestamp) {
        for entries in self.0.values_mut() {
            let gone: HashSet<_> = entries
                .iter()
                .filter(|(_, entry)| is_forgotten(entry.not_after, now))
                .map(|(serial, _)| *serial)
                .collect();
            if !gone.is_empty() {
                Arc::make_mut(entries).retain(|serial, _| !gone.contains(serial));
            }
        }
    }

    /// What is revoked of one issuer's certificates.
    pub fn of(&self, issuer: &str) -> impl Iterator<Item = (&Serial, &Entry)> {
        self.0.get(issuer).into_iter().flat_map(|entries| entries.iter())
    }

    /// Whether and how a certificate is revoked.
    pub fn find(&self, issuer: &str, serial: &Serial) -> Option<&Entry> {
        self.0.get(issuer)?.get(serial)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.values().map(|entries| entries.len()).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A certificate that is over is listed for a while yet: the clocks of those who read the list
/// differ, and it is to stand in one list that was made after its end (RFC 5280 section 3.3).
fn is_forgotten(not_after: Timestamp, now: Timestamp) -> bool {
    not_after.saturating_add(REMEMBERED).is_ok_and(|end| end < now)
}

const REMEMBERED: SignedDuration = SignedDuration::from_hours(1);

#[cfg(test)]
mod tests {
    use pki::{seal::Kind, serial::SshSerial};

    use super::*;

    #[test]
    fn what_is_over_is_forgotten_an_hour_later_and_never_listed_when_revoked_after_its_end() {
        let time = |second| Timestamp::from_second(second).unwrap();
        let serial = |number| Serial::Ssh(SshSerial::new(number).unwrap());
        let revocation = |number, at, not_after| Revocation {
            change: 1,
            at: time(at),
            code: RevocationReason::Unspecified,
            issuer: "users".to_owned(),
            kind: Kind::SshUser,
            serial: serial(number),
            not_after: time(not_after),
        };
        let mut revoked = Revoked::default();
        assert!(revoked.add(&revocation(1, 100, 200), time(100)));
        assert!(revoked.add(&revocation(2, 100, 300), time(100)));
        assert!(!revoked.add(&revocation(3, 300, 200), time(300)), "revoked after its end");
        assert!(!revoked.add(&revocation(4, 100, 200), time(3_801)), "over for an hour");
        let before = revoked.clone();
        revoked.prune(time(3_800));
        assert_eq!(revoked.len(), 2);
        revoked.prune(time(3_801));
        let left: Vec<_> = revoked.of("users").map(|(serial, _)| *serial).collect();
        assert_eq!(left, [serial(2)]);
        assert_eq!(before.len(), 2, "what was published does not change");
        assert!(revoked.find("users", &serial(2)).is_some());
        assert!(revoked.find("hosts", &serial(2)).is_none());
    }
}
