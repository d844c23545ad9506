//! Locks, sessions and revocations: what the ledger refuses, withholds and tells.

use api::{
    EndCause, LockPreview, LockRequest, LockTarget, RevocationReason, RevokeRequest, SessionState,
    UnlockRequest,
};
use jiff::SignedDuration;

use super::*;
use crate::{
    directory::{Act, Outcome},
    policy::{DirectoryGrant, SessionGrant},
};

const ALICE: &str = "spiffe://example.test/user/alice";
const BOB: &str = "spiffe://example.test/user/bob";
const OLIVIA: &str = "spiffe://example.test/operator/olivia";

#[tokio::test]
async fn a_lock_refuses_what_begins_and_withholds_what_has_begun() {
    let place = Place::new();
    let mut ledger = place.open();
    let operation = || Some(Idempotency { key: "a".into(), request: [1; 32] });
    let begun = new(&ledger, intent(ALICE, operation()), 1).await;
    let others = new(&ledger, intent(BOB, None), 2).await;
    let released = new(&ledger, intent(ALICE, None), 3).await;
    released.commit_bytes(b"three".to_vec(), now()).await.unwrap();

    let target: LockTarget = "user:alice".parse().unwrap();
    let preview = LockPreview { target: target.clone(), issued_before: None };
    let preview = ledger.preview(preview, now()).await.unwrap();
    assert_eq!(preview.certificates, 2, "the one that has no answer yet is one of them");
    let changes = ledger.changes();
    let locked = ledger.lock(lock(&target, None), OLIVIA, now()).await.unwrap();
    assert_eq!((locked.revoked, locked.sessions), (2, 0));
    assert_eq!(*changes.borrow(), locked.change);

    let late = begun.commit_bytes(b"one".to_vec(), now()).await;
    assert_eq!(denial(late), "taken-back");
    for _ in 0..2 {
        // After a restart, too.
        let again = begin_as(&ledger, intent(ALICE, operation()), 9).await;
        assert_eq!(denial(again), "locked");
        assert_eq!(denial(begin_raw(&ledger, intent(ALICE, None)).await), "locked");
        ledger = place.reopen(ledger);
    }
    others.commit_bytes(b"two".to_vec(), now()).await.unwrap();

    let unlock = UnlockRequest { target: target.clone(), reason: "it was a mistake".into() };
    let unlocked = ledger.unlock(unlock, OLIVIA, now()).await.unwrap();
    assert_eq!(unlocked.locks.len(), 1);
    new(&ledger, intent(ALICE, None), 10).await;
    let again = begin_as(&ledger, intent(ALICE, operation()), 9).await;
    assert_eq!(denial(again), "taken-back", "what was revoked stays revoked");

    let told = ledger.revocations_after(0).await.unwrap();
    let told: Vec<_> = told.iter().map(|it| (it.serial.to_string(), it.code)).collect();
    let code = RevocationReason::PrivilegeWithdrawn;
    assert_eq!(told, [("1".to_owned(), code), ("3".to_owned(), code)]);
    assert!(ledger.revocations_after(locked.change).await.unwrap().is_empty());
    drop(ledger);
    place.verified();
}

#[tokio::test]
async fn a_cut_off_takes_back_what_was_issued_before_and_nothing_after() {
    let place = Place::new();
    let ledger = place.open();
    let later = now() + SignedDuration::from_secs(60);
    new(&ledger, intent(ALICE, None), 1).await;
    new(&ledger, NewIntent { now: later, ..intent(ALICE, None) }, 2).await;
    let cut_off = lock(&LockTarget::All, Some(later));
    let locked = ledger.lock(cut_off, OLIVIA, later).await.unwrap();
    assert_eq!(locked.revoked, 1);
    new(&ledger, NewIntent { now: later, ..intent(ALICE, None) }, 3).await;
}

#[tokio::test]
async fn a_lock_ends_by_itself() {
    let place = Place::new();
    let ledger = place.open();
    let target: LockTarget = "user:alice".parse().unwrap();
    let lock = LockRequest { ttl: Some(60), ..lock(&target, None) };
    ledger.lock(lock, OLIVIA, now()).await.unwrap();
    assert_eq!(denial(begin_as(&ledger, intent(ALICE, None), 1).await), "locked");
    let later = now() + SignedDuration::from_secs(60);
    new(&ledger, NewIntent { now: later, ..intent(ALICE, None) }, 1).await;
    assert!(ledger.locks(later).await.unwrap().locks.is_empty());
}

