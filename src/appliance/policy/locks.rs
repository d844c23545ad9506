//! Locks: whom and what nothing is signed for, whatever the roles say.

use api::LockTarget;
use jiff::Timestamp;
use pki::{names::DnsName, seal::Kind};

use super::Grant;

/// All locks that were not removed.
#[derive(Clone, Debug, Default)]
pub struct Locks(pub Vec<Lock>);

/// A lock.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Lock {
    /// Its number.
    pub id: u64,
    /// Whom or what.
    pub target: LockTarget,
    /// Only what was issued before this time.
    pub issued_before: Option<Timestamp>,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
}

/// What a lock may hit: a certificate, a signature or a session, issued or wanted.
#[derive(Clone, Debug, Default)]
pub struct Subject {
    /// Who asks (SPIFFE id).
    pub caller: String,
    /// The role that grants it.
    pub role: String,
    /// The authority or raw key; empty for sessions.
    pub issuer: String,
    /// Of which kind, for certificates.
    pub kind: Option<Kind>,
    /// The serial number; empty where there is none.
    pub serial: String,
    /// SHA-256 of the certified key's SubjectPublicKeyInfo, hexadecimal; empty where there is none.
    pub key: String,
    /// The names in it, as a summary has them.
    pub names: Vec<String>,
    /// The card that has attested the key.
    pub card: Option<u32>,
    /// The session that it is for, or that it is.
    pub session: Option<String>,
    /// The hosts that its session is for.
    pub targets: Vec<DnsName>,
    /// When it was or would be issued.
    pub issued_at: Timestamp,
}

impl Locks {
    /// The first lock in force that hits the subject.
    pub fn hit(&self, subject: &Subject, now: Timestamp) -> Option<&Lock> {
        self.0.iter().find(|lock| lock.is_in_force(now) && lock.hits(subject))
    }
}

impl Lock {
    /// Whether it has not ended.
    pub fn is_in_force(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|end| now < end)
    }

    /// Whether it is about this.
    pub fn hits(&self, subject: &Subject) -> bool {
        self.issued_before.is_none_or(|time| subject.issued_at < time)
            && is_about(&self.target, subject)
            && !spares(&self.target, subject)
    }
}

/// Whether a lock would lock out those who could remove it: without its own certificates the
/// appliance does not start, and without an operator nobody is heard. One certificate can always be
/// named, and an operator by name.
fn spares(target: &LockTarget, subject: &Subject) -> bool {
    match target {
        LockTarget::Serial(..) => false,
        LockTarget::All | LockTarget::Issuer(_) => {
            [Grant::OWN_ROLE, Grant::OPERATOR_ROLE].contains(&subject.role.as_str())
        }
        _ => subject.role == Grant::OWN_ROLE,
    }
}

/// Whether a lock's target is this, or one of those who have it.
fn is_about(target: &LockTarget, subject: &Subject) -> bool {
    match target {
        LockTarget::All => true,
        LockTarget::Bot(name) => {
            subject.has_id(|path| is_or_below(path, &["/bot/", name.as_str()].concat()))
        }
        LockTarget::BotInstance(name, instance) => {
            subject.has_id(|path| path == ["/bot/", name, "/", instance].concat())
        }
        LockTarget::Card(serial) => subject.card == Some(*serial),
        LockTarget::Host(name) => subject.is_of_host(name),
        LockTarget::Issuer(name) => subject.issuer == *name,
        LockTarget::Key(fingerprint) => subject.key == *fingerprint,
        LockTarget::Role(name) => subject.role == *name,
        LockTarget::Serial(issuer, serial) => {
            subject.issuer == *issuer && subject.serial == *serial
        }
        LockTarget::Spiffe(id) => subject.ids().any(|own| is_or_below(own, id.as_str())),
        LockTarget::User(name) => {
            let account = |upn: &str| upn.split_once('@').map(|(account, _)| account) == Some(name);
            subject.has_id(|path| {
                matches!(path.strip_suffix(name.as_str()), Some("/user/" | "/operator/"))
            }) || subject.names.iter().any(|own| own.strip_prefix("UPN:").is_some_and(account))
        }
    }
}

impl Subject {
    /// The SPIFFE ids of who asked, and of whom it certifies.
    fn ids(&self) -> impl Iterator<Item = &str> {
        let certified = self.names.iter().filter_map(|name| name.strip_prefix("URI:"));
        std::iter::once(self.caller.as_str()).chain(certified)
    }

    fn has_id(&self, wanted: impl Fn(&str) -> bool) -> bool {
        self.ids().filter_map(path).any(wanted)
    }

    fn is_of_host(&self, host: &DnsName) -> bool {
        let name = host.as_str();
        let named = |own: &String| match self.kind {
            Some(Kind::SshHost) => own == name,
            _ => own.strip_prefix("DNS:") == Some(name),
        };
        self.targets.contains(host)
            || self.names.iter().any(named)
            || self.has_id(|path| path.strip_prefix("/host/") == Some(name))
    }
}

