//! Whatever is changed in a bundle, both verifiers refuse it, and name what was changed first.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(clippy::print_stdout, reason = "the seed, with which the same is found again")]

#[path = "harness/custody.rs"]
mod custody;
#[path = "harness/held.rs"]
mod held;
#[path = "harness/machine.rs"]
mod machine;
#[path = "harness/meeting.rs"]
mod meeting;
#[path = "harness/place.rs"]
mod place;
#[path = "harness/random.rs"]
mod random;
#[path = "harness/second.rs"]
mod second;

use std::{collections::BTreeMap, fs};

use ceremony::{
    digest::Digest,
    evidence::{
        Evidence,
        archive::{self, Files},
    },
};

use held::Held;
use meeting::*;
use place::*;
use random::Random;
use second::*;

#[test]
fn three_hundred_random_changes_of_a_bundle_are_found() {
    Mutations::new(1).find(300);
}

#[test]
#[ignore = "takes some minutes: `make mutations`"]
fn ten_thousand_random_changes_of_a_bundle_are_found() {
    Mutations::new(2).find(10_000);
}

/// Bundles of ceremonies by all plans, and chance.
struct Mutations {
    random: Random,
    bundles: Vec<Bundle>,
    /// The one that is changed next.
    at: usize,
    second: Second,
}

/// The files of a bundle, by their names in it.
struct Bundle {
    name: String,
    prefix: String,
    files: Files,
    seconds: u64,
}

/// A changed bundle, and what a verifier must say of it: one of these.
struct Mutant {
    what: String,
    content: Vec<u8>,
    said: Vec<String>,
}

impl Mutations {
    fn new(seed: u64) -> Self {
        let mut bundles = vec![Bundle::new("meeting", &meeting())];
        bundles.extend(Held::all().iter().map(|held| Bundle::new(&held.name, &held.bundle)));
        let mut second = Second::start();
        for bundle in &bundles {
            let content = bundle.pack(&bundle.files);
            assert!(Evidence::read(&content).is_ok(), "{}", bundle.name);
            assert_eq!(second.verify(&content), Ok(()), "{}", bundle.name);
        }
        Self { random: Random(seed), bundles, at: 0, second }
    }

    fn find(mut self, count: usize) {
        println!("seed {}", self.random.0);
        let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
        for number in 0..count {
            self.at = number / KINDS % self.bundles.len();
            let (kind, mutant) = self.mutant(number % KINDS);
            *kinds.entry(kind).or_default() += 1;
            let Mutant { what, content, said } = mutant;
            let what = format!("{number}, {}: {kind}, {what}", self.bundle().name);
            let first = Evidence::read(&content).map(drop).map_err(|error| error.to_string());
            for (verifier, found) in
                [("the first", first), ("verify.py", self.second.verify(&content))]
            {
                let Err(error) = found else { panic!("{verifier} missed {what}") };
                let named = said.iter().any(|said| names(&error, said));
                assert!(named, "{verifier}, {what}: {error:?} names none of {said:?}");
            }
        }
        let bundles = self.bundles.len();
        println!("{count} changes of {bundles} bundles, {kinds:?}: all found by both, 0 missed");
    }

    fn mutant(&mut self, number: usize) -> (&'static str, Mutant) {
        match number {
            0 => ("a bit of the archive", self.flip_anywhere()),
            1 => ("a bit of a record", self.change_lines(Self::flip_in_line)),
            2 => ("a record removed", self.change_lines(Self::remove_line)),
            3 => ("two records swapped", self.change_lines(Self::swap_lines)),
            4 => ("a record twice", self.change_lines(Self::repeat_line)),
            5 => ("a file dropped", self.drop_file()),
            6 => ("a file changed", self.change_file()),
            _ => ("a file changed, with its hash", self.forge_file()),
        }
    }

    /// One bit, wherever it is.
    fn flip_anywhere(&mut self) -> Mutant {
        let mut content = self.bundle().pack(&self.bundle().files);
        let at = self.random.below(content.len());
        content[at] ^= 1 << self.random.below(8);
        let mut start = 0;
        let mut said = vec!["archive".to_owned()];
        for (name, file) in &self.bundle().files {
            let inside = start + BLOCK..start + BLOCK + file.len();
            if inside.contains(&at) {
                said = self.changed(name, at - inside.start);
            }
            start = (inside.end).next_multiple_of(BLOCK);
        }
        Mutant { what: format!("byte {at}"), content, said }
    }

