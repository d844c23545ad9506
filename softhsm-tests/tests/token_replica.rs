//! Two tokens with the same keys: one is unplugged under load, and no client notices.

use std::{fs, process::Command, time::Duration};

use harness::{
    Doing, Failure, Story,
    load::Load,
    office::{Office, TOKEN, http_get},
    process::{run, wait_until},
    shim::{Action, Fault, Plan, Shim},
    softhsm::SoftHsm,
};

const PATIENCE: Duration = Duration::from_secs(30);

const CLIENTS: usize = 4;

#[test]
fn a_replica_stands_in_for_a_token_that_is_unplugged() -> Story {
    let (mut office, shim) = Office::open_with_shim()?;
    office.kill();
    let serial = add_replica(&office)?;
    office.restart()?;
    let https = office.https(Some(&office.enrol("user/alice")?))?;
    let request = office.login_request("alice_ssh")?;
    let ask = || https.post("/v1/issue/ssh-user", &request)?.expect_status(201)?.json();
    let (load, ()) = Load::during(CLIENTS, ask, |load| unplug_and_plug_in(&office, &shim, load))?;
    let errors = load.errors();
    assert!(errors.is_empty(), "{} errors: {errors:#?}", errors.len());
    let audited = states(&office)?;
    assert!(audited.contains(&format!("{TOKEN} down")), "{audited:?}");
    let replica = format!("{TOKEN}/{serial} ");
    assert!(audited.contains(&format!("{replica}up")), "{audited:?}");
    let quiet = |line: &String| !line.starts_with(&replica) || line.ends_with("up");
    assert!(audited.iter().all(quiet), "nothing was wrong with the replica: {audited:?}");
    Ok(())
}

fn unplug_and_plug_in(office: &Office, shim: &Shim, load: &Load) -> Story {
    more(load)?;
    shim.play(Plan { faults: vec![Fault::everywhere(Action::Remove)], ..Plan::default() })?;
    let down = format!("chancery_token_state{{token=\"{TOKEN}\",state=\"down\"}} 1");
    wait_until("the token is down", PATIENCE, || Ok(metrics(office)?.contains(&down)))?;
    more(load)?;
    let ready = http_get(office.public(), "/readyz").doing("read /readyz")?;
    assert!(ready.starts_with("HTTP/1.1 200"), "{ready}");
    assert!(ready.contains(&format!("token \\\"{TOKEN}\\\" is down")), "{ready}");
    shim.heal()?;
    wait_until("it signs again", PATIENCE, || Ok(!metrics(office)?.contains(&down)))?;
    more(load)
}

/// Copies the office's token, as it is after the ceremony, and has the appliance use both.
fn add_replica(office: &Office) -> Result<String, Failure> {
    let replica = SoftHsm::new(&office.path("replica"))?;
    let mut copy = Command::new("cp");
    copy.arg("-rT").arg(office.path("token/tokens")).arg(office.path("replica/tokens"));
    run(&mut copy)?.success()?;
    let handoff = fs::read_to_string(office.handoff("handoff.toml")).doing("read the hand-off")?;
    let handoff: toml::Table = handoff.parse().doing("read the hand-off")?;
    let serial = handoff["token"]["serial"].as_str().unwrap_or_default().to_owned();
    let path = office.path("chanceryd.toml");
    let mut configuration = fs::read_to_string(&path).doing("read the configuration")?;
    configuration.push_str(&format!(
        r#"
[[replica]]
module = {module:?}
label = "{TOKEN}"
serial = "{serial}"
pin_file = "pin"
environment = {{ SOFTHSM2_CONF = "./replica/softhsm2.conf" }}
sandbox = {{ writable = ["replica/tokens"] }}
"#,
        module = replica.module(),
    ));
    fs::write(&path, configuration).doing("write the configuration")?;
    Ok(serial)
}

fn metrics(office: &Office) -> Result<String, Failure> {
    http_get(office.public(), "/metrics").doing("read /metrics")
}

/// The states that were audited, each after its token's name.
fn states(office: &Office) -> Result<Vec<String>, Failure> {
    let mut states = Vec::new();
    for entry in office.audit_records()? {
        if let (Some(token), Some(state)) = (entry["token"].as_str(), entry["state"].as_str()) {
            states.push(format!("{token} {state}"));
        }
    }
    Ok(states)
}

/// Waits for another hundred answers.
fn more(load: &Load) -> Story {
    let before = load.count();
    wait_until("a hundred answers", PATIENCE, || Ok(load.count() >= before + 100))
}
