//! What a module may do in the token worker: it is asked to do what it has no business to do.

use std::{
    collections::BTreeMap, fs, net::TcpListener, os::unix::net::UnixListener, process::Command,
    time::Duration,
};

use harness::{
    Doing, Failure, Story,
    office::Office,
    peers::peer,
    process::{Daemon, run},
    shim::{Attempt, DONE, ENVIRONMENT, Plan, Shim},
};

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
    office.appliance()?.wait_until(SOON, |log| log.contains("the token worker is confined"))?;

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
