//! Sessions: access for a purpose, from its request to its end.

use std::collections::BTreeSet;

use jiff::Timestamp;
use pki::names::{DnsName, SourceAddress};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Asks for a session.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionRequest {
    /// The session role that grants it.
    pub role: String,
    /// What it is for: for those who approve it, and for the audit log. 1 to 500 characters.
    pub reason: String,
    /// The hosts that it is for; empty for a role without hosts.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    #[schema(value_type = BTreeSet<String>)]
    pub targets: BTreeSet<DnsName>,
    /// Its length in seconds, from the moment it opens; absent means the role's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<u32>,
    /// Narrows from where its SSH certificates may be used.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    #[schema(value_type = BTreeSet<String>)]
    pub source_addresses: BTreeSet<SourceAddress>,
    /// Narrows its SSH certificates to one command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub force_command: Option<String>,
    /// Whether each of its SSH certificates lets in once only. The role may ask for it, too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub one_use: bool,
}

/// Where a session is in its life.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SessionState {
    /// An approver has refused it.
    Denied,
    /// It was open, and is over; its certificates are revoked.
    Ended,
    /// It waited too long for its approvals.
    Expired,
    /// Certificates are given for it.
    Open,
    /// It waits for approvals.
    Waiting,
}

/// What ended a session.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EndCause {
    /// Whoever had asked for it did not show that it is still needed.
    Heartbeat,
    /// A lock.
    Lock,
    /// Somebody ended it.
    Request,
    /// Its time was over, or its role's working hours.
    Time,
}

/// A session.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct Session {
    /// Its id: `s-` and 16 lower-case letters and digits.
    pub id: String,
    /// Where it is in its life.
    pub state: SessionState,
    /// The session role.
    pub role: String,
    /// Who asked for it (SPIFFE id).
    pub requester: String,
    /// What it is for.
    pub reason: String,
    /// The hosts that it is for.
    #[schema(value_type = BTreeSet<String>)]
    pub targets: BTreeSet<DnsName>,
    /// From where its SSH certificates may be used; empty for anywhere.
    #[schema(value_type = BTreeSet<String>)]
    pub source_addresses: BTreeSet<SourceAddress>,
    /// The one command of its SSH certificates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub force_command: Option<String>,
    /// Whether each of its SSH certificates lets in once only.
    pub one_use: bool,
    /// The roles whose certificates it gives.
    pub certificate_roles: Vec<String>,
    /// Its length in seconds.
    pub ttl: u32,
    /// How many approvals it needs.
    pub approvals_needed: u8,
    /// What approvers have said.
    pub decisions: Vec<Decision>,
    /// When it was asked for.
    #[schema(value_type = String)]
    pub requested_at: Timestamp,
    /// When a waiting session expires.
    #[schema(value_type = String)]
    pub waits_until: Timestamp,
    /// Seconds within which a heartbeat must come; absent when none is needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat: Option<u32>,
    /// When it opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub opened_at: Option<Timestamp>,
    /// When an open session ends by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub ends_at: Option<Timestamp>,
    /// When it ended, was denied, or expired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub ended_at: Option<Timestamp>,
    /// What ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_cause: Option<EndCause>,
}

/// What an approver has said.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct Decision {
    /// Who (SPIFFE id).
    pub approver: String,
    /// Approved, or denied.
    pub approved: bool,
    /// Why.
    pub reason: String,
    /// When.
    #[schema(value_type = String)]
    pub at: Timestamp,
}

/// Approves or denies a session, or ends it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Because {
    /// Why; 1 to 500 characters.
    pub reason: String,
}

/// Which sessions to list: those for which all that is given holds, the latest first.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionQuery {
    /// In this state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<SessionState>,
    /// Of this role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Asked for by this caller (SPIFFE id).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requester: Option<String>,
    /// At most so many; 100 unless told, 1,000 at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// Sessions, the latest first.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct Sessions {
    /// The sessions.
    pub sessions: Vec<Session>,
}

/// A session that was ended: it gives no certificates from now on.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct SessionEnded {
    /// The session.
    pub session: Session,
    /// How many certificates were revoked.
    pub revoked: u64,
    /// How many of them are for smart-card logon: a Kerberos ticket that one of them gave lives on.
    #[serde(default)]
    pub logon_certificates: u64,
    /// The change whose effect can be asked for.
    pub change: u64,
}
