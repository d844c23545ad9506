//! A lock means: from its answer on, not one signature. Shown in a storm: 64 clients of one caller
//! ask as fast as they can while she is locked and unlocked, a thousand times. Each certificate
//! that a token signs is followed by a record, that it was issued or that it was withheld; so the
//! audit log shows whether any was signed after the answer to a lock.

use std::{
    collections::HashSet,
    fs::File,
    io::{BufRead, BufReader},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use harness::{
    Doing, Failure, Story,
    https::Https,
    keep_alive::{Connection, post},
    office::Office,
};
use serde_json::{Value, json};
use tokio::{
    runtime::Runtime,
    task::JoinSet,
    time::{sleep, timeout},
};

const ROUNDS: usize = 1_000;
const CLIENTS: usize = 64;

const ALICE: &str = "spiffe://example.test/user/alice";

#[test]
fn after_the_answer_to_a_lock_nothing_is_signed_in_a_storm() -> Story {
    let office = Office::open()?;
    let operator = office.https(Some(office.operator()))?;
    let alice = office.https(Some(&office.enrol("user/alice")?))?;
    let request = post("/v1/issue/ssh-user", &office.login_request("key")?);
    let mut log = AuditLog::open(&office)?;
    let storm = Arc::new(Storm::default());
    Runtime::new().doing("start tokio")?.block_on(async {
        let mut clients = JoinSet::new();
        for _ in 0..CLIENTS {
            clients.spawn(storm.clone().blow(alice.clone(), request.clone()));
        }
        let mut operator = Connection::to(&operator).await?;
        for round in 0..ROUNDS {
            lock_and_unlock(&mut operator, &storm, &mut log)
                .await
                .map_err(|failure| Failure::new(format!("round {round}: {failure}")))?;
        }
        Ok::<_, Failure>(())
    })?;
    assert!(storm.issued() >= ROUNDS && storm.refused() >= ROUNDS * CLIENTS);
    let locked = office.audit_records()?;
    let locked = locked.iter().filter(|record| record["event"] == "locked");
    assert_eq!(locked.count(), ROUNDS);
    Ok(())
}

#[test]
fn a_revoked_client_certificate_is_taken_by_nobody_and_a_lock_by_no_words() -> Story {
    let office = Office::open()?;
    let operator = office.https(Some(office.operator()))?;
    let (alice, bob) = (office.enrol("user/alice")?, office.enrol("user/bob")?);
    let (alice, bob) = (office.https(Some(&alice))?, office.https(Some(&bob))?);
    let login = office.login_request("key")?;
    alice.post("/v1/issue/ssh-user", &login)?.expect_status(201)?;

    // 1 A lock hits her certificates, that of TLS among them; removed, it gives none back.
    let preview = operator.post("/v1/locks/preview", &json!({ "target": "user:alice" }))?;
    let preview = preview.expect_status(200)?.json()?;
    assert_eq!(preview, json!({ "certificates": 2, "sessions": 0, "hosts": 0 }));
    let lock = json!({ "target": "user:alice", "reason": "the laptop is gone" });
    let locked = operator.post("/v1/locks", &lock)?.expect_status(200)?.json()?;
    assert_eq!(locked["revoked"], 2);
    let refused = alice.post("/v1/issue/ssh-user", &login)?.expect_status(403)?.json()?;
    assert_eq!(refused["reason"], "locked");
    let again = office.enrol("user/alice").map(|_| ()).unwrap_err().to_string();
    assert!(again.contains("locked"), "{again}");
    let unlock = json!({ "target": "user:alice", "reason": "it was under the sofa" });
    operator.post("/v1/locks/remove", &unlock)?.expect_status(200)?;
    let refused = alice.post("/v1/issue/ssh-user", &login)?.expect_status(403)?.json()?;
    assert_eq!(refused["reason"], "certificate-revoked");
    let alice = office.https(Some(&office.enrol("user/alice")?))?;
    alice.post("/v1/issue/ssh-user", &login)?.expect_status(201)?;

    // 2 A serial number that there is not, a target that is none, and others than operators.
    let revoke = |serial: &str| {
        json!({ "issuer": "services", "serial": serial, "code": "key-compromise",
                "reason": "it was copied" })
    };
    operator.post("/v1/revoke", &revoke("00"))?.expect_status(404)?;
    let nonsense = json!({ "target": "everybody", "reason": "a typing error" });
    operator.post("/v1/locks", &nonsense)?.expect_status(400)?;
    let refused = bob.post("/v1/locks", &lock)?.expect_status(403)?.json()?;
    assert_eq!(refused["reason"], "not-an-operator");
    bob.post("/v1/issue/ssh-user", &login)?.expect_status(201)?;

    // 3 Bob's own certificate, by its serial number.
    let list = operator.get("/v1/certificates?kind=tls_client")?.expect_status(200)?.json()?;
    let of_bob = |record: &&Value| record["names"][0] == "URI:spiffe://example.test/user/bob";
    let serial = list["certificates"].as_array().and_then(|all| all.iter().find(of_bob));
    let serial = serial.and_then(|record| record["serial"].as_str()).unwrap_or_default();
    operator.post("/v1/revoke", &revoke(serial))?.expect_status(200)?;
    let refused = bob.post("/v1/issue/ssh-user", &login)?.expect_status(403)?.json()?;
    assert_eq!(refused["reason"], "certificate-revoked");
    Ok(())
}

#[test]
fn a_lock_on_everything_leaves_somebody_to_remove_it() -> Story {
    let mut office = Office::open()?;
    let alice = office.https(Some(&office.enrol("user/alice")?))?;
    let login = office.login_request("key")?;
    let lock = json!({ "target": "all", "reason": "nobody knows what is going on" });
    let operator = office.https(Some(office.operator()))?;
    operator.post("/v1/locks", &lock)?.expect_status(200)?;
    let refused = alice.post("/v1/issue/ssh-user", &login)?.expect_status(403)?.json()?;
    assert_eq!(refused["reason"], "locked");

    // It starts again, with a certificate of its own, and the lock holds.
    office.restart()?;
    let operator = office.https(Some(office.operator()))?;
    let again = office.enrol("user/alice").map(|_| ()).unwrap_err().to_string();
    assert!(again.contains("locked"), "{again}");
    let unlock = json!({ "target": "all", "reason": "now we know" });
    operator.post("/v1/locks/remove", &unlock)?.expect_status(200)?;
    let alice = office.https(Some(&office.enrol("user/alice")?))?;
    alice.post("/v1/issue/ssh-user", &login)?.expect_status(201)?;
    Ok(())
}

/// One round; the storm is on before the lock and after it.
async fn lock_and_unlock(
    operator: &mut Connection,
    storm: &Storm,
    log: &mut AuditLog,
) -> Result<(), Failure> {
    storm.wait_for_more(Storm::issued, 1).await?;
    let lock = json!({ "target": "role:login", "reason": "a round of the storm" });
    operator.ask(&post("/v1/locks", &lock)).await?.success()?;
    // 1 The answer is here. What is in the log by now is before it.
    log.begun_or_signed()?;
    storm.wait_for_more(Storm::refused, CLIENTS).await?;
    // 2 So many were asked and refused after it. Nothing may be in the log since.
    let late = log.begun_or_signed()?;
    if !late.is_empty() {
        return Err(Failure::new(format!("after the lock's answer: {late:?}")));
    }
    let unlock = json!({ "target": "role:login", "reason": "the round is over" });
    operator.ask(&post("/v1/locks/remove", &unlock)).await?.success()?;
    Ok(())
}

/// Clients that never stop asking, and what they got.
#[derive(Default)]
struct Storm {
    issued: AtomicUsize,
    refused: AtomicUsize,
}

impl Storm {
    fn issued(&self) -> usize {
        self.issued.load(Ordering::Relaxed)
    }

    fn refused(&self) -> usize {
        self.refused.load(Ordering::Relaxed)
    }

    async fn blow(self: Arc<Self>, https: Https, request: Vec<u8>) -> Result<(), Failure> {
        let mut connection = Connection::to(&https).await?;
        loop {
            let answer = connection.ask(&request).await?;
            let problem: Value = serde_json::from_slice(&answer.body).doing("read an answer")?;
            match (answer.status, problem["reason"].as_str()) {
                (201, _) => self.issued.fetch_add(1, Ordering::Relaxed),
                (403, Some("locked" | "taken-back")) => {
                    self.refused.fetch_add(1, Ordering::Relaxed)
                }
                // Busy: asked again.
                (503, _) => 0,
                _ => return Err(Failure::new(format!("{}: {problem}", answer.status))),
            };
        }
    }

    async fn wait_for_more(
        &self,
        count: impl Fn(&Self) -> usize,
        more: usize,
    ) -> Result<(), Failure> {
        let wanted = count(self) + more;
        let poll = async {
            while count(self) < wanted {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(Duration::from_secs(60), poll).await.doing("wait for the storm")
    }
}

/// The audit log as it grows.
struct AuditLog {
    file: BufReader<File>,
    /// Serial numbers of certificates that Alice asked for.
    alices: HashSet<String>,
}

impl AuditLog {
    fn open(office: &Office) -> Result<Self, Failure> {
        let mut files = std::fs::read_dir(office.path("audit"))
            .doing("list the audit directory")?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
        let path = files.next().ok_or_else(|| Failure::new("there is no audit file"))?;
        let file = BufReader::new(File::open(path).doing("open the audit file")?);
        Ok(Self { file, alices: HashSet::new() })
    }

    /// Reads on; returns the records of what was begun or signed for Alice.
    fn begun_or_signed(&mut self) -> Result<Vec<Value>, Failure> {
        let mut found = Vec::new();
        loop {
            let mut line = String::new();
            self.file.read_line(&mut line).doing("read the audit file")?;
            if !line.ends_with('\n') {
                let unfinished = i64::try_from(line.len()).unwrap_or_default();
                self.file.seek_relative(-unfinished).doing("read the audit file")?;
                return Ok(found);
            }
            let record: Value = serde_json::from_str(&line).doing("read a record")?;
            let serial = record["serial"].as_str().unwrap_or_default();
            match record["event"].as_str() {
                Some("intent") if record["caller"] == ALICE => {
                    self.alices.insert(serial.to_owned());
                    found.push(record);
                }
                Some("issued" | "withheld") if self.alices.contains(serial) => found.push(record),
                _ => {}
            }
        }
    }
}
