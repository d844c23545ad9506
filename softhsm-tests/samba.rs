//! A Windows domain of one's own: a Samba AD DC on loopback, its state below one directory.
//!
//! Debian 12 has Samba 4.17, whose KDC looks neither at the SID in a certificate nor at revocation
//! lists. This one is of Debian 13's backports, where `make samba` puts it: in a directory of its
//! own, which its programs take for the whole system.
//!
//! Two processes share the state, since Samba has a fixed port for LDAP: one answers LDAP at a
//! UNIX socket, which is reached through a port that the system gives; one is the KDC.

use std::{
    fs, io,
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Mutex,
    thread,
    time::Duration,
};

use rustix::process::geteuid;
use tempfile::TempDir;

use crate::{
    failure::{Doing, Failure},
    kdc::{self, Identity, Realm, Ticket},
    openssl::Ca,
    peers::{peer, source_tree},
    ports::on_free_port,
    process::{Daemon, run, run_within},
};

/// Below which entry everything is.
pub const BASE_DN: &str = "DC=corp,DC=example,DC=test";

/// Who asks the directory. It may read it as every account may, and change the accounts of Sales.
pub const BIND_DN: &str = "CN=chancery,CN=Users,DC=corp,DC=example,DC=test";

/// Its password.
pub const PASSWORD: &str = "A passw0rd of the directory";

/// The unit that dave is in; the others are in `CN=Users`.
pub const SALES: &str = "OU=Sales,DC=corp,DC=example,DC=test";

/// The realm.
pub const REALM: &str = "CORP.EXAMPLE.TEST";

/// The people of the domain; erin is in Domain Admins, by way of a group of her own.
pub const PEOPLE: [&str; 4] = ["alice", "bob", "dave", "erin"];

/// A domain, whose directory answers; it ends when this value is dropped.
#[derive(Debug)]
pub struct Domain {
    kdc: Option<Daemon>,
    _ldap: Daemon,
    forwarder: Forwarder,
    directory: PathBuf,
}

impl Domain {
    /// A domain as provisioned, below `directory`, in the directory of temporary files.
    ///
    /// # Errors
    ///
    /// Samba is not there, or refuses.
    pub fn start(directory: &Path) -> Result<Self, Failure> {
        fs::create_dir_all(directory).doing("make a directory")?;
        unpack(directory)?;
        let ca = Ca::new(directory.join("ca"), "directory CA")?;
        ca.certify("directory", "subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n", None)?;
        fs::write(directory.join("password"), PASSWORD).doing("write a password")?;
        // What others may read is not taken.
        for file in ["ca/directory.key", "password"] {
            let mode = fs::Permissions::from_mode(0o600);
            fs::set_permissions(directory.join(file), mode).doing("protect a file")?;
        }
        // Without an interface it listens at its UNIX sockets only.
        let settings = format!(
            "server services = ldap\ninterfaces = none.invalid\ntls enabled = yes\n\
             tls keyfile = {place}/ca/directory.key\ntls certfile = {place}/ca/directory.pem\n\
             tls cafile =\n",
            place = directory.display(),
        );
        let mut ldap = samba(directory, "ldap", &settings)?;
        let socket = directory.join("private/ldapi");
        ldap.wait_until(READY, |_| UnixStream::connect(&socket).is_ok())?;
        let forwarder = Forwarder::start(socket)?;
        let directory = directory.to_owned();
        Ok(Self { kdc: None, _ldap: ldap, forwarder, directory })
    }

    /// `[directory]` of an appliance that asks this one.
    pub fn settings(&self) -> String {
        let place = self.directory.display();
        format!(
            "\n[directory]\nurl = \"ldap://{}\"\nstart_tls = true\nca_file = \"{place}/ca/ca.pem\"\n\
             bind_dn = {BIND_DN:?}\npassword_file = \"{place}/password\"\nbase_dn = {BASE_DN:?}\n\
             cache_seconds = 0\nlook_up_timeout_seconds = 8\n",
            self.forwarder.address,
        )
    }

    /// Starts the KDC with a certificate of its own. The domain has the accounts, whatever `realm`
    /// says of them; `realm.crls` is one list, which the KDC reads anew when it was changed in another
    /// second.
    ///
    /// # Errors
    ///
    /// Samba does not come up.
    pub fn start_kdc(&mut self, realm: &Realm) -> Result<(), Failure> {
        self.kdc = None;
        let crls = realm.crls.iter().map(|it| format!(" pkinit_revoke = FILE:{}\n", it.display()));
        // The CA of cards is the anchor, and not the root: with lists, it wants one of each CA
        // below the anchor, and a root that is offline publishes none.
        let configuration = format!(
            "[kdc]\n enable-pkinit = yes\n pkinit_identity = FILE:{},{}\n \
             pkinit_anchors = FILE:{}\n pkinit_principal_in_certificate = yes\n{}",
            realm.certificate.display(),
            realm.key.display(),
            realm.pool.display(),
            crls.collect::<String>(),
        );
        write(&self.directory.join("kdc-krb5.conf"), &configuration)?;
        let directory = self.directory.clone();
        self.kdc = Some(on_free_port(|port| {
            kdc::configure_client(&directory, realm, port)?;
            let settings = format!(
                "server services = kdc\ninterfaces = 127.0.0.1\nkrb5 port = {port}\n\
                 kpasswd port = 0\n"
            );
            let mut daemon = samba(&directory, "kdc", &settings)?;
            let refused = |log: &str| log.contains("ADDRESS_ALREADY_ASSOCIATED");
            daemon.wait_until(READY, |log| {
                refused(log) || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
            })?;
            let refused = refused(&daemon.log()?);
            Ok((!refused).then_some(daemon))
        })?);
        Ok(())
    }

