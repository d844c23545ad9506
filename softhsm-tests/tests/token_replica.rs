//! Two tokens with the same keys: one is unplugged under load, and no client notices.

use std::{
    fs,
    process::Command,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use harness::{
    Doing, Failure, Story,
    https::Https,
    office::{Office, TOKEN, http_get},
    process::{run, wait_until},
    shim::{Action, Fault, Plan},
    softhsm::SoftHsm,
    ssh,
};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(30);

const CLIENTS: usize = 4;

#[test]
fn a_replica_stands_in_for_a_token_that_is_unplugged() -> Story {
    let (mut office, shim) = Office::open_with_shim()?;
    office.kill();
    let serial = add_replica(&office)?;
    let probe = ["token", "probe", "--config", "chanceryd.toml", "--seconds", "0"];
    let told = run(office.chanceryd(&probe)?.args(["--replica", &serial, "--json"]))?.success()?;
    let told: Value = serde_json::from_str(&told.stdout).doing("read the probe's JSON")?;
    assert_eq!(told["token"]["identity"]["serial"], serial.as_str(), "{told:#}");
    run(office.chanceryd(&probe)?.args(["--replica", "4711"]))?.refused("no replica has")?;
    office.restart()?;
    let https = office.https(Some(&office.enrol("user/alice")?))?;
    let key = office.path("alice_ssh");
    ssh::generate("ed25519", &key)?;
    let public_key = fs::read_to_string(key.with_extension("pub")).doing("read a key")?;
    let request = json!({ "role": "login", "public_key": public_key });
    let load = Load::default();
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| load.ask(&https, &request));
        }
        let told = unplug_and_plug_in(&office, &shim, &load);
        load.over.store(true, Ordering::Relaxed);
        told
    })?;
    let errors = load.errors.into_inner().unwrap_or_else(PoisonError::into_inner);
    assert!(errors.is_empty(), "{} errors: {errors:#?}", errors.len());
    let audited = audit(&office)?;
    assert!(audited.contains(&format!("{TOKEN} down")), "{audited:?}");
    let quiet =
        |line: &String| !line.starts_with(&format!("{TOKEN}/{serial} ")) || line.ends_with("up");
    assert!(audited.iter().all(quiet), "nothing was wrong with the replica: {audited:?}");
    Ok(())
}

fn unplug_and_plug_in(office: &Office, shim: &harness::shim::Shim, load: &Load) -> Story {
    load.more()?;
    shim.play(Plan { faults: vec![Fault::everywhere(Action::Remove)], ..Plan::default() })?;
    let down = format!("chancery_token_state{{token=\"{TOKEN}\",state=\"down\"}} 1");
    wait_until("the token is down", PATIENCE, || Ok(metrics(office)?.contains(&down)))?;
    load.more()?;
    let ready = http_get(office.public(), "/readyz").doing("read /readyz")?;
    assert!(ready.starts_with("HTTP/1.1 200"), "{ready}");
    assert!(ready.contains(&format!("token \\\"{TOKEN}\\\" is down")), "{ready}");
    shim.heal()?;
    wait_until("it signs again", PATIENCE, || Ok(!metrics(office)?.contains(&down)))?;
    load.more()
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
fn audit(office: &Office) -> Result<Vec<String>, Failure> {
    let mut states = Vec::new();
    for entry in fs::read_dir(office.path("audit")).doing("list the audit directory")? {
        let path = entry.doing("list the audit directory")?.path();
        if path.extension().is_none_or(|extension| extension != "jsonl") {
            continue;
        }
        for line in fs::read_to_string(&path).doing("read the audit log")?.lines() {
            let entry: Value = serde_json::from_str(line).doing("read an audit entry")?;
            if let (Some(token), Some(state)) = (entry["token"].as_str(), entry["state"].as_str()) {
                states.push(format!("{token} {state}"));
            }
        }
    }
    Ok(states)
}

/// Clients that ask as fast as they can.
#[derive(Default)]
struct Load {
    over: AtomicBool,
    answers: AtomicUsize,
    errors: Mutex<Vec<String>>,
}

impl Load {
    fn ask(&self, https: &Https, request: &Value) {
        while !self.over.load(Ordering::Relaxed) {
            let answer = https.post("/v1/issue/ssh-user", request);
            match answer.and_then(|response| response.expect_status(201)) {
                Ok(_) => drop(self.answers.fetch_add(1, Ordering::Relaxed)),
                Err(failure) => {
                    let mut errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
                    errors.push(failure.to_string());
                }
            }
        }
    }

    /// Waits for another hundred answers.
    fn more(&self) -> Story {
        let before = self.answers.load(Ordering::Relaxed);
        wait_until("a hundred answers", PATIENCE, || {
            Ok(self.answers.load(Ordering::Relaxed) >= before + 100)
        })
    }
}
