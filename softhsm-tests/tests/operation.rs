//! What operators rely on: the public listener, the rules read anew, the audit log, an end in order.

use std::{fs, time::Duration};

use harness::{
    Doing, Failure, Story,
    https::{Identity, Request},
    office::{Office, http_get, http_send},
    process::{Signal, wait_until},
};
use serde_json::Value;

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
fn every_path_that_is_described_is_there_for_its_method_and_no_other() -> Story {
    let office = Office::open()?;
    let alice = office.https(Some(&office.enrol("user/alice")?))?;
    let ask = |method: &str, path: &str| {
        let request = Request { method, path, headers: &[], body: b"" };
        if path.starts_with("/v1/") {
            alice.send(&request)
        } else {
            http_send(office.public(), &request)
        }
    };
    let document = ask("GET", "/openapi.json")?.expect_status(200)?.json()?;
    let paths = document["paths"].as_object().ok_or_else(|| Failure::new("there are no paths"))?;
    for (path, operations) in paths {
        if path.starts_with("/v1/join") {
            // There for those alone who show no certificate, and then nothing else is.
            continue;
        }
        let answer = ask("DELETE", &path.replace(['{', '}'], ""))?.expect_status(405)?;
        let right = match (operations["get"].is_object(), operations["post"].is_object()) {
            (true, true) => "GET,HEAD,POST",
            (true, false) => "GET,HEAD",
            (false, _) => "POST",
        };
        assert_eq!(answer.header("allow"), Some(right), "{path}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{path}");
    }
    for path in ["/v1/authorities", "/authorities/issuing.pem", "/healthz"] {
        let (head, whole) = (ask("HEAD", path)?.expect_status(200)?, ask("GET", path)?);
        assert!(head.body.is_empty() && !whole.body.is_empty(), "{path}");
        assert_eq!(head.header("content-length"), whole.header("content-length"), "{path}");
    }
    let strange = [
        ("/v1/certificates/%ff/1", 400),
        ("/v1/certificates/issuing", 404),
        ("/v1/certificates/issuing/1/2", 404),
        ("/v1/certificates/?limit=1", 404),
        ("/v1/certificates?limit=0", 400),
        ("/v1/certificates?limits=1", 400),
        ("/authorities/%ff", 400),
        ("/authorities/nobody.pem", 404),
        ("/authorities/", 404),
        ("//healthz", 404),
    ];
    for (path, expected) in strange {
        let answer = ask("GET", path)?;
        assert_eq!(answer.status, expected, "{path}: {}", answer.text());
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{path}");
    }
    Ok(())
}

#[test]
fn a_file_that_is_known_is_not_sent_again() -> Story {
    let office = Office::open()?;
    let ask = |headers: &[(&str, &str)]| {
        let path = "/authorities/issuing.pem";
        http_send(office.public(), &Request { method: "GET", path, headers, body: b"" })
    };
    let whole = ask(&[])?.expect_status(200)?;
    let tag = whole.header("etag").ok_or_else(|| Failure::new("the file has no ETag"))?;
    let known = ask(&[("if-none-match", tag)])?.expect_status(304)?;
    assert!(known.body.is_empty() && !whole.body.is_empty());
    assert_eq!(known.header("content-length"), whole.header("content-length"));
    assert_eq!(ask(&[("if-none-match", "\"another\"")])?.body, whole.body);
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

    let records = office.audit_records()?;
    let lines: Vec<_> = records.iter().map(Value::to_string).collect();
    let numbers: Vec<_> = records.iter().filter_map(|record| record["seq"].as_u64()).collect();
    assert_eq!(numbers, (1..=records.len() as u64).collect::<Vec<_>>(), "{lines:#?}");
    let about =
        |words: &[&str]| lines.iter().any(|line| words.iter().all(|word| line.contains(word)));
    let serial = format!("\"serial\":\"{}\"", issued["serial"].as_str().unwrap_or_default());
    assert!(about(&["ssh-user", "spiffe://example.test/user/alice", &serial]), "{lines:#?}");
    assert!(about(&["spiffe://example.test/host/bob", "caller-not-in-role"]), "{lines:#?}");

    let appliance = office.appliance()?;
    appliance.signal(Signal::TERM);
    wait_until("an end in order", SOON, || Ok(!appliance.running()?))
}

/// Asks for an SSH certificate; the answer must have this status.
fn login(office: &Office, identity: &Identity, status: u16) -> Result<Value, Failure> {
    let body = office.login_request("login_key")?;
    let answer = office.https(Some(identity))?.post("/v1/issue/ssh-user", &body)?;
    answer.expect_status(status)?.json()
}
