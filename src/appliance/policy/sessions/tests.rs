//! The tables of decisions on sessions, on certificates for them, and under locks.

use std::{collections::BTreeSet, sync::LazyLock};

use api::BotSpec;
use jiff::Timestamp;
use pki::{keys::PublicKey, names::Principal, serial::SshSerial};

use super::*;
use crate::policy::{Certify, Lock, Locks, OpenSession, SshUser, Wanted, decide};

const RULES: &str = r#"
    [[role]]
    name = "production"
    callers = ["spiffe://example.test/user/*"]
    max_ttl = "4h"
    default_ttl = "1h"
    [role.session]
    certificates = ["root-shell"]
    targets = ["*.prod.example.test"]
    approvals = 1
    approvers = ["spiffe://example.test/user/*"]
    source_addresses = ["10.0.0.0/8"]
    heartbeat = "1m"

    [[role]]
    name = "maintenance"
    callers = ["spiffe://example.test/bot/*"]
    max_ttl = "10m"
    [role.session]
    certificates = ["free-shell"]
    one_use = true
    force_command = "/usr/bin/update"

    [[role]]
    name = "root-shell"
    callers = ["spiffe://example.test/user/*"]
    issuer = "ssh-user"
    max_ttl = "8h"
    [role.ssh_user]
    principals = ["root"]
    source_addresses = ["10.1.0.0/16", "10.2.0.0/16"]

    [[role]]
    name = "free-shell"
    callers = ["spiffe://example.test/user/*", "spiffe://example.test/bot/*"]
    issuer = "ssh-user"
    max_ttl = "8h"
    [role.ssh_user]
    principals = ["guest"]

    [[role]]
    name = "plain"
    callers = ["spiffe://example.test/user/*"]
    issuer = "ssh-user"
    max_ttl = "8h"
    [role.ssh_user]
    principals = ["guest"]
"#;

#[test]
fn sessions_are_granted_by_role() {
    let good = || request("production", &["db1.prod.example.test"]);
    let refused: [(&str, SessionRequest, &str); 10] = [
        ("bot/ci", good(), "caller-not-in-role"),
        ("user/alice", request("staging", &["db1.prod.example.test"]), "no-such-role"),
        ("user/alice", request("plain", &["db1.prod.example.test"]), "wrong-operation"),
        ("user/alice", request("production", &["db1.example.test"]), "target-not-allowed"),
        ("user/alice", request("production", &[]), "no-targets"),
        ("bot/ci", request("maintenance", &["db1.prod.example.test"]), "target-not-allowed"),
        ("user/alice", SessionRequest { reason: " ".to_owned(), ..good() }, "no-reason"),
        ("user/alice", SessionRequest { ttl: Some(4 * 3600 + 1), ..good() }, "ttl-too-long"),
        (
            "user/alice",
            SessionRequest { source_addresses: from(&["192.0.2.1"]), ..good() },
            "source-address-not-allowed",
        ),
        (
            "bot/ci",
            SessionRequest { force_command: Some("sh".to_owned()), ..request("maintenance", &[]) },
            "force-command-fixed",
        ),
    ];
    let rules = rules();
    for (caller, request, reason) in refused {
        let case = format!("{caller} {request:?}");
        let denied = decide_session(&self::caller(caller), request, &rules, free()).unwrap_err();
        assert_eq!(denied.reason(), reason, "{case}");
    }
    let granted = decide_session(&caller("user/alice"), good(), &rules, free()).unwrap();
    assert_eq!((granted.approvals, granted.length), (1, SignedDuration::from_hours(1)));
    assert_eq!(granted.heartbeat, Some(SignedDuration::from_mins(1)));
    assert!(!granted.one_use);
    let request = request("maintenance", &[]);
    let granted = decide_session(&caller("bot/ci"), request.clone(), &rules, free()).unwrap();
    assert_eq!((granted.approvals, granted.one_use), (0, true));
    let hurried = BotSpec { max_ttl: Some(60), ..free().bot.unwrap().clone() };
    let standing = Standing { bot: Some(&hurried), ..free() };
    let clipped = decide_session(&caller("bot/ci"), request.clone(), &rules, standing).unwrap();
    assert_eq!(clipped.length, SignedDuration::from_mins(1));
    let unknown =
        decide_session(&caller("bot/ci"), request, &rules, Standing { bot: None, ..free() });
    assert_eq!(unknown.unwrap_err().reason(), "no-such-bot");
    assert_eq!(granted.force_command.as_deref(), Some("/usr/bin/update"));
}

