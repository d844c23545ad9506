//! Bots' files let psql into a real PostgreSQL, which shows a certificate of the appliance and asks
//! each client for one of its own name; and the client of MariaDB into a real MariaDB.

use std::{fs, process::Command};

use harness::{
    Doing, Failure, Story,
    bot::Bot,
    mariadb::Mariadb,
    office::Office,
    openssl,
    peers::peer,
    postgres::{Postgres, psql},
    process::{Answer, run},
    server_tls::ServerTls,
};

const RULES: &str = r#"
[[role]]
name = "database"
callers = ["spiffe://example.test/bot/*"]
issuer = "services"
max_ttl = "1h"
[role.tls_client]
common_name = "{name}"

[[role]]
name = "database-server"
callers = ["spiffe://example.test/bot/dbms"]
issuer = "services"
max_ttl = "1h"
[role.tls_server]
dns_names = ["localhost"]
"#;

#[test]
fn psql_connects_to_postgresql_with_the_files_of_a_bot() -> Story {
    let office = office()?;
    let postgres = Postgres::start(&ServerTls::of_bot(&office, "dbms", "database-server")?)?;
    postgres.administer("create role orders login")?;
    let orders = client(&office, "orders", "postgresql", postgres.port())?;
    let reports = client(&office, "reports", "postgresql", postgres.port())?;

    // Who it is in the database, who it is in the certificate, and which certificate it is.
    let answer = select(&orders, "service=orders", WHO)?.success()?;
    let serial = serial(&orders, "client.crt")?;
    assert_eq!(answer.stdout, format!("orders|/CN=orders|{serial}\n"));

    // Another bot's certificate is not enough, whatever its service says.
    let answer = select(&reports, "service=reports user=orders", WHO)?;
    answer.refused("certificate authentication failed for user \"orders\"")?;

    // Nor is the right name without a certificate, or without TLS.
    let bare = "service=orders sslcert=/nonexistent";
    select(&orders, bare, WHO)?.refused("connection requires a valid client certificate")?;
    let plain = "service=orders sslmode=disable";
    select(&orders, plain, WHO)?.refused("no encryption")?;

    // The server must be the one that its certificate names.
    select(&orders, "service=orders host=127.0.0.1", WHO)?.refused("does not match host name")?;
    Ok(())
}

#[test]
fn mariadb_takes_its_client_with_the_files_of_a_bot() -> Story {
    let office = office()?;
    let mariadb = Mariadb::start(&ServerTls::of_bot(&office, "dbms", "database-server")?)?;
    mariadb.administer("create user orders@localhost require subject '/CN=orders'")?;
    let orders = client(&office, "orders", "mariadb", mariadb.port())?;
    let reports = client(&office, "reports", "mariadb", mariadb.port())?;

    let answer = mariadb_client(&orders, &[])?.success()?;
    assert_eq!(answer.stdout, "orders@localhost\tinformation_schema\n");
    mariadb_client(&reports, &["--user=orders"])?.refused("Access denied for user 'orders'")?;
    mariadb_client(&orders, &["--host=127.0.0.1"])?.refused("Validation of SSL server")?;
    Ok(())
}

const WHO: &str =
    "select current_user, client_dn, client_serial from pg_stat_ssl where pid = pg_backend_pid()";

fn office() -> Result<Office, Failure> {
    let mut office = Office::prepare()?;
    fs::write(office.path("rules/databases.toml"), RULES).doing("write rules")?;
    office.begin()?;
    Ok(office)
}

/// A bot with files for a server on this port; it has made them.
fn client(office: &Office, name: &str, system: &str, port: u16) -> Result<Bot, Failure> {
    let database = if system == "postgresql" { "postgres" } else { "information_schema" };
    let output = format!(
        "[[output]]\nname = \"database\"\nkind = \"database\"\nrole = \"database\"\n\
         directory = \"{{at}}/database\"\nsystem = \"{system}\"\nhost = \"localhost\"\n\
         port = {port}\nuser = \"{name}\"\ndatabase = \"{database}\"\n"
    );
    let bot = Bot::add(office, name, &["--role", "database"], &output)?;
    bot.run_once()?.success()?;
    Ok(bot)
}

fn select(bot: &Bot, connection: &str, statement: &str) -> Result<Answer, Failure> {
    let mut command = psql()?;
    command.env("PGSERVICEFILE", bot.path("database/current/pg_service.conf"));
    run(command.args(["--dbname", connection, "--command", statement]))
}

fn mariadb_client(bot: &Bot, options: &[&str]) -> Result<Answer, Failure> {
    let defaults = bot.path("database/current/my.cnf");
    let mut command = Command::new(peer("mariadb")?);
    command.arg(format!("--defaults-file={}", defaults.display())).args(options);
    command.args(["--batch", "--skip-column-names"]);
    run(command.args(["--execute", "select current_user(), database()"]))
}

/// As PostgreSQL shows it: decimal.
fn serial(bot: &Bot, file: &str) -> Result<String, Failure> {
    let mut command = openssl::openssl()?;
    command.args(["x509", "-noout", "-serial", "-in"]).arg(bot.path("database/current").join(file));
    let said = run(&mut command)?.success()?.stdout;
    let digits = said.trim().strip_prefix("serial=").unwrap_or_default();
    Ok(u128::from_str_radix(digits, 16).doing("read a serial number")?.to_string())
}
