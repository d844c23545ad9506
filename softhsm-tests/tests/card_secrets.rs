//! PINs and PUKs are typed without echo, tried once, and their tries told before; a locked PIN is
//! unblocked, and what is on a card is taken off it, whenever the card is pulled.

use std::{fs, os::unix::fs::PermissionsExt};

use harness::{
    Doing, Failure, Story,
    peers::{ours, peer},
    process::{Answer, run},
    readers::Readers,
    terminal::{Typed, line, run_at_terminal, secret},
    virtual_card::{DEFAULT_PIN, Fault, Kind, VirtualCard},
};
use serde_json::{Value, json};

const PIN: &str = "83621947";
const PUK: &str = "55501234";
const OTHER: &str = "40718263";
const VERIFY: u8 = 0x20;
const RESET_RETRY_COUNTER: u8 = 0x2c;
const RESET: u8 = 0xfb;
const AUTHENTICATION: u32 = 0x5f_c105;
const HOLDER_ID: u32 = 0x5f_c102;
const CONTAINER_MAP: u32 = 0x5f_ff10;

#[test]
fn secrets_are_typed_unseen_and_each_is_tried_once() -> Story {
    let bench = Bench::new(Kind::YubiKey57)?;
    let new = |what: &str| {
        [format!("new {what}, 6 to 8 characters: "), format!("new {what}, once more: ")]
    };
    let ([pin, pin_again], [puk, puk_again]) = (new("PIN"), new("PUK"));
    let typed =
        [secret(&pin, PIN), secret(&pin_again, PIN), secret(&puk, PUK), secret(&puk_again, PUK)];
    let told = bench.typing(&["init", "--from-defaults"], &typed)?.success()?.stdout;
    assert!(told.contains("may be wrong 3 times"), "{told}");
    assert!(!told.contains(PIN) && !told.contains(PUK), "{told}");

    // Once more, the PIN alone is asked for, and once.
    bench.typing(&["init"], &[secret("PIN: ", PIN)])?.success()?;
    let request = ["request", "--slot", "9a", "--key", "p256", "--out", "card.csr"];
    bench.card.take_transcript();
    bench.typing(&request, &[secret("PIN: ", OTHER)])?.refused("the PIN is wrong: 2 tries left")?;
    let tried = bench.card.take_transcript();
    let tried = tried.iter().filter(|it| it.instruction == VERIFY && !it.data.is_empty());
    assert_eq!(tried.count(), 1);
    bench.typing(&request, &[secret("PIN: ", "12345")])?.refused("it must be 6 to 8 letters")?;
    let told = bench.typing(&request, &[secret("PIN: ", PIN)])?.success()?.stdout;
    assert!(told.contains("the PIN may be wrong 2 times"), "{told}");

    // Two that differ are neither; and where nobody is, nobody is asked.
    let differ = [secret(&pin, PIN), secret(&pin_again, OTHER)];
    let bench = bench.with_card(Kind::YubiKey57)?;
    bench.typing(&["init", "--from-defaults"], &differ)?.refused("typed in two ways")?;
    bench.run(&["init", "--from-defaults"])?.refused("name its file with --pin-file")?;
    assert_eq!(bench.card.tries_left(), (3, 3));
    Ok(())
}

#[test]
fn a_locked_pin_is_unblocked_by_the_puk_which_is_tried_once() -> Story {
    let bench = Bench::ready(Kind::YubiKey54)?;
    bench.card.set_pin_tries_left(0);
    let request = ["request", "--slot", "9a", "--key", "p256", "--out", "card.csr"];
    let request = [&request[..], &["--pin-file", "pin"]].concat();
    let told = bench.run(&request)?.refused("the PIN is locked")?.stderr;
    assert!(told.contains("hint: `chancery-card unblock`"), "{told}");

    let unblock = ["unblock", "--puk-file", "puk", "--pin-file", "other"];
    bench.write("puk", "00000000")?;
    bench.run(&unblock)?.refused("the PUK is wrong: 2 tries left")?;
    bench.run(&unblock)?.refused("the PUK is wrong: 1 try left")?;
    bench.run(&unblock)?.refused("one try is left for the PUK")?;
    assert_eq!(bench.card.tries_left(), (0, 1));
    bench.write("puk", PUK)?;
    let told = bench.run(&[&unblock[..], &["--last-try"]].concat())?.success()?;
    assert!(told.stderr.contains("the PUK may be wrong 1 time"), "{}", told.stderr);
    assert_eq!(bench.card.tries_left(), (3, 3));
    bench.run(&request)?.refused("the PIN is wrong")?;
    bench.write("pin", OTHER)?;
    bench.run(&request)?.success()?;

    // Not the factory's; and typed, too.
    bench.write("other", DEFAULT_PIN)?;
    bench.run(&unblock)?.refused("the one that every YubiKey comes with")?;
    let typed = [secret("PUK: ", PUK), secret("8 characters: ", PIN), secret("once more: ", PIN)];
    bench.typing(&["unblock"], &typed)?.success()?;
    bench.write("pin", PIN)?;
    bench.run(&request)?.success()?;

    // A PUK that is locked is not tried, and nothing but a reset helps.
    for _ in 0..3 {
        bench.ykman(&["access", "change-puk", "-p", "00000000", "-n", PUK])?.refused("")?;
    }
    let told = bench.run(&unblock)?.refused("the PUK is locked")?.stderr;
    assert!(told.contains("wipe --everything"), "{told}");
    Ok(())
}

