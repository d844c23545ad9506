//! Nine to six in Vienna, with certificates of six hours: on the last days before the clocks change
//! and on the first after that, in autumn and in spring.

use std::{fs, process::Command};

use harness::{
    Doing, Failure, Story,
    clock::Clock,
    https::Identity,
    office::Office,
    openssl::openssl,
    peers::peer,
    process::{Answer, run},
};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

/// 26 October is Austria's national day; 29 March 2027 is Easter Monday.
const RULES: &str = r#"
[[role]]
name = "office-shell"
callers = ["spiffe://example.test/user/*"]
issuer = "ssh-user"
max_ttl = "6h"
[role.schedule]
time_zone = "Europe/Vienna"
windows = ["Mon-Fri 09:00-18:00"]
holiday_file = "holidays"
[role.ssh_user]
principals = ["{name}"]

[[role]]
name = "office-client"
callers = ["spiffe://example.test/user/*"]
issuer = "services"
max_ttl = "6h"
[role.schedule]
time_zone = "Europe/Vienna"
windows = ["Mon-Fri 09:00-18:00"]
holiday_file = "holidays"
[role.tls_client]

[[role]]
name = "office-seal"
callers = ["spiffe://example.test/user/*"]
[role.schedule]
time_zone = "Europe/Vienna"
windows = ["Mon-Fri 09:00-18:00"]
holiday_file = "holidays"
[role.sign]
keys = ["firmware"]
schemes = ["ecdsa-p256-sha256"]

[[role]]
name = "office-session"
callers = ["spiffe://example.test/user/*"]
max_ttl = "6h"
[role.schedule]
time_zone = "Europe/Vienna"
windows = ["Mon-Fri 09:00-18:00"]
holiday_file = "holidays"
[role.session]
certificates = ["in-session"]

[[role]]
name = "in-session"
callers = ["spiffe://example.test/user/*"]
issuer = "ssh-user"
max_ttl = "6h"
[role.ssh_user]
principals = ["{name}"]
"#;

/// When somebody asks, and until when what they get is valid, or when the role opens again.
const DAYS: &[(&str, Result<&str, &str>)] = &[
    // The last working day of summer time. Six hours from ten are before six; from one, after.
    ("2026-10-23T10:00:00+02", Ok("2026-10-23T16:00:00+02")),
    ("2026-10-23T13:00:00+02", Ok("2026-10-23T18:00:00+02")),
    ("2026-10-23T18:00:00+02", Err("it opens on Tuesday 27 October 2026 at 09:00")),
    ("2026-10-26T12:00:00+01", Err("(2026-10-27T09:00:00+01:00[Europe/Vienna])")),
    ("2026-10-27T13:00:00+01", Ok("2026-10-27T18:00:00+01")),
    ("2027-03-26T13:00:00+01", Ok("2027-03-26T18:00:00+01")),
    ("2027-03-26T18:00:00+01", Err("it opens on Tuesday 30 March 2027 at 09:00")),
    ("2027-03-29T12:00:00+02", Err("(2027-03-30T09:00:00+02:00[Europe/Vienna])")),
    ("2027-03-30T13:00:00+02", Ok("2027-03-30T18:00:00+02")),
];

