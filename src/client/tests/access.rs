//! Sessions, locks and revocations on the command line, against a server that answers by script.

#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test stops and tells where things are not as it says"
)]

#[path = "peer/program.rs"]
mod program;
#[path = "peer/server.rs"]
#[expect(dead_code, reason = "other tests need more of it")]
mod server;

use std::{process::Stdio, time::Duration};

use api::{LockTarget, Session};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};

use program::{chancery, command};
use server::{Pki, Server, answer};

const ID: &str = "s-7k2m4q9x1c5v8b3n";
const DENIED: &str = r#"{"type":"urn:chancery:problem:denied","title":"No rule allows this",
    "status":403,"detail":"nobody decides on a session of their own","reason":"own_session"}"#;

#[tokio::test]
async fn a_request_says_what_it_is_and_waits_only_if_told() {
    let pki = Pki::new();
    let server = Server::start(&pki, vec![session("waiting", json!({}))]).await;
    let words = "session request --role dba --target db1.example --target db2.example --ttl 1h30m \
                 --source-address 192.0.2.0/24 --one-use --reason ticket-4711";
    let (code, out, err) = chancery(&pki, server.port, &split(words)).await;
    assert_eq!((code, err.as_str()), (0, ""));
    for line in [
        "session       s-7k2m4q9x1c5v8b3n",
        "state         waiting",
        "requester     spiffe://e.example/user/alice",
        "targets       db1.example",
        "certificates  dba-login, dba-card",
        "length        1h 30m",
        "approvals     0 of 2",
        "waits until   2026-01-01 00:30:00 UTC (",
    ] {
        assert!(out.lines().any(|it| it.starts_with(line)), "{line}: {out}");
    }
    assert!(!out.contains("opened") && !out.contains("ended"), "{out}");

    let sent: Value = serde_json::from_str(&server.requests()[0].body).unwrap();
    let expected = json!({
        "role": "dba", "reason": "ticket-4711", "targets": ["db1.example", "db2.example"],
        "ttl": 5_400, "source_addresses": ["192.0.2.0/24"], "one_use": true,
    });
    assert_eq!(sent, expected);
    assert_eq!(server.requests()[0].line, "POST /v1/sessions HTTP/1.1");
}

#[tokio::test]
async fn waiting_tells_of_each_approval_and_survives_an_appliance_that_is_away() {
    let pki = Pki::new();
    let one = json!([decision("bob", true, "seen")]);
    let two = json!([decision("bob", true, "seen"), decision("carol", true, "fine")]);
    let script = vec![
        session("waiting", json!({})),
        session("waiting", json!({ "decisions": one })),
        String::new(),
        session("open", json!({ "decisions": two, "ends_at": "2026-01-01T01:40:00Z" })),
    ];
    let server = Server::start(&pki, script).await;
    let words = "session request --role dba --reason r --wait";
    let (code, out, err) = chancery(&pki, server.port, &split(words)).await;
    assert_eq!(code, 0, "{err}");
    assert_eq!(err.lines().count(), 2, "{err}");
    assert!(err.starts_with("session s-7k2m4q9x1c5v8b3n waits for 2 approvals, until "), "{err}");
    assert!(err.contains("\nsession s-7k2m4q9x1c5v8b3n waits for 1 approval, until "), "{err}");
    assert!(err.contains("chancery session approve s-7k2m4q9x1c5v8b3n --reason TEXT"), "{err}");
    assert!(out.contains("approvals     2 of 2\n"), "{out}");
    let said = "approved by spiffe://e.example/user/carol, 2026-01-01 00:10:00 UTC (";
    assert!(out.contains(said), "{out}");
    assert_eq!(server.requests()[1].line, "GET /v1/sessions/s-7k2m4q9x1c5v8b3n HTTP/1.1");
}

