//! Certificate revocation lists (RFC 5280 section 5): complete lists of all that an issuer signed,
//! signed by the issuer itself.
//!
//! No issuing distribution point, as its criticality makes Samba refuse the list. No delta lists:
//! what is short-lived makes short lists, and a relying party that knows no deltas reads them all.

use der::{
    Decode, Encode, Sequence,
    asn1::AnyRef,
    pem::{self, LineEnding},
};
use jiff::Timestamp;
use x509_cert::{
    certificate::Version,
    crl::{CertificateList, RevokedCert},
    ext::{
        Extension,
        pkix::{CrlNumber, CrlReason},
    },
    serial_number::SerialNumber,
    time::Time,
};

use super::{Issuer, Standing, algorithm, extension, lint, oid, time};
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

/// Why a certificate was revoked (RFC 5280 section 5.3.1).
#[derive(
    Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, serde::Deserialize, serde::Serialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The subject is a CA, and somebody else has its key, or may have.
    CaCompromise,
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

impl Issuer {
    /// Takes up a list (DER) that this CA has signed; lints and verifies it as a new one, and gives
    /// what it was made of. Nothing for any other.
    pub fn recognise_crl(&self, crl_der: &[u8]) -> Option<Template> {
        let list = CertificateList::from_der(crl_der).ok()?;
        let template = template(&list.tbs_cert_list)?;
        let value = list.signature.as_bytes()?;
        let key = &self.key.key().public_key;
        let signature = algorithm::decode_signature(key.algorithm(), value)?;
        let sealed = self.prepare_crl(&template).ok()?.seal(signature).ok()?;
        // Built anew and sealed, it must be the same to the byte.
        (sealed.bytes() == crl_der).then_some(template)
    }
}

/// What a list was made of, if it is of the form that is made here.
fn template(list: &x509_cert::crl::TbsCertList) -> Option<Template> {
    let mut extensions = list.crl_extensions.iter().flatten();
    let number = extensions.find(|extension| extension.extn_id == oid::CRL_NUMBER)?;
    let number = CrlNumber::from_der(number.extn_value.as_bytes()).ok()?;
    let bytes = number.0.as_bytes();
    let mut octets = [0; 8];
    octets.get_mut(8_usize.checked_sub(bytes.len())?..)?.copy_from_slice(bytes);
    let revoked = list.revoked_certificates.iter().flatten().map(|entry| {
        let reason = entry.crl_entry_extensions.iter().flatten().next();
        let reason = match reason {
            Some(only) => Reason::of(CrlReason::from_der(only.extn_value.as_bytes()).ok()?)?,
            None => Reason::Unspecified,
        };
        Some(Revoked {
            serial: lint::sixteen_octets(entry.serial_number.as_bytes())?,
            at: time::decode(&entry.revocation_date)?,
            reason,
        })
    });
    Some(Template {
        number: u64::from_be_bytes(octets),
        this_update: time::decode(&list.this_update)?,
        next_update: time::decode(list.next_update.as_ref()?)?,
        revoked: revoked.collect::<Option<_>>()?,
    })
}

impl Reason {
    fn of(code: CrlReason) -> Option<Self> {
        let all = [
            Self::CaCompromise,
            Self::AffiliationChanged,
            Self::CessationOfOperation,
            Self::KeyCompromise,
            Self::PrivilegeWithdrawn,
            Self::Superseded,
        ];
        all.into_iter().find(|reason| reason.code() == Some(code))
    }

    pub(super) fn code(self) -> Option<CrlReason> {
        match self {
            Self::CaCompromise => Some(CrlReason::CaCompromise),
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

/// PEM (`X509 CRL`) of a list (DER).
pub fn to_pem(crl_der: &[u8]) -> String {
    // The encoder fails only on labels of its own kind and on lengths beyond the address space.
    pem::encode_string(PEM_LABEL, LineEnding::LF, crl_der).unwrap_or_default()
}

/// The DER in a PEM text of a list.
///
/// # Errors
///
/// It is none; says why.
pub fn from_pem(text: &str) -> Result<Vec<u8>, String> {
    super::from_pem(text, &[PEM_LABEL])
}

const PEM_LABEL: &str = "X509 CRL";

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
