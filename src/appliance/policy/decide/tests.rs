//! The table of decisions: every reason for a denial at least once, beside what is granted.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use api::BotSpec;
use jiff::Timestamp;
use pki::{
    handoff::{Ceremony, Handoff, SshAuthority},
    keys::{KeyAlgorithm, PublicKey, SignatureScheme},
    ssh::Usage,
    token::{KeyId, KeyStore, pkcs11::TokenIdentity, software::SoftwareToken},
    x509::{Profile, csr::Wishes},
};

use super::{super::Locks, *};

const RULES: &str = r#"
    [[role]]
    name = "developers"
    callers = ["spiffe://example.test/user/*"]
    issuer = "ssh-user"
    max_ttl = "8h"
    default_ttl = "1h"
    [role.ssh_user]
    principals = ["{name}", "deploy"]
    extensions = ["permit-pty"]
    source_addresses = ["10.0.0.0/8"]

    [[role]]
    name = "backup"
    callers = ["spiffe://example.test/bot/backup"]
    issuer = "ssh-user"
    max_ttl = "10m"
    [role.ssh_user]
    principals = ["backup"]
    force_command = "/usr/bin/backup"

    [[role]]
    name = "nameless"
    callers = ["spiffe://example.test/user/-x"]
    issuer = "ssh-user"
    max_ttl = "10m"
    [role.ssh_user]
    principals = ["{name}"]

    [[role]]
    name = "hosts"
    callers = ["spiffe://example.test/host/*"]
    issuer = "ssh-host"
    max_ttl = "24h"
    [role.ssh_host]
    principals = ["{name}.example.test", "192.0.2.7"]

    [[role]]
    name = "servers"
    callers = ["spiffe://example.test/service/*"]
    issuer = "services"
    max_ttl = "24h"
    [role.tls_server]
    dns_names = ["{name}.example.test"]
    addresses = ["192.0.2.1"]
    names_from_csr = true

    [[role]]
    name = "clients"
    callers = ["spiffe://example.test/service/*"]
    issuer = "services"
    max_ttl = "24h"
    [role.tls_client]

    [[role]]
    name = "databases"
    callers = ["spiffe://example.test/service/*"]
    issuer = "services"
    max_ttl = "24h"
    [role.tls_client]
    common_name = "{name}_ro"

    [[role]]
    name = "controllers"
    callers = ["spiffe://example.test/host/*"]
    issuer = "issuing"
    max_ttl = "24h"
    [role.kdc]
    dns_names = ["dc1.corp.example", "corp.example"]
    realm = "CORP.EXAMPLE"

    [[role]]
    name = "cards"
    callers = ["spiffe://example.test/user/*"]
    issuer = "issuing"
    max_ttl = "8h"
    [role.smartcard_logon]
    upns = ["{name}@corp.example"]
    attestation = "optional"

    [[role]]
    name = "firmware"
    callers = ["spiffe://example.test/service/build"]
    [role.sign]
    keys = ["firmware"]
    schemes = ["ecdsa-p256-sha256"]

    [[account]]
    upn = "alice@corp.example"
    sid = "S-1-5-21-1-2-3-1104"
"#;

/// Who, by which role, how long, what; and the reason of the denial, or what is granted.
type Case = (&'static str, &'static str, Option<u32>, Wanted, Result<&'static str, &'static str>);

#[test]
fn every_decision_of_the_table() {
    let rules = rules();
    let mut reasons = BTreeSet::new();
    for (caller, role, ttl, wanted, expected) in cases() {
        let request =
            Certify { role: role.to_owned(), public_key: key(), ttl, session: None, wanted };
        let case = format!("{caller} {request:?}");
        let decided = decide(&self::caller(caller), request, &rules, free());
        let decided = decided.as_ref().map(describe).map_err(Denial::reason);
        assert_eq!(decided.as_deref(), expected.as_deref(), "{case}");
        reasons.extend(decided.err());
    }
    for (caller, role, key, scheme, expected) in sign_cases() {
        let request =
            SignDigest { role: role.to_owned(), key: key.to_owned(), scheme, digest: vec![0; 32] };
        let decided = decide_sign(&self::caller(caller), request, &rules, free());
        let decided = decided.map(|_| ()).map_err(|denial| denial.reason());
        assert_eq!(decided, expected, "{caller} {role} {key}");
        reasons.extend(decided.err());
    }
    assert_eq!(reasons, ALL_REASONS.into_iter().collect(), "every reason is in the table");
}

