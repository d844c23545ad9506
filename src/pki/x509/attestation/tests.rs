//! Attestations that keep every rule, and such that break one each.

use std::{fs, path::Path, process::Command};

use aws_lc_rs::{
    encoding::AsDer,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair},
};
use proptest::{collection::vec, prelude::*, sample::Index};

use super::{super::algorithm::tlv, *};

#[test]
fn a_card_says_of_its_key_what_it_is() {
    let card = Card::new();
    let (statement, intermediate) = card.certificates();
    let claim = Claim::from_der(&statement, &intermediate).unwrap();
    let attestation = claim.verify(&card.makers(), &card.key.public(), now()).unwrap();
    let expected = Attestation {
        public_key: card.key.public(),
        serial: 12_345_678,
        firmware: "5.7.1".parse().unwrap(),
        form_factor: Some(FormFactor::from_byte(0x81)),
        slot: Slot::AUTHENTICATION,
        pin_policy: PinPolicy::Once,
        touch_policy: TouchPolicy::Cached,
        attestation_key: card.attestation_key.public().fingerprint(),
        statement: statement.clone(),
        intermediate: intermediate.clone(),
    };
    assert_eq!(attestation, expected);
    assert_eq!(expected.form_factor.unwrap().to_string(), "USB-A keychain, FIPS");

    let mut plain = card.statement();
    plain.extensions.remove(3);
    assert_eq!(card.verify(&plain, &card.intermediate()).unwrap().form_factor, None);
    let pem = |der: &[u8]| crate::x509::to_pem(der);
    let claim = Claim::from_pem(&pem(&statement), &pem(&intermediate)).unwrap();
    assert!(claim.verify(&card.makers(), &card.key.public(), now()).is_ok());
}

#[test]
fn each_rule_of_a_path_that_is_broken_is_named() {
    let card = Card::new();
    let stranger = Key::new();

    // Who imports a key can make no better statement than one by another key.
    let imported = card.statement().sign(&card.key);
    let refused = card.verify_der(&imported, &card.intermediate().sign(&card.root_key));
    assert_eq!(refused, Err(AttestationError::Forged));
    let renamed = Draft { issuer: "Somebody", ..card.statement() };
    assert_eq!(card.verify(&renamed, &card.intermediate()), Err(AttestationError::Forged));

    // The key in a slot can sign anything; it is no attestation key.
    let (genuine, _) = card.certificates();
    let below = Draft { issuer: "YubiKey PIV Attestation 9a", ..card.statement() };
    let refused = card.verify_der(&below.sign(&card.key), &genuine);
    assert_eq!(refused.unwrap_err().reason(), "attestation-unknown-maker");

    let counterfeit = card.intermediate().sign(&stranger);
    let refused = card.verify_der(&card.certificates().0, &counterfeit);
    assert_eq!(refused.unwrap_err().reason(), "attestation-counterfeit");

    let other_maker = Card::new();
    let (statement, intermediate) = card.certificates();
    let claim = Claim::from_der(&statement, &intermediate).unwrap();
    let (makers, key) = (other_maker.makers(), card.key.public());
    let refused = claim.clone().verify(&makers, &key, now()).unwrap_err();
    assert_eq!(refused.reason(), "attestation-counterfeit", "of the same name");
    let refused = claim.clone().verify(&Anchors::default(), &key, now()).unwrap_err();
    assert_eq!(refused.reason(), "attestation-unknown-maker");

    let refused = claim.verify(&card.makers(), &stranger.public(), now());
    assert_eq!(refused, Err(AttestationError::OtherKey));

    for extensions in [vec![], vec![basic_constraints(&[])], vec![certifies(None), key_usage(7)]] {
        let no_authority = Draft { extensions, ..card.intermediate() };
        let refused = card.verify(&card.statement(), &no_authority);
        assert_eq!(refused, Err(AttestationError::NotAuthority));
    }
}

