use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
};

use api::{Problem, ProblemKind};
use jiff::Timestamp;
use pki::{
    clock::Clock,
    names::{DnsName, SpiffeId},
    x509::Certificate,
};
use rustls_pki_types::CertificateDer;
use sha2::{Digest, Sha256};

use super::{Service, slots::Fingerprint};
use crate::{
    ledger::bots::{InstanceStanding, Shown},
    policy::{Caller, Denial, Instance, Subject},
    signing::Priority,
};

/// Who is at the other end of a connection: found once, from the certificate of its handshake.
#[derive(Debug)]
pub(super) struct Peer {
    caller: Result<Caller, Problem>,
    /// The certificate's serial number, as the ledger has it.
    serial: String,
    /// The last change that did not revoke the certificate; 0 before the first look.
    good_at: AtomicU64,
    /// What it shows, if it is an instance of a bot.
    shown: Option<Shown>,
    /// For the audit log: the SPIFFE id, or whatever else the certificate calls its holder.
    name: String,
    /// The last second of the certificate's validity.
    not_after: Timestamp,
    /// SHA-256 of the certificate.
    pub(super) fingerprint: Fingerprint,
}

impl Peer {
    /// Reads a client certificate whose path was verified by TLS.
    pub(super) fn new(
        certificate: &CertificateDer<'_>,
        address: SocketAddr,
        trust_domain: &DnsName,
    ) -> Self {
        let fingerprint = Sha256::digest(certificate).into();
        match Certificate::from_der(certificate) {
            Ok(certificate) => Self {
                caller: caller(certificate.spiffe_id(), trust_domain),
                shown: shown(&certificate, address),
                serial: hex::encode(certificate.serial()),
                good_at: AtomicU64::new(0),
                name: certificate
                    .spiffe_id()
                    .map_or_else(|| certificate.subject().to_owned(), |id| id.to_string()),
                not_after: certificate.not_after(),
                fingerprint,
            },
            Err(error) => Self {
                caller: Err(nobody(error.to_string())),
                shown: None,
                serial: String::new(),
                good_at: AtomicU64::new(0),
                name: hex::encode(fingerprint),
                not_after: Timestamp::MIN,
                fingerprint,
            },
        }
    }

    /// What rules and limits call it, if it is a caller.
    pub(super) fn principal(&self) -> Option<&SpiffeId> {
        self.caller.as_ref().ok().map(Caller::principal)
    }

    /// Whether it is a bot, or says so.
    pub(super) fn is_bot(&self) -> bool {
        self.caller.as_ref().is_ok_and(Caller::is_bot)
    }

    /// What to call it in the audit log.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The caller, as long as its certificate is valid and not revoked: a connection may outlive
    /// it. The ledger is asked again only when something was taken back since; of a bot, each time.
    pub(super) async fn caller(&self, service: &Service) -> Result<&Caller, Problem> {
        let caller = self.unexpired(&*service.clock)?;
        if caller.is_bot() {
            self.standing(service).await?;
            return Ok(caller);
        }
        let ledger = &service.ledger;
        // Counted from 1, so that 0 is none.
        let change = *ledger.changes().borrow() + 1;
        if self.good_at.load(Ordering::Acquire) == change {
            return Ok(caller);
        }
        if ledger.is_revoked(&service.client_authorities, &self.serial).await? {
            let subject = Subject { caller: caller.id.to_string(), ..Subject::default() };
            if let Some(lock) = ledger.standing_locks().hit(&subject, service.clock.now()) {
                return Err(Denial::Locked { target: lock.target.clone() }.into());
            }
            return Err(Problem::new(ProblemKind::Denied, "the client certificate is revoked")
                .with_reason("certificate-revoked")
                .with_hint("ask an operator for a new one"));
        }
        self.good_at.store(change, Ordering::Release);
        Ok(caller)
    }

    /// How the instance of a bot stands that asks; this is the use of its certificate.
    pub(super) async fn standing(&self, service: &Service) -> Result<InstanceStanding, Problem> {
        Ok(service.authority.stand(self.shown(service)?).await?)
    }

    /// What an instance of a bot shows, as long as its certificate has not expired.
    pub(super) fn shown(&self, service: &Service) -> Result<&Shown, Problem> {
        let caller = self.unexpired(&*service.clock)?;
        self.shown.as_ref().ok_or_else(|| not_an_instance(caller))
    }

    /// The caller, as long as its certificate has not expired.
    pub(super) fn unexpired(&self, clock: &dyn Clock) -> Result<&Caller, Problem> {
        let caller = self.caller.as_ref().map_err(Clone::clone)?;
        if clock.now() > self.not_after {
            return Err(Problem::new(ProblemKind::Denied, "the client certificate has expired")
                .with_reason("certificate-expired")
                .with_hint("connect again with a new certificate"));
        }
        Ok(caller)
    }
}

