//! Lists before the real `ssh-keygen -Q`, and before a parser that must not be fooled.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::Command,
    sync::{LazyLock, Mutex},
};

use proptest::{collection::vec, prelude::*, sample::Index};

use super::*;
use crate::{
    keys::KeyAlgorithm,
    seal::Sealed,
    token::{
        Input, IssuingKey, KeyId, KeyLabel, KeyStore as _, Purpose, Token as _,
        software::SoftwareToken,
    },
};

#[test]
fn ssh_keygen_says_of_every_certificate_what_the_model_says() {
    let config = ProptestConfig { cases: 48, ..ProptestConfig::default() };
    proptest!(config, |(cas in vec(revoked(), CAS), key in prop::option::of(0..CAS + 1))| {
        let directory = tempfile::tempdir().unwrap();
        let world = World::new(cas, key);
        fs::write(directory.path().join("krl"), world.krl().encode().unwrap()).unwrap();
        let read = Krl::parse(&fs::read(directory.path().join("krl")).unwrap()).unwrap();
        prop_assert_eq!(&read, &world.krl());
        let mut asked = BTreeMap::new();
        for (ca, serial, key_id, revoked) in world.questions() {
            let certificate = world.certify(ca, serial, &key_id);
            let name = format!("{ca}-{serial}-{}.pub", asked.len());
            fs::write(directory.path().join(&name), ssh::to_openssh(&certificate, "")).unwrap();
            let certificate = ssh::Certificate::from_wire(&certificate).unwrap();
            prop_assert_eq!(read.revokes(&certificate), revoked, "{}", &name);
            asked.insert(name, revoked);
        }
        prop_assert_eq!(ssh_keygen(directory.path(), asked.keys()).unwrap(), asked);
    });
}

#[test]
fn every_second_of_two_hundred_thousand_fits_into_thirty_kilobytes() {
    let world = World::default();
    let mut krl = Krl::new(1, at("2026-11-22T03:00:00Z"));
    let serials = (1..=200_000).step_by(2).filter_map(SshSerial::new);
    krl.authority(&world.cas[0].0).revoke_serials(serials);
    let bytes = krl.encode().unwrap();
    assert!(bytes.len() <= 30_000, "{} bytes", bytes.len());
    assert_eq!(Krl::parse(&bytes).unwrap().authority(&world.cas[0].0).serials(), 100_000);
}

#[test]
fn ssh_keygen_shows_version_date_and_comment() {
    let directory = tempfile::tempdir().unwrap();
    let mut krl = Krl::new(812, at("2026-11-22T03:00:00.9Z"));
    krl.authority(&World::default().cas[0].0);
    fs::write(directory.path().join("krl"), krl.encode().unwrap()).unwrap();
    let said = Command::new("ssh-keygen")
        .args(["-Qlf", "krl"])
        .current_dir(directory.path())
        .env("TZ", "UTC")
        .output()
        .expect("ssh-keygen of openssh-client is needed");
    let said = String::from_utf8_lossy(&said.stdout);
    for line in ["# KRL version 812\n", "# Generated at 20261122T030000\n", "# Comment: chancery\n"]
    {
        assert!(said.contains(line), "{line:?} is not in\n{said}");
    }
}

#[test]
fn a_list_without_a_ca_is_not_written_and_a_key_id_that_none_has_is_not_taken() {
    let mut krl = Krl::new(1, at("2026-11-22T03:00:00Z"));
    assert_eq!(krl.encode(), Err(KrlError::NoAuthority));
    let authority = krl.authority(&World::default().cas[0].0);
    for key_id in ["", " ", "a\nb", "a\0", "ä", &"a".repeat(257)] {
        let refused = authority.revoke_key_id(key_id);
        assert_eq!(refused, Err(KrlError::KeyId(key_id.to_owned())));
    }
}

