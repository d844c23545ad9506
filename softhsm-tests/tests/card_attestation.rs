//! Cards that attest their keys, and requests that lie: what a card says of itself is believed where
//! its maker is trusted, a card has one holder, and whatever else is asked for is refused by name.

use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt, path::PathBuf};

use harness::{
    Doing, Failure, Story,
    https::{Identity, Request},
    office::{Office, http_send},
    openssl::{self, openssl},
    peers::{ours, ykman},
    process::{Answer, run},
    readers::Readers,
    virtual_card::{DEFAULT_MANAGEMENT_KEY, Kind, VirtualCard},
};
use serde_json::{Value, json};

const PIN: &str = "83621947";
const SERIAL: u32 = 12_345_678;
/// By which ykman knows a card.
const YUBIKEY: &str = "Yubico YubiKey OTP+FIDO+CCID";
const DOMAIN: &str = "corp.example.test";

const RULES: &str = r#"
[[role]]
name = "attested"
callers = ["spiffe://example.test/user/*"]
issuer = "issuing"
max_ttl = "8h"
[role.smartcard_logon]
upns = ["{name}@corp.example.test"]
min_firmware = "5.7.0"
"#;

#[test]
fn a_card_is_its_holders_until_an_operator_takes_it() -> Story {
    let mut bench = Bench::new()?;
    bench.attest("alice")?;

    // Without the card's word there is nothing; with it, it goes into the ledger.
    let told = bench.ask("alice", &[])?.refused("the request has no attestation")?;
    assert!(told.output().contains("attestation-needed"), "{}", told.output());
    let issued = bench.ask("alice", &["--attestation", "alice.att", "--json"])?.success()?;
    let issued: Value = serde_json::from_str(&issued.stdout).doing("read JSON")?;
    let serial = issued["serial"].as_str().unwrap_or_default().to_owned();
    let record = bench.operator(&["show", "issuing", &serial, "--json"])?;
    let key = &record["card"];
    assert_eq!((&key["card"], &key["slot"]), (&SERIAL.into(), &"9a".into()), "{record}");
    assert_eq!((&key["firmware"], &key["pin_policy"]), (&"5.7.1".into(), &"once".into()));
    let account = json!({ "upn": format!("alice@{DOMAIN}"), "sid": ALICE, "source": "rules" });
    assert_eq!(record["account"], account);
    bench.attestation_is_kept()?;

    // The same holder gets more for it, nobody else anything, also after a crash.
    bench.ask("alice", &["--attestation", "alice.att"])?.success()?;
    bench.copy("alice", "bob")?;
    bench.ask("bob", &["--attestation", "bob.att"])?.refused("somebody else's")?;
    bench.office.kill();
    bench.office.restart()?;
    bench.ask("bob", &["--attestation", "bob.att"])?.refused("card-held")?;
    let cards = bench.operator(&["card", "show", &SERIAL.to_string(), "--json"])?;
    assert_eq!(cards["card"]["holder"], format!("alice@{DOMAIN}"), "{cards}");
    assert_eq!(
        (&cards["card"]["state"], &cards["card"]["certificates"]),
        (&"held".into(), &2.into())
    );

    // Released, its certificates are revoked, and it is the next one's.
    bench.take("release", "alice has a new one")?;
    assert!(bench.revocation_list()?.contains(&serial.to_uppercase()), "{serial}");
    bench.ask("bob", &["--attestation", "bob.att"])?.success()?;
    bench.ask("alice", &["--attestation", "alice.att"])?.refused("card-held")?;

    // Removed, it is nobody's, and gets nothing until it is found again.
    let removed = bench.take("remove", "left in a train")?;
    assert_eq!((&removed["revoked"], &removed["card"]["state"]), (&1.into(), &"removed".into()));
    bench.ask("bob", &["--attestation", "bob.att"])?.refused("card-blocked")?;
    let problem =
        bench.post("card", &bench.read("alice.csr")?, None)?.expect_status(403)?.json()?;
    assert_eq!(problem["reason"], "card-blocked", "its key, without its word");
    bench.take("release", "found, and wiped")?;
    bench.ask("alice", &["--attestation", "alice.att"])?.success()?;

    let text = bench.chancery(None, &["card", "list"])?.success()?.stdout;
    assert!(text.contains("SERIAL") && text.contains(&format!("alice@{DOMAIN}")), "{text}");
    let alice = Some(&bench.people["alice"]);
    let denied = bench.office.https(alice)?.get("/v1/cards")?.expect_status(403)?.json()?;
    assert_eq!(denied["reason"], "not-an-operator");
    let unknown = bench.chancery(None, &["card", "remove", "1", "--reason", "none"])?;
    unknown.refused("no card 1 has attested a key")?;
    bench.audited(
        &["attestation-needed", "card-held", "card-blocked", "not-an-operator"],
        &[("card_registered", 3), ("card_taken", 3)],
    )
}

