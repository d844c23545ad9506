//! Patterns in roles. Each matches one name at a time, and nothing that it does not spell out.

use std::{fmt, net::IpAddr, str::FromStr};

use pki::names::{DnsName, Principal, SourceAddress, SpiffeId, Upn};
use serde::Deserialize;
use thiserror::Error;

use super::Caller;

/// What `{name}` in a pattern stands for: the last segment of the caller's SPIFFE id.
pub(super) const NAME: &str = "{name}";

/// A pattern cannot be read.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("pattern {text:?}: {what}")]
pub struct PatternError {
    text: String,
    what: String,
}

impl PatternError {
    fn new(text: &str, what: impl fmt::Display) -> Self {
        Self { text: text.to_owned(), what: what.to_string() }
    }
}

macro_rules! pattern {
    ($name:ident) => {
        impl TryFrom<String> for $name {
            type Error = PatternError;

            fn try_from(text: String) -> Result<Self, PatternError> {
                text.parse()
            }
        }
    };
}

/// SPIFFE ids: one id, or `spiffe://domain/path/*` for every id with exactly one segment more.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "String")]
pub enum SpiffePattern {
    /// This id.
    Exact(SpiffeId),
    /// One segment below this id.
    Below(SpiffeId),
}
pattern!(SpiffePattern);

impl FromStr for SpiffePattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let (kind, id): (fn(SpiffeId) -> Self, _) = match text.strip_suffix("/*") {
            Some(parent) => (Self::Below, parent),
            None => (Self::Exact, text),
        };
        id.parse().map(kind).map_err(|error| PatternError::new(text, error))
    }
}

impl SpiffePattern {
    /// Whether it is about callers of these kinds only: `/user/…` and the like.
    pub(super) fn is_of(&self, kinds: &[&str]) -> bool {
        let path = match self {
            Self::Exact(id) | Self::Below(id) => id.path(),
        };
        path.split('/').nth(1).is_some_and(|kind| kinds.contains(&kind))
    }

    /// Whether the id is one of these.
    pub fn matches(&self, id: &SpiffeId) -> bool {
        match self {
            Self::Exact(exact) => exact == id,
            Self::Below(parent) => id
                .as_str()
                .strip_prefix(parent.as_str())
                .and_then(|rest| rest.strip_prefix('/'))
                .is_some_and(|segment| !segment.is_empty() && !segment.contains('/')),
        }
    }
}

/// DNS names: one name, `{name}` with or without a domain, or `*.domain` for one label below it.
///
/// A requested wildcard name is only matched by the same wildcard, written with a leading `=`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "String")]
pub enum DnsPattern {
    /// One label below this domain.
    Below(DnsName),
    /// The caller's name, then this text (empty, or `.` and a domain).
    Caller(String),
    /// This name.
    Exact(DnsName),
}
pattern!(DnsPattern);

impl FromStr for DnsPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let failed = |error| PatternError::new(text, error);
        if let Some(domain) = text.strip_prefix("*.") {
            return domain.parse().map(Self::Below).map_err(failed);
        }
        if let Some(rest) = text.strip_prefix(NAME) {
            // The expansion is parsed again at each use; this finds a broken rest at load.
            format!("a{rest}").parse::<DnsName>().map_err(failed)?;
            return Ok(Self::Caller(rest.to_owned()));
        }
        text.strip_prefix('=').unwrap_or(text).parse().map(Self::Exact).map_err(failed)
    }
}

impl DnsPattern {
    /// Whether this caller may have the name.
    pub fn matches(&self, name: &str, caller: &Caller) -> bool {
        match self {
            Self::Below(domain) => name.strip_suffix(domain.as_str()).is_some_and(|rest| {
                rest.strip_suffix('.')
                    .is_some_and(|label| !label.is_empty() && !label.contains(['.', '*']))
            }),
            Self::Caller(rest) => name.strip_prefix(caller.name()) == Some(rest),
            Self::Exact(exact) => exact.as_str() == name,
        }
    }
}

/// Host principals: a DNS pattern or one address.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "String")]
pub enum HostPattern {
    /// An address.
    Address(IpAddr),
    /// Names.
    Dns(DnsPattern),
}
pattern!(HostPattern);

impl FromStr for HostPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        match text.parse() {
            Ok(address) => Ok(Self::Address(address)),
            Err(_) => text.parse().map(Self::Dns),
        }
    }
}

impl HostPattern {
    /// Whether this caller's host may be called so.
    pub fn matches(&self, principal: &Principal, caller: &Caller) -> bool {
        match self {
            Self::Address(address) => principal.as_str().parse() == Ok(*address),
            Self::Dns(pattern) => pattern.matches(principal.as_str(), caller),
        }
    }
}

/// Login names: one principal, which may have `{name}` in it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "String")]
pub struct PrincipalPattern(String);
pattern!(PrincipalPattern);

impl FromStr for PrincipalPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let example = text.replace(NAME, "a");
        if example.contains(['{', '}']) {
            return Err(PatternError::new(text, "the only placeholder is {name}"));
        }
        example.parse::<Principal>().map_err(|error| PatternError::new(text, error))?;
        Ok(Self(text.to_owned()))
    }
}

impl PrincipalPattern {
    /// The principal that this is for the caller; none if the caller's name is none of an account.
    pub fn expand(&self, caller: &Caller) -> Option<Principal> {
        // Parsed after expansion: what a caller is called must not add a second principal
        // (CVE-2024-7594 and its kind).
        self.0.replace(NAME, caller.name()).parse().ok()
    }
}

