//! How soon the end of a session ends a connection, seen from the side that is cut.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use harness::{
    Failure,
    agent::{Host, RULES},
    failure::Doing,
    https::{Https, Identity},
    office::Office,
    process::wait_until,
    ssh,
};
use serde_json::{Value, json};

/// From the moment at which a session is about to be ended until ssh, which was logged in by its
/// certificate, has lost its connection and exited; sorted, over so many sessions.
pub(crate) fn measure(times: usize) -> Result<Vec<Duration>, Failure> {
    let scene = Scene::open()?;
    let mut took = Vec::with_capacity(times);
    for number in 0..times {
        took.push(scene.round(number)?);
    }
    took.sort_unstable();
    Ok(took)
}

/// An office, a host with its agent and sshd, and somebody who works there.
struct Scene {
    // Its sshd and agent end before the directory that they lie in goes.
    host: Host,
    alice: Identity,
    https: Https,
    office: Office,
}

impl Scene {
    fn open() -> Result<Self, Failure> {
        let mut office = Office::prepare()?;
        fs::write(office.path("rules/hosts.toml"), RULES).doing("write the rules")?;
        office.begin()?;
        let alice = office.enrol("user/alice")?;
        let host = Host::join(&office, HOST, "alice")?;
        let https = office.https(Some(&alice))?;
        Ok(Self { host, alice, https, office })
    }

    fn round(&self, number: usize) -> Result<Duration, Failure> {
        let session = json!({ "role": "access", "reason": "a measurement", "targets": [HOST] });
        let session = self.https.post("/v1/sessions", &session)?.expect_status(200)?.json()?;
        let id = session["id"].as_str().unwrap_or_default();
        let key = self.certify(number, id)?;
        let mut ssh = self.host.stay(&key, &[], &format!("{number}.log"))?;
        let end = json!({ "reason": "a measurement" });
        let start = Instant::now();
        self.https.post(&format!("/v1/sessions/{id}/end"), &end)?.expect_status(200)?;
        wait_until("the end of a connection", PATIENCE, || Ok(!ssh.running()?))?;
        Ok(start.elapsed())
    }

    /// A key of its own for each session, with its certificate beside it.
    fn certify(&self, number: usize, session: &str) -> Result<PathBuf, Failure> {
        let key = self.office.path(format!("key-{number}"));
        ssh::generate("ed25519", &key)?;
        let public_key = fs::read_to_string(key.with_extension("pub")).doing("read a key")?;
        let wish = json!({ "role": "session-login", "public_key": public_key, "session": session });
        let issued: Value = self.office.ask(&self.alice, "/v1/issue/ssh-user", &wish)?;
        let certificate = issued["certificate"].as_str().unwrap_or_default();
        let path = self.office.path(format!("key-{number}-cert.pub"));
        fs::write(path, format!("{certificate}\n")).doing("write a certificate")?;
        Ok(key)
    }
}

const HOST: &str = "web1.example.test";

const PATIENCE: Duration = Duration::from_secs(30);
