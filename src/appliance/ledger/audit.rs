//! The audit log: exact bytes in a hash chain, so that no entry can be changed, removed or moved.

use std::{collections::BTreeSet, fmt::Write as _};

use api::{CardKey, LockTarget, LogonAccount};
use jiff::Timestamp;
use pki::{
    names::DnsName,
    seal::{Kind, Summary},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::Event;
use crate::directory;

/// The end of a chain: how many entries it has, and the hash that covers them all.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Head {
    /// The sequence number of the last entry; 0 when there is none.
    pub seq: u64,
    /// `SHA-256("chancery-audit-v1\0" || hash before || length as 8 bytes, big endian || entry)`;
    /// 32 zero bytes when there is none.
    pub hash: [u8; 32],
}

impl Head {
    /// The head after one more entry (its exact bytes, without a line end).
    #[must_use]
    pub fn then(&self, entry: &[u8]) -> Self {
        let mut hash = Sha256::new_with_prefix(DOMAIN);
        hash.update(self.hash);
        hash.update((entry.len() as u64).to_be_bytes());
        hash.update(entry);
        Self { seq: self.seq + 1, hash: hash.finalize().into() }
    }
}

/// The first entry of a chain that is not what was written.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("audit entry {seq}: {what}")]
pub struct BrokenChain {
    /// The sequence number that the entry should have.
    pub seq: u64,
    /// What is wrong with it.
    pub what: &'static str,
}

/// Checks entries that follow `head`: numbered without gaps, and each with the hash that was
/// written down for it, where one is given. Returns the new head.
///
/// Entries alone (lines of an audit file) show gaps and disorder; a change shows in the hashes,
/// or in a head that was kept elsewhere.
///
/// # Errors
///
/// The first entry that is wrong.
pub fn verify<'a>(
    head: Head,
    entries: impl IntoIterator<Item = (&'a [u8], Option<[u8; 32]>)>,
) -> Result<Head, BrokenChain> {
    entries.into_iter().try_fold(head, |head, (entry, hash)| {
        let next = head.then(entry);
        let broken = |what| BrokenChain { seq: next.seq, what };
        if sequence_number(entry) != Some(next.seq) {
            return Err(broken("its number is missing or not the next one"));
        }
        if hash.is_some_and(|hash| hash != next.hash) {
            return Err(broken("its hash is not the one that was written down"));
        }
        Ok(next)
    })
}

/// The number of an entry, if it is one at all.
pub(super) fn sequence_number(entry: &[u8]) -> Option<u64> {
    #[derive(Deserialize)]
    struct Numbered {
        seq: u64,
    }

    serde_json::from_slice::<Numbered>(entry).ok().map(|entry| entry.seq)
}

/// An entry but for its number and time, which the writer adds.
#[derive(Clone, Debug)]
pub(super) struct Body(String);

impl Body {
    pub(super) fn event(event: &Event) -> Result<Self, serde_json::Error> {
        Self::of(event)
    }

    pub(super) fn act(act: &Act<'_>) -> Result<Self, serde_json::Error> {
        Self::of(act)
    }

    /// Of anything that is written as a JSON object with its name as `event`.
    pub(super) fn of(record: &impl Serialize) -> Result<Self, serde_json::Error> {
        serde_json::to_string(record).map(Self)
    }

