//! One line of the table for each thing that a certificate can fail by. Certificates and lists are by
//! OpenSSL: the root, a CA below it, Alice's, a list without and one with hers, and the root's list.

use super::*;

const ROOT: &str = include_str!("tests/root.pem");
const ISSUING: &str = include_str!("tests/issuing.pem");
const LEAF: &str = include_str!("tests/leaf.pem");
const LIST: &[u8] = include_bytes!("tests/list.crl");
const REVOKED: &[u8] = include_bytes!("tests/revoked.crl");
const OTHER: &[u8] = include_bytes!("tests/other.crl");

type Change = fn(&mut Evidence);

#[test]
fn what_is_as_it_must_be_is_good_in_all_respects() {
    let findings = judge(&evidence());
    assert!(findings.iter().all(|it| it.verdict == Verdict::Good), "{findings:#?}");
    assert_eq!(verdict(&findings), Verdict::Good);
    let said: Vec<_> = findings.iter().map(|it| it.what).collect();
    let all = [
        "validity",
        "key",
        "form",
        "key usage",
        "extended key usage",
        "account",
        "SID",
        "chain",
        "revocation list",
        "NTAuth",
        "cached logon",
    ];
    assert_eq!(said, all);
}

#[test]
fn each_reason_is_found_and_no_other() {
    let table: &[(&str, Verdict, &str, Change)] = &[
        ("validity", Verdict::Bad, "valid only from", |it| it.now = time("2026-02-28T23:59:59Z")),
        ("validity", Verdict::Bad, "expired at", |it| {
            it.now = time("2026-06-01T00:00:00Z");
            it.list = Asked::Not("later");
        }),
        ("key", Verdict::Bad, "bits", |it| {
            let short = pki::keys::KeyError::Unsupported("RSA of 1024 bits".to_owned());
            it.certificate.key = Err(short);
        }),
        ("key", Verdict::Doubtful, "policy for ECC", |it| it.certificate.key = Ok(key(P256))),
        ("key", Verdict::Bad, "no KDC takes it", |it| it.certificate.key = Ok(key(ED25519))),
        ("form", Verdict::Bad, "a CA's", |it| it.certificate.authority = true),
        ("form", Verdict::Bad, "critical extensions that are not known: 1.2.3", |it| {
            it.certificate.unknown_critical = vec!["1.2.3".to_owned()];
        }),
        ("key usage", Verdict::Bad, "no digitalSignature", |it| {
            it.certificate.digital_signature = Some(false);
        }),
        ("key usage", Verdict::Doubtful, "MIT Kerberos and Samba do not", |it| {
            it.certificate.digital_signature = None;
        }),
        ("extended key usage", Verdict::Bad, "none", |it| it.certificate.purposes = None),
        ("extended key usage", Verdict::Bad, "not for smart-card logon", |it| {
            it.certificate.purposes = purposes(&["1.3.6.1.5.5.7.3.2"]);
        }),
        ("extended key usage", Verdict::Doubtful, "not client authentication", |it| {
            it.certificate.purposes = purposes(&["1.3.6.1.4.1.311.20.2.2"]);
        }),
        ("extended key usage", Verdict::Bad, "for KDCs", |it| {
            let all = ["1.3.6.1.4.1.311.20.2.2", "1.3.6.1.5.5.7.3.2", "1.3.6.1.5.2.3.5"];
            it.certificate.purposes = purposes(&all);
        }),
        ("account", Verdict::Bad, "names no account", |it| it.certificate.upns.clear()),
        ("account", Verdict::Bad, "names 2 accounts", |it| {
            it.certificate.upns.push("bob@corp.example".to_owned());
        }),
        ("account", Verdict::Bad, "form account@domain", |it| {
            it.certificate.upns = vec!["alice".to_owned()];
        }),
        ("account", Verdict::Bad, "it is alice@corp.example, not bob@corp.example", |it| {
            it.upn = Some("bob@corp.example".parse().unwrap());
        }),
        ("account", Verdict::Bad, "Kerberos principal", |it| it.certificate.kerberos_name = true),
        ("SID", Verdict::Doubtful, "event 39", |it| it.certificate.sid = None),
        ("SID", Verdict::Bad, "cannot be read", |it| {
            (it.certificate.sid, it.certificate.sid_malformed) = (None, true);
        }),
        ("SID", Verdict::Bad, "event 41", |it| {
            it.sid = Asked::Found(Ok("S-1-5-21-1-2-3-1105".parse().unwrap()));
        }),
        ("SID", Verdict::Bad, "the directory: it knows no such account", |it| {
            it.sid = Asked::Found(Err("it knows no such account".to_owned()));
        }),
        ("SID", Verdict::NotAsked, "not compared", |it| it.sid = Asked::Not("ask")),
        ("chain", Verdict::Bad, "nobody is known who issued", |it| {
            it.between.clear();
            (it.list, it.nt_auth) = (Asked::Not("later"), Asked::Not("later"));
        }),
        ("chain", Verdict::Bad, "no root that is trusted", |it| {
            it.between.extend(it.roots.replace(vec![]).unwrap());
        }),
        ("chain", Verdict::NotAsked, "no root that is trusted", |it| {
            it.between.extend(it.roots.take().unwrap());
        }),
        ("chain", Verdict::NotAsked, "not followed", |it| {
            (it.roots, it.between) = (None, vec![]);
            (it.list, it.nt_auth) = (Asked::Not("later"), Asked::Not("later"));
        }),
        ("chain", Verdict::Bad, "is valid from", |it| {
            it.between[0].not_after = time("2026-02-01T00:00:00Z")
        }),
        ("issuer", Verdict::Doubtful, "names another key", |it| {
            it.certificate.authority_key_identifier = Some(vec![7]);
        }),
        ("revocation list", Verdict::Bad, "says nowhere", |it| it.certificate.crl_urls.clear()),
        ("revocation list", Verdict::Bad, "not at a plain HTTP address", |it| {
            it.certificate.crl_urls = vec!["ldap:///CN=x".to_owned()];
        }),
        ("revocation list", Verdict::Bad, "no answer in time", |it| {
            it.list = Asked::Found(Err("no answer in time".to_owned()));
        }),
        ("revocation list", Verdict::Bad, "not signed by", |it| it.list = list(OTHER)),
        ("revocation list", Verdict::Bad, "revoked since", |it| it.list = list(REVOKED)),
        ("revocation list", Verdict::Bad, "stale since", |it| {
            it.now = time("2026-03-10T00:00:00Z")
        }),
        ("revocation list", Verdict::Doubtful, "ends soon", |it| {
            it.now = time("2026-03-08T23:00:00Z");
        }),
        ("revocation list", Verdict::Bad, "critical extensions", |it| {
            change_list(it, |list| list.critical = vec!["2.5.29.28".to_owned()]);
        }),
        ("revocation list", Verdict::Bad, "when the next one comes", |it| {
            change_list(it, |list| list.next_update = None);
        }),
        ("revocation list", Verdict::NotAsked, "pki.corp.example", |it| {
            it.list = Asked::Not("ask")
        }),
        ("NTAuth", Verdict::Bad, "is not among the 1 in it", |it| {
            it.nt_auth = Asked::Found(vec![read(ROOT)]);
        }),
        ("NTAuth", Verdict::NotAsked, "not looked at", |it| it.nt_auth = Asked::Not("ask")),
        ("cached logon", Verdict::Doubtful, "no key identifier", |it| {
            it.certificate.subject_key_identifier = None;
        }),
    ];
    for (what, wanted, says, change) in table {
        let mut evidence = evidence();
        change(&mut evidence);
        let findings = judge(&evidence);
        let found: Vec<_> = findings.iter().filter(|it| it.verdict != Verdict::Good).collect();
        let told = found.iter().find(|it| it.what == *what);
        let told = told.unwrap_or_else(|| panic!("{what}, {says}: {found:#?}"));
        assert_eq!(told.verdict, *wanted, "{says}");
        assert!(told.says.contains(says), "{says}: {}", told.says);
        assert!(told.hint.is_some(), "{says}");
        assert_eq!(verdict(&findings), found.iter().map(|it| it.verdict).max().unwrap());
        // What could not be looked at for want of something else is said, and nothing else is.
        assert!(
            found.iter().all(|it| it.what == *what || it.verdict == Verdict::NotAsked),
            "{says}: {found:#?}"
        );
    }
}

