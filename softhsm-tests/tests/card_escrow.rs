//! `chancery-card init --escrow` gives the secrets of administrators to them alone, whenever the card
//! is pulled. OpenSSL decrypts them, and ykman and we ourselves show them to the card.

use std::{fs, rc::Rc};

use harness::{
    Doing, Failure, Story,
    clock::Clock,
    desk::Desk,
    openssl::{self, openssl},
    peers::peer,
    process::{Answer, run},
    virtual_card::{Exchange, Fault, Kind, VirtualCard},
};
use serde_json::{Value, json};

const SET_MANAGEMENT_KEY: u8 = 0xff;
const CHANGE_REFERENCE_DATA: u8 = 0x24;
const PRINTED: u32 = 0x5f_c109;
const ADMINISTRATION: u32 = 0x5f_ff00;

#[test]
fn any_administrator_opens_the_escrow_and_what_is_in_it_opens_the_card() -> Story {
    for kind in [Kind::YubiKey54, Kind::YubiKey57] {
        let bench = Bench::new(kind)?;
        let done = bench.init(&["--json"])?.success()?;
        let all = json!({
            "pin": true, "puk": true, "management_key": true, "holder": true, "capabilities": true,
        });
        let told: Value = serde_json::from_str(&done.stdout).doing("read JSON")?;
        let report = json!({
            "serial": 12_345_678, "done": all, "escrow": "key.cms", "escrow_puk": "puk.cms",
        });
        assert_eq!(told, report);
        for object in [PRINTED, ADMINISTRATION] {
            assert_eq!(bench.card.object(object), None, "{object:06X}");
        }

        // Each of the two administrators, alone, has the same; and nobody has it otherwise.
        let (key, puk) = (bench.decrypt("first", "key.cms")?, bench.decrypt("second", "puk.cms")?);
        assert_eq!(key, bench.decrypt("second", "key.cms")?);
        assert_eq!((key.len(), puk.len()), (64, 8), "{key} {puk}");
        let nobody = bench.decrypt("third", "key.cms");
        assert!(nobody.is_err(), "{nobody:?}");
        let said = format!("{}{}", done.output(), bench.read("key.cms")? + &bench.read("puk.cms")?);
        assert!(!said.contains(&key) && !said.contains(&puk), "{said}");
        let title = bench.read("key.cms")?;
        assert!(title.starts_with("the management key of YubiKey 12345678\n-----BEGIN CMS-----\n"));

        // The key is the card's: nothing can be written without it, and with it all can.
        bench.request(&[])?.refused("it is not kept on the card")?;
        bench.desk.write("key", &key)?;
        bench.request(&["--management-key-file", "key"])?.success()?;
        let told = bench.desk.ykman(&["piv", "info"])?.success()?.stdout;
        assert!(!told.contains("protected by PIN") && !told.contains("default"), "{told}");
        let generate = ["piv", "keys", "generate", "-a", "ECCP256", "-m", &key, "9d", "made"];
        bench.desk.ykman(&generate)?.success()?;
        // So is the PUK, which a help desk needs.
        bench.desk.write("puk", &puk)?;
        bench.card.set_pin_tries_left(0);
        bench.desk.run(&["unblock", "--puk-file", "puk", "--pin-file", "pin"])?.success()?;

        // Once more changes nothing.
        let before = (bench.read("key.cms")?, bench.read("puk.cms")?);
        let again = bench.init(&[])?.success()?.stdout;
        assert!(again.contains("was set before, in key.cms"), "{again}");
        assert_eq!((bench.read("key.cms")?, bench.read("puk.cms")?), before);
        assert_eq!(bench.card.tries_left(), (3, 3));
    }
    Ok(())
}

#[test]
fn the_escrow_is_there_before_the_card_has_the_secret() -> Story {
    let bench = Bench::new(Kind::YubiKey57)?;
    bench.init(&[])?.success()?;
    let commands = bench.card.take_transcript();
    for (instruction, file, length) in
        [(SET_MANAGEMENT_KEY, "key.cms", 64), (CHANGE_REFERENCE_DATA, "puk.cms", 8)]
    {
        // Of the two changes of reference data, the PUK's is the last.
        let last = commands.iter().rposition(|it| it.instruction == instruction);
        let at = last.ok_or_else(|| Failure::new(format!("there is no {instruction:02x}")))? + 1;
        let bench = bench.with_new_card(Kind::YubiKey57)?;
        bench.desk.run_and_pull(&bench.card, Fault::PulledBefore(at), &INIT)?;
        let kept = bench.decrypt("first", file)?;
        assert_eq!(kept.len(), length);
        // What never came into force gives way to what does.
        bench.init(&[])?.success()?;
        assert_ne!(bench.decrypt("first", file)?, kept);
        bench.is_in_force()?;
    }
    Ok(())
}

