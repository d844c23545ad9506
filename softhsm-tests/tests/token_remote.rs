//! A token behind a server that dies and comes back, as one in a network does: clients wait a
//! little longer, and none of them gets an error.

#![expect(clippy::print_stderr, reason = "a figure is for whoever runs the test by hand")]

use std::time::{Duration, Instant};

use harness::{
    Doing, Failure, Story,
    load::Load,
    office::{Office, http_get},
    p11_kit::Server,
    process::wait_until,
    softhsm,
};

const CLIENTS: usize = 4;

const PATIENCE: Duration = Duration::from_secs(30);

/// Figure R5: how soon after the server is back signatures must be made again.
const RECOVERY: Duration = Duration::from_secs(5);

#[test]
fn a_p11_kit_server_that_is_killed_and_started_again_costs_no_client_an_answer() -> Story {
    let (mut office, mut server) = office_behind_server()?;
    let alice = office.enrol("user/alice")?;
    let (https, public) = (office.https(Some(&alice))?, office.public());
    let body = office.login_request("alice")?;
    let ask = || https.post("/v1/issue/ssh-user", &body)?.expect_status(201)?.json();
    let is_down = || {
        let metrics = http_get(public, "/metrics").doing("read /metrics")?;
        let down = r#"chancery_token_state{token="chancery",state="down"} 1"#;
        Ok(metrics.lines().any(|line| line == down))
    };
    let appliance = office.appliance()?.id();
    let (load, back) = Load::during(CLIENTS, ask, |load| {
        let mut back = Vec::new();
        for _ in 0..5 {
            let before = load.count();
            wait_until("answers", PATIENCE, || Ok(load.count() >= before + 10 * CLIENTS))?;
            server.kill()?;
            wait_until("the token is down", PATIENCE, is_down)?;
            server.start_again()?;
            let now = Instant::now();
            wait_until("answers again", PATIENCE, || Ok(load.asked_after(now) >= CLIENTS))?;
            back.push(now);
        }
        Ok(back)
    })?;
    let errors = load.errors();
    assert!(errors.is_empty(), "{} errors: {errors:#?}", errors.len());
    for back in back {
        let took = load.first_after(back).map(|first| first - back);
        eprintln!("the first signature {took:?} after the server was back");
        assert!(took.is_some_and(|took| took < RECOVERY), "{took:?}");
    }
    assert!(office.appliance()?.running()?, "the appliance ended");
    assert_eq!(office.appliance()?.id(), appliance);
    Ok(())
}

/// SoftHSM, as it is reached through a server; the ceremony was held through it, too.
fn office_behind_server() -> Result<(Office, Server), Failure> {
    let mut server = None;
    let office = Office::open_on(|directory| {
        let (started, remote) = Server::start(directory, softhsm::token(directory)?)?;
        server = Some(started);
        Ok(remote)
    })?;
    let server = server.ok_or_else(|| Failure::new("no server was started"))?;
    Ok((office, server))
}
