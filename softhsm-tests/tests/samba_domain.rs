//! A Windows domain in earnest: Samba's Active Directory says which SID a card has, and its KDC gives
//! a ticket for it. This KDC looks at the SID, as Windows does since 2025, and at revocation lists.

use std::{fs, path::PathBuf, time::Duration};

use harness::{
    Doing, Failure, Story,
    https::Identity as Caller,
    kdc::{Identity, Realm},
    logon::{fetch_list, join_domain, principal, realm, upn},
    office::Office,
    openssl,
    process::{run, wait_until},
    samba::Domain,
};
use pki::x509::Certificate;
use serde_json::{Value, json};

/// Cards for oneself, by an agent for the people of Sales, and in a session.
const RULES: &str = r#"
[[role]]
name = "domain-card"
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
units = ["OU=Sales,DC=corp,DC=example,DC=test"]

[[role]]
name = "jit"
callers = ["spiffe://example.test/user/*"]
max_ttl = "1h"
[role.session]
certificates = ["jit-card"]
[role.session.directory]
account = "{name}@corp.example.test"
enable_account = true

[[role]]
name = "jit-card"
callers = ["spiffe://example.test/user/*"]
issuer = "issuing"
max_ttl = "1h"
[role.smartcard_logon]
attestation = "optional"
accounts = "directory"
upns = ["{name}@corp.example.test"]
"#;

#[test]
fn a_card_with_the_sid_of_the_directory_gets_a_ticket_and_no_other_does() -> Story {
    let (office, mut domain) = bench()?;
    domain.start_kdc(&realm(&office)?)?;
    let alice = office.enrol("user/alice")?;
    let card = card(&office, &alice, "domain-card", "alice", None)?;
    assert_eq!(card.sid()?, domain.sid("alice")?);
    domain.kinit(&upn("alice"), &card.identity())?.granted(&principal("alice"))?;
    domain.kinit(&upn("bob"), &card.identity())?.refused("Certificate mismatch")?;

    // By an agent, for somebody of the unit.
    let dora = office.enrol("user/dora")?;
    let card = self::card(&office, &dora, "cards-of-sales", "dave", None)?;
    assert_eq!(card.sid()?, domain.sid("dave")?);
    domain.kinit(&upn("dave"), &card.identity())?.granted(&principal("dave"))?;

    // The rules of the stories pin bob's SID of another domain: by these, he has a card that is no
    // good here, and by the directory none.
    let bob = office.enrol("user/bob")?;
    let card = self::card(&office, &bob, "card", "bob", None)?;
    assert_ne!(card.sid()?, domain.sid("bob")?);
    domain.kinit(&upn("bob"), &card.identity())?.refused("Certificate mismatch")?;
    assert_eq!(reason(&office, &bob, "domain-card", "bob")?, "account-contradicted");
    Ok(())
}

#[test]
fn the_directory_says_who_gets_no_card() -> Story {
    let (office, domain) = bench()?;
    let alice = office.enrol("user/alice")?;
    let dora = office.enrol("user/dora")?;
    let erin = office.enrol("user/erin")?;
    assert_eq!(reason(&office, &dora, "cards-of-sales", "alice")?, "account-out-of-reach");
    assert_eq!(reason(&office, &dora, "domain-card", "dora")?, "account-unknown");
    // Of Domain Admins, by way of another group.
    assert_eq!(reason(&office, &erin, "domain-card", "erin")?, "account-protected");
    let check = |name: &str| {
        run(&mut office.chancery(office.operator(), &["directory", "check", &upn(name)])?)
    };
    let said = check("erin")?.refused("no role gives a card of erin@corp.example.test")?.stdout;
    let admins = format!("{}-512", domain.sid("erin")?.rsplit_once('-').unwrap_or_default().0);
    let protected = |line: &str| line.starts_with("protected by") && line.contains(&admins);
    assert!(said.lines().any(protected), "{said}");

    domain.tool(&["user", "disable", "alice"])?;
    assert_eq!(reason(&office, &alice, "domain-card", "alice")?, "account-disabled");
    domain.tool(&["user", "enable", "alice"])?;
    check("alice")?.success()?;
    domain.tool(&["user", "move", "alice", "OU=Sales"])?;
    assert_eq!(card(&office, &dora, "cards-of-sales", "alice", None)?.sid()?, domain.sid("alice")?);
    Ok(())
}

