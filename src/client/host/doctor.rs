//! What stands in sshd's configuration against what it must be, for certificates to be all that
//! lets in, and revocations to count.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use serde::Serialize;
use thiserror::Error;

use super::{
    config::Config,
    socket::{Answer, Ask, Status, ask},
};

/// Something to change.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The line of `sshd_config`, the file, or the program that it is about.
    pub about: String,
    /// How it is.
    pub found: String,
    /// How it should be: for `sshd_config`, the line to write.
    pub wanted: String,
    /// Why.
    pub why: &'static str,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Certificates do not work, or revocations do not count.
    Error,
    /// There are other ways in, or traces are missing.
    Warning,
}

/// sshd's configuration in force: keywords in lower case, with all of their values.
#[derive(Clone, Debug, Default)]
pub struct SshdSettings(BTreeMap<String, Vec<String>>);

/// sshd does not tell its configuration.
#[derive(Debug, Error)]
pub enum DoctorError {
    /// It cannot be run.
    #[error("cannot run {}", path.display())]
    Run {
        /// The program.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It refuses its own configuration.
    #[error("{} refuses its configuration: {said}", path.display())]
    Refused {
        /// The program.
        path: PathBuf,
        /// What it said.
        said: String,
    },
}

/// Whose configuration is looked at.
#[derive(Clone, Debug)]
pub struct Patient {
    /// The program.
    pub sshd: PathBuf,
    /// Its configuration.
    pub sshd_config: PathBuf,
    /// An account, for the `Match` blocks that are for it; `None` looks at what is outside of them.
    pub user: Option<String>,
}

impl SshdSettings {
    /// Asks sshd itself (`sshd -T`).
    ///
    /// # Errors
    ///
    /// It cannot be run, or refuses its configuration.
    pub fn ask(patient: &Patient) -> Result<Self, DoctorError> {
        let path = patient.sshd.clone();
        let mut command = Command::new(&path);
        command.arg("-T").arg("-f").arg(&patient.sshd_config);
        if let Some(user) = &patient.user {
            command.arg("-C").arg(format!("user={user},host=localhost,addr=127.0.0.1"));
        }
        let output = match command.output() {
            Ok(output) => output,
            Err(source) => return Err(DoctorError::Run { path, source }),
        };
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).trim_end().to_owned();
            return Err(DoctorError::Refused { path, said });
        }
        Ok(Self::parse(&String::from_utf8_lossy(&output.stdout)))
    }

    /// Reads the lines of `sshd -T`.
    pub fn parse(text: &str) -> Self {
        let mut settings = Self::default();
        for line in text.lines() {
            let (keyword, value) = line.split_once(' ').unwrap_or((line, ""));
            let values = settings.0.entry(keyword.to_ascii_lowercase()).or_default();
            values.push(value.trim().to_owned());
        }
        settings
    }

    fn all(&self, keyword: &str) -> &[String] {
        self.0.get(&keyword.to_ascii_lowercase()).map_or(&[], Vec::as_slice)
    }

    /// The value, or `none`, as sshd itself says of what is not set.
    fn one(&self, keyword: &str) -> &str {
        self.all(keyword).first().map_or("none", String::as_str)
    }
}

/// All findings: in sshd's settings, in files, and of the agent.
pub fn examine(settings: &SshdSettings, config: &Config) -> Vec<Finding> {
    let mut findings = examine_settings(settings, config);
    findings.extend(examine_files(settings, config));
    findings.extend(examine_agent(config));
    findings
}

/// What of sshd's settings is to be changed.
pub fn examine_settings(settings: &SshdSettings, config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    needed(settings, config, &mut findings);
    principals_command(settings, config, &mut findings);
    host_certificates(settings, config, &mut findings);
    other_ways_in(settings, config, &mut findings);
    findings
}

