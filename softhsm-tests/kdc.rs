//! A Kerberos realm of one's own: MIT krb5kdc with PKINIT, its state below one directory, no root.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::{
    clock::Clock,
    failure::{Doing, Failure},
    peers::peer,
    ports::on_free_port,
    process::{Answer, Daemon, run, run_with_input},
    readers::{Readers, opensc_module},
    softhsm::SoftHsm,
};

/// A realm to be.
#[derive(Clone, Debug)]
pub struct Realm {
    /// Its name, in capitals.
    pub name: String,
    /// The DNS domain of its users' principal names.
    pub upn_domain: String,
    /// The accounts; each is also the enterprise principal `account@upn_domain`.
    pub accounts: Vec<String>,
    /// The KDC's certificate (PEM), followed by its chain.
    pub certificate: PathBuf,
    /// The KDC's private key (PEM).
    pub key: PathBuf,
    /// The trusted root (PEM).
    pub root: PathBuf,
    /// The CAs between the root and users (concatenated PEM). A client needs them to build its own
    /// path: MIT ignores a chain in the file of the user's certificate.
    pub pool: PathBuf,
    /// CRLs (concatenated PEM), read once at the start. The certificates of a CA without one are not
    /// looked for in any: the root here publishes none.
    pub crls: Option<PathBuf>,
}

/// Who wants a ticket, and with what.
#[derive(Clone, Debug)]
pub enum Identity<'a> {
    /// A certificate and a key in files (PEM).
    File {
        /// The certificate.
        certificate: &'a Path,
        /// The private key.
        key: &'a Path,
    },
    /// A certificate and a key on the only PIV card in readers, which OpenSC finds.
    Card {
        /// The readers.
        readers: &'a Readers,
        /// The number that OpenSC gives to key and certificate: 01 for slot 9A.
        id: &'a str,
        /// The card's PIN.
        pin: &'a str,
    },
    /// A certificate and a key in a token, as on a smart card.
    Pkcs11 {
        /// The token's store.
        softhsm: &'a SoftHsm,
        /// The token's label.
        token: &'a str,
        /// CKA_ID of key and certificate, in hexadecimal.
        id: &'a str,
        /// The user PIN.
        pin: &'a str,
    },
}

/// A running KDC; it ends when this value is dropped.
#[derive(Debug)]
pub struct Kdc {
    daemon: Daemon,
    directory: PathBuf,
    realm: String,
}

impl Kdc {
    /// Makes the realm below `directory` and starts its KDC.
    ///
    /// # Errors
    ///
    /// MIT Kerberos is not installed, or refuses its configuration.
    pub fn start(directory: &Path, realm: &Realm) -> Result<Self, Failure> {
        on_free_port(|port| {
            write(&directory.join("kdc.conf"), &kdc_configuration(directory, realm, port))?;
            configure_client(directory, realm, port)?;
            create_database(directory, realm)?;
            let started = listen(directory, realm)?;
            let (directory, realm) = (directory.to_owned(), realm.name.clone());
            Ok(started.map(|daemon| Self { daemon, directory, realm }))
        })
    }

    /// Starts the KDC again, so that it reads its files anew.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn restart(self, realm: &Realm) -> Result<Self, Failure> {
        let Self { daemon, directory, .. } = self;
        daemon.stop();
        // It says that the KDC before has come up.
        fs::remove_file(directory.join("kdc.log")).doing("remove the log of a KDC")?;
        Self::start(&directory, realm)
    }

    /// Asks for a ticket for the enterprise principal `upn`. Its client has a `clock` of its
    /// own where it would judge its certificate by the KDC's, and not even ask.
    ///
    /// # Errors
    ///
    /// kinit is not installed or hangs. That the KDC refuses is an answer; [`Ticket::why`] tells.
    pub fn kinit(
        &self,
        upn: &str,
        identity: &Identity<'_>,
        clock: Option<&Clock>,
    ) -> Result<Ticket, Failure> {
        kinit(&self.directory, upn, identity, clock)
    }

    /// What the KDC has logged.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn log(&self) -> Result<String, Failure> {
        let path = self.directory.join("kdc.log");
        fs::read_to_string(&path).doing(format_args!("read {}", path.display()))
    }

    /// The realm's name.
    pub fn realm(&self) -> &str {
        &self.realm
    }

    /// Whether the KDC still runs.
    ///
    /// # Errors
    ///
    /// The system does not say.
    pub fn running(&mut self) -> Result<bool, Failure> {
        self.daemon.running()
    }
}

