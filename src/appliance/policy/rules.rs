use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fs, io,
    net::IpAddr,
    path::Path,
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp, civil::Date};
use pki::{
    handoff::Handoff,
    keys::{PublicKey, SignatureScheme},
    names::{DistinguishedName, Oid, Realm, Sid, SourceAddress, Upn},
    ssh::{Extension, Usage},
    x509::{
        attestation::{Anchors, Firmware, PinPolicy, Slot, TouchPolicy},
        profile::CertificateTemplate,
    },
};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::{config, directory::SidPattern};

use super::{
    AccountSource, Caller, Grant, OnBehalf,
    attestation::{self, Demand},
    decide::Denial,
    pattern::{DnsPattern, HostPattern, PrincipalPattern, SpiffePattern, UpnPattern},
    schedule::{RawSchedule, Schedule, holidays},
    sessions::{SessionRule, certificate_roles},
};

/// All roles and accounts: one consistent set.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    accounts: BTreeMap<String, Account>,
    digest: String,
    makers: Arc<Anchors>,
    own_keys: HashSet<String>,
    roles: BTreeMap<String, Role>,
    /// Certificate roles that some session role names.
    in_sessions: BTreeSet<String>,
}

/// A role: who may have what.
#[derive(Clone, Debug)]
pub struct Role {
    /// Its name.
    pub name: String,
    /// Who has it.
    pub callers: Vec<SpiffePattern>,
    /// What it grants.
    pub grants: Grants,
    /// When it may be used; at any time without one.
    pub schedule: Option<Schedule>,
}

/// What a role grants.
#[derive(Clone, Debug)]
pub enum Grants {
    /// Certificates.
    Certificate {
        /// The authority that signs them.
        issuer: String,
        /// How long they are valid.
        validity: Validity,
        /// Of which profile, for which names.
        rule: CertificateRule,
    },
    /// Sessions.
    Session {
        /// How long they are open.
        validity: Validity,
        /// For what, and who decides.
        rule: SessionRule,
    },
    /// Signatures over digests.
    Sign(SignRule),
}

/// How long certificates of a role are valid.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Validity {
    /// When the request does not say.
    pub default_ttl: SignedDuration,
    /// At most.
    pub max_ttl: SignedDuration,
}

/// A smart-card account: the SID is pinned in the rules or looked up, and never taken from a requester.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Account {
    /// The account's user principal name.
    pub upn: Upn,
    /// Its objectSid.
    pub sid: Sid,
    /// `CN=account,DC=corp,DC=example`: clients outside the domain find it by the DC parts.
    pub subject: DistinguishedName,
}

impl Account {
    /// An account of this DNS domain.
    pub(super) fn new(upn: Upn, sid: Sid, domain: &str) -> Result<Self, String> {
        let mut subject = common_name(upn.account());
        for label in domain.split('.') {
            subject.push_str(",DC=");
            subject.push_str(label);
        }
        let subject = subject.parse().map_err(|error| format!("account {upn}: {error}"))?;
        Ok(Self { upn, sid, subject })
    }
}

/// The profile of a role's certificates, and the names that they may have.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "each variant is its rule")]
pub enum CertificateRule {
    Kdc(KdcRule),
    Smartcard(SmartcardRule),
    SshHost(SshHostRule),
    SshUser(SshUserRule),
    TlsClient(TlsClientRule),
    TlsServer(TlsServerRule),
}

/// `[role.ssh_user]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SshUserRule {
    /// Login names; `{name}` is the caller's.
    pub principals: Vec<PrincipalPattern>,
    /// Extensions of every certificate; none unless listed.
    #[serde(default)]
    pub extensions: BTreeSet<Extension>,
    /// From where certificates may be used; anywhere unless listed. Requests may narrow it.
    #[serde(default)]
    pub source_addresses: BTreeSet<SourceAddress>,
    /// The one command that may run. Without it, requests may name one.
    #[serde(default)]
    pub force_command: Option<String>,
}