#[test]
fn nobody_approves_what_they_asked_for() {
    let (rules, requester) = (rules(), "spiffe://example.test/user/alice");
    for (approver, role, expected) in [
        ("user/bob", "production", Ok(())),
        ("user/alice", "production", Err("own-session")),
        ("bot/ci", "production", Err("not-an-approver")),
        ("user/bob", "maintenance", Err("not-an-approver")),
        ("user/bob", "plain", Err("not-an-approver")),
    ] {
        let decided = decide_approval(&caller(approver), role, requester, &rules, free());
        assert_eq!(
            decided.map(|_| ()).map_err(|denial| denial.reason()),
            expected,
            "{approver} {role}"
        );
    }
    let instance = |number: u8| format!("bot/ci/{}", hex::encode([number; 16]));
    let approvers = "approvers = [\"spiffe://example.test/bot/*\"]\n    approvals = 1\n    one_use";
    let joint = load(&RULES.replace("one_use", approvers)).unwrap();
    let of_another = format!("spiffe://example.test/{}", instance(1));
    let decided =
        decide_approval(&caller(&instance(2)), "maintenance", &of_another, &joint, free());
    assert_eq!(decided.unwrap_err().reason(), "own-session", "it is the same bot");
    let locks = locks("user:bob");
    let standing = Standing { locks: &locks, ..free() };
    let decided = decide_approval(&caller("user/bob"), "production", requester, &rules, standing);
    assert_eq!(decided.unwrap_err().reason(), "locked");
}

#[test]
fn certificates_of_a_session_are_as_narrow_as_the_session() {
    let open = session("user/alice", "production");
    for (caller, role, named, standing, reason) in [
        ("user/alice", "root-shell", None, Some(&open), "session-needed"),
        ("user/alice", "root-shell", Some("s-other"), Some(&open), "no-such-session"),
        ("user/alice", "root-shell", Some("s-1"), None, "no-such-session"),
        ("user/bob", "root-shell", Some("s-1"), Some(&open), "no-such-session"),
        ("user/alice", "plain", Some("s-1"), Some(&open), "role-not-in-session"),
        ("user/alice", "free-shell", Some("s-1"), Some(&open), "role-not-in-session"),
        ("user/alice", "free-shell", None, Some(&open), "session-needed"),
        (
            "user/alice",
            "root-shell",
            Some("s-1"),
            Some(&OpenSession { ends_at: None, ..open.clone() }),
            "session-not-open",
        ),
        (
            "user/alice",
            "root-shell",
            Some("s-1"),
            Some(&OpenSession { ends_at: Some(time(0)), ..open.clone() }),
            "session-not-open",
        ),
        (
            "user/alice",
            "root-shell",
            Some("s-1"),
            Some(&OpenSession { source_addresses: from(&["10.3.0.0/16"]), ..open.clone() }),
            "source-address-not-allowed",
        ),
    ] {
        let standing = Standing { session: standing, ..free() };
        let decided = decide(&self::caller(caller), certify(role, named), &rules(), standing);
        assert_eq!(decided.unwrap_err().reason(), reason, "{caller} {role} {named:?}");
    }

    let standing = Standing { session: Some(&open), ..free() };
    let request = certify("root-shell", Some("s-1"));
    let grant = decide(&caller("user/alice"), request, &rules(), standing).unwrap();
    let template = grant.into_ssh(SshSerial::new(1).unwrap(), time(0)).unwrap();
    assert_eq!(template.key_id, "spiffe://example.test/user/alice#root-shell#s-1");
    assert_eq!(template.valid_before, time(600), "it ends with the session, not after eight hours");
    let options = template.critical_options;
    assert_eq!(options.force_command.as_deref(), Some("id"));
    assert_eq!(options.source_addresses, from(&["10.1.2.0/24"]), "what both allow");
    assert_eq!(template.principals, BTreeSet::from(["root".parse::<Principal>().unwrap()]));
}

#[test]
fn a_lock_stops_what_a_role_allows() {
    let key = key().fingerprint();
    for target in [
        "all".to_owned(),
        "user:alice".to_owned(),
        "role:plain".to_owned(),
        "issuer:ssh-user".to_owned(),
        "spiffe:spiffe://example.test/user".to_owned(),
        format!("key:{key}"),
    ] {
        let locks = locks(&target);
        let standing = Standing { locks: &locks, ..free() };
        let decided = decide(&caller("user/alice"), certify("plain", None), &rules(), standing);
        assert_eq!(decided.unwrap_err().reason(), "locked", "{target}");
    }
    let locks = locks("host:db1.prod.example.test");
    let open = session("user/alice", "production");
    let standing = Standing { locks: &locks, session: Some(&open), ..free() };
    let request = certify("root-shell", Some("s-1"));
    let decided = decide(&caller("user/alice"), request, &rules(), standing);
    assert_eq!(decided.unwrap_err().reason(), "locked");
    let request = self::request("production", &["db1.prod.example.test"]);
    let decided = decide_session(&caller("user/alice"), request, &rules(), standing);
    assert_eq!(decided.unwrap_err().reason(), "locked");
    let request = self::request("production", &["db2.prod.example.test"]);
    decide_session(&caller("user/alice"), request, &rules(), standing).unwrap();
}

