//! The program as a user runs it, on SoftHSM.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use ceremony::{plan::Plan, transcript, verify::Verified};
use pki::handoff::Handoff;
use serde_json::Value;
use tempfile::TempDir;

const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
const DEMO: &str = "plans/demo.toml";
const ROOT_AND_ISSUING: &str = "plans/root-and-issuing.toml";
const TOKEN_INIT: &str = "[[steps]]\ndo = \"token-init\"\n";

#[test]
fn the_demo_ceremony_gives_what_openssl_and_openssh_accept() {
    let place = Place::new();
    place.initialize_token();
    let answer: Value =
        serde_json::from_str(&place.run(DEMO, &["--unattended", "--json"]).ok()).unwrap();
    let head = answer["head"].as_str().unwrap();

    let handoff = Handoff::read(&place.path("handoff")).unwrap();
    assert_eq!(handoff.ceremony.transcript, head);
    let online = |name: &str| handoff.x509[name].online;
    assert_eq!(["root", "issuing", "services"].map(online), [false, true, true]);
    assert_eq!(handoff.x509["issuing"].chain, ["issuing.pem", "root.pem"]);
    assert_eq!(handoff.ssh.keys().collect::<Vec<_>>(), ["ssh-host", "ssh-user"]);
    assert_eq!(handoff.raw.keys().collect::<Vec<_>>(), ["firmware"]);
    assert_eq!(place.objects().matches("Private Key Object").count(), 7);

    let root = place.path("handoff/root.pem");
    for name in ["root", "issuing", "services"] {
        let certificate = place.path(&format!("handoff/{name}.pem"));
        peer("openssl", &["verify", "-x509_strict", "-CAfile"], &[&root, &certificate]).ok();
    }
    for name in ["ssh-user", "ssh-host"] {
        peer("ssh-keygen", &["-l", "-f"], &[&place.path(&format!("handoff/{name}.pub"))]).ok();
    }

    let plan = manifest(DEMO);
    let verify = ["--plan", &plan, "--head", head, "--handoff", &place.text("handoff")];
    assert!(place.verify(&verify).ok().contains("unattended: nobody confirmed a step"));
}

#[test]
fn each_step_is_confirmed_by_its_own_two_words() {
    let place = Place::new();
    let plan = Plan::read(Path::new(&manifest(ROOT_AND_ISSUING))).unwrap();
    let words = confirmations(&plan);
    assert_eq!(words.len(), 6);

    // Two slips of the finger are forgiven.
    let typed = format!("yes\nroot\n{}", words.concat().to_uppercase());
    let answer = place.run_typing(ROOT_AND_ISSUING, &typed);
    assert!(answer.ok().contains(words[5].trim()));
    assert!(place.verify(&[]).ok().contains("attended: each step was confirmed"));
}

#[test]
fn a_step_that_is_not_confirmed_is_not_done_and_the_transcript_says_so() {
    let place = Place::new();
    place.initialize_token();
    let keys = place.write("keys.toml", &keys_only());
    let answer = place.run_typing(&keys, "yes\nroot\nyes\n");
    answer.refused(1, "the step was not confirmed");
    assert_eq!(place.objects(), "");
    place.verify(&[]).refused(5, "it was stopped: the step was not confirmed");
}

#[test]
fn nothing_is_overwritten() {
    let place = Place::new();
    place.run(ROOT_AND_ISSUING, &["--unattended"]).ok();
    let before = (place.objects(), place.files());

    place.run(ROOT_AND_ISSUING, &["--unattended"]).refused(3, "the transcript");
    fs::rename(place.path("transcript.jsonl"), place.path("kept.jsonl")).unwrap();
    place.run(ROOT_AND_ISSUING, &["--unattended"]).refused(3, "the hand-off");
    fs::rename(place.path("handoff"), place.path("kept")).unwrap();
    place.run(ROOT_AND_ISSUING, &["--unattended"]).refused(3, "a token labelled \"chancery\"");
    let keys = place.write("keys.toml", &keys_only());
    place.run(&keys, &["--unattended"]).refused(3, "issuing/root");
    let hand_off = ["hand-off", &place.text("kept.jsonl"), "--handoff", &place.text("kept")];
    program(&hand_off).refused(3, "exists already");

    fs::rename(place.path("kept.jsonl"), place.path("transcript.jsonl")).unwrap();
    fs::rename(place.path("kept"), place.path("handoff")).unwrap();
    fs::remove_file(&keys).unwrap();
    assert_eq!((place.objects(), place.files()), before);
}

