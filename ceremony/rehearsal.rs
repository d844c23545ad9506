//! The rehearsal: the whole plan on a software token that lives in a private directory and goes
//! with it; and, on demand, again and again with the process killed in another place.
//!
//! Each ceremony is a process of its own, the same program as the real one, because a process
//! loads a PKCS#11 module once, and because only another process can be killed.

use std::{
    ffi::OsStr,
    fmt,
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::{
        fs::{DirBuilderExt as _, OpenOptionsExt as _},
        process::ExitStatusExt as _,
    },
    panic::resume_unwind,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    str::FromStr,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use tempfile::TempDir;
use thiserror::Error;

use crate::{
    journal::{PowerLoss, Written},
    plan::{Plan, PlanError},
    verify::{Verified, VerifyError},
};

/// What is rehearsed, on what, and how hard.
#[derive(Clone, Debug)]
pub struct Rehearsal {
    /// The plan's file.
    pub plan: PathBuf,
    /// The program that is rehearsed: this one.
    pub program: PathBuf,
    /// On what.
    pub tokens: Vec<SoftToken>,
    /// How often it is killed on each.
    pub faults: Faults,
    /// Certificates are not marked, so that their texts are those of the ceremony.
    pub faithful: bool,
    /// The PKCS#11 module that forwards to the token's, and dies when it is told.
    pub shim: PathBuf,
}

/// A software token.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SoftToken {
    /// Whose.
    pub kind: Kind,
    /// Its PKCS#11 module.
    pub module: PathBuf,
}

/// The software tokens that can be rehearsed on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Kryoptic.
    Kryoptic,
    /// SoftHSM 2.
    SoftHsm,
}

/// In how many of the places where a ceremony can be killed it is killed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Faults {
    /// In every one.
    All,
    /// In none.
    None,
    /// In so many, evenly spread.
    Spread(usize),
}

/// A rehearsal that came to its end everywhere.
#[derive(Clone, Debug)]
pub struct Rehearsed {
    /// The transcript of the first one, which was not disturbed.
    pub transcript: Vec<u8>,
    /// What was done on each token.
    pub tokens: Vec<TokenRehearsed>,
}

/// A plan that came to its end on a software token, whatever happened.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Serialize)]
pub struct TokenRehearsed {
    /// Whose.
    pub token: Kind,
    /// The places where a journal is written, three for each line: before, in the middle, after.
    pub writes: usize,
    /// The calls of PKCS#11 functions.
    pub calls: usize,
    /// In how many of these the process was killed, and the ceremony went on to the same end.
    pub killed: usize,
}

/// Where a ceremony is killed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Point {
    /// When this PKCS#11 function is called for so many times.
    Call(Function, usize),
    /// When a journal is written.
    Write(PowerLoss),
}

/// The functions that the shim counts together.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Function {
    /// All others.
    Any,
    Finalize,
    Initialize,
}

impl Rehearsal {
    /// Rehearses.
    ///
    /// # Errors
    ///
    /// The plan cannot be used, a program or a module is missing; or a ceremony that was killed did
    /// not go on to the same end: the place is named.
    pub fn perform(&self) -> Result<Rehearsed, RehearsalError> {
        let plan = Plan::read(&self.plan)?;
        if self.faults != Faults::None && !self.shim.is_file() {
            return Err(RehearsalError::Shim(self.shim.clone()));
        }
        let mut transcript = None;
        let mut tokens = Vec::new();
        for token in &self.tokens {
            let undisturbed = Bench::new(self, &plan, token, None)?;
            let verified = undisturbed.to_the_end(None)?;
            let (points, lines, calls) = self.points(&plan, token, &verified)?;
            let chosen = self.faults.choose(&points);
            self.kill_at(&plan, token, &chosen)?;
            transcript.get_or_insert(undisturbed.read("a.jsonl")?);
            tokens.push(TokenRehearsed {
                token: token.kind,
                writes: lines,
                calls,
                killed: chosen.len(),
            });
        }
        Ok(Rehearsed { transcript: transcript.ok_or(RehearsalError::NoToken)?, tokens })
    }

