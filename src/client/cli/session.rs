//! `chancery session`: access for a purpose, from its request to its end.

use std::{process::ExitCode, time::Duration};

#[cfg(unix)]
use api::Problem;
use api::{Because, Decision, EndCause, ProblemKind, Session, SessionQuery, SessionState};
use client::{Client, Error};
use tokio::time::{Instant, sleep};

use super::{
    arguments::session::{End, List, Request, SessionCommand},
    effect,
    failure::{Failure, REFUSED},
    output::{Output, printable, time},
    terminal::tell,
};

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

/// Waits until a session waits no more, or until `patience` is over; says on the terminal what it
/// waits for. An appliance that is away for a while is waited for, too.
///
/// # Errors
///
/// The appliance refuses to say how it stands, or is away when the session must have expired.
pub(super) async fn wait_until_decided(
    client: &Client,
    mut session: Session,
    patience: Option<Duration>,
) -> Result<Session, Error> {
    let begun = Instant::now();
    let over = |pause| patience.is_some_and(|patience| begun.elapsed() + pause > patience);
    let mut pause = SHORTEST_PAUSE;
    let mut told = None;
    while session.state == SessionState::Waiting && !over(pause) {
        let missing = approvals_missing(&session);
        if told.replace(missing) != Some(missing) {
            tell(waiting_for(&session, missing));
        }
        sleep(pause).await;
        pause = (pause * 3 / 2).min(LONGEST_PAUSE);
        session = match client.session(&session.id).await {
            Ok(session) => session,
            Err(error) if is_passing(&error) && !must_have_expired(&session, begun) => continue,
            Err(error) => return Err(error),
        };
    }
    Ok(session)
}

/// Whether it is worth asking again soon.
pub(super) fn is_passing(error: &Error) -> bool {
    match error {
        Error::Connect { .. } | Error::Interrupted { .. } | Error::Timeout { .. } => true,
        Error::Problem(problem) => {
            matches!(problem.kind, ProblemKind::TooManyRequests | ProblemKind::Unavailable)
        }
        _ => false,
    }
}

/// The word for a state.
pub(super) fn state_word(state: SessionState) -> &'static str {
    match state {
        SessionState::Denied => "denied",
        SessionState::Ended => "ended",
        SessionState::Expired => "expired",
        SessionState::Open => "open",
        SessionState::Waiting => "waiting",
    }
}

/// What a person is told of a session that is not open: who decided what, or what ended it.
pub(super) fn why_not_open(session: &Session) -> String {
    let last = session.decisions.last();
    match (session.state, last) {
        (SessionState::Denied, Some(Decision { approver, reason, .. })) => {
            format!("{approver} denied it: {}", printable(reason))
        }
        (SessionState::Expired, _) => "nobody approved it in time".to_owned(),
        (SessionState::Ended, _) => {
            let cause = session.end_cause.map_or("something", cause_words);
            format!("{cause} ended it")
        }
        (SessionState::Waiting, _) => "it still waits for approvals".to_owned(),
        (state, _) => format!("it is {}", state_word(state)),
    }
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

fn approvals_missing(session: &Session) -> usize {
    let given = session.decisions.iter().filter(|it| it.approved).count();
    usize::from(session.approvals_needed).saturating_sub(given)
}

fn waiting_for(session: &Session, missing: usize) -> String {
    let approvals = if missing == 1 { "approval" } else { "approvals" };
    format!(
        "session {id} waits for {missing} {approvals}, until {}; an approver runs: chancery \
         session approve {id} --reason TEXT",
        time(session.waits_until),
        id = session.id,
    )
}

fn decision(decision: &Decision) -> String {
    let said = if decision.approved { "approved" } else { "denied" };
    let at = time(decision.at);
    format!("{said} by {}, {at}: {}", decision.approver, decision.reason)
}

fn cause_words(cause: EndCause) -> &'static str {
    match cause {
        EndCause::Heartbeat => "the loss of its heartbeat",
        EndCause::Lock => "a lock",
        EndCause::Request => "somebody's request",
        EndCause::Time => "its time",
    }
}

/// Its own waiting is over, by the clock that counted since it was seen last.
fn must_have_expired(session: &Session, begun: Instant) -> bool {
    let waiting = session.waits_until.duration_since(session.requested_at).unsigned_abs();
    begun.elapsed() > waiting
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

const SHORTEST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
