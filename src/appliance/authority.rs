//! The authority: the straight line from a request to a released certificate.

mod accounts;
pub mod bots;
mod cards;
mod flights;
mod locks;
mod sessions;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use aws_lc_rs::rand;
use jiff::SignedDuration;
use pki::{
    clock::Clock,
    handoff::Handoff,
    keys::{BadSignature, PublicKey},
    names::{DnsName, HttpUrl, NameError, SpiffeId},
    seal::{Prepared, Rejected, Sealed},
    serial::X509Serial,
    ssh,
    token::{IssuingKey, PublicationKey, RawKey},
    x509::{self, attestation::Anchors, csr::Csr, lint},
};
use thiserror::Error;

use flights::Flights;

use crate::{
    config::Config,
    directory::{Accounts, Directory, DirectoryError},
    ledger::{
        Begun, BegunRaw, Event, Idempotency, Ledger, LedgerError, NewIntent, RawDigest, Released,
        ReleasedSignature, bots::Lineage,
    },
    policy::{
        Caller, Certify, Denial, Grant, OpenSession, Rules, SignDigest, Standing,
        account_to_look_up, check_reason, decide, decide_sign,
    },
    publisher::Signers,
    signing::{Admission, Made, Priority, Signing, SigningError},
};

/// How long a request waits for the token before it is told to come again.
const SIGN_DEADLINE: Duration = Duration::from_secs(10);

/// After so many wrong signatures over one text, nothing is to be hoped of the token.
const WRONG_SIGNATURES: u8 = 5;

/// Validity of the appliance's own TLS certificate.
const OWN_TLS_TTL: SignedDuration = SignedDuration::from_hours(24);

/// Validity of a host's first certificate; then its roles count.
const HOST_TTL: SignedDuration = SignedDuration::from_hours(24);

/// Validity of an OCSP signer's certificate: it cannot be revoked (RFC 6960 section 4.2.2.2.1).
const OCSP_TTL: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Validity of an operator's certificate made on the machine itself.
const OPERATOR_TTL: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Issues what the rules grant.
pub struct Authority {
    /// The accounts of the organisation's directory, if there is one.
    accounts: Option<Accounts>,
    clock: Arc<dyn Clock>,
    flights: Flights,
    /// The SPIFFE id of the appliance itself: the caller of its own requests.
    own: Caller,
    own_issuer: String,
    handoff: Handoff,
    issuers: BTreeMap<String, Issuer>,
    ledger: Ledger,
    raw_keys: BTreeMap<String, RawKey>,
    rules: ArcSwap<Rules>,
    signing: Signing,
    trust_domain: DnsName,
}

/// An authority that signs here.
enum Issuer {
    Ssh(ssh::Issuer),
    X509 {
        issuer: x509::Issuer,
        /// What goes with its certificates: its own first, without the root. DER.
        chain: Vec<Vec<u8>>,
        /// Where its certificates say that its CRL is.
        crl_url: Option<HttpUrl>,
    },
}

