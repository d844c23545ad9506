//! What a domain gets from the appliance: the certificate of its KDC, and the script that makes
//! Windows trust it.

use std::{fs, path::Path};

use harness::{
    Doing, Failure, Story,
    https::Identity as Caller,
    kdc::{Identity, Kdc, Realm},
    office::Office,
    openssl,
    process::{Answer, run},
};
use serde_json::Value;

const DOMAIN: &str = "corp.example.test";
const REALM: &str = "CORP.EXAMPLE.TEST";
const NAME: &str = "kdc.corp.example.test";
const PASSWORD: &str = "correct horse battery staple";

#[test]
fn a_kdc_with_a_certificate_of_the_command_gives_tickets() -> Story {
    let office = Office::open()?;
    let said = ask(&office, NAME, &PFX)?.success()?.stdout;
    assert!(said.contains("Import-PfxCertificate -FilePath kdc.pfx"), "{said}");

    let (root, own) = (office.handoff("root.pem"), office.path("kdc.pem"));
    // id-pkinit-KPKdc is none of OpenSSL's purposes; LDAP over TLS is.
    openssl::verify(&root, Some(&own), "sslserver", &own)?.success()?;
    let text = openssl(&office, &["x509", "-noout", "-text", "-in", "kdc.pem"])?;
    for mark in ["Signing KDC Response", "Public-Key: (2048 bit)", &format!("DNS:{NAME}")] {
        assert!(text.contains(mark), "{mark}: {text}");
    }
    // What Windows imports: the same key, and the certificate with the CA that it is under.
    let password = format!("pass:{PASSWORD}");
    let read = ["pkcs12", "-nodes", "-passin", &password, "-in", "kdc.pfx"];
    let bundle = openssl(&office, &read)?;
    assert!(bundle.contains(&format!("friendlyName: {NAME}")), "{bundle}");
    assert_eq!(bundle.matches("BEGIN CERTIFICATE").count(), 2, "{bundle}");
    for file in ["kdc.key", "kdc.pem"] {
        let pem = read_file(&office, file)?;
        let first = &pem[..pem.find("-----END").unwrap_or_default()];
        assert!(bundle.contains(first), "{file}: {bundle}");
    }

    let alice = office.enrol("user/alice")?;
    let realm = realm(&office)?;
    fs::create_dir(office.path("kdc")).doing("make a directory")?;
    let kdc = Kdc::start(&office.path("kdc"), &realm)?;
    logs_on(&office, &kdc, &alice)?;

    // The same as a scheduled task has it: the KDC goes on with the next one.
    let serial = serial(&office)?;
    let renewed = json(ask(&office, NAME, &[&PFX[..], &["--renew-if", "48h"]].concat())?)?;
    assert_eq!(renewed["renewed"], true);
    assert_ne!(self::serial(&office)?, serial);
    logs_on(&office, &kdc.restart(&realm)?, &alice)
}

#[test]
fn a_certificate_is_asked_for_when_it_is_due_and_not_before() -> Story {
    let office = Office::open()?;
    let task = [&PFX[..], &["--renew-if", "1h"]].concat();
    let run = || json(ask(&office, NAME, &task)?);
    assert_eq!(run()?["renewed"], true);
    let (key, serial) = (read_file(&office, "kdc.key")?, serial(&office)?);
    let idle = run()?;
    assert_eq!((&idle["renewed"], &idle["file"]), (&false.into(), &"kdc.pem".into()));
    assert_eq!(self::serial(&office)?, serial);

    // Whatever is missing or is not what was asked for is made again, with the same key.
    let mut last = serial;
    let mut due = |what: &str| -> Story {
        assert_eq!(run()?["renewed"], true, "{what}");
        let serial = self::serial(&office)?;
        assert_ne!(std::mem::replace(&mut last, serial), last, "{what}");
        assert_eq!(run()?["renewed"], false, "{what}");
        Ok(())
    };
    remove(&office, "kdc.pfx")?;
    due("no PFX")?;
    write(&office, "kdc.pem", "half a certific")?;
    due("half a file")?;
    let other = read_file(&office, "handoff/issuing.pem")?;
    write(&office, "kdc.pem", &other)?;
    due("the certificate of somebody else")?;
    assert_eq!(read_file(&office, "kdc.key")?, key);
    remove(&office, "kdc.key")?;
    due("no key")?;
    assert_ne!(read_file(&office, "kdc.key")?, key);
    // Of another name, which the role does not have: nothing is lost.
    let before = read_file(&office, "kdc.pem")?;
    ask(&office, "dc2.corp.example.test", &task)?.refused("dns-name-not-allowed")?;
    assert_eq!(read_file(&office, "kdc.pem")?, before);
    Ok(())
}

