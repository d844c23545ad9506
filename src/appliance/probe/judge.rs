//! What follows from what a token told. Pure.

use pki::token::pkcs11::{KeySurvey, SessionLimit};

use super::report::{
    Finding, Key, Login, Rate, Recommendation, Report, Sessions,
    Severity::{self, Error, Note, Warning},
};
use crate::config;

/// Everything to know or to mend, the worst first.
pub(super) fn findings(report: &Report, settings: &config::Token) -> Vec<Finding> {
    let gaps = report.sandbox.missing.iter().map(|what| Finding {
        severity: Warning,
        about: "sandbox".to_owned(),
        what: format!("not enforced: {what}"),
        hint: "the appliance runs the module with the same gap",
    });
    let mut findings: Vec<_> = gaps.collect();
    pin(report, &mut findings);
    for key in &report.keys {
        match &key.told {
            Some(told) => attributes(key, told, &mut findings),
            None => findings.push(missing(key)),
        }
    }
    if let Some(sessions) = &report.sessions {
        few_sessions(report, sessions, settings, &mut findings);
    }
    let failures = report.rates.iter().filter_map(|rate| Some((rate, rate.failure.as_ref()?)));
    findings.extend(failures.map(|(rate, failure)| Finding {
        severity: Error,
        about: rate.key.to_string(),
        what: format!("signing failed {failure}"),
        hint: "fewer sessions may go well; a token that fails here fails in service, too",
    }));
    findings.sort_by_key(|finding| finding.severity);
    findings
}

fn pin(report: &Report, findings: &mut Vec<Finding>) {
    if let Login::Refused { code } = &report.login {
        findings.push(Finding {
            severity: Error,
            about: "pin".to_owned(),
            what: format!("refused ({code}); nothing behind the login was looked at"),
            hint: "it is not tried again until you put the right PIN into token.pin_file (or have \
                   the token's PIN unlocked) and run chanceryd token unblock --config FILE",
        });
    }
    for (flag, hint) in [
        ("CKF_USER_PIN_COUNT_LOW", "a wrong PIN was tried since the last right one; ask by whom"),
        ("CKF_USER_PIN_TO_BE_CHANGED", "change the PIN before the token insists on it"),
    ] {
        if report.token.flags.iter().any(|set| set == flag) {
            let (about, what) = ("pin".to_owned(), format!("{flag} is set"));
            findings.push(Finding { severity: Warning, about, what, hint });
        }
    }
}

fn missing(key: &Key) -> Finding {
    let what = key.failure.clone().unwrap_or_default();
    let (severity, hint) = if key.online {
        (Error, "the appliance does not start without it")
    } else {
        (Note, "it is offline by the hand-off, and need not be in this token")
    };
    Finding { severity, about: key.label.to_string(), what, hint }
}

fn attributes(key: &Key, told: &KeySurvey, findings: &mut Vec<Finding>) {
    for (name, right, severity, hint) in WANTED {
        let what = match told.attribute(name) {
            Some(value) if value == *right => continue,
            Some(value) => format!("{name} is {value}"),
            None if *severity == Error => format!("the token does not tell {name}"),
            None => continue,
        };
        findings.push(Finding { severity: *severity, about: key.label.to_string(), what, hint });
    }
    if told.mechanism.is_none() {
        findings.push(Finding {
            severity: Error,
            about: key.label.to_string(),
            what: format!("the token has no mechanism that signs with {}", key.algorithm),
            hint: "see the mechanisms of the token; some come with a newer firmware or module",
        });
    }
}

