//! The registry of cards: one card, one holder.

use api::{CardQuery, CardState, RevocationReason};
use pki::{
    keys::PublicKey,
    x509::attestation::{Attestation, FormFactor, PinPolicy, Slot, TouchPolicy},
};

use super::{super::cards::Taking, *};
use crate::policy::CardHolder;

const OLIVIA: &str = "spiffe://example.test/operator/olivia";

#[tokio::test]
async fn a_card_is_the_first_ones_and_stays_it_under_another_name() {
    let place = Place::new();
    let mut ledger = place.open();
    let first = new(&ledger, 1, "alice").await;
    first.commit_bytes(b"one".to_vec(), now()).await.unwrap();
    for _ in 0..2 {
        assert_eq!(refused(&ledger, 2, "bob").await, "card-held");
        assert!(!ledger.was_begun("users", "2").await.unwrap(), "nothing was written of it");
        ledger = place.reopen(ledger);
    }
    let renamed = CardHolder { upn: "alice.smith@corp.example".parse().unwrap(), ..card("alice") };
    let second = begin_for(&ledger, 3, renamed, None).await;
    let Ok(Begun::New(second)) = second else { panic!("not a new one") };
    second.commit_bytes(b"three".to_vec(), now()).await.unwrap();

    let record = ledger.card(7_654_321, now()).await.unwrap().unwrap();
    let card = record.card;
    assert_eq!(
        (card.state, card.holder.as_str(), card.certificates, card.registered_by.as_str()),
        (CardState::Held, "alice.smith@corp.example", 2, "alice")
    );
    let issued: Vec<_> = record.issued.iter().map(|it| it.serial.as_str()).collect();
    assert_eq!(issued, ["3", "1"]);
    let said = record.issued[1].attestation.as_ref().unwrap();
    assert_eq!(said.statement, pki::x509::to_pem(b"statement"));
    assert_eq!(said.intermediate, pki::x509::to_pem(b"intermediate"));
    let key = ledger.certificate("users", "1").await.unwrap().unwrap().card.unwrap();
    assert_eq!(key, record.issued[1].key);
    assert_eq!((key.card, key.slot.to_string().as_str()), (7_654_321, "9a"));
    assert_eq!(key.form_factor.as_deref(), Some("USB-C keychain"));
    let told = place.audited();
    let registered: Vec<_> = told.iter().filter(|it| it["event"] == "card_registered").collect();
    assert_eq!(registered.len(), 1, "{registered:?}");
    assert_eq!(registered[0]["holder"], "alice@corp.example");
    let intent = told.iter().find(|it| it["event"] == "intent").unwrap();
    assert_eq!(intent["card"]["card"], 7_654_321, "{intent}");
    drop(ledger);
    place.verified();
}

#[tokio::test]
async fn of_all_who_come_at_once_one_has_the_card() {
    let place = Place::new();
    let ledger = place.open();
    let names = ["alice", "bob", "carol", "dave"];
    let begun = (1..).zip(names).map(|(serial, name)| begin_for(&ledger, serial, card(name), None));
    let outcomes = join_all(begun).await;
    let granted = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    assert_eq!(granted, 1);
    let cards = ledger.cards(CardQuery::default(), now()).await.unwrap().cards;
    assert_eq!((cards.len(), cards[0].certificates), (1, 1));
}

#[tokio::test]
async fn a_card_that_is_released_takes_its_certificates_with_it_and_may_be_anothers() {
    let place = Place::new();
    let ledger = place.open();
    let released = new(&ledger, 1, "alice").await;
    released.commit_bytes(b"one".to_vec(), now()).await.unwrap();
    let begun = new(&ledger, 2, "alice").await;
    let other = CardHolder { attestation: attestation(5), ..card("alice") };
    let Ok(Begun::New(_)) = begin_for(&ledger, 3, other, None).await else { panic!() };

    let taken = ledger.take_card(7_654_321, Taking::Release, OLIVIA, "new one", now()).await;
    let taken = taken.unwrap().unwrap();
    assert_eq!((taken.changed.revoked, taken.changed.card.state), (2, CardState::Released));
    assert_eq!(taken.revoked, [("users".into(), "1".into()), ("users".into(), "2".into())]);
    let late = begun.commit_bytes(b"two".to_vec(), now()).await;
    assert!(matches!(late, Err(LedgerError::Denied(Denial::TakenBack))));
    let told = ledger.revocations_after(0).await.unwrap();
    let told: Vec<_> = told.iter().map(|it| (it.serial.to_string(), it.code)).collect();
    let code = RevocationReason::CessationOfOperation;
    assert_eq!(told, [("1".to_owned(), code), ("2".to_owned(), code)]);

    new(&ledger, 4, "bob").await;
    assert_eq!(refused(&ledger, 5, "alice").await, "card-held");
    let card = ledger.card(7_654_321, now()).await.unwrap().unwrap().card;
    assert_eq!((card.holder.as_str(), card.taken), ("bob@corp.example", None));
    let of_alice =
        CardQuery { holder: Some("alice@CORP.example".parse().unwrap()), ..CardQuery::default() };
    let cards = ledger.cards(of_alice, now()).await.unwrap().cards;
    assert_eq!(cards.iter().map(|it| it.serial).collect::<Vec<_>>(), [5]);
    drop(ledger);
    place.verified();
}

