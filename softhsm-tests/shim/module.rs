//! The state of the module in one process, and what is done around each forwarded call.

use std::{
    collections::BTreeMap,
    env,
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process, ptr,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    thread::{self, ThreadId},
};

use cryptoki_sys::{
    CK_FUNCTION_LIST, CK_RV, CK_SESSION_HANDLE, CK_SLOT_ID, CKR_DEVICE_ERROR, CKR_OK,
    CKR_SESSION_HANDLE_INVALID,
};
use libloading::Library;
use rustix::process::{Signal, getpid, kill_process};

use crate::plan::{Action, CALLS, ENVIRONMENT, OVERLAPS, PLAN, Plan, TRIES};

/// The module of this process; `None`, with a line on standard error, when it cannot be.
pub(crate) fn module() -> Option<&'static Module> {
    static MODULE: OnceLock<Option<Module>> = OnceLock::new();
    let load = || match Module::load() {
        Ok(module) => Some(module),
        Err(error) => {
            let _ = writeln!(io::stderr(), "the PKCS#11 shim: {error}");
            None
        }
    };
    MODULE.get_or_init(load).as_ref()
}

pub(crate) struct Module {
    real: CK_FUNCTION_LIST,
    directory: PathBuf,
    calls: File,
    state: Mutex<State>,
}

struct State {
    plan: Plan,
    stamp: Stamp,
    /// How many calls each fault of the plan has seen.
    counts: Vec<u64>,
    /// Gone until C_Finalize.
    removed: bool,
    /// By the handles that the caller has. The real ones are kept apart, as a token may give the
    /// handle of a lost session again.
    sessions: BTreeMap<CK_SESSION_HANDLE, Session>,
    next: CK_SESSION_HANDLE,
}

struct Session {
    real: CK_SESSION_HANDLE,
    slot: CK_SLOT_ID,
    /// Who is in it, and in which function.
    inside: Option<(ThreadId, &'static str)>,
}

/// Tells one plan file from the next.
type Stamp = (u64, i64, i64, u64);

/// What is to be done to a signature.
#[derive(Clone, Copy)]
pub(crate) enum Change {
    Flip,
    Shorten,
}

impl Module {
    #[expect(clippy::disallowed_methods, reason = "a PKCS#11 module is told nothing else")]
    fn load() -> Result<Self, Box<dyn std::error::Error>> {
        let directory = PathBuf::from(env::var(ENVIRONMENT)?);
        let calls = append(&directory.join(CALLS))?;
        let path = directory.join(PLAN);
        let (stamp, plan) = (stamp(&path)?, read_plan(&path)?);
        let counts = vec![0; plan.faults.len()];
        let (sessions, next) = (BTreeMap::new(), 1);
        let real = load_real(&plan.module)?;
        let state = State { plan, stamp, counts, removed: false, sessions, next };
        Ok(Self { real, directory, calls, state: Mutex::new(state) })
    }

    /// Performs a call that names no session.
    pub(crate) fn call(
        &self,
        function: &'static str,
        forward: impl FnOnce(&Self) -> CK_RV,
    ) -> CK_RV {
        let outcome = match self.before(function, &[]) {
            Ok(_) => forward(self),
            Err(code) => code,
        };
        self.note(function, outcome);
        outcome
    }

    /// Performs a call in a session; `forward` is given the real handle, and how to change what
    /// comes back.
    pub(crate) fn call_in(
        &self,
        function: &'static str,
        session: CK_SESSION_HANDLE,
        forward: impl FnOnce(&Self, CK_SESSION_HANDLE, Option<Change>) -> CK_RV,
    ) -> CK_RV {
        self.sign_in(function, session, &[], forward)
    }

    /// As [`call_in`](Self::call_in), for a call that signs `input`.
    pub(crate) fn sign_in(
        &self,
        function: &'static str,
        session: CK_SESSION_HANDLE,
        input: &[u8],
        forward: impl FnOnce(&Self, CK_SESSION_HANDLE, Option<Change>) -> CK_RV,
    ) -> CK_RV {
        let mut changed = None;
        let outcome = match self.before(function, input) {
            Ok(change) => match self.enter(session, function) {
                Some(real) => {
                    let outcome = forward(self, real, change);
                    self.leave(session);
                    changed = change.filter(|_| outcome == CKR_OK);
                    outcome
                }
                None => CKR_SESSION_HANDLE_INVALID,
            },
            Err(code) => code,
        };
        match changed {
            Some(Change::Flip) => self.note(function, "flip_signature"),
            Some(Change::Shorten) => self.note(function, "shorten_signature"),
            None => self.note(function, outcome),
        }
        outcome
    }

