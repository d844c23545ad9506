//! A PKCS#11 module between the appliance and its token that fails as a story tells it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

pub use shim::{Action, Attempt, DONE, ENVIRONMENT, Fault, Plan, pkcs11};
use shim::{CALLS, OVERLAPS, PLAN, TRIES};

use crate::{
    failure::{Doing, Failure},
    peers::ours,
};

/// The module and its files, see the crate `shim`.
#[derive(Debug)]
pub struct Shim {
    directory: PathBuf,
    module: PathBuf,
    real: PathBuf,
    plans: AtomicU32,
}

/// What became of one call.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Call {
    /// The process that called.
    pub process: u32,
    /// The PKCS#11 function.
    pub function: String,
    /// The return value as a decimal number, or what the shim did by name: `crash`, `hang`,
    /// `flip_signature`, `shorten_signature`.
    pub outcome: String,
}

impl Shim {
    /// A shim in front of the module `real` that forwards everything; its files lie in
    /// `directory`.
    ///
    /// # Errors
    ///
    /// It is not built, or the directory cannot be written.
    pub fn new(directory: &Path, real: &Path) -> Result<Self, Failure> {
        let module = ours("libchancery_shim.so")?;
        fs::create_dir_all(directory).doing(format_args!("create {}", directory.display()))?;
        let (directory, real) = (directory.to_owned(), real.to_owned());
        let shim = Self { directory, module, real, plans: AtomicU32::new(0) };
        shim.play(Plan::default())?;
        Ok(shim)
    }

    /// The module's path.
    pub fn module(&self) -> &Path {
        &self.module
    }

    /// What the variable [`ENVIRONMENT`] must name for whoever loads the module.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Behaves like this from the next call on; the plan need not name the real module.
    ///
    /// # Errors
    ///
    /// The plan cannot be written.
    pub fn play(&self, plan: Plan) -> Result<(), Failure> {
        let plan = Plan { module: self.real.clone(), ..plan };
        let text = toml::to_string(&plan).doing("write a plan")?;
        let number = self.plans.fetch_add(1, Ordering::Relaxed);
        let new = self.directory.join(format!("plan-{number}"));
        fs::write(&new, text).doing("write a plan")?;
        fs::rename(&new, self.directory.join(PLAN)).doing("put a plan in its place")
    }

    /// Forwards everything from the next call on.
    ///
    /// # Errors
    ///
    /// As [`play`](Self::play).
    pub fn heal(&self) -> Result<(), Failure> {
        self.play(Plan::default())
    }

    /// All calls so far, in the order of their ends.
    ///
    /// # Errors
    ///
    /// The log cannot be read.
    pub fn calls(&self) -> Result<Vec<Call>, Failure> {
        let text = self.read(CALLS)?;
        // Whoever is killed while it writes leaves no half line: a line is one write.
        text.lines()
            .map(|line| {
                let mut words = line.split(' ').map(str::to_owned);
                let process = words.next().and_then(|word| word.parse().ok());
                match (process, words.next(), words.next()) {
                    (Some(process), Some(function), Some(outcome)) => {
                        Ok(Call { process, function, outcome })
                    }
                    _ => Err(Failure::new("a line of the shim's log cannot be read").said(line)),
                }
            })
            .collect()
    }

    /// How often a function was called, by outcome.
    ///
    /// # Errors
    ///
    /// As [`calls`](Self::calls).
    pub fn outcomes(&self, function: &str) -> Result<BTreeMap<String, usize>, Failure> {
        let mut outcomes = BTreeMap::new();
        for call in self.calls()?.into_iter().filter(|call| call.function == function) {
            *outcomes.entry(call.outcome).or_default() += 1;
        }
        Ok(outcomes)
    }

    /// How often a function was called with this outcome.
    ///
    /// # Errors
    ///
    /// As [`calls`](Self::calls).
    pub fn count(&self, function: &str, outcome: impl ToString) -> Result<usize, Failure> {
        Ok(self.outcomes(function)?.get(&outcome.to_string()).copied().unwrap_or(0))
    }

    /// Where two threads were in one session at once, a line each; empty when nowhere.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn overlaps(&self) -> Result<String, Failure> {
        if self.directory.join(OVERLAPS).exists() { self.read(OVERLAPS) } else { Ok(String::new()) }
    }

    /// Lets the token remember so many wrong PINs.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn remember_wrong_pins(&self, count: u32) -> Result<(), Failure> {
        fs::write(self.directory.join(TRIES), count.to_string()).doing("write the count of tries")
    }

    fn read(&self, name: &str) -> Result<String, Failure> {
        let path = self.directory.join(name);
        fs::read_to_string(&path).doing(format_args!("read {}", path.display()))
    }
}
