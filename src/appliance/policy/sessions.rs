//! Who may have a session, who may approve it, and what it is then.

use std::collections::BTreeSet;

use api::SessionRequest;
use jiff::SignedDuration;
use pki::{
    names::{DnsName, SourceAddress, SpiffeId},
    ssh,
};
use serde::Deserialize;

use super::{
    Caller, Denial, DirectoryGrant, DirectoryRule, Role, Rules, Standing, Subject,
    decide::{decide_ttl, find_role, force_command, source_addresses},
    pattern::{DnsPattern, SpiffePattern},
    rules::{Grants, Validity},
};

/// `[role.session]`. Its length is the role's `default_ttl` and `max_ttl`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionRule {
    /// The roles whose certificates it gives; they are given in sessions only.
    pub certificates: BTreeSet<String>,
    /// The hosts that it may be for.
    #[serde(default)]
    pub targets: Vec<DnsPattern>,
    /// How many approvals it needs; none unless said.
    #[serde(default)]
    pub approvals: u8,
    /// Who may approve, deny and end it.
    #[serde(default)]
    pub approvers: Vec<SpiffePattern>,
    /// How long it waits for approvals.
    #[serde(default = "half_an_hour")]
    pub waiting: SignedDuration,
    /// Within which time its requester has to show again and again that it is still needed.
    #[serde(default)]
    pub heartbeat: Option<SignedDuration>,
    /// Whether each SSH certificate lets in once only.
    #[serde(default)]
    pub one_use: bool,
    /// From where its SSH certificates may be used; anywhere unless listed. Requests may narrow it.
    #[serde(default)]
    pub source_addresses: BTreeSet<SourceAddress>,
    /// The one command that its SSH certificates run. Without it, requests may name one.
    #[serde(default)]
    pub force_command: Option<String>,
    /// What it gives in the organisation's directory.
    #[serde(default)]
    pub directory: Option<DirectoryRule>,
}

/// A session that policy granted: open at once, or after its approvals.
#[derive(Clone, Debug)]
pub struct SessionGrant {
    /// Who asked for it.
    pub requester: SpiffeId,
    /// The session role.
    pub role: String,
    /// What it is for.
    pub reason: String,
    /// The hosts that it is for.
    pub targets: BTreeSet<DnsName>,
    /// Its length.
    pub length: SignedDuration,
    /// From where its SSH certificates may be used; empty for anywhere.
    pub source_addresses: BTreeSet<SourceAddress>,
    /// The one command of its SSH certificates.
    pub force_command: Option<String>,
    /// Whether each of its SSH certificates lets in once only.
    pub one_use: bool,
    /// How many approvals it needs.
    pub approvals: u8,
    /// How long it waits for them.
    pub waiting: SignedDuration,
    /// Within which time a heartbeat has to come.
    pub heartbeat: Option<SignedDuration>,
    /// What it gives in the organisation's directory.
    pub directory: Option<DirectoryGrant>,
}

/// Decides on a session; pure and total.
///
/// # Errors
///
/// The first reason for which it is refused.
pub fn decide_session(
    caller: &Caller,
    request: SessionRequest,
    rules: &Rules,
    standing: Standing<'_>,
) -> Result<SessionGrant, Denial> {
    let role = find_role(caller, &request.role, rules)?;
    standing.check_role(caller, &role.name)?;
    let (validity, rule) = session_rule(role)?;
    role.closes_at(standing.now)?;
    check_reason(&request.reason)?;
    check_targets(caller, &request.targets, role, rule)?;
    let subject = Subject {
        caller: caller.id.to_string(),
        role: role.name.clone(),
        targets: request.targets.iter().cloned().collect(),
        issued_at: standing.now,
        ..Subject::default()
    };
    Denial::unless_free(standing, &subject)?;
    let nameless = || Denial::NoPrincipals { role: role.name.clone(), caller: caller.id.clone() };
    let given = rule.directory.as_ref().map(|rule| rule.grant(caller).ok_or_else(nameless));
    Ok(SessionGrant {
        directory: given.transpose()?,
        requester: caller.id.clone(),
        length: standing.clip(decide_ttl(role, validity, request.ttl)?),
        source_addresses: source_addresses(request.source_addresses, role, &rule.source_addresses)?,
        force_command: force_command(request.force_command, role, rule.force_command.as_ref())?,
        role: request.role,
        reason: request.reason,
        targets: request.targets,
        one_use: request.one_use || rule.one_use,
        approvals: rule.approvals,
        waiting: rule.waiting,
        heartbeat: rule.heartbeat,
    })
}