#[test]
fn a_site_that_is_not_the_expected_one_is_refused_before_anything_is_changed() {
    let place = Place::new();
    place.initialize_token();
    let site = fs::read_to_string(place.path("site.toml")).unwrap();
    let wrong_hash = format!("module_sha256 = \"{}\"\n{site}", "00".repeat(32));
    let table = [
        (wrong_hash, 3, "another content"),
        (site.replace(MODULE, "libsofthsm2.so"), 2, "not an absolute path"),
        (site.replace("label = \"chancery\"", "label = \"chancellery\""), 4, "chancellery"),
        (site.replace("\"user.pin\"", "\"so.pin\""), 4, "refused the PIN"),
        (site.replace("\"user.pin\"", "\"open.pin\""), 2, "chmod 600"),
        (format!("pin = \"1234\"\n{site}"), 2, "unknown field `pin`"),
    ];
    let keys = place.write("keys.toml", &keys_only());
    let open = place.write("open.pin", "1234\n");
    peer("chmod", &["666"], &[Path::new(&open)]).ok();
    for (text, code, said) in table {
        place.write("site.toml", &text);
        place.run(&keys, &["--unattended"]).refused(code, said);
        assert!(!place.path("transcript.jsonl").exists(), "{said}");
    }
    place.write("site.toml", &site);
    assert_eq!(place.objects(), "");
}

#[test]
fn a_killed_ceremony_is_not_done_twice() {
    let place = Place::new();
    let plan = Plan::read(Path::new(&manifest(ROOT_AND_ISSUING))).unwrap();
    let words = confirmations(&plan);

    // The token, the root's key and its certificate are made; the next step waits for its words.
    let mut child = place.start(ROOT_AND_ISSUING);
    child.stdin.as_mut().unwrap().write_all(words[..3].concat().as_bytes()).unwrap();
    wait_for("six records and an opening", || place.records() == 8);
    child.kill().unwrap();
    child.wait().unwrap();
    let before = place.objects();
    assert_eq!(before.matches("Private Key Object").count(), 1);

    place.verify(&[]).refused(5, "it was interrupted");
    place.run(ROOT_AND_ISSUING, &["--unattended"]).refused(3, "the transcript");
    fs::rename(place.path("transcript.jsonl"), place.path("interrupted.jsonl")).unwrap();
    place.run(ROOT_AND_ISSUING, &["--unattended"]).refused(3, "a token labelled \"chancery\"");
    let keys = place.write("keys.toml", &keys_only());
    place.run(&keys, &["--unattended"]).refused(3, "issuing/root");
    assert!(!place.path("transcript.jsonl").exists());
    assert_eq!(place.objects(), before);
}

#[test]
fn a_ceremony_killed_while_it_works_is_not_done_twice() {
    // From the first key on; where exactly the kill lands is left to chance.
    for records in 4..=8 {
        let place = Place::new();
        place.initialize_token();
        let keys = place.write("keys.toml", &keys_only());
        let mut child =
            place.command(&keys).arg("--unattended").stdout(Stdio::null()).spawn().unwrap();
        wait_for("the records before the kill", || place.records() >= records);
        child.kill().unwrap();
        child.wait().unwrap();
        let before = place.objects();

        fs::rename(place.path("transcript.jsonl"), place.path("interrupted.jsonl")).unwrap();
        place.run(&keys, &["--unattended"]).refused(3, "issuing/root");
        assert!(!place.path("transcript.jsonl").exists());
        assert_eq!(place.objects(), before, "killed at record {records}");
    }
}

