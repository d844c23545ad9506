//! `chancery-card init` takes a card away from the factory's secrets, whenever it is pulled, and
//! wastes no try of a PIN. ykman says what became of the card.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

use harness::{
    Doing, Failure, Story,
    peers::{ours, peer},
    process::{Answer, run},
    readers::Readers,
    virtual_card::{
        DEFAULT_MANAGEMENT_KEY, DEFAULT_PIN, DEFAULT_PUK, Fault, Kind, Status, VirtualCard,
    },
};
use serde_json::{Value, json};

const VERIFY: u8 = 0x20;
const CHANGE_REFERENCE_DATA: u8 = 0x24;
const PUT_DATA: u8 = 0xdb;
const PRINTED: u32 = 0x5f_c109;
const PIN: &str = "83621947";
const PUK: &str = "55501234";

#[test]
fn a_card_of_either_firmware_is_ready_for_ykman_afterwards() -> Story {
    for kind in [Kind::YubiKey54, Kind::YubiKey57] {
        let bench = Bench::new(kind)?;
        bench.init(&[])?.refused("still the one that every YubiKey comes with")?;
        assert!(
            !bench.card.take_transcript().iter().any(|it| it.instruction == CHANGE_REFERENCE_DATA)
        );

        let done = bench.init(&["--from-defaults", "--json"])?.success()?;
        assert!(done.stderr.contains("may be wrong 3 times"), "{}", done.stderr);
        let all = json!({
            "pin": true, "puk": true, "management_key": true, "holder": true, "capabilities": true,
        });
        let told: Value = serde_json::from_str(&done.stdout).doing("read JSON")?;
        assert_eq!(told, json!({ "serial": 12_345_678, "done": all }));
        bench.is_ready()?;

        // Once more changes nothing, but shows that the PIN is right.
        let again = bench.init(&[])?.success()?.stdout;
        assert!(again.contains("was set before") && !again.contains("  set"), "{again}");
        bench.is_ready()?;
    }
    Ok(())
}

#[test]
fn a_card_pulled_at_any_command_is_finished_by_the_same_command() -> Story {
    let bench = Bench::new(Kind::YubiKey57)?;
    bench.init(&["--from-defaults"])?.success()?;
    let commands = bench.card.take_transcript().len();
    assert!(commands > 20, "{commands} commands are not an initialisation");
    for at in 1..=commands {
        for fault in [Fault::PulledBefore(at), Fault::PulledAfter(at)] {
            let bench = bench.with_new_card(Kind::YubiKey57)?;
            bench.card.fail(Some(fault));
            bench.init(&["--from-defaults"])?.refused("the card was pulled")?;
            bench.card.fail(None);
            bench.readers.insert(0, &bench.card)?;
            bench.init(&["--from-defaults"])?.success()?;
            bench.holds_the_new_secrets()?;
            assert_eq!(bench.card.tries_left(), (3, 3), "{fault:?}");
        }
    }
    Ok(())
}

#[test]
fn a_pin_of_somebody_else_is_tried_once_and_never_to_its_end() -> Story {
    let bench = Bench::new(Kind::YubiKey57)?;
    bench.ykman(&["access", "change-pin", "-P", DEFAULT_PIN, "-n", "918273"])?.success()?;
    bench.init(&["--from-defaults"])?.refused("the PIN is wrong: 2 tries left")?;
    assert_eq!(bench.card.tries_left(), (2, 3));
    bench.init(&["--from-defaults"])?.refused("the PIN is wrong: 1 try left")?;
    bench.init(&["--from-defaults"])?.refused("one try is left for the PIN")?;
    assert_eq!(bench.card.tries_left(), (1, 3));
    bench.card.set_pin_tries_left(0);
    bench.init(&["--from-defaults"])?.refused("the PIN is locked")?;
    Ok(())
}

