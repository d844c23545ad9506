//! `make demo`: the straight line, told in the terminal, from a key ceremony to certificates that
//! OpenSSH, OpenSSL and a Kerberos KDC accept. Every step is done, none is acted.

use std::{
    borrow::BorrowMut,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, ExitCode},
    time::Duration,
};

use harness::{
    Doing, Failure, Story,
    agent::{self, Host},
    bot::Bot,
    https::Identity,
    kdc::{self, Kdc, Realm},
    narrator::Narrator,
    office::Office,
    openssl,
    peers::{ours, source_tree},
    process::{Answer, run, wait_until},
    readers::Readers,
    ssh::{self, Login},
    sshd::{Settings, Sshd},
    virtual_card::{Kind, VirtualCard},
};
use tokio::{
    runtime::Builder,
    signal::unix::{SignalKind, signal},
};

/// What the host is called, in its certificate and in `known_hosts`.
const HOST: &str = "web1.example.test";

/// A host that goes by what the appliance says at each moment.
const DATABASE: &str = "db1.example.test";

/// A host on which a bot works.
const BUILDER: &str = "build1.example.test";

fn main() -> ExitCode {
    match outlive_interrupts().and_then(|()| Demonstration::begin()).and_then(Demonstration::tell) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => complain(&failure),
    }
}

#[expect(clippy::print_stderr, reason = "this is a command-line program")]
fn complain(failure: &Failure) -> ExitCode {
    eprintln!("\nerror: {failure}");
    ExitCode::FAILURE
}

/// Ctrl-C ends the peers, which run in the same terminal; the story then fails at its next step and
/// takes everything away that it made. It could not, if it ended at once.
fn outlive_interrupts() -> Story {
    let runtime = Builder::new_current_thread().enable_all().build().doing("start a runtime")?;
    let _entered = runtime.enter();
    for kind in [SignalKind::interrupt(), SignalKind::terminate()] {
        // The handler stays when this value and the runtime are gone.
        drop(signal(kind).doing("handle a signal")?);
    }
    Ok(())
}

/// The story so far.
struct Demonstration {
    office: Office,
    narrator: Narrator,
    /// A YubiKey as it comes from the factory, whose maker the appliance knows.
    card: VirtualCard,
}

impl Demonstration {
    fn begin() -> Result<Self, Failure> {
        let narrator =
            Narrator::begin("Chancery: CA keys stay in the token, and sign what is allowed")?;
        let office = Office::prepare()?;
        let card = VirtualCard::new(Kind::YubiKey57, 12_345_678)?;
        office.trust_cards(&[&card])?;
        Ok(Self { office, narrator, card })
    }

    fn tell(mut self) -> Story {
        self.ceremony()?;
        self.appliance()?;
        let alice = self.enrolment()?;
        self.ssh(&alice)?;
        self.tls()?;
        let kdc = self.smart_card(&alice)?;
        self.yubikey(&alice, kdc)?;
        self.digest(&alice)?;
        self.just_in_time(&alice)?;
        self.bot()?;
        self.power_cut(&alice)?;
        self.ledger()?;
        self.narrator.end("Every step did what it says")
    }

    fn ceremony(&mut self) -> Story {
        self.narrator.chapter("A ceremony makes the keys in a PKCS#11 token, on the record")?;
        let answer = self.office.hold_ceremony()?;
        self.narrator.command(&self.plain(&answer.command))?;
        for step in answer.stdout.lines().filter(|line| line.contains("/11  ")) {
            self.narrator.answer(step.trim())?;
        }
        let mut verify = Command::new(ours("chancery-ceremony")?);
        verify.current_dir(self.office.path("")).args(["verify", "transcript.jsonl"]);
        self.run(verify.args(["--handoff", "handoff"]))
    }

    fn appliance(&mut self) -> Story {
        self.narrator.chapter("The appliance starts, and its first operator gets a certificate")?;
        let answer = self.office.add_operator()?;
        self.narrator.command(&self.plain(&answer.command))?;
        self.narrator.good("a client certificate for spiffe://example.test/operator/olivia")?;
        self.write("rules/sessions.toml", &format!("{}{ACCESS}", agent::RULES))?;
        self.office.start()?;
        self.narrator.command("chanceryd serve --config chanceryd.toml")?;
        let (api, public) = (self.office.api(), self.office.public());
        self.narrator.good(&format!("ready: mutual TLS on {api}, public on {public}"))?;
        self.run(self.office.chancery(self.office.operator(), &["ca"])?)
    }

