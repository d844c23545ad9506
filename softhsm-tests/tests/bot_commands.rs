//! Bots as operators have them: added, applied from files, shown, locked, unlocked and removed on
//! the command line, with an agent and a host that feel it.

use std::{fs, time::Duration};

use harness::{
    Doing, Failure, Story,
    agent::{Host, RULES},
    bot::Bot,
    office::Office,
    process::{Answer, run, wait_until},
    ssh::Login,
};
use serde_json::Value;

const HOST: &str = "web1.example.test";
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn bots_are_added_and_applied_and_what_is_wrong_is_refused_with_what_to_do() -> Story {
    let office = Office::open()?;
    let bot = |words: &[&str]| operate(&office, &[&["bot"], words].concat());
    let added = bot(&["add", "ci", "--role", "login", "--max-instances", "2"])?.success()?;
    assert!(added.stdout.contains("joins by   token\n"), "{}", added.stdout);
    let token = fs::read_to_string(office.path("ci.token")).doing("read a token")?;
    let token: Value = serde_json::from_str(&token).doing("read a token")?;
    assert_eq!(token["secret"].as_str().map(str::len), Some(43), "{token}");
    let secret = token["secret"].as_str().unwrap_or_default();
    assert!(!office.audit_records()?.iter().any(|it| it.to_string().contains(secret)));

    fs::write(office.path("bots.toml"), BOTS).doing("write a file")?;
    let would = "ci: would be changed: max_instances 2 → 3\nbackup: would be added\n";
    for _ in 0..2 {
        let dry = bot(&["apply", "--dry-run", "bots.toml"])?.success()?;
        assert_eq!(dry.stdout, would, "a dry run changes nothing");
    }
    let applied = bot(&["apply", "bots.toml"])?.success()?.stdout;
    assert_eq!(applied, would.replace("would be ", ""));
    let unchanged = "ci: unchanged\nbackup: unchanged\n";
    for words in [&["apply", "bots.toml"][..], &["apply", "--dry-run", "bots.toml"]] {
        assert_eq!(bot(words)?.success()?.stdout, unchanged);
    }
    let changes = office.audit_records()?;
    let changes = changes.iter().filter(|it| it.to_string().contains("\"bot_")).count();
    assert_eq!(bot(&["apply", "bots.toml"])?.success()?.stdout, unchanged);
    let after = office.audit_records()?;
    let after = after.iter().filter(|it| it.to_string().contains("\"bot_")).count();
    assert_eq!(changes, after, "what changes nothing is no act");

    let listed = bot(&["list"])?.success()?.stdout;
    assert!(listed.contains("ci      login  token     0 of 3\n"), "{listed}");
    assert!(listed.contains("backup  login  token     0 of 1\n"), "{listed}");
    let other = bot(&["token", "ci", "--token-ttl", "10m", "--out", "-"])?.success()?;
    let other: Value = serde_json::from_str(&other.stdout).doing("read a token")?;
    assert_ne!(other["secret"], token["secret"]);

    for (words, code, why) in [
        (&["add", "ci", "--role", "login", "--out", "-"][..], 2, "hint: `chancery bot show ci`"),
        (&["add", "CI", "--role", "login"], 2, "\"CI\" is no name of a bot"),
        (&["add", "new", "--role", "lgoin", "--out", "-"], 1, "lgoin"),
        (&["show", "nobody"], 1, "nobody"),
        (&["token", "nobody", "--out", "-"], 1, "nobody"),
        (&["remove", "nobody", "--reason", "r"], 1, "nobody"),
        (&["apply", "chanceryd.toml"], 2, "hint: nothing was applied"),
    ] {
        let answer = bot(words)?.refused(why)?;
        assert_eq!(answer.status.code(), Some(code), "{}", answer.output());
    }
    assert_eq!(bot(&["list"])?.success()?.stdout, listed, "what was refused has left nothing");
    let alice = office.enrol("user/alice")?;
    let theirs = run(&mut office.chancery(&alice, &["bot", "list"])?)?.refused("error:")?;
    assert_eq!(theirs.status.code(), Some(1), "only operators see bots");
    Ok(())
}

