//! What the ledger and the signing queue cost alone, on SoftHSM:
//!
//! ```text
//! cargo bench -p chancery-appliance --bench rooms
//! ```
//!
//! Prints a line `figure NAME VALUE UNIT` for each figure. Processor time is that of this process
//! (the front half); the worker's is told apart.

#![expect(clippy::expect_used, clippy::print_stdout, reason = "a measurement ends where it fails")]

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    io::Write as _,
    os::unix::fs::OpenOptionsExt,
    path::Path,
    process::{Command, ExitCode},
    slice,
    sync::Arc,
    time::{Duration, Instant},
};

use appliance::{
    config,
    launcher::{self, Launcher},
    ledger::{Begun, Ledger, NewIntent},
    signing::{Priority, Signing},
    worker,
};
use futures_util::future::join_all;
use jiff::{SignedDuration, Timestamp};
use pki::{
    clock::{Clock, SystemClock},
    keys::KeyAlgorithm,
    seal::{Prepared, Sealed},
    secret::Secret,
    ssh,
    token::{
        Input, IssuingKey, KeyId, KeyRef, KeyStore, SigningKey, Token,
        pkcs11::{Module, TokenIdentity},
        software::SoftwareToken,
    },
};
use tempfile::TempDir;

fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    match arguments.next().as_deref() {
        Some(launcher::SUBCOMMAND) => return launcher::main(),
        Some(worker::SUBCOMMAND) => return worker::main(),
        Some(MAKE_TOKEN) => make_token(Path::new(&arguments.next().expect("a directory"))),
        _ => {
            let runtime = tokio::runtime::Runtime::new().expect("a runtime");
            runtime.block_on(measure_ledger());
            runtime.block_on(measure_signing());
        }
    }
    ExitCode::SUCCESS
}

/// Intent and release of certificates that are prepared and sealed before the clock starts.
async fn measure_ledger() {
    let directory = TempDir::new().expect("a directory");
    let state = directory.path().join("state");
    let ledger = Ledger::open(&state, &directory.path().join("audit"), Arc::new(SystemClock))
        .expect("a ledger");
    let now = SystemClock.now();
    let issuances = prepare(&ledger, now).await;
    let before = ledger.transactions();
    let usage = Usage::start();
    let lanes = issuances.into_iter().map(|lane| {
        let ledger = ledger.clone();
        tokio::spawn(async move {
            for (prepared, sealed) in lane {
                let intent = NewIntent {
                    issuer: "users".to_owned(),
                    caller: "spiffe://example.org/bot/deploy".to_owned(),
                    role: "deploy".to_owned(),
                    session: None,
                    idempotency: None,
                    on_behalf_of: None,
                    account: None,
                    lineage: None,
                    card: None,
                    now,
                };
                let subject = Arc::new(intent.subject(Some(prepared.summary())));
                let begun = ledger.begin(intent, subject, &prepared).await.expect("an intent");
                let Begun::New(intent) = begun else { unreachable!("nothing was begun before") };
                intent.commit(sealed, now).await.expect("a release");
            }
        })
    });
    for lane in join_all(lanes.collect::<Vec<_>>()).await {
        lane.expect("a lane");
    }
    usage.report("ledger", LANES * EACH);
    let transactions = ledger.transactions() - before;
    let share = (2 * LANES * EACH) as f64 / transactions as f64;
    println!("figure ledger_writes_per_transaction {share:.1} writes");
}

async fn prepare(ledger: &Ledger, now: Timestamp) -> Vec<Vec<(Prepared, Sealed)>> {
    let mut token = SoftwareToken::default();
    let [key, subject] = [("issuing/users", 1), ("raw/subject", 2)].map(|(label, id)| {
        let (label, id) = (label.parse().expect("a label"), KeyId::from([id; 8]));
        token.generate(KeyAlgorithm::EcP256, &label, &id).expect("a key").key
    });
    let issuer = ssh::Issuer::new(IssuingKey::new(key).expect("its purpose"), ssh::Usage::User);
    let mut lanes = Vec::new();
    for _ in 0..LANES {
        let mut lane = Vec::new();
        for _ in 0..EACH {
            let template = ssh::Template {
                serial: ledger.ssh_serial("users").await.expect("a serial"),
                public_key: subject.public_key.clone(),
                key_id: "spiffe://example.org/bot/deploy".to_owned(),
                principals: BTreeSet::from(["deploy".parse().expect("a principal")]),
                valid_after: now,
                valid_before: now + SignedDuration::from_hours(1),
                critical_options: ssh::CriticalOptions::default(),
                extensions: BTreeSet::new(),
                restrictions: ssh::Restrictions::default(),
            };
            let prepared = issuer.prepare(template, [7; 32]).expect("a sound text");
            let input = Input::Message(prepared.bytes());
            let signature =
                token.sign(prepared.key().key(), prepared.scheme(), input).expect("a signature");
            let again = issuer.resume(prepared.bytes().to_vec()).expect("a sound text");
            lane.push((again, prepared.seal(signature).expect("it verifies")));
        }
        lanes.push(lane);
    }
    lanes
}

