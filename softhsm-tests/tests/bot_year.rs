//! A year of a bot: its agent is killed at each write and each network call in turn, the appliance
//! at any moment, and there is never a time without a whole and valid bundle, nor a lock.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use harness::{
    Doing, Failure, Story,
    bot::Bot,
    chance::Chance,
    clock::Clock,
    office::Office,
    openssl::openssl,
    peers::{ours, peer},
    process::run,
};
use serde_json::Value;

/// What the bot may have, for as long as its own certificate: a week.
const RULES: &str = r#"
[[role]]
name = "year-client"
callers = ["spiffe://example.test/bot/*"]
issuer = "services"
default_ttl = "168h"
max_ttl = "168h"
[role.tls_client]

[[role]]
name = "year-login"
callers = ["spiffe://example.test/bot/*"]
issuer = "ssh-user"
default_ttl = "168h"
max_ttl = "168h"
[role.ssh_user]
principals = ["{name}"]
"#;

const OUTPUTS: &str = r#"
[[output]]
name = "web"
kind = "tls"
role = "year-client"
directory = "{at}/web"
hook = { command = ["sh", "-c", "echo told >> {at}/hook.log"] }

[[output]]
name = "svid"
kind = "spiffe"
role = "year-client"
directory = "{at}/svid"

[[output]]
name = "login"
kind = "ssh"
role = "year-login"
directory = "{at}/login"
hosts = ["*.example.test"]
"#;

const JOIN: &str = "[join]\nmethod = \"token\"\ntoken_file = \"{at}/token\"\n";

const HOUR: i64 = 3_600;
const YEAR: i64 = 365 * 24 * HOUR;

/// Half of a week and a tenth of that is over by then: all is due; and the week is not over.
const STEP: std::ops::Range<i64> = 95 * HOUR..160 * HOUR;

/// How often the agent is killed before it may finish.
const KILLS: usize = 2;

/// What the agent writes with, and talks to the appliance with.
const CALLS: [&str; 12] = [
    "write",
    "writev",
    "fsync",
    "rename",
    "renameat",
    "symlinkat",
    "unlinkat",
    "mkdirat",
    "fchmod",
    "connect",
    "sendto",
    "recvfrom",
];

#[test]
#[expect(clippy::print_stdout, reason = "the counts are a result")]
fn a_year_with_kills_everywhere_loses_no_bundle_and_locks_nobody() -> Story {
    let mut chance = Chance::new()?;
    println!("{chance:?}");
    let begun = Instant::now();
    let mut office = Office::prepare()?;
    fs::write(office.path("rules/year.toml"), RULES).doing("write rules")?;
    let start = seconds_since_1970()?;
    let mut year =
        Year { now: start, next: BTreeMap::new(), killed: BTreeMap::new(), completed: 0, cut: 0 };
    office.set_clock(Clock::showing(year.now)?);
    office.begin()?;
    let flags = ["--role", "year-client", "--role", "year-login", "--identity-ttl", "168h"];
    let bot = Bot::add(&office, "anna", &flags, OUTPUTS)?;

    while year.now < start + YEAR {
        for _ in 0..KILLS {
            year.run_and_kill(&mut office, &bot, &mut chance)?;
        }
        year.finish(&office, &bot)?;
        year.pass(&mut office, &bot, &mut chance)?;
        // Before anything is renewed: what was there is good until then.
        year.check(&office, &bot)?;
    }

    let state = fs::read_to_string(bot.path("state/identity.json")).doing("read the state")?;
    let state: Value = serde_json::from_str(&state).doing("read the state")?;
    let generation = state["confirmed"]["generation"].as_u64().unwrap_or_default();
    office.add_operator()?;
    let shown = bot.shown(&office)?;
    let instances = shown["instances"].as_array().map(Vec::as_slice).unwrap_or_default();
    let [instance] = instances else { return Err(Failure::new(format!("{shown}"))) };
    assert_eq!((&instance["state"], &instance["generation"]), (&"live".into(), &generation.into()));
    let locks = run(&mut office.chancery(office.operator(), &["--json", "lock", "list"])?)?;
    let locks = locks.success()?.stdout;
    assert!(!locks.contains("anna"), "{locks}");
    let hooks = fs::read_to_string(bot.path("hook.log")).doing("read what the hook did")?;
    println!(
        "{generation} generations, {} bundles told of, {} runs to the end, {} kills of the agent, \
         {} of the appliance, in {:.0} s",
        hooks.lines().count(),
        year.completed,
        year.killed.values().sum::<u64>(),
        year.cut,
        begun.elapsed().as_secs_f64(),
    );
    for (call, count) in &year.killed {
        println!("  killed at {call}: {count}");
    }
    assert!(generation > 50, "a year of half weeks");
    assert!(year.killed.len() >= 8, "kills of many kinds: {:?}", year.killed);
    Ok(())
}

struct Year {
    /// Seconds since 1970.
    now: i64,
    /// At which of its calls of a kind the agent was killed last.
    next: BTreeMap<&'static str, u64>,
    /// How often it was, by call.
    killed: BTreeMap<String, u64>,
    /// How often it came to its end.
    completed: u64,
    /// How often the appliance was killed while the agent asked it.
    cut: u64,
}

