//! Callers that come at a rate of their own, whether those before them were answered or not.

use std::{
    cell::RefCell,
    collections::VecDeque,
    rc::Rc,
    time::{Duration, Instant},
};

use harness::{Failure, failure::Doing, keep_alive::Connection};
use tokio::{runtime, sync::Semaphore, task::LocalSet, time::sleep};

use crate::callers::{Callers, Request, percentile};

/// How many come, and how long that is looked at.
pub(crate) struct Arrivals {
    /// Requests a second, at equal distances.
    pub(crate) rate: f64,
    /// On so many connections; who finds none free waits for one.
    pub(crate) connections: usize,
    /// Not looked at.
    pub(crate) warm_up: Duration,
    /// Looked at.
    pub(crate) duration: Duration,
}

/// What became of them, in the time that was looked at.
#[derive(Default)]
pub(crate) struct Answers {
    /// How long those waited that got a certificate, from when they came.
    pub(crate) granted: Vec<Duration>,
    /// How long those waited that got 503.
    pub(crate) refused: Vec<Duration>,
    /// How long it was looked.
    elapsed: Duration,
}

impl Answers {
    /// Certificates a second.
    pub(crate) fn rate(&self) -> f64 {
        self.granted.len() as f64 / self.elapsed.as_secs_f64()
    }

    /// What 99 of 100 certificates did not take longer than.
    pub(crate) fn granted_p99(&self) -> Duration {
        percentile(&self.granted, 0.99)
    }

    /// What 99 of 100 refusals did not take longer than.
    pub(crate) fn refused_p99(&self) -> Duration {
        percentile(&self.refused, 0.99)
    }
}

impl Arrivals {
    /// Lets them come, for single certificates.
    pub(crate) fn come(&self, callers: &Callers) -> Result<Answers, Failure> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.doing("start tokio")?;
        LocalSet::new().block_on(&runtime, self.run(callers))
    }

    async fn run(&self, callers: &Callers) -> Result<Answers, Failure> {
        let open = callers.connect(self.connections).await?;
        let requests = Rc::new(callers.single_requests());
        let begin = Instant::now() + self.warm_up;
        let desk = Rc::new(Desk::new(begin, begin + self.duration));
        let tasks: Vec<_> = open
            .into_iter()
            .map(|connection| {
                tokio::task::spawn_local(serve(connection, requests.clone(), desk.clone()))
            })
            .collect();
        self.arrive(&desk).await;
        for task in tasks {
            // Whoever still waits for an answer came too late to be looked at.
            if task.is_finished() {
                task.await.doing("await a caller")??;
            } else {
                task.abort();
            }
        }
        let mut answers = desk.answers.take();
        answers.granted.sort_unstable();
        answers.refused.sort_unstable();
        Ok(Answers { elapsed: self.duration, ..answers })
    }

    /// Puts each in line when its time has come.
    async fn arrive(&self, desk: &Desk) {
        let start = Instant::now();
        let mut come = 0_u32;
        while Instant::now() < desk.end {
            let due = start + Duration::from_secs_f64(f64::from(come) / self.rate);
            if due > Instant::now() {
                // The timer's resolution is a millisecond: those of one come together.
                sleep(due.saturating_duration_since(Instant::now())).await;
                continue;
            }
            desk.line.borrow_mut().push_back((come, due));
            desk.waiting.add_permits(1);
            come += 1;
            if come.is_multiple_of(YIELD) {
                tokio::task::yield_now().await;
            }
        }
        desk.waiting.close();
    }
}

/// Where those who came wait for a connection.
struct Desk {
    line: RefCell<VecDeque<(u32, Instant)>>,
    waiting: Semaphore,
    answers: RefCell<Answers>,
    begin: Instant,
    end: Instant,
}

impl Desk {
    fn new(begin: Instant, end: Instant) -> Self {
        let (line, answers) = (RefCell::default(), RefCell::default());
        Self { line, waiting: Semaphore::new(0), answers, begin, end }
    }

    /// The next in line; none at the end.
    async fn next(&self) -> Option<(u32, Instant)> {
        self.waiting.acquire().await.ok()?.forget();
        self.line.borrow_mut().pop_front()
    }

    fn count(&self, status: u16, came: Instant) {
        let now = Instant::now();
        if now < self.begin || now > self.end {
            return;
        }
        let mut answers = self.answers.borrow_mut();
        match status {
            UNAVAILABLE => answers.refused.push(now - came),
            _ => answers.granted.push(now - came),
        }
    }
}

async fn serve(
    mut connection: Connection,
    requests: Rc<Vec<Request>>,
    desk: Rc<Desk>,
) -> Result<(), Failure> {
    while let Some((number, came)) = desk.next().await {
        let request = &requests[number as usize % requests.len()];
        let answer = connection.ask(&request.bytes).await?;
        let status = answer.status;
        if status != UNAVAILABLE {
            request.check(&answer.success()?)?;
        }
        desk.count(status, came);
    }
    Ok(())
}

/// The appliance has more to do than it can.
const UNAVAILABLE: u16 = 503;

/// After so many arrivals at a time, others get a turn.
const YIELD: u32 = 64;
