//! `chanceryd operator add`: the way in for the first operator.
//!
//! Whoever may run this on the machine, as the user of the service, has the token's PIN anyway.
//! The certificate takes the same line as every other: intent, signature, record.

use std::sync::Arc;

use pki::{
    clock::Clock,
    x509::{self, csr::Csr, csr::CsrError},
};
use thiserror::Error;

use crate::{
    authority::{IssueError, spiffe_id},
    config::Config,
    launcher::Launcher,
    start::{StartError, Started},
};

/// No operator was added.
#[derive(Debug, Error)]
pub enum OperatorError {
    /// The certificate signing request is refused.
    #[error("the certificate signing request is refused")]
    Csr(#[from] CsrError),
    /// The certificate was not issued.
    #[error("the certificate was not issued")]
    Issue(#[from] IssueError),
    /// The name cannot be one.
    #[error("{0:?} is no name of an operator: use letters, digits, '.', '-' and '_'")]
    Name(String),
    /// Ledger, token or authority cannot be stood up.
    #[error(transparent)]
    Start(#[from] StartError),
}

/// Issues a certificate for `spiffe://<trust domain>/operator/<name>`, and gives it with its chain
/// as PEM. A server on the same state directory goes on meanwhile.
///
/// # Errors
///
/// See [`OperatorError`]; nothing was issued.
pub async fn add(
    config: &Config,
    launchers: Vec<Launcher>,
    clock: Arc<dyn Clock>,
    name: &str,
    csr_pem: &str,
) -> Result<String, OperatorError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    let id = spiffe_id(&config.trust_domain, "operator", name).ok();
    let id = id
        .filter(|_| name.bytes().all(plain))
        .ok_or_else(|| OperatorError::Name(name.to_owned()))?;
    let csr = Csr::from_pem(csr_pem)?;
    let started = Started::new(config, launchers, clock).await?;
    let released = started.authority.operator_certificate(id, csr).await?;
    let chain = started.authority.chain(released.issuer());
    let certificates = std::iter::once(released.bytes()).chain(chain.iter().map(Vec::as_slice));
    Ok(certificates.map(x509::to_pem).collect())
}
