use std::{collections::BTreeSet, mem, net::IpAddr};

use pki::{
    keys::{KeyError, PublicKey, SignatureScheme},
    names::{DnsName, Principal, SourceAddress, SpiffeId, Upn},
    x509::{
        attestation::{AttestationError, Claim},
        csr::{Csr, CsrError, Wishes},
    },
};
use thiserror::Error;

/// A request, parsed: its key was checked, and its possession proven where that can be.
#[derive(Clone, Debug)]
pub enum Request {
    /// A certificate is asked for.
    Certify(Certify),
    /// A signature over a digest is asked for.
    Sign(SignDigest),
}

/// A certificate is asked for.
#[derive(Clone, Debug)]
pub struct Certify {
    /// The role that is to grant it.
    pub role: String,
    /// The key to be certified.
    pub public_key: PublicKey,
    /// The length of validity in seconds.
    pub ttl: Option<u32>,
    /// The session that it is for, by its id.
    pub session: Option<String>,
    /// Of what kind, with the names.
    pub wanted: Wanted,
}

/// What a certificate is wanted for.
#[derive(Clone, Debug)]
pub enum Wanted {
    /// A smart-card logon.
    Smartcard {
        /// The account.
        upn: Upn,
        /// What the card says of its key.
        claim: Option<Box<Claim>>,
        /// What the signing request asks for besides its key.
        wishes: Wishes,
    },
    /// An SSH host of these names.
    SshHost(BTreeSet<Principal>),
    /// An SSH user.
    SshUser(SshUser),
    /// TLS or a KDC, as the role says.
    X509(X509Names),
}

/// What an SSH user asks for.
#[derive(Clone, Debug, Default)]
pub struct SshUser {
    /// Login names; empty for all that the role gives.
    pub principals: BTreeSet<Principal>,
    /// Narrows from where.
    pub source_addresses: BTreeSet<SourceAddress>,
    /// Narrows to one command.
    pub force_command: Option<String>,
}

/// The names that an X.509 request asks for.
#[derive(Clone, Debug, Default)]
pub struct X509Names {
    /// In the request itself.
    pub dns_names: BTreeSet<DnsName>,
    /// In the request itself.
    pub addresses: BTreeSet<IpAddr>,
    /// In the request itself.
    pub spiffe_id: Option<SpiffeId>,
    /// In the CSR: they count if the role says so.
    pub csr_dns_names: BTreeSet<DnsName>,
    /// In the CSR: likewise.
    pub csr_addresses: BTreeSet<IpAddr>,
}

impl Wanted {
    /// What the card says of its key, and what the signing request asks for; taken out.
    pub(super) fn take_card(&mut self) -> (Option<Claim>, Wishes) {
        match self {
            Self::Smartcard { claim, wishes, .. } => {
                (claim.take().map(|claim| *claim), mem::take(wishes))
            }
            Self::SshHost(_) | Self::SshUser(_) | Self::X509(_) => (None, Wishes::default()),
        }
    }

    /// The operation's name on the wire.
    pub fn operation(&self) -> &'static str {
        match self {
            Self::Smartcard { .. } => "smartcard",
            Self::SshHost(_) => "ssh_host",
            Self::SshUser(_) => "ssh_user",
            Self::X509(_) => "x509",
        }
    }
}

/// A signature over a digest is asked for.
#[derive(Clone, Debug)]
pub struct SignDigest {
    /// The role that is to grant it.
    pub role: String,
    /// The raw key's name.
    pub key: String,
    /// With which scheme.
    pub scheme: SignatureScheme,
    /// The digest, as long as the scheme's hash.
    pub digest: Vec<u8>,
}