    /// Changes the lines of the transcript, or of the rehearsal; the hash of the file is made anew.
    fn change_lines(&mut self, change: fn(&mut Self, &mut Vec<Vec<u8>>) -> String) -> Mutant {
        let names = ["transcript.jsonl", "rehearsal.jsonl"];
        let names: Vec<&str> =
            names.into_iter().filter(|name| self.bundle().files.contains_key(*name)).collect();
        let name = names[self.random.below(names.len())];
        let content = self.bundle().files[name].clone();
        let lines = content.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec);
        let mut lines: Vec<Vec<u8>> = lines.collect();
        let what = change(self, &mut lines);
        let changed = lines.concat();
        let at = (0..).zip(&changed).zip(&content).find(|((_, a), b)| a != b);
        let at = at.map_or(changed.len().min(content.len()), |((at, _), _)| at);
        let said = bad_lines(name, &content, at);
        let mut files = self.bundle().files.clone();
        files.insert(name.to_owned(), changed);
        let content = self.bundle().pack(&with_sums(files));
        Mutant { what: format!("{name}: {what}"), content, said }
    }

    #[expect(clippy::ptr_arg, reason = "as the changes beside it")]
    fn flip_in_line(&mut self, lines: &mut Vec<Vec<u8>>) -> String {
        let line = self.random.below(lines.len());
        let (at, bit) = (self.random.below(lines[line].len()), self.random.below(8));
        lines[line][at] ^= 1 << bit;
        format!("line {}, byte {at}, bit {bit}", line + 1)
    }

    fn remove_line(&mut self, lines: &mut Vec<Vec<u8>>) -> String {
        let line = self.random.below(lines.len());
        lines.remove(line);
        format!("without line {}", line + 1)
    }

    #[expect(clippy::ptr_arg, reason = "as the changes beside it")]
    fn swap_lines(&mut self, lines: &mut Vec<Vec<u8>>) -> String {
        let first = self.random.below(lines.len() - 1);
        let second = first + 1 + self.random.below(lines.len() - first - 1);
        lines.swap(first, second);
        format!("lines {} and {}", first + 1, second + 1)
    }

    /// Also behind the last one.
    fn repeat_line(&mut self, lines: &mut Vec<Vec<u8>>) -> String {
        let (line, at) = (self.random.below(lines.len()), self.random.below(lines.len() + 1));
        lines.insert(at, lines[line].clone());
        format!("line {} again as line {}", line + 1, at + 1)
    }

    fn drop_file(&mut self) -> Mutant {
        let mut files = self.bundle().files.clone();
        let name = self.name();
        // An attachment that nothing lists any more was never there.
        let optional = [&GIVEN[..], &["site.toml"]].concat().contains(&name.as_str());
        let listed = self.random.below(2) == 0 || optional;
        files.remove(&name);
        if !listed {
            files = with_sums(files);
        }
        Mutant { what: name.clone(), content: self.bundle().pack(&files), said: vec![name] }
    }

    /// The hash in the manifest is the one that it had.
    fn change_file(&mut self) -> Mutant {
        let name = self.name();
        let (changed, at) = self.random.change(self.bundle().files[&name].clone());
        let mut files = self.bundle().files.clone();
        files.insert(name.clone(), changed);
        let said = self.changed(&name, at);
        Mutant { what: format!("{name}, byte {at}"), content: self.bundle().pack(&files), said }
    }

    /// What may be said of a file that was changed at this byte.
    fn changed(&self, name: &str, at: usize) -> Vec<String> {
        match name {
            // A name that is listed no more, or not as it is.
            "SHA256SUMS" => {
                [name, "does not belong there", "is missing"].map(str::to_owned).to_vec()
            }
            name if name.ends_with(".jsonl") => bad_lines(name, &self.bundle().files[name], at),
            _ => vec![name.to_owned()],
        }
    }

    /// The hash in the manifest is made anew: what the transcript gives tells.
    fn forge_file(&mut self) -> Mutant {
        let name = loop {
            let name = self.name();
            if !GIVEN.contains(&name.as_str()) && !name.ends_with(".jsonl") {
                break name;
            }
        };
        let (changed, at) = self.random.change(self.bundle().files[&name].clone());
        let mut files = self.bundle().files.clone();
        files.insert(name.clone(), changed);
        Mutant {
            what: format!("{name}, byte {at}"),
            content: self.bundle().pack(&with_sums(files)),
            said: vec![name],
        }
    }

    fn name(&mut self) -> String {
        let at = self.random.below(self.bundle().files.len());
        self.bundle().files.keys().nth(at).cloned().unwrap_or_default()
    }

    fn bundle(&self) -> &Bundle {
        &self.bundles[self.at]
    }
}

