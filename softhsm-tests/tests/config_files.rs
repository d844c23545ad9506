//! `chanceryd check` reads the whole configuration as `serve` does, and says what to mend.

use std::fs;

use harness::{Doing, Failure, Story, office::Office, process::run};

#[test]
fn check_accepts_what_the_ceremony_made_and_names_each_mistake() -> Story {
    let office = Office::prepare()?;
    check(&office, &[])?.refused("handoff")?;
    office.hold_ceremony()?;
    check(&office, &[])?.success()?;

    for (file, right, wrong, said) in [
        ("chanceryd.toml", "[listen]", "lissen = 1\n[listen]", "lissen"),
        ("chanceryd.toml", "issuer = \"services\"", "issuer = \"servants\"", "servants"),
        ("chanceryd.toml", "[publication.issuing]", "[publication.nobody]", "nobody"),
        ("chanceryd.toml", "rules = \"rules\"", "rules = \"ruins\"", "ruins"),
        ("chanceryd.toml", "label = \"chancery\"", "label = \"other\"", "token.label"),
        ("chanceryd.toml", "trust_domain = \"example.test\"", "", "trust_domain"),
        ("rules/roles.toml", "max_ttl = \"16h\"", "", "max_ttl"),
        ("rules/roles.toml", "issuer = \"ssh-user\"", "issuer = \"ssh-host\"", "ssh-host"),
        ("rules/roles.toml", "principals = [\"{name}\"]", "principals = [\"*\"]", "*"),
        ("rules/roles.toml", "keys = [\"firmware\"]", "keys = [\"services\"]", "services"),
        ("rules/accounts.toml", "-1104", "-500", "SID"),
        ("handoff/handoff.toml", "usage = \"user\"", "usage = \"any\"", "usage"),
    ] {
        with_mistake(&office, file, right, wrong, || {
            let answer = check(&office, &[])?.refused(said)?;
            assert!(answer.stderr.starts_with("error: "), "{wrong}: {}", answer.stderr);
            Ok(())
        })?;
    }
    check(&office, &[])?.success()?;
    Ok(())
}

#[test]
fn flags_win_over_the_file() -> Story {
    let office = Office::prepare()?;
    office.hold_ceremony()?;
    check(&office, &["--token-label", "other"])?.refused("token.label")?;
    with_mistake(&office, "chanceryd.toml", "pin_file = \"pin\"\n", "", || {
        check(&office, &[])?.refused("pin_file")?;
        check(&office, &["--pin-file", "pin"])?.success().map(drop)
    })
}

fn check(office: &Office, flags: &[&str]) -> Result<harness::process::Answer, Failure> {
    run(office.chanceryd(&["check", "chanceryd.toml"])?.args(flags))
}

/// Does `story` while a file of the office says `wrong` where it said `right`.
fn with_mistake(
    office: &Office,
    file: &str,
    right: &str,
    wrong: &str,
    story: impl FnOnce() -> Story,
) -> Story {
    let path = office.path(file);
    let text = fs::read_to_string(&path).doing(format_args!("read {file}"))?;
    assert!(text.contains(right), "{file} does not say {right:?}");
    fs::write(&path, text.replacen(right, wrong, 1)).doing(format_args!("write {file}"))?;
    let outcome = story();
    fs::write(&path, text).doing(format_args!("write {file}"))?;
    outcome.map_err(|failure| failure.hint(format!("{file} said {wrong:?} for {right:?}")))
}
