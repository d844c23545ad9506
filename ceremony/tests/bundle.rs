//! The evidence bundle, and its two verifiers.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "harness/meeting.rs"]
mod meeting;
#[path = "harness/place.rs"]
mod place;
#[path = "harness/second.rs"]
mod second;

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use ceremony::{
    digest::Digest,
    evidence::{Evidence, archive},
    plan::Plan,
    words::spoken,
};
use serde_json::Value;

use meeting::*;
use place::*;
use second::*;

#[test]
fn both_verifiers_find_nothing_wrong_in_the_bundle_of_one_person() {
    let place = Place::new();
    let plan = Plan::read(manifest(ROOT_AND_ISSUING).as_ref()).unwrap();
    place.run_typing(ROOT_AND_ISSUING, &confirmations(&plan).concat()).ok();
    let photo = place.write("photo.jpg", "not a photo");
    let film = place.write("film.mp4", "not a film");
    let output = place.text("a.bundle");
    let given = ["--rehearsal", &place.text("rehearsal.jsonl"), "--site", &place.text("site.toml")];
    let more = ["--attach", &photo, "--hash-of", &film, "-o", &output, "--json"];
    let transcript = place.text("transcript.jsonl");
    let answer = program(&[&["bundle", &transcript], &given[..], &more].concat()).ok();
    let made: Value = serde_json::from_str(&answer).unwrap();
    let head = made["head"].as_str().unwrap();

    // The same once more is the same file.
    let again = place.text("again.bundle");
    program(&[&["bundle", &transcript], &given[..], &more[..4], &["-o", &again]].concat()).ok();
    assert_eq!(fs::read(&output).unwrap(), fs::read(&again).unwrap());
    program(&["bundle", &transcript, given[0], given[1], "-o", &again]).refused(1, "cannot write");

    let words = spoken(head.parse().unwrap());
    let known = ["--head", head, "--words", &words, "--sum", made["sha256"].as_str().unwrap()];
    let handoff = ["--handoff", &place.text("handoff")];
    let verified = program(&[&["verify", &output], &known[..], &handoff].concat()).ok();
    assert!(verified.contains("bundle of 26 files: nothing is wrong"), "{verified}");
    let second = second_verifier(&[&output, "--head", head, "--json"]).ok();
    let second: Value = serde_json::from_str(&second).unwrap();
    assert_eq!((&second["head"], &second["sha256"]), (&made["head"], &made["sha256"]));
    assert_eq!(second["attendance"], "attended");
    let other = "00".repeat(32);
    program(&["verify", &output, "--head", &other]).refused(5, "head");
    program(&["verify", &output, "--sum", &other]).refused(5, "SHA-256");
    program(&["verify", &output, "--words", "aardvark absurd"]).refused(5, "words");
    second_verifier(&[&output, "--head", &other]).refused(5, "head");
    second_verifier(&[&output, "--sha256", &other]).refused(5, "SHA-256");
    second_verifier(&[&place.text("nothing")]).refused(2, "nothing");
    let qr = place.text("head.svg");
    program(&["verify", &output, "--qr", &qr]).ok();
    let evidence = Evidence::read(&fs::read(&output).unwrap()).unwrap();
    let own = fs::read(manifest("verify.py")).unwrap();
    assert_eq!(evidence.second_verifier(), own);
    assert_eq!(evidence.files["head.svg"], fs::read(&qr).unwrap());
    assert_eq!(made["verify_py_sha256"], Digest::of_file(&own).to_string());
}