#[test]
fn a_locked_card_gets_nothing_and_what_it_had_is_taken_back() -> Story {
    let mut bench = Bench::new()?;
    bench.attest("alice")?;
    let target = format!("card:{SERIAL}");
    let issued = bench.ask("alice", &["--attestation", "alice.att", "--json"])?.success()?;
    let issued: Value = serde_json::from_str(&issued.stdout).doing("read JSON")?;
    let serial = issued["serial"].as_str().unwrap_or_default().to_uppercase();
    // Of the same key without the card's word, it is the card's all the same.
    let alone = || bench.post("card", &bench.read("alice.csr")?, None);
    alone()?.expect_status(201)?;
    let preview = bench.operator(&["lock", "preview", &target, "--json"])?;
    assert_eq!(preview["certificates"], 2, "{preview}");
    let none = bench.operator(&["lock", "preview", "card:87654321", "--json"])?;
    assert_eq!(none["certificates"], 0, "{none}");

    // Whoever asks, by whatever key of its: refused, also after a crash.
    let lock = ["lock", "add", &target, "--reason", "left in a taxi", "--yes", "--wait", "30s"];
    let told = bench.chancery(None, &lock)?.success()?.stdout;
    assert!(told.contains("2 certificates") && told.contains("Kerberos"), "{told}");
    assert!(bench.revocation_list()?.contains(&serial), "{serial}");
    let told = bench.ask("alice", &["--attestation", "alice.att"])?.refused("locked")?;
    assert!(told.stderr.contains(&target), "{}", told.stderr);
    assert_eq!(alone()?.expect_status(403)?.json()?["reason"], "locked");
    bench.office.kill();
    bench.office.restart()?;
    bench.card(&["wipe", "--slot", "9a", "--confirm", &SERIAL.to_string()])?.success()?;
    bench.attest("bob")?;
    bench.ask("bob", &["--attestation", "bob.att"])?.refused(&format!("{target} is locked"))?;

    // She goes on without it; and with it when it was found.
    openssl::generate("ec:P-256", &bench.path("other.key"))?;
    openssl::request(&bench.path("other.key"), "/CN=alice", &[], &bench.path("other.csr"))?;
    bench.post("card", &bench.read("other.csr")?, None)?.expect_status(201)?;
    let unlock = ["lock", "remove", &target, "--reason", "it was in the car"];
    bench.chancery(None, &unlock)?.success()?;
    bench.copy("bob", "alice")?;
    bench.ask("alice", &["--attestation", "alice.att"])?.success()?;
    bench.audited(&["locked"], &[("locked", 1), ("unlocked", 1), ("card_registered", 1)])
}

