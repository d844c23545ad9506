//! The machine that a ceremony takes place on, looked at before anything is done: that it has no
//! network, writes no memory to a disk, and was not told by its environment to do something else.
//!
//! Everything is recorded. What must not be at all, the plan says: whoever approves it approves that.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    fmt, fs, io,
    path::{Path, PathBuf},
};

use rustix::{
    fs::statvfs,
    process::{
        DumpableBehavior, Resource, Rlimit, dumpable_behavior, geteuid, getrlimit,
        set_dumpable_behavior, setrlimit,
    },
};

use crate::journal::directory_of;

/// The machine as it was found.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct Environment {
    /// The effective user of this program.
    pub euid: u32,
    /// The kernel and its version.
    pub kernel: String,
    /// The time zone; empty where the machine does not tell it.
    pub time_zone: String,
    /// How many bytes are free for each journal, in the order in which they were named.
    pub free: Vec<u64>,
    /// How many bits of entropy the kernel says that it has.
    pub entropy: u32,
    /// What is not as it should be; nothing where all is.
    pub findings: BTreeMap<Check, String>,
}

/// What is looked at.
#[derive(
    Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, serde::Deserialize, serde::Serialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    /// The memory of this program is written nowhere when it dies.
    CoreDumps,
    /// The kernel has enough randomness.
    Entropy,
    /// No network interface is up but the loopback, and there is no default route.
    Network,
    /// No radio can send.
    Radio,
    /// Each journal has room.
    Space,
    /// No memory is written to a disk while the program runs.
    Swap,
    /// The machine's times are UTC.
    TimeZone,
    /// No environment variable is set but the usual ones and those of the site.
    Variables,
    /// No other system has this one in its hands.
    VirtualMachine,
}

/// What a plan demands of the machine.
#[derive(Clone, Debug, Default, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Demands {
    /// Where one of these finds something, nothing is begun, and nothing gone on with.
    pub refuse: BTreeSet<Check>,
}

impl Demands {
    /// Whether nothing is demanded.
    pub fn is_empty(&self) -> bool {
        self.refuse.is_empty()
    }
}

/// Keeps this program's memory to itself: no core dumps, neither to a file nor to a program.
///
/// # Errors
///
/// The system refuses.
pub fn leave_no_dumps() -> io::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

impl Environment {
    /// Looks at this machine. `variables` are the names of this process's environment variables,
    /// `expected` those that the site sets.
    ///
    /// # Errors
    ///
    /// The system does not tell what every Linux tells.
    pub fn look(
        journals: &[PathBuf],
        variables: &BTreeSet<String>,
        expected: &BTreeSet<String>,
    ) -> io::Result<Self> {
        let dumps = getrlimit(Resource::Core).current != Some(0)
            || dumpable_behavior()? != DumpableBehavior::NotDumpable;
        let free: io::Result<Vec<u64>> = journals.iter().map(|path| free(path)).collect();
        let mut environment = Self::of_system(Path::new("/"), geteuid().as_raw(), free?)?;
        if dumps {
            let what = "the memory of this program is written to a disk when it dies";
            environment.find(Check::CoreDumps, what.to_owned());
        }
        let usual = |name: &String| {
            USUAL.contains(&name.as_str()) || USUAL_BEGIN.iter().any(|it| name.starts_with(it))
        };
        let odd = variables.difference(expected).filter(|name| !usual(name));
        environment.find(Check::Variables, odd.cloned().collect::<Vec<_>>().join(", "));
        Ok(environment)
    }

    /// What the files of a system below this directory say.
    fn of_system(root: &Path, euid: u32, free: Vec<u64>) -> io::Result<Self> {
        let text = |path: &str| fs::read_to_string(root.join(path)).map(|it| it.trim().to_owned());
        let entropy = text("proc/sys/kernel/random/entropy_avail")?.parse().unwrap_or_default();
        let mut environment = Self {
            euid,
            kernel: [text("proc/sys/kernel/ostype")?, text("proc/sys/kernel/osrelease")?].join(" "),
            time_zone: time_zone(root),
            free,
            entropy,
            findings: BTreeMap::new(),
        };
        if entropy < ENOUGH {
            environment.find(Check::Entropy, format!("{entropy} bits"));
        }
        environment.find(Check::Network, network(root).join(", "));
        environment.find(Check::Radio, radios(root).join(", "));
        if let Some(least) = environment.free.iter().min().filter(|least| **least < ROOM) {
            environment.find(Check::Space, format!("{least} bytes are free for a journal"));
        }
        // The first line is a heading.
        let swaps = text("proc/swaps").unwrap_or_default();
        let swaps = swaps.lines().skip(1).filter_map(|line| line.split_whitespace().next());
        environment.find(Check::Swap, swaps.collect::<Vec<_>>().join(", "));
        if !UTC.contains(&environment.time_zone.as_str()) {
            let zone = environment.time_zone.clone();
            environment
                .find(Check::TimeZone, if zone.is_empty() { "unknown".into() } else { zone });
        }
        let flags = text("proc/cpuinfo").unwrap_or_default();
        if flags.split_whitespace().any(|flag| flag == "hypervisor") {
            let name = text("sys/class/dmi/id/product_name").unwrap_or_default();
            environment
                .find(Check::VirtualMachine, format!("a hypervisor {name}").trim().to_owned());
        }
        Ok(environment)
    }

