//! Outputs: what a bot has for other programs, each with its own role, key and place.

pub(super) mod agent;
pub(super) mod database;
pub(super) mod kubernetes;
pub(super) mod spiffe;
pub(super) mod ssh;
pub(super) mod tls;

use std::path::Path;

use api::{Authorities, BotName};

use crate::Client;

/// What an output is made with: a new key each time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Making<'a> {
    /// Asks as the bot's instance.
    pub(super) client: &'a Client,
    /// The bot.
    pub(super) bot: &'a BotName,
    /// The role that grants it.
    pub(super) role: &'a str,
    /// Seconds of validity; `None` means as the role says.
    pub(super) ttl: Option<u32>,
    /// The authorities, as the appliance named them last.
    pub(super) authorities: &'a Authorities,
    /// Where the files of the bundle will be found, for those that name each other.
    pub(super) place: &'a Path,
}