#[test]
fn every_flipped_bit_and_every_lost_line_is_found() {
    let place = Place::new();
    place.run(ROOT_AND_ISSUING, &["--unattended"]).ok();
    let whole = fs::read(place.path("transcript.jsonl")).unwrap();
    Verified::from_bytes(&whole).unwrap();

    let lines: Vec<&[u8]> = whole.split_inclusive(|byte| *byte == b'\n').collect();
    let mut start = 0;
    for (number, line) in lines.iter().enumerate() {
        // Every 13th byte and the last two, another bit each time; the line end is the last.
        let places = (0..line.len()).step_by(13).chain(line.len() - 2..line.len());
        for place in places {
            let mut flipped = whole.clone();
            flipped[start + place] ^= 1 << (place % 8);
            assert!(Verified::from_bytes(&flipped).is_err(), "line {}, byte {place}", number + 1);
        }
        if (1..lines.len()).contains(&number) {
            let error = Verified::from_bytes(&whole[..start]).unwrap_err().to_string();
            assert!(error.contains(&format!("after {number} whole records")), "{error}");
        }
        let lost = [&whole[..start], &whole[start + line.len()..]].concat();
        assert!(Verified::from_bytes(&lost).is_err(), "without line {}", number + 1);
        start += line.len();
    }
    let longer = [&whole[..], lines[1]].concat();
    assert!(Verified::from_bytes(&longer).is_err(), "with a line after the end");
}

/// What a forger does to the records.
type Change<'a> = &'a dyn Fn(&mut Vec<Value>);

#[test]
fn a_transcript_written_anew_with_a_chain_that_fits_is_found_by_what_it_says() {
    let place = Place::new();
    place.run(ROOT_AND_ISSUING, &["--unattended"]).ok();
    let whole = fs::read_to_string(place.path("transcript.jsonl")).unwrap();
    let forge = |change: Change| {
        let mut records: Vec<Value> =
            whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        records.pop();
        change(&mut records);
        Verified::from_bytes(rechained(records).as_bytes())
    };
    assert!(forge(&|_| {}).is_ok());

    let outcome = |records: &mut Vec<Value>, kind: &str, nth: usize| {
        let is = |record: &usize| records[*record].pointer(&format!("/data/{kind}")).is_some();
        (0..records.len()).filter(is).nth(nth).unwrap()
    };
    let key = "key-generated";
    let signed = "certificate-signed";
    let table: [(&str, &str, Change); 6] = [
        ("another public key", "the certificate as the plan gives it", &|records| {
            let (a, b) = (outcome(records, key, 1), outcome(records, key, 2));
            let other = records[b]["data"][key]["key"]["public_key"].clone();
            records[a]["data"][key]["key"]["public_key"] = other;
        }),
        ("another CKA_ID", "the planned key", &|records| {
            let at = outcome(records, key, 0);
            records[at]["data"][key]["key"]["id"] = "0011223344556677".into();
        }),
        ("an extractable key", "never leaves its token", &|records| {
            let at = outcome(records, key, 0);
            records[at]["data"][key]["attributes"]["CKA_EXTRACTABLE"] = true.into();
        }),
        ("the signature of another certificate", "a signature that verifies", &|records| {
            let (a, b) = (outcome(records, signed, 0), outcome(records, signed, 1));
            let other = records[a]["data"][signed]["signature"].clone();
            records[b]["data"][signed]["signature"] = other;
        }),
        ("another path length in the plan", "plan has the hash", &|records| {
            let step = &mut records[0]["data"]["plan"]["steps"][4]["sign-certificate"];
            step["kind"]["issuing"]["path_length"] = 3.into();
        }),
        ("a step left out", "the plan's next step", &|records| {
            let at = outcome(records, key, 2);
            records.drain(at - 1..=at);
        }),
    ];
    for (what, said, change) in table {
        let error = forge(change).unwrap_err().to_string();
        assert!(error.contains(said), "{what}: {error}");
    }
}

