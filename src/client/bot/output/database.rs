//! Files for clients of PostgreSQL, MySQL and MariaDB.
//!
//! These servers know a client by the subject of its certificate: the role says it, as
//! `common_name`.

use std::{collections::BTreeSet, fmt::Write as _};

use serde::Deserialize;

use super::{
    MakeError, Making,
    material::{Certified, Names, Plain, path_of, public},
};
use crate::bot::bundle::{Bundle, BundleFile};

/// `kind = "database"`.
///
/// ```toml
/// system = "postgresql"               # or "mysql", or "mariadb"
/// host = "db.example"                 # as its certificate names it
/// port = 5432                         # absent: the system's usual one
/// user = "orders"
/// database = "orders"                 # absent: as the client is told
/// service = "orders"                  # PostgreSQL: of pg_service.conf; absent: the bot's name
/// authorities = ["services"]          # whose roots the server's certificate leads to; absent: the issuer's
/// ```
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "Connection")]
pub(in crate::bot) struct Settings(Connection);

/// As the file has it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
struct Connection {
    /// Whose layout.
    system: System,
    /// The server, as its certificate names it.
    host: Plain,
    /// Where it listens.
    #[serde(default)]
    port: Option<u16>,
    /// Who logs in.
    user: Plain,
    /// Where to.
    #[serde(default)]
    database: Option<Plain>,
    /// What the connection is called in `pg_service.conf`.
    #[serde(default)]
    service: Option<Service>,
    /// The X.509 authorities of the server; empty for the certificate's own.
    #[serde(default)]
    authorities: BTreeSet<String>,
}

/// A database system.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
enum System {
    Mariadb,
    Mysql,
    Postgresql,
}

/// The name of a section of `pg_service.conf`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "Plain")]
struct Service(Plain);

impl TryFrom<Plain> for Service {
    type Error = String;

    fn try_from(name: Plain) -> Result<Self, String> {
        match name.as_str().contains(']') {
            true => Err(format!("service: {name:?} has a bracket")),
            false => Ok(Self(name)),
        }
    }
}

impl TryFrom<Connection> for Settings {
    type Error = &'static str;

    fn try_from(it: Connection) -> Result<Self, &'static str> {
        match it {
            Connection { system: System::Mariadb | System::Mysql, service: Some(_), .. } => {
                Err("service is a setting of PostgreSQL alone")
            }
            other => Ok(Self(other)),
        }
    }
}

/// A new key, its certificate with its chain, the server's roots, and how to connect.
pub(in crate::bot) async fn make(
    Settings(settings): &Settings,
    making: &Making<'_>,
) -> Result<Bundle, MakeError> {
    let names = settings.system.names();
    let connection = settings.file(making, &names)?;
    let it = Certified::new(making, Names::default()).await?;
    let files = vec![
        it.key_file(names.key)?,
        it.chain_file(names.certificate),
        it.roots_file(names.roots, making, &settings.authorities)?,
        connection,
    ];
    Ok(Bundle { files, life: it.life() })
}

/// What the files are called where their readers look for them.
struct FileNames {
    key: &'static str,
    certificate: &'static str,
    roots: &'static str,
}

impl System {
    fn names(self) -> FileNames {
        match self {
            Self::Mariadb | Self::Mysql => {
                FileNames { key: "client-key.pem", certificate: "client-cert.pem", roots: "ca.pem" }
            }
            Self::Postgresql => {
                FileNames { key: "client.key", certificate: "client.crt", roots: "root.crt" }
            }
        }
    }
}

impl Connection {
    fn file(&self, making: &Making<'_>, names: &FileNames) -> Result<BundleFile, MakeError> {
        let key = path_of(making, names.key)?;
        let certificate = path_of(making, names.certificate)?;
        let roots = path_of(making, names.roots)?;
        Ok(match self.system {
            System::Postgresql => {
                let service = self.service.as_ref().map(|service| service.0.as_str());
                let service = service.unwrap_or(making.bot.as_str());
                public("pg_service.conf", self.pg_service(service, &key, &certificate, &roots))
            }
            System::Mariadb => {
                public("my.cnf", self.my_cnf("ssl-verify-server-cert", &key, &certificate, &roots))
            }
            System::Mysql => public(
                "my.cnf",
                self.my_cnf("ssl-mode=VERIFY_IDENTITY", &key, &certificate, &roots),
            ),
        })
    }

    /// PostgreSQL 15, section 34.17: values go to the end of the line as they are.
    fn pg_service(&self, service: &str, key: &Plain, certificate: &Plain, roots: &Plain) -> String {
        let mut text = format!("[{service}]\nhost={}\n", self.host);
        if let Some(port) = self.port {
            let _ = writeln!(text, "port={port}");
        }
        if let Some(database) = &self.database {
            let _ = writeln!(text, "dbname={database}");
        }
        let user = &self.user;
        text + &format!(
            "user={user}\nsslmode=verify-full\nsslkey={key}\nsslcert={certificate}\n\
             sslrootcert={roots}\n"
        )
    }

    /// MySQL 8.0, section 4.2.2.2: between quotation marks, only a backslash is special.
    fn my_cnf(&self, verify: &str, key: &Plain, certificate: &Plain, roots: &Plain) -> String {
        let mut text = format!("[client]\nhost=\"{}\"\n", self.host);
        if let Some(port) = self.port {
            // A port means TCP, even on this machine.
            let _ = writeln!(text, "port={port}\nprotocol=TCP");
        }
        let user = &self.user;
        text += &format!(
            "user=\"{user}\"\nssl-key=\"{key}\"\nssl-cert=\"{certificate}\"\nssl-ca=\"{roots}\"\n\
             {verify}\n"
        );
        if let Some(database) = &self.database {
            // Not every program that reads [client] knows it.
            let _ = write!(text, "\n[mysql]\ndatabase=\"{database}\"\n");
        }
        text
    }
}
