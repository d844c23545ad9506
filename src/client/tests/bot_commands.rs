//! What operators see of bots on the command line, against a server that answers by script.

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

use api::{BotSpec, BotToken, JoinMethod};
use serde_json::{Value, json};

use program::chancery;
use server::{Pki, Server, answer};

#[tokio::test]
async fn a_bot_is_added_once_and_its_token_goes_into_a_file_and_nowhere_else() {
    let pki = Pki::new();
    let applied = json!({ "bot": bot("ci", &json!({ "method": "token" })), "changed": true });
    let script = vec![missing(), answer(201, &applied.to_string()), token(), found()];
    let server = Server::start(&pki, script).await;

    let add = ["bot", "add", "ci", "--role", "deploy", "--role", "web", "--token-ttl", "10m"];
    let limits = ["--max-instances", "3", "--max-ttl", "1h", "--source-address", "192.0.2.0/24"];
    let words = [&add[..], &limits].concat();
    let (code, out, err) = chancery(&pki, server.port, &words).await;
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains("joins by   token\n"), "{out}");
    assert!(out.contains("next, on its machine: bring the token there"), "{out}");
    assert!(!out.contains("not-for-the-terminal"), "{out}");
    let path = pki.path("ci.token");
    let written: BotToken = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(written.secret, "not-for-the-terminal");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
    let asked = server.requests();
    assert_eq!(asked[1].line, "POST /v1/bots HTTP/1.1");
    let spec: BotSpec = serde_json::from_str(&asked[1].body).unwrap();
    assert_eq!((spec.max_instances, spec.max_ttl), (3, Some(3_600)));
    assert_eq!(Vec::from_iter(&spec.roles), ["deploy", "web"]);
    assert_eq!(spec.source_addresses.len(), 1);
    assert_eq!(asked[2].body, r#"{"ttl":600}"#);

    // A token that lies there is not lost, and none is made in vain.
    let (code, _, err) = chancery(&pki, server.port, &add).await;
    assert_eq!(code, 2);
    assert!(err.contains("ci.token is there already"), "{err}");
    // A bot that is there is not changed by adding it.
    let again = ["bot", "add", "ci", "--role", "deploy", "--out", "other.token"];
    let (code, _, err) = chancery(&pki, server.port, &again).await;
    assert_eq!(code, 2);
    assert!(err.contains("there is a bot ci already") && err.contains("hint:"), "{err}");
    assert_eq!(server.requests().len(), 4);
}

#[tokio::test]
async fn flags_and_files_say_how_a_bot_joins() {
    let pki = Pki::new();
    let script = vec![missing(), applied(true), missing(), applied(true)];
    let server = Server::start(&pki, script).await;
    let add = ["bot", "add", "ci", "--role", "deploy"];

    // The key of the certificate client.pem.
    let bound = [&add[..], &["--bound-key", "client.pem", "--recoveries", "2"]].concat();
    let (code, _, err) = chancery(&pki, server.port, &bound).await;
    assert_eq!((code, err.as_str()), (0, ""));
    let spec: BotSpec = serde_json::from_str(&server.requests()[1].body).unwrap();
    let JoinMethod::BoundKey { public_key, recoveries: 2 } = spec.join else {
        panic!("{:?}", spec.join);
    };
    assert!(public_key.starts_with("-----BEGIN PUBLIC KEY-----"), "{public_key}");

    let oidc = ["--oidc", "https://id.example", "--audience", "chancery", "--claim", "sub=a=*"];
    let (code, _, err) = chancery(&pki, server.port, &[&add[..], &oidc].concat()).await;
    assert_eq!((code, err.as_str()), (0, ""));
    let spec: Value = serde_json::from_str(&server.requests()[3].body).unwrap();
    let expected = json!({ "method": "oidc", "issuer": "https://id.example",
        "audience": "chancery", "claims": { "sub": "a=*" } });
    assert_eq!(spec["join"], expected);

    for (flags, why) in [
        (&["--bound-key", "client.key"][..], "client.key holds no public key"),
        (&["--bound-key", "client.pem", "--out", "t"], "--token-ttl and --out are for a token"),
        (&["--bound-key", "client.pem", "--x509-ca", "ca.pem"], "cannot be used with"),
        (&["--oidc", "https://id.example"], "--audience"),
        (&["--claim", "sub=a"], "--oidc"),
    ] {
        let (code, _, err) = chancery(&pki, server.port, &[&add[..], flags].concat()).await;
        assert_eq!(code, 2, "{flags:?}");
        assert!(err.contains(why), "{err}");
    }
    assert_eq!(server.requests().len(), 4, "nothing was asked for what is wrong");
}

