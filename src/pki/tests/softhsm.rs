//! PKCS#11 sessions on a real SoftHSM, with `openssl` and `pkcs11-tool` as witnesses.
//!
//! SoftHSM reads SOFTHSM2_CONF when it is loaded, and a process loads it once. So each story runs
//! in a process of its own: `stories` starts this program again for each, with a token directory
//! that nobody else has.

#![expect(clippy::expect_used, clippy::unwrap_used, reason = "a test ends where it fails")]

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    thread,
};

use der::{Encode, Sequence, asn1::UintRef};
use pki::{
    keys::{KeyAlgorithm, PublicKey, Signature, SignatureScheme},
    secret::Secret,
    token::{
        Input, KeyId, KeyLabel, KeyRef, KeyStore, Purpose, Token, TokenError,
        pkcs11::{Module, Session, TokenIdentity},
    },
};
use tempfile::TempDir;

const LIBRARY: &str = "/usr/lib/softhsm/libsofthsm2.so";
const USER_PIN: &str = "4711-user";

#[test]
fn stories() {
    assert!(Path::new(LIBRARY).exists(), "{LIBRARY} is missing: install the package softhsm2");
    for story in [
        "a_key_that_vanishes_is_missed",
        "a_key_is_looked_up_by_its_label_and_cleared_away_by_its_purpose",
        "a_key_is_found_by_its_public_key_and_alone",
        "a_token_is_found_by_what_it_is",
        "a_wrong_pin_is_tried_once",
        "digests_of_another_length_are_refused",
        "each_algorithm_signs_what_others_verify",
        "extractable_keys_are_refused",
        "labels_and_ids_are_not_given_twice",
        "threads_share_one_login",
    ] {
        let directory = tempfile::tempdir().unwrap();
        let tokens = directory.path().join("tokens");
        fs::create_dir(&tokens).unwrap();
        let configuration = directory.path().join("softhsm2.conf");
        let text = format!("directories.tokendir = {}\nlog.level = ERROR\n", tokens.display());
        fs::write(&configuration, text).unwrap();
        let output = Command::new(env::current_exe().unwrap())
            .args(["--ignored", "--exact", "--nocapture", story])
            .env("SOFTHSM2_CONF", &configuration)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let passed = output.status.success() && said.contains("1 passed");
        assert!(passed, "{story}:\n{said}{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
#[ignore = "run by `stories`"]
fn each_algorithm_signs_what_others_verify() {
    use SignatureScheme as Scheme;

    let (module, token) = new_token();
    let mut session = open(&module, &token);
    let rsa = [
        Scheme::RsaPkcs1Sha256,
        Scheme::RsaPkcs1Sha384,
        Scheme::RsaPkcs1Sha512,
        Scheme::RsaPssSha256,
        Scheme::RsaPssSha384,
        Scheme::RsaPssSha512,
    ];
    for (number, (algorithm, schemes)) in [
        (KeyAlgorithm::EcP256, &[Scheme::EcdsaP256Sha256][..]),
        (KeyAlgorithm::EcP384, &[Scheme::EcdsaP384Sha384]),
        (KeyAlgorithm::Ed25519, &[Scheme::Ed25519]),
        (KeyAlgorithm::Rsa2048, &rsa),
        (KeyAlgorithm::Rsa3072, &rsa[..1]),
        (KeyAlgorithm::Rsa4096, &rsa[..1]),
    ]
    .into_iter()
    .enumerate()
    {
        let made = session.generate(algorithm, &label(number), &id(number)).unwrap();
        assert_eq!(made.key.public_key.algorithm(), algorithm);
        for attribute in [
            ("CKA_SENSITIVE", true),
            ("CKA_EXTRACTABLE", false),
            ("CKA_NEVER_EXTRACTABLE", true),
            ("CKA_ALWAYS_SENSITIVE", true),
            ("CKA_LOCAL", true),
            ("CKA_UNWRAP", false),
            ("CKA_MODIFIABLE", false),
        ] {
            assert!(made.attributes.contains(&attribute), "{algorithm}: {:?}", made.attributes);
        }
        for scheme in schemes {
            let inputs = [Some(MESSAGE.to_vec()), scheme.digest(MESSAGE)];
            for (is_digest, bytes) in [false, true].into_iter().zip(inputs) {
                let Some(bytes) = bytes else { continue };
                let input = if is_digest { Input::Digest(&bytes) } else { Input::Message(&bytes) };
                let signature = session.sign(&made.key, *scheme, input).unwrap();
                let key = &made.key.public_key;
                assert_eq!(key.verify(*scheme, MESSAGE, &signature), Ok(()), "{scheme}");
                openssl_verifies(key, *scheme, &signature);
            }
        }
    }
}

#[test]
#[ignore = "run by `stories`"]
fn a_token_is_found_by_what_it_is() {
    let relative = Module::load(Path::new("libsofthsm2.so")).err().unwrap();
    assert!(relative.to_string().contains("not absolute"), "{relative}");

    let (module, token) = new_token();
    let info = module.info(&token).unwrap();
    assert_eq!(info.identity, token);
    assert!(info.flags.contains(&"CKF_LOGIN_REQUIRED"), "{info:?}");
    let other = TokenIdentity { serial: Some("0".to_owned()), ..token.clone() };
    let error = module.identify(&other).unwrap_err();
    // A person sees at once what is there instead.
    assert!(error.to_string().contains(token.serial.as_deref().unwrap()), "{error}");
    let short = module.initialize("other", &user_pin(), &Secret::new("123".to_owned()));
    assert!(matches!(short, Err(TokenError::Pin { .. })), "{short:?}");
    let again = module.initialize("chancery", &Secret::new("so-pin".to_owned()), &user_pin());
    assert!(matches!(again, Err(TokenError::NoToken(_))), "{again:?}");

    // What was made is there for the next process, too: C_Finalize and C_Initialize lie between.
    let mut session = open(&module, &token);
    let key = session.generate(KeyAlgorithm::EcP256, &label(1), &id(1)).unwrap().key;
    drop((session, module));
    let module = Module::load(Path::new(LIBRARY)).unwrap();
    let mut session = open(&module, &token);
    assert!(session.find(&key).is_ok());
    session.destroy(&key).unwrap();
    assert!(matches!(session.find(&key), Err(TokenError::KeyMissing { .. })));
    assert!(session.vacant(&key.label, &key.id).is_ok());
}

#[test]
#[ignore = "run by `stories`"]
fn a_wrong_pin_is_tried_once() {
    let (module, token) = new_token();
    let wrong = module.open(&token, &Secret::new("wrong-pin".to_owned()));
    assert!(matches!(wrong, Err(TokenError::Pin { code }) if code == "CKR_PIN_INCORRECT"));
    assert!(module.info(&token).unwrap().flags.contains(&"CKF_USER_PIN_COUNT_LOW"));
    // Even the right one is not tried any more: so nothing was.
    let right = module.open(&token, &user_pin());
    assert!(matches!(right, Err(TokenError::Pin { code }) if code == "CKR_PIN_INCORRECT"));
}

#[test]
#[ignore = "run by `stories`"]
fn labels_and_ids_are_not_given_twice() {
    let (module, token) = new_token();
    let mut session = open(&module, &token);
    let key = session.generate(KeyAlgorithm::EcP256, &label(1), &id(1)).unwrap().key;
    for (label, id) in [(label(1), id(2)), (label(2), id(1))] {
        let again = session.generate(KeyAlgorithm::EcP256, &label, &id);
        assert!(matches!(again, Err(TokenError::KeyExists { .. })), "{again:?}");
    }
    assert!(session.find(&key).is_ok());
}

#[test]
#[ignore = "run by `stories`"]
fn a_key_is_found_by_its_public_key_and_alone() {
    let (module, token) = new_token();
    let mut session = open(&module, &token);
    let key = session.generate(KeyAlgorithm::EcP256, &label(1), &id(1)).unwrap().key;
    let other = session.generate(KeyAlgorithm::EcP256, &label(2), &id(2)).unwrap().key;

    let mispinned = KeyRef { public_key: other.public_key.clone(), ..key.clone() };
    let found = session.find(&mispinned);
    assert!(matches!(&found, Err(TokenError::KeyUnfit { what, .. }) if what.contains("pinned")));
    let signed =
        session.sign(&mispinned, SignatureScheme::EcdsaP256Sha256, Input::Message(MESSAGE));
    assert!(matches!(signed, Err(TokenError::KeyUnfit { .. })));
    let relabelled = KeyRef { label: label(2), ..key.clone() };
    assert!(matches!(session.find(&relabelled), Err(TokenError::KeyMissing { .. })));

    // Someone makes a second pair with the same label: SoftHSM lets them.
    pkcs11_tool(&["--keypairgen", "--key-type", "EC:prime256v1", "--sensitive"], 1, 3);
    let mut fresh = open(&module, &token);
    assert!(matches!(fresh.find(&key), Err(TokenError::KeyAmbiguous { .. })));
    assert!(fresh.find(&other).is_ok());
}

#[test]
#[ignore = "run by `stories`"]
fn extractable_keys_are_refused() {
    let (module, token) = new_token();
    let generate = ["--keypairgen", "--key-type", "EC:prime256v1", "--usage-sign", "--extractable"];
    pkcs11_tool(&generate, 1, 1);
    let key = KeyRef { label: label(1), id: id(1), public_key: read_public(1) };
    let found = open(&module, &token).find(&key);
    let told =
        matches!(&found, Err(TokenError::KeyUnfit { what, .. }) if what.contains("EXTRACTABLE"));
    assert!(told, "{found:?}");
}

#[test]
#[ignore = "run by `stories`"]
fn digests_of_another_length_are_refused() {
    let (module, token) = new_token();
    let mut session = open(&module, &token);
    let key = session.generate(KeyAlgorithm::EcP256, &label(1), &id(1)).unwrap().key;
    for length in [0, 20, 31, 33, 48, 64] {
        let digest = vec![7; length];
        let signed = session.sign(&key, SignatureScheme::EcdsaP256Sha256, Input::Digest(&digest));
        let refused =
            matches!(signed, Err(TokenError::InputLength { wanted: 32, got, .. }) if got == length);
        assert!(refused, "{length}: {signed:?}");
    }
    let other = session.sign(&key, SignatureScheme::EcdsaP384Sha384, Input::Digest(&[7; 48]));
    assert!(matches!(other, Err(TokenError::MechanismMissing { .. })));
}

#[test]
#[ignore = "run by `stories`"]
fn a_key_that_vanishes_is_missed() {
    let (module, token) = new_token();
    let mut session = open(&module, &token);
    let key = session.generate(KeyAlgorithm::EcP256, &label(1), &id(1)).unwrap().key;
    let sign = |session: &mut Session| {
        session.sign(&key, SignatureScheme::EcdsaP256Sha256, Input::Message(MESSAGE))
    };
    assert!(sign(&mut session).is_ok());
    open(&module, &token).destroy(&key).unwrap();
    // The handle is stale: the session says so, looks again, and finds nothing.
    assert!(matches!(sign(&mut session), Err(TokenError::Session { .. })));
    assert!(matches!(sign(&mut session), Err(TokenError::KeyMissing { .. })));
}

#[test]
#[ignore = "run by `stories`"]
fn a_key_is_looked_up_by_its_label_and_cleared_away_by_its_purpose() {
    let (module, token) = new_token();
    let mut session = open(&module, &token);
    let join = KeyLabel::new(Purpose::Join, "ci").unwrap();
    assert!(matches!(session.look_up(&join), Err(TokenError::KeyMissing { .. })));
    let key = session.generate(KeyAlgorithm::EcP256, &join, &id(1)).unwrap().key;
    assert_eq!(session.look_up(&join).unwrap(), key);
    assert!(matches!(session.clear(&join), Err(TokenError::KeyUnfit { .. })));
    assert_eq!(session.look_up(&join).unwrap(), key);

    // A public half alone is what a process leaves that is killed while it makes a key.
    let login = KeyLabel::new(Purpose::Login, "ci-1").unwrap();
    assert!(!session.clear(&login).unwrap());
    session.generate(KeyAlgorithm::EcP256, &login, &id(2)).unwrap();
    let login_text = login.to_string();
    let told = Command::new("pkcs11-tool")
        .args(["--module", LIBRARY, "--token-label", "chancery", "--login", "--pin", USER_PIN])
        .args(["--delete-object", "--type", "privkey", "--label", &login_text])
        .output()
        .expect("pkcs11-tool is needed: install the package opensc");
    assert!(told.status.success(), "{told:?}");
    let again = session.generate(KeyAlgorithm::EcP256, &login, &id(2));
    assert!(matches!(again, Err(TokenError::KeyExists { .. })));
    assert!(session.clear(&login).unwrap());
    session.generate(KeyAlgorithm::EcP256, &login, &id(2)).unwrap();
}

#[test]
#[ignore = "run by `stories`"]
fn threads_share_one_login() {
    let (module, token) = new_token();
    let mut session = open(&module, &token);
    let key = session.generate(KeyAlgorithm::EcP256, &label(1), &id(1)).unwrap().key;
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                // The process is logged in already: no PIN is looked at, so a wrong one harms not.
                let mut session =
                    module.open(&token, &Secret::new("wrong-pin".to_owned())).unwrap();
                for _ in 0..50 {
                    let scheme = SignatureScheme::EcdsaP256Sha256;
                    let signature = session.sign(&key, scheme, Input::Message(MESSAGE)).unwrap();
                    assert_eq!(key.public_key.verify(scheme, MESSAGE, &signature), Ok(()));
                }
            });
        }
    });
}

