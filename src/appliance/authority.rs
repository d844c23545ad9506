//! The authority: the straight line from a request to a released certificate.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use arc_swap::ArcSwap;
use pki::{
    clock::Clock,
    handoff::Handoff,
    keys::{BadSignature, PublicKey},
    names::{DnsName, SpiffeId},
    x509::{csr::Csr, lint},
};
use thiserror::Error;

use crate::{
    config::Config,
    ledger::{Ledger, LedgerError, Released, ReleasedSignature},
    policy::{Caller, Certify, Denial, Rules, SignDigest},
    signing::{Signing, SigningError},
};

/// Issues what the rules grant.
pub struct Authority {
    clock: Arc<dyn Clock>,
    issuers: BTreeMap<String, ()>,
    ledger: Ledger,
    rules: ArcSwap<Rules>,
    signing: Signing,
}

/// Why nothing was issued.
#[derive(Debug, Error)]
pub enum IssueError {
    /// Policy refuses.
    #[error(transparent)]
    Denied(#[from] Denial),
    /// The ledger cannot be written, or the idempotency key belongs to another request.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The certificate would break a rule.
    #[error("the certificate would break a rule: {0}")]
    Lint(lint::Findings),
    /// The token made a signature that does not verify.
    #[error("the token made a wrong signature")]
    Seal(#[from] BadSignature),
    /// The token does not sign now.
    #[error(transparent)]
    Signing(#[from] SigningError),
}

/// The configuration names an authority that the hand-off does not have, or of another kind.
#[derive(Debug, Error)]
pub enum AuthorityError {
    /// An authority cannot be stood up.
    #[error("authority {name}: {what}")]
    Invalid {
        /// Which.
        name: String,
        /// What is wrong.
        what: String,
    },
}

impl Authority {
    /// Stands up the authorities of a hand-off.
    ///
    /// # Errors
    ///
    /// A certificate cannot be read or is for another key, or the configuration names an authority
    /// that there is not.
    pub fn new(
        _config: &Config,
        _handoff: Handoff,
        _rules: Rules,
        _ledger: Ledger,
        _signing: Signing,
        _clock: Arc<dyn Clock>,
    ) -> Result<Self, AuthorityError> {
        todo!()
    }

    /// Certifies the appliance's own TLS key for 24 hours: a tls_server certificate of the
    /// configured issuer with the SPIFFE id `spiffe://<trust domain>/service/chanceryd`. No role
    /// grants it, the configuration does; it is recorded as every other.
    ///
    /// # Errors
    ///
    /// As [`issue`](Self::issue).
    pub async fn own_tls_certificate(
        &self,
        _public_key: PublicKey,
        _dns_names: BTreeSet<DnsName>,
        _addresses: BTreeSet<IpAddr>,
    ) -> Result<Released, IssueError> {
        todo!()
    }

    /// Certifies an operator: a tls_client certificate of the configured issuer. Whoever may run
    /// this program on this machine with its token grants it; it is recorded as every other.
    ///
    /// # Errors
    ///
    /// As [`issue`](Self::issue).
    pub async fn operator_certificate(
        &self,
        _id: SpiffeId,
        _csr: Csr,
    ) -> Result<Released, IssueError> {
        todo!()
    }

    /// Issues one certificate. `idempotency_key` was checked to be 1 to 128 printable characters.
    ///
    /// # Errors
    ///
    /// See [`IssueError`]; nothing left the appliance.
    pub async fn issue(
        &self,
        _caller: &Caller,
        _request: Certify,
        _idempotency_key: Option<String>,
    ) -> Result<Released, IssueError> {
        let _ = (&self.clock, &self.issuers, &self.ledger, &self.rules, &self.signing);
        todo!()
    }

    /// Signs one digest with a raw key.
    ///
    /// # Errors
    ///
    /// As [`issue`](Self::issue).
    pub async fn sign(
        &self,
        _caller: &Caller,
        _request: SignDigest,
        _idempotency_key: Option<String>,
    ) -> Result<ReleasedSignature, IssueError> {
        todo!()
    }

    /// The CA certificates that go with a certificate of this authority: the issuer's first,
    /// without the root; empty for SSH. DER.
    pub fn chain(&self, _issuer: &str) -> &[Vec<u8>] {
        todo!()
    }

    /// Replaces the rules.
    pub fn set_rules(&self, rules: Rules) {
        self.rules.store(Arc::new(rules));
    }

    /// The authorities, as clients see them.
    pub fn authorities(&self) -> api::Authorities {
        todo!()
    }

    /// The hand-off that this authority signs by.
    pub fn handoff(&self) -> &Handoff {
        todo!()
    }
}
