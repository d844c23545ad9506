//! Hosts without an sshd: each has joined with a token, waits on a connection of its own for what
//! was taken back, and says that it has it.

use std::{
    fs,
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::process::{Resource, getrlimit, setrlimit};
use serde_json::{Value, json};
use tokio::{
    runtime,
    sync::{Semaphore, mpsc},
    task::{JoinSet, spawn_blocking},
};

use crate::{
    Doing, Failure,
    https::{Https, Identity},
    keep_alive::{Connection, get, post},
    office::Office,
    openssl,
};

/// Files of this process that are no connections of hosts.
const OTHER_FILES: u64 = 200;

/// So many shake hands at once: what a handshake costs is not what is measured.
const OPENING: usize = 16;

/// Hosts that have joined.
#[derive(Debug)]
pub struct Fleet {
    hosts: Vec<Https>,
}

impl Fleet {
    /// Lets so many hosts join, one after the other. They have one key: keys take long to make, and
    /// nothing here is about them.
    ///
    /// # Errors
    ///
    /// The appliance refuses one.
    pub fn join(office: &Office, count: usize) -> Result<Self, Failure> {
        raise_limit(count as u64 + OTHER_FILES)?;
        let (key, request) = (office.path("fleet.key"), office.path("fleet.csr"));
        openssl::generate("ec:P-256", &key)?;
        openssl::request(&key, "/CN=host", &[], &request)?;
        let csr = fs::read_to_string(&request).doing("read a request")?;
        let joined = block_on(async {
            let mut operator = Connection::to(&office.https(Some(office.operator()))?).await?;
            let mut stranger = Connection::to(&office.https(None)?).await?;
            let mut joined = Vec::with_capacity(count);
            for number in 0..count {
                let name = format!("fleet-{number}.example.test");
                let asked = post("/v1/hosts", &json!({ "name": name }));
                let token = operator.ask(&asked).await?.success()?;
                let token: Value = serde_json::from_slice(&token).doing("read a token")?;
                let asked = post("/v1/join", &json!({ "secret": token["secret"], "csr": csr }));
                let answer = stranger.ask(&asked).await?.success()?;
                joined.push(serde_json::from_slice::<Value>(&answer).doing("read an answer")?);
            }
            Ok(joined)
        })?;
        let hosts = joined.iter().enumerate().map(|(number, joined)| {
            let certificate = office.path(format!("fleet-{number}.pem"));
            let pem = joined["certificate"].as_str().unwrap_or_default();
            fs::write(&certificate, pem).doing("write a certificate")?;
            office.https(Some(&Identity { certificate, key: key.clone() }))
        });
        Ok(Self { hosts: hosts.collect::<Result<_, _>>()? })
    }

    /// Has all hosts wait, makes a change, and gives how long after its beginning each host's
    /// acknowledgement of the next version was answered; sorted.
    ///
    /// # Errors
    ///
    /// The change fails, or the appliance refuses a host.
    pub fn hear_of(
        &self,
        change: impl FnOnce() -> Result<(), Failure> + Send + 'static,
    ) -> Result<Vec<Duration>, Failure> {
        block_on(async {
            let (waits, mut waiting) = mpsc::channel(self.hosts.len().max(1));
            let opening = Arc::new(Semaphore::new(OPENING));
            let mut hosts = JoinSet::new();
            for host in self.hosts.iter().cloned() {
                hosts.spawn(hear(host, opening.clone(), waits.clone()));
            }
            drop(waits);
            for _ in 0..self.hosts.len() {
                // A host that failed says why when it is joined.
                if waiting.recv().await.is_none() {
                    break;
                }
            }
            let from = Instant::now();
            spawn_blocking(change).await.doing("make a change")??;
            let mut took = Vec::with_capacity(self.hosts.len());
            while let Some(heard) = hosts.join_next().await {
                took.push(heard.doing("await a host")??.duration_since(from));
            }
            took.sort_unstable();
            Ok(took)
        })
    }
}

/// Lets this process have so many files open.
///
/// # Errors
///
/// The system does not: the failure says what to raise.
pub fn raise_limit(wanted: u64) -> Result<(), Failure> {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.maximum.is_some_and(|maximum| maximum < wanted) {
        return Err(Failure::new(format!("the limit of open files is {:?}", limit.maximum))
            .hint(format!("raise the hard limit to {wanted}: `ulimit -Hn`")));
    }
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).doing("raise the limit of open files")
}

/// Applies what is there, waits for the next version, acknowledges it.
async fn hear(
    host: Https,
    opening: Arc<Semaphore>,
    waits: mpsc::Sender<()>,
) -> Result<Instant, Failure> {
    let permit = opening.acquire().await.doing("wait for a turn")?;
    let mut connection = Connection::to(&host).await?;
    let first = version(&connection.ask(&get("/v1/revocations")).await?.success()?)?;
    acknowledge(&mut connection, first).await?;
    drop(permit);
    let wait = format!("/v1/revocations?after={first}&wait=60");
    // Whoever asks a moment too late is answered at once.
    let _ = waits.send(()).await;
    let next = version(&connection.ask(&get(&wait)).await?.success()?)?;
    if next <= first {
        return Err(Failure::new(format!("version {next} followed version {first}")));
    }
    acknowledge(&mut connection, next).await?;
    Ok(Instant::now())
}

async fn acknowledge(connection: &mut Connection, version: u64) -> Result<(), Failure> {
    let asked = post("/v1/revocations/acknowledge", &json!({ "version": version }));
    connection.ask(&asked).await?.success().map(drop)
}

/// The version that a bundle states.
fn version(bundle: &[u8]) -> Result<u64, Failure> {
    let bundle: Value = serde_json::from_slice(bundle).doing("read a bundle")?;
    let statement = bundle["statement"].as_str().unwrap_or_default();
    let version = statement.lines().find_map(|line| line.strip_prefix("version "));
    version
        .and_then(|version| version.parse().ok())
        .ok_or_else(|| Failure::new("a bundle without a version").said(statement))
}

fn block_on<T>(doing: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    runtime.doing("start tokio")?.block_on(doing)
}
