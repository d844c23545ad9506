//! What sessions do in the organisation's directory, against a real slapd.

use std::{collections::BTreeSet, fs, net::TcpListener, path::Path, sync::Arc, time::Duration};

use appliance::{
    config::{self, Config, Overrides},
    directory::{Act, Applied, Directory, DirectoryError, Hook, Job, Outcome},
    ledger::{Ledger, NewSession},
    policy::{DirectoryGrant, SessionGrant},
};
use harness::{
    Doing, Failure, Story,
    https::Identity,
    office::{Office, http_get},
    process::{run, wait_until},
    slapd::{self, Scheme, Slapd},
};
use jiff::{SignedDuration, Timestamp};
use pki::{
    clock::{Clock, SystemClock},
    names::Upn,
};
use serde_json::Value;
use tempfile::TempDir;

const CONTROL: &str = "userAccountControl";

#[test]
fn acts_can_be_done_again_in_clear_on_the_machine_and_by_tls_elsewhere() -> Story {
    for (scheme, tls) in [(Scheme::Ldap, false), (Scheme::Ldap, true), (Scheme::Ldaps, true)] {
        let place = place()?;
        let slapd = Slapd::start(place.path(), scheme)?;
        let directory = &mut Directory::new(settings(&slapd, tls)?);
        let alice = slapd::account("alice");
        for applied in [Applied::Changed, Applied::Already] {
            assert_eq!(apply(directory, "alice", &Act::DisableAccount)?, applied);
            assert_eq!(slapd.values(&alice, CONTROL)?, ["514"]);
        }
        for applied in [Applied::Changed, Applied::Already] {
            assert_eq!(apply(directory, "alice", &Act::EnableAccount)?, applied);
            assert_eq!(slapd.values(&alice, CONTROL)?, ["512"]);
        }
        let group = slapd::GROUP.to_owned();
        for applied in [Applied::Changed, Applied::Already] {
            let add = Act::AddToGroup { group: group.clone() };
            assert_eq!(apply(directory, "alice", &add)?, applied);
            assert!(slapd.values(&group, "member")?.contains(&alice));
        }
        for applied in [Applied::Changed, Applied::Already] {
            let remove = Act::RemoveFromGroup { group: group.clone() };
            assert_eq!(apply(directory, "alice", &remove)?, applied);
            assert_eq!(slapd.values(&group, "member")?, [slapd::BIND_DN]);
        }
        assert_eq!(slapd.values(&slapd::account("bob"), CONTROL)?, ["512"], "nobody else");
        assert_eq!(slapd.log()?.contains("TLS established"), tls);
    }
    Ok(())
}

#[test]
fn what_the_directory_does_not_do_is_said_plainly() -> Story {
    let place = place()?;
    let slapd = Slapd::start(place.path(), Scheme::Ldap)?;
    let mut clear = Directory::new(settings(&slapd, false)?);

    let nobody = refusal(&mut clear, "mallory", &Act::DisableAccount)?;
    assert_eq!(
        nobody,
        (false, "no account of the directory is called mallory@corp.example.test".to_owned())
    );
    let nowhere = Act::AddToGroup { group: format!("cn=Nowhere,{}", slapd::BASE_DN) };
    let (passes, said) = refusal(&mut clear, "alice", &nowhere)?;
    assert!(!passes && said.contains("refuses to look into cn=Nowhere"), "{said}");
    assert!(said.contains("noSuchObject"), "{said}");
    slapd.modify(&format!(
        "dn: {}\nchangetype: modify\nreplace: userPrincipalName\n\
         userPrincipalName: Alice@corp.example.test\n",
        slapd::account("bob")
    ))?;
    let (passes, said) = refusal(&mut clear, "alice", &Act::DisableAccount)?;
    assert!(!passes && said.contains("more than one account"), "{said}");

    // Another CA than the one that certified the directory.
    let place = self::place()?;
    let other = Slapd::start(place.path(), Scheme::Ldap)?;
    let mut settings = settings(&slapd, true)?;
    settings.ca_file = Some(other.ca_file());
    let (passes, said) = refusal(&mut Directory::new(settings), "alice", &Act::DisableAccount)?;
    assert!(passes && said.contains("certificate"), "{said}");
    assert_eq!(slapd.values(&slapd::account("alice"), CONTROL)?, ["512"]);
    Ok(())
}