#[test]
fn an_unblocking_that_was_interrupted_anywhere_is_finished_by_the_same_command() -> Story {
    let bench = Bench::ready(Kind::YubiKey57)?;
    let unblock = ["unblock", "--puk-file", "puk", "--pin-file", "pin"];
    bench.card.take_transcript();
    bench.run(&unblock)?.success()?;
    let commands = bench.card.take_transcript();
    assert!(commands.iter().any(|it| it.instruction == RESET_RETRY_COUNTER));
    for at in 1..=commands.len() {
        for fault in [Fault::PulledBefore(at), Fault::PulledAfter(at)] {
            bench.card.set_pin_tries_left(0);
            bench.pulled(fault, &unblock)?;
            bench.run(&unblock)?.success()?;
            assert_eq!(bench.card.tries_left(), (3, 3), "{fault:?}");
        }
    }
    Ok(())
}

#[test]
fn a_slot_is_wiped_with_its_key_its_certificate_and_its_name() -> Story {
    for (kind, fate) in [(Kind::YubiKey57, "deleted"), (Kind::YubiKey54, "replaced")] {
        let bench = Bench::ready(kind)?;
        let wipe = ["wipe", "--slot", "9a", "--pin-file", "pin", "--confirm", "12345678"];
        bench.certify()?;
        let key = bench.inspect()?["slots"][0]["key"]["fingerprint"].clone();
        bench.card.set_object(CONTAINER_MAP, Some(b"\x53\x03\x81\x01\x00"));
        bench.run(&wipe)?.refused("container map that cannot be read")?;
        bench.card.set_object(CONTAINER_MAP, Some(&container_map(&[0x9a, 0x9c])));
        let before = bench.card.object(HOLDER_ID);
        assert!(bench.card.object(AUTHENTICATION).is_some());

        let told = bench.run(&[&wipe[..], &["--json"]].concat())?.success()?.stdout;
        let told: Value = serde_json::from_str(&told).doing("read JSON")?;
        let expected = json!({
            "serial": 12_345_678, "slot": "9a", "certificate": true, "key": fate, "reset": false,
        });
        assert_eq!(told, expected);
        assert_eq!(bench.card.object(AUTHENTICATION), None);
        assert_eq!(bench.card.object(CONTAINER_MAP), Some(container_map(&[0x9c])));
        assert_ne!(bench.card.object(HOLDER_ID), before);
        assert_ne!(bench.inspect()?["slots"][0]["key"]["fingerprint"], key);
        // There is nothing more to take off; and what cannot come back stays.
        bench.run(&wipe)?.success()?;
        let attestation = ["wipe", "--slot", "f9", "--pin-file", "pin", "--confirm", "12345678"];
        bench.run(&attestation)?.refused("nobody can give it again")?;
    }
    Ok(())
}

#[test]
fn a_wipe_that_was_interrupted_anywhere_is_finished_by_the_same_command() -> Story {
    let bench = Bench::ready(Kind::YubiKey57)?;
    let wipe = ["wipe", "--slot", "9a", "--pin-file", "pin", "--confirm", "12345678"];
    bench.certify()?;
    bench.card.take_transcript();
    bench.run(&wipe)?.success()?;
    let commands = bench.card.take_transcript().len();
    for at in 1..=commands {
        for fault in [Fault::PulledBefore(at), Fault::PulledAfter(at)] {
            bench.certify()?;
            let before = bench.card.object(HOLDER_ID);
            bench.pulled(fault, &wipe)?;
            bench.run(&wipe)?.success()?;
            let told = bench.inspect()?;
            assert_ne!(told["slots"][0]["slot"], "9a", "{fault:?}: {told}");
            assert_ne!(bench.card.object(HOLDER_ID), before, "{fault:?}");
            assert_eq!(bench.card.tries_left(), (3, 3), "{fault:?}");
        }
    }
    Ok(())
}

