//! Certificates and revocation lists of every template pass pkilint and OpenSSL's strict checks, which
//! are not ours.
//!
//! RFC 5280 and its profile of lists: no finding at all. The Baseline Requirements of the CA/Browser
//! Forum: only what is about CAs that every browser trusts; the table says why each is left out.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "harness/custody.rs"]
mod custody;
#[path = "harness/held.rs"]
mod held;
#[path = "harness/machine.rs"]
mod machine;
#[path = "harness/place.rs"]
mod place;

use std::{fs, path::Path, process::Command};

use serde_json::Value;

use held::Held;
use place::*;

/// What a CA of a company's own is not held to, and why.
const PUBLIC_TRUST: [(&str, &str); 9] = [
    ("cabf.ca_certificate_no_digital_signature_bit", "the CA signs no OCSP answers itself"),
    ("cabf.internal_domain_name", "example.test is reserved for tests (RFC 2606)"),
    ("cabf.serverauth.ca.authority_info_access_extension_absent", "where the root is, hosts know"),
    ("cabf.serverauth.ca.certificate_policies_extension_absent", "browsers' policies, not ours"),
    ("cabf.serverauth.ca.country_attribute_absent", "the subject is in the plan: add C= there"),
    ("cabf.serverauth.ca.extended_key_usage_extension_absent", "one CA serves hosts and people"),
    (
        "cabf.serverauth.root.authority_key_identifier_extension_absent",
        "a root needs none (RFC 5280)",
    ),
    ("cabf.serverauth.root_basic_constraints_pathlenconstraint_present", "how deep is ours to say"),
    ("cabf.serverauth.ca.crl_distribution_points_extension_absent", "a root that publishes none"),
];

#[test]
fn certificates_and_lists_of_every_template_pass_pkilint_and_openssl() {
    let place = Place::new();
    // As they are in the ceremony itself, without the mark of a rehearsal.
    let mut transcripts: Vec<(String, String)> = Vec::new();
    for held in Held::all() {
        let plan = manifest(&format!("plans/{}.toml", held.name));
        // With the keys that the plan names, where it takes in nothing of other machines.
        let transcript = if Path::new(&plan).is_file() && is_alone(&plan) {
            let kept = place.text(&format!("{}.jsonl", held.name));
            program(&["rehearse", &plan, "--faithful", "-o", &kept]).ok();
            fs::read_to_string(kept).unwrap()
        } else {
            held.transcript
        };
        transcripts.push((held.name, transcript));
    }
    let mut jobs = Vec::new();
    for (name, transcript) in &transcripts {
        let made = made(&place, name, transcript);
        strictly(&place, name, &made);
        jobs.extend(
            made.iter().flat_map(|made| {
                made.linters.iter().map(|linter| format!("{linter}={}", made.path))
            }),
        );
    }
    let count = |linter: &str| jobs.iter().filter(|job| job.starts_with(linter)).count();
    // The plans of today make so many.
    assert!(count("pkix=") >= 15 && count("crl=") >= 4, "{jobs:#?}");
    let findings = pkilint(&jobs);
    let expected = |linter: &str, code: &str| {
        linter == "cabf" && PUBLIC_TRUST.iter().any(|(known, _)| *known == code)
    };
    let unexpected: Vec<&(String, String, String)> =
        findings.iter().filter(|(linter, _, code)| !expected(linter, code)).collect();
    assert!(unexpected.is_empty(), "{unexpected:#?}");
}

#[test]
fn pkilint_finds_what_is_wrong() {
    let place = Place::new();
    let (key, certificate) = (place.text("key.pem"), place.text("wrong.pem"));
    let arguments = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
    let wrong = ["-nodes", "-subj", "/CN=wrong", "-addext", "keyUsage=keyCertSign"];
    let output = ["-addext", "basicConstraints=CA:FALSE", "-keyout", &key, "-out", &certificate];
    peer("openssl", &[&arguments[..], &wrong, &output].concat(), &[]).ok();
    let findings = pkilint(&[format!("pkix={certificate}")]);
    assert!(!findings.is_empty());
}

