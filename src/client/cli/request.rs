//! `chancery request`: certificates for keys on this machine.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use api::{CardAttestation, Issued, SmartcardRequest, SshHostRequest, SshUserRequest, X509Request};
use client::{
    Client, files,
    local_key::{LocalKey, LocalSshKey},
};

use super::{
    arguments::{Smartcard, Ssh, SshHost, X509},
    failure::Failure,
    names,
    output::{Output, time},
};

pub(super) async fn ssh(client: &Client, it: Ssh, output: &mut Output) -> Result<(), Failure> {
    let public = public_key_path(&it.key);
    let new = if it.generate { Some(generate(&public)?) } else { None };
    let public_key = match &new {
        Some(key) => key.public_line()?,
        None => read(&public)?.trim_end().to_owned(),
    };
    let request = SshUserRequest {
        role: it.role,
        public_key,
        principals: it.principals.into_iter().collect(),
        ttl: it.validity.ttl,
        session: it.validity.session,
        source_addresses: it.source_addresses.into_iter().collect(),
        force_command: it.force_command,
    };
    let issued = client.issue_ssh_user(&request).await?;
    // The key is written only now, so that a refusal leaves nothing that the next try trips over.
    if let Some(key) = new {
        files::write_private(&public.with_extension(""), key.private_text()?.as_bytes())?;
        files::write_public(&public, format!("{}\n", request.public_key).as_bytes())?;
    }
    deliver(&issued, &line(&issued), it.out, || certificate_path(&public), output)
}

pub(super) async fn ssh_host(
    client: &Client,
    it: SshHost,
    output: &mut Output,
) -> Result<(), Failure> {
    let public = public_key_path(&it.key);
    let request = SshHostRequest {
        role: it.role,
        public_key: read(&public)?.trim_end().to_owned(),
        principals: it.principals.into_iter().collect(),
        ttl: it.validity.ttl,
        session: it.validity.session,
    };
    let issued = client.issue_ssh_host(&request).await?;
    deliver(&issued, &line(&issued), it.out, || certificate_path(&public), output)
}

pub(super) async fn x509(client: &Client, it: X509, output: &mut Output) -> Result<(), Failure> {
    let (csr, new, beside) = match (it.source.csr, it.source.new_key) {
        (_, Some(path)) => {
            files::refuse_existing(&path)?;
            let key = LocalKey::generate()?;
            (key.signing_request()?, Some(key), path)
        }
        (Some(path), None) => (read(&path)?, None, path),
        (None, None) => return Err(usage("give --csr FILE or --new-key FILE")),
    };
    let request = X509Request {
        role: it.role,
        csr,
        dns_names: it.dns_names.into_iter().collect(),
        addresses: it.addresses.into_iter().collect(),
        spiffe_id: it.spiffe,
        ttl: it.validity.ttl,
        session: it.validity.session,
    };
    let issued = client.issue_x509(&request).await?;
    if let Some(key) = new {
        files::write_private(&beside, key.private_pem()?.as_bytes())?;
    }
    let text = line(&issued) + &issued.chain.iter().map(|it| ended(it)).collect::<String>();
    deliver(&issued, &text, it.out, || beside.with_extension("pem"), output)
}

pub(super) async fn smartcard(
    client: &Client,
    it: Smartcard,
    output: &mut Output,
) -> Result<(), Failure> {
    let request = SmartcardRequest {
        role: it.role,
        csr: read(&it.csr)?,
        upn: it.upn,
        ttl: it.validity.ttl,
        session: it.validity.session,
        attestation: it.attestation.as_deref().map(attestation).transpose()?,
    };
    let issued = client.issue_smartcard(&request).await?;
    // A card holds its own certificate; the chain is in Active Directory.
    deliver(&issued, &line(&issued), it.out, || it.csr.with_extension("pem"), output)
}

/// Statement and intermediate, as `chancery-card request --attestation` writes them.
fn attestation(path: &Path) -> Result<CardAttestation, Failure> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    let text = read(path)?;
    let starts: Vec<_> = text.match_indices(BEGIN).map(|(at, _)| at).collect();
    match starts.as_slice() {
        [statement, intermediate] => Ok(CardAttestation {
            statement: text[*statement..*intermediate].to_owned(),
            intermediate: text[*intermediate..].to_owned(),
        }),
        _ => Err(Failure::Usage {
            what: format!("{} has {} certificates, not 2", path.display(), starts.len()),
            hint: Some("take what chancery-card request --attestation wrote".to_owned()),
        }),
    }
}

/// Makes a key in memory, if its files do not exist yet.
fn generate(public: &Path) -> Result<LocalSshKey, Failure> {
    files::refuse_existing(&public.with_extension(""))?;
    files::refuse_existing(public)?;
    let comment = public.file_stem().unwrap_or_default().to_string_lossy();
    Ok(LocalSshKey::generate(&comment)?)
}

/// Writes the certificate where it is wanted, and says what it is.
fn deliver(
    issued: &Issued,
    text: &str,
    out: Option<PathBuf>,
    default: impl FnOnce() -> PathBuf,
    output: &mut Output,
) -> Result<(), Failure> {
    let path = out.unwrap_or_else(default);
    if path.as_os_str() != "-" {
        files::write_public(&path, text.as_bytes())?;
    } else if !output.is_json() {
        return Ok(output.text(text)?);
    }
    output.show(issued, |issued| {
        vec![
            ("serial", issued.serial.clone()),
            ("issuer", issued.issuer.clone()),
            ("names", names::of(issued)),
            ("valid until", time(issued.not_after)),
            ("file", path.display().to_string()),
        ]
    })?;
    Ok(())
}

fn line(issued: &Issued) -> String {
    ended(&issued.certificate)
}

fn ended(text: &str) -> String {
    format!("{}\n", text.trim_end())
}

/// `id_ed25519` and `id_ed25519.pub` both mean the public key; a private key is never read.
fn public_key_path(key: &Path) -> PathBuf {
    if key.extension().is_some_and(|it| it == "pub") {
        return key.to_owned();
    }
    let mut name = OsString::from(key);
    name.push(".pub");
    name.into()
}

/// Where ssh(1) and `ssh-keygen -s` have it: `id_ed25519-cert.pub`.
fn certificate_path(public: &Path) -> PathBuf {
    let mut name = public.with_extension("").into_os_string();
    name.push("-cert.pub");
    name.into()
}

fn read(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|source| Failure::Read { path: path.to_owned(), source })
}

fn usage(what: &str) -> Failure {
    Failure::Usage { what: what.to_owned(), hint: None }
}
