//! A key has a copy in a second token, and neither lets it out.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "harness/place.rs"]
mod place;

use std::{fs, process::Command};

use serde_json::{Value, json};

use place::*;

const PLAN: &str = "plans/backup-and-restore.toml";

#[test]
fn the_second_token_signs_as_the_first_and_neither_lets_the_key_out() {
    let place = two_tokens();
    place.run(PLAN, &["--unattended"]).ok();
    place.verify(&["--handoff", &place.text("handoff")]).ok();
    for token in ["chancery", "backup"] {
        let objects = objects(&place, token);
        assert!(objects.contains("issuing/root"), "{objects}");
        let private: Vec<&str> = objects.lines().filter(|it| it.contains("sensitive")).collect();
        assert_eq!(private.len(), objects.matches("Private Key Object").count(), "{objects}");
        for access in private {
            assert!(!access.replace("never extractable", "").contains("extractable"), "{access}");
        }
    }
    assert!(!objects(&place, "backup").contains("publication/log"));

    // The token is lost: the other one signs, and the root's certificate verifies it.
    let digest = place.write("digest", &"d".repeat(48));
    let signature = place.text("signature");
    let sign = ["--sign", "--mechanism", "ECDSA", "--signature-format", "openssl"];
    let files = ["--label", "issuing/root", "--input-file", &digest, "--output-file", &signature];
    place.softhsm("pkcs11-tool", &[&login("backup")[..], &sign, &files].concat()).ok();
    let root = place.text("handoff/root.pem");
    let verify = ["pkeyutl", "-verify", "-certin", "-inkey", &root, "-in", &digest];
    let mut openssl = Command::new("openssl");
    Answer::of("openssl", openssl.args(verify).args(["-sigfile", &signature])).ok();

    // Years later, both are what the transcript says.
    let transcript = place.text("transcript.jsonl");
    for token in ["chancery", "backup"] {
        let site = place.text_of("site.toml");
        let site = site.replacen(
            "[token]\nlabel = \"chancery\"",
            &format!("[token]\nlabel = \"{token}\""),
            1,
        );
        let site = place.write("inventory.toml", &site);
        program(&["inventory", "--site", &site, "--against", &transcript]).ok();
    }
}

#[test]
fn the_copy_is_drilled_when_it_is_made_and_each_year_after() {
    let place = two_tokens();
    place.run(PLAN, &["--unattended"]).ok();
    let drilled = |place: &Place| {
        let outcomes = place.events("outcome");
        let drilled = outcomes.iter().find(|it| it["restore-drilled"].is_object()).unwrap();
        drilled["restore-drilled"].clone()
    };
    let first = drilled(&place);
    program(&["report", &place.text("transcript.jsonl"), "-o", &place.text("r.html")]).ok();
    let report = place.text_of("r.html");
    for said in ["with a copy in label &quot;backup&quot;", "the copy in label &quot;backup&quot;"]
    {
        assert!(report.contains(said), "{said}: {report}");
    }
    assert_eq!(first["copy"]["token"]["label"], "backup");
    assert_eq!(first["copy"]["attributes"]["CKA_EXTRACTABLE"], false);
    fs::rename(place.path("transcript.jsonl"), place.path("first.jsonl")).unwrap();
    fs::remove_file(place.path("second.jsonl")).unwrap();
    fs::remove_dir_all(place.path("handoff")).unwrap();

    // A year later: the key is found in both tokens. A rehearsal has a stand-in of it, and leaves none.
    let plan = place.write("drill.toml", &drill(&place, "root"));
    let kryoptic = format!("kryoptic={}", built("kryoptic/debug/libchancery_kryoptic.so"));
    let shim = built("debug/deps/libchancery_shim.so");
    let arguments = ["--on", "softhsm", "--on", &kryoptic, "--shim", &shim, "--faults", "6"];
    program(&[&["rehearse", &plan], &arguments[..]].concat()).ok();
    let said = run_without_handoff(&place, &plan).ok();
    assert!(said.contains("4 attempts to misuse it were refused"), "{said}");
    assert_eq!(drilled(&place), first);
    place.verify(&[]).ok();

    // What another token did, or less than all that was attempted, is no drill.
    for (change, said) in [
        ("/copy/token/serial", "the token that has the copy"),
        ("/copy/attributes/CKA_SENSITIVE", "a copy that signs, and never leaves its token"),
        ("/copy/attempts/read its private value", "attempted to be misused, in vain"),
    ] {
        let records = place.text_of("transcript.jsonl");
        let mut records: Vec<Value> =
            records.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        records.pop();
        let of_drill = |record: &&mut Value| record["data"]["restore-drilled"].is_object();
        let record = records.iter_mut().find(of_drill).unwrap();
        let value = record["data"]["restore-drilled"].pointer_mut(change).unwrap();
        *value = if value.is_boolean() { json!(false) } else { json!("") };
        let forged = place.write("forged.jsonl", &rechained(records));
        program(&["verify", &forged]).refused(5, said);
        peer("python3", &[&manifest("verify.py"), &forged], &[]).failed();
    }

    // Another token in its place is not the one with the copy; nor has that key one.
    let site = place.text_of("site.toml");
    let arguments = ["--init-token", "--free", "--label", "other"];
    let pins = ["--so-pin", "12345678", "--pin", "1234"];
    place.softhsm("softhsm2-util", &[&arguments[..], &pins].concat()).ok();
    place.write("site.toml", &site.replace("label = \"backup\"", "label = \"other\""));
    for name in ["transcript.jsonl", "second.jsonl"] {
        fs::remove_file(place.path(name)).unwrap();
    }
    run_without_handoff(&place, &plan).refused(3, "the backup token is another one");
    let plan = place.write("drill.toml", &drill(&place, "log"));
    program(&["plan", &plan]).refused(3, "  drill-of-a-copy: ");
}

