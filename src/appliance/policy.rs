//! Policy: who may have what now. Deny is the default.
//!
//! A *profile* (in `pki`) says what a certificate of a kind looks like; a *role* says who may have
//! one. [`decide()`] is pure and total: it uses the request up, so that only what was granted can be
//! issued.

mod account;
mod decide;
mod grant;
mod locks;
mod pattern;
mod request;
mod rules;
mod schedule;
mod sessions;
mod standing;

pub use account::{DirectoryGrant, DirectoryRule};
pub use decide::{Denial, SignGrant, decide, decide_sign, find_role};
pub use grant::{Grant, Template};
pub use locks::{Lock, Locks, Subject};
pub use pattern::SpiffePattern;
pub use request::{BadRequest, Certify, Request, SignDigest, SshUser, Wanted, X509Names};
pub use rules::{Account, CertificateRule, Grants, Role, Rules, RulesError, Validity};
pub use schedule::Schedule;
pub use sessions::{
    SessionGrant, SessionRule, certificate_roles, check_reason, decide_approval, decide_session,
    is_approver,
};
pub use standing::{OpenSession, Standing};

use pki::names::SpiffeId;

/// Who asks: the SPIFFE id of a client certificate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Caller {
    /// `spiffe://<trust domain>/{user,bot,host,service,operator}/…`.
    pub id: SpiffeId,
}

impl Caller {
    /// The last segment of the id's path: what `{name}` in a role stands for.
    pub fn name(&self) -> &str {
        self.id.path().rsplit('/').next().unwrap_or_default()
    }

    /// Whether it sees and does what belongs to others.
    pub fn is_operator(&self) -> bool {
        self.id.path().starts_with("/operator/")
    }
}
