//! An X.509-SVID as files.

use std::collections::BTreeSet;

use pki::names::{DnsName, SpiffeId};
use serde::Deserialize;

use super::{
    MakeError, Making,
    material::{Certified, Names},
};
use crate::bot::bundle::Bundle;

/// `kind = "spiffe"`.
///
/// ```toml
/// spiffe_id = "spiffe://example/service/web"  # absent: the bot's own
/// dns_names = ["web.example"]                 # besides it
/// authorities = ["services"]                  # whose roots are in bundle.pem; absent: the issuer's
/// ```
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub(in crate::bot) struct Settings {
    /// The SPIFFE id; absent means the bot's own.
    #[serde(default)]
    spiffe_id: Option<SpiffeId>,
    /// DNS names besides it (X509-SVID section 2).
    #[serde(default)]
    dns_names: BTreeSet<DnsName>,
    /// The X.509 authorities of the trust domain; empty for the certificate's own.
    #[serde(default)]
    authorities: BTreeSet<String>,
}

/// A new key, its SVID with its chain, and the trust bundle.
pub(in crate::bot) async fn make(
    settings: &Settings,
    making: &Making<'_>,
) -> Result<Bundle, MakeError> {
    let names = Names {
        dns_names: settings.dns_names.clone(),
        addresses: BTreeSet::new(),
        spiffe_id: settings.spiffe_id.clone(),
    };
    let it = Certified::new(making, names).await?;
    let files = vec![
        it.key_file("svid.key")?,
        it.chain_file("svid.pem"),
        it.roots_file("bundle.pem", making, &settings.authorities)?,
    ];
    Ok(Bundle { files, life: it.life() })
}
