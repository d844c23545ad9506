//! Tokens of OpenID Connect issuers: of a build, of a cluster, of a cloud.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;

use super::{
    BadMethod, Once, Proven, Refusal,
    claims::{Rules, shown},
    jws::{KeySet, Token},
};

/// Whose tokens are a bot's, and which of them.
pub(super) struct Trust {
    issuer: String,
    rules: Rules,
    keys: KeySet,
}

impl Trust {
    pub(super) fn parse(
        issuer: &str,
        audience: &str,
        claims: &BTreeMap<String, String>,
        jwks: Option<&Value>,
        _ca: Option<&str>,
    ) -> Result<Self, BadMethod> {
        let rules = Rules::parse(issuer, audience, claims)?;
        let keys = jwks.ok_or_else(|| BadMethod::new("jwks", "it must be there"))?;
        let keys = KeySet::parse(keys).map_err(|what| BadMethod::new("jwks", what))?;
        Ok(Self { issuer: issuer.to_owned(), rules, keys })
    }

    pub(super) fn verify(&self, token: &str, now: Timestamp) -> Result<Proven, Refusal> {
        let token = Token::parse(token)?;
        self.rules.check_issuer(&token.unverified_claims()?)?;
        let claims = self.keys.verify(&token)?;
        let until = self.rules.check(&claims, now)?;
        let (subject, id) = (shown(claims.get("sub")), shown(claims.get("jti")));
        let who = format!("a token of {}: sub {subject}, jti {id}", self.issuer);
        Ok(Proven { who, once: Some(Once { hash: token.hash(), until }) })
    }
}
