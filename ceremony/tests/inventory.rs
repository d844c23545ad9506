//! A token that several ceremonies were held on has what all of them say together, and nothing else.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "harness/machine.rs"]
mod machine;
#[path = "harness/place.rs"]
mod place;

use serde_json::{Value, json};

use ceremony::plan::Plan;
use machine::Machine;
use place::*;

#[test]
fn a_token_has_what_all_its_ceremonies_say_together() {
    let root = Machine::with_root();
    root.take(&root, "offline-root/root.crl", "root.crl");
    let inventory = |names: &[&str], flags: &[&str]| {
        let site = root.text("site.toml");
        let paths: Vec<String> = names.iter().map(|it| root.text(&format!("{it}.jsonl"))).collect();
        let against = paths.iter().flat_map(|path| ["--against", path]);
        let against: Vec<&str> = against.collect();
        program(&[&["inventory", "--site", &site], &against[..], flags].concat())
    };
    inventory(&["offline-root"], &[]).ok();
    root.plan("roll-over");
    root.perform("roll-over").ok();
    // Either alone tells less than is there; both, in any order and however often, tell all.
    inventory(&["offline-root"], &[]).refused(3, "in 2 respect(s)");
    let names = ["roll-over", "offline-root", "roll-over"];
    let said: Value = serde_json::from_str(&inventory(&names, &["--json"]).ok()).unwrap();
    let head = |name: &str| {
        let verified = program(&["verify", &root.text(&format!("{name}.jsonl")), "--json"]).ok();
        serde_json::from_str::<Value>(&verified).unwrap()["head"].clone()
    };
    assert_eq!(said["against"], json!([head("offline-root"), head("roll-over")]));
    assert_eq!(said["differences"], json!([]));
    assert_eq!(said["objects"].as_array().unwrap().len(), 4);

    // The first root ends: what was destroyed must be gone, and nothing else.
    root.plan("key-destruction");
    let plan = root.text("key-destruction.toml");
    let words = confirmations(&Plan::read(&root.path("key-destruction.toml")).unwrap());
    let read = ["CH-000042\n", "nothing\n", "nothing\n", "there was nothing\n", "nothing\n"];
    let [before, confirmed, after] = [read[..2].concat(), words[..6].concat(), read[2..].concat()];
    let typed = [&before, &confirmed, &after, &words[6]].map(String::as_str);
    root.place.run_typing(&plan, &typed.concat()).ok();
    root.kept("key-destruction");
    let both = ["offline-root", "roll-over"];
    inventory(&both, &[]).refused(3, "in 1 respect(s)");
    inventory(&["key-destruction", "roll-over", "offline-root"], &[]).ok();

    // Nor is it another machine's, or one in which somebody made something else.
    let other = Machine::with_root();
    root.take(&other, "offline-root.jsonl", "other.jsonl");
    let answer = inventory(&["key-destruction", "other", "roll-over", "offline-root"], &[]);
    let said = answer.failed();
    assert!(said.contains("it is another token than that of the ceremony offline-root"), "{said}");
    root.place.pkcs11_tool(&["--keypairgen", "--key-type", "EC:prime256v1", "--label", "mine"]);
    inventory(&["key-destruction", "roll-over", "offline-root"], &[]).refused(3, "in 2 respect(s)");
}