/// A certificate or a list of a ceremony.
struct Made {
    /// As DER.
    path: String,
    /// Who judges it: those of another ceremony were judged there.
    linters: &'static [&'static str],
    /// A list, and no certificate.
    is_crl: bool,
}

/// The certificates and lists in a transcript, those of other ceremonies included.
fn made(place: &Place, template: &str, transcript: &str) -> Vec<Made> {
    let mut made = Vec::new();
    for line in transcript.lines() {
        let record: Value = serde_json::from_str(line).unwrap();
        let outcome = &record["data"];
        let kinds: [(&str, &str, &[&str]); 4] = [
            ("certificate-signed", "certificate", &["pkix", "cabf"]),
            ("certificate-used", "certificate", &[]),
            ("certificate-imported", "certificate", &[]),
            ("crl-signed", "crl", &["crl"]),
        ];
        for (kind, field, linters) in kinds {
            let Some(octets) = outcome[kind][field].as_str() else { continue };
            let name = outcome[kind]["name"].as_str().unwrap();
            let path = place.text(&format!("{template}-{name}.{field}"));
            fs::write(&path, hex::decode(octets).unwrap()).unwrap();
            made.push(Made { path, linters, is_crl: field == "crl" });
        }
    }
    made
}

/// OpenSSL takes each certificate below the roots that are there, and each list as one of theirs.
fn strictly(place: &Place, template: &str, made: &[Made]) {
    let (lists, certificates): (Vec<&Made>, Vec<&Made>) = made.iter().partition(|it| it.is_crl);
    let (mut roots, mut all) = (String::new(), String::new());
    for certificate in &certificates {
        let path = Path::new(&certificate.path);
        let pem = peer("openssl", &["x509", "-inform", "DER", "-in"], &[path]).ok();
        let names = ["x509", "-inform", "DER", "-noout", "-subject", "-issuer", "-in"];
        let names = peer("openssl", &names, &[path]).ok().replace("issuer=", "subject=");
        let [subject, issuer] = names.lines().collect::<Vec<_>>()[..] else { panic!("{names}") };
        all += &pem;
        if subject == issuer {
            roots += &pem;
        }
    }
    let roots = place.write(&format!("{template}-roots.pem"), &roots);
    let all = place.write(&format!("{template}-all.pem"), &all);
    for certificate in certificates {
        let strict = ["verify", "-x509_strict", "-check_ss_sig", "-trusted", &roots];
        let strict = [&strict[..], &["-untrusted", &all]].concat();
        peer("openssl", &strict, &[Path::new(&certificate.path)]).ok();
    }
    for list in lists {
        let check = ["crl", "-inform", "DER", "-noout", "-CAfile", &all, "-in", &list.path];
        let said = String::from_utf8(peer("openssl", &check, &[]).0.stderr).unwrap();
        assert_eq!(said.trim(), "verify OK", "{}", list.path);
    }
}

/// What pkilint found: linter, file, code.
fn pkilint(jobs: &[String]) -> Vec<(String, String, String)> {
    let own = Path::new(env!("CARGO_BIN_EXE_chancery-ceremony"));
    let python = own.ancestors().nth(2).unwrap().join("pkilint/bin/python");
    assert!(python.is_file(), "{} is missing: run `make pkilint`", python.display());
    let mut command = Command::new(python);
    let answer =
        Answer::of("pkilint", command.arg(manifest("tests/pkilint/lint.py")).args(jobs)).ok();
    let answer: Vec<(String, String, Vec<Value>)> = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer.len(), jobs.len());
    let flat = answer.into_iter().flat_map(|(linter, path, found)| {
        found.into_iter().map(move |finding| {
            let code = finding["code"].as_str().unwrap().to_owned();
            (linter.clone(), path.clone(), code)
        })
    });
    flat.collect()
}
