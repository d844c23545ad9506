//! What a kind of token does is found out on one that has nothing to lose, and a plan that it cannot do is
//! refused before anybody comes together.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "harness/place.rs"]
mod place;

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Command, Stdio},
    sync::OnceLock,
};

use serde_json::{Value, json};

use place::*;

#[test]
fn what_each_software_token_does_is_found_out() {
    let (softhsm, kryoptic) = (softhsm(), kryoptic());
    // What facts tell of both: the first chooses badly where a template says nothing.
    for (profile, sensitive, unwraps) in [(softhsm, false, true), (kryoptic, true, false)] {
        let defaults = &profile.value["profile"]["keys"]["p256"]["defaults"];
        assert_eq!(defaults["CKA_SENSITIVE"], sensitive, "{defaults}");
        assert_eq!(defaults["CKA_UNWRAP"], unwraps, "{defaults}");
    }
    let refused = |code: &str| json!({ "refused": code });
    for (trial, first, second) in [
        ("initialize", json!("done"), json!("done")),
        ("label-twice", json!("done"), json!("done")),
        ("lone-half", json!("done"), json!("done")),
        ("officer-sees-private", refused("none is found"), json!("done")),
        ("orphan-after-refusal", json!("done"), json!({ "untried": "it was not refused" })),
        ("read-only-in-template", refused("CKR_ATTRIBUTE_READ_ONLY"), json!("done")),
        ("modify-unmodifiable", refused("CKR_ACTION_PROHIBITED"), refused("CKR_ACTION_PROHIBITED")),
        ("sign-long-digest", json!("done"), json!("done")),
        ("trust-by-officer", json!("done"), refused("CKR_ATTRIBUTE_TYPE_INVALID")),
        (
            "trust-by-user",
            refused("CKR_ATTRIBUTE_READ_ONLY"),
            refused("CKR_ATTRIBUTE_TYPE_INVALID"),
        ),
        (
            "wrap-by-untrusted",
            refused("CKR_KEY_NOT_WRAPPABLE"),
            refused("CKR_WRAPPING_KEY_HANDLE_INVALID"),
        ),
        ("wrong-pin", refused("CKR_PIN_INCORRECT"), refused("CKR_PIN_INCORRECT")),
    ] {
        assert_eq!(softhsm.value["profile"]["trials"][trial], first, "SoftHSM: {trial}");
        assert_eq!(kryoptic.value["profile"]["trials"][trial], second, "Kryoptic: {trial}");
    }
    for profile in [softhsm, kryoptic] {
        let profile = &profile.value["profile"];
        // Whoever lets a key out once, tells by CKA_NEVER_EXTRACTABLE alone: it can be turned off, never on.
        let extractable = &profile["attributes"]["CKA_EXTRACTABLE"];
        assert_eq!(extractable["set_false"], "done");
        assert_eq!(extractable["set_true"], refused("CKR_ATTRIBUTE_READ_ONLY"));
        for (what, said) in profile["keys"]["p384"]["misuse"].as_object().unwrap() {
            assert!(said["refused"].is_string(), "{what}: {said}");
        }
        assert!(profile["sessions"].as_u64().unwrap() >= 3);
    }
    assert_eq!(softhsm.value["profile"]["token"]["pin_length"], json!([4, 255]));
    assert_eq!(kryoptic.value["profile"]["token"]["pin_length"], json!([8, 0]));
    let mechanisms = |profile: &Probed| -> BTreeSet<String> {
        let told = profile.value["profile"]["token"]["mechanisms"].as_array().unwrap();
        told.iter().map(|it| it["name"].as_str().unwrap().to_owned()).collect()
    };
    let (first, second) = (mechanisms(softhsm), mechanisms(kryoptic));
    assert!(first.contains("CKM_AES_KEY_WRAP_PAD") && !second.contains("CKM_AES_KEY_WRAP_PAD"));
    assert!(!first.contains("CKM_ECDSA_SHA256") && second.contains("CKM_ECDSA_SHA256"));
    // The table says the same.
    assert!(
        softhsm.said.contains("p256       yes; by default CKA_DECRYPT=true"),
        "{}",
        softhsm.said
    );
    assert!(
        kryoptic.said.contains("lets the security officer trust a key                no: CKR_")
    );
}