    fn enrolment(&mut self) -> Result<Identity, Failure> {
        self.narrator.chapter("Alice makes a key; the operator gives her a client certificate")?;
        let alice = Identity {
            certificate: self.office.path("alice-client.pem"),
            key: self.office.path("alice-client.key"),
        };
        let csr = self.office.chancery(&alice, &["csr", "--new-key", "alice-client.key"])?;
        self.run(csr)?;
        let spiffe = "spiffe://example.test/user/alice";
        let request = ["request", "x509", "--role", "enrol", "--csr", "alice-client.csr"];
        let mut request = self.office.chancery(self.office.operator(), &request)?;
        request.args(["--spiffe", spiffe]);
        self.run(request)?;
        Ok(alice)
    }

    fn ssh(&mut self, alice: &Identity) -> Story {
        self.narrator.chapter("A host gets an SSH certificate, and sshd trusts the user CA")?;
        let host = self.office.enrol("host/web1")?;
        ssh::generate("ed25519", &self.office.path("host_key"))?;
        let request = ["request", "ssh-host", "--role", "host", "--key", "host_key.pub"];
        let mut request = self.office.chancery(&host, &request)?;
        request.args(["--principal", HOST]);
        self.run(request)?;
        let mut ca = self.office.chancery(alice, &["ca", "ssh-host"])?;
        ca.args(["--known-hosts", "*.example.test"]);
        let known = self.answer(ca)?;
        self.write("known_hosts", &known.stdout)?;
        let mut sshd = self.sshd("alice")?;
        self.narrator.good(&format!("sshd listens on port {}", sshd.port()))?;

        self.narrator.chapter("Alice logs in with a certificate for eight hours")?;
        let request =
            ["request", "ssh", "--role", "login", "--key", "alice", "--generate", "--ttl", "8h"];
        self.run(self.office.chancery(alice, &request)?)?;
        let login = self.login(&sshd);
        let answer = login.run("echo hello from $SSH_CONNECTION")?.success()?;
        self.narrator.command(&format!("ssh {HOST} 'echo hello from $SSH_CONNECTION'"))?;
        self.narrator.answer(&answer.stdout)?;
        sshd.wait_for_log("Accepted publickey")?;
        self.narrator.answer(&line_with(&sshd.log()?, "Accepted publickey"))?;

        self.narrator.chapter("Nobody logs in as somebody else")?;
        let request =
            ["request", "ssh", "--role", "login", "--key", "alice", "--principal", "root"];
        self.refused(self.office.chancery(alice, &request)?)?;
        let mut bobs = self.sshd("bob")?;
        self.login(&bobs).run("true")?.refused("Permission denied")?;
        self.narrator.command("ssh bobs.example.test")?;
        let why = "Certificate does not contain an authorized principal";
        bobs.wait_for_log(why)?;
        self.narrator.refused(&line_with(&bobs.log()?, why))
    }

    fn tls(&mut self) -> Story {
        self.narrator.chapter("A web server gets a TLS certificate; OpenSSL judges it strictly")?;
        let web = self.office.enrol("service/web")?;
        let request = ["request", "x509", "--role", "web-server", "--new-key", "www.key"];
        let mut request = self.office.chancery(&web, &request)?;
        request.args(["--dns", "www.example.test"]);
        self.run(request)?;
        let (root, server) = (self.office.handoff("root.pem"), self.office.path("www.pem"));
        let answer = openssl::verify(&root, Some(&server), "sslserver", &server)?.success()?;
        self.narrator.command(&self.plain(&answer.command))?;
        self.narrator.answer(&self.plain(&answer.stdout))?;
        let request = ["request", "x509", "--role", "web-server", "--new-key", "bank.key"];
        let mut request = self.office.chancery(&web, &request)?;
        request.args(["--dns", "www.bank.example"]);
        self.refused(request)
    }

