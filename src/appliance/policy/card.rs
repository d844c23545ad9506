//! Whose cards a role gives: the account behind a user principal name, and for whom others may ask.

use api::LogonSource;
use jiff::Timestamp;
use pki::names::Upn;
use serde::Deserialize;

use super::{
    Account, Caller, Certify, Denial, Grants, OpenSession, Role, Rules, SpiffePattern, Wanted,
    decide::find_role,
    pattern::UpnPattern,
    rules::{CertificateRule, SmartcardRule},
};
use crate::directory::{Answer, AnySid, EntryName, Found, FoundAccount};

/// Where a role takes accounts from.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum AccountSource {
    /// The organisation's directory, asked each time. What is also pinned must agree.
    Directory,
    /// `[[account]]` in the rules.
    #[default]
    Pinned,
}

/// `[role.smartcard_logon.on_behalf]`: for whom the role's callers may ask besides themselves. An
/// account in any of these will do.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OnBehalf {
    /// Organisational units, with all below them.
    #[serde(default)]
    pub units: Vec<EntryName>,
    /// Groups: by SID also the members of their groups, by name only those that they name.
    #[serde(default)]
    pub groups: Vec<Group>,
}

/// A group of the directory.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub enum Group {
    /// By its distinguished name.
    Name(EntryName),
    /// By its SID, which it keeps when it is renamed.
    Sid(AnySid),
}

impl TryFrom<String> for Group {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.starts_with("S-1-") {
            return text.parse().map(Self::Sid);
        }
        text.parse().map(Self::Name)
    }
}

impl OnBehalf {
    fn reaches(&self, account: &FoundAccount) -> bool {
        let is_member = |group: &Group| match group {
            Group::Name(name) => account.member_of.contains(name),
            Group::Sid(sid) => account.groups.contains(sid),
        };
        self.units.iter().any(|unit| account.name.is_below(unit))
            || self.groups.iter().any(is_member)
    }
}

/// For whom a card is asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Whose {
    /// The caller's own account: it is called as the caller is.
    Own,
    /// Somebody else's.
    Others,
}

impl SmartcardRule {
    /// For whom this would be asked, if the role gives cards of the name at all.
    fn whose(&self, upn: &Upn, is_own: impl Fn(&UpnPattern) -> bool) -> Option<Whose> {
        let others = |pattern: &UpnPattern| match pattern {
            UpnPattern::Any(domain) => upn.domain() == *domain,
            UpnPattern::Caller(_) => false,
            UpnPattern::Exact(exact) => exact == upn,
        };
        if self.upns.iter().any(is_own) {
            return Some(Whose::Own);
        }
        self.upns.iter().any(others).then_some(Whose::Others)
    }

    fn whose_of(&self, upn: &Upn, caller: &Caller) -> Option<Whose> {
        let is_own =
            |it: &UpnPattern| matches!(it, UpnPattern::Caller(_)) && it.matches(upn, caller);
        self.whose(upn, is_own)
    }

    pub(super) fn check(&self, callers: &[SpiffePattern]) -> Result<(), String> {
        let from_directory = self.accounts == AccountSource::Directory;
        if !from_directory && (self.on_behalf.is_some() || !self.protected_groups.is_empty()) {
            return Err("`on_behalf` and `protected_groups` are about what the directory says: \
                        set accounts = \"directory\""
                .to_owned());
        }
        let any = self.upns.iter().any(|pattern| matches!(pattern, UpnPattern::Any(_)));
        let Some(on_behalf) = &self.on_behalf else {
            return match from_directory && any {
                true => Err("`*@` would give everybody's cards: say whose in \
                             [role.smartcard_logon.on_behalf]"
                    .to_owned()),
                false => Ok(()),
            };
        };
        if on_behalf.units.is_empty() && on_behalf.groups.is_empty() {
            return Err("on_behalf: neither `units` nor `groups` is set".to_owned());
        }
        match callers.iter().find(|pattern| !pattern.is_of(&["operator", "user"])) {
            Some(_) => Err("on_behalf: only operators and users enrol for others, and `callers` \
                            has somebody else"
                .to_owned()),
            None => Ok(()),
        }
    }
}

/// The account that has to be looked up before it can be decided on a request; none if it is refused
/// without that, so that the directory is not asked for whomever.
pub fn account_to_look_up<'a>(
    caller: &Caller,
    request: &'a Certify,
    rules: &Rules,
) -> Option<&'a Upn> {
    let Wanted::Smartcard { upn, .. } = &request.wanted else { return None };
    let rule = smartcard_rule(find_role(caller, &request.role, rules).ok()?)?;
    let is_asked = rule.accounts == AccountSource::Directory;
    (is_asked && rule.whose_of(upn, caller).is_some()).then_some(upn)
}

/// Whether a caller may be told about an account: operators about all, others about those that a
/// role of theirs gives cards of.
pub fn may_ask_about(caller: &Caller, upn: &Upn, rules: &Rules) -> bool {
    let gives = |role: &Role| {
        role.has(caller)
            && smartcard_rule(role).is_some_and(|rule| rule.whose_of(upn, caller).is_some())
    };
    caller.is_operator() || rules.roles().any(gives)
}