#[test]
fn a_token_that_has_something_to_lose_is_not_probed() {
    let (place, serial) = scratch();
    let kept = serial_of(&place, "chancery");
    place.pkcs11_tool(&["--keypairgen", "--key-type", "EC:prime256v1", "--label", "mine"]);
    let before = place.objects();
    let output = place.text("p.json");
    let probe = |serial: &str, typed: &str| {
        let site = place.text("site.toml");
        let arguments = ["probe", "--site", &site, "--scratch-token", serial, "-o", &output];
        let mut command = Command::new(env!("CARGO_BIN_EXE_chancery-ceremony"));
        typing(command.args(arguments), typed)
    };
    probe(&kept, &kept).refused(3, "the site keeps this token");
    probe("0000", "0000").refused(4, "no token has the serial number");
    probe(&serial, "\nyes\n0000\n").refused(1, "was not confirmed");
    let site = place.text_of("site.toml");
    let backup = "[backup]\ntoken = { label = \"scratch\" }\npin_file = \"user.pin\"\n[scratch]";
    place.write("site.toml", &site.replace("[scratch]", backup));
    probe(&serial, &serial).refused(3, "the site keeps this token");
    let without =
        site.replace("[scratch]\npin_file = \"user.pin\"\nso_pin_file = \"so.pin\"\n", "");
    place.write("site.toml", &without);
    probe(&serial, &serial).refused(2, "names no PIN files of a token that has nothing to lose");
    place.write("site.toml", &site);

    // Somebody's key in it is destroyed by nobody.
    let arguments = ["--module", MODULE, "--token-label", "scratch", "--login", "--pin", "1234"];
    let generate = ["--keypairgen", "--key-type", "EC:prime256v1", "--label", "theirs"];
    place.softhsm("pkcs11-tool", &[&arguments[..], &generate].concat()).ok();
    probe(&serial, &serial).refused(3, "the scratch token has 2 object(s)");
    let objects =
        place.softhsm("pkcs11-tool", &[&arguments[..], &["--list-objects"]].concat()).ok();
    assert_eq!(objects.matches("theirs").count(), 2, "{objects}");
    assert!(!place.path("p.json").exists());
    // A profile that is there is no other one's.
    place.write("p.json", "kept");
    probe(&serial, &serial).refused(3, "exists");
    assert_eq!(place.text_of("p.json"), "kept");
    assert_eq!(place.objects(), before);
}

#[test]
fn a_plan_that_such_a_token_cannot_do_is_refused_and_each_step_named() {
    let place = Place::new();
    let softhsm = place.write("softhsm.json", &softhsm().file);
    let kryoptic = place.write("kryoptic.json", &kryoptic().file);
    for entry in fs::read_dir(manifest("plans")).unwrap() {
        let plan = entry.unwrap().path().to_str().unwrap().to_owned();
        if is_alone(&plan) {
            program(&["lint", &plan, "--token-profile", &softhsm]).ok();
        }
    }
    let unable = |plan: &str, said: &[&str]| {
        let error = program(&["plan", plan, "--token-profile", &kryoptic]);
        assert_eq!(error.0.status.code(), Some(3));
        let error = error.failed();
        for said in said {
            assert!(error.contains(said), "{said:?} is not in: {error}");
        }
        assert!(error.contains(&format!("cannot do {} thing(s)", said.len())), "{error}");
    };
    let backup = manifest("plans/backup-and-restore.toml");
    unable(
        &backup,
        &["token-can: step 1 (generate the p384 key issuing/root in the token, and a \
                       copy in the backup token): the token has no CKM_AES_KEY_WRAP_PAD"],
    );
    let keys = keys_only().replace("algorithm = \"p256\"", "algorithm = \"ed25519\"");
    let keys = place.write("keys.toml", &keys);
    unable(
        &keys,
        &[
            "step 3 (generate the ed25519 key issuing/issuing in the token): the token makes no such key",
            "step 5 (generate the ed25519 key publication/log in the token): the token makes no such key",
        ],
    );
    let pins = fs::read_to_string(manifest("plans/pin-rotation.toml")).unwrap();
    let short = "alphabet = \"digits\"\nlength = 6\n";
    let pins =
        pins.replace("alphabet = \"letters-and-digits\" # or \"digits\"\nlength = 24\n", short);
    assert!(pins.contains(short));
    let pins = place.write("pins.toml", &pins);
    let said = "the token takes a user's PIN of 8 or more bytes, not of 6";
    unable(&pins, &[said, "step 6 (make"]);

    // A token that lets its keys be misused, that gives one session, that cannot be initialized.
    let root = manifest(ROOT_AND_ISSUING);
    for (pointer, value, said) in [
        (
            "/keys/p384/misuse/read its private value",
            json!("done"),
            "lets everybody read its private value",
        ),
        ("/sessions", json!(2), "token-sessions: the token gives 2 sessions"),
        (
            "/trials/initialize",
            json!({ "refused": "CKR_FUNCTION_NOT_SUPPORTED" }),
            "step 1 (initialize",
        ),
    ] {
        let mut changed: Value =
            serde_json::from_str(&fs::read_to_string(&softhsm).unwrap()).unwrap();
        *changed["profile"].pointer_mut(pointer).unwrap() = value;
        let changed = place.write("changed.json", &changed.to_string());
        program(&["plan", &root, "--token-profile", &changed]).refused(3, said);
    }
    let no_profile = place.write("none.json", "{}");
    program(&["plan", &root, "--token-profile", &no_profile])
        .refused(2, "is no profile of a token");
}