#[test]
fn a_wrong_password_is_shown_once() -> Story {
    let place = place()?;
    let slapd = Slapd::start(place.path(), Scheme::Ldap)?;
    let directory = &mut Directory::new(settings(&slapd, false)?);
    write_private(&slapd.password_file(), "a wrong one")?;
    for attempt in 0..3 {
        let (passes, said) = refusal(directory, "alice", &Act::DisableAccount)?;
        assert!(passes && said.contains("refuses the password of cn=chancery"), "{said}");
        assert!(said.contains("not shown again"), "{said}");
        assert_eq!(said.contains("invalidCredentials"), attempt == 0, "{said}");
        assert!(!said.contains("a wrong one"), "{said}");
    }

    // Another password is another try, and a right one is all that was missing.
    write_private(&slapd.password_file(), slapd::PASSWORD)?;
    assert_eq!(apply(directory, "alice", &Act::DisableAccount)?, Applied::Changed);
    assert_eq!(slapd.refused_logins(1)?, 1);
    Ok(())
}

/// A session for smart cards, which enables the account and fills a group.
const RULES: &str = r#"
[[role]]
name = "admin"
callers = ["spiffe://example.test/user/*"]
max_ttl = "1h"
[role.session]
certificates = ["admin-card"]
[role.session.directory]
account = "{name}@corp.example.test"
enable_account = true
groups = ["cn=Server Admins,dc=corp,dc=example,dc=test"]

[[role]]
name = "admin-card"
callers = ["spiffe://example.test/user/*"]
issuer = "issuing"
max_ttl = "1h"
[role.smartcard_logon]
attestation = "optional"
upns = ["{name}@corp.example.test"]
"#;

#[test]
fn an_appliance_gives_with_a_session_and_takes_with_its_end() -> Story {
    let place = place()?;
    let mut slapd = Slapd::start(place.path(), Scheme::Ldap)?;
    let (alice, group) = (slapd::account("alice"), slapd::GROUP);
    let given = |slapd: &Slapd, given: bool| {
        let what = if given { "what the session gives" } else { "what the session gave" };
        wait_until(what, Duration::from_secs(60), || {
            let enabled = slapd.values(&alice, CONTROL)? == ["512"];
            let member = slapd.values(group, "member")?.contains(&alice);
            Ok(enabled == given && member == given)
        })
    };
    let mut office = Office::prepare()?;
    fs::write(office.path("rules/admin.toml"), RULES).doing("write rules")?;
    office.hold_ceremony()?;
    let mut check = office.chanceryd(&["check", "chanceryd.toml"])?;
    run(&mut check)?.refused("chanceryd.toml no [directory]")?;
    office.configure_also(&slapd.table(&slapd.tls()))?;
    let ca = slapd.ca_file();
    fs::rename(&ca, ca.with_extension("away")).doing("move a file")?;
    run(&mut check)?.refused("directory.ca_file")?;
    fs::rename(ca.with_extension("away"), &ca).doing("move a file")?;
    run(&mut check)?.success()?;
    office.add_operator()?;
    office.start()?;
    let user = office.enrol("user/alice")?;

    // The end, while the directory is down.
    let session = request(&office, &user)?;
    given(&slapd, true)?;
    slapd.stop();
    let somebody = TcpListener::bind(("127.0.0.1", slapd.port())).doing("take the port")?;
    end(&office, &user, &session)?;
    hang_up_once(&somebody)?;
    drop(somebody);
    slapd.start_again()?;
    given(&slapd, false)?;

    // A wrong password is said, and shown once, whatever is asked for meanwhile.
    write_private(&slapd.password_file(), "a wrong one")?;
    let session = request(&office, &user)?;
    let said = "refuses the password of cn=chancery";
    office.appliance()?.wait_until(Duration::from_secs(60), |log| log.contains(said))?;
    assert!(metrics(&office)?.contains("\nchancery_directory_up 0\n"));
    let other = request(&office, &office.enrol("user/bob")?)?;
    write_private(&slapd.password_file(), slapd::PASSWORD)?;
    given(&slapd, true)?;
    end(&office, &user, &session)?;
    given(&slapd, false)?;
    assert_eq!(slapd.refused_logins(8)?, 1);
    assert!(!office.appliance()?.log()?.contains("a wrong one"));
    let bob = slapd::account("bob");
    assert!(slapd.values(group, "member")?.contains(&bob), "{other} is open");

    let told = metrics(&office)?;
    assert!(told.contains("\nchancery_directory_up 1\n"), "{told}");
    assert!(told.contains("chancery_directory_acts_total{outcome=\"done\"} "), "{told}");

    let acts = [
        "add-to-group done",
        "enable-account done",
        "disable-account done",
        "remove-from-group done",
    ];
    let of = |wanted: &str| {
        let records = office.audit_records()?.into_iter();
        let own = records.filter(|it| it["event"] == "directory" && it["session"] == wanted);
        Ok::<_, Failure>(own.map(|record| in_words(&record)).collect::<Vec<_>>())
    };
    wait_until("the audit log", Duration::from_secs(20), || Ok(of(&session)? == acts))
}

