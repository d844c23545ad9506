//! `chancery-card request` and `install` put a key and its certificate into a slot, whenever the
//! card is pulled. OpenSSL issues the certificates; ykman and two PKCS#11 modules read them back.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use harness::{
    Doing, Failure, Story,
    openssl::{self, openssl},
    peers::{ours, peer},
    process::{Answer, run},
    readers::{Readers, opensc_module, ykcs11_module},
    virtual_card::{Fault, Kind, VirtualCard},
};
use serde_json::Value;

const PIN: &str = "83621947";
const AUTHENTICATION: u32 = 0x5f_c105;
const HOLDER_ID: u32 = 0x5f_c102;
const CONTAINER_MAP: u32 = 0x5f_ff10;

#[test]
fn a_key_of_each_kind_is_certified_and_read_back_by_others() -> Story {
    for (kind, key) in [
        (Kind::YubiKey54, "rsa2048"),
        (Kind::YubiKey57, "rsa2048"),
        (Kind::YubiKey57, "p256"),
        (Kind::YubiKey57, "p384"),
    ] {
        let bench = Bench::new(kind)?;
        let attestation = ["--key", key, "--attestation", "attested.pem"];
        bench.request(&attestation)?.success()?;
        bench.is_attested()?;
        bench.issue()?;
        bench.install()?.success()?;

        let told = bench.inspect()?;
        let slot = &told["slots"][0];
        assert_eq!((&slot["slot"], &slot["key"]["algorithm"]), (&"9a".into(), &key.into()));
        assert_eq!(slot["certificate"]["present"]["matches_key"], true);
        bench.ykman(&["certificates", "export", "9a", "read.pem"])?.success()?;
        assert_eq!(bench.read("read.pem")?, bench.read("card.pem")?);
        for module in [ykcs11_module()?, opensc_module()?] {
            bench.signs(&module, key)?;
        }
        // Of this slot, the card takes a PIN only right before it signs.
        let signature = ["request", "--slot", "9c", "--key", key, "--pin-file", "pin"];
        bench.chancery_card(&[&signature[..], &["--out", "other.csr"]].concat())?.success()?;
    }
    Ok(())
}

#[test]
fn a_request_that_was_interrupted_anywhere_is_made_by_the_same_command() -> Story {
    let bench = Bench::new(Kind::YubiKey57)?;
    bench.card.take_transcript();
    bench.request(&["--key", "p256"])?.success()?;
    let commands = bench.card.take_transcript().len();
    for at in 1..=commands {
        for fault in [Fault::PulledBefore(at), Fault::PulledAfter(at)] {
            let bench = bench.with_new_card()?;
            bench.card.fail(Some(fault));
            bench.request(&["--key", "p256"])?.refused("the card was pulled")?;
            bench.insert_again()?;
            bench.request(&["--key", "p256"])?.success()?;
            let fingerprint = &bench.inspect()?["slots"][0]["key"]["fingerprint"];
            assert_eq!(bench.fingerprint_of_request()?, *fingerprint, "{fault:?}");
            assert_eq!(bench.card.tries_left(), (3, 3), "{fault:?}");
        }
    }
    Ok(())
}

#[test]
fn an_installation_that_was_interrupted_anywhere_is_finished_by_the_same_command() -> Story {
    let bench = Bench::new(Kind::YubiKey57)?;
    bench.request(&["--key", "p256"])?.success()?;
    bench.issue()?;
    bench.card.take_transcript();
    bench.install()?.success()?;
    let commands = bench.card.take_transcript().len();
    for at in 1..=commands {
        for fault in [Fault::PulledBefore(at), Fault::PulledAfter(at)] {
            bench.card.set_object(AUTHENTICATION, None);
            let before = bench.card.object(HOLDER_ID);
            bench.card.fail(Some(fault));
            bench.install()?.refused("the card was pulled")?;
            bench.insert_again()?;
            bench.install()?.success()?;
            let slot = &bench.inspect()?["slots"][0];
            assert_eq!(slot["certificate"]["present"]["matches_key"], true, "{fault:?}");
            assert_ne!(bench.card.object(HOLDER_ID), before, "{fault:?}");
            assert_eq!(bench.card.tries_left(), (3, 3), "{fault:?}");
        }
    }
    Ok(())
}

