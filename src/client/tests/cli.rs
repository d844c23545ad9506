//! The command line as people see it. Each file in `tests/cases` is a story: files that are
//! written (`write NAME`, then lines with `| `), commands (`$ `), exit codes (`? `), what was
//! printed (`> `) and what was complained of (`! `). `CASES=update` writes down what happens now.

#![expect(
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a test stops and tells where things are not as it says"
)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

#[test]
fn every_case_says_what_it_did() {
    let mut cases: Vec<_> = fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cases"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    cases.sort();
    assert!(!cases.is_empty());
    let update = std::env::var_os("CASES").is_some_and(|it| it == "update");
    let different: Vec<PathBuf> = cases.into_iter().filter(|case| differs(case, update)).collect();
    assert!(different.is_empty(), "see above: {different:?}");
}

fn differs(case: &Path, update: bool) -> bool {
    let expected = fs::read_to_string(case).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let happened = play(&expected, directory.path());
    if happened == expected {
        return false;
    }
    if update {
        fs::write(case, happened).unwrap();
        return false;
    }
    eprintln!("--- {} expects\n{expected}\n--- but this happened\n{happened}", case.display());
    true
}

/// Does what the story says, and tells it as it went.
fn play(story: &str, directory: &Path) -> String {
    let mut told = String::new();
    let mut file = PathBuf::new();
    for line in story.lines() {
        if let Some(command) = line.strip_prefix("$ ") {
            told.push_str(&format!("{line}\n"));
            told.push_str(&run(command, directory));
        } else if !line.starts_with(['?', '>', '!']) {
            told.push_str(&format!("{line}\n"));
            if let Some(name) = line.strip_prefix("write ") {
                file = directory.join(name);
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                fs::write(&file, "").unwrap();
            } else if let Some(text) = line.strip_prefix("| ") {
                fs::write(&file, fs::read_to_string(&file).unwrap() + text + "\n").unwrap();
            }
        }
    }
    told
}

fn run(command: &str, directory: &Path) -> String {
    let mut words = command.split_whitespace();
    assert_eq!(words.next(), Some("chancery"));
    let output = Command::new(env!("CARGO_BIN_EXE_chancery"))
        .args(words)
        .current_dir(directory)
        .env_clear()
        .env("XDG_CONFIG_HOME", directory)
        .output()
        .unwrap();
    let mut told = format!("? {}\n", output.status.code().unwrap());
    for (mark, bytes) in [('>', output.stdout), ('!', output.stderr)] {
        let text = String::from_utf8(bytes).unwrap();
        for line in text.replace(directory.to_str().unwrap(), "[DIRECTORY]").lines() {
            told.push_str(format!("{mark} {line}").trim_end());
            told.push('\n');
        }
    }
    told
}