impl Year {
    /// The agent is killed at a call of some kind, a later one each time; sometimes the appliance,
    /// too.
    fn run_and_kill(
        &mut self,
        office: &mut Office,
        bot: &Bot,
        chance: &mut Chance,
    ) -> Result<(), Failure> {
        let kind = usize::try_from(chance.below(CALLS.len() as u64)).doing("count")?;
        let kind = CALLS[kind];
        let turn = self.next.entry(kind).or_default();
        *turn += 1;
        let kill = format!("inject={kind}:signal=KILL:when={turn}");
        let mut traced = self.traced(bot, &["-e", &kill])?;
        if chance.below(4) == 0 {
            let mut child = traced.spawn().doing("start the agent")?;
            // The kill shall come at a moment that nothing here depends on.
            thread::sleep(Duration::from_millis(chance.below(400)));
            office.kill();
            self.cut += 1;
            child.wait().doing("wait for the agent")?;
            self.note(bot)?;
            office.start()?;
            return bot.configure(office, JOIN, OUTPUTS);
        }
        let survived = traced.status().doing("run the agent")?.success();
        self.note(bot)?;
        if survived {
            // All calls of this kind had their turn.
            self.next.insert(kind, 0);
        }
        self.check_if_there(office, bot)
    }

    /// The agent comes to its end.
    fn finish(&mut self, office: &Office, bot: &Bot) -> Result<(), Failure> {
        let mut command = Clock::showing(self.now)?.command(&ours("chancery")?);
        command.args(["bot", "run", "--once", "--config"]).arg(bot.configuration());
        run(&mut command)?.success()?;
        self.completed += 1;
        self.check(office, bot)
    }

    /// Some days later: the appliance was killed, and is there again.
    fn pass(&mut self, office: &mut Office, bot: &Bot, chance: &mut Chance) -> Result<(), Failure> {
        let span = u64::try_from(STEP.end - STEP.start).doing("count")?;
        self.now += STEP.start + i64::try_from(chance.below(span)).doing("count")?;
        office.kill();
        office.set_clock(Clock::showing(self.now)?);
        office.start()?;
        bot.configure(office, JOIN, OUTPUTS)
    }

    /// The agent under a tracer, at the time that it is.
    fn traced(&self, bot: &Bot, options: &[&str]) -> Result<Command, Failure> {
        let mut command = Command::new(peer("strace")?);
        command
            .args(["-f", "-qq", "-e", &format!("trace={}", CALLS.join(",")), "-o"])
            .arg(bot.path("trace"));
        for (name, value) in Clock::showing(self.now)?.variables() {
            command.arg("-E").arg(format!("{name}={value}"));
        }
        command.args(options).arg(ours("chancery")?);
        command.args(["bot", "run", "--once", "--config"]).arg(bot.configuration());
        let log = fs::File::create(bot.path("killed.log")).doing("make a log")?;
        command.stdout(log.try_clone().doing("share a log")?).stderr(log);
        Ok(command)
    }

    /// At which call it was killed, if it was; and what the clock's library left is removed.
    fn note(&mut self, bot: &Bot) -> Result<(), Failure> {
        let trace = fs::read_to_string(bot.path("trace")).doing("read the trace")?;
        let process = trace.split_whitespace().next().and_then(|id| id.parse().ok());
        if let Some(process) = process {
            for leftover in Clock::showing(self.now)?.leftovers(process) {
                let _ = fs::remove_file(leftover);
            }
        }
        if trace.contains("+++ killed by SIGKILL") {
            let last = trace.lines().rev().find_map(|line| line.split_once('('));
            let call = last.and_then(|(before, _)| before.split_whitespace().last());
            *self.killed.entry(call.unwrap_or("?").to_owned()).or_default() += 1;
        }
        Ok(())
    }

    fn check_if_there(&self, office: &Office, bot: &Bot) -> Result<(), Failure> {
        // The first bundle is not there before the first end.
        if self.completed == 0 { Ok(()) } else { self.check(office, bot) }
    }

    /// All bundles are whole, and good at this time.
    fn check(&self, office: &Office, bot: &Bot) -> Result<(), Failure> {
        for (output, certificate, key) in
            [("web", "tls.crt", "tls.key"), ("svid", "svid.pem", "svid.key")]
        {
            let directory = bot.path(output).join("current");
            let certificate = directory.join(certificate);
            let mut verify = openssl()?;
            verify.args(["verify", "-attime", &self.now.to_string(), "-CAfile"]);
            verify.arg(office.handoff("root.pem")).arg("-untrusted").arg(&certificate);
            run(verify.arg(&certificate))?.success()?;
            let said = |words: &[&str], file: &Path| {
                let answer = run(openssl()?.args(words).arg(file))?.success()?;
                Ok::<_, Failure>(answer.stdout)
            };
            let of_key = said(&["pkey", "-pubout", "-in"], &directory.join(key))?;
            let of_certificate = said(&["x509", "-noout", "-pubkey", "-in"], &certificate)?;
            assert_eq!(of_key, of_certificate, "{output} at {}", self.now);
        }
        let login = bot.path("login/current");
        let mut public = Command::new(peer("ssh-keygen")?);
        let of_key = run(public.args(["-y", "-f"]).arg(login.join("key")))?.success()?.stdout;
        let mut shown = Command::new(peer("ssh-keygen")?);
        let certificate = login.join("key-cert.pub");
        let shown = run(shown.arg("-L").arg("-f").arg(&certificate))?.success()?.stdout;
        let mut print = Command::new(peer("ssh-keygen")?);
        let print = run(print.args(["-l", "-f"]).arg(login.join("key.pub")))?.success()?.stdout;
        let print = print.split_whitespace().nth(1).unwrap_or_default();
        assert!(shown.contains(print), "{shown} is not for {print}");
        let public = fs::read_to_string(login.join("key.pub")).doing("read a public key")?;
        let body = |line: &str| line.split_whitespace().nth(1).map(str::to_owned);
        assert_eq!(body(&of_key), body(&public));
        Ok(())
    }
}

/// By the machine's clock, from which the year begins.
fn seconds_since_1970() -> Result<i64, Failure> {
    let mut date = Command::new(peer("date")?);
    run(date.arg("+%s"))?.success()?.stdout.trim().parse().doing("read the time")
}
