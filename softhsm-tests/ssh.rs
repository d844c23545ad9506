//! The SSH client and ssh-keygen.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    failure::Failure,
    peers::peer,
    process::{Answer, run},
};

/// One way to log in: nothing of the caller's own SSH configuration, agent or keys is used.
#[derive(Clone, Debug)]
pub struct Login {
    /// The private key.
    pub key: PathBuf,
    /// The certificate on it.
    pub certificate: PathBuf,
    /// The `known_hosts` file; the host's key must be known by it.
    pub known_hosts: PathBuf,
    /// The account.
    pub user: String,
    /// By what name the host is looked up in `known_hosts` and in its certificate.
    pub host: String,
    /// The loopback port.
    pub port: u16,
}

impl Login {
    /// Runs a command on the host, never asking anything.
    ///
    /// # Errors
    ///
    /// ssh is not installed or hangs. That the host refuses is an answer.
    pub fn run(&self, remote_command: &str) -> Result<Answer, Failure> {
        run(&mut self.command(&[], remote_command)?)
    }

    /// The ssh that runs a command on the host, with more options (`-o`) of its own.
    ///
    /// # Errors
    ///
    /// ssh is not installed.
    pub fn command(&self, options: &[String], remote_command: &str) -> Result<Command, Failure> {
        let mut command = Command::new(peer("ssh")?);
        command.args(["-F", "none", "-p", &self.port.to_string()]).arg("-i").arg(&self.key);
        for option in [
            format!("CertificateFile={}", self.certificate.display()),
            format!("UserKnownHostsFile={}", self.known_hosts.display()),
            format!("HostKeyAlias={}", self.host),
            "BatchMode=yes".to_owned(),
            "ConnectTimeout=20".to_owned(),
            "GlobalKnownHostsFile=/dev/null".to_owned(),
            "IdentitiesOnly=yes".to_owned(),
            "IdentityAgent=none".to_owned(),
            "StrictHostKeyChecking=yes".to_owned(),
            "UpdateHostKeys=no".to_owned(),
        ] {
            command.arg("-o").arg(option);
        }
        for option in options {
            command.arg("-o").arg(option);
        }
        command.arg(format!("{}@127.0.0.1", self.user)).arg(remote_command);
        Ok(command)
    }
}

/// Generates a key pair without a passphrase at `path` and `path.pub`; `kind` as `ssh-keygen -t`
/// names it.
///
/// # Errors
///
/// ssh-keygen refuses.
pub fn generate(kind: &str, path: &Path) -> Result<(), Failure> {
    let mut command = Command::new(peer("ssh-keygen")?);
    command.args(["-q", "-t", kind, "-N", "", "-C", "", "-f"]).arg(path);
    run(&mut command)?.success().map(drop)
}

/// What ssh-keygen reads in a certificate (`ssh-keygen -L`).
///
/// # Errors
///
/// It is none.
pub fn describe(certificate: &Path) -> Result<String, Failure> {
    let mut command = Command::new(peer("ssh-keygen")?);
    command.arg("-L").arg("-f").arg(certificate);
    Ok(run(&mut command)?.success()?.stdout)
}

/// The fingerprint of a public key, as ssh-keygen gives it: `SHA256:…`.
///
/// # Errors
///
/// It is none.
pub fn fingerprint(key: &Path) -> Result<String, Failure> {
    let mut command = Command::new(peer("ssh-keygen")?);
    let said = run(command.arg("-lf").arg(key))?.success()?.stdout;
    // The length, the fingerprint, a comment, the type.
    Ok(said.split(' ').nth(1).unwrap_or_default().to_owned())
}
