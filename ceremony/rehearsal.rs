//! The rehearsal: the whole plan on a software token that lives in a private directory and goes
//! with it; and, on demand, again and again with the process killed in another place.
//!
//! Each ceremony is a process of its own, the same program as the real one, because a process
//! loads a PKCS#11 module once, and because only another process can be killed.

mod bench;
mod points;

use std::{
    fmt, io,
    panic::resume_unwind,
    path::PathBuf,
    str::FromStr,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use thiserror::Error;

pub use points::Faults;

use crate::{
    plan::{Plan, PlanError},
    verify::{Verified, VerifyError},
};
use bench::{Bench, require};
use points::{Point, calls, writes};

/// What is rehearsed, on what, and how hard.
#[derive(Clone, Debug)]
pub struct Rehearsal {
    /// The plan's file.
    pub plan: PathBuf,
    /// The program that is rehearsed: this one.
    pub program: PathBuf,
    /// On what.
    pub tokens: Vec<SoftToken>,
    /// How often it is killed on each.
    pub faults: Faults,
    /// What chance takes the places from, where it is not killed in all of them.
    pub seed: u64,
    /// Certificates are not marked, so that their texts are those of the ceremony.
    pub faithful: bool,
    /// The PKCS#11 module that forwards to the token's, and dies when it is told.
    pub shim: PathBuf,
}

/// A software token.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SoftToken {
    /// Whose.
    pub kind: Kind,
    /// Its PKCS#11 module.
    pub module: PathBuf,
}

/// The software tokens that can be rehearsed on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Kryoptic.
    Kryoptic,
    /// SoftHSM 2.
    SoftHsm,
}

/// A rehearsal that came to its end everywhere.
#[derive(Clone, Debug)]
pub struct Rehearsed {
    /// The transcript of the first one, which was not disturbed.
    pub transcript: Vec<u8>,
    /// What was done on each token.
    pub tokens: Vec<TokenRehearsed>,
}

/// A plan that came to its end on a software token, whatever happened.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Serialize)]
pub struct TokenRehearsed {
    /// Whose.
    pub token: Kind,
    /// The places where a journal is written, three for each line: before, in the middle, after.
    pub writes: usize,
    /// The calls of PKCS#11 functions.
    pub calls: usize,
    /// In how many of these the process was killed, and the ceremony went on to the same end.
    pub killed: usize,
    /// What chance took these from, if they are not all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
}

impl Rehearsal {
    /// Rehearses.
    ///
    /// # Errors
    ///
    /// The plan cannot be used, a program or a module is missing; or a ceremony that was killed did
    /// not go on to the same end: the place is named.
    pub fn perform(&self) -> Result<Rehearsed, RehearsalError> {
        let plan = Plan::read(&self.plan)?;
        if self.faults != Faults::None && !self.shim.is_file() {
            return Err(RehearsalError::Shim(self.shim.clone()));
        }
        let mut transcript = None;
        let mut tokens = Vec::new();
        for token in &self.tokens {
            let bench = Bench::new(self, &plan, token)?;
            let undisturbed = bench.copy()?;
            let verified = undisturbed.to_the_end(None)?;
            let (points, lines, calls) = self.points(&bench, &verified)?;
            let chosen = self.faults.choose(&points, self.seed);
            self.kill_at(&bench, token, &chosen)?;
            transcript.get_or_insert(undisturbed.read("a.jsonl")?);
            tokens.push(TokenRehearsed {
                token: token.kind,
                writes: lines,
                calls,
                killed: chosen.len(),
                seed: matches!(self.faults, Faults::Spread(_)).then_some(self.seed),
            });
        }
        Ok(Rehearsed { transcript: transcript.ok_or(RehearsalError::NoToken)?, tokens })
    }

    /// Every place where a ceremony of this plan can be killed, in the order of the ceremony for
    /// each kind, and how many there are of each kind.
    fn points(
        &self,
        bench: &Bench<'_>,
        undisturbed: &Verified,
    ) -> Result<(Vec<Point>, usize, usize), RehearsalError> {
        if self.faults == Faults::None {
            return Ok((Vec::new(), 0, 0));
        }
        // Both journals, and the line that states the head.
        let mut points = writes(2 * (undisturbed.records + 1));
        let count = points.len();
        let watched = bench.watched(None)?;
        require("the ceremony", &watched.run(&[])?)?;
        points.extend(calls(&String::from_utf8_lossy(&watched.read("calls")?)));
        let calls = points.len() - count;
        Ok((points, count, calls))
    }