#[test]
fn a_card_pulled_at_any_command_is_finished_by_the_same_command() -> Story {
    let bench = Bench::new(Kind::YubiKey57)?;
    bench.init(&[])?.success()?;
    let commands = bench.card.take_transcript().len();
    assert!(commands > 30, "{commands} commands are not an initialisation");
    for at in 1..=commands {
        for fault in [Fault::PulledBefore(at), Fault::PulledAfter(at)] {
            let bench = bench.with_new_card(Kind::YubiKey57)?;
            bench.desk.run_and_pull(&bench.card, fault, &INIT)?;
            bench.init(&[])?.success()?;
            bench.is_in_force()?;
            assert_eq!(bench.card.tries_left(), (3, 3), "{fault:?}");
            assert_eq!(bench.card.object(PRINTED), None, "{fault:?}");
        }
    }
    Ok(())
}

#[test]
fn nothing_is_escrowed_for_who_cannot_decrypt_it() -> Story {
    let bench = Bench::new(Kind::YubiKey57)?;
    let purposes = [
        ("curve", "ec:P-256", "", "has a key of p256: only RSA keys decrypt"),
        ("weak", "rsa:1024", "", "its key: "),
        ("signer", "rsa:2048", "keyUsage=critical,digitalSignature", "is not for encryption"),
        ("authority", "rsa:2048", "basicConstraints=critical,CA:TRUE", "is a CA's"),
    ];
    for (name, kind, extension, why) in purposes {
        bench.certify(name, kind, extension, None)?;
        bench.is_refused(name, why)?;
    }
    for (name, moment) in [("late", 1_600_000_000), ("early", 4_000_000_000)] {
        bench.certify(name, "rsa:2048", "", Some(moment))?;
        bench.is_refused(name, "Z, and not now")?;
    }
    bench.desk.write("nothing.pem", "nothing\n")?;
    bench.is_refused("nothing", "there is no certificate in it")?;
    // Nor for nobody.
    bench.desk.run(&["init", "--from-defaults", "--escrow", "key.cms"])?.refused("--escrow-to")?;
    Ok(())
}

#[test]
fn no_file_of_another_card_gives_way_and_none_that_is_needed_is_missed() -> Story {
    let bench = Bench::new(Kind::YubiKey57)?;
    bench.init(&[])?.success()?;
    let kept = bench.read("key.cms")?;
    let card = VirtualCard::new(Kind::YubiKey57, 23_456_789)?;
    let other = Bench { card, desk: Rc::clone(&bench.desk) };
    other.desk.readers().insert(0, &other.card)?;
    let told = other.init(&[])?.refused("is not the PUK of YubiKey 23456789")?;
    assert!(told.status.code() == Some(2) && told.stderr.contains("hint: each card has a file"));
    assert!(bench.card.take_transcript().len() > 1 && bench.read("key.cms")? == kept);
    assert!(!other.card.take_transcript().iter().any(changes_a_secret));

    // A file that is lost: what the card has, nobody knows.
    bench.desk.readers().insert(0, &bench.card)?;
    for (file, why) in [("puk.cms", "the PUK was set before"), ("key.cms", "it is not kept")] {
        let text = bench.read(file)?;
        fs::remove_file(bench.desk.path(file)).doing("lose a file")?;
        bench.init(&[])?.refused(why)?;
        bench.desk.write(file, &text[..text.len() / 2])?;
        bench.init(&[])?.refused("is there already, and is not")?;
        bench.desk.write(file, &text)?;
    }
    bench.init(&[])?.success()?;

    // A card that kept its key until now gives it up.
    let bench = bench.with_new_card(Kind::YubiKey57)?;
    bench.desk.write("puk", "55501234")?;
    let init = ["init", "--from-defaults", "--pin-file", "pin", "--puk-file", "puk"];
    bench.desk.run(&init)?.success()?;
    assert!(bench.card.object(PRINTED).is_some());
    let give = [&init[..], &["--escrow", "given.cms", "--escrow-to", "first.pem"]].concat();
    bench.desk.run(&give)?.success()?;
    assert_eq!(bench.card.object(PRINTED), None);
    bench.desk.write("key", &bench.decrypt("first", "given.cms")?)?;
    bench.request(&["--management-key-file", "key"])?.success()?;
    Ok(())
}