    pub(crate) fn real(&self) -> &CK_FUNCTION_LIST {
        &self.real
    }

    pub(crate) fn plan(&self) -> Plan {
        self.lock().plan.clone()
    }

    /// Whether the plan has room for one more session.
    pub(crate) fn has_room(&self) -> bool {
        let state = self.lock();
        state.plan.sessions.is_none_or(|most| state.sessions.len() < most)
    }

    /// Gives a new session the handle that the caller is to know.
    pub(crate) fn opened(&self, real: CK_SESSION_HANDLE, slot: CK_SLOT_ID) -> CK_SESSION_HANDLE {
        let mut state = self.lock();
        let handle = state.next;
        state.next += 1;
        state.sessions.insert(handle, Session { real, slot, inside: None });
        handle
    }

    pub(crate) fn closed(&self, session: CK_SESSION_HANDLE) {
        self.lock().sessions.remove(&session);
    }

    pub(crate) fn all_closed(&self, slot: CK_SLOT_ID) {
        self.lock().sessions.retain(|_, session| session.slot != slot);
    }

    /// C_Finalize: the next C_Initialize finds the device again, if it is there.
    pub(crate) fn finalized(&self) {
        let mut state = self.lock();
        state.removed = false;
        state.sessions.clear();
    }

    /// Wrong PINs since the last right one.
    pub(crate) fn wrong_pins(&self) -> u32 {
        let text = fs::read_to_string(self.directory.join(TRIES)).unwrap_or_default();
        text.trim().parse().unwrap_or(0)
    }

    pub(crate) fn set_wrong_pins(&self, count: u32) {
        if fs::write(self.directory.join(TRIES), count.to_string()).is_err() {
            // A count that is forgotten would let a story pass that must fail.
            process::abort();
        }
    }

    /// Writes down what became of a call.
    pub(crate) fn note(&self, function: &str, outcome: impl std::fmt::Display) {
        let line = format!("{} {function} {outcome}\n", process::id());
        if (&self.calls).write_all(line.as_bytes()).is_err() {
            process::abort();
        }
    }

    /// Lets the faults of the plan happen. `Err` is a value that the call returns at once.
    fn before(&self, function: &'static str, input: &[u8]) -> Result<Option<Change>, CK_RV> {
        let mut state = self.lock();
        state.read_again(&self.directory.join(PLAN));
        if state.removed && !["C_Finalize", "C_Initialize"].contains(&function) {
            return Err(CKR_DEVICE_ERROR);
        }
        match state.due(function, input, &self.directory) {
            None => Ok(None),
            Some(Action::Crash) => {
                self.note(function, "crash");
                crash()
            }
            Some(Action::Hang) => {
                self.note(function, "hang");
                drop(state);
                loop {
                    thread::park();
                }
            }
            Some(Action::LoseSessions) => {
                self.lose_sessions(&mut state);
                Ok(None)
            }
            Some(Action::Remove) => {
                state.removed = true;
                Err(CKR_DEVICE_ERROR)
            }
            Some(Action::Return(code)) => Err(code),
            Some(Action::FlipSignature) => Ok(Some(Change::Flip)),
            Some(Action::ShortenSignature) => Ok(Some(Change::Shorten)),
        }
    }

    /// Closed at the token too, since it would run out of them, and since a token that loses its
    /// sessions has forgotten the login.
    fn lose_sessions(&self, state: &mut State) {
        for session in std::mem::take(&mut state.sessions).into_values() {
            if let Some(close) = self.real.C_CloseSession {
                // SAFETY: the handle is one that the real module gave and that was not closed.
                unsafe { close(session.real) };
            }
        }
    }

