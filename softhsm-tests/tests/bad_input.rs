//! Whatever is sent: a clear refusal, and the appliance goes on.

use std::{fs, process::Command, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use harness::{
    Doing, Failure, Story,
    https::{Https, Identity, Request},
    office::Office,
    openssl,
    peers::peer,
    process::{run, wait_until},
    ssh,
};
use serde_json::{Value, json};

#[test]
fn bad_requests_get_a_problem_that_says_what_is_wrong() -> Story {
    let mut office = Office::open()?;
    let process = office.appliance()?.id();
    let web = office.enrol("service/web")?;
    let https = office.https(Some(&web))?;
    for (what, body, status) in bad_certificate_requests(&office)? {
        refused(&https, what, "/v1/issue/x509", "application/json", body.as_bytes(), status)?;
    }
    for (what, path, media_type, body, status) in bad_bodies() {
        refused(&https, what, path, media_type, &body, status)?;
    }
    let alice = office.enrol("user/alice")?;
    let https = office.https(Some(&alice))?;
    for (what, key, status) in bad_ssh_keys(&office)? {
        let body = json!({ "role": "login", "public_key": key }).to_string();
        refused(&https, what, "/v1/issue/ssh-user", "application/json", body.as_bytes(), status)?;
    }
    office.enrol("user/bob")?;
    assert_eq!(office.appliance()?.id(), process);
    assert!(office.appliance()?.running()?);
    Ok(())
}

#[test]
fn callers_without_a_good_certificate_get_an_alert() -> Story {
    let mut office = Office::open()?;
    let alert = |what: &str, identity: Option<&Identity>| -> Story {
        match office.https(identity)?.get("/v1/authorities") {
            Ok(answer) => {
                Err(Failure::new(format!("{what}: answered {}", answer.status)).said(answer.text()))
            }
            Err(failure) if failure.to_string().contains("alert") => Ok(()),
            Err(failure) => Err(failure.hint(format!("{what}: a TLS alert should say why"))),
        }
    };
    // Without one, a host may join; for all else the answer says what is missing.
    let told = office.https(None)?.get("/v1/authorities")?.expect_status(403)?.json()?;
    assert_eq!(told["reason"], "no-certificate", "{told}");
    alert("a certificate of an unknown CA", Some(&forged(&office, "/CN=Somebody")?))?;
    let same_name = forged(&office, "/O=Example Test/CN=Example Test Services")?;
    alert("a certificate of another CA of the same name", Some(&same_name))?;

    let brief = office.enrol_for("service/brief", Some(5))?;
    office.https(Some(&brief))?.get("/v1/authorities")?.expect_status(200)?;
    wait_until("the end of a certificate of five seconds", Duration::from_secs(20), || {
        Ok(office.https(Some(&brief))?.get("/v1/authorities").is_err())
    })?;
    alert("an expired certificate", Some(&brief))?;

    assert!(office.appliance()?.running()?);
    office.https(Some(office.operator()))?.get("/v1/authorities")?.expect_status(200)?;
    Ok(())
}

#[test]
fn of_a_hundred_thousand_lines_a_thousand_are_read_and_the_rest_is_refused() -> Story {
    let office = Office::open()?;
    let alice = office.enrol("user/alice")?;
    let https = office.https(Some(&alice))?;
    let statuses = |body: &[u8]| -> Result<Vec<Value>, Failure> {
        let headers = [("content-type", "application/x-ndjson")];
        let request = Request { method: "POST", path: "/v1/batch", headers: &headers, body };
        let text = https.send(&request)?.expect_status(200)?.text();
        let line = |line| serde_json::from_str::<Value>(line).doing("read a line");
        text.lines().map(|text| Ok(line(text)?["status"].clone())).collect()
    };
    let many = statuses("{}\n".repeat(100_000).as_bytes())?;
    assert_eq!(many.len(), 1_001);
    assert!(many[..1_000].iter().all(|status| status == 400), "{many:?}");
    assert_eq!(many[1_000], 413);

    let long = [vec![b'['; 5 << 20], b"\n{}\n".to_vec()].concat();
    let long = statuses(&long)?;
    assert!(long.contains(&json!(413)) && !long.contains(&json!(201)), "{long:?}");

    let listed = office.https(Some(office.operator()))?.get("/v1/certificates?kind=ssh_user")?;
    let listed = listed.expect_status(200)?.json()?;
    assert_eq!(listed["certificates"], json!([]));
    Ok(())
}

/// Sends a body that must be refused with this status and a problem that says why.
fn refused(
    https: &Https,
    what: &str,
    path: &str,
    media_type: &str,
    body: &[u8],
    status: u16,
) -> Story {
    let headers = [("content-type", media_type)];
    let answer = https.send(&Request { method: "POST", path, headers: &headers, body })?;
    let right = answer.status == status
        && answer.header("content-type") == Some("application/problem+json")
        && answer.json().is_ok_and(|problem| {
            problem["status"] == status
                && problem["type"].as_str().is_some_and(|uri| uri.starts_with("urn:chancery:"))
                && problem["detail"].as_str().is_some_and(|detail| !detail.is_empty())
        });
    if right {
        return Ok(());
    }
    let wrong = format!("{what}: the answer is {} and should be a problem {status}", answer.status);
    Err(Failure::new(wrong).said(answer.text()))
}

/// Bodies for `/v1/issue/x509`, each wrong in one way.
fn bad_certificate_requests(office: &Office) -> Result<Vec<(&'static str, String, u16)>, Failure> {
    let good = der(&request(office, "ec:P-256")?)?;
    let body = |csr: &str| {
        json!({ "role": "web-server", "csr": csr, "dns_names": ["www.example.test"] }).to_string()
    };
    let pem = |der: &[u8]| body(&pem(der));
    let mut broken = good.clone();
    if let Some(last) = broken.last_mut() {
        *last ^= 1;
    }
    let trailing = [good.as_slice(), b"\0"].concat();
    // A length of 2^32 - 1 where the real one was.
    let vast = [&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff], &good[3..]].concat();
    let mut strange: Value = serde_json::from_str(&body("x")).doing("read JSON")?;
    strange["principals"] = json!(["root"]);
    Ok(vec![
        ("no bytes", pem(&[]), 422),
        ("one byte", pem(&good[..1]), 422),
        ("half a request", pem(&good[..good.len() / 2]), 422),
        ("all but one byte", pem(&good[..good.len() - 1]), 422),
        ("one byte too many", pem(&trailing), 422),
        ("a length beyond the end", pem(&vast), 422),
        ("a broken signature", pem(&broken), 422),
        ("no PEM", body("certificate, please"), 422),
        ("RSA of 1024 bits", body(&request(office, "rsa:1024")?), 422),
        ("an unknown field", strange.to_string(), 400),
        ("a field missing", json!({ "role": "web-server" }).to_string(), 400),
        ("a name that is none", body("x").replace("www.example.test", "www..example"), 400),
        ("an unknown role", pem(&good).replace("web-server", "emperor"), 403),
        ("a role for others", pem(&good).replace("web-server", "enrol"), 403),
    ])
}

