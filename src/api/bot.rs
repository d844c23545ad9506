//! Bots: services that join once, by a proof that an operator named, and renew by themselves.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
};

use jiff::Timestamp;
use pki::{keys::SignatureScheme, names::SourceAddress};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use utoipa::ToSchema;

/// The name of a bot: 1 to 63 of `a`–`z`, `0`–`9`, `-` and `_`, a letter or digit first.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct BotName(String);

/// The text is no name of a bot.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("{0:?} is no name of a bot: 1 to 63 of a-z, 0-9, - and _, a letter or digit first")]
pub struct BotNameError(String);

impl BotName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<BotName> for String {
    fn from(name: BotName) -> Self {
        name.0
    }
}

impl TryFrom<String> for BotName {
    type Error = BotNameError;

    fn try_from(text: String) -> Result<Self, BotNameError> {
        let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let good = matches!(text.len(), 1..=63)
            && text.bytes().next().is_some_and(alphanumeric)
            && text.bytes().all(|byte| alphanumeric(byte) || matches!(byte, b'-' | b'_'));
        if good { Ok(Self(text)) } else { Err(BotNameError(text)) }
    }
}

impl FromStr for BotName {
    type Err = BotNameError;

    fn from_str(text: &str) -> Result<Self, BotNameError> {
        text.to_owned().try_into()
    }
}

/// What a bot is to be. Applied again, the same changes nothing.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BotSpec {
    /// Its name: `spiffe://<trust domain>/bot/<name>/<instance>` is one of its instances.
    #[schema(value_type = String)]
    pub name: BotName,
    /// The roles that it may use, of those that the rules give to it.
    pub roles: BTreeSet<String>,
    /// How it proves who it is when it joins.
    pub join: JoinMethod,
    /// How many instances may live at the same time.
    #[serde(default = "one")]
    pub max_instances: u32,
    /// Seconds that its own certificate is valid; absent means one hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity_ttl: Option<u32>,
    /// The longest validity of what it is given, in seconds; absent means as the roles say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_ttl: Option<u32>,
    /// From where it may ask; empty for anywhere.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    #[schema(value_type = BTreeSet<String>)]
    pub source_addresses: BTreeSet<SourceAddress>,
}

/// How a bot proves who it is when it joins.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(tag = "method", rename_all = "kebab-case", deny_unknown_fields)]
pub enum JoinMethod {
    /// By a key that it holds: a signature over a challenge. Its instances renew.
    BoundKey {
        /// PEM `PUBLIC KEY`.
        public_key: String,
        /// How often it may join again after the first time.
        #[serde(default)]
        recoveries: u32,
    },
    /// By a token of an OpenID Connect issuer, a new one each time: its instances do not renew.
    Oidc {
        /// `iss`, exactly; without `jwks`, where `/.well-known/openid-configuration` is below.
        issuer: String,
        /// What must be in `aud`.
        audience: String,
        /// Claims that must be there: a value that must be equal, `*` standing for any part without
        /// a `/` and `**` for any part. At least one.
        claims: BTreeMap<String, String>,
        /// The issuer's keys (RFC 7517), for one that the appliance does not reach.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schema(value_type = Option<Object>)]
        jwks: Option<serde_json::Value>,
        /// PEM of the CA of the issuer's web server, if it is not one of the system's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ca: Option<String>,
    },
    /// By a secret that was made for it and is good once. Its instances renew.
    Token {},
    /// By a certificate of another CA and a signature over a challenge with its key, each time anew:
    /// its instances do not renew.
    X509 {
        /// PEM of the CA certificates that it must lead to.
        authorities: String,
        /// What it must name: `uri:…`, `dns:…` or `cn:…`, with `*` and `**` as in claims.
        identity: String,
    },
}

/// A bot, as it stands.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct Bot {
    /// What it is to be.
    #[serde(flatten)]
    pub spec: BotSpec,
    /// When it was first added.
    #[schema(value_type = String)]
    pub added_at: Timestamp,
    /// By whom (SPIFFE id).
    pub added_by: String,
    /// How often it may still join again by its bound key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recoveries_left: Option<u32>,
    /// Its instances, the latest first: those that live, and the last that did.
    pub instances: Vec<BotInstance>,
}

/// One lineage of renewals.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct BotInstance {
    /// Its id: 32 hexadecimal digits.
    pub id: String,
    /// How it stands.
    pub state: BotInstanceState,
    /// How often it was given a certificate of its own, from 1.
    pub generation: u64,
    /// When it joined.
    #[schema(value_type = String)]
    pub joined_at: Timestamp,
    /// When it last had its certificate confirmed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub last_seen: Option<Timestamp>,
    /// When its own certificate expires.
    #[schema(value_type = String)]
    pub not_after: Timestamp,
    /// Whether it may renew; else it joins anew.
    pub renewable: bool,
}

/// How an instance stands.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BotInstanceState {
    /// Its certificate has expired.
    Expired,
    /// It may renew, or use what it has.
    Live,
    /// A lock hits it, or did when its certificates were taken back.
    Locked,
    /// Another has taken its place, or it was removed with its bot.
    Replaced,
}

