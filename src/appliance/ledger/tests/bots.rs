//! Bots: two-phase renewal against a model of it, and what joins use up.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use api::{BotInstanceState, BotSpec, UnlockRequest};
use jiff::SignedDuration;
use pki::{names::SpiffeId, serial::X509Serial};
use proptest::prelude::*;
use serde_json::json;
use tokio::runtime::Runtime;

use super::{
    super::bots::{Adopted, Adoption, Held, Joining, NewToken, Proof, Shown},
    *,
};
use crate::policy::Instance;

const ISSUER: &str = "services";
const OLIVIA: &str = "spiffe://example.test/operator/olivia";
const OWN: &str = "spiffe://example.test/service/chanceryd";

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(48) })]

    /// Whatever is lost, killed, restored or copied, in whatever order.
    #[test]
    fn a_copy_is_found_at_its_first_renewal_and_nobody_else_is_locked(
        steps in prop::collection::vec(step(), 1..40),
    ) {
        Runtime::new().unwrap().block_on(async {
            let mut town = Town::new().await;
            for step in steps {
                town.take(step).await;
                if town.is_locked {
                    break;
                }
            }
            town.close();
        });
    }
}

#[tokio::test]
async fn a_join_token_is_for_one_key_and_until_its_certificate_is_used() {
    let place = Place::new();
    let ledger = place.open();
    apply(&ledger, "ci", json!({ "method": "token" }), 1).await;
    let join = async |number: u8, key: &str, secret: u8, now| {
        let proof = Proof::Token { secret: [secret; 32] };
        let joining = joining(&ledger, "ci", instance("ci", number), proof).await;
        join(&ledger, joining, number, key, now).await
    };
    assert_eq!(join(1, "a", 7, now()).await, Err("no-such-join-token"));
    token(&ledger, "ci", 7).await;
    assert_eq!(join(1, "a", 8, now()).await, Err("no-such-join-token"));
    let late = now() + SignedDuration::from_mins(31);
    assert_eq!(join(1, "a", 7, late).await, Err("join-token-expired"));
    assert_eq!(join(1, "a", 7, now()).await, Ok(1));
    assert_eq!(join(2, "b", 7, now()).await, Err("join-token-used"));
    // A lost answer comes again, also when the token has expired meanwhile, until it was used.
    assert_eq!(join(2, "a", 7, late).await, Ok(1));
    use_own(&ledger, 1, "a").await.unwrap();
    assert_eq!(join(2, "a", 7, now()).await, Err("join-token-used"));
    token(&ledger, "ci", 9).await;
    assert_eq!(join(3, "c", 7, now()).await, Err("no-such-join-token"));

    // Until the new instance is used, the one before it lives.
    assert_eq!(join(3, "c", 9, now()).await, Ok(3));
    assert_eq!(states(&ledger).await, [BotInstanceState::Live, BotInstanceState::Live]);
    use_own(&ledger, 3, "c").await.unwrap();
    assert_eq!(use_own(&ledger, 1, "a").await, Err("replaced"));
    assert_eq!(states(&ledger).await, [BotInstanceState::Live, BotInstanceState::Replaced]);

    // A lock takes the certificates back; without it, the bot has to join anew.
    let target = instance("ci", 3).lock_target();
    let reason = "a test".to_owned();
    let lock = api::LockRequest { target: target.clone(), issued_before: None, reason, ttl: None };
    assert_eq!(ledger.lock(lock, OLIVIA, now()).await.unwrap().revoked, 1);
    token(&ledger, "ci", 10).await;
    let bot_lock = api::LockRequest {
        target: "bot:ci".parse().unwrap(),
        issued_before: None,
        reason: "a test".to_owned(),
        ttl: None,
    };
    ledger.lock(bot_lock, OLIVIA, now()).await.unwrap();
    assert_eq!(join(4, "d", 10, now()).await, Err("locked"), "and the token is not used up");
    for target in [target, "bot:ci".parse().unwrap()] {
        let unlock = UnlockRequest { target, reason: "a test".to_owned() };
        assert_eq!(ledger.unlock(unlock, OLIVIA, now()).await.unwrap().locks.len(), 1);
    }
    assert_eq!(use_own(&ledger, 3, "c").await, Err("certificate-revoked"));
    assert_eq!(join(4, "d", 10, now()).await, Ok(4));
    let kept = states(&ledger).await;
    assert_eq!(kept[..2], [BotInstanceState::Live, BotInstanceState::Locked]);
    drop(ledger);
    place.verified();
}

