use std::{collections::BTreeMap, fs, process::Command, sync::LazyLock};

use proptest::{collection::btree_set, prelude::*};

use super::*;
use crate::{
    seal::Sealed,
    token::{Input, KeyId, KeyLabel, KeyRef, KeyStore, Purpose, Token, software::SoftwareToken},
};

const ALGORITHMS: [KeyAlgorithm; 6] = [
    KeyAlgorithm::EcP256,
    KeyAlgorithm::EcP384,
    KeyAlgorithm::Ed25519,
    KeyAlgorithm::Rsa2048,
    KeyAlgorithm::Rsa3072,
    KeyAlgorithm::Rsa4096,
];

#[test]
fn ssh_keygen_reads_back_what_every_kind_of_ca_certified_for_every_kind_of_key() {
    let directory = tempfile::tempdir().unwrap();
    let mut cas = Cas::new(&ALGORITHMS);
    let subjects = Cas::new(&ALGORITHMS);
    for ca in ALGORITHMS {
        for subject in ALGORITHMS {
            let public_key = subjects.key(subject).public_key.clone();
            let issuer = cas.issuer(ca, Usage::User);
            let sealed = cas.seal(issuer.prepare(user(public_key.clone()), [7; 32]).unwrap());
            let path = directory.path().join("subject-cert.pub");
            fs::write(&path, to_openssh(sealed.bytes(), "alice\nroot")).unwrap();
            let said = run(Command::new("ssh-keygen").env("TZ", "UTC").arg("-Lf").arg(&path));
            let said = said.split_once('\n').unwrap().1;
            assert_eq!(said, description(&cas.key(ca).public_key, &public_key), "{ca} {subject}");
        }
    }
}

/// What `ssh-keygen -L` says of [`user`] certificates.
fn description(ca: &PublicKey, subject: &PublicKey) -> String {
    let names = |key: &PublicKey| match key.algorithm() {
        KeyAlgorithm::EcP256 => ("ecdsa-sha2-nistp256", "ECDSA", "ecdsa-sha2-nistp256"),
        KeyAlgorithm::EcP384 => ("ecdsa-sha2-nistp384", "ECDSA", "ecdsa-sha2-nistp384"),
        KeyAlgorithm::Ed25519 => ("ssh-ed25519", "ED25519", "ssh-ed25519"),
        _ => ("ssh-rsa", "RSA", "rsa-sha2-512"),
    };
    let (name, kind, _) = names(subject);
    let (_, ca_kind, signature) = names(ca);
    let (fingerprint, ca_fingerprint) = (fingerprint(subject), fingerprint(ca));
    [
        format!("        Type: {name}-cert-v01@openssh.com user certificate"),
        format!("        Public key: {kind}-CERT SHA256:{fingerprint}"),
        format!("        Signing CA: {ca_kind} SHA256:{ca_fingerprint} (using {signature})"),
        "        Key ID: \"alice's session\"".to_owned(),
        "        Serial: 42".to_owned(),
        "        Valid: from 2026-03-01T08:00:00 to 2026-03-01T16:00:00".to_owned(),
        "        Principals: ".to_owned(),
        "                alice".to_owned(),
        "                deploy".to_owned(),
        "        Critical Options: ".to_owned(),
        "                force-command /usr/bin/id -u".to_owned(),
        "                source-address 10.0.0.0/8,2001:db8::1".to_owned(),
        "        Extensions: ".to_owned(),
        "                one-use@chancery UNKNOWN FLAG OPTION".to_owned(),
        "                permit-X11-forwarding".to_owned(),
        "                permit-agent-forwarding".to_owned(),
        "                permit-port-forwarding".to_owned(),
        "                permit-pty".to_owned(),
        "                permit-user-rc".to_owned(),
        "                targets@chancery UNKNOWN OPTION: \
         0000000f64622c776562312e6578616d706c65 (len 19)\n"
            .to_owned(),
    ]
    .join("\n")
}