#[test]
fn a_card_that_is_no_card_or_says_what_is_not_so_is_refused_by_name() -> Story {
    let bench = Bench::new()?;
    bench.attest("alice")?;
    let genuine = bench.attestation("alice.att")?;
    let file = |name: &str| bench.read(name);
    let tls = fs::read_to_string(&bench.people["alice"].certificate).doing("read a certificate")?;

    // A key that was imported: the card says nothing of it, and nobody else can.
    let key = bench.path("imported.key");
    openssl::generate("ec:P-256", &key)?;
    let import = ["piv", "keys", "import", "-m", DEFAULT_MANAGEMENT_KEY, "9a", "imported.key"];
    bench.stranger(&import)?.success()?;
    let refused = bench.stranger(&["piv", "keys", "attest", "9a", "nothing.pem"])?;
    assert!(!refused.status.success(), "{}", refused.output());
    openssl::request(&key, "/CN=YubiKey PIV Attestation 9a", &[], &bench.path("imported.csr"))?;
    let csr = file("imported.csr")?;
    let forged = bench.forge("Virtual PIV Root CA", "Virtual PIV Attestation")?;
    let foreign = bench.forge("Somebody", "Somebody's attestation")?;

    // A genuine card of a maker that is not trusted; its root has the same name.
    let generate = ["piv", "keys", "generate", "-m", DEFAULT_MANAGEMENT_KEY, "9a", "s.pub"];
    bench.stranger(&generate)?.success()?;
    bench.stranger(&["piv", "keys", "attest", "9a", "s.pem"])?.success()?;
    bench.stranger(&["piv", "certificates", "export", "f9", "f9.pem"])?.success()?;
    let stranger = json!({ "statement": file("s.pem")?, "intermediate": file("f9.pem")? });

    let pair = |statement: &Value, intermediate: &Value| json!({ "statement": statement, "intermediate": intermediate });
    let (statement, intermediate) = (&genuine["statement"], &genuine["intermediate"]);
    let torn = json!(statement.as_str().unwrap_or_default().replacen("MII", "MIJ", 1));
    for (what, attestation, reason) in [
        ("one's own statement", pair(&forged["statement"], intermediate), "attestation-forged"),
        ("a maker of the same name", forged.clone(), "attestation-counterfeit"),
        ("a maker of another name", foreign, "attestation-unknown-maker"),
        ("a card that nobody trusts", stranger, "attestation-counterfeit"),
        ("another key's statement", genuine.clone(), "attestation-other-key"),
        ("a statement below itself", pair(statement, statement), "attestation-unknown-maker"),
        ("a torn statement", pair(&torn, intermediate), "attestation-malformed"),
        ("nothing", pair(&json!(""), &json!("")), "attestation-malformed"),
        ("a TLS certificate", pair(&json!(tls), intermediate), "attestation-malformed"),
    ] {
        let status = if reason == "attestation-malformed" { 422 } else { 403 };
        bench.refuses(what, "attested", &csr, Some(attestation), status, reason)?;
    }
    // The card itself is as good as ever.
    bench.ask("alice", &["--attestation", "alice.att"])?.success()?;
    bench.audited(
        &["attestation-forged", "attestation-counterfeit", "attestation-other-key"],
        &[("card_registered", 1)],
    )
}

#[test]
fn a_request_that_asks_for_more_than_a_logon_is_refused_by_name() -> Story {
    let bench = Bench::new()?;
    let upn = |name: &str| format!("otherName:1.3.6.1.4.1.311.20.2.3;UTF8:{name}@{DOMAIN}");
    let own = format!("subjectAltName={}", upn("alice"));
    let key = bench.path("any.key");
    openssl::generate("rsa:2048", &key)?;
    let request = |asked: &[&str]| {
        openssl::request(&key, "/CN=administrator", asked, &bench.path("any.csr"))?;
        bench.read("any.csr")
    };
    for (what, asked, reason) in [
        ("a second UPN", format!("{own},{}", upn("bob")), "csr-upn"),
        ("a UPN twice", format!("{own},{}", upn("alice")), "csr-name"),
        ("another's UPN", format!("subjectAltName={}", upn("bob")), "csr-upn"),
        ("a SID of the administrator", sid(500), "csr-sid"),
        ("a SID of somebody", sid(1105), "csr-sid"),
        (
            "a Kerberos principal",
            "subjectAltName=otherName:1.3.6.1.5.2.2;UTF8:bob".to_owned(),
            "csr-name",
        ),
        ("a KDC's purpose", "extendedKeyUsage=1.3.6.1.5.2.3.5".to_owned(), "csr-key-purpose"),
        ("any purpose", "extendedKeyUsage=anyExtendedKeyUsage".to_owned(), "csr-key-purpose"),
        ("a CA", "basicConstraints=critical,CA:TRUE".to_owned(), "csr-authority"),
        ("a policy", "certificatePolicies=1.2.3.4".to_owned(), "csr-extension"),
    ] {
        bench.refuses(what, "card", &request(&[&asked])?, None, 403, reason)?;
    }
    openssl::generate("rsa:1024", &key)?;
    let answer = bench.post("card", &request(&[])?, None)?;
    let problem = answer.expect_status(422)?.json()?;
    assert!(problem["detail"].as_str().is_some_and(|it| it.contains("1024")), "{problem}");

    // What the account has anyway may be asked for; the subject is the appliance's to say.
    openssl::generate("rsa:2048", &key)?;
    let issued = bench.post("card", &request(&[&own, &sid(1104)])?, None)?;
    let issued = issued.expect_status(201)?.json()?;
    fs::write(bench.path("any.pem"), issued["certificate"].as_str().unwrap_or_default())
        .doing("write a certificate")?;
    let mut show = openssl()?;
    show.args(["x509", "-noout", "-subject", "-in"]).arg(bench.path("any.pem"));
    let subject = run(&mut show)?.success()?.stdout;
    assert!(subject.contains("alice") && !subject.contains("administrator"), "{subject}");
    bench.audited(&["csr-upn", "csr-sid", "csr-name", "csr-key-purpose", "csr-authority"], &[])
}

