//! Who the caller is, and whom it trusts: certificate, key and CA files.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use der::Decode;
use jiff::{SignedDuration, Timestamp};
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::profile::Settings;

/// A file of the caller's identity cannot be used.
#[derive(Debug, Error)]
pub enum IdentityError {
    /// The key is open to everyone on the machine.
    #[error("anyone on this machine can use the private key {} (mode {mode:04o})", path.display())]
    OpenKey {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It holds something else.
    #[error("{}: {what}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// Certificate and key are not a pair.
    #[error("{} is not the key of the certificate {}", key.display(), certificate.display())]
    Pair {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// TLS cannot be set up.
    #[error("cannot set up TLS: {0}")]
    Tls(String),
}

impl IdentityError {
    /// What to do about it, if there is something.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::OpenKey { path, .. } => Some(format!("chmod 600 {}", path.display())),
            Self::Invalid { .. } => {
                Some("it must be PEM; the caller's own certificate comes first".to_owned())
            }
            Self::Pair { .. } => {
                Some("give the key that the certificate was requested with".to_owned())
            }
            Self::Read { .. } => {
                Some("`chancery profile list` shows which files each profile uses".to_owned())
            }
            Self::Tls(_) => None,
        }
    }
}

/// What a connection is made with.
pub(crate) struct Identity {
    pub(crate) tls: ClientConfig,
    /// Last second of the caller's certificate.
    pub(crate) not_after: Timestamp,
}

pub(crate) fn load(settings: &Settings) -> Result<Identity, IdentityError> {
    let chain = certificates(&settings.certificate)?;
    identity(chain, private_key(&settings.key)?, settings)
}

/// As [`load`], for certificates and a key in PEM that are in memory; the settings say where they
/// came from.
#[cfg(target_os = "linux")]
pub(crate) fn load_held(
    certificates: &str,
    key: &str,
    settings: &Settings,
) -> Result<Identity, IdentityError> {
    let chain = read_certificates(certificates.as_bytes(), &settings.certificate)?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes());
    identity(chain, key.map_err(|error| invalid(&settings.key, error))?, settings)
}

fn identity(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    settings: &Settings,
) -> Result<Identity, IdentityError> {
    let not_after = not_after(&chain, &settings.certificate)?;
    let tls = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| IdentityError::Tls(error.to_string()))?
        .with_root_certificates(roots(&settings.ca)?)
        .with_client_auth_cert(chain, key)
        .map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => IdentityError::Pair {
                certificate: settings.certificate.clone(),
                key: settings.key.clone(),
            },
            other => invalid(&settings.key, other),
        })?;
    Ok(Identity { tls, not_after })
}

/// As [`load`], for a caller that has no certificate yet: only the CA is known.
pub(crate) fn load_stranger(ca: &Path) -> Result<Identity, IdentityError> {
    let tls = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| IdentityError::Tls(error.to_string()))?
        .with_root_certificates(roots(ca)?)
        .with_no_client_auth();
    Ok(Identity { tls, not_after: Timestamp::MAX })
}

fn roots(path: &Path) -> Result<RootCertStore, IdentityError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| invalid(path, error))?;
    }
    Ok(roots)
}

pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    read_certificates(&fs::read(path).map_err(|source| unreadable(path, source))?, path)
}

fn read_certificates(
    pem: &[u8],
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let certificates = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| invalid(path, error))?;
    if certificates.is_empty() {
        return Err(invalid(path, "there is no certificate in it"));
    }
    Ok(certificates)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, IdentityError> {
    refuse_open_mode(path)?;
    let pem = Zeroizing::new(fs::read(path).map_err(|source| unreadable(path, source))?);
    PrivateKeyDer::from_pem_slice(&pem).map_err(|error| invalid(path, error))
}

/// Last second of the first certificate.
pub(crate) fn not_after(chain: &[CertificateDer], path: &Path) -> Result<Timestamp, IdentityError> {
    let own = chain.first().ok_or_else(|| invalid(path, "there is no certificate in it"))?;
    let own = x509_cert::Certificate::from_der(own).map_err(|error| invalid(path, error))?;
    let seconds = own.tbs_certificate().validity().not_after.to_unix_duration();
    let since_epoch = SignedDuration::try_from(seconds).map_err(|error| invalid(path, error))?;
    Timestamp::from_duration(since_epoch).map_err(|error| invalid(path, error))
}

#[cfg(unix)]
pub(crate) fn refuse_open_mode(path: &Path) -> Result<(), IdentityError> {
    use std::os::unix::fs::PermissionsExt;

    let metadata = fs::metadata(path).map_err(|source| unreadable(path, source))?;
    let mode = metadata.permissions().mode() & 0o7777;
    // The group may read: services get their keys so (systemd, Kubernetes).
    if mode & 0o007 != 0 {
        return Err(IdentityError::OpenKey { path: path.to_owned(), mode });
    }
    Ok(())
}

#[cfg(not(unix))]
pub(crate) fn refuse_open_mode(_path: &Path) -> Result<(), IdentityError> {
    Ok(())
}

pub(crate) fn unreadable(path: &Path, source: io::Error) -> IdentityError {
    IdentityError::Read { path: path.to_owned(), source }
}

pub(crate) fn invalid(path: &Path, what: impl std::fmt::Display) -> IdentityError {
    IdentityError::Invalid { path: path.to_owned(), what: what.to_string() }
}
