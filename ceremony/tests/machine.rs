//! A ceremony takes place on a machine as its plan demands it, and in a token that protects its keys.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "harness/place.rs"]
mod place;

use std::{fs, process::Command};

use ceremony::verify::{Verified, VerifyError};
use serde_json::{Value, json};

use place::*;

#[test]
fn what_a_machine_is_like_is_recorded_and_shown() {
    let place = Place::new();
    let said = place.run(ROOT_AND_ISSUING, &["--unattended"]).ok();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let kernel = format!("Linux {}", kernel.trim());
    assert!(said.contains(&kernel), "{said}");
    let [environment] = place.events("environment").try_into().unwrap();
    assert_eq!(environment["kernel"], kernel);
    assert_eq!(environment["free"].as_array().unwrap().len(), 2, "one for each journal");
    assert!(environment["findings"].get("core-dumps").is_none(), "{environment}");
    place.verify(&[]).ok();
}

#[test]
fn a_machine_that_the_plan_does_not_let_pass_is_refused_and_nothing_is_changed() {
    let place = Place::new();
    let plan = place.write("plan.toml", &refusing("core-dumps\", \"variables"));
    let surprised = run(&place, &plan).env("GCONV_PATH", "/tmp").output().unwrap();
    Answer(surprised).refused(3, "variables: GCONV_PATH");
    assert!(!place.path("transcript.jsonl").exists());
    assert_eq!(fs::read_dir(place.path("tokens")).unwrap().count(), 0);

    // A rehearsal takes place anywhere; its transcript says what was found.
    let rehearsed = ["rehearse", &plan, "-o", &place.text("rehearsal.jsonl")];
    let mut command = Command::new(env!("CARGO_BIN_EXE_chancery-ceremony"));
    Answer::of("rehearse", command.args(rehearsed).env("GCONV_PATH", "/tmp")).ok();
    let rehearsal = place.text_of("rehearsal.jsonl");
    assert!(rehearsal.contains("GCONV_PATH"), "{rehearsal}");

    Answer(run(&place, &plan).output().unwrap()).ok();
    place.verify(&["--handoff", &place.text("handoff")]).ok();
    let forged = forge(&place, &|records| {
        records[1]["data"]["findings"]["variables"] = json!("GCONV_PATH");
    });
    let error = forged.unwrap_err().to_string();
    assert!(error.contains("line 2 is not a machine as the plan demands it"), "{error}");
}

#[test]
fn a_ceremony_does_not_go_on_on_a_machine_that_the_plan_does_not_let_pass() {
    let place = Place::new();
    let plan = place.write("plan.toml", &refusing("variables"));
    // Attended, and nobody types anything.
    let rehearsal = place.rehearsal(&plan);
    let mut command = place.command(&plan);
    command.args(["--rehearsal", &rehearsal]).env_clear().env("PATH", "/usr/bin:/bin");
    typing(&mut command, "").refused(1, "was not confirmed");
    let before = place.text_of("transcript.jsonl");
    let mut command = place.resumption(&[]);
    let resumed = command.env("GCONV_PATH", "/tmp").output().unwrap();
    Answer(resumed).refused(3, "the machine is not as the plan demands it");
    assert_eq!(place.text_of("transcript.jsonl"), before);
}

#[test]
fn a_token_in_software_takes_a_reason() {
    let site = |place: &Place| {
        let site = place.text_of("site.toml");
        place.write("site.toml", &site.replace(&format!("software_token = \"{MEANT}\"\n"), ""));
    };
    let place = Place::new();
    site(&place);
    place.run(ROOT_AND_ISSUING, &["--unattended"]).refused(3, "a token in software");
    place.initialize_token();
    let keys = place.write("keys.toml", &keys_only());
    place.run(&keys, &["--unattended"]).refused(3, "a token in software");
    assert!(!place.path("transcript.jsonl").exists() && place.objects().is_empty());
    // A rehearsal needs no reason: its keys are thrown away.
    place.run(&keys, &["--rehearsed"]).ok();
}

#[test]
fn a_transcript_that_says_less_of_the_machine_is_refused() {
    let place = Place::new();
    place.run(ROOT_AND_ISSUING, &["--unattended"]).ok();
    forge(&place, &|_| {}).unwrap();
    let table: [(&str, &str, Change); 3] = [
        ("a machine that nobody looked at", "line 2 is not the check of the machine", &|records| {
            assert_eq!(records.remove(1)["event"], "environment");
        }),
        ("a machine that was looked at twice", "line 3 is not a check that", &|records| {
            records.insert(2, records[1].clone());
        }),
        ("no reason for the token", "is not a token that protects its keys", &|records| {
            let opened = records[0]["data"].as_object_mut().unwrap();
            assert_eq!(opened.remove("software_token"), Some(json!(MEANT)));
        }),
    ];
    for (what, said, change) in table {
        let error = forge(&place, change).unwrap_err().to_string();
        assert!(error.contains(said), "{what}: {error}");
    }
}

/// The transcript as somebody changed it, with a chain that fits.
fn forge(place: &Place, change: Change) -> Result<Verified, VerifyError> {
    let whole = place.text_of("transcript.jsonl");
    let mut records: Vec<Value> =
        whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    records.pop();
    change(&mut records);
    Verified::from_bytes(rechained(records).as_bytes())
}

/// The plan of a root that refuses a machine where one of these is found.
fn refusing(checks: &str) -> String {
    let text = fs::read_to_string(manifest(ROOT_AND_ISSUING)).unwrap();
    format!("{text}\n[machine]\nrefuse = [\"{checks}\"]\n")
}

/// The ceremony, with no variables of whoever runs the tests.
fn run(place: &Place, plan: &str) -> Command {
    let mut command = place.command(plan);
    command.arg("--unattended").env_clear().env("PATH", "/usr/bin:/bin");
    command
}
