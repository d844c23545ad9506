//! What the appliance's processes take of memory and processor, as Linux counts it in /proc.

use std::{fs, time::Duration};

use harness::{Failure, failure::Doing};

/// The appliance and its token workers.
pub(crate) struct Processes {
    appliance: u32,
    workers: Vec<u32>,
}

/// Processor time, user and system.
#[derive(Clone, Copy)]
pub(crate) struct Cpu {
    /// Of the appliance itself.
    pub(crate) appliance: Duration,
    /// Of its token workers.
    pub(crate) workers: Duration,
    /// Of the load generator: this process.
    pub(crate) callers: Duration,
}

impl Processes {
    /// The appliance of this id, and the children of its children: it starts a launcher, and that
    /// the workers.
    pub(crate) fn of_appliance(id: u32) -> Result<Self, Failure> {
        let launchers = children(&[id])?;
        let workers = children(&launchers)?;
        if workers.is_empty() {
            return Err(Failure::new("the appliance has no token worker"));
        }
        Ok(Self { appliance: id, workers })
    }

    /// The process ids of the token workers.
    pub(crate) fn workers(&self) -> &[u32] {
        &self.workers
    }

    /// Resident memory of all of them, in bytes. What they share is counted for each.
    pub(crate) fn resident(&self) -> Result<u64, Failure> {
        self.memory("VmRSS:")
    }

    /// The most that [`resident`](Self::resident) ever was, or a little more: the processes need
    /// not have had their most at the same time.
    pub(crate) fn peak_resident(&self) -> Result<u64, Failure> {
        self.memory("VmHWM:")
    }

    fn memory(&self, field: &str) -> Result<u64, Failure> {
        std::iter::once(&self.appliance).chain(&self.workers).map(|id| memory(*id, field)).sum()
    }

    /// The processor time that they have taken so far.
    pub(crate) fn cpu(&self) -> Result<Cpu, Failure> {
        let time = |id: u32| Ok(Stat::read(&id.to_string())?.cpu);
        Ok(Cpu {
            appliance: time(self.appliance)?,
            workers: self.workers.iter().map(|id| time(*id)).sum::<Result<_, Failure>>()?,
            callers: Stat::read("self")?.cpu,
        })
    }
}

/// Resident memory, in bytes, and the processor time taken so far, of one process.
pub(crate) fn of_process(id: u32) -> Result<(u64, Duration), Failure> {
    Ok((memory(id, "VmRSS:")?, Stat::read(&id.to_string())?.cpu))
}

fn children(parents: &[u32]) -> Result<Vec<u32>, Failure> {
    let mut children = Vec::new();
    for entry in fs::read_dir("/proc").doing("list /proc")? {
        let name = entry.doing("list /proc")?.file_name();
        let Some(process) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // A process may end while the list is read.
        let Ok(stat) = Stat::read(&process.to_string()) else { continue };
        if parents.contains(&stat.parent) {
            children.push(process);
        }
    }
    Ok(children)
}

impl Cpu {
    /// What was taken since.
    pub(crate) fn since(&self, before: &Self) -> Self {
        Self {
            appliance: self.appliance.saturating_sub(before.appliance),
            workers: self.workers.saturating_sub(before.workers),
            callers: self.callers.saturating_sub(before.callers),
        }
    }
}

/// A field of proc_pid_status(5) that is in kB, in bytes.
fn memory(id: u32, field: &str) -> Result<u64, Failure> {
    let path = format!("/proc/{id}/status");
    let status = fs::read_to_string(&path).doing(format_args!("read {path}"))?;
    status
        .lines()
        .find_map(|line| line.strip_prefix(field))
        .and_then(|value| value.trim().strip_suffix(" kB"))
        .and_then(|kilobytes| kilobytes.parse::<u64>().ok())
        .map(|kilobytes| kilobytes * 1024)
        .ok_or_else(|| Failure::new(format!("{path} has no {field}")))
}

/// The fields of proc_pid_stat(5) that are needed here.
struct Stat {
    parent: u32,
    cpu: Duration,
}

impl Stat {
    fn read(id: &str) -> Result<Self, Failure> {
        let path = format!("/proc/{id}/stat");
        let text = fs::read_to_string(&path).doing(format_args!("read {path}"))?;
        // The name of the program, in parentheses, may have spaces: fields are counted after it.
        let fields = text.rsplit(')').next().unwrap_or_default().split_ascii_whitespace();
        let fields = fields.collect::<Vec<_>>();
        let number = |index: usize| -> Result<u64, Failure> {
            fields
                .get(index)
                .and_then(|field| field.parse().ok())
                .ok_or_else(|| Failure::new(format!("{path} is too short")))
        };
        let parent = u32::try_from(number(1)?).doing("read a process id")?;
        // utime and stime, in ticks of USER_HZ, which is 100 on every Linux that Rust runs on.
        let cpu = Duration::from_millis(10 * (number(11)? + number(12)?));
        Ok(Self { parent, cpu })
    }
}
