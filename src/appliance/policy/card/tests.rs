//! Whose cards are given to whom: every reason that is a matter of the account.

use std::collections::BTreeSet;

use jiff::Timestamp;
use pki::{
    keys::PublicKey,
    x509::{Profile, csr::Wishes},
};

use super::{
    super::{Locks, Standing, Template, decide},
    *,
};

const RULES: &str = r#"
    [[role]]
    name = "own"
    callers = ["spiffe://example.test/user/*"]
    issuer = "issuing"
    max_ttl = "8h"
    [role.smartcard_logon]
    attestation = "optional"
    accounts = "directory"
    upns = ["{name}@corp.example"]

    [[role]]
    name = "sales"
    callers = ["spiffe://example.test/user/dora", "spiffe://example.test/operator/*"]
    issuer = "issuing"
    max_ttl = "8h"
    [role.smartcard_logon]
    attestation = "optional"
    accounts = "directory"
    upns = ["*@corp.example", "{name}@corp.example"]
    [role.smartcard_logon.on_behalf]
    units = ["OU=Sales,DC=corp,DC=example"]
    groups = ["CN=Reps,OU=Groups,DC=corp,DC=example", "S-1-5-21-1-2-3-1190"]

    [[role]]
    name = "admins"
    callers = ["spiffe://example.test/operator/*"]
    issuer = "issuing"
    max_ttl = "8h"
    [role.smartcard_logon]
    attestation = "optional"
    accounts = "directory"
    upns = ["*@corp.example"]
    protected_groups = ["S-1-5-21-*-512"]
    [role.smartcard_logon.on_behalf]
    units = ["DC=corp,DC=example"]

    [[role]]
    name = "named"
    callers = ["spiffe://example.test/user/dora"]
    issuer = "issuing"
    max_ttl = "8h"
    [role.smartcard_logon]
    attestation = "optional"
    accounts = "directory"
    upns = ["alice@corp.example"]

    [[role]]
    name = "pinned"
    callers = ["spiffe://example.test/user/*"]
    issuer = "issuing"
    max_ttl = "8h"
    [role.smartcard_logon]
    attestation = "optional"
    upns = ["{name}@corp.example"]

    [[role]]
    name = "in-session"
    callers = ["spiffe://example.test/user/*"]
    issuer = "issuing"
    max_ttl = "8h"
    [role.smartcard_logon]
    attestation = "optional"
    accounts = "directory"
    upns = ["{name}@corp.example", "adm@corp.example"]

    [[role]]
    name = "session"
    callers = ["spiffe://example.test/user/*"]
    max_ttl = "8h"
    [role.session]
    certificates = ["in-session"]
    [role.session.directory]
    account = "{name}@corp.example"
    enable_account = true

    [[account]]
    upn = "alice@corp.example"
    sid = "S-1-5-21-1-2-3-1104"

    [[account]]
    upn = "carol@corp.example"
    sid = "S-1-5-21-9-9-9-1104"
"#;

