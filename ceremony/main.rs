//! `chancery-ceremony`: the command line.

mod arguments;
mod evidence_commands;
mod share_commands;

use std::{
    collections::BTreeSet,
    env,
    fs::{self, File},
    io::{self, BufReader, Write as _},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{self, ExitCode},
};

use ceremony::{
    console::Console,
    digest::Digest,
    dry_run::dry_run,
    environment::leave_no_dumps,
    failure::Failure,
    inventory::Inventory,
    paper::{Paper, html, pdf},
    people::Statement,
    plan::{Plan, PlanError, Step},
    qr,
    rehearsal::{Faults, Rehearsal, Rehearsed},
    report::report,
    run::{Beginning, FoundKey, PinInForce, Place, Resumption, resume, run},
    script::script,
    site::Site,
    status::{Status, add},
    token_profile::{KnownToken, probe},
    transcript::{Attendance, Event},
    verify::Verified,
    words::spoken,
};
use clap::Parser;
use pki::{
    clock::{Clock as _, SystemClock},
    token::pkcs11::{Module, ObjectFound},
};
use serde_json::{Value, json};

use arguments::{
    AbortArguments, ApproveArguments, Arguments, Command, ExceptArguments, FoundKeyArgument,
    HandOffArguments, InventoryArguments, PagesArguments, PinArgument, PlaceArguments,
    PlanArguments, ProbeArguments, RehearsalTokenArguments, RehearseArguments, ReportArguments,
    ResumeArguments, RunArguments, ScriptArguments, StatusArguments,
};
use evidence_commands::{bundle, compare, verified, verify};
use share_commands::share;

fn main() -> ExitCode {
    // Where the system refuses, the transcript says so.
    let _ = leave_no_dumps();
    let answer = match Arguments::parse().command {
        Command::New { template } => Ok(Answer::Text(template.text().trim_end().to_owned())),
        Command::Plan(arguments) => plan(&arguments),
        Command::Script(arguments) => print_script(&arguments),
        Command::Approve(arguments) => approve(&arguments),
        Command::Probe(arguments) => probe_token(&arguments),
        Command::Rehearse(arguments) => rehearse(arguments),
        Command::RehearsalToken(arguments) => rehearsal_token(&arguments),
        Command::Run(arguments) => perform(arguments),
        Command::Resume(arguments) => go_on(arguments),
        Command::Status(arguments) => status(&arguments),
        Command::Except(arguments) => except(arguments),
        Command::Abort(arguments) => abort(arguments),
        Command::Bundle(arguments) => bundle(&arguments),
        Command::Share(command) => share(&command),
        Command::Verify(arguments) => verify(&arguments),
        Command::Compare(arguments) => compare(&arguments),
        Command::Report(arguments) => print_report(&arguments),
        Command::Inventory(arguments) => inventory(&arguments),
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
    dry_run(&plan)?;
    if let Some(path) = &arguments.token_profile {
        // Where it is used, the site says whether changeable keys are meant.
        KnownToken::read(path)?.check_plan(&plan, true)?;
    }
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
        format!("{steps}dry run on software keys: no finding\nplan {hash}\n     {words}")
    };
    Ok(Answer::new(arguments.json, value, text))
}

/// A step as a line, and its details below it.
fn explained((number, step): (u32, &Step)) -> String {
    let details = step.details().unwrap_or_default();
    let details: String = details.lines().map(|line| format!("     {line}\n")).collect();
    format!("{number:>3}  {step}\n{details}")
}

fn print_script(arguments: &ScriptArguments) -> Result<Answer, Failure> {
    let plan = Plan::read(&arguments.plan)?;
    dry_run(&plan)?;
    print(&script(&plan), &arguments.pages)
}

fn print_report(arguments: &ReportArguments) -> Result<Answer, Failure> {
    let (verified, _) = verified(&read(&arguments.transcript)?)?;
    print(&report(&verified), &arguments.pages)
}

/// Writes pages in the forms that are asked for.
fn print(paper: &Paper, pages: &PagesArguments) -> Result<Answer, Failure> {
    let mut said = Vec::new();
    if let Some(path) = &pages.html {
        write_new(path, html::render(paper).as_bytes())?;
        said.push(format!("printed {}", path.display()));
    }
    if let Some(path) = &pages.pdf {
        write_new(path, &pdf::render(paper)?)?;
        said.push(format!("printed {}", path.display()));
    }
    Ok(Answer::Text(said.join("\n")))
}

