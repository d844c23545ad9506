//! What people do with their hands is part of the plan, and on the record: what they read, when they
//! went, and who came back.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "harness/meeting.rs"]
mod meeting;
#[path = "harness/place.rs"]
mod place;

use std::fs;

use ceremony::plan::Plan;
use serde_json::{Value, json};

use meeting::*;
use place::*;

#[test]
fn what_people_read_is_typed_confirmed_recorded_and_printed() {
    let place = Place::new();
    let text = plan(HUMAN, "");
    let plan = place.write("plan.toml", &text);
    let words = confirmations(&Plan::parse(&text).unwrap());
    place.run(&plan, &["--unattended"]).refused(2, "cannot be performed unattended");
    assert!(!place.path("transcript.jsonl").exists());

    // Before the token is there: three times not what the plan wants, and nothing is recorded of it.
    let typed = "ch-000042\nCH-42\n \n";
    place.run_typing(&plan, typed).refused(1, "was not confirmed");
    assert_eq!(place.events("intent").len(), 0);
    assert_eq!(fs::read_dir(place.path("tokens")).unwrap().count(), 0);
    // What looks like a password is not written down for everybody.
    let secret = "CH-000042\nthe PIN is 0f1e2d3c4b5a69788796a5b4c3d2e1f0\n";
    place.resume_typing(&[], secret).refused(2, "looks like a key or a password");
    assert!(!place.text_of("transcript.jsonl").contains("0f1e2d3c"));
    // One slip costs a try.
    let typed = format!("CH-00042\nCH-000042\nno 3, seal unbroken\n{}", words.concat());
    let said = place.resume_typing(&[], &typed).ok();
    assert!(said.contains("written down, bag: CH-000042"), "{said}");
    place.verify(&["--handoff", &place.text("handoff")]).ok();
    let values = &place.events("outcome")[0]["done-by-people"]["values"];
    assert_eq!(*values, json!({ "bag": "CH-000042", "safe": "no 3, seal unbroken" }));

    let [script, report] = ["script.html", "report.html"].map(|name| place.text(name));
    program(&["script", &plan, "-o", &script]).ok();
    let script = place.text_of("script.html");
    assert!(script.contains("<b>Take the token out of its bag</b>"), "{script}");
    assert!(script.contains("bag (AA-999999)"), "{script}");
    program(&["report", &place.text("transcript.jsonl"), "-o", &report]).ok();
    let report = place.text_of("report.html");
    assert!(report.contains("safe: no 3, seal unbroken"), "{report}");
}

#[test]
fn a_break_logs_everybody_out_and_everybody_is_called_again() {
    let meeting = with_break();
    let place = &meeting.place;
    let present = ["alice", "bob", "carol"];
    let lines = meeting.lines(&present);
    let before = [&lines[..BEFORE], &["off\n".to_owned()]].concat();
    meeting.run_typing(&before).refused(1, "the ceremony has a break: lunch");
    let said = place.about(&["status"]).ok();
    assert!(said.contains("the break is over then"), "{said}");
    // Nobody goes on without the roll call, nor with too few.
    meeting
        .resume_typing(&["alice bob\n".to_owned(), "\n".to_owned(), "\n".to_owned()])
        .refused(1, "was not confirmed");
    assert_eq!(place.events("outcome").len(), 2);

    // Dave comes instead of carol, who does not sign off then; the machine was off all the while.
    let back = ["alice", "bob", "carol", "dave"];
    let rest = [&["alice bob carol dave\n".to_owned()], &meeting.lines(&back)[BEFORE..]].concat();
    let said = meeting.resume_typing(&rest).ok();
    assert!(said.contains("there before it: alice, bob, carol"), "{said}");
    assert!(said.contains("there after it: alice, bob, carol, dave"), "{said}");
    let verified: Value = serde_json::from_str(&place.verify(&["--json"]).ok()).unwrap();
    assert_eq!(verified["interruptions"], 0, "who takes a planned break interrupts nothing");
    assert_eq!(verified["signed_off_by"], json!(back));
    let over = &place.events("outcome")[2]["break-over"];
    assert_eq!(over["left"], json!(present));
    assert_eq!(over["back"], json!(back));
    // Each session was opened anew, and the machine looked at and its clock compared each time.
    assert_eq!(place.events("token").len(), 2);
    assert_eq!(place.events("environment").len(), 3);
    assert_eq!(place.events("clock").len(), 4);
}

