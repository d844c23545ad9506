//! The virtual card is taken for a YubiKey by programs that know real ones: Yubico's ykman and
//! ykcs11, and OpenSC. OpenSSL verifies what its keys signed.

use std::{fs, path::Path};

use harness::{
    Doing, Failure, Story,
    desk::Desk,
    openssl::{openssl, verify},
    peers::peer,
    process::run,
    readers::{opensc_module, ykcs11_module},
    virtual_card::{DEFAULT_MANAGEMENT_KEY, DEFAULT_PIN, Fault, Kind, Status, VirtualCard},
};

#[test]
fn ykman_ykcs11_and_opensc_use_both_firmwares() -> Story {
    for (kind, version) in [(Kind::YubiKey54, "5.4.3"), (Kind::YubiKey57, "5.7.1")] {
        let bench = Bench::new(kind)?;
        let told = bench.desk.ykman(&["info"])?.success()?.stdout;
        assert!(told.contains(version) && told.contains("12345678"), "{told}");

        bench.certify("9a", "RSA2048")?;
        bench.certify("9e", "ECCP384")?;
        bench.attests("9a")?;
        for module in [ykcs11_module()?, opensc_module()?] {
            bench.signs(&module, "01", "SHA256-RSA-PKCS", "9a")?;
            bench.signs(&module, "04", "ECDSA", "9e")?;
        }
    }
    Ok(())
}

#[test]
fn a_card_that_is_pulled_has_done_what_it_did_before() -> Story {
    let bench = Bench::new(Kind::YubiKey57)?;
    let change = ["piv", "access", "change-pin", "-P", DEFAULT_PIN, "-n", "654321"];
    bench.desk.ykman(&change)?.success()?;
    let commands = bench.card.take_transcript();
    let at = commands.iter().position(|it| it.instruction == CHANGE_REFERENCE_DATA);
    let at = at.ok_or_else(|| Failure::new("ykman changed no PIN"))? + 1;

    // Before it is carried out, and after: the same command then finds another PIN.
    let back = ["piv", "access", "change-pin", "-P", "654321", "-n", DEFAULT_PIN];
    bench.card.fail(Some(Fault::PulledBefore(at)));
    bench.desk.ykman(&back)?.refused("")?;
    bench.insert()?;
    bench.card.fail(Some(Fault::PulledAfter(at)));
    bench.desk.ykman(&back)?.refused("")?;
    bench.insert()?;
    bench.card.fail(None);
    bench.desk.ykman(&back)?.refused("2 tries left")?;
    bench.desk.ykman(&change)?.success()?;
    Ok(())
}

#[test]
fn a_status_is_answered_as_it_was_told_and_a_locked_pin_stays_locked() -> Story {
    let bench = Bench::new(Kind::YubiKey57)?;
    bench.card.fail(Some(Fault::Refuses(GET_METADATA, Status::UNKNOWN_INSTRUCTION)));
    bench.desk.ykman(&["piv", "info"])?.refused("SW=0x6d00")?;
    bench.card.fail(None);
    bench.card.set_pin_tries_left(1);
    bench
        .desk
        .ykman(&["piv", "access", "change-pin", "-P", "111111", "-n", "222222"])?
        .refused("")?;
    assert_eq!(bench.card.tries_left(), (0, 3));
    let right = ["piv", "access", "change-pin", "-P", DEFAULT_PIN, "-n", "222222"];
    bench.desk.ykman(&right)?.refused("")?;
    Ok(())
}

/// A card at a desk.
struct Bench {
    desk: Desk,
    card: VirtualCard,
}

impl Bench {
    fn new(kind: Kind) -> Result<Self, Failure> {
        let desk = Desk::new()?;
        let card = desk.insert(kind)?;
        Ok(Self { desk, card })
    }

    fn insert(&self) -> Story {
        self.desk.readers().insert(0, &self.card)
    }

    /// A key and a certificate by itself, as SLOT.key (public) and SLOT.pem.
    fn certify(&self, slot: &str, algorithm: &str) -> Story {
        let (key, certificate) = (format!("{slot}.key"), format!("{slot}.pem"));
        let admin = ["-m", DEFAULT_MANAGEMENT_KEY, slot];
        let generate = [&["piv", "keys", "generate", "-a", algorithm], &admin[..], &[&key]];
        self.desk.ykman(&generate.concat())?.success()?;
        let certify = ["piv", "certificates", "generate", "-s", "CN=card", "-P", DEFAULT_PIN];
        self.desk.ykman(&[&certify, &admin[..], &[&key]].concat())?.success()?;
        self.desk.ykman(&["piv", "certificates", "export", slot, &certificate])?.success()?;
        let certificate = self.desk.path(&certificate);
        verify(&certificate, None, "any", &certificate)?.success()?;
        Ok(())
    }

    fn attests(&self, slot: &str) -> Story {
        self.desk.ykman(&["piv", "keys", "attest", slot, "attested.pem"])?.success()?;
        self.desk.ykman(&["piv", "certificates", "export", "f9", "f9.pem"])?.success()?;
        let (der, root) = (self.desk.path("root.der"), self.desk.path("root.pem"));
        fs::write(&der, self.card.attestation_root()).doing("write the root")?;
        let mut convert = openssl()?;
        convert.args(["x509", "-inform", "DER", "-in"]).arg(der).arg("-out").arg(&root);
        run(&mut convert)?.success()?;
        let mut check = openssl()?;
        check
            .arg("verify")
            .arg("-CAfile")
            .arg(root)
            .arg("-untrusted")
            .arg(self.desk.path("f9.pem"));
        run(check.arg(self.desk.path("attested.pem")))?.success()?;
        Ok(())
    }

    /// OpenSSL verifies a signature over a digest of 48 bytes, or over those as a message.
    fn signs(&self, module: &Path, id: &str, mechanism: &str, slot: &str) -> Story {
        let (message, signature) = (self.desk.path("message"), self.desk.path("signature"));
        fs::write(&message, [0x5a; 48]).doing("write a message")?;
        let mut sign = self.desk.command(&peer("pkcs11-tool")?);
        sign.arg("--module").arg(module).args(["--login", "--pin", DEFAULT_PIN, "--sign"]);
        sign.args(["--id", id, "--mechanism", mechanism, "--signature-format", "openssl"]);
        sign.arg("--input-file").arg(&message).arg("--output-file").arg(&signature);
        run(&mut sign)?.success()?;

        let mut check = openssl()?;
        check
            .args(["pkeyutl", "-verify", "-pubin", "-inkey"])
            .arg(self.desk.path(slot).with_extension("key"));
        check.arg("-sigfile").arg(signature).arg("-in").arg(message);
        if mechanism.starts_with("SHA256") {
            check.args(["-rawin", "-digest", "sha256"]);
        }
        run(&mut check)?.success()?;
        Ok(())
    }
}

const CHANGE_REFERENCE_DATA: u8 = 0x24;
const GET_METADATA: u8 = 0xf7;
