//! A wrong PIN is tried once, and none where a try could lock the token.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use harness::{
    Doing, Failure, Story, kryoptic,
    office::{Office, TOKEN, http_get},
    peers::peer,
    process::{Answer, Daemon, run, wait_until},
    shim::{
        Action, Fault, Plan, Shim,
        pkcs11::{CKR_OK, CKR_PIN_INCORRECT},
    },
};

/// A person has to mend something; systemd does not start the appliance again.
const EX_CONFIG: Option<i32> = Some(78);

const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn a_wrong_pin_is_tried_once_in_twenty_starts() -> Story {
    let (mut office, shim) = Office::open_with_shim()?;
    office.kill();
    let right = write_pin(&office, "wrong-pin")?;
    for start in 0..20 {
        let answer = serve(&office)?.refused("CKR_PIN_INCORRECT")?;
        assert_eq!(answer.status.code(), EX_CONFIG, "{}", answer.stderr);
        assert!(answer.stderr.contains("chanceryd token unblock --config"), "{}", answer.stderr);
        assert_eq!(answer.stderr.contains("CKR_PIN_INCORRECT at 20"), start > 0, "{start}");
    }
    // The right PIN alone does not help, and nobody else tries it.
    write_pin(&office, &right)?;
    let refused = office.add_operator().expect_err("an operator was added").to_string();
    assert!(refused.contains("78"), "{refused}");
    assert_eq!(wrong(&shim)?, 1);
    // A person says that it is right.
    let unblocked = unblock(&office)?;
    assert!(unblocked.contains("CKR_PIN_INCORRECT at 20"), "{unblocked}");
    assert!(unblocked.contains("label \"chancery\""), "{unblocked}");
    assert!(unblock(&office)?.contains("nothing keeps"), "it was removed already");
    office.start()?;
    assert_eq!(wrong(&shim)?, 1);
    // Each of these starts says what it found, the operator's too.
    let mut wanted = vec!["starting pin-blocked"; 21];
    wanted.push("starting up");
    assert_eq!(states(&office)?[2..], wanted);
    Ok(())
}

#[test]
fn a_wrong_pin_is_tried_once_whenever_the_appliance_is_killed() -> Story {
    let (mut office, shim) = Office::open_with_shim()?;
    office.kill();
    write_pin(&office, "wrong-pin")?;
    // At each moment of a start: what the module was called for tells them apart.
    for further in 0..20 {
        let wanted = shim.calls()?.len() + further;
        let mut command = office.chanceryd(&["serve", "--config", "chanceryd.toml"])?;
        let log = office.path("killed.log");
        let mut killed = Daemon::start("chanceryd", &mut command, &log)?;
        wait_until("the moment", PATIENCE, || {
            Ok(shim.calls()?.len() >= wanted || !killed.running()?)
        })?;
        killed.kill();
    }
    serve(&office)?.refused("chanceryd token unblock")?;
    assert_eq!(wrong(&shim)?, 1);
    Ok(())
}

#[test]
fn a_login_that_never_ended_is_not_tried_again_by_another_appliance() -> Story {
    let (mut office, shim) = Office::open_with_shim()?;
    office.kill();
    let before = logins(&shim)?;
    shim.play(Plan { faults: vec![Fault::on("C_Login", Action::Crash)], ..Plan::default() })?;
    serve(&office)?.refused("the token is not reachable")?;
    for _ in 0..5 {
        let answer = serve(&office)?.refused("came to no end, and counts as a wrong try")?;
        assert_eq!(answer.status.code(), EX_CONFIG, "{}", answer.stderr);
    }
    assert_eq!(logins(&shim)?, before + 1);
    shim.heal()?;
    assert!(unblock(&office)?.contains("came to no end"));
    office.start()
}

#[test]
fn an_appliance_that_knows_its_pin_outlives_crashes_at_the_login() -> Story {
    let (mut office, shim) = Office::open_with_shim()?;
    let appliance = office.appliance()?.id();
    let good = shim.count("C_Login", CKR_OK)?;
    let crashes = vec![
        Fault::on("C_Sign", Action::Crash).times(1),
        Fault::on("C_Login", Action::Crash).times(3),
    ];
    shim.play(Plan { faults: crashes, ..Plan::default() })?;
    let enrolled = office.enrol("user/alice");
    assert!(enrolled.is_ok(), "{enrolled:?}");
    assert_eq!(shim.count("C_Login", "crash")?, 3);
    assert_eq!(shim.count("C_Login", CKR_OK)?, good + 1);
    assert_eq!(office.appliance()?.id(), appliance);
    let ready = http_get(office.public(), "/readyz").doing("read /readyz")?;
    assert!(ready.starts_with("HTTP/1.1 200"), "{ready}");
    assert!(ready.contains("is degraded: its worker was replaced"), "{ready}");
    let metrics = http_get(office.public(), "/metrics").doing("read /metrics")?;
    let degraded = r#"chancery_token_state{token="chancery",state="degraded"} 1"#;
    for line in [degraded, "chancery_token_up 1"] {
        assert!(metrics.lines().any(|found| found == line), "{metrics}");
    }
    office.restart()?;
    // The first start, the operator's, and the restart found nothing wrong.
    let audited = states(&office)?;
    let up = "starting up";
    assert_eq!(audited[..2], [up, up]);
    let wanted = ["up recovering", "recovering down", "down degraded", up];
    assert_eq!(audited[2..], wanted, "each change once");
    Ok(())
}

