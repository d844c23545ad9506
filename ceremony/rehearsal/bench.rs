//! A bench: one ceremony on a software token, in a directory of its own that goes with it.

use std::{
    ffi::OsStr,
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::{
        fs::{DirBuilderExt as _, OpenOptionsExt as _},
        process::ExitStatusExt as _,
    },
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use tempfile::TempDir;

use super::{
    Kind, Rehearsal, RehearsalError, SoftToken,
    points::{Point, shim_plan},
};
use crate::{plan::Plan, verify::Verified};

/// A private directory with a software token, a site, and what one ceremony writes.
pub(super) struct Bench<'a> {
    rehearsal: &'a Rehearsal,
    token: &'a SoftToken,
    /// The plan hands something off.
    hands_off: bool,
    /// The site's variables, which its programs would otherwise start once more for.
    environment: Vec<(&'static str, PathBuf)>,
    directory: TempDir,
}

impl<'a> Bench<'a> {
    /// One on which nothing was done yet: with the tokens that the plan does not make itself.
    pub(super) fn new(
        rehearsal: &'a Rehearsal,
        plan: &Plan,
        token: &'a SoftToken,
    ) -> Result<Self, RehearsalError> {
        let bench = Self::empty(rehearsal, token, plan.hands_off(), false)?;
        if token.kind == Kind::SoftHsm {
            fs::create_dir(bench.path(TOKENS))?;
        }
        let site = bench.path("site.toml");
        let flag = OsStr::new("--backup");
        if plan.needs_backup_token() {
            let made = bench.call([OsStr::new("rehearsal-token"), site.as_os_str(), flag])?;
            require("the backup token", &made)?;
        }
        if !plan.initializes_token() {
            let made = bench.call([OsStr::new("rehearsal-token"), site.as_os_str()])?;
            require("the token", &made)?;
        }
        Ok(bench)
    }

    /// Another one with copies of the tokens, on which nothing was done since, either.
    pub(super) fn copy(&self) -> Result<Self, RehearsalError> {
        self.copied(false)
    }

    /// As [`copy`](Self::copy), with the shim between program and token: it notes all calls, and dies
    /// in the one that is given.
    pub(super) fn watched(&self, fault: Option<Point>) -> Result<Self, RehearsalError> {
        let bench = self.copied(true)?;
        fs::write(bench.path("plan.toml"), shim_plan(&self.token.module, fault))?;
        Ok(bench)
    }

    fn copied(&self, shimmed: bool) -> Result<Self, RehearsalError> {
        let bench = Self::empty(self.rehearsal, self.token, self.hands_off, shimmed)?;
        for name in [TOKENS, TOKEN, BACKUP] {
            if self.path(name).exists() {
                copy_all(&self.path(name), &bench.path(name))?;
            }
        }
        Ok(bench)
    }

    fn empty(
        rehearsal: &'a Rehearsal,
        token: &'a SoftToken,
        hands_off: bool,
        shimmed: bool,
    ) -> Result<Self, RehearsalError> {
        let directory = TempDir::with_prefix("chancery-rehearsal-")?;
        let mut bench = Self { rehearsal, token, hands_off, environment: Vec::new(), directory };
        for name in ["user.pin", "so.pin"] {
            let mut options = OpenOptions::new();
            let mut file =
                options.write(true).create_new(true).mode(0o600).open(bench.path(name))?;
            file.write_all(b"nothing-to-protect\n")?;
        }
        // Where the custodians of a rehearsal keep their pages.
        fs::DirBuilder::new().mode(0o700).create(bench.path("pages"))?;
        fs::create_dir(bench.path("exchange"))?;
        bench.write_site(shimmed)?;
        Ok(bench)
    }

    fn write_site(&mut self, shimmed: bool) -> Result<(), RehearsalError> {
        let here = self.directory.path().display();
        let (variable, file, content) = match self.token.kind {
            Kind::Kryoptic => (
                "KRYOPTIC_CONF",
                "kryoptic.conf",
                format!(
                    "[[slots]]\nslot = 1\ndbtype = \"sqlite\"\ndbargs = \"{here}/{TOKEN}\"\n\
                     [[slots]]\nslot = 2\ndbtype = \"sqlite\"\ndbargs = \"{here}/{BACKUP}\"\n"
                ),
            ),
            Kind::SoftHsm => (
                "SOFTHSM2_CONF",
                "softhsm2.conf",
                format!("directories.tokendir = {here}/{TOKENS}\nlog.level = ERROR\n"),
            ),
        };
        fs::write(self.path(file), content)?;
        let mut module = &self.token.module;
        let mut environment = vec![(variable, self.path(file))];
        if shimmed {
            module = &self.rehearsal.shim;
            environment.push(("CHANCERY_SHIM", self.directory.path().to_owned()));
        }
        let variables: String =
            environment.iter().map(|(name, value)| format!("{name} = {value:?}\n")).collect();
        let site = format!(
            "module = {module:?}\npin_file = \"user.pin\"\nso_pin_file = \"so.pin\"\n\
             share_pages = \"pages\"\n[token]\nlabel = \"rehearsal\"\n\
             [backup]\ntoken = {{ label = \"rehearsal-backup\" }}\npin_file = \"user.pin\"\n\
             [environment]\n{variables}"
        );
        fs::write(self.path("site.toml"), site)?;
        self.environment = environment;
        Ok(())
    }

    /// Performs the plan, killed at one point if one is given, until it comes to its end; checks
    /// that it is the end that it would have come to undisturbed.
    pub(super) fn to_the_end(&self, point: Option<Point>) -> Result<Verified, RehearsalError> {
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

    pub(super) fn run(&self, flags: &[String]) -> Result<Output, RehearsalError> {
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
        command.args(arguments).envs(self.environment.iter().map(|(name, value)| (name, value)));
        Ok(command.stdin(Stdio::null()).output()?)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(super) fn read(&self, name: &str) -> Result<Vec<u8>, RehearsalError> {
        Ok(fs::read(self.path(name))?)
    }
}

/// Copies a file, or a directory with all that is in it.
fn copy_all(from: &Path, to: &Path) -> io::Result<()> {
    if !from.is_dir() {
        return fs::copy(from, to).map(drop);
    }
    fs::DirBuilder::new().mode(0o700).create(to)?;
    for entry in fs::read_dir(from)? {
        let name = entry?.file_name();
        copy_all(&from.join(&name), &to.join(&name))?;
    }
    Ok(())
}

pub(super) fn require(what: &'static str, output: &Output) -> Result<(), RehearsalError> {
    if output.status.success() {
        Ok(())
    } else {
        Err(RehearsalError::Refused { what, said: said(output) })
    }
}

fn said(output: &Output) -> String {
    format!("{}\n{}", output.status, String::from_utf8_lossy(&output.stderr).trim_end())
}

/// How the program ends when the token failed or refused.
const PIN_REFUSED: i32 = 4;

/// The tokens of SoftHSM, and those of Kryoptic.
const TOKENS: &str = "tokens";
const TOKEN: &str = "token.sql";
const BACKUP: &str = "backup.sql";
