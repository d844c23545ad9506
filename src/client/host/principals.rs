//! Whom sshd may let into an account: the decision, without anything that it needs from outside.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use pki::{
    names::{DnsName, Principal},
    ssh::{Certificate, Usage},
};
use thiserror::Error;

/// What the decision is made from.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The account to log in to (`%u`).
    pub account: &'a str,
    /// The certificate that is shown (`%k`), its signature verified.
    pub certificate: &'a Certificate,
    /// Whether its signer is a CA of this host's.
    pub issuer_known: bool,
    /// Whether it was taken back.
    pub revoked: bool,
    /// This host.
    pub host: &'a DnsName,
    /// Who may log in where, beside the account's own name.
    pub accounts: &'a BTreeMap<String, BTreeSet<Principal>>,
    /// The time.
    pub now: Timestamp,
}

/// Why nobody is let in.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum Refusal {
    /// The certificate is over.
    #[error("the certificate expired at {0}")]
    Expired(Timestamp),
    /// The certificate begins later.
    #[error("the certificate is not valid before {0}")]
    Future(Timestamp),
    /// It is a host's.
    #[error("it is no user certificate")]
    NoUser,
    /// No principal of the certificate may log in to the account.
    #[error("no principal of the certificate may log in to {0:?}")]
    NotAuthorized(String),
    /// The certificate is for other hosts.
    #[error("the certificate is for other hosts")]
    OtherHost,
    /// It was taken back.
    #[error("the certificate is revoked")]
    Revoked,
    /// Its signer is no CA of this host's.
    #[error("the certificate is not from an SSH user CA of the appliance")]
    UnknownIssuer,
}

/// The principals of the certificate that may log in to the account: at least one.
///
/// # Errors
///
/// The first reason to let nobody in.
pub fn decide(question: &Question<'_>) -> Result<BTreeSet<Principal>, Refusal> {
    let Question { account, certificate, host, now, .. } = *question;
    if certificate.usage() != Usage::User {
        return Err(Refusal::NoUser);
    }
    if !question.issuer_known {
        return Err(Refusal::UnknownIssuer);
    }
    if question.revoked {
        return Err(Refusal::Revoked);
    }
    if now >= certificate.valid_before() {
        return Err(Refusal::Expired(certificate.valid_before()));
    }
    if now < certificate.valid_after() {
        return Err(Refusal::Future(certificate.valid_after()));
    }
    let targets = &certificate.restrictions().targets;
    if !targets.is_empty() && !targets.contains(host) {
        return Err(Refusal::OtherHost);
    }
    let more = question.accounts.get(account);
    let allowed =
        |it: &&Principal| it.as_str() == account || more.is_some_and(|more| more.contains(*it));
    let found: BTreeSet<_> = certificate.principals().iter().filter(allowed).cloned().collect();
    if found.is_empty() {
        return Err(Refusal::NotAuthorized(account.to_owned()));
    }
    Ok(found)
}

/// The session of a key id, `CALLER#ROLE#SESSION`; `None` when it is of none.
pub(super) fn session_of(key_id: &str) -> Option<&str> {
    let mut parts = key_id.splitn(3, '#');
    let session = parts.nth(2)?;
    session.starts_with("s-").then_some(session)
}

#[cfg(test)]
mod tests {
    use pki::{
        keys::KeyAlgorithm,
        ssh::{CriticalOptions, Issuer, Restrictions, Template},
        token::{Input, IssuingKey, KeyId, KeyStore as _, Token as _, software::SoftwareToken},
    };

    use super::*;

    struct Ca {
        token: SoftwareToken,
        issuer: Issuer,
    }

    impl Ca {
        fn new(usage: Usage) -> Self {
            let mut token = SoftwareToken::default();
            let (label, id) = ("issuing/ca".parse().unwrap(), KeyId::new(&[1]).unwrap());
            let key = token.generate(KeyAlgorithm::Ed25519, &label, &id).unwrap().key;
            Self { token, issuer: Issuer::new(IssuingKey::new(key).unwrap(), usage) }
        }