/// Whether this caller may approve or deny a session of this role that the requester asked for;
/// returns the role.
///
/// # Errors
///
/// Nobody decides on a request of their own, and nobody who is no approver of the role.
pub fn decide_approval<'a>(
    caller: &Caller,
    role: &str,
    requester: &str,
    rules: &'a Rules,
    standing: Standing<'_>,
) -> Result<&'a Role, Denial> {
    let refused = || Denial::NotAnApprover { role: role.to_owned(), caller: caller.id.clone() };
    let rule = rules.role(role).ok_or_else(refused)?;
    if !is_approver(caller, rule) {
        return Err(refused());
    }
    let requester = requester.parse().map(Caller::new);
    if requester.is_ok_and(|requester| requester.principal() == caller.principal()) {
        return Err(Denial::OwnSession);
    }
    let subject =
        Subject { caller: caller.id.to_string(), issued_at: standing.now, ..Subject::default() };
    Denial::unless_free(standing, &subject)?;
    Ok(rule)
}

/// Whether this caller is an approver of a session role.
pub fn is_approver(caller: &Caller, role: &Role) -> bool {
    session_rule(role).is_ok_and(|(_, rule)| {
        rule.approvers.iter().any(|pattern| pattern.matches(caller.principal()))
    })
}

/// The certificate roles of a session role; none of any other.
pub fn certificate_roles(role: &Role) -> BTreeSet<String> {
    session_rule(role).map(|(_, rule)| rule.certificates.clone()).unwrap_or_default()
}

impl SessionRule {
    /// A rule that can never grant anything, or never needs what it names, is a mistake.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.certificates.is_empty() {
            return Err("`certificates` is empty, so that the session gives nothing".to_owned());
        }
        if self.approvals > 0 && self.approvers.is_empty() {
            return Err("approvals are needed and `approvers` is empty".to_owned());
        }
        if let Some(rule) = &self.directory {
            rule.check()?;
        }
        let minutes = SignedDuration::from_secs(5)..=SignedDuration::from_hours(24);
        if !(SignedDuration::from_secs(1)..=SignedDuration::from_hours(24 * 7))
            .contains(&self.waiting)
        {
            return Err("`waiting` is not between 1s and 168h".to_owned());
        }
        if self.heartbeat.is_some_and(|within| !minutes.contains(&within)) {
            return Err("`heartbeat` is not between 5s and 24h".to_owned());
        }
        Ok(())
    }
}

fn session_rule(role: &Role) -> Result<(Validity, &SessionRule), Denial> {
    match &role.grants {
        Grants::Session { validity, rule } => Ok((*validity, rule)),
        Grants::Certificate { .. } | Grants::Sign(_) => {
            Err(Denial::WrongOperation { role: role.name.clone(), operation: "session" })
        }
    }
}

/// Why somebody did something: 1 to 500 characters in one line.
///
/// # Errors
///
/// [`Denial::NoReason`].
pub fn check_reason(reason: &str) -> Result<(), Denial> {
    let fits = (1..=500).contains(&reason.chars().count());
    if fits && !reason.trim().is_empty() && !reason.chars().any(char::is_control) {
        return Ok(());
    }
    Err(Denial::NoReason)
}

fn check_targets(
    caller: &Caller,
    targets: &BTreeSet<DnsName>,
    role: &Role,
    rule: &SessionRule,
) -> Result<(), Denial> {
    if targets.len() > ssh::MOST_TARGETS {
        return Err(Denial::TooManyTargets);
    }
    if targets.is_empty() && !rule.targets.is_empty() {
        return Err(Denial::NoTargets { role: role.name.clone() });
    }
    let refused = |host: &&DnsName| !rule.targets.iter().any(|p| p.matches(host.as_str(), caller));
    match targets.iter().find(refused) {
        Some(host) => Err(Denial::TargetNotAllowed { role: role.name.clone(), host: host.clone() }),
        None => Ok(()),
    }
}

fn half_an_hour() -> SignedDuration {
    SignedDuration::from_mins(30)
}

#[cfg(test)]
mod tests;