#[test]
fn a_copy_that_is_gone_or_lets_itself_be_misused_is_found_by_the_drill() {
    let place = two_tokens();
    place.run(PLAN, &["--unattended"]).ok();
    fs::rename(place.path("transcript.jsonl"), place.path("first.jsonl")).unwrap();
    fs::remove_file(place.path("second.jsonl")).unwrap();
    let plan = place.write("drill.toml", &drill(&place, "root"));
    let (site, shim) = (place.text_of("site.toml"), built("debug/deps/libchancery_shim.so"));
    let variable = format!("[environment]\nCHANCERY_SHIM = \"{}\"\n", place.text(""));
    let shimmed = site.replace(MODULE, &shim).replace("[environment]\n", &variable);
    place.write("site.toml", &shimmed);
    let lets =
        "[[faults]]\nfunction = \"C_WrapKey\"\nfrom = 1\nevery = 1\naction = { return = 0 }\n";
    place.write("plan.toml", &format!("module = \"{MODULE}\"\n{lets}"));
    run_without_handoff(&place, &plan).refused(4, "with the copy of the key issuing/root: wrap it");
    // It is the last one, perhaps: nobody destroys it.
    assert_eq!(objects(&place, "backup").matches("Private Key Object").count(), 1);
    for name in ["transcript.jsonl", "second.jsonl"] {
        fs::remove_file(place.path(name)).unwrap();
    }

    place.write("site.toml", &site);
    let delete = ["--delete-object", "--type", "privkey", "--label", "issuing/root"];
    place.softhsm("pkcs11-tool", &[&login("backup")[..], &delete].concat()).ok();
    run_without_handoff(&place, &plan).refused(4, "no private key has the CKA_ID");
}