    /// The exact bytes of the entry.
    pub(super) fn entry(&self, seq: u64, time: Timestamp) -> String {
        let mut entry = String::with_capacity(self.0.len() + 56);
        let fields = self.0.strip_prefix('{').unwrap_or(&self.0);
        // Writing to a String cannot fail.
        let _ = write!(entry, r#"{{"seq":{seq},"time":"{time:.3}",{fields}"#);
        entry
    }
}

/// The acts that the ledger itself writes down.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum Act<'a> {
    /// A text is to be signed.
    Intent {
        issuer: &'a str,
        #[serde(flatten)]
        certificate: Certificate<'a>,
        caller: &'a str,
        role: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        card: Option<CardKey>,
        #[serde(skip_serializing_if = "Option::is_none")]
        account: Option<&'a LogonAccount>,
        #[serde(skip_serializing_if = "Option::is_none")]
        on_behalf_of: Option<&'a str>,
        text_sha256: String,
    },
    /// Who asks for it, and for how long, is in the intent's entry; it was taken back before it
    /// could leave.
    Withheld { issuer: &'a str, serial: String },
    /// A certificate was taken back by itself.
    Revoked { issuer: &'a str, serial: &'a str, code: &'a str, reason: &'a str, by: &'a str },
    /// A lock was set.
    Locked {
        lock: u64,
        target: &'a LockTarget,
        #[serde(skip_serializing_if = "Option::is_none")]
        issued_before: Option<Timestamp>,
        #[serde(skip_serializing_if = "Option::is_none")]
        expires_at: Option<Timestamp>,
        reason: &'a str,
        by: &'a str,
        revoked: u64,
        sessions: u64,
    },
    /// A lock was removed.
    Unlocked { lock: u64, target: &'a LockTarget, reason: &'a str, by: &'a str },
    /// A session was asked for.
    SessionRequested {
        session: &'a str,
        role: &'a str,
        requester: &'a str,
        reason: &'a str,
        targets: &'a BTreeSet<DnsName>,
        ttl: i64,
        approvals: u8,
    },
    /// It was approved or denied.
    SessionDecided { session: &'a str, approver: &'a str, approved: bool, reason: &'a str },
    /// It is open.
    SessionOpened { session: &'a str, ends_at: Timestamp },
    /// It is over, and its certificates are revoked.
    SessionEnded {
        session: &'a str,
        cause: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        by: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<&'a str>,
        revoked: u64,
    },
    /// Something that a session gives or takes was done in the directory, or cannot be done.
    Directory {
        session: &'a str,
        upn: &'a str,
        #[serde(flatten)]
        act: &'a directory::Act,
        outcome: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        failure: Option<&'a str>,
    },
    /// It waited too long for its approvals.
    SessionExpired { session: &'a str },
    /// KRL, CRLs and bundle are to be signed: SHA-256 of each text, by its name.
    PublicationIntent { version: u64, change: u64, texts: &'a [(String, String)] },
    /// They were signed, and may be published: SHA-256 of each file, by its name.
    Published { version: u64, artefacts: &'a [(String, String)] },
    /// It was signed, and may leave.
    Issued { issuer: &'a str, serial: String, certificate_sha256: String },
    /// A digest is to be signed.
    RawIntent { key: &'a str, scheme: String, digest: String, caller: &'a str, role: &'a str },
    /// It was signed, and the signature may leave.
    RawSigned { key: &'a str, digest: String, signature_sha256: String },
}

/// What a certificate says.
#[derive(Debug, Serialize)]
pub(super) struct Certificate<'a> {
    kind: Kind,
    serial: String,
    subject: &'a str,
    names: &'a [String],
    key_fingerprint: &'a str,
    not_before: Timestamp,
    not_after: Timestamp,
}

impl<'a> From<&'a Summary> for Certificate<'a> {
    fn from(summary: &'a Summary) -> Self {
        Self {
            kind: summary.kind,
            serial: summary.serial.to_string(),
            subject: &summary.subject,
            names: &summary.names,
            key_fingerprint: &summary.key_fingerprint,
            not_before: summary.not_before,
            not_after: summary.not_after,
        }
    }
}

/// SHA-256 in hexadecimal.
pub(super) fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

const DOMAIN: &[u8] = b"chancery-audit-v1\0";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_is_the_documented_one() {
        // printf 'chancery-audit-v1\0' + 32 zero bytes + 0000000000000009 + '{"seq":1}' | sha256sum
        let hash = Head::default().then(br#"{"seq":1}"#).hash;
        assert_eq!(
            hex::encode(hash),
            "a78cdc3ecd4019c09bb467c46a9b554ea2eb41b471d5214ef4de4184b1b634c9"
        );
    }

    #[test]
    fn every_change_of_an_entry_is_named() {
        let entries: Vec<_> = (1..=4).map(|seq| format!(r#"{{"seq":{seq},"a":"b"}}"#)).collect();
        let hashes: Vec<_> = entries
            .iter()
            .scan(Head::default(), |head, entry| {
                *head = head.then(entry.as_bytes());
                Some(head.hash)
            })
            .collect();
        let check = |entries: &[String]| {
            let pairs = entries.iter().zip(&hashes);
            let pairs = pairs.map(|(entry, hash)| (entry.as_bytes(), Some(*hash)));
            verify(Head::default(), pairs).map_err(|broken| broken.seq)
        };
        assert_eq!(check(&entries), Ok(Head { seq: 4, hash: hashes[3] }));
        for at in 0..entries.len() {
            for byte in 0..entries[at].len() {
                let mut changed = entries.clone();
                let mut bytes = changed[at].clone().into_bytes();
                bytes[byte] ^= 1;
                changed[at] = String::from_utf8(bytes).unwrap();
                assert_eq!(check(&changed), Err(at as u64 + 1), "{}", changed[at]);
            }
            let mut removed = entries.clone();
            removed.remove(at);
            let expected =
                if at == 3 { Ok(Head { seq: 3, hash: hashes[2] }) } else { Err(at as u64 + 1) };
            assert_eq!(check(&removed), expected, "entry {} removed", at + 1);
        }
        let mut swapped = entries.clone();
        swapped.swap(1, 2);
        assert_eq!(check(&swapped), Err(2));
    }
}
