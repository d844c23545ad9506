//! The appliance's own TLS certificate, and which clients may connect.

use std::{fmt, sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use aws_lc_rs::{
    encoding::{AsDer, PublicKeyX509Der},
    error::Unspecified,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair},
};
use jiff::{SignedDuration, Timestamp};
use pki::{clock::Clock, keys::PublicKey};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs as provider},
    server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier},
    sign::CertifiedKey,
    time_provider::TimeProvider,
};
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime, pem::PemObject,
};
use thiserror::Error;

use crate::{
    authority::{Authority, IssueError},
    config::Tls,
};

/// How long to wait after a renewal failed.
const RETRY: Duration = Duration::from_secs(20);

/// How often the clock is looked at: it may be set.
const LOOK: Duration = Duration::from_secs(30);

/// TLS cannot be stood up.
#[derive(Debug, Error)]
pub enum TlsError {
    /// No certificate for the appliance itself.
    #[error("the appliance got no TLS certificate of its own")]
    Issue(#[from] IssueError),
    /// A key could not be made.
    #[error("the cryptographic library failed to make a key")]
    Key(#[from] Unspecified),
    /// A client authority is not in the hand-off, or its certificate cannot be read.
    #[error("tls.client_authorities: {name}: {what}")]
    ClientAuthority {
        /// The authority.
        name: String,
        /// What is wrong.
        what: String,
    },
    /// The TLS library refuses the configuration.
    #[error(transparent)]
    Rustls(#[from] rustls::Error),
    /// The TLS library refuses the client authorities.
    #[error(transparent)]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

/// The appliance's own certificate. Its key is made here, is never written anywhere, and lasts as
/// long as the certificate.
pub(super) struct OwnCertificate {
    current: ArcSwapOption<Current>,
}

struct Current {
    certified: Arc<CertifiedKey>,
    not_before: Timestamp,
    not_after: Timestamp,
}

impl OwnCertificate {
    /// Makes a key and has it certified.
    pub(super) async fn issue(authority: &Authority, tls: &Tls) -> Result<Arc<Self>, TlsError> {
        let own = Self { current: ArcSwapOption::empty() };
        own.renew(authority, tls).await?;
        Ok(Arc::new(own))
    }

    /// Renews at half of the certificate's life, for ever. Connections that stand stay.
    pub(super) async fn keep_fresh(&self, authority: &Authority, tls: &Tls, clock: &dyn Clock) {
        loop {
            let due = self.due();
            while clock.now() < due {
                tokio::time::sleep(LOOK.min(until(clock.now(), due))).await;
            }
            while let Err(error) = self.renew(authority, tls).await {
                tracing::error!(
                    error = %crate::describe(&error),
                    "cannot renew the appliance's own TLS certificate; trying again"
                );
                tokio::time::sleep(RETRY).await;
            }
        }
    }

    /// The last second of the certificate's validity.
    pub(super) fn not_after(&self) -> Option<Timestamp> {
        self.current.load().as_ref().map(|current| current.not_after)
    }

    async fn renew(&self, authority: &Authority, tls: &Tls) -> Result<(), TlsError> {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING)?;
        let spki: PublicKeyX509Der<'_> = key.public_key().as_der()?;
        let public_key = PublicKey::from_spki_der(spki.as_ref()).map_err(|_| Unspecified)?;
        let names = (tls.dns_names.clone(), tls.addresses.clone());
        let released = authority.own_tls_certificate(public_key, names.0, names.1).await?;
        let chain = std::iter::once(released.bytes())
            .chain(authority.chain(released.issuer()).iter().map(Vec::as_slice))
            .map(|der| CertificateDer::from(der.to_vec()))
            .collect();
        let pkcs8 = key.to_pkcs8v1()?;
        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pkcs8.as_ref()));
        let certified = CertifiedKey::new(chain, provider::sign::any_ecdsa_type(&private)?);
        let summary = released.summary();
        tracing::info!(
            serial = %summary.serial,
            not_after = %summary.not_after,
            "the appliance has a TLS certificate of its own"
        );
        self.current.store(Some(Arc::new(Current {
            certified: Arc::new(certified),
            not_before: summary.not_before,
            not_after: summary.not_after,
        })));
        Ok(())
    }

    /// When the certificate is to be renewed.
    fn due(&self) -> Timestamp {
        let current = self.current.load();
        let Some(current) = current.as_ref() else { return Timestamp::MIN };
        let mut chance = [0];
        // Without randomness the renewal is merely on the dot.
        let _ = aws_lc_rs::rand::fill(&mut chance);
        renewal(current.not_before, current.not_after, chance[0])
    }
}

/// Half of the life, or by chance up to a tenth of it earlier, so that many appliances do not
/// renew at the same moment.
fn renewal(not_before: Timestamp, not_after: Timestamp, chance: u8) -> Timestamp {
    let life = not_before.duration_until(not_after);
    let early = life / 10 * i32::from(chance) / 256;
    not_before.saturating_add(life / 2 - early).unwrap_or(Timestamp::MIN)
}

impl ResolvesServerCert for OwnCertificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.current.load().as_ref().map(|current| current.certified.clone())
    }
}

