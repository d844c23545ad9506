//! Ten thousand bots: what a renewal costs, and all of them at once after an outage.
//!
//! A bot renews as its agent does: a new key, a connection with the certificate that it has, another
//! one with the certificate that it was given, by which that is confirmed. Who is refused for now
//! asks again by the agent's rules. Keys and requests are made beforehand: each bot has a machine of
//! its own for that.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
    thread,
    time::{Duration, Instant},
};

use client::local_key::{LocalKey, LocalKeyError};
use harness::{
    Failure,
    failure::Doing,
    fleet::raise_limit,
    https::Https,
    keep_alive::{Connection, get, post},
    office::{Office, http_get, with_chain},
};
use serde_json::{Value, json};
use tokio::{
    runtime,
    task::{JoinHandle, LocalSet},
    time::{sleep, sleep_until, timeout, timeout_at},
};

use crate::{
    callers::percentile,
    processes::{Processes, of_process},
};

/// Bots that have joined, and their appliance.
pub(crate) struct Bots {
    office: Office,
    bots: Vec<Bot>,
}

/// One of them, with the certificate that it has.
#[derive(Clone)]
struct Bot {
    number: usize,
    generation: u64,
    https: Https,
}

/// Renewals at a rate that the appliance does easily.
pub(crate) struct Steady {
    /// Processor time of appliance and token worker for each.
    pub(crate) cpu: Duration,
    /// From the moment at which one is due to its confirmation; sorted.
    pub(crate) took: Vec<Duration>,
}

/// All at once.
pub(crate) struct Storm {
    /// From the moment at which the appliance is back to each confirmation; sorted.
    pub(crate) took: Vec<Duration>,
    /// What they got instead, before that: how often.
    pub(crate) put_off: BTreeMap<String, u64>,
    /// The most signatures that waited.
    pub(crate) peak_queue: u64,
    /// The most connections.
    pub(crate) peak_connections: u64,
}

impl Storm {
    /// Until the last.
    pub(crate) fn total(&self) -> Duration {
        percentile(&self.took, 1.0)
    }
}

impl Bots {
    /// Adds so many bots, and lets each join by a token.
    pub(crate) fn join(count: usize) -> Result<Self, Failure> {
        raise_limit(count as u64 + OTHER_FILES)?;
        let mut office = Office::open()?;
        // After the outage it is where it was.
        office.keep_port()?;
        office.restart()?;
        let (operator, stranger) = (office.https(Some(office.operator()))?, office.https(None)?);
        let keys = keys(count)?;
        let bots = block_on(async {
            let desk = Rc::new(Desk { operator, stranger, keys, next: Cell::default() });
            let clerks: Vec<_> =
                (0..CLERKS).map(|_| tokio::task::spawn_local(desk.clone().serve())).collect();
            let mut bots = Vec::with_capacity(count);
            for clerk in clerks {
                bots.extend(clerk.await.doing("await a clerk")??);
            }
            Ok(bots)
        })?;
        Ok(Self { office, bots })
    }

    /// Lets the first of them renew, so many a second.
    pub(crate) fn steady(&mut self, rate: u32, count: usize) -> Result<Steady, Failure> {
        let processes = Processes::of_appliance(self.office.appliance()?.id())?;
        let before = processes.cpu()?;
        let outcome = self.renew(count, |number| Duration::from_secs(1) * number / rate)?;
        let cpu = processes.cpu()?.since(&before);
        let each = (cpu.appliance + cpu.workers) / u32::try_from(count).doing("count the bots")?;
        Ok(Steady { cpu: each, took: outcome.took })
    }

    /// Kills the appliance, and lets all of them renew in the moment in which it is back.
    pub(crate) fn storm(&mut self) -> Result<Storm, Failure> {
        self.office.kill();
        self.office.restart()?;
        let public = self.office.public();
        let over = std::sync::atomic::AtomicBool::new(false);
        let count = self.bots.len();
        let (outcome, peaks) = thread::scope(|scope| {
            let watching = scope.spawn(|| {
                let mut peaks = (0, 0);
                while !over.load(std::sync::atomic::Ordering::Relaxed) {
                    let metrics = http_get(public, "/metrics").unwrap_or_default();
                    peaks.0 = peaks.0.max(gauge(&metrics, "chancery_signing_waiting"));
                    peaks.1 = peaks.1.max(gauge(&metrics, "chancery_connections"));
                    thread::sleep(LOOK);
                }
                peaks
            });
            let outcome = self.renew(count, |_| Duration::ZERO);
            over.store(true, std::sync::atomic::Ordering::Relaxed);
            let peaks = watching.join().map_err(|_| Failure::new("whoever watches panicked"))?;
            Ok::<_, Failure>((outcome?, peaks))
        })?;
        self.nobody_is_lost()?;
        let (peak_queue, peak_connections) = peaks;
        let Outcome { took, put_off } = outcome;
        Ok(Storm { took, put_off, peak_queue, peak_connections })
    }