#[tokio::test]
async fn a_bound_key_joins_once_for_each_instance_and_recovers_as_often_as_is_said() {
    let place = Place::new();
    let ledger = place.open();
    let by_key = |key: &str, recoveries| json!({ "method": "bound-key", "public_key": key, "recoveries": recoveries });
    assert!(apply(&ledger, "ci", by_key("one", 1), 2).await);
    assert!(!apply(&ledger, "ci", by_key("one", 1), 2).await, "applied again");
    let join = async |number: u8, key: &str| {
        let joining = joining(&ledger, "ci", instance("ci", number), Proof::BoundKey).await;
        join(&ledger, joining, number, key, now()).await
    };
    let left = async || bot(&ledger).await.recoveries_left;
    for (number, key, left_then) in [(1, "a", 1), (2, "b", 1), (3, "c", 0)] {
        place.clock.advance(SignedDuration::from_secs(1));
        assert_eq!(join(number, key).await, Ok(number));
        assert_eq!(join(9, key).await, Ok(number), "a lost answer counts once");
        assert_eq!(left().await, Some(left_then));
        let later = now() + SignedDuration::from_secs(number.into());
        confirm(&ledger, number, key, later).await.unwrap();
    }
    // The third takes the place of the one that was longest not seen.
    assert_eq!(use_own(&ledger, 1, "a").await, Err("replaced"));
    use_own(&ledger, 2, "b").await.unwrap();
    assert_eq!(join(4, "d").await, Err("no-recovery-left"));

    let target = instance("ci", 2).lock_target();
    let reason = "a test".to_owned();
    let lock = api::LockRequest { target: target.clone(), issued_before: None, reason, ttl: None };
    ledger.lock(lock, OLIVIA, now()).await.unwrap();
    assert_eq!(join(4, "d").await, Err("no-recovery-left"));
    for given in [1, 1] {
        let unlock = UnlockRequest { target: target.clone(), reason: "a test".to_owned() };
        ledger.unlock(unlock, OLIVIA, now()).await.unwrap();
        assert_eq!(left().await, Some(given), "one for a lock that was there");
    }
    assert_eq!(join(4, "d").await, Ok(4));
    assert_eq!(join(5, "e").await, Err("no-recovery-left"));

    // One more instance joins for nothing, another number begins anew, and so does another key.
    assert!(apply(&ledger, "ci", by_key("one", 1), 3).await);
    assert_eq!((join(5, "e").await, left().await), (Ok(5), Some(0)));
    assert!(apply(&ledger, "ci", by_key("one", 7), 3).await);
    assert_eq!(left().await, Some(7));
    assert!(apply(&ledger, "ci", by_key("two", 2), 3).await);
    for (number, key, left_then) in [(6, "f", 2), (7, "g", 2), (8, "h", 2), (9, "i", 1)] {
        assert_eq!((join(number, key).await, left().await), (Ok(number), Some(left_then)));
    }
}

#[tokio::test]
async fn a_token_of_an_issuer_is_for_one_key_and_its_instances_do_not_renew() {
    let place = Place::new();
    let ledger = place.open();
    let oidc = json!({
        "method": "oidc", "issuer": "https://issuer.example", "audience": "chancery",
        "claims": { "sub": "ci" },
    });
    apply(&ledger, "ci", oidc, 1).await;
    let expires_at = now() + SignedDuration::from_mins(5);
    let join = async |number: u8, key: &str, token: u8, now| {
        let proof = Proof::Oidc { token: [token; 32], expires_at };
        let joining = joining(&ledger, "ci", instance("ci", number), proof).await;
        join(&ledger, joining, number, key, now).await
    };
    assert_eq!(join(1, "a", 1, now()).await, Ok(1));
    assert_eq!(join(2, "b", 1, now()).await, Err("join-proof-used"));
    assert_eq!(join(2, "a", 1, now()).await, Ok(1), "a lost answer");
    use_own(&ledger, 1, "a").await.unwrap();
    assert_eq!(join(2, "a", 1, now()).await, Err("join-proof-used"));
    let renewal = Lineage::Renewal(shown_of(1, "a"));
    let new = Own { number: 90, key: "z".to_owned(), born: now() };
    let begun = begin_own(&ledger, renewal, &new, now()).await;
    assert_eq!(begun.map(drop).map_err(reason), Err("not-renewable"));
    // What has expired needs not be kept: the issuer's time is over.
    let later = expires_at + SignedDuration::from_secs(1);
    assert_eq!(join(2, "b", 2, later).await, Ok(2));
    let kept = "SELECT count(*) FROM bot_proofs";
    let kept: i64 = place.database().query_row(kept, (), |row| row.get(0)).unwrap();
    assert_eq!(kept, 1);
}

