//! What a module may do in the token worker, and where the PIN is.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    net::TcpListener,
    os::unix::{ffi::OsStrExt, fs::FileExt, net::UnixListener},
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use harness::{
    Doing, Failure, Story,
    office::{Office, http_get},
    peers::peer,
    process::{Daemon, Signal, run, wait_until},
    shim::{Attempt, DONE, ENVIRONMENT, Plan, Shim},
};
use rustix::process::{Pid, kill_process};

const SOON: Duration = Duration::from_secs(10);

#[test]
fn a_module_can_do_what_the_configuration_says_and_nothing_else() -> Story {
    let (mut office, shim) = Office::open_with_shim()?;
    let stage = Stage::new(&office, &shim)?;
    shim.play(Plan { attempts: stage.attempts.clone(), ..Plan::default() })?;
    // Without a sandbox all of it can be done: what is refused later, the sandbox refuses.
    let free = stage.outcomes(&shim, || load_unconfined(&office, &shim))?;
    assert!(free.values().all(|outcome| outcome == DONE), "{free:#?}");

    let confined = stage.outcomes(&shim, || office.restart())?;
    let (acces, perm, family) = (libc::EACCES, libc::EPERM, libc::EAFNOSUPPORT);
    let wanted = [
        ("append beside the ledger", acces.to_string()),
        ("append to the login note's directory", DONE.to_owned()),
        ("append to the module", acces.to_string()),
        ("append where the configuration says", DONE.to_owned()),
        ("connect by TCP", family.to_string()),
        ("connect to a UNIX socket", family.to_string()),
        ("execute", perm.to_string()),
        ("leave a namespace", perm.to_string()),
        ("read a file of others", acces.to_string()),
        ("read the PIN file", DONE.to_owned()),
        ("read the ledger", acces.to_string()),
        ("signal a process of others", perm.to_string()),
        ("trace a process of others", perm.to_string()),
    ];
    assert_eq!(confined, BTreeMap::from(wanted.clone()));
    office.enrol("user/alice")?;
    let told = ["the part that serves is confined", "the token worker is confined"];
    office.appliance()?.wait_until(SOON, |log| told.iter().all(|line| log.contains(line)))?;
    let appliance = office.appliance()?.id();
    for process in [appliance, only_child(only_child(appliance)?)?] {
        let threads = statuses(process)?;
        assert!(threads.len() > 1, "{threads:?}");
        for line in ["NoNewPrivs:\t1", "Seccomp:\t2"] {
            assert!(threads.iter().all(|status| status.lines().any(|own| own == line)), "{line}");
        }
    }

    permit(&office, "network = true\nunix_sockets = true\nmay_execute = true")?;
    let permitted = stage.outcomes(&shim, || office.restart())?;
    for (what, outcome) in wanted {
        let open = ["connect by TCP", "connect to a UNIX socket", "execute"].contains(&what);
        let outcome = if open { DONE.to_owned() } else { outcome };
        assert_eq!(permitted[what], outcome, "{what}");
    }
    office.enrol("user/bob")?;
    Ok(())
}

#[test]
fn the_pin_is_in_no_memory_and_no_file_but_its_own() -> Story {
    let mut office = Office::open()?;
    let pin = fs::read(office.path("pin")).doing("read the PIN file")?;
    office.enrol("user/alice")?;
    let (appliance, over) = (office.appliance()?.id(), AtomicBool::new(false));
    thread::scope(|scope| {
        let load = scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                office.enrol("user/bob")?;
            }
            Ok::<_, Failure>(())
        });
        let searched = scope.spawn(|| search_processes(&office, appliance, &pin)).join();
        over.store(true, Ordering::Relaxed);
        load.join().unwrap()?;
        searched.unwrap()
    })?;
    let mut files = Vec::new();
    for directory in ["state", "audit", "handoff"] {
        collect(&office.path(directory), &mut files)?;
    }
    files.push(office.path("chanceryd.log"));
    assert!(files.len() > 5, "{files:?}");
    for file in files {
        let bytes = fs::read(&file).doing(format_args!("read {}", file.display()))?;
        assert_eq!(count(&bytes, &pin), 0, "{}", file.display());
    }
    Ok(())
}

