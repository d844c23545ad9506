//! Access for a purpose: asked for, approved by somebody else, used, and taken back. On the host
//! stands a plain sshd, whose list of revoked keys is that which the appliance publishes.

use std::{
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use harness::{
    Doing, Failure, Story,
    https::{Identity, Request},
    office::{Office, http_send},
    openssl,
    peers::peer,
    process::{Answer, Daemon, Signal, run, wait_until},
    ssh::{self, Login},
    sshd::{Settings, Sshd},
};
use serde_json::Value;

/// What the host is called, by its users and in sessions.
const HOST: &str = "host.example.test";

#[test]
fn a_session_is_approved_by_somebody_else_and_its_certificate_ends_with_it() -> Story {
    let scene = Scene::open()?;
    let mut sshd = scene.sshd()?;

    // Alice asks. Until somebody else approves, there is nothing for her.
    let asked = ["session", "request", "--role", "admin", "--target", HOST];
    let session =
        scene.answer(&scene.alice, &[&asked[..], &["--reason", "ticket 4711"]].concat())?;
    let id = text(&session, "id");
    assert_eq!(text(&session, "state"), "waiting");
    scene.certify("early", &["--session", id])?.refused("session-not-open")?;
    let approve = ["session", "approve", id, "--reason", "seen"];
    scene.chancery(&scene.alice, &approve)?.refused("own-session")?;
    let open = scene.answer(&scene.bob, &approve)?;
    assert_eq!(text(&open, "state"), "open");

    // The certificate is for this session, and says so.
    scene.certify("alice", &[])?.refused("session-needed")?;
    scene.certify("alice", &["--session", id])?.success()?;
    let description = ssh::describe(&scene.office.path("alice-cert.pub"))?;
    assert!(description.contains(&format!("#admin-login#{id}\"")), "{description}");
    assert!(description.contains("targets@chancery"), "{description}");
    let again = ["request", "ssh", "--role", "admin-login", "--key", "alice", "--session", id];
    scene.chancery(&scene.alice, &again)?.refused("session-key-used")?;
    let login = scene.login(&sshd, "alice");
    login.run("true")?.success()?;

    // Its end is published at once, and sshd has nothing else to go by.
    let end = ["session", "end", id, "--reason", "done", "--wait", "30s"];
    let said = scene.chancery(&scene.alice, &end)?.success()?.stdout;
    assert!(said.contains("revoked  1 certificate\n"), "{said}");
    assert!(said.contains("published  after "), "{said}");
    scene.fetch_krl()?;
    login.run("true")?.refused("Permission denied")?;
    sshd.wait_for_log("revoked by file")?;
    scene.certify("late", &["--session", id])?.refused("session-not-open")?;

    let records = scene.office.audit_records()?;
    let of_session: Vec<_> =
        records.iter().map(Value::to_string).filter(|it| it.contains(id)).collect();
    assert!(of_session.len() >= 5, "asked, decided, opened, issued, ended: {of_session:?}");
    assert!(of_session.iter().any(|it| it.contains("ticket 4711")), "{of_session:?}");
    Ok(())
}

#[test]
fn chancery_ssh_runs_a_command_and_leaves_no_key_no_session_and_no_process() -> Story {
    let scene = Scene::open()?;
    let sshd = scene.sshd()?;
    let mut ssh = scene.start_ssh(&sshd, "first")?;

    // While it runs: a socket, the hosts' authority, and no key in any file.
    let directory = only_entry(&scene.runtime())?;
    let mode = fs::metadata(&directory).doing("look at the directory")?.permissions().mode();
    assert_eq!(mode & 0o7777, 0o700);
    assert_eq!(names(&directory)?, ["agent", "known_hosts"]);
    let known = fs::read_to_string(directory.join("known_hosts")).doing("read it")?;
    assert!(known.starts_with(&format!("@cert-authority {HOST} ssh-")), "{known}");
    let mut list = Command::new(peer("ssh-add")?);
    let listed = run(list.arg("-L").env("SSH_AUTH_SOCK", directory.join("agent")))?.success()?;
    let certificate = listed.stdout;
    assert_eq!(certificate.lines().count(), 1, "one identity, its certificate");
    assert!(certificate.starts_with("ssh-ed25519-cert-v01@openssh.com "), "{certificate}");
    assert_eq!(private_keys_beside_the_known(&scene.office)?, Vec::<PathBuf>::new());
    let running = scene.sessions("open")?;
    let [session] = &running[..] else { panic!("one session is open: {running:?}") };
    let id = text(session, "id").to_owned();
    assert_eq!(text(session, "reason"), "see whether it works");
    scene.assert_revoked(&certificate, false)?;

    // ssh ends, and with it all that was for it.
    scene.let_go("first")?;
    scene.wait_for_end(&mut ssh)?;
    let said = ssh.log()?;
    assert!(said.contains(&format!("session {id} has ended; 1 certificate revoked")), "{said}");
    scene.assert_over(&id, "request")?;
    scene.assert_revoked(&certificate, true)?;

    // The exit code is that of the command, and of ssh.
    let login = scene.ssh_words(&sshd);
    let words: Vec<&str> = login.iter().map(String::as_str).chain(["exit 7"]).collect();
    let answer = scene.chancery(&scene.alice, &words)?;
    assert_eq!(answer.status.code(), Some(7), "{}", answer.output());
    Ok(())
}

#[test]
fn chancery_ssh_that_is_killed_leaves_no_session_and_no_process_either() -> Story {
    let scene = Scene::open()?;
    let sshd = scene.sshd()?;
    for (name, signal) in [("term", Signal::TERM), ("kill", Signal::KILL)] {
        let mut ssh = scene.start_ssh(&sshd, name)?;
        let running = scene.sessions("open")?;
        let id = text(&running[0], "id").to_owned();
        let directory = only_entry(&scene.runtime())?;
        let mut list = Command::new(peer("ssh-add")?);
        let listed =
            run(list.arg("-L").env("SSH_AUTH_SOCK", directory.join("agent")))?.success()?;

        ssh.signal(signal);
        scene.wait_for_end(&mut ssh)?;
        scene.assert_over(&id, "request")?;
        scene.assert_revoked(&listed.stdout, true)?;
    }
    Ok(())
}

#[test]
fn chancery_ssh_ends_when_somebody_else_ends_its_session() -> Story {
    let scene = Scene::open()?;
    let sshd = scene.sshd()?;
    let mut ssh = scene.start_ssh(&sshd, "ended")?;
    let running = scene.sessions("open")?;
    let id = text(&running[0], "id");
    let end = ["session", "end", id, "--reason", "not during the freeze"];
    scene.chancery(scene.office.operator(), &end)?.success()?;
    // This sshd lets connections be. The next heartbeat tells that nobody needs this one.
    scene.wait_for_end(&mut ssh)?;
    let said = ssh.log()?;
    assert!(
        said.contains(&format!("session {id} was over: somebody's request ended it")),
        "{said}"
    );
    Ok(())
}

#[test]
fn a_session_that_is_denied_not_approved_in_time_or_not_needed_is_over() -> Story {
    let scene = Scene::open()?;
    let denied = scene.request("admin")?;
    let id = text(&denied, "id");
    let deny = ["session", "deny", id, "--reason", "not today"];
    assert_eq!(text(&scene.answer(&scene.bob, &deny)?, "state"), "denied");
    let approve = ["session", "approve", id, "--reason", "but yes"];
    scene.chancery(&scene.carol, &approve)?.refused("session-not-waiting")?;
    scene.certify("denied", &["--session", id])?.refused("session-not-open")?;

    let hasty = ["session", "request", "--role", "hasty", "--reason", "r", "--wait"];
    let answer = scene.chancery(&scene.alice, &hasty)?.refused("nobody approved it in time")?;
    assert_eq!(answer.status.code(), Some(1));

    // It is shown once that it is needed, and then no more.
    let session = scene.request("beating")?;
    let id = text(&session, "id");
    assert_eq!(session["heartbeat"], 5);
    scene.certify("beating", &["--session", id])?.success()?;
    scene.answer(&scene.alice, &["session", "heartbeat", id])?;
    wait_until("the end of a session without heartbeat", Duration::from_secs(60), || {
        Ok(!scene.is_open(id)?)
    })?;
    scene.assert_over(id, "heartbeat")?;
    let certificate = fs::read_to_string(scene.office.path("beating-cert.pub")).doing("read it")?;
    scene.assert_revoked(&certificate, true)?;
    Ok(())
}

#[test]
fn the_certificates_of_a_session_end_together_and_what_lives_on_is_said() -> Story {
    let scene = Scene::open()?;
    let session = scene.request("quick")?;
    let id = text(&session, "id");
    scene.certify("both", &["--session", id])?.success()?;
    let (key, csr) = (scene.office.path("card.key"), scene.office.path("card.csr"));
    openssl::generate("rsa:2048", &key)?;
    openssl::request(&key, "/CN=card", &[], &csr)?;
    let card = ["request", "smartcard", "--role", "a-card", "--csr", "card.csr", "--session", id];
    let upn = ["--upn", "alice@corp.example.test"];
    scene.chancery(&scene.alice, &[&card[..], &upn].concat())?.success()?;
    let end = ["session", "end", id, "--reason", "done"];
    let said = scene.chancery(&scene.alice, &end)?.success()?.stdout;
    assert!(said.contains("revoked  2 certificates\n"), "{said}");
    assert!(said.contains("note: 1 of them is for smart-card logon. A Kerberos ticket"), "{said}");
    Ok(())
}

#[test]
fn a_lock_ends_the_sessions_of_its_target_and_is_removed_by_the_same_words() -> Story {
    let scene = Scene::open()?;
    let olivia = scene.office.operator();
    let id = text(&scene.request("beating")?, "id").to_owned();
    scene.certify("locked", &["--session", &id])?.success()?;
    let preview = scene.answer(olivia, &["lock", "preview", "--user", "alice"])?;
    assert_eq!(preview["sessions"], 1);
    let before = preview["certificates"].as_u64().unwrap_or_default();
    assert!(before >= 1, "{preview}");

    let add = ["lock", "add", "user:alice", "--reason", "laptop lost"];
    scene.chancery(olivia, &add)?.refused("say --yes")?;
    scene.chancery(&scene.bob, &[&add[..], &["--yes"]].concat())?.refused("not-an-operator")?;
    let said = scene.chancery(olivia, &[&add[..], &["--yes", "--wait", "30s"]].concat())?;
    let said = said.success()?.stdout;
    assert!(said.contains("ended    1 session\n"), "{said}");
    assert!(said.contains("published  after "), "{said}");
    let ended = scene.answer(olivia, &["session", "show", &id])?;
    assert_eq!((text(&ended, "state"), text(&ended, "end_cause")), ("ended", "lock"));
    let certificate = fs::read_to_string(scene.office.path("locked-cert.pub")).doing("read it")?;
    scene.assert_revoked(&certificate, true)?;
    let ask = ["session", "request", "--role", "beating", "--reason", "r"];
    scene.chancery(&scene.alice, &ask)?.refused("(locked)")?;
    let list = scene.chancery(olivia, &["lock", "list"])?.success()?.stdout;
    assert!(list.contains("user:alice") && list.contains("laptop lost"), "{list}");

    let remove = ["lock", "remove", "--user", "alice", "--reason", "laptop found"];
    scene.chancery(olivia, &remove)?.success()?;
    // What she called with was revoked, too.
    scene.chancery(&scene.alice, &ask)?.refused("certificate-revoked")?;
    scene.office.enrol("user/alice")?;
    scene.request("beating")?;
    scene.assert_revoked(&certificate, true)
}

/// An office whose rules know sessions, and its people.
struct Scene {
    office: Office,
    alice: Identity,
    bob: Identity,
    carol: Identity,
}

impl Scene {
    fn open() -> Result<Self, Failure> {
        let mut office = Office::prepare()?;
        fs::write(office.path("rules/sessions.toml"), RULES).doing("write the rules")?;
        office.begin()?;
        let (alice, bob) = (office.enrol("user/alice")?, office.enrol("user/bob")?);
        let carol = office.enrol("user/carol")?;
        let scene = Self { office, alice, bob, carol };
        fs::create_dir(scene.runtime()).doing("make a directory")?;
        Ok(scene)
    }

    /// Where `chancery ssh` makes its directory.
    fn runtime(&self) -> PathBuf {
        self.office.path("run")
    }

    fn chancery(&self, who: &Identity, words: &[&str]) -> Result<Answer, Failure> {
        let mut command = self.office.chancery(who, words)?;
        run(command.env("XDG_RUNTIME_DIR", self.runtime()))
    }

    /// What the appliance answers to a command that succeeds.
    fn answer(&self, who: &Identity, words: &[&str]) -> Result<Value, Failure> {
        let answer = self.chancery(who, &[&["--json"], words].concat())?.success()?;
        serde_json::from_str(&answer.stdout).doing("read the client's answer")
    }

    fn request(&self, role: &str) -> Result<Value, Failure> {
        let mut words = vec!["session", "request", "--role", role, "--reason", "r"];
        if matches!(role, "admin" | "quick") {
            words.extend(["--target", HOST]);
        }
        self.answer(&self.alice, &words)
    }

    fn sessions(&self, state: &str) -> Result<Vec<Value>, Failure> {
        let words = ["--json", "session", "list", "--state", state];
        let answer = self.chancery(&self.alice, &words)?.success()?;
        let lines = answer.stdout.lines().map(serde_json::from_str);
        lines.collect::<Result<_, _>>().doing("read the sessions")
    }

    fn is_open(&self, id: &str) -> Result<bool, Failure> {
        Ok(text(&self.answer(&self.alice, &["session", "show", id])?, "state") == "open")
    }

    fn assert_over(&self, id: &str, cause: &str) -> Story {
        let session = self.answer(&self.alice, &["session", "show", id])?;
        assert_eq!((text(&session, "state"), text(&session, "end_cause")), ("ended", cause));
        Ok(())
    }

    /// Alice asks for a certificate on a new key.
    fn certify(&self, key: &str, more: &[&str]) -> Result<Answer, Failure> {
        let words = ["request", "ssh", "--role", "admin-login", "--key", key, "--generate"];
        self.chancery(&self.alice, &[&words[..], more].concat())
    }

    /// An sshd that goes by the published list of revoked keys.
    fn sshd(&self) -> Result<Sshd, Failure> {
        self.fetch_krl()?;
        let directory = self.office.path("host");
        fs::create_dir(&directory).doing("make a directory")?;
        let settings = Settings {
            trusted_user_ca_keys: Some(self.office.handoff("ssh-user.pub")),
            authorized_principals: vec!["alice".to_owned()],
            revoked_keys: Some(self.krl()),
            ..Settings::default()
        };
        let sshd = Sshd::start(&directory, &settings)?;
        let known = format!("{HOST} {}", sshd.host_public_key()?);
        fs::write(self.office.path("known_hosts"), known).doing("write known_hosts")?;
        Ok(sshd)
    }

    fn krl(&self) -> PathBuf {
        self.office.path("krl")
    }

    /// Puts the published list in its place, whole.
    fn fetch_krl(&self) -> Story {
        let request = Request { method: "GET", path: "/krl", headers: &[], body: b"" };
        let answer = http_send(self.office.public(), &request)?.expect_status(200)?;
        let new = self.office.path("krl.new");
        fs::write(&new, &answer.body).doing("write the list")?;
        fs::rename(&new, self.krl()).doing("replace the list")
    }

    /// Whether the published list has a certificate, by ssh-keygen; what was revoked is there soon.
    fn assert_revoked(&self, certificate: &str, expected: bool) -> Story {
        let path = self.office.path("asked-cert.pub");
        fs::write(&path, certificate).doing("write a certificate")?;
        wait_until("the list says otherwise", Duration::from_secs(20), || {
            self.fetch_krl()?;
            let mut query = Command::new(peer("ssh-keygen")?);
            query.arg("-Q").arg("-f").arg(self.krl()).arg(&path);
            let answer = run(&mut query)?;
            assert!(answer.output().contains("asked-cert.pub"), "{}", answer.output());
            Ok(answer.stdout.contains("REVOKED") == expected)
        })
    }

    fn login(&self, sshd: &Sshd, name: &str) -> Login {
        Login {
            key: self.office.path(name),
            certificate: self.office.path(format!("{name}-cert.pub")),
            known_hosts: self.office.path("known_hosts"),
            user: sshd.user().to_owned(),
            host: HOST.to_owned(),
            port: sshd.port(),
        }
    }

    /// `chancery ssh` to the host, up to the remote command.
    fn ssh_words(&self, sshd: &Sshd) -> Vec<String> {
        let known = format!("UserKnownHostsFile={}", self.office.path("known_hosts").display());
        let (port, alias) = (sshd.port().to_string(), format!("HostKeyAlias={HOST}"));
        let ours = ["ssh", "--role", "quick", "--reason", "see whether it works", "--target", HOST];
        let theirs = ["-F", "none", "-p", &port, "-o", &known, "-o", &alias, "-o", "BatchMode=yes"];
        let destination = format!("{}@127.0.0.1", sshd.user());
        ours.iter().chain(&theirs).map(|it| (*it).to_owned()).chain([destination]).collect()
    }

    /// Starts `chancery ssh` with a remote command that lasts until [`let_go`](Self::let_go), and
    /// waits until it runs.
    fn start_ssh(&self, sshd: &Sshd, name: &str) -> Result<Daemon, Failure> {
        let gate = self.office.path(name);
        let remote = format!("echo arrived; until [ -e {} ]; do sleep 0.05; done", gate.display());
        let login = self.ssh_words(sshd);
        let words: Vec<&str> = login.iter().map(String::as_str).chain([&remote[..]]).collect();
        let mut command = self.office.chancery(&self.alice, &words)?;
        command.env("XDG_RUNTIME_DIR", self.runtime());
        let log = self.office.path(format!("{name}.log"));
        let mut ssh = Daemon::start("chancery ssh", &mut command, &log)?;
        ssh.wait_until(Duration::from_secs(30), |log| log.contains("arrived"))?;
        Ok(ssh)
    }

    fn let_go(&self, name: &str) -> Story {
        fs::File::create(self.office.path(name))
            .and_then(|mut file| file.write_all(b"go\n"))
            .doing("open the gate")
    }

    /// The process ends, and so do its ssh and its watcher; the directory is gone.
    fn wait_for_end(&self, ssh: &mut Daemon) -> Story {
        wait_until("the end of chancery ssh", Duration::from_secs(30), || Ok(!ssh.running()?))?;
        let root = self.office.path("");
        wait_until("the end of its helpers", Duration::from_secs(30), || {
            Ok(processes_naming(&root)?.iter().all(|it| !it.contains("chancery\0")))
        })?;
        assert_eq!(names(&self.runtime())?, Vec::<String>::new());
        Ok(())
    }
}

/// Keys in PEM or OpenSSH's form below the office, but for those that the story made itself.
fn private_keys_beside_the_known(office: &Office) -> Result<Vec<PathBuf>, Failure> {
    let mut grep = Command::new(peer("grep")?);
    grep.args(["-rlI", "--devices=skip", "PRIVATE KEY"]).arg(office.path(""));
    let found = run(&mut grep)?.stdout;
    let known = |path: &&str| path.ends_with(".caller.key") || path.ends_with("host_key");
    Ok(found.lines().filter(|path| !known(path)).map(PathBuf::from).collect())
}

/// The command lines of processes that name a path, their words ended by NUL.
fn processes_naming(path: &Path) -> Result<Vec<String>, Failure> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").doing("list /proc")? {
        // A process may end while it is looked at.
        let line = entry.ok().and_then(|entry| fs::read(entry.path().join("cmdline")).ok());
        let line = String::from_utf8_lossy(&line.unwrap_or_default()).into_owned();
        if line.contains(&*path.to_string_lossy()) {
            found.push(line);
        }
    }
    Ok(found)
}

