//! A key is destroyed on the record, and nobody finds anything of it any more.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "harness/machine.rs"]
mod machine;
#[path = "harness/place.rs"]
mod place;

use ceremony::plan::Plan;
use serde_json::Value;

use machine::Machine;
use place::*;

#[test]
fn a_key_that_was_destroyed_is_gone_for_everybody() {
    let place = Place::new();
    let plan = place.write("drill.toml", &drill());
    place.run(&plan, &["--unattended"]).ok();
    let objects = place.objects();
    assert!(!objects.contains("issuing/drill"), "{objects}");
    assert_eq!(objects.matches("Private Key Object").count(), 3, "{objects}");

    let destroyed = place.events("outcome").into_iter().find(|it| it["key-destroyed"].is_object());
    let destroyed = &destroyed.unwrap()["key-destroyed"];
    assert_eq!(destroyed["name"], "drill");
    // Only the root had been made before.
    assert_eq!(destroyed["left"].as_array().unwrap().len(), 2, "{destroyed}");
    place.verify(&["--handoff", &place.text("handoff")]).ok();
    let (site, transcript) = (place.text("site.toml"), place.text("transcript.jsonl"));
    program(&["inventory", "--site", &site, "--against", &transcript]).ok();

    // A transcript that says less than that all of it was gone is none.
    let records = place.text_of("transcript.jsonl");
    let mut records: Vec<Value> =
        records.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    records.pop();
    let outcome = |record: &&mut Value| record["data"]["key-destroyed"].is_object();
    let record = records.iter_mut().find(outcome).unwrap();
    let key = record["data"]["key-destroyed"]["key"].clone();
    let left = &mut record["data"]["key-destroyed"]["left"][0];
    (left["label"], left["id"]) = (key["label"].clone(), key["id"].clone());
    place.write("transcript.jsonl", &rechained(records));
    place.verify(&[]).refused(5, "a token that has nothing of the key");
}

#[test]
fn a_root_ends_with_a_last_list_and_nothing_that_restores_its_key() {
    let machine = Machine::with_root();
    let place = &machine.place;
    machine.take(&machine, "offline-root/root.crl", "root.crl");
    machine.plan("key-destruction");
    let plan = machine.text("key-destruction.toml");
    let words = confirmations(&Plan::read(&machine.path("key-destruction.toml")).unwrap());
    let read =
        ["CH-000042\n", "one backup token\n", "the backup token\n", "drilled\n", "nothing\n"];
    let typed = [&read[..2].concat(), &words[..6].concat(), &read[2..].concat(), &words[6]];
    place.run_typing(&plan, &typed.map(String::as_str).concat()).ok();
    assert!(!place.objects().contains("issuing/root"));
    place.verify(&["--plan", &plan, "--handoff", &place.text("handoff")]).ok();
    let (transcript, bundle) = (machine.text("transcript.jsonl"), machine.text("root.bundle"));
    let rehearsal = place.rehearsal(&plan);
    program(&["bundle", &transcript, "--rehearsal", &rehearsal, "-o", &bundle]).ok();
    program(&["verify", &bundle]).ok();
    peer("python3", &[&manifest("verify.py"), &bundle], &[]).ok();
    machine.kept("key-destruction");
    let list = machine.crl("key-destruction");
    let said = peer("openssl", &["crl", "-noout", "-text", "-in"], &[list.as_ref()]).ok();
    assert!(said.contains("Cessation Of Operation") && said.contains("2045"), "{said}");

    // The token has nothing of what both ceremonies made, and nothing else.
    let (site, transcript) = (place.text("site.toml"), machine.text("key-destruction.jsonl"));
    program(&["inventory", "--site", &site, "--against", &transcript]).ok();
}

#[test]
fn a_token_that_only_says_it_destroyed_a_key_is_found_out() {
    let place = Place::new();
    place.initialize_token();
    let plan = place.write("drill.toml", &drill().replace(TOKEN_INIT, ""));
    let shim = built("debug/deps/libchancery_shim.so");
    let site = place.text_of("site.toml").replace(MODULE, &shim);
    place.write("site.toml", &format!("{site}CHANCERY_SHIM = \"{}\"\n", place.text("")));
    let lie = "[[faults]]\nfunction = \"C_DestroyObject\"\nfrom = 1\nevery = 1\naction = { return = 0 }\n";
    let honest = format!("module = \"{MODULE}\"\n");
    place.write("plan.toml", &format!("{honest}{lie}"));
    place.run(&plan, &["--unattended"]).refused(4, "and another session finds it");
    assert!(place.objects().contains("issuing/drill"));
    // Where the token can be made to do it, the ceremony goes on.
    place.write("plan.toml", &honest);
    place.resume(&[]).ok();
    assert!(!place.objects().contains("issuing/drill"));
    place.verify(&["--handoff", &place.text("handoff")]).ok();
}

#[test]
fn only_what_is_there_can_be_destroyed_and_nothing_is_done_with_it_afterwards() {
    let place = Place::new();
    let twice = drill().replace(DESTROY, &DESTROY.repeat(2));
    let plan = place.write("twice.toml", &twice);
    program(&["plan", &plan]).refused(3, "  destroy-what-is-there: ");
    let root = drill().replace(DESTROY, &DESTROY.replace("drill", "root"));
    let plan = place.write("root.toml", &root);
    program(&["plan", &plan]).refused(3, "  key-before-certificate: ");
}

#[test]
fn a_destruction_comes_to_the_same_end_wherever_it_is_killed() {
    let place = Place::new();
    let plan = place.write("drill.toml", &drill());
    let kryoptic = format!("kryoptic={}", built("kryoptic/debug/libchancery_kryoptic.so"));
    let shim = built("debug/deps/libchancery_shim.so");
    let arguments = ["--on", "softhsm", "--on", &kryoptic, "--shim", &shim, "--faults", "8"];
    program(&[&["rehearse", &plan], &arguments[..]].concat()).ok();
}

const DESTROY: &str = "[[steps]]\ndo = \"key-destroy\"\nkey = \"drill\"\n\n";

/// The root and the issuing CA, and a key that is made to be destroyed.
fn drill() -> String {
    let text = std::fs::read_to_string(manifest(ROOT_AND_ISSUING)).unwrap();
    let keys = "[keys]\ndrill = { algorithm = \"p256\", label = \"issuing/drill\" }\n";
    let steps = format!("[[steps]]\ndo = \"generate-key\"\nkey = \"drill\"\n\n{DESTROY}");
    let certificate = "[[steps]]\ndo = \"sign-certificate\"\ncertificate = \"root\"\n";
    assert!(text.contains("[keys]\n") && text.contains(certificate));
    text.replace("[keys]\n", keys).replace(certificate, &format!("{steps}{certificate}"))
}
