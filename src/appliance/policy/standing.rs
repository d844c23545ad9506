use std::collections::BTreeSet;

use jiff::Timestamp;
use pki::names::{DnsName, SourceAddress};

use super::Locks;

/// What a decision takes into account besides caller, request and rules: how things stand now.
#[derive(Clone, Copy, Debug)]
pub struct Standing<'a> {
    /// The locks.
    pub locks: &'a Locks,
    /// The session that the request names, if there is such a one.
    pub session: Option<&'a OpenSession>,
    /// When it is decided.
    pub now: Timestamp,
}

/// A session as far as certificates for it are concerned.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OpenSession {
    /// Its id.
    pub id: String,
    /// Its role.
    pub role: String,
    /// Who asked for it (SPIFFE id).
    pub requester: String,
    /// When it ends; `None` if it is not open.
    pub ends_at: Option<Timestamp>,
    /// The hosts that it is for.
    pub targets: BTreeSet<DnsName>,
    /// From where its SSH certificates may be used; empty for anywhere.
    pub source_addresses: BTreeSet<SourceAddress>,
    /// The one command of its SSH certificates.
    pub force_command: Option<String>,
    /// Whether each of its SSH certificates lets in once only.
    pub one_use: bool,
}