/// Bots, by name.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct Bots {
    /// The bots.
    pub bots: Vec<Bot>,
}

/// A bot was applied.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct BotApplied {
    /// As it is now.
    pub bot: Bot,
    /// Whether it was otherwise before.
    pub changed: bool,
}

/// Makes a token for a bot that joins by one. A token before it is good no more.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BotTokenRequest {
    /// Seconds until it expires; absent means half an hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<u32>,
}

/// What a bot joins with, once.
#[derive(Clone, Deserialize, Serialize, ToSchema)]
pub struct BotToken {
    /// The bot.
    #[schema(value_type = String)]
    pub name: BotName,
    /// The secret, 43 characters of base64url. It is not kept: only its hash is.
    pub secret: String,
    /// When it expires.
    #[schema(value_type = String)]
    pub expires_at: Timestamp,
}

/// What is to be signed to prove the possession of a key.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct Challenge {
    /// To be sent back as it is; part of [`join_statement`].
    pub challenge: String,
    /// When it is good no more.
    #[schema(value_type = String)]
    pub expires_at: Timestamp,
}

/// Joins as a new instance of a bot, without a client certificate. Repeated with the same key, before
/// its certificate was used, it gives the same certificate.
#[derive(Clone, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BotJoinRequest {
    /// The bot.
    #[schema(value_type = String)]
    pub name: BotName,
    /// PEM `CERTIFICATE REQUEST` for the TLS client key. It gives the key and nothing else.
    pub csr: String,
    /// That it is the bot.
    pub proof: JoinProof,
}

/// That somebody is a bot.
#[derive(Clone, Deserialize, Serialize, ToSchema)]
#[serde(tag = "method", rename_all = "kebab-case", deny_unknown_fields)]
pub enum JoinProof {
    /// A signature over [`join_statement`] with the bound key.
    BoundKey {
        /// The challenge.
        challenge: String,
        /// Base64; ECDSA in DER.
        signature: String,
        /// How it was made.
        #[schema(value_type = String)]
        scheme: SignatureScheme,
    },
    /// A token of the issuer.
    Oidc {
        /// JWS compact serialisation (RFC 7515).
        token: String,
    },
    /// The secret of a token.
    Token {
        /// The secret.
        secret: String,
    },
    /// A signature over [`join_statement`] with the key of a certificate.
    X509 {
        /// The challenge.
        challenge: String,
        /// PEM: the certificate first, then those between it and the CA.
        certificates: String,
        /// Base64; ECDSA in DER.
        signature: String,
        /// How it was made.
        #[schema(value_type = String)]
        scheme: SignatureScheme,
    },
}

/// The bytes that a key signs to join: what it is for, which bot, the challenge, and the CSR exactly
/// as it is sent.
pub fn join_statement(name: &BotName, challenge: &str, csr: &str) -> Vec<u8> {
    format!("chancery bot join 1\n{name}\n{challenge}\n{csr}").into_bytes()
}

/// A certificate of an instance's own, after joining or renewing.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct BotIdentity {
    /// The bot.
    #[schema(value_type = String)]
    pub name: BotName,
    /// The instance.
    pub instance: String,
    /// From 1.
    pub generation: u64,
    /// PEM of its TLS client certificate.
    pub certificate: String,
    /// PEM of the CA certificates, the issuer's first, without the root.
    pub chain: Vec<String>,
    /// When it expires.
    #[schema(value_type = String)]
    pub not_after: Timestamp,
    /// Whether the instance may renew; else it joins anew.
    pub renewable: bool,
}

/// Renews an instance's own certificate. Repeated with the same CSR, it gives the same certificate,
/// until that was used.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BotRenewRequest {
    /// PEM `CERTIFICATE REQUEST` for a new key. It gives the key and nothing else.
    pub csr: String,
}

/// What an instance may know of itself. Asking with a new certificate confirms it, as any other
/// request does.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct BotStatus {
    /// The bot.
    #[schema(value_type = String)]
    pub name: BotName,
    /// The instance.
    pub instance: String,
    /// The generation that is confirmed now.
    pub generation: u64,
    /// Whether it may renew.
    pub renewable: bool,
    /// Its roles: those that it was given and the rules give to it.
    pub roles: Vec<BotRole>,
}

/// A role of a bot, now.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct BotRole {
    /// The role.
    pub role: String,
    /// When its schedule closes, if it is open now and does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub closes_at: Option<Timestamp>,
    /// When its schedule opens, if it is closed now and does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub opens_at: Option<Timestamp>,
    /// Whether it may be used now.
    pub open: bool,
}

fn one() -> u32 {
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_one_segment_of_a_spiffe_id() {
        for good in ["ci", "3", "deploy-web_2", &"a".repeat(63)] {
            assert!(good.parse::<BotName>().is_ok(), "{good}");
        }
        for bad in ["", "-ci", "CI", "a/b", "a.b", "a b", "ä", &"a".repeat(64)] {
            assert!(bad.parse::<BotName>().is_err(), "{bad}");
        }
    }
}