/// Every word of [`Denial::reason`] but `own-key` and `outside-schedule`, which have tests of their
/// own, those of the directory's accounts (`policy/card/tests.rs`) and of cards
/// (`policy/attestation/tests.rs`), and those of locks and sessions (`policy/sessions/tests.rs`).
const ALL_REASONS: [&str; 17] = [
    "account-unknown",
    "address-not-allowed",
    "caller-not-in-role",
    "dns-name-not-allowed",
    "force-command-fixed",
    "key-not-allowed",
    "no-names",
    "no-principals",
    "no-such-role",
    "principal-not-allowed",
    "scheme-not-allowed",
    "source-address-not-allowed",
    "spiffe-id-not-allowed",
    "ttl-too-long",
    "ttl-zero",
    "upn-not-allowed",
    "wrong-operation",
];

fn cases() -> Vec<Case> {
    let mut cases = ssh_cases();
    cases.extend(x509_cases());
    cases
}

fn ssh_cases() -> Vec<Case> {
    vec![
        ("user/alice", "developers", None, user(&[]), Ok("ssh-user 3600s alice deploy")),
        ("user/alice", "developers", Some(60), user(&["deploy"]), Ok("ssh-user 60s deploy")),
        ("user/alice", "developers", Some(28_800), user(&[]), Ok("ssh-user 28800s alice deploy")),
        ("user/alice", "developers", Some(28_801), user(&[]), Err("ttl-too-long")),
        ("user/alice", "developers", Some(0), user(&[]), Err("ttl-zero")),
        ("user/alice", "developers", None, user(&["root"]), Err("principal-not-allowed")),
        ("user/alice", "developers", None, user(&["alice", "bob"]), Err("principal-not-allowed")),
        ("user/alice", "nothing", None, user(&[]), Err("no-such-role")),
        ("user/alice", "backup", None, user(&[]), Err("caller-not-in-role")),
        ("bot/alice", "developers", None, user(&[]), Err("caller-not-in-role")),
        ("user/alice", "developers", None, from("10.1.0.0/16"), Ok("ssh-user 3600s alice deploy")),
        ("user/alice", "developers", None, from("11.0.0.1"), Err("source-address-not-allowed")),
        ("user/-x", "nameless", None, user(&[]), Err("no-principals")),
        ("bot/backup", "backup", None, command("/usr/bin/backup"), Ok("ssh-user 600s backup")),
        ("bot/backup", "backup", None, user(&[]), Ok("ssh-user 600s backup")),
        ("bot/backup", "backup", None, command("/bin/sh"), Err("force-command-fixed")),
        ("user/alice", "developers", None, host(&["web1.example.test"]), Err("wrong-operation")),
        (
            "host/web1",
            "hosts",
            None,
            host(&["web1.example.test", "192.0.2.7"]),
            Ok("ssh-host 86400s 192.0.2.7 web1.example.test"),
        ),
        ("host/web1", "hosts", None, host(&["web2.example.test"]), Err("principal-not-allowed")),
        ("host/web1", "hosts", None, host(&[]), Err("no-names")),
    ]
}

