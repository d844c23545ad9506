//! A slapd of one's own: an LDAP directory on a loopback port, as whoever runs the story, with
//! accounts as a Windows domain has them.

use std::{
    fs,
    net::TcpStream,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};

use crate::{
    failure::{Doing, Failure},
    openssl::Ca,
    peers::peer,
    ports::on_free_port,
    process::{Daemon, run, wait_until},
};

/// Below which entry everything is.
pub const BASE_DN: &str = "dc=corp,dc=example,dc=test";

/// Who may change accounts and groups.
pub const BIND_DN: &str = "cn=chancery,dc=corp,dc=example,dc=test";

/// Its password.
pub const PASSWORD: &str = "a password of the directory";

/// The group that sessions fill. It has one other member, since none may be empty.
pub const GROUP: &str = "cn=Server Admins,dc=corp,dc=example,dc=test";

/// How clients come to TLS.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Scheme {
    /// LDAP, which may go on with StartTLS.
    Ldap,
    /// LDAP over TLS.
    Ldaps,
}

/// A directory with the accounts `alice@` and `bob@corp.example.test`; it ends when this value is
/// dropped.
#[derive(Debug)]
pub struct Slapd {
    daemon: Option<Daemon>,
    directory: PathBuf,
    port: u16,
    scheme: Scheme,
}

impl Slapd {
    /// Makes a directory below `directory` and starts its server.
    ///
    /// # Errors
    ///
    /// slapd is not installed, or refuses its configuration.
    pub fn start(directory: &Path, scheme: Scheme) -> Result<Self, Failure> {
        fs::create_dir_all(directory.join("database")).doing("make a directory")?;
        let ca = Ca::new(directory.join("ca"), "directory CA")?;
        ca.certify("directory", "subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n", None)?;
        write(&directory.join("slapd.conf"), &configuration(directory))?;
        write(&directory.join("entries.ldif"), &entries())?;
        write(&directory.join("password"), PASSWORD)?;
        let mode = fs::Permissions::from_mode(0o600);
        fs::set_permissions(directory.join("password"), mode).doing("protect the password")?;
        load(directory)?;
        on_free_port(|port| {
            let started = listen(directory, scheme, port)?;
            let directory = directory.to_owned();
            Ok(started.map(|daemon| Self { daemon: Some(daemon), directory, port, scheme }))
        })
    }