/// `[role.ssh_host]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SshHostRule {
    /// What hosts may be called.
    pub principals: Vec<HostPattern>,
}

/// `[role.tls_server]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsServerRule {
    /// DNS names.
    #[serde(default)]
    pub dns_names: Vec<DnsPattern>,
    /// Addresses.
    #[serde(default)]
    pub addresses: BTreeSet<IpAddr>,
    /// SPIFFE ids.
    #[serde(default)]
    pub spiffe_ids: Vec<SpiffePattern>,
    /// Whether names may also come from the CSR.
    #[serde(default)]
    pub names_from_csr: bool,
}

/// `[role.tls_client]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsClientRule {
    /// SPIFFE ids besides the caller's own.
    #[serde(default)]
    pub spiffe_ids: Vec<SpiffePattern>,
    /// DNS names, for peers that know no SPIFFE id.
    #[serde(default)]
    pub dns_names: Vec<DnsPattern>,
    /// The common name of the subject, for peers that know no alternative name, as PostgreSQL and
    /// MySQL; `{name}` is the caller's. Without it the subject is empty.
    #[serde(default)]
    pub common_name: Option<PrincipalPattern>,
}

/// `[role.smartcard_logon]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SmartcardRule {
    /// For which accounts; `{name}@domain` is the caller's own, `*@domain` any of the domain.
    pub upns: Vec<UpnPattern>,
    /// Where they come from; pinned in the rules unless set.
    #[serde(default)]
    pub accounts: AccountSource,
    /// Which accounts of others, if they come from the directory.
    #[serde(default)]
    pub on_behalf: Option<OnBehalf>,
    /// The protected groups whose members may be among them; none unless listed.
    #[serde(default)]
    pub protected_groups: Vec<SidPattern>,
    /// The certificate template extension, the same at each renewal.
    #[serde(default)]
    pub template: Option<CertificateTemplate>,
    /// Certificate policies.
    #[serde(default)]
    pub policies: Vec<Oid>,
    /// Whether cards must attest their keys.
    #[serde(default)]
    pub attestation: Demand,
    /// The slots that a key may be in.
    #[serde(default = "attestation::usual_slots")]
    pub slots: BTreeSet<Slot>,
    /// When cards ask for the PIN.
    #[serde(default = "attestation::usual_pin_policies")]
    pub pin_policies: BTreeSet<PinPolicy>,
    /// When cards must be touched.
    #[serde(default = "attestation::all_touch_policies")]
    pub touch_policies: BTreeSet<TouchPolicy>,
    /// The oldest firmware of cards.
    #[serde(default)]
    pub min_firmware: Option<Firmware>,
}

/// `[role.kdc]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KdcRule {
    /// Names of domain controllers and their domain.
    pub dns_names: Vec<DnsPattern>,
    /// Adds `krbtgt/REALM@REALM` for clients that are not Windows.
    #[serde(default)]
    pub realm: Option<Realm>,
}

/// `[role.sign]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignRule {
    /// Names of raw keys.
    pub keys: BTreeSet<String>,
    /// Signature schemes.
    pub schemes: BTreeSet<SignatureScheme>,
}

/// The rules cannot be used; the ones before stay.
#[derive(Debug, Error)]
pub enum RulesError {
    /// A file breaks the rules of rules.
    #[error("{path}: {what}")]
    Invalid {
        /// Which.
        path: String,
        /// What is wrong.
        what: String,
    },
    /// A role does not fit the authorities of the hand-off.
    #[error("role {role:?}: {what}")]
    Misfit {
        /// Which.
        role: String,
        /// What does not fit.
        what: String,
    },
    /// A file or the directory cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// Which.
        path: String,
        /// Why.
        source: io::Error,
    },
}

