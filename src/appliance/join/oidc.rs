//! Tokens of OpenID Connect issuers: of a build, of a cluster, of a cloud.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;

use super::{
    BadMethod, Once, Proven, Refusal,
    claims::{Claims, Rules, shown},
    discovery::{Issuer, Issuers},
    fetch::{Roots, Url},
    jws::{KeySet, Token},
};

/// Whose tokens are a bot's, and which of them.
pub(super) struct Trust {
    rules: Rules,
    keys: Keys,
}

/// Where the issuer's keys are.
enum Keys {
    Given(KeySet),
    Published(Issuer),
}

impl Trust {
    pub(super) fn parse(
        issuer: &str,
        audience: &str,
        claims: &BTreeMap<String, String>,
        jwks: Option<&Value>,
        ca: Option<&str>,
    ) -> Result<Self, BadMethod> {
        // OpenID Connect Discovery 1.0 section 2: neither a query nor a fragment.
        let url = Url::parse(issuer).and_then(Url::without_query);
        let url = url.map_err(|what| BadMethod::new("issuer", what))?;
        let rules = Rules::parse(issuer, audience, claims)?;
        let keys = match (jwks, ca) {
            (Some(_), Some(_)) => {
                return Err(BadMethod::new("ca", "leave it out: with jwks nothing is fetched"));
            }
            (Some(keys), None) => {
                Keys::Given(KeySet::parse(keys).map_err(|what| BadMethod::new("jwks", what))?)
            }
            (None, ca) => {
                let roots = Roots::parse(ca).map_err(|what| BadMethod::new("ca", what))?;
                Keys::Published(Issuer { name: issuer.to_owned(), url, roots })
            }
        };
        Ok(Self { rules, keys })
    }

    pub(super) async fn verify(
        &self,
        token: &str,
        issuers: &Issuers,
        now: Timestamp,
    ) -> Result<Proven, Refusal> {
        let token = Token::parse(token)?;
        // Nothing is fetched for a token that does not even say to be of the issuer.
        self.rules.check_issuer(&token.unverified_claims()?)?;
        let claims = self.verify_signature(&token, issuers, now).await?;
        let until = self.rules.check(&claims, now)?;
        let [issuer, subject, id] = ["iss", "sub", "jti"].map(|name| shown(claims.get(name)));
        let who = format!("a token of {issuer}: sub {subject}, jti {id}");
        Ok(Proven { who, once: Some(Once { hash: token.hash(), until }) })
    }

    async fn verify_signature(
        &self,
        token: &Token<'_>,
        issuers: &Issuers,
        now: Timestamp,
    ) -> Result<Claims, Refusal> {
        let issuer = match &self.keys {
            Keys::Given(keys) => return keys.verify(token),
            Keys::Published(issuer) => issuer,
        };
        match issuers.keys(issuer, now).await?.verify(token) {
            // It may have been made since.
            Err(Refusal::Key(_)) => issuers.newest_keys(issuer, now).await?.verify(token),
            verified => verified,
        }
    }
}
