//! Sessions as a caller sees them: waiting for approvals, and the words for what became of one.

use std::time::Duration;

use api::{Decision, EndCause, ProblemKind, Session, SessionState};
use tokio::time::{Instant, sleep};

use crate::{
    Client, Error,
    output::{printable, time},
};

/// Waits until a session waits no more, or until `patience` is over; says by `tell` what
/// it waits for. An appliance that is away for a while is waited for, too.
///
/// # Errors
///
/// The appliance refuses to say how it stands, or is away when the session must have expired.
pub async fn wait_until_decided(
    client: &Client,
    mut session: Session,
    patience: Option<Duration>,
    tell: impl Fn(String),
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
pub fn is_passing(error: &Error) -> bool {
    match error {
        Error::Connect { .. } | Error::Interrupted { .. } | Error::Timeout { .. } => true,
        Error::Problem(problem) => {
            matches!(problem.kind, ProblemKind::TooManyRequests | ProblemKind::Unavailable)
        }
        _ => false,
    }
}

/// The word for a state.
pub fn state_word(state: SessionState) -> &'static str {
    match state {
        SessionState::Denied => "denied",
        SessionState::Ended => "ended",
        SessionState::Expired => "expired",
        SessionState::Open => "open",
        SessionState::Waiting => "waiting",
    }
}

/// What a person is told of a session that is not open: who decided what, or what ended it.
pub fn why_not_open(session: &Session) -> String {
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

/// What ended it, in words.
pub fn cause_words(cause: EndCause) -> &'static str {
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

const SHORTEST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
