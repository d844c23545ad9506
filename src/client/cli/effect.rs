//! Where a change is in force: an ended session, a lock, a revocation.

use std::{io, process::ExitCode, time::Duration};

use api::{Effect, HostEffect};
use client::Client;

use super::{
    failure::{Failure, REFUSED},
    output::{Output, time},
};

/// Prints the effect of a change once it is complete, or as it is after `wait`; prints nothing
/// without one. Says whether it was complete.
pub(super) async fn show(
    client: &Client,
    change: u64,
    wait: Option<Duration>,
    output: &mut Output,
) -> Result<ExitCode, Failure> {
    let Some(patience) = wait else { return Ok(ExitCode::SUCCESS) };
    let effect = client.effect(change, patience).await?;
    if output.is_json() {
        output.line(&effect)?;
    } else {
        output.rows(&[("published", published(&effect))])?;
        let rows: Vec<_> = effect.hosts.iter().map(row).collect();
        let heads = (!rows.is_empty()).then_some(["HOST", "IN FORCE", "CUT"]);
        output.table(heads, &rows)?;
    }
    let complete =
        effect.version.is_some() && effect.hosts.iter().all(|host| host.applied_after.is_some());
    Ok(if complete { ExitCode::SUCCESS } else { ExitCode::from(REFUSED) })
}

/// Says plainly what no revocation takes back.
pub(super) fn warn_of_tickets(logon_certificates: u64, output: &mut Output) -> io::Result<()> {
    if logon_certificates == 0 || output.is_json() {
        return Ok(());
    }
    output.text(&format!(
        "\nnote: {} for smart-card logon. A Kerberos ticket that was obtained with one\n\
         outlives it, until the ticket expires; so does a Windows session. The second lever is the\n\
         directory hook, which disables the account at the end of a session (docs/sessions.md).\n",
        match logon_certificates {
            1 => "1 of them is".to_owned(),
            count => format!("{count} of them are"),
        },
    ))
}

/// A number of certificates, in words.
pub(super) fn certificates(count: u64) -> String {
    counted(count, "certificate")
}

/// A number of things, in words.
pub(super) fn counted(count: u64, thing: &str) -> String {
    format!("{count} {thing}{}", if count == 1 { "" } else { "s" })
}

fn published(effect: &Effect) -> String {
    match (effect.version, effect.published_after) {
        (Some(version), Some(after)) => format!("after {after} ms, as version {version}"),
        (Some(version), None) => format!("as version {version}"),
        (None, _) => "not yet".to_owned(),
    }
}

fn row(host: &HostEffect) -> [String; 3] {
    let applied = match (host.applied_after, host.last_seen) {
        (Some(after), _) => format!("after {after} ms"),
        (None, Some(then)) => format!("NOT YET, last heard of {}", time(then)),
        (None, None) => "NOT YET, never heard of".to_owned(),
    };
    [host.host.clone(), applied, counted(host.cut.into(), "connection")]
}
