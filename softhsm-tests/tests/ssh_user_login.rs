//! A user asks the appliance for a certificate and logs in to a real sshd with it.

use std::{fs, path::Path, process::Command, time::Duration};

use harness::{
    Doing, Failure, Story,
    https::Identity,
    office::Office,
    peers::peer,
    process::{run, wait_until},
    ssh::{self, Login},
    sshd::{Settings, Sshd},
};
use serde_json::json;

/// What the host is called in `known_hosts`.
const HOST: &str = "host.example.test";

#[test]
fn a_user_logs_in_with_a_certificate_of_the_appliance() -> Story {
    let office = Office::open()?;
    let alice = office.enrol("user/alice")?;
    let mut sshd = sshd_for(&office, "host", "ssh-user.pub", &["alice"])?;
    let serial = certify(&office, &alice, "alice", None)?;

    let answer = login(&office, &sshd, "alice")?.run("echo $((6 * 7))")?.success()?;
    assert_eq!(answer.stdout, "42\n");
    sshd.wait_for_log(&format!("(serial {serial})"))?;
    Ok(())
}

#[test]
fn a_certificate_lets_in_nobody_else_and_nowhere_else() -> Story {
    let office = Office::open()?;
    let alice = office.enrol("user/alice")?;
    certify(&office, &alice, "alice", None)?;

    // The account asks for another principal.
    let mut sshd = sshd_for(&office, "bobs", "ssh-user.pub", &["bob"])?;
    login(&office, &sshd, "alice")?.run("true")?.refused("Permission denied")?;
    sshd.wait_for_log("Certificate does not contain an authorized principal")?;

    // The host trusts another CA of the same office: the one for hosts.
    let mut sshd = sshd_for(&office, "other", "ssh-host.pub", &["alice"])?;
    login(&office, &sshd, "alice")?.run("true")?.refused("Permission denied")?;
    sshd.wait_for_log("Connection closed by authenticating user")?;

    // Another CA says the same of the same key.
    let mut sshd = sshd_for(&office, "ours", "ssh-user.pub", &["alice"])?;
    forge(&office, "alice")?;
    login(&office, &sshd, "alice")?.run("true")?.refused("Permission denied")?;
    sshd.wait_for_log("Connection closed by authenticating user")?;
    Ok(())
}

#[test]
fn a_certificate_ends_when_it_says() -> Story {
    let office = Office::open()?;
    let alice = office.enrol("user/alice")?;
    let mut sshd = sshd_for(&office, "host", "ssh-user.pub", &["alice"])?;
    certify(&office, &alice, "alice", Some("5s"))?;

    let login = login(&office, &sshd, "alice")?;
    login.run("true")?.success()?;
    wait_until("the end of a certificate of five seconds", Duration::from_secs(20), || {
        Ok(!login.run("true")?.status.success())
    })?;
    sshd.wait_for_log("Certificate invalid: expired")?;
    Ok(())
}

#[test]
fn nobody_gets_a_certificate_for_somebody_elses_name() -> Story {
    let office = Office::open()?;
    let alice = office.enrol("user/alice")?;
    ssh::generate("ed25519", &office.path("alice"))?;
    let public_key = read(&office.path("alice.pub"))?;
    let body = json!({ "role": "login", "public_key": public_key, "principals": ["root"] });
    let answer = office.https(Some(&alice))?.post("/v1/issue/ssh-user", &body)?;
    let problem = answer.expect_status(403)?.json()?;
    assert_eq!(problem["type"], "urn:chancery:problem:denied");
    Ok(())
}

#[test]
fn no_certificate_is_for_everybody() -> Story {
    let office = Office::open()?;
    let alice = office.enrol("user/alice")?;
    ssh::generate("ed25519", &office.path("alice"))?;
    let public_key = read(&office.path("alice.pub"))?;
    let ask = |principals: serde_json::Value| {
        let body = json!({ "role": "login", "public_key": public_key, "principals": principals });
        office.https(Some(&alice))?.post("/v1/issue/ssh-user", &body)
    };
    // sshd takes a certificate without principals for anybody's (CVE-2024-7594): there is none.
    let issued = ask(json!([]))?.expect_status(201)?.json()?;
    let path = office.path("alice-cert.pub");
    fs::write(&path, issued["certificate"].as_str().unwrap_or_default()).doing("write it")?;
    let description = ssh::describe(&path)?;
    let principals = description.split("Principals:").nth(1).unwrap_or_default();
    assert_eq!(principals.split_whitespace().next(), Some("alice"), "{description}");

    for nobody in [json!([""]), json!(["*"]), json!(["alice,root"]), json!(["alice\n"])] {
        ask(nobody)?.expect_status(400)?;
    }
    Ok(())
}

/// Makes a key pair NAME and lets the client put the certificate beside it; gives its serial.
fn certify(
    office: &Office,
    identity: &Identity,
    name: &str,
    ttl: Option<&str>,
) -> Result<String, Failure> {
    ssh::generate("ed25519", &office.path(name))?;
    let key = format!("{name}.pub");
    let mut command = office
        .chancery(identity, &["request", "ssh", "--json", "--role", "login", "--key", &key])?;
    if let Some(ttl) = ttl {
        command.args(["--ttl", ttl]);
    }
    let answer = run(&mut command)?.success()?;
    let issued: serde_json::Value =
        serde_json::from_str(&answer.stdout).doing("read the client's answer")?;
    Ok(issued["serial"].as_str().unwrap_or_default().to_owned())
}

/// Replaces the certificate by one that a CA of ssh-keygen signed.
fn forge(office: &Office, name: &str) -> Story {
    ssh::generate("ecdsa", &office.path("forger"))?;
    let mut command = Command::new(peer("ssh-keygen")?);
    command.arg("-s").arg(office.path("forger")).args(["-I", "forged", "-n", name, "-V", "+1h"]);
    run(command.arg(office.path(format!("{name}.pub"))))?.success().map(drop)
}

fn sshd_for(office: &Office, name: &str, ca: &str, principals: &[&str]) -> Result<Sshd, Failure> {
    let directory = office.path(name);
    fs::create_dir(&directory).doing("make a directory")?;
    let settings = Settings {
        trusted_user_ca_keys: Some(office.handoff(ca)),
        authorized_principals: principals.iter().map(|&name| name.to_owned()).collect(),
        ..Settings::default()
    };
    let sshd = Sshd::start(&directory, &settings)?;
    let known = format!("{HOST} {}", sshd.host_public_key()?);
    fs::write(office.path("known_hosts"), known).doing("write known_hosts")?;
    Ok(sshd)
}

fn login(office: &Office, sshd: &Sshd, name: &str) -> Result<Login, Failure> {
    Ok(Login {
        key: office.path(name),
        certificate: office.path(format!("{name}-cert.pub")),
        known_hosts: office.path("known_hosts"),
        user: sshd.user().to_owned(),
        host: HOST.to_owned(),
        port: sshd.port(),
    })
}

fn read(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).doing(format_args!("read {}", path.display()))
}