    /// Asks for a ticket for the enterprise principal `upn`.
    ///
    /// # Errors
    ///
    /// kinit is not installed or hangs. That the KDC refuses is an answer.
    pub fn kinit(&self, upn: &str, identity: &Identity<'_>) -> Result<Ticket, Failure> {
        kdc::kinit(&self.directory, upn, identity, None)
    }

    /// The objectSid of an account as Samba's own tool says it.
    ///
    /// # Errors
    ///
    /// The tool refuses.
    pub fn sid(&self, account: &str) -> Result<String, Failure> {
        let shown = self.tool(&["user", "show", account, "--attributes=objectSid"])?;
        let sid = shown.lines().find_map(|line| line.strip_prefix("objectSid: "));
        sid.map(str::to_owned).ok_or_else(|| Failure::new("there is no objectSid").said(shown))
    }

    /// Runs samba-tool on the domain, and gives what it says.
    ///
    /// # Errors
    ///
    /// It refuses.
    pub fn tool(&self, arguments: &[&str]) -> Result<String, Failure> {
        tool(&self.directory, arguments)
    }
}

/// Starts the services that `settings` name on the state below `directory`.
fn samba(directory: &Path, name: &str, settings: &str) -> Result<Daemon, Failure> {
    let pids = directory.join(format!("pid-{name}"));
    fs::create_dir_all(&pids).doing("make a directory")?;
    let path = directory.join(format!("{name}.conf"));
    let settings = format!("pid directory = {}\n{settings}", pids.display());
    write(&path, &(configuration(directory) + &settings))?;
    let mut command = program("/usr/sbin/samba")?;
    command.arg("-s").arg(&path);
    command.args(["--foreground", "--no-process-group", "--model=single", "--debug-stdout"]);
    command.env("KRB5_CONFIG", directory.join("kdc-krb5.conf")).env("LC_ALL", "C");
    // It ends when its input does; this one has no end.
    let input = fs::File::open("/dev/zero").doing("open /dev/zero")?;
    let log = directory.join(format!("{name}.out"));
    Daemon::start_with_input("samba", &mut command, Stdio::from(input), &log)
}

fn configuration(directory: &Path) -> String {
    let directory = directory.display();
    format!(
        "[global]\nnetbios name = DC1\nrealm = {REALM}\nworkgroup = CORP\n\
         server role = active directory domain controller\nbind interfaces only = yes\n\
         private dir = {directory}/private\nstate directory = {directory}/state\n\
         cache directory = {directory}/cache\nlock directory = {directory}\n\
         binddns dir = {directory}/bind-dns\nncalrpc dir = {directory}/ncalrpc\n\
         log file = {directory}/log\n"
    )
}

fn tool(directory: &Path, arguments: &[&str]) -> Result<String, Failure> {
    let conf = directory.join("tool.conf");
    write(&conf, &configuration(directory))?;
    let mut command = program("/usr/bin/samba-tool")?;
    command.args(arguments).arg("-H").arg(directory.join("private/sam.ldb")).arg("-s").arg(conf);
    command.env("LC_ALL", "C");
    Ok(run(&mut command)?.success()?.stdout)
}

/// Lays a fresh domain below `directory`. Making one takes seconds, so that it is made once and kept
/// packed in the target directory.
fn unpack(directory: &Path) -> Result<(), Failure> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

    let packed = packed()?;
    {
        let _turn = ONE_AT_A_TIME.lock();
        if !packed.exists() {
            provision(&packed)?;
        }
    }
    let mut tar = Command::new(peer("tar")?);
    tar.arg("-xf").arg(packed).arg("-C").arg(directory);
    run(&mut tar)?.success().map(drop)
}

/// Where the packed domain is: one for each version of Samba, and of what is made here.
fn packed() -> Result<PathBuf, Failure> {
    const MADE: u32 = 1;

    let version = run(program("/usr/sbin/samba")?.arg("--version"))?.success()?.stdout;
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
    let version: String = version.trim().chars().map(plain).collect();
    Ok(source_tree().join(format!("target/samba/{version}-{MADE}.tar")))
}