    fn smart_card(&mut self, alice: &Identity) -> Result<Kdc, Failure> {
        self.narrator.chapter("A smart-card logon: Kerberos gives Alice a ticket, by PKINIT")?;
        let kdc = self.kdc()?;
        openssl::generate("rsa:2048", &self.office.path("card.key"))?;
        let card = self.office.path("card.csr");
        openssl::request(&self.office.path("card.key"), "/CN=card", &[], &card)?;
        let request = ["request", "smartcard", "--role", "card", "--csr", "card.csr"];
        let mut request = self.office.chancery(alice, &request)?;
        request.args(["--upn", "alice@corp.example.test"]);
        self.run(request)?;
        let (certificate, key) = (self.office.path("card.pem"), self.office.path("card.key"));
        let identity = kdc::Identity::File { certificate: &certificate, key: &key };
        let ticket = kdc.kinit("alice@corp.example.test", &identity, None)?.granted("alice")?;
        self.narrator.command(&kinit("FILE:card.pem,card.key", "alice"))?;
        self.narrator.answer(&line_with(&ticket.listed, "krbtgt/"))?;
        let ticket = kdc.kinit("bob@corp.example.test", &identity, None)?;
        let ticket = ticket.refused("Client name mismatch")?;
        self.narrator.command(&kinit("FILE:card.pem,card.key", "bob"))?;
        self.narrator.refused(&ticket.why())?;
        Ok(kdc)
    }

    fn yubikey(&mut self, alice: &Identity, kdc: Kdc) -> Story {
        self.narrator
            .chapter("A YubiKey out of its box: the key is made on it, and logs Alice in")?;
        let directory = self.office.path("readers");
        fs::create_dir(&directory).doing("make a directory")?;
        let readers = Readers::start(&directory, &["Yubico YubiKey OTP+FIDO+CCID"])?;
        readers.insert(0, &self.card)?;
        for (file, secret) in [("alice.pin", CARD_PIN), ("alice.puk", "13579135")] {
            self.write(file, secret)?;
            let closed = fs::Permissions::from_mode(0o600);
            fs::set_permissions(self.office.path(file), closed).doing("close a file")?;
        }
        let card = |words: &str| -> Result<Command, Failure> {
            let words: Vec<_> = words.split(' ').collect();
            let mut command = self.office.as_caller("chancery-card", alice, &words)?;
            readers.lend(&mut command);
            Ok(command)
        };
        let upn = "alice@corp.example.test";
        self.run(card("list")?)?;
        self.run(card("init --from-defaults --pin-file alice.pin --puk-file alice.puk")?)?;
        self.run(card(&format!("enroll --slot 9a --upn {upn} --pin-file alice.pin"))?)?;
        self.run(self.office.chancery(self.office.operator(), &["card", "list"])?)?;
        // The name in the certificate's address of the list is nobody's here.
        let list = format!("http://{}/crl/issuing.crl", self.office.public());
        let doctor = card(&format!("doctor 9a --ntauth handoff/issuing.pem --crl {list}"))?;
        let judged = self.answer(doctor)?.stdout;
        for what in ["account ", "SID ", "chain ", "revocation list ", "NTAuth "] {
            let found = judged.lines().find(|line| line.starts_with(what));
            self.narrator.answer(found.unwrap_or_default())?;
        }
        // As OpenSC numbers slot 9A.
        let identity = kdc::Identity::Card { readers: &readers, id: "01", pin: CARD_PIN };
        let ticket = kdc.kinit(upn, &identity, None)?.granted("alice")?;
        self.narrator.command(&kinit("PKCS11:module_name=opensc-pkcs11.so", "alice"))?;
        self.narrator.answer(&line_with(&ticket.listed, "krbtgt/"))
    }