/// The fingerprint that OpenSSH prints, out of its own form of the key.
fn fingerprint(key: &PublicKey) -> String {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("key.pub");
    fs::write(&path, key.to_openssh()).unwrap();
    let said = run(Command::new("ssh-keygen").arg("-lf").arg(&path));
    said.split_once("SHA256:").unwrap().1.split_once(' ').unwrap().0.to_owned()
}

#[test]
fn ssh_finds_a_host_ca_by_its_patterns_and_not_elsewhere() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("known_hosts");
    let ca = &SHARED.key(KeyAlgorithm::Ed25519).public_key;
    let [first, second] = ["*.example", "web"].map(|text| text.parse().unwrap());
    let line = known_hosts_line(&first, &[second], ca, "host CA\n* ssh-rsa AAAA");
    fs::write(&path, line + "\n").unwrap();
    for (host, found) in [("a.example", true), ("web", true), ("web.other", false), ("x", false)] {
        let mut command = Command::new("ssh-keygen");
        let output = command.arg("-F").arg(host).arg("-f").arg(&path).output().unwrap();
        assert_eq!(output.status.success(), found, "{host}");
        assert_eq!(String::from_utf8_lossy(&output.stdout).contains("line 1 CA"), found, "{host}");
    }
}

#[test]
fn a_summary_says_the_last_second_and_is_the_same_after_a_resume() {
    for algorithm in SHARED_ALGORITHMS {
        let subject = &SHARED.key(algorithm).public_key;
        let issuer = SHARED.issuer(KeyAlgorithm::EcP384, Usage::User);
        let prepared = issuer.prepare(user(subject.clone()), [7; 32]);
        if algorithm == KeyAlgorithm::EcP384 {
            assert_eq!(prepared.unwrap_err().rule, "key-of-ca");
            continue;
        }
        let prepared = prepared.unwrap();
        let expected = Summary {
            kind: Kind::SshUser,
            serial: "42".parse().unwrap(),
            subject: "alice's session".to_owned(),
            names: vec!["alice".to_owned(), "deploy".to_owned()],
            key_fingerprint: subject.fingerprint(),
            not_before: "2026-03-01T08:00:00Z".parse().unwrap(),
            not_after: "2026-03-01T15:59:59Z".parse().unwrap(),
        };
        assert_eq!(*prepared.summary(), expected);
        let resumed = issuer.resume(prepared.bytes().to_vec()).unwrap();
        assert_eq!(*resumed.summary(), expected);
        assert_eq!(resumed.bytes(), prepared.bytes());
        assert_eq!(resumed.scheme(), prepared.scheme());
    }
}

#[test]
fn bytes_of_another_ca_or_usage_are_not_resumed() {
    let issuer = SHARED.issuer(KeyAlgorithm::EcP256, Usage::User);
    let prepared = issuer.prepare(user(subject()), [7; 32]).unwrap();
    let rule = |issuer: Issuer| issuer.resume(prepared.bytes().to_vec()).unwrap_err().rule;
    assert_eq!(rule(SHARED.issuer(KeyAlgorithm::EcP256, Usage::Host)), "certificate-type");
    assert_eq!(rule(SHARED.issuer(KeyAlgorithm::EcP384, Usage::User)), "signature-key");
}

#[test]
fn templates_that_break_a_rule_are_refused() {
    type Change = fn(&mut Template);
    let cases: [(&str, Change); 11] = [
        ("targets-valid", |template| {
            template.restrictions.targets = ["*.example".parse().unwrap()].into();
        }),
        ("targets-valid", |template| {
            template.restrictions.targets =
                (0..65).map(|n| format!("h{n}").parse().unwrap()).collect();
        }),
        ("principals-count", |template| template.principals.clear()),
        ("principals-count", |template| {
            template.principals = (0..257).map(|n| format!("p{n}").parse().unwrap()).collect();
        }),
        ("key-id-printable", |template| template.key_id.clear()),
        ("key-id-printable", |template| template.key_id = "a\nb".to_owned()),
        ("key-id-printable", |template| template.key_id = "a".repeat(257)),
        ("validity-order", |template| template.valid_before = template.valid_after),
        ("validity-order", |template| {
            template.valid_after = "1969-12-31T23:59:59Z".parse().unwrap()
        }),
        ("force-command-printable", |template| {
            template.critical_options.force_command = Some("id\nid".to_owned());
        }),
        ("force-command-printable", |template| {
            template.critical_options.force_command = Some(" ".to_owned());
        }),
    ];
    let issuer = SHARED.issuer(KeyAlgorithm::EcP256, Usage::User);
    for (rule, change) in cases {
        let mut template = user(subject());
        change(&mut template);
        assert_eq!(issuer.prepare(template, [7; 32]).unwrap_err().rule, rule);
    }
    let hosts = SHARED.issuer(KeyAlgorithm::EcP256, Usage::Host);
    assert_eq!(hosts.prepare(user(subject()), [7; 32]).unwrap_err().rule, "host-options");
}