#[test]
fn a_hand_off_that_is_not_the_transcripts_is_found() {
    let place = Place::new();
    place.run(ROOT_AND_ISSUING, &["--unattended"]).ok();
    let handoff = place.text("handoff");
    let verify = |said: &str| place.verify(&["--handoff", &handoff]).refused(5, said);
    place.verify(&["--handoff", &handoff]).ok();

    place.write("handoff/more.txt", "more");
    verify("more.txt does not belong there");
    fs::remove_dir_all(&handoff).unwrap();

    program(&["hand-off", &place.text("transcript.jsonl"), "--handoff", &handoff]).ok();
    place.verify(&["--handoff", &handoff]).ok();
    fs::copy(place.path("handoff/issuing.pem"), place.path("handoff/root.pem")).unwrap();
    verify("does not follow it in the chain");
    fs::remove_dir_all(&handoff).unwrap();

    program(&["hand-off", &place.text("transcript.jsonl"), "--handoff", &handoff]).ok();
    let root = fs::read_to_string(place.path("handoff/root.pem")).unwrap();
    place.write("handoff/root.pem", &format!("{root}\n"));
    verify("root.pem");
    place.verify(&["--head", &"00".repeat(32)]).refused(5, "head");
    place.verify(&["--plan", &manifest(DEMO)]).refused(5, "hash");
}

#[test]
fn a_plan_is_explained_and_its_findings_are_named() {
    let place = Place::new();
    let demo = place.write("demo.toml", &program(&["new", "demo"]).ok());
    let answer = program(&["plan", &demo]).ok();
    assert!(answer.contains("  1  generate the rsa3072 key issuing/root in the token"), "{answer}");
    let root = place.write("root.toml", &program(&["new", "root-and-issuing"]).ok());
    let answer = program(&["plan", &root, "--json"]).ok();
    let answer: Value = serde_json::from_str(&answer).unwrap();
    let plan = Plan::read(Path::new(&manifest(ROOT_AND_ISSUING))).unwrap();
    assert_eq!(answer["plan_hash"], plan.hash().to_string());

    let broken = keys_only().replace("path_length = 0\n", "");
    let broken = place.write("broken.toml", &broken);
    program(&["plan", &broken]).refused(3, "issuing-needs-signer-and-path-length: ");
    program(&["plan", &place.text("absent.toml")]).refused(2, "cannot read the plan");
}

/// A directory with a SoftHSM of its own, a site file and the outputs of one ceremony.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
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
             [token]\nlabel = \"chancery\"\n[environment]\nSOFTHSM2_CONF = \"{conf}\"\n"
        );
        place.write("site.toml", &site);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn write(&self, name: &str, content: &str) -> String {
        fs::write(self.path(name), content).unwrap();
        self.text(name)
    }

    fn initialize_token(&self) {
        let arguments = ["--init-token", "--free", "--label", "chancery"];
        let pins = ["--so-pin", "12345678", "--pin", "1234"];
        self.softhsm("softhsm2-util", &[&arguments[..], &pins].concat()).ok();
    }

    /// What is in the token, as another program sees it; empty without a token.
    fn objects(&self) -> String {
        let login = ["--module", MODULE, "--token-label", "chancery", "--login", "--pin", "1234"];
        self.softhsm("pkcs11-tool", &[&login[..], &["--list-objects"]].concat()).ok()
    }

    fn softhsm(&self, program: &str, arguments: &[&str]) -> Answer {
        let mut command = Command::new(program);
        command.args(arguments).env("SOFTHSM2_CONF", self.path("softhsm2.conf"));
        Answer::of(program, &mut command)
    }

    /// Names and contents of everything here but the tokens.
    fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
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

    fn run(&self, plan: &str, flags: &[&str]) -> Answer {
        Answer::of("run", self.command(plan).args(flags).stdin(Stdio::null()))
    }

    fn run_typing(&self, plan: &str, typed: &str) -> Answer {
        let mut child = self.start(plan);
        // The program may have refused, and closed its input, before it was asked.
        let _ = child.stdin.take().unwrap().write_all(typed.as_bytes());
        Answer(child.wait_with_output().unwrap())
    }

    fn start(&self, plan: &str) -> Child {
        let mut command = self.command(plan);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    }

    fn command(&self, plan: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_chancery-ceremony"));
        command.arg("run").arg(manifest(plan)).arg("--site").arg(self.path("site.toml"));
        command.arg("--transcript").arg(self.path("transcript.jsonl"));
        command.arg("--handoff").arg(self.path("handoff"));
        command
    }

    fn verify(&self, flags: &[&str]) -> Answer {
        program(&[&["verify", &self.text("transcript.jsonl")], flags].concat())
    }

    fn records(&self) -> usize {
        fs::read_to_string(self.path("transcript.jsonl")).map_or(0, |text| text.lines().count())
    }
}

