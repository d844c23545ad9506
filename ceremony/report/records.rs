//! Every record in a line, so that its number can be looked up.

use serde_json::Value;

use super::moment;
use crate::{
    name::Name,
    paper::{Block, Line, Table},
    transcript::Record,
    verify::Verified,
};

/// The records, by their numbers.
pub(super) fn records(verified: &Verified) -> Vec<Block> {
    let mut table =
        Table::new([("Record", 9), ("Time, UTC", 20), ("Step", 7), ("What", 36), ("Who", 28)]);
    for record in &verified.transcript {
        let who: Vec<&str> = record.who.iter().map(Name::as_str).collect();
        table.rows.push(vec![
            vec![Line::text(record.seq)],
            vec![Line::text(moment(Some(record.time)))],
            vec![Line::text(record.step.map(|step| step.to_string()).unwrap_or_default())],
            vec![Line::text(kind(record))],
            vec![Line::text(who.join(", "))],
        ]);
    }
    vec![Block::Heading("The records".to_owned()), Block::Table(table)]
}

/// As the transcript calls it: the event, and of intents and outcomes what kind they are of.
fn kind(record: &Record) -> String {
    let Ok(mut event) = serde_json::to_value(&record.event) else { return String::new() };
    let name = event["event"].as_str().unwrap_or_default().to_owned();
    match (name.as_str(), event["data"].take()) {
        ("intent" | "outcome", Value::Object(data)) => match data.into_iter().next() {
            Some((kind, content)) => match content["name"].as_str() {
                Some(what) => format!("{name}: {kind} {what}"),
                None => format!("{name}: {kind}"),
            },
            None => name,
        },
        _ => name,
    }
}