fn changes_a_secret(it: &Exchange) -> bool {
    matches!(it.instruction, CHANGE_REFERENCE_DATA | SET_MANAGEMENT_KEY)
}

/// A card on a desk, and two administrators.
struct Bench {
    card: VirtualCard,
    desk: Rc<Desk>,
}

impl Bench {
    fn new(kind: Kind) -> Result<Self, Failure> {
        let desk = Rc::new(Desk::new()?);
        let bench = Self { card: desk.insert(kind)?, desk };
        let usage = "keyUsage=critical,keyEncipherment";
        for (name, extension) in [("first", usage), ("second", ""), ("third", usage)] {
            bench.certify(name, "rsa:2048", extension, None)?;
        }
        Ok(bench)
    }

    /// A card of its own, and no file of the last one.
    fn with_new_card(&self, kind: Kind) -> Result<Self, Failure> {
        for file in ["key.cms", "puk.cms"] {
            fs::remove_file(self.desk.path(file)).doing("remove a file")?;
        }
        Ok(Self { card: self.desk.insert(kind)?, desk: Rc::clone(&self.desk) })
    }

    fn init(&self, more: &[&str]) -> Result<Answer, Failure> {
        self.desk.run(&[&INIT[..], more].concat())
    }

    /// What the first administrator decrypts is what the card has.
    fn is_in_force(&self) -> Story {
        self.desk.write("key", &self.decrypt("first", "key.cms")?)?;
        self.request(&["--management-key-file", "key"])?.success()?;
        self.desk.write("puk", &self.decrypt("first", "puk.cms")?)?;
        self.desk.run(&["unblock", "--puk-file", "puk", "--pin-file", "pin"])?.success()?;
        Ok(())
    }

    /// Before the card is touched.
    fn is_refused(&self, name: &str, why: &str) -> Story {
        self.card.take_transcript();
        let init = ["init", "--from-defaults", "--pin-file", "pin", "--escrow", "no.cms"];
        let to = format!("{name}.pem");
        let answer = self.desk.run(&[&init[..], &["--escrow-to", &to]].concat())?.refused(why)?;
        assert_eq!(answer.status.code(), Some(2), "{}", answer.output());
        assert_eq!(self.card.take_transcript(), []);
        assert!(!self.desk.path("no.cms").exists());
        Ok(())
    }

    /// Writes to the card, with a key of no use to anybody.
    fn request(&self, more: &[&str]) -> Result<Answer, Failure> {
        let request = ["request", "--slot", "9a", "--key", "p256", "--out", "card.csr"];
        self.desk.run(&[&request[..], &["--pin-file", "pin", "--replace"], more].concat())
    }

    /// A key, and a certificate that it signed itself for a month from now or from another moment.
    fn certify(&self, name: &str, kind: &str, extension: &str, from: Option<i64>) -> Story {
        let key = self.desk.path(&format!("{name}.key"));
        openssl::generate(kind, &key)?;
        // The extensions of its configuration file make a CA of whatever is signed.
        let section = format!("[req]\ndistinguished_name=none\n[none]\n[own]\n{extension}\n");
        self.desk.write("own.cnf", &section)?;
        let mut command = match from {
            None => openssl()?,
            Some(moment) => Clock::showing(moment)?.command(&peer("openssl")?),
        };
        command.args(["req", "-x509", "-batch", "-sha256", "-days", "30", "-config"]);
        command.arg(self.desk.path("own.cnf")).args(["-subj", &format!("/CN={name}")]);
        command.args(["-extensions", "own", "-key"]).arg(&key);
        run(command.arg("-out").arg(self.desk.path(&format!("{name}.pem"))))?.success().map(drop)
    }

    /// The secret that OpenSSL finds for an administrator.
    fn decrypt(&self, name: &str, file: &str) -> Result<String, Failure> {
        let mut command = openssl()?;
        command.args(["cms", "-decrypt", "-inform", "PEM", "-in"]).arg(self.desk.path(file));
        command.arg("-recip").arg(self.desk.path(&format!("{name}.pem")));
        command.arg("-inkey").arg(self.desk.path(&format!("{name}.key")));
        let text = run(&mut command)?.success()?.stdout;
        Ok(text.lines().next().unwrap_or_default().to_owned())
    }

    fn read(&self, name: &str) -> Result<String, Failure> {
        self.desk.read(name)
    }
}

const INIT: [&str; 12] = [
    "init",
    "--from-defaults",
    "--pin-file",
    "pin",
    "--escrow",
    "key.cms",
    "--escrow-puk",
    "puk.cms",
    "--escrow-to",
    "first.pem",
    "--escrow-to",
    "second.pem",
];
