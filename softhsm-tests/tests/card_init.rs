//! `chancery-card init` takes a card away from the factory's secrets, whenever it is pulled, and
//! wastes no try of a PIN. ykman says what became of the card.

use std::{fs, os::unix::fs::PermissionsExt};

use harness::{
    Doing, Failure, Story,
    desk::{Desk, PIN, PUK},
    process::Answer,
    virtual_card::{DEFAULT_MANAGEMENT_KEY, DEFAULT_PIN, DEFAULT_PUK, Fault, Kind, Status},
};
use serde_json::{Value, json};

const VERIFY: u8 = 0x20;
const CHANGE_REFERENCE_DATA: u8 = 0x24;
const PUT_DATA: u8 = 0xdb;
const PRINTED: u32 = 0x5f_c109;

#[test]
fn a_card_of_either_firmware_is_ready_for_ykman_afterwards() -> Story {
    for kind in [Kind::YubiKey54, Kind::YubiKey57] {
        let desk = Desk::new()?;
        let card = desk.insert(kind)?;
        init(&desk, &[])?.refused("still the one that every YubiKey comes with")?;
        assert!(!card.take_transcript().iter().any(|it| it.instruction == CHANGE_REFERENCE_DATA));

        let done = init(&desk, &["--from-defaults", "--json"])?.success()?;
        assert!(done.stderr.contains("may be wrong 3 times"), "{}", done.stderr);
        let all = json!({
            "pin": true, "puk": true, "management_key": true, "holder": true, "capabilities": true,
        });
        let told: Value = serde_json::from_str(&done.stdout).doing("read JSON")?;
        assert_eq!(told, json!({ "serial": 12_345_678, "done": all }));
        is_ready(&desk)?;

        // Once more changes nothing, but shows that the PIN is right.
        let again = init(&desk, &[])?.success()?.stdout;
        assert!(again.contains("was set before") && !again.contains("  set"), "{again}");
        is_ready(&desk)?;
    }
    Ok(())
}

#[test]
fn a_card_pulled_at_any_command_is_finished_by_the_same_command() -> Story {
    let desk = Desk::new()?;
    let card = desk.insert(Kind::YubiKey57)?;
    init(&desk, &["--from-defaults"])?.success()?;
    let commands = card.take_transcript().len();
    assert!(commands > 20, "{commands} commands are not an initialisation");
    for at in 1..=commands {
        for fault in [Fault::PulledBefore(at), Fault::PulledAfter(at)] {
            let card = desk.insert(Kind::YubiKey57)?;
            desk.run_and_pull(&card, fault, &[&INIT[..], &["--from-defaults"]].concat())?;
            init(&desk, &["--from-defaults"])?.success()?;
            holds_the_new_secrets(&desk)?;
            assert_eq!(card.tries_left(), (3, 3), "{fault:?}");
        }
    }
    Ok(())
}

#[test]
fn a_pin_of_somebody_else_is_tried_once_and_never_to_its_end() -> Story {
    let desk = Desk::new()?;
    let card = desk.insert(Kind::YubiKey57)?;
    desk.ykman(&["piv", "access", "change-pin", "-P", DEFAULT_PIN, "-n", "918273"])?.success()?;
    init(&desk, &["--from-defaults"])?.refused("the PIN is wrong: 2 tries left")?;
    assert_eq!(card.tries_left(), (2, 3));
    init(&desk, &["--from-defaults"])?.refused("the PIN is wrong: 1 try left")?;
    init(&desk, &["--from-defaults"])?.refused("one try is left for the PIN")?;
    assert_eq!(card.tries_left(), (1, 3));
    card.set_pin_tries_left(0);
    init(&desk, &["--from-defaults"])?.refused("the PIN is locked")?;
    Ok(())
}

#[test]
fn what_cannot_be_done_is_said_and_defaults_are_no_new_secrets() -> Story {
    let desk = Desk::new()?;
    let card = desk.insert(Kind::YubiKey57)?;
    for (file, default) in [("pin", DEFAULT_PIN), ("puk", DEFAULT_PUK)] {
        let right = desk.read(file)?;
        desk.write(file, default)?;
        init(&desk, &["--from-defaults"])?.refused("that every YubiKey comes with")?;
        desk.write(file, "12345")?;
        init(&desk, &["--from-defaults"])?.refused("it must be 6 to 8 letters")?;
        desk.write(file, &right)?;
    }
    let open = fs::Permissions::from_mode(0o644);
    fs::set_permissions(desk.path("pin"), open).doing("open a file")?;
    init(&desk, &["--from-defaults"])?.refused("chmod 600")?;
    desk.write("pin", PIN)?;
    let commands = card.take_transcript();
    assert!(commands.iter().all(|it| it.instruction != VERIFY || it.data.is_empty()));

    card.fail(Some(Fault::Refuses(PUT_DATA, Status::FULL)));
    init(&desk, &["--from-defaults"])?.refused("6A84, not enough memory")?;
    card.fail(None);
    card.set_object(PRINTED, Some(b"\x53\x04\x01\x02me"));
    init(&desk, &["--from-defaults"])?.refused("other data where its management key")?;
    card.set_object(PRINTED, None);
    let key = ["piv", "access", "change-management-key", "-m", DEFAULT_MANAGEMENT_KEY, "-n"];
    desk.ykman(&[&key[..], &["00112233445566778899aabbccddeeff0011223344556677"]].concat())?
        .success()?;
    init(&desk, &["--from-defaults"])?.refused("it is not kept on the card")?;

    desk.insert(Kind::Piv)?;
    init(&desk, &["--from-defaults"])?.refused("takes a YubiKey of firmware 5.3 or later")?;
    Ok(())
}

const INIT: [&str; 5] = ["init", "--pin-file", "pin", "--puk-file", "puk"];

fn init(desk: &Desk, more: &[&str]) -> Result<Answer, Failure> {
    desk.run(&[&INIT[..], more].concat())
}

/// ykman finds the management key behind the PIN, and knows the PUK.
fn is_ready(desk: &Desk) -> Story {
    let told = desk.ykman(&["piv", "info"])?.success()?.stdout;
    let protected = "Management key is stored on the YubiKey, protected by PIN";
    assert!(told.contains("AES256") && told.contains(protected), "{told}");
    assert!(!told.contains("default") && !told.contains("CHUID:\tNo data"), "{told}");
    desk.ykman(&["piv", "keys", "generate", "-a", "ECCP256", "-P", PIN, "9d", "key"])?.success()?;
    desk.ykman(&["piv", "access", "change-puk", "-p", PUK, "-n", PUK])?.success()?;
    Ok(())
}

/// By the card's own answers: ykman is too slow to ask a hundred times.
fn holds_the_new_secrets(desk: &Desk) -> Story {
    let told = desk.inspect()?;
    let default = |what: &str| &told["secrets"][what]["default"];
    assert_eq!([default("pin"), default("puk"), default("management_key")], [false; 3]);
    assert!(told["holder"]["present"].is_object(), "{told}");
    assert!(told["capabilities"]["present"].is_object(), "{told}");
    Ok(())
}
