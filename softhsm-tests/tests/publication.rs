//! What is taken back is published: OpenSSL, ssh-keygen and a KDC read it, and refuse.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use harness::{
    Doing, Failure, Story,
    https::{Identity, Request, Response},
    office::{Office, http_send, with_chain},
    openssl,
    peers::peer,
    process::{Answer, run, wait_until},
    shim::{Action, Fault, Plan, pkcs11::CKR_DEVICE_ERROR},
};
use serde_json::{Value, json};

/// Far longer than it takes.
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn a_certificate_that_is_revoked_is_on_the_list_of_its_issuer() -> Story {
    let office = Office::open()?;
    let (web, other) = (web_certificate(&office, "web")?, web_certificate(&office, "other")?);
    for certificate in [&web, &other] {
        openssl::verify_with_crl(&office, "services", &certificate.path)?.success()?;
    }
    let before = get(&office, "/crl/services.crl", None)?.expect_status(200)?;
    assert_eq!(before.header("content-type"), Some("application/pkix-crl"));
    let tag = before.header("etag").unwrap_or_default().to_owned();
    get(&office, "/crl/services.crl", Some(&tag))?.expect_status(304)?;
    let number = crl_number(&office, "services")?;
    let elsewhere = get(&office, "/crl/issuing.crl", None)?.expect_status(200)?;
    for nothing in ["/crl/root.crl", "/crl/services", "/crl/ssh-user.crl"] {
        get(&office, nothing, None)?.expect_status(404)?;
    }

    let change = revoke(&office, "services", &web.serial)?;
    let effect = effect(&office, change)?;
    assert!(effect["published_after"].as_u64().is_some_and(|after| after < 30_000), "{effect}");
    get(&office, "/crl/services.crl", Some(&tag))?.expect_status(200)?;
    let refused = openssl::verify_with_crl(&office, "services", &web.path)?;
    refused.refused("certificate revoked")?;
    openssl::verify_with_crl(&office, "services", &other.path)?.success()?;
    assert!(crl_number(&office, "services")? > number);
    let same = get(&office, "/crl/issuing.crl", elsewhere.header("etag"))?;
    assert_eq!(same.status, 304, "nothing of it was revoked");

    // What was revoked before is the same change, and a serial that was never begun is none.
    assert_eq!(revoke(&office, "services", &web.serial)?, change);
    let body = revocation("services", &"40".repeat(16));
    office.https(Some(office.operator()))?.post("/v1/revoke", &body)?.expect_status(404)?;
    Ok(())
}

#[test]
fn an_ssh_certificate_that_is_revoked_is_on_the_list_for_sshd() -> Story {
    let office = Office::open()?;
    let alice = office.enrol("user/alice")?;
    let (one, two) = (ssh_certificate(&office, &alice)?, ssh_certificate(&office, &alice)?);
    for (_, path) in [&one, &two] {
        ssh_keygen_asks(&office, path)?.success()?;
    }
    effect(&office, revoke(&office, "ssh-user", &one.0)?)?;
    ssh_keygen_asks(&office, &one.1)?.refused("REVOKED")?;
    ssh_keygen_asks(&office, &two.1)?.success()?;
    // The bundle says the same.
    let bundle = get(&office, "/revocations", None)?.expect_status(200)?.json()?;
    assert!(
        bundle["statement"].as_str().is_some_and(|it| it.starts_with("chancery-revocations-v1\n"))
    );
    Ok(())
}

#[test]
fn openssl_asks_whether_a_certificate_is_good() -> Story {
    let office = Office::open()?;
    let (web, other) = (web_certificate(&office, "web")?, web_certificate(&office, "other")?);
    // With a nonce, and without one.
    for nonce in [&[][..], &["-no_nonce"]] {
        for certificate in [&web, &other] {
            let path = certificate.path.display().to_string();
            ask(&office, "services", nonce, &["-cert", &path])?.says(": good")?;
        }
    }
    // It was never issued; not even the answer for it is one that was kept.
    let foreign = format!("0x{}", "40".repeat(16));
    ask(&office, "services", &[], &["-serial", &foreign])?.says(": unknown")?;
    ask(&office, "services", &[], &["-serial", "1"])?.says(": unknown")?;

    effect(&office, revoke(&office, "services", &web.serial)?)?;
    for nonce in [&[][..], &["-no_nonce"]] {
        let path = web.path.display().to_string();
        let told = ask(&office, "services", nonce, &["-cert", &path])?;
        told.says(": revoked")?.says("Reason: keyCompromise")?;
        let path = other.path.display().to_string();
        ask(&office, "services", nonce, &["-cert", &path])?.says(": good")?;
    }

    // A certificate of another issuer is none of this one's to judge.
    let request = office.path("request.der");
    let mut command = openssl::openssl()?;
    command.args(["ocsp", "-reqout"]).arg(&request);
    command.arg("-issuer").arg(office.handoff("issuing.pem"));
    run(command.args(["-serial", "7"]))?.success()?;
    let der = fs::read(&request).doing("read a request")?;
    assert_eq!(post_ocsp(&office, "services", &der)?.body, [0x30, 3, 0x0a, 1, 6], "unauthorized");
    assert_eq!(post_ocsp(&office, "ssh-user", &der)?.body, [0x30, 3, 0x0a, 1, 6], "unauthorized");
    let half = &der[..der.len() / 2];
    assert_eq!(post_ocsp(&office, "issuing", half)?.body, [0x30, 3, 0x0a, 1, 1], "malformed");
    // As a GET, the same request is answered.
    let path = format!("/ocsp/issuing/{}", STANDARD.encode(&der).replace('/', "%2F"));
    let answer = get(&office, &path, None)?.expect_status(200)?;
    assert_eq!(answer.header("content-type"), Some("application/ocsp-response"));
    assert!(answer.body.len() > 100, "{:?}", answer.body);
    // Ten thousand bytes are no question.
    let answer = post_ocsp(&office, "issuing", &[0; 10_000])?;
    assert_eq!(answer.status, 413);
    Ok(())
}

