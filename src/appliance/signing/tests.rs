//! The queue and the worker on a real SoftHSM, under the faults that they are made for.
//!
//! The worker is this test program, started again with `worker_process` as its only test.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
};

use futures_util::future::join_all;
use pki::{
    keys::KeyAlgorithm,
    secret::Secret,
    token::{IssuingKey, KeyId, KeyStore, pkcs11::Module},
};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::time::sleep;

use super::{queue::CAPACITY, *};
use crate::{
    launcher,
    worker::{self, login::LoginFile},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_signatures_in_flight_survive_a_worker_that_is_killed_again_and_again() {
    let token = SoftHsm::new();
    let signing = token.start().await.unwrap();
    let enough = Arc::new(AtomicBool::new(false));
    let all = join_all((0..1_000_u32).map(|number| {
        let (signing, key, enough) = (signing.clone(), token.key.clone(), Arc::clone(&enough));
        tokio::spawn(async move {
            while !enough.load(Ordering::Relaxed) {
                sign_and_verify(&signing, &key, number).await.unwrap();
            }
        })
    }));
    let kill = async {
        for _ in 0..3 {
            let worker = token.worker().await;
            kill_process(worker, Signal::KILL).unwrap();
            token.gone(worker).await;
            in_time(|| signing.signs().then_some(())).await;
        }
        enough.store(true, Ordering::Relaxed);
    };
    let (outcomes, ()) = tokio::join!(all, kill);
    for outcome in outcomes {
        outcome.unwrap();
    }
    sign_and_verify(&signing, &token.key, 1_000).await.unwrap();
}

#[tokio::test]
async fn a_hung_worker_is_replaced_and_jobs_wait_no_longer_than_they_may() {
    let token = SoftHsm::new();
    let signing = token.start().await.unwrap();
    let hung = token.worker().await;
    kill_process(hung, Signal::STOP).unwrap();
    let patient = sign_and_verify(&signing, &token.key, 1);
    let others = async {
        let late = sign(&signing, &token.key, "client", Duration::from_millis(50)).await;
        assert!(matches!(late, Err(SigningError::Busy { .. })), "{late:?}");
        // Of more than a client may have, the rest is refused at once; all others in their time.
        let patience = Duration::from_millis(500);
        let many = (0..CAPACITY).map(|_| sign(&signing, &token.key, "greedy", patience));
        let started = Instant::now();
        let outcomes = join_all(many).await;
        assert!(outcomes.iter().all(Result::is_err));
        assert!(started.elapsed() < Duration::from_secs(3));
        assert_eq!(signing.admitted(), 1, "the patient one's");
    };
    let (patient, ()) = tokio::join!(patient, others);
    patient.unwrap();
    assert_ne!(token.worker().await, hung);
}

#[tokio::test]
async fn a_distrusted_worker_is_replaced_and_each_change_is_told() {
    let token = SoftHsm::new();
    let (sender, mut changes) = mpsc::channel(16);
    let signing = Signing::start_with(vec![token.launch()], sender).await.unwrap();
    let liar = token.worker().await;
    signing.admit("client", Priority::Person, DEADLINE).await.unwrap().distrust(0);
    token.gone(liar).await;
    sign_and_verify(&signing, &token.key, 1).await.unwrap();
    let remark = signing.states().find_map(|(name, state)| state.remark(name)).unwrap();
    assert!(remark.contains("degraded: its worker was replaced: it made a sig"), "{remark}");
    // A file for a module that is no more: no worker can be started.
    let missing = token.directory.path().join("softhsm2.conf");
    fs::remove_file(&missing).unwrap();
    kill_process(token.worker().await, Signal::KILL).unwrap();
    in_time(|| matches!(&*state(&signing), State::Down(_)).then_some(())).await;
    let late = sign(&signing, &token.key, "client", Duration::from_millis(50)).await;
    assert!(matches!(late, Err(SigningError::Down(_))), "{late:?}");
    drop(signing);
    let mut told = Vec::new();
    while let Some(Change { token, before, after }) = changes.recv().await {
        assert_eq!(token, "tests");
        told.push((before.name(), after.name()));
    }
    let wanted = [
        ("starting", "up"),
        ("up", "recovering"),
        ("recovering", "degraded"),
        ("degraded", "recovering"),
        ("recovering", "down"),
    ];
    assert_eq!(told, wanted);
}

#[tokio::test]
async fn a_refused_pin_is_the_end_until_a_person_acts() {
    let token = SoftHsm::new();
    let signing = token.start().await.unwrap();
    token.write_pin("wrong-pin");
    kill_process(token.worker().await, Signal::KILL).unwrap();
    let refused = sign_and_verify(&signing, &token.key, 1).await;
    assert!(matches!(refused, Err(SigningError::Token(TokenError::Pin { .. }))), "{refused:?}");
    // The right PIN comes too late: nothing tries it.
    token.write_pin(PIN);
    let refused = sign_and_verify(&signing, &token.key, 2).await;
    assert!(matches!(refused, Err(SigningError::Token(TokenError::Pin { .. }))), "{refused:?}");
    assert!(matches!(&*state(&signing), State::PinBlocked(reason) if reason.contains("PIN")));
    // Nor does another appliance, until what was remembered is forgotten.
    let started = token.start().await.err();
    assert!(matches!(started, Some(SigningError::Token(TokenError::Pin { .. }))), "{started:?}");
    let forgotten = LoginFile::of(token.directory.path(), None).forget().unwrap().unwrap();
    assert!(forgotten.contains("CKR_PIN_INCORRECT"), "{forgotten}");
    token.start().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_tokens_with_the_same_key_stand_in_for_each_other_without_a_lost_request() {
    let first = SoftHsm::new();
    let second = first.copy();
    let launches = vec![first.launch(), second.launch()];
    let signing = Signing::start_with(launches, mpsc::channel(64).0).await.unwrap();
    let made = |count: u32| {
        let (signing, key) = (signing.clone(), first.key.clone());
        async move {
            let signatures = (0..count).map(|number| {
                let (signing, key) = (signing.clone(), key.clone());
                tokio::spawn(async move { sign_and_verify(&signing, &key, number).await })
            });
            let mut tokens = [0; 2];
            for outcome in join_all(signatures).await {
                tokens[outcome.unwrap().unwrap()] += 1;
            }
            tokens
        }
    };
    let shares = made(2_000).await;
    assert!(shares.iter().all(|share| *share > 0), "both sign: {shares:?}");
    for (broken, other) in [(&first, 1), (&second, 0)] {
        // Without its configuration, no worker of this token can be started.
        let (there, away) = (broken.configuration(), broken.directory.path().join("away"));
        let kill = async {
            fs::rename(&there, &away).unwrap();
            kill_process(broken.worker().await, Signal::KILL).unwrap();
        };
        tokio::join!(made(2_000), kill);
        in_time(|| states(&signing).contains(&"down").then_some(())).await;
        assert!(signing.signs());
        assert_eq!(made(100).await[other], 100);
        fs::rename(&away, &there).unwrap();
        in_time(|| (!states(&signing).contains(&"down")).then_some(())).await;
    }
    let shares = made(2_000).await;
    assert!(shares.iter().all(|share| *share > 0), "both sign again: {shares:?}");
}

#[tokio::test]
async fn a_replica_whose_pin_is_refused_keeps_no_other_from_signing() {
    let first = SoftHsm::new();
    let second = first.copy();
    second.write_pin("wrong-pin");
    let launches = vec![first.launch(), second.launch()];
    let signing = Signing::start_with(launches, mpsc::channel(64).0).await.unwrap();
    assert_eq!(states(&signing), ["up", "pin-blocked"]);
    for number in 0..10 {
        assert_eq!(sign_and_verify(&signing, &first.key, number).await.unwrap(), 0);
    }
}

#[tokio::test]
async fn a_key_that_is_not_there_is_said_at_the_start() {
    let token = SoftHsm::new();
    let mut launch = token.launch();
    launch.settings.keys[0].id = KeyId::new(&[9; 8]).unwrap();
    let missing = Signing::start_with(vec![launch], mpsc::channel(1).0).await.err();
    let Some(SigningError::Token(TokenError::KeyMissing { label, .. })) = missing else {
        panic!("{missing:?}")
    };
    assert_eq!(label, token.key.key().label);
}

#[tokio::test]
async fn a_digest_of_another_length_harms_nobody() {
    let token = SoftHsm::new();
    let signing = token.start().await.unwrap();
    let worker = token.worker().await;
    let scheme = SignatureScheme::EcdsaP256Sha256;
    let admission = signing.admit("client", Priority::Bot, DEADLINE).await.unwrap();
    let bad = admission.sign_digest(&token.raw, scheme, &[7; 48]).await;
    assert!(
        matches!(bad, Err(SigningError::Token(TokenError::InputLength { got: 48, .. }))),
        "{bad:?}"
    );
    let good = admission.sign_digest(&token.raw, scheme, &[7; 32]).await.unwrap();
    token.raw.key().public_key.verify_digest(scheme, &[7; 32], &good.signature).unwrap();
    drop(admission);
    assert_eq!(token.worker().await, worker);
}

#[tokio::test]
async fn the_worker_ends_when_nobody_can_ask_any_more() {
    let token = SoftHsm::new();
    let signing = token.start().await.unwrap();
    let worker = token.worker().await;
    drop(signing);
    token.gone(worker).await;
}

/// The worker's side of the tests above.
#[test]
#[ignore = "a part of other tests, which start it"]
fn worker_process() {
    let _ = worker::main();
}

/// The launcher of those workers.
#[test]
#[ignore = "a part of other tests, which start it"]
fn launcher_process() {
    let _ = launcher::main();
}

/// Makes a token and its keys: in a process of its own, since SoftHSM reads SOFTHSM2_CONF once.
#[test]
#[ignore = "a part of other tests, which start it"]
fn make_token() {
    let mut directory = String::new();
    io::stdin().read_line(&mut directory).unwrap();
    let module = Module::load(Path::new(MODULE)).unwrap();
    let pin = Secret::new(PIN.to_owned());
    let identity = module.initialize("tests", &pin, &pin).unwrap();
    let mut session = module.open(&identity, &pin).unwrap();
    let keys = [("issuing/users", 1), ("raw/digests", 2)].map(|(label, id)| {
        let id = KeyId::new(&[id; 8]).unwrap();
        session.generate(KeyAlgorithm::EcP256, &label.parse().unwrap(), &id).unwrap().key
    });
    let made = serde_json::to_vec(&(identity, keys)).unwrap();
    fs::write(Path::new(directory.trim()).join("made.json"), made).unwrap();
}

/// A token with two keys, in a directory of its own.
struct SoftHsm {
    directory: TempDir,
    identity: TokenIdentity,
    key: IssuingKey,
    raw: RawKey,
}

impl SoftHsm {
    fn new() -> Self {
        assert!(Path::new(MODULE).exists(), "{MODULE} is missing: install the package softhsm2");
        let directory = TempDir::new().unwrap();
        let tokens = directory.path().join("tokens");
        fs::create_dir(&tokens).unwrap();
        let configuration = configure(directory.path());
        let mut child = Command::new("/proc/self/exe")
            .args(["--exact", "--ignored", "signing::tests::make_token"])
            .env("SOFTHSM2_CONF", &configuration)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        writeln!(child.stdin.take().unwrap(), "{}", directory.path().display()).unwrap();
        assert!(child.wait().unwrap().success());
        let made = fs::read(directory.path().join("made.json")).unwrap();
        let (identity, [key, raw]): (_, [KeyRef; 2]) = serde_json::from_slice(&made).unwrap();
        let (key, raw) = (IssuingKey::new(key).unwrap(), RawKey::new(raw).unwrap());
        let token = Self { directory, identity, key, raw };
        token.write_pin(PIN);
        token
    }

    /// Another token with the same keys. SoftHSM keeps a token in files, so that its copy is one.
    fn copy(&self) -> Self {
        let directory = TempDir::new().unwrap();
        let copied = Command::new("cp")
            .args(["-r", "tokens"])
            .arg(directory.path())
            .current_dir(self.directory.path())
            .status();
        assert!(copied.unwrap().success());
        let (identity, key, raw) = (self.identity.clone(), self.key.clone(), self.raw.clone());
        let token = Self { directory, identity, key, raw };
        configure(token.directory.path());
        token.write_pin(PIN);
        token
    }

    fn configuration(&self) -> PathBuf {
        self.directory.path().join("softhsm2.conf")
    }

    fn write_pin(&self, pin: &str) {
        fs::write(self.pin_file(), pin).unwrap();
        fs::set_permissions(self.pin_file(), fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn pin_file(&self) -> PathBuf {
        self.directory.path().join("pin")
    }

    async fn start(&self) -> Result<Signing, SigningError> {
        Signing::start_with(vec![self.launch()], mpsc::channel(1).0).await
    }

    fn launch(&self) -> Launch {
        let configuration = self.configuration().display().to_string();
        let test = ["--exact", "--ignored", "--nocapture", "signing::tests::worker_process"];
        // A second name of a test, of which there is none: tells this token's worker from others.
        let mark = self.mark();
        let launcher = ["--exact", "--ignored", "--nocapture", "signing::tests::launcher_process"];
        Launch::new(
            Launcher::start(Path::new("/proc/self/exe"), &launcher).unwrap(),
            "/proc/self/exe".into(),
            test.into_iter().map(str::to_owned).chain([mark]).collect(),
            Settings {
                module: MODULE.into(),
                identity: self.identity.clone(),
                pin_file: self.pin_file(),
                pin_accepted: false,
                state_directory: self.directory.path().to_owned(),
                replica: None,
                sessions: 2,
                keep_alive_seconds: None,
                keys: vec![self.key.key().clone(), self.raw.key().clone()],
                environment: BTreeMap::from([("SOFTHSM2_CONF".to_owned(), configuration)]),
                sandbox: config::Sandbox {
                    writable: vec![self.directory.path().join("tokens")],
                    ..config::Sandbox::default()
                },
                probe: None,
            },
        )
    }

    fn mark(&self) -> String {
        self.directory.path().display().to_string()
    }

    /// The worker of this token that runs now, or will within 5 s.
    async fn worker(&self) -> Pid {
        in_time(|| self.workers().first().copied()).await
    }

    async fn gone(&self, worker: Pid) {
        in_time(|| (!self.workers().contains(&worker)).then_some(())).await;
    }

    fn workers(&self) -> Vec<Pid> {
        let is_worker = |process: &Path| {
            // A zombie has no command line.
            fs::read_to_string(process.join("cmdline"))
                .is_ok_and(|line| line.split('\0').any(|argument| argument == self.mark()))
        };
        let processes = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
        let workers = processes.filter(|process| is_worker(process));
        let names = workers.map(|path| path.file_name().unwrap().to_str().unwrap().parse());
        names.filter_map(|name| Pid::from_raw(name.unwrap())).collect()
    }
}

async fn in_time<T>(probe: impl Fn() -> Option<T>) -> T {
    let poll = async {
        loop {
            if let Some(found) = probe() {
                return found;
            }
            sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(DEADLINE, poll).await.expect("it came to that in time")
}

/// Writes SoftHSM's configuration for the tokens of a directory.
fn configure(directory: &Path) -> PathBuf {
    let (tokens, configuration) = (directory.join("tokens"), directory.join("softhsm2.conf"));
    let text = format!("directories.tokendir = {}\nlog.level = ERROR\n", tokens.display());
    fs::write(&configuration, text).unwrap();
    configuration
}

/// Returns which token has signed.
async fn sign_and_verify(
    signing: &Signing,
    key: &IssuingKey,
    number: u32,
) -> Result<usize, SigningError> {
    let (message, scheme) = (number.to_be_bytes(), key.key().public_key.default_scheme());
    let client = format!("client {}", number % 100);
    let admission = signing.admit(&client, Priority::Person, DEADLINE).await?;
    let made = admission.sign(&key.clone().into(), scheme, &message).await?;
    key.key()
        .public_key
        .verify(scheme, &message, &made.signature)
        .expect("the signature of the message");
    Ok(made.token)
}

async fn sign(
    signing: &Signing,
    key: &IssuingKey,
    client: &str,
    patience: Duration,
) -> Result<Made, SigningError> {
    let admission = signing.admit(client, Priority::Person, patience).await?;
    let scheme = key.key().public_key.default_scheme();
    admission.sign(&key.clone().into(), scheme, b"message").await
}

fn states(signing: &Signing) -> Vec<&'static str> {
    signing.states().map(|(_, state)| state.name()).collect()
}

fn state(signing: &Signing) -> Arc<State> {
    signing.states().next().unwrap().1
}

const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";

const PIN: &str = "4711-user";

/// So long that how fast the machine is makes no difference.
const DEADLINE: Duration = Duration::from_secs(120);
