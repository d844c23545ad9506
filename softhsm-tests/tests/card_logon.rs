//! A card out of its box logs on: `chancery-card` fills it, kinit reaches it through OpenSC's
//! PKCS#11 module, and two KDCs judge it. A certificate that outlives its session on a card that was
//! away is good for nothing, once the KDC has the list.

use std::{fs, path::PathBuf, process::Command, time::Duration};

use harness::{
    Doing, Failure, Story,
    desk::{Desk, PIN},
    https::Identity as Caller,
    kdc::{Identity, Kdc, Realm, Ticket},
    logon::{fetch_list, join_domain, principal, realm, upn},
    office::Office,
    openssl::describe,
    peers::peer,
    process::{Answer, Daemon, run, wait_until},
    readers::opensc_module,
    samba::Domain,
    virtual_card::{Fault, Kind, VirtualCard},
};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);
/// The certificate of slot 9A.
const AUTHENTICATION: u32 = 0x5f_c105;

#[test]
fn a_card_logs_on_to_a_samba_domain_and_as_nobody_else() -> Story {
    let office = Office::prepare()?;
    let mut domain = join_domain(&office)?;
    let bench = Bench::begin(office, "directory")?;
    domain.start_kdc(&realm(&bench.office)?)?;
    let alice = bench.office.enrol("user/alice")?;
    let enroll = ["enroll", "--slot", "9a", "--role", "domain-card"];
    bench.run(&alice, &[&enroll[..], &["--upn", &upn("alice")]].concat())?.success()?;
    domain.kinit(&upn("alice"), &bench.identity())?.granted(&principal("alice"))?;
    domain.kinit(&upn("bob"), &bench.identity())?.refused("Certificate mismatch")?;
    assert!(describe(&bench.certificate()?)?.contains(&domain.sid("alice")?));

    // Bob is pinned with the SID that he has in another domain: here, that is another's.
    let bob = bench.office.enrol("user/bob")?;
    bench.run(&alice, &["wipe", "--slot", "9a", "--confirm", "12345678"])?.success()?;
    let pinned = ["enroll", "--slot", "9a", "--role", "card", "--no-attestation"];
    bench.run(&bob, &[&pinned[..], &["--upn", &upn("bob")]].concat())?.success()?;
    assert!(!describe(&bench.certificate()?)?.contains(&domain.sid("bob")?));
    domain.kinit(&upn("bob"), &bench.identity())?.refused("Certificate mismatch")?;
    assert_eq!(bench.card.tries_left(), (3, 3));
    Ok(())
}

#[test]
fn after_the_session_mit_refuses_the_card_once_it_is_started_again() -> Story {
    let bench = Bench::begin(Office::prepare()?, "pinned")?;
    let realm = bench.realm_with_list()?;
    let directory = bench.office.path("kdc");
    fs::create_dir(&directory).doing("make a directory")?;
    let kdc = Kdc::start(&directory, &realm)?;
    let alice = bench.office.enrol("user/alice")?;
    let session = bench.session(&alice)?;
    let ticket = |kdc: &Kdc| kdc.kinit(&upn("alice"), &bench.identity(), None);
    ticket(&kdc)?.granted(&principal("alice"))?;

    bench.end_while_the_card_is_away(session)?;
    bench.fetch_list()?;
    // It has read the list when it started, and looks at it never again.
    ticket(&kdc)?.granted(&principal("alice"))?;
    let kdc = kdc.restart(&realm)?;
    bench.is_refused(ticket(&kdc)?, "evoked")
}

#[test]
fn after_the_session_samba_refuses_the_card_as_soon_as_it_has_the_list() -> Story {
    let office = Office::prepare()?;
    let mut domain = join_domain(&office)?;
    let bench = Bench::begin(office, "directory")?;
    domain.start_kdc(&bench.realm_with_list()?)?;
    let alice = bench.office.enrol("user/alice")?;
    let session = bench.session(&alice)?;
    let ticket = |domain: &Domain| domain.kinit(&upn("alice"), &bench.identity());
    ticket(&domain)?.granted(&principal("alice"))?;

    bench.end_while_the_card_is_away(session)?;
    ticket(&domain)?.granted(&principal("alice"))?;
    bench.fetch_list()?;
    bench.is_refused(ticket(&domain)?, "not trusted")
}

/// Cards at any time, and in sessions only; where the accounts are is put in.
const RULES: &str = r#"
[[role]]
name = "domain-card"
callers = ["spiffe://example.test/user/*"]
issuer = "issuing"
max_ttl = "8h"
[role.smartcard_logon]
accounts = "ACCOUNTS"
upns = ["{name}@corp.example.test"]

