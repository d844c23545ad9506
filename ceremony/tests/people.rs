//! Several people take part: they approve the plan, are present, confirm each step, and sign off.

#[path = "harness/meeting.rs"]
mod meeting;
#[path = "harness/place.rs"]
mod place;

use std::{
    fs,
    io::Write as _,
    process::{Command, Stdio},
};

use ceremony::{verify::Verified, words::spoken};
use serde_json::Value;

use meeting::*;
use place::*;

#[test]
fn a_ceremony_of_several_people_is_approved_confirmed_and_signed_by_them() {
    let meeting = Meeting::new();
    let answer = meeting.run_typing(&meeting.lines(&["alice", "bob", "carol"]));
    let said = answer.ok();
    assert!(said.contains("alice confirmed"), "{said}");
    let verify = ["--rehearsal", &meeting.place.text("rehearsal.jsonl")];
    let verified = meeting.place.verify(&verify).ok();
    let people = "approved by alice, dave; signed off by alice, bob, carol";
    assert!(verified.contains(people), "{verified}");

    // Whoever verifies has the plan's words on paper, and everybody's keys from somewhere else.
    let words = spoken(meeting.plan().hash());
    let first: Vec<&str> = words.split(' ').take(10).collect();
    let line = |name: &str| format!("{name} {}", meeting.place.text_of(&format!("{name}.pub")));
    let all = ["alice", "bob", "carol", "dave"].map(line).concat();
    let trusted = meeting.place.write("trusted", &format!("# people\n{all}"));
    for words in [&words, &first.join(" ")] {
        meeting.place.verify(&["--plan-words", words, "--trust", &trusted]).ok();
    }
    let head: Value = serde_json::from_str(&meeting.place.verify(&["--json"]).ok()).unwrap();
    let head = head["words"].as_str().unwrap();
    meeting.place.verify(&["--plan-words", head]).refused(5, "the words of the transcript's plan");
    for (name, text) in [
        ("carol", all.replace(&line("carol"), "")),
        ("bob", all.replace(&line("bob"), &line("alice").replace("alice ", "bob "))),
        ("dave", all.replace("dave ", "dave namespaces=\"git\" ")),
    ] {
        let trusted = meeting.place.write("trusted", &text);
        let said = format!("the key of {name} in the plan is not one of those");
        meeting.place.verify(&["--trust", &trusted]).refused(5, &said);
    }

    // What they signed is what ssh-keygen verifies, by everybody's keys.
    let signers: String = PEOPLE
        .iter()
        .map(|(name, ..)| format!("{name} {}", meeting.place.text_of(&format!("{name}.pub"))))
        .collect();
    let signers = meeting.place.write("allowed_signers", &signers);
    let records: Vec<Value> = meeting
        .place
        .text_of("transcript.jsonl")
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let plan = meeting.plan();
    let mut signed = Vec::new();
    for record in records.iter().filter(|record| record["event"] == "signed-off") {
        let name = record["who"][0].as_str().unwrap();
        let signature = record["data"]["signature"].as_str().unwrap();
        let signature = meeting.place.write("signature", signature);
        let head = record["prev"].as_str().unwrap();
        let text = format!("chancery-ceremony: sign off\nplan {}\nhead {head}\n", plan.hash());
        let arguments = ["-Y", "verify", "-n", "chancery-ceremony", "-f", &signers, "-I", name];
        let mut child = Command::new("ssh-keygen")
            .args(arguments)
            .args(["-s", &signature])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success(), "{name}");
        signed.push(name);
    }
    assert_eq!(signed, ["alice", "bob", "carol"]);
}

#[test]
fn a_ceremony_does_not_begin_without_what_its_plan_wants() {
    let meeting = Meeting::new();
    let place = &meeting.place;
    let plan = place.text("meeting.toml");
    let rehearsal = place.text("rehearsal.jsonl");
    let [alice, dave] = ["alice.approval", "dave.approval"].map(|name| place.text(name));
    let run = |flags: &[&str], code: i32, said: &str| {
        place.run(&plan, flags).refused(code, said);
        assert!(!place.path("transcript.jsonl").exists() && place.objects().is_empty(), "{said}");
    };
    let both = ["--approval", &alice, "--approval", &dave];
    run(&both, 3, "there is none");
    let other = Place::new();
    let other = other.rehearsal(ROOT_AND_ISSUING);
    run(&[&both[..], &["--rehearsal", &other]].concat(), 3, "another plan's");
    let rehearsed = ["--rehearsal", &rehearsal];
    run(&[&rehearsed[..], &both[..2]].concat(), 3, "it takes 1 auditor (0 there)");
    run(&["--unattended"], 2, "cannot be performed unattended");
}

#[test]
fn a_plan_that_was_changed_after_its_approval_is_not_performed() {
    let meeting = Meeting::new();
    let place = &meeting.place;
    let plan = place.text("meeting.toml");
    let changed = meeting.text.replace("CN=Example Test Root G2", "CN=Example Test Root G3");
    place.write("meeting.toml", &changed);
    fs::remove_file(place.path("rehearsal.jsonl")).unwrap();
    let rehearsal = place.rehearsal(&plan);
    let [alice, dave] = ["alice.approval", "dave.approval"].map(|name| place.text(name));
    let flags = ["--rehearsal", &rehearsal, "--approval", &alice, "--approval", &dave];
    place.run(&plan, &flags).refused(3, "is not of this text");
    assert!(!place.path("transcript.jsonl").exists() && place.objects().is_empty());

    // Put right again, it is performed.
    place.write("meeting.toml", &meeting.text);
    fs::remove_file(place.path("rehearsal.jsonl")).unwrap();
    place.rehearsal(&plan);
    meeting.run_typing(&meeting.lines(&["alice", "bob", "carol"])).ok();
}

