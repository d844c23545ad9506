//! Policy: who may have what now. Deny is the default.
//!
//! A *profile* (in `pki`) says what a certificate of a kind looks like; a *role* says who may have
//! one. [`decide()`] is pure and total: it uses the request up, so that only what was granted can be
//! issued.

mod account;
mod attestation;
mod bot;
mod card;
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
pub use attestation::{CardDenial, Demand};
pub use bot::{BotDenial, Instance, check_address};
pub use card::{
    AccountSource, CardRole, Group, OnBehalf, Whose, account_to_look_up, card_roles, may_ask_about,
};
pub use decide::{Denial, SignGrant, decide, decide_sign, find_role};
pub use grant::{CardHolder, Grant, Template};
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
    /// `spiffe://<trust domain>/{user,bot,host,service,operator}/…`: what it asks for is recorded
    /// under this id, and locks hit it.
    pub id: SpiffeId,
    /// The bot of which it is an instance.
    bot: Option<SpiffeId>,
}

impl Caller {
    /// The caller of this id.
    pub fn new(id: SpiffeId) -> Self {
        let bot = Instance::named(&id).and_then(|_| id.as_str().rsplit_once('/')?.0.parse().ok());
        Self { id, bot }
    }

    /// What rules call it: an instance of a bot is that bot.
    pub fn principal(&self) -> &SpiffeId {
        self.bot.as_ref().unwrap_or(&self.id)
    }

    /// The last segment of the principal's path: what `{name}` in a role stands for.
    pub fn name(&self) -> &str {
        self.principal().path().rsplit('/').next().unwrap_or_default()
    }

    /// Whether it is a bot, whose roles are not the rules' alone.
    pub fn is_bot(&self) -> bool {
        bot::is_bot(&self.id)
    }

    /// Whether it sees and does what belongs to others.
    pub fn is_operator(&self) -> bool {
        self.id.path().starts_with("/operator/")
    }
}
