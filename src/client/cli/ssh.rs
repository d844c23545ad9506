//! `chancery ssh`: a session, a key in memory, ssh, and the end of all three together.
//!
//! Three processes take part. This one has the key, and serves it to ssh over a socket of its own.
//! ssh is told by the kernel to end when this process does. A watcher, in a terminal session of its
//! own, has the client identity but not the key: it ends the session when this process goes away,
//! be it by `kill -9`. Should both be killed, or the machine lose power, the session ends by its
//! heartbeat, if its role has one, or by its time.

mod destination;
mod watcher;

use std::{
    ffi::OsString,
    fs, io,
    os::unix::{fs::PermissionsExt, process::ExitStatusExt},
    path::{Path, PathBuf},
    process::{ExitCode, ExitStatus},
    sync::Arc,
    time::Duration,
};

use api::{Issued, ProblemKind, Session, SessionRequest, SessionState, SshUserRequest};
use client::{
    Client, Error,
    profile::Settings,
    session::is_passing,
    session_key::SessionKey,
    ssh_agent::{Agent, Identity},
};
use rustix::process::{Pid, Signal, getppid, kill_process};
use tempfile::TempDir;
use tokio::{
    net::UnixListener,
    process::{Child, Command},
    signal::unix::{self, SignalKind, signal},
    time::{Instant, sleep, sleep_until},
};

use self::{destination::Destination, watcher::Watcher};
use super::{
    arguments::{Global, session::Exec, ssh::Ssh},
    environment,
    failure::Failure,
    session::{not_open, wait_until_decided},
    terminal::tell,
};

pub(super) use self::watcher::watch;

pub(super) async fn run(global: Global, it: Ssh) -> Result<ExitCode, Failure> {
    // 1. For what, and where to: nothing is asked for before that is clear.
    let role = session_role(&global, it.role.as_deref())?;
    let settings = connection(global)?;
    let client = Client::new(&settings)?;
    let destination = Destination::ask_ssh(&it.ssh).await?;
    let request = request(&it, role, &destination)?;

    // 2. From here on, somebody ends what was begun.
    let mut signals = Signals::new().map_err(system("catch signals"))?;
    let directory = directory()?;
    let mut watcher = Watcher::start(&settings).await?;
    let session = client.request_session(&request).await?;
    watcher.guard(&session, directory.path()).await?;

    // 3. Approval, key, certificate, then ssh.
    let id = session.id.clone();
    let outcome = tokio::select! {
        ready = prepare(&client, session, &it, &destination, &directory) => match ready {
            Ok(ready) => ready.run_ssh(&client, &it.ssh, &mut signals).await,
            Err(failure) => Err(failure),
        },
        number = signals.next() => Ok(by_signal(number)),
    };

    // 4. The end of all three.
    watcher.finish(&client, &id).await;
    outcome
}

/// Becomes ssh, which gets SIGTERM when the process does that started this one.
pub(super) fn exec(it: Exec) -> Failure {
    use std::os::unix::process::CommandExt;

    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::set_parent_process_death_signal(Some(Signal::TERM)) {
        return system("tie ssh to its parent")(error.into());
    }
    // It may have gone before that was said.
    if getppid() != Pid::from_raw(it.parent) {
        return system("start ssh")(io::Error::other("its parent is gone"));
    }
    system("start ssh")(std::process::Command::new("ssh").args(it.ssh).exec())
}

/// All that ssh needs.
struct Ready {
    session: Session,
    agent: Arc<Agent<SessionKey>>,
    listener: UnixListener,
    options: Vec<OsString>,
}

async fn prepare(
    client: &Client,
    session: Session,
    it: &Ssh,
    destination: &Destination,
    directory: &TempDir,
) -> Result<Ready, Failure> {
    let session = wait_until_decided(client, session, it.wait).await?;
    if session.state != SessionState::Open {
        return Err(not_open(&session));
    }
    let known_hosts = destination.known_hosts(&client.authorities().await?)?;
    refuse_core_dumps()?;
    let key = SessionKey::generate()?;
    let issued = certify(client, &session, it.certificate_role.as_deref(), &key).await?;
    let agent = Agent::new([rustix::process::geteuid().as_raw()].into());
    agent.show(Identity::new(key, &issued.certificate, &session.id)?);
    let socket = directory.path().join("agent");
    let listener = UnixListener::bind(&socket).map_err(system("make a socket for ssh"))?;
    let mut hosts = None;
    if !known_hosts.is_empty() {
        let path = directory.path().join("known_hosts");
        fs::write(&path, known_hosts).map_err(system("write the known hosts"))?;
        hosts = Some(path);
    }
    let options = options(&socket, destination, hosts);
    Ok(Ready { session, agent: Arc::new(agent), listener, options })
}

