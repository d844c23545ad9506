//! What the module is told, and by which files it is told and tells.

use std::{net::SocketAddr, path::PathBuf};

use cryptoki_sys::CK_RV;
use serde::{Deserialize, Serialize};

/// The environment variable that names the directory of the files below.
pub const ENVIRONMENT: &str = "CHANCERY_SHIM";

/// The [`Plan`], in TOML. To be replaced by renaming another file, so that no half is ever read.
pub const PLAN: &str = "plan.toml";

/// What was called: a line `PROCESS FUNCTION OUTCOME` for each call, in the order of their ends.
/// The outcome is the return value as a decimal number, or the [`Action`] by name where nothing
/// returned, or not what the token gave.
pub const CALLS: &str = "calls";

/// A line for each time that a thread called into a session that another thread was in.
pub const OVERLAPS: &str = "overlaps";

/// How many wrong PINs were tried since the last right one, as a decimal number.
pub const TRIES: &str = "tries";

/// How the module behaves. The default forwards everything.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Plan {
    /// The real module; read when the shim is loaded.
    pub module: PathBuf,
    /// The most sessions that may be open at once: one more is CKR_SESSION_COUNT.
    pub sessions: Option<usize>,
    /// How long a signature takes at least, in milliseconds.
    pub signature_ms: u64,
    /// After so many wrong PINs the user PIN is locked. The flags CKF_USER_PIN_COUNT_LOW,
    /// CKF_USER_PIN_FINAL_TRY and CKF_USER_PIN_LOCKED tell of it.
    pub pin_tries: Option<u32>,
    /// What is attempted in each C_Initialize, to find out what a module may do. Each is a line of
    /// [`CALLS`]: the function is `attempt-` and its place here, the outcome is [`DONE`] or the
    /// number of the system's error.
    pub attempts: Vec<Attempt>,
    /// What goes wrong; the first fault that is due happens.
    pub faults: Vec<Fault>,
}

/// The outcome of an attempt that nothing refused.
pub const DONE: &str = "done";

/// What a module has no business to do.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Attempt {
    /// Opens a file to write at its end, and makes it if it is not there.
    Append(PathBuf),
    /// Connects by TCP.
    Connect(SocketAddr),
    /// Connects to the UNIX socket of this path.
    ConnectUnix(PathBuf),
    /// Starts this program, and waits for its end.
    Execute(PathBuf),
    /// Opens a file to read it.
    Read(PathBuf),
    /// Asks whether this process could be sent a signal.
    Signal(i32),
    /// Attaches to this process, to read its memory.
    Trace(i32),
    /// Leaves the namespace of the machine's name.
    Unshare,
}

/// Something that goes wrong in certain calls.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// The function by its PKCS#11 name, or `C_Login(context)` for the login that follows
    /// C_SignInit of a key with CKA_ALWAYS_AUTHENTICATE. Absent: each but C_Initialize and
    /// C_Finalize.
    pub function: Option<String>,
    /// In hexadecimal: only a C_Sign of exactly this input. Absent: whatever is signed.
    pub input: Option<String>,
    /// The first call that fails, counted in each process from 1 since the plan was read. A
    /// C_Sign that only asks for the length of a signature does not count.
    pub from: u64,
    /// From then on, each so-manieth call fails.
    pub every: u64,
    /// So often in all processes together; absent means for ever.
    pub times: Option<u32>,
    /// What happens.
    pub action: Action,
}

/// What happens in a call.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// The process ends by SIGSEGV.
    Crash,
    /// The call never returns.
    Hang,
    /// All sessions are closed before the call.
    LoseSessions,
    /// The device is gone: this call and all others give CKR_DEVICE_ERROR until C_Finalize, as
    /// with the remote of p11-kit.
    Remove,
    /// The call returns this value, and the token does not hear of it.
    Return(CK_RV),
    /// The last byte of the signature is left out. Only in C_Sign.
    ShortenSignature,
    /// A bit of the signature is another. Only in C_Sign.
    FlipSignature,
}

impl Fault {
    /// Something that happens in every call of `function`, for ever.
    pub fn on(function: &str, action: Action) -> Self {
        Self { function: Some(function.to_owned()), ..Self::everywhere(action) }
    }

    /// Something that happens in every call of every function, for ever.
    pub fn everywhere(action: Action) -> Self {
        Self { function: None, input: None, from: 1, every: 1, times: None, action }
    }

    /// Happens only where this is signed: bytes in lower case hexadecimal.
    #[must_use]
    pub fn input(self, input: &str) -> Self {
        Self { input: Some(input.to_owned()), ..self }
    }

    /// Begins with the `from`-th call, counted from 1.
    #[must_use]
    pub fn from(self, from: u64) -> Self {
        Self { from, ..self }
    }

    /// Happens in each `every`-th call only.
    #[must_use]
    pub fn every(self, every: u64) -> Self {
        Self { from: every, every, ..self }
    }

    /// Happens so often in all.
    #[must_use]
    pub fn times(self, times: u32) -> Self {
        Self { times: Some(times), ..self }
    }

    /// Whether the fault is one of this function, and of what it signs.
    pub(crate) fn concerns(&self, function: &str, input: &[u8]) -> bool {
        let mine = match &self.function {
            Some(own) => own == function,
            None => !["C_Finalize", "C_Initialize"].contains(&function),
        };
        mine && self.input.as_ref().is_none_or(|own| *own == hex::encode(input))
    }

    /// Whether it happens in the `count`-th call.
    pub(crate) fn is_due(&self, count: u64) -> bool {
        count.checked_sub(self.from).is_some_and(|beyond| beyond.is_multiple_of(self.every.max(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_happens_in_the_calls_that_it_names() {
        let due = |fault: Fault| (1..=9).filter(|count| fault.is_due(*count)).collect::<Vec<_>>();
        let crash = || Fault::on("C_Sign", Action::Crash);
        assert_eq!(due(crash()), [1, 2, 3, 4, 5, 6, 7, 8, 9]);
        assert_eq!(due(crash().from(8)), [8, 9]);
        assert_eq!(due(crash().every(3)), [3, 6, 9]);
        assert!(crash().concerns("C_Sign", b"any") && !crash().concerns("C_SignInit", b""));
        let one = crash().input("0aff");
        assert!(one.concerns("C_Sign", &[0x0a, 0xff]) && !one.concerns("C_Sign", &[0x0a]));
        let everywhere = Fault::everywhere(Action::Remove);
        assert!(everywhere.concerns("C_GetSlotList", b""));
        assert!(!everywhere.concerns("C_Finalize", b""));
    }

    #[test]
    fn a_plan_survives_its_file() {
        let faults = vec![
            Fault::on("C_Sign", Action::Return(0x30)).every(3).times(2),
            Fault::everywhere(Action::LoseSessions),
        ];
        let attempts = vec![Attempt::Unshare, Attempt::Read("/etc/shadow".into())];
        let plan = Plan { sessions: Some(1), attempts, faults, ..Plan::default() };
        assert_eq!(toml::from_str::<Plan>(&toml::to_string(&plan).unwrap()).unwrap(), plan);
        assert!(toml::from_str::<Plan>("session = 1").is_err());
    }
}
