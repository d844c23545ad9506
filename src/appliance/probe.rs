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
    token::{KeyRef, TokenError, pkcs11::TokenIdentity},
};
use thiserror::Error;
use tokio::time::timeout;

use crate::{
    config::{self, Config},
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
    #[error("no replica has the serial number {serial:?}")]
    NoReplica { serial: String },
    #[error("token.label is {configured:?}, but the ceremony's token is {pinned:?}")]
    TokenLabel { configured: String, pinned: String },
    #[error("the token cannot be used")]
    Token(#[from] TokenError),
    #[error("the token worker failed while {step}: {reason}")]
    Worker { step: String, reason: String },
}

/// Logs in once, as a start of the appliance would, reads and measures, and judges what it finds:
/// of the ceremony's token, or of the replica with this serial number. Signs for `seconds` with each number of sessions; 0 measures nothing. `progress` hears what is
/// done next.
///
/// # Errors
///
/// See [`ProbeError`]; a refused PIN is none, but a finding.
pub async fn probe(
    config: &Config,
    replica: Option<&str>,
    launcher: Launcher,
    seconds: u8,
    progress: &mut dyn FnMut(&str),
) -> Result<Report, ProbeError> {
    let handoff = Handoff::read(&config.handoff)?;
    let (token, identity) = token(config, &handoff, replica)?;
    let (online, offline) = keys(&handoff);
    let probe = Probe { seconds, offline: refs(&offline) };
    let settings = Settings::new(token, &config.state_directory, identity, refs(&online));
    let settings = Settings { sessions: 1, probe: Some(probe), ..settings };
    let launch = Launch::this_program(launcher, settings);
    let survey = ask(launch, seconds, progress).await?;
    Ok(report(token, &online, &offline, survey))
}

/// The token that is meant, and what tells it from others.
fn token<'a>(
    config: &'a Config,
    handoff: &Handoff,
    replica: Option<&str>,
) -> Result<(&'a config::Token, TokenIdentity), ProbeError> {
    if let Some(serial) = replica {
        let is_meant = |token: &&config::Token| token.serial.as_deref() == Some(serial);
        let token = config.replicas.iter().find(is_meant);
        let token = token.ok_or_else(|| ProbeError::NoReplica { serial: serial.to_owned() })?;
        return Ok((token, token.identity()));
    }
    if handoff.token.label != config.token.label {
        let (configured, pinned) = (config.token.label.clone(), handoff.token.label.clone());
        return Err(ProbeError::TokenLabel { configured, pinned });
    }
    Ok((&config.token, handoff.token.clone()))
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
    token: &config::Token,
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
        module: token.module.clone(),
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
    report.findings = judge::findings(&report, token);
    report.recommendation = judge::recommendation(&report, token);
    report
}
