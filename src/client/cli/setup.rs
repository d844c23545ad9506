//! `chancery csr` and `profile`: what comes before the first request.

use std::path::{Path, PathBuf};

use client::{
    files,
    local_key::LocalKey,
    profile::{Overrides, Profile, ProfileFile, Settings},
};

use super::{
    arguments::{Csr, Global},
    config_path,
    failure::Failure,
    output::Output,
};

pub(super) fn signing_request(it: &Csr, output: &mut Output) -> Result<(), Failure> {
    files::refuse_existing(&it.new_key)?;
    let key = LocalKey::generate()?;
    let request = key.signing_request()?;
    files::write_private(&it.new_key, key.private_pem()?.as_bytes())?;
    let path = it.out.clone().unwrap_or_else(|| it.new_key.with_extension("csr"));
    if path.as_os_str() == "-" {
        return Ok(output.text(&request)?);
    }
    files::write_public(&path, request.as_bytes())?;
    let rows = [("key", it.new_key.display().to_string()), ("request", path.display().to_string())];
    output.rows(&rows)?;
    Ok(())
}

/// Writes the connection flags down. They must make a connection, so that a mistake shows now.
pub(super) fn add_profile(global: Global, name: &str, output: &mut Output) -> Result<(), Failure> {
    let path = config_path(&global)?;
    let Global { server, ca, cert, cert_key, .. } = global;
    let flags = Overrides { server, ca, certificate: cert, key: cert_key, deadline: None };
    let settings = ProfileFile::default().resolve(None, flags)?;
    client::Client::new(&settings)?;
    let Settings { server, ca, certificate, key, .. } = settings;
    let profile = Profile {
        server,
        ca: absolute(&ca)?,
        certificate: absolute(&certificate)?,
        key: absolute(&key)?,
        session_role: None,
        card_role: None,
    };
    ProfileFile::add(&path, name, &profile)?;
    output.rows(&[("profile", name.to_owned()), ("file", path.display().to_string())])?;
    Ok(())
}

pub(super) fn list_profiles(global: Global, output: &mut Output) -> Result<(), Failure> {
    let file = global.profile_file()?;
    if output.is_json() {
        return Ok(output.line(&file.profiles)?);
    }
    let rows: Vec<_> = file
        .profiles
        .iter()
        .map(|(name, profile)| {
            let mark = if file.default.as_ref() == Some(name) { "*" } else { "" };
            [
                format!("{name}{mark}"),
                profile.server.to_string(),
                profile.certificate.display().to_string(),
            ]
        })
        .collect();
    output.table(Some(["NAME", "SERVER", "CERTIFICATE"]), &rows)?;
    Ok(())
}

/// Paths in the file are relative to the file; what was typed is relative to where it was typed.
fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|source| Failure::Read { path: path.to_owned(), source })
}
