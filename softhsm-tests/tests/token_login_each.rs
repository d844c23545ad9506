//! A key that wants the PIN for each of its signatures (CKA_ALWAYS_AUTHENTICATE) signs, and a PIN
//! that is refused there is tried once.

use harness::{
    Failure, Story,
    https::Https,
    office::Office,
    process::{Answer, run},
    shim::{
        Action, Fault, Plan, Shim,
        pkcs11::{CKR_OK, CKR_PIN_INCORRECT, CKR_USER_NOT_LOGGED_IN},
    },
};
use serde_json::Value;

/// The login that follows C_SignInit of such a key.
const CONTEXT: &str = "C_Login(context)";

#[test]
fn a_key_that_wants_the_pin_for_each_signature_gets_it() -> Story {
    let town = Town::open()?;
    let (users, before) = (town.shim.count("C_Login", CKR_OK)?, town.shim.count(CONTEXT, CKR_OK)?);
    for _ in 0..5 {
        town.ask(201)?;
    }
    assert_eq!(town.shim.count(CONTEXT, CKR_OK)?, before + 5);
    assert_eq!(town.shim.count("C_Login", CKR_OK)?, users, "the user is logged in once");
    // SoftHSM insists: when it does not hear of the login, it does not sign.
    let swallow = vec![Fault::on(CONTEXT, Action::Return(CKR_OK)).times(1)];
    town.shim.play(Plan { faults: swallow, ..Plan::default() })?;
    town.ask(201)?;
    assert_eq!(town.shim.count("C_Sign", CKR_USER_NOT_LOGGED_IN)?, 1);
    assert_eq!(town.shim.overlaps()?, "");
    let told = town.run(&["token", "probe", "--seconds", "0"])?.success()?.stdout;
    assert!(told.contains("issuing/smuggled: CKA_ALWAYS_AUTHENTICATE is true"), "{told}");
    Ok(())
}

#[test]
fn a_pin_that_is_refused_for_a_signature_is_not_tried_again() -> Story {
    let mut town = Town::open()?;
    town.ask(201)?;
    let refuse = vec![Fault::on(CONTEXT, Action::Return(CKR_PIN_INCORRECT))];
    town.shim.play(Plan { faults: refuse, ..Plan::default() })?;
    for _ in 0..5 {
        town.ask(503)?;
    }
    town.office.kill();
    for _ in 0..3 {
        let answer = town.run(&["serve"])?.refused("CKR_PIN_INCORRECT at 20")?;
        assert_eq!(answer.status.code(), Some(78), "{}", answer.stderr);
    }
    assert_eq!(town.shim.count(CONTEXT, CKR_PIN_INCORRECT)?, 1);
    town.shim.heal()?;
    town.run(&["token", "unblock"])?.success()?;
    town.office.start()?;
    town.https = town.https.at(town.office.api());
    town.ask(201)
}

/// An appliance whose SSH CA has such a key, and somebody who asks for certificates.
struct Town {
    office: Office,
    shim: Shim,
    https: Https,
    request: Value,
}

impl Town {
    fn open() -> Result<Self, Failure> {
        let (mut office, shim) = Office::open_with_shim()?;
        office.kill();
        office.smuggle_key(&["--always-auth"])?;
        office.start()?;
        let https = office.https(Some(&office.enrol("user/alice")?))?;
        let request = office.login_request("alice")?;
        Ok(Self { office, shim, https, request })
    }

    fn ask(&self, status: u16) -> Story {
        self.https.post("/v1/issue/ssh-user", &self.request)?.expect_status(status).map(drop)
    }

    fn run(&self, arguments: &[&str]) -> Result<Answer, Failure> {
        run(self.office.chanceryd(arguments)?.args(["--config", "chanceryd.toml"]))
    }
}
