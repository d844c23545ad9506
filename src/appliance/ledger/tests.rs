mod bots;
mod cards;
mod taking_back;

use std::{
    collections::BTreeSet,
    io::{self, BufRead, BufReader, Write},
    path::PathBuf,
    process::{Child, Command, Stdio},
    slice,
    sync::Barrier,
    thread,
};

use futures_util::future::join_all;
use pki::{
    clock::{SystemClock, TestClock},
    seal::Kind,
    serial::Serial,
};
use tempfile::TempDir;

use super::{audit::Head, *};

#[tokio::test]
async fn jobs_that_wait_share_a_transaction_and_a_bad_one_spoils_no_neighbour() {
    let place = Place::new();
    let ledger = place.open();
    begin(&ledger, 1, None).await.unwrap();
    let before = ledger.transactions();
    // Number 1 comes a second time among the others.
    let outcomes = join_all((1..=500).map(|serial| begin(&ledger, serial, None))).await;
    let transactions = ledger.transactions() - before;
    assert!(transactions <= 250, "{transactions} transactions for 500 jobs");
    for (serial, outcome) in (1..).zip(outcomes) {
        match outcome {
            Ok(begun) => assert!(serial > 1 && matches!(begun, Begun::New(_))),
            Err(error) => assert!(serial == 1 && matches!(error, LedgerError::Refused(_))),
        }
    }
    assert!(ledger.healthy());
    drop(ledger);
    assert_eq!(place.verified().seq, 500);
}

#[tokio::test]
async fn a_repeated_operation_gives_what_it_gave_before_also_after_a_restart() {
    let place = Place::new();
    let operation =
        |key: &str, request| Some(Idempotency { key: key.into(), request: [request; 32] });
    let mut ledger = place.open();
    assert!(matches!(begin(&ledger, 1, operation("a", 1)).await, Ok(Begun::New(_))));
    for serial in [2, 3] {
        let again = begin(&ledger, serial, operation("a", 1)).await;
        let Ok(Begun::Unfinished(intent, text)) = again else { panic!("not unfinished") };
        assert_eq!(text, text_of(1).bytes);
        assert_eq!(*intent.summary(), text_of(1).summary);
        assert_eq!(intent.issuer(), "users");
        ledger = place.reopen(ledger);
    }
    let two = async || match begin(&ledger, 9, operation("a", 1)).await {
        Ok(Begun::Unfinished(intent, _)) => intent,
        _ => panic!("not unfinished"),
    };
    let (first, second) = (two().await, two().await);
    let first = first.commit_bytes(b"first".to_vec(), now()).await.unwrap();
    let second = second.commit_bytes(b"second".to_vec(), now()).await.unwrap();
    assert_eq!((first.bytes(), second.bytes()), (&b"first"[..], &b"first"[..]));
    ledger = place.reopen(ledger);
    let Ok(Begun::Done(done)) = begin(&ledger, 9, operation("a", 1)).await else {
        panic!("not done")
    };
    assert_eq!((done.issuer(), done.bytes()), ("users", &b"first"[..]));
    assert_eq!(*done.summary(), text_of(1).summary);

    let conflict = begin(&ledger, 9, operation("a", 2)).await;
    assert!(matches!(conflict, Err(LedgerError::IdempotencyConflict { key }) if key == "a"));
    let raw = begin_raw(&ledger, new_intent(operation("a", 1))).await;
    assert!(matches!(raw, Err(LedgerError::IdempotencyConflict { .. })));
    let stranger = NewIntent { caller: "another".into(), ..new_intent(operation("a", 2)) };
    assert!(matches!(begin_text(&ledger, stranger, text_of(10)).await, Ok(Begun::New(_))));
}

#[tokio::test]
async fn a_repeated_digest_gives_the_first_signature() {
    let place = Place::new();
    let mut ledger = place.open();
    let operation = || new_intent(Some(Idempotency { key: "d".into(), request: [1; 32] }));
    for signature in [b"first", b"other"] {
        for _ in 0..2 {
            match begin_raw(&ledger, operation()).await.unwrap() {
                BegunRaw::New(intent) => {
                    let made = Signature(signature.to_vec());
                    let released = intent.commit(made, now()).await.unwrap();
                    assert_eq!(released.signature().0, b"first");
                }
                BegunRaw::Done(done) => assert_eq!(done.signature().0, b"first"),
            }
        }
        ledger = place.reopen(ledger);
    }
    drop(ledger);
    assert_eq!(place.verified().seq, 2, "one intent and one release");
}