type Body = (&'static str, &'static str, &'static str, Vec<u8>, u16);

fn bad_bodies() -> Vec<Body> {
    const JSON: &str = "application/json";
    const X509: &str = "/v1/issue/x509";
    let deep = "[".repeat(30_000);
    vec![
        ("nothing", X509, JSON, Vec::new(), 400),
        ("no JSON", X509, JSON, b"{\"role\":".to_vec(), 400),
        ("no UTF-8", X509, JSON, b"{\"role\":\"\xff\"}".to_vec(), 400),
        ("a deep JSON", X509, JSON, deep.into_bytes(), 400),
        ("a megabyte", X509, JSON, vec![b' '; 1 << 20], 413),
        ("text", X509, "text/plain", b"{}".to_vec(), 415),
        ("a form", X509, "application/x-www-form-urlencoded", b"role=x".to_vec(), 415),
        ("JSON where lines are taken", "/v1/batch", JSON, b"{}".to_vec(), 415),
        ("a path that is not there", "/v1/issue/everything", JSON, b"{}".to_vec(), 404),
        ("a method that is not there", "/v1/authorities", JSON, b"{}".to_vec(), 405),
    ]
}

/// What is no key to be certified.
fn bad_ssh_keys(office: &Office) -> Result<Vec<(&'static str, String, u16)>, Failure> {
    let read =
        |name: &str| fs::read_to_string(office.path(name)).doing(format_args!("read {name}"));
    ssh::generate("ed25519", &office.path("victim"))?;
    let mut sign = Command::new(peer("ssh-keygen")?);
    sign.arg("-s").arg(office.path("victim")).args(["-I", "x", "-n", "x"]);
    run(sign.arg(office.path("victim.pub")))?.success()?;
    Ok(vec![
        ("a certificate", read("victim-cert.pub")?, 422),
        ("the CA's own key", read("handoff/ssh-user.pub")?, 403),
        ("another CA's key", read("handoff/ssh-host.pub")?, 403),
        ("half a key", read("victim.pub")?.chars().take(40).collect(), 422),
        ("a private key", read("victim")?, 422),
        ("two keys", read("victim.pub")?.repeat(2), 422),
    ])
}

/// A client certificate for an operator, by a CA that calls itself `name`.
fn forged(office: &Office, name: &str) -> Result<Identity, Failure> {
    let path = |file: &str| office.path(format!("forged-{file}"));
    openssl::generate("ec:P-256", &path("ca.key"))?;
    openssl::generate("ec:P-256", &path("client.key"))?;
    let mut ca = openssl::openssl()?;
    ca.env_remove("OPENSSL_CONF").args(["req", "-x509", "-batch", "-subj", name, "-days", "1"]);
    ca.arg("-key").arg(path("ca.key")).arg("-out").arg(path("ca.pem"));
    run(&mut ca)?.success()?;
    let mut client = openssl::openssl()?;
    client.env_remove("OPENSSL_CONF").args(["req", "-x509", "-batch", "-subj", "/CN=olivia"]);
    client.args(["-days", "1", "-addext", "extendedKeyUsage=clientAuth"]);
    client.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
    client.args(["-addext", "subjectAltName=URI:spiffe://example.test/operator/olivia"]);
    client.arg("-CA").arg(path("ca.pem")).arg("-CAkey").arg(path("ca.key"));
    client.arg("-key").arg(path("client.key")).arg("-out").arg(path("client.pem"));
    run(&mut client)?.success()?;
    Ok(Identity { certificate: path("client.pem"), key: path("client.key") })
}

fn request(office: &Office, kind: &str) -> Result<String, Failure> {
    let (key, request) = (office.path("bad.key"), office.path("bad.csr"));
    openssl::generate(kind, &key)?;
    openssl::request(&key, "/CN=bad", &[], &request)?;
    fs::read_to_string(&request).doing("read a request")
}

fn der(pem: &str) -> Result<Vec<u8>, Failure> {
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    STANDARD.decode(body).doing("read PEM")
}

fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines = text.as_bytes().chunks(64).map(String::from_utf8_lossy);
    let body = lines.fold(String::new(), |body, line| body + &line + "\n");
    format!("-----BEGIN CERTIFICATE REQUEST-----\n{body}-----END CERTIFICATE REQUEST-----\n")
}
