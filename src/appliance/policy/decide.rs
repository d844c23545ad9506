use std::{borrow::Cow, collections::BTreeSet, net::IpAddr};

use api::{LockTarget, LogonAccount};
use jiff::{SignedDuration, Zoned};
use pki::{
    keys::SignatureScheme,
    names::{DistinguishedName, DnsName, Principal, SourceAddress, SpiffeId, Upn},
    ssh::{self, CriticalOptions, Restrictions},
    x509::Profile,
};
use thiserror::Error;

use super::{
    Account, BotDenial, Caller, CardDenial, Certify, Grant, OpenSession, Role, Rules, SignDigest,
    SshUser, Standing, Subject, Template, Validity, Wanted, Whose, X509Names, attestation, bot,
    card, certificate_roles,
    pattern::{self, DnsPattern, PrincipalPattern, SpiffePattern},
    rules::{
        self, CertificateRule, Grants, KdcRule, SmartcardRule, SshHostRule, SshUserRule,
        TlsClientRule, TlsServerRule,
    },
};
use crate::directory::AnySid;

/// Why policy refuses: the reason is data, audited and answered.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[expect(missing_docs, reason = "each variant's message says what it is and names its fields")]
pub enum Denial {
    #[error("more than one account of the directory is called {upn}")]
    AccountAmbiguous { upn: Upn },
    #[error("the rules pin another SID for {upn} than the directory has")]
    AccountContradicted { upn: Upn },
    #[error("the account {upn} is disabled")]
    AccountDisabled { upn: Upn },
    #[error("{caller} may not know about this account")]
    AccountNotShown { caller: SpiffeId },
    #[error("role {role:?} is not for {upn}: it is in none of the role's units and groups")]
    AccountOutOfReach { role: String, upn: Upn },
    #[error("{upn} is in the protected group {group}")]
    AccountProtected { upn: Upn, group: AnySid },
    #[error("the account {upn} can have no card: {why}")]
    AccountUnfit { upn: Upn, why: String },
    #[error("no account of the directory is called {upn}")]
    AccountUnknown { upn: Upn },
    #[error("role {role:?} does not allow the address {address}")]
    AddressNotAllowed { role: String, address: IpAddr },
    #[error(transparent)]
    Bot(#[from] BotDenial),
    #[error(transparent)]
    Card(#[from] CardDenial),
    #[error("role {role:?} is not given to {caller}")]
    CallerNotInRole { role: String, caller: SpiffeId },
    #[error("you have decided on session {session} before")]
    DecidedBefore { session: String },
    #[error("role {role:?} does not allow the DNS name {name}")]
    DnsNameNotAllowed { role: String, name: DnsName },
    #[error("role {role:?} allows one command only, and not the one asked for")]
    ForceCommandFixed { role: String },
    #[error("a lock cannot be about what is issued before a time in the future")]
    IssuedBeforeInFuture,
    #[error("the key asked for, {key:?}, is not one of role {role:?}")]
    KeyNotAllowed { role: String, key: String },
    #[error("{target} is locked")]
    Locked { target: LockTarget },
    #[error("no name was asked for")]
    NoNames,
    #[error("role {role:?} gives no login name to {caller}")]
    NoPrincipals { role: String, caller: SpiffeId },
    #[error("no reason was given, or one of more than 500 characters")]
    NoReason,
    #[error("there is no role {role:?}")]
    NoSuchRole { role: String },
    #[error("{caller} has no session {session:?}")]
    NoSuchSession { session: String, caller: SpiffeId },
    #[error("no host was named, and sessions of role {role:?} are for hosts")]
    NoTargets { role: String },
    #[error("{caller} is no approver of role {role:?}")]
    NotAnApprover { role: String, caller: SpiffeId },
    #[error("only operators may do this, and {caller} is none")]
    NotAnOperator { caller: SpiffeId },
    #[error("this is a key of the appliance's own token; it is certified for nobody")]
    OwnKey,
    #[error("nobody decides on a session of their own")]
    OwnSession,
    #[error("it is outside the schedule of role {role:?}")]
    OutsideSchedule { role: String, next_opening: Option<Zoned> },
    #[error("role {role:?} does not allow the principal {principal}")]
    PrincipalNotAllowed { role: String, principal: Principal },
    #[error("role {role:?} does not sign with {scheme}")]
    SchemeNotAllowed { role: String, scheme: SignatureScheme },
    #[error("session {session} does not give certificates of role {role:?}")]
    RoleNotInSession { role: String, session: String },
    #[error("role {role:?} does not allow logins from {address}")]
    SourceAddressNotAllowed { role: String, address: SourceAddress },
    #[error("session {session} gave a certificate for this key before")]
    SessionKeyUsed { session: String },
    #[error("role {role:?} is given in sessions only, and the request names none")]
    SessionNeeded { role: String },
    #[error("session {session} is not open")]
    SessionNotOpen { session: String },
    #[error("session {session} does not wait for a decision")]
    SessionNotWaiting { session: String },
    #[error("role {role:?} does not allow the SPIFFE id {id}")]
    SpiffeIdNotAllowed { role: String, id: SpiffeId },
    #[error("it was taken back before it was issued")]
    TakenBack,
    #[error("role {role:?} does not allow sessions on {host}")]
    TargetNotAllowed { role: String, host: DnsName },
    #[error("a session is for {} hosts at most", ssh::MOST_TARGETS)]
    TooManyTargets,
    #[error("role {role:?} grants at most {max:#}; {asked} seconds were asked for")]
    TtlTooLong { role: String, asked: u32, max: SignedDuration },
    #[error("a validity of 0 s was asked for")]
    TtlZero,
    #[error("role {role:?} does not allow cards for {upn}")]
    UpnNotAllowed { role: String, upn: Upn },
    #[error("role {role:?} is for another operation than {operation}")]
    WrongOperation { role: String, operation: &'static str },
}

impl Denial {
    /// The caller has no such session; what was named is cut, since it may be anything.
    pub fn no_such_session(caller: &Caller, named: &str) -> Self {
        let session = named.chars().take(64).collect();
        Self::NoSuchSession { session, caller: caller.id.clone() }
    }

    /// Refuses what a lock hits.
    pub(super) fn unless_free(standing: Standing<'_>, subject: &Subject) -> Result<(), Self> {
        match standing.locks.hit(subject, standing.now) {
            Some(lock) => Err(Self::Locked { target: lock.target.clone() }),
            None => Ok(()),
        }
    }

    /// The stable word for programs and the audit log.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::AccountAmbiguous { .. } => "account-ambiguous",
            Self::AccountContradicted { .. } => "account-contradicted",
            Self::AccountDisabled { .. } => "account-disabled",
            Self::AccountNotShown { .. } => "account-not-shown",
            Self::AccountOutOfReach { .. } => "account-out-of-reach",
            Self::AccountProtected { .. } => "account-protected",
            Self::AccountUnfit { .. } => "account-unfit",
            Self::AccountUnknown { .. } => "account-unknown",
            Self::AddressNotAllowed { .. } => "address-not-allowed",
            Self::Bot(denial) => denial.reason(),
            Self::Card(denial) => denial.reason(),
            Self::CallerNotInRole { .. } => "caller-not-in-role",
            Self::DecidedBefore { .. } => "decided-before",
            Self::DnsNameNotAllowed { .. } => "dns-name-not-allowed",
            Self::ForceCommandFixed { .. } => "force-command-fixed",
            Self::IssuedBeforeInFuture => "issued-before-in-future",
            Self::KeyNotAllowed { .. } => "key-not-allowed",
            Self::Locked { .. } => "locked",
            Self::NoNames => "no-names",
            Self::NoPrincipals { .. } => "no-principals",
            Self::NoReason => "no-reason",
            Self::NoSuchRole { .. } => "no-such-role",
            Self::NoSuchSession { .. } => "no-such-session",
            Self::NoTargets { .. } => "no-targets",
            Self::NotAnApprover { .. } => "not-an-approver",
            Self::NotAnOperator { .. } => "not-an-operator",
            Self::OwnKey => "own-key",
            Self::OwnSession => "own-session",
            Self::OutsideSchedule { .. } => "outside-schedule",
            Self::PrincipalNotAllowed { .. } => "principal-not-allowed",
            Self::RoleNotInSession { .. } => "role-not-in-session",
            Self::SchemeNotAllowed { .. } => "scheme-not-allowed",
            Self::SessionKeyUsed { .. } => "session-key-used",
            Self::SessionNeeded { .. } => "session-needed",
            Self::SessionNotOpen { .. } => "session-not-open",
            Self::SessionNotWaiting { .. } => "session-not-waiting",
            Self::SourceAddressNotAllowed { .. } => "source-address-not-allowed",
            Self::SpiffeIdNotAllowed { .. } => "spiffe-id-not-allowed",
            Self::TakenBack => "taken-back",
            Self::TargetNotAllowed { .. } => "target-not-allowed",
            Self::TooManyTargets => "too-many-targets",
            Self::TtlTooLong { .. } => "ttl-too-long",
            Self::TtlZero => "ttl-zero",
            Self::UpnNotAllowed { .. } => "upn-not-allowed",
            Self::WrongOperation { .. } => "wrong-operation",
        }
    }
}

impl Denial {
    /// What the one who asked can do about it.
    pub fn hint(&self) -> Cow<'static, str> {
        match self {
            Self::Bot(denial) => denial.hint(),
            Self::Card(denial) => denial.hint(),
            Self::Locked { target: target @ LockTarget::BotInstance(..) } => {
                bot::locked_hint(target).into()
            }
            Self::OutsideSchedule { next_opening: Some(next), .. } => {
                format!("it opens {} ({next})", next.strftime("on %A %-d %B %Y at %H:%M")).into()
            }
            other => other.fixed_hint().into(),
        }
    }

