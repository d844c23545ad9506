//! The client against a TLS server that answers by script: what each failure becomes.

#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test stops and tells where things are not as it says"
)]

#[path = "peer/program.rs"]
mod program;
#[path = "peer/server.rs"]
mod server;

use std::{fs, time::Duration};

use api::{
    BATCH_ITEMS, BatchItem, BatchOutcome, BatchResult, Issued, ListQuery, Operation, ProblemKind,
    SshUserRequest,
};
use client::{Client, Error, TlsFault};

use program::chancery;
use server::{Pki, Server, answer, problem};

const ISSUED: &str = r#"{"kind":"ssh_user","issuer":"users","serial":"7",
    "not_before":"2026-01-01T00:00:00Z","not_after":"2026-01-01T01:00:00Z","certificate":"c"}"#;
const BUSY: &str = r#"{"type":"urn:chancery:problem:unavailable","title":"t","status":503,
    "detail":"the queue is full","retry_after":1}"#;
const OFTEN: &str = r#"{"type":"urn:chancery:problem:too-many-requests","title":"t","status":429,
    "detail":"this client asks more often than it may","retry_after":1}"#;
const DENIED: &str = r#"{"type":"urn:chancery:problem:denied","title":"No rule allows this",
    "status":403,"detail":"role ci is not yours","hint":"ask","reason":"role_not_granted"}"#;

fn request() -> SshUserRequest {
    serde_json::from_str(r#"{"role":"ci","public_key":"ssh-ed25519 AAAA"}"#).unwrap()
}

#[tokio::test]
async fn a_problem_is_kept_whole_and_not_tried_again() {
    let pki = Pki::new();
    let server = Server::start(&pki, vec![answer(403, DENIED)]).await;
    let client = Client::new(&pki.settings(&server)).unwrap();
    let error = client.issue_ssh_user(&request()).await.unwrap_err();
    let Error::Problem(problem) = &error else { panic!("{error:?}") };
    assert_eq!(problem.kind, ProblemKind::Denied);
    assert_eq!(problem.reason.as_deref(), Some("role_not_granted"));
    assert_eq!(error.hint().as_deref(), Some("ask"));
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn an_operation_keeps_its_key_over_a_busy_server_and_a_lost_answer() {
    let pki = Pki::new();
    let script = [answer(503, BUSY), String::new(), answer(429, OFTEN), answer(200, ISSUED)];
    let script = [&script[..], &[answer(200, ISSUED)]].concat();
    let server = Server::start(&pki, script).await;
    let client = Client::new(&pki.settings(&server)).unwrap();
    assert_eq!(client.issue_ssh_user(&request()).await.unwrap().serial, "7");
    client.issue_ssh_user(&request()).await.unwrap();

    let keys: Vec<_> = server.requests().iter().map(|it| it.header("idempotency-key")).collect();
    assert_eq!(keys[0].len(), 32);
    assert!(keys[1..4].iter().all(|key| *key == keys[0]));
    assert_ne!(keys[4], keys[0], "another operation has another key");
}

#[tokio::test]
async fn a_server_that_is_busy_beyond_the_deadline_is_not_waited_for() {
    let pki = Pki::new();
    let long = BUSY.replace("\"retry_after\":1", "\"retry_after\":3600");
    let server = Server::start(&pki, vec![answer(503, &long)]).await;
    let mut settings = pki.settings(&server);
    settings.deadline = Duration::from_secs(5);
    let client = Client::new(&settings).unwrap();
    let tried = tokio::time::timeout(settings.deadline, client.issue_ssh_user(&request())).await;
    assert!(matches!(tried, Ok(Err(Error::Problem(_)))), "{tried:?}");
}

#[tokio::test]
async fn a_batch_gives_each_item_a_key_and_says_when_answers_are_missing() {
    let pki = Pki::new();
    let first = format!("{{\"index\":0,\"status\":200,\"issued\":{}}}\n", ISSUED.replace('\n', ""));
    let second = problem(1, &DENIED.replace('\n', ""));
    let whole = answer(200, &format!("{first}{second}"));
    let server = Server::start(&pki, vec![whole, answer(200, &first)]).await;
    let client = Client::new(&pki.settings(&server)).unwrap();
    let item = BatchItem { idempotency_key: None, request: Operation::SshUser(request()) };
    let named = BatchItem { idempotency_key: Some("mine".to_owned()), ..item.clone() };

    let mut answers = client.batch(vec![item.clone(), named.clone()]).await.unwrap();
    let issued = answers.next().await.unwrap().unwrap();
    assert!(matches!(issued.outcome, BatchOutcome::Issued(it) if it.serial == "7"));
    let refused = answers.next().await.unwrap().unwrap();
    assert!(matches!(refused.outcome, BatchOutcome::Problem(it) if it.status == 403));
    assert_eq!(answers.next().await.unwrap(), None);

    let mut answers = client.batch(vec![item, named]).await.unwrap();
    answers.next().await.unwrap().unwrap();
    let error = answers.next().await.unwrap_err();
    assert!(matches!(error, Error::Interrupted { .. }), "{error:?}");

    let requests = server.requests();
    let lines: Vec<BatchItem> =
        requests[0].body.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0].idempotency_key.as_ref().unwrap().len(), 32);
    assert_eq!(lines[1].idempotency_key.as_deref(), Some("mine"));
}

