//! `chanceryd`: the signing appliance.

use std::{
    fmt::Display,
    fs,
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use appliance::{
    check::check,
    config::{Config, ConfigError, Overrides},
    describe,
    front::{self, FrontError},
    launcher::{self, Launcher},
    operator,
    operator::OperatorError,
    probe::{Login, ProbeError, probe},
    service::{ServeError, Signal, TlsError, serve},
    signing::SigningError,
    start::StartError,
    worker::{self, login::LoginFile},
};
use clap::{Parser, Subcommand, ValueEnum, value_parser};
use pki::{
    clock::{Clock, SystemClock},
    token::TokenError,
};
use tokio::{
    runtime::Runtime,
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};
use tracing_subscriber::{EnvFilter, fmt, prelude::*};

/// Signs certificates with keys that stay in a PKCS#11 token.
#[derive(Debug, Parser)]
#[command(name = "chanceryd", version, max_term_width = 100)]
struct Arguments {
    /// How to write the log, which goes to standard error.
    #[arg(long, value_enum, global = true, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
    /// What to log: error, warn, info, debug, or a filter such as appliance=debug.
    #[arg(long, global = true, default_value = "info", value_name = "FILTER")]
    log: EnvFilter,
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    Json,
    Text,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Reads a configuration with all that it names, and says everything that is wrong.
    Check {
        /// The configuration file.
        file: PathBuf,
        #[command(flatten)]
        overrides: Overrides,
    },
    /// Gives operators their certificates, on this machine.
    #[command(subcommand)]
    Operator(OperatorCommand),
    /// Serves. SIGHUP reads the rules and the lists of offline CAs anew, SIGTERM ends it in order.
    Serve {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        #[command(flatten)]
        overrides: Overrides,
    },
    /// Helps with the token.
    #[command(subcommand)]
    Token(TokenCommand),
    /// The process that starts token workers; started by the others.
    #[command(hide = true)]
    TokenLauncher,
    /// The process that loads the PKCS#11 module; started by the one above.
    #[command(hide = true)]
    TokenWorker,
}

#[derive(Debug, Subcommand)]
enum OperatorCommand {
    /// Issues a client certificate for spiffe://TRUST-DOMAIN/operator/NAME, valid for 7 days.
    Add {
        /// The operator's name.
        name: String,
        /// PEM certificate signing request; it gives the key and nothing else.
        #[arg(long, value_name = "FILE")]
        csr: PathBuf,
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Where to write the certificate with its chain, as PEM; standard output unless given.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        #[command(flatten)]
        overrides: Overrides,
    },
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// Tells what the token is, has and signs in a second, and which settings suit it. Logs in
    /// once. Ends with status 1 if something must be mended, 78 if the PIN was refused.
    Probe {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// The replica with this serial number, instead of the ceremony's token.
        #[arg(long, value_name = "SERIAL")]
        replica: Option<String>,
        /// Writes JSON (chancery-token-probe/1) instead of text.
        #[arg(long)]
        json: bool,
        /// How long to sign with each number of sessions; 0 measures nothing.
        #[arg(long, value_name = "N", default_value_t = 2, value_parser = value_parser!(u8).range(..=60))]
        seconds: u8,
        #[command(flatten)]
        overrides: Overrides,
    },
    /// Allows another login after the token has refused the PIN. Mend the PIN file before: tokens
    /// lock after a few wrong tries.
    Unblock {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        #[command(flatten)]
        overrides: Overrides,
    },
}

/// Exit status for what a person has to mend before another start can help (EX_CONFIG of
/// sysexits.h): systemd must not start again on it, above all after a refused PIN.
const EX_CONFIG: u8 = 78;

fn main() -> ExitCode {
    let Arguments { log_format, log, command } = Arguments::parse();
    match command {
        Command::TokenLauncher => return launcher::main(),
        Command::TokenWorker => return worker::main(),
        _ => {}
    }
    start_log(log_format, log);
    let done = match command {
        Command::Check { file, overrides } => run_check(&file, overrides),
        Command::Operator(OperatorCommand::Add { name, csr, config, out, overrides }) => {
            add_operator(&name, &csr, &config, out.as_deref(), overrides)
        }
        Command::Serve { config, overrides } => run_server(&config, overrides),
        Command::Token(TokenCommand::Probe { config, replica, json, seconds, overrides }) => {
            probe_token(&config, overrides, replica.as_deref(), json, seconds)
        }
        Command::Token(TokenCommand::Unblock { config, overrides }) => {
            unblock_token(&config, overrides)
        }
        Command::TokenLauncher | Command::TokenWorker => Ok(()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// What went wrong, what to do about it, and the exit status.
#[derive(Debug)]
struct Failure {
    errors: Vec<(String, Option<String>)>,
    status: u8,
}

impl Failure {
    fn new(status: u8, what: impl Display, hint: Option<&str>) -> Self {
        Self { errors: vec![(what.to_string(), hint.map(str::to_owned))], status }
    }

    fn report(self) -> ExitCode {
        let mut terminal = io::stderr().lock();
        for (index, (what, hint)) in self.errors.into_iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            // Nobody is left to be told that this cannot be written.
            let _ = writeln!(terminal, "{separator}error: {what}");
            if let Some(hint) = hint {
                let _ = writeln!(terminal, "\nhint: {hint}");
            }
        }
        ExitCode::from(self.status)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::new(EX_CONFIG, &error, error.hint.as_deref())
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        let (status, hint) = match &error {
            StartError::Signing(SigningError::Token(TokenError::Pin { .. })) => (
                EX_CONFIG,
                Some(
                    "no login is tried until you put the right PIN into token.pin_file (or have \
                     the token's PIN unlocked) and run chanceryd token unblock --config FILE",
                ),
            ),
            StartError::Signing(SigningError::Token(_)) => (
                EX_CONFIG,
                Some("check token.module, token.label, token.pin_file and the ceremony's hand-off"),
            ),
            StartError::Signing(_) => {
                (1, Some("see whether the token is plugged in and reachable"))
            }
            StartError::Ledger(_) => (1, Some("see to the state and audit directories")),
            StartError::OfflineCrl(error) => (EX_CONFIG, Some(error.hint())),
            StartError::Authority(_)
            | StartError::Handoff(_)
            | StartError::Makers(_)
            | StartError::Rules(_)
            | StartError::TokenLabel { .. } => {
                (EX_CONFIG, Some("run chanceryd check FILE, which lists all that is wrong"))
            }
        };
        Self::new(status, describe(&error), hint)
    }
}

impl From<ProbeError> for Failure {
    fn from(error: ProbeError) -> Self {
        let (status, hint) = match &error {
            ProbeError::NoReplica { .. } => {
                (EX_CONFIG, "name the serial number of a [[replica]] in the configuration")
            }
            ProbeError::Handoff(_) | ProbeError::TokenLabel { .. } => {
                (EX_CONFIG, "run chanceryd check FILE, which lists all that is wrong")
            }
            ProbeError::Token(TokenError::NoSession { .. }) => {
                (1, "other programs have the sessions: stop them, or probe when they are idle")
            }
            ProbeError::Token(_) => {
                (1, "check token.module, token.label, token.pin_file, and whether it is plugged in")
            }
            ProbeError::Worker { .. } => {
                (1, "the module crashed or hung; see what its vendor says of it")
            }
        };
        Self::new(status, describe(&error), Some(hint))
    }
}

impl From<FrontError> for Failure {
    fn from(error: FrontError) -> Self {
        let (status, hint) = match &error {
            FrontError::Directory { .. } => (1, "see to the state and audit directories"),
            FrontError::Open(_) | FrontError::Sandbox(_) => (
                EX_CONFIG,
                "run it on Linux 5.13 or later with Landlock and seccomp, and keep module and PIN \
                 file out of its other directories; token.sandbox.enforcement = \"best-effort\" \
                 would serve all the same",
            ),
        };
        Self::new(status, describe(&error), Some(hint))
    }
}

impl From<ServeError> for Failure {
    fn from(error: ServeError) -> Self {
        match error {
            ServeError::Start(error) => error.into(),
            ServeError::Listen { .. } => Self::new(
                1,
                describe(&error),
                Some("choose another address in [listen], or port 0 for a free one"),
            ),
            ServeError::Tls(TlsError::ClientAuthority { .. }) => Self::new(
                EX_CONFIG,
                describe(&error),
                Some("name X.509 authorities of the hand-off that are online"),
            ),
            ServeError::OfflineCrl(error) => Self::new(1, describe(&error), Some(error.hint())),
            error => Self::new(1, describe(&error), None),
        }
    }
}

fn run_check(file: &Path, overrides: Overrides) -> Result<(), Failure> {
    let found = check(file, overrides, credentials().as_deref(), SystemClock.now());
    for warning in found.warnings {
        // What it warns of does not keep the appliance from starting.
        let _ = writeln!(io::stderr(), "warning: {warning}");
    }
    let errors = found.errors;
    if errors.is_empty() {
        return write_out(&format!("{} is valid\n", file.display()));
    }
    let errors = errors.into_iter().map(|error| (error.to_string(), error.hint)).collect();
    Err(Failure { errors, status: EX_CONFIG })
}

fn run_server(file: &Path, overrides: Overrides) -> Result<(), Failure> {
    let config = Config::read(file, overrides, credentials().as_deref())?;
    warn_of_root();
    // The TLS key of the appliance is in its memory only.
    worker::leave_no_dumps()
        .map_err(|error| Failure::new(1, format!("cannot forbid core dumps: {error}"), None))?;
    // Threads inherit the sandbox, so that it comes before the runtime's; token workers must not,
    // so that their launcher comes before it.
    let launchers = launchers(&config)?;
    front::enter(&config)?;
    let runtime = runtime()?;
    let served = runtime.block_on(async {
        let signals = signals().map_err(|error| Failure::new(1, error, None))?;
        Ok(serve(config, launchers, Arc::new(SystemClock), signals).await?)
    });
    // A blocking task that hangs must not hold up the end.
    runtime.shutdown_background();
    served
}

fn add_operator(
    name: &str,
    csr: &Path,
    file: &Path,
    out: Option<&Path>,
    overrides: Overrides,
) -> Result<(), Failure> {
    let config = Config::read(file, overrides, credentials().as_deref())?;
    let csr_pem = fs::read_to_string(csr).map_err(|error| {
        Failure::new(1, format!("cannot read {}: {error}", csr.display()), None)
    })?;
    let adding = operator::add(&config, launchers(&config)?, Arc::new(SystemClock), name, &csr_pem);
    let pem = runtime()?.block_on(adding).map_err(|error| match error {
        OperatorError::Start(error) => error.into(),
        error => Failure::new(1, describe(&error), None),
    })?;
    match out {
        None => write_out(&pem),
        Some(path) => fs::write(path, pem).map_err(|error| {
            Failure::new(
                1,
                format!(
                    "the certificate was issued, but cannot be written to {}: {error}",
                    path.display()
                ),
                Some("issue another one; operators see this one with chancery list"),
            )
        }),
    }
}

fn probe_token(
    file: &Path,
    overrides: Overrides,
    replica: Option<&str>,
    json: bool,
    seconds: u8,
) -> Result<(), Failure> {
    let config = Config::read(file, overrides, credentials().as_deref())?;
    let terminal = io::stderr().is_terminal();
    let mut progress = |step: &str| {
        if terminal {
            // Who cannot be told of progress is told of the end.
            let _ = writeln!(io::stderr(), "probe: {step}");
        }
    };
    let report =
        runtime()?.block_on(probe(&config, replica, launcher()?, seconds, &mut progress))?;
    if json {
        let text = serde_json::to_string_pretty(&report)
            .map_err(|error| Failure::new(1, format!("cannot write JSON: {error}"), None))?;
        write_out(&format!("{text}\n"))?;
    } else {
        write_out(&report.to_string())?;
    }
    let status = if matches!(report.login, Login::Refused { .. }) { EX_CONFIG } else { 1 };
    match report.errors() {
        0 => Ok(()),
        1 => Err(Failure::new(status, "the probe found an error", None)),
        count => Err(Failure::new(status, format!("the probe found {count} errors"), None)),
    }
}

fn unblock_token(file: &Path, overrides: Overrides) -> Result<(), Failure> {
    let config = Config::read(file, overrides, credentials().as_deref())?;
    for token in config.tokens() {
        let logins = LoginFile::of(&config.state_directory, token.serial.as_deref());
        let path = logins.path();
        let forgotten = logins.forget().map_err(|error| {
            Failure::new(1, format!("cannot remove {}: {error}", path.display()), None)
        })?;
        write_out(&match forgotten {
            None => format!("nothing keeps the PIN of token {:?} from being tried\n", token.label),
            Some(what) => format!(
                "removed {} ({what}); the next start of chanceryd tries the PIN once\n",
                path.display()
            ),
        })?;
    }
    Ok(())
}

/// SIGHUP and SIGTERM (or Ctrl-C), as the service takes them.
fn signals() -> io::Result<mpsc::Receiver<Signal>> {
    let mut hangup = signal(SignalKind::hangup())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let (sender, receiver) = mpsc::channel(4);
    tokio::spawn(async move {
        loop {
            let signal = tokio::select! {
                _ = hangup.recv() => Signal::Reload,
                _ = interrupt.recv() => Signal::Stop,
                _ = terminate.recv() => Signal::Stop,
            };
            if sender.send(signal).await.is_err() {
                return;
            }
        }
    });
    Ok(receiver)
}

/// One for each token.
fn launchers(config: &Config) -> Result<Vec<Launcher>, Failure> {
    config.tokens().map(|_| launcher()).collect()
}

fn launcher() -> Result<Launcher, Failure> {
    Launcher::this_program().map_err(|error| {
        Failure::new(1, format!("cannot start the launcher of token workers: {error}"), None)
    })
}

fn runtime() -> Result<Runtime, Failure> {
    Runtime::new().map_err(|error| Failure::new(1, format!("cannot start: {error}"), None))
}

fn start_log(format: LogFormat, filter: EnvFilter) {
    let registry = tracing_subscriber::registry().with(filter);
    match format {
        LogFormat::Json => registry.with(fmt::layer().json().with_writer(io::stderr)).init(),
        LogFormat::Text => registry
            .with(fmt::layer().with_writer(io::stderr).with_ansi(io::stderr().is_terminal()))
            .init(),
    }
}

/// Where systemd gives credentials (systemd.exec(5), LoadCredential=).
fn credentials() -> Option<PathBuf> {
    std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from)
}

fn warn_of_root() {
    if rustix::process::geteuid().is_root() {
        tracing::warn!("running as root; run chanceryd as a user of its own");
    }
}

fn write_out(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| Failure::new(1, format!("cannot write to standard output: {error}"), None))
}
