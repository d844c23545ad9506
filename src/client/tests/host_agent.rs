//! The agent of a host, with a stand-in for the appliance, a real sshd and a real ssh-keygen.

#![cfg(target_os = "linux")]
#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test stops and tells where things are not as it says"
)]

#[path = "peer/appliance.rs"]
mod appliance;
#[path = "peer/server.rs"]
#[expect(dead_code, reason = "other tests need more of it")]
mod server;

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use api::HostMode;
use client::host::{Agent, Answer, Ask, Status, ask, config::Config};
use harness::{
    process::{Daemon, run, wait_until},
    ssh::{self, Login},
    sshd::{Settings, Sshd},
};
use jiff::SignedDuration;
use pki::{
    clock::{Clock, SystemClock, TestClock},
    ssh::Restrictions,
};
use tempfile::TempDir;

use appliance::{Appliance, Wish};
use server::Pki;

const NAME: &str = "web1.example";
const PATIENCE: Duration = Duration::from_secs(30);

/// A host that has joined, and where its things are.
struct Host {
    directory: TempDir,
    appliance: Appliance,
}

impl Host {
    fn join(pki: &Pki, appliance: &Appliance, mode: HostMode) -> Self {
        let host = Self { directory: tempfile::tempdir().unwrap(), appliance: appliance.clone() };
        appliance.join_token(&host.path("token"), NAME, mode);
        let (code, out, err) = host.chancery_join(pki);
        assert_eq!((code, err.as_str()), (0, ""), "{out}");
        ssh::generate("ed25519", &host.path("host_key")).unwrap();
        fs::write(host.path("host.toml"), host.config()).unwrap();
        host
    }

    fn chancery_join(&self, pki: &Pki) -> (i32, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_chancery"));
        command.args(["host", "join", "--server", &self.appliance.url(), "--ca"]);
        command.arg(pki.path("ca.pem")).arg("--token-file").arg(self.path("token"));
        let answer = run(command.arg("--state-directory").arg(self.path("state"))).unwrap();
        (answer.status.code().unwrap(), answer.stdout, answer.stderr)
    }