#[test]
fn a_card_is_as_new_after_its_number_was_written_and_not_before() -> Story {
    let bench = Bench::ready(Kind::YubiKey57)?;
    bench.certify()?;
    let wipe = ["wipe", "--everything"];
    let told = bench.run(&wipe)?.refused("to be confirmed")?.stderr;
    assert!(told.contains("--confirm \"12345678\""), "{told}");
    bench.run(&[&wipe[..], &["--confirm", "12345679"]].concat())?.refused("nothing was done")?;
    bench.typing(&wipe, &[line("type 12345678", "yes")])?.refused("nothing was done")?;
    assert!(bench.card.take_transcript().iter().all(|it| it.instruction != RESET));
    assert_eq!(bench.card.tries_left(), (3, 3));
    bench.typing(&wipe, &[line("type 12345678", "12345678")])?.success()?;
    bench.is_new()?;

    // Interrupted anywhere, it is finished by the same command.
    let wipe = ["wipe", "--everything", "--confirm", "12345678"];
    bench.card.take_transcript();
    bench.run(&wipe)?.success()?;
    let commands = bench.card.take_transcript().len();
    for at in 1..=commands {
        for fault in [Fault::PulledBefore(at), Fault::PulledAfter(at)] {
            bench.pulled(fault, &wipe)?;
            bench.run(&wipe)?.success()?;
            bench.is_new()?;
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

/// A card in a reader, and files with secrets.
struct Bench {
    card: VirtualCard,
    readers: std::rc::Rc<Readers>,
    directory: std::rc::Rc<tempfile::TempDir>,
}

impl Bench {
    fn new(kind: Kind) -> Result<Self, Failure> {
        let directory = tempfile::tempdir().doing("make a directory")?;
        let readers = Readers::start(directory.path(), &["Yubico YubiKey OTP+FIDO+CCID"])?;
        let card = VirtualCard::new(kind, 12_345_678)?;
        readers.insert(0, &card)?;
        let bench = Self { card, readers: readers.into(), directory: directory.into() };
        for (name, secret) in [("pin", PIN), ("puk", PUK), ("other", OTHER)] {
            bench.write(name, secret)?;
        }
        Ok(bench)
    }

    /// Of a card that was made ready.
    fn ready(kind: Kind) -> Result<Self, Failure> {
        let bench = Self::new(kind)?;
        let init = ["init", "--from-defaults", "--pin-file", "pin", "--puk-file", "puk"];
        bench.run(&init)?.success()?;
        Ok(bench)
    }

    fn with_card(&self, kind: Kind) -> Result<Self, Failure> {
        let card = VirtualCard::new(kind, 12_345_678)?;
        self.readers.insert(0, &card)?;
        let (readers, directory) = (self.readers.clone(), self.directory.clone());
        Ok(Self { card, readers, directory })
    }

    /// A key in 9a, and something for a certificate, which is malformed.
    fn certify(&self) -> Story {
        let request = ["request", "--slot", "9a", "--key", "p256", "--out", "card.csr"];
        self.run(&[&request[..], &["--pin-file", "pin", "--replace"]].concat())?.success()?;
        self.card.set_object(AUTHENTICATION, Some(b"\x53\x08\x70\x01\x30\x71\x01\x00\xfe\x00"));
        Ok(())
    }

    /// The card is pulled, which is said, and put in again.
    fn pulled(&self, fault: Fault, arguments: &[&str]) -> Story {
        self.card.fail(Some(fault));
        self.run(arguments)?.refused("the card was pulled")?;
        self.card.fail(None);
        self.readers.insert(0, &self.card)
    }

    fn is_new(&self) -> Story {
        let told = self.inspect()?;
        for what in ["pin", "puk", "management_key"] {
            assert_eq!(told["secrets"][what]["default"], true, "{told}");
        }
        assert_eq!(told["holder"], "absent", "{told}");
        assert_eq!(told["slots"][0]["slot"], "f9", "{told}");
        Ok(())
    }

    fn inspect(&self) -> Result<Value, Failure> {
        let told = self.run(&["inspect", "--json"])?.success()?.stdout;
        serde_json::from_str(&told).doing("read JSON")
    }

    fn run(&self, arguments: &[&str]) -> Result<Answer, Failure> {
        run(self.command(arguments)?.current_dir(self.directory.path()))
    }

    fn typing(&self, arguments: &[&str], typed: &[Typed<'_>]) -> Result<Answer, Failure> {
        run_at_terminal(self.command(arguments)?.current_dir(self.directory.path()), typed)
    }

    fn command(&self, arguments: &[&str]) -> Result<std::process::Command, Failure> {
        let mut command = self.readers.command(&ours("chancery-card")?);
        command.args(arguments);
        Ok(command)
    }

    fn ykman(&self, arguments: &[&str]) -> Result<Answer, Failure> {
        let mut command = self.readers.command(&peer("ykman")?);
        run(command.arg("piv").args(arguments))
    }

    fn write(&self, name: &str, secret: &str) -> Story {
        let path = self.directory.path().join(name);
        fs::write(&path, secret).doing("write a secret")?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).doing("close a file")
    }
}
