//! A host with the agent: what is taken back at the appliance ends on the host, and the appliance
//! knows when.

use std::{fs, process::Command, time::Duration};

use harness::{
    Doing, Failure, Story,
    agent::{Host, RULES},
    https::Identity,
    office::Office,
    process::{Answer, Daemon, run, wait_until},
};
use serde_json::Value;

const HOST: &str = "web1.example.test";
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn the_end_of_a_session_ends_its_connection_with_all_channels_and_each_login_after() -> Story {
    let scene = Scene::open()?;
    let id = scene.session(&[])?;
    scene.certify("alice", &id)?.success()?;
    let (key, login) = (scene.office.path("alice"), scene.login("alice"));
    assert_eq!(login.run("echo $((6 * 7))")?.success()?.stdout, "42\n");

    let control = |mode: &str| {
        let path = format!("ControlPath={}", scene.office.path("control").display());
        [path, format!("ControlMaster={mode}")]
    };
    let mut master = scene.host.stay(&key, &control("yes"), "master.log")?;
    let mut channel = scene.host.stay(&key, &control("no"), "channel.log")?;
    scene.host.wait_for_connections(1)?;

    let words = ["--json", "session", "end", &id, "--reason", "done", "--wait", "30s"];
    let said = scene.chancery(&scene.alice, &words)?.success()?.stdout;
    wait_for_end(&mut master)?;
    wait_for_end(&mut channel)?;
    login.run("true")?.refused("Permission denied")?;

    // Who ended it was told where it is in force, since when, and what that cut.
    let effect = said.lines().rev().find_map(|line| serde_json::from_str::<Value>(line).ok());
    let effect = effect.unwrap_or_default();
    let hosts = &effect["hosts"];
    assert_eq!((&hosts[0]["host"], &hosts[0]["cut"]), (&HOST.into(), &1.into()), "{said}");
    let after = hosts[0]["applied_after"].as_u64();
    assert!(after.is_some_and(|after| after < 30_000), "{said}");
    // So were the auditors, and of the logins.
    wait_until("the ends of both logins", PATIENCE, || {
        let records = scene.office.audit_records()?;
        let of_host = records.iter().map(Value::to_string).filter(|it| it.contains(HOST));
        let logins: Vec<_> = of_host.filter(|it| it.contains("\"login\"")).collect();
        Ok(logins.len() >= 4)
    })?;
    let listed = scene.chancery(scene.office.operator(), &["host", "list"])?.success()?.stdout;
    assert!(listed.contains(HOST), "{listed}");
    Ok(())
}

#[test]
fn a_lock_a_foreign_target_and_a_used_certificate_keep_out() -> Story {
    let scene = Scene::open()?;
    let here = scene.session(&[])?;
    scene.certify("here", &here)?.success()?;
    let elsewhere = scene.session_on("web2.example.test", &[])?;
    scene.certify("elsewhere", &elsewhere)?.success()?;
    let once = scene.session(&["--one-use"])?;
    scene.certify("once", &once)?.success()?;

    scene.login("elsewhere").run("true")?.refused("Permission denied")?;
    scene.login("once").run("true")?.success()?;
    scene.login("once").run("true")?.refused("Permission denied")?;
    let log = scene.host.log()?;
    for why in ["the certificate is for other hosts", "the appliance did not grant it"] {
        assert!(log.contains(why), "{why}: {log}");
    }

    let mut stays = scene.host.stay(&scene.office.path("here"), &[], "here.log")?;
    let words = ["lock", "add", "user:alice", "--reason", "laptop lost", "--yes"];
    scene.chancery(scene.office.operator(), &words)?.success()?;
    wait_for_end(&mut stays)?;
    scene.login("here").run("true")?.refused("Permission denied")?;

    // By the roles that docs/hosts.md shows, the host's agent will renew its own certificate.
    let words = ["--json", "request", "x509", "--role", "host-client", "--new-key", "renewed.key"];
    let issued = scene.chancery(&scene.host.identity(), &words)?.success()?.stdout;
    assert!(issued.contains("tls_client"), "{issued}");

    let said = scene.host.doctor()?.success()?;
    assert!(!said.stdout.contains("error:"), "{}", said.output());
    Ok(())
}

