//! Asking again under the same idempotency key gives the same certificate, whatever happened
//! meanwhile.

use harness::{
    Failure, Story,
    https::{Identity, Request, Response},
    office::Office,
};
use serde_json::Value;

#[test]
fn the_same_key_and_body_give_the_same_certificate_also_after_kill_9() -> Story {
    let mut office = Office::open()?;
    let alice = office.enrol("user/alice")?;
    let bob = office.enrol("user/bob")?;
    let body = office.login_request("one")?;

    let first = ask(&office, &alice, "nightly-7", &body)?.expect_status(201)?.json()?;
    let again = ask(&office, &alice, "nightly-7", &body)?.expect_status(201)?.json()?;
    assert_eq!(first, again);

    office.kill();
    office.restart()?;
    let later = ask(&office, &alice, "nightly-7", &body)?.expect_status(201)?.json()?;
    assert_eq!(first, later);

    let other = ask(&office, &alice, "nightly-8", &body)?.expect_status(201)?.json()?;
    assert_ne!(first["serial"], other["serial"]);

    // A key belongs to one caller.
    let bobs = ask(&office, &bob, "nightly-7", &body)?.expect_status(201)?.json()?;
    assert_ne!(first["serial"], bobs["serial"]);
    Ok(())
}

#[test]
fn the_same_key_with_another_body_is_refused() -> Story {
    let office = Office::open()?;
    let alice = office.enrol("user/alice")?;
    let one = office.login_request("one")?;
    let two = office.login_request("two")?;
    ask(&office, &alice, "k", &one)?.expect_status(201)?;
    let problem = ask(&office, &alice, "k", &two)?.expect_status(409)?.json()?;
    assert_eq!(problem["type"], "urn:chancery:problem:idempotency-conflict");

    for bad in ["", "with\ttab", &"x".repeat(129)] {
        ask(&office, &alice, bad, &one)?.expect_status(400)?;
    }
    Ok(())
}

fn ask(office: &Office, identity: &Identity, key: &str, body: &Value) -> Result<Response, Failure> {
    office.https(Some(identity))?.send(&Request {
        method: "POST",
        path: "/v1/issue/ssh-user",
        headers: &[("content-type", "application/json"), ("idempotency-key", key)],
        body: body.to_string().as_bytes(),
    })
}
