//! What can go wrong between a caller and the appliance, and what to do about it.

use std::{
    error::Error as StdError,
    fmt, io,
    path::{Path, PathBuf},
};

use api::Problem;
use jiff::Timestamp;
use rustls::{AlertDescription, CertificateError};
use thiserror::Error;

use crate::identity::IdentityError;

/// An operation did not succeed.
#[derive(Debug, Error)]
pub enum Error {
    /// The server answered something that is not Chancery's.
    #[error("cannot understand the answer of {server}: {what}")]
    Answer {
        /// The server's URL.
        server: String,
        /// What was wrong with it.
        what: String,
    },
    /// There is no connection.
    #[error("cannot reach {server}: {what}")]
    Connect {
        /// The server's URL.
        server: String,
        /// What the operating system said.
        what: String,
    },
    /// The request has no JSON form.
    #[error("cannot encode the request")]
    Encode(#[source] serde_json::Error),
    /// The caller's certificate, key or CA file cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The connection broke before the answer was complete.
    #[error("the connection to {server} broke before the answer was complete")]
    Interrupted {
        /// The server's URL.
        server: String,
    },
    /// The appliance refuses, or cannot serve; kept as it came.
    #[error("{0}")]
    Problem(Box<Problem>),
    /// The operating system gives no random bytes.
    #[error("the operating system gives no random bytes")]
    Random,
    /// The server did not answer in time.
    #[error("{server} did not answer in time")]
    Timeout {
        /// The server's URL.
        server: String,
    },
    /// The two sides do not accept each other.
    #[error("no TLS connection to {server}: {fault}")]
    Tls {
        /// The server's URL.
        server: String,
        /// Who refused whom, and why.
        fault: TlsFault,
    },
}

/// Why the two sides of a TLS connection did not accept each other.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum TlsFault {
    /// The caller's certificate is over.
    #[error("the client certificate {} expired at {not_after}", certificate.display())]
    ClientExpired {
        /// The file.
        certificate: PathBuf,
        /// Its last second.
        not_after: Timestamp,
    },
    /// The server refuses the caller's certificate.
    #[error("the server refused the client certificate {} ({alert})", certificate.display())]
    ClientRefused {
        /// The file.
        certificate: PathBuf,
        /// The name of the TLS alert.
        alert: String,
    },
    /// The server does not know the CA of the caller's certificate.
    #[error("the server does not accept the CA of the client certificate {}", certificate.display())]
    ClientUnknownCa {
        /// The file.
        certificate: PathBuf,
    },
    /// Anything else.
    #[error("{0}")]
    Other(String),
    /// The server's certificate is over, or not valid yet.
    #[error("the server's certificate is not valid at this time")]
    ServerExpired,
    /// The server's certificate is for other names.
    #[error("the server's certificate is for other names than the one in the URL")]
    ServerName,
    /// The server's certificate does not lead to the caller's CA file.
    #[error("the server's certificate is not from a CA in {}", ca.display())]
    ServerUnknownCa {
        /// The file.
        ca: PathBuf,
    },
}

impl Error {
    /// What to do about it, if there is something.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Answer { .. } => Some("check that --server is the API of chanceryd".to_owned()),
            Self::Connect { .. } => Some(
                "check that chanceryd runs, and that --server names its API listener (`listen.api`)"
                    .to_owned(),
            ),
            Self::Encode(_) | Self::Random => None,
            Self::Identity(error) => error.hint(),
            Self::Interrupted { .. } => Some(
                "ask again; if it happens each time, the log of chanceryd says whether it refuses \
                 the client certificate"
                    .to_owned(),
            ),
            Self::Problem(problem) => problem.hint.clone(),
            Self::Timeout { .. } => {
                Some("ask again later; `/readyz` says whether the appliance can sign".to_owned())
            }
            Self::Tls { fault, .. } => fault.hint(),
        }
    }
}

