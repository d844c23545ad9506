//! `chancery-ceremony`: the command line.

mod share_commands;

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    fs::{self, File},
    io::{self, BufReader, Write as _},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{self, ExitCode},
};

use ceremony::{
    compare::{Comparison, Difference, Text},
    console::Console,
    digest::Digest,
    dry_run::dry_run,
    environment::leave_no_dumps,
    evidence::{Evidence, EvidenceError, Sources, hash_of},
    failure::Failure,
    inventory::Inventory,
    journal::PowerLoss,
    name::Name,
    paper::{Paper, html, pdf},
    people::Statement,
    plan::{Plan, PlanError, Step},
    qr,
    rehearsal::{Faults, Rehearsal, Rehearsed, SoftToken},
    report::report,
    run::{Beginning, FoundKey, PinInForce, Place, Resumption, resume, run},
    script::script,
    site::Site,
    status::{Status, add},
    token_profile::{KnownToken, probe},
    transcript::{Attendance, Event},
    trust::Trusted,
    verify::Verified,
    words::spoken,
};
use clap::{Args, Parser, Subcommand, ValueEnum};
use pki::{
    clock::{Clock as _, SystemClock},
    token::pkcs11::{Module, ObjectFound},
};
use serde_json::{Value, json};

use share_commands::{ShareCommand, share};

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
    /// Check a plan, run it dry on throwaway software keys, and say what it would do.
    #[command(visible_alias = "lint")]
    Plan(PlanArguments),
    /// Print the script of a plan: what is followed and filled in at the ceremony.
    Script(ScriptArguments),
    /// Sign the hash of a plan that may be performed.
    Approve(ApproveArguments),
    /// Find out what a kind of token does, on one that has nothing to lose.
    Probe(ProbeArguments),
    /// Perform a plan on a software token whose keys are thrown away.
    Rehearse(RehearseArguments),
    /// Make the token of a rehearsal.
    #[command(hide = true)]
    RehearsalToken(RehearsalTokenArguments),
    /// Perform a plan on a token.
    Run(RunArguments),
    /// Go on with a ceremony that was interrupted.
    Resume(ResumeArguments),
    /// Say where a ceremony stands.
    Status(StatusArguments),
    /// Record that something happened that the plan does not have.
    Except(ExceptArguments),
    /// Give a ceremony up; it cannot be gone on with.
    Abort(AbortArguments),
    /// Gather all evidence of a ceremony in one file.
    Bundle(BundleArguments),
    /// What custodians do with their shares between ceremonies.
    #[command(subcommand)]
    Share(ShareCommand),
    /// Check a transcript or a bundle, and what was handed off, without the token.
    Verify(VerifyArguments),
    /// Tell where a ceremony is not what was rehearsed.
    Compare(CompareArguments),
    /// Print what was done at a ceremony, when and by whom, and what auditors ask for.
    Report(ReportArguments),
    /// List what a token has, and compare it with a transcript.
    Inventory(InventoryArguments),
    /// Write the hand-off of a whole transcript again.
    HandOff(HandOffArguments),
}

#[derive(Clone, Copy, ValueEnum)]
enum Template {
    /// A certificate of another root by an offline root.
    Cross,
    /// Every kind of key, in a token that is initialized already.
    Demo,
    /// A root with a copy in a second token.
    BackupAndRestore,
    /// The certificate of an issuing CA on another machine, by an offline root.
    IssueIntermediate,
    /// An issuing CA whose certificate comes from another machine.
    Issuing,
    /// The end of a root: a last revocation list, then nothing is left of its key.
    KeyDestruction,
    /// An offline root with its first revocation list, on a machine of its own.
    OfflineRoot,
    /// A token's PINs, split anew among custodians.
    PinRotation,
    /// A root's successor beside it, each certified by the other.
    RollOver,
    /// A root and one issuing CA, in a token that is initialized first.
    RootAndIssuing,
    /// The next revocation list of an offline root.
    RootCrl,
    /// A root and an issuing CA for smart cards and domain controllers.
    SmartCards,
    /// SSH CAs alone.
    Ssh,
}