#[test]
fn dates_count_as_they_are_written() {
    let card = Card::new();
    let (past, future) = (["200101000000Z", "201231000000Z"], ["300101000000Z", "491231000000Z"]);
    for (dates, reason) in [(past, "attestation-expired"), (future, "attestation-not-yet-valid")] {
        let statement = Draft { dates, ..card.statement() };
        let refused = card.verify(&statement, &card.intermediate()).unwrap_err();
        assert_eq!(refused.reason(), reason);
        assert!(refused.to_string().contains("Attestation 9a"), "{refused}");

        let intermediate = Draft { dates, ..card.intermediate() };
        let refused = card.verify(&card.statement(), &intermediate).unwrap_err();
        assert_eq!(refused.reason(), reason);
        assert!(refused.to_string().contains("Card Attestation"), "{refused}");

        let old = Draft { dates, ..card.root() }.sign(&card.root_key);
        let (statement, intermediate) = card.certificates();
        let verify = |roots: &[&[u8]]| {
            let makers = Anchors::new(roots.iter().copied()).unwrap();
            let claim = Claim::from_der(&statement, &intermediate).unwrap();
            claim.verify(&makers, &card.key.public(), now())
        };
        assert_eq!(verify(&[&old]).unwrap_err().reason(), reason);
        let new = card.root().sign(&card.root_key);
        assert!(verify(&[&old, &new]).is_ok() && verify(&[&new, &old]).is_ok());
    }
}

#[test]
fn what_a_statement_must_say_is_said_once_and_in_its_form() {
    let card = Card::new();
    let good = card.statement().extensions;
    let with = |at: usize, extension: Vec<u8>| {
        let mut extensions = good.clone();
        extensions[at] = extension;
        extensions
    };
    let without = |at: usize| {
        let mut extensions = good.clone();
        extensions.remove(at);
        extensions
    };
    let twice = |at: usize| [good.clone(), vec![good[at].clone()]].concat();
    for (extensions, what) in [
        (without(0), "41482.3.3: it is missing"),
        (without(1), "41482.3.7: it is missing"),
        (without(2), "41482.3.8: it is missing"),
        (with(0, yubico(3, &[5, 7])), "it has 2 bytes, not 3"),
        (with(0, yubico(3, &[4, 3, 5, 7, 1])), "it has 5 bytes, not 3"),
        (with(1, yubico(7, &[2, 1, 0x80])), "41482.3.7"),
        (with(1, yubico(7, &[2, 2, 0, 1])), "41482.3.7"),
        (with(1, yubico(7, &[2, 0x81, 1, 1])), "41482.3.7"),
        (with(1, yubico(7, &[2, 5, 1, 0, 0, 0, 0])), "more than 32 bits"),
        (with(1, yubico(7, &[])), "41482.3.7"),
        (with(2, yubico(8, &[2])), "it has 1 bytes, not 2"),
        (with(2, yubico(8, &[0, 1])), "unknown PIN policy 0"),
        (with(2, yubico(8, &[6, 1])), "unknown PIN policy 6"),
        (with(2, yubico(8, &[1, 4])), "unknown touch policy 4"),
        (with(3, yubico(9, &[])), "it has 0 bytes, not 1"),
        (twice(0), "41482.3.3 is there twice"),
        (twice(2), "41482.3.8 is there twice"),
        (with(3, critical(b"\x55\x1d\x1e", &[0x30, 0])), "2.5.29.30 is critical"),
    ] {
        let statement = Draft { extensions, ..card.statement() };
        let refused = card.verify(&statement, &card.intermediate()).unwrap_err();
        assert_eq!(refused.reason(), "attestation-malformed");
        assert!(refused.to_string().contains(what), "{what}: {refused}");
    }
    for subject in ["", "9a", "9A", "f9", "9b", "81", "96", "9a ", "+9a", "9a9a"] {
        let subject = format!("YubiKey PIV Attestation {subject}");
        let statement = Draft { subject: &subject, ..card.statement() };
        let reason = card.verify(&statement, &card.intermediate()).map_err(|it| it.reason());
        match subject.ends_with(" 9a") {
            true => assert!(reason.is_ok(), "{subject}"),
            false => assert_eq!(reason, Err("attestation-slot"), "{subject}"),
        }
    }
    let largest = with(1, yubico(7, &[2, 5, 0, 0xff, 0xff, 0xff, 0xff]));
    let statement = Draft { extensions: largest, ..card.statement() };
    assert_eq!(card.verify(&statement, &card.intermediate()).unwrap().serial, u32::MAX);
}

