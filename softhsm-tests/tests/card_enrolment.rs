//! `chancery-card request` and `install` put a key and its certificate into a slot, whenever the
//! card is pulled. OpenSSL issues the certificates; ykman and two PKCS#11 modules read them back.

use std::{fs, path::Path};

use harness::{
    Doing, Failure, Story,
    desk::{Desk, PIN},
    openssl::{self, openssl},
    peers::peer,
    process::{Answer, run},
    readers::{opensc_module, ykcs11_module},
    virtual_card::{Fault, Kind, VirtualCard},
};

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
        let bench = Bench::new()?;
        let card = bench.desk.insert_ready(kind)?;
        let attestation = ["--key", key, "--attestation", "attested.pem"];
        bench.request(&attestation)?.success()?;
        bench.is_attested(&card)?;
        bench.issue()?;
        bench.install()?.success()?;

        let told = bench.desk.inspect()?;
        let slot = &told["slots"][0];
        assert_eq!((&slot["slot"], &slot["key"]["algorithm"]), (&"9a".into(), &key.into()));
        assert_eq!(slot["certificate"]["present"]["matches_key"], true);
        bench.desk.ykman(&["piv", "certificates", "export", "9a", "read.pem"])?.success()?;
        assert_eq!(bench.desk.read("read.pem")?, bench.desk.read("card.pem")?);
        for module in [ykcs11_module()?, opensc_module()?] {
            bench.signs(&module, key)?;
        }
        // Of this slot, the card takes a PIN only right before it signs.
        let signature = ["request", "--slot", "9c", "--key", key, "--pin-file", "pin"];
        bench.desk.run(&[&signature[..], &["--out", "other.csr"]].concat())?.success()?;
    }
    Ok(())
}

#[test]
fn a_request_that_was_interrupted_anywhere_is_made_by_the_same_command() -> Story {
    let bench = Bench::new()?;
    let card = bench.desk.insert_ready(Kind::YubiKey57)?;
    card.take_transcript();
    bench.request(&["--key", "p256"])?.success()?;
    let commands = card.take_transcript().len();
    for at in 1..=commands {
        for fault in [Fault::PulledBefore(at), Fault::PulledAfter(at)] {
            let card = bench.desk.insert_ready(Kind::YubiKey57)?;
            let request = [&REQUEST[..], &["--key", "p256"]].concat();
            bench.desk.run_and_pull(&card, fault, &request)?;
            bench.request(&["--key", "p256"])?.success()?;
            let fingerprint = &bench.desk.inspect()?["slots"][0]["key"]["fingerprint"];
            assert_eq!(bench.fingerprint_of_request()?, *fingerprint, "{fault:?}");
            assert_eq!(card.tries_left(), (3, 3), "{fault:?}");
        }
    }
    Ok(())
}

#[test]
fn an_installation_that_was_interrupted_anywhere_is_finished_by_the_same_command() -> Story {
    let bench = Bench::new()?;
    let card = bench.desk.insert_ready(Kind::YubiKey57)?;
    bench.request(&["--key", "p256"])?.success()?;
    bench.issue()?;
    card.take_transcript();
    bench.install()?.success()?;
    let commands = card.take_transcript().len();
    for at in 1..=commands {
        for fault in [Fault::PulledBefore(at), Fault::PulledAfter(at)] {
            card.set_object(AUTHENTICATION, None);
            let before = card.object(HOLDER_ID);
            bench.desk.run_and_pull(&card, fault, &INSTALL)?;
            bench.install()?.success()?;
            let slot = &bench.desk.inspect()?["slots"][0];
            assert_eq!(slot["certificate"]["present"]["matches_key"], true, "{fault:?}");
            assert_ne!(card.object(HOLDER_ID), before, "{fault:?}");
            assert_eq!(card.tries_left(), (3, 3), "{fault:?}");
        }
    }
    Ok(())
}

#[test]
fn a_key_in_use_is_not_lost_and_no_certificate_gets_to_another_key() -> Story {
    let bench = Bench::new()?;
    let card = bench.desk.insert_ready(Kind::YubiKey57)?;
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
    bench.desk.write("pin", "00000000")?;
    bench.request(&["--key", "p256", "--replace"])?.refused("the PIN is wrong: 2 tries left")?;
    bench.install()?.refused("the certificate is not for the key")?;
    assert_eq!(card.tries_left(), (2, 3));
    Ok(())
}

#[test]
fn the_names_that_windows_gave_to_keys_stay_right_or_nothing_is_written() -> Story {
    let bench = Bench::new()?;
    let card = bench.desk.insert_ready(Kind::YubiKey57)?;
    bench.request(&["--key", "p256"])?.success()?;
    bench.issue()?;
    card.set_object(CONTAINER_MAP, Some(&container_map(0x9c)));
    bench.install()?.refused("it has no record of the slot")?;
    assert_eq!(card.object(AUTHENTICATION), None);
    card.set_object(CONTAINER_MAP, Some(b"\x53\x03\x81\x01\x00"));
    bench.install()?.refused("1 bytes are left over")?;
    card.set_object(CONTAINER_MAP, Some(&container_map(0x9a)));
    bench.install()?.success()?;

    let mut fingerprint = openssl()?;
    fingerprint
        .args(["x509", "-noout", "-fingerprint", "-sha1", "-in"])
        .arg(bench.desk.path("card.pem"));
    let told = run(&mut fingerprint)?.success()?.stdout.replace(':', "").to_lowercase();
    let container = &bench.desk.inspect()?["container_map"]["present"]["containers"][0];
    let certificate = container["certificate"].as_str().unwrap_or("none");
    assert!(told.trim_end().ends_with(certificate), "{told} {container}");
    assert_eq!(container["name"], "k");
    Ok(())
}