#[test]
fn what_grows_old_is_signed_anew() -> Story {
    let mut office = Office::open()?;
    let_lists_be_brief(&mut office)?;
    let (version, number) = (version(&office)?, crl_number(&office, "issuing")?);
    wait_until("two more versions", PATIENCE, || Ok(self::version(&office)? > version + 1))?;
    assert!(crl_number(&office, "issuing")? > number);
    get(&office, "/readyz", None)?.expect_status(200).map(drop)
}

#[test]
fn a_token_that_fails_lets_lists_expire_and_one_that_heals_does_not() -> Story {
    let (mut office, shim) = Office::open_with_shim()?;
    let_lists_be_brief(&mut office)?;
    let version = version(&office)?;
    let faults = vec![Fault::everywhere(Action::Return(CKR_DEVICE_ERROR))];
    shim.play(Plan { faults, ..Plan::default() })?;
    wait_until("the bundle has expired", PATIENCE, || {
        let answer = get(&office, "/readyz", None)?;
        Ok(answer.status == 503 && answer.text().contains("the revocation bundle has expired"))
    })?;
    shim.heal()?;
    wait_until("all is well again", PATIENCE, || {
        Ok(get(&office, "/readyz", None)?.status == 200 && self::version(&office)? > version)
    })
}

#[test]
fn versions_grow_and_nothing_is_forgotten_when_the_appliance_is_killed() -> Story {
    let mut office = Office::open()?;
    let alice = office.enrol("user/alice")?;
    let mut last = version(&office)?;
    let mut revoked = Vec::new();
    for round in 0..5_u64 {
        let certificates = (0..10)
            .map(|_| ssh_certificate(&office, &alice))
            .collect::<Result<Vec<_>, Failure>>()?;
        let operator = office.https(Some(office.operator()))?;
        let bodies = certificates.iter().map(|(serial, _)| revocation("ssh-user", serial));
        let bodies: Vec<_> = bodies.collect();
        let answered = thread::scope(|scope| {
            let revoking = scope.spawn(|| {
                let asked = bodies.iter().map(|body| operator.post("/v1/revoke", body));
                asked.take_while(|answer| answer.as_ref().is_ok_and(|it| it.status == 200)).count()
            });
            // Each time at another moment, in the midst of it.
            thread::sleep(Duration::from_millis(5 + 23 * round));
            office.kill();
            revoking.join().map_err(|_| Failure::new("whoever revokes panicked"))
        })?;
        office.restart()?;
        // They are there from the first answer of the appliance on.
        revoked.extend(certificates.into_iter().take(answered));
        for (serial, path) in &revoked {
            ssh_keygen_asks(&office, path)?
                .refused("REVOKED")
                .map_err(|failure| failure.hint(format!("round {round}, serial {serial}")))?;
        }
        let now = version(&office)?;
        assert!(now > last, "version {now} came after {last}");
        last = now;
    }
    Ok(())
}

/// Lists are good for ten seconds from now on.
fn let_lists_be_brief(office: &mut Office) -> Story {
    let path = office.path("chanceryd.toml");
    let text = fs::read_to_string(&path).doing("read the configuration")?;
    let brief = "\n[revocation]\nbundle_lifetime = \"10s\"\ncrl_lifetime = \"10s\"\n";
    fs::write(&path, text + brief).doing("write the configuration")?;
    office.restart()
}

/// What OpenSSL says of a status that it has verified.
struct Told(Answer);

impl Told {
    fn says(self, words: &str) -> Result<Self, Failure> {
        if self.0.output().contains(words) {
            return Ok(self);
        }
        Err(Failure::new(format!("it should say {words:?}")).said(self.0.output()))
    }
}