        fn certificate(&mut self, principals: &[&str], restrictions: Restrictions) -> Certificate {
            let (label, id) = ("issuing/subject".parse().unwrap(), KeyId::new(&[2]).unwrap());
            let mut subjects = SoftwareToken::default();
            let subject = subjects.generate(KeyAlgorithm::Ed25519, &label, &id).unwrap().key;
            let template = Template {
                serial: 7.try_into().unwrap(),
                public_key: subject.public_key,
                key_id: "spiffe://example.test/user/alice#login#s-0123456789abcdef".to_owned(),
                principals: principals.iter().map(|it| it.parse().unwrap()).collect(),
                valid_after: at("2026-01-01T00:00:00Z"),
                valid_before: at("2026-01-01T01:00:00Z"),
                critical_options: CriticalOptions::default(),
                extensions: BTreeSet::new(),
                restrictions,
            };
            let prepared = self.issuer.prepare(template, [1; 32]).unwrap();
            let (key, scheme) = (prepared.key().key().clone(), prepared.scheme());
            let signature = self.token.sign(&key, scheme, Input::Message(prepared.bytes()));
            let sealed = prepared.seal(signature.unwrap()).unwrap();
            Certificate::from_wire(sealed.bytes()).unwrap()
        }
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn each_reason_refuses_alone() {
        let mut ca = Ca::new(Usage::User);
        let here: DnsName = "web1.example".parse().unwrap();
        let there: DnsName = "web2.example".parse().unwrap();
        let on = |host: &DnsName| Restrictions { one_use: true, targets: [host.clone()].into() };
        let mine = ca.certificate(&["alice", "ci"], on(&here));
        let others = ca.certificate(&["alice"], on(&there));
        let anywhere = ca.certificate(&["alice"], Restrictions::default());
        let host = Ca::new(Usage::Host).certificate(&["web1.example"], Restrictions::default());
        let accounts = [("deploy".to_owned(), ["ci".parse().unwrap()].into())].into();
        let good = Question {
            account: "alice",
            certificate: &mine,
            issuer_known: true,
            revoked: false,
            host: &here,
            accounts: &accounts,
            now: at("2026-01-01T00:30:00Z"),
        };
        let names = |question| {
            let found = decide(&question).map_err(|refusal| refusal.to_string())?;
            Ok::<_, String>(found.iter().map(|it| it.as_str().to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(names(good), Ok(vec!["alice".to_owned()]));
        assert_eq!(names(Question { account: "deploy", ..good }), Ok(vec!["ci".to_owned()]));
        assert_eq!(names(Question { certificate: &anywhere, ..good }), Ok(vec!["alice".into()]));

        let end = at("2026-01-01T01:00:00Z");
        let before = at("2025-12-31T23:59:59Z");
        let root = Refusal::NotAuthorized("root".to_owned());
        for (question, refusal) in [
            (Question { account: "root", ..good }, root),
            (Question { certificate: &others, ..good }, Refusal::OtherHost),
            (Question { certificate: &host, ..good }, Refusal::NoUser),
            (Question { issuer_known: false, ..good }, Refusal::UnknownIssuer),
            (Question { revoked: true, ..good }, Refusal::Revoked),
            (Question { now: end, ..good }, Refusal::Expired(end)),
            (Question { now: before, ..good }, Refusal::Future(at("2026-01-01T00:00:00Z"))),
        ] {
            assert_eq!(decide(&question), Err(refusal));
        }
    }

    #[test]
    fn only_certificates_of_sessions_have_one() {
        let caller = "spiffe://example.test/user/alice";
        for (key_id, session) in [
            (format!("{caller}#login#s-0123456789abcdef"), Some("s-0123456789abcdef")),
            (format!("{caller}#login"), None),
            (format!("{caller}#login#other"), None),
            (caller.to_owned(), None),
        ] {
            assert_eq!(session_of(&key_id), session, "{key_id}");
        }
    }
}