#[test]
fn the_same_person_twice_is_no_quorum() {
    let meeting = Meeting::new();
    let place = &meeting.place;
    // Twice among those who approve.
    let [plan, rehearsal, alice] =
        ["meeting.toml", "rehearsal.jsonl", "alice.approval"].map(|name| place.text(name));
    let twice = ["--rehearsal", &rehearsal, "--approval", &alice, "--approval", &alice];
    place.run(&plan, &twice).refused(3, "alice is there twice");
    assert!(!place.path("transcript.jsonl").exists() && place.objects().is_empty());
    // Twice among those who confirm a step.
    let lines = meeting.lines(&["alice", "bob", "carol"]);
    let mut twice = lines[..3].to_vec();
    twice[2] = twice[1].clone();
    meeting.run_typing(&twice).refused(1, "was not confirmed");
    assert_eq!(place.objects(), "");
    meeting.resume_typing(&lines).ok();
    place.verify(&["--handoff", &place.text("handoff")]).ok();
}

#[test]
fn nobody_speaks_for_somebody_else() {
    let meeting = Meeting::new();
    let place = &meeting.place;
    let approve = |name: &str, key: &str, code: i32, said: &str| {
        let (plan, key) = (place.text("meeting.toml"), place.text(key));
        let output = place.text("new.approval");
        program(&["approve", &plan, "--as", name, "--key", &key, "-o", &output])
            .refused(code, said);
        assert!(!place.path("new.approval").exists());
    };
    approve("bob", "alice", 3, "is not by bob");
    approve("mallory", "alice", 3, "does not name mallory");
    approve("alice", "nothing", 1, "made no signature");
    keygen(place, "mallory", "ed25519");
    approve("alice", "mallory", 3, "names nobody with the key ssh-ed25519");

    // Too few at the roll call; then another's key at the end.
    let lines = meeting.lines(&["alice", "bob", "carol"]);
    let few = ["alice bob\n".to_owned(), "alice eve\n".to_owned(), "\n".to_owned()];
    meeting.run_typing(&few).refused(1, "was not confirmed");
    assert_eq!(place.objects(), "");
    let mut stolen = lines.clone();
    let last = stolen.len() - 1;
    stolen[last] = format!("{}\n", place.text("bob"));
    meeting.resume_typing(&stolen).refused(3, "is not by carol");
    assert!(!place.path("handoff").exists());

    // The next day, dave comes instead of carol.
    let again = [
        "alice bob dave\n".to_owned(),
        "alice bob carol dave\n".to_owned(),
        format!("{}\n", place.text("carol")),
        format!("{}\n", place.text("dave")),
    ];
    meeting.resume_typing(&again).ok();
    let verified = place.verify(&[]).ok();
    assert!(verified.contains("signed off by alice, bob, carol, dave"), "{verified}");
}

#[test]
fn a_transcript_in_which_somebody_is_left_out_is_refused() {
    let meeting = Meeting::new();
    meeting.run_typing(&meeting.lines(&["alice", "bob", "carol"])).ok();
    let whole = meeting.place.text_of("transcript.jsonl");
    let forge = |change: Change| {
        let mut records: Vec<Value> =
            whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        records.pop();
        change(&mut records);
        Verified::from_bytes(rechained(records).as_bytes())
    };
    forge(&|_| {}).unwrap();
    let find = |records: &[Value], event: &str| {
        records.iter().rposition(|record| record["event"] == event).unwrap()
    };
    let table: [(&str, &str, Change); 7] = [
        ("an approval", "it takes 1 auditor", &|records| {
            records[0]["data"]["approvals"].as_object_mut().unwrap().remove("dave");
        }),
        ("somebody else's approval", "is not by dave", &|records| {
            let other = records[0]["data"]["approvals"]["alice"].clone();
            records[0]["data"]["approvals"]["dave"] = other;
        }),
        ("the rehearsal", "an opening with the rehearsal", &|records| {
            records[0]["data"].as_object_mut().unwrap().remove("rehearsal");
        }),
        ("the roll call", "the roll call", &|records| {
            let at = find(records, "present");
            records.remove(at);
        }),
        ("a confirmation", "the confirmation of the step", &|records| {
            let at = find(records, "confirmed");
            records.remove(at);
        }),
        ("a witness", "a confirmation by enough people", &|records| {
            let at = find(records, "confirmed");
            records[at]["who"] = serde_json::json!(["alice"]);
        }),
        ("the last signature", "the plan's next step", &|records| {
            let at = find(records, "signed-off");
            records.remove(at);
        }),
    ];
    for (what, said, change) in table {
        let error = forge(change).unwrap_err().to_string();
        assert!(error.contains(said), "{what}: {error}");
    }
    // Whatever was changed before it, a signature is not of.
    let error = forge(&|records| {
        let at = find(records, "token");
        records[at]["data"]["library"] = "another library".into();
    });
    let error = error.unwrap_err();
    assert!(error.to_string().contains("is not of this ceremony"), "{error}");
}
