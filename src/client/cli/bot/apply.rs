//! `chancery bot apply`: bots as files say.

use std::{collections::BTreeSet, fs, path::Path};

use api::{Bot, BotName, BotSpec};
use client::Client;
use serde::Serialize;
use serde_json::Value;

use crate::cli::{
    arguments::bot::Apply,
    failure::Failure,
    output::{Output, printable},
    terminal::tell,
};

pub(super) async fn run(client: &Client, it: &Apply, output: &mut Output) -> Result<(), Failure> {
    let wanted = read_all(&it.files)?;
    let known = client.bots().await?.bots;
    for spec in &wanted {
        let change = Change::of(known.iter().find(|bot| bot.spec.name == spec.name), spec);
        if it.dry_run {
            output.show_line(&change, &change.words("would be "))?;
            continue;
        }
        let applied = client.apply_bot(spec).await.inspect_err(|_| {
            tell(format!("{} was not applied, nor was what comes after it", spec.name));
        })?;
        // Somebody else may have done it in the meantime.
        let change = if applied.changed { change } else { Change::none(&spec.name) };
        output.show_line(&applied, &change.words(""))?;
    }
    Ok(())
}

/// The bots of all files, each once.
fn read_all(files: &[impl AsRef<Path>]) -> Result<Vec<BotSpec>, Failure> {
    let (mut all, mut names) = (Vec::new(), BTreeSet::new());
    for path in files.iter().map(AsRef::as_ref) {
        let text = fs::read_to_string(path)
            .map_err(|source| Failure::Read { path: path.to_owned(), source })?;
        let json = path.extension().is_some_and(|extension| extension == "json");
        let bots = parse(&text, json).map_err(|what| wrong(path, &what))?;
        for bot in bots {
            if !names.insert(bot.name.clone()) {
                return Err(wrong(path, &format!("bot {} is there twice", bot.name)));
            }
            all.push(bot);
        }
    }
    Ok(all)
}

fn wrong(path: &Path, what: &str) -> Failure {
    Failure::Usage {
        what: format!("{}: {what}", path.display()),
        hint: Some("nothing was applied; `chancery bot apply --help` shows a file".to_owned()),
    }
}

/// One bot, several as `bot`, or in JSON several as an array.
fn parse(text: &str, json: bool) -> Result<Vec<BotSpec>, String> {
    let document: Value = if json {
        serde_json::from_str(text).map_err(|error| error.to_string())?
    } else {
        toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?
    };
    let bots = match document {
        Value::Array(bots) => bots,
        Value::Object(mut fields) if fields.len() == 1 && fields.contains_key("bot") => {
            match fields.remove("bot") {
                Some(Value::Array(bots)) => bots,
                one => Vec::from_iter(one),
            }
        }
        one => vec![one],
    };
    if bots.is_empty() {
        return Err("there is no bot in it".to_owned());
    }
    bots.into_iter().enumerate().map(|(index, bot)| specification(index, bot)).collect()
}

fn specification(index: usize, bot: Value) -> Result<BotSpec, String> {
    let called = match bot["name"].as_str() {
        Some(name) => format!("bot {name:?}"),
        None => format!("bot {}", index + 1),
    };
    serde_json::from_value(bot).map_err(|error| format!("{called}: {error}"))
}

/// What becomes of a bot.
#[derive(Debug, Serialize)]
struct Change {
    name: BotName,
    kind: Kind,
    /// In which respects, in words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    differences: Vec<String>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Added,
    Changed,
    Unchanged,
}

impl Change {
    fn none(name: &BotName) -> Self {
        Self { name: name.clone(), kind: Kind::Unchanged, differences: Vec::new() }
    }

    fn of(known: Option<&Bot>, wanted: &BotSpec) -> Self {
        let name = wanted.name.clone();
        let Some(known) = known else {
            return Self { name, kind: Kind::Added, differences: Vec::new() };
        };
        if known.spec == *wanted {
            return Self::none(&name);
        }
        let fields = |spec| serde_json::to_value(spec).unwrap_or_default();
        let mut differences = Vec::new();
        compare("", &fields(&known.spec), &fields(wanted), &mut differences);
        Self { name, kind: Kind::Changed, differences }
    }

    fn words(&self, would: &str) -> String {
        let name = &self.name;
        match self.kind {
            Kind::Added => format!("{name}: {would}added"),
            Kind::Changed => format!("{name}: {would}changed: {}", self.differences.join("; ")),
            Kind::Unchanged => format!("{name}: unchanged"),
        }
    }
}

/// Names what differs, field by field.
fn compare(path: &str, old: &Value, new: &Value, differences: &mut Vec<String>) {
    match (old, new) {
        _ if old == new => (),
        (Value::Object(before), Value::Object(after)) => {
            let keys: BTreeSet<_> = before.keys().chain(after.keys()).collect();
            for key in keys {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                compare(&path, &old[key], &new[key], differences);
            }
        }
        (Value::Array(before), Value::Array(after)) => {
            let gone = before.iter().filter(|it| !after.contains(it)).map(|it| (" -", it));
            let come = after.iter().filter(|it| !before.contains(it)).map(|it| (" +", it));
            let items = gone.chain(come).map(|(sign, it)| format!("{sign}{}", short(it)));
            differences.push(format!("{path}{}", items.collect::<String>()));
        }
        _ => differences.push(format!("{path} {} → {}", short(old), short(new))),
    }
}

/// A value as a line has place for it.
fn short(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::String(text) if text.len() <= 60 && !text.contains('\n') => printable(text),
        Value::String(_) | Value::Array(_) | Value::Object(_) => "…".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_have_one_bot_or_several_in_toml_or_json() {
        let one = "name = \"ci\"\nroles = [\"deploy\"]\njoin = { method = \"token\" }";
        let several = format!("[[bot]]\n{one}\n[[bot]]\n{}", one.replace("ci", "backup"));
        let json = r#"{"name":"ci","roles":["deploy"],"join":{"method":"token"}}"#;
        let names = |text: &str, json| {
            let bots = parse(text, json).unwrap();
            bots.iter().map(|bot| bot.name.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(names(one, false), ["ci"]);
        assert_eq!(names(&several, false), ["ci", "backup"]);
        assert_eq!(names(json, true), ["ci"]);
        assert_eq!(names(&format!("[{json}]"), true), ["ci"]);
        assert_eq!(names(&format!("{{\"bot\":[{json}]}}"), true), ["ci"]);
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said_of_which_bot() {
        for (text, why) in [
            ("", "bot 1: missing field `name`"),
            ("bot = []", "there is no bot in it"),
            ("name = \"ci\"\nroles = 7", "bot \"ci\": invalid type"),
            ("name = \"CI\"\nroles = []\njoin.method = \"token\"", "\"CI\" is no name of a bot"),
            ("name = \"ci\"\nrole = []", "bot \"ci\": unknown field `role`"),
            ("name = \"ci\"\nroles = []\njoin.method = \"trust\"", "unknown variant `trust`"),
            ("name = ", "TOML parse error"),
        ] {
            let said = parse(text, false).unwrap_err();
            assert!(said.contains(why), "{said}");
        }
    }
}
