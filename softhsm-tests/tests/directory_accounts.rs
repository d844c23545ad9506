//! Where the SID of a card comes from: the organisation's directory, a real slapd here, and never
//! the one who asks.

use std::{fs, sync::Arc};

use appliance::{
    config::{self, Config, Overrides},
    directory::{Accounts, Directory, DirectoryError, Found},
};
use harness::{
    Doing, Failure, Story,
    https::Identity,
    office::Office,
    openssl,
    process::run,
    slapd::{self, Scheme, Slapd},
};
use jiff::{SignedDuration, Timestamp};
use pki::{clock::TestClock, names::Upn, x509::Certificate};
use serde_json::{Value, json};

/// Cards for oneself, and by an agent for the people of a unit.
const RULES: &str = r#"
[[role]]
name = "own-card"
callers = ["spiffe://example.test/user/*"]
issuer = "issuing"
max_ttl = "8h"
[role.smartcard_logon]
attestation = "optional"
accounts = "directory"
upns = ["{name}@corp.example.test"]

[[role]]
name = "cards-of-sales"
callers = ["spiffe://example.test/user/dora"]
issuer = "issuing"
max_ttl = "8h"
[role.smartcard_logon]
attestation = "optional"
accounts = "directory"
upns = ["*@corp.example.test"]
[role.smartcard_logon.on_behalf]
units = ["ou=Sales,dc=corp,dc=example,dc=test"]
"#;

#[test]
fn a_card_has_the_sid_that_the_directory_has() -> Story {
    let (mut slapd, office) = office()?;
    let csr = csr(&office)?;
    let alice = office.enrol("user/alice")?;
    let dora = office.enrol("user/dora")?;
    let ask = |caller: &Identity, role: &str, upn: &str| {
        let body = json!({ "role": role, "csr": csr, "upn": format!("{upn}@corp.example.test") });
        office.https(Some(caller))?.post("/v1/issue/smartcard", &body)
    };
    let denied = |caller: &Identity, role: &str, upn: &str, reason: &str| {
        let problem = ask(caller, role, upn)?.expect_status(403)?.json()?;
        assert_eq!(problem["reason"], reason, "{problem}");
        Ok::<_, Failure>(())
    };

    // For herself, in whatever case she writes her name.
    let issued = ask(&alice, "own-card", "alice")?.expect_status(201)?.json()?;
    assert_eq!(sid(&issued)?, ALICE);
    denied(&alice, "own-card", "bob", "upn-not-allowed")?;
    denied(&alice, "cards-of-sales", "dave", "caller-not-in-role")?;

    // The agent, for the people of the unit, also where they are only in the directory.
    let issued = ask(&dora, "cards-of-sales", "dave")?.expect_status(201)?.json()?;
    assert_eq!(sid(&issued)?, DAVE);
    let owner = |record: &Value| {
        let caller = record["caller"].as_str().unwrap_or_default().to_owned();
        (record["event"] == "intent").then(|| (caller, record["on_behalf_of"].clone()))
    };
    let intents: Vec<_> = office.audit_records()?.iter().filter_map(owner).collect();
    let enrolled = ("spiffe://example.test/user/dora".to_owned(), "dave@corp.example.test".into());
    assert_eq!(
        intents.iter().filter(|(_, owner)| !owner.is_null()).collect::<Vec<_>>(),
        [&enrolled]
    );
    let record = office.https(Some(office.operator()))?;
    let record = record.get(&format!("/v1/certificates/issuing/{}", said(&issued["serial"])))?;
    let record = record.expect_status(200)?.json()?;
    let account = record["account"].clone();
    assert_eq!((said(&account["upn"]), said(&account["sid"])), ("dave@corp.example.test", DAVE));
    assert_eq!(said(&account["source"]), "directory", "{account}");
    assert_eq!(account["entry"], format!("cn=dave,ou=Sales,{}", slapd::BASE_DN));
    let asked: Timestamp = said(&account["asked_at"]).parse().doing("read a time")?;
    let issued_at: Timestamp = said(&record["issued_at"]).parse().doing("read a time")?;
    assert!(asked <= issued_at, "asked {asked}, issued {issued_at}");
    let is_its = |it: &&Value| it["event"] == "intent" && it["serial"] == issued["serial"];
    let records = office.audit_records()?;
    let intent = records.iter().find(is_its).map(|it| it["account"].clone());
    assert_eq!(intent, Some(account));
    denied(&dora, "cards-of-sales", "alice", "account-out-of-reach")?;
    denied(&dora, "cards-of-sales", "mallory", "account-unknown")?;

    // What the directory says of an account counts, at once: the cache is off here.
    let dave = format!("cn=dave,ou=Sales,{}", slapd::BASE_DN);
    let change = |slapd: &Slapd, dn: &str, what: &str| {
        slapd.modify(&format!("dn: {dn}\nchangetype: modify\n{what}\n"))
    };
    let admins = format!("add: tokenGroups\ntokenGroups:: {}", slapd::sid(512));
    change(&slapd, &dave, &admins)?;
    denied(&dora, "cards-of-sales", "dave", "account-protected")?;
    change(&slapd, &dave, &admins.replacen("add:", "delete:", 1))?;
    change(&slapd, &dave, "replace: userAccountControl\nuserAccountControl: 514")?;
    denied(&dora, "cards-of-sales", "dave", "account-disabled")?;
    change(&slapd, &dave, "replace: userAccountControl\nuserAccountControl: 512")?;
    change(&slapd, &dave, "delete: tokenGroups")?;
    denied(&dora, "cards-of-sales", "dave", "account-unfit")?;
    let other = format!("replace: objectSid\nobjectSid:: {}", slapd::sid(1199));
    change(&slapd, &slapd::account("alice"), &other)?;
    denied(&alice, "own-card", "alice", "account-contradicted")?;
    change(&slapd, &slapd::account("alice"), &other.replace(&slapd::sid(1199), &slapd::sid(1104)))?;
    change(
        &slapd,
        &slapd::account("bob"),
        "replace: userPrincipalName\nuserPrincipalName: ALICE@corp.example.test",
    )?;
    denied(&alice, "own-card", "alice", "account-ambiguous")?;
    change(&slapd, &slapd::account("bob"), "delete: userPrincipalName")?;
    ask(&alice, "own-card", "Alice")?.expect_status(403)?;
    ask(&alice, "own-card", "alice")?.expect_status(201)?;

    // Without the directory nothing is given, and it is said why.
    slapd.stop();
    let problem = ask(&alice, "own-card", "alice")?.expect_status(503)?.json()?;
    assert_eq!(problem["reason"], "directory-unreachable", "{problem}");
    let log = fs::read_to_string(office.path("chanceryd.log")).doing("read the log")?;
    assert!(log.contains("an account cannot be looked up"), "{log}");
    // Who may not have it is refused without asking.
    denied(&alice, "own-card", "bob", "upn-not-allowed")?;
    // The role with pinned accounts asks nobody.
    ask(&alice, "card", "alice")?.expect_status(201)?;
    slapd.start_again()?;
    ask(&alice, "own-card", "alice")?.expect_status(201).map(drop)
}