/// The path of a SPIFFE id, with its leading slash.
fn path(id: &str) -> Option<&str> {
    let rest = id.strip_prefix("spiffe://")?;
    rest.find('/').map(|at| &rest[at..])
}

fn is_or_below(path: &str, parent: &str) -> bool {
    path.strip_prefix(parent).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(caller: &str, names: &[&str]) -> Subject {
        Subject {
            caller: format!("spiffe://example.test/{caller}"),
            role: "shell".to_owned(),
            issuer: "ssh-user".to_owned(),
            kind: Some(Kind::SshUser),
            serial: "7".to_owned(),
            key: "ab".repeat(32),
            names: names.iter().map(|&name| name.to_owned()).collect(),
            card: Some(12_345_678),
            session: None,
            targets: vec!["web1.example.test".parse().unwrap()],
            issued_at: time(1_000),
        }
    }

    fn time(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn a_lock_hits_its_target_and_nothing_else() {
        let key = format!("key:{}", "AB".repeat(32));
        for (target, caller, names, wanted) in [
            ("all", "user/alice", &["alice"][..], true),
            ("user:alice", "user/alice", &[], true),
            ("user:alice", "operator/alice", &[], true),
            ("user:alice", "user/malice", &[], false),
            ("user:alice", "user/a/alice", &[], false),
            ("user:alice", "bot/alice", &["alice"], false),
            ("user:alice", "operator/olivia", &["UPN:alice@corp.example"], true),
            ("user:alice", "operator/olivia", &["UPN:alicea@corp.example"], false),
            ("user:alice", "operator/olivia", &["URI:spiffe://example.test/user/alice"], true),
            ("bot:ci", "bot/ci", &[], true),
            ("bot:ci", "bot/ci/3", &[], true),
            ("bot:ci", "bot/ci2", &[], false),
            ("bot:ci", "bot/other/ci", &[], false),
            ("bot-instance:ci/3", "bot/ci/3", &[], true),
            ("bot-instance:ci/3", "bot/ci/31", &[], false),
            ("bot-instance:ci/3", "bot/ci", &[], false),
            ("card:12345678", "user/alice", &[], true),
            ("card:1234567", "user/alice", &["12345678"], false),
            ("role:shell", "user/alice", &[], true),
            ("role:shel", "user/alice", &[], false),
            ("host:web1.example.test", "user/alice", &[], true),
            ("host:web2.example.test", "user/alice", &["DNS:web2.example.test"], true),
            ("host:web2.example.test", "host/web2.example.test", &[], true),
            ("host:web2.example.test", "user/alice", &["web2.example.test"], false),
            ("serial:ssh-user/7", "user/alice", &[], true),
            ("serial:ssh-user/70", "user/alice", &[], false),
            ("serial:services/7", "user/alice", &[], false),
            (&key, "user/alice", &[], true),
            ("spiffe:spiffe://example.test/user", "user/alice", &[], true),
            ("spiffe:spiffe://example.test/user/alice", "user/alice", &[], true),
            ("spiffe:spiffe://example.test/user/al", "user/alice", &[], false),
            ("spiffe:spiffe://example.test", "bot/ci", &[], true),
            ("issuer:ssh-user", "user/alice", &[], true),
            ("issuer:ssh", "user/alice", &[], false),
        ] {
            let target: LockTarget = target.parse().unwrap();
            assert_eq!(
                is_about(&target, &subject(caller, names)),
                wanted,
                "{target} on {caller} {names:?}"
            );
        }
    }

    #[test]
    fn no_lock_shuts_out_whoever_could_remove_it() {
        let of_role = |role: &str| Subject {
            role: role.to_owned(),
            ..subject("service/chanceryd", &["URI:spiffe://example.test/operator/olivia"])
        };
        let (own, operator) = (of_role(Grant::OWN_ROLE), of_role(Grant::OPERATOR_ROLE));
        for (target, hits_own, hits_operator) in [
            ("all", false, false),
            ("issuer:ssh-user", false, false),
            ("spiffe:spiffe://example.test/service/chanceryd", false, true),
            ("user:olivia", false, true),
            ("serial:ssh-user/7", true, true),
        ] {
            let target: LockTarget = target.parse().unwrap();
            let lock = Lock { id: 1, target, issued_before: None, expires_at: None };
            assert_eq!(lock.hits(&own), hits_own, "{}", lock.target);
            assert_eq!(lock.hits(&operator), hits_operator, "{}", lock.target);
        }
    }

    #[test]
    fn a_lock_of_what_was_issued_before_lets_what_comes_after() {
        let lock = |issued_before, expires_at| Lock {
            id: 1,
            target: LockTarget::All,
            issued_before,
            expires_at,
        };
        let subject = subject("user/alice", &[]);
        assert!(lock(Some(time(1_001)), None).hits(&subject));
        assert!(!lock(Some(time(1_000)), None).hits(&subject));
        let locks = Locks(vec![lock(None, Some(time(2_000)))]);
        assert!(locks.hit(&subject, time(1_999)).is_some());
        assert!(locks.hit(&subject, time(2_000)).is_none());
    }
}
