//! What the host shows to others: its TLS certificate to the appliance, its SSH certificates to
//! users. Each is renewed at about half of its life.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use api::{SshHostRequest, X509Request};
use der::DecodePem as _;
use jiff::{SignedDuration, Timestamp};
use pki::names::{DnsName, Principal};
use rustix::process::Signal;
use thiserror::Error;

use super::{
    config::{HostCertificate, Reload},
    install::install,
    join::identity,
    process::Process,
    state::{IDENTITY, StateDirectory, StateError},
};
use crate::{
    Client,
    local_key::{LocalKey, LocalKeyError},
};

/// The life of a certificate, and when in it this host renews.
#[derive(Clone, Copy, Debug)]
pub(super) struct Life {
    pub(super) not_after: Timestamp,
    due: Timestamp,
}

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

impl Life {
    /// Hosts that were set up together shall not renew together: `chance` moves the middle of the
    /// life by a tenth of it at most.
    fn new(not_before: Timestamp, not_after: Timestamp, chance: u8) -> Self {
        let length = not_after.duration_since(not_before).as_millis();
        let part = length * (450 + i128::from(chance) * 100 / 255) / 1_000;
        let part = SignedDuration::from_millis(i64::try_from(part).unwrap_or(i64::MAX));
        Self { not_after, due: not_before.saturating_add(part).unwrap_or(not_after) }
    }

    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        now >= self.due
    }
}

/// The life of the agent's TLS certificate.
pub(super) fn identity_life(state: &StateDirectory, chance: u8) -> Result<Life, RenewalError> {
    let path = state.path(IDENTITY);
    let invalid = |what: String| RenewalError::Invalid { path: path.clone(), what };
    let text = fs::read_to_string(&path)
        .map_err(|source| RenewalError::Read { path: path.clone(), source })?;
    let start = text.find("-----BEGIN CERTIFICATE-----");
    let own = start.and_then(|start| text[start..].split_inclusive(PEM_END).next());
    let own = own.ok_or_else(|| invalid("there is no certificate in it".to_owned()))?;
    let own = x509_cert::Certificate::from_pem(own).map_err(|error| invalid(error.to_string()))?;
    let validity = own.tbs_certificate().validity();
    let time = |time: x509_cert::time::Time| {
        let since_epoch = SignedDuration::try_from(time.to_unix_duration());
        since_epoch.ok().and_then(|it| Timestamp::from_duration(it).ok())
    };
    match (time(validity.not_before), time(validity.not_after)) {
        (Some(not_before), Some(not_after)) => Ok(Life::new(not_before, not_after, chance)),
        _ => Err(invalid("its validity is out of range".to_owned())),
    }
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
        Reload::Command(words) => run(words).await,
        Reload::PidFile(path) => hang_up(path),
    }
}

async fn run(words: &[String]) -> Result<(), RenewalError> {
    let Some((program, arguments)) = words.split_first() else { return Ok(()) };
    let output = tokio::process::Command::new(program).args(arguments).output().await;
    let output =
        output.map_err(|error| RenewalError::Reload(format!("cannot run {program}: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(RenewalError::Reload(format!("{program}: {}: {}", output.status, said.trim_end())))
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
    certificate.public_key() != key.key_data() || Life::new(from, to, chance).is_due(now)
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

const PEM_END: &str = "-----END CERTIFICATE-----";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_renew_in_the_middle_and_not_together() {
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let end: Timestamp = "2026-01-01T10:00:00Z".parse().unwrap();
        for (chance, due) in [(0, "2026-01-01T04:30:00Z"), (255, "2026-01-01T05:30:00Z")] {
            let due: Timestamp = due.parse().unwrap();
            let life = Life::new(start, end, chance);
            assert!(life.is_due(due) && !life.is_due(due - SignedDuration::from_secs(1)));
        }
    }
}