fn few_sessions(
    report: &Report,
    sessions: &Sessions,
    settings: &config::Token,
    findings: &mut Vec<Finding>,
) {
    let opened = sessions.opened;
    let wanted = settings.sessions.map_or(1, usize::from);
    if opened < wanted {
        findings.push(Finding {
            severity: Warning,
            about: "sessions".to_owned(),
            what: format!("token.sessions is {wanted}, and {opened} could be opened"),
            hint: "the appliance starts with fewer, and says that the token is degraded",
        });
    }
    if opened == 1 {
        findings.push(Finding {
            severity: Note,
            about: "sessions".to_owned(),
            what: "there is one session only".to_owned(),
            hint: "while the appliance serves, chanceryd operator add and the probe get none",
        });
    }
    if let SessionLimit::AtMost(told) = report.token.session_limit
        && let Ok(told) = usize::try_from(told)
        && told > opened
        && opened < PROBED
    {
        findings.push(Finding {
            severity: Note,
            about: "sessions".to_owned(),
            what: format!("the token speaks of {told}, and {opened} could be opened"),
            hint: "other programs have the rest, or the token counts for all of them together",
        });
    }
}

/// The settings that suit what was measured; none when nothing was.
pub(super) fn recommendation(report: &Report, settings: &config::Token) -> Option<Recommendation> {
    let opened = report.sessions.as_ref()?.opened;
    let (slowest, enough) = report
        .rates
        .iter()
        .filter_map(|rate| Some((rate, rate.enough()?.sessions)))
        .max_by_key(|(_, enough)| *enough)?;
    let mut reasons = vec![because_of_rate(slowest, enough)];
    let mut sessions = enough;
    // More threads than processors only take time from each other, and from the appliance.
    if sessions > report.processors && report.rates.iter().any(Rate::is_computed_here) {
        sessions = report.processors;
        reasons.push(format!(
            "but the module computes on this machine, which has {sessions} processors for it"
        ));
    }
    // `operator add` and the probe log in with sessions of their own.
    if opened < PROBED && sessions == opened && opened > 1 {
        sessions = opened - 1;
        reasons.push(format!(
            "of the {opened} that could be opened, one is left for chanceryd operator add"
        ));
    }
    let table = match &settings.serial {
        Some(serial) => format!("[[replica]]\nserial = \"{serial}\""),
        None => "[token]".to_owned(),
    };
    let mut toml = format!("{table}\nsessions = {sessions}\n");
    let keep_alive_seconds = keep_alive(report);
    match keep_alive_seconds {
        Some(seconds) => {
            toml.push_str(&format!("keep_alive_seconds = {seconds}\n"));
            reasons.push("sessions of a YubiHSM die when they are idle for 30 s".to_owned());
        }
        None => reasons.push(
            "keep_alive_seconds is for tokens whose idle sessions die; this is not known to be one"
                .to_owned(),
        ),
    }
    Some(Recommendation { sessions, keep_alive_seconds, reasons, toml })
}

/// For tokens that are known to forget idle sessions.
fn keep_alive(report: &Report) -> Option<u16> {
    let model = report.token.identity.model.as_deref().unwrap_or_default();
    model.starts_with("YubiHSM").then_some(10)
}

fn because_of_rate(rate: &Rate, enough: usize) -> String {
    let many = rate.levels.last().is_some_and(|last| last.sessions > enough);
    let algorithm = rate.algorithm;
    match (enough, many) {
        (_, false) => format!(
            "{algorithm} keys signed fastest with the most sessions that were tried, {enough}"
        ),
        (1, true) => format!("more sessions than one signed no faster with {algorithm} keys"),
        (_, true) => {
            format!("{algorithm} keys gain by up to {enough} sessions, and by no more than that")
        }
    }
}