#[test]
fn what_was_taken_back_by_an_appliance_that_is_killed_ends_when_it_is_back() -> Story {
    let mut scene = Scene::open()?;
    let id = scene.session(&[])?;
    scene.certify("alice", &id)?.success()?;
    let mut stays = scene.host.stay(&scene.office.path("alice"), &[], "alice.log")?;
    scene.host.wait_for_connections(1)?;
    scene.office.keep_port()?;

    // The answer is there; whether it was published already, chance decides.
    let words = ["session", "end", &id, "--reason", "done"];
    let mut end = scene.office.chancery(&scene.alice, &words)?;
    let before = scene.revoked(&id)?;
    let mut end = Daemon::start("chancery", &mut end, &scene.office.path("end.log"))?;
    wait_until("the end of the session in the ledger", PATIENCE, || {
        Ok(scene.revoked(&id)? > before || !end.running()?)
    })?;
    scene.office.kill();
    scene.office.restart()?;
    wait_for_end(&mut stays)?;
    scene.login("alice").run("true")?.refused("Permission denied")?;

    // The host goes on with the appliance that came back: another session, another end.
    let id = scene.session(&[])?;
    scene.certify("again", &id)?.success()?;
    let mut stays = scene.host.stay(&scene.office.path("again"), &[], "again.log")?;
    let words = ["session", "end", &id, "--reason", "done"];
    scene.chancery(&scene.alice, &words)?.success()?;
    wait_for_end(&mut stays)
}

/// An office with a host, and somebody who works there.
struct Scene {
    // Its sshd and agent end before the directory that they lie in goes.
    host: Host,
    alice: Identity,
    office: Office,
}

impl Scene {
    fn open() -> Result<Self, Failure> {
        let mut office = Office::prepare()?;
        fs::write(office.path("rules/hosts.toml"), RULES).doing("write the rules")?;
        office.begin()?;
        let alice = office.enrol("user/alice")?;
        let host = Host::join(&office, HOST, "alice")?;
        Ok(Self { host, alice, office })
    }

    /// How many audit records speak of a session's end.
    fn revoked(&self, session: &str) -> Result<usize, Failure> {
        let records = self.office.audit_records()?;
        let ends = records.iter().filter(|it| {
            let text = it.to_string();
            text.contains(session) && text.contains("ended")
        });
        Ok(ends.count())
    }

    fn session(&self, more: &[&str]) -> Result<String, Failure> {
        self.session_on(HOST, more)
    }

    /// The id of a new session of Alice's.
    fn session_on(&self, target: &str, more: &[&str]) -> Result<String, Failure> {
        let words = ["--json", "session", "request", "--role", "access", "--reason", "r"];
        let words = [&words[..], &["--target", target], more].concat();
        let answer = self.chancery(&self.alice, &words)?.success()?;
        let session: Value = serde_json::from_str(&answer.stdout).doing("read a session")?;
        Ok(session["id"].as_str().unwrap_or_default().to_owned())
    }

    fn certify(&self, key: &str, session: &str) -> Result<Answer, Failure> {
        let words = ["request", "ssh", "--role", "session-login", "--key", key, "--generate"];
        self.chancery(&self.alice, &[&words[..], &["--session", session]].concat())
    }

    fn chancery(&self, who: &Identity, words: &[&str]) -> Result<Answer, Failure> {
        let mut command: Command = self.office.chancery(who, words)?;
        run(&mut command)
    }

    fn login(&self, key: &str) -> harness::ssh::Login {
        self.host.login(&self.office.path(key))
    }
}

fn wait_for_end(ssh: &mut Daemon) -> Story {
    wait_until("the end of a connection", PATIENCE, || Ok(!ssh.running()?))
}
