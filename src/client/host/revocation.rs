//! What is taken back, as this host knows it, and what follows for the file that sshd reads.

use api::{HostMode, RevocationBundle};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use pki::{
    keys::PublicKey,
    krl::{Krl, KrlError},
    revocation::{Bundle, RevocationError, Statement},
    ssh::Certificate,
};
use thiserror::Error;

/// The last bundle that was taken, and what its age means here.
#[derive(Clone, Debug)]
pub(super) struct Revocations {
    mode: HostMode,
    publication_key: PublicKey,
    taken: Option<Taken>,
}

/// A bundle whose signature, version and content were verified.
#[derive(Clone, Debug)]
struct Taken {
    statement: Statement,
    krl: Krl,
    /// The KRL as it was sent: what is installed, to the byte.
    bytes: Vec<u8>,
    /// As it was sent: what is stored.
    bundle: RevocationBundle,
}

/// Why nobody is let in by a certificate.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub(super) enum Closed {
    /// Nothing was heard of the appliance yet.
    #[error("there were no revocations from the appliance yet")]
    Ignorant,
    /// The last news are too old for a strict host.
    #[error("the last revocations were good until {0}, and this host is strict")]
    Stale(Timestamp),
}

/// A bundle cannot be taken.
#[derive(Debug, Error)]
pub(super) enum BundleError {
    #[error("the bundle is not base64")]
    Encoding(#[from] base64::DecodeError),
    #[error("the bundle is refused")]
    Refused(#[from] RevocationError),
}

impl Revocations {
    pub(super) fn new(mode: HostMode, publication_key: PublicKey) -> Self {
        Self { mode, publication_key, taken: None }
    }

    /// Takes a bundle that is properly signed and not older than the last one.
    ///
    /// Its age is no reason to refuse it: even a late list knows more than none, and
    /// [`closed`](Self::closed) says what a strict host does then.
    pub(super) fn take(&mut self, bundle: RevocationBundle) -> Result<(), BundleError> {
        let signed = Bundle {
            statement: bundle.statement.clone(),
            signature: STANDARD.decode(&bundle.signature)?,
            krl: STANDARD.decode(&bundle.krl)?,
        };
        let at_least = self.version().unwrap_or_default();
        let verified = signed.verify(&self.publication_key, at_least)?;
        let (statement, krl) = (verified.statement, verified.krl);
        self.taken = Some(Taken { statement, krl, bytes: signed.krl, bundle });
        Ok(())
    }

    /// The version that is known.
    pub(super) fn version(&self) -> Option<u64> {
        self.taken.as_ref().map(|it| it.statement.version())
    }

    /// Until when it is good.
    pub(super) fn not_after(&self) -> Option<Timestamp> {
        self.taken.as_ref().map(|it| it.statement.not_after())
    }

    /// The bundle as it was sent.
    pub(super) fn bundle(&self) -> Option<&RevocationBundle> {
        self.taken.as_ref().map(|it| &it.bundle)
    }

    /// Whether anybody is let in by a certificate at all.
    pub(super) fn closed(&self, now: Timestamp) -> Option<Closed> {
        let Some(taken) = &self.taken else { return Some(Closed::Ignorant) };
        let stale = taken.statement.is_stale(now) && self.mode == HostMode::Strict;
        stale.then(|| Closed::Stale(taken.statement.not_after()))
    }

    /// Whether this certificate was taken back.
    pub(super) fn revokes(&self, certificate: &Certificate) -> bool {
        self.taken.as_ref().is_some_and(|it| it.krl.revokes(certificate))
    }

    /// The file that `RevokedKeys` names: the KRL as it was signed, or, when closed, one that lists
    /// the CAs themselves, so that sshd refuses all that they ever signed.
    pub(super) fn file<'a>(
        &'a self,
        authorities: impl Iterator<Item = &'a PublicKey>,
        now: Timestamp,
    ) -> Result<Vec<u8>, KrlError> {
        match (&self.taken, self.closed(now)) {
            (Some(taken), None) => Ok(taken.bytes.clone()),
            _ => self.closing(authorities).encode(),
        }
    }

    fn closing<'a>(&'a self, authorities: impl Iterator<Item = &'a PublicKey>) -> Krl {
        let mut krl = Krl::new(0, Timestamp::UNIX_EPOCH);
        // A list of nothing looks to sshd like no list: before any CA is known, it is of a key that
        // signs no certificates.
        for key in std::iter::once(&self.publication_key).chain(authorities) {
            krl.authority(key);
            krl.revoke_key(key);
        }
        krl
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use pki::{
        keys::KeyAlgorithm,
        token::{Input, KeyId, KeyStore as _, PublicationKey, Token as _, software::SoftwareToken},
    };

    use super::*;

    /// Signs bundles, and has a CA.
    struct Office {
        token: SoftwareToken,
        key: PublicationKey,
        ca: PublicKey,
    }

    impl Office {
        fn new() -> Self {
            let mut token = SoftwareToken::default();
            let mut make = |label: &str, id| {
                let (label, id) = (label.parse().unwrap(), KeyId::new(&[id]).unwrap());
                token.generate(KeyAlgorithm::EcP256, &label, &id).unwrap().key
            };
            let key = PublicationKey::new(make("publication/log", 1)).unwrap();
            let ca = make("issuing/ca", 2).public_key;
            Self { token, key, ca }
        }

        fn host(&self, mode: HostMode) -> Revocations {
            Revocations::new(mode, self.key.key().public_key.clone())
        }

        fn bundle(&mut self, version: u64, not_after: Timestamp) -> RevocationBundle {
            let issued = not_after - SignedDuration::from_mins(15);
            let mut krl = Krl::new(version, issued);
            krl.authority(&self.ca).revoke_serials([7.try_into().unwrap()]);
            let krl = krl.encode().unwrap();
            let statement = Statement::of(&krl, issued, not_after).unwrap();
            let prepared = statement.prepare(&self.key);
            let (key, scheme) = (self.key.key().clone(), prepared.scheme());
            let signature = self.token.sign(&key, scheme, Input::Message(prepared.bytes()));
            let sealed = prepared.seal(signature.unwrap()).unwrap();
            let bundle = Bundle::new(&sealed, krl).unwrap();
            RevocationBundle {
                statement: bundle.statement,
                signature: STANDARD.encode(bundle.signature),
                krl: STANDARD.encode(bundle.krl),
            }
        }
    }

    #[test]
    fn what_is_forged_or_older_is_refused_and_changes_nothing() {
        let mut office = Office::new();
        let not_after: Timestamp = "2026-11-22T03:15:00Z".parse().unwrap();
        let mut host = office.host(HostMode::Strict);
        host.take(office.bundle(5, not_after)).unwrap();
        let forged = Office::new().bundle(6, not_after);
        let older = office.bundle(4, not_after);
        let mut other_krl = office.bundle(6, not_after);
        other_krl.krl = older.krl.clone();
        let mut garbage = office.bundle(6, not_after);
        garbage.krl = "%".to_owned();
        let [signature, old, another] =
            [forged, older, other_krl].map(|it| host.take(it).unwrap_err());
        assert!(matches!(signature, BundleError::Refused(RevocationError::Signature)));
        assert!(matches!(old, BundleError::Refused(RevocationError::Old { .. })));
        assert!(matches!(another, BundleError::Refused(RevocationError::AnotherKrl)));
        assert!(matches!(host.take(garbage), Err(BundleError::Encoding(_))));
        assert_eq!((host.version(), host.not_after()), (Some(5), Some(not_after)));
    }

    #[test]
    fn what_is_late_closes_a_strict_host_alone_and_ignorance_each() {
        let mut office = Office::new();
        let not_after: Timestamp = "2026-11-22T03:15:00Z".parse().unwrap();
        let (in_time, late) = (not_after, not_after + SignedDuration::from_secs(1));
        for mode in [HostMode::BestEffort, HostMode::Strict] {
            let mut host = office.host(mode);
            assert_eq!(host.closed(in_time), Some(Closed::Ignorant));
            let closed = host.file([&office.ca].into_iter(), in_time).unwrap();
            assert!(Krl::parse(&closed).is_ok());

            let bundle = office.bundle(1, not_after);
            let krl = STANDARD.decode(&bundle.krl).unwrap();
            host.take(bundle).unwrap();
            assert_eq!(host.closed(in_time), None);
            assert_eq!(host.file([&office.ca].into_iter(), in_time).unwrap(), krl);
            let (when_late, file) = match mode {
                HostMode::BestEffort => (None, krl),
                HostMode::Strict => (Some(Closed::Stale(not_after)), closed),
            };
            assert_eq!(host.closed(late), when_late);
            assert_eq!(host.file([&office.ca].into_iter(), late).unwrap(), file);
            // Without any CA it is still no empty list.
            assert!(!host.file(std::iter::empty(), late).unwrap().is_empty());

            host.take(office.bundle(2, late)).unwrap();
            assert_eq!(host.closed(late), None);
        }
    }
}