#[tokio::test]
async fn a_query_and_a_path_are_encoded() {
    let pki = Pki::new();
    let page = answer(200, r#"{"certificates":[]}"#);
    let server = Server::start(&pki, vec![page, answer(404, "not json")]).await;
    let client = Client::new(&pki.settings(&server)).unwrap();
    let query = serde_json::from_str::<ListQuery>(
        r#"{"kind":"ssh_user","caller":"spiffe://e.example/user/a","limit":5}"#,
    );
    client.certificates(&query.unwrap()).await.unwrap();
    let error = client.certificate("a/b", "1?").await.unwrap_err();
    assert!(matches!(&error, Error::Answer { what, .. } if what.contains("404")), "{error:?}");

    let lines: Vec<_> = server.requests().iter().map(|it| it.line.clone()).collect();
    let caller = "caller=spiffe%3A%2F%2Fe.example%2Fuser%2Fa";
    assert!(lines[0].starts_with("GET /v1/certificates?"), "{lines:?}");
    assert!(lines[0].contains("kind=ssh_user") && lines[0].contains("limit=5"), "{lines:?}");
    assert!(lines[0].contains(caller), "{lines:?}");
    assert_eq!(lines[1], "GET /v1/certificates/a%2Fb/1%3F HTTP/1.1");
}

#[tokio::test]
async fn each_tls_fault_names_its_cause() {
    let pki = Pki::new();
    let server = Server::start(&pki, Vec::new()).await;

    let mut settings = pki.settings(&server);
    settings.ca = pki.path("other-ca.pem");
    let fault = fault(&settings).await;
    assert!(matches!(&fault, TlsFault::ServerUnknownCa { ca } if *ca == settings.ca), "{fault}");

    let mut settings = pki.settings(&server);
    settings.server = format!("https://localhost:{}", server.port).parse().unwrap();
    assert_eq!(self::fault(&settings).await, TlsFault::ServerName);

    let mut settings = pki.settings(&server);
    settings.certificate = pki.path("expired.pem");
    settings.key = pki.path("expired.key");
    let fault = self::fault(&settings).await;
    assert!(matches!(&fault, TlsFault::ClientExpired { .. }), "{fault:?}");

    let mut settings = pki.settings(&server);
    settings.certificate = pki.path("stranger.pem");
    settings.key = pki.path("stranger.key");
    let fault = self::fault(&settings).await;
    assert!(matches!(&fault, TlsFault::ClientUnknownCa { .. }), "{fault:?}");
}

async fn fault(settings: &client::profile::Settings) -> TlsFault {
    match Client::new(settings).unwrap().authorities().await {
        Err(Error::Tls { fault, .. }) => fault,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_refused_connection_and_a_mixed_up_key_say_so() {
    let pki = Pki::new();
    let mut settings = pki.settings(&Server::start(&pki, Vec::new()).await);
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    settings.server = format!("https://{free}").parse().unwrap();
    let error = Client::new(&settings).unwrap().authorities().await.unwrap_err();
    assert!(matches!(&error, Error::Connect { what, .. } if what.contains("refused")), "{error:?}");

    settings.key = pki.path("expired.key");
    let error = Client::new(&settings).unwrap_err();
    assert!(error.to_string().contains("is not the key of the certificate"), "{error}");
}

#[tokio::test]
async fn the_command_line_writes_what_it_got_and_tells_refusals_by_its_exit_code() {
    let pki = Pki::new();
    let signed = r#"{"key":"k","scheme":"ecdsa-p256-sha256","signature":"AQID","public_key":"p"}"#;
    let script = vec![answer(200, ISSUED), answer(403, DENIED), answer(200, signed)];
    let server = Server::start(&pki, script).await;
    fs::write(pki.path("id.pub"), "ssh-ed25519 AAAA me\n").unwrap();
    fs::write(pki.path("package"), "abc").unwrap();

    let request = ["request", "ssh", "--role", "ci", "--key", "id", "--json"];
    let (code, out, _) = chancery(&pki, server.port, &request).await;
    let issued: Issued = serde_json::from_str(&out).unwrap();
    assert_eq!((code, issued.serial.as_str()), (0, "7"));
    assert_eq!(fs::read_to_string(pki.path("id-cert.pub")).unwrap(), "c\n");

    let generate = ["request", "ssh", "--role", "ci", "--key", "new", "--generate"];
    let (code, out, err) = chancery(&pki, server.port, &generate).await;
    let says = "error: No rule allows this: role ci is not yours (role_not_granted)\n\nhint: ask\n";
    assert_eq!((code, out.as_str(), err.as_str()), (1, "", says));
    assert!(!pki.path("new").exists(), "a refusal leaves no key");

    let sign = ["sign", "--role", "r", "--key", "k", "--scheme", "ecdsa-p256-sha256", "package"];
    let (code, _, err) = chancery(&pki, server.port, &sign).await;
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(fs::read(pki.path("package.sig")).unwrap(), [1, 2, 3]);
    // FIPS 180-4's example: SHA-256 of "abc".
    let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert!(server.requests()[2].body.contains(digest));

    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (code, _, err) = chancery(&pki, free, &["ca"]).await;
    assert_eq!(code, 3);
    assert!(err.starts_with("error: cannot reach https://127.0.0.1:"), "{err}");
    assert!(err.contains("\n\nhint: check that chanceryd runs"), "{err}");
}

#[tokio::test]
async fn authorities_are_listed_with_their_keys_and_given_as_others_configure_them() {
    let pki = Pki::new();
    let ca = fs::read_to_string(pki.path("ca.pem")).unwrap();
    let host = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
    let all = serde_json::json!({"authorities": [
        {"kind": "x509", "name": "web", "chain": [&ca, &ca]},
        {"kind": "ssh_host", "name": "hosts", "public_key": host},
    ]});
    let server = Server::start(&pki, vec![answer(200, &all.to_string()); 4]).await;

    let (_, out, err) = chancery(&pki, server.port, &["ca"]).await;
    let table = "NAME   KIND      KEY\nweb    x509      p256\nhosts  ssh_host  ed25519\n";
    assert_eq!((out.as_str(), err.as_str()), (table, ""));
    let (_, out, _) = chancery(&pki, server.port, &["ca", "web", "--pem"]).await;
    assert_eq!(out, ca.repeat(2));
    let (_, out, _) = chancery(&pki, server.port, &["ca", "hosts", "--known-hosts", "*"]).await;
    assert_eq!(out, format!("@cert-authority * {host}\n"));
    let patterns = ["ca", "hosts", "--known-hosts", "*.example,web\n* ssh-rsa"];
    let (code, out, err) = chancery(&pki, server.port, &patterns).await;
    assert_eq!((code, out.as_str()), (2, ""), "{err}");
    let (code, out, _) = chancery(&pki, server.port, &["ca", "web", "--known-hosts", "*"]).await;
    assert_eq!((code, out.as_str()), (2, ""));
}

#[tokio::test]
async fn lines_beyond_one_batch_go_into_the_next_and_keep_their_numbers() {
    let pki = Pki::new();
    let results = |count: usize| -> String {
        let denied = DENIED.replace('\n', "");
        (0..count).map(|index| problem(index, &denied)).collect()
    };
    let script = vec![answer(200, &results(BATCH_ITEMS)), answer(200, &results(1))];
    let server = Server::start(&pki, script).await;
    let line = format!(
        "{}\n",
        r#"{"request":{"operation":"ssh_user","role":"ci","public_key":"ssh-ed25519 AAAA"}}"#
    );
    fs::write(pki.path("lines"), line.repeat(BATCH_ITEMS + 1)).unwrap();
    let (code, out, err) = chancery(&pki, server.port, &["batch", "lines"]).await;
    assert_eq!((code, err.as_str()), (1, ""));
    let indexes: Vec<usize> =
        out.lines().map(|line| serde_json::from_str::<BatchResult>(line).unwrap().index).collect();
    assert_eq!(indexes, (0..=BATCH_ITEMS).collect::<Vec<_>>());
    let sent: Vec<usize> = server.requests().iter().map(|it| it.body.lines().count()).collect();
    assert_eq!(sent, [BATCH_ITEMS, 1]);

    fs::write(pki.path("lines"), format!("{line}\n")).unwrap();
    let (code, out, err) = chancery(&pki, server.port, &["batch", "lines"]).await;
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(err.starts_with("error: lines, line 2: "), "{err}");
}
