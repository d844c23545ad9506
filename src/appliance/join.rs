//! How a bot proves who it is when it joins: by a key that it holds, by a token of an OpenID Connect
//! issuer, by a certificate of another CA.
//!
//! Nothing here uses anything up and nothing can lock: whoever proves nothing has changed nothing. A
//! one-time secret is not looked at here, because the ledger alone knows it.

mod bound_key;
mod challenge;
mod claims;
mod discovery;
mod fetch;
mod jws;
mod oidc;
mod pattern;
mod x509;

use std::time::Duration;

use api::{BotJoinRequest, Challenge, JoinMethod, JoinProof, join_statement};
use aws_lc_rs::error::Unspecified;
use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use pki::keys::{PublicKey, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime, pem::PemObject};
use thiserror::Error;

use self::{
    bound_key::BoundKey, challenge::Challenges, discovery::Issuers, oidc::Trust, x509::Authorities,
};

/// Makes challenges and verifies proofs; one for the whole process.
pub struct Proofs {
    challenges: Challenges,
    issuers: Issuers,
}

/// It is the bot.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Proven {
    /// By what, in words, for the audit log.
    pub who: String,
    /// What may be shown once: the ledger keeps it and lets no other key join by it.
    pub once: Option<Once>,
}

/// A proof that is good for one key only.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Once {
    /// SHA-256 of what its issuer has signed: the same for each way to write the signature.
    pub hash: [u8; 32],
    /// From then on it is refused for its age, and need not be kept.
    pub until: Timestamp,
}

/// A method cannot be used as it stands.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("join.{field}: {what}")]
pub struct BadMethod {
    /// The field of the specification.
    pub field: &'static str,
    /// What is wrong with it, and what to write.
    pub what: String,
}

/// It is not proven to be the bot.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum Refusal {
    /// The token is signed in a way that is not taken.
    #[error("the token is signed with {found}; taken is one of {}", jws::algorithm_names())]
    Algorithm {
        /// How it is signed.
        found: String,
    },
    /// The token is for somebody else.
    #[error("the token is for another audience: {0}")]
    Audience(String),
    /// The certificate does not lead to an authority.
    #[error("the certificate does not lead to an authority that the bot is to have: {0}")]
    Certificate(String),
    /// The challenge is not one, or not any more.
    #[error("{0}")]
    Challenge(&'static str),
    /// The token does not say what it must.
    #[error("the claim {name:?} of the token is {found}, which is not what this bot's has to be")]
    Claim {
        /// The claim.
        name: String,
        /// What it is.
        found: String,
    },
    /// The certificate names somebody else.
    #[error("the certificate does not name this bot: it names {0}")]
    Identity(String),
    /// The token is of another issuer.
    #[error("the token is of another issuer: {0}")]
    Issuer(String),
    /// The issuer has no such key.
    #[error("the issuer has no key {0} that signs tokens")]
    Key(String),
    /// The proof cannot be read.
    #[error("the {what} of the proof cannot be read: {why}")]
    Malformed {
        /// Which part.
        what: &'static str,
        /// Why.
        why: String,
    },
    /// What was registered for the bot cannot be used.
    #[error("the bot cannot join as it is registered")]
    Method(#[from] BadMethod),
    /// The bot proves itself in another way.
    #[error("this bot joins in another way: by {0}")]
    OtherMethod(&'static str),
    /// Whoever asks does not have the key.
    #[error("the signature does not verify under {0}")]
    Signature(&'static str),
    /// The token is too old, too young, or good for too long.
    #[error("{0}")]
    Time(String),
    /// What the issuer's keys are is not known now. The log says why.
    #[error("the keys of {0} cannot be had now")]
    Unreachable(String),
}

/// Says whether a method can be used, when it is registered.
///
/// # Errors
///
/// See [`BadMethod`].
pub fn check(method: &JoinMethod) -> Result<(), BadMethod> {
    Method::parse(method).map(drop)
}

impl Proofs {
    /// Makes the key of the challenges. Those of another process are not good in this one.
    ///
    /// # Errors
    ///
    /// There is no randomness.
    pub fn new() -> Result<Self, Unspecified> {
        Ok(Self { challenges: Challenges::new()?, issuers: Issuers::default() })
    }

    /// A challenge for whoever asks. It costs no memory.
    ///
    /// # Errors
    ///
    /// There is no randomness.
    pub fn challenge(&self, now: Timestamp) -> Result<Challenge, Unspecified> {
        self.challenges.issue(now)
    }

    /// Verifies that a request is made by the bot which joins by this method. That the requester has
    /// the key of the CSR is for the caller to have verified. It may take seconds while the keys of
    /// an issuer are fetched.
    ///
    /// # Errors
    ///
    /// See [`Refusal`]. The secret of a token is always refused: ask the ledger.
    pub async fn verify(
        &self,
        method: &JoinMethod,
        request: &BotJoinRequest,
        now: Timestamp,
    ) -> Result<Proven, Refusal> {
        match (Method::parse(method)?, &request.proof) {
            (Method::BoundKey(key), JoinProof::BoundKey { challenge, signature, scheme }) => {
                let signed = Signed { request, challenge, signature, scheme: *scheme };
                self.challenges.verify(challenge, now)?;
                key.verify(&signed)
            }
            (Method::Oidc(trust), JoinProof::Oidc { token }) => {
                trust.verify(token, &self.issuers, now).await
            }
            (
                Method::X509(authorities),
                JoinProof::X509 { challenge, certificates, signature, scheme },
            ) => {
                let signed = Signed { request, challenge, signature, scheme: *scheme };
                self.challenges.verify(challenge, now)?;
                authorities.verify(certificates, &signed, now)
            }
            (method, _) => Err(Refusal::OtherMethod(method.name())),
        }
    }
}

impl Refusal {
    /// The reason, as one word for programs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Algorithm { .. } => "proof-algorithm",
            Self::Audience(_) => "proof-audience",
            Self::Certificate(_) => "proof-certificate",
            Self::Challenge(_) => "proof-challenge",
            Self::Claim { .. } => "proof-claim",
            Self::Identity(_) => "proof-identity",
            Self::Issuer(_) => "proof-issuer",
            Self::Key(_) => "proof-key",
            Self::Malformed { .. } => "proof-malformed",
            Self::Method(_) => "join-method-unusable",
            Self::OtherMethod(_) => "wrong-join-method",
            Self::Signature(_) => "proof-signature",
            Self::Time(_) => "proof-time",
            Self::Unreachable(_) => "issuer-unreachable",
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Challenge(_) => "ask for a challenge and join again within a minute",
            Self::Malformed { .. } | Self::Signature(_) => {
                "see that the bot uses its own key, and signs challenge and CSR as they are sent"
            }
            Self::Method(_) | Self::OtherMethod(_) => {
                "ask an operator how the bot is registered: chancery bot show NAME"
            }
            Self::Algorithm { .. }
            | Self::Audience(_)
            | Self::Certificate(_)
            | Self::Claim { .. }
            | Self::Identity(_)
            | Self::Issuer(_)
            | Self::Key(_) => {
                "compare what the bot shows with what it is registered with: chancery bot show NAME"
            }
            Self::Time(_) => "get a new token, and see that the clocks are right",
            Self::Unreachable(_) => "try again in a minute",
        }
    }
}

/// A method, read.
enum Method {
    BoundKey(BoundKey),
    Oidc(Trust),
    Token,
    X509(Authorities),
}

impl Method {
    fn parse(method: &JoinMethod) -> Result<Self, BadMethod> {
        Ok(match method {
            JoinMethod::BoundKey { public_key, .. } => Self::BoundKey(BoundKey::parse(public_key)?),
            JoinMethod::Oidc { issuer, audience, claims, jwks, ca } => {
                Self::Oidc(Trust::parse(issuer, audience, claims, jwks.as_ref(), ca.as_deref())?)
            }
            JoinMethod::Token {} => Self::Token,
            JoinMethod::X509 { authorities, identity } => {
                Self::X509(Authorities::parse(authorities, identity)?)
            }
        })
    }

    fn name(&self) -> &'static str {
        match self {
            Self::BoundKey(_) => "a bound key",
            Self::Oidc(_) => "a token of an OpenID Connect issuer",
            Self::Token => "a one-time token",
            Self::X509(_) => "a certificate of another CA",
        }
    }
}