#[test]
fn every_truncation_and_nothing_at_all_are_refused() {
    let bytes = sample().encode().unwrap();
    for length in 0..bytes.len() {
        let refused = Krl::parse(&bytes[..length]);
        assert!(matches!(refused, Err(KrlError::Malformed(_))), "{length} bytes: {refused:?}");
    }
    let more = [bytes.as_slice(), &[0]].concat();
    assert!(Krl::parse(&more).is_err());
    assert_eq!(Krl::parse(&vec![0; Krl::MAX_LEN + 1]), Err(KrlError::TooLong(Krl::MAX_LEN + 1)));
}

/// A flipped bit is refused, or makes another list, which OpenSSH understands as it is read here:
/// what is installed never locks everybody out.
#[test]
fn every_flipped_bit_is_refused_or_understood_as_openssh_does() {
    let directory = tempfile::tempdir().unwrap();
    let world = World::default();
    let certificate = world.certify(0, SshSerial::new(3).unwrap(), "alice");
    fs::write(directory.path().join("3.pub"), ssh::to_openssh(&certificate, "")).unwrap();
    let certificate = ssh::Certificate::from_wire(&certificate).unwrap();
    let list = sample();
    let bytes = list.encode().unwrap();
    let (mut taken, mut asked) = (0, 0);
    for bit in 0..8 * bytes.len() {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let Ok(read) = Krl::parse(&flipped) else { continue };
        assert_ne!(read, list, "bit {bit}");
        assert_eq!(Krl::parse(&read.encode().unwrap()).as_ref(), Ok(&read), "bit {bit}");
        taken += 1;
        // One in so many, so that all parts of the file are met.
        if taken % 16 == 0 {
            fs::write(directory.path().join("krl"), &flipped).unwrap();
            let said = ssh_keygen(directory.path(), ["3.pub".to_owned()].iter());
            let said = said.unwrap_or_else(|error| panic!("bit {bit}: {error}"));
            assert_eq!(said["3.pub"], read.revokes(&certificate), "bit {bit}");
            asked += 1;
        }
    }
    assert!(asked > 50, "{taken} taken, {asked} asked");
}

