//! A kubeconfig whose user is an exec credential plugin: this program, which reads the bundle.
//!
//! Kubernetes knows a client by the subject of its certificate: the role says it, as `common_name`.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use serde::{Deserialize, Serialize};
use serde_json::json;
use thiserror::Error;
use zeroize::Zeroizing;

use super::{
    MakeError, Making,
    material::{Certified, Names, ended, public},
};
use crate::{
    bot::bundle::{Bundle, BundleFile},
    config_file::absolute,
    identity::{self, IdentityError},
};

/// `kind = "kubernetes"`.
///
/// ```toml
/// server = "https://k8s.example:6443"
/// cluster_ca = "/etc/chancery/k8s-ca.crt"     # PEM; absent: the roots of authorities
/// authorities = ["services"]                  # absent: the issuer's
/// cluster = "production"                      # what kubectl shows; absent: the bot's name
/// namespace = "orders"                        # absent: default
/// command = "/usr/bin/chancery"               # absent: chancery, found by PATH
/// ```
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "Cluster")]
pub(in crate::bot) struct Settings(Cluster);

/// As the file has it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
struct Cluster {
    /// The URL of the API server.
    server: String,
    /// A file with the CA of its certificate.
    #[serde(default)]
    cluster_ca: Option<PathBuf>,
    /// The X.509 authorities of its certificate; empty for the client certificate's own.
    #[serde(default)]
    authorities: BTreeSet<String>,
    /// What the cluster, the user and the context are called.
    #[serde(default)]
    cluster: Option<String>,
    /// The namespace that commands are about.
    #[serde(default)]
    namespace: Option<String>,
    /// This program, as the users of the kubeconfig run it.
    #[serde(default = "chancery")]
    command: String,
}

impl TryFrom<Cluster> for Settings {
    type Error = String;

    fn try_from(it: Cluster) -> Result<Self, String> {
        if !it.server.starts_with("https://") {
            return Err(format!("server = {:?} does not begin with https://", it.server));
        }
        if it.cluster_ca.is_some() && !it.authorities.is_empty() {
            return Err("give either cluster_ca or authorities".to_owned());
        }
        absolute(&it.cluster_ca)?;
        Ok(Self(it))
    }
}

/// The credential of the bundle in a directory, as kubectl and other clients of Kubernetes take it
/// from a plugin: an `ExecCredential` of `client.authentication.k8s.io/v1`.
///
/// # Errors
///
/// [`CredentialError`]: there is none, or it has expired.
pub fn credential(directory: &Path, now: Timestamp) -> Result<Zeroizing<String>, CredentialError> {
    // The directory may be a link to the bundle. Looked up once, key and certificate are of the
    // same one.
    let bundle = fs::canonicalize(directory);
    let bundle = bundle.map_err(|source| unreadable(directory, source))?;
    let (certificate, key) = (bundle.join(CERTIFICATE), bundle.join(KEY));
    let not_after = identity::not_after(&identity::certificates(&certificate)?, &certificate)?;
    if now > not_after {
        return Err(CredentialError::Expired { directory: directory.to_owned(), not_after });
    }
    let read = |path: &Path| fs::read_to_string(path).map_err(|source| unreadable(path, source));
    let key = Zeroizing::new(read(&key)?);
    let credential = Credential {
        api_version: API_VERSION,
        kind: "ExecCredential",
        status: Status {
            client_certificate_data: &read(&certificate)?,
            client_key_data: &key,
            expiration_timestamp: not_after,
        },
    };
    serde_json::to_string(&credential).map(Zeroizing::new).map_err(CredentialError::Encode)
}

/// There is no credential to give.
#[derive(Debug, Error)]
pub enum CredentialError {
    /// It has no JSON form.
    #[error("cannot encode the credential")]
    Encode(#[source] serde_json::Error),
    /// The agent has not renewed it.
    #[error("the certificate in {} has expired ({not_after})", directory.display())]
    Expired {
        /// The bundle's directory.
        directory: PathBuf,
        /// Since when.
        not_after: Timestamp,
    },
    /// A file is not what it should be.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl CredentialError {
    /// What to do about it, if there is something.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Encode(_) => None,
            Self::Expired { .. } => Some("`chancery bot status` says why the agent has not renewed it".to_owned()),
            Self::Identity(_) | Self::Read { .. } => Some(
                "--directory names the bundle of an output of kind kubernetes, and whoever runs this must be \
                 one of its readers"
                    .to_owned(),
            ),
        }
    }
}

/// A new key, its certificate with its chain, and the kubeconfig.
pub(in crate::bot) async fn make(
    Settings(settings): &Settings,
    making: &Making<'_>,
) -> Result<Bundle, MakeError> {
    let given = settings.cluster_ca.as_deref().map(cluster_ca).transpose()?;
    let it = Certified::new(making, Names::default()).await?;
    let roots = match given {
        Some(text) => text,
        None => it.roots(making, &settings.authorities)?,
    };
    let files =
        vec![it.key_file(KEY)?, it.chain_file(CERTIFICATE), kubeconfig(settings, making, &roots)?];
    Ok(Bundle { files, life: it.life() })
}

/// JSON, which is YAML too, so that nothing in it needs another quoting.
fn kubeconfig(
    settings: &Cluster,
    making: &Making<'_>,
    roots: &str,
) -> Result<BundleFile, MakeError> {
    let name = settings.cluster.as_deref().unwrap_or(making.bot.as_str());
    let directory = making.place.to_str().ok_or_else(|| {
        MakeError::Settings(format!("{} is not UTF-8, as JSON must be", making.place.display()))
    })?;
    let mut context = json!({ "cluster": name, "user": name });
    if let Some(namespace) = &settings.namespace {
        context["namespace"] = json!(namespace);
    }
    let configuration = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{
            "name": name,
            "cluster": {
                "server": settings.server,
                "certificate-authority-data": STANDARD.encode(roots),
            },
        }],
        "users": [{
            "name": name,
            "user": { "exec": {
                "apiVersion": API_VERSION,
                "command": settings.command,
                "args": ["bot", "kubernetes-credential", "--directory", directory],
                "interactiveMode": "Never",
                "provideClusterInfo": false,
            } },
        }],
        "contexts": [{ "name": name, "context": context }],
        "current-context": name,
    });
    Ok(public("kubeconfig", ended(&format!("{configuration:#}"))))
}

/// Certificates in PEM, and nothing else.
fn cluster_ca(path: &Path) -> Result<String, MakeError> {
    let failed = |what: &dyn std::fmt::Display| {
        MakeError::Settings(format!("cluster_ca = {}: {what}", path.display()))
    };
    let text = fs::read_to_string(path).map_err(|error| failed(&error))?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    match certificates {
        Ok(found) if !found.is_empty() => Ok(text),
        Ok(_) => Err(failed(&"there is no certificate in it")),
        Err(error) => Err(failed(&error)),
    }
}

fn unreadable(path: &Path, source: io::Error) -> CredentialError {
    CredentialError::Read { path: path.to_owned(), source }
}

fn chancery() -> String {
    "chancery".to_owned()
}

/// client.authentication.k8s.io/v1, ExecCredential.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Credential<'a> {
    api_version: &'static str,
    kind: &'static str,
    status: Status<'a>,
}

/// ExecCredentialStatus. Clients ask again once `expiration_timestamp` has passed.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Status<'a> {
    client_certificate_data: &'a str,
    client_key_data: &'a str,
    expiration_timestamp: Timestamp,
}

const API_VERSION: &str = "client.authentication.k8s.io/v1";

const KEY: &str = "tls.key";

const CERTIFICATE: &str = "tls.crt";
