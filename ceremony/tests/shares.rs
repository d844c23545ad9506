//! A PIN that nobody has: custodians get shares of it on paper, and type them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "harness/custody.rs"]
mod custody;
#[path = "harness/place.rs"]
mod place;

use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::{Command, Stdio},
};

use serde_json::Value;

use custody::*;
use place::*;

#[test]
fn two_of_three_custodians_give_a_pin_that_nobody_knows() {
    let custody = Custody::new();
    let place = &custody.place;
    let rotated = custody.rotate("first");
    assert!(rotated.said.contains("3 choices of 2 shares gave the secret"), "{}", rotated.said);
    // The files of the pages are gone, and the former PINs of no use.
    assert_eq!(fs::read_dir(place.path("pages")).unwrap().count(), 0);
    assert!(!custody.opens("1234"));
    let pages: Vec<&Page> = rotated.pages.iter().filter(|page| page.user).collect();
    let pin = another_programs_pin(&[pages[0], pages[2]]);
    assert_eq!(pin.len(), 24);
    assert!(custody.opens(&pin));
    assert_eq!(pin, another_programs_pin(&[pages[1], pages[2]]));

    // What is written down has nothing of it.
    let written = ["first.jsonl", "first-2.jsonl"].map(|name| place.text_of(name)).concat();
    assert!(written.contains(&rotated.pages[0].set));
    for page in &rotated.pages {
        assert!(
            page.lines.iter().all(|line| !written.contains(line) && !rotated.said.contains(line))
        );
    }
    assert!(!written.contains(&pin) && !rotated.said.contains(&pin));
    program(&["verify", &place.text("first.jsonl")]).ok();

    // The next ceremony is opened by any two of them, and the one after that replaces them.
    let opened = custody.keys("second", &[pages[2], pages[0]]);
    let given_by = &opened["data"]["given_by"];
    assert_eq!(given_by["shares"], serde_json::json!([1, 3]));
    assert_eq!(given_by["set"], pages[0].set.as_str());
    program(&["verify", &place.text("second.jsonl"), "--handoff", &place.text("second")]).ok();
    let [so, user] = [false, true].map(|user| rotated.shares(user));
    let again = custody.rotate_from("third", &user[..2], &so[1..]);
    assert_ne!(again.pages[0].set, rotated.pages[0].set);
    assert!(!custody.opens(&pin));

    // The former custodians' PIN is tried once.
    let calls = custody.log_calls();
    custody.try_keys("fourth", &user[..2]).refused(4, "refused the PIN (CKR_PIN_INCORRECT)");
    assert_eq!(calls().matches(" C_Login ").count(), 1);
    assert!(!place.path("fourth.jsonl").exists(), "nothing was begun");
}

#[test]
fn a_corrupted_share_one_of_another_use_or_too_few_stop_it_and_nothing_is_done() {
    let custody = Custody::new();
    let place = &custody.place;
    let first = custody.rotate("first");
    let (so, user) = (first.shares(false), first.shares(true));
    let mut corrupted = Page { lines: user[1].lines.clone(), ..Page::default() };
    corrupted.lines[2] = user[0].lines[2].clone();
    let slip = Page { lines: vec!["0000 0000 0000 0000 00".to_owned()], ..Page::default() };
    let before = custody.objects(&user);
    let table: [(&str, Vec<&Page>, i32, &str); 6] = [
        ("another set", vec![user[0], so[1], so[1], so[1]], 3, "is of a secret for another use"),
        (
            "corrupted",
            vec![user[0], &corrupted, &corrupted, &corrupted],
            3,
            "the lines are not those",
        ),
        ("twice", vec![user[0], user[0], user[0], user[0]], 3, "share 1 is there twice"),
        ("too few", vec![user[0]], 3, "only 1 of the 2 shares that it takes"),
        ("a slip", vec![&slip; 9], 3, "line 1 is not as it is printed"),
        ("none", vec![], 3, "only 0 of the 2 shares that it takes"),
    ];
    for (what, typed, code, said) in table {
        custody.try_keys("second", &typed).refused(code, said);
        assert!(!place.path("second.jsonl").exists(), "{what}");
    }
    // A slip of the finger costs nothing.
    let typed = [&slip.lines[..], &user[0].lines, &user[2].lines].concat();
    let typed = Page { lines: typed, ..Page::default() };
    custody.keys("second", &[&typed]);
    assert_ne!(custody.objects(&user), before);
}