/// Signatures through queue, socket and worker.
async fn measure_signing() {
    let directory = TempDir::new().expect("a directory");
    let (identity, key, settings) = prepare_token(directory.path());
    let (changes, _changes) = tokio::sync::mpsc::channel(16);
    let launchers = vec![Launcher::this_program().expect("a process")];
    let tokens = [(&settings, identity)];
    let signing =
        Signing::start(launchers, tokens, directory.path(), slice::from_ref(&key), changes)
            .await
            .expect("the worker signs");
    let key = SigningKey::from(IssuingKey::new(key).expect("its purpose"));
    let worker = ProcessTime::of_worker();
    let usage = Usage::start();
    let lanes = (0..LANES).map(|_| {
        let (signing, key) = (signing.clone(), key.clone());
        tokio::spawn(async move {
            let (scheme, message) = (key.key().public_key.default_scheme(), [7; 400]);
            for _ in 0..EACH {
                let patience = Duration::from_secs(30);
                let admission = signing.admit("bench", Priority::Bot, patience).await;
                let admission = admission.expect("a place");
                admission.sign(&key, scheme, &message).await.expect("a signature");
            }
        })
    });
    for lane in join_all(lanes.collect::<Vec<_>>()).await {
        lane.expect("a lane");
    }
    usage.report("signing", LANES * EACH);
    let worker = ProcessTime::of_worker().0 - worker.0;
    println!("figure signing_worker_cpu {:.1} µs", per_item(worker, LANES * EACH));
}

fn prepare_token(directory: &Path) -> (TokenIdentity, KeyRef, config::Token) {
    let (tokens, configuration) = (directory.join("tokens"), directory.join("softhsm2.conf"));
    fs::create_dir(&tokens).expect("a directory");
    let text = format!("directories.tokendir = {}\nlog.level = ERROR\n", tokens.display());
    fs::write(&configuration, text).expect("a file");
    // SoftHSM reads SOFTHSM2_CONF once in a process.
    let made = Command::new("/proc/self/exe")
        .args([MAKE_TOKEN.as_ref(), directory.as_os_str()])
        .env("SOFTHSM2_CONF", &configuration)
        .status();
    assert!(made.is_ok_and(|status| status.success()), "is softhsm2 installed?");
    let made = fs::read(directory.join("made.json")).expect("a file");
    let (identity, key): (TokenIdentity, KeyRef) = serde_json::from_slice(&made).expect("a key");
    let pin_file = directory.join("pin");
    let mut options = fs::OpenOptions::new();
    let mut file =
        options.create_new(true).write(true).mode(0o600).open(&pin_file).expect("a file");
    file.write_all(PIN.as_bytes()).expect("a PIN");
    let settings = config::Token {
        serial: None,
        module: MODULE.into(),
        label: identity.label.clone(),
        pin_file,
        sessions: Some(2),
        environment: BTreeMap::from([(
            "SOFTHSM2_CONF".to_owned(),
            configuration.display().to_string(),
        )]),
        keep_alive_seconds: None,
        sandbox: config::Sandbox { writable: vec![tokens], ..config::Sandbox::default() },
    };
    (identity, key, settings)
}

fn make_token(directory: &Path) {
    let module = Module::load(Path::new(MODULE)).expect("softhsm2");
    let pin = Secret::new(PIN.to_owned());
    let identity = module.initialize("bench", &pin, &pin).expect("a token");
    let mut session = module.open(&identity, &pin).expect("a session");
    let (label, id) = ("issuing/users".parse().expect("a label"), KeyId::from([1; 8]));
    let key = session.generate(KeyAlgorithm::EcP256, &label, &id).expect("a key").key;
    let made = serde_json::to_vec(&(identity, key)).expect("JSON");
    fs::write(directory.join("made.json"), made).expect("a file");
}

/// Time of the clock and of the processor.
struct Usage {
    clock: Instant,
    processor: ProcessTime,
}

impl Usage {
    fn start() -> Self {
        Self { clock: Instant::now(), processor: ProcessTime::of_this() }
    }

    fn report(&self, name: &str, items: usize) {
        let rate = items as f64 / self.clock.elapsed().as_secs_f64();
        let processor = ProcessTime::of_this().0 - self.processor.0;
        println!("figure {name}_rate {rate:.0} /s");
        println!("figure {name}_cpu {:.1} µs", per_item(processor, items));
    }
}

/// User and system time of a process so far.
struct ProcessTime(Duration);

impl ProcessTime {
    fn of_this() -> Self {
        Self(read_time(Path::new("/proc/self")))
    }

    /// Of the running token worker: the child of the launcher, which is our child.
    fn of_worker() -> Self {
        let workers = children("self").into_iter().flat_map(|launcher| children(&launcher));
        Self(workers.map(|worker| read_time(&Path::new("/proc").join(worker))).sum())
    }
}

fn children(process: &str) -> Vec<String> {
    let tasks = fs::read_dir(Path::new("/proc").join(process).join("task")).expect("/proc");
    let children = tasks.flat_map(|task| {
        let path = task.expect("a thread").path().join("children");
        let children = fs::read_to_string(path).unwrap_or_default();
        children.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    });
    children.collect()
}

/// Fields 14 and 15 of proc_pid_stat(5), in hundredths of a second.
fn read_time(process: &Path) -> Duration {
    let stat = fs::read_to_string(process.join("stat")).expect("/proc/PID/stat");
    let (_, fields) = stat.rsplit_once(')').expect("a name in brackets");
    let fields = fields.split_whitespace().skip(11).take(2);
    let ticks: u64 = fields.map(|field| field.parse::<u64>().expect("ticks")).sum();
    Duration::from_millis(ticks * 10)
}

fn per_item(time: Duration, items: usize) -> f64 {
    time.as_secs_f64() * 1e6 / items as f64
}

/// Clients that wait for nobody but themselves.
const LANES: usize = 64;

const EACH: usize = 400;

const MAKE_TOKEN: &str = "make-token";

const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";

const PIN: &str = "4711-user";
