//! Files for `ssh -F`: key, certificate, `ssh_config`, `known_hosts`.

use std::{collections::BTreeSet, fmt::Write as _};

use api::{Authority, SshUserRequest};
use pki::{
    keys::PublicKey,
    names::{HostPattern, Principal},
    ssh::known_hosts_line,
};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::{
    MakeError, Making,
    material::{self, Plain, ended, no_authority, path_of, public},
};
use crate::{
    bot::bundle::{Bundle, BundleFile},
    local_key::LocalSshKey,
};

/// `kind = "ssh"`.
///
/// ```toml
/// hosts = ["*.example"]               # which hosts the CA vouches for; * and ? match
/// user = "deploy"                     # the account; absent: as ssh is told
/// principals = ["deploy"]             # absent: all that the role gives
/// host_authorities = ["ssh-host"]     # absent: every SSH host authority of the appliance
/// ```
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub(in crate::bot) struct Settings {
    /// For which hosts the configuration and the authorities count.
    hosts: Hosts,
    /// The account on them.
    #[serde(default)]
    user: Option<Plain>,
    /// What the certificate names; empty for all that the role gives.
    #[serde(default)]
    principals: BTreeSet<Principal>,
    /// Whose host certificates are taken; empty for all of the appliance.
    #[serde(default)]
    host_authorities: BTreeSet<String>,
}

/// At least one pattern.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "Vec<HostPattern>")]
struct Hosts {
    first: HostPattern,
    more: Vec<HostPattern>,
}

impl TryFrom<Vec<HostPattern>> for Hosts {
    type Error = &'static str;

    fn try_from(mut patterns: Vec<HostPattern>) -> Result<Self, &'static str> {
        if patterns.is_empty() {
            return Err("hosts is empty; name those that the bot logs in to: [\"*.example\"]");
        }
        let first = patterns.remove(0);
        Ok(Self { first, more: patterns })
    }
}

/// A new key, its certificate, and what ssh needs to use both.
pub(in crate::bot) async fn make(
    settings: &Settings,
    making: &Making<'_>,
) -> Result<Bundle, MakeError> {
    let known_hosts = known_hosts(settings, making)?;
    let configuration = configuration(settings, making)?;
    let key = LocalSshKey::generate(making.bot.as_str())?;
    let public_key = key.public_line()?;
    let request = SshUserRequest {
        role: making.role.to_owned(),
        public_key: public_key.clone(),
        principals: settings.principals.clone(),
        ttl: making.ttl,
        session: None,
        source_addresses: BTreeSet::new(),
        force_command: None,
    };
    let issued = making.client.issue_ssh_user(&request).await?;
    if !key.is_certified_by(&issued.certificate) {
        return Err(MakeError::Unusable("the certificate is for another key".to_owned()));
    }
    let contents = Zeroizing::new(key.private_text()?.as_bytes().to_vec());
    Ok(Bundle {
        files: vec![
            BundleFile { name: KEY, contents, secret: true },
            public("key.pub", ended(&public_key)),
            public(CERTIFICATE, ended(&issued.certificate)),
            public(KNOWN_HOSTS, known_hosts),
            public("ssh_config", configuration),
        ],
        life: material::life(&issued),
    })
}

/// Lets the host authorities vouch for these hosts, and for no others.
fn known_hosts(settings: &Settings, making: &Making<'_>) -> Result<String, MakeError> {
    let authorities: Vec<_> = making
        .authorities
        .authorities
        .iter()
        .filter_map(|authority| match authority {
            Authority::SshHost { name, public_key } => Some((name.as_str(), public_key)),
            _ => None,
        })
        .collect();
    let names: Vec<_> = authorities.iter().map(|(name, _)| *name).collect();
    let missing = settings.host_authorities.iter().find(|name| !names.contains(&name.as_str()));
    if missing.is_some() || names.is_empty() {
        let missing = missing.map_or("", |name| name.as_str());
        return Err(no_authority("SSH host", missing, &names));
    }
    let mut text = String::new();
    for (name, public_key) in authorities {
        if settings.host_authorities.is_empty() || settings.host_authorities.contains(name) {
            let key = PublicKey::from_openssh(public_key)
                .map_err(|error| MakeError::Unusable(format!("the key of {name}: {error}")))?;
            let Hosts { first, more } = &settings.hosts;
            text += &ended(&known_hosts_line(first, more, &key, name));
        }
    }
    Ok(text)
}

/// For these hosts, this key is shown and no other, and nothing is asked: a bot cannot answer.
fn configuration(settings: &Settings, making: &Making<'_>) -> Result<String, MakeError> {
    let mut text = format!("Host {}", settings.hosts.first);
    for pattern in &settings.hosts.more {
        let _ = write!(text, " {pattern}");
    }
    text.push('\n');
    for (keyword, name) in [
        ("IdentityFile", KEY),
        ("CertificateFile", CERTIFICATE),
        ("UserKnownHostsFile", KNOWN_HOSTS),
    ] {
        // A percent sign begins a token (ssh_config(5), TOKENS).
        let path = path_of(making, name)?.as_str().replace('%', "%%");
        let _ = writeln!(text, "    {keyword} \"{path}\"");
    }
    if let Some(user) = &settings.user {
        let _ = writeln!(text, "    User \"{user}\"");
    }
    Ok(text + FIXED)
}

const KEY: &str = "key";

/// Where ssh(1) looks for the certificate of [`KEY`] by itself.
const CERTIFICATE: &str = "key-cert.pub";

const KNOWN_HOSTS: &str = "known_hosts";

const FIXED: &str = "    BatchMode yes
    IdentitiesOnly yes
    IdentityAgent none
    StrictHostKeyChecking yes
    UpdateHostKeys no
";
