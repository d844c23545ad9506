//! Tokens that are slow, overrun or gone, by the shim that stands between appliance and SoftHSM.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use harness::{
    Failure,
    failure::Doing,
    https::{Https, Identity},
    office::Office,
    shim::{Action, Fault, Plan, Shim, pkcs11::CKR_DEVICE_ERROR},
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::{
    arrivals::{Answers, Arrivals},
    callers::{Callers, Work},
    processes::Processes,
    raw::RawToken,
};

/// An office whose token does as it is told.
pub(crate) struct Trouble {
    office: Office,
    shim: Shim,
    identities: Vec<Identity>,
}

/// How fast the appliance is with a slow token.
pub(crate) struct Slow {
    /// Signatures a second, if the module slept not a moment longer than it is told.
    pub(crate) nominal: f64,
    /// What the bare token makes on this machine now: its limit.
    pub(crate) bare: f64,
    /// The certificates a second, at each load.
    pub(crate) rates: Vec<f64>,
}

impl Slow {
    /// The part of the token's limit that was reached at the worst load.
    pub(crate) fn ratio(&self) -> f64 {
        self.rates.iter().fold(f64::INFINITY, |worst, rate| worst.min(rate / self.bare))
    }
}

impl Trouble {
    pub(crate) fn open() -> Result<Self, Failure> {
        let (office, shim) = Office::open_with_shim()?;
        let enrol = |number| office.enrol(&format!("user/caller-{number}"));
        let identities = (1..=IDENTITIES).map(enrol).collect::<Result<_, _>>()?;
        Ok(Self { office, shim, identities })
    }

    /// Throughput with a token of so many sessions, with so many callers that wait for each answer.
    pub(crate) fn slow(
        &mut self,
        sessions: u8,
        signature_ms: u64,
        callers: &[usize],
        duration: Duration,
    ) -> Result<Slow, Failure> {
        let asking = self.become_slow(sessions, signature_ms)?;
        let rates = callers.iter().map(|&connections| {
            Ok(asking.load(Work::Single { connections }, duration)?.steady_rate())
        });
        let rates = rates.collect::<Result<_, Failure>>()?;
        let bare = RawToken::start(&self.office, sessions.into())?.rate(duration)?;
        Ok(Slow { nominal: f64::from(sessions) * 1e3 / signature_ms as f64, bare, rates })
    }

    /// Ten times as many as a token of one session and 10 ms can serve, and what they get; the
    /// peak is measured first.
    pub(crate) fn overrun(&mut self, duration: Duration) -> Result<(f64, Answers), Failure> {
        let asking = self.become_slow(1, 10)?;
        let peak = asking.load(Work::Single { connections: 32 }, duration / 4)?.steady_rate();
        let arrivals = Arrivals {
            rate: 10.0 * peak,
            connections: CROWD,
            // By then, as many wait as may.
            warm_up: Duration::from_secs(2),
            duration,
        };
        Ok((peak, arrivals.come(&asking)?))
    }

    /// From the end of a fault to the answer of the first who asks after it: for a device that
    /// gives errors and heals, and for a worker that is killed, in turn.
    pub(crate) fn recoveries(&mut self, times: u32) -> Result<Vec<Duration>, Failure> {
        self.shim.heal()?;
        self.office.change_token(|token| token.settings.clear())?;
        self.office.restart()?;
        let appliance = self.office.appliance()?.id();
        let https = self.office.https(Some(&self.identities[0]))?;
        let request = Callers::new(&self.office, &self.identities[..1])?.body(0);
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            // Others ask all the time, so that the fault is met.
            let others = scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let _ = https.post(PATH, &request);
                }
            });
            let all = (0..times).map(|number| match number % 2 {
                0 => self.heal_device(&https, &request, number),
                _ => kill_workers(appliance, &https, &request),
            });
            let all = all.collect();
            over.store(true, Ordering::Relaxed);
            others.join().map_err(|_| Failure::new("a caller panicked"))?;
            all
        })
    }

    fn heal_device(
        &self,
        https: &Https,
        request: &Value,
        number: u32,
    ) -> Result<Duration, Failure> {
        let faults = vec![Fault::everywhere(Action::Return(CKR_DEVICE_ERROR))];
        self.shim.play(Plan { faults, ..Plan::default() })?;
        // Each time another while, so that it ends at any moment between two attempts.
        thread::sleep(Duration::from_millis(1_000 + 170 * u64::from(number)));
        self.shim.heal()?;
        until_signed(https, request)
    }

    fn become_slow(&mut self, sessions: u8, signature_ms: u64) -> Result<Callers, Failure> {
        let slow = Plan { sessions: Some(sessions.into()), signature_ms, ..Plan::default() };
        self.shim.play(slow)?;
        self.office.change_token(|token| token.settings = format!("sessions = {sessions}\n"))?;
        self.office.restart()?;
        Callers::new(&self.office, &self.identities)
    }
}

fn kill_workers(appliance: u32, https: &Https, request: &Value) -> Result<Duration, Failure> {
    for worker in Processes::of_appliance(appliance)?.workers() {
        let worker = i32::try_from(*worker).ok().and_then(Pid::from_raw);
        let worker = worker.ok_or_else(|| Failure::new("no process id"))?;
        kill_process(worker, Signal::KILL).doing("kill a token worker")?;
    }
    until_signed(https, request)
}

/// Asks until there is a certificate.
fn until_signed(https: &Https, request: &Value) -> Result<Duration, Failure> {
    let from = Instant::now();
    while https.post(PATH, request)?.status != 201 {
        if from.elapsed() > PATIENCE {
            return Err(Failure::new(format!("no signature after {PATIENCE:?}")));
        }
    }
    Ok(from.elapsed())
}

const PATH: &str = "/v1/issue/ssh-user";

/// How long a token may take until it signs again.
const PATIENCE: Duration = Duration::from_secs(30);

/// Each may have a quarter of all connections.
const IDENTITIES: usize = 4;

/// More than wait for a token of a hundred signatures a second, so that some are free for those
/// that are refused.
const CROWD: usize = 1_400;
