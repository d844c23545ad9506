use std::{collections::BTreeSet, net::IpAddr};

use jiff::{SignedDuration, Timestamp};
use pki::{
    keys::PublicKey,
    names::{DistinguishedName, DnsName, Oid, Principal, SpiffeId},
    serial::{SshSerial, X509Serial},
    ssh::{self, CriticalOptions, Extension},
    x509::{self, Profile},
};

use super::Caller;

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
    pub(super) template: Template,
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

    /// The role of operators' certificates, made on the machine itself.
    pub const OPERATOR_ROLE: &str = "operator";

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
            template: Template::X509 {
                subject: None,
                profile: Profile::TlsServer { dns_names, addresses, spiffe_id },
                policies: Vec::new(),
            },
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
            template: Template::X509 {
                subject: None,
                profile: Profile::TlsClient { spiffe_id: operator, dns_names: BTreeSet::new() },
                policies: Vec::new(),
            },
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

    /// The SSH certificate that was granted.
    ///
    /// # Errors
    ///
    /// The grant, if it is for an X.509 certificate.
    pub fn into_ssh(self, serial: SshSerial, now: Timestamp) -> Result<ssh::Template, Box<Self>> {
        let (valid_after, last) = self.validity(now);
        match self.template {
            Template::Ssh { key_id, principals, critical_options, extensions } => {
                Ok(ssh::Template {
                    serial,
                    public_key: self.public_key,
                    key_id,
                    principals,
                    valid_after,
                    valid_before: plus(last, SignedDuration::from_secs(1)),
                    critical_options,
                    extensions,
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
        (plus(now, -BACK_DATING), plus(now, self.ttl - SignedDuration::from_secs(1)))
    }
}

fn plus(time: Timestamp, step: SignedDuration) -> Timestamp {
    time.checked_add(step).unwrap_or(Timestamp::MAX)
}