#[test]
fn bytes_that_break_a_rule_are_refused() {
    type Change = fn(&mut Fields);
    let cases: [(&str, Change); 40] = [
        ("key-type", |fields| fields.name = b"ssh-ed25519".to_vec()),
        ("key-type", |fields| fields.name = b"ssh-dss-cert-v01@openssh.com".to_vec()),
        ("key-type", |fields| {
            fields.name = b"ssh-ed25519-cert-v01@openssh.com-cert-v01@openssh.com".to_vec();
        }),
        ("key-type", |fields| fields.name = b"\xff-cert-v01@openssh.com".to_vec()),
        ("nonce-length", |fields| fields.nonce.clear()),
        ("key-form", |fields| fields.key = strings(&[&[1; 31]])),
        ("key-form", |fields| fields.ecdsa(b"nistp384", &[4; 65])),
        ("key-form", |fields| fields.ecdsa(b"nistp256", &[2; 65])),
        ("key-form", |fields| fields.ecdsa(b"nistp256", &[4; 64])),
        ("key-size", |fields| fields.rsa(&[1, 0, 1], &[0x7f; 256])),
        ("key-size", |fields| fields.rsa(&[1, 0, 1], &[0x7f; 128])),
        ("key-form", |fields| fields.rsa(&[1, 0, 1], &[])),
        // Negative, and with a superfluous zero.
        ("key-form", |fields| fields.rsa(&[1, 0, 1], &[0xff; 256])),
        ("key-form", |fields| fields.rsa(&[0, 1, 0, 1], &odd_modulus())),
        ("key-form", |fields| fields.rsa(&[1], &odd_modulus())),
        ("serial-not-zero", |fields| fields.serial = 0),
        ("certificate-type", |fields| fields.certificate_type = 2),
        ("certificate-type", |fields| fields.certificate_type = 0),
        ("key-id-printable", |fields| fields.key_id = b"a\0b".to_vec()),
        ("principals-count", |fields| fields.principals.clear()),
        ("principals-valid", |fields| fields.principals = strings(&[b"a", b""])),
        ("principals-valid", |fields| fields.principals = strings(&[b"a,root"])),
        ("principals-order", |fields| fields.principals = strings(&[b"b", b"a"])),
        ("principals-order", |fields| fields.principals = strings(&[b"a", b"a"])),
        ("form", |fields| fields.principals = b"\0\0\0\x05root".to_vec()),
        ("validity-order", |fields| fields.valid_before = u64::MAX),
        ("critical-options-known", |fields| {
            fields.critical_options = strings(&[b"verify-required", b""]);
        }),
        ("options-order", |fields| {
            let (command, address) = (strings(&[b"id"]), strings(&[b"10.0.0.1"]));
            fields.critical_options =
                strings(&[b"source-address", &address, b"force-command", &command]);
        }),
        ("source-address-valid", |fields| {
            fields.critical_options = strings(&[b"source-address", &strings(&[b"10.0.0.1/8"])]);
        }),
        ("extensions-known", |fields| {
            fields.extensions = strings(&[b"permit-everything@example.com", b""]);
        }),
        ("options-order", |fields| {
            fields.extensions = strings(&[b"permit-pty", b"", b"permit-pty", b""]);
        }),
        ("extensions-known", |fields| fields.extensions = strings(&[b"one-use@chancery", b"yes"])),
        ("targets-valid", |fields| fields.targets(b"")),
        ("targets-valid", |fields| fields.targets(b"*.example")),
        ("targets-valid", |fields| fields.targets(b"b,a")),
        ("targets-valid", |fields| fields.targets(b"a,a")),
        ("targets-valid", |fields| fields.targets(b"a,")),
        ("targets-valid", |fields| {
            fields.extensions = strings(&[b"targets@chancery", b"web1"]);
        }),
        ("reserved-empty", |fields| fields.reserved = vec![0]),
        ("form", |fields| fields.after.push(0)),
    ];
    let issuer = SHARED.issuer(KeyAlgorithm::EcP256, Usage::User);
    assert!(issuer.resume(Fields::good(&issuer).write()).is_ok());
    for (index, (rule, change)) in cases.into_iter().enumerate() {
        let mut fields = Fields::good(&issuer);
        change(&mut fields);
        let refused = issuer.resume(fields.write()).unwrap_err();
        assert_eq!(refused.rule, rule, "case {index}: {refused}");
    }
}

