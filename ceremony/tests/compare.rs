//! A ceremony beside its rehearsal.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "harness/machine.rs"]
mod machine;
#[path = "harness/place.rs"]
mod place;

use std::fs;

use ceremony::plan::Plan;
use serde_json::{Value, json};

use machine::Machine;
use place::*;

#[test]
fn a_ceremony_differs_from_its_rehearsal_by_its_keys_alone() {
    let place = Place::new();
    let plan = Plan::read(manifest(ROOT_AND_ISSUING).as_ref()).unwrap();
    place.run_typing(ROOT_AND_ISSUING, &confirmations(&plan).concat()).ok();
    let [rehearsal, transcript, bundle] =
        ["rehearsal.jsonl", "transcript.jsonl", "a.bundle"].map(|name| place.text(name));
    program(&["bundle", &transcript, "--rehearsal", &rehearsal, "-o", &bundle]).ok();
    let said = program(&["compare", &rehearsal, &transcript]).ok();
    assert!(
        said.ends_with("nothing else differs: what was done is what was rehearsed\n"),
        "{said}"
    );
    let compared: Value =
        serde_json::from_str(&program(&["compare", &rehearsal, &bundle, "--json"]).ok()).unwrap();
    let expected = |name: &str| compared["comparison"]["texts"][name]["expected"].clone();
    let keys = ["serialNumber", "subjectPublicKeyInfo", "subjectKeyIdentifier"];
    let all = [&keys[..], &["authorityKeyIdentifier"]].concat();
    let without_poison = |name: &str| {
        let fields = expected(name).as_array().unwrap().clone();
        fields.into_iter().filter(|it| *it != "1.3.6.1.4.1.11129.2.4.3").collect::<Vec<_>>()
    };
    assert_eq!(json!(without_poison("root")), json!(keys));
    assert_eq!(json!(without_poison("issuing")), json!(all));
    assert_eq!(compared["unexpected"], 0);
}

#[test]
fn whatever_else_differs_is_told_and_is_a_failure() {
    let place = Place::new();
    let text = fs::read_to_string(manifest(ROOT_AND_ISSUING)).unwrap();
    let other = text
        .replace("2045-01-01", "2046-01-01")
        .replace("root-g2.crl", "root-g3.crl")
        .replace("path_length = 0", "path_length = 1");
    let other = place.write("other.toml", &other);
    let rehearsal = place.text("other.jsonl");
    program(&["rehearse", &other, "-o", &rehearsal]).ok();
    place.run(ROOT_AND_ISSUING, &["--unattended"]).ok();
    let transcript = place.text("transcript.jsonl");

    let answer = program(&["compare", &rehearsal, &transcript]);
    let said = String::from_utf8(answer.0.stdout.clone()).unwrap();
    for different in
        ["root, validity", "issuing, basicConstraints", "issuing, cRLDistributionPoints"]
    {
        assert!(said.contains(&format!("different: {different}\n")), "{different}: {said}");
    }
    assert!(!said.contains("root, basicConstraints") && said.contains("the plans are"), "{said}");
    answer.refused(5, "what was done is not what was rehearsed, in 6 respect(s)");
    // The other way round, one is no rehearsal.
    let answer = program(&["compare", &transcript, &rehearsal, "--json"]);
    let compared: Value = serde_json::from_slice(&answer.0.stdout).unwrap();
    let steps = compared["comparison"]["steps"].as_array().unwrap();
    assert_eq!(
        steps[..2],
        ["the first one is not of a rehearsal", "the second one is of a rehearsal"]
    );
}

#[test]
fn lists_requests_and_ssh_keys_are_compared_too() {
    let (root, issuing) = (Machine::with_root_of("p256"), Machine::new());
    issuing.take(&root, "offline-root/root.pem", "root.pem");
    let compared = |machine: &Machine, name: &str, transcript: &str| {
        let (plan, rehearsal) = (machine.text(&format!("{name}.toml")), machine.text("r.jsonl"));
        program(&["rehearse", &plan, "-o", &rehearsal]).ok();
        let answer = program(&["compare", &rehearsal, &machine.text(transcript), "--json"]);
        fs::remove_file(rehearsal).unwrap();
        serde_json::from_slice::<Value>(&answer.0.stdout).unwrap()["comparison"]["texts"].clone()
    };
    // As it was rehearsed.
    let texts = compared(&root, "offline-root", "offline-root.jsonl");
    // When it was signed may be the same second, and may not.
    let expected = texts["root.crl"]["expected"].as_array().unwrap();
    let expected: Vec<&Value> = expected.iter().filter(|it| **it != "thisUpdate").collect();
    assert_eq!(json!(expected), json!(["authorityKeyIdentifier"]));
    assert_eq!(texts["root.crl"]["unexpected"], json!([]));
    // Another day for the next one.
    root.plan_with(
        "offline-root",
        &[("rsa4096", "p256"), ("next_update = 2027", "next_update = 2028")],
    );
    let texts = compared(&root, "offline-root", "offline-root.jsonl");
    assert_eq!(texts["root.crl"]["unexpected"][0]["field"], "nextUpdate", "{texts}");
    assert_eq!(texts["root.crl"]["unexpected"].as_array().unwrap().len(), 1, "{texts}");

    let machine = Machine::new();
    machine.plan("ssh");
    machine.place.run(&machine.text("ssh.toml"), &["--unattended"]).ok();
    let texts = compared(&machine, "ssh", "transcript.jsonl");
    let key = json!({ "expected": ["subjectPublicKeyInfo"], "unexpected": [] });
    assert_eq!([&texts["ssh-user.pub"], &texts["ssh-host.pub"]], [&key, &key]);
    machine.plan_with("ssh", &[("\"ed25519\"", "\"p384\"")]);
    let texts = compared(&machine, "ssh", "transcript.jsonl");
    assert_eq!(texts["ssh-host.pub"]["unexpected"][0]["field"], "algorithm", "{texts}");

    issuing.plan_small("issuing");
    issuing.perform("issuing").refused(1, "has not come back");
    root.take(&issuing, "exchange/issuing.csr", "issuing.csr");
    root.plan("issue-intermediate");
    root.perform("issue-intermediate").ok();
    issuing.take(&root, "issue-intermediate/issuing.pem", "exchange/issuing.pem");
    issuing.go_on().ok();
    let texts = compared(&issuing, "issuing", "transcript.jsonl");
    let key = json!({ "expected": ["subjectPublicKeyInfo"], "unexpected": [] });
    assert_eq!(texts["issuing.csr"], key);
}

#[test]
fn what_the_plan_does_not_have_was_not_rehearsed() {
    let place = Place::new();
    let plan = Plan::read(manifest(ROOT_AND_ISSUING).as_ref()).unwrap();
    let words = confirmations(&plan);
    place.run_typing(ROOT_AND_ISSUING, &words[..2].concat()).refused(1, "was not confirmed");
    place.about(&["except", "--text", "the seal of bag 7 is torn"]).ok();
    place.resume_typing(&[], &words[2..].concat()).ok();
    let (rehearsal, transcript) = (place.text("rehearsal.jsonl"), place.text("transcript.jsonl"));
    let answer = program(&["compare", &rehearsal, &transcript]);
    let said = String::from_utf8(answer.0.stdout.clone()).unwrap();
    assert!(said.contains("an exception: the seal of bag 7 is torn"), "{said}");
    answer.refused(5, "in 2 respect(s)");
}
