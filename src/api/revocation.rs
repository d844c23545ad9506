//! What was taken back, on its way to those who must know, and what became of it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// All that SSH servers need to know of what was taken back, signed by the publication key.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct RevocationBundle {
    /// The text that was signed: version, times, and the hash of the KRL (`pki::revocation`).
    pub statement: String,
    /// The signature over it, base64.
    pub signature: String,
    /// The KRL (PROTOCOL.krl), base64.
    pub krl: String,
}

/// Waits for a later version of the bundle than is known.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BundleQuery {
    /// The version that is known; absent for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    /// How many seconds to wait for a later one, 0 to 60; absent means 30. The answer is 204 if
    /// there is none by then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<u32>,
}

/// A host has a version in force.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Acknowledgement {
    /// The version.
    pub version: u64,
    /// Connections that were cut for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cut: Vec<CutConnection>,
}

/// A live connection that a host has cut.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CutConnection {
    /// The authority that had signed its certificate.
    pub issuer: String,
    /// The certificate's serial number.
    pub serial: u64,
    /// Who was logged in.
    pub user: String,
}

/// Waits for the effect of a change.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EffectQuery {
    /// How many seconds to wait until all hosts have it, 0 to 60; absent means 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<u32>,
}

/// Where a change (an ended session, a lock, a revocation) is in force.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct Effect {
    /// The change.
    pub change: u64,
    /// When it was made.
    #[schema(value_type = String)]
    pub made_at: Timestamp,
    /// The version of the bundle that says it; absent until it is published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// After how many milliseconds it was published: KRL, CRLs and OCSP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published_after: Option<u64>,
    /// All hosts that have joined.
    pub hosts: Vec<HostEffect>,
}

/// Whether a host has a change in force.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct HostEffect {
    /// The host's name.
    pub host: String,
    /// After how many milliseconds it said that it has; absent if it has not yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied_after: Option<u64>,
    /// How many connections it cut for it.
    #[serde(default)]
    pub cut: u32,
    /// When it was last heard of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub last_seen: Option<Timestamp>,
}