/// A program of Samba's, in the system that it takes for the whole one: it sees that, devices,
/// processes, and the directory of temporary files.
fn program(path: &str) -> Result<Command, Failure> {
    const ENTER: &str = "r=$0; t=$1; shift; for d in /dev /proc \"$t\"; do \
                         mkdir -p \"$r$d\" && mount --rbind \"$d\" \"$r$d\" || exit 125; \
                         done; exec chroot \"$r\" \"$@\"";

    let root = source_tree().join("target/samba/root");
    if !root.join("usr/sbin/samba").is_file() {
        return Err(Failure::new("Samba is not there").hint("run make samba"));
    }
    let mut command = Command::new(peer("unshare")?);
    if !geteuid().is_root() {
        command.arg("--map-root-user");
    }
    command.args(["--mount", "--propagation", "private", "/bin/sh", "-c", ENTER]);
    command.arg(root).arg(std::env::temp_dir()).arg(path);
    Ok(command)
}

fn provision(packed: &Path) -> Result<(), Failure> {
    // Nobody mounts SYSVOL here: without its access lists, this is for every user.
    const PROVISION: &str = "import sys, samba.provision, samba.netcmd.main\n\
                             samba.provision.setsysvolacl = lambda *_, **__: None\n\
                             sys.exit(samba.netcmd.main.samba_tool(*sys.argv[1:]))";

    let place = TempDir::with_prefix("samba-").doing("make a temporary directory")?;
    let directory = place.path().join("domain");
    let mut command = program("/usr/bin/python3")?;
    command.args(["-c", PROVISION, "domain", "provision", "--domain=CORP", "--host-name=dc1"]);
    command.args(["--host-ip=127.0.0.1", "--server-role=dc", "--dns-backend=NONE"]);
    command.arg(format!("--realm={REALM}")).arg(format!("--adminpass={PASSWORD}"));
    command.args(["--option=interfaces=lo", "--option=bind interfaces only=yes"]);
    command.arg("--targetdir").arg(&directory).env("LC_ALL", "C");
    run_within(PROVISIONED, &mut command)?.success()?;
    let tool = |arguments: &[&str]| tool(&directory, arguments);
    tool(&["ou", "create", "OU=Sales"])?;
    for name in PEOPLE.iter().chain(&["chancery"]) {
        tool(&["user", "create", name, PASSWORD])?;
        // A domain that was made long ago serves as well.
        tool(&["user", "setexpiry", name, "--noexpiry"])?;
    }
    tool(&["user", "move", "dave", "OU=Sales"])?;
    tool(&["group", "add", "Tier 0"])?;
    tool(&["group", "addmembers", "Tier 0", "erin"])?;
    tool(&["group", "addmembers", "Domain Admins", "Tier 0"])?;
    // Generic all of accounts below Sales: more than it needs, and of nothing else.
    let sid = tool(&["user", "show", "chancery", "--attributes=objectSid"])?;
    let sid = sid.lines().find_map(|line| line.strip_prefix("objectSid: ")).unwrap_or_default();
    let right = format!("(A;CI;GA;;;{sid})");
    tool(&["dsacl", "set", "--objectdn", SALES, "--action=allow", "--sddl", &right])?;
    let unfinished = packed.with_extension(format!("{}.part", std::process::id()));
    let mut tar = Command::new(peer("tar")?);
    tar.arg("-cf").arg(&unfinished).arg("-C").arg(&directory);
    run(tar.args(["private", "state", "bind-dns"]))?.success()?;
    fs::rename(&unfinished, packed).doing("keep a domain")
}

/// Takes connections at a port that the system gives to a UNIX socket.
#[derive(Debug)]
struct Forwarder {
    address: SocketAddr,
}

impl Forwarder {
    /// It serves until this program ends.
    fn start(socket: PathBuf) -> Result<Self, Failure> {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).doing("listen on a free port")?;
        let address = listener.local_addr().doing("ask for a port")?;
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // Without a server, whoever comes is hung up on.
                if let Ok(server) = UnixStream::connect(&socket) {
                    let _ = forward(client, server);
                }
            }
        });
        Ok(Self { address })
    }
}

fn forward(client: TcpStream, server: UnixStream) -> io::Result<()> {
    let (mut from_client, mut to_client) = (client.try_clone()?, client);
    let (mut from_server, mut to_server) = (server.try_clone()?, server);
    thread::spawn(move || {
        let _ = io::copy(&mut from_client, &mut to_server);
        let _ = to_server.shutdown(Shutdown::Both);
    });
    thread::spawn(move || {
        let _ = io::copy(&mut from_server, &mut to_client);
        let _ = to_client.shutdown(Shutdown::Both);
    });
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    fs::write(path, text).doing(format_args!("write {}", path.display()))
}

/// How long it may take to make a domain there, once.
const PROVISIONED: Duration = Duration::from_secs(600);

/// How long Samba may take to start on a busy machine.
const READY: Duration = Duration::from_secs(60);
