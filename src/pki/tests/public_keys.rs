//! Public keys as `ssh-keygen` and `openssl` write them.

#![expect(clippy::expect_used, clippy::unwrap_used, reason = "a test ends where it fails")]

use std::{fs, process::Command};

use pki::keys::{KeyAlgorithm, KeyError, PublicKey};
use proptest::prelude::*;

#[test]
fn keys_of_ssh_keygen_are_read_and_written_as_it_does() {
    for (options, algorithm) in [
        (&["-t", "ed25519"][..], KeyAlgorithm::Ed25519),
        (&["-t", "ecdsa", "-b", "256"], KeyAlgorithm::EcP256),
        (&["-t", "ecdsa", "-b", "384"], KeyAlgorithm::EcP384),
        (&["-t", "rsa", "-b", "2048"], KeyAlgorithm::Rsa2048),
        (&["-t", "rsa", "-b", "3072"], KeyAlgorithm::Rsa3072),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("key");
        let path = file.to_str().unwrap();
        run("ssh-keygen", &[&["-q", "-N", "", "-C", "a comment", "-f", path], options].concat());
        let line = fs::read_to_string(file.with_extension("pub")).unwrap();

        let key = PublicKey::from_openssh(&line).unwrap();
        assert_eq!(key.algorithm(), algorithm);
        assert_eq!(format!("{} a comment\n", key.to_openssh()), line);
        assert_eq!(key.check_offered(), Ok(()));
        assert_eq!(PublicKey::from_pem(&key.to_pem()), Ok(key.clone()));
        if algorithm != KeyAlgorithm::Ed25519 {
            // ssh-keygen knows no such form for Ed25519.
            assert_eq!(run("ssh-keygen", &["-e", "-m", "PKCS8", "-f", path]), key.to_pem());
        }

        // Its own certificate is no key (CVE-2025-49825).
        run("ssh-keygen", &["-q", "-s", path, "-I", "me", "-n", "me", &format!("{path}.pub")]);
        let certificate = fs::read_to_string(directory.path().join("key-cert.pub")).unwrap();
        let refused = PublicKey::from_openssh(&certificate);
        assert!(matches!(&refused, Err(KeyError::Malformed(what)) if what.contains("certificate")));
        // Nor when its first word says otherwise.
        let (_, rest) = certificate.split_once(' ').unwrap();
        let (name, _) = line.split_once(' ').unwrap();
        assert!(PublicKey::from_openssh(&format!("{name} {rest}")).is_err());
    }
}

#[test]
fn keys_of_openssl_are_taken_only_in_the_one_form_of_each() {
    let ec = |options: &str| format!("openssl ecparam -name {options} -genkey -noout");
    for (make, public, algorithm) in [
        (ec("prime256v1"), "openssl pkey -pubout", Some(KeyAlgorithm::EcP256)),
        (ec("secp384r1"), "openssl pkey -pubout", Some(KeyAlgorithm::EcP384)),
        (
            "openssl genpkey -algorithm ed25519".into(),
            "openssl pkey -pubout",
            Some(KeyAlgorithm::Ed25519),
        ),
        ("openssl genrsa 2048".into(), "openssl pkey -pubout", Some(KeyAlgorithm::Rsa2048)),
        (ec("secp521r1"), "openssl pkey -pubout", None),
        (ec("secp256k1"), "openssl pkey -pubout", None),
        (ec("prime256v1"), "openssl ec -pubout -conv_form compressed", None),
        (ec("prime256v1"), "openssl ec -pubout -param_enc explicit", None),
        ("openssl genpkey -algorithm ed448".into(), "openssl pkey -pubout", None),
        ("openssl genrsa 1024".into(), "openssl pkey -pubout", None),
        ("openssl genrsa 2056".into(), "openssl pkey -pubout", None),
        ("openssl genpkey -algorithm rsa-pss".into(), "openssl pkey -pubout", None),
    ] {
        let pem = run("sh", &["-c", &format!("{make} 2>/dev/null | {public} 2>/dev/null")]);
        assert!(pem.starts_with("-----BEGIN PUBLIC KEY-----"), "{make}: openssl wrote {pem:?}");
        let key = PublicKey::from_pem(&pem);
        assert_eq!(key.as_ref().ok().map(PublicKey::algorithm), algorithm, "{make} | {public}");
        if let Ok(key) = key {
            assert_eq!(key.to_pem(), pem);
        }
    }
}

proptest! {
    #[test]
    fn changed_bytes_give_another_key_or_an_error(at in 0usize..91, value: u8) {
        let der = hex::decode(P256_SPKI).unwrap();
        let mut changed = der.clone();
        changed[at] = value;
        if let Ok(key) = PublicKey::from_spki_der(&changed) {
            prop_assert_eq!(key.spki_der(), &changed[..]);
        }
    }

    #[test]
    fn any_line_gives_a_key_or_an_error(name in "(ssh-(ed25519|rsa|dss)|ecdsa-sha2-nistp256)", blob: Vec<u8>) {
        use base64ct::{Base64, Encoding};

        let line = format!("{name} {}", Base64::encode_string(&blob));
        prop_assert!(PublicKey::from_openssh(&line).is_err());
    }
}

/// The generator of P-256 as a key.
const P256_SPKI: &str = "3059301306072a8648ce3d020106082a8648ce3d030107034200046b17d1f2e12c4247\
                         f8bce6e563a440f277037d812deb33a0f4a13945d898c2964fe342e2fe1a7f9b8ee7eb\
                         4a7c0f9e162bce33576b315ececbb6406837bf51f5";

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().expect("the program is installed");
    assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}