#[test]
fn what_openssh_takes_and_is_never_written_is_refused() {
    type Change = fn(&mut Writer, &[u8]);
    let cases: [(&str, Change); 13] = [
        ("of any CA", |writer, _| writer.string(b"")),
        ("a CA that is no key", |writer, _| writer.string(b"\0\0\0\x01a")),
        ("serial 0", |writer, ca| section(writer, ca, CERT_SERIAL_LIST, &[0])),
        ("descending", |writer, ca| section(writer, ca, CERT_SERIAL_LIST, &[2, 1])),
        ("twice", |writer, ca| section(writer, ca, CERT_SERIAL_LIST, &[2, 2])),
        ("empty", |writer, ca| section(writer, ca, CERT_SERIAL_LIST, &[])),
        ("a range backwards", |writer, ca| section(writer, ca, CERT_SERIAL_RANGE, &[2, 1])),
        ("a range from 0", |writer, ca| section(writer, ca, CERT_SERIAL_RANGE, &[0, 1])),
        ("half a range", |writer, ca| section(writer, ca, CERT_SERIAL_RANGE, &[1])),
        ("a bitmap of 16,001 bits", |writer, ca| bitmap(writer, ca, 1, 16_001)),
        ("a bitmap of 16,392 bits", |writer, ca| bitmap(writer, ca, 1, 16_392)),
        ("a bitmap beyond the last", |writer, ca| bitmap(writer, ca, u64::MAX, 2)),
        ("an extension", |writer, ca| section(writer, ca, 0x39, &[0])),
    ];
    let ca = World::default().cas[0].0.openssh_blob();
    let write = |change: Change| {
        let mut writer = Writer::with_capacity(0);
        Krl::new(1, at("2026-11-22T03:00:00Z")).write_header(&mut writer);
        writer.u8(CERTIFICATES);
        writer.string_of(|writer| change(writer, &ca));
        writer.u8(FINGERPRINT_SHA256);
        writer.string(b"");
        Krl::parse(&writer.into_bytes())
    };
    assert!(write(|writer, ca| section(writer, ca, CERT_SERIAL_LIST, &[1])).is_ok());
    assert!(write(|writer, ca| section(writer, ca, CERT_SERIAL_RANGE, &[1, u64::MAX])).is_ok());
    assert!(write(|writer, ca| bitmap(writer, ca, 1, 16_000)).is_ok());
    assert!(write(|writer, ca| bitmap(writer, ca, u64::MAX, 1)).is_ok());
    for (what, change) in cases {
        assert!(matches!(write(change), Err(KrlError::Malformed(_))), "{what}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn noise_is_refused_and_never_panics(
        noise in vec(any::<u8>(), 0..200),
        at: Index,
        cut: Index,
    ) {
        prop_assert!(Krl::parse(&noise).is_err());
        let mut bytes = sample().encode().unwrap();
        let at = at.index(bytes.len());
        let end = at + cut.index(bytes.len() - at);
        bytes.splice(at..end, noise);
        if let Ok(read) = Krl::parse(&bytes) {
            prop_assert_eq!(Krl::parse(&read.encode().unwrap()), Ok(read));
        }
    }

    #[test]
    fn sections_are_nearly_as_short_as_all_ways_tried_have_the_shortest(
        steps in vec((1_u64..=400, prop_oneof![0_u64..3, 0_u64..200]), 1..40),
    ) {
        let mut last = 0;
        let mut serials = Serials::default();
        for (gap, width) in steps {
            let first = last + gap + 1;
            last = first + width;
            serials.push(serials::Run { first, last }).unwrap();
        }
        let mut writer = Writer::with_capacity(0);
        serials.write(&mut writer);
        let (written, runs) = (writer.into_bytes().len(), serials.runs());
        let shortest = shortest(runs);
        prop_assert!(shortest <= written, "{written} bytes are too few");
        prop_assert!(20 * written <= 21 * shortest + 20, "{written}, not {shortest} bytes");
    }
}

/// The least length of sections that say these runs, by trying all.
fn shortest(runs: &[serials::Run]) -> usize {
    let mut best = vec![0_usize];
    for end in 1..=runs.len() {
        let ways = (0..end).flat_map(|from| {
            let (first, last) = (runs[from].first, runs[end - 1].last);
            let serials: u64 = runs[from..end].iter().map(|run| run.last - run.first + 1).sum();
            let bitmap = (last - first < 16_000).then_some(17 + (last - first) / 8 + 1);
            let range = (from == end - 1).then_some(21);
            let before = best[from];
            [bitmap, range, Some(5 + 8 * serials)]
                .into_iter()
                .flatten()
                .map(move |bytes| before + usize::try_from(bytes).unwrap())
        });
        let least = ways.min().unwrap();
        best.push(least);
    }
    best[runs.len()]
}

fn section(writer: &mut Writer, ca: &[u8], kind: u8, numbers: &[u64]) {
    writer.string(ca);
    writer.string(b"");
    writer.u8(kind);
    writer.string_of(|writer| numbers.iter().for_each(|number| writer.u64(*number)));
}

/// A bitmap of so many bits, the first and the last of them set.
fn bitmap(writer: &mut Writer, ca: &[u8], offset: u64, bits: usize) {
    writer.string(ca);
    writer.string(b"");
    writer.u8(CERT_SERIAL_BITMAP);
    let mut number = vec![0_u8; bits.div_ceil(8)];
    number[0] = 1 << ((bits - 1) % 8);
    *number.last_mut().unwrap() |= 1;
    writer.string_of(|writer| {
        writer.u64(offset);
        writer.positive_mpint(&number);
    });
}

/// Two CAs with a list, a range, a bitmap, key ids and a fingerprint.
fn sample() -> Krl {
    let world = World::default();
    let mut krl = Krl::new(7, at("2026-11-22T03:00:00Z"));
    let dense = (2000..2400).step_by(3);
    let serials = (1..=3).chain([900, 90_000]).chain(5_000..6_000).chain(dense);
    let authority = krl.authority(&world.cas[0].0);
    authority.revoke_serials(serials.filter_map(SshSerial::new));
    authority.revoke_key_id("alice").unwrap();
    authority.revoke_key_id("bob").unwrap();
    krl.authority(&world.cas[1].0).revoke_serials([SshSerial::MAX]);
    krl.revoke_key(&world.subject);
    krl
}

const CAS: usize = 2;

/// What is revoked of one CA: pieces of serial numbers, and key ids.
type Revoked = (Vec<u64>, Vec<String>);

fn revoked() -> impl Strategy<Value = Revoked> {
    let start = prop_oneof![
        Just(1),
        Just(1 << 32),
        any::<u64>(),
        (0_u64..40_000).prop_map(|below| u64::MAX - below),
    ];
    let span = prop_oneof![
        Just(1_u64),
        0_u64..60,
        prop::sample::select(vec![15_998_u64, 15_999, 16_000, 16_001, 16_383, 16_384, 16_385]),
        15_000_u64..50_000,
    ];
    let step = prop_oneof![Just(1_u64), 2_u64..40, 40_u64..5_000];
    let piece = (start, span, step).prop_map(|(start, span, step)| {
        // From start to start + span, both among them, in steps.
        let end = start.saturating_add(span);
        (start..=end).step_by(usize::try_from(step).unwrap()).chain([end]).collect::<Vec<_>>()
    });
    let serials = vec(piece, 0..4).prop_map(|pieces| {
        let mut serials = pieces.concat();
        serials.retain(|serial| *serial != 0);
        serials.sort_unstable();
        serials.dedup();
        serials
    });
    (serials, vec("[!-~][ -~]{0,40}", 0..3))
}

/// Two CAs of different kinds, a subject's key, and what is revoked.
struct World {
    cas: Vec<(PublicKey, ssh::Issuer)>,
    subject: PublicKey,
    revoked: Vec<Revoked>,
    /// Revoked by fingerprint: this CA, or the subject.
    key: Option<usize>,
}

impl Default for World {
    fn default() -> Self {
        Self::new(vec![Revoked::default(); CAS], None)
    }
}

impl World {
    fn new(revoked: Vec<Revoked>, key: Option<usize>) -> Self {
        let (_, cas, subject) = &*KEYS;
        let cas = cas.iter().map(|key| {
            let public_key = key.key().public_key.clone();
            (public_key, ssh::Issuer::new(key.clone(), ssh::Usage::User))
        });
        Self { cas: cas.collect(), subject: subject.clone(), revoked, key }
    }

    fn krl(&self) -> Krl {
        let mut krl = Krl::new(1, at("2026-11-22T03:00:00Z"));
        for ((ca, _), (serials, key_ids)) in self.cas.iter().zip(&self.revoked) {
            let authority = krl.authority(ca);
            // In two parts and not in order, as they may come.
            let (first, second) = serials.split_at(serials.len() / 2);
            authority.revoke_serials(second.iter().copied().filter_map(SshSerial::new));
            authority.revoke_serials(first.iter().rev().copied().filter_map(SshSerial::new));
            key_ids.iter().for_each(|key_id| authority.revoke_key_id(key_id).unwrap());
        }
        if let Some(key) = self.key {
            krl.revoke_key(self.cas.get(key).map_or(&self.subject, |(key, _)| key));
        }
        krl
    }

    /// Serial numbers at the edges of what is revoked, for both CAs, with the verdict that the
    /// lists of numbers give.
    fn questions(&self) -> Vec<(usize, SshSerial, String, bool)> {
        let mut questions = Vec::new();
        for (serials, key_ids) in &self.revoked {
            let edges = serials.windows(2).filter(|pair| pair[1] - pair[0] > 1);
            let edges = edges.flatten().chain(serials.first()).chain(serials.last());
            let edges: BTreeSet<_> = edges.step_by(edges_step(serials.len())).copied().collect();
            let near = edges
                .iter()
                .flat_map(|serial| [Some(*serial), serial.checked_add(1), serial.checked_sub(1)]);
            let near: BTreeSet<_> = near.flatten().chain([1, 15_999, u64::MAX]).collect();
            for serial in near.into_iter().filter_map(SshSerial::new) {
                for ca in 0..CAS {
                    questions.push(self.question(ca, serial, "nobody"));
                }
            }
            for key_id in key_ids {
                for ca in 0..CAS {
                    questions.push(self.question(ca, SshSerial::MIN, key_id));
                }
            }
        }
        questions
    }

    fn question(
        &self,
        ca: usize,
        serial: SshSerial,
        key_id: &str,
    ) -> (usize, SshSerial, String, bool) {
        let (serials, key_ids) = &self.revoked[ca];
        let revoked = serials.binary_search(&serial.get()).is_ok()
            || key_ids.iter().any(|revoked| revoked == key_id)
            || self.key.is_some_and(|key| key == ca || key == CAS);
        (ca, serial, key_id.to_owned(), revoked)
    }

    fn certify(&self, ca: usize, serial: SshSerial, key_id: &str) -> Vec<u8> {
        let template = ssh::Template {
            serial,
            public_key: self.subject.clone(),
            key_id: key_id.to_owned(),
            principals: ["alice".parse().unwrap()].into(),
            valid_after: at("2026-11-22T03:00:00Z"),
            valid_before: at("2026-11-22T09:00:00Z"),
            critical_options: ssh::CriticalOptions::default(),
            extensions: BTreeSet::new(),
            restrictions: ssh::Restrictions::default(),
        };
        let prepared = self.cas[ca].1.prepare(template, [7; 32]).unwrap();
        let input = Input::Message(prepared.bytes());
        let signature =
            KEYS.0.lock().unwrap().sign(prepared.key().key(), prepared.scheme(), input).unwrap();
        let sealed: Sealed = prepared.seal(signature).unwrap();
        sealed.bytes().to_vec()
    }
}

/// Not more than some dozens of edges are asked about.
fn edges_step(serials: usize) -> usize {
    serials / 12 + 1
}

type Keys = (Mutex<SoftwareToken>, Vec<IssuingKey>, PublicKey);

static KEYS: LazyLock<Keys> = LazyLock::new(|| {
    let mut token = SoftwareToken::default();
    let mut generate = |algorithm, name: &str| {
        let label = KeyLabel::new(Purpose::Issuing, name).unwrap();
        let id = KeyId::new(name.as_bytes()).unwrap();
        IssuingKey::new(token.generate(algorithm, &label, &id).unwrap().key).unwrap()
    };
    let cas =
        vec![generate(KeyAlgorithm::EcP256, "users"), generate(KeyAlgorithm::Ed25519, "more")];
    let subject = generate(KeyAlgorithm::EcP256, "subject").key().public_key.clone();
    (Mutex::new(token), cas, subject)
});

/// What `ssh-keygen -Q` says of each file by the list `krl`: whether it is revoked.
fn ssh_keygen<'a>(
    directory: &Path,
    files: impl Iterator<Item = &'a String>,
) -> Result<BTreeMap<String, bool>, String> {
    let output = Command::new("ssh-keygen")
        .args(["-Q", "-f", "krl"])
        .args(files)
        .current_dir(directory)
        .output()
        .expect("ssh-keygen of openssh-client is needed");
    // It exits with 1 when a key is revoked, and with 255 when it cannot read the list.
    if !matches!(output.status.code(), Some(0 | 1)) {
        return Err(format!("{output:?}"));
    }
    let said = String::from_utf8(output.stdout).map_err(|error| error.to_string())?;
    said.lines()
        .map(|line| {
            let verdict = match line.rsplit_once(": ") {
                Some((_, "REVOKED")) => true,
                Some((_, "ok")) => false,
                _ => return Err(line.to_owned()),
            };
            let name = line.split_once(' ').ok_or(line)?.0;
            Ok((name.to_owned(), verdict))
        })
        .collect()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}