#[test]
fn a_locked_bot_is_cut_off_everywhere_and_one_step_lets_it_join_anew() -> Story {
    let mut scene = Scene::open()?;
    scene.bot.start()?;
    scene.bot.wait_for_file("ssh/current/key-cert.pub", true)?;
    assert_eq!(scene.login().run("echo $((6 * 7))")?.success()?.stdout, "42\n");
    let key = scene.bot.path("ssh/current/key");
    let mut stays = scene.host.stay(&key, &[], "stays.log")?;
    scene.host.wait_for_connections(1)?;
    // What it had stays in its hands, so that it can be seen to be of no use.
    for name in ["key", "key-cert.pub"] {
        let from = scene.bot.path(format!("ssh/current/{name}"));
        fs::copy(from, scene.bot.path(name)).doing("copy a file")?;
    }

    let target = format!("bot-instance:ci/{}", scene.only_instance("live")?);
    let words = ["lock", "add", &target, "--reason", "odd logins", "--yes", "--wait", "30s"];
    let locked = operate(&scene.office, &words)?.success()?;
    assert!(locked.stdout.contains(HOST), "{}", locked.stdout);
    wait_until("the end of a connection", PATIENCE, || Ok(!stays.running()?))?;
    scene.host.login(&scene.bot.path("key")).run("true")?.refused("Permission denied")?;
    scene.bot.wait_for_file("ssh/current/key", false)?;
    let shown = operate(&scene.office, &["bot", "show", "ci"])?.success()?.stdout;
    assert!(shown.contains("odd logins") && shown.contains("chancery bot unlock ci"), "{shown}");

    // One step, by the bot's name.
    fs::remove_file(scene.bot.path("token")).doing("remove a file")?;
    let token = scene.bot.path("token").display().to_string();
    let words = ["bot", "unlock", "ci", "--reason", "looked at", "--out", &token];
    let unlocked = operate(&scene.office, &words)?.success()?;
    assert!(unlocked.stdout.contains("next: put the token"), "{}", unlocked.stdout);
    // It would ask again within a minute; started again, it does so at once.
    scene.bot.stop();
    scene.bot.start()?;
    scene.bot.wait_for_file("ssh/current/key-cert.pub", true)?;
    assert_eq!(scene.login().run("echo $((6 * 7))")?.success()?.stdout, "42\n");
    scene.host.login(&scene.bot.path("key")).run("true")?.refused("Permission denied")?;
    Ok(())
}

#[test]
fn a_removed_bot_has_nothing_any_more() -> Story {
    let mut scene = Scene::open()?;
    scene.bot.start()?;
    scene.bot.wait_for_file("ssh/current/key-cert.pub", true)?;
    let mut stays = scene.host.stay(&scene.bot.path("ssh/current/key"), &[], "stays.log")?;
    scene.host.wait_for_connections(1)?;

    let words = ["bot", "remove", "ci", "--reason", "not needed any more"];
    assert_eq!(operate(&scene.office, &words)?.success()?.stdout, "removed  ci\n");
    wait_until("the end of a connection", PATIENCE, || Ok(!stays.running()?))?;
    operate(&scene.office, &["bot", "show", "ci"])?.refused("error:")?;
    let records = scene.office.audit_records()?;
    let why = records.iter().find(|it| it.to_string().contains("not needed any more"));
    assert!(why.is_some_and(|it| it.to_string().contains("olivia")), "who and why is audited");
    Ok(())
}

/// An office with a host, and a bot that may log in there.
struct Scene {
    // Its agents and sshd end before the directory that they lie in goes.
    bot: Bot,
    host: Host,
    office: Office,
}

impl Scene {
    fn open() -> Result<Self, Failure> {
        let mut office = Office::prepare()?;
        fs::write(office.path("rules/hosts.toml"), RULES).doing("write the rules")?;
        office.begin()?;
        let host = Host::join(&office, HOST, "ci")?;
        // It renews every ten seconds, and so hears soon what becomes of it.
        let flags = ["--role", "login", "--identity-ttl", "20s"];
        let bot = Bot::add(&office, "ci", &flags, OUTPUT)?;
        Ok(Self { bot, host, office })
    }

    /// With what the bot has now.
    fn login(&self) -> Login {
        self.host.login(&self.bot.path("ssh/current/key"))
    }

    /// The id of the one instance in a state.
    fn only_instance(&self, state: &str) -> Result<String, Failure> {
        let bot = self.bot.shown(&self.office)?;
        let instances = bot["instances"].as_array().into_iter().flatten();
        let ids: Vec<_> = instances
            .filter(|it| it["state"] == state)
            .filter_map(|it| it["id"].as_str())
            .collect();
        match ids[..] {
            [id] => Ok(id.to_owned()),
            _ => Err(Failure::new(format!("one instance should be {state}")).said(bot.to_string())),
        }
    }
}

fn operate(office: &Office, words: &[&str]) -> Result<Answer, Failure> {
    run(&mut office.chancery(office.operator(), words)?)
}

const BOTS: &str = r#"
[[bot]]
name = "ci"
roles = ["login"]
max_instances = 3
join.method = "token"

[[bot]]
name = "backup"
roles = ["login"]
join.method = "token"
"#;

const OUTPUT: &str = r#"
[[output]]
name = "ssh"
kind = "ssh"
role = "login"
hosts = ["*.example.test"]
directory = "{at}/ssh"
"#;