    /// Every place where a ceremony of this plan can be killed, in the order of the ceremony for
    /// each kind, and how many there are of each kind.
    fn points(
        &self,
        plan: &Plan,
        token: &SoftToken,
        undisturbed: &Verified,
    ) -> Result<(Vec<Point>, usize, usize), RehearsalError> {
        if self.faults == Faults::None {
            return Ok((Vec::new(), 0, 0));
        }
        // Both journals, and the line that states the head.
        let lines = 2 * (undisturbed.records + 1);
        let writes = (1..=lines).flat_map(|at| {
            [Written::Nothing, Written::Half, Written::Whole]
                .map(|written| Point::Write(PowerLoss { at, written }))
        });
        let mut points: Vec<Point> = writes.collect();
        let count = points.len();
        let watched = Bench::new(self, plan, token, Some(None))?;
        require("the ceremony", &watched.run(&[])?)?;
        points.extend(calls(&String::from_utf8_lossy(&watched.read("calls")?)));
        let calls = points.len() - count;
        Ok((points, count, calls))
    }

    /// Kills a ceremony at each of these points; on all processors, since each waits for its disk.
    fn kill_at(
        &self,
        plan: &Plan,
        token: &SoftToken,
        points: &[Point],
    ) -> Result<(), RehearsalError> {
        let next = AtomicUsize::new(0);
        let work = || {
            while let Some(point) = points.get(next.fetch_add(1, Ordering::Relaxed)) {
                let fault = matches!(point, Point::Call(..)).then_some(Some(*point));
                let killed = Bench::new(self, plan, token, fault)
                    .and_then(|bench| bench.to_the_end(Some(*point)));
                if let Err(source) = killed {
                    // Nobody takes another one.
                    next.store(points.len(), Ordering::Relaxed);
                    let source = Box::new(source);
                    return Err(RehearsalError::Point {
                        token: token.kind,
                        point: point.to_string(),
                        source,
                    });
                }
            }
            Ok(())
        };
        let workers = thread::available_parallelism().map_or(1, usize::from);
        thread::scope(|scope| {
            let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
            workers
                .into_iter()
                .try_for_each(|worker| worker.join().unwrap_or_else(|panic| resume_unwind(panic)))
        })
    }
}

impl Faults {
    fn choose(self, points: &[Point]) -> Vec<Point> {
        match self {
            Self::All => points.to_vec(),
            Self::None => Vec::new(),
            Self::Spread(most) => {
                let every = points.len().div_ceil(most.max(1)).max(1);
                points.iter().copied().step_by(every).collect()
            }
        }
    }
}

/// The calls that a shim noted, as places to be killed in.
fn calls(log: &str) -> Vec<Point> {
    let (mut any, mut first, mut last) = (0, 0, 0);
    let functions = log.lines().filter_map(|line| line.split(' ').nth(1));
    functions
        .map(|function| {
            let (function, count) = match function {
                "C_Finalize" => (Function::Finalize, &mut last),
                "C_Initialize" => (Function::Initialize, &mut first),
                _ => (Function::Any, &mut any),
            };
            *count += 1;
            Point::Call(function, *count)
        })
        .collect()
}

/// A private directory with a software token, a site, and what one ceremony writes.
struct Bench<'a> {
    rehearsal: &'a Rehearsal,
    /// The plan hands something off.
    hands_off: bool,
    directory: TempDir,
}

