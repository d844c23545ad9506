//! `chancery-card enroll` and `renew`: from an empty slot to a certificate of the appliance in one
//! go, whenever the card is pulled. Other programs read back what is on the card.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use harness::{
    Doing, Failure, Story,
    https::Identity,
    office::Office,
    openssl::{openssl, verify_with_crl},
    peers::{peer, ykman},
    process::{Answer, Daemon, Signal, run, wait_until},
    readers::{Readers, opensc_module, ykcs11_module},
    virtual_card::{Fault, Kind, VirtualCard},
};
use serde_json::Value;

const PIN: &str = "83621947";
const UPN: &str = "alice@corp.example.test";
const HOLDER_ID: u32 = 0x5f_c102;
const AUTHENTICATION: u32 = 0x5f_c105;
const SERIAL: u32 = 12_345_678;
const PATIENCE: Duration = Duration::from_secs(60);
/// The reader of the bench.
const READER: &str = "Yubico YubiKey OTP+FIDO+CCID";

#[test]
fn a_card_is_enrolled_and_renewed_and_read_back_by_others() -> Story {
    let bench = Bench::open()?;
    for (kind, key) in
        [(Kind::YubiKey54, "rsa2048"), (Kind::YubiKey57, "rsa2048"), (Kind::YubiKey57, "p256")]
    {
        let card = bench.new_card(kind)?;
        let told = bench.json(&[&ENROLL[..], &["--key", key]].concat())?;
        assert_eq!((&told["upn"], &told["key"]), (&UPN.into(), &key.into()), "{told}");
        bench.is_read_back(&told, key)?;
        let (before, name) = (card.object(HOLDER_ID), bench.fingerprint()?);

        let renewed = bench.json(&["renew", "--slot", "9a", "--no-attestation"])?;
        assert_ne!(renewed["certificate"], told["certificate"]);
        assert_eq!(bench.fingerprint()?, name);
        assert_ne!(card.object(HOLDER_ID), before);
        bench.is_read_back(&renewed, key)?;
        let renewed =
            bench.json(&["renew", "--slot", "9a", "--no-attestation", "--new-key", key])?;
        assert_ne!(bench.fingerprint()?, name);
        bench.is_read_back(&renewed, key)?;
        bench.is_attested(&card)?;
        assert_eq!(card.tries_left(), (3, 3));
    }
    Ok(())
}

#[test]
fn what_is_refused_leaves_the_card_as_it_can_be_gone_on_with() -> Story {
    let bench = Bench::open()?;
    let card = bench.new_card(Kind::YubiKey57)?;
    // Somebody else's account: the key is made, and nothing else.
    let other = ["enroll", "--slot", "9a", "--key", "p256", "--no-attestation", "--upn"];
    let bob = [&other[..], &["bob@corp.example.test"]].concat();
    let told = bench.run(&bob)?.refused("upn-not-allowed")?;
    assert_eq!(told.status.code(), Some(1), "{}", told.output());
    assert_eq!(card.object(AUTHENTICATION), None);
    let made = bench.fingerprint()?;
    bench.run(&[&ENROLL[..], &["--key", "p256"]].concat())?.success()?;
    assert_eq!(bench.fingerprint()?, made);

    // A key in use is not lost without a word, and a wrong PIN is tried once.
    bench.run(&ENROLL)?.refused("slot 9a is in use: it has a certificate")?;
    bench.run(&["renew", "--slot", "9d"])?.refused("slot 9d has no certificate with one UPN")?;
    bench.write("pin", "00000000")?;
    bench.run(&["renew", "--slot", "9a"])?.refused("the PIN is wrong: 2 tries left")?;
    bench.write("pin", PIN)?;
    bench.run(&[&ENROLL[..], &["--replace"]].concat())?.success()?;
    assert_ne!(bench.fingerprint()?, made);

    // Without a role, and without an appliance, the card is not touched.
    card.take_transcript();
    let nowhere = ["--server", "https://localhost:1", "--profile", "nobody"];
    bench.run(&[&ENROLL[..], &nowhere].concat())?.refused("there is no profile \"nobody\"")?;
    assert_eq!(card.take_transcript(), []);
    Ok(())
}

