//! A place for a ceremony: SoftHSM's tokens in a directory of their own, a site, and the program.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(dead_code, reason = "each story takes what it needs")]

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use ceremony::{
    plan::Plan,
    transcript::{self, chain},
};
use pki::clock::{Clock as _, SystemClock};
use serde_json::Value;
use tempfile::TempDir;

pub(crate) const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
/// Why these sites take a token in software.
pub(crate) const MEANT: &str = "it is a test";
pub(crate) const DEMO: &str = "plans/demo.toml";
pub(crate) const ROOT_AND_ISSUING: &str = "plans/root-and-issuing.toml";
pub(crate) const TOKEN_INIT: &str = "[[steps]]\ndo = \"token-init\"\n";

/// A directory with a SoftHSM of its own, a site file and the outputs of one ceremony.
pub(crate) struct Place(pub(crate) TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        assert!(Path::new(MODULE).exists(), "{MODULE} is missing: apt-get install softhsm2");
        let place = Self(tempfile::tempdir().unwrap());
        fs::create_dir(place.path("tokens")).unwrap();
        let tokens = place.text("tokens");
        let conf = place.write("softhsm2.conf", &format!("directories.tokendir = {tokens}\n"));
        for (name, pin) in [("user.pin", "1234\n"), ("so.pin", "12345678\n")] {
            peer("chmod", &["600"], &[Path::new(&place.write(name, pin))]).ok();
        }
        let site = format!(
            "module = \"{MODULE}\"\npin_file = \"user.pin\"\nso_pin_file = \"so.pin\"\n\
             software_token = \"{MEANT}\"\n\
             [token]\nlabel = \"chancery\"\n[environment]\nSOFTHSM2_CONF = \"{conf}\"\n"
        );
        place.write("site.toml", &site);
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn write(&self, name: &str, content: &str) -> String {
        fs::write(self.path(name), content).unwrap();
        self.text(name)
    }

    pub(crate) fn initialize_token(&self) {
        let arguments = ["--init-token", "--free", "--label", "chancery"];
        let pins = ["--so-pin", "12345678", "--pin", "1234"];
        self.softhsm("softhsm2-util", &[&arguments[..], &pins].concat()).ok();
    }

    /// A second token, for copies of keys.
    pub(crate) fn add_backup_token(&self) {
        let arguments = ["--init-token", "--free", "--label", "backup"];
        let pins = ["--so-pin", "12345678", "--pin", "1234"];
        self.softhsm("softhsm2-util", &[&arguments[..], &pins].concat()).ok();
        let site = self.text_of("site.toml");
        let backup =
            "[backup]\ntoken = { label = \"backup\" }\npin_file = \"user.pin\"\n[environment]";
        self.write("site.toml", &site.replace("[environment]", backup));
    }

    /// What is in the token, as another program sees it; empty without a token.
    pub(crate) fn objects(&self) -> String {
        let login = ["--module", MODULE, "--token-label", "chancery", "--login", "--pin", "1234"];
        self.softhsm("pkcs11-tool", &[&login[..], &["--list-objects"]].concat()).ok()
    }

    pub(crate) fn softhsm(&self, program: &str, arguments: &[&str]) -> Answer {
        let mut command = Command::new(program);
        command.args(arguments).env("SOFTHSM2_CONF", self.path("softhsm2.conf"));
        Answer::of(program, &mut command)
    }

    /// As a user of the token who is logged in.
    pub(crate) fn pkcs11_tool(&self, arguments: &[&str]) {
        let login = ["--module", MODULE, "--token-label", "chancery", "--login", "--pin", "1234"];
        self.softhsm("pkcs11-tool", &[&login[..], arguments].concat()).ok();
    }

    /// The content of a file here.
    pub(crate) fn text_of(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// What the whole records of this kind say, in their order.
    pub(crate) fn events(&self, kind: &str) -> Vec<Value> {
        let text = self.text_of("transcript.jsonl");
        let records = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        records.filter(|it| it["event"] == kind).map(|mut it| it["data"].take()).collect()
    }

    /// Names and contents of everything here but the tokens.
    pub(crate) fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut files = Vec::new();
        for directory in ["", "handoff"] {
            for entry in fs::read_dir(self.path(directory)).unwrap() {
                let path = entry.unwrap().path();
                if path.is_file() {
                    files.push((path.clone(), fs::read(&path).unwrap()));
                }
            }
        }
        files.sort();
        files
    }

    pub(crate) fn run(&self, plan: &str, flags: &[&str]) -> Answer {
        Answer::of("run", self.command(plan).args(flags).stdin(Stdio::null()))
    }

    /// A plan that hands nothing off.
    pub(crate) fn run_without_handoff(&self, plan: &str, flags: &[&str]) -> Answer {
        let mut command = self.command_without_handoff(plan);
        Answer::of("run", command.args(flags).stdin(Stdio::null()))
    }

    pub(crate) fn run_typing(&self, plan: &str, typed: &str) -> Answer {
        let mut command = self.command(plan);
        let command = command.args(["--rehearsal", &self.rehearsal(plan)]);
        typing(command, &format!("{}{typed}", clock()))
    }

    pub(crate) fn start(&self, plan: &str) -> Child {
        let mut command = self.command(plan);
        command.args(["--rehearsal", &self.rehearsal(plan)]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    }

    /// The transcript of a rehearsal, as a ceremony with people takes one.
    pub(crate) fn rehearsal(&self, plan: &str) -> String {
        let kept = self.text("rehearsal.jsonl");
        if !self.path("rehearsal.jsonl").exists() {
            program(&["rehearse", &manifest(plan), "-o", &kept]).ok();
        }
        kept
    }

    pub(crate) fn command(&self, plan: &str) -> Command {
        let mut command = self.command_without_handoff(plan);
        command.arg("--handoff").arg(self.path("handoff"));
        command
    }

    fn command_without_handoff(&self, plan: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_chancery-ceremony"));
        command.arg("run").arg(manifest(plan)).arg("--site").arg(self.path("site.toml"));
        command.args(self.journals());
        command
    }

    /// Goes on with the ceremony of these journals.
    pub(crate) fn resume(&self, flags: &[&str]) -> Answer {
        Answer::of("resume", self.resumption(flags).stdin(Stdio::null()))
    }

    pub(crate) fn resume_typing(&self, flags: &[&str], typed: &str) -> Answer {
        self.resume_typing_all(flags, &format!("{}{typed}", clock()))
    }

    /// As [`resume_typing`](Self::resume_typing), without what a clock says.
    pub(crate) fn resume_typing_all(&self, flags: &[&str], typed: &str) -> Answer {
        typing(&mut self.resumption(flags), typed)
    }

    pub(crate) fn resumption(&self, flags: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_chancery-ceremony"));
        command.arg("resume").arg("--site").arg(self.path("site.toml"));
        command
            .arg("--handoff")
            .arg(self.path("handoff"))
            .args(["--reason", "the lights went out"]);
        command.args(self.journals()).args(flags);
        command
    }

    /// The flags that name the journals.
    pub(crate) fn journals(&self) -> [String; 4] {
        let journal = || "--journal".to_owned();
        [journal(), self.text("transcript.jsonl"), journal(), self.text("second.jsonl")]
    }

    /// A command about the ceremony of these journals.
    pub(crate) fn about(&self, arguments: &[&str]) -> Answer {
        let mut command = Command::new(env!("CARGO_BIN_EXE_chancery-ceremony"));
        Answer::of("chancery-ceremony", command.args(arguments).args(self.journals()))
    }

    pub(crate) fn verify(&self, flags: &[&str]) -> Answer {
        let transcript = self.text("transcript.jsonl");
        let answer = program(&[&["verify", &transcript], flags].concat());
        if answer.0.status.success() {
            // Whatever the story was: the verifier in Python finds nothing wrong in it, either.
            peer("python3", &[&manifest("verify.py"), &transcript], &[]).ok();
        }
        answer
    }

    pub(crate) fn records(&self) -> usize {
        fs::read_to_string(self.path("transcript.jsonl")).map_or(0, |text| text.lines().count())
    }
}

/// What a program answered.
pub(crate) struct Answer(pub(crate) Output);

impl Answer {
    pub(crate) fn of(name: &str, command: &mut Command) -> Self {
        Self(command.output().unwrap_or_else(|error| panic!("{name} cannot be run: {error}")))
    }

    /// Standard output of a program that succeeded.
    pub(crate) fn ok(self) -> String {
        let error = String::from_utf8_lossy(&self.0.stderr);
        let output = String::from_utf8(self.0.stdout).unwrap();
        assert!(self.0.status.success(), "{}\n{output}{error}", self.0.status);
        output
    }

    /// All that a program said that refused.
    pub(crate) fn failed(self) -> String {
        assert!(!self.0.status.success(), "it did not refuse");
        String::from_utf8_lossy(&[self.0.stdout, self.0.stderr].concat()).into_owned()
    }

    /// The program was killed.
    pub(crate) fn killed(self) {
        let error = String::from_utf8_lossy(&self.0.stderr);
        assert_eq!(self.0.status.code(), None, "{}: {error}", self.0.status);
    }

    /// The program ended with this code, said this, and gave a hint.
    pub(crate) fn refused(self, code: i32, said: &str) {
        let error = String::from_utf8_lossy(&self.0.stderr);
        assert_eq!(self.0.status.code(), Some(code), "{said}: {error}");
        assert!(
            format!("\n{error}").contains("\nerror: ") && error.contains("\nhint: "),
            "{error}"
        );
        assert!(error.contains(said), "{said:?} is not in: {error}");
    }
}

/// Runs a program that is typed to.
pub(crate) fn typing(command: &mut Command, typed: &str) -> Answer {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // The program may have refused, and closed its input, before it was asked.
    let _ = child.stdin.take().unwrap().write_all(typed.as_bytes());
    Answer(child.wait_with_output().unwrap())
}

pub(crate) fn program(arguments: &[&str]) -> Answer {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chancery-ceremony"));
    Answer::of("chancery-ceremony", command.args(arguments))
}

pub(crate) fn peer(program: &str, arguments: &[&str], paths: &[&Path]) -> Answer {
    Answer::of(program, Command::new(program).args(arguments).args(paths))
}

/// A path below this crate; absolute paths stay as they are.
pub(crate) fn manifest(path: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path).to_str().unwrap().to_owned()
}

