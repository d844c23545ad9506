//! A token forgets sessions that are idle: they are kept alive, and one that is dead all the same is
//! opened anew before somebody needs it.

use std::time::Duration;

use harness::{
    Failure, Story,
    https::Https,
    office::Office,
    process::wait_until,
    shim::{
        Action, Fault, Plan, Shim,
        pkcs11::{CKR_OK, CKR_SESSION_HANDLE_INVALID},
    },
};
use serde_json::Value;

/// The call that crosses to the token when a session is idle. Nothing else asks for random bytes.
const ALIVE: &str = "C_GenerateRandom";

const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn idle_sessions_are_kept_alive_and_dead_ones_replaced_before_they_are_needed() -> Story {
    let town = Town::open()?;
    town.ask()?;
    let before = town.shim.count(ALIVE, CKR_OK)?;
    wait_until("calls of idle sessions", PATIENCE, || {
        Ok(town.shim.count(ALIVE, CKR_OK)? >= before + 4)
    })?;

    // Both sessions die, and with them the login.
    let (logins, opened) =
        (town.shim.count("C_Login", CKR_OK)?, town.shim.count("C_OpenSession", CKR_OK)?);
    town.play(Fault::on(ALIVE, Action::LoseSessions).times(1))?;
    wait_until("two new sessions", PATIENCE, || {
        Ok(town.shim.count("C_OpenSession", CKR_OK)? == opened + 2)
    })?;
    wait_until("a new login", PATIENCE, || Ok(town.shim.count("C_Login", CKR_OK)? == logins + 1))?;
    let after = town.shim.count(ALIVE, CKR_OK)?;
    wait_until("their first calls", PATIENCE, || Ok(town.shim.count(ALIVE, CKR_OK)? >= after + 2))?;
    assert_eq!(town.shim.count(ALIVE, CKR_SESSION_HANDLE_INVALID)?, 1);
    town.ask_and_find_all_well()?;

    // The device is gone until it is opened by another process.
    let worker = town.worker()?;
    town.play(Fault::on(ALIVE, Action::Remove).times(1))?;
    wait_until("a worker that takes over", PATIENCE, || Ok(town.worker()? != worker))?;
    town.ask_and_find_all_well()?;

    // A call hangs, as over a connection that a firewall has forgotten.
    let worker = town.worker()?;
    town.play(Fault::on(ALIVE, Action::Hang).times(1))?;
    wait_until("a worker that takes over", PATIENCE, || Ok(town.worker()? != worker))?;
    town.ask_and_find_all_well()?;
    assert_eq!(town.shim.overlaps()?, "");
    Ok(())
}

/// An appliance whose token forgets, and somebody who asks for certificates.
struct Town {
    /// Serves as long as this is there.
    _office: Office,
    shim: Shim,
    https: Https,
    request: Value,
}

impl Town {
    fn open() -> Result<Self, Failure> {
        let (mut office, shim) = Office::open_with_shim()?;
        assert_eq!(shim.outcomes(ALIVE)?.len(), 0, "it is off unless asked for");
        office.change_token(|token| {
            token.settings.push_str("sessions = 2\nkeep_alive_seconds = 1\n");
        })?;
        office.restart()?;
        let https = office.https(Some(&office.enrol("user/alice")?))?;
        let request = office.login_request("alice")?;
        Ok(Self { _office: office, shim, https, request })
    }

    fn ask(&self) -> Story {
        self.https.post("/v1/issue/ssh-user", &self.request)?.expect_status(201).map(drop)
    }

    /// No signature ever met a dead session.
    fn ask_and_find_all_well(&self) -> Story {
        self.ask()?;
        for function in ["C_SignInit", "C_Sign"] {
            let outcomes = self.shim.outcomes(function)?;
            assert!(outcomes.keys().all(|outcome| *outcome == CKR_OK.to_string()), "{outcomes:?}");
        }
        Ok(())
    }

    fn play(&self, fault: Fault) -> Story {
        self.shim.play(Plan { faults: vec![fault], ..Plan::default() })
    }

    /// The process that kept its sessions alive last.
    fn worker(&self) -> Result<Option<u32>, Failure> {
        let alive = |call: &&harness::shim::Call| {
            call.function == ALIVE && call.outcome == CKR_OK.to_string()
        };
        Ok(self.shim.calls()?.iter().rev().find(alive).map(|call| call.process))
    }
}