#[test]
fn an_account_is_checked_from_the_command_line() -> Story {
    let (mut slapd, office) = office()?;
    let alice = office.enrol("user/alice")?;
    let olivia = office.operator();
    let check = |caller: &Identity, name: &str| {
        let upn = format!("{name}@corp.example.test");
        run(&mut office.chancery(caller, &["directory", "check", &upn])?)
    };
    let said = words(&check(olivia, "alice")?.success()?.stdout);
    for part in [
        format!("directory has the account UPN alice@corp.example.test SID {ALICE} name cn=alice,"),
        format!("enabled yes groups {} asked ", ALICE.replace("-1104", "-513")),
        format!("pinned alice@corp.example.test {ALICE} agree yes ROLE "),
        " card its owner cards-of-sales those who enrol for others account-out-of-reach: ".into(),
        " own-card its owner".to_owned(),
    ] {
        assert!(said.contains(&part), "{part}\n{said}");
    }
    let mut json =
        office.chancery(olivia, &["--json", "directory", "check", "dave@corp.example.test"])?;
    let report: Value =
        serde_json::from_str(&run(&mut json)?.success()?.stdout).doing("read JSON")?;
    assert_eq!(report["directory"]["state"], "found");
    assert_eq!(report["directory"]["sid"], DAVE);
    assert!(report["pinned"].is_null() && report["agree"].is_null(), "{report}");

    // Others hear of what a role of theirs gives, and of nothing else.
    check(&alice, "alice")?.success()?;
    check(&alice, "bob")?.refused("account-not-shown")?;
    check(olivia, "mallory")?.refused("no role gives a card of mallory@corp.example.test")?;
    check(olivia, "a*")?.refused("user principal name")?;
    slapd.modify(&format!(
        "dn: {}\nchangetype: modify\nreplace: objectSid\nobjectSid:: {}\n",
        slapd::account("bob"),
        slapd::sid(1199)
    ))?;
    check(olivia, "bob")?.refused("disagree about the SID of bob@corp.example.test")?;
    slapd.stop();
    let said = words(&check(olivia, "alice")?.success()?.stdout);
    assert!(said.contains("does not answer (directory-unreachable)"), "{said}");
    assert!(said.contains(" own-card its owner directory-unreachable: "), "{said}");
    Ok(())
}

#[test]
fn an_account_is_known_for_a_while_and_no_longer() -> Story {
    let place = tempfile::tempdir().doing("make a directory")?;
    let mut slapd = Slapd::start(place.path(), Scheme::Ldap)?;
    let start = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(24);
    let clock = Arc::new(TestClock::new(start));
    let accounts = Accounts::new(Directory::new(settings(&slapd)?), clock.clone());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.doing("make a runtime")?;
    let find = |name: &str| {
        let upn: Upn = format!("{name}@corp.example.test").parse().doing("name an account")?;
        Ok::<_, Failure>(runtime.block_on(accounts.find(&upn)))
    };
    let found = find("alice")?.doing("look alice up")?;
    let Found::Account(alice) = &found.found else { panic!("{found:?}") };
    assert_eq!((alice.sid.as_str(), alice.enabled), (ALICE, true));
    assert!(matches!(find("mallory")?.doing("look up")?.found, Found::Nobody));
    slapd.stop();

    // Who was found is known; who was not is asked for again.
    clock.advance(SignedDuration::from_millis(29_999));
    assert_eq!(find("alice")?.doing("look alice up")?.asked_at, start);
    let gone = find("mallory")?.expect_err("nobody was remembered");
    assert!(matches!(gone, DirectoryError::Unreachable { .. }), "{gone}");
    clock.advance(SignedDuration::from_millis(1));
    find("alice")?.expect_err("alice was known for longer than it is set");
    Ok(())
}