    fn fixed_hint(&self) -> &'static str {
        match self {
            Self::AccountAmbiguous { .. } => {
                "have the directory's administrators give each account a name of its own"
            }
            Self::AccountContradicted { .. } => {
                "an operator finds out which is right: chancery directory check"
            }
            Self::AccountDisabled { .. } => {
                "have it enabled, or ask for it in a session that enables it"
            }
            Self::AccountNotShown { .. } => {
                "operators are told about all accounts, others about those that a role of theirs \
                 gives cards of"
            }
            Self::AccountOutOfReach { .. } => {
                "ask whoever enrols for that unit, or an operator to widen the role"
            }
            Self::AccountProtected { .. } => {
                "an operator lists the group in protected_groups of a role, if that is to be"
            }
            Self::AccountUnfit { .. } => {
                "have the directory's administrators see to it: chancery directory check"
            }
            Self::AccountUnknown { .. } => {
                "an operator adds it where the role takes accounts from: to the appliance's rules, \
                 with its SID, or to the directory"
            }
            Self::Bot(_)
            | Self::Card(_)
            | Self::CallerNotInRole { .. }
            | Self::NoPrincipals { .. }
            | Self::NoSuchRole { .. } => "ask an operator which role is yours",
            Self::DecidedBefore { .. } | Self::SessionNotWaiting { .. } => {
                "see how it stands: chancery session show"
            }
            Self::TakenBack => "a lock or the end of the session came first; ask for a new session",
            Self::Locked { .. } => "ask an operator: nothing is signed until the lock is removed",
            Self::IssuedBeforeInFuture => "lock the target itself, and remove the lock then",
            Self::NoReason => "say what it is for, in one line",
            Self::NoSuchSession { .. } | Self::SessionNotOpen { .. } => {
                "ask for a session: chancery session request"
            }
            Self::TooManyTargets => "ask for a session for each part of them",
            Self::NoTargets { .. } => "name the hosts: --target HOST",
            Self::NotAnApprover { .. } | Self::OwnSession => {
                "ask one of the role's approvers, or an operator, to do it"
            }
            Self::NotAnOperator { .. } => "ask an operator to do it",
            Self::RoleNotInSession { .. } => "take a role of the session: chancery session show",
            Self::SessionKeyUsed { .. } => "make a new key pair for each certificate",
            Self::SessionNeeded { .. } => {
                "ask for a session first: chancery session request, then --session ID"
            }
            Self::NoNames => "say for which names the certificate is to be",
            Self::OutsideSchedule { .. } => {
                "it does not open within 400 days: ask an operator about the role's schedule"
            }
            Self::OwnKey => "make a key pair of your own",
            Self::TtlTooLong { .. } | Self::TtlZero => {
                "ask for another length of validity, or for none to get the role's own"
            }
            Self::WrongOperation { .. } => "take the request that the role is for, or another role",
            Self::AddressNotAllowed { .. }
            | Self::DnsNameNotAllowed { .. }
            | Self::ForceCommandFixed { .. }
            | Self::KeyNotAllowed { .. }
            | Self::PrincipalNotAllowed { .. }
            | Self::SchemeNotAllowed { .. }
            | Self::SourceAddressNotAllowed { .. }
            | Self::SpiffeIdNotAllowed { .. }
            | Self::TargetNotAllowed { .. }
            | Self::UpnNotAllowed { .. } => {
                "ask for what the role allows, or ask an operator to widen the role"
            }
        }
    }
}

