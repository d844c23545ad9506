//! A bundle that was made here is taken, and no other.

use std::{fs, process::Command};

use proptest::prelude::*;

use super::*;
use crate::{
    keys::{KeyAlgorithm, Signature},
    serial::SshSerial,
    token::{
        Input, KeyId, KeyLabel, KeyRef, KeyStore as _, Purpose, Token as _, software::SoftwareToken,
    },
};

#[test]
fn a_bundle_is_taken_and_openssl_verifies_its_signature() {
    for algorithm in [KeyAlgorithm::EcP256, KeyAlgorithm::EcP384, KeyAlgorithm::Rsa2048] {
        let mut office = Office::new(algorithm);
        let bundle = office.bundle(812);
        let key = &office.key.key().public_key;
        let Verified { statement, krl } = bundle.verify(key, 812).unwrap();
        assert_eq!((statement.version(), krl), (812, self::krl(812)));
        for (now, stale) in [
            ("2026-11-22T02:59:00Z", false),
            ("2026-11-22T03:15:00.999Z", false),
            ("2026-11-22T03:15:01Z", true),
        ] {
            assert_eq!(statement.is_stale(at(now)), stale, "{now}");
        }
        assert_eq!(
            bundle.statement,
            format!(
                "chancery-revocations-v1\nversion 812\nissued 2026-11-22T03:00:00Z\n\
                 not-after 2026-11-22T03:15:00Z\nkrl-sha256 {}\nkrl-length {}\n",
                hex::encode(Sha256::digest(&bundle.krl)),
                bundle.krl.len()
            )
        );
        openssl_verifies(&bundle, key);
    }
}