impl Template {
    fn text(self) -> &'static str {
        match self {
            Self::Cross => include_str!("plans/cross.toml"),
            Self::Demo => include_str!("plans/demo.toml"),
            Self::BackupAndRestore => include_str!("plans/backup-and-restore.toml"),
            Self::IssueIntermediate => include_str!("plans/issue-intermediate.toml"),
            Self::Issuing => include_str!("plans/issuing.toml"),
            Self::KeyDestruction => include_str!("plans/key-destruction.toml"),
            Self::OfflineRoot => include_str!("plans/offline-root.toml"),
            Self::PinRotation => include_str!("plans/pin-rotation.toml"),
            Self::RollOver => include_str!("plans/roll-over.toml"),
            Self::RootAndIssuing => include_str!("plans/root-and-issuing.toml"),
            Self::RootCrl => include_str!("plans/root-crl.toml"),
            Self::SmartCards => include_str!("plans/smart-cards.toml"),
            Self::Ssh => include_str!("plans/ssh.toml"),
        }
    }
}

#[derive(Args)]
struct PlanArguments {
    /// The plan (TOML).
    plan: PathBuf,
    /// What `probe` found out of the kind of token that it is for.
    #[arg(long, value_name = "FILE")]
    token_profile: Option<PathBuf>,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct ScriptArguments {
    /// The plan (TOML).
    plan: PathBuf,
    #[command(flatten)]
    pages: PagesArguments,
}

#[derive(Args)]
struct ReportArguments {
    /// The transcript, or the bundle.
    transcript: PathBuf,
    #[command(flatten)]
    pages: PagesArguments,
}

#[derive(Args)]
#[group(required = true, multiple = true)]
struct PagesArguments {
    /// Where the pages go as a web page, which stands alone; must not exist.
    #[arg(short = 'o', long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Where they go as a PDF; must not exist.
    #[arg(long, value_name = "FILE")]
    pdf: Option<PathBuf>,
}

#[derive(Args)]
struct ApproveArguments {
    /// The plan (TOML).
    plan: PathBuf,
    /// Who you are, as the plan names you.
    #[arg(long = "as", value_name = "NAME")]
    name: Name,
    /// Your private SSH key; the public one, if an agent has the private one.
    #[arg(long)]
    key: PathBuf,
    /// Where the signature goes; must not exist.
    #[arg(short, long)]
    output: PathBuf,
}

#[derive(Args)]
struct ProbeArguments {
    /// The site (TOML): the module, the tokens that are kept, and in [scratch] the PIN files of this one.
    #[arg(long)]
    site: PathBuf,
    /// The serial number of a token of the same kind that has nothing to lose.
    #[arg(long, value_name = "SERIAL")]
    scratch_token: String,
    /// Initialize it first, as `token-init` does.
    #[arg(long)]
    initialize: bool,
    /// Where the profile goes (JSON), which `plan`, `run` and `bundle` take; must not exist.
    #[arg(short, long)]
    output: Option<PathBuf>,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct RehearseArguments {
    /// The plan (TOML).
    plan: PathBuf,
    /// On what: softhsm or kryoptic, and =MODULE where it is in no usual place.
    #[arg(long, default_value = "softhsm")]
    on: Vec<SoftToken>,
    /// Kill the ceremony and go on with it: in all places where it can be killed, or in so many.
    #[arg(long, value_name = "all|NUMBER")]
    faults: Option<Faults>,
    /// Which places chance takes, where they are not all: the same for the same seed.
    #[arg(long, requires = "faults", default_value_t = 1)]
    seed: u64,
    /// The PKCS#11 module that dies when it is told; beside this program, unless said otherwise.
    #[arg(long)]
    shim: Option<PathBuf>,
    /// Do not mark the certificates, so that their texts are those of the ceremony. The keys are
    /// destroyed as in each rehearsal.
    #[arg(long)]
    faithful: bool,
    /// Where the transcript of the rehearsal goes, which `run` wants to see; must not exist.
    #[arg(short, long)]
    output: Option<PathBuf>,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct RehearsalTokenArguments {
    /// The site.
    site: PathBuf,
    /// The one that copies of keys go into.
    #[arg(long)]
    backup: bool,
}

#[derive(Args)]
struct InventoryArguments {
    /// The site (TOML): module, token, PIN file.
    #[arg(long)]
    site: PathBuf,
    /// The transcript of a ceremony on this token; all of them, in any order.
    #[arg(long, value_name = "FILE")]
    against: Vec<PathBuf>,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct RunArguments {
    /// The plan (TOML).
    plan: PathBuf,
    #[command(flatten)]
    place: PlaceArguments,
    /// The transcript of a rehearsal of this plan, which a ceremony with people takes.
    #[arg(long)]
    rehearsal: Option<PathBuf>,
    /// What `probe` found out of this kind of token.
    #[arg(long, value_name = "FILE")]
    token_profile: Option<PathBuf>,
    /// An approval of the plan; as many as its quorum wants.
    #[arg(long = "approval", value_name = "FILE")]
    approvals: Vec<PathBuf>,
    /// Ask for no confirmation. For tests and demonstrations: the transcript says so.
    #[arg(long)]
    unattended: bool,
    /// It is a rehearsal: `rehearse` runs it so.
    #[arg(long, hide = true, conflicts_with = "unattended")]
    rehearsed: bool,
    /// In a rehearsal: certificates are not marked.
    #[arg(long, hide = true, requires = "rehearsed")]
    faithful: bool,
    /// Answer in JSON on standard output; what is done is told on standard error.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct PlaceArguments {
    /// The site (TOML): module, token, PIN files.
    #[arg(long)]
    site: PathBuf,
    #[command(flatten)]
    journals: JournalArguments,
    /// Where the hand-off directory goes, if the plan hands something off; must not exist.
    #[arg(long)]
    handoff: Option<PathBuf>,
    /// The directory in which requests go out (NAME.csr) and certificates come back (NAME.pem), if
    /// the plan speaks with other machines.
    #[arg(long, value_name = "DIRECTORY")]
    exchange: Option<PathBuf>,
    /// Die at this write of a journal, in a rehearsal.
    #[arg(long, hide = true, value_name = "LINE:HOW")]
    power_loss: Option<PowerLoss>,
}

#[derive(Args)]
struct JournalArguments {
    /// A journal of the ceremony, which becomes its transcript: name two, on two media.
    #[arg(long = "journal", value_name = "FILE", required = true)]
    journals: Vec<PathBuf>,
}

#[derive(Args)]
struct ResumeArguments {
    #[command(flatten)]
    place: PlaceArguments,
    /// What interrupted it.
    #[arg(long)]
    reason: String,
    /// What becomes of a key pair whose making was interrupted.
    #[arg(long)]
    found_key: Option<FoundKeyArgument>,
    /// Which PIN is the token's, if the change of it was interrupted: it is tried once.
    #[arg(long, default_value = "new")]
    pin: PinArgument,
    /// Answer in JSON on standard output; what is done is told on standard error.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum FoundKeyArgument {
    /// It is checked as a new one, and taken.
    Adopt,
    /// It is destroyed, and another one is made.
    Destroy,
}

#[derive(Clone, Copy, ValueEnum)]
enum PinArgument {
    /// The one before the change.
    Former,
    /// The one that the new shares give.
    New,
}

#[derive(Args)]
struct StatusArguments {
    #[command(flatten)]
    journals: JournalArguments,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct ExceptArguments {
    #[command(flatten)]
    journals: JournalArguments,
    /// Who says so, as the plan names them.
    #[arg(long = "by", value_name = "NAME")]
    by: Vec<Name>,
    /// What happened.
    #[arg(long)]
    text: String,
}

#[derive(Args)]
struct AbortArguments {
    #[command(flatten)]
    journals: JournalArguments,
    /// Who says so, as the plan names them.
    #[arg(long = "by", value_name = "NAME")]
    by: Vec<Name>,
    /// Why.
    #[arg(long)]
    reason: String,
}

#[derive(Args)]
struct BundleArguments {
    /// The transcript.
    transcript: PathBuf,
    /// The transcript of the rehearsal that it names.
    #[arg(long)]
    rehearsal: Option<PathBuf>,
    /// The site file, as it was then.
    #[arg(long)]
    site: Option<PathBuf>,
    /// The profile of the kind of token that the plan was compared with.
    #[arg(long, value_name = "FILE")]
    token_profile: Option<PathBuf>,
    /// A file to be put in: a photo, a scan, a report.
    #[arg(long = "attach", value_name = "FILE")]
    attachments: Vec<PathBuf>,
    /// A file that is too large to be put in: its hash is.
    #[arg(long = "hash-of", value_name = "FILE")]
    elsewhere: Vec<PathBuf>,
    /// The bundle of the ceremony before this one.
    #[arg(long, value_name = "BUNDLE")]
    previous: Option<PathBuf>,
    /// Where the bundle goes; must not exist.
    #[arg(short, long)]
    output: PathBuf,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct VerifyArguments {
    /// The transcript, or the bundle.
    transcript: PathBuf,
    /// The plan that it must be of.
    #[arg(long)]
    plan: Option<PathBuf>,
    /// The hand-off directory that it must give.
    #[arg(long)]
    handoff: Option<PathBuf>,
    /// The rehearsal that came before it.
    #[arg(long)]
    rehearsal: Option<PathBuf>,
    /// The head that was written down at the ceremony.
    #[arg(long)]
    head: Option<Digest>,
    /// The words of the head that were written down: ten, or all.
    #[arg(long)]
    words: Option<String>,
    /// The words of the plan that were approved: ten, or all.
    #[arg(long, value_name = "WORDS")]
    plan_words: Option<String>,
    /// The keys of people from elsewhere, as `ssh-keygen -Y verify` takes them: whoever did something must be
    /// among them.
    #[arg(long, value_name = "ALLOWED_SIGNERS")]
    trust: Option<PathBuf>,
    /// The bundle of the ceremony before this one, if it is a bundle.
    #[arg(long, value_name = "BUNDLE")]
    previous: Option<PathBuf>,
    /// The SHA-256 of the bundle that was written down.
    #[arg(long, value_name = "SHA256")]
    sum: Option<Digest>,
    /// Write the head as a QR code (SVG), to be printed; must not exist.
    #[arg(long, value_name = "FILE")]
    qr: Option<PathBuf>,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct CompareArguments {
    /// The transcript of the rehearsal.
    rehearsal: PathBuf,
    /// The transcript or the bundle of the ceremony itself.
    production: PathBuf,
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

fn bundle(arguments: &BundleArguments) -> Result<Answer, Failure> {
    let previous = arguments.previous.as_deref().map(read).transpose()?;
    if let Some(content) = &previous {
        Evidence::read(content)?;
    }
    let mut sources = Sources {
        transcript: read(&arguments.transcript)?,
        rehearsal: arguments.rehearsal.as_deref().map(read).transpose()?,
        site: arguments.site.as_deref().map(read).transpose()?,
        token_profile: arguments.token_profile.as_deref().map(read).transpose()?,
        attachments: BTreeMap::new(),
        elsewhere: BTreeMap::new(),
        previous: previous.as_deref().map(Digest::of_file),
    };
    for path in &arguments.attachments {
        if sources.attachments.insert(file_name(path), read(path)?).is_some() {
            return Err(Failure::SameName(file_name(path)));
        }
    }
    for path in &arguments.elsewhere {
        let hash = hash_of(path).map_err(|source| Failure::Read { path: path.clone(), source })?;
        if sources.elsewhere.insert(file_name(path), hash).is_some() {
            return Err(Failure::SameName(file_name(path)));
        }
    }
    let evidence = Evidence::collect(sources)?;
    let content = evidence.to_bytes();
    write_new(&arguments.output, &content)?;
    let (sum, output) = (Digest::of_file(&content), arguments.output.display());
    let (files, verifier) = (evidence.files.len(), Digest::of_file(evidence.second_verifier()));
    let value = || {
        json!({
            "output": arguments.output,
            "files": files,
            "sha256": sum,
            "words": spoken(sum),
            "head": evidence.verified.head,
            "verify_py_sha256": verifier,
        })
    };
    let text = || {
        format!(
            "bundle {output}, {files} files\nwrite down its SHA-256:\nsha256 {sum}\n       {}\n\
             verify.py in it has the SHA-256\n       {verifier}",
            spoken(sum)
        )
    };
    Ok(Answer::new(arguments.json, value, text))
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(path).map_err(|source| Failure::Read { path: path.to_owned(), source })
}

fn verify(arguments: &VerifyArguments) -> Result<Answer, Failure> {
    let content = read(&arguments.transcript)?;
    let (verified, evidence) = verified(&content)?;
    if let Some(path) = &arguments.previous {
        let (previous, named) = (read(path)?, evidence.as_ref().and_then(|it| it.about.previous));
        Evidence::read(&previous)?;
        let found = Digest::of_file(&previous);
        if named != Some(found) {
            return Err(EvidenceError::OtherPrevious { found }.into());
        }
    }
    if let Some(wanted) = arguments.sum {
        let found = Digest::of_file(&content);
        if found != wanted {
            return Err(EvidenceError::OtherSum { found, wanted }.into());
        }
    }
    if let Some(path) = &arguments.plan {
        verified.check_plan(&Plan::read(path)?)?;
    }
    if let Some(path) = &arguments.rehearsal {
        verified.check_rehearsal(&Verified::read(path)?)?;
    }
    if let Some(head) = arguments.head {
        verified.check_head(head)?;
    }
    if let Some(words) = &arguments.words {
        verified.check_words(words)?;
    }
    if let Some(words) = &arguments.plan_words {
        verified.check_plan_words(words)?;
    }
    if let Some(path) = &arguments.trust {
        Trusted::read(path)?.check(&verified)?;
    }
    if let Some(directory) = &arguments.handoff {
        verified.check_handoff(directory)?;
    }
    if let Some(path) = &arguments.qr {
        write_new(path, qr::to_svg(verified.head).as_bytes())?;
    }
    let text = || {
        let bundle = evidence.as_ref().map(|it| evidence_text(it, &content)).unwrap_or_default();
        format!("{}{bundle}", verified_text(&verified))
    };
    let value = || {
        let mut value = verified_json(&verified);
        value["bundle"] = evidence.as_ref().map_or(Value::Null, |it| evidence_json(it, &content));
        value
    };
    Ok(Answer::new(arguments.json, value, text))
}

fn compare(arguments: &CompareArguments) -> Result<Answer, Failure> {
    let (rehearsal, _) = verified(&read(&arguments.rehearsal)?)?;
    let (production, _) = verified(&read(&arguments.production)?)?;
    let comparison = Comparison::new(&rehearsal, &production);
    let unexpected = comparison.unexpected();
    let value = || json!({ "unexpected": unexpected, "comparison": comparison });
    let answer = Answer::new(arguments.json, value, || comparison_text(&comparison));
    if unexpected == 0 {
        return Ok(answer);
    }
    answer.print().map_err(Failure::Terminal)?;
    Err(Failure::Compared(unexpected))
}

fn comparison_text(comparison: &Comparison) -> String {
    let mut text = String::new();
    for (name, Text { expected, unexpected }) in &comparison.texts {
        text += &format!("{name}: {} differ with the keys\n", expected.join(", "));
        for Difference { field, rehearsal, production } in unexpected {
            let [first, second] = [rehearsal, production].map(|it| it.as_deref().unwrap_or("none"));
            text +=
                &format!("different: {name}, {field}\n  rehearsed {first}\n  done      {second}\n");
        }
    }
    comparison.steps.iter().for_each(|step| text += &format!("different: {step}\n"));
    if comparison.unexpected() == 0 {
        text += "nothing else differs: what was done is what was rehearsed";
    }
    text.trim_end().to_owned()
}

/// What was verified: a transcript, or a bundle.
fn verified(content: &[u8]) -> Result<(Verified, Option<Evidence>), Failure> {
    // A transcript begins with a record, a bundle with the name of its first file.
    if content.starts_with(b"{") {
        return Ok((Verified::from_bytes(content)?, None));
    }
    let evidence = Evidence::read(content)?;
    Ok((evidence.verified.clone(), Some(evidence)))
}

fn evidence_json(evidence: &Evidence, content: &[u8]) -> Value {
    json!({
        "sha256": Digest::of_file(content),
        "files": evidence.files.keys().collect::<Vec<_>>(),
        "previous": evidence.about.previous,
        "explained_by": evidence.about.tool,
        "verify_py_sha256": Digest::of_file(evidence.second_verifier()),
    })
}

fn evidence_text(evidence: &Evidence, content: &[u8]) -> String {
    let previous = match evidence.about.previous {
        Some(previous) => format!("after the bundle\n       {previous}\n"),
        None => String::new(),
    };
    let explained = if evidence.is_explained_by_this_version() {
        String::new()
    } else {
        format!("README.txt, clauses.json and verify.py are by {}\n", evidence.about.tool)
    };
    format!(
        "\nbundle of {} files: nothing is wrong\n{previous}{explained}sha256 {}\nverify.py in it \
         has the SHA-256\n       {}",
        evidence.files.len(),
        Digest::of_file(content),
        Digest::of_file(evidence.second_verifier())
    )
}

fn verified_json(verified: &Verified) -> Value {
    json!({
        "id": verified.progress.plan.script().id,
        "plan_hash": verified.progress.plan.hash(),
        "attendance": verified.progress.opened.attendance,
        "rehearsal": verified.progress.opened.rehearsal,
        "approved_by": verified.progress.opened.approvals.keys().collect::<Vec<_>>(),
        "signed_off_by": verified.progress.present(),
        "interruptions": verified.progress.interruptions,
        "exceptions": verified.progress.exceptions,
        "records": verified.records,
        "head": verified.head,
        "words": spoken(verified.head),
    })
}

fn verified_text(verified: &Verified) -> String {
    let (progress, head) = (&verified.progress, verified.head);
    let plan = &progress.plan;
    let attendance = match progress.opened.attendance {
        Attendance::Attended => "attended: each step was confirmed",
        Attendance::Rehearsed => {
            "rehearsed: the keys are gone, and nobody may use what they signed"
        }
        Attendance::Unattended => "unattended: nobody confirmed a step",
    };
    let names = |names: &mut dyn Iterator<Item = &Name>| {
        names.map(Name::as_str).collect::<Vec<_>>().join(", ")
    };
    let people = match progress.present() {
        present if present.is_empty() => String::new(),
        present => format!(
            "approved by {}; signed off by {}\n",
            names(&mut progress.opened.approvals.keys()),
            names(&mut present.iter())
        ),
    };
    let changeable = match &progress.opened.changeable_keys {
        Some(reason) => format!("the token lets attributes of keys be changed: {reason}\n"),
        None => String::new(),
    };
    let interruptions = match progress.interruptions {
        0 => String::new(),
        1 => "interrupted once, and gone on with\n".to_owned(),
        many => format!("interrupted {many} times, and gone on with\n"),
    };
    let exceptions: String =
        progress.exceptions.iter().map(|text| format!("exception: {text}\n")).collect();
    format!(
        "ceremony {}, {} records, {} keys, {} certificates: nothing is wrong\n{attendance}\n\
         {people}{changeable}{interruptions}{exceptions}plan {}\nhead {head}\n     {}",
        plan.script().id,
        verified.records,
        plan.keys().count(),
        plan.certificates().count(),
        plan.hash(),
        spoken(head)
    )
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
