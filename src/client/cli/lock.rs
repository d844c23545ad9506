//! `chancery lock` and `chancery revoke`.

use std::process::ExitCode;

use api::{
    Lock, LockEffect, LockPreview, LockRequest, LockTarget, Locked, Locks, RevokeRequest,
    UnlockRequest,
};
use client::Client;

use super::{
    arguments::lock::{Add, LockCommand, Preview, Remove, Revoke, Target},
    effect,
    failure::Failure,
    output::{Output, time},
    terminal,
};

pub(super) async fn run(
    client: &Client,
    command: LockCommand,
    output: &mut Output,
) -> Result<ExitCode, Failure> {
    match command {
        LockCommand::Add(it) => return add(client, it, output).await,
        LockCommand::List => list(&client.locks().await?, output)?,
        LockCommand::Preview(it) => preview(client, it, output).await?,
        LockCommand::Remove(it) => remove(client, it, output).await?,
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn revoke(
    client: &Client,
    it: Revoke,
    output: &mut Output,
) -> Result<ExitCode, Failure> {
    let Revoke { issuer, serial, reason, code, effect } = it;
    let revoked = client.revoke(&RevokeRequest { issuer, serial, code, reason }).await?;
    output.show(&revoked, |revoked| {
        let text = match revoked.revoked {
            0 => "nothing: it was revoked before".to_owned(),
            count => effect::certificates(count),
        };
        vec![("revoked", text)]
    })?;
    let code = effect::show(client, revoked.change, effect.wait, output).await?;
    effect::warn_of_tickets(revoked.logon_certificates, output)?;
    Ok(code)
}

async fn preview(client: &Client, it: Preview, output: &mut Output) -> Result<(), Failure> {
    let preview = LockPreview { target: target(it.target)?, issued_before: it.issued_before };
    let effect = client.preview_lock(&preview).await?;
    output.show(&effect, |effect| {
        vec![
            ("target", preview.target.to_string()),
            ("certificates", effect.certificates.to_string()),
            ("sessions", effect.sessions.to_string()),
            ("hosts", effect.hosts.to_string()),
        ]
    })?;
    Ok(())
}

async fn add(client: &Client, it: Add, output: &mut Output) -> Result<ExitCode, Failure> {
    let Add { issued_before, reason, ttl, yes, effect, .. } = it;
    let target = target(it.target)?;
    if !yes {
        let preview = LockPreview { target: target.clone(), issued_before };
        confirm(&target, client.preview_lock(&preview).await?)?;
    }
    let locked = client.lock(&LockRequest { target, issued_before, reason, ttl }).await?;
    output.show(&locked, rows)?;
    let code = effect::show(client, locked.change, effect.wait, output).await?;
    effect::warn_of_tickets(locked.logon_certificates, output)?;
    Ok(code)
}

/// Nobody is locked out without somebody's yes.
fn confirm(target: &LockTarget, effect: LockEffect) -> Result<(), Failure> {
    let hits = format!(
        "a lock on {target} revokes {} and ends {}, on {}",
        effect::certificates(effect.certificates),
        effect::counted(effect.sessions, "session"),
        effect::counted(effect.hosts, "host"),
    );
    if !terminal::is_there() {
        return Err(Failure::Usage {
            what: format!("there is no terminal to ask at: {hits}"),
            hint: Some("say --yes if that is meant".to_owned()),
        });
    }
    terminal::tell(&hits);
    if terminal::agrees("Lock it?")? {
        return Ok(());
    }
    Err(Failure::Usage { what: "not confirmed: nothing was locked".to_owned(), hint: None })
}

async fn remove(client: &Client, it: Remove, output: &mut Output) -> Result<(), Failure> {
    let target = target(it.target)?;
    let removed = client.unlock(&UnlockRequest { target, reason: it.reason }).await?;
    if removed.locks.is_empty() {
        terminal::tell("there was no such lock; `chancery lock list` shows those in force");
    }
    list(&removed, output)
}

/// Prints locks.
pub(super) fn list(locks: &Locks, output: &mut Output) -> Result<(), Failure> {
    if output.is_json() {
        locks.locks.iter().try_for_each(|lock| output.line(lock))?;
    } else {
        let rows: Vec<_> = locks.locks.iter().map(row).collect();
        let heads = ["ID", "TARGET", "ISSUED BEFORE", "ENDS", "BY", "SINCE", "REASON"];
        output.table(Some(heads), &rows)?;
    }
    Ok(())
}

fn rows(locked: &Locked) -> Vec<(&'static str, String)> {
    vec![
        ("lock", locked.lock.id.to_string()),
        ("target", locked.lock.target.to_string()),
        ("issued before", locked.lock.issued_before.map(time).unwrap_or_default()),
        ("ends", locked.lock.expires_at.map_or_else(|| "when it is removed".to_owned(), time)),
        ("revoked", effect::certificates(locked.revoked)),
        ("ended", effect::counted(locked.sessions, "session")),
    ]
}

fn row(lock: &Lock) -> [String; 7] {
    [
        lock.id.to_string(),
        lock.target.to_string(),
        lock.issued_before.map_or_else(|| "-".to_owned(), |then| then.to_string()),
        lock.expires_at.map_or_else(|| "never".to_owned(), time),
        lock.locked_by.clone(),
        time(lock.locked_at),
        lock.reason.clone(),
    ]
}

fn target(target: Target) -> Result<LockTarget, Failure> {
    target.parse().map_err(|what| Failure::Usage {
        what,
        hint: Some("`chancery lock add --help` shows the words".to_owned()),
    })
}