#[test]
fn certificates_end_with_the_working_hours_whatever_the_clocks_do() -> Story {
    let mut office = Office::prepare()?;
    fs::write(office.path("rules/office.toml"), RULES).doing("write rules")?;
    let holidays = "2026-10-26 # national day\n2027-03-29 # Easter Monday\n";
    fs::write(office.path("rules/holidays"), holidays).doing("write holidays")?;
    office.set_clock(clock("2026-10-23T08:00:00+02")?);
    office.hold_ceremony()?;
    for (now, expected) in DAYS {
        office.set_clock(clock(now)?);
        // Operators and users have certificates of the day.
        office.add_operator()?;
        office.restart()?;
        let alice = office.enrol("user/alice")?;
        let [ssh, tls, seal, session] = ask(&office, &alice)?;
        match expected {
            Ok(end) => {
                let end: Timestamp = end.parse().doing("read a time")?;
                let said = ssh.success()?.output();
                near(&ssh_end(&office)?, end, now);
                assert!(said.contains(&end.strftime("%Y-%m-%d").to_string()), "{said}");
                tls.success()?;
                near(&tls_end(&office)?, end - SignedDuration::from_secs(1), now);
                seal.success()?;
                near(&session_end(&session.success()?)?, end, now);
            }
            Err(opening) => {
                let refused =
                    [(ssh, "shell"), (tls, "client"), (seal, "seal"), (session, "session")];
                for (answer, role) in refused {
                    let what = format!("it is outside the schedule of role \"office-{role}\"");
                    let said = answer.refused(&what)?.stderr;
                    let hint = said.split("hint: ").nth(1).unwrap_or_default();
                    assert!(hint.contains(opening), "{now}: {said}");
                }
            }
        }
    }
    Ok(())
}

/// The end of the window is exact; six hours count from the moment at which it was asked for.
fn near(found: &Timestamp, expected: Timestamp, now: &str) {
    let clipped = !now.contains("T10:");
    let late = found.duration_since(expected);
    let tolerance = SignedDuration::from_secs(if clipped { 0 } else { 600 });
    assert!((SignedDuration::ZERO..=tolerance).contains(&late), "at {now}: {found}");
}

/// Asks for an SSH certificate, a TLS certificate, a signature and a session.
fn ask(office: &Office, alice: &Identity) -> Result<[Answer; 4], Failure> {
    for name in ["shell", "shell.pub", "shell-cert.pub", "client.key", "client.csr", "client.pem"] {
        let path = office.path(name);
        if path.exists() {
            fs::remove_file(&path).doing(format_args!("remove {name}"))?;
        }
    }
    let run = |arguments: &[&str]| run(&mut office.chancery(alice, arguments)?);
    let digest = "00".repeat(32);
    Ok([
        run(&["request", "ssh", "--role", "office-shell", "--key", "shell", "--generate"])?,
        run(&["request", "x509", "--role", "office-client", "--new-key", "client.key"])?,
        run(&["sign", "--role", "office-seal", "--key", "firmware", "--digest", &digest])?,
        run(&["session", "request", "--json", "--role", "office-session", "--reason", "work"])?,
    ])
}

/// The end of the SSH certificate, as ssh-keygen reads it.
fn ssh_end(office: &Office) -> Result<Timestamp, Failure> {
    let mut command = Command::new(peer("ssh-keygen")?);
    command.env("TZ", "UTC").arg("-L").arg("-f").arg(office.path("shell-cert.pub"));
    let said = run(&mut command)?.success()?.stdout;
    let valid = said.lines().find_map(|line| line.trim().strip_prefix("Valid: "));
    let end = valid.and_then(|valid| valid.split(" to ").nth(1)).unwrap_or_default();
    format!("{end}Z").parse().doing(format_args!("read {said}"))
}

/// The last second of the X.509 certificate, as openssl reads it.
fn tls_end(office: &Office) -> Result<Timestamp, Failure> {
    let mut command = openssl()?;
    command.args(["x509", "-noout", "-enddate", "-dateopt", "iso_8601", "-in"]);
    let said = run(command.arg(office.path("client.pem")))?.success()?.stdout;
    let end = said.trim().trim_start_matches("notAfter=");
    end.parse().doing(format_args!("read {said}"))
}

/// The end of the session, as the client prints it.
fn session_end(answer: &Answer) -> Result<Timestamp, Failure> {
    let session: Value = serde_json::from_str(&answer.stdout).doing("read the session")?;
    let end = session["ends_at"].as_str().unwrap_or_default();
    end.parse().doing(format_args!("read {session}"))
}

fn clock(moment: &str) -> Result<Clock, Failure> {
    let moment: Timestamp = moment.parse().doing("read a time")?;
    Clock::showing(moment.as_second())
}
