//! Callers that ask for SSH user certificates as fast as they are answered.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::{Duration, Instant},
};

use harness::{
    Failure,
    failure::Doing,
    https::{Https, Identity},
    keep_alive::Connection,
    office::Office,
};
use pki::{
    keys::KeyAlgorithm,
    token::{KeyId, KeyLabel, KeyStore, Purpose, software::SoftwareToken},
};
use serde_json::{Value, json};
use tokio::{runtime, task::LocalSet};
use tokio_rustls::TlsConnector;

use crate::ROLE;

/// Callers of one appliance.
pub(crate) struct Callers {
    /// One for each identity that they have in turn.
    https: Vec<Https>,
    public_keys: Vec<String>,
}

/// How the certificates are asked for.
#[derive(Clone, Copy)]
pub(crate) enum Work {
    /// One request, one certificate.
    Single { connections: usize },
    /// Requests of many lines.
    Batch { connections: usize, items: usize },
}

/// What was answered.
pub(crate) struct Load {
    /// How many certificates.
    pub(crate) certificates: usize,
    /// In which time.
    pub(crate) elapsed: Duration,
    /// From the first answer to the last.
    pub(crate) span: Duration,
    /// How long each request took, sorted.
    pub(crate) latencies: Vec<Duration>,
}

impl Load {
    /// Certificates a second.
    pub(crate) fn rate(&self) -> f64 {
        self.certificates as f64 / self.elapsed.as_secs_f64()
    }

    /// Certificates a second, one by one, between the first answer and the last: of a token that
    /// is kept busy, this is its rate, however few they are.
    pub(crate) fn steady_rate(&self) -> f64 {
        self.certificates.saturating_sub(1) as f64 / self.span.as_secs_f64()
    }

    /// The latency that `share` of the requests did not exceed.
    pub(crate) fn percentile(&self, share: f64) -> Duration {
        percentile(&self.latencies, share)
    }
}

/// What `share` of the values, which are sorted, do not exceed.
pub(crate) fn percentile(sorted: &[Duration], share: f64) -> Duration {
    let last = sorted.len().saturating_sub(1);
    let index = (last as f64 * share).round() as usize;
    sorted.get(index).copied().unwrap_or_default()
}

impl Callers {
    /// Callers with these identities; asks for one certificate first, and has ssh-keygen read it.
    pub(crate) fn new(office: &Office, identities: &[Identity]) -> Result<Self, Failure> {
        let https = identities.iter().map(|identity| office.https(Some(identity)));
        let https = https.collect::<Result<_, _>>()?;
        let callers = Self { https, public_keys: public_keys(KEYS)? };
        let body = callers.body(0);
        let identity = identities.first().ok_or_else(|| Failure::new("nobody calls"))?;
        let issued = office.ask(identity, PATH_SINGLE, &body)?;
        let path = office.path("measured-cert.pub");
        std::fs::write(&path, issued["certificate"].as_str().unwrap_or_default())
            .doing("write a certificate")?;
        let mut command = std::process::Command::new(harness::peers::peer("ssh-keygen")?);
        harness::process::run(command.arg("-Lf").arg(&path))?.success()?;
        Ok(callers)
    }

    /// One caller that waits for each answer: the latency without load.
    pub(crate) fn alone(&self, duration: Duration) -> Result<Load, Failure> {
        self.load(Work::Single { connections: 1 }, duration)
    }

    /// Loads the appliance for so long. One thread does it all: threads of its own would take
    /// processor time from the appliance for switching between them.
    pub(crate) fn load(&self, work: Work, duration: Duration) -> Result<Load, Failure> {
        let runtime =
            runtime::Builder::new_current_thread().enable_all().build().doing("start tokio")?;
        LocalSet::new().block_on(&runtime, self.run(work, duration))
    }