impl<'a> Bench<'a> {
    /// `shim` puts the shim between program and token; it notes all calls, and dies in the one that
    /// is given.
    fn new(
        rehearsal: &'a Rehearsal,
        plan: &Plan,
        token: &SoftToken,
        shim: Option<Option<Point>>,
    ) -> Result<Self, RehearsalError> {
        let directory = TempDir::with_prefix("chancery-rehearsal-")?;
        let bench = Self { rehearsal, hands_off: plan.hands_off(), directory };
        for name in ["user.pin", "so.pin"] {
            let mut options = OpenOptions::new();
            let mut file =
                options.write(true).create_new(true).mode(0o600).open(bench.path(name))?;
            file.write_all(b"nothing-to-protect\n")?;
        }
        // Where the custodians of a rehearsal keep their pages.
        fs::DirBuilder::new().mode(0o700).create(bench.path("pages"))?;
        fs::create_dir(bench.path("exchange"))?;
        bench.write_site(token, shim.is_some())?;
        if plan.backs_up() {
            let site = bench.path("site.toml");
            let flag = OsStr::new("--backup");
            let made = bench.call([OsStr::new("rehearsal-token"), site.as_os_str(), flag])?;
            require("the backup token", &made)?;
        }
        if !plan.initializes_token() {
            let site = bench.path("site.toml");
            let made = bench.call([OsStr::new("rehearsal-token"), site.as_os_str()])?;
            require("the token", &made)?;
        }
        if let Some(fault) = shim {
            // The token's making is not what is rehearsed.
            let _ = fs::remove_file(bench.path("calls"));
            fs::write(bench.path("plan.toml"), shim_plan(&token.module, fault))?;
        }
        Ok(bench)
    }

    fn write_site(&self, token: &SoftToken, shimmed: bool) -> Result<(), RehearsalError> {
        let here = self.directory.path().display();
        let (variable, file, content) = match token.kind {
            Kind::Kryoptic => (
                "KRYOPTIC_CONF",
                "kryoptic.conf",
                format!(
                    "[[slots]]\nslot = 1\ndbtype = \"sqlite\"\ndbargs = \"{here}/token.sql\"\n\
                     [[slots]]\nslot = 2\ndbtype = \"sqlite\"\ndbargs = \"{here}/backup.sql\"\n"
                ),
            ),
            Kind::SoftHsm => {
                fs::create_dir(self.path("tokens"))?;
                let content = format!("directories.tokendir = {here}/tokens\nlog.level = ERROR\n");
                ("SOFTHSM2_CONF", "softhsm2.conf", content)
            }
        };
        fs::write(self.path(file), content)?;
        let mut environment = format!("{variable} = \"{here}/{file}\"\n");
        let mut module = &token.module;
        if shimmed {
            module = &self.rehearsal.shim;
            environment += &format!("CHANCERY_SHIM = \"{here}\"\n");
            fs::write(self.path("plan.toml"), shim_plan(&token.module, None))?;
        }
        let site = format!(
            "module = {module:?}\npin_file = \"user.pin\"\nso_pin_file = \"so.pin\"\n\
             share_pages = \"pages\"\n[token]\nlabel = \"rehearsal\"\n\
             [backup]\ntoken = {{ label = \"rehearsal-backup\" }}\npin_file = \"user.pin\"\n[environment]\n{environment}"
        );
        Ok(fs::write(self.path("site.toml"), site)?)
    }

    /// Performs the plan, killed at one point if one is given, until it comes to its end; checks
    /// that it is the end that it would have come to undisturbed.
    fn to_the_end(&self, point: Option<Point>) -> Result<Verified, RehearsalError> {
        let mut flags = Vec::new();
        if let Some(Point::Write(loss)) = point {
            flags = vec!["--power-loss".to_owned(), loss.to_string()];
        }
        let first = self.run(&flags)?;
        match point {
            None => require("the ceremony", &first)?,
            Some(_) if first.status.signal().is_none() => {
                return Err(RehearsalError::NotKilled { said: said(&first) });
            }
            Some(_) => self.go_on(point)?,
        }
        self.check()
    }

