//! What auditors ask for, and which records of a transcript answer it: the demands of the CA/Browser
//! Forum's Baseline Requirements (BR) and Network Security Requirements (NSR), as B1 to B22.
//!
//! The map is a pure function of a verified transcript. Where a transcript alone can never be the
//! whole answer, it says what has to be shown besides.

use std::collections::BTreeSet;

use crate::{
    plan::{AuthorityKind, Plan, Step},
    steps::sign_certificate::Signed,
    transcript::{Event, Intent, Outcome, Record},
    verify::Verified,
};

/// A demand, and what answers it.
#[derive(Clone, Debug, Eq, PartialEq, serde::Serialize)]
pub struct Clause {
    /// B1 to B22.
    pub number: &'static str,
    /// The clause in its document.
    pub source: &'static str,
    /// What it demands.
    pub demand: &'static str,
    /// The numbers of the records that answer it; none if none does.
    pub records: Vec<u64>,
    /// What must be shown besides the transcript; empty if nothing.
    pub besides: &'static str,
}

/// The demands, each with the records of this transcript that answer it.
pub fn clauses(verified: &Verified) -> Vec<Clause> {
    let plan = &verified.progress.plan;
    let clause = |row: &Row| Clause {
        number: row.number,
        source: row.source,
        demand: row.demand,
        records: verified
            .transcript
            .iter()
            .filter(|record| (row.answers)(record, plan))
            .map(|record| record.seq)
            .collect(),
        besides: row.besides,
    };
    ROWS.iter().map(clause).collect()
}

/// Numbers as people write them: `1–3, 7`.
pub fn ranges(numbers: &[u64]) -> String {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for number in numbers {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == *number => *last = *number,
            _ => ranges.push((*number, *number)),
        }
    }
    let ranges = ranges.iter().map(|(first, last)| {
        if first == last { first.to_string() } else { format!("{first}–{last}") }
    });
    ranges.collect::<Vec<_>>().join(", ")
}

/// A demand, and how a record that answers it is told.
struct Row {
    number: &'static str,
    source: &'static str,
    demand: &'static str,
    answers: fn(&Record, &Plan) -> bool,
    besides: &'static str,
}

fn any(_: &Record, _: &Plan) -> bool {
    true
}

fn none(_: &Record, _: &Plan) -> bool {
    false
}

fn opening(record: &Record, _: &Plan) -> bool {
    matches!(record.event, Event::Opened(_))
}

/// What was done of the plan, from its beginning to its end.
fn script(record: &Record, plan: &Plan) -> bool {
    let done = matches!(record.event, Event::Outcome(_) | Event::Closed {});
    opening(record, plan) || done || deviation(record, plan)
}

/// What the plan does not have.
fn deviation(record: &Record, _: &Plan) -> bool {
    matches!(
        record.event,
        Event::Decided(_) | Event::Exception { .. } | Event::Resumed(_) | Event::Stopped { .. }
    )
}

fn presence(record: &Record, _: &Plan) -> bool {
    matches!(record.event, Event::Present {} | Event::SignedOff { .. })
}

/// Whoever is no operator was there, or signed: witnesses and auditors.
fn witnesses(record: &Record, plan: &Plan) -> bool {
    let people = &plan.script().people;
    let roles: BTreeSet<_> =
        record.who.iter().filter_map(|name| people.persons.get(name)).map(|it| &it.role).collect();
    presence(record, plan) && roles.iter().any(|role| role.as_str() != "operator")
}

fn auditors_word(record: &Record, plan: &Plan) -> bool {
    let people = &plan.script().people;
    let auditor = |name| people.persons.get(name).is_some_and(|it| it.role.as_str() == "auditor");
    matches!(record.event, Event::SignedOff { .. }) && record.who.iter().any(auditor)
}

/// More than one person: approval, roll call, confirmation, signature.
fn several_people(record: &Record, plan: &Plan) -> bool {
    let approved = matches!(&record.event, Event::Opened(it) if it.approvals.len() > 1);
    let split = matches!(
        record.event,
        Event::Outcome(Outcome::SharesGiven(_) | Outcome::SharesVerified(_))
    );
    approved
        || split
        || record.who.len() > 1
        || matches!(record.event, Event::SignedOff { .. }) && plan.script().people.persons.len() > 1
}