#[tokio::test]
async fn files_are_applied_and_a_dry_run_only_says_what_would_change() {
    let pki = Pki::new();
    let bots = "\
        [[bot]]\nname = \"ci\"\nroles = [\"deploy\", \"web\"]\nmax_instances = 2\n\
        join.method = \"token\"\n\
        [[bot]]\nname = \"backup\"\nroles = [\"database\"]\njoin.method = \"token\"\n\
        [[bot]]\nname = \"same\"\nroles = [\"deploy\"]\njoin.method = \"token\"\n";
    fs::write(pki.path("bots.toml"), bots).unwrap();
    let by_key = bot("ci", &json!({ "method": "bound-key", "public_key": "", "recoveries": 1 }));
    let same = bot("same", &json!({ "method": "token" }));
    let known = answer(200, &json!({ "bots": [by_key, same] }).to_string());
    let script = vec![
        known.clone(),
        known.clone(),
        applied(true),
        applied(true),
        applied(false),
        known,
        answer(422, &problem("no role is called deploy").to_string()),
    ];
    let server = Server::start(&pki, script).await;

    let (code, out, err) =
        chancery(&pki, server.port, &["bot", "apply", "--dry-run", "bots.toml"]).await;
    assert_eq!((code, err.as_str()), (0, ""));
    let would = "\
ci: would be changed: join.method bound-key → token; join.public_key  → none; \
join.recoveries 1 → none; max_instances 1 → 2; roles +web
backup: would be added
same: unchanged
";
    assert_eq!(out, would);
    assert_eq!(server.requests().len(), 1);

    let (code, out, _) = chancery(&pki, server.port, &["bot", "apply", "bots.toml"]).await;
    assert_eq!((code, out), (0, would.replace("would be ", "")));
    let asked = server.requests();
    let names = asked[2..].iter().map(|it| {
        assert_eq!(it.line, "POST /v1/bots HTTP/1.1");
        serde_json::from_str::<BotSpec>(&it.body).unwrap().name.to_string()
    });
    assert_eq!(names.collect::<Vec<_>>(), ["ci", "backup", "same"]);

    // The first that is refused is named, and nothing is done after it.
    let (code, _, err) = chancery(&pki, server.port, &["bot", "apply", "bots.toml"]).await;
    assert_eq!(code, 1);
    assert!(err.starts_with("ci was not applied, nor was what comes after it\nerror:"), "{err}");
    assert!(err.contains("no role is called deploy"), "{err}");

    let twice = ["bot", "apply", "bots.toml", "bots.toml"];
    let (code, _, err) = chancery(&pki, server.port, &twice).await;
    assert_eq!(code, 2);
    assert!(err.contains("bots.toml: bot ci is there twice"), "{err}");
    assert_eq!(server.requests().len(), 7);
}

