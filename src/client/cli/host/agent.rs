//! The commands that run on a host.

use std::{path::Path, process::ExitCode, sync::Arc, time::Duration};

use client::host::{
    Agent, AgentError, Answer, Ask, ConnectionStatus, Status, ask,
    config::Config,
    doctor::{Finding, Patient, Severity, SshdSettings, examine},
    join::{JoinError, Joining},
};
use pki::clock::{Clock, SystemClock};

use super::{
    super::{
        agent::{failure, start_log, stop},
        arguments::{
            Global,
            host::{AgentStatus, Doctor, Join, Principals},
        },
        failure::{Failure, REFUSED},
        output::{Output, time},
    },
    word,
};

pub(super) async fn join(global: Global, it: Join, output: &mut Output) -> Result<(), Failure> {
    let missing = |flag: &str| usage(format!("--{flag} is not given"), None);
    let joining = Joining {
        server: global.server.ok_or_else(|| missing("server"))?,
        ca: global.ca.ok_or_else(|| missing("ca"))?,
        token_file: it.token_file,
        state_directory: it.state_directory,
        deadline: global.deadline.unwrap_or(DEADLINE),
    };
    let joined = client::host::join::join(&joining, SystemClock.now()).await;
    let member = joined.map_err(|error| match error {
        JoinError::Client(error) => Failure::Client(error),
        other => failure(&other, other.hint()),
    })?;
    output.rows(&[
        ("joined", joining.server.to_string()),
        ("as", member.name.as_str().to_owned()),
        ("mode", word(member.mode).to_owned()),
        ("state", joining.state_directory.display().to_string()),
    ])?;
    Ok(())
}

pub(super) async fn run(global: &Global) -> Result<(), Failure> {
    let config = config(global)?;
    start_log();
    let stopped = stop()?;
    let started = Agent::new(config, Arc::new(SystemClock));
    let agent = started.map_err(|error: AgentError| failure(&error, error.hint()))?;
    // Without systemd there is nobody to tell.
    let ready = || drop(sd_notify::notify(&[sd_notify::NotifyState::Ready]));
    agent.run(ready, stopped).await;
    Ok(())
}

pub(super) fn principals(it: Principals, output: &mut Output) -> Result<(), Failure> {
    let question = Ask::Principals { user: it.user, certificate: it.certificate };
    match question_for(&it.socket, &question)? {
        Answer::Principals(principals) => {
            let lines = principals.iter().map(|principal| format!("{}\n", principal.as_str()));
            output.text(&lines.collect::<String>())?;
            Ok(())
        }
        Answer::Refused(why) => Err(usage(why, None)),
        Answer::Status(_) => Err(unexpected()),
    }
}

pub(super) fn status(it: &AgentStatus, output: &mut Output) -> Result<(), Failure> {
    let status = match question_for(&it.socket, &Ask::Status)? {
        Answer::Status(status) => status,
        Answer::Refused(why) => return Err(usage(why, Some("ask as root".to_owned()))),
        Answer::Principals(_) => return Err(unexpected()),
    };
    if output.is_json() {
        return Ok(output.line(&status)?);
    }
    output.rows(&rows(&status))?;
    if !status.connections.is_empty() {
        output.text("\n")?;
        let heads = ["SSHD", "ACCOUNT", "KEY ID", "SERIAL", "VALID UNTIL"];
        let rows: Vec<_> = status.connections.iter().map(connection).collect();
        output.table(Some(heads), &rows)?;
    }
    Ok(())
}

/// Exit code 1 when something must change; warnings alone are told, and no more.
pub(super) fn doctor(
    global: &Global,
    it: &Doctor,
    output: &mut Output,
) -> Result<ExitCode, Failure> {
    let config = config(global)?;
    let users = it.users.iter().map(|user| Some(user.clone()));
    let mut findings: Vec<Finding> = Vec::new();
    for user in std::iter::once(None).chain(users) {
        let patient = Patient { sshd: it.sshd.clone(), sshd_config: it.sshd_config.clone(), user };
        let settings = SshdSettings::ask(&patient);
        let settings = settings.map_err(|error| failure(&error, None))?;
        for finding in examine(&settings, &config) {
            if !findings.contains(&finding) {
                findings.push(finding);
            }
        }
    }
    if output.is_json() {
        output.line(&findings)?;
    } else {
        output.text(&findings.iter().map(text).collect::<String>())?;
    }
    let bad = findings.iter().any(|it| it.severity == Severity::Error);
    Ok(if bad { ExitCode::from(REFUSED) } else { ExitCode::SUCCESS })
}

fn text(finding: &Finding) -> String {
    let Finding { severity, about, found, wanted, why } = finding;
    let severity = match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    format!("{severity}: {about}: {found}\n  {wanted}\n  # {why}\n")
}

fn rows(status: &Status) -> Vec<(&'static str, String)> {
    let problems = status.problems.iter().cloned().collect::<Vec<_>>();
    vec![
        ("host", status.name.as_str().to_owned()),
        ("appliance", status.server.clone()),
        ("mode", word(status.mode).to_owned()),
        ("revocations", status.version.map(|it| it.to_string()).unwrap_or("none yet".to_owned())),
        ("good until", status.not_after.map(time).unwrap_or_default()),
        ("last news", status.last_news.map(time).unwrap_or_default()),
        ("closed", status.closed.clone().unwrap_or_default()),
        ("own certificate", format!("until {}", time(status.client_certificate_not_after))),
        ("problems", problems.join("; ")),
    ]
}

fn connection(it: &ConnectionStatus) -> [String; 5] {
    let process = it.process.to_string();
    [process, it.user.clone(), it.key_id.clone(), it.serial.to_string(), time(it.valid_before)]
}

fn config(global: &Global) -> Result<Config, Failure> {
    let path = global.config.as_deref().unwrap_or(Path::new(Config::FILE));
    Config::read(path).map_err(|error| failure(&error, error.hint()))
}

fn question_for(socket: &Path, question: &Ask) -> Result<Answer, Failure> {
    let start = || Some("is the agent running? `systemctl status chancery-host`".to_owned());
    ask(socket, question).map_err(|error| failure(&error, start()))
}

fn usage(what: String, hint: Option<String>) -> Failure {
    Failure::Usage { what, hint }
}

fn unexpected() -> Failure {
    usage("the agent answered another question".to_owned(), None)
}

const DEADLINE: Duration = Duration::from_secs(60);
