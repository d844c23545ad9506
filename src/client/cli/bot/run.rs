//! `chancery bot run` and `status`: the agent of a bot.

use std::{path::Path, process::ExitCode, sync::Arc};

use client::bot::{Agent, OutputStatus, Status, config::Config, stored_status};
use pki::clock::{Clock, SystemClock};

use crate::cli::{
    agent::{failure, start_log, stop},
    arguments::{Global, bot::Run},
    failure::{Failure, REFUSED},
    output::{Output, time},
};

pub(super) async fn run(global: &Global, it: &Run, output: &mut Output) -> Result<(), Failure> {
    let config = config(global)?;
    start_log();
    let stopped = stop()?;
    let agent = Agent::new(config, Arc::new(SystemClock));
    let agent = agent.map_err(|error| failure(&error, error.hint()))?;
    if it.once {
        let status = tokio::select! {
            status = agent.once() => status,
            () = stopped => return Ok(()),
        };
        let status = status.map_err(|error| failure(&error, error.hint()))?;
        return Ok(show(&status, None, output)?);
    }
    // Without systemd there is nobody to tell.
    let ready = || drop(sd_notify::notify(&[sd_notify::NotifyState::Ready]));
    agent.run(ready, stopped).await.map_err(|error| failure(&error, error.hint()))
}

/// Exit code 1 when no agent runs, or something is wrong.
pub(super) fn status(global: &Global, output: &mut Output) -> Result<ExitCode, Failure> {
    let config = config(global)?;
    let stored = stored_status(&config).map_err(|error| failure(&error, error.hint()))?;
    let Some((status, runs)) = stored else {
        return Err(Failure::Usage {
            what: format!("no agent has run on {} yet", config.state_directory().display()),
            hint: Some("start it with `chancery bot run`".to_owned()),
        });
    };
    show(&status, Some(runs), output)?;
    let well = runs && status.is_ready(SystemClock.now());
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::from(REFUSED) })
}

fn show(status: &Status, runs: Option<bool>, output: &mut Output) -> std::io::Result<()> {
    if output.is_json() {
        return output.line(status);
    }
    let own = status.identity.as_ref();
    let runs = runs.map(|runs| if runs { "runs" } else { "does not run" }.to_owned());
    output.rows(&[
        ("bot", status.name.to_string()),
        ("appliance", status.server.clone()),
        ("agent", runs.unwrap_or_default()),
        ("instance", own.map(|it| it.instance.clone()).unwrap_or_default()),
        ("generation", own.map(|it| it.generation.to_string()).unwrap_or_default()),
        ("own certificate", own.map_or("none yet".to_owned(), |it| until(it.not_after))),
        ("withdrawn", status.withdrawn.clone().unwrap_or_default()),
        ("problem", status.problem.clone().unwrap_or_default()),
    ])?;
    if status.outputs.is_empty() {
        return Ok(());
    }
    output.text("\n")?;
    let heads = ["OUTPUT", "ROLE", "VALID UNTIL", "NEXT ATTEMPT", "PROBLEM"];
    let rows: Vec<_> = status.outputs.iter().map(|(name, it)| row(name, it)).collect();
    output.table(Some(heads), &rows)
}

fn row(name: &str, it: &OutputStatus) -> [String; 5] {
    let end = it.not_after.map_or("nothing yet".to_owned(), time);
    let next = it.next_attempt.map(time).unwrap_or_default();
    [name.to_owned(), it.role.clone(), end, next, it.problem.clone().unwrap_or_default()]
}

fn until(end: jiff::Timestamp) -> String {
    format!("until {}", time(end))
}

fn config(global: &Global) -> Result<Config, Failure> {
    let path = global.config.as_deref().unwrap_or(Path::new(Config::FILE));
    Config::read(path).map_err(|error| failure(&error, error.hint()))
}