/// As [`Kdc::kinit`], with the configuration of clients that lies in `directory`.
pub(crate) fn kinit(
    directory: &Path,
    upn: &str,
    identity: &Identity<'_>,
    clock: Option<&Clock>,
) -> Result<Ticket, Failure> {
    let cache = directory.join("ticket");
    let trace = directory.join("trace");
    for file in [&cache, &trace] {
        if file.exists() {
            fs::remove_file(file).doing(format_args!("remove {}", file.display()))?;
        }
    }
    let mut command = kinit_command(clock)?;
    command.env("KRB5_TRACE", &trace).arg("-c").arg(&cache).arg("-E").arg("-X");
    command.arg(format!("X509_user_identity={}", identity.option()?)).arg(upn);
    let answer =
        run_with_input(identity.lend(environment(directory, &mut command)), &identity.input())?;
    let trace = fs::read_to_string(&trace).unwrap_or_default();
    let listed = if answer.status.success() { list(directory, &cache)? } else { String::new() };
    Ok(Ticket { answer, trace, listed })
}

fn list(directory: &Path, cache: &Path) -> Result<String, Failure> {
    let mut command = Command::new(peer("klist")?);
    command.arg("-c").arg(cache);
    Ok(run(environment(directory, &mut command))?.success()?.stdout)
}

/// What kinit got.
#[derive(Clone, Debug)]
pub struct Ticket {
    /// kinit's answer.
    pub answer: Answer,
    /// What the Kerberos library traced.
    pub trace: String,
    /// What klist says of the ticket; empty without one.
    pub listed: String,
}

impl Ticket {
    /// The ticket, which must have been granted to `principal` by PKINIT.
    ///
    /// # Errors
    ///
    /// There is none, or it is for somebody else.
    pub fn granted(self, principal: &str) -> Result<Self, Failure> {
        let why = self.why();
        self.answer.clone().success().map_err(|failure| failure.hint(why))?;
        // 16 is PA-PK-AS-REQ (RFC 4556 section 3.2.1): no password was involved.
        let by_pkinit = self.trace.contains("PKINIT") || self.trace.contains("PA-PK-AS-REQ (16)");
        if !self.listed.contains(principal) || !by_pkinit {
            return Err(Failure::new(format!("the ticket is not {principal}'s by PKINIT"))
                .said(format!("{}\n{}", self.listed, self.trace)));
        }
        Ok(self)
    }

    /// The ticket, which must have been refused by the KDC with `why` in its words.
    ///
    /// # Errors
    ///
    /// It was granted, or refused for another reason.
    pub fn refused(self, why: &str) -> Result<Self, Failure> {
        let said = self.why();
        if self.answer.status.success() || !said.contains(why) {
            let what =
                format!("kinit should have been refused with {why:?}, and was told {said:?}");
            return Err(Failure::new(what).said(self.answer.output() + &self.trace));
        }
        Ok(self)
    }

    /// The KDC's last error; empty without one.
    pub fn why(&self) -> String {
        const MARK: &str = "Received error from KDC: ";
        // The first answer of a KDC only asks for pre-authentication.
        let errors = self.trace.lines().filter_map(|line| line.split_once(MARK));
        let mut real = errors.filter(|(_, error)| !error.contains("Additional pre-authentication"));
        real.next_back().map(|(_, error)| error.to_owned()).unwrap_or_default()
    }
}

impl Identity<'_> {
    fn option(&self) -> Result<String, Failure> {
        Ok(match self {
            Self::Card { id, .. } => {
                format!("PKCS11:module_name={}:certid={id}", opensc_module()?.display())
            }
            Self::File { certificate, key } => {
                format!("FILE:{},{}", certificate.display(), key.display())
            }
            Self::Pkcs11 { softhsm, token, id, .. } => format!(
                "PKCS11:module_name={}:token={token}:certid={id}",
                softhsm.module().display()
            ),
        })
    }

    fn lend<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        match self {
            Self::Card { readers, .. } => readers.lend(command),
            Self::File { .. } => command,
            Self::Pkcs11 { softhsm, .. } => softhsm.lend(command),
        }
    }

    /// Without a terminal, kinit reads the PIN from its standard input.
    fn input(&self) -> Vec<u8> {
        match self {
            Self::File { .. } => Vec::new(),
            Self::Card { pin, .. } | Self::Pkcs11 { pin, .. } => format!("{pin}\n").into_bytes(),
        }
    }
}

