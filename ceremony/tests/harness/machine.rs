//! A machine for ceremonies: a token, an exchange directory, and what earlier ceremonies there left,
//! by the names of their plans. Files between machines are copied, as people carry them.

#![allow(dead_code, reason = "each story takes what it needs")]

use std::{fs, path::PathBuf, process::Command};

use sha2::{Digest as _, Sha256};

use crate::place::{Answer, Place, manifest, peer, program};

/// What the verifier in Python says.
fn second(path: &str) -> Answer {
    let mut command = Command::new("python3");
    Answer::of(
        "python3",
        command.args([&manifest("verify.py"), path]).env("PYTHONDONTWRITEBYTECODE", "1"),
    )
}

/// A machine of its own.
pub(crate) struct Machine {
    pub(crate) place: Place,
}

impl Machine {
    pub(crate) fn new() -> Self {
        let place = Place::new();
        fs::create_dir(place.path("exchange")).unwrap();
        Self { place }
    }

    /// A machine on which the ceremony of offline-root.toml was held.
    pub(crate) fn with_root() -> Self {
        Self::with_root_of("rsa2048")
    }

    /// The same, with a key of this algorithm.
    pub(crate) fn with_root_of(algorithm: &str) -> Self {
        let machine = Self::new();
        machine.plan_with("offline-root", &[("rsa4096", algorithm)]);
        machine.perform("offline-root").ok();
        machine
    }

    /// A machine that has whatever the plans that come with the program take in, and the one whose
    /// request it has: that waits for its certificate.
    pub(crate) fn furnished() -> (Self, Self) {
        let (machine, issuing, partner) = (Self::with_root_of("p256"), Self::new(), Self::new());
        for name in ["root.pem", "root.crl"] {
            let kept = machine.path(&format!("offline-root/{name}"));
            fs::copy(kept, machine.path(name)).unwrap();
        }
        issuing.take(&machine, "root.pem", "root.pem");
        issuing.plan_small("issuing");
        issuing.perform("issuing").refused(1, "has not come back");
        machine.take(&issuing, "exchange/issuing.csr", "issuing.csr");
        let another = [("Offline Root", "Partner Root"), ("rsa4096", "p256")];
        partner.plan_with("offline-root", &another);
        partner.perform("offline-root").ok();
        machine.take(&partner, "offline-root/root.pem", "partner.pem");
        (machine, issuing)
    }

    /// As [`plan`](Self::plan); RSA is made where it must be alone: nobody waits for thousands of its
    /// keys.
    pub(crate) fn plan_small(&self, name: &str) {
        self.plan(name);
        if name != "smart-cards" {
            let file = format!("{name}.toml");
            let text = fs::read_to_string(self.path(&file)).unwrap();
            self.place.write(&file, &text.replace("\"rsa2048\"", "\"p256\""));
        }
    }

    /// Writes a plan that comes with the program, with the hashes of what is there.
    pub(crate) fn plan(&self, name: &str) {
        self.plan_with(name, &[]);
    }

    /// As above, with these texts replaced. Keys are small, so that nobody waits for them.
    pub(crate) fn plan_with(&self, name: &str, changes: &[(&str, &str)]) {
        let mut text = fs::read_to_string(manifest(&format!("plans/{name}.toml"))).unwrap();
        for (from, to) in changes {
            assert!(text.contains(from), "{name} has no {from:?}");
            text = text.replace(from, to);
        }
        let text = text.replace("rsa4096", "rsa2048").replace("rsa3072", "rsa2048");
        let lines = text.lines().map(|line| {
            let Some((_, quoted)) = line.split_once("\"") else { return line.to_owned() };
            let file = quoted.split('"').next().unwrap();
            let hash = match () {
                () if line.contains("sha256 = ") => hex::encode(Sha256::digest(self.read(file))),
                () if line.contains("head = ") => self.head(file),
                () => return line.to_owned(),
            };
            line.replace(&"0".repeat(64), &hash)
        });
        let text: String = lines.map(|line| line + "\n").collect();
        self.place.write(&format!("{name}.toml"), &text);
    }

