use std::time::Duration;

use api::{Problem, ProblemKind};
use aws_lc_rs::rand;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use pki::clock::Clock;
use sha2::{Digest, Sha256};

use super::problem;

/// What a host or a bot joins with, once. Only its hash is kept.
pub(super) struct JoinSecret {
    /// 43 characters of base64url.
    pub(super) secret: String,
    /// SHA-256 of the secret.
    pub(super) hash: [u8; 32],
    /// When it is good no more.
    pub(super) expires_at: Timestamp,
}

impl JoinSecret {
    /// A new one, for so many seconds or as long as is usual.
    pub(super) fn new(ttl: Option<u32>, clock: &dyn Clock) -> Result<Self, Problem> {
        let ttl = ttl.unwrap_or(TTL);
        if !(1..=TTL_MAX).contains(&ttl) {
            let detail = format!("ttl is 1 to {TTL_MAX} seconds");
            return Err(Problem::new(ProblemKind::BadRequest, detail));
        }
        let mut random = [0; 32];
        rand::fill(&mut random).map_err(|_| {
            tracing::error!("the system gave no random numbers");
            problem::internal()
        })?;
        let secret = URL_SAFE_NO_PAD.encode(random);
        let expires_at = clock.now() + Duration::from_secs(ttl.into());
        Ok(Self { hash: Self::hash(&secret), secret, expires_at })
    }

    /// By what a secret is known.
    pub(super) fn hash(secret: &str) -> [u8; 32] {
        Sha256::digest(secret.as_bytes()).into()
    }
}

/// How long it is good, unless it is said.
const TTL: u32 = 30 * 60;

/// The longest that it may be.
const TTL_MAX: u32 = 7 * 24 * 60 * 60;
