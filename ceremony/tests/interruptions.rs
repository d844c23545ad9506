//! A ceremony that was interrupted goes on where it was, and makes nothing twice.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "harness/place.rs"]
mod place;

use std::{fs, io::Write as _, path::Path};

use ceremony::plan::Plan;
use serde_json::Value;

use place::*;

#[test]
fn a_killed_ceremony_goes_on_where_it_was() {
    let place = Place::new();
    let plan = Plan::read(Path::new(&manifest(ROOT_AND_ISSUING))).unwrap();
    let words = confirmations(&plan);

    // The token, the root's key and its certificate are made; the next step waits for its words.
    let mut child = place.start(ROOT_AND_ISSUING);
    child.stdin.as_mut().unwrap().write_all((clock() + &words[..3].concat()).as_bytes()).unwrap();
    // Its whole line: a kill tears a longer one between two pages.
    wait_for("the root's certificate", || {
        let transcript = place.text_of("transcript.jsonl");
        transcript.contains("certificate-signed") && transcript.ends_with('\n')
    });
    child.kill().unwrap();
    child.wait().unwrap();

    place.verify(&[]).refused(5, "it was interrupted");
    place.run(ROOT_AND_ISSUING, &["--unattended"]).refused(3, "exists already");
    let status = place.about(&["status"]).ok();
    assert!(status.contains(" next   4  generate the p256 key issuing/issuing"), "{status}");

    // Another person's words are for another step.
    place.resume_typing(&[], &words[2].repeat(3)).refused(1, "was not confirmed");
    place.resume_typing(&[], &words[3..].concat()).ok();
    assert_eq!(place.objects().matches("Private Key Object").count(), 3);
    let verified = place.verify(&["--handoff", &place.text("handoff")]).ok();
    assert!(verified.contains("interrupted 2 times"), "{verified}");
    assert_eq!(place.text_of("transcript.jsonl"), place.text_of("second.jsonl"));
}

#[test]
fn a_key_whose_making_was_interrupted_is_taken_or_made_again_as_people_say() {
    for (choice, again) in [("adopt", false), ("destroy", true)] {
        let place = Place::new();
        place.initialize_token();
        let before = interrupted_after_the_key(&place);
        place.resume(&[]).refused(1, "whose making was interrupted");
        assert_eq!(place.objects(), before, "nothing was done without a choice");

        place.resume(&["--found-key", choice]).ok();
        let objects = place.objects();
        assert_eq!(objects.matches("Private Key Object").count(), 3, "{objects}");
        assert_eq!(objects.matches("Public Key Object").count(), 3, "{objects}");
        let kept = point_of_root(&before) == point_of_root(&objects);
        assert_eq!(kept, !again, "{choice}");
        place.verify(&["--handoff", &place.text("handoff")]).ok();
    }
}

#[test]
fn no_secret_is_said_for_the_record() {
    let place = Place::new();
    place.initialize_token();
    interrupted_after_the_key(&place);
    let before = place.text_of("transcript.jsonl");
    let secret = "the passphrase is dGhpcyBpcyBhIHNlY3JldCBrZXk0Mg, do not lose it";
    let key = "found: -----BEGIN PRIVATE KEY-----";
    for text in [secret, key] {
        place.about(&["except", "--text", text]).refused(2, "looks like a key or a password");
        place.about(&["abort", "--reason", text]).refused(2, "looks like a key or a password");
    }
    assert_eq!(place.text_of("transcript.jsonl"), before);
    place.about(&["except", "--text", "bag CH-2026-000123 of safe 2 was opened"]).ok();
    place.resume(&["--found-key", "adopt"]).ok();
    place.verify(&[]).ok();
}

#[test]
fn half_a_key_pair_is_destroyed_and_made_again() {
    for half in ["privkey", "pubkey"] {
        let place = Place::new();
        place.initialize_token();
        let before = interrupted_after_the_key(&place);
        let id = before.split("ID:").nth(1).unwrap().split_whitespace().next().unwrap();
        place.pkcs11_tool(&["--delete-object", "--type", half, "--id", id]);

        place.resume(&[]).ok();
        let objects = place.objects();
        assert_eq!(objects.matches("Private Key Object").count(), 3, "{objects}");
        assert_eq!(objects.matches("Public Key Object").count(), 3, "{objects}");
        let decided = place.events("decided");
        assert_eq!(decided[0]["destroy-and-repeat"]["found"], "orphan", "{half}: {decided:?}");
    }
}

#[test]
fn somebody_elses_key_under_the_same_label_is_not_touched() {
    let place = Place::new();
    place.initialize_token();
    interrupted_after_the_key(&place);
    place.pkcs11_tool(&["--keypairgen", "--key-type", "EC:prime256v1", "--label", "issuing/root"]);
    let before = place.objects();
    place.resume(&["--found-key", "destroy"]).refused(4, "another object has its label");
    assert_eq!(place.objects(), before);
}

#[test]
fn the_same_text_is_signed_again_and_never_another() {
    let place = Place::new();
    place.initialize_token();
    let keys = place.write("keys.toml", &keys_only());
    // The signature is made; its outcome is not written.
    place.run(&keys, &["--rehearsed", "--power-loss", "13:nothing"]).killed();
    let intended = place.events("intent").pop().unwrap();
    assert!(intended["sign-certificate"].is_object(), "{intended}");

    place.resume(&[]).ok();
    assert_eq!(place.events("decided"), ["sign-again"]);
    let intents = place.events("intent");
    assert_eq!(intents.iter().filter(|it| it["sign-certificate"]["name"] == "root").count(), 1);
    assert!(intents.contains(&intended));
    place.verify(&["--handoff", &place.text("handoff")]).ok();
}

