//! Smart-card certificates of the appliance, judged by a real KDC: kinit by PKINIT.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command, time::Duration};

use harness::{
    Doing, Failure, Story,
    clock::Clock,
    https::Identity as Caller,
    kdc::{Identity, Kdc, Realm},
    logon::{fetch_list, principal, realm, upn},
    office::Office,
    openssl,
    peers::peer,
    process::{run, wait_until},
    readers::Readers,
    softhsm::SoftHsm,
    virtual_card::{self, VirtualCard},
};
use serde_json::{Value, json};

const CARD: &str = "card";
const PIN: &str = "246810";
const SLOT: &str = "01";

#[test]
fn a_card_with_an_rsa_key_gets_a_ticket() -> Story {
    let office = Office::open()?;
    let kdc = kdc(&office)?;
    let alice = office.enrol("user/alice")?;

    let card = SoftHsm::new(&office.path("card"))?;
    card.initialize(CARD, PIN)?;
    card.generate(CARD, PIN, "rsa:2048", SLOT)?;
    let issued = request_card(&office, &alice, "alice", &csr_of_card(&office, &card)?, None)?;
    put_on_card(&office, &card, &issued)?;

    let identity = Identity::Pkcs11 { softhsm: &card, token: CARD, id: SLOT, pin: PIN };
    let upn = upn("alice");
    kdc.kinit(&upn, &identity, None)?.granted(&principal("alice"))?;
    kdc.kinit("bob@corp.example.test", &identity, None)?.refused("Client name mismatch")?;
    Ok(())
}

#[test]
fn a_yubikey_out_of_its_box_gets_a_ticket() -> Story {
    let office = Office::open()?;
    let kdc = kdc(&office)?;
    let alice = office.enrol("user/alice")?;
    let directory = office.path("readers");
    fs::create_dir(&directory).doing("make a directory")?;
    let readers = Readers::start(&directory, &["Yubico YubiKey OTP+FIDO+CCID"])?;
    readers.insert(0, &VirtualCard::new(virtual_card::Kind::YubiKey57, 12_345_678)?)?;
    let card = |arguments: &str| {
        let arguments: Vec<_> = arguments.split(' ').collect();
        let mut command = office.as_caller("chancery-card", &alice, &arguments)?;
        run(readers.lend(&mut command))?.success()
    };
    for (file, secret) in [("alice.pin", PIN), ("alice.puk", "13579135")] {
        write(&office.path(file), secret)?;
        let mode = fs::Permissions::from_mode(0o600);
        fs::set_permissions(office.path(file), mode).doing("close a file")?;
    }

    card("init --from-defaults --pin-file alice.pin --puk-file alice.puk")?;
    let upn = upn("alice");
    card(&format!("enroll --slot 9a --upn {upn} --no-attestation --pin-file alice.pin"))?;
    let identity = Identity::Card { readers: &readers, id: SLOT, pin: PIN };
    kdc.kinit(&upn, &identity, None)?.granted(&principal("alice"))?;
    kdc.kinit("bob@corp.example.test", &identity, None)?.refused("Client name mismatch")?;

    // The same key with another certificate, then another key.
    for renewal in ["", " --new-key rsa2048"] {
        card(&format!("renew --slot 9a --no-attestation --pin-file alice.pin{renewal}"))?;
        kdc.kinit(&upn, &identity, None)?.granted(&principal("alice"))?;
    }
    Ok(())
}

#[test]
fn a_p256_key_in_a_file_gets_a_ticket() -> Story {
    let office = Office::open()?;
    let kdc = kdc(&office)?;
    let bob = office.enrol("user/bob")?;
    let (certificate, key) = card_in_files(&office, &bob, "bob", None)?;
    let identity = Identity::File { certificate: &certificate, key: &key };
    let upn = upn("bob");
    kdc.kinit(&upn, &identity, None)?.granted(&principal("bob"))?;
    Ok(())
}

#[test]
fn the_kdc_refuses_a_certificate_without_a_name_and_an_expired_one() -> Story {
    let office = Office::open()?;
    let kdc = kdc(&office)?;
    let alice = office.enrol("user/alice")?;
    let upn = upn("alice");

    // Of the same root, but for TLS: no UPN, and not for logging on.
    let tls = Identity::File { certificate: &alice.certificate, key: &alice.key };
    kdc.kinit(&upn, &tls, None)?.refused("Inconsistent key purpose")?;

    let (certificate, key) = card_in_files(&office, &alice, "alice", Some(3))?;
    let expired = Identity::File { certificate: &certificate, key: &key };
    wait_until("the end of a certificate of three seconds", Duration::from_secs(20), || {
        let mut check = openssl::openssl()?;
        check.args(["x509", "-noout", "-checkend", "0", "-in"]).arg(&certificate);
        Ok(!run(&mut check)?.status.success())
    })?;
    // The client would not even show it, had it the right time.
    kdc.kinit(&upn, &expired, Some(&Clock::slow_by(60)?))?.refused("Invalid certificate")?;
    Ok(())
}

