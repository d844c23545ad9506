//! Bots: what they are called, and why they are refused.

use std::{borrow::Cow, net::IpAddr};

use api::{BotName, BotSpec, LockTarget};
use pki::names::{DnsName, NameError, SourceAddress, SpiffeId};
use thiserror::Error;

use super::{Caller, pattern::contains};

/// An instance of a bot: `spiffe://<trust domain>/bot/<name>/<instance>`.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Instance {
    /// The bot.
    pub bot: BotName,
    /// Which: 32 hexadecimal digits.
    pub id: String,
}

impl Instance {
    /// A new one.
    pub fn new(bot: BotName, random: [u8; 16]) -> Self {
        Self { bot, id: hex::encode(random) }
    }

    /// The instance that an id names, if it names one.
    pub fn named(id: &SpiffeId) -> Option<Self> {
        Self::at(id.path())
    }

    /// As [`named`](Self::named), of an id that was written down.
    pub fn recorded(id: &str) -> Option<Self> {
        let rest = id.strip_prefix("spiffe://")?;
        Self::at(&rest[rest.find('/')?..])
    }

    fn at(path: &str) -> Option<Self> {
        let (bot, id) = path.strip_prefix(BOTS)?.split_once('/')?;
        let hexadecimal = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let is_one = id.len() == 32 && id.bytes().all(hexadecimal);
        Some(Self { bot: bot.parse().ok().filter(|_| is_one)?, id: id.to_owned() })
    }

    /// Its SPIFFE id.
    ///
    /// # Errors
    ///
    /// There is none in this trust domain: it would be too long.
    pub fn spiffe_id(&self, trust_domain: &DnsName) -> Result<SpiffeId, NameError> {
        format!("spiffe://{trust_domain}{BOTS}{}/{}", self.bot, self.id).parse()
    }

    /// What locks this instance alone.
    pub fn lock_target(&self) -> LockTarget {
        LockTarget::BotInstance(self.bot.to_string(), self.id.clone())
    }
}

/// Whether an id is a bot's, or of an instance.
pub(super) fn is_bot(id: &SpiffeId) -> bool {
    id.path().starts_with(BOTS)
}

/// Whether an id is below that of a bot: the appliance gives such to instances, and no rule does.
pub(super) fn is_below_bot(id: &SpiffeId) -> bool {
    id.path().strip_prefix(BOTS).is_some_and(|rest| rest.contains('/'))
}

/// Refuses a bot that asks from where it may not.
///
/// # Errors
///
/// [`BotDenial::AddressNotAllowed`].
pub fn check_address(bot: &BotSpec, from: IpAddr) -> Result<(), BotDenial> {
    let from = from.to_canonical();
    let single = from.to_string().parse::<SourceAddress>().ok();
    let is_in = |outer: &SourceAddress| single.as_ref().is_some_and(|it| contains(outer, it));
    if bot.source_addresses.is_empty() || bot.source_addresses.iter().any(is_in) {
        return Ok(());
    }
    Err(BotDenial::AddressNotAllowed { bot: bot.name.clone(), address: from })
}

/// Why a bot is refused what another caller would get, or does not join or renew.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[expect(missing_docs, reason = "each variant's message says what it is and names its fields")]
pub enum BotDenial {
    #[error("bot {bot} may not ask from {address}")]
    AddressNotAllowed { bot: BotName, address: IpAddr },
    #[error("the client certificate of {caller} is revoked")]
    CertificateRevoked { caller: SpiffeId },
    #[error("bot {bot} was changed while it joined")]
    Changed { bot: BotName },
    #[error("{caller} is locked: {seen}")]
    Cloned { caller: SpiffeId, target: LockTarget, seen: String },
    #[error("this key was certified for {caller} before")]
    KeyUsed { caller: SpiffeId },
    #[error("bot {bot} has joined by its key as often as it may")]
    NoRecoveryLeft { bot: BotName },
    #[error("there is no bot {bot}")]
    NoSuchBot { bot: String },
    #[error("bot {bot} has no instance of which this certificate is")]
    NoSuchInstance { bot: BotName },
    #[error("there is no such join token for bot {bot}")]
    NoSuchToken { bot: BotName },
    #[error("bot {bot} proves who it is each time anew: its instances do not renew")]
    NotRenewable { bot: BotName },
    #[error("this token was used with another key, or for a certificate that is in use")]
    ProofUsed { bot: BotName },
    #[error("another instance has taken the place of {caller}")]
    Replaced { caller: SpiffeId },
    #[error("bot {bot} was not given the role {role:?}")]
    RoleNotGiven { bot: BotName, role: String },
    #[error("{caller} has a later certificate than this, which is in use")]
    Superseded { caller: SpiffeId },
    #[error("the join token of bot {bot} has expired")]
    TokenExpired { bot: BotName },
    #[error("the join token of bot {bot} was used")]
    TokenUsed { bot: BotName },
}