fn approve(arguments: &ApproveArguments) -> Result<Answer, Failure> {
    let plan = Plan::read(&arguments.plan)?;
    dry_run(&plan)?;
    let statement = Statement::Approval { plan: plan.hash() };
    let signature = plan.script().people.sign(&arguments.name, statement, &arguments.key)?;
    write_new(&arguments.output, signature.as_bytes())?;
    let (hash, words) = (plan.hash(), spoken(plan.hash()));
    let output = arguments.output.display();
    Ok(Answer::Text(format!("{} approves\nplan {hash}\n     {words}\nin {output}", arguments.name)))
}

fn probe_token(arguments: &ProbeArguments) -> Result<Answer, Failure> {
    let site = Site::read(&arguments.site)?;
    enter_environment(&site)?;
    let (serial, initialize) = (&arguments.scratch_token, arguments.initialize);
    if let Some(path) = arguments.output.as_ref().filter(|path| path.symlink_metadata().is_ok()) {
        return Err(Failure::OutputExists { what: "profile", path: path.clone() });
    }
    let mut console = console(arguments.json);
    let profile = probe(&site, serial, initialize, SystemClock.now(), &mut console)?;
    let mut text = profile.to_string();
    if let Some(path) = &arguments.output {
        let content = format!("{:#}\n", json!(profile));
        write_new(path, content.as_bytes())?;
        let sha256 = Digest::of_file(content.as_bytes());
        text += &format!("\n\nprofile {}\nsha256  {sha256}", path.display());
    }
    Ok(Answer::new(arguments.json, || json!(profile), || text))
}

fn rehearse(arguments: RehearseArguments) -> Result<Answer, Failure> {
    let program = env::current_exe().map_err(Failure::Restart)?;
    let rehearsal = Rehearsal {
        plan: arguments.plan,
        tokens: arguments.on,
        faults: arguments.faults.unwrap_or(Faults::None),
        seed: arguments.seed,
        faithful: arguments.faithful,
        shim: arguments.shim.unwrap_or_else(|| program.with_file_name("libchancery_shim.so")),
        program,
    };
    let Rehearsed { transcript, tokens } = rehearsal.perform()?;
    let mut text: String = tokens.iter().map(|token| format!("{token}\n")).collect();
    if let Some(path) = &arguments.output {
        write_new(path, &transcript)?;
        text += &format!("rehearsal {}", path.display());
    }
    let value = || json!({ "tokens": tokens, "output": arguments.output });
    Ok(Answer::new(arguments.json, value, || text.trim_end().to_owned()))
}

fn write_new(path: &Path, content: &[u8]) -> Result<(), Failure> {
    let at = |source| Failure::Write { path: path.to_owned(), source };
    let mut file = File::create_new(path).map_err(at)?;
    file.write_all(content).and_then(|()| file.sync_all()).map_err(at)
}

fn rehearsal_token(arguments: &RehearsalTokenArguments) -> Result<Answer, Failure> {
    let site = Site::read(&arguments.site)?;
    enter_environment(&site)?;
    let module = Module::load(&site.module()?.path)?;
    let made = {
        let (so_pin, pin) = site.first_pins()?;
        let label = if arguments.backup { &site.backup()?.token.label } else { &site.token.label };
        module.initialize(label, &so_pin, &pin)?
    };
    Ok(Answer::Text(made.to_string()))
}

fn inventory(arguments: &InventoryArguments) -> Result<Answer, Failure> {
    let against = arguments.against.iter().map(|path| Verified::read(path));
    let against = against.collect::<Result<Vec<_>, _>>()?;
    let site = Site::read(&arguments.site)?;
    enter_environment(&site)?;
    let inventory = Inventory::take(&site, &against, &mut console(arguments.json))?;
    let text = || {
        let Inventory { token, objects, differences, .. } = &inventory;
        let mut text = format!("{}\n{} objects\n", token.identity, objects.len());
        for ObjectFound { class, label, id } in objects {
            text += &format!("  {class:<16} {label} {id}\n");
        }
        differences.iter().for_each(|difference| text += &format!("different: {difference}\n"));
        text.trim_end().to_owned()
    };
    let answer = Answer::new(arguments.json, || json!(inventory), text);
    if inventory.differences.is_empty() {
        return Ok(answer);
    }
    answer.print().map_err(Failure::Terminal)?;
    Err(Failure::Inventory(inventory.differences.len()))
}