#[test]
fn a_key_in_use_is_not_lost_and_no_certificate_gets_to_another_key() -> Story {
    let bench = Bench::new(Kind::YubiKey57)?;
    bench.request(&["--key", "p256"])?.success()?;
    bench.issue()?;
    // The same key again, while there is no certificate; of another kind, not without a word.
    let first = bench.fingerprint_of_request()?;
    bench.request(&["--key", "p256"])?.success()?;
    assert_eq!(bench.fingerprint_of_request()?, first);
    bench
        .request(&["--key", "p384"])?
        .refused("slot 9a is in use: it has a key of another kind")?;
    bench.install()?.success()?;
    bench.request(&["--key", "p256"])?.refused("slot 9a is in use: it has a certificate")?;
    bench.request(&["--key", "p256", "--replace"])?.success()?;
    assert_ne!(bench.fingerprint_of_request()?, first);
    bench.install()?.refused("the certificate is not for the key in slot 9a")?;

    // Of a wrong PIN, one try is gone, and nothing was made.
    bench.write("pin", "00000000")?;
    bench.request(&["--key", "p256", "--replace"])?.refused("the PIN is wrong: 2 tries left")?;
    bench.install()?.refused("the certificate is not for the key")?;
    assert_eq!(bench.card.tries_left(), (2, 3));
    Ok(())
}

#[test]
fn the_names_that_windows_gave_to_keys_stay_right_or_nothing_is_written() -> Story {
    let bench = Bench::new(Kind::YubiKey57)?;
    bench.request(&["--key", "p256"])?.success()?;
    bench.issue()?;
    bench.card.set_object(CONTAINER_MAP, Some(&container_map(0x9c)));
    bench.install()?.refused("it has no record of the slot")?;
    assert_eq!(bench.card.object(AUTHENTICATION), None);
    bench.card.set_object(CONTAINER_MAP, Some(b"\x53\x03\x81\x01\x00"));
    bench.install()?.refused("1 bytes are left over")?;
    bench.card.set_object(CONTAINER_MAP, Some(&container_map(0x9a)));
    bench.install()?.success()?;

    let mut fingerprint = openssl()?;
    fingerprint
        .args(["x509", "-noout", "-fingerprint", "-sha1", "-in"])
        .arg(bench.path("card.pem"));
    let told = run(&mut fingerprint)?.success()?.stdout.replace(':', "").to_lowercase();
    let container = &bench.inspect()?["container_map"]["present"]["containers"][0];
    let certificate = container["certificate"].as_str().unwrap_or("none");
    assert!(told.trim_end().ends_with(certificate), "{told} {container}");
    assert_eq!(container["name"], "k");
    Ok(())
}

/// One record, of a key `k`.
fn container_map(slot: u8) -> Vec<u8> {
    let mut record = vec![0; 107];
    (record[0], record[80], record[81]) = (b'k', slot, 1);
    [vec![0x53, 0x6d, 0x81, 0x6b], record].concat()
}

