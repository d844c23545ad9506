//! `chancery-card doctor` compares the SID in a certificate with what the organisation's directory
//! says now, by way of the appliance: a real slapd here.

use std::fs;

use harness::{
    Doing, Failure, Story,
    https::Identity,
    office::Office,
    openssl,
    process::run,
    slapd::{self, Scheme, Slapd},
};
use serde_json::{Value, json};

const RULES: &str = r#"
[[role]]
name = "own-card"
callers = ["spiffe://example.test/user/*"]
issuer = "issuing"
max_ttl = "8h"
[role.smartcard_logon]
attestation = "optional"
accounts = "directory"
upns = ["{name}@corp.example.test"]
"#;

const ALICE: &str = "S-1-5-21-1004336348-1177238915-682003330-1104";

#[test]
fn the_sid_is_compared_with_the_directory_of_the_appliance() -> Story {
    let mut bench = Bench::open()?;
    let (alice, bob) = (bench.office.enrol("user/alice")?, bench.office.enrol("user/bob")?);
    bench.certify(&alice)?;
    let asks = "the appliance does not tell you: ask an operator, or use --sid";

    // Whoever may ask about the account hears that it is right: its owner, and operators.
    let right = format!("{ALICE}, as the directory has it");
    for who in [&alice, bench.office.operator()] {
        bench.says(who, &[], ("good", &right, None))?;
    }
    let unknown = format!("{ALICE}, not compared with the directory");
    bench.says(&bob, &[], ("not-asked", &unknown, Some(asks)))?;
    bench.says(&bob, &["--sid", ALICE], ("good", &right, None))?;

    // What became of the account since.
    let look = Some("look for the account there");
    let of_alice = |change: &str| bench.change("alice", change);
    of_alice(&format!("replace: objectSid\nobjectSid:: {}", slapd::sid(1199)))?;
    let other = format!("{ALICE}, but the account has {}: it is refused (event 41)", sid(1199));
    let anew = Some("enrol anew: the account was made anew since, or is another one");
    bench.says(&alice, &[], ("bad", &other, anew))?;
    // What is named is not asked for.
    bench.says(&alice, &["--sid", ALICE], ("good", &right, None))?;
    of_alice(&format!("replace: objectSid\nobjectSid:: {}", slapd::sid(1104)))?;

    of_alice("replace: userAccountControl\nuserAccountControl: 514")?;
    let disabled = format!("{ALICE}; the directory: the account is disabled");
    bench.says(&alice, &[], ("bad", &disabled, look))?;
    of_alice("replace: userAccountControl\nuserAccountControl: 512")?;

    bench
        .change("bob", "replace: userPrincipalName\nuserPrincipalName: alice@corp.example.test")?;
    let several = format!("{ALICE}; the directory: several accounts have the name");
    bench.says(&alice, &[], ("bad", &several, look))?;
    bench.change("bob", "delete: userPrincipalName")?;
    of_alice("replace: userPrincipalName\nuserPrincipalName: alice.smith@corp.example.test")?;
    let nobody = format!("{ALICE}; the directory: no account has the name");
    bench.says(&alice, &[], ("bad", &nobody, look))?;
    of_alice("replace: userPrincipalName\nuserPrincipalName: alice@corp.example.test")?;
    bench.says(&alice, &[], ("good", &right, None))?;

    // Without the directory nothing is said of it, and what is good stays good.
    bench.slapd.stop();
    let later = "the appliance cannot ask its directory now: try again, or use --sid";
    bench.says(&alice, &[], ("not-asked", &unknown, Some(later)))?;
    bench.slapd.start_again()?;
    bench.says(&alice, &[], ("good", &right, None))
}

/// An office with a directory, which is asked each time.
struct Bench {
    slapd: Slapd,
    office: Office,
}

impl Bench {
    fn open() -> Result<Self, Failure> {
        let mut office = Office::prepare()?;
        let slapd = Slapd::start(&office.path("slapd"), Scheme::Ldap)?;
        fs::write(office.path("rules/cards.toml"), RULES).doing("write rules")?;
        office.configure_also(&slapd.table("cache_seconds = 0\nlook_up_timeout_seconds = 8\n"))?;
        office.begin()?;
        Ok(Self { slapd, office })
    }

    /// A certificate for Alice's card, as `card.pem`.
    fn certify(&self, alice: &Identity) -> Story {
        let at = |name: &str| self.office.path(name);
        openssl::generate("rsa:2048", &at("card.key"))?;
        openssl::request(&at("card.key"), "/CN=card", &[], &at("card.csr"))?;
        let csr = fs::read_to_string(at("card.csr")).doing("read a request")?;
        let body = json!({ "role": "own-card", "csr": csr, "upn": "alice@corp.example.test" });
        let issued = self.office.ask(alice, "/v1/issue/smartcard", &body)?;
        let certificate = issued["certificate"].as_str().unwrap_or_default();
        fs::write(at("card.pem"), certificate).doing("write a certificate")
    }

    /// What the doctor says of the SID, to this caller; all else is good or was not asked for.
    fn says(
        &self,
        who: &Identity,
        more: &[&str],
        (verdict, says, hint): (&str, &str, Option<&str>),
    ) -> Story {
        let list = format!("http://{}/crl/issuing.crl", self.office.public());
        let doctor = ["doctor", "card.pem", "--crl", &list, "--json"];
        let mut doctor =
            self.office.as_caller("chancery-card", who, &[&doctor[..], more].concat())?;
        let told = run(&mut doctor)?;
        let report: Value = serde_json::from_str(&told.stdout).doing("read JSON")?;
        let findings = report["findings"].as_array().map_or(&[][..], Vec::as_slice);
        let of_sid = findings.iter().find(|it| it["what"] == "SID").cloned().unwrap_or_default();
        let mut wanted = json!({ "what": "SID", "verdict": verdict, "says": says });
        if let Some(hint) = hint {
            wanted["hint"] = hint.into();
        }
        assert_eq!(of_sid, wanted);
        let others = findings.iter().filter(|it| it["what"] != "SID" && it["what"] != "NTAuth");
        assert!(others.clone().all(|it| it["verdict"] == "good"), "{report}");
        assert_eq!(told.status.code(), Some(i32::from(verdict == "bad")), "{report}");
        Ok(())
    }

    fn change(&self, name: &str, what: &str) -> Story {
        self.slapd.modify(&format!("dn: {}\nchangetype: modify\n{what}\n", slapd::account(name)))
    }
}

fn sid(account: u32) -> String {
    ALICE.replace("-1104", &format!("-{account}"))
}