#[tokio::test]
async fn a_revocation_is_of_one_certificate_given_out_or_not() {
    let place = Place::new();
    let ledger = place.open();
    let lost = new(&ledger, intent(ALICE, None), 7).await;
    let revoke = |serial: &str| RevokeRequest {
        issuer: "users".into(),
        serial: serial.into(),
        code: RevocationReason::KeyCompromise,
        reason: "the laptop is gone".into(),
    };
    assert!(ledger.revoke(revoke("8"), OLIVIA, now()).await.unwrap().is_none());
    let first = ledger.revoke(revoke("7"), OLIVIA, now()).await.unwrap().unwrap();
    let second = ledger.revoke(revoke("7"), OLIVIA, now()).await.unwrap().unwrap();
    assert_eq!((first.revoked, second.revoked), (1, 0));
    assert_eq!(first.change, second.change);
    assert_eq!(denial(lost.commit_bytes(b"seven".to_vec(), now()).await), "taken-back");
}

#[tokio::test]
async fn a_session_waits_opens_and_ends_with_its_certificates() {
    let place = Place::new();
    let ledger = place.open();
    let waiting = ledger.request_session(session("s-one", 2)).await.unwrap();
    assert_eq!(waiting.state, SessionState::Waiting);
    let for_it = || for_session(&waiting.id);
    assert_eq!(denial(begin_as(&ledger, for_it(), 1).await), "session-not-open");

    let decide = |approver: &str, approved| NewDecision {
        session: "s-one".into(),
        approver: approver.into(),
        approved,
        reason: "as agreed".into(),
        closes_at: None,
        now: now(),
    };
    let half = ledger.decide_session(decide(BOB, true)).await.unwrap();
    assert_eq!(half.state, SessionState::Waiting, "two approvals are needed");
    assert_eq!(denial(ledger.decide_session(decide(BOB, true)).await), "decided-before");
    let open = ledger.decide_session(decide(OLIVIA, true)).await.unwrap();
    assert_eq!(open.state, SessionState::Open);
    assert_eq!(open.ends_at, Some(now() + SignedDuration::from_hours(1)));
    assert_eq!(denial(ledger.decide_session(decide(ALICE, false)).await), "session-not-waiting");

    let given = new(&ledger, for_it(), 1).await;
    given.commit_bytes(b"one".to_vec(), now()).await.unwrap();
    assert_eq!(denial(begin_as(&ledger, for_it(), 2).await), "session-key-used");
    let ended = ledger.end_session("s-one", ALICE, "done", now()).await.unwrap();
    assert_eq!((ended.revoked, ended.session.end_cause), (1, Some(EndCause::Request)));
    assert_eq!(denial(begin_as(&ledger, for_it(), 3).await), "session-not-open");
    assert_eq!(denial(ledger.end_session("s-one", ALICE, "done", now()).await), "session-not-open");
    let told = ledger.revocations_after(0).await.unwrap();
    assert_eq!(told[0].code, RevocationReason::CessationOfOperation);
    assert_eq!(told[0].change, ended.change);
    let record = ledger.certificate("users", "1").await.unwrap().unwrap();
    assert_eq!((record.session.as_deref(), record.revoked_at), (Some("s-one"), Some(now())));
    assert_eq!(record.revocation, Some(RevocationReason::CessationOfOperation));
}

