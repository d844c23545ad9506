//! Where programs are: the peers, which Debian packages bring, and our own, which cargo builds.

use std::path::{Path, PathBuf};

use crate::failure::{Doing, Failure};

/// Every peer and the Debian package that brings it.
const PEERS: &[(&str, &str)] = &[
    ("certtool", "gnutls-bin"),
    ("dbus-daemon", "dbus-daemon"),
    ("dbus-send", "dbus-bin"),
    ("kadmin.local", "krb5-admin-server"),
    ("kdb5_util", "krb5-kdc"),
    ("kinit", "krb5-user"),
    ("klist", "krb5-user"),
    ("krb5kdc", "krb5-kdc"),
    ("ldapmodify", "ldap-utils"),
    ("ldapsearch", "ldap-utils"),
    ("mariadb", "mariadb-client"),
    ("mariadb-install-db", "mariadb-server"),
    ("mariadbd", "mariadb-server"),
    ("node", "nodejs"),
    ("openssl", "openssl"),
    ("opensc-tool", "opensc"),
    ("p11-kit", "p11-kit"),
    ("pcscd", "pcscd"),
    ("pkcs11-tool", "opensc"),
    ("prlimit", "util-linux"),
    ("python3", "python3"),
    ("slapadd", "slapd"),
    ("slapd", "slapd"),
    ("setsid", "util-linux"),
    ("softhsm2-util", "softhsm2"),
    ("ssh", "openssh-client"),
    ("ssh-add", "openssh-client"),
    ("ssh-keygen", "openssh-client"),
    ("sshd", "openssh-server"),
    ("strace", "strace"),
    ("swtpm", "swtpm"),
    ("systemd-analyze", "systemd"),
    ("tar", "tar"),
    ("tpm2-abrmd", "tpm2-abrmd"),
    ("unshare", "util-linux"),
];

/// Where programs are installed. A user's PATH need not hold the ones of administrators.
const DIRECTORIES: &[&str] = &["/usr/bin", "/usr/sbin", "/bin", "/sbin", "/usr/local/bin"];

/// The absolute path of a peer.
///
/// # Errors
///
/// It is not installed: the failure names the package.
pub fn peer(name: &str) -> Result<PathBuf, Failure> {
    let found = DIRECTORIES.iter().map(|directory| Path::new(directory).join(name));
    found.into_iter().find(|path| path.is_file()).ok_or_else(|| missing(name))
}

/// The absolute path of ykman, Yubico's own program, which `make ykman` puts below the target
/// directory.
///
/// # Errors
///
/// It is not there.
pub fn ykman() -> Result<PathBuf, Failure> {
    let path = source_tree().join("target/ykman/bin/ykman");
    if path.is_file() {
        return Ok(path);
    }
    Err(Failure::new("ykman is not there").hint("run make ykman"))
}

/// The absolute path of a file that a peer's package brings under one of several names.
///
/// # Errors
///
/// None of them is there.
pub fn file_of(package: &str, paths: &[&str]) -> Result<PathBuf, Failure> {
    let found = paths.iter().map(PathBuf::from).find(|path| path.is_file());
    found.ok_or_else(|| not_installed(paths.first().unwrap_or(&""), package))
}

/// The absolute path of one of our own programs, built beside this one.
///
/// # Errors
///
/// It is not built.
pub fn ours(name: &str) -> Result<PathBuf, Failure> {
    let own = std::env::current_exe().doing("find this program")?;
    // A program lies in target/PROFILE, a test in target/PROFILE/deps, and so does the module of
    // tests, unless it was built by itself.
    let beside = own.ancestors().skip(1).take(2);
    let mut found =
        beside.flat_map(|directory| [directory.join(name), directory.join("deps").join(name)]);
    found.find(|path| path.is_file()).ok_or_else(|| {
        Failure::new(format!("{name} is not built"))
            .hint("run `cargo build --workspace --bins` in the same profile, or `make test`")
    })
}

/// The root of the source tree.
pub fn source_tree() -> &'static Path {
    let crate_directory = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_directory.parent().unwrap_or(crate_directory)
}

fn missing(name: &str) -> Failure {
    let package = PEERS.iter().find(|(peer, _)| *peer == name).map(|(_, package)| *package);
    not_installed(name, package.unwrap_or(name))
}

pub(crate) fn not_installed(what: &str, package: &str) -> Failure {
    Failure::new(format!("{what} is not installed")).hint(format!(
        "install the package {package} (`make packages` installs all that Debian has)"
    ))
}
