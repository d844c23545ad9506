//! Tokens other than SoftHSM: a ceremony is held in each, the appliance signs with its keys, and
//! OpenSSL and OpenSSH judge the certificates.

use std::{
    fs,
    path::{Path, PathBuf},
};

use harness::{
    Doing, Failure, Story, https::Identity, kryoptic, office::Office, openssl, process::run, ssh,
    tpm,
};
use serde_json::{Value, json};

#[test]
fn certificates_by_kryoptic_are_accepted() -> Story {
    let mut office = Office::open_on(kryoptic::token)?;
    certificates_are_accepted(&office)?;
    office.kill();
    can_be_probed(&office)
}

#[test]
fn certificates_by_a_tpm_are_accepted() -> Story {
    let mut office = Office::open_on(tpm::token)?;
    certificates_are_accepted(&office)?;
    office.kill();
    can_be_probed(&office)
}

/// One by each authority of the office.
fn certificates_are_accepted(office: &Office) -> Story {
    let (alice, web) = (office.enrol("user/alice")?, office.enrol("service/web")?);
    let host = office.enrol("host/web1")?;
    ssh_certificate(office, &alice, "user", ("login", "alice"))?;
    ssh_certificate(office, &host, "host", ("host", "web1.example.test"))?;

    let body = json!({
        "role": "web-server", "csr": request(office)?, "dns_names": ["www.example.test"],
    });
    let server = certificate(office, office.ask(&web, "/v1/issue/x509", &body)?)?;
    let (root, services) = (office.handoff("root.pem"), office.handoff("services.pem"));
    openssl::verify(&root, Some(&services), "sslserver", &server)?.success()?;

    let upn = "alice@corp.example.test";
    let body = json!({ "role": "card", "csr": request(office)?, "upn": upn });
    let card = certificate(office, office.ask(&alice, "/v1/issue/smartcard", &body)?)?;
    openssl::verify(&root, Some(&office.handoff("issuing.pem")), "any", &card)?.success()?;
    openssl::verify(&root, Some(&services), "any", &card)?.refused("unable to get local issuer")?;
    Ok(())
}

/// The probe finds every key, signs with each kind, and nothing that must be mended.
fn can_be_probed(office: &Office) -> Story {
    let arguments = ["token", "probe", "--config", "chanceryd.toml", "--seconds", "1", "--json"];
    let told = run(&mut office.chanceryd(&arguments)?)?.success()?.stdout;
    let told: Value = serde_json::from_str(&told).doing("read the probe's JSON")?;
    let levels = |rate: &Value| rate["levels"].as_array().map_or(0, Vec::len);
    let rates = told["rates"].as_array().into_iter().flatten();
    let signed = rates.map(levels).collect::<Vec<_>>();
    assert!(!signed.is_empty() && !signed.contains(&0), "{:#}", told["rates"]);
    assert!(told["recommendation"]["sessions"].as_u64() > Some(0), "{told:#}");
    Ok(())
}

fn ssh_certificate(
    office: &Office,
    caller: &Identity,
    kind: &str,
    (role, principal): (&str, &str),
) -> Story {
    ssh::generate("ed25519", &office.path(role))?;
    let public_key = read(&office.path(format!("{role}.pub")))?;
    let body = json!({ "role": role, "public_key": public_key, "principals": [principal] });
    let issued = office.ask(caller, &format!("/v1/issue/ssh-{kind}"), &body)?;
    // ssh-keygen shows no certificate whose signature does not verify.
    let shown = ssh::describe(&certificate(office, issued)?)?;
    let signer = ssh::fingerprint(&office.handoff(&format!("ssh-{kind}.pub")))?;
    assert!(shown.contains(&format!("Signing CA: ECDSA {signer}")), "{shown}");
    Ok(())
}

/// Somebody's request for a certificate.
fn request(office: &Office) -> Result<String, Failure> {
    let (key, request) = (office.path("any.key"), office.path("any.csr"));
    openssl::generate("ec:P-256", &key)?;
    openssl::request(&key, "/CN=any", &[], &request)?;
    read(&request)
}

fn certificate(office: &Office, issued: Value) -> Result<PathBuf, Failure> {
    let path = office.path("issued");
    fs::write(&path, issued["certificate"].as_str().unwrap_or_default())
        .doing("write a certificate")?;
    Ok(path)
}

fn read(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).doing(format_args!("read {}", path.display()))
}
