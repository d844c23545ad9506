//! A PIN is never tried where a try could lock the token.

use harness::{
    Failure, Story,
    office::Office,
    process::{Answer, run},
    shim::{Plan, Shim},
};

#[test]
fn the_last_try_before_a_lock_is_left_to_a_person() -> Story {
    let (mut office, shim) = Office::open_with_shim()?;
    office.kill();
    shim.play(Plan { pin_tries: Some(3), ..Plan::default() })?;
    let before = logins(&shim)?;
    for (wrong_pins, flag) in [(2, "CKF_USER_PIN_FINAL_TRY"), (3, "CKF_USER_PIN_LOCKED")] {
        shim.remember_wrong_pins(wrong_pins)?;
        for _ in 0..3 {
            serve(&office)?.refused(flag)?;
        }
    }
    assert_eq!(logins(&shim)?, before, "the PIN was tried");
    // One wrong try is no reason to stay away, and the right PIN makes up for it.
    shim.remember_wrong_pins(1)?;
    office.start()?;
    assert_eq!(logins(&shim)?, before + 1);
    Ok(())
}

/// An appliance that does not come up.
fn serve(office: &Office) -> Result<Answer, Failure> {
    run(&mut office.chanceryd(&["serve", "--config", "chanceryd.toml"])?)
}

/// How often any PIN was tried.
fn logins(shim: &Shim) -> Result<usize, Failure> {
    Ok(shim.outcomes("C_Login")?.values().sum())
}
