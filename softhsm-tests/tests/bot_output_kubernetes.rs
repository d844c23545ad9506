//! A client of Kubernetes logs in by the kubeconfig of a bot: it runs the credential plugin that
//! the file names, and shows the API server the certificate that is in place.

use std::{collections::BTreeSet, fs, path::Path, process::Command, time::Duration};

use harness::{
    Doing, Failure, Story,
    bot::Bot,
    kubernetes::{ApiServer, VERSION, version_by_python},
    office::Office,
    openssl,
    peers::ours,
    process::{run, wait_until},
    server_tls::ServerTls,
};
use serde_json::Value;

const RULES: &str = r#"
[[role]]
name = "cluster"
callers = ["spiffe://example.test/bot/orders"]
issuer = "services"
max_ttl = "1h"
[role.tls_client]
common_name = "{name}"

[[role]]
name = "cluster-server"
callers = ["spiffe://example.test/bot/cluster"]
issuer = "services"
max_ttl = "1h"
[role.tls_server]
dns_names = ["localhost"]
"#;

#[test]
fn the_python_client_logs_in_by_the_kubeconfig_of_a_bot() -> Story {
    let office = office()?;
    let server = ApiServer::start(&ServerTls::of_bot(&office, "cluster", "cluster-server")?)?;
    let bot = bot(&office, server.port(), "")?;
    bot.run_once()?.success()?;
    let (kubeconfig, certificate) =
        (bot.path("cluster/current/kubeconfig"), bot.path("cluster/current/tls.crt"));

    let answer = version_by_python(&kubeconfig)?.success()?;
    assert_eq!(answer.stdout.trim_end(), VERSION);
    assert_eq!(server.callers(), [der(&office, &certificate)?], "the one that is in place");

    // The plugin says until when that is good, so that clients ask again in time.
    let credential = credential(&bot)?;
    assert_eq!(credential["apiVersion"], "client.authentication.k8s.io/v1");
    let expires = credential["status"]["expirationTimestamp"].as_str().unwrap_or_default();
    let mut dates = openssl::openssl()?;
    dates.args(["x509", "-noout", "-enddate", "-dateopt", "iso_8601", "-in"]).arg(&certificate);
    let said = run(&mut dates)?.success()?.stdout;
    assert_eq!(said.trim_end(), format!("notAfter={}", expires.replace('T', " ")));
    Ok(())
}

#[test]
fn a_client_logs_in_on_and_on_with_certificates_of_seconds() -> Story {
    let office = office()?;
    let server = ApiServer::start(&ServerTls::of_bot(&office, "cluster", "cluster-server")?)?;
    let mut bot = bot(&office, server.port(), "ttl = \"12s\"\n")?;
    bot.start()?;
    bot.wait_for_file("cluster/current/kubeconfig", true)?;
    let mut used = BTreeSet::new();
    wait_until("a third certificate in use", Duration::from_secs(90), || {
        version_by_python(&bot.path("cluster/current/kubeconfig"))?.success()?;
        used.extend(server.callers());
        Ok(used.len() >= 3)
    })
}

fn office() -> Result<Office, Failure> {
    let mut office = Office::prepare()?;
    fs::write(office.path("rules/cluster.toml"), RULES).doing("write rules")?;
    office.begin()?;
    Ok(office)
}

fn bot(office: &Office, port: u16, more: &str) -> Result<Bot, Failure> {
    let output = format!(
        "[[output]]\nname = \"cluster\"\nkind = \"kubernetes\"\nrole = \"cluster\"\n\
         directory = \"{{at}}/cluster\"\nserver = \"https://localhost:{port}\"\n\
         namespace = \"orders\"\ncommand = \"{}\"\n{more}",
        ours("chancery")?.display()
    );
    Bot::add(office, "orders", &["--role", "cluster"], &output)
}

fn credential(bot: &Bot) -> Result<Value, Failure> {
    let mut command = Command::new(ours("chancery")?);
    command.args(["bot", "kubernetes-credential", "--directory"]);
    let answer = run(command.arg(bot.path("cluster/current")))?.success()?;
    serde_json::from_str(&answer.stdout).doing("read a credential")
}

fn der(office: &Office, certificate: &Path) -> Result<Vec<u8>, Failure> {
    let der = office.path("shown.der");
    let mut command = openssl::openssl()?;
    command.args(["x509", "-outform", "DER", "-in"]).arg(certificate).arg("-out").arg(&der);
    run(&mut command)?.success()?;
    fs::read(&der).doing("read a certificate")
}
