//! The program as a user runs it, on SoftHSM.

#[path = "harness/place.rs"]
mod place;

use std::{fs, path::Path};

use ceremony::{plan::Plan, qr, verify::Verified, words::spoken};
use pki::handoff::Handoff;
use serde_json::Value;

use place::*;

#[test]
fn the_demo_ceremony_gives_what_openssl_and_openssh_accept() {
    let place = Place::new();
    place.initialize_token();
    let answer: Value =
        serde_json::from_str(&place.run(DEMO, &["--unattended", "--json"]).ok()).unwrap();
    let head = answer["head"].as_str().unwrap();

    let handoff = Handoff::read(&place.path("handoff")).unwrap();
    assert_eq!(handoff.ceremony.transcript, head);
    let online = |name: &str| handoff.x509[name].online;
    assert_eq!(["root", "issuing", "services"].map(online), [false, true, true]);
    assert_eq!(handoff.x509["issuing"].chain, ["issuing.pem", "root.pem"]);
    assert_eq!(handoff.ssh.keys().collect::<Vec<_>>(), ["ssh-host", "ssh-user"]);
    assert_eq!(handoff.raw.keys().collect::<Vec<_>>(), ["firmware"]);
    assert_eq!(place.objects().matches("Private Key Object").count(), 7);

    let root = place.path("handoff/root.pem");
    for name in ["root", "issuing", "services"] {
        let certificate = place.path(&format!("handoff/{name}.pem"));
        peer("openssl", &["verify", "-x509_strict", "-CAfile"], &[&root, &certificate]).ok();
    }
    for name in ["ssh-user", "ssh-host"] {
        peer("ssh-keygen", &["-l", "-f"], &[&place.path(&format!("handoff/{name}.pub"))]).ok();
    }

    let plan = manifest(DEMO);
    let verify = ["--plan", &plan, "--head", head, "--handoff", &place.text("handoff")];
    assert!(place.verify(&verify).ok().contains("unattended: nobody confirmed a step"));
}

#[test]
fn each_step_is_confirmed_by_its_own_two_words() {
    let place = Place::new();
    let plan = Plan::read(Path::new(&manifest(ROOT_AND_ISSUING))).unwrap();
    let words = confirmations(&plan);
    assert_eq!(words.len(), 6);

    // Two slips of the finger are forgiven.
    let typed = format!("yes\nroot\n{}", words.concat().to_uppercase());
    let answer = place.run_typing(ROOT_AND_ISSUING, &typed);
    let said = answer.ok();
    assert!(said.contains(words[5].trim()));

    // The head is shown after each step, in digits, in words, and for the camera.
    let head = Verified::read(&place.path("transcript.jsonl")).unwrap().head;
    let code = qr::to_terminal(head);
    assert_eq!(said.matches(&format!("head {head}\n")).count(), 2, "{said}");
    assert_eq!(said.matches(&spoken(head)).count(), 2, "{said}");
    assert!(said.ends_with(&code), "{said}");
    assert_eq!(said.matches("        head ").count(), 7, "{said}");
    assert!(place.verify(&[]).ok().contains("attended: each step was confirmed"));
}

#[test]
fn a_step_that_is_not_confirmed_is_not_done_and_the_transcript_says_so() {
    let place = Place::new();
    place.initialize_token();
    let keys = place.write("keys.toml", &keys_only());
    let answer = place.run_typing(&keys, "yes\nroot\nyes\n");
    answer.refused(1, "the step was not confirmed");
    assert_eq!(place.objects(), "");
    place.verify(&[]).refused(5, "it was stopped: the step was not confirmed");
}

#[test]
fn nothing_is_overwritten() {
    let place = Place::new();
    place.run(ROOT_AND_ISSUING, &["--unattended"]).ok();
    let before = (place.objects(), place.files());

    place.run(ROOT_AND_ISSUING, &["--unattended"]).refused(3, "the journal");
    fs::rename(place.path("transcript.jsonl"), place.path("kept.jsonl")).unwrap();
    fs::rename(place.path("second.jsonl"), place.path("kept2.jsonl")).unwrap();
    place.run(ROOT_AND_ISSUING, &["--unattended"]).refused(3, "the hand-off");
    fs::rename(place.path("handoff"), place.path("kept")).unwrap();
    place.run(ROOT_AND_ISSUING, &["--unattended"]).refused(3, "a token labelled \"chancery\"");
    let keys = place.write("keys.toml", &keys_only());
    place.run(&keys, &["--unattended"]).refused(3, "issuing/root");
    let hand_off = ["hand-off", &place.text("kept.jsonl"), "--handoff", &place.text("kept")];
    program(&hand_off).refused(3, "exists already");

    fs::rename(place.path("kept.jsonl"), place.path("transcript.jsonl")).unwrap();
    fs::rename(place.path("kept2.jsonl"), place.path("second.jsonl")).unwrap();
    fs::rename(place.path("kept"), place.path("handoff")).unwrap();
    fs::remove_file(&keys).unwrap();
    assert_eq!((place.objects(), place.files()), before);
}

