//! Hierarchies over several machines and several ceremonies: an offline root, issuing CAs below it,
//! its revocation lists, cross-certificates, its successor; by the plans that come with the program.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "harness/machine.rs"]
mod machine;
#[path = "harness/place.rs"]
mod place;

use std::fs;

use ceremony::verify::Verified;
use pki::handoff::Handoff;
use serde_json::Value;

use machine::Machine;
use place::*;

#[test]
fn an_issuing_ca_on_another_machine_gets_its_certificate_from_an_offline_root() {
    let (root, issuing) = (Machine::with_root(), Machine::new());
    issuing.take(&root, "offline-root/root.pem", "root.pem");
    issuing.plan("issuing");

    // The request goes out; the ceremony waits for the certificate.
    issuing.perform("issuing").refused(1, "has not come back");
    let waiting = issuing.place.about(&["status"]).ok();
    assert!(waiting.contains(" next   6  take in the certificate issuing"), "{waiting}");
    root.take(&issuing, "exchange/issuing.csr", "issuing.csr");
    peer("openssl", &["req", "-verify", "-noout", "-in"], &[&root.path("issuing.csr")]).ok();
    root.plan("issue-intermediate");
    root.perform("issue-intermediate").ok();
    root.verified("issue-intermediate");

    // It comes back, and everything fits.
    issuing.take(&root, "issue-intermediate/issuing.pem", "exchange/issuing.pem");
    issuing.go_on().ok();
    issuing.kept("issuing");
    issuing.verified("issuing");
    let handoff = Handoff::read(&issuing.path("issuing")).unwrap();
    assert_eq!(handoff.x509.keys().collect::<Vec<_>>(), ["issuing"]);
    assert_eq!(handoff.x509["issuing"].chain, ["issuing.pem", "root.pem"]);
    assert!(handoff.x509["issuing"].online);
    let (anchor, list) = (root.path("offline-root/root.pem"), root.crl("offline-root"));
    let strict = ["verify", "-x509_strict", "-crl_check", "-CRLfile", &list, "-CAfile"];
    peer("openssl", &strict, &[&anchor, &issuing.path("issuing/issuing.pem")]).ok();
}

#[test]
fn what_comes_back_is_taken_only_if_it_is_what_was_asked_for() {
    let (root, issuing) = (Machine::with_root(), Machine::new());
    issuing.take(&root, "offline-root/root.pem", "root.pem");
    issuing.plan("issuing");
    issuing.perform("issuing").refused(1, "has not come back");
    root.take(&issuing, "exchange/issuing.csr", "issuing.csr");

    let wrong = [
        ("validity", "2036-01-01T00:00:00Z", "2035-01-01T00:00:00Z", "it ends at another time"),
        ("length", "path_length = 0", "path_length = 1", "it has another path length"),
    ];
    for (name, from, to, said) in wrong {
        root.plan_with("issue-intermediate", &[(from, to)]);
        root.perform("issue-intermediate").ok();
        root.rename("issue-intermediate", name);
        issuing.take(&root, &format!("{name}/issuing.pem"), "exchange/issuing.pem");
        issuing.go_on().refused(3, said);
        issuing.forget("exchange/issuing.pem");
    }
    // By another root of the same name.
    let impostor = Machine::with_root();
    impostor.take(&issuing, "exchange/issuing.csr", "issuing.csr");
    impostor.plan("issue-intermediate");
    impostor.perform("issue-intermediate").ok();
    issuing.take(&impostor, "issue-intermediate/issuing.pem", "exchange/issuing.pem");
    issuing.go_on().refused(3, "its signature does not verify");
    issuing.forget("exchange/issuing.pem");
    // Somebody else's certificate, and what is none.
    issuing.take(&root, "offline-root/root.pem", "exchange/issuing.pem");
    issuing.go_on().refused(3, "it is for another key");
    fs::write(issuing.path("exchange/issuing.pem"), "no certificate").unwrap();
    issuing.go_on().refused(3, "is not the certificate that was asked for");
    issuing.forget("exchange/issuing.pem");
    // A request that was changed meanwhile is not overwritten.
    fs::write(issuing.path("exchange/issuing.csr"), "another").unwrap();
    issuing.go_on().refused(3, "the request");
    assert!(!issuing.path("handoff").exists());
}

