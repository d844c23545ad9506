//! Where ssh would go to: its own configuration says.

use std::{ffi::OsString, path::PathBuf};

use api::{Authorities, Authority};
use pki::{
    keys::PublicKey,
    names::{DnsName, HostPattern},
    ssh::known_hosts_line,
};
use tokio::process::Command;

use super::system;
use crate::cli::failure::Failure;

/// A destination as ssh understands it, aliases of its configuration resolved.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Destination {
    host: String,
    port: u16,
    /// By which name its key is looked up instead.
    alias: Option<String>,
    /// The files of known hosts that ssh reads and never writes.
    pub(super) global_known_hosts: Vec<PathBuf>,
}

impl Destination {
    /// Asks `ssh -G`, which goes nowhere.
    pub(super) async fn ask_ssh(words: &[OsString]) -> Result<Self, Failure> {
        let output = Command::new("ssh").arg("-G").args(words).output().await;
        let output = output.map_err(system("start ssh"))?;
        let said = String::from_utf8_lossy(&output.stdout);
        match (output.status.success(), Self::parse(&said)) {
            (true, Some(destination)) => Ok(destination),
            _ => Err(Failure::Usage {
                what: format!(
                    "ssh does not take these arguments: {}",
                    String::from_utf8_lossy(&output.stderr).trim_end(),
                ),
                hint: Some(
                    "our own options come first, then those of ssh and the destination, as ssh(1) \
                     has them"
                        .to_owned(),
                ),
            }),
        }
    }

    /// What `ssh -G` says: a keyword in lower case and its value, a line each.
    fn parse(said: &str) -> Option<Self> {
        let value = |keyword: &str| {
            said.lines().find_map(|line| line.strip_prefix(keyword)?.strip_prefix(' '))
        };
        let files = value("globalknownhostsfile").unwrap_or_default();
        Some(Self {
            host: value("hostname")?.to_owned(),
            port: value("port")?.parse().ok()?,
            alias: value("hostkeyalias").filter(|it| *it != "none").map(str::to_owned),
            global_known_hosts: files.split_whitespace().map(PathBuf::from).collect(),
        })
    }

    /// The host as sessions name it.
    pub(super) fn target(&self) -> Result<DnsName, Failure> {
        self.host.to_ascii_lowercase().parse().map_err(|_| Failure::Usage {
            what: format!("ssh would go to {}, which is no name that a session knows", self.host),
            hint: Some("say --target HOST, with the name by which the host has joined".to_owned()),
        })
    }

    /// Lines for `known_hosts` that let the authorities for hosts certify this one, and no other.
    pub(super) fn known_hosts(&self, authorities: &Authorities) -> Result<String, Failure> {
        let mut lines = String::new();
        for authority in &authorities.authorities {
            let Authority::SshHost { name, public_key } = authority else { continue };
            let key = PublicKey::from_openssh(public_key).map_err(|error| Failure::Usage {
                what: format!("the key of {name}: {error}"),
                hint: Some("ask the operators of the appliance".to_owned()),
            })?;
            let (first, more) = self.patterns()?;
            lines.push_str(&known_hosts_line(&first, &more, &key, ""));
            lines.push('\n');
        }
        Ok(lines)
    }

    /// By what ssh looks the host up: its alias alone, or its name and, beside the usual port, its
    /// name with the port.
    fn patterns(&self) -> Result<(HostPattern, Vec<HostPattern>), Failure> {
        let pattern = |text: &str| {
            text.parse().map_err(|error: pki::names::NameError| Failure::Usage {
                what: error.to_string(),
                hint: Some("name the host otherwise".to_owned()),
            })
        };
        let name = self.alias.as_ref().unwrap_or(&self.host);
        let with_port = match (&self.alias, self.port) {
            (Some(_), _) | (None, 22) => Vec::new(),
            (None, port) => vec![pattern(&format!("[{name}]:{port}"))?],
        };
        Ok((pattern(name)?, with_port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn ssh_says_where_it_would_go() {
        let words = "-F none -p 2222 -o HostName=DB1.example -o User=alice db id -u";
        let words: Vec<OsString> = words.split(' ').map(Into::into).collect();
        let there = Destination::ask_ssh(&words).await.unwrap();
        assert_eq!((there.host.as_str(), there.port, &there.alias), ("db1.example", 2222, &None));
        assert_eq!(there.target().unwrap().as_str(), "db1.example");
        let known = there.known_hosts(&authorities()).unwrap();
        assert_eq!(known, format!("@cert-authority db1.example,[db1.example]:2222 {KEY}\n"));

        let words = ["-F", "none", "-o", "HostKeyAlias=db1", "192.0.2.7"].map(Into::into);
        let there = Destination::ask_ssh(&words).await.unwrap();
        assert!(there.target().is_err(), "an address is no name of a host");
        let known = there.known_hosts(&authorities()).unwrap();
        assert_eq!(known, format!("@cert-authority db1 {KEY}\n"));
        assert!(!there.global_known_hosts.is_empty());
    }

    #[tokio::test]
    async fn what_ssh_does_not_take_is_told() {
        for words in [vec![], vec!["-Z".into(), "db1".into()], vec!["-p".into(), "x".into()]] {
            assert!(Destination::ask_ssh(&words).await.is_err(), "{words:?}");
        }
    }

    fn authorities() -> Authorities {
        let hosts = Authority::SshHost { name: "hosts".to_owned(), public_key: KEY.to_owned() };
        let users = Authority::SshUser { name: "users".to_owned(), public_key: KEY.to_owned() };
        Authorities { authorities: vec![users, hosts] }
    }

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
}