    /// What the demands do not let pass.
    pub fn refused(&self, demands: &Demands) -> BTreeMap<Check, String> {
        let findings = self.findings.iter().filter(|(check, _)| demands.refuse.contains(check));
        findings.map(|(check, what)| (*check, what.clone())).collect()
    }

    fn find(&mut self, check: Check, what: String) {
        if !what.is_empty() {
            self.findings.insert(check, what);
        }
    }
}

/// In words, one line each.
impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { euid, kernel, time_zone, entropy, free, findings } = self;
        let zone = if time_zone.is_empty() { "unknown" } else { time_zone };
        let free = free.iter().map(|bytes| format!("{} MiB", bytes >> 20)).collect::<Vec<_>>();
        writeln!(f, "{kernel}, user {euid}, time zone {zone}, {entropy} bits of entropy")?;
        write!(f, "free for the journals: {}", free.join(", "))?;
        findings.iter().try_for_each(|(check, what)| write!(f, "\n{check}: {what}"))
    }
}

/// As a plan writes it.
impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CoreDumps => "core-dumps",
            Self::Entropy => "entropy",
            Self::Network => "network",
            Self::Radio => "radio",
            Self::Space => "space",
            Self::Swap => "swap",
            Self::TimeZone => "time-zone",
            Self::Variables => "variables",
            Self::VirtualMachine => "virtual-machine",
        })
    }
}

fn free(journal: &Path) -> io::Result<u64> {
    let system = statvfs(directory_of(journal))?;
    Ok(system.f_bavail.saturating_mul(system.f_frsize))
}

/// `/etc/localtime` is a link into the time zones; without it, C libraries take UTC.
fn time_zone(root: &Path) -> String {
    let Ok(link) = fs::read_link(root.join("etc/localtime")) else {
        let absent = !root.join("etc/localtime").exists();
        return if absent { "UTC".to_owned() } else { String::new() };
    };
    let link = link.to_string_lossy().into_owned();
    link.split_once("zoneinfo/").map(|(_, zone)| zone.to_owned()).unwrap_or_default()
}

/// Interfaces that are up, and ways to everywhere.
fn network(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for name in names(&root.join("sys/class/net")) {
        let flags = fs::read_to_string(root.join("sys/class/net").join(&name).join("flags"));
        let flags = flags.unwrap_or_default();
        let flags = u32::from_str_radix(flags.trim().trim_start_matches("0x"), 16);
        // One that does not tell is taken for up.
        let flags = flags.unwrap_or(IFF_UP);
        if flags & IFF_UP != 0 && flags & IFF_LOOPBACK == 0 {
            found.push(format!("{name} is up"));
        }
    }
    let text = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
    // Interface, destination, gateway, flags, three counts, mask.
    for line in text("proc/net/route").lines().skip(1) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        if let [interface, "00000000", _, _, _, _, _, "00000000", ..] = fields.as_slice() {
            found.push(format!("default route by {interface}"));
        }
    }
    for line in text("proc/net/ipv6_route").lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        if let ([destination, "00", ..], Some(interface)) = (fields.as_slice(), fields.last())
            && destination.bytes().all(|digit| digit == b'0')
            && *interface != "lo"
        {
            found.push(format!("default route (IPv6) by {interface}"));
        }
    }
    found
}

/// Radios that nothing blocks.
fn radios(root: &Path) -> Vec<String> {
    let directory = root.join("sys/class/rfkill");
    let text = |name: &str, file: &str| {
        let text = fs::read_to_string(directory.join(name).join(file)).unwrap_or_default();
        text.trim().to_owned()
    };
    let open = |name: &String| text(name, "soft") != "1" && text(name, "hard") != "1";
    let names = names(&directory).into_iter().filter(open);
    names.map(|name| format!("{} {} can send", text(&name, "type"), text(&name, "name"))).collect()
}

/// The entries of a directory, in order; none if there is no such.
fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let text = |name: &OsStr| name.to_string_lossy().into_owned();
    let mut names: Vec<String> = entries.map(|entry| text(&entry.file_name())).collect();
    names.sort();
    names
}

/// `linux/if.h`.
const IFF_UP: u32 = 0x1;
const IFF_LOOPBACK: u32 = 0x8;

/// What NIST SP 800-90B would call the strength of the kernel's generator, which is seeded once.
const ENOUGH: u32 = 128;

/// The room that a journal takes, ten times over.
const ROOM: u64 = 16 << 20;

const UTC: [&str; 6] = ["UTC", "Etc/UTC", "Etc/UCT", "UCT", "Zulu", "Etc/Zulu"];

/// Variables of every session at a terminal.
const USUAL: [&str; 22] = [
    "COLORTERM",
    "COLUMNS",
    "DISPLAY",
    "HOME",
    "HOSTNAME",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
    "LANG",
    "LANGUAGE",
    "LINES",
    "LOGNAME",
    "MAIL",
    "OLDPWD",
    "PATH",
    "PWD",
    "SHELL",
    "SHLVL",
    "SSH_AUTH_SOCK",
    "TERM",
    "TZ",
    "USER",
    "_",
];
const USUAL_BEGIN: [&str; 3] = ["LC_", "SUDO_", "XDG_"];

#[cfg(test)]
mod tests;