#[tokio::test]
async fn bots_are_listed_shown_with_their_locks_unlocked_and_removed() {
    let pki = Pki::new();
    let (live, locked) = ("1".repeat(32), "2".repeat(32));
    let mut ci = bot("ci", &json!({ "method": "token" }));
    ci["instances"] = json!([instance(&live, "live"), instance(&locked, "locked")]);
    let lock = |target: &str| {
        json!({ "id": 7, "target": target, "reason": "generation 4 after 5", "locked_by": "chancery",
            "locked_at": "2026-01-01T00:00:00Z" })
    };
    let of_instance = lock(&format!("bot-instance:ci/{locked}"));
    let locks = json!({ "locks": [of_instance, lock("bot:ci2"), lock("user:ci")] });
    let ok = |value: &Value| answer(200, &value.to_string());
    let script = vec![
        ok(&json!({ "bots": [ci] })),
        ok(&ci),
        ok(&locks),
        ok(&ci),
        ok(&locks),
        ok(&json!({ "locks": [of_instance] })),
        token(),
        ok(&ci),
        ok(&locks),
        ok(&ci),
    ];
    let server = Server::start(&pki, script).await;

    let (code, out, err) = chancery(&pki, server.port, &["bot", "list"]).await;
    assert_eq!((code, err.as_str()), (0, ""));
    let table = "\
NAME  ROLES   JOINS BY  INSTANCES         LAST HEARD OF
ci    deploy  token     1 of 1, 1 locked  2026-01-01 00:00:00 UTC (";
    assert!(out.starts_with(table), "{out}");

    let (code, out, _) = chancery(&pki, server.port, &["bot", "show", "ci"]).await;
    assert_eq!(code, 0);
    assert!(
        out.contains(&format!("\n{live}  live    3           2026-01-01 00:00:00 UTC")),
        "{out}"
    );
    assert!(out.contains(&format!("locked  bot-instance:ci/{locked}\n")), "{out}");
    assert!(out.contains("reason  generation 4 after 5\n"), "{out}");
    assert!(!out.contains("ci2"), "{out}");

    // One step, without the id of the instance: the lock goes, and there is a token for the machine.
    let (code, out, err) =
        chancery(&pki, server.port, &["bot", "unlock", "ci", "--reason", "set up anew"]).await;
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(
        out.contains("token        ci.token\n") && out.contains("\nnext: put the token"),
        "{out}"
    );
    assert!(pki.path("ci.token").exists());
    let asked = server.requests();
    assert_eq!(asked[5].line, "POST /v1/locks/remove HTTP/1.1");
    let unlock = json!({ "target": format!("bot-instance:ci/{locked}"), "reason": "set up anew" });
    assert_eq!(serde_json::from_str::<Value>(&asked[5].body).unwrap(), unlock);
    let other = format!("ci/{live}");
    let words = ["bot", "unlock", &other, "--reason", "r", "--out", "t"];
    let (code, _, err) = chancery(&pki, server.port, &words).await;
    assert_eq!(code, 0);
    assert!(err.contains("there is no such lock"), "{err}");
    assert!(!pki.path("t").exists(), "no token is made in vain");

    let remove = ["bot", "remove", "ci", "--reason", "sold"];
    let (code, out, _) = chancery(&pki, server.port, &remove).await;
    assert_eq!((code, out.as_str()), (0, "removed  ci\n"));
    let last = server.requests().pop().unwrap();
    assert_eq!(last.line, "POST /v1/bots/ci/remove HTTP/1.1");
    assert_eq!(last.body, r#"{"reason":"sold"}"#);
}

fn bot(name: &str, join: &Value) -> Value {
    json!({ "name": name, "roles": ["deploy"], "join": join, "max_instances": 1,
        "added_at": "2026-01-01T00:00:00Z", "added_by": "spiffe://e.example/operator/olivia",
        "instances": [] })
}

fn instance(id: &str, state: &str) -> Value {
    json!({ "id": id, "state": state, "generation": 3, "joined_at": "2026-01-01T00:00:00Z",
        "last_seen": "2026-01-01T00:00:00Z", "not_after": "2026-01-01T01:00:00Z",
        "renewable": true })
}

fn token() -> String {
    let token = json!({ "name": "ci", "secret": "not-for-the-terminal",
        "expires_at": "2036-01-01T00:00:00Z" });
    answer(201, &token.to_string())
}

fn applied(changed: bool) -> String {
    let bot = bot("ci", &json!({ "method": "token" }));
    answer(200, &json!({ "bot": bot, "changed": changed }).to_string())
}

fn found() -> String {
    answer(200, &bot("ci", &json!({ "method": "token" })).to_string())
}

fn missing() -> String {
    let mut problem = problem("there is no bot ci");
    problem["type"] = "urn:chancery:problem:not-found".into();
    answer(404, &problem.to_string())
}

fn problem(detail: &str) -> Value {
    json!({ "type": "urn:chancery:problem:bad-request", "title": "t", "status": 400,
        "detail": detail })
}
