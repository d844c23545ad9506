//! `chancery-card batch`: cards for many people, one after another, whatever happens to some of them.
//! Other programs open the cards by what is in the letters and in the administrators' files.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use harness::{
    Doing, Failure, Story,
    desk::YUBIKEY,
    https::Identity,
    office::Office,
    openssl::{self, openssl},
    peers::{peer, ykman},
    process::{Answer, Daemon, Signal, run, wait_until},
    readers::{Readers, opensc_module},
    virtual_card::{Fault, Kind, VirtualCard},
};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);
const PULLED: &str = "the card was pulled (or reset by another program) while";
const PRINTED: u32 = 0x5f_c109;
const A: u32 = 11_111_111;
const B: u32 = 22_222_222;
const C: u32 = 33_333_333;

#[test]
fn three_people_get_three_cards_whatever_happens_to_one_of_them() -> Story {
    let cards = [A, B, C].map(|serial| VirtualCard::new(Kind::YubiKey57, serial));
    let [a, b, c] = cards;
    let (a, b, c) = (a?, b?, c?);
    let bench = Bench::open(&[&a, &b, &c])?;
    bench.write(
        "people.csv",
        "upn;name\r\nalice@corp.example.test;Alice Ångström <Sales>\r\nbob@corp.example.test;Bob\r\n\
         eve@elsewhere.example.test;Eve\r\ncarol@corp.example.test;\r\n",
    )?;

    let mut batch = bench.start(&[])?;
    bench.said(&mut batch, "1 of 4: alice@corp.example.test: insert a new card")?;
    bench.readers.insert(0, &a)?;
    bench.said(&mut batch, "1 of 4: alice@corp.example.test has YubiKey 11111111")?;
    // The second card is pulled in the middle; nobody is kept waiting for it.
    bench.said(&mut batch, "2 of 4: bob@corp.example.test: insert a new card")?;
    b.fail(Some(Fault::PulledBefore(90)));
    bench.readers.put(0, &b)?;
    bench.said(&mut batch, "the card was pulled")?;
    bench.said(&mut batch, "insert YubiKey 22222222 again, now or later")?;
    b.fail(None);
    // Who would get no certificate needs no card.
    bench.said(&mut batch, "3 of 4: eve@elsewhere.example.test has no card: ")?;
    bench.said(
        &mut batch,
        "4 of 4: carol@corp.example.test: insert a new card, or YubiKey 22222222",
    )?;
    // A card that was given is nobody else's.
    a.take_transcript();
    bench.readers.insert(0, &a)?;
    bench
        .said(&mut batch, "not this card: YubiKey 11111111 is alice@corp.example.test's already")?;
    assert!(a.take_transcript().iter().all(|it| it.data.len() < 8 || it.instruction == 0xa4));
    batch.signal(Signal::INT);
    bench.is_over(&mut batch, "error: 1 of 4 cards are done; it was stopped")?;

    // The same command goes on: with the card that was begun, and whom it was begun for.
    let letter = bench.read("letters/22222222.html")?;
    bench.readers.insert(0, &b)?;
    let mut batch = bench.start(&[])?;
    bench.said(&mut batch, "2 of 4: bob@corp.example.test has YubiKey 22222222")?;
    assert_eq!(pin_in(&bench.read("letters/22222222.html")?), pin_in(&letter));
    bench.said(&mut batch, "4 of 4: carol@corp.example.test: insert a new card")?;
    bench.readers.insert(0, &c)?;
    bench.said(&mut batch, "4 of 4: carol@corp.example.test has YubiKey 33333333")?;
    bench.is_over(&mut batch, "error: 3 of 4 cards are done\n")?;

    // Without the line that is wrong, all is done, and nothing more is asked for.
    let people = bench.read("people.csv")?.replace("eve@elsewhere.example.test;Eve\r\n", "");
    bench.write("people.csv", &people)?;
    let told = bench.run(&[])?.success()?.stdout;
    assert_eq!(told, "3 of 3 cards are done\n");

    for (card, upn) in [(&a, "alice"), (&b, "bob"), (&c, "carol")] {
        bench.opens(card, &format!("{upn}@corp.example.test"))?;
    }
    let letter = bench.read("letters/11111111.html")?;
    assert!(letter.contains("Alice Ångström &lt;Sales&gt;"), "{letter}");
    bench.keeps_no_secret()
}

