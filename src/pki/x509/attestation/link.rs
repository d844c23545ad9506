//! A certificate of a path, as far as its neighbours and its dates are concerned.

use std::collections::BTreeSet;

use const_oid::ObjectIdentifier;
use der::Encode;
use jiff::Timestamp;
use x509_cert::{certificate::Version, ext::pkix::BasicConstraints};

use super::{super::*, AttestationError};
use crate::keys::KeyAlgorithm;

/// A certificate; what it says was read, and nothing verified.
#[derive(Clone, Debug)]
pub(super) struct Link {
    /// The bytes that were signed.
    text: Vec<u8>,
    /// How: an AlgorithmIdentifier, DER.
    algorithm: Vec<u8>,
    signature: Vec<u8>,
    /// Names are DER: that of an issuer is, to the byte, the subject of its certificate.
    pub(super) issuer: Vec<u8>,
    pub(super) issuer_text: String,
    pub(super) subject: Vec<u8>,
    pub(super) subject_text: String,
    pub(super) public_key: PublicKey,
    /// Of a CA, how many CAs may follow below it.
    pub(super) authority: Option<PathLen>,
    pub(super) dates: Dates,
    extensions: Vec<(ObjectIdentifier, Vec<u8>)>,
}

/// How many CAs may follow below one; any number if it does not say.
pub(super) type PathLen = Option<u8>;

/// When a certificate is valid.
#[derive(Clone, Debug)]
pub(super) struct Dates {
    subject: String,
    not_before: Timestamp,
    not_after: Timestamp,
}

impl Link {
    /// The longest certificate that is looked at, in bytes of DER: an object of a YubiKey has no room
    /// for more than 3 KiB.
    pub(super) const MAX_LEN: usize = 8 * 1024;

    pub(super) fn read(der: &[u8]) -> Result<Self, String> {
        if der.len() > Self::MAX_LEN {
            return Err(too_long(der.len()));
        }
        let certificate = read_strictly(der).map_err(|error| error.to_string())?;
        let not_der = |error: der::Error| error.to_string();
        let tbs = certificate.tbs_certificate();
        if tbs.version() != Version::V3 {
            return Err("it is no X.509 certificate of version 3".to_owned());
        }
        let algorithm = certificate.signature_algorithm();
        if algorithm != tbs.signature() {
            // RFC 5280 section 4.1.1.2.
            return Err("it names two signature algorithms".to_owned());
        }
        let spki = tbs.subject_public_key_info().to_der().map_err(not_der)?;
        let subject_text = tbs.subject().to_string();
        Ok(Self {
            text: tbs.to_der().map_err(not_der)?,
            algorithm: algorithm.to_der().map_err(not_der)?,
            signature: certificate.signature().as_bytes().unwrap_or_default().to_vec(),
            issuer: tbs.issuer().to_der().map_err(not_der)?,
            issuer_text: tbs.issuer().to_string(),
            subject: tbs.subject().to_der().map_err(not_der)?,
            public_key: PublicKey::from_spki_der(&spki).map_err(|error| error.to_string())?,
            authority: authority(tbs)?,
            dates: Dates {
                subject: subject_text.clone(),
                not_before: time::clamped(&tbs.validity().not_before),
                not_after: time::clamped(&tbs.validity().not_after),
            },
            extensions: extensions(tbs)?,
            subject_text,
        })
    }

    /// The value of an extension.
    pub(super) fn extension(&self, wanted: ObjectIdentifier) -> Option<&[u8]> {
        let found = self.extensions.iter().find(|(extension, _)| *extension == wanted);
        found.map(|(_, value)| value.as_slice())
    }

    pub(super) fn is_signed_by(&self, key: &PublicKey) -> bool {
        // With a P-384 key, YubiKeys sign so too.
        if key.algorithm() == KeyAlgorithm::EcP384 && self.algorithm == algorithm::ECDSA_SHA256 {
            return key.verify_p384_sha256(&self.text, &self.signature).is_ok();
        }
        let signature = algorithm::decode_signature(key.algorithm(), &self.signature);
        let scheme = algorithm::scheme(&self.algorithm);
        scheme
            .zip(signature)
            .is_some_and(|(scheme, signature)| key.verify(scheme, &self.text, &signature).is_ok())
    }
}

impl Dates {
    pub(super) fn check(&self, now: Timestamp) -> Result<(), AttestationError> {
        let subject = || self.subject.clone();
        if now < self.not_before {
            return Err(AttestationError::NotYetValid { subject: subject() });
        }
        if now > self.not_after {
            return Err(AttestationError::Expired { subject: subject() });
        }
        Ok(())
    }
}

pub(super) fn too_long(len: usize) -> String {
    format!("it has {len} bytes; {} of DER are allowed", Link::MAX_LEN)
}

/// Whether it is a CA's: it says CA:TRUE, and its key usage, if there is one, says keyCertSign.
fn authority(tbs: &x509_cert::TbsCertificate) -> Result<Option<PathLen>, String> {
    let malformed = |error: der::Error| error.to_string();
    let constraints = tbs.get_extension::<BasicConstraints>().map_err(malformed)?;
    let usage = tbs.get_extension::<KeyUsage>().map_err(malformed)?;
    Ok(match (constraints, usage) {
        (_, Some((_, usage))) if !usage.key_cert_sign() => None,
        (Some((_, BasicConstraints { ca: true, path_len_constraint })), _) => {
            Some(path_len_constraint)
        }
        _ => None,
    })
}

/// No extension is there twice (RFC 5280 section 4.2), and none is critical but those that are read.
fn extensions(tbs: &x509_cert::TbsCertificate) -> Result<Vec<(ObjectIdentifier, Vec<u8>)>, String> {
    let mut seen = BTreeSet::new();
    let mut extensions = Vec::new();
    for extension in tbs.extensions().into_iter().flatten() {
        let name = extension.extn_id;
        if !seen.insert(name) {
            return Err(format!("extension {name} is there twice"));
        }
        if extension.critical && ![oid::BASIC_CONSTRAINTS, oid::KEY_USAGE].contains(&name) {
            return Err(format!("extension {name} is critical and not known here"));
        }
        extensions.push((name, extension.extn_value.as_bytes().to_vec()));
    }
    Ok(extensions)
}