/// A signature over a digest that was granted.
#[derive(Clone, Debug)]
pub struct SignGrant {
    request: SignDigest,
}

impl SignGrant {
    /// What was granted.
    pub fn into_request(self) -> SignDigest {
        self.request
    }
}

/// Decides on a certificate; pure and total.
///
/// # Errors
///
/// The first reason for which it is refused.
pub fn decide(
    caller: &Caller,
    request: Certify,
    rules: &Rules,
    standing: Standing<'_>,
) -> Result<Grant, Denial> {
    let role = find_role(caller, &request.role, rules)?;
    standing.check_role(caller, &role.name)?;
    let Grants::Certificate { issuer, validity, rule } = &role.grants else {
        return Err(wrong_operation(role, &request.wanted));
    };
    let closes_at = role.closes_at(standing.now)?;
    if rules.is_own(&request.public_key) {
        return Err(Denial::OwnKey);
    }
    let session = decide_in_session(caller, request.session.as_deref(), role, rules, standing)?;
    let subject = Subject {
        caller: caller.id.to_string(),
        role: role.name.clone(),
        issuer: issuer.clone(),
        key: request.public_key.fingerprint(),
        targets: session.iter().flat_map(|session| session.targets.iter().cloned()).collect(),
        issued_at: standing.now,
        ..Subject::default()
    };
    Denial::unless_free(standing, &subject)?;
    let mut wanted = request.wanted;
    let (claim, wishes) = wanted.take_card();
    let standing = Standing { session, ..standing };
    let (template, account) = decide_names(caller, wanted, role, rule, rules, standing)?;
    if let Template::X509 { profile: Profile::SmartcardLogon { upn, sid, .. }, .. } = &template {
        wishes.check_logon(upn, sid).map_err(CardDenial::Excess)?;
    }
    let card = match rule {
        CertificateRule::Smartcard(rule) => {
            let (key, makers) = (&request.public_key, rules.makers());
            attestation::decide_card(role, rule, claim, key, makers, standing.now)?
        }
        _ => None,
    };
    if let Some(card) = &card {
        let subject = Subject { card: Some(card.serial), ..subject };
        Denial::unless_free(standing, &subject)?;
    }
    Ok(Grant {
        ttl: standing.clip(decide_ttl(role, *validity, request.ttl)?),
        until: session.and_then(|session| session.ends_at).into_iter().chain(closes_at).min(),
        role: request.role,
        issuer: issuer.clone(),
        public_key: request.public_key,
        template: match session {
            Some(session) => template.within(session, role)?,
            None => template,
        },
        session: session.cloned(),
        card,
        account,
    })
}

