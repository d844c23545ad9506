//! `chanceryd token probe`: what the token is, what it has, how fast it signs, and what follows
//! for the configuration.
//!
//! The module is loaded in a worker, as always; this half only asks and judges.

mod judge;
mod report;
mod text;

use std::{io, num::NonZero, thread, time::Duration};

use pki::{
    handoff::{Handoff, HandoffError},
    token::{KeyRef, TokenError},
};
use thiserror::Error;
use tokio::time::timeout;

use crate::{
    config::Config,
    launcher::Launcher,
    signing::process::{Launch, START, WorkerProcess},
    worker::wire::{Probe, Settings},
};
pub use report::{Finding, Key, Level, Login, Rate, Recommendation, Report, Sessions, Severity};
pub(crate) use report::{Survey, Told};

/// The token could not be probed.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "each variant's message says what it is")]
pub enum ProbeError {
    #[error("the hand-off of the ceremony cannot be used")]
    Handoff(#[from] HandoffError),
    #[error("token.label is {configured:?}, but the ceremony's token is {pinned:?}")]
    TokenLabel { configured: String, pinned: String },
    #[error("the token cannot be used")]
    Token(#[from] TokenError),
    #[error("the token worker failed while {step}: {reason}")]
    Worker { step: String, reason: String },
}

/// Logs in once, as a start of the appliance would, reads and measures, and judges what it finds.
/// Signs for `seconds` with each number of sessions; 0 measures nothing. `progress` hears what is
/// done next.
///
/// # Errors
///
/// See [`ProbeError`]; a refused PIN is none, but a finding.
pub async fn probe(
    config: &Config,
    launcher: Launcher,
    seconds: u8,
    progress: &mut dyn FnMut(&str),
) -> Result<Report, ProbeError> {
    let handoff = Handoff::read(&config.handoff)?;
    if handoff.token.label != config.token.label {
        let (configured, pinned) = (config.token.label.clone(), handoff.token.label);
        return Err(ProbeError::TokenLabel { configured, pinned });
    }
    let (online, offline) = keys(&handoff);
    let settings = settings(config, &handoff, Probe { seconds, offline: refs(&offline) }, &online);
    let launch = Launch::this_program(launcher, settings);
    let survey = ask(launch, seconds, progress).await?;
    Ok(report(config, &online, &offline, survey))
}

/// A key with its place in the hand-off.
type Placed<'a> = (String, &'a KeyRef);

/// Those that the appliance signs with, and the others.
fn keys(handoff: &Handoff) -> (Vec<Placed<'_>>, Vec<Placed<'_>>) {
    let offline = handoff.x509.values().filter(|ca| !ca.online).map(|ca| &ca.key);
    handoff.keys().partition(|(_, key)| !offline.clone().any(|other| other == *key))
}

fn refs(keys: &[Placed<'_>]) -> Vec<KeyRef> {
    keys.iter().map(|(_, key)| (*key).clone()).collect()
}

fn settings(config: &Config, handoff: &Handoff, probe: Probe, online: &[Placed<'_>]) -> Settings {
    let (directory, identity) = (&config.state_directory, handoff.token.clone());
    let settings = Settings::new(&config.token, directory, identity, refs(online));
    Settings { sessions: 1, probe: Some(probe), ..settings }
}

async fn ask(
    mut launch: Launch,
    seconds: u8,
    progress: &mut dyn FnMut(&str),
) -> Result<Survey, ProbeError> {
    let mut step = "starting".to_owned();
    let failed = |step: String, error: &io::Error| {
        let reason = error.to_string();
        ProbeError::Worker { step, reason }
    };
    let mut worker = match launch.start_probe() {
        Ok(worker) => worker,
        Err(error) => return Err(failed(step, &error)),
    };
    loop {
        match next(&mut worker, seconds).await {
            Ok(Told::Step(next)) => {
                progress(&next);
                step = next;
            }
            Ok(Told::Survey(survey)) => return Ok(*survey),
            Ok(Told::Failed(error)) => return Err(error.into()),
            Err(error) => {
                let ended = worker.kill().await;
                return Err(failed(step, &io::Error::other(format!("{error} ({ended})"))));
            }
        }
    }
}

async fn next(worker: &mut WorkerProcess, seconds: u8) -> io::Result<Told> {
    let patience = START + 2 * Duration::from_secs(seconds.into());
    let frame = timeout(patience, worker.frame()).await.map_err(|_| {
        let what = format!("it hung for {} s", patience.as_secs());
        io::Error::new(io::ErrorKind::TimedOut, what)
    })??;
    Ok(serde_json::from_slice(&frame)?)
}

fn report(
    config: &Config,
    online: &[Placed<'_>],
    offline: &[Placed<'_>],
    survey: Survey,
) -> Report {
    let places = online.iter().map(|key| (key, true)).chain(offline.iter().map(|key| (key, false)));
    let keys = places.zip(survey.keys).map(|(((place, key), online), told)| {
        let (told, failure) = match told {
            Ok(told) => (Some(told), None),
            Err(error) => (None, Some(error.to_string())),
        };
        Key {
            place: place.clone(),
            label: key.label.clone(),
            id: key.id.clone(),
            algorithm: key.public_key.algorithm(),
            public_key_sha256: key.public_key.fingerprint(),
            online,
            told,
            failure,
        }
    });
    let mut report = Report {
        schema: Report::SCHEMA,
        module: config.token.module.clone(),
        processors: thread::available_parallelism().map_or(1, NonZero::get),
        sandbox: survey.sandbox,
        token: survey.token,
        login: survey.login,
        keys: keys.collect(),
        sessions: survey.sessions,
        rates: survey.rates,
        findings: Vec::new(),
        recommendation: None,
    };
    report.findings = judge::findings(&report, &config.token);
    report.recommendation = judge::recommendation(&report);
    report
}
