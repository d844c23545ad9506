//! Bots: an instance joins once and renews, whatever is lost or killed, and whoever copies it is found
//! at the first renewal.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use harness::{
    Doing, Failure, Story,
    clock::Clock,
    https::{Https, Identity, Response},
    office::{Office, http_get, with_chain},
    openssl,
    process::wait_until,
    ssh,
};
use serde_json::{Value, json};

#[test]
fn a_bot_joins_by_token_and_renews_and_a_lost_answer_comes_again() -> Story {
    let town = Town::new(Office::open()?)?;
    let applied = town.apply(&ci())?;
    assert_eq!((&applied["changed"], &applied["bot"]["instances"]), (&json!(true), &json!([])));
    assert_eq!(town.apply(&ci())?["changed"], false);

    // 1 Joined twice with one key, it is one instance; with another key, the token is used.
    let token = town.token()?;
    let first = town.request("first")?;
    let joined = town.join(&token, &first)?.expect_status(201)?.json()?;
    assert_eq!(joined, town.join(&token, &first)?.expect_status(201)?.json()?);
    assert_eq!((&joined["generation"], &joined["renewable"]), (&json!(1), &json!(true)));
    let other = town.join(&token, &town.request("other")?)?;
    assert_refused(other, "join-token-used")?;

    // 2 It asks as the bot, with the roles that it was given, and is known by its instance.
    let one = town.keep(&joined, "first")?;
    let issued = town.login(&one)?.expect_status(201)?.json()?;
    let text = town.openssh(&issued)?;
    assert!(text.contains("spiffe://example.test/bot/ci/"), "{text}");
    assert!(text.lines().any(|line| line.trim() == "ci"), "its login name is the bot's: {text}");
    assert_refused(town.join(&token, &first)?, "join-token-used")?;

    // 3 The same CSR gives the same certificate, until that was used.
    let second = town.request("second")?;
    let renewed = town.renew(&one, &second)?.expect_status(201)?.json()?;
    assert_eq!(renewed, town.renew(&one, &second)?.expect_status(201)?.json()?);
    assert_eq!((&renewed["generation"], &renewed["instance"]), (&json!(2), &joined["instance"]));
    town.login(&one)?.expect_status(201)?;
    let two = town.keep(&renewed, "second")?;
    let status = town.status(&two)?.expect_status(200)?.json()?;
    assert_eq!((&status["generation"], &status["name"]), (&json!(2), &json!("ci")));
    assert_eq!(status["roles"], json!([{ "role": "login", "open": true }]));
    assert_refused(town.login(&one)?, "superseded")?;
    // An old request that comes late is no copy's: its key is known.
    assert_refused(town.renew(&one, &second)?, "superseded")?;
    assert_eq!(town.instances()?, json!([["live", 2]]));
    Ok(())
}