#[test]
fn makers_are_trusted_through_their_own_cas_as_far_as_those_may_certify() {
    let [root_key, upper_key, lower_key] = [(); 3].map(|()| Key::new());
    let card = Card { root_key: lower_key, ..Card::new() };
    let draft = |subject, issuer, key, len| Draft {
        subject,
        issuer,
        key,
        dates: FOREVER,
        extensions: vec![certifies(len)],
    };
    let chain = |lens: [Option<u8>; 3]| {
        [
            draft("Top", "Top", &root_key, lens[0]).sign(&root_key),
            draft("Upper", "Top", &upper_key, lens[1]).sign(&root_key),
            draft("Maker", "Upper", &card.root_key, lens[2]).sign(&upper_key),
        ]
    };
    let (statement, intermediate) = card.certificates();
    let verify = |makers: Anchors| {
        let claim = Claim::from_der(&statement, &intermediate).unwrap();
        claim.verify(&makers, &card.key.public(), now()).map(drop).map_err(|it| it.reason())
    };
    let anchors = |order: [usize; 3], lens| {
        let certificates = chain(lens);
        Anchors::new(order.map(|at| certificates[at].as_slice()))
    };
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        assert_eq!(verify(anchors(order, [None, None, None]).unwrap()), Ok(()));
        assert_eq!(verify(anchors(order, [Some(3), Some(2), Some(1)]).unwrap()), Ok(()));
        for lens in [[Some(2), None, None], [None, Some(1), None], [None, None, Some(0)]] {
            let refused = verify(anchors(order, lens).unwrap());
            assert_eq!(refused, Err("attestation-path-length"), "{lens:?}");
        }
        let stray = anchors(order, [Some(0), None, None]).unwrap_err();
        assert!(matches!(stray, AnchorError::Stray { .. }), "{stray}");
    }

    let [top, upper, maker] = chain([None; 3]);
    let stray = Anchors::new([top.as_slice(), &maker]).unwrap_err();
    assert_eq!(
        stray.to_string(),
        "\"CN=Maker\" leads to no root: the certificate of \"CN=Upper\" is missing"
    );
    let forged = draft("Top", "Top", &root_key, None).sign(&upper_key);
    assert!(Anchors::new([forged.as_slice(), &upper]).is_err());
    let leaf = Anchors::new([statement.as_slice()]).unwrap_err();
    assert!(matches!(leaf, AnchorError::NotAuthority { .. }), "{leaf}");
    let torn = Anchors::new([top.as_slice(), &upper[..90]]).unwrap_err();
    assert!(matches!(torn, AnchorError::Malformed { number: 2, .. }), "{torn}");
    assert!(Anchors::new([]).unwrap().is_empty());
}

#[test]
fn nothing_that_is_read_makes_it_panic_and_nothing_changed_is_believed() {
    let card = Card::new();
    let (statement, intermediate) = card.certificates();
    let makers = card.makers();
    proptest!(ProptestConfig::with_cases(2000), |(at: Index, byte: u8, how in 0..4, first: bool, noise in vec(any::<u8>(), 0..200))| {
        let original = if first { &statement } else { &intermediate };
        let changed = if how == 3 { noise } else { mutate(original, at, byte, how) };
        prop_assume!(changed != *original);
        let claim = match first {
            true => Claim::from_der(&changed, &intermediate),
            false => Claim::from_der(&statement, &changed),
        };
        if let Ok(claim) = claim {
            prop_assert!(claim.verify(&makers, &card.key.public(), now()).is_err());
        }
        let _ = Anchors::new([changed.as_slice()]);
    });
    proptest!(|(noise in "\\PC{0,80}")| {
        let pem = crate::x509::to_pem(&intermediate);
        prop_assert!(Claim::from_pem(&noise, &pem).is_err());
        let framed = format!("-----BEGIN CERTIFICATE-----\n{noise}\n-----END CERTIFICATE-----");
        prop_assert!(Claim::from_pem(&pem, &framed).is_err());
    });
    let long = vec![0x30; Link::MAX_LEN + 1];
    for malformed in [&[][..], &long, &[statement.as_slice(), &[0]].concat()] {
        let refused = Claim::from_der(malformed, &intermediate).unwrap_err();
        assert_eq!(refused.reason(), "attestation-malformed");
    }
    assert!(Claim::from_pem(&"A".repeat(100 * 1024), "").is_err());
}

