//! What a person is told when a card cannot be worked with: what is wrong, and what to do. Nothing
//! is tried on such a card, and no appliance is asked.

use harness::{
    Failure, Story,
    desk::{Desk, YUBIKEY},
    openssl::Ca,
    virtual_card::{Exchange, Kind, VirtualCard},
};

const UPN: &str = "alice@corp.example.test";

const INSPECT: &[&str] = &["inspect"];
const ENROLL: &[&str] = &["enroll", "--slot", "9a", "--upn", UPN, "--pin-file", "pin"];
const REPLACE: &[&str] =
    &["enroll", "--slot", "9a", "--upn", UPN, "--pin-file", "pin", "--replace"];
const RENEW: &[&str] = &["renew", "--slot", "9a", "--pin-file", "pin"];
const DOCTOR: &[&str] = &["doctor", "9a"];
const UNBLOCK: &[&str] = &["unblock", "--puk-file", "puk", "--pin-file", "pin"];

const ALL: [&[&str]; 6] = [INSPECT, ENROLL, REPLACE, RENEW, DOCTOR, UNBLOCK];

#[test]
fn where_there_is_no_card_it_is_said_what_there_is_not() -> Story {
    let mut desk = desk(&[])?;
    let no_reader = Told { error: "there is no card reader", hint: "connect a reader", code: 3 };
    no_reader.by(&desk, &["list"])?;
    no_reader.by_each(&desk, &ALL)?;

    desk.stop_service();
    let no_service = Told {
        error: "the system's smart card service does not run",
        hint: "install and start pcscd: systemctl start pcscd.socket",
        code: 3,
    };
    no_service.by(&desk, &["list"])?;
    no_service.by_each(&desk, &ALL)?;

    let desk = self::desk(&["Desk"])?;
    let listed = desk.json_lines(&["list"])?;
    assert_eq!((listed.len(), &listed[0]["card"]), (1, &"none".into()), "{listed:?}");
    let error = format!("there is no card in {:?}", desk.readers().name(0));
    let empty = Told { error: &error, hint: "insert a card; `chancery-card list`", code: 3 };
    empty.by_each(&desk, &ALL)
}

#[test]
fn a_card_of_somebody_else_is_said_to_be_one_and_left_alone() -> Story {
    // One that knows no PIV.
    let desk = desk(&["Desk"])?;
    desk.insert(Kind::Foreign)?;
    assert_eq!(desk.json_lines(&["list"])?[0]["card"], "not PIV");
    let error = "the card has no PIV application";
    let foreign = Told { error, hint: "take a YubiKey with its PIV application", code: 1 };
    foreign.by_each(&desk, &ALL)?;

    // One of PIV that is no YubiKey: it is read as far as the standard goes.
    let card = desk.insert(Kind::Piv)?;
    assert_eq!(desk.json_lines(&["list"])?[0]["card"], "PIV, not a YubiKey");
    let told = desk.run(INSPECT)?.success()?.stdout;
    assert!(told.contains("PIV, not a YubiKey"), "{told}");
    let nothing =
        Told { error: "there is no certificate of 9a", hint: "`chancery-card inspect`", code: 2 };
    nothing.by(&desk, DOCTOR)?;
    let error = "takes a YubiKey of firmware 5.3 or later";
    let other = Told { error, hint: "take such a YubiKey; `chancery-card list`", code: 1 };
    other.by_each(&desk, &[ENROLL, REPLACE, RENEW, UNBLOCK])?;
    is_untouched(&card, (3, 3))
}

#[test]
fn of_two_cards_none_is_guessed_and_the_other_is_left_alone() -> Story {
    let desk = desk(&[YUBIKEY, "Desk"])?;
    let (first, second) =
        (VirtualCard::new(Kind::YubiKey57, 57)?, VirtualCard::new(Kind::YubiKey54, 54)?);
    desk.readers().insert(0, &first)?;
    desk.readers().insert(1, &second)?;
    assert_eq!(desk.json_lines(&["list"])?.len(), 2);
    let [one, other] = [0, 1].map(|number| desk.readers().name(number));
    let error = format!("there are cards in {one:?}, {other:?}");
    let several = Told { error: &error, hint: "choose one with --serial or --reader", code: 3 };
    several.by_each(&desk, &ALL)?;
    is_untouched(&first, (3, 3))?;

    // A number that neither has, and a reader that is not there.
    let unknown = Told {
        error: "there is no YubiKey with the serial number 58",
        hint: "`chancery-card list` shows which cards there are",
        code: 3,
    };
    let nowhere = Told {
        error: "there is no reader \"cellar\"",
        hint: "`chancery-card list` shows all readers",
        code: 3,
    };
    for command in ALL {
        unknown.by(&desk, &[command, &["--serial", "58"]].concat())?;
        nowhere.by(&desk, &[command, &["--reader", "cellar"]].concat())?;
    }
    // The one that was chosen, and not the other.
    second.set_pin_tries_left(0);
    let locked = Told { error: "the PIN is locked", hint: "`chancery-card unblock`", code: 1 };
    locked.by(&desk, &[ENROLL, &["--serial", "54"]].concat())?;
    locked.by(&desk, &[ENROLL, &["--reader", "desk"]].concat())?;
    is_untouched(&second, (0, 3))?;
    is_untouched(&first, (3, 3))
}