#[tokio::test]
async fn sessions_end_by_time_by_a_missing_heartbeat_and_by_a_lock() {
    let place = Place::new();
    let ledger = place.open();
    let after = |seconds| now() + SignedDuration::from_secs(seconds);
    for (id, approvals) in [("s-waits", 1), ("s-beats", 0), ("s-silent", 0)] {
        ledger.request_session(session(id, approvals)).await.unwrap();
    }
    let state = async |id: &str| {
        let session = ledger.session(id).await.unwrap().unwrap();
        (session.state, session.end_cause)
    };
    ledger.beat("s-beats", after(50)).await.unwrap();
    assert!(ledger.end_due_sessions(after(59)).await.unwrap().is_empty());
    assert_eq!(ledger.end_due_sessions(after(60)).await.unwrap(), ["s-silent"]);
    assert_eq!(state("s-silent").await, (SessionState::Ended, Some(EndCause::Heartbeat)));
    assert_eq!(denial(ledger.beat("s-silent", after(61)).await), "session-not-open");
    for at in (100..=1_750).step_by(50) {
        ledger.beat("s-beats", after(at)).await.unwrap();
    }
    ledger.end_due_sessions(after(1_800)).await.unwrap();
    assert_eq!(state("s-waits").await, (SessionState::Expired, None));
    for at in (1_750..=3_550).step_by(50) {
        ledger.beat("s-beats", after(at)).await.unwrap();
    }
    assert!(ledger.end_due_sessions(after(3_599)).await.unwrap().is_empty());
    assert_eq!(ledger.end_due_sessions(after(3_600)).await.unwrap(), ["s-beats"]);
    assert_eq!(state("s-beats").await, (SessionState::Ended, Some(EndCause::Time)));

    // Its role closes ten minutes after it was approved.
    ledger.request_session(session("s-closes", 1)).await.unwrap();
    let decision = NewDecision {
        session: "s-closes".into(),
        approver: BOB.into(),
        approved: true,
        reason: "seen".into(),
        closes_at: Some(after(600)),
        now: now(),
    };
    let opened = ledger.decide_session(decision).await.unwrap();
    assert_eq!(opened.ends_at, Some(after(600)));
    ledger.beat("s-closes", after(599)).await.unwrap();
    assert_eq!(ledger.end_due_sessions(after(600)).await.unwrap(), ["s-closes"]);
    assert_eq!(state("s-closes").await, (SessionState::Ended, Some(EndCause::Time)));

    ledger.request_session(session("s-locked", 0)).await.unwrap();
    let given = new(&ledger, for_session("s-locked"), 5).await;
    given.commit_bytes(b"five".to_vec(), now()).await.unwrap();
    let host: LockTarget = "host:db1.example.test".parse().unwrap();
    let locked = ledger.lock(lock(&host, None), OLIVIA, now()).await.unwrap();
    assert_eq!((locked.revoked, locked.sessions), (1, 1));
    assert_eq!(state("s-locked").await, (SessionState::Ended, Some(EndCause::Lock)));
    let refused = ledger.request_session(session("s-again", 0)).await;
    assert_eq!(denial(refused), "locked");
}

#[tokio::test]
async fn what_a_session_gives_in_the_directory_is_taken_back_in_order() {
    let place = Place::new();
    let mut ledger = place.open();
    let given = |enable_account, groups: &[&str]| DirectoryGrant {
        upn: "alice@corp.example".parse().unwrap(),
        enable_account,
        groups: groups.iter().map(|group| (*group).to_owned()).collect(),
    };
    let open = async |ledger: &Ledger, id: &str, approvals, directory| {
        let mut new = session(id, approvals);
        new.grant.directory = Some(directory);
        ledger.request_session(new).await.unwrap();
    };
    let end = async |ledger: &Ledger, id: &str| {
        ledger.end_session(id, ALICE, "done", now()).await.unwrap();
    };

    // One that never opens gives nothing, and takes nothing.
    open(&ledger, "s-waits", 1, given(true, &["CN=a"])).await;
    end(&ledger, "s-waits").await;
    assert_eq!(ledger.next_directory_job().await.unwrap(), None);

    open(&ledger, "s-one", 0, given(true, &["CN=a", "CN=b"])).await;
    assert_eq!(work(&ledger, 3).await, ["s-one add CN=a", "s-one add CN=b", "s-one enable"]);
    open(&ledger, "s-two", 0, given(false, &["CN=b"])).await;
    // What another session gives, too, stays; it survives a restart.
    end(&ledger, "s-one").await;
    ledger = place.reopen(ledger);
    assert_eq!(work(&ledger, 3).await, ["s-two add CN=b", "s-one disable", "s-one remove CN=a"]);
    end(&ledger, "s-two").await;
    assert_eq!(work(&ledger, 1).await, ["s-two remove CN=b"]);

    // What was not given yet at the end is not given any more.
    open(&ledger, "s-late", 0, given(true, &[])).await;
    end(&ledger, "s-late").await;
    assert_eq!(work(&ledger, 1).await, ["s-late disable"]);
    assert_eq!(ledger.next_directory_job().await.unwrap(), None);
    drop(ledger);
    place.verified();
}