fn x509_cases() -> Vec<Case> {
    let names = |dns: &str| X509Names {
        dns_names: dns.split_whitespace().map(|name| name.parse().unwrap()).collect(),
        ..X509Names::default()
    };
    let x509 = |dns| Wanted::X509(names(dns));
    let from_csr = Wanted::X509(X509Names {
        csr_dns_names: names("web.example.test").dns_names,
        ..X509Names::default()
    });
    let at = |address: &str| {
        Wanted::X509(X509Names { addresses: [address.parse().unwrap()].into(), ..names("") })
    };
    let called = |id: &str| {
        Wanted::X509(X509Names {
            spiffe_id: Some(format!("spiffe://example.test/{id}").parse().unwrap()),
            ..names("")
        })
    };
    let card = |upn: &str| Wanted::Smartcard {
        upn: upn.parse().unwrap(),
        claim: None,
        wishes: Wishes::default(),
    };
    vec![
        (
            "service/web",
            "servers",
            None,
            x509("web.example.test"),
            Ok("services 86400s tls_server"),
        ),
        ("service/web", "servers", None, from_csr.clone(), Ok("services 86400s tls_server")),
        ("service/db", "servers", None, from_csr, Err("dns-name-not-allowed")),
        ("service/web", "servers", None, x509("db.example.test"), Err("dns-name-not-allowed")),
        ("service/web", "servers", None, at("192.0.2.1"), Ok("services 86400s tls_server")),
        ("service/web", "servers", None, at("192.0.2.2"), Err("address-not-allowed")),
        ("service/web", "servers", None, called("service/web"), Err("spiffe-id-not-allowed")),
        ("service/web", "servers", None, x509(""), Err("no-names")),
        ("service/web", "clients", None, x509(""), Ok("services 86400s tls_client")),
        ("service/web", "clients", None, called("service/web"), Ok("services 86400s tls_client")),
        ("service/web", "clients", None, called("operator/web"), Err("spiffe-id-not-allowed")),
        ("service/web", "clients", None, x509("web.example.test"), Err("dns-name-not-allowed")),
        (
            "host/dc1",
            "controllers",
            None,
            x509("dc1.corp.example corp.example"),
            Ok("issuing 86400s kdc"),
        ),
        (
            "host/dc1",
            "controllers",
            None,
            x509("dc1.corp.example evil.example"),
            Err("dns-name-not-allowed"),
        ),
        ("host/dc1", "controllers", None, at("192.0.2.1"), Err("address-not-allowed")),
        ("host/dc1", "controllers", None, x509(""), Err("no-names")),
        (
            "user/alice",
            "cards",
            None,
            card("alice@corp.example"),
            Ok("issuing 28800s smartcard_logon"),
        ),
        (
            "user/alice",
            "cards",
            None,
            card("alice@CORP.example"),
            Ok("issuing 28800s smartcard_logon"),
        ),
        ("user/alice", "cards", None, card("bob@corp.example"), Err("upn-not-allowed")),
        ("user/bob", "cards", None, card("bob@corp.example"), Err("account-unknown")),
        ("user/alice", "cards", None, x509("web.example.test"), Err("wrong-operation")),
        ("service/build", "firmware", None, x509("web.example.test"), Err("wrong-operation")),
    ]
}

type SignCase =
    (&'static str, &'static str, &'static str, SignatureScheme, Result<(), &'static str>);

fn sign_cases() -> Vec<SignCase> {
    use SignatureScheme::{EcdsaP256Sha256 as P256, RsaPkcs1Sha256 as Rsa};
    vec![
        ("service/build", "firmware", "firmware", P256, Ok(())),
        ("service/build", "firmware", "firmware", Rsa, Err("scheme-not-allowed")),
        ("service/build", "firmware", "issuing", P256, Err("key-not-allowed")),
        ("service/web", "firmware", "firmware", P256, Err("caller-not-in-role")),
        ("service/build", "servers", "firmware", P256, Err("wrong-operation")),
    ]
}

#[test]
fn a_bot_has_of_its_roles_what_it_was_given_and_for_as_long() {
    let instance = format!("bot/backup/{}", "0".repeat(32));
    let rules = rules();
    for (caller, given, asked, expected) in [
        (&*instance, Some(bot(&["backup"], None)), None, Ok("ssh-user 600s backup")),
        (&instance, Some(bot(&["backup"], Some(60))), None, Ok("ssh-user 60s backup")),
        (&instance, Some(bot(&["backup"], Some(60))), Some(30), Ok("ssh-user 30s backup")),
        (&instance, Some(bot(&["backup"], Some(60))), Some(600), Ok("ssh-user 60s backup")),
        (&instance, Some(bot(&["backup"], Some(60))), Some(601), Err("ttl-too-long")),
        (&instance, Some(bot(&["hosts"], None)), None, Err("role-not-of-bot")),
        (&instance, None, None, Err("no-such-bot")),
        ("bot/backup", None, None, Err("no-such-bot")),
        // No other caller is asked whether it is a registered bot.
        ("user/alice", None, None, Err("caller-not-in-role")),
    ] {
        let standing = Standing { bot: given.as_ref(), ..free() };
        let request = Certify {
            role: "backup".to_owned(),
            public_key: key(),
            ttl: asked,
            session: None,
            wanted: user(&[]),
        };
        let decided = decide(&self::caller(caller), request, &rules, standing);
        let decided = decided.as_ref().map(describe).map_err(Denial::reason);
        assert_eq!(decided.as_deref(), expected.as_deref(), "{caller} {given:?}");
    }
}

