//! Key revocation lists of OpenSSH (PROTOCOL.krl).
//!
//! What is written here is a part of what the format allows: certificates by serial number and key
//! id, each under its CA; keys by SHA-256 fingerprint. There is no section for any CA (an empty CA
//! key), none with explicit keys, SHA-1 fingerprints, signatures or extensions: OpenSSH 9.2 takes a
//! file with one of the last two for broken, and then lets nobody in. Who signed a list stands
//! beside it ([`revocation`](crate::revocation)).
//!
//! The fingerprint section is always there and always last, and so is a section for each CA, though
//! nothing of it may be revoked. A file that was cut at the end of a section, or after its header,
//! is therefore no list of ours, while OpenSSH takes it for a shorter one.

mod read;
mod serials;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::{
    keys::PublicKey,
    krl::serials::Serials,
    serial::SshSerial,
    ssh::{self, wire::Writer},
};

/// What is revoked, for all SSH CAs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Krl {
    version: u64,
    /// In whole seconds.
    generated: Timestamp,
    /// By the wire form of the CA's key.
    authorities: BTreeMap<Vec<u8>, Authority>,
    /// SHA-256 of the wire form of keys.
    fingerprints: BTreeSet<[u8; 32]>,
}

/// What is revoked of the certificates of one CA.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Authority {
    serials: Serials,
    key_ids: BTreeSet<String>,
}

/// A list cannot be written or read.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum KrlError {
    /// A key id is not one that a certificate can have.
    #[error("{0:?} is no key id: one has 1 to 256 printable ASCII characters")]
    KeyId(String),
    /// It is not a list of the form that is written here.
    #[error("not a KRL of Chancery: {0}")]
    Malformed(&'static str),
    /// The list names no CA, so that it could not be told from an empty file.
    #[error("a KRL names each SSH CA, and there is none")]
    NoAuthority,
    /// It is longer than what is written or read here.
    #[error("a KRL of {0} bytes is too long; at most {max} are taken", max = Krl::MAX_LEN)]
    TooLong(usize),
}

impl Krl {
    /// The longest list that is written or read, in bytes: a million serial numbers at random
    /// places, or 60 million that stand close together.
    pub const MAX_LEN: usize = 8 * 1024 * 1024;

    /// A list of nothing. A fraction of a second is cut off its time.
    pub fn new(version: u64, generated: Timestamp) -> Self {
        Self {
            version,
            generated: whole_seconds(generated),
            authorities: BTreeMap::new(),
            fingerprints: BTreeSet::new(),
        }
    }

    /// Its version.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// When it was made, in whole seconds.
    pub fn generated(&self) -> Timestamp {
        self.generated
    }

    /// What is revoked of this CA's certificates, to be added to. Each SSH CA is to be named so,
    /// also while nothing of it is revoked.
    pub fn authority(&mut self, ca: &PublicKey) -> &mut Authority {
        self.authorities.entry(ca.openssh_blob()).or_default()
    }

    /// Revokes a key: it alone, every certificate for it, and, if it is a CA's, every certificate
    /// that it signed.
    pub fn revoke_key(&mut self, key: &PublicKey) {
        self.fingerprints.insert(fingerprint(key));
    }

    /// Whether sshd refuses the certificate by this list.
    pub fn revokes(&self, certificate: &ssh::Certificate) -> bool {
        let by_key = |key| self.fingerprints.contains(&fingerprint(key));
        let issuer = certificate.issuer();
        let authority = self.authorities.get(&issuer.openssh_blob());
        by_key(certificate.public_key())
            || by_key(issuer)
            || authority.is_some_and(|authority| {
                authority.revokes(certificate.serial(), certificate.key_id())
            })
    }

