//! What was rehearsed beside what was done: the texts that were signed, field by field, and the steps.
//!
//! Keys are new in each ceremony, and so is what follows from them. Whatever else differs, nobody
//! rehearsed.

use std::collections::{BTreeMap, BTreeSet};

use pki::x509::fields::{Field, fields, fields_of_list, fields_of_request};

use crate::{
    transcript::{Attendance, Event, Intent, Record},
    verify::Verified,
};

/// What differs between a rehearsal and the ceremony itself.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Comparison {
    /// The texts that were signed, by the plan's names.
    pub texts: BTreeMap<String, Text>,
    /// What was done in one and not in the other, or otherwise.
    pub steps: Vec<String>,
}

/// A text that was signed in both.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Text {
    /// The fields that differ because the keys do.
    pub expected: Vec<String>,
    /// Whatever else differs.
    pub unexpected: Vec<Difference>,
}

/// A field that differs; its DER in hexadecimal.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Difference {
    /// What RFC 5280 calls it.
    pub field: String,
    /// In the rehearsal; none if it is not there.
    pub rehearsal: Option<String>,
    /// In the ceremony itself.
    pub production: Option<String>,
}

impl Comparison {
    /// Compares two ceremonies.
    pub fn new(rehearsal: &Verified, production: &Verified) -> Self {
        let (first, second) = (texts(rehearsal), texts(production));
        let names: BTreeSet<&String> = first.keys().chain(second.keys()).collect();
        let compared = names.into_iter().map(|name| {
            let fields = |texts: &Texts| texts.get(name).cloned().unwrap_or_default();
            (name.clone(), Text::new(&fields(&first), &fields(&second)))
        });
        Self { texts: compared.collect(), steps: steps(rehearsal, production) }
    }

    /// How much differs that nobody rehearsed.
    pub fn unexpected(&self) -> usize {
        self.steps.len() + self.texts.values().map(|text| text.unexpected.len()).sum::<usize>()
    }
}

impl Text {
    fn new(rehearsal: &[Field], production: &[Field]) -> Self {
        let mut text = Self::default();
        let of = |fields: &[Field], name: &str| {
            let mut ours = fields.iter().filter(|field| field.name == name);
            ours.next().map(|field| hex::encode(&field.der))
        };
        let mut seen = BTreeSet::new();
        for Field { name, .. } in rehearsal.iter().chain(production) {
            let (first, second) = (of(rehearsal, name), of(production, name));
            if first == second || !seen.insert(name) {
                continue;
            }
            let poison = name == POISON && second.is_none();
            let follows = OF_KEYS.contains(&name.as_str()) && first.is_some() && second.is_some();
            if poison || follows {
                text.expected.push(name.clone());
            } else {
                let field = name.clone();
                text.unexpected.push(Difference { field, rehearsal: first, production: second });
            }
        }
        text
    }
}

/// What was signed, by the name of its file, and its fields.
type Texts = BTreeMap<String, Vec<Field>>;

/// The texts that were signed, and the SSH keys. One text is signed for each name, however often.
fn texts(verified: &Verified) -> Texts {
    let text = |record: &Record| match &record.event {
        Event::Intent(Intent::SignCertificate(it)) => {
            Some((it.name.to_string(), fields(&it.to_be_signed)))
        }
        Event::Intent(Intent::SignCrl(it)) => {
            Some((format!("{}.crl", it.name), fields_of_list(&it.to_be_signed)))
        }
        Event::Intent(Intent::RequestCertificate(it)) => {
            Some((format!("{}.csr", it.name), fields_of_request(&it.to_be_signed)))
        }
        _ => None,
    };
    let texts = verified.transcript.iter().filter_map(text);
    // The replay has read each of them; what could not be read has no fields, which is a difference.
    let texts = texts.map(|(name, fields)| (name, fields.unwrap_or_default()));
    texts.chain(ssh_keys(verified)).collect()
}

/// The keys of SSH CAs, which nothing signs: what hosts and people are given.
fn ssh_keys(verified: &Verified) -> impl Iterator<Item = (String, Vec<Field>)> {
    let authorities = &verified.progress.plan.script().ssh;
    authorities.iter().map(|(name, authority)| {
        let key = verified.progress.made.key(&authority.key).ok();
        let field = |name: &str, it: String| Field { name: name.to_owned(), der: it.into_bytes() };
        let mut fields = vec![field("usage", format!("{:?}", authority.usage))];
        fields.extend(key.map(|key| field("algorithm", key.public_key.algorithm().to_string())));
        fields.extend(key.map(|key| field("subjectPublicKeyInfo", key.public_key.to_pem())));
        (format!("{name}.pub"), fields)
    })
}

fn steps(rehearsal: &Verified, production: &Verified) -> Vec<String> {
    let mut steps = Vec::new();
    let (first, second) = (&rehearsal.progress, &production.progress);
    if first.opened.attendance != Attendance::Rehearsed {
        steps.push("the first one is not of a rehearsal".to_owned());
    }
    if second.opened.attendance == Attendance::Rehearsed {
        steps.push("the second one is of a rehearsal".to_owned());
    }
    if second.opened.rehearsal.is_some_and(|named| named != rehearsal.head) {
        steps.push("the ceremony names another rehearsal".to_owned());
    }
    if first.plan != second.plan {
        steps.push(format!("the plans are {} and {}", first.plan.hash(), second.plan.hash()));
    }
    let (planned, done) = (&first.plan.script().steps, &second.plan.script().steps);
    for number in 0..planned.len().max(done.len()) {
        let effects = [planned, done].map(|steps| steps.get(number));
        if effects[0] != effects[1] {
            let [first, second] =
                effects.map(|step| step.map_or("nothing".to_owned(), ToString::to_string));
            steps.push(format!("step {}: {first}; {second}", number + 1));
        }
    }
    let mut deviations = |which: &str, verified: &Verified| {
        for record in &verified.transcript {
            let (number, what) = match &record.event {
                Event::Decided(decision) => (record.seq, decision.to_string()),
                Event::Exception { text } => (record.seq, format!("an exception: {text}")),
                Event::Resumed(resumed) => (record.seq, format!("interrupted: {}", resumed.reason)),
                _ => continue,
            };
            steps.push(format!("record {number} of the {which}: {what}"));
        }
    };
    deviations("rehearsal", rehearsal);
    deviations("ceremony", production);
    steps
}

/// What follows from the keys, the serial number, which is random, and when a list is of.
const OF_KEYS: [&str; 5] = [
    "serialNumber",
    "subjectPublicKeyInfo",
    "subjectKeyIdentifier",
    "authorityKeyIdentifier",
    "thisUpdate",
];
/// The extension that makes what is signed in a rehearsal good for nothing (RFC 6962 section 3.1).
const POISON: &str = "1.3.6.1.4.1.11129.2.4.3";
