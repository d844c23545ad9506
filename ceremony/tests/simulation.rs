//! Plans over several ceremonies are simulated whole: each thing that would go wrong at a step is
//! refused before the first.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "harness/machine.rs"]
mod machine;
#[path = "harness/place.rs"]
mod place;

use std::fs;

use ceremony::plan::{Plan, PlanError};

use machine::Machine;
use place::*;

/// A plan that comes with the program, what is replaced in it, what replaces it, and the rule.
type Case = (&'static str, &'static str, &'static str, &'static str);

#[rustfmt::skip]
const CASES: &[Case] = &[
    // What signs is there.
    ("roll-over", "[[steps]]\ndo = 'generate-key'\nkey = 'root-g2'\n", "", "signing-key-in-token"),
    ("roll-over", "[[steps]]\ndo = 'use-key'\nkey = 'root'\n", "", "signing-key-in-token"),
    ("issue-intermediate", "[[steps]]\ndo = 'use-certificate'\ncertificate = 'root'\n", "", "signer-before-certificate"),
    ("issue-intermediate", "key = 'root'\nexisting", "key = 'boot'\nexisting", "key-before-certificate"),
    ("root-crl", "[[steps]]\ndo = 'use-certificate'\ncertificate = 'root'\n", "", "signer-before-crl"),
    ("cross", "do = 'use-certificate'\ncertificate = 'partner'", "do = 'use-certificate'\ncertificate = 'partners'", "certificate-unknown"),
    ("issuing", "[[steps]]\ndo = 'generate-key'\nkey = 'issuing'\n", "", "signing-key-in-token"),
    // What was asked for comes back, and from another machine.
    ("issuing", "[[steps]]\ndo = 'request-certificate'\ncertificate = 'issuing'\n", "", "request-before-certificate"),
    ("issuing", "[[steps]]\ndo = 'use-certificate'\ncertificate = 'root'\n", "", "import-of-another-machines"),
    ("issuing", "signer = 'root'", "signer = 'issuing'", "signer-before-certificate"),
    ("issue-intermediate", "Issuing A1", "Issuing A2", "subject-of-request"),
    ("issue-intermediate", "request = 'issuing'", "request = 'issue'", "request-unknown"),
    ("issue-intermediate", "[[steps]]\ndo = 'import-request'\nrequest = 'issuing'\n", "", "key-before-certificate"),
    // What is there already, and what is not.
    ("issue-intermediate", "do = 'use-key'", "do = 'generate-key'", "key-to-be-made"),
    ("issue-intermediate", "[[steps]]\ndo = 'use-key'", "[[steps]]\ndo = 'token-init'\n\n[[steps]]\ndo = 'use-key'", "existing-key-in-old-token"),
    ("issue-intermediate", "name = 'root' } }", "name = 'boot' } }", "earlier-ceremony"),
    ("cross", "do = 'sign-certificate'\ncertificate = 'partner-cross'", "do = 'sign-certificate'\ncertificate = 'partner'", "profile-is-a-cas"),
    ("cross", "[certificates.partner]\n", "[certificates.partner]\nkey = 'root'\n", "existing-certificate-of-key"),
    ("cross", "[certificates.partner]\n", "[certificates.partner]\nsigner = 'root'\n", "existing-certificate"),
    ("cross", "[certificates.partner]\n", "[certificates.partner]\nexisting = { transcript = 'offline-root.jsonl', head = '0000000000000000000000000000000000000000000000000000000000000000', name = 'root' }\n", "existing-certificate"),
    // Cross-certificates.
    ("cross", "of = 'partner'", "of = 'nobody'", "cross-certificate-of"),
    ("cross", "of = 'partner'", "of = 'partner-cross'", "cross-certificate-of"),
    ("cross", "of = 'partner'", "of = 'partner'\nkey = 'root'", "cross-certificate-of"),
    ("cross", "path_length = 1\n", "", "cross-needs-of-signer-and-path-length"),
    ("cross", "not_after = 2029", "not_after = 2046", "validity-nesting"),
    ("roll-over", "CN=Example Test Offline Root G2", "CN=Example Test Offline Root", "one-subject-per-ca"),
    ("roll-over", "label = 'issuing/root-g2'", "label = 'issuing/root'", "one-key-per-label"),
    // Revocation lists.
    ("root-crl", "number = 2", "number = 1", "crl-number-grows"),
    ("offline-root", "number = 1", "number = 2", "crl-number-grows"),
    ("offline-root", "number = 1", "number = 0", "crl-number-grows"),
    ("offline-root", "next_update = 2027", "next_update = 2057", "crl-next-update"),
    ("root-crl", "next_update = 2028-01-01T00:00:00Z", "", "crl-whole"),
    ("root-crl", "serial = '5a5a", "serial = '5a", "crl-serials"),
    ("offline-root", "crl = 'root'", "crl = 'boot'", "crl-unknown"),
    ("offline-root", "[[steps]]\ndo = 'sign-crl'\ncrl = 'root'\n", "", "declared-and-not-made"),
    // The end.
    ("offline-root", "[[steps]]\ndo = 'export'\n", "", "ends-logged-out"),
    ("offline-root", "[[steps]]\ndo = 'export'\n", "", "hand-off-last"),
    ("offline-root", "do = 'sign-crl'", "do = 'export'\n\n[[steps]]\ndo = 'sign-crl'", "hand-off-last"),
    ("offline-root", "do = 'sign-certificate'", "do = 'export'\n\n[[steps]]\ndo = 'sign-certificate'", "export-of-something"),
    ("offline-root", "not_after = 2045", "not_after = 2024", "export-after-lints"),
    ("offline-root", "do = 'export'", "do = 'hand-off'", "one-publication-key"),
    ("issuing", "[[steps]]\ndo = 'import-certificate'\ncertificate = 'issuing'\n", "", "issuing-key-has-a-use"),
    // Smart cards.
    ("smart-cards", "smart-cards = { algorithm = 'rsa3072'", "smart-cards = { algorithm = 'p256'", "smart-cards-rsa"),
    ("smart-cards", "root = { algorithm = 'rsa4096'", "root = { algorithm = 'p384'", "smart-cards-rsa"),
    ("smart-cards", "crl_url = 'http://pki.example.test/crl/root.crl'\n", "", "smart-cards-publication"),
];

