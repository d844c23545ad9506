//! What goes wrong on the day: each stops with what to do, and nothing is lost. What is not here stands
//! with its kind: people.rs (approvals, quorums), shares.rs (shares), clock.rs, softhsm.rs (the site).

#[path = "harness/place.rs"]
mod place;

use std::{
    fs,
    process::{Command, Stdio},
};

use place::*;

#[test]
fn a_token_with_another_serial_number_is_refused_before_anything_is_changed() {
    let place = Place::new();
    place.initialize_token();
    let site = place.text_of("site.toml");
    let other =
        site.replace("label = \"chancery\"", "label = \"chancery\"\nserial = \"0123456789abcdef\"");
    place.write("site.toml", &other);
    let keys = place.write("keys.toml", &keys_only());
    place.run(&keys, &["--unattended"]).refused(4, "0123456789abcdef");
    assert!(!place.path("transcript.jsonl").exists());
    assert_eq!(place.objects(), "");
    place.write("site.toml", &site);
    place.run(&keys, &["--unattended"]).ok();
}

#[test]
fn a_wrong_pin_is_tried_once() {
    let place = Place::new();
    place.initialize_token();
    watch(&place, "");
    let right = place.text_of("user.pin");
    place.write("user.pin", "not the PIN\n");
    let keys = place.write("keys.toml", &keys_only());
    place.run(&keys, &["--unattended"]).refused(4, "refused the PIN (CKR_PIN_INCORRECT)");
    let calls = place.text_of("calls");
    let logins = calls.lines().filter(|line| line.split(' ').nth(1) == Some("C_Login")).count();
    assert_eq!(logins, 1);
    assert!(!place.path("transcript.jsonl").exists());
    place.write("user.pin", &right);
    place.run(&keys, &["--unattended"]).ok();
}

/// A file that must not grow stands for a medium that is full: a part of the line is written, and no
/// more.
#[test]
fn a_full_disk_stops_the_ceremony_and_nothing_is_lost() {
    let place = Place::new();
    place.initialize_token();
    let keys = place.write("keys.toml", &keys_only());
    let rehearsal = fs::metadata(place.rehearsal(&keys)).unwrap().len();
    let blocks = (rehearsal / 2 / 512).to_string();
    let ceremony = place.command(&keys);
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -f \"$0\"; trap '' XFSZ; exec \"$@\"", &blocks]);
    limited.arg(ceremony.get_program()).args(ceremony.get_args()).arg("--unattended");
    Answer::of("sh", limited.stdin(Stdio::null())).refused(1, "cannot write the journal");
    let before = place.objects().matches("Private Key Object").count();
    assert!((1..3).contains(&before), "somewhere in the middle: {before} keys");
    assert!(!place.text_of("transcript.jsonl").ends_with('\n'), "a torn line");

    place.resume(&["--found-key", "adopt"]).ok();
    assert_eq!(place.objects().matches("Private Key Object").count(), 3);
    place.verify(&["--handoff", &place.text("handoff")]).ok();
    assert_eq!(place.text_of("transcript.jsonl"), place.text_of("second.jsonl"));
}

#[test]
fn a_missing_medium_is_named_and_another_one_takes_its_place() {
    let place = Place::new();
    place.initialize_token();
    let keys = place.write("keys.toml", &keys_only());
    let (site, handoff) = (place.text("site.toml"), place.text("handoff"));
    let [first, second] = ["a/first.jsonl", "b/second.jsonl"].map(|name| place.text(name));
    let journals = ["--journal", &first, "--journal", &second];
    let given = [&journals[..], &["--site", &site, "--handoff", &handoff]].concat();
    let run = |flags: &[&str]| program(&[&["run", &keys], &given[..], flags].concat());
    fs::create_dir(place.path("a")).unwrap();
    run(&["--unattended"]).refused(2, &second);
    assert!(!place.path("a/first.jsonl").exists());
    assert_eq!(place.objects(), "");

    // It is there, the power is lost, and the medium with it.
    fs::create_dir(place.path("b")).unwrap();
    run(&["--rehearsed", "--power-loss", "9:nothing"]).killed();
    let objects = place.objects();
    fs::remove_dir_all(place.path("b")).unwrap();
    let reason = ["--found-key", "adopt", "--reason", "the second medium broke"];
    let resume = |given: &[&str]| program(&[&["resume"], given, &reason].concat());
    resume(&given).refused(1, &second);
    assert_eq!(place.objects(), objects);
    fs::create_dir(place.path("c")).unwrap();
    let third = place.text("c/third.jsonl");
    let given: Vec<&str> =
        given.iter().map(|it| if *it == second { &*third } else { it }).collect();
    resume(&given).ok();
    assert_eq!(place.text_of("a/first.jsonl"), place.text_of("c/third.jsonl"));
    program(&["verify", &first, "--handoff", &handoff]).ok();
}

#[test]
fn a_token_that_is_pulled_is_gone_on_with_once_it_is_back() {
    for (function, call) in [("C_GenerateKeyPair", 2), ("C_Sign", 1), ("C_Sign", 4)] {
        let place = Place::new();
        place.initialize_token();
        let fault = format!(
            "[[faults]]\nfunction = \"{function}\"\nfrom = {call}\nevery = 1\ntimes = 1\n\
             action = \"remove\"\n"
        );
        watch(&place, &fault);
        let keys = place.write("keys.toml", &keys_only());
        place.run(&keys, &["--unattended"]).refused(4, "CKR_DEVICE_ERROR");

        place.resume(&["--found-key", "adopt"]).ok();
        let made = place.objects().matches("Private Key Object").count();
        assert_eq!(made, 3, "pulled at {call}. {function}");
        place.verify(&["--handoff", &place.text("handoff")]).ok();
        assert_eq!(place.text_of("transcript.jsonl"), place.text_of("second.jsonl"));
    }
}

/// Puts the shim between program and token: it notes all calls, and lets these faults happen.
fn watch(place: &Place, faults: &str) {
    let site = place.text_of("site.toml").replace(MODULE, &built("debug/deps/libchancery_shim.so"));
    place.write("site.toml", &format!("{site}CHANCERY_SHIM = \"{}\"\n", place.text("")));
    place.write("plan.toml", &format!("module = \"{MODULE}\"\n{faults}"));
}
