//! Locks and revocations: from now on not one signature.

use std::{fmt, str::FromStr};

use jiff::Timestamp;
use pki::names::{DnsName, SpiffeId};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use utoipa::ToSchema;

/// Whom or what a lock concerns, as `KIND:VALUE`; [`All`](Self::All) is `all`.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum LockTarget {
    /// `all`: everybody and everything.
    All,
    /// `bot:NAME`: all instances of a bot.
    Bot(String),
    /// `bot-instance:NAME/INSTANCE`: one of them.
    BotInstance(String, String),
    /// `card:SERIAL`: whatever is for keys that this card has attested.
    Card(u32),
    /// `host:NAME`: certificates for a host of this name, sessions on it, and what it asks for.
    Host(DnsName),
    /// `issuer:NAME`: all of one authority.
    Issuer(String),
    /// `key:FINGERPRINT`: SHA-256 of the SubjectPublicKeyInfo, 64 hexadecimal digits.
    Key(String),
    /// `role:NAME`: whatever a role grants, be it certificates or sessions.
    Role(String),
    /// `serial:ISSUER/SERIAL`: one certificate.
    Serial(String, String),
    /// `spiffe:ID`: this caller, and all whose ids are below its path.
    Spiffe(SpiffeId),
    /// `user:NAME`: one person.
    User(String),
}

/// A text is no target of a lock.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error(
    "{0:?} is no target: write user:NAME, card:SERIAL, bot:NAME, bot-instance:NAME/INSTANCE, \
     role:NAME, host:NAME, serial:ISSUER/SERIAL, key:FINGERPRINT, spiffe:ID, issuer:NAME or all"
)]
pub struct BadLockTarget(pub String);

impl fmt::Display for LockTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Bot(name) => write!(f, "bot:{name}"),
            Self::BotInstance(name, instance) => write!(f, "bot-instance:{name}/{instance}"),
            Self::Card(serial) => write!(f, "card:{serial}"),
            Self::Host(name) => write!(f, "host:{}", name.as_str()),
            Self::Issuer(name) => write!(f, "issuer:{name}"),
            Self::Key(fingerprint) => write!(f, "key:{fingerprint}"),
            Self::Role(name) => write!(f, "role:{name}"),
            Self::Serial(issuer, serial) => write!(f, "serial:{issuer}/{serial}"),
            Self::Spiffe(id) => write!(f, "spiffe:{id}"),
            Self::User(name) => write!(f, "user:{name}"),
        }
    }
}

impl FromStr for LockTarget {
    type Err = BadLockTarget;

    fn from_str(text: &str) -> Result<Self, BadLockTarget> {
        parse(text).ok_or_else(|| BadLockTarget(text.chars().take(200).collect()))
    }
}

impl TryFrom<String> for LockTarget {
    type Error = BadLockTarget;

    fn try_from(text: String) -> Result<Self, BadLockTarget> {
        text.parse()
    }
}

impl From<LockTarget> for String {
    fn from(target: LockTarget) -> Self {
        target.to_string()
    }
}

fn parse(text: &str) -> Option<LockTarget> {
    if text == "all" {
        return Some(LockTarget::All);
    }
    let (kind, value) = text.split_once(':')?;
    Some(match kind {
        "bot" => LockTarget::Bot(word(value)?),
        "bot-instance" => {
            let (name, instance) = value.split_once('/')?;
            LockTarget::BotInstance(word(name)?, word(instance)?)
        }
        "card" => LockTarget::Card(number(value)?),
        "host" => LockTarget::Host(value.parse().ok()?),
        "issuer" => LockTarget::Issuer(word(value)?),
        "key" => LockTarget::Key(fingerprint(value)?),
        "role" => LockTarget::Role(word(value)?),
        "serial" => {
            let (issuer, serial) = value.split_once('/')?;
            LockTarget::Serial(word(issuer)?, word(serial)?)
        }
        "spiffe" => LockTarget::Spiffe(value.parse().ok()?),
        "user" => LockTarget::User(word(value)?),
        _ => return None,
    })
}

/// A name as it stands in SPIFFE ids and role files: no separators, nothing invisible.
fn word(text: &str) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.@".contains(c);
    ((1..=128).contains(&text.len()) && text.chars().all(plain)).then(|| text.to_owned())
}