#[test]
fn the_profile_that_a_plan_was_compared_with_is_part_of_the_evidence() {
    let place = Place::new();
    let profile = place.write("token-profile.json", &softhsm().file);
    let other = place.write("other.json", &kryoptic().file);
    place
        .run(ROOT_AND_ISSUING, &["--unattended", "--token-profile", &other])
        .refused(3, "the profile is of another kind of token");
    // The token was made, and nothing else.
    assert_eq!(place.objects(), "");
    let place = Place::new();
    place.initialize_token();
    let keys = place.write("keys.toml", &keys_only());
    place
        .run(&keys, &["--unattended", "--token-profile", &other])
        .refused(3, "the profile is of another kind of token");
    assert!(!place.path("transcript.jsonl").exists(), "nothing was begun");
    place.run(&keys, &["--unattended", "--token-profile", &profile]).ok();
    place.verify(&["--handoff", &place.text("handoff")]).ok();
    let sum = peer("sha256sum", &[], &[Path::new(&profile)]).ok();
    assert_eq!(place.events("opened")[0]["token_profile"], sum[..64]);

    let (transcript, bundle) = (place.text("transcript.jsonl"), place.text("b.bundle"));
    let collect = |profile: &str| {
        program(&["bundle", &transcript, "--token-profile", profile, "-o", &bundle])
    };
    collect(&other).refused(5, "is not the profile that the plan was compared with");
    collect(&profile).ok();
    program(&["verify", &bundle]).ok();
    let verify = manifest("verify.py");
    peer("python3", &[&verify, &bundle], &[]).ok();
    let listed = peer("tar", &["-tf"], &[Path::new(&bundle)]).ok();
    assert!(listed.contains("token-profile.json"), "{listed}");
    // One letter of it.
    let whole = fs::read(&bundle).unwrap();
    let at = whole.windows(17).position(|it| it == b"modify-unmodifiab").unwrap();
    let mut forged = whole;
    forged[at] = b'M';
    fs::write(place.path("forged.bundle"), forged).unwrap();
    let forged = place.text("forged.bundle");
    program(&["verify", &forged]).refused(5, "token-profile.json");
    let said = peer("python3", &[&verify, &forged], &[]).failed();
    assert!(said.contains("token-profile.json"), "{said}");
}

/// What a probe gave.
struct Probed {
    file: String,
    value: Value,
    /// The table.
    said: String,
}

/// SoftHSM's profile: it takes some seconds, and is made once.
fn softhsm() -> &'static Probed {
    static PROFILE: OnceLock<Probed> = OnceLock::new();
    PROFILE.get_or_init(|| {
        let (place, serial) = scratch();
        place.pkcs11_tool(&["--keypairgen", "--key-type", "EC:prime256v1", "--label", "mine"]);
        let before = place.objects();
        let probed = probe(&place, &serial);
        assert_eq!(place.objects(), before, "the token that is kept");
        let login = ["--module", MODULE, "--token-label", "scratch", "--login", "--pin", "1234"];
        let left = place.softhsm("pkcs11-tool", &[&login[..], &["--list-objects"]].concat()).ok();
        assert_eq!(left, "", "the PIN is the former one, and nothing is left");
        probed
    })
}

