//! A bot's ssh-agent: ssh logs in with a key that is in no file, until the bot is locked.

use std::{fs, path::PathBuf, process::Command, time::Duration};

use harness::{
    Doing, Failure, Story,
    bot::Bot,
    office::Office,
    peers::peer,
    process::{Answer, run, wait_until},
    softhsm::SoftHsm,
    ssh::Login,
    sshd::{Settings, Sshd},
};

const HOST: &str = "host.example.test";
const PIN: &str = "bots-pin";
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn ssh_logs_in_with_a_key_in_memory_until_the_bot_is_locked() -> Story {
    let office = Office::open()?;
    let bot = Bot::add(&office, "ci", &["--role", "login"], OUTPUT)?;
    let mut scene = Scene { sshd: sshd_for(&office, "host")?, office, bot };
    scene.logs_in_until_locked("ssh-ed25519-cert-v01@openssh.com")
}

#[test]
fn ssh_logs_in_with_a_key_in_a_token_and_each_key_goes_with_its_certificate() -> Story {
    let office = Office::open()?;
    let softhsm = SoftHsm::new(&office.path("bots"))?;
    softhsm.initialize("bots", PIN)?;
    let mut bot = Bot::add(&office, "ci", &["--role", "login"], "")?;
    bot.tell("SOFTHSM2_CONF", softhsm.configuration());
    write_pin(&bot)?;
    let join = "[join]\nmethod = \"token\"\ntoken_file = \"{at}/token\"\n";
    let outputs = format!("{OUTPUT}[output.key]\n{}", key(&softhsm));
    bot.configure(&office, join, &outputs)?;
    // What a process has left that was killed goes; what is somebody else's stays.
    softhsm.generate_labelled("bots", PIN, "login/ci-2", "aa")?;
    softhsm.generate_labelled("bots", PIN, "login/other-1", "bb")?;

    let mut scene = Scene { sshd: sshd_for(&office, "host")?, office, bot };
    scene.bot.start()?;
    scene.wait_for_identity(None)?;
    assert_eq!(softhsm.private_keys("bots", PIN)?, ["login/ci-1", "login/other-1"]);
    scene.logs_in_until_locked("ecdsa-sha2-nistp256-cert-v01@openssh.com")?;
    wait_until("the keys are destroyed", PATIENCE, || {
        Ok(softhsm.private_keys("bots", PIN)? == ["login/other-1"])
    })
}

#[test]
fn a_bot_joins_by_a_key_in_a_token() -> Story {
    let office = Office::open()?;
    let softhsm = SoftHsm::new(&office.path("bots"))?;
    softhsm.initialize("bots", PIN)?;
    let mut bot = Bot::new(&office, "ci")?;
    bot.tell("SOFTHSM2_CONF", softhsm.configuration());
    write_pin(&bot)?;
    let join = format!("[join]\nmethod = \"bound-key\"\n[join.key]\n{}", key(&softhsm));
    bot.configure(&office, &join, OUTPUT)?;
    run(&mut bot.command("key")?)?.refused("join/ci is not in the token")?;
    let made = run(bot.command("key")?.arg("--make"))?.success()?;
    assert_eq!(run(&mut bot.command("key")?)?.success()?.stdout, made.stdout);
    fs::write(bot.path("ci.pem"), &made.stdout).doing("write the public key")?;
    let words = ["bot", "add", "ci", "--role", "login", "--bound-key"];
    let mut add = office.chancery(office.operator(), &words)?;
    run(add.arg(bot.path("ci.pem")))?.success()?;

    let mut scene = Scene { sshd: sshd_for(&office, "host")?, office, bot };
    scene.bot.start()?;
    let shown = scene.wait_for_identity(None)?;
    assert!(shown.starts_with("ssh-ed25519-cert"), "{shown}");
    scene.login("echo in")?.success()?;
    // The first join is free, and there is no other.
    assert_eq!(scene.bot.shown(&scene.office)?["recoveries_left"], 0);
    Ok(())
}

struct Scene {
    office: Office,
    bot: Bot,
    sshd: Sshd,
}