impl BotDenial {
    /// There is no bot of this caller's name.
    pub(super) fn no_such_bot(caller: &Caller) -> Self {
        Self::NoSuchBot { bot: caller.name().to_owned() }
    }

    /// The stable word for programs and the audit log.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::AddressNotAllowed { .. } => "bot-address-not-allowed",
            Self::CertificateRevoked { .. } => "certificate-revoked",
            Self::Changed { .. } => "bot-changed",
            // For the bot it is what it will hear from now on.
            Self::Cloned { .. } => "locked",
            Self::KeyUsed { .. } => "instance-key-used",
            Self::NoRecoveryLeft { .. } => "no-recovery-left",
            Self::NoSuchBot { .. } => "no-such-bot",
            Self::NoSuchInstance { .. } => "no-such-instance",
            Self::NoSuchToken { .. } => "no-such-join-token",
            Self::NotRenewable { .. } => "not-renewable",
            Self::ProofUsed { .. } => "join-proof-used",
            Self::Replaced { .. } => "replaced",
            Self::RoleNotGiven { .. } => "role-not-of-bot",
            Self::Superseded { .. } => "superseded",
            Self::TokenExpired { .. } => "join-token-expired",
            Self::TokenUsed { .. } => "join-token-used",
        }
    }

    /// What can be done about it.
    pub fn hint(&self) -> Cow<'static, str> {
        match self {
            Self::Cloned { target, .. } => locked_hint(target).into(),
            other => other.fixed_hint().into(),
        }
    }

    fn fixed_hint(&self) -> &'static str {
        match self {
            Self::AddressNotAllowed { .. } => {
                "ask from one of its source_addresses, or let an operator change them: \
                 chancery bot apply"
            }
            Self::CertificateRevoked { .. } | Self::Cloned { .. } | Self::NoSuchInstance { .. } => {
                "join anew; a bot that joins by token needs a new one: chancery bot token NAME"
            }
            Self::Changed { .. } => "join again",
            Self::KeyUsed { .. } => "make a new key pair for each certificate",
            Self::NoRecoveryLeft { .. } => {
                "an operator who knows why it lost its certificate gives it more: raise \
                 `recoveries` with chancery bot apply"
            }
            Self::NoSuchBot { .. } => "an operator adds bots: chancery bot add NAME --role ROLE",
            Self::NoSuchToken { .. } | Self::TokenExpired { .. } | Self::TokenUsed { .. } => {
                "ask an operator for a new one: chancery bot token NAME"
            }
            Self::NotRenewable { .. } => "join anew, with a new proof",
            Self::ProofUsed { .. } => "get a new token from its issuer, and join with that",
            Self::Replaced { .. } => {
                "use the instance that came after it, or join anew; more than one may live at the \
                 same time if an operator raises `max_instances`"
            }
            Self::RoleNotGiven { .. } => {
                "ask an operator to give it to the bot: chancery bot apply"
            }
            Self::Superseded { .. } => "use the newest certificate that was given",
        }
    }
}

/// What becomes of a locked instance.
pub(super) fn locked_hint(target: &LockTarget) -> String {
    let whom = target.to_string();
    let whom = whom.split_once(':').map_or(whom.as_str(), |(_, name)| name);
    format!(
        "an operator finds out why (chancery lock list) and removes the lock (chancery bot unlock \
         {whom} --reason …); then the bot joins anew: what it had stays revoked"
    )
}