#[test]
fn a_copy_is_found_at_its_first_renewal_and_its_instance_alone_is_locked() -> Story {
    let town = Town::new(Office::open()?)?;
    town.apply(&json!({
        "name": "ci", "roles": ["login"], "join": { "method": "token" }, "max_instances": 2,
    }))?;
    let (one, neighbour) = (town.joined("one")?, town.joined("neighbour")?);
    let issued = town.login(&one)?.expect_status(201)?.json()?;
    let two = town.renewed(&one, "two")?;
    town.status(&two)?.expect_status(200)?;

    // 1 Who has the copy learns that it is over, and what was seen is in the lock.
    let problem = assert_refused(town.renew(&one, &town.request("copy")?)?, "locked")?;
    let (detail, hint) = (problem["detail"].to_string(), problem["hint"].to_string());
    assert!(detail.contains("generation 1 asked to renew from 127.0.0.1"), "{problem}");
    assert!(detail.contains("generation 2 is in use"), "{problem}");
    let target = format!("bot-instance:ci/{}", town.instance(&two)?);
    let unlock = target.replace("bot-instance:", "chancery bot unlock ");
    assert!(hint.contains(&unlock), "{problem}");
    let locks = town.operator()?.get("/v1/locks")?.expect_status(200)?.json()?;
    assert_eq!((&locks["locks"][0]["target"], locks["locks"][1].is_null()), (&json!(target), true));
    assert_eq!(locks["locks"][0]["locked_by"], "spiffe://example.test/service/chanceryd");

    // 2 So does the original; its neighbour goes on, and all that it had is taken back.
    let problem = assert_refused(town.status(&two)?, "locked")?;
    assert!(problem["hint"].to_string().contains(&unlock), "{problem}");
    assert_refused(town.renew(&two, &town.request("three")?)?, "locked")?;
    town.login(&neighbour)?.expect_status(201)?;
    let serial = issued["serial"].as_str().unwrap_or_default();
    let record = town.operator()?.get(&format!("/v1/certificates/ssh-user/{serial}"))?.json()?;
    assert_eq!(record["revocation"], "privilege-withdrawn", "{record}");
    wait_until("its own certificate is on the list", Duration::from_secs(30), || {
        let verified = openssl::verify_with_crl(&town.office, "services", &two.certificate)?;
        Ok(verified.output().contains("certificate revoked"))
    })?;
    openssl::verify_with_crl(&town.office, "services", &neighbour.certificate)?.success()?;
    let metrics = http_get(town.office.public(), "/metrics").doing("read the metrics")?;
    assert!(metrics.contains("chancery_bot_clones_total 1"), "{metrics}");
    assert_eq!(town.audited("bot_cloned")?.len(), 1);

    // 3 After the lock is removed, both have to join; asking is no second copy.
    let unlock = json!({ "target": target, "reason": "the copy is gone" });
    town.operator()?.post("/v1/locks/remove", &unlock)?.expect_status(200)?;
    for gone in [&one, &two] {
        assert_refused(town.renew(gone, &town.request("three")?)?, "certificate-revoked")?;
    }
    let anew = town.joined("anew")?;
    town.login(&anew)?.expect_status(201)?;
    town.login(&neighbour)?.expect_status(201)?;
    assert_eq!(town.instances()?, json!([["live", 1], ["live", 1], ["locked", 2]]));
    Ok(())
}

#[test]
fn an_appliance_that_is_killed_around_renewals_locks_nobody() -> Story {
    let mut town = Town::new(Office::open()?)?;
    town.apply(&ci())?;
    let mut own = town.joined("generation 1")?;
    for round in 2..=10 {
        let name = format!("generation {round}");
        let csr = town.request(&name)?;
        let (https, body) = (town.https(&own)?, json!({ "csr": csr }));
        let asking = thread::spawn(move || https.post("/v1/bot/renew", &body).map(drop));
        // From before the request is read to after its answer.
        thread::sleep(Duration::from_millis(4 * (round - 2)));
        town.office.kill();
        // Whether it was answered is the matter of chance: nobody heard it.
        let _ = asking.join();
        town.office.start()?;
        let given = town.renew(&own, &csr)?.expect_status(201)?.json()?;
        assert_eq!(given["generation"], round, "{given}");
        own = town.keep(&given, &name)?;
        town.login(&own)?.expect_status(201)?;
    }
    assert_eq!(town.instances()?, json!([["live", 10]]));
    assert_eq!((town.audited("locked")?.len(), town.audited("bot_confirmed")?.len()), (0, 10));
    Ok(())
}

