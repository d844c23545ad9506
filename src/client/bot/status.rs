//! How the agent stands, as it tells people and programs.

use std::collections::BTreeMap;

use api::BotName;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// How the agent of a bot stands.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Status {
    /// The bot.
    pub name: BotName,
    /// The appliance.
    pub server: String,
    /// Its own certificate; absent until it has joined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<IdentityStatus>,
    /// Why it serves nothing, if it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withdrawn: Option<String>,
    /// What is wrong with its own certificate or its connection, if something is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// How often it was given a certificate of its own, and how often that failed.
    pub counts: Counts,
    /// What it has for others, by name.
    pub outputs: BTreeMap<String, OutputStatus>,
}

/// The bot's own certificate.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct IdentityStatus {
    /// The instance.
    pub instance: String,
    /// From 1.
    pub generation: u64,
    /// Its last second.
    pub not_after: Timestamp,
    /// When there is to be another.
    pub next_attempt: Timestamp,
}

/// Something that the agent has for others.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct OutputStatus {
    /// The role that grants it.
    pub role: String,
    /// The last second of what is there; absent if nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<Timestamp>,
    /// From when on a failure makes it not ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub critical_at: Option<Timestamp>,
    /// When there is to be another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt: Option<Timestamp>,
    /// When its role opens, if it is closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opens_at: Option<Timestamp>,
    /// What is wrong, if something is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Whether its users took what is there: hook and probe succeeded.
    pub settled: bool,
    /// How often it was renewed, and how often that failed.
    pub counts: Counts,
}

/// How often something succeeded and failed since the agent started.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Counts {
    /// Successes.
    pub renewals: u64,
    /// Failures.
    pub failures: u64,
}

impl Status {
    /// Whether the bot has its own certificate and all outputs are good.
    pub fn is_ready(&self, now: Timestamp) -> bool {
        self.unready(now).is_none()
    }

    /// Why the agent as a whole is not ready; `None` if it is.
    pub(super) fn unready(&self, now: Timestamp) -> Option<String> {
        self.identity_unready(now).or_else(|| {
            let mut outputs = self.outputs.iter();
            outputs.find_map(|(name, it)| Some(format!("{name}: {}", it.unready(now)?)))
        })
    }

    /// Why an output is not ready; `None` if it is. The outer `None`: there is no such output.
    pub(super) fn output_unready(&self, name: &str, now: Timestamp) -> Option<Option<String>> {
        let output = self.outputs.get(name)?;
        Some(self.identity_unready(now).or_else(|| output.unready(now)))
    }

    fn identity_unready(&self, now: Timestamp) -> Option<String> {
        let because = self.problem.as_ref().map(|it| format!(": {it}")).unwrap_or_default();
        if let Some(why) = &self.withdrawn {
            return Some(format!("withdrawn: {why}"));
        }
        match &self.identity {
            None => Some(format!("the bot has not joined{because}")),
            Some(it) if now > it.not_after => {
                Some(format!("the bot's own certificate expired at {}{because}", it.not_after))
            }
            Some(_) => None,
        }
    }

    /// As Prometheus reads it (exposition format 0.0.4).
    pub(super) fn metrics(&self, now: Timestamp) -> String {
        let mut metrics = Metrics::default();
        metrics.add("ready", GAUGE, "Whether all is ready.", "", self.unready(now).is_none());
        if let Some(it) = &self.identity {
            let what = "When the bot's own certificate expires, in seconds since 1970.";
            metrics.add("identity_not_after_seconds", GAUGE, what, "", it.not_after.as_second());
            let what = "When the bot's own certificate is renewed next.";
            let next = it.next_attempt.as_second();
            metrics.add("identity_next_attempt_seconds", GAUGE, what, "", next);
            let what = "The generation of the bot's own certificate.";
            metrics.add("identity_generation", GAUGE, what, "", it.generation);
        }
        let what = "Certificates of its own that the bot was given.";
        metrics.add("identity_renewals_total", COUNTER, what, "", self.counts.renewals);
        let what = "Tries in vain to get a certificate of its own, or to ask how things stand.";
        metrics.add("identity_failures_total", COUNTER, what, "", self.counts.failures);
        for (name, it) in &self.outputs {
            // A name needs no escape: see the configuration.
            let label = format!("{{output=\"{name}\"}}");
            let ready = self.identity_unready(now).is_none() && it.unready(now).is_none();
            metrics.add("output_ready", GAUGE, "Whether an output is ready.", &label, ready);
            if let Some(at) = it.not_after {
                let what = "When an output expires, in seconds since 1970.";
                metrics.add("output_not_after_seconds", GAUGE, what, &label, at.as_second());
            }
            if let Some(at) = it.next_attempt {
                let what = "When an output is renewed next.";
                metrics.add("output_next_attempt_seconds", GAUGE, what, &label, at.as_second());
            }
            let what = "Renewals of an output.";
            metrics.add("output_renewals_total", COUNTER, what, &label, it.counts.renewals);
            let what = "Renewals, hooks and probes of an output that failed.";
            metrics.add("output_failures_total", COUNTER, what, &label, it.counts.failures);
        }
        metrics.text()
    }
}

impl OutputStatus {
    /// A failure counts when a quarter of the life is left, or when the users did not take what
    /// is there: an appliance that is away for a while stops nobody's work.
    fn unready(&self, now: Timestamp) -> Option<String> {
        let because = self.problem.as_ref().map(|it| format!(": {it}")).unwrap_or_default();
        match self.not_after {
            None => Some(format!("there is nothing yet{because}")),
            Some(at) if now > at => Some(format!("expired at {at}{because}")),
            Some(_) if !self.settled => Some(format!("its users did not take it{because}")),
            Some(at) if self.problem.is_some() && self.critical_at.is_some_and(|it| now > it) => {
                Some(format!("it expires at {at}, and is not renewed{because}"))
            }
            Some(_) => None,
        }
    }
}

/// When a quarter of a life is left.
pub(super) fn critical(not_before: Timestamp, not_after: Timestamp) -> Timestamp {
    let quarter = not_after.duration_since(not_before) / 4;
    not_after.checked_sub(quarter.max(SignedDuration::ZERO)).unwrap_or(not_after)
}

/// Samples by metric: those of one metric stand together (exposition format 0.0.4).
#[derive(Default)]
struct Metrics(BTreeMap<&'static str, (&'static str, &'static str, String)>);

impl Metrics {
    fn add(
        &mut self,
        name: &'static str,
        kind: &'static str,
        what: &'static str,
        label: &str,
        value: impl Into<i128>,
    ) {
        let (.., samples) = self.0.entry(name).or_insert_with(|| (kind, what, String::new()));
        samples.push_str(&format!("chancery_bot_{name}{label} {}\n", value.into()));
    }

    fn text(&self) -> String {
        let metrics = self.0.iter().map(|(name, (kind, what, samples))| {
            let name = format!("chancery_bot_{name}");
            format!("# HELP {name} {what}\n# TYPE {name} {kind}\n{samples}")
        });
        metrics.collect()
    }
}

const GAUGE: &str = "gauge";
const COUNTER: &str = "counter";
