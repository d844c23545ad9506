//! `chanceryd token probe` tells what a token is, has and signs, and what must be mended.

use std::fs;

use harness::{
    Doing, Failure, Story,
    office::Office,
    process::{Answer, run},
    shim::{
        Action, Fault, Plan, Shim,
        pkcs11::{CKR_PIN_INCORRECT, CKR_SESSION_COUNT},
    },
};
use serde_json::Value;

#[test]
fn a_probe_reads_measures_and_recommends_as_text_and_as_json() -> Story {
    let office = Office::prepare()?;
    office.hold_ceremony()?;
    // Before the first start: there is no state directory yet.
    let told = json(&probe(&office, &["--json", "--seconds", "1"])?.success()?)?;
    assert_eq!(told["schema"], "chancery-token-probe/1");
    assert_eq!(told["token"]["identity"]["label"], "chancery");
    assert_eq!(told["login"]["state"], "accepted");
    assert_eq!(findings_about_the_token(&told), Vec::<&Value>::new());
    let ecdsa = mechanism(&told, "CKM_ECDSA");
    assert_eq!((&ecdsa["used"], &ecdsa["max_key_size"]), (&true.into(), &521.into()));
    assert_eq!(mechanism(&told, "CKM_AES_CBC")["used"], false);
    let keys = told["keys"].as_array().map_or(&[][..], Vec::as_slice);
    assert_eq!(keys.len(), 7, "{keys:#?}");
    assert_eq!(attribute(&keys[0], "CKA_NEVER_EXTRACTABLE"), &Value::Bool(true));
    assert_eq!(attribute(&keys[0], "CKA_EXTRACTABLE"), &Value::Bool(false));
    assert_eq!((&keys[6]["label"], &keys[6]["online"]), (&"issuing/root".into(), &false.into()));
    assert_eq!(told["sessions"]["opened"], 64);
    // A CA's key signs only where there is no other of its kind; the root's never does.
    let rates = told["rates"].as_array().map_or(&[][..], Vec::as_slice);
    let signers: Vec<_> = rates.iter().map(|rate| &rate["key"]).collect();
    assert_eq!(signers, ["raw/firmware", "issuing/ssh-host", "issuing/issuing"]);
    for level in rates.iter().flat_map(|rate| rate["levels"].as_array().into_iter().flatten()) {
        assert!(level["signatures"].as_u64() > Some(0), "{level}");
    }
    let sessions = told["recommendation"]["sessions"].as_u64();
    assert!(sessions <= told["processors"].as_u64() && sessions > Some(0), "{told:#}");
    // The lines are such that the configuration takes them.
    let lines = told["recommendation"]["toml"].as_str().unwrap_or_default();
    paste(&office, lines)?;
    run(&mut office.chanceryd(&["check", "chanceryd.toml"])?)?.success()?;

    let text = probe(&office, &["--seconds", "0"])?.success()?.stdout;
    assert!(!text.contains("ERROR"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    for word in ["issuing/ssh-user (p256)", "CKM_SHA256_RSA_PKCS", "NEVER_EXTRACTABLE"] {
        assert!(text.contains(word), "{text}");
    }
    assert!(!text.contains("Recommendation"), "nothing was measured: {text}");
    Ok(())
}

#[test]
fn a_key_that_can_be_taken_out_of_the_token_is_an_error() -> Story {
    let office = Office::prepare()?;
    office.hold_ceremony()?;
    office.smuggle_key(&["--extractable"])?;
    let answer = probe(&office, &["--json", "--seconds", "1"])?.refused("the probe found")?;
    assert_eq!(answer.status.code(), Some(1), "{}", answer.stderr);
    let told = json(&answer)?;
    for (severity, what) in [
        ("error", "CKA_EXTRACTABLE is true"),
        ("warning", "CKA_DECRYPT is true"),
        ("warning", "CKA_NEVER_EXTRACTABLE is false"),
    ] {
        let found = told["findings"].as_array().into_iter().flatten().any(|finding| {
            let about = (&finding["about"], &finding["severity"], &finding["what"]);
            about == (&"issuing/smuggled".into(), &severity.into(), &what.into())
        });
        assert!(found, "{severity} {what}: {:#}", told["findings"]);
    }
    let text = probe(&office, &["--seconds", "0"])?.refused("ERROR")?.stdout;
    assert!(text.contains("issuing/smuggled: CKA_EXTRACTABLE is true"), "{text}");
    Ok(())
}

#[test]
fn a_wrong_pin_is_tried_once_by_any_number_of_probes() -> Story {
    let (mut office, shim) = Office::open_with_shim()?;
    office.kill();
    fs::write(office.path("pin"), "wrong-pin").doing("write the PIN file")?;
    let before = logins(&shim)?;
    for time in 0..3 {
        let answer = probe(&office, &["--json"])?.refused("the probe found an error")?;
        assert_eq!(answer.status.code(), Some(78), "{}", answer.stderr);
        let told = json(&answer)?;
        let code = told["login"]["code"].as_str().unwrap_or_default();
        assert!(code.starts_with("CKR_PIN_INCORRECT"), "{code}");
        assert_eq!(code.contains(" at 20"), time > 0, "{code}");
        // What needs no login is told all the same.
        assert_eq!(mechanism(&told, "CKM_ECDSA")["used"], true);
    }
    probe(&office, &[])?.refused("chanceryd token unblock")?;
    assert_eq!(logins(&shim)?, before + 1);
    let wrong = shim.outcomes("C_Login")?;
    assert_eq!(wrong.get(&CKR_PIN_INCORRECT.to_string()), Some(&1), "{wrong:?}");
    Ok(())
}

#[test]
fn a_token_with_few_sessions_and_a_module_that_crashes_can_be_probed() -> Story {
    let (mut office, shim) = Office::open_with_shim()?;
    office.kill();
    for (most, slow, recommended) in [(1, 5, 1), (3, 20, 2)] {
        shim.play(Plan { sessions: Some(most), signature_ms: slow, ..Plan::default() })?;
        let told = json(&probe(&office, &["--json", "--seconds", "1"])?.success()?)?;
        assert_eq!(told["sessions"]["opened"], most);
        let refused = told["sessions"]["failure"].as_str().unwrap_or_default();
        assert!(refused.contains("CKR_SESSION_COUNT"), "{refused}");
        assert_eq!(told["recommendation"]["sessions"], recommended, "{told:#}");
    }
    assert!(shim.outcomes("C_OpenSession")?.contains_key(&CKR_SESSION_COUNT.to_string()));
    let crash = vec![Fault::on("C_Sign", Action::Crash)];
    shim.play(Plan { faults: crash, ..Plan::default() })?;
    let answer = probe(&office, &[])?.refused("failed while measuring p256 with 1 at once")?;
    assert_eq!(answer.status.code(), Some(1), "{}", answer.stderr);
    assert!(answer.stderr.contains("(signal: "), "{}", answer.stderr);
    Ok(())
}

fn probe(office: &Office, flags: &[&str]) -> Result<Answer, Failure> {
    let arguments = ["token", "probe", "--config", "chanceryd.toml"];
    run(office.chanceryd(&arguments)?.args(flags))
}

fn json(answer: &Answer) -> Result<Value, Failure> {
    serde_json::from_str(&answer.stdout).doing("read the probe's JSON")
}

/// What this machine's kernel lacks for the sandbox is none of the token's.
fn findings_about_the_token(told: &Value) -> Vec<&Value> {
    let all = told["findings"].as_array().into_iter().flatten();
    all.filter(|finding| finding["about"] != "sandbox").collect()
}

fn mechanism<'a>(told: &'a Value, name: &str) -> &'a Value {
    let all = told["token"]["mechanisms"].as_array().into_iter().flatten();
    all.into_iter().find(|mechanism| mechanism["name"] == name).unwrap_or(&Value::Null)
}

fn attribute<'a>(key: &'a Value, name: &str) -> &'a Value {
    let all = key["told"]["attributes"].as_array().into_iter().flatten();
    all.into_iter().find(|pair| pair[0] == name).map_or(&Value::Null, |pair| &pair[1])
}

/// Puts the lines of a `[token]` table into the configuration's.
fn paste(office: &Office, lines: &str) -> Story {
    let path = office.path("chanceryd.toml");
    let text = fs::read_to_string(&path).doing("read the configuration")?;
    assert!(lines.starts_with("[token]\n"), "{lines}");
    fs::write(&path, text.replacen("[token]\n", lines, 1)).doing("write the configuration")
}

fn logins(shim: &Shim) -> Result<usize, Failure> {
    Ok(shim.outcomes("C_Login")?.values().sum())
}