/// Of firmware 5.7.4 and later: three CAs above the card, certificates that never expire, a root that
/// signs with SHA-512; an attestation key of P-384 signs with SHA-256 all the same.
#[test]
fn a_path_as_newer_yubikeys_have_it_is_verified() {
    let directory = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| openssl(directory.path(), arguments);
    let file = |name: &str| fs::read_to_string(directory.path().join(name)).unwrap();
    fs::write(directory.path().join("config"), CONFIGURATION).unwrap();
    fs::write(directory.path().join("index"), "").unwrap();
    for name in ["root", "upper", "lower", "slot"] {
        let key = format!("{name}.key");
        let rsa = ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"];
        run(&[&["genpkey", "-out", &key], &rsa[..]].concat());
    }
    let p384 = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"];
    run(&[&["genpkey", "-out", "card.key"], &p384[..]].concat());
    for (name, issuer, subject, hash) in [
        ("root", "root", "/CN=Attestation Root 1", "sha512"),
        ("upper", "root", "/CN=Attestation Intermediate B 1", "sha256"),
        ("lower", "upper", "/CN=PIV Attestation B 1", "sha256"),
        ("card", "lower", "/CN=YubiKey PIV Attestation", "sha256"),
        ("slot", "card", "/CN=YubiKey PIV Attestation 9c", "sha256"),
    ] {
        let [key, request, certificate] = ["key", "csr", "pem"].map(|it| format!("{name}.{it}"));
        let (issuer_key, issuer) = (format!("{issuer}.key"), format!("{issuer}.pem"));
        run(&["req", "-new", "-key", &key, "-subj", subject, "-out", &request]);
        let by = if name == "root" { vec!["-selfsign"] } else { vec!["-cert", &issuer] };
        let sign = ["ca", "-config", "config", "-batch", "-notext", "-md", hash];
        let dates = ["-startdate", "20241201000000Z", "-enddate", "99991231235959Z"];
        let rest = ["-keyfile", &issuer_key, "-extensions", name, "-in", &request, "-out"];
        run(&[&sign[..], &by, &dates, &rest, &[&certificate]].concat());
    }

    let makers = ["lower", "root", "upper"].map(|name| {
        crate::x509::from_pem(&file(&format!("{name}.pem")), &["CERTIFICATE"]).unwrap()
    });
    let makers = Anchors::new(makers.iter().map(Vec::as_slice)).unwrap();
    run(&["pkey", "-in", "slot.key", "-pubout", "-out", "slot.pub"]);
    let key = PublicKey::from_pem(&file("slot.pub")).unwrap();
    let claim = Claim::from_pem(&file("slot.pem"), &file("card.pem")).unwrap();
    let attestation = claim.verify(&makers, &key, now()).unwrap();
    let Attestation { serial, firmware, slot, pin_policy, .. } = attestation;
    assert_eq!((serial, firmware.to_string().as_str()), (36_000_000, "5.7.4"));
    assert_eq!((slot.to_string().as_str(), pin_policy), ("9c", PinPolicy::Always));
}

