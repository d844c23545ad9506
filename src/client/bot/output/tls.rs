//! Files for TLS, of a client or a server: PEM, and PKCS#12 if asked for.

use std::{
    collections::BTreeSet,
    net::IpAddr,
    path::{Path, PathBuf},
};

use pki::{
    names::{DnsName, SpiffeId},
    secret::Secret,
};
use serde::Deserialize;

use super::{
    MakeError, Making,
    material::{Certified, Names},
};
use crate::{bot::bundle::Bundle, pkcs12::Password};

/// `kind = "tls"`.
///
/// ```toml
/// dns_names = ["www.example"]         # as far as the role allows
/// addresses = ["192.0.2.7"]
/// spiffe_id = "spiffe://example/bot/web"
/// authorities = ["services"]          # whose roots are in ca.crt; absent: the issuer's
/// pkcs12_password_file = "/etc/chancery/web.password"    # makes tls.p12, too
/// ```
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub(in crate::bot) struct Settings {
    /// DNS names that the certificate is to have.
    #[serde(default)]
    dns_names: BTreeSet<DnsName>,
    /// Addresses that it is to have.
    #[serde(default)]
    addresses: BTreeSet<IpAddr>,
    /// The SPIFFE id; absent means the bot's own, for a client.
    #[serde(default)]
    spiffe_id: Option<SpiffeId>,
    /// The X.509 authorities of those who are talked to; empty for the certificate's own.
    #[serde(default)]
    authorities: BTreeSet<String>,
    /// A file with the password of `tls.p12`; without it there is none.
    #[serde(default)]
    pkcs12_password_file: Option<PathBuf>,
}

/// A new key, its certificate with its chain, and the roots of the other side.
pub(in crate::bot) async fn make(
    settings: &Settings,
    making: &Making<'_>,
) -> Result<Bundle, MakeError> {
    let names = Names {
        dns_names: settings.dns_names.clone(),
        addresses: settings.addresses.clone(),
        spiffe_id: settings.spiffe_id.clone(),
    };
    let password = settings.pkcs12_password_file.as_deref().map(password).transpose()?;
    let it = Certified::new(making, names).await?;
    let mut files = vec![
        it.key_file("tls.key")?,
        it.chain_file("tls.crt"),
        it.roots_file("ca.crt", making, &settings.authorities)?,
    ];
    if let Some(password) = password {
        files.push(it.pkcs12_file("tls.p12", making.bot.as_str(), &password)?);
    }
    Ok(Bundle { files, life: it.life() })
}

/// Read before anything is asked for, so that a wrong file costs no certificate.
fn password(path: &Path) -> Result<Password, MakeError> {
    let secret = Secret::from_file(path).map_err(|error| error.to_string());
    let password = secret.and_then(|secret| Password::new(secret).map_err(str::to_owned));
    password.map_err(|what| {
        MakeError::Settings(format!("pkcs12_password_file = {}: {what}", path.display()))
    })
}
