//! A client that asks more often than it may is told when to come back: nothing is signed or
//! recorded for it, and others do not notice.

use std::{fs, process::Command};

use harness::{
    Doing, Failure, Story,
    https::Https,
    office::{Office, http_get},
    process::run,
};
use serde_json::{Value, json};

/// What the office's appliance has otherwise.
const WIDE: &str = "rate = 1000000\nburst = 1000000\n";

/// As narrow as there is: the clock of the appliance is real here.
const NARROW: &str = r#"rate = 1000000
burst = 1000000

[[limits.clients]]
id = "spiffe://example.test/user/*"
rate = 1
burst = 5
"#;

#[test]
fn a_client_that_asks_too_often_is_told_when_to_come_back() -> Story {
    let office = narrow_office()?;
    let alice = office.enrol("user/alice")?;
    let (https, request) = (office.https(Some(&alice))?, office.login_request("key")?);
    let mut issued = 0;
    let refused = loop {
        let answer = https.post("/v1/issue/ssh-user", &request)?;
        if answer.status != 201 {
            break answer.expect_status(429)?;
        }
        issued += 1;
        assert!(issued < 500, "never refused");
    };
    assert!(issued >= 5, "{issued}");
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(refused.header("content-type"), Some("application/problem+json"));
    let problem = refused.json()?;
    assert_eq!(problem["type"], "urn:chancery:problem:too-many-requests");
    assert_eq!((&problem["status"], &problem["retry_after"]), (&json!(429), &json!(1)));

    let bob = office.https(Some(&office.enrol("user/bob")?))?;
    bob.post("/v1/issue/ssh-user", &request)?.expect_status(201)?;
    assert_eq!(of_alice(&office)?, issued, "what was refused is in the ledger");

    // Who speaks Chancery waits, and gets what it asked for.
    let key = office.path("key.pub").display().to_string();
    let arguments = ["request", "ssh", "--role", "login", "--key", &key];
    let mut patient: Command = office.chancery(&alice, &arguments)?;
    run(&mut patient)?.success()?;
    assert_eq!(of_alice(&office)?, issued + 1);
    Ok(())
}

#[test]
fn a_batch_waits_for_its_turn_and_not_for_ever() -> Story {
    let office = narrow_office()?;
    let alice = office.https(Some(&office.enrol("user/alice")?))?;
    let mut request = office.login_request("key")?;
    request["operation"] = "ssh_user".into();
    let line = json!({ "request": request }).to_string();
    let results = batch(&alice, &vec![line; 30].join("\n"))?;
    let statuses: Vec<_> = results.iter().filter_map(|result| result["status"].as_u64()).collect();
    let issued = statuses.iter().take_while(|status| **status == 201).count();
    // Five at once and one a second for ten seconds, but for what the clock gives meanwhile.
    assert!((10..=25).contains(&issued), "{statuses:?}");
    assert!(statuses[issued..].iter().all(|status| [201, 429].contains(status)), "{statuses:?}");
    assert_eq!(results[29]["problem"]["retry_after"], 1, "{}", results[29]);
    let metrics = http_get(office.public(), "/metrics").doing("read /metrics")?;
    let refused = statuses.iter().filter(|status| **status == 429).count();
    let line = format!("chancery_rate_limited_total {refused}");
    assert!(metrics.lines().any(|own| own == line), "{line}: {metrics}");
    Ok(())
}

fn narrow_office() -> Result<Office, Failure> {
    let mut office = Office::open()?;
    let path = office.path("chanceryd.toml");
    let text = fs::read_to_string(&path).doing("read chanceryd.toml")?;
    assert!(text.contains(WIDE), "{text}");
    fs::write(&path, text.replace(WIDE, NARROW)).doing("write chanceryd.toml")?;
    office.restart()?;
    Ok(office)
}

/// How many SSH certificates the ledger has for alice.
fn of_alice(office: &Office) -> Result<usize, Failure> {
    let path = "/v1/certificates?kind=ssh_user&limit=1000&caller=spiffe://example.test/user/alice";
    let page = office.https(Some(office.operator()))?.get(path)?.expect_status(200)?.json()?;
    page["certificates"]
        .as_array()
        .map(Vec::len)
        .ok_or_else(|| Failure::new("no page of certificates").said(page.to_string()))
}

fn batch(https: &Https, lines: &str) -> Result<Vec<Value>, Failure> {
    let answer = https.send(&harness::https::Request {
        method: "POST",
        path: "/v1/batch",
        headers: &[("content-type", "application/x-ndjson")],
        body: lines.as_bytes(),
    })?;
    let text = answer.expect_status(200)?.text();
    text.lines().map(|line| serde_json::from_str(line).doing("read a line")).collect()
}