/// What private keys are to be: the attribute, its value, how bad another is, and what that means.
const WANTED: &[(&str, bool, Severity, &str)] = &[
    (
        "CKA_SENSITIVE",
        true,
        Error,
        "its value can be read from the token: the key is to be replaced, not repaired",
    ),
    (
        "CKA_EXTRACTABLE",
        false,
        Error,
        "it can be taken out of the token: the key is to be replaced, not repaired",
    ),
    ("CKA_SIGN", true, Error, "the token signs nothing with it"),
    (
        "CKA_NEVER_EXTRACTABLE",
        true,
        Warning,
        "it was extractable once, or made elsewhere: a copy may exist; the ceremony's record says",
    ),
    (
        "CKA_ALWAYS_SENSITIVE",
        true,
        Warning,
        "its value could be read once, or it was made elsewhere: a copy may exist",
    ),
    (
        "CKA_LOCAL",
        true,
        Warning,
        "it was not generated in this token, but imported or restored: compare the record",
    ),
    ("CKA_PRIVATE", true, Warning, "it can be used without a login"),
    ("CKA_DECRYPT", false, Warning, "it can be used for other things than signatures"),
    ("CKA_DERIVE", false, Warning, "it can be used for other things than signatures"),
    ("CKA_SIGN_RECOVER", false, Warning, "it signs what no policy has looked at"),
    ("CKA_UNWRAP", false, Warning, "it can be used for other things than signatures"),
    ("CKA_COPYABLE", false, Note, "a copy of it in the token may have other attributes"),
    ("CKA_MODIFIABLE", false, Note, "who logs in can change its attributes, such as its label"),
    (
        "CKA_ALWAYS_AUTHENTICATE",
        false,
        Note,
        "each signature takes a login of its own, for which the token worker keeps the PIN",
    ),
];

/// The probe opens no more sessions.
const PROBED: usize = 64;

#[cfg(test)]
mod tests {
    use pki::token::pkcs11::{TokenIdentity, TokenSurvey};

    use super::*;
    use crate::{
        probe::{Level, report::Survey},
        sandbox,
    };

    #[test]
    fn each_attribute_that_is_wrong_is_found_with_its_severity() {
        let good: Vec<_> =
            WANTED.iter().map(|(name, right, ..)| ((*name).to_owned(), Some(*right))).collect();
        assert_eq!(judged(good.clone()), []);
        for (index, (name, right, severity, _)) in WANTED.iter().enumerate() {
            let mut turned = good.clone();
            turned[index].1 = Some(!right);
            assert_eq!(judged(turned), [(*severity, format!("{name} is {}", !right))]);
            let mut untold = good.clone();
            untold[index].1 = None;
            let wanted = format!("the token does not tell {name}");
            let wanted = (*severity == Error).then_some((Error, wanted));
            assert_eq!(judged(untold), Vec::from_iter(wanted));
        }
    }

    #[test]
    fn the_fewest_sessions_that_sign_fastest_are_recommended() {
        for (rates, opened, wanted) in [
            (&[(1, 100.0)][..], 64, 1),
            (&[(1, 100.0), (2, 190.0), (4, 195.0), (8, 150.0)], 64, 2),
            (&[(1, 100.0), (2, 99.0), (4, 101.0)], 64, 1),
            (&[(1, 10.0), (2, 20.0), (4, 40.0)], 64, 4),
            // One is left for others, unless it is the only one.
            (&[(1, 10.0), (2, 20.0), (4, 40.0)], 4, 3),
            (&[(1, 10.0), (2, 20.0)], 3, 2),
            (&[(1, 10.0)], 1, 1),
        ] {
            let mut report = empty();
            report.sessions = Some(Sessions { opened, failure: None });
            report.rates = vec![rate(rates)];
            let recommended = recommendation(&report, &settings()).unwrap();
            assert_eq!(recommended.sessions, wanted, "{rates:?} of {opened}");
            let token = toml::from_str::<toml::Table>(&recommended.toml).unwrap();
            assert_eq!(token["token"]["sessions"].as_integer(), i64::try_from(wanted).ok());
        }
        assert_eq!(recommendation(&empty(), &settings()), None);
    }

    #[test]
    fn a_module_that_computes_gets_as_many_sessions_as_there_are_processors() {
        let mut report = empty();
        report.sessions = Some(Sessions { opened: 64, failure: None });
        report.rates = vec![rate(&[(1, 100.0), (2, 190.0), (4, 240.0)])];
        assert_eq!(recommendation(&report, &settings()).unwrap().sessions, 4, "a device");
        report.rates[0].levels[0].processor_ms = 0.9;
        assert_eq!(recommendation(&report, &settings()).unwrap().sessions, 2, "a library");
    }

