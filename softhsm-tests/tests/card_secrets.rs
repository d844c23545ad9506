//! PINs and PUKs are typed without echo, tried once, and their tries told before; a locked PIN is
//! unblocked, and what is on a card is taken off it, whenever the card is pulled.

use harness::{
    Doing, Story,
    desk::{Desk, PIN, PUK},
    terminal::{line, secret},
    virtual_card::{DEFAULT_PIN, Fault, Kind, VirtualCard},
};
use serde_json::{Value, json};

const OTHER: &str = "40718263";
const VERIFY: u8 = 0x20;
const RESET_RETRY_COUNTER: u8 = 0x2c;
const RESET: u8 = 0xfb;
const AUTHENTICATION: u32 = 0x5f_c105;
const HOLDER_ID: u32 = 0x5f_c102;
const CONTAINER_MAP: u32 = 0x5f_ff10;

#[test]
fn secrets_are_typed_unseen_and_each_is_tried_once() -> Story {
    let desk = Desk::new()?;
    let card = desk.insert(Kind::YubiKey57)?;
    let new = |what: &str| {
        [format!("new {what}, 6 to 8 characters: "), format!("new {what}, once more: ")]
    };
    let ([pin, pin_again], [puk, puk_again]) = (new("PIN"), new("PUK"));
    let typed =
        [secret(&pin, PIN), secret(&pin_again, PIN), secret(&puk, PUK), secret(&puk_again, PUK)];
    let told = desk.typing(&["init", "--from-defaults"], &typed)?.success()?.stdout;
    assert!(told.contains("may be wrong 3 times"), "{told}");
    assert!(!told.contains(PIN) && !told.contains(PUK), "{told}");

    // Once more, the PIN alone is asked for, and once.
    desk.typing(&["init"], &[secret("PIN: ", PIN)])?.success()?;
    let request = ["request", "--slot", "9a", "--key", "p256", "--out", "card.csr"];
    card.take_transcript();
    desk.typing(&request, &[secret("PIN: ", OTHER)])?.refused("the PIN is wrong: 2 tries left")?;
    let tried = card.take_transcript();
    let tried = tried.iter().filter(|it| it.instruction == VERIFY && !it.data.is_empty());
    assert_eq!(tried.count(), 1);
    desk.typing(&request, &[secret("PIN: ", "12345")])?.refused("it must be 6 to 8 letters")?;
    let told = desk.typing(&request, &[secret("PIN: ", PIN)])?.success()?.stdout;
    assert!(told.contains("the PIN may be wrong 2 times"), "{told}");

    // Two that differ are neither; and where nobody is, nobody is asked.
    let differ = [secret(&pin, PIN), secret(&pin_again, OTHER)];
    let card = desk.insert(Kind::YubiKey57)?;
    desk.typing(&["init", "--from-defaults"], &differ)?.refused("typed in two ways")?;
    desk.run(&["init", "--from-defaults"])?.refused("name its file with --pin-file")?;
    assert_eq!(card.tries_left(), (3, 3));
    Ok(())
}