    /// A plan that is refused by this rule; nothing is kept of it.
    pub(crate) fn refused_plan(&self, name: &str, changes: &[(&str, &str)], rule: &str) {
        self.plan_with(name, changes);
        program(&["plan", &self.text(&format!("{name}.toml"))]).refused(3, &format!("{rule}: "));
    }

    /// Rehearses a plan, then performs it; keeps its outputs under its name, if it ends.
    pub(crate) fn perform(&self, name: &str) -> Answer {
        let plan = self.text(&format!("{name}.toml"));
        let rehearsal = self.text("rehearsal.jsonl");
        program(&["rehearse", &plan, "-o", &rehearsal]).ok();
        program(&["verify", &rehearsal]).ok();
        second(&rehearsal).ok();
        fs::remove_file(rehearsal).unwrap();
        let exchange = self.text("exchange");
        let answer = self.place.run(&plan, &["--unattended", "--exchange", &exchange]);
        if answer.0.status.success() {
            self.kept(name);
        }
        answer
    }

    /// Goes on with the ceremony that waits.
    pub(crate) fn go_on(&self) -> Answer {
        self.place.resume(&["--exchange", &self.text("exchange")])
    }

    /// Keeps the outputs of the ceremony that ended under this name.
    pub(crate) fn kept(&self, name: &str) {
        for (from, to) in [
            ("transcript.jsonl", format!("{name}.jsonl")),
            ("second.jsonl", format!("{name}-second.jsonl")),
            ("handoff", name.to_owned()),
        ] {
            fs::rename(self.path(from), self.path(&to)).unwrap();
        }
    }

    /// Gives what was kept another name.
    pub(crate) fn rename(&self, from: &str, to: &str) {
        for suffix in ["", ".jsonl", "-second.jsonl"] {
            let name = |name: &str| self.path(&format!("{name}{suffix}"));
            fs::rename(name(from), name(to)).unwrap();
        }
    }

    /// Transcript, plan and outputs of a ceremony fit each other, and its bundle says so, too; by both
    /// verifiers.
    pub(crate) fn verified(&self, name: &str) {
        let [plan, transcript, outputs] =
            [format!("{name}.toml"), format!("{name}.jsonl"), name.to_owned()]
                .map(|name| self.text(&name));
        program(&["verify", &transcript, "--plan", &plan, "--handoff", &outputs]).ok();
        second(&transcript).ok();
        let bundle = self.text(&format!("{name}.bundle"));
        program(&["bundle", &transcript, "-o", &bundle]).ok();
        program(&["verify", &bundle]).ok();
        second(&bundle).ok();
    }

    /// Carries a file here from another machine.
    pub(crate) fn take(&self, other: &Self, from: &str, to: &str) {
        fs::copy(other.path(from), self.path(to)).unwrap();
    }

    pub(crate) fn forget(&self, name: &str) {
        fs::remove_file(self.path(name)).unwrap();
    }

    /// The revocation list of a ceremony, as PEM, as some programs want it; which list it is, is in
    /// the file's name.
    pub(crate) fn crl(&self, ceremony: &str) -> String {
        let entries = fs::read_dir(self.path(ceremony)).unwrap();
        let mut lists = entries
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "crl"));
        let list = lists.next().unwrap();
        let pem = self.path(&format!("{ceremony}.crl.pem"));
        peer("openssl", &["crl", "-inform", "DER", "-in"], &[&list, "-out".as_ref(), &pem]).ok();
        pem.to_str().unwrap().to_owned()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.place.path(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.place.text(name)
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// The head of a transcript, as its last line says it.
    fn head(&self, transcript: &str) -> String {
        let text = String::from_utf8(self.read(transcript)).unwrap();
        let last: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        last["head"].as_str().unwrap().to_owned()
    }
}

/// The names of the plans that come with the program.
pub(crate) fn plans() -> Vec<String> {
    let plans = fs::read_dir(manifest("plans")).unwrap().map(|entry| entry.unwrap().path());
    let mut names: Vec<String> =
        plans.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    names.sort();
    names
}