fn only_entry(directory: &Path) -> Result<PathBuf, Failure> {
    match &names(directory)?[..] {
        [name] => Ok(directory.join(name)),
        other => Err(Failure::new(format!("one entry is expected, there are {other:?}"))),
    }
}

fn names(directory: &Path) -> Result<Vec<String>, Failure> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).doing("list a directory")? {
        names.push(entry.doing("list a directory")?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

const RULES: &str = r#"
[[role]]
name = "admin-login"
callers = ["spiffe://example.test/user/*"]
issuer = "ssh-user"
default_ttl = "8h"
max_ttl = "16h"
[role.ssh_user]
principals = ["{name}"]
extensions = ["permit-pty"]

[[role]]
name = "admin"
callers = ["spiffe://example.test/user/*"]
default_ttl = "1h"
max_ttl = "8h"
[role.session]
certificates = ["admin-login"]
targets = ["host.example.test"]
approvals = 1
approvers = ["spiffe://example.test/user/*"]

[[role]]
name = "quick"
callers = ["spiffe://example.test/user/*"]
default_ttl = "1h"
max_ttl = "8h"
[role.session]
# The first is for cards, and of no use to ssh.
certificates = ["a-card", "admin-login"]
targets = ["host.example.test"]
heartbeat = "15s"

[[role]]
name = "a-card"
callers = ["spiffe://example.test/user/*"]
issuer = "issuing"
default_ttl = "1h"
max_ttl = "8h"
[role.smartcard_logon]
upns = ["{name}@corp.example.test"]
attestation = "optional"

[[role]]
name = "hasty"
callers = ["spiffe://example.test/user/*"]
default_ttl = "1h"
max_ttl = "8h"
[role.session]
certificates = ["admin-login"]
approvals = 1
approvers = ["spiffe://example.test/user/*"]
waiting = "1s"

[[role]]
name = "beating"
callers = ["spiffe://example.test/user/*"]
default_ttl = "1h"
max_ttl = "8h"
[role.session]
certificates = ["admin-login"]
heartbeat = "5s"
"#;
