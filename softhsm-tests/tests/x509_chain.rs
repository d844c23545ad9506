//! TLS certificates of the appliance, judged by OpenSSL and GnuTLS by the letter of RFC 5280.

use std::{fs, path::Path, process::Command};

use harness::{
    Doing, Failure, Story,
    office::{Office, with_chain},
    openssl,
    peers::peer,
    process::run,
};
use serde_json::{Value, json};

#[test]
fn openssl_and_gnutls_accept_server_and_client_certificates() -> Story {
    let office = Office::open()?;
    let web = office.enrol("service/web")?;
    let (root, issuing) = (office.handoff("root.pem"), office.handoff("services.pem"));

    let server = office.path("server.pem");
    let body = json!({
        "role": "web-server",
        "csr": csr(&office, "ec:P-256", "/CN=ignored.example.net")?,
        "dns_names": ["www.example.test"],
        "addresses": ["192.0.2.7"],
    });
    let issued = office.ask(&web, "/v1/issue/x509", &body)?;
    write(&server, issued["certificate"].as_str().unwrap_or_default())?;
    openssl::verify(&root, Some(&issuing), "sslserver", &server)?.success()?;
    openssl::verify(&root, Some(&issuing), "sslclient", &server)?.refused("purpose")?;
    openssl::verify(&root, None, "sslserver", &server)?.refused("unable to get local issuer")?;
    gnutls_accepts(&office, &issued, &root)?;

    let text = openssl::describe(&server)?;
    assert!(text.contains("DNS:www.example.test, IP Address:192.0.2.7"), "{text}");
    assert!(
        !text.contains("ignored.example.net"),
        "the CSR gives the key and nothing else: {text}"
    );

    let client = office.path("client.pem");
    let body = json!({ "role": "client", "csr": csr(&office, "rsa:2048", "/CN=ignored")? });
    let issued = office.ask(&web, "/v1/issue/x509", &body)?;
    write(&client, issued["certificate"].as_str().unwrap_or_default())?;
    openssl::verify(&root, Some(&issuing), "sslclient", &client)?.success()?;
    openssl::verify(&root, Some(&issuing), "sslserver", &client)?.refused("purpose")?;
    let text = openssl::describe(&client)?;
    assert!(text.contains("URI:spiffe://example.test/service/web"), "{text}");
    Ok(())
}

#[test]
fn the_answer_says_what_the_certificate_says() -> Story {
    let office = Office::open()?;
    let web = office.enrol("service/web")?;
    let body = json!({
        "role": "web-server",
        "csr": csr(&office, "ed25519", "/CN=x")?,
        "dns_names": ["www.example.test"],
        "ttl": 600,
    });
    let issued = office.ask(&web, "/v1/issue/x509", &body)?;
    let file = office.path("server.pem");
    write(&file, issued["certificate"].as_str().unwrap_or_default())?;

    let mut command = openssl::openssl()?;
    command.args(["x509", "-noout", "-serial", "-dates", "-dateopt", "iso_8601", "-in"]).arg(&file);
    let said = run(&mut command)?.success()?.stdout;
    let plain = |name: &str| issued[name].as_str().unwrap_or_default().replace('T', " ");
    let serial = issued["serial"].as_str().unwrap_or_default().to_uppercase();
    let expected = format!(
        "serial={serial}\nnotBefore={}\nnotAfter={}\n",
        plain("not_before"),
        plain("not_after")
    );
    assert_eq!(said, expected);
    Ok(())
}

fn gnutls_accepts(office: &Office, issued: &Value, root: &Path) -> Story {
    let chain = office.path("chain.pem");
    write(&chain, &with_chain(issued))?;
    let mut command = Command::new(peer("certtool")?);
    command.args(["--verify", "--verify-profile", "medium", "--verify-hostname"]);
    command.arg("www.example.test").arg("--load-ca-certificate").arg(root);
    command.args(["--verify-purpose", "1.3.6.1.5.5.7.3.1", "--infile"]).arg(&chain);
    let answer = run(&mut command)?.success()?;
    assert!(answer.stdout.contains("Chain verification output: Verified."), "{}", answer.stdout);
    Ok(())
}

fn csr(office: &Office, kind: &str, subject: &str) -> Result<String, Failure> {
    let (key, request) = (office.path("any.key"), office.path("any.csr"));
    openssl::generate(kind, &key)?;
    openssl::request(&key, subject, &["subjectAltName=DNS:ignored.example.net"], &request)?;
    fs::read_to_string(&request).doing("read a request")
}

fn write(path: &Path, text: &str) -> Story {
    fs::write(path, text).doing(format_args!("write {}", path.display()))
}