#[test]
fn every_account_of_the_directory_of_the_table() {
    let alice = || at("CN=alice,OU=Sales,DC=corp,DC=example");
    let it = || at("CN=alice,OU=IT,DC=corp,DC=example");
    let group = |sid: &str| FoundAccount { groups: sids(&["S-1-5-21-1-2-3-513", sid]), ..it() };
    let admin = |sid: &str| FoundAccount { protected_by: sids(&[sid]), ..alice() };
    let member = |name: &str| FoundAccount { member_of: vec![name.parse().unwrap()], ..it() };
    let disabled = || FoundAccount { enabled: false, ..alice() };
    let differently = || FoundAccount { upn: "ALICE@Corp.example".parse().unwrap(), ..alice() };
    let other = || FoundAccount { sid: "S-1-5-21-1-2-3-1199".parse().unwrap(), ..alice() };
    let mut reasons = BTreeSet::new();
    for (caller, role, found, expected) in [
        ("user/alice", "own", Some(account(alice())), Ok("alice@corp.example -")),
        ("user/alice", "own", Some(account(it())), Ok("alice@corp.example -")),
        ("user/alice", "own", Some(account(differently())), Ok("ALICE@Corp.example -")),
        ("user/dora", "own", Some(account(alice())), Err("upn-not-allowed")),
        ("user/alice", "own", Some(account(disabled())), Err("account-disabled")),
        ("user/alice", "own", Some(Found::Nobody), Err("account-unknown")),
        ("user/alice", "own", Some(Found::Ambiguous), Err("account-ambiguous")),
        ("user/alice", "own", Some(Found::Unfit("none".to_owned())), Err("account-unfit")),
        // Whoever did not ask has no account, whatever is pinned.
        ("user/alice", "own", None, Err("account-unknown")),
        ("user/alice", "own", Some(account(other())), Err("account-contradicted")),
        ("user/alice", "own", Some(account(admin("S-1-5-21-1-2-3-512"))), Err("account-protected")),
        // For others: in the unit or a group, and nobody else.
        ("user/dora", "sales", Some(account(alice())), Ok("alice@corp.example for another")),
        ("operator/olivia", "sales", Some(account(alice())), Ok("alice@corp.example for another")),
        ("user/dora", "sales", Some(account(it())), Err("account-out-of-reach")),
        ("user/eve", "sales", Some(account(alice())), Err("caller-not-in-role")),
        (
            "user/dora",
            "sales",
            Some(account(group("S-1-5-21-1-2-3-1190"))),
            Ok("alice@corp.example for another"),
        ),
        (
            "user/dora",
            "sales",
            Some(account(group("S-1-5-21-1-2-4-1190"))),
            Err("account-out-of-reach"),
        ),
        (
            "user/dora",
            "sales",
            Some(account(member("cn=reps,ou=groups,dc=CORP,dc=example"))),
            Ok("alice@corp.example for another"),
        ),
        (
            "user/dora",
            "sales",
            Some(account(member("CN=Reps,DC=corp,DC=example"))),
            Err("account-out-of-reach"),
        ),
        ("user/dora", "sales", Some(account(disabled())), Err("account-disabled")),
        ("user/dora", "sales", Some(account(admin("S-1-5-32-544"))), Err("account-protected")),
        // A role names protected groups one by one.
        (
            "operator/olivia",
            "admins",
            Some(account(admin("S-1-5-21-1-2-3-512"))),
            Ok("alice@corp.example for another"),
        ),
        (
            "operator/olivia",
            "admins",
            Some(account(admin("S-1-5-21-1-2-3-519"))),
            Err("account-protected"),
        ),
        // An account that the role names itself.
        ("user/dora", "named", Some(account(it())), Ok("alice@corp.example for another")),
        // What the directory says is nothing to a role with pinned accounts.
        ("user/alice", "pinned", Some(account(other())), Ok("alice@corp.example -")),
        ("user/alice", "pinned", Some(Found::Nobody), Ok("alice@corp.example -")),
    ] {
        let request = request(role, "alice@corp.example", None);
        let answer = found.clone().map(answer);
        let standing = Standing { account: answer.as_ref(), ..free() };
        let asked = account_to_look_up(&self::caller(caller), &request, &rules()).is_some();
        let decided = decide(&self::caller(caller), request, &rules(), standing);
        let decided = decided.map(describe).map_err(|denial| denial.reason());
        let case = format!("{caller} {role} {found:?}");
        assert_eq!(decided.as_deref(), expected.as_deref(), "{case}");
        let early = matches!(expected, Err("upn-not-allowed" | "caller-not-in-role"));
        assert_eq!(asked, !early && role != "pinned", "{case}");
        reasons.extend(decided.err());
    }
    let wanted = [
        "account-ambiguous",
        "account-contradicted",
        "account-disabled",
        "account-out-of-reach",
        "account-protected",
        "account-unfit",
        "account-unknown",
        "caller-not-in-role",
        "upn-not-allowed",
    ];
    assert_eq!(reasons, wanted.into(), "every reason is in the table");
}

#[test]
fn an_agent_has_also_the_card_of_their_own_account() {
    let found = answer(Found::Account(Box::new(FoundAccount {
        upn: "dora@corp.example".parse().unwrap(),
        ..at("CN=dora,OU=IT,DC=corp,DC=example")
    })));
    let standing = Standing { account: Some(&found), ..free() };
    let request = request("sales", "dora@corp.example", None);
    let granted = decide(&caller("user/dora"), request, &rules(), standing).map(describe);
    assert_eq!(granted.unwrap(), "dora@corp.example -");
}

