//! The time in a transcript is right, and never goes back.

#[path = "harness/place.rs"]
mod place;

use std::{
    env::consts::ARCH,
    path::Path,
    process::{Command, Stdio},
};

use ceremony::{plan::Plan, verify::Verified};
use serde_json::{Value, json};

use place::*;

#[test]
fn a_clock_that_is_off_is_noticed_by_whoever_reads_another_one() {
    let place = Place::new();
    let plan = Plan::read(manifest(ROOT_AND_ISSUING).as_ref()).unwrap();
    let words = confirmations(&plan).concat();
    let rehearsal = place.rehearsal(ROOT_AND_ISSUING);
    let mut command = place.command(ROOT_AND_ISSUING);
    let off = "2020-01-01 12:00\n".repeat(3);
    let answer = typing(command.args(["--rehearsal", &rehearsal]), &format!("{off}{words}"));
    answer.refused(1, "and another one 2020-01-01T12:00:00Z");
    assert!(place.events("intent").is_empty(), "nothing was begun");
    place.resume_typing_all(&[], &words).refused(1, "was not confirmed");

    // One slip of the finger is forgiven.
    place.resume_typing_all(&[], &format!("noon\n{}{words}", clock())).ok();
    assert_eq!(place.events("clock").len(), 1);
    place.verify(&["--handoff", &place.text("handoff")]).ok();
}

#[test]
fn nothing_is_recorded_before_what_was_recorded_already() {
    let place = Place::new();
    let plan = Plan::read(manifest(ROOT_AND_ISSUING).as_ref()).unwrap();
    place.run_typing(ROOT_AND_ISSUING, "").refused(1, "was not confirmed");
    let before = place.text_of("transcript.jsonl");

    // The battery of the clock is empty: the machine comes up in the past.
    let library = format!("/usr/lib/{ARCH}-linux-gnu/faketime/libfaketimeMT.so.1");
    assert!(Path::new(&library).is_file(), "install faketime");
    let mut past = Command::new(env!("CARGO_BIN_EXE_chancery-ceremony"));
    past.env("LD_PRELOAD", library).env("FAKETIME", "-400d").arg("resume");
    past.arg("--site").arg(place.path("site.toml")).args(place.journals());
    past.arg("--handoff").arg(place.path("handoff")).args(["--reason", "the lights went out"]);
    Answer::of("resume", past.stdin(Stdio::null())).refused(1, "and the line before it at");
    assert_eq!(place.text_of("transcript.jsonl"), before);

    place.resume_typing(&[], &confirmations(&plan).concat()).ok();
    place.verify(&[]).ok();
}

#[test]
fn a_transcript_whose_time_goes_back_or_was_not_compared_is_refused() {
    let place = Place::new();
    let plan = Plan::read(manifest(ROOT_AND_ISSUING).as_ref()).unwrap();
    place.run_typing(ROOT_AND_ISSUING, &confirmations(&plan).concat()).ok();
    let whole = place.text_of("transcript.jsonl");
    let forge = |change: Change| {
        let lines = whole.lines().map(|line| serde_json::from_str(line).unwrap());
        let mut records: Vec<Value> = lines.collect();
        records.pop();
        change(&mut records);
        Verified::from_bytes(rechained(records).as_bytes())
    };
    forge(&|_| {}).unwrap();
    assert_eq!(forge(&|_| {}).unwrap().transcript[1].seq, 2);
    let table: [(&str, &str, Change); 5] = [
        ("a record of the day before", "line 7 was written at", &|records| {
            records[6]["time"] = json!("2020-01-01T00:00:00Z");
        }),
        ("a clock that was not compared", "line 3 is not the comparison", &|records| {
            assert_eq!(records.remove(2)["event"], "clock");
        }),
        ("a clock that was compared twice", "line 4 is not a comparison that", &|records| {
            records.insert(3, records[2].clone());
        }),
        ("a clock that disagrees", "line 3 is not a clock that", &|records| {
            records[2]["data"]["reads"] = json!("2020-01-01T00:00:00Z");
        }),
        ("a clock that a stranger read", "line 3 is not a record by people", &|records| {
            records[2]["who"] = json!(["mallory"]);
        }),
    ];
    for (what, said, change) in table {
        let error = forge(change).unwrap_err().to_string();
        assert!(error.contains(said), "{what}: {error}");
    }
}
