//! Raw token and whole appliance, measured in one run.
//!
//! A round measures the bare `C_Sign` rate of the token, then SSH user certificates asked for one
//! by one, then bare `C_Sign` again, then batches. Each rate of the appliance is divided by the
//! bare rate measured just before it, so that a machine that slows down slows down both; the
//! medians over all rounds are what counts. The load generator shares the processors with the
//! appliance, and its own share is printed.
//!
//! After the rounds come callers at 80 % of the peak, and then tokens in trouble: slow ones at
//! loads above their limit, one that is asked for ten times what it can, and one that fails and
//! heals; certificates are revoked, a thousand hosts hear of it, and connections end; and at last ten
//! thousand bots renew.

#![expect(clippy::print_stdout, reason = "a program for a terminal")]

mod arrivals;
mod bots;
mod callers;
mod krl;
mod processes;
mod publishing;
mod raw;
mod report;
mod take_back;
mod trouble;

use std::{
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use clap::{Parser, Subcommand};
use harness::{Failure, failure::Doing, office::Office};

use arrivals::Arrivals;
use bots::{AtRest, Bots};
use callers::{Callers, Load, Work};
use processes::{Cpu, Processes};
use publishing::Publishing;
use raw::RawToken;
use report::{Figures, Report, Round};
use trouble::{Slow, Trouble};

/// Measures the raw token and the whole appliance.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    part: Option<Part>,
    /// How many rounds; the medians are reported.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// How long each measurement of a round takes.
    #[arg(long, default_value_t = 2)]
    seconds: u64,
    /// Keep-alive connections that ask one by one.
    #[arg(long, default_value_t = 96)]
    connections: usize,
    /// Keep-alive connections that send batches.
    #[arg(long, default_value_t = 6)]
    batch_connections: usize,
    /// Items of a batch.
    #[arg(long, default_value_t = 500)]
    batch_items: usize,
    /// How many bots renew.
    #[arg(long, default_value_t = 10_000, global = true)]
    bots: usize,
}