#[test]
fn a_card_pulled_at_any_time_is_gone_on_with_and_costs_nobody_else() -> Story {
    let bench = Bench::open(&[])?;
    let card = VirtualCard::new(Kind::YubiKey57, 1)?;
    bench.readers.insert(0, &card)?;
    bench.write("people.csv", "upn\np0@corp.example.test\n")?;
    card.take_transcript();
    bench.run(&["--no-attestation", "--role", "loose"])?.success()?;
    let commands = card.take_transcript().len();
    assert!(commands > 100, "{commands} commands are not a card");

    // Each person's card is pulled at another moment, once.
    let moments: Vec<_> = (1..=commands).step_by(7).collect();
    let mut people = "upn\n".to_owned();
    moments.iter().for_each(|at| people += &format!("p{at}@corp.example.test\n"));
    bench.write("people.csv", &people)?;
    let mut batch = bench.start(&["--no-attestation", "--role", "loose", "--json"])?;
    for at in &moments {
        let serial = 1_000 + u32::try_from(*at).doing("make a number")?;
        let card = VirtualCard::new(Kind::YubiKey57, serial)?;
        let fault = if at % 2 == 0 { Fault::PulledBefore(*at) } else { Fault::PulledAfter(*at) };
        bench.said(&mut batch, &format!(": p{at}@corp.example.test: insert a new card"))?;
        let before = batch.log()?.matches(PULLED).count();
        card.fail(Some(fault));
        bench.readers.put(0, &card)?;
        batch
            .wait_until(PATIENCE, |log| log.matches(PULLED).count() > before)
            .map_err(|error| error.hint(format!("{fault:?}")))?;
        card.fail(None);
        bench.readers.insert(0, &card)?;
        let done = format!("\"serial\":{serial},\"state\":\"done\"");
        bench.said(&mut batch, &done)?;
        assert_eq!(card.tries_left(), (3, 3), "{fault:?}");
        assert_eq!(card.object(PRINTED), None, "{fault:?}");
    }
    let all = moments.len();
    bench.is_over(&mut batch, &format!("{{\"people\":{all},\"done\":{all},\"failed\":0,"))?;
    bench.keeps_no_secret()
}

#[test]
fn what_is_wrong_is_said_before_any_card_is_touched() -> Story {
    let bench = Bench::open(&[])?;
    let card = VirtualCard::new(Kind::YubiKey57, A)?;
    bench.readers.insert(0, &card)?;
    card.take_transcript();
    let refused = |why: &str, more: &[&str]| {
        let answer = bench.run(more)?.refused(why)?;
        assert_eq!(answer.status.code(), Some(2), "{}", answer.output());
        assert_eq!(card.take_transcript(), []);
        Ok::<_, Failure>(())
    };
    for (people, why) in [
        ("upn,slot\nalice@corp.example.test,9b\n", "people.csv, line 2, column \"slot\": "),
        ("upn\n\nalice\n", "people.csv, line 3, column \"upn\": \"alice\""),
        ("name\nAlice\n", "people.csv, line 1: the column \"upn\" is missing"),
    ] {
        bench.write("people.csv", people)?;
        refused(why, &[])?;
    }
    bench.write("people.csv", "upn\nalice@corp.example.test\n")?;
    refused(
        "there is nobody called bob@corp.example.test",
        &["--new-card", "bob@corp.example.test"],
    )?;
    refused("only RSA keys decrypt", &["--escrow-to", "curve.pem"])?;
    bench.write("bad.ndjson", "{}\n")?;
    refused("bad.ndjson, line 1: it is no result", &["--results", "bad.ndjson"])?;
    assert!(!bench.path("people.results.ndjson").exists());

    // Of two cards that are there, none is guessed to be the first.
    let other = VirtualCard::new(Kind::YubiKey57, B)?;
    bench.readers.insert(1, &other)?;
    let told = bench.run(&[])?.refused("there are cards in")?;
    assert_eq!((told.status.code(), card.take_transcript()), (Some(3), Vec::new()));
    assert!(told.stderr.contains("--reader"), "{}", told.stderr);
    Ok(())
}