#[test]
fn a_launcher_that_is_killed_is_told_of_and_a_restart_mends_it() -> Story {
    let mut office = Office::open()?;
    let launcher = only_child(office.appliance()?.id())?;
    let worker = only_child(launcher)?;
    kill(launcher)?;
    office.enrol("user/alice")?;
    kill(worker)?;
    wait_until("what to do", SOON, || {
        let ready = http_get(office.public(), "/readyz").doing("read /readyz")?;
        Ok(ready.starts_with("HTTP/1.1 503") && ready.contains("restart chanceryd"))
    })?;
    office.restart()?;
    office.enrol("user/bob").map(drop)
}

/// Under load, before and after the worker was replaced.
fn search_processes(office: &Office, appliance: u32, pin: &[u8]) -> Story {
    let launcher = only_child(appliance)?;
    let first = only_child(launcher)?;
    search(&[appliance, launcher, first], pin)?;
    // What is looked for elsewhere is found where it has to be.
    assert!(hits(appliance, b"spiffe://example.test/user/alice")? > 0);
    assert!(hits(first, office.path("pin").as_os_str().as_bytes())? > 0);
    kill(first)?;
    wait_until("another worker", SOON, || {
        let ready = http_get(office.public(), "/readyz").doing("read /readyz")?;
        Ok(only_child(launcher).is_ok_and(|second| second != first)
            && ready.starts_with("HTTP/1.1 200"))
    })?;
    search(&[appliance, launcher, only_child(launcher)?], pin)
}

fn search(processes: &[u32], pin: &[u8]) -> Story {
    for process in processes {
        assert_eq!(hits(*process, pin)?, 0, "the memory of process {process}");
        for name in ["environ", "cmdline"] {
            let path = format!("/proc/{process}/{name}");
            let bytes = fs::read(&path).doing(format_args!("read {path}"))?;
            assert_eq!(count(&bytes, pin), 0, "{path}");
        }
    }
    Ok(())
}

fn kill(process: u32) -> Story {
    let id = i32::try_from(process).ok().and_then(Pid::from_raw);
    let id = id.ok_or_else(|| Failure::new(format!("{process} is no process id")))?;
    kill_process(id, Signal::KILL).doing(format_args!("kill process {process}"))
}

/// How often bytes are in what a process can write: heap, stacks, data.
fn hits(process: u32, needle: &[u8]) -> Result<usize, Failure> {
    let path = format!("/proc/{process}/mem");
    let memory = File::open(&path)
        .doing(format_args!("read {path}"))
        .map_err(|failure| failure.hint("run this as root: nobody else reads that memory"))?;
    let maps = format!("/proc/{process}/maps");
    let mut hits = 0;
    for line in fs::read_to_string(&maps).doing(format_args!("read {maps}"))?.lines() {
        let mut words = line.split_whitespace();
        let (Some(range), Some("rw-p" | "rw-s" | "rwxp")) = (words.next(), words.next()) else {
            continue;
        };
        let bound = |text: &str| u64::from_str_radix(text, 16).doing("read an address");
        let (start, end) = range.split_once('-').ok_or_else(|| Failure::new("no range"))?;
        let (start, end) = (bound(start)?, bound(end)?);
        let mut bytes = vec![0; usize::try_from(end - start).doing("read a length")?];
        // What was unmapped meanwhile is no memory any more.
        if memory.read_exact_at(&mut bytes, start).is_ok() {
            hits += count(&bytes, needle);
        }
    }
    Ok(hits)
}

fn count(bytes: &[u8], needle: &[u8]) -> usize {
    bytes.windows(needle.len()).filter(|window| *window == needle).count()
}

/// The one process that a process has started.
fn only_child(process: u32) -> Result<u32, Failure> {
    let tasks = format!("/proc/{process}/task");
    let mut children = Vec::new();
    for task in fs::read_dir(&tasks).doing(format_args!("read {tasks}"))? {
        let path = task.doing(format_args!("read {tasks}"))?.path().join("children");
        // A thread may end meanwhile; its children become another's.
        let own = fs::read_to_string(path).unwrap_or_default();
        children.extend(own.split_whitespace().filter_map(|id| id.parse::<u32>().ok()));
    }
    match children[..] {
        [child] => Ok(child),
        _ => Err(Failure::new(format!("process {process} has the children {children:?}"))),
    }
}

