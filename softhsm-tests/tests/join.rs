//! Hosts join with a token, once; and strangers get nothing else.

use std::{fs, path::PathBuf, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use harness::{
    Doing, Failure, Story,
    https::{Https, Identity, Response},
    office::Office,
    openssl,
    process::{run, wait_until},
};
use serde_json::{Value, json};

const HOST: &str = "web1.example.test";

#[test]
fn a_host_joins_hears_what_is_revoked_and_is_removed() -> Story {
    let office = Office::open()?;
    let operator = office.https(Some(office.operator()))?;
    let token = add(&operator, &json!({ "name": HOST, "mode": "best-effort" }))?;
    let (key, csr) = key_and_request(&office, "host")?;
    let joined = join(&office, &token, &csr)?.expect_status(201)?.json()?;
    assert_eq!((&joined["name"], &joined["mode"]), (&json!(HOST), &json!("best-effort")));
    let host = office.https(Some(&identity(&office, &joined, key)?))?;

    let bundle = host.get("/v1/revocations?wait=0")?.expect_status(200)?.json()?;
    assert_signed(&office, &bundle, &joined)?;
    let version = version(&bundle)?;
    let later = format!("/v1/revocations?after={version}&wait=1");
    host.get(&later)?.expect_status(204)?;
    host.get("/v1/revocations?wait=61")?.expect_status(400)?;
    let acknowledge =
        |version: u64| host.post("/v1/revocations/acknowledge", &json!({ "version": version }));
    acknowledge(version)?.expect_status(204)?;
    acknowledge(version + 1)?.expect_status(400)?;
    let logins = json!({ "logins": [{
        "connection": "1", "issuer": "ssh-user", "serial": 7, "user": "alice",
        "at": "2026-01-01T00:00:00Z"
    }] });
    host.post("/v1/logins", &logins)?.expect_status(204)?;

    let listed = operator.get("/v1/hosts")?.expect_status(200)?.json()?;
    let known = &listed["hosts"][0];
    assert_eq!((&known["name"], &known["version"]), (&json!(HOST), &json!(version)));
    assert_eq!(known["connections"], 1);
    assert!(known["joined_at"].is_string() && known["last_seen"].is_string(), "{listed}");
    host.get("/v1/hosts")?.expect_status(403)?;

    let because = json!({ "reason": "it was sold" });
    let path = format!("/v1/hosts/{HOST}/remove");
    operator.post(&path, &because)?.expect_status(200)?;
    operator.post(&path, &because)?.expect_status(404)?;
    let told = host.get("/v1/revocations?wait=0")?.expect_status(403)?.json()?;
    assert_reason(&told, "not-joined");
    let certificate = office.path("host.pem");
    wait_until("its certificate is on the list", Duration::from_secs(30), || {
        Ok(openssl::verify_with_crl(&office, "services", &certificate)?
            .output()
            .contains("certificate revoked"))
    })?;
    for event in ["host_added", "host_joining", "host_joined", "login", "host_removed"] {
        assert!(audited(&office, event)?.contains(HOST), "{event}");
    }
    Ok(())
}

#[test]
fn a_one_use_certificate_is_used_up_by_its_first_connection() -> Story {
    let office = Office::open()?;
    let operator = office.https(Some(office.operator()))?;
    let token = add(&operator, &json!({ "name": HOST }))?;
    let (key, csr) = key_and_request(&office, "host")?;
    let joined = join(&office, &token, &csr)?.expect_status(201)?.json()?;
    let host = office.https(Some(&identity(&office, &joined, key)?))?;
    let alice = office.enrol("user/alice")?;
    let certificate = || {
        let issued = office.ask(&alice, "/v1/issue/ssh-user", &office.login_request("alice")?)?;
        let serial = issued["serial"].as_str().and_then(|serial| serial.parse::<u64>().ok());
        serial.ok_or_else(|| Failure::new("no serial number").said(issued.to_string()))
    };
    let consume = |serial: u64, connection: &str| {
        let body = json!({ "issuer": "ssh-user", "serial": serial, "connection": connection });
        host.post("/v1/consume", &body)
    };
    let serial = certificate()?;
    consume(serial, "first")?.expect_status(204)?;
    consume(serial, "first")?.expect_status(204)?;
    assert_reason(&consume(serial, "second")?.expect_status(403)?.json()?, "used-up");
    assert!(audited(&office, "used_up")?.contains(HOST));

    let revoked = certificate()?;
    let body = json!({
        "issuer": "ssh-user",
        "serial": revoked.to_string(),
        "code": "key-compromise",
        "reason": "a story",
    });
    operator.post("/v1/revoke", &body)?.expect_status(200)?;
    for not_valid in [revoked, 4_000_000_000] {
        let told = consume(not_valid, "third")?.expect_status(403)?.json()?;
        assert_reason(&told, "not-valid");
    }
    let asked = office.https(Some(&alice))?.post(
        "/v1/consume",
        &json!({ "issuer": "ssh-user", "serial": serial, "connection": "mine" }),
    )?;
    assert_reason(&asked.expect_status(403)?.json()?, "not-a-host");
    Ok(())
}

#[test]
fn a_token_is_for_one_key_and_for_a_while() -> Story {
    let office = Office::open()?;
    let operator = office.https(Some(office.operator()))?;
    let token = add(&operator, &json!({ "name": HOST }))?;
    let (_, csr) = key_and_request(&office, "first")?;

    // What does not prove to have its key uses no token up.
    let broken = csr.replacen('M', "N", 1);
    join(&office, &token, &broken)?.expect_status(422)?;
    let wrong = json!({ "secret": "A".repeat(43) });
    let refused = join(&office, &wrong, &csr)?.expect_status(403)?.json()?;
    assert_reason(&refused, "no-such-join-token");
    assert!(audited(&office, "denied")?.contains("no-such-join-token"));

    let first = join(&office, &token, &csr)?.expect_status(201)?.json()?;
    let again = join(&office, &token, &csr)?.expect_status(201)?.json()?;
    assert_eq!(first, again, "an answer that was lost comes again");
    let (_, other) = key_and_request(&office, "other")?;
    let refused = join(&office, &token, &other)?.expect_status(403)?.json()?;
    assert_reason(&refused, "join-token-used");

    // A new token takes the place of the old one.
    let brief = add(&operator, &json!({ "name": HOST, "ttl": 1 }))?;
    let gone = join(&office, &token, &csr)?.expect_status(403)?.json()?;
    assert_reason(&gone, "no-such-join-token");
    wait_until("the end of a token of one second", Duration::from_secs(20), || {
        let answer = join(&office, &brief, &csr)?;
        Ok(answer.status == 403 && answer.text().contains("join-token-expired"))
    })
}

#[test]
fn strangers_may_join_and_nothing_else() -> Story {
    let office = Office::open()?;
    let stranger = office.https(None)?;
    for path in ["/v1/authorities", "/v1/certificates", "/v1/hosts", "/v1/revocations", "/", "/x"] {
        let problem = stranger.get(path)?.expect_status(403)?.json()?;
        assert_reason(&problem, "no-certificate");
    }
    let (_, csr) = key_and_request(&office, "any")?;
    for path in ["/v1/issue/x509", "/v1/hosts", "/v1/revoke", "/v1/locks", "/v1/sign"] {
        let problem = stranger.post(path, &json!({ "csr": csr }))?.expect_status(403)?.json()?;
        assert_reason(&problem, "no-certificate");
    }
    stranger.get("/v1/join")?.expect_status(403)?;
    stranger.post("/v1/join", &json!({ "csr": csr }))?.expect_status(400)?;

    let alice = office.enrol("user/alice")?;
    let denied = office.https(Some(&alice))?.post("/v1/hosts", &json!({ "name": HOST }))?;
    assert_reason(&denied.expect_status(403)?.json()?, "not-an-operator");
    // A certificate for the name of a host is not enough.
    let ghost = office.https(Some(&office.enrol("host/ghost.example.test")?))?;
    let told = ghost.get("/v1/revocations?wait=0")?.expect_status(403)?.json()?;
    assert_reason(&told, "not-joined");
    Ok(())
}

fn add(operator: &Https, body: &Value) -> Result<Value, Failure> {
    let token = operator.post("/v1/hosts", body)?.expect_status(201)?.json()?;
    assert_eq!(token["secret"].as_str().map(str::len), Some(43), "{token}");
    Ok(token)
}

fn join(office: &Office, token: &Value, csr: &str) -> Result<Response, Failure> {
    let body = json!({ "secret": token["secret"], "csr": csr });
    office.https(None)?.post("/v1/join", &body)
}

fn key_and_request(office: &Office, name: &str) -> Result<(PathBuf, String), Failure> {
    let (key, request) = (office.path(format!("{name}.key")), office.path(format!("{name}.csr")));
    openssl::generate("ec:P-256", &key)?;
    openssl::request(&key, "/CN=host", &[], &request)?;
    Ok((key, fs::read_to_string(&request).doing("read a request")?))
}

fn identity(office: &Office, joined: &Value, key: PathBuf) -> Result<Identity, Failure> {
    let certificate = office.path("host.pem");
    let pem = joined["certificate"].as_str().unwrap_or_default();
    fs::write(&certificate, pem).doing("write a certificate")?;
    Ok(Identity { certificate, key })
}

/// OpenSSL agrees that the publication key signed the statement.
fn assert_signed(office: &Office, bundle: &Value, joined: &Value) -> Story {
    let [statement, signature, key] =
        ["statement", "signature", "publication.pub"].map(|name| office.path(name));
    let text = bundle["statement"].as_str().unwrap_or_default();
    fs::write(&statement, text).doing("write a statement")?;
    let bytes = STANDARD.decode(bundle["signature"].as_str().unwrap_or_default());
    fs::write(&signature, bytes.doing("read a signature")?).doing("write a signature")?;
    let pem = joined["publication_key"].as_str().unwrap_or_default();
    fs::write(&key, pem).doing("write a key")?;
    let mut command = openssl::openssl()?;
    command.args(["dgst", "-sha256", "-verify"]).arg(&key).arg("-signature").arg(&signature);
    run(command.arg(&statement))?.success().map(drop)
}

fn version(bundle: &Value) -> Result<u64, Failure> {
    let statement = bundle["statement"].as_str().unwrap_or_default();
    let version = statement.lines().find_map(|line| line.strip_prefix("version ")?.parse().ok());
    version.ok_or_else(|| Failure::new("a statement without a version").said(statement))
}

fn assert_reason(problem: &Value, reason: &str) {
    assert_eq!(problem["reason"], reason, "{problem}");
}

fn audited(office: &Office, event: &str) -> Result<String, Failure> {
    let records = office.audit_records()?;
    let found = records.iter().filter(|record| record["event"] == event);
    Ok(found.map(Value::to_string).collect())
}