/// Why nothing was issued.
#[derive(Debug, Error)]
pub enum IssueError {
    /// Policy refuses.
    #[error(transparent)]
    Denied(#[from] Denial),
    /// The organisation's directory cannot be asked.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The ledger cannot be written, or the idempotency key belongs to another request.
    #[error(transparent)]
    Ledger(LedgerError),
    /// The certificate would break a rule.
    #[error("the certificate would break a rule: {0}")]
    Lint(Refused),
    /// The role names an authority that cannot sign such a certificate.
    #[error("authority {issuer:?} does not sign certificates of this kind")]
    NoIssuer {
        /// Which.
        issuer: String,
    },
    /// There is no randomness for serial numbers.
    #[error("the system gave no random numbers")]
    Random,
    /// The token made a signature that does not verify.
    #[error("the token made a wrong signature")]
    Seal(#[from] BadSignature),
    /// The token does not sign now.
    #[error(transparent)]
    Signing(SigningError),
}

impl From<LedgerError> for IssueError {
    fn from(error: LedgerError) -> Self {
        match error {
            LedgerError::Denied(denial) => Self::Denied(denial),
            error => Self::Ledger(error),
        }
    }
}

impl From<SigningError> for IssueError {
    fn from(error: SigningError) -> Self {
        match error {
            SigningError::Recalled => Self::Denied(Denial::TakenBack),
            error => Self::Signing(error),
        }
    }
}

/// The rules that a to-be-signed text breaks.
#[derive(Clone, Debug, Error)]
#[expect(missing_docs, reason = "each variant is its format")]
pub enum Refused {
    #[error(transparent)]
    Ssh(#[from] ssh::Refused),
    #[error(transparent)]
    X509(#[from] lint::Findings),
}

impl Refused {
    /// The stable name of the first rule.
    pub fn rule(&self) -> &'static str {
        match self {
            Self::Ssh(refused) => refused.rule,
            Self::X509(findings) => findings.0.first().map_or("unknown", |finding| finding.rule),
        }
    }
}

/// The configuration names an authority that the hand-off does not have, or of another kind.
#[derive(Debug, Error)]
pub enum AuthorityError {
    /// An authority cannot be stood up.
    #[error("authority {name}: {what}")]
    Invalid {
        /// Which.
        name: String,
        /// What is wrong.
        what: String,
    },
}

impl Authority {
    /// Stands up the authorities of a hand-off.
    ///
    /// # Errors
    ///
    /// A certificate cannot be read or is for another key, or the configuration names an authority
    /// that there is not.
    pub fn new(
        config: &Config,
        handoff: Handoff,
        rules: Rules,
        ledger: Ledger,
        signing: Signing,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, AuthorityError> {
        let issuers = issuers(config, &handoff)?;
        if !matches!(issuers.get(&config.tls.issuer), Some(Issuer::X509 { .. })) {
            return Err(invalid(
                &config.tls.issuer,
                "tls.issuer is no X.509 authority that is online",
            ));
        }
        let raw_keys = handoff
            .raw
            .iter()
            .map(|(name, key)| match RawKey::new(key.clone()) {
                Ok(key) => Ok((name.clone(), key)),
                Err(wrong) => Err(invalid(name, wrong)),
            })
            .collect::<Result<_, _>>()?;
        let own = spiffe_id(&config.trust_domain, "service", "chanceryd")
            .map_err(|what| invalid(&config.tls.issuer, what))?;
        let accounts = |directory| Accounts::new(Directory::new(directory), clock.clone());
        Ok(Self {
            accounts: config.directory.clone().map(accounts),
            clock,
            flights: Flights::default(),
            own: Caller::new(own),
            own_issuer: config.tls.issuer.clone(),
            handoff,
            issuers,
            ledger,
            raw_keys,
            rules: ArcSwap::from_pointee(rules),
            signing,
            trust_domain: config.trust_domain.clone(),
        })
    }

    /// Issues one certificate.
    ///
    /// # Errors
    ///
    /// See [`IssueError`]; nothing left the appliance.
    pub async fn issue(
        &self,
        caller: &Caller,
        request: Certify,
        idempotency: Option<Idempotency>,
        priority: Priority,
    ) -> Result<Released, IssueError> {
        let (operation, role) = (request.wanted.operation(), request.role.clone());
        let outcome = self.try_issue(caller, request, idempotency, priority).await;
        self.audited(caller, operation, &role, outcome).await
    }

    async fn try_issue(
        &self,
        caller: &Caller,
        request: Certify,
        idempotency: Option<Idempotency>,
        priority: Priority,
    ) -> Result<Released, IssueError> {
        let session = match &request.session {
            Some(id) => self.ledger.standing_session(id).await?,
            None => None,
        };
        let bot = self.calling_bot(caller).await?;
        let rules = self.rules.load_full();
        let account = match account_to_look_up(caller, &request, &rules) {
            Some(upn) => Some(self.find_account(upn).await?),
            None => None,
        };
        let (locks, now) = (self.locks(), self.clock.now());
        let standing = Standing {
            account: account.as_ref(),
            bot: bot.as_ref(),
            locks: &locks,
            session: session.as_ref(),
            now,
        };
        let grant = decide(caller, request, &rules, standing)?;
        self.fulfil(caller, grant, (idempotency, None), priority).await
    }

    /// Signs one digest with a raw key.
    ///
    /// # Errors
    ///
    /// As [`issue`](Self::issue).
    pub async fn sign(
        &self,
        caller: &Caller,
        request: SignDigest,
        idempotency: Option<Idempotency>,
        priority: Priority,
    ) -> Result<ReleasedSignature, IssueError> {
        let role = request.role.clone();
        let outcome = self.try_sign(caller, request, idempotency, priority).await;
        self.audited(caller, "sign", &role, outcome).await
    }

    async fn try_sign(
        &self,
        caller: &Caller,
        request: SignDigest,
        idempotency: Option<Idempotency>,
        priority: Priority,
    ) -> Result<ReleasedSignature, IssueError> {
        let bot = self.calling_bot(caller).await?;
        let (locks, now) = (self.locks(), self.clock.now());
        let standing =
            Standing { account: None, bot: bot.as_ref(), locks: &locks, session: None, now };
        let request = decide_sign(caller, request, &self.rules.load(), standing)?.into_request();
        let no_key = || IssueError::NoIssuer { issuer: request.key.clone() };
        let key = self.raw_keys.get(&request.key).ok_or_else(no_key)?;
        let admission = self.admit(caller, priority).await?;
        let intent = self.new_intent(caller, &request.key, &request.role, None, idempotency);
        let subject = Arc::new(intent.subject(None));
        let _flight = self.flights.board(Arc::clone(&subject), admission.recall());
        let digest = RawDigest { scheme: request.scheme, digest: request.digest.clone() };
        let intent = match self.ledger.begin_raw(intent, subject, digest).await? {
            BegunRaw::New(intent) => intent,
            BegunRaw::Done(released) => return Ok(released),
        };
        let (scheme, digest) = (request.scheme, &request.digest);
        let mut tries = Tries::new(&admission);
        let signature = loop {
            let Made { signature, token } = admission.sign_digest(key, scheme, digest).await?;
            match key.key().public_key.verify_digest(scheme, digest, &signature) {
                Ok(()) => break signature,
                Err(wrong) => tries.again(token, wrong)?,
            }
        };
        drop(admission);
        Ok(intent.commit(signature, self.clock.now()).await?)
    }

    /// Certifies the appliance's own TLS key for 24 hours: a tls_server certificate of the
    /// configured issuer with the SPIFFE id `spiffe://<trust domain>/service/chanceryd`. No role
    /// grants it, the configuration does; it is recorded as every other.
    ///
    /// # Errors
    ///
    /// As [`issue`](Self::issue), without a denial.
    pub async fn own_tls_certificate(
        &self,
        public_key: PublicKey,
        dns_names: BTreeSet<DnsName>,
        addresses: BTreeSet<IpAddr>,
    ) -> Result<Released, IssueError> {
        let grant = Grant::own_tls(
            &self.own_issuer,
            &self.own,
            public_key,
            OWN_TLS_TTL,
            dns_names,
            addresses,
        );
        self.fulfil(&self.own, grant, (None, None), Priority::TakingBack).await
    }

    /// Certifies an operator for 7 days: a tls_client certificate of the configured issuer.
    /// Whoever may run this program on this machine with its token grants it; it is recorded as
    /// every other.
    ///
    /// # Errors
    ///
    /// As [`issue`](Self::issue), without a denial.
    pub async fn operator_certificate(
        &self,
        id: SpiffeId,
        csr: Csr,
    ) -> Result<Released, IssueError> {
        let grant = Grant::operator(&self.own_issuer, id, csr.public_key, OPERATOR_TTL);
        self.fulfil(&self.own, grant, (None, None), Priority::TakingBack).await
    }

    /// Certifies a host that has joined for 24 hours: a tls_client certificate of the configured
    /// issuer. Its join token grants it; it is recorded as every other.
    ///
    /// # Errors
    ///
    /// As [`issue`](Self::issue), without a denial by a role.
    pub async fn host_certificate(
        &self,
        id: SpiffeId,
        csr: Csr,
        idempotency: Idempotency,
    ) -> Result<Released, IssueError> {
        let grant = Grant::host(&self.own_issuer, id, csr.public_key, HOST_TTL);
        self.fulfil(&self.own, grant, (Some(idempotency), None), Priority::Person).await
    }

    /// Certifies the publication key as the signer of an issuer's OCSP responses, for 7 days. No role
    /// grants it; it is recorded as every other.
    ///
    /// # Errors
    ///
    /// As [`issue`](Self::issue), without a denial by a role.
    pub async fn ocsp_certificate(
        &self,
        issuer: &str,
        public_key: PublicKey,
    ) -> Result<Released, IssueError> {
        let no_issuer = |_| IssueError::NoIssuer { issuer: issuer.to_owned() };
        let subject = format!("CN={issuer} OCSP").parse().map_err(no_issuer)?;
        let grant = Grant::ocsp_signer(issuer, subject, public_key, OCSP_TTL);
        self.fulfil(&self.own, grant, (None, None), Priority::TakingBack).await
    }

    /// What lists of what was taken back are made for, and signed with.
    ///
    /// # Errors
    ///
    /// The publication key is of another purpose.
    pub fn signers(&self) -> Result<Signers, AuthorityError> {
        let publication = PublicationKey::new(self.handoff.publication.clone())
            .map_err(|wrong| invalid("publication", wrong))?;
        let (mut ssh, mut x509) = (Vec::new(), Vec::new());
        for (name, issuer) in &self.issuers {
            match issuer {
                Issuer::Ssh(ca) => ssh.push((name.clone(), ca.key().key().public_key.clone())),
                Issuer::X509 { issuer, .. } => x509.push((name.clone(), issuer.clone())),
            }
        }
        Ok(Signers { publication, ssh, x509 })
    }

    /// The CA certificates that go with a certificate of this authority: the issuer's first,
    /// without the root; empty for SSH. DER.
    pub fn chain(&self, issuer: &str) -> &[Vec<u8>] {
        match self.issuers.get(issuer) {
            Some(Issuer::X509 { chain, .. }) => &chain[..chain.len().saturating_sub(1)],
            Some(Issuer::Ssh(_)) | None => &[],
        }
    }

    /// The public half of a raw key.
    pub fn raw_public_key(&self, name: &str) -> Option<&PublicKey> {
        self.raw_keys.get(name).map(|key| &key.key().public_key)
    }

    /// The makers whose cards are trusted, as they were read at the start.
    pub fn makers(&self) -> Arc<Anchors> {
        Arc::clone(self.rules.load().makers())
    }

    /// Replaces the rules, which were bound to this authority's hand-off.
    pub fn set_rules(&self, rules: Rules) {
        self.rules.store(Arc::new(rules));
    }

    /// The authorities, as clients see them: X.509, SSH, raw keys; by name.
    pub fn authorities(&self) -> api::Authorities {
        let x509 = self.issuers.iter().filter_map(|(name, issuer)| match issuer {
            Issuer::X509 { chain, crl_url, .. } => Some(api::Authority::X509 {
                name: name.clone(),
                chain: chain.iter().map(|der| x509::to_pem(der)).collect(),
                crl_url: crl_url.as_ref().map(ToString::to_string),
            }),
            Issuer::Ssh(_) => None,
        });
        let ssh = self.issuers.iter().filter_map(|(name, issuer)| match issuer {
            Issuer::Ssh(ca) => {
                let (name, public_key) = (name.clone(), ca.key().key().public_key.to_openssh());
                Some(match ca.usage() {
                    ssh::Usage::Host => api::Authority::SshHost { name, public_key },
                    ssh::Usage::User => api::Authority::SshUser { name, public_key },
                })
            }
            Issuer::X509 { .. } => None,
        });
        let raw = self.raw_keys.iter().map(|(name, key)| api::Authority::Raw {
            name: name.clone(),
            public_key: key.key().public_key.to_pem(),
        });
        api::Authorities { authorities: x509.chain(ssh).chain(raw).collect() }
    }

    /// The hand-off that this authority signs by.
    pub fn handoff(&self) -> &Handoff {
        &self.handoff
    }

    /// The SPIFFE trust domain of callers.
    pub fn trust_domain(&self) -> &DnsName {
        &self.trust_domain
    }

    /// From a grant to a released certificate. What it is, that was perhaps asked for before, is the
    /// client's name for the operation, or a lineage.
    async fn fulfil(
        &self,
        caller: &Caller,
        grant: Grant,
        (idempotency, lineage): (Option<Idempotency>, Option<Lineage>),
        priority: Priority,
    ) -> Result<Released, IssueError> {
        let no_issuer = || IssueError::NoIssuer { issuer: grant.issuer().to_owned() };
        let issuer = self.issuers.get(grant.issuer()).ok_or_else(no_issuer)?;
        let admission = self.admit(caller, priority).await?;
        let session = grant.session().cloned();
        let intent = self.new_intent(caller, grant.issuer(), grant.role(), session, idempotency);
        let on_behalf_of = grant.on_behalf_of().map(ToString::to_string);
        let (card, account) = (grant.card(), grant.account().cloned());
        let intent = NewIntent { lineage, card, account, on_behalf_of, ..intent };
        let prepared = self.prepare(issuer, grant, &intent).await?;
        let subject = Arc::new(intent.subject(Some(prepared.summary())));
        let _flight = self.flights.board(Arc::clone(&subject), admission.recall());
        let (intent, prepared) = match self.ledger.begin(intent, subject, &prepared).await? {
            Begun::New(intent) => (intent, prepared),
            Begun::Unfinished(intent, bytes) => {
                (intent, issuer.resume(bytes).map_err(IssueError::Lint)?)
            }
            Begun::Done(released) => return Ok(released),
        };
        let sealed = sign_and_seal(&admission, prepared).await?;
        drop(admission);
        Ok(intent.commit(sealed, self.clock.now()).await?)
    }

    /// A place in the token's queue, before anything is written down.
    async fn admit(&self, caller: &Caller, priority: Priority) -> Result<Admission, SigningError> {
        self.signing.admit(caller.id.as_str(), priority, SIGN_DEADLINE).await
    }

    /// Builds and lints the to-be-signed bytes; what the lint refuses is audited.
    async fn prepare(
        &self,
        issuer: &Issuer,
        grant: Grant,
        intent: &NewIntent,
    ) -> Result<Prepared, IssueError> {
        let misfit = |grant: Box<Grant>| IssueError::NoIssuer { issuer: grant.issuer().to_owned() };
        let prepared = match issuer {
            Issuer::Ssh(ca) => {
                let serial = self.ledger.ssh_serial(grant.issuer()).await?;
                let template = grant.into_ssh(serial, intent.now).map_err(misfit)?;
                ca.prepare(template, random()?).map_err(Refused::Ssh)
            }
            Issuer::X509 { issuer, .. } => {
                let serial = X509Serial::from_random(random()?);
                let template =
                    grant.into_x509(serial, intent.now, issuer.not_after()).map_err(misfit)?;
                issuer.prepare(template).map_err(Refused::X509)
            }
        };
        match prepared {
            Ok(prepared) => Ok(prepared),
            Err(refused) => {
                let event = Event::LintRefused {
                    caller: intent.caller.clone(),
                    role: intent.role.clone(),
                    findings: refused.to_string(),
                };
                self.ledger.record(event).await?;
                Err(IssueError::Lint(refused))
            }
        }
    }

    fn new_intent(
        &self,
        caller: &Caller,
        issuer: &str,
        role: &str,
        session: Option<OpenSession>,
        idempotency: Option<Idempotency>,
    ) -> NewIntent {
        NewIntent {
            issuer: issuer.to_owned(),
            caller: caller.id.to_string(),
            role: role.to_owned(),
            session,
            idempotency,
            lineage: None,
            card: None,
            account: None,
            on_behalf_of: None,
            now: self.clock.now(),
        }
    }

    /// The outcome of an operation, after a denial was audited.
    async fn audited<T>(
        &self,
        caller: &Caller,
        operation: &str,
        on: &str,
        outcome: Result<T, IssueError>,
    ) -> Result<T, IssueError> {
        match outcome {
            Err(IssueError::Denied(denial)) => {
                Err(self.denied(caller, operation, on, denial).await)
            }
            outcome => outcome,
        }
    }

    /// Why somebody does something: in a line, and not too long.
    ///
    /// # Errors
    ///
    /// It is not, or the refusal cannot be written down.
    pub async fn reason(
        &self,
        caller: &Caller,
        operation: &str,
        on: &str,
        reason: String,
    ) -> Result<String, IssueError> {
        match check_reason(&reason) {
            Ok(()) => Ok(reason),
            Err(denial) => Err(self.denied(caller, operation, on, denial).await),
        }
    }

    /// Audits a denial. If it cannot be audited, that is the error.
    async fn denied(
        &self,
        caller: &Caller,
        operation: &str,
        role: &str,
        denial: Denial,
    ) -> IssueError {
        let event = Event::Denied {
            caller: caller.id.to_string(),
            operation: format!("{operation} {role}"),
            reason: denial.reason().to_owned(),
            detail: denial.to_string(),
        };
        match self.ledger.record(event).await {
            Ok(()) => IssueError::Denied(denial),
            Err(error) => IssueError::Ledger(error),
        }
    }
}

/// Has the text signed until the signature verifies.
pub(crate) async fn sign_and_seal<S>(
    admission: &Admission,
    mut prepared: Prepared<S>,
) -> Result<Sealed<S>, IssueError> {
    let mut tries = Tries::new(admission);
    loop {
        let (key, scheme) = (prepared.key(), prepared.scheme());
        let Made { signature, token } = admission.sign(key, scheme, prepared.bytes()).await?;
        match prepared.seal(signature) {
            Ok(sealed) => return Ok(sealed),
            Err(Rejected(unsealed)) => prepared = *unsealed,
        }
        tries.again(token, BadSignature)?;
    }
}

/// The wrong signatures over one text.
struct Tries<'a> {
    admission: &'a Admission,
    wrong: u8,
}

impl<'a> Tries<'a> {
    fn new(admission: &'a Admission) -> Self {
        Self { admission, wrong: 0 }
    }

    /// A token's signature did not verify. It goes nowhere: the token's worker is replaced, and the
    /// text may be signed again, but not for ever.
    fn again(&mut self, token: usize, wrong: BadSignature) -> Result<(), BadSignature> {
        self.admission.distrust(token);
        self.wrong += 1;
        if self.wrong == WRONG_SIGNATURES { Err(wrong) } else { Ok(()) }
    }
}

impl Issuer {
    fn resume(&self, bytes: Vec<u8>) -> Result<Prepared, Refused> {
        match self {
            Self::Ssh(ca) => ca.resume(bytes).map_err(Refused::Ssh),
            Self::X509 { issuer, .. } => issuer.resume(bytes).map_err(Refused::X509),
        }
    }
}

/// A SPIFFE id of the trust domain: `spiffe://<trust domain>/<kind>/<name>`.
///
/// # Errors
///
/// The name is no path segment of a SPIFFE id.
pub fn spiffe_id(trust_domain: &DnsName, kind: &str, name: &str) -> Result<SpiffeId, NameError> {
    format!("spiffe://{trust_domain}/{kind}/{name}").parse()
}

fn issuers(config: &Config, handoff: &Handoff) -> Result<BTreeMap<String, Issuer>, AuthorityError> {
    let mut issuers = BTreeMap::new();
    for (name, authority) in &handoff.ssh {
        let key = IssuingKey::new(authority.key.clone()).map_err(|wrong| invalid(name, wrong))?;
        issuers.insert(name.clone(), Issuer::Ssh(ssh::Issuer::new(key, authority.usage)));
    }
    for (name, authority) in handoff.x509.iter().filter(|(_, authority)| authority.online) {
        let key = IssuingKey::new(authority.key.clone()).map_err(|wrong| invalid(name, wrong))?;
        let chain =
            handoff.certificates(&config.handoff, name).map_err(|error| invalid(name, error))?;
        let certificate = chain.first().cloned().unwrap_or_default();
        let publication = config.publication.get(name).cloned().unwrap_or_default();
        let crl_url = publication.crl_url.clone();
        let issuer = x509::Issuer::new(certificate, key, publication)
            .map_err(|error| invalid(name, error))?;
        if issuers.insert(name.clone(), Issuer::X509 { issuer, chain, crl_url }).is_some() {
            return Err(invalid(name, "an SSH and an X.509 authority have the same name"));
        }
    }
    match config.publication.keys().find(|name| !issuers.contains_key(*name)) {
        Some(name) => Err(invalid(name, "[publication] names no X.509 authority that is online")),
        None => Ok(issuers),
    }
}

fn random<const N: usize>() -> Result<[u8; N], IssueError> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).map_err(|_| IssueError::Random)?;
    Ok(bytes)
}

fn invalid(name: &str, what: impl ToString) -> AuthorityError {
    AuthorityError::Invalid { name: name.to_owned(), what: what.to_string() }
}