const REQUEST: [&str; 7] = ["request", "--slot", "9a", "--pin-file", "pin", "--out", "card.csr"];
const INSTALL: [&str; 7] =
    ["install", "--slot", "9a", "--pin-file", "pin", "--certificate", "card.pem"];

/// One record, of a key `k`.
fn container_map(slot: u8) -> Vec<u8> {
    let mut record = vec![0; 107];
    (record[0], record[80], record[81]) = (b'k', slot, 1);
    [vec![0x53, 0x6d, 0x81, 0x6b], record].concat()
}

/// A desk, and a CA.
struct Bench {
    desk: Desk,
}

impl Bench {
    fn new() -> Result<Self, Failure> {
        let desk = Desk::new()?;
        openssl::generate("ec:P-256", &desk.path("ca.key"))?;
        let mut ca = openssl()?;
        ca.args(["req", "-x509", "-batch", "-sha256", "-days", "30", "-subj", "/CN=ca", "-key"]);
        run(ca.arg(desk.path("ca.key")).arg("-out").arg(desk.path("ca.pem")))?.success()?;
        Ok(Self { desk })
    }

    fn request(&self, more: &[&str]) -> Result<Answer, Failure> {
        self.desk.run(&[&REQUEST[..], more].concat())
    }

    fn install(&self) -> Result<Answer, Failure> {
        self.desk.run(&INSTALL)
    }

    /// OpenSSL verifies the request and issues `card.pem`.
    fn issue(&self) -> Story {
        let mut sign = openssl()?;
        sign.args(["x509", "-req", "-sha256", "-days", "30", "-CAcreateserial", "-CA", "ca.pem"]);
        sign.args(["-CAkey", "ca.key", "-in", "card.csr", "-out", "card.pem"]);
        run(sign.current_dir(self.desk.path(".")))?.success().map(drop)
    }

    /// SHA-256 of the SubjectPublicKeyInfo in the request, whose signature OpenSSL verifies.
    fn fingerprint_of_request(&self) -> Result<String, Failure> {
        let mut request = openssl()?;
        request
            .args(["req", "-verify", "-noout", "-pubkey", "-in"])
            .arg(self.desk.path("card.csr"));
        let public = run(&mut request)?.success()?.stdout;
        self.desk.write("request.pub", &public)?;
        let mut convert = openssl()?;
        convert
            .args(["pkey", "-pubin", "-outform", "DER", "-in"])
            .arg(self.desk.path("request.pub"));
        run(convert.arg("-out").arg(self.desk.path("request.der")))?.success()?;
        let mut hash = openssl()?;
        hash.args(["dgst", "-sha256", "-r"]).arg(self.desk.path("request.der"));
        let told = run(&mut hash)?.success()?.stdout;
        Ok(told.split_whitespace().next().unwrap_or_default().to_owned())
    }

    /// The attestation leads to the card's root, and is of the key in the request.
    fn is_attested(&self, card: &VirtualCard) -> Story {
        fs::write(self.desk.path("root.der"), card.attestation_root()).doing("write a root")?;
        let mut convert = openssl()?;
        convert.args(["x509", "-inform", "DER", "-in"]).arg(self.desk.path("root.der"));
        run(convert.arg("-out").arg(self.desk.path("root.pem")))?.success()?;
        let mut check = openssl()?;
        check.args(["verify", "-CAfile", "root.pem", "-untrusted", "attested.pem", "attested.pem"]);
        run(check.current_dir(self.desk.path(".")))?.success()?;
        let key_of = |kind: &str, file: &str| {
            let mut command = openssl()?;
            command.args([kind, "-noout", "-pubkey", "-in"]).arg(self.desk.path(file));
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
        fs::write(self.desk.path("message"), [0x5a; 32]).doing("write a message")?;
        let mut sign = self.desk.command(&peer("pkcs11-tool")?);
        sign.arg("--module").arg(module).args(["--login", "--pin", PIN, "--sign", "--id", "01"]);
        sign.args(["--mechanism", mechanism, "--signature-format", "openssl"]);
        sign.args(["--input-file", "message", "--output-file", "signature"]);
        run(&mut sign)?.success()?;
        let mut check = openssl()?;
        check.args(["pkeyutl", "-verify", "-certin", "-inkey", "card.pem", "-in", "message"]);
        check.args(["-sigfile", "signature"]).args(rest).current_dir(self.desk.path("."));
        run(&mut check)?.success().map(drop)
    }
}
