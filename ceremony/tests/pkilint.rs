//! Certificates and revocation lists of every template pass pkilint, which is not ours.
//!
//! RFC 5280 and its profile of lists: no finding at all. The Baseline Requirements of the CA/Browser
//! Forum: only what is about CAs that every browser trusts; the table says why each is left out.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "harness/place.rs"]
mod place;

use std::{fs, path::Path, process::Command};

use serde_json::Value;

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
fn certificates_and_lists_of_every_template_pass_pkilint() {
    let place = Place::new();
    let mut jobs = Vec::new();
    for entry in fs::read_dir(manifest("plans")).unwrap() {
        let plan = entry.unwrap().path();
        let template = plan.file_stem().unwrap().to_str().unwrap().to_owned();
        let kept = place.text(&format!("{template}.jsonl"));
        let plan = plan.to_str().unwrap();
        if !is_alone(plan) {
            continue;
        }
        // As they are in the ceremony itself, without the mark of a rehearsal.
        program(&["rehearse", plan, "--faithful", "-o", &kept]).ok();
        jobs.extend(made(&place, &template));
    }
    let count = |linter: &str| jobs.iter().filter(|job| job.starts_with(linter)).count();
    assert!(count("pkix=") >= 5, "{jobs:#?}");
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

/// The certificates and lists in a transcript, as files; the linters for each.
fn made(place: &Place, template: &str) -> Vec<String> {
    let mut jobs = Vec::new();
    for line in place.text_of(&format!("{template}.jsonl")).lines() {
        let record: Value = serde_json::from_str(line).unwrap();
        let outcome = &record["data"];
        for (kind, field, linters) in [
            ("certificate-signed", "certificate", &["pkix", "cabf"][..]),
            ("crl-signed", "crl", &["crl"]),
        ] {
            let Some(octets) = outcome[kind][field].as_str() else { continue };
            let name = outcome[kind]["name"].as_str().unwrap();
            let path = place.text(&format!("{template}-{name}.{field}"));
            fs::write(&path, hex::decode(octets).unwrap()).unwrap();
            jobs.extend(linters.iter().map(|linter| format!("{linter}={path}")));
        }
    }
    jobs
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