#[test]
fn words_are_read_as_they_are_written_and_no_others() {
    for firmware in ["5.7.1", "0.0.0", "255.255.255"] {
        assert_eq!(firmware.parse::<Firmware>().unwrap().to_string(), firmware);
    }
    for wrong in ["", "5", "5.7", "5.7.1.0", "5.7.256", "05.7.1", "5.+7.1", " 5.7.1", "5.7.1 "] {
        assert!(wrong.parse::<Firmware>().is_err(), "{wrong:?}");
    }
    assert!("5.10.0".parse::<Firmware>().unwrap() > "5.9.9".parse().unwrap());
    for slot in ["9a", "9c", "9d", "9e", "82", "95"] {
        assert_eq!(slot.parse::<Slot>().unwrap().to_string(), slot);
    }
    for wrong in ["", "9", "9A", "9b", "81", "96", "f9", "+9a", "0x9a", "9a "] {
        assert!(wrong.parse::<Slot>().is_err(), "{wrong:?}");
    }
    let words = [PinPolicy::MatchOnce.to_string(), TouchPolicy::Cached.to_string()];
    assert_eq!(words, ["match-once", "cached"]);
}

/// A card of firmware 5.7.1, and its maker.
struct Card {
    root_key: Key,
    attestation_key: Key,
    key: Key,
}

impl Card {
    fn new() -> Self {
        Self { root_key: Key::new(), attestation_key: Key::new(), key: Key::new() }
    }

    fn root(&self) -> Draft<'_> {
        let extensions = vec![certifies(Some(1)), key_usage(2)];
        Draft { issuer: "Maker", subject: "Maker", key: &self.root_key, dates: FOREVER, extensions }
    }

    fn intermediate(&self) -> Draft<'_> {
        let extensions = vec![certifies(Some(0))];
        let (subject, key) = ("Card Attestation", &self.attestation_key);
        Draft { issuer: "Maker", subject, key, dates: FOREVER, extensions }
    }

    fn statement(&self) -> Draft<'_> {
        Draft {
            issuer: "Card Attestation",
            subject: "YubiKey PIV Attestation 9a",
            key: &self.key,
            dates: FOREVER,
            extensions: vec![
                yubico(3, &[5, 7, 1]),
                yubico(7, &[2, 4, 0, 0xbc, 0x61, 0x4e]),
                yubico(8, &[2, 3]),
                yubico(9, &[0x81]),
            ],
        }
    }

    /// Statement and intermediate.
    fn certificates(&self) -> (Vec<u8>, Vec<u8>) {
        (self.statement().sign(&self.attestation_key), self.intermediate().sign(&self.root_key))
    }

    fn makers(&self) -> Anchors {
        Anchors::new([self.root().sign(&self.root_key).as_slice()]).unwrap()
    }

    /// Signed by those who should.
    fn verify(
        &self,
        statement: &Draft<'_>,
        intermediate: &Draft<'_>,
    ) -> Result<Attestation, AttestationError> {
        let statement = statement.sign(&self.attestation_key);
        self.verify_der(&statement, &intermediate.sign(&self.root_key))
    }

    fn verify_der(
        &self,
        statement: &[u8],
        intermediate: &[u8],
    ) -> Result<Attestation, AttestationError> {
        let claim = Claim::from_der(statement, intermediate)?;
        claim.verify(&self.makers(), &self.key.public(), now())
    }
}

struct Key(EcdsaKeyPair);

impl Key {
    fn new() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap())
    }

    fn public(&self) -> PublicKey {
        PublicKey::from_spki_der(self.0.public_key().as_der().unwrap().as_ref()).unwrap()
    }
}

/// A certificate but for its signature.
struct Draft<'a> {
    issuer: &'a str,
    subject: &'a str,
    key: &'a Key,
    dates: [&'a str; 2],
    extensions: Vec<Vec<u8>>,
}