/// Asks the appliance by OCSP, and lets OpenSSL verify the answer.
fn ask(office: &Office, issuer: &str, flags: &[&str], what: &[&str]) -> Result<Told, Failure> {
    let mut command = openssl::openssl()?;
    command.args(["ocsp", "-issuer"]).arg(office.handoff(&format!("{issuer}.pem")));
    command.args(what).args(flags).args(["-resp_text", "-url"]);
    command.arg(format!("http://{}/ocsp/{issuer}", office.public()));
    command.arg("-CAfile").arg(office.handoff("root.pem"));
    command.arg("-verify_other").arg(office.handoff(&format!("{issuer}.pem")));
    let answer = run(&mut command)?.success()?;
    Told(answer).says("Response verify OK")
}

fn post_ocsp(office: &Office, issuer: &str, der: &[u8]) -> Result<Response, Failure> {
    let path = format!("/ocsp/{issuer}");
    let headers = [("content-type", "application/ocsp-request")];
    let request = Request { method: "POST", path: &path, headers: &headers, body: der };
    http_send(office.public(), &request)
}

/// A certificate in a file.
struct Issued {
    path: PathBuf,
    serial: String,
}

fn web_certificate(office: &Office, name: &str) -> Result<Issued, Failure> {
    let caller = office.enrol("service/web")?;
    let (key, request) = (office.path("web.key"), office.path("web.csr"));
    openssl::generate("ec:P-256", &key)?;
    openssl::request(&key, "/CN=any", &[], &request)?;
    let csr = fs::read_to_string(&request).doing("read a request")?;
    let body = json!({ "role": "web-server", "csr": csr, "dns_names": ["www.example.test"] });
    let issued = office.ask(&caller, "/v1/issue/x509", &body)?;
    let path = office.path(format!("{name}.pem"));
    fs::write(&path, with_chain(&issued)).doing("write a certificate")?;
    Ok(Issued { path, serial: text(&issued, "serial") })
}

/// Its serial number, and the file it is in.
fn ssh_certificate(office: &Office, caller: &Identity) -> Result<(String, PathBuf), Failure> {
    let issued = office.ask(caller, "/v1/issue/ssh-user", &office.login_request("alice")?)?;
    let serial = text(&issued, "serial");
    let path = office.path(format!("{serial}-cert.pub"));
    fs::write(&path, text(&issued, "certificate")).doing("write a certificate")?;
    Ok((serial, path))
}

/// Asks ssh-keygen whether the list of now revokes a certificate; then it fails.
fn ssh_keygen_asks(office: &Office, certificate: &Path) -> Result<Answer, Failure> {
    let list = office.path("krl");
    let answer = get(office, "/krl", None)?.expect_status(200)?;
    fs::write(&list, answer.body).doing("write a KRL")?;
    let mut command = Command::new(peer("ssh-keygen")?);
    run(command.arg("-Q").arg("-f").arg(&list).arg(certificate))
}

fn revocation(issuer: &str, serial: &str) -> Value {
    json!({ "issuer": issuer, "serial": serial, "code": "key-compromise", "reason": "a story" })
}

/// Gives the change.
fn revoke(office: &Office, issuer: &str, serial: &str) -> Result<u64, Failure> {
    let operator = office.https(Some(office.operator()))?;
    let revoked = operator.post("/v1/revoke", &revocation(issuer, serial))?;
    let revoked = revoked.expect_status(200)?.json()?;
    revoked["change"].as_u64().ok_or_else(|| Failure::new("no change").said(revoked.to_string()))
}

/// Waits until a change is published.
fn effect(office: &Office, change: u64) -> Result<Value, Failure> {
    let path = format!("/v1/effects/{change}?wait=30");
    office.https(Some(office.operator()))?.get(&path)?.expect_status(200)?.json()
}

fn crl_number(office: &Office, issuer: &str) -> Result<u64, Failure> {
    let path = office.path("list.crl");
    let answer = get(office, &format!("/crl/{issuer}.crl"), None)?.expect_status(200)?;
    fs::write(&path, answer.body).doing("write a CRL")?;
    let mut command = openssl::openssl()?;
    command.args(["crl", "-inform", "DER", "-noout", "-crlnumber", "-in"]).arg(&path);
    let said = run(&mut command)?.success()?.stdout;
    let number = said.trim().strip_prefix("crlNumber=").map(|it| it.trim_start_matches("0x"));
    let number = number.and_then(|number| u64::from_str_radix(number, 16).ok());
    number.ok_or_else(|| Failure::new("a CRL without a number").said(said))
}

fn version(office: &Office) -> Result<u64, Failure> {
    let bundle = get(office, "/revocations", None)?.expect_status(200)?.json()?;
    let statement = text(&bundle, "statement");
    let version = statement.lines().find_map(|line| line.strip_prefix("version ")?.parse().ok());
    version.ok_or_else(|| Failure::new("a statement without a version").said(statement))
}

fn get(office: &Office, path: &str, tag: Option<&str>) -> Result<Response, Failure> {
    let headers: Vec<_> = tag.into_iter().map(|tag| ("if-none-match", tag)).collect();
    let request = Request { method: "GET", path, headers: &headers, body: b"" };
    http_send(office.public(), &request)
}

fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_default().to_owned()
}