/// A request with a signature over its statement.
struct Signed<'a> {
    request: &'a BotJoinRequest,
    challenge: &'a str,
    signature: &'a str,
    scheme: SignatureScheme,
}

impl Signed<'_> {
    /// Verifies that it was made with the private half of the key, which `whose` names.
    fn verify(&self, key: &PublicKey, whose: &'static str) -> Result<(), Refusal> {
        let malformed = |why: String| Refusal::Malformed { what: "signature", why };
        let value =
            STANDARD.decode(self.signature).map_err(|error| malformed(error.to_string()))?;
        if !self.scheme.fits(key.algorithm()) {
            let algorithm = key.algorithm();
            return Err(malformed(format!("{} is no scheme of a {algorithm} key", self.scheme)));
        }
        let statement = join_statement(&self.request.name, self.challenge, &self.request.csr);
        pki::x509::decode_signature(key.algorithm(), &value)
            .ok_or_else(|| malformed("it is not DER of an ECDSA signature".to_owned()))
            .and_then(|signature| {
                key.verify(self.scheme, &statement, &signature)
                    .map_err(|_| Refusal::Signature(whose))
            })
    }
}

/// As TLS and its certificates have the time.
fn unix_time(now: Timestamp) -> UnixTime {
    let seconds = u64::try_from(now.as_second()).unwrap_or(0);
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

/// The certificates in a PEM text: one at least, and not too many.
pub(crate) fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<Vec<_>, _>>();
    let certificates = read.map_err(|error| error.to_string())?;
    match certificates.len() {
        0 => Err("there is no PEM CERTIFICATE".to_owned()),
        1..=MOST_CERTIFICATES => Ok(certificates),
        many => Err(format!("there are {many} certificates; {MOST_CERTIFICATES} are allowed")),
    }
}

impl BadMethod {
    fn new(field: &'static str, what: impl Into<String>) -> Self {
        Self { field, what: what.into() }
    }
}

/// Certificates of a request, and of a specification.
const MOST_CERTIFICATES: usize = 16;

#[cfg(test)]
mod tests;