const BOTS: &str = "/bot/";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_exactly_one_name_and_thirty_two_digits() {
        let digits = "0123456789abcdef".repeat(2);
        let id = |path: &str| format!("spiffe://example.test/{path}").parse::<SpiffeId>().unwrap();
        let found = Instance::named(&id(&format!("bot/ci/{digits}"))).unwrap();
        assert_eq!((found.bot.as_str(), &found.id), ("ci", &digits));
        let trust_domain = "example.test".parse().unwrap();
        let own = found.spiffe_id(&trust_domain).unwrap();
        assert_eq!(Instance::recorded(own.as_str()), Some(found));
        for other in [
            format!("bot/{digits}"),
            format!("user/ci/{digits}"),
            format!("bot/ci/{}", digits.to_uppercase()),
            format!("bot/ci/{}", &digits[1..]),
            format!("bot/ci/{digits}/x"),
            format!("bot/CI/{digits}"),
        ] {
            assert_eq!(Instance::named(&id(&other)), None, "{other}");
        }
    }

    #[test]
    fn every_denial_has_its_word_and_what_to_do() {
        let (bot, caller) =
            (|| "ci".parse().unwrap(), || "spiffe://example.test/bot/ci".parse().unwrap());
        let (address, role, seen) = ([192, 0, 2, 1].into(), "r".to_owned(), "two".to_owned());
        let target = "bot-instance:ci/7".parse().unwrap();
        for (denial, reason, hint) in [
            (
                BotDenial::AddressNotAllowed { bot: bot(), address },
                "bot-address-not-allowed",
                "from",
            ),
            (
                BotDenial::CertificateRevoked { caller: caller() },
                "certificate-revoked",
                "join anew",
            ),
            (BotDenial::Changed { bot: bot() }, "bot-changed", "join again"),
            (
                BotDenial::Cloned { caller: caller(), target, seen },
                "locked",
                "chancery bot unlock ci/7",
            ),
            (BotDenial::KeyUsed { caller: caller() }, "instance-key-used", "new key"),
            (BotDenial::NoRecoveryLeft { bot: bot() }, "no-recovery-left", "recoveries"),
            (BotDenial::NoSuchBot { bot: "x".to_owned() }, "no-such-bot", "chancery bot add"),
            (BotDenial::NoSuchInstance { bot: bot() }, "no-such-instance", "join anew"),
            (BotDenial::NoSuchToken { bot: bot() }, "no-such-join-token", "chancery bot token"),
            (BotDenial::NotRenewable { bot: bot() }, "not-renewable", "join anew"),
            (BotDenial::ProofUsed { bot: bot() }, "join-proof-used", "new token"),
            (BotDenial::Replaced { caller: caller() }, "replaced", "max_instances"),
            (BotDenial::RoleNotGiven { bot: bot(), role }, "role-not-of-bot", "chancery bot apply"),
            (BotDenial::Superseded { caller: caller() }, "superseded", "newest"),
            (BotDenial::TokenExpired { bot: bot() }, "join-token-expired", "chancery bot token"),
            (BotDenial::TokenUsed { bot: bot() }, "join-token-used", "chancery bot token"),
        ] {
            assert_eq!(denial.reason(), reason, "{denial}");
            assert!(denial.hint().contains(hint), "{denial}: {}", denial.hint());
        }
    }

    #[test]
    fn a_bot_asks_from_its_own_addresses_only() {
        let bot = |addresses: &str| -> BotSpec {
            serde_json::from_value(serde_json::json!({
                "name": "ci", "roles": [], "join": { "method": "token" },
                "source_addresses": addresses.split_whitespace().collect::<Vec<_>>(),
            }))
            .unwrap()
        };
        for (allowed, from, wanted) in [
            ("", "192.0.2.1", true),
            ("10.0.0.0/8 192.0.2.1", "192.0.2.1", true),
            ("10.0.0.0/8", "10.1.2.3", true),
            ("10.0.0.0/8", "::ffff:10.1.2.3", true),
            ("10.0.0.0/8", "192.0.2.1", false),
            ("2001:db8::/32", "2001:db8::7", true),
            ("2001:db8::/32", "10.0.0.1", false),
        ] {
            let checked = check_address(&bot(allowed), from.parse().unwrap());
            assert_eq!(checked.is_ok(), wanted, "{from} in {allowed:?}");
        }
    }
}