#[derive(Debug, Subcommand)]
enum Part {
    /// Signs with the bare token; started by the program itself, with the token's environment.
    #[command(hide = true)]
    Raw(raw::Arguments),
    /// Measures bots, and nothing else.
    Bots,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match &arguments.part {
        Some(Part::Raw(arguments)) => raw::answer(arguments),
        Some(Part::Bots) => measure_bots(&arguments).map(|figures| println!("\n{figures}")),
        None => measure(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        #[expect(clippy::print_stderr, reason = "a program for a terminal")]
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn measure(arguments: &Arguments) -> Result<(), Failure> {
    let mut report = measure_at_work(arguments)?;
    report.add_krl(&krl::measure()?);
    measure_in_trouble(arguments, &mut report)?;
    measure_taking_back(&mut report)?;
    report.add_bots(measure_bots(arguments)?);
    println!("\n{report}");
    Ok(())
}

/// The appliance with a token that does what it should.
fn measure_at_work(arguments: &Arguments) -> Result<Report, Failure> {
    println!("Holding a ceremony in SoftHSM and starting the appliance ...");
    let mut office = Office::open()?;
    let caller = office.enrol("user/alice")?;
    let ready = time_to_ready(&mut office)?;
    let processes = Processes::of_appliance(office.appliance()?.id())?;
    let callers = Callers::new(&office, &[caller])?;
    let processors = thread::available_parallelism().doing("count the processors")?.get();
    let mut raw = RawToken::start(&office, processors)?;
    let mut report =
        Report::new(ready, processes.resident()?, callers.alone(measurement(arguments))?);
    for number in 1..=arguments.rounds {
        let round = round(arguments, &mut raw, &callers, &processes)?;
        println!("round {number} of {}: {round}", arguments.rounds);
        report.add(round);
    }
    let arrivals = Arrivals {
        rate: 0.8 * report.peak(),
        connections: BELOW_PEAK,
        warm_up: measurement(arguments) / 4,
        duration: 2 * measurement(arguments),
    };
    let answers = arrivals.come(&callers)?;
    println!("at 80 % of the peak: {:.0}/s of {:.0}/s", answers.rate(), arrivals.rate);
    report.add_below_peak(&answers);
    // So many cannot come from the same processors: each connection asks again at once.
    let arrivals = Arrivals { rate: 10.0 * report.peak(), connections: CROWD, ..arrivals };
    let answers = arrivals.come(&callers)?;
    println!("with {CROWD} connections that ask at once again: {:.0}/s", answers.rate());
    report.add_crowd(&answers);
    Ok(report)
}

/// The appliance with a token that does not.
fn measure_in_trouble(arguments: &Arguments, report: &mut Report) -> Result<(), Failure> {
    println!("Putting a module between the appliance and SoftHSM that fails as it is told ...");
    let mut trouble = Trouble::open()?;
    let duration = measurement(arguments);
    let slow =
        [trouble.slow(1, 70, &[8, 48], duration)?, trouble.slow(8, 10, &[32, 256], duration)?];
    for Slow { nominal, bare, rates } in &slow {
        println!("a token of {nominal:.1}/s: bare {bare:.1}/s, with the appliance {rates:.1?}/s");
    }
    report.add_slow(&slow);
    let (peak, answers) = trouble.overrun(4 * duration)?;
    println!(
        "a token of {peak:.1}/s, asked for ten times that: {:.1}/s, p99 {:?}, and {} refused",
        answers.rate(),
        answers.granted_p99(),
        answers.refused.len()
    );
    report.add_overload(peak, &answers);
    let recoveries = trouble.recoveries(RECOVERIES)?;
    println!("until the token signs again: {recoveries:.2?}");
    report.add_recoveries(&recoveries);
    Ok(())
}

/// What is taken back, on its way to those who must know.
fn measure_taking_back(report: &mut Report) -> Result<(), Failure> {
    println!("Revoking certificates, and letting {HOSTS} hosts join ...");
    let publishing = Publishing::open()?;
    let published = publishing.publish(REVOCATIONS)?;
    report.add_published(&published);
    let hosts = publishing.tell_hosts(HOSTS, ROUNDS_OF_HOSTS)?;
    report.add_hosts(&hosts);
    println!("Ending sessions while somebody is logged in by them ...");
    report.add_take_back(&take_back::measure(SESSIONS)?);
    Ok(())
}

/// Bots, one by one and all at once; and the agent of one that has nothing to do.
fn measure_bots(arguments: &Arguments) -> Result<Figures, Failure> {
    println!("Letting {} bots join ...", arguments.bots);
    let at_rest = AtRest::begin()?;
    let began = Instant::now();
    let mut bots = Bots::join(arguments.bots)?;
    let renewals = RENEWALS.min(arguments.bots);
    println!("all have joined after {:.1?}; {renewals} of them renew ...", began.elapsed());
    let steady = bots.steady(RENEWALS_A_SECOND, renewals)?;
    println!("The appliance is gone and comes back, and all renew at once ...");
    let storm = bots.storm()?;
    println!("all have renewed after {:.1?}; put off: {:?}", storm.total(), storm.put_off);
    Ok(Figures::of_bots(&steady, &storm, &at_rest.end(A_MINUTE)?))
}

/// From the start of the process to the first `/readyz` that says yes, on a ledger that is there.
fn time_to_ready(office: &mut Office) -> Result<Duration, Failure> {
    office.kill();
    let start = Instant::now();
    office.restart()?;
    Ok(start.elapsed())
}

fn round(
    arguments: &Arguments,
    raw: &mut RawToken,
    callers: &Callers,
    processes: &Processes,
) -> Result<Round, Failure> {
    let duration = measurement(arguments);
    let single = Work::Single { connections: arguments.connections };
    let batch =
        Work::Batch { connections: arguments.batch_connections, items: arguments.batch_items };
    let (raw_before_single, single) =
        (raw.rate(duration)?, load(callers, processes, single, duration)?);
    let (raw_before_batch, batch) =
        (raw.rate(duration)?, load(callers, processes, batch, duration)?);
    Ok(Round { raw_before_single, single, raw_before_batch, batch })
}

/// What one load did, and what it took.
struct Measured {
    load: Load,
    cpu: Cpu,
    peak_resident: u64,
}

fn load(
    callers: &Callers,
    processes: &Processes,
    work: Work,
    duration: Duration,
) -> Result<Measured, Failure> {
    let before = processes.cpu()?;
    let load = callers.load(work, duration)?;
    let cpu = processes.cpu()?.since(&before);
    Ok(Measured { load, cpu, peak_resident: processes.peak_resident()? })
}

fn measurement(arguments: &Arguments) -> Duration {
    Duration::from_secs(arguments.seconds)
}

/// Connections for callers at 80 % of the peak: enough that none is waited for.
const BELOW_PEAK: usize = 256;

/// As many connections as one client may have.
const CROWD: usize = 500;

/// How many faults have to end.
const RECOVERIES: u32 = 10;

/// How many certificates are revoked, one after the other.
const REVOCATIONS: usize = 200;

/// How many hosts wait.
const HOSTS: usize = 1_000;

/// How many sessions end.
const SESSIONS: usize = 100;

/// How many bots renew while nothing else happens.
const RENEWALS: usize = 1_000;

/// 10,000 bots with certificates for an hour renew six times a second; this is more, so that it does
/// not take long.
const RENEWALS_A_SECOND: u32 = 100;

/// How long an agent is looked at that has nothing to do.
const A_MINUTE: Duration = Duration::from_secs(60);

/// How often they hear of something.
const ROUNDS_OF_HOSTS: usize = 3;

/// The role of the office that grants SSH user certificates.
const ROLE: &str = "login";