#[test]
fn the_doctor_says_whether_a_card_logs_on_and_why_not() -> Story {
    let bench = Bench::open()?;
    let card = bench.new_card(Kind::YubiKey57)?;
    let told = bench.json(&ENROLL)?;
    let list = format!("http://{}/crl/issuing.crl", bench.office.public());
    let [issuing, root] = ["issuing.pem", "root.pem"].map(|it| bench.office.handoff(it));
    let issuing = issuing.display().to_string();
    let asked = |what: &str, more: &[&str]| {
        let sid = ["--sid", "S-1-5-21-1004336348-1177238915-682003330-1104"];
        let usual = ["doctor", what, "--crl", &list, "--ntauth", &issuing];
        bench.run(&[&usual[..], &sid, more].concat())
    };
    card.take_transcript();
    // On the card, and as the ledger has it: all that is looked at is good.
    for what in ["9a", UPN] {
        let judged = asked(what, &["--json"])?.success()?.stdout;
        let judged: Value = serde_json::from_str(&judged).doing("read JSON")?;
        assert_eq!(judged["verdict"], "good", "{judged}");
        assert_eq!(judged["alt_security_identities"], told["alt_security_identities"]);
    }
    assert!(card.take_transcript().iter().all(|it| it.data.len() != 8), "a PIN was shown");
    let judged = asked("9a", &[])?.success()?.stdout;
    assert!(judged.contains("Set-ADUser -Add @{altSecurityIdentities='X509:<SKI>"), "{judged}");

    // In a file, and with one thing wrong at a time.
    let show = ["show", "issuing", told["certificate"].as_str().unwrap_or_default()];
    let show = [&show[..], &["--certificate"]].concat();
    let issued = run(&mut bench.office.chancery(bench.office.operator(), &show)?)?.success()?;
    fs::write(bench.path("card.pem"), &issued.stdout).doing("write a certificate")?;
    asked("card.pem", &[])?.success()?;
    let root = root.display().to_string();
    bench.run(&["doctor", "card.pem", "--offline", "--root", &issuing])?.success()?;
    bench
        .run(&["doctor", "card.pem", "--crl", &list, "--ntauth", &root])?
        .refused("is not among the 1 in it")?;
    let other = ["doctor", "card.pem", "--offline", "--sid", "S-1-5-21-1-2-3-1104"];
    bench.run(&other)?.refused("event 41")?;
    let nowhere = ["doctor", "card.pem", "--crl", "http://127.0.0.1:1/issuing.crl"];
    bench.run(&nowhere)?.refused("without it nobody logs on")?;
    bench.run(&["doctor", "nobody@corp.example.test"])?.refused("there is no certificate of")?;
    bench.run(&["doctor", "9d"])?.refused("there is no certificate of 9d")?;

    let body = serde_json::json!({
        "issuer": "issuing",
        "serial": told["certificate"],
        "code": "cessation-of-operation",
        "reason": "the card is back",
    });
    let operator = bench.office.https(Some(bench.office.operator()))?;
    let revoked = operator.post("/v1/revoke", &body)?.expect_status(200)?.json()?;
    operator.get(&format!("/v1/effects/{}?wait=30", revoked["change"]))?.expect_status(200)?;
    asked("9a", &[])?.refused("the certificate is revoked since")?;
    Ok(())
}

#[test]
fn a_card_pulled_at_any_command_is_enrolled_by_the_same_command() -> Story {
    let card = VirtualCard::new(Kind::YubiKey57, SERIAL)?;
    let bench = Bench::open_trusting(&card)?;
    bench.ready(&card)?;
    let enroll = ["enroll", "--slot", "9a", "--upn", UPN, "--key", "p256"];
    card.take_transcript();
    bench.run(&enroll)?.success()?;
    let commands = card.take_transcript().len();
    assert!(commands > 40, "{commands} commands are not an enrolment");
    for at in 1..=commands {
        for fault in [Fault::PulledBefore(at), Fault::PulledAfter(at)] {
            bench.run(&["wipe", "--slot", "9a", "--confirm", "12345678"])?.success()?;
            let before = card.object(HOLDER_ID);
            card.fail(Some(fault));
            bench.run(&enroll)?.refused("the card was pulled")?;
            card.fail(None);
            bench.readers.insert(0, &card)?;
            bench.run(&enroll)?.success()?;
            // A certificate for the key, which is the whole of what is there.
            assert!(!bench.fingerprint()?.is_empty(), "{fault:?}");
            assert!(card.object(AUTHENTICATION).is_some(), "{fault:?}");
            assert_ne!(card.object(HOLDER_ID), before, "{fault:?}");
            assert_eq!(card.tries_left(), (3, 3), "{fault:?}");
        }
    }
    // An answer that the card never got was not asked for a second time.
    let list = ["list", "--kind", "smartcard_logon", "--json"];
    let listed = run(&mut bench.office.chancery(bench.office.operator(), &list)?)?.success()?;
    assert_eq!(listed.stdout.lines().count(), 2 * commands + 1);
    Ok(())
}