#[test]
fn a_key_that_cannot_be_copied_safely_is_in_neither_token() {
    let shim = built("debug/deps/libchancery_shim.so");
    let untrusted =
        "[[faults]]\nfunction = \"C_WrapKey\"\nfrom = 1\nevery = 1\naction = { return = 0 }\n";
    let lost =
        "[[faults]]\nfunction = \"C_UnwrapKey\"\nfrom = 1\nevery = 1\naction = { return = 6 }\n";
    let let_out = "[[faults]]\nfunction = \"C_SetAttributeValue\"\nfrom = 1\nevery = 1\naction = { return = 0 }\n";
    let table = [
        ("ed25519", "", "C_WrapKey was refused with CKR_KEY_NOT_WRAPPABLE"),
        ("p384", untrusted, "the token wraps it under a key that nobody trusts"),
        ("p384", lost, "C_UnwrapKey failed with CKR_FUNCTION_FAILED"),
        ("p384", let_out, "must not be used: CKA_EXTRACTABLE is true"),
    ];
    for (algorithm, fault, said) in table {
        let place = two_tokens();
        let text = fs::read_to_string(manifest(PLAN)).unwrap();
        let plan = place.write("ours.toml", &text.replace("\"p384\"", &format!("\"{algorithm}\"")));
        let site = place.text_of("site.toml").replace(MODULE, &shim);
        let here = place.text("");
        place.write(
            "site.toml",
            &site.replace(
                "[environment]\n",
                &format!("[environment]\nCHANCERY_SHIM = \"{here}\"\n"),
            ),
        );
        place.write("plan.toml", &format!("module = \"{MODULE}\"\n{fault}"));
        place.run(&plan, &["--unattended"]).refused(4, said);
        if fault == let_out {
            // Not sealed, and so not taken; it is destroyed when the ceremony goes on.
            place.write("plan.toml", &format!("module = \"{MODULE}\"\n"));
            place.resume(&[]).ok();
            place.verify(&["--handoff", &place.text("handoff")]).ok();
            continue;
        }
        assert_eq!(objects(&place, "chancery"), "", "{said}");
        assert_eq!(objects(&place, "backup"), "", "{said}");
    }
}

#[test]
fn a_place_without_another_token_makes_no_copy() {
    let place = two_tokens();
    let site = place.text_of("site.toml");
    let same = site.replace("label = \"backup\"", "label = \"chancery\"");
    let without = site.split("[backup]").next().unwrap().to_owned();
    let environment = site.split("[environment]").nth(1).unwrap();
    let without = format!("{without}[environment]{environment}");
    for (site, code, said) in
        [(&same, 4, "is the token itself"), (&without, 2, "names no backup token")]
    {
        place.write("site.toml", site);
        place.run(PLAN, &["--unattended"]).refused(code, said);
        assert_eq!(objects(&place, "chancery"), "");
        for name in ["transcript.jsonl", "second.jsonl"] {
            fs::remove_file(place.path(name)).unwrap();
        }
    }
    let kryoptic = format!("kryoptic={}", built("kryoptic/debug/libchancery_kryoptic.so"));
    program(&["rehearse", &manifest(PLAN), "--on", &kryoptic])
        .refused(3, "the token has no mechanism for a key that its security officer trusts");
}

/// A place with two initialized tokens, the second one for copies.
fn two_tokens() -> Place {
    let place = Place::new();
    place.initialize_token();
    place.add_backup_token();
    place
}

/// A plan that drills the copy of a key that the first ceremony made.
fn drill(place: &Place, key: &str) -> String {
    let first = place.text_of("first.jsonl");
    let last: Value = serde_json::from_str(first.lines().last().unwrap()).unwrap();
    let head = last["head"].as_str().unwrap();
    format!(
        "schema = \"chancery-ceremony/1\"\nid = \"drill\"\n[keys]\n\
         {key} = {{ existing = {{ transcript = \"first.jsonl\", head = \"{head}\", name = \"{key}\" }} }}\n\
         [[steps]]\ndo = \"use-key\"\nkey = \"{key}\"\n\
         [[steps]]\ndo = \"restore-drill\"\nkey = \"{key}\"\n\
         [[steps]]\ndo = \"close\"\n"
    )
}

/// A ceremony that hands nothing off.
fn run_without_handoff(place: &Place, plan: &str) -> Answer {
    let (site, journals) = (place.text("site.toml"), place.journals());
    let journals = journals.each_ref().map(String::as_str);
    program(&[&["run", plan, "--site", &site, "--unattended"], &journals[..]].concat())
}

fn login(token: &str) -> [&str; 7] {
    ["--module", MODULE, "--token-label", token, "--login", "--pin", "1234"]
}

fn objects(place: &Place, token: &str) -> String {
    place.softhsm("pkcs11-tool", &[&login(token)[..], &["--list-objects"]].concat()).ok()
}
