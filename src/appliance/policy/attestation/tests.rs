//! What roles demand of a card: firmware 5.7.1, a key in 9a that asks for the PIN once and for no
//! touch.

use std::{collections::BTreeSet, sync::Arc};

use jiff::Timestamp;
use pki::{
    keys::PublicKey,
    x509::{
        Certificate,
        attestation::{Anchors, Claim},
        csr::Wishes,
    },
};

use crate::policy::{Caller, Certify, Denial, Grant, Locks, Rules, Standing, Wanted, decide};

const MAKER: &str = include_str!("maker.pem");
const OTHER_MAKER: &str = include_str!("other-maker.pem");
const CARD: &str = include_str!("card.pem");
const STATEMENT: &str = include_str!("statement.pem");

#[test]
fn each_demand_of_a_role_has_a_word_of_its_own() {
    let mut reasons = BTreeSet::new();
    for (demands, card, expected) in [
        ("", None, Err("attestation-needed")),
        ("attestation = \"required\"", None, Err("attestation-needed")),
        ("attestation = \"optional\"", None, Ok(None)),
        ("", Some(claim()), Ok(Some(12_345_678))),
        ("attestation = \"optional\"", Some(claim()), Ok(Some(12_345_678))),
        ("slots = [\"9a\", \"82\"]", Some(claim()), Ok(Some(12_345_678))),
        ("slots = [\"9c\"]", Some(claim()), Err("slot-not-allowed")),
        ("pin_policies = [\"once\"]", Some(claim()), Ok(Some(12_345_678))),
        ("pin_policies = [\"always\", \"never\"]", Some(claim()), Err("pin-policy-not-allowed")),
        ("touch_policies = [\"never\"]", Some(claim()), Ok(Some(12_345_678))),
        (
            "touch_policies = [\"always\", \"cached\"]",
            Some(claim()),
            Err("touch-policy-not-allowed"),
        ),
        ("min_firmware = \"5.7.1\"", Some(claim()), Ok(Some(12_345_678))),
        ("min_firmware = \"5.7.2\"", Some(claim()), Err("firmware-too-old")),
        // Where none is needed, one that is sent is looked at all the same.
        ("attestation = \"optional\"\nslots = [\"9c\"]", Some(claim()), Err("slot-not-allowed")),
    ] {
        let decided = ask(rules(demands, Some(MAKER)).unwrap(), card, key(), now());
        let serial = decided.as_ref().map(|grant| grant.card().map(|it| it.attestation.serial));
        let decided = serial.map_err(Denial::reason);
        assert_eq!(decided, expected, "{demands}");
        reasons.extend(decided.err());
    }
    assert_eq!(reasons.len(), 5, "{reasons:?}");
}

#[test]
fn a_card_is_believed_for_its_own_key_by_its_own_maker_and_in_its_time() {
    let trusting = |maker| rules("attestation = \"optional\"", maker).unwrap();
    let line = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINdamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea";
    let other_key = PublicKey::from_openssh(line).unwrap();
    let early = "2016-03-13T23:59:59Z".parse().unwrap();
    for (maker, key, now, expected) in [
        (Some(MAKER), key(), now(), Ok(())),
        (Some(MAKER), other_key, now(), Err("attestation-other-key")),
        (Some(OTHER_MAKER), key(), now(), Err("attestation-counterfeit")),
        (Some(MAKER), key(), early, Err("attestation-not-yet-valid")),
        (None, key(), now(), Err("no-card-makers")),
    ] {
        let decided = ask(trusting(maker), Some(claim()), key, now);
        assert_eq!(decided.map(drop).map_err(|denial| denial.reason()), expected);
    }
    // A name that the role does not give is told before anything of the card.
    let request = Certify { wanted: card("bob", Some(claim())), ..request(None, key()) };
    let denial = decide(&caller(), request, &trusting(None), standing(now())).unwrap_err();
    assert_eq!(denial.reason(), "upn-not-allowed");
}