fn metrics(office: &Office) -> Result<String, Failure> {
    http_get(office.public(), "/metrics").doing("read the metrics")
}

fn request(office: &Office, identity: &Identity) -> Result<String, Failure> {
    let arguments = ["session", "request", "--json", "--role", "admin", "--reason", "ticket 4711"];
    let answer = run(&mut office.chancery(identity, &arguments)?)?.success()?;
    let session: Value = serde_json::from_str(&answer.stdout).doing("read the session")?;
    Ok(session["id"].as_str().unwrap_or_default().to_owned())
}

fn end(office: &Office, identity: &Identity, session: &str) -> Story {
    let arguments = ["session", "end", session, "--reason", "done"];
    run(&mut office.chancery(identity, &arguments)?)?.success().map(drop)
}

#[test]
fn the_end_of_a_session_takes_back_what_it_gave_also_after_a_restart() -> Story {
    let place = place()?;
    let mut slapd = Slapd::start(&place.path().join("slapd"), Scheme::Ldap)?;
    let (alice, group) = (slapd::account("alice"), slapd::GROUP.to_owned());
    slapd.modify(&format!(
        "dn: {alice}\nchangetype: modify\nreplace: {CONTROL}\n{CONTROL}: 514\n"
    ))?;
    let settings = settings(&slapd, false)?;
    let runtime = runtime()?;
    let ledger = runtime.block_on(async { open(place.path()) })?;
    let hook = Hook::new(Directory::new(settings.clone()));
    let working = runtime.spawn(hook.run(ledger.clone(), Arc::new(SystemClock)));

    runtime.block_on(ledger.request_session(session("s-1")?)).doing("open a session")?;
    runtime.block_on(until_done(&ledger))?;
    assert_eq!(slapd.values(&alice, CONTROL)?, ["512"]);
    assert!(slapd.values(&group, "member")?.contains(&alice));

    // The session ends while the directory is down, and the appliance is gone before it is up.
    slapd.stop();
    runtime.block_on(ledger.end_session("s-1", "alice", "done", now())).doing("end it")?;
    working.abort();
    let _ = runtime.block_on(working);
    drop(ledger);
    drop(runtime);
    slapd.start_again()?;
    assert_eq!(slapd.values(&alice, CONTROL)?, ["512"]);

    let runtime = self::runtime()?;
    let ledger = runtime.block_on(async { open(place.path()) })?;
    let hook = Hook::new(Directory::new(settings));
    let working = runtime.spawn(hook.run(ledger.clone(), Arc::new(SystemClock)));
    runtime.block_on(until_done(&ledger))?;
    working.abort();
    assert_eq!(slapd.values(&alice, CONTROL)?, ["514"]);
    assert_eq!(slapd.values(&group, "member")?, [slapd::BIND_DN]);
    let audit = audited(place.path())?;
    let wanted = [
        "add-to-group done",
        "enable-account done",
        "disable-account done",
        "remove-from-group done",
    ];
    assert_eq!(audit, wanted);
    Ok(())
}

fn open(place: &Path) -> Result<Ledger, Failure> {
    Ledger::open(&place.join("state"), &place.join("audit"), Arc::new(SystemClock))
        .doing("open the ledger")
}

/// An hour in which alice's account is enabled, and a member of the group.
fn session(id: &str) -> Result<NewSession, Failure> {
    Ok(NewSession {
        id: id.to_owned(),
        grant: SessionGrant {
            requester: "spiffe://example.test/user/alice".parse().doing("name a requester")?,
            role: "admin".to_owned(),
            reason: "the disk is full".to_owned(),
            targets: BTreeSet::new(),
            length: SignedDuration::from_hours(1),
            source_addresses: BTreeSet::new(),
            force_command: None,
            one_use: false,
            approvals: 0,
            waiting: SignedDuration::from_mins(30),
            heartbeat: None,
            directory: Some(DirectoryGrant {
                upn: upn("alice")?,
                enable_account: true,
                groups: [slapd::GROUP.to_owned()].into(),
            }),
        },
        certificate_roles: Vec::new(),
        closes_at: None,
        now: now(),
    })
}

fn now() -> Timestamp {
    SystemClock.now()
}

/// An act, and what became of it.
fn in_words(record: &Value) -> String {
    let word = |key: &str| record[key].as_str().unwrap_or_default().to_owned();
    format!("{} {}", word("act"), word("outcome"))
}

