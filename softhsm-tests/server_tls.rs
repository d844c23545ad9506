//! What servers of the stories show to their clients, and whose clients they take.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{
    failure::{Doing, Failure},
    unprivileged::Home,
};

/// PEM files of a server that asks each client for a certificate.
#[derive(Clone, Debug)]
pub struct ServerTls {
    /// The server's certificate, with its chain.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The root that clients' certificates lead to.
    pub client_ca: PathBuf,
}

impl ServerTls {
    /// The files of a bot's output of kind `tls`.
    pub fn of_output(directory: &Path) -> Self {
        Self {
            certificate: directory.join("tls.crt"),
            key: directory.join("tls.key"),
            client_ca: directory.join("ca.crt"),
        }
    }

    /// Puts them where a peer has its files, as `server.crt`, `server.key` and `ca.crt`.
    pub(crate) fn install(&self, home: &Home) -> Result<(), Failure> {
        for (name, from) in [
            ("server.crt", &self.certificate),
            ("server.key", &self.key),
            ("ca.crt", &self.client_ca),
        ] {
            home.put(name, &fs::read(from).doing(format_args!("read {}", from.display()))?)?;
        }
        Ok(())
    }
}