#[test]
fn the_kdc_refuses_a_revoked_card_once_it_has_read_the_list() -> Story {
    let office = Office::open()?;
    let alice = office.enrol("user/alice")?;
    let upn = upn("alice");
    let principal = principal("alice");
    let list = office.path("issuing.crl.pem");
    fetch_list(&office, &list)?;
    let realm = Realm { crls: Some(list.clone()), ..realm(&office)? };
    fs::create_dir(office.path("kdc")).doing("make a directory")?;
    let kdc = Kdc::start(&office.path("kdc"), &realm)?;
    let (certificate, key) = card_in_files(&office, &alice, "alice", None)?;
    let identity = Identity::File { certificate: &certificate, key: &key };
    kdc.kinit(&upn, &identity, None)?.granted(&principal)?;

    let serial = serial(&certificate)?;
    let operator = office.https(Some(office.operator()))?;
    let body = json!({
        "issuer": "issuing",
        "serial": serial,
        "code": "cessation-of-operation",
        "reason": "the session has ended",
    });
    let revoked = operator.post("/v1/revoke", &body)?.expect_status(200)?.json()?;
    let path = format!("/v1/effects/{}?wait=30", revoked["change"]);
    operator.get(&path)?.expect_status(200)?;
    fetch_list(&office, &list)?;
    // It has read the list when it started, and looks at it never again.
    kdc.kinit(&upn, &identity, None)?.granted(&principal)?;
    let kdc = kdc.restart(&realm)?;
    kdc.kinit(&upn, &identity, None)?.refused("evoked")?;
    // Only this one.
    let (certificate, key) = card_in_files(&office, &alice, "alice", None)?;
    let identity = Identity::File { certificate: &certificate, key: &key };
    kdc.kinit(&upn, &identity, None)?.granted(&principal)?;
    Ok(())
}

#[test]
fn the_appliance_gives_no_card_for_another_account() -> Story {
    let office = Office::open()?;
    let alice = office.enrol("user/alice")?;
    let carol = office.enrol("user/carol")?;
    let (key, request) = (office.path("any.key"), office.path("any.csr"));
    openssl::generate("ec:P-256", &key)?;
    openssl::request(&key, "/CN=any", &[], &request)?;
    let csr = read(&request)?;
    let refused = |caller: &Caller, upn: &str, status| {
        let body = json!({ "role": "card", "csr": csr, "upn": upn });
        let answer = office.https(Some(caller))?.post("/v1/issue/smartcard", &body)?;
        answer.expect_status(status).map(drop)
    };
    refused(&alice, "bob@corp.example.test", 403)?;
    refused(&alice, "alice@other.example.test", 403)?;
    // The role would grant it, but the directory has no SID for carol.
    refused(&carol, "carol@corp.example.test", 403)?;
    refused(&alice, "alice", 400)?;
    refused(&alice, "alice@evil@corp.example.test", 400)
}

fn kdc(office: &Office) -> Result<Kdc, Failure> {
    fs::create_dir(office.path("kdc")).doing("make a directory")?;
    Kdc::start(&office.path("kdc"), &realm(office)?)
}

/// A certificate's serial number, as the appliance writes it.
fn serial(certificate: &Path) -> Result<String, Failure> {
    let mut command = openssl::openssl()?;
    command.args(["x509", "-noout", "-serial", "-in"]).arg(certificate);
    let said = run(&mut command)?.success()?.stdout;
    Ok(said.trim().trim_start_matches("serial=").to_ascii_lowercase())
}

fn card_in_files(
    office: &Office,
    caller: &Caller,
    name: &str,
    ttl: Option<u32>,
) -> Result<(std::path::PathBuf, std::path::PathBuf), Failure> {
    let (key, request) = (office.path("card.key"), office.path("card.csr"));
    openssl::generate("ec:P-256", &key)?;
    openssl::request(&key, "/CN=nobody", &[], &request)?;
    let issued = request_card(office, caller, name, &read(&request)?, ttl)?;
    let certificate = office.path("card.pem");
    write(&certificate, issued["certificate"].as_str().unwrap_or_default())?;
    Ok((certificate, key))
}

fn request_card(
    office: &Office,
    caller: &Caller,
    name: &str,
    csr: &str,
    ttl: Option<u32>,
) -> Result<Value, Failure> {
    let mut body = json!({ "role": "card", "csr": csr, "upn": upn(name) });
    if let Some(ttl) = ttl {
        body["ttl"] = ttl.into();
    }
    office.ask(caller, "/v1/issue/smartcard", &body)
}

/// A request signed by the key in the card: GnuTLS reaches it through PKCS#11.
fn csr_of_card(office: &Office, card: &SoftHsm) -> Result<String, Failure> {
    let (template, request) = (office.path("card.template"), office.path("card.csr"));
    write(&template, "cn = \"whatever\"\nsigning_key\n")?;
    let mut command = Command::new(peer("certtool")?);
    command.args(["--generate-request", "--hash", "SHA256", "--template"]).arg(&template);
    command.arg("--load-privkey").arg(format!("pkcs11:token={CARD};id=%{SLOT};type=private"));
    command.arg("--provider").arg(card.module()).arg("--outfile").arg(&request);
    command.env("GNUTLS_PIN", PIN);
    run(card.lend(&mut command))?.success()?;
    let text = read(&request)?;
    // certtool prints the request in words before the PEM.
    text.find("-----BEGIN")
        .map(|start| text[start..].to_owned())
        .ok_or_else(|| Failure::new("certtool wrote no request").said(text))
}

fn put_on_card(office: &Office, card: &SoftHsm, issued: &Value) -> Story {
    let (pem, der) = (office.path("card.pem"), office.path("card.der"));
    write(&pem, issued["certificate"].as_str().unwrap_or_default())?;
    let mut convert = openssl::openssl()?;
    convert.args(["x509", "-outform", "DER", "-in"]).arg(&pem).arg("-out").arg(&der);
    run(&mut convert)?.success()?;
    let mut command = Command::new(peer("pkcs11-tool")?);
    command.arg("--module").arg(card.module()).args(["--token-label", CARD, "--login"]);
    command.args(["--pin", PIN, "--type", "cert", "--id", SLOT, "--write-object"]).arg(&der);
    run(card.lend(&mut command))?.success().map(drop)
}

fn read(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).doing(format_args!("read {}", path.display()))
}

fn write(path: &Path, text: &str) -> Story {
    fs::write(path, text).doing(format_args!("write {}", path.display()))
}