    fn digest(&mut self, alice: &Identity) -> Story {
        self.narrator.chapter("A build signs its firmware with a key that is no CA's")?;
        let builder = self.office.enrol("service/builder")?;
        self.write("firmware.img", "firmware, version 7\n")?;
        let sign = ["sign", "--role", "firmware", "--key", "firmware", "firmware.img"];
        self.run(self.office.chancery(&builder, &sign)?)?;
        let key = self.answer(self.office.chancery(&builder, &["ca", "firmware", "--pem"])?)?;
        self.write("firmware.pub", &key.stdout)?;
        let mut verify = openssl::openssl()?;
        verify.current_dir(self.office.path("")).args(["dgst", "-sha256", "-verify"]);
        self.run(verify.args(["firmware.pub", "-signature", "firmware.img.sig", "firmware.img"]))?;
        self.narrator.say("Alice asks for the same:")?;
        self.refused(self.office.chancery(alice, &sign)?)
    }

    fn just_in_time(&mut self, alice: &Identity) -> Story {
        self.narrator.chapter("Alice needs a database for an hour, and Bob says yes")?;
        let bob = self.office.enrol("user/bob")?;
        let host = Host::join(&self.office, DATABASE, "alice")?;
        self.narrator.good(&format!("{DATABASE} has joined; its agent tells sshd who may in"))?;
        let words = ["session", "request", "--role", "admin", "--target", DATABASE, "--reason"];
        let mut request = self.office.chancery(alice, &words)?;
        let asked = self.answer(request.arg("ticket 4711"))?;
        self.narrator.answer(&asked.stdout)?;
        let session = asked.stdout.lines().find_map(|line| line.strip_prefix("session "));
        let id = session.unwrap_or_default().trim();
        let approve = ["session", "approve", id, "--reason", "seen"];
        self.refused(self.office.chancery(alice, &approve)?)?;
        self.narrator.say("Bob:")?;
        self.run(self.office.chancery(&bob, &approve)?)?;
        let certify = ["request", "ssh", "--role", "session-login", "--session", id];
        let mut certify = self.office.chancery(alice, &certify)?;
        self.run(certify.args(["--key", "hour", "--generate"]))?;
        let key = self.office.path("hour");
        let mut open = host.stay(&key, &[], "stays.log")?;
        host.wait_for_connections(1)?;
        self.narrator.command(&format!("ssh {DATABASE}"))?;
        self.narrator.good("Alice is logged in, and stays")?;

        self.narrator.chapter("The session ends: the connection is cut, and nobody comes back")?;
        let end = ["session", "end", id, "--reason", "done", "--wait", "30s"];
        self.run(self.office.chancery(alice, &end)?)?;
        wait_until("the end of a connection", Duration::from_secs(10), || Ok(!open.running()?))?;
        self.narrator.good("her connection is gone")?;
        let again = host.login(&key).run("true")?.refused("Permission denied")?;
        self.narrator.command(&format!("ssh {DATABASE}"))?;
        self.narrator.refused(&line_with(&again.output(), "Permission denied"))?;

        self.narrator.chapter("All of it in one: chancery ssh, with a key that is in no file")?;
        let login = host.login(&key);
        let command = "echo hello from $SSH_CONNECTION";
        let words = ["ssh", "--role", "access", "--target", DATABASE, "--reason", "ticket 4712"];
        let mut ssh = self.office.chancery(alice, &words)?;
        ssh.args(["-F", "none", "-p", &login.port.to_string(), "-o", "UserKnownHostsFile=none"]);
        ssh.args(["-o", &format!("HostKeyAlias={DATABASE}"), "-o", "BatchMode=yes"]);
        ssh.arg(format!("{}@127.0.0.1", login.user)).arg(command);
        let said = run(&mut ssh)?.success()?;
        let typed = "chancery ssh --role access --reason 'ticket 4712'";
        self.narrator.command(&format!("{typed} {DATABASE} '{command}'"))?;
        self.narrator.answer(&said.output())?;

        self.narrator.chapter("A lock: from its answer on, not one signature for Bob")?;
        let lock = ["lock", "add", "user:bob", "--reason", "his laptop is gone", "--yes"];
        self.run(self.office.chancery(self.office.operator(), &lock)?)?;
        let request = ["request", "ssh", "--role", "login", "--key", "bob", "--generate"];
        self.refused(self.office.chancery(&bob, &request)?)
    }