/// The SID that the office's rules pin.
const ALICE: &str = "S-1-5-21-1004336348-1177238915-682003330-1104";

/// The SID extension (MS-WCCE 2.2.2.7.7.4) of an account in the office's domain.
fn sid(account: u32) -> String {
    let sid = format!("S-1-5-21-1004336348-1177238915-682003330-{account}");
    let length = u8::try_from(sid.len()).unwrap_or(0);
    let head = [0x30, length + 18, 0xa0, length + 16];
    let oid = [0x06, 0x0a, 0x2b, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x19, 0x02, 0x01];
    let value = [&head[..], &oid, &[0xa0, length + 2, 0x04, length], sid.as_bytes()].concat();
    let text: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("1.3.6.1.4.1.311.25.2=DER:{text}")
}

/// An office that trusts the maker of the card in the first reader, and not of that in the second.
struct Bench {
    office: Office,
    readers: Readers,
    people: BTreeMap<&'static str, Identity>,
}

impl Bench {
    fn new() -> Result<Self, Failure> {
        let mut office = Office::prepare()?;
        let card = VirtualCard::new(Kind::YubiKey57, SERIAL)?;
        office.trust_cards(&[&card])?;
        fs::write(office.path("rules/attested.toml"), RULES).doing("write rules")?;
        office.begin()?;
        fs::create_dir(office.path("readers")).doing("make a directory")?;
        let readers = Readers::start(&office.path("readers"), &[YUBIKEY, YUBIKEY])?;
        readers.insert(0, &card)?;
        readers.insert(1, &VirtualCard::new(Kind::YubiKey57, 87_654_321)?)?;
        let mut people = BTreeMap::new();
        for name in ["alice", "bob"] {
            people.insert(name, office.enrol(&format!("user/{name}"))?);
        }
        let bench = Self { office, readers, people };
        for (file, secret) in [("card.pin", PIN), ("card.puk", "55501234")] {
            fs::write(bench.path(file), secret).doing("write a secret")?;
            let mode = fs::Permissions::from_mode(0o600);
            fs::set_permissions(bench.path(file), mode).doing("close a file")?;
        }
        bench.card(&["init", "--from-defaults", "--puk-file", "card.puk"])?.success()?;
        Ok(bench)
    }

    /// The card makes a key and speaks of it: NAME.csr, NAME.att.
    fn attest(&self, name: &str) -> Story {
        let (csr, attestation) = (format!("{name}.csr"), format!("{name}.att"));
        let request = ["request", "--slot", "9a", "--key", "p256", "--out", &csr];
        let attest = ["--attestation", attestation.as_str()];
        self.card(&[&request[..], &attest].concat())?.success().map(drop)
    }