impl fmt::Debug for OwnCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OwnCertificate(until {:?})", self.not_after())
    }
}

/// TLS 1.2 and 1.3 with a client certificate of one of the configured authorities, or with none:
/// whoever shows none is a stranger, and [`join`](super::join) is all that there is for strangers.
pub(super) fn server_config(
    authorities: &api::Authorities,
    tls: &Tls,
    own: Arc<OwnCertificate>,
    clock: Arc<dyn Clock>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(provider::default_provider());
    let anchors = Arc::new(client_anchors(authorities, &tls.client_authorities)?);
    let verifier = WebPkiClientVerifier::builder_with_provider(anchors, provider.clone())
        .allow_unauthenticated()
        .build()?;
    let mut config =
        builder(provider, clock)?.with_client_cert_verifier(verifier).with_cert_resolver(own);
    // A resumed session would skip the client's certificate, which may have expired since.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn builder(
    provider: Arc<CryptoProvider>,
    clock: Arc<dyn Clock>,
) -> Result<rustls::ConfigBuilder<ServerConfig, rustls::WantsVerifier>, rustls::Error> {
    ServerConfig::builder_with_details(provider, Arc::new(Time(clock)))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
}

/// The trust anchors are the issuing CAs themselves, not their root: a client certificate of
/// another CA below the same root is none of ours.
fn client_anchors(
    authorities: &api::Authorities,
    names: &[String],
) -> Result<RootCertStore, TlsError> {
    let mut anchors = RootCertStore::empty();
    for name in names {
        let bad = |what: String| TlsError::ClientAuthority { name: name.clone(), what };
        let pem = authorities
            .authorities
            .iter()
            .find_map(|authority| match authority {
                api::Authority::X509 { name: found, chain, .. } if found == name => chain.first(),
                _ => None,
            })
            .ok_or_else(|| bad("the hand-off has no such X.509 authority".to_owned()))?;
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes())
            .map_err(|error| bad(format!("its certificate cannot be read: {error}")))?;
        anchors.add(certificate).map_err(|error| bad(error.to_string()))?;
    }
    Ok(anchors)
}

/// Lets TLS see the same time as everything else.
struct Time(Arc<dyn Clock>);

impl TimeProvider for Time {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from(self.0.now().as_second()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Time({})", self.0.now())
    }
}

fn until(now: Timestamp, then: Timestamp) -> Duration {
    let left: SignedDuration = now.duration_until(then);
    Duration::try_from(left).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_renewed_between_two_fifths_and_half_of_its_life() {
        let not_before: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let not_after = not_before + SignedDuration::from_hours(100);
        let hours = |chance| {
            let due = renewal(not_before, not_after, chance);
            not_before.duration_until(due).as_hours()
        };
        assert_eq!((hours(0), hours(128), hours(255)), (50, 45, 40));
    }
}