    /// Ends the server; what it holds stays.
    pub fn stop(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            daemon.stop();
        }
    }

    /// Starts the server again on the same port.
    ///
    /// # Errors
    ///
    /// It does not come up, or somebody else has taken the port.
    pub fn start_again(&mut self) -> Result<(), Failure> {
        let started = listen(&self.directory, self.scheme, self.port)?;
        let taken = || Failure::new(format!("somebody else has port {}", self.port));
        self.daemon = Some(started.ok_or_else(taken)?);
        Ok(())
    }

    /// Where it is.
    pub fn url(&self) -> String {
        url(self.scheme, self.port)
    }

    /// The loopback port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The CA certificate of its TLS certificate.
    pub fn ca_file(&self) -> PathBuf {
        self.directory.join("ca/ca.pem")
    }

    /// `[directory]` of `chanceryd.toml`, without TLS, and with these further lines.
    pub fn table(&self, more: &str) -> String {
        format!(
            "\n[directory]\nurl = {:?}\nbind_dn = {BIND_DN:?}\npassword_file = {:?}\n\
             base_dn = {BASE_DN:?}\n{more}",
            self.url(),
            self.password_file(),
        )
    }

    /// The lines of [`table`](Self::table) for TLS: of a directory that has it from its beginning,
    /// or after StartTLS.
    pub fn tls(&self) -> String {
        let start = if self.scheme == Scheme::Ldap { "start_tls = true\n" } else { "" };
        format!("ca_file = {:?}\n{start}", self.ca_file())
    }

    /// A file with the password.
    pub fn password_file(&self) -> PathBuf {
        self.directory.join("password")
    }

    /// The values of an attribute, as ldapsearch reads them.
    ///
    /// # Errors
    ///
    /// ldapsearch is not installed, or finds no such entry.
    pub fn values(&self, dn: &str, attribute: &str) -> Result<Vec<String>, Failure> {
        let mut command = self.tool("ldapsearch")?;
        command.args(["-LLL", "-o", "ldif-wrap=no", "-b", dn, "-s", "base"]);
        command.args(["(objectClass=*)", attribute]);
        let found = run(&mut command)?.success()?.stdout;
        let prefix = format!("{attribute}: ");
        Ok(found.lines().filter_map(|line| line.strip_prefix(&prefix)).map(str::to_owned).collect())
    }

    /// Changes entries as LDIF says.
    ///
    /// # Errors
    ///
    /// ldapmodify is not installed, or refuses.
    pub fn modify(&self, ldif: &str) -> Result<(), Failure> {
        let path = self.directory.join("change.ldif");
        write(&path, ldif)?;
        run(self.tool("ldapmodify")?.arg("-f").arg(path))?.success().map(drop)
    }

    /// How often somebody had shown a wrong password when so many changes of entries were made.
    ///
    /// # Errors
    ///
    /// The log cannot be read, or tells of fewer changes.
    pub fn refused_logins(&self, changes: usize) -> Result<usize, Failure> {
        // RFC 4511: BindResponse is [APPLICATION 1], invalidCredentials is 49; ModifyResponse is
        // [APPLICATION 7]. The log is written after the answer.
        let changed = "RESULT tag=103 err=0";
        wait_until("a change in slapd's log", Duration::from_secs(20), || {
            Ok(self.log()?.matches(changed).count() >= changes)
        })?;
        let log = self.log()?;
        let before = log.split(changed).take(changes);
        Ok(before.map(|log| log.matches("RESULT tag=97 err=49").count()).sum())
    }

    /// What the server has logged: connections, operations, results.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn log(&self) -> Result<String, Failure> {
        let path = self.directory.join("slapd.log");
        fs::read_to_string(&path).doing(format_args!("read {}", path.display()))
    }

    fn tool(&self, name: &str) -> Result<Command, Failure> {
        let mut command = Command::new(peer(name)?);
        command.env("LDAPTLS_CACERT", self.ca_file());
        command.args(["-x", "-H", &self.url(), "-D", BIND_DN, "-w", PASSWORD]);
        Ok(command)
    }
}

/// The distinguished name of an account.
pub fn account(name: &str) -> String {
    format!("cn={name},{BASE_DN}")
}

/// Starts slapd; `None` when the port was taken meanwhile.
fn listen(directory: &Path, scheme: Scheme, port: u16) -> Result<Option<Daemon>, Failure> {
    let log = directory.join("slapd.log");
    let before = fs::read_to_string(&log).unwrap_or_default().len();
    let mut command = Command::new(peer("slapd")?);
    // Operations and their results go to standard error, and it stays in the foreground.
    command.args(["-d", "stats", "-h", &format!("{}/", url(scheme, port)), "-f"]);
    let mut daemon = Daemon::start("slapd", command.arg(directory.join("slapd.conf")), &log)?;
    let said = |log: &str, what: &str| log.get(before..).is_some_and(|log| log.contains(what));
    let taken = "Address already in use";
    daemon.wait_until(Duration::from_secs(20), |log| {
        // It says that it starts before it listens.
        said(log, taken)
            || said(log, "slapd starting") && TcpStream::connect(("127.0.0.1", port)).is_ok()
    })?;
    let taken = said(&daemon.log()?, taken);
    Ok((!taken).then_some(daemon))
}

fn url(scheme: Scheme, port: u16) -> String {
    match scheme {
        Scheme::Ldap => format!("ldap://127.0.0.1:{port}"),
        Scheme::Ldaps => format!("ldaps://127.0.0.1:{port}"),
    }
}