#[test]
fn no_rule_gives_the_id_of_an_instance() {
    let role = "[[role]]\nname = \"enrol\"\ncallers = [\"spiffe://example.test/operator/*\"]\n\
                issuer = \"services\"\nmax_ttl = \"1h\"\n[role.TABLE]\nspiffe_ids = \
                [\"spiffe://example.test/bot/*\", \"spiffe://example.test/bot/ci/*\"]";
    let instance = format!("bot/ci/{}", "0".repeat(32));
    for (table, id, expected) in [
        ("tls_client", "bot/ci", true),
        ("tls_client", &*instance, false),
        ("tls_client", "bot/ci/x", false),
        ("tls_server", "bot/ci", true),
        ("tls_server", &instance, false),
    ] {
        let spiffe_id = format!("spiffe://example.test/{id}").parse().unwrap();
        let request = Certify {
            role: "enrol".to_owned(),
            public_key: key(),
            ttl: None,
            session: None,
            wanted: Wanted::X509(X509Names { spiffe_id: Some(spiffe_id), ..X509Names::default() }),
        };
        let rules = load(&role.replace("TABLE", table)).unwrap();
        let decided = decide(&caller("operator/olivia"), request, &rules, free());
        let reason = decided.map(drop).map_err(|denial| denial.reason());
        let expected = if expected { Ok(()) } else { Err("spiffe-id-not-allowed") };
        assert_eq!(reason, expected, "{table} {id}");
    }
}

/// Nine to six in Vienna, with certificates of six hours.
const OFFICE_HOURS: &str = r#"
    [[role]]
    name = "office"
    callers = ["spiffe://example.test/user/*"]
    issuer = "ssh-user"
    max_ttl = "6h"
    [role.schedule]
    time_zone = "Europe/Vienna"
    windows = ["Mon-Fri 09:00-18:00"]
    holidays = ["2026-12-25"]
    holiday_file = "bridge-days"
    [role.ssh_user]
    principals = ["{name}"]

    [[role]]
    name = "seal"
    callers = ["spiffe://example.test/user/*"]
    [role.schedule]
    time_zone = "Europe/Vienna"
    windows = ["Mon-Fri 09:00-18:00"]
    holiday_file = "bridge-days"
    [role.sign]
    keys = ["firmware"]
    schemes = ["ecdsa-p256-sha256"]

    [[role]]
    name = "production"
    callers = ["spiffe://example.test/user/*"]
    max_ttl = "6h"
    [role.schedule]
    time_zone = "Europe/Vienna"
    windows = ["Mon-Fri 09:00-18:00"]
    [role.session]
    certificates = ["office"]
"#;

