use std::collections::BTreeSet;

use api::BotSpec;
use jiff::{SignedDuration, Timestamp};
use pki::names::{DnsName, SourceAddress};

use super::{BotDenial, Caller, Denial, Locks};
use crate::directory::Answer;

/// What a decision takes into account besides caller, request and rules: how things stand now.
#[derive(Clone, Copy, Debug)]
pub struct Standing<'a> {
    /// What the directory has under the name that a card is asked for, if it was asked.
    pub account: Option<&'a Answer>,
    /// The calling bot, if the caller is an instance of one that is registered.
    pub bot: Option<&'a BotSpec>,
    /// The locks.
    pub locks: &'a Locks,
    /// The session that the request names, if there is such a one.
    pub session: Option<&'a OpenSession>,
    /// When it is decided.
    pub now: Timestamp,
}

impl Standing<'_> {
    /// Refuses a bot a role that it was not given, whatever the rules say.
    pub(super) fn check_role(self, caller: &Caller, role: &str) -> Result<(), Denial> {
        if !caller.is_bot() {
            return Ok(());
        }
        let bot = self.bot.ok_or_else(|| BotDenial::no_such_bot(caller))?;
        if bot.roles.contains(role) {
            return Ok(());
        }
        Err(BotDenial::RoleNotGiven { bot: bot.name.clone(), role: role.to_owned() }.into())
    }

    /// What is left of a length of validity: a bot may have a limit of its own.
    pub(super) fn clip(self, ttl: SignedDuration) -> SignedDuration {
        let most = self.bot.and_then(|bot| bot.max_ttl);
        most.map_or(ttl, |most| ttl.min(SignedDuration::from_secs(most.into())))
    }
}

/// A session as far as certificates for it are concerned.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OpenSession {
    /// Its id.
    pub id: String,
    /// Its role.
    pub role: String,
    /// Who asked for it (SPIFFE id).
    pub requester: String,
    /// When it ends; `None` if it is not open.
    pub ends_at: Option<Timestamp>,
    /// The hosts that it is for.
    pub targets: BTreeSet<DnsName>,
    /// From where its SSH certificates may be used; empty for anywhere.
    pub source_addresses: BTreeSet<SourceAddress>,
    /// The one command of its SSH certificates.
    pub force_command: Option<String>,
    /// Whether each of its SSH certificates lets in once only.
    pub one_use: bool,
}