impl Rules {
    /// Reads every `*.toml` of a directory, strictly, and the holiday files that they name.
    ///
    /// # Errors
    ///
    /// Any file is unreadable or invalid, two roles or accounts have one name, or there is no
    /// file; then none counts.
    pub fn read(directory: &Path) -> Result<Self, RulesError> {
        let mut paths = toml_files(directory).map_err(|source| read_error(directory, source))?;
        paths.sort();
        let mut rules = Self::default();
        let mut hash = Sha256::new();
        let mut holidays = HolidayFiles { directory, read: BTreeMap::new() };
        for path in &paths {
            let text = fs::read_to_string(path).map_err(|source| read_error(path, source))?;
            let name = path.file_name().unwrap_or_default().as_encoded_bytes();
            hash.update(name);
            hash.update([0]);
            hash.update(Sha256::digest(&text));
            rules.add(&text, &mut holidays).map_err(|what| invalid(path, what))?;
        }
        for (name, (_, digest)) in &holidays.read {
            hash.update(name);
            hash.update([0]);
            hash.update(digest);
        }
        if paths.is_empty() {
            return Err(invalid(
                directory,
                "there is no *.toml file, so that nobody may do anything",
            ));
        }
        rules.check_sessions().map_err(|what| invalid(directory, what))?;
        rules.digest = hex::encode(hash.finalize());
        Ok(rules)
    }

    /// Binds the rules to a hand-off: each role's authority or key must exist, be online, and be
    /// of the role's kind; the hand-off's own keys are never certified for anyone.
    ///
    /// # Errors
    ///
    /// [`RulesError::Misfit`] for the first role that does not fit.
    pub fn bind(mut self, handoff: &Handoff) -> Result<Self, RulesError> {
        for role in self.roles.values() {
            role.check(handoff)
                .map_err(|what| RulesError::Misfit { role: role.name.clone(), what })?;
        }
        self.own_keys = handoff.keys().map(|(_, key)| key.public_key.fingerprint()).collect();
        Ok(self)
    }

    /// Trusts the cards of these makers.
    ///
    /// # Errors
    ///
    /// [`RulesError::Misfit`] for the first role whose cards must attest their keys when nobody is
    /// trusted.
    pub fn trust(self, makers: Arc<Anchors>) -> Result<Self, RulesError> {
        let demands = |role: &&Role| match &role.grants {
            Grants::Certificate { rule: CertificateRule::Smartcard(rule), .. } => {
                rule.attestation == Demand::Required
            }
            _ => false,
        };
        match self.roles.values().find(demands) {
            Some(role) if makers.is_empty() => Err(RulesError::Misfit {
                role: role.name.clone(),
                what: "its cards must attest their keys, and chanceryd.toml names no makers in \
                       [attestation]; without attestations, the role says attestation = \"optional\""
                    .to_owned(),
            }),
            _ => Ok(Self { makers, ..self }),
        }
    }

    /// The makers whose cards are trusted.
    pub fn makers(&self) -> &Arc<Anchors> {
        &self.makers
    }

    /// Whether this is a key of the token itself.
    pub fn is_own(&self, public_key: &PublicKey) -> bool {
        self.own_keys.contains(&public_key.fingerprint())
    }

    /// The role of this name.
    pub fn role(&self, name: &str) -> Option<&Role> {
        self.roles.get(name)
    }

    /// Whether there is a directory for what roles want of it.
    ///
    /// # Errors
    ///
    /// [`RulesError::Misfit`] if a role has `[role.session.directory]`, or accounts of the directory,
    /// and there is none.
    pub fn check_directory(&self, directory: Option<&config::Directory>) -> Result<(), RulesError> {
        if directory.is_some() {
            return Ok(());
        }
        let wants = |role: &Role| match &role.grants {
            Grants::Session { rule, .. } if rule.directory.is_some() => {
                Some("[role.session.directory]")
            }
            Grants::Certificate { rule: CertificateRule::Smartcard(rule), .. }
                if rule.accounts == AccountSource::Directory =>
            {
                Some("accounts = \"directory\"")
            }
            _ => None,
        };
        match self.roles.values().find_map(|role| Some((role, wants(role)?))) {
            Some((role, what)) => Err(RulesError::Misfit {
                role: role.name.clone(),
                what: format!("it has {what}, and chanceryd.toml no [directory]"),
            }),
            None => Ok(()),
        }
    }

