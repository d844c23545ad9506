//! `chancery-card session`: a certificate for as long as a session is open, and off the card at its
//! end, whatever ends it.

use std::time::Duration;

use api::{Because, Session, SessionRequest, SessionState};
use card::{
    Credentials, Slot,
    enrolment::{Content, EnrolmentError, Wanted},
    wipe::{Wiped, wipe},
};
use client::{
    Client,
    output::{Output, time},
    session::{is_passing, wait_until_decided, why_not_open},
};
use pki::clock::{Clock, SystemClock};
use serde::Serialize;
use tokio::time::sleep;

use super::{
    appliance::{self, certify, terms},
    arguments::session::InSession,
    choice::Chosen,
    failure::Failure,
    order::Order,
    secrets::credentials,
    stop::Stop,
    terminal::tell,
    upkeep::rows_of,
};

/// How it ended.
#[derive(Serialize)]
struct Ended {
    session: String,
    state: SessionState,
    slot: Slot,
    #[serde(flatten)]
    wiped: Wiped,
}

pub(super) async fn run(it: &InSession, output: &mut Output) -> Result<(), Failure> {
    // 1. Whatever can be wrong without the card is found before it is touched, and what is wrong
    //    with the card before anybody is asked to approve.
    let client = it.connection.client()?;
    let session_role = session_role(it)?;
    let mut terms = terms(&it.connection, &it.grant, None, it.upn.clone())?;
    let (chosen, credentials) = credentials(&it.access)?;
    refuse_used(&chosen, it.slot)?;
    let mut stop = Stop::listen().map_err(Failure::Signals)?;
    // 2. The session.
    let request = SessionRequest {
        role: session_role,
        reason: it.reason.clone(),
        targets: it.targets.iter().cloned().collect(),
        ttl: it.length,
        source_addresses: Default::default(),
        force_command: None,
        one_use: false,
    };
    let session = client.request_session(&request).await?;
    let id = session.id.clone();
    let decided = tokio::select! {
        decided = wait_until_decided(&client, session, it.wait, tell) => Some(decided),
        () = stop.wanted() => None,
    };
    let session = match decided {
        Some(Ok(session)) if session.state == SessionState::Open => session,
        Some(Ok(session)) => {
            let why = why_not_open(&session);
            end(&client, &id, "it was not waited for any longer").await;
            return Err(Failure::NotOpen { id, why });
        }
        Some(Err(error)) => {
            end(&client, &id, "the appliance could not be asked any longer").await;
            return Err(error.into());
        }
        None => {
            end(&client, &id, "it was not waited for any longer").await;
            return Err(Failure::Stopped);
        }
    };
    // 3. The certificate, as long as the session is open. From here on, the slot is the session's.
    terms.session = Some(id.clone());
    let used = tokio::select! {
        used = use_it(it, &client, &chosen, &credentials, &session, terms, output) => used,
        () = stop.wanted() => Ok(()),
    };
    // 4. Off the card, and over; one does not wait for the other to succeed.
    let wiped = chosen.with(|card| Ok(wipe(card, it.slot, &credentials)?));
    Order::drop_any(&chosen, it.slot)?;
    let state = end(&client, &id, "done").await;
    used?;
    let wiped =
        wiped.map_err(|failure| Failure::LeftOnCard { slot: it.slot, why: failure.text() })?;
    let ended = Ended { session: id, state, slot: it.slot, wiped };
    output.show(&ended, |it| {
        let state = if it.state == SessionState::Open { "STILL OPEN" } else { "ended" };
        let mut rows = vec![("session", it.session.clone()), ("state", state.to_owned())];
        rows.extend(rows_of(it.slot, it.wiped));
        rows
    })?;
    match ended.state {
        SessionState::Open => Err(Failure::StillOpen { id: ended.session }),
        _ => Ok(()),
    }
}

/// Puts the certificate on the card, and comes back when the session is over.
async fn use_it(
    it: &InSession,
    client: &Client,
    chosen: &Chosen,
    credentials: &Credentials,
    session: &Session,
    terms: super::order::Terms,
    output: &mut Output,
) -> Result<(), Failure> {
    let wanted = Wanted::Free(it.key);
    let report = certify(client, chosen, credentials, it.slot, wanted, terms).await?;
    appliance::show(&report, chosen, output)?;
    let until = session.ends_at.map(|end| format!(", at the latest {}", time(end)));
    tell(format!(
        "the certificate is on the card until session {} ends{}; Ctrl-C ends it",
        session.id,
        until.unwrap_or_default(),
    ));
    until_it_ends(client, session.clone()).await
}

/// Asks again and again how the session stands, and says that it is still needed.
async fn until_it_ends(client: &Client, mut session: Session) -> Result<(), Failure> {
    let pause = session
        .heartbeat
        .map_or(PAUSE, |seconds| Duration::from_millis(u64::from(seconds) * 300).min(PAUSE));
    while session.state == SessionState::Open {
        sleep(pause).await;
        let asked = match session.heartbeat {
            Some(_) => client.session_heartbeat(&session.id).await,
            None => client.session(&session.id).await,
        };
        session = match asked {
            Ok(session) => session,
            // By its own time it is over, whether anybody says so or not.
            Err(error) if is_passing(&error) => {
                if session.ends_at.is_some_and(|end| SystemClock.now() > end) {
                    break;
                }
                continue;
            }
            // A heartbeat of a session that is over is refused.
            Err(client::Error::Problem(_)) if session.heartbeat.is_some() => {
                client.session(&session.id).await?
            }
            Err(error) => return Err(error.into()),
        };
    }
    tell(format!("session {} is over", session.id));
    Ok(())
}

/// Ends a session if nothing else has, and tells how it stands then.
async fn end(client: &Client, id: &str, reason: &str) -> SessionState {
    let because = Because { reason: reason.to_owned() };
    match client.end_session(id, &because).await {
        Ok(ended) => ended.session.state,
        Err(_) => client.session(id).await.map_or(SessionState::Open, |session| session.state),
    }
}

/// A slot that is to be wiped at the end must have nothing in it that somebody would miss.
fn refuse_used(chosen: &Chosen, slot: Slot) -> Result<(), Failure> {
    let content = chosen.with(|card| Ok(Content::of(card, slot)?))?;
    let what = match (content.certificate.is_some(), &content.key) {
        (true, _) => "a certificate",
        (_, Some((_, false))) => "an imported key",
        _ => return Ok(()),
    };
    Err(EnrolmentError::InUse { slot, what }.into())
}

fn session_role(it: &InSession) -> Result<String, Failure> {
    if let Some(role) = &it.session_role {
        return Ok(role.clone());
    }
    let file = it.connection.profile_file()?;
    let role = file.session_role(it.connection.profile.as_deref())?;
    Ok(role.ok_or(Failure::NoSessionRole)?.to_owned())
}

const PAUSE: Duration = Duration::from_secs(2);