/// User principal names: `{name}@domain`, `*@domain`, or one.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "String")]
pub enum UpnPattern {
    /// Every account of this domain.
    Any(String),
    /// The account that is called as the caller is, of this domain.
    Caller(String),
    /// This one.
    Exact(Upn),
}
pattern!(UpnPattern);

impl FromStr for UpnPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let failed = |error| PatternError::new(text, error);
        let domain = |domain: &str| {
            format!("a@{domain}").parse::<Upn>().map(|upn| upn.domain()).map_err(failed)
        };
        match text.split_once('@') {
            Some(("*", rest)) => domain(rest).map(Self::Any),
            Some((NAME, rest)) => domain(rest).map(Self::Caller),
            _ => text.parse().map(Self::Exact).map_err(failed),
        }
    }
}

impl UpnPattern {
    /// Whether this caller may have a card for the account.
    pub fn matches(&self, upn: &Upn, caller: &Caller) -> bool {
        match self {
            Self::Any(domain) => upn.domain() == *domain,
            Self::Caller(domain) => upn.domain() == *domain && upn.account() == caller.name(),
            Self::Exact(exact) => exact == upn,
        }
    }
}

/// Whether `inner` is `outer` or a part of it.
pub(super) fn contains(outer: &SourceAddress, inner: &SourceAddress) -> bool {
    match (network(outer), network(inner)) {
        (Some((outer, outer_len, width)), Some((inner, inner_len, inner_width))) => {
            width == inner_width
                && outer_len <= inner_len
                && (outer_len == 0 || (outer ^ inner) >> (width - outer_len) == 0)
        }
        _ => false,
    }
}

/// Address bits, prefix length and width.
fn network(address: &SourceAddress) -> Option<(u128, u32, u32)> {
    let text = address.as_str();
    let (host, prefix) = text.split_once('/').map_or((text, None), |(h, p)| (h, Some(p)));
    let (bits, width) = match host.parse().ok()? {
        IpAddr::V4(v4) => (u128::from(u32::from(v4)), 32),
        IpAddr::V6(v6) => (u128::from(v6), 128),
    };
    let prefix = prefix.map_or(Some(width), |prefix| prefix.parse().ok())?;
    (prefix <= width).then_some((bits, prefix, width))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(id: &str) -> Caller {
        Caller::new(id.parse().unwrap())
    }

    #[test]
    fn spiffe_patterns_match_whole_segments() {
        let users: SpiffePattern = "spiffe://example.test/user/*".parse().unwrap();
        for (id, wanted) in [
            ("spiffe://example.test/user/alice", true),
            ("spiffe://example.test/user", false),
            ("spiffe://example.test/user/alice/laptop", false),
            ("spiffe://example.test/users/alice", false),
            ("spiffe://other.test/user/alice", false),
        ] {
            assert_eq!(users.matches(&id.parse().unwrap()), wanted, "{id}");
        }
    }

    #[test]
    fn dns_patterns_match_one_label() {
        let web = caller("spiffe://example.test/service/web");
        for (pattern, name, wanted) in [
            ("*.example.test", "a.example.test", true),
            ("*.example.test", "a.b.example.test", false),
            ("*.example.test", "example.test", false),
            ("*.example.test", "*.example.test", false),
            ("*.example.test", "badexample.test", false),
            ("{name}.example.test", "web.example.test", true),
            ("{name}.example.test", "web2.example.test", false),
            ("{name}", "web", true),
            ("=*.example.test", "*.example.test", true),
            ("db.example.test", "db.example.test", true),
            ("db.example.test", "db.example.test.evil.test", false),
        ] {
            let parsed: DnsPattern = pattern.parse().unwrap();
            assert_eq!(parsed.matches(name, &web), wanted, "{pattern} on {name}");
        }
    }

    #[test]
    fn a_callers_name_never_becomes_two_principals() {
        let pattern: PrincipalPattern = "{name}".parse().unwrap();
        assert_eq!(
            pattern.expand(&caller("spiffe://example.test/user/alice")).unwrap().as_str(),
            "alice"
        );
        assert!("a,b".parse::<PrincipalPattern>().is_err());
        assert!("*".parse::<PrincipalPattern>().is_err());
        assert!("{user}".parse::<PrincipalPattern>().is_err());
        assert!("".parse::<PrincipalPattern>().is_err());
    }

    #[test]
    fn upn_patterns_hold_the_domain() {
        let alice = caller("spiffe://example.test/user/alice");
        for (pattern, upn, wanted) in [
            ("{name}@corp.example", "alice@corp.example", true),
            ("{name}@corp.example", "alice@CORP.example", true),
            ("{name}@corp.example", "bob@corp.example", false),
            ("*@corp.example", "bob@corp.example", true),
            ("*@corp.example", "bob@evil.example", false),
            ("svc@corp.example", "svc@corp.example", true),
        ] {
            let parsed: UpnPattern = pattern.parse().unwrap();
            assert_eq!(parsed.matches(&upn.parse().unwrap(), &alice), wanted, "{pattern} on {upn}");
        }
    }

    #[test]
    fn a_network_contains_its_parts_only() {
        for (outer, inner, wanted) in [
            ("10.0.0.0/8", "10.1.2.3", true),
            ("10.0.0.0/8", "10.1.0.0/16", true),
            ("10.1.0.0/16", "10.0.0.0/8", false),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("0.0.0.0/0", "1.2.3.4", true),
            ("0.0.0.0/0", "::1", false),
            ("2001:db8::/32", "2001:db8:1::/48", true),
        ] {
            assert_eq!(
                contains(&outer.parse().unwrap(), &inner.parse().unwrap()),
                wanted,
                "{outer} {inner}"
            );
        }
    }
}