fn openssl_verifies(bundle: &Bundle, key: &PublicKey) {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(directory.path().join(name), bytes).unwrap();
    write("key.pem", key.to_pem().as_bytes());
    write("signature", &bundle.signature);
    write("statement", bundle.statement.as_bytes());
    let hash = if key.algorithm() == KeyAlgorithm::EcP384 { "-sha384" } else { "-sha256" };
    let output = Command::new("openssl")
        .args(["dgst", hash, "-verify", "key.pem", "-signature", "signature", "statement"])
        .current_dir(directory.path())
        .output()
        .expect("openssl runs");
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn an_old_foreign_or_changed_bundle_is_refused_with_its_reason() {
    let mut office = Office::new(KeyAlgorithm::EcP256);
    let key = office.key.key().public_key.clone();
    let good = office.bundle(812);
    let refused =
        |bundle: &Bundle, key: &PublicKey, at_least| bundle.verify(key, at_least).unwrap_err();
    let old = RevocationError::Old { found: 812, wanted: 813 };
    assert_eq!(refused(&good, &key, 813), old);
    let other = Office::new(KeyAlgorithm::EcP256).key.key().public_key.clone();
    assert_eq!(refused(&good, &other, 0), RevocationError::Signature);
    let another = Bundle { krl: krl(811).encode().unwrap(), ..good.clone() };
    assert_eq!(refused(&another, &key, 0), RevocationError::AnotherKrl);
    let longer = Bundle { krl: [good.krl.as_slice(), &[0]].concat(), ..good.clone() };
    assert_eq!(refused(&longer, &key, 0), RevocationError::AnotherKrl);
    let changed = good.statement.replace("version 812", "version 813");
    let changed = Bundle { statement: changed, ..good.clone() };
    assert_eq!(refused(&changed, &key, 0), RevocationError::Signature);
    for bit in 0..8 * good.signature.len() {
        let mut flipped = good.clone();
        flipped.signature[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(refused(&flipped, &key, 0), RevocationError::Signature, "bit {bit}");
    }
}

/// What is signed may be wrong as well: an appliance of another version, or one that was lied to.
#[test]
fn a_signed_text_that_is_no_statement_or_about_no_krl_is_refused() {
    let mut office = Office::new(KeyAlgorithm::EcP256);
    let good = office.bundle(812);
    let statement: Statement = good.statement.parse().unwrap();
    let header_only = Statement {
        krl_sha256: Sha256::digest(&good.krl[..52]).into(),
        krl_length: 52,
        ..statement.clone()
    };
    let cases = [
        (good.statement.replace("-v1", "-v2"), good.krl.clone(), "malformed"),
        (good.statement.clone() + "\n", good.krl.clone(), "malformed"),
        (header_only.to_string(), good.krl[..52].to_vec(), "krl"),
        (Statement { version: 813, ..statement }.to_string(), good.krl.clone(), "another"),
    ];
    for (statement, krl, wanted) in cases {
        let signature = office.sign(statement.as_bytes());
        let scheme = office.key.key().public_key.default_scheme();
        let signature = algorithm::encode_signature(scheme, &signature);
        let bundle = Bundle { statement, signature, krl };
        let key = &office.key.key().public_key;
        let refused = bundle.verify(key, 0).unwrap_err();
        let kind = match refused {
            RevocationError::Malformed(_) => "malformed",
            RevocationError::Krl(_) => "krl",
            RevocationError::AnotherKrl => "another",
            _ => "else",
        };
        assert_eq!(kind, wanted, "{refused}");
    }
}

#[test]
fn a_statement_is_not_made_about_what_is_no_krl_and_never_ends_before_it_begins() {
    let now = at("2026-11-22T03:00:00Z");
    assert!(matches!(Statement::of(b"", now, now), Err(RevocationError::Krl(_))));
    let krl = krl(1).encode().unwrap();
    let before = at("2026-11-22T02:59:59Z");
    assert!(matches!(Statement::of(&krl, now, before), Err(RevocationError::Malformed(_))));
}

#[test]
fn a_sealed_statement_is_bundled_with_no_other_krl() {
    let mut office = Office::new(KeyAlgorithm::EcP256);
    let sealed = office.seal(statement(&krl(812).encode().unwrap()));
    let other = krl(811).encode().unwrap();
    assert_eq!(Bundle::new(&sealed, other), Err(RevocationError::AnotherKrl));
}

proptest! {
    #[test]
    fn a_statement_has_one_text(
        version: u64,
        issued in 0_i64..200_000_000_000,
        length in 0_i64..1_000_000,
        krl_sha256: [u8; 32],
        krl_length: usize,
    ) {
        let (issued, not_after) = (second(issued), second(issued + length));
        let statement = Statement { version, issued, not_after, krl_sha256, krl_length };
        prop_assert_eq!(statement.to_string().parse(), Ok(statement));
    }

    #[test]
    fn a_changed_text_is_another_statement_or_none(
        at in 0_usize..230,
        with in "[ -~\n]{0,3}",
        drop in 0_usize..3,
    ) {
        let statement = statement(&krl(812).encode().unwrap());
        let mut text = statement.to_string();
        let at = at.min(text.len());
        text.replace_range(at..(at + drop).min(text.len()), &with);
        prop_assume!(text != statement.to_string());
        if let Ok(read) = text.parse::<Statement>() {
            prop_assert_eq!(read.to_string(), text);
            prop_assert_ne!(read, statement);
        }
    }
}

/// A publication key and what it signs.
struct Office {
    token: SoftwareToken,
    key: PublicationKey,
}

impl Office {
    fn new(algorithm: KeyAlgorithm) -> Self {
        let mut token = SoftwareToken::default();
        let label = KeyLabel::new(Purpose::Publication, "lists").unwrap();
        let key = token.generate(algorithm, &label, &KeyId::new(&[1]).unwrap()).unwrap().key;
        Self { token, key: PublicationKey::new(key).unwrap() }
    }

    fn bundle(&mut self, version: u64) -> Bundle {
        let krl = krl(version).encode().unwrap();
        let sealed = self.seal(statement(&krl));
        Bundle::new(&sealed, krl).unwrap()
    }

    fn seal(&mut self, statement: Statement) -> Sealed<Statement> {
        let prepared = statement.prepare(&self.key);
        let signature = self.sign(prepared.bytes());
        prepared.seal(signature).unwrap()
    }

    fn sign(&mut self, text: &[u8]) -> Signature {
        let key: &KeyRef = self.key.key();
        let scheme = key.public_key.default_scheme();
        self.token.sign(key, scheme, Input::Message(text)).unwrap()
    }
}

/// Good for a quarter of an hour.
fn statement(krl: &[u8]) -> Statement {
    Statement::of(krl, at("2026-11-22T03:00:00.5Z"), at("2026-11-22T03:15:00.5Z")).unwrap()
}

fn krl(version: u64) -> Krl {
    let mut token = SoftwareToken::default();
    let label = KeyLabel::new(Purpose::Issuing, "users").unwrap();
    static CA: std::sync::OnceLock<PublicKey> = std::sync::OnceLock::new();
    let ca = CA.get_or_init(|| {
        let id = KeyId::new(&[1]).unwrap();
        token.generate(KeyAlgorithm::EcP256, &label, &id).unwrap().key.public_key
    });
    let mut krl = Krl::new(version, at("2026-11-22T03:00:00Z"));
    krl.authority(ca).revoke_serials([7, 9].into_iter().filter_map(SshSerial::new));
    krl
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn second(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}