#[tokio::test]
async fn nothing_is_begun_while_the_audit_directory_takes_nothing() {
    let place = Place::new();
    let ledger = place.open();
    begin(&ledger, 1, None).await.unwrap();
    let (file, kept) = (place.audit_file(), place.root.path().join("kept"));
    let obstacles: [fn(&Path); 2] = [
        |file| fs::create_dir(file).unwrap(),
        |file| std::os::unix::fs::symlink("/dev/full", file).unwrap(),
    ];
    for (serial, obstruct) in (10..).step_by(10).zip(obstacles) {
        fs::rename(&file, &kept).unwrap();
        obstruct(&file);
        for attempt in 0..3 {
            let refused = begin(&ledger, serial + attempt, None).await;
            assert!(matches!(refused, Err(LedgerError::Unavailable(_))));
            assert!(!ledger.healthy());
        }
        fs::remove_file(&file).or_else(|_| fs::remove_dir(&file)).unwrap();
        fs::rename(&kept, &file).unwrap();
        // It recovers by itself, without a job.
        place.wait_until(|| ledger.healthy()).await;
        begin(&ledger, serial + 5, None).await.unwrap();
    }
    drop(ledger);
    place.verified();
}

#[tokio::test]
async fn a_full_database_fails_its_jobs_and_recovers() {
    let place = Place::new();
    let ledger = place.open();
    let limit_pages = async |pages: i64| {
        let limit = move |batch: &mut writer::Batch<'_>| {
            batch.sql.pragma_update(None, "max_page_count", pages)?;
            Ok(())
        };
        ledger.0.writer.submit(limit).await
    };
    limit_pages(1).await.unwrap();
    let mut begun = 0;
    // One after the other: of a transaction with few jobs, all may still find room.
    while begin(&ledger, begun + 1, None).await.is_ok() {
        begun += 1;
        assert!(begun < 1_000, "it is never full");
    }
    assert!(!ledger.healthy());
    let outcomes = join_all((1..=100).map(|more| begin(&ledger, begun + more, None))).await;
    assert!(outcomes.iter().all(Result::is_err));
    limit_pages(1 << 30).await.unwrap();
    begin(&ledger, 10_000, None).await.unwrap();
    assert!(ledger.healthy());
    drop(ledger);
    assert_eq!(place.verified().seq, begun + 1, "what failed left nothing behind");
}

#[tokio::test]
async fn a_torn_audit_line_is_mended_and_an_altered_one_is_reported() {
    let place = Place::new();
    let ledger = place.open();
    for serial in 1..=3 {
        begin(&ledger, serial, None).await.unwrap();
    }
    drop(ledger);
    let whole = fs::read(place.audit_file()).unwrap();
    for length in [0, 1, whole.len() / 2, whole.len() - 1] {
        fs::write(place.audit_file(), &whole[..length]).unwrap();
        drop(place.open());
        assert_eq!(fs::read(place.audit_file()).unwrap(), whole, "cut at {length}");
    }
    fs::remove_file(place.audit_file()).unwrap();
    drop(place.open());
    assert_eq!(fs::read(place.audit_file()).unwrap(), whole, "removed");

    let text = String::from_utf8(whole.clone()).unwrap();
    fs::write(place.audit_file(), text.replace("\"alice\"", "\"mallory\"")).unwrap();
    assert!(place.refusal().contains("entry 1 differs"), "{}", place.refusal());
    let invented = text.lines().last().unwrap().replace("\"seq\":3", "\"seq\":4");
    fs::write(place.audit_file(), format!("{text}{invented}\n")).unwrap();
    assert!(place.refusal().contains("older copy"), "{}", place.refusal());
}

#[tokio::test]
async fn each_day_has_its_audit_file() {
    let place = Place::new();
    let ledger = place.open();
    for serial in 1..=3 {
        begin(&ledger, serial, None).await.unwrap();
        place.clock.advance(jiff::SignedDuration::from_hours(24));
    }
    drop(ledger);
    let lines = place.audit_files().into_iter().map(|path| fs::read_to_string(path).unwrap());
    let lines: Vec<_> = lines.map(|text| text.lines().count()).collect();
    assert_eq!(lines, [1, 1, 1]);
    assert_eq!(place.verified().seq, 3);
}

