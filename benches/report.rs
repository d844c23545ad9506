//! Medians over the rounds, as a table for people and lines for programs.

use std::{fmt, time::Duration};

use crate::{
    Measured,
    arrivals::Answers,
    bots::{Rest, Steady, Storm},
    callers::{Load, percentile},
    krl,
    publishing::Published,
    trouble::Slow,
};

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
    others: Vec<Figure>,
}

impl Report {
    pub(crate) fn new(ready: Duration, resident_at_rest: u64, alone: Load) -> Self {
        Self { ready, resident_at_rest, alone, rounds: Vec::new(), others: Vec::new() }
    }

    pub(crate) fn add(&mut self, round: Round) {
        self.rounds.push(round);
    }

    /// Certificates a second, one by one, at the peak.
    pub(crate) fn peak(&self) -> f64 {
        median(self.rounds.iter().map(|round| round.single.load.rate()).collect())
    }

    /// Certificates one by one at 80 % of the peak.
    pub(crate) fn add_below_peak(&mut self, answers: &Answers) {
        let what = "latency at 80 % of the peak, waiting for a connection included";
        let p99 = milliseconds(answers.granted_p99());
        self.others.push(Figure { name: "issue_single_p99_at_80", value: p99, unit: "ms", what });
    }

    /// As many certificates one by one as can be asked for.
    pub(crate) fn add_crowd(&mut self, answers: &Answers) {
        let value = answers.rate() / self.peak();
        let what = "of the peak, with as many connections as one client may have";
        self.others.push(Figure { name: "crowd_goodput_ratio", value, unit: "1", what });
    }

    /// Tokens that are slow.
    pub(crate) fn add_slow(&mut self, slow: &[Slow]) {
        let value = slow.iter().map(Slow::ratio).fold(f64::INFINITY, f64::min);
        let what = "one by one, of the limit of a slow token, at the worst load";
        self.others.push(Figure { name: "slow_token_ratio", value, unit: "1", what });
    }

    /// Ten times as many as the peak.
    pub(crate) fn add_overload(&mut self, peak: f64, answers: &Answers) {
        let figure = |name, value, unit, what| Figure { name, value, unit, what };
        let refused = milliseconds(answers.refused_p99());
        self.others.extend([
            figure(
                "overload_goodput_ratio",
                answers.rate() / peak,
                "1",
                "of the peak, at ten times it",
            ),
            figure("overload_refusal_p99", refused, "ms", "latency of a 503 there"),
        ]);
    }

    /// The list of 100,000 revoked certificates.
    pub(crate) fn add_krl(&mut self, krl: &krl::Measured) {
        let figure = |name, value, unit, what| Figure { name, value, unit, what };
        let build = milliseconds(krl.build);
        self.others.extend([
            figure("krl_100k_bytes", krl.bytes as f64, "B", "every second of 200,000 serials"),
            figure("krl_100k_build", build, "ms", "from serial numbers to the file"),
        ]);
    }

    /// How long it took to sign again.
    pub(crate) fn add_recoveries(&mut self, recoveries: &[Duration]) {
        let seconds: Vec<_> = recoveries.iter().map(Duration::as_secs_f64).collect();
        let most = seconds.iter().copied().fold(0.0, f64::max);
        let figure = |name, value, what| Figure { name, value, unit: "s", what };
        self.others.extend([
            figure("token_recovery", median(seconds), "from the end of a fault to a certificate"),
            figure("token_recovery_max", most, "the longest of them"),
        ]);
    }

    /// How soon what is revoked is published.
    pub(crate) fn add_published(&mut self, published: &Published) {
        let p99 = |took| milliseconds(percentile(took, 0.99));
        let figure = |name, value, what| Figure { name, value, unit: "ms", what };
        self.others.extend([
            figure("publish_p99", p99(&published.alone), "from a revocation to KRL and CRLs"),
            figure("publish_p99_loaded", p99(&published.under_load), "while others are issued"),
        ]);
    }

    /// How soon a thousand hosts have it.
    pub(crate) fn add_hosts(&mut self, took: &[Duration]) {
        let what = "from a revocation to the acknowledgement of a host, of 1,000 that wait";
        let value = milliseconds(percentile(took, 0.99));
        self.others.push(Figure { name: "hosts_1000_ack_p99", value, unit: "ms", what });
    }

    /// How soon a connection ends.
    pub(crate) fn add_take_back(&mut self, took: &[Duration]) {
        let what = "from the end of a session to that of its connection, as ssh sees it";
        let value = milliseconds(percentile(took, 0.99));
        self.others.push(Figure { name: "take_back_p99", value, unit: "ms", what });
    }

    /// Bots.
    pub(crate) fn add_bots(&mut self, bots: Figures) {
        self.others.extend(bots.0);
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
        figures.extend(self.others.iter().copied());
        figures
    }
}

/// A measurement of a round, and the processor time of one side in it.
type Share = fn(&Round) -> (&Measured, Duration);

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Figures(self.figures()).fmt(f)
    }
}

/// What was measured.
pub(crate) struct Figures(Vec<Figure>);

impl Figures {
    /// What a bot's renewal costs, what all of them at once do, and an agent that has nothing to do.
    pub(crate) fn of_bots(steady: &Steady, storm: &Storm, rest: &Rest) -> Self {
        let figure = |name, value, unit, what| Figure { name, value, unit, what };
        let p99 = milliseconds(percentile(&steady.took, 0.99));
        let cpu = steady.cpu.as_secs_f64() * 1e6;
        let until = |share| percentile(&storm.took, share).as_secs_f64();
        let put_off = storm.put_off.values().sum::<u64>() as f64;
        Self(vec![
            figure(
                "bot_renewal_cpu",
                cpu,
                "us",
                "of appliance and worker, two handshakes included",
            ),
            figure("bot_renewal_p99", p99, "ms", "from when it is due to its confirmation"),
            figure("bot_storm_p50", until(0.5), "s", "until half of all bots have renewed"),
            figure("bot_storm_p99", until(0.99), "s", "until 99 % of them have"),
            figure("bot_storm_total", until(1.0), "s", "until all have; none is lost or locked"),
            figure("bot_storm_put_off", put_off, "1", "attempts that had to be made again"),
            figure("bot_storm_queue", storm.peak_queue as f64, "1", "signatures waiting, at most"),
            figure("bot_storm_connections", storm.peak_connections as f64, "1", "at most"),
            figure("bot_agent_rss", megabytes(rest.resident), "MB", "with one SSH output, at rest"),
            figure("bot_agent_cpu", 100.0 * rest.busy, "%", "of a processor, over a minute"),
        ])
    }
}

/// The table, then the lines for programs.
impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(figures) = self;
        for Figure { name, value, unit, what } in figures {
            writeln!(f, "{name:22} {value:>10.3} {unit:4} {what}")?;
        }
        writeln!(f)?;
        for Figure { name, value, unit, .. } in figures {
            writeln!(f, "figure {name} {value:.3} {unit}")?;
        }
        Ok(())
    }
}

#[derive(Clone, Copy)]
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
