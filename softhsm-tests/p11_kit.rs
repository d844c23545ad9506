//! A token that is served by p11-kit: a server that loads the module, and a module that asks it.

use std::{
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::{
    failure::{Doing, Failure},
    office::TOKEN,
    peers::{file_of, peer},
    process::Daemon,
    token::Token,
};

/// How long the server may take to start.
const READY: Duration = Duration::from_secs(10);

/// A server that can be killed and started again.
#[derive(Debug)]
pub struct Server {
    socket: PathBuf,
    log: PathBuf,
    /// What it loads.
    token: Token,
    running: Option<Daemon>,
}

impl Server {
    /// Serves a token from a socket in `directory`. Gives the server, and the token as it is
    /// reached through it.
    ///
    /// # Errors
    ///
    /// p11-kit is not installed, or the server does not start.
    pub fn start(directory: &Path, token: Token) -> Result<(Self, Token), Failure> {
        let client = file_of(
            "p11-kit-modules",
            &[
                "/usr/lib/x86_64-linux-gnu/pkcs11/p11-kit-client.so",
                "/usr/lib/aarch64-linux-gnu/pkcs11/p11-kit-client.so",
            ],
        )?;
        let (socket, log) = (directory.join("p11-kit.sock"), directory.join("p11-kit.log"));
        let mut remote = Token {
            sandbox: "unix_sockets = true\n".to_owned(),
            // p11-kit 0.24 hides mechanisms that it does not know.
            without_ed25519: true,
            ..Token::new(&client)
        };
        let address = format!("unix:path={}", socket.display());
        remote.environment.insert("P11_KIT_SERVER_ADDRESS".to_owned(), address);
        let mut server = Self { socket, log, token, running: None };
        server.start_again()?;
        Ok((server, remote))
    }

    /// Starts the server on the same socket.
    ///
    /// # Errors
    ///
    /// It does not start.
    pub fn start_again(&mut self) -> Result<(), Failure> {
        let mut command = Command::new(peer("p11-kit")?);
        command.args(["server", "--foreground", "--sh", "--provider"]).arg(&self.token.module);
        command.arg("--name").arg(&self.socket).arg(format!("pkcs11:token={TOKEN}"));
        // It starts a process for each connection, and they are to die with it.
        self.token.lend(&mut command).process_group(0);
        let mut daemon = Daemon::start("p11-kit server", &mut command, &self.log)?;
        let said = format!("P11_KIT_SERVER_PID={};", daemon.id());
        daemon.wait_until(READY, |log| log.contains(&said))?;
        self.running = Some(daemon);
        Ok(())
    }

    /// Kills the server and all that it started, as if the cable had been pulled.
    ///
    /// # Errors
    ///
    /// It does not run.
    pub fn kill(&mut self) -> Result<(), Failure> {
        let daemon = self.running.take().ok_or_else(|| Failure::new("the server was killed"))?;
        end_group(&daemon)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(daemon) = self.running.take() {
            let _ = end_group(&daemon);
        }
    }
}

fn end_group(daemon: &Daemon) -> Result<(), Failure> {
    let group = i32::try_from(daemon.id()).ok().and_then(Pid::from_raw);
    let group = group.ok_or_else(|| Failure::new("the server has no process id"))?;
    kill_process_group(group, Signal::KILL).doing("kill the server")
}