    /// The bytes of the file.
    ///
    /// # Errors
    ///
    /// No CA was named, or the list is too long.
    pub fn encode(&self) -> Result<Vec<u8>, KrlError> {
        if self.authorities.is_empty() {
            return Err(KrlError::NoAuthority);
        }
        let mut writer = Writer::with_capacity(4096);
        self.write_header(&mut writer);
        for (ca, authority) in &self.authorities {
            writer.u8(CERTIFICATES);
            writer.string_of(|writer| {
                writer.string(ca);
                writer.string(b""); // reserved
                authority.write(writer);
            });
        }
        writer.u8(FINGERPRINT_SHA256);
        writer.string_of(|writer| {
            self.fingerprints.iter().for_each(|fingerprint| writer.string(fingerprint));
        });
        let bytes = writer.into_bytes();
        if bytes.len() > Self::MAX_LEN {
            return Err(KrlError::TooLong(bytes.len()));
        }
        Ok(bytes)
    }

    /// Reads the bytes of a file, strictly: what [`encode`](Self::encode) never writes is refused,
    /// though OpenSSH may take it.
    ///
    /// # Errors
    ///
    /// [`KrlError::Malformed`] or [`KrlError::TooLong`]. An empty file, and one that was cut
    /// anywhere, are malformed.
    pub fn parse(bytes: &[u8]) -> Result<Self, KrlError> {
        if bytes.len() > Self::MAX_LEN {
            return Err(KrlError::TooLong(bytes.len()));
        }
        read::krl(bytes).map_err(KrlError::Malformed)
    }

    fn write_header(&self, writer: &mut Writer) {
        writer.raw(MAGIC);
        writer.u32(FORMAT_VERSION);
        writer.u64(self.version);
        // A time before 1970 is none that a clock of an appliance shows.
        writer.u64(u64::try_from(self.generated.as_second()).unwrap_or(0));
        writer.u64(0); // flags
        writer.string(b""); // reserved
        writer.string(COMMENT);
    }
}

impl Authority {
    /// Revokes certificates by serial number.
    pub fn revoke_serials(&mut self, serials: impl IntoIterator<Item = SshSerial>) {
        self.serials.extend(serials);
    }

    /// Revokes every certificate with this key id.
    ///
    /// # Errors
    ///
    /// No certificate has such a key id.
    pub fn revoke_key_id(&mut self, key_id: &str) -> Result<(), KrlError> {
        let known = ssh::printable(key_id.as_bytes(), KEY_ID_LENGTH);
        known.ok_or_else(|| KrlError::KeyId(key_id.to_owned()))?;
        self.key_ids.insert(key_id.to_owned());
        Ok(())
    }

    /// How many serial numbers are revoked.
    pub fn serials(&self) -> u64 {
        self.serials.count()
    }

    fn revokes(&self, serial: SshSerial, key_id: &str) -> bool {
        self.serials.contains(serial.get()) || self.key_ids.contains(key_id)
    }

    fn write(&self, writer: &mut Writer) {
        self.serials.write(writer);
        if !self.key_ids.is_empty() {
            writer.u8(CERT_KEY_ID);
            writer.string_of(|writer| {
                self.key_ids.iter().for_each(|key_id| writer.string(key_id.as_bytes()));
            });
        }
    }
}

/// OpenSSH hashes the plain key, also that of a certificate.
fn fingerprint(key: &PublicKey) -> [u8; 32] {
    Sha256::digest(key.openssh_blob()).into()
}

fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second().max(0)).unwrap_or(Timestamp::UNIX_EPOCH)
}

const MAGIC: &[u8; 8] = b"SSHKRL\n\0";
const FORMAT_VERSION: u32 = 1;
/// What `ssh-keygen -Ql` shows of where the list comes from.
const COMMENT: &[u8] = b"chancery";
const KEY_ID_LENGTH: std::ops::RangeInclusive<usize> = 1..=256;

// KRL_SECTION_… of PROTOCOL.krl.
const CERTIFICATES: u8 = 1;
const FINGERPRINT_SHA256: u8 = 5;
const CERT_SERIAL_LIST: u8 = 0x20;
const CERT_SERIAL_RANGE: u8 = 0x21;
const CERT_SERIAL_BITMAP: u8 = 0x22;
const CERT_KEY_ID: u8 = 0x23;

#[cfg(test)]
mod tests;
