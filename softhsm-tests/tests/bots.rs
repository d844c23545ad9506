//! Bots: an instance joins once and renews, and whoever copies it is found at the first renewal.

use std::{fs, path::PathBuf};

use harness::{
    Doing, Failure, Story,
    https::{Https, Identity, Response},
    office::{Office, with_chain},
    openssl,
};
use serde_json::{Value, json};

#[test]
fn a_bot_joins_by_token_and_renews_and_a_lost_answer_comes_again() -> Story {
    let office = Office::open()?;
    let town = Town::new(&office)?;
    let applied = town.apply(&ci())?.expect_status(200)?.json()?;
    assert_eq!((&applied["changed"], &applied["bot"]["instances"]), (&json!(true), &json!([])));
    let again = town.apply(&ci())?.expect_status(200)?.json()?;
    assert_eq!(again["changed"], false);

    // 1 Joined twice with one key, it is one instance; with another key, the token is used.
    let token = town.token()?;
    let first = town.request("first")?;
    let joined = town.join(&token, &first)?.expect_status(201)?.json()?;
    assert_eq!(joined, town.join(&token, &first)?.expect_status(201)?.json()?);
    assert_eq!((&joined["generation"], &joined["renewable"]), (&json!(1), &json!(true)));
    let other = town.join(&token, &town.request("other")?)?.expect_status(403)?.json()?;
    assert_reason(&other, "join-token-used");

    // 2 It asks as the bot, with the roles that it was given, and is known by its instance.
    let one = town.identity(&joined, "first")?;
    let login = office.login_request("ssh")?;
    let issued = office.ask(&one, "/v1/issue/ssh-user", &login)?;
    let text = openssh(&office, &issued)?;
    assert!(text.contains("spiffe://example.test/bot/ci/"), "{text}");
    assert!(text.lines().any(|line| line.trim() == "ci"), "its login name is the bot's: {text}");
    assert_reason(&town.join(&token, &first)?.expect_status(403)?.json()?, "join-token-used");

    // 3 The same CSR gives the same certificate, until that was used.
    let second = town.request("second")?;
    let renewed = town.renew(&one, &second)?.expect_status(201)?.json()?;
    assert_eq!(renewed, town.renew(&one, &second)?.expect_status(201)?.json()?);
    assert_eq!((&renewed["generation"], &renewed["instance"]), (&json!(2), &joined["instance"]));
    office.ask(&one, "/v1/issue/ssh-user", &login)?;
    let two = town.identity(&renewed, "second")?;
    let status = town.https(&two)?.get("/v1/bot")?.expect_status(200)?.json()?;
    assert_eq!((&status["generation"], &status["name"]), (&json!(2), &json!("ci")));
    assert_eq!(status["roles"], json!([{ "role": "login", "open": true }]));
    let late = town.https(&one)?.post("/v1/issue/ssh-user", &login)?;
    assert_reason(&late.expect_status(403)?.json()?, "superseded");
    // An old request that comes late is no copy's: its key is known.
    assert_reason(&town.renew(&one, &second)?.expect_status(403)?.json()?, "superseded");

    let shown = town.operator.get("/v1/bots/ci")?.expect_status(200)?.json()?;
    let instance = &shown["instances"][0];
    assert_eq!((&instance["state"], &instance["generation"]), (&json!("live"), &json!(2)));
    Ok(())
}

/// An office with a bot.
struct Town<'a> {
    office: &'a Office,
    operator: Https,
}

impl<'a> Town<'a> {
    fn new(office: &'a Office) -> Result<Self, Failure> {
        Ok(Self { office, operator: office.https(Some(office.operator()))? })
    }

    fn apply(&self, spec: &Value) -> Result<Response, Failure> {
        self.operator.post("/v1/bots", spec)
    }

    fn token(&self) -> Result<Value, Failure> {
        self.operator.post("/v1/bots/ci/token", &json!({}))?.expect_status(201)?.json()
    }

    /// A CSR for a key of this name, made once.
    fn request(&self, name: &str) -> Result<String, Failure> {
        let (key, request) = (self.key(name), self.office.path(format!("{name}.csr")));
        if !key.exists() {
            openssl::generate("ec:P-256", &key)?;
            openssl::request(&key, "/CN=bot", &[], &request)?;
        }
        fs::read_to_string(&request).doing("read a request")
    }

    fn key(&self, name: &str) -> PathBuf {
        self.office.path(format!("{name}.key"))
    }

    fn join(&self, token: &Value, csr: &str) -> Result<Response, Failure> {
        let proof = json!({ "method": "token", "secret": token["secret"] });
        let body = json!({ "name": "ci", "csr": csr, "proof": proof });
        self.office.https(None)?.post("/v1/join/bot", &body)
    }

    fn renew(&self, identity: &Identity, csr: &str) -> Result<Response, Failure> {
        self.https(identity)?.post("/v1/bot/renew", &json!({ "csr": csr }))
    }

    fn https(&self, identity: &Identity) -> Result<Https, Failure> {
        self.office.https(Some(identity))
    }

    /// What was given for the key of this name.
    fn identity(&self, given: &Value, name: &str) -> Result<Identity, Failure> {
        let certificate = self.office.path(format!("{name}.pem"));
        fs::write(&certificate, with_chain(given)).doing("write a certificate")?;
        Ok(Identity { certificate, key: self.key(name) })
    }
}

fn ci() -> Value {
    json!({ "name": "ci", "roles": ["login"], "join": { "method": "token" } })
}

/// What ssh-keygen reads in an SSH certificate.
fn openssh(office: &Office, issued: &Value) -> Result<String, Failure> {
    let path = office.path("issued-cert.pub");
    let text = issued["certificate"].as_str().unwrap_or_default();
    fs::write(&path, text).doing("write a certificate")?;
    harness::ssh::describe(&path)
}

fn assert_reason(problem: &Value, reason: &str) {
    assert_eq!(problem["reason"], reason, "{problem}");
}