#[test]
fn a_certificate_of_a_session_is_off_the_card_when_the_session_ends() -> Story {
    let card = VirtualCard::new(Kind::YubiKey57, SERIAL)?;
    let bench = Bench::open_trusting(&card)?;
    bench.ready(&card)?;
    let bob = bench.office.enrol("user/bob")?;

    // Approved by somebody else; asked to stop, it leaves nothing behind.
    let (mut session, id) = bench.session(&bob)?;
    let used = bench.keep_certificate("first.pem")?;
    session.signal(Signal::TERM);
    bench.is_over(&mut session, "deleted")?;
    bench.is_empty(&id, &used)?;

    // Somebody else ends it.
    let (mut session, id) = bench.session(&bob)?;
    let used = bench.keep_certificate("second.pem")?;
    let end = ["session", "end", &id, "--reason", "enough"];
    run(&mut bench.office.chancery(bench.office.operator(), &end)?)?.success()?;
    bench.is_over(&mut session, "deleted")?;
    bench.is_empty(&id, &used)?;

    // The card is away when it ends: then the certificate is revoked all the same.
    let (mut session, id) = bench.session(&bob)?;
    let used = bench.keep_certificate("third.pem")?;
    card.fail(Some(Fault::PulledBefore(1)));
    session.signal(Signal::INT);
    bench.is_over(&mut session, "hint: insert the card: chancery-card wipe --slot 9a")?;
    card.fail(None);
    bench.readers.insert(0, &card)?;
    bench.run(&["wipe", "--slot", "9a", "--confirm", "12345678"])?.success()?;
    bench.is_empty(&id, &used)?;

    // A slot that is in use is left alone, and nobody is asked to approve.
    bench.run(&["enroll", "--slot", "9a", "--upn", UPN, "--key", "p256"])?.success()?;
    bench.run(&SESSION)?.refused("slot 9a is in use: it has a certificate")?;
    assert_eq!(card.tries_left(), (3, 3));
    Ok(())
}

const SESSION: [&str; 13] = [
    "session",
    "--slot",
    "9a",
    "--upn",
    UPN,
    "--key",
    "p256",
    "--role",
    "desk-card",
    "--session-role",
    "desk",
    "--reason",
    "ticket 4711",
];

/// A role of cards that is given in sessions only, and its session.
const RULES: &str = r#"
[[role]]
name = "desk-card"
callers = ["spiffe://example.test/user/*"]
issuer = "issuing"
default_ttl = "1h"
max_ttl = "8h"
[role.smartcard_logon]
upns = ["{name}@corp.example.test"]

[[role]]
name = "desk"
callers = ["spiffe://example.test/user/*"]
default_ttl = "1h"
max_ttl = "8h"
[role.session]
certificates = ["desk-card"]
approvals = 1
approvers = ["spiffe://example.test/user/*"]
"#;

const ENROLL: [&str; 6] = ["enroll", "--slot", "9a", "--upn", UPN, "--no-attestation"];

/// An office, a reader, and Alice's profile.
struct Bench {
    office: Office,
    alice: Identity,
    readers: Readers,
}

impl Bench {
    fn open() -> Result<Self, Failure> {
        Self::at(Office::open()?)
    }

    /// Of an office that takes this card for one of a maker that it knows.
    fn open_trusting(card: &VirtualCard) -> Result<Self, Failure> {
        let mut office = Office::prepare()?;
        let (der, pem) = (office.path("maker.der"), office.path("maker.pem"));
        fs::write(&der, card.attestation_root()).doing("write a root")?;
        let mut convert = openssl()?;
        convert.args(["x509", "-inform", "DER", "-in"]).arg(&der).arg("-out").arg(&pem);
        run(&mut convert)?.success()?;
        let path = office.path("chanceryd.toml");
        let text = fs::read_to_string(&path).doing("read the configuration")?;
        let anchors = "\n[attestation]\nanchors = [\"maker.pem\"]\n";
        fs::write(&path, text + anchors).doing("write the configuration")?;
        fs::write(office.path("rules/sessions.toml"), RULES).doing("write the rules")?;
        office.begin()?;
        Self::at(office)
    }