#[test]
fn a_schedule_ends_what_it_grants_and_refuses_with_the_next_opening() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
    let read = || Rules::read(directory.path());
    write("roles.toml", &OFFICE_HOURS.replace("\"office\"]", "\"in-session\"]"));
    write("more.toml", &RULES.replace("\"developers\"", "\"in-session\""));
    write("bridge-days", "2026-12-24\n2026-12-28 # between the years\n");
    let rules = read().unwrap();

    // Now, when it is valid to at the latest (SSH and X.509 say it in whole seconds), or the hint.
    for (now, expected) in [
        ("2026-10-23T11:59:59.5+02", Ok("2026-10-23T17:59:59+02")),
        ("2026-10-23T12:30+02", Ok("2026-10-23T18:00+02")),
        ("2026-10-23T17:59:59.999+02", Ok("2026-10-23T18:00+02")),
        ("2026-10-23T18:00+02", Err("it opens on Monday 26 October 2026 at 09:00")),
        ("2027-03-26T19:00+01", Err("(2027-03-29T09:00:00+02:00[Europe/Vienna])")),
        ("2026-12-25T12:00+01", Err("it opens on Tuesday 29 December 2026 at 09:00")),
        ("2026-12-23T18:00+01", Err("it opens on Tuesday 29 December 2026 at 09:00")),
    ] {
        let now = now.parse().unwrap();
        let standing = Standing { now, ..free() };
        let request = Certify {
            role: "office".to_owned(),
            public_key: key(),
            ttl: None,
            session: None,
            wanted: user(&[]),
        };
        let decided = decide(&caller("user/alice"), request, &rules, standing);
        let sign = SignDigest {
            role: "seal".to_owned(),
            key: "firmware".to_owned(),
            scheme: SignatureScheme::EcdsaP256Sha256,
            digest: vec![0; 32],
        };
        // Christmas is a holiday of one role only.
        let signed = decide_sign(&caller("user/alice"), sign, &rules, standing);
        let christmas = now.to_string().starts_with("2026-12-25");
        assert_eq!(signed.is_ok(), expected.is_ok() || christmas, "{now}");
        match (decided, expected) {
            (Ok(grant), Ok(end)) => {
                let serial = pki::serial::SshSerial::new(1).unwrap();
                let template = grant.into_ssh(serial, now).unwrap();
                assert_eq!(template.valid_before, end.parse().unwrap(), "{now}");
            }
            (Err(denial), Err(words)) => {
                assert_eq!(denial.reason(), "outside-schedule");
                assert_eq!(denial.to_string(), "it is outside the schedule of role \"office\"");
                assert!(denial.hint().contains(words), "{now}: {}", denial.hint());
            }
            (decided, expected) => panic!("{now}: {decided:?}, not {expected:?}"),
        }
    }

    let production = rules.role("production").unwrap();
    let closes =
        |now: &str| production.closes_at(now.parse().unwrap()).map_err(|denial| denial.reason());
    let evening = "2026-10-23T18:00+02".parse().unwrap();
    assert_eq!(closes("2026-10-23T17:00+02"), Ok(Some(evening)));
    assert_eq!(closes("2026-10-24T10:00+02"), Err("outside-schedule"));

    let digest = rules.digest().to_owned();
    write("bridge-days", "2026-12-24\n28.12.2026\n");
    let error = read().unwrap_err().to_string();
    assert!(error.contains("bridge-days:2: \"28.12.2026\" is no holiday"), "{error}");
    write("bridge-days", "");
    assert_ne!(read().unwrap().digest(), digest, "the digest covers the holidays");
    write("roles.toml", &OFFICE_HOURS.replace("bridge-days", "../bridge-days"));
    let error = read().unwrap_err().to_string();
    assert!(error.contains("name a file beside the rules"), "{error}");
}

#[test]
fn the_sid_and_the_name_come_from_the_directory() {
    let request = Certify {
        role: "cards".to_owned(),
        public_key: key(),
        ttl: None,
        session: None,
        wanted: Wanted::Smartcard {
            upn: "alice@CORP.example".parse().unwrap(),
            claim: None,
            wishes: Wishes::default(),
        },
    };
    let grant = decide(&caller("user/alice"), request, &rules(), free()).unwrap();
    let Template::X509 { subject, profile, .. } = grant.template else { panic!("not X.509") };
    assert_eq!(subject.unwrap().as_str(), "CN=alice,DC=corp,DC=example");
    let Profile::SmartcardLogon { upn, sid, .. } = profile else { panic!("no logon") };
    assert_eq!((upn.as_str(), sid.as_str()), ("alice@corp.example", "S-1-5-21-1-2-3-1104"));
}

#[test]
fn special_characters_of_an_account_are_escaped_in_the_subject() {
    let account = "[[account]]\nupn = \"#o+neil@corp.example\"\nsid = \"S-1-5-21-1-2-3-1105\"";
    let rules = load(account).unwrap();
    let account = rules.account(&"#o+neil@corp.example".parse().unwrap()).unwrap();
    assert_eq!(account.subject.as_str(), "CN=\\#o\\+neil,DC=corp,DC=example");
}