#[tokio::test]
async fn a_bot_that_is_removed_loses_what_it_has_and_was_given() {
    let place = Place::new();
    let ledger = place.open();
    apply(&ledger, "ci", json!({ "method": "token" }), 1).await;
    token(&ledger, "ci", 7).await;
    let proof = Proof::Token { secret: [7; 32] };
    let joining = joining(&ledger, "ci", instance("ci", 1), proof).await;
    join(&ledger, joining, 1, "a", now()).await.unwrap();
    use_own(&ledger, 1, "a").await.unwrap();
    let login = || NewIntent { caller: caller("ci", 1).to_string(), ..new_intent(None) };
    begin_text(&ledger, login(), text_of(50)).await.unwrap();
    begin(&ledger, 51, None).await.unwrap();

    let name = "ci".parse().unwrap();
    let removed = ledger.remove_bot(&name, OLIVIA, "a test", now()).await.unwrap().unwrap();
    assert_eq!(removed.instances[0].state, BotInstanceState::Replaced);
    assert!(ledger.remove_bot(&name, OLIVIA, "a test", now()).await.unwrap().is_none());
    let revoked = ledger.revocations_after(0).await.unwrap();
    let revoked: BTreeSet<_> = revoked.iter().map(|it| it.serial.to_string()).collect();
    let own = shown_of(1, "a").serial;
    assert_eq!(revoked, ["50".to_owned(), own].into(), "and nobody else's");
    assert_eq!(
        begin_text(&ledger, login(), text_of(52)).await.map(drop).map_err(reason),
        Err("no-such-instance")
    );
    let raw = begin_raw(&ledger, login()).await;
    assert_eq!(raw.map(drop).map_err(reason), Err("no-such-instance"));
    // Another bot of the same name has nothing of it.
    apply(&ledger, "ci", json!({ "method": "token" }), 1).await;
    assert_eq!(use_own(&ledger, 1, "a").await, Err("no-such-instance"));
    drop(ledger);
    place.verified();
}

#[tokio::test]
async fn ledgers_of_earlier_versions_are_brought_up_to_date() {
    for version in 1..super::super::database::VERSION {
        let place = Place::new();
        fs::create_dir_all(place.root.path().join("state")).unwrap();
        let steps = [
            include_str!("../schema.sql"),
            include_str!("../schema-2.sql"),
            include_str!("../schema-3.sql"),
            include_str!("../schema-4.sql"),
        ];
        for step in &steps[..usize::try_from(version).unwrap()] {
            place.sql(step);
        }
        place.sql(&format!("PRAGMA user_version = {version}"));
        place.sql(
            "INSERT INTO intents (issuer, kind, serial, subject, names, key_fingerprint,
                                  not_before, not_after, caller, role, created_at, text)
             VALUES ('users', 'ssh_user', '7', 'alice', '[]', 'ab', 0, 4000000000000, 'alice',
                     'staff', 0, x'00')",
        );
        let ledger = place.open();
        assert!(ledger.was_begun("users", "7").await.unwrap(), "version {version}");
        apply(&ledger, "ci", json!({ "method": "token" }), 1).await;
        token(&ledger, "ci", 7).await;
        let proof = Proof::Token { secret: [7; 32] };
        let joining = joining(&ledger, "ci", instance("ci", 1), proof).await;
        join(&ledger, joining, 1, "a", now()).await.unwrap();
        let target = "user:alice".parse().unwrap();
        let lock = api::LockPreview { target, issued_before: None };
        ledger.preview(lock, now()).await.unwrap();
        assert_eq!(ledger.cards(api::CardQuery::default(), now()).await.unwrap().cards, []);
        drop(ledger);
        place.verified();
    }
}

/// What happens next; `who` is the original, or its copy once there is one.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Somebody copies the original's state directory.
    Copy,
    /// The appliance is killed, and its ledger is what the last backup had.
    Restore,
    /// The appliance is killed.
    Kill,
    /// The ledger is backed up.
    Backup,
    /// An old request of the original comes once more, late.
    Late(prop::sample::Index),
    /// Somebody renews.
    Renew { by_copy: bool, fate: Fate },
    /// Somebody asks for something else.
    Use { by_copy: bool },
}