impl Scene {
    /// Before and after a renewal, and not after a lock.
    fn logs_in_until_locked(&mut self, kind: &str) -> Story {
        if self.bot.agent().is_err() {
            self.bot.start()?;
        }
        let first = self.wait_for_identity(None)?;
        assert!(first.starts_with(kind), "{first}");
        assert_eq!(self.login("echo $((6 * 7))")?.success()?.stdout, "42\n");
        let second = self.wait_for_identity(Some(&first))?;
        assert!(second.starts_with(kind), "{second}");
        self.login("true")?.success()?;

        let lock = ["lock", "add", "bot:ci", "--reason", "a story", "--yes"];
        run(&mut self.office.chancery(self.office.operator(), &lock)?)?.success()?;
        wait_until("the agent shows nothing", PATIENCE, || Ok(self.shown()?.is_none()))
            .map_err(|failure| failure.said(self.bot.log().unwrap_or_default()))?;
        self.login("true")?.refused("Permission denied")?;
        Ok(())
    }

    /// The identity that the agent shows, another than `before`.
    fn wait_for_identity(&self, before: Option<&str>) -> Result<String, Failure> {
        let mut shown = None;
        wait_until("the agent shows an identity", PATIENCE, || {
            shown = self.shown()?;
            Ok(shown.is_some() && shown.as_deref() != before)
        })
        .map_err(|failure| failure.said(self.bot.log().unwrap_or_default()))?;
        Ok(shown.unwrap_or_default())
    }

    fn shown(&self) -> Result<Option<String>, Failure> {
        let mut command = Command::new(peer("ssh-add")?);
        let list = run(command.arg("-L").env("SSH_AUTH_SOCK", self.socket()))?;
        Ok(list.status.success().then_some(list.stdout))
    }

    /// Nothing but what the agent shows can log in.
    fn login(&self, remote_command: &str) -> Result<Answer, Failure> {
        let login = Login {
            key: "none".into(),
            certificate: "none".into(),
            known_hosts: self.office.path("known_hosts"),
            user: self.sshd.user().to_owned(),
            host: HOST.to_owned(),
            port: self.sshd.port(),
        };
        let mut command = Command::new(peer("ssh")?);
        // The first word counts, and the login's own come behind.
        command.args(["-o", "IdentitiesOnly=no", "-o", "IdentityFile=none", "-o"]);
        command.arg(format!("IdentityAgent={}", self.socket().display()));
        run(command.args(login.command(&[], remote_command)?.get_args()))
    }

    fn socket(&self) -> PathBuf {
        self.bot.path("agent.sock")
    }
}

fn sshd_for(office: &Office, name: &str) -> Result<Sshd, Failure> {
    let directory = office.path(name);
    fs::create_dir(&directory).doing("make a directory")?;
    let settings = Settings {
        trusted_user_ca_keys: Some(office.handoff("ssh-user.pub")),
        authorized_principals: vec!["ci".to_owned()],
        ..Settings::default()
    };
    let sshd = Sshd::start(&directory, &settings)?;
    let known = format!("{HOST} {}", sshd.host_public_key()?);
    fs::write(office.path("known_hosts"), known).doing("write known_hosts")?;
    Ok(sshd)
}

fn key(softhsm: &SoftHsm) -> String {
    format!(
        "module = {:?}\ntoken = {{ label = \"bots\" }}\npin_file = \"{{at}}/pin\"\nname = \"ci\"\n",
        softhsm.module()
    )
}

fn write_pin(bot: &Bot) -> Story {
    use std::os::unix::fs::PermissionsExt;

    fs::write(bot.path("pin"), PIN).doing("write the PIN")?;
    let mode = fs::Permissions::from_mode(0o600);
    fs::set_permissions(bot.path("pin"), mode).doing("protect the PIN")
}

/// Renewed after ten seconds or so.
const OUTPUT: &str = "\
[[output]]
name = \"login\"
kind = \"agent\"
role = \"login\"
ttl = \"20s\"
socket = \"{at}/agent.sock\"
";