    /// Marks the session as used by this thread; gives its real handle.
    fn enter(
        &self,
        session: CK_SESSION_HANDLE,
        function: &'static str,
    ) -> Option<CK_SESSION_HANDLE> {
        let mut state = self.lock();
        let own = state.sessions.get_mut(&session)?;
        let (thread, real) = (thread::current().id(), own.real);
        if let Some((other, busy)) = own.inside.replace((thread, function)) {
            self.note_overlap(&format!("{other:?} {busy} and {thread:?} {function}\n"));
        }
        Some(real)
    }

    fn leave(&self, session: CK_SESSION_HANDLE) {
        if let Some(own) = self.lock().sessions.get_mut(&session) {
            own.inside = None;
        }
    }

    fn note_overlap(&self, line: &str) {
        let noted = append(&self.directory.join(OVERLAPS))
            .and_then(|mut file| file.write_all(line.as_bytes()));
        if noted.is_err() {
            process::abort();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Reads the plan again when its file is another one.
    fn read_again(&mut self, path: &Path) {
        match stamp(path) {
            Ok(stamp) if stamp == self.stamp => {}
            Ok(stamp) => match read_plan(path) {
                Ok(plan) => {
                    (self.counts, self.stamp) = (vec![0; plan.faults.len()], stamp);
                    self.plan = plan;
                }
                // A story that went on with another plan than its own would prove nothing.
                Err(_) => process::abort(),
            },
            Err(_) => process::abort(),
        }
    }

    /// The first fault that is due in this call; all that concern it have counted it.
    fn due(&mut self, function: &str, input: &[u8], directory: &Path) -> Option<Action> {
        let mut happens = None;
        for (place, fault) in self.plan.faults.iter().enumerate() {
            if !fault.concerns(function, input) {
                continue;
            }
            self.counts[place] += 1;
            let due = happens.is_none() && fault.is_due(self.counts[place]);
            let claimed = |times| claim(directory, self.stamp, place, times);
            if due && fault.times.is_none_or(claimed) {
                happens = Some(fault.action);
            }
        }
        happens
    }
}

/// Takes one of the times that a fault happens, in whichever process: each time is a file.
fn claim(directory: &Path, stamp: Stamp, place: usize, times: u32) -> bool {
    let (inode, seconds, nanoseconds, _) = stamp;
    (0..times).any(|time| {
        let name = format!("happened-{inode}-{seconds}-{nanoseconds}-{place}-{time}");
        File::create_new(directory.join(name)).is_ok()
    })
}

/// SIGSEGV, as a module that follows a wild pointer gets it.
fn crash() -> ! {
    let _ = kill_process(getpid(), Signal::SEGV);
    // Only if something handles the signal.
    process::abort()
}

fn stamp(path: &Path) -> io::Result<Stamp> {
    let about = fs::metadata(path)?;
    Ok((about.ino(), about.ctime(), about.ctime_nsec(), about.len()))
}

fn read_plan(path: &Path) -> Result<Plan, Box<dyn std::error::Error>> {
    Ok(toml::from_str(&fs::read_to_string(path)?)?)
}

fn append(path: &Path) -> io::Result<File> {
    File::options().create(true).append(true).open(path)
}

/// Loads the real module for good: nothing tells when the last of its threads is gone.
fn load_real(path: &Path) -> Result<CK_FUNCTION_LIST, Box<dyn std::error::Error>> {
    type GetFunctionList = unsafe extern "C" fn(*mut *mut CK_FUNCTION_LIST) -> CK_RV;
    // SAFETY: a PKCS#11 module is made to be loaded, and to be loaded by several.
    let library = Box::leak(Box::new(unsafe { Library::new(path) }?));
    // SAFETY: PKCS#11 section 5.4 gives the function this type.
    let get = unsafe { library.get::<GetFunctionList>(b"C_GetFunctionList\0") }?;
    let mut list = ptr::null_mut();
    // SAFETY: the argument points to a place for a pointer.
    let outcome = unsafe { get(&raw mut list) };
    // SAFETY: a list that was given is good for as long as the module is loaded.
    match unsafe { list.as_ref() } {
        Some(list) if outcome == CKR_OK => Ok(*list),
        _ => Err(format!("C_GetFunctionList of {} gave {outcome}", path.display()).into()),
    }
}