#[test]
fn every_denial_of_a_card_says_what_to_do() {
    for (statement, intermediate, reason) in [
        (CARD, STATEMENT, "attestation-malformed"),
        (STATEMENT, "", "attestation-malformed"),
        (&STATEMENT[..400], CARD, "attestation-malformed"),
    ] {
        let error = Claim::from_pem(statement, intermediate).unwrap_err();
        let denial = super::CardDenial::from(error);
        assert_eq!(denial.reason(), reason);
        assert!(denial.hint().contains("chancery-card request --attestation"), "{denial}");
    }
    let held = Denial::from(super::CardDenial::Held { serial: 7 });
    assert!(held.hint().contains("chancery card release 7"), "{}", held.hint());
}

#[test]
fn demands_that_no_card_could_meet_or_nobody_could_verify_are_not_loaded() {
    for (demands, what) in [
        ("slots = []", "`slots` is empty"),
        ("pin_policies = []", "`pin_policies` is empty"),
        ("touch_policies = []", "`touch_policies` is empty"),
        ("slots = [\"f9\"]", "is no slot"),
        ("slots = [\"9A\"]", "is no slot"),
        ("pin_policies = [\"sometimes\"]", "unknown variant"),
        ("min_firmware = \"5.7\"", "is no firmware"),
        ("attestation = \"none\"", "unknown variant"),
    ] {
        let error = rules(demands, Some(MAKER)).unwrap_err();
        assert!(error.contains(what), "{demands}: {error}");
    }
    let error = rules("", None).unwrap_err();
    assert!(error.contains("names no makers in [attestation]"), "{error}");
}

fn ask(
    rules: Rules,
    claim: Option<Claim>,
    key: PublicKey,
    now: Timestamp,
) -> Result<Grant, Denial> {
    decide(&caller(), request(claim, key), &rules, standing(now))
}

fn request(claim: Option<Claim>, public_key: PublicKey) -> Certify {
    let wanted = card("alice", claim);
    Certify { role: "cards".to_owned(), public_key, ttl: None, session: None, wanted }
}

fn card(name: &str, claim: Option<Claim>) -> Wanted {
    let upn = format!("{name}@corp.example").parse().unwrap();
    Wanted::Smartcard { upn, claim: claim.map(Box::new), wishes: Wishes::default() }
}

fn rules(demands: &str, maker: Option<&str>) -> Result<Rules, String> {
    let directory = tempfile::tempdir().unwrap();
    let text = format!(
        "[[role]]\nname = \"cards\"\ncallers = [\"spiffe://example.test/user/*\"]\n\
         issuer = \"issuing\"\nmax_ttl = \"8h\"\n[role.smartcard_logon]\n\
         upns = [\"{{name}}@corp.example\"]\n{demands}\n\
         [[account]]\nupn = \"alice@corp.example\"\nsid = \"S-1-5-21-1-2-3-1104\"\n"
    );
    std::fs::write(directory.path().join("roles.toml"), text).unwrap();
    let makers = match maker {
        Some(maker) => {
            let maker = Certificate::from_pem(maker).unwrap();
            Anchors::new([maker.der()]).unwrap()
        }
        None => Anchors::default(),
    };
    let rules = Rules::read(directory.path()).and_then(|rules| rules.trust(Arc::new(makers)));
    rules.map_err(|error| error.to_string())
}

fn claim() -> Claim {
    Claim::from_pem(STATEMENT, CARD).unwrap()
}

fn key() -> PublicKey {
    Certificate::from_pem(STATEMENT).unwrap().public_key().clone()
}

fn caller() -> Caller {
    Caller::new("spiffe://example.test/user/alice".parse().unwrap())
}

fn standing(now: Timestamp) -> Standing<'static> {
    static LOCKS: Locks = Locks(Vec::new());
    Standing { account: None, bot: None, locks: &LOCKS, session: None, now }
}

fn now() -> Timestamp {
    "2026-06-01T12:00:00Z".parse().unwrap()
}