#[test]
fn only_cards_that_are_nobodys_are_taken_and_what_failed_costs_its_own_person() -> Story {
    let (a, c) = (VirtualCard::new(Kind::YubiKey57, A)?, VirtualCard::new(Kind::YubiKey57, C)?);
    let bench = Bench::open(&[&a, &c])?;
    let text = format!("upn,serial\nalice@corp.example.test,\nbob@corp.example.test,{C}\n");
    bench.write("people.csv", &text)?;
    let mut batch = bench.start(&[])?;
    bench.said(&mut batch, "1 of 2: alice@corp.example.test: insert a new card")?;
    let own = VirtualCard::new(Kind::YubiKey57, 7)?;
    bench.readers.insert(0, &own)?;
    bench.said(&mut batch, "1 of 2: alice@corp.example.test: YubiKey 7")?;
    // Its maker is not known here: alice's card fails, and bob's does not.
    bench.said(&mut batch, "alice@corp.example.test has no card: ")?;
    bench.said(&mut batch, "(attestation-counterfeit)")?;
    bench.said(&mut batch, &format!("2 of 2: bob@corp.example.test: insert YubiKey {C}"))?;
    let foreign = VirtualCard::new(Kind::Foreign, 8)?;
    bench.readers.insert(0, &foreign)?;
    bench.said(&mut batch, "not this card: the card has no PIV application")?;
    bench.readers.insert(0, &a)?;
    bench.said(&mut batch, "not this card: YubiKey 11111111 is nobody's who is waited for")?;
    bench.readers.insert(0, &c)?;
    bench.said(&mut batch, "2 of 2: bob@corp.example.test has YubiKey 33333333")?;
    bench.is_over(&mut batch, "error: 1 of 2 cards are done\n")?;

    // Alice is to have another; one that somebody has secrets on is none.
    let used = VirtualCard::new(Kind::YubiKey57, 9)?;
    bench.readers.insert(0, &used)?;
    bench.ykman("9", &["access", "change-pin", "-P", "123456", "-n", "918273"])?;
    bench.readers.insert(0, &own)?;
    bench.readers.insert(1, &used)?;
    used.take_transcript();
    let more = ["--new-card", "alice@corp.example.test", "--reader", "Desk"];
    let mut batch = bench.start(&more)?;
    // No secret of it is tried.
    bench.said(&mut batch, "not this card: YubiKey 9 is in use, or has secrets of somebody's")?;
    assert_eq!(used.tries_left(), (3, 3));
    assert!(used.take_transcript().iter().all(|it| it.instruction != 0x20));
    bench.readers.insert(1, &a)?;
    bench.said(&mut batch, "1 of 2: alice@corp.example.test has YubiKey 11111111")?;
    bench.is_over(&mut batch, "2 of 2 cards are done\n")?;
    bench.opens(&a, "alice@corp.example.test")?;
    bench.keeps_no_secret()
}

/// The PIN that is printed in a letter.
fn pin_in(letter: &str) -> String {
    let after = letter.split("data-pin=\"").nth(1).unwrap_or_default();
    after.split('"').next().unwrap_or_default().to_owned()
}

/// An office, readers, and somebody who makes cards for others.
struct Bench {
    office: Office,
    desk: Identity,
    readers: Readers,
}

/// How many people there are beside Alice, Bob and Carol.
const PEOPLE: usize = 300;

/// Who makes cards makes them for all of the domain.
const RULES: &str = r#"
[[role]]
name = "cards"
callers = ["spiffe://example.test/user/desk"]
issuer = "issuing"
default_ttl = "8h"
max_ttl = "16h"
[role.smartcard_logon]
upns = ["*@corp.example.test"]

[[role]]
name = "loose"
callers = ["spiffe://example.test/user/desk"]
issuer = "issuing"
default_ttl = "8h"
max_ttl = "16h"
[role.smartcard_logon]
upns = ["*@corp.example.test"]
attestation = "optional"
"#;

