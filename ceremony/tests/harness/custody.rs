//! Custodians: a place whose site prints pages of shares, and what they type from them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(dead_code, reason = "each story takes what it needs")]

use std::{
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    process::{Child, Command, Stdio},
};

use serde_json::Value;

use crate::place::*;

pub(crate) const PIN_ROTATION: &str = "plans/pin-rotation.toml";

/// What is printed on a page.
#[derive(Debug, Default)]
pub(crate) struct Page {
    pub(crate) set: String,
    pub(crate) index: u8,
    pub(crate) user: bool,
    pub(crate) lines: Vec<String>,
}

impl Page {
    /// As its custodian types it.
    pub(crate) fn typed(&self) -> String {
        self.lines.iter().map(|line| format!("{line}\n")).collect()
    }
}

/// A rotation of both PINs that came to its end.
pub(crate) struct Rotated {
    pub(crate) said: String,
    pub(crate) pages: Vec<Page>,
}

impl Rotated {
    /// The pages of the user's PIN, or of the security officer's.
    pub(crate) fn shares(&self, user: bool) -> Vec<&Page> {
        self.pages.iter().filter(|page| page.user == user).collect()
    }
}

/// A place with an initialized token, whose site prints pages.
pub(crate) struct Custody {
    pub(crate) place: Place,
}

impl Custody {
    pub(crate) fn new() -> Self {
        let place = Place::new();
        place.initialize_token();
        fs::create_dir(place.path("pages")).unwrap();
        fs::set_permissions(place.path("pages"), fs::Permissions::from_mode(0o700)).unwrap();
        let site = place.text_of("site.toml");
        place.write("site.toml", &format!("share_pages = \"pages\"\n{site}"));
        Self { place }
    }

    pub(crate) fn rotate(&self, name: &str) -> Rotated {
        self.finish(self.printed(name, &[]))
    }

    /// As [`rotate`](Self::rotate), opened by shares.
    pub(crate) fn rotate_from(&self, name: &str, user: &[&Page], so: &[&Page]) -> Rotated {
        self.by_shares();
        let (mut child, pages) = self.printed(name, user);
        let input = child.stdin.as_mut().unwrap();
        for page in &pages {
            input.write_all(page.typed().as_bytes()).unwrap();
        }
        // The former SO PIN, when it is its turn to be changed.
        so.iter().for_each(|page| input.write_all(page.typed().as_bytes()).unwrap());
        let said = Answer(child.wait_with_output().unwrap()).ok();
        Rotated { said, pages }
    }

    /// Performs the plan until all shares are printed.
    pub(crate) fn printed(&self, name: &str, opened_by: &[&Page]) -> (Child, Vec<Page>) {
        let mut command = self.run(name, PIN_ROTATION);
        let mut child = piped(&mut command);
        for page in opened_by {
            child.stdin.as_mut().unwrap().write_all(page.typed().as_bytes()).unwrap();
        }
        self.wait_for_sets(name, 2);
        (child, self.pages())
    }

    pub(crate) fn finish(&self, (mut child, pages): (Child, Vec<Page>)) -> Rotated {
        let typed: String = pages.iter().map(Page::typed).collect();
        child.stdin.take().unwrap().write_all(typed.as_bytes()).unwrap();
        let said = Answer(child.wait_with_output().unwrap()).ok();
        Rotated { said, pages }
    }

    /// Makes keys, opened by these shares; gives the record of the opened token.
    pub(crate) fn keys(&self, name: &str, typed: &[&Page]) -> Value {
        self.try_keys(name, typed).ok();
        records(&self.place.text_of(&format!("{name}.jsonl")), "token").remove(0)
    }

    pub(crate) fn try_keys(&self, name: &str, typed: &[&Page]) -> Answer {
        self.by_shares();
        let plan = self.place.write("keys.toml", &keys_only());
        let mut command = self.run(name, &plan);
        command.arg("--handoff").arg(self.place.path(name));
        let typed: String = typed.iter().map(|page| page.typed()).collect();
        typing(&mut command, &typed)
    }

    /// From now on, custodians have the PINs.
    pub(crate) fn by_shares(&self) {
        let site = self.place.text_of("site.toml");
        let site = site.replace("so_pin_file = \"so.pin\"", "so_pin = \"shares\"");
        let site = site.replace("pin_file = \"user.pin\"", "pin = \"shares\"");
        self.place.write("site.toml", &site);
    }