/// What a program answered.
struct Answer(Output);

impl Answer {
    fn of(name: &str, command: &mut Command) -> Self {
        Self(command.output().unwrap_or_else(|error| panic!("{name} cannot be run: {error}")))
    }

    /// Standard output of a program that succeeded.
    fn ok(self) -> String {
        let error = String::from_utf8_lossy(&self.0.stderr);
        let output = String::from_utf8(self.0.stdout).unwrap();
        assert!(self.0.status.success(), "{}\n{output}{error}", self.0.status);
        output
    }

    /// The program ended with this code, said this, and gave a hint.
    fn refused(self, code: i32, said: &str) {
        let error = String::from_utf8_lossy(&self.0.stderr);
        assert_eq!(self.0.status.code(), Some(code), "{said}: {error}");
        assert!(error.starts_with("error: ") && error.contains("\nhint: "), "{error}");
        assert!(error.contains(said), "{said:?} is not in: {error}");
    }
}

fn program(arguments: &[&str]) -> Answer {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chancery-ceremony"));
    Answer::of("chancery-ceremony", command.args(arguments))
}

fn peer(program: &str, arguments: &[&str], paths: &[&Path]) -> Answer {
    Answer::of(program, Command::new(program).args(arguments).args(paths))
}

/// A path below this crate; absolute paths stay as they are.
fn manifest(path: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path).to_str().unwrap().to_owned()
}

/// The same keys on a token that is there already.
fn keys_only() -> String {
    let text = fs::read_to_string(manifest(ROOT_AND_ISSUING)).unwrap();
    assert!(text.contains(TOKEN_INIT));
    text.replace(TOKEN_INIT, "")
}

/// The lines to type, in order.
fn confirmations(plan: &Plan) -> Vec<String> {
    let steps = plan.steps().take(plan.script().steps.len() - 1);
    steps.map(|(number, step)| format!("{}\n", plan.confirmation(number, step))).collect()
}

fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}: not within a minute");
        thread::sleep(Duration::from_millis(20));
    }
}

/// The transcript of these records, with every `seq`, `prev` and the head as they must be.
fn rechained(records: Vec<Value>) -> String {
    let mut text = String::new();
    let mut head = None;
    for (mut record, number) in records.into_iter().zip(1_u64..) {
        let data = &record["data"];
        let digest = |name: &str| data[name].as_str().unwrap_or_default().parse();
        let previous = head.unwrap_or_else(|| {
            let tool = data["tool"].as_str().unwrap();
            transcript::start(digest("plan_hash").unwrap(), digest("site_hash").unwrap(), tool)
        });
        record["seq"] = number.into();
        record["prev"] = previous.to_string().into();
        // The fields in the order of the types, which a JSON map does not keep.
        let record: transcript::Record = serde_json::from_value(record).unwrap();
        let line = serde_json::to_string(&record).unwrap();
        head = Some(transcript::next(previous, line.as_bytes()));
        text += &format!("{line}\n");
    }
    format!("{text}{{\"head\":\"{}\"}}\n", head.unwrap())
}