    /// Lets the first `count` renew, each when it is due.
    fn renew(&mut self, count: usize, due: impl Fn(u32) -> Duration) -> Result<Outcome, Failure> {
        let keys = keys(count)?;
        let mut outcome = block_on(async {
            let tally = Rc::new(Tally::default());
            let start = Instant::now();
            let agents: Vec<JoinHandle<Result<Bot, Failure>>> = (0..)
                .zip(self.bots.iter().zip(keys))
                .map(|(number, (bot, key))| {
                    let agent = Agent { bot: bot.clone(), tally: tally.clone(), failures: 0 };
                    tokio::task::spawn_local(agent.renew(key, start + due(number)))
                })
                .collect();
            let until = start + ENOUGH;
            for (agent, bot) in agents.into_iter().zip(&mut self.bots) {
                let renewed = timeout_at(until.into(), agent).await;
                let renewed = renewed.map_err(|_| {
                    let done = tally.took.borrow().len();
                    Failure::new(format!("{done} of {count} have renewed after {ENOUGH:?}"))
                });
                *bot = renewed?.doing("await an agent")??;
            }
            Ok(Outcome { took: tally.took.take(), put_off: tally.put_off.take() })
        })?;
        outcome.took.sort_unstable();
        Ok(outcome)
    }

    /// Each has the generation that it should, and one instance; nothing is locked.
    fn nobody_is_lost(&self) -> Result<(), Failure> {
        let operator = self.office.https(Some(self.office.operator()))?;
        let locks = operator.get("/v1/locks")?.expect_status(200)?.json()?;
        if locks["locks"].as_array().is_none_or(|locks| !locks.is_empty()) {
            return Err(Failure::new("a bot was locked").said(locks.to_string()));
        }
        let listed = operator.get("/v1/bots")?.expect_status(200)?.json()?;
        let listed = listed["bots"].as_array().map(Vec::as_slice).unwrap_or_default();
        let standing: BTreeMap<_, _> =
            listed.iter().map(|bot| (bot["name"].as_str().unwrap_or_default(), bot)).collect();
        for bot in &self.bots {
            let instances = &standing.get(&*name(bot.number)).unwrap_or(&&Value::Null)["instances"];
            let good = instances.as_array().is_some_and(|all| all.len() == 1)
                && instances[0]["state"] == "live"
                && instances[0]["generation"] == bot.generation;
            if !good {
                let what = format!("{} was lost in the storm", name(bot.number));
                return Err(Failure::new(what).said(instances.to_string()));
            }
        }
        Ok(())
    }
}

/// The agent of a bot that has what it needs.
pub(crate) struct AtRest {
    // The agent ends before the directory that it works in goes.
    bot: harness::bot::Bot,
    _office: Office,
    since: Instant,
    cpu: Duration,
}

/// What an agent takes while it waits.
pub(crate) struct Rest {
    /// Resident memory in bytes.
    pub(crate) resident: u64,
    /// The share of one processor.
    pub(crate) busy: f64,
}

impl AtRest {
    /// Starts an agent, and looks at it from when it has done what is done at once.
    pub(crate) fn begin() -> Result<Self, Failure> {
        let office = Office::open()?;
        let mut bot = harness::bot::Bot::add(&office, "rest", &["--role", "login"], OUTPUT)?;
        bot.start()?;
        bot.wait_for_file("ssh/current/key-cert.pub", true)?;
        let (_, cpu) = of_process(bot.agent()?.id())?;
        Ok(Self { bot, _office: office, since: Instant::now(), cpu })
    }

    /// What it took until now, and for so long at least.
    pub(crate) fn end(mut self, least: Duration) -> Result<Rest, Failure> {
        thread::sleep(least.saturating_sub(self.since.elapsed()));
        let (resident, cpu) = of_process(self.bot.agent()?.id())?;
        let busy = (cpu - self.cpu).as_secs_f64() / self.since.elapsed().as_secs_f64();
        Ok(Rest { resident, busy })
    }
}

/// A key, and a request for its certificate.
struct Key {
    private: String,
    csr: String,
}

fn keys(count: usize) -> Result<Vec<Key>, Failure> {
    let key = || {
        let key = LocalKey::generate()?;
        let private = key.private_pem()?.to_string();
        Ok::<_, LocalKeyError>(Key { private, csr: key.signing_request()? })
    };
    (0..count).map(|_| key().doing("make a key")).collect()
}

/// Where bots are added and join.
struct Desk {
    operator: Https,
    stranger: Https,
    keys: Vec<Key>,
    next: Cell<usize>,
}

impl Desk {
    /// Adds one bot after the other, and lets it join.
    async fn serve(self: Rc<Self>) -> Result<Vec<Bot>, Failure> {
        let mut operator = Connection::to(&self.operator).await?;
        let mut stranger = Connection::to(&self.stranger).await?;
        let mut bots = Vec::new();
        loop {
            let number = self.next.get();
            let Some(key) = self.keys.get(number) else { return Ok(bots) };
            self.next.set(number + 1);
            let name = name(number);
            let spec = json!({ "name": name, "roles": ["login"], "join": { "method": "token" } });
            operator.ask(&post("/v1/bots", &spec)).await?.success()?;
            let path = format!("/v1/bots/{name}/token");
            let token = json(&operator.ask(&post(&path, &json!({}))).await?.success()?)?;
            let proof = json!({ "method": "token", "secret": token["secret"] });
            let join = json!({ "name": name, "csr": key.csr, "proof": proof });
            let joined = json(&stranger.ask(&post("/v1/join/bot", &join)).await?.success()?)?;
            let https = self.stranger.showing(&with_chain(&joined), &key.private)?;
            bots.push(Bot { number, generation: generation(&joined), https });
        }
    }
}