impl Bench {
    /// Of an office that takes these cards for those of makers that it knows.
    fn open(cards: &[&VirtualCard]) -> Result<Self, Failure> {
        let mut office = Office::prepare()?;
        let mut rules = RULES.to_owned();
        for (number, name) in
            (0..PEOPLE).map(|it| (it, format!("p{it}"))).chain([(PEOPLE, "carol".to_owned())])
        {
            rules += &format!(
                "\n[[account]]\nupn = \"{name}@corp.example.test\"\nsid = \"S-1-5-21-1-2-3-{}\"\n",
                2_000 + number
            );
        }
        fs::write(office.path("rules/batch.toml"), rules).doing("write the rules")?;
        // One maker at least, so that others are not known.
        let maker = VirtualCard::new(Kind::YubiKey57, 1)?;
        office.trust_cards(&[cards, &[&maker]].concat())?;
        office.begin()?;
        let desk = office.enrol("user/desk")?;
        let directory = office.path("readers");
        fs::create_dir(&directory).doing("make a directory")?;
        let readers = Readers::start(&directory, &[YUBIKEY, "Desk"])?;
        for (name, kind) in [("admin", "rsa:2048"), ("curve", "ec:P-256")] {
            let key = office.path(format!("{name}.key"));
            openssl::generate(kind, &key)?;
            let mut certify = openssl()?;
            certify.args(["req", "-x509", "-batch", "-sha256", "-days", "30", "-config"]);
            fs::write(office.path("own.cnf"), "[req]\ndistinguished_name=none\n[none]\n")
                .doing("write a configuration")?;
            certify.arg(office.path("own.cnf")).args(["-subj", "/CN=admin", "-key"]).arg(&key);
            run(certify.arg("-out").arg(office.path(format!("{name}.pem"))))?.success()?;
        }
        Ok(Self { office, desk, readers })
    }

    fn run(&self, more: &[&str]) -> Result<Answer, Failure> {
        run(self.readers.lend(&mut self.command(more)?))
    }

    /// A run that is waited for by what it says.
    fn start(&self, more: &[&str]) -> Result<Daemon, Failure> {
        let log = self.path("batch.log");
        fs::write(&log, "").doing("empty a log")?;
        Daemon::start("batch", self.readers.lend(&mut self.command(more)?), &log)
    }

    fn command(&self, more: &[&str]) -> Result<std::process::Command, Failure> {
        let batch = ["batch", "people.csv", "--letters", "letters", "--escrow", "escrow"];
        let mut all = [&batch[..], &["--escrow-to", "admin.pem"]].concat();
        if !more.contains(&"--role") {
            all.extend(["--role", "cards"]);
        }
        all.extend(["--key", "p256"]);
        all.extend(more);
        self.office.as_caller("chancery-card", &self.desk, &all)
    }

    fn said(&self, batch: &mut Daemon, what: &str) -> Story {
        batch.wait_until(PATIENCE, |log| log.contains(what)).map_err(|error| error.hint(what))
    }

    /// It has said this, and ended.
    fn is_over(&self, batch: &mut Daemon, said: &str) -> Story {
        wait_until("the end of the program", PATIENCE, || Ok(!batch.running()?))?;
        let log = batch.log()?;
        if log.contains(said) { Ok(()) } else { Err(Failure::new(said).said(log)) }
    }

    /// The letter opens the card, the administrator's files unblock it and write to it, and its key
    /// signs for the certificate of its holder.
    fn opens(&self, card: &VirtualCard, upn: &str) -> Story {
        self.readers.insert(0, card)?;
        let results = self.results()?;
        let serial = results[upn]["serial"].to_string();
        let letter = self.path(&format!("letters/{serial}.html"));
        let mode = fs::metadata(&letter).doing("look at a letter")?.permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let letter = fs::read_to_string(&letter).doing("read a letter")?;
        assert!(letter.contains(upn) && letter.contains(&serial), "{letter}");
        let pin = pin_in(&letter);

        let certificate = self.path("read.pem");
        self.ykman(&serial, &["certificates", "export", "9a", "read.pem"])?;
        let mut show = openssl()?;
        show.args(["x509", "-noout", "-serial", "-in"]).arg(&certificate);
        let number = run(&mut show)?.success()?.stdout.to_lowercase();
        assert_eq!(number.trim_end(), format!("serial={}", text(&results[upn]["certificate"])));
        self.signs(&pin, &certificate)?;

        let key = self.decrypt(&format!("escrow/{serial}.management-key.cms"))?;
        let puk = self.decrypt(&format!("escrow/{serial}.puk.cms"))?;
        self.ykman(&serial, &["keys", "generate", "-a", "ECCP256", "-m", &key, "9d", "made"])?;
        self.ykman(&serial, &["access", "change-puk", "-p", &puk, "-n", &puk])?;
        self.ykman(&serial, &["access", "change-pin", "-P", &pin, "-n", "40718263"])?;
        assert_eq!((card.tries_left(), card.object(PRINTED)), ((3, 3), None));
        Ok(())
    }