#[test]
fn a_certificate_is_read_as_it_was_asked_for_whoever_signed_it() {
    let mut cas = Cas::new(&ALGORITHMS);
    for ca in ALGORITHMS {
        let template = user(subject());
        let issuer = cas.issuer(ca, Usage::User);
        let sealed = cas.seal(issuer.prepare(template.clone(), [7; 32]).unwrap());
        let read = Certificate::from_wire(sealed.bytes()).unwrap();
        assert_eq!(*read.issuer(), cas.key(ca).public_key);
        assert_eq!(read.key_id(), template.key_id);
        assert_eq!(*read.principals(), template.principals);
        assert_eq!(*read.public_key(), template.public_key);
        assert_eq!(*read.restrictions(), template.restrictions);
        assert_eq!((read.serial(), read.usage()), (template.serial, Usage::User));
        assert_eq!(read.valid_after(), "2026-03-01T08:00:00Z".parse().unwrap());
        assert_eq!(read.valid_before(), "2026-03-01T16:00:00Z".parse().unwrap());
    }
}

#[test]
fn a_certificate_with_any_one_bit_flipped_or_the_end_cut_off_is_not_read() {
    let mut cas = Cas::new(&[KeyAlgorithm::EcP256]);
    let issuer = cas.issuer(KeyAlgorithm::EcP256, Usage::User);
    let sealed = cas.seal(issuer.prepare(user(subject()), [7; 32]).unwrap());
    for bit in 0..8 * sealed.bytes().len() {
        let mut flipped = sealed.bytes().to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        Certificate::from_wire(&flipped).unwrap_err();
        Certificate::from_wire(&sealed.bytes()[..bit / 8]).unwrap_err();
    }
    let longer = [sealed.bytes(), &[0]].concat();
    assert_eq!(Certificate::from_wire(&longer).unwrap_err().rule, "form");
    let long = vec![0; Certificate::MAX_LEN + 1];
    assert_eq!(Certificate::from_wire(&long).unwrap_err().rule, "form");
}

