//! What is remembered of logins, so that a wrong PIN is tried once, however often and at whatever
//! moment the appliance is started, killed and started again.
//!
//! A file in the state directory says that a login is under way, from before C_Login until the
//! token has answered. If the token refuses the PIN, the file says that instead, and stays until
//! a person removes it. If there is no answer, because the process was killed or the module
//! crashed in C_Login, it stays as it is, and counts as a refusal: the token may have counted the
//! try. Only an appliance that knows the PIN to be right, since the token has accepted what is in
//! the same PIN file before, logs in again by itself after that.

use std::{
    fmt, fs,
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use pki::{
    clock::Clock,
    token::{TokenError, pkcs11::TokenIdentity},
};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

/// The file of a state directory that remembers a login.
#[derive(Clone, Debug)]
pub struct LoginFile {
    directory: PathBuf,
}

/// A login that keeps others from being tried. Nothing in it is derived from the PIN.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Remembered {
    token: TokenIdentity,
    time: Timestamp,
    login: Login,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum Login {
    /// The CKR_ name.
    Refused(String),
    UnderWay,
}

impl LoginFile {
    /// That of the ceremony's token, or of the replica with this serial number, in this state
    /// directory, which need not be there.
    pub fn of(state_directory: &Path, replica: Option<&str>) -> Self {
        let name = match replica {
            None => DIRECTORY_NAME.to_owned(),
            Some(serial) => format!("{DIRECTORY_NAME}-{serial}"),
        };
        Self { directory: state_directory.join(name) }
    }

    /// The directory that has this file alone: the worker may write in it, and not where the ledger
    /// is.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Makes the directory, if it is not there.
    ///
    /// # Errors
    ///
    /// It cannot be made.
    pub(crate) fn make_directory(&self) -> io::Result<()> {
        fs::create_dir_all(&self.directory)
    }

    /// Why no login may be tried; none when one may. A login that is under way at this moment, in
    /// another process, is no reason.
    ///
    /// # Errors
    ///
    /// [`TokenError::Pin`], which says when the token refused.
    pub fn check(&self) -> Result<(), TokenError> {
        let turn = match self.try_lock() {
            Ok(Some(turn)) => turn,
            // Not ours to judge now: the worker takes its turn, and looks again.
            Ok(None) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(self.unusable(&error)),
        };
        let remembered = self.read();
        drop(turn);
        match remembered {
            Ok(None) => Ok(()),
            Ok(Some(remembered)) => Err(remembered.into()),
            Err(error) => Err(self.unusable(&error)),
        }
    }

    /// Logs in if nothing speaks against it, in turn with all other processes of this state
    /// directory, and remembers the outcome before anybody hears of it.
    ///
    /// # Errors
    ///
    /// The login's own; [`TokenError::Pin`] when it is not tried for what is remembered;
    /// [`TokenError::NoToken`] when it is not tried because it cannot be written down.
    pub(super) fn guard(
        &self,
        token: &TokenIdentity,
        pin_accepted: bool,
        clock: &dyn Clock,
        log_in: &dyn Fn() -> Result<(), TokenError>,
    ) -> Result<(), TokenError> {
        let _turn = self.lock().map_err(|error| self.not_tried(&error))?;
        match self.read() {
            Ok(Some(Remembered { login: Login::UnderWay, .. })) if pin_accepted => {}
            Ok(None) => {}
            Ok(Some(remembered)) => return Err(remembered.into()),
            Err(error) => return Err(self.unusable(&error)),
        }
        let remember =
            |login| self.write(&Remembered { token: token.clone(), time: clock.now(), login });
        remember(Login::UnderWay).map_err(|error| self.not_tried(&error))?;
        let outcome = log_in();
        match &outcome {
            Err(TokenError::Pin { code }) => {
                // If it cannot be written, what was written before says as much as is needed.
                let _ = remember(Login::Refused(code.clone()));
            }
            // The token answered, and did not speak of the PIN.
            Ok(()) | Err(_) => self.remove().map_err(|error| self.unusable(&error))?,
        }
        outcome
    }

    /// As [`guard`](Self::guard), for a login of which many follow each other, with a PIN that the
    /// token took just before: only a refusal is written down.
    ///
    /// # Errors
    ///
    /// As [`guard`](Self::guard).
    pub(super) fn guard_known(
        &self,
        token: &TokenIdentity,
        clock: &dyn Clock,
        log_in: &dyn Fn() -> Result<(), TokenError>,
    ) -> Result<(), TokenError> {
        match self.read() {
            // Under way is the login of another process, which takes its turn.
            Ok(None | Some(Remembered { login: Login::UnderWay, .. })) => {}
            Ok(Some(remembered)) => return Err(remembered.into()),
            Err(error) => return Err(self.unusable(&error)),
        }
        let outcome = log_in();
        if let Err(TokenError::Pin { code }) = &outcome {
            let login = Login::Refused(code.clone());
            let refused = Remembered { token: token.clone(), time: clock.now(), login };
            let _turn = self.lock().map_err(|error| self.unusable(&error))?;
            self.write(&refused).map_err(|error| self.unusable(&error))?;
        }
        outcome
    }

    /// Forgets what is remembered, and gives it; `None` when it is nothing. Only for a person who
    /// knows that the PIN is right now.
    ///
    /// # Errors
    ///
    /// A login is under way, or the file cannot be removed.
    pub fn forget(&self) -> io::Result<Option<String>> {
        let _turn = match self.lock() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            turn => turn?,
        };
        let remembered = match self.read() {
            Ok(None) => return Ok(None),
            Ok(Some(remembered)) => format!("{remembered}; token {}", remembered.token),
            // Whatever it is, it is in the way.
            Err(error) => error.to_string(),
        };
        self.remove()?;
        Ok(Some(remembered))
    }

    /// Where it is.
    pub fn path(&self) -> PathBuf {
        self.directory.join(FILE_NAME)
    }

    fn read(&self) -> io::Result<Option<Remembered>> {
        match fs::read(self.path()) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn write(&self, remembered: &Remembered) -> io::Result<()> {
        let unfinished = self.directory.join(UNFINISHED_NAME);
        let mut file = File::create(&unfinished)?;
        file.write_all(&serde_json::to_vec(remembered)?)?;
        file.sync_all()?;
        fs::rename(&unfinished, self.path())?;
        self.sync()
    }

    fn remove(&self) -> io::Result<()> {
        fs::remove_file(self.path())?;
        self.sync()
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.directory)?.sync_all()
    }

    fn lock(&self) -> io::Result<File> {
        let until = Instant::now() + TURN;
        loop {
            if let Some(turn) = self.try_lock()? {
                return Ok(turn);
            }
            if Instant::now() > until {
                let what =
                    "another process is logging in to the token, and does not come to an end";
                return Err(io::Error::new(io::ErrorKind::TimedOut, what));
            }
            thread::sleep(POLL);
        }
    }

    /// The turn to log in, until the file is closed: by the system, when the process dies. The
    /// directory itself is locked, since a file could belong to another user than needs it next.
    fn try_lock(&self) -> io::Result<Option<File>> {
        let directory = File::open(&self.directory)?;
        match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(directory)),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn not_tried(&self, error: &io::Error) -> TokenError {
        let directory = self.directory.display();
        TokenError::NoToken(format!(
            "no login is tried: it cannot be noted in {directory}: {error}"
        ))
    }

    /// What cannot be read may be a refusal.
    fn unusable(&self, error: &io::Error) -> TokenError {
        TokenError::Pin { code: format!("{}: {error}", self.path().display()) }
    }
}