fn kryoptic() -> &'static Probed {
    static PROFILE: OnceLock<Probed> = OnceLock::new();
    PROFILE.get_or_init(|| {
        let place = Place::new();
        let module = built("kryoptic/debug/libchancery_kryoptic.so");
        let slot = |number: u8| {
            let file = place.text(&format!("{number}.sql"));
            format!("[[slots]]\nslot = {number}\ndbtype = \"sqlite\"\ndbargs = \"{file}\"\n")
        };
        let conf = place.write("kryoptic.conf", &[slot(1), slot(2)].concat());
        for name in ["user.pin", "so.pin"] {
            fs::write(place.path(name), "12345678\n").unwrap();
        }
        let pkcs11_tool = |arguments: &[&str]| {
            let mut command = Command::new("pkcs11-tool");
            command.args(["--module", &module]).args(arguments).env("KRYOPTIC_CONF", &conf);
            Answer::of("pkcs11-tool", &mut command).ok()
        };
        let pins = ["--so-pin", "12345678"];
        for (index, label) in [("0", "chancery"), ("1", "scratch")] {
            let index = ["--slot-index", index];
            let init = ["--init-token", "--label", label];
            pkcs11_tool(&[&index[..], &init, &pins].concat());
            let login = ["--login", "--login-type", "so", "--init-pin", "--pin", "12345678"];
            pkcs11_tool(&[&index[..], &login, &pins].concat());
        }
        let listed = pkcs11_tool(&["--list-slots"]);
        let slot = listed.split("Slot ").find(|slot| slot.contains(": scratch")).unwrap();
        let serial = slot.lines().find(|line| line.contains("serial num")).unwrap();
        let serial = serial.rsplit(' ').next().unwrap().to_owned();
        let site = place.text_of("site.toml").replace(MODULE, &module);
        let site = site.split("[environment]").next().unwrap().to_owned();
        let site = format!("{site}{SCRATCH}[environment]\nKRYOPTIC_CONF = \"{conf}\"\n");
        place.write("site.toml", &site);
        probe(&place, &serial)
    })
}

const SCRATCH: &str = "[scratch]\npin_file = \"user.pin\"\nso_pin_file = \"so.pin\"\n";

/// A place with a token that is kept, and one that has nothing to lose; and the serial number of that.
fn scratch() -> (Place, String) {
    let place = Place::new();
    place.initialize_token();
    let arguments = ["--init-token", "--free", "--label", "scratch"];
    let pins = ["--so-pin", "12345678", "--pin", "1234"];
    place.softhsm("softhsm2-util", &[&arguments[..], &pins].concat()).ok();
    let site = place.text_of("site.toml");
    place.write("site.toml", &site.replace("[environment]", &format!("{SCRATCH}[environment]")));
    let serial = serial_of(&place, "scratch");
    (place, serial)
}

fn serial_of(place: &Place, label: &str) -> String {
    let listed = place.softhsm("softhsm2-util", &["--show-slots"]).ok();
    let labelled = |slot: &&str| {
        slot.lines().any(|line| line.trim().strip_prefix("Label:").map(str::trim) == Some(label))
    };
    let slot = listed.split("Slot ").find(labelled).unwrap();
    let serial = slot.lines().find_map(|line| line.trim().strip_prefix("Serial number:"));
    serial.unwrap().trim().to_owned()
}

fn probe(place: &Place, serial: &str) -> Probed {
    let (site, output) = (place.text("site.toml"), place.text("p.json"));
    let arguments = ["probe", "--site", &site, "--scratch-token", serial, "--initialize"];
    let mut command = Command::new(env!("CARGO_BIN_EXE_chancery-ceremony"));
    command.args(arguments).args(["-o", &output]).stdin(Stdio::piped());
    let said = typing(&mut command, &format!("{serial}\n")).ok();
    let file = place.text_of("p.json");
    Probed { value: serde_json::from_str(&file).unwrap(), file, said }
}
