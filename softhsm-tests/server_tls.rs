//! What servers of the stories show to their clients, and whose clients they take.

use std::{fs, path::PathBuf};

use crate::{
    bot::Bot,
    failure::{Doing, Failure},
    office::Office,
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
    /// The files of a new bot for a server on `localhost`; it has made them.
    ///
    /// # Errors
    ///
    /// The appliance does not take the bot, or `role` does not give it the certificate.
    pub fn of_bot(office: &Office, name: &str, role: &str) -> Result<Self, Failure> {
        let output = format!(
            "[[output]]\nname = \"server\"\nkind = \"tls\"\nrole = \"{role}\"\n\
             directory = \"{{at}}/tls\"\ndns_names = [\"localhost\"]\n"
        );
        let bot = Bot::add(office, name, &["--role", role], &output)?;
        bot.run_once()?.success()?;
        let file = |name| bot.path("tls/current").join(name);
        Ok(Self { certificate: file("tls.crt"), key: file("tls.key"), client_ca: file("ca.crt") })
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
