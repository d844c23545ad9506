//! Policy: who may have what now. Deny is the default.

mod decide;
mod grant;
mod request;
mod rules;

pub use decide::{Denial, decide};
pub use grant::Grant;
pub use request::{BadRequest, Certify, Request, SignDigest};
pub use rules::{Role, Rules, RulesError};

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
}