#[test]
fn a_ledger_that_was_restored_is_no_copy_and_hides_none() -> Story {
    let mut town = Town::new(Office::open()?)?;
    town.apply(&json!({
        "name": "ci", "roles": ["login"], "join": { "method": "token" }, "max_instances": 2,
    }))?;
    let one = town.joined("one")?;
    town.status(&one)?.expect_status(200)?;
    let backup = town.office.path("backup");
    town.office.kill();
    copy_all(&town.office, &backup)?;
    town.office.start()?;
    let two = town.renewed(&one, "two")?;
    let three = town.renewed(&two, "three")?;
    town.status(&three)?.expect_status(200)?;
    let neighbour = town.joined("neighbour")?;
    town.status(&neighbour)?.expect_status(200)?;
    town.office.kill();
    for name in STATE {
        fs::remove_dir_all(town.office.path(name)).doing("remove the state")?;
        fs::rename(backup.join(name), town.office.path(name)).doing("restore the state")?;
    }
    town.office.start()?;

    // Of neither certificate the ledger knows, and of one not even the instance.
    town.login(&three)?.expect_status(201)?;
    town.status(&neighbour)?.expect_status(200)?;
    assert_eq!(town.audited("bot_adopted")?.len(), 2);
    // Certificates tell their age in seconds.
    let second = || Ok(town.login(&three)?.expect_status(201)?.json()?["not_after"].clone());
    let before: Value = second()?;
    wait_until("the next second", Duration::from_secs(10), || Ok(second()? != before))?;
    let four = town.renewed(&three, "four")?;
    town.login(&four)?.expect_status(201)?;
    town.renewed(&neighbour, "its next")?;
    assert_eq!(town.audited("locked")?.len(), 0);
    // What was copied before is older than what is in use, whether it is known or not.
    assert_refused(town.login(&two)?, "superseded")?;
    assert_refused(town.renew(&two, &town.request("copy")?)?, "locked")?;
    assert_refused(town.status(&four)?, "locked")?;
    wait_until("what was taken up is on the list", Duration::from_secs(30), || {
        let verified = openssl::verify_with_crl(&town.office, "services", &three.certificate)?;
        Ok(verified.output().contains("certificate revoked"))
    })
}

/// 23 October 2026 is a Friday.
const RULES: &str = r#"
[[role]]
name = "office-shell"
callers = ["spiffe://example.test/bot/*"]
issuer = "ssh-user"
max_ttl = "6h"
[role.schedule]
time_zone = "Europe/Vienna"
windows = ["Fri 09:00-18:00"]
[role.ssh_user]
principals = ["{name}"]

[[role]]
name = "night-shell"
callers = ["spiffe://example.test/bot/*"]
issuer = "ssh-user"
max_ttl = "6h"
[role.schedule]
time_zone = "Europe/Vienna"
windows = ["Fri 20:00-24:00"]
[role.ssh_user]
principals = ["{name}"]
"#;

