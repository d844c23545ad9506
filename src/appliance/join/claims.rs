//! What a token must say (RFC 7519 section 4.1), and what its claims must be.

use std::{borrow::Cow, collections::BTreeMap};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value};

use super::{BadMethod, Refusal, pattern::Pattern};

/// The claims of a token.
pub(super) type Claims = Map<String, Value>;

/// The rules for the tokens of a bot.
pub(super) struct Rules {
    issuer: String,
    audience: String,
    claims: Vec<(String, Pattern)>,
}

impl Rules {
    pub(super) fn parse(
        issuer: &str,
        audience: &str,
        claims: &BTreeMap<String, String>,
    ) -> Result<Self, BadMethod> {
        if audience.is_empty() {
            return Err(BadMethod::new("audience", "it is empty; name what must be in aud"));
        }
        let mut rules = Vec::new();
        for (name, text) in claims {
            let pattern = Pattern::parse(text)
                .map_err(|what| BadMethod::new("claims", format!("{name}: {what}")))?;
            rules.push((name.clone(), pattern));
        }
        // Whoever runs an issuer for everybody gives everybody a token.
        if !rules.iter().any(|(_, pattern)| pattern.says_something()) {
            let what = "they say nothing of the bot, so that everybody of this issuer would be it; \
                        write at least one claim that is not of stars alone";
            return Err(BadMethod::new("claims", what));
        }
        Ok(Self { issuer: issuer.to_owned(), audience: audience.to_owned(), claims: rules })
    }

    /// Whether a token says that it is of the issuer.
    pub(super) fn check_issuer(&self, claims: &Claims) -> Result<(), Refusal> {
        match claims.get("iss") {
            Some(Value::String(issuer)) if *issuer == self.issuer => Ok(()),
            found => Err(Refusal::Issuer(shown(found))),
        }
    }

    /// Checks the claims of a token whose signature was verified; says from when on it is too old.
    pub(super) fn check(&self, claims: &Claims, now: Timestamp) -> Result<Timestamp, Refusal> {
        self.check_issuer(claims)?;
        let found = claims.get("aud");
        if !scalars(found).any(|audience| audience == self.audience) {
            return Err(Refusal::Audience(shown(found)));
        }
        let until = check_times(claims, now)?;
        for (name, pattern) in &self.claims {
            let found = lookup(claims, name);
            if !scalars(found).any(|value| pattern.matches(&value)) {
                return Err(Refusal::Claim { name: name.clone(), found: shown(found) });
            }
        }
        Ok(until)
    }
}

fn check_times(claims: &Claims, now: Timestamp) -> Result<Timestamp, Refusal> {
    let refused = |what: &str, at: Timestamp| Refusal::Time(format!("the token {what} {at}"));
    let expires_at = date(claims, "exp")?
        .ok_or_else(|| Refusal::Time("the token never expires; take one that does".to_owned()))?;
    let until = expires_at.saturating_add(LEEWAY).unwrap_or(Timestamp::MAX);
    if now >= until {
        return Err(refused("expired at", expires_at));
    }
    if now.duration_until(until) > LONGEST {
        return Err(refused("is good for more than a day: until", expires_at));
    }
    let soon = now.saturating_add(LEEWAY).unwrap_or(Timestamp::MAX);
    for (name, what) in [("nbf", "is not good before"), ("iat", "was made in the future, at")] {
        if let Some(at) = date(claims, name)?.filter(|at| *at > soon) {
            return Err(refused(what, at));
        }
    }
    Ok(until)
}

/// A NumericDate (RFC 7519 section 2): seconds, perhaps with a fraction, which is cut off.
fn date(claims: &Claims, name: &str) -> Result<Option<Timestamp>, Refusal> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    let seconds = value.as_i64().or_else(|| value.as_f64().map(|seconds| seconds.floor() as i64));
    match seconds.map(Timestamp::from_second) {
        Some(Ok(at)) => Ok(Some(at)),
        _ => Err(Refusal::Malformed {
            what: "token",
            why: format!("its claim {name:?} is no time: {value}"),
        }),
    }
}

/// A claim by its name. A dot leads into an object, unless it is part of a name (`kubernetes.io`).
fn lookup<'a>(claims: &'a Claims, name: &str) -> Option<&'a Value> {
    claims.get(name).or_else(|| {
        name.match_indices('.')
            .find_map(|(dot, _)| lookup(claims.get(&name[..dot])?.as_object()?, &name[dot + 1..]))
    })
}

/// The texts that a claim is: of an array, those of its elements. An object is none.
fn scalars(value: Option<&Value>) -> impl Iterator<Item = Cow<'_, str>> {
    let elements = match value {
        Some(Value::Array(elements)) => elements.as_slice(),
        other => other.map_or(&[] as &[Value], std::slice::from_ref),
    };
    elements.iter().filter_map(|element| match element {
        Value::String(text) => Some(Cow::Borrowed(text.as_str())),
        Value::Bool(_) | Value::Number(_) => Some(Cow::Owned(element.to_string())),
        Value::Array(_) | Value::Null | Value::Object(_) => None,
    })
}

/// A value, as the record and the answer show it: not more of it than tells what it is.
pub(super) fn shown(value: Option<&Value>) -> String {
    let Some(value) = value else { return "not there".to_owned() };
    let text = value.to_string();
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// How far clocks may differ.
const LEEWAY: SignedDuration = SignedDuration::from_secs(60);

/// A token that is good for longer is a password: it is stolen once and used for ever.
const LONGEST: SignedDuration = SignedDuration::from_hours(24);

/// Characters of a value that are shown.
const SHOWN: usize = 256;
