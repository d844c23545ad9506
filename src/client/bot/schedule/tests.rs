use super::*;
use crate::bot::state::PrivatePem;

#[test]
fn what_is_next_for_the_bots_own_certificate() {
    use Standing::{Good, Locked, Out};

    let fresh_alone = Identities { fresh: Some(held(2)), ..Identities::default() };
    let both =
        Identities { confirmed: Some(held(1)), fresh: Some(held(2)), ..Identities::default() };
    let confirmed = Identities { confirmed: Some(held(1)), ..Identities::default() };
    let other = Held { renewable: false, ..held(1) };
    let not_renewable = Identities { confirmed: Some(other), ..Identities::default() };
    let (none, out) = (Identities::default(), Out { taken_back: true });
    // A certificate is good from 0 to 60 minutes, and due at 30.
    for (what, identities, standing, asked, minute, expected) in [
        ("nothing is held", &none, &Good, None, 0, Step::Join),
        ("an answer came, and was not used", &fresh_alone, &Good, None, 1, Step::Ask),
        ("never by the old one while there is a new one", &both, &Good, Some(40), 40, Step::Ask),
        ("just started", &confirmed, &Good, None, 1, Step::Ask),
        ("asked a moment ago", &confirmed, &Good, Some(1), 2, Step::Wait),
        ("asked some time ago", &confirmed, &Good, Some(1), 6, Step::Ask),
        ("the clock was set back", &confirmed, &Good, Some(20), 6, Step::Ask),
        ("half of the life", &confirmed, &Good, Some(29), 30, Step::Renew),
        ("half of the life, joining", &not_renewable, &Good, Some(29), 30, Step::Join),
        ("the last moment", &confirmed, &Good, Some(59), 60, Step::Renew),
        ("too late", &confirmed, &Good, Some(60), 61, Step::Join),
        ("too late for both", &both, &Good, Some(60), 61, Step::Join),
        ("locked", &confirmed, &Locked, Some(1), 2, Step::Ask),
        ("locked, half of the life", &confirmed, &Locked, Some(29), 30, Step::Ask),
        ("locked, too late", &confirmed, &Locked, Some(60), 61, Step::Join),
        ("taken back", &confirmed, &out, Some(1), 2, Step::Join),
    ] {
        let attempts = Attempts::default();
        let step = next(identities, standing, &attempts, asked.map(at), at(minute));
        assert_eq!(step, expected, "{what}");
        let mut tried = Attempts::default();
        tried.failed(at(minute), 0, Some(30));
        let step = next(identities, standing, &tried, asked.map(at), at(minute));
        assert_eq!(step, Step::Wait, "{what}, tried in vain");
    }
}

#[test]
fn what_is_next_for_an_output() {
    let bundle = |minute| Record {
        id: "7".to_owned(),
        instance: "one".to_owned(),
        made_from: "settings".to_owned(),
        not_before: at(0),
        not_after: at(60),
        due: at(minute),
    };
    let there = OutputState { bundle: Some(bundle(30)), settled: true, ..OutputState::default() };
    let untold = OutputState { settled: false, ..there.clone() };
    let closed = OutputState { opens_at: Some(at(50)), ..there.clone() };
    let (none, held) = (OutputState::default(), held(1));
    let another = Held { instance: "two".to_owned(), ..held.clone() };
    let (own, settings) = (Some(&held), Some("settings"));
    for (what, output, identity, made_from, minute, expected) in [
        ("nothing yet", &none, own, settings, 0, OutputStep::Make),
        ("nothing yet, not joined", &none, None, settings, 0, OutputStep::Wait),
        ("nothing yet, nothing heard", &none, own, None, 0, OutputStep::Wait),
        ("good", &there, own, settings, 29, OutputStep::Wait),
        ("half of the life", &there, own, settings, 30, OutputStep::Make),
        ("half of the life, no appliance", &there, None, settings, 30, OutputStep::Wait),
        ("other settings or authorities", &there, own, Some("others"), 1, OutputStep::Make),
        ("another instance", &there, Some(&another), settings, 1, OutputStep::Make),
        ("killed before the hook", &untold, None, None, 1, OutputStep::Settle),
        ("killed long ago", &untold, own, settings, 30, OutputStep::Make),
        ("closed", &closed, own, settings, 49, OutputStep::Wait),
        ("open again", &closed, own, settings, 50, OutputStep::Make),
    ] {
        let step = next_for_output(output, identity, made_from, at(minute));
        assert_eq!(step, expected, "{what}");
    }
}

#[test]
fn refusals_are_told_apart_by_their_reasons() {
    let of = |reason: &str| {
        let problem = api::Problem::new(api::ProblemKind::Denied, "no").with_reason(reason);
        Refusal::of(&Error::Problem(Box::new(problem)))
    };
    for (reason, expected) in [
        ("locked", Refusal::Locked),
        ("superseded", Refusal::Superseded),
        ("outside-schedule", Refusal::Closed),
        ("certificate-revoked", Refusal::Out { taken_back: true }),
        ("no-such-bot", Refusal::Out { taken_back: true }),
        ("replaced", Refusal::Out { taken_back: true }),
        ("no-such-instance", Refusal::Out { taken_back: false }),
        ("not-renewable", Refusal::Out { taken_back: false }),
        ("role-not-of-bot", Refusal::Later),
    ] {
        assert_eq!(of(reason), expected, "{reason}");
    }
    let away = Error::Connect { server: String::new(), what: String::new() };
    assert_eq!(Refusal::of(&away), Refusal::Later);
    let alert = "CertificateExpired".to_owned();
    let fault = TlsFault::ClientRefused { certificate: "c".into(), alert };
    let over = Error::Tls { server: String::new(), fault };
    assert_eq!(Refusal::of(&over), Refusal::Out { taken_back: false });
}

#[test]
fn pauses_grow_and_never_agree() {
    for (failures, longest) in [(0, 1), (1, 2), (5, 32), (6, 60), (60, 60), (u32::MAX, 60)] {
        let longest = SignedDuration::from_secs(longest);
        assert_eq!((pause(failures, 0), pause(failures, 255)), (longest, longest / 2));
    }
    let mut attempts = Attempts::default();
    attempts.failed(at(0), 0, Some(7));
    assert!(!attempts.may(at(0) + SignedDuration::from_secs(6)), "the appliance said 7 seconds");
    assert!(attempts.may(at(0) + SignedDuration::from_secs(7)));
    assert!(attempts.may(at(-60)), "the clock was set back");
    attempts.failed(at(0), 0, Some(u32::MAX));
    assert!(attempts.may(at(10)), "nobody waits for ever");
}

fn held(generation: u64) -> Held {
    Held {
        instance: "one".to_owned(),
        generation,
        renewable: true,
        not_before: at(0),
        not_after: at(60),
        due: at(30),
        certificates: String::new(),
        key: PrivatePem::new(String::new().into()),
    }
}

fn at(minute: i64) -> Timestamp {
    let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    start + SignedDuration::from_mins(minute)
}
