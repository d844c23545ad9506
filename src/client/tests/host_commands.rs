//! What operators see of hosts on the command line, against a server that answers by script.

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

use std::fs;

use api::{HostMode, JoinToken};
use serde_json::json;

use program::chancery;
use server::{Pki, Server, answer};

#[tokio::test]
async fn a_token_goes_into_a_file_of_its_own_and_nowhere_else() {
    let pki = Pki::new();
    let token = json!({
        "name": "web1.example", "secret": "not-for-the-terminal",
        "expires_at": "2036-01-01T00:00:00Z",
    });
    let server = Server::start(&pki, vec![answer(201, &token.to_string()); 2]).await;

    let add = ["host", "add", "web1.example", "--best-effort", "--ttl", "1h"];
    let (code, out, err) = chancery(&pki, server.port, &add).await;
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.starts_with("host         web1.example\nmode         best-effort\n"), "{out}");
    assert!(!out.contains("not-for-the-terminal"), "{out}");
    let path = pki.path("web1.example.token");
    let written: JoinToken = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(written.secret, "not-for-the-terminal");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
    let asked: api::HostRequest = serde_json::from_str(&server.requests()[0].body).unwrap();
    assert_eq!((asked.mode, asked.ttl), (HostMode::BestEffort, Some(3_600)));

    // A token that lies there is not lost, and none is made in vain.
    let (code, _, err) = chancery(&pki, server.port, &add).await;
    assert_eq!(code, 2);
    assert!(err.contains("web1.example.token is there already"), "{err}");
    assert_eq!(server.requests().len(), 1);

    let (code, out, _) =
        chancery(&pki, server.port, &["host", "add", "web1.example", "--out", "-"]).await;
    assert_eq!(
        (code, serde_json::from_str::<JoinToken>(&out).unwrap().secret),
        (0, written.secret)
    );
}

#[tokio::test]
async fn hosts_are_listed_with_what_they_have_in_force_and_removed_for_a_reason() {
    let pki = Pki::new();
    let joined = "2026-01-01T00:00:00Z";
    let host = |name: &str, version: Option<u64>| {
        json!({ "name": name, "mode": "strict", "connections": 2, "joined_at": joined,
            "version": version })
    };
    let waiting = json!({ "name": "new.example", "mode": "best-effort", "connections": 0 });
    let hosts = [host("db1.example", Some(811)), host("web1.example", Some(812)), waiting];
    let removed = host("db1.example", Some(812)).to_string();
    let list = json!({ "hosts": hosts, "version": 812 }).to_string();
    let server = Server::start(&pki, vec![answer(200, &list), answer(200, &removed)]).await;

    let (code, out, err) = chancery(&pki, server.port, &["host", "list"]).await;
    assert_eq!((code, err.as_str()), (0, ""));
    let table = "\
NAME          MODE         REVOCATIONS  LOGGED IN  LAST HEARD OF
db1.example   strict       811 of 812   2
web1.example  strict       812          2
new.example   best-effort  not joined   0
";
    assert_eq!(out, table);

    let remove = ["host", "remove", "db1.example", "--reason", "sold"];
    let (code, out, _) = chancery(&pki, server.port, &remove).await;
    assert_eq!((code, out.as_str()), (0, "removed  db1.example\n"));
    assert_eq!(server.requests()[1].line, "POST /v1/hosts/db1.example/remove HTTP/1.1");
    assert_eq!(server.requests()[1].body, r#"{"reason":"sold"}"#);
}
