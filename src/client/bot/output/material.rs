//! What outputs have in common: a key made here and its certificate, the
//! authorities of those who are talked to, and text in files that other programs read.

use std::{collections::BTreeSet, fmt, net::IpAddr};

use api::{Authority, Issued, X509Request};
use pki::names::{DnsName, SpiffeId};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::{MakeError, Making};
use crate::{
    bot::bundle::{BundleFile, Life},
    local_key::LocalKey,
    pkcs12::{self, Password},
};

/// A key that was made here, and the X.509 certificate on it.
#[derive(Debug)]
pub(in crate::bot) struct Certified {
    pub(in crate::bot) key: LocalKey,
    pub(in crate::bot) issued: Issued,
}

/// The names that a certificate is asked for; what is absent is as the role has it.
#[derive(Clone, Debug, Default)]
pub(in crate::bot) struct Names {
    pub(in crate::bot) dns_names: BTreeSet<DnsName>,
    pub(in crate::bot) addresses: BTreeSet<IpAddr>,
    pub(in crate::bot) spiffe_id: Option<SpiffeId>,
}

impl Certified {
    /// Makes a key and has it certified.
    pub(in crate::bot) async fn new(making: &Making<'_>, names: Names) -> Result<Self, MakeError> {
        let key = LocalKey::generate()?;
        let request = X509Request {
            role: making.role.to_owned(),
            csr: key.signing_request()?,
            dns_names: names.dns_names,
            addresses: names.addresses,
            spiffe_id: names.spiffe_id,
            ttl: making.ttl,
            session: None,
        };
        let issued = making.client.issue_x509(&request).await?;
        Self { key, issued }.checked()
    }

    /// Refuses an answer to somebody else's request: key and certificate of a bundle always match.
    fn checked(self) -> Result<Self, MakeError> {
        match self.key.is_certified_by(&self.issued.certificate) {
            true => Ok(self),
            false => Err(MakeError::Unusable("the certificate is for another key".to_owned())),
        }
    }

    /// The private key as PKCS#8.
    pub(super) fn key_file(&self, name: &'static str) -> Result<BundleFile, MakeError> {
        let text = self.key.private_pem()?;
        Ok(BundleFile { name, contents: Zeroizing::new(text.as_bytes().to_vec()), secret: true })
    }

    /// The certificate, then those between it and the root: what TLS shows.
    pub(super) fn chain_file(&self, name: &'static str) -> BundleFile {
        let chain = self.issued.chain.iter();
        public(
            name,
            std::iter::once(&self.issued.certificate).chain(chain).map(|it| ended(it)).collect(),
        )
    }

    /// All of it in one file, under a password.
    pub(super) fn pkcs12_file(
        &self,
        name: &'static str,
        alias: &str,
        password: &Password,
    ) -> Result<BundleFile, MakeError> {
        let chain = self.issued.chain.iter();
        let certificates = std::iter::once(&self.issued.certificate).chain(chain).map(|pem| {
            CertificateDer::from_pem_slice(pem.as_bytes())
                .map(|it| it.to_vec())
                .map_err(|error| MakeError::Unusable(format!("a certificate is no PEM: {error}")))
        });
        let certificates = certificates.collect::<Result<Vec<_>, _>>()?;
        let contents = pkcs12::encode(&self.key.private_der()?, &certificates, alias, password)?;
        Ok(BundleFile { name, contents: Zeroizing::new(contents), secret: true })
    }

    /// From when to when it is good.
    pub(in crate::bot) fn life(&self) -> Life {
        life(&self.issued)
    }

    /// The roots of these X.509 authorities, each once; of the one that issued the certificate if
    /// none is named.
    pub(super) fn roots_file(
        &self,
        name: &'static str,
        making: &Making<'_>,
        authorities: &BTreeSet<String>,
    ) -> Result<BundleFile, MakeError> {
        Ok(public(name, self.roots(making, authorities)?))
    }

    /// As [`roots_file`](Self::roots_file), as text.
    pub(in crate::bot) fn roots(
        &self,
        making: &Making<'_>,
        authorities: &BTreeSet<String>,
    ) -> Result<String, MakeError> {
        let own = BTreeSet::from([self.issued.issuer.clone()]);
        let named = if authorities.is_empty() { &own } else { authorities };
        let roots = named.iter().map(|name| root(making, name).map(ended));
        Ok(roots.collect::<Result<BTreeSet<_>, _>>()?.into_iter().collect())
    }
}

/// From when to when what was issued is good.
pub(in crate::bot) fn life(issued: &Issued) -> Life {
    Life { not_before: issued.not_before, not_after: issued.not_after }
}

/// A file that anyone may read.
pub(super) fn public(name: &'static str, text: String) -> BundleFile {
    BundleFile { name, contents: Zeroizing::new(text.into_bytes()), secret: false }
}

/// Text with one line end.
pub(super) fn ended(text: &str) -> String {
    format!("{}\n", text.trim_end())
}

/// Where a file of the bundle will be found, as files say it that other programs read.
pub(super) fn path_of(making: &Making<'_>, name: &str) -> Result<Plain, MakeError> {
    let path = making.place.join(name).into_os_string();
    let text = path.into_string().map_err(|path| path.to_string_lossy().into_owned());
    text.and_then(Plain::try_from).map_err(|what| {
        MakeError::Settings(format!("the directory's name cannot stand in a file: {what}"))
    })
}

/// What can stand between quotation marks in a file that another program reads, whatever its
/// rules are: 1 to 1,000 characters, none of them a control character, `"`, `'`, `\` or `$`; no
/// space at either end.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd)]
#[serde(try_from = "String")]
pub(in crate::bot) struct Plain(String);

impl Plain {
    /// The text.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Plain {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let bad = |c: char| c.is_control() || matches!(c, '"' | '\'' | '\\' | '$');
        if !matches!(text.chars().count(), 1..=1_000) || text.contains(bad) || text.trim() != text {
            return Err(format!(
                "{text:?} is not 1 to 1,000 characters without control characters, quotation \
                 marks, backslashes, dollar signs, and spaces at its ends"
            ));
        }
        Ok(Self(text))
    }
}

impl fmt::Display for Plain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn root<'a>(making: &Making<'a>, wanted: &str) -> Result<&'a str, MakeError> {
    let x509 = || {
        making.authorities.authorities.iter().filter_map(|authority| match authority {
            Authority::X509 { name, chain, .. } => Some((name.as_str(), chain.last()?.as_str())),
            _ => None,
        })
    };
    let found = x509().find(|(name, _)| *name == wanted);
    found.map(|(_, root)| root).ok_or_else(|| {
        let names: Vec<_> = x509().map(|(name, _)| name).collect();
        no_authority("X.509", wanted, &names)
    })
}

/// Says which there are.
pub(super) fn no_authority(kind: &str, wanted: &str, names: &[&str]) -> MakeError {
    MakeError::Settings(match names {
        [] => format!("the appliance has no {kind} authority"),
        names => {
            format!("the appliance has no {kind} authority {wanted:?}; it has {}", names.join(", "))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_cannot_leave_its_quotation_marks() {
        for good in ["a", "/var/lib/a b/current/key", "100 %", "ä#;=[]"] {
            assert!(Plain::try_from(good.to_owned()).is_ok(), "{good}");
        }
        for bad in ["", " a", "a ", "a\nb", "a\"b", "a'b", "a\\b", "${a}", &"a".repeat(1_001)] {
            assert!(Plain::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }
}
