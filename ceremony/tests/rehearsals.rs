//! A plan is rehearsed, and what is left of it; where it is killed meanwhile stands in faults.rs.

#[path = "harness/place.rs"]
mod place;

use std::fs;

use ceremony::{transcript::Attendance, verify::Verified};
use place::*;

#[test]
fn a_rehearsal_leaves_a_transcript_and_nothing_else() {
    let place = Place::new();
    let kept = place.text("rehearsal.jsonl");
    let plan = manifest(DEMO);
    let said = program(&["rehearse", &plan, "-o", &kept]).ok();
    assert!(said.starts_with("softhsm: to the end, undisturbed"), "{said}");
    let verified = Verified::read(&place.path("rehearsal.jsonl")).unwrap();
    assert_eq!(verified.progress.opened.attendance, Attendance::Rehearsed);
    let bench = verified.progress.opened.plan.steps.len();
    assert_eq!(bench, 11);
    program(&["rehearse", &plan, "-o", &kept]).refused(1, "cannot write");
    let handoff = place.text("handoff");
    program(&["hand-off", &kept, "--handoff", &handoff]).refused(3, "is of a rehearsal");

    program(&["rehearse", &plan, "--faults", "1", "--shim", "/nowhere"]).refused(2, "is not at");
    let broken = place.write("broken.toml", &keys_only().replace("path_length = 0\n", ""));
    program(&["rehearse", &broken]).refused(3, "rule(s)");
}

#[test]
fn an_inventory_tells_what_is_not_as_the_transcript_says() {
    let place = Place::new();
    place.run(ROOT_AND_ISSUING, &["--unattended"]).ok();
    let site = place.text("site.toml");
    let transcript = place.text("transcript.jsonl");
    let inventory = || program(&["inventory", "--site", &site, "--against", &transcript]);
    assert!(inventory().ok().contains("6 objects"));

    place.pkcs11_tool(&["--keypairgen", "--key-type", "EC:prime256v1", "--label", "mine"]);
    inventory().refused(3, "in 2 respect(s)");
    let all = fs::read_to_string(&transcript).unwrap();
    let id = all.split("\"id\":\"").nth(2).unwrap().split('"').next().unwrap();
    place.pkcs11_tool(&["--delete-object", "--type", "privkey", "--id", id]);
    inventory().refused(3, "in 3 respect(s)");
}
