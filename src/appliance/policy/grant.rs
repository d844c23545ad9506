use std::{collections::BTreeSet, net::IpAddr};

use api::LogonAccount;
use jiff::{SignedDuration, Timestamp};
use pki::{
    keys::PublicKey,
    names::{DistinguishedName, DnsName, Oid, Principal, Sid, SourceAddress, SpiffeId, Upn},
    serial::{SshSerial, X509Serial},
    ssh::{self, CriticalOptions, Extension, Restrictions},
    x509::{self, Profile, attestation::Attestation},
};

use super::{Caller, Denial, OpenSession, Role, Whose, decide::force_command, pattern::contains};

/// Certificates are valid from this long before they were issued: clocks of peers differ, and
/// Kerberos key distribution centres allow no difference at all. The length of validity that a
/// role limits counts from the issuance.
const BACK_DATING: SignedDuration = SignedDuration::from_mins(5);

/// What policy granted, and nothing else can be issued: its fields are read by nobody but
/// [`into_ssh`](Self::into_ssh) and [`into_x509`](Self::into_x509), which use it up.
#[derive(Clone, Debug)]
pub struct Grant {
    pub(super) role: String,
    pub(super) issuer: String,
    pub(super) public_key: PublicKey,
    pub(super) ttl: SignedDuration,
    /// It is not valid at this moment any more, whatever its ttl.
    pub(super) until: Option<Timestamp>,
    pub(super) template: Template,
    /// The session that it is for.
    pub(super) session: Option<OpenSession>,
    /// The account that is to log on with it, and whether it is somebody else's than the caller's.
    pub(super) account: Option<(LogonAccount, Whose)>,
    /// What the card has said, and was believed.
    pub(super) card: Option<Attestation>,
}

/// A card that has attested its key, and whose it is to be.
#[derive(Clone, Debug)]
pub struct CardHolder {
    /// What the card says.
    pub attestation: Attestation,
    /// The account that is to log on with it.
    pub upn: Upn,
    /// Its SID, by which it is known when it is renamed.
    pub sid: Sid,
}

/// A certificate without serial number and times.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the fields are those of pki's templates")]
pub enum Template {
    Ssh {
        key_id: String,
        principals: BTreeSet<Principal>,
        critical_options: CriticalOptions,
        extensions: BTreeSet<Extension>,
        restrictions: Restrictions,
    },
    X509 {
        subject: Option<DistinguishedName>,
        profile: Profile,
        policies: Vec<Oid>,
    },
}

impl Grant {
    /// The role of the appliance's own TLS certificate.
    pub const OWN_ROLE: &str = "appliance";

    /// The role of hosts' first certificates, which join tokens grant.
    pub const JOIN_ROLE: &str = "join";

    /// The role of the own certificates of bots' instances, which their proofs grant.
    pub const BOT_ROLE: &str = "bot";

    /// The role of operators' certificates, made on the machine itself.
    pub const OPERATOR_ROLE: &str = "operator";

    /// What no rule file may call a role: these are granted by no rule.
    pub const RESERVED_ROLES: [&str; 4] =
        [Self::BOT_ROLE, Self::OWN_ROLE, Self::JOIN_ROLE, Self::OPERATOR_ROLE];

    /// The appliance's own TLS certificate: no rule file can grant or refuse it.
    pub fn own_tls(
        issuer: &str,
        caller: &Caller,
        public_key: PublicKey,
        ttl: SignedDuration,
        dns_names: BTreeSet<DnsName>,
        addresses: BTreeSet<IpAddr>,
    ) -> Self {
        let spiffe_id = Some(caller.id.clone());
        Self {
            role: Self::OWN_ROLE.to_owned(),
            issuer: issuer.to_owned(),
            public_key,
            ttl,
            until: None,
            template: Template::X509 {
                subject: None,
                profile: Profile::TlsServer { dns_names, addresses, spiffe_id },
                policies: Vec::new(),
            },
            session: None,
            card: None,
            account: None,
        }
    }

    /// An operator's TLS client certificate, granted by whoever may run commands on the machine.
    pub fn operator(
        issuer: &str,
        operator: SpiffeId,
        public_key: PublicKey,
        ttl: SignedDuration,
    ) -> Self {
        Self {
            role: Self::OPERATOR_ROLE.to_owned(),
            issuer: issuer.to_owned(),
            public_key,
            ttl,
            until: None,
            template: Template::X509 {
                subject: None,
                profile: Profile::TlsClient { spiffe_id: operator, dns_names: BTreeSet::new() },
                policies: Vec::new(),
            },
            session: None,
            card: None,
            account: None,
        }
    }

    /// A host's first TLS client certificate, granted by the operator who made its join token.
    pub fn host(issuer: &str, host: SpiffeId, public_key: PublicKey, ttl: SignedDuration) -> Self {
        let role = Self::JOIN_ROLE.to_owned();
        Self { role, ..Self::operator(issuer, host, public_key, ttl) }
    }

    /// A TLS client certificate of a bot's instance, granted by a proof or by the one before it.
    pub fn bot(
        issuer: &str,
        instance: SpiffeId,
        public_key: PublicKey,
        ttl: SignedDuration,
    ) -> Self {
        let role = Self::BOT_ROLE.to_owned();
        Self { role, ..Self::operator(issuer, instance, public_key, ttl) }
    }