    fn at(office: Office) -> Result<Self, Failure> {
        let alice = office.enrol("user/alice")?;
        let directory = office.path("readers");
        fs::create_dir(&directory).doing("make a directory")?;
        let readers = Readers::start(&directory, &[READER])?;
        let bench = Self { office, alice, readers };
        bench.write("pin", PIN)?;
        bench.write("puk", "55501234")?;
        Ok(bench)
    }

    /// A card in the reader that was made ready.
    fn new_card(&self, kind: Kind) -> Result<VirtualCard, Failure> {
        let card = VirtualCard::new(kind, SERIAL)?;
        self.ready(&card)?;
        Ok(card)
    }

    fn ready(&self, card: &VirtualCard) -> Story {
        self.readers.insert(0, card)?;
        self.run(&["init", "--from-defaults", "--puk-file", "puk"])?.success().map(drop)
    }

    /// A session that was asked for by Alice and approved by Bob, with its certificate on the card.
    fn session(&self, bob: &Identity) -> Result<(Daemon, String), Failure> {
        let shown = [&SESSION[..], &["--pin-file", "pin"]].concat();
        let mut command = self.office.as_caller("chancery-card", &self.alice, &shown)?;
        let log = self.path("session.log");
        fs::write(&log, "").doing("empty a log")?;
        let mut session = Daemon::start("session", self.readers.lend(&mut command), &log)?;
        session.wait_until(PATIENCE, |said| said.contains("waits for 1 approval"))?;
        let said = session.log()?;
        let (_, after) = said
            .split_once("session approve ")
            .ok_or_else(|| Failure::new("nobody is asked to approve").said(said.clone()))?;
        let id = after.split(' ').next().unwrap_or_default().to_owned();
        let approve = ["session", "approve", &id, "--reason", "seen"];
        run(&mut self.office.chancery(bob, &approve)?)?.success()?;
        session.wait_until(PATIENCE, |said| said.contains("Ctrl-C ends it"))?;
        Ok((session, id))
    }

    /// It has said this, and ended.
    fn is_over(&self, session: &mut Daemon, said: &str) -> Story {
        wait_until("the end of the program", PATIENCE, || Ok(!session.running()?))?;
        let log = session.log()?;
        if log.contains(said) { Ok(()) } else { Err(Failure::new(said).said(log)) }
    }

    /// The card has nothing, the session is over, and its certificate revoked.
    fn is_empty(&self, id: &str, used: &Path) -> Story {
        let told = self.json(&["inspect"])?;
        assert_eq!(told["slots"][0]["slot"], "f9", "{told}");
        let show = ["session", "show", id, "--json"];
        let shown = run(&mut self.office.chancery(self.office.operator(), &show)?)?.success()?;
        assert!(shown.stdout.contains("\"state\":\"ended\""), "{}", shown.stdout);
        wait_until("a list with the certificate", PATIENCE, || {
            let judged = verify_with_crl(&self.office, "issuing", used)?;
            Ok(judged.output().contains("certificate revoked"))
        })
    }

    /// The certificate on the card, which leads to the root and is not revoked.
    fn keep_certificate(&self, name: &str) -> Result<PathBuf, Failure> {
        self.fingerprint()?;
        self.ykman(&["certificates", "export", "9a", name])?;
        verify_with_crl(&self.office, "issuing", &self.path(name))?.success()?;
        Ok(self.path(name))
    }

    /// With the PIN in its file, for commands that show it.
    fn run(&self, arguments: &[&str]) -> Result<Answer, Failure> {
        let shown: &[&str] = match arguments[0] {
            "doctor" | "inspect" => &[],
            _ => &["--pin-file", "pin"],
        };
        let arguments = [arguments, shown].concat();
        let mut command = self.office.as_caller("chancery-card", &self.alice, &arguments)?;
        run(self.readers.lend(&mut command))
    }

    fn json(&self, arguments: &[&str]) -> Result<Value, Failure> {
        let told = self.run(&[arguments, &["--json"]].concat())?.success()?.stdout;
        serde_json::from_str(&told).doing("read JSON")
    }

    /// Of the key in 9a, whose certificate is for it if there is one.
    fn fingerprint(&self) -> Result<String, Failure> {
        let told = self.json(&["inspect"])?;
        let slot = &told["slots"][0];
        assert_eq!(slot["slot"], "9a", "{told}");
        if slot["certificate"] != "absent" {
            assert_eq!(slot["certificate"]["present"]["matches_key"], true, "{told}");
        }
        Ok(slot["key"]["fingerprint"].as_str().unwrap_or_default().to_owned())
    }

