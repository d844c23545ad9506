//! A ceremony of several people.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(dead_code, reason = "each story takes what it needs")]

use std::path::Path;

use ceremony::{name::Name, plan::Plan, plan::Step};

use crate::place::*;

/// Everybody: name, role, kind of key.
pub(crate) const PEOPLE: [(&str, &str, &str); 4] = [
    ("alice", "operator", "ed25519"),
    ("bob", "witness", "ecdsa"),
    ("carol", "witness", "rsa"),
    ("dave", "auditor", "ed25519"),
];

/// A plan of several people, their keys, a rehearsal and two approvals.
pub(crate) struct Meeting {
    pub(crate) place: Place,
    pub(crate) text: String,
}

impl Meeting {
    pub(crate) fn new() -> Self {
        Self::of(&keys_only())
    }

    /// A plan of these keys and steps, which ends with a hand-off.
    pub(crate) fn of(text: &str) -> Self {
        let place = Place::new();
        place.initialize_token();
        let mut people = String::from(
            "[[role]]\nname = \"operator\"\nmin = 1\n[[role]]\nname = \"witness\"\nmin = 2\n\
             [[role]]\nname = \"auditor\"\nmin = 0\n[quorum]\n\
             approve = { operator = 1, auditor = 1 }\nconfirm = { operator = 1, witness = 1 }\n",
        );
        for (name, role, kind) in PEOPLE {
            let key = keygen(&place, name, kind);
            people += &format!("[persons.{name}]\nrole = \"{role}\"\nkey = \"{}\"\n", key.trim());
        }
        let sign_off = "[[steps]]\ndo = \"sign-off\"\n[[steps]]\ndo = \"hand-off\"";
        let text = text.replace("[[steps]]\ndo = \"hand-off\"", sign_off);
        let text = format!("{text}\n{people}");
        let plan = place.write("meeting.toml", &text);
        place.rehearsal(&plan);
        for name in ["alice", "dave"] {
            let (key, output) = (place.text(name), place.text(&format!("{name}.approval")));
            program(&["approve", &plan, "--as", name, "--key", &key, "-o", &output]).ok();
        }
        Self { place, text }
    }

    pub(crate) fn plan(&self) -> Plan {
        Plan::read(&self.place.path("meeting.toml")).unwrap()
    }

    /// What is typed from the beginning to the end: each line by one person.
    pub(crate) fn lines(&self, present: &[&str]) -> Vec<String> {
        let plan = self.plan();
        let mut lines = vec![format!("{}\n", present.join(" "))];
        for (number, step) in plan.steps() {
            match step {
                Step::HandOff => {}
                Step::Human(human) => {
                    lines.push(format!("{}\n", present[0]));
                    lines.extend(human.record.iter().map(|field| match &field.pattern {
                        Some(pattern) => format!("{}\n", pattern.sample()),
                        None => "as it should be\n".to_owned(),
                    }));
                    lines.extend(self.words(number, step, present));
                }
                Step::SignOff => {
                    lines.extend(present.iter().map(|name| format!("{}\n", self.place.text(name))))
                }
                _ => lines.extend(self.words(number, step, present)),
            }
        }
        lines
    }

    /// The words of the first two, before a step.
    fn words(&self, number: u32, step: &Step, present: &[&str]) -> Vec<String> {
        let plan = self.plan();
        let words = |name: &&str| {
            let name: Name = name.parse().unwrap();
            format!("{}\n", plan.confirmation(number, &step.to_string(), Some(&name)))
        };
        present[..2].iter().map(words).collect()
    }

    pub(crate) fn run_typing(&self, lines: &[String]) -> Answer {
        let mut command = self.place.command(&self.place.text("meeting.toml"));
        command.args(["--rehearsal", &self.place.text("rehearsal.jsonl")]);
        for name in ["alice", "dave"] {
            command.args(["--approval", &self.place.text(&format!("{name}.approval"))]);
        }
        typing(&mut command, &clocked(lines))
    }

    pub(crate) fn resume_typing(&self, lines: &[String]) -> Answer {
        self.place.resume_typing_all(&[], &clocked(lines))
    }
}

/// The lines, with what the clocks of the first two say who are present: behind the roll call, whose
/// last line is the one that is taken.
fn clocked(lines: &[String]) -> String {
    let names =
        |line: &&String| PEOPLE.iter().any(|(name, ..)| line.starts_with(&format!("{name} ")));
    let roll = lines.iter().take_while(names).count();
    let present = lines.get(roll.saturating_sub(1)).map_or("", |line| line.as_str());
    let present = present.split_whitespace().take(2);
    let clocks: String = present.map(|name| format!("{name} {}", clock())).collect();
    [lines[..roll].concat(), clocks, lines[roll..].concat()].concat()
}

/// Makes a person's SSH key; gives the public one.
pub(crate) fn keygen(place: &Place, name: &str, kind: &str) -> String {
    let arguments = ["-q", "-t", kind, "-N", "", "-C", name, "-f"];
    peer("ssh-keygen", &arguments, &[Path::new(&place.text(name))]).ok();
    place.text_of(&format!("{name}.pub"))
}