/// The session that a certificate is for, if it is for one.
fn decide_in_session<'a>(
    caller: &Caller,
    named: Option<&str>,
    role: &Role,
    rules: &Rules,
    standing: Standing<'a>,
) -> Result<Option<&'a OpenSession>, Denial> {
    let Some(named) = named else {
        return match rules.is_given_in_sessions_only(&role.name) {
            true => Err(Denial::SessionNeeded { role: role.name.clone() }),
            false => Ok(None),
        };
    };
    let none = || Denial::no_such_session(caller, named);
    let own =
        |session: &&OpenSession| session.id == named && session.requester == caller.id.as_str();
    let session = standing.session.filter(own).ok_or_else(none)?;
    if session.ends_at.is_none_or(|end| end <= standing.now) {
        return Err(Denial::SessionNotOpen { session: session.id.clone() });
    }
    let gives = |of: &Role| certificate_roles(of).contains(&role.name);
    if !rules.role(&session.role).is_some_and(gives) {
        let (role, session) = (role.name.clone(), session.id.clone());
        return Err(Denial::RoleNotInSession { role, session });
    }
    Ok(Some(session))
}

/// Decides on a signature over a digest; pure and total.
///
/// # Errors
///
/// The first reason for which it is refused.
pub fn decide_sign(
    caller: &Caller,
    request: SignDigest,
    rules: &Rules,
    standing: Standing<'_>,
) -> Result<SignGrant, Denial> {
    let role = find_role(caller, &request.role, rules)?;
    standing.check_role(caller, &role.name)?;
    let Grants::Sign(rule) = &role.grants else {
        return Err(Denial::WrongOperation { role: role.name.clone(), operation: "sign" });
    };
    role.closes_at(standing.now)?;
    if !rule.keys.contains(&request.key) {
        return Err(Denial::KeyNotAllowed { role: request.role, key: request.key });
    }
    if !rule.schemes.contains(&request.scheme) {
        return Err(Denial::SchemeNotAllowed { role: request.role, scheme: request.scheme });
    }
    let subject = Subject {
        caller: caller.id.to_string(),
        role: role.name.clone(),
        issuer: request.key.clone(),
        issued_at: standing.now,
        ..Subject::default()
    };
    Denial::unless_free(standing, &subject)?;
    Ok(SignGrant { request })
}