    fn copy(&self, from: &str, to: &str) -> Story {
        for end in ["csr", "att"] {
            let [from, to] = [from, to].map(|name| self.path(&format!("{name}.{end}")));
            fs::copy(from, to).doing("copy a file")?;
        }
        Ok(())
    }

    /// Asks for a certificate for NAME.csr, as this user and for his account.
    fn ask(&self, name: &str, more: &[&str]) -> Result<Answer, Failure> {
        let (csr, upn) = (format!("{name}.csr"), format!("{name}@{DOMAIN}"));
        let ask = ["request", "smartcard", "--role", "attested", "--csr", &csr, "--upn", &upn];
        self.chancery(Some(name), &[&ask[..], more].concat())
    }

    fn post(
        &self,
        role: &str,
        csr: &str,
        attestation: Option<Value>,
    ) -> Result<harness::https::Response, Failure> {
        let mut body = json!({ "role": role, "csr": csr, "upn": format!("alice@{DOMAIN}") });
        if let Some(attestation) = attestation {
            body["attestation"] = attestation;
        }
        self.office.https(Some(&self.people["alice"]))?.post("/v1/issue/smartcard", &body)
    }

    fn refuses(
        &self,
        what: &str,
        role: &str,
        csr: &str,
        attestation: Option<Value>,
        status: u16,
        reason: &str,
    ) -> Story {
        let answer = self.post(role, csr, attestation)?;
        let problem = answer.json()?;
        assert_eq!(
            (answer.status, &problem["reason"]),
            (status, &reason.into()),
            "{what}: {problem}"
        );
        assert!(problem["hint"].as_str().is_some_and(|hint| !hint.is_empty()), "{what}: {problem}");
        Ok(())
    }

    /// Takes the card from its holder, and waits until that is published.
    fn take(&self, how: &str, reason: &str) -> Result<Value, Failure> {
        let serial = SERIAL.to_string();
        let take = ["card", how, &serial, "--reason", reason, "--wait", "30s", "--json"];
        let told = self.chancery(None, &take)?.success()?.stdout;
        serde_json::from_str(told.lines().next().unwrap_or_default()).doing("read JSON")
    }

    /// OpenSSL verifies what the ledger has of the card's word under the maker's root: it is word for
    /// word what the card said, and of the key that was certified.
    fn attestation_is_kept(&self) -> Story {
        let serial = SERIAL.to_string();
        let kept = self.chancery(None, &["card", "show", &serial, "--attestation"])?.success()?;
        assert_eq!(kept.stdout, self.read("alice.att")?);
        let record = self.operator(&["card", "show", &serial, "--json"])?;
        assert_eq!(record["issued"][0]["attestation"], self.attestation("alice.att")?);
        fs::write(self.path("kept.pem"), &kept.stdout).doing("write an attestation")?;
        let mut check = openssl()?;
        check.args(["verify", "-CAfile", "makers.pem", "-untrusted", "kept.pem", "kept.pem"]);
        run(check.current_dir(self.path(".")))?.success()?;
        let key_of = |kind: &str, file: &str| {
            let mut command = openssl()?;
            command.args([kind, "-noout", "-pubkey", "-in"]).arg(self.path(file));
            Ok::<_, Failure>(run(&mut command)?.success()?.stdout)
        };
        assert_eq!(key_of("x509", "kept.pem")?, key_of("req", "alice.csr")?);
        Ok(())
    }

    fn operator(&self, arguments: &[&str]) -> Result<Value, Failure> {
        let told = self.chancery(None, arguments)?.success()?.stdout;
        serde_json::from_str(&told).doing("read JSON")
    }

    /// The list of revoked cards, in words.
    fn revocation_list(&self) -> Result<String, Failure> {
        let request = Request { method: "GET", path: "/crl/issuing.crl", headers: &[], body: b"" };
        let answer = http_send(self.office.public(), &request)?.expect_status(200)?;
        fs::write(self.path("list.crl"), answer.body).doing("write a CRL")?;
        let mut show = openssl()?;
        show.args(["crl", "-inform", "DER", "-noout", "-text", "-in"]).arg(self.path("list.crl"));
        Ok(run(&mut show)?.success()?.stdout)
    }

