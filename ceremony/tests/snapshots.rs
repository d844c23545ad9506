//! What people read is checked in, and compared with what the program says: a change of it is seen by
//! whoever reviews it. `make snapshots` writes the files again; look at the difference then.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "harness/place.rs"]
mod place;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use ceremony::{transcript::Event, verify::Verified, words::spoken};
use serde_json::{Value, json};

use place::*;

/// Texts by the names of their files.
type Snapshots = BTreeMap<String, String>;

#[test]
fn what_people_read_is_what_is_checked_in() {
    let (wanted, found) = (now(), checked_in());
    let names = |all: &Snapshots| all.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&wanted), names(&found), "{AGAIN}");
    for (name, text) in wanted {
        let differs = text.lines().zip(found[&name].lines()).find(|(now, then)| now != then);
        assert_eq!(differs, None, "{name}: now, and checked in. {AGAIN}");
        assert_eq!(text.len(), found[&name].len(), "{name}: one ends sooner. {AGAIN}");
    }
}

#[test]
#[ignore = "`make snapshots`"]
fn make_the_snapshots_again() {
    for name in checked_in().keys() {
        fs::remove_file(directory().join(name)).unwrap();
    }
    for (name, text) in now() {
        let path = directory().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

/// What the program says now.
fn now() -> Snapshots {
    let mut all = Snapshots::new();
    usage(&mut all);
    for entry in fs::read_dir(manifest("plans")).unwrap() {
        let plan = entry.unwrap().path();
        let template = plan.file_stem().unwrap().to_str().unwrap().to_owned();
        let plan = plan.to_str().unwrap();
        if !is_alone(plan) {
            continue;
        }
        all.insert(format!("plan/{template}.txt"), said(&["plan", plan]));
        let place = Place::new();
        program(&["script", plan, "-o", &place.text("script.html")]).ok();
        all.insert(format!("script/{template}.html"), place.text_of("script.html"));
    }
    rehearsal(&mut all);
    all
}

/// What `--help` says of every command that it lists.
fn usage(all: &mut Snapshots) {
    let help = said(&["--help"]);
    let commands = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    for command in commands.lines().filter_map(|line| line.split_whitespace().next()) {
        // Long descriptions go on in lines that begin further to the right.
        let listed = commands.lines().any(|line| line.starts_with(&format!("  {command} ")));
        if listed && command != "help" {
            all.insert(format!("usage/{command}.txt"), said(&[command, "--help"]));
        }
    }
    all.insert("usage.txt".to_owned(), help);
}

/// A transcript and its report: of a rehearsal, less whatever is another thing each time.
fn rehearsal(all: &mut Snapshots) {
    let place = Place::new();
    let kept = place.rehearsal(ROOT_AND_ISSUING);
    program(&["report", &kept, "-o", &place.text("report.html")]).ok();
    let verified = Verified::read(Path::new(&kept)).unwrap();

    let mut report = place.text_of("report.html").replace(&spoken(verified.head), "WORDS");
    for record in &verified.transcript {
        let time = record.time.strftime("%Y-%m-%d %H:%M:%S").to_string();
        report = report.replace(&time, "TIME");
        if let Event::Environment(found) = &record.event {
            let lines = found.to_string();
            let lines: Vec<String> = lines.lines().map(|it| format!("<p>{it}</p>")).collect();
            report = report.replace(&lines.join("\n"), "MACHINE");
        }
    }
    all.insert("report/root-and-issuing.html".to_owned(), numbered(&report));

    let text = place.text_of("rehearsal.jsonl");
    let lines: String = text.lines().map(|line| format!("{}\n", steady(line))).collect();
    all.insert("transcript/root-and-issuing.jsonl".to_owned(), numbered(&lines));
}

/// A line of a transcript without its time, and without what another machine has otherwise.
fn steady(line: &str) -> String {
    let mut record: Value = serde_json::from_str(line).unwrap();
    if record.get("time").is_some() {
        record["time"] = json!("TIME");
    }
    if record["event"] == "environment" {
        record["data"] = json!("MACHINE");
    }
    for (pointer, word) in [
        ("/data/boot", "BOOT"),
        ("/data/module/path", "PATH"),
        ("/data/key-generated/key/public_key", "PUBLIC KEY"),
    ] {
        if let Some(value) = record.pointer_mut(pointer) {
            *value = json!(word);
        }
    }
    record.to_string()
}

/// The text with a number for each long hexadecimal value: the same for the same.
fn numbered(text: &str) -> String {
    let mut numbers: BTreeMap<String, usize> = BTreeMap::new();
    let mut output = String::new();
    let mut rest = text;
    while !rest.is_empty() {
        let plain = |letter: char| !letter.is_ascii_alphanumeric();
        let end = rest.find(plain).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        let hexadecimal = word.bytes().all(|it| it.is_ascii_digit() || (b'a'..=b'f').contains(&it));
        if word.len() >= 16 && hexadecimal {
            let next = numbers.len() + 1;
            let number = *numbers.entry(word.to_owned()).or_insert(next);
            output += &format!("HEX{number}");
        } else {
            output += word;
        }
        let letter = after.chars().next();
        output.extend(letter);
        rest = &after[letter.map_or(0, char::len_utf8)..];
    }
    output
}

fn said(arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chancery-ceremony"));
    // As wide as it is without a terminal.
    Answer::of("chancery-ceremony", command.args(arguments).env_remove("COLUMNS")).ok()
}

fn directory() -> PathBuf {
    PathBuf::from(manifest("tests/snapshots"))
}

/// The files below the directory, but for the one that explains them.
fn checked_in() -> Snapshots {
    let mut all = Snapshots::new();
    let mut directories = vec![directory()];
    while let Some(place) = directories.pop() {
        for entry in fs::read_dir(place).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if !path.ends_with("README.md") {
                let name = path.strip_prefix(directory()).unwrap().to_str().unwrap().to_owned();
                all.insert(name, fs::read_to_string(&path).unwrap());
            }
        }
    }
    all
}

const AGAIN: &str = "If it is meant, run `make snapshots` and look at the difference.";