fn needed(settings: &SshdSettings, config: &Config, findings: &mut Vec<Finding>) {
    let user_ca = config.files.user_ca.display().to_string();
    let revoked = config.files.revoked_keys.display().to_string();
    let values = [
        ("PubkeyAuthentication", "yes", "certificates log in by it"),
        ("TrustedUserCAKeys", &user_ca, "whose certificates let in; the agent keeps this file"),
        (
            "RevokedKeys",
            &revoked,
            "what was taken back; without it, a revoked certificate gets in while the agent is down",
        ),
    ];
    for (keyword, wanted, why) in values {
        if settings.one(keyword) != wanted {
            findings.push(line(Severity::Error, settings, keyword, wanted, why));
        }
    }
}

fn principals_command(settings: &SshdSettings, config: &Config, findings: &mut Vec<Finding>) {
    let found = settings.one(COMMAND);
    let words: Vec<_> = found.split_whitespace().collect();
    let asks = words.windows(2).any(|pair| pair == ["host", "principals"]);
    if !asks || !words.contains(&"%u") || !words.contains(&"%k") {
        let mut wanted = "/usr/bin/chancery host principals --user %u --certificate %k".to_owned();
        if config.socket != Path::new(super::config::SOCKET) {
            wanted.push_str(&format!(" --socket {}", config.socket.display()));
        }
        let why = "sshd asks the agent at each login: locks count at once, and connections can be \
                   cut later";
        findings.push(line(Severity::Error, settings, COMMAND, &wanted, why));
    }
    if settings.one(COMMAND_USER) != config.command_user {
        let why = "the agent answers this account alone (command_user of its configuration)";
        let wanted = &config.command_user;
        findings.push(line(Severity::Error, settings, COMMAND_USER, wanted, why));
    }
    if settings.one("AuthorizedPrincipalsFile") != "none" {
        let why = "sshd looks there first, and lets in whom it names without asking the agent";
        let keyword = "AuthorizedPrincipalsFile";
        findings.push(line(Severity::Error, settings, keyword, "none", why));
    }
}

fn host_certificates(settings: &SshdSettings, config: &Config, findings: &mut Vec<Finding>) {
    let keys = config.host_certificate.iter().flat_map(|it| &it.keys);
    for key in keys.map(|key| key.display().to_string()) {
        let certificate = format!("{key}-cert.pub");
        let pairs = [
            ("HostKey", key, "the agent has certificates for this key"),
            ("HostCertificate", certificate, "users know the host by it, without a first question"),
        ];
        for (keyword, wanted, why) in pairs {
            if !settings.all(keyword).contains(&wanted) {
                findings.push(line(Severity::Error, settings, keyword, &wanted, why));
            }
        }
    }
}

fn other_ways_in(settings: &SshdSettings, config: &Config, findings: &mut Vec<Finding>) {
    let ways = [
        ("AuthorizedKeysFile", "keys in it let in without a certificate, for ever"),
        ("AuthorizedKeysCommand", "keys that it names let in without a certificate"),
    ];
    for (keyword, why) in ways {
        if settings.one(keyword) != "none" {
            findings.push(line(Severity::Warning, settings, keyword, "none", why));
        }
    }
    let ways = [
        ("PasswordAuthentication", "a password lets in without a certificate"),
        ("KbdInteractiveAuthentication", "PAM may ask for a password and let in"),
        ("HostbasedAuthentication", "another host's word lets in without a certificate"),
        ("GSSAPIAuthentication", "a Kerberos ticket lets in without a certificate"),
    ];
    for (keyword, why) in ways {
        if settings.one(keyword) == "yes" {
            findings.push(line(Severity::Warning, settings, keyword, "no", why));
        }
    }
    if matches!(settings.one("LogLevel"), "QUIET" | "FATAL" | "ERROR") {
        let why = "sshd logs from INFO on which certificate let in whom";
        findings.push(line(Severity::Warning, settings, "LogLevel", "INFO", why));
    }
    if settings.one("UsePAM") != "yes" {
        findings.extend(locked_accounts(config).map(|account| Finding {
            severity: Severity::Warning,
            about: format!("account {account}"),
            found: "its password field begins with ! (locked)".to_owned(),
            wanted: format!("usermod -p '*' {account}"),
            why: "without UsePAM, sshd refuses a locked account, whatever its certificate",
        }));
    }
}