    /// An attestation of `imported.csr` by a maker who calls himself and his card so.
    fn forge(&self, maker: &str, card: &str) -> Result<Value, Failure> {
        let at = |end: &str| self.path(&format!("forged.{end}"));
        for key in ["maker.key", "card.key"] {
            openssl::generate("ec:P-256", &at(key))?;
        }
        let mut root = openssl()?;
        root.env_remove("OPENSSL_CONF").args(["req", "-x509", "-batch", "-days", "30", "-key"]);
        root.arg(at("maker.key")).args(["-subj", &format!("/CN={maker}")]);
        run(root.arg("-out").arg(at("maker.pem")))?.success()?;
        openssl::request(&at("card.key"), &format!("/CN={card}"), &[], &at("card.csr"))?;
        let ca = "basicConstraints=critical,CA:TRUE\n";
        let statement = "1.3.6.1.4.1.41482.3.3=DER:050701\n1.3.6.1.4.1.41482.3.7=DER:020400bc614e\n\
                         1.3.6.1.4.1.41482.3.8=DER:0201\n";
        for (request, by, extensions, out) in [
            (at("card.csr"), "maker", ca, at("card.pem")),
            (self.path("imported.csr"), "card", statement, at("statement.pem")),
        ] {
            fs::write(at("ext"), extensions).doing("write extensions")?;
            let mut sign = openssl()?;
            sign.args(["x509", "-req", "-sha256", "-days", "30", "-in"]).arg(request);
            sign.arg("-CA")
                .arg(at(&format!("{by}.pem")))
                .arg("-CAkey")
                .arg(at(&format!("{by}.key")));
            sign.arg("-extfile").arg(at("ext")).arg("-out").arg(out);
            run(&mut sign)?.success()?;
        }
        let read = |end: &str| self.read(&format!("forged.{end}"));
        Ok(json!({ "statement": read("statement.pem")?, "intermediate": read("card.pem")? }))
    }

    /// What `chancery-card request --attestation` wrote, as a request has it.
    fn attestation(&self, name: &str) -> Result<Value, Failure> {
        let text = self.read(name)?;
        let begin = text.rfind("-----BEGIN").unwrap_or_default();
        Ok(json!({ "statement": text[..begin], "intermediate": text[begin..] }))
    }

    /// Each of these was a reason for a denial, and each of these acts is there as often.
    fn audited(&self, reasons: &[&str], acts: &[(&str, usize)]) -> Story {
        let records = self.office.audit_records()?;
        for reason in reasons {
            let is_it = |it: &&Value| it["event"] == "denied" && it["reason"] == *reason;
            assert!(records.iter().any(|record| is_it(&record)), "{reason}");
        }
        for (act, times) in acts {
            let found = records.iter().filter(|record| record["event"] == *act).count();
            assert_eq!(found, *times, "{act}");
        }
        Ok(())
    }

    fn chancery(&self, user: Option<&str>, arguments: &[&str]) -> Result<Answer, Failure> {
        let identity = user.map_or(self.office.operator(), |name| &self.people[name]);
        run(&mut self.office.chancery(identity, arguments)?)
    }

    /// The card in the first reader.
    fn card(&self, arguments: &[&str]) -> Result<Answer, Failure> {
        let mut command = self.readers.command(&ours("chancery-card")?);
        command.args(arguments).args(["--serial", &SERIAL.to_string(), "--pin-file", "card.pin"]);
        run(command.current_dir(self.path(".")))
    }

    /// The card in the second reader, whose maker nobody trusts.
    fn stranger(&self, arguments: &[&str]) -> Result<Answer, Failure> {
        let mut command = self.readers.command(&ykman()?);
        command.args(["--reader", self.readers.name(1)]).args(arguments);
        run(command.current_dir(self.path(".")))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.office.path(name)
    }

    fn read(&self, name: &str) -> Result<String, Failure> {
        fs::read_to_string(self.path(name)).doing(format_args!("read {name}"))
    }
}