/// The role of this name, if the caller has it.
///
/// # Errors
///
/// There is none, or the caller does not have it.
pub fn find_role<'a>(caller: &Caller, name: &str, rules: &'a Rules) -> Result<&'a Role, Denial> {
    let role = rules.role(name).ok_or_else(|| Denial::NoSuchRole { role: name.to_owned() })?;
    if !role.has(caller) {
        return Err(Denial::CallerNotInRole { role: name.to_owned(), caller: caller.id.clone() });
    }
    Ok(role)
}

pub(super) fn decide_ttl(
    role: &Role,
    validity: Validity,
    asked: Option<u32>,
) -> Result<SignedDuration, Denial> {
    let Some(asked) = asked else { return Ok(validity.default_ttl) };
    let ttl = SignedDuration::from_secs(i64::from(asked));
    if ttl.is_zero() {
        return Err(Denial::TtlZero);
    }
    if ttl > validity.max_ttl {
        return Err(Denial::TtlTooLong { role: role.name.clone(), asked, max: validity.max_ttl });
    }
    Ok(ttl)
}

fn decide_names(
    caller: &Caller,
    wanted: Wanted,
    role: &Role,
    rule: &CertificateRule,
    rules: &Rules,
    standing: Standing<'_>,
) -> Result<(Template, Option<(LogonAccount, Whose)>), Denial> {
    use CertificateRule as Rule;

    let template = match (wanted, rule) {
        (Wanted::Smartcard { upn, .. }, Rule::Smartcard(rule)) => {
            return smartcard(caller, upn, role, rule, rules, standing);
        }
        (Wanted::SshHost(names), Rule::SshHost(rule)) => ssh_host(caller, names, role, rule),
        (Wanted::SshUser(user), Rule::SshUser(rule)) => ssh_user(caller, user, role, rule),
        (Wanted::X509(names), Rule::Kdc(rule)) => kdc(caller, names, role, rule),
        (Wanted::X509(names), Rule::TlsClient(rule)) => tls_client(caller, names, role, rule),
        (Wanted::X509(names), Rule::TlsServer(rule)) => tls_server(caller, names, role, rule),
        (wanted, _) => Err(wrong_operation(role, &wanted)),
    };
    template.map(|template| (template, None))
}

