//! A MariaDB of one's own: on a loopback port with TLS, and on a private socket for its root.

use std::{path::Path, process::Command, time::Duration};

use crate::{
    failure::Failure,
    peers::peer,
    ports::on_free_port,
    process::{Daemon, run},
    server_tls::ServerTls,
    unprivileged::Home,
};

/// A running server; it ends when this value is dropped, and its data go.
#[derive(Debug)]
pub struct Mariadb {
    _daemon: Daemon,
    port: u16,
    home: Home,
}

impl Mariadb {
    /// Makes an empty data directory and starts its server.
    ///
    /// # Errors
    ///
    /// MariaDB is not installed, or refuses its files.
    pub fn start(tls: &ServerTls) -> Result<Self, Failure> {
        let home = Home::new("chancery-mariadb-")?;
        tls.install(&home)?;
        let mut init = home.command(&peer("mariadb-install-db")?);
        init.arg("--no-defaults").arg(option("datadir", &home.path("data")));
        init.args(["--auth-root-authentication-method=normal", "--skip-test-db"]);
        run(&mut init)?.success()?;
        let (daemon, port) = on_free_port(|port| listen(&home, port))?;
        Ok(Self { _daemon: daemon, port, home })
    }

    /// The loopback port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Lets the server's root run a statement, and gives what it prints.
    ///
    /// # Errors
    ///
    /// The server refuses it.
    pub fn administer(&self, statement: &str) -> Result<String, Failure> {
        let mut command = Command::new(peer("mariadb")?);
        command.arg("--no-defaults").arg(option("socket", &self.home.path("socket")));
        command.args(["--user=root", "--skip-column-names", "--batch", "--execute", statement]);
        Ok(run(&mut command)?.success()?.stdout)
    }
}

/// Starts the server; `None` when the port was taken meanwhile.
fn listen(home: &Home, port: u16) -> Result<Option<(Daemon, u16)>, Failure> {
    let mut command = home.command(&peer("mariadbd")?);
    command.args(["--no-defaults", "--bind-address=127.0.0.1", &format!("--port={port}")]);
    for (name, file) in [
        ("datadir", "data"),
        ("socket", "socket"),
        ("pid-file", "pid"),
        ("ssl-cert", "server.crt"),
        ("ssl-key", "server.key"),
        ("ssl-ca", "ca.crt"),
    ] {
        command.arg(option(name, &home.path(file)));
    }
    let taken = "Address already in use";
    let mut daemon = Daemon::start("mariadbd", &mut command, &home.path("mariadbd.log"))?;
    daemon.wait_until(Duration::from_secs(60), |log| {
        log.contains("ready for connections") || log.contains(taken)
    })?;
    let taken = daemon.log()?.contains(taken);
    Ok((!taken).then_some((daemon, port)))
}

fn option(name: &str, path: &Path) -> String {
    format!("--{name}={}", path.display())
}
