//! The report: what was done at a ceremony, when and by whom, on paper; from a verified transcript
//! alone. It ends with what auditors ask for, and with a statement for one to sign.

mod made;
mod records;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::{
    clauses::{Clause, clauses, ranges},
    name::Name,
    paper::{Block, Line, Paper, Table},
    people::Person,
    steps::check_environment::Checked,
    transcript::{Attendance, Event, Outcome, Record, TOOL, TokenFound},
    verify::Verified,
    words::spoken,
};

/// The report of a ceremony.
pub fn report(verified: &Verified) -> Paper {
    let mut blocks = cover(verified);
    blocks.extend(people(verified));
    blocks.extend(steps(verified));
    blocks.extend(made::keys(verified));
    blocks.extend(made::certificates(verified));
    blocks.extend(machine(verified));
    blocks.extend(deviations(verified));
    blocks.extend(demands(verified));
    blocks.push(Block::Page);
    blocks.extend(statement(verified));
    blocks.push(Block::Page);
    blocks.extend(records::records(verified));
    let plan = &verified.progress.plan;
    Paper {
        title: "Key ceremony report".to_owned(),
        subtitle: plan.script().id.to_string(),
        mark: mark(verified.progress.opened.attendance).map(str::to_owned),
        foot: vec![
            format!("plan {}", plan.hash()),
            format!("head {}", verified.head),
            spoken(verified.head),
        ],
        blocks,
    }
}

/// What nobody may overlook on any page.
fn mark(attendance: Attendance) -> Option<&'static str> {
    match attendance {
        Attendance::Attended => None,
        Attendance::Rehearsed => {
            Some("REHEARSAL: its keys are gone, and nothing of it is in force")
        }
        Attendance::Unattended => Some("UNATTENDED: nobody confirmed a step"),
    }
}

fn cover(verified: &Verified) -> Vec<Block> {
    let (progress, opened) = (&verified.progress, &verified.progress.opened);
    let plan = &progress.plan;
    let attendance = match opened.attendance {
        Attendance::Attended => "attended: each step was confirmed",
        Attendance::Rehearsed => "rehearsed, on a token that was thrown away",
        Attendance::Unattended => "unattended: nobody confirmed a step",
    };
    let (began, ended) = times(&verified.transcript);
    let rehearsal = match &opened.rehearsal {
        Some(head) => Line::code(head),
        None => Line::text("none is named"),
    };
    let facts = Table::of_facts([
        ("Ceremony", vec![Line::strong(&plan.script().id)]),
        ("Was", vec![Line::text(attendance)]),
        ("Began, UTC", vec![Line::text(moment(began))]),
        ("Ended, UTC", vec![Line::text(moment(ended))]),
        ("Plan, SHA-256", vec![Line::code(plan.hash()), Line::strong(spoken(plan.hash()))]),
        (
            "Head of the transcript",
            vec![Line::code(verified.head), Line::strong(spoken(verified.head))],
        ),
        ("Head of the rehearsal", vec![rehearsal]),
        ("Program, SHA-256", vec![Line::text(&opened.tool), Line::code(opened.tool_sha256)]),
        ("Site file", vec![Line::code(opened.site_hash)]),
        (
            "PKCS#11 module, SHA-256",
            vec![Line::code(opened.module.path.display()), Line::code(opened.module.sha256)],
        ),
        ("Linted and read by", vec![Line::text(opened.linters.join(", "))]),
        ("Records", vec![Line::text(verified.records)]),
        ("Interruptions", vec![Line::text(progress.interruptions)]),
        ("Exceptions", vec![Line::text(progress.exceptions.len())]),
        ("Made by this report", vec![Line::text(TOOL)]),
    ]);
    let token = token(&verified.transcript).into_iter().flat_map(token_facts);
    vec![
        Block::Table(facts),
        Block::Lines(vec![Line::text(
            "Made from a transcript in which nothing is wrong: the hash chain holds over every byte, each step \
             of the plan was done once and in its order, every signature verifies. `chancery-ceremony verify` \
             and, apart from that program, `verify.py` of the evidence bundle show the same. Compare the ten \
             words above with those that were written down at the ceremony.",
        )]),
        Block::Heading("The token".to_owned()),
        Block::Table(Table::of_facts(token)),
    ]
}

/// When the first and the last record were written.
fn times(records: &[Record]) -> (Option<Timestamp>, Option<Timestamp>) {
    let time = |record: Option<&Record>| record.map(|record| record.time);
    (time(records.first()), time(records.last()))
}

/// To the second, as people write a time of UTC.
fn moment(time: Option<Timestamp>) -> String {
    let text = time.map(|time| time.strftime("%Y-%m-%d %H:%M:%S").to_string());
    text.unwrap_or_default()
}

/// What the token said last.
fn token(records: &[Record]) -> Option<&TokenFound> {
    records.iter().rev().find_map(|record| match &record.event {
        Event::Token(found) => Some(found),
        _ => None,
    })
}

