//! `chancery-ceremony`: the command line.

use std::{
    env,
    io::{self, BufReader, Write as _},
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{self, ExitCode},
};

use ceremony::{
    console::Console,
    digest::Digest,
    failure::Failure,
    plan::{Plan, PlanError, Step},
    rehearsal::rehearse,
    run::{Job, run},
    site::Site,
    transcript::Attendance,
    verify::Verified,
    words::words,
};
use clap::{Args, Parser, Subcommand, ValueEnum};
use pki::clock::SystemClock;
use serde_json::{Value, json};

/// Key ceremonies: CA keys are made in a token, by a plan, on the record.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print a plan to start from.
    New {
        /// Which.
        template: Template,
    },
    /// Check a plan, rehearse it on throwaway software keys, and say what it would do.
    Plan(PlanArguments),
    /// Perform a plan on a token.
    Run(RunArguments),
    /// Check a transcript, and what was handed off, without the token.
    Verify(VerifyArguments),
    /// Write the hand-off of a whole transcript again.
    HandOff(HandOffArguments),
}

#[derive(Clone, Copy, ValueEnum)]
enum Template {
    /// Every kind of key, in a token that is initialized already.
    Demo,
    /// A root and one issuing CA, in a token that is initialized first.
    RootAndIssuing,
}

impl Template {
    fn text(self) -> &'static str {
        match self {
            Self::Demo => include_str!("plans/demo.toml"),
            Self::RootAndIssuing => include_str!("plans/root-and-issuing.toml"),
        }
    }
}

