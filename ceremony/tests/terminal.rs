//! What a terminal shows, and what is left on it: shares are seen by their holders alone.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "harness/place.rs"]
mod place;

use std::process::Command;

use serde_json::Value;

use place::*;

#[test]
fn no_share_stays_on_a_terminal_and_none_is_shown_while_it_is_typed() {
    let place = Place::new();
    place.initialize_token();
    // Without share_pages, each share is shown to its holder.
    let plan = manifest("plans/pin-rotation.toml");
    let mut command = Command::new("python3");
    command.arg(manifest("tests/terminal.py")).arg(env!("CARGO_BIN_EXE_chancery-ceremony"));
    command.args(["run", &plan, "--site", &place.text("site.toml"), "--unattended"]);
    let answer = Answer::of("python3", command.args(place.journals())).ok();
    let answer: Value = serde_json::from_str(&answer).unwrap();
    let output = hex::decode(answer["output"].as_str().unwrap()).unwrap();
    let output = String::from_utf8(output).unwrap();
    assert_eq!(answer["code"], 0, "{output}");
    place.verify(&[]).ok();

    // Three holders of each of two PINs, with five lines each.
    let shown: Vec<&str> =
        answer["shown"].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
    assert_eq!(shown.len(), 30);
    let stays = what_stays(&output);
    for line in shown {
        assert_eq!(output.matches(line).count(), 1, "shown once, and not while it is typed");
        let secret = line.rsplit_once("  ").unwrap().0.trim();
        assert!(!stays.contains(secret), "{line} stays on the terminal");
        assert!(!place.text_of("transcript.jsonl").contains(secret));
    }
    // What is to be seen is still there.
    assert!(stays.contains("erin alone looks at the screen") && stays.contains("line 5 > "));
    for pin in ["1234\r", "12345678"] {
        assert!(!output.contains(pin), "a former PIN");
    }
}

/// What a terminal has in its window and above it when the program has ended: all but what was on its
/// other screen, which has no history (xterm's private mode 1049), and was cleared before it was left.
fn what_stays(output: &str) -> String {
    let mut parts = output.split("\x1b[?1049h");
    let mut stays = parts.next().unwrap().to_owned();
    let mut screens = 0;
    for part in parts {
        let (screen, rest) = part.split_once("\x1b[?1049l").unwrap();
        assert!(screen.ends_with("\x1b[2J\x1b[3J"), "cleared, with what is kept above it");
        screens += 1;
        stays += rest;
    }
    // One for each share, and an empty one before it, for its holder alone to come near.
    assert_eq!(screens, 12);
    assert!(!stays.contains("\x1b["), "nothing else moves the cursor");
    stays
}
