//! `chancery kdc`: certificates of domain controllers, and their renewal.

use std::{
    collections::BTreeSet,
    fs, iter,
    path::{Path, PathBuf},
    time::Duration,
};

use api::{Issued, X509Request};
use client::{
    Client, files,
    local_rsa_key::LocalRsaKey,
    pkcs12::{self, Password},
};
use jiff::Timestamp;
use pki::{
    clock::{Clock, SystemClock},
    names::DnsName,
    secret::Secret,
    x509::{certificate::Certificate, csr::Csr},
};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use serde::Serialize;
use zeroize::Zeroizing;

use super::{
    arguments::windows::{Kdc, KdcKey},
    failure::Failure,
    names,
    output::{Output, time},
};

pub(super) async fn run(
    connect: impl FnOnce() -> Result<Client, Failure>,
    it: Kdc,
    output: &mut Output,
) -> Result<(), Failure> {
    let source = Source::take(&it.source, it.renew_if.is_some())?;
    let bundle = it.pfx.clone().zip(it.pfx_password_file.as_deref().map(password).transpose()?);
    let out = it.out.clone().unwrap_or_else(|| source.path().with_extension("pem"));
    let name = it.dns_names.first().map(DnsName::to_string).unwrap_or_default();
    let names: BTreeSet<DnsName> = it.dns_names.into_iter().collect();
    if let Some(left) = it.renew_if {
        let due = due(&out, bundle.as_ref(), &source, &names, left, SystemClock.now());
        if let Due::Not { until } = due {
            return not_due(until, out, output);
        }
    }
    let request = X509Request {
        role: it.role,
        csr: source.request()?,
        dns_names: names,
        addresses: BTreeSet::new(),
        spiffe_id: None,
        ttl: it.validity.ttl,
        session: it.validity.session,
    };
    let issued = connect()?.issue_x509(&request).await?;
    let certificate = Certificate::from_pem(&issued.certificate)
        .map_err(|error| usage(format!("the appliance's answer: {error}"), None))?;
    if !source.is_certified_by(&certificate) {
        return Err(usage("the appliance's answer is for another key".to_owned(), None));
    }
    // The key is written only now, so that a refusal leaves nothing that the next try trips over.
    if let Source::New { key, path } = &source {
        files::write_private(path, key.private_pem()?.as_bytes())?;
    }
    let chain = if it.no_chain { &[][..] } else { &issued.chain };
    let certificates = iter::once(&issued.certificate).chain(chain);
    let text: String = certificates.map(|pem| format!("{}\n", pem.trim_end())).collect();
    if let (Some((path, password)), Some(key)) = (&bundle, source.key()) {
        files::replace_private(path, &pfx(key, &issued, &name, password)?)?;
    }
    // Last, so that a run that was interrupted is due again.
    files::write_public(&out, text.as_bytes())?;
    let pfx = bundle.map(|(path, _)| path);
    tell(&Renewed { renewed: true, issued: &issued, file: &out, pfx }, &source, output)
}

/// Whose key is certified.
enum Source {
    /// The controller's own, of which only the request is here.
    Csr { csr: Csr, path: PathBuf },
    /// One that was here before.
    Kept { key: LocalRsaKey, path: PathBuf },
    /// One that was made now and is not written yet.
    New { key: LocalRsaKey, path: PathBuf },
}

impl Source {
    fn take(it: &KdcKey, keep: bool) -> Result<Self, Failure> {
        let (csr, key) = (it.csr.clone(), it.new_key.clone());
        if let Some(path) = csr {
            let csr = Csr::from_pem(&read(&path)?).map_err(|error| {
                usage(format!("{}: {error}", path.display()), Some("it must be PEM of PKCS#10"))
            })?;
            return Ok(Self::Csr { csr, path });
        }
        let path = key.ok_or_else(|| usage("give --csr FILE or --new-key FILE".into(), None))?;
        if keep && path.exists() {
            let key = LocalRsaKey::from_file(&path).map_err(client::Error::from)?;
            return Ok(Self::Kept { key, path });
        }
        files::refuse_existing(&path)?;
        Ok(Self::New { key: LocalRsaKey::generate()?, path })
    }

    fn path(&self) -> &Path {
        match self {
            Self::Csr { path, .. } | Self::Kept { path, .. } | Self::New { path, .. } => path,
        }
    }

    fn key(&self) -> Option<&LocalRsaKey> {
        match self {
            Self::Csr { .. } => None,
            Self::Kept { key, .. } | Self::New { key, .. } => Some(key),
        }
    }

    fn request(&self) -> Result<String, Failure> {
        match self {
            Self::Csr { path, .. } => read(path),
            Self::Kept { key, .. } | Self::New { key, .. } => Ok(key.signing_request()?),
        }
    }