/// A card that was made ready, and a CA.
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
        let bench = Self { card, readers: readers.into(), directory: directory.into() };
        bench.write("pin", PIN)?;
        bench.write("puk", "55501234")?;
        bench.make_ready()?;
        openssl::generate("ec:P-256", &bench.path("ca.key"))?;
        let mut ca = openssl()?;
        ca.args(["req", "-x509", "-batch", "-sha256", "-days", "30", "-subj", "/CN=ca", "-key"]);
        run(ca.arg(bench.path("ca.key")).arg("-out").arg(bench.path("ca.pem")))?.success()?;
        Ok(bench)
    }

    fn with_new_card(&self) -> Result<Self, Failure> {
        let card = VirtualCard::new(Kind::YubiKey57, 12_345_678)?;
        let (readers, directory) = (self.readers.clone(), self.directory.clone());
        let bench = Self { card, readers, directory };
        bench.make_ready()?;
        Ok(bench)
    }

    fn make_ready(&self) -> Story {
        self.readers.insert(0, &self.card)?;
        let init = ["init", "--from-defaults", "--pin-file", "pin", "--puk-file", "puk"];
        self.chancery_card(&init)?.success().map(drop)
    }

    fn insert_again(&self) -> Story {
        self.card.fail(None);
        self.readers.insert(0, &self.card)
    }

    fn request(&self, more: &[&str]) -> Result<Answer, Failure> {
        let request = ["request", "--slot", "9a", "--pin-file", "pin", "--out", "card.csr"];
        self.chancery_card(&[&request, more].concat())
    }

    fn install(&self) -> Result<Answer, Failure> {
        let install = ["install", "--slot", "9a", "--pin-file", "pin", "--certificate", "card.pem"];
        self.chancery_card(&install)
    }

    fn inspect(&self) -> Result<Value, Failure> {
        let told = self.chancery_card(&["inspect", "--json"])?.success()?.stdout;
        serde_json::from_str(&told).doing("read JSON")
    }

    fn chancery_card(&self, arguments: &[&str]) -> Result<Answer, Failure> {
        let mut command = self.readers.command(&ours("chancery-card")?);
        run(command.args(arguments).current_dir(self.directory.path()))
    }

    fn ykman(&self, arguments: &[&str]) -> Result<Answer, Failure> {
        let mut command = self.readers.command(&peer("ykman")?);
        run(command.arg("piv").args(arguments).current_dir(self.directory.path()))
    }

    /// OpenSSL verifies the request and issues `card.pem`.
    fn issue(&self) -> Story {
        let mut sign = openssl()?;
        sign.args(["x509", "-req", "-sha256", "-days", "30", "-CAcreateserial", "-CA", "ca.pem"]);
        sign.args(["-CAkey", "ca.key", "-in", "card.csr", "-out", "card.pem"]);
        run(sign.current_dir(self.directory.path()))?.success().map(drop)
    }

    /// SHA-256 of the SubjectPublicKeyInfo in the request, whose signature OpenSSL verifies.
    fn fingerprint_of_request(&self) -> Result<String, Failure> {
        let mut request = openssl()?;
        request.args(["req", "-verify", "-noout", "-pubkey", "-in"]).arg(self.path("card.csr"));
        let public = run(&mut request)?.success()?.stdout;
        self.write("request.pub", &public)?;
        let mut convert = openssl()?;
        convert.args(["pkey", "-pubin", "-outform", "DER", "-in"]).arg(self.path("request.pub"));
        run(convert.arg("-out").arg(self.path("request.der")))?.success()?;
        let mut hash = openssl()?;
        hash.args(["dgst", "-sha256", "-r"]).arg(self.path("request.der"));
        let told = run(&mut hash)?.success()?.stdout;
        Ok(told.split_whitespace().next().unwrap_or_default().to_owned())
    }

    /// The attestation leads to the card's root, and is of the key in the request.
    fn is_attested(&self) -> Story {
        fs::write(self.path("root.der"), self.card.attestation_root()).doing("write a root")?;
        let mut convert = openssl()?;
        convert.args(["x509", "-inform", "DER", "-in"]).arg(self.path("root.der"));
        run(convert.arg("-out").arg(self.path("root.pem")))?.success()?;
        let mut check = openssl()?;
        check.args(["verify", "-CAfile", "root.pem", "-untrusted", "attested.pem", "attested.pem"]);
        run(check.current_dir(self.directory.path()))?.success()?;
        let key_of = |kind: &str, file: &str| {
            let mut command = openssl()?;
            command.args([kind, "-noout", "-pubkey", "-in"]).arg(self.path(file));
            Ok(run(&mut command)?.success()?.stdout)
        };
        assert_eq!(key_of("x509", "attested.pem")?, key_of("req", "card.csr")?);
        Ok(())
    }

    /// The key signs through a PKCS#11 module, and the certificate verifies it.
    fn signs(&self, module: &Path, key: &str) -> Story {
        let (mechanism, rest): (_, &[&str]) = match key {
            "rsa2048" => ("SHA256-RSA-PKCS", &["-rawin", "-digest", "sha256"]),
            _ => ("ECDSA", &[]),
        };
        fs::write(self.path("message"), [0x5a; 32]).doing("write a message")?;
        let mut sign = self.readers.command(&peer("pkcs11-tool")?);
        sign.arg("--module").arg(module).args(["--login", "--pin", PIN, "--sign", "--id", "01"]);
        sign.args(["--mechanism", mechanism, "--signature-format", "openssl"]);
        sign.args(["--input-file", "message", "--output-file", "signature"]);
        run(sign.current_dir(self.directory.path()))?.success()?;
        let mut check = openssl()?;
        check.args(["pkeyutl", "-verify", "-certin", "-inkey", "card.pem", "-in", "message"]);
        check.args(["-sigfile", "signature"]).args(rest).current_dir(self.directory.path());
        run(&mut check)?.success().map(drop)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn read(&self, name: &str) -> Result<String, Failure> {
        fs::read_to_string(self.path(name)).doing(format_args!("read {name}"))
    }

    fn write(&self, name: &str, text: &str) -> Story {
        fs::write(self.path(name), text).doing(format_args!("write {name}"))?;
        let mode = fs::Permissions::from_mode(0o600);
        fs::set_permissions(self.path(name), mode).doing("close a file")
    }
}