/// What people did with their hands, and wrote down.
fn by_hand(record: &Record, _: &Plan) -> bool {
    matches!(record.event, Event::Outcome(Outcome::DoneByPeople(_)))
}

/// Copies of keys: made, and tried.
fn backups(record: &Record, _: &Plan) -> bool {
    matches!(record.event, Event::Outcome(Outcome::KeyBackedUp(_) | Outcome::RestoreDrilled(_)))
}

fn machine(record: &Record, _: &Plan) -> bool {
    matches!(record.event, Event::Environment(_) | Event::Outcome(Outcome::EnvironmentChecked(_)))
}

fn token(record: &Record, _: &Plan) -> bool {
    matches!(record.event, Event::Token(_))
}

fn keys(record: &Record, _: &Plan) -> bool {
    matches!(record.event, Event::Outcome(Outcome::KeyBackedUp(_) | Outcome::KeyGenerated(_)))
}

fn key_events(record: &Record, plan: &Plan) -> bool {
    let intent = matches!(
        record.event,
        Event::Intent(Intent::BackUpKey(_) | Intent::GenerateKey(_) | Intent::InitializeToken(_))
    );
    intent
        || keys(record, plan)
        || matches!(record.event, Event::Outcome(Outcome::TokenInitialized(_)))
}

fn signed(record: &Record, _: &Plan) -> bool {
    matches!(record.event, Event::Outcome(Outcome::CertificateSigned(_) | Outcome::CrlSigned(_)))
}

fn to_be_signed(record: &Record, _: &Plan) -> bool {
    matches!(record.event, Event::Intent(Intent::SignCertificate(_) | Intent::SignCrl(_)))
}

/// What a root's key signed.
fn signed_by_root(record: &Record, plan: &Plan) -> bool {
    let Event::Outcome(Outcome::CertificateSigned(Signed { name, .. })) = &record.event else {
        return false;
    };
    let root = |kind: &AuthorityKind| matches!(kind, AuthorityKind::Root { .. });
    plan.certificates()
        .find(|certificate| certificate.name == *name)
        .is_some_and(|it| root(&plan.signer(it).unwrap_or(it).kind))
}

/// The words that were typed before a certificate was signed.
fn direct_command(record: &Record, plan: &Plan) -> bool {
    let step = record.step.and_then(|number| plan.steps().find(|(it, _)| *it == number));
    matches!(record.event, Event::Confirmed {})
        && matches!(step, Some((_, Step::SignCertificate(_) | Step::SignCrl(_))))
}