#[test]
fn a_journal_may_be_torn_behind_or_lost() {
    let place = Place::new();
    place.initialize_token();
    let keys = place.write("keys.toml", &keys_only());
    // The first journal is torn in the middle of the root key's outcome.
    place.run(&keys, &["--rehearsed", "--power-loss", "7:half"]).killed();
    assert!(!place.text_of("transcript.jsonl").ends_with('\n'));
    // Then the second one is behind.
    place.resume(&["--found-key", "adopt", "--power-loss", "8:nothing"]).killed();
    assert!(place.text_of("transcript.jsonl").len() > place.text_of("second.jsonl").len());
    // Then the first one is lost, and with it that the key was taken.
    fs::remove_file(place.path("transcript.jsonl")).unwrap();
    place.resume(&["--found-key", "adopt"]).ok();

    assert_eq!(place.text_of("transcript.jsonl"), place.text_of("second.jsonl"));
    let resumed = place.events("resumed");
    let torn = resumed[0]["journals"][0]["torn"].as_str().unwrap();
    assert!(torn.starts_with(&hex::encode("{\"seq\":4,")), "{torn}");
    assert_eq!(resumed[1]["journals"][0]["records"], 0, "{resumed:?}");
    place.verify(&["--handoff", &place.text("handoff")]).ok();
}

#[test]
fn journals_that_were_changed_are_not_gone_on_with() {
    let place = Place::new();
    place.initialize_token();
    let keys = place.write("keys.toml", &keys_only());
    place.run(&keys, &["--rehearsed", "--power-loss", "9:nothing"]).killed();
    let (whole, objects) = (place.text_of("second.jsonl"), place.objects());

    place.write("second.jsonl", &whole.replacen("issuing/root", "issuing/boot", 1));
    place.resume(&[]).refused(5, "is not a journal as it was written");
    let other = Place::new();
    other.run(ROOT_AND_ISSUING, &["--unattended"]).ok();
    place.write("second.jsonl", &other.text_of("second.jsonl"));
    place.resume(&[]).refused(5, "contradict each other");
    place.write("second.jsonl", &whole);

    let site = place.text_of("site.toml");
    place.write("site.toml", &format!("# Another one.\n{site}"));
    place.resume(&[]).refused(3, "the site file is not the one");
    place.write("site.toml", &site);
    assert_eq!(place.objects(), objects);

    // Another token that has the same label.
    place.softhsm("softhsm2-util", &["--delete-token", "--token", "chancery"]).ok();
    place.initialize_token();
    place.resume(&[]).refused(3, "the token is not the one");
    assert_eq!(place.objects(), "");
}

#[test]
fn one_program_at_a_time_writes_a_journal() {
    let place = Place::new();
    let mut child = place.start(ROOT_AND_ISSUING);
    wait_for("the opening", || place.path("second.jsonl").exists());
    place.about(&["except", "--text", "somebody else"]).refused(1, "another program writes");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn exceptions_are_recorded_and_a_ceremony_can_be_given_up() {
    let place = Place::new();
    place.initialize_token();
    let keys = place.write("keys.toml", &keys_only());
    place.run(&keys, &["--rehearsed", "--power-loss", "9:whole"]).killed();
    place.about(&["except", "--text", "bag 2 has another number than the list"]).ok();
    place.resume(&["--power-loss", "5:nothing"]).killed();
    let status = place.about(&["status", "--json"]).ok();
    let status: Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["exceptions"][0], "bag 2 has another number than the list");
    assert_eq!(status["ended"], Value::Null);

    place.about(&["abort", "--reason", "the auditor left"]).ok();
    place.resume(&[]).refused(3, "was given up");
    place.about(&["except", "--text", "late"]).refused(5, "the end");
    place.verify(&[]).refused(5, "it was given up: the auditor left");
    let status = place.about(&["status"]).ok();
    assert!(status.contains("given up: nothing can follow"), "{status}");
}

#[test]
fn a_new_token_that_is_not_empty_is_found() {
    let place = Place::new();
    // The intent to initialize the token is written, and nothing done.
    place.run(ROOT_AND_ISSUING, &["--rehearsed", "--power-loss", "6:whole"]).killed();
    place.initialize_token();
    place.pkcs11_tool(&["--keypairgen", "--key-type", "EC:prime256v1", "--label", "mine"]);
    // Its SO PIN and its user PIN are the site's, and yet it is not the one that was to be made.
    place.resume(&[]).refused(3, "is not empty");
}

#[test]
fn nobody_can_ask_a_real_ceremony_to_fail() {
    let place = Place::new();
    place
        .run(ROOT_AND_ISSUING, &["--unattended", "--power-loss", "3:half"])
        .refused(2, "rehearsal");
    assert!(!place.path("transcript.jsonl").exists());
}

/// The root's key pair is in the token, and no journal says so; gives what is in the token.
fn interrupted_after_the_key(place: &Place) -> String {
    let keys = place.write("keys.toml", &keys_only());
    place.run(&keys, &["--rehearsed", "--power-loss", "9:nothing"]).killed();
    let objects = place.objects();
    assert_eq!(objects.matches("Private Key Object").count(), 1, "{objects}");
    objects
}

/// The public point of the key whose label is that of the root, as pkcs11-tool shows it. Objects
/// come in any order, and each begins with a line that is not indented.
fn point_of_root(objects: &str) -> String {
    let mut in_public_key = false;
    let mut point = None;
    for line in objects.lines() {
        if !line.starts_with(' ') {
            in_public_key = line.starts_with("Public Key Object");
            point = None;
        } else if in_public_key && line.contains("EC_POINT:") {
            point = Some(line.trim());
        } else if in_public_key && line.trim().ends_with("issuing/root") {
            return point.unwrap().to_owned();
        }
    }
    panic!("no public key of the root in:\n{objects}");
}