/// Does so many acts, as far as the ledger is concerned.
async fn work(ledger: &Ledger, acts: usize) -> Vec<String> {
    let mut done = Vec::new();
    for _ in 0..acts {
        let job = ledger.next_directory_job().await.unwrap().unwrap();
        let act = match &job.act {
            Act::AddToGroup { group } => format!("add {group}"),
            Act::DisableAccount => "disable".to_owned(),
            Act::EnableAccount => "enable".to_owned(),
            Act::RemoveFromGroup { group } => format!("remove {group}"),
        };
        assert_eq!(job.upn.as_str(), "alice@corp.example");
        done.push(format!("{} {act}", job.session));
        ledger.directory_job_done(job, Outcome::Done, now()).await.unwrap();
    }
    done
}

#[tokio::test]
async fn a_ledger_of_version_1_goes_on_as_version_2() {
    let place = Place::new();
    let state = place.root.path().join("state");
    fs::create_dir_all(&state).unwrap();
    let old = Connection::open(state.join(FILE_NAME)).unwrap();
    old.execute_batch(include_str!("../schema.sql")).unwrap();
    old.execute(
        "INSERT INTO intents VALUES (1, 'users', 'ssh_user', '4', 'alice', '[]', 'ab', 0, ?1, ?2,
                                     'staff', 0, x'00')",
        ((now() + SignedDuration::from_hours(1)).as_millisecond(), ALICE),
    )
    .unwrap();
    old.pragma_update(None, "user_version", 1).unwrap();
    drop(old);
    let ledger = place.open();
    let target: LockTarget = "user:alice".parse().unwrap();
    let locked = ledger.lock(lock(&target, None), OLIVIA, now()).await.unwrap();
    assert_eq!(locked.revoked, 1, "what version 1 had begun is taken back by version 2");
}

async fn new(ledger: &Ledger, intent: NewIntent, serial: u64) -> Intent {
    match begin_as(ledger, intent, serial).await {
        Ok(Begun::New(intent)) => intent,
        Ok(_) => panic!("{serial} was begun before"),
        Err(error) => panic!("{serial}: {error}"),
    }
}

async fn begin_as(ledger: &Ledger, intent: NewIntent, serial: u64) -> Result<Begun, LedgerError> {
    begin_text(ledger, intent, text_of(serial)).await
}

fn intent(caller: &str, idempotency: Option<Idempotency>) -> NewIntent {
    NewIntent { caller: caller.into(), ..new_intent(idempotency) }
}

fn for_session(id: &str) -> NewIntent {
    let session = OpenSession {
        id: id.into(),
        role: "production".into(),
        requester: ALICE.into(),
        ends_at: None,
        targets: ["db1.example.test".parse().unwrap()].into(),
        source_addresses: BTreeSet::new(),
        force_command: None,
        one_use: false,
    };
    NewIntent { session: Some(session), ..intent(ALICE, None) }
}

/// For an hour, with a heartbeat within a minute; waits for half an hour.
fn session(id: &str, approvals: u8) -> NewSession {
    NewSession {
        id: id.into(),
        grant: SessionGrant {
            requester: ALICE.parse().unwrap(),
            role: "production".into(),
            reason: "the disk is full".into(),
            targets: ["db1.example.test".parse().unwrap()].into(),
            length: SignedDuration::from_hours(1),
            source_addresses: BTreeSet::new(),
            force_command: None,
            one_use: false,
            approvals,
            waiting: SignedDuration::from_mins(30),
            heartbeat: Some(SignedDuration::from_mins(1)),
            directory: None,
        },
        certificate_roles: vec!["staff".into()],
        closes_at: None,
        now: now(),
    }
}

fn lock(target: &LockTarget, issued_before: Option<Timestamp>) -> LockRequest {
    LockRequest { target: target.clone(), issued_before, reason: "gone".into(), ttl: None }
}

/// The reason of a denial; anything else is a fault of the test.
fn denial<T>(outcome: Result<T, LedgerError>) -> &'static str {
    match outcome {
        Err(LedgerError::Denied(denial)) => denial.reason(),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it was not refused"),
    }
}