#[test]
fn a_controller_that_made_its_key_itself_shows_its_request() -> Story {
    let office = Office::open()?;
    openssl::generate("rsa:2048", &office.path("dc.key"))?;
    openssl::request(&office.path("dc.key"), "/CN=ignored", &[], &office.path("dc.req"))?;
    // As certreq has it.
    let request = read_file(&office, "dc.req")?;
    let windows = request.replace("CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST");
    write(&office, "dc.req", &windows.replace('\n', "\r\n"))?;
    let words = ["--csr", "dc.req", "--out", "dc.cer", "--no-chain"];
    let said = ask(&office, NAME, &words)?.success()?.stdout;
    assert!(said.contains("certreq -accept -machine dc.cer"), "{said}");
    let cer = read_file(&office, "dc.cer")?;
    assert_eq!(cer.matches("BEGIN CERTIFICATE").count(), 1, "{cer}");
    let certified = openssl(&office, &["x509", "-noout", "-pubkey", "-in", "dc.cer"])?;
    assert_eq!(certified, openssl::public_half(&office.path("dc.key"))?);
    // Due or not is told from the request's key.
    let again = [&words[..], &["--renew-if", "1h"]].concat();
    assert_eq!(json(ask(&office, NAME, &again)?)?["renewed"], false);
    openssl::generate("rsa:2048", &office.path("dc.key"))?;
    openssl::request(&office.path("dc.key"), "/CN=ignored", &[], &office.path("dc.req"))?;
    assert_eq!(json(ask(&office, NAME, &again)?)?["renewed"], true);
    Ok(())
}

#[test]
fn nothing_is_asked_for_where_a_file_is_not_what_it_must_be() -> Story {
    let office = Office::open()?;
    let count = || -> Result<usize, Failure> {
        let listed = run(&mut office.chancery(office.operator(), &["list", "--kind", "kdc"])?)?;
        Ok(listed.success()?.stdout.lines().count())
    };
    let before = count()?;
    let key = ["--new-key", "kdc.key"];
    let task = [&key[..], &["--renew-if", "1h"]].concat();
    openssl::generate("ec:P-256", &office.path("kdc.key"))?;
    ask(&office, NAME, &key)?.refused("a key is never overwritten")?;
    ask(&office, NAME, &task)?.refused("no RSA key")?;
    openssl::generate("rsa:2048", &office.path("kdc.key"))?;
    mode(&office.path("kdc.key"), 0o644)?;
    ask(&office, NAME, &task)?.refused("chmod 600 kdc.key")?;
    remove(&office, "kdc.key")?;
    // A password that readers would not agree on.
    write(&office, "pfx.password", "p\u{e4}ssword\n")?;
    mode(&office.path("pfx.password"), 0o600)?;
    let pfx = [&key[..], &["--pfx", "kdc.pfx", "--pfx-password-file", "pfx.password"]].concat();
    run(&mut command(&office, NAME, &pfx)?)?.refused("printable ASCII")?;
    // The names are the role's to give; a refusal leaves no file that the next try trips over.
    ask(&office, "www.example.test", &key)?.refused("dns-name-not-allowed")?;
    assert_eq!(count()?, before);
    assert!(!office.path("kdc.key").exists());
    ask(&office, NAME, &key)?.success()?;
    Ok(())
}