#[test]
fn a_bot_has_its_roles_its_places_and_its_hours_until_it_is_removed() -> Story {
    let mut office = Office::prepare()?;
    fs::write(office.path("rules/hours.toml"), RULES).doing("write rules")?;
    // Ten o'clock in Vienna.
    office.set_clock(Clock::showing(1_792_742_400)?);
    office.begin()?;
    let town = Town::new(office)?;
    let spec = |more: Value| {
        let mut spec = json!({
            "name": "ci", "roles": ["night-shell", "office-shell"], "join": { "method": "token" },
            "max_ttl": 600,
        });
        if let (Some(spec), Some(more)) = (spec.as_object_mut(), more.as_object()) {
            spec.extend(more.clone());
        }
        spec
    };
    for (bad, why) in [
        (json!({ "roles": ["nothing"] }), "there is no role"),
        (json!({ "roles": ["web-server"] }), "is not given to spiffe://example.test/bot/ci"),
        (json!({ "roles": [] }), "may do nothing"),
        (json!({ "max_instances": 0 }), "max_instances"),
        (json!({ "identity_ttl": 0 }), "identity_ttl"),
        (json!({ "join": { "method": "bound-key", "public_key": "none" } }), "public_key"),
    ] {
        let refused = town.operator()?.post("/v1/bots", &spec(bad))?.expect_status(400)?.json()?;
        assert!(refused["detail"].to_string().contains(why), "{refused}");
    }
    town.apply(&spec(json!({})))?;
    let own = town.joined("own")?;

    // 1 Its roles, of those that the rules give to it, as they are open now.
    let roles = town.status(&own)?.expect_status(200)?.json()?["roles"].clone();
    assert_eq!(
        roles,
        json!([
            { "role": "night-shell", "open": false, "opens_at": "2026-10-23T18:00:00Z" },
            { "role": "office-shell", "open": true, "closes_at": "2026-10-23T16:00:00Z" },
        ])
    );
    let issued = town.shell(&own, "office-shell")?.expect_status(201)?.json()?;
    assert_eq!(issued["not_after"].to_string().get(1..16), Some("2026-10-23T08:1"), "{issued}");
    let closed = assert_refused(town.shell(&own, "night-shell")?, "outside-schedule")?;
    assert!(closed["hint"].to_string().contains("it opens on Friday 23 October"), "{closed}");
    assert_refused(town.shell(&own, "login")?, "role-not-of-bot")?;
    assert_refused(town.shell(&own, "web-server")?, "caller-not-in-role")?;

    // 2 What is changed counts from the next request on.
    town.apply(&spec(json!({ "roles": ["night-shell"] })))?;
    assert_refused(town.shell(&own, "office-shell")?, "role-not-of-bot")?;
    town.apply(&spec(json!({ "source_addresses": ["192.0.2.0/24"] })))?;
    assert_refused(town.status(&own)?, "bot-address-not-allowed")?;
    let elsewhere = town.join(&town.token()?, &town.request("elsewhere")?)?;
    assert_refused(elsewhere, "bot-address-not-allowed")?;
    town.apply(&spec(json!({})))?;
    town.status(&own)?.expect_status(200)?;

    // 3 The name alone makes no bot, and operators alone do anything about bots.
    let ghost = town.office.enrol("bot/ghost")?;
    assert_refused(town.login(&ghost)?, "no-such-instance")?;
    let alice = town.office.enrol("user/alice")?;
    assert_refused(town.status(&alice)?, "not-a-bot")?;
    let (alice, own_https) = (town.https(&alice)?, town.https(&own)?);
    for https in [&alice, &own_https] {
        assert_refused(https.post("/v1/bots", &spec(json!({})))?, "not-an-operator")?;
        assert_refused(https.get("/v1/bots")?, "not-an-operator")?;
        assert_refused(https.post("/v1/bots/ci/token", &json!({}))?, "not-an-operator")?;
    }

    // 4 Removed, it has nothing more.
    let remove =
        |reason: &str| town.operator()?.post("/v1/bots/ci/remove", &json!({ "reason": reason }));
    assert_refused(remove(" ")?, "no-reason")?;
    remove("it is not needed")?.expect_status(200)?;
    remove("it is not needed")?.expect_status(404)?;
    assert_refused(town.status(&own)?, "no-such-bot")?;
    let serial = issued["serial"].as_str().unwrap_or_default();
    let record = town.operator()?.get(&format!("/v1/certificates/ssh-user/{serial}"))?.json()?;
    assert_eq!(record["revocation"], "cessation-of-operation", "{record}");
    Ok(())
}

/// An office with a bot.
struct Town {
    office: Office,
}

impl Town {
    fn new(office: Office) -> Result<Self, Failure> {
        Ok(Self { office })
    }

    fn operator(&self) -> Result<Https, Failure> {
        self.office.https(Some(self.office.operator()))
    }

    fn apply(&self, spec: &Value) -> Result<Value, Failure> {
        self.operator()?.post("/v1/bots", spec)?.expect_status(200)?.json()
    }

