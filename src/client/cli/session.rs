//! `chancery session`: access for a purpose, from its request to its end.

use std::{process::ExitCode, time::Duration};

use api::{Because, Decision, Session, SessionQuery, SessionState};
#[cfg(unix)]
use api::{Problem, ProblemKind};
use client::{Client, Error, session};

use super::{
    arguments::session::{End, List, Request, SessionCommand},
    effect,
    failure::{Failure, REFUSED},
    output::{Output, time},
    terminal::tell,
};

pub(super) use client::session::{cause_words, state_word, why_not_open};

pub(super) async fn run(
    client: &Client,
    command: SessionCommand,
    output: &mut Output,
) -> Result<ExitCode, Failure> {
    let session = match command {
        SessionCommand::Request(it) => return request(client, it, output).await,
        SessionCommand::List(it) => return list(client, it, output).await,
        SessionCommand::End(it) => return end(client, it, output).await,
        SessionCommand::Approve(it) => {
            client.approve_session(&it.id, &Because { reason: it.reason }).await?
        }
        SessionCommand::Deny(it) => {
            client.deny_session(&it.id, &Because { reason: it.reason }).await?
        }
        SessionCommand::Heartbeat(it) => client.session_heartbeat(&it.id).await?,
        SessionCommand::Show(it) => client.session(&it.id).await?,
        #[cfg(unix)]
        SessionCommand::Watch => return super::ssh::watch(client, output).await,
        #[cfg(unix)]
        SessionCommand::Exec(it) => return Err(super::ssh::exec(it)),
    };
    output.show(&session, rows)?;
    Ok(ExitCode::SUCCESS)
}

/// As [`session::wait_until_decided`], and says on the terminal what it waits for.
pub(super) async fn wait_until_decided(
    client: &Client,
    session: Session,
    patience: Option<Duration>,
) -> Result<Session, Error> {
    session::wait_until_decided(client, session, patience, tell).await
}

async fn request(client: &Client, it: Request, output: &mut Output) -> Result<ExitCode, Failure> {
    let wait = it.wait;
    let mut session = client.request_session(&it.into()).await?;
    let Some(patience) = wait else {
        output.show(&session, rows)?;
        return Ok(ExitCode::SUCCESS);
    };
    session = wait_until_decided(client, session, patience).await?;
    output.show(&session, rows)?;
    if session.state == SessionState::Open {
        return Ok(ExitCode::SUCCESS);
    }
    tell(format!("session {} is not open: {}", session.id, why_not_open(&session)));
    Ok(ExitCode::from(REFUSED))
}

async fn list(client: &Client, it: List, output: &mut Output) -> Result<ExitCode, Failure> {
    let query =
        SessionQuery { state: it.state, role: it.role, requester: it.requester, limit: it.limit };
    let sessions = client.sessions(&query).await?.sessions;
    if output.is_json() {
        sessions.iter().try_for_each(|session| output.line(session))?;
    } else {
        let rows: Vec<_> = sessions.iter().map(row).collect();
        output.table(
            Some(["ID", "STATE", "ROLE", "REQUESTER", "TARGETS", "WHEN", "REASON"]),
            &rows,
        )?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn end(client: &Client, it: End, output: &mut Output) -> Result<ExitCode, Failure> {
    let ended = client.end_session(&it.id, &Because { reason: it.reason }).await?;
    output.show(&ended, |ended| {
        vec![
            ("session", ended.session.id.clone()),
            ("state", state_word(ended.session.state).to_owned()),
            ("revoked", effect::certificates(ended.revoked)),
        ]
    })?;
    let code = effect::show(client, ended.change, it.effect.wait, output).await?;
    effect::warn_of_tickets(ended.logon_certificates, output)?;
    Ok(code)
}

fn rows(session: &Session) -> Vec<(&'static str, String)> {
    let when = |then: Option<_>| then.map(time).unwrap_or_default();
    let waits = (session.state == SessionState::Waiting).then_some(session.waits_until);
    let beat = session.heartbeat.map(|seconds| format!("needed every {seconds} s"));
    let mut rows = vec![
        ("session", session.id.clone()),
        ("state", state_word(session.state).to_owned()),
        ("role", session.role.clone()),
        ("requester", session.requester.clone()),
        ("reason", session.reason.clone()),
        ("targets", joined(&session.targets)),
        ("certificates", session.certificate_roles.join(", ")),
        ("from", joined(&session.source_addresses)),
        ("command", session.force_command.clone().unwrap_or_default()),
        ("one use", if session.one_use { "yes".to_owned() } else { String::new() }),
        ("length", length(session.ttl)),
        ("heartbeat", beat.unwrap_or_default()),
        ("approvals", approvals(session)),
    ];
    rows.extend(session.decisions.iter().map(|it| ("", decision(it))));
    rows.extend([
        ("requested", time(session.requested_at)),
        ("waits until", when(waits)),
        ("opened", when(session.opened_at)),
        ("ends", when(session.ends_at.filter(|_| session.state == SessionState::Open))),
        ("ended", when(session.ended_at)),
        ("ended by", session.end_cause.map(cause_words).unwrap_or_default().to_owned()),
    ]);
    rows
}

fn row(session: &Session) -> [String; 7] {
    let when = match session.state {
        SessionState::Waiting => Some(("until", session.waits_until)),
        SessionState::Open => session.ends_at.map(|end| ("until", end)),
        _ => session.ended_at.map(|end| ("since", end)),
    };
    [
        session.id.clone(),
        state_word(session.state).to_owned(),
        session.role.clone(),
        session.requester.clone(),
        joined(&session.targets),
        when.map(|(word, then)| format!("{word} {}", time(then))).unwrap_or_default(),
        session.reason.clone(),
    ]
}

fn approvals(session: &Session) -> String {
    let given = session.decisions.iter().filter(|it| it.approved).count();
    match session.approvals_needed {
        0 => String::new(),
        needed => format!("{given} of {needed}"),
    }
}

fn decision(decision: &Decision) -> String {
    let said = if decision.approved { "approved" } else { "denied" };
    let at = time(decision.at);
    format!("{said} by {}, {at}: {}", decision.approver, decision.reason)
}

fn joined<T: ToString>(values: impl IntoIterator<Item = T>) -> String {
    values.into_iter().map(|it| it.to_string()).collect::<Vec<_>>().join(", ")
}

fn length(seconds: u32) -> String {
    let parts = [(seconds / 3_600, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s")];
    let parts = parts.iter().filter(|(count, _)| *count > 0);
    parts.map(|(count, unit)| format!("{count}{unit}")).collect::<Vec<_>>().join(" ")
}

/// The appliance's refusal of a session that is not open.
#[cfg(unix)]
pub(super) fn not_open(session: &Session) -> Failure {
    let detail = format!("session {} is not open: {}", session.id, why_not_open(session));
    Error::Problem(Box::new(Problem::new(ProblemKind::Denied, detail))).into()
}