const ROWS: [Row; 22] = [
    Row {
        number: "B1",
        source: "BR 6.1.1.1 (root CAs, and sub-CAs of others)",
        demand: "a key generation script is prepared and followed",
        answers: script,
        besides: "",
    },
    Row {
        number: "B2",
        source: "BR 6.1.1.1 (the same)",
        demand: "a qualified auditor witnesses all of it, or it is filmed",
        answers: witnesses,
        besides: "the qualification of the auditor; or the film, whose hash is in the bundle",
    },
    Row {
        number: "B3",
        source: "BR 6.1.1.1 (the same)",
        demand: "a qualified auditor reports that the script was followed, and that the controls kept \
                 integrity and confidentiality",
        answers: auditors_word,
        besides: "the auditor's report",
    },
    Row {
        number: "B4",
        source: "BR 6.1.1.1 (other CA keys)",
        demand: "script and witnesses, as B1 and B2 (SHOULD)",
        answers: |record, plan| script(record, plan) || witnesses(record, plan),
        besides: "",
    },
    Row {
        number: "B5",
        source: "BR 6.1.1.1 (all CA keys, 1)",
        demand: "keys are made in a physically secured environment, as the CP or CPS says",
        answers: by_hand,
        besides: "the place: its entry log, seals, cameras, and the section of the CPS",
    },
    Row {
        number: "B6",
        source: "BR 6.1.1.1 (all CA keys, 2)",
        demand: "persons in trusted roles, under multiple person control and split knowledge",
        answers: several_people,
        besides: "the appointment of these persons to their roles",
    },
    Row {
        number: "B7",
        source: "BR 6.1.1.1 (all CA keys, 3)",
        demand: "keys are made inside a cryptographic module that meets the disclosed requirements",
        answers: |record, plan| token(record, plan) || keys(record, plan),
        besides: "the certificate of the token's model and firmware",
    },
    Row {
        number: "B8",
        source: "BR 6.1.1.1 (all CA keys, 4)",
        demand: "the making of keys is logged",
        answers: key_events,
        besides: "",
    },
    Row {
        number: "B9",
        source: "BR 6.1.1.1 (all CA keys, 5)",
        demand: "effective controls: the key was made and kept as the CP or CPS and the script say",
        answers: |record, plan| keys(record, plan) || deviation(record, plan),
        besides: "",
    },
    Row {
        number: "B10",
        source: "BR 6.1.5",
        demand: "key sizes: RSA of 2048 bits or more, divisible by 8; P-256, P-384 or P-521",
        answers: keys,
        besides: "",
    },
    Row {
        number: "B11",
        source: "BR 6.1.6",
        demand: "parameters and quality of public keys are checked",
        answers: keys,
        besides: "",
    },
    Row {
        number: "B12",
        source: "BR 6.1.7",
        demand: "a root's key signs the root, sub-CAs, cross-certificates, and certificates of \
                 infrastructure and OCSP, nothing else",
        answers: signed_by_root,
        besides: "",
    },
    Row {
        number: "B13",
        source: "BR 6.2, 6.2.6",
        demand: "outside the module, a private key is encrypted and physically protected",
        answers: keys,
        besides: "",
    },
    Row {
        number: "B14",
        source: "BR 6.2.7",
        demand: "the module is validated: FIPS 140-2 or 140-3 level 3, or Common Criteria EAL 4 or more",
        answers: token,
        besides: "the certificate of the token's model and firmware",
    },
    Row {
        number: "B15",
        source: "BR 5.2.2",
        demand: "keys are backed up, stored and recovered by trusted roles alone, under dual control",
        answers: backups,
        besides: "the other ceremonies in which it was backed up and recovered",
    },
    Row {
        number: "B16",
        source: "BR 4.3.1.1",
        demand: "somebody deliberately gives a direct command for each signature of a root",
        answers: direct_command,
        besides: "",
    },
    Row {
        number: "B17",
        source: "BR 4.3.1.2",
        demand: "what is to be signed is linted before it is signed",
        answers: |record, plan| opening(record, plan) || to_be_signed(record, plan),
        besides: "",
    },
    Row {
        number: "B18",
        source: "BR 4.3.1.3, 8.7",
        demand: "what was signed is linted (SHOULD)",
        answers: signed,
        besides: "",
    },
    Row {
        number: "B19",
        source: "BR 5.4.1 (1)",
        demand: "the life of keys and devices, revocation lists and profiles is logged",
        answers: |record, _| {
            matches!(
                record.event,
                Event::Opened(_) | Event::Intent(_) | Event::Outcome(_) | Event::Token(_)
            )
        },
        besides: "",
    },
    Row {
        number: "B20",
        source: "BR 5.4.1",
        demand: "each record has a date and time, the person, and what happened",
        answers: any,
        besides: "",
    },
    Row {
        number: "B21",
        source: "BR 5.4.3",
        demand: "records are kept for two years after the key is destroyed, or its last certificate \
                 expired or was revoked",
        answers: none,
        besides: "where this bundle is kept, and until when",
    },
    Row {
        number: "B22",
        source: "NSR 1.c",
        demand: "systems of a root CA are in a high security zone, and offline or air-gapped",
        answers: machine,
        besides: "the zone that the machine is in",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demands_are_numbered_without_a_gap() {
        let numbers: Vec<String> = (1..=22).map(|number| format!("B{number}")).collect();
        assert_eq!(ROWS.map(|row| row.number.to_owned()).to_vec(), numbers);
    }

    #[test]
    fn neighbouring_numbers_are_drawn_together() {
        assert_eq!(ranges(&[1, 2, 3, 7, 9, 10]), "1–3, 7, 9–10");
        assert_eq!(ranges(&[]), "");
    }
}