#[test]
fn commands_name_the_account_and_nothing_that_is_no_account() {
    let told = commands(&evidence());
    assert_eq!(
        told[0],
        "Get-ADUser -Filter \"UserPrincipalName -eq 'alice@corp.example'\" | Set-ADUser -Add \
         @{altSecurityIdentities='X509:<SKI>7347df36af009d3ed1ff198571693eae8db4d9a0'}"
    );
    assert!(told.iter().any(|it| it.ends_with("NTAuthCA")));
    let mut evidence = evidence();
    evidence.certificate.upns = vec!["o'brien@corp.example".to_owned()];
    assert!(commands(&evidence)[0].contains("'o''brien@corp.example'"));
    evidence.certificate.upns = vec!["alice';Remove-Item C:\\;'@corp.example".to_owned()];
    assert_eq!(commands(&evidence), Vec::<String>::new());
}

fn evidence() -> Evidence {
    Evidence {
        certificate: read(LEAF),
        between: vec![read(ISSUING)],
        roots: Some(vec![read(ROOT)]),
        list: list(LIST),
        nt_auth: Asked::Found(vec![read(ISSUING)]),
        upn: Some("alice@corp.example".parse().unwrap()),
        sid: Asked::Found(Ok("S-1-5-21-1-2-3-1104".parse().unwrap())),
        now: time("2026-03-03T00:00:00Z"),
    }
}

fn read(pem: &str) -> LogonCertificate {
    LogonCertificate::from_pem(pem).unwrap()
}

fn list(der: &[u8]) -> Asked<Result<RevocationList, String>> {
    Asked::Found(Ok(RevocationList::from_der(der).unwrap()))
}

fn change_list(it: &mut Evidence, change: fn(&mut RevocationList)) {
    let Asked::Found(Ok(list)) = &mut it.list else { panic!("there is no list") };
    change(list);
}

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn purposes(all: &[&str]) -> Option<Vec<String>> {
    Some(all.iter().map(|it| (*it).to_owned()).collect())
}

fn key(pem: &str) -> pki::keys::PublicKey {
    pki::keys::PublicKey::from_pem(pem).unwrap()
}

const P256: &str = "-----BEGIN PUBLIC KEY-----\n\
     MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEfsr1fMvI7nx/0rOwQFGOKWLq+QFn\n\
     daVW5jjBvS56gInakMz/J++mMZeXHW4kL+ctDI1pgEIZQjgvQLU3elzfHA==\n\
     -----END PUBLIC KEY-----\n";
const ED25519: &str = "-----BEGIN PUBLIC KEY-----\n\
     MCowBQYDK2VwAyEAYErK5chQMs7/vtNcU+0MhKBRAD84D632bFg+oEL8Gv4=\n\
     -----END PUBLIC KEY-----\n";