#[test]
fn the_last_try_before_a_lock_is_left_to_a_person() -> Story {
    let (mut office, shim) = Office::open_with_shim()?;
    office.kill();
    shim.play(Plan { pin_tries: Some(3), ..Plan::default() })?;
    let before = logins(&shim)?;
    for (wrong_pins, flag) in [(2, "CKF_USER_PIN_FINAL_TRY"), (3, "CKF_USER_PIN_LOCKED")] {
        shim.remember_wrong_pins(wrong_pins)?;
        for _ in 0..3 {
            serve(&office)?.refused(flag)?;
        }
    }
    assert_eq!(logins(&shim)?, before, "the PIN was tried");
    // One wrong try is no reason to stay away, and the right PIN makes up for it.
    shim.remember_wrong_pins(1)?;
    office.start()?;
    assert_eq!(logins(&shim)?, before + 1);
    Ok(())
}

/// Ten wrong PINs lock Kryoptic for good: twenty starts cost one of them.
#[test]
fn twenty_starts_do_not_lock_a_token_that_locks() -> Story {
    let (mut office, shim, _) = kryoptic_office()?;
    let right = write_pin(&office, "wrong-pin")?;
    for _ in 0..20 {
        serve(&office)?.refused("CKR_PIN_INCORRECT")?;
    }
    assert_eq!(wrong(&shim)?, 1);
    write_pin(&office, &right)?;
    serve(&office)?.refused("chanceryd token unblock")?;
    unblock(&office)?;
    office.start()?;
    office.enrol("user/alice")?;
    assert_eq!(wrong(&shim)?, 1);
    Ok(())
}

#[test]
fn kryoptic_itself_says_that_the_next_wrong_pin_locks_it_and_that_it_is_locked() -> Story {
    let (mut office, shim, kryoptic) = kryoptic_office()?;
    let right = read_pin(&office)?;
    let log_in = |office: &_, pin: &str| log_in(office, &kryoptic, pin);
    let before = logins(&shim)?;
    for _ in 0..9 {
        log_in(&office, "wrong-pin")?.refused("CKR_PIN_INCORRECT")?;
    }
    for _ in 0..3 {
        serve(&office)?.refused("CKF_USER_PIN_FINAL_TRY")?;
    }
    log_in(&office, &right)?.success()?;
    office.start()?;
    office.enrol("user/alice")?;
    office.kill();
    assert_eq!(logins(&shim)?, before + 1, "the last try was not the appliance's");

    for _ in 0..9 {
        log_in(&office, "wrong-pin")?.refused("CKR_PIN_INCORRECT")?;
    }
    log_in(&office, "wrong-pin")?.refused("CKR_PIN_LOCKED")?;
    log_in(&office, &right)?.refused("CKR_PIN_LOCKED")?;
    for _ in 0..3 {
        serve(&office)?.refused("CKF_USER_PIN_LOCKED")?;
    }
    assert_eq!(logins(&shim)?, before + 1, "the PIN of a locked token was tried");
    Ok(())
}

/// An office on Kryoptic that worked and was stopped, the shim that counts what it calls, and the
/// module without the shim.
fn kryoptic_office() -> Result<(Office, Shim, PathBuf), Failure> {
    let mut office = Office::prepare_on(kryoptic::token)?;
    let kryoptic = office.token().module.clone();
    let shim = office.put_shim()?;
    office.begin()?;
    office.kill();
    Ok((office, shim, kryoptic))
}

/// A person's login, past the shim.
fn log_in(office: &Office, module: &Path, pin: &str) -> Result<Answer, Failure> {
    let mut command = Command::new(peer("pkcs11-tool")?);
    command.arg("--module").arg(module).args(["--token-label", TOKEN]);
    command.args(["--login", "--pin", pin, "--list-objects"]);
    run(office.token().lend(&mut command))
}

/// An appliance that does not come up.
fn serve(office: &Office) -> Result<Answer, Failure> {
    run(&mut office.chanceryd(&["serve", "--config", "chanceryd.toml"])?)
}

/// What the command that a person types answers.
fn unblock(office: &Office) -> Result<String, Failure> {
    let arguments = ["token", "unblock", "--config", "chanceryd.toml"];
    Ok(run(&mut office.chanceryd(&arguments)?)?.success()?.stdout)
}

/// Gives the PIN that was there before.
fn write_pin(office: &Office, pin: &str) -> Result<String, Failure> {
    let before = read_pin(office)?;
    fs::write(office.path("pin"), pin).doing("write the PIN file")?;
    Ok(before)
}

fn read_pin(office: &Office) -> Result<String, Failure> {
    fs::read_to_string(office.path("pin")).doing("read the PIN file")
}

/// The changes of the token in the audit log, from what to what.
fn states(office: &Office) -> Result<Vec<String>, Failure> {
    let mut changes = Vec::new();
    for entry in office.audit_records()? {
        if let ("token_state", Some(before), Some(state)) = (
            entry["event"].as_str().unwrap_or_default(),
            entry["before"].as_str(),
            entry["state"].as_str(),
        ) {
            changes.push(format!("{before} {state}"));
        }
    }
    Ok(changes)
}

/// How often a wrong PIN was tried.
fn wrong(shim: &Shim) -> Result<usize, Failure> {
    shim.count("C_Login", CKR_PIN_INCORRECT)
}

/// How often any PIN was tried.
fn logins(shim: &Shim) -> Result<usize, Failure> {
    Ok(shim.outcomes("C_Login")?.values().sum())
}