    /// The certificate on the card is the one that the ledger has, leads to the root, is not
    /// revoked, and is for a key that signs.
    fn is_read_back(&self, told: &Value, key: &str) -> Story {
        let serial = told["certificate"].as_str().unwrap_or_default();
        let show = ["show", "issuing", serial, "--certificate"];
        let issued = run(&mut self.office.chancery(self.office.operator(), &show)?)?.success()?;
        self.ykman(&["certificates", "export", "9a", "read.pem"])?;
        let read = self.path("read.pem");
        let text = fs::read_to_string(&read).doing("read a certificate")?;
        assert_eq!(text.trim_end(), issued.stdout.trim_end());
        verify_with_crl(&self.office, "issuing", &read)?.success()?;
        for module in [ykcs11_module()?, opensc_module()?] {
            self.shows(&module, &read)?;
            self.signs(&module, key, &read)?;
        }
        Ok(())
    }

    /// By the card's own word, as ykman has it, it made the key in 9a that the certificate is for: the
    /// attestation leads to the card's maker.
    fn is_attested(&self, card: &VirtualCard) -> Story {
        self.ykman(&["keys", "attest", "9a", "attested.pem"])?;
        self.ykman(&["certificates", "export", "f9", "f9.pem"])?;
        fs::write(self.path("maker.der"), card.attestation_root()).doing("write a root")?;
        let mut convert = openssl()?;
        convert.args(["x509", "-inform", "DER", "-in", "maker.der", "-out", "maker.pem"]);
        run(convert.current_dir(self.path(".")))?.success()?;
        let mut check = openssl()?;
        check.args(["verify", "-CAfile", "maker.pem", "-untrusted", "f9.pem", "attested.pem"]);
        run(check.current_dir(self.path(".")))?.success()?;
        let key_of = |file| {
            let mut command = openssl()?;
            command.args(["x509", "-noout", "-pubkey", "-in"]).arg(self.path(file));
            Ok(run(&mut command)?.success()?.stdout)
        };
        assert_eq!(key_of("attested.pem")?, key_of("read.pem")?);
        Ok(())
    }

    /// A PKCS#11 module shows the certificate.
    fn shows(&self, module: &Path, certificate: &Path) -> Story {
        let (shown, der) = (self.path("shown.der"), self.path("read.der"));
        let mut show = self.readers.command(&peer("pkcs11-tool")?);
        show.arg("--module").arg(module).args(["--read-object", "--type", "cert", "--id", "01"]);
        run(show.arg("--output-file").arg(&shown))?.success()?;
        let mut convert = openssl()?;
        convert.args(["x509", "-outform", "DER", "-in"]).arg(certificate).arg("-out").arg(&der);
        run(&mut convert)?.success()?;
        let read = |path| fs::read(path).doing("read a certificate");
        assert!(read(&shown)? == read(&der)?, "{} shows another certificate", module.display());
        Ok(())
    }

    fn ykman(&self, arguments: &[&str]) -> Result<Answer, Failure> {
        let mut command = self.readers.command(&ykman()?);
        run(command.arg("piv").args(arguments).current_dir(self.path(".")))?.success()
    }

    /// The key signs through a PKCS#11 module, and the certificate verifies it.
    fn signs(&self, module: &Path, key: &str, certificate: &Path) -> Story {
        let (message, signature) = (self.path("message"), self.path("signature"));
        let (mechanism, rest): (_, &[&str]) = match key {
            "rsa2048" => ("SHA256-RSA-PKCS", &["-rawin", "-digest", "sha256"]),
            _ => ("ECDSA", &[]),
        };
        fs::write(&message, [0x5a; 32]).doing("write a message")?;
        let mut sign = self.readers.command(&peer("pkcs11-tool")?);
        sign.arg("--module").arg(module).args(["--login", "--pin", PIN, "--sign", "--id", "01"]);
        sign.args(["--mechanism", mechanism, "--signature-format", "openssl"]);
        run(sign.arg("--input-file").arg(&message).arg("--output-file").arg(&signature))?
            .success()?;
        let mut check = openssl()?;
        check.args(["pkeyutl", "-verify", "-certin", "-inkey"]).arg(certificate);
        check.arg("-in").arg(&message).arg("-sigfile").arg(&signature).args(rest);
        run(&mut check)?.success().map(drop)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.office.path(name)
    }

    fn write(&self, name: &str, secret: &str) -> Story {
        fs::write(self.path(name), secret).doing("write a secret")?;
        let mode = fs::Permissions::from_mode(0o600);
        fs::set_permissions(self.path(name), mode).doing("close a file")
    }
}