#[tokio::test]
async fn certificates_are_listed_in_pages_and_found_by_serial() {
    let place = Place::new();
    let ledger = place.open();
    for serial in 1..=5 {
        let Ok(Begun::New(intent)) = begin(&ledger, serial, None).await else { panic!() };
        // An SSH certificate begins with the name of its type (PROTOCOL.certkeys).
        let blob = b"\0\0\0\x20ssh-ed25519-cert-v01@openssh.com".to_vec();
        intent.commit_bytes(blob, now()).await.unwrap();
    }
    let page = async |after, caller: &str| {
        let caller = Some(caller.to_owned());
        let query = api::ListQuery { after, caller, limit: Some(2), ..Default::default() };
        ledger.certificates(query).await.unwrap()
    };
    let mut serials = Vec::new();
    let mut after = None;
    loop {
        let next = page(after, "alice").await;
        assert!(next.certificates.len() <= 2);
        serials.extend(next.certificates.into_iter().map(|record| record.serial));
        after = next.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(serials, ["1", "2", "3", "4", "5"]);
    assert_eq!(page(None, "nobody").await.certificates, []);
    let record = ledger.certificate("users", "3").await.unwrap().unwrap();
    assert_eq!((record.id, record.subject.as_str()), (3, "alice"));
    assert_eq!(ledger.certificate("users", "6").await.unwrap(), None);
}

#[test]
fn a_later_schema_and_a_foreign_database_are_refused() {
    let place = Place::new();
    drop(place.open());
    place.sql("PRAGMA user_version = 6");
    assert!(place.refusal().contains("schema version 6"), "{}", place.refusal());
    place.sql("PRAGMA user_version = 0");
    assert!(place.refusal().contains("not a ledger"), "{}", place.refusal());
}

#[test]
fn a_ledger_is_made_once_however_many_come_at_the_same_moment() {
    for _ in 0..300 {
        let place = Place::new();
        let begin = Barrier::new(8);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    begin.wait();
                    drop(place.open());
                });
            }
        });
        place.verified();
    }
}