/// What becomes of a renewal.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// The answer arrives.
    Arrives,
    /// The appliance is killed after the intent, before the certificate is recorded.
    Killed,
    /// The answer is lost.
    Lost,
}

fn step() -> impl Strategy<Value = Step> {
    let fate =
        prop_oneof![3 => Just(Fate::Arrives), 1 => Just(Fate::Killed), 1 => Just(Fate::Lost)];
    prop_oneof![
        1 => Just(Step::Copy),
        1 => Just(Step::Kill),
        1 => Just(Step::Backup),
        1 => Just(Step::Restore),
        2 => any::<prop::sample::Index>().prop_map(Step::Late),
        8 => (any::<bool>(), fate).prop_map(|(by_copy, fate)| Step::Renew { by_copy, fate }),
        4 => any::<bool>().prop_map(|by_copy| Step::Use { by_copy }),
    ]
}

/// An instance's own certificate.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Own {
    number: u64,
    key: String,
    born: Timestamp,
}

/// An agent's state directory.
#[derive(Clone, Debug)]
struct Agent {
    own: Own,
    /// The key that it has asked for, until it has the answer.
    asked: Option<String>,
}

/// What the ledger is to know: as little as can be said.
#[derive(Clone, Debug, Default)]
struct Model {
    /// Each certificate that was ever begun here or taken up.
    known: BTreeMap<u64, Own>,
    in_use: Option<Own>,
    pending: Option<Own>,
    /// Those that were never used, because another was asked for.
    discarded: BTreeSet<u64>,
}

struct Town {
    place: Place,
    ledger: Option<Ledger>,
    model: Model,
    backup: Option<(TempDir, Model)>,
    original: Agent,
    copy: Option<Agent>,
    /// What the original has sent to this run of the appliance.
    sent: Vec<(Own, String)>,
    /// The last serial number, and key, that was ever made: none comes twice.
    last: u64,
    is_locked: bool,
}

impl Town {
    async fn new() -> Self {
        let place = Place::new();
        let ledger = place.open();
        apply(&ledger, "ci", json!({ "method": "token" }), 1).await;
        token(&ledger, "ci", 7).await;
        let first = Own { number: 1, key: "key 1".to_owned(), born: now() };
        let mut town = Self {
            place,
            ledger: Some(ledger),
            model: Model::default(),
            backup: None,
            original: Agent { own: first.clone(), asked: None },
            copy: None,
            sent: Vec::new(),
            last: 1,
            is_locked: false,
        };
        let proof = Proof::Token { secret: [7; 32] };
        let joining = joining(town.ledger(), "ci", instance("ci", 1), proof).await;
        let lineage = Lineage::Join(Box::new(joining));
        assert_eq!(town.give(lineage, first.clone(), Fate::Arrives).await, Ok(first.clone()));
        town.model.known.insert(1, first.clone());
        town.model.pending = Some(first);
        town
    }

    async fn take(&mut self, step: Step) {
        self.place.clock.advance(SignedDuration::from_secs(1));
        match step {
            Step::Backup => self.back_up(),
            Step::Copy => self.copy = Some(self.original.clone()),
            Step::Kill => self.kill(),
            Step::Late(which) if !self.sent.is_empty() => {
                let (own, key) = self.sent[which.index(self.sent.len())].clone();
                let answer = self.renew(&own, &key, Fate::Lost).await;
                // It may be given again what nobody waits for; it is no copy's.
                assert_ne!(answer, Err("locked"), "a request that came late");
            }
            Step::Late(_) => {}
            Step::Renew { by_copy, fate } => self.agent_renews(by_copy, fate).await,
            Step::Restore => self.restore(),
            Step::Use { by_copy } => {
                let own = self.agent(by_copy).own.clone();
                let answer = self.ask(&own).await;
                if self.copy.is_none() {
                    assert_eq!(answer, Ok(()), "the only one of its kind");
                }
            }
        }
    }