    /// What people do after a power loss.
    fn go_on(&self, point: Option<Point>) -> Result<(), RehearsalError> {
        let begun = ["a.jsonl", "b.jsonl"].iter().any(|name| self.path(name).exists());
        if !begun {
            return require("the ceremony, begun once more", &self.run(&[])?);
        }
        // Both choices are rehearsed; a key that is to be taken must be one that can be.
        let even = match point {
            Some(Point::Call(_, count)) => count % 2 == 0,
            Some(Point::Write(loss)) => loss.at % 2 == 0,
            None => true,
        };
        let choice = if even { "adopt" } else { "destroy" };
        let resume = |pin: &str| {
            let mut arguments = self.arguments("resume");
            let said =
                ["--reason", "the power was lost on purpose", "--found-key", choice, "--pin", pin];
            arguments.extend(said.map(PathBuf::from));
            self.call(arguments)
        };
        let mut answer = resume("new")?;
        if answer.status.code() == Some(PIN_REFUSED) && said(&answer).contains("refused the PIN") {
            answer = resume("former")?;
        }
        require("the ceremony, gone on with", &answer)
    }

    /// One end, whatever happened: two transcripts that are the same and verify, so that no
    /// certificate had two to-be-signed texts; their hand-off; and in the token each key pair
    /// once, and nothing else.
    fn check(&self) -> Result<Verified, RehearsalError> {
        let (first, second) = (self.read("a.jsonl")?, self.read("b.jsonl")?);
        if first != second {
            return Err(RehearsalError::TwoEnds);
        }
        let verified = Verified::from_bytes(&first)?;
        if self.hands_off {
            verified.check_handoff(&self.path("handoff"))?;
        }
        let (site, transcript) = (self.path("site.toml"), self.path("a.jsonl"));
        let arguments: [&OsStr; 5] = [
            "inventory".as_ref(),
            "--site".as_ref(),
            site.as_os_str(),
            "--against".as_ref(),
            transcript.as_os_str(),
        ];
        require("the inventory", &self.call(arguments)?)?;
        if verified.progress.plan.backs_up() {
            let other = String::from_utf8_lossy(&self.read("site.toml")?)
                .replace("label = \"rehearsal\"", "label = \"rehearsal-backup\"");
            let backup = self.path("backup.toml");
            fs::write(&backup, other)?;
            let arguments = arguments.map(|it| if it == site { backup.as_os_str() } else { it });
            require("the inventory of the backup token", &self.call(arguments)?)?;
        }
        Ok(verified)
    }

    fn run(&self, flags: &[String]) -> Result<Output, RehearsalError> {
        let mut arguments = self.arguments("run");
        arguments.insert(1, self.rehearsal.plan.clone());
        arguments.push("--rehearsed".into());
        if self.rehearsal.faithful {
            arguments.push("--faithful".into());
        }
        arguments.extend(flags.iter().map(PathBuf::from));
        self.call(arguments)
    }

    fn arguments(&self, command: &str) -> Vec<PathBuf> {
        let mut arguments = vec![PathBuf::from(command)];
        let flags = [
            ("--site", "site.toml"),
            ("--journal", "a.jsonl"),
            ("--journal", "b.jsonl"),
            ("--exchange", "exchange"),
            ("--handoff", "handoff"),
        ];
        for (flag, name) in flags.into_iter().take(if self.hands_off { 5 } else { 4 }) {
            arguments.extend([PathBuf::from(flag), self.path(name)]);
        }
        arguments
    }

