//! A host shows a certificate of the appliance, and ssh believes it without ever having seen its key.

use std::{fs, path::Path};

use harness::{
    Doing, Failure, Story,
    office::Office,
    ssh::{self, Login},
    sshd::{Settings, Sshd},
};
use serde_json::{Value, json};

#[test]
fn ssh_knows_a_host_by_its_certificate() -> Story {
    let office = Office::open()?;
    let host = office.enrol("host/web1")?;
    ssh::generate("ed25519", &office.path("host_key"))?;
    let body = json!({
        "role": "host",
        "public_key": read(&office.path("host_key.pub"))?,
        "principals": ["web1.example.test"],
    });
    let issued = office.ask(&host, "/v1/issue/ssh-host", &body)?;
    save(&office.path("host_key-cert.pub"), &issued)?;
    let description = ssh::describe(&office.path("host_key-cert.pub"))?;
    assert!(description.contains("host certificate"), "{description}");

    let login = certified_user(&office)?;
    let sshd = Sshd::start(
        &office.path("."),
        &Settings {
            trusted_user_ca_keys: Some(office.handoff("ssh-user.pub")),
            authorized_principals: vec!["alice".to_owned()],
            host_key: Some(office.path("host_key")),
            host_certificate: Some(office.path("host_key-cert.pub")),
            ..Settings::default()
        },
    )?;
    let login = Login { user: sshd.user().to_owned(), port: sshd.port(), ..login };

    trust(&office, "ssh-host.pub")?;
    login.run("true")?.success()?;

    // Under a name that the certificate does not have, the same host is unknown.
    let stranger = Login { host: "web2.example.test".to_owned(), ..login.clone() };
    stranger.run("true")?.refused("Host key verification failed")?;

    // Nobody believes the CA for users when it vouches for a host.
    trust(&office, "ssh-user.pub")?;
    login.run("true")?.refused("Host key verification failed")?;
    Ok(())
}

#[test]
fn a_host_gets_no_certificate_for_another_hosts_name() -> Story {
    let office = Office::open()?;
    let host = office.enrol("host/web1")?;
    ssh::generate("ed25519", &office.path("host_key"))?;
    let public_key = read(&office.path("host_key.pub"))?;
    let refused = |principals: Value, status| {
        let body = json!({ "role": "host", "public_key": public_key, "principals": principals });
        let answer = office.https(Some(&host))?.post("/v1/issue/ssh-host", &body)?;
        answer.expect_status(status).map(drop)
    };
    refused(json!(["web2.example.test"]), 403)?;
    refused(json!(["web1.example.test", "web2.example.test"]), 403)?;
    refused(json!(["*.example.test"]), 400)?;
    refused(json!(["web1.example.test,web2.example.test"]), 400)
}

fn certified_user(office: &Office) -> Result<Login, Failure> {
    let alice = office.enrol("user/alice")?;
    ssh::generate("ecdsa", &office.path("alice"))?;
    let body = json!({ "role": "login", "public_key": read(&office.path("alice.pub"))? });
    let issued = office.ask(&alice, "/v1/issue/ssh-user", &body)?;
    save(&office.path("alice-cert.pub"), &issued)?;
    Ok(Login {
        key: office.path("alice"),
        certificate: office.path("alice-cert.pub"),
        known_hosts: office.path("known_hosts"),
        user: String::new(),
        host: "web1.example.test".to_owned(),
        port: 0,
    })
}

fn trust(office: &Office, ca: &str) -> Story {
    let line = format!("@cert-authority *.example.test {}", read(&office.handoff(ca))?);
    fs::write(office.path("known_hosts"), line).doing("write known_hosts")
}

fn save(path: &Path, issued: &Value) -> Story {
    let certificate = issued["certificate"].as_str().unwrap_or_default();
    fs::write(path, format!("{}\n", certificate.trim_end())).doing("write a certificate")
}

fn read(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).doing(format_args!("read {}", path.display()))
}
