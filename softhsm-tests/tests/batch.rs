//! A batch: one line in, one line out, in order; a bad line harms no other.

use std::fs;

use harness::{
    Doing, Failure, Story,
    https::{Https, Request, Response},
    office::Office,
    openssl, ssh,
};
use serde_json::{Value, json};

#[test]
fn each_line_of_a_batch_gets_its_own_answer_in_order() -> Story {
    let office = Office::open()?;
    let alice = office.enrol("user/alice")?;
    ssh::generate("ed25519", &office.path("alice"))?;
    let public_key =
        fs::read_to_string(office.path("alice.pub")).doing("read a key")?.trim().to_owned();
    let good = json!({ "request": {
        "operation": "ssh_user", "role": "login", "public_key": public_key,
    }});
    let lines = [
        good.to_string(),
        json!({ "request": {
            "operation": "ssh_user", "role": "login", "public_key": public_key,
            "principals": ["root"],
        }})
        .to_string(),
        good.to_string(),
        "{ this is no JSON".to_owned(),
        json!({ "request": { "operation": "ssh_user", "role": "login", "public_key": "?" } })
            .to_string(),
        json!({ "request": { "operation": "sign", "role": "firmware", "key": "firmware",
            "scheme": "ecdsa-p256-sha256", "digest": "00".repeat(32) } })
        .to_string(),
        good.to_string(),
    ];
    let answer = send(&office.https(Some(&alice))?, &lines.join("\n"))?.expect_status(200)?;
    assert_eq!(answer.header("content-type"), Some("application/x-ndjson"));
    let results = results(&answer)?;
    let statuses: Vec<_> = results.iter().map(|result| result["status"].clone()).collect();
    assert_eq!(statuses, [201, 403, 201, 400, 422, 403, 201], "{results:#?}");
    let indexes: Vec<_> = results.iter().map(|result| result["index"].clone()).collect();
    assert_eq!(indexes, [0, 1, 2, 3, 4, 5, 6]);

    let serial = |line: usize| results[line]["issued"]["serial"].as_str().map(str::to_owned);
    let serials = [serial(0), serial(2), serial(6)];
    assert!(serials.iter().all(Option::is_some), "{results:#?}");
    assert!(serials[0] != serials[1] && serials[1] != serials[2] && serials[0] != serials[2]);
    Ok(())
}

#[test]
fn a_whole_batch_of_certificates_is_good() -> Story {
    let office = Office::open()?;
    let web = office.enrol("service/web")?;
    let (key, request) = (office.path("web.key"), office.path("web.csr"));
    openssl::generate("ec:P-256", &key)?;
    openssl::request(&key, "/CN=web", &[], &request)?;
    let csr = fs::read_to_string(&request).doing("read a request")?;
    let line = json!({ "request": {
        "operation": "x509", "role": "web-server", "csr": csr, "dns_names": ["www.example.test"],
    }})
    .to_string();
    let body = vec![line; 200].join("\n");
    let answer = send(&office.https(Some(&web))?, &body)?.expect_status(200)?;
    let results = results(&answer)?;
    assert_eq!(results.len(), 200);
    for result in &results {
        let certificate = result["issued"]["certificate"]
            .as_str()
            .ok_or_else(|| Failure::new("a line without a certificate").said(result.to_string()))?;
        fs::write(office.path("one.pem"), certificate).doing("write a certificate")?;
        let (root, issuing) = (office.handoff("root.pem"), office.handoff("services.pem"));
        let file = office.path("one.pem");
        openssl::verify(&root, Some(&issuing), "sslserver", &file)?.success()?;
    }
    Ok(())
}

fn send(https: &Https, body: &str) -> Result<Response, Failure> {
    https.send(&Request {
        method: "POST",
        path: "/v1/batch",
        headers: &[("content-type", "application/x-ndjson")],
        body: body.as_bytes(),
    })
}

fn results(answer: &Response) -> Result<Vec<Value>, Failure> {
    let text = answer.text();
    text.lines().map(|line| serde_json::from_str(line).doing("read a line")).collect()
}