fn ssh_user(
    caller: &Caller,
    user: SshUser,
    role: &Role,
    rule: &SshUserRule,
) -> Result<Template, Denial> {
    let allowed: BTreeSet<Principal> =
        rule.principals.iter().filter_map(|pattern| pattern.expand(caller)).collect();
    if let Some(principal) = user.principals.difference(&allowed).next() {
        return Err(Denial::PrincipalNotAllowed {
            role: role.name.clone(),
            principal: principal.clone(),
        });
    }
    let principals = if user.principals.is_empty() { allowed } else { user.principals };
    if principals.is_empty() {
        return Err(Denial::NoPrincipals { role: role.name.clone(), caller: caller.id.clone() });
    }
    Ok(Template::Ssh {
        key_id: key_id(caller, role),
        principals,
        critical_options: CriticalOptions {
            force_command: force_command(user.force_command, role, rule.force_command.as_ref())?,
            source_addresses: source_addresses(
                user.source_addresses,
                role,
                &rule.source_addresses,
            )?,
        },
        extensions: rule.extensions.clone(),
        restrictions: Restrictions::default(),
    })
}

pub(super) fn force_command(
    asked: Option<String>,
    role: &Role,
    fixed: Option<&String>,
) -> Result<Option<String>, Denial> {
    match (fixed, asked) {
        (Some(fixed), Some(asked)) if *fixed != asked => {
            Err(Denial::ForceCommandFixed { role: role.name.clone() })
        }
        (Some(fixed), _) => Ok(Some(fixed.clone())),
        (None, asked) => Ok(asked),
    }
}

pub(super) fn source_addresses(
    asked: BTreeSet<SourceAddress>,
    role: &Role,
    allowed: &BTreeSet<SourceAddress>,
) -> Result<BTreeSet<SourceAddress>, Denial> {
    if asked.is_empty() {
        return Ok(allowed.clone());
    }
    let outside = |address: &&SourceAddress| {
        !allowed.is_empty() && !allowed.iter().any(|outer| pattern::contains(outer, address))
    };
    match asked.iter().find(outside) {
        Some(address) => Err(Denial::SourceAddressNotAllowed {
            role: role.name.clone(),
            address: address.clone(),
        }),
        None => Ok(asked),
    }
}

fn ssh_host(
    caller: &Caller,
    principals: BTreeSet<Principal>,
    role: &Role,
    rule: &SshHostRule,
) -> Result<Template, Denial> {
    if principals.is_empty() {
        return Err(Denial::NoNames);
    }
    let refused = |name: &&Principal| !rule.principals.iter().any(|p| p.matches(name, caller));
    if let Some(principal) = principals.iter().find(refused) {
        return Err(Denial::PrincipalNotAllowed {
            role: role.name.clone(),
            principal: principal.clone(),
        });
    }
    Ok(Template::Ssh {
        key_id: key_id(caller, role),
        principals,
        critical_options: CriticalOptions::default(),
        extensions: BTreeSet::new(),
        restrictions: Restrictions::default(),
    })
}

fn smartcard(
    caller: &Caller,
    upn: Upn,
    role: &Role,
    rule: &SmartcardRule,
    rules: &Rules,
    standing: Standing<'_>,
) -> Result<(Template, Option<(LogonAccount, Whose)>), Denial> {
    let known = (standing.account, standing.session);
    let (known, whose) = card::decide_account(caller, upn, role, rule, rules, known)?;
    let Account { upn, sid, subject } = known.account;
    let account = LogonAccount { upn: upn.clone(), sid: sid.clone(), source: known.source };
    let template = Template::X509 {
        subject: Some(subject),
        profile: Profile::SmartcardLogon { upn, sid, template: rule.template.clone() },
        policies: rule.policies.clone(),
    };
    Ok((template, Some((account, whose))))
}

fn kdc(caller: &Caller, names: X509Names, role: &Role, rule: &KdcRule) -> Result<Template, Denial> {
    check_dns_names(&names.dns_names, &rule.dns_names, caller, role)?;
    check_addresses(&names.addresses, &BTreeSet::new(), role)?;
    check_spiffe_id(names.spiffe_id.as_ref(), &[], role)?;
    if names.dns_names.is_empty() {
        return Err(Denial::NoNames);
    }
    Ok(x509(Profile::Kdc { dns_names: names.dns_names, realm: rule.realm.clone() }))
}

