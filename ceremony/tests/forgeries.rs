//! Whoever can make every hash anew can write what they like: two verifiers that share no code are of
//! one mind about each such transcript.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(
    clippy::print_stdout,
    reason = "the seed, with which the same is found again; the counts"
)]

#[path = "harness/custody.rs"]
mod custody;
#[path = "harness/held.rs"]
mod held;
#[path = "harness/machine.rs"]
mod machine;
#[path = "harness/place.rs"]
mod place;
#[path = "harness/random.rs"]
mod random;
#[path = "harness/second.rs"]
mod second;

use std::{collections::BTreeMap, ops::Range};

use ceremony::{digest::Digest, transcript::chain, verify::Verified};
use serde_json::Value;

use held::Held;
use random::Random;
use second::Second;

#[test]
fn both_verifiers_are_of_one_mind_about_three_hundred_forgeries() {
    Forger::new(1).compare(300);
}

#[test]
#[ignore = "takes some minutes: `make mutations`"]
fn both_verifiers_are_of_one_mind_about_ten_thousand_forgeries() {
    Forger::new(2).compare(10_000);
}

struct Forger {
    random: Random,
    transcripts: Vec<(String, Vec<String>)>,
    second: Second,
}

impl Forger {
    fn new(seed: u64) -> Self {
        let lines = |held: Held| {
            let lines = held.transcript.lines().map(str::to_owned).collect::<Vec<_>>();
            (held.name, lines)
        };
        let transcripts = Held::all().into_iter().map(lines).collect();
        let mut this = Self { random: Random(seed), transcripts, second: Second::start() };
        for (name, lines) in this.transcripts.clone() {
            let text = linked(&lines);
            assert_eq!(text, lines.join("\n") + "\n", "{name}: unchanged, it is the same");
            assert_eq!(this.verdicts(&text), [Ok(()), Ok(())], "{name}");
        }
        this
    }

    fn compare(mut self, count: usize) {
        println!("seed {}", self.random.0);
        let mut found: BTreeMap<(&str, bool), usize> = BTreeMap::new();
        let mut apart = Vec::new();
        for number in 0..count {
            let (name, mut lines) =
                self.transcripts[number / KINDS % self.transcripts.len()].clone();
            let (kind, what) = self.forge(number % KINDS, &mut lines);
            let [first, second] = self.verdicts(&linked(&lines));
            if first.is_ok() != second.is_ok() {
                apart.push(format!(
                    "{number}, {name}: {kind}, {what}: {first:?}; verify.py: {second:?}"
                ));
            }
            *found.entry((kind, first.is_ok())).or_default() += 1;
        }
        let refused: usize = found.iter().filter(|((_, ok), _)| !ok).map(|(_, count)| count).sum();
        println!("{count} forgeries, of which {refused} were refused by both: {found:?}");
        assert!(apart.is_empty(), "{}\n{}", apart.len(), apart.join("\n"));
    }

    fn verdicts(&mut self, text: &str) -> [Result<(), String>; 2] {
        let first = Verified::from_bytes(text.as_bytes()).map(drop).map_err(|it| it.to_string());
        [first, self.second.verify(text.as_bytes())]
    }

    /// Changes a line; or which lines there are, and in which order.
    fn forge(&mut self, kind: usize, lines: &mut Vec<String>) -> (&'static str, String) {
        // The last line is the head's, which is made anew.
        let records = lines.len() - 1;
        let line = self.random.below(records);
        match kind {
            0 => {
                lines.remove(line);
                ("a record left out", format!("line {}", line + 1))
            }
            1 => {
                let other = self.random.below(records);
                lines.swap(line, other);
                ("two records exchanged", format!("lines {} and {}", line + 1, other + 1))
            }
            2 => {
                let at = self.random.below(records + 1);
                lines.insert(at, lines[line].clone());
                ("a record once more", format!("line {} as line {}", line + 1, at + 1))
            }
            3 => ("a field left out", self.leave_out(&mut lines[line], line)),
            4 | 5 => ("a value changed", self.change(&mut lines[line], line)),
            _ => ("a value of elsewhere", self.exchange(lines, line)),
        }
    }

    /// A field of an object, with its value.
    fn leave_out(&mut self, text: &mut String, line: usize) -> String {
        let members = members(text);
        let member = members[self.random.below(members.len())].clone();
        let what = format!("line {}: {}", line + 1, &text[member.clone()]);
        text.replace_range(member, "");
        // What is left of the commas.
        *text = text.replace(",,", ",").replace("{,", "{").replace(",}", "}");
        what
    }

    fn change(&mut self, text: &mut String, line: usize) -> String {
        let values = values(text);
        let range = values[self.random.below(values.len())].clone();
        let old = text[range.clone()].to_owned();
        let new = self.changed(&old);
        text.replace_range(range, &new);
        format!("line {}: {} for {}", line + 1, short(&new), short(&old))
    }