impl Ready {
    /// Runs ssh to its end. It is ended when a signal asks for that, and when the session is over.
    async fn run_ssh(
        self,
        client: &Client,
        words: &[OsString],
        signals: &mut Signals,
    ) -> Result<ExitCode, Failure> {
        let mut ssh = start_ssh(&self.options, words)?;
        let mut over = std::pin::pin!(async {
            tokio::select! {
                () = beat(client, &self.session) => Ok(()),
                served = self.agent.serve(&self.listener) => served,
            }
        });
        let mut kill_at: Option<Instant> = None;
        loop {
            let late = kill_at.unwrap_or_else(Instant::now);
            tokio::select! {
                status = ssh.wait() => return Ok(code(status.map_err(system("wait for ssh"))?)),
                _ = signals.next() => kill_at = Some(ask_to_end(&ssh)),
                served = &mut over, if kill_at.is_none() => {
                    if let Err(error) = served {
                        tell(format!("the agent of session {} failed: {error}", self.session.id));
                    }
                    kill_at = Some(ask_to_end(&ssh));
                }
                () = sleep_until(late), if kill_at.is_some() => {
                    ssh.start_kill().map_err(system("end ssh"))?;
                    kill_at = Some(Instant::now() + PATIENCE_WITH_SSH);
                }
            }
        }
    }
}

/// Shows the appliance again and again that the session is still needed, if it wants to see that;
/// returns when the session is over.
async fn beat(client: &Client, session: &Session) {
    let Some(within) = session.heartbeat else { return std::future::pending().await };
    let pause = Duration::from_secs(within.into()) / 3;
    loop {
        sleep(pause).await;
        match client.session_heartbeat(&session.id).await {
            Ok(session) if session.state == SessionState::Open => {}
            Err(error) if is_passing(&error) => {}
            Ok(_) | Err(_) => return,
        }
    }
}

/// Asks the roles of the session in their order for a certificate on the key.
async fn certify(
    client: &Client,
    session: &Session,
    wanted: Option<&str>,
    key: &SessionKey,
) -> Result<Issued, Failure> {
    let own = session.certificate_roles.iter().map(String::as_str);
    let roles: Vec<&str> = wanted.map_or_else(|| own.collect(), |role| vec![role]);
    let mut refusals = Vec::new();
    for role in roles {
        let request = SshUserRequest {
            role: role.to_owned(),
            public_key: key.public_line(),
            principals: Default::default(),
            ttl: None,
            session: Some(session.id.clone()),
            source_addresses: Default::default(),
            force_command: None,
        };
        match client.issue_ssh_user(&request).await {
            Ok(issued) => return Ok(issued),
            Err(Error::Problem(problem)) if problem.kind == ProblemKind::Denied => {
                refusals.push((role.to_owned(), problem));
            }
            Err(error) => return Err(error.into()),
        }
    }
    if let [(_, problem)] = &refusals[..] {
        return Err(Error::Problem(problem.clone()).into());
    }
    let said = refusals.iter().map(|(role, problem)| format!("{role}: {}", problem.detail));
    Err(Failure::Usage {
        what: format!(
            "no role of session {} gives an SSH user certificate; {}",
            session.id,
            said.collect::<Vec<_>>().join("; "),
        ),
        hint: Some("`chancery session show` lists them; choose with --certificate-role".to_owned()),
    })
}

fn session_role(global: &Global, given: Option<&str>) -> Result<String, Failure> {
    if let Some(role) = given {
        return Ok(role.to_owned());
    }
    let file = global.profile_file()?;
    let role = file.session_role(global.profile.as_deref())?;
    role.map(str::to_owned).ok_or_else(|| Failure::Usage {
        what: "no session role is given, and the profile has none".to_owned(),
        hint: Some("say --role ROLE, or write session_role = \"ROLE\" into the profile".to_owned()),
    })
}

fn connection(global: Global) -> Result<Settings, Failure> {
    let file = global.profile_file()?;
    Ok(global.settings(&file)?)
}

fn request(it: &Ssh, role: String, destination: &Destination) -> Result<SessionRequest, Failure> {
    let targets = match (&it.targets[..], it.no_target) {
        (_, true) => Default::default(),
        ([], false) => [destination.target()?].into(),
        (given, false) => given.iter().cloned().collect(),
    };
    Ok(SessionRequest {
        role,
        reason: it.reason.clone().unwrap_or_else(|| as_typed(&it.ssh)),
        targets,
        ttl: it.ttl,
        source_addresses: Default::default(),
        force_command: None,
        one_use: false,
    })
}