fn token_facts(found: &TokenFound) -> Vec<(&'static str, Vec<Line>)> {
    let identity = &found.identity;
    let text = |value: &Option<String>| vec![Line::text(value.as_deref().unwrap_or("not told"))];
    vec![
        ("Label", vec![Line::strong(&identity.label)]),
        ("Serial number", text(&identity.serial)),
        ("Manufacturer", text(&identity.manufacturer)),
        ("Model", text(&identity.model)),
        (
            "Hardware, firmware",
            vec![Line::text(format!("{}, {}", found.hardware_version, found.firmware_version))],
        ),
        ("Library", vec![Line::text(&found.library)]),
        ("Flags", vec![Line::text(found.flags.join(", "))]),
    ]
}

fn people(verified: &Verified) -> Vec<Block> {
    let (progress, opened) = (&verified.progress, &verified.progress.opened);
    let people = &progress.plan.script().people;
    let mut blocks = vec![Block::Heading("The people".to_owned())];
    if people.is_empty() {
        blocks.push(Block::Lines(vec![Line::text("The plan names nobody.")]));
        return blocks;
    }
    let mut table = Table::new([
        ("Name", 16),
        ("Role", 15),
        ("SSH key", 33),
        ("Approved", 12),
        ("Present", 12),
        ("Signed off", 12),
    ]);
    let present: BTreeSet<&Name> = of(verified, |event| matches!(event, Event::Present {}));
    let signed: BTreeSet<&Name> = of(verified, |event| matches!(event, Event::SignedOff { .. }));
    for (name, Person { role, key }) in &people.persons {
        let yes = |holds: bool| vec![Line::text(if holds { "yes" } else { "no" })];
        table.rows.push(vec![
            vec![Line::strong(name)],
            vec![Line::text(role)],
            vec![Line::code(key.fingerprint())],
            yes(opened.approvals.contains_key(name)),
            yes(present.contains(name)),
            yes(signed.contains(name)),
        ]);
    }
    blocks.push(Block::Table(table));
    blocks
}

/// Everybody who did something of this kind.
fn of(verified: &Verified, kind: impl Fn(&Event) -> bool) -> BTreeSet<&Name> {
    let records = verified.transcript.iter().filter(|record| kind(&record.event));
    records.flat_map(|record| &record.who).collect()
}

fn steps(verified: &Verified) -> Vec<Block> {
    let mut table = Table::new([
        ("Step", 7),
        ("What was done", 45),
        ("Confirmed by", 18),
        ("Ended, UTC", 18),
        ("Records", 12),
    ]);
    let mut of_step: BTreeMap<u32, Vec<&Record>> = BTreeMap::new();
    for record in &verified.transcript {
        if let Some(step) = record.step {
            of_step.entry(step).or_default().push(record);
        }
    }
    for (number, step) in verified.progress.plan.steps() {
        let records = of_step.remove(&number).unwrap_or_default();
        let who: BTreeSet<&str> =
            records.iter().flat_map(|record| &record.who).map(Name::as_str).collect();
        let confirmed = records.iter().any(|it| matches!(it.event, Event::Confirmed {}));
        let by = match (who.is_empty(), confirmed) {
            (false, _) => who.into_iter().collect::<Vec<_>>().join(", "),
            (true, true) => "the one person".to_owned(),
            (true, false) => "-".to_owned(),
        };
        let numbers: Vec<u64> = records.iter().map(|record| record.seq).collect();
        let mut what = vec![Line::strong(step)];
        what.extend(step.details().iter().flat_map(|text| text.lines()).map(Line::code));
        what.extend(records.iter().filter_map(|record| said(record)).flatten());
        table.rows.push(vec![
            vec![Line::text(number)],
            what,
            vec![Line::text(by)],
            vec![Line::text(moment(records.last().map(|record| record.time)))],
            vec![Line::text(ranges(&numbers))],
        ]);
    }
    vec![Block::Heading("The steps".to_owned()), Block::Table(table)]
}

/// What people said at a step: what they read, and how long they were away.
fn said(record: &Record) -> Option<Vec<Line>> {
    match &record.event {
        Event::Outcome(Outcome::DoneByPeople(done)) => {
            let read =
                done.values.iter().map(|(name, value)| Line::code(format!("{name}: {value}")));
            let by = done.by.iter().map(|name| Line::text(format!("read by {name}")));
            Some(read.chain(by).collect())
        }
        Event::Outcome(Outcome::RestoreDrilled(drilled)) => {
            let copy = &drilled.copy;
            let refused = copy.attempts.iter().map(|(what, code)| format!("{what}: {code}"));
            let signed = format!("the copy in {} signed", copy.token);
            Some([signed].into_iter().chain(refused).map(Line::text).collect())
        }
        Event::Outcome(Outcome::BreakOver(over)) => {
            Some(over.to_string().lines().map(Line::text).collect())
        }
        _ => None,
    }
}