/// Two processes write to one ledger and are killed with SIGKILL at a random moment, five times.
#[test]
fn what_was_acknowledged_survives_a_kill_and_no_serial_comes_twice() {
    let place = Place::new();
    let mut acknowledged = BTreeSet::new();
    for _ in 0..5 {
        let mut children = [place.spawn_issuer(), place.spawn_issuer()];
        let enough = usize::from(random_byte() / 4) + 20;
        let mut lines: Vec<_> = children
            .iter_mut()
            .map(|child| BufReader::new(child.stdout.take().unwrap()).lines())
            .collect();
        for _ in 0..enough {
            for lines in &mut lines {
                take_serial(lines, &mut acknowledged).expect("the child ended by itself");
            }
        }
        for child in &mut children {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        for lines in &mut lines {
            while take_serial(lines, &mut acknowledged).is_some() {}
        }
        drop(place.open());
        let head = place.verified();
        let recorded = place.released_serials();
        assert!(acknowledged.is_subset(&recorded));
        assert!(head.seq as usize >= 2 * acknowledged.len());
    }
}

/// What the children of the test above run: they issue until they are killed.
#[test]
#[ignore = "a part of another test, which starts it"]
fn issues_until_killed() {
    let mut root = String::new();
    io::stdin().read_line(&mut root).unwrap();
    let root = PathBuf::from(root.trim());
    let clock = Arc::new(SystemClock);
    let ledger = Ledger::open(&root.join("state"), &root.join("audit"), clock).unwrap();
    let issue_forever = async || loop {
        let serial = ledger.ssh_serial("users").await.unwrap().get();
        let Ok(Begun::New(intent)) = begin(&ledger, serial, None).await else { panic!() };
        intent.commit_bytes(b"certificate".to_vec(), now()).await.unwrap();
        // One write for the line: it is never torn by the kill.
        io::stdout().write_all(format!("serial {serial}\n").as_bytes()).unwrap();
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(join_all((0..16).map(|_| issue_forever())));
}

/// A ledger's directories and its clock.
struct Place {
    root: TempDir,
    clock: Arc<TestClock>,
}

impl Place {
    fn new() -> Self {
        let clock = Arc::new(TestClock::new(now()));
        Self { root: TempDir::new().unwrap(), clock }
    }

    fn try_open(&self) -> Result<Ledger, LedgerError> {
        let root = self.root.path();
        Ledger::open(&root.join("state"), &root.join("audit"), self.clock.clone())
    }

    fn open(&self) -> Ledger {
        self.try_open().unwrap()
    }

    fn reopen(&self, ledger: Ledger) -> Ledger {
        drop(ledger);
        self.open()
    }

    fn refusal(&self) -> String {
        self.try_open().err().expect("refused").to_string()
    }

    fn database(&self) -> Connection {
        Connection::open(self.root.path().join("state").join(FILE_NAME)).unwrap()
    }

    fn sql(&self, text: &str) {
        self.database().execute_batch(text).unwrap();
    }

    fn audit_files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.root.path().join("audit")).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        let mut files: Vec<_> = paths.filter(|path| path.extension().is_some()).collect();
        files.sort();
        files
    }

    fn audit_file(&self) -> PathBuf {
        self.root.path().join("audit/audit-2026-01-01.jsonl")
    }

    /// Checks the chain in the ledger, and that the files have exactly its entries.
    fn verified(&self) -> Head {
        let database = self.database();
        let mut statement = database.prepare("SELECT entry, hash FROM audit ORDER BY seq").unwrap();
        let rows = statement.query_map((), |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        let rows: Vec<(Vec<u8>, [u8; 32])> = rows.collect::<Result<_, _>>().unwrap();
        let pairs = rows.iter().map(|(entry, hash)| (entry.as_slice(), Some(*hash)));
        let head = audit::verify(Head::default(), pairs).unwrap();
        let files = self.audit_files().into_iter().flat_map(|path| fs::read(path).unwrap());
        let entries = rows.into_iter().flat_map(|(entry, _)| [entry, b"\n".to_vec()].concat());
        assert!(files.eq(entries), "the audit files differ from the ledger");
        head
    }

    fn released_serials(&self) -> BTreeSet<u64> {
        let database = self.database();
        let mut statement = database
            .prepare("SELECT serial FROM certificates JOIN intents ON intents.id = intent")
            .unwrap();
        let rows = statement.query_map((), |row| row.get::<_, String>(0)).unwrap();
        rows.map(|serial| serial.unwrap().parse().unwrap()).collect()
    }

    fn spawn_issuer(&self) -> Child {
        let mut child = Command::new("/proc/self/exe")
            .args(["--exact", "ledger::tests::issues_until_killed", "--ignored", "--nocapture"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        writeln!(child.stdin.take().unwrap(), "{}", self.root.path().display()).unwrap();
        child
    }

    async fn wait_until(&self, condition: impl Fn() -> bool) {
        let poll = async {
            while !condition() {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        let deadline = std::time::Duration::from_secs(5);
        tokio::time::timeout(deadline, poll).await.expect("within 5 s");
    }
}

async fn begin(
    ledger: &Ledger,
    serial: u64,
    idempotency: Option<Idempotency>,
) -> Result<Begun, LedgerError> {
    begin_text(ledger, new_intent(idempotency), text_of(serial)).await
}

async fn begin_text(ledger: &Ledger, intent: NewIntent, text: Text) -> Result<Begun, LedgerError> {
    let subject = Arc::new(intent.subject(Some(&text.summary)));
    ledger.begin_text(intent, subject, text).await
}

async fn begin_raw(ledger: &Ledger, intent: NewIntent) -> Result<BegunRaw, LedgerError> {
    let subject = Arc::new(intent.subject(None));
    ledger.begin_raw(intent, subject, digest()).await
}

fn new_intent(idempotency: Option<Idempotency>) -> NewIntent {
    NewIntent {
        issuer: "users".into(),
        caller: "alice".into(),
        role: "staff".into(),
        session: None,
        idempotency,
        on_behalf_of: None,
        account: None,
        lineage: None,
        card: None,
        now: now(),
    }
}

fn text_of(serial: u64) -> Text {
    let summary = Summary {
        kind: Kind::SshUser,
        serial: Serial::Ssh(SshSerial::new(serial).unwrap()),
        subject: "alice".into(),
        names: vec!["alice".into(), "über \"root\"".into()],
        key_fingerprint: "ab".repeat(32),
        not_before: now(),
        not_after: now() + jiff::SignedDuration::from_hours(8),
    };
    Text { bytes: format!("text {serial}").into_bytes(), summary }
}

fn digest() -> RawDigest {
    RawDigest { scheme: SignatureScheme::EcdsaP256Sha256, digest: vec![7; 32] }
}

fn now() -> Timestamp {
    "2026-01-01T12:00:00Z".parse().unwrap()
}

/// Reads lines up to the next serial number, which must be a new one.
fn take_serial(
    lines: &mut impl Iterator<Item = io::Result<String>>,
    seen: &mut BTreeSet<u64>,
) -> Option<u64> {
    let serial = lines.find_map(|line| line.unwrap().strip_prefix("serial ")?.parse().ok())?;
    assert!(seen.insert(serial), "serial {serial} was given out twice");
    Some(serial)
}

fn random_byte() -> u8 {
    let mut byte = 0;
    fs::File::open("/dev/urandom")
        .and_then(|mut file| io::Read::read_exact(&mut file, slice::from_mut(&mut byte)))
        .unwrap();
    byte
}