    fn is_certified_by(&self, certificate: &Certificate) -> bool {
        match self {
            Self::Csr { csr, .. } => csr.public_key == *certificate.public_key(),
            Self::Kept { key, .. } | Self::New { key, .. } => key.is_certified_by(certificate),
        }
    }
}

/// Whether a certificate is asked for.
enum Due {
    Now,
    Not { until: Timestamp },
}

/// What cannot be read, or is not what was asked for, is due.
fn due(
    out: &Path,
    bundle: Option<&(PathBuf, Password)>,
    source: &Source,
    names: &BTreeSet<DnsName>,
    left: Duration,
    now: Timestamp,
) -> Due {
    let der = CertificateDer::from_pem_file(out);
    let Some(present) = der.ok().and_then(|der| Certificate::from_der(&der).ok()) else {
        return Due::Now;
    };
    let said: BTreeSet<_> = present.dns_names().iter().map(String::as_str).collect();
    let same_names = said == names.iter().map(DnsName::as_str).collect();
    let until = present.not_after();
    // A time beyond what there is of it is never enough.
    let has_more = now.checked_add(left).is_ok_and(|end| until > end);
    let complete = bundle.is_none_or(|(path, _)| path.is_file());
    match has_more && same_names && complete && source.is_certified_by(&present) {
        true => Due::Not { until },
        false => Due::Now,
    }
}

fn not_due(until: Timestamp, file: PathBuf, output: &mut Output) -> Result<(), Failure> {
    let kept = Kept { renewed: false, not_after: until, file };
    output.show(&kept, |it| {
        vec![
            ("not due", format!("valid until {}", time(it.not_after))),
            ("file", it.file.display().to_string()),
        ]
    })?;
    Ok(())
}

/// As JSON.
#[derive(Serialize)]
struct Kept {
    renewed: bool,
    not_after: Timestamp,
    file: PathBuf,
}

/// As JSON.
#[derive(Serialize)]
struct Renewed<'a> {
    renewed: bool,
    issued: &'a Issued,
    file: &'a Path,
    #[serde(skip_serializing_if = "Option::is_none")]
    pfx: Option<PathBuf>,
}

fn tell(it: &Renewed<'_>, source: &Source, output: &mut Output) -> Result<(), Failure> {
    let issued = it.issued;
    let pfx = it.pfx.as_ref().map(|path| path.display().to_string());
    output.show(it, |it| {
        let key = source.key().map(|_| source.path().display().to_string());
        vec![
            ("serial", issued.serial.clone()),
            ("issuer", issued.issuer.clone()),
            ("names", names::of(issued)),
            ("valid until", time(issued.not_after)),
            ("key", key.unwrap_or_default()),
            ("file", it.file.display().to_string()),
            ("pfx", pfx.clone().unwrap_or_default()),
        ]
    })?;
    if output.is_json() {
        return Ok(());
    }
    let (file, key) = (it.file.display(), source.path().display());
    let next = match (source, pfx) {
        (Source::Csr { .. }, _) => {
            format!("as an administrator of the domain controller: certreq -accept -machine {file}")
        }
        (_, Some(pfx)) => format!(
            "as an administrator of the domain controller, in PowerShell:\n  \
             Import-PfxCertificate -FilePath {pfx} -CertStoreLocation Cert:\\LocalMachine\\My \
             -Password (Read-Host -AsSecureString)\n  certutil -dcinfo verify"
        ),
        (_, None) => {
            format!("in kdc.conf of MIT Kerberos: pkinit_identity = FILE:{file},{key}")
        }
    };
    Ok(output.text(&format!("\nnext, {next}\n"))?)
}

/// Read before anything is asked for, so that a wrong file costs no certificate.
fn password(path: &Path) -> Result<Password, Failure> {
    let secret = Secret::from_file(path)
        .map_err(|source| Failure::Read { path: path.to_owned(), source })?;
    Password::new(secret).map_err(|what| usage(format!("{}: {what}", path.display()), None))
}

fn pfx(
    key: &LocalRsaKey,
    issued: &Issued,
    name: &str,
    password: &Password,
) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let certificates = iter::once(&issued.certificate).chain(&issued.chain).map(|pem| {
        CertificateDer::from_pem_slice(pem.as_bytes())
            .map(|der| der.to_vec())
            .map_err(|error| usage(format!("the appliance's answer: {error}"), None))
    });
    let certificates = certificates.collect::<Result<Vec<_>, _>>()?;
    let file = pkcs12::encode(&key.private_der()?, &certificates, name, password)?;
    Ok(Zeroizing::new(file))
}

fn read(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|source| Failure::Read { path: path.to_owned(), source })
}

fn usage(what: String, hint: Option<&str>) -> Failure {
    Failure::Usage { what, hint: hint.map(str::to_owned) }
}