    /// All roles, by name.
    pub fn roles(&self) -> impl Iterator<Item = &Role> {
        self.roles.values()
    }

    /// Whether certificates of this role are given in sessions only.
    pub fn is_given_in_sessions_only(&self, role: &str) -> bool {
        self.in_sessions.contains(role)
    }

    /// The account of this user principal name, whatever the case of its domain.
    pub fn account(&self, upn: &Upn) -> Option<&Account> {
        self.accounts.get(&account_key(upn))
    }

    /// SHA-256 over the files' names and contents, hexadecimal.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The roles that sessions give are there, and grant certificates.
    fn check_sessions(&mut self) -> Result<(), String> {
        for role in self.roles.values() {
            for given in certificate_roles(role) {
                match self.roles.get(&given).map(|role| &role.grants) {
                    Some(Grants::Certificate { .. }) => self.in_sessions.insert(given),
                    Some(_) => {
                        return Err(format!(
                            "role {:?}: {given:?} gives no certificates",
                            role.name
                        ));
                    }
                    None => return Err(format!("role {:?}: there is no {given:?}", role.name)),
                };
            }
        }
        Ok(())
    }

    fn add(&mut self, text: &str, holidays: &mut HolidayFiles<'_>) -> Result<(), String> {
        let file: RawFile = toml::from_str(text).map_err(|error| error.to_string())?;
        for raw in file.role {
            let role = raw.parse(holidays)?;
            let name = role.name.clone();
            if self.roles.insert(name.clone(), role).is_some() {
                return Err(format!("a second role is called {name:?}"));
            }
        }
        for account in file.account {
            let account = account.parse()?;
            let key = account_key(&account.upn);
            if self.accounts.insert(key.clone(), account).is_some() {
                return Err(format!("a second account is called {key}"));
            }
        }
        Ok(())
    }
}

impl Role {
    /// Whether the caller has this role.
    pub fn has(&self, caller: &Caller) -> bool {
        self.callers.iter().any(|pattern| pattern.matches(caller.principal()))
    }

    /// When its schedule closes it, and all that it granted with it; `None` if it has no schedule.
    ///
    /// # Errors
    ///
    /// It is closed now: [`Denial::OutsideSchedule`].
    pub fn closes_at(&self, now: Timestamp) -> Result<Option<Timestamp>, Denial> {
        let Some(schedule) = &self.schedule else { return Ok(None) };
        match schedule.open_until(now) {
            Some(end) => Ok(Some(end)),
            None => Err(Denial::OutsideSchedule {
                role: self.name.clone(),
                next_opening: schedule.next_opening(now).map(|next| schedule.local(next)),
            }),
        }
    }

    fn check(&self, handoff: &Handoff) -> Result<(), String> {
        match &self.grants {
            Grants::Certificate { issuer, rule, .. } => check_issuer(handoff, issuer, rule),
            Grants::Session { .. } => Ok(()),
            Grants::Sign(rule) => {
                match rule.keys.iter().find(|key| !handoff.raw.contains_key(*key)) {
                    Some(key) => Err(format!("the hand-off has no raw key {key:?}")),
                    None => Ok(()),
                }
            }
        }
    }
}

fn check_issuer(handoff: &Handoff, issuer: &str, rule: &CertificateRule) -> Result<(), String> {
    let usage = match rule {
        CertificateRule::SshHost(_) => Usage::Host,
        CertificateRule::SshUser(_) => Usage::User,
        _ => {
            return match handoff.x509.get(issuer) {
                Some(authority) if authority.online => Ok(()),
                Some(_) => Err(format!("X.509 authority {issuer:?} is not online")),
                None => Err(format!("the hand-off has no X.509 authority {issuer:?}")),
            };
        }
    };
    match handoff.ssh.get(issuer) {
        Some(authority) if authority.usage == usage => Ok(()),
        Some(_) => Err(format!("SSH authority {issuer:?} is for the other kind of certificates")),
        None => Err(format!("the hand-off has no SSH authority {issuer:?}")),
    }
}