    fn bot(&mut self) -> Story {
        self.narrator.chapter("A bot joins once, by a token, and renews by itself")?;
        let host = Host::join(&self.office, BUILDER, "ci")?;
        let flags = ["--role", "login", "--identity-ttl", "6s"];
        let mut bot = Bot::add(&self.office, "ci", &flags, BOT)?;
        self.narrator.command(&format!("chancery bot add ci {}", flags.join(" ")))?;
        bot.start()?;
        self.narrator.command("chancery bot run --config bot.toml")?;
        bot.wait_for_file("ssh/current/key-cert.pub", true)?;
        self.narrator.good("it has joined, and put a key and its certificate in place for ssh")?;
        wait_until("two renewals", Duration::from_secs(60), || {
            Ok(bot.shown(&self.office)?["instances"][0]["generation"].as_u64() >= Some(3))
        })?;
        let show = self.office.chancery(self.office.operator(), &["bot", "show", "ci"])?;
        let shown = self.answer(show)?.stdout;
        self.narrator.answer(shown.split_once("\n\n").map_or(&shown, |(_, table)| table))?;
        self.narrator.good("its own certificate lives for six seconds, and is the third by now")?;
        let answer = host.login(&bot.path("ssh/current/key")).run("echo built")?.success()?;
        self.narrator.command(&format!("ssh -F ssh/current/ssh_config {BUILDER} echo built"))?;
        self.narrator.answer(&answer.stdout)?;

        self.narrator
            .chapter("The bot is locked: what it has is of no use, and its agent lets go")?;
        for name in ["key", "key-cert.pub"] {
            let from = bot.path(format!("ssh/current/{name}"));
            fs::copy(from, bot.path(name)).doing("copy a file")?;
        }
        let lock = ["lock", "add", "bot:ci", "--reason", "odd logins", "--yes"];
        self.run(self.office.chancery(self.office.operator(), &lock)?)?;
        let login = host.login(&bot.path("key"));
        wait_until("the lock on the host", Duration::from_secs(10), || {
            Ok(!login.run("true")?.status.success())
        })?;
        let again = login.run("true")?.refused("Permission denied")?;
        self.narrator.command(&format!("ssh -i a-copy {BUILDER}"))?;
        self.narrator.refused(&line_with(&again.output(), "Permission denied"))?;
        bot.wait_for_file("ssh/current/key", false)?;
        self.narrator.good("its agent has taken the key out of the way of other programs")
    }

    fn power_cut(&mut self, alice: &Identity) -> Story {
        self.narrator
            .chapter("The appliance is killed; asked again, it gives the same certificate")?;
        let key = fs::read_to_string(self.office.path("alice.pub")).doing("read a key")?;
        let line = serde_json::json!({
            "idempotency_key": "the same",
            "request": { "operation": "ssh_user", "role": "login", "public_key": key.trim() },
        });
        self.write("request.ndjson", &format!("{line}\n"))?;
        let batch = ["batch", "request.ndjson"];
        let before = self.answer(self.office.chancery(alice, &batch)?)?;
        self.office.kill();
        self.narrator
            .command("kill -9 $(pidof chanceryd); chanceryd serve --config chanceryd.toml")?;
        self.office.restart()?;
        let after = self.answer(self.office.chancery(alice, &batch)?)?;
        if before.stdout != after.stdout {
            let both = format!("{}\n{}", before.stdout, after.stdout);
            return Err(Failure::new("another certificate came after the restart").said(both));
        }
        self.narrator.good("the two answers are the same, to the byte")
    }

    fn ledger(&mut self) -> Story {
        self.narrator.chapter("The ledger has every certificate")?;
        self.run(self.office.chancery(self.office.operator(), &["list"])?)
    }

    fn kdc(&self) -> Result<Kdc, Failure> {
        let operator = self.office.operator();
        let request = ["kdc", "--role", "domain-controller", "--new-key", "kdc.key"];
        let mut request = self.office.chancery(operator, &request)?;
        self.run(request.args(["--dns", "kdc.corp.example.test"]))?;
        fs::create_dir(self.office.path("kdc")).doing("make a directory")?;
        let realm = Realm {
            name: "CORP.EXAMPLE.TEST".to_owned(),
            upn_domain: "corp.example.test".to_owned(),
            accounts: vec!["alice".to_owned(), "bob".to_owned()],
            certificate: self.office.path("kdc.pem"),
            key: self.office.path("kdc.key"),
            root: self.office.handoff("root.pem"),
            pool: self.office.handoff("issuing.pem"),
            crls: None,
        };
        Kdc::start(&self.office.path("kdc"), &realm)
    }