#[test]
fn what_cannot_be_done_is_said_and_defaults_are_no_new_secrets() -> Story {
    let bench = Bench::new(Kind::YubiKey57)?;
    for (file, default) in [("pin", DEFAULT_PIN), ("puk", DEFAULT_PUK)] {
        let right = fs::read_to_string(bench.path(file)).doing("read a secret")?;
        bench.write(file, default)?;
        bench.init(&["--from-defaults"])?.refused("that every YubiKey comes with")?;
        bench.write(file, "12345")?;
        bench.init(&["--from-defaults"])?.refused("it must be 6 to 8 letters")?;
        bench.write(file, &right)?;
    }
    let open = fs::Permissions::from_mode(0o644);
    fs::set_permissions(bench.path("pin"), open).doing("open a file")?;
    bench.init(&["--from-defaults"])?.refused("chmod 600")?;
    bench.write("pin", PIN)?;
    let commands = bench.card.take_transcript();
    assert!(commands.iter().all(|it| it.instruction != VERIFY || it.data.is_empty()));

    bench.card.fail(Some(Fault::Refuses(PUT_DATA, Status::FULL)));
    bench.init(&["--from-defaults"])?.refused("6A84, not enough memory")?;
    bench.card.fail(None);
    bench.card.set_object(PRINTED, Some(b"\x53\x04\x01\x02me"));
    bench.init(&["--from-defaults"])?.refused("other data where its management key")?;
    bench.card.set_object(PRINTED, None);
    let key = ["access", "change-management-key", "-m", DEFAULT_MANAGEMENT_KEY, "-n"];
    bench
        .ykman(&[&key[..], &["00112233445566778899aabbccddeeff0011223344556677"]].concat())?
        .success()?;
    bench.init(&["--from-defaults"])?.refused("it is not kept on the card")?;

    let bench = bench.with_new_card(Kind::Piv)?;
    bench.init(&["--from-defaults"])?.refused("takes a YubiKey of firmware 5.3 or later")?;
    Ok(())
}

/// A card in a reader, and files with the secrets that it is to have.
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
        bench.write("pin", PIN)?;
        bench.write("puk", PUK)?;
        Ok(bench)
    }

    fn with_new_card(&self, kind: Kind) -> Result<Self, Failure> {
        let card = VirtualCard::new(kind, 12_345_678)?;
        self.readers.insert(0, &card)?;
        let (readers, directory) = (self.readers.clone(), self.directory.clone());
        Ok(Self { card, readers, directory })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, secret: &str) -> Story {
        fs::write(self.path(name), secret).doing("write a secret")?;
        let mode = fs::Permissions::from_mode(0o600);
        fs::set_permissions(self.path(name), mode).doing("close a file")
    }

    fn init(&self, more: &[&str]) -> Result<Answer, Failure> {
        let mut command = self.readers.command(&ours("chancery-card")?);
        command.arg("init").arg("--pin-file").arg(self.path("pin"));
        run(command.arg("--puk-file").arg(self.path("puk")).args(more))
    }

    fn ykman(&self, arguments: &[&str]) -> Result<Answer, Failure> {
        let mut command = self.readers.command(&peer("ykman")?);
        run(command.arg("piv").args(arguments).current_dir(self.directory.path()))
    }

    /// ykman finds the management key behind the PIN, and knows the PUK.
    fn is_ready(&self) -> Story {
        let told = self.ykman(&["info"])?.success()?.stdout;
        let protected = "Management key is stored on the YubiKey, protected by PIN";
        assert!(told.contains("AES256") && told.contains(protected), "{told}");
        assert!(!told.contains("default") && !told.contains("CHUID:\tNo data"), "{told}");
        self.ykman(&["keys", "generate", "-a", "ECCP256", "-P", PIN, "9d", "key"])?.success()?;
        self.ykman(&["access", "change-puk", "-p", PUK, "-n", PUK])?.success()?;
        Ok(())
    }

    /// By the card's own answers: ykman is too slow to ask a hundred times.
    fn holds_the_new_secrets(&self) -> Story {
        let mut inspect = self.readers.command(&ours("chancery-card")?);
        let told = run(inspect.args(["inspect", "--json"]))?.success()?.stdout;
        let told: Value = serde_json::from_str(&told).doing("read JSON")?;
        let default = |what: &str| &told["secrets"][what]["default"];
        assert_eq!([default("pin"), default("puk"), default("management_key")], [false; 3]);
        assert!(told["holder"]["present"].is_object(), "{told}");
        assert!(told["capabilities"]["present"].is_object(), "{told}");
        Ok(())
    }
}
