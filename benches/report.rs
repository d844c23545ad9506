//! Medians over the rounds, as a table for people and lines for programs.

use std::{fmt, time::Duration};

use crate::{Measured, callers::Load};

/// What one round measured; the rates of the bare token are signatures a second.
pub(crate) struct Round {
    pub(crate) raw_before_single: f64,
    pub(crate) single: Measured,
    pub(crate) raw_before_batch: f64,
    pub(crate) batch: Measured,
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "bare token {:.0}/s, one by one {:.0}/s, bare token {:.0}/s, batches {:.0}/s",
            self.raw_before_single,
            self.single.load.rate(),
            self.raw_before_batch,
            self.batch.load.rate()
        )
    }
}

/// What all rounds measured.
pub(crate) struct Report {
    ready: Duration,
    resident_at_rest: u64,
    alone: Load,
    rounds: Vec<Round>,
}

impl Report {
    pub(crate) fn new(ready: Duration, resident_at_rest: u64, alone: Load) -> Self {
        Self { ready, resident_at_rest, alone, rounds: Vec::new() }
    }

    pub(crate) fn add(&mut self, round: Round) {
        self.rounds.push(round);
    }

    fn figures(&self) -> Vec<Figure> {
        let median = |value: fn(&Round) -> f64| median(self.rounds.iter().map(value).collect());
        let resident =
            self.rounds.iter().flat_map(|r| [r.single.peak_resident, r.batch.peak_resident]);
        let per_certificate = |measured: &Measured, cpu: Duration| {
            cpu.as_secs_f64() * 1e6 / measured.load.certificates as f64
        };
        let figure = |name, value, unit, what| Figure { name, value, unit, what };
        let mut figures = vec![
            figure(
                "raw_sign_p256",
                median(|round| f64::midpoint(round.raw_before_single, round.raw_before_batch)),
                "1/s",
                "bare C_Sign, all processors",
            ),
            figure("issue_single", median(|r| r.single.load.rate()), "1/s", "one by one"),
            figure("issue_batch", median(|r| r.batch.load.rate()), "1/s", "in batches"),
            figure(
                "issue_single_ratio",
                median(|round| round.single.load.rate() / round.raw_before_single),
                "1",
                "one by one, of bare C_Sign",
            ),
            figure(
                "issue_batch_ratio",
                median(|round| round.batch.load.rate() / round.raw_before_batch),
                "1",
                "in batches, of bare C_Sign",
            ),
            figure(
                "issue_single_p50",
                median(|round| milliseconds(round.single.load.percentile(0.5))),
                "ms",
                "latency one by one, all connections busy",
            ),
            figure(
                "issue_single_p99",
                median(|round| milliseconds(round.single.load.percentile(0.99))),
                "ms",
                "latency one by one, all connections busy",
            ),
            figure(
                "issue_batch_p50",
                median(|round| milliseconds(round.batch.load.percentile(0.5))),
                "ms",
                "latency of a whole batch",
            ),
            figure(
                "issue_batch_p99",
                median(|round| milliseconds(round.batch.load.percentile(0.99))),
                "ms",
                "latency of a whole batch",
            ),
        ];
        figures.extend([
            figure("issue_alone_p50", milliseconds(self.alone.percentile(0.5)), "ms", ALONE),
            figure("issue_alone_p99", milliseconds(self.alone.percentile(0.99)), "ms", ALONE),
            figure("rss_rest", megabytes(self.resident_at_rest), "MB", "memory at rest"),
            figure(
                "rss_load",
                megabytes(resident.max().unwrap_or_default()),
                "MB",
                "memory under load, at its peak",
            ),
            figure("ready", self.ready.as_secs_f64(), "s", "from start to ready"),
        ]);
        let shares: [(&str, &str, Share); 6] = [
            ("cpu_single_appliance", "appliance", |r| (&r.single, r.single.cpu.appliance)),
            ("cpu_single_workers", "token worker", |r| (&r.single, r.single.cpu.workers)),
            ("cpu_single_callers", "load generator", |r| (&r.single, r.single.cpu.callers)),
            ("cpu_batch_appliance", "appliance", |r| (&r.batch, r.batch.cpu.appliance)),
            ("cpu_batch_workers", "token worker", |r| (&r.batch, r.batch.cpu.workers)),
            ("cpu_batch_callers", "load generator", |r| (&r.batch, r.batch.cpu.callers)),
        ];
        figures.extend(shares.map(|(name, what, share)| {
            let values = self.rounds.iter().map(|round| {
                let (measured, cpu) = share(round);
                per_certificate(measured, cpu)
            });
            figure(name, self::median(values.collect()), "us", what)
        }));
        figures
    }
}

/// A measurement of a round, and the processor time of one side in it.
type Share = fn(&Round) -> (&Measured, Duration);

/// The table, then the lines for programs.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let figures = self.figures();
        for Figure { name, value, unit, what } in &figures {
            writeln!(f, "{name:22} {value:>10.3} {unit:4} {what}")?;
        }
        writeln!(f)?;
        for Figure { name, value, unit, .. } in &figures {
            writeln!(f, "figure {name} {value:.3} {unit}")?;
        }
        Ok(())
    }
}

struct Figure {
    name: &'static str,
    value: f64,
    unit: &'static str,
    what: &'static str,
}

/// The middle value; the mean of the two middle ones of an even number.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let (lower, upper) = (values.len().saturating_sub(1) / 2, values.len() / 2);
    match (values.get(lower), values.get(upper)) {
        (Some(lower), Some(upper)) => f64::midpoint(*lower, *upper),
        _ => f64::NAN,
    }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

const ALONE: &str = "latency of one caller alone";