#[test]
fn a_pin_that_is_locked_or_has_one_try_left_is_not_tried() -> Story {
    let desk = desk(&[YUBIKEY])?;
    let card = desk.insert_ready(Kind::YubiKey57)?;
    let hint = "`chancery-card unblock` sets another one, by the PUK";
    let nothing =
        Told { error: "there is no certificate of 9a", hint: "`chancery-card inspect`", code: 2 };
    for (left, error, inspected) in [
        (0, "the PIN is locked: it was wrong too often", "locked, no tries left of 3"),
        (1, "one try is left for the PIN: a wrong one would lock it", "1 try left of 3"),
    ] {
        card.set_pin_tries_left(left);
        card.take_transcript();
        Told { error, hint, code: 1 }.by_each(&desk, &[ENROLL, REPLACE, RENEW])?;
        // What needs no PIN goes on.
        let told = desk.run(INSPECT)?.success()?.stdout;
        assert!(told.contains(inspected), "{told}");
        nothing.by(&desk, DOCTOR)?;
        is_untouched(&card, (left, 3))?;
        // And what it is told to do helps.
        desk.run(UNBLOCK)?.success()?;
        assert_eq!(card.tries_left(), (3, 3));
    }
    Ok(())
}

/// How a command is refused.
struct Told<'a> {
    error: &'a str,
    hint: &'a str,
    code: i32,
}

impl Told<'_> {
    fn by_each(&self, desk: &Desk, commands: &[&[&str]]) -> Story {
        commands.iter().try_for_each(|command| self.by(desk, command))
    }

    /// With and without `--json`, which changes nothing of it.
    fn by(&self, desk: &Desk, command: &[&str]) -> Story {
        let connection = match command[0] {
            "enroll" | "renew" | "doctor" => &["--config", "client.toml"][..],
            _ => &[],
        };
        for json in [&[][..], &["--json"]] {
            let told = desk.run(&[command, connection, json].concat())?;
            let (head, hint) = told.stderr.split_once("\nhint: ").unwrap_or((&told.stderr, ""));
            let (_, error) = head.split_once("error: ").unwrap_or_default();
            let is_so = told.status.code() == Some(self.code)
                && error.contains(self.error)
                && hint.contains(self.hint)
                && told.stdout.is_empty();
            if !is_so {
                let wanted =
                    format!("{command:?}: {:?}, {:?}, {}", self.error, self.hint, self.code);
                return Err(Failure::new(wanted).said(format!(
                    "{:?} {}",
                    told.status,
                    told.output()
                )));
            }
        }
        Ok(())
    }
}

/// No secret was shown to the card, and nothing changed on it.
fn is_untouched(card: &VirtualCard, tries: (u8, u8)) -> Story {
    let commands = card.take_transcript();
    assert!(!commands.is_empty(), "nobody looked at the card");
    let asks = |it: &Exchange| {
        ASKING.contains(&it.instruction) || it.instruction == VERIFY && it.data.is_empty()
    };
    let others: Vec<_> = commands.into_iter().filter(|it| !asks(it)).collect();
    assert_eq!(others, []);
    assert_eq!(card.tries_left(), tries);
    Ok(())
}

/// With the profile of somebody whose appliance is not there: whoever asks it says so.
fn desk(readers: &[&str]) -> Result<Desk, Failure> {
    let desk = Desk::with_readers(readers)?;
    let ca = Ca::new(desk.path("ca"), "an appliance that is away")?;
    let alice = ca.certify("alice", "basicConstraints=CA:FALSE\n", None)?;
    let profile = format!(
        "default = \"office\"\n[profiles.office]\nserver = \"https://localhost:1\"\nca = {:?}\n\
         certificate = {:?}\nkey = {:?}\ncard_role = \"card\"\n",
        ca.certificate(),
        alice.certificate,
        alice.key,
    );
    desk.write("client.toml", &profile)?;
    Ok(desk)
}

const VERIFY: u8 = 0x20;
/// SELECT, GET RESPONSE, GET DATA, and Yubico's GET METADATA, GET SERIAL, GET VERSION.
const ASKING: [u8; 6] = [0xa4, 0xc0, 0xcb, 0xf7, 0xf8, 0xfd];