#[test]
fn a_session_role_that_says_too_little_is_not_loaded() {
    let head = "[[role]]\nname = \"s\"\ncallers = [\"spiffe://example.test/user/*\"]\n";
    for (rest, what) in [
        ("[role.session]\ncertificates = [\"s\"]", "max_ttl"),
        ("max_ttl = \"1h\"\n[role.session]\ncertificates = []", "gives nothing"),
        ("max_ttl = \"1h\"\n[role.session]\ncertificates = [\"none\"]", "there is no \"none\""),
        ("max_ttl = \"1h\"\n[role.session]\ncertificates = [\"s\"]", "gives no certificates"),
        ("max_ttl = \"1h\"\nissuer = \"a\"\n[role.session]\ncertificates = [\"s\"]", "no issuer"),
        ("max_ttl = \"1h\"\n[role.session]\ncertificates = [\"s\"]\napprovals = 1", "approvers"),
        (
            "max_ttl = \"1h\"\n[role.session]\ncertificates = [\"s\"]\nheartbeat = \"1s\"",
            "heartbeat",
        ),
        ("max_ttl = \"1h\"\n[role.session]\ncertificates = [\"s\"]\nwaiting = \"0s\"", "waiting"),
        (
            "max_ttl = \"1h\"\n[role.session]\ncertificates = [\"s\"]\n\
             [role.session.directory]\naccount = \"{name}@corp.example\"",
            "neither `enable_account` nor `groups`",
        ),
        (
            "max_ttl = \"1h\"\n[role.session]\ncertificates = [\"s\"]\n\
             [role.session.directory]\naccount = \"{name}\"\nenable_account = true",
            "account@domain",
        ),
    ] {
        let error = load(&format!("{head}{rest}")).unwrap_err();
        assert!(error.contains(what), "{rest}\n{error}");
    }
}

#[test]
fn what_a_session_gives_in_the_directory_is_the_callers_own() {
    let given = "    force_command = \"/usr/bin/update\"\n    [role.session.directory]\n    \
                 account = \"adm-{name}@corp.example\"\n    groups = [\"CN=Admins,DC=corp\"]\n";
    let text = RULES.replace("    force_command = \"/usr/bin/update\"\n", given);
    let rules = load(&text).unwrap();
    let decided = |id: &str| {
        let grant = decide_session(&caller(id), request("maintenance", &[]), &rules, free());
        grant.map(|grant| grant.directory.unwrap().upn.to_string())
    };
    assert_eq!(decided("bot/backup").unwrap(), "adm-backup@corp.example");
    // A name that is none of an account gives no session.
    assert_eq!(decided("bot/backup.").unwrap_err().reason(), "no-principals");
    let error = rules.check_directory(None).unwrap_err().to_string();
    assert!(error.contains("[role.session.directory]"), "{error}");
    self::rules().check_directory(None).unwrap();
}

fn rules() -> Rules {
    load(RULES).unwrap()
}

fn load(text: &str) -> Result<Rules, String> {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("roles.toml"), text).unwrap();
    Rules::read(directory.path()).map_err(|error| error.to_string())
}

fn free() -> Standing<'static> {
    static LOCKS: Locks = Locks(Vec::new());
    static BOT: LazyLock<BotSpec> = LazyLock::new(|| {
        serde_json::from_value(serde_json::json!({
            "name": "ci",
            "roles": ["maintenance", "production"],
            "join": { "method": "token" },
        }))
        .unwrap()
    });
    Standing { account: None, bot: Some(&BOT), locks: &LOCKS, session: None, now: time(0) }
}

fn locks(target: &str) -> Locks {
    let target = target.parse().unwrap();
    Locks(vec![Lock { id: 1, target, issued_before: None, expires_at: None }])
}

fn request(role: &str, targets: &[&str]) -> SessionRequest {
    SessionRequest {
        role: role.to_owned(),
        reason: "the disk is full".to_owned(),
        targets: targets.iter().map(|host| host.parse().unwrap()).collect(),
        ttl: None,
        source_addresses: BTreeSet::new(),
        force_command: None,
        one_use: false,
    }
}

fn certify(role: &str, session: Option<&str>) -> Certify {
    Certify {
        role: role.to_owned(),
        public_key: key(),
        ttl: None,
        session: session.map(str::to_owned),
        wanted: Wanted::SshUser(SshUser::default()),
    }
}

/// Open for ten minutes.
fn session(requester: &str, role: &str) -> OpenSession {
    OpenSession {
        id: "s-1".to_owned(),
        role: role.to_owned(),
        requester: format!("spiffe://example.test/{requester}"),
        ends_at: Some(time(600)),
        targets: ["db1.prod.example.test".parse().unwrap()].into(),
        source_addresses: from(&["10.1.2.0/24"]),
        force_command: Some("id".to_owned()),
        one_use: false,
    }
}

fn from(addresses: &[&str]) -> BTreeSet<SourceAddress> {
    addresses.iter().map(|address| address.parse().unwrap()).collect()
}

fn caller(path: &str) -> Caller {
    Caller::new(format!("spiffe://example.test/{path}").parse().unwrap())
}

fn key() -> PublicKey {
    let line = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINdamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea";
    PublicKey::from_openssh(line).unwrap()
}

fn time(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}