    pub(crate) fn command(&self, name: &str, plan: &str, flags: &[&str]) -> Answer {
        Answer::of("run", self.run(name, plan).args(flags).stdin(Stdio::null()))
    }

    pub(crate) fn run(&self, name: &str, plan: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_chancery-ceremony"));
        command.arg("run").arg(manifest(plan)).arg("--site").arg(self.place.path("site.toml"));
        command.args(self.journals(name)).arg("--unattended");
        command
    }

    pub(crate) fn resume(&self, name: &str) -> Child {
        piped(&mut self.resumption(name))
    }

    pub(crate) fn resumption(&self, name: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_chancery-ceremony"));
        command.arg("resume").arg("--site").arg(self.place.path("site.toml"));
        command.args(self.journals(name)).args(["--reason", "the lights went out"]);
        command
    }

    pub(crate) fn journals(&self, name: &str) -> [String; 4] {
        let journal = |number: &str| self.place.text(&format!("{name}{number}.jsonl"));
        ["--journal".to_owned(), journal(""), "--journal".to_owned(), journal("-2")]
    }

    /// So many sets of shares were given out, and recorded.
    pub(crate) fn wait_for_sets(&self, name: &str, count: usize) {
        wait_for("the pages", || {
            let text = self.place.text_of(&format!("{name}.jsonl"));
            text.matches("\"shares-given\"").count() == count
        });
    }

    /// The printed pages: those of the user's PIN first, in the order of the shares.
    pub(crate) fn pages(&self) -> Vec<Page> {
        let mut pages = Vec::new();
        for entry in fs::read_dir(self.place.path("pages")).unwrap() {
            let path = entry.unwrap().path();
            let name: Vec<&str> = path.file_name().unwrap().to_str().unwrap().split('-').collect();
            let text = fs::read_to_string(&path).unwrap();
            let lines = text.split("class=\"line\">").skip(1);
            pages.push(Page {
                set: name[1].to_owned(),
                index: name[2].parse().unwrap(),
                user: text.contains("the user PIN"),
                lines: lines.map(|line| line.split('<').next().unwrap().to_owned()).collect(),
            });
        }
        pages.sort_by_key(|page| (!page.user, page.index));
        pages
    }

    pub(crate) fn opens(&self, pin: &str) -> bool {
        let login = ["--module", MODULE, "--token-label", "chancery", "--login", "--pin", pin];
        let answer = self.place.softhsm("pkcs11-tool", &[&login[..], &["--list-objects"]].concat());
        answer.0.status.success()
    }

    /// What is in the token, by the PIN that these shares give.
    pub(crate) fn objects(&self, shares: &[&Page]) -> String {
        let pin = another_programs_pin(&shares[..2]);
        let login = ["--module", MODULE, "--token-label", "chancery", "--login", "--pin", &pin];
        self.place.softhsm("pkcs11-tool", &[&login[..], &["--list-objects"]].concat()).ok()
    }

    /// Puts the shim before the token; gives what reads the calls that it noted.
    pub(crate) fn log_calls(&self) -> impl Fn() -> String {
        let shim = built("debug/deps/libchancery_shim.so");
        let site = self.place.text_of("site.toml").replace(MODULE, &shim);
        let variable = format!("CHANCERY_SHIM = \"{}\"\n", self.place.text(""));
        self.place.write("site.toml", &format!("{site}{variable}"));
        self.place.write("plan.toml", &format!("module = \"{MODULE}\"\n"));
        || self.place.text_of("calls").lines().map(|line| format!("{line} \n")).collect()
    }
}

pub(crate) fn piped(command: &mut Command) -> Child {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// The PIN that these pages give, by a program that is not ours.
pub(crate) fn another_programs_pin(pages: &[&Page]) -> String {
    let script = manifest("shares/combine.py");
    let paper: Vec<String> = pages.iter().map(|page| page.lines.join("\n")).collect();
    let answer = Answer::of("python3", Command::new("python3").arg(script).args(&paper)).ok();
    answer.lines().last().unwrap().to_owned()
}

/// The whole records of this kind.
pub(crate) fn records(transcript: &str, kind: &str) -> Vec<Value> {
    let records = transcript.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    records.filter(|it| it["event"] == kind).collect()
}