/// The files of holidays that schedules name, by name: each is read once.
struct HolidayFiles<'a> {
    directory: &'a Path,
    /// The dates, and SHA-256 of the text.
    read: BTreeMap<String, (BTreeSet<Date>, [u8; 32])>,
}

impl HolidayFiles<'_> {
    fn schedule(&mut self, raw: RawSchedule) -> Result<Schedule, String> {
        let holidays = match &raw.holiday_file {
            Some(name) => self.holidays(name)?,
            None => BTreeSet::new(),
        };
        raw.parse(holidays).map_err(|error| error.to_string())
    }

    fn holidays(&mut self, name: &str) -> Result<BTreeSet<Date>, String> {
        if let Some((holidays, _)) = self.read.get(name) {
            return Ok(holidays.clone());
        }
        if name.is_empty() || name.contains('/') || name.starts_with('.') {
            return Err(format!("`holiday_file` is {name:?}; name a file beside the rules"));
        }
        let text = fs::read_to_string(self.directory.join(name))
            .map_err(|error| format!("{name}: cannot read it: {error}"))?;
        let dates = holidays(&text).map_err(|(line, error)| format!("{name}:{line}: {error}"))?;
        self.read.insert(name.to_owned(), (dates.clone(), Sha256::digest(&text).into()));
        Ok(dates)
    }
}

/// Accounts are told apart by account and domain; the domain's case says nothing.
fn account_key(upn: &Upn) -> String {
    format!("{}@{}", upn.account(), upn.domain())
}

fn toml_files(directory: &Path) -> io::Result<Vec<std::path::PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            paths.push(path);
        }
    }
    Ok(paths)
}

fn read_error(path: &Path, source: io::Error) -> RulesError {
    RulesError::Read { path: path.display().to_string(), source }
}