impl Draft<'_> {
    fn sign(&self, by: &Key) -> Vec<u8> {
        let name = |text: &str| {
            let attribute = [b"\x06\x03\x55\x04\x03".to_vec(), tlv(0x0c, text.as_bytes())];
            tlv(0x30, &tlv(0x31, &tlv(0x30, &attribute.concat())))
        };
        // UTCTime as long as it has two digits for the year (RFC 5280 section 4.1.2.5).
        let time = |text: &str| tlv(if text.len() == 13 { 0x17 } else { 0x18 }, text.as_bytes());
        let text = [
            tlv(0xa0, &[2, 1, 2]),
            vec![2, 1, 7],
            ECDSA_SHA256.to_vec(),
            name(self.issuer),
            tlv(0x30, &self.dates.map(time).concat()),
            name(self.subject),
            self.key.public().spki_der().to_vec(),
            tlv(0xa3, &tlv(0x30, &self.extensions.concat())),
        ];
        let text = match self.extensions.is_empty() {
            true => tlv(0x30, &text[..7].concat()),
            false => tlv(0x30, &text.concat()),
        };
        let signature = by.0.sign(&SystemRandom::new(), &text).unwrap();
        let signature = tlv(3, &[&[0], signature.as_ref()].concat());
        tlv(0x30, &[text, ECDSA_SHA256.to_vec(), signature].concat())
    }
}

fn yubico(number: u8, value: &[u8]) -> Vec<u8> {
    extension(&[b"\x2b\x06\x01\x04\x01\x82\xc4\x0a\x03".as_slice(), &[number]].concat(), value)
}

/// CA:TRUE.
fn certifies(path_len: Option<u8>) -> Vec<u8> {
    let path_len = path_len.map(|len| vec![2, 1, len]).unwrap_or_default();
    basic_constraints(&[vec![1, 1, 0xff], path_len].concat())
}

fn basic_constraints(content: &[u8]) -> Vec<u8> {
    critical(b"\x55\x1d\x13", &tlv(0x30, content))
}

/// A KeyUsage whose lowest bits are unused.
fn key_usage(unused: u8) -> Vec<u8> {
    critical(b"\x55\x1d\x0f", &[3, 2, unused, 0xff << unused & 0x84])
}

fn extension(oid: &[u8], value: &[u8]) -> Vec<u8> {
    tlv(0x30, &[tlv(6, oid), tlv(4, value)].concat())
}

fn critical(oid: &[u8], value: &[u8]) -> Vec<u8> {
    tlv(0x30, &[tlv(6, oid), vec![1, 1, 0xff], tlv(4, value)].concat())
}

/// Changes a byte, takes one away, or cuts the rest off.
fn mutate(bytes: &[u8], at: Index, byte: u8, how: i32) -> Vec<u8> {
    let mut changed = bytes.to_vec();
    let at = at.index(changed.len());
    match how {
        0 => changed[at] = byte,
        1 => drop(changed.remove(at)),
        _ => changed.truncate(at),
    }
    changed
}

fn now() -> Timestamp {
    "2026-06-01T12:00:00Z".parse().unwrap()
}

fn openssl(directory: &Path, arguments: &[&str]) {
    let mut command = Command::new("openssl");
    let output = command.args(arguments).current_dir(directory).output().expect("openssl runs");
    assert!(output.status.success(), "openssl {arguments:?}: {output:?}");
}

const FOREVER: [&str; 2] = ["160314000000Z", "99991231235959Z"];

const ECDSA_SHA256: &[u8] = b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02";

const CONFIGURATION: &str = "\
[ca]
default_ca = it
[it]
database = index
new_certs_dir = .
rand_serial = yes
policy = names
[names]
commonName = supplied
[root]
basicConstraints = critical, CA:TRUE, pathlen:3
keyUsage = critical, keyCertSign, cRLSign, digitalSignature
[upper]
basicConstraints = critical, CA:TRUE, pathlen:2
keyUsage = critical, keyCertSign, cRLSign, digitalSignature
[lower]
basicConstraints = critical, CA:TRUE, pathlen:1
keyUsage = critical, keyCertSign, cRLSign, digitalSignature
[card]
basicConstraints = critical, CA:TRUE, pathlen:0
1.3.6.1.4.1.41482.3.3 = DER:050704
[slot]
1.3.6.1.4.1.41482.3.3 = DER:050704
1.3.6.1.4.1.41482.3.7 = DER:020402255100
1.3.6.1.4.1.41482.3.8 = DER:0301
1.3.6.1.4.1.41482.3.9 = DER:03
";
