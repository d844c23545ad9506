//! The agent of a bot: joins, keeps its bundles fresh, gives them up when it is locked, and comes
//! back when it may.

use std::{fs, path::Path, process::Command, time::Duration};

use harness::{
    Doing, Failure, Story,
    bot::Bot,
    office::Office,
    openssl::openssl,
    process::{run, wait_until},
};

const PATIENCE: Duration = Duration::from_secs(60);

const OUTPUTS: &str = r#"
[[output]]
name = "web"
kind = "tls"
role = "client"
ttl = "12s"
directory = "{at}/web"
hook = { command = ["sh", "-c", "echo told >> {at}/hook.log"] }
probe = { command = ["test", "!", "-e", "{at}/broken"], seconds = 5 }
"#;

#[test]
fn a_bundle_is_renewed_rolled_back_withdrawn_and_there_again() -> Story {
    let office = Office::open()?;
    let flags = ["--role", "client", "--identity-ttl", "20s"];
    let mut bot = Bot::add(&office, "ci", &flags, OUTPUTS)?;
    // `health` stands before the tables.
    let join =
        "health = \"127.0.0.1:0\"\n[join]\nmethod = \"token\"\ntoken_file = \"{at}/token\"\n";
    bot.configure(&office, join, OUTPUTS)?;

    // 1 Once: joined, in place, told.
    bot.run_once()?.success()?;
    let first = serial(&bot)?;
    verify(&office, &bot)?;
    assert_eq!(lines(&bot, "hook.log")?, 1);
    bot.run_once()?.success()?;
    assert_eq!((serial(&bot)?, lines(&bot, "hook.log")?), (first.clone(), 1), "nothing was due");

    // 2 For ever: key, certificate and the bot's own are others each time.
    bot.start()?;
    wait_until("two renewals", PATIENCE, || {
        verify(&office, &bot)?;
        Ok(lines(&bot, "hook.log")? >= 3)
    })
    .map_err(|failure| failure.said(bot.log().unwrap_or_default()))?;
    assert_ne!(serial(&bot)?, first);
    bot.wait_for_log("the bot's own certificate was renewed")?;
    let health = health(&bot)?;
    wait_until("readiness", PATIENCE, || Ok(get(&health, "/readyz")?.contains("200 OK")))?;
    assert!(get(&health, "/livez")?.contains("200 OK"));
    assert!(get(&health, "/readyz/web")?.contains("200 OK"));
    assert!(get(&health, "/readyz/other")?.contains("404 Not Found"));
    let metrics = get(&health, "/metrics")?;
    for name in
        ["output_not_after_seconds{output=\"web\"}", "output_next_attempt_seconds", "ready 1"]
    {
        assert!(metrics.contains(&format!("chancery_bot_{name}")), "{metrics}");
    }
    let status = bot.status()?.success()?.stdout;
    assert!(status.contains("runs") && status.contains("web"), "{status}");

    // 3 What does not work is not left in place.
    fs::write(bot.path("broken"), "").doing("break the consumer")?;
    bot.wait_for_log("the one before is in its place again")?;
    verify(&office, &bot)?;
    fs::remove_file(bot.path("broken")).doing("mend the consumer")?;
    bot.wait_for_log("well again")?;

    // 4 Locked: nothing is left, and it is said why. Unlocked, with a new token: all is back.
    let lock = ["--json", "lock", "add", "bot:ci", "--reason", "stolen", "--yes"];
    run(&mut office.chancery(office.operator(), &lock)?)?.success()?;
    bot.wait_for_file("web/current", false)?;
    assert!(fs::read(bot.path("web/tls.key")).is_err(), "the plain name leads nowhere");
    let unready = get(&health, "/readyz/web")?;
    assert!(unready.contains("503") && unready.contains("withdrawn"), "{unready}");
    bot.status()?.refused("withdrawn")?;
    fs::remove_file(bot.path("token")).doing("remove the old token")?;
    let token = bot.path("token").display().to_string();
    let unlock = ["bot", "unlock", "ci", "--reason", "found", "--out", &token];
    run(&mut office.chancery(office.operator(), &unlock)?)?.success()?;
    wait_until("the bundle", 3 * PATIENCE, || Ok(bot.path("web/current/tls.crt").exists()))
        .map_err(|failure| failure.said(bot.log().unwrap_or_default()))?;
    verify(&office, &bot)?;
    Ok(())
}

/// openssl agrees that the bundle in place is whole: chain, and key.
fn verify(office: &Office, bot: &Bot) -> Result<(), Failure> {
    // Looked up once, as programs shall: see docs/bots.md.
    let current = fs::canonicalize(bot.path("web/current")).doing("look up the bundle")?;
    let mut command = openssl()?;
    command.args(["verify", "-purpose", "sslclient", "-CAfile"]).arg(office.handoff("root.pem"));
    command.arg("-untrusted").arg(current.join("tls.crt")).arg(current.join("tls.crt"));
    run(&mut command)?.success()?;
    let public = |mut command: Command, file: &Path| {
        Ok::<_, Failure>(run(command.arg(file))?.success()?.stdout)
    };
    let (mut of_key, mut of_certificate) = (openssl()?, openssl()?);
    of_key.args(["pkey", "-pubout", "-in"]);
    of_certificate.args(["x509", "-noout", "-pubkey", "-in"]);
    let key = public(of_key, &current.join("tls.key"))?;
    assert_eq!(key, public(of_certificate, &current.join("tls.crt"))?);
    Ok(())
}

fn serial(bot: &Bot) -> Result<String, Failure> {
    let mut command = openssl()?;
    command.args(["x509", "-noout", "-serial", "-in"]).arg(bot.path("web/tls.crt"));
    Ok(run(&mut command)?.success()?.stdout)
}

fn lines(bot: &Bot, name: &str) -> Result<usize, Failure> {
    Ok(fs::read_to_string(bot.path(name)).doing("read a file")?.lines().count())
}

/// Where the agent says how it is.
fn health(bot: &Bot) -> Result<String, Failure> {
    let log = bot.log()?;
    let line = log.lines().rev().find_map(|line| line.split("health is told on ").nth(1));
    Ok(line.ok_or_else(|| Failure::new("no address").said(&log))?.trim().to_owned())
}

fn get(address: &str, path: &str) -> Result<String, Failure> {
    let address = address.parse().doing("read an address")?;
    harness::office::http_get(address, path).doing("ask for the agent's health")
}