#[derive(Args)]
struct PlanArguments {
    /// The plan (TOML).
    plan: PathBuf,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct RunArguments {
    /// The plan (TOML).
    plan: PathBuf,
    /// The site (TOML): module, token, PIN files.
    #[arg(long)]
    site: PathBuf,
    /// Where the transcript goes; must not exist.
    #[arg(long)]
    transcript: PathBuf,
    /// Where the hand-off directory goes; must not exist.
    #[arg(long)]
    handoff: PathBuf,
    /// Ask for no confirmation. For tests and demonstrations: the transcript says so.
    #[arg(long)]
    unattended: bool,
    /// Answer in JSON on standard output; what is done is told on standard error.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct VerifyArguments {
    /// The transcript.
    transcript: PathBuf,
    /// The plan that it must be of.
    #[arg(long)]
    plan: Option<PathBuf>,
    /// The hand-off directory that it must give.
    #[arg(long)]
    handoff: Option<PathBuf>,
    /// The head that was written down at the ceremony.
    #[arg(long)]
    head: Option<Digest>,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct HandOffArguments {
    /// The transcript.
    transcript: PathBuf,
    /// Where the hand-off directory goes; must not exist.
    #[arg(long)]
    handoff: PathBuf,
}

fn main() -> ExitCode {
    let answer = match Arguments::parse().command {
        Command::New { template } => Ok(Answer::Text(template.text().trim_end().to_owned())),
        Command::Plan(arguments) => plan(&arguments),
        Command::Run(arguments) => perform(&arguments),
        Command::Verify(arguments) => verify(&arguments),
        Command::HandOff(arguments) => hand_off(&arguments),
    };
    match answer.and_then(|answer| answer.print().map_err(Failure::Terminal)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => complain(&failure),
    }
}

/// What a command answers on standard output.
enum Answer {
    Json(Value),
    Text(String),
}

impl Answer {
    fn new(json: bool, value: impl FnOnce() -> Value, text: impl FnOnce() -> String) -> Self {
        if json { Self::Json(value()) } else { Self::Text(text()) }
    }

    fn print(&self) -> io::Result<()> {
        let mut output = io::stdout().lock();
        match self {
            Self::Json(value) => writeln!(output, "{value}"),
            Self::Text(text) => writeln!(output, "{text}"),
        }
    }
}

fn plan(arguments: &PlanArguments) -> Result<Answer, Failure> {
    let plan = Plan::read(&arguments.plan)?;
    rehearse(&plan)?;
    let steps = || plan.steps().map(|(_, step)| step.to_string());
    let value = || {
        json!({
            "plan_hash": plan.hash(),
            "words": spoken(plan.hash()),
            "steps": steps().collect::<Vec<_>>(),
            "plan": plan.script(),
        })
    };
    let text = || {
        let steps: String = plan.steps().map(explained).collect();
        let (hash, words) = (plan.hash(), spoken(plan.hash()));
        format!("{steps}rehearsed on software keys: no finding\nplan {hash}\n     {words}")
    };
    Ok(Answer::new(arguments.json, value, text))
}

/// A step as a line, and its details below it.
fn explained((number, step): (u32, &Step)) -> String {
    let details = step.details().unwrap_or_default();
    let details: String = details.lines().map(|line| format!("     {line}\n")).collect();
    format!("{number:>3}  {step}\n{details}")
}

fn perform(arguments: &RunArguments) -> Result<Answer, Failure> {
    let site = Site::read(&arguments.site)?;
    enter_environment(&site)?;
    let attendance =
        if arguments.unattended { Attendance::Unattended } else { Attendance::Attended };
    let job = Job {
        plan: Plan::read(&arguments.plan)?,
        site,
        transcript: arguments.transcript.clone(),
        handoff: arguments.handoff.clone(),
        attendance,
    };
    let mut console = console(arguments.json);
    console.say(&format!("plan {}\n     {}", job.plan.hash(), spoken(job.plan.hash())))?;
    let head = run(&job, &SystemClock, &mut console)?;
    let value = || {
        json!({
            "plan_hash": job.plan.hash(),
            "head": head,
            "words": spoken(head),
            "transcript": arguments.transcript,
            "handoff": arguments.handoff,
        })
    };
    let text = || {
        let (transcript, handoff) = (arguments.transcript.display(), arguments.handoff.display());
        format!(
            "transcript {transcript}\nhand-off   {handoff}\nwrite down the head of the transcript:\n\
             head {head}\n     {}",
            spoken(head)
        )
    };
    Ok(Answer::new(arguments.json, value, text))
}

/// Starts this program again with the site's variables, unless it has them: a PKCS#11 module reads
/// them when it is loaded, and a process cannot change its own safely.
fn enter_environment(site: &Site) -> Result<(), Failure> {
    // The one look into the environment: it compares, and takes nothing out of it.
    let missing = site.missing_environment(|name| env::var_os(name));
    if missing.is_empty() {
        return Ok(());
    }
    let program = env::current_exe().map_err(Failure::Restart)?;
    let error = process::Command::new(program).args(env::args_os().skip(1)).envs(missing).exec();
    Err(Failure::Restart(error))
}

fn console(json: bool) -> Console {
    let input = Box::new(BufReader::new(io::stdin()));
    if json {
        Console::new(input, Box::new(io::stderr()))
    } else {
        Console::new(input, Box::new(io::stdout()))
    }
}

fn verify(arguments: &VerifyArguments) -> Result<Answer, Failure> {
    let verified = Verified::read(&arguments.transcript)?;
    if let Some(path) = &arguments.plan {
        verified.check_plan(&Plan::read(path)?)?;
    }
    if let Some(head) = arguments.head {
        verified.check_head(head)?;
    }
    if let Some(directory) = &arguments.handoff {
        verified.check_handoff(directory)?;
    }
    Ok(Answer::new(arguments.json, || verified_json(&verified), || verified_text(&verified)))
}

fn verified_json(verified: &Verified) -> Value {
    json!({
        "id": verified.plan.script().id,
        "plan_hash": verified.plan.hash(),
        "attendance": verified.opened.attendance,
        "records": verified.records,
        "head": verified.head,
        "words": spoken(verified.head),
    })
}

fn verified_text(verified: &Verified) -> String {
    let (plan, head) = (&verified.plan, verified.head);
    let attendance = match verified.opened.attendance {
        Attendance::Attended => "attended: each step was confirmed",
        Attendance::Unattended => "unattended: nobody confirmed a step",
    };
    format!(
        "ceremony {}, {} records, {} keys, {} certificates: nothing is wrong\n{attendance}\nplan {}\n\
         head {head}\n     {}",
        plan.script().id,
        verified.records,
        plan.keys().count(),
        plan.certificates().count(),
        plan.hash(),
        spoken(head)
    )
}

fn hand_off(arguments: &HandOffArguments) -> Result<Answer, Failure> {
    Verified::read(&arguments.transcript)?.bundle()?.write(&arguments.handoff)?;
    Ok(Answer::Text(format!("hand-off {}", arguments.handoff.display())))
}

/// The first ten bytes in words: short enough to be read aloud, long enough that nobody finds
/// another text with the same.
fn spoken(digest: Digest) -> String {
    words(&digest.as_bytes()[..10])
}

fn complain(failure: &Failure) -> ExitCode {
    let mut output = io::stderr().lock();
    let mut report = format!("error: {}\n", failure.message());
    report.push_str(&findings(failure));
    report.push_str(&format!("\nhint: {}\n", failure.hint()));
    // Where standard error is gone, the exit code still tells.
    let _ = output.write_all(report.as_bytes());
    ExitCode::from(failure.exit_code())
}

fn findings(failure: &Failure) -> String {
    let Failure::Plan(PlanError::Findings(findings)) = failure else { return String::new() };
    findings.0.iter().map(|finding| format!("  {}: {}\n", finding.rule, finding.what)).collect()
}
