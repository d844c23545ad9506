//! Reads SSH certificates that exist: what the agent of a host is shown when someone logs in.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use super::{
    Refused, Restrictions, Usage, lint,
    wire::{self, Reader},
};
use crate::{
    keys::{KeyAlgorithm, PublicKey, Signature, SignatureScheme},
    names::{NameError, Principal},
    serial::SshSerial,
};

/// What a certificate says, signed by the key that it names. Whether that key is a CA's to trust,
/// whether the certificate is valid now and not revoked, is for the caller to ask.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Certificate {
    issuer: PublicKey,
    key_id: String,
    principals: BTreeSet<Principal>,
    public_key: PublicKey,
    restrictions: Restrictions,
    serial: SshSerial,
    usage: Usage,
    valid_after: Timestamp,
    valid_before: Timestamp,
}

impl Certificate {
    /// The longest certificate that is looked at, in bytes of its wire form: sshd itself takes
    /// keys of 256 KiB, but with 256 principals of 255 bytes and 64 targets one has below 100.
    pub const MAX_LEN: usize = 128 * 1024;

    /// Reads the wire form, which OpenSSH writes in base64 (`%k` of `AuthorizedPrincipalsCommand`
    /// in sshd_config(5)), by the rules that the CAs of this crate keep, and verifies its
    /// signature under the key in it.
    ///
    /// # Errors
    ///
    /// The first rule that it breaks: those of [`Refused`], and `signature` when it does not
    /// verify or is not of an algorithm that the CAs of this crate sign with.
    pub fn from_wire(blob: &[u8]) -> Result<Self, Refused> {
        if blob.len() > Self::MAX_LEN {
            return Err(Refused::new("form", format!("{} bytes are too many", blob.len())));
        }
        let mut reader = Reader::new(blob);
        let content = lint::read_from(&mut reader, &[Usage::Host, Usage::User])?;
        let signed = &blob[..blob.len() - reader.rest().len()];
        let signature = reader.string().filter(|_| reader.is_empty());
        let signature = signature.ok_or_else(|| Refused::new("form", "not one signature"))?;
        let issuer = lint::public_key(content.signature_key)?;
        verify(&issuer, signed, signature)?;
        Ok(Self {
            issuer,
            key_id: content.key_id.to_owned(),
            principals: parse_all(&content.principals, "principals-valid")?,
            public_key: content.public_key()?,
            restrictions: Restrictions {
                one_use: content.one_use,
                targets: parse_all(&content.targets, "targets-valid")?,
            },
            serial: content.serial,
            usage: content.usage,
            valid_after: content.valid_after,
            valid_before: content.last_second + SignedDuration::from_secs(1),
        })
    }

    /// The key that signed it.
    pub fn issuer(&self) -> &PublicKey {
        &self.issuer
    }

    /// What sshd logs.
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// Who may log in as, or what the host is called.
    pub fn principals(&self) -> &BTreeSet<Principal> {
        &self.principals
    }

    /// The certified key.
    pub fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// What the agent of a host holds it to.
    pub fn restrictions(&self) -> &Restrictions {
        &self.restrictions
    }

    /// Unique per CA.
    pub fn serial(&self) -> SshSerial {
        self.serial
    }

    /// Whether it is a user's or a host's.
    pub fn usage(&self) -> Usage {
        self.usage
    }

    /// The first second of its validity.
    pub fn valid_after(&self) -> Timestamp {
        self.valid_after
    }

    /// The first second after its validity.
    pub fn valid_before(&self) -> Timestamp {
        self.valid_before
    }
}

fn parse_all<T>(texts: &[&str], rule: &'static str) -> Result<BTreeSet<T>, Refused>
where
    T: std::str::FromStr<Err = NameError> + Ord,
{
    let names = texts.iter().map(|text| text.parse());
    names
        .collect::<Result<_, _>>()
        .map_err(|error: NameError| Refused::new(rule, error.to_string()))
}

/// `string name, string blob`, as [`assemble`](super::assemble) writes them.
fn verify(issuer: &PublicKey, signed: &[u8], signature: &[u8]) -> Result<(), Refused> {
    let (scheme, signature) = read_signature(issuer.algorithm(), signature)
        .ok_or_else(|| Refused::new("signature", "not a signature that a CA of this kind makes"))?;
    issuer
        .verify(scheme, signed, &signature)
        .map_err(|error| Refused::new("signature", error.to_string()))
}

fn read_signature(algorithm: KeyAlgorithm, bytes: &[u8]) -> Option<(SignatureScheme, Signature)> {
    let (name, rest) = wire::split_key(bytes)?;
    let scheme = SCHEMES.into_iter().find(|&scheme| {
        scheme.fits(algorithm) && super::signature_name(scheme).as_bytes() == name
    })?;
    let mut reader = Reader::new(rest);
    let value = reader.string().filter(|_| reader.is_empty())?;
    let signature = match scheme {
        SignatureScheme::EcdsaP256Sha256 => fixed_width(value, 32)?,
        SignatureScheme::EcdsaP384Sha384 => fixed_width(value, 48)?,
        _ => value.to_vec(),
    };
    Some((scheme, Signature(signature)))
}

/// Two `mpint`s as tokens write them: `r || s`, each of the curve's width.
fn fixed_width(value: &[u8], width: usize) -> Option<Vec<u8>> {
    let mut reader = Reader::new(value);
    let mut fixed = vec![0; 2 * width];
    for half in fixed.chunks_exact_mut(width) {
        let number = reader.positive_mpint()?;
        half[width.checked_sub(number.len())?..].copy_from_slice(number);
    }
    reader.is_empty().then_some(fixed)
}

const SCHEMES: [SignatureScheme; 4] = [
    SignatureScheme::EcdsaP256Sha256,
    SignatureScheme::EcdsaP384Sha384,
    SignatureScheme::Ed25519,
    SignatureScheme::RsaPkcs1Sha512,
];