#[test]
fn a_session_that_enables_an_account_gives_its_card_before_that() {
    let open = OpenSession {
        id: "s-1".to_owned(),
        role: "session".to_owned(),
        requester: "spiffe://example.test/user/alice".to_owned(),
        ends_at: Some(Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_hours(1)),
        targets: BTreeSet::new(),
        source_addresses: BTreeSet::new(),
        force_command: None,
        one_use: false,
    };
    for (upn, expected) in [
        ("alice@corp.example", Ok("alice@corp.example -")),
        // The session enables another account.
        ("adm@corp.example", Err("account-disabled")),
    ] {
        let disabled = FoundAccount {
            upn: upn.parse().unwrap(),
            enabled: false,
            ..at("CN=alice,OU=Sales,DC=corp,DC=example")
        };
        let found = answer(Found::Account(Box::new(disabled)));
        let standing = Standing { account: Some(&found), session: Some(&open), ..free() };
        let request = request("in-session", upn, Some("s-1"));
        let decided = decide(&caller("user/alice"), request, &rules(), standing);
        let decided = decided.map(describe).map_err(|denial| denial.reason());
        assert_eq!(decided.as_deref(), expected.as_deref(), "{upn}");
    }
}

#[test]
fn the_subject_leads_to_the_domain_of_the_account() {
    let found = answer(Found::Account(Box::new(FoundAccount {
        upn: "alice@corp.example".parse().unwrap(),
        ..at("CN=Alice Smith,OU=Sales,DC=ad,DC=corp,DC=example")
    })));
    let standing = Standing { account: Some(&found), ..free() };
    let request = request("own", "alice@corp.example", None);
    let grant = decide(&caller("user/alice"), request, &rules(), standing).unwrap();
    let source = LogonSource::Directory {
        entry: "CN=Alice Smith,OU=Sales,DC=ad,DC=corp,DC=example".to_owned(),
        asked_at: Timestamp::UNIX_EPOCH,
    };
    assert_eq!(grant.account().map(|account| &account.source), Some(&source));
    let Template::X509 { subject, .. } = grant.template else { panic!("not X.509") };
    assert_eq!(subject.unwrap().as_str(), "CN=alice,DC=ad,DC=corp,DC=example");
}

#[test]
fn who_may_know_about_an_account() {
    for (caller, upn, expected) in [
        ("operator/olivia", "anybody@else.example", true),
        ("user/alice", "alice@corp.example", true),
        ("user/alice", "bob@corp.example", false),
        ("user/dora", "bob@corp.example", true),
        ("user/dora", "bob@else.example", false),
        ("bot/ci", "bob@corp.example", false),
    ] {
        let upn = upn.parse().unwrap();
        assert_eq!(
            may_ask_about(&self::caller(caller), &upn, &rules()),
            expected,
            "{caller} {upn}"
        );
    }
}

#[test]
fn the_roles_about_an_account_are_told_with_their_reasons() {
    let found = account(at("CN=alice,OU=IT,DC=corp,DC=example"));
    let told = |upn: &str, found| {
        let upn = upn.parse().unwrap();
        let told = card_roles(&upn, found, &rules()).into_iter().map(|it| {
            let decided = it.decided.map_or_else(|denial| denial.reason(), |()| "yes");
            format!("{} {:?} {decided}", it.role, it.whose)
        });
        told.collect::<Vec<_>>()
    };
    let wanted = [
        "admins Others yes",
        "in-session Own yes",
        "named Others yes",
        "own Own yes",
        "pinned Own yes",
        "sales Own yes",
        "sales Others account-out-of-reach",
    ];
    let found = answer(found);
    assert_eq!(told("alice@corp.example", Some(&found)), wanted);
    assert_eq!(told("alice@else.example", Some(&found)), Vec::<String>::new());
    let carol = told("carol@corp.example", Some(&found));
    assert!(carol.contains(&"own Own account-contradicted".to_owned()), "{carol:?}");
    assert!(carol.contains(&"pinned Own yes".to_owned()), "{carol:?}");
}