impl Bundle {
    fn new(name: &str, content: &[u8]) -> Self {
        let (archived, seconds) = archive::read(content).unwrap();
        let first = archived.keys().next().unwrap();
        let prefix = format!("{}/", first.split_once('/').unwrap().0);
        let inside = |(name, it): (String, Vec<u8>)| (name.replacen(&prefix, "", 1), it);
        let files = archived.into_iter().map(inside).collect();
        let this = Self { name: name.to_owned(), prefix, files, seconds };
        assert_eq!(this.pack(&this.files), content, "unchanged, it is the same");
        this
    }

    fn pack(&self, files: &Files) -> Vec<u8> {
        let prefix = &self.prefix;
        let files = files.iter().map(|(name, it)| (format!("{prefix}{name}"), it.clone()));
        archive::write(&files.collect(), self.seconds)
    }
}

/// The bundle of a ceremony of several people, with an interruption.
fn meeting() -> Vec<u8> {
    let meeting = Meeting::new();
    let lines = meeting.lines(&["alice", "bob", "carol"]);
    meeting.run_typing(&lines[..3]).refused(1, "was not confirmed");
    meeting.resume_typing(&[&lines[..1], &lines[3..]].concat()).ok();
    let [transcript, rehearsal, site, photo, output] =
        ["transcript.jsonl", "rehearsal.jsonl", "site.toml", "photo.jpg", "a.bundle"]
            .map(|name| meeting.place.text(name));
    meeting.place.write("photo.jpg", &"not a photo\n".repeat(100));
    let given = ["--rehearsal", &rehearsal, "--site", &site, "--attach", &photo];
    program(&[&["bundle", &transcript, "-o", &output, "--hash-of", &photo], &given[..]].concat())
        .ok();
    fs::read(&output).unwrap()
}

/// What a verifier may say when the byte at this place is the first one that was changed.
fn bad_lines(name: &str, content: &[u8], at: usize) -> Vec<String> {
    let count = |content: &[u8]| content.iter().filter(|byte| **byte == b'\n').count();
    let (bad, last) = (count(&content[..at.min(content.len())]) + 1, count(content));
    let mut said = vec![format!("{name}: line {bad}")];
    if bad == last - 1 {
        // The last line states the head of the one before it: either was changed.
        said.push(format!("{name}: line {last} does not state"));
    }
    // Where the end is missing, that is said with what is left.
    said.push(format!("{name}: the ceremony did not come to its end, after {} whole", bad - 1));
    if bad == 1 {
        said.push(format!("{name}: there is no whole record"));
    }
    said
}

/// Whether an error names this, and not a line with a longer number.
fn names(error: &str, said: &str) -> bool {
    error.split_once(said).is_some_and(|(_, rest)| {
        !said.ends_with(|c: char| c.is_ascii_digit())
            || !rest.starts_with(|c: char| c.is_ascii_digit())
    })
}

fn with_sums(mut files: Files) -> Files {
    files.remove("SHA256SUMS");
    let sums = files.iter().map(|(name, it)| format!("{}  {name}\n", Digest::of_file(it)));
    let sums: String = sums.collect();
    files.insert("SHA256SUMS".to_owned(), sums.into_bytes());
    files
}

/// Files that have nothing but their hash: against whoever makes the hashes anew, too, the SHA-256 of
/// the bundle helps alone. And one that Python reads for what it says.
const GIVEN: [&str; 9] = [
    "README.txt",
    "SHA256SUMS",
    "attachments/photo.jpg",
    "bundle.json",
    "clauses.json",
    "handoff/handoff.toml",
    "head.svg",
    "kept-elsewhere.sha256",
    "verify.py",
];
/// How many kinds of changes there are.
const KINDS: usize = 8;
const BLOCK: usize = 512;