#[tokio::test]
async fn a_card_that_is_removed_gets_nothing_more_until_it_is_found_and_released() {
    let place = Place::new();
    let mut ledger = place.open();
    let operation = || Some(Idempotency { key: "a".into(), request: [1; 32] });
    let Ok(Begun::New(begun)) = begin_for(&ledger, 1, card("alice"), operation()).await else {
        panic!("not a new one")
    };
    begun.commit_bytes(b"one".to_vec(), now()).await.unwrap();
    let remove = async |ledger: &Ledger| {
        let taken = ledger.take_card(7_654_321, Taking::Remove, OLIVIA, "in a train", now());
        taken.await.unwrap().unwrap().changed.revoked
    };
    assert_eq!(remove(&ledger).await, 1);
    assert_eq!(remove(&ledger).await, 0, "they are revoked already");
    for _ in 0..2 {
        assert_eq!(refused(&ledger, 2, "alice").await, "card-blocked");
        assert_eq!(refused(&ledger, 2, "bob").await, "card-blocked");
        let again = begin_for(&ledger, 2, card("alice"), operation()).await;
        assert!(matches!(again, Err(LedgerError::Denied(Denial::TakenBack))));
        ledger = place.reopen(ledger);
    }
    let told = ledger.revocations_after(0).await.unwrap();
    assert_eq!(told[0].code, RevocationReason::KeyCompromise);
    let removed = CardQuery { state: Some(CardState::Removed), ..CardQuery::default() };
    let cards = ledger.cards(removed, now()).await.unwrap().cards;
    assert_eq!(cards[0].taken.as_ref().unwrap().reason, "in a train");

    let found = ledger.take_card(7_654_321, Taking::Release, OLIVIA, "found", now()).await;
    assert_eq!(found.unwrap().unwrap().changed.revoked, 0);
    new(&ledger, 2, "alice").await;
    let unknown = ledger.take_card(1, Taking::Remove, OLIVIA, "no idea", now()).await;
    assert!(unknown.unwrap().is_none());
    drop(ledger);
    place.verified();
}

#[tokio::test]
async fn cards_are_listed_in_pages_and_only_what_is_good_is_counted() {
    let place = Place::new();
    let ledger = place.open();
    for serial in 1..=5 {
        let holder = CardHolder { attestation: attestation(serial * 10), ..card("alice") };
        begin_for(&ledger, serial.into(), holder, None).await.unwrap();
    }
    let (mut after, mut seen) = (None, Vec::new());
    loop {
        let query = CardQuery { after, limit: Some(2), ..CardQuery::default() };
        let page = ledger.cards(query, now()).await.unwrap();
        seen.extend(page.cards.iter().map(|card| (card.serial, card.certificates)));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seen, [(10, 1), (20, 1), (30, 1), (40, 1), (50, 1)]);
    let later = now() + jiff::SignedDuration::from_hours(9);
    let page = ledger.cards(CardQuery::default(), later).await.unwrap();
    assert!(page.cards.iter().all(|card| card.certificates == 0), "they have expired");
    assert_eq!(ledger.card(60, now()).await.unwrap(), None);
}

impl Place {
    fn audited(&self) -> Vec<serde_json::Value> {
        let text = fs::read_to_string(self.audit_file()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

async fn new(ledger: &Ledger, serial: u64, holder: &str) -> Intent {
    match begin_for(ledger, serial, card(holder), None).await {
        Ok(Begun::New(intent)) => intent,
        Ok(_) => panic!("{serial} was begun before"),
        Err(error) => panic!("{error}"),
    }
}

async fn refused(ledger: &Ledger, serial: u64, holder: &str) -> &'static str {
    match begin_for(ledger, serial, card(holder), None).await {
        Err(LedgerError::Denied(denial)) => denial.reason(),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("{serial} was begun"),
    }
}

async fn begin_for(
    ledger: &Ledger,
    serial: u64,
    card: CardHolder,
    idempotency: Option<Idempotency>,
) -> Result<Begun, LedgerError> {
    let intent = NewIntent { card: Some(card), ..new_intent(idempotency) };
    begin_text(ledger, intent, text_of(serial)).await
}

/// The card 7654321 for somebody whose SID is made of the name's length and first letter.
fn card(holder: &str) -> CardHolder {
    let rid = 1_000 + 100 * holder.len() + usize::from(holder.as_bytes()[0]);
    CardHolder {
        attestation: attestation(7_654_321),
        upn: format!("{holder}@corp.example").parse().unwrap(),
        sid: format!("S-1-5-21-1-2-3-{rid}").parse().unwrap(),
    }
}

fn attestation(serial: u32) -> Attestation {
    let line = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINdamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea";
    Attestation {
        public_key: PublicKey::from_openssh(line).unwrap(),
        serial,
        firmware: "5.7.1".parse().unwrap(),
        form_factor: Some(FormFactor::from_byte(3)),
        slot: Slot::AUTHENTICATION,
        pin_policy: PinPolicy::Once,
        touch_policy: TouchPolicy::Never,
        attestation_key: "cd".repeat(32),
        statement: b"statement".to_vec(),
        intermediate: b"intermediate".to_vec(),
    }
}