/// Digits alone: `u32` would read a plus sign, too.
fn number(text: &str) -> Option<u32> {
    let digits = text.chars().all(|c| c.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

fn fingerprint(text: &str) -> Option<String> {
    let hexadecimal = text.len() == 64 && text.chars().all(|c| c.is_ascii_hexdigit());
    hexadecimal.then(|| text.to_ascii_lowercase())
}

/// Sets a lock: from the answer on, nothing is signed for its target until it is removed. What was
/// issued to it is revoked, its sessions end.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LockRequest {
    /// Whom or what.
    #[schema(value_type = String)]
    pub target: LockTarget,
    /// Only what was or would be issued before this time: later certificates are given. Not in the
    /// future.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub issued_before: Option<Timestamp>,
    /// Why; 1 to 500 characters.
    pub reason: String,
    /// Seconds until it ends by itself; absent means never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<u32>,
}

/// Asks what a lock would hit.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LockPreview {
    /// Whom or what.
    #[schema(value_type = String)]
    pub target: LockTarget,
    /// Only what was issued before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub issued_before: Option<Timestamp>,
}

/// What a lock hits.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct LockEffect {
    /// Certificates that are valid and not revoked.
    pub certificates: u64,
    /// Sessions that wait or are open.
    pub sessions: u64,
    /// Hosts on which somebody is logged in with one of those certificates, or that are targets of
    /// one of those sessions.
    pub hosts: u64,
}

/// A lock in force.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct Lock {
    /// Its number.
    pub id: u64,
    /// Whom or what.
    #[schema(value_type = String)]
    pub target: LockTarget,
    /// Only what was issued before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub issued_before: Option<Timestamp>,
    /// Why.
    pub reason: String,
    /// Who set it (SPIFFE id).
    pub locked_by: String,
    /// When.
    #[schema(value_type = String)]
    pub locked_at: Timestamp,
    /// When it ends by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub expires_at: Option<Timestamp>,
}

/// A lock was set: from now on, nothing is signed for its target.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct Locked {
    /// The lock.
    pub lock: Lock,
    /// How many certificates were revoked.
    pub revoked: u64,
    /// How many of them are for smart-card logon: a Kerberos ticket that one of them gave lives on.
    #[serde(default)]
    pub logon_certificates: u64,
    /// How many sessions ended.
    pub sessions: u64,
    /// The change whose effect can be asked for.
    pub change: u64,
}

/// Locks in force, the latest first.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct Locks {
    /// The locks.
    pub locks: Vec<Lock>,
}

/// Removes the locks on a target, by the same words that set them. What was revoked stays revoked.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UnlockRequest {
    /// Whom or what.
    #[schema(value_type = String)]
    pub target: LockTarget,
    /// Why; 1 to 500 characters.
    pub reason: String,
}

/// Revokes certificates without a lock: one by its serial number.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RevokeRequest {
    /// The authority that signed it.
    pub issuer: String,
    /// Its serial number: decimal for SSH, 32 hexadecimal digits for X.509.
    pub serial: String,
    /// The reason that a CRL and an OCSP answer give (RFC 5280 section 5.3.1).
    pub code: RevocationReason,
    /// Why, for the audit log; 1 to 500 characters.
    pub reason: String,
}

/// A certificate was revoked.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct Revoked {
    /// How many certificates were revoked: none if it was revoked before.
    pub revoked: u64,
    /// How many of them are for smart-card logon: a Kerberos ticket that one of them gave lives on.
    #[serde(default)]
    pub logon_certificates: u64,
    /// The change whose effect can be asked for.
    pub change: u64,
}

/// Why a certificate was revoked (RFC 5280 section 5.3.1); only what an end-entity certificate can
/// be revoked for.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RevocationReason {
    /// The holder is another, or is called otherwise.
    AffiliationChanged,
    /// It is not needed any more: a session has ended.
    CessationOfOperation,
    /// Somebody else has the key, or may have.
    KeyCompromise,
    /// The holder may not any more what it gave: a lock.
    PrivilegeWithdrawn,
    /// Another has taken its place.
    Superseded,
    /// Not said.
    Unspecified,
}