    /// What was written down in the open, and said, has no PIN, no PUK and no management key.
    fn keeps_no_secret(&self) -> Story {
        let mut open = self.read("batch.log")? + &self.read("people.results.ndjson")?;
        let mut secrets = Vec::new();
        for entry in fs::read_dir(self.path("escrow")).doing("list the escrow")? {
            let name = entry.doing("list the escrow")?.file_name().to_string_lossy().into_owned();
            open += &self.read(&format!("escrow/{name}"))?;
            secrets.push(self.decrypt(&format!("escrow/{name}"))?);
        }
        for entry in fs::read_dir(self.path("letters")).doing("list the letters")? {
            let path = entry.doing("list the letters")?.path();
            secrets.push(pin_in(&fs::read_to_string(path).doing("read a letter")?));
        }
        for secret in &secrets {
            assert!(secret.len() >= 8 && !open.contains(secret.as_str()), "{secret}: {open}");
        }
        let all = secrets.len();
        secrets.sort();
        secrets.dedup();
        assert!(all >= 3 && secrets.len() == all, "secrets are the same: {secrets:?}");
        Ok(())
    }

    /// The last step of each person.
    fn results(&self) -> Result<BTreeMap<String, Value>, Failure> {
        let mut latest = BTreeMap::new();
        for line in self.read("people.results.ndjson")?.lines() {
            let record: Value = serde_json::from_str(line).doing("read JSON")?;
            latest.insert(text(&record["upn"]).to_owned(), record);
        }
        Ok(latest)
    }

    fn signs(&self, pin: &str, certificate: &Path) -> Story {
        let (message, signature) = (self.path("message"), self.path("signature"));
        fs::write(&message, [0x5a; 32]).doing("write a message")?;
        let mut sign = self.readers.command(&peer("pkcs11-tool")?);
        sign.arg("--module").arg(opensc_module()?).args(["--login", "--pin", pin, "--sign"]);
        sign.args(["--id", "01", "--mechanism", "ECDSA", "--signature-format", "openssl"]);
        run(sign.arg("--input-file").arg(&message).arg("--output-file").arg(&signature))?
            .success()?;
        let mut check = openssl()?;
        check.args(["pkeyutl", "-verify", "-certin", "-inkey"]).arg(certificate);
        run(check.arg("-in").arg(&message).arg("-sigfile").arg(&signature))?.success().map(drop)
    }

    fn decrypt(&self, file: &str) -> Result<String, Failure> {
        let mut command = openssl()?;
        command.args(["cms", "-decrypt", "-inform", "PEM", "-in"]).arg(self.path(file));
        command.arg("-recip").arg(self.path("admin.pem")).arg("-inkey").arg(self.path("admin.key"));
        let text = run(&mut command)?.success()?.stdout;
        Ok(text.lines().next().unwrap_or_default().to_owned())
    }

    fn ykman(&self, serial: &str, arguments: &[&str]) -> Story {
        let mut command = self.readers.command(&ykman()?);
        command.args(["--device", serial, "piv"]).args(arguments);
        run(command.current_dir(self.office.path("")))?.success().map(drop)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.office.path(name)
    }

    fn read(&self, name: &str) -> Result<String, Failure> {
        fs::read_to_string(self.path(name)).doing(format_args!("read {name}"))
    }

    fn write(&self, name: &str, text: &str) -> Story {
        fs::write(self.path(name), text).doing(format_args!("write {name}"))
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