/// Accounts of the configuration that passwd(1) shows as locked; none where we may not look.
fn locked_accounts(config: &Config) -> impl Iterator<Item = &String> {
    let shadow = fs::read_to_string("/etc/shadow").unwrap_or_default();
    config
        .accounts
        .keys()
        .filter(move |account| shadow.lines().any(|line| line.starts_with(&format!("{account}:!"))))
}

/// What of the files that sshd reads and runs is to be changed.
fn examine_files(settings: &SshdSettings, config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    for path in [&config.files.user_ca, &config.files.revoked_keys] {
        let open = match fs::metadata(path) {
            Ok(it) if it.mode() & 0o022 != 0 => format!("mode {:04o}", it.mode() & 0o7777),
            Ok(_) => continue,
            Err(error) => error.to_string(),
        };
        findings.push(Finding {
            severity: Severity::Error,
            about: path.display().to_string(),
            found: open,
            wanted: "mode 0644, written by the agent".to_owned(),
            why: "who can write it decides who gets in; without it, sshd lets in nobody by a key",
        });
    }
    let command = settings.one(COMMAND).split_whitespace().next().unwrap_or("none");
    if command.starts_with('/') {
        findings.extend(unsafe_part(Path::new(command)));
    }
    findings
}

/// sshd runs a command only if nobody but root can change it, nor any directory on its way.
fn unsafe_part(command: &Path) -> Option<Finding> {
    let found = command.ancestors().find_map(|part| match fs::metadata(part) {
        Ok(it) if it.uid() != 0 => Some(format!("{} belongs to user {}", part.display(), it.uid())),
        Ok(it) if it.mode() & 0o022 != 0 => {
            Some(format!("{} has mode {:04o}", part.display(), it.mode() & 0o7777))
        }
        Ok(_) => None,
        Err(error) => Some(format!("{}: {error}", part.display())),
    })?;
    Some(Finding {
        severity: Severity::Error,
        about: command.display().to_string(),
        found,
        wanted: "owned by root and writable by root alone, with all directories above".to_owned(),
        why: "sshd does not run it otherwise, and lets in nobody by a certificate",
    })
}

fn examine_agent(config: &Config) -> Vec<Finding> {
    match ask(&config.socket, &Ask::Status) {
        Ok(Answer::Status(status)) => examine_status(&status),
        Ok(Answer::Principals(_) | Answer::Refused(_)) => {
            vec![agent("it does not tell its status", "run this as root")]
        }
        Err(error) => vec![agent(&crate::error::chain(&error), "systemctl start chancery-host")],
    }
}

/// What the agent says of itself.
fn examine_status(status: &Status) -> Vec<Finding> {
    let closed = status.closed.as_deref().map(|why| agent(why, "the appliance within reach"));
    let problems = status.problems.iter().map(|it| agent(it, "no such problem"));
    closed.into_iter().chain(problems).collect()
}

fn agent(found: &str, wanted: &str) -> Finding {
    Finding {
        severity: Severity::Error,
        about: "agent".to_owned(),
        found: found.to_owned(),
        wanted: wanted.to_owned(),
        why: "sshd asks it at each login, and nobody else tells the host what was taken back",
    }
}

fn line(
    severity: Severity,
    settings: &SshdSettings,
    keyword: &str,
    wanted: &str,
    why: &'static str,
) -> Finding {
    let found = match settings.all(keyword) {
        [] => "not set".to_owned(),
        values => values.join(", "),
    };
    let (about, wanted) = (keyword.to_owned(), format!("{keyword} {wanted}"));
    Finding { severity, about, found, wanted, why }
}

