//! `chancery host`: hosts as operators see them, and the agent on a host.

#[cfg(target_os = "linux")]
mod agent;

use std::{path::PathBuf, process::ExitCode};

use api::{Because, Host, HostMode, HostRequest};
use client::{Client, files};

use super::{
    arguments::{
        Global,
        host::{Add, HostCommand, Remove},
    },
    connect,
    failure::Failure,
    output::{Output, time},
};

pub(super) async fn run(
    global: Global,
    command: HostCommand,
    output: &mut Output,
) -> Result<ExitCode, Failure> {
    match command {
        HostCommand::Add(it) => add(&connect(global)?, it, output).await?,
        #[cfg(target_os = "linux")]
        HostCommand::Doctor(it) => return agent::doctor(&global, &it, output),
        #[cfg(target_os = "linux")]
        HostCommand::Join(it) => agent::join(global, it, output).await?,
        HostCommand::List => list(&connect(global)?, output).await?,
        #[cfg(target_os = "linux")]
        HostCommand::Principals(it) => agent::principals(it, output)?,
        HostCommand::Remove(it) => remove(&connect(global)?, it, output).await?,
        #[cfg(target_os = "linux")]
        HostCommand::Run => agent::run(&global).await?,
        #[cfg(target_os = "linux")]
        HostCommand::Status(it) => agent::status(&it, output)?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn add(client: &Client, it: Add, output: &mut Output) -> Result<(), Failure> {
    let path = it.out.unwrap_or_else(|| PathBuf::from(format!("{}.token", it.name.as_str())));
    let to_file = path.as_os_str() != "-";
    if to_file {
        files::refuse_existing(&path)?;
    }
    let mode = if it.best_effort { HostMode::BestEffort } else { HostMode::Strict };
    let token = client.add_host(&HostRequest { name: it.name, mode, ttl: it.ttl }).await?;
    if !to_file {
        return Ok(output.line(&token)?);
    }
    let text = serde_json::to_vec(&token).map_err(client::Error::Encode)?;
    files::write_private(&path, &text)?;
    let rows = [
        ("host", token.name.as_str().to_owned()),
        ("mode", word(mode).to_owned()),
        ("valid until", time(token.expires_at)),
        ("file", path.display().to_string()),
    ];
    // What a program wants to know is in the file; the secret stands nowhere else.
    if !output.is_json() {
        output.rows(&rows)?;
    }
    Ok(())
}

async fn list(client: &Client, output: &mut Output) -> Result<(), Failure> {
    let all = client.hosts().await?;
    if output.is_json() {
        return Ok(output.line(&all)?);
    }
    let rows: Vec<_> = all.hosts.iter().map(|host| row(host, all.version)).collect();
    output.table(Some(["NAME", "MODE", "REVOCATIONS", "LOGGED IN", "LAST HEARD OF"]), &rows)?;
    Ok(())
}

fn row(host: &Host, newest: u64) -> [String; 5] {
    let version = match (host.joined_at, host.version) {
        (None, _) => "not joined".to_owned(),
        (Some(_), None) => "none yet".to_owned(),
        (Some(_), Some(version)) if version < newest => format!("{version} of {newest}"),
        (Some(_), Some(version)) => version.to_string(),
    };
    let seen = host.last_seen.map(time).unwrap_or_default();
    let name = host.name.as_str().to_owned();
    [name, word(host.mode).to_owned(), version, host.connections.to_string(), seen]
}

async fn remove(client: &Client, it: Remove, output: &mut Output) -> Result<(), Failure> {
    let host = client.remove_host(&it.name, &Because { reason: it.reason }).await?;
    output.show(&host, |host| vec![("removed", host.name.as_str().to_owned())])?;
    Ok(())
}

fn word(mode: HostMode) -> &'static str {
    match mode {
        HostMode::BestEffort => "best-effort",
        HostMode::Strict => "strict",
    }
}