/// Waits until the hook has nothing left to do.
async fn until_done(ledger: &Ledger) -> Story {
    let done = async {
        while ledger.next_directory_job().await.doing("read the ledger")?.is_some() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    };
    tokio::time::timeout(Duration::from_secs(60), done).await.doing("wait for the hook")?
}

/// What was done in the directory, in the words of the audit log.
fn audited(place: &Path) -> Result<Vec<String>, Failure> {
    let mut done = Vec::new();
    for entry in fs::read_dir(place.join("audit")).doing("list the audit log")? {
        let path = entry.doing("list the audit log")?.path();
        if path.extension().is_none_or(|extension| extension != "jsonl") {
            continue;
        }
        for line in fs::read_to_string(path).doing("read the audit log")?.lines() {
            let record: Value = serde_json::from_str(line).doing("read a record")?;
            if record["event"] == "directory" {
                done.push(in_words(&record));
            }
        }
    }
    Ok(done)
}

#[test]
fn a_directory_that_is_down_hears_of_it_when_it_is_up() -> Story {
    let place = place()?;
    let mut slapd = Slapd::start(place.path(), Scheme::Ldap)?;
    let mut hook = Hook::new(Directory::new(settings(&slapd, false)?));
    slapd.stop();
    let somebody = TcpListener::bind(("127.0.0.1", slapd.port())).doing("take the port")?;
    let (upn, runtime) = (upn("alice")?, runtime()?);
    let working = std::thread::spawn(move || {
        let job = |act| Job { id: 1, session: "s-1".to_owned(), upn: upn.clone(), act };
        let group = slapd::GROUP.to_owned();
        [
            Act::AddToGroup { group: group.clone() },
            Act::DisableAccount,
            Act::RemoveFromGroup { group },
            Act::RemoveFromGroup { group: "cn=Nowhere".to_owned() },
        ]
        .map(|act| {
            let job = job(act);
            loop {
                if let Some(outcome) = runtime.block_on(hook.attempt(&job)) {
                    break outcome;
                }
            }
        })
    });
    hang_up_once(&somebody)?;
    drop(somebody);
    slapd.start_again()?;
    let outcomes = working.join().map_err(|_| Failure::new("the hook panicked"))?;
    let Outcome::Failed(why) = &outcomes[3] else { panic!("{outcomes:?}") };
    assert!(why.contains("cn=Nowhere"), "{why}");
    assert_eq!(outcomes[..3], [Outcome::Done, Outcome::Done, Outcome::Done]);
    assert_eq!(slapd.values(&slapd::account("alice"), CONTROL)?, ["514"]);
    assert_eq!(slapd.values(slapd::GROUP, "member")?, [slapd::BIND_DN]);
    Ok(())
}

/// Waits for somebody who wants to speak to the directory, and hangs up.
fn hang_up_once(listener: &TcpListener) -> Result<(), Failure> {
    listener.set_nonblocking(true).doing("listen")?;
    wait_until("a try to reach the directory", Duration::from_secs(20), || {
        Ok(listener.accept().is_ok())
    })
}

/// As the appliance reads them.
fn settings(slapd: &Slapd, tls: bool) -> Result<config::Directory, Failure> {
    let office = Office::prepare()?;
    let tls = if tls { slapd.tls() } else { String::new() };
    office.configure_also(&slapd.table(&format!("timeout_seconds = 30\n{tls}")))?;
    let file = office.path("chanceryd.toml");
    let config = Config::read(&file, Overrides::default(), None).doing("read the configuration")?;
    config.directory.ok_or_else(|| Failure::new("there is no directory in it"))
}

fn apply(directory: &mut Directory, name: &str, act: &Act) -> Result<Applied, Failure> {
    runtime()?.block_on(directory.apply(&upn(name)?, act)).doing("ask the directory")
}

/// Why an act is refused, and whether that may pass.
fn refusal(directory: &mut Directory, name: &str, act: &Act) -> Result<(bool, String), Failure> {
    match runtime()?.block_on(directory.apply(&upn(name)?, act)) {
        Ok(applied) => Err(Failure::new(format!("{act:?}: {applied:?}"))),
        Err(error) => Ok((DirectoryError::may_pass(&error), appliance::describe(&error))),
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().doing("start a runtime")
}

fn upn(name: &str) -> Result<Upn, Failure> {
    format!("{name}@corp.example.test").parse().doing("name an account")
}

fn place() -> Result<TempDir, Failure> {
    TempDir::with_prefix("chancery-").doing("make a temporary directory")
}

fn write_private(path: &Path, text: &str) -> Story {
    fs::write(path, text).doing("write a file")
}