#[test]
fn a_plan_that_would_go_wrong_is_refused_before_its_first_step() {
    let (root, issuing) = (Machine::with_root(), Machine::new());
    issuing.take(&root, "offline-root/root.pem", "root.pem");
    issuing.plan("issuing");
    issuing.perform("issuing").refused(1, "has not come back");
    root.take(&issuing, "exchange/issuing.csr", "issuing.csr");
    let partner = Machine::new();
    partner.plan_with("offline-root", &[("Offline Root", "Partner Root")]);
    partner.perform("offline-root").ok();
    root.take(&partner, "offline-root/root.pem", "partner.pem");
    root.take(&root, "offline-root/root.pem", "root.pem");
    root.take(&root, "offline-root/root.crl", "root.crl");
    for name in ["cross", "issue-intermediate", "issuing", "offline-root", "roll-over", "root-crl"]
    {
        root.plan(name);
        program(&["plan", &root.text(&format!("{name}.toml"))]).ok();
    }
    let mut missed = Vec::new();
    for (name, from, to, rule) in CASES {
        let (from, to) = (from.replace('\'', "\""), to.replace('\'', "\""));
        root.plan_with(name, &[(&from, &to)]);
        let found = match Plan::read(&root.path(&format!("{name}.toml"))) {
            Err(PlanError::Findings(findings)) => {
                findings.0.iter().map(|finding| finding.rule).collect()
            }
            Err(error) => panic!("{name}, {to}: {error:?}"),
            Ok(_) => Vec::new(),
        };
        if !found.contains(rule) {
            missed.push(format!("{rule} is not among {found:?} of {name} with {to:?}"));
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

#[test]
fn what_a_plan_takes_in_is_bound_by_its_hash() {
    let root = Machine::with_root();
    root.plan("roll-over");
    let plan = root.text("roll-over.toml");
    program(&["plan", &plan]).ok();

    // Another transcript, however good, is not the one.
    let other = Machine::with_root();
    let kept = fs::read(root.path("offline-root.jsonl")).unwrap();
    root.take(&other, "offline-root.jsonl", "offline-root.jsonl");
    program(&["plan", &plan]).refused(3, "earlier-ceremony: the transcript");
    root.forget("offline-root.jsonl");
    program(&["plan", &plan]).refused(3, "earlier-ceremony: the transcript");
    program(&["rehearse", &root.text("offline-root.toml"), "-o", &root.text("offline-root.jsonl")])
        .ok();
    root.plan("roll-over");
    program(&["plan", &plan]).refused(3, "it is of a rehearsal");
    fs::write(root.path("offline-root.jsonl"), kept).unwrap();
    root.plan("roll-over");
    program(&["plan", &plan]).ok();

    let partner = Machine::new();
    partner.plan_with("offline-root", &[("Offline Root", "Partner Root")]);
    partner.perform("offline-root").ok();
    root.take(&partner, "offline-root/root.pem", "partner.pem");
    root.plan("cross");
    let plan = root.text("cross.toml");
    program(&["plan", &plan]).ok();
    root.take(&root, "offline-root/root.pem", "partner.pem");
    program(&["plan", &plan]).refused(3, "input-hash: ");
    root.forget("partner.pem");
    program(&["plan", &plan]).refused(3, "input-readable: ");

    // A request that somebody else changed proves nothing.
    root.take(&root, "offline-root/root.pem", "issuing.csr");
    root.refused_plan("issue-intermediate", &[], "request-proof");
    // Nor is a plan performed without the key that it names.
    let empty = Machine::new();
    empty.place.initialize_token();
    let crl = root.text("offline-root/root.crl");
    fs::copy(crl, root.path("root.crl")).unwrap();
    root.plan("root-crl");
    let plan = root.text("root-crl.toml");
    empty.place.run(&plan, &["--unattended"]).refused(4, "issuing/root is not in the token");
    assert!(!empty.path("transcript.jsonl").exists());
    // Nor one that speaks with another machine without a place for it.
    empty.take(&root, "offline-root/root.pem", "root.pem");
    empty.plan("issuing");
    empty
        .place
        .run(&empty.text("issuing.toml"), &["--unattended"])
        .refused(2, "names no directory");
}