fn tls_client(
    caller: &Caller,
    names: X509Names,
    role: &Role,
    rule: &TlsClientRule,
) -> Result<Template, Denial> {
    check_dns_names(&names.dns_names, &rule.dns_names, caller, role)?;
    check_addresses(&names.addresses, &BTreeSet::new(), role)?;
    let spiffe_id = names.spiffe_id.unwrap_or_else(|| caller.principal().clone());
    if spiffe_id != *caller.principal() {
        check_spiffe_id(Some(&spiffe_id), &rule.spiffe_ids, role)?;
    }
    let subject = rule.common_name.as_ref();
    let subject = subject.map(|pattern| common_name(caller, pattern, role)).transpose()?;
    let profile = Profile::TlsClient { spiffe_id, dns_names: names.dns_names };
    Ok(Template::X509 { subject, profile, policies: Vec::new() })
}

fn common_name(
    caller: &Caller,
    pattern: &PrincipalPattern,
    role: &Role,
) -> Result<DistinguishedName, Denial> {
    let name = pattern.expand(caller);
    // Parsed after expansion: a caller's name must not add another attribute.
    let subject = name.and_then(|name| rules::common_name(name.as_str()).parse().ok());
    subject
        .ok_or_else(|| Denial::NoPrincipals { role: role.name.clone(), caller: caller.id.clone() })
}

fn tls_server(
    caller: &Caller,
    names: X509Names,
    role: &Role,
    rule: &TlsServerRule,
) -> Result<Template, Denial> {
    let X509Names { mut dns_names, mut addresses, spiffe_id, csr_dns_names, csr_addresses } = names;
    if rule.names_from_csr {
        dns_names.extend(csr_dns_names);
        addresses.extend(csr_addresses);
    }
    check_dns_names(&dns_names, &rule.dns_names, caller, role)?;
    check_addresses(&addresses, &rule.addresses, role)?;
    check_spiffe_id(spiffe_id.as_ref(), &rule.spiffe_ids, role)?;
    if dns_names.is_empty() && addresses.is_empty() && spiffe_id.is_none() {
        return Err(Denial::NoNames);
    }
    Ok(x509(Profile::TlsServer { dns_names, addresses, spiffe_id }))
}

fn check_dns_names(
    names: &BTreeSet<DnsName>,
    allowed: &[DnsPattern],
    caller: &Caller,
    role: &Role,
) -> Result<(), Denial> {
    let refused = |name: &&DnsName| !allowed.iter().any(|p| p.matches(name.as_str(), caller));
    match names.iter().find(refused) {
        Some(name) => {
            Err(Denial::DnsNameNotAllowed { role: role.name.clone(), name: name.clone() })
        }
        None => Ok(()),
    }
}

fn check_addresses(
    addresses: &BTreeSet<IpAddr>,
    allowed: &BTreeSet<IpAddr>,
    role: &Role,
) -> Result<(), Denial> {
    match addresses.difference(allowed).next() {
        Some(&address) => Err(Denial::AddressNotAllowed { role: role.name.clone(), address }),
        None => Ok(()),
    }
}

fn check_spiffe_id(
    id: Option<&SpiffeId>,
    allowed: &[SpiffePattern],
    role: &Role,
) -> Result<(), Denial> {
    let allows = |id| allowed.iter().any(|pattern| pattern.matches(id)) && !bot::is_below_bot(id);
    match id {
        Some(id) if !allows(id) => {
            Err(Denial::SpiffeIdNotAllowed { role: role.name.clone(), id: id.clone() })
        }
        _ => Ok(()),
    }
}

/// What sshd logs: who, and by which role. A `#` cannot stand in a SPIFFE id.
fn key_id(caller: &Caller, role: &Role) -> String {
    format!("{}#{}", caller.id, role.name)
}

fn x509(profile: Profile) -> Template {
    Template::X509 { subject: None, profile, policies: Vec::new() }
}

fn wrong_operation(role: &Role, wanted: &Wanted) -> Denial {
    Denial::WrongOperation { role: role.name.clone(), operation: wanted.operation() }
}

#[cfg(test)]
mod tests;