fn perform(arguments: RunArguments) -> Result<Answer, Failure> {
    let mut place = place(arguments.place)?;
    place.profile = arguments.token_profile.as_deref().map(KnownToken::read).transpose()?;
    let plan = Plan::read(&arguments.plan)?;
    let attendance = match (arguments.rehearsed, arguments.unattended) {
        (true, _) => Attendance::Rehearsed,
        (false, true) => Attendance::Unattended,
        (false, false) => Attendance::Attended,
    };
    let rehearsal = arguments.rehearsal.as_deref().map(Verified::read).transpose()?;
    let approvals = arguments.approvals.iter().map(|path| {
        fs::read_to_string(path).map_err(|source| Failure::Read { path: path.clone(), source })
    });
    let approvals = approvals.collect::<Result<_, _>>()?;
    let faithful = arguments.faithful;
    let beginning = Beginning { attendance, faithful, rehearsal, approvals };
    let mut console = console(arguments.json);
    console.say(&format!("plan {}\n     {}", plan.hash(), spoken(plan.hash())))?;
    let head = run(&plan, &beginning, &place, &SystemClock, &mut console)?;
    Ok(performed(&place, head, arguments.json))
}

fn go_on(arguments: ResumeArguments) -> Result<Answer, Failure> {
    let place = place(arguments.place)?;
    let found_key = arguments.found_key.map(|choice| match choice {
        FoundKeyArgument::Adopt => FoundKey::Adopt,
        FoundKeyArgument::Destroy => FoundKey::Destroy,
    });
    let pin = match arguments.pin {
        PinArgument::Former => PinInForce::Former,
        PinArgument::New => PinInForce::New,
    };
    let resumption = Resumption { reason: arguments.reason, found_key, pin };
    let mut console = console(arguments.json);
    let head = resume(&place, resumption, &SystemClock, &mut console)?;
    Ok(performed(&place, head, arguments.json))
}

fn place(arguments: PlaceArguments) -> Result<Place, Failure> {
    let site = Site::read(&arguments.site)?;
    enter_environment(&site)?;
    let PlaceArguments { journals, handoff, exchange, power_loss, .. } = arguments;
    let (variables, journals) = (variables(), journals.journals);
    Ok(Place { site, journals, handoff, exchange, variables, profile: None, power_loss })
}

fn performed(place: &Place, head: Digest, json: bool) -> Answer {
    let value = || {
        json!({
            "head": head,
            "words": spoken(head),
            "journals": place.journals,
            "handoff": place.handoff,
        })
    };
    let text = || {
        let journals: String =
            place.journals.iter().map(|path| format!("transcript {}\n", path.display())).collect();
        let handoff = place.handoff.as_ref();
        let handoff = handoff.map(|path| format!("hand-off   {}\n", path.display()));
        format!(
            "{journals}{}write down the head of the transcript:\nhead {head}\n     {}\n{}",
            handoff.unwrap_or_default(),
            spoken(head),
            qr::to_terminal(head).trim_end()
        )
    };
    Answer::new(json, value, text)
}

fn status(arguments: &StatusArguments) -> Result<Answer, Failure> {
    let status = Status::read(&arguments.journals.journals)?;
    Ok(Answer::new(arguments.json, || status.to_json(), || status.to_string()))
}

fn except(arguments: ExceptArguments) -> Result<Answer, Failure> {
    let (who, text) = (arguments.by.into_iter().collect(), arguments.text);
    add(&arguments.journals.journals, who, Event::Exception { text }, &SystemClock)?;
    Ok(Answer::Text("recorded".to_owned()))
}

fn abort(arguments: AbortArguments) -> Result<Answer, Failure> {
    let (who, reason) = (arguments.by.into_iter().collect(), arguments.reason);
    add(&arguments.journals.journals, who, Event::Aborted { reason }, &SystemClock)?;
    Ok(Answer::Text("given up; what was made so far stays in the token".to_owned()))
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

/// The names of the environment variables; their values may be secret.
fn variables() -> BTreeSet<String> {
    env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned()).collect()
}

fn console(json: bool) -> Console {
    let input = Box::new(BufReader::new(io::stdin()));
    if json {
        Console::standard(input, Box::new(io::stderr()))
    } else {
        Console::standard(input, Box::new(io::stdout()))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(path).map_err(|source| Failure::Read { path: path.to_owned(), source })
}

fn hand_off(arguments: &HandOffArguments) -> Result<Answer, Failure> {
    let verified = Verified::read(&arguments.transcript)?;
    if verified.progress.opened.attendance == Attendance::Rehearsed {
        return Err(Failure::Rehearsed);
    }
    verified.bundle()?.write(&arguments.handoff)?;
    Ok(Answer::Text(format!("hand-off {}", arguments.handoff.display())))
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
    let findings = match failure {
        Failure::Plan(PlanError::Findings(findings)) => &findings.0,
        Failure::Unable(findings) => findings,
        _ => return String::new(),
    };
    findings.iter().map(|finding| format!("  {}: {}\n", finding.rule, finding.what)).collect()
}
