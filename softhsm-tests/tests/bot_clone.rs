//! Somebody copies the directory of a bot: the copy is found when it renews, the one instance is
//! locked, and the bot that was copied is told how it comes back.

use std::{fs, time::Duration};

use harness::{
    Doing, Failure, Story,
    bot::Bot,
    office::Office,
    process::{run, wait_until},
};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);

const OUTPUTS: &str = r#"
[[output]]
name = "web"
kind = "tls"
role = "client"
ttl = "10m"
directory = "{at}/web"
"#;

#[test]
fn a_copied_directory_locks_its_instance_alone_and_the_bot_is_told_how_to_come_back() -> Story {
    let office = Office::open()?;
    let flags = ["--role", "client", "--identity-ttl", "20s"];
    let mut bot = Bot::add(&office, "ci", &flags, OUTPUTS)?;
    let other = Bot::add(&office, "nightly", &["--role", "client"], OUTPUTS)?;
    bot.run_once()?.success()?;
    other.run_once()?.success()?;
    let copy = copy(&office, &bot)?;

    // 1 The bot renews, and what was copied is worth nothing any more.
    bot.start()?;
    bot.wait_for_log("the bot's own certificate was renewed")?;
    assert!(locks(&office)?.is_empty());

    // 2 The copy renews in its turn, and is found.
    wait_until("the copy is found", PATIENCE, || {
        Ok(!copy.run_once()?.status.success() && !locks(&office)?.is_empty())
    })?;
    let (locks, instance) = (locks(&office)?, instance(&bot, &office)?);
    let [lock] = locks.as_slice() else { return Err(Failure::new(format!("{locks:?}"))) };
    assert_eq!(lock["target"], format!("bot-instance:ci/{instance}"));
    let reason = lock["reason"].as_str().unwrap_or_default();
    assert!(reason.starts_with("two have this identity: generation 1 asked to renew"), "{reason}");

    // 3 The bot gives up what it had, and says what is to be done; no other bot is touched.
    bot.wait_for_file("web/current", false)?;
    bot.wait_for_log("chancery bot unlock")?;
    other.run_once()?.success()?;

    // 4 After that it is back, and the copy is not.
    fs::remove_file(bot.path("token")).doing("remove the old token")?;
    let token = bot.path("token").display().to_string();
    let unlock = ["bot", "unlock", "ci", "--reason", "the copy is gone", "--out", &token];
    run(&mut office.chancery(office.operator(), &unlock)?)?.success()?;
    bot.stop();
    bot.start()?;
    bot.wait_for_file("web/current", true)?;
    assert!(!copy.run_once()?.status.success(), "the copy is locked out");
    assert!(self::locks(&office)?.is_empty());
    Ok(())
}

/// The bot's directory a second time, elsewhere.
fn copy(office: &Office, bot: &Bot) -> Result<Bot, Failure> {
    let copy = Bot::new(office, "copy")?;
    let (from, to) = (bot.path(""), copy.path(""));
    let mut command = std::process::Command::new(harness::peers::peer("cp")?);
    run(command.arg("-a").arg(from.join(".")).arg(&to))?.success()?;
    let text = fs::read_to_string(bot.configuration()).doing("read a configuration")?;
    let text = text.replace("bot-ci", "bot-copy");
    fs::write(copy.configuration(), text).doing("write a configuration")?;
    Ok(copy)
}

fn locks(office: &Office) -> Result<Vec<Value>, Failure> {
    let list = office.chancery(office.operator(), &["--json", "lock", "list"])?;
    let answer = run(&mut { list })?.success()?;
    answer.stdout.lines().map(|line| serde_json::from_str(line).doing("read a lock")).collect()
}

/// The instance that the agent is.
fn instance(bot: &Bot, office: &Office) -> Result<String, Failure> {
    let shown = bot.shown(office)?;
    let id = shown["instances"][0]["id"].as_str();
    id.map(str::to_owned).ok_or_else(|| Failure::new(shown.to_string()))
}