proptest! {
    #[test]
    fn every_template_of_valid_parts_is_prepared_and_resumed_the_same(template in templates()) {
        let issuer = SHARED.issuer(KeyAlgorithm::EcP256, Usage::User);
        let prepared = issuer.prepare(template, [7; 32]).unwrap();
        let resumed = issuer.resume(prepared.bytes().to_vec()).unwrap();
        prop_assert_eq!(prepared.summary(), resumed.summary());
    }

    #[test]
    fn mutated_bytes_never_panic_and_what_is_taken_still_keeps_the_rules(
        template in templates(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let issuer = SHARED.issuer(KeyAlgorithm::EcP256, Usage::User);
        let mut bytes = issuer.prepare(template, [7; 32]).unwrap().bytes().to_vec();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(prepared) = issuer.resume(bytes) {
            let summary = prepared.summary();
            prop_assert!(!summary.names.is_empty());
            prop_assert!(summary.names.iter().all(|name| name.parse::<Principal>().is_ok()));
            prop_assert!(summary.not_before <= summary.not_after);
        }
    }
}

fn templates() -> impl Strategy<Value = Template> {
    let principal = "[a-zA-Z0-9._@:/\\\\$][a-zA-Z0-9._@:/\\\\$#-]{0,40}";
    let address = (any::<u32>(), 0..=32_u32).prop_map(|(bits, prefix)| {
        let mask = u32::MAX.checked_shl(32 - prefix).unwrap_or(0);
        format!("{}/{prefix}", std::net::Ipv4Addr::from_bits(bits & mask)).parse().unwrap()
    });
    let extension = prop::sample::subsequence(EXTENSIONS.to_vec(), 0..=EXTENSIONS.len());
    (
        (any::<SshSerial>(), prop::sample::select(SHARED_ALGORITHMS.to_vec())),
        "[!-~][ -~]{0,255}",
        btree_set(principal, 1..20),
        (0..250_000_000_000_i64, 1..1_000_000_000_i64),
        (prop::option::of("[!-~ä][ -~ä]{0,100}"), btree_set(address, 0..4)),
        extension,
        (any::<bool>(), btree_set("[a-z]{1,9}(\\.[a-z]{1,9}){0,2}", 0..4)),
    )
        .prop_map(
            |(
                (serial, algorithm),
                key_id,
                principals,
                (start, length),
                options,
                extensions,
                restrictions,
            )| {
                let public_key = match algorithm {
                    KeyAlgorithm::EcP256 => subject(),
                    other => SHARED.key(other).public_key.clone(),
                };
                Template {
                    serial,
                    public_key,
                    key_id,
                    principals: principals.iter().map(|text| text.parse().unwrap()).collect(),
                    valid_after: Timestamp::from_second(start).unwrap(),
                    valid_before: Timestamp::from_second(start + length).unwrap(),
                    critical_options: CriticalOptions {
                        force_command: options.0,
                        source_addresses: options.1,
                    },
                    extensions: extensions.into_iter().collect(),
                    restrictions: Restrictions {
                        one_use: restrictions.0,
                        targets: restrictions.1.iter().map(|text| text.parse().unwrap()).collect(),
                    },
                }
            },
        )
}

/// A user certificate with every option and extension.
fn user(public_key: PublicKey) -> Template {
    Template {
        serial: SshSerial::new(42).unwrap(),
        public_key,
        key_id: "alice's session".to_owned(),
        principals: ["deploy", "alice"].map(|text| text.parse().unwrap()).into(),
        valid_after: "2026-03-01T08:00:00.9Z".parse().unwrap(),
        valid_before: "2026-03-01T16:00:00.9Z".parse().unwrap(),
        critical_options: CriticalOptions {
            force_command: Some("/usr/bin/id -u".to_owned()),
            source_addresses: ["2001:db8::1", "10.0.0.0/8"]
                .map(|text| text.parse().unwrap())
                .into(),
        },
        extensions: EXTENSIONS.into(),
        restrictions: Restrictions {
            one_use: true,
            targets: ["web1.example", "db"].map(|text| text.parse().unwrap()).into(),
        },
    }
}

/// The fields of a certificate without signature, to be broken one by one.
struct Fields {
    name: Vec<u8>,
    nonce: Vec<u8>,
    key: Vec<u8>,
    serial: u64,
    certificate_type: u32,
    key_id: Vec<u8>,
    principals: Vec<u8>,
    valid_before: u64,
    critical_options: Vec<u8>,
    extensions: Vec<u8>,
    reserved: Vec<u8>,
    signature_key: Vec<u8>,
    after: Vec<u8>,
}

impl Fields {
    fn good(issuer: &Issuer) -> Self {
        Self {
            name: b"ssh-ed25519-cert-v01@openssh.com".to_vec(),
            nonce: vec![7; 32],
            key: wire::split_key(&SHARED.key(KeyAlgorithm::Ed25519).public_key.openssh_blob())
                .unwrap()
                .1
                .to_vec(),
            serial: 1,
            certificate_type: 1,
            key_id: b"id".to_vec(),
            principals: strings(&[b"alice"]),
            valid_before: 2,
            critical_options: Vec::new(),
            extensions: strings(&[b"permit-pty", b""]),
            reserved: Vec::new(),
            signature_key: issuer.key_blob.clone(),
            after: Vec::new(),
        }
    }

    fn ecdsa(&mut self, curve: &[u8], point: &[u8]) {
        self.name = b"ecdsa-sha2-nistp256-cert-v01@openssh.com".to_vec();
        self.key = strings(&[curve, point]);
    }

    fn rsa(&mut self, exponent: &[u8], modulus: &[u8]) {
        self.name = b"ssh-rsa-cert-v01@openssh.com".to_vec();
        self.key = strings(&[exponent, modulus]);
    }

    fn targets(&mut self, list: &[u8]) {
        self.extensions = strings(&[b"targets@chancery", &strings(&[list])]);
    }

    fn write(&self) -> Vec<u8> {
        let mut writer = Writer::with_capacity(0);
        writer.string(&self.name);
        writer.string(&self.nonce);
        writer.raw(&self.key);
        writer.u64(self.serial);
        writer.u32(self.certificate_type);
        writer.string(&self.key_id);
        writer.string(&self.principals);
        writer.u64(1);
        writer.u64(self.valid_before);
        writer.string(&self.critical_options);
        writer.string(&self.extensions);
        writer.string(&self.reserved);
        writer.string(&self.signature_key);
        writer.raw(&self.after);
        writer.into_bytes()
    }
}

fn strings(strings: &[&[u8]]) -> Vec<u8> {
    let mut writer = Writer::with_capacity(0);
    strings.iter().for_each(|string| writer.string(string));
    writer.into_bytes()
}

/// 2048 bits, in the form of an mpint.
fn odd_modulus() -> Vec<u8> {
    [&[0_u8][..], &[0xff; 256]].concat()
}

/// One software key of each kind; several tests share them, as RSA keys take long to make.
struct Cas {
    token: SoftwareToken,
    keys: BTreeMap<KeyAlgorithm, KeyRef>,
}

const SHARED_ALGORITHMS: [KeyAlgorithm; 4] =
    [KeyAlgorithm::EcP256, KeyAlgorithm::EcP384, KeyAlgorithm::Ed25519, KeyAlgorithm::Rsa2048];

static SHARED: LazyLock<Cas> = LazyLock::new(|| Cas::new(&SHARED_ALGORITHMS));

/// A P-256 key that is no CA's.
fn subject() -> PublicKey {
    static SUBJECT: LazyLock<PublicKey> = LazyLock::new(|| {
        Cas::new(&[KeyAlgorithm::EcP256]).key(KeyAlgorithm::EcP256).public_key.clone()
    });
    SUBJECT.clone()
}

impl Cas {
    fn new(algorithms: &[KeyAlgorithm]) -> Self {
        let mut token = SoftwareToken::default();
        let mut keys = BTreeMap::new();
        for (number, algorithm) in algorithms.iter().enumerate() {
            let label = KeyLabel::new(Purpose::Issuing, &format!("ca{number}")).unwrap();
            let id = KeyId::new(&[u8::try_from(number).unwrap() + 1]).unwrap();
            let generated = token.generate(*algorithm, &label, &id).unwrap();
            keys.insert(*algorithm, generated.key);
        }
        Self { token, keys }
    }

    fn key(&self, algorithm: KeyAlgorithm) -> &KeyRef {
        &self.keys[&algorithm]
    }

    fn issuer(&self, algorithm: KeyAlgorithm, usage: Usage) -> Issuer {
        Issuer::new(IssuingKey::new(self.key(algorithm).clone()).unwrap(), usage)
    }

    fn seal(&mut self, prepared: Prepared) -> Sealed {
        let input = Input::Message(prepared.bytes());
        let signature = self.token.sign(prepared.key().key(), prepared.scheme(), input).unwrap();
        prepared.seal(signature).unwrap()
    }
}

fn run(command: &mut Command) -> String {
    let output = command.output().expect("ssh-keygen of openssh-client is needed");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