impl fmt::Display for Remembered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.login {
            Login::Refused(code) => write!(f, "{code} at {:.0}", self.time),
            Login::UnderWay => {
                write!(f, "a login at {:.0} came to no end, and counts as a wrong try", self.time)
            }
        }
    }
}

impl From<Remembered> for TokenError {
    fn from(remembered: Remembered) -> Self {
        Self::Pin { code: remembered.to_string() }
    }
}

const DIRECTORY_NAME: &str = "token";

const FILE_NAME: &str = "token-login.json";

const UNFINISHED_NAME: &str = "token-login.json.new";

/// How long the logins of other processes may take.
const TURN: Duration = Duration::from_secs(20);

const POLL: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use std::{
        cell::Cell,
        panic::{AssertUnwindSafe, catch_unwind},
    };

    use pki::clock::TestClock;
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn a_refused_pin_is_not_tried_again_until_it_is_forgotten() {
        let place = Place::new();
        let wrong = || TokenError::Pin { code: "CKR_PIN_INCORRECT".to_owned() };
        assert!(place.log_in(false, || Err(wrong())).is_err());
        for _ in 0..20 {
            for pin_accepted in [false, true] {
                let refused = place.log_in(pin_accepted, || Ok(())).unwrap_err().to_string();
                assert!(refused.contains("CKR_PIN_INCORRECT at 2026-01-02T03:04:05Z"), "{refused}");
            }
            assert!(matches!(place.file().check(), Err(TokenError::Pin { .. })));
        }
        assert_eq!(place.tries.get(), 1);
        let forgotten = place.file().forget().unwrap().unwrap();
        assert!(forgotten.contains("label \"chancery\", serial \"4711\""), "{forgotten}");
        assert_eq!(place.file().forget().unwrap(), None);
        place.log_in(false, || Ok(())).unwrap();
        place.file().check().unwrap();
    }

    #[test]
    fn a_login_without_an_answer_counts_as_a_wrong_try_unless_the_pin_is_known_to_be_right() {
        let place = Place::new();
        let crash = || catch_unwind(AssertUnwindSafe(|| place.log_in(true, || panic!("a crash"))));
        assert!(crash().is_err());
        assert!(crash().is_err(), "tried again, since the PIN was accepted before");
        let refused = place.log_in(false, || Ok(())).unwrap_err();
        assert!(matches!(&refused, TokenError::Pin { code } if code.contains("came to no end")));
        assert!(place.file().check().is_err());
        assert_eq!(place.tries.get(), 2);
        place.log_in(true, || Ok(())).unwrap();
        place.file().check().unwrap();
    }

    #[test]
    fn a_token_that_fails_otherwise_has_refused_no_pin() {
        let place = Place::new();
        let gone =
            || TokenError::Context { call: "C_Login".into(), code: "CKR_DEVICE_ERROR".into() };
        for _ in 0..3 {
            assert!(matches!(place.log_in(false, || Err(gone())), Err(TokenError::Context { .. })));
        }
        assert_eq!(place.tries.get(), 3);
    }

    #[test]
    fn a_login_that_cannot_be_noted_is_not_tried() {
        let place = Place::new();
        fs::create_dir(place.file().directory().join(UNFINISHED_NAME)).unwrap();
        let refused = place.log_in(false, || Ok(())).unwrap_err();
        assert!(matches!(refused, TokenError::NoToken(_)), "{refused}");
        fs::write(place.file().path(), "{}").unwrap();
        let refused = place.log_in(true, || Ok(())).unwrap_err();
        assert!(matches!(refused, TokenError::Pin { .. }), "{refused}");
        assert_eq!(place.tries.get(), 0);
        assert!(place.file().forget().unwrap().is_some());
    }

    #[test]
    fn a_pin_that_was_right_and_is_refused_is_not_tried_again() {
        let place = Place::new();
        let again = |answer: &dyn Fn() -> Result<(), TokenError>| {
            let clock = TestClock::new("2026-01-02T03:04:05Z".parse().unwrap());
            place.file().guard_known(&identity(), &clock, &|| {
                place.tries.set(place.tries.get() + 1);
                answer()
            })
        };
        for _ in 0..3 {
            again(&|| Ok(())).unwrap();
        }
        let refuse = || Err(TokenError::Pin { code: "CKR_PIN_INCORRECT".to_owned() });
        for _ in 0..3 {
            assert!(matches!(again(&refuse), Err(TokenError::Pin { .. })));
            assert!(matches!(place.log_in(true, refuse), Err(TokenError::Pin { .. })));
        }
        assert_eq!(place.tries.get(), 4);
    }

    #[test]
    fn a_login_under_way_elsewhere_is_waited_for() {
        let place = Place::new();
        let (other, checked) = (place.file(), Cell::new(false));
        place
            .log_in(false, || {
                other.check().unwrap();
                assert!(other.try_lock().unwrap().is_none());
                checked.set(true);
                Ok(())
            })
            .unwrap();
        assert!(checked.get());
    }

    fn identity() -> TokenIdentity {
        TokenIdentity {
            label: "chancery".to_owned(),
            serial: Some("4711".to_owned()),
            manufacturer: None,
            model: None,
        }
    }

    struct Place {
        directory: TempDir,
        tries: Cell<u32>,
    }

    impl Place {
        fn new() -> Self {
            let place = Self { directory: TempDir::new().unwrap(), tries: Cell::new(0) };
            place.file().make_directory().unwrap();
            place
        }

        fn file(&self) -> LoginFile {
            LoginFile::of(self.directory.path(), None)
        }

        fn log_in(
            &self,
            pin_accepted: bool,
            token: impl Fn() -> Result<(), TokenError>,
        ) -> Result<(), TokenError> {
            let clock = TestClock::new("2026-01-02T03:04:05Z".parse().unwrap());
            self.file().guard(&identity(), pin_accepted, &clock, &|| {
                self.tries.set(self.tries.get() + 1);
                token()
            })
        }
    }
}