    fn call(
        &self,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> Result<Output, RehearsalError> {
        let mut command = Command::new(&self.rehearsal.program);
        Ok(command.args(arguments).stdin(Stdio::null()).output()?)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn read(&self, name: &str) -> Result<Vec<u8>, RehearsalError> {
        Ok(fs::read(self.path(name))?)
    }
}

/// What the shim is told: see softhsm-tests/shim.
fn shim_plan(real: &Path, fault: Option<Point>) -> String {
    let mut plan = format!("module = {real:?}\n");
    if let Some(Point::Call(function, count)) = fault {
        let function = match function {
            Function::Any => "",
            Function::Finalize => "function = \"C_Finalize\"\n",
            Function::Initialize => "function = \"C_Initialize\"\n",
        };
        let ever = i64::MAX;
        plan += &format!(
            "[[faults]]\n{function}from = {count}\nevery = {ever}\ntimes = 1\naction = \"crash\"\n"
        );
    }
    plan
}

fn require(what: &'static str, output: &Output) -> Result<(), RehearsalError> {
    if output.status.success() {
        Ok(())
    } else {
        Err(RehearsalError::Refused { what, said: said(output) })
    }
}

fn said(output: &Output) -> String {
    format!("{}\n{}", output.status, String::from_utf8_lossy(&output.stderr).trim_end())
}

/// `softhsm` or `kryoptic`, and `=MODULE` where it is in no usual place.
impl FromStr for SoftToken {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, module) = match text.split_once('=') {
            Some((name, module)) => (name, Some(PathBuf::from(module))),
            None => (text, None),
        };
        let (kind, places) = match name {
            "kryoptic" => (Kind::Kryoptic, KRYOPTIC),
            "softhsm" => (Kind::SoftHsm, SOFTHSM),
            other => return Err(format!("{other:?} is neither softhsm nor kryoptic")),
        };
        let usual = || places.iter().map(PathBuf::from).find(|path| path.is_file());
        let module = module.or_else(usual).ok_or_else(|| {
            format!("{name} is not installed; say where its module is: {name}=/path/to/module.so")
        })?;
        if !module.is_absolute() || !module.is_file() {
            return Err(format!("{} is no absolute path of a module", module.display()));
        }
        Ok(Self { kind, module })
    }
}

/// `all`, or a number.
impl FromStr for Faults {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.parse()) {
            ("all", _) => Ok(Self::All),
            (_, Ok(most)) => Ok(Self::Spread(most)),
            _ => Err("use all, or a number".to_owned()),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kryoptic => "kryoptic",
            Self::SoftHsm => "softhsm",
        })
    }
}

impl serde::Serialize for Kind {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for TokenRehearsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { token, writes, calls, killed } = self;
        match killed {
            0 => write!(f, "{token}: to the end, undisturbed"),
            _ => write!(
                f,
                "{token}: killed at {killed} of {} points ({writes} at writes of the journals, {calls} at \
                 PKCS#11 calls), and each time to the same end",
                writes + calls
            ),
        }
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call(Function::Any, count) => write!(f, "the {count}. PKCS#11 call"),
            Self::Call(Function::Finalize, count) => write!(f, "the {count}. C_Finalize"),
            Self::Call(Function::Initialize, count) => write!(f, "the {count}. C_Initialize"),
            Self::Write(loss) => write!(f, "the journal's line {loss}"),
        }
    }
}

/// How the program ends when the token failed or refused.
const PIN_REFUSED: i32 = 4;

/// Where Debian and Fedora have the modules.
const KRYOPTIC: &[&str] = &["/usr/lib64/pkcs11/libkryoptic_pkcs11.so"];
const SOFTHSM: &[&str] = &[
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
];

/// A plan was not rehearsed to its end.
#[derive(Debug, Error)]
pub enum RehearsalError {
    /// A file of the rehearsal cannot be written or read, or the program cannot be started.
    #[error("the rehearsal has no directory, or no program")]
    Io(#[from] io::Error),
    /// No token was named.
    #[error("no software token was named to rehearse on")]
    NoToken,
    /// A ceremony should have been killed, and was not.
    #[error("it was not killed there, and ended by itself: {said}")]
    NotKilled {
        /// What it said.
        said: String,
    },
    /// The plan cannot be used.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A ceremony that was killed did not go on to the same end.
    #[error("on {token}, killed at {point}, the ceremony did not come to the same end")]
    Point {
        /// On what.
        token: Kind,
        /// Where.
        point: String,
        /// What was wrong.
        source: Box<RehearsalError>,
    },
    /// A step of the rehearsal failed.
    #[error("{what} failed: {said}")]
    Refused {
        /// What.
        what: &'static str,
        /// What it said.
        said: String,
    },
    /// The shim is not there.
    #[error("the PKCS#11 module that dies when it is told is not at {}", .0.display())]
    Shim(PathBuf),
    /// The journals ended differently.
    #[error("the two journals are not the same")]
    TwoEnds,
    /// The transcript is not one of a ceremony.
    #[error(transparent)]
    Verify(#[from] VerifyError),
}