#[test]
fn a_site_that_is_not_the_expected_one_is_refused_before_anything_is_changed() {
    let place = Place::new();
    place.initialize_token();
    let site = fs::read_to_string(place.path("site.toml")).unwrap();
    let wrong_hash = format!("module_sha256 = \"{}\"\n{site}", "00".repeat(32));
    let table = [
        (wrong_hash, 3, "another content"),
        (site.replace(MODULE, "libsofthsm2.so"), 2, "not an absolute path"),
        (site.replace("label = \"chancery\"", "label = \"chancellery\""), 4, "chancellery"),
        (site.replace("\"user.pin\"", "\"so.pin\""), 4, "refused the PIN"),
        (site.replace("\"user.pin\"", "\"open.pin\""), 2, "chmod 600"),
        (format!("pin = \"1234\"\n{site}"), 2, "a PIN belongs into pin_file"),
    ];
    let keys = place.write("keys.toml", &keys_only());
    let open = place.write("open.pin", "1234\n");
    peer("chmod", &["666"], &[Path::new(&open)]).ok();
    for (text, code, said) in table {
        place.write("site.toml", &text);
        place.run(&keys, &["--unattended"]).refused(code, said);
        assert!(!place.path("transcript.jsonl").exists(), "{said}");
    }
    place.write("site.toml", &site);
    assert_eq!(place.objects(), "");
}

#[test]
fn every_flipped_bit_and_every_lost_line_is_found() {
    let place = Place::new();
    place.run(ROOT_AND_ISSUING, &["--unattended"]).ok();
    let whole = fs::read(place.path("transcript.jsonl")).unwrap();
    Verified::from_bytes(&whole).unwrap();

    let lines: Vec<&[u8]> = whole.split_inclusive(|byte| *byte == b'\n').collect();
    let mut start = 0;
    for (number, line) in lines.iter().enumerate() {
        // Every 13th byte and the last two, another bit each time; the line end is the last.
        let places = (0..line.len()).step_by(13).chain(line.len() - 2..line.len());
        for place in places {
            let mut flipped = whole.clone();
            flipped[start + place] ^= 1 << (place % 8);
            let error = Verified::from_bytes(&flipped).unwrap_err().to_string();
            let (bad, last) = (number + 1, lines.len());
            let named = [" ", ":"].iter().any(|it| error.contains(&format!("line {bad}{it}")))
                // The last line states the head of the one before it: either was changed.
                || bad == last - 1 && error.contains(&format!("line {last} does not state"))
                || bad == last && error.contains("was interrupted");
            assert!(named, "line {bad}, byte {place}: {error}");
        }
        if (1..lines.len()).contains(&number) {
            let error = Verified::from_bytes(&whole[..start]).unwrap_err().to_string();
            assert!(error.contains(&format!("after {number} whole records")), "{error}");
        }
        let lost = [&whole[..start], &whole[start + line.len()..]].concat();
        assert!(Verified::from_bytes(&lost).is_err(), "without line {}", number + 1);
        start += line.len();
    }
    let longer = [&whole[..], lines[1]].concat();
    assert!(Verified::from_bytes(&longer).is_err(), "with a line after the end");
}

