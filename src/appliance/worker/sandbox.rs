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

use super::wire::Settings;
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
    permits.writable.push(settings.logins().directory().to_owned());
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

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, thread};

    use pki::token::pkcs11::TokenIdentity;
    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};

    use super::*;

    #[test]
    fn a_kernel_without_landlock_is_refused_unless_the_configuration_bears_it() {
        let required = thread::spawn(|| {
            lose_landlock();
            enter(&settings(Enforcement::Required))
        });
        let refused = required.join().unwrap().unwrap_err().to_string();
        assert!(refused.contains("this kernel has no Landlock"), "{refused}");
        assert!(refused.contains("token.sandbox.enforcement = \"best-effort\""), "{refused}");
        let borne = thread::spawn(|| {
            lose_landlock();
            enter(&settings(Enforcement::BestEffort))
        });
        let report = borne.join().unwrap().unwrap();
        assert!(report.open && report.missing[0].contains("no Landlock"), "{report:?}");
        assert!(report.enforced.iter().any(|what| what.contains("seccomp")), "{report:?}");
    }

    #[test]
    fn a_path_that_is_not_there_is_said() {
        let entered = thread::spawn(|| enter(&settings(Enforcement::Required)));
        let report = entered.join().unwrap().unwrap();
        assert!(report.missing.iter().any(|what| what.contains("/nowhere")), "{report:?}");
        assert!(!report.open && report.enforced.iter().any(|what| what.contains("Landlock")));
    }

    /// This thread finds the kernel of before Linux 5.13.
    fn lose_landlock() {
        let calls = [
            libc::SYS_landlock_add_rule,
            libc::SYS_landlock_create_ruleset,
            libc::SYS_landlock_restrict_self,
        ];
        let unknown = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
        let here = std::env::consts::ARCH.try_into().unwrap();
        let refused = calls.map(|call| (call, Vec::new())).into();
        let filter = SeccompFilter::new(refused, SeccompAction::Allow, unknown, here).unwrap();
        apply_filter(&BpfProgram::try_from(filter).unwrap()).unwrap();
    }

    fn settings(enforcement: Enforcement) -> Settings {
        let identity =
            TokenIdentity { label: "none".into(), serial: None, manufacturer: None, model: None };
        let readable = vec!["/nowhere".into()];
        Settings {
            module: "/usr/lib/none.so".into(),
            identity,
            pin_file: "/none".into(),
            pin_accepted: false,
            state_directory: "/none".into(),
            replica: None,
            sessions: 1,
            keep_alive_seconds: None,
            keys: Vec::new(),
            environment: BTreeMap::new(),
            probe: None,
            sandbox: Sandbox { enforcement, readable, ..Sandbox::default() },
        }
    }
}