#[test]
fn a_key_of_the_token_is_certified_for_nobody() {
    let handoff = handoff();
    let key = handoff.publication.public_key.clone();
    let role = RULES.split("[[role]]").nth(1).unwrap();
    let rules = load(&format!("[[role]]{role}")).unwrap().bind(&handoff).unwrap();
    let request = Certify {
        role: "developers".to_owned(),
        public_key: key,
        ttl: None,
        session: None,
        wanted: user(&[]),
    };
    let denial = decide(&caller("user/alice"), request, &rules, free()).unwrap_err();
    assert_eq!(denial.reason(), "own-key");
}

#[test]
fn a_role_must_fit_the_authorities() {
    let handoff = handoff();
    for (issuer, table, what) in [
        ("ssh-user", "ssh_user", ""),
        ("nobody", "ssh_user", "has no SSH authority"),
        ("ssh-user", "ssh_host", "other kind"),
    ] {
        let rules = load(&format!(
            "[[role]]\nname = \"r\"\ncallers = [\"spiffe://example.test/user/*\"]\n\
             issuer = \"{issuer}\"\nmax_ttl = \"1h\"\n[role.{table}]\nprincipals = [\"a\"]"
        ));
        let bound = rules
            .and_then(|rules| rules.bind(&handoff).map(|_| ()).map_err(|error| error.to_string()));
        match bound {
            Ok(()) => assert_eq!(what, "", "{issuer} {table}"),
            Err(error) => assert!(!what.is_empty() && error.contains(what), "{table}: {error}"),
        }
    }
}

#[test]
fn a_role_that_says_too_little_or_too_much_is_not_loaded() {
    let head = "[[role]]\nname = \"r\"\ncallers = [\"spiffe://example.test/user/*\"]\n";
    for (rest, what) in [
        ("issuer = \"a\"\n[role.ssh_user]\nprincipals = [\"a\"]", "max_ttl"),
        ("max_ttl = \"1h\"\n[role.ssh_user]\nprincipals = [\"a\"]", "issuer"),
        ("issuer = \"a\"\nmax_ttl = \"1h\"", "exactly one"),
        ("issuer = \"a\"\nmax_ttl = \"1h\"\n[role.ssh_user]\nprincipals = []", "no name"),
        (
            "issuer = \"a\"\nmax_ttl = \"1h\"\ndefault_ttl = \"2h\"\n[role.ssh_user]\nprincipals = [\"a\"]",
            "default_ttl",
        ),
        ("issuer = \"a\"\nmax_ttl = \"10000h\"\n[role.tls_client]", "397 days"),
        (
            "issuer = \"a\"\nmax_ttl = \"1h\"\n[role.tls_client]\n[role.kdc]\ndns_names = [\"a\"]",
            "exactly one",
        ),
        ("max_ttl = \"1h\"\n[role.sign]\nkeys = []\nschemes = []", "no ttl"),
        ("issuer = \"a\"\nmax_ttl = \"1h\"\n[role.tls_client]\nanything = true", "unknown field"),
        ("issuer = \"a\"\nmax_ttl = \"1h\"\nunlimited = true\n[role.tls_client]", "unknown field"),
    ] {
        let error = load(&format!("{head}{rest}")).unwrap_err();
        assert!(error.contains(what), "{rest}\n{error}");
    }
}

#[test]
fn a_role_gives_a_common_name_and_no_other_attribute() {
    let subject = |name: &str, role: &str| {
        let (role, wanted) = (role.to_owned(), Wanted::X509(X509Names::default()));
        let request = Certify { role, public_key: key(), ttl: None, session: None, wanted };
        let grant = decide(&caller(&format!("service/{name}")), request, &rules(), free());
        grant.map_err(|denial| denial.reason()).map(|grant| match grant.template {
            Template::X509 { subject, .. } => subject.map(|subject| subject.to_string()),
            Template::Ssh { .. } => panic!("no X.509"),
        })
    };
    assert_eq!(subject("web", "clients"), Ok(None));
    assert_eq!(subject("web", "databases"), Ok(Some("CN=web_ro".to_owned())));
    // RFC 5280 has an upper bound of 64 characters.
    let longest = "w".repeat(61);
    assert_eq!(subject(&longest, "databases"), Ok(Some(format!("CN={longest}_ro"))));
    assert_eq!(subject(&format!("{longest}w"), "databases"), Err("no-principals"));
}