    /// An sshd with the host's certificate, where `principal` may log in.
    fn sshd(&self, principal: &str) -> Result<Sshd, Failure> {
        let directory = self.office.path(format!("sshd-{principal}"));
        fs::create_dir(&directory).doing("make a directory")?;
        let settings = Settings {
            trusted_user_ca_keys: Some(self.office.handoff("ssh-user.pub")),
            authorized_principals: vec![principal.to_owned()],
            host_key: Some(self.office.path("host_key")),
            host_certificate: Some(self.office.path("host_key-cert.pub")),
            ..Settings::default()
        };
        Sshd::start(&directory, &settings)
    }

    fn login(&self, sshd: &Sshd) -> Login {
        Login {
            key: self.office.path("alice"),
            certificate: self.office.path("alice-cert.pub"),
            known_hosts: self.office.path("known_hosts"),
            user: sshd.user().to_owned(),
            host: HOST.to_owned(),
            port: sshd.port(),
        }
    }

    /// Runs a command that must succeed, and shows it with its answer.
    fn run(&self, command: impl BorrowMut<Command>) -> Story {
        self.answer(command).and_then(|answer| self.narrator.answer(&self.plain(&answer.output())))
    }

    /// Runs a command that must succeed, and shows it without its answer.
    fn answer(&self, mut command: impl BorrowMut<Command>) -> Result<Answer, Failure> {
        let answer = run(command.borrow_mut())?.success()?;
        self.narrator.command(&self.plain(&answer.command))?;
        Ok(answer)
    }

    /// Runs a command of the client that the appliance must refuse, and shows it with the reason.
    fn refused(&self, mut command: impl BorrowMut<Command>) -> Story {
        let answer = run(command.borrow_mut())?.refused("error: ")?;
        if answer.status.code() != Some(1) {
            let what =
                format!("{}: {}, and the appliance refuses with 1", answer.command, answer.status);
            return Err(Failure::new(what).said(answer.output()));
        }
        self.narrator.command(&self.plain(&answer.command))?;
        self.narrator.refused(&self.plain(&answer.output()))
    }

    fn write(&self, name: &str, text: &str) -> Story {
        fs::write(self.office.path(name), text).doing(format_args!("write {name}"))
    }

    /// Paths as a person in the office's directory with the programs installed would see them.
    fn plain(&self, text: &str) -> String {
        let programs = std::env::current_exe().unwrap_or_default();
        let programs = programs.parent().unwrap_or(Path::new(""));
        let directories = [self.office.path(""), programs.join(""), source_tree().join("")];
        let text = directories.iter().fold(text.to_owned(), |text, directory| {
            text.replace(&*directory.to_string_lossy(), "")
        });
        text.replace("/usr/bin/", "")
    }
}

/// The line of a log or a list that says `what`.
fn line_with(text: &str, what: &str) -> String {
    text.lines().rfind(|line| line.contains(what)).unwrap_or_default().to_owned()
}

fn kinit(identity: &str, account: &str) -> String {
    format!("kinit -X X509_user_identity={identity} -E {account}@corp.example.test")
}

/// The PIN of Alice's card.
const CARD_PIN: &str = "246810";

/// Who may work on hosts after somebody else said yes.
const ACCESS: &str = r#"
[[role]]
name = "admin"
callers = ["spiffe://example.test/user/*"]
default_ttl = "1h"
max_ttl = "8h"
[role.session]
certificates = ["session-login"]
targets = ["*.example.test"]
approvals = 1
approvers = ["spiffe://example.test/user/*"]
"#;

/// What the bot's agent has for ssh.
const BOT: &str = r#"
[[output]]
name = "ssh"
kind = "ssh"
role = "login"
hosts = ["*.example.test"]
directory = "{at}/ssh"
"#;
