//! The sandbox of the part that serves: it speaks to the network, so that it may neither read the
//! PIN nor load a module nor start a program.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use thiserror::Error;

use crate::{
    config::{Config, Enforcement},
    sandbox::{Permits, Report, confine},
};

/// The part that serves is not confined, and must be.
#[derive(Debug, Error)]
pub enum FrontError {
    /// A directory that it writes cannot be made.
    #[error("cannot make {path}")]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// The system refuses, or lacks what a sandbox is made of.
    #[error("the part that serves cannot be confined: {0}")]
    Open(String),
    /// The system refuses.
    #[error("the part that serves cannot be confined")]
    Sandbox(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Confines this thread, and all that it starts: call it before there are others, after the
/// [launcher](crate::launcher) was started. Makes state and audit directory, which nothing could
/// make later. Says in the log what holds.
///
/// # Errors
///
/// See [`FrontError`]; where the configuration asks for the best effort only, what the system lacks
/// is a warning.
pub fn enter(config: &Config) -> Result<(), FrontError> {
    for path in [&config.state_directory, &config.audit_directory] {
        fs::create_dir_all(path)
            .map_err(|error| FrontError::Directory { path: path.clone(), error })?;
    }
    let mut report =
        confine(&permits(config)).map_err(|error| FrontError::Sandbox(error.into()))?;
    for (key, directory) in exposed(config) {
        report.open = true;
        report.missing.push(format!("{key} lies in {}", directory.display()));
    }
    if report.open && config.token.sandbox.enforcement == Enforcement::Required {
        return Err(FrontError::Open(report.missing.join("; ")));
    }
    tell(&report);
    Ok(())
}

/// What the part that serves could read and should not, by its key in the configuration, and the
/// directory that it has to read for another reason.
pub(crate) fn exposed(config: &Config) -> Vec<(&'static str, PathBuf)> {
    let permits = permits(config);
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let ceremony =
        [("token.module", &config.token.module), ("token.pin_file", &config.token.pin_file)];
    let replicas = config.replicas.iter().flat_map(|replica| {
        [("replica.module", &replica.module), ("replica.pin_file", &replica.pin_file)]
    });
    let mut exposed = Vec::new();
    for (key, path) in ceremony.into_iter().chain(replicas) {
        let path = real(path);
        let directories = permits.readable.iter().chain(&permits.writable);
        let around = directories.filter(|directory| path.starts_with(real(directory)));
        exposed.extend(around.map(|directory| (key, directory.clone())));
    }
    exposed
}

fn permits(config: &Config) -> Permits {
    let mut readable = vec![config.handoff.clone(), config.rules.clone()];
    // Where the keys of a bot's issuer are is said at run time: names, and who certifies them.
    let system = [SYSTEM, NAMES, AUTHORITIES].concat();
    readable.extend(system.into_iter().map(PathBuf::from));
    if let Some(directory) = &config.directory {
        readable.push(directory.password_file.clone());
        readable.extend(directory.ca_file.clone());
    }
    readable.extend(config.offline_crls.clone());
    let makers = config.attestation.iter().flat_map(|attestation| attestation.anchors.clone());
    readable.extend(makers);
    Permits {
        readable,
        writable: vec![config.state_directory.clone(), config.audit_directory.clone()],
        executable: Vec::new(),
        // To tell systemd that it is ready: by a path, or an abstract name.
        unix_sockets: true,
        network: true,
        neighbours: true,
    }
}

fn tell(report: &Report) {
    let enforced = report.enforced.join("; ");
    tracing::info!(enforced, "the part that serves is confined");
    for missing in &report.missing {
        tracing::warn!(missing, "the sandbox of the part that serves has a gap");
    }
}

/// Time zones, and what tells of this process and its processors.
const SYSTEM: &[&str] = &[
    "/dev/urandom",
    "/etc/localtime",
    "/proc/self",
    "/sys/devices/system/cpu",
    "/sys/fs/cgroup",
    "/usr/share/zoneinfo",
];

/// How names of hosts are resolved.
const NAMES: &[&str] = &[
    "/etc/gai.conf",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/resolv.conf",
    "/run/systemd/resolve",
];

/// The CA certificates of the system, where they are and where links to them lead.
const AUTHORITIES: &[&str] = &[
    "/etc/ca-certificates/extracted",
    "/etc/pki/ca-trust/extracted",
    "/etc/pki/tls/certs",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/etc/ssl/certs",
    "/usr/local/share/ca-certificates",
    "/usr/share/ca-certificates",
    "/var/lib/ca-certificates",
];

#[cfg(test)]
mod tests {
    use std::{fs::File, net::TcpListener, os::unix::net::UnixDatagram, process::Command, thread};

    use tempfile::TempDir;

    use super::*;
    use crate::config::Overrides;

    #[test]
    fn the_part_that_serves_reaches_its_own_files_and_neither_pin_nor_module() {
        let (place, config) = prepare("pin");
        let at = |name: &str| place.path().join(name);
        let confined = thread::spawn({
            let reads = ["module.so", "pin", "rules/roles.toml", "handoff/root.pem"].map(at);
            let writes = ["state/ledger", "audit/log", "rules/more.toml", "elsewhere"].map(at);
            move || {
                enter(&config).unwrap();
                let read = reads.map(|path| number(File::open(path)));
                let written = writes.map(|path| number(File::create(path)));
                let executed = number(Command::new("/bin/true").status());
                let sockets =
                    [number(TcpListener::bind("127.0.0.1:0")), number(UnixDatagram::unbound())];
                let authorities = rustls_native_certs::load_native_certs();
                (read, written, executed, sockets, authorities)
            }
        });
        let (read, written, executed, sockets, authorities) = confined.join().unwrap();
        assert_eq!(read, [libc::EACCES, libc::EACCES, 0, 0]);
        assert_eq!(written, [0, 0, libc::EACCES, libc::EACCES]);
        assert_eq!(executed, libc::EPERM);
        assert_eq!(sockets, [0, 0]);
        assert!(authorities.errors.is_empty(), "{:?}", authorities.errors);
        let outside = rustls_native_certs::load_native_certs().certs.len();
        assert_ne!(outside, 0, "the system has no CA certificates: install ca-certificates");
        assert_eq!(authorities.certs.len(), outside);
        assert!(Command::new("/bin/true").status().unwrap().success(), "others are not confined");
    }

    #[test]
    fn a_pin_in_a_directory_that_is_served_from_is_refused() {
        let (_place, config) = prepare("state/pin");
        let error = thread::spawn(move || enter(&config)).join().unwrap().unwrap_err();
        assert!(error.to_string().contains("token.pin_file lies in"), "{error}");
    }

    /// 0, or the number of the system's error.
    fn number<T>(outcome: io::Result<T>) -> i32 {
        outcome.map_or_else(|error| error.raw_os_error().unwrap(), |_| 0)
    }

    fn prepare(pin_file: &str) -> (TempDir, Config) {
        let place = tempfile::tempdir().unwrap();
        for directory in ["handoff", "rules", "state"] {
            fs::create_dir(place.path().join(directory)).unwrap();
        }
        for file in [pin_file, "module.so", "handoff/root.pem", "rules/roles.toml"] {
            fs::write(place.path().join(file), "text").unwrap();
        }
        let shipped = include_str!("../../hsm-config/softhsm2/chanceryd.toml");
        let path = place.path().join("chanceryd.toml");
        fs::write(&path, shipped).unwrap();
        let flags = Overrides {
            module: Some(place.path().join("module.so")),
            pin_file: Some(place.path().join(pin_file)),
            ..Overrides::default()
        };
        let config = Config::read(&path, flags, None).unwrap();
        (place, config)
    }
}