#[test]
fn a_revoked_card_is_refused_once_the_kdc_has_the_list() -> Story {
    let (office, mut domain) = bench()?;
    let list = office.path("issuing.crl.pem");
    fetch_list(&office, &list)?;
    domain.start_kdc(&Realm { crls: Some(list.clone()), ..realm(&office)? })?;
    let alice = office.enrol("user/alice")?;
    let lost = card(&office, &alice, "domain-card", "alice", None)?;
    domain.kinit(&upn("alice"), &lost.identity())?.granted(&principal("alice"))?;

    let operator = office.https(Some(office.operator()))?;
    let body = json!({
        "issuer": "issuing",
        "serial": lost.serial,
        "code": "key-compromise",
        "reason": "the card is lost",
    });
    let revoked = operator.post("/v1/revoke", &body)?.expect_status(200)?.json()?;
    operator.get(&format!("/v1/effects/{}?wait=30", revoked["change"]))?.expect_status(200)?;
    fetch_list(&office, &list)?;
    // It reads the list anew by itself, and other cards are good.
    domain.kinit(&upn("alice"), &lost.identity())?.refused("not trusted")?;
    let new = card(&office, &alice, "domain-card", "alice", None)?;
    domain.kinit(&upn("alice"), &new.identity())?.granted(&principal("alice"))?;
    Ok(())
}

#[test]
fn a_session_enables_the_account_and_its_end_disables_it() -> Story {
    let (office, mut domain) = bench()?;
    domain.start_kdc(&realm(&office)?)?;
    domain.tool(&["user", "disable", "dave"])?;
    let dave = office.enrol("user/dave")?;
    let chancery = |arguments: &[&str]| run(&mut office.chancery(&dave, arguments)?)?.success();
    let ask = ["--json", "session", "request", "--role", "jit", "--reason", "ticket 4711"];
    let session: Value = serde_json::from_str(&chancery(&ask)?.stdout).doing("read a session")?;
    let id = session["id"].as_str().unwrap_or_default().to_owned();
    let card = card(&office, &dave, "jit-card", "dave", Some(&id))?;
    let ticket = || domain.kinit(&upn("dave"), &card.identity());
    wait_until("the account to be enabled", Duration::from_secs(60), || {
        Ok(ticket()?.answer.status.success())
    })?;
    ticket()?.granted(&principal("dave"))?;
    chancery(&["session", "end", &id, "--reason", "done"])?;
    wait_until("the account to be disabled", Duration::from_secs(60), || {
        Ok(!ticket()?.answer.status.success())
    })?;
    ticket()?.refused("credentials have been revoked").map(drop)
}

/// An office whose directory is a domain.
fn bench() -> Result<(Office, Domain), Failure> {
    let mut office = Office::prepare()?;
    let domain = join_domain(&office)?;
    fs::write(office.path("rules/domain.toml"), RULES).doing("write rules")?;
    office.begin()?;
    Ok((office, domain))
}

/// A card in files.
struct Card {
    certificate: PathBuf,
    key: PathBuf,
    serial: String,
}

impl Card {
    fn identity(&self) -> Identity<'_> {
        Identity::File { certificate: &self.certificate, key: &self.key }
    }

    /// The SID in the security extension: text, behind its length (MS-WCCE 2.2.2.7.7.4).
    fn sid(&self) -> Result<String, Failure> {
        let pem = fs::read_to_string(&self.certificate).doing("read a certificate")?;
        let certificate = Certificate::from_pem(&pem).doing("read a certificate")?;
        let der = certificate.der();
        let start = der.windows(9).position(|window| window == b"S-1-5-21-");
        let start = start.ok_or_else(|| Failure::new("there is no SID in it"))?;
        let sid = der.get(start..start + usize::from(der[start - 1])).unwrap_or_default();
        Ok(String::from_utf8_lossy(sid).into_owned())
    }
}

fn card(
    office: &Office,
    caller: &Caller,
    role: &str,
    name: &str,
    session: Option<&str>,
) -> Result<Card, Failure> {
    // Samba takes no other than RSA keys.
    let (key, csr) = request(office, &format!("{name}-{role}"), "rsa:2048")?;
    let mut body = json!({ "role": role, "csr": csr, "upn": upn(name) });
    if let Some(session) = session {
        body["session"] = session.into();
    }
    let issued = office.ask(caller, "/v1/issue/smartcard", &body)?;
    let text = |key: &str| issued[key].as_str().unwrap_or_default().to_owned();
    let certificate = key.with_extension("pem");
    fs::write(&certificate, text("certificate")).doing("write a certificate")?;
    Ok(Card { certificate, key, serial: text("serial") })
}

/// Why a card is refused.
fn reason(office: &Office, caller: &Caller, role: &str, name: &str) -> Result<String, Failure> {
    let (_, csr) = request(office, "refused", "ec:P-256")?;
    let body = json!({ "role": role, "csr": csr, "upn": upn(name) });
    let answer = office.https(Some(caller))?.post("/v1/issue/smartcard", &body)?;
    let problem = answer.expect_status(403)?.json()?;
    Ok(problem["reason"].as_str().unwrap_or_default().to_owned())
}

/// A key, made if it is not there, and a request for it.
fn request(office: &Office, name: &str, kind: &str) -> Result<(PathBuf, String), Failure> {
    let (key, csr) = (office.path(format!("{name}.key")), office.path(format!("{name}.csr")));
    if !key.exists() {
        openssl::generate(kind, &key)?;
    }
    openssl::request(&key, "/CN=nobody", &[], &csr)?;
    Ok((key, fs::read_to_string(csr).doing("read a request")?))
}
