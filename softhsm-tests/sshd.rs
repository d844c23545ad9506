//! An sshd of one's own: on a loopback port, as whoever runs the story, its log in a file.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use rustix::process::geteuid;

use crate::{
    failure::{Doing, Failure},
    peers::peer,
    ports::on_free_port,
    process::{Daemon, run},
    ssh::generate,
};

/// What an sshd trusts and shows.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The SSH user CA's public key (`TrustedUserCAKeys`).
    pub trusted_user_ca_keys: Option<PathBuf>,
    /// What a user's certificate must name (`AuthorizedPrincipalsFile` of this account).
    pub authorized_principals: Vec<String>,
    /// Whom sshd asks instead (`AuthorizedPrincipalsCommand`), run as whoever runs the story. The
    /// program must be root's, with all directories above it.
    pub principals_command: Option<String>,
    /// A KRL or a list of keys (`RevokedKeys`).
    pub revoked_keys: Option<PathBuf>,
    /// The host's private key; without it, one is made.
    pub host_key: Option<PathBuf>,
    /// The certificate on it (`HostCertificate`).
    pub host_certificate: Option<PathBuf>,
}

/// A running sshd; it ends when this value is dropped.
#[derive(Debug)]
pub struct Sshd {
    daemon: Daemon,
    port: u16,
    user: String,
    host_key: PathBuf,
    configuration: PathBuf,
}

impl Sshd {
    /// Starts an sshd whose files lie below `directory`, and waits until it listens.
    ///
    /// # Errors
    ///
    /// sshd is not installed, or refuses its configuration.
    pub fn start(directory: &Path, settings: &Settings) -> Result<Self, Failure> {
        let user = current_user()?;
        let host_key = match &settings.host_key {
            Some(path) => path.clone(),
            None => make_host_key(directory)?,
        };
        write_principals(directory, &user, &settings.authorized_principals)?;
        provide_privilege_separation_directory()?;
        on_free_port(|port| {
            let text = configuration(directory, settings, &host_key, port)?;
            let started = listen(directory, &text, port)?;
            let (user, host_key) = (user.clone(), host_key.clone());
            let configuration = directory.join("sshd_config");
            Ok(started.map(|daemon| Self { daemon, port, user, host_key, configuration }))
        })
    }

    /// The loopback port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The one account that can log in: that of the story.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The host's public key, as a line of `known_hosts` has it after the name.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn host_public_key(&self) -> Result<String, Failure> {
        let path = self.host_key.with_extension("pub");
        fs::read_to_string(&path).doing(format_args!("read {}", path.display()))
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.daemon.id()
    }

    /// Its configuration.
    pub fn configuration(&self) -> &Path {
        &self.configuration
    }

    /// Waits until the log says something.
    ///
    /// # Errors
    ///
    /// It does not say it within ten seconds.
    pub fn wait_for_log(&mut self, text: &str) -> Result<(), Failure> {
        self.daemon.wait_until(Duration::from_secs(10), |log| log.contains(text))
    }

    /// What sshd has logged.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn log(&self) -> Result<String, Failure> {
        self.daemon.log()
    }
}

/// Starts sshd; `None` when the port was taken meanwhile.
fn listen(directory: &Path, configuration: &str, port: u16) -> Result<Option<Daemon>, Failure> {
    let (file, log) = (directory.join("sshd_config"), directory.join("sshd.log"));
    fs::write(&file, configuration).doing("write sshd_config")?;
    let mut command = Command::new(peer("sshd")?);
    command.args(["-D", "-e", "-f"]).arg(&file);
    let mut daemon = Daemon::start("sshd", &mut command, &log)?;
    let (listening, taken) = (format!("Server listening on 127.0.0.1 port {port}"), in_use(port));
    daemon.wait_until(Duration::from_secs(20), |log| {
        log.contains(&listening) || log.contains(&taken)
    })?;
    let taken = daemon.log()?.contains(&taken);
    Ok((!taken).then_some(daemon))
}

fn in_use(port: u16) -> String {
    format!("Bind to port {port} on 127.0.0.1 failed")
}

fn configuration(
    directory: &Path,
    settings: &Settings,
    host_key: &Path,
    port: u16,
) -> Result<String, Failure> {
    let mut lines = vec![
        format!("Port {port}"),
        "ListenAddress 127.0.0.1".to_owned(),
        format!("HostKey {}", host_key.display()),
        "AuthorizedKeysFile none".to_owned(),
        "AuthenticationMethods publickey".to_owned(),
        "LogLevel VERBOSE".to_owned(),
        "PermitRootLogin prohibit-password".to_owned(),
        "PidFile none".to_owned(),
        // The directory of a story lies below /tmp, which everybody can write.
        "StrictModes no".to_owned(),
        format!("UsePAM {}", if account_is_locked()? { "yes" } else { "no" }),
    ];
    lines.extend(match &settings.principals_command {
        Some(command) => vec![
            format!("AuthorizedPrincipalsCommand {command}"),
            format!("AuthorizedPrincipalsCommandUser {}", current_user()?),
        ],
        None => vec![format!("AuthorizedPrincipalsFile {}/principals-%u", directory.display())],
    });
    let files = [
        ("TrustedUserCAKeys", &settings.trusted_user_ca_keys),
        ("RevokedKeys", &settings.revoked_keys),
        ("HostCertificate", &settings.host_certificate),
    ];
    for (keyword, path) in files {
        lines.extend(path.as_ref().map(|path| format!("{keyword} {}", path.display())));
    }
    Ok(lines.join("\n") + "\n")
}

fn make_host_key(directory: &Path) -> Result<PathBuf, Failure> {
    let path = directory.join("host_key");
    generate("ed25519", &path)?;
    Ok(path)
}

fn write_principals(directory: &Path, user: &str, principals: &[String]) -> Result<(), Failure> {
    let path = directory.join(format!("principals-{user}"));
    let text: String = principals.iter().map(|principal| format!("{principal}\n")).collect();
    fs::write(&path, text).doing(format_args!("write {}", path.display()))
}

/// An sshd of root confines its unprivileged part to /run/sshd, which Debian's service makes when
/// it starts; the service does not run everywhere.
fn provide_privilege_separation_directory() -> Result<(), Failure> {
    if geteuid().is_root() {
        fs::create_dir_all("/run/sshd").doing("create /run/sshd")?;
    }
    Ok(())
}

/// Without PAM, sshd refuses an account whose password field starts with `!`, whatever the
/// certificate. Only root's sshd can see the field.
fn account_is_locked() -> Result<bool, Failure> {
    if !geteuid().is_root() {
        return Ok(false);
    }
    let shadow = fs::read_to_string("/etc/shadow").doing("read /etc/shadow")?;
    Ok(shadow.lines().any(|line| line.starts_with("root:!")))
}

fn current_user() -> Result<String, Failure> {
    Ok(run(Command::new(peer("id")?).arg("-un"))?.success()?.stdout.trim().to_owned())
}