/// What became of renewals.
struct Outcome {
    took: Vec<Duration>,
    put_off: BTreeMap<String, u64>,
}

#[derive(Default)]
struct Tally {
    took: RefCell<Vec<Duration>>,
    put_off: RefCell<BTreeMap<String, u64>>,
}

/// What a bot does.
struct Agent {
    bot: Bot,
    tally: Rc<Tally>,
    /// One after the other, so far.
    failures: u32,
}

impl Agent {
    async fn renew(mut self, key: Key, due: Instant) -> Result<Bot, Failure> {
        sleep_until(due.into()).await;
        let request = post("/v1/bot/renew", &json!({ "csr": key.csr }));
        let renewed = self.ask(&request).await?;
        self.bot.https = self.bot.https.showing(&with_chain(&renewed), &key.private)?;
        let confirmed = self.ask(&get("/v1/bot")).await?;
        let generation = generation(&confirmed);
        if generation != self.bot.generation + 1 {
            let what = format!("generation {generation} followed {}", self.bot.generation);
            return Err(Failure::new(what));
        }
        self.bot.generation = generation;
        self.tally.took.borrow_mut().push(due.elapsed());
        Ok(self.bot)
    }

    /// Asks until there is an answer; a refusal for good is a failure.
    async fn ask(&mut self, request: &[u8]) -> Result<Value, Failure> {
        loop {
            let (why, pause) = match self.attempt(request).await {
                Ok((200..300, body)) => {
                    self.failures = 0;
                    return json(&body);
                }
                Ok((status @ (429 | 500..), body)) => {
                    let after = json(&body).ok().and_then(|it| it["retry_after"].as_u64());
                    (status.to_string(), Duration::from_secs(after.unwrap_or_default()))
                }
                Ok((status, body)) => {
                    let what = format!("{} was answered {status}", name(self.bot.number));
                    return Err(Failure::new(what).said(String::from_utf8_lossy(&body)));
                }
                Err(_) => ("no answer".to_owned(), Duration::ZERO),
            };
            *self.tally.put_off.borrow_mut().entry(why).or_default() += 1;
            self.failures += 1;
            sleep(self.pause().max(pause)).await;
        }
    }

    /// One request on a connection of its own.
    async fn attempt(&self, request: &[u8]) -> Result<(u16, Vec<u8>), Failure> {
        let ask = async {
            let answer = Connection::to(&self.bot.https).await?.ask(request).await?;
            Ok((answer.status, answer.body))
        };
        timeout(PATIENCE, ask).await.doing("wait for an answer")?
    }

    /// 1 s, 2 s, 4 s … 60 s, less up to a half of it. By the golden ratio, they are spread as evenly
    /// as chance would spread them at best.
    fn pause(&self) -> Duration {
        let longest = (1_u32 << (self.failures - 1).min(6)).min(60);
        let place =
            (self.bot.number as f64 * 0.618_034 + f64::from(self.failures) * 0.414_214).fract();
        Duration::from_secs(longest.into()).mul_f64(1.0 - place / 2.0)
    }
}

fn name(number: usize) -> String {
    format!("bot-{number}")
}

fn generation(answer: &Value) -> u64 {
    answer["generation"].as_u64().unwrap_or_default()
}

fn json(body: &[u8]) -> Result<Value, Failure> {
    serde_json::from_slice(body).doing("read an answer")
}

/// The sum of a gauge's values.
fn gauge(metrics: &str, name: &str) -> u64 {
    let values = metrics.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let value = match rest.as_bytes().first()? {
            b' ' => rest,
            b'{' => rest.rsplit_once('}')?.1,
            _ => return None,
        };
        value.trim().parse::<f64>().ok()
    });
    values.sum::<f64>() as u64
}

/// One thread does it all: threads of its own would take processor time from the appliance.
fn block_on<T>(doing: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    LocalSet::new().block_on(&runtime.doing("start tokio")?, doing)
}

/// Files of this process that are no connections of bots.
const OTHER_FILES: u64 = 200;

/// So many let bots join at the same time.
const CLERKS: usize = 64;

/// What the agent has that is looked at.
const OUTPUT: &str = "[[output]]\nname = \"ssh\"\nkind = \"ssh\"\nrole = \"login\"\n\
                      hosts = [\"*\"]\n\
                      directory = \"{at}/ssh\"\n";

/// How often the appliance is asked how it is.
const LOOK: Duration = Duration::from_millis(100);

/// Who has not renewed by then is lost.
const ENOUGH: Duration = Duration::from_secs(120);

/// How long an agent waits for an answer.
const PATIENCE: Duration = Duration::from_secs(30);