#[test]
fn a_break_without_switching_off_goes_on_in_the_same_program() {
    let meeting = with_break();
    let place = &meeting.place;
    let present = ["alice", "bob", "carol"];
    let lines = meeting.lines(&present);
    let clocks: String = ["alice", "bob"].map(|name| format!("{name} {}", clock())).concat();
    let again = ["continue\n".to_owned(), "alice bob carol\n".to_owned(), clocks];
    meeting.run_typing(&[&lines[..BEFORE], &again, &lines[BEFORE..]].concat()).ok();
    place.verify(&["--handoff", &place.text("handoff")]).ok();
    assert_eq!(place.events("resumed").len(), 0);
    assert_eq!(place.events("token").len(), 2, "the token was closed in between");
}

#[test]
fn a_machine_that_changed_since_the_beginning_is_not_used() {
    let place = Place::new();
    let text = format!("{}\n[machine]\nrefuse = [\"core-dumps\"]\n", plan("", CHECK));
    let plan = place.write("plan.toml", &text);
    place.run(&plan, &["--unattended"]).ok();
    place.verify(&["--handoff", &place.text("handoff")]).ok();
    let outcomes = place.events("outcome");
    assert!(outcomes[2]["environment-checked"]["kernel"].is_string(), "{}", outcomes[2]);

    // A transcript in which the plan's demand was not met is none.
    refused(&place, "a machine as the plan demands it", &|records| {
        let record = find(records, "environment-checked");
        record["data"]["environment-checked"]["findings"]["core-dumps"] = json!("written");
    });
}

#[test]
fn a_transcript_that_says_something_else_of_people_is_refused() {
    let meeting = with_break();
    let place = &meeting.place;
    let present = ["alice", "bob", "carol"];
    let lines = meeting.lines(&present);
    let before = [&lines[..BEFORE], &["off\n".to_owned()]].concat();
    meeting.run_typing(&before).refused(1, "has a break");
    let rest = [&["alice bob carol\n".to_owned()], &lines[BEFORE..]].concat();
    meeting.resume_typing(&rest).ok();
    let table: [(&str, Change); 5] = [
        ("the end of the break, as the records", &|records| {
            let record = find(records, "break-over");
            record["data"]["break-over"]["seconds"] = json!(86_400);
        }),
        ("the end of the break, as the records", &|records| {
            find(records, "break-over")["data"]["break-over"]["back"] = json!(["alice", "bob"]);
        }),
        ("what somebody read who is present", &|records| {
            find(records, "done-by-people")["data"]["done-by-people"]["by"] = json!("dave");
        }),
        ("all that the plan wants written down", &|records| {
            let record = find(records, "done-by-people");
            record["data"]["done-by-people"]["values"]["bag"] = json!("CH-00004B");
        }),
        ("the roll call", &|records| {
            let at = records.iter().rposition(|record| record["event"] == "present").unwrap();
            records.remove(at);
        }),
    ];
    for (said, change) in table {
        refused(place, said, change);
    }
}

#[test]
fn a_plan_with_a_break_where_none_can_be_is_refused() {
    let place = Place::new();
    let split = "[[steps]]\ndo = \"pin-split\"\nset = \"pin\"\nwho = \"user\"\nthreshold = 2\n\
                 holders = [\"erin\", \"frank\"]\n";
    let verify = "[[steps]]\ndo = \"shares-verify\"\nset = \"pin\"\n";
    for (early, late, rule) in [
        (BREAK, "", "break-between-steps"),
        ("", &*BREAK.repeat(2), "break-between-steps"),
        ("", &*format!("{split}{BREAK}{verify}"), "shares-verified-first"),
        ("", &*format!("{split}{verify}{BREAK}"), "pin-in-force-first"),
        ("", &*BREAK.replace("lunch", ""), "break-says-why"),
        (&*HUMAN.replace("\"safe\"", "\"bag\""), "", "human-records-once"),
        (&*HUMAN.replace("Take the token out of its bag.", "."), "", "human-says-what"),
        ("", DRILL, "drill-of-a-copy"),
    ] {
        let plan = place.write("plan.toml", &plan(early, late));
        program(&["lint", &plan]).refused(3, &format!("  {rule}: "));
    }
    let twice = HUMAN.replace("AA-999999", "AA  9");
    let plan = place.write("plan.toml", &plan(&twice, ""));
    program(&["plan", &plan]).refused(2, "the plan cannot be understood");
}

