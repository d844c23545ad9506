//! `human`: what people do with their hands (open a safe, break a seal, connect a token), and what
//! they read there and write down.
//!
//! In a rehearsal nobody is there: each value is one that the pattern lets pass.

use std::collections::{BTreeMap, BTreeSet};

use pki::x509::lint::Finding;

use super::{Concluded, Kind};
use crate::{
    failure::Failure,
    name::Name,
    pattern::{Pattern, is_readable},
    plan::{Step, file::PlanFile, lint::Model},
    progress::{Progress, ProgressError},
    run::Performance,
    script::Sheet,
    secrets::is_secret_shaped,
    transcript::{Attendance, Decision, Intent, Outcome},
};

/// The step.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct Human {
    /// What is to be done, as a sentence without its full stop.
    pub text: String,
    /// What is read and written down.
    pub record: Vec<Field>,
}

/// Something that is read and written down.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct Field {
    /// What it is called.
    pub name: Name,
    /// The form that it has; any text, if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<Pattern>,
}

/// The step of a plan file.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    text: String,
    #[serde(default)]
    record: Vec<FieldEntry>,
}

/// A name alone, or a name with a pattern.
#[derive(serde::Deserialize)]
#[serde(untagged)]
enum FieldEntry {
    Name(Name),
    Field(Field),
}

/// Let people do it.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct Intended {
    /// What.
    pub text: String,
}

/// People did it.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct Done {
    /// Who read and typed the values; nobody, if the plan names nobody, or in a rehearsal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Name>,
    /// What was read, by the names of the plan.
    pub values: BTreeMap<Name, String>,
}

impl super::Entry for Entry {
    fn resolve(&self, _: &PlanFile) -> Result<Step, Finding> {
        let text = self.text.split_whitespace().collect::<Vec<_>>().join(" ");
        let text = text.trim_end_matches('.').to_owned();
        let field = |entry: &FieldEntry| match entry {
            FieldEntry::Name(name) => Field { name: name.clone(), pattern: None },
            FieldEntry::Field(field) => field.clone(),
        };
        Ok(Step::Human(Human { text, record: self.record.iter().map(field).collect() }))
    }
}

impl Kind for Human {
    fn effect(&self) -> String {
        self.text.clone()
    }

    fn details(&self) -> Option<String> {
        let record: Vec<String> = self.record.iter().map(Field::to_string).collect();
        (!record.is_empty()).then(|| format!("written down: {}", record.join(", ")))
    }

    fn sheet(&self) -> Sheet {
        Sheet {
            explanation: "People do it, and somebody types what they read there, as it is written down \
                          here. The program shows it once more; whoever confirms compares.",
            blanks: self.record.iter().map(Field::to_string).collect(),
            ..Sheet::default()
        }
    }

    fn lint<'a>(&'a self, model: &mut Model<'a>) {
        let plain = is_readable(&self.text) && !is_secret_shaped(&self.text);
        model.require(plain, "human-says-what", || {
            "a step of people's says in one to 240 letters what they do, and no secret".into()
        });
        let names: BTreeSet<&Name> = self.record.iter().map(|field| &field.name).collect();
        model.require(names.len() == self.record.len(), "human-records-once", || {
            format!("something is written down twice: {}", self.text)
        });
    }

    fn needs_token(&self) -> bool {
        false
    }

    fn needs_people(&self) -> bool {
        true
    }

    fn perform(&self, performance: &mut Performance<'_>) -> Result<(), Failure> {
        let done = self.ask(performance)?;
        for (name, value) in &done.values {
            performance.console.add(&format!("written down, {name}: {value}"))?;
        }
        if performance.progress.in_doubt().is_some() {
            performance.decide(Decision::Repeat)?;
        } else {
            performance.intend(Intent::LetPeopleAct(self.intended()))?;
        }
        performance.conclude(Outcome::DoneByPeople(done))
    }

    fn intend(&self, intent: &Intent, progress: &Progress) -> Result<(), ProgressError> {
        let holds = *intent == Intent::LetPeopleAct(self.intended());
        progress.require(holds, "the intent to let people do what is planned")
    }

    fn conclude(
        &self,
        _: &Intent,
        outcome: &Outcome,
        progress: &mut Progress,
    ) -> Result<Concluded, ProgressError> {
        let Outcome::DoneByPeople(Done { by, values }) = outcome else {
            return Err(progress.unexpected("what people did"));
        };
        let theirs = match by {
            Some(name) => progress.present().contains(name),
            None => progress.present().is_empty(),
        };
        progress.require(theirs, "what somebody read who is present")?;
        let fits = |field: &Field| values.get(&field.name).is_some_and(|value| field.takes(value));
        let all = self.record.len() == values.len() && self.record.iter().all(fits);
        progress.require(all, "all that the plan wants written down, in its form")?;
        let secret = values.values().any(|value| is_secret_shaped(value));
        progress.require(!secret, "a text without a key or a password in it")?;
        Ok(Concluded::Done)
    }

    fn after_interruption(&self) -> &'static str {
        "people say again what they did, and what they read"
    }
}

impl Human {
    fn intended(&self) -> Intended {
        Intended { text: self.text.clone() }
    }

    /// Lets somebody type what was read.
    fn ask(&self, performance: &mut Performance<'_>) -> Result<Done, Failure> {
        if performance.progress.opened.attendance != Attendance::Attended {
            let sample = |field: &Field| (field.name.clone(), field.sample());
            return Ok(Done { by: None, values: self.record.iter().map(sample).collect() });
        }
        let present = performance.progress.present().clone();
        let mut by = None;
        if !present.is_empty() {
            let question = "do it now. Who reads and types? a name";
            by =
                Some(performance.console.ask(question, |typed| {
                    typed.parse().ok().filter(|name| present.contains(name))
                })?);
        }
        let mut values = BTreeMap::new();
        for field in &self.record {
            let value = performance
                .console
                .ask(&field.to_string(), |typed| field.takes(typed).then(|| typed.to_owned()))?;
            if is_secret_shaped(&value) {
                return Err(Failure::SecretText);
            }
            values.insert(field.name.clone(), value);
        }
        Ok(Done { by, values })
    }
}

impl Field {
    /// Whether this may be what was read.
    fn takes(&self, value: &str) -> bool {
        is_readable(value) && self.pattern.as_ref().is_none_or(|pattern| pattern.takes(value))
    }

    /// What is typed in a rehearsal.
    fn sample(&self) -> String {
        self.pattern.as_ref().map_or("rehearsed".to_owned(), Pattern::sample)
    }
}

/// As it is asked for, and printed beside a line to write on.
impl std::fmt::Display for Field {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.pattern {
            Some(pattern) => write!(f, "{} ({pattern})", self.name),
            None => write!(f, "{}", self.name),
        }
    }
}