    #[test]
    fn a_token_that_forgets_idle_sessions_is_kept_awake() {
        let mut report = empty();
        report.sessions = Some(Sessions { opened: 16, failure: None });
        report.rates = vec![rate(&[(1, 10.0), (2, 10.0), (4, 10.0)])];
        assert_eq!(recommendation(&report, &settings()).unwrap().toml, "[token]\nsessions = 1\n");
        report.token.identity.model = Some("YubiHSM".to_owned());
        let lines = recommendation(&report, &settings()).unwrap().toml;
        assert_eq!(lines, "[token]\nsessions = 1\nkeep_alive_seconds = 10\n");
        let replica = config::Token { serial: Some("4711".to_owned()), ..settings() };
        let lines = recommendation(&report, &replica).unwrap().toml;
        assert!(lines.starts_with("[[replica]]\nserial = \"4711\"\nsessions = 1\n"), "{lines}");
    }

    #[test]
    fn a_measurement_goes_on_while_sessions_bring_more() {
        assert!(!rate(&[(1, 10.0), (2, 10.0)]).is_settled());
        assert!(rate(&[(1, 10.0), (2, 10.0), (4, 9.0)]).is_settled());
        assert!(!rate(&[(1, 10.0), (2, 20.0), (4, 21.0), (8, 40.0)]).is_settled());
    }

    fn judged(attributes: Vec<(String, Option<bool>)>) -> Vec<(Severity, String)> {
        let mechanism = Some("CKM_ECDSA".to_owned());
        let told = KeySurvey { attributes, generated_by: None, mechanism };
        let key = Key {
            place: "ssh.users".to_owned(),
            label: "issuing/users".parse().unwrap(),
            id: [7; 8].into(),
            algorithm: pki::keys::KeyAlgorithm::EcP256,
            public_key_sha256: String::new(),
            online: true,
            told: Some(told),
            failure: None,
        };
        let report = Report { keys: vec![key], ..empty() };
        let found = findings(&report, &settings());
        found.into_iter().map(|finding| (finding.severity, finding.what)).collect()
    }

    fn settings() -> config::Token {
        config::Token {
            serial: None,
            module: "/module.so".into(),
            label: "chancery".to_owned(),
            pin_file: "/pin".into(),
            sessions: None,
            keep_alive_seconds: None,
            environment: Default::default(),
            sandbox: config::Sandbox::default(),
        }
    }

    fn rate(levels: &[(usize, f64)]) -> Rate {
        let level = |(sessions, per_second): &(usize, f64)| Level {
            sessions: *sessions,
            signatures: 1,
            per_second: *per_second,
            median_ms: 1.0,
            slowest_ms: 1.0,
            processor_ms: 0.1,
        };
        Rate {
            algorithm: pki::keys::KeyAlgorithm::EcP256,
            scheme: pki::keys::SignatureScheme::EcdsaP256Sha256,
            key: "raw/firmware".parse().unwrap(),
            levels: levels.iter().map(level).collect(),
            failure: None,
        }
    }

    fn empty() -> Report {
        let identity = TokenIdentity {
            label: "chancery".to_owned(),
            serial: None,
            manufacturer: None,
            model: None,
        };
        let token = TokenSurvey {
            library: String::new(),
            library_version: String::new(),
            library_manufacturer: String::new(),
            pkcs11_version: String::new(),
            identity,
            hardware_version: String::new(),
            firmware_version: String::new(),
            flags: Vec::new(),
            pin_length: (4, 8),
            session_limit: SessionLimit::Untold,
            mechanisms: Vec::new(),
        };
        let survey = Survey::new(sandbox::Report::default(), token);
        Report {
            schema: Report::SCHEMA,
            module: "/module.so".into(),
            processors: 2,
            sandbox: survey.sandbox,
            token: survey.token,
            login: survey.login,
            keys: Vec::new(),
            sessions: None,
            rates: Vec::new(),
            findings: Vec::new(),
            recommendation: None,
        }
    }
}