#[tokio::test]
async fn a_session_that_does_not_open_is_told_by_the_exit_code_and_by_whom() {
    let pki = Pki::new();
    let no = json!([decision("bob", false, "not\u{1b}[2J today")]);
    let script = vec![
        session("waiting", json!({})),
        session("denied", json!({ "decisions": no, "ended_at": "2026-01-01T00:10:00Z" })),
        session("waiting", json!({})),
        session("waiting", json!({})),
        session("waiting", json!({})),
    ];
    let server = Server::start(&pki, script).await;
    let words = "session request --role dba --reason r --wait --json";
    let (code, out, err) = chancery(&pki, server.port, &split(words)).await;
    assert_eq!(code, 1);
    assert_eq!(serde_json::from_str::<Session>(&out).unwrap().decisions.len(), 1);
    let said = "is not open: spiffe://e.example/user/bob denied it: not\\u{1b}[2J today";
    assert!(err.contains(said), "{err}");

    let words = "session request --role dba --reason r --wait 1s";
    let (code, out, err) = chancery(&pki, server.port, &split(words)).await;
    assert_eq!(code, 1);
    assert!(out.contains("state         waiting\n"), "{out}");
    assert!(err.ends_with("is not open: it still waits for approvals\n"), "{err}");
}

#[tokio::test]
async fn approvers_decide_and_are_told_when_they_may_not() {
    let pki = Pki::new();
    let open = json!({ "opened_at": "2026-01-01T00:10:00Z", "ends_at": "2026-01-01T01:40:00Z" });
    let script = vec![
        session("open", open),
        session("denied", json!({})),
        session("open", json!({})),
        answer(403, DENIED),
    ];
    let server = Server::start(&pki, script).await;
    for (verb, state) in [("approve", "open"), ("deny", "denied")] {
        let words = ["session", verb, ID, "--reason", "seen by me"];
        let (code, out, err) = chancery(&pki, server.port, &words).await;
        assert_eq!((code, err.as_str()), (0, ""));
        assert!(out.contains(&format!("state         {state}\n")), "{out}");
    }
    let (code, ..) = chancery(&pki, server.port, &["session", "heartbeat", ID]).await;
    assert_eq!(code, 0);
    let (code, _, err) =
        chancery(&pki, server.port, &["session", "approve", ID, "--reason", "mine"]).await;
    assert_eq!(code, 1);
    assert!(err.contains("nobody decides on a session of their own (own_session)"), "{err}");

    let lines: Vec<_> = server.requests().iter().map(|it| it.line.clone()).collect();
    let expected = ["approve", "deny", "heartbeat", "approve"]
        .map(|verb| format!("POST /v1/sessions/{ID}/{verb} HTTP/1.1"));
    assert_eq!(lines, expected);
    assert_eq!(server.requests()[0].body, r#"{"reason":"seen by me"}"#);
}

#[tokio::test]
async fn sessions_are_listed_in_a_table_and_as_lines() {
    let pki = Pki::new();
    let one: Value = serde_json::from_str(&session_body("waiting", json!({}))).unwrap();
    let hostile = json!({ "reason": "a\nb", "ended_at": "2026-01-01T00:10:00Z" });
    let two: Value = serde_json::from_str(&session_body("ended", hostile)).unwrap();
    let both = json!({ "sessions": [one, two] }).to_string();
    let server = Server::start(&pki, vec![answer(200, &both); 2]).await;
    let words = "session list --state waiting --role dba --requester spiffe://e.example/user/a \
                 --limit 5";
    let (code, out, _) = chancery(&pki, server.port, &split(words)).await;
    assert_eq!((code, out.lines().count()), (0, 3), "{out}");
    assert!(out.starts_with("ID                  STATE    ROLE  REQUESTER "), "{out}");
    assert!(out.contains("ended    dba "), "{out}");
    assert!(out.contains("since 2026-01-01 00:10:00 UTC"), "{out}");
    assert!(out.ends_with("a\\nb\n"), "{out}");
    let line = &server.requests()[0].line;
    for pair in ["state=waiting", "role=dba", "limit=5", "requester=spiffe%3A%2F%2Fe.example"] {
        assert!(line.contains(pair), "{line}");
    }
    let (_, out, _) = chancery(&pki, server.port, &["session", "list", "--json"]).await;
    assert!(out.lines().all(|line| serde_json::from_str::<Session>(line).is_ok()), "{out}");
}

#[tokio::test]
async fn an_end_tells_which_host_has_it_in_force_and_which_has_not() {
    let pki = Pki::new();
    let missing = json!({ "host": "db2.example", "last_seen": "2026-01-01T00:00:00Z" });
    // This server answers at once, and is asked again until the time is over.
    let script = [vec![ended()], vec![effect(missing); 50]].concat();
    let server = Server::start(&pki, script).await;
    let words = ["session", "end", ID, "--reason", "done", "--wait", "1s"];
    let (code, out, err) = chancery(&pki, server.port, &words).await;
    assert_eq!((code, err.as_str()), (1, ""), "a host has it not");
    for line in [
        "session  s-7k2m4q9x1c5v8b3n",
        "state    ended",
        "revoked  2 certificates",
        "published  after 41 ms, as version 812",
        "HOST         IN FORCE ",
        "db1.example  after 118 ms ",
        "db2.example  NOT YET, last heard of 2026-01-01 00:00:00 UTC (",
    ] {
        assert!(out.lines().any(|it| it.starts_with(line)), "{line}: {out}");
    }
    assert!(out.contains("118 ms") && out.contains("  1 connection\n"), "{out}");
    let asked = &server.requests()[1].line;
    assert!(asked.starts_with("GET /v1/effects/77?wait="), "{asked}");

    let server = Server::start(&pki, vec![ended()]).await;
    let (code, out, _) =
        chancery(&pki, server.port, &["session", "end", ID, "--reason", "x", "--json"]).await;
    assert_eq!((code, out.lines().count()), (0, 1), "without --wait nothing is asked");
}

#[tokio::test]
async fn a_lock_is_previewed_asked_for_set_listed_and_removed() {
    let pki = Pki::new();
    let preview = r#"{"certificates":12,"sessions":1,"hosts":3}"#;
    let lock = json!({
        "id": 4, "target": "user:alice", "reason": "laptop lost",
        "locked_by": "spiffe://e.example/operator/olivia", "locked_at": "2026-01-01T00:00:00Z",
    });
    let locked = json!({ "lock": lock, "revoked": 12, "sessions": 1, "change": 77 }).to_string();
    let locks = json!({ "locks": [lock] }).to_string();
    let applied = json!({ "host": "db2.example", "applied_after": 90 });
    let script = vec![
        answer(200, preview),
        answer(200, preview),
        answer(200, &locked),
        effect(applied),
        answer(200, &locks),
        answer(200, &locks),
        answer(200, r#"{"locks":[]}"#),
    ];
    let server = Server::start(&pki, script).await;
    let (_, out, _) = chancery(&pki, server.port, &split("lock preview --user alice")).await;
    let text = "target        user:alice\ncertificates  12\nsessions      1\nhosts         3\n";
    assert_eq!(out, text);

    // There is no terminal here, so that nobody can be asked.
    let unasked = split("lock add user:alice --reason lost");
    let (code, out, err) = chancery(&pki, server.port, &unasked).await;
    assert_eq!((code, out.as_str()), (2, ""));
    let hits = "a lock on user:alice revokes 12 certificates and ends 1 session, on 3 hosts";
    assert!(err.contains(hits) && err.contains("hint: say --yes"), "{err}");

    let words = "lock add --user alice --reason lost --ttl 8h --issued-before \
                 2026-01-01T00:00:00Z --yes --wait";
    let (code, out, err) = chancery(&pki, server.port, &split(words)).await;
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains("revoked  12 certificates\nended    1 session\n"), "{out}");
    assert!(out.contains("published  after 41 ms"), "{out}");
    let (_, out, _) = chancery(&pki, server.port, &["lock", "list"]).await;
    assert!(out.contains("4   user:alice  -              never  spiffe://e.example/op"), "{out}");
    let (code, ..) =
        chancery(&pki, server.port, &split("lock remove user:alice --reason found")).await;
    assert_eq!(code, 0);
    let (code, _, err) =
        chancery(&pki, server.port, &split("lock remove --bot ci --reason found")).await;
    assert_eq!(code, 0);
    assert!(err.starts_with("there was no such lock"), "{err}");

    let requests = server.requests();
    let lines: Vec<_> = requests.iter().map(|it| it.line.split(' ').nth(1).unwrap()).collect();
    assert_eq!(lines[..3], ["/v1/locks/preview", "/v1/locks/preview", "/v1/locks"]);
    assert_eq!(lines[4..], ["/v1/locks", "/v1/locks/remove", "/v1/locks/remove"]);
    let sent: api::LockRequest = serde_json::from_str(&requests[2].body).unwrap();
    assert_eq!(sent.target, LockTarget::User("alice".to_owned()));
    assert_eq!(sent.ttl, Some(28_800));
    assert!(sent.issued_before.is_some());
}

#[tokio::test]
async fn what_no_revocation_takes_back_is_said() {
    let pki = Pki::new();
    let revoked = answer(200, r#"{"revoked":1,"logon_certificates":1,"change":77}"#);
    let server = Server::start(&pki, vec![revoked; 2]).await;
    let words = split("revoke issuing 5f0c --reason lost");
    let (_, out, _) = chancery(&pki, server.port, &words).await;
    let note = "note: 1 of them is for smart-card logon. A Kerberos ticket";
    assert!(out.contains(note) && out.contains("directory hook"), "{out}");
    let (_, out, _) = chancery(&pki, server.port, &[&words[..], &["--json"]].concat()).await;
    assert_eq!(out.lines().count(), 1, "{out}");
}

#[tokio::test]
async fn one_certificate_is_revoked_with_a_reason_for_crl_and_log() {
    let pki = Pki::new();
    let script =
        ["1", "0"].map(|count| answer(200, &format!(r#"{{"revoked":{count},"change":77}}"#)));
    let server = Server::start(&pki, script.to_vec()).await;
    let words = split("revoke ssh-user 1042 --reason lost --code key-compromise");
    let (code, out, err) = chancery(&pki, server.port, &words).await;
    assert_eq!((code, out.as_str(), err.as_str()), (0, "revoked  1 certificate\n", ""));
    let (_, out, _) =
        chancery(&pki, server.port, &split("revoke ssh-user 1042 --reason lost")).await;
    assert_eq!(out, "revoked  nothing: it was revoked before\n");
    let sent: Value = serde_json::from_str(&server.requests()[0].body).unwrap();
    let expected = json!({
        "issuer": "ssh-user", "serial": "1042", "code": "key-compromise", "reason": "lost",
    });
    assert_eq!(sent, expected);
}

/// It waits for an approval when it is told to end, in two ways: who hears nothing of it is ended
/// by the watcher.
#[tokio::test]
async fn chancery_ssh_ends_its_session_even_when_it_is_killed() {
    for signal in [rustix::process::Signal::TERM, rustix::process::Signal::KILL] {
        let pki = Pki::new();
        let server = Server::start(&pki, vec![session("waiting", json!({})); 50]).await;
        let words = "ssh --role dba --reason r -F none -p 2222 alice@db1.example true";
        let mut command = command(&pki, server.port, &split(words));
        command.env("XDG_RUNTIME_DIR", pki.path("run")).stderr(Stdio::piped());
        std::fs::create_dir(pki.path("run")).unwrap();
        let mut child = command.spawn().unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
        let line = said.next_line().await.unwrap().unwrap();
        assert!(line.contains("waits for 2 approvals"), "{line}");
        assert_eq!(std::fs::read_dir(pki.path("run")).unwrap().count(), 1);

        let id = i32::try_from(child.id().unwrap()).unwrap();
        let id = rustix::process::Pid::from_raw(id).unwrap();
        rustix::process::kill_process(id, signal).unwrap();
        let status = tokio::time::timeout(DEADLINE, child.wait()).await.unwrap().unwrap();
        assert!(!status.success());
        let requests = until(&server, |line| line.starts_with("POST /v1/sessions/")).await;
        assert_eq!(requests.last().unwrap(), &format!("POST /v1/sessions/{ID}/end HTTP/1.1"));
        let emptied = || std::fs::read_dir(pki.path("run")).unwrap().count() == 0;
        eventually(emptied, "the directory of the socket is still there").await;

        let asked = server.requests();
        let sent: Value = serde_json::from_str(&asked[0].body).unwrap();
        let expected = json!({ "role": "dba", "reason": "r", "targets": ["db1.example"] });
        assert_eq!(sent, expected);
    }
}

#[tokio::test]
async fn chancery_ssh_says_what_is_missing_and_asks_for_nothing_before() {
    let pki = Pki::new();
    let server = Server::start(&pki, Vec::new()).await;
    let (code, _, err) = chancery(&pki, server.port, &split("ssh -F none db1.example")).await;
    assert_eq!(code, 2);
    assert!(err.contains("no session role is given") && err.contains("--role ROLE"), "{err}");
    let words = split("ssh --role dba -F none 192.0.2.7");
    let (code, _, err) = chancery(&pki, server.port, &words).await;
    assert_eq!(code, 2);
    assert!(err.contains("192.0.2.7") && err.contains("hint: say --target HOST"), "{err}");
    let (code, _, err) = chancery(&pki, server.port, &split("ssh --role dba -Z db1")).await;
    assert_eq!(code, 2);
    assert!(err.contains("ssh does not take these arguments"), "{err}");
    assert!(server.requests().is_empty());
}

fn session(state: &str, more: Value) -> String {
    answer(200, &session_body(state, more))
}

fn session_body(state: &str, more: Value) -> String {
    let mut session = json!({
        "id": ID, "state": state, "role": "dba",
        "requester": "spiffe://e.example/user/alice", "reason": "ticket 4711",
        "targets": ["db1.example"], "source_addresses": [], "one_use": false,
        "certificate_roles": ["dba-login", "dba-card"], "ttl": 5_400, "approvals_needed": 2,
        "decisions": [], "requested_at": "2026-01-01T00:00:00Z",
        "waits_until": "2026-01-01T00:30:00Z",
    });
    let fields = session.as_object_mut().unwrap();
    fields.extend(more.as_object().unwrap().clone());
    session.to_string()
}

fn decision(who: &str, approved: bool, reason: &str) -> Value {
    let approver = format!("spiffe://e.example/user/{who}");
    json!({
        "approver": approver, "approved": approved, "reason": reason,
        "at": "2026-01-01T00:10:00Z",
    })
}

fn ended() -> String {
    let session: Value = serde_json::from_str(&session_body("ended", json!({}))).unwrap();
    answer(200, &json!({ "session": session, "revoked": 2, "change": 77 }).to_string())
}

/// The effect of change 77: one host has it, and this is the other.
fn effect(other: Value) -> String {
    let effect = json!({
        "change": 77, "made_at": "2026-01-01T00:00:00Z", "version": 812, "published_after": 41,
        "hosts": [{ "host": "db1.example", "applied_after": 118, "cut": 1 }, other],
    });
    answer(200, &effect.to_string())
}

fn split(words: &str) -> Vec<&str> {
    words.split_whitespace().collect()
}

/// The lines of all requests, when one of them is as wanted.
async fn until(server: &Server, wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let lines = || server.requests().iter().map(|it| it.line.clone()).collect::<Vec<_>>();
    eventually(|| lines().iter().any(|line| wanted(line)), "the request did not come").await;
    lines()
}

async fn eventually(condition: impl Fn() -> bool, otherwise: &str) {
    let until = tokio::time::Instant::now() + DEADLINE;
    while !condition() {
        assert!(tokio::time::Instant::now() < until, "{otherwise}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

const DEADLINE: Duration = Duration::from_secs(30);