    async fn agent_renews(&mut self, by_copy: bool, fate: Fate) {
        let Agent { own, asked } = self.agent(by_copy).clone();
        let is_new = asked.is_none();
        let key = asked.unwrap_or_else(|| self.new_key());
        self.agent(by_copy).asked = Some(key.clone());
        if !by_copy || self.copy.is_none() {
            self.sent.push((own.clone(), key.clone()));
        }
        let other = self.model.in_use.clone();
        let answer = self.renew(&own, &key, fate).await;
        match &answer {
            Ok(given) if matches!(fate, Fate::Arrives) => {
                *self.agent(by_copy) = Agent { own: given.clone(), asked: None };
            }
            Ok(_) => {}
            Err(reason) => assert!(self.copy.is_some(), "a false {reason}: {own:?} {key}"),
        }
        // Whoever has something older than what another uses, and wants something new, is found.
        let has_rival = other.is_some_and(|other| other.born > own.born);
        if has_rival && is_new {
            assert_eq!(answer, Err("locked"), "{own:?}");
        }
        self.is_locked = answer == Err("locked");
    }

    /// As the appliance answers a renewal, and as the model does.
    async fn renew(&mut self, own: &Own, key: &str, fate: Fate) -> Result<Own, &'static str> {
        let expected = self.model.renew(own, key);
        let held = self.settle(own).await;
        let answer = match held {
            Held::Confirmed => {
                self.last += 1;
                let born = self.place.clock.now();
                let new = Own { number: self.last, key: key.to_owned(), born };
                self.give(Lineage::Renewal(shown(own)), new, fate).await
            }
            Held::Discarded | Held::Superseded => {
                let judged = self.ledger().lock_clone(shown(own), (ISSUER, key), OWN, self.now());
                match judged.await {
                    Ok(locked) => {
                        assert_eq!(locked.lock.target, instance("ci", 1).lock_target());
                        Err("locked")
                    }
                    Err(error) => Err(reason(error)),
                }
            }
            held => Err(held.denial(&caller("ci", 1), &instance("ci", 1)).reason()),
        };
        match (&answer, expected) {
            (Ok(given), Ok(again)) => {
                if let Some(again) = again {
                    assert_eq!(*given, again, "the same once more");
                }
                self.model.given(given.clone());
            }
            (Err(told), Err(wanted)) => assert_eq!(*told, wanted, "{own:?} {key}"),
            (answer, expected) => panic!("{own:?} {key}: {answer:?}, and not {expected:?}"),
        }
        answer
    }

    /// As the appliance answers any other request, and as the model does.
    async fn ask(&mut self, own: &Own) -> Result<(), &'static str> {
        let expected = self.model.ask(own);
        let answer = match self.settle(own).await {
            Held::Confirmed => Ok(()),
            held => Err(held.denial(&caller("ci", 1), &instance("ci", 1)).reason()),
        };
        assert_eq!(answer, expected, "{own:?}");
        answer
    }

    /// What `Authority::settle` does.
    async fn settle(&self, own: &Own) -> Held {
        let (ledger, shown, now) = (self.ledger(), shown(own), self.now());
        let read = async || {
            let found = ledger.instance_standing(&shown.instance, ISSUER, &shown.serial).await;
            found.unwrap().unwrap().held
        };
        let mut held = read().await;
        if held == Held::Unknown {
            let adoption = Adoption {
                shown: shown.clone(),
                issuer: ISSUER.to_owned(),
                text: Vec::new(),
                summary: text_of_own(own).summary,
                own: OWN.to_owned(),
            };
            match ledger.adopt(adoption, now).await.unwrap() {
                Adopted::Older => return Held::Superseded,
                Adopted::Taken => held = read().await,
            }
        }
        if held == Held::Pending {
            ledger.confirm(&shown, ISSUER, now).await.unwrap();
            held = read().await;
            assert_eq!(held, Held::Confirmed);
        }
        held
    }

    /// From an intent to a certificate.
    async fn give(&mut self, lineage: Lineage, new: Own, fate: Fate) -> Result<Own, &'static str> {
        let begun = begin_own(self.ledger(), lineage, &new, self.now()).await.map_err(reason)?;
        let (intent, killed) = match (begun, fate) {
            (Begun::Done(done), _) => return Ok(own_of(done.summary())),
            (Begun::New(intent) | Begun::Unfinished(intent, _), fate) => {
                (intent, matches!(fate, Fate::Killed))
            }
        };
        let given = own_of(intent.summary());
        if killed {
            drop(intent);
            self.kill();
        } else {
            let now = self.now();
            intent.commit_bytes(b"certificate".to_vec(), now).await.map_err(reason)?;
        }
        Ok(given)
    }

    fn agent(&mut self, copy: bool) -> &mut Agent {
        match &mut self.copy {
            Some(agent) if copy => agent,
            _ => &mut self.original,
        }
    }

    fn new_key(&mut self) -> String {
        self.last += 1;
        format!("key {}", self.last)
    }

    fn ledger(&self) -> &Ledger {
        self.ledger.as_ref().unwrap()
    }

    fn now(&self) -> Timestamp {
        self.place.clock.now()
    }

    fn kill(&mut self) {
        // What is not written when it is dropped is not acknowledged either.
        self.ledger = None;
        self.ledger = Some(self.place.open());
        self.sent.clear();
    }

    fn back_up(&mut self) {
        self.ledger = None;
        let copy = TempDir::new().unwrap();
        copy_all(self.place.root.path(), copy.path());
        self.backup = Some((copy, self.model.clone()));
        self.ledger = Some(self.place.open());
        self.sent.clear();
    }

    fn restore(&mut self) {
        let Some((copy, model)) = &self.backup else { return };
        self.ledger = None;
        for directory in ["state", "audit"] {
            fs::remove_dir_all(self.place.root.path().join(directory)).unwrap();
        }
        copy_all(copy.path(), self.place.root.path());
        self.model = model.clone();
        self.ledger = Some(self.place.open());
        self.sent.clear();
    }

    fn close(mut self) {
        self.ledger = None;
        self.place.verified();
    }
}

