//! kill -9 at random moments under load: what any client received is in the ledger, and no serial
//! was given twice.

use std::{
    collections::BTreeMap,
    fs,
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use harness::{
    Doing, Failure, Story,
    chance::Chance,
    https::{Https, Identity, Request},
    office::Office,
    ssh,
};
use serde_json::{Value, json};

const ROUNDS: usize = 6;
const CLIENTS: usize = 4;

#[test]
#[expect(clippy::print_stdout, reason = "shown when the story fails")]
fn nothing_that_was_received_is_forgotten() -> Story {
    let mut chance = Chance::new()?;
    println!("seed {chance:?}");
    let mut office = Office::open()?;
    let alice = office.enrol("user/alice")?;
    ssh::generate("ed25519", &office.path("alice"))?;
    let public_key = fs::read_to_string(office.path("alice.pub")).doing("read a key")?;

    // Serial → certificate.
    let mut received: BTreeMap<String, String> = BTreeMap::new();
    for round in 0..ROUNDS {
        let lives = Duration::from_millis(100 + chance.below(900));
        let Load { mut answers, unanswered } =
            load_until_killed(&mut office, &alice, &public_key, round, lives)?;
        office.restart()?;
        // Whoever got no answer asks again under the same key, and gets a certificate now.
        let https = office.https(Some(&alice))?;
        for key in &unanswered {
            answers.push(issue(&https, &public_key, key)?);
        }
        for answer in answers {
            let (serial, certificate) = (text(&answer, "serial"), text(&answer, "certificate"));
            let before = received.insert(serial.clone(), certificate);
            assert_eq!(before, None, "serial {serial} was given twice");
        }
    }
    assert!(received.len() > ROUNDS, "only {} certificates: this was no load", received.len());

    let recorded = recorded(&office.https(Some(office.operator()))?)?;
    for (serial, certificate) in &received {
        let found = recorded.get(serial).map(|text| text.trim_end());
        assert_eq!(found, Some(certificate.trim_end()), "serial {serial} in the ledger");
    }
    Ok(())
}

/// What clients got.
#[derive(Default)]
struct Load {
    answers: Vec<Value>,
    /// The idempotency keys of the requests that the kill cut off.
    unanswered: Vec<String>,
}

/// Clients ask as fast as they can; the appliance is killed after `lives`.
fn load_until_killed(
    office: &mut Office,
    identity: &Identity,
    public_key: &str,
    round: usize,
    lives: Duration,
) -> Result<Load, Failure> {
    let https = office.https(Some(identity))?;
    let load = Mutex::new(Load::default());
    let (https, all) = (&https, &load);
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            scope.spawn(move || {
                for number in 0.. {
                    let key = format!("round {round} client {client} number {number}");
                    let issued = issue(https, public_key, &key);
                    let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
                    match issued {
                        Ok(issued) => all.answers.push(issued),
                        Err(_) => return all.unanswered.push(key),
                    }
                }
            });
        }
        // The kill shall come at a moment that nothing here depends on: time is the only trigger.
        let until = Instant::now() + lives;
        thread::sleep(until.saturating_duration_since(Instant::now()));
        office.kill();
    });
    Ok(load.into_inner().unwrap_or_else(PoisonError::into_inner))
}

fn issue(https: &Https, public_key: &str, key: &str) -> Result<Value, Failure> {
    let body = json!({ "role": "login", "public_key": public_key }).to_string();
    let headers = [("content-type", "application/json"), ("idempotency-key", key)];
    let path = "/v1/issue/ssh-user";
    let request = Request { method: "POST", path, headers: &headers, body: body.as_bytes() };
    https.send(&request)?.expect_status(201)?.json()
}

/// All SSH user certificates of the ledger: serial → certificate.
fn recorded(https: &Https) -> Result<BTreeMap<String, String>, Failure> {
    let mut all = BTreeMap::new();
    let mut after = String::new();
    loop {
        let path = format!("/v1/certificates?kind=ssh_user&limit=1000{after}");
        let page = https.get(&path)?.expect_status(200)?.json()?;
        for record in page["certificates"].as_array().into_iter().flatten() {
            let serial = text(record, "serial");
            let before = all.insert(serial.clone(), text(record, "certificate"));
            assert_eq!(before, None, "serial {serial} is in the ledger twice");
        }
        match page["next"].as_u64() {
            Some(next) => after = format!("&after={next}"),
            None => return Ok(all),
        }
    }
}

fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_default().to_owned()
}