/// All files below a directory.
fn collect(directory: &Path, files: &mut Vec<PathBuf>) -> Story {
    for entry in fs::read_dir(directory).doing(format_args!("list {}", directory.display()))? {
        let path = entry.doing("list a directory")?.path();
        if path.is_dir() { collect(&path, files)? } else { files.push(path) }
    }
    Ok(())
}

/// What the module attempts, and whom it finds.
struct Stage {
    names: Vec<&'static str>,
    attempts: Vec<Attempt>,
    _listening: (TcpListener, UnixListener),
    _neighbour: Daemon,
}

impl Stage {
    fn new(office: &Office, shim: &Shim) -> Result<Self, Failure> {
        let tcp = TcpListener::bind("127.0.0.1:0").doing("listen")?;
        let socket = office.path("daemon.sock");
        let unix = UnixListener::bind(&socket).doing("listen")?;
        let secret = office.path("secret");
        fs::write(&secret, "of others").doing("write a file")?;
        let mut sleep = Command::new(peer("sleep")?);
        let neighbour = Daemon::start("sleep", sleep.arg("600"), &office.path("sleep.log"))?;
        let process = i32::try_from(neighbour.id()).doing("read a process id")?;
        let address = tcp.local_addr().doing("ask for a port")?;
        let attempts = [
            ("append beside the ledger", Attempt::Append(office.path("state/mine"))),
            (
                "append to the login note's directory",
                Attempt::Append(office.path("state/token/mine")),
            ),
            ("append to the module", Attempt::Append(shim.module().to_owned())),
            ("append where the configuration says", Attempt::Append(office.path("shim/mine"))),
            ("connect by TCP", Attempt::Connect(address)),
            ("connect to a UNIX socket", Attempt::ConnectUnix(socket)),
            ("execute", Attempt::Execute(peer("true")?)),
            ("leave a namespace", Attempt::Unshare),
            ("read a file of others", Attempt::Read(secret)),
            ("read the PIN file", Attempt::Read(office.path("pin"))),
            ("read the ledger", Attempt::Read(office.path("state/ledger.sqlite"))),
            ("signal a process of others", Attempt::Signal(process)),
            ("trace a process of others", Attempt::Trace(process)),
        ];
        let (names, attempts) = attempts.into_iter().unzip();
        Ok(Self { names, attempts, _listening: (tcp, unix), _neighbour: neighbour })
    }

    /// What became of each attempt when the module was loaded by this.
    fn outcomes(
        &self,
        shim: &Shim,
        load: impl FnOnce() -> Story,
    ) -> Result<BTreeMap<&'static str, String>, Failure> {
        let before = shim.calls()?.len();
        load()?;
        let calls = shim.calls()?;
        let outcome = |place: usize| {
            let function = format!("attempt-{place}");
            let made = calls[before..].iter().find(|call| call.function == function);
            let made = made.ok_or_else(|| Failure::new(format!("{function} was not made")))?;
            Ok((self.names[place], made.outcome.clone()))
        };
        (0..self.names.len()).map(outcome).collect()
    }
}

/// What the kernel says of each thread of a process.
fn statuses(process: u32) -> Result<Vec<String>, Failure> {
    let tasks = format!("/proc/{process}/task");
    let mut statuses = Vec::new();
    for task in fs::read_dir(&tasks).doing(format_args!("read {tasks}"))? {
        let path = task.doing(format_args!("read {tasks}"))?.path().join("status");
        // A thread may end meanwhile.
        statuses.extend(fs::read_to_string(path));
    }
    Ok(statuses)
}

/// Lets a program load the module that has no sandbox.
fn load_unconfined(office: &Office, shim: &Shim) -> Story {
    let mut command = Command::new(peer("pkcs11-tool")?);
    command.arg("--module").arg(shim.module()).arg("--list-slots");
    command.env(ENVIRONMENT, shim.directory());
    run(office.token().lend(&mut command))?.success().map(drop)
}

/// Adds to the sandbox's settings.
fn permit(office: &Office, settings: &str) -> Story {
    let path = office.path("chanceryd.toml");
    let text = fs::read_to_string(&path).doing("read chanceryd.toml")?;
    let (before, after) = text
        .split_once("[token.sandbox]\n")
        .ok_or_else(|| Failure::new("chanceryd.toml has no [token.sandbox]"))?;
    let text = format!("{before}[token.sandbox]\n{settings}\n{after}");
    fs::write(&path, text).doing("write chanceryd.toml")
}
