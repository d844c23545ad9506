use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A problem (RFC 9457): what happened, to what, and what to do.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct Problem {
    /// The kind of problem: stable.
    #[serde(rename = "type")]
    #[schema(value_type = String)]
    pub kind: ProblemKind,
    /// The kind in words; the same for all of a kind.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened to this request.
    pub detail: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The reason of a denial or the rule that a certificate would break: stable words for
    /// programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Seconds after which it is worth asking again; the same as the header `Retry-After`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u32>,
}

impl Problem {
    /// A problem of this kind.
    pub fn new(kind: ProblemKind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            title: kind.title().to_owned(),
            status: kind.status(),
            detail: detail.into(),
            hint: None,
            reason: None,
            retry_after: kind.retry_after(),
        }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Says when it is worth asking again: rounded up to whole seconds, at least one.
    #[must_use]
    pub fn with_retry_after(mut self, delay: Duration) -> Self {
        let seconds = delay.as_secs() + u64::from(delay.subsec_nanos() > 0);
        self.retry_after = Some(u32::try_from(seconds.max(1)).unwrap_or(u32::MAX));
        self
    }

    /// Adds the stable word for the reason.
    #[must_use]
    pub fn with_reason(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for Problem {}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $word:literal, $status:literal, $title:literal;)*) => {
        /// The kinds of problems. Their URIs never change their meaning.
        #[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
        pub enum ProblemKind {
            $($(#[$doc])* #[serde(rename = $word)] $name,)*
        }

        impl ProblemKind {
            /// Every kind.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The `type` URI.
            pub fn uri(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }

            /// The HTTP status.
            pub fn status(self) -> u16 {
                match self { $(Self::$name => $status,)* }
            }

            /// The kind in words.
            pub fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }
        }
    };
}

kinds! {
    /// The body or the query cannot be read: syntax, unknown or missing field, malformed name.
    BadRequest = "urn:chancery:problem:bad-request", 400, "The request cannot be read";
    /// The CSR or key cannot be read, is weak, or its possession is not proven.
    BadKey = "urn:chancery:problem:bad-key", 422, "The key is not accepted";
    /// Policy refuses.
    Denied = "urn:chancery:problem:denied", 403, "No rule allows this";
    /// The idempotency key was used with another request.
    IdempotencyConflict = "urn:chancery:problem:idempotency-conflict", 409,
        "The idempotency key belongs to another request";
    /// A fault of the appliance.
    Internal = "urn:chancery:problem:internal", 500, "The appliance failed";
    /// The certificate would break a rule of its profile.
    Lint = "urn:chancery:problem:lint", 422, "The certificate would break a rule";
    /// The method does not exist here.
    MethodNotAllowed = "urn:chancery:problem:method-not-allowed", 405, "No such method here";
    /// There is no such thing.
    NotFound = "urn:chancery:problem:not-found", 404, "There is no such thing";
    /// The body did not come in time.
    Timeout = "urn:chancery:problem:timeout", 408, "The request did not come in time";
    /// The body or the batch is too large.
    TooLarge = "urn:chancery:problem:too-large", 413, "The request is too large";
    /// This client asks more often than it may.
    TooManyRequests = "urn:chancery:problem:too-many-requests", 429, "This client asks too often";
    /// The token, the ledger or the queue cannot serve now.
    Unavailable = "urn:chancery:problem:unavailable", 503, "The appliance cannot sign now";
    /// Another media type than the endpoint takes.
    UnsupportedMediaType = "urn:chancery:problem:unsupported-media-type", 415,
        "The media type is not taken here";
}

impl ProblemKind {
    fn retry_after(self) -> Option<u32> {
        matches!(self, Self::TooManyRequests | Self::Unavailable).then_some(1)
    }
}