#[test]
fn a_share_of_another_set_is_told_from_those_of_the_new_one() {
    let custody = Custody::new();
    let (child, first) = custody.printed("first", &[]);
    // Nobody types.
    Answer(child.wait_with_output().unwrap()).refused(1, "share 1 is missing");
    // Who saw them while nobody watched? They are void, and their files are gone.
    let mut child = custody.resume("first");
    custody.wait_for_sets("first", 3);
    let second = custody.pages();
    let old: BTreeSet<&str> = first.iter().map(|page| page.set.as_str()).collect();
    let user: Vec<&Page> = second.iter().filter(|page| page.user).collect();
    assert!(user.len() == 3 && user.iter().all(|page| !old.contains(page.set.as_str())));

    // An old share where a new one is wanted: it is named, and the new one is taken.
    let void = first.iter().find(|page| page.user).unwrap();
    let mut input = child.stdin.take().unwrap();
    for page in [void].into_iter().chain(user) {
        input.write_all(page.typed().as_bytes()).unwrap();
    }
    custody.wait_for_sets("first", 4);
    let so: Vec<Page> = custody.pages().into_iter().filter(|page| !page.user).collect();
    assert_eq!(so.len(), 3, "the former set's pages are gone");
    so.iter().for_each(|page| input.write_all(page.typed().as_bytes()).unwrap());
    drop(input);
    let said = Answer(child.wait_with_output().unwrap()).ok();
    assert!(said.contains(&format!("is of the set {}", void.set)), "{said}");
    let verified = program(&["verify", &custody.place.text("first.jsonl")]).ok();
    assert!(verified.contains("interrupted once"), "{verified}");
}

#[test]
fn a_changed_pin_that_nobody_is_certain_of_is_tried_once() {
    // Where the intent to change the user's PIN is written, and nothing done: in both journals.
    let undisturbed = Custody::new();
    rehearsed(&undisturbed, &[]).ok();
    let text = undisturbed.place.text_of("first.jsonl");
    let is_it =
        |line: &str| line.contains("{\"rotate-pin\"") && line.contains("\"owner\":\"user\"");
    let line = 2 * (1 + text.lines().position(is_it).unwrap());

    let custody = Custody::new();
    let place = &custody.place;
    let resume = |flags: &[&str]| {
        let mut command = custody.resumption("first");
        Answer::of("resume", command.args(flags).stdin(Stdio::null()))
    };
    rehearsed(&custody, &["--power-loss", &format!("{line}:whole")]).killed();
    assert!(place.text_of("first.jsonl").lines().last().is_some_and(is_it));
    assert!(custody.opens("1234"));
    resume(&[]).refused(4, "refused the PIN");
    resume(&["--pin", "former"]).ok();
    assert!(!custody.opens("1234"));
    let decided: Vec<Value> = records(&place.text_of("first.jsonl"), "decided");
    assert_eq!(decided.last().unwrap()["data"], "pin-is-former");
}

#[test]
fn a_transcript_that_says_wrongly_who_gave_the_pin_or_read_back_is_refused_by_both_verifiers() {
    let undisturbed = Custody::new();
    rehearsed(&undisturbed, &[]).ok();
    let text = undisturbed.place.text_of("first.jsonl");
    let is_it =
        |line: &str| line.contains("{\"pin-rotated\"") && line.contains("\"owner\":\"user\"");
    let line = 2 * (1 + text.lines().position(is_it).unwrap());

    // The user's PIN was changed, then the power was lost: custodians open the token.
    let custody = Custody::new();
    let place = &custody.place;
    rehearsed(&custody, &["--power-loss", &format!("{line}:whole")]).killed();
    let mut command = custody.resumption("first");
    Answer::of("resume", command.stdin(Stdio::null())).ok();
    let text = place.text_of("first.jsonl");
    let mut whole: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    whole.pop();
    let opened = whole.iter().rposition(|it| it["event"] == "token").unwrap();
    assert_eq!(whole[opened]["data"]["given_by"]["shares"], serde_json::json!([1, 2]));
    let verified = |what: &str| {
        let named = |it: &Value| !it["data"][what].is_null();
        whole.iter().position(named).unwrap()
    };
    let (so, read_back) = (verified("pin-rotated"), verified("shares-verified"));
    let so = whole[so]["data"]["pin-rotated"]["set"].clone();
    let (by, back) = ("the custodians who have it", "every choice of them");
    let table: [(&str, Change, &str); 8] = [
        (by, &|it| drop(it[opened]["data"].as_object_mut().unwrap().remove("given_by")), "no one"),
        (by, &|it| it[opened]["data"]["given_by"]["set"] = so.clone(), "the other PIN's set"),
        (by, &|it| it[opened]["data"]["given_by"]["set"] = "0123456789ab".into(), "another set"),
        (by, &|it| it[opened]["data"]["given_by"]["shares"] = [1].into(), "too few"),
        (by, &|it| it[opened]["data"]["given_by"]["shares"] = [1, 2, 3].into(), "too many"),
        (by, &|it| it[opened]["data"]["given_by"]["shares"] = [1, 4].into(), "one that is not"),
        (back, &|it| it[read_back]["data"]["shares-verified"]["shares"] = 2.into(), "two of three"),
        (back, &|it| it[read_back]["data"]["shares-verified"]["combined"] = 1.into(), "one choice"),
    ];
    let forged = |change: Change| {
        let mut records = whole.clone();
        change(&mut records);
        place.write("forged.jsonl", &rechained(records))
    };
    let python = manifest("verify.py");
    let second = |path: &str| peer("python3", &["-B", &python, path], &[]);
    let same = forged(&|_| {});
    program(&["verify", &same]).ok();
    second(&same).ok();
    for (said, change, what) in table {
        let path = forged(change);
        program(&["verify", &path]).refused(5, said);
        let error = second(&path).failed();
        assert!(error.contains(said), "{what}: {error}");
    }
    // Nobody read anything back.
    let path = forged(&|it| drop(it.drain(read_back - 1..=read_back)));
    program(&["verify", &path]).refused(5, "");
    second(&path).failed();
}