[[role]]
name = "desk-card"
callers = ["spiffe://example.test/user/*"]
issuer = "issuing"
max_ttl = "8h"
[role.smartcard_logon]
accounts = "ACCOUNTS"
upns = ["{name}@corp.example.test"]

[[role]]
name = "desk"
callers = ["spiffe://example.test/user/*"]
max_ttl = "8h"
[role.session]
certificates = ["desk-card"]
"#;

/// An office, and a card in a reader that was made ready.
struct Bench {
    office: Office,
    desk: Desk,
    card: VirtualCard,
}

/// A session that has its certificate on the card.
struct Session {
    program: Daemon,
    id: String,
}

impl Bench {
    fn begin(mut office: Office, accounts: &str) -> Result<Self, Failure> {
        let rules = RULES.replace("ACCOUNTS", accounts);
        fs::write(office.path("rules/desk.toml"), rules).doing("write rules")?;
        let desk = Desk::new()?;
        let card = desk.insert_ready(Kind::YubiKey57)?;
        office.trust_cards(&[&card])?;
        office.begin()?;
        Ok(Self { office, desk, card })
    }

    fn run(&self, caller: &Caller, arguments: &[&str]) -> Result<Answer, Failure> {
        run(&mut self.chancery_card(caller, arguments)?)
    }

    fn chancery_card(&self, caller: &Caller, arguments: &[&str]) -> Result<Command, Failure> {
        let mut command = self.office.as_caller("chancery-card", caller, arguments)?;
        self.desk.readers().lend(command.arg("--pin-file").arg(self.desk.path("pin")));
        Ok(command)
    }

    fn session(&self, caller: &Caller) -> Result<Session, Failure> {
        let (upn, log) = (upn("alice"), self.office.path("session.log"));
        let mut arguments = vec!["session", "--slot", "9a", "--upn", &upn, "--role", "desk-card"];
        arguments.extend(["--session-role", "desk", "--reason", "ticket 4711"]);
        let mut command = self.chancery_card(caller, &arguments)?;
        let mut program = Daemon::start("session", &mut command, &log)?;
        program.wait_until(PATIENCE, |said| said.contains("Ctrl-C ends it"))?;
        let list = self.ask(&["session", "list", "--json"])?;
        let sessions: Value = serde_json::from_str(&list).doing("read sessions")?;
        let id = sessions["id"].as_str().unwrap_or_default().to_owned();
        Ok(Session { program, id })
    }

    /// Whoever has the card has pulled it: nobody can wipe it when somebody else ends the session.
    fn end_while_the_card_is_away(&self, mut session: Session) -> Story {
        let before = self.card.object(AUTHENTICATION);
        self.card.fail(Some(Fault::PulledBefore(1)));
        let end = ["session", "end", &session.id, "--reason", "enough", "--wait", "30s"];
        self.ask(&end)?;
        wait_until("the end of the program", PATIENCE, || Ok(!session.program.running()?))?;
        let said = session.program.log()?;
        assert!(said.contains("hint: insert the card: chancery-card wipe --slot 9a"), "{said}");
        self.card.fail(None);
        self.desk.readers().insert(0, &self.card)?;
        assert_eq!(self.card.object(AUTHENTICATION), before);
        assert!(before.is_some(), "there was no certificate on the card");
        Ok(())
    }

    /// The KDC refuses the card, which has its certificate and a PIN that is taken.
    fn is_refused(&self, ticket: Ticket, why: &str) -> Story {
        ticket.refused(why)?;
        assert!(self.card.object(AUTHENTICATION).is_some(), "the certificate is gone");
        assert_eq!(self.card.tries_left(), (3, 3));
        Ok(())
    }

    fn realm_with_list(&self) -> Result<Realm, Failure> {
        self.fetch_list()?;
        Ok(Realm { crls: Some(self.list()), ..realm(&self.office)? })
    }

    fn fetch_list(&self) -> Story {
        fetch_list(&self.office, &self.list())
    }

    fn list(&self) -> PathBuf {
        self.office.path("issuing.crl.pem")
    }

    fn identity(&self) -> Identity<'_> {
        Identity::Card { readers: self.desk.readers(), id: "01", pin: PIN }
    }

    /// The certificate on the card, as OpenSC reads it: a file (DER).
    fn certificate(&self) -> Result<PathBuf, Failure> {
        let path = self.office.path("read.der");
        let mut read = self.desk.command(&peer("pkcs11-tool")?);
        read.arg("--module").arg(opensc_module()?).args(["--read-object", "--type", "cert"]);
        run(read.args(["--id", "01", "--output-file"]).arg(&path))?.success()?;
        Ok(path)
    }

    fn ask(&self, arguments: &[&str]) -> Result<String, Failure> {
        let mut command = self.office.chancery(self.office.operator(), arguments)?;
        Ok(run(&mut command)?.success()?.stdout)
    }
}