fn invalid(path: &Path, what: impl Into<String>) -> RulesError {
    RulesError::Invalid { path: path.display().to_string(), what: what.into() }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    #[serde(default)]
    role: Vec<RawRole>,
    #[serde(default)]
    account: Vec<RawAccount>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAccount {
    upn: Upn,
    sid: Sid,
}

impl RawAccount {
    fn parse(self) -> Result<Account, String> {
        let domain = self.upn.domain();
        Account::new(self.upn, self.sid, &domain)
    }
}

/// The text of a distinguished name (RFC 4514) that is nothing but a common name.
pub(super) fn common_name(value: &str) -> String {
    format!("CN={}", escape(value))
}

/// Escapes a value for RFC 4514 (section 2.4).
fn escape(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for c in value.chars() {
        if ",+\"\\<>;=#".contains(c) {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRole {
    name: String,
    callers: Vec<SpiffePattern>,
    issuer: Option<String>,
    max_ttl: Option<SignedDuration>,
    default_ttl: Option<SignedDuration>,
    schedule: Option<RawSchedule>,
    kdc: Option<KdcRule>,
    session: Option<SessionRule>,
    sign: Option<SignRule>,
    smartcard_logon: Option<SmartcardRule>,
    ssh_host: Option<SshHostRule>,
    ssh_user: Option<SshUserRule>,
    tls_client: Option<TlsClientRule>,
    tls_server: Option<TlsServerRule>,
}

impl RawRole {
    fn parse(mut self, holidays: &mut HolidayFiles<'_>) -> Result<Role, String> {
        let name = std::mem::take(&mut self.name);
        let callers = std::mem::take(&mut self.callers);
        let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
        if name.is_empty() || name.len() > 32 || !name.bytes().all(plain) {
            return Err(format!("role {name:?}: a role's name has 1 to 32 of a-z, 0-9 and -"));
        }
        if Grant::RESERVED_ROLES.contains(&name.as_str()) {
            return Err(format!("role {name:?}: the appliance calls a role of its own so"));
        }
        if callers.is_empty() {
            return Err(format!("role {name:?}: `callers` is empty, so that nobody has it"));
        }
        let schedule = self.schedule.take().map(|raw| holidays.schedule(raw)).transpose();
        let schedule = schedule.map_err(|what| format!("role {name:?}: schedule: {what}"))?;
        let grants = self.grants().map_err(|what| format!("role {name:?}: {what}"))?;
        if let Grants::Certificate { rule: CertificateRule::Smartcard(rule), .. } = &grants {
            rule.check(&callers).map_err(|what| format!("role {name:?}: {what}"))?;
        }
        Ok(Role { name, callers, grants, schedule })
    }

    fn grants(self) -> Result<Grants, String> {
        let rules: Vec<CertificateRule> = [
            self.kdc.map(CertificateRule::Kdc),
            self.smartcard_logon.map(CertificateRule::Smartcard),
            self.ssh_host.map(CertificateRule::SshHost),
            self.ssh_user.map(CertificateRule::SshUser),
            self.tls_client.map(CertificateRule::TlsClient),
            self.tls_server.map(CertificateRule::TlsServer),
        ]
        .into_iter()
        .flatten()
        .collect();
        match (<[CertificateRule; 1]>::try_from(rules), self.sign, self.session) {
            (Ok([rule]), None, None) => {
                let issuer = self.issuer.ok_or("`issuer` is missing")?;
                let validity = Validity::parse(self.max_ttl, self.default_ttl)?;
                rule.check()?;
                Ok(Grants::Certificate { issuer, validity, rule })
            }
            (Err(none), None, Some(rule)) if none.is_empty() => {
                if self.issuer.is_some() {
                    return Err("sessions have no issuer: the roles of their certificates have"
                        .to_owned());
                }
                let validity = Validity::parse(self.max_ttl, self.default_ttl)?;
                rule.check()?;
                Ok(Grants::Session { validity, rule })
            }
            (Err(none), Some(rule), None) if none.is_empty() => {
                if self.issuer.is_some() || self.max_ttl.is_some() || self.default_ttl.is_some() {
                    return Err("signatures have no issuer and no ttl".to_owned());
                }
                Ok(Grants::Sign(rule))
            }
            _ => Err("exactly one of [role.kdc], [role.session], [role.sign], \
                      [role.smartcard_logon], [role.ssh_host], [role.ssh_user], [role.tls_client] and [role.tls_server] \
                      is wanted"
                .to_owned()),
        }
    }
}

impl CertificateRule {
    /// A rule that can never grant anything is a mistake of its writer.
    fn check(&self) -> Result<(), String> {
        let empty = match self {
            Self::Kdc(rule) => rule.dns_names.is_empty(),
            Self::Smartcard(rule) => rule.upns.is_empty(),
            Self::SshHost(rule) => rule.principals.is_empty(),
            Self::SshUser(rule) => rule.principals.is_empty(),
            Self::TlsClient(_) => false,
            Self::TlsServer(rule) => {
                rule.dns_names.is_empty() && rule.addresses.is_empty() && rule.spiffe_ids.is_empty()
            }
        };
        match self {
            _ if empty => Err("it allows no name at all".to_owned()),
            Self::Smartcard(rule) => rule.check_cards(),
            _ => Ok(()),
        }
    }
}

impl Validity {
    /// The longest validity that any role may grant.
    const LIMIT: SignedDuration = SignedDuration::from_hours(24 * 397);

    fn parse(max: Option<SignedDuration>, default: Option<SignedDuration>) -> Result<Self, String> {
        let max_ttl = max.ok_or("`max_ttl` is missing; a longest validity is mandatory")?;
        let default_ttl = default.unwrap_or(max_ttl);
        if max_ttl > Self::LIMIT {
            return Err("`max_ttl` is more than 397 days".to_owned());
        }
        if default_ttl.as_secs() < 1 || default_ttl > max_ttl {
            return Err("`default_ttl` is not between 1s and `max_ttl`".to_owned());
        }
        Ok(Self { default_ttl, max_ttl })
    }
}