    fn config(&self) -> String {
        let root = self.path("").display().to_string();
        format!(
            "state_directory = \"{root}state\"\nsocket = \"{root}socket\"\n\
             command_user = \"{}\"\nclient_role = \"host-client\"\n\
             [files]\nuser_ca = \"{root}user_ca\"\nrevoked_keys = \"{root}krl\"\n\
             [host_certificate]\nrole = \"host\"\nkeys = [\"{root}host_key\"]\n\
             reload = [\"/usr/bin/touch\", \"{root}reloaded\"]\n\
             [accounts]\nnobody-else = [\"ci\"]\n",
            run(Command::new("id").arg("-un")).unwrap().success().unwrap().stdout.trim(),
        )
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The agent as a process of its own.
    fn agent(&self) -> Daemon {
        let mut command = Command::new(env!("CARGO_BIN_EXE_chancery"));
        command.args(["host", "run", "--config"]).arg(self.path("host.toml"));
        Daemon::start("agent", &mut command, &self.path("agent.log")).unwrap()
    }

    /// The agent in this process, whose clock the test moves.
    fn agent_with(&self, clock: Arc<dyn Clock>) {
        let agent = Agent::new(Config::read(&self.path("host.toml")).unwrap(), clock).unwrap();
        tokio::spawn(agent.run(|| {}, std::future::pending()));
    }

    fn status(&self) -> Option<Status> {
        match ask(&self.path("socket"), &Ask::Status).ok()? {
            Answer::Status(status) => Some(*status),
            other => panic!("{other:?}"),
        }
    }

    fn wait(&self, what: &str, mut condition: impl FnMut() -> bool) {
        wait_until(what, PATIENCE, || Ok(condition())).unwrap_or_else(|error| {
            let log = fs::read_to_string(self.path("agent.log")).unwrap_or_default();
            panic!("{error}\n{log}")
        });
    }

    fn wait_for_acknowledgement(&self, version: u64) {
        let acknowledged = || self.appliance.acknowledged().iter().any(|it| it.version >= version);
        self.wait("an acknowledgement", acknowledged);
    }

    /// Whether ssh-keygen finds the certificate revoked; `None` when it cannot use the list.
    fn verdict(&self, key: &str) -> Option<bool> {
        verdict(&self.path("krl"), &self.path(&format!("{key}-cert.pub")))
    }

    /// A user's key with a certificate.
    fn certify(&self, key: &str, wish: &Wish<'_>) -> u64 {
        if !self.path(key).exists() {
            ssh::generate("ed25519", &self.path(key)).unwrap();
        }
        self.appliance.certify(&self.path(key), wish)
    }
}

fn verdict(krl: &Path, certificate: &Path) -> Option<bool> {
    let mut command = Command::new("ssh-keygen");
    let output = command.arg("-Qf").arg(krl).arg(certificate).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    match output.status.code() {
        Some(0) if said.trim_end().ends_with(": ok") => Some(false),
        Some(1) if said.trim_end().ends_with(": REVOKED") => Some(true),
        _ => None,
    }
}

/// Does something to a file that should not be done.
type Damage<'a> = &'a dyn Fn(&Path);

/// A certificate of a session for this host, for an hour.
fn wish(principal: &str) -> Wish<'_> {
    Wish {
        principal,
        session: "#s-0123456789abcdef",
        restrictions: Restrictions { one_use: false, targets: [NAME.parse().unwrap()].into() },
        life: SignedDuration::from_hours(1),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_joins_once_and_is_told_why_not_again() {
    let pki = Pki::new();
    let appliance = Appliance::start(&pki, Arc::new(SystemClock)).await;
    let host = Host::join(&pki, &appliance, HostMode::BestEffort);
    for (file, mode) in [("", 0o700), ("identity.pem", 0o600), ("joined.json", 0o600)] {
        let metadata = fs::metadata(host.path("state").join(file)).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, mode, "{file}");
    }
    let (code, _, err) = host.chancery_join(&pki);
    assert_eq!(code, 2);
    assert!(err.contains(&format!("this host has joined {} as {NAME}", appliance.url())), "{err}");
    assert!(err.contains("hint: to join anew"), "{err}");

    // A token that was used leaves nothing in the way of the next.
    fs::remove_dir_all(host.path("state")).unwrap();
    let (code, _, err) = host.chancery_join(&pki);
    assert_eq!(code, 1);
    assert!(err.contains("the join token is not known, was used, or has expired"), "{err}");
    // The key stays the same, for an appliance that knows it already.
    let key = fs::read(host.path("state/joining.key")).unwrap();
    appliance.join_token(&host.path("token"), NAME, HostMode::Strict);
    assert_eq!(host.chancery_join(&pki).0, 0);
    assert!(fs::read(host.path("state/identity.pem")).unwrap().starts_with(key.trim_ascii_end()));
    assert!(!host.path("state/joining.key").exists());

    fs::remove_dir_all(host.path("state")).unwrap();
    let old = r#"{"name":"web1.example","secret":"s","expires_at":"2026-01-01T00:00:00Z"}"#;
    fs::write(host.path("token"), old).unwrap();
    let (code, _, err) = host.chancery_join(&pki);
    assert_eq!(code, 2);
    let says = "error: the join token for web1.example expired at 2026-01-01T00:00:00Z\n\n\
                hint: an operator makes a new one with `chancery host add web1.example`\n";
    assert_eq!(err, says);

    let mut run_without = Command::new(env!("CARGO_BIN_EXE_chancery"));
    run_without.args(["host", "run", "--config"]).arg(host.path("host.toml"));
    run(&mut run_without).unwrap().refused("run `chancery host join` first").unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_damaged_is_mended_and_a_host_without_news_does_as_it_was_told() {
    let pki = Pki::new();
    let clock = Arc::new(TestClock::new(SystemClock.now()));
    let appliance = Appliance::start(&pki, clock.clone()).await;
    let strict = Host::join(&pki, &appliance, HostMode::Strict);
    let lax = Host::join(&pki, &appliance, HostMode::BestEffort);
    for host in [&strict, &lax] {
        host.agent_with(clock.clone());
        host.certify("good", &wish("alice"));
    }
    strict.wait("the CA file", || strict.path("user_ca").exists());
    assert_eq!(fs::read_to_string(strict.path("user_ca")).unwrap(), appliance.user_ca());
    // Before the first news, all are closed: the list names the CA.
    strict.wait("a closed list", || strict.verdict("good") == Some(true));
    lax.wait("a closed list", || lax.verdict("good") == Some(true));
    assert!(strict.status().unwrap().closed.is_some());

    let bad = strict.certify("bad", &wish("alice"));
    appliance.revoke(bad);
    strict.wait("an open list", || strict.verdict("good") == Some(false));
    lax.wait("an open list", || lax.verdict("good") == Some(false));
    assert_eq!(strict.verdict("bad"), Some(true));

    let whole = fs::read(strict.path("krl")).unwrap();
    let damage: [(&str, Damage<'_>); 6] = [
        ("empty", &|path| fs::write(path, "").unwrap()),
        ("one line end", &|path| fs::write(path, "\n").unwrap()),
        ("only a header", &|path| fs::write(path, &whole[..44]).unwrap()),
        ("missing", &|path| fs::remove_file(path).unwrap()),
        ("a link to another", &|path| {
            fs::rename(path, path.with_extension("old")).unwrap();
            std::os::unix::fs::symlink("/dev/null", path).unwrap();
        }),
        ("open to all", &|path| {
            fs::set_permissions(path, fs::Permissions::from_mode(0o666)).unwrap();
        }),
    ];
    for (what, damage) in damage {
        damage(&strict.path("krl"));
        strict.wait(what, || {
            let metadata = fs::symlink_metadata(strict.path("krl"));
            metadata.is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o777 == 0o644)
                && fs::read(strict.path("krl")).unwrap() == whole
        });
    }
    fs::write(strict.path("user_ca"), "ssh-ed25519 AAAA of somebody else\n").unwrap();
    let mended = || fs::read_to_string(strict.path("user_ca")).unwrap() == appliance.user_ca();
    strict.wait("the CA file again", mended);

    appliance.be_offline(true);
    clock.advance(SignedDuration::from_mins(16));
    strict.wait("a closed list", || strict.verdict("good") == Some(true));
    let why = strict.status().unwrap().closed.unwrap();
    assert!(why.contains("this host is strict"), "{why}");
    assert_eq!(lax.verdict("good"), Some(false));
    let bad = verdict(&lax.path("krl"), &strict.path("bad-cert.pub"));
    assert_eq!((bad, lax.status().unwrap().closed), (Some(true), None));

    appliance.be_offline(false);
    appliance.publish();
    strict.wait("an open list", || strict.verdict("good") == Some(false));
    assert_eq!(strict.verdict("bad"), Some(true));
    strict.wait("no problems", || strict.status().unwrap().problems.is_empty());

    // Both certificates live for a day: past the middle, they are renewed.
    let own = ["state/identity.pem", "host_key-cert.pub", "reloaded"];
    let read = || own.map(|name| fs::read(strict.path(name)).unwrap());
    strict.wait("the first of each", || own.iter().all(|name| strict.path(name).exists()));
    let before = read();
    fs::remove_file(strict.path("reloaded")).unwrap();
    clock.advance(SignedDuration::from_hours(14));
    strict.wait("sshd's reload", || strict.path("reloaded").exists());
    let after = read();
    assert!(before[0] != after[0] && before[1] != after[1]);
    appliance.publish();
    strict.wait("an open list", || strict.verdict("good") == Some(false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_is_never_wrong_while_a_thousand_come_and_the_agent_is_killed() {
    let pki = Pki::new();
    let appliance = Appliance::start(&pki, Arc::new(SystemClock)).await;
    let host = Host::join(&pki, &appliance, HostMode::Strict);
    host.certify("good", &wish("alice"));
    let bad = host.certify("bad", &wish("alice"));
    let mut agent = host.agent();
    host.wait_for_acknowledgement(appliance.revoke(bad));

    let stop = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = [("good", false), ("bad", true)]
        .into_iter()
        .map(|(key, revoked)| {
            let (krl, stop) = (host.path("krl"), stop.clone());
            let certificate = host.path(&format!("{key}-cert.pub"));
            std::thread::spawn(move || {
                let mut looks = 0;
                while !stop.load(Ordering::Relaxed) {
                    assert_eq!(verdict(&krl, &certificate), Some(revoked), "look {looks}");
                    looks += 1;
                }
                looks
            })
        })
        .collect();
    // The list grows with each: 1,000 more serials, from one that nobody has.
    for number in 1..=1_000_u64 {
        let version = appliance.revoke(1_000_000 + number * 2);
        if number % 50 == 0 {
            host.wait_for_acknowledgement(version);
        }
        // Killed at moments that no one chose: between two acknowledgements, at work.
        if number % 20 == 10 {
            agent.kill();
            agent = host.agent();
        }
    }
    stop.store(true, Ordering::Relaxed);
    for reader in readers {
        assert!(reader.join().expect("no look was wrong") > 100);
    }
    let versions: Vec<_> = appliance.acknowledged().iter().map(|it| it.version).collect();
    assert!(versions.is_sorted(), "{versions:?}");
    let left_over = fs::read_dir(host.path("")).unwrap().flatten();
    let left_over = left_over.filter(|it| it.file_name().to_string_lossy().contains("-new"));
    assert!(left_over.count() <= 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_leaves_the_old_list_whole_and_is_no_end() {
    let pki = Pki::new();
    let appliance = Appliance::start(&pki, Arc::new(SystemClock)).await;
    let host = Host::join(&pki, &appliance, HostMode::Strict);
    host.certify("good", &wish("alice"));
    let bad = host.certify("bad", &wish("alice"));
    // Its files may grow no further, and the signal that says so is not heard: to the agent, the
    // disk is full.
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg("trap '' XFSZ; exec \"$0\" host run --config \"$1\"");
    command.arg(env!("CARGO_BIN_EXE_chancery")).arg(host.path("host.toml"));
    let agent = Daemon::start("agent", &mut command, &host.path("agent.log")).unwrap();
    host.wait_for_acknowledgement(appliance.revoke(bad));
    let old = fs::read(host.path("krl")).unwrap();

    limit_files(&agent, "8192:unlimited");
    let version = appliance.revoke_strangers(255);
    let said = || agent.log().unwrap().contains("keeping sshd's files: cannot write");
    host.wait("a complaint", said);
    assert_eq!(fs::read(host.path("krl")).unwrap(), old);
    assert_eq!((host.verdict("good"), host.verdict("bad")), (Some(false), Some(true)));
    assert!(appliance.acknowledged().iter().all(|it| it.version < version), "it is not in force");
    let problems = host.status().unwrap().problems;
    assert!(problems.iter().any(|it| it.contains("keeping sshd's files")), "{problems:?}");

    // There is room again.
    limit_files(&agent, "unlimited:unlimited");
    host.wait_for_acknowledgement(version);
    assert!(fs::read(host.path("krl")).unwrap().len() > old.len() + 255 * 32);
    assert!(host.status().unwrap().problems.is_empty());
}

/// Sets how large the files of a process may grow.
fn limit_files(agent: &Daemon, limit: &str) {
    let (limit, id) = (format!("--fsize={limit}"), agent.id().to_string());
    run(Command::new("prlimit").args([&limit, "--pid", &id])).unwrap().success().unwrap();
}

/// An sshd on the host that asks the agent, with what its users need.
struct Door<'a> {
    host: &'a Host,
    sshd: Sshd,
}

impl<'a> Door<'a> {
    fn open(host: &'a Host) -> Self {
        let program = env!("CARGO_BIN_EXE_chancery");
        let socket = host.path("socket");
        // sshd demands that its command and all directories above are root's: env is.
        let command = format!(
            "/usr/bin/env {program} host principals --user %u --certificate %k --socket {}",
            socket.display()
        );
        let settings = Settings {
            trusted_user_ca_keys: Some(host.path("user_ca")),
            revoked_keys: Some(host.path("krl")),
            host_key: Some(host.path("host_key")),
            host_certificate: Some(host.path("host_key-cert.pub")),
            principals_command: Some(command),
            ..Settings::default()
        };
        let directory = host.path("sshd");
        fs::create_dir(&directory).unwrap();
        let sshd = Sshd::start(&directory, &settings).unwrap();
        let known = format!("{NAME} {}", sshd.host_public_key().unwrap());
        fs::write(host.path("known_hosts"), known).unwrap();
        Self { host, sshd }
    }

    fn login(&self, key: &str) -> Login {
        Login {
            key: self.host.path(key),
            certificate: self.host.path(&format!("{key}-cert.pub")),
            known_hosts: self.host.path("known_hosts"),
            user: self.sshd.user().to_owned(),
            host: NAME.to_owned(),
            port: self.sshd.port(),
        }
    }

    fn lets_in(&self, key: &str) {
        let answer = self.login(key).run("echo $((6 * 7))").unwrap();
        let log = || self.host.agent_log();
        assert_eq!(answer.stdout, "42\n", "{} {}", answer.stderr, log());
    }

    fn refuses(&self, key: &str, why: &str) {
        self.login(key).run("true").unwrap().refused("Permission denied").unwrap();
        assert!(self.host.agent_log().contains(why), "{why}: {}", self.host.agent_log());
    }

    /// A connection that stays, as a process whose output is a file.
    fn stay(&self, key: &str, options: &[String], log: &str) -> Daemon {
        // Without a terminal, only the agent ends it; after a test that failed, it ends itself.
        let remote = "echo $$ is in; sleep 60 & echo; wait";
        let mut command = self.login(key).command(options, remote).unwrap();
        let mut ssh = Daemon::start("ssh", &mut command, &self.host.path(log)).unwrap();
        ssh.wait_until(PATIENCE, |said| said.contains("is in\n\n")).unwrap();
        ssh
    }
}

impl Host {
    fn agent_log(&self) -> String {
        fs::read_to_string(self.path("agent.log")).unwrap_or_default()
    }
}

fn ended(ssh: &mut Daemon) -> bool {
    !ssh.running().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sshd_lets_in_whom_the_agent_names_and_nobody_else() {
    let pki = Pki::new();
    let appliance = Appliance::start(&pki, Arc::new(SystemClock)).await;
    let host = Host::join(&pki, &appliance, HostMode::Strict);
    let _agent = host.agent();
    host.wait_for_acknowledgement(appliance.publish());
    host.wait("the host's certificate", || host.path("reloaded").exists());
    let door = Door::open(&host);
    let me = door.sshd.user().to_owned();

    let serial = host.certify("mine", &wish(&me));
    door.lets_in("mine");
    let reported = || {
        let of_mine = appliance.logins().into_iter().filter(|it| it.serial == serial);
        of_mine.map(|it| (it.user, it.issuer, it.ended)).collect::<Vec<_>>()
    };
    host.wait("two reports", || reported().len() == 2);
    let login = |ended| (me.clone(), "users".to_owned(), ended);
    assert_eq!(reported(), [login(false), login(true)]);

    host.certify("others", &wish("somebody-else"));
    door.refuses("others", "no principal of the certificate may log in");
    let elsewhere =
        Restrictions { one_use: false, targets: ["web2.example".parse().unwrap()].into() };
    host.certify("elsewhere", &Wish { restrictions: elsewhere, ..wish(&me) });
    door.refuses("elsewhere", "the certificate is for other hosts");

    let once = || Restrictions { one_use: true, ..Restrictions::default() };
    let serial = host.certify("once", &Wish { restrictions: once(), ..wish(&me) });
    door.lets_in("once");
    assert!(appliance.consumed(serial).is_some());
    door.refuses("once", "the certificate is for one use, and the appliance did not grant it");
    host.certify("unasked", &Wish { restrictions: once(), ..wish(&me) });
    appliance.be_offline(true);
    door.refuses("unasked", "did not grant it: cannot reach");
    door.lets_in("mine");
    appliance.be_offline(false);
    door.lets_in("unasked");

    // Nobody but sshd is told anything.
    let blob = fs::read_to_string(host.path("mine-cert.pub")).unwrap();
    let certificate = blob.split(' ').nth(1).unwrap().to_owned();
    let question = Ask::Principals { user: me, certificate };
    match ask(&host.path("socket"), &question).unwrap() {
        Answer::Refused(why) => assert!(why.contains("was not started by an sshd"), "{why}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_taken_back_ends_at_once_with_all_channels_also_after_a_kill_of_the_agent() {
    let pki = Pki::new();
    let appliance = Appliance::start(&pki, Arc::new(SystemClock)).await;
    let host = Host::join(&pki, &appliance, HostMode::Strict);
    let agent = host.agent();
    host.wait_for_acknowledgement(appliance.publish());
    let door = Door::open(&host);
    let me = door.sshd.user().to_owned();
    let serial = host.certify("mine", &wish(&me));
    let other = host.certify("kept", &wish(&me));

    let control = |mode: &str| {
        let path = format!("ControlPath={}", host.path("control").display());
        [path, format!("ControlMaster={mode}")]
    };
    let mut master = door.stay("mine", &control("yes"), "master.log");
    let mut channel = door.stay("mine", &control("no"), "channel.log");
    let mut kept = door.stay("kept", &[], "kept.log");
    let logged_in = || {
        let status = host.status();
        status.is_some_and(|it| it.connections.iter().filter(|it| it.logged_in).count() == 2)
    };
    host.wait("two connections", logged_in);
    agent.kill();
    let mut agent = host.agent();
    host.wait("two connections again", logged_in);

    let version = appliance.revoke(serial);
    host.wait_for_acknowledgement(version);
    host.wait("the end of the connection", || ended(&mut master) && ended(&mut channel));
    let acknowledged = appliance.acknowledged();
    let acknowledged = acknowledged.iter().find(|it| it.version == version).unwrap();
    let cut: Vec<_> = acknowledged.cut.iter().map(|it| (it.serial, it.user.as_str())).collect();
    assert_eq!(cut, [(serial, me.as_str())]);
    for log in ["master.log", "channel.log"] {
        let said = fs::read_to_string(host.path(log)).unwrap();
        let shell = said.split(' ').next().unwrap();
        // Where nobody asks after orphans, a process that is over leaves its name behind.
        let stat = fs::read_to_string(format!("/proc/{shell}/stat")).unwrap_or_default();
        assert!(stat.is_empty() || stat.contains(") Z "), "{log}: its shell still runs: {stat}");
    }
    door.refuses("mine", "");
    assert!(!ended(&mut kept), "another's connection goes on");
    door.lets_in("kept");

    // A session's end is known beforehand: nobody has to say it.
    appliance.be_offline(true);
    let short = Wish { life: SignedDuration::from_secs(5), ..wish(&me) };
    host.certify("short", &short);
    let mut short = door.stay("short", &[], "short.log");
    host.wait("the end of a session", || ended(&mut short));
    agent.wait_until(PATIENCE, |log| log.contains("cut")).unwrap();
    assert!(!ended(&mut kept));
    appliance.be_offline(false);
    appliance.revoke(other);
    host.wait("the end of the last", || ended(&mut kept));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_doctor_asks_sshd_and_the_agent() {
    let pki = Pki::new();
    let appliance = Appliance::start(&pki, Arc::new(SystemClock)).await;
    let host = Host::join(&pki, &appliance, HostMode::Strict);
    let agent = host.agent();
    host.wait_for_acknowledgement(appliance.publish());
    host.wait("the host's certificate", || host.path("reloaded").exists());
    let door = Door::open(&host);
    let doctor = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_chancery"));
        command.args(["host", "doctor", "--config"]).arg(host.path("host.toml"));
        run(command.arg("--sshd-config").arg(door.sshd.configuration())).unwrap()
    };
    let answer = doctor();
    assert!(answer.status.success(), "{}", answer.output());
    agent.stop();
    fs::remove_file(host.path("krl")).unwrap();
    let answer = doctor();
    assert_eq!(answer.status.code(), Some(1));
    for says in ["error: agent: cannot ask the agent on", "krl: No such file", "systemctl start"] {
        assert!(answer.stdout.contains(says), "{says}: {}", answer.output());
    }
}