impl TlsFault {
    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::ClientExpired { .. } => {
                "get a new one: an operator from `chanceryd operator add`, all others through the \
                 role that issued it"
            }
            Self::ClientRefused { .. } => {
                "the certificate must be for TLS clients and carry one SPIFFE id of the \
                 appliance's trust domain"
            }
            Self::ClientUnknownCa { .. } => {
                "use a certificate of an authority listed in `tls.client_authorities` of \
                 chanceryd, with its chain in the same file"
            }
            Self::Other(_) => return None,
            Self::ServerExpired => "check the clock of this machine, then that of the appliance",
            Self::ServerName => {
                "use a name of `tls.dns_names` or `tls.addresses` of chanceryd in --server"
            }
            Self::ServerUnknownCa { .. } => {
                "--ca must hold the root certificate that the ceremony handed off"
            }
        };
        Some(hint.to_owned())
    }
}

/// An error with its causes, in one line.
pub fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(&format!(": {error}"));
        source = error.source();
    }
    text
}

/// Both ends of a connection, as errors name them.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) server: String,
    pub(crate) ca: PathBuf,
    pub(crate) certificate: PathBuf,
    /// Last second of the caller's certificate.
    pub(crate) not_after: Timestamp,
}

/// Tells the failures of a connection apart.
pub(crate) fn classify(error: &reqwest::Error, peer: &Peer, now: Timestamp) -> Error {
    let server = peer.server.clone();
    if let Some(error) = cause::<rustls::Error>(error) {
        return Error::Tls { server, fault: tls_fault(error, peer, now) };
    }
    if error.is_timeout() {
        return Error::Timeout { server };
    }
    if error.is_connect() {
        return Error::Connect { server, what: innermost(error).to_string() };
    }
    // In TLS 1.3 a server refuses a client only after the client's side of the handshake is
    // done (RFC 8446 section 4.4.2.4), and its alert may be lost with the connection.
    if now > peer.not_after {
        return Error::Tls { server, fault: client_expired(peer) };
    }
    if error.is_request() || error.is_body() {
        return Error::Interrupted { server };
    }
    Error::Answer { server, what: innermost(error).to_string() }
}

fn tls_fault(error: &rustls::Error, peer: &Peer, now: Timestamp) -> TlsFault {
    let certificate = peer.certificate.clone();
    match error {
        rustls::Error::InvalidCertificate(error) => server_fault(error, &peer.ca),
        rustls::Error::AlertReceived(_) if now > peer.not_after => client_expired(peer),
        rustls::Error::AlertReceived(AlertDescription::UnknownCA) => {
            TlsFault::ClientUnknownCa { certificate }
        }
        rustls::Error::AlertReceived(alert) => {
            TlsFault::ClientRefused { certificate, alert: format!("{alert:?}") }
        }
        other => TlsFault::Other(other.to_string()),
    }
}

fn server_fault(error: &CertificateError, ca: &Path) -> TlsFault {
    match error {
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => TlsFault::ServerExpired,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            TlsFault::ServerName
        }
        // A CA of the same name with another key shows as a bad signature.
        CertificateError::BadSignature | CertificateError::UnknownIssuer => {
            TlsFault::ServerUnknownCa { ca: ca.to_owned() }
        }
        other => TlsFault::Other(format!("the server's certificate is not accepted: {other}")),
    }
}

fn client_expired(peer: &Peer) -> TlsFault {
    TlsFault::ClientExpired { certificate: peer.certificate.clone(), not_after: peer.not_after }
}

/// The first cause of this type. An [`io::Error`] shows what it wraps only when asked, its
/// `source` already skips it.
fn cause<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = deeper(error);
    }
    None
}

fn innermost<'a>(error: &'a (dyn StdError + 'static)) -> &'a dyn fmt::Display {
    let mut error = error;
    while let Some(inner) = deeper(error) {
        error = inner;
    }
    error
}

fn deeper<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(wrapped) => Some(wrapped),
        None => error.source(),
    }
}
