//! The sandbox of the token worker: the module, its token and the PIN file, and nothing else.

use std::{
    io,
    path::{Path, PathBuf},
};

use pki::token::TokenError;
use rustix::{
    mm::MlockAllFlags,
    process::{Resource, getrlimit},
    thread::{CapabilitySet, capabilities},
};

use super::{login::LoginFile, wire::Settings};
use crate::{
    config::{Enforcement, Sandbox},
    describe,
    sandbox::{Permits, Report, confine},
};

/// Confines this process before the module is loaded. Call it while there is one thread.
///
/// # Errors
///
/// [`TokenError::NoToken`]: the system refuses the sandbox, or lacks what it must have.
pub(super) fn enter(settings: &Settings) -> Result<Report, TokenError> {
    let locked = lock_memory();
    let confined = confine(&permits(settings));
    let mut report = confined.map_err(|error| refused(&describe(&error)))?;
    match locked {
        Ok(()) => report.enforced.push("memory that is never swapped".to_owned()),
        Err(why) => report.missing.push(format!("memory that is never swapped: {why}")),
    }
    let settings = &settings.sandbox;
    for path in settings.readable.iter().chain(&settings.writable).filter(|path| !path.exists()) {
        let path = path.display();
        report.missing.push(format!("{path} is not there: the module cannot use it"));
    }
    match settings.enforcement {
        Enforcement::Required if report.open => Err(refused(&report.missing.join("; "))),
        Enforcement::BestEffort | Enforcement::Required => Ok(report),
    }
}

fn permits(settings: &Settings) -> Permits {
    let Sandbox { readable, writable, network, unix_sockets, may_execute, .. } = &settings.sandbox;
    let mut permits = Permits {
        readable: paths(SYSTEM),
        writable: writable.clone(),
        executable: Vec::new(),
        unix_sockets: *unix_sockets,
        network: *network,
        neighbours: false,
    };
    permits.readable.extend([settings.module.clone(), settings.pin_file.clone()]);
    permits.readable.extend(readable.iter().cloned());
    permits.writable.push(LoginFile::of(&settings.state_directory).directory().to_owned());
    if *network {
        permits.readable.extend(paths(NAMES));
    }
    if *may_execute {
        permits.executable.extend(paths(PROGRAMS));
        permits.executable.extend(readable.iter().cloned());
    }
    // The module's own configuration. A directory says too little of what is meant by it.
    let named = settings.environment.values().map(PathBuf::from);
    permits.readable.extend(named.filter(|path| path.is_absolute() && path.is_file()));
    permits
}

/// Keeps all memory, of the module too, out of the swap. Pages are locked as they are used.
fn lock_memory() -> Result<(), String> {
    let limit = getrlimit(Resource::Memlock).current;
    let exempt =
        capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::IPC_LOCK));
    if let (Some(bytes), false) = (limit, exempt) {
        // Beyond it the module would get no memory at all.
        return Err(format!(
            "the limit is {bytes} bytes; set LimitMEMLOCK=infinity in the systemd unit"
        ));
    }
    let all = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT;
    rustix::mm::mlockall(all).map_err(|error| io::Error::from(error).to_string())
}

fn refused(why: &str) -> TokenError {
    TokenError::NoToken(format!(
        "the module is not loaded without its sandbox: {why}; token.sandbox.enforcement = \
         \"best-effort\" would load it all the same"
    ))
}

fn paths(of: &[&str]) -> Vec<PathBuf> {
    of.iter().map(|path| Path::new(path).to_owned()).collect()
}

/// What programs and libraries read to be loaded, and what tells them of the machine: readable by
/// everyone, and without secrets.
const SYSTEM: &[&str] = &[
    "/lib",
    "/lib32",
    "/lib64",
    "/usr/lib",
    "/usr/lib32",
    "/usr/lib64",
    "/usr/libexec",
    "/usr/local/lib",
    "/usr/share",
    "/etc/crypto-policies",
    "/etc/group",
    "/etc/ld.so.cache",
    "/etc/ld.so.preload",
    "/etc/locale.alias",
    "/etc/localtime",
    "/etc/nsswitch.conf",
    "/etc/passwd",
    "/etc/pkcs11",
    "/etc/pki/tls/openssl.cnf",
    "/etc/ssl/openssl.cnf",
    "/dev/random",
    "/dev/urandom",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/self",
    "/proc/sys/crypto",
    "/sys/devices/system/cpu",
    "/sys/devices/system/node",
];

/// What tells of names and certificates in a network.
const NAMES: &[&str] = &[
    "/etc/gai.conf",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/pki/ca-trust",
    "/etc/pki/tls/certs",
    "/etc/protocols",
    "/etc/resolv.conf",
    "/etc/services",
    "/etc/ssl/certs",
    "/run/systemd/resolve",
];

const PROGRAMS: &[&str] = &[
    "/bin",
    "/lib",
    "/lib32",
    "/lib64",
    "/sbin",
    "/usr/bin",
    "/usr/lib",
    "/usr/lib32",
    "/usr/lib64",
    "/usr/libexec",
    "/usr/sbin",
];