#[test]
fn a_locked_pin_is_unblocked_by_the_puk_which_is_tried_once() -> Story {
    let desk = Desk::new()?;
    let card = desk.insert_ready(Kind::YubiKey54)?;
    desk.write("other", OTHER)?;
    card.set_pin_tries_left(0);
    let request = ["request", "--slot", "9a", "--key", "p256", "--out", "card.csr"];
    let request = [&request[..], &["--pin-file", "pin"]].concat();
    let told = desk.run(&request)?.refused("the PIN is locked")?.stderr;
    assert!(told.contains("hint: `chancery-card unblock`"), "{told}");

    let unblock = ["unblock", "--puk-file", "puk", "--pin-file", "other"];
    desk.write("puk", "00000000")?;
    let told = desk.run(&unblock)?.refused("the PUK is wrong: 2 tries left")?.stderr;
    assert!(told.contains("hint: it was tried once"), "{told}");
    desk.run(&unblock)?.refused("the PUK is wrong: 1 try left")?;
    desk.run(&unblock)?.refused("one try is left for the PUK")?;
    assert_eq!(card.tries_left(), (0, 1));
    desk.write("puk", PUK)?;
    let told = desk.run(&[&unblock[..], &["--last-try"]].concat())?.success()?;
    assert!(told.stderr.contains("the PUK may be wrong 1 time"), "{}", told.stderr);
    assert_eq!(card.tries_left(), (3, 3));
    desk.run(&request)?.refused("the PIN is wrong")?;
    desk.write("pin", OTHER)?;
    desk.run(&request)?.success()?;

    // Not the factory's; and typed, too.
    desk.write("other", DEFAULT_PIN)?;
    desk.run(&unblock)?.refused("the one that every YubiKey comes with")?;
    let typed = [secret("PUK: ", PUK), secret("8 characters: ", PIN), secret("once more: ", PIN)];
    desk.typing(&["unblock"], &typed)?.success()?;
    desk.write("pin", PIN)?;
    desk.run(&request)?.success()?;

    // A PUK that is locked is not tried, and nothing but a reset helps.
    for _ in 0..3 {
        desk.ykman(&["piv", "access", "change-puk", "-p", "00000000", "-n", PUK])?.refused("")?;
    }
    let told = desk.run(&unblock)?.refused("the PUK is locked")?.stderr;
    assert!(told.contains("wipe --everything"), "{told}");
    Ok(())
}

#[test]
fn an_unblocking_that_was_interrupted_anywhere_is_finished_by_the_same_command() -> Story {
    let desk = Desk::new()?;
    let card = desk.insert_ready(Kind::YubiKey57)?;
    let unblock = ["unblock", "--puk-file", "puk", "--pin-file", "pin"];
    card.take_transcript();
    desk.run(&unblock)?.success()?;
    let commands = card.take_transcript();
    assert!(commands.iter().any(|it| it.instruction == RESET_RETRY_COUNTER));
    for at in 1..=commands.len() {
        for fault in [Fault::PulledBefore(at), Fault::PulledAfter(at)] {
            card.set_pin_tries_left(0);
            desk.run_and_pull(&card, fault, &unblock)?;
            desk.run(&unblock)?.success()?;
            assert_eq!(card.tries_left(), (3, 3), "{fault:?}");
        }
    }
    Ok(())
}

#[test]
fn a_slot_is_wiped_with_its_key_its_certificate_and_its_name() -> Story {
    for (kind, fate) in [(Kind::YubiKey57, "deleted"), (Kind::YubiKey54, "replaced")] {
        let desk = Desk::new()?;
        let card = desk.insert_ready(kind)?;
        let wipe = ["wipe", "--slot", "9a", "--pin-file", "pin", "--confirm", "12345678"];
        certify(&desk, &card)?;
        let key = desk.inspect()?["slots"][0]["key"]["fingerprint"].clone();
        card.set_object(CONTAINER_MAP, Some(b"\x53\x03\x81\x01\x00"));
        desk.run(&wipe)?.refused("container map that cannot be read")?;
        card.set_object(CONTAINER_MAP, Some(&container_map(&[0x9a, 0x9c])));
        let before = card.object(HOLDER_ID);
        assert!(card.object(AUTHENTICATION).is_some());

        let told = desk.run(&[&wipe[..], &["--json"]].concat())?.success()?.stdout;
        let told: Value = serde_json::from_str(&told).doing("read JSON")?;
        let expected = json!({
            "serial": 12_345_678, "slot": "9a", "certificate": true, "key": fate, "reset": false,
        });
        assert_eq!(told, expected);
        assert_eq!(card.object(AUTHENTICATION), None);
        assert_eq!(card.object(CONTAINER_MAP), Some(container_map(&[0x9c])));
        assert_ne!(card.object(HOLDER_ID), before);
        assert_ne!(desk.inspect()?["slots"][0]["key"]["fingerprint"], key);
        // There is nothing more to take off; and what cannot come back stays.
        desk.run(&wipe)?.success()?;
        let attestation = ["wipe", "--slot", "f9", "--pin-file", "pin", "--confirm", "12345678"];
        desk.run(&attestation)?.refused("nobody can give it again")?;
    }
    Ok(())
}

