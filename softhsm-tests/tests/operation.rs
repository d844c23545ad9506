//! What operators rely on: the public listener, the rules read anew, the audit log, an end in order.

use std::{fs, time::Duration};

use harness::{
    Doing, Failure, Story,
    https::Identity,
    office::{Office, http_get},
    process::{Signal, wait_until},
    ssh,
};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(10);

#[test]
fn the_public_listener_tells_what_is_public_and_serves_no_request() -> Story {
    let office = Office::open()?;
    let alice = office.enrol("user/alice")?;
    login(&office, &alice, 201)?;
    let get = |path: &str| {
        let answer = http_get(office.public(), path).doing(format_args!("get {path}"))?;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        Ok::<_, Failure>((head.to_owned(), body.to_owned()))
    };
    for path in ["/healthz", "/readyz", "/metrics", "/openapi.json", "/authorities"] {
        let (head, body) = get(path)?;
        assert!(head.starts_with("HTTP/1.1 200"), "{path}: {head}\n{body}");
    }
    for (path, file) in [("issuing.pem", "issuing.pem"), ("ssh-user.pub", "ssh-user.pub")] {
        let (_, body) = get(&format!("/authorities/{path}"))?;
        let made = fs::read_to_string(office.handoff(file)).doing("read the hand-off")?;
        // In the hand-off, a key line ends with a comment.
        assert!(body.len() > 80 && made.starts_with(body.trim_end()), "{path}: {body}{made}");
    }
    let (_, metrics) = get("/metrics")?;
    assert!(metrics.contains("chancery_certificates_total{kind=\"ssh_user\"} 1"), "{metrics}");
    for path in ["/v1/authorities", "/v1/certificates", "/v1/issue/ssh-user", "/../etc/passwd"] {
        let (head, _) = get(path)?;
        assert!(head.starts_with("HTTP/1.1 404"), "{path}: {head}");
    }
    Ok(())
}

#[test]
fn rules_are_read_anew_as_a_whole_or_not_at_all() -> Story {
    let mut office = Office::open()?;
    let alice = office.enrol("user/alice")?;
    login(&office, &alice, 201)?;
    let path = office.path("rules/roles.toml");
    let good = fs::read_to_string(&path).doing("read the rules")?;

    // One broken role spoils the file; the rules from before stay, the harmless part too.
    let broken =
        good.replace("name = \"login\"", "name = \"entry\"") + "[[role]]\nname = \"half\"\n";
    fs::write(&path, broken).doing("write the rules")?;
    office.appliance()?.signal(Signal::HUP);
    office.appliance()?.wait_until(SOON, |log| log.contains("the new rules are refused"))?;
    login(&office, &alice, 201)?;

    fs::write(&path, good.replace("name = \"login\"", "name = \"entry\""))
        .doing("write the rules")?;
    office.appliance()?.signal(Signal::HUP);
    wait_until("the end of a role", SOON, || Ok(login(&office, &alice, 403).is_ok()))
}

#[test]
fn whatever_was_granted_or_refused_is_in_the_audit_log() -> Story {
    let mut office = Office::open()?;
    let alice = office.enrol("user/alice")?;
    let issued = login(&office, &alice, 201)?;
    let bob = office.enrol("host/bob")?;
    login(&office, &bob, 403)?;

    let mut lines = String::new();
    for entry in fs::read_dir(office.path("audit")).doing("read the audit directory")? {
        let path = entry.doing("read the audit directory")?.path();
        lines += &fs::read_to_string(&path).doing("read the audit log")?;
    }
    let records: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).doing("read a record"))
        .collect::<Result<_, _>>()?;
    let numbers: Vec<_> = records.iter().filter_map(|record| record["seq"].as_u64()).collect();
    assert_eq!(numbers, (1..=records.len() as u64).collect::<Vec<_>>(), "{lines}");
    let about =
        |words: &[&str]| lines.lines().any(|line| words.iter().all(|word| line.contains(word)));
    let serial = format!("\"serial\":\"{}\"", issued["serial"].as_str().unwrap_or_default());
    assert!(about(&["ssh-user", "spiffe://example.test/user/alice", &serial]), "{lines}");
    assert!(about(&["spiffe://example.test/host/bob", "caller-not-in-role"]), "{lines}");

    let appliance = office.appliance()?;
    appliance.signal(Signal::TERM);
    wait_until("an end in order", SOON, || Ok(!appliance.running()?))
}

/// Asks for an SSH certificate; the answer must have this status.
fn login(office: &Office, identity: &Identity, status: u16) -> Result<Value, Failure> {
    let key = office.path("login_key");
    if !key.exists() {
        ssh::generate("ed25519", &key)?;
    }
    let public_key = fs::read_to_string(key.with_extension("pub")).doing("read a key")?;
    let body = json!({ "role": "login", "public_key": public_key });
    let answer = office.https(Some(identity))?.post("/v1/issue/ssh-user", &body)?;
    answer.expect_status(status)?.json()
}
