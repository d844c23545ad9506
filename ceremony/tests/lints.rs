//! Each lint of a plan finds what it is for, and the plans that come with the program pass.

use ceremony::plan::{Plan, PlanError};

const DEMO: &str = include_str!("../plans/demo.toml");
const ROOT_AND_ISSUING: &str = include_str!("../plans/root-and-issuing.toml");

#[test]
fn the_plans_that_come_with_the_program_pass() {
    for text in [DEMO, ROOT_AND_ISSUING] {
        Plan::parse(text).unwrap();
    }
}

/// The rule, the text of the demo plan that is replaced (once), and what replaces it.
#[rustfmt::skip]
const RULES: [(&str, &str, &str); 26] = [
    ("certificate-of-issuing-key", "label = 'issuing/services'", "label = 'raw/services'"),
    ("certificate-unknown", "certificate = 'services'", "certificate = 'service'"),
    ("declared-and-not-made", "[[steps]]\ndo = 'generate-key'\nkey = 'log'\n", ""),
    ("hand-off-last", "[[steps]]\ndo = 'hand-off'\n", ""),
    ("hand-off-last", "do = 'generate-key'\nkey = 'firmware'", "do = 'hand-off'"),
    ("issuing-key-has-a-use", "ssh-user = { key = 'ssh-user', usage = 'user' }", ""),
    ("issuing-needs-signer-and-path-length", "signer = 'root'\npath_length = 0", "signer = 'root'"),
    ("key-before-certificate", "[[steps]]\ndo = 'generate-key'\nkey = 'root'\n", ""),
    ("key-unknown", "do = 'generate-key'\nkey = 'firmware'", "do = 'generate-key'\nkey = 'software'"),
    ("one-key-per-label", "label = 'issuing/ssh-user'", "label = 'issuing/ssh-host'"),
    ("one-publication-key", "label = 'publication/log'", "label = 'raw/log'"),
    ("one-subject-per-ca", "CN=Example Test Services", "CN=Example Test Issuing"),
    ("one-use-per-key", "ssh-host = { key = 'ssh-host'", "ssh-host = { key = 'ssh-user'"),
    ("one-use-per-key", "ssh-user = { key = 'ssh-user'", "ssh-user = { key = 'root'"),
    ("path-length", "path_length = 0", "path_length = 1"),
    ("profile-is-a-cas", "profile = 'issuing'", "profile = 'smartcard_logon'"),
    ("publication-of-a-signer", "[ssh]", "[certificates.services.publication]\ncrl_url = 'http://pki.example.test/s.crl'\n[ssh]"),
    ("root-signs-itself", "profile = 'root'", "profile = 'root'\nsigner = 'issuing'"),
    ("sign-once", "do = 'sign-certificate'\ncertificate = 'services'", "do = 'sign-certificate'\ncertificate = 'issuing'"),
    ("signer-before-certificate", "[[steps]]\ndo = 'sign-certificate'\ncertificate = 'root'\n", ""),
    ("ssh-ca-key", "ssh-user = { key = 'ssh-user'", "ssh-user = { key = 'firmware'"),
    ("ssh-ca-key", "ssh-user = { key = 'ssh-user'", "ssh-user = { key = 'nobody'"),
    ("token-init-first", "do = 'generate-key'\nkey = 'log'", "do = 'token-init'"),
    ("validity-in-seconds", "not_after = 2045-01-01T00:00:00Z", "not_after = 2045-01-01T00:00:00.5Z"),
    ("validity-nesting", "not_after = 2040-01-01T00:00:00Z", "not_after = 2045-01-01T00:00:01Z"),
    ("validity-order", "not_after = 2040-01-01T00:00:00Z", "not_after = 2024-01-01T00:00:00Z"),
];

#[test]
fn each_rule_finds_what_it_is_for() {
    for (rule, from, to) in RULES {
        match Plan::parse(&demo_with(from, to)) {
            Err(PlanError::Findings(findings)) => {
                let rules: Vec<&str> = findings.0.iter().map(|finding| finding.rule).collect();
                assert!(rules.contains(&rule), "{rule} is not among {rules:?}");
            }
            other => panic!("{rule}: {other:?}"),
        }
    }
}