    /// Kills a ceremony at each of these points; on all processors, since each waits for its disk.
    fn kill_at(
        &self,
        bench: &Bench<'_>,
        token: &SoftToken,
        points: &[Point],
    ) -> Result<(), RehearsalError> {
        let next = AtomicUsize::new(0);
        let work = || {
            while let Some(point) = points.get(next.fetch_add(1, Ordering::Relaxed)) {
                let copy = match point {
                    Point::Call(..) => bench.watched(Some(*point)),
                    Point::Write(_) => bench.copy(),
                };
                let killed = copy.and_then(|bench| bench.to_the_end(Some(*point)));
                if let Err(source) = killed {
                    // Nobody takes another one.
                    next.store(points.len(), Ordering::Relaxed);
                    let source = Box::new(source);
                    return Err(RehearsalError::Point {
                        token: token.kind,
                        point: point.to_string(),
                        source,
                    });
                }
            }
            Ok(())
        };
        let workers = thread::available_parallelism().map_or(1, usize::from);
        thread::scope(|scope| {
            let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
            workers
                .into_iter()
                .try_for_each(|worker| worker.join().unwrap_or_else(|panic| resume_unwind(panic)))
        })
    }
}

/// `softhsm` or `kryoptic`, and `=MODULE` where it is in no usual place.
impl FromStr for SoftToken {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, module) = match text.split_once('=') {
            Some((name, module)) => (name, Some(PathBuf::from(module))),
            None => (text, None),
        };
        let (kind, places) = match name {
            "kryoptic" => (Kind::Kryoptic, KRYOPTIC),
            "softhsm" => (Kind::SoftHsm, SOFTHSM),
            other => return Err(format!("{other:?} is neither softhsm nor kryoptic")),
        };
        let usual = || places.iter().map(PathBuf::from).find(|path| path.is_file());
        let module = module.or_else(usual).ok_or_else(|| {
            format!("{name} is not installed; say where its module is: {name}=/path/to/module.so")
        })?;
        if !module.is_absolute() || !module.is_file() {
            return Err(format!("{} is no absolute path of a module", module.display()));
        }
        Ok(Self { kind, module })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kryoptic => "kryoptic",
            Self::SoftHsm => "softhsm",
        })
    }
}

impl serde::Serialize for Kind {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for TokenRehearsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { token, writes, calls, killed, seed } = self;
        if *killed == 0 {
            return write!(f, "{token}: to the end, undisturbed");
        }
        let points = writes + calls;
        write!(
            f,
            "{token}: killed at {killed} of {points} points ({writes} at writes of the journals, "
        )?;
        write!(f, "{calls} at PKCS#11 calls")?;
        if let Some(seed) = seed {
            write!(f, "; seed {seed}")?;
        }
        write!(f, "), and each time to the same end")
    }
}

/// Where Debian and Fedora have the modules.
const KRYOPTIC: &[&str] = &["/usr/lib64/pkcs11/libkryoptic_pkcs11.so"];
const SOFTHSM: &[&str] = &[
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
];

/// A plan was not rehearsed to its end.
#[derive(Debug, Error)]
pub enum RehearsalError {
    /// A file of the rehearsal cannot be written or read, or the program cannot be started.
    #[error("the rehearsal has no directory, or no program")]
    Io(#[from] io::Error),
    /// No token was named.
    #[error("no software token was named to rehearse on")]
    NoToken,
    /// A ceremony should have been killed, and was not.
    #[error("it was not killed there, and ended by itself: {said}")]
    NotKilled {
        /// What it said.
        said: String,
    },
    /// The plan cannot be used.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A ceremony that was killed did not go on to the same end.
    #[error("on {token}, killed at {point}, the ceremony did not come to the same end")]
    Point {
        /// On what.
        token: Kind,
        /// Where.
        point: String,
        /// What was wrong.
        source: Box<RehearsalError>,
    },
    /// A step of the rehearsal failed.
    #[error("{what} failed: {said}")]
    Refused {
        /// What.
        what: &'static str,
        /// What it said.
        said: String,
    },
    /// The shim is not there.
    #[error("the PKCS#11 module that dies when it is told is not at {}", .0.display())]
    Shim(PathBuf),
    /// The journals ended differently.
    #[error("the two journals are not the same")]
    TwoEnds,
    /// The transcript is not one of a ceremony.
    #[error(transparent)]
    Verify(#[from] VerifyError),
}
