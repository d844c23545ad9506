//! A key has a copy in a second token, and neither lets it out.

#[path = "harness/place.rs"]
mod place;

use std::{fs, process::Command};

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
    let arguments = ["--init-token", "--free", "--label", "backup"];
    let pins = ["--so-pin", "12345678", "--pin", "1234"];
    place.softhsm("softhsm2-util", &[&arguments[..], &pins].concat()).ok();
    let site = place.text_of("site.toml");
    let backup = "[backup]\ntoken = { label = \"backup\" }\npin_file = \"user.pin\"\n[environment]";
    place.write("site.toml", &site.replace("[environment]", backup));
    place
}

fn login(token: &str) -> [&str; 7] {
    ["--module", MODULE, "--token-label", token, "--login", "--pin", "1234"]
}

fn objects(place: &Place, token: &str) -> String {
    place.softhsm("pkcs11-tool", &[&login(token)[..], &["--list-objects"]].concat()).ok()
}
