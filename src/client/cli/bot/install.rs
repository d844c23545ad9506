//! `chancery bot install`: a systemd unit for the agent, confined to what its configuration needs.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use client::{bot::config::Config, files};
use serde::Serialize;

use crate::cli::{
    arguments::{Global, bot::Install},
    failure::Failure,
    output::Output,
    terminal::tell,
};

pub(super) fn run(global: &Global, it: &Install, output: &mut Output) -> Result<(), Failure> {
    let path = absolute(global.config.as_deref().unwrap_or(Path::new(Config::FILE)))?;
    let config = Config::read(&path)
        .map_err(|error| Failure::Usage { what: described(&error), hint: error.hint() })?;
    let program = std::env::current_exe()
        .map_err(|source| Failure::System { what: "find the own program".to_owned(), source })?;
    let service = Service::of(&config, it)?;
    let text = service.unit(&program, &path)?;
    let file = it.directory.join(format!("{}.service", it.name));
    let outcome = match (standing(&file, &text)?, it.write) {
        (Standing::Same, _) => Outcome::Unchanged,
        (_, false) => Outcome::WouldBeWritten,
        (_, true) => {
            files::write_public(&file, text.as_bytes())?;
            Outcome::Written
        }
    };
    if output.is_json() {
        let file = file.display().to_string();
        output.line(&Installed { file, outcome, unit: &text })?;
    } else if outcome == Outcome::WouldBeWritten {
        output.text(&text)?;
        tell(format!("\nthis would be written to {}: say --write", file.display()));
    } else {
        let words = if outcome == Outcome::Written { "written" } else { "unchanged" };
        output.rows(&[("unit", file.display().to_string()), ("state", words.to_owned())])?;
        tell(format!(
            "\nnext: systemctl daemon-reload && systemctl enable {0} && systemctl restart {0}",
            it.name
        ));
    }
    for directory in service.writable.iter().filter(|it| !it.is_dir()) {
        tell(format!(
            "note: {} is not there, and the service does not start without it",
            directory.display()
        ));
    }
    if config.uses_token() {
        tell(format!(
            "note: what the token's module needs besides (ReadWritePaths=, DeviceAllow=), say with \
             `systemctl edit {}`",
            it.name
        ));
    }
    Ok(())
}

#[derive(Serialize)]
struct Installed<'a> {
    file: String,
    outcome: Outcome,
    unit: &'a str,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    Unchanged,
    WouldBeWritten,
    Written,
}

/// What is where the unit goes.
enum Standing {
    /// Nothing, or a unit that this command wrote earlier.
    Other,
    /// This unit.
    Same,
}

/// A unit that somebody else wrote is not replaced.
fn standing(file: &Path, text: &str) -> Result<Standing, Failure> {
    match fs::read_to_string(file) {
        Ok(there) if there == text => Ok(Standing::Same),
        Ok(there) if there.starts_with(MARK) => Ok(Standing::Other),
        Ok(_) => Err(Failure::Usage {
            what: format!("{} was not written by this command", file.display()),
            hint: Some("move it away, or take another --name".to_owned()),
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Standing::Other),
        Err(source) => Err(Failure::Read { path: file.to_owned(), source }),
    }
}

/// What the agent needs of the system.
struct Service<'a> {
    config: &'a Config,
    user: Option<&'a str>,
    group: Option<&'a str>,
    /// Below `/var/lib`: systemd makes it.
    state: Option<PathBuf>,
    /// Below `/run`: systemd makes them.
    runtime: BTreeSet<PathBuf>,
    /// Must be there.
    writable: BTreeSet<PathBuf>,
}

impl<'a> Service<'a> {
    fn of(config: &'a Config, it: &'a Install) -> Result<Self, Failure> {
        let user = it.user.as_deref().filter(|user| *user != "root");
        if let Some(user) = user
            && let Some(owner) = config.owners().find(|owner| *owner != user)
        {
            return Err(Failure::Usage {
                what: format!("an output is to belong to {owner}: {user} cannot give it away"),
                hint: Some(format!("leave --user away, or let {owner} read it by `readers`")),
            });
        }
        let group = it.group.as_deref();
        let (runtime, writable) = (BTreeSet::new(), BTreeSet::new());
        let mut service = Self { config, user, group, state: None, runtime, writable };
        match config.state_directory().strip_prefix("/var/lib") {
            Ok(below) => service.state = Some(below.to_owned()),
            Err(_) => drop(service.writable.insert(config.state_directory().to_owned())),
        }
        for directory in config.directories().chain(config.sockets().filter_map(Path::parent)) {
            match directory.strip_prefix("/run") {
                Ok(below) if !below.starts_with("user") && below != "" => {
                    service.runtime.insert(below.to_owned());
                }
                _ => drop(service.writable.insert(directory.to_owned())),
            }
        }
        Ok(service)
    }