#[test]
fn an_offline_root_revokes_and_its_lists_grow() {
    let (root, issuing) = (Machine::with_root(), Machine::new());
    issuing.take(&root, "offline-root/root.pem", "root.pem");
    issuing.plan("issuing");
    issuing.perform("issuing").refused(1, "has not come back");
    root.take(&issuing, "exchange/issuing.csr", "issuing.csr");
    root.plan("issue-intermediate");
    root.perform("issue-intermediate").ok();

    let certificate = root.path("issue-intermediate/issuing.pem");
    let serial = peer("openssl", &["x509", "-noout", "-serial", "-in"], &[&certificate]).ok();
    let serial = serial.trim().trim_start_matches("serial=").to_lowercase();
    fs::copy(root.path("offline-root/root.crl"), root.path("root.crl")).unwrap();
    root.plan_with("root-crl", &[(&"5a".repeat(16), &serial)]);
    root.perform("root-crl").ok();
    root.verified("root-crl");

    let anchor = root.path("offline-root/root.pem");
    let (first, second) = (root.crl("offline-root"), root.crl("root-crl"));
    let check = |list: &str| {
        let strict = ["verify", "-x509_strict", "-crl_check", "-CRLfile", list, "-CAfile"];
        peer("openssl", &strict, &[&anchor, &certificate])
    };
    check(&first).ok();
    let said = check(&second).failed();
    assert!(said.contains("certificate revoked"), "{said}");
    let shown = peer("openssl", &["crl", "-noout", "-text", "-in", &second], &[]).ok();
    assert!(
        shown.contains("CA Compromise")
            && shown.contains("X509v3 CRL Number: \n                2\n"),
        "{shown}"
    );

    // The third must be after the second, and still say what was said.
    fs::copy(root.path("root-crl/root.crl"), root.path("root.crl")).unwrap();
    let serial = serial.as_str();
    root.refused_plan("root-crl", &[(&"5a".repeat(16), serial)], "crl-number-grows");
    let forgotten = [("number = 2", "number = 3")];
    root.refused_plan("root-crl", &forgotten, "crl-keeps-what-was-revoked");
    let other = Machine::with_root();
    root.take(&other, "offline-root/root.crl", "root.crl");
    root.refused_plan("root-crl", &[], "crl-previous");
}

#[test]
fn a_root_certifies_another_root_and_a_root_its_successor() {
    let (root, partner) = (Machine::with_root(), Machine::new());
    partner.plan_with("offline-root", &[("Offline Root", "Partner Root")]);
    partner.perform("offline-root").ok();
    root.take(&partner, "offline-root/root.pem", "partner.pem");
    root.plan("cross");
    root.perform("cross").ok();
    root.verified("cross");

    // A certificate that the partner's root signed is taken by whoever trusts this one.
    let below = Machine::new();
    below.take(&partner, "offline-root/root.pem", "root.pem");
    below.plan("issuing");
    below.perform("issuing").refused(1, "has not come back");
    partner.take(&below, "exchange/issuing.csr", "issuing.csr");
    partner.plan("issue-intermediate");
    partner.perform("issue-intermediate").ok();
    let (anchor, cross) =
        (root.path("offline-root/root.pem"), root.text("cross/partner-cross.pem"));
    let leaf = partner.path("issue-intermediate/issuing.pem");
    let strict = ["verify", "-x509_strict", "-untrusted", &cross, "-CAfile"];
    peer("openssl", &strict, &[&anchor, &leaf]).ok();
    peer("openssl", &["verify", "-x509_strict", "-CAfile"], &[&anchor, &leaf]).failed();

    root.plan("roll-over");
    root.perform("roll-over").ok();
    root.verified("roll-over");
    let (old, new) = (root.path("offline-root/root.pem"), root.path("roll-over/root-g2.pem"));
    for (anchor, cross) in [(&old, "new-with-old"), (&new, "old-with-new")] {
        let cross = root.path(&format!("roll-over/{cross}.pem"));
        peer("openssl", &["verify", "-x509_strict", "-CAfile"], &[anchor, &cross]).ok();
    }
    let list = root.crl("roll-over");
    peer("openssl", &["crl", "-noout", "-CAfile"], &[&new]).failed();
    let shown = peer("openssl", &["crl", "-noout", "-in", &list, "-CAfile"], &[&new]).ok();
    assert!(shown.is_empty(), "{shown}");
}