fn machine(verified: &Verified) -> Vec<Block> {
    let mut table = Table::new([("Record", 10), ("The machine", 90)]);
    for record in &verified.transcript {
        let found = match &record.event {
            Event::Environment(found)
            | Event::Outcome(Outcome::EnvironmentChecked(Checked(found))) => found,
            _ => continue,
        };
        let lines = found.to_string().lines().map(Line::text).collect();
        table.rows.push(vec![vec![Line::text(record.seq)], lines]);
    }
    let opened = &verified.progress.opened;
    let mut reasons = Vec::new();
    for (what, reason) in [
        ("The token is in software", &opened.software_token),
        ("The token lets attributes of keys be changed", &opened.changeable_keys),
    ] {
        reasons.extend(
            reason.iter().map(|reason| Line::text(format!("{what}; the site says why: {reason}"))),
        );
    }
    let mut blocks = vec![Block::Heading("The machine".to_owned()), Block::Table(table)];
    if !reasons.is_empty() {
        blocks.push(Block::Lines(reasons));
    }
    blocks
}

/// Interruptions, what was decided about them, and exceptions: whatever the plan does not have.
fn deviations(verified: &Verified) -> Vec<Block> {
    let mut table = Table::new([("Record", 10), ("Time, UTC", 20), ("What happened", 70)]);
    for record in &verified.transcript {
        let what = match &record.event {
            Event::Decided(decision) => format!("decided: {decision}"),
            Event::Exception { text } => format!("exception: {text}"),
            Event::Resumed(resumed) => format!("gone on with after: {}", resumed.reason),
            Event::Stopped { reason } => format!("stopped: {reason}"),
            _ => continue,
        };
        let mut lines = vec![Line::text(what)];
        if !record.who.is_empty() {
            let names: Vec<&str> = record.who.iter().map(Name::as_str).collect();
            lines.push(Line::text(format!("recorded by {}", names.join(", "))));
        }
        let time = moment(Some(record.time));
        table.rows.push(vec![vec![Line::text(record.seq)], vec![Line::text(time)], lines]);
    }
    let content = if table.rows.is_empty() {
        Block::Lines(vec![Line::text("None: the plan was carried out without an interruption.")])
    } else {
        Block::Table(table)
    };
    vec![Block::Heading("Interruptions and exceptions".to_owned()), content]
}

fn demands(verified: &Verified) -> Vec<Block> {
    let mut table =
        Table::new([("", 6), ("Demand", 44), ("Records", 16), ("To be shown besides", 34)]);
    for Clause { number, source, demand, records, besides } in clauses(verified) {
        let numbers = if records.is_empty() { "none".to_owned() } else { ranges(&records) };
        table.rows.push(vec![
            vec![Line::strong(number)],
            vec![Line::text(demand), Line::code(source)],
            vec![Line::text(numbers)],
            vec![Line::text(besides)],
        ]);
    }
    vec![
        Block::Heading("What auditors ask for".to_owned()),
        Block::Lines(vec![Line::text(
            "Demands of the CA/Browser Forum's Baseline Requirements (BR) and Network Security Requirements \
             (NSR), and the records of the transcript that answer each.",
        )]),
        Block::Table(table),
    ]
}

fn statement(verified: &Verified) -> Vec<Block> {
    let (began, ended) = times(&verified.transcript);
    let (from, to) = (moment(began), moment(ended));
    let plan = &verified.progress.plan;
    let (hash, id) = (plan.hash(), &plan.script().id);
    let exceptions = match verified.progress.exceptions.len() {
        0 => "no exception was recorded".to_owned(),
        1 => "one exception was recorded".to_owned(),
        many => format!("{many} exceptions were recorded"),
    };
    let mut table = Table::new([("", 34), ("", 66)]);
    for what in ["Name", "Organisation, qualification", "Place, date", "Signature"] {
        table.rows.push(vec![vec![Line::text(what)], vec![Line::Room]]);
    }
    vec![
        Block::Heading("Statement of the auditor".to_owned()),
        Block::Lines(vec![
            Line::text(format!("I witnessed the key ceremony {id}, from {from} to {to} (UTC).")),
            Line::text("It was performed by the plan with the SHA-256"),
            Line::code(hash),
            Line::text("and its transcript has the head"),
            Line::code(verified.head),
            Line::strong(spoken(verified.head)),
            Line::text(format!(
                "In that transcript, {exceptions}, and the ceremony was interrupted {} times.",
                verified.progress.interruptions
            )),
        ]),
        Block::Lines(vec![
            Line::tick("I was there from the beginning to the end"),
            Line::tick("I watched a recording of all of it"),
            Line::tick("the script was followed, with no deviation but those in the transcript"),
            Line::tick("the controls kept the integrity and the confidentiality of the key pairs"),
            Line::tick(
                "I compared the words above with those that were written down at the ceremony",
            ),
            Line::tick("I verified the transcript with a program of my own choice"),
        ]),
        Block::Lines(vec![Line::text("Qualifications to this statement:"), Line::Room, Line::Room]),
        Block::Table(table),
    ]
}