    /// The signer of an issuer's OCSP responses: no rule file can grant or refuse it.
    pub fn ocsp_signer(
        issuer: &str,
        subject: DistinguishedName,
        public_key: PublicKey,
        ttl: SignedDuration,
    ) -> Self {
        Self {
            role: Self::OWN_ROLE.to_owned(),
            issuer: issuer.to_owned(),
            public_key,
            ttl,
            until: None,
            template: Template::X509 {
                subject: Some(subject),
                profile: Profile::OcspSigner,
                policies: Vec::new(),
            },
            session: None,
            card: None,
            account: None,
        }
    }

    /// The role that granted it.
    pub fn role(&self) -> &str {
        &self.role
    }

    /// The authority that is to sign it.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The session that it is for.
    pub fn session(&self) -> Option<&OpenSession> {
        self.session.as_ref()
    }

    /// The card that the certificate is for, if it has attested its key.
    pub fn card(&self) -> Option<CardHolder> {
        match (&self.card, &self.template) {
            (
                Some(attestation),
                Template::X509 { profile: Profile::SmartcardLogon { upn, sid, .. }, .. },
            ) => Some(CardHolder {
                attestation: attestation.clone(),
                upn: upn.clone(),
                sid: sid.clone(),
            }),
            _ => None,
        }
    }

    /// The owner of the card, if somebody else asks for it.
    pub fn on_behalf_of(&self) -> Option<&Upn> {
        let account = self.account.as_ref().filter(|(_, whose)| *whose == Whose::Others);
        account.map(|(account, _)| &account.upn)
    }

    /// The account that is to log on with it.
    pub fn account(&self) -> Option<&LogonAccount> {
        self.account.as_ref().map(|(account, _)| account)
    }

    /// The SSH certificate that was granted.
    ///
    /// # Errors
    ///
    /// The grant, if it is for an X.509 certificate.
    pub fn into_ssh(self, serial: SshSerial, now: Timestamp) -> Result<ssh::Template, Box<Self>> {
        let (valid_after, last) = self.validity(now);
        match self.template {
            Template::Ssh { key_id, principals, critical_options, extensions, restrictions } => {
                Ok(ssh::Template {
                    serial,
                    public_key: self.public_key,
                    key_id,
                    principals,
                    valid_after,
                    valid_before: plus(last, SignedDuration::from_secs(1)),
                    critical_options,
                    extensions,
                    restrictions,
                })
            }
            Template::X509 { .. } => Err(Box::new(self)),
        }
    }

    /// The X.509 certificate that was granted. It never outlives its issuer.
    ///
    /// # Errors
    ///
    /// The grant, if it is for an SSH certificate.
    pub fn into_x509(
        self,
        serial: X509Serial,
        now: Timestamp,
        issuer_not_after: Timestamp,
    ) -> Result<x509::Template, Box<Self>> {
        let (not_before, last) = self.validity(now);
        match self.template {
            Template::X509 { subject, profile, policies } => Ok(x509::Template {
                serial,
                subject,
                public_key: self.public_key,
                not_before,
                not_after: last.min(issuer_not_after),
                profile,
                policies,
            }),
            Template::Ssh { .. } => Err(Box::new(self)),
        }
    }

    /// First and last second of validity: `ttl` whole seconds, this one included, and the
    /// back-dating before it.
    fn validity(&self, now: Timestamp) -> (Timestamp, Timestamp) {
        let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
        let second = SignedDuration::from_secs(1);
        let last = plus(now, self.ttl - second);
        (plus(now, -BACK_DATING), self.until.map_or(last, |until| last.min(plus(until, -second))))
    }
}

impl Template {
    /// What it is in a session: its SSH key id names the session, and it is as narrow as that.
    pub(super) fn within(self, session: &OpenSession, role: &Role) -> Result<Self, Denial> {
        match self {
            Self::Ssh { key_id, principals, critical_options, extensions, .. } => {
                let CriticalOptions { force_command: command, source_addresses: from } =
                    critical_options;
                Ok(Self::Ssh {
                    key_id: format!("{key_id}#{}", session.id),
                    principals,
                    critical_options: CriticalOptions {
                        force_command: force_command(
                            command,
                            role,
                            session.force_command.as_ref(),
                        )?,
                        source_addresses: narrowed(from, role, &session.source_addresses)?,
                    },
                    extensions,
                    restrictions: Restrictions {
                        one_use: session.one_use,
                        targets: session.targets.clone(),
                    },
                })
            }
            Self::X509 { .. } => Ok(self),
        }
    }
}

/// What is in both; an empty set is everywhere.
fn narrowed(
    role_allows: BTreeSet<SourceAddress>,
    role: &Role,
    session: &BTreeSet<SourceAddress>,
) -> Result<BTreeSet<SourceAddress>, Denial> {
    if role_allows.is_empty() || session.is_empty() {
        return Ok(if session.is_empty() { role_allows } else { session.clone() });
    }
    let narrower = |outer: &BTreeSet<SourceAddress>, inner: &BTreeSet<SourceAddress>| {
        let is_inside = |inner: &&SourceAddress| outer.iter().any(|outer| contains(outer, inner));
        inner.iter().filter(is_inside).cloned().collect::<BTreeSet<_>>()
    };
    let both = &narrower(&role_allows, session) | &narrower(session, &role_allows);
    match session.first() {
        Some(address) if both.is_empty() => Err(Denial::SourceAddressNotAllowed {
            role: role.name.clone(),
            address: address.clone(),
        }),
        _ => Ok(both),
    }
}

fn plus(time: Timestamp, step: SignedDuration) -> Timestamp {
    time.checked_add(step).unwrap_or(Timestamp::MAX)
}