const MESSAGE: &[u8] = b"what is to be signed";

fn new_token() -> (Module, TokenIdentity) {
    assert!(env::var_os("SOFTHSM2_CONF").is_some(), "run the test `stories`, which runs this one");
    let module = Module::load(Path::new(LIBRARY)).unwrap();
    let so_pin = Secret::new("0815-security-officer".to_owned());
    let token = module.initialize("chancery", &so_pin, &user_pin()).unwrap();
    (module, token)
}

fn open(module: &Module, token: &TokenIdentity) -> Session {
    module.open(token, &user_pin()).unwrap()
}

fn user_pin() -> Secret {
    Secret::new(USER_PIN.to_owned())
}

fn label(number: usize) -> KeyLabel {
    KeyLabel::new(Purpose::Issuing, &format!("key-{number}")).unwrap()
}

fn id(number: usize) -> KeyId {
    KeyId::new(&[0xa0, u8::try_from(number).unwrap()]).unwrap()
}

fn pkcs11_tool(arguments: &[&str], label_number: usize, id_number: usize) -> Output {
    let output = Command::new("pkcs11-tool")
        .args(["--module", LIBRARY, "--token-label", "chancery", "--login", "--pin", USER_PIN])
        .args(["--label", &label(label_number).to_string()])
        .args(["--id", &id(id_number).to_string()])
        .args(arguments)
        .output()
        .expect("pkcs11-tool is needed: install the package opensc");
    assert!(output.status.success(), "pkcs11-tool {arguments:?}: {output:?}");
    output
}