#[test]
fn custodians_check_use_and_hand_on_their_shares_between_ceremonies() {
    let custody = Custody::new();
    let place = &custody.place;
    let first = custody.rotate("first");
    let user = first.shares(true);
    let transcript = place.text("first.jsonl");
    let typed = |arguments: &[&str], pages: &[&Page]| {
        let typed: String = pages.iter().map(|page| page.typed()).collect();
        let mut command = Command::new(env!("CARGO_BIN_EXE_chancery-ceremony"));
        typing(command.arg("share").args(arguments), &typed)
    };
    let json = |answer: Answer| serde_json::from_str::<Value>(&answer.ok()).unwrap();

    // Is it mine?
    let paper = json(typed(&["verify", "--json"], &[user[1]]));
    assert_eq!((&paper["share"], &paper["holder"]), (&2.into(), &Value::Null));
    let known = ["verify", "--transcript", &transcript];
    let by_transcript = typed(&known, &[user[1]]).ok();
    assert!(by_transcript.contains("it is the one that frank got"), "{by_transcript}");
    let other = Custody::new().rotate("first");
    let strangers = [other.shares(true)[0]; 3];
    typed(&known, &strangers).refused(3, &format!("is of the set {}", strangers[0].set));

    // An emergency: the PIN in a file.
    let pin = place.text("recovered");
    let recover = ["recover", "--transcript", &transcript, "-o", &pin, "--json"];
    typed(&recover, &[user[2]]).refused(3, "only 1 of the 2 shares that it takes");
    assert!(!place.path("recovered").exists());
    let recovered = json(typed(&recover, &[user[2], user[0]]));
    assert_eq!(recovered["shares"], serde_json::json!([1, 3]));
    assert_eq!(fs::metadata(&pin).unwrap().permissions().mode() & 0o777, 0o600);
    let content = fs::read_to_string(&pin).unwrap();
    assert!(custody.opens(content.trim_end()));
    assert!(!recovered.to_string().contains(content.trim_end()));
    typed(&recover, &[user[2], user[0]]).refused(1, "cannot write");

    // Other custodians, the same PIN.
    let (pages, facts) = (place.text("pages"), place.text("set.json"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_chancery-ceremony"));
    command.args(["share", "rotate", "--transcript", &transcript, "--threshold", "3"]);
    command.args(["--holder", "heidi", "--holder", "ivan", "--holder", "judy", "--holder", "karl"]);
    command.args(["--pages", &pages, "-o", &facts]);
    let mut child = piped(&mut command);
    let mut input = child.stdin.take().unwrap();
    input.write_all([user[0].typed(), user[1].typed()].concat().as_bytes()).unwrap();
    wait_for("the pages", || {
        let pages = fs::read_dir(&pages).unwrap().map(|entry| entry.unwrap().path());
        let whole =
            |page: &PathBuf| fs::read_to_string(page).is_ok_and(|text| text.ends_with("</html>\n"));
        pages.filter(whole).count() == 4
    });
    let new = custody.pages();
    new.iter().for_each(|page| input.write_all(page.typed().as_bytes()).unwrap());
    drop(input);
    let said = Answer(child.wait_with_output().unwrap()).ok();
    assert!(said.contains("4 choices of shares gave the secret"), "{said}");
    assert_eq!(fs::read_dir(&pages).unwrap().count(), 0);
    let facts: Value = serde_json::from_str(&place.text_of("set.json")).unwrap();
    assert_eq!(facts["former"], user[0].set.as_str());
    assert_eq!(facts["set"]["holders"], serde_json::json!(["heidi", "ivan", "judy", "karl"]));
    assert_eq!(another_programs_pin(&[&new[0], &new[1], &new[3]]), content.trim_end());

    let sheets = place.text("sheets.html");
    program(&["share", "print-blank", "--count", "3", "-o", &sheets]).ok();
    assert_eq!(place.text_of("sheets.html").matches("Share ____ of ____").count(), 3);
    program(&["share", "print-blank", "-o", &sheets]).refused(1, "cannot write");
}

#[test]
fn a_plan_that_relies_on_shares_nobody_read_back_is_refused() {
    let place = Place::new();
    let text = fs::read_to_string(manifest(PIN_ROTATION)).unwrap();
    let step = |does: &str, set: &str| format!("[[steps]]\ndo = \"{does}\"\nset = \"{set}\"\n");
    let without = |does: &str, set: &str| {
        assert!(text.contains(&step(does, set)), "{does} {set}");
        text.replace(&step(does, set), "")
    };
    let key = "[keys.log]\nalgorithm = \"p256\"\nlabel = \"publication/log\"\n";
    let generate = "[[steps]]\ndo = \"generate-key\"\nkey = \"log\"\n";
    let early = |before: &str| {
        let with_key = text.replacen("\n[[steps]]", &format!("\n{key}\n[[steps]]"), 1);
        with_key.replace(before, &format!("{generate}{before}"))
    };
    let people = "[persons.heidi]\nrole = \"operator\"\nkey = \"ssh-ed25519 \
                  AAAAC3NzaC1lZDI1NTE5AAAAIG3Wgw/Ew1WZAKO3vxWHaixGeoRwUY8Qy9uN0K3jvoyW\"\n";
    let table = [
        ("shares-verified-first", without("shares-verify", "user-pin")),
        ("pin-in-force-first", without("pin-rotate", "user-pin")),
        ("shares-verified-first", early(&step("shares-verify", "so-pin"))),
        ("pin-in-force-first", early(&step("pin-rotate", "so-pin"))),
        (
            "verify-what-was-split",
            text.replace(
                "do = \"shares-verify\"\nset = \"so-pin\"",
                "do = \"shares-verify\"\nset = \"user-pin\"",
            ),
        ),
        ("share-set-once", text.replace("set = \"so-pin\"", "set = \"user-pin\"")),
        ("share-numbers", text.replacen("threshold = 2", "threshold = 4", 1)),
        ("share-numbers", text.replacen("\"frank\"", "\"erin\"", 1)),
        ("share-numbers", text.replacen("length = 24", "length = 4", 1)),
        ("holders-are-persons", format!("{text}\n{people}")),
        ("hand-off-of-what-is-made", early("[[steps]]\ndo = \"close\"")),
    ];
    for (rule, plan) in table {
        let plan = place.write("plan.toml", &plan);
        program(&["plan", &plan]).refused(3, &format!("  {rule}: "));
    }
}

#[test]
fn a_place_for_the_pages_must_be_ones_own() {
    let custody = Custody::new();
    fs::set_permissions(custody.place.path("pages"), fs::Permissions::from_mode(0o750)).unwrap();
    custody.command("first", PIN_ROTATION, &[]).refused(1, "others can look into it");
    assert!(custody.opens("1234"));
    let site = custody.place.text_of("site.toml").replace("share_pages = \"pages\"\n", "");
    custody.place.write("site.toml", &site);
    custody.command("second", PIN_ROTATION, &[]).refused(2, "no place for the shares");
    let both = format!("pin = \"shares\"\n{site}");
    custody.place.write("site.toml", &both);
    custody.command("third", PIN_ROTATION, &[]).refused(2, "both pin and pin_file");
}

/// A rotation with nobody there.
fn rehearsed(custody: &Custody, flags: &[&str]) -> Answer {
    let (plan, site) = (manifest(PIN_ROTATION), custody.place.text("site.toml"));
    let arguments = [&["run", &plan, "--site", &site, "--rehearsed"], flags].concat();
    let mut command = Command::new(env!("CARGO_BIN_EXE_chancery-ceremony"));
    command.args(arguments).args(custody.journals("first")).stdin(Stdio::null());
    Answer::of("run", &mut command)
}
