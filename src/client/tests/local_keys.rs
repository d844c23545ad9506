//! Keys made here, looked at by the programs that are to use them.

#![expect(clippy::unwrap_used, reason = "a test stops and tells where things are not as it says")]

use std::{fs, path::Path, process::Command};

use client::{
    files::{self, FileError},
    local_key::{LocalKey, LocalSshKey},
    local_rsa_key::LocalRsaKey,
};

#[test]
fn openssl_verifies_a_signing_request_and_finds_its_key() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let key = LocalKey::generate().unwrap();
    files::write_private(&at("key"), key.private_pem().unwrap().as_bytes()).unwrap();
    files::write_public(&at("csr"), key.signing_request().unwrap().as_bytes()).unwrap();

    let request = run("openssl", &["req", "-verify", "-noout", "-pubkey", "-in"], &at("csr"));
    let key = run("openssl", &["pkey", "-pubout", "-in"], &at("key"));
    assert!(key.starts_with("-----BEGIN PUBLIC KEY-----"), "{key}");
    assert_eq!(request, key);
}

#[test]
fn openssl_verifies_a_request_for_an_rsa_key_and_finds_it() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let key = LocalRsaKey::generate().unwrap();
    let text = key.private_pem().unwrap();
    files::write_private(&at("key"), text.as_bytes()).unwrap();
    let again = LocalRsaKey::from_private_pem(&text).unwrap();
    files::write_public(&at("csr"), again.signing_request().unwrap().as_bytes()).unwrap();

    let words = ["req", "-verify", "-noout", "-text", "-pubkey", "-in"];
    let request = run("openssl", &words, &at("csr"));
    let key = run("openssl", &["pkey", "-pubout", "-in"], &at("key"));
    assert!(request.starts_with(&key), "{request}");
    assert!(request.contains("Public-Key: (2048 bit)"), "{request}");
    assert!(
        LocalRsaKey::from_private_pem(&LocalKey::generate().unwrap().private_pem().unwrap())
            .is_err()
    );
}

#[test]
fn ssh_keygen_finds_the_public_key_in_the_private_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("deploy");
    let key = LocalSshKey::generate("deploy").unwrap();
    files::write_private(&path, key.private_text().unwrap().as_bytes()).unwrap();

    let public = run("ssh-keygen", &["-y", "-f"], &path);
    assert_eq!(public.trim_end(), key.public_line().unwrap());
}

#[test]
fn a_private_key_is_its_owners_alone_and_never_replaced() {
    use std::os::unix::fs::PermissionsExt;

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("key");
    files::write_private(&path, b"first").unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    let again = files::write_private(&path, b"second");
    assert!(matches!(again, Err(FileError::Exists(_))), "{again:?}");
    assert_eq!(fs::read(&path).unwrap(), b"first");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing is left behind");
}

fn run(program: &str, arguments: &[&str], file: &Path) -> String {
    let output = Command::new(program).args(arguments).arg(file).output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