/// As above, for the plan with people.
#[rustfmt::skip]
const RULES_OF_PEOPLE: [(&str, &str, &str); 9] = [
    ("confirmed-by-who-is-present", "confirm = { operator = 1 }", "confirm = { operator = 1, auditor = 1 }"),
    ("enough-people", "name = 'operator'\nmin = 1", "name = 'operator'\nmin = 2"),
    ("enough-people", "approve = { auditor = 1 }", "approve = { auditor = 2 }"),
    ("enough-people", "approve = { auditor = 1 }", "approve = { witness = 1 }"),
    ("one-key-per-person", "FBsnJjMHww6CjNdB2bi2PFoeesOUO3kdtvGiDjz0VEO", "KaM9PCyP54u93mcbGVWIDcuCHHVJmhulQDnfEtDGN/y"),
    ("role-declared", "role = 'auditor'", "role = 'visitor'"),
    ("role-once", "[quorum]", "[[role]]\nname = 'auditor'\nmin = 0\n[quorum]"),
    ("sign-off-before-hand-off", "[[steps]]\ndo = 'sign-off'\n", ""),
    ("sign-off-before-hand-off", "[[steps]]\ndo = 'sign-off'\n", "[[steps]]\ndo = 'sign-off'\n[[steps]]\ndo = 'sign-off'\n"),
];

#[test]
fn each_rule_of_people_finds_what_it_is_for() {
    let plan = demo_with("do = 'hand-off'", "do = 'sign-off'\n[[steps]]\ndo = 'hand-off'");
    let people = PEOPLE.replace('\'', "\"");
    let plan = format!("{plan}\n{people}");
    Plan::parse(&plan).unwrap();
    for (rule, from, to) in RULES_OF_PEOPLE {
        let (from, to) = (from.replace('\'', "\""), to.replace('\'', "\""));
        assert!(plan.contains(&from), "the plan has no {from:?}");
        match Plan::parse(&plan.replacen(&from, &to, 1)) {
            Err(PlanError::Findings(findings)) => {
                let rules: Vec<&str> = findings.0.iter().map(|finding| finding.rule).collect();
                assert!(rules.contains(&rule), "{rule} is not among {rules:?}");
            }
            other => panic!("{rule}: {other:?}"),
        }
    }
    let nobody = demo_with("do = 'hand-off'", "do = 'sign-off'\n[[steps]]\ndo = 'hand-off'");
    let Err(PlanError::Findings(findings)) = Plan::parse(&nobody) else { panic!("{nobody}") };
    assert_eq!(findings.0[0].rule, "sign-off-needs-people");
}

const PEOPLE: &str = "
[[role]]
name = 'operator'
min = 1

[[role]]
name = 'auditor'
min = 0

[quorum]
approve = { auditor = 1 }
confirm = { operator = 1 }

[persons.alice]
role = 'operator'
key = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKaM9PCyP54u93mcbGVWIDcuCHHVJmhulQDnfEtDGN/y'

[persons.dave]
role = 'auditor'
key = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFBsnJjMHww6CjNdB2bi2PFoeesOUO3kdtvGiDjz0VEO'
";

#[test]
fn what_is_no_plan_is_refused_with_the_place() {
    let table = [
        ("chancery-ceremony/1", "chancery-ceremony/2", "unknown variant"),
        ("id = 'demo'", "id = 'Demo'", "is not a name"),
        ("id = 'demo'", "id = 'demo'\npin = '1234'", "unknown field `pin`"),
        ("do = 'hand-off'", "do = 'hand-off'\nto = 'x'", "unknown field `to`"),
        ("do = 'hand-off'", "do = 'deliver'", "unknown variant `deliver`"),
        ("algorithm = 'rsa3072'", "algorithm = 'rsa1024'", "unknown variant `rsa1024`"),
        ("label = 'issuing/root'", "label = 'root'", "a key label is"),
        ("not_before = 2025-01-01T00:00:00Z", "not_before = 2025-01-01", "not a point in time"),
        ("http://pki.example.test/root.crl", "ldap://pki.example.test/", "HTTP URL"),
    ];
    for (from, to, said) in table {
        match Plan::parse(&demo_with(from, to)) {
            Err(PlanError::Syntax(error)) => {
                let text = error.to_string();
                assert!(text.contains(said) && text.contains("at line"), "{to}: {text}");
            }
            other => panic!("{to}: {other:?}"),
        }
    }
}

#[test]
fn the_hash_is_of_what_the_plan_means_and_not_of_how_it_is_written() {
    let hash = |text: &str| Plan::parse(text).unwrap().hash();
    assert_eq!(hash(DEMO), hash(&format!("# A remark.\n{DEMO}")));
    assert_ne!(hash(DEMO), hash(&demo_with("path_length = 1", "path_length = 2")));
}

/// The demo plan with one text replaced; quotes are single in the tables and double in the plan.
fn demo_with(from: &str, to: &str) -> String {
    let (from, to) = (from.replace('\'', "\""), to.replace('\'', "\""));
    assert!(DEMO.contains(&from), "the demo plan has no {from:?}");
    DEMO.replacen(&from, &to, 1)
}