fn load(directory: &Path) -> Result<(), Failure> {
    let mut command = Command::new(peer("slapadd")?);
    command.arg("-f").arg(directory.join("slapd.conf"));
    run(command.arg("-l").arg(directory.join("entries.ldif")))?.success().map(drop)
}

/// A CA, and the server's certificate for the loopback address.
fn configuration(directory: &Path) -> String {
    let directory = directory.display();
    format!(
        r#"include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema

# The attributes of Active Directory that are of concern, under their own numbers.
attributetype ( 1.2.840.113556.1.4.656 NAME 'userPrincipalName'
  EQUALITY caseIgnoreMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 SINGLE-VALUE )
attributetype ( 1.2.840.113556.1.4.8 NAME 'userAccountControl'
  EQUALITY integerMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.27 SINGLE-VALUE )
attributetype ( 1.2.840.113556.1.4.146 NAME 'objectSid'
  EQUALITY octetStringMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.40 )
attributetype ( 1.2.840.113556.1.4.1301 NAME 'tokenGroups'
  EQUALITY octetStringMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.40 )
attributetype ( 1.2.840.113556.1.2.102 NAME 'memberOf'
  EQUALITY distinguishedNameMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.12 )
objectclass ( 1.3.6.1.4.1.4203.666.1 NAME 'windowsAccount' SUP top AUXILIARY
  MAY ( userPrincipalName $ userAccountControl $ objectSid $ tokenGroups $ memberOf ) )

pidfile {directory}/slapd.pid
argsfile {directory}/slapd.args
modulepath /usr/lib/ldap
moduleload back_mdb
TLSCACertificateFile {directory}/ca/ca.pem
TLSCertificateFile {directory}/ca/directory.pem
TLSCertificateKeyFile {directory}/ca/directory.key

database mdb
directory {directory}/database
suffix "{BASE_DN}"
access to attrs=userPassword by anonymous auth by * none
access to * by dn.exact="{BIND_DN}" write by * none
"#
    )
}

fn entries() -> String {
    let mut text = format!(
        "dn: {BASE_DN}\nobjectClass: dcObject\nobjectClass: organization\ndc: corp\no: corp\n\n\
         dn: {BIND_DN}\nobjectClass: organizationalRole\nobjectClass: simpleSecurityObject\n\
         cn: chancery\nuserPassword: {PASSWORD}\n\n\
         dn: {GROUP}\nobjectClass: groupOfNames\ncn: Server Admins\nmember: {BIND_DN}\n\n"
    );
    for (name, rid) in [("alice", 1104), ("bob", 1105)] {
        text += &format!("dn: {}\n{}\n", account(name), person(name, rid));
    }
    text
}

/// The attributes of an account in LDIF: enabled, and in no group but Domain Users.
pub fn person(name: &str, rid: u32) -> String {
    format!(
        "objectClass: inetOrgPerson\nobjectClass: windowsAccount\ncn: {name}\nsn: {name}\n\
         userPrincipalName: {name}@corp.example.test\nuserAccountControl: 512\n\
         objectSid:: {}\ntokenGroups:: {}\n",
        sid(rid),
        sid(513),
    )
}

/// The SID of an account or a group of the domain, in base64: as LDIF has it.
pub fn sid(rid: u32) -> String {
    let domain = DOMAIN_SID.into_iter().chain([rid]).flat_map(u32::to_le_bytes);
    let bytes: Vec<u8> = [1, 5, 0, 0, 0, 0, 0, 5].into_iter().chain(domain).collect();
    STANDARD.encode(bytes)
}

/// The parts of the domain's SID, as the rules of the stories pin it.
const DOMAIN_SID: [u32; 4] = [21, 1_004_336_348, 1_177_238_915, 682_003_330];

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    fs::write(path, text).doing(format_args!("write {}", path.display()))
}