#[test]
fn smart_cards_and_ssh_have_plans_of_their_own() {
    let machine = Machine::new();
    machine.plan("smart-cards");
    machine.perform("smart-cards").ok();
    machine.verified("smart-cards");
    let handoff = Handoff::read(&machine.path("smart-cards")).unwrap();
    let (list, template) = handoff.crl(&machine.path("smart-cards"), "root").unwrap();
    assert_eq!((template.number, template.revoked.len()), (1, 0));
    assert_eq!(list, fs::read(machine.path("smart-cards/root.crl")).unwrap());
    let (anchor, list) = (machine.path("smart-cards/root.pem"), machine.crl("smart-cards"));
    let leaf = machine.path("smart-cards/smart-cards.pem");
    let strict = ["verify", "-x509_strict", "-crl_check_all", "-CRLfile", &list, "-CAfile"];
    peer("openssl", &strict, &[&anchor, &leaf]).ok();
    let shown = peer("openssl", &["x509", "-noout", "-text", "-in"], &[&leaf]).ok();
    assert!(shown.contains("sha256WithRSAEncryption"), "{shown}");
    assert!(shown.contains("URI:http://pki.example.test/crl/root.crl"), "{shown}");

    // A list that is not the root's is not handed to an appliance.
    fs::write(machine.path("smart-cards/root.crl"), b"no list").unwrap();
    let error = Handoff::read(&machine.path("smart-cards")).unwrap_err().to_string();
    assert!(error.contains("no revocation list that root.pem signed"), "{error}");

    let machine = Machine::new();
    machine.plan("ssh");
    machine.perform("ssh").ok();
    machine.verified("ssh");
    let handoff = Handoff::read(&machine.path("ssh")).unwrap();
    assert_eq!(handoff.ssh.keys().collect::<Vec<_>>(), ["ssh-host", "ssh-user"]);
    for name in ["ssh-user", "ssh-host"] {
        let key = machine.path(&format!("ssh/{name}.pub"));
        peer("ssh-keygen", &["-l", "-f"], &[&key]).ok();
    }
}

/// The other tests take small keys.
#[test]
fn a_plan_is_rehearsed_with_the_keys_that_it_names() {
    for name in ["offline-root", "smart-cards", "ssh"] {
        program(&["rehearse", &manifest(&format!("plans/{name}.toml"))]).ok();
    }
}

#[test]
fn nobody_can_use_what_was_signed_in_a_rehearsal() {
    let machine = Machine::new();
    machine.plan("offline-root");
    let plan = machine.text("offline-root.toml");
    let rehearse = |flags: &[&str]| {
        let kept = machine.text("rehearsal.jsonl");
        program(&[&["rehearse", &plan, "-o", &kept], flags].concat()).ok();
        let root = certificate_of(&fs::read_to_string(&kept).unwrap());
        fs::remove_file(&kept).unwrap();
        let der = machine.path("root.der");
        fs::write(&der, root).unwrap();
        let pem = machine.path("rehearsed.pem");
        peer("openssl", &["x509", "-inform", "DER", "-in"], &[&der, "-out".as_ref(), &pem]).ok();
        let shown = peer("openssl", &["x509", "-noout", "-text", "-in"], &[&pem]).ok();
        let verified = peer("openssl", &["verify", "-CAfile"], &[&pem, &pem]);
        (shown, verified)
    };
    let (shown, verified) = rehearse(&[]);
    assert!(shown.contains("CT Precertificate Poison: critical"), "{shown}");
    let said = verified.failed();
    assert!(said.contains("unhandled critical extension"), "{said}");

    let (shown, verified) = rehearse(&["--faithful"]);
    assert!(!shown.contains("Poison"), "{shown}");
    verified.ok();
}

#[test]
fn a_transcript_says_whether_what_it_signed_is_marked() {
    let machine = Machine::new();
    machine.plan("offline-root");
    let plan = machine.text("offline-root.toml");
    let kept = machine.text("rehearsal.jsonl");
    program(&["rehearse", &plan, "-o", &kept]).ok();
    let marked = fs::read_to_string(&kept).unwrap();
    fs::remove_file(&kept).unwrap();
    program(&["rehearse", &plan, "-o", &kept, "--faithful"]).ok();
    let faithful = fs::read_to_string(&kept).unwrap();
    // Written anew, with a chain that fits, so that one looks like the other.
    let forge = |text: &str, change: Change| {
        let mut records: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        records.pop();
        change(&mut records);
        Verified::from_bytes(rechained(records).as_bytes())
    };
    let table: [(&str, Change, &str); 3] = [
        (&marked, &|records| records[0]["data"]["faithful"] = true.into(), "as the plan gives it"),
        (
            &faithful,
            &|records| {
                records[0]["data"].as_object_mut().unwrap().remove("faithful").unwrap();
            },
            "as the plan gives it",
        ),
        (
            &marked,
            &|records| {
                records[0]["data"]["attendance"] = "unattended".into();
                records[0]["data"]["software_token"] = "a test".into();
            },
            "as the plan gives it",
        ),
    ];
    for (text, change, said) in table {
        assert!(forge(text, &|_| {}).is_ok());
        let error = forge(text, change).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
}

/// The first certificate (DER) of a transcript.
fn certificate_of(transcript: &str) -> Vec<u8> {
    let records = transcript.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut signed = records
        .filter_map(|it| it["data"]["certificate-signed"]["certificate"].as_str().map(hex::decode));
    signed.next().unwrap().unwrap()
}