#[test]
fn a_transcript_written_anew_with_a_chain_that_fits_is_found_by_what_it_says() {
    let place = Place::new();
    place.run(ROOT_AND_ISSUING, &["--unattended"]).ok();
    let whole = fs::read_to_string(place.path("transcript.jsonl")).unwrap();
    let forge = |change: Change| {
        let mut records: Vec<Value> =
            whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        records.pop();
        change(&mut records);
        Verified::from_bytes(rechained(records).as_bytes())
    };
    assert!(forge(&|_| {}).is_ok());

    let outcome = |records: &mut Vec<Value>, kind: &str, nth: usize| {
        let is = |record: &usize| records[*record].pointer(&format!("/data/{kind}")).is_some();
        (0..records.len()).filter(is).nth(nth).unwrap()
    };
    let key = "key-generated";
    let signed = "certificate-signed";
    let table: [(&str, &str, Change); 7] = [
        ("another public key", "the certificate as the plan gives it", &|records| {
            let (a, b) = (outcome(records, key, 1), outcome(records, key, 2));
            let other = records[b]["data"][key]["key"]["public_key"].clone();
            records[a]["data"][key]["key"]["public_key"] = other;
        }),
        ("another CKA_ID", "the planned key", &|records| {
            let at = outcome(records, key, 0);
            records[at]["data"][key]["key"]["id"] = "0011223344556677".into();
        }),
        ("an extractable key", "never leaves its token", &|records| {
            let at = outcome(records, key, 0);
            records[at]["data"][key]["attributes"]["CKA_EXTRACTABLE"] = true.into();
        }),
        ("an attempt left out", "attempted to be misused, in vain", &|records| {
            let at = outcome(records, key, 0);
            let attempts = records[at]["data"][key]["attempts"].as_object_mut().unwrap();
            attempts.remove("read its private value").unwrap();
        }),
        ("the signature of another certificate", "a signature that verifies", &|records| {
            let (a, b) = (outcome(records, signed, 0), outcome(records, signed, 1));
            let other = records[a]["data"][signed]["signature"].clone();
            records[b]["data"][signed]["signature"] = other;
        }),
        ("another path length in the plan", "plan has the hash", &|records| {
            let step = &mut records[0]["data"]["plan"]["steps"][4]["sign-certificate"];
            step["kind"]["issuing"]["path_length"] = 3.into();
        }),
        ("a step left out", "the plan's next step", &|records| {
            let at = outcome(records, key, 2);
            records.drain(at - 1..=at);
        }),
    ];
    for (what, said, change) in table {
        let error = forge(change).unwrap_err().to_string();
        assert!(error.contains(said), "{what}: {error}");
    }
}

#[test]
fn a_hand_off_that_is_not_the_transcripts_is_found() {
    let place = Place::new();
    place.run(ROOT_AND_ISSUING, &["--unattended"]).ok();
    let handoff = place.text("handoff");
    let verify = |said: &str| place.verify(&["--handoff", &handoff]).refused(5, said);
    place.verify(&["--handoff", &handoff]).ok();

    place.write("handoff/more.txt", "more");
    verify("more.txt does not belong there");
    fs::remove_dir_all(&handoff).unwrap();

    program(&["hand-off", &place.text("transcript.jsonl"), "--handoff", &handoff]).ok();
    place.verify(&["--handoff", &handoff]).ok();
    fs::copy(place.path("handoff/issuing.pem"), place.path("handoff/root.pem")).unwrap();
    verify("does not follow it in the chain");
    fs::remove_dir_all(&handoff).unwrap();

    program(&["hand-off", &place.text("transcript.jsonl"), "--handoff", &handoff]).ok();
    let root = fs::read_to_string(place.path("handoff/root.pem")).unwrap();
    place.write("handoff/root.pem", &format!("{root}\n"));
    verify("root.pem");
    place.verify(&["--head", &"00".repeat(32)]).refused(5, "head");
    place.verify(&["--plan", &manifest(DEMO)]).refused(5, "hash");
}

#[test]
fn a_plan_is_explained_and_its_findings_are_named() {
    let place = Place::new();
    let demo = place.write("demo.toml", &program(&["new", "demo"]).ok());
    let answer = program(&["plan", &demo]).ok();
    assert!(answer.contains("  1  generate the rsa3072 key issuing/root in the token"), "{answer}");
    let root = place.write("root.toml", &program(&["new", "root-and-issuing"]).ok());
    let answer = program(&["plan", &root, "--json"]).ok();
    let answer: Value = serde_json::from_str(&answer).unwrap();
    let plan = Plan::read(Path::new(&manifest(ROOT_AND_ISSUING))).unwrap();
    assert_eq!(answer["plan_hash"], plan.hash().to_string());

    let broken = keys_only().replace("path_length = 0\n", "");
    let broken = place.write("broken.toml", &broken);
    program(&["plan", &broken]).refused(3, "issuing-needs-signer-and-path-length: ");
    program(&["plan", &place.text("absent.toml")]).refused(2, "cannot read the plan");
}
