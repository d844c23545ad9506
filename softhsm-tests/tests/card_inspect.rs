//! `chancery-card` finds cards and tells what is on them, whatever they are.

use harness::{
    Failure, Story,
    desk::Desk,
    virtual_card::{DEFAULT_MANAGEMENT_KEY, DEFAULT_PIN, Fault, Kind, VirtualCard},
};
use serde_json::{Value, json};

const VERIFY: u8 = 0x20;
const HOLDER_ID: u32 = 0x5f_c102;
const CAPABILITIES: u32 = 0x5f_c107;
const AUTHENTICATION: u32 = 0x5f_c105;
const CONTAINER_MAP: u32 = 0x5f_ff10;

#[test]
fn readers_are_listed_with_what_is_in_them_and_none_is_guessed() -> Story {
    let names = ["Yubico YubiKey A", "Yubico YubiKey B", "Desk", "Empty", "Other PIV"];
    let desk = Desk::with_readers(&names)?;
    for (reader, kind, serial) in [
        (0, Kind::YubiKey54, 54),
        (1, Kind::YubiKey57, 57),
        (2, Kind::Foreign, 0),
        (4, Kind::Piv, 0),
    ] {
        desk.readers().insert(reader, &VirtualCard::new(kind, serial)?)?;
    }
    let listed = desk.json_lines(&["list"])?;
    let name = |number| desk.readers().name(number);
    assert_eq!(
        listed,
        [
            json!({ "reader": name(0), "card": "YubiKey", "serial": 54, "version": "5.4.3" }),
            json!({ "reader": name(1), "card": "YubiKey", "serial": 57, "version": "5.7.1" }),
            json!({ "reader": name(2), "card": "not PIV" }),
            json!({ "reader": name(3), "card": "none" }),
            json!({ "reader": name(4), "card": "PIV, not a YubiKey" }),
        ]
    );

    desk.run(&["inspect"])?.refused("choose one with --serial or --reader")?;
    assert_eq!(desk.json_lines(&["inspect", "--serial", "57"])?[0]["version"], "5.7.1");
    assert_eq!(desk.json_lines(&["inspect", "--reader", "key a"])?[0]["serial"], 54);
    desk.run(&["inspect", "--serial", "58"])?.refused("no YubiKey with the serial number 58")?;
    desk.run(&["inspect", "--reader", "desk"])?.refused("the card has no PIV application")?;
    desk.run(&["inspect", "--reader", "empty"])?.refused("there is no card in")?;
    desk.run(&["inspect", "--reader", "cellar"])?.refused("there is no reader \"cellar\"")?;
    let other = desk.json_lines(&["inspect", "--reader", "other"])?;
    assert_eq!(other[0]["pin_tries_left"], 3);
    assert_eq!(other[0]["secrets"], Value::Null);
    Ok(())
}

#[test]
fn what_ykman_puts_on_a_card_is_told() -> Story {
    for kind in [Kind::YubiKey54, Kind::YubiKey57] {
        let desk = Desk::new()?;
        let card = desk.insert(kind)?;
        let admin = ["-m", DEFAULT_MANAGEMENT_KEY];
        for (slot, algorithm) in [("9a", "RSA2048"), ("82", "RSA1024"), ("9d", "ECCP256")] {
            let generate = ["piv", "keys", "generate", "-a", algorithm];
            desk.ykman(&[&generate[..], &admin, &[slot, "key"]].concat())?.success()?;
        }
        let certify = ["piv", "certificates", "generate", "-s", "CN=alice", "-P", DEFAULT_PIN];
        desk.ykman(&[&certify[..], &admin, &["9d", "key"]].concat())?.success()?;
        card.take_transcript();

        let told = &desk.inspect()?;
        let algorithm = if kind == Kind::YubiKey54 { "3des" } else { "aes192" };
        let pin = json!({ "default": true, "tries": 3, "left": 3 });
        let expected = json!({
            "pin": pin, "puk": pin,
            "management_key": { "algorithm": algorithm, "default": true },
        });
        assert_eq!(told["secrets"], expected);
        let slots = told["slots"].as_array().map_or(&[][..], Vec::as_slice);
        let [first, second, retired, attestation] = slots else {
            return Err(Failure::new(format!("there are other slots: {told}")));
        };
        assert_eq!((&first["slot"], &first["certificate"]), (&json!("9a"), &json!("absent")));
        assert_eq!(first["key"]["algorithm"], "rsa2048");
        assert_eq!(first["key"]["pin_policy"], "once");
        assert_eq!(second["slot"], "9d");
        let certificate = &second["certificate"]["present"];
        assert_eq!(certificate["subject"], "CN=alice");
        assert_eq!(certificate["matches_key"], true);
        assert_eq!(retired["slot"], "82");
        assert!(retired["key"]["algorithm"].to_string().contains("1024"), "{retired}");
        assert_eq!(attestation["slot"], "f9");

        // For people, and without a try of the PIN.
        let text = desk.run(&["inspect"])?.success()?.stdout;
        assert!(text.contains("THE FACTORY'S") && text.contains("CN=alice"), "{text}");
        let tried = card.take_transcript();
        assert!(tried.iter().all(|it| it.instruction != VERIFY || it.data.is_empty()));
    }
    Ok(())
}

#[test]
fn malformed_objects_are_told_of_and_stop_nothing() -> Story {
    let desk = Desk::new()?;
    let card = desk.insert(Kind::YubiKey57)?;
    let ends_early = b"\x53\x10\x30\x19".as_slice();
    let malformed: [(&[u8], bool); 7] = [
        (b"\x53\x00", false),
        (b"\x53", true),
        (b"\x53\x81", true),
        (b"\x53\x82\xff\xff\x70", true),
        (ends_early, true),
        (b"\x70\x02\x05\x00", true),
        (b"\x53\x03\x30\x82\x00", true),
    ];
    for (object, is_told) in malformed {
        for id in [HOLDER_ID, CAPABILITIES, AUTHENTICATION, CONTAINER_MAP] {
            card.set_object(id, Some(object));
        }
        let told = &desk.inspect()?;
        let first = &told["slots"][0];
        for content in [&told["holder"], &told["capabilities"], &told["container_map"]] {
            assert_eq!(content.get("malformed").is_some(), is_told, "{object:02x?}: {told}");
        }
        assert_eq!(first["slot"] == "9a", is_told, "{object:02x?}: {told}");
        desk.run(&["inspect"])?.success()?;
    }
    // Compressed, and of a kind that nobody knows.
    card.set_object(AUTHENTICATION, Some(b"\x53\x08\x70\x01\x1f\x71\x01\x01\xfe\x00"));
    let told = desk.run(&["inspect"])?.success()?.stdout;
    assert!(told.contains("compressed"), "{told}");
    Ok(())
}

#[test]
fn a_card_pulled_at_any_command_is_said_to_be_gone() -> Story {
    let desk = Desk::new()?;
    let card = desk.insert(Kind::YubiKey57)?;
    desk.run(&["inspect"])?.success()?;
    let commands = card.take_transcript().len();
    for at in [1, 2, 3, commands / 2, commands] {
        desk.readers().insert(0, &card)?;
        card.fail(Some(Fault::PulledBefore(at)));
        let told = desk.run(&["inspect"])?.refused("the card was pulled")?;
        assert!(told.stderr.contains("hint: insert it again"), "{}", told.stderr);
    }
    Ok(())
}
