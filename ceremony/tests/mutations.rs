//! Whatever is changed in a bundle, both verifiers refuse it, and name what was changed first.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(clippy::print_stdout, reason = "the seed, with which the same is found again")]

#[path = "harness/meeting.rs"]
mod meeting;
#[path = "harness/place.rs"]
mod place;
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

use meeting::*;
use place::*;
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

/// The bundle of a ceremony of several people, with an interruption, and chance.
struct Mutations {
    random: Random,
    /// The files by their names in the bundle.
    files: Files,
    seconds: u64,
    second: Second,
}

/// A changed bundle, and what a verifier must say of it: one of these.
struct Mutant {
    what: String,
    content: Vec<u8>,
    said: Vec<String>,
}

impl Mutations {
    fn new(seed: u64) -> Self {
        let meeting = Meeting::new();
        let lines = meeting.lines(&["alice", "bob", "carol"]);
        meeting.run_typing(&lines[..3]).refused(1, "was not confirmed");
        meeting.resume_typing(&[&lines[..1], &lines[3..]].concat()).ok();
        let [transcript, rehearsal, site, photo, output] =
            ["transcript.jsonl", "rehearsal.jsonl", "site.toml", "photo.jpg", "a.bundle"]
                .map(|name| meeting.place.text(name));
        meeting.place.write("photo.jpg", &"not a photo\n".repeat(100));
        let given = ["--rehearsal", &rehearsal, "--site", &site, "--attach", &photo];
        program(
            &[&["bundle", &transcript, "-o", &output, "--hash-of", &photo], &given[..]].concat(),
        )
        .ok();
        let content = fs::read(&output).unwrap();
        let (archived, seconds) = archive::read(&content).unwrap();
        let inside = |(name, it): (String, Vec<u8>)| (name.replace(PREFIX, ""), it);
        let files = archived.into_iter().map(inside).collect();
        let mut this = Self { random: Random(seed), files, seconds, second: Second::start() };
        assert_eq!(this.pack(&this.files.clone()), content, "unchanged, it is the same");
        assert!(Evidence::read(&content).is_ok());
        assert_eq!(this.second.verify(&content), Ok(()));
        this
    }

    fn find(mut self, count: usize) {
        println!("seed {}", self.random.0);
        let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
        for number in 0..count {
            let (kind, mutant) = self.mutant(number);
            *kinds.entry(kind).or_default() += 1;
            let Mutant { what, content, said } = mutant;
            let first = Evidence::read(&content).map(drop).map_err(|error| error.to_string());
            for (verifier, found) in
                [("the first", first), ("verify.py", self.second.verify(&content))]
            {
                let Err(error) = found else {
                    panic!("{verifier} missed {number}: {kind}, {what}")
                };
                let named = said.iter().any(|said| names(&error, said));
                assert!(
                    named,
                    "{verifier}, {number}: {kind}, {what}: {error:?} names none of {said:?}"
                );
            }
        }
        println!("{count} changes, {kinds:?}: all found by both, 0 missed");
    }

    fn mutant(&mut self, number: usize) -> (&'static str, Mutant) {
        match number % 8 {
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
        let mut content = self.pack(&self.files.clone());
        let at = self.random.below(content.len());
        content[at] ^= 1 << self.random.below(8);
        let mut start = 0;
        let mut said = vec!["archive".to_owned()];
        for (name, file) in &self.files {
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
        let name = ["transcript.jsonl", "rehearsal.jsonl"][self.random.below(2)];
        let content = self.files[name].clone();
        let lines = content.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec);
        let mut lines: Vec<Vec<u8>> = lines.collect();
        let what = change(self, &mut lines);
        let changed = lines.concat();
        let at = (0..).zip(&changed).zip(&content).find(|((_, a), b)| a != b);
        let at = at.map_or(changed.len().min(content.len()), |((at, _), _)| at);
        let said = bad_lines(name, &content, at);
        let mut files = self.files.clone();
        files.insert(name.to_owned(), changed);
        let content = self.pack(&with_sums(files));
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
        let mut files = self.files.clone();
        let name = self.name();
        // An attachment that nothing lists any more was never there.
        let optional = [&GIVEN[..], &["site.toml"]].concat().contains(&name.as_str());
        let listed = self.random.below(2) == 0 || optional;
        files.remove(&name);
        if !listed {
            files = with_sums(files);
        }
        Mutant { what: name.clone(), content: self.pack(&files), said: vec![name] }
    }

    /// The hash in the manifest is the one that it had.
    fn change_file(&mut self) -> Mutant {
        let name = self.name();
        let (changed, at) = self.random.change(self.files[&name].clone());
        let mut files = self.files.clone();
        files.insert(name.clone(), changed);
        let said = self.changed(&name, at);
        Mutant { what: format!("{name}, byte {at}"), content: self.pack(&files), said }
    }

    /// What may be said of a file that was changed at this byte.
    fn changed(&self, name: &str, at: usize) -> Vec<String> {
        match name {
            // A name that is listed no more, or not as it is.
            "SHA256SUMS" => {
                [name, "does not belong there", "is missing"].map(str::to_owned).to_vec()
            }
            name if name.ends_with(".jsonl") => bad_lines(name, &self.files[name], at),
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
        let (changed, at) = self.random.change(self.files[&name].clone());
        let mut files = self.files.clone();
        files.insert(name.clone(), changed);
        Mutant {
            what: format!("{name}, byte {at}"),
            content: self.pack(&with_sums(files)),
            said: vec![name],
        }
    }

    fn name(&mut self) -> String {
        let at = self.random.below(self.files.len());
        self.files.keys().nth(at).cloned().unwrap_or_default()
    }

    fn pack(&self, files: &Files) -> Vec<u8> {
        let files = files.iter().map(|(name, it)| (format!("{PREFIX}{name}"), it.clone()));
        archive::write(&files.collect(), self.seconds)
    }
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
const PREFIX: &str = "root-and-issuing/";
const BLOCK: usize = 512;

/// SplitMix64: the same numbers for the same seed, for ever.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut next = self.0;
        next = (next ^ (next >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        next = (next ^ (next >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((next ^ (next >> 31)) % end as u64).unwrap()
    }

    /// A bit flipped, a byte left out, a byte more, or the end cut off; and where.
    fn change(&mut self, mut content: Vec<u8>) -> (Vec<u8>, usize) {
        let at = self.below(content.len());
        match self.below(4) {
            0 => content[at] ^= 1 << self.below(8),
            1 => drop(content.remove(at)),
            2 => content.insert(at, content[at] ^ 1),
            _ => content.truncate(at),
        }
        (content, at)
    }
}
