//! `chancery-card enroll` and `renew`: from an empty slot to a certificate of the appliance in one
//! go, whenever the card is pulled. Other programs read back what is on the card.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use harness::{
    Doing, Failure, Story,
    https::Identity,
    office::Office,
    openssl::{openssl, verify_with_crl},
    peers::peer,
    process::{Answer, run},
    readers::{Readers, opensc_module, ykcs11_module},
    virtual_card::{Kind, VirtualCard},
};
use serde_json::Value;

const PIN: &str = "83621947";
const UPN: &str = "alice@corp.example.test";
const HOLDER_ID: u32 = 0x5f_c102;
const AUTHENTICATION: u32 = 0x5f_c105;
const SERIAL: u32 = 12_345_678;
/// The readers of the bench.
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

const ENROLL: [&str; 6] = ["enroll", "--slot", "9a", "--upn", UPN, "--no-attestation"];

/// An office, a reader, and Alice's profile.
struct Bench {
    office: Office,
    alice: Identity,
    readers: Readers,
}

impl Bench {
    fn open() -> Result<Self, Failure> {
        let office = Office::open()?;
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
        self.readers.insert(0, &card)?;
        self.run(&["init", "--from-defaults", "--puk-file", "puk"])?.success()?;
        Ok(card)
    }

    /// With the PIN in its file, for commands that show it.
    fn run(&self, arguments: &[&str]) -> Result<Answer, Failure> {
        let shown: &[&str] = if arguments[0] == "inspect" { &[] } else { &["--pin-file", "pin"] };
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
        let mut ykman = self.readers.command(&peer("ykman")?);
        ykman.args(["piv", "certificates", "export", "9a", "read.pem"]);
        run(ykman.current_dir(self.office.path(".")))?.success()?;
        let read = self.office.path("read.pem");
        let text = fs::read_to_string(&read).doing("read a certificate")?;
        assert_eq!(text.trim_end(), issued.stdout.trim_end());
        verify_with_crl(&self.office, "issuing", &read)?.success()?;
        for module in [ykcs11_module()?, opensc_module()?] {
            self.signs(&module, key, &read)?;
        }
        Ok(())
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