#[test]
fn a_role_that_would_give_everybodys_cards_is_not_loaded() {
    let head = "[[role]]\nname = \"r\"\nissuer = \"a\"\nmax_ttl = \"1h\"\n";
    let users = "callers = [\"spiffe://example.test/user/*\"]\n[role.smartcard_logon]\nattestation = \"optional\"\n";
    let bots = users.replace("user", "bot");
    let directory = "accounts = \"directory\"\n";
    let sales = "[role.smartcard_logon.on_behalf]\nunits = [\"OU=Sales,DC=corp\"]";
    for (rest, what) in [
        (format!("{users}{directory}upns = [\"*@corp.example\"]"), "say whose"),
        (format!("{users}{directory}upns = [\"*@corp.example\"]\n{sales}"), ""),
        (
            format!("{bots}{directory}upns = [\"*@corp.example\"]\n{sales}"),
            "only operators and users",
        ),
        (format!("{users}upns = [\"*@corp.example\"]\n{sales}"), "set accounts"),
        (format!("{users}upns = [\"*@corp.example\"]"), ""),
        (
            format!(
                "{users}{directory}upns = [\"*@corp.example\"]\n[role.smartcard_logon.on_behalf]"
            ),
            "neither",
        ),
        (
            format!("{users}{directory}upns = [\"a@b\"]\n{}", sales.replace("OU=Sales", "Sales")),
            "no name of an entry",
        ),
        (
            format!(
                "{users}{directory}upns = [\"a@b\"]\n{}",
                sales.replace("units = [\"OU=Sales", "groups = [\"S-1-5-x")
            ),
            "no SID",
        ),
        (format!("{users}upns = [\"a@b\"]\nprotected_groups = [\"S-1-5-32-544\"]"), "set accounts"),
        (format!("{users}accounts = \"requester\"\nupns = [\"a@b\"]"), "unknown variant"),
    ] {
        match load(&format!("{head}{rest}")) {
            Ok(_) => assert_eq!(what, "", "{rest}"),
            Err(error) => assert!(!what.is_empty() && error.contains(what), "{rest}\n{error}"),
        }
    }
}

#[test]
fn a_role_with_accounts_of_the_directory_needs_one() {
    let error = rules().check_directory(None).unwrap_err().to_string();
    assert!(error.contains("chanceryd.toml no [directory]"), "{error}");
}

fn request(role: &str, upn: &str, session: Option<&str>) -> Certify {
    let line = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINdamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea";
    Certify {
        role: role.to_owned(),
        public_key: PublicKey::from_openssh(line).unwrap(),
        ttl: None,
        session: session.map(str::to_owned),
        wanted: Wanted::Smartcard {
            upn: upn.parse().unwrap(),
            claim: None,
            wishes: Wishes::default(),
        },
    }
}

/// The name in the certificate, and whether it is for another than the caller.
fn describe(grant: super::super::Grant) -> String {
    let for_another = if grant.on_behalf_of().is_some() { "for another" } else { "-" };
    let Template::X509 { profile: Profile::SmartcardLogon { upn, .. }, .. } = &grant.template
    else {
        panic!("no logon")
    };
    assert!(grant.on_behalf_of().is_none_or(|owner| owner == upn));
    format!("{upn} {for_another}")
}

/// Alice's account, as this entry.
fn at(name: &str) -> FoundAccount {
    FoundAccount {
        upn: "alice@corp.example".parse().unwrap(),
        sid: "S-1-5-21-1-2-3-1104".parse().unwrap(),
        name: name.parse().unwrap(),
        enabled: true,
        groups: sids(&["S-1-5-21-1-2-3-513"]),
        member_of: Vec::new(),
        protected_by: BTreeSet::new(),
    }
}

fn account(account: FoundAccount) -> Found {
    Found::Account(Box::new(account))
}

fn sids(texts: &[&str]) -> BTreeSet<AnySid> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn free() -> Standing<'static> {
    static LOCKS: Locks = Locks(Vec::new());
    Standing { account: None, bot: None, locks: &LOCKS, session: None, now: Timestamp::UNIX_EPOCH }
}

fn caller(path: &str) -> Caller {
    Caller::new(format!("spiffe://example.test/{path}").parse().unwrap())
}

fn rules() -> Rules {
    load(RULES).unwrap()
}

fn load(text: &str) -> Result<Rules, String> {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("roles.toml"), text).unwrap();
    Rules::read(directory.path()).map_err(|error| error.to_string())
}

fn answer(found: Found) -> Answer {
    Answer { found, asked_at: Timestamp::UNIX_EPOCH }
}