    fn unit(&self, program: &Path, config: &Path) -> Result<String, Failure> {
        let mut unit = vec![
            MARK.to_owned(),
            format!("#\n#   chancery bot install --config {}", config.display()),
            String::new(),
            "[Unit]".to_owned(),
            format!("Description=Chancery agent of the bot {}", self.config.name()),
            "After=network-online.target\nWants=network-online.target\n".to_owned(),
            "[Service]\nType=notify".to_owned(),
            format!("ExecStart={} bot run --config {}", word(program)?, word(config)?),
            "Restart=always\nRestartSec=5".to_owned(),
        ];
        unit.extend(self.user.map(|user| format!("User={user}")));
        unit.extend(self.group.map(|group| format!("Group={group}")));
        unit.extend(setting("StateDirectory", &self.state)?);
        unit.push("StateDirectoryMode=0700".to_owned());
        unit.extend(setting("RuntimeDirectory", &self.runtime)?);
        if !self.runtime.is_empty() {
            // What is served goes with the service, but not with its restart.
            unit.push("RuntimeDirectoryMode=0755\nRuntimeDirectoryPreserve=restart".to_owned());
        }
        unit.extend(setting("ReadWritePaths", &self.writable)?);
        unit.push(self.capabilities().to_owned());
        unit.push(format!("ProtectHome={}", if self.is_below(HOMES) { "no" } else { "yes" }));
        unit.push(format!("PrivateTmp={}", if self.is_below(&["/tmp"]) { "no" } else { "yes" }));
        // A TPM, a card reader and a token on USB are devices.
        let devices = if self.config.uses_token() { "no" } else { "yes" };
        unit.push(format!("PrivateDevices={devices}"));
        unit.push(CONFINEMENT.to_owned());
        Ok(unit.join("\n"))
    }

    /// As root it may do what writing for others takes, and looking at who asks at its sockets, and
    /// nothing else that root may.
    fn capabilities(&self) -> &'static str {
        match (self.user, self.config.sockets().next()) {
            (Some(_), _) => "CapabilityBoundingSet=",
            (None, None) => "CapabilityBoundingSet=CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_KILL",
            (None, Some(_)) => {
                "CapabilityBoundingSet=CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_KILL CAP_SYS_PTRACE"
            }
        }
    }

    fn is_below(&self, roots: &[&str]) -> bool {
        self.writable.iter().any(|path| roots.iter().any(|root| path.starts_with(root)))
    }
}

/// `NAME=PATH PATH…`; nothing without a path.
fn setting<'a>(
    name: &str,
    paths: impl IntoIterator<Item = &'a PathBuf>,
) -> Result<Option<String>, Failure> {
    let words: Vec<_> = paths.into_iter().map(|path| word(path)).collect::<Result<_, _>>()?;
    Ok((!words.is_empty()).then(|| format!("{name}={}", words.join(" "))))
}

/// A path as one word of a unit (systemd.syntax(7), "Quoting"; specifiers begin with `%`).
fn word(path: &Path) -> Result<String, Failure> {
    let bad = |c: char| c.is_control() || c == '$';
    let text = path.to_str().filter(|text| !text.chars().any(bad));
    let text = text.ok_or_else(|| Failure::Usage {
        what: format!("{path:?} cannot stand in a unit of systemd"),
        hint: None,
    })?;
    let text = text.replace('%', "%%");
    let plain = |c: char| c.is_ascii_alphanumeric() || "/-_.:@%+,=".contains(c);
    if text.chars().all(plain) {
        return Ok(text);
    }
    Ok(format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")))
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|source| Failure::Read { path: path.to_owned(), source })
}

fn described(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// The first line of what this command writes.
const MARK: &str = "# systemd unit of a bot's agent, written by `chancery bot install`.";

/// Where people's own files are.
const HOMES: &[&str] = &["/home", "/root", "/run/user"];

const CONFINEMENT: &str = "\
LimitCORE=0
LockPersonality=yes
NoNewPrivileges=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectSystem=strict
RemoveIPC=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallErrorNumber=EPERM
SystemCallFilter=@system-service
UMask=0077

[Install]
WantedBy=multi-user.target
";