const COMMAND: &str = "AuthorizedPrincipalsCommand";
const COMMAND_USER: &str = "AuthorizedPrincipalsCommandUser";

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "\
pubkeyauthentication yes
trustedusercakeys /etc/ssh/chancery_user_ca
revokedkeys /etc/ssh/chancery_revoked_keys
authorizedprincipalscommand /usr/bin/chancery host principals --user %u --certificate %k
authorizedprincipalscommanduser nobody
authorizedprincipalsfile none
hostkey /etc/ssh/ssh_host_rsa_key
hostkey /etc/ssh/ssh_host_ed25519_key
hostcertificate /etc/ssh/ssh_host_ed25519_key-cert.pub
authorizedkeysfile none
authorizedkeyscommand none
passwordauthentication no
kbdinteractiveauthentication no
hostbasedauthentication no
gssapiauthentication no
loglevel INFO
usepam yes
";

    fn config() -> Config {
        toml::from_str(
            r#"
            command_user = "nobody"
            client_role = "host-client"
            [files]
            user_ca = "/etc/ssh/chancery_user_ca"
            revoked_keys = "/etc/ssh/chancery_revoked_keys"
            [host_certificate]
            role = "host"
            keys = ["/etc/ssh/ssh_host_ed25519_key"]
            pid_file = "/run/sshd.pid"
            "#,
        )
        .unwrap()
    }

    #[test]
    fn each_wrong_line_is_found_alone_and_told_how_to_be_right() {
        assert_eq!(examine_settings(&SshdSettings::parse(GOOD), &config()), []);
        let cases = [
            ("keyauthentication yes", "keyauthentication no", "PubkeyAuthentication yes"),
            ("keys /etc/ssh/chancery_user_ca", "keys none", "/etc/ssh/chancery_user_ca"),
            ("/etc/ssh/chancery_revoked_keys", "/etc/ssh/old", "/etc/ssh/chancery_revoked_keys"),
            ("host principals", "principals", "host principals --user %u --certificate %k"),
            ("%k", "%i", "host principals --user %u --certificate %k"),
            ("commanduser nobody", "commanduser root", "AuthorizedPrincipalsCommandUser nobody"),
            ("file none", "file /etc/p/%u", "AuthorizedPrincipalsFile none"),
            ("hostkey /etc/ssh/ssh_host_ed", "hostkey /etc/ssh/ssh_ed", "HostKey /etc/ssh/ssh_"),
            ("hostcertificate", "#", "HostCertificate /etc/ssh/ssh_host_ed25519_key-cert.pub"),
            ("keysfile none", "keysfile .ssh/authorized_keys", "AuthorizedKeysFile none"),
            ("keyscommand none", "keyscommand /bin/x", "AuthorizedKeysCommand none"),
            (
                "passwordauthentication no",
                "passwordauthentication yes",
                "PasswordAuthentication no",
            ),
            ("kbdinteractiveauthentication no", "kbdinteractiveauthentication yes", "Kbd"),
            ("hostbasedauthentication no", "hostbasedauthentication yes", "Hostbased"),
            ("gssapiauthentication no", "gssapiauthentication yes", "GSSAPI"),
            ("loglevel INFO", "loglevel QUIET", "LogLevel INFO"),
        ];
        for (from, to, wanted) in cases {
            let settings = SshdSettings::parse(&GOOD.replacen(from, to, 1));
            let findings = examine_settings(&settings, &config());
            assert_eq!(findings.len(), 1, "{to}: {findings:?}");
            assert!(findings[0].wanted.contains(wanted), "{to}: {findings:?}");
        }
    }

    #[test]
    fn a_command_that_others_can_change_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("chancery");
        fs::write(&path, "").unwrap();
        // /tmp is everybody's.
        assert!(unsafe_part(&path).is_some());
        assert_eq!(unsafe_part(Path::new("/usr/bin/env")), None);
    }
}
