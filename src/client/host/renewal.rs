//! What the host shows to others: its TLS certificate to the appliance, its SSH certificates to
//! users. Each is renewed at about half of its life.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use api::{SshHostRequest, X509Request};
use jiff::Timestamp;
use pki::names::{DnsName, Principal};
use rustix::process::Signal;
use thiserror::Error;

use super::{
    config::{HostCertificate, Reload},
    join::identity,
    state::IDENTITY,
};
use crate::{
    Client,
    install::install,
    life::Life,
    local_key::{LocalKey, LocalKeyError},
    process::Process,
    program,
    state::{StateDirectory, StateError},
};

/// Something was not renewed; what was there before still is.
#[derive(Debug, Error)]
pub(super) enum RenewalError {
    #[error(transparent)]
    Client(#[from] crate::Error),
    #[error("{}: {what}", path.display())]
    Invalid { path: PathBuf, what: String },
    #[error(transparent)]
    Key(#[from] LocalKeyError),
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("sshd does not reload: {0}")]
    Reload(String),
    #[error(transparent)]
    State(#[from] StateError),
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
}

/// The life of the agent's TLS certificate.
pub(super) fn identity_life(state: &StateDirectory) -> Result<Life, RenewalError> {
    let path = state.path(IDENTITY);
    let text = fs::read_to_string(&path)
        .map_err(|source| RenewalError::Read { path: path.clone(), source })?;
    Life::of_certificate(&text).map_err(|what| RenewalError::Invalid { path, what })
}

/// Has a new TLS key certified, and keeps both in the place of the old ones.
pub(super) async fn renew_identity(
    client: &Client,
    role: &str,
    state: &StateDirectory,
) -> Result<(), RenewalError> {
    let key = LocalKey::generate()?;
    let request = X509Request {
        role: role.to_owned(),
        csr: key.signing_request()?,
        dns_names: Default::default(),
        addresses: Default::default(),
        spiffe_id: None,
        ttl: None,
        session: None,
    };
    let issued = client.issue_x509(&request).await?;
    state.store_text(IDENTITY, &identity(&key, &issued.certificate, &issued.chain)?)?;
    Ok(())
}

/// Renews the certificates of those host keys that need it; gives how many did.
pub(super) async fn renew_host_certificates(
    client: &Client,
    config: &HostCertificate,
    name: &DnsName,
    now: Timestamp,
) -> Result<usize, RenewalError> {
    let mut renewed = 0;
    for key in &config.keys {
        let public = with_suffix(key, ".pub");
        let public_key = fs::read_to_string(&public)
            .map_err(|source| RenewalError::Read { path: public.clone(), source })?;
        let path = with_suffix(key, "-cert.pub");
        if !needs_certificate(&path, &public_key, now) {
            continue;
        }
        let request = SshHostRequest {
            role: config.role.clone(),
            public_key: public_key.trim_end().to_owned(),
            principals: principals(config, name)
                .map_err(|what| RenewalError::Invalid { path: path.clone(), what })?,
            ttl: None,
            session: None,
        };
        let issued = client.issue_ssh_host(&request).await?;
        let line = format!("{}\n", issued.certificate.trim_end());
        let check = |bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes);
            ssh_key::Certificate::from_openssh(&text).map(drop).map_err(|error| error.to_string())
        };
        install(&path, line.as_bytes(), 0o644, check)
            .map_err(|source| RenewalError::Write { path, source })?;
        renewed += 1;
    }
    Ok(renewed)
}

/// Makes sshd read its files again.
pub(super) async fn reload(reload: &Reload) -> Result<(), RenewalError> {
    match reload {
        Reload::Command(words) => match program::run(words, PATIENCE).await {
            Ok(_) => Ok(()),
            Err(error) => Err(RenewalError::Reload(crate::error::chain(&error))),
        },
        Reload::PidFile(path) => hang_up(path),
    }
}

/// SIGHUP makes sshd start itself anew with its configuration; connections go on (sshd(8)).
fn hang_up(path: &Path) -> Result<(), RenewalError> {
    let text = fs::read_to_string(path)
        .map_err(|source| RenewalError::Read { path: path.to_owned(), source })?;
    let process = text.trim().parse().ok().and_then(Process::of);
    let sshd = process.filter(|it| it.program().is_some_and(|name| name == "sshd"));
    let held = sshd.and_then(|it| it.hold().ok().flatten());
    let Some(handle) = held else {
        let what = format!("{} names no sshd that runs", path.display());
        return Err(RenewalError::Reload(what));
    };
    handle.signal(Signal::HUP);
    Ok(())
}

/// Whether a host key has no certificate that is its own and in the first half of its life.
fn needs_certificate(path: &Path, public_key: &str, now: Timestamp) -> bool {
    let Ok(text) = fs::read_to_string(path) else { return true };
    let Ok(certificate) = ssh_key::Certificate::from_openssh(&text) else { return true };
    let Ok(key) = ssh_key::PublicKey::from_openssh(public_key) else { return true };
    let time = |seconds: u64| {
        let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
        Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX)
    };
    let (from, to) = (time(certificate.valid_after()), time(certificate.valid_before()));
    // The serial number is the host's own chance, and stays the same from look to look.
    let chance = u8::try_from(certificate.serial() % 256).unwrap_or_default();
    let life = Life { not_before: from, not_after: to };
    certificate.public_key() != key.key_data() || now >= life.middle(chance)
}

fn principals(
    config: &HostCertificate,
    name: &DnsName,
) -> Result<std::collections::BTreeSet<Principal>, String> {
    if !config.principals.is_empty() {
        return Ok(config.principals.clone());
    }
    let own = name.as_str().parse().map_err(|error: pki::names::NameError| error.to_string())?;
    Ok([own].into())
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// How long a program may take that makes sshd reload.
const PATIENCE: Duration = Duration::from_secs(60);