#[test]
fn no_rule_grants_a_role_of_the_appliance_itself() {
    for name in ["appliance", "bot", "join", "operator"] {
        let role = "callers = [\"spiffe://example.test/user/*\"]\nissuer = \"services\"\n\
                    max_ttl = \"1h\"\n[role.tls_client]";
        let error = load(&format!("[[role]]\nname = \"{name}\"\n{role}")).unwrap_err();
        assert!(error.contains("a role of its own"), "{error}");
    }
}

/// An SSH user CA and a publication key, both in software.
fn handoff() -> Handoff {
    let mut token = SoftwareToken::default();
    let mut key = |label: &str| {
        let id = KeyId::new(label.as_bytes()).unwrap();
        token.generate(KeyAlgorithm::EcP256, &label.parse().unwrap(), &id).unwrap().key
    };
    Handoff {
        ceremony: Ceremony {
            id: "test".to_owned(),
            plan: String::new(),
            transcript: String::new(),
        },
        token: TokenIdentity {
            label: "test".to_owned(),
            serial: None,
            manufacturer: None,
            model: None,
        },
        x509: BTreeMap::new(),
        ssh: [(
            "ssh-user".to_owned(),
            SshAuthority { usage: Usage::User, key: key("issuing/ssh-user") },
        )]
        .into(),
        publication: key("publication/log"),
        raw: BTreeMap::new(),
        cross: BTreeMap::new(),
        crls: BTreeMap::new(),
    }
}

fn rules() -> Rules {
    load(RULES).unwrap()
}

fn load(text: &str) -> Result<Rules, String> {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("roles.toml"), text).unwrap();
    Rules::read(directory.path()).map_err(|error| error.to_string())
}

fn caller(path: &str) -> Caller {
    Caller::new(format!("spiffe://example.test/{path}").parse().unwrap())
}

fn key() -> PublicKey {
    let line = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINdamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea";
    PublicKey::from_openssh(line).unwrap()
}

/// No lock, no session, some time; a bot has the role of its name.
fn free() -> Standing<'static> {
    static LOCKS: Locks = Locks(Vec::new());
    static BOT: LazyLock<BotSpec> = LazyLock::new(|| bot(&["backup"], None));
    Standing {
        account: None,
        bot: Some(&BOT),
        locks: &LOCKS,
        session: None,
        now: Timestamp::UNIX_EPOCH,
    }
}

fn bot(roles: &[&str], max_ttl: Option<u32>) -> BotSpec {
    let join = serde_json::json!({ "method": "token" });
    let spec = serde_json::json!({ "name": "backup", "roles": roles, "join": join });
    BotSpec { max_ttl, ..serde_json::from_value(spec).unwrap() }
}

fn user(principals: &[&str]) -> Wanted {
    let principals = principals.iter().map(|name| name.parse().unwrap()).collect();
    Wanted::SshUser(SshUser { principals, ..SshUser::default() })
}

fn from(address: &str) -> Wanted {
    let source_addresses = [address.parse().unwrap()].into();
    Wanted::SshUser(SshUser { source_addresses, ..SshUser::default() })
}

fn command(command: &str) -> Wanted {
    let force_command = Some(command.to_owned());
    Wanted::SshUser(SshUser { force_command, ..SshUser::default() })
}

fn host(principals: &[&str]) -> Wanted {
    Wanted::SshHost(principals.iter().map(|name| name.parse().unwrap()).collect())
}

/// Issuer, length of validity, and principals or profile.
fn describe(grant: &Grant) -> String {
    let what = match &grant.template {
        Template::Ssh { principals, .. } => {
            principals.iter().map(Principal::as_str).collect::<Vec<_>>().join(" ")
        }
        Template::X509 { profile, .. } => match profile {
            Profile::Kdc { .. } => "kdc".to_owned(),
            Profile::SmartcardLogon { .. } => "smartcard_logon".to_owned(),
            Profile::TlsClient { .. } => "tls_client".to_owned(),
            Profile::TlsServer { .. } => "tls_server".to_owned(),
            Profile::Issuing { .. } | Profile::Root { .. } => "a CA".to_owned(),
            Profile::OcspSigner => "an OCSP signer".to_owned(),
        },
    };
    format!("{} {}s {what}", grant.issuer, grant.ttl.as_secs())
}