    /// Another number, another letter of a text, one letter less.
    fn changed(&mut self, old: &str) -> String {
        if let Ok(number) = old.parse::<u64>() {
            return [number + 1, number.saturating_sub(1), 0][self.random.below(3)].to_string();
        }
        let at = 1 + self.random.below(old.len().saturating_sub(2).max(1));
        match old {
            "true" => "false".to_owned(),
            "false" => "true".to_owned(),
            "\"\"" => "\"x\"".to_owned(),
            _ if !old.starts_with('"') || !old.is_char_boundary(at) => "0".to_owned(),
            _ => {
                let letter = ["0", "7", "a", "z", "-", ""][self.random.below(6)];
                format!("{}{letter}{}", &old[..at], old[at..].chars().as_str().split_at(1).1)
            }
        }
    }

    /// The value of another place of the transcript, of the same field if there is one.
    fn exchange(&mut self, lines: &mut [String], line: usize) -> String {
        let of = values(&lines[line]);
        let range = of[self.random.below(of.len())].clone();
        let field = |text: &str, range: &Range<usize>| {
            text[..range.start].rsplit(['{', ',', '[']).next().unwrap_or_default().to_owned()
        };
        let name = field(&lines[line], &range);
        let others = lines.iter().flat_map(|text| {
            let same = values(text).into_iter().filter(|it| field(text, it) == name);
            same.map(|it| text[it].to_owned()).collect::<Vec<_>>()
        });
        let old = lines[line][range.clone()].to_owned();
        let others: Vec<String> = others.filter(|other| *other != old).collect();
        let new = match others.len() {
            0 => self.changed(&old),
            count => others[self.random.below(count)].clone(),
        };
        lines[line].replace_range(range, &new);
        format!("line {}: {name} {} for {}", line + 1, short(&new), short(&old))
    }
}

/// The lines, with every `seq`, `prev`, the plan's hash and the head as they must be.
fn linked(lines: &[String]) -> String {
    let mut text = String::new();
    let mut head = None;
    let records = lines.iter().filter(|line| !line.starts_with("{\"head\":"));
    for (number, line) in (1..).zip(records) {
        let mut line = line.clone();
        if let Some(plan) = line.find("\"plan\":{\"schema\"") {
            let hash = Digest::of(
                "chancery-ceremony-plan-v1",
                &[&line.as_bytes()[plan + 7..line.len() - 2]],
            );
            set(&mut line, "\"plan_hash\":\"", "\"", &hash.to_string());
        }
        let previous = head.unwrap_or_else(|| start(&line));
        set(&mut line, "{\"seq\":", ",", &number.to_string());
        set(&mut line, "\"prev\":\"", "\"", &previous.to_string());
        head = Some(chain::next(previous, line.as_bytes()));
        text += &format!("{line}\n");
    }
    match head {
        Some(head) => format!("{text}{{\"head\":\"{head}\"}}\n"),
        None => text,
    }
}

/// The first text between these, if there is one, becomes this.
fn set(line: &mut String, before: &str, after: &str, value: &str) {
    if let Some(start) = line.find(before).map(|at| at + before.len())
        && let Some(length) = line[start..].find(after)
    {
        line.replace_range(start..start + length, value);
    }
}

/// What the chain of an opening starts from; of what is none, anything.
fn start(line: &str) -> Digest {
    let record: Value = serde_json::from_str(line).unwrap_or_default();
    let text = |name: &str| record["data"][name].as_str();
    let digest = |name: &str| text(name).and_then(|it| it.parse().ok());
    match (digest("plan_hash"), digest("site_hash"), text("tool")) {
        (Some(plan), Some(site), Some(tool)) => chain::start(plan, site, tool),
        _ => Digest::of_file(b"none"),
    }
}

/// Where the scalars of a line are, but for those that are made anew.
fn values(line: &str) -> Vec<Range<usize>> {
    tokens(line)
        .into_iter()
        .filter(|(key, range)| !key && !is_made_anew(line, range))
        .map(|it| it.1)
        .collect()
}

/// Where the fields with a scalar are.
fn members(line: &str) -> Vec<Range<usize>> {
    let tokens = tokens(line);
    let pairs = tokens.iter().zip(tokens.iter().skip(1));
    let pairs =
        pairs.filter(|((key, name), (value, it))| *key && !value && it.start == name.end + 1);
    pairs.map(|((_, name), (_, value))| name.start..value.end).collect()
}

fn is_made_anew(line: &str, range: &Range<usize>) -> bool {
    ["{\"seq\":", "\"prev\":", "\"plan_hash\":"]
        .iter()
        .any(|field| line[..range.start].ends_with(field))
}

/// Strings, numbers, `true`, `false` and `null` of a line; whether each is the name of a field.
fn tokens(line: &str) -> Vec<(bool, Range<usize>)> {
    let (bytes, mut at, mut found) = (line.as_bytes(), 0, Vec::new());
    while at < bytes.len() {
        let start = at;
        match bytes[at] {
            b'{' | b'}' | b'[' | b']' | b',' | b':' => {
                at += 1;
                continue;
            }
            b'"' => {
                at += 1;
                while bytes[at] != b'"' {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
                at += 1;
            }
            _ => {
                while !matches!(bytes[at], b',' | b'}' | b']') {
                    at += 1;
                }
            }
        }
        found.push((bytes.get(at) == Some(&b':'), start..at));
    }
    found
}

fn short(text: &str) -> String {
    text.chars().take(60).collect()
}

/// How many kinds of forgeries there are.
const KINDS: usize = 8;