#[test]
fn what_people_do_is_rehearsed_without_them_wherever_it_is_killed() {
    let place = Place::new();
    // After the break, custodians give the PIN that they got before it.
    let late = format!("{PIN}{BREAK}{CHECK}");
    let plan = place.write("plan.toml", &plan(HUMAN, &late));
    let kryoptic = format!("kryoptic={}", built("kryoptic/debug/libchancery_kryoptic.so"));
    let shim = built("debug/deps/libchancery_shim.so");
    let arguments = ["--on", "softhsm", "--on", &kryoptic, "--shim", &shim, "--faults", "8"];
    program(&[&["rehearse", &plan], &arguments[..]].concat()).ok();
}

const HUMAN: &str = "[[steps]]\ndo = \"human\"\ntext = \"Take the token out of its bag.\"\n\
    record = [{ name = \"bag\", pattern = \"AA-999999\" }, \"safe\"]\n";
const PIN: &str = "[[steps]]\ndo = \"pin-split\"\nset = \"pin\"\nwho = \"user\"\nthreshold = 2\n\
    holders = [\"erin\", \"frank\"]\nlength = 24\nalphabet = \"letters-and-digits\"\n\
    [[steps]]\ndo = \"shares-verify\"\nset = \"pin\"\n[[steps]]\ndo = \"pin-rotate\"\nset = \"pin\"\n";
const BREAK: &str = "[[steps]]\ndo = \"break\"\nreason = \"lunch\"\n";
const CHECK: &str = "[[steps]]\ndo = \"environment-check\"\n";
const DRILL: &str = "[[steps]]\ndo = \"restore-drill\"\nkey = \"root\"\n";

/// How many lines are typed until everybody goes: the roll, what was read and by whom, and the words of
/// two people for this, for the root's key, and for the break.
const BEFORE: usize = 10;

/// People, something that they do first, and a break after the root's key.
fn with_break() -> Meeting {
    Meeting::of(&plan(HUMAN, BREAK).replace(TOKEN_INIT, ""))
}

/// Both verifiers refuse the transcript as somebody changed it, with a chain that fits.
fn refused(place: &Place, said: &str, change: Change) {
    let whole = place.text_of("transcript.jsonl");
    let mut records: Vec<Value> =
        whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    records.pop();
    change(&mut records);
    let forged = place.write("forged.jsonl", &rechained(records));
    program(&["verify", &forged]).refused(5, said);
    let second = peer("python3", &[&manifest("verify.py"), &forged], &[]).failed();
    assert!(second.contains(said), "{said:?} is not in: {second}");
}

/// The record of this outcome.
fn find<'a>(records: &'a mut [Value], outcome: &str) -> &'a mut Value {
    records.iter_mut().find(|record| record["data"].get(outcome).is_some()).unwrap()
}

/// The plan of a root and an issuing CA, with these steps before the token is initialized, and those
/// before the root signs.
fn plan(early: &str, late: &str) -> String {
    let text = fs::read_to_string(manifest(ROOT_AND_ISSUING)).unwrap();
    let sign = "[[steps]]\ndo = \"sign-certificate\"\ncertificate = \"root\"\n";
    assert!(text.contains(TOKEN_INIT) && text.contains(sign));
    text.replace(TOKEN_INIT, &format!("{early}{TOKEN_INIT}"))
        .replace(sign, &format!("{late}{sign}"))
}
