//! Certificate revocation lists (RFC 5280 section 5): complete lists of all that an issuer signed,
//! signed by the issuer itself.
//!
//! No issuing distribution point, as its criticality makes Samba refuse the list. No delta lists:
//! what is short-lived makes short lists, and a relying party that knows no deltas reads them all.

use der::{Decode, Encode, Sequence, asn1::AnyRef};
use jiff::Timestamp;
use x509_cert::{
    certificate::Version,
    crl::RevokedCert,
    ext::{Extension, pkix::CrlReason},
    serial_number::SerialNumber,
    time::Time,
};

use super::{Issuer, Standing, algorithm, extension, lint, time};
use crate::{
    seal::{Envelope, Prepared},
    serial::X509Serial,
};

/// A list to be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Template {
    /// Grows with each list of an issuer.
    pub number: u64,
    /// When it is made; a fraction of a second is cut off.
    pub this_update: Timestamp,
    /// By when there will be another one. Relying parties refuse the list after it.
    pub next_update: Timestamp,
    /// What is revoked and not expired, in any order.
    pub revoked: Vec<Revoked>,
}

/// A revoked certificate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Revoked {
    /// Its serial number.
    pub serial: X509Serial,
    /// Since when. A time after that of the list is written as the time of the list.
    pub at: Timestamp,
    /// Why.
    pub reason: Reason,
}

/// Why a certificate was revoked (RFC 5280 section 5.3.1): what an end entity's can be revoked for.
#[derive(
    Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, serde::Deserialize, serde::Serialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The subject's name or other information has changed.
    AffiliationChanged,
    /// It is no longer needed.
    CessationOfOperation,
    /// Somebody else has the key, or may have.
    KeyCompromise,
    /// What it allowed is no longer allowed.
    PrivilegeWithdrawn,
    /// Another has taken its place.
    Superseded,
    /// Not said; is not written.
    Unspecified,
}

/// What a list says of itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Summary {
    /// Its number.
    pub number: u64,
    /// When it was made, in whole seconds.
    pub this_update: Timestamp,
    /// The last second for which it is good.
    pub next_update: Timestamp,
    /// How many certificates are on it.
    pub revoked: usize,
}

impl Issuer {
    /// Builds the to-be-signed bytes of a list and lints them.
    ///
    /// # Errors
    ///
    /// The template breaks a rule, or this is no CA that signs lists; nothing may be signed.
    pub fn prepare_crl(&self, template: &Template) -> Result<Prepared<Summary>, lint::Findings> {
        let bytes = to_be_signed(self, template)
            .map_err(|error| lint::Findings::of("template-encodable", error.to_string()))?;
        let summary = lint::check_crl(&bytes, self, template)?;
        Ok(Prepared::new(self.key.clone(), self.scheme, bytes, Envelope::Asn1, summary))
    }
}

impl Reason {
    pub(super) fn code(self) -> Option<CrlReason> {
        match self {
            Self::AffiliationChanged => Some(CrlReason::AffiliationChanged),
            Self::CessationOfOperation => Some(CrlReason::CessationOfOperation),
            Self::KeyCompromise => Some(CrlReason::KeyCompromise),
            Self::PrivilegeWithdrawn => Some(CrlReason::PrivilegeWithdrawn),
            Self::Superseded => Some(CrlReason::Superseded),
            Self::Unspecified => None,
        }
    }
}

impl Template {
    /// The revocations as the list has them: in the order of their serial numbers, in whole
    /// seconds, none later than the list.
    pub(super) fn entries(&self) -> Vec<Revoked> {
        let mut entries = self.revoked.clone();
        entries.sort_unstable_by_key(|revoked| revoked.serial);
        for revoked in &mut entries {
            revoked.at = revoked.at.min(self.this_update);
        }
        entries
    }
}

/// RFC 5280 section 5.1.2, of the parts that are encoded already.
#[derive(Sequence)]
struct TbsCertList<'a> {
    version: Version,
    signature: AnyRef<'a>,
    issuer: AnyRef<'a>,
    this_update: Time,
    next_update: Time,
    /// An empty list is absent (RFC 5280 section 5.1.2.6).
    revoked_certificates: Option<Vec<RevokedCert>>,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT")]
    crl_extensions: Vec<Extension>,
}

fn to_be_signed(issuer: &Issuer, template: &Template) -> der::Result<Vec<u8>> {
    let entries = template.entries();
    let entries = entries.iter().map(entry).collect::<der::Result<Vec<_>>>()?;
    TbsCertList {
        version: Version::V2,
        signature: AnyRef::from_der(algorithm::identifier(issuer.scheme))?,
        issuer: AnyRef::from_der(&issuer.name)?,
        this_update: time::encode(template.this_update)?,
        next_update: time::encode(template.next_update)?,
        revoked_certificates: (!entries.is_empty()).then_some(entries),
        crl_extensions: extensions(issuer, template.number)?,
    }
    .to_der()
}

fn extensions(issuer: &Issuer, number: u64) -> der::Result<Vec<Extension>> {
    let mut extensions = Vec::with_capacity(2);
    if let Standing::Certified { key_identifier, .. } = &issuer.standing {
        extensions.push(extension::authority_key_identifier(key_identifier)?);
    }
    extensions.push(extension::crl_number(number)?);
    Ok(extensions)
}

fn entry(revoked: &Revoked) -> der::Result<RevokedCert> {
    let reason = revoked.reason.code().map(extension::crl_reason).transpose()?;
    Ok(RevokedCert {
        serial_number: SerialNumber::new(revoked.serial.as_bytes())?,
        revocation_date: time::encode(revoked.at)?,
        crl_entry_extensions: reason.map(|reason| vec![reason]),
    })
}