fn kinit_command(clock: Option<&Clock>) -> Result<Command, Failure> {
    let kinit = peer("kinit")?;
    Ok(clock.map_or_else(|| Command::new(&kinit), |clock| clock.command(&kinit)))
}

fn create_database(directory: &Path, realm: &Realm) -> Result<(), Failure> {
    if directory.join("principal").exists() {
        return Ok(());
    }
    let mut create = Command::new(peer("kdb5_util")?);
    create.args(["create", "-s", "-r", &realm.name, "-P", "master key of a test realm"]);
    run(environment(directory, &mut create))?.success()?;
    // +requires_preauth: without it the KDC looks for a key of the client's, which has none.
    let names = realm
        .accounts
        .iter()
        .flat_map(|account| [account.clone(), format!("{account}\\@{}", realm.upn_domain)]);
    let queries: String =
        names.map(|name| format!("addprinc -nokey +requires_preauth {name}\n")).collect();
    let mut add = Command::new(peer("kadmin.local")?);
    add.args(["-r", &realm.name]);
    run_with_input(environment(directory, &mut add), queries.as_bytes())?.success().map(drop)
}

/// Starts krb5kdc; `None` when the port was taken meanwhile.
fn listen(directory: &Path, realm: &Realm) -> Result<Option<Daemon>, Failure> {
    let log = directory.join("kdc.log");
    let mut command = Command::new(peer("krb5kdc")?);
    command.args(["-n", "-r", &realm.name]);
    let mut daemon =
        Daemon::start("krb5kdc", environment(directory, &mut command), &directory.join("kdc.out"))?;
    let said = |text: &str| fs::read_to_string(&log).is_ok_and(|log| log.contains(text));
    let ready = daemon.wait_until(Duration::from_secs(20), |_| said("commencing operation"));
    if said("Address already in use") {
        return Ok(None);
    }
    ready.map_err(|failure| failure.said(fs::read_to_string(&log).unwrap_or_default()))?;
    Ok(Some(daemon))
}

fn environment<'a>(directory: &Path, command: &'a mut Command) -> &'a mut Command {
    command
        .env("KRB5_CONFIG", directory.join("krb5.conf"))
        .env("KRB5_KDC_PROFILE", directory.join("kdc.conf"))
        .env("LC_ALL", "C")
}

fn kdc_configuration(directory: &Path, realm: &Realm, port: u16) -> String {
    let Realm { name, certificate, key, root, pool, .. } = realm;
    let directory = directory.display();
    let crls = realm
        .crls
        .as_ref()
        .map_or_else(String::new, |crls| format!("  pkinit_revoke = FILE:{}\n", crls.display()));
    format!(
        "[kdcdefaults]\n  kdc_listen = 127.0.0.1:{port}\n  kdc_tcp_listen = 127.0.0.1:{port}\n\
         [realms]\n {name} = {{\n  database_name = {directory}/principal\n  \
         key_stash_file = {directory}/stash\n  acl_file = {directory}/acl\n  \
         pkinit_identity = FILE:{certificate},{key}\n  pkinit_anchors = FILE:{root}\n  \
         pkinit_pool = FILE:{pool}\n  pkinit_allow_upn = true\n  \
         pkinit_eku_checking = scLogin\n{crls} }}\n\
         [dbmodules]\n {name} = {{\n  db_library = db2\n  database_name = {directory}/principal\n }}\n\
         [logging]\n kdc = FILE:{directory}/kdc.log\n",
        certificate = certificate.display(),
        key = key.display(),
        root = root.display(),
        pool = pool.display(),
    )
}

/// Tells clients where the realm's KDC is, and which CAs they know.
pub(crate) fn configure_client(directory: &Path, realm: &Realm, port: u16) -> Result<(), Failure> {
    write(&directory.join("krb5.conf"), &client_configuration(realm, port))
}

fn client_configuration(realm: &Realm, port: u16) -> String {
    let Realm { name, root, pool, .. } = realm;
    format!(
        "[libdefaults]\n  default_realm = {name}\n  dns_lookup_realm = false\n  \
         dns_lookup_kdc = false\n  rdns = false\n  dns_canonicalize_hostname = false\n\
         [realms]\n {name} = {{\n  kdc = 127.0.0.1:{port}\n  pkinit_anchors = FILE:{root}\n  \
         pkinit_pool = FILE:{pool}\n  disable_encrypted_timestamp = true\n }}\n",
        root = root.display(),
        pool = pool.display(),
    )
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    fs::write(path, text).doing(format_args!("write {}", path.display()))
}