#[test]
fn both_verifiers_find_nothing_wrong_in_the_bundle_of_several_people() {
    let meeting = Meeting::new();
    let lines = meeting.lines(&["alice", "bob", "carol"]);
    meeting.run_typing(&lines[..2]).refused(1, "was not confirmed");
    meeting.place.about(&["except", "--by", "bob", "--text", "the seal of bag 7 is torn"]).ok();
    meeting.resume_typing(&lines).ok();
    let output = bundle(&meeting.place, "a.bundle", &[]);
    program(&["verify", &output]).ok();
    let said: Value = serde_json::from_str(&second_verifier(&[&output, "--json"]).ok()).unwrap();
    assert_eq!(said["approved_by"], serde_json::json!(["alice", "dave"]));
    assert_eq!(said["signed_off_by"], serde_json::json!(["alice", "bob", "carol"]));

    // What an auditor types, as README.txt has it, with no program of ours.
    let opened = meeting.place.path("opened");
    fs::create_dir(&opened).unwrap();
    peer("tar", &["--extract", "-C", opened.to_str().unwrap(), "-f"], &[Path::new(&output)]).ok();
    let inside = opened.join("root-and-issuing");
    let readme = fs::read_to_string(inside.join("README.txt")).unwrap();
    let typed: Vec<&str> = readme.split("TO SEE FOR YOURSELF").nth(1).unwrap().lines().collect();
    let typed: String =
        typed.iter().filter(|line| line.starts_with("  ")).map(|it| format!("{it}\n")).collect();
    let typed = typed.replace("../BUNDLE", &output);
    assert_eq!(typed.matches("ssh-keygen -Y verify").count(), 5);
    assert_eq!(typed.matches("openssl verify").count(), 2);
    let said =
        Answer::of("sh", Command::new("sh").args(["-euc", &typed]).current_dir(&inside)).ok();
    assert!(said.contains(&meeting.plan().hash().to_string()), "{said}");

    // What the plan does not have is told.
    let exceptions = fs::read_to_string(inside.join("exceptions.json")).unwrap();
    let exceptions: Value = serde_json::from_str(&exceptions).unwrap();
    let events: Vec<&Value> =
        exceptions.as_array().unwrap().iter().map(|it| &it["event"]).collect();
    assert_eq!(events, ["stopped", "exception", "resumed"]);
    let clauses: Value =
        serde_json::from_slice(&fs::read(inside.join("clauses.json")).unwrap()).unwrap();
    let records = |number: usize| clauses[number - 1]["records"].as_array().unwrap().len();
    let transcript = meeting.place.text_of("transcript.jsonl");
    assert_eq!(records(20), transcript.lines().count() - 1);
    // Two steps sign a certificate, two persons were asked for each.
    assert_eq!([records(16), records(17), records(18)], [2, 3, 2]);
    assert!(records(2) >= 3 && records(6) >= 5 && records(3) == 0 && records(5) == 0);
}

#[test]
fn the_second_verifier_knows_every_kind_of_step_that_the_plans_have() {
    let place = Place::new();
    for entry in fs::read_dir(manifest("plans")).unwrap() {
        let plan = entry.unwrap().path();
        let name = plan.file_stem().unwrap().to_str().unwrap();
        if !is_alone(plan.to_str().unwrap()) {
            continue;
        }
        let output = place.text(&format!("{name}.jsonl"));
        program(&["rehearse", plan.to_str().unwrap(), "-o", &output]).ok();
        let said = second_verifier(&[&output, "--json"]).ok();
        let said: Value = serde_json::from_str(&said).unwrap();
        let first: Value =
            serde_json::from_str(&program(&["verify", &output, "--json"]).ok()).unwrap();
        assert_eq!(said["head"], first["head"], "{name}");
    }
}

#[test]
fn a_bundle_names_the_one_before_it() {
    let place = Place::new();
    place.run(ROOT_AND_ISSUING, &["--unattended"]).ok();
    let transcript = place.text("transcript.jsonl");
    let (first, second) = (place.text("1.bundle"), place.text("2.bundle"));
    program(&["bundle", &transcript, "-o", &first]).ok();
    program(&["bundle", &transcript, "--previous", &first, "-o", &second]).ok();
    let verified = program(&["verify", &second, "--previous", &first]).ok();
    assert!(verified.contains("after the bundle"), "{verified}");
    second_verifier(&[&second]).ok();
    program(&["verify", &first, "--previous", &second]).refused(5, "as the one before it");
    program(&["bundle", &transcript, "--previous", &transcript, "-o", &place.text("3.bundle")])
        .refused(5, "archive");
}

#[test]
fn what_does_not_belong_into_a_bundle_is_not_put_in() {
    let place = Place::new();
    let rehearsal = place.rehearsal(ROOT_AND_ISSUING);
    let output = place.text("a.bundle");
    let bundle = |transcript: &str, flags: &[&str], code: i32, said: &str| {
        let transcript = place.text(transcript);
        let arguments = [&["bundle", &transcript, "-o", &output], flags].concat();
        program(&arguments).refused(code, said);
        assert!(!place.path("a.bundle").exists(), "{said}");
    };
    bundle("rehearsal.jsonl", &[], 3, "is of a rehearsal");
    let plan = Plan::read(manifest(ROOT_AND_ISSUING).as_ref()).unwrap();
    place.run_typing(ROOT_AND_ISSUING, &confirmations(&plan).concat()).ok();
    bundle("transcript.jsonl", &[], 2, "the rehearsal that the transcript names is not there");
    let elsewhere = Place::new();
    let other = ["--rehearsal", &elsewhere.rehearsal(DEMO)];
    bundle("transcript.jsonl", &other, 5, "does not name the rehearsal");
    let rehearsed = ["--rehearsal", rehearsal.as_str()];
    let with = |flags: &[&str], code: i32, said: &str| {
        bundle("transcript.jsonl", &[&rehearsed[..], flags].concat(), code, said);
    };
    let key = keygen_private(&place);
    with(&["--attach", &key], 5, "attachments/key has a private key in it");
    let odd = place.write("a photo.jpg", "not a photo");
    with(&["--attach", &odd], 2, "is not a name for a bundle");
    let photo = place.write("photo.jpg", "not a photo");
    with(&["--attach", &photo, "--attach", &photo], 2, "two files are called photo.jpg");
    let site = place.write("other.toml", &format!("{}\n", place.text_of("site.toml")));
    with(&["--site", &site], 5, "not the site file of the ceremony");
    bundle(
        "transcript.jsonl",
        &["--rehearsal", &place.text("transcript.jsonl")],
        5,
        "rehearsal.jsonl",
    );
}