#[test]
fn a_wrong_password_is_shown_once_however_many_ask() -> Story {
    let place = tempfile::tempdir().doing("make a directory")?;
    let slapd = Slapd::start(place.path(), Scheme::Ldap)?;
    let settings = settings(&slapd)?;
    fs::write(slapd.password_file(), "a wrong one").doing("write a password")?;
    let directory = Directory::new(settings);
    let runtime = tokio::runtime::Runtime::new().doing("make a runtime")?;
    let upn: Upn = "alice@corp.example.test".parse().doing("name an account")?;
    let asking = (0..20).map(|_| {
        let (directory, upn) = (directory.clone(), upn.clone());
        runtime.spawn(async move { directory.look_up(&upn).await })
    });
    let asking: Vec<_> = asking.collect();
    for task in asking {
        let refused = runtime.block_on(task).doing("wait for a task")?;
        let refused = refused.expect_err("a wrong password was taken");
        assert!(matches!(refused, DirectoryError::Password { .. }), "{refused}");
    }
    fs::write(slapd.password_file(), slapd::PASSWORD).doing("write a password")?;
    let found = runtime.block_on(directory.look_up(&upn)).doing("look up")?;
    assert!(matches!(found, Found::Account(_)), "{found:?}");
    // A change marks the place in the log: it is written after the answers.
    slapd.modify(&format!(
        "dn: {}\nchangetype: modify\nreplace: userAccountControl\nuserAccountControl: 514\n",
        slapd::account("bob")
    ))?;
    assert_eq!(slapd.refused_logins(1)?, 1);
    Ok(())
}

const ALICE: &str = "S-1-5-21-1004336348-1177238915-682003330-1104";
const DAVE: &str = "S-1-5-21-1004336348-1177238915-682003330-1150";

/// An office with a directory, in which dave of Sales is besides alice and bob.
fn office() -> Result<(Slapd, Office), Failure> {
    let mut office = Office::prepare()?;
    let slapd = Slapd::start(&office.path("slapd"), Scheme::Ldap)?;
    slapd.modify(&format!(
        "dn: ou=Sales,{base}\nchangetype: add\nobjectClass: organizationalUnit\nou: Sales\n\n\
         dn: cn=dave,ou=Sales,{base}\nchangetype: add\n{}",
        slapd::person("dave", 1150),
        base = slapd::BASE_DN,
    ))?;
    fs::write(office.path("rules/cards.toml"), RULES).doing("write rules")?;
    office.hold_ceremony()?;
    run(&mut office.chanceryd(&["check", "chanceryd.toml"])?)?
        .refused("accounts = \"directory\", and chanceryd.toml no [directory]")?;
    office.configure_also(&slapd.table("cache_seconds = 0\nlook_up_timeout_seconds = 8\n"))?;
    run(&mut office.chanceryd(&["check", "chanceryd.toml"])?)?.success()?;
    office.add_operator()?;
    office.start()?;
    Ok((slapd, office))
}

/// As the appliance reads them.
fn settings(slapd: &Slapd) -> Result<config::Directory, Failure> {
    let office = Office::prepare()?;
    office.configure_also(&slapd.table("timeout_seconds = 30\nlook_up_timeout_seconds = 8\n"))?;
    let file = office.path("chanceryd.toml");
    let config = Config::read(&file, Overrides::default(), None).doing("read the configuration")?;
    config.directory.ok_or_else(|| Failure::new("there is no directory in it"))
}

fn csr(office: &Office) -> Result<String, Failure> {
    let (key, request) = (office.path("card.key"), office.path("card.csr"));
    openssl::generate("ec:P-256", &key)?;
    openssl::request(&key, "/CN=nobody", &[], &request)?;
    fs::read_to_string(request).doing("read a request")
}

/// The SID in a certificate: the security extension has it as text, behind its length (MS-WCCE
/// 2.2.2.7.7.4).
fn sid(issued: &Value) -> Result<String, Failure> {
    let pem = issued["certificate"].as_str().unwrap_or_default();
    let certificate = Certificate::from_pem(pem).doing("read a certificate")?;
    let der = certificate.der();
    let start = der.windows(9).position(|window| window == b"S-1-5-21-");
    let start = start.ok_or_else(|| Failure::new("there is no SID in it"))?;
    let sid = der.get(start..start + usize::from(der[start - 1])).unwrap_or_default();
    Ok(String::from_utf8_lossy(sid).into_owned())
}

fn said(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// With one space between words.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