#[test]
fn the_script_for_windows_has_the_appliances_own_authorities() -> Story {
    let office = Office::open()?;
    let bootstrap = |words: &[&str]| {
        let all = [&["windows", "bootstrap", "--authority"], words].concat();
        run(&mut office.chancery(office.operator(), &all)?)
    };
    let script = bootstrap(&["issuing"])?.success()?.stdout;
    for name in ["root", "issuing"] {
        let der = office.path("der");
        let mut convert = openssl::openssl()?;
        convert
            .args(["x509", "-outform", "DER", "-in"])
            .arg(office.handoff(&format!("{name}.pem")));
        run(convert.arg("-out").arg(&der))?.success()?;
        let mut encode = openssl::openssl()?;
        let base64 = run(encode.args(["base64", "-A", "-in"]).arg(&der))?.success()?.stdout;
        assert!(script.contains(&format!("'{}'", base64.trim_end())), "{name}: {script}");
    }
    assert!(script.contains("$CrlUrl = 'http://pki.example.test/issuing.crl'"), "{script}");
    assert!(!script.contains("$WhatIfPreference"), "{script}");

    let words = ["issuing", "--what-if", "--gpo", "Grün's", "--crl-url", "http://crl.test/a"];
    bootstrap(&[&words[..], &["--out", "bootstrap.ps1"]].concat())?.success()?;
    let script = read_file(&office, "bootstrap.ps1")?;
    for line in [
        "$GpoName = ('Gr' + [char] 0x00FC + 'n''s')\r\n",
        "$CrlUrl = 'http://crl.test/a'\r\n",
        "$WhatIfPreference = $true\r\n",
    ] {
        assert!(script.contains(line), "{line}: {script}");
    }
    bootstrap(&["ssh-user"])?.refused("there are: issuing, services")?;
    Ok(())
}

const PFX: [&str; 6] =
    ["--new-key", "kdc.key", "--pfx", "kdc.pfx", "--pfx-password-file", "kdc.password"];

/// Runs the command as its operator types it; the password is in its file.
fn ask(office: &Office, name: &str, words: &[&str]) -> Result<Answer, Failure> {
    write(office, "kdc.password", &format!("{PASSWORD}\n"))?;
    mode(&office.path("kdc.password"), 0o600)?;
    let json = if words.contains(&"--renew-if") { &["--json"][..] } else { &[] };
    run(&mut command(office, name, &[words, json].concat())?)
}

fn command(office: &Office, name: &str, words: &[&str]) -> Result<std::process::Command, Failure> {
    let all = [&["kdc", "--role", "domain-controller", "--dns", name], words].concat();
    office.chancery(office.operator(), &all)
}

fn json(answer: Answer) -> Result<Value, Failure> {
    serde_json::from_str(&answer.success()?.stdout).doing("read JSON")
}

fn serial(office: &Office) -> Result<String, Failure> {
    openssl(office, &["x509", "-noout", "-serial", "-in", "kdc.pem"])
}

/// Alice gets a ticket, and only for herself.
fn logs_on(office: &Office, kdc: &Kdc, alice: &Caller) -> Story {
    let (key, request) = (office.path("card.key"), office.path("card.csr"));
    openssl::generate("rsa:2048", &key)?;
    openssl::request(&key, "/CN=card", &[], &request)?;
    let upn = format!("alice@{DOMAIN}");
    let words = ["request", "smartcard", "--role", "card", "--csr", "card.csr", "--upn", &upn];
    run(&mut office.chancery(alice, &words)?)?.success()?;
    let certificate = office.path("card.pem");
    let identity = Identity::File { certificate: &certificate, key: &key };
    kdc.kinit(&upn, &identity, None)?.granted(&format!("alice\\@{DOMAIN}@{REALM}"))?;
    kdc.kinit(&format!("bob@{DOMAIN}"), &identity, None)?.refused("Client name mismatch")?;
    Ok(())
}

fn realm(office: &Office) -> Result<Realm, Failure> {
    Ok(Realm {
        name: REALM.to_owned(),
        upn_domain: DOMAIN.to_owned(),
        accounts: vec!["alice".to_owned(), "bob".to_owned()],
        certificate: office.path("kdc.pem"),
        key: office.path("kdc.key"),
        root: office.handoff("root.pem"),
        pool: office.handoff("issuing.pem"),
        crls: None,
    })
}

fn openssl(office: &Office, words: &[&str]) -> Result<String, Failure> {
    let mut command = openssl::openssl()?;
    Ok(run(command.args(words).current_dir(office.path("")))?.success()?.stdout)
}

fn read_file(office: &Office, name: &str) -> Result<String, Failure> {
    fs::read_to_string(office.path(name)).doing(format_args!("read {name}"))
}

fn write(office: &Office, name: &str, text: &str) -> Story {
    fs::write(office.path(name), text).doing(format_args!("write {name}"))
}

fn remove(office: &Office, name: &str) -> Story {
    fs::remove_file(office.path(name)).doing(format_args!("remove {name}"))
}

fn mode(path: &Path, mode: u32) -> Story {
    use std::os::unix::fs::PermissionsExt as _;

    let mode = fs::Permissions::from_mode(mode);
    fs::set_permissions(path, mode).doing(format_args!("protect {}", path.display()))
}