/// The command line as a reason: at most 500 characters, none that steers a terminal.
fn as_typed(words: &[OsString]) -> String {
    let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    format!("ssh {}", words.join(" ")).chars().map(plain).take(500).collect()
}

/// A directory for this user alone. The watcher removes it if this process cannot.
fn directory() -> Result<TempDir, Failure> {
    tempfile::Builder::new()
        .prefix("chancery-ssh-")
        .permissions(fs::Permissions::from_mode(0o700))
        .tempdir_in(environment::runtime_directory())
        .map_err(system("make a directory for ssh's socket"))
}

/// What ssh is told before its own arguments; the first word counts.
fn options(socket: &Path, to: &Destination, known_hosts: Option<PathBuf>) -> Vec<OsString> {
    let mut options = vec![
        format!("IdentityAgent={}", quoted(socket)),
        // The agent has one identity. No other key is tried: neither from files (none, instead of
        // the usual ones), nor of another kind, so that nobody comes in beside the session.
        "IdentitiesOnly=no".to_owned(),
        "IdentityFile=none".to_owned(),
        "PubkeyAcceptedAlgorithms=ssh-ed25519-cert-v01@openssh.com".to_owned(),
        // -A and -S on the command line still count.
        "ForwardAgent=no".to_owned(),
        "ControlMaster=no".to_owned(),
        "ControlPath=none".to_owned(),
    ];
    if let Some(path) = known_hosts {
        // ssh never writes to these: keys that it learns go to the user's own file.
        let files = to.global_known_hosts.iter().map(PathBuf::as_path).chain([path.as_path()]);
        let files: Vec<_> = files.map(quoted).collect();
        options.push(format!("GlobalKnownHostsFile={}", files.join(" ")));
    }
    options.into_iter().flat_map(|option| ["-o".into(), option.into()]).collect()
}

fn quoted(path: &Path) -> String {
    format!("\"{}\"", path.display())
}

fn start_ssh(options: &[OsString], words: &[OsString]) -> Result<Child, Failure> {
    let program = std::env::current_exe().map_err(system("find the own program"))?;
    let parent = std::process::id().to_string();
    let mut command = Command::new(program);
    command.args(["session", "exec", "--parent", &parent, "--"]).args(options).args(words);
    command.spawn().map_err(system("start ssh"))
}

/// SIGTERM: ssh gives the terminal back as it was. Gives the time after which that is not enough.
fn ask_to_end(ssh: &Child) -> Instant {
    let id = ssh.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let Some(id) = id {
        // It has not been waited for, so that the id is its own; it may have ended.
        let _ = kill_process(id, Signal::TERM);
    }
    Instant::now() + PATIENCE_WITH_SSH
}

/// ssh's own code; killed by a signal, as shells say it.
fn code(status: ExitStatus) -> ExitCode {
    match (status.code(), status.signal()) {
        (Some(code), _) => ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)),
        (None, number) => by_signal(number.unwrap_or_default()),
    }
}

fn by_signal(number: i32) -> ExitCode {
    ExitCode::from(u8::try_from(128 + number).unwrap_or(u8::MAX))
}

/// No core dump, and no debugger but root's: the key is in this memory.
fn refuse_core_dumps() -> Result<(), Failure> {
    #[cfg(target_os = "linux")]
    let refused =
        rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    #[cfg(not(target_os = "linux"))]
    let refused = rustix::process::setrlimit(
        rustix::process::Resource::Core,
        rustix::process::Rlimit { current: Some(0), maximum: Some(0) },
    );
    refused.map_err(|error| system("refuse core dumps")(error.into()))
}

/// The signals that ask this process to end.
struct Signals {
    hangup: unix::Signal,
    interrupt: unix::Signal,
    terminate: unix::Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// The number of the next one.
    async fn next(&mut self) -> i32 {
        let kind = tokio::select! {
            _ = self.hangup.recv() => SignalKind::hangup(),
            _ = self.interrupt.recv() => SignalKind::interrupt(),
            _ = self.terminate.recv() => SignalKind::terminate(),
        };
        kind.as_raw_value()
    }
}

/// The operating system did not do something.
fn system(what: &str) -> impl FnOnce(io::Error) -> Failure {
    move |source| Failure::System { what: what.to_owned(), source }
}

/// How long ssh may take to end by itself.
const PATIENCE_WITH_SSH: Duration = Duration::from_secs(5);