    fn token(&self) -> Result<Value, Failure> {
        self.operator()?.post("/v1/bots/ci/token", &json!({}))?.expect_status(201)?.json()
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

    /// A new instance.
    fn joined(&self, name: &str) -> Result<Identity, Failure> {
        let given = self.join(&self.token()?, &self.request(name)?)?.expect_status(201)?.json()?;
        let own = self.keep(&given, name)?;
        self.status(&own)?.expect_status(200)?;
        Ok(own)
    }

    fn renew(&self, own: &Identity, csr: &str) -> Result<Response, Failure> {
        self.https(own)?.post("/v1/bot/renew", &json!({ "csr": csr }))
    }

    /// The next generation of an instance.
    fn renewed(&self, own: &Identity, name: &str) -> Result<Identity, Failure> {
        let given = self.renew(own, &self.request(name)?)?.expect_status(201)?.json()?;
        self.keep(&given, name)
    }

    fn status(&self, own: &Identity) -> Result<Response, Failure> {
        self.https(own)?.get("/v1/bot")
    }

    fn instance(&self, own: &Identity) -> Result<String, Failure> {
        let text = openssl::describe(&own.certificate)?;
        let (_, rest) = text.split_once("/bot/ci/").ok_or_else(|| Failure::new("no instance"))?;
        Ok(rest.chars().take(32).collect())
    }

    fn login(&self, own: &Identity) -> Result<Response, Failure> {
        self.shell(own, "login")
    }

    fn shell(&self, own: &Identity, role: &str) -> Result<Response, Failure> {
        let mut request = self.office.login_request("ssh")?;
        request["role"] = role.into();
        self.https(own)?.post("/v1/issue/ssh-user", &request)
    }

    fn https(&self, own: &Identity) -> Result<Https, Failure> {
        self.office.https(Some(own))
    }

    /// What was given for the key of this name.
    fn keep(&self, given: &Value, name: &str) -> Result<Identity, Failure> {
        let certificate = self.office.path(format!("{name}.pem"));
        fs::write(&certificate, with_chain(given)).doing("write a certificate")?;
        Ok(Identity { certificate, key: self.key(name) })
    }

    /// State and generation of each instance, those that live first.
    fn instances(&self) -> Result<Value, Failure> {
        let bot = self.operator()?.get("/v1/bots/ci")?.expect_status(200)?.json()?;
        let instances = bot["instances"].as_array().cloned().unwrap_or_default();
        let mut told: Vec<_> =
            instances.iter().map(|it| json!([it["state"], it["generation"]])).collect();
        told.sort_by_key(Value::to_string);
        Ok(told.into())
    }

    fn audited(&self, event: &str) -> Result<Vec<Value>, Failure> {
        let mut records = self.office.audit_records()?;
        records.retain(|record| record["event"] == event);
        Ok(records)
    }

    /// What ssh-keygen reads in an SSH certificate.
    fn openssh(&self, issued: &Value) -> Result<String, Failure> {
        let path = self.office.path("issued-cert.pub");
        let text = issued["certificate"].as_str().unwrap_or_default();
        fs::write(&path, text).doing("write a certificate")?;
        ssh::describe(&path)
    }
}

const STATE: [&str; 2] = ["audit", "state"];

fn copy_all(office: &Office, to: &Path) -> Story {
    for name in STATE {
        fs::create_dir_all(to.join(name)).doing("make a directory")?;
        for entry in fs::read_dir(office.path(name)).doing("list the state")? {
            let entry = entry.doing("list the state")?;
            if !entry.file_type().doing("look at the state")?.is_file() {
                continue;
            }
            let path = to.join(name).join(entry.file_name());
            fs::copy(entry.path(), path).doing("copy the state")?;
        }
    }
    Ok(())
}

fn ci() -> Value {
    json!({ "name": "ci", "roles": ["login"], "join": { "method": "token" } })
}

fn assert_refused(answer: Response, reason: &str) -> Result<Value, Failure> {
    let problem = answer.expect_status(403)?.json()?;
    assert_eq!(problem["reason"], reason, "{problem}");
    Ok(problem)
}