/// A caller whose certificate may be revoked: for what is public anyway. A host that was taken back
/// still has to hear what was, to cut the connections that it has.
pub(super) struct AnyCaller(pub(super) Caller);

/// Who has shown no certificate: known by nothing but an address, and asks for nothing but to join.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stranger {
    pub(super) address: SocketAddr,
}

impl Stranger {
    /// All strangers together are one client.
    pub(super) const FINGERPRINT: Fingerprint = [0; 32];

    /// What to call it in the audit log.
    pub(super) fn name(self) -> String {
        format!("stranger at {}", self.address.ip())
    }
}

/// Only instances of bots have what this is about, and no bot asks that is none.
fn not_an_instance(caller: &Caller) -> Problem {
    let (reason, hint) = match caller.is_bot() {
        true => ("no-such-instance", "join as the bot: chancery bot run"),
        false => ("not-a-bot", "ask with the client certificate that a bot got when it joined"),
    };
    Problem::new(ProblemKind::Denied, format!("{} is no instance of a bot", caller.id))
        .with_reason(reason)
        .with_hint(hint)
}

/// What an instance of a bot shows of itself.
fn shown(certificate: &Certificate, address: SocketAddr) -> Option<Shown> {
    let caller = certificate.spiffe_id()?;
    Some(Shown {
        instance: Instance::named(&caller)?,
        caller,
        certificate: certificate.der().into(),
        serial: hex::encode(certificate.serial()),
        key: certificate.public_key().fingerprint(),
        from: address.ip(),
    })
}

/// The name of the host that asks; only hosts may ask for what is theirs.
pub(super) fn host_name(caller: &Caller) -> Result<DnsName, Problem> {
    let name = caller.id.path().strip_prefix("/host/").and_then(|name| name.parse().ok());
    name.ok_or_else(|| {
        Problem::new(
            ProblemKind::Denied,
            format!("only hosts ask for this, and {} is none", caller.id),
        )
        .with_reason("not-a-host")
        .with_hint("ask with the client certificate that the host got when it joined")
    })
}

/// How urgent what this caller asks for singly is: people wait less patiently than programs.
pub(super) fn priority(caller: &Caller) -> Priority {
    match caller.id.path().trim_start_matches('/').split_once('/') {
        Some(("operator" | "user", _)) => Priority::Person,
        Some(_) | None => Priority::Bot,
    }
}

/// `spiffe://<trust domain>/{user,bot,host,service,operator}/…`, and nothing else.
fn caller(id: Option<SpiffeId>, trust_domain: &DnsName) -> Result<Caller, Problem> {
    let id = id.ok_or_else(|| nobody("the client certificate has no SPIFFE id".to_owned()))?;
    if id.trust_domain() != trust_domain.as_str() {
        return Err(nobody(format!("{id} is not of the trust domain {trust_domain}")));
    }
    let kind = id.path().trim_start_matches('/').split_once('/').map(|(kind, _)| kind);
    match kind {
        Some("bot" | "host" | "operator" | "service" | "user") => Ok(Caller::new(id)),
        _ => Err(nobody(format!("{id} is no user, bot, host, service or operator"))),
    }
}

fn nobody(detail: String) -> Problem {
    Problem::new(ProblemKind::Denied, detail)
        .with_reason("unknown-caller")
        .with_hint("connect with a client certificate for spiffe://TRUST-DOMAIN/user/NAME or alike")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_are_of_our_trust_domain_and_of_a_known_kind() {
        let trust_domain = "example.org".parse().unwrap();
        let callers = ["bot/ci", "host/web-1", "operator/olivia", "service/web", "user/a/alice"];
        for path in callers {
            let id = format!("spiffe://example.org/{path}").parse().unwrap();
            let caller = caller(Some(id), &trust_domain).unwrap();
            assert_eq!(caller.is_operator(), path == "operator/olivia", "{path}");
            let person = path.starts_with("operator/") || path.starts_with("user/");
            assert_eq!(priority(&caller) == Priority::Person, person, "{path}");
        }
        let others = [
            "spiffe://example.org",
            "spiffe://example.org/user",
            "spiffe://example.org/operators/olivia",
            "spiffe://example.org/admin/olivia",
            "spiffe://example.org.example/operator/olivia",
            "spiffe://other.example/operator/olivia",
        ];
        for id in others {
            let problem = caller(Some(id.parse().unwrap()), &trust_domain).unwrap_err();
            assert_eq!((problem.status, problem.reason.as_deref()), (403, Some("unknown-caller")));
        }
        assert_eq!(caller(None, &trust_domain).unwrap_err().kind, ProblemKind::Denied);
    }
}