#[test]
fn a_wipe_that_was_interrupted_anywhere_is_finished_by_the_same_command() -> Story {
    let desk = Desk::new()?;
    let card = desk.insert_ready(Kind::YubiKey57)?;
    let wipe = ["wipe", "--slot", "9a", "--pin-file", "pin", "--confirm", "12345678"];
    certify(&desk, &card)?;
    card.take_transcript();
    desk.run(&wipe)?.success()?;
    let commands = card.take_transcript().len();
    for at in 1..=commands {
        for fault in [Fault::PulledBefore(at), Fault::PulledAfter(at)] {
            certify(&desk, &card)?;
            let before = card.object(HOLDER_ID);
            desk.run_and_pull(&card, fault, &wipe)?;
            desk.run(&wipe)?.success()?;
            let told = desk.inspect()?;
            assert_ne!(told["slots"][0]["slot"], "9a", "{fault:?}: {told}");
            assert_ne!(card.object(HOLDER_ID), before, "{fault:?}");
            assert_eq!(card.tries_left(), (3, 3), "{fault:?}");
        }
    }
    Ok(())
}

#[test]
fn a_card_is_as_new_after_its_number_was_written_and_not_before() -> Story {
    let desk = Desk::new()?;
    let card = desk.insert_ready(Kind::YubiKey57)?;
    certify(&desk, &card)?;
    let wipe = ["wipe", "--everything"];
    let told = desk.run(&wipe)?.refused("to be confirmed")?.stderr;
    assert!(told.contains("--confirm \"12345678\""), "{told}");
    desk.run(&[&wipe[..], &["--confirm", "12345679"]].concat())?.refused("nothing was done")?;
    desk.typing(&wipe, &[line("type 12345678", "yes")])?.refused("nothing was done")?;
    assert!(card.take_transcript().iter().all(|it| it.instruction != RESET));
    assert_eq!(card.tries_left(), (3, 3));
    desk.typing(&wipe, &[line("type 12345678", "12345678")])?.success()?;
    is_new(&desk)?;

    // Interrupted anywhere, it is finished by the same command.
    let wipe = ["wipe", "--everything", "--confirm", "12345678"];
    card.take_transcript();
    desk.run(&wipe)?.success()?;
    let commands = card.take_transcript().len();
    for at in 1..=commands {
        for fault in [Fault::PulledBefore(at), Fault::PulledAfter(at)] {
            desk.run_and_pull(&card, fault, &wipe)?;
            desk.run(&wipe)?.success()?;
            is_new(&desk)?;
        }
    }
    Ok(())
}

/// Records of these slots, of keys `k`.
fn container_map(slots: &[u8]) -> Vec<u8> {
    let mut records = Vec::new();
    for slot in slots {
        let mut record = vec![0; 107];
        (record[0], record[80], record[81]) = (b'k', *slot, 1);
        records.extend(record);
    }
    let length = records.len() as u8;
    let map = if length < 0x80 { vec![0x81, length] } else { vec![0x81, 0x81, length] };
    let value = [map, records].concat();
    let length = value.len() as u8;
    let head = if length < 0x80 { vec![0x53, length] } else { vec![0x53, 0x81, length] };
    [head, value].concat()
}

/// A key in 9a, and something for a certificate, which is malformed.
fn certify(desk: &Desk, card: &VirtualCard) -> Story {
    let request = ["request", "--slot", "9a", "--key", "p256", "--out", "card.csr"];
    desk.run(&[&request[..], &["--pin-file", "pin", "--replace"]].concat())?.success()?;
    card.set_object(AUTHENTICATION, Some(b"\x53\x08\x70\x01\x30\x71\x01\x00\xfe\x00"));
    Ok(())
}

fn is_new(desk: &Desk) -> Story {
    let told = desk.inspect()?;
    for what in ["pin", "puk", "management_key"] {
        assert_eq!(told["secrets"][what]["default"], true, "{told}");
    }
    assert_eq!(told["holder"], "absent", "{told}");
    assert_eq!(told["slots"][0]["slot"], "f9", "{told}");
    Ok(())
}
