//! A PostgreSQL of one's own: on a loopback port with TLS, where each client shows a certificate of
//! its own name, and on a private socket for the superuser.

use std::{fs, path::PathBuf, process::Command, time::Duration};

use crate::{
    failure::Failure,
    peers::not_installed,
    ports::on_free_port,
    process::{Daemon, run},
    server_tls::ServerTls,
    unprivileged::Home,
};

/// A running server; it ends when this value is dropped, and its data go.
#[derive(Debug)]
pub struct Postgres {
    daemon: Daemon,
    port: u16,
    home: Home,
}

impl Postgres {
    /// Makes an empty cluster and starts its server. Over TCP, it lets in whom a certificate names
    /// by its common name (`clientcert=verify-full`), and nobody else.
    ///
    /// # Errors
    ///
    /// PostgreSQL is not installed, or refuses its files.
    pub fn start(tls: &ServerTls) -> Result<Self, Failure> {
        let home = Home::new("chancery-postgres-")?;
        tls.install(&home)?;
        home.put("pg_hba.conf", HBA.as_bytes())?;
        let mut init = home.command(&program("initdb")?);
        init.args(["--pgdata", "data", "--username", "postgres", "--auth", "trust"]);
        run(init.args(["--locale", "C", "--encoding", "UTF8", "--no-sync"]))?.success()?;
        let (daemon, port) = on_free_port(|port| listen(&home, port))?;
        Ok(Self { daemon, port, home })
    }

    /// The loopback port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Lets the superuser run a statement, and gives what it prints.
    ///
    /// # Errors
    ///
    /// The server refuses it.
    pub fn administer(&self, statement: &str) -> Result<String, Failure> {
        let mut command = psql()?;
        command.arg("--host").arg(self.home.path("")).args(["--port", &self.port.to_string()]);
        command.args(["--username", "postgres", "--dbname", "postgres", "--command", statement]);
        Ok(run(&mut command)?.success()?.stdout)
    }

    /// What the server has logged.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn log(&self) -> Result<String, Failure> {
        self.daemon.log()
    }
}

/// psql with nothing of the caller's own settings; it prints bare values.
///
/// # Errors
///
/// It is not installed.
pub fn psql() -> Result<Command, Failure> {
    let mut command = Command::new(program("psql")?);
    for variable in ["PGSERVICE", "PGHOST", "PGPORT", "PGUSER", "PGDATABASE", "PGPASSWORD"] {
        command.env_remove(variable);
    }
    command.args(["--no-psqlrc", "--no-password", "--tuples-only", "--no-align"]);
    Ok(command)
}

/// Starts the server; `None` when the port was taken meanwhile.
fn listen(home: &Home, port: u16) -> Result<Option<(Daemon, u16)>, Failure> {
    let mut command = home.command(&program("postgres")?);
    command.args(["-D", "data", "-p", &port.to_string()]).arg("-k").arg(home.path(""));
    for setting in [
        "listen_addresses=127.0.0.1",
        "ssl=on",
        "ssl_cert_file=../server.crt",
        "ssl_key_file=../server.key",
        "ssl_ca_file=../ca.crt",
        "hba_file=pg_hba.conf",
        "fsync=off",
    ] {
        command.args(["-c", setting]);
    }
    let taken = "could not bind IPv4 address";
    let mut daemon = Daemon::start("postgres", &mut command, &home.path("postgres.log"))?;
    daemon.wait_until(Duration::from_secs(30), |log| {
        log.contains("ready to accept connections") || log.contains(taken)
    })?;
    let taken = daemon.log()?.contains(taken);
    Ok((!taken).then_some((daemon, port)))
}

/// Debian has the programs of each major version in a directory of its own, off the usual path.
fn program(name: &str) -> Result<PathBuf, Failure> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<_> = versions
        .map(|version| version.path().join("bin").join(name))
        .filter(|path| path.is_file())
        .collect();
    found.sort();
    found.pop().ok_or_else(|| not_installed(name, "postgresql"))
}

/// `cert` is `clientcert=verify-full` with the common name as user, and nothing else asked for.
const HBA: &str = "local all postgres trust\nhostssl all all 127.0.0.1/32 cert \
                   clientcert=verify-full\n";