fn read_public(number: usize) -> PublicKey {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("public.der");
    let arguments = ["--read-object", "--type", "pubkey", "-o", path.to_str().unwrap()];
    pkcs11_tool(&arguments, number, number);
    PublicKey::from_spki_der(&fs::read(path).unwrap()).unwrap()
}

fn openssl_verifies(key: &PublicKey, scheme: SignatureScheme, signature: &Signature) {
    let directory = tempfile::tempdir().unwrap();
    let key_file = write(&directory, "key.pem", key.to_pem().as_bytes());
    let message = write(&directory, "message", MESSAGE);
    let bytes = match key.algorithm() {
        KeyAlgorithm::EcP256 | KeyAlgorithm::EcP384 => ecdsa_der(signature),
        _ => signature.0.clone(),
    };
    let signature = write(&directory, "signature", &bytes);
    let mut command = Command::new("openssl");
    if scheme == SignatureScheme::Ed25519 {
        command.args(["pkeyutl", "-verify", "-pubin", "-rawin", "-inkey"]).arg(key_file);
        command.arg("-sigfile").arg(signature).arg("-in").arg(message);
    } else {
        let hash = format!("-sha{}", scheme.digest_len().unwrap() * 8);
        command.args(["dgst", &hash, "-verify"]).arg(key_file);
        if scheme.is_rsa_pss() {
            command.args(["-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:digest"]);
        }
        command.arg("-signature").arg(signature).arg(message);
    }
    let output = command.output().expect("openssl is needed: install the package openssl");
    assert!(output.status.success(), "{scheme}: {output:?}");
}

fn write(directory: &TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = directory.path().join(name);
    fs::write(&path, bytes).unwrap();
    path
}

/// Ecdsa-Sig-Value (RFC 3279 section 2.2.3).
fn ecdsa_der(signature: &Signature) -> Vec<u8> {
    #[derive(Sequence)]
    struct EcdsaSigValue<'a> {
        r: UintRef<'a>,
        s: UintRef<'a>,
    }

    let (r, s) = signature.0.split_at(signature.0.len() / 2);
    let value = EcdsaSigValue { r: UintRef::new(r).unwrap(), s: UintRef::new(s).unwrap() };
    value.to_der().unwrap()
}
