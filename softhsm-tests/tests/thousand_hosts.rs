//! A thousand hosts wait for what is taken back: all hear of it, and the appliance knows.

#![expect(clippy::print_stdout, reason = "the figures are for people to see")]

use std::time::Duration;

use harness::{
    Story,
    fleet::Fleet,
    https::Request,
    office::{Office, http_send},
    process::wait_until,
};
use serde_json::json;

const HOSTS: usize = 1_000;

/// Far longer than it takes; how long it takes is a figure of `make bench`.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn all_of_a_thousand_hosts_acknowledge_what_is_taken_back() -> Story {
    let office = Office::open()?;
    let fleet = Fleet::join(&office, HOSTS)?;
    let alice = office.enrol("user/alice")?;
    let issued = office.ask(&alice, "/v1/issue/ssh-user", &office.login_request("alice")?)?;

    let operator = office.https(Some(office.operator()))?;
    let revoke = json!({
        "issuer": "ssh-user",
        "serial": issued["serial"],
        "code": "key-compromise",
        "reason": "a story",
    });
    let asking = operator.clone();
    let took =
        fleet.hear_of(move || asking.post("/v1/revoke", &revoke)?.expect_status(200).map(drop))?;
    let at = |percent: usize| took[(took.len() * percent / 100).min(took.len() - 1)];
    println!("{} hosts: p50 {:?}, p99 {:?}, slowest {:?}", took.len(), at(50), at(99), at(100));
    assert_eq!(took.len(), HOSTS);
    assert!(at(100) < PATIENCE, "{:?}", at(100));

    let effect = operator.get("/v1/effects/1?wait=10")?.expect_status(200)?.json()?;
    let hosts = effect["hosts"].as_array().map(Vec::as_slice).unwrap_or_default();
    assert_eq!(hosts.len(), HOSTS);
    assert!(hosts.iter().all(|host| host["applied_after"].is_u64()), "{effect}");
    assert!(effect["version"].is_u64() && effect["published_after"].is_u64(), "{effect}");

    // Whoever waits gives its place back as soon as it goes.
    wait_until("all hosts have gone", PATIENCE, || {
        let request = Request { method: "GET", path: "/metrics", headers: &[], body: b"" };
        let metrics = http_send(office.public(), &request)?.text();
        let name = "chancery_connections{listener=\"api\"} ";
        let open = metrics.lines().find_map(|line| line.strip_prefix(name)?.parse::<usize>().ok());
        Ok(open.is_some_and(|open| open < 10))
    })
}