/// Whether a plan names no hash of what another ceremony made: the others stand in hierarchies.rs.
pub(crate) fn is_alone(plan: &str) -> bool {
    !fs::read_to_string(plan).unwrap().contains(&"0".repeat(64))
}

/// The same keys on a token that is there already.
pub(crate) fn keys_only() -> String {
    let text = fs::read_to_string(manifest(ROOT_AND_ISSUING)).unwrap();
    assert!(text.contains(TOKEN_INIT));
    text.replace(TOKEN_INIT, "")
}

/// The lines to type, in order.
pub(crate) fn confirmations(plan: &Plan) -> Vec<String> {
    let steps = plan.steps().take(plan.script().steps.len() - 1);
    steps
        .map(|(number, step)| format!("{}\n", plan.confirmation(number, &step.to_string(), None)))
        .collect()
}

/// What a clock says, as it is typed at the beginning, and after each interruption.
pub(crate) fn clock() -> String {
    let now = SystemClock.now().to_string();
    format!("{} {}\n", &now[..10], &now[11..16])
}

pub(crate) fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}: not within a minute");
        thread::sleep(Duration::from_millis(20));
    }
}

/// What a forger does to the records.
pub(crate) type Change<'a> = &'a dyn Fn(&mut Vec<Value>);

/// The transcript of these records, with every `seq`, `prev` and the head as they must be.
pub(crate) fn rechained(records: Vec<Value>) -> String {
    let mut text = String::new();
    let mut head = None;
    for (mut record, number) in records.into_iter().zip(1_u64..) {
        let data = &record["data"];
        let digest = |name: &str| data[name].as_str().unwrap_or_default().parse();
        let previous = head.unwrap_or_else(|| {
            let tool = data["tool"].as_str().unwrap();
            chain::start(digest("plan_hash").unwrap(), digest("site_hash").unwrap(), tool)
        });
        record["seq"] = number.into();
        record["prev"] = previous.to_string().into();
        // The fields in the order of the types, which a JSON map does not keep.
        let record: transcript::Record = serde_json::from_value(record).unwrap();
        let line = serde_json::to_string(&record).unwrap();
        head = Some(chain::next(previous, line.as_bytes()));
        text += &format!("{line}\n");
    }
    format!("{text}{{\"head\":\"{}\"}}\n", head.unwrap())
}

/// What another package built, beside this test.
pub(crate) fn built(name: &str) -> String {
    let own = PathBuf::from(env!("CARGO_BIN_EXE_chancery-ceremony"));
    let path = own.ancestors().nth(2).unwrap().join(name);
    assert!(path.is_file(), "{} is missing: run `make kryoptic`", path.display());
    path.to_str().unwrap().to_owned()
}