impl Model {
    fn ask(&mut self, own: &Own) -> Result<(), &'static str> {
        let is_newest = self.in_use.as_ref().is_none_or(|in_use| own.born >= in_use.born);
        if self.in_use.as_ref() == Some(own) {
            return Ok(());
        }
        if self.pending.as_ref() == Some(own) || !self.known.contains_key(&own.number) && is_newest
        {
            self.known.insert(own.number, own.clone());
            self.in_use = Some(own.clone());
            self.pending = None;
            return Ok(());
        }
        let is_discarded = self.discarded.contains(&own.number);
        Err(if is_discarded { "certificate-revoked" } else { "superseded" })
    }

    /// What is given again, if anything is; else something new is given.
    fn renew(&mut self, own: &Own, key: &str) -> Result<Option<Own>, &'static str> {
        let is_known = self.known.values().any(|known| known.key == key);
        match self.ask(own) {
            Err(_) if is_known => Err("superseded"),
            Err(_) => Err("locked"),
            Ok(()) => match &self.pending {
                Some(pending) if pending.key == key => Ok(Some(pending.clone())),
                _ if is_known => Err("instance-key-used"),
                _ => Ok(None),
            },
        }
    }

    fn given(&mut self, own: Own) {
        self.known.insert(own.number, own.clone());
        let before = self.pending.replace(own.clone()).filter(|before| *before != own);
        self.discarded.extend(before.map(|before| before.number));
    }
}

fn shown(own: &Own) -> Shown {
    Shown {
        caller: caller("ci", 1),
        instance: instance("ci", 1),
        certificate: b"certificate"[..].into(),
        serial: text_of_own(own).summary.serial.to_string(),
        key: own.key.clone(),
        from: [192, 0, 2, 1].into(),
    }
}

/// What the first certificate of an instance shows.
fn shown_of(number: u8, key: &str) -> Shown {
    let own = Own { number: number.into(), key: key.to_owned(), born: now() };
    Shown { caller: caller("ci", number), instance: instance("ci", number), ..shown(&own) }
}

/// Joins, and gives the number of the certificate.
async fn join(
    ledger: &Ledger,
    joining: Joining,
    number: u8,
    key: &str,
    at: Timestamp,
) -> Result<u8, &'static str> {
    let own = Own { number: number.into(), key: key.to_owned(), born: now() };
    let lineage = Lineage::Join(Box::new(joining));
    let given = match begin_own(ledger, lineage, &own, at).await.map_err(reason)? {
        Begun::Done(done) => own_of(done.summary()),
        Begun::New(intent) | Begun::Unfinished(intent, _) => {
            let given = own_of(intent.summary());
            intent.commit_bytes(b"certificate".to_vec(), at).await.map_err(reason)?;
            given
        }
    };
    Ok(u8::try_from(given.number).unwrap())
}

