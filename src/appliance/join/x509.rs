//! A certificate of another CA, and a signature with its key.

use jiff::Timestamp;
use pki::x509::Certificate;
use rustls_pki_types::{CertificateDer, TrustAnchor};
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, Error, KeyUsage, anchor_from_trusted_cert};

use super::{BadMethod, Proven, Refusal, Signed, certificates, pattern::Pattern, unix_time};

/// The CAs whose certificates are a bot's, and what those must name.
pub(super) struct Authorities {
    anchors: Vec<Anchor>,
    identity: Identity,
}

struct Anchor {
    trust: TrustAnchor<'static>,
    not_after: Timestamp,
}

struct Identity {
    kind: Kind,
    pattern: Pattern,
}

#[derive(Clone, Copy)]
enum Kind {
    CommonName,
    Dns,
    Uri,
}

impl Authorities {
    pub(super) fn parse(authorities: &str, identity: &str) -> Result<Self, BadMethod> {
        let bad = |what: String| BadMethod::new("authorities", what);
        let certificates = certificates(authorities).map_err(bad)?;
        let anchors = certificates.iter().map(|der| Anchor::parse(der).map_err(bad));
        let anchors: Vec<_> = anchors.collect::<Result<_, _>>()?;
        Ok(Self { anchors, identity: Identity::parse(identity)? })
    }

    /// Who has not the key is not told whether the certificate would have been the right one.
    pub(super) fn verify(
        &self,
        pem: &str,
        signed: &Signed<'_>,
        now: Timestamp,
    ) -> Result<Proven, Refusal> {
        let malformed = |why: String| Refusal::Malformed { what: "certificate", why };
        let chain = certificates(pem).map_err(malformed)?;
        let (leaf, intermediates) =
            chain.split_first().ok_or_else(|| malformed("there is none".to_owned()))?;
        let certificate =
            Certificate::from_der(leaf).map_err(|error| malformed(crate::describe(&error)))?;
        self.verify_path(leaf, intermediates, now)?;
        let key = certificate.public_key();
        key.check_offered().map_err(|error| malformed(error.to_string()))?;
        signed.verify(key, "the key of the certificate")?;
        let name = self.identity.find(&certificate)?;
        let (issuer, serial) = (certificate.issuer(), hex::encode(certificate.serial()));
        Ok(Proven { who: format!("{name} by a certificate of {issuer:?}, {serial}"), once: None })
    }

    fn verify_path(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let refused = |error| Refusal::Certificate(in_words(error));
        // RFC 5280 leaves the validity of an anchor to whoever trusts it: it counts here.
        let living = self.anchors.iter().filter(|anchor| now <= anchor.not_after);
        let anchors: Vec<_> = living.map(|anchor| anchor.trust.clone()).collect();
        let leaf = EndEntityCert::try_from(leaf).map_err(refused)?;
        leaf.verify_for_usage(
            ALL_VERIFICATION_ALGS,
            &anchors,
            intermediates,
            unix_time(now),
            KeyUsage::client_auth(),
            None,
            None,
        )
        .map(drop)
        .map_err(refused)
    }
}

impl Anchor {
    fn parse(der: &CertificateDer<'_>) -> Result<Self, String> {
        let certificate = Certificate::from_der(der).map_err(|error| crate::describe(&error))?;
        let trust = anchor_from_trusted_cert(der).map_err(in_words)?.to_owned();
        Ok(Self { trust, not_after: certificate.not_after() })
    }
}

impl Identity {
    fn parse(text: &str) -> Result<Self, BadMethod> {
        let bad = |what: String| BadMethod::new("identity", what);
        let form = || bad(format!("{text:?} is none; write uri:…, dns:… or cn:…"));
        let (kind, pattern) = text.split_once(':').ok_or_else(form)?;
        let (kind, pattern) = match kind {
            "cn" => (Kind::CommonName, pattern.to_owned()),
            "dns" => (Kind::Dns, pattern.to_ascii_lowercase()),
            "uri" => (Kind::Uri, pattern.to_owned()),
            _ => return Err(form()),
        };
        let pattern = Pattern::parse(&pattern).map_err(bad)?;
        if !pattern.says_something() {
            let what = "everybody of these authorities would be the bot; write more than stars";
            return Err(bad(what.to_owned()));
        }
        Ok(Self { kind, pattern })
    }

    /// The name by which the certificate is the bot's.
    fn find(&self, certificate: &Certificate) -> Result<String, Refusal> {
        let (kind, names) = match self.kind {
            // Which of two a CA has looked at, nobody knows.
            Kind::CommonName => (
                "cn",
                match certificate.common_names() {
                    [one] => vec![one.clone()],
                    _ => Vec::new(),
                },
            ),
            Kind::Dns => {
                ("dns", certificate.dns_names().iter().filter_map(|name| one_host(name)).collect())
            }
            Kind::Uri => ("uri", certificate.uris().to_vec()),
        };
        match names.iter().find(|name| self.pattern.matches(name)) {
            Some(name) => Ok(format!("{kind}:{name}")),
            None if names.is_empty() => Err(Refusal::Identity(format!("nobody by one {kind}:"))),
            None => Err(Refusal::Identity(format!("{kind}:{}", names.join(&format!(", {kind}:"))))),
        }
    }
}

/// A name with a star is of many hosts, and so of none.
fn one_host(name: &str) -> Option<String> {
    (!name.contains('*')).then(|| name.to_ascii_lowercase())
}

fn in_words(error: Error) -> String {
    match error {
        Error::CertExpired { .. } => "it, or one above it, has expired".to_owned(),
        Error::CertNotValidYet { .. } => "it, or one above it, is not valid yet".to_owned(),
        Error::UnknownIssuer => {
            "its issuer is none of them; send the certificates between, too".to_owned()
        }
        Error::RequiredEkuNotFoundContext(_) => "it is not for TLS clients".to_owned(),
        other => format!("{other:?}"),
    }
}
