//! The programs for Windows, as `make windows` builds them. Wine runs them: it has the calls of
//! Windows, and neither its access control, its certificate stores nor its smart-card service.

use std::fs;

use harness::{
    Doing, Failure, Story,
    office::Office,
    openssl,
    ports::closed_port,
    process::{Answer, run},
    windows::{chancery, drive, program},
};

#[test]
fn the_programs_say_what_they_can_do_and_what_is_not_on_windows() -> Story {
    for name in ["chancery", "chancery-card"] {
        let said = run(program(name)?.arg("--help"))?.success()?.stdout;
        assert!(said.contains(&format!("Usage: {name}")), "{name}: {said}");
        let version = run(program(name)?.arg("--version"))?.success()?.stdout;
        assert_eq!(version.trim_end(), format!("{name} {}", env!("CARGO_PKG_VERSION")));
        exits(2, run(program(name)?.arg("no-such-command"))?)?;
    }
    let said = run(program("chancery")?.arg("--help"))?.success()?.stdout;
    for (command, there) in [("kdc", true), ("windows", true), ("request", true), ("ssh", false)] {
        let listed = said.lines().any(|line| line.split_whitespace().next() == Some(command));
        assert_eq!(listed, there, "{command}: {said}");
    }
    for words in [&["ssh", "web1"][..], &["bot", "run"], &["host", "run"]] {
        let answer = run(program("chancery")?.args(words))?;
        let answer = answer.refused("it works on Linux")?;
        exits(2, answer)?;
    }
    Ok(())
}

#[test]
fn an_error_says_what_to_do() -> Story {
    let directory = tempfile::tempdir().doing("make a directory")?;
    // Wine gives each story the same %APPDATA%, whatever the environment says.
    let profiles = directory.path().join("config.toml");
    fs::write(&profiles, "").doing("write no profile")?;
    let here = || -> Result<_, Failure> {
        let mut command = program("chancery")?;
        command.current_dir(directory.path()).arg("--config").arg(drive(&profiles)?);
        Ok(command)
    };
    let answer = run(here()?.arg("ca"))?.refused("hint: write a profile with")?;
    exits(2, answer)?;
    let (_held, port) = closed_port()?;
    let server = format!("https://127.0.0.1:{port}");
    let words = ["ca", "--ca", "no.pem", "--cert", "no.pem", "--cert-key", "no.key", "--server"];
    let answer = run(here()?.args(words).arg(&server))?;
    exits(2, answer.refused("cannot read no.pem")?)?;

    let ca = openssl::Ca::new(directory.path().join("ca"), "nobody's")?;
    let own = ca.certify("alice", "extendedKeyUsage=clientAuth\n", None)?;
    let mut ask = here()?;
    ask.arg("ca").arg("--server").arg(&server).args(["--deadline", "1s"]);
    ask.arg("--ca").arg(drive(&ca.certificate())?).arg("--cert").arg(drive(&own.certificate)?);
    let answer = run(ask.arg("--cert-key").arg(drive(&own.key)?))?;
    exits(3, answer.refused("cannot reach https://127.0.0.1")?)?;

    // What there is of a smart-card service in Wine fails; the program says so, and does not hang.
    exits(3, run(program("chancery-card")?.arg("list"))?.refused("the smart card service failed")?)
}

#[test]
fn certificates_are_asked_for_from_windows() -> Story {
    let office = Office::open()?;
    let alice = office.enrol("user/alice")?;
    let text = run(&mut chancery(&office, &alice, &["ca"])?)?.success()?.stdout;
    assert_eq!(text, run(&mut office.chancery(&alice, &["ca"])?)?.success()?.stdout);

    openssl::generate("rsa:2048", &office.path("card.key"))?;
    openssl::request(&office.path("card.key"), "/CN=card", &[], &office.path("card.csr"))?;
    let request = ["request", "smartcard", "--role", "card", "--csr", "card.csr", "--upn"];
    let own = [&request[..], &["alice@corp.example.test"]].concat();
    run(&mut chancery(&office, &alice, &own)?)?.success()?;
    let (root, between) = (office.handoff("root.pem"), office.handoff("issuing.pem"));
    openssl::verify(&root, Some(&between), "sslclient", &office.path("card.pem"))?.success()?;
    // Of somebody else: exit code 1, as everywhere, and the certificate stays.
    let before = read(&office, "card.pem")?;
    let others = [&request[..], &["bob@corp.example.test"]].concat();
    let answer = run(&mut chancery(&office, &alice, &others)?)?;
    exits(1, answer.refused("upn-not-allowed")?)?;
    assert_eq!(read(&office, "card.pem")?, before);
    Ok(())
}

#[test]
fn a_domain_controller_renews_its_certificate_by_a_task() -> Story {
    let office = Office::open()?;
    fs::write(office.path("password"), "of the PFX\r\n").doing("write a password")?;
    let words = ["kdc", "--role", "domain-controller", "--dns", "kdc.corp.example.test"];
    let files = ["--new-key", "dc.key", "--pfx", "dc.pfx", "--pfx-password-file", "password"];
    let task = [&words[..], &files, &["--json", "--renew-if"]].concat();
    for (left, renewed) in [("1h", true), ("1h", false), ("48h", true)] {
        let all = [&task[..], &[left]].concat();
        let answer = run(&mut chancery(&office, office.operator(), &all)?)?.success()?;
        assert!(answer.stdout.contains(&format!("\"renewed\":{renewed}")), "{}", answer.stdout);
    }
    let (root, own) = (office.handoff("root.pem"), office.path("dc.pem"));
    openssl::verify(&root, Some(&own), "sslserver", &own)?.success()?;
    let mut bundle = openssl::openssl()?;
    bundle
        .args(["pkcs12", "-nodes", "-passin", "pass:of the PFX", "-in"])
        .arg(office.path("dc.pfx"));
    let bundle = run(&mut bundle)?.success()?.stdout;
    let key = read(&office, "dc.key")?;
    assert!(bundle.contains(key.trim_end()), "{bundle}");
    Ok(())
}

#[test]
fn windows_makes_a_key_a_profile_and_the_script_for_a_domain() -> Story {
    let office = Office::open()?;
    let mut make = program("chancery")?;
    make.current_dir(office.path("")).args(["csr", "--new-key", "own.key"]);
    run(&mut make)?.success()?;
    let mut check = openssl::openssl()?;
    run(check.args(["req", "-verify", "-noout", "-in"]).arg(office.path("own.csr")))?.success()?;

    let profiles = drive(&office.path("profiles.toml"))?;
    let mut add = chancery(&office, office.operator(), &["profile", "add", "office"])?;
    run(add.arg("--config").arg(&profiles))?.success()?;
    let mut script = program("chancery")?;
    script.args(["windows", "bootstrap", "--authority", "issuing", "--config"]).arg(&profiles);
    let script = run(&mut script)?.success()?.stdout;
    let words = ["windows", "bootstrap", "--authority", "issuing"];
    let here = run(&mut office.chancery(office.operator(), &words)?)?.success()?.stdout;
    assert_eq!(script, here);
    Ok(())
}

fn exits(code: i32, answer: Answer) -> Story {
    match answer.status.code() == Some(code) {
        true => Ok(()),
        false => {
            let what = format!("{}: {} and not {code}", answer.command, answer.status);
            Err(Failure::new(what).said(answer.output()))
        }
    }
}

fn read(office: &Office, name: &str) -> Result<String, Failure> {
    fs::read_to_string(office.path(name)).doing(format_args!("read {name}"))
}