#[test]
fn a_bundle_that_was_written_anew_is_refused_by_what_it_says() {
    let meeting = Meeting::new();
    meeting.run_typing(&meeting.lines(&["alice", "bob", "carol"])).ok();
    let photo = meeting.place.write("photo.jpg", "not a photo");
    let output = bundle(&meeting.place, "a.bundle", &["--attach", &photo]);
    let (whole, seconds) = archive::read(&fs::read(&output).unwrap()).unwrap();

    // Whoever changes a file changes its hash, too: it must be what the transcript gives.
    let mut second = Second::start();
    let mut both = |files: &archive::Files, seconds: u64| {
        let content = archive::write(files, seconds);
        let first = Evidence::read(&content).map(drop).map_err(|error| error.to_string());
        [first, second.verify(&content)]
    };
    for name in whole.keys() {
        let file = name.strip_prefix("root-and-issuing/").unwrap();
        // The hashes are made anew; an attachment has nothing but its hash.
        if ["SHA256SUMS", "attachments/photo.jpg"].contains(&file) {
            continue;
        }
        for change in ["dropped", "longer", "another"] {
            let mut files = whole.clone();
            match change {
                "dropped" => drop(files.remove(name)),
                "longer" => files.get_mut(name).unwrap().extend(b"\n# more\n"),
                _ => files.insert(name.clone(), b"another\n".to_vec()).map_or((), drop),
            }
            let [first, second] = both(&with_sums(files), seconds);
            let first = first.unwrap_err();
            assert!(first.contains(file), "{file} {change}: {first}");
            // What explains the rest, Python takes as it is; and in TOML a comment says nothing.
            let explains =
                ["README.txt", "head.svg", "verify.py"].contains(&file) && change != "dropped";
            let comment = file == "handoff/handoff.toml" && change == "longer";
            if !explains && !comment {
                let second = second.unwrap_err();
                assert!(second.contains(file), "{file} {change}: {second}");
            }
        }
    }
    // A file of another name, another time, another directory.
    let mut more = whole.clone();
    more.insert("root-and-issuing/zzz.txt".to_owned(), b"more".to_vec());
    let moved = whole.iter().map(|(name, it)| (name.replace("root-", "boot-"), it.clone()));
    let table = [
        (with_sums(more), seconds, "zzz.txt"),
        (whole.clone(), seconds + 1, "the archive"),
        (moved.collect(), seconds, "the archive"),
    ];
    for (files, seconds, said) in table {
        for error in both(&files, seconds).map(Result::unwrap_err) {
            assert!(error.contains(said), "{said}: {error}");
        }
    }
    assert_eq!(both(&whole, seconds), [Ok(()), Ok(())]);
}

/// The bundle of a ceremony in this place, which was rehearsed.
fn bundle(place: &Place, name: &str, flags: &[&str]) -> String {
    let (transcript, rehearsal) = (place.text("transcript.jsonl"), place.text("rehearsal.jsonl"));
    let output = place.text(name);
    let given = ["bundle", &transcript, "--rehearsal", &rehearsal, "-o", &output];
    program(&[&given[..], flags].concat()).ok();
    output
}

fn with_sums(mut files: archive::Files) -> archive::Files {
    let manifest = "root-and-issuing/SHA256SUMS";
    files.remove(manifest);
    let hashes: BTreeMap<&str, Digest> = files
        .iter()
        .map(|(name, content)| (name.split_once('/').unwrap().1, Digest::of_file(content)))
        .collect();
    let sums: String = hashes.iter().map(|(name, hash)| format!("{hash}  {name}\n")).collect();
    files.insert(manifest.to_owned(), sums.into_bytes());
    files
}

fn keygen_private(place: &Place) -> String {
    keygen(place, "key", "ed25519");
    place.text("key")
}
