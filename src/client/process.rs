//! Processes by id and start time, so that an id that is used again is not taken for the same.

use std::{collections::HashSet, fs, io, os::fd::OwnedFd, path::Path, time::Duration};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use tokio::io::{Interest, unix::AsyncFd};

/// A process, for as long as the machine runs.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub(crate) struct Process {
    /// Its id.
    pub(crate) id: i32,
    /// When it started, in clock ticks since the machine did (proc(5), `/proc/pid/stat`, 22).
    pub(crate) started: u64,
}

/// A process that is held: signals reach it or nobody.
#[derive(Debug)]
pub(crate) struct Handle(AsyncFd<OwnedFd>);

impl Process {
    /// The process that has this id now; `None` when none has.
    pub(crate) fn of(id: i32) -> Option<Self> {
        let stat = Stat::read(id)?;
        Some(Self { id, started: stat.started })
    }

    /// Whether it still runs.
    pub(crate) fn lives(self) -> bool {
        Stat::read(self.id).is_some_and(|stat| stat.started == self.started && !stat.is_over())
    }

    /// Who started it.
    pub(crate) fn parent(self) -> Option<Self> {
        let stat = Stat::read(self.id).filter(|stat| stat.started == self.started)?;
        let parent = Self::of(stat.parent)?;
        // A parent is older than its child; another process of the same id is not.
        (parent.started <= self.started).then_some(parent)
    }

    /// The name of the program's file, also if that was replaced since.
    pub(crate) fn program(self) -> Option<String> {
        let path = fs::read_link(format!("/proc/{}/exe", self.id)).ok()?;
        let name = path.file_name()?.to_str()?;
        let name = name.strip_suffix(" (deleted)").unwrap_or(name);
        self.lives().then(|| name.to_owned())
    }

    /// What the process calls itself.
    pub(crate) fn title(self) -> Option<String> {
        let bytes = fs::read(format!("/proc/{}/cmdline", self.id)).ok()?;
        let text = String::from_utf8_lossy(&bytes).replace('\0', " ");
        self.lives().then(|| text.trim_end().to_owned())
    }

    /// All that it has started, and what they have, itself excluded.
    pub(crate) fn descendants(self) -> Vec<Self> {
        let all: Vec<_> = every().collect();
        let mut found = Vec::new();
        let mut known = HashSet::from([self.id]);
        let mut before = 0;
        while known.len() > before {
            before = known.len();
            for &(process, parent) in &all {
                if known.contains(&parent) && known.insert(process.id) {
                    found.push(process);
                }
            }
        }
        found
    }

    /// Those that it has started itself.
    pub(crate) fn children(self) -> Vec<Self> {
        every().filter(|(_, parent)| *parent == self.id).map(|(process, _)| process).collect()
    }

    /// Holds it; `None` when it is over.
    ///
    /// # Errors
    ///
    /// The operating system gives no more descriptors.
    pub(crate) fn hold(self) -> io::Result<Option<Handle>> {
        let Some(id) = Pid::from_raw(self.id) else { return Ok(None) };
        let descriptor = match pidfd_open(id, PidfdFlags::NONBLOCK) {
            Ok(descriptor) => descriptor,
            Err(rustix::io::Errno::SRCH) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        // Only now is it sure that the id will not pass on to another.
        if !self.lives() {
            return Ok(None);
        }
        #[expect(deprecated, reason = "an OwnedFd keeps its descriptor open and the same")]
        let watched = AsyncFd::with_interest(descriptor, Interest::READABLE);
        watched.map(|fd| Some(Handle(fd)))
    }
}

impl Handle {
    /// Waits until it is over.
    pub(crate) async fn ended(&self) {
        // A descriptor of a process is readable when the process is over, and never again not so
        // (pidfd_open(2)). An error can only be one of the runtime, which then ends itself.
        let _ = self.0.readable().await;
    }

    /// Sends a signal, unless it is over.
    pub(crate) fn signal(&self, signal: Signal) {
        let _ = pidfd_send_signal(self.0.get_ref(), signal);
    }
}

/// Ends a process and all that it has started: asks first, then insists. What is left after that
/// cannot be killed.
pub(crate) async fn end_tree(root: Process) {
    let all: Vec<Handle> = std::iter::once(root)
        .chain(root.descendants())
        .filter_map(|process| process.hold().ok().flatten())
        .collect();
    for signal in [Signal::TERM, Signal::KILL] {
        for handle in &all {
            handle.signal(signal);
            // Interactive shells ignore the first; a terminal that is gone, they obey.
            if signal == Signal::TERM {
                handle.signal(Signal::HUP);
            }
        }
        let ended = async {
            for handle in &all {
                handle.ended().await;
            }
        };
        if tokio::time::timeout(FAREWELL, ended).await.is_ok() {
            return;
        }
    }
}

/// All processes with the ids of their parents.
fn every() -> impl Iterator<Item = (Process, i32)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let id = entry.file_name().to_str()?.parse().ok()?;
        let stat = Stat::read(id)?;
        (!stat.is_over()).then_some((Process { id, started: stat.started }, stat.parent))
    })
}

/// Tells two runs of the machine apart: ids and start times begin anew.
pub(crate) fn boot_id() -> io::Result<String> {
    let text = fs::read_to_string(Path::new("/proc/sys/kernel/random/boot_id"))?;
    Ok(text.trim().to_owned())
}

#[derive(Debug, Eq, PartialEq)]
struct Stat {
    state: char,
    parent: i32,
    started: u64,
}

impl Stat {
    fn read(id: i32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{id}/stat")).ok()?)
    }

    /// proc(5): the name stands in parentheses and may contain any of those itself.
    fn parse(text: &str) -> Option<Self> {
        let (_, rest) = text.rsplit_once(") ")?;
        let mut fields = rest.split(' ');
        let state = fields.next()?.chars().next()?;
        let parent = fields.next()?.parse().ok()?;
        let started = fields.nth(17)?.parse().ok()?;
        Some(Self { state, parent, started })
    }

    /// A zombie's work is over, though its id is still its own.
    fn is_over(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }
}

/// How long those who were asked to end may take. A connection is cut when the first is over: this
/// is for programs that do not listen.
const FAREWELL: Duration = Duration::from_millis(300);

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_name_cannot_pass_for_other_fields() {
        let text = "42 (a) S 1 (b) R 7 42 42 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 991 0 0";
        let stat = Stat { state: 'R', parent: 7, started: 991 };
        assert_eq!(Stat::parse(text), Some(stat));
        assert_eq!(Stat::parse("42 (a) S"), None);
    }

    #[tokio::test]
    async fn a_tree_is_ended_with_those_that_do_not_listen() {
        let script = "trap '' TERM HUP; sleep 1000 & wait; sleep 1000";
        let mut child = Command::new("/bin/sh").args(["-c", script]).spawn().unwrap();
        let root = Process::of(child.id().try_into().unwrap()).unwrap();
        assert_eq!(root.parent(), Process::of(std::process::id().try_into().unwrap()));
        let sleeper = loop {
            if let [sleeper] = root.descendants()[..]
                && sleeper.program().is_some_and(|name| name != "sh" && name != "dash")
            {
                break sleeper;
            }
            tokio::task::yield_now().await;
        };
        end_tree(root).await;
        assert!(!root.lives() && !sleeper.lives());
        assert_eq!(root.hold().unwrap().map(drop), None, "what is over cannot be held");
        child.wait().unwrap();
        let another = Process { id: std::process::id().try_into().unwrap(), started: 1 };
        assert!(!another.lives(), "the same id at another time is another process");
    }
}
