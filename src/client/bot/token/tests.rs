//! On a real SoftHSM, which reads SOFTHSM2_CONF when it is loaded: each story is this program once
//! more.

use std::{env, fs, os::unix::fs::PermissionsExt as _, process::Command};

use api::{JoinProof, join_statement};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use harness::softhsm::SoftHsm;

use super::*;
use crate::bot::bound_key::BoundKey;

#[test]
fn stories() {
    for story in [
        "a_key_that_logs_in_lives_as_long_as_it_is_used",
        "a_pin_that_was_refused_is_not_tried_again",
        "the_bound_key_signs_the_statement_of_joining",
    ] {
        let directory = tempfile::tempdir().unwrap();
        let softhsm = SoftHsm::new(directory.path()).unwrap();
        softhsm.initialize("bots", PIN).unwrap();
        softhsm.initialize("others", PIN).unwrap();
        for (name, pin) in [("right", PIN), ("wrong", "4712")] {
            let path = directory.path().join(name);
            fs::write(&path, pin).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        }
        let output = softhsm
            .lend(&mut Command::new(env::current_exe().unwrap()))
            .args(["--ignored", "--exact", "--nocapture"])
            .arg(format!("bot::token::tests::{story}"))
            .env(DIRECTORY, directory.path())
            .env(MODULE, softhsm.module())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let passed = output.status.success() && said.contains("1 passed");
        assert!(passed, "{story}:\n{said}{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[tokio::test]
#[ignore = "run by `stories`"]
async fn a_key_that_logs_in_lives_as_long_as_it_is_used() {
    let settings = settings("bots", "right");
    let [first, second] = settings.login.clone();
    let token = Token::new(&settings).unwrap();
    let there = async |label: &KeyLabel| {
        let label = label.clone();
        match token.run(move |session| session.look_up(&label)).await {
            Ok(_) => true,
            Err(TokenError::KeyMissing { .. }) => false,
            Err(error) => panic!("{error}"),
        }
    };
    let one = TokenKey::generate(&token, first.clone(), vec![]).await.unwrap();
    let two = TokenKey::generate(&token, second.clone(), vec![second.clone()]).await.unwrap();
    for key in [&one, &two] {
        let signature = key.sign(b"text").await.unwrap();
        let public_key = key.public_key();
        assert_eq!(public_key.verify(public_key.default_scheme(), b"text", &signature), Ok(()));
    }
    drop(one);
    assert!(!there(&first).await && there(&second).await);

    // A process that is killed leaves its key; the next one has the same labels.
    std::mem::forget(two);
    let stale = vec![first.clone(), second.clone()];
    let again = TokenKey::generate(&token, first.clone(), stale).await.unwrap();
    assert!(there(&first).await && !there(&second).await);
    drop(again);
    assert!(!there(&first).await);
}

#[tokio::test]
#[ignore = "run by `stories`"]
async fn a_pin_that_was_refused_is_not_tried_again() {
    let (wrong, right) = (settings("bots", "wrong"), settings("bots", "right"));
    let token = Token::new(&wrong).unwrap();
    let look = |session: &mut Session| session.look_up(&KeyLabel::new(Purpose::Join, "x").unwrap());
    for _ in 0..2 {
        let refused = token.run(look).await;
        assert!(matches!(refused, Err(TokenError::Pin { .. })), "{refused:?}");
    }
    // Nor by another who uses the token, be it the right one now: that is a person's to say.
    let refused = Token::new(&right).unwrap().run(look).await;
    assert!(matches!(refused, Err(TokenError::Pin { .. })), "{refused:?}");
    // Another token of the same module has its own PIN.
    let other = Token::new(&settings("others", "right")).unwrap().run(look).await;
    assert!(matches!(other, Err(TokenError::KeyMissing { .. })), "{other:?}");
}

#[tokio::test]
#[ignore = "run by `stories`"]
async fn the_bound_key_signs_the_statement_of_joining() {
    let settings = settings("bots", "right");
    let key = BoundKey::Token(Box::new(settings.clone()));
    let none = key.public_key().await.unwrap_err().to_string();
    assert!(none.contains("join/ci is not in the token"), "{none}");

    let public_key = key.make().await.unwrap();
    assert_eq!(key.public_key().await.unwrap(), public_key);
    let again = key.make().await.unwrap_err().to_string();
    assert!(again.contains("is in the token already"), "{again}");
    let name = "ci".parse().unwrap();
    let proof = key.prove(&name, "challenge", "csr").await.unwrap();
    let JoinProof::BoundKey { challenge, signature, scheme } = proof else { panic!() };
    assert_eq!((&*challenge, scheme), ("challenge", public_key.default_scheme()));
    let spki = public_key.spki_der();
    let der = STANDARD.decode(signature).unwrap();
    let verifier = aws_lc_rs::signature::ParsedPublicKey::new(
        &aws_lc_rs::signature::ECDSA_P256_SHA256_ASN1,
        spki,
    );
    verifier.unwrap().verify_sig(&join_statement(&name, "challenge", "csr"), &der).unwrap();
}

#[test]
fn a_name_must_leave_room_for_the_label() {
    for (name, good) in
        [("ci", true), (&*"a".repeat(30), true), (&*"a".repeat(31), false), ("A", false)]
    {
        let text = format!(
            "module = \"/m\"\ntoken = {{ label = \"t\" }}\npin_file = \"/p\"\nname = \"{name}\""
        );
        assert_eq!(toml::from_str::<KeySettings>(&text).is_ok(), good, "{name}");
    }
}

fn settings(token: &str, pin: &str) -> KeySettings {
    let directory = env::var_os(DIRECTORY).expect("run the test `stories`, which runs this one");
    let pin_file = Path::new(&directory).join(pin);
    let module = env::var_os(MODULE).unwrap();
    toml::from_str(&format!(
        "module = {module:?}\ntoken = {{ label = \"{token}\" }}\npin_file = {pin_file:?}\nname = \"ci\""
    ))
    .unwrap()
}

const DIRECTORY: &str = "CHANCERY_TEST_DIRECTORY";
const MODULE: &str = "CHANCERY_TEST_MODULE";
const PIN: &str = "4711";