    async fn run(&self, work: Work, duration: Duration) -> Result<Load, Failure> {
        let (connections, requests) = match work {
            Work::Single { connections } => (connections, self.single_requests()),
            Work::Batch { connections, items } => (connections, self.batch_requests(items)),
        };
        let open = self.connect(connections).await?;
        let requests = Rc::new(requests);
        let tally = Rc::new(Tally::default());
        let start = Instant::now();
        let tasks = open.into_iter().map(|connection| {
            let (requests, tally) = (requests.clone(), tally.clone());
            tokio::task::spawn_local(call(connection, requests, tally, start + duration))
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.doing("await a caller")??;
        }
        let mut latencies = tally.latencies.take();
        latencies.sort_unstable();
        let (certificates, elapsed) = (tally.certificates.get(), start.elapsed());
        let span = tally.span.get().map_or(Duration::ZERO, |(first, last)| last - first);
        Ok(Load { certificates, elapsed, span, latencies })
    }

    /// Opens so many connections, those of each identity in turn.
    pub(crate) async fn connect(&self, connections: usize) -> Result<Vec<Connection>, Failure> {
        let mut open = Vec::new();
        for https in self.https.iter().cycle().take(connections) {
            let connector = TlsConnector::from(https.configuration());
            open.push(Connection::open(&connector, https.address(), https.name()).await?);
        }
        Ok(open)
    }

    /// Requests for one certificate each.
    pub(crate) fn single_requests(&self) -> Vec<Request> {
        (0..self.public_keys.len())
            .map(|index| Request {
                bytes: post(PATH_SINGLE, "application/json", &self.body(index).to_string()),
                certificates: 1,
            })
            .collect()
    }

    fn batch_requests(&self, items: usize) -> Vec<Request> {
        let line = |index: usize| {
            let mut request = self.body(index % self.public_keys.len());
            request["operation"] = "ssh_user".into();
            format!("{}\n", json!({ "request": request }))
        };
        let lines = (0..items).map(line).collect::<String>();
        vec![Request {
            bytes: post(PATH_BATCH, "application/x-ndjson", &lines),
            certificates: items,
        }]
    }

    /// What is asked for.
    pub(crate) fn body(&self, index: usize) -> Value {
        json!({ "role": ROLE, "public_key": self.public_keys[index] })
    }
}

/// A whole HTTP request, ready to be sent.
pub(crate) struct Request {
    pub(crate) bytes: Vec<u8>,
    certificates: usize,
}

impl Request {
    /// Whether this is all that was asked for.
    pub(crate) fn check(&self, answer: &[u8]) -> Result<(), Failure> {
        let issued = count(answer, b"-cert-v01@openssh.com ");
        if issued == self.certificates {
            return Ok(());
        }
        let what = format!("{issued} certificates instead of {}", self.certificates);
        Err(Failure::new(what).said(String::from_utf8_lossy(answer)))
    }
}

/// What all callers of a load add to.
#[derive(Default)]
struct Tally {
    certificates: Cell<usize>,
    latencies: RefCell<Vec<Duration>>,
    next: Cell<usize>,
    /// The first answer and the last.
    span: Cell<Option<(Instant, Instant)>>,
}

async fn call(
    mut connection: Connection,
    requests: Rc<Vec<Request>>,
    tally: Rc<Tally>,
    deadline: Instant,
) -> Result<(), Failure> {
    loop {
        let start = Instant::now();
        if start >= deadline {
            return Ok(());
        }
        let number = tally.next.replace(tally.next.get() + 1);
        let request = &requests[number % requests.len()];
        request.check(&connection.ask(&request.bytes).await?.success()?)?;
        let now = Instant::now();
        let first = tally.span.get().map_or(now, |(first, _)| first);
        tally.span.set(Some((first, now)));
        tally.certificates.set(tally.certificates.get() + request.certificates);
        tally.latencies.borrow_mut().push(now - start);
    }
}

/// How often `wanted` stands in `text`: cheaper than reading the answers, and a refusal has none.
fn count(text: &[u8], wanted: &[u8]) -> usize {
    let mut rest = text;
    let mut count = 0;
    while let Some(at) = rest.iter().position(|byte| *byte == wanted[0]) {
        rest = &rest[at..];
        let found = rest.starts_with(wanted);
        count += usize::from(found);
        rest = &rest[if found { wanted.len() } else { 1 }..];
    }
    count
}

fn post(path: &str, content_type: &str, body: &str) -> Vec<u8> {
    format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: {content_type}\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Keys of users, of the kind that ssh-keygen makes today.
fn public_keys(number: u16) -> Result<Vec<String>, Failure> {
    let mut token = SoftwareToken::default();
    (0..number)
        .map(|index| {
            let label =
                KeyLabel::new(Purpose::Raw, &format!("user-{index}")).doing("name a key")?;
            let id = KeyId::new(&index.to_be_bytes()).doing("name a key")?;
            let generated =
                token.generate(KeyAlgorithm::Ed25519, &label, &id).doing("make a key")?;
            Ok(generated.key.public_key.to_openssh())
        })
        .collect()
}

const KEYS: u16 = 256;
const PATH_BATCH: &str = "/v1/batch";
const PATH_SINGLE: &str = "/v1/issue/ssh-user";
