//! Reads revocation lists, of any CA: what those who rely on them would see.

use der::{Decode, Encode};
use jiff::Timestamp;
use x509_cert::crl::CertificateList;

use super::{
    certificate::CertificateError,
    logon::{LogonCertificate, Signed, without_zeros},
    time,
};

/// A revocation list. Nothing of it is verified but by [`is_issued_by`](Self::is_issued_by).
#[derive(Clone, Debug)]
pub struct RevocationList {
    signed: Signed,
    /// The issuer's name, DER.
    issuer: Vec<u8>,
    /// When it was made.
    pub this_update: Timestamp,
    /// By when there is another one; without it, a list is of no use to Windows.
    pub next_update: Option<Timestamp>,
    /// Extensions that must be understood, in dotted numbers: Samba refuses a list with any.
    pub critical: Vec<String>,
    /// Serial numbers without leading zeros, and since when.
    revoked: Vec<(Vec<u8>, Timestamp)>,
}

impl RevocationList {
    /// The longest list that is looked at, in bytes of DER.
    pub const MAX_LEN: usize = 64 * 1024 * 1024;

    /// Reads DER.
    ///
    /// # Errors
    ///
    /// Too long, or not DER of a list.
    pub fn from_der(der: &[u8]) -> Result<Self, CertificateError> {
        if der.len() > Self::MAX_LEN {
            return Err(CertificateError::Malformed(format!("it has {} bytes", der.len())));
        }
        let list: CertificateList = CertificateList::from_der(der)?;
        let text = &list.tbs_cert_list;
        let extensions = text.crl_extensions.iter().flatten();
        let entries = text.revoked_certificates.iter().flatten();
        Ok(Self {
            signed: Signed::new(
                text.to_der()?,
                list.signature_algorithm.to_der()?,
                list.signature.as_bytes().unwrap_or_default(),
            ),
            issuer: text.issuer.to_der()?,
            this_update: time::clamped(&text.this_update),
            next_update: text.next_update.as_ref().map(time::clamped),
            critical: extensions
                .filter(|extension| extension.critical)
                .map(|extension| extension.extn_id.to_string())
                .collect(),
            revoked: entries
                .map(|entry| {
                    let serial = without_zeros(entry.serial_number.as_bytes());
                    (serial, time::clamped(&entry.revocation_date))
                })
                .collect(),
        })
    }

    /// Whether it is issued by the subject of this certificate: by name, and by signature.
    pub fn is_issued_by(&self, issuer: &LogonCertificate) -> bool {
        self.issuer == issuer.subject && issuer.key.as_ref().is_ok_and(|key| self.signed.by(key))
    }

    /// Since when a certificate of its issuer is revoked.
    pub fn revoked_since(&self, certificate: &LogonCertificate) -> Option<Timestamp> {
        let found = self.revoked.iter().find(|(serial, _)| *serial == certificate.serial);
        found.map(|(_, since)| *since)
    }

    /// How many certificates are on it.
    pub fn len(&self) -> usize {
        self.revoked.len()
    }

    /// Whether nothing is revoked.
    pub fn is_empty(&self) -> bool {
        self.revoked.is_empty()
    }
}