/// Uses the first certificate of an instance.
async fn use_own(ledger: &Ledger, number: u8, key: &str) -> Result<(), &'static str> {
    confirm(ledger, number, key, now()).await
}

async fn confirm(
    ledger: &Ledger,
    number: u8,
    key: &str,
    at: Timestamp,
) -> Result<(), &'static str> {
    ledger.confirm(&shown_of(number, key), ISSUER, at).await.map_err(reason)
}

async fn bot(ledger: &Ledger) -> api::Bot {
    ledger.bots(None, now()).await.unwrap().pop().unwrap()
}

async fn states(ledger: &Ledger) -> Vec<BotInstanceState> {
    let mut instances = bot(ledger).await.instances;
    instances.sort_by_key(|instance| std::cmp::Reverse(instance.id.clone()));
    instances.into_iter().map(|instance| instance.state).collect()
}

fn instance(bot: &str, number: u8) -> Instance {
    Instance::new(bot.parse().unwrap(), [number; 16])
}

fn caller(bot: &str, number: u8) -> SpiffeId {
    instance(bot, number).spiffe_id(&"example.test".parse().unwrap()).unwrap()
}

fn text_of_own(own: &Own) -> Text {
    text_for("ci", 1, own)
}

fn text_for(bot: &str, number: u8, own: &Own) -> Text {
    let summary = Summary {
        kind: Kind::TlsClient,
        serial: Serial::X509(X509Serial::from_random(u128::from(own.number).to_be_bytes())),
        subject: String::new(),
        names: vec![format!("URI:{}", caller(bot, number))],
        key_fingerprint: own.key.clone(),
        not_before: own.born,
        not_after: own.born + SignedDuration::from_hours(1),
    };
    Text { bytes: format!("own {}", own.number).into_bytes(), summary }
}

fn own_of(summary: &Summary) -> Own {
    let Serial::X509(serial) = summary.serial else { panic!("not X.509") };
    let (_, low) = serial.as_bytes().split_at(8);
    Own {
        number: u64::from_be_bytes(low.try_into().unwrap()),
        key: summary.key_fingerprint.clone(),
        born: summary.not_before,
    }
}

async fn begin_own(
    ledger: &Ledger,
    lineage: Lineage,
    own: &Own,
    now: Timestamp,
) -> Result<Begun, LedgerError> {
    let text = match &lineage {
        Lineage::Join(joining) => {
            let number = u8::from_str_radix(&joining.instance.id[..2], 16).unwrap();
            text_for(joining.instance.bot.as_str(), number, own)
        }
        Lineage::Renewal(_) => text_of_own(own),
    };
    let intent = NewIntent {
        issuer: ISSUER.to_owned(),
        caller: OWN.to_owned(),
        role: "bot".to_owned(),
        session: None,
        idempotency: None,
        on_behalf_of: None,
        account: None,
        lineage: Some(lineage),
        card: None,
        now,
    };
    super::begin_text(ledger, intent, text).await
}

async fn apply(ledger: &Ledger, name: &str, join: serde_json::Value, max_instances: u32) -> bool {
    let spec = json!({
        "name": name, "roles": ["login"], "join": join, "max_instances": max_instances,
    });
    let spec: BotSpec = serde_json::from_value(spec).unwrap();
    ledger.apply_bot(spec, OLIVIA, now()).await.unwrap().changed
}

async fn token(ledger: &Ledger, name: &str, secret: u8) {
    let expires_at = now() + SignedDuration::from_mins(30);
    let bot = name.parse().unwrap();
    let new = NewToken { bot, secret: [secret; 32], expires_at, by: OLIVIA.to_owned() };
    ledger.make_bot_token(new).await.unwrap().unwrap();
}

async fn joining(ledger: &Ledger, name: &str, instance: Instance, proof: Proof) -> Joining {
    let spec = ledger.bot_spec(&name.parse().unwrap()).await.unwrap().unwrap();
    Joining { spec, instance, proof, words: "a test".to_owned(), from: [192, 0, 2, 1].into() }
}

fn reason(error: LedgerError) -> &'static str {
    match error {
        LedgerError::Denied(denial) => denial.reason(),
        other => panic!("{other}"),
    }
}

fn copy_all(from: &Path, to: &Path) {
    for directory in ["state", "audit"] {
        fs::create_dir_all(to.join(directory)).unwrap();
        for entry in fs::read_dir(from.join(directory)).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), to.join(directory).join(entry.file_name())).unwrap();
        }
    }
}