/// A role that gives cards of an account, or does not.
#[derive(Clone, Debug)]
pub struct CardRole {
    /// The role.
    pub role: String,
    /// To whom: the account's owner, or callers of the role who ask for others.
    pub whose: Whose,
    /// Whether it gives them, as far as that is a matter of the account; the schedule, sessions and
    /// locks come on top.
    pub decided: Result<(), Denial>,
    /// Whether that is a matter of the directory.
    pub source: AccountSource,
}

/// The roles that are about cards of this account, by name.
pub fn card_roles(upn: &Upn, asked: Option<&Answer>, rules: &Rules) -> Vec<CardRole> {
    let mut roles = Vec::new();
    for role in rules.roles() {
        let Some(rule) = smartcard_rule(role) else { continue };
        let called_so =
            |it: &UpnPattern| matches!(it, UpnPattern::Caller(domain) if *domain == upn.domain());
        let own = rule.whose(upn, called_so).filter(|whose| *whose == Whose::Own);
        let others = rule.whose(upn, |_| false);
        for whose in own.into_iter().chain(others) {
            let decided = match account(upn, whose, role, rule, rules, asked) {
                Ok(Known { enabled: true, .. }) => Ok(()),
                Ok(Known { enabled: false, .. }) => {
                    Err(Denial::AccountDisabled { upn: upn.clone() })
                }
                Err(denial) => Err(denial),
            };
            let (role, source) = (role.name.clone(), rule.accounts);
            roles.push(CardRole { role, whose, decided, source });
        }
    }
    roles
}

/// An account of which a role gives cards.
pub(super) struct Known {
    pub(super) account: Account,
    /// Who says so.
    pub(super) source: LogonSource,
    /// Whether its owner may log on with it.
    enabled: bool,
}

/// The account that a card is for, and whether that is somebody else's.
pub(super) fn decide_account(
    caller: &Caller,
    upn: Upn,
    role: &Role,
    rule: &SmartcardRule,
    rules: &Rules,
    (found, session): (Option<&Answer>, Option<&OpenSession>),
) -> Result<(Known, Whose), Denial> {
    let Some(whose) = rule.whose_of(&upn, caller) else {
        return Err(Denial::UpnNotAllowed { role: role.name.clone(), upn });
    };
    let known = account(&upn, whose, role, rule, rules, found)?;
    // What a session enables, the hook has enabled or is about to.
    if !known.enabled && !session.is_some_and(|session| enables(session, caller, &upn, rules)) {
        return Err(Denial::AccountDisabled { upn });
    }
    Ok((known, whose))
}

/// The account of which the role gives cards.
fn account(
    upn: &Upn,
    whose: Whose,
    role: &Role,
    rule: &SmartcardRule,
    rules: &Rules,
    asked: Option<&Answer>,
) -> Result<Known, Denial> {
    let pinned = rules.account(upn);
    let unknown = || Denial::AccountUnknown { upn: upn.clone() };
    if rule.accounts == AccountSource::Pinned {
        let source = LogonSource::Rules {};
        let known = |account| Known { account, source, enabled: true };
        return pinned.cloned().map(known).ok_or_else(unknown);
    }
    let answer = asked.ok_or_else(unknown)?;
    let found = match &answer.found {
        Found::Account(found) => found,
        Found::Ambiguous => return Err(Denial::AccountAmbiguous { upn: upn.clone() }),
        Found::Unfit(why) => {
            return Err(Denial::AccountUnfit { upn: upn.clone(), why: why.clone() });
        }
        Found::Nobody => return Err(unknown()),
    };
    if pinned.is_some_and(|pinned| pinned.sid != found.sid) {
        return Err(Denial::AccountContradicted { upn: upn.clone() });
    }
    if let (Whose::Others, Some(on_behalf)) = (whose, &rule.on_behalf)
        && !on_behalf.reaches(found)
    {
        return Err(Denial::AccountOutOfReach { role: role.name.clone(), upn: upn.clone() });
    }
    let named = |group: &AnySid| rule.protected_groups.iter().any(|it| it.matches(group));
    if let Some(group) = found.protected_by.iter().find(|group| !named(group)) {
        return Err(Denial::AccountProtected { upn: upn.clone(), group: group.clone() });
    }
    let unfit = |why| Denial::AccountUnfit { upn: upn.clone(), why };
    let domain = found.name.domain().unwrap_or_else(|| found.upn.domain());
    let account = Account::new(found.upn.clone(), found.sid.clone(), &domain).map_err(unfit)?;
    // As exactly as the ledger has times.
    let asked_at = Timestamp::from_millisecond(answer.asked_at.as_millisecond());
    let asked_at = asked_at.unwrap_or(answer.asked_at);
    let source = LogonSource::Directory { entry: found.name.to_string(), asked_at };
    Ok(Known { account, source, enabled: found.enabled })
}

/// Whether an open session gives its requester this account enabled.
fn enables(session: &OpenSession, caller: &Caller, upn: &Upn, rules: &Rules) -> bool {
    let given = match rules.role(&session.role).map(|role| &role.grants) {
        Some(Grants::Session { rule, .. }) => rule.directory.as_ref(),
        _ => None,
    };
    let given = given.and_then(|rule| rule.grant(caller));
    given.is_some_and(|given| given.enable_account && given.upn == *upn)
}

fn smartcard_rule(role: &Role) -> Option<&SmartcardRule> {
    match &role.grants {
        Grants::Certificate { rule: CertificateRule::Smartcard(rule), .. } => Some(rule),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