/// A request cannot be read, or its key is not accepted.
#[derive(Clone, Debug, Error)]
pub enum BadRequest {
    /// The card's attestation cannot be read.
    #[error(transparent)]
    Attestation(#[from] AttestationError),
    /// The CSR is refused.
    #[error(transparent)]
    Csr(#[from] CsrError),
    /// The digest is not one of the scheme.
    #[error("{0}")]
    Digest(String),
    /// The key is refused.
    #[error(transparent)]
    Key(#[from] KeyError),
}

impl TryFrom<api::Operation> for Request {
    type Error = BadRequest;

    fn try_from(operation: api::Operation) -> Result<Self, BadRequest> {
        Ok(match operation {
            api::Operation::Sign(request) => Self::Sign(request.try_into()?),
            api::Operation::Smartcard(request) => Self::Certify(request.try_into()?),
            api::Operation::SshHost(request) => Self::Certify(request.try_into()?),
            api::Operation::SshUser(request) => Self::Certify(request.try_into()?),
            api::Operation::X509(request) => Self::Certify(request.try_into()?),
        })
    }
}

impl TryFrom<api::SignRequest> for SignDigest {
    type Error = BadRequest;

    fn try_from(request: api::SignRequest) -> Result<Self, BadRequest> {
        let scheme = request.scheme;
        let wanted = scheme.digest_len().ok_or_else(|| {
            BadRequest::Digest(format!("{scheme} signs messages, not digests; use another key"))
        })?;
        let digest = hex::decode(&request.digest)
            .ok()
            .filter(|digest| digest.len() == wanted)
            .ok_or_else(|| {
                BadRequest::Digest(format!(
                    "a digest for {scheme} is {wanted} bytes, as {} hexadecimal digits",
                    2 * wanted
                ))
            })?;
        Ok(Self { role: request.role, key: request.key, scheme, digest })
    }
}

impl TryFrom<api::SmartcardRequest> for Certify {
    type Error = BadRequest;

    fn try_from(request: api::SmartcardRequest) -> Result<Self, BadRequest> {
        let read = |it: api::CardAttestation| Claim::from_pem(&it.statement, &it.intermediate);
        let claim = request.attestation.map(read).transpose()?.map(Box::new);
        let csr = Csr::from_pem(&request.csr)?;
        Ok(Self {
            role: request.role,
            public_key: csr.public_key,
            ttl: request.ttl,
            session: request.session,
            wanted: Wanted::Smartcard { upn: request.upn, claim, wishes: csr.wishes },
        })
    }
}

impl TryFrom<api::SshHostRequest> for Certify {
    type Error = BadRequest;

    fn try_from(request: api::SshHostRequest) -> Result<Self, BadRequest> {
        Ok(Self {
            role: request.role,
            public_key: offered_ssh_key(&request.public_key)?,
            ttl: request.ttl,
            session: request.session,
            wanted: Wanted::SshHost(request.principals),
        })
    }
}

impl TryFrom<api::SshUserRequest> for Certify {
    type Error = BadRequest;

    fn try_from(request: api::SshUserRequest) -> Result<Self, BadRequest> {
        Ok(Self {
            role: request.role,
            public_key: offered_ssh_key(&request.public_key)?,
            ttl: request.ttl,
            session: request.session,
            wanted: Wanted::SshUser(SshUser {
                principals: request.principals,
                source_addresses: request.source_addresses,
                force_command: request.force_command,
            }),
        })
    }
}

impl TryFrom<api::X509Request> for Certify {
    type Error = BadRequest;

    fn try_from(request: api::X509Request) -> Result<Self, BadRequest> {
        let csr = Csr::from_pem(&request.csr)?;
        Ok(Self {
            role: request.role,
            public_key: csr.public_key,
            ttl: request.ttl,
            session: request.session,
            wanted: Wanted::X509(X509Names {
                dns_names: request.dns_names,
                addresses: request.addresses,
                spiffe_id: request.spiffe_id,
                csr_dns_names: csr.dns_names,
                csr_addresses: csr.addresses,
            }),
        })
    }
}

fn offered_ssh_key(line: &str) -> Result<PublicKey, KeyError> {
    let key = PublicKey::from_openssh(line)?;
    key.check_offered()?;
    Ok(key)
}
